"""The telemetry client: reports every outcome it can, and never costs the service a request."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ReadTimeoutError

from headgate import telemetry as module
from headgate.analysis.telemetry_counter import parse_record
from headgate.telemetry import (
    HOLD_OFF_SECONDS,
    MAX_BUFFERED,
    MAX_UNIT,
    PARTITIONS,
    THROTTLED_SECONDS,
    Telemetry,
    target_of,
)
from tests.builders import ROOT
from tests.fakes.services import FakeStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:checkout"


def context(qualifier: str = ":live") -> Any:
    return SimpleNamespace(invoked_function_arn=FUNCTION + qualifier, function_version="7")


def handler(event: Any, context: Any) -> Any:
    if event == "bad":
        raise KeyError("basket")
    return {"total": event}


class SilentStream(FakeStream):
    """A stream that may not answer, so that each try of a client costs its timeout."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.silent = False
        self.tries: list[float] = []
        """When it was tried."""
        self._clock = clock

    def PutRecord(self, **given: Any) -> dict[str, Any]:  # noqa: N802
        self.tries.append(self._clock.now)
        if self.silent:
            self._clock.now += 1
            raise ReadTimeoutError(endpoint_url="https://kinesis")
        return super().PutRecord(**given)


@pytest.fixture(scope="module")
def kinesis(_nobodys_account: None) -> Any:
    return boto3.client("kinesis")


@pytest.fixture
def stream(kinesis: Any) -> Iterator[FakeStream]:
    fake = FakeStream()
    detach = fake.attach(kinesis)
    yield fake
    detach()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Time that passes only when told to."""
    fake = SimpleNamespace(now=1_000.0)
    readings = {name: lambda: fake.now for name in ("time", "monotonic", "perf_counter")}
    monkeypatch.setattr(module, "time", SimpleNamespace(**readings))
    return fake


@pytest.fixture
def silent(kinesis: Any, clock: Any) -> Iterator[SilentStream]:
    fake = SilentStream(clock)
    fake.silent = True
    detach = fake.attach(kinesis)
    yield fake
    detach()


def sent(stream: FakeStream) -> list[list[Any]]:
    return [json.loads(record["Data"])["outcomes"] for record in stream.records]


def told_of(kinesis: Any, **settings: Any) -> Telemetry:
    """The client of a service that tells each outcome by itself."""
    return Telemetry("telemetry", kinesis, target="lambda-alias/orders/live", revision="7", **settings)


def goods(stream: FakeStream) -> list[bool]:
    """How each request went, of all that was sent."""
    return [ok for outcomes in sent(stream) for _, ok, *_ in outcomes]


def fail(observed: Any, context: Any) -> None:
    with pytest.raises(KeyError):
        observed("bad", context)


def test_what_the_handler_returns_and_raises_is_unchanged(stream: FakeStream, kinesis: Any) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    assert observed(3.5, context()) == {"total": 3.5}
    assert observed(event=3.5, context=context()) == {"total": 3.5}
    with pytest.raises(KeyError, match="basket"):
        observed("bad", context())
    assert observed.__name__ == "handler"


def test_a_failure_goes_out_at_once_with_the_successes_that_waited(
    stream: FakeStream, kinesis: Any, clock: Any
) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    for _ in range(3):
        observed(1, context())
    assert len(stream.records) == 1
    fail(observed, context())
    assert [[ok for _, ok, _ in outcomes] for outcomes in sent(stream)] == [[True], [True, True, False]]


def test_a_new_environments_first_request_goes_out_at_once_good_or_bad(
    stream: FakeStream, kinesis: Any, clock: Any
) -> None:
    for begins_well in (True, False):
        observed = Telemetry("telemetry", kinesis).observe(handler)
        observed(1, context()) if begins_well else fail(observed, context())
    assert [[ok for _, ok, _ in outcomes] for outcomes in sent(stream)] == [[True], [False]]


def test_outcomes_are_kept_apart_by_the_alias_that_they_came_by(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    observed(1, context())
    for qualifier in (":live", ":beta", ":live"):
        observed(1, context(qualifier))
    fail(observed, context(":beta"))
    told = [json.loads(record["Data"]) for record in stream.records[1:]]
    assert {record["target"]: [ok for _, ok, _ in record["outcomes"]] for record in told} == {
        "lambda-alias/checkout/live": [True, True],
        "lambda-alias/checkout/beta": [True, False],
    }
    keys = [record["PartitionKey"].rsplit("#", 1)[0] for record in stream.records[1:]]
    assert keys == [record["target"] for record in told]


@pytest.mark.parametrize("error", ["InternalFailure", "RequestTimeout", "ServiceUnavailable"])
def test_what_may_have_arrived_is_not_sent_again(stream: FakeStream, kinesis: Any, clock: Any, error: str) -> None:
    # GIVEN an answer that leaves open whether the record arrived
    observed = Telemetry("telemetry", kinesis).observe(handler)
    stream.down, stream.error = True, error
    fail(observed, context())
    # WHEN the stream answers again, THEN nothing is counted twice
    stream.down = False
    clock.now += HOLD_OFF_SECONDS
    fail(observed, context())
    assert [[ok for _, ok, _ in outcomes] for outcomes in sent(stream)] == [[False]]


def test_a_throttled_record_keeps_the_other_aliases_too(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    stream.down = True
    for qualifier in (":live", ":beta"):
        fail(observed, context(qualifier))
        clock.now += THROTTLED_SECONDS
    assert stream.records == []
    stream.down = False
    fail(observed, context())
    told = [json.loads(record["Data"]) for record in stream.records]
    assert {record["target"][-4:]: len(record["outcomes"]) for record in told} == {"live": 2, "beta": 1}


def test_successes_go_out_when_the_last_record_is_a_second_old(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    for _ in range(25):
        observed(1, context())
        clock.now += 0.1
    assert [len(outcomes) for outcomes in sent(stream)] == [1, 10, 10]


def test_every_outcome_is_sent_once(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    for number in range(40):
        clock.now += 0.3
        fail(observed, context()) if number % 7 == 0 else observed(1, context())
    fail(observed, context())
    begun = [begun for record in sent(stream) for begun, _, _ in record]
    assert len(begun) == 41
    assert begun == sorted(begun)


def test_a_record_says_when_each_request_began_and_how_long_it_took(
    stream: FakeStream, kinesis: Any, clock: Any
) -> None:
    def slow(event: Any, context: Any) -> None:
        clock.now += 2.5

    observed = Telemetry("telemetry", kinesis, flush_seconds=0).observe(slow)
    for _ in range(3):
        observed({}, context())
    # A new environment's first request pays for its start, which says nothing of the revision.
    assert [outcome for outcomes in sent(stream) for outcome in outcomes] == [
        [1_000_000, True, None],
        [1_002_500, True, 2500.0],
        [1_005_000, True, 2500.0],
    ]


def test_a_record_is_what_the_counter_reads(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    fail(Telemetry("telemetry", kinesis).observe(unit=lambda *_: "kim")(handler), context())
    (record,) = stream.records
    parsed = parse_record("shard", record["PartitionKey"], "42", record["Data"])
    assert (parsed.target, parsed.revision) == ("lambda-alias/checkout/live", "7")
    assert parsed.outcomes == ((1_000_000, False, None, "kim"),)


def test_outcomes_of_invocations_are_sent_apart_from_others_and_say_so(
    stream: FakeStream, kinesis: Any, clock: Any
) -> None:
    telemetry = Telemetry("telemetry", kinesis, target="lambda-alias/checkout/live", revision="7")
    fail(telemetry.observe(handler), context())
    telemetry.record(ok=False)
    telemetry.tell(ok=False)
    read = [parse_record("s", record["PartitionKey"], "1", record["Data"]) for record in stream.records]
    assert [(record.observed, len(record.outcomes)) for record in read] == [(True, 1), (False, 1), (False, 1)]


def test_each_environment_reports_under_its_own_name(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    for _ in range(2):
        observed = Telemetry("telemetry", kinesis).observe(handler)
        for _ in range(2):
            fail(observed, context())
    names = [json.loads(record["Data"])["instance"] for record in stream.records]
    assert len(set(names)) == 2
    assert names[:2] == names[:1] * 2


def test_environments_that_start_from_one_snapshot_are_not_one_instance(stream: FakeStream, kinesis: Any) -> None:
    # GIVEN what a snapshot holds: a client that was made and has not reported yet
    telemetry, lock = Telemetry("telemetry", kinesis), threading.Lock()
    for _ in range(2):
        restored = object.__new__(Telemetry)
        vars(restored).update(vars(telemetry) | {"_buffers": {}, "_lock": lock})
        fail(restored.observe(handler), context())
    assert len({json.loads(record["Data"])["instance"] for record in stream.records}) == 2


def born(stream: FakeStream) -> list[int]:
    return [json.loads(record["Data"])["born"] for record in stream.records]


def test_an_environment_begins_with_its_first_request(
    stream: FakeStream, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry, now = Telemetry("telemetry", kinesis, target="lambda-alias/a/b", revision="7"), 1_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    observed = telemetry.observe(handler)
    # GIVEN a first request by a version, which is not reported
    fail(observed, context(":7"))
    now = 1_010.0
    fail(observed, context())
    telemetry.record(ok=False)
    assert born(stream) == [1_000_000] * 2


def test_a_client_that_only_records_begins_with_its_first_record(stream: FakeStream, kinesis: Any) -> None:
    telemetry = Telemetry("telemetry", kinesis, target="lambda-alias/a/b", revision="7")
    telemetry.record(ok=False, began=1_000.5)
    telemetry.record(ok=False, began=1_900.0)
    assert born(stream) == [1_000_500] * 2


def test_an_environment_that_starts_from_a_snapshot_begins_when_it_is_restored(
    stream: FakeStream, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a client that was made long before its environment was restored
    now = 1_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    observed = Telemetry("telemetry", kinesis).observe(handler)
    now = 9_000.0
    fail(observed, context())
    assert born(stream) == [9_000_000]


def test_partition_keys_are_few(stream: FakeStream, kinesis: Any) -> None:
    for _ in range(60):
        fail(Telemetry("telemetry", kinesis).observe(handler), context())
    keys = {record["PartitionKey"] for record in stream.records}
    assert keys <= {f"lambda-alias/checkout/live#{number}" for number in range(PARTITIONS)}
    assert len(keys) > 1


@pytest.mark.parametrize("name", ["telemetry", "arn:aws:kinesis:eu-central-1:123456789012:stream/telemetry"])
def test_a_stream_is_known_by_name_or_arn(stream: FakeStream, kinesis: Any, name: str) -> None:
    fail(Telemetry(name, kinesis).observe(handler), context())
    (record,) = stream.records
    assert record.get("StreamARN" if name.startswith("arn:") else "StreamName") == name


def test_a_stream_that_is_down_costs_nothing_and_its_outcomes_go_out_later(
    stream: FakeStream, kinesis: Any, clock: Any
) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    stream.down = True
    fail(observed, context())
    clock.now += 2
    assert observed(1, context()) == {"total": 1}  # Throttled, which is a quick answer.
    stream.down = False
    clock.now += 2
    observed(1, context())
    assert [[ok for _, ok, _ in outcomes] for outcomes in sent(stream)] == [[False, True, True]]


def test_a_throttled_stream_is_tried_once_a_second(silent: SilentStream, kinesis: Any, clock: Any) -> None:
    silent.silent, silent.down = False, True
    observed = Telemetry("telemetry", kinesis).observe(handler)
    for _ in range(100):
        fail(observed, context())
        clock.now += THROTTLED_SECONDS / 20
    assert len(silent.tries) == pytest.approx(5, abs=1)


def test_a_stream_that_stays_down_does_not_fill_the_memory(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=1e9)
    observed = telemetry.observe(handler)
    stream.down = True
    for _ in range(MAX_BUFFERED + 50):
        observed(1, context())
    stream.down = False
    clock.now += THROTTLED_SECONDS
    fail(observed, context())
    assert len(sent(stream)[0]) == MAX_BUFFERED
    assert len(stream.records[0]["Data"]) < 1024 * 1024


@pytest.mark.parametrize("nothing", [None, SimpleNamespace()])
def test_a_context_that_is_none_of_lambdas_breaks_nothing(stream: FakeStream, kinesis: Any, nothing: Any) -> None:
    observed = Telemetry("telemetry", kinesis, flush_seconds=0).observe(handler)
    assert observed(1, nothing) == {"total": 1}
    assert stream.records == []


@pytest.mark.parametrize("qualifier", ["", ":$LATEST", ":7"])
def test_what_came_by_no_alias_is_not_reported(stream: FakeStream, kinesis: Any, qualifier: str) -> None:
    fail(Telemetry("telemetry", kinesis).observe(handler), context(qualifier))
    assert stream.records == []


def test_without_a_stream_telemetry_is_off(stream: FakeStream, caplog: pytest.LogCaptureFixture) -> None:
    fail(Telemetry("").observe(handler), context())
    Telemetry("").tell(ok=False)
    assert stream.records == []
    assert not caplog.records


def test_the_target_is_the_alias_that_an_invocation_came_by() -> None:
    assert target_of(context()) == "lambda-alias/checkout/live"
    assert target_of(context("")) is None


def test_nothing_is_asked_of_aws_between_two_records(silent: SilentStream, kinesis: Any, clock: Any) -> None:
    silent.silent = False
    observed = Telemetry("telemetry", kinesis).observe(handler)
    for _ in range(1_000):
        observed(1, context())
    assert len(silent.tries) == 1


def test_an_unused_client_has_not_even_made_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("made too early")

    monkeypatch.setattr(boto3, "client", refuse)
    Telemetry("telemetry").observe(handler)


@pytest.mark.usefixtures("clock", "stream")
class TestUnits:
    def test_a_failure_names_its_unit_and_a_success_does_not(self, stream: FakeStream, kinesis: Any) -> None:
        observed = Telemetry("telemetry", kinesis).observe(unit=lambda event, _: f"client {event}")(handler)
        assert observed(1, context()) == {"total": 1}
        fail(observed, context())
        assert [outcome[3:] for outcomes in sent(stream) for outcome in outcomes] == [[], ["client bad"]]

    def test_it_is_named_for_failures_only(self, kinesis: Any) -> None:
        asked = []
        observed = Telemetry("telemetry", kinesis).observe(unit=lambda event, _: asked.append(event))(handler)
        observed(1, context())
        fail(observed, context())
        assert asked == ["bad"]

    def test_it_is_named_from_event_and_context_however_they_are_given(self, stream: FakeStream, kinesis: Any) -> None:
        named = Telemetry("telemetry", kinesis).observe(unit=lambda event, context: event + context.function_version)
        with pytest.raises(KeyError):
            named(handler)(event="bad", context=context())
        assert sent(stream)[0][0][3] == "bad7"

    def test_long_names_are_cut(self, stream: FakeStream, kinesis: Any) -> None:
        fail(Telemetry("telemetry", kinesis).observe(unit=lambda *_: "x" * 1_000)(handler), context())
        told_of(kinesis).tell(ok=False, unit="y" * 1_000)
        assert [outcomes[0][3] for outcomes in sent(stream)] == ["x" * MAX_UNIT, "y" * MAX_UNIT]

    @pytest.mark.parametrize("name", [None, ""])
    def test_what_has_no_name_is_no_unit(self, stream: FakeStream, kinesis: Any, name: str | None) -> None:
        fail(Telemetry("telemetry", kinesis).observe(unit=lambda *_: name)(handler), context())
        told_of(kinesis).tell(ok=False, unit=name)
        assert [len(outcome) for outcomes in sent(stream) for outcome in outcomes] == [3, 3]

    def test_a_name_that_is_no_text_is_told_as_text(self, stream: FakeStream, kinesis: Any) -> None:
        number: Any = 0
        fail(Telemetry("telemetry", kinesis).observe(unit=lambda *_: number)(handler), context())
        assert sent(stream)[0][0][3] == "0"

    def test_where_it_cannot_be_named_the_failure_is_told_all_the_same(self, stream: FakeStream, kinesis: Any) -> None:
        class Nameless:
            def __str__(self) -> str:
                raise ValueError("no name")

        nameless: Any = Nameless()
        for unit in (lambda event, _: event["clientId"], lambda *_: nameless):
            fail(Telemetry("telemetry", kinesis).observe(unit=unit)(handler), context())
        assert [[outcome[1:] for outcome in outcomes] for outcomes in sent(stream)] == [[[False, None]]] * 2

    def test_they_do_not_make_a_record_too_large(self, stream: FakeStream, kinesis: Any, clock: Any) -> None:
        telemetry = told_of(kinesis)
        stream.down = True
        for number in range(MAX_BUFFERED):
            telemetry.tell(ok=False, milliseconds=12_345.6, unit=f"{number:064}")
        stream.down = False
        clock.now += THROTTLED_SECONDS
        telemetry.tell(ok=False)
        (record,) = stream.records
        assert len(json.loads(record["Data"])["outcomes"]) == MAX_BUFFERED
        assert len(record["Data"]) < 1024 * 1024


@pytest.mark.usefixtures("clock")
class TestTell:
    def test_it_reports_on_the_target_and_revision_that_the_client_was_made_for(
        self, stream: FakeStream, kinesis: Any
    ) -> None:
        telemetry = told_of(kinesis)
        telemetry.tell(ok=True, milliseconds=500)
        telemetry.tell(ok=True, milliseconds=20, began=1_234.5)
        telemetry.tell(ok=False, unit="message-1")
        read = [parse_record("s", record["PartitionKey"], "1", record["Data"]) for record in stream.records]
        assert {(record.target, record.revision) for record in read} == {("lambda-alias/orders/live", "7")}
        assert [tuple(outcome) for record in read for outcome in record.outcomes] == [
            (999_500, True, 500.0, None),
            (1_234_500, True, 20.0, None),
            (1_000_000, False, None, "message-1"),
        ]

    def test_record_is_another_name_of_it(self, stream: FakeStream, kinesis: Any) -> None:
        telemetry = told_of(kinesis)
        telemetry.tell(ok=False, milliseconds=20, unit="message-1", began=2.0)
        telemetry.record(ok=False, milliseconds=20, unit="message-1", began=2.0)
        told, recorded = [json.loads(record["Data"]) for record in stream.records]
        assert recorded == told
        assert recorded["outcomes"] == [[2_000, False, 20.0, "message-1"]]

    @pytest.mark.parametrize("known", [{}, {"target": "ecs-service/shop/web"}, {"revision": "7"}])
    def test_it_only_warns_where_it_does_not_know_of_what(
        self, stream: FakeStream, kinesis: Any, caplog: pytest.LogCaptureFixture, known: dict[str, Any]
    ) -> None:
        Telemetry("telemetry", kinesis, **known).tell(ok=False)
        assert stream.records == []
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert "Telemetry(..., target=, revision=)" in str(warning.exc_info)

    @pytest.mark.parametrize("time", [float("nan"), float("inf"), -0.5])
    def test_a_time_that_cannot_be_does_not_cost_the_others_of_its_record(
        self, stream: FakeStream, kinesis: Any, time: float
    ) -> None:
        telemetry = told_of(kinesis)
        telemetry.tell(ok=True, milliseconds=1)
        telemetry.tell(ok=True, milliseconds=time, began=1.0)
        telemetry.tell(ok=False, milliseconds=2)
        read = parse_record("s", "k", "1", stream.records[1]["Data"])
        assert [outcome.milliseconds for outcome in read.outcomes] == [None, 2.0]

    def test_it_takes_what_is_almost_a_bool_or_a_number(self, stream: FakeStream, kinesis: Any) -> None:
        numpy = pytest.importorskip("numpy")
        told_of(kinesis).tell(ok=numpy.bool_(False), milliseconds=numpy.float32(12.5))
        assert sent(stream)[0][0][1:] == [False, 12.5]

    def test_a_time_without_sense_is_only_warned_of(self, stream: FakeStream, kinesis: Any) -> None:
        telemetry = told_of(kinesis)
        telemetry.tell(ok=False, began=float("inf"))
        telemetry.tell(ok=False)
        assert goods(stream) == [False]

    @pytest.mark.parametrize("down", [False, True])
    def test_what_is_told_while_a_record_is_on_its_way_goes_with_the_next(
        self, stream: FakeStream, kinesis: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, down: bool
    ) -> None:
        telemetry, put = told_of(kinesis), stream.PutRecord

        def meanwhile(**given: Any) -> dict[str, Any]:
            telemetry.tell(ok=True, began=2.0)
            return put(**given)

        stream.down = down
        with monkeypatch.context() as patch:
            patch.setattr(stream, "PutRecord", meanwhile)
            telemetry.tell(ok=False, began=1.0)
        stream.down = False
        clock.now += THROTTLED_SECONDS
        telemetry.tell(ok=False, began=3.0)
        assert [at for outcomes in sent(stream) for at, *_ in outcomes] == [1_000, 2_000, 3_000]

    def test_threads_lose_nothing_and_tell_nothing_twice(self, stream: FakeStream, kinesis: Any) -> None:
        telemetry, each, threads = told_of(kinesis), 200, 4

        def serve(thread: int) -> None:
            for number in range(each):
                telemetry.tell(ok=number % 3 > 0, began=float(thread * each + number))

        serving = [threading.Thread(target=serve, args=(thread,)) for thread in range(threads)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for one in serving:
                one.start()
            for one in serving:
                one.join()
        finally:
            sys.setswitchinterval(before)
        telemetry.tell(ok=False, began=float(threads * each))
        told = sorted(at // 1000 for outcomes in sent(stream) for at, *_ in outcomes)
        assert told == list(range(threads * each + 1))


class TestAStreamThatDoesNotAnswer:
    def test_it_is_tried_a_few_times_only(self, silent: SilentStream, kinesis: Any, clock: Any) -> None:
        # WHEN five minutes of requests fail, THEN the pause after each try is twice the last one, up to a minute
        observed = Telemetry("telemetry", kinesis).observe(handler)
        for _ in range(3_000):
            clock.now += 0.1
            fail(observed, context())
        pauses = [round(later - earlier - 1) for earlier, later in zip(silent.tries, silent.tries[1:], strict=False)]
        assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]

    def test_outcomes_that_were_not_given_up_are_told_later(
        self, silent: SilentStream, kinesis: Any, clock: Any
    ) -> None:
        observed = Telemetry("telemetry", kinesis).observe(handler)
        fail(observed, context())  # Nobody knows whether this one arrived.
        for _ in range(3):
            observed(1, context())
            fail(observed, context())
        silent.silent = False
        clock.now += HOLD_OFF_SECONDS
        observed(1, context())
        assert goods(silent) == [True, False] * 3 + [True]

    def test_what_is_told_of_others_waits_with_them(self, silent: SilentStream, kinesis: Any, clock: Any) -> None:
        observed = Telemetry("telemetry", kinesis, flush_seconds=60).observe(handler)
        silent.silent = False
        observed(1, context(":beta"))
        observed(1, context(":beta"))
        observed(1, context())
        silent.silent = True
        fail(observed, context())  # The record of :beta went first, and may have arrived.
        silent.silent = False
        clock.now += HOLD_OFF_SECONDS
        fail(observed, context())
        assert [[ok for _, ok, _ in outcomes] for outcomes in sent(silent)] == [[True], [True, False, False]]

    def test_an_answer_ends_the_waiting(self, silent: SilentStream, kinesis: Any, clock: Any) -> None:
        observed = Telemetry("telemetry", kinesis).observe(handler)
        for _ in range(4):
            fail(observed, context())
            clock.now += 60
        silent.silent = False
        fail(observed, context())
        fail(observed, context())
        assert goods(silent) == [False, False]
        # WHEN it falls silent again, THEN the waiting begins anew
        silent.silent = True
        fail(observed, context())
        tries = len(silent.tries)
        clock.now += HOLD_OFF_SECONDS
        fail(observed, context())
        assert len(silent.tries) == tries + 1

    def test_a_client_that_cannot_be_made_is_not_made_at_each_request(
        self, silent: SilentStream, kinesis: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []

        def make(*_: Any, **__: Any) -> Any:
            made.append(clock.now)
            if len(made) == 1:
                raise RuntimeError("no Region")
            return kinesis

        monkeypatch.setattr(boto3, "client", make)
        silent.silent = False
        observed = Telemetry("telemetry").observe(handler)
        for _ in range(10):
            fail(observed, context())
        assert len(made) == 1
        clock.now += HOLD_OFF_SECONDS
        fail(observed, context())
        assert goods(silent) == [False] * 11


class TestOtherDecorators:
    """Those of Powertools, which services wear most."""

    CONTEXT = SimpleNamespace(
        invoked_function_arn=f"{FUNCTION}:live",
        function_version="7",
        function_name="checkout",
        memory_limit_in_mb=128,
        aws_request_id="1-2-3",
    )

    @pytest.mark.parametrize("above", [True, False])
    @pytest.mark.parametrize("named", [True, False])
    def test_they_may_stand_above_or_below(self, stream: FakeStream, kinesis: Any, above: bool, named: bool) -> None:
        logger, telemetry = Logger(service="checkout"), Telemetry("telemetry", kinesis)
        observe = telemetry.observe(unit=lambda _, context: context.aws_request_id) if named else telemetry.observe
        inject = logger.inject_lambda_context(correlation_id_path="id", clear_state=True)
        observed: Any = inject(observe(handler)) if above else observe(inject(handler))
        assert observed(1, self.CONTEXT) == {"total": 1}
        fail(observed, self.CONTEXT)
        with pytest.raises(KeyError):
            observed(event="bad", context=self.CONTEXT)
        assert goods(stream) == [True, False, False]
        assert [outcomes[0][3:] for outcomes in sent(stream)[1:]] == [["1-2-3"] if named else []] * 2


def test_a_handler_keeps_its_signature_for_mypy(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(TYPED)
    # Without boto3's types, which are many and change nothing here.
    options = ["--strict", "--no-site-packages", "--ignore-missing-imports", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "service.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "layers/headgate/python"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line.split(": ", 1)[1] for line in done.stdout.splitlines() if "note: Revealed" in line]
    signature = 'note: Revealed type is "def (event: dict[str, int], context: object) -> str"'
    assert told == [signature] * 2, done.stdout + done.stderr
    assert {line.split(":")[1] for line in done.stdout.splitlines() if ": error: " in line} == {"20"}, done.stdout


TYPED = """
from headgate.telemetry import Telemetry

telemetry = Telemetry("telemetry")


@telemetry.observe
def bare(event: dict[str, int], context: object) -> str:
    return ""


@telemetry.observe(unit=lambda event, context: str(event["clientId"]))
def named(event: dict[str, int], context: object) -> str:
    return ""


reveal_type(bare)
reveal_type(named)

telemetry.observe(by="nothing")
"""
