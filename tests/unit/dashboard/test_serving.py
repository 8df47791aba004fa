"""What the command says of the dashboard, and that it serves whatever the browser does."""

from __future__ import annotations

import threading
import time
import webbrowser
from unittest.mock import MagicMock

import pytest

from headgate_cli.dashboard import serving
from headgate_cli.dashboard.gate import Gate
from headgate_cli.dashboard.listening import Server
from tests.fakes.records import FakeRecords


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


def test_it_serves_while_a_browser_runs_in_the_foreground(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    is_served, is_closed = threading.Event(), threading.Event()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda _: is_closed.wait(10))
    monkeypatch.setattr(serving, "caller", lambda _: "ada")
    monkeypatch.setattr(serving, "history_of", lambda _: FakeRecords())
    monkeypatch.setattr(serving, "_end", lambda: None)
    monkeypatch.setattr(Server, "serve_forever", lambda _: is_served.set())
    begun = time.monotonic()
    serving.serve(MagicMock(bus="b", table="t"), "127.0.0.1", 0, opens=True)
    assert is_served.is_set()
    assert time.monotonic() - begun < 5
    is_closed.set()
    assert "#token=" in capsys.readouterr().out
