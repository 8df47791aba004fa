"""The sample shop: totals a basket for its API, URL and queue. A bad release fails on some baskets of several items."""

from __future__ import annotations

import base64
import json
import os
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

release = os.environ.get("RELEASE", "1")
error_rate = float(os.environ.get("ERROR_RATE", "0"))


def observed(handler: Handler) -> Handler:
    """Report outcomes if the function has Headgate's layer and stream. Without them, CloudWatch has the counts."""
    stream = os.environ.get("TELEMETRY_STREAM")
    if not stream:
        return handler
    from headgate.telemetry import Telemetry

    return Telemetry(stream=stream).observe(handler)


@observed
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a basket of an HTTP request, of each message of a queue, or of a direct invocation."""
    if "Records" in event:
        for record in event["Records"]:
            total_of(json.loads(record["body"]), context)
        return {"batchItemFailures": []}
    if "requestContext" in event:
        body = base64.b64decode(event["body"]) if event.get("isBase64Encoded") else event.get("body")
        answer = total_of(json.loads(body or "{}"), context)
        return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(answer)}
    return total_of(event, context)


def total_of(basket: dict[str, Any], context: Any) -> dict[str, Any]:
    """Turn ``{"items": [{"price": 3.5, "quantity": 2}]}`` into ``{"total": 7.0, "release": "1", "version": "1"}``."""
    items = basket.get("items", [])
    if len(items) > 1 and random.random() < error_rate:
        raise RuntimeError(f"release {release} cannot total this basket")
    total = sum(item["price"] * item["quantity"] for item in items)
    return {"total": total, "release": release, "version": context.function_version}
