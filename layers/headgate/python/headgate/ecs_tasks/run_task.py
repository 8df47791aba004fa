"""The plan of a task: the parameters of RunTask from a request and its task definition."""

from __future__ import annotations

from typing import Any

from headgate.ecs_tasks.checks import refuse_what_ecs_would
from headgate.ecs_tasks.logs import LogStream, log_streams_of
from headgate.ecs_tasks.overrides import containers_of, run_overrides
from headgate.ecs_tasks.request import (
    CapacityProvider,
    PlacementStrategy,
    RetryBackoff,
    RetryStrategy,
    TaskRequest,
    to_ecs_overrides,
)
from headgate.ecs_tasks.tags import EXECUTION_TAG, REQUEST_TAG
from headgate.wire import Wire


class TaskPlan(Wire):
    """Everything needed to run a task, fixed at the start."""

    id: str
    cluster: str
    task_definition: str
    count: int
    numbers: list[int]
    """Number of each task, from 1. The machine maps over them."""
    timeout_seconds: int
    retry: RetryStrategy
    backoff: RetryBackoff
    parameters: dict[str, Any]
    """Parameters of RunTask in Step Functions' spelling. The machine adds the tag with the number."""
    providers: list[str] | None = None
    """Capacity provider of each task by its number; None if ECS chooses."""
    fallback: dict[str, Any] | None = None
    """Parameters of RunTask on FARGATE, if the request has the fallback."""
    essential: list[str]
    """Names of the essential containers."""
    logs: list[LogStream] = []


def make_task_plan(request: TaskRequest, definition: dict[str, Any], execution: str, *, roles: str = "*") -> TaskPlan:
    """Make the plan of a request.

    Parameters
    ----------
    definition
        The task definition as DescribeTaskDefinition returns it.
    execution
        ARN of the execution, with which every task is tagged.
    roles
        Pattern of the names, with paths, of the roles that a task may use; empty allows none.

    Raises
    ------
    RequestRefused
        If ECS would refuse the task, or run something else than intended.
    """
    refuse_what_ecs_would(request, definition, execution, roles=roles)
    parameters = _parameters(request, definition, execution)
    return TaskPlan(
        id=request.id,
        cluster=request.cluster,
        task_definition=definition["taskDefinitionArn"],
        count=request.count,
        numbers=list(range(1, request.count + 1)),
        timeout_seconds=request.timeout_seconds,
        retry=request.retry,
        backoff=request.backoff,
        parameters=parameters,
        providers=_dealt_providers(request.capacity_provider_strategy, request.count),
        fallback=_on_demand(parameters) if request.fallback else None,
        essential=[each["name"] for each in containers_of(definition) if each.get("essential", True)],
        logs=log_streams_of(definition),
    )


def _parameters(request: TaskRequest, definition: dict[str, Any], execution: str) -> dict[str, Any]:
    tags = {**request.tags, EXECUTION_TAG: execution, REQUEST_TAG: request.id}
    given: dict[str, Any] = {
        "Cluster": request.cluster,
        "TaskDefinition": definition["taskDefinitionArn"],
        "LaunchType": request.launch_type,
        "CapacityProviderStrategy": [
            {
                "CapacityProvider": item.provider,
                **({"Base": item.base} if item.base is not None else {}),
                **({"Weight": weight} if weight is not None else {}),
            }
            for item, weight in _weighted_providers(request.capacity_provider_strategy)
        ],
        "PlatformVersion": request.platform_version,
        "NetworkConfiguration": _network_parameters(request),
        "Overrides": to_ecs_overrides(run_overrides(request, definition)),
        "PlacementStrategy": [
            {"Type": each.type, **({"Field": _overridden_field(each)} if each.field else {})}
            for each in request.placement_strategy
        ],
        "PlacementConstraints": [
            {"Type": each.type, **({"Expression": each.expression} if each.expression else {})}
            for each in request.placement_constraints
        ],
        "Group": request.group,
        "PropagateTags": request.propagate_tags if request.propagate_tags != "NONE" else None,
        "EnableExecuteCommand": request.enable_execute_command or None,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    return {name: value for name, value in given.items() if value not in (None, [], {})}


def _overridden_field(strategy: PlacementStrategy) -> str | None:
    """Return the field of a placement strategy. RunTask documents cpu and memory only in lower case."""
    return strategy.field.lower() if strategy.type == "binpack" and strategy.field else strategy.field


def _weighted_providers(strategy: list[CapacityProvider]) -> list[tuple[CapacityProvider, int | None]]:
    """Return the providers with weights. A single provider gets 1, because ECS refuses a strategy of weight 0."""
    if len(strategy) == 1 and strategy[0].weight is None:
        return [(strategy[0], 1)]
    return [(item, item.weight) for item in strategy]


def _dealt_providers(strategy: list[CapacityProvider], count: int) -> list[str] | None:
    """Return the provider of each task of a count.

    Each task has its own RunTask, which would apply the base again and cannot split one task by weight. So the tasks
    are distributed here: the base first, then by the largest weight per task that a provider has.
    """
    if count == 1 or len(strategy) < 2:
        return None
    dealt = [item.provider for item in strategy for _ in range(min(item.base or 0, count))]
    given = [0] * len(strategy)
    while len(dealt) < count:
        place = max(range(len(strategy)), key=lambda each: (strategy[each].weight or 0) / (given[each] + 1))
        given[place] += 1
        dealt.append(strategy[place].provider)
    return dealt


def _network_parameters(request: TaskRequest) -> dict[str, Any] | None:
    given = request.network_configuration
    if given is None:
        return None
    public = "ENABLED" if given.assign_public_ip else "DISABLED"
    return {
        "AwsvpcConfiguration": {
            "Subnets": given.subnets,
            **({"SecurityGroups": given.security_groups} if given.security_groups else {}),
            # Always set: the default of RunTask is not documented.
            "AssignPublicIp": public,
        }
    }


def _on_demand(parameters: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in parameters.items() if name != "CapacityProviderStrategy"}
    return {**kept, "LaunchType": "FARGATE"}
