"""Opening the browser: no other user of the machine sees the token, and the browser may take its time."""

from __future__ import annotations

import re
import stat
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from headgate_cli.dashboard import opening
from headgate_cli.dashboard.gate import ENTRY, TOKEN_HEADER, Gate
from headgate_cli.dashboard.opening import browser_of

if TYPE_CHECKING:
    from collections.abc import Callable

PORT = 4321


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class FakeBrowser:
    """A browser that is told what to open."""

    def __init__(self, *, starts: bool = True) -> None:
        self.starts = starts
        self.given = ""
        self.is_started, self.is_closed = threading.Event(), threading.Event()

    def open(self, url: str) -> bool:
        """Start in the foreground."""
        self.given = url
        self.is_started.set()
        self.is_closed.wait(10)
        return self.starts

    @property
    def file(self) -> Path:
        """The file that it was given."""
        assert self.is_started.wait(5)
        return Path(url2pathname(urlsplit(self.given).path))


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> FakeBrowser:
    """What the command starts."""
    made = FakeBrowser()
    monkeypatch.setattr(webbrowser, "open", made.open)
    return made


def use(gate: Gate, page: str) -> str | None:
    """Go where the page of the file leads, as a browser does."""
    token = re.findall(r"#token=([\w-]+)", page)[0]
    request: Any = Request(EnvironBuilder(ENTRY, method="POST", headers=[(TOKEN_HEADER, token)]).get_environ())
    return gate.session(request)


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("temporary")
def test_the_arguments_of_the_browser_have_no_token(browser: FakeBrowser) -> None:
    gate = Gate("127.0.0.1", PORT)
    with browser_of(gate):
        page = browser.file.read_text()
        assert urlsplit(browser.given).scheme == "file"
        assert "token" not in browser.given
        assert gate.token not in page
        assert f'content="0; url=http://127.0.0.1:{PORT}/#token=' in page
        assert use(gate, page)
    browser.is_closed.set()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no modes")
@pytest.mark.usefixtures("temporary")
def test_only_this_user_can_read_the_file(browser: FakeBrowser) -> None:
    with browser_of(Gate("127.0.0.1", PORT)):
        assert stat.S_IMODE(browser.file.stat().st_mode) == 0o600
        assert stat.S_IMODE(browser.file.parent.stat().st_mode) == 0o700
    browser.is_closed.set()


def test_the_file_goes_as_soon_as_it_is_used(browser: FakeBrowser, temporary: Path) -> None:
    gate = Gate("127.0.0.1", PORT)
    with browser_of(gate):
        assert use(gate, browser.file.read_text())
        eventually(lambda: not any(temporary.iterdir()))
    browser.is_closed.set()


def test_the_file_goes_when_its_token_is_too_old(
    browser: FakeBrowser, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "ONCE_SECONDS", 0.2)
    with browser_of(Gate("127.0.0.1", PORT)):
        eventually(browser.is_started.is_set)
        eventually(lambda: not any(temporary.iterdir()))
    browser.is_closed.set()


def test_the_file_goes_at_the_end(browser: FakeBrowser, temporary: Path) -> None:
    with browser_of(Gate("127.0.0.1", PORT)):
        assert browser.file.exists()
    assert not any(temporary.iterdir())
    browser.is_closed.set()


@pytest.mark.usefixtures("temporary")
def test_a_browser_in_the_foreground_keeps_nobody_waiting(browser: FakeBrowser) -> None:
    served = False
    with browser_of(Gate("127.0.0.1", PORT)):
        assert browser.is_started.wait(5)
        served = not browser.is_closed.is_set()
    assert served
    browser.is_closed.set()


@pytest.mark.usefixtures("temporary")
def test_a_browser_that_does_not_start_is_told(browser: FakeBrowser, capsys: pytest.CaptureFixture[str]) -> None:
    browser.starts = False
    browser.is_closed.set()
    said = ""
    with browser_of(Gate("127.0.0.1", PORT)):
        deadline = time.monotonic() + 5
        while "open the URL yourself" not in said:
            assert time.monotonic() < deadline
            said += capsys.readouterr().err
