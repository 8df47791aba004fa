"""The data plane of the embedded AWS's load balancers, with real connections on loopback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from emulator.gaps.elb import http1, proxy, routing
from emulator.gaps.elb.proxy import Outcome, Proxy
from emulator.gaps.elb.routing import FixedResponse, Forward, Group, Listener, Rule, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GROUP = "arn:group/blue/1111"
OTHER = "arn:group/green/2222"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"


class Bench:
    """A proxy with one listener, and targets that tests script."""

    def __init__(self, **listener: Any) -> None:
        self.proxy = Proxy()
        self.outcomes: list[Outcome] = []
        self.proxy.tell = self.outcomes.append
        self.targets: dict[str, list[Target]] = {GROUP: []}
        self.proxy.targets = lambda group: self.targets.get(group, ())
        self.servers: list[asyncio.Server] = []
        self.listener = listener
        self.put(Forward((Group(GROUP, 1),)))

    def put(self, action: routing.Action) -> None:
        """Put an action into force."""
        settings = {"load_balancer": "lb", "address": "127.0.0.1", "port": 8080, **self.listener}
        self.proxy.listeners = {"listener": Listener(rules=(Rule((), action),), **settings)}

    async def target(self, *answers: bytes | None, group: str = GROUP) -> list[bytes]:
        """Add a target that gives these answers, one for each request; it closes at a None, and at the end.

        Returns the requests that it got, with their bodies.
        """
        left, got = list(answers), []

        async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while left and (head := await http1.read_head(reader)):
                framing = http1.request_framing(http1.parse_request(head))
                got.append(head + b"".join([piece async for piece in http1.pieces(reader, framing)]))
                answer = left.pop(0)
                if answer is None:
                    break
                writer.write(answer)
            writer.close()

        self.targets.setdefault(group, []).append(await self.listen(answering))
        return got

    async def listen(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Target:
        """Listen on a free port."""
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=http1.HEAD_BYTES)
        self.servers.append(server)
        return Target("127.0.0.1", server.sockets[0].getsockname()[1])

    async def client(self) -> Client:
        """A client of the listener."""
        place = await self.listen(lambda reader, writer: self.proxy.serve("listener", reader, writer))
        return Client(*await asyncio.open_connection(*place))


class Client:
    """A connection to the load balancer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, message: bytes = GET, method: str = "GET") -> tuple[http1.Response, bytes]:
        """Send a request; returns the response and its body."""
        self.writer.write(message)
        response = http1.parse_response(await http1.read_head(self.reader))
        framing = http1.response_framing(response, method)
        return response, b"".join([piece async for piece in http1.pieces(self.reader, framing)])

    async def status(self, message: bytes = GET) -> int:
        """Send a request; returns the status."""
        return (await self.ask(message))[0].status


def run(work: Callable[[Bench], Awaitable[Any]], **listener: Any) -> list[Outcome]:
    """Run a test's work; returns what became of its requests."""

    async def all_of_it() -> list[Outcome]:
        bench = Bench(**listener)
        try:
            async with asyncio.timeout(10):
                await work(bench)
        finally:
            for server in bench.servers:
                server.close()
        return bench.outcomes

    return asyncio.run(all_of_it())


def test_a_request_reaches_its_target_and_the_answer_its_client() -> None:
    async def work(bench: Bench) -> None:
        got = await bench.target(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\r\nok")
        client = await bench.client()
        response, body = await client.ask(b"POST /a?b=c HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody")
        assert (response.status, response.reason, body) == (201, "Made", b"ok")
        assert response.headers == [("X-Own", "1"), ("Content-Length", "2")]
        assert got[0].startswith(b"POST /a?b=c HTTP/1.1\r\n")
        assert got[0].endswith(b"\r\n\r\nbody")

    (outcome,) = run(work)
    assert outcome[:3] == ("lb", 201, GROUP)
    assert outcome.seconds is not None
    assert 0 < outcome.seconds < 5


def test_a_target_learns_who_asked() -> None:
    async def work(bench: Bench) -> None:
        got = await bench.target(HELLO)
        client = await bench.client()
        await client.ask(
            b"GET / HTTP/1.1\r\nHost: shop:1234\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: X-A\r\nX-A: 1\r\n\r\n"
        )
        headers = dict(http1.parse_request(got[0]).headers)
        trace = headers.pop("X-Amzn-Trace-Id")
        assert trace.startswith("Root=1-")
        assert headers == {
            "Host": "shop:8080",
            "X-Forwarded-For": "1.2.3.4, 127.0.0.1",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Port": "8080",
        }

    run(work)


def test_the_host_may_be_passed_on_as_it_is() -> None:
    async def work(bench: Bench) -> None:
        got = await bench.target(HELLO)
        await (await bench.client()).ask(b"GET / HTTP/1.1\r\nHost: shop:1234\r\n\r\n")
        assert b"\r\nHost: shop:1234\r\n" in got[0]

    run(work, preserves_host=True)


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("", "Root=new"),
        ("Root=1-a;Sampled=1", "Self=new;Root=1-a;Sampled=1"),
        ("Self=old;Root=1-a", "Self=new;Root=1-a"),
        ("Note=x", "Root=new;Note=x"),
    ],
)
def test_the_trace_of_a_client_is_kept(given: str, passed_on: str) -> None:
    assert proxy.trace_id(given, "new") == passed_on


def test_connections_of_both_sides_are_kept() -> None:
    async def work(bench: Bench) -> None:
        connections = 0

        async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await http1.read_head(reader):
                writer.write(HELLO)

        bench.targets[GROUP] = [await bench.listen(answering)]
        client = await bench.client()
        assert [await client.status() for _ in range(5)] == [200] * 5
        assert connections == 1

    assert [outcome.status for outcome in run(work)] == [200] * 5


def test_targets_of_a_group_take_turns() -> None:
    async def work(bench: Bench) -> None:
        first, second = await bench.target(*[HELLO] * 3), await bench.target(*[HELLO] * 3)
        client = await bench.client()
        for _ in range(6):
            await client.ask()
        assert (len(first), len(second)) == (3, 3)

    run(work)


def test_a_change_of_weights_counts_for_the_next_request_of_an_open_connection() -> None:
    async def work(bench: Bench) -> None:
        blue, green = await bench.target(HELLO), await bench.target(HELLO, group=OTHER)
        client = await bench.client()
        bench.put(Forward((Group(GROUP, 100), Group(OTHER, 0))))
        await client.ask()
        bench.put(Forward((Group(GROUP, 0), Group(OTHER, 100))))
        await client.ask()
        assert (len(blue), len(green)) == (1, 1)

    assert [outcome.group for outcome in run(work)] == [GROUP, OTHER]


def test_a_client_gets_a_cookie_for_its_group_and_stays_there() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(*[HELLO] * 9)
        bench.put(Forward((Group(GROUP, 1), Group(OTHER, 0)), sticky_seconds=60))
        client = await bench.client()
        response, _ = await client.ask()
        assert ("Set-Cookie", "AWSALBTG=1111; Max-Age=60; Path=/") in response.headers
        bench.put(Forward((Group(GROUP, 0), Group(OTHER, 1)), sticky_seconds=60))
        assert await client.status(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: AWSALBTG=1111\r\n\r\n") == 200
        assert await client.status() == 503

    assert [outcome.group for outcome in run(work)] == [GROUP, GROUP, ""]


def test_without_a_target_or_a_weight_the_answer_is_503() -> None:
    async def work(bench: Bench) -> None:
        client = await bench.client()
        response, body = await client.ask()
        assert response.status == 503
        assert ("Server", "awselb/2.0") in response.headers
        assert b"503 Service Temporarily Unavailable" in body
        await bench.target(HELLO)
        bench.put(Forward((Group(GROUP, 0),)))
        assert await client.status() == 503

    assert run(work) == [Outcome("lb", 503), Outcome("lb", 503)]


def test_a_target_that_refuses_connections_is_a_502_and_a_connection_error() -> None:
    async def work(bench: Bench) -> None:
        bench.targets[GROUP] = [Target("127.0.0.1", 1)]
        client = await bench.client()
        assert await client.status() == 502
        response, _ = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HEAD")
        assert response.status == 502
        assert await client.reader.read() == b""

    assert run(work) == [Outcome("lb", 502, GROUP, not_connected=1)] * 2


@pytest.mark.parametrize("answer", [None, b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_a_target_that_answers_nothing_or_nonsense_is_a_502(answer: bytes | None) -> None:
    async def work(bench: Bench) -> None:
        await bench.target(answer)
        assert await (await bench.client()).status() == 502

    assert run(work) == [Outcome("lb", 502, GROUP)]


def test_a_target_that_does_not_answer_in_time_is_a_504() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(b"", HELLO)  # It waits for the next request.
        assert await (await bench.client()).status() == 504

    assert run(work, idle_seconds=0.1) == [Outcome("lb", 504, GROUP)]


def test_a_connection_that_ended_while_it_was_idle_costs_no_request() -> None:
    async def work(bench: Bench) -> None:
        # The second request comes on a connection that ends without an answer.
        got = await bench.target(HELLO, None, HELLO)
        client = await bench.client()
        assert [await client.status() for _ in range(2)] == [200, 200]
        assert len(got) == 3

    assert [outcome.status for outcome in run(work)] == [200, 200]


def test_a_request_that_may_have_had_an_effect_is_not_sent_again() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(HELLO, None, HELLO)
        client = await bench.client()
        assert await client.status() == 200
        assert await client.status(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n") == 502

    run(work)


def test_a_target_that_drains_finishes_its_requests() -> None:
    async def work(bench: Bench) -> None:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await http1.read_head(reader)
            asked.set()
            await may_answer.wait()
            writer.write(HELLO)

        target = await bench.listen(answering)
        bench.targets[GROUP] = [target]
        client = await bench.client()
        answer = asyncio.create_task(client.status())
        await asked.wait()
        bench.targets[GROUP] = []
        bench.proxy.forget((GROUP, target))
        assert await client_status_of_another(bench) == 503
        may_answer.set()
        assert await answer == 200

    run(work)


async def client_status_of_another(bench: Bench) -> int:
    """The status that another client gets."""
    return await (await bench.client()).status()


def test_a_request_in_flight_when_the_deregistration_ends_is_a_502() -> None:
    async def work(bench: Bench) -> None:
        asked = asyncio.Event()

        async def answering(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await http1.read_head(reader)
            asked.set()
            await reader.read()

        target = await bench.listen(answering)
        bench.targets[GROUP] = [target]
        answer = asyncio.create_task((await bench.client()).status())
        await asked.wait()
        bench.targets[GROUP] = []
        bench.proxy.cut((GROUP, target))
        assert await answer == 502

    assert run(work) == [Outcome("lb", 502, GROUP)]


def test_bodies_in_chunks_go_both_ways() -> None:
    async def work(bench: Bench) -> None:
        got = await bench.target(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        )
        sent = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        response, body = await (await bench.client()).ask(sent)
        assert body == b"hello"
        assert ("Transfer-Encoding", "chunked") in response.headers
        assert got[0].endswith(b"Content-Length: 3\r\n\r\nabc")

    run(work)


def test_a_body_that_ends_with_the_targets_connection_leaves_the_clients_open() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(b"HTTP/1.0 200 OK\r\n\r\nhello")
        client = await bench.client()
        assert (await client.ask())[1] == b"hello"
        bench.put(FixedResponse(200, body="still here"))
        assert (await client.ask())[1] == b"still here"

    run(work)


def test_a_client_of_http_1_0_gets_the_body_until_the_connection_ends() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        client = await bench.client()
        client.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.reader.read()
        assert answer.endswith(b"\r\nConnection: close\r\n\r\nhello")
        assert b"Transfer-Encoding" not in answer

    run(work)


def test_a_response_that_breaks_off_is_not_made_whole() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        with pytest.raises((http1.MalformedError, OSError)):
            await (await bench.client()).ask()

    run(work)


def test_a_head_request_gets_the_length_without_the_body() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HELLO)
        client = await bench.client()
        response, body = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")
        assert (http1.header(response.headers, "content-length"), body) == ("5", b"")
        assert (await client.ask())[1] == b"hello"

    run(work)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    async def work(bench: Bench) -> None:
        await bench.target(HELLO)
        client = await bench.client()
        client.writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await http1.read_head(client.reader)).startswith(b"HTTP/1.1 100 ")
        assert await client.status(b"abc") == 200

    run(work)


@pytest.mark.parametrize(
    "message", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_a_malformed_request_is_a_400_and_closes_the_connection(message: bytes) -> None:
    async def work(bench: Bench) -> None:
        got = await bench.target(HELLO)
        client = await bench.client()
        assert await client.status(message) == 400
        assert await client.reader.read() == b""
        assert got == []

    assert run(work) == [Outcome("lb", 400, action="")]


def test_actions_without_a_target_are_answered() -> None:
    async def work(bench: Bench) -> None:
        client = await bench.client()
        bench.put(FixedResponse(404, "application/json", "{}"))
        response, body = await client.ask()
        assert (response.status, http1.header(response.headers, "content-type"), body) == (
            404,
            "application/json",
            b"{}",
        )
        moved = routing.action_of({"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_302", "Path": "/new"}})
        assert moved is not None
        bench.put(moved)
        response, _ = await client.ask()
        assert (response.status, http1.header(response.headers, "location")) == (302, "http://shop.example:8080/new")

    assert [outcome.action for outcome in run(work)] == ["fixed-response", "redirect"]


def test_a_listener_that_is_deleted_serves_no_more() -> None:
    async def work(bench: Bench) -> None:
        client = await bench.client()
        bench.proxy.listeners = {}
        client.writer.write(GET)
        with pytest.raises((http1.MalformedError, OSError)):
            await client.status()

    assert run(work) == []


def test_a_client_that_is_idle_for_too_long_is_disconnected() -> None:
    async def work(bench: Bench) -> None:
        client = await bench.client()
        assert await client.reader.read() == b""

    assert run(work, idle_seconds=0.05) == []
