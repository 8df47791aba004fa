"""Received SQS messages: their attributes, batches, and how to send them unchanged to another queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


PER_CALL = 10
"""Messages of one batch request to SQS."""

BATCH_BYTES = 256 * 1024
"""Size limit of a batch. SQS accepts 1 MiB unless a queue has a lower limit. A larger message is sent alone."""

WAIT_SECONDS = 2
"""Wait time of a receive. A long poll queries all of SQS's servers, so an empty answer is reliable."""

LONGEST_DEDUPLICATION_ID = 128

SYSTEM_ATTRIBUTES = [
    "SentTimestamp",
    "ApproximateReceiveCount",
    "MessageGroupId",
    "MessageDeduplicationId",
    "AWSTraceHeader",
]
"""Attributes to request by name: by default SQS returns none."""

Message = dict[str, Any]
"""A message as ReceiveMessage returns it."""


def group_of(message: Message) -> str:
    """Return the message group; empty if there is none."""
    group: str = message.get("Attributes", {}).get("MessageGroupId", "")
    return group


def in_waves(messages: list[Message]) -> list[list[Message]]:
    """Return lists of the first message of each group, the second of each, and so on."""
    found: list[list[Message]] = []
    seen: dict[str, int] = {}
    for message in messages:
        place = seen[group_of(message)] = seen.get(group_of(message), -1) + 1
        if place == len(found):
            found.append([])
        found[place].append(message)
    return found


def in_batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Yield messages in batches that SQS accepts."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        weight = _message_size(message)
        if batch and (len(batch) == PER_CALL or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += weight
    if batch:
        yield batch


def _message_size(message: Message) -> int:
    """Return the size of a message as SQS counts it: body, and name, type and value of each attribute."""
    attributes = message.get("MessageAttributes", {})
    return len(message["Body"].encode()) + sum(
        len(name.encode())
        + len(value["DataType"])
        + len(value.get("BinaryValue") or value.get("StringValue", "").encode())
        for name, value in attributes.items()
    )


def entry_of(message: Message, *, fifo: bool) -> dict[str, Any]:
    """Convert a received message to an entry for SendMessageBatch."""
    system = message.get("Attributes", {})
    entry: dict[str, Any] = {"MessageBody": message["Body"]}
    if given := message.get("MessageAttributes"):
        # The API has lists of values too, but does not support them.
        supported = ("DataType", "StringValue", "BinaryValue")
        entry["MessageAttributes"] = {
            name: {key: each for key, each in value.items() if key in supported} for name, value in given.items()
        }
    if trace := system.get("AWSTraceHeader"):
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    if group := system.get("MessageGroupId"):
        entry["MessageGroupId"] = group
    if fifo:
        entry["MessageDeduplicationId"] = deduplication_id(
            system.get("MessageDeduplicationId", ""), message["MessageId"]
        )
    return entry


def deduplication_id(given: str, message_id: str) -> str:
    """Return a deduplication id that is unique to this message and stays the same for each send.

    The message's own id alone would not do. SQS's move tasks send it, and the destination drops a message whose id it
    has seen within five minutes, whoever sent that.
    """
    return f"{given[: LONGEST_DEDUPLICATION_ID - len(message_id) - 1]}.{message_id}"
