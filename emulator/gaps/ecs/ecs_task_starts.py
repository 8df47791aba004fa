"""A task that cannot start has the reason and leaves no container.

On AWS, such a task stops with the code TaskFailedToStart and no exit code. The reason begins with
CannotPullContainerError if its image could not be pulled, and with CannotStartContainerError if the container could not
be started (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html). MiniStack calls
both ResourceInitializationError and leaves the container that could not be started.

Seams: `ecs._run_docker_container`, which pulls, creates and starts, and `ecs._fail_task_start`, which gets the reason.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from ministack.services import ecs

from emulator.gaps import seams

GAP = "ecs_task_starts"
CANNOT_START = "CannotStartContainerError: "
_OPTIONS = "refresh_image, allow_cached, cache_image, fallback_image, auth_config"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_run_docker_container", f"docker_client, cdef, run_kwargs, {_OPTIONS}", _run)
    seams.wrap(GAP, ecs, "_fail_task_start", "task, docker_client, reason", _fail)
    if not isinstance(getattr(ecs, "_ImagePullError", None), type):
        raise seams.SeamMissing(GAP, "ecs._ImagePullError", "has no class")


def _run(original: Callable[..., Any], docker_client: Any, cdef: Any, run_kwargs: Any, **options: Any) -> Any:
    if not options.get("refresh_image"):
        _pull_if_missing(docker_client, cdef["image"])
    try:
        return original(docker_client, cdef, run_kwargs, **options)
    except ecs._ImagePullError:
        raise
    except Exception as error:
        # Docker has already created it. Find it by its name.
        with contextlib.suppress(Exception):
            docker_client.containers.get(run_kwargs["name"]).remove(force=True, v=True)
        raise RuntimeError(f"{CANNOT_START}{error}") from error


def _pull_if_missing(docker_client: Any, image: str) -> None:
    from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]

    try:
        docker_client.images.get(image)
    except ImageNotFound:
        try:
            docker_client.images.pull(image)
        except (DockerException, OSError) as error:
            raise ecs._ImagePullError(f"pull image manifest has been retried 1 time(s): {error}") from error


def _fail(original: Callable[..., Any], task: Any, docker_client: Any, reason: str) -> None:
    _, found, why = reason.partition(CANNOT_START)
    original(task, docker_client, f"{found}{why}" if found else reason)
