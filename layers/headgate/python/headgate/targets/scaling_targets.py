"""Scalable targets of Application Auto Scaling: versions whose provisioned concurrency it changes.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger

if TYPE_CHECKING:
    from headgate.spec.targets import LambdaAliasTarget


class ScalingTargets:
    """Finds the scalable targets of a function's versions.

    Parameters
    ----------
    client
        A client of Application Auto Scaling.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def warnings_about(self, target: LambdaAliasTarget, *versions: str) -> list[str]:
        """Return a warning for each version that is a scalable target. They never stop the rollout."""
        resources = [f"function:{target.name}:{version}" for version in versions]
        try:
            found = self._client.describe_scalable_targets(
                ServiceNamespace="lambda",
                ScalableDimension="lambda:function:ProvisionedConcurrency",
                ResourceIds=resources,
            )["ScalableTargets"]
        except Exception as error:  # noqa: BLE001 - the rollout continues without the warning
            logger.warning("the scalable targets could not be looked up", resources=resources, reason=str(error))
            return []
        warnings = [_warning(each) for each in found]
        for warning in warnings:
            logger.warning(warning)
        return warnings


def _warning(found: dict[str, Any]) -> str:
    _, function, version = found["ResourceId"].split(":")
    return (
        f"target.function: Application Auto Scaling keeps the provisioned concurrency of version {version} of "
        f"{function} between {found['MinCapacity']} and {found['MaxCapacity']}, and Headgate does not move that "
        "scalable target; after the rollout, register the version that serves (register-scalable-target) and "
        "deregister the other one (deregister-scalable-target)"
    )
