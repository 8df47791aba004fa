"""The properties of Custom::HeadgateRollout as a request: text that becomes numbers, and faults with their fix."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import RequestRefused
from headgate.ids import is_rollout_id
from headgate.stacks.event import ROLLOUT_TYPE, StackEvent
from headgate.stacks.properties import (
    Target,
    _converted,
    fingerprint_of,
    hooks_of,
    in_properties,
    read_rollout,
    service_seconds,
    target_in,
)
from tests.builders import ACCOUNT, REGION
from tests.fakes.deployments import ARN, PLACE

STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/shop/4f1c2b60"
MAPPING = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"


def event_of(properties: dict[str, Any], **fields: Any) -> StackEvent:
    named = {"request_id": "6b1f3c52-4a0e", "stack_id": STACK, "logical_id": "CheckoutRollout"}
    event: dict[str, Any] = {"request_type": "Create", "resource_type": ROLLOUT_TYPE, **named, **fields}
    return StackEvent(**event, properties={"ServiceToken": "arn", **properties})


def read(**properties: Any) -> dict[str, Any]:
    return read_rollout(event_of({"Alias": "checkout:live", **properties}), PLACE).request


def refusal_of(properties: dict[str, Any]) -> str:
    with pytest.raises(RequestRefused) as refused:
        read_rollout(event_of(properties), PLACE)
    return str(refused.value)


@pytest.mark.parametrize("alias", ["checkout:live", f"{ARN}:live"])
def test_a_name_and_an_arn_are_the_same_target(alias: str) -> None:
    wanted = read_rollout(event_of({"Alias": alias}), PLACE)
    assert wanted.target == Target("checkout", "live")
    assert wanted.request["target"] == {
        "kind": "lambda-alias", "function": "checkout", "alias": "live", "readySeconds": 600,
    }  # fmt: skip
    assert wanted.target.physical_id(PLACE) == f"{ARN}:live"
    assert target_in(f"{ARN}:live", PLACE) == wanted.target


def test_a_mapping_is_a_target_with_a_mode() -> None:
    wanted = read_rollout(event_of({"Mapping": MAPPING, "Mode": "ramp", "Guards": "none"}), PLACE)
    assert wanted.request["target"] == {
        "kind": "event-source", "mapping": MAPPING, "mode": "ramp", "readySeconds": 600,
    }  # fmt: skip
    assert (wanted.target.physical_id(PLACE), wanted.target.key) == (MAPPING, f"event-source/{MAPPING}")
    assert target_in(MAPPING, PLACE) == wanted.target


@pytest.mark.parametrize(
    "physical_id", ["refused-X", "", "x:y", f"{ARN}:live".replace(ACCOUNT, "210987654321"), f"{ARN}:7"]
)
def test_a_physical_id_of_something_else_names_no_target(physical_id: str) -> None:
    assert target_in(physical_id, PLACE) is None


def test_text_becomes_a_number_or_a_boolean_where_the_field_takes_one_and_stays_text_elsewhere() -> None:
    request = read(
        ReadySeconds="120",
        Strategy={"steps": [{"weight": "12.5", "bakeSeconds": "300"}, {"weight": "50", "bakeSeconds": "600"}]},
        Guards={"errors": {"tolerate": "2"}, "alpha": "0.05", "strictAlarms": "true", "promoteEarly": {"beta": "0.1"}},
        Alarms=["checkout-errors"],
        OnFailure={"pause": {"at": "zero", "limitSeconds": "900"}},
        AfterPromotion={"hours": "24", "then": "undo"},
        Hooks={"beforeStep": [{"lambda": "123", "timeoutSeconds": "60", "config": {"limit": "7", "deep": ["1"]}}]},
    )
    assert request["target"]["readySeconds"] == 120
    assert request["strategy"]["steps"][0] == {"weight": 12.5, "bakeSeconds": 300}
    assert (request["guards"]["alpha"], request["guards"]["strictAlarms"]) == (0.05, True)
    assert (request["guards"]["errors"]["tolerate"], request["guards"]["promoteEarly"]["beta"]) == (2, 0.1)
    assert request["onFailure"]["pause"]["limitSeconds"] == 900
    assert request["afterPromotion"] == {"hours": 24, "then": "undo"}
    [hook] = request["hooks"]["beforeStep"]
    assert hook == {"lambda": "123", "timeoutSeconds": 60, "config": {"limit": "7", "deep": ["1"]}}


@pytest.mark.parametrize("text", ["false", "False", "true"])
def test_a_boolean_is_read_as_cloudformation_writes_it(text: str) -> None:
    assert read(Alarms=["a"], Guards={"strictAlarms": text})["guards"]["strictAlarms"] is (text.lower() == "true")


@pytest.mark.parametrize("strategy", ["Canary10Percent5Minutes", "CodeDeployDefault.LambdaLinear10PercentEvery1Minute"])
def test_a_strategy_has_the_name_that_it_has_in_deployment_preference(strategy: str) -> None:
    assert read(Strategy=strategy, Guards="none")["strategy"] == strategy


def test_alarms_are_short_for_the_guard() -> None:
    assert read(Alarms=["errors", "latency"])["guards"]["alarms"] == ["errors", "latency"]
    assert read(Alarms=["errors"], Guards={"strictAlarms": "true"})["guards"]["strictAlarms"] is True


def test_hooks_of_deployment_preference_are_codedeploy_hooks_and_come_first() -> None:
    given = {"PreTraffic": "before", "PostTraffic": "after", "afterTraffic": [{"lambda": "verify"}]}
    assert hooks_of(given) == {
        "beforeTraffic": [{"codeDeployHook": "before"}],
        "afterTraffic": [{"codeDeployHook": "after"}, {"lambda": "verify"}],
    }


def test_a_request_never_waits_for_its_turn() -> None:
    assert read()["onBusy"] == "refuse"


@pytest.mark.parametrize(
    ("version", "number"), [("7", "7"), (f"{ARN}:7", "7"), (None, "")], ids=["number", "arn", "none"]
)
def test_a_version_is_a_number_or_an_arn(version: str | None, number: str) -> None:
    given = {"Version": version} if version else {}
    assert read_rollout(event_of({"Alias": "checkout:live", **given}), PLACE).version == number


LIVE = {"Alias": "checkout:live"}


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, "Alias: is missing; give Alias, as in checkout:live, Mapping, the UUID"),
        (LIVE | {"Mapping": MAPPING}, "Alias: cannot be given with Mapping"),
        ({"Alias": "checkout"}, "Alias: must be function:alias, as in checkout:live, or the ARN of an alias"),
        ({"Alias": "checkout:7"}, '(given "checkout:7")'),
        ({"Alias": ["checkout:live"]}, '(given ["checkout:live"])'),
        (
            {"Alias": f"{ARN}:live".replace(ACCOUNT, "210987654321")},
            "Alias: is in 210987654321, eu-central-1; this Headg",
        ),
        ({"Alias": f"{ARN}:live".replace(REGION, "eu-west-1")}, "Alias: is in 123456789012, eu-west-1; this Headgate"),
        ({"Mapping": "queue"}, "Mapping: must be the UUID of an event source mapping, in lower case"),
        (LIVE | {"Mode": "ramp"}, "Mode: is only for a Mapping; remove it"),
        ({"Mapping": MAPPING, "Mode": "both"}, "Mode: must be 'split' or 'ramp'"),
        (LIVE | {"Strategie": "AllAtOnce"}, 'Strategie: is not a known property; did you mean Strategy? (given "AllA'),
        (LIVE | {"Type": "AllAtOnce"}, "Type: is not a known property; remove it"),
        (LIVE | {"Strategy": "Canary10percent5Minutes"}, "Strategy: not a preset: capital letters count; did you mean"),
        (
            LIVE | {"Strategy": {"canary": {"percent": "10", "bakeSecs": "1"}}},
            "Strategy.canary.bakeSecs: is not a known",
        ),
        (LIVE | {"Guards": {"alpha": "one"}}, 'Guards.alpha: must be a number (given "one")'),
        (LIVE | {"Guards": {"alarm": ["a"]}}, "Guards.alarm: is not a known field; did you mean alarms?"),
        (LIVE | {"Alarms": "a"}, 'Alarms: must be a list of names of alarms (given "a")'),
        (LIVE | {"Alarms": ["a"], "Guards": "none"}, 'Alarms: cannot be given with Guards "none"'),
        (LIVE | {"Alarms": ["a"], "Guards": {"alarms": ["b"]}}, "Alarms: is short for Guards.alarms; give one"),
        (LIVE | {"Alarms": ["a"], "Guards": "all"}, "Guards: give an object"),
        (LIVE | {"OnDelete": "keep"}, 'OnDelete: must be remove or retain (given "keep")'),
        (LIVE | {"OnFailure": "stop"}, "OnFailure: give"),
        (LIVE | {"ReadySeconds": "9999"}, "ReadySeconds: must be at most 7200 (given 9999)"),
        (LIVE | {"Version": "$LATEST"}, "Version: must be the number or the ARN of a version"),
        (
            LIVE | {"Version": f"{ARN}:7".replace("checkout", "basket")},
            "Version: is one of basket, but Alias is one of c",
        ),
        (LIVE | {"Hooks": {"preTraffic": []}}, "Hooks.preTraffic: is not a known field"),
        (LIVE | {"Hooks": {"PreTraffic": ["smoke"]}}, "Hooks.PreTraffic: must be the name or ARN of a function"),
        (LIVE | {"Hooks": {"PreTrafic": "smoke"}}, "Hooks.PreTrafic: is not a known field; did you mean PreTraffic?"),
        (LIVE | {"Hooks": {"posttraffic": "a"}}, "Hooks.posttraffic: is not a known field; did you mean PostTraffic?"),
        (
            LIVE | {"Hooks": {"beforTraffic": []}},
            "Hooks.beforTraffic: is not a known field; did you mean beforeTraffic?",
        ),
        (LIVE | {"Hooks": {"PreTraffic": ""}}, "Hooks.PreTraffic: "),
        (
            LIVE | {"Hooks": {"PreTraffic": "a", "beforeTraffic": [{"codeDeployHook": ""}]}},
            "Hooks.beforeTraffic[0].codeDeployHook: ",
        ),
        (LIVE | {"Hooks": "smoke"}, "Hooks: must be an object"),
        (
            LIVE | {"Hooks": {"beforeTraffic": [{"lambda": "a", "timeoutSeconds": "x"}]}},
            "Hooks.beforeTraffic[0].timeout",
        ),
        (LIVE | {"A": "1", "B": "2"}, 'A: is not a known property; remove it (given "1"); B: is not a known property'),
    ],
)
def test_a_fault_names_the_property_its_value_and_the_fix(properties: dict[str, Any], reason: str) -> None:
    assert reason in refusal_of(properties)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("target: lambda-alias/x/live is busy", "Alias: lambda-alias/x/live is busy"),
        ("target.function: no; guards.alarms: a fires", "Alias: no; Guards.alarms: a fires"),
        ("hooks.beforeTraffic[0]: gone", "Hooks.beforeTraffic[0]: gone"),
        ("the strategy: of the target: is fine", "the strategy: of the target: is fine"),
    ],
)
def test_a_message_about_a_request_is_told_in_properties(message: str, told: str) -> None:
    assert in_properties(message) == told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("hooks.beforeTraffic[0].codeDeployHook: smoke does not exist", "Hooks.PreTraffic: smoke does not exist"),
        ("hooks.beforeTraffic[0]: gone", "Hooks.PreTraffic: gone"),
        ("hooks.beforeTraffic[1].lambda: gone", "Hooks.beforeTraffic[0].lambda: gone"),
        ("hooks.beforeTraffic[2].codeDeployHook: gone", "Hooks.beforeTraffic[1].codeDeployHook: gone"),
        ("hooks.afterTraffic[0].codeDeployHook: gone", "Hooks.afterTraffic[0].codeDeployHook: gone"),
        ("stopped; see hooks.beforeTraffic[0]", "stopped; see Hooks.PreTraffic"),
    ],
)
def test_a_message_about_a_hook_of_a_deployment_preference_has_its_name(message: str, told: str) -> None:
    hooks = {"PreTraffic": "smoke", "beforeTraffic": [{"lambda": "a"}, {"codeDeployHook": "b"}]}
    assert in_properties(message, {"Hooks": hooks}) == told
    assert in_properties("hooks.beforeTraffic[0]: gone", {"Hooks": "smoke"}) == "Hooks.beforeTraffic[0]: gone"


def test_a_fingerprint_has_all_properties_in_any_order() -> None:
    properties = {"Alias": "checkout:live", "Release": "1"}
    assert fingerprint_of(properties) == fingerprint_of({"Release": "1", "Alias": "checkout:live"})
    for change in ({"Release": "2"}, {"ServiceTimeout": "9"}, {"ServiceToken": "x"}):
        assert fingerprint_of(properties | change) != fingerprint_of(properties)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("60", 60),
        ("60.0", 60),
        ("+60", 60),
        ("-1", -1),
        ("0.05", 0.05),
        (".05", 0.05),
        ("1e-3", 0.001),
        ("1.0E-4", 0.0001),
        ("1E2", 100),
        *((text, None) for text in ("", ".", "e3", "1e", "1e999", "0x10", "1_0", "\u0661", "nan", "inf", " 1")),
    ],
)
def test_text_is_a_number_as_a_template_writes_it(text: str, number: float | None) -> None:
    for fault in ("int_type", "float_type"):
        converted = _converted(fault, text)
        assert (converted, type(converted)) == (number, type(number))
    assert _converted("string_type", text) is None


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, 3600), ({"ServiceTimeout": "600"}, 600), ({"ServiceTimeout": 5}, 5)]
)
def test_a_service_timeout_is_read(given: dict[str, Any], seconds: int) -> None:
    assert service_seconds(given) == seconds


@given(stack=st.text(min_size=1, max_size=128), resource=st.text(min_size=1, max_size=255), request=st.uuids())
def test_the_id_of_a_rollout_is_valid_for_every_stack_and_resource(stack: str, resource: str, request: Any) -> None:
    # A stack's name begins with a letter and has letters, digits and hyphens.
    event = event_of({}, stack_id=f"arn:aws:cloudformation:r:1:stack/a{stack}/1", logical_id=resource)
    assert is_rollout_id(event._replace(request_id=str(request)).rollout_id)
