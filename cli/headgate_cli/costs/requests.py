"""What the requests to a version cost: Lambda bills each request, and memory times duration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from headgate_cli.costs.model import Cost, CostModel, Used

if TYPE_CHECKING:
    from headgate_cli.costs.prices import PriceName, Prices

MILLION = 1_000_000

MB_IN_GB = 1024


class Served(CostModel):
    """What a version does for each request."""

    version: str
    """The version, or what it is called."""
    memory_mb: Annotated[int, Field(ge=128, le=10_240)]
    """Its memory."""
    architecture: Literal["arm64", "x86_64"]
    """Its architecture."""
    milliseconds: Annotated[float, Field(ge=0, le=900_000, allow_inf_nan=False)]
    """Mean billed duration."""
    requests_seen: float | None = None
    """Requests from which the duration was taken."""


class RequestCosts(CostModel):
    """What requests cost on one or two versions."""

    requests: Annotated[float, Field(gt=0)]
    """Requests that the costs are of."""
    free_tier: bool
    """Whether the free tier was taken off."""
    versions: list[Served]
    """The versions."""
    costs: list[Cost]
    """Their costs, in the same order."""
    ratio: float | None = None
    """Cost of the last version by cost of the first."""


def called(version: str) -> str:
    """Return a version in a sentence."""
    return {"stable": "the stable version", "candidate": "the candidate"}.get(version, f"version {version}")


def of_requests(served: Served, requests: float, prices: Prices, *, free_tier: bool = False) -> Cost:
    """Return what requests to a version cost.

    Parameters
    ----------
    free_tier
        Whether to take off what is free each month, as if nothing else in the account used it.
    """
    gb_seconds = requests * served.milliseconds / 1000 * served.memory_mb / MB_IN_GB
    free = prices.free_tier
    used = Used(prices)
    billed = requests - (free.lambda_requests if free_tier else 0)
    used.add("Lambda: requests", billed, "lambdaRequest", "request")
    price: PriceName = "gbSecondArm64" if served.architecture == "arm64" else "gbSecondX86"
    used.add("Lambda: duration", gb_seconds - (free.gb_seconds if free_tier else 0), price, "GB-second")
    return used.cost(f"{requests:,.0f} requests to {called(served.version)}", [])


def compare(versions: list[Served], requests: float, prices: Prices, *, free_tier: bool = False) -> RequestCosts:
    """Return what the same requests cost on each version."""
    costs = [of_requests(served, requests, prices, free_tier=free_tier) for served in versions]
    ratio = costs[-1].total / costs[0].total if len(costs) > 1 and costs[0].total else None
    return RequestCosts(requests=requests, free_tier=free_tier, versions=versions, costs=costs, ratio=ratio)
