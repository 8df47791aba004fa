"""Which versions a rollout has rejected on a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate import keys

if TYPE_CHECKING:
    from headgate.rollouts.table import Table

BY_STATUS = "by-status"
"""The index of rollouts and jobs by status."""


def rejecting_rollout(table: Table, target_key: str, version: str) -> str | None:
    """Return the rollout that rejected a version on a target; None if the last one that ended with it promoted it.

    A rollout rejects its candidate if it is rolled back, stopped or undone. The index is eventually consistent.
    """
    ended = [
        item
        for status in ("succeeded", "rolled-back", "stopped")
        for item in table.query(
            "#status = :status",
            {":status": status, ":target": target_key, ":version": version},
            IndexName=BY_STATUS,
            FilterExpression="targetKey = :target AND candidate = :version",
            ExpressionAttributeNames={"#status": "status"},
        )
    ]
    if not ended:
        return None
    last = max(ended, key=lambda item: str(item["createdAt"]))
    promoted = last["status"] == "succeeded" and "undoneBy" not in last
    return None if promoted else keys.rollout_id_in(last["pk"])
