"""Status and time of a resource that an update does not touch.

On AWS, a resource with the same properties as before keeps its status, and the time of it: DescribeStackResources and
ListStackResources tell which resources an update has changed
(https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_StackResourceSummary.html). MiniStack does not
touch it either, but shows each resource as UPDATE_COMPLETE at the time of the update, and writes events of it. The
events stay.

Seams: `cloudformation.stacks._update_keeping_seed`, which compares the properties, and
`cloudformation.stacks._add_event`, which is called when the new record is there.
"""

from collections.abc import Callable
from typing import Any

from ministack.services.cloudformation import _stacks, stacks

from emulator.gaps import seams

GAP = "untouched_resources"

_KEPT = ("ResourceStatus", "Timestamp")

_untouched: dict[tuple[str, str], dict[str, Any]] = {}
"""What the record of a resource keeps, by the name of its stack and its logical ID."""


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stacks, "_update_keeping_seed", "args", _update)
    event = "stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, detailed_status"
    seams.wrap(GAP, stacks, "_add_event", event, _add_event)


def _update(original: Callable[..., Any], *args: Any) -> Any:
    _type, _physical_id, old, new, stack_name, logical_id, *_ = args
    _untouched.pop((stack_name, logical_id), None)
    record = _record(stack_name, logical_id)
    if old == new and record:
        _untouched[stack_name, logical_id] = {name: record[name] for name in _KEPT if name in record}
    return original(*args)


def _add_event(
    original: Callable[..., Any],
    stack_id: str,
    stack_name: str,
    logical_id: str,
    resource_type: str,
    status: str,
    *args: Any,
    **kwargs: Any,
) -> Any:
    if status == "UPDATE_COMPLETE":
        _record(stack_name, logical_id).update(_untouched.pop((stack_name, logical_id), {}))
    return original(stack_id, stack_name, logical_id, resource_type, status, *args, **kwargs)


def _record(stack_name: str, logical_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (_stacks.get(stack_name) or {}).get("_resources", {}).get(logical_id, {})
    return found
