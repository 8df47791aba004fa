"""Functions with versions, and all that may use them, as clients of Lambda and other services see them."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

from typing import Any

from tests.builders import ACCOUNT, REGION
from tests.fakes.services import Refusal, Service

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"


class OldVersions(Service):
    """Functions with versions that were published a day apart, and what uses them. Pages have two entries."""

    def __init__(self, *names: str, count: int = 12) -> None:
        self.functions: dict[str, dict[str, dict[str, Any]]] = {
            name: {
                str(number): {
                    "FunctionName": name,
                    "Version": str(number),
                    "LastModified": f"2026-01-{number:02d}T00:00:00.000+0000",
                    "CodeSize": 2**20,
                }
                for number in range(1, count + 1)
            }
            for name in names or ("checkout",)
        }
        self.aliases: dict[str, dict[str, float]] = {}
        """Weights by version of each alias, as name:alias. The first version is the one it points at."""
        self.provisioned: dict[str, int] = {}
        """By version or alias, as name:qualifier."""
        self.scaled: list[str] = []
        self.mappings: dict[str, str] = {}
        """The function's ARN by UUID."""
        self.executions: list[str] = []
        """Versions on which a durable execution runs, as name:version."""
        self.policies: set[str] = set()
        self.invoked: dict[str, list[float]] = {}
        """Invocations by day of a version or an alias, as name:qualifier."""
        self.unknown: set[str] = set()
        """Versions whose invocations CloudWatch does not know in full."""
        self.metrics_read: list[list[str]] = []
        """The versions that each GetMetricData asked for."""
        self.refusals: dict[str, Refusal] = {}
        """Why a version cannot be deleted."""
        self.deleted: list[str] = []
        self.calls: list[str] = []
        self.before_deletion: Any = lambda: None

    def point(self, alias: str, version: str, **weights: float) -> None:
        """Let an alias, as name:alias, point at a version; other versions are given as v3=0.1."""
        self.aliases[alias] = {version: 0.0} | {name.removeprefix("v"): weight for name, weight in weights.items()}

    def ListFunctions(self, Marker: str = "0", MaxItems: int = 50) -> dict[str, Any]:
        return _page("Functions", [{"FunctionName": name} for name in self.functions], Marker)

    def ListVersionsByFunction(self, FunctionName: str, Marker: str = "0") -> dict[str, Any]:
        self.calls.append("ListVersionsByFunction")
        if FunctionName not in self.functions:
            raise Refusal("ResourceNotFoundException", f"Function not found: {ARN}:{FunctionName}")
        latest = {"FunctionName": FunctionName, "Version": "$LATEST", "LastModified": "2020-01-01T00:00:00.000+0000"}
        return _page("Versions", [latest, *self.functions[FunctionName].values()], Marker)

    def ListAliases(self, FunctionName: str, Marker: str = "0") -> dict[str, Any]:
        found = []
        for named, weights in self.aliases.items():
            name, _, alias = named.partition(":")
            if name == FunctionName:
                (version, _), *others = weights.items()
                routing = {"RoutingConfig": {"AdditionalVersionWeights": dict(others)}} if others else {}
                found.append({"Name": alias, "FunctionVersion": version, **routing})
        return _page("Aliases", found, Marker)

    def ListProvisionedConcurrencyConfigs(self, FunctionName: str, Marker: str = "0") -> dict[str, Any]:
        configs = [
            {"FunctionArn": f"{ARN}:{named}", "RequestedProvisionedConcurrentExecutions": count}
            for named, count in self.provisioned.items()
            if named.partition(":")[0] == FunctionName
        ]
        return _page("ProvisionedConcurrencyConfigs", configs, Marker)

    def GetProvisionedConcurrencyConfig(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        if (count := self.provisioned.get(f"{FunctionName}:{Qualifier}")) is None:
            raise Refusal("ProvisionedConcurrencyConfigNotFoundException")
        return {"RequestedProvisionedConcurrentExecutions": count}

    def DescribeScalableTargets(
        self,
        ServiceNamespace: str,
        ScalableDimension: str,
        ResourceIds: list[str] | None = None,
        NextToken: str = "0",
    ) -> dict[str, Any]:
        assert (ServiceNamespace, ScalableDimension) == ("lambda", "lambda:function:ProvisionedConcurrency")
        page = _page("ScalableTargets", _scalable(self.scaled, ResourceIds), NextToken)
        return {"NextToken" if name == "NextMarker" else name: value for name, value in page.items()}

    def ListEventSourceMappings(self, FunctionName: str | None = None, Marker: str = "0") -> dict[str, Any]:
        found = [
            {"UUID": uuid, "FunctionArn": arn}
            for uuid, arn in self.mappings.items()
            if FunctionName is None or arn == f"{ARN}:{FunctionName}"
        ]
        return _page("EventSourceMappings", found, Marker)

    def ListDurableExecutionsByFunction(
        self, FunctionName: str, Statuses: list[str], Qualifier: str | None = None, Marker: str = "0"
    ) -> dict[str, Any]:
        self.calls.append("ListDurableExecutionsByFunction")
        assert Statuses == ["RUNNING"]
        found = [
            {"DurableExecutionArn": f"{ARN}:{named}/durable-execution/order-1/0c"}
            for named in self.executions
            if named.startswith(f"{FunctionName}:") and Qualifier in (None, named.rpartition(":")[2])
        ]
        return _page("DurableExecutions", found, Marker)

    def GetPolicy(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        self.calls.append("GetPolicy")
        if f"{FunctionName}:{Qualifier}" not in self.policies:
            raise Refusal("ResourceNotFoundException")
        return {"Policy": "{}"}

    def GetMetricData(
        self, MetricDataQueries: list[dict[str, Any]], StartTime: Any, EndTime: Any, NextToken: str = ""
    ) -> dict[str, Any]:
        assert len(MetricDataQueries) <= 500
        assert 29 <= (EndTime - StartTime).days <= 30
        results = []
        for query in MetricDataQueries:
            metric = query["MetricStat"]["Metric"]
            (function, resource) = (each["Value"] for each in metric["Dimensions"])
            assert (metric["Namespace"], metric["MetricName"]) == ("AWS/Lambda", "Invocations")
            assert resource.startswith(f"{function}:")
            # A page in between, as CloudWatch answers long series.
            values, rest = self.invoked.get(resource, [])[:1], self.invoked.get(resource, [])[1:]
            partial = not NextToken or resource in self.unknown
            results.append(
                {
                    "Id": query["Id"],
                    "Values": rest if NextToken else values,
                    "StatusCode": "PartialData" if partial else "Complete",
                }
            )
        if not NextToken:
            named = [query["MetricStat"]["Metric"]["Dimensions"][1]["Value"] for query in MetricDataQueries]
            self.metrics_read.append([name.rpartition(":")[2] for name in named])
        return {"MetricDataResults": results, **({} if NextToken else {"NextToken": "more"})}

    def DeleteFunction(self, FunctionName: str, Qualifier: str) -> None:
        named = f"{FunctionName}:{Qualifier}"
        if named in self.refusals:
            raise self.refusals[named]
        if self.functions[FunctionName].pop(Qualifier, None) is None:
            raise Refusal("ResourceNotFoundException")
        self.deleted.append(named)
        self.before_deletion()


def _scalable(names: list[str], wanted: list[str] | None) -> list[dict[str, str]]:
    return [{"ResourceId": name} for name in names if wanted is None or name in wanted]


def _page(name: str, entries: list[Any], marker: str) -> dict[str, Any]:
    begin = int(marker)
    more = {"NextMarker": str(begin + 2)} if begin + 2 < len(entries) else {}
    return {name: entries[begin : begin + 2], **more}
