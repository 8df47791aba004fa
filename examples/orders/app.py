"""The sample consumer: enters each order into a ledger. A release that is meant to be bad fails on a share of them."""

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
"""How long a message that failed stays hidden, instead of for the queue's whole visibility timeout. A FIFO group waits
for its message, so it is not given up as soon."""

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
    """Names it in the answer: a message's id, or a record's sequence number."""
    lane: str
    """What comes after a failure in the same lane has to wait for it; empty where no order is promised."""
    order: dict[str, Any]
    receipt: str = ""
    """Of a message."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """``{"number": 7, "group": "g1"}`` in each message or record; answers which of them are to come again."""
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
    """The orders of a batch: a FIFO queue keeps those of a group in order, a stream those of a shard."""
    for record in event["Records"]:
        if "kinesis" in record:
            kinesis = record["kinesis"]
            yield Item(kinesis["sequenceNumber"], "shard", json.loads(base64.b64decode(kinesis["data"])))
        else:
            group = record["attributes"].get("MessageGroupId", "") if is_fifo(record) else ""
            yield Item(record["messageId"], group, json.loads(record["body"]), record["receiptHandle"])


def is_fifo(record: dict[str, Any]) -> bool:
    # A message of a standard queue may have a group, too, for fairness: that promises no order.
    return str(record["eventSourceARN"]).endswith(".fifo")


def works(item: Item, context: Any) -> bool:
    """Try an order, and tell the ledger and Headgate what came of it."""
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
    telemetry.tell(ok=ok, milliseconds=(time.perf_counter() - begun) * 1000, unit=item.id)
    return ok


def share_of(number: int) -> float:
    """A number from 0 to 1 that stays the same for an order: a bad release fails on it each time."""
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:4]) / 2**32
