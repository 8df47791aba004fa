"""What probes create: how each kind of resource is deleted, and how it is found again by its tag.

A deletion is data (kind and id), not a function, so that a journal can hold it and another process can finish it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Clients = Callable[[str], Any]
    """Creates a client by the name of its service."""

TAG = "headgate-probe"
"""Key of the one tag on everything; its value is the run's id."""

PREFIX = "headgate-probe-"

_GONE = re.compile(r"NotFound|NoSuchEntity|DoesNotExist|NonExistent")
"""Error codes of a resource that does not exist."""


@dataclass(frozen=True)
class Resource:
    """Something that a probe created."""

    kind: str
    id: str
    """What the deletion takes: a name, an ARN or a UUID."""

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


def code_of(error: ClientError) -> str:
    """Return the error code of AWS."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _is_gone(error: ClientError) -> bool:
    # CloudFormation has no code of its own for a stack that does not exist, and ECS none for a task definition.
    return bool(_GONE.search(code_of(error))) or "does not exist" in str(error) or "Unable to describe" in str(error)


def delete(resource: Resource, clients: Clients) -> None:
    """Delete a resource. One that does not exist is deleted."""
    try:
        _DELETIONS[resource.kind](clients, resource.id)
    except ClientError as error:
        if not _is_gone(error):
            raise


def exists(resource: Resource, clients: Clients) -> bool:
    """Return whether AWS still knows the resource. The index of tags knows deleted ones for some time."""
    try:
        return _EXISTENCE[resource.kind](clients, resource.id)
    except ClientError as error:
        if _is_gone(error):
            return False
        raise


def _function(clients: Clients, name: str) -> None:
    clients("lambda").delete_function(FunctionName=name)


def _mapping(clients: Clients, uuid: str) -> None:
    clients("lambda").delete_event_source_mapping(UUID=uuid)


def _queue(clients: Clients, name: str) -> None:
    sqs = clients("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])


def _topic(clients: Clients, arn: str) -> None:
    clients("sns").delete_topic(TopicArn=arn)


def _table(clients: Clients, name: str) -> None:
    clients("dynamodb").delete_table(TableName=name)


def _machine(clients: Clients, arn: str) -> None:
    states = clients("stepfunctions")
    running = states.list_executions(stateMachineArn=arn, statusFilter="RUNNING", maxResults=100)["executions"]
    for execution in running:
        states.stop_execution(executionArn=execution["executionArn"])
    states.delete_state_machine(stateMachineArn=arn)


def _bus(clients: Clients, name: str) -> None:
    events = clients("events")
    for rule in events.list_rules(EventBusName=name)["Rules"]:
        _rule(clients, f"{name}/{rule['Name']}")
    events.delete_event_bus(Name=name)


def _rule(clients: Clients, path: str) -> None:
    bus, _, name = path.rpartition("/")
    events = clients("events")
    where = {"Rule": name, "EventBusName": bus or "default"}
    targets = [target["Id"] for target in events.list_targets_by_rule(**where)["Targets"]]
    if targets:
        events.remove_targets(Ids=targets, **where)
    events.delete_rule(Name=name, EventBusName=bus or "default")


def _role(clients: Clients, name: str) -> None:
    iam = clients("iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)


def _stack(clients: Clients, name: str) -> None:
    clients("cloudformation").delete_stack(StackName=name)


def _repository(clients: Clients, name: str) -> None:
    clients("ecr").delete_repository(repositoryName=name, force=True)


def _key(clients: Clients, key: str) -> None:
    kms = clients("kms")
    if kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] != "PendingDeletion":
        # AWS deletes no key at once; seven days is the shortest time. Until then a key costs nothing.
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)


def _cluster(clients: Clients, name: str) -> None:
    ecs = clients("ecs")
    for task in ecs.list_tasks(cluster=name)["taskArns"]:
        ecs.stop_task(cluster=name, task=task, reason="The probe has ended.")
    for service in (arn.rpartition("/")[2] for arn in ecs.list_services(cluster=name)["serviceArns"]):
        scaling = clients("application-autoscaling")
        with suppress(scaling.exceptions.ObjectNotFoundException):
            scaling.deregister_scalable_target(
                ServiceNamespace="ecs",
                ResourceId=f"service/{name}/{service}",
                ScalableDimension="ecs:service:DesiredCount",
            )
        ecs.delete_service(cluster=name, service=service, force=True)
    ecs.delete_cluster(cluster=name)


def _task_definition(clients: Clients, arn: str) -> None:
    ecs = clients("ecs")
    ecs.deregister_task_definition(taskDefinition=arn)
    ecs.delete_task_definitions(taskDefinitions=[arn])


def _log_group(clients: Clients, name: str) -> None:
    clients("logs").delete_log_group(logGroupName=name)


_DELETIONS: dict[str, Callable[[Clients, str], None]] = {
    "function": _function,
    "mapping": _mapping,
    "queue": _queue,
    "topic": _topic,
    "table": _table,
    "machine": _machine,
    "bus": _bus,
    "rule": _rule,
    "role": _role,
    "stack": _stack,
    "repository": _repository,
    "key": _key,
    "cluster": _cluster,
    "task-definition": _task_definition,
    "log-group": _log_group,
}


def _log_group_exists(clients: Clients, name: str) -> bool:
    groups = clients("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return any(group["logGroupName"] == name for group in groups)


def _bus_rule_exists(clients: Clients, path: str) -> bool:
    bus, _, name = path.rpartition("/")
    return bool(clients("events").describe_rule(Name=name, EventBusName=bus or "default"))


def _stack_exists(clients: Clients, name: str) -> bool:
    found = clients("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return any(stack["StackStatus"] != "DELETE_COMPLETE" for stack in found)


def _cluster_exists(clients: Clients, name: str) -> bool:
    return any(each["status"] != "INACTIVE" for each in clients("ecs").describe_clusters(clusters=[name])["clusters"])


def _key_exists(clients: Clients, key: str) -> bool:
    return bool(clients("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] != "PendingDeletion")


def _task_definition_exists(clients: Clients, arn: str) -> bool:
    described = clients("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]
    return bool(described["status"] == "ACTIVE")


def _machine_exists(clients: Clients, arn: str) -> bool:
    return bool(clients("stepfunctions").describe_state_machine(stateMachineArn=arn).get("status") != "DELETING")


def _table_exists(clients: Clients, name: str) -> bool:
    return bool(clients("dynamodb").describe_table(TableName=name)["Table"]["TableStatus"] != "DELETING")


def _mapping_exists(clients: Clients, uuid: str) -> bool:
    return bool(clients("lambda").get_event_source_mapping(UUID=uuid)["State"] != "Deleting")


_EXISTENCE: dict[str, Callable[[Clients, str], bool]] = {
    "function": lambda clients, name: bool(clients("lambda").get_function_configuration(FunctionName=name)),
    "mapping": _mapping_exists,
    "queue": lambda clients, name: bool(clients("sqs").get_queue_url(QueueName=name)),
    "topic": lambda clients, arn: bool(clients("sns").get_topic_attributes(TopicArn=arn)),
    "table": _table_exists,
    "machine": _machine_exists,
    "bus": lambda clients, name: bool(clients("events").describe_event_bus(Name=name)),
    "rule": _bus_rule_exists,
    "role": lambda clients, name: bool(clients("iam").get_role(RoleName=name)),
    "stack": _stack_exists,
    "repository": lambda clients, name: bool(clients("ecr").describe_repositories(repositoryNames=[name])),
    "key": _key_exists,
    "cluster": _cluster_exists,
    "task-definition": _task_definition_exists,
    "log-group": _log_group_exists,
}

KINDS = tuple(_DELETIONS)

_ARNS = (
    ("function", r"lambda:[^:]*:[^:]*:function:([^:]+)"),
    ("mapping", r"lambda:[^:]*:[^:]*:event-source-mapping:(.+)"),
    ("queue", r"sqs:[^:]*:[^:]*:(.+)"),
    ("topic", r"(arn:[^:]+:sns:[^:]*:[^:]*:[^:]+)"),
    ("table", r"dynamodb:[^:]*:[^:]*:table/([^/]+)"),
    ("machine", r"(arn:[^:]+:states:[^:]*:[^:]*:stateMachine:.+)"),
    ("bus", r"events:[^:]*:[^:]*:event-bus/(.+)"),
    ("rule", r"events:[^:]*:[^:]*:rule/(.+)"),
    ("stack", r"cloudformation:[^:]*:[^:]*:stack/([^/]+)/.*"),
    ("repository", r"ecr:[^:]*:[^:]*:repository/(.+)"),
    ("key", r"kms:[^:]*:[^:]*:key/(.+)"),
    ("cluster", r"ecs:[^:]*:[^:]*:cluster/(.+)"),
    ("task-definition", r"(arn:[^:]+:ecs:[^:]*:[^:]*:task-definition/.+)"),
    ("log-group", r"logs:[^:]*:[^:]*:log-group:([^:]+)(?::\*)?"),
)


def resource_of(arn: str) -> Resource | None:
    """Return the resource with an ARN; None for a kind that no probe creates."""
    for kind, pattern in _ARNS:
        if match := re.fullmatch(pattern if pattern.startswith("(arn") else f"arn:[^:]+:{pattern}", arn):
            return Resource(kind, match[1])
    return None


def tagged(clients: Clients, run: str) -> Iterator[Resource]:
    """Yield what carries the tag of a run. It may be deleted already: the index of tags is minutes behind."""
    pages = clients("resourcegroupstaggingapi").get_paginator("get_resources")
    for page in pages.paginate(TagFilters=[{"Key": TAG, "Values": [run]}]):
        for each in page["ResourceTagMappingList"]:
            if found := resource_of(each["ResourceARN"]):
                yield found
    # That index does not have roles. A run's roles share a path instead.
    for page in clients("iam").get_paginator("list_roles").paginate(PathPrefix=role_path(run)):
        for role in page["Roles"]:
            yield Resource("role", role["RoleName"])


def role_path(run: str) -> str:
    """Return the path of a run's roles."""
    return f"/{TAG}/{run}/"
