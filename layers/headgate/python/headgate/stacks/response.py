"""The answer to CloudFormation: its body, and the request that delivers it.

CloudFormation gives each request a signed URL of an object in S3, and the answer is what is put there. The signature
covers an empty Content-Type:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-lambda-function-code-cfnresponsemodule.html
"""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headgate.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 4096
"""Maximum size of an answer."""

PUT_SECONDS = 10

_CUT = "..."

_AGAIN = (408, 429)
"""Statuses of a client's fault that another attempt may not meet again."""


def body_of(answer: Mapping[str, Any], *, stack_id: str, logical_id: str, request_id: str) -> bytes:
    """Return the body of an answer, whose Reason is shortened if the whole would be too long, and then its Data.

    All attributes stay, because CloudFormation fails at one that is missing and used. A list loses its last elements.

    Parameters
    ----------
    answer
        Has Status, Reason, PhysicalResourceId and Data.
    """
    data = dict(answer.get("Data") or {})
    whole = {
        "Status": answer["Status"],
        "Reason": answer.get("Reason") or "",
        "PhysicalResourceId": answer["PhysicalResourceId"],
        "StackId": stack_id,
        "RequestId": request_id,
        "LogicalResourceId": logical_id,
        "NoEcho": False,
        "Data": data,
    }
    reason = whole["Reason"]
    while len(body := json.dumps(whole).encode()) > MAX_BYTES and reason:
        # An escaped character takes up to twelve bytes, so the excess in bytes may remove more than one per character.
        reason = reason[: -max(1, (len(body) - MAX_BYTES) // 12)]
        whole["Reason"] = reason + _CUT
    while len(body) > MAX_BYTES and any(data.values()):
        longest = max(data, key=lambda name: len(data[name]))
        data[longest] = data[longest].rpartition(",")[0]
        body = json.dumps(whole).encode()
    return body


def put_answer(url: str, body: bytes) -> int:
    """Put an answer where CloudFormation reads it. Return the HTTP status. Redirects are not followed.

    Errors leave out the URL: whoever has it can answer for the resource.

    Raises
    ------
    ValueError
        If the URL is not one of HTTP.
    Transient
        If the answer was not accepted and another attempt may succeed.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
        raise ValueError("ResponseURL: must be a URL of http or https")
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=PUT_SECONDS)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection.request("PUT", path, body=body, headers={"Content-Type": "", "Content-Length": str(len(body))})
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise Transient(f"the answer could not be delivered: {type(error).__name__}") from None
    finally:
        connection.close()
    if status >= 500 or status in _AGAIN:
        raise Transient(f"the answer was not accepted: HTTP {status}")
    return status
