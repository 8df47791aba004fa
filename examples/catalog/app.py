"""The sample service for ECS: a catalog over HTTP. A bad release fails on a share of its requests."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PRICES = {"bread": 3.5, "cheese": 12.0, "olives": 5.25}

release = os.environ.get("RELEASE", "1")
error_rate = float(os.environ.get("ERROR_RATE", "0"))
stream = os.environ.get("TELEMETRY_STREAM", "")

telemetry = None
if stream:
    # The wheel of Headgate's releases. In a task it knows its service and revision.
    from headgate_telemetry import Telemetry  # type: ignore[import-not-found]

    telemetry = Telemetry(stream)


class Catalog(BaseHTTPRequestHandler):
    """Answers /health, and every other path with the prices."""

    protocol_version = "HTTP/1.1"
    # One write for each answer: headers and body in two packets would cost 40 ms with delayed acknowledgements.
    wbufsize = -1
    # Longer than the load balancer keeps idle connections (60 s by default), which must be the one that closes them.
    timeout = 75

    def do_GET(self) -> None:
        """Answer the request, and report how it went."""
        if self.path == "/health":
            self._answer(200, {"release": release})
            return
        begun = time.perf_counter()
        ok = random.random() >= error_rate
        if ok:
            self._answer(200, {"release": release, "prices": PRICES})
        else:
            self._answer(500, {"release": release, "error": "the prices are not available"})
        if telemetry:
            telemetry.record(ok=ok, milliseconds=(time.perf_counter() - begun) * 1000)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Revision", revision)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Write no line for each request."""


def task_revision() -> str:
    """Return family and revision of the task, as in ``catalog:7``; the release outside ECS."""
    metadata = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if not metadata:
        return release
    with urllib.request.urlopen(f"{metadata}/task", timeout=10) as response:  # noqa: S310 - from ECS
        task = json.load(response)
    return f"{task['Family']}:{task['Revision']}"


def stop(*_: Any) -> None:
    """End the process when ECS stops the task. The load balancer sends it no requests any more by then."""
    if telemetry:
        telemetry.flush()
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    revision = task_revision()
    address = (os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8080")))  # noqa: S104 - its own network
    print(f"release {release} ({revision}) listens on port {address[1]}", flush=True)
    ThreadingHTTPServer(address, Catalog).serve_forever()
