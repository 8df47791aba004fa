"""Names the options of a request in refusals, which name its fields: who gave ``--keep`` knows no ``keepSeconds``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from headgate_cli.requesting import CANDIDATES, GUARDS, HOOK_STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_LAMBDA = ("version", "publish", "confirm", "s3")
"""Options with a candidate that no ECS service has, by their parameters."""

FIELDS_OF_OPTIONS = {
    "id": ("--id", ("id",)),
    "mapping": ("--mapping", ("target.mapping",)),
    "source": ("--source", ("target.mapping",)),
    "service": ("--service", ("target.service", "target.cluster")),
    "mode": ("--mode", ("target.mode",)),
    "keep": ("--keep", ("target.keepSeconds",)),
    **{name: (option, ("candidate",)) for name, option in CANDIDATES.items()},
    "strategy": ("--strategy", ("strategy",)),
    "alarms": (GUARDS["alarms"], ("guards.alarms",)),
    "strict_alarms": (GUARDS["strict_alarms"], ("guards.strictAlarms",)),
    "errors": (GUARDS["errors"], ("guards.errors",)),
    "latency": (GUARDS["latency"], ("guards.latency",)),
    "tolerate": (GUARDS["tolerate"], ("guards.errors.tolerate", "guards.latency.tolerate")),
    "evidence": (GUARDS["evidence"], ("guards.evidence",)),
    "alpha": (GUARDS["alpha"], ("guards.alpha",)),
    "on_no_data": (GUARDS["on_no_data"], ("guards.onNoData",)),
    "no_guards": ("--no-guards", ("guards",)),
    **{name: (f"--{name.replace('_', '-')}", (f"hooks.{field}",)) for name, (field, _) in HOOK_STAGES.items()},
    "pause_on_failure": ("--pause-on-failure", ("onFailure",)),
    "pause_limit": ("--pause-limit", ("onFailure.pause.limitSeconds",)),
    "on_busy": ("--on-busy", ("onBusy",)),
    "after_promotion": ("--after-promotion", ("afterPromotion", "afterPromotion.hours")),
    "after_promotion_then": ("--after-promotion-then", ("afterPromotion.then",)),
}
"""By the parameter of an option: the option, and the fields of a request that it sets."""

_FIELD = re.compile(r"(?<![\w.(])[a-z]\w*(?:\.\w+|\[\d+\])*(?=: )", re.ASCII)
"""A field at the beginning of a fault, which ends with a colon."""


def with_options(refusal: str, asked: Mapping[str, Any]) -> str:
    """Return a refusal with the option before each field that an option gave: ``--keep (target.keepSeconds): ...``.

    Parameters
    ----------
    asked
        The values of ``request_options``.
    """
    given = {
        field: option
        for name, (option, fields) in FIELDS_OF_OPTIONS.items()
        if asked.get(name) not in (None, False, (), "")
        for field in fields
    }

    def named(match: re.Match[str]) -> str:
        field = match[0]
        setting = [each for each in given if re.match(rf"{re.escape(each)}(?![\w])", field)]
        if not setting:
            return field
        option = given[max(setting, key=len)]
        return option if option == f"--{field}" else f"{option} ({field})"

    return _FIELD.sub(named, refusal)


def refuse_options_of_other_kinds(kind: object, asked: Mapping[str, Any]) -> None:
    """Refuse options that the kind of target does not have, before a refusal names fields that nobody wrote.

    Raises
    ------
    click.UsageError
        The message names the option and what to give instead.
    """
    for fault in _faults_of_service(asked) if kind == "ecs-service" else _faults_of_function(kind, asked):
        raise click.UsageError(fault)


def _faults_of_service(asked: Mapping[str, Any]) -> Iterator[str]:
    if wrong := [CANDIDATES[name] for name in _OF_LAMBDA if asked[name]]:
        yield (
            f"{' and '.join(wrong)}: is for Lambda functions, and the target is an ECS service; give "
            "--task-definition FAMILY:NUMBER, or --image CONTAINER=URI"
        )
    if bare := next((each for each in asked["images"] if "=" not in each), None):
        yield f"--image: name the container, as in app={bare}"
    if asked["mode"]:
        yield "--mode: is for consumers, and the target is an ECS service; leave it out"


def _faults_of_function(kind: object, asked: Mapping[str, Any]) -> Iterator[str]:
    if kind not in ("lambda-alias", "event-source"):
        return  # The reader of the request says what is wrong with the target.
    if asked["keep"] is not None:
        yield "--keep: is for ECS services, and the target is none; leave it out"
    if asked["task_definition"]:
        yield (
            "--task-definition: is for ECS services, and the target is none; give --version, --publish, --s3 or "
            "--image URI"
        )
    if asked["mode"] and kind == "lambda-alias":
        yield "--mode: is for consumers, and the target is an alias; leave it out"
