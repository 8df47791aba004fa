"""Models of the events on Headgate's bus, by detail-type.

The functions do not import this module. It serves the receivers of events, the JSON Schemas in ``docs/schemas`` and the
tests. An event is published at least once, always with the same ``id``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from headgate.analysis.verdict import VerdictOutcome
from headgate.ecs_tasks.outcome import ContainerEnd
from headgate.ecs_tasks.outcome import TaskOutcome as TaskOutcome
from headgate.ecs_tasks.request import TaskRequest
from headgate.redrive.plan import RedriveOutcome as RedriveOutcome
from headgate.redrive.plan import StreamConsumer, Way
from headgate.redrive.request import RedriveRequest
from headgate.rollouts.after_promotion import WatchOutcome
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
    """Fields of every event."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    rollout_id: str
    """The rollout's id."""
    at: Timestamp
    """Time of the event."""


class RevisionCounts(Wire):
    """Counts of one revision."""

    requests: WholeNumber
    """Requests that began in this step or rollout."""
    failures: WholeNumber
    """Failures among these requests."""


class MeasureCounts(Wire):
    """Comparison of the revisions on one measure."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    measure: Annotated[str, Field(pattern=r"^(errors|latency|custom[0-9]+)$")]
    """What a guard compares: errors, latency, or the n-th custom guard."""
    candidate: RevisionCounts
    """Counts of this step."""
    stable: RevisionCounts
    """Counts of this step."""
    candidate_total: RevisionCounts
    """Counts of the whole rollout."""
    stable_total: RevisionCounts
    """Counts of the whole rollout."""
    value: Annotated[float, Field(ge=0)]
    """The evidence against the candidate. It starts at 1."""
    limit: Annotated[float, Field(gt=1)] | None = None
    """The evidence with which this guard acts on its own: 1/alpha, alpha shared by the guards that act. Missing in
    events of earlier versions."""
    action: Literal["pause", "report"] | None = None
    """What the guard does at its limit, if it does not roll back."""
    threshold_ms: Annotated[float, Field(gt=0)] | None = None
    """The threshold with the most evidence, whose counts these are. Missing unless a guard has several."""


class GroupEvidence(Wire):
    """The evidence of all guards with the same action: the average over them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    action: Literal["rollback", "pause"]
    """What they do."""
    value: Annotated[float, Field(ge=0)]
    """Their evidence."""
    limit: Annotated[float, Field(gt=1)]
    """The evidence at which they act."""


class ShareMismatch(Wire):
    """A share of the requests that cannot be by chance what the weight says."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    weight: WeightPercent
    """Percent of traffic that the candidate should have."""
    candidate: WholeNumber
    """Requests of the candidate in this step."""
    stable: WholeNumber
    """Requests of the stable revision in this step."""
    value: Annotated[float, Field(ge=0)]
    """The evidence that it is not chance."""
    mismatch: Literal[True]
    """Always true."""


class BakeEvidence(Wire):
    """Evidence of a bake."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    measures: list[MeasureCounts]
    """One for each guard that compares; empty before traffic was shifted."""
    alarms: list[str]
    """Alarms that went to ALARM since the rollout started and still are."""
    groups: list[GroupEvidence] | None = None
    """Missing unless several guards act."""
    share: ShareMismatch | None = None
    """Missing unless the candidate's share of the requests is not what the weight says."""


class RolloutRefused(PublishedEvent):
    """The request cannot be carried out. No traffic moved."""

    target: str | None = None
    """Missing if the target in the request is not valid."""
    reason: str
    """Field, value and fix. A second sentence follows if rejected code is still in ``$LATEST``."""
    stable: str | None = None
    """The revision that serves. Missing if the target was not read."""
    candidate: str | None = None
    """The requested revision, if it is known."""
    undo_of: RolloutId | None = None
    """The rollout to undo, if this was an undo."""


class RolloutWaiting(PublishedEvent):
    """The target is busy, and the request waits in line for its turn."""

    target: str
    """Key of the target."""
    behind: RolloutId
    """The rollout that the target has now."""
    place: Annotated[int, Field(ge=1)]
    """Place in line, from 1."""
    limit_seconds: Annotated[int, Field(ge=1)]
    """How long it waits at most. Then it is refused."""
    warnings: list[str] | None = None
    """What may be different when its turn comes, with the fix. Missing if there is nothing."""


class RolloutStarted(PublishedEvent):
    """The rollout holds the lock of its target, and its plan is fixed."""

    target: str
    """Key of the target, such as ``lambda-alias/checkout/live``."""
    steps: list[Step]
    """The plan: each weight and how long it bakes."""
    bake_seconds: WholeNumber
    """Sum of all bakes if no signal ends one early."""
    firing: list[str]
    """Guard alarms that are in ALARM already. They count once they have recovered."""
    warnings: list[str] | None = None
    """What may undo the rollout or leaves it without a guard, each with the fix. Missing if there are none."""


class StepStarted(PublishedEvent):
    """The weight of the step is in effect, and its bake begins."""

    target: str
    """Key of the target."""
    step: WholeNumber
    """Index of the step, from 0."""
    weight: WeightPercent
    """Percent of traffic for the candidate."""
    bake: WholeNumber
    """How many bakes of this step came before this one."""


class StepBaked(StepStarted):
    """The bake is over. The event has its evidence."""

    ended_by: SignalKind | Literal["time"]
    """The signal that ended the bake, or ``time`` if its time was up."""
    evidence: BakeEvidence
    """Evidence of the bake."""


class RolloutPaused(PublishedEvent):
    """The rollout waits for an operator: a signal requested it, a guard with the action ``pause`` has enough evidence,
    or a check failed and the request has ``onFailure`` ``pause``."""

    target: str
    """Key of the target."""
    step: WholeNumber
    """The step with which a resumed rollout continues; one past the last if only the promotion is left."""
    reason: str
    """Why it paused."""
    limit_seconds: Annotated[int, Field(ge=1)]
    """How long it waits."""
    then: Literal["rollback", "promote"]
    """What happens if no signal arrives in time."""


class VerdictReached(PublishedEvent):
    """The verdict on a bake, from evidence, alarms and signals, or on a pause."""

    target: str
    """Key of the target."""
    step: WholeNumber
    """The step that was judged; after a pause, the one with which the rollout continues."""
    weight: WeightPercent | None = None
    """Percent of traffic for the candidate. Missing at the end of a pause, as are ``bake`` and ``evidence``."""
    bake: WholeNumber | None = None
    """How many bakes of this step came before this one."""
    verdict: VerdictOutcome
    """The verdict."""
    reason: str
    """The verdict in one sentence."""
    evidence: BakeEvidence | None = None
    """Evidence of the bake."""


class RolloutEnded(PublishedEvent):
    """Fields that all ends of a rollout share."""

    target: str
    """Key of the target."""
    reason: str
    """Why it ended this way, in one sentence. A second one follows if rejected code is
    still in ``$LATEST``."""
    stable: str | None = None
    """The revision that served when the rollout began."""
    candidate: str | None = None
    """The revision that was rolled out."""
    undo_of: RolloutId | None = None
    """The rollout that this one undoes, if it is an undo."""
    redriven: Redriven | None = None
    """For a consumer: the messages that failed during the rollout and where they went."""


class RolloutSucceeded(RolloutEnded):
    """The target serves the candidate alone."""

    serving: str | None = None
    """The revision that receives all traffic now."""


class RolloutRolledBack(RolloutEnded):
    """The target serves the stable revision alone."""

    serving: str | None = None
    """The revision that receives all traffic now."""


class RolloutStopped(RolloutEnded):
    """Headgate could neither promote nor roll back, and overwrote nothing that others set. An operator has to act."""


class RolloutUndone(RolloutEnded):
    """An undo is done: the target serves the earlier stable revision alone."""

    undo_of: RolloutId
    """The rollout that was undone."""
    serving: str | None = None
    """The revision that receives all traffic now."""


class WatchEnded(PublishedEvent):
    """The watch after a promotion, which ``afterPromotion`` asked for, is over."""

    target: str
    """Key of the target."""
    outcome: WatchOutcome
    """``quiet``: its time is up, and nothing spoke against the promoted revision. ``fault``: something did.
    ``undo-requested``: something did, and the undo of the rollout is requested. ``superseded``: something else was
    promoted, or the rollout was undone. ``stopped``: an operator ended it."""
    reason: str
    """Why it ended, in one sentence."""
    undo: RolloutId | None = None
    """Id of the undo that was requested. Missing if none was."""


class SignalRefused(Wire):
    """An operator's signal changes nothing: it cannot be read, or does not apply to its rollout now."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    rollout_id: str | None = None
    """The rollout's id. Missing if the signal names no valid one."""
    at: Timestamp
    """Time of the event."""
    signal_id: str
    """The signal's own id, else the id of its event."""
    signal: str | None = None
    """The signal as it was given. Missing if it is no text."""
    by: str | None = None
    """Who sent it, if the signal says so."""
    reason: str
    """Field, value and fix."""


class TaskRefused(Wire):
    """A Task Requested event was refused. It starts nothing; a task that already has its id goes on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    task_id: str
    """The request's own id if it has a valid one, else ``eventId``."""
    at: Timestamp
    """Time of the event."""
    event_id: str
    """Id of the event that was refused, else that of its message."""
    task_definition: str | None = None
    """The task definition as the request names it. Missing if it names none."""
    reason: str
    """Field, value and fix."""


class TaskAttempt(Wire):
    """Result of one attempt of one ECS task."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: Annotated[int, Field(ge=1)]
    """Number of the task within the count, from 1."""
    attempt: Annotated[int, Field(ge=1)]
    """Number of the attempt, from 1."""
    on_demand: bool
    """Whether the attempt ran on ``FARGATE`` as the fallback of ``FARGATE_SPOT``."""
    outcome: TaskOutcome
    """How the attempt ended."""
    reason: str
    """Explanation in one sentence."""
    stop_code: str = ""
    """Stop code of ECS."""
    status_reason: str = ""
    """Stopped reason of ECS."""
    task_arn: str = ""
    """ARN of the task."""
    capacity_provider: str = ""
    """Capacity provider that ran the task."""
    run_seconds: float | None = None
    """From the start of the containers until the task had stopped."""
    start_seconds: float | None = None
    """From RunTask until the containers started."""
    exit_codes: dict[str, int]
    """Exit code of each container that has one. Where many tasks must fit into one event, of those that failed."""
    containers: list[ContainerEnd] | None = None
    """How each container ended. Missing if another attempt followed, or where many tasks must fit into one event."""
    next: str
    """Why the task was or was not run again."""


class TaskLog(Wire):
    """The end of a container's log."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    container: str
    """Name of the container."""
    link: str
    """Link to the log stream in the console. Empty if the names in it are so long that it would not fit."""
    lines: list[str]
    """The last lines: ten of at most 200 bytes, fewer where many tasks must fit into one event."""
    unreadable: str | None = None
    """Error if the log could not be read."""


class TaskRun(Wire):
    """Result of one task."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: Annotated[int, Field(ge=1)]
    """Number of the task within the count, from 1."""
    outcome: TaskOutcome
    """How the task ended."""
    error: str
    """Error name with which the execution fails. Empty if the task succeeded."""
    reason: str
    """Explanation in one sentence."""
    exit_codes: dict[str, int]
    """Exit code of each container that has one."""
    attempts: list[TaskAttempt]
    """Every attempt."""
    throttled: WholeNumber = 0
    """How often ECS throttled the start of the task. These starts do not count as attempts."""
    logs: list[TaskLog]
    """Logs of the failed containers, at most three."""


class TaskEnded(Wire):
    """An ECS task, or all tasks of a count, ended and will not run again."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    task_id: str
    """Id of the request."""
    at: Timestamp
    """Time of the event."""
    execution: str
    """ARN of the execution."""
    outcome: TaskOutcome | Literal["refused"]
    """``succeeded`` if every task succeeded; otherwise the outcome of the first task that did not."""
    error: str
    """Error name with which the execution fails. Empty if it succeeds."""
    reason: str
    """Explanation in one sentence."""
    task_definition: str | None = None
    """ARN of the revision that ran. Missing if the request was refused."""
    count: WholeNumber
    """How many tasks were requested."""
    succeeded: WholeNumber
    """How many tasks succeeded."""
    tasks: list[TaskRun]
    """Result of each task."""


class RedriveRefused(Wire):
    """A Redrive Requested event was refused. It starts nothing; a redrive that already has its id goes on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    redrive_id: str
    """The request's own id if it has a valid one, else ``eventId``."""
    at: Timestamp
    """Time of the event."""
    event_id: str
    """Id of the event that was refused, else that of its message."""
    queue: str | None = None
    """The source queue as the request names it. Missing if it names none."""
    reason: str
    """Field, value and fix."""


class RedriveReport(Wire):
    """Report of a dry run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    visible: WholeNumber
    """Messages that can be received, approximately."""
    in_flight: WholeNumber
    """Messages in flight, approximately."""
    delayed: WholeNumber
    """Delayed messages, approximately."""
    oldest_seconds: WholeNumber
    """Age of the oldest message that was looked at, of at most ten."""
    reasons: dict[str, WholeNumber]
    """Count of each reason among the messages that were looked at. Messages without a reason count under the empty
    text."""
    warnings: list[str]
    """Possible problems."""
    consumers: list[StreamConsumer] | None = None
    """Only for batches of streams: the mappings that they come from. No other stream is read, and without
    ``to.function`` no other function gets its records."""


class RedriveEnded(Wire):
    """A redrive or dry run ended."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    redrive_id: str
    """Id of the request."""
    at: Timestamp
    """Time of the event."""
    execution: str
    """ARN of the execution."""
    outcome: RedriveOutcome
    """How the redrive ended."""
    queue: str | None = None
    """ARN of the source queue. Missing if the request was refused, as are ``way`` and ``why``."""
    way: Way | None = None
    """How messages were moved."""
    why: str | None = None
    """Why this way was chosen."""
    moved: WholeNumber
    """Messages that were moved, or whose batch the function processed."""
    skipped: WholeNumber
    """Messages that the filter did not match."""
    failed: WholeNumber
    """Messages that could not be moved and are still in the queue."""
    returned: WholeNumber
    """Messages that arrived in the queue after the redrive began."""
    remaining: WholeNumber
    """Messages in the queue at the end, approximately."""
    records: WholeNumber
    """Stream records that the function processed."""
    expired: WholeNumber
    """Stream records that the stream no longer holds."""
    seconds: WholeNumber
    """Duration in seconds."""
    reason: str
    """Why it ended this way."""
    report: RedriveReport | None = None
    """Only for a dry run."""


class Notification(Wire):
    """Somebody is told of an event: an end, a pause or a refusal. Only if a chat is set up, with a message for it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Derived from the content: drop an event whose id you have seen."""
    at: Timestamp
    """Time of the event."""
    about: str
    """The detail-type of the event that somebody is told of."""
    kind: Literal["rollout", "signal", "task", "redrive", "execution"]
    """What it is about; ``execution`` for one of Headgate's own that failed."""
    outcome: Literal["succeeded", "rolled-back", "undone", "stopped", "paused", "refused", "failed", "fault"]
    """How it ended, or that it is paused."""
    target: str
    """Key of the target; for others ``task/<family>``, ``redrive/<queue>`` or ``execution/<machine>``. Empty if it is
    not known."""
    reference: str
    """Id of the rollout, task or redrive, or name of the execution. Empty if it is not known."""
    title: str
    """Outcome and target."""
    slack: dict[str, Any] | None = None
    """Body for Slack's chat.postMessage. Missing without ``SlackChannel``."""
    teams: dict[str, Any] | None = None
    """Body for a Teams workflow: a message with an Adaptive Card. Missing without ``TeamsUrl``."""
    amazon_q: dict[str, Any] | None = None
    """A custom notification of Amazon Q Developer in chat applications. Missing without ``AmazonQTopic``."""


EVENTS: dict[str, type[Wire]] = {
    "Rollout Requested": RolloutRequest,
    "Rollout Signal": RolloutSignal,
    "Undo Requested": UndoRequest,
    "Rollout Waiting": RolloutWaiting,
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
    "Watch Ended": WatchEnded,
    "Signal Refused": SignalRefused,
    "Task Requested": TaskRequest,
    "Task Refused": TaskRefused,
    "Task Ended": TaskEnded,
    "Redrive Requested": RedriveRequest,
    "Redrive Refused": RedriveRefused,
    "Redrive Ended": RedriveEnded,
    "Notification": Notification,
}
"""The model of each detail-type. Rollouts come first: three incoming types, then the outgoing ones."""
