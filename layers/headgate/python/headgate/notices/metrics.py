"""The metrics of a rollout that has ended.

They are recorded when a rollout ends, by the function that sends notifications: the functions that move traffic start
no later for them, and CloudWatch charges a custom metric only for hours with data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from headgate.notices.notice import first_failure, first_shift, stable_again
from headgate.notices.texts import seconds_between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.history.model import RolloutView
    from headgate.notices.notice import Notice

ENDS = ("succeeded", "rolled-back", "undone", "stopped", "refused")
"""Outcomes of rollouts that are counted. A pause is none."""

ROLLOUTS = "Rollouts"
"""Rollouts that ended."""

ROLLOUT_SECONDS = "RolloutSeconds"
"""From the beginning of a rollout that was not refused until its end, without its time in line."""

SECONDS_TO_ROLLBACK = "SecondsToRollback"
"""From the candidate's first traffic until the stable revision served alone again."""

SECONDS_FROM_FAILURE_TO_ROLLBACK = "SecondsFromFailureToRollback"
"""From the first failure of the candidate that the judge saw until then."""

FAILED_REQUESTS_UNTIL_ROLLBACK = "FailedRequestsUntilRollback"
"""Failed requests of the candidate until then. Only for rollouts whose guard on errors counts requests."""

NAMES = (
    ROLLOUTS,
    ROLLOUT_SECONDS,
    SECONDS_TO_ROLLBACK,
    SECONDS_FROM_FAILURE_TO_ROLLBACK,
    FAILED_REQUESTS_UNTIL_ROLLBACK,
)
OUTCOME, TARGET_KIND = "Outcome", "TargetKind"
"""Names of the dimensions. There are few values of each: every combination is a metric of its own, which is charged."""


class Figure(NamedTuple):
    """A value of a metric."""

    name: str
    unit: Literal["Count", "Seconds"]
    value: float


def dimensions_of(notice: Notice) -> dict[str, str]:
    """Return the dimensions of a rollout's metrics."""
    return {OUTCOME: notice.outcome, TARGET_KIND: notice.target.partition("/")[0] or "unknown"}


def metrics_of(notice: Notice, view: RolloutView | None) -> list[Figure]:
    """Return the metrics of a rollout that has ended; empty for any other notification."""
    if notice.kind != "rollout" or notice.outcome not in ENDS:
        return []
    return [Figure(ROLLOUTS, "Count", 1), *(_of_record(notice, view) if view else ())]


def _of_record(notice: Notice, view: RolloutView) -> Iterator[Figure]:
    rolled_back = notice.outcome == "rolled-back"
    lasted = seconds_between(view.started_at, view.ended_at)
    # A refusal is no rollout that was quick.
    seconds = {ROLLOUT_SECONDS: lasted if notice.outcome != "refused" else None}
    if rolled_back and first_shift(view):
        seconds[SECONDS_TO_ROLLBACK] = seconds_between(first_shift(view), stable_again(view))
        seconds[SECONDS_FROM_FAILURE_TO_ROLLBACK] = seconds_between(first_failure(view), stable_again(view))
    yield from (Figure(name, "Seconds", value) for name, value in seconds.items() if value is not None)
    for comparison in view.comparisons if rolled_back else ():
        if comparison.measure == "errors":
            yield Figure(FAILED_REQUESTS_UNTIL_ROLLBACK, "Count", comparison.candidate.failures)
