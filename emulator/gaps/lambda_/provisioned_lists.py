"""ListProvisionedConcurrencyConfigs returns the configurations of all versions and aliases of a function.

On AWS, the list is the same path as a single configuration, with ``List=ALL`` instead of a qualifier:
https://docs.aws.amazon.com/lambda/latest/api/API_ListProvisionedConcurrencyConfigs.html. MiniStack answers it as a
request for the configuration of $LATEST, which has none.

Seam: `lambda_svc._get_provisioned_concurrency`, which gets no qualifier only for a list.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "provisioned_lists"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_get_provisioned_concurrency", "func_name, qualifier", _get)


def _get(original: Callable[..., Any], func_name: str, qualifier: str | None) -> Any:
    if qualifier or func_name not in lambda_svc._functions:
        return original(func_name, qualifier)
    configs = lambda_svc._functions[func_name].get("provisioned_concurrency", {})
    arn = lambda_svc._func_arn(func_name)
    found = [{**config, "FunctionArn": f"{arn}:{name}"} for name, config in configs.items()]
    body = json.dumps({"ProvisionedConcurrencyConfigs": found}).encode()
    return 200, {"Content-Type": "application/json"}, body
