"""Scale-in of a service during a rollout: without requests, the revision that is kept would be scaled in.

AWS suspends scale-in during its own deployments, but not for the controller EXTERNAL, nor for a second service:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-auto-scaling.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.spec.targets import EcsServiceTarget

_SCALE_IN = "DynamicScalingInSuspended"
_SUSPENDABLE = (_SCALE_IN, "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


class ScaleIn:
    """Suspends scale-in of a service, and gives it back.

    Parameters
    ----------
    client
        A client of Application Auto Scaling.
    """

    def __init__(self, client: Any, target: EcsServiceTarget, still_ours: Callable[[], None]) -> None:
        self._client = client
        self._still_ours = still_ours
        self._key = {
            "ServiceNamespace": "ecs",
            "ResourceId": f"service/{target.cluster_name}/{target.name}",
            "ScalableDimension": "ecs:service:DesiredCount",
        }

    def is_on(self) -> bool:
        """Return whether the service is scaled in. Without a scalable target it is not."""
        suspended = self._suspended()
        return suspended is not None and not suspended[_SCALE_IN]

    def suspend(self) -> None:
        """Suspend scale-in, unless it is suspended already."""
        self._set(suspended=True)

    def resume(self) -> None:
        """Let the service be scaled in again."""
        self._set(suspended=False)

    def _set(self, *, suspended: bool) -> None:
        found = self._suspended()
        if found is None or found[_SCALE_IN] is suspended:
            return
        self._still_ours()
        # Whether what is left out is resumed is not documented, so what else is suspended is sent back. Without
        # a range, the range stays: https://docs.aws.amazon.com/autoscaling/application/APIReference/API_RegisterScalableTarget.html
        self._client.register_scalable_target(**self._key, SuspendedState={**found, _SCALE_IN: suspended})

    def _suspended(self) -> dict[str, bool] | None:
        """Return what is suspended; None if the service has no scalable target."""
        key = {**self._key, "ResourceIds": [self._key["ResourceId"]]}
        del key["ResourceId"]
        found = self._client.describe_scalable_targets(**key)["ScalableTargets"]
        if not found:
            return None
        state = found[0].get("SuspendedState") or {}
        return {name: bool(state.get(name)) for name in _SUSPENDABLE}
