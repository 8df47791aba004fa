"""Policies of event buses.

AWS evaluates a bus's policy at PutEvents, and CloudFormation has AWS::Events::EventBusPolicy. PutPermission also takes
a whole Policy. The keys ``events:source`` and ``events:detail-type`` have the values of the entries that go to the bus
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-conditions.html,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridge.html and
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-events-eventbuspolicy.html). MiniStack keeps
statements that it makes of the other parameters of PutPermission, and never evaluates them. It does not know the
resource type.

A Deny refuses the whole call with AccessDeniedException, as for any action that is not authorized. AWS does not
document otherwise for a call with several entries of which one is denied. Only identified callers are checked: users
and sessions of roles. The root of the account, which tests use, and Step Functions' own integration are not. Not
filled: Allow statements, which matter for other accounts only.

Seams: `eventbridge.handle_request` and `eventbridge._put_permission`, `eventbridge._event_bus_policies`, and
CloudFormation's `provisioners._RESOURCE_HANDLERS`.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.core.router import extract_access_key_id
from ministack.services import eventbridge, iam
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams

GAP = "bus_policies"
RESOURCE = "AWS::Events::EventBusPolicy"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, eventbridge, "handle_request", "method, path, headers, body, query_params", _authorized)
    seams.wrap(GAP, eventbridge, "_put_permission", "data", _put_permission)
    seams.expect(GAP, eventbridge, "_event_bus_name_from_ref", "name")
    seams.expect(GAP, iam_evaluator, "resolve_caller_identity", "access_key_id")
    seams.expect(GAP, iam_evaluator, "evaluate_resource_policy", "doc, ctx, service, named_only, direct_only")
    if RESOURCE in provisioners._RESOURCE_HANDLERS:
        raise seams.SeamMissing(GAP, "provisioners._RESOURCE_HANDLERS", f"has {RESOURCE}")
    provisioners._RESOURCE_HANDLERS[RESOURCE] = {"create": _create, "update": _update, "delete": _delete}


async def _authorized(
    original: Callable[..., Awaitable[Any]], method: str, path: str, headers: Any, body: Any, query_params: Any
) -> Any:
    if headers.get("x-amz-target", "").endswith(".PutEvents"):
        caller = _caller(extract_access_key_id(headers, query_params))
        for bus, entries in _by_bus(body) if caller else ():
            if refusal := _refusal(caller, bus, entries):
                return refusal
    return await original(method, path, headers, body, query_params)


def _caller(access_key: str) -> str:
    """Return the ARN in ``aws:PrincipalArn``: of a user, or of the role of a session. Empty for anybody else."""
    identity = iam_evaluator.resolve_caller_identity(access_key) or {}
    arn = str(identity.get("userArn", ""))
    if ":assumed-role/" in arn:
        role = iam._roles.get(arn.split("/")[1]) or {}
        return str(role.get("Arn", ""))
    return arn if ":user/" in arn else ""


def _by_bus(body: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    try:
        given = json.loads(body)["Entries"]
    except (ValueError, KeyError, TypeError):
        return
    buses: dict[str, list[dict[str, Any]]] = {}
    for entry in given:
        name, fault = eventbridge._event_bus_name_from_ref(entry.get("EventBusName", "default"))
        if not fault:
            buses.setdefault(name, []).append(entry)
    yield from buses.items()


def _refusal(caller: str, bus: str, entries: list[dict[str, Any]]) -> Any:
    """Return AWS's error response, or None if the bus's policy does not deny the call."""
    arn = _bus_arn(bus)
    keys = {
        "events:source": [str(entry.get("Source", "")) for entry in entries],
        "events:detail-type": [str(entry.get("DetailType", "")) for entry in entries],
    }
    context = iam_evaluator.EvalContext(
        principal_arn=caller,
        principal_type="AssumedRole" if ":role/" in caller else "User",
        principal_account=get_account_id(),
        action="events:PutEvents",
        resource_arn=arn,
        region=get_region(),
        service_context=keys,
    )
    decision = iam_evaluator.evaluate_resource_policy(eventbridge._event_bus_policies.get(bus), context).decision
    if decision != "Deny":
        return None
    return error_response_json(
        "AccessDeniedException",
        f"User: {caller} is not authorized to perform: events:PutEvents on resource: {arn} with an explicit deny in a "
        "resource-based policy",
        400,
    )


def _bus_arn(bus: str) -> str:
    return f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{bus}"


def _put_permission(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    if "Policy" not in data:
        return original(data)
    eventbridge._event_bus_policies[data.get("EventBusName", "default")] = json.loads(data["Policy"])
    return json_response({})


def _create(_: str, props: dict[str, Any], __: str) -> tuple[str, dict[str, Any]]:
    bus, statement_id = props.get("EventBusName", "default"), props["StatementId"]
    _remove(bus, statement_id)
    statement = props.get("Statement") or {
        "Effect": "Allow",
        "Resource": _bus_arn(bus),
        **{name: props[name] for name in ("Action", "Principal", "Condition") if name in props},
    }
    policy = eventbridge._event_bus_policies.setdefault(bus, {"Version": "2012-10-17", "Statement": []})
    policy["Statement"].append({**statement, "Sid": statement_id})
    return f"{bus}|{statement_id}", {}


def _update(
    physical_id: str, old_props: dict[str, Any], new_props: dict[str, Any], stack_name: str
) -> tuple[str, dict[str, Any]]:
    _delete(physical_id, old_props)
    return _create("", new_props, stack_name)


def _delete(_: str, props: dict[str, Any]) -> None:
    _remove(props.get("EventBusName", "default"), props["StatementId"])


def _remove(bus: str, statement_id: str) -> None:
    eventbridge._remove_permission({"EventBusName": bus, "StatementId": statement_id})
