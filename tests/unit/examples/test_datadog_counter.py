"""The example that counts by Datadog, with answers as Datadog documents them."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from tests.builders import ROOT, event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

TEN = 1_796_032_800_000
"""2026-11-30T10:00:00Z in milliseconds since 1970."""

EVENT = event("prometheus_counter") | {
    "config": {
        "requests": "sum:payments.total{version:$revision}.as_count()",
        "failures": "sum:payments.failed{version:$revision}.as_count()",
    }
}


def answer(*series: tuple[int, list[float | None]], **more: Any) -> dict[str, Any]:
    """An answer to a query of three minutes.

    https://docs.datadoghq.com/api/latest/metrics/#query-timeseries-data-across-multiple-products
    """
    attributes = {
        "series": [{"group_tags": [], "query_index": index, "unit": None} for index, _ in series],
        "times": [TEN, TEN + 60_000, TEN + 120_000],
        "values": [values for _, values in series],
    }
    return {"data": {"id": "0", "type": "timeseries_response", "attributes": attributes}, **more}


class Datadog:
    """Stands in for the connection: takes one request, and gives the answer that is set."""

    def __init__(self) -> None:
        self.status, self.answer = 200, answer()
        self.host = self.path = ""
        self.body: dict[str, Any] = {}
        self.headers: dict[str, str] = {}

    def __call__(self, host: str, timeout: float) -> Datadog:
        assert timeout == 5
        self.host = host
        return self

    def request(self, method: str, path: str, body: str, headers: dict[str, str]) -> None:
        assert method == "POST"
        self.path, self.body, self.headers = path, json.loads(body), headers

    def getresponse(self) -> Datadog:
        return self

    def read(self) -> bytes:
        return json.dumps(self.answer).encode()

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def datadog() -> Datadog:
    return Datadog()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, datadog: Datadog) -> Iterator[ModuleType]:
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "DATADOG_SITE": "datadoghq.eu",
        "DATADOG_SECRET": "datadog",
    }.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("datadog_counter", ROOT / "examples" / "datadog_counter" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HTTPSConnection", datadog)
    with mock_aws():
        keys = json.dumps({"apiKey": "api", "applicationKey": "application"})
        boto3.client("secretsmanager").create_secret(Name="datadog", SecretString=keys)
        yield module


def test_one_request_asks_for_both_counts_of_both_revisions(app: ModuleType, datadog: Datadog) -> None:
    app.handler(EVENT, None)
    assert (datadog.host, datadog.path) == ("api.datadoghq.eu", "/api/v2/query/timeseries")
    assert (datadog.headers["DD-API-KEY"], datadog.headers["DD-APPLICATION-KEY"]) == ("api", "application")
    asked = datadog.body["data"]["attributes"]
    assert (asked["from"], asked["to"], asked["interval"]) == (TEN, TEN + 180_000, 60_000)
    assert {each["name"]: each["query"] for each in asked["queries"]} == {
        "candidate_requests": "sum:payments.total{version:7}.as_count()",
        "stable_requests": "sum:payments.total{version:6}.as_count()",
        "candidate_failures": "sum:payments.failed{version:7}.as_count()",
        "stable_failures": "sum:payments.failed{version:6}.as_count()",
    }
    assert [each["formula"] for each in asked["formulas"]] == [each["name"] for each in asked["queries"]]


def test_the_answer_has_each_minute_and_zero_where_datadog_has_no_point(app: ModuleType, datadog: Datadog) -> None:
    datadog.answer = answer((0, [100.0, 110.0, None]), (1, [900.0, 880.0, 905.0]), (2, [None, 3.0, None]))
    assert app.handler(EVENT, None) == {
        "minutes": [
            {
                "minute": "2026-11-30T10:00:00Z",
                "candidate": {"requests": 100, "failures": 0},
                "stable": {"requests": 900, "failures": 0},
            },
            {
                "minute": "2026-11-30T10:01:00Z",
                "candidate": {"requests": 110, "failures": 3},
                "stable": {"requests": 880, "failures": 0},
            },
            {
                "minute": "2026-11-30T10:02:00Z",
                "candidate": {"requests": 0, "failures": 0},
                "stable": {"requests": 905, "failures": 0},
            },
        ]
    }


def test_a_refused_query_is_an_error_with_datadogs_words(app: ModuleType, datadog: Datadog) -> None:
    datadog.status, datadog.answer = 403, {"errors": ["Forbidden"]}
    with pytest.raises(RuntimeError, match=r'Datadog answered with 403: {"errors": \["Forbidden"\]}'):
        app.handler(EVENT, None)


def test_a_query_that_could_not_be_evaluated_is_an_error(app: ModuleType, datadog: Datadog) -> None:
    datadog.answer = answer((0, [1.0, 1.0, 1.0]), errors="one of the queries timed out")
    with pytest.raises(RuntimeError, match=r"could not evaluate a query: one of the queries timed out"):
        app.handler(EVENT, None)


def test_a_query_with_a_series_for_each_tag_is_an_error(app: ModuleType, datadog: Datadog) -> None:
    datadog.answer = answer((0, [1.0, 1.0, 1.0]))
    datadog.answer["data"]["attributes"]["series"][0]["group_tags"] = ["host:a"]
    with pytest.raises(ValueError, match=r"a series for each of \['host:a'\]; leave out its by"):
        app.handler(EVENT, None)


def test_points_that_are_not_by_the_minute_are_an_error(app: ModuleType, datadog: Datadog) -> None:
    datadog.answer = answer((0, [1.0, 1.0, 1.0]))
    datadog.answer["data"]["attributes"]["times"] = [TEN, TEN + 20_000, TEN + 40_000]
    with pytest.raises(ValueError, match=r"did not answer by the minute"):
        app.handler(EVENT, None)


def test_a_query_that_is_the_same_for_both_revisions_is_an_error(app: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"config.requests is the same for both revisions"):
        app.handler(EVENT | {"config": {"requests": "sum:x{*}", "failures": "sum:y{*}"}}, None)
