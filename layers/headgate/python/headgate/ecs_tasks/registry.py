"""Task definitions in ECS: find a revision, or register a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, message_of
from headgate.ecs_tasks.request import AT_FIELD
from headgate.ecs_tasks.tags import DEFINITION_TAG
from headgate.errors import Contended, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_LISTED = 100
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTaskDefinitions.html"""

MAX_LOOKED_AT = 10
"""Latest active revisions of a family to compare with; each needs a DescribeTaskDefinition request."""

REFUSAL_CODES = ("ClientException", "InvalidParameterException", "AccessDeniedException")
"""Error codes of ECS for which a retry does not help."""

BUSY_CODES = "Too many concurrent attempts"
"""Start of a ClientException's message if another revision of the family is being registered at the same time.

Seen in https://github.com/dagster-io/dagster/pull/11192 and https://github.com/hashicorp/terraform-provider-aws/issues/9777.
"""


class TaskRegistry:
    """The task definitions of an account and Region.

    Parameters
    ----------
    ecs
        boto3's client.
    """

    def __init__(self, ecs: Any) -> None:
        self._ecs = ecs

    @property
    def shape(self) -> Any:
        """Input shape of RegisterTaskDefinition, from the model that the client has loaded."""
        return self._ecs.meta.service_model.operation_model("RegisterTaskDefinition").input_shape

    def describe(self, name: str) -> dict[str, Any]:
        """Return a task definition with its tags; for a family, its latest active revision."""
        answer = self._ask(name, "describe_task_definition", taskDefinition=name, include=["TAGS"])
        return {**answer["taskDefinition"], "tags": answer.get("tags", [])}

    def reuse_or_register(self, definition: dict[str, Any], digest: str) -> dict[str, Any]:
        """Return the revision that was registered for the same digest, or register a new one.

        The rate of RegisterTaskDefinition is limited (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
        request-throttling.html), and so is the number of revisions of a family
        (https://docs.aws.amazon.com/general/latest/gr/ecs-service.html). Two requests at the same time may register
        one revision each. Both are equal, and the next request uses the later one.
        """
        for name in self._latest(definition["family"]):
            answer = self._ask(name, "describe_task_definition", taskDefinition=name, include=["TAGS"])
            found = answer["taskDefinition"]
            # It may have been deregistered after it was listed.
            if found["status"] == "ACTIVE" and {"key": DEFINITION_TAG, "value": digest} in answer.get("tags", []):
                return dict(found)
        tags = [*definition.get("tags", []), {"key": DEFINITION_TAG, "value": digest}]
        answer = self._ask(AT_FIELD, "register_task_definition", **definition | {"tags": tags})
        return dict(answer["taskDefinition"])

    def _latest(self, family: str) -> Iterator[str]:
        """Yield ARNs of the latest active revisions, latest first."""
        answer = self._ask(
            family, "list_task_definitions", familyPrefix=family, status="ACTIVE", sort="DESC", maxResults=MAX_LISTED
        )
        # familyPrefix takes a whole name, but may also match as a prefix.
        found = [arn for arn in answer["taskDefinitionArns"] if arn.rsplit("/", 1)[-1].rsplit(":", 1)[0] == family]
        yield from sorted(found, key=lambda arn: -int(arn.rsplit(":", 1)[-1]))[:MAX_LOOKED_AT]

    def _ask(self, what: str, operation: str, **given: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._ecs, operation)(**given)
        except ClientError as error:
            message = message_of(error)
            if message.startswith(BUSY_CODES):
                # The machine tries again and may then find the revision that was registered.
                raise Contended(f"{what}: {message}") from None
            if code_of(error) not in REFUSAL_CODES:
                raise  # ECS did not refuse: the machine tries again.
            at = "" if what == AT_FIELD else "taskDefinition: "
            raise RequestRefused(f"{at}{what}: {message}") from None
        return answer
