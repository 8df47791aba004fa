"""Requests and failures of two revisions by the minute, from Prometheus."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.counting.prometheus_config import OF_REVISION, PrometheusConfig
from headgate.counting.prometheus_server import PrometheusError, PrometheusServer
from headgate.counting.question import MINUTE, Question, minute_text
from headgate.errors import RequestRefused
from headgate.spec.routing import ARMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.spec.routing import RevisionArm

MAX_EXTRAPOLATED = 1.1
"""By which factor failures may exceed their requests before they are an error.

Prometheus extrapolates each series by itself to the ends of a minute, so two counters that rose alike may differ:
https://prometheus.io/docs/prometheus/latest/querying/functions/#increase
"""

_IN_TEXT = re.compile(r"[A-Za-z0-9_.:/@+ -]{1,256}")
"""What may stand in a text of PromQL as it is, whatever its quotes."""


class Counted(NamedTuple):
    """A query of one revision."""

    arm: RevisionArm
    what: str
    """``requests`` or ``failures``."""


class PrometheusCounter:
    """Counts by queries of Prometheus.

    Parameters
    ----------
    server_for
        Returns the server that a config names.
    """

    def __init__(self, server_for: Callable[[PrometheusConfig], PrometheusServer]) -> None:
        self._server_for = server_for

    def count(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Answer a question of Headgate: the counts of each minute.

        Raises
        ------
        RequestRefused
            If the config or the event is not valid.
        PrometheusError
            If the server does not answer with counts.
        """
        config, question = PrometheusConfig.of(event.get("config")), Question.of(event)
        values = self._values(config, question)
        return [
            {"minute": minute_text(minute)} | {arm: _counts(values, arm, minute) for arm in ARMS}
            for minute in question.minutes
        ]

    def _values(self, config: PrometheusConfig, question: Question) -> dict[Counted, dict[int, float]]:
        """Ask all queries side by side."""
        server = self._server_for(config)
        # A minute's counter is read at its end.
        ends = range(question.begin + MINUTE, question.end + MINUTE, MINUTE)
        queries = {
            Counted(arm, what): _of_revision(query, question.revisions[arm])
            for arm in ARMS
            for what, query in (("requests", config.requests), ("failures", config.failures))
        }
        with ThreadPoolExecutor(len(queries)) as pool:
            found = pool.map(lambda each: _numbers(each, server.ask(_name(each), queries[each], ends)), queries)
            return dict(zip(queries, found, strict=True))


def _of_revision(query: str, revision: str) -> str:
    if not _IN_TEXT.fullmatch(revision):
        raise RequestRefused(f"the event: revision {revision!r} cannot stand in a query of Prometheus")
    return query.replace(OF_REVISION, revision)


def _name(counted: Counted) -> str:
    return f"{counted.what} of {counted.arm}"


def _numbers(counted: Counted, values: Mapping[int, float]) -> dict[int, float]:
    """Return the value of each minute by its beginning."""
    numbers = {}
    for end, number in values.items():
        minute = end - MINUTE
        if not isfinite(number) or number < 0:
            raise PrometheusError(
                f"{_name(counted)}: are {number} in the minute of {minute_text(minute)}; count with "
                "sum(increase(...[1m]))"
            )
        numbers[minute] = number
    return numbers


def _counts(values: Mapping[Counted, Mapping[int, float]], arm: RevisionArm, minute: int) -> dict[str, int]:
    """Return whole numbers. A series without data in a minute has counted nothing in it."""
    requests, failures = (round(values[Counted(arm, what)].get(minute, 0)) for what in ("requests", "failures"))
    if failures > requests * MAX_EXTRAPOLATED + 1:
        raise PrometheusError(
            f"failures of {arm}: are {failures} of {requests} requests in the minute of {minute_text(minute)}; count "
            "failures among the same requests"
        )
    return {"requests": requests, "failures": min(failures, requests)}
