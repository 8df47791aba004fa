"""The settings of an event source mapping that a rollout changes: AWS's rules for them, a share of them, the way back.

https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html has the fields and their ranges. Pure.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

from headgate.errors import RequestRefused
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping


SourceKind = Literal["sqs", "sqs-fifo", "kinesis", "dynamodb"]
TrafficMode = Literal["split", "ramp"]

MAX_CONCURRENCY = 1000
"""What MaximumConcurrency may be at most; a queue without one is taken to have it."""

MIN_CONCURRENCY = 2

MAX_BATCH_SIZE: dict[SourceKind, int] = {"sqs": 10_000, "sqs-fifo": 10, "kinesis": 10_000, "dynamodb": 10_000}
"""https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html, BatchSize."""

VISIBILITY_TIMES = 6
"""How often the function's timeout should fit into the queue's visibility timeout, so that Lambda may try a batch again
while it is throttled: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html."""

SELF_MANAGED = "a self-managed Apache Kafka cluster"
"""The one source without an ARN, https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html."""

_SOURCE_KINDS = re.compile(
    r"arn:aws[a-z-]*:(?:(?P<sqs>sqs):[a-z0-9-]+:\d{12}:[\w-]+(?P<fifo>\.fifo)?|(?P<kinesis>kinesis):[^:]+:\d{12}:stream/.+"
    r"|(?P<dynamodb>dynamodb):[^:]+:\d{12}:table/.+/stream/.+)"
)


def reads_queue(kind: SourceKind) -> bool:
    """Whether a source is a queue, and not a stream."""
    return kind in ("sqs", "sqs-fifo")


def source_of(mapping: Mapping[str, Any]) -> tuple[str, SourceKind]:
    """The ARN of what a mapping reads from, and of what kind it is.

    Raises
    ------
    RequestRefused
        If it is none of the sources that can be rolled out, or another account's: what holds its failures during a
        rollout must be of the same account as the source.
    """
    source = mapping.get("EventSourceArn") or SELF_MANAGED
    kind = kind_of(source)
    account, functions = source.split(":")[4], mapping["FunctionArn"].split(":")[4]
    if account != functions:
        raise RequestRefused(
            f"target.mapping: reads from {source}, which is account {account}'s, and the function is {functions}'s; "
            "Headgate rolls out consumers whose source is of their own account"
        )
    return source, kind


def kind_of(source_arn: str) -> SourceKind:
    """What the ARN of a source names.

    Raises
    ------
    RequestRefused
        If it is none of the sources that can be rolled out.
    """
    match = _SOURCE_KINDS.fullmatch(source_arn)
    if match is None:
        raise RequestRefused(
            f"target.mapping: reads from {source_arn}; Headgate rolls out consumers of SQS queues, Kinesis streams and "
            "DynamoDB streams"
        )
    if match["fifo"]:
        return "sqs-fifo"
    kinds: tuple[SourceKind, ...] = ("sqs", "kinesis", "dynamodb")
    return next(kind for kind in kinds if match[kind])


def mode_of(asked: TrafficMode | None, mapping: Mapping[str, Any], kind: SourceKind) -> TrafficMode:
    """How a consumer is rolled out: as it is asked for, or else what is safe.

    Raises
    ------
    RequestRefused
        If that cannot be done with this mapping.
    """
    if asked == "split" and kind == "sqs-fifo":
        raise RequestRefused(
            "target.mode: split would let two versions take turns at the messages of a group, and the mapping "
            "reads from a FIFO queue; take ramp"
        )
    # In a tumbling window each batch gets the state that the one before it has answered.
    interleaves = kind == "sqs-fifo" or bool(mapping.get("TumblingWindowInSeconds"))
    mode = asked or ("ramp" if interleaves else "split")
    if mode == "ramp" and mapping.get("ProvisionedPollerConfig"):
        instead = "" if kind == "sqs-fifo" else "take mode split, or "
        raise RequestRefused(
            "target.mapping: has provisioned pollers, which exclude the MaximumConcurrency that a ramp is made of; "
            f"{instead}remove ProvisionedPollerConfig"
        )
    return mode


class MappingSettings(Wire):
    """What a rollout may change of a mapping. The fields of the other kind of source are None."""

    batch_size: int
    maximum_concurrency: int | None = None
    """Of a queue; None where it has no limit of its own."""
    parallelization_factor: int | None = None
    """Of a stream, as all that follow."""
    maximum_retry_attempts: int | None = None
    """-1 is for ever, as for the next."""
    maximum_record_age_in_seconds: int | None = None
    bisect_batch_on_function_error: bool | None = None
    on_failure: str | None = None
    """Where a batch goes that is given up: the destination's ARN. Empty is nowhere."""

    @property
    def gives_up(self) -> bool:
        """Whether a stream's batch that keeps failing is given up some day, and the stream goes on without it."""
        return (self.maximum_retry_attempts or 0) >= 0 or (self.maximum_record_age_in_seconds or 0) >= 0

    def share(self, weight: float, kind: SourceKind) -> MappingSettings:
        """So much of the throughput, in percent: concurrency first, and what it is too coarse for by the batch size.

        All of it are the settings as they are.
        """
        if weight >= 100:
            return self
        if reads_queue(kind):
            most = self.maximum_concurrency or MAX_CONCURRENCY
            return self.model_copy(update={"maximum_concurrency": max(MIN_CONCURRENCY, math.ceil(most * weight / 100))})
        wanted = (self.parallelization_factor or 1) * weight / 100
        factor = max(1, math.ceil(wanted))
        batch = max(1, math.ceil(self.batch_size * wanted / factor))
        return self.model_copy(update={"parallelization_factor": factor, "batch_size": batch})

    def blocking(self) -> MappingSettings:
        """As they are, but a stream's failing batch is tried for ever and whole, so that nothing passes it."""
        return self.model_copy(
            update={
                "maximum_retry_attempts": -1,
                "maximum_record_age_in_seconds": -1,
                "bisect_batch_on_function_error": False,
            }
        )

    def parameters(self, kind: SourceKind) -> dict[str, Any]:
        """The parameters of UpdateEventSourceMapping that bring these settings about.

        A field that is left out keeps its value, so what is empty is said to be.
        """
        if reads_queue(kind):
            limit = {"MaximumConcurrency": self.maximum_concurrency} if self.maximum_concurrency else {}
            return {"BatchSize": self.batch_size, "ScalingConfig": limit}
        return {
            "BatchSize": self.batch_size,
            "ParallelizationFactor": self.parallelization_factor,
            "MaximumRetryAttempts": self.maximum_retry_attempts,
            "MaximumRecordAgeInSeconds": self.maximum_record_age_in_seconds,
            "BisectBatchOnFunctionError": self.bisect_batch_on_function_error,
            # Lambda refuses an OnFailure without a destination, which is how it tells of none itself. Its model takes
            # an empty one: https://docs.aws.amazon.com/lambda/latest/api/API_OnFailure.html
            "DestinationConfig": {"OnFailure": {"Destination": self.on_failure or ""}},
        }

    def changes(self, found: MappingSettings, kind: SourceKind) -> dict[str, Any]:
        """Those of the parameters that a mapping with other settings needs: what it has already is not said again."""
        there = found.parameters(kind)
        return {name: value for name, value in self.parameters(kind).items() if value != there[name]}


def mapping_settings_of(mapping: Mapping[str, Any], kind: SourceKind) -> MappingSettings:
    """The settings in an answer of GetEventSourceMapping; what it leaves out has its default."""
    mapping = _without_nulls(mapping)
    if reads_queue(kind):
        return MappingSettings(
            batch_size=mapping.get("BatchSize", 10),
            maximum_concurrency=(mapping.get("ScalingConfig") or {}).get("MaximumConcurrency"),
        )
    destination = (mapping.get("DestinationConfig") or {}).get("OnFailure") or {}
    return MappingSettings(
        batch_size=mapping.get("BatchSize", 100),
        parallelization_factor=mapping.get("ParallelizationFactor", 1),
        maximum_retry_attempts=mapping.get("MaximumRetryAttempts", -1),
        maximum_record_age_in_seconds=mapping.get("MaximumRecordAgeInSeconds", -1),
        bisect_batch_on_function_error=mapping.get("BisectBatchOnFunctionError", False),
        on_failure=destination.get("Destination", ""),
    )


def mapping_faults(mapping: Mapping[str, Any], kind: SourceKind) -> list[str]:
    """What AWS's rules have against a mapping's settings, each as ``field: what is wrong and what to do``."""
    mapping = _without_nulls(mapping)
    return [*_out_of_range(mapping, kind), *_not_for(mapping, kind), *_exclusions(mapping, kind)]


def _without_nulls(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without the fields that are null: they are as good as left out."""
    return {name: value for name, value in mapping.items() if value is not None}


def visibility_faults(visibility: int, timeout: int, revision: str) -> list[str]:
    """What is wrong between a queue's visibility timeout and the timeout of a version of its consumer, in seconds."""
    if visibility >= timeout:
        return []
    fault = (
        f"target.mapping: the queue's visibility timeout of {visibility} s is below the timeout of version {revision}, "
        f"{timeout} s, so a message would be read again while it is worked on; raise it to {timeout * VISIBILITY_TIMES}"
    )
    return [fault]


_STREAM_ONLY = {
    "ParallelizationFactor": 1,
    "MaximumRetryAttempts": -1,
    "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False,
    "TumblingWindowInSeconds": 0,
    "DestinationConfig": {"OnFailure": {}},
    "StartingPosition": None,
}
"""Fields that a queue's mapping has no use for, with what they may hold where an answer names them all the same."""

_POLLERS = {"MinimumPollers": (2, 200), "MaximumPollers": (2, 10_000)}
"""https://docs.aws.amazon.com/lambda/latest/api/API_ProvisionedPollerConfig.html"""

_QUEUE_ONLY: dict[str, Any] = {"ScalingConfig": {}, "ProvisionedPollerConfig": {}}


def _out_of_range(mapping: Mapping[str, Any], kind: SourceKind) -> list[str]:
    ranges = {
        "BatchSize": (1, MAX_BATCH_SIZE[kind]),
        "MaximumBatchingWindowInSeconds": (0, 0 if kind == "sqs-fifo" else 300),
        "ParallelizationFactor": (1, 10),
        "MaximumRetryAttempts": (-1, 10_000),
        "TumblingWindowInSeconds": (0, 900),
    }
    found = [
        f"{field}: must be {least}{f' to {most}' if most > least else ''} for {kind} (given {mapping[field]})"
        for field, (least, most) in ranges.items()
        if field in mapping and not least <= mapping[field] <= most
    ]
    age = mapping.get("MaximumRecordAgeInSeconds")
    if age is not None and age != -1 and not 60 <= age <= 604_800:
        found.append(f"MaximumRecordAgeInSeconds: must be -1 or 60 to 604800 (given {age})")
    limit = (mapping.get("ScalingConfig") or {}).get("MaximumConcurrency")
    if limit is not None and not MIN_CONCURRENCY <= limit <= MAX_CONCURRENCY:
        found.append(
            f"ScalingConfig.MaximumConcurrency: must be {MIN_CONCURRENCY} to {MAX_CONCURRENCY} (given {limit})"
        )
    pollers = mapping.get("ProvisionedPollerConfig") or {}
    found += [
        f"ProvisionedPollerConfig.{field}: must be {least} to {most} for a queue (given {pollers[field]})"
        for field, (least, most) in _POLLERS.items()
        if pollers.get(field) is not None and not least <= pollers[field] <= most
    ]
    return found


def _not_for(mapping: Mapping[str, Any], kind: SourceKind) -> list[str]:
    queue = reads_queue(kind)
    foreign = _STREAM_ONLY if queue else _QUEUE_ONLY
    theirs = "streams" if queue else "queues"
    return [
        f"{field}: is for {theirs} alone; remove it"
        for field, unset in foreign.items()
        if mapping.get(field) not in (None, {}, unset)
    ]


def _exclusions(mapping: Mapping[str, Any], kind: SourceKind) -> list[str]:
    found = []
    if kind == "sqs" and mapping.get("BatchSize", 10) > 10 and not mapping.get("MaximumBatchingWindowInSeconds"):
        found.append("BatchSize: above 10 a queue needs a MaximumBatchingWindowInSeconds of 1 or more")
    if (mapping.get("ScalingConfig") or {}).get("MaximumConcurrency") and mapping.get("ProvisionedPollerConfig"):
        found.append("ScalingConfig.MaximumConcurrency: excludes ProvisionedPollerConfig; remove one of them")
    pollers = mapping.get("ProvisionedPollerConfig") or {}
    if (pollers.get("MinimumPollers") or 0) > (pollers.get("MaximumPollers") or _POLLERS["MaximumPollers"][1]):
        found.append("ProvisionedPollerConfig: MinimumPollers must not be above MaximumPollers")
    # https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html
    if mapping.get("TumblingWindowInSeconds") and mapping.get("ParallelizationFactor", 1) > 1:
        found.append("TumblingWindowInSeconds: excludes a ParallelizationFactor above 1; take 1, or no window")
    return found
