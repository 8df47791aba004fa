"""The plan of a redrive: the queues, and how messages are moved."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from headgate.redrive.request import Filter, StopIfReturned
from headgate.wire import Wire

Way = Literal["move-task", "receive-and-send", "re-read"]
RedriveOutcome = Literal["succeeded", "dry-run", "returned", "failed", "aborted", "refused"]


class Queue(Wire):
    """A queue by URL and ARN."""

    url: str
    arn: str

    @property
    def name(self) -> str:
        """Name of the queue."""
        return self.arn.rsplit(":", 1)[-1]

    @property
    def fifo(self) -> bool:
        """Whether the queue is a FIFO queue."""
        return self.arn.endswith(".fifo")


class StreamConsumer(Wire):
    """A mapping whose failed batches a queue holds."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    mapping: str
    """UUID of the mapping."""
    source: str
    """ARN of the stream, or of its consumer with enhanced fan-out."""
    function: str
    """ARN of the mapping's function, with its alias or version."""

    @property
    def stream(self) -> str:
        """ARN of the stream."""
        return self.source.partition("/consumer/")[0]


class RedrivePlan(Wire):
    """The plan of a redrive."""

    id: str
    source: Queue
    destination: Queue | None = None
    """Missing if each message returns to the queue that it came from, or records go to a function."""
    function: str | None = None
    """Missing if each batch goes to the function of its mapping."""
    consumers: tuple[StreamConsumer, ...] = ()
    """The mappings that give up into the queue. A batch of any other stream or function is not redriven."""
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
    """How long messages that do not match stay hidden."""
