"""A consumer, looked up: which alias its mapping points at, what it reads from, and how it can be rolled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied
from headgate.errors import RequestRefused
from headgate.spec.targets import EventSourceTarget, LambdaAliasTarget
from headgate.targets.event_source.settings import SourceKind, mode_of, source_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationResponseTypeDef as MappingAnswer

    from headgate.spec.guards import Guards


QUEUE_LIMITS = ("oldestMessageSeconds", "backlogGrowth")
STREAM_LIMITS = ("iteratorAgeSeconds",)

EVENT_COUNT = "EventCount"
"""https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html#event-source-mapping-metrics"""


class Consumer(NamedTuple):
    """What a rollout needs to know of a consumer before it begins."""

    target: EventSourceTarget
    """The target with its mode worked out."""
    through: LambdaAliasTarget
    """The alias that the mapping points at."""
    kind: SourceKind
    source: str
    """ARN of the queue or stream."""
    metrics: tuple[str, ...] = ()
    """What the mapping reports besides the function's own metrics."""


def find_mapping(functions: LambdaClient, uuid: str) -> MappingAnswer | None:
    """The mapping of an id; None where there is none."""
    try:
        return functions.get_event_source_mapping(UUID=uuid)
    except functions.exceptions.ResourceNotFoundException:
        return None


def require_mapping(functions: LambdaClient, uuid: str) -> MappingAnswer:
    """The mapping of an id; refused where there is none."""
    mapping = find_mapping(functions, uuid)
    if mapping is None:
        raise RequestRefused(f"target.mapping: there is no mapping {uuid} in this Region")
    return mapping


class ConsumerLookup:
    """Looks consumers up."""

    def __init__(self, functions: LambdaClient) -> None:
        self._functions = functions

    def find(self, target: EventSourceTarget) -> Consumer:
        """The consumer behind a mapping.

        Raises
        ------
        RequestRefused
            If there is none, or it cannot be rolled out in this way.
        """
        mapping = self._mapping(target.mapping)
        source, kind = source_of(mapping)
        mode = mode_of(target.mode, mapping, kind)
        settled = target.model_copy(update={"mode": mode})
        metrics = (mapping.get("MetricsConfig") or {}).get("Metrics") or ()
        return Consumer(settled, _alias_behind(mapping["FunctionArn"], target.mapping), kind, source, tuple(metrics))

    def _mapping(self, uuid: str) -> MappingAnswer:
        try:
            return require_mapping(self._functions, uuid)
        except ClientError as error:
            if not is_denied(error):
                raise
            # The permission is for the mappings of certain functions, and what does not exist has none.
            raise RequestRefused(
                f"target.mapping: {uuid} may not be looked at: its function does not fit the stack's parameter "
                "TargetFunctions, or there is no such mapping"
            ) from None


def _alias_behind(function_arn: str, mapping: str) -> LambdaAliasTarget:
    """The alias that a mapping's function ARN names: only an alias knows which version is the stable one."""
    function, _, qualifier = function_arn.partition(":function:")[2].partition(":")
    if not qualifier or qualifier.startswith("$LATEST") or qualifier.isdigit():
        names = f"version {qualifier}" if qualifier.isdigit() else qualifier or "$LATEST"
        raise RequestRefused(
            f"target.mapping: {mapping} points at {names} of {function}, and an alias is needed to tell the stable "
            f"version; create one, and point the mapping at it: update-event-source-mapping --uuid {mapping} "
            f"--function-name {function}:ALIAS"
        )
    return LambdaAliasTarget(kind="lambda-alias", function=function, alias=qualifier)


def refuse_guards_that_do_not_fit(guards: Guards, consumer: Consumer) -> None:
    """Refuse guards that this consumer gives no evidence for.

    Raises
    ------
    RequestRefused
        If a ramp is to be judged by comparison (the versions are never at work side by side), a limit is for the other
        kind of source, or the mapping does not report what a limit is for.
    """
    compared = next((name for name in ("errors", "latency", "custom") if getattr(guards, name)), None)
    if compared and consumer.target.mode == "ramp":
        raise RequestRefused(
            f"guards.{compared}: compares both versions, and in a ramp they are never at work side by side; give "
            "alarms, or limits in guards.source"
        )
    if guards.source is None:
        return
    foreign = QUEUE_LIMITS if consumer.kind in ("kinesis", "dynamodb") else STREAM_LIMITS
    if wrong := next((name for name in foreign if guards.source.limits[name] is not None), None):
        raise RequestRefused(f"guards.source.{wrong}: is not told of {consumer.source}; remove it")
    if guards.source.failed_events is not None and EVENT_COUNT not in consumer.metrics:
        raise RequestRefused(
            "guards.source.failedEvents: the mapping does not report it; let it (update-event-source-mapping --uuid "
            f"{consumer.target.mapping} --metrics-config Metrics={EVENT_COUNT}), or remove the limit"
        )
