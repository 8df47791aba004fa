"""Models of a rollout request: the detail of a ``Rollout Requested`` event, and the input of an execution."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from headgate.errors import RequestRefused
from headgate.spec.candidate import Candidate, Publish, PublishLatest, ReviseTaskDefinition, TaskDefinitionRevision
from headgate.spec.guards import (
    MIN_CLOUDWATCH_MINUTES,
    OF_TARGET_GROUPS,
    Guards,
    ServiceGuard,
    SourceGuard,
    placeholders_in,
)
from headgate.spec.hooks import ONE_DAY, EcsTaskHook, Hooks
from headgate.spec.strategy import MAX_BAKE_SECONDS, Step, Strategy, steps_of
from headgate.spec.targets import EcsServiceTarget, Target
from headgate.wire import RolloutId, Wire, is_object, one_of, read

DEFAULT_STRATEGY = "Canary10Percent5Minutes"


class Pause(Wire):
    """Wait for an operator instead of rolling back at once."""

    at: Literal["current", "zero"] = "current"
    """``current``: stay at the weight of the failed step. ``zero``: first take all traffic off the candidate."""
    limit_seconds: Annotated[int, Field(strict=True, ge=1, le=MAX_BAKE_SECONDS)] = ONE_DAY
    """How long to wait for an operator."""
    then: Literal["rollback", "promote"] = "rollback"
    """What happens if no signal arrives in time."""


class PauseOnFailure(Wire):
    pause: Pause
    """Wait for an operator."""


OnFailure = Annotated[
    Annotated[Literal["rollback"], Tag("<word>")] | Annotated[PauseOnFailure, Tag("<pause>")],
    one_of(
        {"<word>": lambda value: value == "rollback", "<pause>": is_object(PauseOnFailure)},
        'give "rollback" or {"pause": {"at": "zero", "limitSeconds": 3600, "then": "rollback"}}',
    ),
]


GuardsOrNone = Annotated[
    Annotated[Literal["none"], Tag("<word>")] | Annotated[Guards, Tag("<guards>")],
    one_of(
        {"<word>": lambda value: value == "none", "<guards>": is_object(Guards)},
        'give an object such as {"errors": {}}, or "none" if nothing is to guard the rollout',
    ),
]


class Turn(Wire):
    """Wait in line until the target is free."""

    limit_seconds: Annotated[int, Field(strict=True, ge=1, le=MAX_BAKE_SECONDS)] = ONE_DAY
    """How long to wait, from the request on. Then the request is refused."""


class AfterPromotion(Wire):
    """Keep watching after the promotion. The rollout has ended by then, and its target is free."""

    hours: Annotated[float, Field(strict=True, gt=0, le=24 * 30, allow_inf_nan=False)]
    """How long to watch."""
    then: Literal["undo", "report"] = "report"
    """What happens at a fault. ``undo``: ask for the undo of this rollout, which is refused if something else was
    promoted since. ``report``: announce it."""


class WaitForTurn(Wire):
    wait: Turn
    """Wait in line."""


OnBusy = Annotated[
    Annotated[Literal["wait", "refuse"], Tag("<word>")] | Annotated[WaitForTurn, Tag("<wait>")],
    one_of(
        {"<word>": lambda value: isinstance(value, str), "<wait>": is_object(WaitForTurn)},
        'give "wait", "refuse" or {"wait": {"limitSeconds": 3600}}',
    ),
]


class RolloutRequest(Wire):
    """A request to roll out a candidate on a target."""

    id: RolloutId
    """Id of the rollout, which makes the request idempotent. Letters, digits and ``._:/@+=-``; the first is a letter or
    digit. A refused id cannot be reused: send the corrected request under a new id. Default: the id of the event, else
    of the message, else the name of the execution."""
    target: Target
    """What to roll out on."""
    # Created when needed: a model as a default would build its schema at import.
    candidate: Candidate = Field(default_factory=lambda: PublishLatest(publish=Publish()))
    """The revision to roll out."""
    strategy: Strategy = DEFAULT_STRATEGY
    """How traffic moves: the name of a preset, or an object."""
    guards: GuardsOrNone = Field(default_factory=Guards)
    """Guards that judge the candidate. Without one, errors are compared where the bakes allow it: by telemetry if the
    target sends it, otherwise by CloudWatch. ``none``: nothing guards the rollout."""
    hooks: Hooks = Field(default_factory=Hooks)
    """Your own checks at each stage."""
    on_failure: OnFailure = "rollback"
    """``rollback``, or ``{"pause": {...}}`` to wait for an operator first."""
    on_busy: OnBusy = "wait"
    """What happens if the target already has a rollout. ``wait``: wait in line for at most a day, and run after it.
    ``{"wait": {"limitSeconds": 3600}}``: wait for at most that time. ``refuse``: refuse the request. A request for an
    alias that a consumer's rollout moves, or for a consumer of an alias that another rollout moves, is always
    refused, as is one for an ECS service whose listener rules another service's rollout moves."""
    after_promotion: AfterPromotion | None = None
    """Keep the alarms and limits of ``guards`` counting for some hours after the promotion."""
    undo_of: RolloutId | None = None
    """Id of the rollout that this one undoes. Headgate sets it for an Undo Requested event."""

    @property
    def asked_guards(self) -> Guards:
        """The guards that the request names; none for ``none``."""
        return Guards() if self.guards == "none" else self.guards

    @property
    def publishes_latest(self) -> bool:
        """True if the candidate is whatever code ``$LATEST`` holds when the rollout begins."""
        return isinstance(self.candidate, PublishLatest) and self.candidate.publish.confirm is None

    @property
    def turn_limit_seconds(self) -> int:
        """How long the request waits in line for its turn; 0 if it does not wait."""
        match self.on_busy:
            case "refuse":
                return 0
            case "wait":
                return Turn().limit_seconds
        return self.on_busy.wait.limit_seconds


def read_request(detail: object, default_id: str) -> RolloutRequest:
    """Read a rollout request. Errors as for ``wire.read``, and if its fields contradict each other."""
    request = read(RolloutRequest, detail, default_id, needs="target")
    _refuse_guards_of_other_kinds(request)
    _refuse_candidates_of_other_kinds(request)
    if isinstance(request.target, EcsServiceTarget):
        # Imported only for services.
        from headgate.spec.service_requests import refuse_faulty_service_request

        refuse_faulty_service_request(request.target, request.candidate, steps_of(request.strategy))
    _refuse_chances_too_small(request)
    _refuse_bakes_too_short_for_cloudwatch(request)
    _refuse_deaf_watches(request)
    _refuse_tasks_that_cannot_be_read(request)
    return request


_GUARDED_KINDS = {"source": "event-source", "service": "ecs-service"}
"""Guards of a single kind of target."""


def _refuse_guards_of_other_kinds(request: RolloutRequest) -> None:
    for guard, kind in _GUARDED_KINDS.items():
        if getattr(request.asked_guards, guard) and request.target.kind != kind:
            raise RequestRefused(
                f"guards.{guard}: is only for targets of kind {kind}, not {request.target.kind}; remove it"
            )
    if request.asked_guards.on_share_mismatch == "pause" and request.target.kind == "event-source":
        raise RequestRefused(
            "guards.onShareMismatch: pause is not for targets of kind event-source, whose messages come in batches; "
            "remove it"
        )
    if request.target.kind == "ecs-service":
        return
    for number, custom in enumerate(request.asked_guards.custom):
        for field, query in custom.queries.items():
            if names := sorted(placeholders_in(query) & set(OF_TARGET_GROUPS)):
                raise RequestRefused(
                    f"guards.custom[{number}].{field}: {names[0]} is only for targets of kind ecs-service, not "
                    f"{request.target.kind}; use {{revision}}"
                )


def _refuse_candidates_of_other_kinds(request: RolloutRequest) -> None:
    candidate, kind = request.candidate, request.target.kind
    is_definition = isinstance(candidate, TaskDefinitionRevision | ReviseTaskDefinition)
    if is_definition == (kind == "ecs-service"):
        return
    given = next(field.alias or name for name, field in type(candidate).model_fields.items())
    if is_definition:
        raise RequestRefused(
            f'candidate.{given}: is only for targets of kind ecs-service, not {kind}; give {{"version": "7"}}, '
            '{"publish": {}} or {"code": {...}}'
        )
    fix = 'give {"taskDefinition": "shop:7"} or {"revise": {"images": {"app": "IMAGE_URI"}}}'
    if "candidate" not in request.model_fields_set:
        raise RequestRefused(f"candidate: is missing; a target of kind ecs-service needs one: {fix}")
    raise RequestRefused(f"candidate.{given}: is a candidate of Lambda functions, not of kind ecs-service; {fix}")


MIN_CHANCE = 1e-12
"""Minimum of alpha and beta. Reported evidence is at most ``MAX_REPORTED_EVIDENCE`` and must be able to reach
1 / alpha."""


def _refuse_chances_too_small(request: RolloutRequest) -> None:
    # Not checked in the model: a plan made before this limit must still work.
    early = request.asked_guards.promote_early
    for field, chance in (("alpha", request.asked_guards.alpha), ("promoteEarly.beta", early.beta if early else 1.0)):
        if chance < MIN_CHANCE:
            raise RequestRefused(f"guards.{field}: must be at least {MIN_CHANCE:g} (given {chance:g})")


def _refuse_bakes_too_short_for_cloudwatch(request: RolloutRequest) -> None:
    guards = request.asked_guards
    if not guards.count_by_minute:
        return
    counts = "CloudWatch counts" if guards.ask_cloudwatch else "functions count"
    for number, step in enumerate(steps_of(request.strategy)):
        if is_too_short_for_cloudwatch(step):
            otherwise = "remove the custom guards" if guards.custom else "set guards.evidence to telemetry"
            raise RequestRefused(
                f"strategy: steps[{number}] bakes for {step.bake_seconds} s, but {counts} whole minutes; "
                f"bake for at least {MIN_CLOUDWATCH_MINUTES * 60} s, or {otherwise}"
            )


def is_too_short_for_cloudwatch(step: Step) -> bool:
    """Return whether a step bakes, but not long enough for counts by the minute."""
    return step.weight < 100 and 0 < step.bake_seconds < MIN_CLOUDWATCH_MINUTES * 60


def _refuse_deaf_watches(request: RolloutRequest) -> None:
    """Refuse to watch where nothing can speak any more: what compares needs a second revision."""
    after, guards = request.after_promotion, request.asked_guards
    if after is None:
        return
    if request.undo_of and after.then == "undo":
        raise RequestRefused(
            f"afterPromotion.then: undo is not possible for the undo of {request.undo_of}: it would bring back what "
            'that took away; give "report"'
        )
    if guards.alarms or any(limits.watched for limits in _limits_that_act(guards, after)):
        return
    named = [name for name in ("errors", "latency", "custom", "source", "service") if getattr(guards, name)]
    why = f"guards.{named[0]} cannot" if len(named) == 1 else "none of guards can"
    raise RequestRefused(
        f"afterPromotion: nothing can speak after the promotion: {why} without a second revision; add guards.alarms, "
        "or a limit such as guards.source.oldestMessageSeconds or guards.service.unhealthyHosts, or remove it"
    )


def _limits_that_act(guards: Guards, after: AfterPromotion) -> list[SourceGuard | ServiceGuard]:
    """Return the limits that count after the promotion. One that only reports never causes an undo."""
    limits = [guard for guard in (guards.source, guards.service) if guard is not None]
    return [guard for guard in limits if after.then == "report" or guard.action != "report"]


def _refuse_tasks_that_cannot_be_read(request: RolloutRequest) -> None:
    for stage, index, hook in request.hooks.by_place():
        if isinstance(hook, EcsTaskHook):
            # Imported only by the few requests with an ECS task as a hook.
            from headgate.ecs_tasks.request import read_task

            try:
                read_task(hook.ecs_task, default_id=request.id)
            except RequestRefused as error:
                raise RequestRefused(f"hooks.{stage}[{index}].ecsTask: {error}") from None
