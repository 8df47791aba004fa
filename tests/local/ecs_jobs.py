"""ECS tasks as users run them: a task definition, a request on the bus, and how it ended."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.local.deployed import eventually

if TYPE_CHECKING:
    from emulator.server import EmbeddedAws
    from tests.local.deployed import Headgate

CLUSTER, LOGS = "jobs", "/ecs/jobs"
NETWORK = {"subnets": ["subnet-0a1b2c3d"]}
REGISTRY_OF_NOBODY = "127.0.0.1:1"
"""Nobody listens on that port: whatever is to be pulled from there cannot be."""


def define(aws: EmbeddedAws, *containers: dict[str, Any], family: str = "migrate") -> str:
    """A new revision of a task definition for Fargate that needs no role; answers family:revision."""
    definition = aws.client("ecs").register_task_definition(
        family=family,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=list(containers) or [{"name": "app", "image": "migrate", "essential": True}],
    )["taskDefinition"]
    return f"{definition['family']}:{definition['revision']}"


class Jobs:
    """ECS tasks on the cluster ``jobs``, run by Headgate.

    Parameters
    ----------
    image
        What their containers are made of; it must have a shell. Without an engine nothing runs, and any name will do.
    """

    def __init__(self, headgate: Headgate, image: str = "migrate") -> None:
        self.headgate, self.image = headgate, image
        self.ecs, self._logs = headgate.aws.client("ecs"), headgate.aws.client("logs")
        self.ecs.create_cluster(clusterName=CLUSTER)
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):  # Made by another test.
            self._logs.create_log_group(logGroupName=LOGS)

    def container(self, script: str, name: str = "app", **settings: Any) -> dict[str, Any]:
        """A container that runs a shell script; what it prints goes to CloudWatch Logs."""
        log = {"awslogs-group": LOGS, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ecs"}
        return {
            "name": name,
            "image": self.image,
            "essential": True,
            "entryPoint": ["/bin/sh", "-c"],
            "command": [script],
            "logConfiguration": {"logDriver": "awslogs", "options": log},
            **settings,
        }

    def define(self, *containers: dict[str, Any]) -> str:
        """A task definition of a new family; answers family:revision."""
        return define(self.headgate.aws, *containers, family=self.headgate.new_id())

    def run(self, script: str, *, container: dict[str, Any] | None = None, **detail: Any) -> str:
        """Request a task of one container, with settings of its own, that runs a shell script; answers its id."""
        return self.request(self.define(self.container(script, **(container or {}))), **detail)

    def request(self, task_definition: str, **detail: Any) -> str:
        """Request a task by an event; answers its id."""
        task_id = self.headgate.new_id()
        self.headgate.send("Task Requested", {"id": task_id, **self.detail(task_definition, **detail)})
        return task_id

    def detail(self, task_definition: str, **detail: Any) -> dict[str, Any]:
        """What a request says, but for its id."""
        where = {"cluster": CLUSTER, "launchType": "FARGATE", "networkConfiguration": NETWORK}
        return {"taskDefinition": task_definition, **where, **detail}

    def ended(self, task_id: str, seconds: float = 60) -> dict[str, Any]:
        """The one ``Task Ended`` event of a request."""

        [told] = eventually(lambda: self.heard(task_id), seconds, lambda: f"no Task Ended event of {task_id}")
        assert told["detail-type"] == "Task Ended"
        return dict(told["detail"])

    def heard(self, task_id: str) -> list[dict[str, Any]]:
        """What the bus has said of a task so far."""
        return self._about(task_id, [message["Body"] for message in self.headgate._heard.heard()])

    def notified(self, task_id: str) -> list[dict[str, Any]]:
        """What the topic has said of a task so far."""
        bodies = [json.loads(message["Body"])["Message"] for message in self.headgate._notified.heard()]
        return self._about(task_id, bodies)

    def _about(self, task_id: str, bodies: list[str]) -> list[dict[str, Any]]:
        events = [json.loads(body) for body in bodies]
        return [each for each in events if each.get("detail", {}).get("taskId") == task_id]

    def ended_alone(self, task_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The ``Task Ended`` event of a request for a single task, and the last attempt that it tells of."""
        told = self.ended(task_id)
        [task] = told["tasks"]
        return told, task["attempts"][-1]

    def running(self, task_id: str) -> dict[str, Any]:
        """The task of a request, once its containers run."""
        return dict(eventually(lambda: self._started(task_id), 30, lambda: f"no task of {task_id} runs"))

    def stopped(self, task_arn: str) -> dict[str, Any]:
        """A task as ECS tells of it, once it has stopped."""
        return dict(
            eventually(
                lambda: (task := self.describe(task_arn))["lastStatus"] == "STOPPED" and task,
                40,
                lambda: f"{task_arn} still runs: {self.describe(task_arn)}",
            )
        )

    def describe(self, task_arn: str) -> dict[str, Any]:
        """A task as ECS tells of it now."""
        return dict(self.ecs.describe_tasks(cluster=CLUSTER, tasks=[task_arn], include=["TAGS"])["tasks"][0])

    def written(self, task_arn: str, container: str = "app") -> list[str]:
        """The lines in a container's log."""
        stream = f"ecs/{container}/{task_arn.rsplit('/', 1)[-1]}"
        found = self._logs.get_log_events(logGroupName=LOGS, logStreamName=stream, startFromHead=True)["events"]
        return [event["message"] for event in found]

    def execution(self, told: dict[str, Any]) -> dict[str, Any]:
        """The execution that ran a task."""
        return dict(self.headgate.states.describe_execution(executionArn=told["execution"]))

    def _started(self, task_id: str) -> dict[str, Any] | None:
        for arn in self.ecs.list_tasks(cluster=CLUSTER)["taskArns"]:
            task = self.describe(arn)
            tags = {tag["key"]: tag["value"] for tag in task["tags"]}
            if tags.get("headgate:request") == task_id and task["lastStatus"] == "RUNNING":
                return {**task, "tags": tags}
        return None
