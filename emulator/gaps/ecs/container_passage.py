"""A way from containers to the embedded AWS, which listens on this machine's loopback alone."""

import contextlib
import os
import socket
import socketserver
import threading
from ipaddress import ip_network
from typing import Any

_lock = threading.Lock()
_urls: dict[str, str] = {}
"""The URL of the passage, by the address of the engine's network."""


def url(engine: Any) -> str | None:
    """Return the URL at which an engine's containers reach the embedded AWS. It opens a passage at first.

    None if this machine has no address in their network, as with Docker Desktop, whose engine is in a virtual machine.
    """
    pool = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
    # A new bridge does not report its address yet, which is the first one.
    address = str(pool.get("Gateway") or ip_network(pool["Subnet"])[1])
    with _lock:
        if address not in _urls:
            try:
                passage = _Passage((address, 0), _Connection)
            except OSError:
                return None
            threading.Thread(target=passage.serve_forever, daemon=True, name="embedded-passage").start()
            _urls[address] = "http://{}:{}".format(*passage.server_address)
        return _urls[address]


class _Passage(socketserver.ThreadingTCPServer):
    daemon_threads = True


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Forward both directions until both ends are closed."""
        inside = ("127.0.0.1", int(os.environ["GATEWAY_PORT"]))
        with contextlib.suppress(OSError), socket.create_connection(inside) as inner:
            back = threading.Thread(target=_pour, args=(inner, self.request), daemon=True)
            back.start()
            _pour(self.request, inner)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
