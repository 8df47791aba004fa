"""Live traffic on an alias: a steady rate of requests, counted per version as the caller sees them."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

from botocore.config import Config

if TYPE_CHECKING:
    from types import TracebackType

    from emulator.server import EmbeddedAws

BASKET = {"items": [{"price": 3.5, "quantity": 2}, {"price": 12, "quantity": 1}]}


class Request(NamedTuple):
    """One request, as its caller saw it."""

    at: float
    """Time of the answer, by time.monotonic."""
    version: str
    ok: bool


class Traffic:
    """Context manager that sends requests until it exits.

    Parameters
    ----------
    rps
        Requests per second. Each is sent at its own time, independent of the others.
    """

    def __init__(self, aws: EmbeddedAws, function: str, alias: str, rps: float) -> None:
        self._aws, self._function, self._alias, self._rps = aws, function, alias, rps
        self.requests: list[Request] = []
        self.unanswered = 0
        """Requests without an answer from Lambda."""
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

    def _work(self) -> None:
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
        client = self._aws.client("lambda", config=config)
        while not self._stop.is_set():
            with self._lock:
                due = self._begun + self._next / self._rps
                self._next += 1
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            try:
                answer = client.invoke(
                    FunctionName=self._function, Qualifier=self._alias, Payload=json.dumps(BASKET).encode()
                )
            except Exception:  # noqa: BLE001 - any error means that there was no answer
                self.unanswered += 1
                continue
            self.requests.append(Request(time.monotonic(), answer["ExecutedVersion"], "FunctionError" not in answer))


def tally(requests: list[Request]) -> dict[str, tuple[int, int]]:
    """Return requests and errors by version."""
    total = Counter(request.version for request in requests)
    failed = Counter(request.version for request in requests if not request.ok)
    return {version: (total[version], failed[version]) for version in sorted(total, key=int)}
