"""Names and ids that are derived from others: none is longer than its service allows.

They begin with the parameter ``Prefix``, whose length the template limits; the stack's own name has no part in them.
CloudFormation shortens the names that it makes up by itself, so only those in the template and in the code count.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cfnlint.decode import cfn_yaml
from jsonata.jsonata import Jsonata
from pydantic import TypeAdapter

from headgate.aws.arns import execution_arn, execution_name, job_execution_name, stack_execution_name
from headgate.aws.sqs_messages import LONGEST_DEDUPLICATION_ID, deduplication_id
from headgate.ecs_tasks.tags import DEFINITION_TAG, EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG
from headgate.keys import alarm_pk, job_pk, rollout_pk, shard_pk, target_pk
from headgate.planning.hook_checks import HookPosition, task_id_of
from headgate.spec.hooks import HookStage
from headgate.stacks.event import TASK_TYPE, StackEvent
from headgate.targets.event_source.rollout_dlq import ROLLOUT_TAG, rollout_queue_for
from statemachines.source.hooks import CHILD_NAME
from statemachines.source.rollout import stage_name
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE: dict[str, Any] = cfn_yaml.load(str(ROOT / "template.yaml"))
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]

LIMITS = {
    # botocore's model allows an ARN here: https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    ("AWS::Serverless::Function", "FunctionName"): 64,
    ("AWS::Serverless::StateMachine", "Name"): 80,
    ("AWS::Logs::LogGroup", "LogGroupName"): 512,
    ("AWS::Events::EventBus", "Name"): 256,
    ("AWS::Logs::QueryDefinition", "Name"): 255,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    # With what the ARN has before it: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
    ("AWS::SSM::Parameter", "Name"): 1011 - len("arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter"),
}
"""How long a name in the template may be, by type and property."""

DERIVED_SETTINGS = {"HOLDING_PREFIX", "ROLLOUT_MACHINE", "TRIGGER_FOLDER"}
"""Environment variables that have the prefix in them: another prefix, which ``CODE`` has, an ARN, and a folder of
parameters, whose names the template has, too."""

PREFIX = "Prefix"


class Name(NamedTuple):
    """A name that is derived, and how long it may be."""

    text: str
    limit: int


def text_of(value: Any) -> str:
    """The text of a Ref or Sub; empty for anything else."""
    if not isinstance(value, dict):
        return ""
    text = value.get("Fn::Sub", "")
    return f"${{{value['Ref']}}}" if "Ref" in value else text if isinstance(text, str) else ""


def named_properties() -> Iterator[tuple[str, str, str, str]]:
    """Each property that has the prefix in it: logical id, type, property and text."""
    for logical_id, resource in RESOURCES.items():
        for name, value in resource["Properties"].items():
            # The body of a dashboard is a document.
            is_name = name != "DashboardBody" and not text_of(value).startswith("arn:")
            if f"${{{PREFIX}}}" in text_of(value) and is_name:
                yield logical_id, resource["Type"], name, text_of(value)


NAMED = list(named_properties())
LONGEST_PREFIX = "p" * TEMPLATE["Parameters"][PREFIX]["MaxLength"]
LONGEST_ID = "i" * 128
LONGEST_NAME = "n" * 80
"""Of an execution that somebody else names."""

LONGEST_MACHINE = f"arn:aws-us-gov:states:us-gov-west-1:123456789012:stateMachine:{LONGEST_PREFIX}-ecs-task"
QUEUE = "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:orders"
UUID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"


def holding_queue(source: str, *, fifo: bool) -> str:
    prefix = text_of(RESOURCES["EventSourceDriver"]["Properties"]["Environment"]["Variables"]["HOLDING_PREFIX"])
    prefix = prefix.replace(f"${{{PREFIX}}}", LONGEST_PREFIX)
    return rollout_queue_for(LONGEST_ID, source, "{}", prefix=prefix, fifo=fifo).name


def evaluated(expression: str, execution: dict[str, Any], **variables: Any) -> str:
    """A name as Step Functions works it out."""
    program = Jsonata.jsonata(expression)
    frame = program.create_frame()
    frame.bind("hash", Jsonata.JLambda(lambda text, _: hashlib.sha256(text.encode()).hexdigest()))
    for name, value in {**variables, "states": {"context": {"Execution": execution}}}.items():
        frame.bind(name, value)
    return str(program.evaluate(None, frame))


def stage_execution() -> str:
    """The name of the execution that asks the hooks of a stage, for the stage and step with the longest name."""
    execution = {"Id": execution_arn(LONGEST_MACHINE, LONGEST_NAME), "RedriveCount": 100}
    return evaluated(stage_name("'beforeTraffic'", "$step"), execution, step=200, bake=240, pause=1000)


def child_name(parent: str) -> str:
    """The name of a hook's execution, with the highest index."""
    most: int = TypeAdapter(HookStage).json_schema()["maxItems"]
    return evaluated(CHILD_NAME, {"Name": parent}, index=most - 1)


LONGEST_STACK = f"arn:aws-us-gov:cloudformation:us-gov-west-1:123456789012:stack/{'s' * 128}/{UUID}"
RESOURCE = StackEvent("Create", UUID, LONGEST_STACK, "l" * 255, TASK_TYPE)
"""A request about a custom resource with the longest names."""

CODE = {
    "a rollout's own queue": Name(holding_queue(QUEUE, fifo=False), 80),
    "a rollout's own FIFO queue": Name(holding_queue(f"{QUEUE}.fifo", fifo=True), 80),
    "the key of that queue's tag": Name(ROLLOUT_TAG, 128),
    "the value of that queue's tag": Name(LONGEST_ID, 256),
    "a rollout's execution": Name(execution_name(LONGEST_ID), 80),
    "a task's execution": Name(job_execution_name("task", LONGEST_ID), 80),
    "the execution of a request about a custom resource": Name(stack_execution_name(UUID), 80),
    "the id of the rollout or the task of a custom resource": Name(RESOURCE.rollout_id, 128),
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
    "the physical id of a custom resource without a target": Name(RESOURCE.refused_id, 1024),
    "the physical id of a custom resource that runs a task": Name(RESOURCE.task_physical_id, 1024),
    "the key of a custom resource's items": Name(RESOURCE.pk, 2048),
    "a redrive's execution": Name(job_execution_name("redrive", LONGEST_ID), 80),
    "the execution that asks the hooks of a stage": Name(stage_execution(), 76),
    "the execution of a hook that is a state machine": Name(child_name(stage_execution()), 80),
    "the execution of such a hook under a name that is hashed": Name(child_name(LONGEST_NAME), 80),
    "the execution of such a hook under a name that is just not hashed": Name(child_name("n" * 76), 80),
    "the id of a hook's task": Name(task_id_of(LONGEST_ID, HookPosition("beforeTraffic", 49)), 128),
    "the value of an ECS task's execution tag": Name(execution_arn(LONGEST_MACHINE, LONGEST_NAME), 256),
    "the value of an ECS task's request tag": Name(LONGEST_ID, 256),
    **{f"the tag {key}": Name(key, 128) for key in (DEFINITION_TAG, EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG)},
    "the deduplication id of a moved message": Name(deduplication_id("d" * 128, UUID), LONGEST_DEDUPLICATION_ID),
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
    "the key of a rollout's items": Name(rollout_pk(LONGEST_ID), 1024),
    "the key of a redrive's items": Name(job_pk("redrive", LONGEST_ID), 1024),
    "the key of a target's items": Name(target_pk(f"lambda-alias/{'f' * 64}/{'a' * 128}"), 2048),
    "the key of an alarm's items": Name(alarm_pk("a" * 255), 2048),
    "the key of a shard's items": Name(shard_pk(f"stream/{'s' * 128}/shardId-{'0' * 12}"), 2048),
}
"""Every name and id that the code derives, for the longest of what it is derived from."""


@pytest.mark.parametrize(("logical_id", "kind", "prop", "text"), NAMED, ids=lambda each: str(each)[:40])
def test_a_name_in_the_template_fits_its_service(logical_id: str, kind: str, prop: str, text: str) -> None:
    assert (kind, prop) in LIMITS, f"{logical_id}.{prop}: add how long it may be to LIMITS"
    name = text.replace(f"${{{PREFIX}}}", LONGEST_PREFIX).replace("${AWS::Region}", "ap-southeast-2")
    assert "${" not in name
    assert len(name) <= LIMITS[kind, prop], f"{logical_id}.{prop}: {name} has {len(name)} characters"


@pytest.mark.parametrize("what", CODE)
def test_a_name_that_the_code_derives_fits_its_service(what: str) -> None:
    text, limit = CODE[what]
    assert len(text) <= limit, f"{what}: {text} has {len(text)} characters"


def test_no_other_setting_of_a_function_has_the_prefix() -> None:
    found = {
        name
        for resource in RESOURCES.values()
        for name, value in resource["Properties"].get("Environment", {}).get("Variables", {}).items()
        if f"${{{PREFIX}}}" in text_of(value)
    }
    assert found == DERIVED_SETTINGS


def test_the_longest_prefix_is_the_longest_with_which_every_name_fits() -> None:
    # The names of two drivers are the first that would not.
    names = [
        (text.replace(f"${{{PREFIX}}}", LONGEST_PREFIX), LIMITS[kind, prop])
        for _, kind, prop, text in NAMED
        if (kind, prop) in LIMITS
    ]
    assert min(limit - len(name) for name, limit in names) == 0


def test_the_policy_that_lists_headgates_own_functions_fits() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: without white space
    policy = RESOURCES["NotOnOwnFunctions"]["Properties"]["PolicyDocument"]
    text = json.dumps(policy, separators=(",", ":"))
    for name, value in {
        PREFIX: LONGEST_PREFIX,
        "AWS::Partition": "aws-us-gov",
        "AWS::Region": "us-gov-west-1",
        "AWS::AccountId": "1" * 12,
    }.items():
        text = text.replace(f"${{{name}}}", value)
    assert len(text.replace('{"Fn::Sub":', "").replace('"}', '"')) <= 6_144


def test_no_name_is_made_of_the_name_of_the_stack() -> None:
    # A template cannot check it; CloudFormation allows 128 characters, and nested stacks have long ones.
    text = (ROOT / "template.yaml").read_text("utf-8")
    # A function that tells people how to find the stack, and an export, whose name may have 255 characters.
    told = ("STACK: !Ref AWS::StackName\n", 'Export: {Name: !Sub "${AWS::StackName}-ServiceToken"}\n')
    for each in told:
        assert text.count(each) == 1
        text = text.replace(each, "")
    assert "AWS::StackName" not in text


def test_two_rollouts_have_two_queues_and_a_rollout_keeps_its_own() -> None:
    names = [
        rollout_queue_for(rollout_id, QUEUE, "{}", prefix="headgate-held-", fifo=False).name
        for rollout_id in ("orders-1", "orders-2", "orders-1")
    ]
    assert names[0] == names[2] != names[1]
