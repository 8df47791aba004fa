"""What a user asks for who wants a queue of failures redriven, and what a redrive is made of: no AWS, no clock."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, Tag, model_validator

from headgate.ids import must_match
from headgate.wire import RolloutId, Wire, is_object, one_of, read

MAX_REDRIVE_CHARACTERS = 16 * 1024

_QUEUE = re.compile(
    r"(?:arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:|https?://[^/\s]+/(?:[^/\s]+/)?\d{12}/)?[A-Za-z0-9_-]{1,80}(\.fifo)?"
)

_FUNCTION_NAME = re.compile(
    r"(arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:)?[A-Za-z0-9_-]{1,64}(:(\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


QueueName = Annotated[str, AfterValidator(must_match(_QUEUE, "must be a queue's name, URL or ARN"))]
FunctionName = Annotated[
    str,
    AfterValidator(
        must_match(_FUNCTION_NAME, "must be a function's name or ARN, with an alias or version after a colon")
    ),
]
FilterText = Annotated[str, Field(min_length=1, max_length=256)]


class FromQueue(Wire):
    """The queue that holds what has failed."""

    queue: QueueName
    """Name, URL or ARN of a queue of this account and Region. ``RedriveQueues`` must cover it."""


class Destination(Wire):
    """Where messages go, or the function that records are given to."""

    queue: QueueName | None = None
    """Name, URL or ARN of a queue. ``RedriveQueues`` must cover it."""
    function: FunctionName | None = None
    """Name or ARN of a function for the batches of a stream, with an alias or version after a colon.
    ``TargetFunctions`` must cover it."""

    @model_validator(mode="after")
    def _names_one(self) -> Destination:
        if (self.queue is None) == (self.function is None):
            raise ValueError("names either a queue or a function")
        return self


class Filter(Wire):
    """Which messages are moved: those that have all of it."""

    body_contains: FilterText | None = None
    """Text that the body must contain."""
    attributes: Annotated[dict[FilterText, str], Field(max_length=10)] = {}
    """Message attributes, and the text that each must equal."""
    reason: FilterText | None = None
    """Text that the reason of the failure must contain."""

    @model_validator(mode="after")
    def _asks_something(self) -> Filter:
        if not (self.body_contains or self.attributes or self.reason):
            raise ValueError("needs bodyContains, attributes or reason; without a filter everything is moved")
        return self


class StopIfReturned(Wire):
    """When what was moved counts as having come straight back."""

    percent: Annotated[float, Field(gt=0, le=100)] = 25.0
    """Share of the moved messages."""
    after_seconds: Annotated[int, Field(strict=True, ge=0, le=3600)] = 60
    """How long after the last message the queue is checked once more."""


StopRule = Annotated[
    Annotated[StopIfReturned, Tag("<rule>")] | Annotated[Literal[False], Tag("<never>")],
    one_of(
        {"<never>": lambda value: value is False, "<rule>": is_object(StopIfReturned)},
        'give {"percent": 25, "afterSeconds": 60}, or false not to look',
    ),
]


class RedriveRequest(Wire):
    """A request to bring back what has failed. Unless ``dryRun`` is false, it only reports."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: RolloutId
    """Names the request in events; spelled as a rollout's id. Default: the name of the execution."""
    source: Annotated[FromQueue, Field(alias="from")]
    """The queue that holds the failed messages or batches."""
    to: Destination | None = None
    """Where they go. Default: the queue whose dead-letter queue this is, or the function that gave up on the batch."""
    dry_run: Annotated[bool, Field(strict=True)] = True
    """Report only, move nothing."""
    filter: Filter | None = None
    """Move only messages that match all of it."""
    per_second: Annotated[int, Field(strict=True, ge=1, le=500)] = 50
    """Messages a second on average; of a stream, records."""
    at_most: Annotated[int, Field(strict=True, ge=1)] | None = None
    """How many messages to move at most. A slice of work (40 s) whose function dies is not counted, so this may be
    exceeded by what that slice had moved. Default: all."""
    sample: Annotated[int, Field(strict=True, ge=0, le=10)] = 5
    """Messages that the report of a dry run shows, bodies cut at 500 characters."""
    stop_if_returned: StopRule = Field(default_factory=StopIfReturned)
    """Stop if this share of the moved messages comes straight back; ``false`` to not check."""


def read_redrive(detail: object, default_id: str) -> RedriveRequest:
    """Read a redrive's request; errors as for ``wire.read``."""
    return read(RedriveRequest, detail, default_id, needs="from", at_most=MAX_REDRIVE_CHARACTERS)
