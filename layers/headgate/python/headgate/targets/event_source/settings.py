"""Settings of an event source mapping that a rollout changes: AWS's rules for them, and the settings at a weight.

https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html has the fields and their ranges. This
module has no side effects.
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
"""Maximum of MaximumConcurrency, and the assumed value for a queue without it."""

MIN_CONCURRENCY = 2

MAX_BATCH_SIZE: dict[SourceKind, int] = {"sqs": 10_000, "sqs-fifo": 10, "kinesis": 10_000, "dynamodb": 10_000}
"""https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html, BatchSize."""

VISIBILITY_TIMES = 6
"""Recommended ratio of the queue's visibility timeout to the function's timeout, so that Lambda can retry throttled
batches: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html."""

SELF_MANAGED = "a self-managed Apache Kafka cluster"
"""The only source without an ARN, https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html."""

_SOURCE_KINDS = re.compile(
    r"arn:aws[a-z-]*:(?:(?P<sqs>sqs):[a-z0-9-]+:\d{12}:[\w-]+(?P<fifo>\.fifo)?|(?P<kinesis>kinesis):[^:]+:\d{12}:stream/.+"
    r"|(?P<dynamodb>dynamodb):[^:]+:\d{12}:table/.+/stream/.+)"
)


def reads_queue(kind: SourceKind) -> bool:
    """Return whether a source is a queue instead of a stream."""
    return kind in ("sqs", "sqs-fifo")


def source_of(mapping: Mapping[str, Any]) -> tuple[str, SourceKind]:
    """Return the ARN and kind of a mapping's source.

    Raises
    ------
    RequestRefused
        If the source is not supported, or belongs to another account: the rollout's own queue must be in the source's
        account.
    """
    source = mapping.get("EventSourceArn") or SELF_MANAGED
    kind = kind_of(source)
    account, functions = source.split(":")[4], mapping["FunctionArn"].split(":")[4]
    if account != functions:
        raise RequestRefused(
            f"target.mapping: reads from {source} in account {account}, but the function is in {functions}; "
            "Headgate rolls out only consumers in the account of their source"
        )
    return source, kind


def kind_of(source_arn: str) -> SourceKind:
    """Return the kind of a source by its ARN.

    Raises
    ------
    RequestRefused
        If the source is not supported.
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


def mode_of(requested: TrafficMode | None, mapping: Mapping[str, Any], kind: SourceKind) -> TrafficMode:
    """Return the mode of a consumer's rollout: the requested one, or else a safe one.

    Raises
    ------
    RequestRefused
        If the mapping does not allow that mode.
    """
    if requested == "split" and kind == "sqs-fifo":
        raise RequestRefused(
            "target.mode: the mapping reads from a FIFO queue, and split would send messages of one group to both "
            "versions; use ramp"
        )
    # In a tumbling window each batch gets the state that the previous invocation returned.
    interleaves = kind == "sqs-fifo" or bool(mapping.get("TumblingWindowInSeconds"))
    mode = requested or ("ramp" if interleaves else "split")
    if mode == "ramp" and mapping.get("ProvisionedPollerConfig"):
        instead = "" if kind == "sqs-fifo" else "use mode split, or "
        raise RequestRefused(
            "target.mapping: has provisioned pollers, which exclude the MaximumConcurrency that a ramp needs; "
            f"{instead}remove ProvisionedPollerConfig"
        )
    return mode


class MappingSettings(Wire):
    """Settings of a mapping that a rollout may change. Fields for the other kind of source are None."""

    batch_size: int
    maximum_concurrency: int | None = None
    """For a queue; None if it has no limit."""
    parallelization_factor: int | None = None
    """For a stream, like all following fields."""
    maximum_retry_attempts: int | None = None
    """-1 means no limit, like in the next field."""
    maximum_record_age_in_seconds: int | None = None
    bisect_batch_on_function_error: bool | None = None
    on_failure: str | None = None
    """ARN of the destination for discarded batches. Empty if there is none."""

    @property
    def gives_up(self) -> bool:
        """True if a stream's failing batch is discarded after a limit, and the stream continues without it."""
        return (self.maximum_retry_attempts or 0) >= 0 or (self.maximum_record_age_in_seconds or 0) >= 0

    def share(self, weight: float, kind: SourceKind) -> MappingSettings:
        """Return the settings for a percentage of the throughput: less concurrency, and then a smaller batch size.

        At 100 percent the settings do not change.
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
        """Return the settings with unlimited retries of whole batches, so that a failing batch blocks its shard."""
        return self.model_copy(
            update={
                "maximum_retry_attempts": -1,
                "maximum_record_age_in_seconds": -1,
                "bisect_batch_on_function_error": False,
            }
        )

    def parameters(self, kind: SourceKind) -> dict[str, Any]:
        """Return the parameters of UpdateEventSourceMapping for these settings.

        Omitted fields keep their values, so empty ones are included.
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
            # Lambda returns an OnFailure without a destination if there is none, but refuses it as a parameter. The
            # model allows an empty destination: https://docs.aws.amazon.com/lambda/latest/api/API_OnFailure.html
            "DestinationConfig": {"OnFailure": {"Destination": self.on_failure or ""}},
        }

    def changes(self, found: MappingSettings, kind: SourceKind) -> dict[str, Any]:
        """Return only the parameters that differ from the settings of a mapping."""
        current = found.parameters(kind)
        return {name: value for name, value in self.parameters(kind).items() if value != current[name]}


def mapping_settings_of(mapping: Mapping[str, Any], kind: SourceKind) -> MappingSettings:
    """Return the settings in a response of GetEventSourceMapping, with defaults for missing fields."""
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
    """Return the violations of AWS's rules in a mapping's settings, each as ``field: fault; fix``."""
    mapping = _without_nulls(mapping)
    return [*_out_of_range(mapping, kind), *_not_for(mapping, kind), *_exclusions(mapping, kind)]


def _without_nulls(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping without its null fields."""
    return {name: value for name, value in mapping.items() if value is not None}


def visibility_faults(visibility: int, timeout: int, revision: str) -> list[str]:
    """Return the fault if a queue's visibility timeout is below the consumer's timeout, in seconds."""
    if visibility >= timeout:
        return []
    fault = (
        f"target.mapping: the queue's visibility timeout of {visibility} s is below the timeout of version {revision}, "
        f"{timeout} s, so messages could be received again during processing; raise it to {timeout * VISIBILITY_TIMES}"
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
"""Fields that do not apply to a queue's mapping, with the values that a response may still have."""

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
        f"{field}: is only for {theirs}; remove it"
        for field, unset in foreign.items()
        if mapping.get(field) not in (None, {}, unset)
    ]


def _exclusions(mapping: Mapping[str, Any], kind: SourceKind) -> list[str]:
    found = []
    if kind == "sqs" and mapping.get("BatchSize", 10) > 10 and not mapping.get("MaximumBatchingWindowInSeconds"):
        found.append("BatchSize: above 10, a queue needs a MaximumBatchingWindowInSeconds of 1 or more")
    if (mapping.get("ScalingConfig") or {}).get("MaximumConcurrency") and mapping.get("ProvisionedPollerConfig"):
        found.append("ScalingConfig.MaximumConcurrency: excludes ProvisionedPollerConfig; remove one of them")
    pollers = mapping.get("ProvisionedPollerConfig") or {}
    if (pollers.get("MinimumPollers") or 0) > (pollers.get("MaximumPollers") or _POLLERS["MaximumPollers"][1]):
        found.append("ProvisionedPollerConfig: MinimumPollers must not be above MaximumPollers")
    # https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html
    if mapping.get("TumblingWindowInSeconds") and mapping.get("ParallelizationFactor", 1) > 1:
        found.append("TumblingWindowInSeconds: excludes a ParallelizationFactor above 1; use 1, or no window")
    return found
