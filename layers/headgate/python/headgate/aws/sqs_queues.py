"""SQS queues: count, receive, release and delete messages."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.sqs_messages import PER_CALL, SYSTEM_ATTRIBUTES, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.sqs_messages import Message


LOOK_SECONDS = 30
"""How long a message that is only looked at stays hidden if the process dies."""


class Backlog(NamedTuple):
    """Approximate number of messages in a queue. SQS may take a minute to count a new message."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True)
class MoveResult:
    """Result of one call. After ``move_whole`` only ``moved`` is known."""

    done: bool
    """Whether nothing is left to do; otherwise call again."""
    moved: int = 0
    """Messages that the destination has confirmed."""
    skipped: int = 0
    """Messages that do not match."""
    failed: int = 0
    """Messages that could not be moved and are still in the queue."""
    returned: int = 0
    """Messages that arrived after the redrive began and were left in the queue."""
    reason: str = ""
    """Why something failed; empty if nothing did."""
    gone: frozenset[str] = field(default=frozenset(), compare=False)
    """Ids of the messages that the destination has confirmed."""
    unmoved: frozenset[str] = field(default=frozenset(), compare=False)
    """Ids of the messages that were to be moved and are still in the queue."""


class Queues:
    """Access to queues.

    Parameters
    ----------
    sqs
        boto3's client.
    clock, sleep
        Replacements for ``time.monotonic`` and ``time.sleep``.
    """

    def __init__(
        self, sqs: Any, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.sqs = sqs
        self.clock = clock
        self.sleep = sleep

    def url(self, arn: str) -> str:
        """Return the URL of a queue."""
        *_, account, name = arn.split(":")
        return str(self.sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])

    def count(self, queue_url: str) -> Backlog:
        """Count the messages of a queue."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(names))["Attributes"]
        return Backlog(*(int(attributes.get(name, 0)) for name in names))

    def redrive_policy(self, queue_url: str) -> dict[str, Any]:
        """Return the redrive policy of a queue; empty if it has none."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"])
        return redrive_policy_in(attributes.get("Attributes", {}))

    def look(self, queue_url: str, count: int) -> list[Message]:
        """Return up to ten messages of a queue, usually the oldest, and make them visible again at once.

        This raises their receive count by one.
        """
        seen: dict[str, Message] = {}
        while len(seen) < min(count, PER_CALL):
            received = self.receive(queue_url, min(count, PER_CALL) - len(seen), LOOK_SECONDS)
            if not received:
                break
            seen |= {message["MessageId"]: message for message in received}
        self.release(queue_url, list(seen.values()))
        return list(seen.values())

    def receive(
        self, queue_url: str, count: int, visibility_seconds: int, wait_seconds: int = WAIT_SECONDS
    ) -> list[Message]:
        """Receive up to ten messages with all attributes that a redrive needs. They are hidden from other consumers."""
        response = self.sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=min(count, PER_CALL),
            VisibilityTimeout=visibility_seconds,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
            MessageAttributeNames=["All"],
        )
        messages: list[Message] = response.get("Messages", [])
        return messages

    def release(self, queue_url: str, messages: list[Message], seconds: int = 0) -> None:
        """Make received messages visible again after some seconds."""
        for start in range(0, len(messages), PER_CALL):
            entries = [
                {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": seconds}
                for number, each in enumerate(messages[start : start + PER_CALL])
            ]
            self.sqs.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)

    def delete(self, queue_url: str, message: Message) -> None:
        """Delete a received message."""
        self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def redrive_policy_in(attributes: dict[str, str]) -> dict[str, Any]:
    """Return the redrive policy in the attributes of a queue; empty if it has none."""
    policy: dict[str, Any] = json.loads(attributes.get("RedrivePolicy") or "{}")
    return policy
