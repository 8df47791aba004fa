"""State transitions of a rollout, and what it costs, next to aws-lambda-deploy's state machine."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import prices
from benchmarks.dynamodb_meter import DynamodbMeter, Units, units
from benchmarks.report import Section, say, table
from benchmarks.world import CANDIDATE, Usage, World

if TYPE_CHECKING:
    from benchmarks.dynamodb_meter import Call

BAKE_SECONDS = 1
MEMORY_GB = 0.5
"""template.yaml: MemorySize: 512 for every function."""
EACH_MINUTE = ("Warden", "Observer")
NOT_THE_ROLLOUT = {*EACH_MINUTE, "Counter"}
"""What runs whether or not there is a rollout, or counts telemetry, which these rollouts do not use."""
MINUTES_A_MONTH = 730 * 60
LOOKS = 20

ALTERNATIVE = (
    "[aws-lambda-deploy](https://github.com/awslabs/aws-lambda-deploy/blob/d168e0e/template.yml)'s `DeployStateMachine`"
)
PER_WEIGHT, AROUND = 5, 2
"""Its states, read from that definition: UpdateWeight, Wait, HealthCheck, VerifyHealthCheck and IsFullyWeighted for
each weight; CalculateWeights before the first and Finalize after the last."""


class Measured(NamedTuple):
    """One rollout."""

    title: str
    steps: int
    transitions: int
    by_function: dict[str, Usage]
    dynamodb: Units
    calls: dict[str, int]
    events: int

    @property
    def invocations(self) -> float:
        return sum(used.invocations for used in self.by_function.values())

    @property
    def gb_seconds(self) -> float:
        return sum(used.milliseconds for used in self.by_function.values()) / 1000 * MEMORY_GB

    def dollars(self) -> list[float]:
        """Step Functions, Lambda, DynamoDB, EventBridge."""
        return [
            self.transitions * prices.TRANSITION.dollars,
            self.invocations * prices.INVOCATION.dollars + self.gb_seconds * prices.GB_SECOND.dollars,
            self.dynamodb.writes * prices.WRITE.dollars + self.dynamodb.reads * prices.READ.dollars,
            self.events * prices.EVENT.dollars,
        ]


def measure(world: World, quick: bool) -> Section:
    """Rollouts of some lengths, one after the other, each on an alias of its own."""
    with DynamodbMeter(world.aws.endpoint_url) as meter:
        world.set_on_every_function(AWS_ENDPOINT_URL_DYNAMODB=meter.endpoint_url)
        try:
            cold = _roll_out(world, meter, 1, "1, every function starting")
            measured = [_roll_out(world, meter, steps, str(steps)) for steps in ((1, 2) if quick else (1, 2, 5, 9))]
            idle = _idle(world, meter)
        finally:
            world.set_on_every_function(AWS_ENDPOINT_URL_DYNAMODB=world.aws.endpoint_url)
    over = [one for one in [cold, *measured] if one.transitions > _limit(one.steps)]
    faults = [f"{one.steps} steps: {one.transitions} transitions, more than {_limit(one.steps)}" for one in over]
    return Section("\n\n".join(_paragraphs(cold, measured, idle)), faults)


def _limit(steps: int) -> int:
    return 4 * steps + 12


def _alternative(steps: int) -> int:
    # As many weights before 100 %, and 100 % itself, which is one more weight there.
    return PER_WEIGHT * (steps + 1) + AROUND


def _roll_out(world: World, meter: DynamodbMeter, steps: int, title: str) -> Measured:
    target = world.new_target()
    before = world.usage()
    meter.take()
    weights = [round(100 * (number + 1) / (steps + 1), 2) for number in range(steps)]
    execution = world.request(target, [(weight, BAKE_SECONDS) for weight in weights], alarms=[])
    world.ended(execution, "SUCCEEDED")
    if world.alias(target) != (CANDIDATE, {}):
        raise RuntimeError(f"{target} serves {world.alias(target)}")
    time.sleep(3)  # The last of the outbox is published after the execution ends.
    after, calls = world.usage(), meter.take()
    items = [item for page in _scan(world) for item in page]
    rollout = next(item["pk"]["S"] for item in items if item.get("execution", {}).get("S") == execution)
    published = sum(item["pk"]["S"] == rollout and item["sk"]["S"].startswith("EVENT#") for item in items)
    used = {name: _difference(before[name], after[name]) for name in after if name not in NOT_THE_ROLLOUT}
    say(f"  {steps} steps: done")
    return Measured(
        title,
        steps,
        len(world.entered(execution)),
        {name: usage for name, usage in used.items() if usage.invocations},
        units(_of_rollouts(calls), items),
        dict(Counter(call.operation for call in _of_rollouts(calls))),
        published + 1,  # and the request itself
    )


def _scan(world: World) -> list[list[dict[str, dict[str, str]]]]:
    pages = world.table.get_paginator("scan").paginate(TableName=world.outputs["TableName"], ConsistentRead=True)
    return [page["Items"] for page in pages]


def _of_rollouts(calls: list[Call]) -> list[Call]:
    """Without the warden's sweep, which looks into the index of held locks and nothing else while all is well."""
    return [call for call in calls if "IndexName" not in call.body]


def _difference(before: Usage, after: Usage) -> Usage:
    return Usage(after.invocations - before.invocations, after.milliseconds - before.milliseconds)


def _idle(world: World, meter: DynamodbMeter) -> tuple[float, float]:
    """What a month costs in which nothing happens, and how many milliseconds the looks of one minute take together."""
    each, took = 0.0, 0.0
    for name in EACH_MINUTE:
        function = world.headgate_functions()[name]
        world.functions.invoke(FunctionName=function, Payload=b"{}")
        meter.take()
        before = world.usage()[name]
        for _ in range(LOOKS):
            world.functions.invoke(FunctionName=function, Payload=b"{}")
        used = _difference(before, world.usage()[name])
        one = used.milliseconds / used.invocations
        took += one
        each += prices.INVOCATION.dollars + one / 1000 * MEMORY_GB * prices.GB_SECOND.dollars + prices.READ.dollars / 2
    return each * MINUTES_A_MONTH, took


def _paragraphs(cold: Measured, measured: list[Measured], nothing: tuple[float, float]) -> list[str]:
    longest, month, look = measured[-1], *nothing
    used = ", ".join(
        f"{name} {usage.invocations:.0f}" for name, usage in sorted(longest.by_function.items(), key=lambda one: one[0])
    )
    calls = ", ".join(f"{name} {count}" for name, count in sorted(longest.calls.items()))
    fixed = {one.transitions - 4 * one.steps for one in measured}
    crossing = next((k for k in range(1, 201) if 4 * k + max(fixed) < _alternative(k)), 0)
    counted = (
        f"Rollouts of k steps of {BAKE_SECONDS} s and then 100 %, without hooks, counted in their execution histories, "
        f"next to {ALTERNATIVE} (`awslabs/aws-lambda-deploy`, commit d168e0e) with the same weights, computed from its "
        f"definition: {PER_WEIGHT} states for each weight, 100 % among them, and {AROUND} around. Limit: 4 k + 12; "
        f"measured: 4 k + {' or '.join(str(number) for number in sorted(fixed))}. Headgate takes fewer from "
        f"k = {crossing} on; before that, its lock, its record and the question whether there are hooks make it more."
    )
    how = (
        "Invocations and durations are those that the embedded AWS measured around each function (512 MB; on this "
        "machine's processor, emulator included, so Lambda will differ). DynamoDB's requests were counted on their "
        "way, and their units computed from the items' final sizes: an upper bound. With k = "
        f"{longest.steps}: {used}; {calls}. Left out: SQS, SNS, logs and traces; and with alarms as guards, the one or "
        "two DescribeAlarms of each step."
    )
    idle = (
        f"When nothing happens, the warden and the observer look once a minute: {MINUTES_A_MONTH:,} times "
        f"{look:.0f} ms together, ${month:.3f} a month (computed from {LOOKS} measured looks of each)."
    )
    return [
        "## State transitions and cost",
        counted,
        table(
            ["k", "Headgate", "limit", "aws-lambda-deploy", "ratio", "Headgate, transitions", "aws-lambda-deploy"],
            [
                [
                    str(one.steps),
                    str(one.transitions),
                    f"{_limit(one.steps)} {'held' if one.transitions <= _limit(one.steps) else 'MISSED'}",
                    str(_alternative(one.steps)),
                    f"{one.transitions / _alternative(one.steps):.2f}",
                    _dollars(one.transitions * prices.TRANSITION.dollars),
                    _dollars(_alternative(one.steps) * prices.TRANSITION.dollars),
                ]
                for one in measured
            ],
        ),
        "What a whole rollout costs:",
        table(
            ["k", "invocations", "GB-s", "WRU", "RRU", "events", *_SERVICES, "total", "of it transitions"],
            [
                [
                    one.title,
                    f"{one.invocations:.0f}",
                    f"{one.gb_seconds:.2f}",
                    f"{one.dynamodb.writes:.0f}",
                    f"{one.dynamodb.reads:g}",
                    str(one.events),
                    *map(_dollars, one.dollars()),
                    _dollars(sum(one.dollars())),
                    f"{one.dollars()[0] / sum(one.dollars()):.0%}",
                ]
                for one in [cold, *measured]
            ],
        ),
        how,
        idle,
        "Public list prices, us-east-1, beyond the free tier, as they were in the month given:",
        table(
            ["what", "price", "as of", "source"],
            [[price.what, price.as_written, price.as_of, price.source] for price in prices.ALL],
        ),
    ]


_SERVICES = ("Step Functions", "Lambda", "DynamoDB", "EventBridge")


def _dollars(amount: float) -> str:
    return f"${amount:.6f}"
