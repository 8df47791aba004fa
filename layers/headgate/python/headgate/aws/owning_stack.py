"""The CloudFormation stack that owns a resource, and whether deploying it moves an alias.

https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import is_missing_stack

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

ALIAS, MAPPING = "AWS::Lambda::Alias", "AWS::Lambda::EventSourceMapping"

SERVICE, RULE, LISTENER = (
    "AWS::ECS::Service",
    "AWS::ElasticLoadBalancingV2::ListenerRule",
    "AWS::ElasticLoadBalancingV2::Listener",
)
"""Their physical ids are ARNs."""

DIGITS = 10
"""Characters of AutoPublishCodeSha256 that SAM makes part of the logical id of a version."""


OF_VERSION = ("Description", "CodeSha256", "ProvisionedConcurrencyConfig", "RuntimePolicy")
"""Properties of AWS::Lambda::Version with which CloudFormation replaces it, and so moves the alias that points at it.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-version.html
"""

OF_ALIAS = ("Description", "ProvisionedConcurrencyConfig", "RoutingConfig")
"""Properties of an alias with which CloudFormation writes it, and its version with them."""

_OF_FUNCTION = ("VersionDescription", "ProvisionedConcurrencyConfig")
"""Properties of AWS::Serverless::Function that become properties of version and alias."""

_GLOBALS = "Globals"

_EXPRESSION_IN_YAML = re.compile(r"""(?:^|[\s\[{,])[!*]\w|\b(?:Ref|Fn::\w+)["']?\s*:""")


class Setting(NamedTuple):
    """A property in a template."""

    resource: str
    """Logical id; ``Globals`` for what holds for every function."""
    name: str

    def __str__(self) -> str:
        """Return it in words, as ``VersionDescription of Checkout``."""
        return f"{self.name} of {self.resource}"


class StackOwner(NamedTuple):
    """A stack and the logical id of the resource; empty if the stack has too many resources for one answer."""

    stack: str
    resource: str

    def warning_about(self, alias: str) -> str:
        """Return the warning for a rollout on an alias (``function:alias``) that this stack owns."""
        return (
            f"target.alias: {alias} is {self.named}, and deploying that stack "
            f"may move it; run headgate adopt {alias}, which shows how to take it over from the stack step by step"
        )

    @property
    def named(self) -> str:
        """The resource and its stack in words."""
        resource = f"resource {self.resource}" if self.resource else "a resource"
        return f"{resource} of the CloudFormation stack {self.stack}"


def owner_of(formation: CloudFormationClient, physical_id: str, kind: str = ALIAS) -> StackOwner | None:
    """Find the stack of an alias by its ARN, or of a resource of another type; None if there is none.

    A Custom::HeadgateRollout has the ARN of its alias as its physical id, and moves it by rollouts only.
    """
    try:
        answer = formation.describe_stack_resources(PhysicalResourceId=physical_id)
    except ClientError as error:
        if is_missing_stack(error):
            return None
        raise
    # The answer has the stack's first hundred resources.
    resources = answer["StackResources"]
    found = [resource for resource in resources if resource.get("PhysicalResourceId") == physical_id]
    for resource in found:
        if resource["ResourceType"] == kind:
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

    The template as it was deployed is read only if the processed one does not tell enough: it is text if there are no
    transforms.
    """
    template = processed_template(formation, owner.stack)
    original = "" if isinstance(template, str) else original_template(formation, owner.stack)
    return keeps_version(template, owner.resource, alias, original)


def keeps_version(template: Any, resource: str, alias: str, original: Any = "") -> bool:
    """Return whether deploying a template certainly does not move an alias.

    CloudFormation updates an alias only if one of its properties changes. A literal version does not, nor does a
    version that SAM makes of a constant AutoPublishCodeSha256, if no other property of the two can change.

    Parameters
    ----------
    template
        Object of a JSON template, or the text of a YAML template, of which only the usual block style is understood.
    resource
        Logical id of the alias; empty if it is not known.
    alias
        Name of the alias.
    original
        The template before transforms, in either form; without it, constants of SAM are not known.
    """
    if isinstance(template, str):
        block = _block_of(template, resource) if resource else ""
        if not _LITERAL_IN_YAML.search(block) or _BY_CODEDEPLOY in block:
            return False
        return not _expressions_in(block, OF_ALIAS)
    resources = template.get("Resources", {})
    aliases = [resource] if resource else _aliases_that_may_be(resources, alias)
    return bool(aliases) and all(
        (_has_literal_version(found := resources.get(each, {})) or has_constant_version(found, original))
        and not moving_settings(template, each, original)
        for each in aliases
    )


def moving_settings(template: dict[str, Any], resource: str, original: Any = "") -> list[Setting]:
    """Return the properties whose change makes CloudFormation move an alias, and that can change without an edit.

    CloudFormation replaces a version of the same logical id if, for example, its description refers to a parameter
    that has another value. It then points the alias at the new version at once.

    Parameters
    ----------
    template
        Object of the processed template.
    resource
        Logical id of the alias, whose version is a literal or made by SAM of a constant.
    original
        The template before transforms, in either form: some put the value of a parameter into the processed one.
    """
    resources = template.get("Resources", {})
    alias = resources.get(resource, {})
    version, function = version_resource(alias), _function_of(alias)
    by_sam = bool(function and version) and not _declares(original, version)
    owner = function if by_sam else resource
    found = [Setting(owner, name) for name in OF_ALIAS if not _is_constant(alias.get("Properties", {}).get(name))]
    if by_sam:
        properties = resources.get(version, {}).get("Properties", {})
        names = [name for name in OF_VERSION if not _is_constant(properties.get(name))]
        found += [Setting(function, "VersionDescription" if name == "Description" else name) for name in names]
    written = ((function, _OF_FUNCTION), (_GLOBALS, _OF_FUNCTION)) if by_sam else ((resource, OF_ALIAS),)
    for named, affected in written:
        found += _expressions_before_transforms(original, named, affected)
    return list(dict.fromkeys(found))


def _expressions_before_transforms(original: Any, named: str, names: tuple[str, ...]) -> list[Setting]:
    """Return which properties of a resource, or of every function by Globals, are not literal before transforms."""
    if isinstance(original, str):
        found = _expressions_in(_block_of(original, "Function" if named == _GLOBALS else named), names)
    else:
        everywhere = (original.get("Globals") or {}).get("Function") or {}
        own = original.get("Resources", {}).get(named, {})
        properties = everywhere if named == _GLOBALS else own.get("Properties", {})
        found = [name for name in names if not _is_constant(properties.get(name))]
    return [Setting(named, name) for name in found]


def _declares(template: Any, resource: str) -> bool:
    if isinstance(template, str):
        return bool(_block_of(template, resource))
    return resource in template.get("Resources", {})


def _is_constant(value: Any) -> bool:
    """Return whether a value consists of literals and of what never changes in the life of a stack."""
    if isinstance(value, list):
        return all(_is_constant(each) for each in value)
    if not isinstance(value, dict):
        return True
    if "Ref" in value:
        return _is_of_the_stack(value["Ref"])
    if isinstance(joined := value.get("Fn::Sub"), str):
        return all(_is_of_the_stack(name) for name in re.findall(r"\$\{([^!}][^}]*)\}", joined))
    if any(name.startswith("Fn::") and name != "Fn::Join" for name in value):
        return False
    return all(_is_constant(each) for each in value.values())


def _is_of_the_stack(name: Any) -> bool:
    """Return whether a reference names a pseudo parameter that has one value in the life of a stack."""
    return str(name).startswith("AWS::") and name != "AWS::NotificationARNs"


def _expressions_in(block: str, names: tuple[str, ...]) -> list[str]:
    """Return which keys in the lines of a resource have a value that is not literal."""
    found = (
        (name, re.search(rf"^(?P<indent> +){name}:(?P<value>[^\n]*\n(?:(?P=indent) +[^\n]*\n)*)", block, re.MULTILINE))
        for name in names
    )
    return [name for name, match in found if match and _EXPRESSION_IN_YAML.search(match["value"])]


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
    function = _function_of(alias)
    constant = constant_of(original, function) if function else ""
    return bool(constant) and version_resource(alias) == f"{function}Version{constant[:DIGITS]}"


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


def _function_of(alias: dict[str, Any]) -> str:
    """Return the logical id of the function that an alias refers to; empty if it refers to none."""
    named = alias.get("Properties", {}).get("FunctionName")
    return named["Ref"] if isinstance(named, dict) and isinstance(named.get("Ref"), str) else ""


def _aliases_that_may_be(resources: dict[str, Any], alias: str) -> list[str]:
    """Return logical ids of the aliases of a template that may have a name: also those whose name is an expression."""
    return [
        logical
        for logical, each in resources.items()
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
