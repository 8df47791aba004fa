"""HTTP/1.1 messages: heads, bodies and how they are framed (RFC 9112). Knows nothing of load balancers."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

HEAD_BYTES = 64 * 1024
"""Largest head of a message, as of an Application Load Balancer."""
PIECE_BYTES = 64 * 1024
Headers = list[tuple[str, str]]
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_WITHOUT_BODY = {204, 304}


class MalformedError(ValueError):
    """The message is not HTTP/1.1."""


def _keeps_alive(version: str, headers: Headers) -> bool:
    """Return whether a connection stays open after a message: by default from HTTP/1.1 on."""
    asked = header(headers, "connection").lower()
    return "close" not in asked and (version != "HTTP/1.0" or "keep-alive" in asked)


class Request(NamedTuple):
    """The head of a request."""

    method: str
    target: str
    """Path and query, as sent."""
    version: str
    headers: Headers

    @property
    def keeps_alive(self) -> bool:
        """Whether the client sends its next request on the same connection."""
        return _keeps_alive(self.version, self.headers)


class Response(NamedTuple):
    """The head of a response."""

    status: int
    reason: str
    version: str
    headers: Headers

    @property
    def keeps_alive(self) -> bool:
        """Whether the target takes another request on the same connection."""
        return _keeps_alive(self.version, self.headers)


class Framing(NamedTuple):
    """How the end of a body is found: by its length, by its chunks, or by the end of the connection."""

    length: int | None = None
    chunked: bool = False

    @property
    def until_close(self) -> bool:
        """Whether the body ends with the connection."""
        return self.length is None and not self.chunked


def header(headers: Headers, name: str) -> str:
    """Return all values of a header, joined; empty if there is none. `name` in lower case."""
    return ", ".join(value for each, value in headers if each.lower() == name)


def without_hop_by_hop(headers: Headers) -> Headers:
    """Return the headers that a proxy passes on. It frames bodies itself."""
    named = {each.strip().lower() for each in header(headers, "connection").split(",")}
    dropped = _HOP_BY_HOP | named | {"content-length"}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def parse_request(head: bytes) -> Request:
    """Read a request's head, with the empty line at its end. Raises MalformedError."""
    first, headers = _parse(head)
    parts = first.split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or parts[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise MalformedError(f"request line {first[:80]!r}")
    return Request(parts[0], parts[1], parts[2], headers)


def parse_response(head: bytes) -> Response:
    """Read a response's head, with the empty line at its end. Raises MalformedError."""
    first, headers = _parse(head)
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    if version not in ("HTTP/1.0", "HTTP/1.1") or len(code) != 3 or not code.isdigit() or code < "100":
        raise MalformedError(f"status line {first[:80]!r}")
    return Response(int(code), reason, version, headers)


def request_framing(request: Request) -> Framing:
    """Return how a request's body ends. Raises MalformedError."""
    framing = _framing(request.headers)
    return Framing(length=0) if framing.until_close else framing


def response_framing(response: Response, method: str) -> Framing:
    """Return how the body of a response to `method` ends. Raises MalformedError."""
    if method == "HEAD" or response.status in _WITHOUT_BODY or response.status < 200:
        return Framing(length=0)
    return _framing(response.headers)


def write_head(first: str, headers: Headers) -> bytes:
    """Return the bytes of a head."""
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers), "", ""]).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Return the next head; empty at the end of the connection. Raises MalformedError."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise MalformedError("the connection ends within a head") from error
        return b""
    except asyncio.LimitOverrunError as error:
        raise MalformedError(f"a head of more than {HEAD_BYTES} bytes") from error


async def pieces(reader: asyncio.StreamReader, framing: Framing) -> AsyncIterator[bytes]:
    """Yield a body as it comes, without its framing. Raises MalformedError if it ends early."""
    if framing.chunked:
        async for piece in _chunks(reader):
            yield piece
        return
    left = framing.length
    while left is None or left > 0:
        piece = await reader.read(PIECE_BYTES if left is None else min(PIECE_BYTES, left))
        if not piece:
            if left is None:
                return
            raise MalformedError(f"the connection ends {left} bytes before the body")
        left = None if left is None else left - len(piece)
        yield piece


def chunk(piece: bytes) -> bytes:
    """Return a piece of a body as a chunk; the last one is empty."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            while size > 0:
                piece = await reader.readexactly(min(PIECE_BYTES, size))
                size -= len(piece)
                yield piece
            if await reader.readexactly(2) != b"\r\n":
                raise MalformedError("a chunk does not end where it says")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # Trailers are dropped.
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise MalformedError("the connection ends within a chunk, or a chunk has no size") from error


def _parse(head: bytes) -> tuple[str, Headers]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise MalformedError(f"header {line[:80]!r}")
        headers.append((name, value.strip()))
    return first, headers


def _framing(headers: Headers) -> Framing:
    coding, length = header(headers, "transfer-encoding").lower(), header(headers, "content-length")
    if coding and length:
        # Two readers may disagree where the message ends, which lets a client smuggle a request.
        raise MalformedError("Transfer-Encoding and Content-Length")
    if coding:
        if coding != "chunked":
            raise MalformedError(f"Transfer-Encoding: {coding[:80]}")
        return Framing(chunked=True)
    if not length:
        return Framing()
    if not length.isascii() or not length.isdigit():
        raise MalformedError(f"Content-Length: {length[:80]}")
    return Framing(length=int(length))
