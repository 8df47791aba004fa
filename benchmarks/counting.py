"""How fast telemetry is counted, next to a write per record, and how soon failures that it tells of are rolled back."""

from __future__ import annotations

import base64
import gc
import importlib.util
import itertools
import json
import os
import random
import re
import statistics
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import boto3
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from botocore.awsrequest import AWSResponse
from pydantic import BaseModel

from benchmarks.alarms import quantile
from benchmarks.init import SETTINGS
from benchmarks.report import ROOT, Section, say, table
from benchmarks.world import CANDIDATE, STABLE, until
from headgate.analysis.evidence import JudgeTerms
from headgate.analysis.ledger_store import LedgerStore, column, now_ms
from headgate.analysis.telemetry_counter import UNIT_BITS
from headgate.aws.arns import execution_arn, execution_name
from headgate.aws.dynamodb import to_item
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from headgate.telemetry import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

    from benchmarks.world import World

BATCH = 500
"""template.yaml: BatchSize."""
OUTCOMES = 10
LIMIT = 5
GROWTHS = (1, 2, 4, 8)
MANY, MANY_QUICK = 100_000, 10_000
AGAIN_EVERY = 20
"""Every so many batches one is delivered twice: 5 %."""
GROWTH_LIMIT = 1.2
LOOK_LIMIT = 3.0
METRIC = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "{revision}"}}
ALL_GUARDS = {
    "errors": {},
    "latency": {"thresholdsMs": [10, 20, 40, 80, 160, 320]},
    "custom": [{"name": f"custom {number}", "requests": METRIC, "failures": METRIC} for number in range(8)],
}
LATENCY = 0.005
TARGET = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
TARGET_KEY = "lambda-alias/checkout/live"
SHARE, FAULTY, SLOW = 0.1, 0.01, 0.02
"""Of the candidate, and of either revision's requests."""

BAKE = 3600
BEFORE = 90, 10
"""Good requests of the stable version and the candidate, looked at before the candidate fails."""
FAILURES = 10
POLL_SECONDS = 1.0
"""Lambda polls each shard about once a second
(https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html)."""
GRID = 1000


class Speed(NamedTuple):
    """What counting one batch took: processor time, and requests to DynamoDB."""

    seconds: float
    calls: dict[str, int]

    @property
    def requests(self) -> int:
        return sum(self.calls.values())

    def records(self, latency: float = 0.0) -> float:
        """Records a second, with so many seconds of waiting for each request."""
        return BATCH / (self.seconds + latency * self.requests)


class Growth(NamedTuple):
    """Processor time for so many records, in batches of 500 and as one batch."""

    records: int
    batches: float
    one_batch: float


class Long(NamedTuple):
    """What became of many records, some of which came twice."""

    records: int
    again: int
    seconds: float
    """Processor time."""
    lost: int
    twice: int
    """Outcomes that were not counted, and that were counted more than once."""


def measure(world: World, quick: bool) -> Section:
    """Counting in this process, and rollbacks on the embedded AWS."""
    runs, rollouts = (3, 3) if quick else (20, 15)
    shipped, named, plain = _speeds(runs)
    say(f"  {shipped.records():,.0f} records a second, {plain.records():,.0f} with a write for each")
    grown = _growth(2 if quick else 9)
    say(f"  {' '.join(f'{one.records:,}: {one.batches:.2f} s' for one in grown)}")
    of_all, of_one = _looks(20 if quick else 200)
    say(f"  a look: {of_all * 1000:.1f} ms with all guards, {of_one * 1000:.1f} ms with one")
    many = _many(MANY_QUICK if quick else MANY)
    say(f"  {many.records:,} records in {many.seconds:.1f} s, {many.lost} outcomes lost, {many.twice} counted twice")
    _roll_back(world)  # Functions have started by now.
    seconds = []
    for run in range(rollouts):
        seconds.append(_roll_back(world))
        say(f"  {run + 1} of {rollouts}: {seconds[-1]:.2f} s")
    faults = []
    if (times := shipped.records() / plain.records()) < LIMIT:
        faults.append(f"{times:.1f} times as many records a second as with a write for each")
    if (per_record := _per_record(grown[-1], grown[0])) > GROWTH_LIMIT:
        faults.append(f"{per_record:.2f} times the time for each of {grown[-1].records} records")
    if _held(of_all, of_one) == "MISSED":
        faults.append(f"a look with all guards takes {of_all / of_one:.1f} times as long as with one")
    if many.lost or many.twice:
        faults.append(f"{many.lost} outcomes are lost, {many.twice} were counted twice")
    counting = [*_counting(shipped, named, plain, runs), *_linear(grown), *_looks_told(of_all, of_one), *_long(many)]
    told = [*counting, *_rollbacks(seconds)]
    return Section("\n\n".join(["## Telemetry", *told]), faults)


def _speeds(runs: int) -> tuple[Speed, Speed, Speed]:
    """Headgate, Headgate where every failure names its unit, and a write per record: they take turns."""
    with _shipped() as shipped, _shipped() as named, _plain() as plain:
        consumers = [(shipped, False), (named, True), (plain, False)]
        seconds: list[list[float]] = [[], [], []]
        for run in range(runs + 1):
            for (consumer, units), took in zip(consumers, seconds, strict=True):
                took.append(consumer.count(_batch(BATCH, run * BATCH, units=units)))
        # The first batch of each also makes clients and models.
        speeds = [
            Speed(statistics.median(took[1:]), {name: round(n / (runs + 1)) for name, n in consumer.calls.items()})
            for (consumer, _), took in zip(consumers, seconds, strict=True)
        ]
        if (counted := shipped.counted()) != plain.counted():
            raise RuntimeError(f"Headgate has counted {counted}, a write per record {plain.counted()}")
    return speeds[0], speeds[1], speeds[2]


def _growth(runs: int) -> list[Growth]:
    batches: dict[int, list[float]] = {times: [] for times in GROWTHS}
    one_batch: dict[int, list[float]] = {times: [] for times in GROWTHS}
    sent = itertools.count()
    with _shipped() as consumer:
        consumer.count(_batch(BATCH, next(sent) * BATCH))
        for _ in range(runs):
            for times in GROWTHS:
                took = [consumer.count(_batch(BATCH, next(sent) * BATCH)) for _ in range(times)]
                batches[times].append(sum(took))
                one_batch[times].append(consumer.count(_batch(times * BATCH, next(sent) * BATCH)))
                for _ in range(times - 1):
                    next(sent)
    return [
        Growth(times * BATCH, statistics.median(batches[times]), statistics.median(one_batch[times]))
        for times in GROWTHS
    ]


def _many(records: int) -> Long:
    """So many records in batches as they are deployed; every twentieth batch comes again after the next one."""
    sent, seconds, again = Counter[str](), 0.0, 0
    with _shipped() as consumer:
        before = None
        for number in range(records // BATCH):
            batch = _batch(BATCH, number * BATCH)
            sent.update(_outcomes(batch))
            seconds += consumer.count(batch)
            if before is not None:
                seconds += consumer.count(before)
                again += BATCH
            before = batch if number % AGAIN_EVERY == 0 else None
        counted = consumer.counted()
    differences = [counted[name] - sent[name] for name in ("requests", "failures")]
    lost, twice = (sum(max(0, sign * difference) for difference in differences) for sign in (-1, 1))
    return Long(records, again, seconds, lost, twice)


def _outcomes(batch: dict[str, Any]) -> Counter[str]:
    """Requests and failures that a batch tells of."""
    found: Counter[str] = Counter()
    for record in batch["Records"]:
        outcomes = json.loads(base64.b64decode(record["kinesis"]["data"]))["outcomes"]
        found["requests"] += len(outcomes)
        found["failures"] += sum(not outcome[1] for outcome in outcomes)
    return found


def _per_record(one: Growth, first: Growth) -> float:
    """How much longer each record takes than among the fewest; the worse of both ways."""
    scale = one.records / first.records
    return max(one.batches / first.batches, one.one_batch / first.one_batch) / scale


# The consumers


class Consumer:
    """A handler, and the DynamoDB that it writes to."""

    def __init__(self, handler: Callable[[Any, Any], Any], table: Canned) -> None:
        self._handler = handler
        self._table = table
        self.calls = table.calls
        # As many as it takes to log that an invocation has begun.
        self._context = SimpleNamespace(
            function_name="counter",
            memory_limit_in_mb=512,
            invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:counter",
            aws_request_id="bench",
            get_remaining_time_in_millis=lambda: 60_000,
        )

    def count(self, batch: dict[str, Any]) -> float:
        """Count a batch; answers the processor time that it took, without the table's own."""
        gc.collect()  # What others have left behind is not this batch's to clear away.
        answering, begun = self._table.seconds, time.process_time()
        answer = self._handler(batch, self._context)
        took = time.process_time() - begun - (self._table.seconds - answering)
        if answer != {"batchItemFailures": []}:
            raise RuntimeError(f"a batch was not counted: {answer}")
        return took

    def counted(self) -> Counter[str]:
        """Requests and failures of both revisions, as the table has them."""
        found: Counter[str] = Counter()
        for item in self._table.items.values():
            for name, value in item.items():
                # errors_0_candidate_requests, requests
                if name.startswith("errors_") or name in ("requests", "failures"):
                    found[name.rpartition("_")[2]] += int(value["N"])
        return found


@contextmanager
def _shipped() -> Iterator[Consumer]:
    """functions/counter as it is deployed, and one rollout that runs."""
    with patch.dict(os.environ, SETTINGS):
        spec = importlib.util.spec_from_file_location("counter", ROOT / "functions" / "counter" / "app.py")
        if spec is None or spec.loader is None:
            raise RuntimeError("functions/counter is gone")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        table = Canned()
        table.put(_running())
        module.app.client("dynamodb").meta.events.register("before-send.dynamodb", table)
        yield Consumer(module.handler, table)


def _running() -> list[dict[str, Any]]:
    """What the table holds of a rollout whose first step is on."""
    detail = {
        "id": "bench",
        "target": TARGET,
        "candidate": {"version": CANDIDATE},
        "strategy": {"steps": [{"weight": SHARE * 100, "bakeSeconds": BAKE}]},
        "guards": {"errors": {}, "latency": {"thresholdMs": 250}},
    }
    plan = make_plan(read_request(detail, "unused"), driver="arn:aws:lambda:::function:driver", firing=[])
    of_rollout = {"pk": "ROLLOUT#bench"}
    ledger = {"candidate": CANDIDATE, "stable": STABLE, "since_0": 0, "slowMs": 250, "byTelemetry": True}
    execution = "arn:aws:states:eu-central-1:123456789012:execution:headgate-rollout:bench"
    record = {"status": "running", "phase": "baking", "plan": json.dumps(plan.to_wire()), "signals": {}}
    return [
        {"pk": f"TARGET#{TARGET_KEY}", "sk": "LOCK", "owner": "bench", "epoch": 1},
        {**of_rollout, "sk": "ROLLOUT", "targetKey": TARGET_KEY, "epoch": 1, "execution": execution, **record},
        {**of_rollout, "sk": "EVIDENCE", **ledger},
    ]


class Told(BaseModel):
    """A record of the stream, as whoever starts from Powertools' documentation would model it."""

    target: str
    revision: str
    instance: str
    outcomes: list[tuple[int, bool, float | None]]


@contextmanager
def _plain() -> Iterator[Consumer]:
    """Powertools' batch utility, a model, and one conditional write for each record."""
    processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
    with patch.dict(os.environ, SETTINGS):
        client, table = boto3.client("dynamodb"), Canned()
    client.meta.events.register("before-send.dynamodb", table)

    def count(record: KinesisStreamRecord) -> None:
        kinesis = record.kinesis
        told = Told.model_validate_json(kinesis.data_as_bytes())
        client.update_item(
            TableName="table",
            Key={"pk": {"S": f"{told.target}#{told.revision}"}, "sk": {"S": kinesis.partition_key}},
            UpdateExpression="SET #sequence = :sequence ADD #requests :requests, #failures :failures, #slow :slow",
            ConditionExpression="attribute_not_exists(#sequence) OR #sequence < :sequence",
            ExpressionAttributeNames={f"#{name}": name for name in ("sequence", "requests", "failures", "slow")},
            ExpressionAttributeValues={
                ":sequence": {"S": kinesis.sequence_number.zfill(64)},
                ":requests": {"N": str(len(told.outcomes))},
                ":failures": {"N": str(sum(not ok for _, ok, _ in told.outcomes))},
                ":slow": {"N": str(sum(took is not None and took > 250 for _, _, took in told.outcomes))},
            },
        )

    def handler(event: Any, context: Any) -> Any:
        return process_partial_response(event=event, record_handler=count, processor=processor, context=context)

    yield Consumer(handler, table)


# Their table, and what they count


class Canned:
    """DynamoDB's answers, made in this process once a request is ready to be sent: nobody waits for the network.

    It knows the few expressions that both consumers write, and takes every condition to hold: each is alone.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0
        """Processor time that answering took."""

    def put(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            self.items[item["pk"], item["sk"]] = to_item(item)

    def __call__(self, request: Any, **_: Any) -> Any:
        begun = time.process_time()
        name = request.headers["X-Amz-Target"]
        operation = (name.decode() if isinstance(name, bytes) else name).rpartition(".")[2]
        self.calls[operation] += 1
        answer = json.dumps(getattr(self, f"_{operation}")(json.loads(request.body))).encode()
        raw = SimpleNamespace(stream=lambda: iter([answer]))
        headers: Any = {"Content-Type": "application/x-amz-json-1.0"}
        response = AWSResponse(request.url, 200, headers, raw)
        self.seconds += time.process_time() - begun
        return response

    # As DynamoDB names its operations

    def _GetItem(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        item = self.items.get(_key(body["Key"]))
        return {"Item": item} if item else {}

    def _BatchGetItem(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        ((name, wanted),) = body["RequestItems"].items()
        found = [self.items[_key(key)] for key in wanted["Keys"] if _key(key) in self.items]
        return {"Responses": {name: found}, "UnprocessedKeys": {}}

    def _PutItem(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.items[_key(body["Item"])] = body["Item"]
        return {}

    def _UpdateItem(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        item = self.items.setdefault(_key(body["Key"]), dict(body["Key"]))
        names, values = body.get("ExpressionAttributeNames", {}), body["ExpressionAttributeValues"]
        for verb, clauses in re.findall(r"(SET|ADD) (.+?)(?= ADD |$)", body["UpdateExpression"]):
            for clause in clauses.split(", "):
                name, _, value = clause.replace(" = ", " ").partition(" ")
                name = names.get(name, name)
                item[name] = _added(item.get(name), values[value]) if verb == "ADD" else values[value]
        return {}

    def _TransactWriteItems(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        for write in body["TransactItems"]:
            ((kind, what),) = write.items()
            {"Update": self._UpdateItem, "Put": self._PutItem}[kind](what)
        return {}


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _added(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    if old is None:
        return new
    if "SS" in new:
        return {"SS": sorted({*old["SS"], *new["SS"]})}
    return {"N": str(int(old["N"]) + int(new["N"]))}


def _batch(records: int, after: int, *, units: bool = False) -> dict[str, Any]:
    """So many records of both revisions, which come after so many others."""
    chance = random.Random(after)
    (like,) = json.loads((ROOT / "events" / "functions" / "counter.json").read_text())["Records"]
    return {"Records": [_record(like, after + number, chance, units=units) for number in range(records)]}


def _record(like: dict[str, Any], number: int, chance: random.Random, *, units: bool) -> dict[str, Any]:
    instance = uuid.UUID(int=number % 50)
    revision = CANDIDATE if chance.random() < SHARE else STABLE
    began = 1_795_251_604_000 + number * 20
    outcomes: list[list[Any]] = []
    for request in range(OUTCOMES):
        slow = chance.random() < SLOW
        outcome = [began + request, chance.random() >= FAULTY, round(chance.uniform(300, 900) if slow else 12.3, 1)]
        outcomes.append([*outcome, f"client-{number}-{request}"] if units and not outcome[1] else outcome)
    sequence = f"49590338271490256608559692538361571095{number:018}"
    kinesis = {
        "partitionKey": f"{TARGET_KEY}#{instance.int % PARTITIONS}",
        "sequenceNumber": sequence,
        "data": base64.b64encode(_data(TARGET_KEY, revision, outcomes, instance)).decode(),
    }
    return {**like, "eventID": f"shardId-000000000006:{sequence}", "kinesis": {**like["kinesis"], **kinesis}}


def _data(target: str, revision: str, outcomes: list[list[Any]], instance: uuid.UUID) -> bytes:
    """A record as headgate.telemetry writes it."""
    told: dict[str, Any] = {"target": target, "revision": revision, "instance": instance.hex, "born": outcomes[0][0]}
    told["outcomes"] = outcomes
    return json.dumps(told, separators=(",", ":")).encode()


# From telemetry to the alias back on stable


def _roll_back(world: World) -> float:
    """Seconds from the record that crosses the line until the alias is on the stable version alone."""
    target, rollout_id = world.new_target(), f"bench-{uuid.uuid4().hex[:12]}"
    execution = _request(world, target, rollout_id)
    until(lambda: "token" in _item(world, rollout_id, "ROLLOUT"), 30, f"{rollout_id} does not bake")
    for revision, requests in zip((STABLE, CANDIDATE), BEFORE, strict=True):
        _tell(world, target, revision, requests, ok=True)
    columns = [f"errors_0_{arm}_requests" for arm in ("stable", "candidate")]
    until(lambda: _counts(world, rollout_id, columns) == list(BEFORE), 30, f"{rollout_id} is not counted")
    if world.alias(target) != (STABLE, {CANDIDATE: SHARE}):
        raise RuntimeError(f"{target} serves {world.alias(target)}, so there is nothing to roll back")
    _tell(world, target, STABLE, BEFORE[0], ok=True)
    begun = time.perf_counter()
    _tell(world, target, CANDIDATE, FAILURES, ok=False)
    until(lambda: world.alias(target) == (STABLE, {}), 60, f"{target} is not back", pause=0.005)
    took = time.perf_counter() - begun
    world.ended(execution, "FAILED")
    return took


def _request(world: World, target: dict[str, Any], rollout_id: str) -> str:
    detail = {
        "id": rollout_id,
        "target": target,
        "candidate": {"version": CANDIDATE},
        "strategy": {"steps": [{"weight": SHARE * 100, "bakeSeconds": BAKE}]},
        "guards": {"errors": {}},
    }
    entry = {"Source": "bench", "DetailType": "Rollout Requested", "Detail": json.dumps(detail)}
    world.bus.put_events(Entries=[entry | {"EventBusName": world.outputs["BusName"]}])
    return execution_arn(world.outputs["RolloutMachineArn"], execution_name(rollout_id))


def _tell(world: World, target: dict[str, Any], revision: str, requests: int, *, ok: bool) -> None:
    """One record, as an instance of its own writes it."""
    instance, began = uuid.uuid4(), int(time.time() * 1000)
    key = f"lambda-alias/{target['function']}/{target['alias']}"
    world.aws.client("kinesis").put_record(
        StreamName=world.outputs["TelemetryStreamName"],
        Data=_data(key, revision, [[began, ok, 12.5]] * requests, instance),
        PartitionKey=f"{key}#{instance.int % PARTITIONS}",
    )


def _item(world: World, rollout_id: str, kind: str) -> dict[str, Any]:
    key = to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": kind})
    found = world.table.get_item(TableName=world.outputs["TableName"], Key=key, ConsistentRead=True)
    return dict(found.get("Item", {}))


def _counts(world: World, rollout_id: str, columns: list[str]) -> list[int]:
    ledger = _item(world, rollout_id, "EVIDENCE")
    return [int(ledger.get(column, {"N": "0"})["N"]) for column in columns]


# What the page says


def _counting(shipped: Speed, named: Speed, plain: Speed, runs: int) -> list[str]:
    times = shipped.records() / plain.records()
    told = (
        f"Records a second on one core: the handler of `functions/counter`, on batches of {BATCH} records of "
        f"{OUTCOMES} outcomes each ({PARTITIONS} partition keys, two revisions, {FAULTY:.0%} failures, one rollout "
        "with guards on errors and latency), judging after each batch, next to a handler by Powertools' "
        "BatchProcessor that reads each record with a pydantic model and adds it by one UpdateItem on condition that "
        "its sequence number "
        f"is above the one noted there (it knows no steps and no units, and judges nothing). {runs} batches each, "
        "taking turns, medians of processor time."
    )
    how = (
        "Both write to the same DynamoDB by real boto3 clients, which serialise, sign and parse; the answers are made "
        "in this process when a request would go out, and the time for that is taken off. Against a mock such as "
        "moto, whose answers cost more than the clients themselves, whoever asks less would look better than he is. "
        f"Both have counted the same. Limit: {LIMIT} times as many records a second."
    )
    calls = ", ".join(f"{name} {count}" for name, count in sorted(shipped.calls.items()))
    waits = (
        f"The last two columns are computed: as if each request took {LATENCY * 1000:g} ms more, in which a handler of "
        f"one thread does nothing else. Headgate's requests for a batch: {calls}. Where failures name their units, it "
        f"also reads and writes a filter of {UNIT_BITS // 8192} KiB."
    )
    rows = [
        ("Headgate", shipped, f"{'held' if times >= LIMIT else 'MISSED'}"),
        ("Headgate, every failure names its unit", named, ""),
        ("a write per record", plain, ""),
    ]
    head = ["consumer", "records a second", "ratio", f"limit {LIMIT}", "ms a batch", "requests a batch"]
    return [
        told,
        how,
        table(
            [*head, f"records a second, {LATENCY * 1000:g} ms a request", "ratio"],
            [
                [
                    name,
                    f"{speed.records():,.0f}",
                    f"{speed.records() / plain.records():.1f}",
                    limit,
                    f"{speed.seconds * 1000:.1f}",
                    str(speed.requests),
                    f"{speed.records(LATENCY):,.0f}",
                    f"{speed.records(LATENCY) / plain.records(LATENCY):.0f}",
                ]
                for name, speed, limit in rows
            ],
        ),
        waits,
    ]


def _looks(runs: int) -> tuple[float, float]:
    """Processor time of a look with all guards, and of one with a single guard: the median of so many."""
    with _looking(ALL_GUARDS) as full, _looking({"errors": {}}) as single:
        seconds: list[tuple[float, float]] = [(full(run), single(run)) for run in range(runs + 1)]
    of_all, of_one = zip(*seconds[1:], strict=True)  # The first also makes clients.
    return statistics.median(of_all), statistics.median(of_one)


@contextmanager
def _looking(guards: dict[str, Any]) -> Iterator[Callable[[int], float]]:
    """A ledger in its second step, to which each call adds some requests and a few failures, and looks at them."""
    strategy = {"steps": [{"weight": SHARE * 100, "bakeSeconds": BAKE}, {"weight": 50, "bakeSeconds": BAKE}]}
    detail = {"id": "bench", "target": TARGET, "candidate": {"version": CANDIDATE}}
    request = read_request({**detail, "strategy": strategy, "guards": guards}, "unused")
    plan = make_plan(request, driver="arn:aws:lambda:::function:driver", firing=[])
    terms, now, chance = JudgeTerms.of(plan.guards), now_ms(), random.Random(1)
    with patch.dict(os.environ, SETTINGS):
        client, table = boto3.client("dynamodb"), Canned()
    client.meta.events.register("before-send.dynamodb", table)
    thresholds = list(plan.guards.latency.thresholds) if plan.guards.latency else []
    judged = [measure.key for measure in terms.measures]
    item: dict[str, Any] = {"pk": "ROLLOUT#bench", "sk": "EVIDENCE", "candidate": CANDIDATE, "stable": STABLE}
    item |= {"judged": judged, "slowMs": 0, "thresholdsMs": thresholds, "byTelemetry": True}
    item |= {"since_0": now - 9_000, "since_1": now}
    table.put([item])
    ledgers = LedgerStore(client, "table")

    def take(run: int) -> float:
        key = "ROLLOUT#bench", "EVIDENCE"
        counts = {"requests": (100, 900), "failures": (run % 2, 1 + chance.randrange(4))}
        for measure, (what, arms), step in itertools.product(judged, counts.items(), (0, 1)):
            for arm, count in zip(("candidate", "stable"), arms, strict=True):
                shared = what == "requests" and measure.startswith("latency")
                name = column(step, "latency" if shared else measure, arm, what)
                table.items[key][name] = {"N": str(int(table.items[key].get(name, {"N": "0"})["N"]) + count)}
        gc.collect()
        answering, begun = table.seconds, time.process_time()
        ledgers.look("bench", terms)
        return time.process_time() - begun - (table.seconds - answering)

    yield take


def _looks_told(of_all: float, of_one: float) -> list[str]:
    told = (
        "One look, from reading the ledger to saving it: errors, six thresholds of latency and eight custom guards, "
        "next to errors alone, each with new failures in two steps. Medians of processor time. "
        f"Limit: {LOOK_LIMIT:g} times."
    )
    row = [f"{of_all * 1000:.1f} ms", f"{of_one * 1000:.1f} ms", f"{of_all / of_one:.1f}"]
    return [told, table(["10 guards", "1 guard", "times", "limit"], [[*row, _held(of_all, of_one)]])]


def _held(of_all: float, of_one: float) -> str:
    return "held" if of_all <= LOOK_LIMIT * of_one else "MISSED"


def _linear(grown: list[Growth]) -> list[str]:
    first = grown[0]
    told = (
        f"Headgate's processor time for more and more records: as batches of {BATCH}, one after the other into one "
        "ledger, and as one batch (Lambda hands out 10,000 at most). Limit: at most "
        f"{GROWTH_LIMIT} times the time for each record that it takes at {first.records:,}."
    )
    return [
        told,
        table(
            ["records", f"batches of {BATCH}", "a record", "one batch", "a record", "limit"],
            [
                [
                    f"{one.records:,}",
                    f"{one.batches * 1000:.0f} ms",
                    _each(one.batches, first.batches, one, first),
                    f"{one.one_batch * 1000:.0f} ms",
                    _each(one.one_batch, first.one_batch, one, first),
                    "held" if _per_record(one, first) <= GROWTH_LIMIT else "MISSED",
                ]
                for one in grown
            ],
        ),
    ]


def _each(seconds: float, at_first: float, one: Growth, first: Growth) -> str:
    each, each_at_first = seconds / one.records, at_first / first.records
    return f"{each * 1e6:.0f} µs ({each / each_at_first:.2f})"


def _long(many: Long) -> list[str]:
    told = (
        f"{many.records:,} records into one ledger in batches of {BATCH}; one batch in {AGAIN_EVERY} was delivered a "
        "second time, after the one that came next. Limit: every outcome counts once."
    )
    deliveries = many.records + many.again
    held = "MISSED" if many.lost or many.twice else "held"
    row = [f"{many.records:,}", f"{many.again:,}", f"{deliveries / many.seconds:,.0f}", str(many.lost), str(many.twice)]
    head = ["records", "delivered again", "records a second", "outcomes lost", "counted twice", "limit"]
    return [told, table(head, [[*row, held]])]


def _rollbacks(seconds: list[float]) -> list[str]:
    delays = [POLL_SECONDS * (number + 0.5) / GRID for number in range(GRID)]
    polled = [delay + took for delay in delays for took in seconds]
    told = (
        "From telemetry to the alias back on stable: seconds from the call of PutRecord with the "
        f"{FAILURES} failures of the candidate that cross the line until the alias was seen on the stable version "
        f"alone. Before it {BEFORE[0]} and {BEFORE[1]} requests of stable and candidate had gone well, and "
        f"{BEFORE[0]} more of stable went with it. {len(seconds)} fresh rollouts at {SHARE:.0%}, each on its own "
        "alias, functions warm, on the embedded AWS, which hands a record out at once or, where it was asleep, up to "
        "half a second later. Lambda polls each shard about once a second: the second row adds, computed, a uniform "
        f"delay of up to {POLL_SECONDS:g} s to that."
    )
    return [
        told,
        table(
            ["", "median", "p90", "slowest"],
            [
                [name, f"{statistics.median(took):.2f} s", f"{quantile(took, 0.9):.2f} s", f"{max(took):.2f} s"]
                for name, took in (("measured", seconds), ("with one poll a second, computed", polled))
            ],
        ),
    ]
