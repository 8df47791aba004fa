"""The data plane of load balancers: takes requests and sends them to targets. Knows nothing of MiniStack.

Simpler than an Application Load Balancer: plain HTTP/1.1 only, without upgrades to WebSocket; a request's body is read
whole before its target gets it; target groups have no stickiness or slow start of their own, and give their targets
turns.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from emulator.gaps.elb import http1, routing
from emulator.gaps.elb.routing import Target

CONNECT_SECONDS = 10.0
"""As of an Application Load Balancer."""
SERVER = ("Server", "awselb/2.0")
_REASONS = {
    400: "Bad Request",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}
# https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
_IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}
_FORWARDED = {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-amzn-trace-id", "expect"}
Place = tuple[str, Target]
"""A target of a target group."""


class Outcome(NamedTuple):
    """What became of a request."""

    load_balancer: str
    """ARN."""
    status: int
    """What the client got."""
    group: str = ""
    """ARN of the target group; empty if no target was chosen."""
    seconds: float | None = None
    """From the request to the head of the target's response; None if the load balancer answered itself."""
    not_connected: int = 0
    """How many connections to the target could not be made."""
    action: str = "forward"
    """Kind of the action: ``forward``, ``fixed-response`` or ``redirect``; empty if there was none."""


class _FailedError(Exception):
    """The target did not answer: the client gets `status`."""

    def __init__(self, status: int, *, connected: bool) -> None:
        super().__init__(status)
        self.status, self.connected = status, connected


class _Connection:
    """A connection to a target."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used = False

    @property
    def open(self) -> bool:
        return not (self.reader.at_eof() or self.writer.is_closing())


class Proxy:
    """Serves listeners. Its methods run in one event loop."""

    def __init__(self) -> None:
        """Serve nothing yet."""
        self.listeners: Mapping[str, routing.Listener] = {}
        """What is in force, by ARN. It is replaced as a whole: the next request sees it."""
        self.targets: Callable[[str], Sequence[Target]] = lambda _group: ()
        """Which targets of a target group take requests."""
        self.tell: Callable[[Outcome], None] = lambda _outcome: None
        """Called once for each request, before its client has the whole answer."""
        self._turns: dict[str, itertools.count[int]] = defaultdict(itertools.count)
        self._idle: dict[Place, list[_Connection]] = defaultdict(list)
        self._busy: dict[Place, set[_Connection]] = defaultdict(set)

    async def serve(self, arn: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client of the listener `arn` until one of both closes the connection."""
        # A client may leave at any time, and a body that breaks off in the middle cannot be made good.
        with contextlib.suppress(OSError, http1.MalformedError):
            while await self._serve_one(arn, reader, writer):
                pass
        writer.close()

    def forget(self, place: Place) -> None:
        """Close the idle connections to a target that takes no more requests."""
        for connection in self._idle.pop(place, []):
            connection.writer.close()

    def cut(self, place: Place) -> None:
        """Break off the requests in flight of a target whose deregistration has ended."""
        self.forget(place)
        for connection in self._busy.pop(place, set()):
            connection.writer.transport.abort()

    async def _serve_one(self, arn: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the next request; returns whether the connection stays open."""
        before = self.listeners.get(arn)
        if before is None:
            return False
        try:
            async with asyncio.timeout(before.idle_seconds):
                head = await http1.read_head(reader)
            if not head:
                return False
            request = http1.parse_request(head)
            framing = http1.request_framing(request)
            if http1.header(request.headers, "expect").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async with asyncio.timeout(before.idle_seconds):
                body = b"".join([piece async for piece in http1.pieces(reader, framing)])
        except http1.MalformedError:
            self.tell(Outcome(before.load_balancer, 400, action=""))
            return await _answer(writer, 400, close=True)
        # Only now: what is in force when the request is complete is what counts.
        listener = self.listeners.get(arn)
        if listener is None:
            return False
        client = writer.get_extra_info("peername")[0]
        asked = routing.asked_of(request.method, request.target, request.headers, client)
        action = listener.action_for(asked)
        close = not request.keeps_alive
        bare = request.method == "HEAD"
        match action:
            case routing.Forward():
                return await self._forward(listener, action, asked, request, body, writer)
            case routing.FixedResponse(status=status, content_type=content_type, body=text):
                self.tell(Outcome(listener.load_balancer, status, action="fixed-response"))
                headers = [("Content-Type", content_type)]
                return await _answer(writer, status, headers, text.encode(), close=close, bare=bare)
            case routing.Redirect(status=status):
                self.tell(Outcome(listener.load_balancer, status, action="redirect"))
                where = routing.location(action, asked, listener.port)
                return await _answer(writer, status, [("Location", where)], b"", close=close, bare=bare)
        self.tell(Outcome(listener.load_balancer, 503, action=""))
        return await _answer(writer, 503, close=close, bare=bare)

    async def _forward(
        self,
        listener: routing.Listener,
        action: routing.Forward,
        asked: routing.Asked,
        request: http1.Request,
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> bool:
        close, bare = not request.keeps_alive, request.method == "HEAD"
        group = routing.choose(action, routing.group_cookies(asked.headers))
        targets = self.targets(group.arn) if group else ()
        if group is None or not targets:
            self.tell(Outcome(listener.load_balancer, 503))
            return await _answer(writer, 503, close=close, bare=bare)
        place = (group.arn, targets[next(self._turns[group.arn]) % len(targets)])
        message = http1.write_head(
            f"{request.method} {request.target} HTTP/1.1", _to_target(listener, asked, request, body)
        )
        started = time.monotonic()
        refused = 0
        try:
            connection, response = await self._ask(place, message + body, request.method, listener.idle_seconds)
        except _FailedError as failed:
            refused += not failed.connected
            self.tell(Outcome(listener.load_balancer, failed.status, group.arn, not_connected=refused))
            return await _answer(writer, failed.status, close=close, bare=bare)
        seconds = time.monotonic() - started
        self.tell(Outcome(listener.load_balancer, response.status, group.arn, seconds))
        headers = http1.without_hop_by_hop(response.headers)
        if action.sticky_seconds:
            cookie = f"{routing.GROUP_COOKIE}={group.cookie}; Max-Age={action.sticky_seconds}; Path=/"
            headers.append(("Set-Cookie", cookie))
        intact = False
        try:
            framing = http1.response_framing(response, request.method)
            keep = await _pass_on(connection.reader, writer, request, response, framing, headers)
            intact = response.keeps_alive and not framing.until_close
            return keep
        finally:
            self._give_back(place, connection, intact=intact)

    async def _ask(
        self, place: Place, message: bytes, method: str, idle_seconds: float
    ) -> tuple[_Connection, http1.Response]:
        """Send a request to a target; returns the connection and the head of the response. Raises _FailedError."""
        while True:
            connection = await self._connect(place)
            self._busy[place].add(connection)
            answered = False
            try:
                async with asyncio.timeout(idle_seconds):
                    connection.writer.write(message)
                    await connection.writer.drain()
                    response = await _read_response(connection.reader)
                if response is not None:
                    answered = True
                    return connection, response
            except TimeoutError as error:
                raise _FailedError(504, connected=True) from error
            except http1.MalformedError as error:
                raise _FailedError(502, connected=True) from error
            except OSError:
                pass
            finally:
                if not answered:
                    self._give_back(place, connection, intact=False)
            # A connection that was idle may end just when it is used again. Then the request was never read, and it is
            # sent once more where that does no harm.
            if not connection.used or method not in _IDEMPOTENT or place[1] not in self.targets(place[0]):
                raise _FailedError(502, connected=True)

    async def _connect(self, place: Place) -> _Connection:
        idle = self._idle[place]
        while idle:
            if (connection := idle.pop()).open:
                return connection
            connection.writer.close()
        address, port = place[1]
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return _Connection(*await asyncio.open_connection(address, port, limit=http1.HEAD_BYTES))
        except TimeoutError as error:
            raise _FailedError(504, connected=False) from error
        except OSError as error:
            raise _FailedError(502, connected=False) from error

    def _give_back(self, place: Place, connection: _Connection, *, intact: bool) -> None:
        """Keep a connection for the next request, or close it."""
        busy = self._busy.get(place, set())
        busy.discard(connection)
        if not busy:
            self._busy.pop(place, None)
        group, target = place
        if intact and connection.open and target in self.targets(group):
            connection.used = True
            self._idle[place].append(connection)
        else:
            connection.writer.close()


async def _read_response(reader: asyncio.StreamReader) -> http1.Response | None:
    """Read the head of the final response; None if the connection ends before it."""
    while head := await http1.read_head(reader):
        response = http1.parse_response(head)
        if response.status >= 200:
            http1.response_framing(response, "GET")
            return response
    return None


def _to_target(
    listener: routing.Listener, asked: routing.Asked, request: http1.Request, body: bytes
) -> list[tuple[str, str]]:
    """Return the headers of the request to the target."""
    host = http1.header(request.headers, "host")
    if not listener.preserves_host:
        host = asked.host if listener.port in (80, 443) else f"{asked.host}:{listener.port}"
    before = asked.headers.get("x-forwarded-for")
    headers = [("Host", host)]
    headers += [each for each in http1.without_hop_by_hop(request.headers) if each[0].lower() not in _FORWARDED]
    headers += [
        ("X-Forwarded-For", f"{before}, {asked.client}" if before else asked.client),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Port", str(listener.port)),
        ("X-Amzn-Trace-Id", trace_id(asked.headers.get("x-amzn-trace-id", ""), new_id())),
    ]
    if body or request.method in ("POST", "PUT", "PATCH"):
        headers.append(("Content-Length", str(len(body))))
    return headers


def new_id() -> str:
    """Return a new id of a trace."""
    return f"1-{int(time.time()):08x}-{random.getrandbits(96):024x}"


def trace_id(given: str, fresh: str) -> str:
    """Return the X-Amzn-Trace-Id for a target.

    A Root of the client is kept and gets a Self, which is always that of the load balancer:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
    """
    fields = [each.strip() for each in given.split(";") if each.strip() and not each.strip().startswith("Self=")]
    known = any(each.startswith("Root=") for each in fields)
    return ";".join([f"{'Self' if known else 'Root'}={fresh}", *fields])


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: http1.Request,
    response: http1.Response,
    framing: http1.Framing,
    headers: http1.Headers,
) -> bool:
    """Send a response to the client as it comes; returns whether the connection stays open."""
    keep = request.keeps_alive
    length = http1.header(response.headers, "content-length")
    chunked = framing.length is None and request.version == "HTTP/1.1"
    if length:
        # Also for HEAD, whose response tells the length of a body that does not follow.
        headers.append(("Content-Length", length))
    elif chunked:
        headers.append(("Transfer-Encoding", "chunked"))
    elif framing.length is None:
        keep = False
    if not keep:
        headers.append(("Connection", "close"))
    writer.write(http1.write_head(f"HTTP/1.1 {response.status} {response.reason}", headers))
    try:
        async for piece in http1.pieces(reader, framing):
            writer.write(http1.chunk(piece) if chunked else piece)
            await writer.drain()
    except (http1.MalformedError, OSError):
        writer.transport.abort()  # The client must not take what it has for the whole body.
        raise
    if chunked:
        writer.write(http1.chunk(b""))
    await writer.drain()
    return keep


async def _answer(
    writer: asyncio.StreamWriter,
    status: int,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    close: bool,
    bare: bool = False,
) -> bool:
    """Answer without a target; returns whether the connection stays open. `bare` leaves the body out."""
    reason = _REASONS.get(status, "")
    told = [SERVER, ("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())), *headers]
    if body is None:
        body = f"<html>\r\n<head><title>{status} {reason}</title></head>\r\n</html>\r\n".encode()
        told.append(("Content-Type", "text/html"))
    told.append(("Content-Length", str(len(body))))
    if close:
        told.append(("Connection", "close"))
    writer.write(http1.write_head(f"HTTP/1.1 {status} {reason}", told) + (b"" if bare else body))
    await writer.drain()
    return not close
