"""The metrics of a rollout that has ended."""

from __future__ import annotations

import pytest

from headgate.notices.metrics import NAMES, dimensions_of, metrics_of
from tests.unit.notices.cases import SENT, notice, rolled_back


def values(name: str, **fields: object) -> dict[str, float]:
    view = rolled_back(**fields)
    return {figure.name: figure.value for figure in metrics_of(notice(name, view), view)}


def test_a_rollback_says_how_long_it_took_and_how_many_requests_failed_until_then() -> None:
    assert values("rollout_rolled_back") == {
        "Rollouts": 1,
        "RolloutSeconds": pytest.approx(24.436),
        "SecondsToRollback": pytest.approx(21.0),
        "SecondsFromFailureToRollback": pytest.approx(8.0),
        "FailedRequestsUntilRollback": 4,
    }
    assert set(values("rollout_rolled_back")) == set(NAMES)
    assert dimensions_of(notice("rollout_rolled_back")) == {"Outcome": "rolled-back", "TargetKind": "lambda-alias"}


def test_a_rollback_by_an_alarm_has_no_first_failure_and_one_without_telemetry_no_requests() -> None:
    assert set(values("rollout_rolled_back", evidence=[], comparisons=[])) == {
        *("Rollouts", "RolloutSeconds", "SecondsToRollback"),
    }


def test_a_rollback_before_the_first_shift_has_no_times() -> None:
    assert set(values("rollout_rolled_back", weights=[], evidence=[], comparisons=[])) == {"Rollouts", "RolloutSeconds"}


def test_a_promotion_is_counted_with_its_duration() -> None:
    assert set(values("rollout_succeeded", status="succeeded")) == {"Rollouts", "RolloutSeconds"}
    assert set(values("rollout_refused", status="refused")) == {"Rollouts"}


def test_without_a_record_a_rollout_is_counted() -> None:
    assert [figure.name for figure in metrics_of(notice("rollout_rolled_back"), None)] == ["Rollouts"]
    # The request may have no valid target.
    refused = notice("rollout_refused")
    assert dimensions_of(refused) == {"Outcome": "refused", "TargetKind": "unknown"}


@pytest.mark.parametrize("name", SENT)
def test_what_is_no_end_of_a_rollout_is_not_counted(name: str) -> None:
    ends = {"rollout_succeeded", "rollout_rolled_back", "rollout_undone", "rollout_stopped", "rollout_refused"}
    assert bool(metrics_of(notice(name), None)) is (name in ends)
