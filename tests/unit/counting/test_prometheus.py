"""Counts by the minute from what a server answers, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from headgate.counting.prometheus import PrometheusCounter
from headgate.counting.prometheus_config import BearerToken, PrometheusConfig, Signature
from headgate.counting.prometheus_server import PrometheusError
from headgate.errors import RequestRefused
from tests.builders import event

if TYPE_CHECKING:
    from headgate.counting.prometheus_server import PrometheusServer

TEN = 1_796_032_800
"""2026-11-30T10:00:00Z in seconds since 1970."""

CONFIG = event("prometheus_counter")["config"]


class Server:
    """Answers a query by what it is of, and remembers what it was asked."""

    def __init__(self, **values: dict[int, float]) -> None:
        self._values = values
        self.asked: dict[str, tuple[str, range]] = {}

    def ask(self, what: str, query: str, times: range) -> dict[int, float]:
        self.asked[what] = query, times
        return self._values.get(what.replace(" ", "_"), {})


def count(server: Server, **changes: Any) -> list[dict[str, Any]]:
    return PrometheusCounter(lambda _: cast("PrometheusServer", server)).count(event("prometheus_counter") | changes)


def test_a_minute_is_read_at_its_end() -> None:
    server = Server(requests_of_candidate={TEN + 60: 99.6, TEN + 120: 12.0}, failures_of_candidate={TEN + 120: 3.2})
    minutes = count(server)
    assert [each["minute"][11:16] for each in minutes] == ["10:00", "10:01", "10:02"]
    assert [each["candidate"] for each in minutes] == [
        {"requests": 100, "failures": 0},
        {"requests": 12, "failures": 3},
        {"requests": 0, "failures": 0},
    ]


def test_each_revision_is_asked_for_with_both_queries() -> None:
    server = Server()
    count(server)
    times = range(TEN + 60, TEN + 240, 60)
    assert server.asked["requests of stable"] == ('sum(increase(payments_total{version="6"}[1m]))', times)
    assert server.asked["failures of candidate"] == (
        'sum(increase(payments_total{version="7", outcome="failed"}[1m]))',
        times,
    )
    assert len(server.asked) == 4


def test_a_revision_of_a_service_may_stand_in_a_query() -> None:
    server = Server()
    count(server, revisions={"candidate": "shop:8", "stable": "shop:7"})
    assert '{version="shop:8"}' in server.asked["requests of candidate"][0]


@pytest.mark.parametrize("revision", ['7"} or vector(1) #', "7\\", "7'", "7\n", ""])
def test_a_revision_that_would_change_the_query_is_refused(revision: str) -> None:
    with pytest.raises(RequestRefused, match=r"cannot stand in a query"):
        count(Server(), revisions={"candidate": revision, "stable": "6"})


def test_failures_that_only_extrapolation_puts_above_the_requests_are_all_requests() -> None:
    server = Server(requests_of_stable={TEN + 60: 10.0}, failures_of_stable={TEN + 60: 10.9})
    assert count(server)[0]["stable"] == {"requests": 10, "failures": 10}


def test_failures_that_are_none_of_the_requests_are_refused() -> None:
    server = Server(requests_of_stable={TEN + 60: 10.0}, failures_of_stable={TEN + 60: 20.0})
    with pytest.raises(
        PrometheusError, match=r"^failures of stable: are 20 of 10 requests in the minute of 2026-11-30T"
    ):
        count(server)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_is_no_count_is_refused_by_name(value: float) -> None:
    with pytest.raises(PrometheusError, match=rf"^requests of candidate: are {value} in the minute of .*sum\(increase"):
        count(Server(requests_of_candidate={TEN + 120: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"revisions": {"candidate": "7"}},
        {"revisions": None},
        {"from": "yesterday"},
        {"from": "2026-11-30T10:00:00"},
        {"to": "2026-11-30T10:03:00.5Z"},
        {"to": "2026-11-30T10:03:30Z"},
        {"to": "2026-11-30T10:00:00Z"},
        {"to": "2026-12-30T10:00:00Z"},
    ],
)
def test_an_event_that_headgate_does_not_send_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match=r"^the event: "):
        count(Server(), **changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"url": "prometheus:9090"}, "config: url: must begin with https:// or http:// and have no space"),
        ({"url": "https://prometheus/?tenant=1"}, "config: url: must be a scheme, a host and, if needed, a port and a"),
        ({"url": "https://user:pass@prometheus"}, "config: url: must be a scheme, a host and, if needed, a port and a"),
        ({"url": "https://prometheus:99999"}, "config: url: port out of range"),
        ({"requests": "sum(x)"}, "config: requests: is the same for both revisions; put $revision into a matcher"),
        ({"failure": "x"}, "config: failure: is not a known field; did you mean failures?"),
        ({"auth": "basic"}, "config: auth: must be 'none'"),
        ({"auth": {}}, 'config: auth: must be "none", {"bearerTokenSecret": "..."} or {"sigv4": {"region": "..."}}'),
        ({"auth": {"bearerTokenSecret": "a b"}}, "config: auth.bearerTokenSecret: must be the name of a secret"),
        ({"auth": {"sigv4": {}}}, "config: auth.sigv4.region: is missing; add it"),
        ({"auth": {"sigv4": {"region": "Frankfurt"}}}, "config: auth.sigv4.region: must be a Region, such as"),
        ({"auth": {"sigv4": {"region": "eu-central-1", "service": "es"}}}, "config: auth.sigv4.service: must be 'aps'"),
    ],
)
def test_a_faulty_config_is_refused_with_its_field(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        count(Server(), config=CONFIG | changes)
    assert str(refused.value).startswith(fault)


@pytest.mark.parametrize(
    "auth", [{"bearerTokenSecret": "headgate/prometheus/main"}, {"sigv4": {"region": "us-east-1"}}]
)
def test_what_allows_a_request_is_never_sent_in_the_clear(auth: Any) -> None:
    with pytest.raises(RequestRefused, match=r"url must begin with https://, because auth would be read"):
        count(Server(), config=CONFIG | {"url": "http://prometheus.internal:9090", "auth": auth})
    assert PrometheusConfig.of(CONFIG | {"auth": auth}).auth != "none"


def test_a_config_says_what_the_server_asks_for() -> None:
    assert PrometheusConfig.of(CONFIG | {"auth": {"bearerTokenSecret": "a"}}).auth == BearerToken(
        bearer_token_secret="a"
    )
    signed = PrometheusConfig.of(CONFIG | {"auth": {"sigv4": {"region": "us-gov-west-1"}}}).auth
    assert isinstance(signed, Signature)
    assert (signed.sigv4.region, signed.sigv4.service) == ("us-gov-west-1", "aps")
    in_the_clear = PrometheusConfig.of({**CONFIG, "url": "http://prometheus.internal:9090/main/"})
    assert (in_the_clear.url, in_the_clear.auth) == ("http://prometheus.internal:9090/main", "none")
