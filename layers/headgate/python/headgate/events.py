"""What Headgate says on its bus: a model of the detail of every event, and which detail-type has which.

The functions do not import this module; it serves whoever receives the events, the JSON Schemas in ``docs/schemas``
and the tests. An event is published at least once, always with the same ``id``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from headgate.analysis.verdict import VerdictOutcome
from headgate.ecs_tasks.outcome import ContainerEnd
from headgate.ecs_tasks.outcome import TaskOutcome as TaskOutcome
from headgate.ecs_tasks.request import TaskRequest
from headgate.redrive.plan import RedriveOutcome as RedriveOutcome
from headgate.redrive.plan import Way
from headgate.redrive.request import RedriveRequest
from headgate.redrive.sampling import Sampled
from headgate.spec.request import RolloutRequest
from headgate.spec.signal_models import RolloutSignal
from headgate.spec.signals import SignalKind
from headgate.spec.strategy import Step
from headgate.spec.target_state import Redriven
from headgate.spec.undo import UndoRequest
from headgate.wire import RolloutId, Wire

Timestamp = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
"""UTC, ISO 8601, milliseconds."""

WeightPercent = Annotated[float, Field(gt=0, le=100)]
"""Percent of traffic to the candidate."""

WholeNumber = Annotated[int, Field(ge=0)]


class PublishedEvent(Wire):
    """What every event says."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Made of what the event is about: a receiver that has seen it may drop the event."""
    rollout_id: str
    at: Timestamp


class RevisionCounts(Wire):
    """What one revision did: requests begun, and how many of them failed."""

    requests: WholeNumber
    failures: WholeNumber


class MeasureCounts(Wire):
    """How the revisions compare on one measure."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    measure: Annotated[str, Field(pattern=r"^(errors|latency|custom[0-9]+)$")]
    """What a guard compares: errors, latency, or the n-th custom guard."""
    candidate: RevisionCounts
    """Counts of this step."""
    stable: RevisionCounts
    candidate_total: RevisionCounts
    """Counts of the whole rollout."""
    stable_total: RevisionCounts
    value: Annotated[float, Field(ge=0)]
    """The evidence against the candidate: starts at 1, and rolls back at 1/alpha, alpha shared by the measures."""


class BakeEvidence(Wire):
    """What a bake was judged by."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    measures: list[MeasureCounts]
    """One for each guard that compares; none before traffic was shifted."""
    alarms: list[str]
    """Alarms that fire and have started to since the rollout did."""


class RolloutRefused(PublishedEvent):
    """The request cannot be carried out; nothing was touched."""

    target: str | None = None
    """Missing where the request names none that can be read."""
    reason: str
    stable: str | None = None
    """The revision that serves; missing where the target was not looked at."""
    candidate: str | None = None
    undo_of: RolloutId | None = None
    """The rollout that this one should have taken back."""


class RolloutStarted(PublishedEvent):
    """The rollout holds its target's lock, and its plan is fixed."""

    target: str
    steps: list[Step]
    bake_seconds: WholeNumber
    """The time that all bakes take together when nothing cuts them short."""
    firing: list[str]
    """Alarms that fire already: they count only after they have recovered once."""
    warnings: list[str] | None = None
    """What may undo the rollout from outside, each with the fix; missing where nothing was found."""


class StepStarted(PublishedEvent):
    """The step's weight is in force, and its bake begins."""

    target: str
    step: WholeNumber
    weight: WeightPercent
    bake: WholeNumber
    """How many bakes of this step came before this one."""


class StepBaked(StepStarted):
    """The bake is over, with the evidence that it gathered."""

    ended_by: SignalKind | Literal["time"]
    """The signal that ended it, or ``time`` where it ran its course."""
    evidence: BakeEvidence


class RolloutPaused(PublishedEvent):
    """The rollout waits for an operator: somebody asked for it, or it has failed and the request wants it so."""

    target: str
    step: WholeNumber
    """The step that resuming goes on with; one past the last where only the promotion is left."""
    reason: str
    limit_seconds: Annotated[int, Field(ge=1)]
    """How long it waits."""
    then: Literal["rollback", "promote"]
    """What becomes of the rollout when nobody has said anything by then."""


class VerdictReached(PublishedEvent):
    """What the evidence, alarms and signals of a bake come to, or what ended a pause."""

    target: str
    step: WholeNumber
    """The step that was judged; after a pause, the one that the rollout goes on with."""
    weight: WeightPercent | None = None
    """Missing where a pause has ended, as are the next two."""
    bake: WholeNumber | None = None
    """How many bakes of this step came before this one."""
    verdict: VerdictOutcome
    reason: str
    evidence: BakeEvidence | None = None


class RolloutEnded(PublishedEvent):
    """How a rollout ended: what all its endings say."""

    target: str
    reason: str
    """Why it ended so, in one sentence; empty where nothing was judged."""
    stable: str | None = None
    """The revision that served when the rollout began."""
    candidate: str | None = None
    undo_of: RolloutId | None = None
    """The rollout that this one takes back, if it does."""
    redriven: Redriven | None = None
    """Of a consumer: what became of the messages that failed during the rollout."""


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


class RolloutUndone(RolloutEnded):
    """The target serves again, alone, what was stable before the rollout that was taken back."""

    undo_of: RolloutId
    """The rollout that was taken back."""
    serving: str | None = None
    """The revision that receives all traffic now."""


class TaskAttempt(Wire):
    """How one attempt of one ECS task ended."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: Annotated[int, Field(ge=1)]
    """Which of the tasks, from 1."""
    attempt: Annotated[int, Field(ge=1)]
    on_demand: bool
    """Whether it ran on FARGATE as the fallback of FARGATE_SPOT."""
    outcome: TaskOutcome
    reason: str
    stop_code: str = ""
    """ECS's, as the next field."""
    status_reason: str = ""
    task_arn: str = ""
    capacity_provider: str = ""
    run_seconds: float | None = None
    """From the start of the containers until the task had stopped."""
    start_seconds: float | None = None
    """From RunTask until the containers started."""
    exit_codes: dict[str, int]
    """Of each container that has one."""
    containers: list[ContainerEnd] | None = None
    """Missing where another attempt followed."""
    next: str
    """Why it was run again, or not."""


class TaskLog(Wire):
    """The end of a container's log."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    container: str
    link: str
    lines: list[str]
    unreadable: str | None = None
    """Why there are no lines, where they could not be read."""


class TaskRun(Wire):
    """How one of the tasks ended."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: Annotated[int, Field(ge=1)]
    outcome: TaskOutcome
    error: str
    """The name under which the execution fails for it; empty where it succeeded."""
    reason: str
    exit_codes: dict[str, int]
    attempts: list[TaskAttempt]
    logs: list[TaskLog]
    """Of the containers that did not end well, three at most."""


class TaskEnded(Wire):
    """An ECS task, or all of the count that was asked for, has ended for good. At least once, with the same ``id``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Made of what the event is about: a receiver that has seen it may drop the event."""
    task_id: str
    """The request's id."""
    at: Timestamp
    execution: str
    outcome: TaskOutcome | Literal["refused"]
    """succeeded only if every task did; otherwise how the first ended that did not."""
    error: str
    reason: str
    task_definition: str | None = None
    """The revision that was run; missing where the request was refused."""
    count: WholeNumber
    succeeded: WholeNumber
    """How many of the tasks succeeded."""
    tasks: list[TaskRun]


class RedriveReport(Wire):
    """What a dry run has found in the queue."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    visible: WholeNumber
    """SQS's approximation, as the next two."""
    in_flight: WholeNumber
    delayed: WholeNumber
    oldest_seconds: WholeNumber
    """Age of the oldest message that was looked at."""
    reasons: dict[str, WholeNumber]
    """How often each reason was there among the messages that were looked at; empty where they do not say."""
    sample: list[Sampled]
    warnings: list[str]


class RedriveEnded(Wire):
    """A redrive has ended, or a dry run has looked. At least once, with the same ``id``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Made of what the event is about: a receiver that has seen it may drop the event."""
    redrive_id: str
    """The request's id."""
    at: Timestamp
    execution: str
    outcome: RedriveOutcome
    queue: str | None = None
    """The ARN of the queue that it was from; missing where the request was refused, as are the next two."""
    way: Way | None = None
    why: str | None = None
    """Why this way."""
    moved: WholeNumber
    """Messages that are safely elsewhere, or whose batch the function has processed."""
    skipped: WholeNumber
    """Messages that the filter did not let through."""
    failed: WholeNumber
    """Messages that could not be moved and are still in the queue."""
    returned: WholeNumber
    """Messages that have come to the queue since the redrive began."""
    remaining: WholeNumber
    """Messages in the queue at the end, by SQS's approximation."""
    records: WholeNumber
    """Stream records that the function has processed."""
    expired: WholeNumber
    """Stream records that the stream does not hold any more."""
    seconds: WholeNumber
    reason: str
    report: RedriveReport | None = None
    """Only a dry run's."""


EVENTS: dict[str, type[Wire]] = {
    "Rollout Requested": RolloutRequest,
    "Rollout Signal": RolloutSignal,
    "Undo Requested": UndoRequest,
    "Rollout Refused": RolloutRefused,
    "Rollout Started": RolloutStarted,
    "Step Started": StepStarted,
    "Step Baked": StepBaked,
    "Rollout Paused": RolloutPaused,
    "Verdict Reached": VerdictReached,
    "Rollout Succeeded": RolloutSucceeded,
    "Rollout Rolled Back": RolloutRolledBack,
    "Rollout Stopped": RolloutStopped,
    "Rollout Undone": RolloutUndone,
    "Task Requested": TaskRequest,
    "Task Ended": TaskEnded,
    "Redrive Requested": RedriveRequest,
    "Redrive Ended": RedriveEnded,
}
"""The model of each detail-type: first those of rollouts, three that come in and then those that go out."""
