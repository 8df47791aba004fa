"""The CloudFormation stack that a target belongs to, if any. Deploying it may undo a rollout.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.arns import alias_arn
from headgate.aws.errors import code_of, message_of
from headgate.aws.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

    from headgate.aws.place import Place
    from headgate.spec.targets import LambdaAliasTarget


_GONE_STATUSES = ("DELETE_COMPLETE", "DELETE_SKIPPED")
"""CloudFormation returns a deleted stack for 90 days. It no longer owns its resources."""


class StackOwner(NamedTuple):
    """A stack and the logical id of the resource; empty if the stack has too many resources for one answer."""

    stack: str
    resource: str

    def warning_about(self, alias: str) -> str:
        """Return the warning for a rollout on an alias (``function:alias``) that this stack owns."""
        resource = f"resource {self.resource}" if self.resource else "a resource"
        return (
            f"target.alias: {alias} is {resource} of the CloudFormation stack {self.stack}, and deploying that stack "
            "may move it; create the alias outside the stack, or as AWS::Lambda::Alias with a literal "
            "FunctionVersion, and use neither AutoPublishAlias nor DeploymentPreference for it"
        )


class StackOwners:
    """Finds the stack that a resource belongs to."""

    def __init__(self, client: CloudFormationClient, place: Place) -> None:
        self._client = client
        self._place = place

    def warnings_about(self, target: LambdaAliasTarget) -> list[str]:
        """Return warnings about a stack that may move the alias. They never stop the rollout."""
        here = self._place
        arn = alias_arn(here.partition, here.region, here.account, target.name, target.alias)
        try:
            owner = self.owner_of(arn)
        except Exception as error:  # noqa: BLE001 - the rollout continues without the warning
            logger.warning("the stack of the alias could not be looked up", alias=arn, reason=str(error))
            return []
        if owner is None:
            return []
        warning = owner.warning_about(f"{target.name}:{target.alias}")
        logger.warning(warning)
        return [warning]

    def owner_of(self, physical_id: str) -> StackOwner | None:
        """Find the stack of a resource by its physical id; None if there is none."""
        try:
            answer = self._client.describe_stack_resources(PhysicalResourceId=physical_id)
        except ClientError as error:
            if code_of(error) == "ValidationError" and "does not exist" in message_of(error):
                return None
            raise
        # The answer has the stack's first hundred resources.
        resources = answer["StackResources"]
        for resource in resources:
            if resource.get("PhysicalResourceId") == physical_id:
                found = StackOwner(resource["StackName"], resource["LogicalResourceId"])
                return None if resource["ResourceStatus"] in _GONE_STATUSES else found
        return StackOwner(resources[0]["StackName"], "") if resources else None
