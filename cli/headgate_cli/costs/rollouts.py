"""What a rollout costs. The quantities were measured: see "State transitions and cost" in docs/benchmarks.md."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.history.lenient import read_leniently
from headgate.history.wording import duration
from headgate.spec.guards import MAX_THRESHOLDS, Guards
from headgate_cli.costs.model import Used

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.history.model import RolloutView
    from headgate_cli.costs.model import Cost
    from headgate_cli.costs.prices import Prices


AROUND_TRANSITIONS = 11
"""Transitions around the steps, whether the rollout is promoted or rolled back."""

UNMOVED_TRANSITIONS = (4, 10)
"""Transitions of a request that has moved no traffic: refused or waiting before it has the target (Plan, Acquire or
Settle, a choice, and the end), and refused while the candidate is prepared, which is rolled back and settled."""

BAKED_TRANSITIONS, PASSED_TRANSITIONS = 4, 3
"""Transitions of a step with a bake, and of one without."""

PAUSE_TRANSITIONS = 3
"""Transitions of a pause."""

STAGE_TRANSITIONS = 2
"""Transitions of the rollout's execution for the hooks of one stage."""

HOOKS_TRANSITIONS, HOOK_TRANSITIONS = 3, 3
"""Transitions of the execution that asks the hooks of one stage, and of each hook that answers at once."""

INVOCATIONS = (8, 5)
"""Invocations of Headgate's functions around the steps, and of each step."""

GB_SECONDS = (0.52, 0.315)
WRITE_UNITS = (28, 39)
READ_UNITS = (15, 8.2)
EVENTS = (3, 3)

METRICS_OF_AN_ALIAS = {"errors": 4, "latency": 2}
"""Metrics that are read each minute for a comparison by CloudWatch: for errors two counts of two versions, for latency
the requests of both. Each threshold adds its slow requests of both."""

METRICS_THAT_BOUND_TELEMETRY = 3

METRICS_OF_A_SERVICE = {"errors": 6, "latency": 2}
"""The same for each pair of target groups of a service: requests, and for errors two counts of failures, of both."""

METRICS_THAT_BOUND_TELEMETRY_OF_A_SERVICE = 4

BATCH_WRITE_UNITS, BATCH_READ_UNITS, BATCH_GB_SECONDS = 12, 6, 0.01
"""For each batch of telemetry that is counted: 3 writes, one of them a transaction of two items, and 5 reads, of items
of 1 to 4 KB; and 18.3 ms of a function of 512 MB."""

BOUNDED = "Telemetry: "
"""How the lines begin whose quantities are upper bounds."""

LEFT_OUT = "Left out: SQS, SNS, logs, traces, and the requests to both versions (headgate cost requests)."

LEFT_OUT_OF_A_SERVICE = (
    "Left out: SQS, SNS, logs, traces, and the load balancer. Calls of ECS, ELB and Auto Scaling are free."
)


class _Course(NamedTuple):
    """What happened, or will happen if nothing ends the rollout early."""

    bakes: Sequence[float]
    """Seconds of each bake; 0 for a step that is passed at once."""
    pauses: int
    stages: int
    """Stages with hooks that were asked."""
    hooks: int
    """Hooks that were asked."""

    @property
    def transitions(self) -> int:
        """State transitions of all executions."""
        steps = sum(BAKED_TRANSITIONS if seconds else PASSED_TRANSITIONS for seconds in self.bakes)
        hooks = self.stages * (STAGE_TRANSITIONS + HOOKS_TRANSITIONS) + self.hooks * HOOK_TRANSITIONS
        return AROUND_TRANSITIONS + steps + PAUSE_TRANSITIONS * self.pauses + hooks


def of_plan(plan: dict[str, Any], prices: Prices) -> Cost:
    """Return what a rollout by this plan costs if it is promoted and nothing ends a bake early.

    Parameters
    ----------
    plan
        A plan as JSON data: ``steps``, and if there are any ``guards`` and ``hooks``.
    """
    bakes = [float(step["bakeSeconds"]) for step in plan["steps"]]
    stages = _planned_stages(plan.get("hooks") or {}, len(bakes))
    course = _Course(bakes, 0, len(stages), sum(stages))
    steps = f"of {len(bakes)} step{'' if len(bakes) == 1 else 's'}" if bakes else "that moves all traffic at once"
    subject = f"rollout {steps}"
    return _cost(subject, course, plan, prices, _notes(plan, course, "It is promoted, and no bake ends early."))


def of_rollout(view: RolloutView, prices: Prices) -> Cost:
    """Return what a rollout has cost, computed from the bakes, pauses and hooks on its record."""
    if view.status in ("waiting", "accepted", "refused"):
        transitions = UNMOVED_TRANSITIONS[1 if view.started_at else 0] if view.execution else 0
        used = Used(prices)
        used.add("Step Functions: state transitions", transitions, "transition", "transition")
        used.add("EventBridge: custom events", 2, "event", "event")
        return used.cost(f"rollout {view.id}", ["It has not moved traffic.", LEFT_OUT])
    # The plan on record may be half written: the guards in it are read as everywhere else.
    guards = read_leniently(Guards, view.plan.get("guards"))
    plan: dict[str, Any] = {name: view.plan[name] for name in ("target", "routing") if name in view.plan}
    plan |= {"guards": guards.to_wire()} if guards else {}
    bakes = [_seconds(bake.started_at, bake.ended_at) for step in view.steps for bake in step.bakes]
    passed = [0.0 for step in view.steps if not step.bakes and step.status in ("done", "failed")]
    stages = [len(asked.hooks) for asked in view.hooks]
    course = _Course([*bakes, *passed], len(view.pauses) + (view.pause is not None), len(stages), sum(stages))
    first = [] if view.has_ended else ["It has not ended: this is what it has cost so far."]
    notes = [*first, *_notes(plan, course, "Computed from its bakes, pauses and hooks; retries are left out.")]
    return _cost(f"rollout {view.id}", course, plan, prices, notes)


def _cost(subject: str, course: _Course, plan: dict[str, Any], prices: Prices, notes: Iterable[str]) -> Cost:
    steps = len(course.bakes)
    used = Used(prices)
    used.add("Step Functions: state transitions", course.transitions, "transition", "transition")
    used.add("Lambda: requests", _amount(INVOCATIONS, steps), "lambdaRequest", "request")
    used.add("Lambda: duration", _amount(GB_SECONDS, steps), "gbSecondArm64", "GB-second")
    used.add("DynamoDB: writes", _amount(WRITE_UNITS, steps), "tableWrite", "write unit")
    used.add("DynamoDB: reads", _amount(READ_UNITS, steps), "tableRead", "read unit")
    used.add("EventBridge: custom events", _amount(EVENTS, steps), "event", "event")
    minutes = sum(math.ceil(seconds / 60) for seconds in course.bakes)
    used.add("CloudWatch: metrics read", minutes * metrics_each_minute(plan), "metricRead", "metric")
    if _needs_telemetry(plan.get("guards")):
        seconds = math.ceil(sum(course.bakes))
        used.add(f"{BOUNDED}requests, at most", seconds, "lambdaRequest", "request")
        used.add(f"{BOUNDED}duration, at most", seconds * BATCH_GB_SECONDS, "gbSecondArm64", "GB-second")
        used.add(f"{BOUNDED}writes, at most", seconds * BATCH_WRITE_UNITS, "tableWrite", "write unit")
        used.add(f"{BOUNDED}reads, at most", seconds * BATCH_READ_UNITS, "tableRead", "read unit")
    return used.cost(subject, notes)


def _notes(plan: dict[str, Any], course: _Course, first: str) -> list[str]:
    notes = [first]
    if _needs_telemetry(plan.get("guards")) and any(course.bakes):
        notes.append(
            "Telemetry is an upper bound: a batch each second of each bake, by one shard. The stream itself is billed "
            "by the hour (headgate cost idle)."
        )
    if any("counts" in guard for guard in _guards(plan.get("guards")).get("custom") or []) and any(course.bakes):
        notes.append("Functions that count are asked each minute of each bake; they are left out.")
    if course.stages:
        notes.append("Hooks: one answer each. Their own functions, tasks and state machines are left out.")
    if _is_service(plan):
        return [*notes, _capacity(plan, course), LEFT_OUT_OF_A_SERVICE]
    return [*notes, LEFT_OUT]


def _is_service(plan: dict[str, Any]) -> bool:
    target = plan.get("target")
    return isinstance(target, dict) and target.get("kind") == "ecs-service"


def _capacity(plan: dict[str, Any], course: _Course) -> str:
    """Return what a rollout of a service needs beside Headgate, which costs far more than Headgate itself."""
    scale = plan["target"].get("scale")
    tasks = "as many tasks as the service has" if scale in (None, "full") else "tasks by its weight"
    lasts = duration(sum(course.bakes))
    return (
        f"Not counted: the candidate runs {tasks} beside the stable ones, for {lasts} of bakes and until its tasks are "
        "ready and removed (Fargate or instances)."
    )


def _pairs(plan: dict[str, Any]) -> int:
    """Return how many target groups each revision of a service has: one, if there is no routing yet."""
    routing = plan.get("routing")
    return len(routing["pairs"]) if isinstance(routing, dict) and routing.get("pairs") else 1


def metrics_each_minute(plan: dict[str, Any]) -> int:
    """Return how many metrics are read each minute of a bake."""
    guards, pairs = _guards(plan.get("guards")), _pairs(plan)
    queries = [guard[count] for guard in guards.get("custom") or [] for count in COUNTS if count in guard]
    metrics = sum(2 * _metrics_of(query) for query in queries)
    compared = [name for name in ("errors", "latency") if guards.get(name) is not None]
    if compared and guards.get("evidence") == "cloudwatch":
        each = METRICS_OF_A_SERVICE if _is_service(plan) else METRICS_OF_AN_ALIAS
        metrics += pairs * (sum(each[name] for name in compared) + 2 * _thresholds(guards.get("latency")))
    elif compared:
        bound = METRICS_THAT_BOUND_TELEMETRY_OF_A_SERVICE if _is_service(plan) else METRICS_THAT_BOUND_TELEMETRY
        metrics += pairs * bound
    # Tasks that exit are heard of by events.
    if (guards.get("service") or {}).get("unhealthyHosts") is not None:
        metrics += pairs
    return metrics + sum(limit is not None for limit in (guards.get("source") or {}).values())


def _thresholds(latency: dict[str, Any] | None) -> int:
    """Return how many thresholds a latency guard has: most without a given one, as its plan may have."""
    if latency is None:
        return 0
    return 1 if latency.get("thresholdMs") is not None else len(latency.get("thresholdsMs") or []) or MAX_THRESHOLDS


COUNTS = ("requests", "failures")


def _metrics_of(query: dict[str, Any]) -> int:
    return len(query["metrics"]) if "metrics" in query else 1


def _needs_telemetry(guards: object) -> bool:
    known = _guards(guards)
    compares = known.get("errors") is not None or known.get("latency") is not None
    return compares and known.get("evidence", "telemetry") == "telemetry"


def _guards(guards: object) -> dict[str, Any]:
    """Return guards as JSON data; a request may say ``none``."""
    return guards if isinstance(guards, dict) else {}


def _planned_stages(hooks: dict[str, list[Any]], steps: int) -> list[int]:
    """Return the number of hooks in each stage that is asked until the promotion."""
    stages = [len(hooks.get(name) or []) for name in ("beforeTraffic", "afterTraffic")]
    stages += [len(hooks.get(name) or []) for name in ("beforeStep", "afterStep") for _ in range(steps)]
    return [asked for asked in stages if asked]


def _amount(line: tuple[float, float], steps: int) -> float:
    around, each = line
    return round(around + each * steps, 3)


def _seconds(begin: str, end: str | None) -> float:
    last = datetime.fromisoformat(end) if end else datetime.now(UTC)
    # A bake that a signal ended at once is a bake, not a step that was passed.
    return max((last - datetime.fromisoformat(begin)).total_seconds(), 0.001)
