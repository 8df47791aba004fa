"""The permissions that AWS requires for a request: actions, resources and condition keys.

By the Service Authorization Reference
(https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html),
for the requests of Headgate's functions, of the functions that it rolls out, and of the roles of probes. A request that
is not in these tables raises UnmappedRequestError: it is never allowed without a decision. Where AWS does not document
which of two ARNs it evaluates, both are needed.
"""

import base64
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote

import botocore.loaders

Keys = dict[str, Any]
"""Condition keys of a request and their values."""


class Permission(NamedTuple):
    """An action on a resource, with the condition keys of the request."""

    action: str
    resource: str
    keys: Keys


class UnmappedRequestError(LookupError):
    """No table says which permissions the request needs. Add its operation."""


class Account(Protocol):
    """What a request does not say itself: what exists in the account."""

    def function_of_mapping(self, uuid: str) -> str | None:
        """Return the ARN of the function of an event source mapping."""

    def stream_of_iterator(self, iterator: str) -> str | None:
        """Return the ARN of the stream of a shard iterator, of Kinesis or DynamoDB."""

    def partition_key(self, table: str) -> str | None:
        """Return the name of a table's partition key."""

    def tags_of_task(self, arn: str) -> Mapping[str, str]:
        """Return the tags of an ECS task; none if there is no such task."""

    def roles_of_definition(self, name: str) -> Iterable[str]:
        """Return the ARNs of the roles of a task definition; none if there is no such definition."""


@dataclass(frozen=True)
class Request:
    """A request as an SDK's client makes it, whatever its protocol."""

    service: str
    """As in its signature, for example ``states``."""
    operation: str
    """As in the SDK's model, for example ``StartExecution``."""
    parameters: Mapping[str, Any]
    """Those in the path and the query included; empty for CBOR, whose operations need none here."""


@dataclass(frozen=True)
class Arns:
    """Builds ARNs in a partition, Region and account."""

    region: str
    account: str
    partition: str = "aws"

    def of(self, service: str, resource: str) -> str:
        """Return the ARN of a resource, or the resource itself if it is an ARN or ``*``."""
        if resource == "*" or resource.startswith("arn:"):
            return resource
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def read_request(method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]) -> Request:
    """Read a signed HTTP request. Raises UnmappedRequestError if its operation cannot be told."""
    signed = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request", headers.get("authorization", ""))
    if signed is None:
        raise UnmappedRequestError(f"{method} {path} has no signature of version 4")
    service = signed.group(1)
    if service == "lambda":
        flat = {name: value[0] if isinstance(value, list) else value for name, value in query.items()}
        operation, in_path = _lambda_route(method, path, flat)
        return Request(service, operation, {**flat, **_json(body), **in_path})
    target = headers.get("x-amz-target", "")
    if target:
        return Request(service, target.rpartition(".")[2], _json(body))
    # https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
    cbor = re.fullmatch(r"/service/\w+/operation/(\w+)", path)
    if cbor:
        return Request(service, cbor.group(1), {})
    form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    if "Action" in form:
        return Request(service, form["Action"], form)
    raise UnmappedRequestError(f"{method} {path} of {service} names no operation")


def needed(request: Request, arns: Arns, account: Account) -> list[Permission]:
    """Return the permissions that a request needs, all of them. Raises UnmappedRequestError."""
    operations = _SERVICES.get(request.service, {})
    rule = operations.get(request.operation)
    if rule is None:
        raise UnmappedRequestError(
            f"{request.service} {request.operation}: add it to the tables of {__name__}, by the Service Authorization "
            "Reference"
        )
    return list(rule(request.operation, request.parameters, arns, account))


def known_operations() -> list[tuple[str, str]]:
    """Return (service, operation) of every request whose permissions are known."""
    return [(service, operation) for service, operations in _SERVICES.items() for operation in operations]


def _json(body: bytes) -> dict[str, Any]:
    if not body.lstrip().startswith(b"{"):
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _Route(NamedTuple):
    """How a request names an operation of Lambda."""

    method: str
    path: re.Pattern[str]
    query: str
    """Name of a query parameter that the operation always has; empty if there is none."""
    operation: str


@functools.cache
def _lambda_routes() -> list[_Route]:
    model = botocore.loaders.Loader().load_service_model("lambda", "service-2")
    found = []
    for name, operation in model["operations"].items():
        path, _, query = operation["http"]["requestUri"].partition("?")
        pattern = re.sub(r"\{(\w+)\+?\}", r"(?P<\1>[^/]+)", path.rstrip("/"))
        found.append(_Route(operation["http"]["method"], re.compile(f"{pattern}/?"), query.partition("=")[0], name))
    # What is fixed in a path comes before what varies, and a query that is always there before none.
    return sorted(found, key=lambda route: (route.path.pattern.count("(?P<"), not route.query))


def _lambda_route(method: str, path: str, query: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    for wanted, pattern, always, operation in _lambda_routes():
        found = pattern.fullmatch(path) if wanted == method else None
        if found and (not always or always in query):
            return operation, {name: unquote(value) for name, value in found.groupdict().items()}
    raise UnmappedRequestError(f"Lambda has no operation {method} {path}")


# --- Rules: (operation, parameters, arns, account) -> permissions ----------------------------------------------------

Parameters = Mapping[str, Any]
Rule = Callable[[str, Parameters, Arns, Account], Iterable[Permission]]


def _unscoped(service: str) -> Rule:
    def rule(operation: str, _parameters: Parameters, _arns: Arns, _account: Account) -> Iterable[Permission]:
        return [Permission(f"{service}:{operation}", "*", {})]

    return rule


def _function_arn(name: str, arns: Arns) -> str:
    return name if name.startswith("arn:") else arns.of("lambda", f"function:{name}")


def _unqualified(arn: str) -> str:
    return ":".join(arn.split(":")[:7])


def _function(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    action = {"Invoke": "InvokeFunction"}.get(operation, operation)
    arn = _function_arn(parameters["FunctionName"], arns)
    if parameters.get("Qualifier"):
        arn = f"{_unqualified(arn)}:{parameters['Qualifier']}"
    return [Permission(f"lambda:{action}", arn, {})]


def _version(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    if not parameters.get("Qualifier"):
        # IAM cannot tell it from the deletion of a version, and nothing of Headgate's does this.
        raise UnmappedRequestError(f"lambda {operation} without a Qualifier deletes the function with all its versions")
    # The developer guide names the function alone.
    whole = {"FunctionName": parameters["FunctionName"]}
    return [*_function(operation, whole, arns, account), *_function(operation, parameters, arns, account)]


def _alias(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # The reference names the function only, the developer guide's examples name aliases too.
    function = _unqualified(_function_arn(parameters["FunctionName"], arns))
    yield Permission(f"lambda:{operation}", function, {})
    yield Permission(f"lambda:{operation}", f"{function}:{parameters['Name']}", {})


def _function_code(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    # https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionCode.html: Lambda reads the code as the caller.
    yield from _function(operation, parameters, arns, account)
    if parameters.get("S3Bucket"):
        action = "GetObjectVersion" if parameters.get("S3ObjectVersion") else "GetObject"
        key = f"{parameters['S3Bucket']}/{parameters['S3Key']}"
        yield Permission(f"s3:{action}", f"arn:{arns.partition}:s3:::{key}", {})
    image = re.match(r"(\d+)\.dkr\.ecr\.([\w-]+)\.[^/]+/([^:@]+)", parameters.get("ImageUri") or "")
    if image:
        owner, region, repository = image.groups()
        arn = f"arn:{arns.partition}:ecr:{region}:{owner}:repository/{repository}"
        yield Permission("ecr:BatchGetImage", arn, {})
        yield Permission("ecr:GetDownloadUrlForLayer", arn, {})


def _mapping(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    arn = arns.of("lambda", f"event-source-mapping:{parameters['UUID']}")
    now = account.function_of_mapping(parameters["UUID"])
    then = parameters.get("FunctionName")
    for function in dict.fromkeys([now, _function_arn(then, arns) if then else now]):
        # A mapping that does not exist has no function: the condition key is absent.
        yield Permission(f"lambda:{operation}", arn, {"lambda:FunctionArn": function} if function else {})


def _table_arn(name: str, arns: Arns) -> str:
    return arns.of("dynamodb", f"table/{name}")


def _leading_keys(table: str, keys: Iterable[Mapping[str, Any]], account: Account) -> Keys:
    name = account.partition_key(table)
    values = [next(iter(key[name].values())) for key in keys if name is not None and name in key]
    return {"dynamodb:LeadingKeys": values} if values else {}


def _item(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    table = parameters["TableName"]
    keys = _leading_keys(table, [parameters.get("Key") or parameters.get("Item") or {}], account)
    if operation == "PutItem":
        # Of other operations, the expressions would have to be read.
        names = (parameters.get("ExpressionAttributeNames") or {}).values()
        keys["dynamodb:Attributes"] = sorted({*parameters["Item"], *names})
    return [Permission(f"dynamodb:{operation}", _table_arn(table, arns), keys)]


def _transaction(_operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
    actions = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "Get": "GetItem"}
    actions["ConditionCheck"] = "ConditionCheckItem"
    for each in parameters["TransactItems"]:
        for kind, item in each.items():
            yield from _item(actions[kind], item, arns, account)


def _batch_of_items(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    for table, wanted in parameters["RequestItems"].items():
        keys = _leading_keys(table, wanted.get("Keys", []) if isinstance(wanted, dict) else [], account)
        yield Permission(f"dynamodb:{operation}", _table_arn(table, arns), keys)


def _query(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    table = parameters["TableName"]
    arn, index = _table_arn(table, arns), parameters.get("IndexName")
    if index:
        return [Permission(f"dynamodb:{operation}", f"{arn}/index/{index}", {})]
    return [Permission(f"dynamodb:{operation}", arn, _queried_keys(table, parameters, account))]


def _queried_keys(table: str, parameters: Parameters, account: Account) -> Keys:
    """Return the partition key of a query, which its condition compares with a value."""
    name = account.partition_key(table)
    names = parameters.get("ExpressionAttributeNames") or {}
    for attribute, value in re.findall(r"([#\w.-]+)\s*=\s*(:\w+)", parameters.get("KeyConditionExpression") or ""):
        if names.get(attribute, attribute) == name:
            return {"dynamodb:LeadingKeys": list(parameters["ExpressionAttributeValues"][value].values())}
    return {}


def _stream(service: str) -> Rule:
    def rule(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
        arn = parameters.get("StreamARN") or parameters.get("StreamArn")
        if not arn and parameters.get("StreamName"):
            arn = arns.of(service, f"stream/{parameters['StreamName']}")
        if not arn and parameters.get("ShardIterator"):
            arn = account.stream_of_iterator(parameters["ShardIterator"])
        return [Permission(f"{service}:{operation}", arn or "*", {})]

    return rule


_STREAM = {service: _stream(service) for service in ("kinesis", "dynamodb")}


def _queue_arn(parameters: Parameters, arns: Arns) -> str:
    if parameters.get("QueueUrl"):
        *_, owner, name = parameters["QueueUrl"].split("/")
        return Arns(arns.region, owner, arns.partition).of("sqs", name)
    if parameters.get("QueueName"):
        owner = parameters.get("QueueOwnerAWSAccountId") or arns.account
        return Arns(arns.region, owner, arns.partition).of("sqs", parameters["QueueName"])
    return str(parameters["SourceArn"])


def _queue(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html:
    # a batch needs the permission of the single action.
    return [Permission(f"sqs:{operation.removesuffix('Batch')}", _queue_arn(parameters, arns), {})]


def _new_queue(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    yield from _queue(operation, parameters, arns, account)
    if parameters.get("tags"):
        # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
        yield Permission("sqs:TagQueue", _queue_arn(parameters, arns), {})


_MOVES = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
"""What an action on move tasks needs on the dead-letter queue besides itself.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
"""


def _move_task(operation: str, parameters: Parameters, _arns: Arns, _account: Account) -> Iterable[Permission]:
    source = parameters.get("SourceArn") or json.loads(base64.b64decode(parameters["TaskHandle"]))["sourceArn"]
    for action in (f"sqs:{operation}", *_MOVES):
        yield Permission(action, source, {})
    if parameters.get("DestinationArn"):
        yield Permission("sqs:SendMessage", parameters["DestinationArn"], {})


def _named(service: str, parameter: str) -> Rule:
    """Return the rule of actions whose resource is in a parameter as its ARN."""

    def rule(operation: str, parameters: Parameters, _arns: Arns, _account: Account) -> Iterable[Permission]:
        return [Permission(f"{service}:{operation}", parameters[parameter], {})]

    return rule


def _parameter(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # A name that begins with a slash has only that one in its ARN:
    # https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-access.html
    yield Permission(f"ssm:{operation}", arns.of("ssm", f"parameter/{parameters['Name'].lstrip('/')}"), {})


def _put_events(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    for entry in parameters["Entries"]:
        bus = entry.get("EventBusName") or "default"
        arn = arns.of("events", bus if bus.startswith("arn:") else f"event-bus/{bus}")
        keys = {"events:source": [entry.get("Source")], "events:detail-type": [entry.get("DetailType")]}
        yield Permission(f"events:{operation}", arn, keys)


def _cluster(parameters: Parameters, arns: Arns) -> tuple[str, Keys]:
    name = (parameters.get("cluster") or "default").rpartition("/")[2]
    return name, {"ecs:cluster": arns.of("ecs", f"cluster/{name}")}


def _tasks(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    cluster, keys = _cluster(parameters, arns)
    for task in parameters.get("tasks") or [parameters["task"]]:
        arn = arns.of("ecs", task if task.startswith("arn:") else f"task/{cluster}/{task}")
        tags = {f"aws:ResourceTag/{name}": value for name, value in account.tags_of_task(arn).items()}
        yield Permission(f"ecs:{operation}", arn, {**keys, **tags})


def _list_tasks(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # The resource is a container instance. Without one, only the condition key ecs:cluster restricts the action.
    cluster, keys = _cluster(parameters, arns)
    instance = parameters.get("containerInstance")
    resource = f"container-instance/{cluster}/{instance}" if instance else "*"
    return [Permission(f"ecs:{operation}", arns.of("ecs", resource), keys)]


def _register_tasks(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # The number of the revision is not known before.
    arn = arns.of("ecs", f"task-definition/{parameters['family']}:*")
    yield Permission(f"ecs:{operation}", arn, {})
    if parameters.get("tags"):
        yield Permission("ecs:TagResource", arn, {"ecs:CreateAction": operation})
    yield from _passed_roles(parameters)


def _passed_roles(parameters: Parameters) -> Iterable[Permission]:
    for name in ("taskRoleArn", "executionRoleArn"):
        if parameters.get(name):
            yield Permission("iam:PassRole", parameters[name], {"iam:PassedToService": "ecs-tasks.amazonaws.com"})


def _service_arn(service: str, cluster: str, arns: Arns) -> str:
    return arns.of("ecs", service if service.startswith("arn:") else f"service/{cluster}/{service}")


def _services(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    cluster, keys = _cluster(parameters, arns)
    named = parameters.get("services") or [parameters.get("service") or parameters["serviceName"]]
    for service in named:
        arn = _service_arn(service, cluster, arns)
        yield Permission(f"ecs:{operation}", arn, keys)
        if parameters.get("tags"):
            yield Permission("ecs:TagResource", arn, {"ecs:CreateAction": operation})
    yield from _roles_of_definition(parameters, account)


def _task_sets(operation: str, parameters: Parameters, arns: Arns, account: Account) -> Iterable[Permission]:
    cluster, keys = _cluster(parameters, arns)
    service = _service_arn(parameters["service"], cluster, arns)
    # The ID of a new one is not known before.
    named = [parameters["taskSet"]] if "taskSet" in parameters else parameters.get("taskSets") or ["*"]
    for task_set in named:
        arn = task_set if task_set.startswith("arn:") else f"{service.replace(':service/', ':task-set/')}/{task_set}"
        yield Permission(f"ecs:{operation}", arn, {**keys, "ecs:service": service})
        if parameters.get("tags"):
            yield Permission("ecs:TagResource", arn, {"ecs:CreateAction": operation})
    yield from _roles_of_definition(parameters, account)


def _roles_of_definition(parameters: Parameters, account: Account) -> Iterable[Permission]:
    # Who runs a task definition in a service passes its roles:
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/security_iam_troubleshoot.html
    if definition := parameters.get("taskDefinition"):
        for role in account.roles_of_definition(definition):
            yield Permission("iam:PassRole", role, {"iam:PassedToService": "ecs-tasks.amazonaws.com"})


def _scalable_target(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # The ARN of a target has an ID that the request does not name.
    arn = arns.of("application-autoscaling", "scalable-target/*")
    keys = {
        "application-autoscaling:service-namespace": parameters["ServiceNamespace"],
        "application-autoscaling:scalable-dimension": parameters["ScalableDimension"],
    }
    yield Permission(f"application-autoscaling:{operation}", arn, keys)
    if parameters["ServiceNamespace"] == "ecs":
        # https://docs.aws.amazon.com/autoscaling/application/userguide/security_iam_id-based-policy-examples.html: it
        # looks at the service and changes it as the caller.
        cluster = parameters["ResourceId"].split("/")[1]
        for action in ("ecs:DescribeServices", "ecs:UpdateService"):
            yield Permission(action, arns.of("ecs", parameters["ResourceId"]), _cluster({"cluster": cluster}, arns)[1])


def _log_stream(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    group = parameters.get("logGroupName") or str(parameters.get("logGroupIdentifier")).removesuffix(":*")
    stream = f"{arns.of('logs', group if group.startswith('arn:') else f'log-group:{group}')}:log-stream:"
    return [Permission(f"logs:{operation}", stream + parameters["logStreamName"], {})]


def _stack(operation: str, parameters: Parameters, arns: Arns, _account: Account) -> Iterable[Permission]:
    # A lookup by a resource of the stack names no stack, and AWS does not document which ARN it evaluates.
    stack = parameters.get("StackName")
    arn = (
        stack if stack and stack.startswith("arn:") else arns.of("cloudformation", f"stack/{stack}/*" if stack else "*")
    )
    return [Permission(f"cloudformation:{operation}", arn, {})]


def _alarms(operation: str, _parameters: Parameters, _arns: Arns, _account: Account) -> Iterable[Permission]:
    # DescribeAlarms returns composite alarms only to callers that are allowed "*".
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
    return [Permission(f"cloudwatch:{operation}", "*", {})]


def _identity(_operation: str, _parameters: Parameters, _arns: Arns, _account: Account) -> Iterable[Permission]:
    # Everybody may ask who they are, and no policy can deny it.
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    return []


_SERVICES: dict[str, dict[str, Rule]] = {
    "lambda": {
        **dict.fromkeys(
            (
                "DeleteProvisionedConcurrencyConfig",
                "GetFunction",
                "GetFunctionConfiguration",
                "GetPolicy",
                "GetProvisionedConcurrencyConfig",
                "Invoke",
                "ListAliases",
                "ListDurableExecutionsByFunction",
                "ListProvisionedConcurrencyConfigs",
                "ListVersionsByFunction",
                "PublishVersion",
                "PutProvisionedConcurrencyConfig",
            ),
            _function,
        ),
        **dict.fromkeys(("CreateAlias", "DeleteAlias", "GetAlias", "UpdateAlias"), _alias),
        "DeleteFunction": _version,
        "UpdateFunctionCode": _function_code,
        **dict.fromkeys(("GetEventSourceMapping", "UpdateEventSourceMapping"), _mapping),
        **dict.fromkeys(("ListEventSourceMappings", "ListFunctions", "ListLayers"), _unscoped("lambda")),
    },
    "dynamodb": {
        **dict.fromkeys(("GetItem", "PutItem", "UpdateItem", "DeleteItem"), _item),
        **dict.fromkeys(("TransactWriteItems", "TransactGetItems"), _transaction),
        **dict.fromkeys(("BatchGetItem", "BatchWriteItem"), _batch_of_items),
        **dict.fromkeys(("Query", "Scan"), _query),
        **dict.fromkeys(("DescribeStream", "GetRecords", "GetShardIterator"), _STREAM["dynamodb"]),
        "ListTables": _unscoped("dynamodb"),
    },
    "kinesis": dict.fromkeys(
        (
            "DescribeStream",
            "DescribeStreamSummary",
            "GetRecords",
            "GetShardIterator",
            "ListShards",
            "PutRecord",
            "PutRecords",
        ),
        _STREAM["kinesis"],
    ),
    "sqs": {
        **dict.fromkeys(
            (
                "ChangeMessageVisibility",
                "ChangeMessageVisibilityBatch",
                "DeleteMessage",
                "DeleteMessageBatch",
                "DeleteQueue",
                "GetQueueAttributes",
                "GetQueueUrl",
                "ListDeadLetterSourceQueues",
                "ListQueueTags",
                "ReceiveMessage",
                "SendMessage",
                "SendMessageBatch",
                "SetQueueAttributes",
            ),
            _queue,
        ),
        "CreateQueue": _new_queue,
        **dict.fromkeys(("StartMessageMoveTask", "CancelMessageMoveTask", "ListMessageMoveTasks"), _move_task),
    },
    "states": {
        **dict.fromkeys(("StartExecution", "DescribeStateMachine"), _named("states", "stateMachineArn")),
        **dict.fromkeys(
            ("DescribeExecution", "GetExecutionHistory", "StopExecution"), _named("states", "executionArn")
        ),
        **dict.fromkeys(("SendTaskSuccess", "SendTaskFailure", "SendTaskHeartbeat"), _unscoped("states")),
    },
    "sns": dict.fromkeys(("ListSubscriptionsByTopic", "Publish"), _named("sns", "TopicArn")),
    "ssm": {"GetParameter": _parameter},
    "events": {"PutEvents": _put_events, "ListEventBuses": _unscoped("events")},
    "ecs": {
        **dict.fromkeys(("DescribeTasks", "StopTask"), _tasks),
        "ListTasks": _list_tasks,
        "RegisterTaskDefinition": _register_tasks,
        **dict.fromkeys(("DescribeTaskDefinition", "ListTaskDefinitions"), _unscoped("ecs")),
        **dict.fromkeys(
            ("CreateService", "DeleteService", "DescribeServices", "UpdateService", "UpdateServicePrimaryTaskSet"),
            _services,
        ),
        **dict.fromkeys(("CreateTaskSet", "DeleteTaskSet", "DescribeTaskSets", "UpdateTaskSet"), _task_sets),
    },
    "elasticloadbalancing": {
        **dict.fromkeys(
            (
                "DescribeListeners",
                "DescribeLoadBalancers",
                "DescribeRules",
                "DescribeTargetGroupAttributes",
                "DescribeTargetGroups",
                "DescribeTargetHealth",
            ),
            _unscoped("elasticloadbalancing"),
        ),
        "ModifyListener": _named("elasticloadbalancing", "ListenerArn"),
        "ModifyRule": _named("elasticloadbalancing", "RuleArn"),
    },
    "logs": {"GetLogEvents": _log_stream},
    "cloudformation": {
        **dict.fromkeys(("DescribeStackResource", "DescribeStackResources", "DescribeStacks", "GetTemplate"), _stack),
        "ListStackResources": _stack,
        "ListStacks": _unscoped("cloudformation"),
    },
    "sts": {"GetCallerIdentity": _identity},
    "monitoring": {"DescribeAlarms": _alarms, "GetMetricData": _unscoped("cloudwatch")},
    "application-autoscaling": {
        "DescribeScalableTargets": _unscoped("application-autoscaling"),
        "RegisterScalableTarget": _scalable_target,
    },
}
