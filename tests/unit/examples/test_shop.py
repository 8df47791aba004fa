"""The sample shop and its hook answer as the services that call them expect."""

from __future__ import annotations

import importlib.util
import io
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.builders import ROOT

CONTEXT = SimpleNamespace(function_version="7")
BASKET = {"items": [{"price": 3.5, "quantity": 2}]}
SEVERAL = {"items": [*BASKET["items"], {"price": 12, "quantity": 1}]}
TO_HEADGATE = {"rolloutId": "r", "target": {"function": "shop", "alias": "live"}, "candidate": "8"}
TO_CODEDEPLOY = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("TELEMETRY_STREAM", raising=False)
    monkeypatch.setenv("RELEASE", "2")


def load(folder: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(folder, ROOT / "examples" / folder / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shop_answers_a_direct_request_an_http_request_and_a_message() -> None:
    shop = load("shop")
    total = {"total": 7.0, "release": "2", "version": "7"}
    assert shop.handler(BASKET, CONTEXT) == total
    answer = shop.handler({"requestContext": {}, "body": json.dumps(BASKET)}, CONTEXT)
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, total)
    message = {"Records": [{"messageId": "m", "body": json.dumps(BASKET)}]}
    assert shop.handler(message, CONTEXT) == {"batchItemFailures": []}


def test_a_bad_release_fails_on_baskets_of_several_items_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERROR_RATE", "1")
    shop = load("shop")
    assert shop.handler(BASKET, CONTEXT)["total"] == 7.0
    with pytest.raises(RuntimeError, match="release 2 cannot total this basket"):
        shop.handler(SEVERAL, CONTEXT)


class Candidate:
    """Lambda with one function, and CodeDeploy."""

    def __init__(self, answer: dict[str, Any], **fields: str) -> None:
        self._answer = {"Payload": io.BytesIO(json.dumps(answer).encode()), **fields}
        self.invoked = ""
        self.told: dict[str, str] = {}

    def invoke(self, **given: Any) -> dict[str, Any]:
        self.invoked = given["FunctionName"]
        return self._answer

    def put_lifecycle_event_hook_execution_status(self, **told: str) -> None:
        self.told = told


@pytest.mark.parametrize(
    ("candidate", "status", "told"),
    [
        (Candidate({"total": 7.0}), "SUCCEEDED", "the total is right"),
        (Candidate({"total": 9.0}), "FAILED", "not a total of 7"),
        (Candidate({"errorMessage": "no"}, FunctionError="Unhandled"), "FAILED", "shop:8 failed: no"),
    ],
    ids=["right", "wrong", "an error"],
)
def test_the_hook_judges_the_candidate_by_its_total(
    candidate: Candidate, status: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = load("shop_check")
    monkeypatch.setattr(hook, "functions", candidate)
    answer = hook.handler(TO_HEADGATE, CONTEXT)
    assert answer["hookStatus"] == status
    assert told in answer["hookDetails"]["reason"]
    assert (candidate.invoked, candidate.told) == ("shop:8", {})


@pytest.mark.parametrize(
    ("event", "version"),
    [(TO_CODEDEPLOY, "arn:shop:1"), ({**TO_CODEDEPLOY, "headgate": TO_HEADGATE}, "shop:8")],
    ids=["codedeploy", "headgate as codedeploy"],
)
def test_the_hook_tells_codedeploy_too(event: dict[str, Any], version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Candidate({"total": 9.0})
    # The template's version is of use to CodeDeploy alone.
    monkeypatch.setenv("NEW_VERSION", "arn:shop:1")
    hook = load("shop_check")
    monkeypatch.setattr(hook, "functions", candidate)
    monkeypatch.setattr(hook.boto3, "client", lambda _: candidate)
    hook.handler(event, CONTEXT)
    assert candidate.invoked == version
    assert candidate.told == {"deploymentId": "d-1", "lifecycleEventHookExecutionId": "e-1", "status": "Failed"}
