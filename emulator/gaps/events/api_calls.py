"""Calls that publish a version of a function are events on the default bus, while a trail is logging.

CloudTrail delivers "AWS API Call via CloudTrail" for each call that a trail logs, with names of parameters that begin
with a lower-case letter, the API's version at the end of the event's name, and who called
(https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html). On AWS, it comes after
minutes. MiniStack keeps trails and publishes no events.

Filled for PublishVersion and UpdateFunctionCode. Values of environment variables are left out, as CloudTrail does. A
call that fails is not published here; on AWS it is, with an errorCode.

Seams: `lambda_svc._publish_version` and `lambda_svc._update_code`, `lambda_svc._request_access_key` and
`cloudtrail._trails`.
"""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudtrail, eventbridge, iam, lambda_svc

from emulator.gaps import seams

GAP = "api_calls"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_publish_version", "name, data", _published("PublishVersion20150331"))
    seams.wrap(GAP, lambda_svc, "_update_code", "name, data", _published("UpdateFunctionCode20150331v2"))
    seams.expect(GAP, eventbridge, "_put_events", "data, allow_aws_source")
    seams.expect(GAP, iam_evaluator, "resolve_caller_identity", "access_key_id")
    for owner, name in ((lambda_svc, "_request_access_key"), (cloudtrail, "_trails")):
        if not hasattr(owner, name):
            raise seams.SeamMissing(GAP, f"{owner.__name__}.{name}", "has no attribute")


def _published(event_name: str) -> Callable[..., Any]:
    def call(original: Callable[..., Any], name: str, data: dict[str, Any]) -> Any:
        response = original(name, data)
        status, _, body = response
        if status < 300 and any(trail.get("IsLogging") for trail in cloudtrail._trails.values()):
            _publish(event_name, name, data, json.loads(body))
        return response

    return call


def _publish(event_name: str, function: str, asked: dict[str, Any], answer: dict[str, Any]) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    detail = {
        "eventVersion": "1.11",
        "userIdentity": _caller(),
        "eventTime": now,
        "eventSource": "lambda.amazonaws.com",
        "eventName": event_name,
        "awsRegion": get_region(),
        "sourceIPAddress": "127.0.0.1",
        "requestParameters": {
            "functionName": function,
            **{_lower(key): value for key, value in asked.items() if key != "ZipFile"},
        },
        "responseElements": {**_lowered(answer), "environment": {}},
        "requestID": str(uuid.uuid4()),
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": get_account_id(),
        "eventCategory": "Management",
    }
    entry = {"Source": "aws.lambda", "DetailType": "AWS API Call via CloudTrail", "Detail": json.dumps(detail)}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def _caller() -> dict[str, Any]:
    """Return who called: the account's root user, a user, or a role's session with its role."""
    identity = iam_evaluator.resolve_caller_identity(lambda_svc._request_access_key.get()) or {}
    arn = str(identity.get("userArn", f"arn:aws:iam::{get_account_id()}:root"))
    caller = {"arn": arn, "accountId": get_account_id(), "principalId": identity.get("userId", "")}
    if ":assumed-role/" not in arn:
        return {"type": "Root" if arn.endswith(":root") else "IAMUser", **caller}
    name = arn.split("/")[1]
    role = iam._roles.get(name) or {}
    issuer = {"type": "Role", "arn": role.get("Arn", ""), "accountId": get_account_id(), "userName": name}
    return {"type": "AssumedRole", **caller, "sessionContext": {"sessionIssuer": issuer}}


def _lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {_lower(key): _lowered(each) for key, each in value.items()}
    return [_lowered(each) for each in value] if isinstance(value, list) else value


def _lower(key: str) -> str:
    return key[:1].lower() + key[1:]
