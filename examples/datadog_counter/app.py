"""Counts requests and failures of two revisions for a guard of Headgate, by one query of Datadog.

config: ``{"requests": "<query>", "failures": "<query>"}``. ``$revision`` in a query stands for each revision.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import cache
from http.client import HTTPSConnection
from typing import Any

import boto3

MINUTE_MS = 60_000
ANSWER_SECONDS = 5
ARMS = ("candidate", "stable")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer with the counts of each minute. An error is no data for this look; Headgate asks again in a minute."""
    begin, end = (milliseconds(event[name]) for name in ("from", "to"))
    queries = queries_of(event["config"], event["revisions"])
    counts = counts_in(ask(timeseries_request(queries, begin, end)), list(queries))
    return {"minutes": [minute_of(start, counts) for start in range(begin, end, MINUTE_MS)]}


def queries_of(config: dict[str, str], revisions: dict[str, str]) -> dict[str, str]:
    """Return the four queries by name, such as ``candidate_requests``."""
    queries = {}
    for what in ("requests", "failures"):
        if "$revision" not in config[what]:
            raise ValueError(f"config.{what} is the same for both revisions; put $revision into it")
        for arm in ARMS:
            # Datadog writes tags in lower case, without a few characters: https://docs.datadoghq.com/getting_started/tagging/
            queries[f"{arm}_{what}"] = config[what].replace("$revision", revisions[arm].lower())
    return queries


def timeseries_request(queries: dict[str, str], begin: int, end: int) -> dict[str, Any]:
    """Return the body for https://docs.datadoghq.com/api/latest/metrics/#query-timeseries-data-across-multiple-products."""
    attributes = {
        "from": begin,
        "to": end,
        "interval": MINUTE_MS,
        "queries": [{"data_source": "metrics", "name": name, "query": query} for name, query in queries.items()],
        "formulas": [{"formula": name} for name in queries],
    }
    return {"data": {"type": "timeseries_request", "attributes": attributes}}


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to Datadog and return its answer."""
    keys = secret()
    headers = {
        "Content-Type": "application/json",
        "DD-API-KEY": keys["apiKey"],
        "DD-APPLICATION-KEY": keys["applicationKey"],
    }
    # The site is not in the config: whoever may request a rollout writes that, and would get the keys.
    connection = HTTPSConnection(f"api.{os.environ['DATADOG_SITE']}", timeout=ANSWER_SECONDS)
    try:
        connection.request("POST", "/api/v2/query/timeseries", json.dumps(request), headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"Datadog answered with {response.status}: {body[:200].decode(errors='replace')}")
    answer: dict[str, Any] = json.loads(body)
    return answer


@cache
def secret() -> dict[str, str]:
    """Read the keys once. Changed keys need a new deployment, or a cache that ends, as Powertools has."""
    client = boto3.client("secretsmanager")
    keys: dict[str, str] = json.loads(client.get_secret_value(SecretId=os.environ["DATADOG_SECRET"])["SecretString"])
    return keys


def counts_in(answer: dict[str, Any], names: list[str]) -> dict[str, dict[int, int]]:
    """Return the counts of each query by the beginning of the minute, in milliseconds since 1970.

    A query without any point has no series in the answer, and a minute without one is null.
    """
    if errors := answer.get("errors"):
        raise RuntimeError(f"Datadog could not evaluate a query: {errors}")
    data = answer["data"]["attributes"]
    if any(time % MINUTE_MS for time in data["times"]):
        raise ValueError("Datadog did not answer by the minute; leave out .rollup()")
    counts: dict[str, dict[int, int]] = {name: {} for name in names}
    for series, values in zip(data["series"], data["values"], strict=True):
        if tags := series.get("group_tags"):
            raise ValueError(f"a query returns a series for each of {tags}; leave out its by")
        points = zip(data["times"], values, strict=True)
        counts[names[series["query_index"]]] = {time: round(value) for time, value in points if value is not None}
    return counts


def minute_of(start: int, counts: dict[str, dict[int, int]]) -> dict[str, Any]:
    """Return one minute of the answer to Headgate."""
    minute = datetime.fromtimestamp(start / 1000, UTC).isoformat().replace("+00:00", "Z")
    return {"minute": minute} | {
        arm: {what: counts[f"{arm}_{what}"].get(start, 0) for what in ("requests", "failures")} for arm in ARMS
    }


def milliseconds(time: str) -> int:
    """Return a time of the event in milliseconds since 1970."""
    return int(datetime.fromisoformat(time).timestamp()) * 1000
