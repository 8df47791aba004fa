"""Who may talk to the dashboard: one person's browser, and no other page or program that it meets.

The dashboard can move traffic, and every page that a browser shows can send requests to loopback. A browser also sends
the cookies of one port to all others of the same host, where another user's program may listen. So there is no cookie.
The page itself tells nothing, and everybody may read it. Each request for data has a header with a session, which the
page gets for the token of the URL and which the browser keeps for this host and port alone. The token is in the
fragment of the URL, which a browser sends to nobody. Each request must also name the dashboard by its own address (a
name that an attacker rebinds to 127.0.0.1 is another one), and one that changes something must come from the
dashboard's own page.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request

LOOPBACK = ("127.0.0.1", "localhost")

READS = ("GET", "HEAD")

PAGES = ("/", "/report")
"""What everybody may read, as the static files: pages without data."""

ENTRY = "/api/session"
"""Answers with a session for a token."""

TOKEN_HEADER = "X-Headgate-Token"  # noqa: S105 - the name of a header
"""Has the token of the URL. A header, so that no body is read before the request is let in."""

SESSION_HEADER = "X-Headgate-Session"

ONCE_SECONDS = 60.0
"""How long a browser may take to start and show the page."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
"""Content Security Policy of everything but the page of a report."""

REPORT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
"""Of the page of a report. The report has its styles in it, and it is shown in a frame that inherits this policy and
runs no script."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Gate:
    """Decides about requests.

    Parameters
    ----------
    host
        The address that the dashboard is bound to.
    """

    def __init__(self, host: str, port: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._host, self._port, self._clock = host, port, clock
        self.token = secrets.token_urlsafe(32)
        """Part of the URL that is printed."""
        self.is_used = threading.Event()
        """Set when a browser has used the URL that works once."""
        self._session = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._once: tuple[str, float] | None = None

    @property
    def url(self) -> str:
        """The URL that lets a browser in."""
        return self._url_with(self.token)

    def url_for_once(self) -> str:
        """Return a URL that lets one browser in, once and soon."""
        token = secrets.token_urlsafe(32)
        self._once = (token, self._clock() + ONCE_SECONDS)
        return self._url_with(token)

    def refusal(self, request: Request) -> str | None:
        """Return why a request is refused; None if it is let in."""
        if not self._is_own_host(request.host):
            return f"the dashboard does not answer for the host {request.host!r}; open the URL that it printed"
        if request.method in READS and (request.path in PAGES or request.path.startswith("/static/")):
            return None
        if request.path != ENTRY and not _equal(request.headers.get(SESSION_HEADER, ""), self._session):
            return "this browser has no session of the dashboard; open the URL that headgate dashboard printed"
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return "the request comes from another site; open the URL that headgate dashboard printed"
        return None if request.method in READS else _refusal_of_change(request)

    def session(self, request: Request) -> str | None:
        """Return the session for the token that a request has; None if the token is wrong, used or too old."""
        given = request.headers.get(TOKEN_HEADER, "")
        return self._session if _equal(given, self.token) or self._takes_once(given) else None

    def _takes_once(self, given: str) -> bool:
        with self._lock:
            if self._once is None or not _equal(given, self._once[0]):
                return False
            in_time = self._clock() < self._once[1]
            self._once = None
        self.is_used.set()
        return in_time

    def _url_with(self, token: str) -> str:
        # A name could have a second address, at which another program may listen.
        shown = LOOPBACK[0] if self._host == "localhost" or _is_wildcard(self._host) else self._host
        return f"http://{_in_url(shown)}:{self._port}/#token={token}"

    def _is_own_host(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if port != str(self._port):
            return False
        if _is_wildcard(self._host):
            # Only a name can be bound to another address.
            return name in LOOPBACK or _is_address(name.strip("[]"))
        return name in (*LOOPBACK, _in_url(self._host))


def _refusal_of_change(request: Request) -> str | None:
    if request.mimetype != "application/json":
        return "a request that changes something must be application/json"
    if request.headers.get("Origin") != f"http://{request.host}":
        return "the request does not come from the dashboard's own page"
    return None


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable on this machine alone."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_wildcard(host: str) -> bool:
    return _is_address(host) and ip_address(host).is_unspecified


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _equal(given: str, expected: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
