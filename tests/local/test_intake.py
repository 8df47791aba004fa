"""Intake on the deployed application: strict order by the FIFO queue, and a flood that StartExecution slows down."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from emulator.application import deploy_headgate
from headgate.aws.arns import execution_arn
from tests.local.deployed import PREFIX, Headgate, eventually, steps
from tests.local.invariants import assert_invariants, assert_nothing_was_lost
from tests.local.servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.deployed import Service

SHORT = steps((10, 1))
FLOOD, RATE = 20, 1
"""Requests, and executions a second that may be started."""

pytestmark = pytest.mark.embedded


# The FIFO queue


def test_requests_of_the_fifo_queue_run_in_its_order(headgate: Headgate, service: Service) -> None:
    # GIVEN three releases that are asked for at once, as one group
    candidates = ["2", service.publish(), service.publish()]
    group = f"lambda-alias/{service.function}/live"
    asked = [
        headgate.request_in_order(group, target=service.target, candidate={"version": version}, strategy=SHORT)
        for version in candidates
    ]
    # THEN each takes the one before as its stable version
    ends = [assert_invariants(headgate, rollout) for rollout in asked]
    assert [(end["status"], end["stable"], end["serving"]) for end in ends] == [
        ("succeeded", before, version) for before, version in zip(["1", *candidates], candidates, strict=False)
    ]
    assert [end["epoch"] for end in ends] == [1, 2, 3]


def test_a_request_that_comes_again_by_the_fifo_queue_runs_once(headgate: Headgate, service: Service) -> None:
    group = f"lambda-alias/{service.function}/live"
    detail = {"target": service.target, "candidate": {"version": "2"}, "strategy": SHORT}
    rollout = headgate.request_in_order(group, **detail)
    record = assert_invariants(headgate, rollout)
    # WHEN it is sent again, by a sender who takes another deduplication id, and by the bus
    headgate.send_in_order(group, json.dumps({"id": rollout, **detail}), f"{rollout}-again")
    headgate.request(id=rollout, **detail)
    headgate.until_all_requests_are_taken_in()
    # THEN nothing new has happened
    assert headgate.record(rollout) == record
    assert len(headgate.events(rollout, "Rollout Started")) == 1


def test_a_request_that_comes_by_every_way_at_once_runs_once(headgate: Headgate, service: Service) -> None:
    # GIVEN an id that twelve requests use, no two of which say the same
    rollout = headgate.new_id()
    asked = [
        {"id": rollout, "target": service.target, "candidate": {"version": "2"}, "strategy": steps((10 + number, 1))}
        for number in range(12)
    ]

    def send(number: int) -> None:
        body = json.dumps(asked[number])
        match number % 3:
            case 0:
                headgate.request(**asked[number])
            case 1:
                headgate.queues.send_message(QueueUrl=headgate.outputs["RequestQueueUrl"], MessageBody=body)
            case _:
                headgate.send_in_order(f"group-{number}", body, f"{rollout}-{number}")

    with ThreadPoolExecutor(len(asked)) as senders:
        list(senders.map(send, range(len(asked))))
    headgate.until_all_requests_are_taken_in()
    # THEN one of them was stored, and the senders of the others are told
    letters = [*headgate.dead_letters.take(), *headgate.fifo_dead_letters.take()]
    assert len(letters) == len(asked) - 1
    reasons = {letter["MessageAttributes"]["reason"]["StringValue"] for letter in letters}
    fix = "send this one under a new id, or leave the id out"
    assert reasons == {f"id: {rollout} is the id of an earlier request with other content; {fix}"}
    # AND that one has run
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["epoch"]) == ("succeeded", 1)
    assert record["plan"]["steps"][0]["weight"] in range(10, 22)
    assert headgate.record(rollout) == record
    assert len(headgate.events(rollout, "Rollout Started")) == 1


def test_what_cannot_be_read_in_the_fifo_queue_is_kept_there_and_holds_nobody_up(
    headgate: Headgate, service: Service
) -> None:
    group = f"lambda-alias/{service.function}/live"
    headgate.send_in_order(group, '{"target": ', headgate.new_id())
    rollout = headgate.request_in_order(group, target=service.target, candidate={"version": "2"}, strategy=SHORT)
    headgate.ended(rollout)
    (letter,) = eventually(headgate.fifo_dead_letters.take, 5, lambda: "nothing is in the FIFO dead-letter queue")
    assert letter["Body"] == '{"target": '
    assert letter["MessageAttributes"]["reason"]["StringValue"].startswith("the message: is not JSON: ")
    assert letter["Attributes"]["MessageGroupId"] == group
    assert assert_invariants(headgate, rollout)["status"] == "succeeded"


# A flood


@pytest.fixture(scope="module")
def throttled() -> Iterator[Headgate]:
    """The application on an AWS that starts few executions."""
    with serving("--start-execution-rate", str(RATE)) as aws:
        deployed = Headgate(aws, deploy_headgate(aws, Prefix=PREFIX))
        yield deployed
        deployed.close()


@pytest.mark.xdist_group("few executions")
def test_start_execution_says_so_when_it_is_asked_too_much(throttled: Headgate) -> None:
    impatient = throttled.aws.client("stepfunctions", config=Config(retries={"total_max_attempts": 1}))

    def hammer() -> None:
        for number in range(50):
            impatient.start_execution(
                stateMachineArn=throttled.outputs["RolloutMachineArn"], name=f"nothing-{number}", input="{}"
            )

    with pytest.raises(impatient.exceptions.ClientError, match="ThrottlingException"):
        hammer()


@pytest.mark.xdist_group("few executions")
def test_a_flood_is_absorbed_at_the_rate_of_start_execution_and_leaves_no_dead_letter(throttled: Headgate) -> None:
    # GIVEN far more requests at once than may be started in a second, each for a target that is not there
    details: list[dict[str, Any]] = [
        {"id": throttled.new_id(), "target": {"kind": "lambda-alias", "function": f"nobody-{n}", "alias": "live"}}
        for n in range(FLOOD)
    ]
    for start in range(0, FLOOD, 10):
        throttled.queues.send_message_batch(
            QueueUrl=throttled.outputs["RequestQueueUrl"],
            Entries=[
                {"Id": str(number), "MessageBody": json.dumps(detail)}
                for number, detail in enumerate(details[start : start + 10])
            ],
        )
    # WHEN the queue is empty, long before its visibility timeout is over, and the warden has swept
    throttled.until_all_requests_are_taken_in(60)
    throttled.sweep()
    # THEN each was carried out, and ended as such a request does
    records = [throttled.ended(detail["id"]) for detail in details]
    assert {record["status"] for record in records} == {"refused"}
    # AND no faster than executions may be started
    arns = [
        execution_arn(throttled.outputs["RolloutMachineArn"], record["execution"].rsplit(":")[-1]) for record in records
    ]
    begun = [throttled.states.describe_execution(executionArn=arn)["startDate"] for arn in arns]
    assert (max(begun) - min(begun)).total_seconds() >= 0.9 * (FLOOD / RATE - 1)
    # AND nothing is left in a dead-letter queue
    assert_nothing_was_lost(throttled)
