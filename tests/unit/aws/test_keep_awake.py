"""No function of Headgate becomes inactive: the warden invokes each once a day, and each answers at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from headgate.aws.keep_awake import keep_awake
from headgate.aws.wake import WAKE
from headgate.errors import Transient
from tests.builders import CONTEXT
from tests.fakes.functions import NAMES, Functions


class Invocations:
    """Lambda, which takes an invocation of each function but the missing ones."""

    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.given: list[dict[str, Any]] = []

    def invoke(self, **given: Any) -> dict[str, Any]:
        self.given.append(given)
        if given["FunctionName"] in self.missing:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "gone"}}, "Invoke")
        return {"StatusCode": 202}


@pytest.mark.parametrize("name", NAMES)
def test_a_function_answers_a_wake_call_and_does_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = Functions()
    module = functions.module(name)
    for part in [each for each in vars(module) if not each.startswith("_") and each not in {"handler", "logger"}]:
        monkeypatch.setattr(module, part, None)  # Whatever it would call, fails.
    assert module.handler(json.loads(json.dumps(WAKE)), CONTEXT) is None


def test_a_handler_gets_every_other_event() -> None:
    with pytest.raises(KeyError, match="plan"):
        Functions().module("baker").handler({"wake": True, "more": 1}, CONTEXT)


def test_each_function_is_invoked_once_and_not_waited_for() -> None:
    functions: Any = Invocations()
    keep_awake(functions, ["judge", "baker"])
    payload = json.dumps({"wake": True}).encode()
    assert functions.given == [
        {"FunctionName": name, "InvocationType": "Event", "Payload": payload} for name in ("judge", "baker")
    ]


def test_a_function_that_cannot_be_invoked_keeps_no_other_from_it_and_is_reported() -> None:
    functions: Any = Invocations("judge")
    with pytest.raises(Transient, match=r"functions that could not be kept awake: judge: .*gone$"):
        keep_awake(functions, ["judge", "baker"])
    assert [each["FunctionName"] for each in functions.given] == ["judge", "baker"]


def test_the_warden_invokes_what_the_template_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEP_AWAKE", "headgate-judge headgate-baker")
    functions = Functions()
    warden, lambda_service = functions.module("warden"), Invocations()
    monkeypatch.setitem(warden.app._clients, "lambda", lambda_service)
    warden.handler({"keepAwake": True}, CONTEXT)
    assert [each["FunctionName"] for each in lambda_service.given] == ["headgate-judge", "headgate-baker"]
