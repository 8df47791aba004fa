"""Overrides of a task."""

from __future__ import annotations

from typing import Any

from headgate.ecs_tasks.request import ContainerOverride, Overrides, TaskRequest


def containers_of(definition: dict[str, Any]) -> list[dict[str, Any]]:
    return list(definition.get("containerDefinitions", []))


def run_overrides(request: TaskRequest, definition: dict[str, Any]) -> Overrides:
    """Return the overrides with the request's environment added to every container."""
    if not request.environment:
        return request.overrides
    own = request.overrides.containers
    containers = {}
    for name in (each["name"] for each in containers_of(definition)):
        override = own.get(name) or ContainerOverride()
        containers[name] = override.model_copy(update={"environment": request.environment | override.environment})
    return request.overrides.model_copy(update={"containers": containers})
