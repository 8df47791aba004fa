"""A way from containers to the embedded AWS, which listens on this machine's loopback alone."""

import os
import threading
from ipaddress import ip_network
from typing import Any

from emulator.passage import Passage

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
                passage = Passage(address, int(os.environ["GATEWAY_PORT"]))
            except OSError:
                return None
            threading.Thread(target=passage.serve_forever, daemon=True, name="embedded-passage").start()
            _urls[address] = passage.url
        return _urls[address]
