"""Who may talk to the dashboard: hosts, tokens, cookies, origins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Response
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from headgate_cli.dashboard.gate import CSRF_HEADER, Gate, is_loopback

if TYPE_CHECKING:
    from flask import Request as FlaskRequest

PORT = 4321
OWN = f"127.0.0.1:{PORT}"


def request(path: str = "/api/now", *, host: str = OWN, method: str = "GET", **options: Any) -> FlaskRequest:
    """A request as a browser would send it."""
    headers = {"Host": host, **options.pop("headers", {})}
    built: Any = Request(EnvironBuilder(path, method=method, headers=headers, **options).get_environ())
    return built  # type: ignore[no-any-return]


def session_of(gate: Gate, url: str | None = None) -> str:
    """The cookie that a browser gets by the printed URL."""
    parts = urlsplit(url or gate.url)
    response = gate.let_in(request(f"/?{parts.query}"), Response())
    return response.headers["Set-Cookie"]


def change(gate: Gate, **headers: str) -> FlaskRequest:
    """A request that changes something, as the page sends it, but for these headers."""
    sent = {
        "Cookie": session_of(gate).partition(";")[0],
        "Origin": f"http://{OWN}",
        "Sec-Fetch-Site": "same-origin",
        CSRF_HEADER: gate.csrf,
        "Content-Type": "application/json",
        **headers,
    }
    return request(
        "/api/signal", method="POST", data=b"{}", headers={name: value for name, value in sent.items() if value}
    )


def test_the_printed_url_lets_a_browser_in_with_a_cookie_that_no_script_and_no_other_site_gets() -> None:
    gate = Gate("127.0.0.1", PORT)
    (token,) = parse_qs(urlsplit(gate.url).query)["token"]
    assert urlsplit(gate.url).netloc == OWN
    assert len(token) >= 43  # 32 bytes
    assert gate.refusal(request(f"/?token={token}")) is None

    cookie = session_of(gate)

    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert token not in cookie
    assert gate.refusal(request(headers={"Cookie": cookie.partition(";")[0]})) is None


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=é"])
def test_a_request_without_the_token_or_the_cookie_is_refused(query: str) -> None:
    gate = Gate("127.0.0.1", PORT)
    assert "open the URL" in str(gate.refusal(request(f"/{query}")))
    assert gate.refusal(request("/api/now")) is not None
    assert gate.refusal(request(headers={"Cookie": f"headgate-{PORT}=wrong"})) is not None


def test_the_token_opens_the_page_alone() -> None:
    gate = Gate("127.0.0.1", PORT)
    assert gate.refusal(request(f"/api/now?token={gate.token}")) is not None
    assert gate.refusal(request(f"/?token={gate.token}", method="POST")) is not None


def test_two_dashboards_have_nothing_in_common() -> None:
    one, other = Gate("127.0.0.1", PORT), Gate("127.0.0.1", PORT)
    assert len({one.token, other.token, one.csrf, other.csrf}) == 4
    assert other.refusal(request(headers={"Cookie": session_of(one).partition(";")[0]})) is not None


def test_the_url_that_a_browser_is_started_with_works_once() -> None:
    gate = Gate("127.0.0.1", PORT)
    url = gate.url_for_once()
    query = f"/?{urlsplit(url).query}"
    assert gate.token not in url
    assert gate.refusal(request(query)) is None
    session_of(gate)  # The other URL uses nothing up.
    assert gate.refusal(request(query)) is None
    session_of(gate, url)
    assert gate.refusal(request(query)) is not None


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
def test_a_foreign_host_is_refused_even_with_the_token(host: str) -> None:
    gate = Gate("127.0.0.1", PORT)
    assert "does not answer for the host" in str(gate.refusal(request(f"/?token={gate.token}", host=host)))


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
    refusal = gate.refusal(request(f"/?token={gate.token}", host=f"{host}:{PORT}"))
    assert (refusal is None) == answers


def test_a_change_from_the_page_itself_is_let_in() -> None:
    gate = Gate("127.0.0.1", PORT)
    assert gate.refusal(change(gate)) is None


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Cookie": ""}, "no session"),
        ({"Origin": ""}, "own page"),
        ({"Origin": "null"}, "own page"),
        ({"Origin": f"http://localhost:{PORT}"}, "own page"),
        ({"Origin": f"https://{OWN}"}, "own page"),
        ({"Origin": "http://127.0.0.1:9"}, "own page"),
        ({CSRF_HEADER: ""}, "reload"),
        ({CSRF_HEADER: "wrong"}, "reload"),
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
