"""The counts of a real Prometheus server, whose past is made up and known to the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.counting.prometheus import PrometheusCounter
from headgate.counting.prometheus_server import PrometheusError, PrometheusServer
from tests.fakes.prometheus import RealPrometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.counting.prometheus_config import PrometheusConfig

BEGIN = 1_796_205_600
"""2026-12-02T10:00:00Z in seconds since 1970."""
SCRAPE = 15
"""Seconds."""
MINUTES = 10
REQUESTS = {("6", "a"): 90, ("6", "b"): 30, ("7", "a"): 12}
"""Requests per scrape by version and instance."""
FAILED_FROM_MINUTE = 5
"""Version 7 fails once per scrape from here on. Its counter of failures has been zero until then."""

CONFIG = {
    "requests": 'sum(increase(payments_total{version="$revision"}[1m]))',
    "failures": 'sum(increase(payments_total{version="$revision", outcome="failed"}[1m]))',
}


def samples() -> Iterator[tuple[str, float, float]]:
    """Counters as an exporter shows them: total so far at each scrape, seven seconds after each quarter of a minute."""
    scrapes = MINUTES * 60 // SCRAPE
    for (version, instance), requests in REQUESTS.items():
        fails = [version == "7" and number * SCRAPE >= FAILED_FROM_MINUTE * 60 for number in range(scrapes)]
        for outcome in ("ok", "failed"):
            total = 0
            for number in range(scrapes):
                at = BEGIN + number * SCRAPE + 7
                total += (requests - fails[number]) if outcome == "ok" else fails[number]
                yield f'payments_total{{version="{version}",instance="{instance}",outcome="{outcome}"}}', total, at


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    with RealPrometheus(tmp_path_factory.mktemp("prometheus"), samples()) as server:
        yield server


def count(prometheus: RealPrometheus, **config: str) -> list[dict[str, Any]]:
    def server_for(config: PrometheusConfig) -> PrometheusServer:
        return PrometheusServer(config.url, resolve=lambda host: host)

    event = {
        "revisions": {"candidate": "7", "stable": "6"},
        "from": "2026-12-02T10:00:00Z",
        "to": "2026-12-02T10:12:00Z",
        "config": {"url": prometheus.url, **CONFIG, **config},
    }
    return PrometheusCounter(server_for).count(event)


def test_each_minute_has_the_requests_and_failures_of_both_revisions(prometheus: RealPrometheus) -> None:
    minutes = count(prometheus)
    assert [each["minute"] for each in minutes] == [f"2026-12-02T10:{minute:02}:00Z" for minute in range(12)]
    quiet = {"candidate": {"requests": 48, "failures": 0}, "stable": {"requests": 480, "failures": 0}}
    for number in range(1, 5):
        assert minutes[number] == {"minute": minutes[number]["minute"], **quiet}
    for number in range(6, 10):
        assert minutes[number]["candidate"] == {"requests": 48, "failures": 4}
        assert minutes[number]["stable"] == quiet["stable"]
    assert minutes[11] == {
        "minute": "2026-12-02T10:11:00Z",
        "candidate": {"requests": 0, "failures": 0},
        "stable": {"requests": 0, "failures": 0},
    }


def test_all_that_was_counted_is_near_what_there_was(prometheus: RealPrometheus) -> None:
    minutes = count(prometheus)
    there_were = 12 * MINUTES * 60 // SCRAPE
    assert sum(each["candidate"]["requests"] for each in minutes) == pytest.approx(there_were, rel=0.02)
    assert sum(each["candidate"]["failures"] for each in minutes) == pytest.approx(20, abs=1)


def test_a_query_that_prometheus_cannot_read_is_named_with_its_words(prometheus: RealPrometheus) -> None:
    with pytest.raises(PrometheusError, match=r"^failures of candidate: http\S+ answered with 400, bad_data: .*parse"):
        count(prometheus, failures='sum(increase(payments_total{version="$revision"}[1m])')


def test_several_series_are_refused(prometheus: RealPrometheus) -> None:
    with pytest.raises(PrometheusError, match=r"requests of candidate: the query returns 2 series; sum over them"):
        count(prometheus, requests='increase(payments_total{version="$revision"}[1m])')


def test_what_is_no_number_is_refused(prometheus: RealPrometheus) -> None:
    with pytest.raises(PrometheusError, match=r"failures of candidate: are nan in the minute of 2026-12-02T10:00:00Z"):
        count(prometheus, failures='0 * count(payments_total{version="$revision"}) / 0')
