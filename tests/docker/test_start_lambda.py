"""The functions of a rollout, called one after the other by Lambda's API, as the state machine would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker.checkout_42 import CANDIDATE, ID, STABLE, Checkout42, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.invoke import Containers


@pytest.fixture(scope="module")
def call(containers: Containers) -> Iterator[Callable[..., Any]]:
    """Invoke a function with a payload; answers what Lambda answered."""
    with containers.serving() as served:
        functions = served.client()

        def invoke(function: str, payload: dict[str, Any]) -> Any:
            answer = functions.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
            return json.loads(answer["Payload"].read())

        yield invoke


def test_a_rollout_goes_through_by_lambdas_api(call: Callable[..., Any], rollout: Checkout42) -> None:
    execution = sample("acquirer")["execution"]
    planned = call("Planner", sample("planner"))
    held = call("Acquirer", {**planned, "execution": execution})
    common = {"target": planned["plan"]["target"], "plan": planned["plan"], "epoch": held["epoch"]}

    state = call("LambdaAliasDriver", {**common, "action": "prepare", "state": {}})["state"]
    assert (state["stable"], state["candidate"]) == (STABLE, CANDIDATE)

    state = call("LambdaAliasDriver", {**common, "action": "shift", "state": state, "weight": 10})["state"]
    assert rollout.serving == (STABLE, {CANDIDATE: 0.1})

    state = call("LambdaAliasDriver", {**common, "action": "promote", "state": state})["state"]
    assert rollout.serving == (CANDIDATE, {})

    settled = call("Settler", {**sample("settler"), "execution": execution, "state": state})
    assert settled["outcome"] == "succeeded"
    assert (rollout.record["status"], rollout.owner) == ("succeeded", None)


def test_an_error_has_the_name_that_the_machine_catches(call: Callable[..., Any], rollout: Checkout42) -> None:
    event = sample("planner")
    event["request"]["strategy"] = {"canary": {"percent": 101, "bakeSeconds": 300}}

    answer = call("Planner", event)

    assert answer["errorType"] == "RequestRefused"
    assert "strategy" in answer["errorMessage"]
    assert rollout.record.get("status") != "running", ID
