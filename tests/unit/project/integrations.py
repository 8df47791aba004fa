"""What AWS services do as the template's roles, which the embedded AWS does not authorize.

State machines' integrations, event source mappings, asynchronous destinations, rules' targets, and the customer-managed
key. Each need is (role, action, resource, condition keys); test_permissions.py holds the roles against them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from statemachines.source.hooks import FUNCTION_OF_HOOK
from tests.builders import ROOT
from tests.unit.project.policies import KEY, REGION, Stack, arn

SCOPED = {
    "TargetFunctions": "checkout*",
    "TargetQueues": "orders*",
    "TargetStreams": "orders*",
    "TargetServices": "shop*",
    "HookFunctions": "hook-*",
    "HookMachines": "approval-*",
    "CountFunctions": "counts-*",
    "RedriveQueues": "orders*",
    "RedriveStreams": "orders*",
    "TaskDefinitions": "migrate*",
    "TaskClusters": "jobs*",
    "TaskRoles": "jobs/*",
    "RegisterTaskDefinitions": "true",
    "CodeObjects": "code/*",
    "CodeRepositories": "checkout*",
    "CleanVersionsOfFunctions": "checkout*",
    "Telemetry": "true",
    "SlackChannel": "C0123456789",
    "TeamsUrl": "https://prod-1.westeurope.logic.azure.com/workflows/0a1b/triggers/manual/paths/invoke",
    "ChatSecret": "headgate/chat",
    "AmazonQTopic": "true",
    "PublishedVersionRequest": "{}",
    "PushedImageRequest": "{}",
    "CreatedObjectRequest": "{}",
    "ScheduledRequest": "{}",
}
"""Parameters as a careful team gives them."""
SCOPED_STACK = Stack(SCOPED)
FULL_STACK = Stack({**SCOPED, "KmsKeyArn": KEY, "SubnetIds": "subnet-0a1b", "SecurityGroupIds": "sg-0a1b"})
"""With a customer-managed key and in a VPC, too."""

HOOK = arn("lambda", "function:hook-smoke")
HOOK_MACHINE = "approval-by-hand"
TASK_ROLE = arn("iam", "role/jobs/migrate", "")
CLUSTER = {"ecs:cluster": arn("ecs", "cluster/jobs")}


Keys = Mapping[str, str | list[str]]
"""Condition keys, and their value or values."""


class Need(NamedTuple):
    """Something that a role must be allowed."""

    role: str
    action: str
    resource: str
    keys: Keys


Needs = Iterator[Need]
Integration = Callable[[Stack, str, dict[str, Any]], Needs]
"""(stack, role, arguments of the state) -> needs."""
_ACTION_PREFIX = "arn:aws:states:::"


def _machine_arns(expression: str) -> list[str]:
    """The state machines that an argument names."""
    named = {"{% $hooks[$index].stateMachine %}": [arn("states", f"stateMachine:{HOOK_MACHINE}")]}
    return named.get(expression) or [expression]


def _function_arns(stack: Stack, expression: str) -> list[str]:
    """The functions that an argument names. What is not known raises KeyError: say here which they are."""
    if expression.startswith("arn:"):
        return [expression]
    sample_hooks = [stack.attribute(name, "Arn") for name in ("SmokeTester", "HttpSmokeTester", "VersionChecker")]
    drivers = [stack.attribute(name, "Arn") for name in ("LambdaAliasDriver", "EventSourceDriver", "EcsServiceDriver")]
    named = {
        "{% $plan.driver %}": drivers,
        FUNCTION_OF_HOOK: [HOOK, f"{HOOK}:live", *sample_hooks],
    }
    return named[expression]


def _invoke(stack: Stack, role: str, arguments: dict[str, Any]) -> Needs:
    for function in _function_arns(stack, arguments["FunctionName"]):
        yield Need(role, "lambda:InvokeFunction", function, {})


def _managed_rule(role: str, rule: str) -> Needs:
    for action in ("PutTargets", "PutRule", "DescribeRule"):
        yield Need(role, f"events:{action}", arn("events", f"rule/{rule}"), {})


def _start_execution_sync(_stack: Stack, role: str, arguments: dict[str, Any]) -> Needs:
    """https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html#sync-async-iam-policies."""
    for machine in _machine_arns(arguments["StateMachineArn"]):
        execution = f"{machine.replace(':stateMachine:', ':execution:')}:one"
        yield Need(role, "states:StartExecution", machine, {})
        yield Need(role, "states:DescribeExecution", execution, {})
        yield Need(role, "states:StopExecution", execution, {})
    yield from _managed_rule(role, "StepFunctionsGetEventsForStepFunctionsExecutionRule")


def _execution(action: str) -> Integration:
    """The integration of an action on an execution, whose argument names its state machine."""

    def needs(_stack: Stack, role: str, arguments: dict[str, Any]) -> Needs:
        expression = arguments["ExecutionArn"]
        machines = re.findall(r"arn:aws:states:[\w:-]+:stateMachine:[\w-]+", expression)
        if "$hooks[$index].stateMachine" in expression:
            machines += _machine_arns("{% $hooks[$index].stateMachine %}")
        assert machines, f"of which machines is this an execution? {expression}"
        for machine in machines:
            yield Need(role, f"states:{action}", f"{machine.replace(':stateMachine:', ':execution:')}:one", {})

    return needs


def _run_task_sync(_stack: Stack, role: str, _arguments: Any) -> Needs:
    """https://docs.aws.amazon.com/step-functions/latest/dg/connect-ecs.html, and what RunTask itself implies."""
    task = arn("ecs", "task/jobs/0a1b")
    yield Need(role, "ecs:RunTask", arn("ecs", "task-definition/migrate-orders:7"), CLUSTER)
    yield Need(role, "ecs:TagResource", arn("ecs", "task/jobs/*"), {**CLUSTER, "ecs:CreateAction": "RunTask"})
    yield Need(role, "ecs:StopTask", task, CLUSTER)
    yield Need(role, "ecs:DescribeTasks", task, CLUSTER)
    yield Need(role, "iam:PassRole", TASK_ROLE, {"iam:PassedToService": "ecs-tasks.amazonaws.com"})
    yield from _managed_rule(role, "StepFunctionsGetEventsForECSTaskRule")


def _put_events(_stack: Stack, role: str, arguments: dict[str, Any]) -> Needs:
    for entry in arguments["Entries"]:
        keys: Keys = {"events:source": [entry["Source"]], "events:detail-type": [entry["DetailType"]]}
        yield Need(role, "events:PutEvents", arn("events", f"event-bus/{entry['EventBusName']}"), keys)


def _put_item(stack: Stack, role: str, arguments: dict[str, Any]) -> Needs:
    """An item whose partition key begins as its expression does, and with the attributes that it names."""
    [prefix] = re.findall(r"'pk': \{'S': '(\w+#)' & ", arguments["Item"])
    assert arguments["TableName"] == stack.attribute("Table", "Arn").rpartition("/")[2]
    attributes = re.findall(r"'(\w+)': \{'[A-Z]+':", arguments["Item"])
    keys: Keys = {"dynamodb:LeadingKeys": f"{prefix}one", "dynamodb:Attributes": attributes}
    yield Need(role, "dynamodb:PutItem", stack.attribute("Table", "Arn"), keys)


_INTEGRATIONS: dict[str, Integration] = {
    "lambda:invoke": _invoke,
    "lambda:invoke.waitForTaskToken": _invoke,
    "states:startExecution.sync:2": _start_execution_sync,
    "aws-sdk:sfn:describeExecution": _execution("DescribeExecution"),
    "aws-sdk:sfn:stopExecution": _execution("StopExecution"),
    "ecs:runTask.sync": _run_task_sync,
    "events:putEvents": _put_events,
    "dynamodb:putItem": _put_item,
}


def of_machine(stack: Stack, name: str) -> Needs:
    """What the Task states of a state machine need."""
    properties = stack.resource(name)
    text = (ROOT / properties["DefinitionUri"]).read_text("utf-8")
    for key, value in properties["DefinitionSubstitutions"].items():
        text = text.replace(f"${{{key}}}", str(value))
    for state in _tasks(json.loads(text)):
        integration = _INTEGRATIONS[state["Resource"].removeprefix(_ACTION_PREFIX)]
        yield from integration(stack, f"{name}Role", state["Arguments"])


def _tasks(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("Type") == "Task":
            yield node
        for child in node.values():
            yield from _tasks(child)
    elif isinstance(node, list):
        for child in node:
            yield from _tasks(child)


_POLLED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "SQS": ("sqs", "Queue", ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")),
    "Kinesis": (
        "kinesis",
        "Stream",
        ("DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"),
    ),
    "DynamoDB": ("dynamodb", "Stream", ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")),
}
"""What a mapping of each kind does with its source: the service, the event's property, the actions."""


def of_mappings(stack: Stack) -> Needs:
    """What Lambda's pollers need, and where they keep what they give up.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions,
    https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html, .../with-ddb.html
    """
    for function in stack.names("AWS::Serverless::Function"):
        for event in stack.resource(function).get("Events", {}).values():
            if event["Type"] not in _POLLED:
                continue
            service, source, actions = _POLLED[event["Type"]]
            for action in actions:
                yield Need(role_of(stack, function), f"{service}:{action}", event["Properties"][source], {})
            yield from _destination(role_of(stack, function), event["Properties"])


def role_of(stack: Stack, function: str) -> str:
    """The role that a function has."""
    return str(stack.resource(function)["Role"]).rpartition("/")[2]


def of_asynchronous_invocations(stack: Stack) -> Needs:
    """What Lambda needs to keep events that a function has failed to process."""
    for function in stack.names("AWS::Serverless::Function"):
        yield from _destination(role_of(stack, function), stack.resource(function).get("EventInvokeConfig", {}))


def _destination(role: str, settings: dict[str, Any]) -> Needs:
    destination = settings.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    if destination:
        # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        yield Need(role, "sqs:SendMessage", destination, {})


def of_rules(stack: Stack) -> Needs:
    """What EventBridge does with a role."""
    for name in stack.names("AWS::Events::Rule"):
        for target in stack.resource(name)["Targets"]:
            if "RoleArn" in target:
                action = "events:InvokeApiDestination" if ":api-destination/" in target["Arn"] else "sns:Publish"
                yield Need(target["RoleArn"].rpartition("/")[2], action, target["Arn"], {})


def of_functions(stack: Stack) -> Needs:
    """What Lambda itself does as a function's role: logs, traces, and network interfaces in a VPC.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html, .../configuration-vpc.html
    """
    for function in stack.names("AWS::Serverless::Function"):
        role, log = role_of(stack, function), stack.resource(function)["LoggingConfig"]["LogGroup"]
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            yield Need(role, action, arn("logs", f"log-group:{log}:log-stream:one"), {})
        for action in ("xray:PutTraceSegments", "xray:PutTelemetryRecords"):
            yield Need(role, action, "*", {})
        for action in _NETWORK if stack.holds("InVpc") else ():
            yield Need(role, action, "*", {})


_NETWORK = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)


def of_machine_logs(stack: Stack) -> Needs:
    """What Step Functions itself does as a machine's role.

    https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html, .../concepts-xray-tracing.html
    """
    for machine in stack.names("AWS::Serverless::StateMachine"):
        for action in (
            *("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries"),
            *("PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups"),
        ):
            yield Need(f"{machine}Role", f"logs:{action}", "*", {})
        for action in ("PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets"):
            yield Need(f"{machine}Role", f"xray:{action}", "*", {})


ENCRYPTED_USES = {
    # SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    "sqs:SendMessage": ("kms:GenerateDataKey", "kms:Decrypt"),
    "sqs:StartMessageMoveTask": ("kms:GenerateDataKey", "kms:Decrypt"),
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    # SNS: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    "sns:Publish": ("kms:GenerateDataKey", "kms:Decrypt"),
    # Kinesis: https://docs.aws.amazon.com/streams/latest/dev/permissions-user-key-KMS.html
    "kinesis:GetRecords": ("kms:Decrypt",),
    # DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.howitworks.html#dynamodb-kms
    **{
        f"dynamodb:{action}": ("kms:Decrypt", "kms:DescribeKey")
        for action in (
            *("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"),
            "GetRecords",
        )
    },
}
"""What an action needs on the key of what it acts on, through its own service."""


def of_key(stack: Stack) -> Needs:
    """What roles need on the customer-managed key for the actions that they are allowed."""
    for role in stack.names("AWS::IAM::Role"):
        for statement in stack.statements(role):
            if statement.effect != "Allow":
                continue
            for action in statement.actions:
                for needed in ENCRYPTED_USES.get(action, ()):
                    through = f"{action.partition(':')[0]}.{REGION}.amazonaws.com"
                    yield Need(role, needed, KEY, {"kms:ViaService": through})


def all_needs(stack: Stack) -> list[Need]:
    """Everything that AWS does as one of the roles."""
    machines = [need for name in stack.names("AWS::Serverless::StateMachine") for need in of_machine(stack, name)]
    return [
        *machines,
        *of_machine_logs(stack),
        *of_functions(stack),
        *of_mappings(stack),
        *of_asynchronous_invocations(stack),
        *of_rules(stack),
        *(of_key(stack) if stack.holds("Encrypted") else ()),
    ]
