"""Figures about deployments, as people report them (https://dora.dev/guides/dora-metrics-four-keys/)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from headgate.history.model import DeploymentFigures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DAY_SECONDS = 24 * 3600


def figures_of(
    items: Iterable[dict[str, Any]], undo_ends: Mapping[str, str | None], since: str, until: str
) -> DeploymentFigures:
    """Return the figures of the rollouts that ended in a period.

    Parameters
    ----------
    items
        What the index has of them.
    undo_ends
        When undos ended, by their ids.
    """
    items = list(items)
    changes = [item for item in items if _moved(item) and not item.get("undoOf")]
    promoted = [item for item in changes if item["status"] == "succeeded"]
    failed = [item for item in changes if item["status"] != "succeeded" or item.get("undoneBy")]
    restores = [_seconds(item.get("startedAt"), undo_ends.get(item.get("undoneBy", ""), _end(item))) for item in failed]
    leads = [_seconds(item.get("createdAt"), item.get("endedAt")) for item in promoted]
    return DeploymentFigures(
        since=since,
        until=until,
        rollouts=len(changes),
        outcomes=dict(Counter(item["status"] for item in items)),
        promoted=len(promoted),
        failed=len(failed),
        promotions_per_day=len(promoted) / max(1.0, (_seconds(since, until) or 0) / DAY_SECONDS),
        change_failure_rate=len(failed) / len(changes) if changes else None,
        seconds_to_restore=_median(restores),
        lead_seconds=_median(leads),
    )


def _moved(item: Mapping[str, Any]) -> bool:
    """Return whether a rollout moved traffic. Records of earlier versions tell only whether it began."""
    return item["status"] != "refused" and bool(item.get("moved", "startedAt" in item))


def _end(item: Mapping[str, Any]) -> str | None:
    """Return when the earlier revision served alone again; None if a rollout was stopped, or its undo is not known."""
    return item.get("endedAt") if item["status"] == "rolled-back" else None


def _seconds(begin: str | None, end: str | None) -> float | None:
    if not begin or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _median(many: list[float | None]) -> float | None:
    known = [each for each in many if each is not None]
    return median(known) if known else None
