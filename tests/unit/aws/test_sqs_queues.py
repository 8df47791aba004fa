"""Moving messages out of a queue: by move tasks and one by one, on SQS in memory as AWS documents it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from headgate.aws.sqs_messages import BATCH_BYTES, deduplication_id
from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.sqs_mover import move_some
from headgate.aws.sqs_queues import Backlog, MoveResult, Queues
from tests.fakes.sqs import Clock, FakeSqs, arn, refusal, url

if TYPE_CHECKING:
    from collections.abc import Callable


class World:
    """A queue, its dead-letter queue, and who moves between them."""

    def __init__(self, faults: Callable[[str, int], Any] = lambda _, __: None, suffix: str = "") -> None:
        self.clock = Clock()
        self.sqs = FakeSqs(self.clock, faults)
        self.dead = self.sqs.queue(f"dead{suffix}")
        self.orders = self.sqs.queue(f"orders{suffix}", dead_letters=self.dead.name)
        self.queues = Queues(self.sqs, self.clock, self.clock.sleep)

    def step(self, seconds: float = 40, **given: Any) -> MoveResult:
        return move_some(
            self.queues,
            url(self.dead.name),
            url(self.orders.name),
            **{"per_second": 500, **given},
            deadline=self.clock() + seconds,
        )

    def whole(self, **given: Any) -> MoveResult:
        return MoveTasks(self.queues).move_whole(arn(self.dead.name), None, **{"per_second": 100, **given})

    def calls(self, operation: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.sqs.calls if name == operation]


# --- Wholesale -------------------------------------------------------------------------------------------------------


def test_a_dead_letter_queue_is_moved_back_step_by_step_until_it_is_empty() -> None:
    world = World()
    world.sqs.bury("orders", *(str(number) for number in range(250)))
    steps = []
    while not (step := world.whole()).done:
        steps.append(step.moved)
        world.clock.sleep(1)
    assert steps == [0, 100, 200]
    assert step == MoveResult(done=True, moved=250)
    assert world.dead.messages == []
    assert len(world.orders.messages) == 250


def test_an_empty_queue_is_done_at_once_and_starts_nothing() -> None:
    world = World()
    assert world.whole() == MoveResult(done=True)
    assert world.calls("start_message_move_task") == []


def test_a_task_that_somebody_else_started_is_waited_for() -> None:
    world = World()
    world.sqs.bury("orders", "a")
    world.sqs.start_message_move_task(SourceArn=arn("dead"))
    assert not world.whole().done
    assert len(world.calls("start_message_move_task")) == 1


def test_after_a_task_that_failed_the_reason_is_told_and_the_rest_is_started_again() -> None:
    world = World()
    world.sqs.bury("orders", "a", "b")
    world.whole()
    world.sqs.move_fails = "CouldNotDetermineMessageSource"
    failed = world.whole()
    assert (failed.done, failed.reason) == (False, "the move task failed: CouldNotDetermineMessageSource")
    world.sqs.move_fails = ""
    world.clock.sleep(1)
    assert world.whole() == MoveResult(done=True, moved=2)


def test_messages_in_flight_are_not_done_and_are_moved_when_they_are_visible_again() -> None:
    world = World()
    world.sqs.bury("orders", "a")
    world.sqs.receive_message(QueueUrl=url("dead"), VisibilityTimeout=60)
    assert world.whole() == MoveResult(done=False)
    assert world.calls("start_message_move_task") == []
    world.clock.sleep(60)
    world.whole()
    world.clock.sleep(1)
    assert world.whole().done


def test_messages_that_are_not_counted_yet_are_moved_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.sqs.bury("orders", "a")
    monkeypatch.setattr(world.queues, "count", lambda _: Backlog(0, 0, 0))
    assert not world.whole().done
    assert len(world.calls("start_message_move_task")) == 1


def test_tasks_of_before_are_not_counted() -> None:
    world = World()
    for body in ("a", "b"):
        world.sqs.bury("orders", body)
        world.clock.sleep(1)
        began = world.clock.time() - 0.5
        while not world.whole().done:
            world.clock.sleep(1)
    assert world.whole(since=began) == MoveResult(done=True, moved=1)
    assert world.whole(since=0) == MoveResult(done=True, moved=2)


def test_a_lost_answer_to_the_start_of_a_task_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.sqs.bury("orders", "a")
    start = world.sqs.start_message_move_task

    def started_already(**given: Any) -> Any:
        start(**given)
        return start(**given)

    monkeypatch.setattr(world.sqs, "start_message_move_task", started_already)
    assert not world.whole().done


def test_a_queue_that_is_no_dead_letter_queue_cannot_be_moved_whole() -> None:
    world = World()
    world.sqs.put("orders", "a")
    with pytest.raises(ClientError, match=r"\(InvalidParameterValue\).*must be configured as a Dead Letter Queue"):
        MoveTasks(world.queues).move_whole(arn("orders"), arn("dead"), per_second=5)


def test_a_running_task_is_cancelled_unless_it_is_older_than_the_redrive() -> None:
    world = World()
    world.sqs.bury("orders", "a")
    world.whole(per_second=1)
    assert not MoveTasks(world.queues).cancel(arn("dead"), since=world.clock.time() + 1)
    assert MoveTasks(world.queues).cancel(arn("dead"), since=world.clock.time() - 1)
    assert not MoveTasks(world.queues).cancel(arn("dead"))
    assert world.dead.bodies == ["a"]


def test_a_canceled_task_is_waited_for_because_it_still_moves_messages() -> None:
    # GIVEN a task that SQS ends six seconds after it was asked to, as it did on AWS
    world = World()
    world.sqs.cancels_in = 6
    world.sqs.bury("orders", *"abcdefghij")
    world.whole(per_second=1)
    world.clock.sleep(2)
    began = world.clock()
    assert MoveTasks(world.queues).cancel(arn("dead"))
    assert 6 <= world.clock() - began < 8
    assert MoveTasks(world.queues).moved(arn("dead"), since=0) == 8 == len(world.orders.bodies)


def test_a_task_that_is_not_canceled_in_time_is_not_waited_for() -> None:
    world = World()
    world.sqs.cancels_in = 100
    world.sqs.bury("orders", "a", "b")
    world.whole(per_second=1)
    began = world.clock()
    assert MoveTasks(world.queues).cancel(arn("dead"))
    assert world.clock() - began < 20


def test_a_fifo_queue_is_moved_whole_in_its_order() -> None:
    world = World(suffix=".fifo")
    for group in ("a", "b"):
        world.sqs.bury("orders.fifo", *(f"{group}{number}" for number in range(5)), group=group)
    world.whole()
    world.clock.sleep(1)
    assert world.whole().done
    assert [body for body in world.orders.bodies if body.startswith("a")] == ["a0", "a1", "a2", "a3", "a4"]


# --- One by one ------------------------------------------------------------------------------------------------------


def test_a_message_keeps_its_body_attributes_trace_and_group() -> None:
    world = World()
    given = {"reason": {"DataType": "String", "StringValue": "why"}, "n": {"DataType": "Binary", "BinaryValue": b"\0"}}
    world.sqs.send_message_batch(
        QueueUrl=url("dead"),
        Entries=[
            {
                "Id": "0",
                "MessageBody": "order 1",
                "MessageAttributes": given,
                "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5"}},
                "MessageGroupId": "tenant-1",
            }
        ],
    )
    assert world.step() == MoveResult(done=True, moved=1)
    [moved] = world.orders.messages
    assert (moved.body, moved.attributes, moved.group) == ("order 1", given, "tenant-1")
    assert moved.system == {"AWSTraceHeader": "Root=1-5"}
    assert world.dead.messages == []


def test_what_does_not_match_is_looked_at_once_and_is_visible_again_at_once() -> None:
    world = World()
    world.sqs.put("dead", *(f"{'bad' if number % 3 else 'good'} {number}" for number in range(60)))
    moved = world.step(matching=lambda message: "good" in message["Body"])
    assert moved == MoveResult(done=True, moved=20, skipped=40)
    assert {message.receives for message in world.dead.messages} == {1}
    assert world.queues.count(url("dead")) == Backlog(40, 0, 0)


def test_what_does_not_match_can_be_kept_out_of_the_way_of_the_next_call() -> None:
    world = World()
    world.sqs.put("dead", *(f"bad {number}" for number in range(30)), "good")
    is_good: dict[str, Any] = {"matching": lambda message: "good" in message["Body"], "hold_seconds": 600}
    first = world.step(0.015, **is_good)
    assert (first.done, first.moved) == (False, 0)
    second = world.step(**is_good)
    assert second == MoveResult(done=True, moved=1, skipped=30 - first.skipped)
    world.clock.sleep(601)
    assert world.queues.count(url("dead")).visible == 30


def test_no_more_are_moved_than_asked_for() -> None:
    world = World()
    world.sqs.put("dead", *map(str, range(25)))
    assert world.step(at_most=13) == MoveResult(done=True, moved=13)
    assert len(world.dead.messages) == 12
    assert world.queues.count(url("dead")).in_flight == 0


def test_the_rate_is_kept() -> None:
    world = World()
    world.sqs.put("dead", *map(str, range(50)))
    moved = world.step(3.9, per_second=5)
    assert (moved.done, moved.moved) == (False, 20)


def test_a_message_that_arrived_since_the_redrive_began_is_left_alone() -> None:
    world = World()
    world.sqs.bury("orders", "old")
    world.clock.sleep(60)
    began = world.clock.time()
    world.sqs.bury("orders", "new")
    assert world.step(arrived_before=began) == MoveResult(done=True, moved=1, returned=1)
    assert world.dead.bodies == ["new"]


def test_what_the_destination_refuses_stays_and_the_reason_is_told() -> None:
    world = World(lambda operation, number: operation == "send_message_batch" and number == 1)
    moved, refused, also_moved = world.sqs.put("dead", "a", "b", "c")
    step = world.step()
    assert step == MoveResult(done=True, moved=2, failed=1, reason="InternalError: try again")
    assert (step.gone, step.unmoved) == (frozenset({moved, also_moved}), frozenset({refused}))
    assert world.dead.bodies == ["b"]
    assert world.queues.count(url("dead")).visible == 1


def test_a_call_that_fails_as_a_whole_ends_the_step_with_its_reason_and_loses_nothing() -> None:
    def faults(operation: str, number: int) -> Any:
        return refusal("AccessDenied", "no") if operation == "send_message_batch" and number == -1 else None

    world = World(faults)
    world.sqs.put("dead", *map(str, range(20)))
    moved = world.step()
    assert (moved.done, moved.moved, moved.failed) == (False, 0, 10)
    assert "AccessDenied" in moved.reason
    assert world.queues.count(url("dead")) == Backlog(20, 0, 0)


def test_a_source_that_cannot_be_read_is_told() -> None:
    world = World()
    moved = move_some(world.queues, url("gone"), url("orders"), deadline=5)
    assert not moved.done
    assert "does not exist" in moved.reason


def test_a_message_that_is_delivered_again_after_it_was_moved_is_not_moved_twice() -> None:
    world = World()
    world.sqs.put("dead", "a", "b")
    receive = world.sqs.receive_message
    kept: list[Any] = []

    def twice(**given: Any) -> Any:
        told = receive(**given)
        kept.extend(told.get("Messages", []))
        return told or ({"Messages": kept[:1]} if len(world.calls("delete_message_batch")) < 2 else {})

    world.sqs.receive_message = twice  # type: ignore[method-assign]
    assert world.step() == MoveResult(done=True, moved=2)
    assert world.orders.bodies == ["a", "b"]


def test_large_messages_travel_in_batches_that_sqs_takes() -> None:
    world = World()
    world.sqs.put("dead", *("x" * (BATCH_BYTES // 2 - 10) for _ in range(5)), "y" * (BATCH_BYTES * 3))
    assert world.step() == MoveResult(done=True, moved=6)
    assert [len(call["Entries"]) for call in world.calls("send_message_batch")] == [2, 2, 1, 1]


def test_a_message_stays_hidden_for_longer_than_the_step_takes() -> None:
    world = World()
    seen: list[int] = []
    receive = world.sqs.receive_message

    def watched(**given: Any) -> Any:
        seen.append(given["VisibilityTimeout"])
        return receive(**given)

    world.sqs.receive_message = watched  # type: ignore[method-assign]
    world.step(30)
    assert 120 < min(seen) <= max(seen) == 150


# --- FIFO ------------------------------------------------------------------------------------------------------------


def test_a_fifo_message_keeps_its_group_and_an_id_that_shows_the_producers() -> None:
    world = World(suffix=".fifo")
    world.sqs.put("dead.fifo", "a", group="g", dedup="order-1")
    assert world.step().moved == 1
    [moved] = world.orders.messages
    assert moved.group == "g"
    assert moved.system["MessageDeduplicationId"].startswith("order-1.")


def test_a_message_that_the_destination_has_just_seen_is_not_dropped_by_it() -> None:
    world = World(suffix=".fifo")
    # GIVEN a message that was sent to the queue a moment ago and taken out of it by hand
    world.sqs.put("orders.fifo", "a", group="g", dedup="order-1")
    world.orders.messages.clear()
    world.sqs.put("dead.fifo", "a", group="g", dedup="order-1")
    # WHEN it is moved back within five minutes
    assert world.step().moved == 1
    # THEN it is there
    assert world.orders.bodies == ["a"]


def test_a_message_whose_answer_was_lost_is_there_once() -> None:
    lost = iter(["lost"])
    world = World(lambda operation, n: next(lost, None) if operation == "send_message_batch" and n == -1 else None)
    world.dead.name, world.orders.name = "dead.fifo", "orders.fifo"
    world.sqs.queues = {"dead.fifo": world.dead, "orders.fifo": world.orders}
    world.sqs.put("dead.fifo", "a", "b", group="g")
    first = world.step()
    assert (first.done, first.moved, first.failed) == (False, 0, 1)
    assert world.step() == MoveResult(done=True, moved=2)
    assert world.orders.bodies == ["a", "b"]


def test_nothing_of_a_group_overtakes_a_message_that_the_destination_refuses() -> None:
    world = World(suffix=".fifo")
    world.sqs.put("dead.fifo", "a1", "a2", "a3", group="a")
    world.sqs.put("dead.fifo", "b1", "b2", group="b")
    refused = itertools.count()
    world.sqs.faults = lambda operation, n: operation == "send_message_batch" and n == 0 and next(refused) == 0
    assert world.step() == MoveResult(done=True, moved=2, failed=1, reason="InternalError: try again")
    assert world.orders.bodies == ["b1", "b2"]
    assert world.dead.bodies == ["a1", "a2", "a3"]
    assert world.step() == MoveResult(done=True, moved=3)
    assert world.orders.bodies == ["b1", "b2", "a1", "a2", "a3"]


def test_nothing_of_a_group_overtakes_a_message_that_could_not_be_deleted() -> None:
    world = World(suffix=".fifo")
    world.sqs.put("dead.fifo", "a1", "a2", group="a")
    world.sqs.faults = lambda operation, n: operation == "delete_message_batch" and n == 0
    assert world.step() == MoveResult(done=True, moved=1)
    # GIVEN that the destination has forgotten the first one when both come again
    world.sqs.faults = lambda _, __: None
    world.clock.sleep(400)
    assert world.step() == MoveResult(done=True, moved=2)
    # THEN it is there twice, and still in front
    assert world.orders.bodies == ["a1", "a1", "a2"]


def test_a_filter_sees_past_what_it_has_moved_out_of_a_group() -> None:
    world = World(suffix=".fifo")
    bodies = [f"{'bad' if number in (2, 17) else 'good'} {number}" for number in range(30)]
    world.sqs.put("dead.fifo", *bodies, group="g")
    moved = world.step(matching=lambda message: "good" in message["Body"])
    assert (moved.done, moved.moved, moved.skipped) == (True, 28, 2)
    assert world.orders.bodies == [body for body in bodies if "good" in body]


def test_a_group_of_nothing_that_matches_is_given_up_and_the_others_are_not() -> None:
    world = World(suffix=".fifo")
    world.sqs.put("dead.fifo", *(f"bad {number}" for number in range(15)), "good", group="a")
    world.sqs.put("dead.fifo", "good b", group="b")
    moved = world.step(matching=lambda message: "good" in message["Body"])
    assert moved == MoveResult(done=True, moved=1, skipped=10)
    assert world.orders.bodies == ["good b"]


@pytest.mark.parametrize("given_id", ["", "x" * 128, "order-1"])
def test_a_deduplication_id_is_one_that_sqs_takes(given_id: str) -> None:
    message_id = "3b1f7a52-5f0c-4d5e-9d7a-0b1f7a525f0c"
    made = deduplication_id(given_id, message_id)
    assert made.endswith(message_id)
    assert len(made) <= 128
    # A move task of SQS sends the message's own id, so the destination may have seen that one.
    assert deduplication_id(message_id, message_id) != message_id


# --- Whatever fails --------------------------------------------------------------------------------------------------

OPERATIONS = ("receive_message", "send_message_batch", "delete_message_batch", "change_message_visibility_batch")
FAULTS = st.sampled_from([None, None, None, "entry", "lost", "refused", "killed"])


class Killed(BaseException):
    """The function's time was up: it does nothing any more."""


class Unreliable:
    """Fails calls and entries as it is told, in turn; after that it works."""

    def __init__(self, faults: list[Any], entries: list[bool]) -> None:
        self.faults, self.entries = list(faults), list(entries)
        self.armed = ""

    def __call__(self, _: str, number: int) -> Any:
        if number >= 0:
            return self.armed == "entry" and bool(self.entries) and self.entries.pop()
        self.armed = (self.faults.pop() if self.faults else None) or ""
        match self.armed:
            case "refused":
                return refusal("InternalError")
            case "killed":
                return Killed()
            case "lost":
                return "lost"
        return None


@settings(max_examples=300, deadline=None)
@given(
    fifo=st.booleans(),
    groups=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    faults=st.lists(FAULTS, max_size=30),
    entries=st.lists(st.booleans(), max_size=30),
    pauses=st.lists(st.sampled_from([0.0, 1.0, 130.0, 200.0]), max_size=8),
    per_receive=st.integers(1, 10),
    seconds=st.sampled_from([0.05, 0.3, 40]),
)
def test_no_interleaving_of_failures_loses_a_message_or_reorders_a_group(
    *,
    fifo: bool,
    groups: list[int],
    faults: list[Any],
    entries: list[bool],
    pauses: list[float],
    per_receive: int,
    seconds: float,
) -> None:
    unreliable = Unreliable(faults, entries)
    world = World(unreliable, ".fifo" if fifo else "")
    world.sqs.per_receive = per_receive
    sent = [f"{group}/{number}" for number, group in enumerate(groups)]
    for body in sent:
        world.sqs.bury(world.orders.name, body, group=body.split("/")[0] if fifo else "")
    waits = iter(pauses)
    for _ in range(200):
        try:
            done = world.step(seconds).done
        except Killed:
            done = False
        # THEN at every moment, each message is somewhere
        assert set(world.dead.bodies) | set(world.orders.bodies) == set(sent)
        if done and not world.dead.messages:
            break
        world.clock.sleep(next(waits, 130.0))
    # THEN at the end they are all back
    assert world.dead.messages == []
    assert set(world.orders.bodies) == set(sent)
    if fifo:
        # AND each group in its order, with nothing twice but what was sent again where an answer was lost
        for group in set(groups):
            arrived = [body for body in world.orders.bodies if body.startswith(f"{group}/")]
            first_times = list(dict.fromkeys(arrived))
            assert first_times == [body for body in sent if body.startswith(f"{group}/")]
            assert arrived == sorted(arrived, key=first_times.index)


def test_moving_one_by_one_works_on_another_implementation_of_sqs() -> None:
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-central-1")
        dead, orders = (
            sqs.create_queue(QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
            for name in ("dead", "orders")
        )
        for number in range(12):
            sqs.send_message(
                QueueUrl=dead,
                MessageBody=str(number),
                MessageGroupId=str(number % 2),
                MessageDeduplicationId=f"d{number}",
                MessageAttributes={"reason": {"DataType": "String", "StringValue": "why"}},
            )
        clock = Clock()
        moved = move_some(
            Queues(sqs, clock, clock.sleep), dead, orders, per_second=500, deadline=clock() + 40, at_most=12
        )
        assert moved == MoveResult(done=True, moved=12)
        told = sqs.receive_message(
            QueueUrl=orders,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["MessageGroupId", "MessageDeduplicationId"],
        )["Messages"]
        evens = [each["Body"] for each in told if each["Attributes"]["MessageGroupId"] == "0"]
        assert evens == sorted(evens, key=int)
        assert {each["MessageAttributes"]["reason"]["StringValue"] for each in told} == {"why"}
        assert all(each["Attributes"]["MessageDeduplicationId"].startswith("d") for each in told)
