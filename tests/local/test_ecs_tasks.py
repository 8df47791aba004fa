"""The ECS task machine as deployed: an event starts it, it plans against ECS, and it tells the bus how it ended.

The embedded AWS runs no containers here: tests/docker/test_ecs_tasks.py has those, and
tests/statemachines/test_ecs_task_machine.py every other way in which tasks end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from emulator.roles import make_role
from tests.local.deployed import PREFIX, eventually, sample
from tests.local.ecs_jobs import Jobs

if TYPE_CHECKING:
    from tests.local.deployed import Headgate


@pytest.fixture(scope="module")
def jobs(headgate: Headgate) -> Jobs:
    """ECS tasks that never run: there is no engine."""
    return Jobs(headgate)


@pytest.fixture(scope="module")
def task_definition(jobs: Jobs) -> str:
    """A family of one revision."""
    return jobs.define(jobs.container("migrate --to 42"))


def test_a_request_on_the_bus_that_cannot_be_carried_out_is_answered_with_why(jobs: Jobs, task_definition: str) -> None:
    told = jobs.ended(jobs.request(task_definition, overrides={"containers": {"web": {"cpu": 64}}}))
    assert (told["outcome"], told["error"]) == ("refused", "RequestRefused")
    assert "overrides.containers.web: " in told["reason"]
    execution = jobs.execution(told)
    assert (execution["status"], execution["error"]) == ("FAILED", "RequestRefused")


def test_a_request_runs_once_and_another_with_its_id_is_refused_aloud(
    headgate: Headgate, jobs: Jobs, task_definition: str
) -> None:
    # GIVEN a request that has ended
    wrong = {"overrides": {"containers": {"web": {"cpu": 64}}}}
    task_id = jobs.request(task_definition, **wrong)
    execution = jobs.execution(jobs.ended(task_id))
    # WHEN the same comes again, and then another one with its id
    headgate.send("Task Requested", {"id": task_id, **jobs.detail(task_definition, **wrong)})
    other = headgate.send("Task Requested", {"id": task_id, **jobs.detail(task_definition, timeoutSeconds=60)})
    # THEN the other one is refused on the bus and the topic, as is what the machine has refused
    both = [lambda: len(jobs.heard(task_id)) > 1, lambda: len(jobs.notified(task_id)) > 1]
    for told in both:
        eventually(told, 30, lambda: f"{jobs.heard(task_id)}, {jobs.notified(task_id)}")
    for events in (jobs.heard(task_id), jobs.notified(task_id)):
        assert [each["detail-type"] for each in events] == ["Task Ended", "Task Refused"]
    refused = jobs.heard(task_id)[-1]["detail"]
    assert (refused["eventId"], refused["taskDefinition"]) == (other, task_definition)
    assert execution["executionArn"] in refused["reason"]
    # AND kept with the reason
    [letter] = [each for each in headgate.job_dead_letters.heard() if other in each["Body"]]
    assert letter["MessageAttributes"]["reason"]["StringValue"] == refused["reason"]
    # AND nothing else has run
    machine = headgate.outputs["EcsTaskMachineArn"]
    pages = headgate.states.get_paginator("list_executions").paginate(stateMachineArn=machine)
    started = [each["executionArn"] for page in pages for each in page["executions"]]
    ids = [json.loads(headgate.states.describe_execution(executionArn=arn)["input"]).get("id") for arn in started]
    assert ids.count(task_id) == 1


def test_the_planner_reads_the_task_definition(headgate: Headgate, task_definition: str) -> None:
    payload = sample("task_planner")
    payload["request"]["taskDefinition"] = task_definition
    answer = headgate.functions.invoke(FunctionName=f"{PREFIX}-task-planner", Payload=json.dumps(payload).encode())
    told = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, told
    assert told["plan"]["taskDefinition"].endswith(f":task-definition/{task_definition}")
    assert told["plan"]["essential"] == ["app"]


def test_the_planner_registers_a_definition_once_and_then_finds_it_again(headgate: Headgate) -> None:
    payload = sample("task_planner")
    definition = sample("task_requested_register")["detail"]["taskDefinition"]["register"] | {"family": "migrate-new"}
    definition |= {
        name: make_role(headgate.aws, f"migrate-{name}")
        for name in ("taskRoleArn", "executionRoleArn")
        if name in definition
    }
    payload["request"]["taskDefinition"] = {"register": definition}
    told = []
    for _ in range(2):
        answer = headgate.functions.invoke(FunctionName=f"{PREFIX}-task-planner", Payload=json.dumps(payload).encode())
        told.append(json.loads(answer["Payload"].read()))
        assert "FunctionError" not in answer, told[-1]
    assert told[0] == told[1]
    assert told[0]["plan"]["taskDefinition"].endswith(":task-definition/migrate-new:1")


def test_the_stopper_finds_nothing_where_nothing_runs(headgate: Headgate, jobs: Jobs) -> None:
    payload = json.dumps(sample("task_stopper")).encode()
    answer = headgate.functions.invoke(FunctionName=f"{PREFIX}-task-stopper", Payload=payload)
    assert json.loads(answer["Payload"].read()) == {"stopped": []}
