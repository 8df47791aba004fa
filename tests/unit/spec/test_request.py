"""Requests: what is taken, what is filled in, and how a refusal names field, value and fix."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import RequestRefused
from headgate.spec.request import MIN_CHANCE, RolloutRequest, read_request
from headgate.spec.strategy import MAX_BAKE_SECONDS
from headgate.spec.undo import Promotion, read_undo, undo_rollout
from headgate.wire import MAX_FAULTS, MAX_REQUEST_CHARACTERS
from tests.builders import ROOT, TARGET, alias_of, event, plan_of, request_of

if TYPE_CHECKING:
    from pathlib import Path

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:checkout"
MINIMAL = {"target": TARGET}
ORDERS = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "{revision}"}}
LOST_ORDERS = {"name": "lost orders", "requests": ORDERS, "failures": ORDERS | {"metricName": "LostOrders"}}
LATENCY = {"thresholdsMs": [], "tolerate": 0.0, "warmUp": 0, "action": "rollback"}
"""A guard of latency of which nothing is said."""
LOST_BY_FUNCTION = {"name": "lost orders", "counts": {"lambda": "shop-counts"}}
REQUEST_FILES = [
    path
    for path in (*ROOT.glob("events/*/*.json"), *ROOT.glob("demo/events/*.json"))
    if json.loads(path.read_text("utf-8")).get("detail-type") == "Rollout Requested"
]


def refusal_of(detail: Any) -> str:
    with pytest.raises(RequestRefused) as refusal:
        read_request(detail, "default-id")
    return str(refusal.value)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The full example with one field changed, given as a dotted path."""
    detail: dict[str, Any] = event("rollout_requested")["detail"]
    *parents, name = path.split(".")
    at: Any = detail
    for parent in parents:
        at = at[int(parent)] if parent.isdigit() else at[parent]
    at[name] = value
    return detail


def test_a_target_is_all_that_a_request_must_name() -> None:
    assert read_request(MINIMAL, "e-1").to_wire() == {
        "id": "e-1",
        "target": TARGET,
        "candidate": {"publish": {}},
        "strategy": "Canary10Percent5Minutes",
        "guards": {
            "alarms": [],
            "strictAlarms": False,
            "custom": [],
            "alpha": 0.01,
            "evidence": "telemetry",
            "failuresPerCause": 1.0,
            "noise": 0.0,
            "onShareMismatch": "report",
            "onNoData": "wait",
        },
        "hooks": {stage: [] for stage in ("beforeTraffic", "beforeStep", "afterStep", "afterTraffic", "onRollback")},
        "onFailure": "rollback",
        "onBusy": "wait",
    }


def test_a_hook_gets_five_minutes_and_an_empty_config_where_nothing_is_said() -> None:
    request = read_request(MINIMAL | {"hooks": {"beforeTraffic": [{"lambda": "smoke"}]}}, "e-1")
    assert request.to_wire()["hooks"]["beforeTraffic"] == [{"lambda": "smoke", "timeoutSeconds": 300, "config": {}}]


@pytest.mark.parametrize(
    "hook",
    [
        {"lambda": "smoke", "timeoutSeconds": 60, "config": {"cases": []}},
        {"codeDeployHook": "CodeDeployHook_check", "timeoutSeconds": 60},
        {"ecsTask": {"taskDefinition": "smoke:3", "cluster": "jobs"}, "timeoutSeconds": 900},
        {"stateMachine": "load-test", "timeoutSeconds": 600, "config": {"users": 40}},
        {
            "stateMachine": "arn:aws:states:eu-central-1:123456789012:stateMachine:load_test",
            "timeoutSeconds": 86_400,
            "config": {},
        },
    ],
)
@pytest.mark.parametrize("stage", ["beforeTraffic", "beforeStep", "afterStep", "afterTraffic", "onRollback"])
def test_a_hook_of_any_kind_may_stand_at_any_stage_beside_others(stage: str, hook: dict[str, Any]) -> None:
    other = {"lambda": "other", "timeoutSeconds": 300, "config": {}}
    request = read_request(MINIMAL | {"hooks": {stage: [hook, other, hook]}}, "e-1")
    assert request.to_wire()["hooks"][stage] == [hook, other, hook]


def test_a_request_without_tasks_is_read_without_the_code_that_reads_tasks() -> None:
    code = (
        "import sys; from headgate.spec.request import read_request; "
        f"read_request({MINIMAL | {'hooks': {'beforeStep': [{'lambda': 'smoke'}]}}}, 'e-1'); "
        "assert 'headgate.ecs_tasks.request' not in sys.modules"
    )
    package = ROOT / "layers" / "headgate" / "python"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(package)})


def test_comparing_errors_tolerates_nothing_where_nothing_is_said() -> None:
    taken = read_request(MINIMAL | {"guards": {"errors": {}}}, "e-1").to_wire()["guards"]["errors"]
    assert taken == {"tolerate": 0.0, "action": "rollback"}


@pytest.mark.parametrize(
    ("guards", "filled_in"),
    [
        ({"latency": {}}, {"latency": LATENCY}),
        ({"latency": {"thresholdMs": 250}}, {"latency": {"thresholdMs": 250.0} | LATENCY}),
        ({"errors": {}, "leastRequests": {"count": 500}}, {"leastRequests": {"count": 500, "limitSeconds": 3600}}),
        ({"errors": {}, "promoteEarly": {}}, {"promoteEarly": {"worse": 1.0, "beta": 0.05}}),
        ({"errors": {}, "outcomesPerInvocation": 10}, {"outcomesPerInvocation": 10.0}),
        ({"errors": {}, "failuresPerCause": 4, "noise": 0.5}, {"failuresPerCause": 4.0, "noise": 0.5}),
        ({"errors": {}, "evidence": "cloudwatch"}, {"evidence": "cloudwatch"}),
        (
            {"custom": [LOST_ORDERS]},
            {
                "custom": [
                    {
                        "name": "lost orders",
                        "requests": ORDERS | {"stat": "Sum"},
                        "failures": ORDERS | {"metricName": "LostOrders", "stat": "Sum"},
                        "tolerate": 0.0,
                        "action": "rollback",
                    }
                ]
            },
        ),
        (
            {"custom": [LOST_BY_FUNCTION]},
            {
                "custom": [
                    {
                        "name": "lost orders",
                        "counts": {"lambda": "shop-counts", "config": {}},
                        "tolerate": 0.0,
                        "action": "rollback",
                    }
                ]
            },
        ),
        (
            {
                "custom": [
                    LOST_ORDERS | {"failures": {"expression": "all - kept", "metrics": {"all": ORDERS, "kept": ORDERS}}}
                ],
                "promoteEarly": {"worse": 0.5},
            },
            {"promoteEarly": {"worse": 0.5, "beta": 0.05}},
        ),
    ],
)
def test_guards_are_taken_with_what_is_not_said_filled_in(guards: dict[str, Any], filled_in: dict[str, Any]) -> None:
    taken = request_of(guards=guards).to_wire()["guards"]
    assert {name: taken[name] for name in filled_in} == filled_in
    assert request_of(guards=taken).to_wire()["guards"] == taken


@pytest.mark.parametrize(
    ("guards", "compares", "asks_cloudwatch"),
    [
        ({"alarms": ["errors"]}, False, False),
        ({"alarms": ["errors"], "evidence": "cloudwatch"}, False, False),
        ({"errors": {}}, True, False),
        ({"latency": {}}, True, False),
        ({"latency": {}, "evidence": "cloudwatch"}, True, True),
        ({"custom": [LOST_ORDERS]}, True, True),
        ({"custom": [LOST_BY_FUNCTION]}, True, False),
        ({"custom": [LOST_BY_FUNCTION], "alarms": ["errors"], "evidence": "cloudwatch"}, True, False),
        ({"errors": {}, "custom": [LOST_BY_FUNCTION], "evidence": "cloudwatch"}, True, True),
    ],
)
def test_guards_say_what_they_need(guards: dict[str, Any], compares: bool, asks_cloudwatch: bool) -> None:
    taken = request_of(guards=guards).asked_guards
    assert (taken.compare, taken.ask_cloudwatch) == (compares, asks_cloudwatch)


BY_CLOUDWATCH = {"errors": {}, "evidence": "cloudwatch"}


@pytest.mark.parametrize(
    ("strategy", "guards", "told"),
    [
        (
            {"canary": {"percent": 10, "bakeSeconds": 299}},
            BY_CLOUDWATCH,
            (
                "strategy: steps[0] bakes for 299 s, but CloudWatch counts whole minutes; "
                "bake for at least 300 s, or set guards.evidence to telemetry"
            ),
        ),
        (
            {"steps": [{"weight": 10, "bakeSeconds": 600}, {"weight": 50, "bakeSeconds": 60}]},
            BY_CLOUDWATCH,
            (
                "strategy: steps[1] bakes for 60 s, but CloudWatch counts whole minutes; "
                "bake for at least 300 s, or set guards.evidence to telemetry"
            ),
        ),
        (
            "Linear10PercentEvery1Minute",
            {"errors": {}, "custom": [LOST_ORDERS]},
            (
                "strategy: steps[0] bakes for 60 s, but CloudWatch counts whole minutes; "
                "bake for at least 300 s, or remove the custom guards"
            ),
        ),
        (
            {"canary": {"percent": 10, "bakeSeconds": 299}},
            {"errors": {}, "custom": [LOST_BY_FUNCTION]},
            (
                "strategy: steps[0] bakes for 299 s, but functions count whole minutes; "
                "bake for at least 300 s, or remove the custom guards"
            ),
        ),
    ],
)
def test_a_step_that_is_too_short_for_cloudwatch_is_refused(strategy: Any, guards: Any, told: str) -> None:
    assert refusal_of(MINIMAL | {"strategy": strategy, "guards": guards}) == told


def test_two_hundred_steps_may_have_as_many_guards_as_a_request_takes() -> None:
    orders = [LOST_ORDERS | {"name": f"orders {number}"} for number in range(10)]
    steps = [{"weight": number / 2, "bakeSeconds": 300} for number in range(1, 201)]
    guards = {"errors": {}, "latency": {"thresholdMs": 250}, "custom": orders}
    request = read_request(MINIMAL | {"strategy": {"steps": steps}, "guards": guards}, "unused")
    assert len(request.asked_guards.custom) == 10


@pytest.mark.parametrize(
    ("strategy", "guards"),
    [
        ({"canary": {"percent": 10, "bakeSeconds": 300}}, BY_CLOUDWATCH),
        # Nothing is compared in a step that does not bake, nor at full traffic.
        ({"steps": [{"weight": 10, "bakeSeconds": 0}, {"weight": 100, "bakeSeconds": 60}]}, BY_CLOUDWATCH),
        ("AllAtOnce", BY_CLOUDWATCH),
        ({"canary": {"percent": 10, "bakeSeconds": 1}}, {"errors": {}, "latency": {}}),
        ({"canary": {"percent": 10, "bakeSeconds": 1}}, {"alarms": ["errors"], "evidence": "cloudwatch"}),
    ],
)
def test_a_step_may_be_as_short_as_its_evidence_allows(strategy: Any, guards: Any) -> None:
    assert request_of(strategy=strategy, guards=guards).strategy is not None


def test_a_requests_own_id_comes_before_the_events() -> None:
    assert read_request(MINIMAL | {"id": "mine"}, "the-events").id == "mine"


@pytest.mark.parametrize("file", REQUEST_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_requests_in_events_are_valid(file: Path) -> None:
    detail = json.loads(file.read_text("utf-8"))["detail"]
    assert read_request(detail, "unused").id == detail["id"]


@pytest.mark.parametrize(
    "candidate",
    [
        {"version": "7"},
        {"publish": {}},
        {"publish": {"confirm": "WsdSTC1Q5/0K2sOQF+IejUHwXNScBBDLH21fWlANye4="}},
        {"publish": {"confirm": "5ac7524c" * 8}},
        {"code": {"s3Bucket": "releases", "s3Key": "checkout.zip"}},
        {"code": {"s3Bucket": "releases", "s3Key": "checkout.zip", "s3ObjectVersion": "3"}},
        {"code": {"imageUri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/checkout:42"}},
    ],
)
def test_every_kind_of_candidate_is_taken_as_it_is(candidate: dict[str, Any]) -> None:
    assert request_of(candidate=candidate).to_wire()["candidate"] == candidate


@pytest.mark.parametrize(
    "strategy",
    [
        "CodeDeployDefault.LambdaLinear10PercentEvery1Minute",
        {"canary": {"percent": 2.5, "bakeSeconds": 300}},
        {"linear": {"percent": 20.0, "intervalSeconds": 60}},
        {"steps": [{"weight": 1.0, "bakeSeconds": 600}, {"weight": 100.0, "bakeSeconds": 60}]},
    ],
)
def test_every_kind_of_strategy_is_taken_as_it_is(strategy: Any) -> None:
    assert request_of(strategy=strategy).to_wire()["strategy"] == strategy


def test_a_version_may_come_as_a_number() -> None:
    assert request_of(candidate={"version": 7}).to_wire()["candidate"] == {"version": "7"}


def test_a_function_may_be_named_by_its_arn() -> None:
    by_arn, by_name = alias_of(request_of(target=TARGET | {"function": ARN})), alias_of(request_of())
    assert (by_arn.name, by_arn.account, by_arn.region) == ("checkout", "123456789012", "eu-central-1")
    assert (by_name.name, by_name.account, by_name.region) == ("checkout", None, None)
    assert by_arn.key == by_name.key == "lambda-alias/checkout/live"


@pytest.mark.parametrize("rollout_id", ["a", "checkout-42", "team/checkout:42@main+1=x_y.z", "9" * 128])
def test_an_id_may_be_anything_that_is_readable(rollout_id: str) -> None:
    assert request_of(rollout_id).id == rollout_id


REFUSALS: list[tuple[str, Any, str]] = [
    ("id", "", "id: must be 1 to 128 letters"),
    ("id", "-x", "start with a letter or digit"),
    ("id", "a b", '(given "a b")'),
    ("id", "x" * 129, "id: must be 1 to 128 letters"),
    ("id", "new\nline", "id: must be"),
    ("id", None, "id: must be text (given null)"),
    ("guards", {"errors": {"action": "report"}, "promoteEarly": {}}, "promoteEarly needs a guard that acts"),
    ("guards", {"alarms": ["a"], "leastRequests": {"count": 5}}, "leastRequests needs a guard that compares; add"),
    ("guards", {"alarms": ["a"], "onShareMismatch": "pause"}, "onShareMismatch pause needs a guard that counts"),
    ("guards.errors", {"action": "stop"}, "guards.errors.action: must be 'rollback', 'pause' or 'report'"),
    ("target", {}, "target.kind: is missing; add it; target.function: is missing; add it; target.alias: is missing"),
    (
        "target",
        "checkout",
        'target: kind must be "lambda-alias", "event-source" or "ecs-service", as in {"kind": "lambda-alias", "func',
    ),
    ("target", None, '"alias": "live"} (given null)'),
    ("target", {"mapping": "m-1"}, "target.kind: is missing; add it; target.mapping: must be the UUID of the mapping"),
    (
        "target.kind",
        "ecs-task",
        'target: kind must be "lambda-alias", "event-source" or "ecs-service", as in {"kind": "lambda-alias", "funct',
    ),
    (
        "target.function",
        f"{ARN}:live",
        "target.function: must be the name of a function, or its ARN without a version or a",
    ),
    ("target.function", "check out", "target.function: must be the name of a function"),
    ("target.alias", "7", "target.alias: must be the name of an alias; a version or $LATEST cannot be a target (given"),
    ("target.alias", "$LATEST", "target.alias: must be the name of an alias"),
    ("target.alais", "live", "target.alais: is not a known field; did you mean alias?"),
    ("candidate", {}, 'candidate: give {"version": "7"}, {"publish": {}} or {"code": {...}}; for an ECS service, {'),
    ("candidate", "7", 'candidate: give {"version": "7"}'),
    ("candidate.version", "$LATEST", 'to roll out $LATEST, give {"publish": {}} (given "$LATEST")'),
    ("candidate.version", True, "candidate.version: must be text (given true)"),
    ("candidate.publish", {}, "candidate.publish: is not a known field"),
    ("candidate", {"code": {"s3Bucket": "releases"}}, "candidate.code.s3Key: is missing; add it"),
    ("candidate", {"code": {"imageUri": "x", "s3Key": "y"}}, "candidate.code.s3Key: is not a known field"),
    (
        "candidate",
        {"publish": {"confirm": "abc"}},
        "candidate.publish.confirm: must be the CodeSha256 of $LATEST as Lambda shows it, in base64 (44 characters)",
    ),
    ("candidate", {"publish": {"now": True}}, "candidate.publish.now: is not a known field; remove it"),
    ("strategy", "Canary", "strategy: not a preset; use a name like Canary10Percent5Minutes"),
    ("strategy", {}, "strategy: give the name of a preset"),
    (
        "strategy",
        "canary10percent5MINUTES",
        "not a preset: capital letters count; did you mean Canary10Percent5Minutes?",
    ),
    ("strategy", "codedeploydefault.lambdaallatonce", "did you mean CodeDeployDefault.LambdaAllAtOnce?"),
    (
        "strategy",
        {"canary": {"percent": 10, "bakeSeconds": 60}, "linear": {"percent": 10, "intervalSeconds": 60}},
        "strategy.linear: is not a known field beside canary, because they are two shapes; give one of the two (given",
    ),
    (
        "candidate",
        {"version": "7", "publish": {}},
        "candidate.publish: is not a known field beside version, because they are two shapes; give one of the two (g",
    ),
    ("target.kind", "lamda-alias", '"alias": "live"}; did you mean lambda-alias? (given {'),
    ("target.kind", "Event_Source", '"alias": "live"}; did you mean event-source? (given {'),
    ("id", "", "start with a letter or digit, or leave it out (given"),
    ("target.alias", "prüfung ✓", '(given "prüfung ✓")'),
    ("target.alias", "\ud800", '(given "\\ud800")'),
    ("strategy.canary.percent", 150, "strategy.canary.percent: must be below 100 (given 150)"),
    ("strategy.canary.bakeseconds", 1, "strategy.canary.bakeseconds: is not a known field; did you mean bakeSeconds?"),
    (
        "strategy",
        {"steps": [{"weight": 10, "bakeSeconds": "soon"}]},
        "strategy.steps[0].bakeSeconds: must be a whole number (given",
    ),
    ("strategy", {"steps": [{"weight": 10, "bake": 1, "bakeSeconds": 1}]}, "strategy.steps[0].bake: is not a known"),
    ("guards.alarms", "checkout-errors", "guards.alarms: must be a list"),
    (
        "guards.alarms",
        ["arn:aws:cloudwatch:eu-central-1:123456789012:alarm:checkout: errors"],
        "guards.alarms[0]: give the name of the alarm, not its ARN: checkout: errors (given",
    ),
    ("guards.alarms", [""], "guards.alarms[0]: must have at least 1 character"),
    ("guards.alarms", [str(n) for n in range(101)], "guards.alarms: must have at most 90 items"),
    ("guards.alpha", 0, "guards.alpha: must be above 0 (given 0)"),
    ("guards.alpha", 5e-324, "guards.alpha: must be at least 1e-12 (given 4.94066e-324)"),
    (
        "guards",
        {"errors": {}, "promoteEarly": {"beta": 9e-13}},
        "guards.promoteEarly.beta: must be at least 1e-12 (given",
    ),
    ("guards.alpha", 0.9, "guards.alpha: must be at most 0.5 (given 0.9)"),
    ("guards.alpha", float("nan"), "guards.alpha: "),
    (
        "guards.errors",
        {"tolerate": -1},
        "guards.errors.tolerate: must be at least 0 (given -1)",
    ),
    ("guards.errors", {"tolerate": float("inf")}, "guards.errors.tolerate: must be a finite number"),
    ("guards.errors", {"tolerance": 1}, "guards.errors.tolerance: is not a known field; did you mean tolerate?"),
    ("guards.evidence", "guesswork", "guards.evidence: must be 'telemetry' or 'cloudwatch' (given \"guessw"),
    (
        "guards.latency",
        {"thresholdMs": 0},
        "guards.latency.thresholdMs: must be at least 0.001",
    ),
    ("guards.latency", {"thresholdMs": 900_001}, "guards.latency.thresholdMs: must be at most 9"),
    ("guards.latency", {"thresholdMs": "250"}, "guards.latency.thresholdMs: must be a number, without quotes (given"),
    ("guards.latency", {"thresholdMs": float("nan")}, "guards.latency.thresholdMs: "),
    ("guards.latency", {"tolerate": -0.1}, "guards.latency.tolerate: must be at least 0"),
    ("guards.latency", {"threshold": 250}, "guards.latency.threshold: is not a known field; did you mean thresholdMs?"),
    ("guards.outcomesPerInvocation", 0, "guards.outcomesPerInvocation: must be at least 1 (given 0)"),
    ("guards.outcomesPerInvocation", "10", "guards.outcomesPerInvocation: must be a number"),
    ("guards.failuresPerCause", 0.5, "guards.failuresPerCause: must be at least 1 (given 0.5)"),
    ("guards.failuresPerCause", 1_001, "guards.failuresPerCause: must be at most 1000"),
    ("guards.failuresPerCause", "4", "guards.failuresPerCause: must be a number"),
    ("guards.failurePerCause", 4, "guards.failurePerCause: is not a known field; did you mean failuresPerCause?"),
    ("guards.noise", -0.1, "guards.noise: must be at least 0 (given -0.1)"),
    ("guards.noise", 11, "guards.noise: must be at most 10 (given 11)"),
    ("guards.noise", float("inf"), "guards.noise: "),
    ("guards.promoteEarly", True, "guards.promoteEarly: must be an object"),
    ("guards.promoteEarly", {"worse": 0}, "guards.promoteEarly.worse: must be above 0 (given 0)"),
    ("guards.promoteEarly", {"worse": 101}, "guards.promoteEarly.worse: must be at most 100"),
    (
        "guards.promoteEarly",
        {"beta": 0},
        "guards.promoteEarly.beta: must be above 0 (given 0)",
    ),
    ("guards.promoteEarly", {"beta": 0.6}, "guards.promoteEarly.beta: must be at most 0.5"),
    ("guards.promoteEarly", {"alpha": 0.1}, "guards.promoteEarly.alpha: is not a known field"),
    ("guards.promote_early", {}, "guards.promote_early: is not a known field; did you mean promoteEarly?"),
    (
        "guards",
        {"alarms": ["checkout-errors"], "promoteEarly": {}},
        "guards: promoteEarly needs a guard that compares; add errors, latency or custom (given {",
    ),
    ("guards.custom", LOST_ORDERS, "guards.custom: must be a list"),
    ("guards.custom", [LOST_ORDERS] * 11, "guards.custom: must have at most 10 items"),
    ("guards.custom", [LOST_ORDERS, LOST_ORDERS], "guards: custom: each guard needs a unique name"),
    ("guards.custom", [LOST_ORDERS | {"name": ""}], "guards.custom[0].name: must have at least 1 character"),
    ("guards.custom", [{"name": "x", "failures": ORDERS}], "guards.custom[0].requests: is missing; add it"),
    ("guards.custom", [LOST_ORDERS | {"tolerate": 101}], "guards.custom[0].tolerate: must be at most 100"),
    ("guards.custom", [LOST_ORDERS | {"requests": {}}], "guards.custom[0].requests.namespace: is missing; add it"),
    (
        "guards.custom",
        [LOST_ORDERS | {"requests": ORDERS | {"metric": "x"}}],
        "guards.custom[0].requests.metric: is not a known field; did you mean metric",
    ),
    (
        "guards.custom",
        [LOST_ORDERS | {"failures": {"expression": "a", "metrics": {}}}],
        "guards.custom[0].failures.metrics: must have at least 1 item",
    ),
    (
        "guards.custom",
        [LOST_ORDERS | {"failures": {"expression": "A", "metrics": {"A": ORDERS}}}],
        "guards.custom[0].failures.metrics.A: must be a lowercase letter, then letters, digits and _ (given",
    ),
    (
        "guards.custom",
        [LOST_ORDERS | {"failures": ORDERS | {"dimensions": {"Version": "7"}}}],
        "guards.custom[0]: failures is the same for both revisions; put {revision} into a dimension's value (given {",
    ),
    (
        "guards.custom",
        [LOST_ORDERS | {"counts": {"lambda": "shop-counts"}}],
        "guards.custom[0].requests: is not a known field beside counts, because they are two shapes; give one of",
    ),
    ("guards.custom", [{"name": "x", "counts": {}}], "guards.custom[0].counts.lambda: is missing; add it"),
    ("guards.custom", [{"name": "x", "counts": "shop-counts"}], "guards.custom[0].counts: must be an object"),
    ("guards.custom", [{"counts": {"lambda": "f"}}], "guards.custom[0].name: is missing; add it"),
    (
        "guards.custom",
        [{"name": "x", "counts": {"lambda": "f", "timeout": 3}}],
        "guards.custom[0].counts.timeout: is not a known field",
    ),
    ("guards.custom", [{"name": "x"}], "guards.custom[0].requests: is missing; add it"),
    ("guards.onNoData", "shrug", "guards.onNoData: must be 'wait', 'fail' or 'pass' (given \"shrug\")"),
    ("guards.alrams", [], "guards.alrams: is not a known field; did you mean alarms? (given [])"),
    ("hooks.beforeTrafic", [], "hooks.beforeTrafic: is not a known field; did you mean beforeTraffic?"),
    ("hooks.beforeTraffic", [{}], "hooks.beforeTraffic[0]: name exactly one of {"),
    ("hooks.beforeTraffic", ["smoke"], "hooks.beforeTraffic[0]: name exactly one of {"),
    (
        "hooks.beforeTraffic",
        [{"lambda": "smoke", "stateMachine": "load-test"}],
        'and {"stateMachine": "smoke"} (given {"lambda": "smoke", "stateMachine": "load-test"})',
    ),
    ("hooks.beforeTraffic", [{"lambda": "a", "codeDeployHook": "b"}], "hooks.beforeTraffic[0]: name exactly one of {"),
    ("hooks.beforeTraffic", [{"codeDeployHook": ""}], "hooks.beforeTraffic[0].codeDeployHook: "),
    (
        "hooks.beforeTraffic",
        [{"codeDeployHook": "check", "config": {}}],
        "hooks.beforeTraffic[0].config: is not a known field",
    ),
    ("hooks.beforeTraffic", [{"ecs_task": {}}], "hooks.beforeTraffic[0]: name exactly one of {"),
    ("hooks.onRollback", [{"lambda": "x"}] * 51, "hooks.onRollback: must have at most 50 items"),
    (
        "hooks.beforeTraffic",
        [{"lambda": "smoke", "config": {"order": [0, {"id": 2**53}]}}],
        "config.order[1].id: is an integer beyond 9007199254740991, which JSON parsers round; send it as text (given",
    ),
    (
        "hooks.beforeTraffic",
        [{"lambda": "smoke", "config": {"huge": -(10**400)}}],
        "hooks.beforeTraffic[0].config.huge: is an integer beyond 9007199254740991",
    ),
    ("hooks.beforeStep", [{"ecsTask": "smoke:3"}], "hooks.beforeStep[0].ecsTask: must be an object"),
    ("hooks.beforeStep", [{"ecsTask": {}}], "hooks.beforeStep[0].ecsTask: taskDefinition: is missing; add it"),
    (
        "hooks.beforeStep",
        [{"lambda": "smoke"}, {"ecsTask": {"taskDefinition": "smoke", "coutn": 2}}],
        "hooks.beforeStep[1].ecsTask: coutn: is not a known field; did you mean count? (given 2)",
    ),
    (
        "hooks.afterTraffic",
        [{"ecsTask": {"taskDefinition": "smoke", "launchType": "FARGATE", "placementStrategy": [{"type": "random"}]}}],
        "hooks.afterTraffic[0].ecsTask: placementStrategy: random is not for Fargate, which places tasks itself",
    ),
    (
        "hooks.beforeStep",
        [{"ecsTask": {"taskDefinition": "smoke"}, "config": {}}],
        "hooks.beforeStep[0].config: is not a known field; remove it (given {})",
    ),
    (
        "hooks.beforeStep",
        [{"ecsTask": {"taskDefinition": "smoke"}, "timeoutSeconds": 0}],
        "hooks.beforeStep[0].timeoutSeconds: must be at least 1",
    ),
    (
        "hooks.beforeStep",
        [{"stateMachine": ""}],
        "hooks.beforeStep[0].stateMachine: must be the name of a state machine",
    ),
    (
        "hooks.beforeStep",
        [{"stateMachine": "arn:aws:states:eu-central-1:123456789012:stateMachine:load-test:live"}],
        "must be the name of a state machine, or its ARN without a version or alias (given",
    ),
    (
        "hooks.beforeStep",
        [{"stateMachine": "load*"}],
        "hooks.beforeStep[0].stateMachine: must be the name of a state machine",
    ),
    ("hooks.beforeTraffic.0.timeoutSeconds", 0, "hooks.beforeTraffic[0].timeoutSeconds: must be at least 1"),
    ("hooks.beforeTraffic.0.timeoutSeconds", 86_401, "must be at most 86400 (given 86401)"),
    ("hooks.beforeTraffic.0.timeout", 60, "hooks.beforeTraffic[0].timeout: is not a known field; did you mean time"),
    ("hooks.beforeTraffic.0.config", [], "hooks.beforeTraffic[0].config: must be an object"),
    ("onFailure", "pray", 'onFailure: give "rollback" or {"pause": {"at": "zero", "limitSeconds": 3600'),
    ("onFailure", "pause", '"then": "rollback"}} (given "pause")'),
    (
        "onFailure",
        7,
        'onFailure: give "rollback" or {"pause": {"at": "zero", "limitSeconds": 3600, "then": "rollback"}}',
    ),
    ("onFailure", {}, "onFailure.pause: is missing; add it"),
    ("onFailure", {"pause": None}, "onFailure.pause: must be an object"),
    (
        "onFailure",
        {"pause": {"at": "half"}},
        "onFailure.pause.at: must be 'current' or 'zero' (given \"half\")",
    ),
    ("onFailure", {"pause": {"then": "pray"}}, "onFailure.pause.then: must be 'rollback' or 'promote'"),
    (
        "onFailure",
        {"pause": {"limitSeconds": 0}},
        "onFailure.pause.limitSeconds: must be at least 1",
    ),
    ("onFailure", {"pause": {"limitSeconds": "60"}}, "onFailure.pause.limitSeconds: must be a whole number"),
    ("onFailure", {"pause": {"limitSeconds": MAX_BAKE_SECONDS + 1}}, "must be at most"),
    (
        "onFailure",
        {"pause": {"limitSecond": 60}},
        "onFailure.pause.limitSecond: is not a known field; did you mean limitSeconds?",
    ),
    ("onFailure", {"pause": {"limit_seconds": 60}}, "onFailure.pause.limit_seconds: is not a known field; did you"),
    ("on_failure", "rollback", "on_failure: is not a known field; did you mean onFailure?"),
    ("on_busy", "wait", "on_busy: is not a known field; did you mean onBusy?"),
    ("guards.strict_alarms", True, "guards.strict_alarms: is not a known field; did you mean strictAlarms?"),
    ("strategy", {"canary": {"percent": 5, "bake_seconds": 1}}, "strategy.canary.bakeSeconds: is missing; add it"),
    ("candidate", {"code": {"s3_bucket": "releases", "s3_key": "k"}}, "candidate.code.s3Bucket: is missing; add it"),
    ("candidate", {"code": {"image_uri": "x"}}, "candidate.code.imageUri: is missing; add it"),
    ("hooks", {"beforeTraffic": [{"lambda_": "smoke"}]}, "hooks.beforeTraffic[0]: name exactly one of {"),
    ("undoOf", "a b", "undoOf: must be 1 to 128 letters, digits"),
    ("strategy.canary.percent", "10", "strategy.canary.percent: must be a number"),
    ("strategy.canary.percent", True, "strategy.canary.percent: must be a number (given true)"),
    ("strategy.canary.bakeSeconds", "300", "strategy.canary.bakeSeconds: must be a whole number"),
    ("strategy.canary.bakeSeconds", 300.0, "strategy.canary.bakeSeconds: must be a whole number"),
    ("guards.alpha", "0.01", "guards.alpha: must be a number"),
    ("guards.errors", {"tolerate": "0.5"}, "guards.errors.tolerate: must be a number"),
    ("guards.errors", {"tolerate": True}, "guards.errors.tolerate: must be a number (given true)"),
    (
        "hooks.beforeTraffic.0.timeoutSeconds",
        "60",
        "hooks.beforeTraffic[0].timeoutSeconds: must be a whole number, without quotes",
    ),
    ("onBusy", "queue", "onBusy: must be 'wait' or 'refuse' (given \"queue\")"),
    ("onBusy", "Refse", "onBusy: must be 'wait' or 'refuse'; did you mean refuse? (given \"Refse\")"),
    ("onbusy", "wait", "onbusy: is not a known field; did you mean onBusy?"),
]


@pytest.mark.parametrize(
    ("path", "value", "why"), REFUSALS, ids=[f"{path}-{n}" for n, (path, *_) in enumerate(REFUSALS)]
)
def test_a_refusal_names_field_value_and_fix(path: str, value: Any, why: str) -> None:
    assert why in refusal_of(changed(path, value))


DAY = {"hours": 24, "then": "undo"}
CONSUMER = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2"}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "none of guards can without a second revision; add guards.alarms"),
        ({"guards": "none"}, "afterPromotion: nothing can speak after the promotion"),
        ({"guards": {"errors": {}}}, "guards.errors cannot without a second revision; add guards.alarms"),
        ({"target": CONSUMER, "guards": {"source": {"deadLetters": 0}}}, "guards.source cannot without"),
        (
            {"target": CONSUMER, "guards": {"source": {"failedEvents": 0, "action": "report"}}},
            "guards.source cannot without",
        ),
        ({"guards": {"alarms": ["a"]}, "undoOf": "b"}, "undo is not possible for the undo of b: it would bring back"),
        ({"guards": {"alarms": ["a"]}, "afterPromotion": {"hours": 0}}, "afterPromotion.hours: must be"),
        ({"guards": {"alarms": ["a"]}, "afterPromotion": {"hours": 721}}, "afterPromotion.hours: must be"),
    ],
)
def test_a_watch_in_which_nothing_can_speak_is_refused(fields: dict[str, Any], why: str) -> None:
    assert why in refusal_of(MINIMAL | {"afterPromotion": DAY} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"guards": {"alarms": ["a"], "errors": {}}},
        {"target": CONSUMER, "guards": {"source": {"deadLetters": 0, "failedEvents": 0}}},
        {
            "target": CONSUMER,
            "guards": {"source": {"failedEvents": 0, "action": "report"}},
            "afterPromotion": {"hours": 0.5, "then": "report"},
        },
        {"guards": {"alarms": ["a"]}, "undoOf": "b", "afterPromotion": {"hours": 1}},
    ],
)
def test_a_watch_in_which_something_can_speak_is_taken(fields: dict[str, Any]) -> None:
    asked = read_request(MINIMAL | {"afterPromotion": DAY} | fields, "a").after_promotion
    assert asked is not None
    assert asked.hours > 0


@pytest.mark.parametrize("detail", [None, [], "checkout", 7])
def test_what_is_no_object_is_refused(detail: Any) -> None:
    assert refusal_of(detail) == "the request: must be a JSON object with at least a target"


def test_every_fault_is_named_at_once() -> None:
    told = refusal_of({"target": TARGET | {"alias": "7"}, "onBusy": "queue", "colour": "green"})
    assert [fault.split(":")[0] for fault in told.split("; ") if ":" in fault] == ["target.alias", "onBusy", "colour"]


def test_a_long_value_is_cut_in_a_refusal() -> None:
    assert len(refusal_of(MINIMAL | {"colour": "x" * 10_000})) < 300


def test_many_faults_are_told_in_part() -> None:
    told = refusal_of(MINIMAL | {f"colour{n}": "green" for n in range(30)})
    assert told.count("is not a known field") == MAX_FAULTS
    assert told.endswith("; and 20 more")


def test_a_request_may_be_so_large_and_no_larger() -> None:
    def sized(characters: int) -> dict[str, Any]:
        hook = {"lambda": "smoke", "config": {"text": ""}}
        detail = MINIMAL | {"hooks": {"beforeTraffic": [hook]}}
        hook["config"] = {"text": "x" * (characters - len(json.dumps(detail)))}
        return detail

    assert read_request(sized(MAX_REQUEST_CHARACTERS), "e-1").id == "e-1"
    told = refusal_of(sized(MAX_REQUEST_CHARACTERS + 1))
    assert told.startswith(
        f"the request: is {MAX_REQUEST_CHARACTERS + 1} characters long; the limit is {MAX_REQUEST_CHARACTERS}; "
        "shorten hooks, which has 49"
    )


def test_a_whole_event_is_refused_with_the_fix_alone() -> None:
    with pytest.raises(RequestRefused, match=r"^the request: is a whole event; give the content of its detail alone$"):
        read_request({"detail-type": "Rollout Requested", "source": "ci", "detail": {"target": TARGET}}, "e-1")


def test_what_links_an_execution_to_the_one_that_started_it_is_no_part_of_a_request() -> None:
    link = {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:eu-central-1:123456789012:execution:a:b"}
    assert read_request(MINIMAL | link, "e-1") == read_request(MINIMAL, "e-1")


def test_a_failure_rolls_back_or_waits_for_a_day_where_no_more_is_said() -> None:
    plain, pausing = plan_of(), plan_of(onFailure={"pause": {}})
    assert (plain.pauses_on_failure, pausing.pauses_on_failure) == (False, True)
    assert plain.pause.to_wire() == pausing.pause.to_wire()
    assert pausing.pause.to_wire() == {"at": "current", "limitSeconds": 86_400, "then": "rollback"}


def test_a_plan_says_how_long_an_operator_is_waited_for() -> None:
    wish = {"at": "zero", "limitSeconds": 60, "then": "promote"}
    plan = plan_of(onFailure={"pause": wish})
    assert (plan.pauses_on_failure, plan.pause.to_wire()) == (True, wish)


class TestUndo:
    LAST: ClassVar = Promotion("checkout-42", "6")

    def test_it_goes_back_to_what_was_stable_all_at_once(self) -> None:
        request = undo_rollout(read_undo({"target": TARGET}, "e-1"), self.LAST)
        assert (request.id, request.undo_of) == ("e-1", "checkout-42")
        assert (request.to_wire()["candidate"], request.strategy) == ({"version": "6"}, "AllAtOnce")
        assert request.guards == "none"

    def test_it_may_name_what_it_takes_back(self) -> None:
        asked = read_undo({"id": "mine", "target": TARGET, "rolloutId": "checkout-42"}, "e-1")
        assert undo_rollout(asked, self.LAST).id == "mine"

    def test_something_else_that_was_promoted_since_is_left_alone(self) -> None:
        asked = read_undo({"target": TARGET, "rolloutId": "checkout-41"}, "e-1")
        with pytest.raises(
            RequestRefused, match=r"checkout-41 was not promoted last; checkout-42 was; .*give checkout"
        ):
            undo_rollout(asked, self.LAST)

    def test_an_undo_is_taken_back_only_by_name(self) -> None:
        last = Promotion("undo-1", "7", undo_of="checkout-42")
        why = (
            "rolloutId: is missing, and the last promotion on lambda-alias/checkout/live is already an undo: undo-1 "
            "took back checkout-42; to undo that undo, so that version 7 serves again, give undo-1"
        )
        with pytest.raises(RequestRefused, match=f"^{why}$"):
            undo_rollout(read_undo({"target": TARGET}, "e-1"), last)
        named = undo_rollout(read_undo({"target": TARGET, "rolloutId": "undo-1"}, "e-1"), last)
        assert (named.undo_of, named.to_wire()["candidate"]) == ("undo-1", {"version": "7"})

    def test_what_is_undone_already_is_not_undone_again(self) -> None:
        asked = read_undo({"target": TARGET, "rolloutId": "checkout-42"}, "e-1")
        with pytest.raises(
            RequestRefused, match=r"^rolloutId: checkout-42 is already undone by undo-1; .*give undo-1$"
        ):
            undo_rollout(asked, Promotion("undo-1", "7", undo_of="checkout-42"))

    def test_an_id_that_is_neither_of_both_is_not_answered_with_bringing_back_what_was_undone(self) -> None:
        # GIVEN an undo as the last promotion, and a request that mistypes the id
        asked = read_undo({"target": TARGET, "rolloutId": "checkuot-42"}, "e-1")
        with pytest.raises(RequestRefused) as refused:
            undo_rollout(asked, Promotion("undo-1", "7", "checkout-42"))
        # THEN the answer says what the undo of an undo would do
        assert str(refused.value) == (
            "rolloutId: checkuot-42 was not promoted last; undo-1 was, which took back checkout-42; only to undo that "
            "undo, so that version 7 serves again, give undo-1"
        )

    def test_there_may_be_nothing_to_undo(self) -> None:
        with pytest.raises(RequestRefused, match="nothing was promoted on lambda-alias/checkout/live, so there is"):
            undo_rollout(read_undo({"target": TARGET}, "e-1"), None)

    @pytest.mark.parametrize(
        ("detail", "why"),
        [
            (None, "the request: must be a JSON object with at least a target"),
            ([], "the request: must be a JSON object with at least a target"),
            ({}, "target: is missing; add it"),
            ({"target": TARGET, "id": "a b"}, "id: must be 1 to 128 letters"),
            ({"target": TARGET, "rollout_id": "x"}, "rollout_id: is not a known field; did you mean rolloutId?"),
            ({"target": TARGET, "candidate": {"publish": {}}}, "candidate: is not a known field"),
            ({"target": TARGET, "id": "x" * MAX_REQUEST_CHARACTERS}, f"the limit is {MAX_REQUEST_CHARACTERS}"),
        ],
    )
    def test_a_refusal_names_field_value_and_fix(self, detail: Any, why: str) -> None:
        with pytest.raises(RequestRefused) as refusal:
            read_undo(detail, "e-1")
        assert why in str(refusal.value)


def test_a_plan_carries_the_request_and_the_alarms_that_fire_already() -> None:
    plan = plan_of(guards={"alarms": ["a", "b"]}, firing=["b"])
    assert (plan.rollout_id, plan.target, plan.firing) == ("checkout-42", request_of().target, ["b"])
    assert plan.bake_seconds == 120
    assert type(plan).model_validate(json.loads(json.dumps(plan.to_wire()))) == plan


names = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
aliases = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_-]{0,127}", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
seconds = {"timeoutSeconds": st.integers(1, 86_400)}
told = {"config": st.dictionaries(st.text(max_size=5), json_values, max_size=3), **seconds}
tasks = st.fixed_dictionaries(
    {"taskDefinition": names}, optional={"cluster": names, "count": st.integers(1, 10), "environment": st.just({})}
)
hooks = st.lists(
    st.one_of(
        st.fixed_dictionaries({"lambda": names}, optional=told),
        st.fixed_dictionaries({"codeDeployHook": names}, optional=seconds),
        st.fixed_dictionaries({"stateMachine": names}, optional=told),
        st.fixed_dictionaries({"ecsTask": tasks}, optional=seconds),
    ),
    max_size=2,
)
requests = st.fixed_dictionaries(
    {"target": st.fixed_dictionaries({"kind": st.just("lambda-alias"), "function": names, "alias": aliases})},
    optional={
        "id": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,127}", fullmatch=True),
        "candidate": st.one_of(
            st.integers(1).map(lambda n: {"version": str(n)}),
            st.just({"publish": {}}),
            st.just({"publish": {"confirm": "WsdSTC1Q5/0K2sOQF+IejUHwXNScBBDLH21fWlANye4="}}),
            st.just({"code": {"s3Bucket": "releases", "s3Key": "k"}}),
            st.just({"code": {"imageUri": "repository:tag"}}),
        ),
        "strategy": st.one_of(
            st.sampled_from(["AllAtOnce", "Canary5Percent1Hour", "Linear12.5PercentEvery30Seconds"]),
            st.builds(
                lambda p, s: {"canary": {"percent": p, "bakeSeconds": s}},
                st.floats(0.0001, 100, exclude_max=True),
                st.integers(0, 3600),
            ),
        ),
        "guards": st.fixed_dictionaries(
            {},
            optional={
                "alarms": st.lists(st.text(min_size=1, max_size=5), max_size=3),
                "strictAlarms": st.booleans(),
                "errors": st.builds(lambda t: {"tolerate": t}, st.floats(0, 100)),
                "alpha": st.floats(MIN_CHANCE, 0.5),
                "onNoData": st.sampled_from(["wait", "fail", "pass"]),
                "latency": st.builds(lambda ms: {"thresholdMs": ms}, st.floats(0.001, 900_000)) | st.just({}),
                "failuresPerCause": st.floats(1, 1000),
                "outcomesPerInvocation": st.floats(1, 1_000_000),
                "noise": st.floats(0, 10),
            },
        ),
        "hooks": st.fixed_dictionaries({}, optional={"beforeTraffic": hooks, "onRollback": hooks}),
        "onBusy": st.sampled_from(["wait", "refuse"]),
        "onFailure": st.just("rollback")
        | st.fixed_dictionaries(
            {},
            optional={
                "at": st.sampled_from(["current", "zero"]),
                "limitSeconds": st.integers(1, MAX_BAKE_SECONDS),
                "then": st.sampled_from(["rollback", "promote"]),
            },
        ).map(lambda pause: {"pause": pause}),
    },
)


@given(requests)
def test_a_request_survives_the_way_over_the_wire(detail: dict[str, Any]) -> None:
    request = read_request(detail, "default-id")
    assert isinstance(request, RolloutRequest)
    assert read_request(json.loads(json.dumps(request.to_wire())), "another-id") == request
