"""Whether CloudFormation is doing what a request tells: the stack itself is asked about the resource.

Whoever may invoke the service token can send a request with the names of another team's stack. It is taken in only if
CloudFormation shows that it creates, updates or deletes this resource at this moment:
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResource.html
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import is_missing_stack
from headgate.stacks.properties import target_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackResourceDetailTypeDef

    from headgate.aws.place import Place
    from headgate.stacks.event import StackEvent

_FITTING = {
    "Create": ("CREATE_IN_PROGRESS",),
    "Update": ("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"),
    "Delete": ("DELETE_IN_PROGRESS",),
}
"""Statuses of a resource in which CloudFormation sends a request of a type."""

_CLEAN_UP = "_CLEANUP_IN_PROGRESS"
"""End of the statuses in which a stack deletes what its update, or the rollback of it, has replaced."""

PAUSES = (0, 2, 5)
"""Seconds before each look. CloudFormation does not document how soon it shows what it does."""


class Origin(NamedTuple):
    """What the stack shows of a request."""

    fault: str = ""
    """Why the request does not fit; empty if it does."""
    clean_up: bool = False
    """True for the deletion of what an update has replaced: the resource itself stays."""


class Origins:
    """Compares requests with their stacks.

    Parameters
    ----------
    sleep
        Waits for some seconds.
    """

    def __init__(
        self, formation: CloudFormationClient, place: Place, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._formation = formation
        self._place = place
        self._sleep = sleep

    def of(self, event: StackEvent) -> Origin:
        """Return what the stack shows of a request. One that does not fit is compared again after some seconds."""
        origin = Origin()
        for seconds in PAUSES:
            self._sleep(seconds)
            origin = self._look(event)
            if not origin.fault:
                break
        return origin

    def _look(self, event: StackEvent) -> Origin:
        resource = resource_of(self._formation, event.stack_id, event.logical_id)
        if resource is None:
            return Origin(f"StackId: the stack {event.stack_name} has no resource {event.logical_id}")
        if resource["ResourceType"] != event.resource_type:
            return Origin(
                f"ResourceType: {event.logical_id} of the stack {event.stack_name} is a {resource['ResourceType']} "
                f"(given {event.resource_type})"
            )
        physical_id, status = resource.get("PhysicalResourceId", ""), resource["ResourceStatus"]
        if status in _FITTING[event.request_type] and _is_of(event, physical_id):
            return Origin()
        if event.request_type == "Delete" and self._was_replaced(event, physical_id) and self._cleans_up(event):
            return Origin(clean_up=True)
        given = event.physical_id[:200] or "(none)"
        return Origin(
            f"RequestType: the stack {event.stack_name} does not {event.request_type.lower()} {event.logical_id} with "
            f"the physical id {given} now: it is {status} with {physical_id or '(none)'}. "
            "The request came too late, or not from CloudFormation"
        )

    def _was_replaced(self, event: StackEvent, physical_id: str) -> bool:
        """Return whether the physical id of a deletion is not the one, nor the target, that the resource has now."""
        then = target_in(event.physical_id, self._place)
        return event.physical_id != physical_id and (then is None or then != target_in(physical_id, self._place))

    def _cleans_up(self, event: StackEvent) -> bool:
        [stack] = self._formation.describe_stacks(StackName=event.stack_id)["Stacks"]
        return stack["StackStatus"].endswith(_CLEAN_UP)


def resource_of(formation: CloudFormationClient, stack_id: str, logical_id: str) -> StackResourceDetailTypeDef | None:
    """Return what a stack shows of a resource; None if there is no such stack or resource."""
    try:
        return formation.describe_stack_resource(StackName=stack_id, LogicalResourceId=logical_id)[
            "StackResourceDetail"
        ]
    except ClientError as error:
        if is_missing_stack(error):
            return None
        raise


def _is_of(event: StackEvent, physical_id: str) -> bool:
    """Return whether a request names the physical id that its resource has."""
    if event.request_type == "Create":
        return True
    # A resource that is deleted may never have got one that CloudFormation shows.
    return physical_id == event.physical_id or (event.request_type == "Delete" and not physical_id)
