"""Whether CloudFormation itself has moved an alias or deployed a service in the update that is under way.

A stack whose template names another version of its alias, or another revision of its service, moves it before its
rollout resource is asked, so there is nothing left to judge. SAM's AutoPublishAlias does this without a constant
AutoPublishCodeSha256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

_UPDATED = ("UPDATE_COMPLETE", "UPDATE_IN_PROGRESS")


def has_updated(formation: CloudFormationClient, stack_id: str, kind: str, arn: str) -> bool:
    """Return whether the update of a stack that is under way has updated its alias or its service.

    A resource that an update does not touch keeps the time of its status:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_StackResourceSummary.html
    """
    [stack] = formation.describe_stacks(StackName=stack_id)["Stacks"]
    began = stack.get("LastUpdatedTime")
    # DescribeStackResources would find the stack by the alias, but has a hundred resources at most.
    pages = formation.get_paginator("list_stack_resources").paginate(StackName=stack_id)
    return began is not None and any(
        each["ResourceStatus"] in _UPDATED and each["LastUpdatedTimestamp"] >= began
        for page in pages
        for each in page["StackResourceSummaries"]
        # A rollout resource has the ARN of its alias or service as its physical id, too.
        if each["ResourceType"] == kind and each.get("PhysicalResourceId") == arn
    )
