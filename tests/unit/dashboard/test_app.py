"""The dashboard's requests, in process: what they answer, and what they must never do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError

from headgate_cli.dashboard.app import About, Parts, create_app
from headgate_cli.dashboard.board import Board
from headgate_cli.dashboard.gate import PAGES, SESSION_HEADER, TOKEN_HEADER, Gate
from headgate_cli.dashboard.steering import Steering
from headgate_cli.rollouts import target_key
from tests.fakes.records import FakeBus, FakeRecords, at, ticking, view

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from headgate.history.model import RolloutView

PORT = 4321
ORIGIN = f"http://127.0.0.1:{PORT}"
CHANGES = ("/api/signal", "/api/undo")


class Browser:
    """A browser that was let in."""

    def __init__(self, *views: RolloutView) -> None:
        self.records = FakeRecords(*views)
        self.bus = FakeBus(self.records)
        self.gate = Gate("127.0.0.1", PORT)
        steering = Steering(self.bus, self.records, "ada", wait=lambda _: None, clock=ticking())
        about = About("headgate", "eu-central-1")
        app = create_app(Parts(self.records, Board(self.records), steering, self.gate, about, self._report, target_key))
        self.client: FlaskClient = app.test_client()
        entry = {"Origin": ORIGIN, TOKEN_HEADER: self.gate.token}
        answer = self.client.post("/api/session", base_url=ORIGIN, json={}, headers=entry)
        self.session = {SESSION_HEADER: answer.get_json()["session"]}

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, base_url=ORIGIN, headers=self.session | headers)

    def post(self, path: str, body: Any, **headers: str) -> TestResponse:
        return self.post_raw(path, json.dumps(body).encode(), **headers)

    def post_raw(self, path: str, body: bytes, **headers: str) -> TestResponse:
        sent = {"Origin": ORIGIN, "Content-Type": "application/json", **self.session, **headers}
        return self.client.post(path, data=body, base_url=ORIGIN, headers=sent)

    @staticmethod
    def _report(rollout: RolloutView) -> str:
        return f"<!doctype html><title>{rollout.id}</title>"


@pytest.mark.parametrize("path", ["/api/about", "/api/now", "/api/rollouts", "/api/report?id=checkout-42", "/nothing"])
def test_a_stranger_sees_nothing(path: str) -> None:
    browser = Browser(view())
    stranger = browser.client.application.test_client()
    for answer in (
        stranger.get(path, base_url=ORIGIN),
        # What a browser keeps for a host without regard to ports does not let in.
        stranger.get(path, base_url=ORIGIN, headers={"Cookie": f"headgate-{PORT}={browser.session[SESSION_HEADER]}"}),
        browser.get(path, Host=f"attacker.example:{PORT}"),
    ):
        assert answer.status_code == 403
        assert "checkout" not in answer.text
    assert browser.records.calls == []


@pytest.mark.parametrize("path", [*PAGES, "/static/main.js", "/static/report.js"])
def test_what_everybody_may_read_tells_nothing(path: str) -> None:
    browser = Browser(view())
    stranger = browser.client.application.test_client()
    answer = stranger.get(path, base_url=ORIGIN)
    assert answer.status_code == 200
    for secret in (browser.gate.token, browser.session[SESSION_HEADER], "checkout-42", "eu-central-1"):
        assert secret not in answer.text
    assert stranger.get(path, base_url=ORIGIN, headers={"Host": f"attacker.example:{PORT}"}).status_code == 403


@pytest.mark.parametrize("path", [*PAGES, "/api/now", "/api/session", "/api/report?id=checkout-42"])
def test_no_answer_sets_a_cookie(path: str) -> None:
    browser = Browser(view())
    entered = browser.post("/api/session", {}, **{TOKEN_HEADER: browser.gate.token})
    for answer in (browser.get(path), entered):
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_wrong_token_gets_no_session(token: str) -> None:
    answer = Browser().post("/api/session", {}, **{TOKEN_HEADER: token})
    assert answer.status_code == 403
    assert "open the URL" in answer.get_json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/", "/api/now", "/static/main.js", "/static/dashboard.css", "/nothing", "/report", "/api/report?id=checkout-42"],
)
def test_every_answer_has_the_headers_that_keep_others_out(path: str) -> None:
    answer = Browser(view()).get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "form-action 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_pages_run_only_their_own_scripts_and_the_report_none() -> None:
    browser = Browser(view())
    page = browser.get("/").headers["Content-Security-Policy"]
    assert "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;" in page
    report = browser.get("/report?id=checkout-42").headers["Content-Security-Policy"]
    assert "script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:;" in report
    assert "frame-src blob:;" in report


def test_the_report_is_data() -> None:
    answer = Browser(view()).get("/api/report?id=checkout-42")
    assert answer.mimetype == "application/json"  # A browser that is led to it shows a text.
    assert answer.get_json() == {"id": "checkout-42", "html": "<!doctype html><title>checkout-42</title>"}


def test_now_shows_what_has_not_ended() -> None:
    browser = Browser(view(), view("a", "paused"), view("b", "waiting"), view("c", "succeeded"))
    reading = browser.get("/api/now").get_json()
    assert reading["counts"] == {"paused": 1, "running": 1, "waiting": 1}
    assert [row["id"] for row in reading["rollouts"]] == ["a", "checkout-42"]
    assert [(line["target"], [row["id"] for row in line["line"]]) for line in reading["lines"]] == [
        ("lambda-alias/checkout/live", ["b"])
    ]
    assert reading["rollouts"][0]["actions"] == ["resume", "promote", "promote-fully", "abort"]
    assert reading["rollouts"][1]["actions"] == ["pause", "promote", "promote-fully", "abort"]
    assert "request" not in reading["rollouts"][0]


def test_the_history_is_searched_and_paged() -> None:
    browser = Browser(
        *(view(f"r-{n:02d}", "succeeded", created_at=at(n)) for n in range(60)), view("x", "refused", target="t")
    )
    first = browser.get("/api/rollouts").get_json()
    assert [row["id"] for row in first["rollouts"]] == [f"r-{n:02d}" for n in range(59, 34, -1)]
    second = browser.get(f"/api/rollouts?after={first['next']}").get_json()
    assert second["rollouts"][0]["id"] == "r-34"
    assert [row["id"] for row in browser.get("/api/rollouts?state=refused").get_json()["rollouts"]] == ["x"]
    assert len(browser.get("/api/rollouts?target=checkout:live").get_json()["rollouts"]) == 25
    assert browser.get("/api/rollouts?target=checkout:old").get_json() == {"rollouts": []}
    within = browser.get(f"/api/rollouts?since={at(3)}&until={at(5)}").get_json()
    assert [row["id"] for row in within["rollouts"]] == ["r-04", "r-03"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("target=a b", "target"), ("state=gone", "state"), ("since=yesterday", "since"), ("until=2026-11-30", "until")],
)
def test_a_wrong_search_names_its_field(query: str, field: str) -> None:
    answer = Browser().get(f"/api/rollouts?{query}")
    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith(f"{field}: must be")


@pytest.mark.parametrize("signal", ["pause", "promote", "promote-fully", "abort"])
def test_a_button_sends_the_signal_and_tells_what_became_of_it(signal: str) -> None:
    browser = Browser(view())
    answer = browser.post("/api/signal", {"id": "checkout-42", "signal": signal, "reason": "the logs"})
    assert answer.get_json()["effect"] == "done"
    ((detail_type, detail),) = browser.bus.sent
    assert detail_type == "Rollout Signal"
    assert detail.pop("id").startswith("dashboard-")
    assert detail == {"rolloutId": "checkout-42", "signal": signal, "by": "ada", "reason": "the logs"}


def test_a_refused_signal_tells_headgates_reason() -> None:
    browser = Browser(view())
    browser.bus.refuses = "it already waits for an operator; send resume, promote or abort"
    answer = browser.post("/api/signal", {"id": "checkout-42", "signal": "pause"}).get_json()
    assert answer["effect"] == "refused"
    assert browser.bus.refuses in answer["text"]


def test_an_undo_names_the_rollout_and_its_target() -> None:
    browser = Browser(view(status="succeeded"))
    answer = browser.post("/api/undo", {"id": "checkout-42"}).get_json()
    assert answer["effect"] == "done"
    ((detail_type, detail),) = browser.bus.sent
    assert (detail_type, detail["rolloutId"]) == ("Undo Requested", "checkout-42")
    assert detail["target"] == {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
    assert answer["rolloutId"] == detail["id"]


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_only_a_post_changes_something(path: str, method: str) -> None:
    browser = Browser(view())
    headers = {"Origin": ORIGIN, **browser.session}
    body = {"id": "checkout-42", "signal": "abort"}
    answer = browser.client.open(
        f"{path}?id=checkout-42&signal=abort", method=method, base_url=ORIGIN, headers=headers, json=body
    )
    assert answer.status_code == 405
    assert browser.bus.sent == []


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://attacker.example"}, {SESSION_HEADER: "wrong"}, {"Host": "attacker.example"}]
)
def test_a_foreign_post_changes_nothing(path: str, headers: dict[str, str]) -> None:
    browser = Browser(view())
    assert browser.post(path, {"id": "checkout-42", "signal": "abort"}, **headers).status_code == 403
    assert browser.bus.sent == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "the body"),
        ({"id": "a b", "signal": "pause"}, "id"),
        ({"signal": "pause"}, "id"),
        ({"id": "checkout-42", "signal": "alarm"}, "signal"),
        ({"id": "checkout-42"}, "signal"),
        ({"id": "checkout-42", "signal": "pause", "reason": "x" * 1001}, "reason"),
        ({"id": "checkout-42", "signal": "pause", "reason": {}}, "reason"),
        ({"id": "checkout-42", "signal": "pause", "reason": "\ud800"}, "reason"),
    ],
)
def test_a_wrong_signal_is_refused_before_anything_is_sent(body: Any, field: str) -> None:
    browser = Browser(view())
    answer = browser.post("/api/signal", body)
    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith(f"{field}: must be")
    assert browser.bus.sent == []


def test_a_body_without_end_is_refused() -> None:
    browser = Browser(view())
    assert browser.post("/api/signal", {"reason": "x" * 20_000}).status_code == 413
    assert browser.bus.sent == []


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 7000,
        b'{"id":' * 2000,
        b'{"id": "checkout-42", "signal": "pause", "reason": ' + b"[" * 7000,
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"id": "\xff"}',
        b"{",
        b"",
    ],
)
def test_a_body_that_cannot_be_read_is_refused_without_a_word_on_the_terminal(
    path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(view())
    answer = browser.post_raw(path, body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]
    assert browser.bus.sent == []
    assert caplog.text == ""


def test_a_report_of_nothing_is_not_found() -> None:
    browser = Browser(view())
    assert browser.get("/api/report?id=checkout-43").status_code == 404
    answer = browser.get("/api/report?id=%3Cscript%3E")
    assert (answer.status_code, answer.mimetype) == (404, "application/json")


def test_a_failure_of_aws_is_told_with_what_to_do() -> None:
    browser = Browser(view())
    browser.records.failure = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    answer = browser.get("/api/rollouts")
    assert answer.status_code == 502
    assert "check the network, --region and AWS_ENDPOINT_URL" in answer.get_json()["error"]
    assert "AWS cannot be reached" in browser.get("/api/now").get_json()["trouble"]["text"]
