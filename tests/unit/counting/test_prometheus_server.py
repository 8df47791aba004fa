"""Requests to a server and its answers, at a server on this machine."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from headgate.counting import prometheus_server
from headgate.counting.prometheus_server import MAX_ANSWER_BYTES, PrometheusError, PrometheusServer
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES = range(60, 240, 60)
QUERY = 'sum(increase(payments_total{version="7"}[1m]))'


def matrix(*series: list[tuple[float, str]]) -> bytes:
    """An answer as documented: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries"""
    result = [{"metric": {}, "values": values} for values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


class Fake(ThreadingHTTPServer):
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.status, self.body = 200, matrix([(60, "1.5"), (120.0, "2")])
        self.stalled = threading.Event()
        self.stalls = False
        self.asked: list[tuple[str, dict[str, str]]] = []

    def server(self, scheme: str = "http", **options: Any) -> PrometheusServer:
        resolve = {"resolve": lambda _: "127.0.0.1"} | options
        return PrometheusServer(f"{scheme}://prometheus.internal:{self.server_port}/main", **resolve)


class _Answers(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        if self.server.stalls:
            self.server.stalled.wait(5)
            return
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.stalled.set()
    server.shutdown()
    thread.join()
    server.server_close()


def ask(server: PrometheusServer) -> dict[int, float]:
    return server.ask("requests of candidate", QUERY, TIMES)


def fault(server: PrometheusServer) -> str:
    with pytest.raises(PrometheusError) as failed:
        ask(server)
    return str(failed.value)


def test_a_range_query_is_asked_below_the_path_of_the_url(fake: Fake) -> None:
    assert ask(fake.server(headers_of=lambda _: {"Authorization": "Bearer t"})) == {60: 1.5, 120: 2.0}
    ((path, headers),) = fake.asked
    assert urlsplit(path).path == "/main/api/v1/query_range"
    assert parse_qs(urlsplit(path).query) == {
        "query": [QUERY],
        "start": ["60"],
        "end": ["180"],
        "step": ["60"],
        "timeout": ["4s"],
    }
    assert headers["Host"] == f"prometheus.internal:{fake.server_port}"
    assert headers["Authorization"] == "Bearer t"


def test_headers_are_made_of_the_url_as_it_is_sent(fake: Fake) -> None:
    ask(fake.server(headers_of=lambda url: {"X-Url": url}))
    ((path, headers),) = fake.asked
    assert headers["X-Url"] == f"http://prometheus.internal:{fake.server_port}{path}"
    assert "+" not in path


def test_no_series_are_no_counts(fake: Fake) -> None:
    fake.body = matrix()
    assert ask(fake.server()) == {}


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, matrix([], []), "requests of candidate: the query returns 2 series; sum over them"),
        (200, b"[]", "did not answer as Prometheus does"),
        (200, b'{"status": "success", "data": {"result": [{"value": [1, "2"]}]}}', "did not answer as Prometheus does"),
        (200, matrix([(60, "many")]), "did not answer as Prometheus does"),
        (200, b" " * (MAX_ANSWER_BYTES + 1), f"the answer has more than {MAX_ANSWER_BYTES} bytes"),
        (302, b"", "answered with 302"),
        (401, b"Unauthorized", "answered with 401"),
        (
            503,
            b'{"status": "error", "errorType": "timeout", "error": "query timed out"}',
            "answered with 503, timeout: query timed out",
        ),
    ],
)
def test_an_answer_without_counts_is_named(fake: Fake, status: int, body: bytes, told: str) -> None:
    fake.status, fake.body = status, body
    assert told in fault(fake.server())
    assert len(fake.asked) == 1


def test_what_the_server_says_is_cut(fake: Fake) -> None:
    fake.body = json.dumps({"status": "error", "errorType": "bad_data", "error": "x" * 10_000}).encode()
    assert len(fault(fake.server())) < 300


def test_warnings_of_the_server_are_logged(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake.body = json.dumps(json.loads(matrix([(60, "1")])) | {"warnings": ["one store did not answer"]}).encode()
    assert ask(fake.server()) == {60: 1.0}
    [warned] = [vars(each) for each in caplog.records if each.message == "Prometheus warns"]
    assert (warned["query"], warned["reason"]) == ("requests of candidate", "one store did not answer")


def test_a_server_that_does_not_answer_in_time_is_named(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_server, "ANSWER_SECONDS", 0.05)
    fake.stalls = True
    assert "did not connect within 2 s or answer within 0.05 s; check that Headgate's functions reach it" in fault(
        fake.server()
    )


def test_a_server_that_takes_no_connection_is_named() -> None:
    told = fault(PrometheusServer("http://prometheus.internal:1", resolve=lambda _: "127.0.0.1"))
    assert told.startswith("requests of candidate: http://prometheus.internal:1 failed: ConnectionRefusedError")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9001", "http://localhost:9001", "https://169.254.169.254"])
def test_the_functions_own_interface_is_not_asked(url: str) -> None:
    with pytest.raises(RequestRefused, match=r"config: url: .* which no Prometheus has; name the Prometheus's host"):
        ask(PrometheusServer(url))


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path, fake: Fake) -> Path:
        """The server's certificate, which signs itself."""
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *(
                    "-days",
                    "1",
                    "-subj",
                    "/CN=prometheus.internal",
                    "-addext",
                    "subjectAltName=DNS:prometheus.internal",
                ),
                *("-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        fake.socket = context.wrap_socket(fake.socket, server_side=True)
        return certificate

    @pytest.mark.usefixtures("certificate")
    def test_a_certificate_that_nobody_vouches_for_is_refused(self, fake: Fake) -> None:
        assert fault(fake.server("https")).endswith("self-signed certificate")
        assert fake.asked == []

    def test_the_certificate_must_have_the_name_of_the_url(
        self, fake: Fake, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask(fake.server("https")) == {60: 1.5, 120: 2.0}
        other = PrometheusServer(f"https://another.internal:{fake.server_port}", resolve=lambda _: "127.0.0.1")
        assert "Hostname mismatch" in fault(other)
