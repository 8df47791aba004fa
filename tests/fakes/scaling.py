"""Application Auto Scaling with the scalable targets of a test."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N803

from __future__ import annotations

from typing import Any


class FakeScaling:
    """The operation that Headgate calls, as a client has it."""

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[int, int]] = {}
        """Least and most provisioned concurrency, by resource id."""
        self.failure: Exception | None = None
        self.asked: list[dict[str, Any]] = []

    def describe_scalable_targets(self, *, ResourceIds: list[str], **given: str) -> dict[str, Any]:
        self.asked.append({"ResourceIds": ResourceIds, **given})
        if self.failure:
            raise self.failure
        found = [(name, self.ranges[name]) for name in ResourceIds if name in self.ranges]
        return {
            "ScalableTargets": [
                {"ResourceId": name, "MinCapacity": least, "MaxCapacity": most} for name, (least, most) in found
            ]
        }
