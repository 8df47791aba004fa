"""The telemetry client: reports every outcome it can, and never costs the service a request."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate import telemetry as module
from headgate.evidence import parse
from headgate.telemetry import MAX_BUFFERED, PARTITIONS, Telemetry, target_of
from tests.unit.services import FakeStream

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:checkout"


def context(qualifier: str = ":live") -> Any:
    return SimpleNamespace(invoked_function_arn=FUNCTION + qualifier, function_version="7")


def handler(event: Any, context: Any) -> Any:
    if event == "bad":
        raise KeyError("basket")
    return {"total": event}


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


def sent(stream: FakeStream) -> list[list[Any]]:
    return [json.loads(record["Data"])["outcomes"] for record in stream.records]


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
    fail(observed, context())
    assert [[ok for _, ok, _ in outcomes] for outcomes in sent(stream)] == [[False]]


def test_a_throttled_record_keeps_the_other_aliases_too(stream: FakeStream, kinesis: Any, clock: Any) -> None:
    observed = Telemetry("telemetry", kinesis).observe(handler)
    stream.down = True
    for qualifier in (":live", ":beta"):
        fail(observed, context(qualifier))
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

    Telemetry("telemetry", kinesis).observe(slow)({}, context())
    assert sent(stream) == [[[1_000_000, True, 2500.0]]]


def test_a_record_is_what_the_counter_reads(stream: FakeStream, kinesis: Any) -> None:
    fail(Telemetry("telemetry", kinesis).observe(handler), context())
    (record,) = stream.records
    parsed = parse("shard", record["PartitionKey"], "42", record["Data"])
    assert (parsed.target, parsed.revision) == ("lambda-alias/checkout/live", "7")
    assert [outcome.ok for outcome in parsed.outcomes] == [False]


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
    assert observed(1, context()) == {"total": 1}
    stream.down = False
    clock.now += 2
    observed(1, context())
    assert [[ok for _, ok, _ in outcomes] for outcomes in sent(stream)] == [[False, True, True]]


def test_a_stream_that_stays_down_does_not_fill_the_memory(stream: FakeStream, kinesis: Any) -> None:
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=1e9)
    observed = telemetry.observe(handler)
    stream.down = True
    for _ in range(MAX_BUFFERED + 50):
        observed(1, context())
    stream.down = False
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


def test_without_a_stream_telemetry_is_off(stream: FakeStream) -> None:
    fail(Telemetry("").observe(handler), context())
    assert stream.records == []


def test_the_target_is_the_alias_that_an_invocation_came_by() -> None:
    assert target_of(context()) == "lambda-alias/checkout/live"
    assert target_of(context("")) is None
