"""Custom::HeadgateTask: when it runs, for how long, and what CloudFormation is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.aws.arns import job_execution_name
from headgate.aws.place import Place
from headgate.ecs_tasks.request import read_task
from headgate.stacks import decisions
from headgate.stacks.event import ROLLOUT_TYPE, TASK_TYPE, StackEvent
from headgate.stacks.facts import Facts
from headgate.stacks.properties import read_task_detail
from headgate.stacks.task import NO_TASK, attributes_of
from tests.builders import ROOT

STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/shop/0a1b"
RESULT: dict[str, Any] = json.loads((ROOT / "events" / "published" / "task_ended.json").read_text("utf-8"))["detail"]
RUN = {"taskDefinition": "migrate", "cluster": "jobs"}


PLACE = Place("aws", "123456789012", "us-east-1")


def event(request_type: Any = "Create", *, task: Any = RUN, **properties: Any) -> StackEvent:
    physical_id = "" if request_type == "Create" else "task-Migration-3f2a"
    given = {"ServiceToken": "arn", "Task": task, **properties}
    return StackEvent(request_type, "0a1b2c3d-4e5f", STACK, "Migration", TASK_TYPE, physical_id, given)


def decide(given: StackEvent, told: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    """The next step of a request whose task has not run yet, or has if something is told of it."""
    known = Facts(given, PLACE, task=read_task_detail(given), **facts)
    return decisions.decide(known, {"stage": "task"} if told else {}, told or {}).step


def answer(given: StackEvent, told: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    decided = decide(given, told, **facts)
    assert decided["do"] == "respond"
    sent: dict[str, Any] = decided["answer"]
    return sent


@pytest.mark.parametrize("request_type", ["Create", "Update"])
def test_a_task_runs_on_create_and_update_under_the_id_of_the_request(request_type: str) -> None:
    decided = decide(event(request_type))
    assert (decided["do"], decided["name"]) == ("run-task", job_execution_name("task", "shop/Migration/0a1b2c3d"))
    assert decided["request"]["id"] == "shop/Migration/0a1b2c3d"
    # The task machine reads it as any other request.
    assert read_task(decided["request"], "other").cluster == "jobs"


def test_a_rollback_runs_nothing_and_succeeds_with_every_attribute() -> None:
    told = answer(event("Update"), stack_status="UPDATE_ROLLBACK_IN_PROGRESS")
    assert (told["Status"], told["Data"]) == ("SUCCESS", NO_TASK)
    assert told["PhysicalResourceId"] == "task-Migration-3f2a"
    assert NO_TASK.keys() == attributes_of(RESULT).keys()


def test_a_deletion_runs_nothing() -> None:
    given = event("Delete")
    assert decisions.decide(Facts(given, PLACE), {}, {}).state["answer"]["Status"] == "SUCCESS"


def test_the_physical_id_is_the_same_for_as_long_as_the_stack_exists() -> None:
    created = answer(event(), {"task": RESULT})["PhysicalResourceId"]
    assert created == answer(event(Release="2"), {"task": RESULT})["PhysicalResourceId"]
    assert created.startswith("task-Migration-")
    # An update that fails keeps the one that CloudFormation has, so that nothing is replaced.
    failed = {"failure": {"Error": "TaskStopped", "Cause": ""}}
    assert answer(event("Update"), failed)["PhysicalResourceId"] == "task-Migration-3f2a"


def test_a_success_tells_which_tasks_ran() -> None:
    succeeded = {**RESULT, "outcome": "succeeded"}
    last = "arn:aws:ecs:eu-central-1:123456789012:task/jobs/0b7c1a9e4f5d4a2f8c6e3d2b1a0f1c2d"
    assert answer(event(), {"task": succeeded})["Data"] == {
        "TaskArn": last,
        "TaskArns": last,
        "TaskDefinition": RESULT["taskDefinition"],
        "Outcome": "succeeded",
    }
    two = {**succeeded, "tasks": succeeded["tasks"] * 2}
    assert answer(event(), {"task": two})["Data"]["TaskArns"] == f"{last},{last}"
    # A result that was too long has no attempts.
    cut = {**succeeded, "tasks": [{"number": 1, "outcome": "succeeded"}]}
    assert answer(event(), {"task": cut})["Data"]["TaskArn"] == ""


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (
            "TaskExitedNonZero",
            json.dumps(RESULT),
            "the task did not succeed (exited): container app exited with 2; exit codes: app 2, router 0",
        ),
        (
            "RequestRefused",
            json.dumps({"outcome": "refused", "reason": "cluster: there is no cluster jobs", "tasks": []}),
            "the task did not succeed (refused): cluster: there is no cluster jobs",
        ),
        (
            "States.Timeout",
            "",
            "the task did not end in the time that CloudFormation gives, and was stopped",
        ),
        (
            "StepFunctions.AccessDeniedException",
            "not authorized",
            "the task could not run: StepFunctions.AccessDeniedException not authorized",
        ),
        *(
            ("States.TaskFailed", cause, "the task could not run: States.TaskFailed see its execution")
            for cause in (
                '{"Error": "TaskExitedNonZero", "Cause": "{\\"outcome\\": \\"exited\\", \\"lastLogs\\": [\\"password 1',
                ' {"Input": "secret',
                '{"Input": "{}"}',
                '... , "Input": "secret"',
                "[1]",
                '"text"',
            )
        ),
    ],
)
def test_a_failure_tells_why_and_where_to_look(error: str, cause: str, reason: str) -> None:
    told = answer(event(), {"failure": {"Error": error, "Cause": cause}})
    assert told["Status"] == "FAILED"
    assert told["Reason"] == f"{reason} (headgate task show shop/Migration/0a1b2c3d)"


@pytest.mark.parametrize("cause", ['{"ExecutionArn": "arn", "Input": "{\\"config\\": \\"s3cr3t', '{"Input": "s3cr3t"}'])
def test_a_plan_that_fails_tells_nothing_of_its_input(cause: str) -> None:
    given = event("Update")._replace(resource_type=ROLLOUT_TYPE, properties={"Alias": "checkout:live"})
    failure = {"failure": {"Error": "States.TaskFailed", "Cause": cause}}
    told = decisions.decide(Facts(given, PLACE), {"stage": "plan"}, failure).step["answer"]
    assert (told["Status"], told["Reason"]) == ("FAILED", "see its execution")


def test_a_failure_tells_nothing_of_the_log() -> None:
    told = answer(event(), {"failure": {"Error": "TaskExitedNonZero", "Cause": json.dumps(RESULT)}})
    assert "migration 41 is missing" in json.dumps(RESULT)
    assert "migration 41" not in told["Reason"]


@pytest.mark.parametrize(
    ("task", "timeout", "attempts"),
    [
        ({}, 3300, 1),
        ({"timeoutSeconds": "60"}, 60, 1),
        ({"retry": {"attempts": "3"}}, 1090, 3),
        ({"retry": {"attempts": "2"}, "backoff": {"initialSeconds": "100", "rate": "1.5"}}, 1600, 2),
        ({"timeoutSeconds": "3300"}, 3300, 1),
    ],
)
def test_all_attempts_end_within_the_time_of_a_custom_resource(task: Any, timeout: int, attempts: int) -> None:
    decided = decide(event(task={**RUN, **task}))
    assert (decided["request"]["timeoutSeconds"], decided["request"]["retry"]["attempts"]) == (timeout, attempts)
    assert decided["seconds"] == 3450


def test_a_shorter_timeout_of_the_resource_leaves_less() -> None:
    decided = decide(event(ServiceTimeout="900"), age=40)
    assert (decided["request"]["timeoutSeconds"], decided["seconds"]) == (600, 710)


def test_a_task_that_may_take_longer_is_refused_before_it_starts() -> None:
    told = answer(event(task={**RUN, "timeoutSeconds": "1800", "retry": {"attempts": "2"}}))
    assert told["Status"] == "FAILED"
    assert told["Reason"].startswith(
        "Task.timeoutSeconds: 2 x 1,800 s and 10 s between them are 3,610 s, and CloudFormation leaves 3,300 s"
    )
