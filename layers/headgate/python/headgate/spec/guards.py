"""Guards of a rollout: alarms, comparisons and limits."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Tag, model_validator

from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, Text, Wire, has_field, one_of

_METRIC_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")

Tolerated = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
"""Relative: with 0.5, the candidate may fail at 1.5 times the stable revision's rate."""


class ErrorGuard(Wire):
    """Compare errors per revision."""

    tolerate: Tolerated = 0.0
    """How much worse the candidate may be, relative to the stable revision. With 0.5, it may fail at 1.5 times the
    stable rate."""


class LatencyGuard(Wire):
    """Compare how many requests are slower than a threshold."""

    threshold_ms: Annotated[float, Field(strict=True, ge=0.001, le=900_000, allow_inf_nan=False)] | None = None
    """A request that takes longer is slow. Default: the 95th percentile of the target's durations over the day before
    the rollout starts."""
    tolerate: Tolerated = 0.0
    """As for ``errors``: with 0.5, the candidate may be slow 1.5 times as often."""


OF_REVISION = "{revision}"

OF_TARGET_GROUPS = ("{targetGroup}", "{loadBalancer}")
"""Placeholders in custom guards of ECS services."""


class MetricQuery(Wire):
    """A CloudWatch metric that counts by the minute. ``{revision}`` in a value stands for each revision.

    For an ECS service, ``{targetGroup}`` stands for the target group of each revision, and ``{loadBalancer}`` for its
    load balancer, as CloudWatch names them in its dimensions.
    """

    namespace: Annotated[str, Field(min_length=1, max_length=255), NUMBER_AS_TEXT]
    """Namespace of the metric."""
    metric_name: Annotated[str, Field(min_length=1, max_length=255), NUMBER_AS_TEXT]
    """Name of the metric."""
    dimensions: Annotated[dict[str, Text], Field(max_length=30)] = {}
    """Names and values of the dimensions."""
    stat: Annotated[str, Field(min_length=1, max_length=64), NUMBER_AS_TEXT] = "Sum"
    """Statistic that yields the count for a minute."""

    @property
    def placeholders(self) -> frozenset[str]:
        """The placeholders in its values."""
        texts = (self.namespace, self.metric_name, *self.dimensions.values())
        return frozenset(name for name in (OF_REVISION, *OF_TARGET_GROUPS) if any(name in text for text in texts))


class MathQuery(Wire):
    """Metric math over named metrics: {"expression": "all - good", "metrics": {"all": {...}, "good": {...}}}."""

    expression: Annotated[str, Field(min_length=1, max_length=1024), NUMBER_AS_TEXT]
    """Metric math over the names in ``metrics``."""
    metrics: Annotated[
        dict[
            Annotated[
                str,
                AfterValidator(must_match(_METRIC_ID, "must be a lowercase letter, then letters, digits and _")),
            ],
            MetricQuery,
        ],
        Field(min_length=1, max_length=10),
    ]
    """Metrics of the expression by name. A name is a lowercase letter, then letters, digits and ``_``."""


Query = Annotated[
    Annotated[MetricQuery, Tag("<metric>")] | Annotated[MathQuery, Tag("<math>")],
    one_of({"<math>": has_field(MathQuery, "expression"), "<metric>": lambda _: True}),
]


class CustomGuard(Wire):
    """Compare any two counts that CloudWatch holds per revision."""

    name: Annotated[str, Field(min_length=1, max_length=64), NUMBER_AS_TEXT]
    """Name of the guard in the verdict. Each custom guard needs its own."""
    requests: Query
    """Count of requests. A value of at least one metric must contain ``{revision}``, or ``{targetGroup}`` for an ECS
    service."""
    failures: Query
    """Count of failures among these requests. The same rule applies."""
    tolerate: Tolerated = 0.0
    """As for ``errors``."""

    @model_validator(mode="after")
    def _per_revision(self) -> CustomGuard:
        for field, query in (("requests", self.requests), ("failures", self.failures)):
            if not placeholders_in(query) - {"{loadBalancer}"}:
                raise ValueError(f"{field} is the same for both revisions; put {{revision}} into a dimension's value")
        return self


def placeholders_in(query: MetricQuery | MathQuery) -> frozenset[str]:
    """Return the placeholders in the values of a query's metrics."""
    metrics = [query] if isinstance(query, MetricQuery) else query.metrics.values()
    return frozenset[str]().union(*(metric.placeholders for metric in metrics))


class SourceGuard(Wire):
    """Absolute limits on a consumer's source. The rollout is rolled back if one is exceeded."""

    oldest_message_seconds: Annotated[int, Field(strict=True, ge=1)] | None = None
    """For a queue: age of its oldest message. SQS leaves out messages that were received several times, so add another
    limit."""
    backlog_growth: Annotated[int, Field(strict=True, ge=0)] | None = None
    """For a queue: how many more messages are visible than when the rollout started."""
    dead_letters: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Dead letters, or batches of a stream that the mapping gave up on, during the rollout. Start with 0."""
    iterator_age_seconds: Annotated[int, Field(strict=True, ge=1)] | None = None
    """For a stream: seconds that the consumer is behind."""
    failed_events: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Messages or records on which the function failed in a minute, including partial batch failures. Refused unless
    the mapping reports them (``MetricsConfig`` ``{"Metrics": ["EventCount"]}``)."""

    @model_validator(mode="after")
    def _limits_something(self) -> SourceGuard:
        if all(value is None for value in self.limits.values()):
            raise ValueError(
                "set a limit: oldestMessageSeconds, backlogGrowth, deadLetters, iteratorAgeSeconds or failedEvents"
            )
        return self

    @property
    def limits(self) -> dict[str, int | None]:
        """Limits by their names on the wire."""
        return {
            "oldestMessageSeconds": self.oldest_message_seconds,
            "backlogGrowth": self.backlog_growth,
            "deadLetters": self.dead_letters,
            "iteratorAgeSeconds": self.iterator_age_seconds,
            "failedEvents": self.failed_events,
        }


class ServiceGuard(Wire):
    """Absolute limits on the candidate's tasks of an ECS service. The rollout is rolled back if one is exceeded."""

    unhealthy_hosts: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Tasks of the candidate that a target group considers unhealthy at the same time. 0 rolls back at the first."""
    task_exits: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Tasks of the candidate that stopped by themselves during the rollout: one could not start, an essential container
    exited, or a health check failed. Tasks that are scaled in or lose their Spot capacity do not count. 0 rolls back at
    the first."""

    @model_validator(mode="after")
    def _limits_something(self) -> ServiceGuard:
        if all(value is None for value in self.limits.values()):
            raise ValueError("set a limit: unhealthyHosts or taskExits")
        return self

    @property
    def limits(self) -> dict[str, int | None]:
        """Limits by their names on the wire."""
        return {"unhealthyHosts": self.unhealthy_hosts, "taskExits": self.task_exits}


class EarlyPromotion(Wire):
    """Promote before all steps are done, once the evidence rules out a candidate that is much worse."""

    worse: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = 1.0
    """The evidence must rule out a candidate that fails (1 + ``worse``) times as often as the stable revision."""
    beta: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.05
    """Probability that such a candidate is still promoted early. At least 1e-12."""


MAX_ALARMS = 90
"""Maximum alarms of one rollout: they are written in one transaction, which has at most 100 items."""

MIN_CLOUDWATCH_MINUTES = 5
"""Minimum bake for evidence from CloudWatch, which counts whole minutes and is a minute or two late."""


def _is_no_arn(name: str) -> str:
    if name.startswith("arn:"):
        raise ValueError(f"give the name of the alarm, not its ARN: {name.rpartition(':alarm:')[2]}")
    return name


AlarmName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_is_no_arn), NUMBER_AS_TEXT]


class Guards(Wire):
    """Guards of a rollout."""

    alarms: Annotated[list[AlarmName], Field(max_length=MAX_ALARMS)] = []
    """Names of CloudWatch alarms: metric, composite or log alarms. The rollout ends at once when one goes to ALARM or
    is deleted. An alarm that is in ALARM at the start counts once it has recovered."""
    strict_alarms: bool = False
    """Refuse the rollout while one of these alarms is in ALARM."""
    errors: ErrorGuard | None = None
    """Compare the error rates of the two revisions. ``{}`` tolerates nothing."""
    latency: LatencyGuard | None = None
    """Compare how many requests are slow. ``{}`` uses a threshold from the target's past."""
    custom: Annotated[list[CustomGuard], Field(max_length=10)] = []
    """Compare any two counts that CloudWatch holds per revision."""
    source: SourceGuard | None = None
    """For a consumer: absolute limits on its queue or stream."""
    service: ServiceGuard | None = None
    """For an ECS service: absolute limits on the candidate's tasks."""
    alpha: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.01
    """Probability that a candidate that is no worse is rolled back, over the whole rollout. The guards that compare
    share it equally. At least 1e-12."""
    evidence: Literal["telemetry", "cloudwatch"] = "telemetry"
    """Source of the counts for errors and latency. ``telemetry``: within seconds. ``cloudwatch``: by the minute,
    without a change to the function; steps then bake for at least 300 seconds."""
    outcomes_per_invocation: Annotated[float, Field(strict=True, ge=1, le=1_000_000, allow_inf_nan=False)] | None = None
    """Maximum outcomes that telemetry may report for each invocation that Lambda counted, or each request that the load
    balancer sent to an ECS service. More block a promotion. Default: 1 for a function that reports by
    ``Telemetry.observe``, any number for what only reports by ``Telemetry.record``. Set it to the batch size if a
    function does both."""
    failures_per_cause: Annotated[float, Field(strict=True, ge=1, le=1000, allow_inf_nan=False)] = 1.0
    """Maximum failures from one cause, such as a client that retries, if telemetry cannot name the cause. The judge
    becomes slower by this factor."""
    noise: Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)] = 0.0
    """Coefficient of variation of each revision's failure rate from minute to minute for other reasons, such as one bad
    host among many. 0.3 is typical."""
    promote_early: EarlyPromotion | None = None
    """Promote before all steps are done, once the evidence rules out a candidate that is much worse."""
    on_no_data: Literal["wait", "fail", "pass"] = "wait"
    """What happens after a bake without requests of one revision. ``wait``: bake again, at most 12 times, then roll
    back. ``fail``: roll back. ``pass``: continue. A rollout without a guard that compares needs no data."""

    @property
    def compare(self) -> bool:
        """Whether any guard compares the revisions. Alarms do not."""
        return self.errors is not None or self.latency is not None or bool(self.custom)

    @property
    def protect(self) -> bool:
        """True if anything guards the rollout."""
        return self.compare or bool(self.alarms) or self.source is not None or self.service is not None

    @property
    def need_telemetry(self) -> bool:
        """True if a comparison has its counts from telemetry."""
        return self.evidence == "telemetry" and bool(self.errors or self.latency)

    @property
    def ask_cloudwatch(self) -> bool:
        """Whether counts are read from CloudWatch each minute."""
        return bool(self.custom) or (self.evidence == "cloudwatch" and self.compare)

    @model_validator(mode="after")
    def _judged_by_something(self) -> Guards:
        if self.promote_early and not self.compare:
            raise ValueError("promoteEarly needs a guard that compares; add errors, latency or custom")
        if len({guard.name for guard in self.custom}) < len(self.custom):
            raise ValueError("custom: each guard needs a unique name")
        return self
