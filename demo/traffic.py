"""Live traffic: a steady rate of requests to an alias or a URL, counted per version as the caller sees them."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from http.client import HTTPConnection
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from emulator.server import EmbeddedAws

BASKET = {"items": [{"price": 3.5, "quantity": 2}, {"price": 12, "quantity": 1}]}


class Request(NamedTuple):
    """One request, as its caller saw it."""

    at: float
    """Time of the answer, by time.monotonic."""
    version: str
    ok: bool


class SteadyRequests(ABC):
    """Context manager that sends requests until it exits.

    Parameters
    ----------
    rps
        Requests per second. Each is sent at its own time, independent of the others.
    """

    def __init__(self, rps: float) -> None:
        self._rps = rps
        self.requests: list[Request] = []
        self._unanswered: list[float] = []
        """Times, by time.monotonic."""
        self._next = 0
        self._begun = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(4, min(64, int(rps / 2))))]

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)

    def since(self, begun: float) -> list[Request]:
        """Return the requests answered since a time."""
        return [request for request in self.requests[:] if request.at >= begun]

    @property
    def unanswered(self) -> int:
        """Number of requests without an answer from the service."""
        return len(self._unanswered)

    def unanswered_since(self, begun: float) -> int:
        """Return the number of requests without an answer since a time."""
        return sum(at >= begun for at in self._unanswered[:])

    @abstractmethod
    def _caller(self) -> Callable[[], tuple[str, bool]]:
        """Return a function that sends one request, for one thread. It returns the version that answered, and success.

        Any error of it means that there was no answer.
        """

    def _work(self) -> None:
        call = self._caller()
        while not self._stop.is_set():
            with self._lock:
                due = self._begun + self._next / self._rps
                self._next += 1
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            try:
                version, ok = call()
            except Exception:  # noqa: BLE001 - any error means that there was no answer
                self._unanswered.append(time.monotonic())
                continue
            self.requests.append(Request(time.monotonic(), version, ok))


class Traffic(SteadyRequests):
    """Requests by an alias."""

    def __init__(self, aws: EmbeddedAws, function: str, alias: str, rps: float) -> None:
        super().__init__(rps)
        self._aws, self._function, self._alias = aws, function, alias

    def _caller(self) -> Callable[[], tuple[str, bool]]:
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
        client = self._aws.client("lambda", config=config)

        def call() -> tuple[str, bool]:
            answer = client.invoke(
                FunctionName=self._function, Qualifier=self._alias, Payload=json.dumps(BASKET).encode()
            )
            return answer["ExecutedVersion"], "FunctionError" not in answer

        return call


class WebTraffic(SteadyRequests):
    """Requests to a URL, over connections that stay open, as browsers and other services send them."""

    def __init__(self, url: str, rps: float) -> None:
        super().__init__(rps)
        self._url = urlsplit(url)

    def _caller(self) -> Callable[[], tuple[str, bool]]:
        connection = HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)

        def call() -> tuple[str, bool]:
            try:
                connection.request("GET", self._url.path)
                answer = connection.getresponse()
                answer.read()
            except Exception:
                connection.close()
                raise
            # The load balancer's own answers, like 502 and 503, have none.
            if (revision := answer.getheader("X-Revision")) is None:
                raise ConnectionError(f"the load balancer answered {answer.status}")
            return revision, answer.status < 500

        return call


def tally(requests: list[Request]) -> dict[str, tuple[int, int]]:
    """Return requests and errors by version."""
    total = Counter(request.version for request in requests)
    failed = Counter(request.version for request in requests if not request.ok)
    return {version: (total[version], failed[version]) for version in sorted(total, key=_number)}


def _number(version: str) -> int:
    """Return the number of a version, or of a revision, as in ``catalog:7``."""
    return int(version.rpartition(":")[2])
