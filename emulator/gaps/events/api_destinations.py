"""API destinations and their connections.

CloudFormation has AWS::Events::Connection and AWS::Events::ApiDestination
(https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-events-apidestination.html).
DescribeConnection does not tell the value of a parameter whose IsValueSecret is true
(https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DescribeConnection.html). A request that fails is tried
again with the status codes 401, 407, 409, 429 and 5xx, and after a timeout, as the target's RetryPolicy says; other
codes are final. What cannot be delivered goes to the target's dead-letter queue
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-api-destinations.html). MiniStack delivers once, drops what
fails, tells these values, and does not know the resource types.

The message in the dead-letter queue has what the target was to get and why it did not, with the attributes of AWS. Here
the retries wait a moment alone, and not for hours. Not filled: the rate of an API destination.

Seams: `eventbridge._describe_connection`, `eventbridge._dispatch_to_api_destination`,
`eventbridge._build_api_destination_request`, `eventbridge._deliver_to_api_destination`, and CloudFormation's
`provisioners._RESOURCE_HANDLERS`.
"""

import contextvars
import copy
import json
import time
from collections.abc import Callable
from typing import Any

from ministack.core.arn import parse_arn
from ministack.core.responses import json_response
from ministack.services import eventbridge, sqs
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams

GAP = "api_destinations"
CONNECTION, DESTINATION = "AWS::Events::Connection", "AWS::Events::ApiDestination"
RETRY_SECONDS, MAX_RETRIES = 0.2, 5
"""Between two tries, and how many of them there are at most. On AWS there are up to 185 within 24 hours."""
AGAIN = (401, 407, 409, 429)
_TARGET = "embedded target"
_target: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("embedded_api_target", default=None)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, eventbridge, "_describe_connection", "data", _describe)
    seams.wrap(GAP, eventbridge, "_dispatch_to_api_destination", "spec, payload, target", _dispatch)
    seams.wrap(GAP, eventbridge, "_build_api_destination_request", "dest, conn, target_http_params, payload", _build)
    seams.wrap(GAP, eventbridge, "_deliver_to_api_destination", "name, request, conn, token_key", _deliver)
    seams.expect(GAP, eventbridge, "_connection_auth_headers", "conn, token_key, force_refresh")
    seams.expect(GAP, eventbridge, "_api_destination_send_sync", "request, auth_headers")
    handlers = {
        CONNECTION: {"create": _create_connection, "update": _update_connection, "delete": _delete_connection},
        DESTINATION: {"create": _create_destination, "update": _update_destination, "delete": _delete_destination},
    }
    for resource, handler in handlers.items():
        if resource in provisioners._RESOURCE_HANDLERS:
            raise seams.SeamMissing(GAP, "provisioners._RESOURCE_HANDLERS", f"has {resource}")
        provisioners._RESOURCE_HANDLERS[resource] = handler


# --- Secrets ---------------------------------------------------------------------------------------------------------


def _describe(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    status, headers, body = original(data)
    if status != 200:
        return status, headers, body
    told = json.loads(body)
    parameters = (told.get("AuthParameters") or {}).get("InvocationHttpParameters") or {}
    for each in (value for values in parameters.values() for value in values):
        if each.get("IsValueSecret", True):
            each.pop("Value", None)
    return json_response(told)


# --- Deliveries ------------------------------------------------------------------------------------------------------


def _dispatch(original: Callable[..., Any], spec: Any, payload: str, target: dict[str, Any]) -> Any:
    token = _target.set({**target, "payload": payload})
    try:
        return original(spec, payload, target)
    finally:
        _target.reset(token)


def _build(original: Callable[..., Any], *args: Any) -> dict[str, Any]:
    request: dict[str, Any] = original(*args)
    # The thread that delivers gets the request, and nothing else of the target.
    return {**request, _TARGET: _target.get()}


def _deliver(
    original: Callable[..., Any], name: str, request: dict[str, Any], conn: dict[str, Any], token_key: Any
) -> None:
    target = request.pop(_TARGET, None)
    if target is None or conn.get("AuthorizationType") == "OAUTH_CLIENT_CREDENTIALS":
        original(name, request, conn, token_key)
        return
    retries = min((target.get("RetryPolicy") or {}).get("MaximumRetryAttempts", 185), MAX_RETRIES)
    for tried in range(retries + 1):
        code, why, is_final = _try_once(request, conn, token_key)
        if not code:
            return
        if is_final or tried == retries:
            _put_aside(target, code, why)
            return
        time.sleep(RETRY_SECONDS)


def _try_once(request: dict[str, Any], conn: dict[str, Any], token_key: Any) -> tuple[str, str, bool]:
    """Return AWS's error code, what happened, and whether that is final; an empty code if it was delivered."""
    try:
        headers = eventbridge._connection_auth_headers(conn, token_key)
        status = eventbridge._api_destination_send_sync(dict(request), headers)
    except Exception as error:  # noqa: BLE001 - whatever the network says
        return "SDK_CLIENT_ERROR", str(error), False
    if 200 <= status < 300:
        return "", "", True
    return "API_DESTINATION_ERROR", f"HTTP status {status}", status not in AGAIN and status < 500


def _put_aside(target: dict[str, Any], code: str, why: str) -> None:
    letters = (target.get("DeadLetterConfig") or {}).get("Arn")
    queue = sqs._queue_by_arn(str(parse_arn(letters))) if letters else None
    if queue is None:
        return
    eventbridge._dispatch_to_sqs(parse_arn(letters), target["payload"])
    attributes = {"TARGET_ARN": target.get("Arn", ""), "ERROR_CODE": code, "ERROR_MESSAGE": why}
    message = queue["messages"][-1]
    message["message_attributes"] = {
        name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
    }
    message["md5_attrs"] = sqs._md5_msg_attrs(message["message_attributes"])


# --- CloudFormation --------------------------------------------------------------------------------------------------


def _checked(answer: Any, what: str) -> dict[str, Any]:
    status, _, body = answer
    if status >= 300:
        raise ValueError(f"{what}: {body.decode() if isinstance(body, bytes) else body}")
    found: dict[str, Any] = json.loads(body)
    return found


def _create_connection(logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
    name = props.get("Name") or provisioners._physical_name(stack_name, logical_id, max_len=64)
    made = _checked(eventbridge._create_connection({**_plain(props), "Name": name}), CONNECTION)
    return name, {"Arn": made["ConnectionArn"], "ArnForPolicy": made["ConnectionArn"]}


def _update_connection(
    physical_id: str, _old: dict[str, Any], props: dict[str, Any], _stack: str
) -> tuple[str, dict[str, Any]]:
    made = _checked(eventbridge._update_connection({**_plain(props), "Name": physical_id}), CONNECTION)
    return physical_id, {"Arn": made["ConnectionArn"], "ArnForPolicy": made["ConnectionArn"]}


def _delete_connection(physical_id: str, _props: dict[str, Any]) -> None:
    eventbridge._delete_connection({"Name": physical_id})


def _create_destination(logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
    name = props.get("Name") or provisioners._physical_name(stack_name, logical_id, max_len=64)
    made = _checked(eventbridge._create_api_destination({**_plain(props), "Name": name}), DESTINATION)
    return name, {"Arn": made["ApiDestinationArn"], "ArnForPolicy": made["ApiDestinationArn"]}


def _update_destination(
    physical_id: str, _old: dict[str, Any], props: dict[str, Any], _stack: str
) -> tuple[str, dict[str, Any]]:
    made = _checked(eventbridge._update_api_destination({**_plain(props), "Name": physical_id}), DESTINATION)
    return physical_id, {"Arn": made["ApiDestinationArn"], "ArnForPolicy": made["ApiDestinationArn"]}


def _delete_destination(physical_id: str, _props: dict[str, Any]) -> None:
    eventbridge._delete_api_destination({"Name": physical_id})


def _plain(props: dict[str, Any]) -> dict[str, Any]:
    """Return properties as the API has them. CloudFormation may write numbers and truth values as text."""
    plain = copy.deepcopy(props)
    if "InvocationRateLimitPerSecond" in plain:
        plain["InvocationRateLimitPerSecond"] = int(plain["InvocationRateLimitPerSecond"])
    parameters = (plain.get("AuthParameters") or {}).get("InvocationHttpParameters") or {}
    for each in (value for values in parameters.values() for value in values):
        if "IsValueSecret" in each:
            each["IsValueSecret"] = str(each["IsValueSecret"]).lower() == "true"
    return plain
