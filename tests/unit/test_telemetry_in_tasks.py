"""The telemetry client in the containers of an ECS task: it knows its task, and a thread sends what it records."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate import telemetry as module
from headgate.analysis.telemetry_counter import parse_record
from headgate.telemetry import MAX_BUFFERED, METADATA_URI, Telemetry
from tests.builders import ROOT
from tests.fakes.services import FakeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASK = {
    "Cluster": "arn:aws:ecs:eu-central-1:123456789012:cluster/prod",
    "ServiceName": "shop",
    "Family": "shop-api",
    "Revision": "7",
    "TaskARN": "arn:aws:ecs:eu-central-1:123456789012:task/prod/0123456789abcdef0123456789abcdef",
}
SOON = 10.0
"""Seconds within which a thread has done its work, even on a busy machine."""


class Endpoint:
    """The metadata endpoint of a task."""

    def __init__(self) -> None:
        self.task: dict[str, Any] = dict(TASK)
        self.status = 200
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked.append(self.path)
                endpoint.may_answer.wait(SOON)
                body = json.dumps(endpoint.task).encode()
                self.send_response(endpoint.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}/v4/0123"

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    served = Endpoint()
    monkeypatch.setenv(METADATA_URI, served.uri)
    yield served
    served.close()


@pytest.fixture(scope="module")
def kinesis(_nobodys_account: None) -> Any:
    return boto3.client("kinesis")


@pytest.fixture
def stream(kinesis: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStream]:
    monkeypatch.setattr(module, "THROTTLED_SECONDS", 0.05)
    monkeypatch.setattr(module, "HOLD_OFF_SECONDS", 0.05)
    fake = FakeStream()
    detach = fake.attach(kinesis)
    yield fake
    for telemetry in list(module._in_background):
        telemetry._buffers.clear()  # Not for the next test, nor for the end of this process.
    detach()


def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds."""
    give_up = time.monotonic() + SOON
    while time.monotonic() < give_up:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("waited in vain")


def sent(stream: FakeStream) -> list[bool]:
    return [ok for record in stream.records for _, ok, *_ in json.loads(record["Data"])["outcomes"]]


def test_a_task_reports_on_its_service_and_its_task_definition(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any
) -> None:
    telemetry = Telemetry("telemetry", kinesis)
    telemetry.record(ok=True, milliseconds=5)
    until(lambda: stream.records)
    telemetry.record(ok=False, milliseconds=7)
    until(lambda: len(sent(stream)) == 2)
    for record in stream.records:
        parsed = parse_record("shard", record["PartitionKey"], "1", record["Data"])
        assert (parsed.target, parsed.revision, parsed.observed) == ("ecs-service/prod/shop", "shop-api:7", False)
    # The metadata of a task never change: they are asked for once.
    assert endpoint.asked == ["/v4/0123/task"]


@pytest.mark.parametrize(
    ("task", "target"),
    [
        ({"Cluster": "prod"}, "ecs-service/prod/shop"),
        ({"ServiceName": "shop-hg-0a1b2c3d"}, "ecs-service/prod/shop"),
        ({"ServiceName": "shop-hg-0a1b2c3"}, "ecs-service/prod/shop-hg-0a1b2c3"),
    ],
    ids=["name of a cluster", "green service", "name of another form"],
)
def test_a_green_service_reports_on_the_service_beside_which_it_runs(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any, task: dict[str, str], target: str
) -> None:
    endpoint.task |= task
    Telemetry("telemetry", kinesis).record(ok=True)
    until(lambda: stream.records)
    assert json.loads(stream.records[0]["Data"])["target"] == target


def test_what_the_client_is_given_counts_and_the_rest_is_read(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any
) -> None:
    # GIVEN an agent that does not tell the service
    del endpoint.task["ServiceName"]
    Telemetry("telemetry", kinesis, target="ecs-service/prod/web").record(ok=True)
    until(lambda: stream.records)
    record = json.loads(stream.records[0]["Data"])
    assert (record["target"], record["revision"]) == ("ecs-service/prod/web", "shop-api:7")


def test_a_task_without_a_service_is_warned_of_with_the_fix(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    del endpoint.task["ServiceName"]
    telemetry = Telemetry("telemetry", kinesis)
    telemetry.record(ok=True)
    warning = until(lambda: caplog.records)[0]
    assert warning.levelno == logging.WARNING
    assert "Telemetry(..., target='ecs-service/<cluster>/<service>')" in str(warning.exc_info)
    assert stream.records == []


def test_metadata_that_cannot_be_read_cost_the_service_nothing_and_no_outcome(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN an endpoint that does not answer, then one that fails
    monkeypatch.setattr(module, "METADATA_SECONDS", 0.05)
    endpoint.may_answer.clear()
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=0.01)
    begun = time.monotonic()
    for _ in range(100):
        telemetry.record(ok=True)
    assert time.monotonic() - begun < 1
    until(lambda: len(endpoint.asked) > 1)
    endpoint.status = 500
    endpoint.may_answer.set()
    before = len(endpoint.asked)
    until(lambda: len(endpoint.asked) > before)
    # WHEN it answers at last, THEN everything is sent once
    endpoint.status = 200
    assert len(until(lambda: len(sent(stream)) >= 100 and sent(stream))) == 100


def test_the_threads_of_a_service_never_wait_for_the_stream(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    senders, put, may_go_on = set(), stream.PutRecord, threading.Event()

    def slow(**given: Any) -> dict[str, Any]:
        senders.add(threading.current_thread().name)
        may_go_on.wait(SOON)
        return put(**given)

    monkeypatch.setattr(stream, "PutRecord", slow)
    telemetry, each = Telemetry("telemetry", kinesis, flush_seconds=0.01), 200

    def serve() -> None:
        for number in range(each):
            telemetry.record(ok=number % 3 > 0)

    serving = [threading.Thread(target=serve) for _ in range(4)]
    for one in serving:
        one.start()
    for one in serving:
        one.join(SOON)
    assert not any(one.is_alive() for one in serving)
    may_go_on.set()
    until(lambda: len(sent(stream)) >= 4 * each)
    assert len(sent(stream)) == 4 * each
    assert senders == {"headgate-telemetry"}
    assert sum(thread.name == "headgate-telemetry" for thread in threading.enumerate()) >= 1


def test_the_first_outcome_and_each_failure_go_out_at_once_and_successes_soon(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any
) -> None:
    patient = Telemetry("telemetry", kinesis, flush_seconds=3_600)
    patient.record(ok=True)
    until(lambda: len(sent(stream)) == 1)
    patient.record(ok=True)
    patient.record(ok=False)
    assert until(lambda: len(sent(stream)) == 3 and sent(stream)) == [True, True, False]
    # AND the last success needs no next request, as it does in a frozen environment
    stream.records.clear()
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=0.05)
    for _ in range(2):
        telemetry.record(ok=True)
        time.sleep(0.01)
    until(lambda: len(sent(stream)) == 2)


def test_many_successes_in_a_second_are_all_sent(endpoint: Endpoint, stream: FakeStream, kinesis: Any) -> None:
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=3_600)
    telemetry.record(ok=True)
    until(lambda: sent(stream))
    for number in range(1, 5):
        for _ in range(MAX_BUFFERED // 2):
            telemetry.record(ok=True)
        # The buffer is half full, and is sent although the next flush is an hour away.
        until(lambda number=number: len(sent(stream)) == 1 + number * MAX_BUFFERED // 2)  # type: ignore[misc]


def test_what_the_stream_throttles_goes_out_later_by_itself(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any
) -> None:
    stream.down = True
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=0.01)
    telemetry.record(ok=False)
    time.sleep(0.1)
    assert stream.records == []
    stream.down = False
    assert until(lambda: sent(stream)) == [False]


def test_flush_sends_what_waits(endpoint: Endpoint, stream: FakeStream, kinesis: Any) -> None:
    telemetry = Telemetry("telemetry", kinesis, flush_seconds=3_600)
    telemetry.record(ok=True)
    until(lambda: stream.records)
    telemetry.record(ok=True)
    telemetry.flush()
    assert sent(stream) == [True, True]
    telemetry.flush()
    assert len(stream.records) == 2
    Telemetry("").flush()


def test_flush_never_raises(
    endpoint: Endpoint, stream: FakeStream, kinesis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stream.down, stream.error = True, "InternalFailure"
    telemetry = Telemetry("telemetry", kinesis, background=False)
    telemetry.record(ok=True)
    telemetry.flush()
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert stream.records == []


def test_without_a_task_nothing_happens_in_the_background(
    stream: FakeStream, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(METADATA_URI, raising=False)
    telemetry = Telemetry("telemetry", kinesis, target="lambda-alias/orders/live", revision="7")
    telemetry.record(ok=True)
    assert sent(stream) == [True]
    assert telemetry._sender is None


def test_long_names_fit_into_a_partition_key(endpoint: Endpoint, stream: FakeStream, kinesis: Any) -> None:
    endpoint.task |= {"Cluster": "c" * 255, "ServiceName": "s" * 255}
    Telemetry("telemetry", kinesis).record(ok=True)
    (record,) = until(lambda: list(stream.records))
    assert len(record["PartitionKey"]) == 256
    parsed = parse_record("shard", record["PartitionKey"], "1", record["Data"])
    assert parsed.target == f"ecs-service/{'c' * 255}/{'s' * 255}"


PROCESS = """
import json, os, sys
sys.path.insert(0, {path!r})
from headgate.telemetry import Telemetry

class Kinesis:
    class exceptions:
        class ProvisionedThroughputExceededException(Exception):
            pass
    def put_record(self, *, Data, **_):
        outcomes = json.loads(Data)["outcomes"]
        os.write(1, f"{{os.getpid() == PARENT}} {{len(outcomes)}}\\n".encode())

PARENT = os.getpid()
telemetry = Telemetry("telemetry", Kinesis(), flush_seconds=3600, target="ecs-service/prod/shop", revision="shop:7",
                      background=True)
{body}
"""


def run(body: str) -> list[str]:
    source = PROCESS.format(path=str(ROOT / "layers/headgate/python"), body=body)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.split("\n"))[1:]


def test_a_process_that_ends_sends_what_waits() -> None:
    lines = run("for _ in range(5): telemetry.record(ok=True)")
    assert sum(int(line.split()[1]) for line in lines) == 5


def test_a_forked_worker_sends_its_own_outcomes_and_not_those_of_its_parent() -> None:
    # GIVEN a server that has recorded something before it forks, as with a preloaded application
    body = """
telemetry.flush()
for _ in range(3): telemetry.record(ok=True)
telemetry.flush()
for _ in range(3): telemetry.record(ok=True)
if os.fork() == 0:
    for _ in range(4): telemetry.record(ok=True)
    sys.exit()
os.wait()
"""
    totals = {"True": 0, "False": 0}
    for line in run(body):
        of_parent, count = line.split()
        totals[of_parent] += int(count)
    assert totals == {"True": 6, "False": 4}
