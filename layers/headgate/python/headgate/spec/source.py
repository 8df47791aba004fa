"""The part of an event source driver's state that the limits on a consumer's source need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class SourceHealth(NamedTuple):
    """Names and values for checking the health of a source."""

    source: str
    """ARN of the queue or stream."""
    dead_letters: str | None = None
    """ARN of the rollout's own queue; None if there is none."""
    backlog: int | None = None
    """Messages that were visible in the queue before the candidate received one; None for a stream."""
    qualifier: str | None = None
    """The version that the mapping invokes directly; None if it invokes the alias."""

    @property
    def of_queue(self) -> bool:
        """True if the source is a queue instead of a stream."""
        return self.source.split(":")[2] == "sqs"


def source_health(state: Mapping[str, Any]) -> SourceHealth | None:
    """Read it from the recorded state of a target; None if the target has no source.

    The field names are those of ``SourceState`` in ``targets/event_source/state.py``.
    """
    if "source" not in state:
        return None
    holding = state.get("holding") or {}
    # In a ramp the mapping invokes the version directly.
    qualifier = state.get("candidate") if state["mode"] == "ramp" else None
    return SourceHealth(state["source"], holding.get("arn"), state.get("backlog"), qualifier)
