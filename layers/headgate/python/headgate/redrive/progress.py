"""What a redrive has done so far, and what one slice of it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.wire import Wire

if TYPE_CHECKING:
    from headgate.redrive.plan import RedriveOutcome


class Progress(Wire):
    """What a redrive has done so far; goes from slice to slice. Messages, but for ``records`` and ``expired``."""

    moved: int = 0
    skipped: int = 0
    failed: int = 0
    returned: int = 0
    remaining: int = 0
    records: int = 0
    """Stream records that a function has processed."""
    expired: int = 0
    """Stream records that nobody can read any more."""
    untouchable: int = 0
    """Messages that stay, as all that they name has expired."""
    slices: int = 0
    idle: int = 0
    """Slices in a row in which there was nothing to move, though the queue is not empty."""
    troubles: int = 0
    """Slices in a row that only failed."""
    suspected: float = 0.0
    """Since when too much seems to have come back, in seconds since 1970; 0 where it does not."""
    reason: str = ""


SLICE_SECONDS = 40


class SliceResult(NamedTuple):
    """What a slice has come to.

    Attributes
    ----------
    next
        ``again`` and ``watch`` call once more after ``wait_seconds``, the latter to see what has come back; ``end`` is
        the end.
    """

    progress: Progress
    next: str
    wait_seconds: int = 0
    outcome: RedriveOutcome = "succeeded"

    def to_wire(self) -> dict[str, Any]:
        """As the machine reads it."""
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
