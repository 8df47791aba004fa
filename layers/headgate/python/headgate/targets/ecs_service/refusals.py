"""Errors of ECS, Elastic Load Balancing and Application Auto Scaling: what they mean for a rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.errors import code_of, is_denied, message_of
from headgate.errors import HeadgateError, RequestRefused, TargetChanged
from headgate.targets.progress import Pending

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestLimitExceeded",
    "TooManyRequestsException",
)

_PASSING = (
    "ServerException",
    "InternalFailure",
    "InternalServiceException",
    "ServiceUnavailable",
    # Another change of the same scalable target.
    "ConcurrentUpdateException",
)

_GONE = (
    "ClusterNotFoundException",
    "ServiceNotFoundException",
    "ServiceNotActiveException",
    "TaskSetNotFoundException",
    "RuleNotFound",
    "ListenerNotFound",
    "LoadBalancerNotFound",
    "TargetGroupNotFound",
)

_FIELDS = {
    "CreateTaskSet": "candidate",
    "CreateService": "candidate",
    "UpdateService": "candidate",
    "UpdateTaskSet": "target.scale",
    "ModifyRule": "target.rules",
    "ModifyListener": "target.rules",
    "DescribeRules": "target.rules",
    "DescribeListeners": "target.rules",
    "DescribeTargetHealth": "target.rules",
    "RegisterTaskDefinition": "candidate.revise",
}
"""Field of the request that an operation depends on; ``target.service`` for the others."""

_PARAMETERS = {
    "ModifyRule": "TargetRules",
    "ModifyListener": "TargetRules",
    "RegisterTaskDefinition": "TaskDefinitions",
    "GetLogEvents": "TaskLogGroups",
}
"""Headgate's parameter that allows an operation; ``TargetServices`` and ``TargetClusters`` for the others."""


def pending_after(error: ClientError, action: str) -> Pending[Any]:
    """Return what to wait for after an error that passes.

    Raises
    ------
    RequestRefused
        During ``prepare``, ``release`` and ``restore``, after any other error; during a step, if access is denied.
    TargetChanged
        After ``prepare``, if something is gone that was there.
    ClientError
        If it is none of these. The machine repeats a rollback after any error, but not after one of the others.
    """
    code, operation = code_of(error), error.operation_name
    if code in _THROTTLED:
        return Pending(None, f"{action}: AWS throttles {operation}; other callers use up its rate", limited=False)
    if code in _PASSING or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400) >= 500:
        return Pending(None, f"{action}: {operation} failed: {message_of(error)}")
    if action == "prepare":
        raise _refusal(error) from None
    if code in _GONE:
        raise TargetChanged(f"{operation}: {message_of(error)}; it was there when the rollout began") from None
    if action in ("release", "restore") or (is_denied(error) and action != "rollback"):
        raise _refusal(error) from None
    raise error


def lasting(error: ClientError, action: str) -> HeadgateError:
    """Return what an error means that does not pass. Raise one that passes."""
    try:
        pending_after(error, action)
    except (RequestRefused, TargetChanged) as meaning:
        return meaning
    raise error


def _refusal(error: ClientError) -> RequestRefused:
    operation, message = error.operation_name, message_of(error)
    field = _FIELDS.get(operation, "target.service")
    if not is_denied(error):
        return RequestRefused(f"{field}: {operation} was refused: {message}")
    parameter = _PARAMETERS.get(operation, "TargetServices and TargetClusters")
    if "iam:PassRole" in message:
        parameter = "TaskRoles"
    return RequestRefused(
        f"{field}: Headgate may not call {operation}; deploy Headgate with {parameter} set so that it covers this "
        f"rollout: {message}"
    )
