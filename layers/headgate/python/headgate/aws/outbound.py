"""HTTP connections to hosts that a request names.

Anybody who may put a request on the bus names them. Lambda's own interface, which every function can reach, is not
theirs to call: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from http.client import HTTPConnection

from headgate.errors import RequestRefused


def foreign_address(host: str, *, field: str, owner: str) -> str:
    """Return the address of a host. Connect to it, and not to the name, which may resolve to another one the next time.

    Parameters
    ----------
    field
        The field that names the host, for the message.
    owner
        What should have this host, for the message.

    Raises
    ------
    RequestRefused
        If the host cannot be resolved, or is this function itself.
    """
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise RequestRefused(f"{field}: {host} cannot be resolved: {error}") from None
    for address in found:
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
            raise RequestRefused(f"{field}: {host} is {address}, which no {owner} has; name the {owner}'s host")
    return found[0]


class SecureConnection(HTTPConnection):
    """A connection whose certificate must have another name than the host or address that it connects to.

    Parameters
    ----------
    name
        The name in the certificate.
    verified
        Whether the certificate is checked.
    """

    def __init__(self, host: str, port: int, *, timeout: float, name: str, verified: bool = True) -> None:
        super().__init__(host, port, timeout=timeout)
        self._name = name
        self._context = ssl.create_default_context()
        if not verified:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)
