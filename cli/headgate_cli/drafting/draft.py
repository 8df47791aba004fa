"""The request that ``headgate init`` writes: from answers to commented YAML that ``headgate start --file`` accepts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import yaml
from pydantic import TypeAdapter, ValidationError

from headgate.errors import RequestRefused
from headgate.spec.request import is_too_short_for_cloudwatch, read_request
from headgate.spec.strategy import Strategy, steps_of
from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.spec.request import RolloutRequest
    from headgate.spec.strategy import Step

Evidence = Literal["telemetry", "cloudwatch", "none"]

PRESETS = (
    "Canary10Percent5Minutes",
    "Canary10Percent10Minutes",
    "Canary10Percent15Minutes",
    "Canary10Percent30Minutes",
    "Linear10PercentEvery1Minute",
    "Linear10PercentEvery2Minutes",
    "Linear10PercentEvery3Minutes",
    "Linear10PercentEvery10Minutes",
    "AllAtOnce",
)
"""The presets of AWS SAM. Others of the same form work too."""


class Draft(NamedTuple):
    """The answers."""

    target: dict[str, str]
    """As in a request."""
    candidate: str
    """Number of a version, or ``latest``; of a service, family and revision."""
    strategy: str | dict[str, Any]
    alarms: Sequence[str] = ()
    evidence: Evidence = "none"
    before_traffic: Sequence[str] = ()
    """Functions that are hooks."""
    after_traffic: Sequence[str] = ()


def read_strategy(text: str) -> str | dict[str, Any]:
    """Return the strategy that a text gives: the name of a preset, or JSON as in a request.

    Raises
    ------
    Failure
        If it is neither.
    """
    given: Any = text
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except ValueError as error:
            raise Failure(f"--strategy: is not JSON: {error} (given {text[:200]})") from None
    try:
        TypeAdapter(Strategy).validate_python(given, by_alias=True, by_name=False)
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Failure(f"--strategy: {fault} (given {text[:200]})") from None
    strategy: str | dict[str, Any] = given
    return strategy


def meaning_of(strategy: str | dict[str, Any]) -> str:
    """Return what a strategy does, in words."""
    steps = steps_of_strategy(strategy)
    if not steps:
        return "all traffic at once"
    seconds = sum(step.bake_seconds for step in steps)
    if len(steps) == 1:
        return f"{steps[0].weight:g} % for {_time(seconds)}, then all traffic"
    first, second = steps[0], steps[1]
    return (
        f"{first.weight:g} %, then {second.weight:g} %, and so on: {len(steps)} steps in {_time(seconds)}, then all "
        "traffic"
    )


def steps_of_strategy(strategy: str | dict[str, Any]) -> tuple[Step, ...]:
    """Return the steps of a strategy as in a request."""
    return steps_of(TypeAdapter(Strategy).validate_python(strategy, by_alias=True, by_name=False))


def _time(seconds: int) -> str:
    if seconds % 60:
        return f"{seconds} s"
    return f"{seconds // 60} min"


def cloudwatch_can_judge(strategy: str | dict[str, Any]) -> bool:
    """Return whether the bakes are long enough for CloudWatch's counts by the minute."""
    steps = steps_of_strategy(strategy)
    compared = [step for step in steps if step.weight < 100 and step.bake_seconds]
    return bool(compared) and not any(is_too_short_for_cloudwatch(step) for step in steps)


def can_compare(strategy: str | dict[str, Any]) -> bool:
    """Return whether any step bakes with traffic on both versions."""
    return any(step.weight < 100 and step.bake_seconds for step in steps_of_strategy(strategy))


def request_text(draft: Draft, file: str, samples: Sequence[str] = ()) -> str:
    """Return the YAML of a request.

    Parameters
    ----------
    file
        What the file is called in the comments.
    samples
        Names of the sample hooks, which take a configuration that is worth showing.
    """
    shown = file if file != "-" else "request.yaml"
    parts = [
        "# A request for Headgate, written by headgate init. docs/request.md explains every field.",
        f"# Try it without an effect:  headgate plan --file {shown}",
        f"# Roll it out:               headgate start --file {shown} --wait",
        "",
        "# An id makes the request idempotent. Without one, each start is a rollout of its own.",
        "# id: checkout-42",
        "",
        *_target(draft),
        "",
        *_candidate(draft),
        "",
        f"# How traffic moves: {meaning_of(draft.strategy)}.",
        f"strategy: {_value(draft.strategy)}",
        "",
        *_guards(draft),
        "",
        *_hooks(draft, samples),
        "# After a failure, put the earlier version back at once. To wait for an operator first:",
        '# onFailure: {pause: {at: "zero", limitSeconds: 3600, then: "rollback"}}',
        "onFailure: rollback",
        "",
        '# If the target already has a rollout, wait in line. Or refuse the request: "refuse"',
        "onBusy: wait",
    ]
    return "\n".join(parts) + "\n"


def _target(draft: Draft) -> list[str]:
    what = {
        "event-source": "a consumer, by the UUID of its event source mapping",
        "lambda-alias": "an alias, whose weights shift traffic",
        "ecs-service": "an ECS service, whose listener rules shift traffic",
    }[draft.target["kind"]]
    fields = [f"  {name}: {_value(value)}" for name, value in draft.target.items()]
    return [f"# What to roll out on: {what}.", "target:", *fields]


def _candidate(draft: Draft) -> list[str]:
    if draft.target["kind"] == "ecs-service":
        return [
            "# What to roll out: a registered revision. For the one that runs with another image:",
            "# {revise: {images: {CONTAINER: IMAGE_URI}}}",
            f"candidate: {{taskDefinition: {_value(draft.candidate)}}}",
        ]
    if draft.candidate == "latest":
        return [
            "# What to roll out: what $LATEST holds when the rollout begins. For a published version: {version: \"7\"}",
            "candidate: {publish: {}}",
        ]  # fmt: skip
    return [
        "# What to roll out: a published version. For what $LATEST holds: {publish: {}}",
        f"candidate: {{version: {_value(draft.candidate)}}}",
    ]


def _guards(draft: Draft) -> list[str]:
    if draft.evidence == "none" and not draft.alarms:
        return [
            "# Nothing guards this rollout: name alarms, or compare errors, for example {errors: {}}.",
            "guards: none",
        ]
    lines = ["# What ends the rollout and puts the earlier version back.", "guards:"]
    if draft.alarms:
        lines += ["  # Each of these alarms ends it at once.", "  alarms:"]
        lines += [f"    - {_value(alarm)}" for alarm in draft.alarms]
    if draft.evidence != "none":
        speed = "within seconds" if draft.evidence == "telemetry" else "by the minute"
        if not can_compare(draft.strategy):
            lines.append("  # This compares nothing: no step of the strategy bakes with traffic on both versions.")
        lines += [
            f"  # Compare how often both versions fail, by counts {speed}. {{tolerate: 0.5}} allows 1.5 times as many.",
            "  errors: {}",
            f"  evidence: {draft.evidence}",
        ]
    return lines


def _hooks(draft: Draft, samples: Sequence[str]) -> list[str]:
    stages = {
        "beforeTraffic": ("before the candidate gets traffic", draft.before_traffic),
        "afterTraffic": ("after the promotion; if one fails, the rollout is rolled back", draft.after_traffic),
    }
    named = {stage: hooks for stage, (_, hooks) in stages.items() if hooks}
    if not named:
        return []
    lines = ["# Checks of your own.", "hooks:"]
    for stage, (when, _) in stages.items():
        if stage not in named:
            continue
        lines += [f"  # Run {when}.", f"  {stage}:"]
        for hook in named[stage]:
            lines += [f"    - lambda: {_value(hook)}", "      timeoutSeconds: 300"]
            if hook in samples:
                lines += [f"      config: {_sample_config(draft, stage)}"]
    return [*lines, ""]


def _sample_config(draft: Draft, stage: str) -> str:
    if draft.target["kind"] == "ecs-service":
        return '{path: "/", expectStatus: 200} # The candidate gets this request.'
    return SAMPLE_CONFIGS[stage]


SAMPLE_CONFIGS = {
    "beforeTraffic": "{cases: [{payload: {}}]} # The candidate is invoked with each payload.",
    "afterTraffic": "{payload: {}, invocations: 3} # The alias is invoked this often.",
}
"""Configuration of the sample hooks of functions, with a comment."""


def _value(value: str | dict[str, Any]) -> str:
    """Return a value in one line of YAML. Names come from the account, so that texts are always quoted."""
    if isinstance(value, dict):
        return json.dumps(value)
    return str(yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**6)).strip()


def checked(text: str) -> RolloutRequest:
    """Read the text as ``headgate start`` does.

    Raises
    ------
    Failure
        If it is not a valid request. The message names the field and the fix.
    """
    try:
        return read_request(yaml.safe_load(text), "headgate-init")
    except RequestRefused as refused:
        raise Failure(f"these answers make no valid request: {refused}") from None
