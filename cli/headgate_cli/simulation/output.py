"""What ``headgate simulate --format json`` prints, with ``--like`` and with ``--replay``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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


class SimulatedShare(_Output):
    """A share of simulated rollouts."""

    share: Share
    """The share."""
    margin: Share
    """Half the width of its 95 % confidence interval."""


class LeastErrors(_Output):
    """The least error rate of the candidate that is caught."""

    rate: Share
    """Share of the candidate's requests that fail."""
    added: Share
    """What it fails more often than the target did on average."""
    ratio: float | None
    """The rate over that of the target. Null if that is 0."""
    caught: Share
    """Share of the rollouts that were ended."""
    failed_requests: SimulatedSpread
    """Failed candidate requests until then, over the rollouts that were ended."""
    seconds: SimulatedSpread
    """Time from the first shift until then."""


class LeastSlowdown(_Output):
    """The least slowdown of the candidate that is caught."""

    factor: float
    """Factor on the duration of all requests."""
    caught: Share
    """Share of the rollouts that were ended."""
    seconds: SimulatedSpread
    """Time from the first shift until then."""


class HelpfulSetting(_Output):
    """A setting with which a smaller error rate is caught, from a simulation with it."""

    what: str
    """The setting in words."""
    request: dict[str, Any]
    """The fields of a request that differ."""
    least_errors: LeastErrors
    """The least error rate that is caught with it."""


class Caution(_Output):
    """Where the guarantee of the judge may not hold for this target, and what to set then."""

    kind: Literal["clusters", "noise"]
    """``clusters``: failures that come together, from one cause. ``noise``: each version wanders on its own."""
    measured: bool
    """Whether it was measured on both versions of earlier rollouts. Otherwise it is the most that the totals allow."""
    setting: str
    """The field of ``guards`` to set: ``failuresPerCause`` or ``noise``."""
    value: float
    """The value to set."""
    false_rollbacks: SimulatedShare
    """False rollbacks if it is so and nothing is set."""
    false_rollbacks_when_set: SimulatedShare
    """False rollbacks with this value."""
    least_errors_when_set: LeastErrors | None
    """The least error rate that is caught with this value. Null if none is."""


class TargetSimulation(_Output):
    """What a strategy detects on a target's own traffic."""

    input: dict[str, Any]
    """The options, with the steps and guards that were simulated."""
    target: str
    """The target."""
    minutes: int
    """Minutes of its past."""
    requests_per_second: float
    """Mean over these minutes."""
    error_rate: Share
    """Share of all requests that failed."""
    candidate_requests: float
    """Mean requests of the candidate during the strategy."""
    false_rollbacks: SimulatedShare
    """Share of the rollouts that were ended although both versions are equally good."""
    least_errors: LeastErrors | None
    """The least error rate that is caught. Null if none is, or if errors are not compared."""
    least_slowdown: LeastSlowdown | None
    """The least slowdown that is caught. Null if none is, or if durations are not compared."""
    helpful: list[HelpfulSetting]
    """Settings with which a smaller error rate is caught, the best one first."""
    cautions: list[Caution]
    """Where the guarantee may not hold."""
    notes: list[str]
    """What was left out, or could not be read."""


class ReplayedGuard(_Output):
    """The evidence of a guard at the end of a replay."""

    guard: str
    """Its name."""
    value: float
    """The evidence against the candidate."""
    limit: float
    """The evidence that it needs alone."""


class Replay(_Output):
    """A recorded rollout, judged again with other settings."""

    input: dict[str, Any]
    """The rollout and the guards that it was judged by."""
    rollout: str
    """Its id."""
    recorded_status: str
    """How it ended, or its status now."""
    recorded_seconds: float | None
    """Time from the first shift to the rollback. Null if it was not rolled back."""
    recorded_failed_requests: int
    """Failed requests of the candidate on record."""
    ended: bool
    """Whether the guards end it now."""
    action: Literal["", "rollback", "pause"]
    """What the guards do."""
    guard: str
    """Name of the guard with the most evidence."""
    seconds: float | None
    """Time from the first shift to this end. Null without an end."""
    failed_requests: int
    """Failed requests of the candidate until this end, or on record if there is none."""
    guards: list[ReplayedGuard]
    """The evidence of each guard."""
    notes: list[str]
    """What could not be judged again."""
