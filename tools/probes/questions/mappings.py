"""Event source mappings: failure destinations, filters and the counts of failed events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from tools.probes.lab import PROPAGATION_SECONDS, Queue
from tools.probes.model import Answer, answer, probe
from tools.probes.questions.functions import METRIC_SECONDS, metrics

if TYPE_CHECKING:
    from tools.probes.lab import Lab

FAILING = "def handler(event, context):\n    raise RuntimeError('on purpose')\n"

ONE_OF_TEN = """
import boto3
import json
import os

def handler(event, context):
    records = event["Records"]
    bad = [r["messageId"] for r in records if r["body"] == "bad" and r["attributes"]["ApproximateReceiveCount"] == "1"]
    note = json.dumps({"size": len(records), "failed": len(bad)})
    boto3.client("sqs").send_message(QueueUrl=os.environ["NOTES"], MessageBody=note)
    return {"batchItemFailures": [{"itemIdentifier": each} for each in bad]}
"""

READ_TABLE_STREAMS = {
    "Action": ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
    "Resource": "*",
}


class Consumer(NamedTuple):
    """A failing function behind a mapping of a table's stream."""

    uuid: str
    role: str


@probe(
    "destination-by-queue-policy",
    question="Does Lambda use an on-failure queue that only the queue's policy opens to the function's role?",
    call="lambda:UpdateEventSourceMapping",
    matters="The policy of a rollout's own queue allows the role, but the documentation requires a right in the role "
    "itself. If it is not needed, that requirement can go.",
    creates="a role, a table with a stream, a function, a mapping and a queue",
    assumed="no",
    minutes=5,
)
def destination_by_queue_policy(lab: Lab) -> Answer:
    """Name such a queue as the destination, then let a record fail."""
    consumer = _consumer(lab, READ_TABLE_STREAMS)
    queue = lab.queue("failed", {"Principal": {"AWS": consumer.role}, "Action": "sqs:SendMessage"})
    refusal = _name_destination(lab, consumer, queue)
    if refusal:
        return answer(yes=False, accepted=False, refusal=refusal)
    _put(lab, 1)
    delivered = lab.until(lambda: lab.receive(queue), 120)
    return answer(yes=bool(delivered), accepted=True, delivered=delivered)


@probe(
    "destination-made-just-now",
    question="Does Lambda accept an on-failure queue that was created a second before?",
    call="lambda:UpdateEventSourceMapping",
    matters="The driver creates a rollout's queue and names it in the next call. If Lambda may refuse it at first, a "
    "refusal has to be tried again for a minute.",
    creates="a role, a table with a stream, a function, a mapping and a queue",
    assumed="yes",
    minutes=4,
)
def destination_made_just_now(lab: Lab) -> Answer:
    """Create the queue after the role has settled, and name it at once."""
    send = {"Action": "sqs:SendMessage", "Resource": lab.queue_arn("failed")}
    consumer = _consumer(lab, READ_TABLE_STREAMS, send)
    # The mapping was accepted, so AWS knows the role; a minute more is for its right to send.
    lab.until(lambda: False, PROPAGATION_SECONDS)
    queue = lab.queue("failed")
    first = _name_destination(lab, consumer, queue, seconds=0)
    later = first and _name_destination(lab, consumer, queue)
    return answer(yes=not first, atOnce=first or "accepted", withinAMinute=later or "accepted")


@probe(
    "size-of-filtered-batch",
    question="Does batchSize in an on-failure record also count the records that the mapping's filter dropped?",
    call="sqs:ReceiveMessage",
    matters="A replay counts records as lost where it reads fewer than batchSize (`aws/stream_replay.py`), and reads "
    "all between the first and the last. If the dropped ones are counted, mappings with a filter need no special case.",
    creates="a role, a table with a stream, a function, a mapping and a queue",
    assumed="no",
    minutes=5,
)
def size_of_filtered_batch(lab: Lab) -> Answer:
    """Put ten items, of which the filter passes three, before the mapping begins to read."""
    send = {"Action": "sqs:SendMessage", "Resource": lab.queue_arn("failed")}
    queue = lab.queue("failed")
    keep = {"dynamodb": {"NewImage": {"keep": {"S": ["yes"]}}}}
    _consumer(
        lab,
        READ_TABLE_STREAMS,
        send,
        items=10,
        BatchSize=10,
        FilterCriteria={"Filters": [{"Pattern": json.dumps(keep)}]},
        DestinationConfig={"OnFailure": {"Destination": queue.arn}},
    )
    bodies: list[str] = lab.must(lambda: lab.receive(queue), 180, "an on-failure record")
    # Lambda may have read the items in several batches.
    lab.until(lambda: bodies.extend(lab.receive(queue)), 20)
    batches = [json.loads(body)["DDBStreamBatchInfo"] for body in bodies]
    counted = sum(int(batch["batchSize"]) for batch in batches)
    return answer(yes=counted > len(KEPT), kept=len(KEPT), put=10, counted=counted, batches=batches)


KEPT = (0, 5, 9)
"""Numbers of the items that the filter of the probe passes: the first, the last and one between them."""


def _consumer(lab: Lab, *statements: dict[str, Any], items: int = 0, **settings: Any) -> Consumer:
    table = lab.table("table", StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"})
    if items:
        _put(lab, items)
    role = lab.role("role", "lambda.amazonaws.com", *statements)
    function = lab.function("fn", role, FAILING)
    uuid = lab.mapping(
        table["LatestStreamArn"],
        function,
        **{"StartingPosition": "TRIM_HORIZON", "MaximumRetryAttempts": 0, "BatchSize": 1} | settings,
    )
    return Consumer(uuid, role)


def _put(lab: Lab, items: int) -> None:
    """Put items of one partition, hence into one shard."""
    for number in range(items):
        keep = {"keep": {"S": "yes" if number in KEPT else "no"}}
        item = {"pk": {"S": "one"}, "sk": {"S": f"{number:03}"}} | keep
        lab.client("dynamodb").put_item(TableName=lab.name("table"), Item=item)


def _name_destination(lab: Lab, consumer: Consumer, queue: Queue, seconds: float = PROPAGATION_SECONDS) -> str:
    """Set the destination of a mapping; return the refusal, or nothing."""
    client = lab.client("lambda")
    to = {"OnFailure": {"Destination": queue.arn}}
    try:
        lab.settled(
            lambda: client.update_event_source_mapping(UUID=consumer.uuid, DestinationConfig=to), seconds=seconds
        )
    except client.exceptions.InvalidParameterValueException as error:
        return str(error)
    except ClientError as error:
        if "not authorized" in str(error):
            return str(error)
        raise
    lab.must(lambda: lab.mapping_state(consumer.uuid) == "Enabled", 120, "the mapping enabled again")
    return ""


@probe(
    "failed-events",
    question="Does FailedInvokeEventCount count one event for a batch of ten with one failed item?",
    call="cloudwatch:GetMetricData",
    matters="The limit `failedEvents` of a source guard is compared with this metric. If the whole batch is counted, a "
    "limit must be as large as a batch; if only failed items are, the documentation can say so.",
    creates="a role, two queues, a function and a mapping with the metric group EventCount",
    assumed="no",
    minutes=6,
)
def failed_events(lab: Lab) -> Answer:
    """Send ten messages at once to a function that reports one of them as failed, once."""
    source, notes = lab.queue("source", VisibilityTimeout="60"), lab.queue("notes")
    role = lab.role(
        "role",
        "lambda.amazonaws.com",
        {
            "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"],
            "Resource": [source.arn, notes.arn],
        },
    )
    function = lab.function("fn", role, ONE_OF_TEN, Environment={"Variables": {"NOTES": notes.url}})
    invoke = lab.client("lambda").invoke
    lab.must(
        # Until AWS knows the role's right to send, the function fails, and its failures would be counted.
        lambda: not invoke(FunctionName=function, Payload=b'{"Records": []}').get("FunctionError"),
        PROPAGATION_SECONDS,
        "a function that may write its notes",
    )
    uuid = lab.mapping(
        source.arn,
        function,
        BatchSize=10,
        MaximumBatchingWindowInSeconds=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MetricsConfig={"Metrics": ["EventCount"]},
    )
    bodies = ["bad", *(f"good {number}" for number in range(9))]
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    lab.client("sqs").send_message_batch(QueueUrl=source.url, Entries=entries)
    seen: list[dict[str, int]] = []

    def failed() -> Any:
        seen.extend(json.loads(body) for body in lab.receive(notes))
        return [batch for batch in seen if batch["failed"]]

    batch = lab.must(failed, 90, "a batch with a failed item")[0]
    query = {"failed": ("FailedInvokeEventCount", "Sum", {"EventSourceMappingUUID": uuid})}
    counted = lab.must(lambda: metrics(lab, query)["failed"], METRIC_SECONDS, "FailedInvokeEventCount", pause=10)
    # A batch of one says nothing: both counts are 1.
    verdict = Answer("unclear", {"batches": seen, "counted": counted, "why": "the failed item came in a batch of one"})
    return verdict if batch["size"] == 1 else answer(yes=counted == 1, batches=seen, counted=counted)
