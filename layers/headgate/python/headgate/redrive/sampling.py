"""Messages of a dead-letter queue: reasons of failures, filters, and samples for a dry run.

A dry run announces how often messages failed for which reason. What a body says, or what a function raised, is only in
the sample, which is in the execution's output.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from headgate.aws.failed_batches import batch_of, record_in
from headgate.hook import error_type_in
from headgate.wire import Wire

if TYPE_CHECKING:
    from headgate.redrive.request import Filter

BODY_CHARACTERS = 500
"""Characters of a sampled message's body."""

REASON_ATTRIBUTES = ("reason", "ERROR_MESSAGE", "ErrorMessage")
"""Message attributes with the reason of a failure: Headgate's own, EventBridge's and Lambda's. Lambda's has the message
that a function raised.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

_WORD = re.compile(r"[A-Za-z]{1,64}")
"""What Lambda writes into an on-failure record as the condition and the error of a function."""


class Sampled(Wire):
    """A message in the sample of a dry run, in the execution's output."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message_id: str
    """Id of the message."""
    body: str
    """First 500 characters of the body."""
    sent_seconds_ago: int
    """Age of the message."""
    receives: int
    """How often it was received."""
    reason: str
    """Why the message failed, if known."""
    attributes: dict[str, str]
    """Message attributes as text."""
    matches: bool
    """Whether the message matches the filter."""


def reason_in_message(message: dict[str, Any]) -> str:
    """Return the reason of a failure in a message; empty if it has none."""
    attributes = message.get("MessageAttributes", {})
    for name in REASON_ATTRIBUTES:
        if reason := attributes.get(name, {}).get("StringValue"):
            return str(reason)
    body = record_in(message["Body"])
    if not isinstance(body, dict):
        return ""
    parts = [
        _text_at(body, "requestContext", "condition"),
        _text_at(body, "responseContext", "functionError"),
        _text_at(body, "responsePayload", "errorMessage"),
    ]
    return ": ".join(part for part in parts if part)


def published_reason(message: dict[str, Any]) -> str:
    """Return what may be announced of the reason of a failure: no text of a body, and no message of a function."""
    attributes = message.get("MessageAttributes", {})
    for name in ("reason", "ERROR_MESSAGE"):
        if reason := attributes.get(name, {}).get("StringValue"):
            return str(reason)
    if code := attributes.get("ErrorCode", {}).get("StringValue"):
        return f"ErrorCode {code}"
    body = record_in(message["Body"])
    if not isinstance(body, dict):
        return ""
    parts = [_text_at(body, "requestContext", "condition"), _text_at(body, "responseContext", "functionError")]
    words = [part for part in parts if _WORD.fullmatch(part)]
    # Only a record of Lambda has an error of a function.
    return ": ".join([*words, *filter(None, [error_type_in(body.get("responsePayload"))])] if words else [])


def _text_at(body: dict[str, Any], part: str, name: str) -> str:
    inner = body.get(part)
    return str(inner.get(name) or "") if isinstance(inner, dict) else ""


def passes_filter(wanted: Filter | None, message: dict[str, Any]) -> bool:
    """Return whether a message matches all of a filter."""
    if wanted is None:
        return True
    given = message.get("MessageAttributes", {})
    return (
        (wanted.body_contains is None or wanted.body_contains in message["Body"])
        and all(given.get(name, {}).get("StringValue") == value for name, value in wanted.attributes.items())
        and (wanted.reason is None or wanted.reason in reason_in_message(message))
    )


def sample_of(message: dict[str, Any], wanted: Filter | None, now: float) -> Sampled:
    """Return a message as a dry run shows it."""
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
    """Count each reason that may be announced. Messages without one count under the empty text."""
    return dict(Counter(published_reason(message)[:BODY_CHARACTERS] for message in messages))


def holds_batches(messages: list[dict[str, Any]]) -> bool:
    """Return whether some of the messages are batches of a stream."""
    return any(batch_of(message["Body"]) for message in messages)
