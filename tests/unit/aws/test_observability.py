"""Metrics that functions record in their logs."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from headgate.aws.observability import counts_unexpected_errors
from headgate.errors import HeadgateError, LockLost, TargetNotReady
from tests.builders import CONTEXT


def recorded(error: Exception | None, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Let a handler end with an error or an answer, and return the metrics in its log."""

    @counts_unexpected_errors
    def handler(event: dict[str, object], context: object) -> str:
        if error:
            raise error
        return "answer"

    if error is None:
        assert handler({}, cast("Any", CONTEXT)) == "answer"
    else:
        with pytest.raises(type(error)) as raised:
            handler({}, cast("Any", CONTEXT))
        assert raised.value is error
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]


@pytest.mark.parametrize("error", [None, TargetNotReady("wait"), LockLost("late"), HeadgateError("any of its own")])
def test_an_answer_and_an_error_on_purpose_are_not_counted(
    error: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recorded(error, capsys) == []


@pytest.mark.parametrize("error", [KeyError("version"), TimeoutError("AWS"), ValueError("action")])
def test_another_error_is_counted_with_the_dimensions_that_the_alarm_reads(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "headgate")
    (line,) = recorded(error, capsys)
    (directive,) = json.loads(json.dumps(line["_aws"]))["CloudWatchMetrics"]
    assert directive["Namespace"] == "Headgate"
    assert directive["Dimensions"] == [["FunctionName", "service"]]
    assert directive["Metrics"] == [{"Name": "UnexpectedErrors", "Unit": "Count"}]
    assert (line["FunctionName"], line["service"]) == (CONTEXT.function_name, "headgate")
    assert line["UnexpectedErrors"] == [1.0]
