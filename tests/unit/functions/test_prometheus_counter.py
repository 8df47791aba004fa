"""The function that counts by queries of Prometheus, as it is deployed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.counting import prometheus_server
from headgate.counting.prometheus_server import PrometheusError
from headgate.errors import RequestRefused
from tests.builders import event
from tests.fakes.services import Service

if TYPE_CHECKING:
    from tests.fakes.functions import Functions

URL = "https://prometheus.example.com"


class Tokens(Service):
    """Secrets Manager with one secret."""

    def __init__(self) -> None:
        self.reads = 0

    def GetSecretValue(self, SecretId: str) -> dict[str, Any]:  # noqa: N802, N803
        assert SecretId == "headgate/prometheus/main"
        self.reads += 1
        return {"Name": SecretId, "SecretString": json.dumps({"url": URL, "token": "t0k3n"})}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Headers of the requests to a server where every minute has twelve of everything."""
    headers: list[dict[str, str]] = []

    def get(self: Any, url: str) -> tuple[int, bytes]:
        headers.append(dict(self._headers_of(url)))
        series = [{"metric": {}, "values": [[1_796_032_860 + 60 * minute, "12"] for minute in range(3)]}]
        return 200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}}).encode()

    monkeypatch.setattr(prometheus_server.PrometheusServer, "_get", get)
    return headers


def test_it_answers_with_the_counts_of_each_minute(deployed: Functions, asked: list[dict[str, str]]) -> None:
    counts = {"requests": 12, "failures": 12}
    assert deployed.call("prometheus_counter") == {
        "minutes": [
            {"minute": f"2026-11-30T10:0{minute}:00Z", "candidate": counts, "stable": counts} for minute in range(3)
        ]
    }
    assert asked == [{}] * 4


def test_it_reads_a_token_once_and_sends_it_with_each_query(deployed: Functions, asked: list[dict[str, str]]) -> None:
    tokens = Tokens()
    detach = tokens.attach(deployed.client("secretsmanager"))
    question = event("prometheus_counter")
    question["config"]["auth"] = {"bearerTokenSecret": "headgate/prometheus/main"}
    for _ in range(2):
        deployed.call("prometheus_counter", question)
    detach()
    assert asked == [{"Authorization": "Bearer t0k3n"}] * 8
    assert tokens.reads == 1


def test_it_signs_with_the_credentials_of_its_role(
    deployed: Functions, asked: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    question = event("prometheus_counter")
    question["config"]["auth"] = {"sigv4": {"region": "eu-central-1"}}
    deployed.call("prometheus_counter", question)
    assert len(asked) == 4
    for headers in asked:
        assert "/eu-central-1/aps/aws4_request, SignedHeaders=host;x-amz-date" in headers["Authorization"]


def test_an_error_is_logged_with_the_rollout_and_its_reason(
    deployed: Functions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def resolve(*_: object, **__: object) -> str:
        raise RequestRefused("config: url: prometheus.example.com cannot be resolved: no such name")

    monkeypatch.setattr(prometheus_server, "foreign_address", resolve)
    with pytest.raises(RequestRefused, match=r"cannot be resolved"):
        deployed.call("prometheus_counter")
    [logged] = [vars(each) for each in caplog.records if each.message == "the server did not count"]
    assert logged["reason"].startswith("config: url: prometheus.example.com cannot be resolved")


def test_a_server_out_of_reach_is_an_error_of_prometheus(deployed: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_server, "foreign_address", lambda *_, **__: "127.0.0.1")
    question = event("prometheus_counter")
    question["config"]["url"] = "http://prometheus.internal:1"
    with pytest.raises(PrometheusError, match=r"http://prometheus.internal:1 failed: ConnectionRefusedError"):
        deployed.call("prometheus_counter", question)
