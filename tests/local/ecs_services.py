"""A service behind a load balancer, as its owner makes it: what tests of ECS services share."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.local.clients import eventually

if TYPE_CHECKING:
    from tests.local.clients import Aws

PORT = 8080
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"], "assignPublicIp": "DISABLED"}}
SERVER = """
import http.server, json, os, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        about = {"release": os.environ["RELEASE"], "key": os.environ.get("AWS_ACCESS_KEY_ID")}
        if self.path == "/task":
            about = json.load(urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + "/task"))
        body = json.dumps(about).encode()
        self.send_response(int(os.environ.get("STATUS", 200)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *parts): pass
print("listening as", os.environ["RELEASE"], flush=True)
http.server.ThreadingHTTPServer((os.environ.get("HOST", "0.0.0.0"), 8080), Handler).serve_forever()
"""
"""Answers with its release."""


class Shop:
    """A cluster, a load balancer with two target groups, and task definitions of a small HTTP server."""

    def __init__(self, aws: Aws) -> None:
        self.aws, self.ecs, self.elb, self.name = aws, aws.ecs, aws.elbv2, aws.prefix
        self.ecs.create_cluster(clusterName=self.name)
        self.groups: list[str] = []
        self.rule = ""

    def behind_load_balancer(self) -> str:
        """Make a load balancer with two target groups, all weight on the first. Answers its URL."""
        made = self.elb.create_load_balancer(Name=self.name, Subnets=["subnet-1", "subnet-2"])["LoadBalancers"][0]
        self.groups = [self._group(f"{self.name}-{letter}") for letter in "ab"]
        listener = self.elb.create_listener(
            LoadBalancerArn=made["LoadBalancerArn"], Protocol="HTTP", Port=PORT, DefaultActions=self._weights(100, 0)
        )
        self.rule = listener["Listeners"][0]["ListenerArn"]
        return f"http://{made['DNSName']}:{PORT}/"

    def _group(self, name: str) -> str:
        arn = self.elb.create_target_group(
            Name=name, Protocol="HTTP", Port=PORT, VpcId="vpc-1", TargetType="ip",
            HealthCheckIntervalSeconds=5, HealthyThresholdCount=2, UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
        delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "1"}
        self.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
        return str(arn)

    def _weights(self, *weights: int) -> list[dict[str, Any]]:
        groups = [{"TargetGroupArn": group, "Weight": each} for group, each in zip(self.groups, weights, strict=True)]
        return [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]

    def shift(self, *weights: int) -> None:
        """Give the two target groups these weights."""
        self.elb.modify_listener(ListenerArn=self.rule, DefaultActions=self._weights(*weights))

    def balancer(self, group: int = 0) -> list[dict[str, Any]]:
        """What a service or a task set says of its target group."""
        return [{"targetGroupArn": self.groups[group], "containerName": "app", "containerPort": PORT}]

    def define(self, release: str = "1", code: str = SERVER, role: str = "", **environment: str) -> str:
        """Answers the ARN of a new revision."""
        logs = {"awslogs-group": f"/ecs/{self.name}", "awslogs-region": "us-east-1", "awslogs-create-group": "true"}
        container = {
            "name": "app",
            "image": "shop",
            "command": ["python3", "-c", code],
            "environment": [
                {"name": name, "value": value} for name, value in {"RELEASE": release, **environment}.items()
            ],
            "portMappings": [{"containerPort": PORT}],
            "logConfiguration": {"logDriver": "awslogs", "options": {**logs, "awslogs-stream-prefix": release}},
            "stopTimeout": 2,
        }
        return str(
            self.ecs.register_task_definition(
                family=self.name, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
                containerDefinitions=[container], **({"taskRoleArn": role} if role else {}),
            )["taskDefinition"]["taskDefinitionArn"]
        )  # fmt: skip

    def create(self, definition: str, count: int = 2, **settings: Any) -> dict[str, Any]:
        """Create the service."""
        balanced = {"loadBalancers": self.balancer()} if self.groups else {}
        how = {"launchType": "FARGATE", "networkConfiguration": NETWORK, "desiredCount": count, **balanced, **settings}
        asked = {"cluster": self.name, "serviceName": "shop", "taskDefinition": definition, **how}
        return dict(self.ecs.create_service(**asked)["service"])

    def update(self, **settings: Any) -> dict[str, Any]:
        """Update the service."""
        return dict(self.ecs.update_service(cluster=self.name, service="shop", **settings)["service"])

    def service(self, name: str = "shop") -> dict[str, Any]:
        """The service as it is now."""
        return dict(self.ecs.describe_services(cluster=self.name, services=[name])["services"][0])

    def delete(self, name: str = "shop") -> str:
        """Delete the service with its tasks. Answers its status when they have stopped."""
        self.ecs.delete_service(cluster=self.name, service=name, force=True)
        eventually(lambda: self.service(name)["status"] == "INACTIVE")
        return str(self.service(name)["status"])

    def is_stable(self) -> bool:
        """Whether the service has one deployment, which is completed."""
        deployments = self.service()["deployments"]
        return [each["rolloutState"] for each in deployments] == ["COMPLETED"]

    def tasks(self, status: str = "RUNNING") -> list[dict[str, Any]]:
        """The tasks that are meant to run, or that have stopped."""
        arns = self.ecs.list_tasks(cluster=self.name, desiredStatus=status)["taskArns"]
        return list(self.ecs.describe_tasks(cluster=self.name, tasks=arns)["tasks"]) if arns else []

    def task_sets(self) -> list[dict[str, Any]]:
        """The service's task sets."""
        return list(self.ecs.describe_task_sets(cluster=self.name, service="shop")["taskSets"])

    def create_task_set(self, definition: str, group: int, **settings: Any) -> dict[str, Any]:
        """Create a task set of the service."""
        how = {"launchType": "FARGATE", "networkConfiguration": NETWORK, "loadBalancers": self.balancer(group)}
        asked = {"cluster": self.name, "service": "shop", "taskDefinition": definition, **how, **settings}
        return dict(self.ecs.create_task_set(**asked)["taskSet"])


def address_of(task: dict[str, Any]) -> str:
    """The task's own address, empty if it has none."""
    details = [each for attachment in task["attachments"] for each in attachment["details"]]
    return next((each["value"] for each in details if each["name"] == "privateIPv4Address"), "")


def ask(url: str) -> Any:
    """What is answered, from JSON."""
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - a server of the test
        return json.load(response)
