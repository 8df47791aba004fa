"""Guards of a rollout: alarms, comparisons and limits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Tag, model_validator

from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, Text, Wire, has_field, one_of

_METRIC_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")

Tolerated = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
"""Relative: with 0.5, the candidate may fail at 1.5 times the stable revision's rate."""


GuardAction = Literal["rollback", "pause", "report"]
"""What a guard does when it speaks against the candidate: roll back, pause for an operator, or only be shown."""


class ErrorGuard(Wire):
    """Compare errors per revision."""

    tolerate: Tolerated = 0.0
    """How much worse the candidate may be, relative to the stable revision. With 0.5, it may fail at 1.5 times the
    stable rate."""
    action: GuardAction = "rollback"
    """What happens when the evidence is enough. ``rollback``: roll back, or what ``onFailure`` says. ``pause``: wait
    for an operator. ``report``: only show it; such a guard takes no part of ``alpha``."""


ThresholdMs = Annotated[float, Field(strict=True, ge=0.001, le=900_000, allow_inf_nan=False)]
"""Duration of a request, in milliseconds."""

MAX_THRESHOLDS = 6


class LatencyGuard(Wire):
    """Compare how many requests are slow: slower than one threshold, or than each of several."""

    threshold_ms: ThresholdMs | None = None
    """A request that takes longer is slow. Default: several thresholds from the target's past, see ``thresholdsMs``."""
    thresholds_ms: Annotated[list[ThresholdMs], Field(max_length=MAX_THRESHOLDS)] = []
    """Several thresholds instead of one, ascending. The evidence is the average over them, so that a shifted median, a
    longer tail and more variance are all seen. Default: the median and the 75th, 90th, 95th, 99th and 99.9th percentile
    of the target's durations over the day before the rollout starts."""
    tolerate: Tolerated = 0.0
    """As for ``errors``: with 0.5, the candidate may be slow 1.5 times as often."""
    warm_up: Annotated[int, Field(strict=True, ge=0, le=3600)] = 0
    """Seconds after the start of an execution environment or task for which the durations of its requests do not count,
    for either revision. Their failures count. Only with telemetry. The first request of an environment of a function
    never counts."""
    action: GuardAction = "rollback"
    """As for ``errors``."""

    @model_validator(mode="after")
    def _one_shape(self) -> LatencyGuard:
        if self.threshold_ms is not None and self.thresholds_ms:
            raise ValueError("give thresholdMs or thresholdsMs, not both")
        if sorted(set(self.thresholds_ms)) != self.thresholds_ms:
            raise ValueError("thresholdsMs must rise from one to the next")
        return self

    @property
    def thresholds(self) -> list[float]:
        """All thresholds in milliseconds; none if they come from the target's past and the plan is not made yet."""
        return self.thresholds_ms if self.threshold_ms is None else [self.threshold_ms]


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


class CountFunction(Wire):
    """A Lambda function that counts the requests and failures of each revision."""

    lambda_: Annotated[str, Field(alias="lambda", min_length=1, max_length=256), NUMBER_AS_TEXT]
    """Name or ARN of the function. ``headgate-prometheus-counter`` asks a Prometheus server."""
    config: dict[str, Any] = {}
    """Your data, which the function gets as ``config``. No secrets: the plan shows it."""


class MetricGuard(Wire):
    """Compare any two counts per revision that CloudWatch has."""

    name: Annotated[str, Field(min_length=1, max_length=64), NUMBER_AS_TEXT]
    """Name of the guard in the verdict. Each custom guard needs its own."""
    requests: Query
    """Count of requests. A value of at least one metric must contain ``{revision}``, or ``{targetGroup}`` for an ECS
    service."""
    failures: Query
    """Count of failures among these requests. The same rule applies."""
    tolerate: Tolerated = 0.0
    """As for ``errors``."""
    action: GuardAction = "rollback"
    """As for ``errors``."""

    @model_validator(mode="after")
    def _per_revision(self) -> MetricGuard:
        for field, query in self.queries.items():
            if not placeholders_in(query) - {"{loadBalancer}"}:
                raise ValueError(f"{field} is the same for both revisions; put {{revision}} into a dimension's value")
        return self

    @property
    def queries(self) -> dict[str, MetricQuery | MathQuery]:
        """The queries of CloudWatch by what they count."""
        return {"requests": self.requests, "failures": self.failures}


class CountGuard(Wire):
    """Compare the requests and failures of each revision that a function counts."""

    name: Annotated[str, Field(min_length=1, max_length=64), NUMBER_AS_TEXT]
    """Name of the guard in the verdict. Each custom guard needs its own."""
    counts: CountFunction
    """The function that counts requests and failures."""
    tolerate: Tolerated = 0.0
    """As for ``errors``."""
    action: GuardAction = "rollback"
    """As for ``errors``."""

    @property
    def queries(self) -> dict[str, MetricQuery | MathQuery]:
        """No query of CloudWatch."""
        return {}


CustomGuard = Annotated[
    Annotated[CountGuard, Tag("<counts>")] | Annotated[MetricGuard, Tag("<requests>")],
    one_of({"<counts>": has_field(CountGuard, "counts"), "<requests>": lambda _: True}),
]
"""Compare any two counts per revision: from a function, or from CloudWatch."""


def placeholders_in(query: MetricQuery | MathQuery) -> frozenset[str]:
    """Return the placeholders in the values of a query's metrics."""
    metrics = [query] if isinstance(query, MetricQuery) else query.metrics.values()
    return frozenset[str]().union(*(metric.placeholders for metric in metrics))


class SourceGuard(Wire):
    """Absolute limits on a consumer's source."""

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

    action: GuardAction = "rollback"
    """What happens when a limit is exceeded, as for ``errors``."""

    @model_validator(mode="after")
    def _limits_something(self) -> SourceGuard:
        if all(value is None for value in self.limits.values()):
            raise ValueError(
                "set a limit: oldestMessageSeconds, backlogGrowth, deadLetters, iteratorAgeSeconds or failedEvents"
            )
        return self

    @property
    def watched(self) -> bool:
        """True if a limit still counts after the promotion. Dead letters do not: the rollout's own queue is gone."""
        return any(limit is not None for name, limit in self.limits.items() if name != "deadLetters")

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
    """Absolute limits on the candidate's tasks of an ECS service."""

    unhealthy_hosts: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Tasks of the candidate that a target group considers unhealthy at the same time. 0 rolls back at the first."""
    task_exits: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Tasks of the candidate that stopped by themselves during the rollout: one could not start, an essential container
    exited, or a health check failed. Tasks that are scaled in or lose their Spot capacity do not count. 0 rolls back at
    the first."""

    action: GuardAction = "rollback"
    """What happens when a limit is exceeded, as for ``errors``."""

    @model_validator(mode="after")
    def _limits_something(self) -> ServiceGuard:
        if all(value is None for value in self.limits.values()):
            raise ValueError("set a limit: unhealthyHosts or taskExits")
        return self

    @property
    def watched(self) -> bool:
        """True: both limits count after the promotion."""
        return True

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


class LeastRequests(Wire):
    """Hold each bake until the candidate has had enough requests."""

    count: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
    """Requests of the candidate in the bake, as the first guard that compares and acts counts them. If none acts, the
    first that compares."""
    limit_seconds: Annotated[int, Field(strict=True, ge=1, le=7 * 24 * 3600)] = 3600
    """How long to hold a bake beyond its time. After that, the bake fails; with ``onNoData`` ``pass`` the rollout
    continues."""


MAX_ALARMS = 90
"""Maximum alarms of one rollout: they are written in one transaction, which has at most 100 items."""

MIN_CLOUDWATCH_MINUTES = 5
"""Minimum bake for counts by the minute, from CloudWatch or from functions, which are a minute or two late."""


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
    """Compare how many requests are slow. ``{}`` uses thresholds from the target's past."""
    custom: Annotated[list[CustomGuard], Field(max_length=10)] = []
    """Compare any two counts per revision, from CloudWatch or from a function."""
    source: SourceGuard | None = None
    """For a consumer: absolute limits on its queue or stream."""
    service: ServiceGuard | None = None
    """For an ECS service: absolute limits on the candidate's tasks."""
    alpha: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.01
    """Probability that a candidate that is no worse is rolled back or paused, over the whole rollout. The guards that
    compare and act share it: the evidence of those with the same action is averaged. At least 1e-12."""
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
    least_requests: LeastRequests | None = None
    """Hold each bake until the candidate has had enough requests."""
    on_share_mismatch: Literal["report", "pause"] = "report"
    """What happens if the candidate's share of the requests cannot be by chance what the step's weight says, at an
    error probability of 0.0001: a load balancer that is stuck, clients that stay, telemetry that is missing.
    ``report``: the verdict says it. ``pause``: the verdict is inconclusive, and the rollout waits for an operator. Only
    where single requests are routed, so not for a consumer."""
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
    def can_act(self) -> bool:
        """True if a guard that compares may roll back or pause."""
        comparing = (self.errors, self.latency, *self.custom)
        return any(guard is not None and guard.action != "report" for guard in comparing)

    @property
    def only_report(self) -> bool:
        """True if there are guards, and none of them may roll back or pause."""
        limits_act = (self.source is not None or self.service is not None) and self.limit_action != "report"
        return self.protect and not (self.can_act or self.alarms or limits_act)

    @property
    def limit_action(self) -> GuardAction:
        """What happens if a limit on the source or service is exceeded. A target has only one of them."""
        limits = self.source or self.service
        return limits.action if limits else "rollback"

    @property
    def need_telemetry(self) -> bool:
        """True if a comparison has its counts from telemetry."""
        return self.evidence == "telemetry" and bool(self.errors or self.latency)

    @property
    def count_by_minute(self) -> bool:
        """Whether counts are read each minute, from CloudWatch or from functions."""
        return self.ask_cloudwatch or self.ask_functions

    @property
    def ask_cloudwatch(self) -> bool:
        """Whether counts are read from CloudWatch each minute."""
        by_metrics = any(isinstance(guard, MetricGuard) for guard in self.custom)
        return by_metrics or (self.evidence == "cloudwatch" and bool(self.errors or self.latency))

    @property
    def ask_functions(self) -> bool:
        """Whether counts are read from functions each minute."""
        return any(isinstance(guard, CountGuard) for guard in self.custom)

    @model_validator(mode="after")
    def _judged_by_something(self) -> Guards:
        if self.promote_early and not self.compare:
            raise ValueError("promoteEarly needs a guard that compares; add errors, latency or custom")
        if self.promote_early and not self.can_act:
            raise ValueError(
                "promoteEarly needs a guard that acts, and all that compare only report; set the action of one to "
                "rollback or pause"
            )
        if self.least_requests and not self.compare:
            raise ValueError("leastRequests needs a guard that compares; add errors, latency or custom")
        if self.on_share_mismatch == "pause" and not (self.errors or self.latency):
            raise ValueError("onShareMismatch pause needs a guard that counts requests; add errors or latency")
        if self.latency and self.latency.warm_up and self.evidence == "cloudwatch":
            raise ValueError("latency.warmUp needs telemetry: CloudWatch does not say which environment answered")
        if len({guard.name for guard in self.custom}) < len(self.custom):
            raise ValueError("custom: each guard needs a unique name")
        return self
