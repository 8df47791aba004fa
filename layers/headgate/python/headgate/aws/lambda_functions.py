"""Reads the configuration of Lambda functions, with the call that has a quota of its own.

GetFunction may be called 100 times a second. All other calls of Lambda's control plane but GetPolicy, among them
GetFunctionConfiguration, share 15 a second per account and Region, and rollbacks need those:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef, FunctionConfigurationTypeDef

    FunctionConfiguration = FunctionConfigurationTypeDef | FunctionConfigurationResponseTypeDef
    """The same fields, from GetFunction or from a call that publishes a version."""


def configuration_of(functions: LambdaClient, name: str, qualifier: str | None = None) -> FunctionConfiguration:
    """Return the configuration of a function's version or alias; without a qualifier, that of $LATEST.

    The response also has a link to the function's code. It is dropped here, so that it is never recorded or logged.
    """
    qualified = {"Qualifier": qualifier} if qualifier else {}
    return functions.get_function(FunctionName=name, **qualified)["Configuration"]
