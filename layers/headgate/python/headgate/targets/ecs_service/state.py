"""State of an ECS service between calls of its driver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.routing import Way
from headgate.spec.target_state import TargetState
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ecs_tasks.limits import TaskLimits


class GroupWeight(Wire):
    """A target group of a listener rule, with its weight."""

    group: str
    """ARN of the target group."""
    weight: int


class ServiceState(TargetState):
    """State of the service between calls of the driver. Revisions are texts ``family:revision``."""

    stable: str
    way: Way
    green: str
    """Name of the green service, or external ID of the candidate's task set. On record before it is created."""
    stable_task_set: str | None = None
    """ARN of the task set that served when the rollout began; None for a service without task sets."""
    scale_in_held: bool = False
    """True if this rollout may have suspended scale-in of the service, which was not suspended before."""
    test_rules: dict[str, list[GroupWeight]] | None = None
    """What the test rules forwarded to before this rollout changed them; None until it does."""
    replaced: bool = False
    """True if the original service may have got the candidate's revision, or the stable task set may be gone."""
    replaced_at: int = 0
    """Time at which the driver first waited for the candidate's revision to be that of the service, in seconds since
    1970."""
    taken_home: bool = False
    """True if the requests may have returned to the original service's target groups after the promotion."""
    home_at: int = 0
    """Time at which they had returned, in seconds since 1970."""
    must_release: bool = False

    @property
    def known_candidate(self) -> str:
        """The candidate's revision, which must be registered."""
        if self.candidate is None:
            raise RequestRefused("candidate: it was not registered yet")
        return self.candidate


class ServiceServices(NamedTuple):
    """AWS services and settings of the driver."""

    ecs: Any
    elb: Any
    scaling: Any
    """Client of Application Auto Scaling."""
    logs: Any
    limits: TaskLimits
    """Which task definitions and roles a revised task definition may have."""
    weight_settle_seconds: int
    """How long the nodes of a load balancer may take to split requests by new weights. AWS gives no figure."""
    now: Callable[[], float] = time.time
