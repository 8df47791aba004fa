"""What Headgate asks a function that counts: the requests and failures of two revisions, minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.routing import ARMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.spec.routing import RevisionArm

MINUTE = 60
"""Seconds."""

MAX_MINUTES = 1440
"""Headgate asks for the last minutes alone; a day is for questions by hand."""


class Question(NamedTuple):
    """A question for counts."""

    revisions: Mapping[RevisionArm, str]
    begin: int
    """Beginning of the first minute, in seconds since 1970."""
    end: int
    """End of the last minute, in seconds since 1970."""

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Question:
        """Read the event of the function.

        Raises
        ------
        RequestRefused
            If it is not an event as Headgate sends it.
        """
        try:
            revisions: dict[RevisionArm, str] = {arm: str(event["revisions"][arm]) for arm in ARMS}
            begin, end = (_seconds(event[name]) for name in ("from", "to"))
        except (KeyError, TypeError, ValueError) as error:
            raise RequestRefused(
                "the event: must have revisions.candidate, revisions.stable, and from and to as times with a time zone "
                f"({type(error).__name__}: {error})"
            ) from None
        if begin % MINUTE or end % MINUTE or not 0 < end - begin <= MAX_MINUTES * MINUTE:
            raise RequestRefused(
                f"the event: from and to must be whole minutes, from before to, at most {MAX_MINUTES} minutes apart "
                f"(given {event['from']} and {event['to']})"
            )
        return cls(revisions, begin, end)

    @property
    def minutes(self) -> range:
        """Beginnings of the minutes, in seconds since 1970."""
        return range(self.begin, self.end, MINUTE)


def _seconds(time: str) -> int:
    read = datetime.fromisoformat(time)
    if read.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    seconds = read.timestamp()
    if not seconds.is_integer():
        raise ValueError(f"{time} is no whole second")
    return int(seconds)


def minute_text(seconds: int) -> str:
    """Write the beginning of a minute as the answer has it, such as 2026-11-30T10:21:00Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
