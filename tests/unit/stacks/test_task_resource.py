"""Custom::HeadgateTask: an ECS task in the middle of a deployment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.ids import is_rollout_id
from headgate.stacks.event import TASK_TYPE

if TYPE_CHECKING:
    from tests.fakes.deployments import Deployments, Stack

TASK: dict[str, Any] = {"Task": {"taskDefinition": "migrate:3", "count": "2", "timeoutSeconds": "900"}}


@pytest.fixture
def migration(world: Deployments) -> Stack:
    return world.stack(logical_id="Migration", kind=TASK_TYPE)


def test_a_task_runs_when_its_resource_is_created_and_updated(world: Deployments, migration: Stack) -> None:
    answer = migration.create(**TASK, Release="1")
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"] == {
        "TaskArn": "arn:aws:ecs:task/1",
        "TaskArns": "arn:aws:ecs:task/1",
        "TaskDefinition": "arn:aws:ecs:task-definition/migrate:3",
        "Outcome": "succeeded",
    }
    again = migration.update(**TASK, Release="2")
    assert (again["Status"], again["PhysicalResourceId"]) == ("SUCCESS", answer["PhysicalResourceId"])
    first, second = world.did("run-task")
    assert is_rollout_id(first["request"]["id"])
    assert first["request"]["id"] != second["request"]["id"]
    assert first["name"] != second["name"]
    asked = {name: first["request"][name] for name in ("taskDefinition", "count", "timeoutSeconds")}
    assert asked == {"taskDefinition": "migrate:3", "count": 2, "timeoutSeconds": 900}
    assert 3300 < first["seconds"] <= 3450


def test_a_physical_id_is_stable_in_a_stack_and_differs_between_stacks(world: Deployments, migration: Stack) -> None:
    other = world.stack("other", "Migration", kind=TASK_TYPE)
    ids = {migration.create(**TASK)["PhysicalResourceId"], other.create(**TASK)["PhysicalResourceId"]}
    assert len(ids) == 2
    assert all(each.startswith("task-Migration-") for each in ids)


def test_a_task_that_fails_fails_the_deployment_and_runs_in_no_rollback(world: Deployments, migration: Stack) -> None:
    migration.create(**TASK, Release="1")
    cause = json.dumps({"Error": "TaskExitedNonZero", "Cause": "container app exited with 3"})
    world.task = {"failure": {"Error": "States.TaskFailed", "Cause": cause}}
    answer = migration.update(**TASK, Release="2")
    assert (answer["Status"], "container app exited with 3" in answer["Reason"]) == ("FAILED", True)
    assert migration.roll_back()["Status"] == "SUCCESS"
    assert migration.delete()["Status"] == "SUCCESS"
    assert len(world.did("run-task")) == 2


def test_a_task_that_takes_too_long_says_so(world: Deployments, migration: Stack) -> None:
    world.task = {"failure": {"Error": "States.Timeout", "Cause": ""}}
    answer = migration.create(**TASK)
    assert (answer["Status"], "did not end in the time" in answer["Reason"]) == ("FAILED", True)


def test_the_arns_are_those_of_each_tasks_last_attempt(world: Deployments, migration: Stack) -> None:
    tasks = [{"attempts": [{"taskArn": "a-1"}, {"taskArn": "a-2"}]}, {"attempts": [{"taskArn": "b-1"}]}, {}]
    world.task = {"task": {"tasks": tasks}}
    assert migration.create(**TASK)["Data"]["TaskArns"] == "a-2,b-1"


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, "Task: is missing"),
        ({"Task": "migrate"}, "Task: must be an object with a taskDefinition"),
        ({"Task": {}}, "Task.taskDefinition: is missing"),
        ({"Task": {"taskDefinition": "migrate", "id": "x"}}, "Task.id: is not a known property here"),
        ({"Task": {"taskDefinition": "m", "count": "many"}}, 'Task.count: must be a whole number (given "many")'),
        (
            {"Task": {"taskDefinition": "m", "timeout": "5"}},
            "Task.timeout: is not a known field; did you mean timeoutS",
        ),
        ({"Tasks": {"taskDefinition": "m"}}, "Tasks: is not a known property; did you mean Task?"),
    ],
)
def test_properties_that_are_wrong_run_nothing(
    world: Deployments, migration: Stack, properties: dict[str, Any], reason: str
) -> None:
    answer = migration.create(**properties)
    assert answer["Status"] == "FAILED"
    assert reason in answer["Reason"]
    assert not world.steps
    assert migration.delete("ROLLBACK_IN_PROGRESS")["Status"] == "SUCCESS"


def test_a_later_request_keeps_a_task_from_starting(world: Deployments, migration: Stack) -> None:
    migration.create(**TASK, Release="1")
    update = migration.begin_update(**TASK, Release="2")
    migration.begin_roll_back()
    assert "superseded" in update.answer()["Reason"]
    assert len(world.did("run-task")) == 1
