"""What may go wrong with a hook that was written for CodeDeploy, as its configuration shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headgate.spec.candidate import PublishedVersion
from headgate.spec.targets import LambdaAliasTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.aws.lambda_functions import FunctionConfiguration
    from headgate.spec.request import RolloutRequest

WRAPPER_VARIABLE = "AWS_LAMBDA_EXEC_WRAPPER"
WRAPPER = "/opt/headgate-codedeploy-hook"
"""The wrapper script in the layer for CodeDeploy hooks."""

_SERVED_RUNTIMES = ("python3.", "nodejs")

_VERSION_OF_FUNCTION = re.compile(
    r"(arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:)?(?P<name>[\w-]+):(?P<version>\d+)"
)


def refusal_of(configuration: FunctionConfiguration, request: RolloutRequest) -> str:
    """Return why a hook's function would test another version than the candidate, to be read after its name.

    It is empty if nothing says so. SAM's example gives a hook the version that the stack published
    (``!Ref Function.Version``). With Headgate the stack may publish none, and the variable keeps an earlier version:
    the hook would pass every candidate.
    """
    if not isinstance(request.target, LambdaAliasTarget):
        return ""
    candidate = request.candidate.version if isinstance(request.candidate, PublishedVersion) else None
    for variable, value in sorted((_variables(configuration) or {}).items()):
        named = _VERSION_OF_FUNCTION.fullmatch(value)
        if named and named["name"] == request.target.name and named["version"] != candidate:
            return (
                f"has version {named['version']} of {named['name']} in its environment variable {variable}, which is "
                "not the candidate, so it would test the wrong version; remove the variable, and let the function "
                "invoke the version in headgate.candidate of its event"
            )
    return ""


def warnings_about(configuration: FunctionConfiguration) -> list[str]:
    """Return what is wrong with a hook's function, and the fix, each to be read after the function's name."""
    variables = _variables(configuration)
    return [] if variables is None else list(_about_the_layer(configuration, variables))


def _variables(configuration: FunctionConfiguration) -> Mapping[str, str] | None:
    """Return the environment variables; None if Lambda could not decrypt them, so that nothing is known of them."""
    environment = configuration.get("Environment", {})
    return None if "Error" in environment else environment.get("Variables", {})


def _about_the_layer(configuration: FunctionConfiguration, variables: Mapping[str, str]) -> Iterator[str]:
    wrapper = variables.get(WRAPPER_VARIABLE)
    if wrapper and wrapper != WRAPPER:
        yield (
            f"has {WRAPPER_VARIABLE}={wrapper}, so Headgate gets what it reports to CodeDeploy only if that script "
            f'ends with exec {WRAPPER} "$@" and the function has the layer of the output CodeDeployHookLayerArn'
        )
        return
    if not wrapper:
        yield (
            f"lacks the environment variable {WRAPPER_VARIABLE}={WRAPPER}, so Headgate does not get what it reports to "
            "CodeDeploy, and the hook fails unless the function returns a hookStatus; set the variable and add the "
            'layer of the output CodeDeployHookLayerArn, or let it return {"hookStatus": "SUCCEEDED"}'
        )
        return
    is_image = configuration.get("PackageType") == "Image"
    if not is_image and not configuration.get("Layers"):
        yield (
            f"has {WRAPPER_VARIABLE}={WRAPPER} but no layer, so it cannot start; add the layer of the output "
            "CodeDeployHookLayerArn"
        )
    runtime = configuration.get("Runtime", "")
    if not is_image and not runtime.startswith(_SERVED_RUNTIMES):
        yield (
            f"has the runtime {runtime}, and the layer for CodeDeploy hooks serves Python and Node.js alone; remove "
            f'{WRAPPER_VARIABLE}, and let the function return {{"hookStatus": "SUCCEEDED"}}'
        )
