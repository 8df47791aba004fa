"""The demo of ECS services: a good and a bad release behind a load balancer, counted as its clients see them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from demo.rollout_watch import Rollout, Standing, follow, with_strategy
from demo.traffic import WebTraffic
from emulator.application import ROOT, DeploymentError, deploy_catalog, timed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from demo.traffic import Request
    from emulator.application import Outputs, Way
    from emulator.server import EmbeddedAws

FILE = Path(__file__).parent / "events" / "ecs_service.json"
WAYS: tuple[Way, ...] = ("green-service", "task-sets")
STACK = "catalog"
START_SECONDS = 60
"""Time limit for the first tasks to serve."""


class Part(NamedTuple):
    """A service or task set that runs tasks of one revision."""

    name: str
    revision: str
    """Family and revision."""
    group: str
    """ARN of its target group."""
    tasks: int

    def __str__(self) -> str:
        return f"{self.name} with revision {self.revision}"


class WatchedService:
    """A service behind a load balancer with live traffic.

    Parameters
    ----------
    catalog
        Outputs of its stack.
    """

    what = "requests"
    called = "revision"

    def __init__(self, aws: EmbeddedAws, catalog: Outputs, way: Way, traffic: WebTraffic) -> None:
        self._ecs, self._elb, self._scaling = (aws.client(name) for name in ("ecs", "elbv2", "application-autoscaling"))
        self._cluster, self._service, self._rule = catalog["Cluster"], catalog["Service"], catalog["Rule"]
        self._way, self._traffic = way, traffic
        self._revisions: dict[str, str] = {}
        """Revision by target group, as last seen."""
        self._alone = ""
        """The revision that had all requests last."""
        self.seen: dict[str, Part] = {}
        """Every part that was ever seen, by name."""
        self._before = self._settings()

    def standing(self) -> Standing:
        """Return the revisions that get requests."""
        shares = self.shares()
        for part in self.parts():
            self.seen[part.name] = part
            self._revisions[part.group] = part.revision
        standing = standing_of(shares, self._revisions, self._alone)
        if not standing.weights:
            self._alone = standing.version
        return standing

    def since(self, begun: float) -> list[Request]:
        """Return the requests answered since a time."""
        return self._traffic.since(begun)

    def shares(self) -> dict[str, float]:
        """Return the share of each target group that gets requests."""
        rule = self._elb.describe_rules(RuleArns=[self._rule])["Rules"][0]
        return shares_of(rule["Actions"][-1]["ForwardConfig"]["TargetGroups"])

    def parts(self) -> list[Part]:
        """Return the services, or task sets, that run."""
        if self._way == "task-sets":
            found = self._ecs.describe_task_sets(cluster=self._cluster, service=self._service)["taskSets"]
            running = [each for each in found if each["status"] != "DRAINING"]
        else:
            names = self._ecs.list_services(cluster=self._cluster)["serviceArns"]
            found = self._ecs.describe_services(cluster=self._cluster, services=names)["services"]
            running = [each for each in found if each["status"] == "ACTIVE"]
        return [part_of(each) for each in running]

    def wrong(self) -> list[str]:
        """Describe what differs from before the rollouts, except the revision."""
        faults = []
        if len(shares := self.shares()) != 1:
            faults.append(f"the rule splits requests: {shares}")
        parts = self.parts()
        if len(parts) != 1:
            faults.append(f"{len(parts)} parts run, expected 1: {', '.join(map(str, parts))}")
        elif parts[0].group not in shares:
            faults.append(f"no requests go to {parts[0]}")
        now = self._settings()
        faults += [
            f"{name} is {now[name]}, expected {before}" for name, before in self._before.items() if now[name] != before
        ]
        return faults

    def _settings(self) -> dict[str, Any]:
        service = self._ecs.describe_services(cluster=self._cluster, services=[self._service])["services"][0]
        scalable = self._scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
        return {"the desired count": service["desiredCount"], "suspended scaling": scalable[0]["SuspendedState"]}


def part_of(found: Mapping[str, Any]) -> Part:
    """Return a service, or a task set, as it is described."""
    name = found.get("serviceName") or f"task set {found['id']}"
    tasks = found.get("desiredCount", found.get("computedDesiredCount", 0))
    revision = found["taskDefinition"].rpartition("/")[2]
    return Part(name, revision, found["loadBalancers"][0]["targetGroupArn"], tasks)


def shares_of(groups: list[dict[str, Any]]) -> dict[str, float]:
    """Return the share of each target group of a rule that gets requests."""
    total = sum(each["Weight"] for each in groups)
    return {each["TargetGroupArn"]: each["Weight"] / total for each in groups if each["Weight"]}


def standing_of(shares: Mapping[str, float], revisions: Mapping[str, str], alone: str) -> Standing:
    """Return the distribution of requests over revisions.

    Parameters
    ----------
    shares
        Share by target group.
    revisions
        Revision by target group.
    alone
        The revision that had all requests last, which is the stable one while two have some.
    """
    by_revision: dict[str, float] = {}
    for group, share in shares.items():
        revision = revisions.get(group, "?")
        by_revision[revision] = by_revision.get(revision, 0) + share
    stable = alone if alone in by_revision else next(iter(by_revision))
    weights = {revision: share for revision, share in by_revision.items() if revision != stable}
    return Standing(stable, weights, "" if weights else f"all requests go to revision {stable}")


class Released(NamedTuple):
    """One rollout, and what its clients and its owner see after it."""

    rollout: Rollout
    unanswered: int
    """Requests that no task answered."""
    kept: list[Part]
    removed: list[Part]
    faults: list[str]

    @property
    def wrong(self) -> list[str]:
        """Differences from the expected result."""
        faults = [*self.rollout.wrong, *self.faults]
        failed = sum(not request.ok for request in self.rollout.requests)
        if self.rollout.expected == "succeeded" and failed:
            faults.append(f"{failed} requests failed during the promotion, expected none")
        if self.unanswered:
            faults.append(f"{self.unanswered} requests were not answered by the service")
        return faults

    def to_summary(self) -> dict[str, Any]:
        """Return it for the summary."""
        parts = {"kept": list(map(str, self.kept)), "removed": list(map(str, self.removed))}
        wrong = {"ok": not self.wrong, "wrong": self.wrong}
        return self.rollout.to_summary() | {"unanswered": self.unanswered} | parts | wrong


def run_ecs_service(options: argparse.Namespace, aws: EmbeddedAws, headgate: Outputs) -> dict[str, Any]:
    """Run both rollouts of the service and return the summary."""
    catalog = deploy_service(aws, headgate, options.way)
    with WebTraffic(catalog["Url"], options.rps) as traffic:
        print(f"  {options.rps:g} requests per second to {catalog['Url']}")
        watched = WatchedService(aws, catalog, options.way, traffic)
        rollouts = []
        for kind, error_rate, expected in (("good", 0.0, "succeeded"), ("bad", options.bad_error_rate, "rolled-back")):
            share = f": {error_rate:.0%} of its requests fail" if error_rate else ""
            print(f"\nA {kind} release{share}  ({FILE.relative_to(ROOT)})")
            event = service_event(options.strategy, options.way, kind, error_rate)
            rollouts.append(_release(aws, headgate, event, watched, traffic, expected))
    denials = [str(denial) for denial in aws.denials()]
    return {
        "target": "ecs",
        "way": options.way,
        "strategy": options.strategy or "as in the event",
        "rps": options.rps,
        "badErrorRate": options.bad_error_rate,
        "requests": len(traffic.requests),
        "failedRequests": sum(not request.ok for request in traffic.requests),
        "unanswered": traffic.unanswered,
        "rollouts": [each.to_summary() for each in rollouts],
        "denials": denials,
        "ok": not any(each.wrong for each in rollouts) and traffic.unanswered == 0 and not denials,
    }


def deploy_service(aws: EmbeddedAws, headgate: Outputs, way: Way) -> Outputs:
    """Deploy the service with its load balancer, wait until it serves, and return the outputs of its stack."""
    with timed(f"the stack {STACK}: an ECS service behind a load balancer (examples/catalog.yaml)"):
        catalog = deploy_catalog(aws, headgate, way, stack=STACK)
        wait_until_it_serves(aws, catalog)
    return catalog


def url_of_service(aws: EmbeddedAws) -> str:
    """Return the URL of the service that is deployed."""
    (stack,) = aws.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    return str(next(each["OutputValue"] for each in stack["Outputs"] if each["OutputKey"] == "Url"))


def _release(
    aws: EmbeddedAws,
    headgate: Outputs,
    event: dict[str, Any],
    watched: WatchedService,
    traffic: WebTraffic,
    expected: str,
) -> Released:
    before, begun = {part.name for part in watched.parts()}, time.monotonic()
    watched.seen.clear()
    rollout = follow(aws, headgate, event, watched, expected)
    kept = watched.parts()
    now = {part.name for part in kept}
    removed = [part for name, part in watched.seen.items() if name not in now]
    added = now - before
    faults = watched.wrong()
    if expected == "rolled-back" and added:
        faults.append(f"{', '.join(added)} was added, although the rollout was rolled back")
    return Released(rollout, traffic.unanswered_since(begun), kept, removed, faults)


def service_event(strategy: str | None, way: Way, kind: str = "good", error_rate: float = 0.0) -> dict[str, Any]:
    """Return the event from demo/events/ with the given strategy, for a good or a bad release."""
    event: dict[str, Any] = json.loads(FILE.read_text())
    detail = event["detail"]
    detail["id"] = detail["id"].replace("-release", f"-{kind}-release")
    detail["target"]["way"] = way
    variables = {"RELEASE": {"good": "2", "bad": "3"}[kind], "ERROR_RATE": f"{error_rate:g}"}
    detail["candidate"]["revise"]["environment"]["app"] = variables
    return with_strategy(event, strategy)


def wait_until_it_serves(aws: EmbeddedAws, catalog: Outputs) -> None:
    """Wait until every task of the service is healthy in its target group.

    Raises
    ------
    DeploymentError
        If it takes too long.
    """
    ecs, elb = aws.client("ecs"), aws.client("elbv2")
    wanted = ecs.describe_services(cluster=catalog["Cluster"], services=[catalog["Service"]])["services"][0]
    deadline = time.monotonic() + START_SECONDS
    while True:
        health = elb.describe_target_health(TargetGroupArn=catalog["BlueGroup"])["TargetHealthDescriptions"]
        states = [each["TargetHealth"]["State"] for each in health]
        if states.count("healthy") >= wanted["desiredCount"]:
            return
        if time.monotonic() > deadline:
            raise DeploymentError(f"the tasks of {catalog['Service']} are {states} after {START_SECONDS} s")
        time.sleep(0.1)


def print_service_summary(summary: dict[str, Any]) -> None:
    """Print the summary."""
    print("\nSummary, as the clients of the load balancer saw it")
    for rollout in summary["rollouts"]:
        print(f"  {rollout['rolloutId']}: {rollout['outcome']} after {rollout['seconds']:.1f} s")
        print(f"    {rollout['reason']}")
        for revision, counts in rollout["requests"].items():
            role = {rollout["stable"]: "stable", rollout["candidate"]: "candidate"}.get(revision, "")
            print(f"    revision {revision} ({role}): {counts['requests']:,} requests, {counts['errors']:,} failed")
        if rollout["secondsFromFirstFailureToRollback"] is not None:
            print(f"    first failed request to rollback: {rollout['secondsFromFirstFailureToRollback']:.1f} s")
        print(f"    kept: {', '.join(rollout['kept'])}; removed: {', '.join(rollout['removed']) or 'nothing'}")
        if rollout["ok"]:
            print(f"    all requests go to revision {rollout['aliasServes']}, as expected; autoscaling is as before")
        for fault in rollout["wrong"]:
            print(f"    WRONG: {fault}")
    print(
        f"  {summary['requests']:,} requests in all, {summary['failedRequests']:,} failed; {summary['unanswered']:,} "
        "were not answered by the service"
    )
    for denial in summary["denials"]:
        print(f"  WRONG: {denial}")
    print(f"\n{'Both rollouts ended as expected.' if summary['ok'] else 'The demo did NOT end as expected.'}")
