"""Sends numbered orders to a queue or stream at a steady rate, in order within each group."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from emulator.server import EmbeddedAws

GROUPS = 8


class OrderStream:
    """Context manager that sends orders until it exits.

    Each group has its own sender, which sends an order only after the previous one has arrived. So a group's orders
    always arrive in the order of their numbers.

    Parameters
    ----------
    source
        ``sqs``, ``fifo`` or ``kinesis``.
    into
        URL of the queue, or name of the stream.
    per_second
        Orders per second of all groups together.
    """

    def __init__(self, aws: EmbeddedAws, source: str, into: str, per_second: float) -> None:
        self._aws, self._source, self._into, self._per_second = aws, source, into, per_second
        self._begun = 0.0
        self._stop = threading.Event()
        self._sent: list[list[int]] = [[] for _ in range(GROUPS)]
        self._threads = [threading.Thread(target=self._work, args=(group,), daemon=True) for group in range(GROUPS)]

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop sending."""
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    @property
    def sent(self) -> list[int]:
        """Numbers of the orders that have arrived."""
        return sorted(number for numbers in self._sent for number in numbers)

    def _work(self, group: int) -> None:
        send = self._sender()
        number = group or GROUPS  # From 1.
        while not self._stop.wait(max(0.0, self._begun + number / self._per_second - time.monotonic())):
            try:
                send(number, f"g{group}")
            except (BotoCoreError, ClientError):
                continue  # It may have arrived: a duplicate is better than a loss.
            self._sent[group].append(number)
            number += GROUPS

    def _sender(self) -> Callable[[int, str], Any]:
        if self._source == "kinesis":
            kinesis = self._aws.client("kinesis")
            return lambda number, group: kinesis.put_record(
                StreamName=self._into, PartitionKey=group, Data=_order(number, group).encode()
            )
        sqs = self._aws.client("sqs")
        if self._source == "fifo":
            return lambda number, group: sqs.send_message(
                QueueUrl=self._into,
                MessageBody=_order(number, group),
                MessageGroupId=group,
                MessageDeduplicationId=str(number),
            )
        return lambda number, group: sqs.send_message(QueueUrl=self._into, MessageBody=_order(number, group))


def _order(number: int, group: str) -> str:
    return json.dumps({"number": number, "group": group})
