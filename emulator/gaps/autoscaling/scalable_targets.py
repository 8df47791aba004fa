"""Application Auto Scaling keeps scalable targets.

On AWS, RegisterScalableTarget makes one, and DescribeScalableTargets lists those of a service:
https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html. MiniStack does not
know the service. Here its targets are kept, and scale nothing.

Seam: the tables `router.SERVICE_PATTERNS` and `app.SERVICE_HANDLERS`.
"""

import importlib
import json
from typing import Any

from ministack.core import responses, router

from emulator.gaps import seams

GAP = "scalable_targets"
SERVICE = "application-autoscaling"
TARGET_PREFIX = "AnyScaleFrontendService"

_targets: dict[tuple[str, str, str, str, str], dict[str, Any]] = {}
"""By account, Region, namespace, resource and dimension."""


def install() -> None:
    """Fill the gap."""
    # Imported here: the application reads its settings when it is imported.
    handlers = getattr(importlib.import_module("ministack.app"), "SERVICE_HANDLERS", None)
    for table, name in ((handlers, "app.SERVICE_HANDLERS"), (router.SERVICE_PATTERNS, "router.SERVICE_PATTERNS")):
        if not isinstance(table, dict) or SERVICE in table:
            raise seams.SeamMissing(GAP, name, f"is no table without {SERVICE}")
    seams.expect(GAP, responses, "get_account_id", "")
    seams.expect(GAP, responses, "get_region", "")
    router.SERVICE_PATTERNS[SERVICE] = {"target_prefixes": [TARGET_PREFIX], "credential_scope": SERVICE}
    handlers[SERVICE] = _handle  # type: ignore[index]


async def _handle(_method: str, _path: str, headers: dict[str, str], body: bytes, _query: Any) -> Any:
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    asked = json.loads(body or b"{}")
    place = (responses.get_account_id(), responses.get_region())
    match operation:
        case "RegisterScalableTarget":
            named = {name: asked[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension")}
            limits = {name: asked.get(name, 0) for name in ("MinCapacity", "MaxCapacity")}
            key = (*place, named["ServiceNamespace"], named["ResourceId"], named["ScalableDimension"])
            _targets[key] = {**named, **limits, "RoleARN": asked.get("RoleARN", ""), "CreationTime": 0}
            return _answer({})
        case "DescribeScalableTargets":
            found = [
                target
                for key, target in _targets.items()
                if key[:2] == place
                and target["ServiceNamespace"] == asked["ServiceNamespace"]
                and target["ScalableDimension"] == asked.get("ScalableDimension", target["ScalableDimension"])
                and target["ResourceId"] in asked.get("ResourceIds", [target["ResourceId"]])
            ]
            return _answer({"ScalableTargets": found})
    return _answer({"__type": "ValidationException", "message": f"{operation} is not known here"}, 400)


def _answer(content: dict[str, Any], status: int = 200) -> Any:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()
