"""What a dry run finds: the view that ``headgate plan`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from headgate.analysis.evidence import JudgeTerms, group_limit
from headgate.history.model import Count, Percent, View
from headgate.history.wording import listed
from headgate.spec.guards import CountGuard
from headgate.spec.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.guards import Guards, ServiceGuard, SourceGuard


class PlannedStep(View):
    """A step of the plan."""

    step: Count
    """Its number, from 0."""
    starts_after_seconds: Count
    """When it starts at the earliest: seconds after the candidate got its first traffic. Hooks and pauses add to it."""
    weight: Percent
    """The candidate's weight."""
    bake_seconds: Count
    """How long it bakes if no signal ends it early."""


class PlannedCheck(View):
    """What guards the rollout."""

    what: str
    """What is checked, such as ``errors`` or ``requests over 250 ms``."""
    evidence: Literal["telemetry", "cloudwatch", "function", "alarm", "source", "service"]
    """Where the evidence comes from."""
    how_often: str
    """How often it is looked at."""
    rolls_back: str
    """What ends the rollout."""


class PlannedCatch(View):
    """About the least error rate of the candidate that the plan catches, from the target's past week."""

    rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the candidate's requests that fail. Missing if none is caught, or if it is not known."""
    failed_requests: Annotated[float, Field(ge=0)] | None = None
    """Failed requests of the candidate until then, about."""
    usual_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the target's requests that failed in the past week."""
    requests_per_second: Annotated[float, Field(ge=0)] | None = None
    """Mean over the past week."""
    unknown: str = ""
    """Why it is not known."""


class PlannedHook(View):
    """A hook."""

    stage: str
    """``beforeTraffic``, ``beforeStep``, ``afterStep``, ``afterTraffic`` or ``onRollback``."""
    kind: Literal["lambda", "codeDeployHook", "ecsLifecycleHook", "ecsTask", "stateMachine"]
    """What it is."""
    name: str
    """The function, task definition or state machine."""
    timeout_seconds: Count
    """Its time limit."""


class PlannedPause(View):
    """What happens when a check fails."""

    pauses: bool
    """Whether a failed bake or step hook pauses the rollout. Otherwise it is rolled back at once."""
    at: Literal["current", "zero"]
    """The weight during a pause."""
    limit_seconds: Count
    """How long any pause lasts at most."""
    then: Literal["rollback", "promote"]
    """What happens then."""


class PlanView(View):
    """What would become of a request now. Nothing was changed."""

    allowed: bool
    """Whether Headgate would accept the request."""
    refused: str = ""
    """Why not: field, value and fix."""
    id: str = ""
    """Id of the rollout, if the request gives one."""
    target: str = ""
    """Key of the target."""
    through: str = ""
    """Key of the alias that moves, if the target is a consumer."""
    mode: Literal["", "split", "ramp"] = ""
    """For a consumer: how traffic moves."""
    stable: str = ""
    """The revision that serves. Empty if the request would wait in line, because it may change meanwhile."""
    candidate: str = ""
    """The revision that is rolled out. Empty if it is still to be published."""
    candidate_from: str = ""
    """Where the candidate comes from, in words."""
    known: str = ""
    """Status of the rollout if the same request was sent before. To send it again starts nothing."""
    behind: str = ""
    """The rollout that has the target now, if there is one."""
    place: Annotated[int, Field(ge=1)] | None = None
    """Place in line that the request would get."""
    steps: list[PlannedStep] = []
    """The steps before the promotion."""
    bake_seconds: Count = 0
    """Sum of all bakes."""
    ready_seconds: Count = 0
    """How long the candidate may take to become ready."""
    checks: list[PlannedCheck] = []
    """What guards the rollout."""
    catches: PlannedCatch | None = None
    """About the least error rate that is caught. Missing if no guard acts on errors."""
    firing: list[str] = []
    """Alarms that fire already. They count once they have recovered."""
    hooks: list[PlannedHook] = []
    """Hooks in the order in which they are asked."""
    on_failure: PlannedPause | None = None
    """What happens when a check fails, and in a pause."""
    warnings: list[str] = []
    """What may undo the rollout or leaves it without a guard, each with the fix."""
    notes: list[str] = []
    """What was found and chosen, such as the way of an ECS service and why."""
    cost: dict[str, Any] | None = None
    """What the rollout costs, as ``headgate cost`` shows it."""
    request: dict[str, Any] = {}
    """The request with all its defaults."""


def view_of(told: dict[str, Any], region: str | None = None) -> PlanView:
    """Return the view of what the planner's dry run answered."""
    if "refused" in told:
        return PlanView(allowed=False, refused=told["refused"])
    known = {name: told[name] for name in ("stable", "candidate", "known", "behind", "place") if name in told}
    request = told["request"]
    if not told["plan"]:
        return PlanView(allowed=True, id=request["id"], request=request, **known)
    plan = Plan.model_validate(told["plan"])
    compares = any(step.bake_seconds and step.weight < 100 for step in plan.steps)
    return PlanView(
        allowed=True,
        **known,
        id=plan.rollout_id,
        target=plan.target.key,
        through=plan.through.key if plan.through else "",
        mode=getattr(plan.target, "mode", None) or "",
        candidate_from=_origin_of(request["candidate"]),
        steps=list(_steps_of(plan)),
        bake_seconds=plan.bake_seconds,
        ready_seconds=plan.ready_seconds,
        checks=list(_checks_of(plan.guards, compares=compares)),
        firing=plan.firing,
        hooks=list(_hooks_of(plan)),
        on_failure=PlannedPause(
            pauses=plan.pauses_on_failure,
            at=plan.pause.at,
            limit_seconds=plan.pause.limit_seconds,
            then=plan.pause.then,
        ),
        warnings=plan.warnings,
        notes=plan.notes,
        cost=_cost_of(told["plan"], region),
        request=request,
    )


def _origin_of(candidate: dict[str, Any]) -> str:
    match candidate:
        case {"version": version}:
            return f"version {version}"
        case {"publish": {"confirm": sha256}}:
            return f"$LATEST, if its CodeSha256 is {sha256}"
        case {"publish": _}:
            return "$LATEST, as it is when the rollout begins"
        case {"code": {"imageUri": image}}:
            return f"the image {image}"
        case {"code": {"s3Bucket": bucket, "s3Key": key}}:
            return f"s3://{bucket}/{key}"
        case {"taskDefinition": definition}:
            return f"task definition {str(definition).rpartition('/')[2]}"
        case {"revise": dict(changes)}:
            return f"the running task definition with {_revised(changes)}"
    return ""


def _revised(changes: dict[str, Any]) -> str:
    """Return what a revised task definition changes. Values of environment variables may be secret."""
    told = [f"the image {image} in {container}" for container, image in changes.get("images", {}).items()]
    told += [f"{listed(sorted(names))} in {container}" for container, names in changes.get("environment", {}).items()]
    told += [f"{name} {changes[name]}" for name in ("cpu", "memory") if changes.get(name)]
    return listed(told)


def _steps_of(plan: Plan) -> Iterator[PlannedStep]:
    starts = 0
    for number, step in enumerate(plan.steps):
        yield PlannedStep(step=number, starts_after_seconds=starts, weight=step.weight, bake_seconds=step.bake_seconds)
        starts += step.bake_seconds


def _checks_of(guards: Guards, *, compares: bool) -> Iterator[PlannedCheck]:
    terms = JudgeTerms.of(guards)
    counted = {f"custom{number}" for number, guard in enumerate(guards.custom) if isinstance(guard, CountGuard)}
    for guard in terms.guards if compares else ():
        evidence: Literal["telemetry", "cloudwatch", "function"] = guards.evidence
        if guard.key not in ("errors", "latency"):
            evidence = "function" if guard.key in counted else "cloudwatch"
        tolerate = guard.measures[0].tolerate
        worse = f"more than {tolerate:.0%} worse" if tolerate else "worse"
        limit = f"its limit of {terms.limit_of(guard):,.6g}"
        if guard.action != "report" and len(terms.acting_with(guard.action)) > 1:
            limit += f", or on average with the others over {group_limit(terms, guard.action):,.6g},"
        found = f"evidence over {limit} that the candidate is {worse} than the stable"
        yield PlannedCheck(
            what=_compared_by(guards, guard.key, guard.name),
            evidence=evidence,
            how_often="with each batch of telemetry, within seconds" if evidence == "telemetry" else "every minute",
            rolls_back=f"{_ENDS[guard.action]}{found} version",
        )
    for alarm in guards.alarms:
        yield PlannedCheck(
            what=f"alarm {alarm}",
            evidence="alarm",
            how_often="at once, and after each bake",
            rolls_back="it goes to ALARM or is deleted",
        )
    yield from _limits_of(guards)


_ENDS = {"rollback": "", "pause": "only paused: ", "report": "nothing, only shown: "}
"""What comes before the evidence on which a guard acts, by its action."""


def _compared_by(guards: Guards, key: str, name: str) -> str:
    """Return what a guard compares."""
    if key != "latency" or guards.latency is None:
        return name
    thresholds = [f"{threshold:g}" for threshold in guards.latency.thresholds]
    return f"requests over {listed(thresholds)} ms" if thresholds else "slow requests"


def _limits_of(guards: Guards) -> Iterator[PlannedCheck]:
    limited: dict[Literal["source", "service"], SourceGuard | ServiceGuard | None]
    limited = {"source": guards.source, "service": guards.service}
    for evidence, guard in limited.items():
        if guard is None:
            continue
        for name, limit_of in guard.limits.items():
            if limit_of is not None:
                # The signaller hears of stopped tasks by the events of ECS.
                at_once = "at once, " if name == "taskExits" else ""
                yield PlannedCheck(
                    what=name,
                    evidence=evidence,
                    how_often=f"{at_once}every minute, and after each bake",
                    rolls_back=f"{_ENDS[guard.action]}more than {limit_of}",
                )


def _hooks_of(plan: Plan) -> Iterator[PlannedHook]:
    for stage, _, hook in plan.hooks.by_place():
        wire = hook.to_wire()
        kind: Literal["lambda", "codeDeployHook", "ecsLifecycleHook", "ecsTask", "stateMachine"]
        if "lambda" in wire:
            kind, name = "lambda", wire["lambda"]
        elif "codeDeployHook" in wire:
            kind, name = "codeDeployHook", wire["codeDeployHook"]
        elif "ecsLifecycleHook" in wire:
            kind, name = "ecsLifecycleHook", wire["ecsLifecycleHook"]
        elif "stateMachine" in wire:
            kind, name = "stateMachine", wire["stateMachine"]
        else:
            task = wire["ecsTask"]
            kind, name = "ecsTask", str(task.get("taskDefinition") or (task.get("register") or {}).get("family") or "")
        yield PlannedHook(stage=stage, kind=kind, name=name, timeout_seconds=hook.timeout_seconds)


def _cost_of(plan: dict[str, Any], region: str | None) -> dict[str, Any]:
    """Return the cost of a plan."""
    from headgate_cli.costs import load_prices, of_plan

    return of_plan(plan, load_prices(region or "")).to_wire()
