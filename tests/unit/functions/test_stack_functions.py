"""The three functions of custom resources, as they are deployed: one request, from CloudFormation to its answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.stacks.response import put_answer
from tests.builders import event
from tests.fakes.deployments import DeployedFunction, FakeFormation
from tests.fakes.functions import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions


@pytest.fixture
def formation(deployed: Functions) -> Iterator[FakeFormation]:
    fake = FakeFormation()
    detach = fake.attach(deployed.client("cloudformation"))
    yield fake
    detach()


@pytest.fixture
def function(deployed: Functions) -> Iterator[DeployedFunction]:
    fake = DeployedFunction()
    fake.point("live", fake.PublishVersion("checkout")["Version"])
    detach = fake.attach(deployed.client("lambda"))
    yield fake
    detach()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STACK_MACHINE", "ACCOUNT", "PARTITION"):
        monkeypatch.setenv(name, SETTINGS[name])


@pytest.fixture
def puts(deployed: Functions, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = []

    def put(url: str, body: bytes) -> int:
        assert url == event("stack_intake")["ResponseURL"]
        bodies.append(json.loads(body))
        return 200

    assert deployed.module("stack_responder").responder._put is put_answer
    monkeypatch.setattr(deployed.module("stack_responder").responder, "_put", put)
    return bodies


@pytest.mark.usefixtures("settings")
def test_a_request_goes_from_cloudformation_to_its_answer(
    table: Table,
    deployed: Functions,
    machines: FakeStepFunctions,
    formation: FakeFormation,
    function: DeployedFunction,
    puts: list[dict[str, Any]],
) -> None:
    given = event("stack_intake")
    formation.statuses[given["StackId"]] = "UPDATE_IN_PROGRESS"
    shown = (given["ResourceType"], "UPDATE_IN_PROGRESS", given["PhysicalResourceId"])
    formation.show(given["StackId"], given["LogicalResourceId"], *shown)
    deployed.call("stack_intake")
    [(name, started)] = machines.executions.items()
    assert name.startswith("stack-")
    planner = event("stack_planner")
    assert started == {"resource": planner["resource"], "requestId": planner["requestId"]}
    # A plan of an alias that serves $LATEST already.
    step = deployed.call("stack_planner")
    assert step["next"]["do"] == "plan"
    plan = {"hooks": {}, "steps": [], "target": step["next"]["request"]["target"], "pause": {"limitSeconds": 1}}
    told = {"plan": plan, "request": step["next"]["request"]}
    step = deployed.call("stack_planner", planner | {"state": step["state"], "told": told})
    assert step["next"]["do"] == "respond"
    payload = {**started, "answer": step["next"]["answer"]}
    assert deployed.call("stack_responder", payload) == {"answer": "sent"}
    assert (puts[0]["Status"], puts[0]["Data"]["Outcome"]) == ("SUCCESS", "unchanged")


def test_the_samples_are_about_one_request() -> None:
    given, planner, responder = event("stack_intake"), event("stack_planner"), event("stack_responder")
    assert planner["resource"] == responder["resource"] == f"STACK#{given['StackId']}#{given['LogicalResourceId']}"
    assert planner["requestId"] == responder["requestId"] == given["RequestId"]
    assert responder["answer"]["PhysicalResourceId"] == given["PhysicalResourceId"]
