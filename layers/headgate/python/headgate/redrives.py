"""What a user asks for who wants a queue of failures redriven, and what a redrive is made of: no AWS, no clock."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from headgate.batches import batch_of, record_in
from headgate.errors import RequestRefused
from headgate.wire import RolloutId, Wire, read

MAX_CHARACTERS = 16 * 1024
BODY_CHARACTERS = 500
"""Of a sampled message's body."""

REASON_ATTRIBUTES = ("reason", "ERROR_MESSAGE", "ErrorMessage")
"""Message attributes that say why a message failed: Headgate's own, EventBridge's and Lambda's.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

ENOUGH = 20
"""Messages that must have been moved before those that came back say something, while the redrive still runs."""

Way = Literal["move-task", "receive-and-send", "re-read"]
Outcome = Literal["succeeded", "dry-run", "returned", "failed", "aborted", "refused"]

_QUEUE = re.compile(
    r"(?:arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:|https?://[^/\s]+/(?:[^/\s]+/)?\d{12}/)?[A-Za-z0-9_-]{1,80}(\.fifo)?"
)
_FUNCTION = re.compile(
    r"(arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:)?[A-Za-z0-9_-]{1,64}(:(\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


def _queue(value: str) -> str:
    if not _QUEUE.fullmatch(value):
        raise ValueError("must be a queue's name, URL or ARN")
    return value


def _function(value: str) -> str:
    if not _FUNCTION.fullmatch(value):
        raise ValueError("must be a function's name or ARN, with an alias or version after a colon")
    return value


QueueName = Annotated[str, AfterValidator(_queue)]
Text = Annotated[str, Field(min_length=1, max_length=256)]


class FromQueue(Wire):
    """The queue that holds what has failed."""

    queue: QueueName
    """Name, URL or ARN of a queue of this account and Region. ``RedriveQueues`` must cover it."""


class Destination(Wire):
    """Where messages go, or the function that records are given to."""

    queue: QueueName | None = None
    """Name, URL or ARN of a queue. ``RedriveQueues`` must cover it."""
    function: Annotated[str, AfterValidator(_function)] | None = None
    """Name or ARN of a function for the batches of a stream, with an alias or version after a colon.
    ``TargetFunctions`` must cover it."""

    @model_validator(mode="after")
    def _names_one(self) -> Destination:
        if (self.queue is None) == (self.function is None):
            raise ValueError("names either a queue or a function")
        return self


class Filter(Wire):
    """Which messages are moved: those that have all of it."""

    body_contains: Text | None = None
    """Text that the body must contain."""
    attributes: Annotated[dict[Text, str], Field(max_length=10)] = {}
    """Message attributes, and the text that each must equal."""
    reason: Text | None = None
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


def _stop_shape(value: Any) -> str | None:
    return "<never>" if value is False else "<rule>" if isinstance(value, dict | StopIfReturned) else None


StopRule = Annotated[
    Annotated[StopIfReturned, Tag("<rule>")] | Annotated[Literal[False], Tag("<never>")],
    Discriminator(
        _stop_shape,
        custom_error_type="stop_shape",
        custom_error_message='give {"percent": 25, "afterSeconds": 60}, or false not to look',
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
    return read(RedriveRequest, detail, default_id, needs="from", at_most=MAX_CHARACTERS)


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


class Sampled(Wire):
    """A message that a dry run has looked at."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message_id: str
    """Id of the message."""
    body: str
    """Its first 500 characters."""
    sent_seconds_ago: int
    """Age of the message."""
    receives: int
    """How often it was received."""
    reason: str
    """Why it failed, if that is known."""
    attributes: dict[str, str]
    """Message attributes as text."""
    matches: bool
    """Whether the filter matches it."""


def reason_of(message: dict[str, Any]) -> str:
    """Why a message failed, as far as it says so itself; empty where it does not."""
    attributes = message.get("MessageAttributes", {})
    for name in REASON_ATTRIBUTES:
        if told := attributes.get(name, {}).get("StringValue"):
            return str(told)
    body = record_in(message["Body"])
    if not isinstance(body, dict):
        return ""
    told = [
        _text(body, "requestContext", "condition"),
        _text(body, "responseContext", "functionError"),
        _text(body, "responsePayload", "errorMessage"),
    ]
    return ": ".join(part for part in told if part)


def _text(body: dict[str, Any], part: str, name: str) -> str:
    inner = body.get(part)
    return str(inner.get(name) or "") if isinstance(inner, dict) else ""


def matches(wanted: Filter | None, message: dict[str, Any]) -> bool:
    """Whether a message has all that a filter asks for."""
    if wanted is None:
        return True
    given = message.get("MessageAttributes", {})
    return (
        (wanted.body_contains is None or wanted.body_contains in message["Body"])
        and all(given.get(name, {}).get("StringValue") == value for name, value in wanted.attributes.items())
        and (wanted.reason is None or wanted.reason in reason_of(message))
    )


def describe(message: dict[str, Any], wanted: Filter | None, now: float) -> Sampled:
    """A message as a dry run shows it."""
    system = message["Attributes"]
    given = message.get("MessageAttributes", {})
    return Sampled(
        message_id=message["MessageId"],
        body=message["Body"][:BODY_CHARACTERS],
        sent_seconds_ago=max(0, int(now - int(system["SentTimestamp"]) / 1000)),
        receives=int(system.get("ApproximateReceiveCount", 0)),
        reason=reason_of(message)[:BODY_CHARACTERS],
        attributes={name: str(value.get("StringValue", "(binary)"))[:256] for name, value in given.items()},
        matches=matches(wanted, message),
    )


def reasons_of(messages: list[dict[str, Any]]) -> dict[str, int]:
    """How often each reason is there; the empty one are messages that do not say."""
    return dict(Counter(reason_of(message)[:BODY_CHARACTERS] for message in messages))


def holds_batches(messages: list[dict[str, Any]]) -> bool:
    """Whether some of the messages name batches of a stream."""
    return any(batch_of(message["Body"]) for message in messages)


def choose_way(
    request: RedriveRequest, source: Queue, to: Queue | None, serves: list[Queue], *, batches: bool, empty: bool | None
) -> tuple[Way, str, Queue | None]:
    """How messages travel, why so, and to which queue; None where that is not one queue.

    Parameters
    ----------
    to
        The queue that the request names.
    serves
        The queues that name the source as their dead-letter queue.
    batches
        Whether what was seen of the source names batches of streams.
    empty
        Whether there was nothing to be seen; None where nobody looked.

    Raises
    ------
    RequestRefused
        If there is no way.
    """
    if (request.to and request.to.function) or (to is None and batches) or (to is None and empty and not serves):
        if not batches and empty is False:
            raise RequestRefused(
                f"to.function: takes the batches of streams that a mapping gave up on, and {source.name} holds none; "
                "name a queue"
            )
        why = "the messages name" if batches else "there is nothing to see; what comes is taken for"
        return "re-read", f"{why} batches of a stream, whose records are read again", None
    destination = to or _only(source, serves, request)
    if destination and destination.arn == source.arn:
        raise RequestRefused(f"to.queue: is {source.name} itself; name another queue")
    if destination and destination.fifo != source.fifo:
        raise RequestRefused(f"to.queue: {destination.name} and {source.name} must both be FIFO, or both not")
    if not serves:
        return "receive-and-send", "no queue names the source as its dead-letter queue, so SQS does not move it", to
    if request.filter or request.at_most:
        return "receive-and-send", "SQS's own move takes neither a filter nor a limit", destination
    return "move-task", "a whole dead-letter queue is moved by SQS itself", destination


def _only(source: Queue, serves: list[Queue], request: RedriveRequest) -> Queue | None:
    """The queue that a dead-letter queue serves; None where it serves several, and SQS knows what belongs where."""
    if len(serves) == 1:
        return serves[0]
    if not serves:
        raise RequestRefused(f"to: no queue names {source.name} as its dead-letter queue; say where the messages go")
    if request.filter or request.at_most:
        names = ", ".join(queue.name for queue in serves)
        raise RequestRefused(f"to: {source.name} serves {names}; with a filter or atMost, name one of them")
    return None


def arrivals(plan: RedrivePlan, progress: Progress, in_queue: int) -> int:
    """How many messages have come to the queue since the redrive began, as far as the counts tell."""
    return max(progress.returned, in_queue - max(0, plan.backlog - progress.moved))


def has_returned(plan: RedrivePlan, progress: Progress, *, at_least: int = 1) -> bool:
    """Whether so much has come back that moving on makes no sense."""
    rule = plan.stop_if_returned
    return (
        rule is not None
        and progress.moved >= at_least
        and progress.returned > 0
        and progress.returned * 100 >= rule.percent * progress.moved
    )
