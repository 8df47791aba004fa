"""ECS services that ``headgate init`` offers, with their revisions and alarms."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headgate.spec.routing import service_of_green
from headgate.targets.ecs_service.ways import running_part
from headgate_cli.failures import Failure
from headgate_cli.rollouts import target_key

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

NEWEST_REVISIONS = 10


def services_of(stack: Stack) -> list[str]:
    """Return the services that TargetServices and TargetClusters cover, as cluster/service, in order.

    An installation without TargetServices asks nobody. The second services of rollouts are left out.
    """
    services, clusters = stack.parameters.get("TargetServices", ""), stack.parameters.get("TargetClusters", "")
    if not services:
        return []
    ecs = stack.client("ecs")
    names = [_last(arn) for page in ecs.get_paginator("list_clusters").paginate() for arn in page["clusterArns"]]
    return sorted(
        f"{cluster}/{_last(arn)}"
        for cluster in names
        if fnmatchcase(cluster, clusters)
        for page in ecs.get_paginator("list_services").paginate(cluster=cluster)
        for arn in page["serviceArns"]
        if fnmatchcase(_last(arn), services) and not service_of_green(_last(arn))
    )


class AccountService:
    """A service of the account."""

    def __init__(self, stack: Stack, cluster: str, name: str) -> None:
        self._stack, self._cluster, self.name = stack, cluster, name

    @classmethod
    def find(cls, stack: Stack, given: str) -> AccountService:
        """Return the service that a person names.

        Raises
        ------
        Failure
            If it is none, or this installation does not roll it out.
        """
        kind, _, rest = (target_key(given) or "").partition("/")
        cluster, _, name = rest.partition("/")
        if kind != "ecs-service":
            raise Failure(
                "--service: must be a cluster and its service, such as web/shop, or the ARN of a service "
                f"(given {given[:200]})"
            )
        for parameter, named in (("TargetServices", name), ("TargetClusters", cluster)):
            pattern = stack.parameters.get(parameter, "")
            if not fnmatchcase(named, pattern):
                raise Failure(
                    f"--service: {named} is not covered by Headgate's parameter {parameter}, which is "
                    f"{pattern or 'empty'}; name another one, or deploy Headgate with a pattern that covers it"
                )
        return cls(stack, cluster, name)

    @property
    def key(self) -> str:
        """Key of the target."""
        return f"ecs-service/{self._cluster}/{self.name}"

    @property
    def target(self) -> dict[str, str]:
        """The target of a request."""
        return {"kind": "ecs-service", "cluster": self._cluster, "service": self.name}

    @property
    def serves(self) -> str:
        """Family and revision that the service runs."""
        return _last(running_part(self._described)["taskDefinition"])

    def revisions(self) -> list[str]:
        """Return the newest active revisions of the family that runs, newest first."""
        answer = self._stack.client("ecs").list_task_definitions(
            familyPrefix=self.serves.rpartition(":")[0], status="ACTIVE", sort="DESC", maxResults=NEWEST_REVISIONS
        )
        return [_last(arn) for arn in answer["taskDefinitionArns"]]

    def alarms(self) -> list[str]:
        """Return the alarms on metrics of the service or of its target groups."""
        groups = [
            str(each.get("targetGroupArn", "")) for each in running_part(self._described).get("loadBalancers") or []
        ]
        mine = {("ServiceName", self.name), *(("TargetGroup", group.rpartition(":")[2]) for group in groups)}
        pages = self._stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"])
        return sorted(
            alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"] if mine & _dimensions_of(alarm)
        )

    @cached_property
    def _described(self) -> dict[str, Any]:
        ecs = self._stack.client("ecs")
        try:
            found = ecs.describe_services(cluster=self._cluster, services=[self.name])["services"]
        except ecs.exceptions.ClusterNotFoundException:
            found = []
        if not found or not running_part(found[0]).get("taskDefinition"):
            raise Failure(
                f"--service: there is no service {self.name} in the cluster {self._cluster} with a task definition; "
                "check both names, --region and --profile"
            )
        return dict(found[0])


def _dimensions_of(alarm: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the dimensions of an alarm, also those of its metric math."""
    stats = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    return {(each["Name"], each["Value"]) for metric in [alarm, *stats] for each in metric.get("Dimensions", [])}


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]
