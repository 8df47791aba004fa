"""The roles of the template: what AWS does with them is allowed, and they allow nothing that is not used or argued.

The embedded AWS authorizes the requests of functions (tests/fixtures/used_permissions.json is its record). What AWS's
services do as a role is evaluated here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from headgate.aws.outbox import entry_fields
from tests.builders import ROOT
from tests.unit.project.integrations import (
    FULL_STACK,
    HOOK,
    SCOPED_STACK,
    Keys,
    Need,
    all_needs,
    of_asynchronous_invocations,
    of_functions,
    of_key,
    of_machine,
    of_machine_logs,
    of_mappings,
    of_rules,
)
from tests.unit.project.policies import ACCOUNT, KEY, PATH, Stack, Statement, allows, arn

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = SCOPED_STACK.names("AWS::Serverless::StateMachine")


def denied(stack: Stack, needs: Iterator[Need]) -> list[Need]:
    """The needs that a role's policies do not allow."""
    found = list(needs)
    assert found, "nothing is needed: does this test still see what it is about?"
    statements = {need.role: stack.statements(need.role) for need in found}
    return [need for need in found if not allows(statements[need.role], need.action, need.resource, need.keys)]


# What AWS does with the roles


@pytest.mark.parametrize("machine", MACHINES)
def test_a_state_machine_may_do_what_its_states_do(machine: str) -> None:
    assert denied(SCOPED_STACK, of_machine(SCOPED_STACK, machine)) == []


def test_pollers_may_read_their_sources_and_keep_what_they_give_up() -> None:
    assert denied(SCOPED_STACK, of_mappings(SCOPED_STACK)) == []


def test_asynchronous_invocations_that_failed_may_be_kept() -> None:
    assert denied(SCOPED_STACK, of_asynchronous_invocations(SCOPED_STACK)) == []


def test_rules_may_publish() -> None:
    assert denied(SCOPED_STACK, of_rules(SCOPED_STACK)) == []


def test_lambda_and_step_functions_may_log_and_trace_and_use_the_network() -> None:
    assert denied(FULL_STACK, of_functions(FULL_STACK)) == []
    assert denied(FULL_STACK, of_machine_logs(FULL_STACK)) == []


def test_whoever_uses_what_is_encrypted_may_use_the_key_through_that_service() -> None:
    assert denied(FULL_STACK, of_key(FULL_STACK)) == []


def test_only_who_uses_what_is_encrypted_may_use_the_key() -> None:
    needing = {need.role for need in of_key(FULL_STACK)}
    through = {need.keys["kms:ViaService"] for need in of_key(FULL_STACK)}
    allowed = {
        role
        for role in FULL_STACK.names("AWS::IAM::Role")
        for action in ("kms:Decrypt", "kms:GenerateDataKey")
        for service in through
        if allows(FULL_STACK.statements(role), action, KEY, {"kms:ViaService": service})
    }
    assert allowed == needing


def test_the_roles_of_a_stack_without_a_key_may_use_no_key() -> None:
    for role in SCOPED_STACK.names("AWS::IAM::Role"):
        assert not allows(SCOPED_STACK.statements(role), "kms:Decrypt", KEY, {"kms:ViaService": "sqs.amazonaws.com"})


TABLE = str(SCOPED_STACK.attribute("Table", "Arn"))
OF_ROLLOUT = {"dynamodb:LeadingKeys": "ROLLOUT#checkout-42"}
EVENT_ATTRIBUTES = ["pk", "sk", *entry_fields("Rollout Succeeded", {})]


def test_hooks_are_put_on_record_with_attributes_that_no_event_and_no_record_has_alone() -> None:
    written = [need for need in of_machine(SCOPED_STACK, "HooksMachine") if need.action == "dynamodb:PutItem"]
    assert written
    used = {name for need in written for name in list(need.keys["dynamodb:Attributes"])}
    [statement] = [each for each in SCOPED_STACK.statements("HooksMachineRole") if each.actions == ["dynamodb:PutItem"]]
    assert set(statement.conditions["ForAllValues:StringEquals"]["dynamodb:attributes"]) == used
    assert not used & {"detailType", "detail", "status"}


@pytest.mark.parametrize(
    ("role", "action", "resource", "keys"),
    [
        ("RolloutMachineRole", "lambda:InvokeFunction", HOOK, {}),
        ("RolloutMachineRole", "states:StartExecution", arn("states", "stateMachine:headgate-redrive"), {}),
        ("HooksMachineRole", "lambda:InvokeFunction", arn("lambda", "function:payroll"), {}),
        ("HooksMachineRole", "lambda:InvokeFunction", arn("lambda", "function:headgate-intake"), {}),
        ("HooksMachineRole", "states:StopExecution", arn("states", "execution:payroll:one"), {}),
        ("HooksMachineRole", "dynamodb:PutItem", TABLE, {**OF_ROLLOUT, "dynamodb:Attributes": EVENT_ATTRIBUTES}),
        ("HooksMachineRole", "dynamodb:PutItem", TABLE, {**OF_ROLLOUT, "dynamodb:Attributes": ["pk", "sk", "status"]}),
        (
            "EcsTaskMachineRole",
            "ecs:RunTask",
            arn("ecs", "task-definition/migrate:1"),
            {"ecs:cluster": arn("ecs", "cluster/other")},
        ),
        ("EcsTaskMachineRole", "ecs:RunTask", arn("ecs", "task-definition/migrate:1"), {}),
        (
            "EcsTaskMachineRole",
            "ecs:TagResource",
            arn("ecs", "task/jobs/0a1b"),
            {"ecs:CreateAction": "RegisterTaskDefinition"},
        ),
        (
            "EcsTaskMachineRole",
            "iam:PassRole",
            arn("iam", "role/jobs/migrate", ""),
            {"iam:PassedToService": "lambda.amazonaws.com"},
        ),
        (
            "EcsTaskMachineRole",
            "iam:PassRole",
            arn("iam", "role/admin", ""),
            {"iam:PassedToService": "ecs-tasks.amazonaws.com"},
        ),
        ("CleanerRole", "lambda:DeleteFunction", arn("lambda", "function:payroll"), {}),
        ("CleanerRole", "lambda:DeleteFunction", arn("lambda", "function:payroll:1"), {}),
        ("CleanerRole", "lambda:UpdateAlias", arn("lambda", "function:checkout:live"), {}),
        ("StackMachineRole", "states:StartExecution", arn("states", "stateMachine:headgate-redrive"), {}),
        ("StackMachineRole", "lambda:InvokeFunction", HOOK, {}),
        ("StackMachineRole", "events:PutEvents", arn("events", "event-bus/headgate"), {"events:source": ["headgate"]}),
        ("StackIntakeRole", "dynamodb:PutItem", TABLE, OF_ROLLOUT),
        ("StackPlannerRole", "dynamodb:PutItem", TABLE, OF_ROLLOUT),
        ("StackPlannerRole", "lambda:DeleteAlias", arn("lambda", "function:payroll"), {}),
        ("StackPlannerRole", "lambda:DeleteAlias", arn("lambda", "function:headgate-judge"), {}),
        ("StackPlannerRole", "lambda:UpdateAlias", arn("lambda", "function:checkout:live"), {}),
        ("StackResponderRole", "dynamodb:GetItem", TABLE, OF_ROLLOUT),
        ("IntakeRole", "sqs:ReceiveMessage", arn("sqs", "orders"), {}),
        ("CounterRole", "kinesis:GetRecords", arn("kinesis", "stream/orders"), {}),
        ("PublisherRole", "dynamodb:GetRecords", arn("dynamodb", "table/orders/stream/2026"), {}),
    ],
)
def test_a_role_may_not_go_beyond_its_scope(role: str, action: str, resource: str, keys: Keys) -> None:
    assert not allows(SCOPED_STACK.statements(role), action, resource, keys)


# What the roles allow is used, or argued beside its statement

RECORD: dict[str, list[str]] = json.loads((ROOT / "tests" / "fixtures" / "used_permissions.json").read_text("utf-8"))
"""Actions that the functions' roles have used in a run of tests/local: `make record-permissions`."""
IAM_TYPES = {"AWS::IAM::Role", "AWS::IAM::ManagedPolicy"}


class Written(NamedTuple):
    """A statement as the template has it."""

    resource: str
    sid: str
    actions: list[str]
    untested: list[str]
    """The actions that its comment names after "Untested:", where a sentence with the reason follows."""


def written_statements() -> list[Written]:
    """The statements that allow something, of roles and of managed policies."""
    text = PATH.read_text("utf-8")
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    [resources] = [value for key, value in root.value if key.value == "Resources"]
    return [
        found
        for name, resource in resources.value
        if any(key.value == "Type" and value.value in IAM_TYPES for key, value in resource.value)
        for found in _written(name.value, resource, text.splitlines())
    ]


def _written(resource: str, node: yaml.Node, lines: list[str]) -> Iterator[Written]:
    if isinstance(node, yaml.MappingNode):
        keys = {key.value: value for key, value in node.value}
        if {"Effect", "Action", "Resource"} <= keys.keys() and keys["Effect"].value == "Allow":
            action = keys["Action"]
            actions = [each.value for each in action.value] if isinstance(action.value, list) else [action.value]
            sid = keys["Sid"].value if "Sid" in keys else ""
            yield Written(resource, sid, actions, _untested(lines[node.start_mark.line : node.end_mark.line]))
        for _, child in node.value:
            yield from _written(resource, child, lines)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _written(resource, child, lines)


def _untested(lines: list[str]) -> list[str]:
    comment = " ".join(line.strip().removeprefix("#").strip() for line in lines if line.strip().startswith("#"))
    found = re.search(r"Untested: ([\w:-]+(?:, [\w:-]+)*)\. \w", comment)
    return found[1].split(", ") if found else []


WRITTEN = written_statements()
ALL_NEEDS = all_needs(FULL_STACK)


def holders(policy: str) -> set[str]:
    """The roles that a statement of a role or managed policy is for."""
    found = FULL_STACK.names("AWS::IAM::Role")
    if policy in found:
        return {policy}
    return {role for role in found if policy in FULL_STACK.managed(role)}


def used_actions(policy: str) -> set[str]:
    """What the roles of a policy have used, and what AWS does with them."""
    roles = holders(policy)
    recorded = {action for role in roles for action in RECORD.get(role, [])}
    return recorded | {need.action for need in ALL_NEEDS if need.role in roles}


@pytest.mark.parametrize("written", WRITTEN, ids=[f"{each.resource}-{each.sid}" for each in WRITTEN])
def test_what_a_statement_allows_is_used_or_argued(written: Written) -> None:
    unused = set(written.actions) - used_actions(written.resource)
    assert set(written.untested) == unused, (
        f"{written.resource}, {written.sid}: remove actions that nothing needs. Else say in the statement's comment "
        f'"Untested: {", ".join(sorted(unused))}." and why it is needed. Remove from there what is tested'
    )


def test_every_role_that_used_something_is_in_the_template_and_may_do_it() -> None:
    for role, actions in RECORD.items():
        allowed = {action for each in FULL_STACK.statements(role) if each.effect == "Allow" for action in each.actions}
        assert set(actions) <= allowed, f"{role}: run `make record-permissions`"


# The evaluator

QUEUE = arn("sqs", "orders")


def statement(effect: str = "Allow", action: str = "sqs:*", resource: str = "*", **conditions: Any) -> Statement:
    operators = {name.replace("_", ":"): values for name, values in conditions.items()}
    return Statement(effect, [action], [resource], operators)


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([], False),
        ([statement()], True),
        ([statement(action="SQS:send*")], True),
        ([statement(action="sqs:SendMessageBatch")], False),
        ([statement(), statement("Deny", resource=QUEUE)], False),
        ([statement(), statement("Deny", resource=f"{QUEUE}-other")], True),
        ([statement(resource=arn("sqs", "ord?rs"))], True),
        ([statement(resource=arn("sqs", "*"))], True),
        ([statement(resource=f"arn:aws:*:{ACCOUNT}:orders")], False),
        ([statement(StringEquals={"aws:a": ["1", "2"]})], True),
        ([statement(StringEquals={"aws:a": ["2"]})], False),
        ([statement(StringEquals={"aws:b": ["1"]})], False),
        ([statement(StringLike={"aws:a": ["?"]})], True),
        ([statement(ArnLike={"aws:arn": [arn("sqs", "o*")]})], True),
        ([statement(ArnLike={"aws:arn": ["arn:aws:sqs:*"]})], False),
        ([statement(ForAllValues_StringLike={"aws:many": ["a*"]})], False),
        ([statement(ForAllValues_StringLike={"aws:many": ["a*", "b*"]})], True),
        ([statement(ForAllValues_StringLike={"aws:b": ["a*"]})], True),
    ],
)
def test_policies_are_evaluated_as_by_iam(statements: list[Statement], allowed: bool) -> None:
    keys = {"aws:a": "1", "aws:arn": QUEUE, "aws:many": ["a1", "b1"]}
    assert allows(statements, "sqs:SendMessage", QUEUE, keys) is allowed


def test_a_condition_operator_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="NumericEquals"):
        allows([statement(NumericEquals={"aws:a": ["1"]})], "sqs:SendMessage", QUEUE, {"aws:a": "1"})
