"""Locks and records of rollouts, for commands that look after an installation: read by their keys, never by a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import keys
from headgate.aws.dynamodb import from_item, to_item
from headgate.rollouts.record import RolloutRecord

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

HELD_LOCKS = "held-locks"
"""The sparse index of held locks. A test compares it with the one that Headgate's functions use."""


class Records:
    """Reads the table of an installation."""

    def __init__(self, stack: Stack) -> None:
        self._client = stack.client("dynamodb")
        self._table = stack.table

    def get(self, pk: str, sk: str) -> dict[str, Any] | None:
        """Return an item, with a consistent read."""
        key = to_item({"pk": pk, "sk": sk})
        answer = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def rollout(self, rollout_id: str) -> RolloutRecord | None:
        """Return the record of a rollout."""
        item = self.get(keys.rollout_pk(rollout_id), keys.ROLLOUT_SK)
        return RolloutRecord.of(item) if item else None

    def held_locks(self) -> dict[str, str]:
        """Return the rollouts that hold a lock, by the key of the target. The index is eventually consistent."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=HELD_LOCKS,
            KeyConditionExpression="held = :yes",
            ExpressionAttributeValues=to_item({":yes": "yes"}),
        )
        items = [from_item(item) for page in pages for item in page["Items"]]
        return {keys.target_key_in(item["pk"]): item["owner"] for item in items}

    def moved_by(self, target_key: str) -> str:
        """Return the rollout that moves a target, or an alias behind a consumer; empty if none does."""
        lock = self.get(keys.target_pk(target_key), keys.LOCK_SK) or {}
        if owner := lock.get("owner"):
            return str(owner)
        mark = self.get(keys.target_pk(target_key), keys.THROUGH_SK) or {}
        # A mark may outlive its rollout, and is then replaced by the next one.
        record = self.rollout(mark["owner"]) if mark.get("owner") else None
        return record.id if record and record.owns_lock else ""
