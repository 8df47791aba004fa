"""Views of rollouts, ECS tasks and redrives: what a person asks, read from the items of the table.

Command line, page, report and notifications show these views and nothing else. Times are UTC in ISO 8601 with
milliseconds, as in the records; a missing one has not happened. Weights are percent of the traffic for the candidate.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from headgate.analysis.verdict import VerdictOutcome
from headgate.rollouts.record import Status
from headgate.spec.guards import GuardAction
from headgate.spec.signals import Phase
from headgate.spec.target_state import Redriven
from headgate.wire import MAX_EXACT_INTEGER, Wire


def _check_date(text: str) -> str:
    """Refuse what looks like a time and is none, such as the 31st of November."""
    datetime.fromisoformat(text)
    return text


Timestamp = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"),
    AfterValidator(_check_date),
]

ShownStatus = Status | Literal["unknown"]

Count = Annotated[int, Field(ge=0, le=MAX_EXACT_INTEGER)]

Percent = Annotated[float, Field(ge=0, le=100)]


class View(Wire):
    """Base of every view."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Counts(View):
    """Counts of one revision."""

    requests: Count = 0
    """Requests."""
    failures: Count = 0
    """Failures among them; for latency, the slow ones."""


class WeightChange(View):
    """A weight that the target got."""

    at: Timestamp
    """Since when."""
    weight: Percent
    """The weight."""
    why: Literal["start", "step", "pause", "promotion", "rollback"]
    """What set it. ``start`` is the beginning of the rollout, with a weight of 0."""
    step: int | None = None
    """The step, if one set it."""


class Comparison(View):
    """The comparison of both revisions on one measure in one step or rollout."""

    measure: str
    """``errors``, ``latency``, or ``custom`` and a number."""
    label: str
    """The measure in words: ``errors``, ``requests over 250 ms``, or the name of the custom guard. Of several
    thresholds, that with the most evidence."""
    candidate: Counts
    """Counts of the candidate."""
    stable: Counts
    """Counts of the stable revision."""
    value: Annotated[float, Field(ge=0)] | None = None
    """The evidence against the candidate. It starts at 1."""
    limit: Annotated[float, Field(gt=1)]
    """The evidence with which this guard acts on its own: 1/alpha, alpha shared by the guards that act."""
    action: GuardAction = "rollback"
    """What the guard does when it has enough evidence."""


class GroupEvidence(View):
    """The evidence of all guards with the same action: the average over them."""

    action: Literal["rollback", "pause"]
    """What they do."""
    value: Annotated[float, Field(ge=0)]
    """Their evidence."""
    limit: Annotated[float, Field(gt=1)]
    """The evidence at which they act."""


class ShareMismatch(View):
    """A share of the requests that cannot be by chance what the weight says."""

    weight: Percent
    """The weight."""
    candidate: Count
    """Requests of the candidate in the step."""
    stable: Count
    """Requests of the stable revision."""
    value: Annotated[float, Field(ge=0)]
    """The evidence that it is not chance."""


class ThresholdLook(View):
    """One look at one of several latency thresholds."""

    measure: str
    """``latency0`` for the lowest threshold, and so on."""
    candidate: Counts
    """Counts since the look before. The failures are the requests over this threshold."""
    stable: Counts
    """Counts since the look before."""
    value: Annotated[float, Field(ge=0)]
    """The evidence at this threshold."""


class EvidencePoint(View):
    """The evidence after one look with failures, and the counts of that look."""

    at: Timestamp
    """Time of the look."""
    measure: str
    """The measure."""
    step: int
    """The step."""
    candidate: Counts
    """Counts since the look before."""
    stable: Counts
    """Counts since the look before."""
    value: Annotated[float, Field(ge=0)]
    """The evidence."""
    thresholds: list[ThresholdLook] = []
    """The look at each threshold, where several are averaged. The counts above are those of one of them."""


class BakeView(View):
    """One bake of one step, and the verdict on it."""

    step: int
    """The step."""
    bake: int
    """How many bakes of this step came before."""
    weight: Percent
    """The weight."""
    started_at: Timestamp
    """Its begin."""
    until: Timestamp | None = None
    """When it ends if no signal ends it early. Missing if that is not known."""
    ended_at: Timestamp | None = None
    """Its end."""
    verdict: VerdictOutcome | None = None
    """The verdict; missing while it lasts."""
    reason: str = ""
    """The verdict in a sentence."""
    comparisons: list[Comparison] = []
    """Counts of this bake's step as the judge saw them. Missing while it lasts."""
    groups: list[GroupEvidence] = []
    """The evidence by action, if several guards act."""
    share: ShareMismatch | None = None
    """The share of the requests, if it is not what the weight says."""
    alarms: list[str] = []
    """Alarms that counted."""


class PauseView(View):
    """A pause."""

    reason: str
    """Why it paused."""
    step: int
    """The step with which it goes on; one past the last if only the promotion is left."""
    started_at: Timestamp
    """Its begin."""
    until: Timestamp
    """Its limit."""
    then: Literal["rollback", "promote"]
    """What happens at the limit."""
    ended_at: Timestamp | None = None
    """Its end."""
    verdict: VerdictOutcome | None = None
    """What was decided."""
    verdict_reason: str = ""
    """Why."""


class StepView(View):
    """A step of the plan and what became of it."""

    step: int
    """Its number, from 0."""
    weight: Percent
    """The weight."""
    bake_seconds: Count
    """Planned duration of its bake."""
    status: Literal["ahead", "now", "done", "failed", "skipped"]
    """``skipped`` if the rollout ended before it."""
    bakes: list[BakeView] = []
    """Its bakes, oldest first."""
    comparisons: list[Comparison] = []
    """All counts of the step, late ones included."""


class HookView(View):
    """The hooks of one stage, as they were asked once. Rollouts of version 0.1.0 have none on record."""

    stage: str
    """``beforeTraffic``, ``beforeStep``, ``afterStep``, ``afterTraffic`` or ``onRollback``."""
    step: int | None = None
    """The step, for hooks of a step."""
    hooks: list[str]
    """The functions, state machines and task definitions of the stage, in order. After one that failed, no other is
    asked."""
    started_at: Timestamp
    """When the first was asked."""
    ended_at: Timestamp | None = None
    """When the last answered."""
    outcome: Literal["running", "succeeded", "failed"]
    """What they said."""
    reason: str = ""
    """Why they failed."""
    execution: str = ""
    """ARN of the execution that asked them."""


class SignalView(View):
    """A signal, and what became of it."""

    id: str
    """Its id."""
    signal: str
    """The signal, as in the record; the word that was given if it was refused."""
    by: str = ""
    """Who or what sent it."""
    reason: str = ""
    """Why."""
    at: Timestamp
    """When it was recorded."""
    step: int | None = None
    """The step that was current."""
    outcome: Literal["pending", "handled", "refused", "repeated", "unused"]
    """``pending`` until a verdict has used it; ``unused`` if the rollout ended before."""
    why: str = ""
    """Why it was refused or not used, or what it repeats."""


class LineView(View):
    """The place of a request that waits for its target."""

    place: Annotated[int, Field(ge=1)]
    """Its place in line, from 1."""
    behind: str
    """Id of the rollout that holds the target."""
    until: Timestamp | None = None
    """When it is refused if its turn has not come. Missing in records of version 0.1.0."""


class WaitView(View):
    """What the driver waits for."""

    reason: str
    """What it waits for."""
    since: Timestamp
    """Since when."""
    until: Timestamp | None = None
    """Its limit, if it has one."""


class ServiceStateView(View):
    """What a rollout of an ECS service has found and made there. One that was stopped may have left some of it."""

    green: str
    """Name of the second service, or external ID of the candidate's task set."""
    stable: str = ""
    """The revision that served when it began."""
    candidate: str = ""
    """The revision that it rolled out. Empty if it was not registered yet."""
    scale_in_held: bool = False
    """Whether it may have suspended scale-in of the service, which was not suspended before."""
    test_rules: dict[str, dict[str, int]] = {}
    """By the ARN of each test rule that it may have changed: the weight of each target group before."""


class WatchView(View):
    """The watch of a rollout after its promotion."""

    until: Timestamp
    """How long it lasts at most."""
    then: Literal["undo", "report"]
    """What happens at a fault."""
    outcome: Literal["quiet", "fault", "undo-requested", "superseded", "stopped"] | None = None
    """How it ended; missing while it lasts."""
    reason: str = ""
    """Why it ended."""
    ended_at: Timestamp | None = None
    """When it ended."""
    undo: str = ""
    """The undo that was requested."""


class TrailEntry(View):
    """An event that was announced."""

    at: Timestamp
    """When."""
    detail_type: str
    """Its detail-type, such as ``Step Started``."""
    detail: dict[str, Any]
    """Its detail."""


class RolloutSummary(View):
    """One line of a list of rollouts. All of it comes from the index."""

    id: str
    """The rollout's id."""
    status: ShownStatus
    """``waiting`` (in line), ``accepted`` (about to begin), ``running``, ``paused``, or how it ended; ``unknown`` if
    another version of Headgate wrote a status that this version does not know."""
    target: str
    """Key of the target, such as ``lambda-alias/checkout/live``. Empty if the request was not readable."""
    stable: str = ""
    """The revision that served when it began."""
    candidate: str = ""
    """The revision that is rolled out."""
    created_at: Timestamp | None = None
    """When it was requested."""
    started_at: Timestamp | None = None
    """When it began."""
    ended_at: Timestamp | None = None
    """When it ended."""
    reason: str = ""
    """Why it ended so."""
    undone_by: str = ""
    """The rollout that undid it."""
    undo_of: str = ""
    """The rollout that this one undoes."""
    unknown_status: str = ""
    """The status on record, if another version of Headgate wrote one that this version does not know."""


class RolloutView(RolloutSummary):
    """A rollout as its record tells it."""

    headline: str
    """What it does now or how it ended, in a sentence."""
    execution: str = ""
    """ARN of its execution."""
    accepted_at: Timestamp | None = None
    """When a request that waited got its target."""
    phase: Phase | None = None
    """What a running one does."""
    step: int = 0
    """The current step."""
    weight: Percent = 0
    """The candidate's weight now."""
    serving: str = ""
    """The revision that serves after the end."""
    line: LineView | None = None
    """Its place in line, while it waits."""
    bake: BakeView | None = None
    """The bake that lasts."""
    pause: PauseView | None = None
    """The pause that lasts."""
    waits_for: WaitView | None = None
    """What its driver waits for."""
    steps: list[StepView] = []
    """The steps of its plan."""
    weights: list[WeightChange] = []
    """The weights over time."""
    comparisons: list[Comparison] = []
    """Counts and evidence of the whole rollout, one for each guard that compares."""
    groups: list[GroupEvidence] = []
    """The evidence by action, if several guards act."""
    evidence: list[EvidencePoint] = []
    """Every look with failures, oldest first."""
    hooks: list[HookView] = []
    """The hooks that were asked, oldest first."""
    pauses: list[PauseView] = []
    """Its pauses, oldest first."""
    alarms: list[str] = []
    """The alarms that guard it."""
    firing_at_start: list[str] = []
    """Those that were in ALARM when it was planned."""
    signals: list[SignalView] = []
    """Signals of operators, alarms and the judge, oldest first."""
    events: list[TrailEntry] = []
    """What was announced, oldest first."""
    redriven: Redriven | None = None
    """For a consumer: the messages that failed during the rollout and where they went."""
    holding_queue: str = ""
    """For a consumer: the rollout's own queue, while it holds failed messages."""
    state: ServiceStateView | None = None
    """For an ECS service: what it has made and changed there, once it has begun."""
    watch: WatchView | None = None
    """The watch after the promotion, if ``afterPromotion`` asked for one."""
    warnings: list[str] = []
    """Warnings of the plan and of the wait."""
    notes: list[str] = []
    """What was found and chosen when it was planned, such as the way of an ECS service and why."""
    request: dict[str, Any] = {}
    """The request, as it was admitted."""
    plan: dict[str, Any] = {}
    """The plan."""

    @property
    def has_ended(self) -> bool:
        """True if it has ended, with any outcome."""
        return self.status in ("succeeded", "rolled-back", "refused", "stopped")


class Explanation(View):
    """Why a rollout ended, or what it waits for."""

    id: str
    """The rollout's id."""
    status: ShownStatus
    """As in its view."""
    headline: str
    """What it does now or how it ended, in a sentence."""
    sentences: list[str]
    """The explanation, the most important first."""


class RolloutPage(View):
    """A page of rollouts, newest first."""

    rollouts: list[RolloutSummary]
    """The rollouts."""
    next: str | None = None
    """Where the next page begins; missing on the last one."""


class JobSummary(View):
    """One line of a list of ECS tasks or redrives."""

    kind: Literal["task", "redrive"]
    """What it is."""
    id: str
    """Its id; of a job that was started without an event, the name of its execution."""
    status: Literal["requested", "refused", "running", "succeeded", "failed", "stopped", "unknown"]
    """``requested`` until its execution is started; ``unknown`` if Step Functions has forgotten the execution."""
    subject: str = ""
    """The task definition or the source queue."""
    created_at: Timestamp
    """When it was requested."""
    started_at: Timestamp | None = None
    """When its execution was started."""
    ended_at: Timestamp | None = None
    """When it ended."""
    execution: str = ""
    """ARN of its execution."""
    reason: str = ""
    """Why it was refused, failed or was stopped."""


class JobView(JobSummary):
    """An ECS task or a redrive."""

    request: dict[str, Any] = {}
    """The request, as it was given."""
    result: dict[str, Any] = {}
    """The result that its execution ended with; the error and its cause if it has none."""


class JobPage(View):
    """A page of ECS tasks or redrives, newest first."""

    jobs: list[JobSummary]
    """The jobs."""
    next: str | None = None
    """Where the next page begins; missing on the last one."""


class DeploymentFigures(View):
    """The figures that people report about deployments, over one period."""

    since: Timestamp
    """Begin of the period."""
    until: Timestamp
    """End of the period."""
    rollouts: Count
    """Rollouts that moved traffic and ended in it, undos left out."""
    outcomes: dict[str, Count]
    """Rollouts that ended in it, by outcome, refused ones and undos included."""
    promoted: Count
    """Promotions, undos left out."""
    failed: Count
    """Promotions that are undone, and rollouts that were rolled back or stopped. One whose undo was undone itself does
    not count."""
    promotions_per_day: float
    """Deployment frequency."""
    change_failure_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Failed rollouts by all rollouts; missing without any."""
    seconds_to_restore: float | None = None
    """Median time from the start of a failed rollout until the earlier revision served alone again."""
    lead_seconds: float | None = None
    """Median time from the request of a promoted rollout to its promotion."""
