"""What Headgate needs beside the alias: parameters of its stack that cover its functions, and hooks that answer."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.own_resources import OwnResources
from headgate.aws.patterns import function_name
from headgate.planning.code_deploy_hooks import WRAPPER, WRAPPER_VARIABLE
from headgate_cli.adopting.facts import FUNCTION, SERVERLESS_FUNCTION
from headgate_cli.adopting.model import Check
from headgate_cli.adopting.templates import resources_of
from headgate_cli.doctor.targets import widening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate_cli.adopting.facts import Declared, Facts

LAYER_OUTPUT = "CodeDeployHookLayerArn"

OF_THE_ALIAS = ("AWS::Lambda::Version", "AWS::Lambda::Alias", "Custom::HeadgateRollout")
"""Types of resources that name the version because they are the alias's."""


class Installation(NamedTuple):
    """Headgate's own stack."""

    name: str
    prefix: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]


class Hook(NamedTuple):
    """A function that is asked in a rollout of the alias."""

    resource: str
    """Its logical id; empty if the template does not have it."""
    name: str
    """Its name; empty if it is not known, as before its creation."""
    reports: bool
    """Whether it was written for CodeDeploy, and so reports to that."""

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return self.resource or self.name or "a hook"


def hooks_of(facts: Facts, declared: Declared) -> list[Hook]:
    """Return the hooks of the custom resource in a template; without one, those that DeploymentPreference has."""
    custom = resources_of(declared.processed).get(declared.custom_resource, {}).get("Properties", {})
    given = custom.get("Hooks") if declared.custom_resource else declared.preference.get("Hooks")
    written: list[tuple[Any, bool]] = []
    for stage, value in given.items() if isinstance(given, dict) else ():
        if stage in ("PreTraffic", "PostTraffic"):
            written.append((value, True))
        for each in value if isinstance(value, list) else ():
            written += [(each[kind], kind != "lambda") for kind in ("lambda", "codeDeployHook") if kind in each]
    return list(dict.fromkeys(_hook(facts, declared, value, reports) for value, reports in written))


def _hook(facts: Facts, declared: Declared, value: Any, reports: bool) -> Hook:
    named = value
    if isinstance(value, dict):
        named = value.get("Ref") or value.get("Fn::GetAtt") or ""
    resource = str(named[0] if isinstance(named, list) and named else named).partition(".")[0]
    if isinstance(value, dict) and resources_of(declared.processed).get(resource, {}).get("Type") == FUNCTION:
        return Hook(resource, facts.physical.get(resource, ""), reports)
    return Hook("", function_name(value) if isinstance(value, str) else "", reports)


def covered(facts: Facts, headgate: Installation) -> Iterator[Check]:
    """Yield a check for each function that a parameter of Headgate's stack must cover, with the parameter to deploy."""
    yield _covered(headgate, "TargetFunctions", facts.alias.function, "target-functions")
    own = OwnResources(headgate.prefix, {})
    for hook in hooks_of(facts, facts.declared):
        if hook.name and not own.is_sample_hook(hook.name):
            yield _covered(headgate, "HookFunctions", hook.name, "hook-functions")


def _covered(headgate: Installation, parameter: str, name: str, check: str) -> Check:
    pattern = headgate.parameters.get(parameter, "")
    known = f"{parameter} of stack {headgate.name}, which is {pattern or 'empty'}"
    if fnmatchcase(name, pattern):
        return Check(name=check, passed=True, message=f"{name} is covered by {known}")
    fix = f"deploy stack {headgate.name} with {widening(parameter, pattern, name)}"
    return Check(name=check, passed=False, message=f"{name} is not covered by {known}", fix=fix)


def right_version(facts: Facts, declared: Declared) -> Iterator[Check]:
    """Yield a failed check for each variable by which a hook would test the first version instead of the candidate."""
    for hook in hooks_of(facts, declared):
        for variable in _first_versions(declared, hook.resource) if hook.reports else ():
            yield Check(
                name="hook-version",
                passed=False,
                message=f"{hook.shown} gets {facts.declared.function}.Version in its environment variable {variable}, "
                "which is the first version from now on, so the next rollout is refused",
                fix=f"remove {variable}, and let {hook.shown} invoke the version in headgate.candidate of its event "
                "(docs/codedeploy-hooks.md)",
            )


def notes(facts: Facts, declared: Declared, headgate: Installation) -> list[str]:
    """Return what has to change in a template besides the function and its custom resource."""
    hooks = hooks_of(facts, declared)
    found = [each for hook in hooks if hook.reports and (each := _about_the_layer(declared, hook, headgate))]
    return [*found, *_about_the_version(facts, declared, hooks)]


def _about_the_layer(declared: Declared, hook: Hook, headgate: Installation) -> str:
    arn = headgate.outputs.get(LAYER_OUTPUT, "")
    layer = f"the layer of the output {LAYER_OUTPUT} of stack {headgate.name}{f' ({arn})' if arn else ''}"
    add = f"add {layer} and the environment variable {WRAPPER_VARIABLE}: {WRAPPER} to it"
    instead = 'or let it return {"hookStatus": "SUCCEEDED"} or FAILED (docs/codedeploy-hooks.md)'
    properties = resources_of(declared.processed).get(hook.resource, {}).get("Properties", {})
    if not hook.resource:
        return f"{hook.shown} is not in this template. If it reports to CodeDeploy, {add}, {instead}."
    wraps = WRAPPER_VARIABLE in _variables(properties)
    if wraps and (properties.get("Layers") or properties.get("PackageType") == "Image"):
        return ""
    return f"{hook.resource} reports to CodeDeploy, and Headgate gets that by a layer only: {add}, {instead}."


def _about_the_version(facts: Facts, declared: Declared, hooks: list[Hook]) -> Iterator[str]:
    """Yield what refers to the version that SAM makes, which stays the first one."""
    if not declared.by_sam:
        return
    function = facts.declared.function
    stays = f"which stays version {facts.stack_version or 'that is deployed'} from now on"
    for logical, resource in resources_of(declared.processed).items():
        if resource.get("Type") in OF_THE_ALIAS or not _refers(resource.get("Properties"), declared.version):
            continue
        variables = _first_versions(declared, logical)
        if variables and logical in {hook.resource for hook in hooks}:
            yield (
                f"{logical} gets {function}.Version in its environment variable {' and '.join(variables)}, {stays}: "
                "let it invoke the candidate that its event names (docs/codedeploy-hooks.md)."
            )
        elif str(resource.get("Type")).startswith("AWS::IAM::"):
            yield (
                f"{_shown_role(declared, logical)}: it allows {function}.Version, {stays}; let it allow every version, "
                f'!Sub "${{{function}.Arn}}:*".'
            )
        else:
            yield f"{logical} refers to {function}.Version, {stays}: see whether it should name the alias."
    for name, output in (declared.processed.get("Outputs") or {}).items():
        if _refers(output, declared.version):
            yield (
                f"Output {name} refers to {function}.Version, {stays}: !GetAtt {declared.custom_resource or 'NAME'}."
                "Version, of the custom resource, is the one that serves."
            )


def left_references(declared: Declared) -> list[str]:
    """Return what in a template refers to the custom resource, and cannot when that is removed."""
    custom = declared.custom_resource
    parts = {
        name: each for name, each in resources_of(declared.original).items() if name != custom and _needs(each, custom)
    }
    outputs = [
        f"output {name}" for name, each in (declared.original.get("Outputs") or {}).items() if _refers(each, custom)
    ]
    return [f"{each} refers to {custom}: remove the reference in the same deployment." for each in (*parts, *outputs)]


def _needs(resource: Mapping[str, Any], logical: str) -> bool:
    depends = resource.get("DependsOn")
    return _refers(resource, logical) or logical in (depends if isinstance(depends, list) else [depends])


def _shown_role(declared: Declared, logical: str) -> str:
    function = logical.removesuffix("Role")
    by_sam = resources_of(declared.original).get(function, {}).get("Type") == SERVERLESS_FUNCTION
    return f"Role of {function} (its Policies)" if by_sam and logical != function else logical


def _first_versions(declared: Declared, logical: str) -> list[str]:
    """Return the environment variables of a function with the version that SAM makes of the alias's function."""
    if not declared.by_sam or not logical:
        return []
    properties = resources_of(declared.processed).get(logical, {}).get("Properties", {})
    return [name for name, value in _variables(properties).items() if _refers(value, declared.version)]


def _variables(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    environment = properties.get("Environment")
    variables = environment.get("Variables") if isinstance(environment, dict) else None
    return variables if isinstance(variables, dict) else {}


def _refers(value: Any, logical: str) -> bool:
    """Return whether a part of a processed template refers to a resource."""
    return bool(logical) and any(each == logical for each in references(value))


def references(value: Any) -> Iterator[str]:
    """Yield the logical ids that a part of a template refers to, an attribute being left out."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if name in ("Ref", "Fn::GetAtt"):
            yield str(inner[0] if isinstance(inner, list) and inner else inner).partition(".")[0]
        elif name == "Fn::Sub":
            yield from _in_text(inner[0] if isinstance(inner, list) and inner else inner)
            yield from references(inner[1:] if isinstance(inner, list) else None)
        else:
            yield from references(inner)


def _in_text(text: Any) -> Iterator[str]:
    for each in str(text).split("${")[1:]:
        name = each.partition("}")[0].strip()
        if not name.startswith("!"):
            yield name.partition(".")[0]
