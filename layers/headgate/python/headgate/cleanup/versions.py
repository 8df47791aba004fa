"""The published versions of a function, and what uses them."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from botocore.exceptions import ClientError

from headgate.analysis.metric_queries import metric_query
from headgate.aws.errors import code_of, message_of
from headgate.aws.patterns import function_name
from headgate.cleanup.policy import DAY_SECONDS, Revision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import AliasConfigurationTypeDef

    from headgate.cleanup.model import Outcome
    from headgate.cleanup.records import RolloutUses, Uses

PROVISIONED_CONCURRENCY = "lambda:function:ProvisionedConcurrency"

INVOKED_DAYS = 30
"""How far back an invocation of a version keeps it."""

METRICS_PER_CALL = 500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""

FRESH_SECONDS = 30
"""How long the lists of all event source mappings and of all that is scaled count as those of now. They take calls for
the whole account. Before a deletion, those of the version itself are asked for: of the list, only which consumers may
have been rolled out is taken."""

Found = TypeVar("Found")

SCALED = "Application Auto Scaling scales its provisioned concurrency"

REPLICATED = "replicated function"
"""In Lambda's answer: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-edge-delete-replicas.html"""


class Account:
    """What uses versions anywhere in the account and Region. One for all functions of a run.

    Parameters
    ----------
    functions, scaling, metrics
        boto3's clients of Lambda, Application Auto Scaling and CloudWatch.
    rollouts
        The records of rollouts.
    """

    def __init__(
        self,
        functions: LambdaClient,
        scaling: Any,
        metrics: CloudWatchClient,
        rollouts: RolloutUses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.functions = functions
        self.scaling = scaling
        self.metrics = metrics
        self.rollouts = rollouts
        self._clock = clock
        self._read: dict[str, tuple[float, list[Any]]] = {}

    def mappings(self) -> list[tuple[str, str]]:
        """Return UUID and function ARN of every event source mapping, as of half a minute ago at most.

        The filter by function leaves out mappings that point at an alias or a version.
        """

        def read() -> list[tuple[str, str]]:
            pages = self.functions.get_paginator("list_event_source_mappings").paginate()
            found = [each for page in pages for each in page["EventSourceMappings"]]
            return [(each["UUID"], each.get("FunctionArn", "")) for each in found]

        return self._recent("mappings", read)

    def scaled(self) -> list[str]:
        """Return the versions and aliases that Application Auto Scaling scales, as of half a minute ago at most.

        They are called ``function:<name>:<qualifier>``.
        """
        return self._recent("scaled", self._scaled)

    def is_scaled(self, name: str, qualifier: str) -> bool:
        """Return whether Application Auto Scaling scales a version or alias now."""
        return bool(self._scaled(f"function:{name}:{qualifier}"))

    def _recent(self, what: str, read: Callable[[], list[Found]]) -> list[Found]:
        began = self._clock()
        if what not in self._read or began - self._read[what][0] > FRESH_SECONDS:
            self._read[what] = began, read()
        return self._read[what][1]

    def _scaled(self, *resources: str) -> list[str]:
        ids: dict[str, Any] = {"ResourceIds": list(resources)} if resources else {}
        pages = self.scaling.get_paginator("describe_scalable_targets").paginate(
            ServiceNamespace="lambda", ScalableDimension=PROVISIONED_CONCURRENCY, **ids
        )
        return [each["ResourceId"] for page in pages for each in page["ScalableTargets"]]


class FunctionVersions:
    """The versions of one function.

    Parameters
    ----------
    name
        Name of the function.
    """

    kind: Literal["function", "family"] = "function"
    not_checked: tuple[str, ...] = (
        f"callers that name a version which has no policy of its own, and have not called it for {INVOKED_DAYS} days",
    )

    def __init__(self, account: Account, name: str) -> None:
        self.name = name
        self._account = account
        self._functions = account.functions
        self._durable: set[str] = set()

    def revisions(self) -> list[Revision]:
        """Return all published versions, without $LATEST."""
        pages = self._functions.get_paginator("list_versions_by_function").paginate(FunctionName=self.name)
        found = []
        for page in pages:
            for each in page["Versions"]:
                version = each["Version"]
                if not version.isdigit():  # $LATEST, and $LATEST.PUBLISHED of managed instances.
                    continue
                if each.get("DurableConfig"):
                    self._durable.add(version)
                created = _time_of(each.get("LastModified", ""))
                found.append(Revision(version, int(version), created, each.get("CodeSize", 0)))
        return found

    def dated(self, revision: Revision) -> Revision:
        """Return the revision: the list has the times already."""
        return revision

    def uses(self) -> Uses:
        """Return why versions are needed, by version.

        Function URLs are not among them: they belong to the function or to an alias.
        """
        aliases = self._aliases()
        uses = self._named_by_aliases(aliases)
        for resource in self._account.scaled():
            namespace, name, qualifier = [*resource.split(":"), "", ""][:3]
            if (namespace, name) == ("function", self.name) and qualifier.isdigit():
                uses[qualifier].append(SCALED)
        for qualifier, provisioned in self._provisioned():
            uses[qualifier].append(f"it has provisioned concurrency ({provisioned})")
        for uuid, qualifier in self._mappings():
            if qualifier.isdigit():
                uses[qualifier].append(f"the event source mapping {uuid} invokes it")
        for version in self._with_executions() if self._durable else ():
            uses[version].append("a durable execution runs on it")
        _merge(uses, self._account.rollouts.of_targets(self._targets(aliases)))
        _merge(uses, self._account.rollouts.of_hooks(self.name))
        return uses

    def own_uses(self, names: Sequence[str]) -> Uses:
        """Return which versions have a policy that lets somebody invoke them, or were invoked by their number.

        GetPolicy has a quota of its own. Services that invoke a version by a role need no such policy; their calls show
        only in the metrics.
        """
        uses: Uses = defaultdict(list)
        for version in names:
            if self._has_policy(version):
                uses[version].append("a policy of its own lets somebody invoke it (aws lambda get-policy)")
        for start in range(0, len(names), METRICS_PER_CALL):
            for version, count in self._invocations(names[start : start + METRICS_PER_CALL]):
                uses[version].append(
                    f"it was invoked by its number in the last {INVOKED_DAYS} days (invocations: {count:,})"
                    if count is not None
                    else "CloudWatch did not say whether it was invoked by its number"
                )
        return uses

    def uses_now(self, version: str) -> list[str]:
        """Return why a version is needed now.

        This takes a call each for its aliases, provisioned concurrency, scaling, mappings, policy, durable executions
        (where it can have some) and metrics, and of the table two reads for each alias and consumer, two queries for
        hooks, and a read for each rollout that they newly show.
        """
        aliases = self._aliases()
        reasons = self._named_by_aliases(aliases)[version]
        try:
            config = self._functions.get_provisioned_concurrency_config(FunctionName=self.name, Qualifier=version)
            reasons.append(f"it has provisioned concurrency ({config['RequestedProvisionedConcurrentExecutions']})")
        except ClientError as error:
            if code_of(error) not in ("ProvisionedConcurrencyConfigNotFoundException", "ResourceNotFoundException"):
                raise
        mapped = self._functions.list_event_source_mappings(FunctionName=f"{self.name}:{version}")
        reasons += [
            f"the event source mapping {each['UUID']} invokes it"
            for each in mapped["EventSourceMappings"]
            if each.get("FunctionArn", "").endswith(f":{self.name}:{version}")
        ]
        if version in self._durable and version in self._with_executions(version):
            reasons.append("a durable execution runs on it")
        if self._account.is_scaled(self.name, version):
            reasons.append(SCALED)
        reasons += self.own_uses([version])[version]
        reasons += self._account.rollouts.of_targets(self._targets(aliases))[version]
        # Last: what comes after it is not seen.
        return reasons + self._account.rollouts.of_hooks(self.name)[version]

    def remove(self, version: str) -> tuple[Outcome, str]:
        """Delete a version."""
        if not version.isdigit():
            # Without a version, Lambda deletes the function with all its versions and aliases.
            raise ValueError(f"{version!r} is no version of {self.name}")
        try:
            self._functions.delete_function(FunctionName=self.name, Qualifier=version)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
        return "deleted", ""

    def explained(self, error: ClientError) -> str:
        """Return why Lambda refused to delete a version."""
        said = message_of(error)
        if REPLICATED in said:
            return (
                "Lambda@Edge has replicas of it; remove it from all distributions of CloudFront, and try again some "
                f"hours later ({said})"
            )
        return f"Lambda refused: {code_of(error)}: {said}"

    def _aliases(self) -> list[AliasConfigurationTypeDef]:
        pages = self._functions.get_paginator("list_aliases").paginate(FunctionName=self.name)
        return [each for page in pages for each in page["Aliases"]]

    def _named_by_aliases(self, aliases: Iterable[AliasConfigurationTypeDef]) -> Uses:
        uses: Uses = defaultdict(list)
        for alias in aliases:
            uses[alias["FunctionVersion"]].append(f"alias {alias['Name']} points at it")
            weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
            for version, weight in weights.items():
                uses[version].append(f"alias {alias['Name']} sends {100 * weight:g}% of the requests to it")
        return uses

    def _provisioned(self) -> list[tuple[str, int]]:
        """Return versions with provisioned concurrency, and how much. An alias's own is that of its version."""
        pages = self._functions.get_paginator("list_provisioned_concurrency_configs").paginate(FunctionName=self.name)
        configs = [each for page in pages for each in page["ProvisionedConcurrencyConfigs"]]
        qualified = [
            (each["FunctionArn"].rpartition(":")[2], each["RequestedProvisionedConcurrentExecutions"])
            for each in configs
        ]
        return [(qualifier, requested) for qualifier, requested in qualified if qualifier.isdigit()]

    def _mappings(self) -> list[tuple[str, str]]:
        """Return UUID and qualifier of the function's mappings; the qualifier is empty for $LATEST."""
        return [
            (uuid, arn.rpartition("function:")[2].partition(":")[2])
            for uuid, arn in self._account.mappings()
            if function_name(arn) == self.name
        ]

    def _targets(self, aliases: Iterable[AliasConfigurationTypeDef]) -> list[str]:
        """Return the keys of the targets that Headgate may have rolled out."""
        by_alias = [f"lambda-alias/{self.name}/{alias['Name']}" for alias in aliases]
        return by_alias + [f"event-source/{uuid}" for uuid, _ in self._mappings()]

    def _with_executions(self, version: str | None = None) -> set[str]:
        """Return versions that a durable execution runs on. It stays with the version that began it, for up to a year:
        https://docs.aws.amazon.com/lambda/latest/dg/durable-invoking.html
        """
        qualifier: dict[str, Any] = {"Qualifier": version} if version else {}
        pages = self._functions.get_paginator("list_durable_executions_by_function").paginate(
            FunctionName=self.name, Statuses=["RUNNING"], **qualifier
        )
        arns = [each["DurableExecutionArn"] for page in pages for each in page["DurableExecutions"]]
        return {arn.partition("/durable-execution/")[0].rpartition(":")[2] for arn in arns}

    def _invocations(self, versions: Sequence[str]) -> Iterator[tuple[str, int | None]]:
        """Yield the versions that were invoked by their number, and how often; None if CloudWatch does not know.

        Lambda counts such a call under the version as its ``Resource``, and one through an alias under the alias:
        https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
        """
        end = datetime.now(UTC)
        queries = [
            metric_query(
                f"v{version}",
                "AWS/Lambda",
                "Invocations",
                "Sum",
                {"FunctionName": self.name, "Resource": f"{self.name}:{version}"},
                period=DAY_SECONDS,
            )
            for version in versions
        ]
        pages = self._account.metrics.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=end - timedelta(days=INVOKED_DAYS), EndTime=end
        )
        counts: dict[str, float] = defaultdict(float)
        complete = set()
        for page in pages:
            for result in page["MetricDataResults"]:
                counts[result["Id"]] += sum(result["Values"])
                if result.get("StatusCode") == "Complete":
                    complete.add(result["Id"])
        for version in versions:
            if count := counts[f"v{version}"]:
                yield version, round(count)
            elif f"v{version}" not in complete:
                yield version, None

    def _has_policy(self, version: str) -> bool:
        try:
            self._functions.get_policy(FunctionName=self.name, Qualifier=version)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            return False
        return True


def _merge(uses: Uses, more: Uses) -> None:
    for name, reasons in more.items():
        uses[name] += [reason for reason in reasons if reason not in uses[name]]


def _time_of(text: str) -> datetime | None:
    """Return a time of Lambda's: ``2026-11-30T14:00:00.000+0000``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
