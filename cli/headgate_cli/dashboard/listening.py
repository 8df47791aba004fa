"""The dashboard's server: as many threads as a browser needs, and no more for those who only hold connections open."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flask import Flask

READ_SECONDS = 10.0
"""How long a connection may say nothing while a request is read."""

MAX_CONNECTIONS = 64
"""At once. A browser has at most six, and a process may have as few as 256 files."""


class QuietHandler(WSGIRequestHandler):
    """Writes no line for each request: a page asks every two seconds. Nor for requests that nobody can read."""

    timeout = READ_SECONDS

    def log_request(self, *_: Any) -> None:
        """Write nothing."""

    def log_error(self, *_: Any) -> None:
        """Write nothing: everybody on the machine can cause it."""


class Server(ThreadedWSGIServer):
    """Serves the application on a socket, which it duplicates.

    Over the cap, the connection that has waited longest for its next bytes ends. One whose request the application
    works on stays: strangers get no further than its refusal, which reads no body.
    """

    def __init__(self, app: Flask, bound: socket.socket) -> None:
        host, port = bound.getsockname()[:2]
        self._lock = threading.Lock()
        # In the order of their last change.
        self._idle: dict[Any, float] = {}
        self._busy: set[Any] = set()
        super().__init__(host, port, self._watched(app), QuietHandler, fd=bound.fileno())

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, and end the oldest idle one if there are too many."""
        with self._lock:
            surplus = len(self._idle) + len(self._busy) + 1 - MAX_CONNECTIONS
            for oldest in [*self._idle][: max(surplus, 0)]:
                _end(oldest)
                del self._idle[oldest]
            self._idle[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._idle.pop(request, None)
            self._busy.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing of a connection that broke. The application reports its own errors."""

    def _watched(self, app: Flask) -> Any:
        def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            with self._at_work(environ["werkzeug.socket"]):
                return app(environ, start_response)

        return call

    @contextmanager
    def _at_work(self, connection: Any) -> Iterator[None]:
        with self._lock:
            if self._idle.pop(connection, None) is not None:
                self._busy.add(connection)
        try:
            yield
        finally:
            with self._lock:
                if connection in self._busy:
                    self._busy.discard(connection)
                    self._idle[connection] = time.monotonic()


def _end(connection: socket.socket) -> None:
    # It wakes the thread that reads from it, which closes it.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def listener(host: str, port: int) -> socket.socket:
    """Bind the address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # localhost may be both; browsers try 127.0.0.1 in any case.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Failure(f"--host: {host} is no address of this machine ({error.strerror}); use 127.0.0.1") from None
    try:
        if os.name == "posix":
            # As every server does: connections that have ended hold a port for a minute.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise Failure(
            f"--port, --host: {host}:{port} cannot be used ({error.strerror}); use another --port, or 0 for a free one"
        ) from None
    return bound
