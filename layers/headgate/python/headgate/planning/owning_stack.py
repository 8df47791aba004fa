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

_CONSTANT_IN_YAML = re.compile(
    r"""^\s+AutoPublishCodeSha256:\s*(?P<quote>["']?)(?P<text>[0-9A-Za-z]+)(?P=quote)\s*(#.*)?$""", re.MULTILINE
)

ALIAS = "AWS::Lambda::Alias"

DIGITS = 10
"""Characters of AutoPublishCodeSha256 that SAM makes part of the logical id of a version."""


class StackOwner(NamedTuple):
    """A stack and the logical id of the resource; empty if the stack has too many resources for one answer."""

    stack: str
    resource: str

    def warning_about(self, alias: str) -> str:
        """Return the warning for a rollout on an alias (``function:alias``) that this stack owns."""
        resource = f"resource {self.resource}" if self.resource else "a resource"
        return (
            f"target.alias: {alias} is {resource} of the CloudFormation stack {self.stack}, and deploying that stack "
            f"may move it; run headgate adopt {alias}, which shows how to take it over from the stack step by step"
        )


def owner_of(formation: CloudFormationClient, physical_id: str) -> StackOwner | None:
    """Find the stack of an alias by its ARN; None if there is none.

    A Custom::HeadgateRollout has the ARN of its alias as its physical id, and moves it by rollouts only.
    """
    try:
        answer = formation.describe_stack_resources(PhysicalResourceId=physical_id)
    except ClientError as error:
        if code_of(error) == "ValidationError" and "does not exist" in message_of(error):
            return None
        raise
    # The answer has the stack's first hundred resources.
    resources = answer["StackResources"]
    found = [resource for resource in resources if resource.get("PhysicalResourceId") == physical_id]
    for resource in found:
        if resource["ResourceType"] == ALIAS:
            owner = StackOwner(resource["StackName"], resource["LogicalResourceId"])
            return None if resource["ResourceStatus"] in _GONE_STATUSES else owner
    return StackOwner(resources[0]["StackName"], "") if resources and not found else None


def processed_template(formation: CloudFormationClient, stack: str) -> Any:
    """Return a stack's template after macros and transforms, so with what SAM makes of AutoPublishAlias."""
    return formation.get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]


def original_template(formation: CloudFormationClient, stack: str) -> Any:
    """Return a stack's template as it was deployed, before macros and transforms."""
    return formation.get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]


def leaves_alone(formation: CloudFormationClient, owner: StackOwner, alias: str) -> bool:
    """Return whether deploying the stack again certainly does not move its alias.

    The template as it was deployed is read only if the processed one does not tell.
    """
    template = processed_template(formation, owner.stack)
    return keeps_version(template, owner.resource, alias) or keeps_version(
        template, owner.resource, alias, original_template(formation, owner.stack)
    )


def keeps_version(template: Any, resource: str, alias: str, original: Any = "") -> bool:
    """Return whether deploying a template certainly does not move an alias.

    CloudFormation updates an alias only if one of its properties changes. A literal version does not, nor does a
    version that SAM makes of a constant AutoPublishCodeSha256.

    Parameters
    ----------
    template
        Object of a JSON template, or the text of a YAML template, of which only the usual block style is understood.
    resource
        Logical id of the alias; empty if it is not known.
    alias
        Name of the alias.
    original
        The template before SAM's transform, in either form; without it, constants of SAM are not known.
    """
    if isinstance(template, str):
        block = _block_of(template, resource) if resource else ""
        return bool(_LITERAL_IN_YAML.search(block)) and _BY_CODEDEPLOY not in block
    resources = template.get("Resources", {})
    aliases = [resources.get(resource, {})] if resource else _aliases_that_may_be(resources, alias)
    return bool(aliases) and all(_has_literal_version(each) or has_constant_version(each, original) for each in aliases)


def has_constant_version(alias: dict[str, Any], original: Any) -> bool:
    """Return whether the version that SAM gives an alias has a logical id that does not change with the code.

    Parameters
    ----------
    alias
        The alias in the processed template.
    original
        The template before the transform.
    """
    if moved_by_codedeploy(alias):
        return False
    properties = alias.get("Properties", {})
    function, version = properties.get("FunctionName"), version_resource(alias)
    if not isinstance(function, dict) or not isinstance(function.get("Ref"), str):
        return False
    constant = constant_of(original, function["Ref"])
    return bool(constant) and version == f"{function['Ref']}Version{constant[:DIGITS]}"


def version_resource(alias: dict[str, Any]) -> str:
    """Return the logical id of the version that an alias in a processed template points at; empty if it names none."""
    named = alias.get("Properties", {}).get("FunctionVersion")
    found = named.get("Fn::GetAtt") if isinstance(named, dict) else None
    logical, _, attribute = (found if isinstance(found, str) else ".".join(map(str, found or ()))).partition(".")
    return logical if attribute == "Version" else ""


def constant_of(original: Any, function: str) -> str:
    """Return the AutoPublishCodeSha256 of a function in a template before the transform; empty if it is no constant."""
    if isinstance(original, str):
        found = _CONSTANT_IN_YAML.search(_block_of(original, function))
        return found["text"] if found else ""
    value = original.get("Resources", {}).get(function, {}).get("Properties", {}).get("AutoPublishCodeSha256")
    return value if isinstance(value, str) else ""


def moved_by_codedeploy(alias: dict[str, Any]) -> bool:
    """Return whether CodeDeploy moves an alias of a processed template when its version changes."""
    return _BY_CODEDEPLOY in alias.get("UpdatePolicy", {})


def _aliases_that_may_be(resources: dict[str, Any], alias: str) -> list[dict[str, Any]]:
    """Return the aliases of a template that may have a name: also those whose name is an expression."""
    return [
        each
        for each in resources.values()
        if each.get("Type") == ALIAS
        and (not isinstance(name := each.get("Properties", {}).get("Name"), str) or name == alias)
    ]


def _has_literal_version(resource: dict[str, Any]) -> bool:
    version = resource.get("Properties", {}).get("FunctionVersion")
    return isinstance(version, str | int) and not moved_by_codedeploy(resource)


def _block_of(template: str, resource: str) -> str:
    """Return the indented lines of a resource in a YAML template; empty if it is not found."""
    block = re.search(
        rf"^(?P<indent> +){re.escape(resource)}:[^\n]*\n(?P<lines>(?:(?P=indent) +[^\n]*\n|[ \t]*\n)*)",
        template + "\n",
        re.MULTILINE,
    )
    return block["lines"] if block else ""
