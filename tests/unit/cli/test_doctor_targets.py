"""What the checks of a target say of what was read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.own_resources import OwnResources
from headgate.aws.owning_stack import StackOwner
from headgate_cli.doctor import targets as checks
from headgate_cli.doctor.named_target import named_target
from headgate_cli.doctor.targets import AliasFacts, EvidenceFacts, SourceQueueFacts
from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_cli.doctor.findings import Found

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
UUID = "4a52bb2c-31c7-4b40-a4d5-0f6a3f2c1b1e"


def severities(found: Sequence[Found]) -> list[str]:
    return [each.severity for each in found]


def problem(found: Sequence[Found]) -> Found:
    """The only finding, which is not ok and says what to do."""
    [each] = found
    assert each.severity != "ok"
    assert each.fix
    return each


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("checkout:live", "lambda-alias/checkout/live"),
        ("lambda-alias/checkout/live", "lambda-alias/checkout/live"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:checkout:live", "lambda-alias/checkout/live"),
        (UUID.upper(), f"event-source/{UUID}"),
        (f"event-source/{UUID}", f"event-source/{UUID}"),
    ],
)
def test_a_target_is_named_in_each_of_these_ways(text: str, key: str) -> None:
    assert named_target(text).key == key


@pytest.mark.parametrize("text", ["", "checkout", "checkout:7", "checkout:$LATEST", "a:b:c", "event-source/1-2"])
def test_what_is_no_target_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Failure, match="checkout:live"):
        named_target(text)


def test_a_pattern_that_does_not_cover_the_target_is_a_fault() -> None:
    assert severities(checks.check_permission("TargetFunctions", "shop-*", "shop-cart")) == ["ok"]
    assert "which is shop-*" in problem(checks.check_permission("TargetFunctions", "shop-*", "checkout")).message
    assert "which is empty" in problem(checks.check_permission("TargetQueues", "", "orders")).message


@pytest.mark.parametrize(
    ("pattern", "name", "value"),
    [
        ("", "orders", "orders"),
        ("shop-*", "shop", "shop*"),
        ("shop-cart", "shop-check", "shop-c*"),
        ("shop-?", "shop-cart", "shop-*"),
        ("shop-*", "cart", "*"),
    ],
)
def test_the_advised_pattern_takes_nothing_away(pattern: str, name: str, value: str) -> None:
    fix = problem(checks.check_permission("TargetFunctions", pattern, name)).fix
    assert f'"TargetFunctions={value}"' in fix
    assert f"covers {pattern} too" in fix or not pattern
    assert fnmatchcase(name, value)


def test_headgates_own_functions_are_no_targets() -> None:
    own = OwnResources("headgate", {})
    assert problem(checks.check_own("headgate-judge", own)).severity == "fault"
    assert checks.check_own("headgate-judge-of-ours", own) == []


ALIAS = AliasFacts("checkout", "live", there=True, known=(), version="7")


@pytest.mark.parametrize(
    ("alias", "said"),
    [
        (ALIAS._replace(there=False, version=""), "checkout does not exist"),
        (ALIAS._replace(known=("blue", "green"), version=""), "has no alias live"),
        (ALIAS._replace(version="$LATEST"), "can change at any time"),
        (ALIAS._replace(weights={"8": 0.1}), "10.0000% to version 8, but no rollout"),
    ],
)
def test_an_alias_that_a_plan_refuses_is_a_fault(alias: AliasFacts, said: str) -> None:
    found = problem(checks.check_alias(alias))
    assert found.severity == "fault"
    assert said in found.message


def test_weights_of_a_running_rollout_are_ok() -> None:
    assert severities(checks.check_alias(ALIAS)) == ["ok"]
    [found] = checks.check_alias(ALIAS._replace(weights={"8": 0.1}, rollout="checkout-42"))
    assert found.severity == "ok"
    assert "checkout-42" in found.message
    assert "blue, green" in problem(checks.check_alias(ALIAS._replace(known=("blue", "green"), version=""))).fix


@pytest.mark.parametrize(
    ("configuration", "severity", "said"),
    [
        ({"Timeout": 901}, "fault", "Timeout of 901 s"),
        ({"DurableConfig": {"ExecutionTimeout": 60}}, "fault", "DurableConfig"),
        ({"State": "Pending"}, "fault", "is Pending"),
        ({"State": "Inactive"}, "warning", "is inactive"),
        ({"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "the image is gone"}, "fault", "the image is gone"),
    ],
)
def test_a_version_that_cannot_be_rolled_out_is_named(configuration: dict[str, Any], severity: str, said: str) -> None:
    found = problem(checks.check_code("checkout", {"7": {"Timeout": 3}, "$LATEST": configuration}))
    assert found.severity == severity
    assert said in found.message
    assert "$LATEST of checkout" in found.message


def test_versions_that_can_be_rolled_out_are_ok() -> None:
    assert severities(checks.check_code("checkout", {"7": {"Timeout": 900, "State": "Active"}})) == ["ok"]
    (both,) = checks.check_code("checkout", {"4": {}, "$LATEST": {}})
    assert both.message == "version 4 and $LATEST of checkout can be rolled out"
    (three,) = checks.check_code("checkout", {"4": {}, "5": {}, "$LATEST": {}})
    assert three.message == "versions 4 and 5 and $LATEST of checkout can be rolled out"


def test_a_stopped_function_is_a_fault_with_the_command_that_restores_it() -> None:
    assert "headgate restore-traffic checkout" in problem(checks.check_concurrency("checkout", 0)).fix
    assert severities(checks.check_concurrency("checkout", None)) == ["ok"]
    assert severities(checks.check_concurrency("checkout", 50)) == ["ok"]


def test_provisioned_concurrency_belongs_on_versions() -> None:
    assert severities(checks.check_provisioned("checkout", "live", {})) == ["ok"]
    assert severities(checks.check_provisioned("checkout", "live", {"7": 5})) == ["ok"]
    assert problem(checks.check_provisioned("checkout", "live", {"live": 5})).severity == "fault"


def test_a_stack_that_moves_the_alias_is_a_warning() -> None:
    owner = StackOwner("shop", "Live")
    assert severities(checks.check_owner("checkout:live", None, leaves_alone=False)) == ["ok"]
    assert severities(checks.check_owner("checkout:live", owner, leaves_alone=True)) == ["ok"]
    found = problem(checks.check_owner("checkout:live", owner, leaves_alone=False))
    assert found.message.startswith("checkout:live is resource Live of the CloudFormation stack shop")
    assert found.fix.startswith("run headgate adopt checkout:live")


EVIDENCE = EvidenceFacts(telemetry=True, seen_at=NOW - timedelta(minutes=5), invocations={"all": 1200})


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (EVIDENCE, ["ok", "ok"]),
        (EVIDENCE._replace(invocations={"all": 0}), ["warning", "ok"]),
        (EVIDENCE._replace(seen_at=None), ["ok", "warning"]),
        (EVIDENCE._replace(seen_at=NOW - timedelta(hours=25)), ["ok", "warning"]),
        (EVIDENCE._replace(seen_at=None, telemetry=False), ["ok", "ok"]),
        (EVIDENCE._replace(invocations={"all": 9, "7": 9, "8": 0}), ["ok", "warning", "ok"]),
    ],
)
def test_evidence_is_judged_by_counts_and_telemetry(evidence: EvidenceFacts, expected: list[str]) -> None:
    assert severities(checks.check_evidence("checkout:live", evidence, NOW)) == expected


# Consumers


def mapping(**fields: Any) -> dict[str, Any]:
    known = {
        "UUID": UUID,
        "State": "Enabled",
        "EventSourceArn": "arn:aws:sqs:eu-central-1:123456789012:orders",
        "FunctionArn": "arn:aws:lambda:eu-central-1:123456789012:function:orders:live",
        "BatchSize": 10,
    }
    return known | fields


@pytest.mark.parametrize(
    ("found", "severity", "said"),
    [
        (None, "fault", "does not exist"),
        (mapping(State="Disabled"), "fault", "nothing is processed"),
        (mapping(State="Updating"), "warning", "is Updating"),
        (mapping(LastProcessingResult="PROBLEM: no permission"), "fault", "no permission"),
        (mapping(FunctionArn="arn:aws:lambda:eu-central-1:123456789012:function:orders"), "fault", "points at $LATEST"),
        (mapping(FunctionArn="arn:aws:lambda:eu-central-1:123456789012:function:orders:3"), "fault", "points at 3"),
        (mapping(EventSourceArn="arn:aws:mq:eu-central-1:123456789012:broker:b"), "fault", "rolls out consumers of"),
        (mapping(EventSourceArn="arn:aws:sqs:eu-central-1:999999999999:orders"), "fault", "999999999999"),
    ],
)
def test_a_mapping_that_a_plan_refuses_is_named(found: dict[str, Any] | None, severity: str, said: str) -> None:
    told = problem(checks.check_mapping(found, UUID))
    assert told.severity == severity
    assert said in told.message


def test_the_mode_of_a_consumers_rollouts_is_told() -> None:
    assert checks.check_mapping(mapping(), UUID)[0].message.endswith("mode split")
    fifo = mapping(EventSourceArn="arn:aws:sqs:eu-central-1:123456789012:orders.fifo")
    assert checks.check_mapping(fifo, UUID)[0].message.endswith("mode ramp")


POLICY = {"deadLetterTargetArn": "arn:aws:sqs:eu-central-1:123456789012:orders-dead", "maxReceiveCount": 5}
QUEUE = SourceQueueFacts(
    name="orders",
    attributes={"VisibilityTimeout": "60", "RedrivePolicy": json.dumps(POLICY)},
    timeout=10,
    batch_size=10,
    reports_items=True,
)


def attributes(**changes: Any) -> dict[str, str]:
    return {"VisibilityTimeout": "60", "RedrivePolicy": json.dumps(POLICY | changes)}


@pytest.mark.parametrize(
    ("queue", "severity", "said"),
    [
        (QUEUE._replace(timeout=61), "fault", "below the timeout"),
        (QUEUE._replace(timeout=20), "warning", "less than 6 times"),
        (QUEUE._replace(attributes={"VisibilityTimeout": "60"}), "warning", "no dead-letter queue"),
        (QUEUE._replace(attributes=attributes(maxReceiveCount=2)), "warning", "maxReceiveCount of orders is 2"),
        (QUEUE._replace(dead_letters_exist=False), "fault", "orders-dead, the dead-letter queue of orders, does not"),
        (QUEUE._replace(holds=True), "fault", "a rollout's own queue"),
        (QUEUE._replace(reports_items=False), "warning", "makes all 10 of its batch fail"),
    ],
)
def test_what_becomes_of_failed_messages_is_judged(queue: SourceQueueFacts, severity: str, said: str) -> None:
    found = problem(checks.check_queue(queue))
    assert found.severity == severity
    assert said in found.message


def test_a_queue_as_aws_recommends_is_ok() -> None:
    assert severities(checks.check_queue(QUEUE)) == ["ok"]
    assert severities(checks.check_queue(QUEUE._replace(batch_size=1, reports_items=False))) == ["ok"]


STREAM = {
    "EventSourceArn": "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
    "FunctionArn": "arn:aws:lambda:eu-central-1:123456789012:function:clicks:live",
    "MaximumRetryAttempts": 5,
    "BisectBatchOnFunctionError": True,
    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:eu-central-1:123456789012:clicks-failed"}},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MaximumRetryAttempts": -1}, "blocks its shard"),
        ({"DestinationConfig": {"OnFailure": {}}}, "are lost"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:eu:1:topic"}}}, "no redrive can read"),
        ({"BisectBatchOnFunctionError": False}, "makes its whole batch fail"),
    ],
)
def test_what_becomes_of_failed_batches_is_judged(changes: dict[str, Any], said: str) -> None:
    assert said in problem(checks.check_stream(STREAM | changes)).message


def test_a_stream_with_limits_and_a_destination_is_ok() -> None:
    assert severities(checks.check_stream(STREAM)) == ["ok"]
    reporting = STREAM | {"BisectBatchOnFunctionError": False, "FunctionResponseTypes": ["ReportBatchItemFailures"]}
    assert severities(checks.check_stream(reporting)) == ["ok"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("arn:aws:sqs:eu-central-1:123456789012:orders", ("TargetQueues", "orders")),
        ("arn:aws:kinesis:eu-central-1:123456789012:stream/clicks", ("TargetStreams", "clicks")),
        ("arn:aws:dynamodb:eu-central-1:123456789012:table/carts/stream/2026", ("TargetStreams", "carts")),
    ],
)
def test_the_parameter_for_a_source_depends_on_its_kind(source: str, expected: tuple[str, str]) -> None:
    assert checks.source_parameter(mapping(EventSourceArn=source)) == expected
