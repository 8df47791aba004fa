"""Checks of a valid request for an ECS service, whose fields may contradict each other."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from headgate.errors import RequestRefused
from headgate.spec.candidate import ReviseTaskDefinition
from headgate.spec.routing import green_name, service_of_green
from headgate.spec.strategy import MAX_BAKE_SECONDS
from headgate.spec.targets import cluster_in_service_arn, place_of_arn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.candidate import Candidate
    from headgate.spec.strategy import Step
    from headgate.spec.targets import EcsServiceTarget

SMALLEST_STEP = Decimal("0.1")
"""Load balancers take whole numbers up to 999 as weights, which write a percentage with one decimal."""

MAX_SERVICE_NAME = 255 - len(green_name("", ""))
"""Maximum characters of a service's name, so that the green service's name has at most 255."""


def refuse_faulty_service_request(target: EcsServiceTarget, candidate: Candidate, steps: tuple[Step, ...]) -> None:
    """Refuse a request for a service that cannot be carried out, whatever the service is.

    Raises
    ------
    RequestRefused
        The message names the field, its value and the fix.
    """
    for check in (_name_faults, _place_faults, _rule_faults):
        for fault in check(target):
            raise RequestRefused(fault)
    for fault in (*_weight_faults(steps), *_keep_faults(steps, target), *_size_faults(candidate)):
        raise RequestRefused(fault)


def _name_faults(target: EcsServiceTarget) -> Iterator[str]:
    if original := service_of_green(target.name):
        yield (
            f"target.service: {target.name} is named like a service that Headgate creates for a rollout and deletes "
            f"after it; name the original service, as in {original}"
        )
    if len(target.name) > MAX_SERVICE_NAME:
        yield (
            f"target.service: the name has {len(target.name)} characters; at most {MAX_SERVICE_NAME} are supported, "
            "because a rollout adds 12 for the second service; use a service with a shorter name"
        )


def _place_faults(target: EcsServiceTarget) -> Iterator[str]:
    named = cluster_in_service_arn(target.service)
    if named not in (None, target.cluster_name):
        yield (f"target.cluster: is {target.cluster_name}, but the ARN in target.service is of {named}; name that one")
    places = {
        place
        for arn in (target.service, target.cluster, *target.rules, *target.test_rules)
        if (place := place_of_arn(arn))
    }
    if len(places) > 1:
        found = " and ".join(sorted(", ".join(place) for place in places))
        yield f"target: its ARNs are of different accounts or Regions ({found}); name resources of a single one"


def _rule_faults(target: EcsServiceTarget) -> Iterator[str]:
    for field, rules in (("rules", target.rules), ("testRules", target.test_rules)):
        if twice := next((rule for rule in rules if rules.count(rule) > 1), None):
            yield f"target.{field}: {twice} is named twice; name it once"
    if both := next((rule for rule in target.test_rules if rule in target.rules), None):
        yield (
            f"target.testRules: {both} is also in target.rules, so it would send users to the candidate before the "
            "first step; remove it from one of them"
        )


def _weight_faults(steps: tuple[Step, ...]) -> Iterator[str]:
    for number, step in enumerate(steps):
        weight = Decimal(str(step.weight))
        if weight % SMALLEST_STEP:
            fitting = min(max(round(weight, 1), SMALLEST_STEP), 100 - SMALLEST_STEP)
            yield (
                f"strategy: steps[{number}].weight: is {step.weight:g}, but load balancers split in steps of "
                f"{SMALLEST_STEP} %; use {fitting}"
            )


def _keep_faults(steps: tuple[Step, ...], target: EcsServiceTarget) -> Iterator[str]:
    bakes = sum(step.bake_seconds for step in steps)
    if bakes + target.keep_seconds > MAX_BAKE_SECONDS:
        yield (
            f"target.keepSeconds: {target.keep_seconds} s after {bakes} s of bakes are more than {MAX_BAKE_SECONDS} "
            f"(one year); use at most {MAX_BAKE_SECONDS - bakes}"
        )


def _size_faults(candidate: Candidate) -> Iterator[str]:
    if not isinstance(candidate, ReviseTaskDefinition):
        return
    from headgate.ecs_tasks.request import size_units

    sizes = {"cpu": '"256" (CPU units) or "0.25 vCPU"', "memory": '"512" (MiB) or "0.5 GB"'}
    for field, example in sizes.items():
        given = getattr(candidate.revise, field)
        try:
            size_units(given)
        except ValueError:
            yield f"candidate.revise.{field}: must be like {example} (given {given})"
