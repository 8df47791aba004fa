"""Asks a Prometheus server, or what speaks like one, over HTTP."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from headgate.aws.observability import logger
from headgate.aws.outbound import SecureConnection, foreign_address
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECT_SECONDS = 2
"""How long the server may take to accept a connection."""

ANSWER_SECONDS = 4
"""How long the server may take to answer then. Headgate waits 10 seconds, and asks again in a minute."""

MAX_ANSWER_BYTES = 1_000_000
"""An answer for one series has less than 40 bytes a minute. One for all series of a server has many more."""

MAX_QUOTED = 200
"""Characters of the server's own message that an error has."""


class PrometheusError(HeadgateError):
    """The server cannot be reached, or does not answer with counts. The message names the query and the fix."""


class PrometheusServer:
    """A server.

    Parameters
    ----------
    url
        The server, up to what stands before ``/api/v1``, without a slash at its end.
    headers_of
        Headers with which a request for a URL is allowed.
    resolve
        Finds the address of a host.
    """

    def __init__(
        self,
        url: str,
        headers_of: Callable[[str], Mapping[str, str]] = lambda _: {},
        resolve: Callable[[str], str] = lambda host: foreign_address(host, field="config: url", owner="Prometheus"),
    ) -> None:
        self._url, self._headers_of, self._resolve = url, headers_of, resolve

    def ask(self, what: str, query: str, times: range) -> dict[int, float]:
        """Evaluate a query at several times.

        Parameters
        ----------
        what
            What the query counts, for errors.
        times
            Seconds since 1970.

        Returns
        -------
        dict
            The value at each time, which may be infinite or no number; none at a time for which it has no data.

        Raises
        ------
        PrometheusError
            If there is no answer, an error, or more than one series.
        RequestRefused
            If the host cannot be resolved, or is this function itself.
        """
        # https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries
        asked = {
            "query": query,
            "start": times[0],
            "end": times[-1],
            "step": times.step,
            "timeout": f"{ANSWER_SECONDS}s",
        }
        # A signature is made of the URL as it is sent, where %20 stands for a space.
        url = f"{self._url}/api/v1/query_range?{urlencode(asked, quote_via=quote)}"
        try:
            status, body = self._get(url)
        except TimeoutError:
            raise PrometheusError(
                f"{what}: {self._url} did not connect within {CONNECT_SECONDS} s or answer within {ANSWER_SECONDS} s; "
                f"{_REACH}"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise PrometheusError(f"{what}: {self._url}: {error.verify_message}") from None
        except (OSError, HTTPException) as error:
            raise PrometheusError(f"{what}: {self._url} failed: {type(error).__name__}: {error}; {_REACH}") from None
        return _values(what, self._url, status, body)

    def _get(self, url: str) -> tuple[int, bytes]:
        """Send a request. Redirects are not followed, because they would take a token elsewhere."""
        parts = urlsplit(url)
        connection = self._connect()
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
            connection.request(
                "GET", f"{parts.path}?{parts.query}", headers=_plain_headers(url) | dict(self._headers_of(url))
            )
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER_BYTES + 1)
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        address = self._resolve(host)
        if parts.scheme == "http":
            return HTTPConnection(address, parts.port or 80, timeout=CONNECT_SECONDS)
        return SecureConnection(address, parts.port or 443, timeout=CONNECT_SECONDS, name=host)


_REACH = "check that Headgate's functions reach it, by the parameters SubnetIds and SecurityGroupIds"


def _plain_headers(url: str) -> dict[str, str]:
    """Return the headers of every request. ``Host`` is as a signature has it: without the usual port of the scheme."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    return {
        "Host": parts.netloc.lower().removesuffix(f":{usual}"),
        "Accept": "application/json",
        "User-Agent": "headgate-prometheus-counter",
    }


def _values(what: str, url: str, status: int, body: bytes) -> dict[int, float]:
    """Read the answer of a range query."""
    if len(body) > MAX_ANSWER_BYTES:
        raise PrometheusError(f"{what}: the answer has more than {MAX_ANSWER_BYTES} bytes; sum over all series")
    answer = _json(body)
    if answer.get("status") == "error":
        quoted = f"{answer.get('errorType')}: {answer.get('error')}"[:MAX_QUOTED]
        raise PrometheusError(f"{what}: {url} answered with {status}, {quoted}")
    if status != 200:
        raise PrometheusError(f"{what}: {url} answered with {status}")
    for warning in answer.get("warnings") or []:
        logger.warning("Prometheus warns", query=what, reason=str(warning)[:MAX_QUOTED])
    try:
        found = answer["data"]["result"]
        if len(found) > 1:
            raise PrometheusError(f"{what}: the query returns {len(found)} series; sum over them")
        return {round(float(time)): float(value) for series in found for time, value in series["values"]}
    except (KeyError, TypeError, ValueError):
        raise PrometheusError(f"{what}: {url} did not answer as Prometheus does") from None


def _json(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
