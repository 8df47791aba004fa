"""Dead letters: messages that Headgate itself refuses, kept in a queue with the reason as a message attribute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

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
