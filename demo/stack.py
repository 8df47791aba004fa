"""The demo of stacks: two deployments of the sample shop by ``sam deploy``, which waits while Headgate rolls out."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from demo.rollout_watch import PATIENCE_SECONDS, Announcements, Rollout, WatchedAlias, show, take_stock
from demo.traffic import Traffic
from emulator.application import DeploymentError, deploy_shop, timed
from headgate.errors import RequestRefused
from headgate.spec.request import read_request
from headgate.spec.strategy import Step, steps_of

if TYPE_CHECKING:
    import argparse

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

STACK, RESOURCE, ALIAS = "shop", "ShopRollout", "live"
STRATEGY = "Canary25Percent12Seconds"
TEMPLATE = "examples/shop.yaml"
DEPLOY_SECONDS = 120
"""How long sam may take, on a busy machine, beside the rollout."""
_SHOWN = ("Shop", RESOURCE, STACK)
"""Logical ids of the resources whose events are shown."""


@dataclass
class Deployment:
    """Result of one ``sam deploy``."""

    release: str
    must_succeed: bool
    rollout: Rollout
    failure: str = ""
    """The end of what sam said; empty if it succeeded."""
    stack_status: str = ""
    stack_reason: str = ""
    """Why the stack says that the deployment failed."""
    faults: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Differences from the expected result."""
        return [*self.rollout.wrong, *self.faults]

    def to_summary(self) -> dict[str, Any]:
        return self.rollout.to_summary() | {
            "release": self.release,
            "samFailed": bool(self.failure),
            "stackStatus": self.stack_status,
            "stackReason": self.stack_reason,
            "ok": not self.wrong,
            "wrong": self.wrong,
        }


def strategy_of(given: str | None) -> tuple[str, list[Step]]:
    """Return the name of the strategy, and its steps.

    Raises
    ------
    RequestRefused
        If it is not the name of a preset, or never bakes.
    """
    name = given or STRATEGY
    if name.startswith("{"):
        raise RequestRefused(
            "STRATEGY: the sample's template takes the name of a preset, like Canary25Percent12Seconds"
        )
    target = {"kind": "lambda-alias", "function": STACK, "alias": ALIAS}
    steps = list(steps_of(read_request({"target": target, "strategy": name}, "demo").strategy))
    if not any(step.bake_seconds for step in steps):
        raise RequestRefused(f"STRATEGY: {name} never bakes, so the bad release could not be detected; use another")
    return name, steps


def run_stack(options: argparse.Namespace, aws: EmbeddedAws, headgate: Outputs) -> dict[str, Any]:
    """Deploy the shop, then a good and a bad release of it under traffic, and return the summary."""
    strategy, steps = strategy_of(options.strategy)
    given = {"Strategy": strategy}
    with timed(f"sam build and sam deploy: {STACK}, release 1 ({TEMPLATE})"):
        shop = deploy_shop(aws, headgate, "1", **given)
    print(f"  {shop['Function']}:{ALIAS} serves version {shop['Version']}: nothing to shift at the first deployment")
    limit = sum(step.bake_seconds for step in steps) + PATIENCE_SECONDS + DEPLOY_SECONDS
    deployments = []
    with Traffic(aws, shop["Function"], ALIAS, options.rps) as traffic:
        print(f"  {options.rps:g} requests per second on {shop['Function']}:{ALIAS}")
        watched = WatchedAlias(aws, shop["Function"], ALIAS, traffic)
        follower = _Follower(aws, headgate, watched, limit)
        deployments.append(follower.deploy("2", "a good release", must_succeed=True, **given))
        bad = {"ErrorRate": f"{options.bad_error_rate:g}"}
        title = f"a bad release: {options.bad_error_rate:.0%} of its requests fail"
        deployments.append(follower.deploy("3", title, must_succeed=False, **given, **bad))
    denials = aws.denials()
    return {
        "template": TEMPLATE,
        "strategy": strategy,
        "rps": options.rps,
        "badErrorRate": options.bad_error_rate,
        "requests": len(traffic.requests),
        "unanswered": traffic.unanswered,
        "rollouts": [deployment.to_summary() for deployment in deployments],
        "denials": [str(denial) for denial in denials],
        "ok": not any(deployment.wrong for deployment in deployments) and traffic.unanswered == 0 and not denials,
    }


def print_stack_summary(summary: dict[str, Any]) -> None:
    """Print the summary."""
    print("\nSummary")
    for deployment in summary["rollouts"]:
        said = "failed" if deployment["samFailed"] else "succeeded"
        print(f"  sam deploy of release {deployment['release']}: {said} after {deployment['seconds']:.1f} s")
        print(f"    stack: {deployment['stackStatus']}")
        if deployment["stackReason"]:
            print(f"    reason in its events: {deployment['stackReason']}")
        print(f"    rollout {deployment['rolloutId'] or '(none)'}: {deployment['outcome'] or 'did not start'}")
        for version, counts in deployment["requests"].items():
            role = {deployment["stable"]: "stable", deployment["candidate"]: "candidate"}.get(version, "")
            print(f"    version {version} ({role}): {counts['requests']} requests, {counts['errors']} failed")
        print(
            f"    alias {ALIAS} serves version {deployment['aliasServes']}, as expected"
            if deployment["ok"]
            else f"    WRONG: {'; '.join(deployment['wrong'])}"
        )
    if summary["unanswered"]:
        print(f"  WRONG: {summary['unanswered']} requests got no answer from Lambda")
    for denial in summary["denials"]:
        print(f"  WRONG: {denial}")
    print(f"\n{'Both deployments ended as expected.' if summary['ok'] else 'The demo did NOT end as expected.'}")


class _Follower:
    """Shows what happens on the bus, on the alias and in the stack while sam deploys."""

    def __init__(self, aws: EmbeddedAws, headgate: Outputs, watched: WatchedAlias, limit: float) -> None:
        self._aws, self._headgate, self._watched, self._limit = aws, headgate, watched, limit
        self._stacks = aws.client("cloudformation")
        self._seen = {event["EventId"] for event in self._events()}

    def deploy(self, release: str, title: str, *, must_succeed: bool, **overrides: str) -> Deployment:
        """Deploy a release as a pipeline would, and return the result."""
        print(f"\n{title[0].upper()}{title[1:]}  (sam build; sam deploy --parameter-overrides Release={release} ...)")
        expected = "succeeded" if must_succeed else "rolled-back"
        deployment = Deployment(release, must_succeed, Rollout("", expected, self._watched.standing().version))
        sam = threading.Thread(target=self._run_sam, args=(deployment, overrides), daemon=True)
        bus = Announcements(self._aws, self._headgate["BusName"])
        begun = time.monotonic()
        sam.start()
        show(
            deployment.rollout,
            self._watched,
            bus,
            begun,
            self._limit,
            until=lambda: not sam.is_alive(),
            news=lambda: self._news(deployment),
        )
        take_stock(self._aws, self._headgate, deployment.rollout, self._watched, begun)
        bus.close()
        for line in self._news(deployment):
            print(f"  {time.monotonic() - begun:5.1f} s  {line}", flush=True)
        self._judge(deployment)
        return deployment

    def _run_sam(self, deployment: Deployment, overrides: dict[str, str]) -> None:
        try:
            deploy_shop(self._aws, self._headgate, deployment.release, **overrides)
        except DeploymentError as failed:
            deployment.failure = str(failed)

    def _events(self) -> list[dict[str, Any]]:
        """Return all events of the stack, newest first."""
        pages = self._stacks.get_paginator("describe_stack_events").paginate(StackName=STACK)
        return [event for page in pages for event in page["StackEvents"]]

    def _news(self, deployment: Deployment) -> list[str]:
        """Return new events of the stack in words, oldest first."""
        fresh = [event for event in self._events() if event["EventId"] not in self._seen]
        self._seen |= {event["EventId"] for event in fresh}
        lines = []
        for event in reversed(fresh):
            name, status = event["LogicalResourceId"], event["ResourceStatus"]
            reason = re.sub(r" \(RequestId: [^)]*\)$", "", event.get("ResourceStatusReason", ""))
            if name == RESOURCE and status == "UPDATE_FAILED":
                deployment.stack_reason = reason
            if name in _SHOWN:
                lines.append(f"stack: {name} {status}" + (f": {reason}" if reason else ""))
        return lines

    def _judge(self, deployment: Deployment) -> None:
        deployment.stack_status = self._stacks.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]
        status = "UPDATE_COMPLETE" if deployment.must_succeed else "UPDATE_ROLLBACK_COMPLETE"
        if deployment.stack_status != status:
            deployment.faults.append(f"the stack is {deployment.stack_status}, expected {status}")
        if bool(deployment.failure) == deployment.must_succeed:
            deployment.faults.append(f"sam deploy {'failed' if deployment.failure else 'succeeded'}")
        if not deployment.must_succeed and deployment.rollout.rollout_id not in deployment.stack_reason:
            deployment.faults.append("the stack's events do not name the rollout")
