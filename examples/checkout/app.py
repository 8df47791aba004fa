"""The sample service: totals a basket. A bad release fails on a share of its requests."""

from __future__ import annotations

import os
import random
from typing import Any

from headgate.telemetry import Telemetry

telemetry = Telemetry(stream=os.environ["TELEMETRY_STREAM"])
release = os.environ.get("RELEASE", "1")
error_rate = float(os.environ.get("ERROR_RATE", "0"))


@telemetry.observe
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Turn ``{"items": [{"price": 3.5, "quantity": 2}]}`` into ``{"total": 7.0, "release": "1", "version": "1"}``."""
    if random.random() < error_rate:
        raise RuntimeError(f"release {release} cannot total this basket")
    total = sum(item["price"] * item["quantity"] for item in event.get("items", []))
    return {"total": total, "release": release, "version": context.function_version}
