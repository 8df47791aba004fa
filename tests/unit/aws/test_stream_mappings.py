"""What mappings do that a replay of their batches cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from headgate.aws.failed_batches import FailedBatch
from headgate.aws.stream_mappings import StreamMappings, mappings_to, stream_mapping
from headgate.aws.stream_replay import ReadRecords
from tests.fakes.streams import FakeFunctions, mapping_of

STREAM = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"
FAN_OUT = f"{STREAM}/consumer/checkout:1795000000"
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:orders"
ORDERS = FailedBatch(True, STREAM, "shardId-1", "1", "3", 3, f"{FUNCTION}:live")


def test_all_mappings_of_a_stream_are_found() -> None:
    functions = FakeFunctions(lambda _: None)
    functions.mappings = [mapping_of(f"{FUNCTION}:{number}") for number in range(3)]
    functions.mappings += [mapping_of(f"{FUNCTION}:fan-out", EventSourceArn=FAN_OUT)]
    functions.mappings += [mapping_of(f"{FUNCTION}:queue", EventSourceArn="arn:aws:sqs:eu-central-1:123456789012:q")]
    mappings = StreamMappings(functions)
    assert [mapping.function.rpartition(":")[2] for mapping in mappings.of(STREAM)] == ["0", "1", "2"]
    assert [mapping.function.rpartition(":")[2] for mapping in mappings.of(FAN_OUT)] == ["fan-out"]
    assert [mapping.function.rpartition(":")[2] for mapping in mappings.of_all_streams()] == ["0", "1", "2", "fan-out"]


def test_mappings_are_listed_with_parameters_that_lambda_knows() -> None:
    functions = boto3.client("lambda", region_name="eu-central-1")
    listed = {"EventSourceMappings": [mapping_of(TumblingWindowInSeconds=60)], "NextMarker": "more"}
    with Stubber(functions) as stub:
        for wanted in ({"EventSourceArn": STREAM}, {}):
            stub.add_response("list_event_source_mappings", listed, wanted)
            stub.add_response("list_event_source_mappings", {"EventSourceMappings": []}, {**wanted, "Marker": "more"})
        [mapping] = StreamMappings(functions).of(STREAM)
        assert StreamMappings(functions).of_all_streams() == [mapping]
    assert (mapping.window_seconds, mapping.on_failure.rpartition(":")[2]) == (60, "orders-gave-up")


@pytest.mark.parametrize(
    ("batch", "made"),
    [
        (ORDERS, True),
        (replace(ORDERS, function=f"{FUNCTION}:7"), True),
        (replace(ORDERS, function=f"{FUNCTION}-2:live"), False),
        (replace(ORDERS, stream=f"{STREAM}-2"), False),
    ],
)
def test_a_mapping_makes_batches_of_its_stream_and_function(batch: FailedBatch, *, made: bool) -> None:
    assert stream_mapping(mapping_of(f"{FUNCTION}:live")).made(batch) is made
    assert stream_mapping(mapping_of(f"{FUNCTION}:live", EventSourceArn=FAN_OUT)).made(batch) is made


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (f"{FUNCTION}:live", ["live"]),
        (f"{FUNCTION}:6", ["live", "beta"]),
        (FUNCTION, ["live", "beta"]),
        ("orders:beta", ["beta"]),
        ("orders", ["live", "beta"]),
        ("order", []),
    ],
)
def test_a_function_has_the_mappings_of_its_alias_or_else_all_of_its_own(function: str, found: list[str]) -> None:
    names = (f"{FUNCTION}:live", f"{FUNCTION}:beta", f"{FUNCTION}-2:live")
    mappings = [stream_mapping(mapping_of(name)) for name in names]
    assert [mapping.function.rpartition(":")[2] for mapping in mappings_to(function, mappings)] == found


@pytest.mark.parametrize(
    ("settings", "window", "filters"),
    [
        ({}, 0, False),
        ({"TumblingWindowInSeconds": 0, "FilterCriteria": {"Filters": []}}, 0, False),
        ({"TumblingWindowInSeconds": 900}, 900, False),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}, 0, True),
        # A list hides a filter that is encrypted with a key of its own.
        ({"FilterCriteria": None, "KMSKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1"}, 0, True),
    ],
)
def test_a_window_and_a_filter_are_read_off_a_mapping(settings: dict[str, Any], window: int, *, filters: bool) -> None:
    mapping = stream_mapping(mapping_of(**settings))
    assert (mapping.window_seconds, mapping.filters, bool(mapping.window_fault())) == (window, filters, window > 0)


@pytest.mark.parametrize(("lost", "others", "exact"), [(0, 0, True), (0, 1, False), (1, 0, False)])
def test_a_filtered_batch_is_known_only_if_its_range_holds_all_of_it_and_nothing_else(
    lost: int, others: int, *, exact: bool
) -> None:
    read = ReadRecords([{}, {}], lost, others)
    assert stream_mapping(mapping_of()).range_fault(read) == ""
    filtering = stream_mapping(mapping_of(FilterCriteria={"Filters": [{"Pattern": "{}"}]}))
    assert bool(filtering.range_fault(read)) != exact
