"""The ECS task machine as deployed: an event starts it, it plans against ECS, and it tells the bus how it ended.

The embedded AWS runs no containers here; how tasks end is tested in tests/statemachines/test_ecs_task_machine.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.deployed import eventually
from tests.unit.builders import event

if TYPE_CHECKING:
    from tests.local.deployed import Headgate


@pytest.fixture(scope="module")
def task_definition(headgate: Headgate) -> str:
    """A family of one revision that needs no role."""
    headgate.aws.client("ecs").register_task_definition(
        family="migrate",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "app", "image": "migrate", "essential": True}],
    )
    return "migrate:1"


def ended(headgate: Headgate, task_id: str) -> dict[str, Any]:
    """The one ``Task Ended`` event of a request."""

    def heard() -> list[dict[str, Any]]:
        events = [json.loads(message["Body"]) for message in headgate._heard.heard()]
        return [each for each in events if each["detail"].get("taskId") == task_id]

    found = eventually(heard, 30, lambda: f"no Task Ended event of {task_id}")
    [told] = found
    assert told["detail-type"] == "Task Ended"
    return dict(told["detail"])


def test_a_request_on_the_bus_that_cannot_be_carried_out_is_answered_with_why(
    headgate: Headgate, task_definition: str
) -> None:
    task_id = headgate.new_id()
    overrides = {"containers": {"web": {"cpu": 64}}}
    headgate.send("Task Requested", {"id": task_id, "taskDefinition": task_definition, "overrides": overrides})
    told = ended(headgate, task_id)
    assert (told["outcome"], told["error"]) == ("refused", "RequestRefused")
    assert "overrides.containers.web: " in told["reason"]
    execution = headgate.states.describe_execution(executionArn=told["execution"])
    assert (execution["status"], execution["error"]) == ("FAILED", "RequestRefused")


def test_the_planner_reads_the_task_definition(headgate: Headgate, task_definition: str) -> None:
    payload = event("task_planner")
    payload["request"]["taskDefinition"] = task_definition
    answer = headgate.functions.invoke(FunctionName="headgate-task-planner", Payload=json.dumps(payload).encode())
    told = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, told
    assert told["plan"]["taskDefinition"].endswith(":task-definition/migrate:1")
    assert told["plan"]["essential"] == ["app"]


def test_the_planner_registers_a_definition_once_and_then_finds_it_again(headgate: Headgate) -> None:
    payload = event("task_planner")
    definition = event("task_requested_register")["detail"]["taskDefinition"]["register"] | {"family": "migrate-new"}
    payload["request"]["taskDefinition"] = {"register": definition}
    told = []
    for _ in range(2):
        answer = headgate.functions.invoke(FunctionName="headgate-task-planner", Payload=json.dumps(payload).encode())
        told.append(json.loads(answer["Payload"].read()))
        assert "FunctionError" not in answer, told[-1]
    assert told[0] == told[1]
    assert told[0]["plan"]["taskDefinition"].endswith(":task-definition/migrate-new:1")


def test_the_stopper_finds_nothing_where_nothing_runs(headgate: Headgate) -> None:
    headgate.aws.client("ecs").create_cluster(clusterName="jobs")
    payload = json.dumps(event("task_stopper")).encode()
    answer = headgate.functions.invoke(FunctionName="headgate-task-stopper", Payload=payload)
    assert json.loads(answer["Payload"].read()) == {"stopped": []}
