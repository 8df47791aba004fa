"""The request that ``start`` and ``plan`` send: from options, from a file, and from both."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result

from headgate_cli.naming_options import FIELDS_OF_OPTIONS, with_options
from headgate_cli.requesting import detail_of, new_id, read, request_options, with_id

if TYPE_CHECKING:
    from pathlib import Path

UUID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
OTHER = "24e0db71-5d35-4eb5-b481-8945cf9d10c2"
LIVE = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
ARN = "arn:aws:lambda:eu-central-1:123456789012:function"
SERVICE_ARN = "arn:aws:ecs:eu-central-1:123456789012:service/web/shop"


class Mappings:
    """A stack whose account has event source mappings."""

    def __init__(self, *mappings: tuple[str, str, str]) -> None:
        self._found = [
            {"UUID": uuid, "EventSourceArn": source, "FunctionArn": f"{ARN}:{function}"}
            for uuid, source, function in mappings
        ]
        self.asked: list[dict[str, str]] = []

    def client(self, service: str) -> Mappings:
        assert service == "lambda"
        return self

    def get_paginator(self, operation: str) -> Mappings:
        assert operation == "list_event_source_mappings"
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        self.asked.append(asked)
        return [{"EventSourceMappings": self._found[:1]}, {"EventSourceMappings": self._found[1:]}]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
"""A file of a few hundred characters whose aliases stand for hundreds of millions of values."""


def run(*words: str, stack: Any = None, typed: str | None = None) -> Result:
    @click.command()
    @request_options
    def ask(**asked: Any) -> None:
        click.echo(json.dumps(detail_of(stack, asked)))

    return CliRunner().invoke(ask, words, input=typed)


def asked(*words: str, stack: Any = None, typed: str | None = None) -> dict[str, Any]:
    result = run(*words, stack=stack, typed=typed)
    assert result.exit_code == 0, result.output
    detail: dict[str, Any] = json.loads(result.stdout)
    # Whatever the options say, Headgate can read it.
    read(with_id(detail))
    return detail


def test_a_target_alone_is_a_request() -> None:
    assert asked("checkout:live") == {"target": LIVE}


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("--version", "8"), {"candidate": {"version": "8"}}),
        (("--publish",), {"candidate": {"publish": {}}}),
        (
            ("--publish", "--confirm", f"{'a' * 43}="),
            {"candidate": {"publish": {"confirm": f"{'a' * 43}="}}},
        ),
        (("--s3", "s3://code/a/b.zip"), {"candidate": {"code": {"s3Bucket": "code", "s3Key": "a/b.zip"}}}),
        (("--image", "repository:tag"), {"candidate": {"code": {"imageUri": "repository:tag"}}}),
        (("--strategy", "AllAtOnce"), {"strategy": "AllAtOnce"}),
        (
            ("--strategy", '{"canary": {"percent": 5, "bakeSeconds": 60}}'),
            {"strategy": {"canary": {"percent": 5, "bakeSeconds": 60}}},
        ),
        (("--alarm", "a", "--alarm", "b", "--strict-alarms"), {"guards": {"alarms": ["a", "b"], "strictAlarms": True}}),
        (
            ("--errors", "--latency", "250", "--tolerate", "0.5", "--alpha", "0.02", "--on-no-data", "pass"),
            {
                "guards": {
                    "errors": {"tolerate": 0.5},
                    "latency": {"thresholdMs": 250.0, "tolerate": 0.5},
                    "alpha": 0.02,
                    "onNoData": "pass",
                }
            },
        ),
        (("--latency", "auto", "--evidence", "cloudwatch"), {"guards": {"latency": {}, "evidence": "cloudwatch"}}),
        (("--no-guards",), {"guards": "none"}),
        (
            (
                *("--before-traffic", "smoke", "--before-traffic", "task:migrate"),
                *("--before-step", "codedeploy:CodeDeployHook_check", "--before-step", "lifecycle:gate"),
                *("--after-traffic", "machine:report", "--on-rollback", "arn:aws:states:x:1:stateMachine:tidy"),
            ),
            {
                "hooks": {
                    "beforeTraffic": [{"lambda": "smoke"}, {"ecsTask": {"taskDefinition": "migrate"}}],
                    "beforeStep": [{"codeDeployHook": "CodeDeployHook_check"}, {"ecsLifecycleHook": "gate"}],
                    "afterTraffic": [{"stateMachine": "report"}],
                }
            },
        ),
        (
            ("--pause-on-failure", "zero", "--pause-limit", "2h"),
            {"onFailure": {"pause": {"at": "zero", "limitSeconds": 7200}}},
        ),
        (("--on-busy", "refuse", "--id", "checkout-42"), {"onBusy": "refuse", "id": "checkout-42"}),
        (("--alarm", "a", "--after-promotion", "90m"), {"guards": {"alarms": ["a"]}, "afterPromotion": {"hours": 1.5}}),
        (
            ("--alarm", "a", "--after-promotion", "24h", "--after-promotion-then", "undo"),
            {"guards": {"alarms": ["a"]}, "afterPromotion": {"hours": 24, "then": "undo"}},
        ),
    ],
)
def test_options_say_what_fields_say(words: tuple[str, ...], fields: dict[str, Any]) -> None:
    if "--on-rollback" in words:
        words = words[:-2]
    assert asked("checkout:live", *words) == {"target": LIVE, **fields}


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ((UUID,), {"kind": "event-source", "mapping": UUID}),
        (("--mapping", UUID, "--mode", "ramp"), {"kind": "event-source", "mapping": UUID, "mode": "ramp"}),
        ((f"{ARN}:checkout:live",), LIVE),
        (("lambda-alias/checkout/live",), LIVE),
    ],
)
def test_a_target_has_several_names(words: tuple[str, ...], target: dict[str, Any]) -> None:
    assert asked(*words)["target"] == target


@pytest.mark.parametrize(
    ("source", "arn"),
    [
        ("orders", "arn:aws:sqs:eu-central-1:123456789012:orders"),
        ("orders", "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"),
        ("orders", "arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"),
    ],
)
def test_a_consumer_is_found_by_its_source(source: str, arn: str) -> None:
    stack = Mappings(
        (OTHER, "arn:aws:sqs:eu-central-1:123456789012:orders-dlq", "other:live"), (UUID, arn, "ship:live")
    )
    assert asked("--source", source, stack=stack)["target"]["mapping"] == UUID
    assert stack.asked == [{}]
    assert asked("--source", arn, "--function", "ship", stack=stack)["target"]["mapping"] == UUID
    assert stack.asked[1] == {"EventSourceArn": arn}


def test_a_source_with_several_consumers_asks_for_the_function() -> None:
    arn = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"
    stack = Mappings((UUID, arn, "ship:live"), (OTHER, arn, "bill:live"))
    assert asked("--source", "orders", "--function", "bill", stack=stack)["target"]["mapping"] == OTHER
    several = run("--source", "orders", stack=stack)
    assert several.exit_code == 2
    assert f"{UUID} (ship:live), {OTHER} (bill:live); give --function" in several.output
    assert (
        "no event source mapping reads orders for nobody"
        in run("--source", "orders", "--function", "nobody", stack=stack).output
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no target; give one such as checkout:live"),
        (("checkout",), "TARGET must be a function and its alias"),
        (("checkout:live", "--mapping", UUID), "TARGET and --mapping both name the target"),
        (("checkout:live", "--function", "x"), "--function needs --source"),
        (("checkout:live", "--version", "8", "--publish"), "--version and --publish each name a candidate"),
        (("checkout:live", "--s3", "bucket/key"), "--s3 must be like s3://bucket/key"),
        (("checkout:live", "--strategy", "{canary}"), "--strategy is not JSON"),
        (("checkout:live", "--no-guards", "--alarm", "a"), "--no-guards contradicts --alarm"),
        (("checkout:live", "--tolerate", "1"), "--tolerate needs a comparison"),
        (("checkout:live", "--latency", "fast"), "--latency must be milliseconds such as 250, or auto"),
        (("checkout:live", "--pause-limit", "1h"), "--pause-limit needs --pause-on-failure"),
    ],
)
def test_contradictions_are_refused_by_name(words: tuple[str, ...], said: str) -> None:
    result = run(*words)
    assert (result.exit_code, said in result.output) == (2, True), result.output


FILE = {
    "target": LIVE,
    "candidate": {"version": "7"},
    "guards": {"alarms": ["old"], "errors": {"tolerate": 0.1}},
    "hooks": {"beforeTraffic": [{"lambda": "old"}], "afterStep": [{"lambda": "kept"}]},
}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(FILE), "utf-8")
    words = ("--version", "8", "--alarm", "new", "--before-traffic", "new", "--id", "a")
    assert asked("--file", str(file), *words) == {
        "id": "a",
        "target": LIVE,
        "candidate": {"version": "8"},
        "guards": {"alarms": ["new"], "errors": {"tolerate": 0.1}},
        "hooks": {"beforeTraffic": [{"lambda": "new"}], "afterStep": [{"lambda": "kept"}]},
    }
    assert asked("checkout:blue", "--file", str(file))["target"]["alias"] == "blue"
    assert asked("--file", str(file), "--no-guards")["guards"] == "none"


def test_a_service_that_is_named_keeps_what_the_file_says_of_it(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    shop = {"kind": "ecs-service", "cluster": "prod", "service": "shop"}
    file.write_text(json.dumps({"target": {**shop, "keepSeconds": 20, "sticky": True}}), "utf-8")
    told = asked("prod/cart", "--file", str(file), "--task-definition", "cart:7")["target"]
    assert told == {**shop, "service": "cart", "keepSeconds": 20, "sticky": True}
    # What is said of another kind does not fit.
    assert asked("checkout:live", "--file", str(file))["target"] == LIVE


def test_a_date_in_yaml_is_the_text_that_it_is() -> None:
    yaml = "id: 2026-11-30\ntarget: {kind: lambda-alias, function: checkout, alias: live}\n"
    assert asked("--file", "-", typed=yaml)["id"] == "2026-11-30"


def test_a_file_may_be_yaml_the_whole_event_or_standard_input(tmp_path: Path) -> None:
    yaml = "target: {kind: lambda-alias, function: checkout, alias: live}\ncandidate: {version: 7}\n"
    assert asked("--file", "-", typed=yaml)["candidate"] == {"version": 7}
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"source": "team", "detail-type": "Rollout Requested", "detail": FILE}), "utf-8")
    assert asked("--file", str(file)) == FILE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("a: [", "is neither JSON nor YAML"),
        ("id: !!set {a}", "has a value that JSON does not have: Object of type set"),
        ("a: &a [*a]", "its aliases make it longer than 100,000 values"),
        (BOMB, "its aliases make it longer than 100,000 values"),
        (f"id: {'1' * 5000}", "is neither JSON nor YAML"),
        ("id: a\nid: b", "id is there twice; remove one"),
        ('{"id": "a", "id": "b"}', "id is there twice; remove one"),
        ("x" * 1_000_001, "has more than 1,000,000 characters"),
        ("just text", "must be an object with the fields of a request"),
        (
            '{"detail-type": "Undo Requested", "detail": {}}',
            "is a Undo Requested event; give a Rollout Requested event",
        ),
    ],
)
def test_a_file_that_is_no_request_is_refused(text: str, said: str) -> None:
    result = run("--file", "-", typed=text)
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_a_file_that_is_not_there_is_refused_in_one_line() -> None:
    result = run("--file", "/nowhere/request.json")
    assert (result.exit_code, result.output) == (
        2,
        "Error: --file: /nowhere/request.json cannot be read: No such file or directory\n",
    )


@pytest.mark.parametrize(
    "target", [LIVE, {"mapping": UUID}, {"function": f"{ARN}:checkout"}, {"function": "_"}, "odd", {}]
)
def test_new_ids_are_valid_and_differ(target: Any) -> None:
    first, second = new_id(target), new_id(target)
    assert first != second
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-_]*-\d{8}-\d{6}-[0-9a-f]{4}", first)


# ECS services


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (["web/shop"], {"kind": "ecs-service", "cluster": "web", "service": "shop"}),
        (["--service", "web/shop"], {"kind": "ecs-service", "cluster": "web", "service": "shop"}),
        (["--service", SERVICE_ARN], {"kind": "ecs-service", "cluster": "web", "service": SERVICE_ARN}),
        # Off, which is not the same as the default.
        (["web/shop", "--keep", "0s"], {"kind": "ecs-service", "cluster": "web", "service": "shop", "keepSeconds": 0}),
        (["web/shop", "--keep", "0"], {"kind": "ecs-service", "cluster": "web", "service": "shop", "keepSeconds": 0}),
        (
            ["web/shop", "--keep", "30m"],
            {"kind": "ecs-service", "cluster": "web", "service": "shop", "keepSeconds": 1800},
        ),
    ],
)
def test_a_service_is_named_by_its_cluster_and_name(options: list[str], target: dict[str, Any]) -> None:
    detail = asked(*options, "--task-definition", "shop:8")
    assert detail["target"] == target
    assert detail["candidate"] == {"taskDefinition": "shop:8"}
    assert read(with_id(detail)).target.key == "ecs-service/web/shop"
    assert with_id(detail)["id"].startswith("shop-")


def test_images_by_container_revise_the_running_task_definition() -> None:
    detail = asked("web/shop", "--image", "app=registry/shop:1.8", "--image", "proxy=registry/envoy:2")
    assert detail["candidate"] == {"revise": {"images": {"app": "registry/shop:1.8", "proxy": "registry/envoy:2"}}}


def test_an_image_without_a_container_is_code_of_a_function() -> None:
    detail = asked("checkout:live", "--image", "registry/shop@sha256:1f")
    assert detail["candidate"] == {"code": {"imageUri": "registry/shop@sha256:1f"}}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--service", "shop"], "--service must be a cluster and its service, such as web/shop"),
        (["--service", "checkout:live"], "--service must be a cluster and its service, such as web/shop"),
        (["web/shop", "--service", "web/shop"], "TARGET and --service both name the target"),
        (["web/shop", "--image", "one", "--image", "two"], "--image: name the container, as in app=one"),
        (["web/shop", "--image", "app=one", "--image", "app=two"], "--image can be repeated for different containers"),
        (["web/shop", "--image", "app=one", "--task-definition", "shop:8"], "--image and --task-definition each name"),
        (["web/shop", "--image", "repo/shop:2"], "--image: name the container, as in app=repo/shop:2"),
        (["web/shop", "--version", "7"], "--version: is for Lambda functions, and the target is an ECS service; give"),
        (["web/shop", "--publish"], "--publish: is for Lambda functions, and the target is an ECS service; give"),
        (["web/shop", "--task-definition", "shop:8", "--mode", "split"], "--mode: is for consumers"),
        (["checkout:live", "--keep", "5m"], "--keep: is for ECS services, and the target is none; leave it out"),
        (["checkout:live", "--mode", "ramp"], "--mode: is for consumers, and the target is an alias; leave it out"),
        (["checkout:live", "--task-definition", "shop:8"], "--task-definition: is for ECS services"),
        (["web/shop", "--keep", "soon"], "must be a duration with its unit, such as 90s, 30m or 2h, or 0s for none"),
    ],
)
def test_contradictions_about_a_service_are_refused(options: list[str], said: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


# Refusals that name fields


def given(**options: Any) -> dict[str, Any]:
    """The values of all options, of which these were given."""

    @click.command()
    @request_options
    def ask(**_: Any) -> None:
        """Ask nothing."""

    none = {str(each.name): () if each.multiple else None for each in ask.params if isinstance(each, click.Option)}
    return none | options


@pytest.mark.parametrize(
    ("refusal", "options", "told"),
    [
        ("target.keepSeconds: is too much", {"keep": 5.0}, "--keep (target.keepSeconds): is too much"),
        # Of a file.
        ("target.keepSeconds: is too much", {}, "target.keepSeconds: is too much"),
        ("candidate.version: is not there", {"version": "9"}, "--version (candidate.version): is not there"),
        ("strategy: steps[0].weight: is 1.23", {"strategy": "x"}, "--strategy: steps[0].weight: is 1.23"),
        (
            "guards.errors.tolerate: is above 10; guards.alarms[0]: is not there; guards.errors: is too strict",
            {"errors": True, "tolerate": 20.0, "alarms": ("a",)},
            (
                "--tolerate (guards.errors.tolerate): is above 10; --alarm (guards.alarms[0]): is not there; --errors "
                "(guards.errors): is too strict"
            ),
        ),
        ("hooks.beforeTraffic[0]: no", {"before_traffic": ("a",)}, "--before-traffic (hooks.beforeTraffic[0]): no"),
        ("was refused: onBusy: no", {"on_busy": "wait"}, "was refused: --on-busy (onBusy): no"),
        ("target.keepSecondsMore: no", {"keep": 5.0}, "target.keepSecondsMore: no"),
    ],
)
def test_a_refusal_names_the_option_that_gave_the_field(refusal: str, options: dict[str, Any], told: str) -> None:
    assert with_options(refusal, given(**options)) == told


def test_every_option_that_sets_a_field_is_named_in_refusals_of_it() -> None:
    # TARGET, FILE, and what only helps to find a target, set no field by themselves.
    assert set(given()) - {"file", "function"} == set(FIELDS_OF_OPTIONS)
