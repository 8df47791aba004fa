"""Redrive as deployed: an event starts it, and it goes by SQS's own move, one by one, or from a stream once more."""

from __future__ import annotations

import json
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.local.deployed import PREFIX, Queue, eventually, sample

if TYPE_CHECKING:
    from tests.local.deployed import Headgate

QUICK = {"percent": 25, "afterSeconds": 1}


class Pair(NamedTuple):
    """A queue and its dead-letter queue."""

    name: str
    url: str
    dead_name: str
    dead_url: str


@pytest.fixture
def pair(headgate: Headgate) -> Pair:
    return make_pair(headgate)


def make_pair(headgate: Headgate, *, fifo: bool = False) -> Pair:
    name, suffix = f"orders-{uuid.uuid4().hex[:6]}", ".fifo" if fifo else ""
    settings = {"FifoQueue": "true"} if fifo else {}
    make = headgate.queues.create_queue
    dead_url = make(QueueName=f"{name}-dead{suffix}", Attributes=settings)["QueueUrl"]
    told = headgate.queues.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    policy = json.dumps({"deadLetterTargetArn": told["Attributes"]["QueueArn"], "maxReceiveCount": "1"})
    made = make(
        QueueName=f"{name}{suffix}", Attributes={**settings, "RedrivePolicy": policy, "VisibilityTimeout": "30"}
    )
    return Pair(f"{name}{suffix}", made["QueueUrl"], f"{name}-dead{suffix}", dead_url)


def bury(headgate: Headgate, pair: Pair, *bodies: str, group: str = "") -> None:
    """Have messages received once too often, so that SQS itself puts them into the dead-letter queue."""
    for number, body in enumerate(bodies):
        ids = {"MessageGroupId": group, "MessageDeduplicationId": f"{group}-{number}"} if group else {}
        headgate.queues.send_message(QueueUrl=pair.url, MessageBody=body, **ids)

    def all_are_dead() -> bool:
        headgate.queues.receive_message(QueueUrl=pair.url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return count(headgate, pair.dead_url) == len(bodies)

    eventually(all_are_dead, 30, lambda: f"{count(headgate, pair.dead_url)} of {len(bodies)} are dead")


def count(headgate: Headgate, url: str) -> int:
    name = "ApproximateNumberOfMessages"
    return int(headgate.queues.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def bodies_of(headgate: Headgate, url: str) -> list[str]:
    found: list[str] = []
    while taken := headgate.queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in taken:
            found.append(message["Body"])
            headgate.queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def redriven(headgate: Headgate, **detail: Any) -> dict[str, Any]:
    """Ask for a redrive by an event; what the bus hears of its end."""
    redrive_id = headgate.new_id()
    headgate.send("Redrive Requested", {"id": redrive_id, **detail})
    return ending(headgate, redrive_id)


def ending(headgate: Headgate, redrive_id: str) -> dict[str, Any]:
    """What the bus hears of a redrive's end."""

    def heard() -> list[dict[str, Any]]:
        events = [json.loads(message["Body"]) for message in headgate._heard.heard()]
        return [each for each in events if each["detail"].get("redriveId") == redrive_id]

    [told] = eventually(heard, 60, lambda: f"no Redrive Ended event of {redrive_id}")
    assert told["detail-type"] == "Redrive Ended"
    return dict(told["detail"])


def test_a_dry_run_says_what_is_there_and_leaves_it(headgate: Headgate, pair: Pair) -> None:
    bury(headgate, pair, *(f"order {number}" for number in range(7)))
    told = redriven(headgate, **{"from": {"queue": pair.dead_name}})
    assert (told["outcome"], told["way"], told["remaining"]) == ("dry-run", "move-task", 7)
    assert "sample" not in told["report"]
    assert told["report"]["reasons"] == {"": 7}
    assert count(headgate, pair.dead_url) == 7


def test_a_whole_dead_letter_queue_goes_back_to_its_queue(headgate: Headgate, pair: Pair) -> None:
    sent = [f"order {number}" for number in range(25)]
    bury(headgate, pair, *sent)
    told = redriven(headgate, **{"from": {"queue": pair.dead_name}}, dryRun=False, stopIfReturned=QUICK)
    assert (told["outcome"], told["way"], told["moved"], told["remaining"]) == ("succeeded", "move-task", 25, 0)
    assert sorted(bodies_of(headgate, pair.url)) == sorted(sent)


def test_a_filter_brings_back_only_what_matches(headgate: Headgate, pair: Pair) -> None:
    for number in range(12):
        reason = "no such table" if number % 3 == 0 else "timeout"
        headgate.queues.send_message(
            QueueUrl=pair.dead_url,
            MessageBody=f"order {number}",
            MessageAttributes={"reason": {"DataType": "String", "StringValue": reason}},
        )
    told = redriven(
        headgate,
        **{"from": {"queue": pair.dead_name}},
        dryRun=False,
        filter={"reason": "table"},
        stopIfReturned=False,
    )
    assert (told["outcome"], told["way"]) == ("succeeded", "receive-and-send")
    assert (told["moved"], told["skipped"], told["remaining"]) == (4, 8, 8)
    assert sorted(bodies_of(headgate, pair.url)) == ["order 0", "order 3", "order 6", "order 9"]


def test_whatever_a_message_carries_goes_with_it(headgate: Headgate, pair: Pair) -> None:
    # GIVEN as much as a message may be, with as many attributes as it may have
    attributes: dict[str, Any] = {f"n{n}": {"DataType": "Number.int", "StringValue": str(n)} for n in range(8)}
    attributes |= {"raw": {"DataType": "Binary.gzip", "BinaryValue": b"\x00\xff"}}
    attributes |= {"wanted": {"DataType": "String", "StringValue": "\U0001f600"}}
    sizes = sum(len(name) + len(value["DataType"]) for name, value in attributes.items()) + 8 + 2 + 4
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5e988d60-1c2b3d4e5f60718293a4b5c6"}}
    for letter in "abc":
        headgate.queues.send_message(
            QueueUrl=pair.dead_url,
            MessageBody=letter * (1024 * 1024 - sizes),
            MessageAttributes=attributes,
            MessageSystemAttributes=trace,
        )
    time.sleep(1)
    # WHEN they are moved one by one
    wanted = {"attributes": {"wanted": "\U0001f600", "n7": "7"}}
    told = redriven(
        headgate, **{"from": {"queue": pair.dead_name}, "dryRun": False, "filter": wanted, "stopIfReturned": False}
    )
    assert (told["outcome"], told["moved"], told["remaining"]) == ("succeeded", 3, 0)
    # THEN nothing of them is missing
    for _ in range(3):
        [message] = headgate.queues.receive_message(
            QueueUrl=pair.url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], WaitTimeSeconds=2
        )["Messages"]
        assert len(message["Body"]) == 1024 * 1024 - sizes
        assert message["MessageAttributes"] == attributes
        assert message["Attributes"]["AWSTraceHeader"] == trace["AWSTraceHeader"]["StringValue"]


def test_a_fifo_queue_keeps_the_order_of_its_groups(headgate: Headgate) -> None:
    pair = make_pair(headgate, fifo=True)
    for group in ("a", "b"):
        for number in range(8):
            headgate.queues.send_message(
                QueueUrl=pair.dead_url,
                MessageBody=f"{group}{number}",
                MessageGroupId=group,
                MessageDeduplicationId=f"{group}{number}",
            )
    told = redriven(headgate, **{"from": {"queue": pair.dead_name}}, dryRun=False, atMost=100, stopIfReturned=False)
    assert (told["outcome"], told["moved"]) == ("succeeded", 16)
    found = bodies_of(headgate, pair.url)
    assert [body for body in found if body[0] == "a"] == [f"a{number}" for number in range(8)]
    assert [body for body in found if body[0] == "b"] == [f"b{number}" for number in range(8)]


def test_the_batch_of_a_stream_is_read_again_and_given_to_the_function_of_its_mapping(headgate: Headgate) -> None:
    # GIVEN a mapping that gives up into a queue, and a batch that it gave up on
    kinesis, name = headgate.aws.client("kinesis"), f"orders-{uuid.uuid4().hex[:6]}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    stream = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    put = [kinesis.put_record(StreamName=name, Data=b"order", PartitionKey="c") for _ in range(4)]
    gave_up = Queue(headgate.queues, headgate.queues.create_queue(QueueName=f"{name}-gave-up")["QueueUrl"])
    service = headgate.next_service()
    mapping = headgate.functions.create_event_source_mapping(
        EventSourceArn=stream,
        FunctionName=f"{service.function}:{service.alias}",
        StartingPosition="LATEST",
        Enabled=False,
        DestinationConfig={"OnFailure": {"Destination": gave_up.arn}},
    )
    record = sample("on_failure_kinesis")
    record["requestContext"]["functionArn"] = mapping["FunctionArn"]
    record["KinesisBatchInfo"] |= {
        "shardId": put[0]["ShardId"],
        "startSequenceNumber": put[1]["SequenceNumber"],
        "endSequenceNumber": put[2]["SequenceNumber"],
        "batchSize": 2,
        "streamArn": stream,
    }
    headgate.queues.send_message(QueueUrl=gave_up.url, MessageBody=json.dumps(record))
    # WHEN it is redriven, THEN the plan shows the function and the stream, and the function gets the records
    told = redriven(headgate, **{"from": {"queue": f"{name}-gave-up"}})
    assert told["report"]["consumers"] == [
        {"mapping": mapping["UUID"], "source": stream, "function": mapping["FunctionArn"]}
    ]
    told = redriven(headgate, **{"from": {"queue": f"{name}-gave-up"}}, dryRun=False)
    assert (told["outcome"], told["way"]) == ("succeeded", "re-read"), told
    assert (told["moved"], told["records"], told["expired"], told["remaining"]) == (1, 2, 0, 0)


def test_a_redrive_that_is_stopped_by_hand_leaves_nothing_moving(headgate: Headgate, pair: Pair) -> None:
    bury(headgate, pair, *(f"order {number}" for number in range(40)))
    detail: dict[str, Any] = {
        "from": {"queue": pair.dead_name},
        "dryRun": False,
        "perSecond": 1,
        "stopIfReturned": False,
    }
    execution = headgate.states.start_execution(
        stateMachineArn=headgate.outputs["RedriveMachineArn"], name=headgate.new_id(), input=json.dumps(detail)
    )["executionArn"]
    told = headgate.queues.get_queue_attributes(QueueUrl=pair.dead_url, AttributeNames=["QueueArn"])
    source = told["Attributes"]["QueueArn"]

    def status() -> str:
        tasks = headgate.queues.list_message_move_tasks(SourceArn=source)["Results"]
        return str(tasks[0]["Status"]) if tasks else ""

    eventually(lambda: status() == "RUNNING", 30, lambda: f"no move task runs: {status()!r}")
    headgate.states.stop_execution(executionArn=execution, cause="by the test")
    eventually(lambda: status() in ("CANCELLING", "CANCELLED"), 30, lambda: f"the move task is {status()}")
    assert count(headgate, pair.dead_url) > 0
    detail = ending(headgate, execution.rsplit(":", 1)[-1])
    assert (detail["outcome"], detail["way"], detail["execution"]) == ("aborted", "move-task", execution)
    assert detail["moved"] + detail["remaining"] == 40
    assert detail["reason"] == "the execution was stopped: by the test"


def test_a_redrive_one_by_one_that_is_stopped_by_hand_says_what_it_had_moved(headgate: Headgate, pair: Pair) -> None:
    for number in range(100):
        headgate.queues.send_message(QueueUrl=pair.dead_url, MessageBody=f"order {number}")
    time.sleep(1)  # What was sent in the second in which a redrive begins would count as having come since.
    wanted = {"from": {"queue": pair.dead_name}, "dryRun": False, "atMost": 90, "perSecond": 1, "stopIfReturned": False}
    execution = headgate.states.start_execution(
        stateMachineArn=headgate.outputs["RedriveMachineArn"], name=headgate.new_id(), input=json.dumps(wanted)
    )["executionArn"]
    eventually(lambda: count(headgate, pair.url) > 40, 60, lambda: "no second slice moves anything")
    headgate.states.stop_execution(executionArn=execution, error="Mistaken", cause="by the test")
    detail = ending(headgate, execution.rsplit(":", 1)[-1])
    assert (detail["outcome"], detail["way"]) == ("aborted", "receive-and-send")
    assert 30 <= detail["moved"] <= 40
    assert detail["reason"].startswith("the execution was stopped: Mistaken: by the test; a slice was running")


def test_a_request_that_is_not_valid_is_refused_aloud(headgate: Headgate) -> None:
    redrive_id = headgate.new_id()
    headgate.send("Redrive Requested", {"id": redrive_id, "from": {"queue": "orders-dead"}, "perSecond": 0})

    def told(queue: Queue) -> list[dict[str, Any]]:
        bodies = [json.loads(message["Body"]) for message in queue.heard()]
        events = [json.loads(body["Message"]) if "Message" in body else body for body in bodies]
        return [each for each in events if each.get("detail", {}).get("redriveId") == redrive_id]

    for queue in (headgate._heard, headgate._notified):
        [refused] = eventually(partial(told, queue), 30, lambda: f"nothing is told of {redrive_id}")
        assert refused["detail-type"] == "Redrive Refused"
        assert refused["detail"]["reason"].startswith("perSecond: must be at least 1 (given 0)")
    assert [each for each in headgate.job_dead_letters.heard() if redrive_id in each["Body"]]


def test_a_queue_that_is_not_there_is_refused(headgate: Headgate) -> None:
    told = redriven(headgate, **{"from": {"queue": "nowhere"}})
    assert told["outcome"] == "refused"
    assert told["reason"].startswith("from.queue: nowhere: ")


def test_the_functions_take_their_samples(headgate: Headgate) -> None:
    """As `sam local invoke` gives them, once the queues are there that they name."""
    queues = headgate.queues
    dead = queues.create_queue(QueueName="orders-dead")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    alive = queues.create_queue(QueueName="orders", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    queues.send_message(QueueUrl=dead, MessageBody="{}")
    slice_ = sample("redriver")
    slice_["plan"] |= {"filter": None, "began": time.time() + 60}
    slice_["plan"]["source"]["url"], slice_["plan"]["destination"]["url"] = dead, alive
    for function, payload in (
        ("redrive-planner", sample("redrive_planner")),
        ("redrive-stopper", sample("redrive_stopper")),
        ("redriver", slice_),
    ):
        answer = headgate.functions.invoke(FunctionName=f"{PREFIX}-{function}", Payload=json.dumps(payload).encode())
        told = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, told
    assert told["progress"]["moved"] == 1
    assert bodies_of(headgate, alive) == ["{}"]
