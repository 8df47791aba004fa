"""Notes in the table on which targets send telemetry, for the plans of their next rollouts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headgate import keys
from headgate.aws.dynamodb import from_item, retry_conflicts, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOTE_SECONDS = 600
"""Minimum time between two notes on a target by the same execution environment. Each note is a write."""

RECENT_SECONDS = 24 * 3600
"""A target sends telemetry if it did so within this time. A service may have no requests at night."""

MAX_NOTES = 25
"""Maximum notes per batch of records. A sender that makes up names of targets must not hold up the counter."""


class TelemetryNotes:
    """Reads and writes the notes."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table
        self._noted: dict[str, float] = {}

    def note(self, targets: set[str]) -> None:
        """Note that telemetry came from these targets, unless this environment did so a short time ago.

        Parameters
        ----------
        targets
            Keys of the targets.
        """
        now = time.time()
        # Forgets the old notes, so that the memory is bounded by what ten minutes bring.
        self._noted = {target: at for target, at in self._noted.items() if now - at < NOTE_SECONDS}
        for target in sorted(targets - self._noted.keys())[:MAX_NOTES]:
            item = {**_key_of(target), "seenAt": int(now), "expiresAt": int(now) + 2 * RECENT_SECONDS}
            retry_conflicts(self._client.put_item, TableName=self._table, Item=to_item(item))
            self._noted[target] = now

    def sends(self, target: str) -> bool:
        """Return whether telemetry came from a target within the past day."""
        answer = self._client.get_item(TableName=self._table, Key=to_item(_key_of(target)), ConsistentRead=True)
        # Items are deleted some time after they have expired.
        return "Item" in answer and time.time() - from_item(answer["Item"])["seenAt"] < RECENT_SECONDS


def _key_of(target: str) -> dict[str, str]:
    return {"pk": keys.target_pk(target), "sk": keys.TELEMETRY_SK}
