"""What taking requests in costs, next to handlers that do less, whether any is lost or runs twice, and a burst."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import random
import statistics
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import boto3
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from pydantic import BaseModel

from benchmarks.counting import Canned
from benchmarks.init import SETTINGS
from benchmarks.report import ROOT, Section, say, table
from benchmarks.world import World, until
from emulator.server import EmbeddedAws
from headgate.aws.arns import execution_arn, execution_name
from headgate.aws.observability import logger
from headgate.rollouts.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

BATCH = 10
"""template.yaml: BatchSize."""
SIZES = (1, 10, 100)
"""Messages in a batch; a standard queue's batch may have 10,000 at most."""
REDELIVERED = 0.05
BUSY = 0.5
"""Share of the requests whose target somebody else has, so that they wait in line."""
GROWTH_LIMIT = 1.2
LATENCY = 0.005
COLLECT_EVERY = 500
"""Batches between two collections of garbage, which no batch is to pay for."""
BURST, QUICK_BURST = 100, 20
CONTROL_PLANE_RATE, START_RATE = 15, 2
"""Requests a second that Lambda's control plane takes, and executions a second that may be started."""
BURST_LIMIT = 1.5
"""Times that the last start of a burst may take of what the rate alone makes it take."""
LIKE: dict[str, Any] = json.loads((ROOT / "events" / "functions" / "intake.json").read_text())["Records"][0]
EVENT = json.loads(LIKE["body"])


class Cost(NamedTuple):
    """Processor time and requests to AWS for one message."""

    seconds: float
    requests: float


class Run(NamedTuple):
    """What became of many messages, some of which came twice."""

    messages: int
    deliveries: int
    seconds: float
    """Processor time of the handler, without the services' own."""
    lost: int
    twice: int
    """Requests that were given a lock or a place in line, or an execution, more than once."""


class Burst(NamedTuple):
    """What became of many requests at once: seconds from the sending of the first."""

    stored: float
    begun: float
    empty: float
    """Until no message was left in the queue."""
    dead_letters: int


def measure(quick: bool) -> Section:
    """In this process: the handler, and services that answer at once. Then a burst, on an embedded AWS of its own."""
    with _in_silence():
        costs = _costs(2 if quick else 9, 200 if quick else 1000)
        told = [f"{size}: {costs['Headgate', size].seconds * 1e6:.0f} µs" for size in SIZES]
        say(f"  a message, by size of batch: {', '.join(told)}")
        run = _many(5_000 if quick else 100_000)
    say(f"  {run.messages:,} messages in {run.seconds:.0f} s, {run.lost} lost, {run.twice} twice")
    requests = QUICK_BURST if quick else BURST
    bursts = {"Headgate": _burst(requests, telling=True)}
    if not quick:  # It takes minutes.
        bursts["without telling the queue"] = _burst(requests, telling=False)
    faults = []
    if (last := bursts["Headgate"]).begun > BURST_LIMIT * requests / START_RATE or last.dead_letters:
        faults.append(
            f"the last of a burst of {requests} begins after {last.begun:.0f} s; {last.dead_letters} given up"
        )
    if run.lost or run.twice:
        faults.append(f"of {run.messages} requests {run.lost} are lost and {run.twice} were taken in twice")
    if (growth := _growth(costs)) > GROWTH_LIMIT:
        faults.append(f"a message in a batch of {SIZES[-1]} takes {growth:.2f} times what it takes alone")
    return Section(
        "\n\n".join(["## Intake", *_told(costs), *_told_of_many(run), *_told_of_bursts(requests, bursts)]), faults
    )


def _growth(costs: dict[tuple[str, int], Cost]) -> float:
    """How much longer a message takes in the largest batch than alone."""
    return costs["Headgate", SIZES[-1]].seconds / costs["Headgate", SIZES[0]].seconds


# The consumers


class Services(Canned):
    """DynamoDB and Step Functions, answering in this process once a request is ready to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[str] = []

    def _StartExecution(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.started.append(body["name"])
        return {"executionArn": body["stateMachineArn"], "startDate": 0.0}


class Consumer:
    """A handler, and the services that it calls."""

    def __init__(self, handler: Callable[[Any, Any], Any], services: Services) -> None:
        self._handler, self.services = handler, services
        self._context = SimpleNamespace(
            function_name="intake",
            memory_limit_in_mb=512,
            invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:intake",
            aws_request_id="bench",
            get_remaining_time_in_millis=lambda: 30_000,
        )

    def take(self, batch: list[dict[str, Any]]) -> float:
        """Hand a batch to the handler; answers the processor time that it took, without the services' own."""
        answering, begun = self.services.seconds, time.process_time()
        answer = self._handler({"Records": batch}, self._context)
        took = time.process_time() - begun - (self.services.seconds - answering)
        if answer != {"batchItemFailures": []}:
            raise RuntimeError(f"a batch was not taken in: {answer}")
        return took


@contextmanager
def _shipped() -> Iterator[Consumer]:
    """functions/intake as it is deployed."""
    with patch.dict(os.environ, SETTINGS):
        spec = importlib.util.spec_from_file_location("intake", ROOT / "functions" / "intake" / "app.py")
        if spec is None or spec.loader is None:
            raise RuntimeError("functions/intake is gone")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        services = Services()
        for client in map(module.app.client, ("dynamodb", "stepfunctions")):
            client.meta.events.register("before-send", services)
        yield Consumer(module.handler, services)


class Target(BaseModel):
    """As whoever starts from Powertools' documentation would model it."""

    kind: str
    function: str
    alias: str


class Detail(BaseModel):
    """Ditto, the detail of a request."""

    id: str
    target: Target
    candidate: dict[str, Any] = {}
    strategy: Any = None
    guards: dict[str, Any] = {}
    hooks: dict[str, Any] = {}


class Event(BaseModel):
    """Ditto, the event around it."""

    id: str
    detail: Detail


@contextmanager
def _plain(*, store: bool) -> Iterator[Consumer]:
    """Powertools' batch utility and a model; with ``store``, a conditional PutItem and StartExecution besides."""
    processor, services = BatchProcessor(event_type=EventType.SQS), Services()
    with patch.dict(os.environ, SETTINGS):
        dynamodb, machines = boto3.client("dynamodb"), boto3.client("stepfunctions")
    for client in (dynamodb, machines):
        client.meta.events.register("before-send", services)

    def take(record: SQSRecord) -> None:
        detail = Event.model_validate_json(record.body).detail
        if not store:
            return
        dynamodb.put_item(
            TableName="table",
            Item={"pk": {"S": detail.id}, "sk": {"S": "REQUEST"}, "request": {"S": detail.model_dump_json()}},
            ConditionExpression="attribute_not_exists(pk)",
        )
        machines.start_execution(
            stateMachineArn=SETTINGS["ROLLOUT_MACHINE"], name=execution_name(detail.id), input=detail.model_dump_json()
        )

    def handler(event: Any, context: Any) -> Any:
        return process_partial_response(event=event, record_handler=take, processor=processor, context=context)

    yield Consumer(handler, services)


@contextmanager
def _in_silence() -> Iterator[None]:
    """What the handler logs costs what it costs, and goes nowhere."""
    stream: Any = logger.registered_handler
    with Path(os.devnull).open("w") as nowhere:
        before = stream.setStream(nowhere)
        try:
            yield
        finally:
            stream.setStream(before)


# What they are given


def _message(number: int, *, busy: bool, times: int = 1) -> dict[str, Any]:
    """A request as the bus puts it into the queue: for a target of its own, or for one that all ask for."""
    detail = EVENT["detail"] | {
        "id": f"bench-{number}",
        "target": {"kind": "lambda-alias", "function": "popular" if busy else f"service-{number}", "alias": "live"},
    }
    return LIKE | {
        "messageId": f"{number:08}-4c5b-4b0e-9d0a-000000000000",
        "body": json.dumps(EVENT | {"id": f"event-{number}", "detail": detail}),
        "attributes": LIKE["attributes"] | {"ApproximateReceiveCount": str(times)},
    }


def _costs(runs: int, messages: int) -> dict[tuple[str, int], Cost]:
    """A message's median cost, for each consumer and size of batch; they take turns."""
    found: dict[tuple[str, int], list[float]] = {}
    requests: dict[tuple[str, int], float] = {}
    number = 0
    with _shipped() as shipped, _plain(store=True) as naive, _plain(store=False) as plain:
        consumers = {"Headgate": shipped, "store and start": naive, "parse": plain}
        for consumer in consumers.values():
            consumer.take([_message(-1, busy=False)])  # Also makes clients and models.
        for _ in range(runs):
            for size in SIZES:
                batches = []
                for _ in range(messages // size):
                    batches.append([_message(number + n, busy=False) for n in range(size)])
                    number += size
                for name, consumer in consumers.items():
                    consumer.services.items.clear()  # A table that grows would make whoever comes later pay more.
                    gc.collect()
                    before = sum(consumer.services.calls.values())
                    found.setdefault((name, size), []).append(sum(map(consumer.take, batches)) / messages)
                    requests[name, size] = (sum(consumer.services.calls.values()) - before) / messages
    return {key: Cost(statistics.median(seconds), requests[key]) for key, seconds in found.items()}


def _many(messages: int) -> Run:
    """So many requests in batches as they are deployed, every twentieth delivered again some batches later."""
    chance = random.Random(1)
    deliveries: list[tuple[float, int, int]] = [(float(number), number, 1) for number in range(messages)]
    deliveries += [(n + chance.uniform(1, 1000), n, 2) for n in range(messages) if chance.random() < REDELIVERED]
    busy = {number for number in range(messages) if chance.random() < BUSY}
    order = sorted(deliveries)
    seconds = 0.0
    gc.disable()  # A collection walks all that the table holds, however little a batch has made.
    try:
        with _shipped() as consumer:
            for start in range(0, len(order), BATCH):
                batch = [_message(n, busy=n in busy, times=times) for _, n, times in order[start : start + BATCH]]
                seconds += consumer.take(batch)
                if start % (BATCH * COLLECT_EVERY) == 0:
                    gc.collect()
            return _outcome(consumer.services, messages, len(order), len(busy), seconds)
    finally:
        gc.enable()


def _outcome(services: Services, messages: int, deliveries: int, busy: int, seconds: float) -> Run:
    """Every request has one record, and a lock of its own, the popular target's or a place in line for that one."""
    records = {pk for pk, sk in services.items if sk == "ROLLOUT"}
    lost = sum(f"ROLLOUT#bench-{number}" not in records for number in range(messages))
    places = [item["rolloutId"]["S"] for (_, sk), item in services.items.items() if sk.startswith("WAIT#")]
    locks = [item for (_, sk), item in services.items.items() if sk == "LOCK"]
    holders = [item["owner"]["S"] for item in locks]
    arrivals = sum(int(item.get("arrivals", {"N": "0"})["N"]) for item in locks)
    again = len(places) - len(set(places)) + len(holders) - len(set(holders)) + arrivals - len(places)
    epochs = sum(int(item["epoch"]["N"]) - 1 for item in locks)
    not_started = {execution_name(holder) for holder in holders} ^ set(services.started)
    unplaced = messages - len(places) - len(holders)
    if len(places) != max(0, busy - 1):
        raise RuntimeError(f"{len(places)} wait in line, and {busy} have asked for the popular target")
    return Run(messages, deliveries, seconds, lost + len(not_started) + max(0, unplaced), again + epochs)


def _burst(requests: int, *, telling: bool) -> Burst:
    """So many requests at once for as many targets that are not there, while few executions may be started.

    Parameters
    ----------
    telling
        Whether Intake can tell its queue when a message is visible again; if not, each waits for the queue's timeout.
    """
    world = World()
    world.aws = EmbeddedAws("--control-plane-rate", str(CONTROL_PLANE_RATE), "--start-execution-rate", str(START_RATE))
    with world:
        if not telling:
            _take_its_queue_away(world)
        queues, url = world.aws.client("sqs"), world.outputs["RequestQueueUrl"]
        ids = [f"burst-{number}" for number in range(requests)]
        sent = time.time()
        for start in range(0, requests, BATCH):
            entries = [{"Id": name, "MessageBody": _wish(name)} for name in ids[start : start + BATCH]]
            queues.send_message_batch(QueueUrl=url, Entries=entries)
        until(lambda: not _left(queues, url), 600, "messages are left in the queue", pause=0.5)
        empty = time.time()
        records = Table(world.table, world.outputs["TableName"])
        arns = [execution_arn(world.outputs["RolloutMachineArn"], execution_name(name)) for name in ids]
        until(lambda: all(_started_at(world, arn) for arn in arns), 120, "executions have not begun", pause=1)
        begun = [_started_at(world, arn) or 0.0 for arn in arns]
        stored = [
            datetime.fromisoformat(record.created_at).timestamp() for name in ids if (record := records.rollout(name))
        ]
        dead = _left(queues, world.outputs["RequestDeadLettersUrl"])
    burst = Burst(max(stored) - sent, max(begun) - sent, empty - sent, dead)
    say(f"  of {requests} at once the last is stored after {burst.stored:.0f} s, begun after {burst.begun:.0f} s")
    return burst


def _wish(name: str) -> str:
    """A request for a target that is not there: its rollout ends as soon as it is planned."""
    return json.dumps({"id": name, "target": {"kind": "lambda-alias", "function": name, "alias": "live"}})


def _take_its_queue_away(world: World) -> None:
    name = world.headgate_functions()["Intake"]
    known = world.functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    world.functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": known | {"REQUESTS": ""}}
    )
    world.functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


def _started_at(world: World, arn: str) -> float | None:
    """When an execution began; None if there is none."""
    with suppress(world.machines.exceptions.ExecutionDoesNotExist):
        return float(world.machines.describe_execution(executionArn=arn)["startDate"].timestamp())
    return None


def _left(queues: Any, url: str) -> int:
    """Messages in a queue, in flight or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = queues.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


# What the page says


def _told(costs: dict[tuple[str, int], Cost]) -> list[str]:
    told = (
        "Processor time for one message of the queue: the handler of `functions/intake`, which reads it, stores the "
        "request with its target's lock and starts the execution, next to two handlers by Powertools' BatchProcessor "
        "and a pydantic model. One only parses the same message; the other also stores it by one conditional PutItem "
        "and starts an execution, but knows no locks, lines, refusals or second messages of one id. Each message asks "
        "for a free target. All use real boto3 clients whose requests are answered in this process; the time for the "
        f"answers is taken off. They take turns; medians. Limit: in a batch of {SIZES[-1]} a message takes at most "
        f"{GROWTH_LIMIT} times what it takes alone."
    )
    rows = []
    for name in ("Headgate", "store and start", "parse"):
        alone, all_sizes = costs[name, SIZES[0]], [costs[name, size] for size in SIZES]
        rows.append(
            [
                name,
                *(f"{cost.seconds * 1e6:,.0f} µs" for cost in all_sizes),
                f"{all_sizes[-1].seconds / alone.seconds:.2f}",
                f"{costs['Headgate', BATCH].seconds / costs[name, BATCH].seconds:.1f}",
                f"{costs[name, BATCH].requests:.1f}",
                f"{1 / (costs[name, BATCH].seconds + LATENCY * costs[name, BATCH].requests):,.0f}",
            ]
        )
    head = ["handler", *(f"batch of {size}" for size in SIZES), "growth", f"Headgate takes, at {BATCH}"]
    last = [f"requests, at {BATCH}", f"messages a second, {LATENCY * 1000:g} ms a request"]
    how = (
        "The last column is computed: as if each request took so much more, in which a handler of one thread does "
        "nothing else. Two such handlers run for each queue; the FIFO queue hands messages out one at a time."
    )
    return [told, table([*head, *last], rows), how]


def _told_of_many(run: Run) -> list[str]:
    told = (
        f"{run.messages:,} requests through the same handler in batches of {BATCH}, half of them for one target, so "
        f"that all but the first wait in its line; {REDELIVERED:.0%} were delivered twice. Limit: each has one record "
        "and one lock or place in line, and whoever holds a lock has one execution."
    )
    rows = [
        [
            f"{run.messages:,}",
            f"{run.deliveries - run.messages:,}",
            f"{run.deliveries / run.seconds:,.0f}",
            str(run.lost),
            str(run.twice),
            "MISSED" if run.lost or run.twice else "held",
        ]
    ]
    return [told, table(["requests", "delivered again", "messages a second", "lost", "taken in twice", "limit"], rows)]


def _told_of_bursts(requests: int, bursts: dict[str, Burst]) -> list[str]:
    told = (
        f"A burst: {requests} requests at once, for as many targets that are not there, on an embedded AWS that takes "
        f"{CONTROL_PLANE_RATE} requests a second for Lambda's control plane and starts {START_RATE} executions a "
        "second. Next to it the same Intake, unable to tell its queue when a message is visible again: what failed, "
        "or was not begun for want of time, waits for the queue's timeout of three minutes, unless the warden's sweep "
        f"starts it. Limit: the last begins within {BURST_LIMIT} times what the rate takes, and none is given up."
    )
    rows = [
        [name, *(f"{seconds:.0f} s" for seconds in burst[:3]), str(burst.dead_letters)]
        for name, burst in bursts.items()
    ]
    return [told, table(["Intake", "last stored", "last begun", "queue empty", "dead letters"], rows)]
