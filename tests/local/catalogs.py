"""The sample ECS service behind its load balancer, as its owner deploys it: examples/catalog.yaml."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from demo.ecs_service import WatchedService, wait_until_it_serves
from demo.traffic import WebTraffic
from emulator.application import deploy_catalog
from tests.local.deployed import eventually

if TYPE_CHECKING:
    from emulator.application import Way
    from tests.local.deployed import Headgate

PATIENCE_SECONDS = 180
"""Tasks start and end in a rollout, which takes long where many tests run."""

BROKEN = {"ERROR_RATE": "1"}
"""Environment of a release that fails on every request."""

CANNOT_START = {"ERROR_RATE": "none"}
"""Environment of a release that ends at its start with a ValueError."""


class Catalog:
    """A stack of its own with the sample service, whose revision 1 serves."""

    def __init__(self, headgate: Headgate, way: Way, name: str, **parameters: str) -> None:
        self.headgate, self.way, self.name = headgate, way, name
        aws = headgate.aws
        self.ecs, self.elb, self._scaling = (aws.client(each) for each in ("ecs", "elbv2", "application-autoscaling"))
        self.outputs = deploy_catalog(aws, headgate.outputs, way, stack=name, **parameters)
        wait_until_it_serves(aws, self.outputs)
        self.target: dict[str, Any] = {"kind": "ecs-service", "cluster": name, "service": name, "keepSeconds": 0}
        self.first = f"{name}:1"

    def request(self, environment: dict[str, str], *, keep: int = 0, **detail: Any) -> str:
        """Ask for a rollout of a release with this environment; answers its id."""
        return self.revise({"environment": {"app": {"RELEASE": "2", **environment}}}, keep=keep, **detail)

    def revise(self, changes: dict[str, Any], *, keep: int = 0, **detail: Any) -> str:
        """Ask for a rollout of a changed task definition; answers its id."""
        target = self.target | {"keepSeconds": keep}
        return self.headgate.request(target=target, candidate={"revise": changes}, **detail)

    def traffic(self, rps: float = 30) -> WebTraffic:
        """Requests to the load balancer, as long as it is entered."""
        return WebTraffic(self.outputs["Url"], rps)

    def watched(self, traffic: WebTraffic) -> WatchedService:
        """What its owner sees of it."""
        return WatchedService(self.headgate.aws, self.outputs, self.way, traffic)

    def set_weights(self, blue: int, green: int) -> None:
        """Change the rule, as somebody who does not know of Headgate might do."""
        groups = [
            {"TargetGroupArn": self.outputs["BlueGroup"], "Weight": blue},
            {"TargetGroupArn": self.outputs["GreenGroup"], "Weight": green},
        ]
        forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
        self.elb.modify_rule(RuleArn=self.outputs["Rule"], Actions=[forward])

    def weights(self) -> list[int]:
        """The weights of the rule: of the first target group, and of the second."""
        rule = self.elb.describe_rules(RuleArns=[self.outputs["Rule"]])["Rules"][0]
        found = {
            each["TargetGroupArn"]: each["Weight"] for each in rule["Actions"][-1]["ForwardConfig"]["TargetGroups"]
        }
        return [found[self.outputs["BlueGroup"]], found[self.outputs["GreenGroup"]]]

    def scale_in_is_suspended(self) -> bool:
        """Whether the number of tasks cannot become smaller by itself."""
        resource = f"service/{self.name}/{self.name}"
        found = self._scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[resource])
        return bool(found["ScalableTargets"][0]["SuspendedState"]["DynamicScalingInSuspended"])

    def delete(self) -> None:
        """End its tasks."""
        self.ecs.delete_service(cluster=self.name, service=self.name, force=True)


def assert_service_is_as_recorded(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """All requests go to one target group with one revision, the one on record, and nothing of the rollout is left."""
    target = record["request"]["target"]
    routing = record.get("plan", {}).get("routing")
    if record["status"] == "stopped":
        assert re.search(r"\d % to ", record["reason"]), f"the record does not say what was found: {record['reason']}"
        return
    if routing is None:
        assert record["status"] == "refused"
        return
    found = _service(headgate, target)
    task_sets = [each for each in found.get("taskSets", []) if each["status"] != "DRAINING"]
    assert len(task_sets) == (1 if routing["way"] == "task-sets" else 0)
    serving = task_sets[0] if task_sets else found
    groups = {each["targetGroupArn"] for each in serving["loadBalancers"]}
    assert _groups_with_requests(headgate, routing) == groups
    assert green_services(headgate, target["cluster"]) == []
    if not task_sets:
        eventually(
            lambda: len(_service(headgate, target)["deployments"]) == 1,
            10,
            lambda: f"two revisions run: {_service(headgate, target)['deployments']}",
        )
    revision = serving["taskDefinition"].rpartition("/")[2]
    expected = record["candidate"] if record["status"] == "succeeded" else record["stable"]
    assert revision == expected, f"{rollout_id} left {revision}"
    if record["status"] != "refused":
        assert record["serving"] == revision


def green_services(headgate: Headgate, cluster: str) -> list[str]:
    """Names of the services that rollouts have created in a cluster."""
    ecs = headgate.aws.client("ecs")
    arns = ecs.list_services(cluster=cluster)["serviceArns"]
    found = ecs.describe_services(cluster=cluster, services=arns)["services"]
    return [each["serviceName"] for each in found if "-hg-" in each["serviceName"] and each["status"] == "ACTIVE"]


def until_weight(headgate: Headgate, rollout_id: str, weight: float, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a step of this weight has started."""
    eventually(
        lambda: any(each["weight"] == weight for each in headgate.events(rollout_id, "Step Started")),
        seconds,
        lambda: f"{rollout_id} has not started a step of {weight} %: {headgate.record(rollout_id)}",
    )


def _service(headgate: Headgate, target: dict[str, Any]) -> dict[str, Any]:
    ecs = headgate.aws.client("ecs")
    return dict(ecs.describe_services(cluster=target["cluster"], services=[target["service"]])["services"][0])


def _groups_with_requests(headgate: Headgate, routing: dict[str, Any]) -> set[str]:
    elb = headgate.aws.client("elbv2")
    rules = [rule for pair in routing["pairs"] for rule in pair["rules"]]
    found = elb.describe_rules(RuleArns=rules)["Rules"]
    groups = [group for rule in found for group in rule["Actions"][-1]["ForwardConfig"]["TargetGroups"]]
    return {group["TargetGroupArn"] for group in groups if group["Weight"]}
