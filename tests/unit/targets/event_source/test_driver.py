"""The driver of consumers: one version at a time in a ramp, weights in a split, and everything back as it was."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.errors import CandidateGone, LockLost, RequestRefused, TargetChanged, TargetNotReady
from headgate.spec.position import Weight
from headgate.targets.event_source.settings import mapping_settings_of
from headgate.targets.progress import Pending
from tests.builders import done, pending
from tests.fakes.consumers import (
    DESTINATION,
    FIFO,
    GIVES_UP,
    PREFIX,
    QUEUE,
    STREAM,
    TABLE_STREAM,
    UUID,
    Consumer,
    Crash,
)
from tests.fakes.services import FakeLambda, Refusal
from tests.fakes.sqs import arn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.targets.event_source.state import SourceState
    from headgate.targets.progress import TargetProgress


@pytest.fixture
def consumer_of(checkout: FakeLambda, lambda_client: Any, clients: dict[str, Any]) -> Iterator[Callable[..., Consumer]]:
    """Makes a consumer of a source, whose mapping has these settings."""
    detach: list[Callable[[], None]] = []

    def make(source: str, mode: str, **settings: Any) -> Consumer:
        consumer = Consumer(checkout, lambda_client, clients["sqs"], source, **settings)
        consumer.mode = mode
        for end in detach:
            end()
        detach[:] = [consumer.service.attach(clients["sqs"])]
        return consumer

    yield make
    for end in detach:
        end()


TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders-dead"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "queue": (QUEUE, {"BatchSize": 10, "ScalingConfig": {"MaximumConcurrency": 20}}),
    "queue without a limit": (QUEUE, {"BatchSize": 10}),
    "fifo": (FIFO, {"BatchSize": 10}),
    "kinesis": (STREAM, GIVES_UP),
    "kinesis to a topic": (STREAM, GIVES_UP | {"DestinationConfig": {"OnFailure": {"Destination": TOPIC}}}),
    "kinesis for ever": (STREAM, {"BatchSize": 100, "ParallelizationFactor": 2}),
    "kinesis with a fan-out of its own": (f"{STREAM}/consumer/checkout:1795000000", GIVES_UP),
    "dynamodb": (TABLE_STREAM, GIVES_UP | {"DestinationConfig": {"OnFailure": {}}}),
}
WAYS = [(kind, mode) for kind in KINDS for mode in ("ramp", "split") if (kind, mode) != ("fifo", "split")]


@pytest.fixture
def consumer(consumer_of: Callable[..., Consumer], request: pytest.FixtureRequest) -> Consumer:
    kind, mode = request.param
    source, settings = KINDS[kind]
    return consumer_of(source, mode, **settings)


def rolled_out(consumer: Consumer, *weights: float) -> dict[str, Any]:
    """Prepare, and shift to each weight."""
    state = consumer.do("prepare")
    for weight in weights:
        state = consumer.do("shift", state, weight=weight)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("consumer", WAYS, indirect=True)
@pytest.mark.parametrize("weights", [(), (10,), (10, 50), (10, 0), (10, 0, 50)])
@pytest.mark.parametrize("promoted", [True, False])
def test_wherever_it_ends_the_mapping_is_as_before(
    consumer: Consumer, weights: tuple[float, ...], *, promoted: bool
) -> None:
    state = consumer.end(rolled_out(consumer, *weights), promoted=promoted)
    consumer.assert_as_before("7" if promoted else "6")
    assert not state["toRelease"]
    if consumer.mode == "ramp":
        consumer.versions_at_work()


# --- What a call comes to --------------------------------------------------------------------------------------------


def went(
    consumer: Consumer, action: Callable[[SourceState], TargetProgress[SourceState]], state: SourceState
) -> tuple[list[str], SourceState]:
    """What a driver waits for until it is done, each reason once and without its numbers; and the state after that."""
    reasons: list[str] = []
    while isinstance(progress := action(state), Pending):
        reason = re.sub(r"\d+ ", "", progress.why.partition(": ")[2].removeprefix(f"{UUID} "))
        reasons += [reason] if reason not in reasons else []
        state = progress.state or state
        consumer.clock.sleep(2)
    return reasons, done(progress)


def prepared(consumer: Consumer) -> tuple[list[str], SourceState]:
    driver = consumer.driver()
    first = driver.prepare()
    if not isinstance(first, Pending):
        return [], done(first)
    known = first.state
    assert known is not None
    reasons, state = went(consumer, driver.prepare, known)
    return [first.why.partition(": ")[2], *reasons], state


@pytest.mark.parametrize(
    ("consumer", "reasons"),
    [
        (
            ("queue", "split"),
            [
                "OWN will receive failures",
                "is being set as the dead-letter queue",
                "is the dead-letter queue everywhere in at",
            ],
        ),
        (
            ("kinesis", "split"),
            ["OWN will receive failures", "is being changed to send failures to OWN", "is Updating"],
        ),
        (("kinesis for ever", "split"), []),
    ],
    indirect=["consumer"],
)
def test_preparing_is_pending_until_what_fails_is_held(consumer: Consumer, reasons: list[str]) -> None:
    told, state = prepared(consumer)
    name = state.holding.name if state.holding else "none"
    assert [reason.replace(name, "OWN")[: len(wanted)] for reason, wanted in zip(told, reasons, strict=True)] == reasons
    assert state.to_release == state.must_release == bool(reasons)
    assert consumer.own == ([name] if reasons else [])


@pytest.mark.parametrize("consumer", [("queue", "ramp")], indirect=True)
def test_a_shift_of_a_ramp_is_pending_through_every_stage_of_the_mapping(consumer: Consumer) -> None:
    # GIVEN a consumer that is prepared
    driver, (_, state) = consumer.driver(aim=Weight(10)), prepared(consumer)
    # WHEN the candidate is to get its first share THEN it is on record that the mapping is stopped, before it is
    noted, why, _ = pending(driver.shift(state, 10))
    assert noted == state.model_copy(update={"parked": True})
    assert (why, consumer.mapping.updates) == (f"target.mapping: {UUID} will be stopped", [])
    # AND then it is stopped, drained, and pointed at the candidate
    reasons, moved = went(consumer, lambda state: driver.shift(state, 10), noted)
    candidate = moved.candidate_place(10).function
    assert reasons == [
        "is being stopped",
        "is Disabling",
        "is drained in at most s",
        f"is being pointed at {candidate}",
        "is Enabling",
    ]
    assert (moved.position, moved.parked) == (Weight(10), False)
    assert consumer.mapping.fields["FunctionArn"] == candidate


@pytest.mark.parametrize("consumer", [("queue", "ramp")], indirect=True)
def test_an_update_that_has_to_wait_is_pending_and_tells_nothing_new(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(**_: Any) -> Any:
        raise Refusal("ResourceConflictException", "try again")

    driver, (_, state) = consumer.driver(aim=Weight(10)), prepared(consumer)
    noted, _, _ = pending(driver.shift(state, 10))
    monkeypatch.setattr(consumer.mapping, "update", busy)
    assert noted is not None
    known, why, _ = pending(driver.shift(noted, 10))
    assert known is None
    assert re.match(rf"target\.mapping: {UUID}: .*try again", why)


@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize(
    ("consumer", "reasons"),
    [
        (
            ("queue", "split"),
            [
                "the candidate may still be running",
                "waiting for late failures",
                "waiting for late failures, s",
            ],
        ),
        (
            ("kinesis", "split"),
            [
                "the candidate may still be running",
                "discarding records that are too old, s",
                "is being updated with its original settings",
                "is Updating",
                "waiting for late failures",
                "waiting for late failures, s",
            ],
        ),
    ],
    indirect=["consumer"],
)
def test_giving_back_is_pending_from_phase_to_phase(consumer: Consumer, reasons: list[str], *, promoted: bool) -> None:
    # GIVEN a rollout that has come to its end, one way or the other
    driver, (_, state) = consumer.driver(aim=Weight(10)), prepared(consumer)
    state = done(driver.shift(state, 10))
    state = done(driver.promote(state) if promoted else driver.rollback(state))
    assert state.holding is not None
    assert state.holding.phase == "in-place"
    phases = []

    def give_back(state: SourceState) -> TargetProgress[SourceState]:
        phases.append(state.holding.phase if state.holding else "none")
        return driver.release(state) if promoted else driver.restore(state)

    # WHEN what it holds is given back, THEN it waits for one thing after the other
    told, state = went(consumer, give_back, state)
    # AND after a promotion not for the candidate, which goes on
    assert told == (reasons[1:] if promoted else reasons)
    # AND the queue's own phase says where it is
    assert list(dict.fromkeys(phases)) == ["in-place", "restored"]
    assert (state.holding, state.to_release, consumer.own) == (None, False, [])


@pytest.mark.parametrize("consumer", [("kinesis", "split")], indirect=True)
def test_a_mapping_that_somebody_else_has_changed_is_overtaken_before_it_is_restored(consumer: Consumer) -> None:
    driver, (_, state) = consumer.driver(aim=Weight(10)), prepared(consumer)
    state = done(driver.rollback(done(driver.shift(state, 10))))
    consumer.clock.sleep(60)
    consumer.mapping.change(BatchSize=7)
    consumer.clock.sleep(10)
    noted, why, _ = pending(driver.restore(state))
    assert noted is not None
    assert noted.holding is not None
    assert noted.holding.phase == "overtaken"
    assert why.endswith(f"{noted.holding.changed}")
    with pytest.raises(TargetChanged, match=r"has other settings.*; what failed during the rollout was redeli"):
        went(consumer, driver.restore, noted)


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "mode", "settings", "why"),
    [
        (QUEUE, "split", {"BatchSize": 11}, "BatchSize: above 10, a queue needs a MaximumBatchingWindowInSeconds of 1"),
        (FIFO, "ramp", {"BatchSize": 11}, r"BatchSize: must be 1 to 10 for sqs-fifo \(given 11\)"),
        (QUEUE, "ramp", {"ProvisionedPollerConfig": {"MinimumPollers": 5}}, "use mode split, or remove Provisioned"),
        (STREAM, "ramp", {"ScalingConfig": {"MaximumConcurrency": 5}}, "ScalingConfig: is only for queues; remove it"),
        (
            FIFO,
            "split",
            {},
            "target.mode: the mapping reads from a FIFO queue, and split would send messages of one group",
        ),
        (
            FIFO,
            "ramp",
            {"ProvisionedPollerConfig": {"MinimumPollers": 5}},
            "a ramp needs; remove ProvisionedPollerConfig",
        ),
        (arn("orders").replace("sqs", "kafka"), "ramp", {}, "consumers of SQS queues, Kinesis streams and DynamoDB"),
    ],
)
def test_a_mapping_that_cannot_be_rolled_out_is_refused_and_left_alone(
    consumer_of: Callable[..., Consumer], source: str, mode: str, settings: dict[str, Any], why: str
) -> None:
    consumer = consumer_of(source, mode, **settings)
    with pytest.raises(RequestRefused, match=why):
        consumer.do("prepare")
    assert (consumer.mapping.updates, consumer.own, consumer.record.fields.get("state")) == ([], [], None)


def disable(consumer: Consumer) -> None:
    consumer.mapping.state = consumer.mapping._settled_as = "Disabled"


def split_alias(consumer: Consumer) -> None:
    consumer.function.point("live", "6", {"5": 0.5})


def long_candidate(consumer: Consumer) -> None:
    consumer.function.versions["7"]["Timeout"] = 60


def show_at_once(consumer: Consumer) -> None:
    consumer.sqs.queues[consumer.queue].visibility = 0


def forget_mapping(consumer: Consumer) -> None:
    consumer.function.mappings.clear()


def serve_candidate(consumer: Consumer) -> None:
    consumer.function.point("live", "7")


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("queue", "split")], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (disable, "is disabled; enable it first"),
        (split_alias, "already sends 50 % to version 5; remove these weights first"),
        (long_candidate, "visibility timeout of 18 s is below the timeout of version 7, 60 s.*raise it to 360"),
        (show_at_once, "visibility timeout of 0 s is below the timeout of version 7, 3 s.*raise it to 18"),
        (forget_mapping, "target.mapping: mapping 14e0db71"),
        (serve_candidate, "candidate: checkout:live already serves version 7"),
    ],
)
def test_a_consumer_that_is_not_fit_is_refused_with_the_fix(
    consumer: Consumer, spoil: Callable[[Consumer], None], why: str
) -> None:
    spoil(consumer)
    with pytest.raises(RequestRefused, match=why):
        consumer.do("prepare")
    assert (consumer.mapping.updates, consumer.own) == ([], [])


def forget_dead_letters(consumer: Consumer) -> None:
    del consumer.sqs.queues[consumer.team]


def forget_source(consumer: Consumer) -> None:
    del consumer.sqs.queues[consumer.queue]


def deny_everybody(consumer: Consumer) -> None:
    consumer.sqs.allows[consumer.team] = {"redrivePermission": "denyAll"}


def allow_others(consumer: Consumer) -> None:
    consumer.sqs.allows[consumer.team] = {"redrivePermission": "byQueue", "sourceQueueArns": [arn("payments")]}


GONE = "does not exist, or Headgate's parameter TargetQueues does not cover it"


@pytest.mark.parametrize(
    ("consumer", "spoil", "why"),
    [
        (("queue", "split"), forget_source, f"target.mapping: arn:aws:sqs.*:orders {GONE}"),
        (("fifo", "ramp"), forget_dead_letters, f"the redrive policy of arn:.*:orders.fifo: .*orders-dead.fifo {GONE}"),
        (("queue", "split"), deny_everybody, r"does not allow this source queue \(RedriveAllowPolicy denyAll\)"),
        (("queue", "ramp"), allow_others, r"does not allow this source queue \(RedriveAllowPolicy byQueue\)"),
        (("kinesis", "split"), forget_dead_letters, f"its on-failure destination: arn:aws:sqs.*:orders-dead {GONE}"),
    ],
    indirect=["consumer"],
)
def test_what_could_not_be_put_back_is_not_taken_away(
    consumer: Consumer, spoil: Callable[[Consumer], None], why: str
) -> None:
    versions = len(consumer.function.versions)
    spoil(consumer)
    with pytest.raises(RequestRefused, match=why):
        consumer.do("prepare")
    assert (consumer.mapping.updates, consumer.own, len(consumer.function.versions)) == ([], [], versions)


@pytest.mark.parametrize("consumer", [("kinesis", "split"), ("dynamodb", "ramp")], indirect=True)
def test_a_stream_that_may_not_be_read_again_is_refused_before_anything_fails(consumer: Consumer) -> None:
    consumer.stream_names = "order?"
    consumer.do("prepare")
    consumer.stream_names = "payments-*"
    consumer.record.fields.clear()
    updates = len(consumer.mapping.updates)
    with pytest.raises(
        RequestRefused, match=r'orders is not covered by Headgate.s parameter TargetStreams, which is "payments-\*"'
    ):
        consumer.do("prepare")
    assert len(consumer.mapping.updates) == updates


@pytest.mark.parametrize("consumer", [("queue", "split")], indirect=True)
def test_a_dead_letter_queue_that_lets_this_queue_name_it_is_put_back(consumer: Consumer) -> None:
    consumer.sqs.allows[consumer.team] = {"redrivePermission": "byQueue", "sourceQueueArns": [QUEUE]}
    consumer.end(rolled_out(consumer, 10), promoted=False)
    consumer.assert_as_before("6")


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("kinesis", "split")], indirect=True)
@pytest.mark.parametrize("code", ["ResourceInUseException", "ResourceConflictException"])
def test_a_mapping_that_takes_no_update_now_is_asked_again(
    consumer: Consumer, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = consumer.mapping.update
    refused: list[dict[str, Any]] = []

    def busy(**given: Any) -> dict[str, Any]:
        if len(refused) % 2 == 0:
            refused.append(given)
            raise Refusal(code)
        refused.append(given)
        return update(**given)

    monkeypatch.setattr(consumer.mapping, "update", busy)
    consumer.end(rolled_out(consumer, 10), promoted=False)
    consumer.assert_as_before("6")
    assert len(refused) >= 4


@pytest.mark.parametrize("consumer", [("queue", "ramp")], indirect=True)
def test_a_mapping_that_is_being_updated_is_waited_for(consumer: Consumer) -> None:
    consumer.mapping.change(Enabled=True)
    with pytest.raises(TargetNotReady, match="is Updating"):
        consumer.call("prepare")
    assert consumer.do("prepare")["stable"] == "6"


# --- What is held ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("queue", "split"), ("fifo", "ramp")], indirect=True)
def test_dead_letters_of_the_rollout_go_to_a_queue_of_its_own(consumer: Consumer) -> None:
    consumer.do("prepare")
    queue, (own,) = consumer.sqs.queues[consumer.queue], consumer.own
    # A message of a FIFO queue blocks its group instead, for as long as SQS lets it.
    assert (queue.dead_letters, queue.max_receives) == (own, 1000 if consumer.queue.endswith(".fifo") else 3)


@pytest.mark.parametrize("consumer", [("kinesis", "split"), ("dynamodb", "split")], indirect=True)
def test_batches_that_a_split_gives_up_go_to_a_queue_of_its_own(consumer: Consumer) -> None:
    consumer.do("prepare")
    (own,) = consumer.own
    assert consumer.mapping.fields["DestinationConfig"] == {"OnFailure": {"Destination": arn(own)}}
    assert consumer.mapping.fields["MaximumRetryAttempts"] == 2


@pytest.mark.parametrize("consumer", [("kinesis", "split"), ("kinesis", "ramp")], indirect=True)
def test_a_role_that_may_not_send_to_the_rollouts_own_queue_is_found_out_before_any_traffic(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a function whose role may send to the team's queue alone
    update = consumer.mapping.update

    def check(**given: Any) -> dict[str, Any]:
        if PREFIX in str(given.get("DestinationConfig")):
            raise Refusal("InvalidParameterValueException", "The execution role may not call SendMessage on SQS")
        return update(**given)

    monkeypatch.setattr(consumer.mapping, "update", check)
    # WHEN it is to be rolled out
    began = consumer.clock.now
    with pytest.raises(
        RequestRefused,
        match=r"does not accept the rollout's own queue as on-failure destination: The execution role may not .*; "
        rf"allow the role of the function sqs:SendMessage on queues named {PREFIX}\*",
    ):
        consumer.do("prepare")
    assert consumer.clock.now - began >= 60
    # THEN it is refused, and the rollback of nothing leaves nothing
    state = consumer.do("rollback", {})
    consumer.do("restore", state)
    consumer.assert_as_before("6")
    assert consumer.mapping.updates == []


@pytest.mark.parametrize("consumer", [("kinesis", "split"), ("kinesis", "ramp")], indirect=True)
def test_a_new_queue_that_lambda_does_not_know_yet_is_waited_for(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a policy of the new queue that is in effect 50 s after the first attempt
    update, begun = consumer.mapping.update, consumer.clock.now

    def check(**given: Any) -> dict[str, Any]:
        if consumer.clock.now < begun + 50:
            raise Refusal("InvalidParameterValueException", "The execution role may not call SendMessage on SQS")
        return update(**given)

    monkeypatch.setattr(consumer.mapping, "update", check)
    # WHEN it is to be rolled out, THEN it is prepared
    state = consumer.do("prepare")
    (own,) = consumer.own
    assert consumer.mapping.fields["DestinationConfig"] == {"OnFailure": {"Destination": arn(own)}}
    assert consumer.clock.now >= begun + 50
    consumer.end(state, promoted=False)
    consumer.assert_as_before("6")


@pytest.mark.parametrize("consumer", [("kinesis for ever", "ramp"), ("kinesis for ever", "split")], indirect=True)
def test_where_nothing_is_given_up_nothing_is_held(consumer: Consumer) -> None:
    consumer.do("prepare")
    assert (consumer.own, consumer.mapping.updates) == ([], [])


def test_a_queue_without_dead_letters_and_a_destination_that_is_no_queue_are_left_as_they_are(
    consumer_of: Callable[..., Consumer],
) -> None:
    topic = {"OnFailure": {"Destination": TOPIC}}
    stream = consumer_of(STREAM, "split", **GIVES_UP | {"DestinationConfig": topic})
    assert "holding" not in stream.do("prepare")
    queue = consumer_of(QUEUE, "split", BatchSize=10)
    queue.sqs.point("orders", "")
    assert "holding" not in queue.do("prepare")


@pytest.mark.parametrize(
    "consumer", [("kinesis", "ramp"), ("kinesis for ever", "split"), ("fifo", "ramp")], indirect=True
)
def test_a_limit_on_dead_letters_is_refused_where_none_can_come(consumer: Consumer) -> None:
    consumer.guards = {"source": {"deadLetters": 0}}
    with pytest.raises(
        RequestRefused, match=r"guards\.source\.deadLetters: this rollout of .* has no dead letters.*use another limit"
    ):
        consumer.do("prepare")
    assert consumer.mapping.updates == []


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("queue", "split"), ("fifo", "ramp")], indirect=True)
@pytest.mark.parametrize("promoted", [True, False])
def test_what_failed_goes_back_to_the_source_or_on_to_the_team_and_is_counted(
    consumer: Consumer, *, promoted: bool
) -> None:
    state = rolled_out(consumer, 10)
    consumer.fail("m-1", "m-2")
    state = consumer.end(state, promoted=promoted)
    told, where = ("forwarded", consumer.team) if promoted else ("returned", consumer.queue)
    assert consumer.bodies(where) == ["m-1", "m-2"]
    assert {name: count for name, count in state["redriven"].items() if count} == {told: 2}


@pytest.mark.parametrize("consumer", [("fifo", "ramp")], indirect=True)
def test_a_fifo_message_goes_back_although_its_source_has_just_seen_its_id(consumer: Consumer) -> None:
    state = rolled_out(consumer, 10)
    consumer.fail("m-1", "m-2")
    (own,) = consumer.own
    source = consumer.sqs.queues[consumer.queue]
    for stored in consumer.sqs.queues[own].messages:
        source.taken[stored.message_id] = consumer.sqs.clock(), stored.message_id
    state = consumer.end(state, promoted=False)
    assert (consumer.bodies(consumer.queue), state["redriven"]["returned"]) == (["m-1", "m-2"], 2)


@pytest.mark.parametrize("consumer", [("queue", "split"), ("queue", "ramp")], indirect=True)
def test_what_the_stable_version_fails_on_too_ends_with_the_team_and_does_not_go_round_for_ever(
    consumer: Consumer,
) -> None:
    # GIVEN more messages than go back between two calls, which fail under both versions, and at once
    state = rolled_out(consumer, 10)
    messages = [f"m-{number:03d}" for number in range(300)]
    consumer.fail(*messages)
    state = consumer.do("rollback", state)
    # WHEN they get their second chance
    for answer in consumer.tries("restore", state):
        source = consumer.sqs.queues[consumer.queue]
        for stored in list(source.messages):
            consumer.sqs._dead_letter(source, stored)
        state = answer or state
    # THEN they are where the team looks
    assert consumer.bodies(consumer.team) == messages
    consumer.assert_as_before("6")


class TestBatchesOfAStream:
    @pytest.fixture
    def consumer(self, consumer_of: Callable[..., Consumer]) -> Consumer:
        return consumer_of(STREAM, "split", **GIVES_UP)

    def test_the_stable_version_gets_them_in_the_order_of_their_shard(self, consumer: Consumer) -> None:
        state = rolled_out(consumer, 10)
        consumer.give_up(5, 6)
        consumer.give_up(1, 2)
        state = consumer.end(state, promoted=False)
        assert consumer.delivered == [("6", ["1", "2"]), ("6", ["5", "6"])]
        assert state["redriven"]["redelivered"] == 4
        consumer.assert_as_before("6")

    def test_the_function_gets_no_more_at_once_than_its_mapping_gives(
        self, consumer_of: Callable[..., Consumer]
    ) -> None:
        # GIVEN a batch of two, in whose range others lie that the mapping gave to other batches beside it
        consumer = consumer_of(STREAM, "split", **GIVES_UP | {"BatchSize": 2})
        state = rolled_out(consumer, 10)
        consumer.give_up(1, 5)
        consumer.end(state, promoted=False)
        assert [sequences for _, sequences in consumer.delivered] == [["1", "2"], ["3", "4"], ["5"]]

    @pytest.mark.parametrize("promoted", [True, False])
    def test_what_fails_again_goes_on_to_where_it_would_have_gone(self, consumer: Consumer, *, promoted: bool) -> None:
        state = rolled_out(consumer, 10)
        consumer.give_up(1, 1)
        consumer.give_up(2, 3)
        consumer.fails = lambda sequences: "2" in sequences
        state = consumer.end(state, promoted=promoted)
        (body,) = consumer.bodies(consumer.team)
        assert json.loads(body)["KinesisBatchInfo"]["startSequenceNumber"] == "2"
        assert (state["redriven"]["redelivered"], state["redriven"]["forwarded"]) == (1, 1)
        assert {version for version, _ in consumer.delivered} == {"7" if promoted else "6"}
        consumer.assert_as_before("7" if promoted else "6")

    @pytest.mark.parametrize("kept", [True, False])
    def test_what_a_window_had_failed_on_goes_on_without_an_invocation_that_has_no_window(
        self, consumer_of: Callable[..., Consumer], *, kept: bool
    ) -> None:
        settings = GIVES_UP | {"ParallelizationFactor": 1, "TumblingWindowInSeconds": 60}
        consumer = consumer_of(STREAM, "split", **settings | ({"DestinationConfig": {"OnFailure": {}}} if kept else {}))
        state = rolled_out(consumer, 10)
        consumer.give_up(1, 2)
        state = consumer.end(state, promoted=False)
        assert consumer.delivered == []
        told = (state["redriven"]["redelivered"], state["redriven"]["forwarded"], state["redriven"]["kept"])
        assert told == ((0, 0, 1) if kept else (0, 1, 0))
        assert len(consumer.bodies(consumer.own[0] if kept else consumer.team)) == 1

    @pytest.mark.parametrize(
        "forged",
        [
            {"streamArn": "arn:aws:kinesis:eu-central-1:123456789012:stream/salaries"},
            {"functionArn": "arn:aws:lambda:eu-central-1:123456789012:function:salaries:live"},
        ],
        ids=["stream", "function"],
    )
    def test_a_message_that_names_another_stream_or_function_is_passed_on_without_being_read(
        self, consumer_of: Callable[..., Consumer], forged: dict[str, str]
    ) -> None:
        consumer = consumer_of(STREAM, "split", **GIVES_UP)
        state = rolled_out(consumer, 10)
        consumer.give_up(1, 2, forged=forged)
        state = consumer.end(state, promoted=False)
        assert (consumer.delivered, state["redriven"]["forwarded"]) == ([], 1)

    def test_a_batch_from_which_a_filter_had_left_out_records_goes_on_and_a_whole_one_is_replayed(
        self, consumer_of: Callable[..., Consumer]
    ) -> None:
        consumer = consumer_of(STREAM, "split", **GIVES_UP, FilterCriteria={"Filters": [{"Pattern": "{}"}]})
        state = rolled_out(consumer, 10)
        consumer.give_up(1, 2)
        consumer.give_up(4, 8, size=3)
        state = consumer.end(state, promoted=False)
        assert consumer.delivered == [("6", ["1", "2"])]
        (body,) = consumer.bodies(consumer.team)
        assert json.loads(body)["KinesisBatchInfo"]["startSequenceNumber"] == "4"

    def test_what_nobody_else_was_to_have_stays_and_the_report_says_so(
        self, consumer_of: Callable[..., Consumer]
    ) -> None:
        consumer = consumer_of(STREAM, "split", **GIVES_UP | {"DestinationConfig": {"OnFailure": {}}})
        state = rolled_out(consumer, 10)
        consumer.give_up(1, 1)
        consumer.fails = lambda _: True
        state = consumer.end(state, promoted=False)
        (own,) = consumer.own
        assert (state["redriven"]["kept"], len(consumer.bodies(own)), state["toRelease"]) == (1, 1, False)
        assert state["redriven"]["queue"] == own

    def test_a_batch_that_a_dead_call_had_in_hand_is_not_deleted_with_the_queue(self, consumer: Consumer) -> None:
        # GIVEN a call that dies with a batch in hand, and has no chance to let it go
        state = consumer.do("rollback", rolled_out(consumer, 10))
        (own,) = consumer.own
        consumer.sqs.send_message(QueueUrl=f"https://sqs/{own}", MessageBody="{}")
        consumer.sqs.receive_message(QueueUrl=f"https://sqs/{own}", VisibilityTimeout=3600)
        # WHEN the next calls find nothing that is visible
        for _ in zip(range(100), consumer.tries("restore", state), strict=False):
            pass
        # THEN the queue stays until the batch can be seen again, and goes on to the team
        assert consumer.own == [own]
        consumer.clock.sleep(3600)
        consumer.do("restore", state)
        assert (consumer.bodies(consumer.team), consumer.own) == (["{}"], [])


# --- A ramp ----------------------------------------------------------------------------------------------------------


def test_a_ramp_stops_drains_points_and_starts_and_then_only_grows(consumer_of: Callable[..., Consumer]) -> None:
    consumer = consumer_of(QUEUE, "ramp", BatchSize=10, ScalingConfig={"MaximumConcurrency": 20})
    state = rolled_out(consumer, 10, 50)
    function = consumer.before["FunctionArn"].removesuffix(":live")
    settings = {"FunctionName": f"{function}:7", "Enabled": True}
    assert consumer.mapping.updates == [
        {"Enabled": False},
        settings | {"ScalingConfig": {"MaximumConcurrency": 2}},
        settings | {"ScalingConfig": {"MaximumConcurrency": 10}},
    ]
    consumer.do("promote", state)
    back = {"FunctionName": f"{function}:live", "ScalingConfig": {"MaximumConcurrency": 20}}
    assert consumer.mapping.updates[3:] == [settings | back]
    assert consumer.versions_at_work() == ["6", "7"]


@pytest.mark.parametrize("consumer", [("kinesis", "ramp")], indirect=True)
def test_in_the_ramp_of_a_stream_a_failing_batch_blocks(consumer: Consumer) -> None:
    rolled_out(consumer, 10)
    settings = mapping_settings_of(consumer.mapping.told(), "kinesis")
    assert (settings.parallelization_factor, settings.batch_size) == (1, 40)
    assert not settings.gives_up
    assert settings.bisect_batch_on_function_error is False


@pytest.mark.parametrize("consumer", [("fifo", "ramp")], indirect=True)
def test_what_is_in_flight_is_waited_for_but_not_for_longer_than_it_can_be(consumer: Consumer) -> None:
    state = consumer.do("prepare")
    consumer.sqs.put(consumer.queue, "m-1", group="g")
    url = f"https://sqs/{consumer.queue}"
    waited = []
    for answer in consumer.tries("shift", state, weight=10):
        if consumer.mapping.told()["State"] == "Disabled":
            # Somebody receives the message again and again.
            consumer.sqs.receive_message(QueueUrl=url, VisibilityTimeout=1000)
            waited.append(consumer.clock.now)
        assert answer is None or consumer.mapping.version == "7"
    # The visibility timeout is 18 s.
    assert 16 <= waited[-1] - waited[0] <= 22


@pytest.mark.parametrize("consumer", [("kinesis", "ramp")], indirect=True)
@pytest.mark.parametrize("promoted", [True, False])
def test_what_a_ramp_has_blocked_is_worked_off_before_the_limits_come_back(
    consumer: Consumer, *, promoted: bool
) -> None:
    # GIVEN a stream whose mapping gives batches up, in a ramp, where it gives none up
    state = rolled_out(consumer, 10)
    (own,) = consumer.own
    assert consumer.mapping.fields["DestinationConfig"] == {"OnFailure": {"Destination": arn(own)}}
    seen = len(consumer.mapping.updates)
    # WHEN the rollout has ended one way or the other
    state = consumer.do("promote" if promoted else "rollback", state)
    # THEN the mapping points at its alias again, at full speed, and still blocks
    at_rest = mapping_settings_of(consumer.mapping.told(), "kinesis")
    assert (at_rest.batch_size, at_rest.parallelization_factor, at_rest.gives_up) == (100, 4, False)
    # AND its limits come back later, and what is too old for them is held before it goes to the team
    consumer.do("release" if promoted else "restore", state)
    limits, destination = consumer.mapping.updates[-2:]
    assert limits == {"MaximumRetryAttempts": 2}
    assert destination == {"DestinationConfig": DESTINATION}
    assert len(consumer.mapping.updates) > seen + 2
    consumer.assert_as_before("7" if promoted else "6")


@pytest.mark.parametrize(("source", "mode"), [(QUEUE, "split"), (FIFO, "ramp")])
def test_a_stack_name_as_long_as_lambda_allows_leaves_room_for_the_name_of_the_queue(
    consumer_of: Callable[..., Consumer], source: str, mode: str
) -> None:
    consumer = consumer_of(source, mode, BatchSize=10)
    stack = "team-checkout-production-headgate-eu-001-bcd"
    consumer._services = consumer._services._replace(holding_prefix=f"{stack}-held-")
    state = rolled_out(consumer, 10)
    assert len(stack) == 44
    assert consumer.sqs.queues[consumer.queue].dead_letters.startswith(f"{stack}-held-")
    consumer.end(state, promoted=False)
    assert not any(name.startswith(stack) for name in consumer.sqs.queues)


@pytest.mark.parametrize("promoted", [True, False])
def test_a_ramp_blocks_where_failures_go_to_what_is_no_queue_until_that_is_worked_off(
    consumer_of: Callable[..., Consumer], *, promoted: bool
) -> None:
    topic = {"OnFailure": {"Destination": TOPIC}}
    consumer = consumer_of(STREAM, "ramp", **GIVES_UP | {"DestinationConfig": topic})
    state = rolled_out(consumer, 10)
    # WHEN the version that serves has the stream to itself
    state = consumer.do("promote" if promoted else "rollback", state)
    # THEN what was blocked is not given up at once
    at_rest = mapping_settings_of(consumer.mapping.told(), "kinesis")
    assert (at_rest.batch_size, at_rest.parallelization_factor, at_rest.gives_up) == (100, 4, False)
    # AND the limits come back a minute later, and nothing else changes
    began = consumer.clock.now
    state = consumer.do("release" if promoted else "restore", state)
    assert consumer.clock.now - began >= 55
    assert consumer.mapping.updates[-1] == {"MaximumRetryAttempts": 2}
    assert (state["toRelease"], state["mustRelease"]) == (False, False)
    consumer.assert_as_before("7" if promoted else "6")


@pytest.mark.parametrize("consumer", [("queue", "split"), ("kinesis", "split")], indirect=True)
def test_the_queue_of_an_earlier_rollout_is_not_taken_for_the_teams(consumer: Consumer) -> None:
    consumer.sqs.queue("headgate-held-earlier")
    if consumer.queue:
        policy = {"deadLetterTargetArn": arn("headgate-held-earlier"), "maxReceiveCount": 3}
        consumer.sqs.point(consumer.queue, json.dumps(policy))
    else:
        consumer.mapping.fields["DestinationConfig"] = {"OnFailure": {"Destination": arn("headgate-held-earlier")}}
    with pytest.raises(RequestRefused, match=r"headgate-held-earlier, the queue of another rollout.*headgate-redrive"):
        consumer.do("prepare")


@pytest.mark.parametrize("consumer", [("queue", "split")], indirect=True)
def test_the_rollouts_own_queue_stands_in_everywhere_before_the_first_traffic(consumer: Consumer) -> None:
    consumer.do("prepare")
    assert consumer.clock.time() - consumer.sqs.pointed_at >= 60


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("kinesis", "ramp")], indirect=True)
def test_a_queues_backlog_is_counted_before_the_candidate_has_had_any_of_it(consumer: Consumer) -> None:
    if consumer.queue:
        consumer.sqs.put(consumer.queue, "m-1", "m-2", "m-3")
    assert consumer.do("prepare").get("backlog") == (3 if consumer.queue else None)


@pytest.mark.parametrize("consumer", [("queue", "split")], indirect=True)
def test_what_the_candidate_had_in_hand_when_it_was_replaced_can_still_be_held(consumer: Consumer) -> None:
    # GIVEN a message that the candidate has received for the last time when it is rolled back
    state = rolled_out(consumer, 10)
    consumer.sqs.put(consumer.queue, "m-1")
    consumer.sqs.receive_message(QueueUrl=f"https://sqs/{consumer.queue}", VisibilityTimeout=18)
    received = consumer.clock.now
    state = consumer.do("rollback", state)
    # WHEN the rollout gives back what it holds, and SQS gives the message up once it is visible again
    given_up, answers = False, consumer.tries("restore", state)
    while (answer := next(answers)) is None:
        if not given_up and consumer.clock.now >= received + 18:
            consumer.sqs.queues[consumer.queue].messages.clear()
            consumer.fail("m-1")
            given_up = True
    # THEN the rollout's own queue was still there for it
    assert (consumer.bodies(consumer.queue), consumer.bodies(consumer.team)) == (["m-1"], [])
    assert answer["redriven"]["returned"] == 1


@pytest.mark.parametrize("consumer", WAYS, indirect=True)
def test_without_the_lock_nothing_has_an_effect(consumer: Consumer) -> None:
    state = rolled_out(consumer, 10)
    updates, policies = list(consumer.mapping.updates), dict(vars(consumer.sqs.queues.get(consumer.queue, consumer)))
    consumer.record.ours = False
    for action in ("prepare", "shift", "promote", "release", "rollback", "restore"):
        with pytest.raises(LockLost):
            consumer.call(action, state, weight=50)
    assert consumer.mapping.updates == updates
    assert dict(vars(consumer.sqs.queues.get(consumer.queue, consumer))) == policies


# --- Somebody else ---------------------------------------------------------------------------------------------------

POINTS: list[tuple[float, ...]] = [(), (10,)]
"""The weights that a rollout has had when somebody else comes by."""


def point_elsewhere(consumer: Consumer) -> None:
    consumer.mapping.change(FunctionName="basket:live")


@pytest.mark.parametrize("consumer", [("queue", "ramp")], indirect=True)
def test_draining_is_not_limited_as_waiting_for_the_candidate_is(consumer: Consumer) -> None:
    _, state = prepared(consumer)
    driver, limited = consumer.driver(), dict[str, bool | None]()
    while isinstance(progress := driver.promote(state), Pending):
        limited[re.sub(r".* is | in at most .*", "", progress.why)] = progress.limited
        state = progress.state or state
        consumer.clock.sleep(2)
    assert limited.pop("drained") is False
    assert limited
    assert {*limited.values()} == {None}, "the default of a promotion: it is limited"


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "InvalidParameterValueException"])
@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("queue", "split"), ("kinesis", "ramp")], indirect=True)
@pytest.mark.parametrize("action", ["shift", "promote"])
def test_a_candidate_that_was_deleted_is_told_and_the_stable_version_goes_on(
    consumer: Consumer, action: str, code: str
) -> None:
    # GIVEN a version that a clean-up deletes after it was prepared
    consumer.mapping.unknown_function = code
    state = consumer.do("prepare")
    del consumer.function.versions["7"]
    # WHEN traffic is to move to it
    with pytest.raises(CandidateGone, match="candidate version 7 is gone"):
        consumer.do(action, state, weight=10)
    # THEN the rollback brings everything back, with what is on record of the call that failed
    consumer.end({}, promoted=False)
    consumer.assert_as_before("6")


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("queue", "split")], indirect=True)
def test_a_stable_version_that_was_scaled_is_matched_while_the_consumer_goes_on(consumer: Consumer) -> None:
    # GIVEN a stable version whose provisioned concurrency is scaled after Prepare
    state = consumer.do("prepare")
    consumer.function.provision("6", 50)
    # WHEN the candidate is promoted, THEN the mapping works on while the candidate gets as much
    for why in ("will be set to 50", "was requested: 50", "is being allocated"):
        with pytest.raises(TargetNotReady, match=why):
            consumer.call("promote", state)
        assert consumer.mapping.told()["State"] == "Enabled"
    consumer.function.provision("7", 50)
    state = consumer.do("promote", state)
    assert state["alias"]["provisioned"] == 50
    # AND the release takes it from the version that was replaced
    consumer.do("release", state)
    assert list(consumer.function.provisioned) == ["7"]


def test_a_stable_version_that_was_deleted_leaves_the_consumer_with_the_candidate(
    consumer_of: Callable[..., Consumer],
) -> None:
    source, given = KINDS["queue"]
    consumer = consumer_of(source, "split", **given)
    state = consumer.do("promote", rolled_out(consumer, 10))
    del consumer.function.versions["6"]
    with pytest.raises(TargetChanged, match="stable version 6 is gone, and it serves version 7"):
        consumer.do("rollback", state)
    assert consumer.function.serves() == ("7", {})
    assert consumer.mapping.told()["State"] == "Enabled"


def test_a_mapping_that_lambda_does_not_find_for_a_moment_is_asked_for_again(
    consumer_of: Callable[..., Consumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, given = KINDS["queue"]
    consumer = consumer_of(source, "ramp", **given)
    state = consumer.do("prepare")

    def refuse(**_: Any) -> None:
        raise Refusal("ResourceNotFoundException", "The resource you requested does not exist.")

    with monkeypatch.context() as patch:
        patch.setattr(consumer.mapping, "update", refuse)
        for why in ("will be stopped", "does not exist"):
            with pytest.raises(TargetNotReady, match=why):
                consumer.call("shift", state, weight=10)
    consumer.do("shift", state, weight=10)


def set_otherwise(consumer: Consumer) -> None:
    consumer.mapping.change(BatchSize=7)


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("kinesis", "ramp")], indirect=True)
@pytest.mark.parametrize("weights", POINTS)
@pytest.mark.parametrize("action", ["shift", "promote", "rollback"])
@pytest.mark.parametrize(
    ("change", "how"),
    [
        (point_elsewhere, "points at arn:.*:basket:live"),
        (set_otherwise, "has other settings"),
        (disable, "it was disabled"),
        (forget_mapping, "was deleted"),
        (lambda consumer: consumer.function.point("live", "5"), "points at an alias with version 5"),
        (split_alias, "points at an alias with version 6 and weights for version 5"),
        (lambda consumer: consumer.function.aliases.clear(), "points at an alias that does not exist"),
    ],
)
def test_a_ramp_leaves_what_somebody_else_has_changed_as_found(
    consumer: Consumer, weights: tuple[float, ...], action: str, change: Callable[[Consumer], None], how: str
) -> None:
    state = rolled_out(consumer, *weights)
    change(consumer)
    consumer.clock.sleep(10)
    consumer.mapping.told()
    found, alias, updates = (
        dict(consumer.mapping.fields),
        dict(consumer.function.aliases),
        len(consumer.mapping.updates),
    )
    with pytest.raises(TargetChanged, match=how):
        consumer.do(action, state, weight=50)
    assert (consumer.mapping.fields, consumer.function.aliases) == (found, alias)
    assert len(consumer.mapping.updates) == updates


@pytest.mark.parametrize("consumer", [("queue", "split"), ("kinesis", "split")], indirect=True)
@pytest.mark.parametrize("weights", POINTS)
@pytest.mark.parametrize("action", ["shift", "promote"])
@pytest.mark.parametrize(
    ("change", "how"),
    [(point_elsewhere, r"points at arn:.*:basket:live"), (disable, "it was disabled")],
)
def test_a_split_gives_no_more_to_a_candidate_that_the_mapping_does_not_invoke_and_takes_its_own_weights_back(
    consumer: Consumer, weights: tuple[float, ...], action: str, change: Callable[[Consumer], None], how: str
) -> None:
    state = rolled_out(consumer, *weights)
    change(consumer)
    found = consumer.mapping.told()
    with pytest.raises(TargetChanged, match=how):
        consumer.do(action, state, weight=100)
    assert consumer.function.serves() == ("6", {})
    assert consumer.mapping.told() == found


@pytest.mark.parametrize("consumer", [("queue", "split"), ("kinesis", "split")], indirect=True)
def test_a_split_whose_mapping_was_disabled_is_rolled_back_and_the_mapping_stays_disabled(consumer: Consumer) -> None:
    state = rolled_out(consumer, 10)
    disable(consumer)
    consumer.end(state, promoted=False)
    consumer.clock.sleep(10)
    assert (consumer.mapping.told()["State"], consumer.function.serves(), consumer.own) == ("Disabled", ("6", {}), [])


@pytest.mark.parametrize("consumer", [("queue", "split")], indirect=True)
def test_the_rollback_of_a_split_takes_its_own_weights_back_all_the_same_and_says_what_it_found(
    consumer: Consumer,
) -> None:
    state = rolled_out(consumer, 10)
    point_elsewhere(consumer)
    with pytest.raises(TargetChanged, match=r"points at arn:.*:basket:live"):
        consumer.do("rollback", state)
    assert consumer.function.serves() == ("6", {})


@pytest.mark.parametrize("consumer", [("fifo", "ramp"), ("kinesis", "ramp")], indirect=True)
@pytest.mark.parametrize("action", ["shift", "rollback"])
def test_a_mapping_that_was_stopped_runs_again_when_its_alias_was_moved_meanwhile(
    consumer: Consumer, action: str
) -> None:
    # GIVEN a mapping that is stopped and not drained yet, when somebody else moves its alias
    state = rolled_out(consumer, *((10,) if action == "rollback" else ()))
    with pytest.raises(TargetChanged, match="an alias with version 5"):  # noqa: PT012
        for _ in consumer.tries(action, state, weight=10):
            if consumer.mapping.told()["State"] == "Disabled":
                consumer.function.point("live", "5")
    # THEN it invokes what the alias names now, at full speed, and the alias is left as found
    if not consumer.queue:
        consumer.do("restore", state)
    consumer.assert_mapping_as_before()
    assert consumer.function.serves() == ("5", {})
    assert consumer.versions_at_work()[-1] == "5"


@pytest.mark.parametrize("consumer", [("fifo", "ramp"), ("kinesis", "ramp")], indirect=True)
@pytest.mark.parametrize("action", ["shift", "rollback"])
@pytest.mark.parametrize(
    ("change", "serves"), [(set_otherwise, "checkout:live"), (point_elsewhere, "basket:live")], ids=["set", "pointed"]
)
def test_a_mapping_that_was_stopped_runs_again_when_it_was_changed_meanwhile_and_keeps_the_change(
    consumer: Consumer, action: str, change: Callable[[Consumer], None], serves: str
) -> None:
    # GIVEN a mapping that is stopped and not drained yet, when somebody else changes it
    state = rolled_out(consumer, *((10,) if action == "rollback" else ()))
    changed: list[dict[str, Any]] = []
    with pytest.raises(TargetChanged, match="changed by somebody else"):  # noqa: PT012
        for _ in consumer.tries(action, state, weight=10):
            if consumer.mapping.told()["State"] == "Disabled" and not changed:
                change(consumer)
                changed.append(dict(consumer.mapping.fields))
    # THEN it runs, with what they have set, and the candidate is not at work
    consumer.clock.sleep(10)
    found = consumer.mapping.told()
    assert (found["State"], found["BatchSize"]) == ("Enabled", changed[0]["BatchSize"])
    assert found["FunctionArn"].endswith(f":{serves}")
    # AND so it stays
    with pytest.raises(TargetChanged, match="changed by somebody else"):
        consumer.do("rollback", state)
    assert consumer.mapping.told() == found


@pytest.mark.parametrize("consumer", [("queue", "ramp"), ("fifo", "ramp"), ("queue", "split")], indirect=True)
@pytest.mark.parametrize("promoted", [True, False])
def test_a_redrive_policy_that_somebody_else_has_set_stays_and_what_failed_goes_back_all_the_same(
    consumer: Consumer, *, promoted: bool
) -> None:
    state = consumer.do("promote" if promoted else "rollback", rolled_out(consumer, 10))
    consumer.fail("m-1")
    fifo = ".fifo" if consumer.queue.endswith(".fifo") else ""
    consumer.sqs.queue(f"other{fifo}")
    consumer.sqs.point(consumer.queue, json.dumps({"deadLetterTargetArn": arn(f"other{fifo}"), "maxReceiveCount": 9}))
    where = "in your own dead-letter queue" if promoted else f"back in {consumer.source}"
    # However often it is asked: an answer may be lost.
    for _ in range(2):
        with pytest.raises(TargetChanged, match=f"changed by somebody else: .*other.*what failed .* is {where}"):
            consumer.do("release" if promoted else "restore", state)
    assert consumer.sqs.queues[consumer.queue].dead_letters == f"other{fifo}"
    assert (consumer.bodies(consumer.team if promoted else consumer.queue), consumer.own) == (["m-1"], [])


@pytest.mark.parametrize("consumer", [("queue", "split")], indirect=True)
def test_a_queue_of_our_own_that_somebody_elses_policy_names_stays(consumer: Consumer) -> None:
    state = consumer.do("rollback", rolled_out(consumer, 10))
    consumer.fail("m-1")
    (own,) = consumer.own
    consumer.sqs.point(consumer.queue, json.dumps({"deadLetterTargetArn": arn(own), "maxReceiveCount": 9}))
    with pytest.raises(TargetChanged, match=f"changed by somebody else: .*what failed during the rollout is in {own}"):
        consumer.do("restore", state)
    assert (consumer.sqs.queues[consumer.queue].dead_letters, consumer.bodies(own)) == (own, ["m-1"])


@pytest.mark.parametrize("consumer", [("kinesis", "split"), ("dynamodb", "split")], indirect=True)
@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize(
    ("change", "how"), [(set_otherwise, "has other settings"), (point_elsewhere, "points at")], ids=["set", "pointed"]
)
def test_a_streams_mapping_that_somebody_else_has_changed_stays_and_what_failed_is_delivered_all_the_same(
    consumer: Consumer, change: Callable[[Consumer], None], how: str, *, promoted: bool, fails: bool
) -> None:
    state = consumer.do("promote" if promoted else "rollback", rolled_out(consumer, 10))
    consumer.give_up(1, 2)
    consumer.fails = lambda _: fails
    # WHEN somebody else changes the mapping before its failures go where they went
    change(consumer)
    consumer.clock.sleep(10)
    theirs = dict(consumer.mapping.fields)
    for _ in range(2):
        with pytest.raises(
            TargetChanged, match=f"{how}.*; what failed during the rollout (was redelivered|is in head)"
        ):
            consumer.do("release" if promoted else "restore", state)
    # THEN nothing of it is the rollout's any more, and what they have set stays
    assert consumer.mapping.fields == theirs | {"DestinationConfig": consumer.before["DestinationConfig"]}
    assert {version for version, _ in consumer.delivered} == {"7" if promoted else "6"}
    # AND what fails again is with the team; only where they have no place for it, it stays
    where = consumer.team if consumer.before["DestinationConfig"] == DESTINATION else "".join(consumer.own)
    assert consumer.own == ([where] if fails and where != consumer.team else [])
    assert not fails or len(consumer.bodies(where)) == 1


@pytest.mark.parametrize("consumer", WAYS, indirect=True)
def test_a_setting_that_no_rollout_changes_may_be_changed_meanwhile_and_stays(consumer: Consumer) -> None:
    state = rolled_out(consumer, 10)
    theirs = {"FunctionResponseTypes": ["ReportBatchItemFailures"], "MaximumBatchingWindowInSeconds": 5}
    consumer.mapping.change(**theirs)
    consumer.end(state, promoted=False)
    consumer.before |= theirs
    consumer.assert_as_before("6")


@pytest.mark.parametrize("consumer", [("kinesis", "split")], indirect=True)
def test_settings_that_somebody_else_sets_while_the_rollout_prepares_are_not_overwritten(consumer: Consumer) -> None:
    with pytest.raises(TargetChanged, match="has other settings"):  # noqa: PT012
        for _ in consumer.tries("prepare"):
            consumer.mapping.fields["BatchSize"] = 7
    assert consumer.mapping.fields["BatchSize"] == 7


# --- Throttles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", [("queue", "split"), ("fifo", "ramp"), ("kinesis", "split")], indirect=True)
@pytest.mark.parametrize("promoted", [True, False])
def test_whatever_sqs_throttles_is_asked_for_again(consumer: Consumer, *, promoted: bool) -> None:
    # GIVEN SQS, which throttles the first call of each operation
    asked: set[str] = set()

    def throttle(operation: str, _: str) -> None:
        if operation not in asked:
            asked.add(operation)
            raise Refusal("RequestThrottled")

    consumer.service.interrupt = throttle
    # WHEN a rollout goes from its beginning to its end
    consumer.end(rolled_out(consumer, 10), promoted=promoted)
    # THEN it gets there
    consumer.assert_as_before("7" if promoted else "6")
    assert asked >= {"CreateQueue", "GetQueueAttributes", "GetQueueUrl", "DeleteQueue"}


# --- Crashes ---------------------------------------------------------------------------------------------------------


SCRIPT: list[tuple[str, dict[str, float]]] = [
    ("prepare", {}),
    ("shift", {"weight": 10}),
    ("shift", {"weight": 0}),
    ("shift", {"weight": 50}),
    ("promote", {}),
    ("release", {}),
]


class World:
    """Messages and batches that fail while a rollout goes on, whose driver dies at some of its effects."""

    def __init__(self, consumer: Consumer, dies: set[tuple[int, str]], failing: list[bool]) -> None:
        self.consumer, self._dies, self._failing = consumer, dies, failing
        self.effects, self.failed = 0, 0
        self.batches: list[list[str]] = []
        for service in (consumer.service, consumer.function, consumer.record):
            service.interrupt = self._interrupt
        consumer.sqs.queues[consumer.team].messages.clear()
        consumer.sqs.queue("else", consumer.team)
        if not consumer.team.endswith(".fifo"):
            consumer.sqs.bury("else", "old")

    def _interrupt(self, _: str, when: str) -> None:
        self.effects += when == "before"
        if (self.effects, when) in self._dies:
            raise Crash

    def goes_on(self) -> None:
        """Something fails, or not."""
        if not self._failing or not self._failing.pop() or self.failed >= 9:
            return
        self.failed += 1
        if not self.consumer.queue:
            self.batches.append([str(self.failed)])
            self.consumer.give_up(self.failed, self.failed)
            return
        self.consumer.fail(f"m-{self.failed}")
        # For a minute after it was given back, the rollout's own queue may still be where dead letters go.
        own = self.consumer.own
        recently = self.consumer.clock.time() - self.consumer.sqs.pointed_at < 55
        if own and recently and self.consumer.sqs.queues[self.consumer.queue].dead_letters == self.consumer.team:
            team = self.consumer.sqs.queues[self.consumer.team].messages
            self.consumer.sqs.queues[own[0]].messages.append(team.pop())

    def roll_out(self, given_up_in: int, given_up_after: int) -> str:
        """Promote, unless a call of this number is given up after so many tries; the version that serves at the end."""
        state: dict[str, Any] = {}
        version = "7"
        for number, (action, event) in enumerate(SCRIPT):
            if action == "release" and not state.get("toRelease"):
                break
            answer = self._call(action, state, given_up_after if number == given_up_in else 1000, **event)
            if answer is None:
                version = "6"
                state = self._call("rollback", state) or {}
                state = (self._call("restore", state) or {}) if state.get("toRelease") else state
                break
            state = answer
        assert not state.get("toRelease")
        return version

    def _call(self, action: str, state: dict[str, Any], tries: int = 1000, **event: float) -> dict[str, Any] | None:
        for tried, answer in enumerate(self.consumer.tries(action, state, **event), 1):
            self.goes_on()
            if answer is not None or tried == tries:
                return answer
        return None

    def assert_nothing_lost(self) -> None:
        consumer = self.consumer
        teams = consumer.bodies(consumer.team)
        if consumer.queue:
            everything = [f"m-{number + 1}" for number in range(self.failed)]
            left = [body for body in [*consumer.bodies(consumer.queue), *teams] if body != "old"]
            assert set(left) == set(everything)
            # A process that dies between sending and deleting leaves a message twice; nothing else does.
            assert self._dies or sorted(left) == everything
        else:
            delivered = [sequences for _, sequences in consumer.delivered]
            assert all(batch in delivered or any(f': "{batch[0]}"' in body for body in teams) for batch in self.batches)
        assert consumer.team.endswith(".fifo") or teams.count("old") == 1


@pytest.mark.slow
@settings(max_examples=250)
@given(
    way=st.sampled_from(WAYS),
    dies=st.sets(st.tuples(st.integers(1, 150), st.sampled_from(["before", "after"])), max_size=8),
    given_up=st.tuples(st.integers(0, len(SCRIPT)), st.integers(1, 25)),
    failing=st.lists(st.booleans(), max_size=200),
)
def test_wherever_the_driver_dies_all_is_as_before_and_nothing_is_lost(
    lambda_client: Any,
    clients: dict[str, Any],
    way: tuple[str, str],
    dies: set[tuple[int, str]],
    given_up: tuple[int, int],
    failing: list[bool],
) -> None:
    # GIVEN a rollout that is promoted, or is given up in the middle of some call and rolled back
    function = FakeLambda()
    for _ in range(7):
        function.publish()
    function.point("live", "6")
    (source, mapped), mode = KINDS[way[0]], way[1]
    consumer = Consumer(function, lambda_client, clients["sqs"], source, **mapped)
    consumer.mode = mode
    with contextlib.ExitStack() as attached:
        attached.callback(function.attach(lambda_client))
        attached.callback(consumer.service.attach(clients["sqs"]))
        # A stream gives batches up only in a split, and here only where they went somewhere before.
        some_fail = bool(consumer.queue) or way == ("kinesis", "split")
        world = World(consumer, dies, failing if some_fail else [])
        # WHEN the driver dies before or after some of its effects, and is called again each time
        version = world.roll_out(*given_up)
        # THEN the mapping is as it was, one version alone was at work at a time, and every message is somewhere
        consumer.assert_as_before(version)
        world.assert_nothing_lost()
        assert mode == "split" or consumer.versions_at_work()
