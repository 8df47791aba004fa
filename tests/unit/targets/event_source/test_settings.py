"""What AWS allows of an event source mapping's settings, a share of them, and the way back."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import RequestRefused
from headgate.targets.event_source.settings import (
    MappingSettings,
    SourceKind,
    TrafficMode,
    kind_of,
    mapping_faults,
    mapping_settings_of,
    mode_of,
    source_of,
    visibility_faults,
)

_OPERATION = botocore.session.get_session().get_service_model("lambda").operation_model("UpdateEventSourceMapping")
UPDATE: Any = _OPERATION.input_shape
UUID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
DEAD = "arn:aws:sqs:eu-central-1:123456789012:orders-dead"


def queues(most: int) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings of a queue as GetEventSourceMapping answers them, of which some fields may not be set."""
    limit: st.SearchStrategy[dict[str, int]] = st.just({}) | st.fixed_dictionaries(
        {"MaximumConcurrency": st.integers(2, 1000)}
    )
    window = {} if most == 10 else {"MaximumBatchingWindowInSeconds": st.integers(1, 300)}
    return st.fixed_dictionaries(
        {"BatchSize": st.integers(1, most), **window},
        optional={"ScalingConfig": limit, "FunctionResponseTypes": st.just(["ReportBatchItemFailures"])},
    )


STREAMS = st.fixed_dictionaries(
    {"BatchSize": st.integers(1, 10_000)},
    optional={
        "ParallelizationFactor": st.integers(1, 10),
        "MaximumRetryAttempts": st.integers(-1, 10_000),
        "MaximumRecordAgeInSeconds": st.just(-1) | st.integers(60, 604_800),
        "BisectBatchOnFunctionError": st.booleans(),
        "MaximumBatchingWindowInSeconds": st.integers(0, 300),
        "TumblingWindowInSeconds": st.integers(0, 900),
        "DestinationConfig": st.sampled_from([{}, {"OnFailure": {}}, {"OnFailure": {"Destination": DEAD}}]),
    },
).map(lambda mapping: mapping | ({"ParallelizationFactor": 1} if mapping.get("TumblingWindowInSeconds") else {}))
MAPPINGS: st.SearchStrategy[tuple[SourceKind, dict[str, Any]]] = st.one_of(
    st.tuples(st.just("sqs"), queues(10_000)),
    st.tuples(st.just("sqs-fifo"), queues(10)),
    st.tuples(st.sampled_from(["kinesis", "dynamodb"]), STREAMS),
)
WEIGHTS = st.floats(0, 100, exclude_min=True)


def updated(mapping: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The mapping after an update that AWS takes: what is left out keeps its value."""
    report = ParamValidator().validate({"UUID": UUID, **parameters}, UPDATE)
    assert not report.has_errors(), report.generate_report()
    return mapping | parameters


def throughput(settings: MappingSettings) -> int:
    """What a mapping may have in hand at a time."""
    return settings.batch_size * (settings.parallelization_factor or settings.maximum_concurrency or 1000)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("arn:aws:sqs:eu-central-1:123456789012:orders", "sqs"),
        ("arn:aws-cn:sqs:cn-north-1:123456789012:orders.fifo", "sqs-fifo"),
        ("arn:aws:kinesis:eu-central-1:123456789012:stream/orders", "kinesis"),
        ("arn:aws:kinesis:eu-central-1:123456789012:stream/orders/consumer/checkout:1795000000", "kinesis"),
        ("arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/2026-11-21T09:00:00.000", "dynamodb"),
    ],
)
def test_a_source_is_known_by_its_arn(source: str, kind: str) -> None:
    assert kind_of(source) == kind


def test_another_source_is_refused() -> None:
    with pytest.raises(RequestRefused, match=r"reads from arn:aws:kafka:.*; Headgate rolls out consumers of SQS"):
        kind_of("arn:aws:kafka:eu-central-1:123456789012:cluster/orders/1")


@given(MAPPINGS, WEIGHTS)
def test_a_share_is_what_aws_allows_and_never_more_than_the_whole(
    of: tuple[SourceKind, dict[str, Any]], weight: float
) -> None:
    kind, mapping = of
    assert mapping_faults(mapping, kind) == []
    whole = mapping_settings_of(mapping, kind)
    share = whole.share(weight, kind)
    assert mapping_faults(updated(mapping, share.parameters(kind)), kind) == []
    assert share.batch_size <= whole.batch_size
    assert (share.maximum_concurrency or 0) <= (whole.maximum_concurrency or 1000)
    assert (share.parallelization_factor or 0) <= (whole.parallelization_factor or 1)


@given(MAPPINGS, WEIGHTS, WEIGHTS)
def test_a_share_grows_with_its_weight_to_exactly_the_whole(
    of: tuple[SourceKind, dict[str, Any]], one: float, other: float
) -> None:
    kind, mapping = of
    whole = mapping_settings_of(mapping, kind)
    less, more = sorted((one, other))
    assert throughput(whole.share(less, kind)) <= throughput(whole.share(more, kind))
    assert whole.share(100, kind) == whole


@pytest.mark.parametrize(
    ("mapping", "kind", "weight", "concurrency", "batch"),
    [
        ({"BatchSize": 10, "ScalingConfig": {"MaximumConcurrency": 20}}, "sqs", 25, 5, 10),
        ({"BatchSize": 10, "ScalingConfig": {"MaximumConcurrency": 20}}, "sqs", 1, 2, 10),
        ({"BatchSize": 10}, "sqs-fifo", 5, 50, 10),
        ({"BatchSize": 100, "ParallelizationFactor": 10}, "kinesis", 50, 5, 100),
        ({"BatchSize": 100, "ParallelizationFactor": 10}, "kinesis", 25, 3, 84),
        ({"BatchSize": 100}, "dynamodb", 10, 1, 10),
        ({"BatchSize": 1}, "dynamodb", 1, 1, 1),
    ],
)
def test_concurrency_comes_first_and_the_batch_size_where_that_is_too_coarse(
    mapping: dict[str, Any], kind: SourceKind, weight: float, concurrency: int, batch: int
) -> None:
    share = mapping_settings_of(mapping, kind).share(weight, kind)
    assert (share.maximum_concurrency or share.parallelization_factor, share.batch_size) == (concurrency, batch)


@given(MAPPINGS, WEIGHTS)
def test_what_a_rollout_changes_comes_back_exactly(of: tuple[SourceKind, dict[str, Any]], weight: float) -> None:
    kind, mapping = of
    whole = mapping_settings_of(mapping, kind)
    ramp = whole.share(weight, kind)
    if kind in ("kinesis", "dynamodb"):
        ramp = ramp.blocking().model_copy(update={"on_failure": "arn:aws:sqs:eu-central-1:123456789012:held"})
        assert not ramp.gives_up
    after = updated(updated(mapping, ramp.parameters(kind)), whole.parameters(kind))
    assert mapping_settings_of(after, kind) == whole
    # Nothing is touched that is not a rollout's to change, and nothing of a limit stays that was not there.
    assert {name: after[name] for name in mapping if name not in whole.parameters(kind)} == {
        name: value for name, value in mapping.items() if name not in whole.parameters(kind)
    }
    assert (after.get("ScalingConfig") or {}) == (mapping.get("ScalingConfig") or {})


@pytest.mark.parametrize(
    ("kind", "mapping", "fault"),
    [
        ("sqs", {"BatchSize": 10_001}, "BatchSize: must be 1 to 10000 for sqs (given 10001)"),
        ("sqs-fifo", {"MaximumBatchingWindowInSeconds": 1}, "MaximumBatchingWindowInSeconds: must be 0 for sqs-fifo"),
        ("sqs", {"ScalingConfig": {"MaximumConcurrency": 1}}, "ScalingConfig.MaximumConcurrency: must be 2 to 1000"),
        ("sqs", {"ParallelizationFactor": 2}, "ParallelizationFactor: is only for streams; remove it"),
        ("sqs", {"TumblingWindowInSeconds": 60}, "TumblingWindowInSeconds: is only for streams; remove it"),
        (
            "sqs",
            {"ScalingConfig": {"MaximumConcurrency": 5}, "ProvisionedPollerConfig": {"MinimumPollers": 2}},
            "ScalingConfig.MaximumConcurrency: excludes ProvisionedPollerConfig; remove one of them",
        ),
        (
            "sqs",
            {"ProvisionedPollerConfig": {"MinimumPollers": 1}},
            "ProvisionedPollerConfig.MinimumPollers: must be 2 to 200 for a queue (given 1)",
        ),
        (
            "sqs",
            {"ProvisionedPollerConfig": {"MinimumPollers": 9, "MaximumPollers": 8}},
            "ProvisionedPollerConfig: MinimumPollers must not be above MaximumPollers",
        ),
        ("sqs", {"DestinationConfig": {"OnFailure": {"Destination": DEAD}}}, "DestinationConfig: is only for streams"),
        (
            "kinesis",
            {"TumblingWindowInSeconds": 60, "ParallelizationFactor": 2},
            "TumblingWindowInSeconds: excludes a ParallelizationFactor above 1; use 1, or no window",
        ),
        ("kinesis", {"ProvisionedPollerConfig": {"MinimumPollers": 2}}, "ProvisionedPollerConfig: is only for queues"),
        ("kinesis", {"ParallelizationFactor": 11}, "ParallelizationFactor: must be 1 to 10 for kinesis (given 11)"),
        ("dynamodb", {"MaximumRecordAgeInSeconds": 59}, "MaximumRecordAgeInSeconds: must be -1 or 60 to 604800 (giv"),
        ("dynamodb", {"MaximumRetryAttempts": 10_001}, "MaximumRetryAttempts: must be -1 to 10000 for dynamodb"),
    ],
)
def test_a_setting_that_aws_does_not_allow_is_named_with_the_fix(kind: SourceKind, mapping: Any, fault: str) -> None:
    assert any(found.startswith(fault) for found in mapping_faults(mapping, kind))


NOTHING = (
    "ScalingConfig",
    "ProvisionedPollerConfig",
    "ParallelizationFactor",
    "MaximumRecordAgeInSeconds",
    "BatchSize",
)


@pytest.mark.parametrize("kind", ["sqs", "sqs-fifo", "kinesis", "dynamodb"])
def test_what_is_null_or_empty_is_as_good_as_left_out(kind: SourceKind) -> None:
    nothing = dict.fromkeys(UPDATE.members)
    empty: dict[str, Any] = {"ScalingConfig": {}, "ProvisionedPollerConfig": {}, "DestinationConfig": {"OnFailure": {}}}
    for mapping in (nothing, empty):
        assert (mapping_faults(mapping, kind), mapping_settings_of(mapping, kind)) == (
            [],
            mapping_settings_of({}, kind),
        )


def test_a_source_of_another_account_is_refused() -> None:
    mapping = {"EventSourceArn": DEAD, "FunctionArn": "arn:aws:lambda:eu-central-1:210987654321:function:checkout:live"}
    with pytest.raises(RequestRefused, match=r"in account 123456789012, but the function is in 210987654321; Headgate"):
        source_of(mapping)


POLLERS = {"ProvisionedPollerConfig": {"MinimumPollers": 2}}


@pytest.mark.parametrize(
    ("asked", "mapping", "kind", "mode"),
    [
        (None, {"TumblingWindowInSeconds": 60}, "kinesis", "ramp"),
        ("split", {"TumblingWindowInSeconds": 60}, "kinesis", "split"),
        (None, {"TumblingWindowInSeconds": 0, "ParallelizationFactor": 10}, "dynamodb", "split"),
        (None, POLLERS, "sqs", "split"),
    ],
)
def test_batches_that_build_on_each_other_are_ramped_unless_asked_otherwise(
    asked: TrafficMode | None, mapping: dict[str, Any], kind: SourceKind, mode: str
) -> None:
    assert mode_of(asked, mapping, kind) == mode


@pytest.mark.parametrize(
    ("kind", "fix"), [("sqs", "use mode split, or remove Pro"), ("sqs-fifo", "a ramp needs; remove Prov")]
)
def test_provisioned_pollers_are_not_ramped_and_the_fix_is_one_that_helps(kind: SourceKind, fix: str) -> None:
    with pytest.raises(RequestRefused, match=fix):
        mode_of("ramp", POLLERS, kind)


@pytest.mark.parametrize(("visibility", "faults"), [(30, 0), (10, 0), (9, 1)])
def test_a_message_stays_hidden_for_as_long_as_it_may_be_worked_on(visibility: int, faults: int) -> None:
    assert len(visibility_faults(visibility, 10, "7")) == faults
