"""The sample consumer: records each order in a ledger. A bad release fails on a share of them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

from headgate.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_SECONDS = {"standard": 0, "fifo": 1}
"""How long a failed message stays hidden, instead of the queue's visibility timeout. A FIFO group waits for its
message, so its retries are slower."""

version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
error_rate = float(os.environ.get("ERROR_RATE", "0"))
telemetry = Telemetry(
    stream=os.environ["TELEMETRY_STREAM"],
    target=f"lambda-alias/{os.environ['AWS_LAMBDA_FUNCTION_NAME']}/live",
    revision=version,
)
ledger, queues = boto3.client("dynamodb"), boto3.client("sqs")


class Item(NamedTuple):
    """A message or record with an order in it."""

    id: str
    """Identifier in the answer: the id of a message, or the sequence number of a record."""
    lane: str
    """Items of a lane wait for a failed one before them; empty if order is not guaranteed."""
    order: dict[str, Any]
    receipt: str = ""
    """Receipt handle of a message."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Process ``{"number": 7, "group": "g1"}`` in each message or record and return those to retry."""
    failed, waiting = [], set()
    for item in items(event):
        if item.lane in waiting or not works(item, context):
            failed.append(item)
            waiting.add(item.lane or item.id)
    for item in failed:
        if item.receipt:
            queues.change_message_visibility(
                QueueUrl=os.environ["QUEUE"],
                ReceiptHandle=item.receipt,
                VisibilityTimeout=RETRY_SECONDS["fifo" if item.lane else "standard"],
            )
    return {"batchItemFailures": [{"itemIdentifier": item.id} for item in failed]}


def items(event: dict[str, Any]) -> Iterator[Item]:
    """Yield the orders of a batch. A FIFO queue keeps a group in order, a stream a shard."""
    for record in event["Records"]:
        if "kinesis" in record:
            kinesis = record["kinesis"]
            yield Item(kinesis["sequenceNumber"], "shard", json.loads(base64.b64decode(kinesis["data"])))
        else:
            group = record["attributes"].get("MessageGroupId", "") if is_fifo(record) else ""
            yield Item(record["messageId"], group, json.loads(record["body"]), record["receiptHandle"])


def is_fifo(record: dict[str, Any]) -> bool:
    # A message of a standard queue may have a group too, for fairness, but without order.
    return str(record["eventSourceARN"]).endswith(".fifo")


def works(item: Item, context: Any) -> bool:
    """Process an order, and record the outcome in the ledger and in telemetry."""
    begun = time.perf_counter()
    ok = share_of(item.order["number"]) >= error_rate
    ledger.put_item(
        TableName=os.environ["LEDGER"],
        Item={
            "number": {"N": str(item.order["number"])},
            "at": {"S": f"{time.time():.6f}#{context.aws_request_id}"},
            "group": {"S": item.order["group"]},
            "version": {"S": version},
            "by": {"S": context.invoked_function_arn.split(":", 7)[-1]},
            "ok": {"BOOL": ok},
        },
    )
    telemetry.record(ok=ok, milliseconds=(time.perf_counter() - begun) * 1000, unit=item.id)
    return ok


def share_of(number: int) -> float:
    """Return a number from 0 to 1 that is always the same for an order, so that retries fail too."""
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:4]) / 2**32
