"""Batches of an SQS event source mapping: their messages, the order of work, and when failed ones are delivered again.

Powertools' batch processors do not fit: their import exceeds the init time limit, and they support neither messages
that are returned unprocessed nor messages that fail after others were processed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.ids import is_rollout_id
from headgate.json_faults import json_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_sqs import SQSClient


QueueMessage = dict[str, Any]
"""A record of an SQS event (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""

VISIBILITY_ENTRIES = 10
"""Maximum entries per call of ChangeMessageVisibilityBatch.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html
"""

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 5, 180
"""Delay until a failed message is delivered again: after the first failure, and at most."""

ANSWER_MS = 2_500
"""Minimum time left to set the visibility of failed messages: that call takes up to two seconds."""


def is_fifo(message: QueueMessage) -> bool:
    """Return whether a message came from a FIFO queue. Standard queues may have message groups too (fair queues)."""
    return str(message["eventSourceARN"]).endswith(".fifo")


def receives(message: QueueMessage) -> int:
    """Return the number of deliveries of a message, including this one."""
    return int(message["attributes"]["ApproximateReceiveCount"])


def delay_seconds(message: QueueMessage) -> int:
    """Return the delay until a failed message is delivered again. It doubles each time.

    Most failures are throttled calls, for which a few seconds are enough. An outage of the table takes longer, and
    deliveries every few seconds would reach the maximum receive count before its end.
    """
    return int(min(FIRST_DELAY_SECONDS * 2 ** (receives(message) - 1), MAX_DELAY_SECONDS))


def in_processing_order(messages: list[QueueMessage]) -> list[QueueMessage]:
    """Return the messages of a batch in processing order: those with the most deliveries first.

    So a message that is returned for lack of time is among the first in its next batch. The FIFO queue delivers one
    message at a time and needs no order here.
    """
    return sorted(messages, key=receives, reverse=True)


def read_json(message: QueueMessage) -> Any:
    """Parse the JSON in a message.

    Raises
    ------
    RequestRefused
        If it is not JSON. It would fail at each delivery.
    """
    try:
        return json.loads(message["body"])
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"the message: is not JSON: {json_fault(error)}") from None


def event_id(body: dict[str, Any], message_id: str) -> str:
    """Return the id of the event in a message: the default id of its request.

    An event that was sent manually may have no id, or one that is not valid; the id of the message replaces it.
    """
    return body["id"] if is_rollout_id(body.get("id")) else message_id


def take_each(
    batch: list[QueueMessage], take: Callable[[QueueMessage], None], milliseconds_left: Callable[[], int], reserve: int
) -> Failures:
    """Process the messages of a batch, each on its own, while there is time. Return those to deliver again.

    Parameters
    ----------
    take
        Processes one message. An exception concerns only this message.
    milliseconds_left
        Returns the time that this invocation has left.
    reserve
        Minimum time left to begin with a message, in milliseconds.
    """
    failures = Failures()
    for message in in_processing_order(batch):
        if milliseconds_left() < reserve:
            failures.hand_back(message)
            continue
        try:
            take(message)
        except Exception:  # noqa: BLE001 - a failure concerns only this message
            logger.exception("message could not be processed", message_id=message["messageId"])
            failures.add(message)
    return failures


class Failures:
    """Messages of a batch to deliver again: failed ones after a delay, and those that were not begun at once."""

    def __init__(self) -> None:
        self._delays: list[tuple[QueueMessage, int]] = []

    def add(self, message: QueueMessage) -> None:
        """Record that a message failed."""
        self._delays.append((message, delay_seconds(message)))

    def hand_back(self, message: QueueMessage) -> None:
        """Record that a message was not begun, so that it needs no delay."""
        self._delays.append((message, 0))

    def message_ids(self) -> list[str]:
        """Return the message ids for the response to the event source mapping."""
        return [message["messageId"] for message, _ in self._delays]

    def postpone(self, hurried: SQSClient, queue: Callable[[], str], milliseconds_left: Callable[[], int]) -> None:
        """Set when the messages become visible. The default is the visibility timeout of the queue.

        If this call fails, the only effect is a wait for that timeout, so its errors are only logged.

        Parameters
        ----------
        hurried
            SQS client with a short timeout.
        queue
            Returns the URL of the queue.
        milliseconds_left
            Returns the time that this invocation has left.
        """
        try:
            for entries in self._visibilities():
                if milliseconds_left() < ANSWER_MS:
                    logger.warning("no time left to set the visibility of failed messages", messages=len(entries))
                    return
                response = hurried.change_message_visibility_batch(QueueUrl=queue(), Entries=entries)  # type: ignore[arg-type]
                if refused := response.get("Failed"):
                    logger.warning("messages become visible after the visibility timeout of the queue", refused=refused)
        except Exception:  # noqa: BLE001 - errors of this call do not change the response
            logger.exception("the visibility of failed messages could not be set")

    def _visibilities(self) -> Iterator[list[dict[str, Any]]]:
        """Yield lists of entries for ChangeMessageVisibilityBatch."""
        # After a failure, delay all messages: the cause often affects more than one, and SQS counts deliveries.
        least = FIRST_DELAY_SECONDS if any(delay for _, delay in self._delays) else 0
        entries = [
            {"Id": str(number), "ReceiptHandle": message["receiptHandle"], "VisibilityTimeout": max(delay, least)}
            for number, (message, delay) in enumerate(self._delays)
        ]
        for start in range(0, len(entries), VISIBILITY_ENTRIES):
            yield entries[start : start + VISIBILITY_ENTRIES]
