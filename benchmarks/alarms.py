"""Seconds from an alarm to the alias back on the stable version alone, next to machines that look now and then."""

from __future__ import annotations

import statistics
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import Section, say, table
from benchmarks.world import CANDIDATE, STABLE, until

if TYPE_CHECKING:
    from benchmarks.world import World

BAKES = (30, 300, 3600)
LIMIT_SECONDS = 1.0
COLD_BAKE = 3600
POLL_SECONDS = 60
GRID = 1000


class Measured(NamedTuple):
    """What some runs with one bake time came to."""

    bake: int
    seconds: list[float]
    cold: bool = False


def measure(world: World, quick: bool) -> Section:
    """Fresh rollouts, each on an alias of its own, with the bake times taking turns."""
    runs, cold_runs = (3, 1) if quick else (20, 5)
    _roll_back(world, BAKES[0])  # Functions have started by now.
    seconds: dict[int, list[float]] = {bake: [] for bake in BAKES}
    for run in range(runs):
        for bake in BAKES:
            seconds[bake].append(_roll_back(world, bake))
        say(f"  {run + 1} of {runs}: {', '.join(f'{seconds[bake][-1]:.2f} s' for bake in BAKES)}")
    measured = [Measured(bake, seconds[bake]) for bake in BAKES]
    cold = Measured(COLD_BAKE, [_roll_back(world, COLD_BAKE, cold=True) for _ in range(cold_runs)], cold=True)
    slow = [one for one in measured if statistics.median(one.seconds) >= LIMIT_SECONDS]
    faults = [f"bake of {one.bake} s: median {statistics.median(one.seconds):.2f} s" for one in slow]
    return Section("\n\n".join(_paragraphs([*measured, cold], runs, cold_runs)), faults)


def _roll_back(world: World, bake: int, *, cold: bool = False) -> float:
    target, alarm = world.new_target(), world.new_alarm()
    execution = world.request(target, [(10, bake)], [alarm])
    until(lambda: _bakes(world, execution), 30, f"{execution} does not bake")
    if world.alias(target) != (STABLE, {CANDIDATE: 0.1}):
        raise RuntimeError(f"{target} serves {world.alias(target)}, so there is nothing to roll back")
    if cold:
        world.set_on_every_function(RUN=uuid.uuid4().hex)  # Processes with the old settings are of no use any more.
    begun = time.perf_counter()
    world.metrics.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="the benchmark says so")
    until(lambda: world.alias(target) == (STABLE, {}), min(bake, 60), f"{target} is not back", pause=0.005)
    took = time.perf_counter() - begun
    world.ended(execution, "FAILED")
    return took


def _bakes(world: World, execution: str) -> bool:
    """Whether a bake is open: its token is on record, so that a signal finds it."""
    found = world.table.scan(
        TableName=world.outputs["TableName"],
        ConsistentRead=True,
        FilterExpression="#execution = :execution AND attribute_exists(#token)",
        ExpressionAttributeNames={"#execution": "execution", "#token": "token"},
        ExpressionAttributeValues={":execution": {"S": execution}},
    )
    return bool(found["Items"])


def _paragraphs(measured: list[Measured], runs: int, cold_runs: int) -> list[str]:
    told = (
        "Seconds from the call of SetAlarmState (ALARM) until the alias was seen on the stable version alone, on the "
        f"embedded AWS; {runs} fresh rollouts for each bake time, each on its own alias, taking turns, functions warm; "
        f"and {cold_runs} in which every function had to start anew, as after a long bake: signaller, judge and driver "
        "start one after the other, and the emulator unpacks both layers for each. Limit: a median below "
        f"{LIMIT_SECONDS:g} s, warm, whatever the bake time. Not in it: the time that CloudWatch takes to notice, and "
        "the way between AWS's services, which here is a loopback."
    )
    computed = (
        "Next to it, computed, a machine that looks each minute, and one that looks once at the end of each step, as "
        "[aws-lambda-deploy](https://github.com/awslabs/aws-lambda-deploy/blob/d168e0e/template.yml)'s does. The "
        "alarm comes at any moment between two looks alike (a uniform delay up to the interval, or the step's end if "
        "that is sooner), and from the look on they are as fast as Headgate was in the same row."
    )
    return [
        "## From an alarm to the alias back on stable",
        told,
        computed,
        table(
            [
                "bake",
                "Headgate: median",
                "p90",
                "slowest",
                "limit",
                "looks each minute: median",
                "p90",
                "looks after each step: median",
                "p90",
                "Headgate / each minute",
            ],
            [_row(one) for one in measured],
        ),
    ]


def _row(one: Measured) -> list[str]:
    median = statistics.median(one.seconds)
    minute, minute_p90 = _delayed(one.seconds, min(POLL_SECONDS, one.bake))
    step, step_p90 = _delayed(one.seconds, one.bake)
    return [
        f"{one.bake} s{', cold' if one.cold else ''}",
        f"{median:.2f} s",
        f"{quantile(one.seconds, 0.9):.2f} s",
        f"{max(one.seconds):.2f} s",
        "none" if one.cold else "held" if median < LIMIT_SECONDS else "MISSED",
        f"{minute:.1f} s",
        f"{minute_p90:.1f} s",
        f"{step:.1f} s",
        f"{step_p90:.1f} s",
        f"{median / minute:.3f}",
    ]


def _delayed(rollbacks: list[float], between_looks: float) -> tuple[float, float]:
    """Median and p90 of a uniform delay up to the next look and one of these rollbacks."""
    delays = [between_looks * (number + 0.5) / GRID for number in range(GRID)]
    sums = [delay + rollback for rollback in rollbacks for delay in delays]
    return statistics.median(sums), quantile(sums, 0.9)


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
