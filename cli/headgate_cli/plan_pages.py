"""A plan for people: in a terminal, and as Markdown for a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from headgate.history.wording import revision, revision_noun, target
from headgate_cli.costs.rollouts import BOUNDED
from headgate_cli.output import echo_table, printable
from headgate_cli.rollouts import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate_cli.plans import PlannedCatch, PlanView

STAGES = {
    "beforeTraffic": "before traffic",
    "beforeStep": "before each step",
    "afterStep": "after each step",
    "afterTraffic": "after promotion",
    "onRollback": "on rollback",
}

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def spelled(seconds: float) -> str:
    """Return a duration as people write it: ``90 s``, ``5 min``, ``1 h 30 min``."""
    left, parts = round(seconds), []
    if 60 < left < 120:
        return f"{left} s"
    for unit, size in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def _facts(plan: PlanView) -> Iterator[tuple[str, str]]:
    """Yield what the plan is about, as pairs of a name and a text."""
    if plan.id:
        yield "rollout", plan.id
    where = target(plan.target) + (f", a {plan.mode} through {target(plan.through)}" if plan.through else "")
    yield "target", where + (f", serves {revision(plan.stable, '')}" if plan.stable else "")
    if plan.candidate_from:
        yield "candidate", plan.candidate_from
    if plan.known:
        yield "on record", f"{in_words(plan.known)}; the same request again starts nothing"
    if plan.behind:
        yield "waits", f"behind rollout {plan.behind}, which has the target now; place in line: {plan.place}"
    elif not plan.known:
        yield "waits", "no; the target is free"
    if plan.ready_seconds:
        yield "ready", f"the candidate has {spelled(plan.ready_seconds)} to become ready"
    if plan.on_failure:
        yield "on failure", _failure(plan)
    yield from _demands(plan.request)
    if plan.catches:
        yield "catches", _catches(plan.catches)
    if plan.cost:
        yield "cost", _cost(plan.cost)


def _demands(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the request asks for beside guards and steps. It has all its defaults."""
    guards = request.get("guards")
    guards = guards if isinstance(guards, dict) else {}
    if least := guards.get("leastRequests"):
        limit = spelled(least["limitSeconds"])
        yield "holds", f"each bake until the candidate has had {least['count']:,} requests, at most {limit} longer"
    if guards.get("onShareMismatch") == "pause":
        yield "share", "paused if the candidate's share of the requests cannot be by chance what the weight says"
    if after := request.get("afterPromotion"):
        fault = "a fault asks for the undo" if after["then"] == "undo" else "a fault is announced"
        yield "afterwards", f"watched for {spelled(3600 * after['hours'])}: {fault}"


def _catches(found: PlannedCatch) -> str:
    """Return about the least error rate that is caught."""
    if found.unknown:
        return f"unknown: {found.unknown}"
    traffic = f"at {found.requests_per_second:,.3g} requests per second"
    if found.rate is None or found.failed_requests is None:
        return f"no error rate surely, {traffic}: too few requests of the candidate; headgate simulate --like has more"
    return (
        f"about {100 * found.rate:.2g} % errors (usually {100 * (found.usual_rate or 0):.2g} %) in 9 of 10 rollouts, "
        f"after about {max(1, round(found.failed_requests)):,} failed requests, {traffic}"
    )


def _cost(cost: dict[str, Any]) -> str:
    """Return the cost without telemetry, and how much telemetry adds at most: it depends on the traffic."""
    bound = sum(line["dollars"] for line in cost["lines"] if line["what"].startswith(BOUNDED))
    telemetry = f", and at most ${bound:.4f} for telemetry" if bound else ""
    return f"${cost['total'] - bound:.4f} for Headgate's own work{telemetry}, if it is promoted"


def _failure(plan: PlanView) -> str:
    pause = plan.on_failure
    if pause is None:
        return ""
    end = "rolled back" if pause.then == "rollback" else "promoted"
    if not pause.pauses:
        return f"rolled back at once; a pause by an operator lasts at most {spelled(pause.limit_seconds)}"
    weight = "without traffic" if pause.at == "zero" else "at its weight"
    return f"paused {weight} for at most {spelled(pause.limit_seconds)}, then {end}"


def _steps(plan: PlanView) -> Iterator[tuple[str, str, str]]:
    for step in plan.steps:
        keeps = plan.target.startswith("ecs-service/") and step.weight == 100
        bakes = "keeps the stable revision" if keeps else "bakes"
        bake = f"{bakes} {spelled(step.bake_seconds)}" if step.bake_seconds else "passes at once"
        yield f"+{spelled(step.starts_after_seconds)}", f"{step.weight:g} %", bake
    yield f"+{spelled(plan.bake_seconds)}", "100 %", "promoted"


def _checks(plan: PlanView) -> Iterator[tuple[str, str, str, str]]:
    for check in plan.checks:
        yield check.what, check.evidence, check.how_often, check.rolls_back


def _hooks(plan: PlanView) -> Iterator[tuple[str, str, str, str]]:
    for hook in plan.hooks:
        yield STAGES.get(hook.stage, hook.stage), hook.name, hook.kind, spelled(hook.timeout_seconds)


STEP_COLUMNS = ("STARTS", "WEIGHT", "THEN")
CHECK_COLUMNS = ("CHECKED", "EVIDENCE", "HOW OFTEN", "ROLLED BACK BY")
HOOK_COLUMNS = ("HOOK", "NAME", "KIND", "AT MOST")


def print_plan(plan: PlanView) -> None:
    """Print a plan in the terminal."""
    if not plan.allowed:
        click.echo(f"Refused: {printable(plan.refused)}")
        return
    for name, text in _facts(plan):
        click.echo(f"{name:<11} {printable(text)}")
    # Without steps it is a request that is on record and has no plan yet.
    if plan.on_failure:
        click.echo()
        echo_table(STEP_COLUMNS, _steps(plan))
        click.echo()
        if plan.checks:
            echo_table(CHECK_COLUMNS, _checks(plan))
        else:
            click.echo(f"Nothing compares the {revision_noun(plan.target)}s, and no alarm guards the rollout.")
    if plan.hooks:
        click.echo()
        echo_table(HOOK_COLUMNS, _hooks(plan))
    if plan.notes or plan.warnings:
        click.echo()
    for note in plan.notes:
        click.echo(f"Note: {printable(note)}")
    for warning in plan.warnings:
        click.echo(f"Warning: {printable(warning)}")


def markdown(plan: PlanView) -> str:
    """Return a plan as Markdown."""
    if not plan.allowed:
        return f"### Headgate would refuse this rollout\n\n{_plain(plan.refused)}\n"
    lines = [f"### Headgate's plan for {_plain(target(plan.target) or plan.id)}", ""]
    lines += [f"- **{name}**: {_plain(text)}" for name, text in _facts(plan)]
    if plan.on_failure:
        lines += ["", *_rows(STEP_COLUMNS, _steps(plan))]
    if plan.checks:
        lines += ["", *_rows(CHECK_COLUMNS, _checks(plan))]
    if plan.hooks:
        lines += ["", *_rows(HOOK_COLUMNS, _hooks(plan))]
    if plan.notes or plan.warnings:
        lines += ["", *(f"- **Note**: {_plain(note)}" for note in plan.notes)]
        lines += [f"- **Warning**: {_plain(warning)}" for warning in plan.warnings]
    return "\n".join(lines) + "\n"


def _rows(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!@$])", r"\\\1", " ".join(printable(text).split()))
