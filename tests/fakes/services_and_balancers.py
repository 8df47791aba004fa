"""One AWS in memory with ECS services behind load balancers: ECS, Elastic Load Balancing and Application Auto Scaling.

    cloud = Cloud()
    shop = cloud.shop("green-service", desired=4)      # shop:6 serves, shop:7 is the candidate
    driver = Driver(cloud.ecs, cloud.elb, cloud.scaling)
    ...
    assert cloud.serve(shop, 100).answered == {"shop:6": 100}
    assert cloud.unanswered == []                      # nobody was left without an answer at any moment

``ecs``, ``elb`` and ``scaling`` are real boto3 clients: they check every parameter and raise their own exceptions. Time
passes by a tick each time that somebody looks at services, task sets, tasks or the health of targets; ``tick`` passes
it without. A task needs a tick to start and one to become healthy, unless ``behave`` says otherwise.
"""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.builders import ACCOUNT, REGION
from tests.fakes.balancers import FakeBalancers, Served, Write, forward, groups_without_answer, oidc
from tests.fakes.ecs_services import Behaviour, FakeEcsServices, Fate
from tests.fakes.services import Refusal, nothing_happens
from tests.fakes.timed_service import TimedService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUTSIDE = "somebody else"
SUSPENDABLE = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
DIMENSION = "ecs:service:DesiredCount"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"], "securityGroups": ["sg-0a1b2c3d"]}}


class FakeScalableTargets(TimedService):
    """Application Auto Scaling: targets with a range, and what is suspended."""

    def __init__(self, ecs: FakeEcsServices, tick: Callable[[], None], calls: list[str]) -> None:
        super().__init__(tick, calls)
        self._ecs = ecs
        self.targets: dict[str, dict[str, Any]] = {}
        self.policies: list[dict[str, Any]] = []

    def DescribeScalableTargets(
        self, ServiceNamespace: str, ResourceIds: Any = (), ScalableDimension: str = "", **_: Any
    ) -> dict[str, Any]:
        if ScalableDimension and not ResourceIds:
            raise Refusal("ValidationException", "A scalable dimension needs resource ids")
        return {
            "ScalableTargets": [
                target
                for name, target in self.targets.items()
                if (not ResourceIds or name in ResourceIds)
                and target["ServiceNamespace"] == ServiceNamespace
                and ScalableDimension in ("", target["ScalableDimension"])
            ]
        }

    def DescribeScalingPolicies(self, ServiceNamespace: str, ResourceId: str = "", **_: Any) -> dict[str, Any]:
        return {"ScalingPolicies": [each for each in self.policies if ResourceId in ("", each["ResourceId"])]}

    def RegisterScalableTarget(
        self,
        ServiceNamespace: str,
        ResourceId: str,
        ScalableDimension: str,
        MinCapacity: int | None = None,
        MaxCapacity: int | None = None,
        SuspendedState: Any = None,
        **_: Any,
    ) -> dict[str, Any]:
        """What is not given stays as it is, and the current count is moved into the range.

        https://docs.aws.amazon.com/autoscaling/application/APIReference/API_RegisterScalableTarget.html
        """
        old: dict[str, Any] | None = self.targets.get(ResourceId)
        if old is None and (MinCapacity is None or MaxCapacity is None):
            raise Refusal("ValidationException", "MinCapacity and MaxCapacity are required for a new scalable target")
        suspended = (old or {}).get("SuspendedState", dict.fromkeys(SUSPENDABLE, False))
        if SuspendedState is not None:
            suspended = dict.fromkeys(SUSPENDABLE, False) | SuspendedState
        target: dict[str, Any] = {
            **(old or {}),
            "ServiceNamespace": ServiceNamespace,
            "ResourceId": ResourceId,
            "ScalableDimension": ScalableDimension,
            "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/any",
            "SuspendedState": suspended,
        }
        given = {"MinCapacity": MinCapacity, "MaxCapacity": MaxCapacity}
        target |= {key: value for key, value in given.items() if value is not None}
        if target["MinCapacity"] > target["MaxCapacity"]:
            raise Refusal("ValidationException", "Maximum capacity cannot be less than minimum capacity")
        self.targets[ResourceId] = target
        cluster, name = ResourceId.split("/")[1:]
        service = self._ecs.service(name, cluster)
        service.desired = min(max(service.desired, target["MinCapacity"]), target["MaxCapacity"])
        return {"ScalableTargetARN": f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}:scalable-target/{ResourceId}"}

    def pass_time(self, idle: Callable[[str], bool]) -> None:
        """A service without requests is scaled in, a task at each tick, unless that is suspended."""
        for name, target in self.targets.items():
            service = self._ecs.services.get(name.partition("/")[2])
            suspended = target["SuspendedState"]["DynamicScalingInSuspended"]
            if service and service.status == "ACTIVE" and idle(service.name) and not suspended:
                service.desired = max(target["MinCapacity"], service.desired - 1)


class Shop(NamedTuple):
    """A service behind a load balancer, as a test has made it."""

    cluster: str
    service: str
    balancer: str
    listener: str
    rules: list[str]
    """Each splits requests; the ARN of a listener stands for its default actions."""
    test_rules: list[str]
    stable: list[str]
    """Target groups of the service."""
    candidate: list[str]
    """The other target group of each pair."""

    @property
    def target(self) -> dict[str, Any]:
        """The target in a request."""
        return {"kind": "ecs-service", "cluster": self.cluster, "service": self.service}


class Cloud:
    """ECS services, load balancers and scalable targets.

    Attributes
    ----------
    interrupt
        Called "before" and "after" each operation with its name; what it raises is what the caller gets.
    calls
        All operations so far, in order.
    caller
        ``caller.name``: who calls now in this thread, for the notes of who has written a rule.
    unanswered
        What got requests at some moment and had no healthy target.
    overloaded
        What had a larger share of a service's requests at some moment than of the tasks that the service should have.
    still
        True to let no time pass.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.caller = threading.local()
        self.unanswered: list[str] = []
        self.overloaded: list[str] = []
        self.still = False
        self.ticks = 0
        self._production: dict[str, str] = {}
        self.balancers = FakeBalancers(
            f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}",
            self.tick,
            self.calls,
            lambda: getattr(self.caller, "name", OUTSIDE),
        )
        self.services = FakeEcsServices(REGION, ACCOUNT, self.balancers, self.tick, self.calls)
        self.scalable = FakeScalableTargets(self.services, self.tick, self.calls)
        self.interrupt: Callable[[str, str], None] = nothing_happens
        for service in (self.balancers, self.services, self.scalable):
            service.interrupt = self._interrupt
        self.ecs = self.services.client("ecs")
        self.elb = self.balancers.client("elbv2")
        self.scaling = self.scalable.client("application-autoscaling")

    # What a test makes

    def shop(
        self,
        way: str = "green-service",
        *,
        name: str = "shop",
        desired: int = 4,
        rules: int = 1,
        pairs: int = 1,
        signed_in: bool = False,
        default: bool = False,
        test_rule: bool = False,
        scalable: tuple[int, int] | None = (2, 10),
        revision: int = 6,
        **fields: Any,
    ) -> Shop:
        """A service that serves its revision ``NAME:6`` in a steady state; ``NAME:7`` is registered, too.

        Parameters
        ----------
        way
            What the service is made for: ``task-sets`` or ``green-service``.
        rules
            Listener rules of each pair of target groups.
        signed_in
            Whether users sign in first: the rules have an action before the one that forwards.
        default
            Whether the default actions of the listener forward, too.
        test_rule
            Whether a second listener sends test requests to the service's target group.
        scalable
            Least and most tasks of its scalable target; None for none.
        fields
            Further parameters of CreateService.
        """
        for each in (revision, revision + 1):
            self.services.define(name, each)
        balancer = self.balancers.balancer(f"{name}-web")
        stable = [self.balancers.group(f"{name}-blue-{number}") for number in range(pairs)]
        candidate = [self.balancers.group(f"{name}-green-{number}") for number in range(pairs)]
        splits = [forward({one: 100, other: 0}) for one, other in zip(stable, candidate, strict=True)]
        listener = self.balancers.listener(balancer, 443, *([copy.deepcopy(splits[0])] if default else []))
        made = [
            self.balancers.rule(listener, *([oidc()] if signed_in else []), copy.deepcopy(split), path=f"/{pair}{rule}")
            for pair, split in enumerate(splits)
            for rule in range(rules)
        ]
        made += [listener] if default else []
        tests = [self.balancers.listener(balancer, 8443, forward({stable[0]: 1}))] if test_rule else []
        self._production |= dict.fromkeys(made, name)
        places = [{"targetGroupArn": group, "containerName": "app", "containerPort": 8080} for group in stable]
        where = {"launchType": "FARGATE", "platformVersion": "1.4.0", "networkConfiguration": NETWORK}
        if "capacityProviderStrategy" in fields:
            del where["launchType"]
        key = {"cluster": "prod", "serviceName": name, "desiredCount": desired}
        if way == "task-sets":
            self.ecs.create_service(**key, deploymentController={"type": "EXTERNAL"}, schedulingStrategy="REPLICA")
            own = {name: fields.pop(name) for name in ("capacityProviderStrategy",) if name in fields}
            made_set = self.ecs.create_task_set(
                cluster="prod", service=name, taskDefinition=f"{name}:{revision}", loadBalancers=places, **where, **own
            )
            self.ecs.update_service_primary_task_set(
                cluster="prod", service=name, primaryTaskSet=made_set["taskSet"]["taskSetArn"]
            )
        else:
            self.ecs.create_service(**key, taskDefinition=f"{name}:{revision}", loadBalancers=places, **where, **fields)
        if scalable:
            least, most = scalable
            self.scaling.register_scalable_target(
                ServiceNamespace="ecs",
                ResourceId=f"service/prod/{name}",
                ScalableDimension=DIMENSION,
                MinCapacity=least,
                MaxCapacity=most,
            )
        self.settle(5)
        self.calls.clear()
        self.unanswered.clear()
        self.overloaded.clear()
        self.services.announced.clear()
        return Shop("prod", name, balancer, listener, made, tests, stable, candidate)

    def behave(self, definition: str, fate: Fate = "healthy", ticks: int = 1) -> None:
        """Say what becomes of the tasks of a definition from now on."""
        self.services.behaviour[definition] = Behaviour(fate, ticks)

    # Time, and requests

    def tick(self) -> None:
        """Let a moment pass."""
        if self.still:
            return
        with self.services.lock:
            self.ticks += 1
            self.services.pass_time()
            self.balancers.pass_time()
            self.scalable.pass_time(self._is_idle)
            self._look()

    def settle(self, ticks: int = 20) -> None:
        """Let time pass until whatever is underway should be done."""
        for _ in range(ticks):
            self.tick()

    def serve(self, shop: Shop, requests: int = 100) -> Served:
        """Send that many requests through each of its rules."""
        served = Served()
        for rule in shop.rules:
            one = self.balancers.serve(rule, requests)
            served.answered += one.answered
            served.unanswered += one.unanswered
        return served

    def shares(self, shop: Shop) -> list[float]:
        """The candidate group's share on each rule, in percent."""
        told = [self.balancers.shares(rule) for rule in shop.rules]
        return [100 * sum(share for arn, share in shares.items() if arn in shop.candidate) for shares in told]

    def change_outside(self, shop: Shop, stable: int, candidate: int) -> None:
        """Somebody else gives the first rule these weights."""
        weights = {shop.stable[0]: stable, shop.candidate[0]: candidate}
        self.balancers.change_outside(shop.rules[0], weights, OUTSIDE)

    def delete_rule(self, rule: str) -> None:
        """Somebody else deletes a rule."""
        with self.services.lock:
            self._production.pop(rule, None)
            del self.balancers.rules[rule]

    def delete_listener(self, listener: str) -> None:
        """Somebody else deletes a listener with all its rules."""
        with self.services.lock:
            for rule in [each for each in self.balancers.rules.values() if each.listener == listener]:
                self.delete_rule(rule.arn)
            self._production.pop(listener, None)
            del self.balancers.listeners[listener]

    # What a test looks at

    @property
    def writes(self) -> list[Write]:
        """All changes of rules."""
        return self.balancers.writes

    def serving(self, shop: Shop) -> set[str]:
        """Which revisions answer requests, however few."""
        return {answer for rule in shop.rules for answer in self.balancers.answering(rule)}

    def suspended(self, shop: Shop) -> dict[str, bool]:
        """What is suspended of a service's scaling."""
        return dict(self.scalable.targets[f"service/{shop.cluster}/{shop.service}"]["SuspendedState"])

    def names(self) -> set[str]:
        """The services that are not deleted, or being deleted."""
        return {service.name for service in self.services.services.values() if service.status == "ACTIVE"}

    # Inside

    def _interrupt(self, operation: str, when: str) -> None:
        if when == "after":
            with self.services.lock:
                self._look()
        self.interrupt(operation, when)

    def _look(self) -> None:
        for found, noted in (
            (groups_without_answer(self.balancers, self._production), self.unanswered),
            (self._overload(), self.overloaded),
        ):
            noted += [told for told in found if told not in noted]

    def _overload(self) -> Iterator[str]:
        for rule, service in self._production.items():
            if f"prod/{service}" not in self.services.services:
                continue
            desired = self.services.service(service).desired
            for arn, share in self.balancers.shares(rule).items():
                group = self.balancers.groups[arn]
                if len(group.in_state("healthy")) < round(share * desired, 6):
                    yield f"{rule}: {group.name} has {share:.1%} of the requests, and too few of {desired} tasks"

    def _is_idle(self, service: str) -> bool:
        """Whether no request reaches any target group of a service."""
        groups = {
            place["targetGroupArn"]
            for each in self.services.services.values()
            if each.name == service
            for unit in each.units
            for place in unit.fields.get("loadBalancers", [])
        }
        shares = [self.balancers.shares(rule) for rule in self._production]
        return not any(share for told in shares for arn, share in told.items() if arn in groups)
