"""The link of GetFunction leads to the package of the version that was asked for.

In AWS, `Code.Location` of a version or alias is a link to that version's package, also after $LATEST has other code:
https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html. MiniStack's link always leads to the package of
$LATEST.

Seams: `lambda_svc._get_function` puts the version into the link, and `lambda_svc.serve_function_code` reads it.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "version_packages"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_get_function", "name, qualifier", _get)
    seams.wrap(GAP, lambda_svc, "serve_function_code", "func_name, account_id, region", _serve)


def _get(original: Callable[..., Any], name: str, qualifier: str | None = None) -> Any:
    status, headers, body = original(name, qualifier)
    found = json.loads(body)
    link = found.get("Code", {}).get("Location")
    if link is None or found["Configuration"]["Version"] == "$LATEST":
        return status, headers, body
    path, _, query = link.partition("?")
    found["Code"]["Location"] = f"{path}:{found['Configuration']['Version']}?{query}"
    return status, headers, json.dumps(found).encode()


def _serve(
    original: Callable[..., Any], func_name: str, account_id: str | None = None, region: str | None = None
) -> Any:
    name, _, version = func_name.partition(":")
    status, headers, package = original(name, account_id, region)
    if not version or status != 200:
        return status, headers, package
    function = lambda_svc._functions.get_scoped(account_id, region, name)
    return status, headers, function["versions"][version].get("code_zip") or b""
