"""Lookup of a consumer: the alias that its mapping points at, its source, and the mode of its rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied
from headgate.errors import RequestRefused
from headgate.spec.targets import EventSourceTarget, LambdaAliasTarget
from headgate.targets.event_source.settings import SourceKind, mapping_faults, mode_of, source_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationResponseTypeDef as MappingAnswer

    from headgate.spec.guards import Guards


QUEUE_LIMITS = ("oldestMessageSeconds", "backlogGrowth")
STREAM_LIMITS = ("iteratorAgeSeconds",)

EVENT_COUNT = "EventCount"
"""https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html#event-source-mapping-metrics"""


class Consumer(NamedTuple):
    """Properties of a consumer that a rollout needs before it begins."""

    target: EventSourceTarget
    """The target with its mode."""
    through: LambdaAliasTarget
    """The alias that the mapping points at."""
    kind: SourceKind
    source: str
    """ARN of the queue or stream."""
    metrics: tuple[str, ...] = ()
    """Metrics of the mapping that are enabled in its MetricsConfig."""


def find_mapping(functions: LambdaClient, uuid: str) -> MappingAnswer | None:
    """Return the mapping with an id, or None if it does not exist."""
    try:
        return functions.get_event_source_mapping(UUID=uuid)
    except functions.exceptions.ResourceNotFoundException:
        return None


def require_mapping(functions: LambdaClient, uuid: str) -> MappingAnswer:
    """Return the mapping with an id, or raise RequestRefused if it does not exist."""
    mapping = find_mapping(functions, uuid)
    if mapping is None:
        raise RequestRefused(f"target.mapping: mapping {uuid} does not exist in this Region")
    return mapping


def refuse_unfit(mapping: MappingAnswer, kind: SourceKind) -> None:
    """Refuse a mapping that breaks AWS's rules, so that its settings could not be restored, or that is disabled."""
    where = f"target.mapping: {mapping['UUID']}"
    if faults := mapping_faults(mapping, kind):
        raise RequestRefused(f"{where}: {'; '.join(faults)}")
    if mapping["State"] == "Disabled":
        raise RequestRefused(f"{where} is disabled; enable it first")


class ConsumerLookup:
    """Looks up consumers."""

    def __init__(self, functions: LambdaClient) -> None:
        self._functions = functions

    def find(self, target: EventSourceTarget) -> Consumer:
        """Return the consumer behind a mapping.

        Raises
        ------
        RequestRefused
            If there is none, or it cannot be rolled out in the requested mode.
        """
        mapping = self._mapping(target.mapping)
        source, kind = source_of(mapping)
        mode = mode_of(target.mode, mapping, kind)
        resolved = target.model_copy(update={"mode": mode})
        metrics = (mapping.get("MetricsConfig") or {}).get("Metrics") or ()
        return Consumer(resolved, _alias_behind(mapping["FunctionArn"], target.mapping), kind, source, tuple(metrics))

    def _mapping(self, uuid: str) -> MappingAnswer:
        try:
            return require_mapping(self._functions, uuid)
        except ClientError as error:
            if not is_denied(error):
                raise
            # The permission depends on the mapping's function, so a mapping that does not exist is denied too.
            raise RequestRefused(
                f"target.mapping: access to {uuid} is denied: Headgate's parameter TargetFunctions does not cover "
                "its function, or the mapping does not exist"
            ) from None


def _alias_behind(function_arn: str, mapping: str) -> LambdaAliasTarget:
    """Return the alias in a mapping's function ARN. The rollout needs it to find the stable version."""
    function, _, qualifier = function_arn.partition(":function:")[2].partition(":")
    if not qualifier or qualifier.startswith("$LATEST") or qualifier.isdigit():
        names = f"version {qualifier}" if qualifier.isdigit() else qualifier or "$LATEST"
        raise RequestRefused(
            f"target.mapping: {mapping} points at {names} of {function}, but an alias is needed to determine the "
            f"stable version; create one, and point the mapping at it: update-event-source-mapping --uuid {mapping} "
            f"--function-name {function}:ALIAS"
        )
    return LambdaAliasTarget(kind="lambda-alias", function=function, alias=qualifier)


def refuse_guards_that_do_not_fit(guards: Guards, consumer: Consumer) -> None:
    """Refuse guards for which this consumer has no data.

    Raises
    ------
    RequestRefused
        If a ramp has a comparison (the versions never work side by side), a limit is for the other kind of source, or
        the mapping does not report the metric of a limit.
    """
    compared = next((name for name in ("errors", "latency", "custom") if getattr(guards, name)), None)
    if compared and consumer.target.mode == "ramp":
        raise RequestRefused(
            f"guards.{compared}: compares both versions, but in a ramp they never work side by side; use alarms or "
            "limits in guards.source"
        )
    if guards.source is None:
        return
    foreign = QUEUE_LIMITS if consumer.kind in ("kinesis", "dynamodb") else STREAM_LIMITS
    if wrong := next((name for name in foreign if guards.source.limits[name] is not None), None):
        raise RequestRefused(f"guards.source.{wrong}: is not available for {consumer.source}; remove it")
    if guards.source.failed_events is not None and EVENT_COUNT not in consumer.metrics:
        raise RequestRefused(
            "guards.source.failedEvents: the mapping does not report it; enable it (update-event-source-mapping --uuid "
            f"{consumer.target.mapping} --metrics-config Metrics={EVENT_COUNT}) or remove the limit"
        )
