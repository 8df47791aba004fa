"""Evidence of a rollout: the counts of each revision and their evaluation by the judge.

A ledger has cumulative counts per step and measure (errors, latency, custom), the start of each step, and the state of
the judge. Earlier steps are filed: their counts are kept apart from the ledger, which has only their sum, so that its
size does not grow with the number of steps. Nothing here depends on where counts come from or where a ledger is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.judge import Arm, Evidence, LookTerms, Reassurance, look
from headgate.analysis.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from headgate.spec.guards import EarlyPromotion, Guards
    from headgate.spec.routing import RevisionArm


MAX_REPORTED_EVIDENCE = 1e15
"""Maximum evidence in records and events; the minimum is its inverse. Not every reader accepts larger numbers:
EventBridge has integers of 64 bits, and boto3's resource API cannot read numbers from 1e38 on.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

LATE_MS = 60_000
"""Time for which the counts of a step stay in the ledger after the step. Most late counts arrive within it."""

REQUESTS_PER_LOOK = 2
"""Candidate requests that a look waits for. With fewer, their share of the traffic is too uncertain."""


class Pair(NamedTuple):
    """Counts of both revisions."""

    candidate: Arm = Arm()
    stable: Arm = Arm()

    def plus(self, other: Pair) -> Pair:
        return Pair(self.candidate.plus(other.candidate), self.stable.plus(other.stable))

    def minus(self, other: Pair) -> Pair:
        return Pair(self.candidate.minus(other.candidate), self.stable.minus(other.stable))


class Measure(NamedTuple):
    """A measure by which the revisions are compared."""

    key: str
    """``errors``, ``latency``, or ``custom`` and a number."""
    failed: str
    """Predicate for requests that count against a revision, used in sentences."""
    tolerate: float


class JudgeTerms(NamedTuple):
    """Settings for the judge."""

    measures: tuple[Measure, ...]
    alpha: float
    """Alpha of each measure: they share the request's alpha equally."""
    clumps: float
    noise: float
    early: EarlyPromotion | None
    per_invocation: float | None = None
    """Outcomes in telemetry that an invocation may have, if the request limits them."""

    @classmethod
    def of(cls, guards: Guards) -> JudgeTerms:
        """Return the settings for a request's guards."""
        measures = []
        if guards.errors:
            measures.append(Measure("errors", "failed", guards.errors.tolerate))
        if guards.latency:
            slow = f"took more than {guards.latency.threshold_ms or 0:,.4g} ms"
            measures.append(Measure("latency", slow, guards.latency.tolerate))
        for number, guard in enumerate(guards.custom):
            measures.append(Measure(f"custom{number}", f"failed ({guard.name})", guard.tolerate))
        alpha = guards.alpha / max(1, len(measures))
        return cls(
            tuple(measures),
            alpha,
            guards.failures_per_cause,
            guards.noise,
            guards.promote_early,
            guards.outcomes_per_invocation,
        )


class Standing(NamedTuple):
    """State of the judge for one measure."""

    evidence: Evidence = Evidence()
    reassurance: Reassurance = Reassurance()
    at: int = 0
    """Time of the last look, in milliseconds since 1970; 0 before the first."""
    step: int = -1
    """The newest step of a look; -1 before the first. Late counts of an earlier step are not a change of weight."""


def reported_value(value: float) -> float:
    """Limit evidence for records and events to 1 / ``MAX_REPORTED_EVIDENCE`` to ``MAX_REPORTED_EVIDENCE``."""
    return min(max(value, 1 / MAX_REPORTED_EVIDENCE), MAX_REPORTED_EVIDENCE)


class Look(NamedTuple):
    """Counts of one look, and the evidence after it."""

    measure: str
    step: int
    counts: Pair
    value: float


class Ledger(NamedTuple):
    """The counts of one rollout by step and revision, and the state of the judge."""

    rollout_id: str
    candidate: str
    stable: str
    since: dict[int, int]
    """When each step's weight took effect, in milliseconds since 1970. Filed steps are missing unless they were read
    for their late counts."""
    counts: dict[tuple[int, str], Pair]
    """By step and measure."""
    looked: dict[tuple[int, str], Pair]
    standings: dict[str, Standing]
    """By measure."""
    minutes: dict[str, Pair]
    """Counts from CloudWatch by recent minute and measure, so that no data point counts twice."""
    slow_ms: float | None = None
    by_telemetry: bool = True
    """Whether telemetry is counted."""
    failing: tuple[str, ...] = ()
    """Instances of the candidate that failed, at most two."""
    version: int = 0
    restarts: int = 0
    """How often an operator resumed the rollout despite evidence against it."""
    restarted_at: int = 0
    """Time of the last restart, in milliseconds since 1970."""
    shifted_at: int = 0
    """Time when traffic was last shifted. A resumed step shifts it again."""
    judged: tuple[str, ...] | None = None
    """Measures that are judged; None in a ledger of Headgate 0.1.0 until its next step begins."""
    earlier: dict[str, Pair] = {}
    """Sum of the counts of filed steps that are not in ``since``, by measure."""
    filed: dict[int, dict[str, Pair]] = {}
    """Filed steps that are in ``since``: what was filed of their counts, by measure."""
    reports: Reports = Reports()
    """What telemetry reported, to compare it with Lambda's counts."""

    @property
    def counts_from(self) -> int:
        """Time from which requests count: earlier ones were discarded by a restart or came before the current shift."""
        return max(self.restarted_at, self.shifted_at) if self.restarts else 0

    def at_step(self, step: int, measure: str) -> Pair:
        return self.counts.get((step, measure), Pair())

    def total(self, measure: str) -> Pair:
        total = self.earlier.get(measure, Pair())
        for (_, counted), pair in self.counts.items():
            if counted == measure:
                total = total.plus(pair)
        return total

    def filed_at(self, step: int, measure: str) -> Pair:
        return self.filed.get(step, {}).get(measure, Pair())

    def not_filed(self, step: int) -> dict[str, Pair]:
        """Return what is not filed of a step's counts, by measure."""
        return {
            measure: pair.minus(self.filed_at(step, measure))
            for (counted, measure), pair in self.counts.items()
            if counted == step
        }

    def all_filed(self) -> dict[str, Pair]:
        """Return the sum of all filed counts, by measure."""
        return _sums(self.earlier, *self.filed.values())

    def with_filed(self, step: int, since: int, counts: dict[str, Pair]) -> Ledger:
        """Return the ledger with a filed step that was read again. Late counts of it may be here already."""
        late = self.not_filed(step)
        seen = {measure: pair for (looked, measure), pair in self.looked.items() if looked == step}
        judged = counts if self.judged is None else counts.keys() & set(self.judged)
        return self._replace(
            since={**self.since, step: since},
            counts=self.counts | {(step, measure): pair for measure, pair in _sums(counts, late).items()},
            # A step is filed when its judged counts were looked at.
            looked=self.looked
            | {
                (step, measure): counts.get(measure, Pair()).plus(seen.get(measure, Pair()))
                for measure in {*judged, *seen}
            },
            earlier={measure: pair.minus(counts.get(measure, Pair())) for measure, pair in self.earlier.items()},
            filed={**self.filed, step: counts},
        )

    def over(self, now: int) -> list[int]:
        """Return the steps to file: they are over, and the judge has looked at their counts.

        Parameters
        ----------
        now
            Milliseconds since 1970.
        """
        *before, newest = sorted(self.since) or [0]
        over = []
        for step in before:
            if step in self.filed:
                if not any(pair != Pair() for pair in self.not_filed(step).values()):
                    continue
            elif step == before[-1] and now < self.since[newest] + LATE_MS:
                break
            if not self._looked_through(step):
                break  # In order: if a step is in the ledger, all later ones are, too.
            over.append(step)
        return over

    def having_filed(self, steps: Collection[int]) -> Ledger:
        """Return the ledger after all counts of these steps were filed."""
        filed = {step: _sums(self.filed.get(step, {}), self.not_filed(step)) for step in steps}
        return self._replace(
            looked={key: self.counts.get(key, pair) if key[0] in steps else pair for key, pair in self.looked.items()},
            filed={**self.filed, **filed},
        )

    def _looked_through(self, step: int) -> bool:
        return all(
            pair == self.looked.get((step, measure), Pair())
            for (counted, measure), pair in self.counts.items()
            if counted == step and (self.judged is None or measure in self.judged)
        )

    def standing(self, measure: str) -> Standing:
        return self.standings.get(measure, Standing())

    def step_at(self, milliseconds: int) -> int | None:
        """Return the step whose weight was in effect at a time; None before the first."""
        begun = [step for step, since in self.since.items() if since <= milliseconds]
        return max(begun, default=None)

    def add(self, step: int, measure: str, counts: Pair) -> Ledger:
        return self._replace(counts={**self.counts, (step, measure): self.at_step(step, measure).plus(counts)})

    def restarted(self, now: int) -> Ledger:
        """Return the ledger without its evidence so far. Each restart adds another alpha to the error probability.

        Parameters
        ----------
        now
            Milliseconds since 1970. The pause before does not count as observed time.
        """
        standings = dict.fromkeys(self.standings, Standing(at=now))
        return self._replace(
            standings=standings,
            looked=self.counts,
            restarts=self.restarts + 1,
            restarted_at=now,
            reports=self.reports.restarted(now),
        )


def _sums(*summands: dict[str, Pair]) -> dict[str, Pair]:
    """Return the sums of counts by measure."""
    sums: dict[str, Pair] = {}
    for counts in summands:
        for measure, pair in counts.items():
            sums[measure] = sums.get(measure, Pair()).plus(pair)
    return sums


def revisions_of(ledger: Ledger) -> dict[RevisionArm, str]:
    """Return the revision of each arm."""
    return {"candidate": ledger.candidate, "stable": ledger.stable}


def take_looks(
    ledger: Ledger, terms: JudgeTerms, *, now: int, at_least: int = REQUESTS_PER_LOOK
) -> tuple[Ledger, list[Look]]:
    """Evaluate new counts. A look never spans a change of weight.

    Parameters
    ----------
    now
        Milliseconds since 1970.
    at_least
        Candidate requests that a look at the newest step waits for. With 0, a look may have counts of one revision
        alone. Looks at earlier steps do not wait.
    """
    looks = []
    for measure in terms.measures:
        for step, fresh in _unlooked(ledger, measure.key, at_least):
            standing = _standing_after(ledger, measure, terms, step, fresh, now)
            ledger = ledger._replace(
                looked={**ledger.looked, (step, measure.key): ledger.at_step(step, measure.key)},
                standings={**ledger.standings, measure.key: standing},
            )
            looks.append(Look(measure.key, step, fresh, standing.evidence.value))
    return ledger, looks


def _unlooked(ledger: Ledger, measure: str, at_least: int) -> Iterator[tuple[int, Pair]]:
    newest = max(ledger.since, default=0)
    for step in sorted(ledger.since):
        fresh = ledger.at_step(step, measure).minus(ledger.looked.get((step, measure), Pair()))
        anything = fresh.candidate.requests + fresh.stable.requests > 0
        # Counts of one revision alone have no meaning yet: keep them for a later look.
        enough = fresh.candidate.requests >= at_least and (fresh.stable.requests > 0 or at_least == 0)
        if anything and (enough or step < newest):
            yield step, fresh


def _standing_after(ledger: Ledger, measure: Measure, terms: JudgeTerms, step: int, fresh: Pair, now: int) -> Standing:
    before = ledger.standing(measure.key)
    if before.evidence.crosses(terms.alpha):
        return before  # The first crossing decides, regardless of later looks.
    evidence = look(
        before.evidence,
        *fresh,
        LookTerms(terms.alpha, measure.tolerate, terms.clumps, terms.noise),
        seconds=max(0, now - (before.at or ledger.since[step])) / 1000,
        shifted=-1 < before.step < step,
    )
    reassurance = before.reassurance
    if terms.early:
        reassurance = reassurance.after(*fresh, worse=terms.early.worse)
    return Standing(evidence, reassurance, max(now, before.at), max(step, before.step))


def evidence_against(ledger: Ledger, terms: JudgeTerms) -> str:
    """Return a sentence with the evidence for a rollback; empty if there is none."""
    for measure in terms.measures:
        if ledger.standing(measure.key).evidence.crosses(terms.alpha):
            return describe_comparison(ledger, measure, terms)
    return ""


def evidence_for(ledger: Ledger, terms: JudgeTerms) -> str:
    """Return a sentence with the evidence for an early promotion; empty if there is none, or it is not enabled."""
    early = terms.early
    if early is None or not terms.measures:
        return ""
    if not all(ledger.standing(measure.key).reassurance.crosses(early.beta) for measure in terms.measures):
        return ""
    summary = "; ".join(_compared(ledger, measure) for measure in terms.measures)
    return f"{summary}; a candidate {1 + early.worse:g} times as bad is ruled out at {early.beta:.2g}"


def describe_comparison(ledger: Ledger, measure: Measure, terms: JudgeTerms) -> str:
    """Describe the evidence on one measure in a sentence with its numbers."""
    evidence, limit = ledger.standing(measure.key).evidence, 1 / terms.alpha
    crosses = evidence.crosses(terms.alpha)
    odds = _odds(max(evidence.value, limit) if crosses else evidence.value)
    lonely = ""
    if measure.key == "errors" and len(ledger.failing) == 1 and ledger.total("errors").candidate.failures > 1:
        lonely = "; all failures of the candidate came from one instance"
    against = f"odds against chance {odds} to 1, {'over' if crosses else 'under'} the limit of {_odds(limit)} to 1"
    return f"{_compared(ledger, measure)}; {against}{lonely}"


_MIN_SHOWN_ODDS = 0.01


def _odds(value: float) -> str:
    """Return odds rounded to three digits and without an exponent: ``0.12``, ``6,350``."""
    if value < _MIN_SHOWN_ODDS:
        return f"less than {_MIN_SHOWN_ODDS}"
    if value > MAX_REPORTED_EVIDENCE:
        return f"more than {MAX_REPORTED_EVIDENCE:,.0f}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded.is_integer() else f"{rounded:g}"


def describe_comparisons(ledger: Ledger, terms: JudgeTerms) -> str:
    """Describe the evidence on every measure in a sentence."""
    return "; ".join(describe_comparison(ledger, measure, terms) for measure in terms.measures)


def _compared(ledger: Ledger, measure: Measure) -> str:
    candidate, stable = ledger.total(measure.key)
    return (
        f"{candidate.failures:,} of {candidate.requests:,} candidate requests {measure.failed} against "
        f"{stable.failures:,} of {stable.requests:,}"
    )
