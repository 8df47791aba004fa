"""A container definition's entryPoint.

On AWS it takes the place of the image's ENTRYPOINT, as `command` does of its CMD
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html). MiniStack stores it, and
starts the container with the image's own.

Seam: `ecs._build_run_kwargs`, which says how Docker starts a container.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import ecs

from local.embedded.gaps import seams

GAP = "ecs_entry_points"
_PARAMETERS = "cdef, td, env, port_bindings, ecs_network, host_mode, task_id, task_arn, ministack_net_ip, cluster_arn"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_build_run_kwargs", _PARAMETERS, _with_entry_point)


def _with_entry_point(original: Callable[..., Any], cdef: dict[str, Any], *rest: Any) -> dict[str, Any]:
    started: dict[str, Any] = original(cdef, *rest)
    if cdef.get("entryPoint"):
        started["entrypoint"] = cdef["entryPoint"]
    return started
