"""Strategies: how traffic moves from the stable revision to the candidate, on the wire and as steps.

On the wire, a strategy is the name of a preset, or an object with one of ``canary``, ``linear`` and ``steps``. Presets
have the names of AWS SAM (``Canary10Percent5Minutes``) and AWS CodeDeploy (``CodeDeployDefault.LambdaAllAtOnce``):
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/automating-updates-to-serverless-apps.html
https://docs.aws.amazon.com/codedeploy/latest/userguide/deployment-configurations.html
The same grammar also accepts other numbers, and seconds and hours.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field, Tag

from headgate.wire import Wire, has_field, is_text, one_of

MAX_STEPS = 200
"""A step takes about 18 of an execution's 25,000 history events. The rest is for hooks and retries."""

MAX_BAKE_SECONDS = 365 * 24 * 3600
"""A Standard workflow runs for at most one year: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

_SECONDS_IN = {"Second": 1, "Minute": 60, "Hour": 3600}

_PRESET = re.compile(
    r"""(?:CodeDeployDefault\.)?(?:Lambda|ECS)?
    (?: (?P<all>AllAtOnce)
      | Canary(?P<canary>\d{1,3}(?:\.\d{1,9})?)Percent(?P<bake>\d{1,9})(?P<bake_unit>Second|Minute|Hour)s?
      | Linear(?P<linear>\d{1,3}(?:\.\d{1,9})?)PercentEvery(?P<interval>\d{1,9})(?P<interval_unit>Second|Minute|Hour)s?
    )""",
    re.VERBOSE | re.ASCII,
)

MIN_PERCENT = 0.0001

Percent = Annotated[float, Field(strict=True, ge=MIN_PERCENT, lt=100, allow_inf_nan=False)]
"""Percent of traffic below 100, fractions allowed."""

Seconds = Annotated[int, Field(strict=True, ge=0, le=MAX_BAKE_SECONDS)]


class Step(Wire):
    """A weight and a bake time."""

    weight: Annotated[float, Field(strict=True, ge=MIN_PERCENT, le=100, allow_inf_nan=False)]
    """Percent of traffic for the candidate, fractions allowed. Weights must rise from step to step."""
    bake_seconds: Seconds
    """How long to stay at this weight. All steps together: at most a year."""


class Canary(Wire):
    """A single step of ``percent`` for ``bake_seconds``, then all traffic."""

    percent: Percent
    """Percent of traffic for the candidate in the only step."""
    bake_seconds: Seconds
    """How long to stay at this weight."""


class Linear(Wire):
    """``percent`` more at each step, every ``interval_seconds``, up to all traffic."""

    percent: Percent
    """Percent of traffic added in each step."""
    interval_seconds: Annotated[int, Field(strict=True, gt=0, le=MAX_BAKE_SECONDS)]
    """How long to stay at each weight."""


class CanaryStrategy(Wire):
    canary: Canary
    """One step, then all traffic."""


class LinearStrategy(Wire):
    linear: Linear
    """The same increase at each step, up to all traffic."""


class StepsStrategy(Wire):
    steps: Annotated[list[Step], Field(min_length=1, max_length=MAX_STEPS + 1)]
    """Any rising weights, then all traffic."""


def preset(name: str) -> CanaryStrategy | LinearStrategy | None:
    """Return the strategy of a preset; None for AllAtOnce.

    Raises
    ------
    ValueError
        If the name is not valid or its numbers are out of range. The message has valid examples.
    """
    match = _PRESET.fullmatch(name)
    if match is None and (spelled := _in_capitals(name)):
        raise ValueError(f"not a preset: capital letters count; did you mean {spelled}?")
    if match is None:
        raise ValueError(
            "not a preset; use a name like Canary10Percent5Minutes, Linear10PercentEvery90Seconds, AllAtOnce or "
            "CodeDeployDefault.LambdaCanary10Percent5Minutes"
        )
    if match["all"]:
        return None
    if match["canary"]:
        bake = int(match["bake"]) * _SECONDS_IN[match["bake_unit"]]
        _check_preset(float(match["canary"]), bake)
        return CanaryStrategy(canary=Canary(percent=float(match["canary"]), bake_seconds=bake))
    interval = int(match["interval"]) * _SECONDS_IN[match["interval_unit"]]
    _check_preset(float(match["linear"]), interval)
    return LinearStrategy(linear=Linear(percent=float(match["linear"]), interval_seconds=interval))


_WORDS = re.compile(
    "CodeDeployDefault|Lambda|ECS|AllAtOnce|Canary|Linear|Percent|Every|Second|Minute|Hour", re.IGNORECASE
)


def _in_capitals(name: str) -> str | None:
    """Return a preset's name with its capital letters, if that makes it one."""
    spelled = {word.lower(): word for word in _WORDS.pattern.split("|")}
    right = _WORDS.sub(lambda found: spelled[found[0].lower()], name)
    right = re.sub(r"S$", "s", right)
    return right if _PRESET.fullmatch(right) else None


def _check_preset(percent: float, seconds: int) -> None:
    if not 0 < percent < 100:
        raise ValueError("its percent must be above 0 and below 100; use AllAtOnce to move all traffic at once")
    if percent < MIN_PERCENT:
        raise ValueError(f"its percent must be at least {MIN_PERCENT:g}")
    if not 0 < seconds <= MAX_BAKE_SECONDS:
        raise ValueError(f"its time must be 1 to {MAX_BAKE_SECONDS} seconds (one year)")


def _known_preset(name: str) -> str:
    preset(name)
    return name


def steps_of(strategy: str | CanaryStrategy | LinearStrategy | StepsStrategy) -> tuple[Step, ...]:
    """Return the steps of a strategy before Promote, which moves the rest. Weights rise strictly.

    A last step of weight 100 that does not bake is the same as Promote and is left out. AllAtOnce has no steps.
    """
    shape = preset(strategy) if isinstance(strategy, str) else strategy
    match shape:
        case None:
            return ()
        case CanaryStrategy(canary=canary):
            return (Step(weight=canary.percent, bake_seconds=canary.bake_seconds),)
        case LinearStrategy(linear=linear):
            # Decimals: three times 0.1 percent must be 0.3, on the wire and in the console.
            share = Decimal(str(linear.percent))
            # 33.333333 is meant as a third: a rest of less than a thousandth of a step is rounding, and no step.
            count = max(1, int((100 - share / 1000) // share))
            return tuple(
                Step(weight=float(share * (i + 1)), bake_seconds=linear.interval_seconds) for i in range(count)
            )
        case StepsStrategy(steps=steps):
            last = steps[-1]
            return tuple(steps[:-1] if last.weight == 100 and last.bake_seconds == 0 else steps)


def _checked(
    strategy: str | CanaryStrategy | LinearStrategy | StepsStrategy,
) -> str | CanaryStrategy | LinearStrategy | StepsStrategy:
    """Refuse a strategy whose steps are not valid."""
    if isinstance(strategy, LinearStrategy) or (isinstance(strategy, str) and "Linear" in strategy):
        shape = strategy if isinstance(strategy, LinearStrategy) else preset(strategy)
        if isinstance(shape, LinearStrategy) and shape.linear.percent < 100 / (MAX_STEPS + 1):
            raise ValueError(f"has more than {MAX_STEPS} steps; use at least 0.5 percent per step")
    steps = steps_of(strategy)
    if len(steps) > MAX_STEPS:
        raise ValueError(f"has {len(steps)} steps; the limit is {MAX_STEPS}")
    for i, (before, after) in enumerate(pairwise(steps), start=1):
        if after.weight <= before.weight:
            raise ValueError(f"steps[{i}].weight is {after.weight:g} after {before.weight:g}: weights must rise")
    total = sum(step.bake_seconds for step in steps)
    if total > MAX_BAKE_SECONDS:
        raise ValueError(f"bakes for {total} seconds in total; the limit is {MAX_BAKE_SECONDS} (one year)")
    return strategy


Strategy = Annotated[
    Annotated[str, AfterValidator(_known_preset), Tag("<preset>")]
    | Annotated[CanaryStrategy, Tag("<canary>")]
    | Annotated[LinearStrategy, Tag("<linear>")]
    | Annotated[StepsStrategy, Tag("<steps>")],
    one_of(
        {
            "<preset>": is_text,
            "<canary>": has_field(CanaryStrategy, "canary"),
            "<linear>": has_field(LinearStrategy, "linear"),
            "<steps>": has_field(StepsStrategy, "steps"),
        },
        'give the name of a preset, {"canary": ...}, {"linear": ...} or {"steps": [...]}',
    ),
    AfterValidator(_checked),
]
