"""A way from containers to a port that listens on this machine's loopback alone."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading


class Passage(socketserver.ThreadingTCPServer):
    """Forwards connections to a port on loopback.

    Parameters
    ----------
    address
        Address of this machine on the containers' network, where a free port listens.
    port
        The port on loopback.
    """

    daemon_threads = True

    def __init__(self, address: str, port: int) -> None:
        self.inner_port = port
        super().__init__((address, 0), _Connection)

    @property
    def url(self) -> str:
        """The URL at which containers reach it."""
        return "http://{}:{}".format(*self.server_address)


class _Connection(socketserver.BaseRequestHandler):
    server: Passage

    def handle(self) -> None:
        """Forward both directions until both ends are closed."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.inner_port)) as inner:
            back = threading.Thread(target=_pour, args=(inner, self.request), daemon=True)
            back.start()
            _pour(self.request, inner)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Forward data in one direction until its end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
