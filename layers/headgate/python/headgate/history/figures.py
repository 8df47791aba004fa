"""Figures about deployments, as people report them (https://dora.dev/guides/dora-metrics-four-keys/)."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.history.model import DeploymentFigures, RolloutSummary
from headgate.history.reading import summary_of
from headgate.history.wording import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DAY_SECONDS = 24 * 3600


class Ended(NamedTuple):
    """A rollout that has ended."""

    rollout: RolloutSummary
    moved: bool
    """Whether it moved traffic."""

    @classmethod
    def of(cls, item: dict[str, Any]) -> Ended | None:
        """Read what the index or a record has of it. Records of earlier versions tell only whether it began."""
        rollout = summary_of(item)
        if rollout is None:
            return None
        moved = item.get("moved", "startedAt" in item)
        return cls(rollout, bool(moved) and rollout.status != "refused")


def figures_of(ended: Iterable[Ended], undos: Mapping[str, Ended], since: str, until: str) -> DeploymentFigures:
    """Return the figures of the rollouts that ended in a period.

    Parameters
    ----------
    ended
        These rollouts.
    undos
        The undos of them, and of these undos, by their ids.
    """
    ended = list(ended)
    changes = [each.rollout for each in ended if each.moved and not each.rollout.undo_of]
    promoted = [each for each in changes if each.status == "succeeded"]
    failed = [each for each in changes if each.status != "succeeded" or _is_undone(each, undos)]
    restores = [_seconds(each.started_at, _restored_at(each, undos)) for each in failed]
    leads = [_seconds(each.created_at, each.ended_at) for each in promoted]
    return DeploymentFigures(
        since=since,
        until=until,
        rollouts=len(changes),
        outcomes=dict(Counter(each.rollout.status for each in ended)),
        promoted=len(promoted),
        failed=len(failed),
        promotions_per_day=len(promoted) / max(1.0, (_seconds(since, until) or 0) / DAY_SECONDS),
        change_failure_rate=len(failed) / len(changes) if changes else None,
        seconds_to_restore=_median(restores),
        lead_seconds=_median(leads),
    )


def _is_undone(rollout: RolloutSummary, undos: Mapping[str, Ended]) -> bool:
    """Return whether a promotion stays undone: its version serves again once the undo is undone itself."""
    undone, seen = False, {rollout.id}
    following = rollout.undone_by
    while following and following not in seen:
        undone = not undone
        seen.add(following)
        following = undos[following].rollout.undone_by if following in undos else ""
    return undone


def _restored_at(rollout: RolloutSummary, undos: Mapping[str, Ended]) -> str | None:
    """Return when the earlier revision served alone again; None if a rollout was stopped, or its undo is not known."""
    if rollout.undone_by:
        undo = undos.get(rollout.undone_by)
        return undo.rollout.ended_at if undo else None
    return rollout.ended_at if rollout.status == "rolled-back" else None


def _seconds(begin: str | None, end: str | None) -> float | None:
    return (moment(end) - moment(begin)).total_seconds() if begin and end else None


def _median(many: list[float | None]) -> float | None:
    known = [each for each in many if each is not None]
    return median(known) if known else None
