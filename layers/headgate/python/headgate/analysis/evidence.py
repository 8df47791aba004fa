"""Evidence: what was counted of each revision while a rollout runs, and what the judge makes of it.

A ledger holds cumulative counts per step and measure (errors, latency, custom), which steps began when, and where the
judge stands. Nothing here knows where counts come from or where a ledger is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.judge import Arm, Evidence, LookTerms, Reassurance, look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.guards import EarlyPromotion, Guards


MAX_REPORTED_EVIDENCE = 1e15
"""The largest evidence that records and events tell; the smallest is its inverse. Not every reader takes larger
numbers: EventBridge takes integers of 64 bits, and boto3's resource API reads no number from 1e38 on.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

REQUESTS_PER_LOOK = 2
"""Candidate requests that a look waits for: with fewer its share of the traffic is too uncertain to learn from."""


class Pair(NamedTuple):
    """Counts of both revisions."""

    candidate: Arm = Arm()
    stable: Arm = Arm()

    def plus(self, other: Pair) -> Pair:
        return Pair(self.candidate.plus(other.candidate), self.stable.plus(other.stable))

    def minus(self, other: Pair) -> Pair:
        return Pair(self.candidate.minus(other.candidate), self.stable.minus(other.stable))


class Measure(NamedTuple):
    """One thing that the revisions are compared by."""

    key: str
    """``errors``, ``latency``, or ``custom`` and a number."""
    failed: str
    """What a request that counts against a revision did, as a sentence says it."""
    tolerate: float


class JudgeTerms(NamedTuple):
    """How a rollout's evidence is judged."""

    measures: tuple[Measure, ...]
    alpha: float
    """For each measure: they share the request's alpha equally."""
    clumps: float
    noise: float
    early: EarlyPromotion | None

    @classmethod
    def of(cls, guards: Guards) -> JudgeTerms:
        """The terms that a request's guards come to."""
        measures = []
        if guards.errors:
            measures.append(Measure("errors", "failed", guards.errors.tolerate))
        if guards.latency:
            slow = f"took more than {guards.latency.threshold_ms or 0:,.4g} ms"
            measures.append(Measure("latency", slow, guards.latency.tolerate))
        for number, guard in enumerate(guards.custom):
            measures.append(Measure(f"custom{number}", f"failed ({guard.name})", guard.tolerate))
        alpha = guards.alpha / max(1, len(measures))
        return cls(tuple(measures), alpha, guards.failures_per_cause, guards.noise, guards.promote_early)


class Standing(NamedTuple):
    """Where the judge stands on one measure."""

    evidence: Evidence = Evidence()
    reassurance: Reassurance = Reassurance()
    at: int = 0
    """Time of the last look, in milliseconds since 1970; 0 before the first."""
    step: int = -1
    """The newest step that was looked at: what an earlier one still reports is no change of weight; -1 before."""


def reported_value(value: float) -> float:
    """Evidence as records and events tell it: between 1 / ``MAX_REPORTED_EVIDENCE`` and ``MAX_REPORTED_EVIDENCE``."""
    return min(max(value, 1 / MAX_REPORTED_EVIDENCE), MAX_REPORTED_EVIDENCE)


class Look(NamedTuple):
    """What one look saw, and what the evidence was after it."""

    measure: str
    step: int
    counts: Pair
    value: float


class Ledger(NamedTuple):
    """Who is compared, what was counted, and what the judge has seen of it."""

    rollout_id: str
    candidate: str
    stable: str
    since: dict[int, int]
    """When each step's weight took effect, in milliseconds since 1970."""
    counts: dict[tuple[int, str], Pair]
    """By step and measure."""
    looked: dict[tuple[int, str], Pair]
    standings: dict[str, Standing]
    """By measure."""
    minutes: dict[str, Pair]
    """What CloudWatch has said of each recent minute and measure, so that no point counts twice."""
    slow_ms: float | None = None
    by_telemetry: bool = True
    """Whether telemetry is counted at all."""
    failing: tuple[str, ...] = ()
    """Instances of the candidate that have failed, two at most."""
    version: int = 0
    restarts: int = 0
    """How often an operator has resumed the rollout in spite of what was held against it."""
    restarted_at: int = 0
    """When the last one did, in milliseconds since 1970."""
    shifted_at: int = 0
    """When traffic was last shifted; a step that is resumed is shifted again."""

    @property
    def counts_from(self) -> int:
        """What began earlier is forgiven, or was no part of the traffic that is compared now."""
        return max(self.restarted_at, self.shifted_at) if self.restarts else 0

    def at_step(self, step: int, measure: str) -> Pair:
        return self.counts.get((step, measure), Pair())

    def total(self, measure: str) -> Pair:
        total = Pair()
        for (_, counted), pair in self.counts.items():
            if counted == measure:
                total = total.plus(pair)
        return total

    def standing(self, measure: str) -> Standing:
        return self.standings.get(measure, Standing())

    def step_at(self, milliseconds: int) -> int | None:
        """The step whose weight was in force at a time; None before the first."""
        begun = [step for step, since in self.since.items() if since <= milliseconds]
        return max(begun, default=None)

    def add(self, step: int, measure: str, counts: Pair) -> Ledger:
        return self._replace(counts={**self.counts, (step, measure): self.at_step(step, measure).plus(counts)})

    def restarted(self, now: int) -> Ledger:
        """The ledger with what was held against the candidate forgotten. It costs another alpha.

        Parameters
        ----------
        now
            Milliseconds since 1970: the time of a pause is no time in which anything was looked for.
        """
        standings = dict.fromkeys(self.standings, Standing(at=now))
        return self._replace(standings=standings, looked=self.counts, restarts=self.restarts + 1, restarted_at=now)


def take_looks(
    ledger: Ledger, terms: JudgeTerms, *, now: int, at_least: int = REQUESTS_PER_LOOK
) -> tuple[Ledger, list[Look]]:
    """What the judge makes of the counts it has not seen yet; a look never straddles a change of weight.

    Parameters
    ----------
    now
        Milliseconds since 1970.
    at_least
        Candidate requests that a look at the newest step waits for; with 0, what one revision alone did is passed
        over. Steps before are looked at as they are.
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
        # Of one revision alone nothing can be learnt yet: its counts must not be used up.
        enough = fresh.candidate.requests >= at_least and (fresh.stable.requests > 0 or at_least == 0)
        if anything and (enough or step < newest):
            yield step, fresh


def _standing_after(ledger: Ledger, measure: Measure, terms: JudgeTerms, step: int, fresh: Pair, now: int) -> Standing:
    before = ledger.standing(measure.key)
    if before.evidence.crosses(terms.alpha):
        return before  # The first crossing decides, whatever later looks would make of it.
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
    """The sentence that says what speaks for a rollback; empty while nothing does."""
    for measure in terms.measures:
        if ledger.standing(measure.key).evidence.crosses(terms.alpha):
            return describe_comparison(ledger, measure, terms)
    return ""


def evidence_for(ledger: Ledger, terms: JudgeTerms) -> str:
    """The sentence that says why the candidate may be promoted early; empty where it may not, or nobody has asked."""
    early = terms.early
    if early is None or not terms.measures:
        return ""
    if not all(ledger.standing(measure.key).reassurance.crosses(early.beta) for measure in terms.measures):
        return ""
    told = "; ".join(_compared(ledger, measure) for measure in terms.measures)
    return f"{told}; a candidate {1 + early.worse:g} times as bad is ruled out at {early.beta:.2g}"


def describe_comparison(ledger: Ledger, measure: Measure, terms: JudgeTerms) -> str:
    """The evidence on one measure in one sentence, with its numbers."""
    evidence = ledger.standing(measure.key).evidence
    sign = ">=" if evidence.crosses(terms.alpha) else "<"
    value = max(evidence.value, 1 / terms.alpha) if sign == ">=" else evidence.value
    lonely = ""
    if measure.key == "errors" and len(ledger.failing) == 1 and ledger.total("errors").candidate.failures > 1:
        lonely = "; all failures of the candidate came from one instance"
    told = f"{value:,.3g}" if value <= MAX_REPORTED_EVIDENCE else f"over {MAX_REPORTED_EVIDENCE:,.3g}"
    return f"{_compared(ledger, measure)}; evidence {told} {sign} {1 / terms.alpha:,.3g}{lonely}"


def describe_comparisons(ledger: Ledger, terms: JudgeTerms) -> str:
    """The evidence on every measure, in a sentence."""
    return "; ".join(describe_comparison(ledger, measure, terms) for measure in terms.measures)


def _compared(ledger: Ledger, measure: Measure) -> str:
    candidate, stable = ledger.total(measure.key)
    return (
        f"{candidate.failures:,} of {candidate.requests:,} candidate requests {measure.failed} against "
        f"{stable.failures:,} of {stable.requests:,}"
    )
