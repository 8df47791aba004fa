"""Intake over both queues: order, duplicates, crashes, what cannot be read, and floods."""

from __future__ import annotations

import functools
import heapq
import json
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from cfnlint.decode import cfn_yaml

from headgate.aws.dead_letters import LETTER_BYTES, LETTER_REASON_CHARACTERS, dead_letter
from headgate.aws.observability import logger
from headgate.aws.sqs_batches import MAX_DELAY_SECONDS, delay_seconds, in_processing_order
from headgate.errors import RequestRefused
from headgate.rollouts.executions import Executions
from headgate.rollouts.intake import read_body, refused_id
from headgate.rollouts.locks import Locks
from headgate.rollouts.settlement import Settler
from headgate.rollouts.table import Table
from headgate.spec.request import read_request
from tests.builders import (
    CONTEXT,
    MACHINE,
    ROOT,
    TABLE,
    TARGET_KEY,
    admit,
    announced,
    event,
    execution_of,
    request_of,
    settle,
    status_of,
    stored_lock,
    stored_rollout,
)
from tests.fakes.functions import SETTINGS, Functions
from tests.fakes.services import FakeStepFunctions, Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAYMENTS = "lambda-alias/payments/live"
QUEUES = ("intake", "intake_fifo")
LEFT = "get_remaining_time_in_millis"
DONE: dict[str, Any] = {"batchItemFailures": []}
STANDARD_ARN = event("intake")["Records"][0]["eventSourceARN"]


class ThrottledStepFunctions(FakeStepFunctions):
    """Step Functions whose StartExecution may be out of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.throttled = False

    def StartExecution(self, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: A002, N802, N803
        if self.throttled:
            raise Refusal("ThrottlingException", "Rate exceeded")
        return super().StartExecution(stateMachineArn, name, input)


@pytest.fixture(scope="module")
def deployed(_nobodys_account: None) -> Functions:
    return Functions()


@pytest.fixture
def machines(deployed: Functions) -> Iterator[ThrottledStepFunctions]:
    fake = ThrottledStepFunctions()
    detach = fake.attach(deployed.client("stepfunctions"))
    yield fake
    detach()


class FakeQueues(Service):
    """SQS as far as it is told when messages are visible again."""

    URLS: ClassVar = {"REQUESTS": "https://sqs.test/requests", "FIFO_REQUESTS": "https://sqs.test/requests.fifo"}

    def __init__(self) -> None:
        self.delays: dict[str, int] = {}
        """Seconds by receipt handle, in the order in which they were told."""
        self.urls = set[str]()
        self.fault: Exception | None = None
        self.refuses = set[str]()

    def ChangeMessageVisibilityBatch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N802, N803
        if self.fault:
            raise self.fault
        if len(Entries) > 10:
            raise Refusal("TooManyEntriesInBatchRequest")
        self.urls.add(QueueUrl)
        taken = [entry for entry in Entries if entry["ReceiptHandle"] not in self.refuses]
        self.delays |= {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in taken}
        refused = [entry["Id"] for entry in Entries if entry not in taken]
        return {
            "Successful": [{"Id": entry["Id"]} for entry in taken],
            "Failed": [{"Id": name, "Code": "ReceiptHandleIsInvalid", "SenderFault": True} for name in refused],
        }


@pytest.fixture
def queues(deployed: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQueues]:
    fake, client = FakeQueues(), boto3.client("sqs")
    for setting, url in fake.URLS.items():
        monkeypatch.setenv(setting, url)
    monkeypatch.setattr(deployed.module("intake").intake, "hurried", client)
    detach = fake.attach(client)
    yield fake
    detach()


@pytest.fixture
def letters(aws: None, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Reads a dead-letter queue, by the setting that names it."""
    sqs = clients["sqs"]
    urls = {
        "DEAD_LETTERS": sqs.create_queue(QueueName="letters")["QueueUrl"],
        "FIFO_DEAD_LETTERS": sqs.create_queue(QueueName="letters.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"],
    }
    for setting, url in urls.items():
        monkeypatch.setenv(setting, url)
    receive = functools.partial(
        sqs.receive_message,
        MaxNumberOfMessages=10,
        VisibilityTimeout=0,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    )
    return lambda setting: receive(QueueUrl=urls[setting]).get("Messages", [])


@pytest.fixture
def failing(deployed: Functions, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of requests that cannot be stored at present."""
    ids: set[str] = set()
    locks = deployed.module("intake").intake.locks
    admit_really = locks.admit

    def admit_or_fail(request: Any, execution: str) -> Any:
        if request.id in ids:
            raise RuntimeError("the table is out of reach")
        return admit_really(request, execution)

    monkeypatch.setattr(locks, "admit", admit_or_fail)
    return ids


def failures(answer: dict[str, Any], batch: dict[str, Any]) -> list[str]:
    """Ids of the requests that come again."""
    ids = {record["messageId"]: json.loads(record["body"])["id"] for record in batch["Records"]}
    return [ids[failure["itemIdentifier"]] for failure in answer["batchItemFailures"]]


def received(file: str, times: int) -> dict[str, Any]:
    """A batch of events/ that is delivered for so many a time."""
    batch: dict[str, Any] = event(file)
    for record in batch["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(times)
        record["receiptHandle"] = f"handle-of-{json.loads(record['body'])['id']}" if "fifo" in file else "handle"
    return batch


def deliver_in_order(deployed: Functions, batch: dict[str, Any], context: Any = CONTEXT) -> dict[str, Any]:
    """Hand messages of the FIFO queue out as it does: one at a time, and none behind one of its group that has failed.

    Answers all that is left in the queue, as an answer to a mapping has it.
    """
    left, held_up = [], set()
    for record in batch["Records"]:
        group = record["attributes"]["MessageGroupId"]
        if group not in held_up and deployed.call("intake", {"Records": [record]}, context) == DONE:
            continue
        held_up.add(group)
        left.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": left}


def with_time_for(looks: int) -> SimpleNamespace:
    """A context in which so many looks at the time that is left find enough, and the others do not."""
    left = iter([30_000] * looks)
    return SimpleNamespace(**vars(CONTEXT) | {LEFT: lambda: next(left, 11_000)})


def line(table: Table) -> list[str]:
    """Who waits for checkout, first come first."""
    values = {":pk": f"TARGET#{TARGET_KEY}", ":wait": "WAIT#"}
    return [item["rolloutId"] for item in table.query("pk = :pk AND begins_with(sk, :wait)", values)]


# What a batch looks like


def test_a_batch_of_the_queue_starts_each_request_once_and_keeps_what_cannot_be_read(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Callable[[str], list[Any]]
) -> None:
    assert deployed.call("intake", event("sqs_batch")) == DONE
    started = sorted(request["id"] for request in machines.executions.values())
    assert started == ["checkout-42", "payments-3", "shipping-7"]
    (letter,) = letters("DEAD_LETTERS")
    assert letter["Body"] == '{"target":'
    assert letters("FIFO_DEAD_LETTERS") == []


def test_messages_of_the_fifo_queue_are_stored_in_their_order(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Callable[[str], list[Any]]
) -> None:
    assert deliver_in_order(deployed, event("sqs_fifo_batch")) == DONE
    assert sorted(request["id"] for request in machines.executions.values()) == ["checkout-42", "payments-3"]
    assert line(table) == ["checkout-43", "checkout-44"]


@pytest.mark.parametrize("file", ["sqs_batch", "sqs_fifo_batch", *QUEUES])
def test_the_messages_of_events_are_as_sqs_makes_them(file: str) -> None:
    common = {"ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"}
    ordered = {"SequenceNumber", "MessageGroupId", "MessageDeduplicationId"}
    for record in event(file)["Records"]:
        fifo = record["eventSourceARN"].endswith(".fifo")
        assert record["attributes"].keys() - {"AWSTraceHeader"} == (common | ordered if fifo else common)
        assert record["eventSource"] == "aws:sqs"


# The FIFO queue


def test_a_request_of_the_fifo_queue_is_stored_and_started(
    table: Table, deployed: Functions, machines: FakeStepFunctions
) -> None:
    assert deployed.call("intake", event("intake_fifo")) == DONE
    assert stored_lock(table, TARGET_KEY)["owner"] == "checkout-42"
    assert len(machines.executions) == 1


def test_a_message_that_failed_holds_up_its_own_group_and_no_other(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Any, failing: set[str]
) -> None:
    batch = event("sqs_fifo_batch")
    # GIVEN that the first request for checkout cannot be stored
    failing.add("checkout-42")
    answer = deliver_in_order(deployed, batch)
    # THEN those behind it wait in the queue as well, and the other group's have been taken in
    assert failures(answer, batch) == ["checkout-42", "checkout-43", "checkout-44"]
    assert stored_lock(table, TARGET_KEY) == {}
    assert stored_lock(table, PAYMENTS)["owner"] == "payments-3"
    # AND when they come again, they are in order
    failing.clear()
    assert deliver_in_order(deployed, received("sqs_fifo_batch", 2)) == DONE
    assert (stored_lock(table, TARGET_KEY)["owner"], line(table)) == ("checkout-42", ["checkout-43", "checkout-44"])


def test_what_came_before_the_failed_message_is_done_with(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Any, failing: set[str]
) -> None:
    batch = event("sqs_fifo_batch")
    failing.add("checkout-43")
    assert failures(deliver_in_order(deployed, batch), batch) == ["checkout-43", "checkout-44"]
    assert stored_lock(table, TARGET_KEY)["owner"] == "checkout-42"


def test_groups_of_a_standard_queue_are_about_fairness_and_hold_nobody_up(
    table: Table, deployed: Functions, machines: FakeStepFunctions, failing: set[str]
) -> None:
    # GIVEN messages of one group in a standard queue
    batch = event("sqs_fifo_batch")
    batch["Records"] = [record | {"eventSourceARN": STANDARD_ARN} for record in batch["Records"][:3]]
    failing.add("checkout-42")
    assert failures(deployed.call("intake", batch), batch) == ["checkout-42"]
    assert stored_lock(table, TARGET_KEY)["owner"] == "checkout-43"


def test_a_fifo_message_that_cannot_be_read_goes_to_the_fifo_dead_letters_at_once_and_holds_nobody_up(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Callable[[str], list[Any]]
) -> None:
    batch = event("sqs_fifo_batch")
    bad = batch["Records"][3]
    batch["Records"].append(batch["Records"][1] | {"messageId": "after", "body": bad["body"].replace("startegy", "x")})
    assert deliver_in_order(deployed, batch) == DONE
    first, second = letters("FIFO_DEAD_LETTERS")
    # THEN it keeps its group, has an id of its own, and says why
    assert first["Body"] == bad["body"]
    assert first["MessageAttributes"]["reason"]["StringValue"].startswith(
        "startegy: is not a known field; did you mean strategy?"
    )
    assert first["Attributes"]["MessageGroupId"] == bad["attributes"]["MessageGroupId"]
    assert first["Attributes"]["MessageDeduplicationId"] == bad["messageId"]
    # AND one with the same deduplication id as another is not swallowed
    assert second["Attributes"]["MessageDeduplicationId"] == "after"
    assert letters("DEAD_LETTERS") == []
    assert status_of(table, "payments-4") == "refused"


def test_a_bad_fifo_message_that_is_delivered_again_is_one_dead_letter(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Callable[[str], list[Any]]
) -> None:
    for times in (1, 2):
        deliver_in_order(deployed, received("sqs_fifo_batch", times))
    assert len(letters("FIFO_DEAD_LETTERS")) == 1


def test_what_cannot_be_read_nor_put_aside_comes_again_before_the_rest_of_its_group(
    table: Table, deployed: Functions, machines: FakeStepFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a dead-letter queue that is not there
    monkeypatch.setenv("ROLLOUT_MACHINE", MACHINE)
    monkeypatch.setenv("FIFO_DEAD_LETTERS", SETTINGS["FIFO_DEAD_LETTERS"])
    batch = event("sqs_fifo_batch")
    batch["Records"][0], batch["Records"][3] = (
        batch["Records"][0] | {"body": batch["Records"][3]["body"].replace("payments", "checkout")},
        batch["Records"][1] | {"messageId": "again"},
    )
    assert failures(deliver_in_order(deployed, batch), batch) == ["checkout-4", "checkout-43", "checkout-44"]
    assert stored_lock(table, PAYMENTS)["owner"] == "payments-3"


def test_the_fifo_queue_hands_out_one_message_at_a_time_so_that_a_bad_one_takes_no_good_ones_with_it() -> None:
    # Intake relies on it: it keeps no order within a batch.
    mapping = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]["Intake"]["Properties"]["Events"]
    assert mapping["RequestsInOrder"]["Properties"]["BatchSize"] == 1


# Duplicates and crashes


@pytest.mark.parametrize("file", QUEUES)
def test_a_request_for_a_busy_target_keeps_its_one_place_in_line_however_often_it_comes(
    table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions, file: str
) -> None:
    admit(locks, "before")
    for times in (1, 2, 3):
        assert deployed.call("intake", received(file, times)) == DONE
    admit(locks, "after")
    assert line(table) == ["checkout-42", "after"]
    assert machines.executions == {}


@pytest.mark.parametrize("file", QUEUES)
def test_a_crash_between_store_and_start_is_made_good_by_the_next_delivery(
    table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions, file: str
) -> None:
    # GIVEN a request that was stored, and then the function died
    request = read_request(event("rollout_requested")["detail"], "unused")
    assert locks.admit(request, execution_of("checkout-42")).lock == "held"
    # WHEN its message comes again
    assert deployed.call("intake", received(file, 2)) == DONE
    # THEN it is started under the same lock, as it was stored
    assert machines.executions == {execution_of("checkout-42").rsplit(":", 1)[1]: request.to_wire()}
    assert stored_lock(table, TARGET_KEY)["epoch"] == 1


@pytest.mark.parametrize("file", QUEUES)
def test_a_message_that_comes_again_after_its_rollout_has_ended_starts_nothing(
    table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions, file: str
) -> None:
    deployed.call("intake", event(file))
    machines.ended |= dict.fromkeys(machines.executions, "SUCCEEDED")
    Settler(table).settle("checkout-42", execution_of("checkout-42"), "succeeded", {"reason": "done"})
    machines.executions.clear()
    assert deployed.call("intake", received(file, 2)) == DONE
    assert (machines.executions, stored_lock(table, TARGET_KEY).get("owner")) == ({}, None)


@pytest.mark.parametrize("known", ["runs", "has ended", "waits", "was refused"])
def test_an_id_that_is_used_again_with_other_content_is_refused_aloud_and_the_first_rollout_goes_on(
    table: Table,
    locks: Locks,
    deployed: Functions,
    machines: FakeStepFunctions,
    letters: Callable[[str], list[Any]],
    known: str,
) -> None:
    # GIVEN a rollout
    if known == "waits":
        admit(locks, "before")
    if known == "was refused":
        locks.refuse("checkout-42", execution_of("checkout-42"), "target: is missing; add it")
    else:
        locks.admit(request_of("checkout-42", strategy="AllAtOnce"), execution_of("checkout-42"))
    if known == "has ended":
        Settler(table).settle("checkout-42", execution_of("checkout-42"), "succeeded", {"reason": "done"})
    before = table.rollout("checkout-42")
    # WHEN another request has its id
    batch = event("intake")
    assert deployed.call("intake", batch) == DONE
    # THEN its sender is told under the id of the event, and the message is kept
    reason = (
        "id: checkout-42 is the id of an earlier request with other content; send this one under a new id, or leave "
        "the id out"
    )
    ((kind, detail),) = announced(table, json.loads(batch["Records"][0]["body"])["id"])
    assert (kind, detail["reason"], detail["target"]) == ("Rollout Refused", reason, TARGET_KEY)
    (letter,) = letters("DEAD_LETTERS")
    assert letter["MessageAttributes"]["reason"]["StringValue"] == reason
    # AND nothing changes for the first one
    assert table.rollout("checkout-42") == before
    assert machines.executions == {}


def test_an_undo_with_the_id_of_another_request_is_refused_aloud(
    table: Table, locks: Locks, deployed: Functions, letters: Callable[[str], list[Any]]
) -> None:
    admit(locks, "checkout-42")
    settle(locks, "checkout-42", stable="6")
    batch = event("intake")
    body = event("undo_requested")
    body["detail"] = {"id": "checkout-42", "target": body["detail"]["target"]}
    batch["Records"][0]["body"] = json.dumps(body)
    assert deployed.call("intake", batch) == DONE
    ((kind, detail),) = announced(table, json.loads(batch["Records"][0]["body"])["id"])
    assert kind == "Rollout Refused"
    assert detail["reason"].startswith("id: checkout-42 is the id of an earlier request with other content")
    assert len(letters("DEAD_LETTERS")) == 1


# When StartExecution is throttled


@pytest.mark.parametrize("file", QUEUES)
def test_a_start_that_is_throttled_comes_again_and_then_is_the_wardens(
    table: Table, deployed: Functions, machines: ThrottledStepFunctions, file: str
) -> None:
    machines.throttled = True
    # WHEN the start is throttled twice, the message comes again
    for times in (1, 2):
        batch = received(file, times)
        assert len(deployed.call("intake", batch)["batchItemFailures"]) == 1
    # THEN, at the third time, it is acknowledged: the request is stored and holds its lock
    assert deployed.call("intake", received(file, 3)) == DONE
    assert (status_of(table, "checkout-42"), stored_lock(table, TARGET_KEY)["held"]) == ("accepted", "yes")
    # AND the warden's next sweep starts it
    machines.throttled = False
    deployed.call("warden", {"detail-type": "Scheduled Event"})
    assert len(machines.executions) == 1


def test_a_throttled_start_does_not_keep_the_rest_of_its_batch_from_being_stored(
    table: Table, deployed: Functions, machines: ThrottledStepFunctions, letters: Any
) -> None:
    machines.throttled = True
    batch = event("sqs_fifo_batch")
    batch["Records"] = [record | {"eventSourceARN": STANDARD_ARN} for record in batch["Records"]]
    assert failures(deployed.call("intake", batch), batch) == ["checkout-42", "payments-3"]
    assert line(table) == ["checkout-43", "checkout-44"]


def test_a_throttled_start_keeps_its_group_from_being_stored_for_two_deliveries(
    table: Table, deployed: Functions, machines: ThrottledStepFunctions, letters: Any
) -> None:
    machines.throttled = True
    batch = event("sqs_fifo_batch")
    for times in (1, 2):
        left = failures(deliver_in_order(deployed, received("sqs_fifo_batch", times)), batch)
        assert left[:1] == ["checkout-42"]
        assert line(table) == []
    assert deliver_in_order(deployed, received("sqs_fifo_batch", 3)) == DONE
    assert line(table) == ["checkout-43", "checkout-44"]


def test_what_there_is_no_time_for_comes_again_untouched(
    table: Table, deployed: Functions, machines: FakeStepFunctions
) -> None:
    hurried = SimpleNamespace(**vars(CONTEXT) | {LEFT: lambda: 11_000})
    batch = event("sqs_fifo_batch")
    assert len(deliver_in_order(deployed, batch, hurried)["batchItemFailures"]) == len(batch["Records"])
    assert stored_rollout(table, "checkout-42") is None


# When messages come again


@pytest.mark.parametrize(("file", "queue"), [("intake", "REQUESTS"), ("sqs_fifo_batch", "FIFO_REQUESTS")])
def test_what_there_is_no_time_for_is_visible_again_at_once(
    table: Table, deployed: Functions, machines: FakeStepFunctions, queues: FakeQueues, file: str, queue: str
) -> None:
    batch = received(file, 4)
    answer = deployed.call("intake", batch, with_time_for(0))
    assert len(answer["batchItemFailures"]) == len(batch["Records"])
    assert queues.delays == {record["receiptHandle"]: 0 for record in batch["Records"]}
    assert queues.urls == {queues.URLS[queue]}


def test_a_stored_request_whose_start_there_is_no_time_for_is_visible_again_at_once(
    table: Table, deployed: Functions, machines: FakeStepFunctions, queues: FakeQueues
) -> None:
    assert len(deployed.call("intake", received("intake", 2), with_time_for(1))["batchItemFailures"]) == 1
    assert (status_of(table, "checkout-42"), machines.executions, queues.delays) == ("accepted", {}, {"handle": 0})


@pytest.mark.parametrize(("times", "seconds"), [(1, 5), (2, 10), (3, 20), (6, 160), (7, 180), (100, 180)])
def test_a_message_that_failed_stays_away_for_longer_each_time(
    table: Table, deployed: Functions, queues: FakeQueues, failing: set[str], times: int, seconds: int
) -> None:
    failing.add("checkout-42")
    assert len(deployed.call("intake", received("intake", times))["batchItemFailures"]) == 1
    assert queues.delays == {"handle": seconds}


def test_a_throttled_start_is_tried_again_after_seconds(
    table: Table, deployed: Functions, machines: ThrottledStepFunctions, queues: FakeQueues
) -> None:
    machines.throttled = True
    told = []
    for times in (1, 2, 3):
        queues.delays.clear()
        deployed.call("intake", received("intake", times))
        told.append(dict(queues.delays))
    # THEN the third time there is nothing to tell: the warden starts it
    assert told == [{"handle": 5}, {"handle": 10}, {}]


def test_those_behind_a_failed_message_of_their_group_come_when_it_does(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Any, failing: set[str], queues: FakeQueues
) -> None:
    failing.add("checkout-42")
    left = deliver_in_order(deployed, batch := received("sqs_fifo_batch", 1))
    # THEN the failed one keeps its group back for a moment, as SQS hands out none of a group while one is invisible
    assert queues.delays == {"handle-of-checkout-42": 5}
    assert failures(left, batch) == ["checkout-42", "checkout-43", "checkout-44"]


def test_what_is_done_with_is_not_made_visible(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Any, queues: FakeQueues
) -> None:
    assert deliver_in_order(deployed, received("sqs_fifo_batch", 1)) == DONE
    assert (queues.delays, queues.urls) == ({}, set())


@pytest.mark.parametrize("fault", [Refusal("RequestThrottled"), EndpointConnectionError(endpoint_url="x"), None])
def test_a_queue_that_cannot_be_told_changes_nothing_else(
    table: Table,
    deployed: Functions,
    machines: FakeStepFunctions,
    letters: Any,
    failing: set[str],
    queues: FakeQueues,
    fault: Exception | None,
) -> None:
    # GIVEN that the call fails, or the queue refuses one of its entries
    queues.fault, queues.refuses = fault, {"handle-of-checkout-42"}
    failing.update(("checkout-42", "checkout-43", "checkout-44"))
    batch = received("sqs_fifo_batch", 1)
    batch["Records"] = [record | {"eventSourceARN": STANDARD_ARN} for record in batch["Records"]]
    assert failures(deployed.call("intake", batch), batch) == ["checkout-42", "checkout-43", "checkout-44"]
    assert stored_lock(table, PAYMENTS)["owner"] == "payments-3"
    assert queues.delays == ({} if fault else {"handle-of-checkout-43": 5, "handle-of-checkout-44": 5})


def test_a_queue_that_does_not_answer_is_waited_for_as_long_as_there_is_time(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN an SQS that takes a connection and says nothing, and a function that has just started
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("REQUESTS", FakeQueues.URLS["REQUESTS"])
        begun = time.monotonic()
        answer = Functions().call("intake", received("intake", 1), with_time_for(0))
    # THEN the call is given up before the function's time is
    assert len(answer["batchItemFailures"]) == 1
    assert 0.9 < time.monotonic() - begun < 2.5


def test_without_time_for_the_call_messages_come_after_the_visibility_timeout(
    table: Table, deployed: Functions, queues: FakeQueues
) -> None:
    late = SimpleNamespace(**vars(CONTEXT) | {LEFT: lambda: 2_000})
    assert len(deployed.call("intake", received("intake", 1), late)["batchItemFailures"]) == 1
    assert queues.delays == {}


def test_more_than_ten_messages_are_told_of_in_several_calls(
    table: Table, deployed: Functions, queues: FakeQueues
) -> None:
    batch = {"Records": [wish(number, 1) for number in range(25)]}
    deployed.call("intake", batch, with_time_for(0))
    assert queues.delays == {f"handle-{number}": 0 for number in range(25)}


def test_what_has_come_most_often_is_begun_first() -> None:
    batch = [wish(number, times) for number, times in enumerate((1, 3, 2, 3))]
    assert [message["messageId"] for message in in_processing_order(batch)] == ["1", "3", "2", "0"]


def test_intake_may_say_when_a_message_is_visible_of_its_own_two_queues_and_no_other() -> None:
    resources = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]
    intake = resources["Intake"]["Properties"]
    (allowed,) = [
        statement
        for statement in resources["IntakeRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        if "sqs:ChangeMessageVisibility" in statement["Action"]
    ]
    read = [mapping["Properties"]["Queue"] for mapping in intake["Events"].values()]
    assert allowed["Resource"] == read
    told = intake["Environment"]["Variables"]
    assert [told["REQUESTS"], told["FIFO_REQUESTS"]] == [{"Ref": "RequestQueue"}, {"Ref": "RequestFifoQueue"}]


# Floods


class Memory:
    """As much of DynamoDB as admissions need, in memory; conditions hold as DynamoDB has them."""

    def __init__(self, takes: Callable[[], None]) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self._takes = takes
        """Lets the time pass that a transaction takes."""

    def get_item(self, Key: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - as AWS names it
        item = self.items.get((Key["pk"]["S"], Key["sk"]["S"]))
        return {"Item": item} if item else {}

    def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803
        self._takes()
        puts = [write["Put"] for write in TransactItems]
        reasons = [{"Code": "None" if self._holds(put) else "ConditionalCheckFailed"} for put in puts]
        if any(reason["Code"] != "None" for reason in reasons):
            told: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(told, "TransactWriteItems")
        for put in puts:
            self.items[put["Item"]["pk"]["S"], put["Item"]["sk"]["S"]] = put["Item"]

    def _holds(self, put: dict[str, Any]) -> bool:
        known = self.items.get((put["Item"]["pk"]["S"], put["Item"]["sk"]["S"]))
        if put["ConditionExpression"] == "attribute_not_exists(pk)":
            return known is None
        return known is not None and known["version"] == put["ExpressionAttributeValues"][":version"]


class Bucket:
    """StartExecution behind a token bucket, and a clock that moves as calls take time."""

    ATTEMPTS = (0.0, 2.0, 4.0)
    """Seconds before each attempt of a client with adaptive retries: its back-off, and its own limiter."""

    class exceptions:  # noqa: N801 - as a client has them
        class ExecutionAlreadyExists(Exception):  # noqa: N818
            pass

    def __init__(self, size: float, refill: float) -> None:
        self.now, self.started = 0.0, set[str]()
        self._size, self._tokens, self._refill, self._filled = size, size, refill, 0.0

    def start_execution(self, name: str, **_: Any) -> None:
        for pause in self.ATTEMPTS:
            self.now += pause + 0.03
            if self._takes_one():
                self.started.add(name)
                return
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "StartExecution")

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def _takes_one(self) -> bool:
        passed = max(0.0, self.now - self._filled)
        self._tokens = min(self._size, self._tokens + passed * self._refill)
        self._filled = max(self._filled, self.now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Flood(NamedTuple):
    """How a flood ended."""

    table: Table
    started: set[str]
    dead: list[str]
    deliveries: int
    longest: float
    """Seconds of the longest invocation."""
    lasted: float
    """Seconds until the queue was empty."""


def flood(
    deployed: Functions,
    monkeypatch: pytest.MonkeyPatch,
    requests: int,
    size: float,
    refill: float,
    seconds_to_store: float = 0.0,
) -> Flood:
    """Send so many requests for as many targets at once, and let event source mapping and queue do what AWS's do."""
    template = cfn_yaml.load(str(ROOT / "template.yaml"))
    resources, template_globals = template["Resources"], template["Globals"]["Function"]
    queue, function = resources["RequestQueue"]["Properties"], resources["Intake"]["Properties"]
    mapping = function["Events"]["Requests"]["Properties"]
    function_timeout = function.get("Timeout", template_globals["Timeout"])
    monkeypatch.setattr(logger, "exception", lambda *_, **__: None)  # Thousands of tracebacks, which nobody reads.
    bucket, queues = Bucket(size, refill), FakeQueues()
    table = Table(Memory(lambda: bucket.passes(seconds_to_store)), TABLE)  # type: ignore[arg-type]
    intake = deployed.module("intake").intake
    monkeypatch.setattr(intake, "table", table)
    monkeypatch.setattr(intake, "locks", Locks(table))
    monkeypatch.setattr(intake, "executions", Executions(bucket, MACHINE))  # type: ignore[arg-type]
    monkeypatch.setattr(intake, "hurried", to_be_told := boto3.client("sqs"))
    monkeypatch.setenv("REQUESTS", FakeQueues.URLS["REQUESTS"])
    queues.attach(to_be_told)
    waiting = [(0.0, number, 0) for number in range(requests)]  # When it is visible, which, how often it was received.
    free = [0.0] * mapping["ScalingConfig"]["MaximumConcurrency"]
    dead, deliveries, longest, lasted = [], 0, 0.0, 0.0
    while waiting:
        begun = max(heapq.heappop(free), waiting[0][0])
        batch: list[dict[str, Any]] = []
        while waiting and waiting[0][0] <= begun and len(batch) < mapping["BatchSize"]:
            _, number, times = heapq.heappop(waiting)
            if times < queue["RedrivePolicy"]["maxReceiveCount"]:
                batch.append(wish(number, times + 1))
            else:
                dead.append(str(number))
        bucket.now = begun
        queues.delays.clear()
        left = lambda begun=begun: 1000 * (function_timeout - (bucket.now - begun))  # noqa: E731
        answer = deployed.module("intake").handler({"Records": batch}, SimpleNamespace(**vars(CONTEXT) | {LEFT: left}))
        again = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        for message in batch:
            if message["messageId"] in again:
                times, told = int(message["attributes"]["ApproximateReceiveCount"]), message["receiptHandle"]
                hidden = begun + queue["VisibilityTimeout"]
                visible = bucket.now + queues.delays[told] if told in queues.delays else hidden
                heapq.heappush(waiting, (visible, int(message["messageId"]), times))
        heapq.heappush(free, bucket.now + 0.05 * len(batch))
        deliveries, longest = deliveries + len(batch), max(longest, bucket.now - begun)
        lasted = max(lasted, bucket.now)
    return Flood(table, bucket.started, dead, deliveries, longest, lasted)


def wish(number: int, times: int) -> dict[str, Any]:
    """A message of the flood, delivered for so many a time."""
    target = {"kind": "lambda-alias", "function": f"service-{number}", "alias": "live"}
    return {
        "messageId": str(number),
        "receiptHandle": f"handle-{number}",
        "body": json.dumps({"id": f"flood-{number}", "target": target}),
        "attributes": {"ApproximateReceiveCount": str(times)},
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:requests",
    }


@pytest.mark.slow
def test_a_flood_of_10000_requests_is_started_at_the_rate_of_the_smaller_regions(
    deployed: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN the quota of StartExecution in all but three Regions
    seen = flood(deployed, monkeypatch, 10_000, size=800, refill=150)
    # THEN each request is started, after one delivery: two batches at a time do not ask for more
    assert len(seen.started) == seen.deliveries == 10_000
    assert seen.dead == []


@pytest.mark.slow
@pytest.mark.parametrize(("requests", "size", "refill"), [(1_000, 50, 2.0), (10_000, 10, 0.1), (1_000, 0, 0.0)])
def test_a_flood_that_meets_a_bucket_which_others_have_emptied_leaves_no_dead_letter(
    deployed: Functions, monkeypatch: pytest.MonkeyPatch, requests: int, size: float, refill: float
) -> None:
    seen = flood(deployed, monkeypatch, requests, size=size, refill=refill)
    # THEN no good request is a dead letter, no invocation has run out of time, and nothing came more than three times
    assert seen.dead == []
    assert seen.longest < 30
    assert seen.deliveries <= 3 * requests
    # AND each is started, or stored with its lock, which is what the warden's sweep starts
    names = {f"flood-{number}": execution_of(f"flood-{number}").rsplit(":", 1)[1] for number in range(requests)}
    left = [rollout_id for rollout_id, name in names.items() if name not in seen.started]
    for rollout_id in left:
        record = stored_rollout(seen.table, rollout_id)
        assert record is not None
        assert record["status"] == "accepted"
        assert stored_lock(seen.table, record["targetKey"])["held"] == "yes"
    assert (refill == 0) == (len(left) == requests)


def test_a_burst_that_an_invocation_has_no_time_for_waits_for_nothing_but_the_next_one(
    deployed: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a table that takes nine messages of ten while there is time
    seen = flood(deployed, monkeypatch, 100, size=800, refill=150, seconds_to_store=2.0)
    # THEN all are taken in as fast as two invocations at a time can, and nothing is ever idle
    assert (len(seen.started), seen.dead) == (100, [])
    assert seen.lasted < 1.1 * 100 * 2.0 / 2


def test_a_burst_of_which_each_invocation_takes_one_in_leaves_no_dead_letter(
    deployed: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN the slowest table that is not out of reach: nine messages of each batch are handed back
    seen = flood(deployed, monkeypatch, 100, size=800, refill=150, seconds_to_store=18.5)
    # THEN each is stored with its lock, and what there was no time to start is the warden's
    assert seen.dead == []
    assert all(stored_lock(seen.table, f"lambda-alias/service-{number}/live")["held"] == "yes" for number in range(100))
    assert seen.lasted < 1.2 * 100 * 18.5 / 2


def test_a_message_that_always_fails_is_given_up_after_hours_and_in_the_fifo_queue_after_a_quarter_of_an_hour() -> None:
    resources = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]
    hours = []
    for name in ("RequestQueue", "RequestFifoQueue"):
        receives = resources[name]["Properties"]["RedrivePolicy"]["maxReceiveCount"]
        waits = [delay_seconds(wish(0, times)) for times in range(1, receives)]
        assert max(waits) == MAX_DELAY_SECONDS == resources[name]["Properties"]["VisibilityTimeout"]
        hours.append(sum(waits) / 3600)
    assert 4 < hours[0] < 5
    assert 0.2 < hours[1] < 0.25


# What is read


def test_a_message_in_bytes_that_are_not_json_says_so() -> None:
    with pytest.raises(RequestRefused, match="the message: is not JSON"):
        read_body({"body": "{"})


def test_a_message_that_is_too_long_for_the_machine_is_refused_at_once() -> None:
    assert read_body({"body": json.dumps("ä" * 10_000, ensure_ascii=False)}) == "ä" * 10_000
    with pytest.raises(RequestRefused, match="the message: has 120,002 bytes; 100,000 are allowed"):
        read_body({"body": json.dumps("ä" * 60_000, ensure_ascii=False)})


@pytest.mark.parametrize(
    ("body", "rollout_id"),
    [
        ({"id": "mine"}, "mine"),
        ({"detail-type": "Rollout Requested", "id": "event", "detail": {"id": "mine"}}, "mine"),
        ({"detail-type": "Rollout Requested", "id": "event", "detail": {"id": 7}}, "7"),
        ({"detail-type": "Rollout Requested", "id": "event", "detail": {"id": 7.5}}, "event"),
        ({"id": 7}, "7"),
        ({"detail-type": "Rollout Requested", "id": "not an id\n", "detail": None}, "message"),
        ([], "message"),
        (None, "message"),
    ],
)
def test_a_refusal_is_announced_under_the_best_id_there_is(body: Any, rollout_id: str) -> None:
    assert refused_id(body, "message") == rollout_id


LIVE = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}


def asks(**fields: Any) -> str:
    """A request for checkout with these fields."""
    return json.dumps({"id": "checkout-42", "target": LIVE, **fields})


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    return [nested(levels - 1)] if levels else []


ODD = {
    "nested so deep that Python gives up": "[" * 90_000,
    "nested deeper than the work on it goes": asks(
        hooks={"beforeTraffic": [{"lambda": "f", "config": {"x": nested(600)}}]}
    ),
    "a number that JSON has not": asks(hooks={"beforeTraffic": [{"lambda": "f", "config": {"x": float("nan")}}]}),
    "a number that is too large for a float": asks(x=1).replace('"x": 1', '"guards": {"alpha": 1e999}'),
    "a lone surrogate": asks(hooks={"beforeTraffic": [{"lambda": "f", "config": {"x": "\ud800"}}]}),
    "a field whose name SQS takes in no attribute": asks(**{"\x00\ud83d\ude00": 1}),
    "an event of another kind": json.dumps({"detail-type": "Rollout Signal", "id": "e", "detail": json.loads(asks())}),
    "an event of no kind": json.dumps({"detail-type": None, "id": "e", "detail": json.loads(asks())}),
    "an event without a detail": '{"detail-type": "Rollout Requested", "id": "e"}',
    "null": "null",
    "a list": f"[{asks()}]",
    "as much as a message holds": "x" * LETTER_BYTES,
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
@pytest.mark.parametrize(("file", "queue"), [("intake", "DEAD_LETTERS"), ("intake_fifo", "FIFO_DEAD_LETTERS")])
def test_whatever_cannot_be_read_is_a_dead_letter_at_once(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Any, file: str, queue: str, body: str
) -> None:
    batch = event(file)
    batch["Records"][0]["body"] = body
    assert deployed.call("intake", batch) == DONE
    [letter] = letters(queue)
    assert letter["Body"] == body
    assert machines.executions == {}
    assert stored_lock(table, TARGET_KEY) == {}
    reason = letter.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
    assert reason if len(body) < LETTER_BYTES else reason is None


def test_a_reason_holds_nothing_that_sqs_does_not_take() -> None:
    letter = dead_letter(event("intake")["Records"][0], "\x00: \ud800 \U0001f600\n" + "x" * 2000)
    assert letter["MessageAttributes"]["reason"]["StringValue"].startswith("\ufffd: \ufffd \U0001f600\nxxx")
    assert len(letter["MessageAttributes"]["reason"]["StringValue"]) == LETTER_REASON_CHARACTERS


def test_a_dead_letter_keeps_the_messages_own_attributes_as_far_as_there_is_room() -> None:
    message = event("intake")["Records"][0]
    message["messageAttributes"] = {
        "sentBy": {"stringValue": "pipeline", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
        "key": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        "reason": {"stringValue": "of last time", "dataType": "String"},
        **{f"n{number}": {"stringValue": str(number), "dataType": "Number.int"} for number in range(7)},
    }
    attributes = dead_letter(message, "why")["MessageAttributes"]
    assert attributes["reason"] == {"DataType": "String", "StringValue": "why"}
    assert attributes["sentBy"] == {"DataType": "String", "StringValue": "pipeline"}
    assert attributes["key"] == {"DataType": "Binary", "BinaryValue": b"\x00\x01"}
    assert attributes["n6"] == {"DataType": "Number.int", "StringValue": "6"}
    # WHEN there are ten already, THEN the reason goes before the last of them
    message["messageAttributes"] |= {"z": {"stringValue": "z", "dataType": "String"}}
    assert list(dead_letter(message, "why")["MessageAttributes"]) == [
        "reason",
        "sentBy",
        "key",
        *(f"n{n}" for n in range(7)),
    ]
    # WHEN the body leaves room for the reason alone
    message["body"] = "x" * (LETTER_BYTES - len("reason" + "String" + "why"))
    assert list(dead_letter(message, "why")["MessageAttributes"]) == ["reason"]
    message["body"] += "x"
    assert dead_letter(message, "why")["MessageAttributes"] == {}


def test_a_message_of_a_fair_queue_keeps_its_group_and_trace_as_a_dead_letter(
    table: Table, deployed: Functions, machines: FakeStepFunctions, letters: Callable[[str], list[Any]]
) -> None:
    batch = event("intake")
    batch["Records"][0]["body"] = "{"
    batch["Records"][0]["attributes"] |= {"MessageGroupId": "tenant-1", "AWSTraceHeader": "Root=1-5e988d60"}
    assert "MessageDeduplicationId" not in dead_letter(batch["Records"][0], "why")
    assert deployed.call("intake", batch) == DONE
    [letter] = letters("DEAD_LETTERS")
    assert letter["Attributes"]["MessageGroupId"] == "tenant-1"
    assert letter["Attributes"]["AWSTraceHeader"] == "Root=1-5e988d60"


@pytest.mark.parametrize("event_id", [None, "", "not an id", 7])
def test_requests_without_an_id_that_serves_are_told_apart_by_their_messages(
    table: Table, deployed: Functions, machines: FakeStepFunctions, event_id: Any
) -> None:
    # GIVEN two events as somebody has written them by hand, for two targets
    batch = event("intake")
    first = batch["Records"][0]
    bodies = [
        {"detail-type": "Rollout Requested", "id": event_id, "detail": {"target": LIVE | {"function": function}}}
        for function in ("checkout", "payments")
    ]
    batch["Records"] = [
        first | {"messageId": f"message-{number}", "body": json.dumps(body)} for number, body in enumerate(bodies)
    ]
    assert deployed.call("intake", batch) == DONE
    assert sorted(request["id"] for request in machines.executions.values()) == ["message-0", "message-1"]
