"""Dead letters: messages that Headgate itself refuses, kept in a queue with the reason as a message attribute."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from headgate.aws.sqs_batches import is_fifo

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

    from headgate.aws.sqs_batches import QueueMessage


LETTER_REASON_CHARACTERS = 1000
"""Characters of the reason in a dead letter."""

LETTER_BYTES, LETTER_ATTRIBUTES = 1024 * 1024, 10
"""Maximum bytes of a message including attributes, and maximum number of attributes.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

_INVALID_CHARACTERS = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"""


def reason_attribute(reason: str) -> MessageAttributeValueTypeDef:
    """Return the attribute ``reason`` of a dead letter."""
    text = _INVALID_CHARACTERS.sub("\ufffd", reason[:LETTER_REASON_CHARACTERS])
    return {"DataType": "String", "StringValue": text}


def dead_letter(message: QueueMessage, reason: str) -> dict[str, Any]:
    """Return the parameters of SendMessage for a refused message, without the queue URL.

    The reason is a message attribute. The trace header, the group and other attributes are kept, as far as SQS allows.
    """
    letter: dict[str, Any] = {"MessageBody": message["body"], "MessageAttributes": _letter_attributes(message, reason)}
    if trace := message["attributes"].get("AWSTraceHeader"):
        letter["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    if group := message["attributes"].get("MessageGroupId"):
        letter["MessageGroupId"] = group
    if is_fifo(message):
        # Not the sender's deduplication id: it need only be unique within its group, so dead letters could get lost.
        letter["MessageDeduplicationId"] = message["messageId"]
    return letter


def _letter_attributes(message: QueueMessage, reason: str) -> dict[str, Any]:
    """Return the attributes of a dead letter, the reason first; none if the body leaves no room."""
    given = {name: _letter_attribute(value) for name, value in message.get("messageAttributes", {}).items()}
    room = LETTER_BYTES - len(message["body"].encode())
    kept: dict[str, Any] = {}
    for name, value in (
        {"reason": reason_attribute(reason)} | {name: given[name] for name in given if name != "reason"}
    ).items():
        room -= sum(len(part if isinstance(part, bytes) else part.encode()) for part in (name, *value.values()))
        if room < 0 or len(kept) == LETTER_ATTRIBUTES:
            break
        kept[name] = value
    return kept


def _letter_attribute(given: dict[str, Any]) -> dict[str, Any]:
    """Convert a message attribute of an event to the format of SendMessage."""
    if given.get("binaryValue") is not None:
        return {"DataType": given["dataType"], "BinaryValue": base64.b64decode(given["binaryValue"])}
    return {"DataType": given["dataType"], "StringValue": given["stringValue"]}
