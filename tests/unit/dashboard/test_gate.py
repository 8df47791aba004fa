"""Who may talk to the dashboard: hosts, tokens, sessions, origins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from headgate_cli.dashboard.gate import ENTRY, ONCE_SECONDS, SESSION_HEADER, TOKEN_HEADER, Gate, is_loopback

if TYPE_CHECKING:
    from flask import Request as FlaskRequest

PORT = 4321
OWN = f"127.0.0.1:{PORT}"


def request(path: str = "/api/now", *, host: str = OWN, method: str = "GET", **options: Any) -> FlaskRequest:
    """A request as a browser would send it."""
    headers = {"Host": host, **options.pop("headers", {})}
    built: Any = Request(EnvironBuilder(path, method=method, headers=headers, **options).get_environ())
    return built  # type: ignore[no-any-return]


def token_in(url: str) -> str:
    """The token of a URL."""
    return urlsplit(url).fragment.removeprefix("token=")


def session_of(gate: Gate, url: str | None = None) -> str | None:
    """The session that a browser gets by a URL. Default: the printed one."""
    return gate.session(request(ENTRY, method="POST", headers={TOKEN_HEADER: token_in(url or gate.url)}))


def change(gate: Gate, **headers: str) -> FlaskRequest:
    """A request that changes something, as the page sends it, but for these headers."""
    sent = {
        SESSION_HEADER: str(session_of(gate)),
        "Origin": f"http://{OWN}",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/json",
        **headers,
    }
    return request(
        "/api/signal", method="POST", data=b"{}", headers={name: value for name, value in sent.items() if value}
    )


def test_the_token_is_where_no_request_and_no_referer_has_it() -> None:
    gate = Gate("127.0.0.1", PORT)
    for url in (gate.url, gate.url_for_once()):
        parts = urlsplit(url)
        assert (parts.netloc, parts.path, parts.query) == (OWN, "/", "")
        assert len(token_in(url)) >= 43  # 32 bytes


def test_the_token_gets_a_session_and_the_session_lets_in() -> None:
    gate = Gate("127.0.0.1", PORT)
    session = session_of(gate)
    assert session
    assert session != gate.token
    assert gate.refusal(request(headers={SESSION_HEADER: session})) is None


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_wrong_token_gets_no_session(token: str) -> None:
    gate = Gate("127.0.0.1", PORT)
    assert gate.session(request(ENTRY, method="POST", headers={TOKEN_HEADER: token})) is None


@pytest.mark.parametrize("path", ["/api/now", "/api/report?id=checkout-42", "/nothing", "/api/session", "/static"])
def test_a_request_without_a_session_is_refused_whatever_else_it_has(path: str) -> None:
    gate = Gate("127.0.0.1", PORT)
    session = session_of(gate)
    for headers in (
        {},
        {SESSION_HEADER: ""},
        {SESSION_HEADER: "wrong"},
        {SESSION_HEADER: gate.token},
        {TOKEN_HEADER: gate.token},
        # A browser gives cookies to every port of the host, also to a program of another user.
        {"Cookie": f"headgate-{PORT}={session}"},
    ):
        if path == ENTRY:
            assert gate.refusal(request(path, method="POST", headers=headers)) is not None
        else:
            assert "no session" in str(gate.refusal(request(path, headers=headers)))
    assert gate.refusal(request(f"{path}?token={gate.token}", method="POST")) is not None


def test_the_pages_are_for_everybody_and_only_to_read() -> None:
    gate = Gate("127.0.0.1", PORT)
    for path in ("/", "/report?id=checkout-42", "/static/main.js"):
        # A file that leads to the page is another site.
        assert gate.refusal(request(path, headers={"Sec-Fetch-Site": "cross-site"})) is None
        assert gate.refusal(request(path, method="POST")) is not None


def test_two_dashboards_have_nothing_in_common() -> None:
    one, other = Gate("127.0.0.1", PORT), Gate("127.0.0.1", PORT)
    assert len({one.token, other.token, session_of(one), session_of(other)}) == 4
    assert other.refusal(request(headers={SESSION_HEADER: str(session_of(one))})) is not None


def test_the_url_that_a_browser_is_started_with_works_once() -> None:
    gate = Gate("127.0.0.1", PORT)
    url = gate.url_for_once()
    assert gate.token not in url
    session = session_of(gate)  # The other URL uses nothing up.
    assert not gate.is_used.is_set()
    assert session_of(gate, url) == session
    assert gate.is_used.is_set()
    assert session_of(gate, url) is None
    assert session_of(gate) == session


def test_the_url_that_a_browser_is_started_with_works_soon_or_never() -> None:
    now = [0.0]
    gate = Gate("127.0.0.1", PORT, clock=lambda: now[0])
    url = gate.url_for_once()
    now[0] = ONCE_SECONDS
    assert session_of(gate, url) is None
    now[0] = 0.0
    assert session_of(gate, url) is None
    late = gate.url_for_once()
    now[0] = ONCE_SECONDS - 1
    assert session_of(gate, late)


def test_a_name_with_two_addresses_is_not_in_the_url() -> None:
    assert urlsplit(Gate("localhost", PORT).url).hostname == "127.0.0.1"


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        f"attacker.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:80",
        f"127.0.0.1.nip.io:{PORT}",
        "",
        f"10.0.0.1:{PORT}",
    ],
)
def test_a_foreign_host_is_refused_even_the_empty_page(host: str) -> None:
    gate = Gate("127.0.0.1", PORT)
    assert "does not answer for the host" in str(gate.refusal(request("/", host=host)))


@pytest.mark.parametrize(
    ("bound", "host", "answers"),
    [
        ("127.0.0.1", "localhost", True),
        ("::1", "[::1]", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("0.0.0.0", "10.0.0.2", True),  # noqa: S104 - an address of the machine, and no name
        ("0.0.0.0", "attacker.example", False),  # noqa: S104
        ("::", "[fd00::1]", True),
    ],
)
def test_the_host_must_be_the_address_that_the_dashboard_is_bound_to(bound: str, host: str, answers: bool) -> None:
    gate = Gate(bound, PORT)
    refusal = gate.refusal(request("/", host=f"{host}:{PORT}"))
    assert (refusal is None) == answers


def test_a_change_from_the_page_itself_is_let_in() -> None:
    gate = Gate("127.0.0.1", PORT)
    assert gate.refusal(change(gate)) is None


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({SESSION_HEADER: ""}, "no session"),
        ({SESSION_HEADER: "wrong"}, "no session"),
        ({"Sec-Fetch-Site": "none"}, "another site"),
        ({"Origin": ""}, "own page"),
        ({"Origin": "null"}, "own page"),
        ({"Origin": f"http://localhost:{PORT}"}, "own page"),
        ({"Origin": f"https://{OWN}"}, "own page"),
        ({"Origin": "http://127.0.0.1:9"}, "own page"),
        ({"Content-Type": "text/plain"}, "application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "application/json"),
        ({"Sec-Fetch-Site": "same-site"}, "another site"),
        ({"Sec-Fetch-Site": "cross-site"}, "another site"),
    ],
)
def test_a_change_from_elsewhere_is_refused(headers: dict[str, str], why: str) -> None:
    gate = Gate("127.0.0.1", PORT)
    assert why in str(gate.refusal(change(gate, **headers)))


def test_only_this_machine_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "::", "example.org")] == [False] * 4  # noqa: S104
