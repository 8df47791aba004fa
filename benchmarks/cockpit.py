"""What a look at rollouts costs with 100,000 on record or 1,000 running, and how soon the command starts."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from moto import mock_aws

from benchmarks.report import ROOT, Section, say, table
from headgate import keys
from headgate.aws.dynamodb import to_item
from headgate.history.store import History
from headgate_cli.dashboard.board import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES, QUICK_SIZES = (1_000, 10_000, 100_000), (1_000, 4_000)
"""Other rollouts on record."""

GROWTH_LIMIT = 1.05
"""Times of requests and bytes at the smallest size that the largest may take. Ids and times differ in length."""

START_LIMIT = 2.5
"""Times that the start of the command may take of the start of Python with click."""

RUNNING, QUICK_RUNNING = (250, 1_000), (250, 400)
"""Rollouts that run while the dashboard is open: more than it reads, which is two pages of those that it shows."""

STATUSES = ("succeeded", "succeeded", "succeeded", "rolled-back", "refused", "stopped")
TARGETS = 200
TARGET = "lambda-alias/checkout/live"
PAGE = 20
NEWEST = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Reading(NamedTuple):
    """What a look has read from DynamoDB."""

    requests: int
    bytes: int
    rows: int


def measure(quick: bool) -> Section:
    """Look at rollouts with more and more others on record, and start the command."""
    sizes = QUICK_SIZES if quick else SIZES
    found: dict[str, list[Reading]] = {}
    with _table() as (client, name):
        there = 0
        for size in sizes:
            _fill(client, name, there, size)
            there = size
            say(f"  {size:,} rollouts on record")
            for what, reading in _readings(client, name):
                found.setdefault(what, []).append(reading)
    running = QUICK_RUNNING if quick else RUNNING
    refreshes = [_refreshes(number) for number in running]
    starts = _starts(3 if quick else 15)
    faults = [
        f"{what} reads {_growth(readings):.2f} times as much with {sizes[-1]:,} rollouts as with {sizes[0]:,}; at most "
        f"{GROWTH_LIMIT}"
        for what, readings in found.items()
        if _growth(readings) > GROWTH_LIMIT
    ]
    if (growth := _growth([each.reading for each in refreshes])) > GROWTH_LIMIT:
        faults.append(
            f"a refresh reads {growth:.2f} times as much with {running[-1]:,} running; at most {GROWTH_LIMIT}"
        )
    if starts.ratio > START_LIMIT:
        faults.append(f"the command starts in {starts.ratio:.2f} times the time of click; at most {START_LIMIT}")
    return Section(
        "\n\n".join([*_paragraphs(sizes, found), _of_dashboard(running, refreshes), _of_starts(starts)]), faults
    )


def _growth(readings: list[Reading]) -> float:
    return max(
        readings[-1].requests / max(1, readings[0].requests),
        readings[-1].bytes / max(1, readings[0].bytes),
    )


def _readings(client: Any, name: str) -> Iterator[tuple[str, Reading]]:
    history = History(client, name)
    since = _iso(NEWEST - timedelta(days=7))
    looks: dict[str, Callable[[], int]] = {
        f"`headgate list`, {PAGE} rows": lambda: len(history.rollouts(limit=PAGE).rollouts),
        "`headgate list --state rolled-back`": lambda: len(
            history.rollouts(states=["rolled-back"], limit=PAGE).rollouts
        ),
        "`headgate list --since 7d`": lambda: len(history.rollouts(since=since, limit=PAGE).rollouts),
        "`headgate history TARGET`": lambda: len(history.rollouts(target=TARGET, limit=PAGE).rollouts),
        "`headgate status ID`": lambda: 1 if history.rollout("checkout-0") else 0,
    }
    for what, look in looks.items():
        yield what, _read(client, look)


def _read(client: Any, look: Callable[[], int]) -> Reading:
    total: Counter[str] = Counter()

    def note(http_response: Any, **_: Any) -> None:
        total.update(requests=1, bytes=len(http_response.content))

    client.meta.events.register("after-call.dynamodb", note)
    try:
        rows = look()
    finally:
        client.meta.events.unregister("after-call.dynamodb", note)
    return Reading(total["requests"], total["bytes"], rows)


@contextmanager
def _table() -> Iterator[tuple[Any, str]]:
    """A table like the template's, in this process."""
    settings = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(settings)
    with mock_aws():
        client = boto3.client("dynamodb", config=Config(max_pool_connections=16))
        client.create_table(TableName="headgate", BillingMode="PAY_PER_REQUEST", **_definition())
        yield client, "headgate"


def _definition() -> dict[str, Any]:
    from cfnlint.decode import cfn_yaml

    template = cfn_yaml.load(str(ROOT / "template.yaml"))
    properties = json.loads(json.dumps(template["Resources"]["Table"]["Properties"]))
    return {name: properties[name] for name in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")}


def _fill(client: Any, name: str, first: int, last: int) -> None:
    """Put rollouts on record, each an hour older than the one before; one in ten is of the same target."""
    batch: list[dict[str, Any]] = []
    for number in range(first, last):
        batch += [{"PutRequest": {"Item": to_item(item)}} for item in _items(number)]
        if len(batch) >= 24 or number == last - 1:
            client.batch_write_item(RequestItems={name: batch})
            batch = []


def _items(number: int) -> Iterator[dict[str, Any]]:
    at = _iso(NEWEST - timedelta(minutes=number))
    # The one of the target that is looked at are few, and always the same.
    target = TARGET if number < 50 else f"lambda-alias/service-{number % TARGETS}/live"
    rollout_id = f"checkout-{number}"
    yield {
        "pk": keys.rollout_pk(rollout_id),
        "sk": keys.ROLLOUT_SK,
        "status": STATUSES[number % len(STATUSES)],
        "targetKey": target,
        "createdAt": at,
        "startedAt": at,
        "endedAt": at,
        "stable": "7",
        "candidate": "8",
        "reason": "every step was good",
    }
    yield {"pk": keys.target_pk(target), "sk": keys.past_sk(at, rollout_id), "rolloutId": rollout_id}


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Refresh(NamedTuple):
    """What a refresh of the dashboard reads from DynamoDB, and what the page gets."""

    reading: Reading
    page_bytes: int


def _refreshes(number: int) -> Refresh:
    """Refresh a dashboard while this many rollouts run. The first one also counts them, as one in ten does."""
    with _table() as (client, name):
        batch = [{"PutRequest": {"Item": to_item(item)}} for n in range(number) for item in _running(n)]
        for start in range(0, len(batch), 25):
            client.batch_write_item(RequestItems={name: batch[start : start + 25]})
        board, shown = Board(History(client, name)), {}

        def refresh() -> int:
            shown.update(board.read())
            return len(shown["rollouts"])

        refresh()
        reading = _read(client, refresh)
    return Refresh(reading, len(json.dumps(shown).encode()))


def _running(number: int) -> Iterator[dict[str, Any]]:
    """A rollout in the bake of its second step, with its counts."""
    rollout_id, at = f"checkout-{number:04d}", _iso(NEWEST - timedelta(seconds=number))
    steps = [{"weight": weight, "bakeSeconds": 600} for weight in (5, 25, 50)]
    target = {"kind": "lambda-alias", "function": f"service-{number}", "alias": "live"}
    plan = {
        "rolloutId": rollout_id,
        "target": target,
        "candidate": {"version": "8"},
        "steps": steps,
        "guards": {"errors": {}, "evidence": "telemetry"},
        "hooks": {},
        "driver": "arn:aws:lambda:us-east-1:123456789012:function:headgate-lambda-alias-driver",
    }
    record = {
        "pk": keys.rollout_pk(rollout_id),
        "sk": keys.ROLLOUT_SK,
        "status": "running",
        "phase": "baking",
        "step": 1,
        "waitsAt": keys.step_key(1, 0),
        "targetKey": f"lambda-alias/service-{number}/live",
        "createdAt": at,
        "startedAt": at,
        "stable": "7",
        "candidate": "8",
        "request": json.dumps({"id": rollout_id, "target": target, "strategy": {"steps": steps}}),
        "plan": json.dumps(plan),
        "state": {"stable": "7", "candidate": "8", "weight": 25, "shiftedAt": 1},
        "signals": {},
        "execution": f"arn:aws:states:us-east-1:123456789012:execution:headgate-rollout:{rollout_id}",
    }
    ledger = {"pk": record["pk"], "sk": keys.EVIDENCE_SK, "candidate": "8", "stable": "7", "slowMs": 0}
    ledger |= {"byTelemetry": True, "since_0": 1, "since_1": 2, "judged": ["errors"]}
    for arm, requests in (("candidate", 1_000), ("stable", 3_000)):
        ledger |= {f"errors_1_{arm}_requests": requests, f"errors_1_{arm}_failures": 2}
    yield record
    yield ledger
    yield {"pk": record["pk"], "sk": keys.step_key(1, 0), "step": 1, "bake": 0, "weight": 25, "startedAt": at}


class Starts(NamedTuple):
    """Seconds of processor time of starts, one of each in turn."""

    command: list[float]
    click: list[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.command) / statistics.median(self.click)


def _starts(pairs: int) -> Starts:
    command = [sys.executable, "-m", "headgate_cli", "status", "--help"]
    alone = [sys.executable, "-c", "import click"]
    starts = Starts([], [])
    _start(command), _start(alone)  # Their files are in memory by now.
    for number in range(pairs):
        both = [(starts.command, command), (starts.click, alone)]
        for seconds, one in both if number % 2 else reversed(both):
            seconds.append(_start(one))
    return starts


def _start(command: list[str]) -> float:
    path = os.pathsep.join(str(ROOT / folder) for folder in ("cli", "layers/headgate/python"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": path})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _paragraphs(sizes: tuple[int, ...], found: dict[str, list[Reading]]) -> Iterator[str]:
    yield "## The cockpit"
    yield (
        "Requests to DynamoDB and bytes of its answers, with more and more other rollouts on record (DynamoDB in this "
        f"process, by moto, with the template's table). Neither may grow: at most {GROWTH_LIMIT} times."
    )
    rows = [
        [what, *(f"{reading.requests}, {reading.bytes / 1024:.1f} KiB" for reading in readings), f"{readings[-1].rows}"]
        for what, readings in found.items()
    ]
    yield table(["look", *(f"{size:,} rollouts" for size in sizes), "rows"], rows)


def _of_dashboard(running: tuple[int, ...], refreshes: list[Refresh]) -> str:
    told = [
        f"{refresh.reading.requests} requests and {refresh.reading.bytes / 1024:.0f} KiB with {number:,} running, of "
        f"which {refresh.reading.rows} are shown ({refresh.page_bytes / 1024:.0f} KiB to the page)"
        for number, refresh in zip(running, refreshes, strict=True)
    ]
    return (
        f"A refresh of the dashboard, every 1.5 s for all open pages together, reads {'; '.join(told)}. What is not "
        "shown is counted every 15 s. A test in a browser holds a refresh of the page with 1,000 running rollouts to a "
        "second."
    )


def _of_starts(starts: Starts) -> str:
    return (
        f"`headgate status --help` takes {statistics.median(starts.command) * 1000:.0f} ms of processor time, Python "
        f'with click {statistics.median(starts.click) * 1000:.0f} ms (`python -c "import click"`, medians of '
        f"{len(starts.click)} in turn): {starts.ratio:.2f} times, at most {START_LIMIT}."
    )
