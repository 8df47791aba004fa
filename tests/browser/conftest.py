"""A browser for the tests: Debian's Chromium, which must reach nothing but the page under test.

`make test-browser` runs these tests. `make test` does not collect them, so that it needs no browser.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route

    from headgate.history.model import RolloutView

if find_spec("playwright") is None:
    # pytest without arguments, in an environment that make test-browser has not completed.
    collect_ignore_glob = ["test_*.py"]

NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium; apt-get install chromium"
    # Its sandbox does not work for root, who runs CI.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


class Watch:
    """What a browser did that a page must not lead it to."""

    def __init__(self) -> None:
        self.origins: set[str] = set()
        """Origins that may be asked."""
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.expected: list[str] = []
        """Patterns of console errors that a test causes itself."""

    def attend(self, context: BrowserContext) -> None:
        """Watch every page of a context."""
        context.route(re.compile(".*"), self._let_through)
        context.on("page", self._listen)

    def _listen(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _let_through(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.scheme in ("data", "blob", "file") or f"{url.scheme}://{url.netloc}" in self.origins:
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def unexpected(self) -> list[str]:
        """Errors that no test has caused."""
        return [error for error in self.errors if not any(re.search(each, error) for each in self.expected)]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Fails the test at its end if a page asked another machine, or the console has an error."""
    watching = Watch()
    yield watching
    assert watching.foreign == [], "a request left the machine"
    assert watching.unexpected() == [], "the console has errors"


@pytest.fixture
def context(browser: Browser, watch: Watch) -> Iterator[BrowserContext]:
    """A browser profile of the test's own."""
    made = browser.new_context(locale="en-US", timezone_id="UTC")
    made.set_default_timeout(10_000)
    watch.attend(made)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page of that profile."""
    return context.new_page()


class Dashboard:
    """A dashboard of rollouts in memory."""

    def __init__(self, *views: RolloutView) -> None:
        from headgate_cli.dashboard.app import About, Parts, create_app
        from headgate_cli.dashboard.board import Board
        from headgate_cli.dashboard.gate import Gate
        from headgate_cli.dashboard.listening import listener
        from headgate_cli.dashboard.steering import Steering
        from headgate_cli.rollouts import target_key
        from tests.fakes.records import FakeBus, FakeRecords

        self.records = FakeRecords(*views)
        self.bus = FakeBus(self.records)
        self.board = Board(self.records)
        self.report = ""
        """Every report, if it is not empty."""
        steering = Steering(self.bus, self.records, "ada")
        self.listener = listener("127.0.0.1", 0)
        self.gate = Gate("127.0.0.1", int(self.listener.getsockname()[1]))
        about = About("headgate", "eu-central-1")
        self._app = create_app(Parts(self.records, self.board, steering, self.gate, about, self._report, target_key))

    @contextmanager
    def served(self) -> Iterator[Dashboard]:
        """Serve it as long as it is entered."""
        from headgate_cli.dashboard.listening import Server

        with self.listener as bound:
            server = Server(self._app, bound)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.records.held.set()
            server.shutdown()
            thread.join(5)

    @property
    def url(self) -> str:
        """The URL that lets a browser in."""
        return self.gate.url

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://{urlsplit(self.url).netloc}"

    @property
    def session(self) -> str:
        """What the page sends with each request."""
        from werkzeug.test import EnvironBuilder
        from werkzeug.wrappers import Request

        from headgate_cli.dashboard.gate import TOKEN_HEADER

        asked: Any = Request(EnvironBuilder(headers=[(TOKEN_HEADER, self.gate.token)]).get_environ())
        return str(self.gate.session(asked))

    def _report(self, view: RolloutView) -> str:
        if self.report:
            return self.report
        return f"<!doctype html><html lang=en><title>{escape(view.id)}</title><h1>{escape(view.headline)}</h1></html>"


@pytest.fixture
def dashboard(watch: Watch, context: BrowserContext) -> Iterator[Dashboard]:
    """A dashboard without rollouts."""
    with Dashboard().served() as served:
        watch.origins.add(served.origin)
        yield served
        # A page that asks while the dashboard ends would have an error in its console.
        for page in context.pages:
            page.close()


@contextmanager
def trap() -> Iterator[tuple[str, list[str]]]:
    """A program at another port of the machine: its origin, and the headers and bodies that it has heard."""
    heard: list[str] = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(f"{self.requestline}\n{self.headers}")
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>trap</title>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Trap) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()
            thread.join(5)


def texts(page: Page, selector: str) -> list[str]:
    """The text of each element, as it is shown."""
    found: list[Any] = page.locator(selector).all_inner_texts()
    return [" ".join(str(text).split()) for text in found]


def until(page: Page, expression: str, argument: Any = None, seconds: float = 10) -> None:
    """Wait until a script answers something truthy.

    Playwright's own wait evaluates a text in the page, which the page's policy forbids.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, f"in vain for {seconds:g} s: {expression}"
        page.wait_for_timeout(20)
