"""Checks of an ECS service. Each judges what a reader has collected.

What a plan refuses is a fault here, and what it warns about is a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.telemetry_notes import RECENT_SECONDS
from headgate.targets.ecs_service.ways import name_of
from headgate_cli.doctor.findings import Found, fault, ok, warning
from headgate_cli.doctor.targets import WATCHED_MINUTES, EvidenceFacts, check_permission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from headgate.spec.targets import EcsServiceTarget
    from headgate.targets.ecs_service.lookup import ServiceFacts

DIMENSION = "ecs:service:DesiredCount"

SCALE_IN = "DynamicScalingInSuspended"
SUSPENDABLE = (SCALE_IN, "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


class LeftService(NamedTuple):
    """A second service that a rollout has created, and that no running rollout has."""

    name: str
    cluster: str
    rollout: str
    """Id of the rollout that created it."""
    tasks: int
    rules: Sequence[str]
    """Listener rules that send requests to it."""


def check_names(target: EcsServiceTarget, parameters: Mapping[str, str]) -> list[Found]:
    """Check that the stack's parameters cover the service and its cluster."""
    found = check_permission("TargetServices", parameters.get("TargetServices", ""), target.name)
    if parameters.get("TargetServices"):
        found += check_permission("TargetClusters", parameters.get("TargetClusters", ""), target.cluster_name)
    return found


def check_service(found: ServiceFacts | str, rollout: str) -> list[Found]:
    """Judge whether the service can be rolled out, as a plan does.

    Parameters
    ----------
    rollout
        The rollout that moves it; empty if none does.
    """
    if rollout:
        return [ok(f"rollout {rollout} moves the service now, so it is not checked whether another one could")]
    if isinstance(found, str):
        return [_told(found, fault)]
    serves = f"serves {found.stable} with {found.desired} task{'' if found.desired == 1 else 's'}"
    notes = [ok(_without_field(note)) for note in found.notes]
    return [ok(f"{found.target.name} {serves}"), *notes, *(_told(each, warning) for each in found.warnings)]


def check_balancers(facts: ServiceFacts, pattern: str) -> list[Found]:
    """Check that TargetRules covers the load balancers whose weights a rollout moves."""
    names = dict.fromkeys(name_of(pair.load_balancer) for pair in facts.routing.pairs)
    return [each for name in names for each in check_permission("TargetRules", pattern, name)]


def check_stacks(name: str, warnings: Sequence[str]) -> list[Found]:
    """Tell of the stacks whose deployment undoes a rollout. It is no problem while no rollout moves the service.

    They own it rightly: only what a deployment does during or after a rollout matters, and the plan warns of it.
    """
    told = [ok(f"for the next rollout: {_without_field(each)}") for each in warnings]
    return told or [ok(f"{name} and its listener rules belong to no stack")]


def check_left(name: str, left: Sequence[LeftService]) -> list[Found]:
    """Judge second services that were left, for example by a rollout that was stopped."""
    found = []
    for each in left:
        what = (
            f"{each.name}, which rollout {each.rollout} created beside {name}, is still there with {each.tasks} tasks"
        )
        delete = f"aws ecs delete-service --cluster {each.cluster} --service {each.name} --force"
        if each.rules:
            # No command: it would replace all actions of a rule, which differ from rule to rule.
            back = (
                f"first set the weights in them to 100 for the target group of {name} and 0 for the other one "
                f"(docs/operate.md, After the rollout of an ECS service), then delete {each.name} ({delete})"
            )
            found.append(fault(f"{what}, and {', '.join(each.rules)} send requests to it", back))
        else:
            found.append(fault(f"{what} and without requests", f"delete it ({delete})"))
    return found or [ok(f"no second service of an earlier rollout is left beside {name}")]


def check_scaling(target: EcsServiceTarget, suspended: Mapping[str, bool] | None, rollout: str) -> list[Found]:
    """Judge whether the service is scaled in again after a rollout.

    Parameters
    ----------
    suspended
        What is suspended; None if the service is not scaled.
    rollout
        The rollout that moves it; empty if none does.
    """
    name = target.name
    if suspended is None:
        return [ok(f"Application Auto Scaling does not scale {name}")]
    if not suspended.get(SCALE_IN):
        return [ok(f"{name} is scaled in and out; a rollout suspends scale-in and resumes it")]
    if rollout:
        return [ok(f"scale-in of {name} is suspended while rollout {rollout} moves it")]
    # What the call leaves out would be resumed.
    state = {**{each: bool(suspended.get(each)) for each in SUSPENDABLE}, SCALE_IN: False}
    given = ",".join(f"{each}={str(value).lower()}" for each, value in state.items())
    fix = (
        "if a stopped rollout has left it so, resume it (aws application-autoscaling register-scalable-target "
        f"--service-namespace ecs --resource-id service/{target.cluster_name}/{name} --scalable-dimension {DIMENSION} "
        f"--suspended-state {given})"
    )
    return [warning(f"scale-in of {name} is suspended, and no rollout moves the service", fix)]


def check_evidence(name: str, evidence: EvidenceFacts, now: datetime) -> list[Found]:
    """Judge where the counts of both revisions come from."""
    requests = evidence.invocations.get("all", 0)
    counted = (
        f"CloudWatch counts {requests or 'no'} requests to the target groups of {name} in {WATCHED_MINUTES} minutes"
    )
    idle = "send requests through the load balancer: only those are split and counted"
    found = [ok(counted) if requests else warning(counted, idle)]
    if evidence.seen_at is not None and (now - evidence.seen_at).total_seconds() < RECENT_SECONDS:
        return [*found, ok(f"{name} sends telemetry")]
    if not evidence.telemetry:
        by_minute = "CloudWatch counts by the minute, so each step must bake for at least 300 s"
        return [*found, ok(f"the stack has no telemetry stream (Telemetry=false): {by_minute}")]
    fix = "add Headgate's telemetry to the containers (docs/telemetry.md), or set guards.evidence to cloudwatch"
    return [*found, warning(f"{name} has sent no telemetry for a day", fix)]


def _told(message: str, severity: Callable[[str, str], Found]) -> Found:
    """Return a refusal or warning, ``field: what is wrong; how to correct it``, as a finding."""
    what, _, fix = _without_field(message).rpartition("; ")
    return severity(what, fix) if what else severity(fix, "choose another service")


def _without_field(message: str) -> str:
    """Return a message without the field of a request, which a check does not have."""
    field, _, rest = message.partition(": ")
    return rest if field.startswith("target.") else message
