"""What this deployment of Headgate is: where it serves, and what its stack's parameters let it do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Self

from headgate.aws import setting
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from headgate.request import RolloutRequest


class Place(NamedTuple):
    """Where this Headgate serves."""

    partition: str
    account: str
    region: str


class TaskLimits(NamedTuple):
    """What a deployment lets ECS tasks be."""

    account: str
    roles: str
    """Pattern of the names, paths included, of the roles that a task may be given; empty allows none."""
    families: str
    """Pattern of the families that may be run, or registered."""
    may_register: bool
    clusters: str = "*"
    """Pattern of the names of the clusters that tasks may run on."""

    @classmethod
    def as_deployed(cls) -> Self:
        """The limits that the template sets on this function."""
        return cls(
            account=setting("ACCOUNT"),
            roles=os.environ.get("TASK_ROLES", ""),  # Empty allows none.
            families=setting("TASK_DEFINITIONS"),
            may_register=setting("REGISTER_TASK_DEFINITIONS") == "true",
            clusters=setting("TASK_CLUSTERS"),
        )


def refuse_what_cannot_work_here(request: RolloutRequest, place: Place, *, telemetry: bool) -> None:
    """Refuse what is valid on paper and impossible in this deployment.

    Parameters
    ----------
    telemetry
        Whether the telemetry stream is deployed.

    Raises
    ------
    RequestRefused
        If the target is elsewhere, or errors or latency would be compared without counts.
    """
    target = request.target
    if target.account not in (None, place.account) or target.region not in (None, place.region):
        raise RequestRefused(
            f"target.function: is in {target.account}, {target.region}; this Headgate serves {place.account}, "
            f"{place.region}"
        )
    if target.partition not in (None, place.partition):
        raise RequestRefused(
            f"target.function: is in partition {target.partition}; this Headgate serves {place.partition}"
        )
    compared = next((name for name in ("errors", "latency") if getattr(request.guards, name)), None)
    if compared and request.guards.evidence == "telemetry" and not telemetry:
        raise RequestRefused(
            f"guards.{compared}: compares counts from telemetry, which is not deployed; set the parameter Telemetry to "
            "true, or guards.evidence to cloudwatch"
        )
