"""Models of a redrive request. No AWS, no clock."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, Tag, model_validator

from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, RolloutId, Text, Wire, is_object, one_of, read

MAX_REDRIVE_CHARACTERS = 16 * 1024

_QUEUE = re.compile(
    r"(?:arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:|https?://[^/\s]+/(?:[^/\s]+/)?\d{12}/)?[A-Za-z0-9_-]{1,80}(\.fifo)?"
)

_FUNCTION_NAME = re.compile(
    r"(arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:)?[A-Za-z0-9_-]{1,64}(:(\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


QueueName = Annotated[str, AfterValidator(must_match(_QUEUE, "must be a queue's name, URL or ARN")), NUMBER_AS_TEXT]
FunctionName = Annotated[
    str,
    AfterValidator(
        must_match(_FUNCTION_NAME, "must be a function's name or ARN, with an alias or version after a colon")
    ),
    NUMBER_AS_TEXT,
]
FilterText = Annotated[str, Field(min_length=1, max_length=256), NUMBER_AS_TEXT]


class FromQueue(Wire):
    """The queue that holds the failed messages or batches."""

    queue: QueueName
    """Name, URL or ARN of a queue of this account and Region. ``RedriveQueues`` must cover it, unless it is a rollout's
    own queue or holds dead letters of requests."""


class Destination(Wire):
    """The queue for messages, or the function for stream records."""

    queue: QueueName | None = None
    """Name, URL or ARN of a queue. ``RedriveQueues`` must cover it."""
    function: FunctionName | None = None
    """Name or ARN of a function for the batches of a stream, with an alias or version after a colon.
    ``TargetFunctions`` must cover it."""

    @model_validator(mode="after")
    def _names_one(self) -> Destination:
        if (self.queue is None) == (self.function is None):
            raise ValueError("give either queue or function")
        return self


class Filter(Wire):
    """Moves only messages that match all of it."""

    body_contains: FilterText | None = None
    """Text that the body must contain."""
    attributes: Annotated[dict[FilterText, Text], Field(max_length=10)] = {}
    """Message attributes, and the text that each must equal."""
    reason: FilterText | None = None
    """Text that the reason of the failure must contain."""

    @model_validator(mode="after")
    def _asks_something(self) -> Filter:
        if not (self.body_contains or self.attributes or self.reason):
            raise ValueError("needs bodyContains, attributes or reason; to move all messages, remove the filter")
        return self


class StopIfReturned(Wire):
    """Stops a redrive when too many of the moved messages return."""

    percent: Annotated[float, Field(strict=True, gt=0, le=100)] = 25.0
    """Share of the moved messages that stops the redrive when it returns."""
    after_seconds: Annotated[int, Field(strict=True, ge=0, le=3600)] = 60
    """How long after the last message to check the queue once more."""


StopRule = Annotated[
    Annotated[StopIfReturned, Tag("<rule>")] | Annotated[Literal[False], Tag("<never>")],
    one_of(
        {"<never>": lambda value: value is False, "<rule>": is_object(StopIfReturned)},
        'give {"percent": 25, "afterSeconds": 60}, or false to not check',
    ),
]


class RedriveRequest(Wire):
    """A request to redrive failed messages or batches. Unless ``dryRun`` is false, it only reports."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: RolloutId
    """Id of the request in events, which makes a request by event idempotent. Same characters as a rollout's id.
    Default: the id of the event, else of the message, else the name of the execution."""
    source: Annotated[FromQueue, Field(alias="from")]
    """The queue that holds the failed messages or batches."""
    to: Destination | None = None
    """Where they go. Default: the queue whose dead-letter queue this is, or the function that gave up on the batch."""
    dry_run: Annotated[bool, Field(strict=True)] = True
    """Report only, move nothing."""
    filter: Filter | None = None
    """Move only messages that match all of it."""
    per_second: Annotated[int, Field(strict=True, ge=1, le=500)] = 50
    """Messages per second on average; for a stream, records."""
    at_most: Annotated[int, Field(strict=True, ge=1)] | None = None
    """How many messages to move at most. If the function of a slice (40 s of work) dies, its messages are not counted,
    and this limit may be exceeded by them. Default: all."""
    sample: Annotated[int, Field(strict=True, ge=0, le=10)] = 0
    """Messages that a dry run shows in the execution's output, with up to 500 characters of their bodies. The event on
    the bus never has them."""
    stop_if_returned: StopRule = Field(default_factory=StopIfReturned)
    """Stop if this share of the moved messages returns; ``false`` to not check."""


def read_redrive(detail: object, default_id: str) -> RedriveRequest:
    """Read a redrive request. Errors as for ``wire.read``."""
    return read(RedriveRequest, detail, default_id, needs="from", at_most=MAX_REDRIVE_CHARACTERS)
