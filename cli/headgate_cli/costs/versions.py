"""The versions of an alias: their memory and architecture, and how long their requests took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.analysis.metric_queries import metric_query
from headgate.aws.lambda_functions import configuration_of
from headgate_cli.costs.requests import Served
from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef
    from mypy_boto3_lambda import LambdaClient

HOUR_SECONDS = 3600


def served_by(
    functions: LambdaClient,
    cloudwatch: CloudWatchClient,
    function: str,
    alias: str,
    versions: Sequence[str],
    hours: int,
) -> list[Served]:
    """Return what versions of a function do for each request through an alias.

    Parameters
    ----------
    versions
        Versions to look at; none for those that the alias names.
    hours
        How far back the durations go.

    Raises
    ------
    Failure
        If CloudWatch has no durations of a version.
    """
    described = functions.get_alias(FunctionName=function, Name=alias)
    routed = (described.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    named = list(versions) or [described["FunctionVersion"], *routed]
    name = function.rpartition(":")[2]
    # Without a second version, Lambda may not tell what ran by version: then all requests of the alias are its own.
    alone = named == [described["FunctionVersion"]]
    found = _durations(cloudwatch, name, alias, named, hours, alone=alone)
    served = []
    for version in named:
        if version not in found:
            raise Failure(
                f"CloudWatch has no Duration of version {version} through {name}:{alias} in the last {hours} hours; "
                "give more --hours, or --memory and --duration instead of the alias"
            )
        configuration = configuration_of(functions, function, version)
        milliseconds, requests = found[version]
        served.append(
            Served(
                version=version,
                memory_mb=configuration["MemorySize"],
                architecture="x86_64" if "x86_64" in configuration.get("Architectures", ["x86_64"]) else "arm64",
                milliseconds=milliseconds,
                requests_seen=requests,
            )
        )
    return served


def _durations(
    cloudwatch: CloudWatchClient, function: str, alias: str, versions: Sequence[str], hours: int, *, alone: bool
) -> dict[str, tuple[float, float]]:
    """Return the mean duration in milliseconds and the number of requests, of each version that has any."""
    end = datetime.now(UTC)
    resource = {"FunctionName": function, "Resource": f"{function}:{alias}"}
    queries: list[MetricDataQueryTypeDef] = []
    for number, version in enumerate(versions):
        dimensions = resource | {"ExecutedVersion": version}
        queries += _queries(f"v{number}", dimensions)
    if alone:
        queries += _queries("all", resource)
    sums: dict[str, float] = {}
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, StartTime=end - timedelta(hours=hours), EndTime=end
    )
    for page in pages:
        for result in page["MetricDataResults"]:
            sums[result["Id"]] = sums.get(result["Id"], 0) + sum(result["Values"])
    found = {}
    for number, version in enumerate(versions):
        for query in (f"v{number}", "all"):
            if requests := sums.get(f"{query}_n"):
                found[version] = sums[f"{query}_sum"] / requests, requests
                break
    return found


def _queries(query_id: str, dimensions: dict[str, str]) -> list[MetricDataQueryTypeDef]:
    return [
        metric_query(f"{query_id}_{suffix}", "AWS/Lambda", "Duration", stat, dimensions, period=HOUR_SECONDS)
        for suffix, stat in (("sum", "Sum"), ("n", "SampleCount"))
    ]
