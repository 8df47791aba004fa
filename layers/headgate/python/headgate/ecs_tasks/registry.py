"""Task definitions as ECS keeps them: finding a revision, and registering one that is not there yet."""

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
"""Latest active revisions of a family that a definition is looked for among: each costs a DescribeTaskDefinition."""

REFUSAL_CODES = ("ClientException", "InvalidParameterException", "AccessDeniedException")
"""What ECS says of a request that would be no better a second time."""

BUSY_CODES = "Too many concurrent attempts"
"""How the message of a ClientException begins that is no refusal: another revision of the family is being made.

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
        """What RegisterTaskDefinition takes, by the model that the client has loaded anyway."""
        return self._ecs.meta.service_model.operation_model("RegisterTaskDefinition").input_shape

    def describe(self, name: str) -> dict[str, Any]:
        """A task definition with its tags; of a family, its latest active revision."""
        answer = self._ask(name, "describe_task_definition", taskDefinition=name, include=["TAGS"])
        return {**answer["taskDefinition"], "tags": answer.get("tags", [])}

    def reuse_or_register(self, definition: dict[str, Any], digest: str) -> dict[str, Any]:
        """The revision that was registered for a definition of the same digest before, or a new one.

        RegisterTaskDefinition is limited in rate (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
        request-throttling.html), and a family in its number of revisions
        (https://docs.aws.amazon.com/general/latest/gr/ecs-service.html). Two requests at once may register a
        revision each: both are the same, and the next request takes the later.
        """
        for name in self._latest(definition["family"]):
            answer = self._ask(name, "describe_task_definition", taskDefinition=name, include=["TAGS"])
            found = answer["taskDefinition"]
            # It may have been deregistered since it was listed.
            if found["status"] == "ACTIVE" and {"key": DEFINITION_TAG, "value": digest} in answer.get("tags", []):
                return dict(found)
        tags = [*definition.get("tags", []), {"key": DEFINITION_TAG, "value": digest}]
        answer = self._ask(AT_FIELD, "register_task_definition", **definition | {"tags": tags})
        return dict(answer["taskDefinition"])

    def _latest(self, family: str) -> Iterator[str]:
        """ARNs of the latest active revisions, the latest first."""
        answer = self._ask(
            family, "list_task_definitions", familyPrefix=family, status="ACTIVE", sort="DESC", maxResults=MAX_LISTED
        )
        # The family's whole name is asked for; that it is no more than a prefix of theirs is not left to its word.
        found = [arn for arn in answer["taskDefinitionArns"] if arn.rsplit("/", 1)[-1].rsplit(":", 1)[0] == family]
        yield from sorted(found, key=lambda arn: -int(arn.rsplit(":", 1)[-1]))[:MAX_LOOKED_AT]

    def _ask(self, what: str, operation: str, **given: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._ecs, operation)(**given)
        except ClientError as error:
            message = message_of(error)
            if message.startswith(BUSY_CODES):
                # The machine tries again after such an error, and may then find what was registered meanwhile.
                raise Contended(f"{what}: {message}") from None
            if code_of(error) not in REFUSAL_CODES:
                raise  # ECS did not say no: the machine tries again.
            at = "" if what == AT_FIELD else "taskDefinition: "
            raise RequestRefused(f"{at}{what}: {message}") from None
        return answer
