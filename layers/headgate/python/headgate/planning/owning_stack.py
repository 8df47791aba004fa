"""The CloudFormation stack that owns a resource, and whether deploying it moves an alias.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, message_of

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient


_GONE_STATUSES = ("DELETE_COMPLETE", "DELETE_SKIPPED")
"""CloudFormation returns a deleted stack for 90 days. It no longer owns its resources."""


_BY_CODEDEPLOY = "CodeDeployLambdaAliasUpdate"
"""The update policy by which CodeDeploy moves an alias: SAM writes it for DeploymentPreference."""

_LITERAL_IN_YAML = re.compile(r"""^\s+FunctionVersion:\s*["']?[0-9]+["']?\s*(#.*)?$""", re.MULTILINE)


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


def owner_of(formation: CloudFormationClient, physical_id: str) -> StackOwner | None:
    """Find the stack of a resource by its physical id; None if there is none."""
    try:
        answer = formation.describe_stack_resources(PhysicalResourceId=physical_id)
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


def processed_template(formation: CloudFormationClient, stack: str) -> Any:
    """Return a stack's template after macros and transforms, so with what SAM makes of AutoPublishAlias."""
    return formation.get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]


def keeps_version(template: Any, resource: str, alias: str) -> bool:
    """Return whether deploying a template certainly does not move an alias.

    CloudFormation updates an alias only if one of its properties changes. A literal version does not.

    Parameters
    ----------
    template
        Object of a JSON template, or the text of a YAML template, of which only the usual block style is understood.
    resource
        Logical id of the alias; empty if it is not known.
    alias
        Name of the alias.
    """
    if isinstance(template, str):
        block = _block_of(template, resource) if resource else ""
        return bool(_LITERAL_IN_YAML.search(block)) and _BY_CODEDEPLOY not in block
    resources = template.get("Resources", {})
    aliases = [resources.get(resource, {})] if resource else _aliases_that_may_be(resources, alias)
    return bool(aliases) and all(_has_literal_version(each) for each in aliases)


def _aliases_that_may_be(resources: dict[str, Any], alias: str) -> list[dict[str, Any]]:
    """Return the aliases of a template that may have a name: also those whose name is an expression."""
    return [
        each
        for each in resources.values()
        if each.get("Type") == "AWS::Lambda::Alias"
        and (not isinstance(name := each.get("Properties", {}).get("Name"), str) or name == alias)
    ]


def _has_literal_version(resource: dict[str, Any]) -> bool:
    version = resource.get("Properties", {}).get("FunctionVersion")
    return isinstance(version, str | int) and _BY_CODEDEPLOY not in resource.get("UpdatePolicy", {})


def _block_of(template: str, resource: str) -> str:
    """Return the indented lines of a resource in a YAML template; empty if it is not found."""
    block = re.search(
        rf"^(?P<indent> +){re.escape(resource)}:[^\n]*\n(?P<lines>(?:(?P=indent) +[^\n]*\n|[ \t]*\n)*)",
        template + "\n",
        re.MULTILINE,
    )
    return block["lines"] if block else ""
