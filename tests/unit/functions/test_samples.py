"""The functions' sample payloads, which tell one story."""

from __future__ import annotations

import json

import pytest

from tests.builders import (
    ROOT,
    event,
    execution_of,
)
from tests.fakes.functions import NAMES


def test_every_payload_of_a_function_is_of_one_that_is_there() -> None:
    assert sorted(path.stem for path in ROOT.glob("events/functions/*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_function_has_a_payload_to_be_tried_with(name: str) -> None:
    signals = ["rollout_signal", "rollout_signal_abort", "rollout_signal_pause", "rollout_signal_resume"]
    alarms = ["cloudwatch_alarm_state_change", "cloudwatch_alarm_configuration_change"]
    services = ["ecs_task_state_change", "ecs_deployment_state_change"]
    files = {"signaller": [*signals, *alarms, *services]}
    assert all(event(file) for file in files.get(name, [name]))


def test_the_payloads_are_one_story() -> None:
    plan = event("acquirer")["plan"]
    assert all(event(name)["plan"] == plan for name in ("lambda_alias_driver", "baker", "judge", "pauser"))
    assert event("planner")["request"] == event("rollout_requested")["detail"]
    for file in ("intake", "intake_fifo", "sqs_batch"):
        assert json.loads(event(file)["Records"][0]["body"]) == event("rollout_requested")
    assert json.loads(event("starter")["Records"][0]["body"]) == event("task_requested")
    assert event("acquirer")["execution"] == event("settler")["execution"] == execution_of("checkout-42")
    assert event("judge")["state"] == event("baker")["state"]
    assert event("warden")["detail"]["executionArn"] == execution_of("checkout-42")
    assert json.loads(event("warden")["detail"]["input"]) == event("acquirer")["request"]
    assert event("rollout_paused")["detail"]["reason"] == event("pauser")["verdict"]["reason"]
    assert event("undo_requested")["detail"]["rolloutId"] == event("rollout_undone")["detail"]["undoOf"]
    image = event("publisher")["Records"][0]["dynamodb"]["NewImage"]
    assert image["detailType"] == {"S": "Rollout Started"}
