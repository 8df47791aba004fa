"""A redrive request worked out: the queues, and the way that messages take."""

from __future__ import annotations

from typing import Literal

from headgate.redrive.request import Filter, StopIfReturned
from headgate.wire import Wire

Way = Literal["move-task", "receive-and-send", "re-read"]
RedriveOutcome = Literal["succeeded", "dry-run", "returned", "failed", "aborted", "refused"]


class Queue(Wire):
    """A queue, by both its names."""

    url: str
    arn: str

    @property
    def name(self) -> str:
        """The last part of either."""
        return self.arn.rsplit(":", 1)[-1]

    @property
    def fifo(self) -> bool:
        """Whether it keeps an order."""
        return self.arn.endswith(".fifo")


class RedrivePlan(Wire):
    """A request worked out: which way everything goes."""

    id: str
    source: Queue
    destination: Queue | None = None
    """Missing where each message goes back to a queue of its own, or to a function."""
    function: str | None = None
    """Missing where each batch goes to the function that gave up on it."""
    way: Way
    why: str
    dry_run: bool
    filter: Filter | None = None
    per_second: int
    at_most: int | None = None
    stop_if_returned: StopIfReturned | None = None
    began: float
    """Seconds since 1970."""
    backlog: int
    """Messages in the queue when the redrive began."""
    hold_seconds: int = 0
    """How long what does not match is kept out of the way."""
