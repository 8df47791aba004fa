"""Messages of a dead-letter queue: why they failed, which of them a filter matches, and samples for a dry run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from headgate.aws.failed_batches import batch_of, record_in
from headgate.wire import Wire

if TYPE_CHECKING:
    from headgate.redrive.request import Filter

BODY_CHARACTERS = 500
"""Of a sampled message's body."""

REASON_ATTRIBUTES = ("reason", "ERROR_MESSAGE", "ErrorMessage")
"""Message attributes that say why a message failed: Headgate's own, EventBridge's and Lambda's.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""


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


def reason_in_message(message: dict[str, Any]) -> str:
    """Why a message failed, as far as it says so itself; empty where it does not."""
    attributes = message.get("MessageAttributes", {})
    for name in REASON_ATTRIBUTES:
        if told := attributes.get(name, {}).get("StringValue"):
            return str(told)
    body = record_in(message["Body"])
    if not isinstance(body, dict):
        return ""
    told = [
        _text_at(body, "requestContext", "condition"),
        _text_at(body, "responseContext", "functionError"),
        _text_at(body, "responsePayload", "errorMessage"),
    ]
    return ": ".join(part for part in told if part)


def _text_at(body: dict[str, Any], part: str, name: str) -> str:
    inner = body.get(part)
    return str(inner.get(name) or "") if isinstance(inner, dict) else ""


def passes_filter(wanted: Filter | None, message: dict[str, Any]) -> bool:
    """Whether a message has all that a filter asks for."""
    if wanted is None:
        return True
    given = message.get("MessageAttributes", {})
    return (
        (wanted.body_contains is None or wanted.body_contains in message["Body"])
        and all(given.get(name, {}).get("StringValue") == value for name, value in wanted.attributes.items())
        and (wanted.reason is None or wanted.reason in reason_in_message(message))
    )


def sample_of(message: dict[str, Any], wanted: Filter | None, now: float) -> Sampled:
    """A message as a dry run shows it."""
    system = message["Attributes"]
    given = message.get("MessageAttributes", {})
    return Sampled(
        message_id=message["MessageId"],
        body=message["Body"][:BODY_CHARACTERS],
        sent_seconds_ago=max(0, int(now - int(system["SentTimestamp"]) / 1000)),
        receives=int(system.get("ApproximateReceiveCount", 0)),
        reason=reason_in_message(message)[:BODY_CHARACTERS],
        attributes={name: str(value.get("StringValue", "(binary)"))[:256] for name, value in given.items()},
        matches=passes_filter(wanted, message),
    )


def count_reasons(messages: list[dict[str, Any]]) -> dict[str, int]:
    """How often each reason is there; the empty one are messages that do not say."""
    return dict(Counter(reason_in_message(message)[:BODY_CHARACTERS] for message in messages))


def holds_batches(messages: list[dict[str, Any]]) -> bool:
    """Whether some of the messages name batches of a stream."""
    return any(batch_of(message["Body"]) for message in messages)
