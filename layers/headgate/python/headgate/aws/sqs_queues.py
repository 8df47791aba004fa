"""SQS queues: how many messages one holds, and receiving, releasing and deleting them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.sqs_messages import PER_CALL, SYSTEM_ATTRIBUTES, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.sqs_messages import Message


LOOK_SECONDS = 30
"""How long a message that is only looked at stays hidden, should whoever looks die."""


class Backlog(NamedTuple):
    """How many messages a queue holds, approximately: SQS may take a minute to have counted what has just come."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True)
class MoveResult:
    """What one call has done.

    Attributes
    ----------
    done
        Whether there is nothing left to do; otherwise call again.
    moved, skipped, failed, returned
        Messages: safely elsewhere; not matching; refused by the destination and still here; arrived since the redrive
        began, and left alone. After ``move_whole`` only ``moved`` is known.
    reason
        Why something failed; empty where nothing did.
    """

    done: bool
    moved: int = 0
    skipped: int = 0
    failed: int = 0
    returned: int = 0
    reason: str = ""


class Queues:
    """Reads queues.

    Parameters
    ----------
    sqs
        boto3's client.
    clock, sleep
        Seconds, as ``time.monotonic`` and ``time.sleep`` have them.
    """

    def __init__(
        self, sqs: Any, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.sqs = sqs
        self.clock = clock
        self.sleep = sleep

    def url(self, arn: str) -> str:
        """The URL of a queue."""
        *_, account, name = arn.split(":")
        return str(self.sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])

    def count(self, queue_url: str) -> Backlog:
        """How much a queue holds."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        told = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(names))["Attributes"]
        return Backlog(*(int(told.get(name, 0)) for name in names))

    def look(self, queue_url: str, count: int) -> list[Message]:
        """Some messages of a queue, which are visible again at once; each has been received once more by that.

        The oldest as a rule; ten at most.
        """
        seen: dict[str, Message] = {}
        while len(seen) < min(count, PER_CALL):
            told = self.receive(queue_url, min(count, PER_CALL) - len(seen), LOOK_SECONDS)
            if not told:
                break
            seen |= {message["MessageId"]: message for message in told}
        self.release(queue_url, list(seen.values()))
        return list(seen.values())

    def receive(
        self, queue_url: str, count: int, visibility_seconds: int, wait_seconds: int = WAIT_SECONDS
    ) -> list[Message]:
        """Up to ten messages with all that a redrive has to know of them; nobody else sees them meanwhile."""
        told = self.sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=min(count, PER_CALL),
            VisibilityTimeout=visibility_seconds,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
            MessageAttributeNames=["All"],
        )
        messages: list[Message] = told.get("Messages", [])
        return messages

    def release(self, queue_url: str, messages: list[Message], seconds: int = 0) -> None:
        """Let received messages be seen again after so many seconds."""
        for start in range(0, len(messages), PER_CALL):
            entries = [
                {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": seconds}
                for number, each in enumerate(messages[start : start + PER_CALL])
            ]
            self.sqs.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)

    def delete(self, queue_url: str, message: Message) -> None:
        """Delete a received message."""
        self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
