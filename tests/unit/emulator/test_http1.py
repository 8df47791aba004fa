"""Messages of HTTP/1.1, as the embedded AWS's load balancers read and write them."""

from __future__ import annotations

import asyncio

import pytest

from emulator.gaps.elb import http1
from emulator.gaps.elb.http1 import Framing, MalformedError


def request(*lines: str) -> http1.Request:
    """A request of these lines."""
    return http1.parse_request("\r\n".join([*lines, "", ""]).encode())


def body(sent: bytes, framing: Framing) -> list[bytes]:
    """The pieces of a body that a peer sends before it closes."""

    async def read() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(sent)
        reader.feed_eof()
        return [piece async for piece in http1.pieces(reader, framing)]

    return asyncio.run(read())


def test_a_request_is_read() -> None:
    found = request("GET /shop?id=1 HTTP/1.1", "Host: shop.example", "X-Note:  a: b ")
    assert found == ("GET", "/shop?id=1", "HTTP/1.1", [("Host", "shop.example"), ("X-Note", "a: b")])


@pytest.mark.parametrize(
    "line", ["GET /", "GET  / HTTP/1.1", "GET / HTTP/2.0", "G(T / HTTP/1.1", "", "GET / shop HTTP/1.1"]
)
def test_a_request_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(MalformedError):
        request(line)


@pytest.mark.parametrize("line", ["Host", ": value", "Host : shop", " folded: line"])
def test_a_header_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(MalformedError):
        request("GET / HTTP/1.1", line)


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([], Framing(length=0)),
        (["Content-Length: 12"], Framing(length=12)),
        (["Transfer-Encoding: Chunked"], Framing(chunked=True)),
    ],
)
def test_a_body_ends_as_its_headers_say(headers: list[str], framing: Framing) -> None:
    assert http1.request_framing(request("POST / HTTP/1.1", *headers)) == framing


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 1", "Transfer-Encoding: chunked"],
        ["Content-Length: 1", "Content-Length: 2"],
        ["Content-Length: -1"],
        ["Content-Length: ²"],
        ["Transfer-Encoding: gzip"],
    ],
)
def test_a_body_whose_end_is_not_clear_is_refused(headers: list[str]) -> None:
    with pytest.raises(MalformedError):
        http1.request_framing(request("POST / HTTP/1.1", *headers))


@pytest.mark.parametrize(("status", "method"), [(200, "HEAD"), (204, "GET"), (304, "GET")])
def test_some_responses_have_no_body_whatever_their_headers_say(status: int, method: str) -> None:
    response = http1.parse_response(f"HTTP/1.1 {status} \r\nContent-Length: 5\r\n\r\n".encode())
    assert http1.response_framing(response, method) == Framing(length=0)


def test_a_response_without_a_length_ends_with_its_connection() -> None:
    response = http1.parse_response(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n")
    assert http1.response_framing(response, "GET").until_close
    assert not response.keeps_alive


@pytest.mark.parametrize("line", [b"HTTP/1.1 20 OK", b"HTTP/1.1 099 OK", b"HTTP/3 200 OK", b"hello"])
def test_a_status_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        http1.parse_response(line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["GET / HTTP/1.1"], True),
        (["GET / HTTP/1.1", "Connection: close"], False),
        (["GET / HTTP/1.0"], False),
        (["GET / HTTP/1.0", "Connection: keep-alive"], True),
    ],
)
def test_a_connection_is_kept_as_the_client_says(lines: list[str], kept: bool) -> None:
    assert request(*lines).keeps_alive is kept


def test_headers_of_a_connection_are_not_passed_on() -> None:
    headers = [
        ("Connection", "close, X-Private"),
        ("X-Private", "1"),
        ("Keep-Alive", "5"),
        ("TE", "gzip"),
        ("Via", "a"),
    ]
    assert http1.without_hop_by_hop([*headers, ("Content-Length", "1")]) == [("Via", "a")]


def test_a_chunked_body_is_read_without_its_chunks_and_trailers() -> None:
    sent = http1.chunk(b"hello ") + b"5;note=x\r\nworld\r\n" + b"0\r\nX-Trailer: 1\r\n\r\n"
    assert b"".join(body(sent, Framing(chunked=True))) == b"hello world"
    assert http1.chunk(b"") == b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "framing"),
    [
        (b"hell", Framing(length=5)),
        (b"5\r\nhell", Framing(chunked=True)),
        (b"5\r\nhello!\r\n0\r\n\r\n", Framing(chunked=True)),
        (b"five\r\nhello", Framing(chunked=True)),
        (b"5\r\nhello\r\n", Framing(chunked=True)),
    ],
)
def test_a_body_that_breaks_off_is_no_body(sent: bytes, framing: Framing) -> None:
    with pytest.raises(MalformedError):
        body(sent, framing)


def test_a_body_may_end_with_its_connection() -> None:
    assert b"".join(body(b"hello", Framing())) == b"hello"
