"""What an adoption stands on: the alias, the stack that owns it, and the stack's templates. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.arns import alias_arn
from headgate.aws.lambda_functions import differing
from headgate.aws.owning_stack import (
    ALIAS,
    DIGITS,
    constant_of,
    has_constant_version,
    moved_by_codedeploy,
    moving_settings,
    original_template,
    owner_of,
    processed_template,
    version_resource,
)
from headgate_cli.adopting.templates import global_function, parsed, resources_of
from headgate_cli.failures import Failure
from headgate_cli.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from headgate.aws.owning_stack import Setting
    from headgate.spec.targets import LambdaAliasTarget
    from headgate_cli.stack import Stack

CUSTOM_RESOURCE = "Custom::HeadgateRollout"

FUNCTION = "AWS::Lambda::Function"

SERVERLESS_FUNCTION = "AWS::Serverless::Function"

RUNNING = ("Created", "Queued", "InProgress", "Baking", "Ready")
"""Statuses of a deployment of CodeDeploy that may still move the alias."""


class Alias(NamedTuple):
    """An alias as Lambda has it."""

    function: str
    name: str
    arn: str
    version: str
    weights: Mapping[str, float]
    rollout: str
    """Rollout that moves it; empty if none does."""
    has_rollouts: bool
    """Whether a rollout has ever moved it."""

    @property
    def target(self) -> str:
        """The alias as ``FUNCTION:ALIAS``."""
        return f"{self.function}:{self.name}"


class Declared(NamedTuple):
    """An alias in a template, before or after its deployment."""

    resource: str
    """Logical id of the alias."""
    arn: str
    target: str
    processed: Mapping[str, Any]
    original: Mapping[str, Any]
    existing: Set[str]
    """Logical ids of the resources that the stack has. A resource whose Condition is false is in the template alone."""
    deployed: str = ""
    """Logical id of the deployed custom resource of this alias, whose physical id is the alias's ARN."""

    @property
    def alias(self) -> dict[str, Any]:
        """The alias in the processed template; empty if the template has none of this logical id."""
        return dict(resources_of(self.processed).get(self.resource, {}))

    @property
    def function(self) -> str:
        """Logical id of the function; empty if the stack does not have it."""
        named = self.alias.get("Properties", {}).get("FunctionName")
        return str(named["Ref"]) if isinstance(named, dict) and isinstance(named.get("Ref"), str) else ""

    @property
    def by_sam(self) -> bool:
        """Whether SAM makes the alias of a function."""
        return resources_of(self.original).get(self.function, {}).get("Type") == SERVERLESS_FUNCTION and (
            self.resource not in resources_of(self.original)
        )

    @property
    def version(self) -> str:
        """Logical id of the version that the alias points at; empty if it names none."""
        return version_resource(self.alias)

    @property
    def literal(self) -> str:
        """The version's number, if the template has it literally."""
        named = self.alias.get("Properties", {}).get("FunctionVersion")
        return str(named) if isinstance(named, str | int) else ""

    @property
    def constant(self) -> str:
        """The constant AutoPublishCodeSha256; empty if there is none."""
        return constant_of(dict(self.original), self.function)

    @property
    def has_constant(self) -> bool:
        """Whether SAM makes the version's logical id of a constant."""
        return has_constant_version({**self.alias, "UpdatePolicy": {}}, dict(self.original))

    @property
    def names_one_version(self) -> bool:
        """Whether the template names the same version whatever the code is."""
        if self.by_codedeploy:
            return False
        return bool(self.literal) or self.has_constant

    @property
    def moving(self) -> list[Setting]:
        """Properties by which CloudFormation moves the alias all the same when they change."""
        return moving_settings(dict(self.processed), self.resource, dict(self.original))

    @property
    def by_codedeploy(self) -> bool:
        """Whether CodeDeploy moves the alias when its version changes."""
        return moved_by_codedeploy(self.alias)

    @property
    def retained(self) -> bool:
        """Whether CloudFormation keeps the alias when the resource goes or is replaced."""
        return all(self.alias.get(name) == "Retain" for name in ("DeletionPolicy", "UpdateReplacePolicy"))

    @property
    def custom_resource(self) -> str:
        """Logical id of the Custom::HeadgateRollout of this alias; empty if the stack has none."""
        return next((logical for logical in self._custom_resources() if logical in self.existing), "")

    @property
    def left_out(self) -> str:
        """Logical id of a Custom::HeadgateRollout of this alias whose Condition is false; empty if there is none."""
        return next((logical for logical in self._custom_resources() if logical not in self.existing), "")

    def _custom_resources(self) -> Iterator[str]:
        for logical, each in resources_of(self.processed).items():
            if each.get("Type") == CUSTOM_RESOURCE and (
                logical == self.deployed or self._is_meant(each.get("Properties", {}).get("Alias"))
            ):
                yield logical

    def _is_meant(self, named: Any) -> bool:
        if isinstance(named, str):
            return named in (self.arn, self.target)
        if not isinstance(named, dict):
            return False
        name = str(self.alias.get("Properties", {}).get("Name"))
        joined = named.get("Fn::Sub")
        return named.get("Ref") == self.resource or joined in (
            f"${{{self.function}}}:{name}",
            f"${{{self.resource}}}",
        )

    @property
    def preference(self) -> dict[str, Any]:
        """The DeploymentPreference that the function has, also by Globals."""
        own = resources_of(self.original).get(self.function, {}).get("Properties", {}).get("DeploymentPreference")
        everywhere = global_function(self.original).get("DeploymentPreference")
        return {name: value for each in (everywhere, own) if isinstance(each, dict) for name, value in each.items()}


class Facts(NamedTuple):
    """An alias and the stack that owns it."""

    alias: Alias
    stack: str
    """Name of the stack that has the alias as its resource."""
    statuses: Mapping[str, str]
    """Status of the stack, and of the stack that it is nested in, by name."""
    root: str
    """Name of the outermost stack, which is deployed; the same as ``stack`` unless that is nested."""
    stack_id: str
    declared: Declared
    """The alias as it is deployed."""
    function: str
    """Logical id of the function, however the alias names it; empty if the stack does not have it."""
    text: Any
    """The template as it was deployed, with its own words."""
    physical: Mapping[str, str]
    """Physical ids of the stack's resources, by logical id."""
    stack_version: str
    """Version that the stack's template names; empty if it is not known."""
    description: str
    """Description of that version, if it is one of the properties that may move the alias; empty if it is not known."""
    deployment: str
    """Deployment of CodeDeploy that runs; empty if none does."""
    differs: tuple[str, ...] | None
    """Fields of its configuration in which $LATEST differs from the version that is served; None if not asked."""

    @property
    def digits(self) -> str:
        """The part of the version's logical id that SAM makes of the code."""
        return self.declared.version.removeprefix(f"{self.declared.function}Version")[:DIGITS]

    @property
    def handed_over(self) -> bool:
        """Whether the stack's template names one version, and has a resource that rolls out others."""
        return self.declared.names_one_version and bool(self.declared.custom_resource)


def read_alias(stack: Stack, target: LambdaAliasTarget) -> Alias:
    """Read an alias.

    Raises
    ------
    Failure
        If there is no such function or alias, or it serves no version by its number.
    """
    functions = stack.client("lambda")
    missing = functions.exceptions.ResourceNotFoundException
    try:
        found = functions.get_alias(FunctionName=target.name, Name=target.alias)
    except missing:
        raise Failure(
            f"there is no alias {target.alias} of a function {target.name}; check both names (aws lambda list-aliases "
            f"--function-name {target.name}), --region and --profile"
        ) from None
    if not str(found["FunctionVersion"]).isdigit():
        raise Failure(
            f"{target.name}:{target.alias} serves {found['FunctionVersion']}, which can change at any time; publish a "
            "version, and point the alias at its number"
        )
    _, partition, _, region, account, *_ = str(found["AliasArn"]).split(":")
    records = Records(stack)
    return Alias(
        function=target.name,
        name=target.alias,
        arn=alias_arn(partition, region, account, target.name, target.alias),
        version=str(found["FunctionVersion"]),
        weights=(found.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {},
        rollout=records.moved_by(target.key),
        has_rollouts=records.get(keys.target_pk(target.key), keys.LOCK_SK) is not None,
    )


def read_facts(stack: Stack, alias: Alias, *, compares: bool) -> Facts | None:
    """Read the stack that owns an alias; None if none does.

    Parameters
    ----------
    compares
        Also compare $LATEST with the version that is served.

    Raises
    ------
    Failure
        If its template is not understood.
    """
    formation = stack.client("cloudformation")
    owner = owner_of(formation, alias.arn)
    if owner is None:
        return None
    described = formation.describe_stacks(StackName=owner.stack)["Stacks"][0]
    statuses = {owner.stack: described["StackStatus"]}
    root = owner.stack
    if root_id := described.get("RootId"):
        outermost = formation.describe_stacks(StackName=root_id)["Stacks"][0]
        root = outermost["StackName"]
        statuses[root] = outermost["StackStatus"]
    pages = formation.get_paginator("list_stack_resources").paginate(StackName=owner.stack)
    resources = {
        each["LogicalResourceId"]: (each["ResourceType"], each.get("PhysicalResourceId", ""))
        for page in pages
        for each in page["StackResourceSummaries"]
    }
    logical = owner.resource or next(name for name, each in resources.items() if each == (ALIAS, alias.arn))
    text = original_template(formation, owner.stack)
    processed = parsed(processed_template(formation, owner.stack))
    custom = next((name for name, each in resources.items() if each == (CUSTOM_RESOURCE, alias.arn)), "")
    declared = Declared(logical, alias.arn, alias.target, processed, parsed(text), frozenset(resources), custom)
    if not declared.by_sam and logical not in resources_of(declared.original):
        raise Failure(
            f"{alias.target} is resource {logical} of stack {owner.stack}, and a macro or a loop in its template makes "
            "it; change the template by hand as docs/adopt.md says"
        )
    physical = {name: each[1] for name, each in resources.items()}
    values = {each["ParameterKey"]: each.get("ParameterValue", "") for each in described.get("Parameters", [])}
    stack_version = _stack_version(declared, physical, values)
    return Facts(
        alias=alias,
        stack=owner.stack,
        statuses=statuses,
        root=root,
        stack_id=described["StackId"],
        declared=declared,
        function=next((name for name, each in resources.items() if each == (FUNCTION, alias.function)), ""),
        text=text,
        physical=physical,
        stack_version=stack_version,
        description=_description(stack, alias, stack_version) if declared.moving else "",
        deployment=_running_deployment(stack, declared, physical),
        differs=_differences(stack, alias) if compares else None,
    )


def _stack_version(declared: Declared, physical: Mapping[str, str], values: Mapping[str, str]) -> str:
    if declared.version:
        return physical.get(declared.version, "").rpartition(":")[2]
    named = declared.alias.get("Properties", {}).get("FunctionVersion")
    if isinstance(named, dict) and isinstance(named.get("Ref"), str):
        return values.get(named["Ref"], "")
    return declared.literal


def _description(stack: Stack, alias: Alias, version: str) -> str:
    functions = stack.client("lambda")
    try:
        found = functions.get_function_configuration(FunctionName=alias.function, Qualifier=version or alias.version)
    except functions.exceptions.ResourceNotFoundException:
        return ""
    return str(found.get("Description", ""))


def _running_deployment(stack: Stack, declared: Declared, physical: Mapping[str, str]) -> str:
    """Return a deployment of CodeDeploy that may still move the alias; empty if there is none."""
    if not declared.by_codedeploy:
        return ""
    policy = next(iter(declared.alias["UpdatePolicy"].values()))
    application, group = (
        physical.get(named["Ref"], "") if isinstance(named, dict) and "Ref" in named else named
        for named in (policy.get("ApplicationName"), policy.get("DeploymentGroupName"))
    )
    if not isinstance(application, str) or not isinstance(group, str):
        return ""
    found = stack.client("codedeploy").list_deployments(
        applicationName=application, deploymentGroupName=group, includeOnlyStatuses=list(RUNNING)
    )
    return next(iter(found.get("deployments", [])), "")


def _differences(stack: Stack, alias: Alias) -> tuple[str, ...]:
    functions = stack.client("lambda")
    latest, served = (
        functions.get_function_configuration(FunctionName=alias.function, Qualifier=qualifier)
        for qualifier in ("$LATEST", alias.version)
    )
    return differing(latest, served)
