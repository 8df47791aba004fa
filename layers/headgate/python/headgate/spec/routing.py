"""Routing of an ECS service: the listener rules and target groups by which its requests reach a revision."""

from __future__ import annotations

import hashlib
import re
from typing import Literal, NamedTuple

from headgate.wire import Wire

Way = Literal["task-sets", "green-service"]
"""How a service gets a second revision beside the one that serves.

``task-sets``: two task sets of a service with the deployment controller EXTERNAL. ``green-service``: a second service
beside one with rolling deployments, which exists only during the rollout.
"""

RevisionArm = Literal["stable", "candidate"]

ARMS: tuple[RevisionArm, ...] = ("candidate", "stable")


_GREEN = re.compile(r"(?P<service>.+)-hg-(?P<digest>[0-9a-f]{8})")


def green_name(service: str, rollout_id: str) -> str:
    """Return the name of the green service of a rollout."""
    return f"{service}-hg-{hashlib.sha256(rollout_id.encode()).hexdigest()[:8]}"


def service_of_green(name: str) -> str | None:
    """Return the service beside which a green service runs, by its name; None if no green service has such a name."""
    match = _GREEN.fullmatch(name)
    return match["service"] if match else None


class GroupPair(Wire):
    """Two target groups of one load balancer, between which its listener rules split requests."""

    load_balancer: str
    """ARN of the Application Load Balancer."""
    stable: str
    """ARN of the target group of the stable revision."""
    candidate: str
    """ARN of the target group of the candidate, which is free before the rollout."""
    container: str
    """Name of the container that receives the requests."""
    port: int
    """Port of that container."""
    rules: list[str]
    """ARNs of the listener rules that split requests; the ARN of a listener stands for its default actions."""
    test_rules: list[str] = []
    """ARNs of the rules, or listeners, that send test requests to the candidate's group."""


class Routing(Wire):
    """Everything about the way of requests to a service that a rollout needs, fixed before its first effect."""

    way: Way
    pairs: list[GroupPair]
    """One for each target group of the service. A service with task sets has exactly one."""

    @property
    def rules(self) -> list[str]:
        """ARNs of all rules that split requests."""
        return [rule for pair in self.pairs for rule in pair.rules]


class GroupOfLoadBalancer(NamedTuple):
    """Values of CloudWatch's dimensions LoadBalancer and TargetGroup."""

    load_balancer: str
    target_group: str


def groups_of(routing: Routing, arm: RevisionArm) -> list[GroupOfLoadBalancer]:
    """Return the target groups of a revision, as CloudWatch names them.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
    """
    return [
        GroupOfLoadBalancer(pair.load_balancer.partition(":loadbalancer/")[2], getattr(pair, arm).rpartition(":")[2])
        for pair in routing.pairs
    ]
