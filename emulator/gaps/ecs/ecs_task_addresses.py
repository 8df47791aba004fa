"""Containers of awsvpc tasks can be reached from this machine.

On AWS, an awsvpc task has an address of its own in the VPC, on which its containers' ports are open
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-networking.html). MiniStack tells the container's
address in Docker's network, which this machine can reach only if the engine has set up routes. Here the ports are
published on a loopback address that the task has for itself, and that is its address.

Seams: `ecs._build_run_kwargs`, which determines how Docker starts a container, `ecs._container_ip`, and
`ecs._cleanup_task_resources`, which is called when a task has ended.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import ecs

from emulator.gaps import seams
from emulator.gaps.ecs.process_engine import TASK_LABEL
from emulator.gaps.ecs.task_addresses import book

GAP = "ecs_task_addresses"
_PARAMETERS = "cdef, td, env, port_bindings, ecs_network, host_mode, task_id, task_arn, ministack_net_ip, cluster_arn"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_build_run_kwargs", _PARAMETERS, _published)
    seams.wrap(GAP, ecs, "_container_ip", "container, ecs_network", _address)
    seams.wrap(GAP, ecs, "_cleanup_task_resources", "task, docker_client, extra_container", _release)


def _published(original: Callable[..., Any], cdef: dict[str, Any], td: dict[str, Any], *rest: Any) -> dict[str, Any]:
    started: dict[str, Any] = original(cdef, td, *rest)
    ports = [each["containerPort"] for each in cdef.get("portMappings", [])]
    if td.get("networkMode") == "awsvpc" and ports:
        address = book.of(started["labels"][TASK_LABEL])
        started["ports"] = {f"{port}/tcp": (address, port) for port in ports}
    return started


def _address(original: Callable[..., Any], container: Any, ecs_network: Any) -> Any:
    return book.known(container.labels.get(TASK_LABEL, "")) or original(container, ecs_network)


def _release(original: Callable[..., Any], task: dict[str, Any], *rest: Any, **named: Any) -> Any:
    try:
        return original(task, *rest, **named)
    finally:
        book.release(task["taskArn"])
