"""How long a plan may take, compared with the time that CloudFormation gives a custom resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

RESERVE_SECONDS = 300
"""Time that is left for a rollback, before CloudFormation stops waiting."""

LAST_SECONDS = 100
"""Time before that at which an answer is sent, however things stand."""

_PER_STEP = ("beforeStep", "afterStep")


class Times(NamedTuple):
    """The longest time that each part of a rollout may take, in seconds."""

    ready: int = 0
    hooks: int = 0
    bakes: int = 0
    pause: int = 0
    release: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(self)

    def in_words(self) -> str:
        """Return the sum and its parts, each with the property that sets it."""
        parts = (
            (self.ready, "until the candidate is ready (ReadySeconds)"),
            (self.bakes, "of bakes (Strategy)"),
            (self.hooks, "of hooks (timeoutSeconds of each in Hooks)"),
            (self.pause, "of a pause (OnFailure.pause.limitSeconds)"),
            (self.release, "until the service itself runs the candidate (ReadySeconds again)"),
        )
        return " + ".join(f"{seconds:,} s {what}" for seconds, what in parts if seconds)


def limit_seconds(service: int) -> int:
    """Return how long a rollout may take if CloudFormation waits for ``service`` seconds."""
    return max(0, service - RESERVE_SECONDS)


def last_seconds(service: int) -> int:
    """Return the age of a request at which it is answered at the latest."""
    return max(service - LAST_SECONDS, service // 2)


def times_of(plan: Mapping[str, Any]) -> Times:
    """Return how long a plan, in its JSON form, may take if everything takes as long as it is allowed to."""
    steps, ready = plan["steps"], plan["target"].get("readySeconds", 0)
    hooks = sum(
        hook["timeoutSeconds"] * (len(steps) if stage in _PER_STEP else 1)
        for stage, each in plan["hooks"].items()
        for hook in each
    )
    return Times(
        ready=ready,
        hooks=hooks,
        bakes=sum(step["bakeSeconds"] for step in steps),
        pause=plan["pause"]["limitSeconds"] if plan.get("pausesOnFailure") else 0,
        # After the promotion the original service is deployed, while the green one has the requests.
        release=ready if (plan.get("routing") or {}).get("way") == "green-service" else 0,
    )


ASKED = ("beforeTraffic", "afterTraffic")
"""Stages whose hooks are asked if there is no traffic to move."""


def fault_of(times: Times, service: int) -> str:
    """Return why a rollout is too long, with the ways out; empty if it is not."""
    limit = limit_seconds(service)
    if times.total <= limit:
        return ""
    return (
        f"Strategy: the rollout may take {times.total:,} s = {times.in_words()}. CloudFormation waits {service:,} s "
        f"for a custom resource, and {RESERVE_SECONDS} s of it are kept for a rollback, so the limit is {limit:,} s. "
        "Nothing has moved. Choose a shorter strategy or smaller limits, or leave the resource out and start the "
        "rollout after the deployment, with an event Rollout Requested or `headgate start`"
    )
