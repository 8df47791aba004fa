"""CodeDeploy lists the deployments of a deployment group.

On AWS, ListDeployments answers the deployments of a group:
https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_ListDeployments.html. MiniStack does not know the
service. Here there is no deployment, ever: the gap `codedeploy_resources` has groups that do nothing.

Seam: the tables `router.SERVICE_PATTERNS` and `app.SERVICE_HANDLERS`.
"""

import importlib
import json
from typing import Any

from ministack.core import router

from emulator.gaps import seams

GAP = "codedeploy_deployments"
SERVICE = "codedeploy"
TARGET_PREFIX = "CodeDeploy_20141006"


def install() -> None:
    """Fill the gap."""
    # Imported here: the application reads its settings when it is imported.
    handlers = getattr(importlib.import_module("ministack.app"), "SERVICE_HANDLERS", None)
    for table, name in ((handlers, "app.SERVICE_HANDLERS"), (router.SERVICE_PATTERNS, "router.SERVICE_PATTERNS")):
        if not isinstance(table, dict) or SERVICE in table:
            raise seams.SeamMissing(GAP, name, f"is no table without {SERVICE}")
    router.SERVICE_PATTERNS[SERVICE] = {"target_prefixes": [TARGET_PREFIX], "credential_scope": SERVICE}
    handlers[SERVICE] = _handle  # type: ignore[index]


async def _handle(_method: str, _path: str, headers: dict[str, str], _body: bytes, _query: Any) -> Any:
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if operation == "ListDeployments":
        return _answer({"deployments": []})
    return _answer({"__type": "ValidationException", "message": f"{operation} is not known here"}, 400)


def _answer(content: dict[str, Any], status: int = 200) -> Any:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()
