"""Saved queries of CloudWatch Logs Insights.

CloudFormation has AWS::Logs::QueryDefinition, and CloudWatch Logs has DescribeQueryDefinitions
(https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeQueryDefinitions.html). MiniStack has
neither. Not filled: PutQueryDefinition and DeleteQueryDefinition, queries with parameters, and pages.

Seams: `cloudwatch_logs.handle_request`, and CloudFormation's `provisioners._RESOURCE_HANDLERS`.
"""

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core.responses import AccountRegionScopedDict, json_response
from ministack.services import cloudwatch_logs
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams

GAP = "query_definitions"
RESOURCE = "AWS::Logs::QueryDefinition"
_saved = AccountRegionScopedDict()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, cloudwatch_logs, "handle_request", "method, path, headers, body, query_params", _handle)
    if RESOURCE in provisioners._RESOURCE_HANDLERS:
        raise seams.SeamMissing(GAP, "provisioners._RESOURCE_HANDLERS", f"has {RESOURCE}")
    provisioners._RESOURCE_HANDLERS[RESOURCE] = {"create": _create, "update": _update, "delete": _delete}


async def _handle(
    original: Callable[..., Awaitable[Any]], method: str, path: str, headers: Any, body: Any, query_params: Any
) -> Any:
    if not headers.get("x-amz-target", "").endswith(".DescribeQueryDefinitions"):
        return await original(method, path, headers, body, query_params)
    prefix = json.loads(body or b"{}").get("queryDefinitionNamePrefix", "")
    found = [each for each in _saved.values() if each["name"].startswith(prefix)]
    return json_response({"queryDefinitions": found})


def _create(_logical_id: str, props: dict[str, Any], _stack_name: str) -> tuple[str, dict[str, Any]]:
    return _put(str(uuid.uuid4()), props)


def _update(physical_id: str, _old: dict[str, Any], props: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
    return _put(physical_id, props)


def _put(query_id: str, props: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _saved[query_id] = {
        "queryDefinitionId": query_id,
        "name": props["Name"],
        "queryString": props["QueryString"],
        "queryLanguage": props.get("QueryLanguage", "CWLI"),
        "logGroupNames": props.get("LogGroupNames", []),
        "lastModified": int(time.time() * 1000),
    }
    return query_id, {"QueryDefinitionId": query_id}


def _delete(physical_id: str, _props: dict[str, Any]) -> None:
    _saved.pop(physical_id, None)
