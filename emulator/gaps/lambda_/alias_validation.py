"""Validation of aliases.

AWS refuses an alias to a version that does not exist (ResourceNotFoundException), and a RoutingConfig with more than
one additional version, with $LATEST, with the alias's own version, or with a weight outside 0.0 to 1.0
(InvalidParameterValueException). MiniStack stores anything. (It does this as AWS does: PreconditionFailedException on a
stale RevisionId, a new RevisionId at each update, empty weights removing the routing.)

Seams: `lambda_svc._create_alias` and `lambda_svc._update_alias`.
"""

from collections.abc import Callable
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "alias_validation"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_create_alias", "func_name, data", _create)
    seams.wrap(GAP, lambda_svc, "_update_alias", "func_name, alias_name, data", _update)


def _create(original: Callable[..., Any], func_name: str, data: dict[str, Any]) -> Any:
    return _refusal(func_name, data, {}) or original(func_name, data)


def _update(original: Callable[..., Any], func_name: str, alias_name: str, data: dict[str, Any]) -> Any:
    current = (lambda_svc._functions.get(func_name) or {}).get("aliases", {}).get(alias_name)
    if current is None or lambda_svc._check_revision(current, data):
        return original(func_name, alias_name, data)
    return _refusal(func_name, data, current) or original(func_name, alias_name, data)


def _refusal(func_name: str, data: dict[str, Any], current: dict[str, Any]) -> Any:
    """Return AWS's error response, or None if the alias is valid."""
    func = lambda_svc._functions.get(func_name)
    if func is None:
        return None
    version = str(data.get("FunctionVersion", current.get("FunctionVersion", "$LATEST")))
    routing = data.get("RoutingConfig", current.get("RoutingConfig")) or {}
    weights: dict[str, float] = routing.get("AdditionalVersionWeights") or {}
    for wanted in (version, *weights):
        if wanted != "$LATEST" and wanted not in func["versions"]:
            return error_response_json(
                "ResourceNotFoundException", f"Function not found: {lambda_svc._func_arn(func_name)}:{wanted}", 404
            )
    complaint = _complaint(version, weights)
    return error_response_json("InvalidParameterValueException", complaint, 400) if complaint else None


def _complaint(version: str, weights: dict[str, float]) -> str | None:
    if len(weights) > 1:
        return "Number of items in AdditionalVersionWeights cannot be greater than 1"
    if "$LATEST" in weights or (weights and version == "$LATEST"):
        return "$LATEST is not supported for an alias pointing to more than 1 version"
    if version in weights:
        return f"Invalid function version {version}: it is already included in the routing configuration."
    if any(not 0.0 <= weight <= 1.0 for weight in weights.values()):
        return "Additional version weights must be between 0.0 and 1.0"
    return None
