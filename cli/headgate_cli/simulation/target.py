"""What is asked about a target: its past, a strategy and guards, from options and the file of a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from headgate.errors import RequestRefused
from headgate_cli.failures import Failure
from headgate_cli.options import Chosen, StrategyToJudge
from headgate_cli.request_files import read_request_file
from headgate_cli.simulation.asking import DEFAULT_GUARDS, asked_guards
from headgate_cli.simulation.own_rollouts import Question
from headgate_cli.simulation.past import PastReader, metrics_of
from headgate_cli.simulation.phases import phases_of
from headgate_cli.simulation.setting import MAX_LOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headgate.spec.guards import Guards
    from headgate_cli.simulation.past import Past
    from headgate_cli.simulation.wandering import Both
    from headgate_cli.stack import Stack

RUNS, RUNS_WITH_THRESHOLDS = 1000, 400
"""Default number of simulated rollouts. With several latency thresholds, each takes ten times as long."""


def question_about(
    stack: Stack, key: str, asked: Mapping[str, Any], on_page: Callable[[int], None]
) -> tuple[Question, dict[str, Any]]:
    """Read a target's past, and return the question about it with what is shown of it as the input.

    Parameters
    ----------
    key
        Key of the target.
    asked
        Options of the command; None for those that were not given.
    on_page
        Called with the number of values that were read.

    Raises
    ------
    Failure
        If something is not valid, or the target had no requests.
    """
    request = read_request_file(asked["file"], "Rollout Requested") if asked["file"] else {}
    before = request.get("guards") or DEFAULT_GUARDS
    if not isinstance(before, dict):
        raise Failure("the request has no guards to simulate; give --guards without --file")
    guards = asked_guards({} if asked["guards"] and not request.get("guards") else before, asked)
    strategy, phases = phases_of(asked["strategy"] or _strategy_of(request), asked["weight"], asked["minutes"])
    past = _past(stack, key, asked["days"], guards, on_page)
    guards = _with_thresholds(guards, past)
    several = guards.latency is not None and len(guards.latency.thresholds) > 1
    question = Question(
        past,
        guards,
        phases,
        runs=asked["runs"] or (RUNS_WITH_THRESHOLDS if several else RUNS),
        seed=asked["seed"],
        caught=asked["stopped"],
        look_seconds=_look_of(asked["look_seconds"]),
    )
    # Before the schedule, which has every look of it.
    if sum(phase.seconds for phase in phases) * question.runs > MAX_LOOKS:
        raise Failure("this strategy takes too long to simulate; give --minutes, or fewer --runs")
    if not question.schedule.seconds:
        raise Failure(
            "both versions get traffic for less than a second, so there is nothing to judge; give more --minutes"
        )
    return question, {
        "like": asked["like"],
        "days": asked["days"],
        "strategy": strategy,
        "steps": [{"weight": phase.weight, "bakeSeconds": phase.seconds} for phase in phases],
        "guards": guards.to_wire(),
        "look_seconds": question.look,
        "stopped": question.caught,
        "runs": question.runs,
        "seed": question.seed,
    }


def _strategy_of(request: Mapping[str, Any]) -> Chosen | None:
    """Return the strategy of a request in a file; None for the default."""
    if "strategy" not in request:
        return None
    return StrategyToJudge().convert(json.dumps(request["strategy"]), None, None)


def _look_of(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    whole = round(seconds)
    if whole != seconds or not whole or 60 % whole:
        raise click.BadParameter(
            f"must be a whole part of a minute with --like, such as 1, 5, 10 or 60 (given {seconds:g})",
            param_hint="'--look-seconds'",
        )
    return whole


def _past(stack: Stack, key: str, days: float, guards: Guards, on_page: Callable[[int], None]) -> Past:
    try:
        metrics = metrics_of(stack, key)
    except RequestRefused as refused:
        raise Failure(str(refused)) from None
    thresholds = guards.latency.thresholds if guards.latency else None
    return PastReader(stack.client("cloudwatch"), metrics, on_page).read(days, thresholds=thresholds)


def _with_thresholds(guards: Guards, past: Past) -> Guards:
    """Return the guards with the thresholds of the past, if they have none of their own."""
    if guards.latency is None or guards.latency.thresholds:
        return guards
    from_past = guards.latency.model_copy(update={"thresholds_ms": list(past.thresholds)})
    return guards.model_copy(update={"latency": from_past})


def earlier_minutes(stack: Stack, key: str) -> Sequence[Both] | str:
    """Return the minutes of both versions in earlier rollouts, or why they are not known."""
    from botocore.exceptions import BotoCoreError, ClientError

    from headgate_cli.rollouts import history_of
    from headgate_cli.simulation.earlier import minutes_of_both

    if not key.startswith("lambda-alias/"):
        return "how each revision wanders on its own is not read for services"
    try:
        return minutes_of_both(stack, history_of(stack), key)
    except (BotoCoreError, ClientError, Failure) as error:
        return f"earlier rollouts could not be read ({' '.join(str(error).split())[:200]})"
