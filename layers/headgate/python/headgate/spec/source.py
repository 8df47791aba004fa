"""Where the limits on a consumer's source look: the part of an event source driver's state that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class SourceHealth(NamedTuple):
    """Where to look for the health of a source.

    Attributes
    ----------
    source
        ARN of the queue or stream.
    dead_letters
        ARN of the queue that holds what fails during the rollout; None where nothing is held.
    backlog
        How many messages of a queue were visible before the candidate's first; None for a stream.
    qualifier
        The version that the mapping invokes itself; None where it invokes the alias.
    """

    source: str
    dead_letters: str | None = None
    backlog: int | None = None
    qualifier: str | None = None


def source_health(state: Mapping[str, Any]) -> SourceHealth | None:
    """Read it from the state of a target as it is on record; None where the target has no source.

    The names are those of ``SourceState`` in ``targets/event_source/state.py``.
    """
    if "source" not in state:
        return None
    holding = state.get("holding") or {}
    # In a ramp the mapping invokes the version itself.
    qualifier = state.get("candidate") if state["mode"] == "ramp" else None
    return SourceHealth(state["source"], holding.get("arn"), state.get("backlog"), qualifier)
