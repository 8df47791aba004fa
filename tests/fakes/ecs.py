"""ECS tasks for the tests: details in the shapes that AWS documents, and an ECS in memory.

The task detail is that of DescribeTasks, spelled as ``ecs:runTask.sync`` does (PascalCase, milliseconds):
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html. The reasons are those of
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

# The fakes take what boto3 is given.
# ruff: noqa: ARG002

from __future__ import annotations

import functools
import json
import threading
from typing import Any

import boto3
from botocore.exceptions import ClientError

from tests.builders import ACCOUNT, REGION

CLUSTER_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/jobs"
DEFINITION_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/migrate:3"
EXECUTION = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:headgate-ecs-task:migrate-42"
TASK_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/jobs/0b7c1a9e4f5d4a2f8c6e3d2b1a0f9e8d"
SUBNETS = {"subnets": ["subnet-0a1b2c3d", "subnet-1a2b3c4d"], "securityGroups": ["sg-0a1b2c3d"]}

DEFINITION: dict[str, Any] = {
    "taskDefinitionArn": DEFINITION_ARN,
    "family": "migrate",
    "revision": 3,
    "status": "ACTIVE",
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "compatibilities": ["EC2", "FARGATE"],
    "requiresCompatibilities": ["FARGATE"],
    "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/jobs/migrate-execution",
    "containerDefinitions": [
        {
            "name": "app",
            "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/migrate:3",
            "essential": True,
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "/ecs/migrate",
                    "awslogs-region": REGION,
                    "awslogs-stream-prefix": "ecs",
                },
            },
        },
        {"name": "router", "image": "public.ecr.aws/aws-observability/aws-for-fluent-bit:stable", "essential": False},
    ],
}

NEW_DEFINITION: dict[str, Any] = {
    "family": "migrate",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "256",
    "memory": "512",
    "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/jobs/migrate-execution",
    "taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/jobs/migrate",
    "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
    "volumes": [{"name": "scratch"}],
    "containerDefinitions": [
        {
            "name": "app",
            "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/migrate:4",
            "environment": [{"name": "STAGE", "value": "production"}, {"name": "LEVEL", "value": "info"}],
            "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/tmp", "readOnly": False}],  # noqa: S108
        }
    ],
    "tags": [{"key": "team", "value": "checkout"}],
}
"""A definition to be registered, as a request carries it."""

EXITED, NOT_STARTED = "EssentialContainerExited", "TaskFailedToStart"
CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
SPOT = "Your Spot Task was interrupted."
PULL = (
    "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref "
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com/migrate:3: not found"
)
SECRETS = (
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable "
    "to retrieve secret from asm: service call has been retried 5 time(s): context deadline exceeded"
)
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


def container(name: str = "app", code: int | None = 0, reason: str | None = None) -> dict[str, Any]:
    """A container of a task's detail."""
    return {
        "ContainerArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:container/jobs/0b7c1a9e4f5d4a2f8c6e3d2b1a0f9e8d/5d1c-{name}",
        "Cpu": "0",
        **({} if code is None else {"ExitCode": code}),
        "GpuIds": [],
        "Image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/migrate:3",
        "LastStatus": "STOPPED",
        "ManagedAgents": [],
        "Name": name,
        "NetworkBindings": [],
        "NetworkInterfaces": [
            {"AttachmentId": "1b9b0f3e-0c40-4b0f-9ad5-9a4f0f4e6f2e", "PrivateIpv4Address": "10.0.0.18"}
        ],
        **({} if reason is None else {"Reason": reason}),
        "RuntimeId": "0b7c1a9e4f5d4a2f8c6e3d2b1a0f9e8d-1935363456",
        "TaskArn": TASK_ARN,
    }


def detail(
    *containers: dict[str, Any], code: str = EXITED, reason: str = "Essential container in task exited", **fields: Any
) -> dict[str, Any]:
    """A stopped task on Fargate as ``ecs:runTask.sync`` tells it."""
    started = {} if code == NOT_STARTED else {"StartedAt": 1795255230000}
    return {
        "Attachments": [
            {
                "Details": [{"Name": "subnetId", "Value": "subnet-0a1b2c3d"}],
                "Id": "1b9b0f3e-0c40-4b0f-9ad5-9a4f0f4e6f2e",
                "Status": "DELETED",
                "Type": "ElasticNetworkInterface",
            }
        ],
        "Attributes": [{"Name": "ecs.cpu-architecture", "Value": "x86_64"}],
        "AvailabilityZone": "eu-central-1a",
        "ClusterArn": CLUSTER_ARN,
        "Connectivity": "CONNECTED",
        "Containers": list(containers) or [container(), container("router")],
        "Cpu": "256",
        "CreatedAt": 1795255205500,
        "DesiredStatus": "STOPPED",
        "EnableExecuteCommand": False,
        "EphemeralStorage": {"SizeInGiB": 20},
        "Group": "family:migrate",
        "InferenceAccelerators": [],
        "LastStatus": "STOPPED",
        "LaunchType": "FARGATE",
        "Memory": "512",
        "Overrides": {"ContainerOverrides": [], "InferenceAcceleratorOverrides": []},
        "PlatformFamily": "Linux",
        "PlatformVersion": "1.4.0",
        **started,
        "StartedBy": "AWS Step Functions",
        "StopCode": code,
        "StoppedAt": 1795255290250,
        "StoppedReason": reason,
        "StoppingAt": 1795255280000,
        "Tags": [],
        "TaskArn": TASK_ARN,
        "TaskDefinitionArn": DEFINITION_ARN,
        "Version": 6,
        **fields,
    }


GOOD = detail()
BAD = detail(container(code=3), container("router"))
INTERRUPTED = detail(
    container(code=143), container("router"), code="SpotInterruption", reason=SPOT, CapacityProviderName="FARGATE_SPOT"
)


@functools.cache
def _meta() -> Any:
    # Once: making a client takes as long as a test.
    return boto3.client("ecs", region_name=REGION).meta


class FakeEcs:
    """ECS with one task definition, and what is registered; its tasks are those that were left running."""

    def __init__(self) -> None:
        self.definition = DEFINITION
        self.registered: dict[str, dict[str, Any]] = {}
        self.busy = 0
        self.meta = _meta()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.stopped: list[tuple[str, str]] = []
        self.shutdown = 0
        """How often a task that was stopped is described until its containers have ended."""
        self.listed: list[dict[str, str]] = []
        """Filters with which tasks were listed."""
        self.ran: list[dict[str, Any]] = []
        self.described: dict[str, Any] | None = None
        self.broken: set[str] = set()
        self.code = "AccessDeniedException"
        """What operations answer that are broken."""
        self.lock = threading.Lock()

    # What boto3's client does

    def list_task_definitions(self, familyPrefix: str, **given: Any) -> dict[str, Any]:  # noqa: N803
        return {"taskDefinitionArns": [arn for arn in self.registered if f"/{familyPrefix}:" in arn]}

    def register_task_definition(self, **given: Any) -> dict[str, Any]:
        if self.busy:
            self.busy -= 1
            message = "Too many concurrent attempts to create a new revision of the specified family."
            raise ClientError({"Error": {"Code": "ClientException", "Message": message}}, "RegisterTaskDefinition")
        arn = f"{DEFINITION_ARN.rsplit('/', 1)[0]}/{given['family']}:{len(self.registered) + 1}"
        made = {"status": "ACTIVE", "compatibilities": ["EC2", "FARGATE"], **given, "taskDefinitionArn": arn}
        self.registered[arn] = {"taskDefinition": made, "tags": made.pop("tags")}
        return self.registered[arn]

    def describe_task_definition(self, taskDefinition: str, include: Any = ()) -> dict[str, Any]:  # noqa: N803
        if taskDefinition in self.registered:
            return self.registered[taskDefinition]
        if not self.definition["taskDefinitionArn"].split("/")[-1].startswith(taskDefinition.split("/")[-1]):
            message = "Unable to describe task definition."
            raise ClientError({"Error": {"Code": "ClientException", "Message": message}}, "DescribeTaskDefinition")
        return {"taskDefinition": self.definition}

    def get_paginator(self, operation: str) -> FakeEcs:
        assert operation == "list_tasks"
        return self

    def paginate(self, cluster: str, PaginationConfig: Any, **filters: str) -> list[dict[str, Any]]:  # noqa: N803
        self._fail_if_broken("ListTasks")
        self.listed.append(filters)
        assert filters in ({"startedBy": "AWS Step Functions"}, {"family": "migrate", "desiredStatus": "STOPPED"})
        wanted = filters.get("desiredStatus", "RUNNING")
        arns = [arn for arn, task in self.tasks.items() if task["desiredStatus"] == wanted]
        return [{"taskArns": arns[:1]}, {"taskArns": arns[1:]}]

    def describe_tasks(self, cluster: str, tasks: list[str], include: tuple[str, ...] = ()) -> dict[str, Any]:
        self._fail_if_broken("DescribeTasks")
        if self.described is not None:
            return {"tasks": [self.described]}
        for arn in tasks:
            if self.tasks.get(arn, {}).get("desiredStatus") == "STOPPED":
                self._shut_down(self.tasks[arn])
        return {"tasks": [self.tasks[arn] for arn in tasks if arn in self.tasks]}

    def stop_task(self, cluster: str, task: str, reason: str) -> None:
        self.stopped.append((task, reason))
        self.tasks[task] |= {"desiredStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": reason}

    def _shut_down(self, task: dict[str, Any]) -> None:
        """Containers end after SIGTERM, with the default exit code 143, a while after the task was stopped."""
        if self.shutdown > 0:
            self.shutdown -= 1
            return
        task["lastStatus"] = "STOPPED"
        for each in task["containers"]:
            each["lastStatus"] = "STOPPED"
            each.setdefault("exitCode", 143)

    def _fail_if_broken(self, operation: str) -> None:
        if operation in self.broken:
            raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, operation)

    # What RunTask leaves behind

    def leave_running(self, parameters: dict[str, Any]) -> str:
        """A task of these parameters that nobody waits for."""
        with self.lock:
            arn = f"{TASK_ARN[:-4]}{len(self.tasks):04}"
            tags = [{"key": tag["Key"], "value": tag["Value"]} for tag in parameters.get("Tags", [])]
            self.tasks[arn] = {
                "taskArn": arn,
                "tags": tags,
                "desiredStatus": "RUNNING",
                "lastStatus": "RUNNING",
                "containers": [{"name": name, "lastStatus": "RUNNING"} for name in ("app", "router")],
            }
        return arn


class FakeLogs:
    """CloudWatch Logs with one stream."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        self.asked: list[str] = []

    def get_log_events(self, **given: Any) -> dict[str, Any]:
        self.asked.append(f"{given['logGroupName']} {given['logStreamName']}")
        if not self.lines:
            message = "The specified log stream does not exist."
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": message}}, "GetLogEvents")
        return {"events": [{"message": line} for line in self.lines]}


LONGEST_NAMES = [f"{number}{'c' * 254}" for number in range(10)]
LONGEST_TASK_ARN = f"arn:aws-us-gov:ecs:us-gov-west-1:{ACCOUNT}:task/{'k' * 255}/{'0' * 32}"


def longest(text: str) -> dict[str, Any]:
    """A task of ten containers that all failed, with names as long as they may be and reasons full of a text."""
    containers = [container(name, code=255, reason=text * 1024) for name in LONGEST_NAMES]
    task = detail(*containers, reason=text * 1024, TaskArn=LONGEST_TASK_ARN, CapacityProviderName="p" * 255)
    return {**task, "Containers": [{**each, "TaskArn": LONGEST_TASK_ARN} for each in containers]}


def cause(task: dict[str, Any]) -> str:
    """A task as the cause of States.TaskFailed."""
    return json.dumps(task, separators=(",", ":"))
