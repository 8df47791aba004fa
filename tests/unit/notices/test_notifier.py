"""The notifier: where it sends what, and what it does when a part fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.errors import Transient
from headgate.history.store import History
from headgate.notices.notice import reference_in
from headgate.notices.notifier import MAX_REMEMBERED, Notifier, Place
from tests.builders import TABLE, start
from tests.fakes.services import FakeBus, FakeTopic, Refusal
from tests.unit.notices.cases import SENT, TOPIC, rolled_back, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.history.model import RolloutView
    from headgate.rollouts.locks import Locks

SILENT = Place(topic=TOPIC, bus="headgate", stack="headgate")
EVERYWHERE = SILENT._replace(slack_channel="C0123456789", teams=True, amazon_q=True)


class Records:
    """A read model with one rollout, or one that cannot be read."""

    def __init__(self, view: RolloutView | None = None, error: Exception | None = None) -> None:
        self.view, self.error = view, error
        self.asked: list[str] = []

    def rollout(self, rollout_id: str, *, place: bool) -> RolloutView | None:
        assert not place
        self.asked.append(rollout_id)
        if self.error:
            raise self.error
        return self.view


class World:
    """What a notifier meets."""

    def __init__(self, topic: FakeTopic, bus: FakeBus, clients: tuple[Any, Any]) -> None:
        self.topic, self.bus, self.clients = topic, bus, clients
        self.recorded: list[tuple[dict[str, str], list[str]]] = []

    def notifier(self, place: Place = SILENT, records: Any = None) -> Notifier:
        return Notifier(*self.clients, records or Records(), place)

    def record(self, dimensions: Any, figures: Any) -> None:
        self.recorded.append((dict(dimensions), [figure.name for figure in figures]))


@pytest.fixture(scope="module")
def messengers(_nobodys_account: None) -> tuple[Any, Any]:
    return boto3.client("sns"), boto3.client("events")


@pytest.fixture
def world(messengers: tuple[Any, Any]) -> Iterator[World]:
    topic, bus = FakeTopic(), FakeBus()
    detach = [topic.attach(messengers[0]), bus.attach(messengers[1])]
    yield World(topic, bus, messengers)
    for each in detach:
        each()


@pytest.mark.parametrize("name", SENT)
def test_every_event_that_is_sent_reaches_the_topic_with_a_subject(world: World, name: str) -> None:
    world.notifier().notify(told(name), world.record)
    [message] = world.topic.taken
    assert message["TopicArn"] == TOPIC
    assert message["Subject"]
    assert json.loads(json.loads(message["Message"])["default"]) == told(name)
    assert world.bus.taken == [], "no chat is set up"


def test_numbers_come_from_the_record_and_metrics_are_recorded_at_the_end(world: World) -> None:
    records = Records(rolled_back())
    world.notifier(records=records).notify(told("rollout_rolled_back"), world.record)
    assert records.asked == ["checkout-42"]
    assert "118 requests, 4 failed (3.4 %)" in json.loads(world.topic.taken[0]["Message"])["email"]
    [(dimensions, names)] = world.recorded
    assert dimensions == {"Outcome": "rolled-back", "TargetKind": "lambda-alias"}
    assert "SecondsToRollback" in names


def test_a_record_that_cannot_be_read_keeps_no_notification_back(world: World) -> None:
    records = Records(error=RuntimeError("no such table"))
    world.notifier(EVERYWHERE, records).notify(told("rollout_rolled_back"), world.record)
    assert "rolled back: version 6 serves alone" in json.loads(world.topic.taken[0]["Message"])["email"]
    assert len(world.bus.taken) == 1
    assert [names for _, names in world.recorded] == [["Rollouts"]]


def test_a_record_of_which_nothing_can_be_made_keeps_no_notification_back(world: World) -> None:
    odd = rolled_back().model_copy(update={"ended_at": "yesterday", "comparisons": None})
    world.notifier(records=Records(odd)).notify(told("rollout_rolled_back"), world.record)
    assert "rolled back: version 6 serves alone" in json.loads(world.topic.taken[0]["Message"])["email"]
    assert [names for _, names in world.recorded] == [["Rollouts"]]


def test_chat_gets_one_event_with_a_message_for_each_that_is_set_up(world: World) -> None:
    world.notifier(EVERYWHERE, Records(rolled_back())).notify(told("rollout_rolled_back"), world.record)
    [entry] = world.bus.taken
    assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == ("headgate", "headgate", "Notification")
    detail = entry["Detail"]
    assert detail["id"] == "checkout-42/ended/notification"
    assert (detail["outcome"], detail["target"]) == ("rolled-back", "lambda-alias/checkout/live")
    assert detail["slack"]["channel"] == "C0123456789"
    assert {"slack", "teams", "amazonQ"} < detail.keys()
    # Nothing that reads events of rollouts takes this one for another end.
    assert "rolloutId" not in detail


def test_only_chats_that_are_set_up_get_a_message(world: World) -> None:
    world.notifier(SILENT._replace(teams=True)).notify(told("task_refused"), world.record)
    assert "teams" in world.bus.taken[0]["Detail"]
    assert not {"slack", "amazonQ"} & world.bus.taken[0]["Detail"].keys()


def test_a_topic_that_refuses_keeps_nothing_else_back_and_fails_the_invocation_which_lambda_repeats(
    world: World,
) -> None:
    world.topic.refuses = "InternalError"
    notifier = world.notifier(EVERYWHERE)
    with pytest.raises(world.clients[0].exceptions.ClientError):
        notifier.notify(told("rollout_stopped"), world.record)
    assert (len(world.topic.taken), len(world.bus.taken), len(world.recorded)) == (0, 1, 1)
    world.topic.refuses = ""
    notifier.notify(told("rollout_stopped"), world.record)
    assert (len(world.topic.taken), len(world.bus.taken), len(world.recorded)) == (1, 1, 1)


def test_a_bus_that_refuses_keeps_no_metrics_back(world: World) -> None:
    world.bus.full_after = 0
    with pytest.raises(Transient):
        world.notifier(EVERYWHERE).notify(told("rollout_stopped"), world.record)
    assert (len(world.topic.taken), len(world.recorded)) == (1, 1)


def test_the_first_failure_is_raised_if_several_parts_fail(world: World) -> None:
    world.topic.refuses, world.bus.full_after = "InternalError", 0
    with pytest.raises(world.clients[0].exceptions.ClientError, match="InternalError"):
        world.notifier(EVERYWHERE).notify(told("rollout_stopped"), world.record)
    assert len(world.recorded) == 1


def test_what_was_sent_is_not_sent_again_when_another_part_is_repeated(world: World) -> None:
    world.bus.full_after = 0
    notifier = world.notifier(EVERYWHERE)
    with pytest.raises(Transient, match="the bus did not accept the notification: ThrottlingException: slow down"):
        notifier.notify(told("rollout_stopped"), world.record)
    world.bus.full_after = None
    notifier.notify(told("rollout_stopped"), world.record)
    assert (len(world.topic.taken), len(world.bus.taken), len(world.recorded)) == (1, 1, 1)


def test_an_event_that_is_delivered_twice_is_sent_once_as_long_as_it_is_remembered(world: World) -> None:
    notifier = world.notifier(EVERYWHERE)
    for _ in range(2):
        notifier.notify(told("rollout_succeeded"), world.record)
    assert (len(world.topic.taken), len(world.bus.taken), len(world.recorded)) == (1, 1, 1)
    for number in range(MAX_REMEMBERED):
        notifier.notify(told("rollout_paused", id=f"pause-{number}"), world.record)
    notifier.notify(told("rollout_succeeded"), world.record)
    assert len(world.topic.taken) == 1 + MAX_REMEMBERED + 1


def test_the_rollout_of_a_failed_execution_is_in_its_input_if_that_is_there() -> None:
    assert reference_in(told("warden")) == "checkout-42"
    for given in (None, "{", "[]", '{"id": ["no id"]}'):
        assert reference_in(told("warden", input=given)) is None
    other = told("warden")["detail"]["stateMachineArn"].replace("-rollout", "-redrive")
    assert reference_in(told("warden", stateMachineArn=other)) is None


def test_the_history_of_the_table_is_what_the_notifier_reads(world: World, dynamodb: Any, locks: Locks) -> None:
    start(locks)
    notifier = world.notifier(EVERYWHERE, History(dynamodb, TABLE))
    notifier.notify(told("rollout_paused"), world.record)
    link = "https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws"
    assert link in json.loads(world.topic.taken[0]["Message"])["email"]


def test_a_refusal_of_sns_is_what_the_fake_is_for(world: World) -> None:
    with pytest.raises(Refusal):
        world.topic.Publish(TopicArn=TOPIC, Message="x", Subject="x" * 100)
