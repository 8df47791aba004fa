"""A proxy on loopback between the functions and DynamoDB that notes every request, and what AWS would charge for it.

Units are AWS's (https://aws.amazon.com/dynamodb/pricing/on-demand/): a write counts 1 per KB begun, a consistent read 1
and any other one half per 4 KB begun, both twice in a transaction. An item's size is the one that it has at the end,
which is the most it had; a write to an item of an index counts once more for it. So this is an upper bound.
"""

from __future__ import annotations

import http.client
import json
import math
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlparse

if TYPE_CHECKING:
    from types import TracebackType

WRITES = {"PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key"}
IN_INDEX = ("LOCK", "ROLLOUT", "JOB")
"""Sort keys of items that an index of the table has."""
IN_TRANSACTION = {"Put": "Item", "Update": "Key", "Delete": "Key", "ConditionCheck": "Key"}

Key = tuple[str, str]
Item = dict[str, Any]


class Units(NamedTuple):
    """What a number of requests came to."""

    writes: float
    reads: float


class Call(NamedTuple):
    """One request to DynamoDB."""

    operation: str
    body: dict[str, Any]
    answer: dict[str, Any]


class DynamodbMeter:
    """Listens while it is entered."""

    def __init__(self, endpoint_url: str) -> None:
        self._calls: list[Call] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(urlparse(endpoint_url).netloc, self._calls))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint_url(self) -> str:
        """Where the functions must send their requests."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def take(self) -> list[Call]:
        """The requests since the last time."""
        taken = self._calls[:]
        del self._calls[: len(taken)]
        return taken


def units(calls: list[Call], items: list[Item]) -> Units:
    """What AWS would charge for these requests; ``items`` is what the table holds at the end."""
    sizes = {_key(item): _size(item) for item in items}
    total: Counter[str] = Counter()
    for call in calls:
        total.update(_units(call, sizes))
    return Units(total["writes"], total["reads"])


def _units(call: Call, sizes: dict[Key, int]) -> dict[str, Any]:
    operation, body, answer = call
    if operation in WRITES:
        return {"writes": _write(body[WRITES[operation]], sizes)}
    if operation == "TransactWriteItems":
        changes = [(kind, change) for entry in body["TransactItems"] for kind, change in entry.items()]
        return {"writes": sum(2 * _write(change[IN_TRANSACTION[kind]], sizes) for kind, change in changes)}
    if operation in ("GetItem", "Query", "Scan"):
        found = answer.get("Items", [answer.get("Item", {})])
        blocks = max(1, math.ceil(sum(map(_size, found)) / 4096))
        return {"reads": blocks if body.get("ConsistentRead") else blocks / 2}
    if operation in ("TransactGetItems", "BatchGetItem"):
        return {"reads": sum(2 * max(1, math.ceil(_size(one.get("Item", {})) / 4096)) for one in answer["Responses"])}
    raise RuntimeError(f"the meter does not know what {operation} costs")


def _write(item_or_key: Item, sizes: dict[Key, int]) -> int:
    key = _key(item_or_key)
    kilobytes = max(1, math.ceil(max(_size(item_or_key), sizes.get(key, 0)) / 1024))
    return kilobytes + 1 if key[1] in IN_INDEX else kilobytes


def _key(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _size(item: Item) -> int:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html, roughly."""
    return sum(len(name) + _size_of_value(value) for name, value in item.items())


def _size_of_value(value: dict[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "M":
            return 3 + _size(content) + len(content)
        case "L":
            return 3 + sum(_size_of_value(one) + 1 for one in content)
        case "SS" | "NS" | "BS":
            return sum(len(str(one)) for one in content)
        case "BOOL" | "NULL":
            return 1
        case "N":
            return len(content) // 2 + 2
    return len(str(content).encode())


def _handler(upstream: str, calls: list[Call]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            connection = http.client.HTTPConnection(upstream, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request("POST", self.path, sent, headers)
            response = connection.getresponse()
            received = response.read()
            connection.close()
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            calls.append(Call(operation, json.loads(sent), json.loads(received or b"{}")))
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(received)))
            self.end_headers()
            self.wfile.write(received)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
            """Say nothing."""

    return Handler
