"""Messages of SQS: what is known of one that was received, and how it goes on to another queue as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


PER_CALL = 10
"""Messages of one batch request to SQS."""

BATCH_BYTES = 256 * 1024
"""Of one batch. SQS takes 1 MiB where a queue has not been given a lower limit; a larger message travels alone."""

WAIT_SECONDS = 2
"""How long a receive waits. A long poll asks all of SQS's servers, so that nothing found means that little is there."""

LONGEST_DEDUPLICATION_ID = 128

SYSTEM_ATTRIBUTES = [
    "SentTimestamp",
    "ApproximateReceiveCount",
    "MessageGroupId",
    "MessageDeduplicationId",
    "AWSTraceHeader",
]
"""What a receive asks for by name; without that SQS tells none of it."""

Message = dict[str, Any]
"""A message as ReceiveMessage answers it."""


def group_of(message: Message) -> str:
    """The message group; empty where there is none."""
    group: str = message.get("Attributes", {}).get("MessageGroupId", "")
    return group


def in_waves(messages: list[Message]) -> list[list[Message]]:
    """The first message of each group, then the second of each, and so on."""
    found: list[list[Message]] = []
    seen: dict[str, int] = {}
    for message in messages:
        place = seen[group_of(message)] = seen.get(group_of(message), -1) + 1
        if place == len(found):
            found.append([])
        found[place].append(message)
    return found


def in_batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Messages in batches that SQS takes."""
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
    """Bytes of a message as SQS counts them: the body and each attribute's name, type and value."""
    attributes = message.get("MessageAttributes", {})
    return len(message["Body"].encode()) + sum(
        len(name.encode())
        + len(value["DataType"])
        + len(value.get("BinaryValue") or value.get("StringValue", "").encode())
        for name, value in attributes.items()
    )


def entry_of(message: Message, *, fifo: bool) -> dict[str, Any]:
    """A received message as SendMessageBatch takes it."""
    system = message.get("Attributes", {})
    entry: dict[str, Any] = {"MessageBody": message["Body"]}
    if given := message.get("MessageAttributes"):
        # The lists of values are in the API, and not in use.
        taken = ("DataType", "StringValue", "BinaryValue")
        entry["MessageAttributes"] = {
            name: {key: each for key, each in value.items() if key in taken} for name, value in given.items()
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
    """An id that is the same whenever this message is sent, and no other message's.

    A FIFO dead-letter queue has put the message's first id there already, so that two messages which share the
    producer's can both be kept:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
    """
    if given == message_id:
        return given
    return f"{given[: LONGEST_DEDUPLICATION_ID - len(message_id) - 1]}.{message_id}"
