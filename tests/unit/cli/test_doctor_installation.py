"""What the checks of an installation say of what was read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.decode import cfn_yaml

from headgate_cli.doctor import installation as checks
from headgate_cli.doctor.installation import (
    AlarmFacts,
    FunctionFacts,
    HeldQueueFacts,
    LockFacts,
    MappingFacts,
    QueueFacts,
    TableFacts,
)
from headgate_cli.doctor.reader import DEAD_LETTER_QUEUES, REQUEST_QUEUES
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_cli.doctor.findings import Found

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LAYER = "arn:aws:lambda:eu-central-1:123456789012:layer:headgate:7"
TEMPLATE: dict[str, Any] = cfn_yaml.load(str(ROOT / "template.yaml"))


def severities(found: Sequence[Found]) -> list[str]:
    return [each.severity for each in found]


def problem(found: Sequence[Found]) -> Found:
    """The only finding, which is not ok and says what to do."""
    [each] = found
    assert each.severity != "ok"
    assert each.fix
    return each


# The stack


@pytest.mark.parametrize(
    ("status", "severity"),
    [
        ("CREATE_COMPLETE", "ok"),
        ("UPDATE_COMPLETE", "ok"),
        ("UPDATE_ROLLBACK_COMPLETE", "warning"),
        ("UPDATE_IN_PROGRESS", "warning"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "warning"),
        ("UPDATE_ROLLBACK_FAILED", "fault"),
        ("DELETE_FAILED", "fault"),
        ("ROLLBACK_COMPLETE", "fault"),
    ],
)
def test_the_stack_is_judged_by_its_status(status: str, severity: str) -> None:
    assert severities(checks.check_stack({"StackName": "headgate", "StackStatus": status})) == [severity]


def test_a_drift_that_was_detected_is_a_warning() -> None:
    stack = {"StackName": "headgate", "StackStatus": "CREATE_COMPLETE"}
    drifted = stack | {"DriftInformation": {"StackDriftStatus": "DRIFTED"}}
    assert severities(checks.check_stack(drifted)) == ["ok", "warning"]
    assert severities(checks.check_stack(stack | {"DriftInformation": {"StackDriftStatus": "IN_SYNC"}})) == ["ok"]


def test_versions_are_compared_as_numbers() -> None:
    assert severities(checks.check_version("0.2.0", "0.2.0")) == ["ok"]
    assert problem(checks.check_version("0.10.0", "0.9.0")).fix.startswith("upgrade the stack to 0.10.0")
    assert problem(checks.check_version("0.9.0", "0.10.0")).fix.startswith("install version 0.10.0 of the command")
    assert "older than this command" in problem(checks.check_version("0.2.0", None)).message


# Functions, roles, machines


def function(name: str = "headgate-judge", *, reserved: int | None = None, role: str = "", **fields: Any) -> Any:
    role = role or f"{name}-role"
    configuration = {
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Role": f"arn:aws:iam::123456789012:role/{role}",
        "Layers": [{"Arn": LAYER}],
    }
    return FunctionFacts(name, configuration | fields, reserved, f"{name}-role")


def test_functions_that_run_as_deployed_are_ok() -> None:
    assert severities(checks.check_functions([function(), function("headgate-baker")], LAYER)) == ["ok"]


@pytest.mark.parametrize(
    ("facts", "severity", "said"),
    [
        (FunctionFacts("headgate-judge", None, None, ""), "fault", "does not exist"),
        (function(State="Failed", StateReason="the key is disabled"), "fault", "the key is disabled"),
        (function(State="Inactive"), "warning", "is inactive"),
        (function(LastUpdateStatus="Failed", LastUpdateStatusReason="no such layer"), "fault", "no such layer"),
        (function(reserved=0), "fault", "never runs"),
        (function(role="somebody-elses"), "fault", "not as its own, headgate-judge-role"),
        (function(Layers=[{"Arn": LAYER.replace(":7", ":6")}]), "fault", "layer:headgate:6"),
        (function(Layers=[]), "fault", "the layer none"),
    ],
)
def test_a_function_that_does_not_run_as_deployed_is_named(facts: FunctionFacts, severity: str, said: str) -> None:
    found = problem(checks.check_functions([function("headgate-baker"), facts], LAYER))
    assert found.severity == severity
    assert "headgate-judge" in found.message
    assert said in found.message


def test_functions_that_share_a_role_are_named() -> None:
    shared = [each._replace(role="") for each in (function(role="one"), function("headgate-baker", role="one"))]
    assert "headgate-judge, headgate-baker share the role one" in problem(checks.check_functions(shared, LAYER)).message


def test_a_role_or_machine_that_is_gone_is_named() -> None:
    assert severities(checks.check_roles({"a": True})) == ["ok"]
    assert "role b" in problem(checks.check_roles({"a": True, "b": False})).message
    assert severities(checks.check_machines({"headgate-rollout": "ACTIVE"})) == ["ok"]
    assert "does not exist" in problem(checks.check_machines({"headgate-rollout": None})).message
    assert "is DELETING" in problem(checks.check_machines({"headgate-rollout": "DELETING"})).message


# Patterns


def test_open_patterns_are_a_warning_and_empty_ones_are_told() -> None:
    found = checks.check_patterns(
        {"TargetFunctions": "*", "TargetQueues": "", "HookFunctions": "shop-*", "Runtime": ""}
    )
    assert severities(found) == ["warning", "ok", "ok"]
    assert [each.message.split(" ")[0] for each in found] == ["TargetFunctions", "HookFunctions", "TargetQueues"]
    assert found[2].message == "TargetQueues is empty and allows nothing"
    (closed,) = checks.check_patterns({"TargetQueues": "", "TaskRoles": ""})
    assert closed.message == "TargetQueues and TaskRoles are empty and allow nothing"


def test_every_pattern_of_the_template_is_judged() -> None:
    said = str(TEMPLATE["Outputs"]["OpenPatterns"]["Value"])
    assert [name for name in checks.PATTERNS if f"{name} " not in said] == []
    assert said.count("Fn::If") == len(checks.PATTERNS)


# Queues, alarms, subscribers


def test_requests_that_wait_for_long_are_a_fault() -> None:
    fresh, late = QueueFacts("RequestQueue", "url", 9, 30), QueueFacts("JobQueue", "url", 2, 900)
    assert severities(checks.check_queues([fresh, QueueFacts("RequestFifoQueue", "url", 0)])) == ["ok"]
    assert "JobQueue has 2 messages, the oldest 900 s old" in problem(checks.check_queues([fresh, late])).message


def test_dead_letters_are_a_fault_with_the_reason_if_it_was_read() -> None:
    empty = QueueFacts("Undelivered", "url", 0)
    assert severities(checks.check_dead_letters([empty])) == ["ok"]
    found = problem(checks.check_dead_letters([empty, QueueFacts("RequestDeadLetters", "https://q", 1)]))
    assert found.message == "RequestDeadLetters has 1 message"
    assert "--queue-url https://q" in found.fix
    read = QueueFacts("RequestDeadLetters", "https://q", 1, reason="target: is missing")
    assert "target: is missing" in problem(checks.check_dead_letters([read])).message


def test_every_queue_of_the_template_is_judged() -> None:
    queues = {name for name, each in TEMPLATE["Resources"].items() if each["Type"] == "AWS::SQS::Queue"}
    assert queues == {*REQUEST_QUEUES, *DEAD_LETTER_QUEUES}
    assert checks.DEAD_LETTER_CURES.keys() == set(DEAD_LETTER_QUEUES)


@pytest.mark.parametrize(
    ("alarm", "severity", "said"),
    [
        (AlarmFacts("UnsettledAlarm", "ALARM", "a rollout is stuck"), "fault", "a rollout is stuck"),
        (AlarmFacts("UnsettledAlarm", "INSUFFICIENT_DATA"), "warning", "has no data"),
        (AlarmFacts("UnsettledAlarm", "OK", acts=False), "warning", "nobody hears"),
        (AlarmFacts("UnsettledAlarm", ""), "fault", "does not exist"),
    ],
)
def test_an_alarm_that_is_not_ok_is_named(alarm: AlarmFacts, severity: str, said: str) -> None:
    found = problem(checks.check_alarms([AlarmFacts("JudgeErrorsAlarm", "OK"), alarm]))
    assert found.severity == severity
    assert said in found.message


def test_every_alarm_of_the_template_has_a_cure_of_its_own() -> None:
    alarms = [name for name, each in TEMPLATE["Resources"].items() if each["Type"] == "AWS::CloudWatch::Alarm"]
    without = checks.cure_of("SomethingElse")
    assert [name for name in alarms if checks.cure_of(name) == without] == []


def test_a_topic_without_a_confirmed_subscriber_is_a_warning() -> None:
    confirmed = {"SubscriptionArn": "arn:aws:sns:eu-central-1:123456789012:topic:1", "Endpoint": "a@example.com"}
    pending = {"SubscriptionArn": "PendingConfirmation", "Endpoint": "b@example.com"}
    assert severities(checks.check_subscribers([confirmed], "topic")) == ["ok"]
    assert "b@example.com" in problem(checks.check_subscribers([confirmed, pending], "topic")).message
    assert severities(checks.check_subscribers([pending], "topic")) == ["warning", "warning"]
    assert "--topic-arn topic" in problem(checks.check_subscribers([], "topic")).fix


# Rules and mappings


def test_a_rule_that_is_disabled_or_gone_is_a_fault() -> None:
    assert severities(checks.check_rules({"a": "ENABLED", "b": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"})) == [
        "ok"
    ]
    assert "b is disabled" in problem(checks.check_rules({"a": "ENABLED", "b": "DISABLED"})).message
    assert "b does not exist" in problem(checks.check_rules({"a": "ENABLED", "b": None})).message


@pytest.mark.parametrize(
    ("state", "result", "severity"),
    [
        ("Enabled", "", "ok"),
        ("Enabled", "OK", "ok"),
        ("Enabled", "PROBLEM: internal error", "fault"),
        ("Updating", "", "warning"),
        ("Disabled", "", "fault"),
        ("", "", "fault"),
    ],
)
def test_a_mapping_is_judged_by_its_state_and_its_last_result(state: str, result: str, severity: str) -> None:
    assert severities(checks.check_mappings([MappingFacts("Outbox", "1-2", state, result)])) == [severity]


# Locks and held queues


def lock(minutes: float | None = None, **fields: Any) -> LockFacts:
    since = None if minutes is None else NOW - timedelta(minutes=minutes)
    known = LockFacts("lambda-alias/checkout/live", "checkout-42", "running", since, "RUNNING")
    return known._replace(**fields)


@pytest.mark.parametrize(
    ("held", "severity", "said"),
    [
        (lock(2, execution="ABORTED"), "warning", "has ended (ABORTED)"),
        (lock(6, execution="ABORTED"), "fault", "has ended (ABORTED)"),
        (lock(6, execution=None), "fault", "does not exist"),
        (lock(1, status="succeeded", has_ended=True, execution=None), "warning", "has ended (promoted)"),
        (lock(6, status="succeeded", has_ended=True, execution=None), "fault", "has ended (promoted)"),
        (lock(status=None, execution=None), "fault", "has no record"),
    ],
)
def test_a_lock_that_nobody_will_release_is_named(held: LockFacts, severity: str, said: str) -> None:
    found = problem(checks.check_locks([held], NOW))
    assert found.severity == severity
    assert said in found.message


def test_a_lock_of_a_running_rollout_is_ok() -> None:
    assert severities(checks.check_locks([], NOW)) == ["ok"]
    assert severities(checks.check_locks([lock()], NOW)) == ["ok"]
    assert severities(checks.check_locks([lock(9, execution=None), lock()], NOW)) == ["fault", "ok"]


def test_a_rollouts_queue_that_was_left_behind_is_named() -> None:
    running = HeldQueueFacts("headgate-held-1", "checkout-42", runs=True, messages=3)
    assert severities(checks.check_held_queues([running])) == ["ok"]
    left = running._replace(runs=False)
    assert problem(checks.check_held_queues([running, left])).severity == "fault"
    assert problem(checks.check_held_queues([left._replace(messages=0, rollout="")])).severity == "warning"


# Table, key, quota


def table(**fields: Any) -> TableFacts:
    description = {
        "TableName": "records",
        "TableStatus": "ACTIVE",
        "StreamSpecification": {"StreamEnabled": True},
        "GlobalSecondaryIndexes": [{"IndexName": "held-locks", "IndexStatus": "ACTIVE"}],
    }
    return TableFacts(description | fields, recovers=True, expires=True)


@pytest.mark.parametrize(
    ("facts", "severity", "said"),
    [
        (TableFacts(None, None, None), "fault", "does not exist"),
        (table(TableStatus="INACCESSIBLE_ENCRYPTION_CREDENTIALS"), "fault", "INACCESSIBLE"),
        (table(StreamSpecification={}), "fault", "stream"),
        (table(GlobalSecondaryIndexes=[]), "fault", "no index held-locks"),
        (table(GlobalSecondaryIndexes=[{"IndexName": "held-locks", "IndexStatus": "CREATING"}]), "warning", "CREATING"),
        (table()._replace(recovers=False), "warning", "recovery"),
        (table()._replace(expires=False), "warning", "never expire"),
    ],
)
def test_a_fault_of_the_table_is_told(facts: TableFacts, severity: str, said: str) -> None:
    found = problem(checks.check_table(facts, ("held-locks",)))
    assert found.severity == severity
    assert said in found.message


def test_a_table_as_deployed_is_ok() -> None:
    assert severities(checks.check_table(table(), ("held-locks",))) == ["ok"]


def test_a_key_that_cannot_be_used_is_a_fault() -> None:
    assert severities(checks.check_key("", None)) == ["ok"]
    assert severities(checks.check_key("arn:key", {"KeyState": "Enabled"})) == ["ok"]
    assert "PendingDeletion" in problem(checks.check_key("arn:key", {"KeyState": "PendingDeletion"})).message
    assert "not there" in problem(checks.check_key("arn:key", None)).message


def test_little_concurrency_in_the_account_is_a_warning() -> None:
    assert severities(checks.check_quota(1000, 900)) == ["ok"]
    assert severities(checks.check_quota(10, 10)) == ["warning"]
    assert severities(checks.check_quota(1000, 100)) == ["warning"]
