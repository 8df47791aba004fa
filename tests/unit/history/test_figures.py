"""The figures that people report about deployments, from the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.dynamodb import to_item
from headgate.history.store import History
from tests.builders import TABLE, settle, start

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps

SINCE, UNTIL = "2026-11-01T00:00:00.000Z", "2026-11-11T00:00:00.000Z"


@pytest.fixture
def history(dynamodb: Any) -> History:
    return History(dynamodb, TABLE)


def put(dynamodb: Any, name: str, status: str, day: int, **more: Any) -> None:
    """Record a rollout that was requested at 10:00 of a day in November, began at 10:01 and ended at 10:11."""
    at = f"2026-11-{day:02d}T10:"
    record = {"createdAt": f"{at}00:00.000Z", "startedAt": f"{at}01:00.000Z", "endedAt": f"{at}11:00.000Z"}
    record |= {"pk": f"ROLLOUT#{name}", "sk": "ROLLOUT", "status": status, **more}
    dynamodb.put_item(TableName=TABLE, Item=to_item(record))


def test_they_count_what_ended_in_the_period(history: History, dynamodb: Any) -> None:
    put(dynamodb, "a", "succeeded", 2)
    put(dynamodb, "b", "rolled-back", 3, moved=True)
    put(dynamodb, "c", "succeeded", 4, undoneBy="undo-c")
    put(dynamodb, "undo-c", "succeeded", 5, undoOf="c")
    put(dynamodb, "d", "stopped", 6)
    put(dynamodb, "e", "refused", 6)
    put(dynamodb, "f", "rolled-back", 7, moved=False)
    put(dynamodb, "later", "succeeded", 20)
    put(dynamodb, "runs", "running", 3, endedAt=None)
    put(dynamodb, "before", "rolled-back", 1, endedAt="2026-10-31T10:00:00.000Z", createdAt="2026-10-31T09:00:00.000Z")
    figures = history.figures(SINCE, UNTIL)
    assert (figures.rollouts, figures.promoted, figures.failed) == (4, 2, 3)
    assert figures.outcomes == {"succeeded": 3, "rolled-back": 2, "stopped": 1, "refused": 1}
    assert figures.change_failure_rate == 0.75
    assert figures.promotions_per_day == 0.2
    # 10 minutes after the begin of b; a day and 10 minutes after that of c. d was left as it was.
    assert figures.seconds_to_restore == (600 + 24 * 3600 + 600) / 2
    assert figures.lead_seconds == 660


def test_a_rollout_that_began_long_before_the_period_counts_when_it_ends(history: History, dynamodb: Any) -> None:
    put(dynamodb, "slow", "succeeded", 2, createdAt="2026-01-02T10:00:00.000Z")
    assert history.figures(SINCE, UNTIL).promoted == 1


def test_an_undo_after_the_period_is_known(history: History, dynamodb: Any) -> None:
    put(dynamodb, "c", "succeeded", 10, undoneBy="undo-c")
    put(dynamodb, "undo-c", "succeeded", 12, undoOf="c")
    figures = history.figures(SINCE, UNTIL)
    assert (figures.failed, figures.seconds_to_restore) == (1, 2 * 24 * 3600 + 600)
    put(dynamodb, "c", "succeeded", 10, undoneBy="expired")
    assert history.figures(SINCE, UNTIL).seconds_to_restore is None


def test_a_period_without_rollouts_has_no_rates(history: History) -> None:
    figures = history.figures(SINCE, UNTIL)
    assert (figures.rollouts, figures.change_failure_rate, figures.seconds_to_restore) == (0, None, None)
    assert "changeFailureRate" not in figures.to_wire()


def test_settlement_records_whether_traffic_has_moved(history: History, locks: Locks, steps: Steps) -> None:
    start(locks, "a")
    settle(locks, "a", "rolled-back")
    start(locks, "b")
    steps.enter("b", "shifting", 10.0)
    settle(locks, "b", "rolled-back")
    start(locks, "undo", undoOf="b")
    settle(locks, "undo")
    figures = history.figures("2020-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z")
    assert (figures.rollouts, figures.failed, figures.outcomes) == (1, 1, {"rolled-back": 2, "succeeded": 1})


def test_a_promotion_whose_undo_was_undone_has_not_failed(history: History, dynamodb: Any) -> None:
    put(dynamodb, "c", "succeeded", 2, undoneBy="undo-c")
    put(dynamodb, "undo-c", "succeeded", 3, undoOf="c", undoneBy="again")
    put(dynamodb, "again", "succeeded", 4, undoOf="undo-c")
    assert (history.figures(SINCE, UNTIL).promoted, history.figures(SINCE, UNTIL).failed) == (1, 0)
    put(dynamodb, "again", "succeeded", 4, undoOf="undo-c", undoneBy="third")
    assert history.figures(SINCE, UNTIL).failed == 1


@pytest.mark.parametrize(
    "damaged", [{"startedAt": 5}, {"startedAt": "x"}, {"endedAt": "2026-11-03"}, {"undoneBy": ["c"]}, {"undoOf": {}},
                {"startedAt": "2026-11-31T12:00:00.000Z"}, {"startedAt": "2026-11-03"}],
)  # fmt: skip
def test_values_that_cannot_be_read_are_left_out(history: History, dynamodb: Any, damaged: dict[str, Any]) -> None:
    put(dynamodb, "c", "rolled-back", 3, **damaged)
    assert history.figures(SINCE, UNTIL).failed == 1
