"""The progress of a redrive, and the result of one slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.wire import Wire

if TYPE_CHECKING:
    from headgate.redrive.plan import RedriveOutcome


class Progress(Wire):
    """Progress that slices pass on. Counts are of messages, except ``records`` and ``expired``."""

    moved: int = 0
    skipped: int = 0
    failed: int = 0
    returned: int = 0
    remaining: int = 0
    records: int = 0
    """Stream records that a function processed."""
    expired: int = 0
    """Stream records that the stream no longer holds."""
    unmoved: tuple[str, ...] = ()
    """Ids of the messages that an earlier slice received and could not move, and that none has moved since."""
    untouchable: int = 0
    """Messages that stay in the queue because all their records expired."""
    slices: int = 0
    idle: int = 0
    """Slices in a row with nothing to move although the queue is not empty."""
    troubles: int = 0
    """Slices in a row that only failed."""
    suspected: float = 0.0
    """Since when too many messages seem to have returned, in seconds since 1970; 0 if they do not."""
    reason: str = ""


SLICE_SECONDS = 40


class SliceResult(NamedTuple):
    """Result of a slice."""

    progress: Progress
    next: str
    """``again``: run another slice after ``wait_seconds``. ``watch``: count returned messages then. ``end``: done."""
    wait_seconds: int = 0
    outcome: RedriveOutcome = "succeeded"

    def to_wire(self) -> dict[str, Any]:
        """Return the result as the machine reads it."""
        return {
            "progress": self.progress.to_wire(),
            "next": self.next,
            "waitSeconds": self.wait_seconds,
            "outcome": self.outcome,
        }


def with_troubles(now: Progress, reason: str, *, failed_only: bool) -> Progress:
    troubles = now.troubles + 1 if failed_only else 0
    return because(now.model_copy(update={"troubles": troubles}), reason)


def because(now: Progress, reason: str) -> Progress:
    return now.model_copy(update={"reason": reason[:500]}) if reason else now
