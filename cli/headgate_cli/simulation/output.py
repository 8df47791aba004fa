"""What ``headgate simulate --format json`` prints."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SimulatedSpread(_Output):
    """A figure over all runs that were stopped. Null without such a run."""

    mean: float | None
    """Mean."""
    median: float | None
    """Median."""
    p90: float | None
    """90th percentile."""


class Simulation(_Output):
    """What a strategy detects in simulated rollouts."""

    input: dict[str, Any]
    """The options, with their defaults, and the steps that were simulated."""
    detected: Share
    """Share of the runs that were rolled back after the fault had begun; a mistake if the candidate is no worse."""
    false_rollbacks: Share
    """Share of the runs that were rolled back before the fault had begun."""
    seconds: SimulatedSpread
    """Time from the beginning of the fault to the end of the look that detected it."""
    failed_requests: SimulatedSpread
    """Failed candidate requests in the same time."""
    requests: SimulatedSpread
    """Candidate requests in the same time."""
    floor: float | None
    """Minimum mean of failed requests for any judge that is robust to bursts. Null if there is nothing to detect."""
