"""Event sources: every gap between MiniStack and AWS is filled in the embedded AWS, and still there in MiniStack.

When a test of the second kind fails, MiniStack has closed the gap: remove the module which fills it.
"""

import time
from typing import Any

import pytest

from tests.local.clients import ECHO, Aws, error_code, eventually

pytestmark = pytest.mark.embedded


class Mapping:
    """An event source mapping."""

    def __init__(self, aws: Aws, function: str, source: str, **settings: Any) -> None:
        """Create it and wait until it is there."""
        self._aws = aws
        created = aws.lambda_.create_event_source_mapping(FunctionName=function, EventSourceArn=source, **settings)
        self.uuid = created["UUID"]
        self.settled()

    def get(self) -> dict[str, Any]:
        """What GetEventSourceMapping answers."""
        return dict(self._aws.lambda_.get_event_source_mapping(UUID=self.uuid))

    def settled(self) -> dict[str, Any]:
        """What it answers once it is Enabled or Disabled."""
        eventually(lambda: self.get()["State"] in ("Enabled", "Disabled"))
        return self.get()

    def start_update(self, **settings: Any) -> dict[str, Any]:
        """What UpdateEventSourceMapping answers."""
        return dict(self._aws.lambda_.update_event_source_mapping(UUID=self.uuid, **settings))

    def update(self, **settings: Any) -> dict[str, Any]:
        """Update and wait until it is done."""
        self.start_update(**settings)
        return self.settled()


def stream(aws: Aws, name: str = "stream", shards: int = 1) -> str:
    """The ARN of a new Kinesis stream."""
    aws.kinesis.create_stream(StreamName=f"{aws.prefix}-{name}", ShardCount=shards)
    described = aws.kinesis.describe_stream
    eventually(
        lambda: described(StreamName=f"{aws.prefix}-{name}")["StreamDescription"]["StreamStatus"] == "ACTIVE",
    )
    return f"arn:aws:kinesis:us-east-1:000000000000:stream/{aws.prefix}-{name}"


# --- mapping_settings --------------------------------------------------------------------------------------------


def _refused(aws: Aws, source: str, **settings: Any) -> str | None:
    start = {"StartingPosition": "LATEST"} if ":kinesis:" in source else {}
    name = aws.function(ECHO, f"fn{time.monotonic_ns()}")
    create = aws.lambda_.create_event_source_mapping
    return error_code(create, FunctionName=name, EventSourceArn=source, **{**start, **settings})


def _refusals(aws: Aws) -> set[str | None]:
    queue, fifo, kinesis = aws.queue()[1], aws.queue("q.fifo", FifoQueue="true")[1], stream(aws)
    short = aws.queue("short", VisibilityTimeout="5")[1]
    return {
        _refused(aws, queue, ParallelizationFactor=2),
        _refused(aws, queue, MaximumRetryAttempts=3),
        _refused(aws, queue, BisectBatchOnFunctionError=True),
        _refused(aws, queue, BatchSize=11),
        _refused(aws, fifo, BatchSize=11),
        _refused(aws, fifo, MaximumBatchingWindowInSeconds=1),
        _refused(aws, short),
        _refused(aws, queue.replace("queue", "nowhere")),
        _refused(aws, kinesis, MaximumRecordAgeInSeconds=59),
    }


def test_a_mapping_takes_only_what_its_kind_of_source_has(aws: Aws) -> None:
    assert _refusals(aws) == {"InvalidParameterValueException"}
    assert _refused(aws, aws.queue("other")[1], BatchSize=10_001, MaximumBatchingWindowInSeconds=1) == (
        "ValidationException"
    )


def test_bare_a_mapping_takes_anything(bare: Aws) -> None:
    assert _refusals(bare) == {None}


QUEUE_FIELDS = {
    "UUID", "EventSourceMappingArn", "EventSourceArn", "FunctionArn", "State", "StateTransitionReason", "LastModified",
    "BatchSize", "MaximumBatchingWindowInSeconds", "FunctionResponseTypes",
}  # fmt: skip
STREAM_FIELDS = QUEUE_FIELDS | {
    "StartingPosition", "LastProcessingResult", "ParallelizationFactor", "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts", "BisectBatchOnFunctionError", "TumblingWindowInSeconds", "DestinationConfig",
}  # fmt: skip


def _fields(aws: Aws) -> tuple[dict[str, Any], dict[str, Any]]:
    of_queue = Mapping(aws, aws.function(ECHO), aws.queue()[1]).get()
    of_stream = Mapping(aws, aws.function(ECHO, "other"), stream(aws), StartingPosition="LATEST").get()
    return of_queue, of_stream


def test_a_mapping_answers_with_the_fields_of_its_kind_and_their_defaults(aws: Aws) -> None:
    of_queue, of_stream = _fields(aws)
    assert of_queue.keys() - {"ResponseMetadata"} == QUEUE_FIELDS
    assert of_stream.keys() - {"ResponseMetadata"} == STREAM_FIELDS
    assert (of_queue["BatchSize"], of_stream["BatchSize"]) == (10, 100)
    assert (of_stream["MaximumRetryAttempts"], of_stream["MaximumRecordAgeInSeconds"]) == (-1, -1)
    assert of_stream["DestinationConfig"] == {"OnFailure": {}}


def test_bare_a_mapping_answers_with_what_it_was_told(bare: Aws) -> None:
    of_queue, of_stream = _fields(bare)
    assert "LastProcessingResult" in of_queue
    assert "MaximumRetryAttempts" not in of_stream
    assert of_stream["BatchSize"] == 10


def test_an_update_keeps_what_it_leaves_out_and_takes_away_what_is_empty(aws: Aws) -> None:
    # GIVEN a mapping with everything
    pattern = {"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]}
    given: dict[str, Any] = {
        "BatchSize": 5,
        "ScalingConfig": {"MaximumConcurrency": 7},
        "FilterCriteria": pattern,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }
    mapping = Mapping(aws, aws.function(ECHO), aws.queue()[1], **given)
    assert {name: mapping.get()[name] for name in given} == given
    # WHEN one field changes THEN the others stay
    assert {name: mapping.update(BatchSize=6)[name] for name in given} == given | {"BatchSize": 6}
    # WHEN settings are emptied THEN they are gone
    emptied = mapping.update(ScalingConfig={}, FilterCriteria={}, FunctionResponseTypes=[], MetricsConfig={})
    assert emptied.keys().isdisjoint({"ScalingConfig", "FilterCriteria", "MetricsConfig"})
    assert emptied["FunctionResponseTypes"] == []


def test_a_source_and_a_function_are_mapped_once(aws: Aws) -> None:
    function, source = aws.two_versions(), aws.queue()[1]
    Mapping(aws, function, source)
    other = Mapping(aws, f"{function}:1", source)
    create = aws.lambda_.create_event_source_mapping
    assert error_code(create, FunctionName=function, EventSourceArn=source) == "ResourceConflictException"
    assert error_code(other.start_update, FunctionName=function) == "ResourceConflictException"


# --- mapping_states ----------------------------------------------------------------------------------------------


def _states(aws: Aws) -> list[str]:
    """The states of a mapping's life, each as answered and as it settles."""
    name = aws.two_versions()
    mapping = Mapping(aws, name, aws.queue()[1])
    seen = [mapping.settled()["State"]]
    for change in ({"FunctionName": f"{name}:2"}, {"Enabled": False}, {"BatchSize": 3}, {"Enabled": True}):
        seen += [mapping.start_update(**change)["State"], mapping.settled()["State"]]
    return seen


def test_a_mapping_goes_through_its_states(aws: Aws) -> None:
    assert _states(aws) == [
        "Enabled", "Updating", "Enabled", "Disabling", "Disabled", "Updating", "Disabled", "Enabling", "Enabled",
    ]  # fmt: skip


def test_bare_a_mapping_is_at_once_what_it_was_told_to_be(bare: Aws) -> None:
    assert not {"Updating", "Disabling", "Enabling"} & set(_states(bare))


def test_a_mapping_in_transition_refuses_another_change_and_notes_when_it_settled(aws: Aws) -> None:
    name = aws.two_versions()
    mapping = Mapping(aws, name, aws.queue()[1])
    # WHEN it is told to change THEN it refuses to change again
    updating = mapping.start_update(FunctionName=f"{name}:1")
    assert error_code(mapping.start_update, BatchSize=1) == "ResourceInUseException"
    assert error_code(aws.lambda_.delete_event_source_mapping, UUID=mapping.uuid) == "ResourceInUseException"
    # AND once it has settled, it says when, and keeps the qualifier
    settled = mapping.settled()
    assert settled["LastModified"] > updating["LastModified"]
    assert settled["FunctionArn"].endswith(f":function:{name}:1")
    # WHEN it is deleted THEN it says so, and then it is gone
    assert aws.lambda_.delete_event_source_mapping(UUID=mapping.uuid)["State"] == "Deleting"
    get = aws.lambda_.get_event_source_mapping
    assert eventually(lambda: error_code(get, UUID=mapping.uuid) == "ResourceNotFoundException")
