"""Checks of a request against this deployment: its account and Region, and its stack's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import RequestRefused
from headgate.spec.targets import EcsServiceTarget

if TYPE_CHECKING:
    from headgate.aws.place import Place
    from headgate.spec.request import RolloutRequest


def refuse_outside_deployment(request: RolloutRequest, place: Place, *, telemetry: bool) -> None:
    """Refuse a valid request that this deployment cannot carry out.

    Parameters
    ----------
    telemetry
        Whether the telemetry stream is deployed.

    Raises
    ------
    RequestRefused
        If the target is in another account or Region, or a guard needs telemetry that is not deployed.
    """
    target = request.target
    field = "service" if isinstance(target, EcsServiceTarget) else "function"
    if target.account not in (None, place.account) or target.region not in (None, place.region):
        raise RequestRefused(
            f"target.{field}: is in {target.account}, {target.region}; this Headgate serves {place.account}, "
            f"{place.region}"
        )
    if target.partition not in (None, place.partition):
        raise RequestRefused(
            f"target.{field}: is in partition {target.partition}; this Headgate serves {place.partition}"
        )
    compared = next((name for name in ("errors", "latency") if getattr(request.asked_guards, name)), None)
    if compared and request.asked_guards.evidence == "telemetry" and not telemetry:
        raise RequestRefused(
            f"guards.{compared}: needs telemetry, which is not deployed; set Headgate's parameter Telemetry to true, "
            "or guards.evidence to cloudwatch"
        )
