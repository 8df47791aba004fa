"""The server of the dashboard: its address, real requests, and connections that only stand open."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from headgate_cli.dashboard.app import About, Parts, create_app
from headgate_cli.dashboard.board import Board
from headgate_cli.dashboard.gate import SESSION_HEADER, TOKEN_HEADER, Gate
from headgate_cli.dashboard.listening import MAX_CONNECTIONS, QuietHandler, Server, listener
from headgate_cli.dashboard.steering import Steering
from headgate_cli.failures import Failure
from headgate_cli.rollouts import target_key
from tests.fakes.records import FakeBus, FakeRecords, view

if TYPE_CHECKING:
    from collections.abc import Iterator


class Served:
    """A dashboard that is served."""

    def __init__(self, host: str, bound: socket.socket) -> None:
        self.host, self.port = host, int(bound.getsockname()[1])
        self.records = FakeRecords(view())
        self.gate = Gate(host, self.port)
        steering = Steering(FakeBus(self.records), self.records, "ada")
        about = About("headgate", "")
        app = create_app(Parts(self.records, Board(self.records), steering, self.gate, about, str, target_key))
        self.server = Server(app, bound)

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        """Ask as a browser that opens a connection for it."""
        browser = HTTPConnection(self.host, self.port, timeout=5)
        try:
            browser.request(method, path, headers={"Origin": self._origin, **headers})
            answer = browser.getresponse()
            return answer.status, answer.read()
        finally:
            browser.close()

    def session(self) -> dict[str, str]:
        """The header of a browser that was let in."""
        headers = {TOKEN_HEADER: self.gate.token, "Content-Type": "application/json"}
        status, body = self.ask("POST", "/api/session", **headers)
        assert status == 200
        return {SESSION_HEADER: json.loads(body)["session"]}

    def hold(self, sent: bytes = b"") -> socket.socket:
        """A connection that somebody only holds open."""
        held = socket.create_connection((self.host, self.port), timeout=5)
        held.sendall(sent)
        return held

    @property
    def _origin(self) -> str:
        return self.gate.url.partition("/#")[0]


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[Served]:
    with listener(host, 0) as bound:
        made = Served(host, bound)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_browser_with_the_url_gets_data_and_one_without_it_does_not(
    host: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with served(host) as dashboard:
        assert dashboard.ask("GET", "/api/now")[0] == 403
        session = dashboard.session()
        assert dashboard.ask("GET", "/api/now", **session)[0] == 200
    # A log would keep them.
    written = "".join((*capfd.readouterr(), caplog.text))
    assert dashboard.gate.token not in written
    assert session[SESSION_HEADER] not in written


@pytest.mark.parametrize(
    "sent", [b"", b"GET /api/now HTTP/1.1\r\nHost:", b"POST /api/session HTTP/1.1\r\nContent-Length: 9999\r\n\r\n{"]
)
def test_connections_that_only_stand_open_do_not_keep_a_browser_out(
    sent: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with served() as dashboard:
        session = dashboard.session()
        held = [dashboard.hold(sent) for _ in range(3 * MAX_CONNECTIONS)]
        try:
            assert dashboard.ask("GET", "/api/now", **session)[0] == 200
            # The oldest have gone, and their threads with them.
            assert held[0].recv(10_000) == b"" or sent.startswith(b"POST")
            deadline = time.monotonic() + 60
            while (threads := _of_connections()) > MAX_CONNECTIONS:
                assert time.monotonic() < deadline, threads
                time.sleep(0.02)
        finally:
            for each in held:
                each.close()
    assert "Traceback" not in "".join((*capfd.readouterr(), caplog.text))


def test_a_request_that_is_worked_on_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate_cli.dashboard.board.PATIENCE_SECONDS", 0.1)
    with served() as dashboard:
        session = dashboard.session()
        dashboard.records.held.clear()
        answers: list[int] = []
        path = "/api/report?id=checkout-42"
        browser = threading.Thread(target=lambda: answers.append(dashboard.ask("GET", path, **session)[0]))
        browser.start()
        deadline = time.monotonic() + 5
        while not dashboard.server._busy:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        held = [dashboard.hold() for _ in range(2 * MAX_CONNECTIONS)]
        dashboard.records.held.set()
        browser.join(5)
        assert answers == [200]
        for each in held:
            each.close()


def test_a_connection_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuietHandler, "timeout", 0.2)
    with served() as dashboard, dashboard.hold(b"GET /api/now HTTP/1.1\r\nHost:") as held:
        assert held.recv(10) == b""


def test_a_request_that_nobody_can_read_writes_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with served() as dashboard:
        for sent in (b"GET http://[ HTTP/1.1\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"x" * 70_000):
            with dashboard.hold(sent) as held:
                held.shutdown(socket.SHUT_WR)
                held.recv(10_000)
    assert "".join((*capfd.readouterr(), caplog.text)) == ""


def _of_connections() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_port_that_is_in_use_is_refused_with_what_to_do(host: str) -> None:
    with listener(host, 0) as bound:
        port = int(bound.getsockname()[1])
        with pytest.raises(Failure, match=rf"127\.0\.0\.1:{port} cannot be used .* use another --port, or 0"):
            listener("127.0.0.1", port)
