"""Lookup of the stack that owns a resource.

On AWS, DescribeStackResources accepts a PhysicalResourceId instead of a stack's name and returns the resources of the
stack that owns it. MiniStack looks for a stack without a name and finds none.

Seam: `cloudformation.handlers._describe_stack_resources`, and its entry in the table of actions.
"""

from collections.abc import Callable
from typing import Any

from ministack.services.cloudformation import _stacks, handlers

from emulator.gaps import seams

GAP = "stack_lookup"
_ACTION = "DescribeStackResources"


def install() -> None:
    """Fill the gap."""
    table = getattr(handlers, "_ACTION_HANDLERS", {})
    if table.get(_ACTION) is not getattr(handlers, "_describe_stack_resources", None):
        raise seams.SeamMissing(GAP, "cloudformation.handlers._ACTION_HANDLERS", f"has no {_ACTION}")
    seams.wrap(GAP, handlers, "_describe_stack_resources", "params", _describe)
    table[_ACTION] = handlers._describe_stack_resources


def _describe(original: Callable[..., Any], params: dict[str, Any]) -> Any:
    wanted = handlers._p(params, "PhysicalResourceId")
    if handlers._p(params, "StackName") or not wanted:
        return original(params)
    for stack in _stacks.values():
        resources = stack.get("_resources", {}).values()
        gone = stack.get("StackStatus") == "DELETE_COMPLETE"
        if not gone and any(resource.get("PhysicalResourceId") == wanted for resource in resources):
            return original({**params, "StackName": stack["StackName"]})
    return handlers._error("ValidationError", f"Stack for {wanted} does not exist")
