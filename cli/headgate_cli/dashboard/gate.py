"""Who may talk to the dashboard: one browser of one person, and no other page that is open in it.

The dashboard can move traffic, and every page that a browser shows can send requests to loopback. So each request must
name the dashboard by its own address (a name that an attacker rebinds to 127.0.0.1 is another one) and have the cookie
that only the printed URL sets. A request that changes something must also come from the dashboard's own page.
"""

from __future__ import annotations

import hmac
import secrets
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Request, Response

LOOPBACK = ("127.0.0.1", "localhost")

READS = ("GET", "HEAD")

CSRF_HEADER = "X-Headgate-Csrf"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
"""Content Security Policy of everything but the report."""

REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
"""Of the report: one file with its styles in it, and no script."""

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

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.token = secrets.token_urlsafe(32)
        """Part of the URL that is printed."""
        self.csrf = secrets.token_urlsafe(32)
        """Part of the page. A page of another origin cannot read it."""
        self._session = secrets.token_urlsafe(32)
        self._once: str | None = None
        # Browsers send the cookies of one port to all others of the same host.
        self._cookie = f"headgate-{port}"

    @property
    def url(self) -> str:
        """The URL that lets a browser in."""
        return self._url_with(self.token)

    def url_for_once(self) -> str:
        """Return a URL that lets one browser in, once.

        The arguments of a process, such as a browser that is started, can be read by every user of the machine.
        """
        self._once = secrets.token_urlsafe(32)
        return self._url_with(self._once)

    def refusal(self, request: Request) -> str | None:
        """Return why a request is refused; None if it is let in."""
        if not self._is_own_host(request.host):
            return f"the dashboard does not answer for the host {request.host!r}; open the URL that it printed"
        if self.is_entry(request):
            return None
        if not _equal(request.cookies.get(self._cookie, ""), self._session):
            return "this browser has no session of the dashboard; open the URL that headgate dashboard printed"
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return "the request comes from another site; open the URL that headgate dashboard printed"
        return None if request.method in READS else self._refusal_of_change(request)

    def is_entry(self, request: Request) -> bool:
        """Return whether a request has the token of the URL."""
        if request.method != "GET" or request.path != "/":
            return False
        given = request.args.get("token", "")
        return _equal(given, self.token) or self._is_once(given)

    def let_in(self, request: Request, response: Response) -> Response:
        """Give the browser its session, until it is closed."""
        if self._is_once(request.args.get("token", "")):
            self._once = None
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="Strict", path="/")
        return response

    def _url_with(self, token: str) -> str:
        shown = LOOPBACK[0] if _is_wildcard(self._host) else self._host
        return f"http://{_in_url(shown)}:{self._port}/?token={token}"

    def _is_once(self, token: str) -> bool:
        return self._once is not None and _equal(token, self._once)

    def _refusal_of_change(self, request: Request) -> str | None:
        if request.mimetype != "application/json":
            return "a request that changes something must be application/json"
        if request.headers.get("Origin") != f"http://{request.host}":
            return "the request does not come from the dashboard's own page"
        if not _equal(request.headers.get(CSRF_HEADER, ""), self.csrf):
            return "the page is older than this dashboard; reload it"
        return None

    def _is_own_host(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if port != str(self._port):
            return False
        if _is_wildcard(self._host):
            # Only a name can be bound to another address.
            return name in LOOPBACK or _is_address(name.strip("[]"))
        return name in (*LOOPBACK, _in_url(self._host))


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
