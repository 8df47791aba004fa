"""Lookup of an ECS service: its way, the routing of its requests, and the revision that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied, message_of
from headgate.errors import RequestRefused
from headgate.targets.ecs_service.ways import (
    DRAINING,
    ListenerRule,
    ServiceAnswers,
    is_deploying,
    name_of,
    notes_about,
    places_of,
    routing_of,
    running_part,
    warnings_about,
    way_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headgate.spec.routing import Routing
    from headgate.spec.targets import EcsServiceTarget


MAX_GROUPS_PER_CALL = 20
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html"""

_OF_FARGATE = ("FARGATE", "FARGATE_SPOT")


class ServiceFacts(NamedTuple):
    """Properties of a service that a rollout needs before it begins."""

    target: EcsServiceTarget
    routing: Routing
    stable: str
    """Family and revision of the task definition that serves."""
    desired: int
    """Number of tasks that the service should have."""
    arn: str
    """ARN of the service."""
    running: Mapping[str, Any]
    """The service or its primary task set, as ECS describes it, with launch type and network."""
    target_types: Mapping[str, str]
    """``ip`` or ``instance``, by target group of the stable revision."""
    notes: list[str] = []
    warnings: list[str] = []


def rules_of(elb: Any, balancer: str) -> Iterable[ListenerRule]:
    """Yield every rule of a load balancer. The default one has the ARN of its listener."""
    pages = elb.get_paginator("describe_listeners").paginate(LoadBalancerArn=balancer)
    for listener in [each["ListenerArn"] for page in pages for each in page["Listeners"]]:
        for page in elb.get_paginator("describe_rules").paginate(ListenerArn=listener):
            for rule in page["Rules"]:
                arn = listener if rule.get("IsDefault") else rule["RuleArn"]
                yield ListenerRule(arn, balancer, rule["Actions"])


class ServiceLookup:
    """Looks up services.

    Parameters
    ----------
    ecs, elb
        boto3's clients of ECS and of Elastic Load Balancing (``elbv2``).
    """

    def __init__(self, ecs: Any, elb: Any) -> None:
        self._ecs, self._elb = ecs, elb

    def find(self, target: EcsServiceTarget) -> ServiceFacts:
        """Return the facts about a service.

        Raises
        ------
        RequestRefused
            If it does not exist, or cannot be rolled out.
        """
        answers = self.look(target)
        routing = routing_of(target, answers)
        running = running_part(answers.service)
        return ServiceFacts(
            target=target,
            routing=routing,
            stable=running["taskDefinition"].rpartition("/")[2],
            desired=answers.service["desiredCount"],
            arn=answers.service["serviceArn"],
            running=running,
            target_types={pair.stable: answers.groups[pair.stable]["TargetType"] for pair in routing.pairs},
            notes=[*notes_about(routing, answers), *self._draining(routing)],
            warnings=[*warnings_about(target, routing, answers), *self._others_in_stable(routing, answers.service)],
        )

    def look(self, target: EcsServiceTarget) -> ServiceAnswers:
        """Return what AWS answers about a service and its load balancers.

        Raises
        ------
        RequestRefused
            If it does not exist, or allows no way, before its load balancers are asked.
        """
        service = self._service(target)
        way_of(service)
        groups = self._groups({place.group for place in places_of(service)})
        arns = {arn for group in groups.values() for arn in group.get("LoadBalancerArns") or []}
        balancers = self._balancers(arns)
        rules = {
            rule.arn: rule
            for arn in sorted(arns)
            if balancers[arn]["Type"] == "application"
            for rule in rules_of(self._elb, arn)
        }
        beside = {group for rule in rules.values() if rule.weights.keys() & groups.keys() for group in rule.weights}
        groups |= self._groups(beside - groups.keys())
        return ServiceAnswers(service, rules, groups, balancers, self._managed(service))

    def serves(self, target: EcsServiceTarget) -> str:
        """Return family and revision that a service runs now.

        Raises
        ------
        RequestRefused
            If it does not exist.
        """
        return str(running_part(self._service(target)).get("taskDefinition") or "").rpartition("/")[2]

    def _service(self, target: EcsServiceTarget) -> Mapping[str, Any]:
        where = f"{target.name} in the cluster {target.cluster_name}"
        try:
            found = self._ecs.describe_services(cluster=target.cluster, services=[target.service])["services"]
        except ClientError as error:
            if code_of(error) == "ClusterNotFoundException":
                raise RequestRefused(
                    f"target.cluster: there is no cluster {target.cluster_name} in this Region; name an existing one"
                ) from None
            if not is_denied(error):
                raise
            raise RequestRefused(
                f"target.service: access to {where} is denied: {message_of(error)}; Headgate's parameters "
                "TargetServices and TargetClusters must cover it"
            ) from None
        if not found:
            raise RequestRefused(f"target.service: there is no service {where}; name an existing one")
        service: Mapping[str, Any] = found[0]
        return service

    def _groups(self, arns: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        wanted = sorted(arns)
        batches = (wanted[at : at + MAX_GROUPS_PER_CALL] for at in range(0, len(wanted), MAX_GROUPS_PER_CALL))
        found = (self._elb.describe_target_groups(TargetGroupArns=batch)["TargetGroups"] for batch in batches)
        return {group["TargetGroupArn"]: group for groups in found for group in groups}

    def _balancers(self, arns: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        if not (wanted := sorted(arns)):
            return {}
        found = self._elb.describe_load_balancers(LoadBalancerArns=wanted)["LoadBalancers"]
        return {balancer["LoadBalancerArn"]: balancer for balancer in found}

    def _managed(self, service: Mapping[str, Any]) -> list[str]:
        """Return the capacity providers of a service with task sets that are ECS Managed Instances."""
        strategy = running_part(service).get("capacityProviderStrategy") or []
        names = [each["capacityProvider"] for each in strategy if each["capacityProvider"] not in _OF_FARGATE]
        if not names or not service.get("taskSets"):
            return []
        # Those of ECS Managed Instances belong to a cluster, and are described with it alone.
        found = self._ecs.describe_capacity_providers(capacityProviders=names, cluster=service["clusterArn"])[
            "capacityProviders"
        ]
        return [each["name"] for each in found if each.get("managedInstancesProvider") is not None]

    def _states(self, group: str) -> list[str]:
        told = self._elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [each["TargetHealth"]["State"] for each in told]

    def _others_in_stable(self, routing: Routing, service: Mapping[str, Any]) -> Iterable[str]:
        """Yield a warning for each target group of the service with targets that are not its tasks.

        While tasks come and go, their number says nothing.
        """
        running = service["runningCount"]
        if is_deploying(service) or service["pendingCount"] or running != service["desiredCount"]:
            return
        for pair in routing.pairs:
            targets = len([state for state in self._states(pair.stable) if state not in DRAINING])
            if targets > running:
                tasks = f"{service['serviceName']} runs {running} task{'' if running == 1 else 's'}"
                yield (
                    f"target.service: the target group {name_of(pair.stable)} has {targets} targets, but {tasks}, so "
                    "something else serves its requests too, and counts as the stable revision; give it a target group "
                    "of its own, or deregister its targets"
                )

    def _draining(self, routing: Routing) -> list[str]:
        """Return a note for each candidate's target group with targets that drain.

        Raises
        ------
        RequestRefused
            If it has other targets: something else uses it.
        """
        notes = []
        for pair in routing.pairs:
            states = self._states(pair.candidate)
            name = name_of(pair.candidate)
            if used := [state for state in states if state not in DRAINING]:
                raise RequestRefused(
                    f"target.rules: the second target group {name} already has {len(used)} target"
                    f"{'s' if len(used) > 1 else ''}, so something else uses it; deregister them, or give the rules a "
                    "target group that is free"
                )
            if states:
                notes.append(
                    f"target.rules: {len(states)} target{'s' if len(states) > 1 else ''} of {name} still drain; the "
                    "rollout waits until they are gone"
                )
        return notes
