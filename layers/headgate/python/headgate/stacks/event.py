"""The request that CloudFormation sends about a custom resource.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate import keys
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.aws.place import Place

ROLLOUT_TYPE, TASK_TYPE = "Custom::HeadgateRollout", "Custom::HeadgateTask"

REQUEST_TYPES = ("Create", "Update", "Delete")

_STACK = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):cloudformation:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):stack/(?P<name>[^/]+)/.+"
)

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._:@+=-]")

_STACK_CHARACTERS, _RESOURCE_CHARACTERS = 60, 56
"""How much of the two names is in the id of a rollout, which has at most 128 characters."""


class StackEvent(NamedTuple):
    """A request about one custom resource, without the URL for its answer, which is a secret."""

    request_type: Literal["Create", "Update", "Delete"]
    request_id: str
    stack_id: str
    logical_id: str
    resource_type: str
    physical_id: str = ""
    """Empty for a Create."""
    properties: dict[str, Any] = {}
    old_properties: dict[str, Any] = {}
    """Only an Update has them."""
    clean_up: bool = False
    """True for the deletion of what an update has replaced: the resource has another physical id now."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> StackEvent:
        """Read a stored request. Unknown fields, which a later version of Headgate may write, are ignored."""
        return cls(**{name: value for name, value in stored.items() if name in cls._fields})

    @property
    def pk(self) -> str:
        """Partition key of the resource's items."""
        return keys.stack_pk(self.stack_id, self.logical_id)

    @property
    def stack_name(self) -> str:
        """Name of the stack."""
        return stack_name(self.stack_id)

    @property
    def rollout_id(self) -> str:
        """Id of the rollout or the ECS task of this request: the same whenever the request is delivered again."""
        stack = _NOT_IN_AN_ID.sub("-", self.stack_name)[:_STACK_CHARACTERS]
        resource = _NOT_IN_AN_ID.sub("-", self.logical_id)[:_RESOURCE_CHARACTERS]
        return f"{stack}/{resource}/{_NOT_IN_AN_ID.sub('-', self.request_id)[:8]}"

    @property
    def is_task(self) -> bool:
        """True for a Custom::HeadgateTask."""
        return self.resource_type == TASK_TYPE

    @property
    def refused_id(self) -> str:
        """Physical id of a rollout resource that never had a valid target."""
        return f"refused-{self.logical_id}"

    @property
    def task_physical_id(self) -> str:
        """Physical id of a Custom::HeadgateTask: the same for as long as the stack exists."""
        return f"task-{self.logical_id}-{hashlib.sha256(self.stack_id.encode()).hexdigest()[:8]}"

    @property
    def kept_physical_id(self) -> str:
        """Physical id of an answer that creates and replaces nothing."""
        return self.physical_id or (self.task_physical_id if self.is_task else self.refused_id)


def stack_name(stack_id: str) -> str:
    """Return the name of a stack from its ARN."""
    return stack_id.partition(":stack/")[2].split("/")[0] or stack_id


def read_event(given: Mapping[str, Any], place: Place) -> StackEvent:
    """Read a request from CloudFormation.

    Raises
    ------
    RequestRefused
        If it is not one for this Headgate.
    """
    event = StackEvent(
        request_type=given.get("RequestType", ""),
        request_id=_text(given, "RequestId"),
        stack_id=_text(given, "StackId"),
        logical_id=_text(given, "LogicalResourceId"),
        resource_type=_text(given, "ResourceType"),
        physical_id=str(given.get("PhysicalResourceId") or ""),
        properties=_properties(given, "ResourceProperties"),
        old_properties=_properties(given, "OldResourceProperties"),
    )
    if event.request_type not in REQUEST_TYPES:
        raise RequestRefused(f"RequestType: must be Create, Update or Delete (given {event.request_type})")
    if event.resource_type not in (ROLLOUT_TYPE, TASK_TYPE):
        raise RequestRefused(
            f"ResourceType: must be {ROLLOUT_TYPE} or {TASK_TYPE} (given {event.resource_type[:100]}); change Type in "
            "the template"
        )
    if event.request_type != "Create" and not event.physical_id:
        raise RequestRefused(f"PhysicalResourceId: is missing in a request of type {event.request_type}")
    _refuse_elsewhere(event.stack_id, place)
    return event


def _refuse_elsewhere(stack_id: str, place: Place) -> None:
    stack = _STACK.fullmatch(stack_id)
    if stack is None:
        raise RequestRefused(f"StackId: must be the ARN of a stack (given {stack_id[:200]})")
    if (stack["partition"], stack["account"], stack["region"]) != tuple(place):
        raise RequestRefused(
            f"StackId: the stack is in {stack['account']}, {stack['region']}; this Headgate serves {place.account}, "
            f"{place.region}; give the ServiceToken of a Headgate that is deployed there"
        )


def _text(given: Mapping[str, Any], field: str) -> str:
    value = given.get(field)
    if not isinstance(value, str) or not value:
        raise RequestRefused(f"{field}: is missing; CloudFormation sends it with each request")
    return value


def _properties(given: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = given.get(field) or {}
    if not isinstance(value, dict):
        raise RequestRefused(f"{field}: must be an object")
    return value
