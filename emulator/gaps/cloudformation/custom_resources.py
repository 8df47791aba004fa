"""Requests of custom resources, and what becomes of them when a stack does not wait for their answer.

On AWS
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requesttypes.html,
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html):

- The function is invoked asynchronously, so an error of it is retried.
- The answer goes to a presigned URL without a content type: with one it is forbidden. It has at most 4,096 bytes, and
  names the stack, the resource, the request and the physical ID. It is told as "Received response status [FAILED] from
  custom resource. Message returned: ...".
- A resource whose creation failed is deleted in the rollback, with the physical ID of its answer.
- CancelUpdateStack, and DeleteStack while a stack is created, do not wait for a request: the resource fails as
  cancelled, and the rollback sends the next request while the first may still be worked on. A late answer is ignored.
- DescribeStackResource and DescribeStackResources show a resource with a request under way as it is: CREATE_IN_PROGRESS
  without a physical ID, UPDATE_IN_PROGRESS, DELETE_IN_PROGRESS. While the stack deletes what an update or its rollback
  has replaced (*_CLEANUP_IN_PROGRESS), they show what the resource has now.
- DeleteStack is refused while a stack is updated. What it does while a creation is rolled back is not documented; here
  it is refused then too.

MiniStack runs the function as part of the stack's operation and takes any answer. It forgets a resource whose creation
failed, waits for a request before it cancels an update, and deletes a stack whatever it is doing, side by side. It
shows a resource as its last operation left it, so not at all while it is created, and cleans up after an update in
UPDATE_IN_PROGRESS.

Seams: `custom_resource.invoke_custom_resource`; `app._handle_post_body_shortcuts`; `stacks._deploy_stack_async` and
`stacks._roll_back_operation`; `handlers._cancel_update_stack`, `handlers._delete_stack`,
`handlers._describe_stack_resource` and `handlers._describe_stack_resources`, with their entries in the table of
actions; `handlers._resolve_stack`.
"""

import importlib
import json
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import lambda_svc
from ministack.services.cloudformation import _stacks, changesets, custom_resource, handlers, stacks

from emulator.gaps import seams

GAP = "custom_resources"
_URL = "/_ministack/cfn-response/"
_MOST_BYTES = 4096
_SECONDS = 3600
_CANCELLED = "Resource {} cancelled"
_BUSY = ("UPDATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "CLEANUP_IN_PROGRESS")
"""Ends of the statuses in which a stack cannot be deleted."""

_lock = threading.Lock()
_awaited: dict[str, set[str]] = {}
"""Tokens of the answers that a stack waits for, by its ID."""
_not_created: dict[tuple[str, str], dict[str, Any]] = {}
"""Records of the resources whose creation failed, by stack and logical ID."""

_under_way: dict[tuple[str, str], dict[str, Any]] = {}
"""What the requests under way make of their resources, by stack and logical ID."""
_before: dict[str, dict[str, Any]] = {}
"""Resources before the update that a stack rolls back, by its ID."""
_shows = ContextVar("shows", default=False)
"""Whether a stack is looked up to show its resources."""


def install() -> None:
    """Fill the gap."""
    signature = "request_type, logical_id, props, stack_name, stack_id, resource_type, physical_id, old_props"
    seams.wrap(GAP, custom_resource, "invoke_custom_resource", signature, _request)
    app = importlib.import_module("ministack.app")
    seams.wrap(
        GAP, app, "_handle_post_body_shortcuts", "method, path, headers, body, query_params, request_id", _take_answer
    )
    deploy = (
        "stack_name, stack_id, template, param_values, disable_rollback, tags, is_update, previous_stack, "
        "retain_except_on_create, imports"
    )
    seams.wrap(GAP, stacks, "_deploy_stack_async", deploy, _deploy)
    seams.wrap(
        GAP, stacks, "_roll_back_operation", "stack_name, stack_id, stack, operation, reason_override", _roll_back
    )
    for module in (handlers, changesets):
        module._deploy_stack_async = stacks._deploy_stack_async
    handlers._roll_back_operation = stacks._roll_back_operation
    table = getattr(handlers, "_ACTION_HANDLERS", {})
    for action, name, replacement in (
        ("CancelUpdateStack", "_cancel_update_stack", _cancel),
        ("DeleteStack", "_delete_stack", _delete),
        ("DescribeStackResource", "_describe_stack_resource", _show),
        ("DescribeStackResources", "_describe_stack_resources", _show),
    ):
        if table.get(action) is not getattr(handlers, name, None):
            raise seams.SeamMissing(GAP, "cloudformation.handlers._ACTION_HANDLERS", f"has no {action}")
        seams.wrap(GAP, handlers, name, "params", replacement)
        table[action] = getattr(handlers, name)
    seams.wrap(GAP, handlers, "_resolve_stack", "stack_name", _as_shown)


def _request(
    original: Callable[..., Any],
    request_type: str,
    logical_id: str,
    props: dict[str, Any],
    stack_name: str,
    stack_id: str,
    resource_type: str,
    physical_id: str | None = None,
    old_props: dict[str, Any] | None = None,
) -> tuple[str, dict[str, Any]]:
    function, config, _name = lambda_svc._get_func_record_for_ref(props.get("ServiceToken", ""))
    if function is None or config is None:
        result: tuple[str, dict[str, Any]] = original(
            request_type, logical_id, props, stack_name, stack_id, resource_type, physical_id, old_props
        )
        return result
    token = new_uuid()
    event = {
        "RequestType": request_type,
        "RequestId": new_uuid(),
        "StackId": stack_id,
        "ResponseURL": custom_resource._response_url(token),
        "ResourceType": resource_type,
        "LogicalResourceId": logical_id,
        "ResourceProperties": custom_resource._normalise_resource_properties(props),
    }
    if physical_id is not None:
        event["PhysicalResourceId"] = physical_id
    if old_props is not None:
        event["OldResourceProperties"] = custom_resource._normalise_resource_properties(old_props)
    with _awaiting(stack_id, token) as answered, _showing(event, physical_id or ""):
        lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, config), event)
        answered.wait(int(props.get("ServiceTimeout") or _SECONDS))
        answer = custom_resource._pending[token]["result"] or {
            "fault": "CloudFormation did not receive a response from your Custom Resource. Please check your logs for "
            f"requestId [{event['RequestId']}]."
        }
    fault = _fault(event, answer)
    if not fault:
        return answer["PhysicalResourceId"], answer.get("Data") or {}
    if request_type == "Create":
        _not_created[stack_id, logical_id] = {
            "PhysicalResourceId": answer.get("PhysicalResourceId")
            or f"{stack_name}-{logical_id}-{uuid.uuid4().hex[:12].upper()}",
            "ResourceType": resource_type,
            "LogicalResourceId": logical_id,
            "ResourceStatus": "CREATE_FAILED",
            "Properties": props,
            "Attributes": {},
            "Timestamp": handlers.now_iso(),
        }
    raise RuntimeError(fault)


@contextmanager
def _awaiting(stack_id: str, token: str) -> Iterator[threading.Event]:
    answered = custom_resource.register_token(token)
    with _lock:
        _awaited.setdefault(stack_id, set()).add(token)
    try:
        yield answered
    finally:
        with _lock:
            _awaited[stack_id].discard(token)
        custom_resource._pending.pop(token, None)


@contextmanager
def _showing(event: dict[str, Any], physical_id: str) -> Iterator[None]:
    stack, kind = handlers._resolve_stack(event["StackId"]) or {}, event["RequestType"]
    if kind == "Delete" and stack.get("StackStatus") == "UPDATE_IN_PROGRESS":
        stack["StackStatus"] = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
    key = event["StackId"], event["LogicalResourceId"]
    current = _resources_of(stack).get(event["LogicalResourceId"], {})
    replaced = kind == "Delete" and current.get("PhysicalResourceId", physical_id) != physical_id
    if not replaced:
        _under_way[key] = {
            "LogicalResourceId": event["LogicalResourceId"],
            "ResourceType": event["ResourceType"],
            "PhysicalResourceId": physical_id,
            "ResourceStatus": f"{kind.upper()}_IN_PROGRESS",
            "Timestamp": handlers.now_iso(),
        }
    try:
        yield
    finally:
        _under_way.pop(key, None)


def _resources_of(stack: dict[str, Any]) -> dict[str, Any]:
    """Return the resources that a stack has, or will have again after the clean-up of a rollback."""
    current: dict[str, Any] = stack.get("_resources", {})
    if stack.get("StackStatus") == "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS":
        return current | _before.get(stack["StackId"], {})
    return current


def _show(original: Callable[..., Any], params: dict[str, Any]) -> Any:
    token = _shows.set(True)
    try:
        return original(params)
    finally:
        _shows.reset(token)


def _as_shown(original: Callable[..., Any], stack_name: str) -> Any:
    stack = original(stack_name)
    if not stack or not _shows.get():
        return stack
    under_way = {name: shown for (stack_id, name), shown in list(_under_way.items()) if stack_id == stack["StackId"]}
    return {**stack, "_resources": _resources_of(stack) | under_way}


def _fault(event: dict[str, Any], answer: dict[str, Any]) -> str:
    """Say why a request has failed; empty if it has not."""
    if "fault" in answer:
        return str(answer["fault"])
    for name in ("StackId", "RequestId", "LogicalResourceId"):
        if answer.get(name) != event[name]:
            return f"Invalid response: {name} is {answer.get(name)!r}, not that of the request"
    if not answer.get("PhysicalResourceId"):
        return "Invalid PhysicalResourceId"
    if answer.get("Status") == "SUCCESS":
        return ""
    return (
        f"Received response status [{answer.get('Status')}] from custom resource. Message returned: "
        f"{answer.get('Reason')} (RequestId: {event['RequestId']})"
    )


async def _take_answer(
    original: Callable[..., Any],
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    query_params: dict[str, Any],
    request_id: str,
) -> Any:
    if method == "PUT" and path.startswith(_URL):
        if headers.get("content-type"):
            return 403, {"content-type": "application/xml"}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        if len(body) > _MOST_BYTES:
            body = json.dumps({"fault": "Response is too long."}).encode()
    return await original(method, path, headers, body, query_params, request_id)


def _stop_waiting(stack: dict[str, Any], verb: str) -> None:
    with _lock:
        tokens = list(_awaited.get(stack["StackId"], ()))
    for token in tokens:
        custom_resource.deliver_response(token, {"fault": _CANCELLED.format(verb)})


def _cancel(original: Callable[..., Any], params: dict[str, Any]) -> Any:
    answer = original(params)
    stack = handlers._resolve_stack(handlers._p(params, "StackName"))
    if stack and stack.get("_cancel_requested"):
        _stop_waiting(stack, "update")
    return answer


def _delete(original: Callable[..., Any], params: dict[str, Any]) -> Any:
    stack = handlers._resolve_stack(handlers._p(params, "StackName"))
    status = stack.get("StackStatus", "") if stack else ""
    if status.endswith(_BUSY):
        return handlers._error(
            "ValidationError", f"Stack [{stack['StackId']}] cannot be deleted while in status {status}"
        )
    if status == "CREATE_IN_PROGRESS":
        stack["_delete_requested"] = True
        stack["StackStatus"] = "DELETE_IN_PROGRESS"
        _stop_waiting(stack, "creation")
    if status in ("CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
        return handlers._xml(200, "DeleteStackResponse", "")
    return original(params)


async def _deploy(original: Callable[..., Coroutine[Any, Any, None]], *args: Any, **kwargs: Any) -> None:
    await original(*args, **kwargs)
    stack_name, stack_id = args[0], args[1]
    stack = _stacks.get(stack_name)
    if stack and stack.pop("_delete_requested", False):
        await stacks._delete_stack_async(stack_name, stack_id)


async def _roll_back(
    original: Callable[..., Coroutine[Any, Any, None]],
    stack_name: str,
    stack_id: str,
    stack: dict[str, Any],
    operation: dict[str, Any],
    reason_override: str = "",
) -> None:
    failed = operation.get("failed_logical_id")
    half_made = _not_created.pop((stack_id, failed or ""), None)
    if half_made:
        stack.setdefault("_resources", {})[failed] = half_made
        operation = {**operation, "created": [*operation.get("created", []), failed]}
    if stack.get("_delete_requested"):
        # The deletion that follows deletes what has been made; it goes by the stack's template.
        stack["_template"] = operation.get("template") or {}
        return
    if stack.pop("_cancel_requested", False):
        stacks.CLIENT_REQUEST_TOKEN.set(stack.pop("_cancel_token", ""))
        operation = {**operation, "cancelled": True}
    _before[stack_id] = (operation.get("previous_stack") or {}).get("_resources", {})
    try:
        await original(stack_name, stack_id, stack, operation, reason_override)
    finally:
        del _before[stack_id]
