"""Evidence of a rollout: the counts of each revision and their evaluation by the judge.

A ledger has cumulative counts per step and measure (errors, latency, custom), the start of each step, and the state of
the judge. Earlier steps are filed: their counts are kept apart from the ledger, which has only their sum, so that its
size does not grow with the number of steps. Nothing here depends on where counts come from or where a ledger is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.judge import RATES, SHIFTS, Arm, Evidence, LookTerms, Reassurance, Wagers, look
from headgate.analysis.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from headgate.spec.guards import EarlyPromotion, GuardAction, Guards, LatencyGuard
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
    """Counts by which the revisions are compared: all that a guard needs, or those of one of its thresholds."""

    key: str
    """``errors``, ``latency``, ``latency`` and the number of a threshold, or ``custom`` and a number."""
    failed: str
    """Predicate for requests that count against a revision, used in sentences."""
    tolerate: float
    guard: str
    """Key of its guard: ``errors``, ``latency``, or ``custom`` and a number."""
    wagers: Wagers = RATES
    reassures: bool = True
    """Whether an early promotion needs its evidence."""


class GuardTerms(NamedTuple):
    """A guard that compares."""

    key: str
    """``errors``, ``latency``, or ``custom`` and a number."""
    name: str
    """Its name in sentences."""
    action: GuardAction
    measures: tuple[Measure, ...]
    """One, or one for each threshold."""


class JudgeTerms(NamedTuple):
    """Settings for the judge."""

    guards: tuple[GuardTerms, ...]
    alpha: float
    """The request's alpha, which the guards that act share."""
    clumps: float
    noise: float
    early: EarlyPromotion | None
    per_invocation: float | None = None
    """Outcomes in telemetry that an invocation may have, if the request limits them."""

    @classmethod
    def of(cls, guards: Guards) -> JudgeTerms:
        """Return the settings for a request's guards."""
        terms: list[GuardTerms] = []
        if errors := guards.errors:
            measure = Measure("errors", "failed", errors.tolerate, "errors")
            terms.append(GuardTerms("errors", "errors", errors.action, (measure,)))
        if latency := guards.latency:
            terms.append(GuardTerms("latency", "latency", latency.action, tuple(latency_measures(latency))))
        for number, guard in enumerate(guards.custom):
            key = f"custom{number}"
            measure = Measure(key, f"failed ({guard.name})", guard.tolerate, key)
            terms.append(GuardTerms(key, guard.name, guard.action, (measure,)))
        return cls(
            tuple(terms),
            guards.alpha,
            guards.failures_per_cause,
            guards.noise,
            guards.promote_early,
            guards.outcomes_per_invocation,
        )

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of all guards."""
        return tuple(measure for guard in self.guards for measure in guard.measures)

    @property
    def acting(self) -> tuple[GuardTerms, ...]:
        """The guards that share alpha."""
        return tuple(guard for guard in self.guards if guard.action != "report")

    def acting_with(self, action: GuardAction) -> tuple[GuardTerms, ...]:
        """Return the guards with an action. Their evidence is averaged."""
        return tuple(guard for guard in self.guards if guard.action == action)

    def limit_of(self, guard: GuardTerms) -> float:
        """Return the evidence with which a guard acts on its own.

        The acting guards share alpha equally. The average over those with the same action reaches the limit of their
        part of alpha at the latest when one of them reaches this limit. A guard that only reports has an alpha to
        itself.
        """
        return (1 if guard.action == "report" else len(self.acting)) / self.alpha

    def alpha_of(self, measure: Measure) -> float:
        """Return the error probability of a measure on its own."""
        guard = next(guard for guard in self.guards if guard.key == measure.guard)
        return 1 / (self.limit_of(guard) * len(guard.measures))


_FOR_EARLY_PROMOTION = 3
"""Number of the threshold that an early promotion considers, of those from the past: the 95th percentile."""


def latency_keys(thresholds: int) -> list[str]:
    """Return the keys of the measures of a latency guard with so many thresholds."""
    return ["latency"] if thresholds <= 1 else [f"latency{number}" for number in range(thresholds)]


def latency_measures(guard: LatencyGuard) -> Iterator[Measure]:
    """Yield a measure for each threshold. Until the plan is made there is one without a threshold."""
    thresholds = guard.thresholds or [0.0]
    several = len(thresholds) > 1
    reassures = min(_FOR_EARLY_PROMOTION, len(thresholds) - 1)
    for number, (key, threshold) in enumerate(zip(latency_keys(len(thresholds)), thresholds, strict=True)):
        slow = f"took more than {threshold:,.4g} ms"
        wagers = SHIFTS if several else RATES
        yield Measure(key, slow, guard.tolerate, "latency", wagers, number == reassures)


class Standing(NamedTuple):
    """State of the judge for one measure."""

    evidence: Evidence = Evidence()
    reassurance: Reassurance = Reassurance()
    at: int = 0
    """Time of the last look, in milliseconds since 1970; 0 before the first."""
    step: int = -1
    """The newest step of a look; -1 before the first. Late counts of an earlier step are not a change of weight."""


_BEFORE_ANY_LOOK = Standing()


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
    thresholds: tuple[float, ...] = ()
    """Durations in milliseconds, ascending, over which a request is slow, each counted for itself."""
    warm_up: int = 0
    """Seconds after the start of an environment in which the durations of its requests do not count."""
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

    def standing(self, measure: str, wagers: Wagers = RATES) -> Standing:
        """Return the state of the judge for a measure."""
        standing = self.standings.get(measure, _BEFORE_ANY_LOOK)
        evidence = standing.evidence
        if evidence == _BEFORE_ANY_LOOK.evidence:  # A restart does not know the wagers.
            return standing if wagers is RATES else standing._replace(evidence=Evidence.before_any_look(wagers))
        # One of a version of Headgate with other ratios.
        return standing._replace(evidence=evidence.spread_over(wagers))

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
    ledger: Ledger,
    terms: JudgeTerms,
    *,
    now: int,
    at_least: int = REQUESTS_PER_LOOK,
    only: Measure | None = None,
    decided: Collection[GuardAction] | None = None,
) -> tuple[Ledger, list[Look]]:
    """Evaluate new counts. A look never spans a change of weight.

    Parameters
    ----------
    now
        Milliseconds since 1970.
    only
        The measure to evaluate. Default: all of them.
    decided
        Result of ``decided_by`` before the first of several calls that evaluate what was counted at the same time.
    at_least
        Candidate requests that a look at the newest step waits for. With 0, a look may have counts of one revision
        alone. Looks at earlier steps do not wait.
    """
    looks = []
    # Decided before the looks: all that is counted by now is one look at all guards, whatever their order.
    decided = decided_by(ledger, terms) if decided is None else decided
    for guard in terms.guards:
        for measure in guard.measures:
            for step, fresh in _unlooked(ledger, measure.key, at_least) if only in (None, measure) else ():
                standing = ledger.standing(measure.key, measure.wagers)
                if guard.action not in decided:
                    standing = _standing_after(ledger, measure, terms, step, fresh, now)
                ledger = ledger._replace(
                    looked={**ledger.looked, (step, measure.key): ledger.at_step(step, measure.key)},
                    standings={**ledger.standings, measure.key: standing},
                )
                looks.append(Look(measure.key, step, fresh, standing.evidence.value))
    return ledger, looks


def decided_by(ledger: Ledger, terms: JudgeTerms) -> tuple[GuardAction, ...]:
    """Return the actions whose guards have enough evidence. The first crossing decides, regardless of later looks.

    The guards that report are left out: each has a limit of its own.
    """
    acting: tuple[GuardAction, ...] = ("rollback", "pause")
    return tuple(action for action in acting if reaches_limit(ledger, terms, action))


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
    before = ledger.standing(measure.key, measure.wagers)
    alpha = terms.alpha_of(measure)
    if before.evidence.crosses(alpha):
        return before
    evidence = look(
        before.evidence,
        *fresh,
        LookTerms(alpha, measure.tolerate, terms.clumps, terms.noise, measure.wagers),
        seconds=max(0, now - (before.at or ledger.since[step])) / 1000,
        shifted=-1 < before.step < step,
    )
    reassurance = before.reassurance
    if terms.early:
        reassurance = reassurance.after(*fresh, worse=terms.early.worse)
    return Standing(evidence, reassurance, max(now, before.at), max(step, before.step))


def guard_value(ledger: Ledger, terms: JudgeTerms, guard: GuardTerms) -> float:
    """Return the evidence of a guard: the average over its measures.

    What a measure has beyond its own limit is not evidence: see ``LookTerms.alpha``.
    """
    values = []
    for measure in guard.measures:
        evidence, alpha = ledger.standing(measure.key, measure.wagers).evidence, terms.alpha_of(measure)
        values.append(1 / alpha if evidence.crosses(alpha) else evidence.value)
    return sum(values) / len(values)


_ROUNDING = 1e-9


def group_value(ledger: Ledger, terms: JudgeTerms, action: GuardAction) -> float:
    """Return the evidence of the guards with an action: the average over them, and for ``report`` the largest."""
    values = [guard_value(ledger, terms, guard) for guard in terms.acting_with(action)]
    if not values:
        return 0.0
    return max(values) if action == "report" else sum(values) / len(values)


def group_limit(terms: JudgeTerms, action: GuardAction) -> float:
    """Return the evidence at which the guards with an action act.

    Their part of alpha is that of their number among the guards that act, so that the parts sum to alpha.
    """
    if action == "report":
        return 1 / terms.alpha
    return len(terms.acting) / (terms.alpha * max(1, len(terms.acting_with(action))))


def reaches_limit(ledger: Ledger, terms: JudgeTerms, action: GuardAction) -> bool:
    """Return whether the guards with an action have enough evidence to act.

    An average of e-processes is one: https://doi.org/10.1214/20-AOS2020 (Vovk and Wang 2021). So the probability that
    it ever reaches its limit is at most their part of alpha, however the guards depend on each other, as long as they
    count the same requests at the same look. If one counts them later than another, such as a custom guard beside
    telemetry, this holds where the late counts do not depend on what the others saw of these requests. It cannot fail
    by much: as each guard alone holds its own alpha, m guards together hold e log m times their part, twice with two of
    them, whatever depends on what (Vovk and Wang 2020, https://arxiv.org/abs/1212.4966). Measured with opposite
    outcomes and delays at an alpha of 10 %, it was 8 to 9 % with two guards, and 8 % with ten.

    It is never later than each guard on its own at an equal share of alpha, and sooner if several are a little worse.
    """
    guards = terms.acting_with(action)
    return bool(guards) and group_value(ledger, terms, action) >= group_limit(terms, action) * (1 - _ROUNDING)


def leading_measure(ledger: Ledger, guard: GuardTerms) -> Measure:
    """Return the measure of a guard with the most evidence; with equal evidence the middle one."""
    middle = len(guard.measures) // 2
    by_evidence = sorted(
        enumerate(guard.measures),
        key=lambda each: (
            -ledger.standing(each[1].key, each[1].wagers).evidence.log_value,
            abs(each[0] - middle),
        ),
    )
    return by_evidence[0][1]


def evidence_against(ledger: Ledger, terms: JudgeTerms, action: GuardAction = "rollback") -> str:
    """Return a sentence with the evidence on which the guards with an action act; empty if it is not enough."""
    if not reaches_limit(ledger, terms, action):
        return ""
    return describe_group(ledger, terms, action)


def evidence_for(ledger: Ledger, terms: JudgeTerms) -> str:
    """Return a sentence with the evidence for an early promotion; empty if there is none, or it is not enabled."""
    early = terms.early
    needed = [measure for guard in terms.acting for measure in guard.measures if measure.reassures]
    if early is None or not needed:
        return ""
    if not all(ledger.standing(measure.key, measure.wagers).reassurance.crosses(early.beta) for measure in needed):
        return ""
    summary = "; ".join(_compared(ledger, measure) for measure in needed)
    return f"{summary}; a candidate {1 + early.worse:g} times as bad is ruled out at {early.beta:.2g}"


def describe_group(ledger: Ledger, terms: JudgeTerms, action: GuardAction) -> str:
    """Describe the evidence of the guards with an action in a sentence: the leading one, and what each contributed."""
    guards = terms.acting_with(action)
    values = {guard.key: guard_value(ledger, terms, guard) for guard in guards}
    leading = max(guards, key=lambda guard: values[guard.key])
    value, limit = group_value(ledger, terms, action), group_limit(terms, action)
    side = "over" if reaches_limit(ledger, terms, action) else "under"
    sentence = (
        f"{_compared(ledger, leading_measure(ledger, leading))}; odds against chance {_odds(value)} to 1, {side} the "
        f"limit of {_odds(limit)} to 1"
    )
    if len(guards) > 1 and action != "report":
        parts = ", ".join(f"{guard.name} {_odds(values[guard.key])}" for guard in guards)
        sentence += f" (the average of {parts})"
    return sentence + _lonely(ledger, leading)


def _lonely(ledger: Ledger, guard: GuardTerms) -> str:
    if guard.key == "errors" and len(ledger.failing) == 1 and ledger.total("errors").candidate.failures > 1:
        return "; all failures of the candidate came from one instance"
    return ""


def describe_comparisons(ledger: Ledger, terms: JudgeTerms) -> str:
    """Describe the evidence of every guard in a sentence; of many guards only the one nearest to its limit."""
    if len(terms.guards) > _DESCRIBED_ONE_BY_ONE:
        return _describe_nearest(ledger, terms)
    sentences = []
    for guard in terms.guards:
        value, limit = guard_value(ledger, terms, guard), terms.limit_of(guard)
        side = "over" if value >= limit * (1 - _ROUNDING) else "under"
        only = " (only reported)" if guard.action == "report" else ""
        sentences.append(
            f"{_compared(ledger, leading_measure(ledger, guard))}; odds against chance {_odds(value)} to 1, {side} the "
            f"limit of {_odds(limit)} to 1{only}{_lonely(ledger, guard)}"
        )
    return "; ".join(sentences)


_DESCRIBED_ONE_BY_ONE = 3


def _describe_nearest(ledger: Ledger, terms: JudgeTerms) -> str:
    values = {guard: guard_value(ledger, terms, guard) for guard in terms.guards}
    nearest = max(values, key=lambda guard: values[guard] / terms.limit_of(guard))
    limit = _odds(terms.limit_of(nearest))
    odds = _odds(values[nearest])
    return f"{nearest.name} is nearest to its limit of {limit} to 1: odds against chance {odds} to 1" + _lonely(
        ledger, nearest
    )


_MIN_SHOWN_ODDS = 0.01


def _odds(value: float) -> str:
    """Return odds rounded to three digits and without an exponent: ``0.12``, ``6,350``."""
    if value < _MIN_SHOWN_ODDS:
        return f"less than {_MIN_SHOWN_ODDS}"
    if value > MAX_REPORTED_EVIDENCE:
        return f"more than {MAX_REPORTED_EVIDENCE:,.0f}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded.is_integer() else f"{rounded:g}"


def _compared(ledger: Ledger, measure: Measure) -> str:
    candidate, stable = ledger.total(measure.key)
    return (
        f"{candidate.failures:,} of {candidate.requests:,} candidate requests {measure.failed} against "
        f"{stable.failures:,} of {stable.requests:,}"
    )
