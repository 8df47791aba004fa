"""Lambda functions: their configuration, and which of them Headgate can roll out.

The configuration is read with the call that has a quota of its own. GetFunction may be called 100 times a second. All
other calls of Lambda's control plane but GetPolicy, among them GetFunctionConfiguration, share 15 a second per account
and Region, and rollbacks need those: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef, FunctionConfigurationTypeDef

    FunctionConfiguration = FunctionConfigurationTypeDef | FunctionConfigurationResponseTypeDef
    """The same fields, from GetFunction or from a call that publishes a version."""


MAX_TIMEOUT_SECONDS = 900
"""Longest timeout of a function that Headgate rolls out or redelivers to.

Lambda Managed Instances allow 5,400 s: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html. But
Headgate's own functions, which wait for such invocations, have 900 s, and counts are read again for 20 minutes.
"""


_VOLATILE = frozenset(
    (
        "FunctionArn",
        "Version",
        "LastModified",
        "RevisionId",
        "MasterArn",
        # A version may have one of its own, and SAM writes AutoPublishCodeSha256 into that of the function.
        "Description",
        "CodeSize",
        "State",
        "StateReason",
        "StateReasonCode",
        "LastUpdateStatus",
        "LastUpdateStatusReason",
        "LastUpdateStatusReasonCode",
        # AWS updates the runtime of $LATEST and of versions at different times.
        "RuntimeVersionConfig",
        # Of each upload of a package, also of the same one.
        "SigningJobArn",
        # A digest of the configuration, volatile fields and all.
        "ConfigSha256",
        "ResponseMetadata",
    )
)
"""Fields of a configuration in which $LATEST may differ from a version that was published from it."""


def configuration_of(functions: LambdaClient, name: str, qualifier: str | None = None) -> FunctionConfiguration:
    """Return the configuration of a function's version or alias; without a qualifier, that of $LATEST.

    The response also has a link to the function's code. It is dropped here, so that it is never recorded or logged.
    """
    qualified = {"Qualifier": qualifier} if qualifier else {}
    return functions.get_function(FunctionName=name, **qualified)["Configuration"]


def unsupported(configuration: FunctionConfiguration) -> str:
    """Return why Headgate cannot roll out a version with this configuration, and the fix; empty if it can.

    Managed instances and SnapStart are supported: an alias with weights splits their traffic too
    (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-deployments.html).
    """
    if configuration.get("Timeout", 0) > MAX_TIMEOUT_SECONDS:
        return (
            f"has a Timeout of {configuration['Timeout']} s, and Headgate supports invocations of at most "
            f"{MAX_TIMEOUT_SECONDS} s; set Timeout to {MAX_TIMEOUT_SECONDS} or less, and publish a version"
        )
    if configuration.get("DurableConfig"):
        # An execution stays with the version that began it, for up to a year, and is invoked once per replay.
        return (
            "has a DurableConfig, and Headgate does not support durable functions: a rollback would not end the "
            "candidate's executions, and invocations that are replays are no requests; move the alias yourself "
            "(aws lambda update-alias)"
        )
    return ""


def differing(latest: Mapping[str, Any], version: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields in which $LATEST and a version do not have the same code and configuration, in order."""
    one, other = _lasting(latest), _lasting(version)
    return tuple(name for name in sorted({*one, *other}) if one.get(name) != other.get(name))


def _lasting(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a configuration that do not change when it is published. Empty ones are left out."""
    lasting = {name: value for name, value in configuration.items() if name not in _VOLATILE and value}
    if snap_start := configuration.get("SnapStart"):
        # Only a version is ever optimized.
        lasting["SnapStart"] = snap_start.get("ApplyOn")
    return lasting
