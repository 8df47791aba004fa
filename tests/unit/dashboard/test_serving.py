"""The server of the dashboard: its address, what it says of it, and a real request."""

from __future__ import annotations

import threading
from http.client import HTTPConnection

import pytest

from headgate_cli.dashboard import serving
from headgate_cli.dashboard.app import About, Parts, create_app
from headgate_cli.dashboard.board import Board
from headgate_cli.dashboard.gate import Gate
from headgate_cli.dashboard.serving import listener, server_of
from headgate_cli.dashboard.steering import Steering
from headgate_cli.failures import Failure
from headgate_cli.rollouts import target_key
from tests.fakes.records import FakeBus, FakeRecords, view


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_browser_with_the_url_gets_the_page_and_one_without_it_does_not(
    host: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    records = FakeRecords(view())
    with listener(host, 0) as bound:
        port = int(bound.getsockname()[1])
        gate = Gate(host, port)
        steering = Steering(FakeBus(records), records, "ada")
        app = create_app(Parts(records, Board(records), steering, gate, About("headgate", ""), str, target_key))
        server = server_of(app, bound)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        browser = HTTPConnection(host, port, timeout=5)
        browser.request("GET", "/api/now")
        assert browser.getresponse().status == 403
        browser = HTTPConnection(host, port, timeout=5)
        browser.request("GET", f"/?token={gate.token}")
        answer = browser.getresponse()
        assert (answer.status, answer.headers["Location"]) == (303, "/")
    finally:
        server.shutdown()
        thread.join(5)
    # A log would keep the token.
    assert gate.token not in "".join((*capfd.readouterr(), caplog.text))


def test_a_port_that_is_in_use_is_refused_with_what_to_do() -> None:
    with listener("127.0.0.1", 0) as bound:
        port = int(bound.getsockname()[1])
        with pytest.raises(Failure, match=rf"127\.0\.0\.1:{port} cannot be used .* use another --port, or 0"):
            listener("127.0.0.1", port)


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("::1", False), ("192.0.2.1", True)])
def test_an_address_that_others_reach_is_warned_about(
    host: str, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = Gate(host, 4321)
    serving._announce(gate, host, "bus headgate")
    out, err = capsys.readouterr()
    assert gate.url in out
    assert gate.token not in err
    assert ("Warning" in err) == warns
