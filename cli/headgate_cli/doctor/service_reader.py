"""Reads what the checks of an ECS service judge. It calls AWS, changes nothing, and judges nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.analysis.measures import ServiceMeasures
from headgate.errors import RequestRefused
from headgate.planning.service_stacks import warnings_about_stacks_of
from headgate.spec.routing import service_of_green
from headgate.targets.ecs_service.lookup import ServiceLookup, rules_of
from headgate_cli.doctor.reader import ROLLOUT_TAG
from headgate_cli.doctor.services import DIMENSION, LeftService
from headgate_cli.doctor.targets import WATCHED_MINUTES, EvidenceFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.spec.targets import EcsServiceTarget
    from headgate.targets.ecs_service.lookup import ServiceFacts
    from headgate_cli.records import Records
    from headgate_cli.stack import Stack

MAX_SERVICES_PER_CALL = 10
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html"""


class ServiceReader:
    """Reads a service, its load balancers, and what earlier rollouts have left beside it."""

    def __init__(self, stack: Stack, records: Records, target: EcsServiceTarget) -> None:
        self._stack, self._records, self._target = stack, records, target

    @cached_property
    def rollout(self) -> str:
        """The rollout that moves the service; empty if none does."""
        return self._records.moved_by(self._target.key)

    @cached_property
    def found(self) -> ServiceFacts | str:
        """The service as a plan finds it, or why a plan would be refused."""
        try:
            return ServiceLookup(self._stack.client("ecs"), self._stack.client("elbv2")).find(self._target)
        except RequestRefused as refusal:
            return str(refusal)

    @cached_property
    def is_there(self) -> bool:
        """Whether there is such a service, which may be one that cannot be rolled out."""
        ecs = self._stack.client("ecs")
        try:
            found = ecs.describe_services(cluster=self._target.cluster, services=[self._target.service])["services"]
        except ecs.exceptions.ClusterNotFoundException:
            return False
        except ClientError:  # It is not known, and the checks say so themselves.
            return True
        return any(each["status"] != "INACTIVE" for each in found)

    def stacks(self, facts: ServiceFacts) -> list[str]:
        """Return warnings about the stacks that own the service or its rules."""
        client = self._stack.client("cloudformation")
        return list(warnings_about_stacks_of(client, self._target.name, facts.arn, facts.routing))

    def left(self) -> list[LeftService]:
        """Return the green services of the service that no running rollout has."""
        greens = [each for each in self._greens() if _rollout_of(each) not in ("", self.rollout)]
        return [
            LeftService(
                name=each["serviceName"],
                cluster=self._target.cluster_name,
                rollout=_rollout_of(each),
                tasks=each["runningCount"],
                rules=list(self._rules_to([place["targetGroupArn"] for place in each.get("loadBalancers") or []])),
            )
            for each in greens
        ]

    def suspended(self) -> Mapping[str, bool] | None:
        """Return what Application Auto Scaling has suspended for the service; None if it does not scale it."""
        found = self._stack.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs",
            ResourceIds=[f"service/{self._target.cluster_name}/{self._target.name}"],
            ScalableDimension=DIMENSION,
        )["ScalableTargets"]
        return dict(found[0].get("SuspendedState") or {}) if found else None

    def evidence(self, facts: ServiceFacts) -> EvidenceFacts:
        """Return what tells whether the revisions could be compared."""
        item = self._records.get(keys.target_pk(self._target.key), keys.TELEMETRY_SK)
        seen_at = datetime.fromtimestamp(item["seenAt"], UTC) if item else None
        return EvidenceFacts(self._stack.parameters.get("Telemetry") == "true", seen_at, self._requests(facts))

    def _requests(self, facts: ServiceFacts) -> dict[str, int]:
        """Count the requests to both target groups in the last minutes."""
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        queries = ServiceMeasures(self._target, facts.routing).all_requests("all", period=60).queries
        pages = self._stack.client("cloudwatch").get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            StartTime=now - timedelta(minutes=WATCHED_MINUTES),
            EndTime=now + timedelta(minutes=1),
        )  # fmt: skip
        results = [result for page in pages for result in page["MetricDataResults"]]
        return {"all": int(sum(value for result in results for value in result["Values"]))}

    def _greens(self) -> Iterator[dict[str, Any]]:
        ecs = self._stack.client("ecs")
        pages = ecs.get_paginator("list_services").paginate(cluster=self._target.cluster)
        arns = [arn for page in pages for arn in page["serviceArns"]]
        mine = [arn for arn in arns if service_of_green(arn.rpartition("/")[2]) == self._target.name]
        for at in range(0, len(mine), MAX_SERVICES_PER_CALL):
            part = mine[at : at + MAX_SERVICES_PER_CALL]
            answer = ecs.describe_services(cluster=self._target.cluster, services=part, include=["TAGS"])
            yield from (each for each in answer["services"] if each["status"] == "ACTIVE")

    def _rules_to(self, groups: list[str]) -> Iterator[str]:
        """Yield the listener rules that send requests to target groups."""
        elb = self._stack.client("elbv2")
        found = elb.describe_target_groups(TargetGroupArns=groups)["TargetGroups"] if groups else []
        for balancer in sorted({arn for group in found for arn in group.get("LoadBalancerArns") or []}):
            yield from (rule.arn for rule in rules_of(elb, balancer) if any(map(rule.weights.get, groups)))


def _rollout_of(service: Mapping[str, Any]) -> str:
    tags = {tag["key"]: tag["value"] for tag in service.get("tags") or []}
    return str(tags.get(ROLLOUT_TAG, ""))
