"""The entry point and memory of a container definition.

On AWS, entryPoint replaces the image's ENTRYPOINT, as `command` replaces its CMD, and a container that needs more than
its `memory`, in MiB, is killed; on Fargate the task's memory is the limit of all containers together
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html). MiniStack stores both, but
starts the container with the image's entry point and without a limit. Here, each container without its own limit may
use as much as the task. The memory of an override is ignored.

Seam: `ecs._build_run_kwargs`, which determines how Docker starts a container.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import ecs

from emulator.gaps import seams

GAP = "ecs_containers"
_PARAMETERS = "cdef, td, env, port_bindings, ecs_network, host_mode, task_id, task_arn, ministack_net_ip, cluster_arn"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_build_run_kwargs", _PARAMETERS, _as_defined)


def _as_defined(original: Callable[..., Any], cdef: dict[str, Any], td: dict[str, Any], *rest: Any) -> dict[str, Any]:
    started: dict[str, Any] = original(cdef, td, *rest)
    if cdef.get("entryPoint"):
        started["entrypoint"] = cdef["entryPoint"]
    if memory := cdef.get("memory") or td.get("memory"):
        # No swap: by default Docker grants the same amount again.
        started["mem_limit"] = started["memswap_limit"] = f"{memory}m"
    return started
