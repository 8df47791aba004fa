"""Application Auto Scaling keeps scalable targets and scaling policies.

On AWS, RegisterScalableTarget makes a scalable target, or changes what it names of one: with SuspendedState alone, the
limits stay. If the capacity is outside the limits, it is moved there
(https://docs.aws.amazon.com/autoscaling/application/APIReference/API_RegisterScalableTarget.html). MiniStack does not
know the service. Here its targets and policies are kept, and scale nothing: only the desired count of an ECS service is
moved between the limits, when its target is registered.

Seam: the tables `router.SERVICE_PATTERNS` and `app.SERVICE_HANDLERS`; `ecs._services` and `ecs._update_service`.
"""

import importlib
import json
import secrets
import time
from typing import Any

from ministack.core import responses, router
from ministack.services import ecs

from emulator.gaps import seams

GAP = "scalable_targets"
SERVICE = "application-autoscaling"
TARGET_PREFIX = "AnyScaleFrontendService"
DESIRED_COUNT = "ecs:service:DesiredCount"
Record = dict[str, Any]
Answer = tuple[int, dict[str, str], bytes]
_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")
_LIMITS = ("MinCapacity", "MaxCapacity")
_NOT_SUSPENDED = {
    "DynamicScalingInSuspended": False,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}

_targets: dict[tuple[str, ...], Record] = {}
"""By account, Region, namespace, resource and dimension."""
_policies: dict[tuple[str, ...], Record] = {}
"""By the same and their name."""


class Refused(ValueError):  # noqa: N818 - describes the request
    """The request is refused, with AWS's code of the error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def install() -> None:
    """Fill the gap."""
    # Imported here: the application reads its settings when it is imported.
    handlers = getattr(importlib.import_module("ministack.app"), "SERVICE_HANDLERS", None)
    for table, name in ((handlers, "app.SERVICE_HANDLERS"), (router.SERVICE_PATTERNS, "router.SERVICE_PATTERNS")):
        if not isinstance(table, dict) or SERVICE in table:
            raise seams.SeamMissing(GAP, name, f"is no table without {SERVICE}")
    seams.expect(GAP, responses, "get_account_id", "")
    seams.expect(GAP, responses, "get_region", "")
    seams.expect(GAP, ecs, "_update_service", "data")
    router.SERVICE_PATTERNS[SERVICE] = {"target_prefixes": [TARGET_PREFIX], "credential_scope": SERVICE}
    handlers[SERVICE] = _handle  # type: ignore[index]


async def _handle(_method: str, _path: str, headers: dict[str, str], body: bytes, _query: Any) -> Answer:
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    known = {
        "RegisterScalableTarget": register,
        "DescribeScalableTargets": _describe,
        "DeregisterScalableTarget": deregister,
        "PutScalingPolicy": put_policy,
        "DescribeScalingPolicies": _describe_policies,
        "DeleteScalingPolicy": delete_policy,
    }
    if operation not in known:
        return _answer({"__type": "ValidationException", "message": f"{operation} is not known here"}, 400)
    try:
        return _answer(known[operation](json.loads(body or b"{}")))
    except Refused as refused:
        return _answer({"__type": refused.code, "message": str(refused)}, 400)


def _place() -> tuple[str, str]:
    return responses.get_account_id(), responses.get_region()


def _key(asked: Record) -> tuple[str, ...]:
    return (*_place(), *(str(asked[name]) for name in _KEY))


def register(asked: Record) -> Record:
    """Make a scalable target, or change it."""
    key = _key(asked)
    known = _targets.get(key)
    if known is None and not set(_LIMITS) <= asked.keys():
        raise Refused("ValidationException", "MinCapacity and MaxCapacity are required for a new scalable target.")
    limits = {name: int(asked[name] if name in asked else (known or {})[name]) for name in _LIMITS}
    if limits["MinCapacity"] > limits["MaxCapacity"]:
        raise Refused("ValidationException", "MaxCapacity must be at least MinCapacity.")
    _move_between(asked, **limits)
    account, region = _place()
    made = {
        **{name: asked[name] for name in _KEY},
        "RoleARN": asked.get("RoleARN") or f"arn:aws:iam::{account}:role/aws-service-role/{SERVICE}.amazonaws.com",
        "CreationTime": int(time.time()),
        "ScalableTargetARN": f"arn:aws:{SERVICE}:{region}:{account}:scalable-target/{secrets.token_hex(16)}",
    }
    suspended = {**_NOT_SUSPENDED, **(known or {}).get("SuspendedState", {}), **(asked.get("SuspendedState") or {})}
    _targets[key] = {**made, **(known or {}), **limits, "SuspendedState": suspended}
    return {"ScalableTargetARN": _targets[key]["ScalableTargetARN"]}


def _move_between(asked: Record, MinCapacity: int, MaxCapacity: int) -> None:  # noqa: N803 - as AWS names them
    if asked["ScalableDimension"] != DESIRED_COUNT:
        return
    cluster, _, name = str(asked["ResourceId"]).removeprefix("service/").partition("/")
    service = ecs._services.get(f"{cluster}/{name}")
    if service is None or service["status"] != "ACTIVE":
        raise Refused("ValidationException", f"ECS service doesn't exist: {asked['ResourceId']}")
    wanted = min(max(service["desiredCount"], MinCapacity), MaxCapacity)
    if wanted != service["desiredCount"]:
        ecs._update_service({"cluster": cluster, "service": name, "desiredCount": wanted})


def deregister(asked: Record) -> Record:
    """Forget a scalable target and its policies."""
    key = _key(asked)
    if _targets.pop(key, None) is None:
        raise Refused("ObjectNotFoundException", f"No scalable target registered for {'/'.join(key[2:])}")
    for each in [each for each in _policies if each[: len(key)] == key]:
        del _policies[each]
    return {}


def put_policy(asked: Record) -> Record:
    """Make a scaling policy, or change it."""
    key = _key(asked)
    if key not in _targets:
        raise Refused("ObjectNotFoundException", f"No scalable target registered for {'/'.join(key[2:])}")
    account, region = _place()
    tail = f"resource/{asked['ServiceNamespace']}/{asked['ResourceId']}:policyName/{asked['PolicyName']}"
    arn = f"arn:aws:autoscaling:{region}:{account}:scalingPolicy:{secrets.token_hex(16)}:{tail}"
    made = {"PolicyARN": arn, "CreationTime": int(time.time()), "Alarms": []}
    _policies[*key, asked["PolicyName"]] = {**made, **_policies.get((*key, asked["PolicyName"]), {}), **asked}
    return {"PolicyARN": _policies[*key, asked["PolicyName"]]["PolicyARN"], "Alarms": []}


def delete_policy(asked: Record) -> Record:
    """Forget a scaling policy."""
    if _policies.pop((*_key(asked), asked["PolicyName"]), None) is None:
        raise Refused("ObjectNotFoundException", f"No scaling policy found named {asked['PolicyName']}")
    return {}


def _describe(asked: Record) -> Record:
    found = [
        each for each in _here(_targets, asked) if each["ResourceId"] in asked.get("ResourceIds", [each["ResourceId"]])
    ]
    return {"ScalableTargets": found}


def _describe_policies(asked: Record) -> Record:
    return {
        "ScalingPolicies": [
            each
            for each in _here(_policies, asked)
            if each["ResourceId"] == asked.get("ResourceId", each["ResourceId"])
            and each["PolicyName"] in asked.get("PolicyNames", [each["PolicyName"]])
        ]
    }


def _here(kept: dict[tuple[str, ...], Record], asked: Record) -> list[Record]:
    return [
        each
        for key, each in kept.items()
        if key[:2] == _place()
        and each["ServiceNamespace"] == asked["ServiceNamespace"]
        and each["ScalableDimension"] == asked.get("ScalableDimension", each["ScalableDimension"])
    ]


def _answer(content: Record, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()
