"""What the doctor says of triggers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate_cli.doctor.triggers import check_triggers

LIVE = {"kind": "lambda-alias", "function": "shop-cart", "alias": "live"}
GOOD = {"when": {"time": "2026-*"}, "target": LIVE}


class Sources:
    """Answers as told, and remembers what was asked."""

    def __init__(self, *, trail: bool = True, bucket: bool = True) -> None:
        self.trail, self.bucket = trail, bucket
        self.asked: list[str] = []

    def trail_is_logging(self) -> bool:
        self.asked.append("trail")
        return self.trail

    def sends_to_eventbridge(self, bucket: str) -> bool:
        self.asked.append(bucket)
        return self.bucket


def check(sources: Sources, code: str = "code/shop/*", /, **templates: Any) -> list[tuple[str, str]]:
    parameters = {name: json.dumps(template) for name, template in templates.items()}
    return [(each.severity, each.message) for each in check_triggers({"CodeObjects": code, **parameters}, sources)]


def test_nothing_is_asked_while_no_trigger_is_on() -> None:
    sources = Sources(trail=False, bucket=False)
    assert check(sources) == [("ok", "no trigger is on")]
    assert sources.asked == []


def test_triggers_that_work_are_named() -> None:
    sources = Sources()
    found = check(sources, PublishedVersionRequest=GOOD, CreatedObjectRequest=[GOOD, GOOD], ScheduledRequest=GOOD)
    assert found == [("ok", "PublishedVersionRequest, CreatedObjectRequest, ScheduledRequest can be filled in")]
    assert sources.asked == ["trail", "code"]


@pytest.mark.parametrize("parameter", ["PublishedVersionRequest", "PushedImageRequest", "ScheduledRequest"])
def test_a_template_that_cannot_be_filled_in_is_a_fault(parameter: str) -> None:
    [(severity, message)] = check(Sources(), **{parameter: {"target": {**LIVE, "function": "<fuction>"}}})
    assert severity == "fault"
    assert message.startswith(f"{parameter}.target.function: <fuction> is not a placeholder of this trigger")


def test_a_placeholder_that_only_some_events_have_is_no_fault() -> None:
    assert check(Sources(), CreatedObjectRequest={"id": "<objectVersion>"})[0][0] == "ok"


def test_published_versions_without_a_trail_are_a_fault() -> None:
    assert check(Sources(trail=False), PublishedVersionRequest=GOOD) == [
        ("fault", "PublishedVersionRequest: no trail of CloudTrail logs, so no event comes")
    ]
    assert check(Sources(trail=False), ScheduledRequest=GOOD)[0][0] == "ok"


@pytest.mark.parametrize(
    ("code", "severity"), [("code/shop/*", "fault"), ("code-*/shop/*", "ok"), ("*", "ok"), ("cod?/a", "ok"), ("", "ok")]
)
def test_a_bucket_that_sends_no_events_is_a_fault_if_the_parameter_names_it(code: str, severity: str) -> None:
    [(found, message)] = check(Sources(bucket=False), code, CreatedObjectRequest=GOOD)
    assert found == severity
    assert severity == "ok" or message.startswith("CreatedObjectRequest: the bucket code does not send its events")
