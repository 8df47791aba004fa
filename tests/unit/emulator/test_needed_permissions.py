"""The permissions of requests as boto3 makes them, by the Service Authorization Reference."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.awsrequest
import botocore.loaders
import cfnlint
import pytest

from emulator.gaps.iam.needed_permissions import (
    Arns,
    Permission,
    UnmappedRequestError,
    known_operations,
    needed,
    read_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE: dict[str, Any] = json.loads(
    (Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json").read_text()
)
"""The Service Authorization Reference as cfn-lint carries it: names in lower case."""
REGION, ACCOUNT = "eu-west-1", "123456789012"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:checkout"
MAPPED, UNMAPPED = "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "24e0db71-5d35-4eb5-b481-8945cf9d10c2"
MAPPING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{MAPPED}"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/rollouts"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/orders"
TABLE_STREAM = f"{TABLE}/stream/2026"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:orders"
QUEUE, HELD = (f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" for name in ("orders", "held"))
URL = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/orders"
HANDLE = "eyJ0YXNrSWQiOiAidC0xIiwgInNvdXJjZUFybiI6ICJhcm46YXdzOnNxczpldS13ZXN0LTE6MTIzNDU2Nzg5MDEyOm9yZGVycyJ9"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:rollout"
EXECUTION = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:rollout:e-1"
SERVICE = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/jobs/shop"
TASK_SET = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-set/jobs/shop/ecs-svc/7"
RULE, LISTENER = (
    f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:{kind}"
    for kind in ("listener-rule/app/a/b/c", "listener/app/a/b")
)
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/jobs"
TASK = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/jobs/0a1b"
DEFINITION = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/migrate:*"
TASK_ROLE = f"arn:aws:iam::{ACCOUNT}:role/migrate"
REPOSITORY = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/checkout"
ON_CLUSTER = {"ecs:cluster": CLUSTER}
OF_TASK = ON_CLUSTER | {"aws:ResourceTag/headgate:execution": "run-1"}
BEHIND_MAPPING = {"lambda:FunctionArn": f"{FUNCTION}:live"}
MOVES = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
KEY = {"pk": {"S": "TARGET#a"}, "sk": {"S": "LOCK"}}
ON_KEY = {"dynamodb:LeadingKeys": ["TARGET#a"]}
WITH_KEY: dict[str, Any] = {"dynamodb:Attributes": ["pk", "sk"]}


class FakeAccount:
    """One mapping, one iterator of each kind of stream, one table."""

    def function_of_mapping(self, uuid: str) -> str | None:
        return {MAPPED: f"{FUNCTION}:live"}.get(uuid)

    def stream_of_iterator(self, iterator: str) -> str | None:
        return {"i-kinesis": STREAM, "i-table": TABLE_STREAM}.get(iterator)

    def partition_key(self, table: str) -> str | None:
        return {"rollouts": "pk"}.get(table)

    def tags_of_task(self, arn: str) -> dict[str, str]:
        return {"headgate:execution": "run-1"} if arn == TASK else {}

    def roles_of_definition(self, name: str) -> list[str]:
        return [TASK_ROLE] if name == "shop:7" else []


class _SentError(Exception):
    """Carries a request that was about to leave."""


@functools.cache
def client_that_sends_nothing(service: str) -> Any:
    made = boto3.session.Session().client(
        service,  # type: ignore[call-overload]
        region_name=REGION,
        aws_access_key_id="AKIA",
        aws_secret_access_key="secret",
    )

    def stop(request: botocore.awsrequest.AWSPreparedRequest, **_: Any) -> None:
        raise _SentError(request)

    made.meta.events.register("before-send", stop)
    return made


def sent(client: str, operation: str, **parameters: Any) -> Any:
    """The signed HTTP request that boto3 makes of a call."""
    method: Callable[..., Any] = getattr(client_that_sends_nothing(client), operation)
    with pytest.raises(_SentError) as caught:
        method(**parameters)
    return caught.value.args[0]


def permissions(client: str, operation: str, **parameters: Any) -> list[Permission]:
    """What a call of boto3 needs."""
    request = sent(client, operation, **parameters)
    url = urlsplit(request.url)
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    body = request.body.encode() if isinstance(request.body, str) else bytes(request.body or b"")
    read = read_request(request.method, url.path, headers, body, parse_qs(url.query))
    return needed(read, Arns(REGION, ACCOUNT), FakeAccount())


def one(action: str, resource: str, keys: dict[str, Any] | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    return [(action, resource, keys or {})]


Calls = list[tuple[str, str, dict[str, Any], list[tuple[str, str, dict[str, Any]]]]]

LAMBDA: Calls = [
    ("lambda", "invoke", {"FunctionName": "checkout"}, one("lambda:InvokeFunction", FUNCTION)),
    (
        "lambda",
        "invoke",
        {"FunctionName": "checkout", "Qualifier": "live"},
        one("lambda:InvokeFunction", f"{FUNCTION}:live"),
    ),
    ("lambda", "invoke", {"FunctionName": f"{FUNCTION}:2"}, one("lambda:InvokeFunction", f"{FUNCTION}:2")),
    (
        "lambda",
        "get_alias",
        {"FunctionName": "checkout", "Name": "live"},
        one("lambda:GetAlias", FUNCTION) + one("lambda:GetAlias", f"{FUNCTION}:live"),
    ),
    (
        "lambda",
        "create_alias",
        {"FunctionName": "checkout", "Name": "live", "FunctionVersion": "1"},
        one("lambda:CreateAlias", FUNCTION) + one("lambda:CreateAlias", f"{FUNCTION}:live"),
    ),
    (
        "lambda",
        "delete_alias",
        {"FunctionName": "checkout", "Name": "live"},
        one("lambda:DeleteAlias", FUNCTION) + one("lambda:DeleteAlias", f"{FUNCTION}:live"),
    ),
    (
        "lambda",
        "update_alias",
        {"FunctionName": "checkout", "Name": "live", "FunctionVersion": "2"},
        one("lambda:UpdateAlias", FUNCTION) + one("lambda:UpdateAlias", f"{FUNCTION}:live"),
    ),
    ("lambda", "get_function", {"FunctionName": "checkout"}, one("lambda:GetFunction", FUNCTION)),
    (
        "lambda",
        "get_function_configuration",
        {"FunctionName": "checkout", "Qualifier": "2"},
        one("lambda:GetFunctionConfiguration", f"{FUNCTION}:2"),
    ),
    ("lambda", "publish_version", {"FunctionName": "checkout"}, one("lambda:PublishVersion", FUNCTION)),
    (
        "lambda",
        "delete_function",
        {"FunctionName": "checkout", "Qualifier": "2"},
        one("lambda:DeleteFunction", FUNCTION) + one("lambda:DeleteFunction", f"{FUNCTION}:2"),
    ),
    ("lambda", "list_aliases", {"FunctionName": "checkout"}, one("lambda:ListAliases", FUNCTION)),
    ("lambda", "get_policy", {"FunctionName": "checkout", "Qualifier": "2"}, one("lambda:GetPolicy", f"{FUNCTION}:2")),
    ("lambda", "list_functions", {}, one("lambda:ListFunctions", "*")),
    (
        "lambda",
        "list_versions_by_function",
        {"FunctionName": "checkout"},
        one("lambda:ListVersionsByFunction", FUNCTION),
    ),
    (
        "lambda",
        "list_provisioned_concurrency_configs",
        {"FunctionName": "checkout"},
        one("lambda:ListProvisionedConcurrencyConfigs", FUNCTION),
    ),
    (
        "lambda",
        "list_durable_executions_by_function",
        {"FunctionName": "checkout"},
        one("lambda:ListDurableExecutionsByFunction", FUNCTION),
    ),
    *(
        (
            "lambda",
            f"{verb.lower()}_provisioned_concurrency_config",
            {"FunctionName": "checkout", "Qualifier": "2", **more},
            one(f"lambda:{verb}ProvisionedConcurrencyConfig", f"{FUNCTION}:2"),
        )
        for verb, more in (("Get", {}), ("Put", {"ProvisionedConcurrentExecutions": 1}), ("Delete", {}))
    ),
    (
        "lambda",
        "update_function_code",
        {"FunctionName": "checkout", "S3Bucket": "code", "S3Key": "a.zip"},
        one("lambda:UpdateFunctionCode", FUNCTION) + one("s3:GetObject", "arn:aws:s3:::code/a.zip"),
    ),
    (
        "lambda",
        "update_function_code",
        {"FunctionName": "checkout", "S3Bucket": "code", "S3Key": "a.zip", "S3ObjectVersion": "7"},
        one("lambda:UpdateFunctionCode", FUNCTION) + one("s3:GetObjectVersion", "arn:aws:s3:::code/a.zip"),
    ),
    (
        "lambda",
        "update_function_code",
        {"FunctionName": "checkout", "ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/checkout@sha256:0a"},
        one("lambda:UpdateFunctionCode", FUNCTION)
        + one("ecr:BatchGetImage", REPOSITORY)
        + one("ecr:GetDownloadUrlForLayer", REPOSITORY),
    ),
    (
        "lambda",
        "get_event_source_mapping",
        {"UUID": MAPPED},
        one("lambda:GetEventSourceMapping", MAPPING, BEHIND_MAPPING),
    ),
    (
        "lambda",
        "get_event_source_mapping",
        {"UUID": UNMAPPED},
        one("lambda:GetEventSourceMapping", MAPPING.replace(MAPPED, UNMAPPED)),
    ),
    (
        "lambda",
        "update_event_source_mapping",
        {"UUID": MAPPED, "FunctionName": "other:live"},
        one("lambda:UpdateEventSourceMapping", MAPPING, BEHIND_MAPPING)
        + one(
            "lambda:UpdateEventSourceMapping",
            MAPPING,
            {"lambda:FunctionArn": FUNCTION.replace("checkout", "other:live")},
        ),
    ),
    ("lambda", "list_event_source_mappings", {"EventSourceArn": QUEUE}, one("lambda:ListEventSourceMappings", "*")),
]

DYNAMODB: Calls = [
    ("dynamodb", "get_item", {"TableName": "rollouts", "Key": KEY}, one("dynamodb:GetItem", TABLE, ON_KEY)),
    ("dynamodb", "put_item", {"TableName": "rollouts", "Item": KEY}, one("dynamodb:PutItem", TABLE, ON_KEY | WITH_KEY)),
    (
        "dynamodb",
        "put_item",
        {
            "TableName": "rollouts",
            "Item": {**KEY, "owner": {"S": "a"}},
            "ConditionExpression": "#epoch = :epoch",
            "ExpressionAttributeNames": {"#epoch": "epoch"},
            "ExpressionAttributeValues": {":epoch": {"N": "1"}},
        },
        one("dynamodb:PutItem", TABLE, ON_KEY | {"dynamodb:Attributes": ["epoch", "owner", "pk", "sk"]}),
    ),
    ("dynamodb", "delete_item", {"TableName": "rollouts", "Key": KEY}, one("dynamodb:DeleteItem", TABLE, ON_KEY)),
    (
        "dynamodb",
        "put_item",
        {"TableName": "ledger", "Item": KEY},
        one("dynamodb:PutItem", f"{TABLE[:-8]}ledger", WITH_KEY),
    ),
    (
        "dynamodb",
        "update_item",
        {"TableName": "rollouts", "Key": KEY, "UpdateExpression": "SET a = b"},
        one("dynamodb:UpdateItem", TABLE, ON_KEY),
    ),
    (
        "dynamodb",
        "transact_write_items",
        {
            "TransactItems": [
                {"Put": {"TableName": "rollouts", "Item": KEY}},
                {"Update": {"TableName": "rollouts", "Key": KEY, "UpdateExpression": "SET a = b"}},
                {"Delete": {"TableName": "rollouts", "Key": KEY}},
                {"ConditionCheck": {"TableName": "rollouts", "Key": KEY, "ConditionExpression": "a = b"}},
            ]
        },
        [
            ("dynamodb:PutItem", TABLE, ON_KEY | WITH_KEY),
            *((f"dynamodb:{action}", TABLE, ON_KEY) for action in ("UpdateItem", "DeleteItem", "ConditionCheckItem")),
        ],
    ),
    (
        "dynamodb",
        "transact_get_items",
        {"TransactItems": [{"Get": {"TableName": "rollouts", "Key": KEY}}]},
        one("dynamodb:GetItem", TABLE, ON_KEY),
    ),
    (
        "dynamodb",
        "batch_get_item",
        {"RequestItems": {"rollouts": {"Keys": [KEY]}}},
        one("dynamodb:BatchGetItem", TABLE, ON_KEY),
    ),
    (
        "dynamodb",
        "query",
        {
            "TableName": "rollouts",
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :sk)",
            "ExpressionAttributeValues": {":pk": KEY["pk"], ":sk": {"S": "WAIT#"}},
        },
        one("dynamodb:Query", TABLE, ON_KEY),
    ),
    (
        "dynamodb",
        "query",
        {
            "TableName": "rollouts",
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": "pk"},
            "ExpressionAttributeValues": {":pk": KEY["pk"]},
        },
        one("dynamodb:Query", TABLE, ON_KEY),
    ),
    (
        "dynamodb",
        "query",
        {"TableName": "rollouts", "IndexName": "running", "KeyConditionExpression": "pk = :pk"},
        one("dynamodb:Query", f"{TABLE}/index/running"),
    ),
    (
        "dynamodbstreams",
        "get_shard_iterator",
        {"StreamArn": TABLE_STREAM, "ShardId": f"shardId-{0:021}", "ShardIteratorType": "LATEST"},
        one("dynamodb:GetShardIterator", TABLE_STREAM),
    ),
    ("dynamodbstreams", "get_records", {"ShardIterator": "i-table"}, one("dynamodb:GetRecords", TABLE_STREAM)),
]

QUEUES: Calls = [
    ("sqs", "get_queue_url", {"QueueName": "orders"}, one("sqs:GetQueueUrl", QUEUE)),
    ("sqs", "send_message", {"QueueUrl": URL, "MessageBody": "a"}, one("sqs:SendMessage", QUEUE)),
    ("sqs", "send_message_batch", {"QueueUrl": URL, "Entries": []}, one("sqs:SendMessage", QUEUE)),
    ("sqs", "delete_message_batch", {"QueueUrl": URL, "Entries": []}, one("sqs:DeleteMessage", QUEUE)),
    (
        "sqs",
        "change_message_visibility_batch",
        {"QueueUrl": URL, "Entries": []},
        one("sqs:ChangeMessageVisibility", QUEUE),
    ),
    ("sqs", "list_queue_tags", {"QueueUrl": URL}, one("sqs:ListQueueTags", QUEUE)),
    ("sqs", "create_queue", {"QueueName": "orders"}, one("sqs:CreateQueue", QUEUE)),
    (
        "sqs",
        "create_queue",
        {"QueueName": "orders", "tags": {"a": "b"}},
        one("sqs:CreateQueue", QUEUE) + one("sqs:TagQueue", QUEUE),
    ),
    (
        "sqs",
        "start_message_move_task",
        {"SourceArn": QUEUE, "DestinationArn": HELD},
        [(f"sqs:{action}", QUEUE, {}) for action in ("StartMessageMoveTask", *MOVES)] + one("sqs:SendMessage", HELD),
    ),
    (
        "sqs",
        "list_message_move_tasks",
        {"SourceArn": QUEUE},
        [(f"sqs:{action}", QUEUE, {}) for action in ("ListMessageMoveTasks", *MOVES)],
    ),
    (
        "sqs",
        "cancel_message_move_task",
        {"TaskHandle": HANDLE},
        [(f"sqs:{action}", QUEUE, {}) for action in ("CancelMessageMoveTask", *MOVES)],
    ),
]

OTHERS: Calls = [
    (
        "kinesis",
        "put_record",
        {"StreamName": "orders", "Data": b"", "PartitionKey": "a"},
        one("kinesis:PutRecord", STREAM),
    ),
    ("kinesis", "get_records", {"ShardIterator": "i-kinesis"}, one("kinesis:GetRecords", STREAM)),
    ("kinesis", "get_records", {"ShardIterator": "gone"}, one("kinesis:GetRecords", "*")),
    (
        "kinesis",
        "get_shard_iterator",
        {"StreamARN": STREAM, "ShardId": "s", "ShardIteratorType": "LATEST"},
        one("kinesis:GetShardIterator", STREAM),
    ),
    ("stepfunctions", "start_execution", {"stateMachineArn": MACHINE}, one("states:StartExecution", MACHINE)),
    ("stepfunctions", "describe_execution", {"executionArn": EXECUTION}, one("states:DescribeExecution", EXECUTION)),
    ("stepfunctions", "send_task_success", {"taskToken": "t", "output": "{}"}, one("states:SendTaskSuccess", "*")),
    *(
        (
            "ssm",
            "get_parameter",
            {"Name": name},
            one("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name.strip('/')}"),
        )
        for name in ("/headgate/template", "template")
    ),
    (
        "events",
        "put_events",
        {"Entries": [{"Source": "headgate", "DetailType": "Rollout Ended", "Detail": "{}", "EventBusName": "b"}]},
        one(
            "events:PutEvents",
            f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/b",
            {"events:source": ["headgate"], "events:detail-type": ["Rollout Ended"]},
        ),
    ),
    (
        "ecs",
        "describe_tasks",
        {"cluster": "jobs", "tasks": [TASK, "0a1b"]},
        [("ecs:DescribeTasks", TASK, OF_TASK), ("ecs:DescribeTasks", TASK, OF_TASK)],
    ),
    ("ecs", "stop_task", {"cluster": CLUSTER, "task": TASK}, one("ecs:StopTask", TASK, OF_TASK)),
    ("ecs", "list_tasks", {"cluster": "jobs"}, one("ecs:ListTasks", "*", ON_CLUSTER)),
    (
        "ecs",
        "register_task_definition",
        {
            "family": "migrate",
            "containerDefinitions": [],
            "taskRoleArn": TASK_ROLE,
            "tags": [{"key": "a", "value": "b"}],
        },
        one("ecs:RegisterTaskDefinition", DEFINITION)
        + one("ecs:TagResource", DEFINITION, {"ecs:CreateAction": "RegisterTaskDefinition"})
        + one("iam:PassRole", TASK_ROLE, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    ),
    (
        "ecs",
        "create_service",
        {"cluster": "jobs", "serviceName": "shop", "tags": [{"key": "a", "value": "b"}]},
        one("ecs:CreateService", SERVICE, ON_CLUSTER)
        + one("ecs:TagResource", SERVICE, {"ecs:CreateAction": "CreateService"}),
    ),
    (
        "ecs",
        "describe_services",
        {"cluster": CLUSTER, "services": [SERVICE, "shop"]},
        one("ecs:DescribeServices", SERVICE, ON_CLUSTER) * 2,
    ),
    (
        "ecs",
        "update_service_primary_task_set",
        {"cluster": "jobs", "service": "shop", "primaryTaskSet": TASK_SET},
        one("ecs:UpdateServicePrimaryTaskSet", SERVICE, ON_CLUSTER),
    ),
    (
        "ecs",
        "create_task_set",
        {"cluster": "jobs", "service": SERVICE, "taskDefinition": "shop:7"},
        one("ecs:CreateTaskSet", TASK_SET.replace("ecs-svc/7", "*"), ON_CLUSTER | {"ecs:service": SERVICE})
        + one("iam:PassRole", TASK_ROLE, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    ),
    (
        "ecs",
        "update_service",
        {"cluster": "jobs", "service": "shop", "taskDefinition": "shop:7"},
        one("ecs:UpdateService", SERVICE, ON_CLUSTER)
        + one("iam:PassRole", TASK_ROLE, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    ),
    (
        "ecs",
        "update_service",
        {"cluster": "jobs", "service": "shop", "desiredCount": 3},
        one("ecs:UpdateService", SERVICE, ON_CLUSTER),
    ),
    (
        "ecs",
        "delete_task_set",
        {"cluster": "jobs", "service": "shop", "taskSet": "ecs-svc/7"},
        one("ecs:DeleteTaskSet", TASK_SET, ON_CLUSTER | {"ecs:service": SERVICE}),
    ),
    ("elbv2", "describe_rules", {"RuleArns": [RULE]}, one("elasticloadbalancing:DescribeRules", "*")),
    ("elbv2", "modify_rule", {"RuleArn": RULE}, one("elasticloadbalancing:ModifyRule", RULE)),
    ("elbv2", "modify_listener", {"ListenerArn": LISTENER}, one("elasticloadbalancing:ModifyListener", LISTENER)),
    (
        "application-autoscaling",
        "register_scalable_target",
        {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount", "ResourceId": "service/jobs/shop"},
        one(
            "application-autoscaling:RegisterScalableTarget",
            f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}:scalable-target/*",
            {
                "application-autoscaling:service-namespace": "ecs",
                "application-autoscaling:scalable-dimension": "ecs:service:DesiredCount",
            },
        )
        + one("ecs:DescribeServices", SERVICE, ON_CLUSTER)
        + one("ecs:UpdateService", SERVICE, ON_CLUSTER),
    ),
    (
        "logs",
        "get_log_events",
        {"logGroupName": "/ecs/jobs", "logStreamName": "ecs/app/0a1b"},
        one("logs:GetLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/ecs/jobs:log-stream:ecs/app/0a1b"),
    ),
    (
        "cloudformation",
        "get_template",
        {"StackName": "checkout"},
        one("cloudformation:GetTemplate", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/*"),
    ),
    (
        "cloudformation",
        "describe_stacks",
        {"StackName": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/0a1b"},
        one("cloudformation:DescribeStacks", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/0a1b"),
    ),
    (
        "cloudformation",
        "describe_stack_resource",
        {"StackName": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/0a1b", "LogicalResourceId": "Rollout"},
        one("cloudformation:DescribeStackResource", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/0a1b"),
    ),
    (
        "cloudformation",
        "list_stack_resources",
        {"StackName": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/0a1b"},
        one("cloudformation:ListStackResources", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/checkout/0a1b"),
    ),
    (
        "cloudformation",
        "describe_stack_resources",
        {"PhysicalResourceId": f"{FUNCTION}:live"},
        one("cloudformation:DescribeStackResources", "*"),
    ),
    ("sts", "get_caller_identity", {}, []),
    ("sns", "list_subscriptions_by_topic", {"TopicArn": TOPIC}, one("sns:ListSubscriptionsByTopic", TOPIC)),
    ("sns", "publish", {"TopicArn": TOPIC, "Message": "a"}, one("sns:Publish", TOPIC)),
    ("cloudwatch", "describe_alarms", {"AlarmNames": ["a"]}, one("cloudwatch:DescribeAlarms", "*")),
    (
        "application-autoscaling",
        "describe_scalable_targets",
        {"ServiceNamespace": "lambda"},
        one("application-autoscaling:DescribeScalableTargets", "*"),
    ),
]

CALLS = LAMBDA + DYNAMODB + QUEUES + OTHERS


@pytest.mark.parametrize(
    ("client", "operation", "parameters", "expected"),
    CALLS,
    ids=[f"{call[0]}.{call[1]}-{n}" for n, call in enumerate(CALLS)],
)
def test_a_request_needs_the_permissions_of_the_reference(
    client: str, operation: str, parameters: dict[str, Any], expected: list[tuple[str, str, dict[str, Any]]]
) -> None:
    assert [tuple(permission) for permission in permissions(client, operation, **parameters)] == expected


@pytest.mark.parametrize(
    ("client", "operation", "parameters"),
    [
        ("lambda", "delete_function", {"FunctionName": "checkout"}),
        ("sqs", "purge_queue", {"QueueUrl": URL}),
        ("sns", "create_topic", {"Name": "a"}),
        ("s3", "list_buckets", {}),
    ],
)
def test_a_request_that_nobody_mapped_is_never_allowed(client: str, operation: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(UnmappedRequestError):
        permissions(client, operation, **parameters)


def test_a_request_without_a_signature_is_never_allowed() -> None:
    with pytest.raises(UnmappedRequestError, match="no signature"):
        read_request("POST", "/", {"x-amz-target": "AmazonSQS.SendMessage"}, b"{}", {})


@pytest.mark.parametrize(("client", "operation", "parameters", "expected"), CALLS)
def test_an_action_and_its_resource_are_in_the_reference(
    client: str, operation: str, parameters: dict[str, Any], expected: list[tuple[str, str, dict[str, Any]]]
) -> None:
    for action, resource, _ in expected:
        service, _, name = action.partition(":")
        listed = REFERENCE[service]["Actions"][name.lower()]
        assert resource == "*" or _fits(resource, service, listed.get("Resources", [])), f"{action} on {resource}"


def _fits(resource: str, service: str, kinds: list[str]) -> bool:
    formats = [form for kind in kinds for form in REFERENCE[service]["Resources"][kind.lower()]["ARNFormats"]]
    values = {"Partition": "aws", "Region": REGION, "Account": ACCOUNT}
    return any(re.fullmatch(re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], form), resource) for form in formats)


def test_every_mapped_operation_is_one_of_its_service() -> None:
    models = {
        "elasticloadbalancing": ["elbv2"],
        "states": ["stepfunctions"],
        "monitoring": ["cloudwatch"],
        "dynamodb": ["dynamodb", "dynamodbstreams"],
    }
    loader = botocore.loaders.Loader()
    for service, operation in known_operations():
        known = [loader.load_service_model(name, "service-2")["operations"] for name in models.get(service, [service])]
        assert any(operation in operations for operations in known), f"{service} has no {operation}"
