"""A rollout that is judged by all that is shipped: guards, ledger, looks and the average over them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from headgate.analysis.evidence import JudgeTerms, Ledger, Pair, reaches_limit, take_looks
from headgate.analysis.judge import Arm
from headgate.spec.guards import Guards

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.judging.requests import Counts

BEGINS = 1_800_000_000_000
"""When each run begins, in milliseconds since 1970."""


def terms_of(thresholds: Sequence[float], customs: int, *, alpha: float, noise: float = 0.0) -> JudgeTerms:
    """An errors guard, a latency guard and some custom guards, all of which roll back and tolerate nothing."""
    guards: dict[str, Any] = {
        "errors": {},
        "latency": {"thresholdsMs": list(thresholds)},
        "custom": [{"name": f"count {number}", "counts": {"lambda": "counter"}} for number in range(customs)],
        "alpha": alpha,
        "noise": noise,
    }
    return JudgeTerms.of(Guards.model_validate(guards))


def rolled_back_at(
    terms: JudgeTerms, counts: Mapping[str, Counts], look_seconds: int, steps: Sequence[int] | None = None
) -> float:
    """The second at whose end the rollout is rolled back; infinite if it never is.

    Parameters
    ----------
    counts
        By the measures' keys.
    steps
        The step that each look belongs to. Default: all belong to one.
    """
    ledger = Ledger("a-run", "2", "1", since={}, counts={}, looked={}, standings={}, minutes={})
    rows = {measure.key: counts[measure.key].tolist() for measure in terms.measures}
    looks = len(next(iter(rows.values())))
    for look, step in enumerate(steps if steps is not None else [0] * looks):
        begun = BEGINS + 1000 * look * look_seconds
        if step not in ledger.since:
            ledger = ledger._replace(since={**ledger.since, step: begun})
        for measure, of_looks in rows.items():
            n1, s1, n0, s0 = of_looks[look]
            ledger = ledger.add(step, measure, Pair(Arm(n1, s1), Arm(n0, s0)))
        ledger, _ = take_looks(ledger, terms, now=begun + 1000 * look_seconds)
        if reaches_limit(ledger, terms, "rollback"):
            return float((look + 1) * look_seconds)
    return inf
