"""What Headgate says on its bus: a model of the detail of every event, and which detail-type has which.

The functions do not import this module; it serves whoever receives the events, the JSON Schemas in ``docs/schemas``
and the tests. An event is published at least once, always with the same ``id``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from headgate.request import RolloutRequest
from headgate.signals import RolloutSignal
from headgate.strategy import Step
from headgate.verdict import Kind, Outcome
from headgate.wire import Wire

Timestamp = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
"""UTC, ISO 8601, milliseconds."""

Weight = Annotated[float, Field(gt=0, le=100)]
"""Percent of traffic to the candidate."""

Count = Annotated[int, Field(ge=0)]


class Announcement(Wire):
    """What every event says."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Made of what the event is about: a receiver that has seen it may drop the event."""
    rollout_id: str
    at: Timestamp


class Arm(Wire):
    """What one revision did: requests begun, and how many of them failed."""

    requests: Count
    failures: Count


class BakeEvidence(Wire):
    """What a bake was judged by."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    candidate: Arm
    """Counts of this step."""
    stable: Arm
    candidate_total: Arm
    """Counts of the whole rollout."""
    stable_total: Arm
    value: Annotated[float, Field(ge=0)]
    """The evidence against the candidate: starts at 1, and rolls back at 1/alpha."""
    alarms: list[str]
    """Alarms that fire and have started to since the rollout did."""


class RolloutRefused(Announcement):
    """The request cannot be carried out; nothing was touched."""

    target: str | None = None
    """Missing where the request names none that can be read."""
    reason: str


class RolloutStarted(Announcement):
    """The rollout holds its target's lock, and its plan is fixed."""

    target: str
    steps: list[Step]
    bake_seconds: Count
    """The time that all bakes take together when nothing cuts them short."""
    firing: list[str]
    """Alarms that fire already: they count only after they have recovered once."""


class StepStarted(Announcement):
    """The step's weight is in force, and its bake begins."""

    target: str
    step: Count
    weight: Weight
    bake: Count
    """How many bakes of this step came before this one."""


class StepBaked(StepStarted):
    """The bake is over, with the evidence that it gathered."""

    ended_by: Kind | Literal["time"]
    """The signal that ended it, or ``time`` where it ran its course."""
    evidence: BakeEvidence


class VerdictReached(Announcement):
    """What the evidence, alarms and signals of a bake come to."""

    step: Count
    verdict: Outcome
    reason: str
    evidence: BakeEvidence


class RolloutEnded(Announcement):
    """How a rollout ended: what all its endings say."""

    target: str
    reason: str
    """Why it ended so, in one sentence; empty where nothing was judged."""
    stable: str | None = None
    """The revision that served when the rollout began."""
    candidate: str | None = None


class RolloutSucceeded(RolloutEnded):
    """The target serves the candidate alone."""

    serving: str | None = None
    """The revision that receives all traffic now."""


class RolloutRolledBack(RolloutEnded):
    """The target serves the stable revision alone."""

    serving: str | None = None
    """The revision that receives all traffic now."""


class RolloutStopped(RolloutEnded):
    """The target is left as it was found; a person has to look."""


EVENTS: dict[str, type[Wire]] = {
    "Rollout Requested": RolloutRequest,
    "Rollout Signal": RolloutSignal,
    "Rollout Refused": RolloutRefused,
    "Rollout Started": RolloutStarted,
    "Step Started": StepStarted,
    "Step Baked": StepBaked,
    "Verdict Reached": VerdictReached,
    "Rollout Succeeded": RolloutSucceeded,
    "Rollout Rolled Back": RolloutRolledBack,
    "Rollout Stopped": RolloutStopped,
}
"""The model of each detail-type: two that come in, then those that go out."""
