"""Consumers to roll out: a function behind a mapping of a queue or stream, and a ledger of what each order met."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from demo.order_ledger import Try, account_of
from emulator.application import parameters
from tests.local.deployed import Queue, eventually
from tests.local.roles import ROLE

if TYPE_CHECKING:
    from tests.local.deployed import Headgate

CONSUMER = """
import base64, json, os, time, zlib
import boto3
table = boto3.client("dynamodb")
VERSION = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]

def orders(event):
    for record in event["Records"]:
        if "dynamodb" in record:
            image = record["dynamodb"]["NewImage"]
            order = {"n": int(image["n"]["N"]), "group": image["group"]["S"]}
            yield record["dynamodb"]["SequenceNumber"], order
        elif "kinesis" in record:
            yield record["kinesis"]["sequenceNumber"], json.loads(base64.b64decode(record["kinesis"]["data"]))
        else:
            yield record["messageId"], json.loads(record["body"])

def handler(event, context):
    failures = []
    for item, order in orders(event):
        if failures and order.get("group"):
            failures.append({"itemIdentifier": item})  # What comes after a failure keeps its place.
            continue
        ok = not (os.environ["BROKEN"] == "yes" and order["n"] % 3 == 0)
        # A version that is broken in every way: it fails on an item, on the batch, by its time, or after its work.
        fault = zlib.crc32(str(order["n"]).encode()) % 8 if os.environ["BROKEN"] == "wildly" else 7
        if fault == 1:
            raise RuntimeError(f"order {order['n']} breaks the batch")
        if fault == 2:
            time.sleep(2)
        ok = ok and fault != 0
        table.put_item(TableName=os.environ["LEDGER"], Item={
            "order": {"S": str(order["n"])}, "at": {"S": f"{time.time():.6f}-{context.aws_request_id}"},
            "version": {"S": VERSION}, "ok": {"BOOL": ok}, "group": {"S": order.get("group", "")}})
        if not ok:
            failures.append({"itemIdentifier": item})
        if fault == 3:
            raise RuntimeError(f"order {order['n']} was processed, and the answer is lost")
    return {"batchItemFailures": failures}
"""


class Consumer:
    """A function with an alias ``live`` behind a mapping; version 1 serves and is good.

    Parameters
    ----------
    source
        ``sqs``, ``fifo``, ``kinesis`` or ``dynamodb``.
    mapping
        Settings of the mapping beyond the usual ones.
    """

    def __init__(self, headgate: Headgate, source: str, **mapping: Any) -> None:
        self._headgate, self._functions, self._sqs = headgate, headgate.functions, headgate.queues
        self._kinesis, self._dynamodb = headgate.aws.client("kinesis"), headgate.dynamodb
        self.source = source
        self.name = f"orders-{source}-{headgate.new_id()}"
        self._make_ledger()
        self._make_function()
        make = {"kinesis": self._make_stream, "dynamodb": self._make_table}
        self.arn = make.get(source, self._make_queue)()
        self.uuid = self._make_mapping(mapping)
        self.target = {"kind": "event-source", "mapping": self.uuid}
        self.before = self.mapping()

    def _make_ledger(self) -> None:
        self._dynamodb.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": a, "AttributeType": "S"} for a in ("order", "at")],
            KeySchema=[{"AttributeName": "order", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
        )

    def _make_function(self) -> None:
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("app.py", CONSUMER)
        self._functions.create_function(
            FunctionName=self.name,
            Runtime=parameters()["Runtime"],
            Handler="app.handler",
            Role=ROLE,
            Timeout=1,
            Code={"ZipFile": package.getvalue()},
            Environment={"Variables": {"LEDGER": self.name, "BROKEN": "no", "RELEASE": "1"}},
        )
        self._headgate.wait_for_latest(self.name)
        self.publish(broken=False)
        self._functions.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")

    def publish(self, *, broken: bool | str) -> str:
        """A new version: good, broken for every third order, or ``wildly``."""
        self._functions.update_function_configuration(
            FunctionName=self.name,
            Environment={
                "Variables": {
                    "LEDGER": self.name,
                    "BROKEN": broken if isinstance(broken, str) else "yes" if broken else "no",
                    "RELEASE": self._headgate.new_id(),
                }
            },
        )
        self._headgate.wait_for_latest(self.name)
        return str(self._functions.publish_version(FunctionName=self.name)["Version"])

    def _make_queue(self) -> str:
        fifo = {"FifoQueue": "true"} if self.source == "fifo" else {}
        suffix = ".fifo" if fifo else ""
        dead = self._sqs.create_queue(QueueName=f"{self.name}-dead{suffix}", Attributes=fifo)["QueueUrl"]
        self.dead_letters = Queue(self._sqs, dead)
        policy = json.dumps({"deadLetterTargetArn": self.dead_letters.arn, "maxReceiveCount": 2})
        settings = {"VisibilityTimeout": "6", "RedrivePolicy": policy, **fifo}
        self.url = self._sqs.create_queue(QueueName=f"{self.name}{suffix}", Attributes=settings)["QueueUrl"]
        return Queue(self._sqs, self.url).arn

    def _make_given_up(self) -> None:
        """A queue for what a stream's mapping gives up."""
        self.dead_letters = Queue(self._sqs, self._sqs.create_queue(QueueName=f"{self.name}-given-up")["QueueUrl"])

    def _make_table(self) -> str:
        self._make_given_up()
        made = self._dynamodb.create_table(
            TableName=f"{self.name}-source",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "n", "AttributeType": "N"}],
            KeySchema=[{"AttributeName": "n", "KeyType": "HASH"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        return str(made["TableDescription"]["LatestStreamArn"])

    def _make_stream(self) -> str:
        self._make_given_up()
        self._kinesis.create_stream(StreamName=self.name, ShardCount=1)
        described = self._kinesis.describe_stream_summary(StreamName=self.name)
        return str(described["StreamDescriptionSummary"]["StreamARN"])

    def _make_mapping(self, settings: dict[str, Any]) -> str:
        usual: dict[str, Any] = {"FunctionResponseTypes": ["ReportBatchItemFailures"], "BatchSize": 5}
        if self.source in ("kinesis", "dynamodb"):
            usual |= {
                "StartingPosition": "TRIM_HORIZON",
                "MaximumRetryAttempts": 1,
                "DestinationConfig": {"OnFailure": {"Destination": self.dead_letters.arn}},
            }
        made = self._functions.create_event_source_mapping(
            FunctionName=f"{self.name}:live", EventSourceArn=self.arn, **(usual | settings)
        )
        eventually(lambda: self._state(made["UUID"]) == "Enabled", 10, lambda: "the mapping is not enabled")
        return str(made["UUID"])

    def _state(self, uuid: str) -> str:
        return str(self._functions.get_event_source_mapping(UUID=uuid)["State"])

    def mapping(self) -> dict[str, Any]:
        """The mapping's settings as they are."""
        found = self._functions.get_event_source_mapping(UUID=self.uuid)
        told = ("LastModified", "LastProcessingResult", "StateTransitionReason", "ResponseMetadata")
        return {name: found[name] for name in found if name not in told}

    def throttle(self, seconds: float) -> None:
        """Leave the function no concurrency for a while."""
        self._functions.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=0)
        time.sleep(seconds)
        self._functions.delete_function_concurrency(FunctionName=self.name)

    def redrive_policy(self) -> dict[str, Any]:
        """The queue's redrive policy."""
        answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
        return dict(json.loads(answer["Attributes"]["RedrivePolicy"]))

    def held(self) -> int:
        """How much a rollout's own queue holds of what failed; 0 where none stands in for the team's."""
        if self.source in ("sqs", "fifo"):
            arn = self.redrive_policy()["deadLetterTargetArn"]
        else:
            arn = self.mapping()["DestinationConfig"]["OnFailure"]["Destination"]
        if arn == self.dead_letters.arn:
            return 0
        url = self._sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        name = "ApproximateNumberOfMessages"
        return int(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def send(self, numbers: range, groups: int = 4) -> None:
        """Send orders with these numbers, those of a group in order."""
        for number in numbers:
            group = f"g{number % groups}"
            if self.source == "kinesis":
                body = json.dumps({"n": number, "group": group}).encode()
                self._kinesis.put_record(StreamName=self.name, PartitionKey=group, Data=body)
            elif self.source == "dynamodb":
                order = {"n": {"N": str(number)}, "group": {"S": group}}
                self._dynamodb.put_item(TableName=f"{self.name}-source", Item=order)
            elif self.source == "fifo":
                self._sqs.send_message(
                    QueueUrl=self.url,
                    MessageBody=json.dumps({"n": number, "group": group}),
                    MessageGroupId=group,
                    MessageDeduplicationId=str(number),
                )
            else:
                self._sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps({"n": number}))

    def ledger(self) -> list[dict[str, Any]]:
        """What became of the orders, in the order in which it did."""
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        entries = [
            {
                "n": int(item["order"]["S"]),
                "at": item["at"]["S"],
                "version": item["version"]["S"],
                "ok": item["ok"]["BOOL"],
                "group": item["group"]["S"],
            }
            for page in pages
            for item in page["Items"]
        ]
        return sorted(entries, key=lambda entry: entry["at"])

    def out_of_order(self) -> list[int]:
        """Orders that were first processed well after a later one of their group."""
        entries = self.ledger()
        tries = [Try(e["n"], e["group"], float(e["at"].partition("-")[0]), e["version"], e["ok"]) for e in entries]
        return account_of({each.number for each in tries}, tries).out_of_order

    def waits_for_candidate(self, version: str, seconds: float = 60) -> None:
        """Until a version has tried an order."""
        eventually(
            lambda: any(entry["version"] == version for entry in self.ledger()),
            seconds,
            lambda: f"version {version} has tried nothing",
        )

    def done(self) -> Counter[int]:
        """How often each order was processed well."""
        return Counter(entry["n"] for entry in self.ledger() if entry["ok"])

    def waits_for(self, numbers: range, seconds: float = 60) -> None:
        """Until every order was processed well."""
        eventually(
            lambda: set(numbers) <= set(self.done()),
            seconds,
            lambda: f"never processed: {sorted(set(numbers) - set(self.done()))}",
        )
