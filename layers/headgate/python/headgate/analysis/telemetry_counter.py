"""Counts telemetry: each outcome once, although the stream delivers at least once and batches run in parallel.

A watermark per (shard, partition key) is written in the same transaction as the counts, on the condition that it did
not change. Failures of one unit (a client, a session, a trace, a message) within three to four minutes count once:
failures with one cause are one fault, and the judge's guarantee is about faults.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from botocore.exceptions import ClientError

from headgate import keys
from headgate.analysis.evidence import latency_keys
from headgate.analysis.ledger_store import column, ledger_key, reports_column
from headgate.aws.dynamodb import WriteConflict, expiry, from_item, retry, to_item
from headgate.aws.errors import code_of
from headgate.aws.observability import logger
from headgate.errors import Contended, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.analysis.evidence import Ledger
    from headgate.analysis.stream_targets import StreamTargets
    from headgate.aws.undelivered import UndeliveredRecords


class RunningLedgers(Protocol):
    """Where the counter finds the ledgers to count into."""

    def running_on(self, earliest: Mapping[str, int]) -> dict[str, Ledger]:
        """Return the ledgers of the rollouts that run on some targets, as they are now, by the target's key.

        Parameters
        ----------
        earliest
            Time of the first request to count, in milliseconds since 1970, by the target's key.
        """


WATERMARK_SECONDS = 9 * 24 * 3600
"""A watermark must outlive the stream's records. Headgate's stream keeps them for a day, other streams up to a year."""

MAX_NAME = 600
"""Maximum characters of a target's key or a revision. Names of functions have at most 64, those of aliases 128, of
clusters, services and task definitions 255."""

GROUPS_PER_WRITE = 33
"""Watermarks per transaction, with up to as many ledgers and filters of units. The limit is 100 items
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html)."""

COLUMNS_PER_WRITE = 108
"""Columns that one write adds to a ledger: six steps with errors and six thresholds. An expression has at most 4 KB."""

UNIT_BITS = 1 << 17
"""Total size of the filters of failed units: 16 KiB of the 400 KB limit of an item. With 1,000 units in the filters,
3 % of new ones are taken for known ones, and with 10,000, 26 %, equally for both revisions: the evidence comes a little
later but is never wrong."""

FILTERS = 4

FILTER_MS = 60_000
"""A failed unit is kept in the filter of the minute in which its failed request began, for at least three minutes and
less than four. Lambda retries a failed asynchronous event after one minute, and again two minutes later
(https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html). The attempts themselves take time
too, so the last one of a slow event may count again."""

_COUNT_ATTEMPTS = 8


class _TooWide(Exception):  # noqa: N818 - it is no error: the records are counted in parts
    """Some records are of more steps than one write can add."""


class RequestOutcome(NamedTuple):
    """Outcome of one request in telemetry."""

    at: int
    """Start of the request, in milliseconds since 1970."""
    ok: bool
    milliseconds: float | None
    """Duration; None if it does not describe the revision, as with a cold start."""
    unit: str | None = None
    """The unit that failed: a client, a session, a trace or a message."""


class TelemetryRecord(NamedTuple):
    """One record of the telemetry stream, parsed."""

    shard: str
    partition_key: str
    sequence: str
    """Sequence number, zero-padded so that it sorts as text (56 digits do not fit into a DynamoDB number)."""
    target: str
    revision: str
    outcomes: tuple[RequestOutcome, ...]
    instance: str = ""
    """The container, task or host that reports."""
    arrived: int = 1 << 62
    """Arrival in the stream, in milliseconds since 1970. No request began later, even if the sender's clock says so."""
    observed: bool = False
    """Whether each outcome is that of one invocation, as ``Telemetry.observe`` reports them. Clients of Headgate 0.1.0
    do not say it."""
    born: int | None = None
    """Start of the instance in milliseconds since 1970; None if the client does not say it."""


def read_record(raw: dict[str, Any]) -> TelemetryRecord:
    """Read one record of the stream as its mapping delivers it.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html

    Raises
    ------
    ValueError
        If it is not a telemetry record.
    """
    shard, kinesis = f"{raw['eventSourceARN']}/{raw['eventID'].split(':')[0]}", raw["kinesis"]
    arrived = int(kinesis["approximateArrivalTimestamp"] * 1000)
    data = base64.b64decode(kinesis["data"])
    return parse_record(shard, kinesis["partitionKey"], kinesis["sequenceNumber"], data, arrived)


def parse_record(shard: str, partition_key: str, sequence: str, data: bytes, arrived: int = 1 << 62) -> TelemetryRecord:
    """Parse the data of a record. Errors as for ``read_record``."""
    try:
        body = json.loads(data)
        outcomes = tuple(_read_outcome(*values) for values in body["outcomes"])
        target, revision, instance = str(body["target"]), str(body["revision"]), str(body.get("instance") or "")
        observed, born = body.get("observed") is True, body.get("born")
        born = None if born is None else int(born)
    except (TypeError, KeyError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        raise ValueError(f"not a telemetry record: {error!r}") from None
    if len(target) > MAX_NAME or len(revision) > MAX_NAME:
        raise ValueError("not a telemetry record: target or revision is too long")
    if not (target + revision + instance).isascii():
        raise ValueError("not a telemetry record: target, revision and instance must be ASCII")
    return TelemetryRecord(
        shard, partition_key, sequence.zfill(64), target, revision, outcomes, instance, arrived, observed, born
    )


def _read_outcome(at: Any, ok: Any, milliseconds: Any, unit: Any = None) -> RequestOutcome:
    took = None if milliseconds is None else float(milliseconds)
    if took is not None and not 0 <= took < inf:
        raise ValueError(f"{took} ms is not a duration")
    # Text such as "false" or "error" must not count as true.
    if not isinstance(ok, int) or ok not in (0, 1):
        raise ValueError(f"ok must be true or false, not {ok!r}")
    return RequestOutcome(int(at), bool(ok), took, str(unit) or None if unit is not None else None)


def read_batch(
    batch: list[dict[str, Any]], undelivered: UndeliveredRecords, streams: StreamTargets
) -> tuple[list[TelemetryRecord], list[str]]:
    """The records of a batch; one that cannot be read, or is not of its stream, is put aside and holds nobody up.

    Parameters
    ----------
    streams
        Which stream may report on which functions.

    Returns
    -------
    tuple
        The records, and the sequence numbers of those that could not even be put aside: they are delivered again.
    """
    records, stuck = [], []
    for raw in batch:
        try:
            record = read_record(raw)
            if refusal := streams.refusal(raw["eventSourceARN"], record.target):
                raise ValueError(refusal)  # noqa: TRY301
            records.append(record)
        except ValueError as error:
            sequence_number = raw["kinesis"]["sequenceNumber"]
            logger.warning("record does not count", sequence_number=sequence_number, reason=str(error))
            if not undelivered.put_aside(raw, str(error)):
                stuck.append(sequence_number)
    return records, stuck


class FailedUnits:
    """Units whose failures counted recently: a ring of filters, one for each of the newest minutes.

    A failure counts if its unit is in none of the filters. This depends only on the unit's past, never on the revision
    that failed now. If the candidate is no worse, each failure that counts therefore falls on it with the probability
    of its weight, as the judge requires. That is why the revisions share the filters: if a unit counted once for each
    revision, a unit that always fails would count equally for both, regardless of the weight, and a good candidate
    would be rolled back.

    Failures that are not independent must count once: retries in quick succession, which may all go to the same
    revision. So the memory is short. If it were long, a unit that once failed by chance on the stable revision would
    hide its later failures on the candidate. A failure that does not count does not extend the memory, so a unit that
    always fails counts again every three to four minutes.

    The clock is the time of the newest failure. A unit counts again once this is more than three minutes after its last
    failure that counted, and at the latest with its first failure four minutes after that. A failure that arrives after
    its minute was dropped is looked up in all filters and kept in the oldest.

    Parameters
    ----------
    bits
        Result of ``bytes`` of other units. Default: no units.
    newest
        Their newest minute.
    """

    def __init__(self, bits: bytes = b"", newest: int = 0) -> None:
        self._bits = bytearray(bits or UNIT_BITS // 8)
        self.newest = newest
        """The newest minute in which a failed request began, counted from 1970."""

    def add(self, unit: str, at: int) -> bool:
        """Return whether a unit's failure counts, and keep the unit if it does.

        Parameters
        ----------
        at
            Start of the request, in milliseconds since 1970.
        """
        self._forget(at // FILTER_MS)
        where = int.from_bytes(hashlib.sha256(unit.encode(errors="surrogatepass")).digest()[:8]) % (_FILTER_BYTES * 8)
        byte, bit = where // 8, 1 << where % 8
        if any(known & bit for known in self._bits[byte::_FILTER_BYTES]):
            return False
        kept = max(at // FILTER_MS, self.newest - FILTERS + 1)
        self._bits[kept % FILTERS * _FILTER_BYTES + byte] |= bit
        return True

    def _forget(self, newest: int) -> None:
        """Clear the filters of newer minutes."""
        for minute in range(max(self.newest, newest - FILTERS) + 1, newest + 1):
            begin = minute % FILTERS * _FILTER_BYTES
            self._bits[begin : begin + _FILTER_BYTES] = bytes(_FILTER_BYTES)
        self.newest = max(self.newest, newest)

    def __bytes__(self) -> bytes:
        return bytes(self._bits)


_FILTER_BYTES = UNIT_BITS // 8 // FILTERS


class _StepCounts:
    """Counts of one revision in a step."""

    __slots__ = ("failures", "over", "requests")

    def __init__(self, thresholds: int) -> None:
        self.requests = self.failures = 0
        self.over = [0] * (thresholds + 1)
        """Requests with a duration by how many thresholds it is over."""


class Tally:
    """Counts that a batch of records adds to one ledger.

    Parameters
    ----------
    ledger
        Ledger of the rollout on the records' target.
    units
        Units that failed recently in this rollout.
    """

    def __init__(self, ledger: Ledger, units: FailedUnits) -> None:
        self.ledger = ledger
        self.units = units
        self.columns: dict[str, int] = defaultdict(int)
        """Counts to add to columns of the ledger."""
        self.failing: set[str] = set()
        self.units_grown = False
        self._begun = sorted((since, step) for step, since in ledger.since.items())

    def add(self, record: TelemetryRecord) -> None:
        """Count the outcomes of a record, unless it is of another revision."""
        arm = {self.ledger.candidate: "candidate", self.ledger.stable: "stable"}.get(record.revision)
        if arm is None:
            return
        thresholds, measures = self.ledger.thresholds, latency_keys(len(self.ledger.thresholds))
        counts = defaultdict[int, _StepCounts](lambda: _StepCounts(len(thresholds)))
        warm_up = self.ledger.warm_up
        warm_from = record.born + 1000 * warm_up if warm_up and record.born is not None else 0
        reported = 0
        for began, ok, milliseconds, unit in record.outcomes:
            at = min(began, record.arrived)  # The sender's clock may be ahead.
            begun = bisect_right(self._begun, (at, _ANY_STEP))
            if begun == 0 or at < self.ledger.counts_from:
                continue
            reported += bool(self.ledger.reports.since) and at >= self.ledger.reports.since
            count = counts[self._begun[begun - 1][1]]
            if ok or unit is None or self._counts(unit, at):
                count.requests += 1
                count.failures += not ok
            # Both times are the sender's.
            if thresholds and milliseconds is not None and began >= warm_from:
                count.over[bisect_left(thresholds, milliseconds)] += 1
        self.columns[reports_column(arm, "observed" if record.observed else "told")] += reported
        for step, count in counts.items():
            self.columns[column(step, "errors", arm, "requests")] += count.requests
            self.columns[column(step, "errors", arm, "failures")] += count.failures
            slow = sum(count.over)
            self.columns[column(step, "latency", arm, "requests")] += slow
            for key, not_over in zip(measures, count.over, strict=False):
                slow -= not_over
                self.columns[column(step, key, arm, "failures")] += slow
            if count.failures and arm == "candidate" and record.instance and len(self.ledger.failing) < _INSTANCES_KEPT:
                self.failing.add(record.instance[:64])

    def _counts(self, unit: str, at: int) -> bool:
        new = self.units.add(unit, at)
        self.units_grown |= new
        return new


_ANY_STEP = 1 << 30

_INSTANCES_KEPT = 2
"""Failing instances that a ledger keeps. It only matters whether there is more than one."""


class TelemetryCounter:
    """Adds records to ledgers in the table."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def count(self, records: list[TelemetryRecord], rollouts: RunningLedgers) -> dict[str, Ledger]:
        """Add each record once to the ledger of the rollout on its target.

        Parameters
        ----------
        records
            Records as received, including duplicates.
        rollouts
            Asked for the ledgers, and once more whenever another counter was faster.

        Returns
        -------
        dict
            The ledgers of the records' targets, before the records were added.
        """
        ledgers = rollouts.running_on(_earliest(records))
        groups: dict[tuple[str, str], list[TelemetryRecord]] = defaultdict(list)
        for record in records:
            if record.target in ledgers:
                groups[record.shard, record.partition_key].append(record)
        names = list(groups)
        for start in range(0, len(names), GROUPS_PER_WRITE):
            chunk = [record for name in names[start : start + GROUPS_PER_WRITE] for record in groups[name]]
            self._count_chunk(chunk, ledgers, rollouts)
        return ledgers

    def _count_chunk(
        self,
        records: list[TelemetryRecord],
        ledgers: dict[str, Ledger],
        rollouts: RunningLedgers,
    ) -> None:
        def as_they_are() -> Iterator[dict[str, Ledger]]:
            yield ledgers
            while True:  # After a conflict: another batch was counted, or a step began.
                yield rollouts.running_on(_earliest(records))

        current = as_they_are()
        try:
            retry(
                lambda: self._count_once(records, next(current)),
                attempts=_COUNT_ATTEMPTS,
                backs_off=True,
                failure=Contended(
                    f"others changed the watermarks {_COUNT_ATTEMPTS} times in a row; the batch will be retried"
                ),
            )
        except _TooWide:
            for part in _parts_of(records):
                self._count_chunk(part, ledgers, rollouts)

    def _count_once(self, records: list[TelemetryRecord], ledgers: dict[str, Ledger]) -> None:
        marks = self._watermarks({(record.shard, record.partition_key) for record in records})
        new = _above_watermark(records, marks)
        if not new:
            return
        tallies = self._tally(new, ledgers)
        writes = [*self._advance(new, marks), *(write for tally in tallies for write in self._add(*tally))]
        try:
            self._client.transact_write_items(TransactItems=writes)  # type: ignore[arg-type]
        except ClientError as error:
            if code_of(error) == "TransactionCanceledException":
                raise WriteConflict from None
            raise

    def _tally(self, new: list[TelemetryRecord], ledgers: dict[str, Ledger]) -> Iterator[tuple[Tally, int]]:
        by_target: dict[str, list[TelemetryRecord]] = defaultdict(list)
        for record in new:
            if record.target in ledgers:
                by_target[record.target].append(record)
        for target, records in by_target.items():
            ledger = ledgers[target]
            names_units = any(outcome.unit and not outcome.ok for record in records for outcome in record.outcomes)
            units, version = self._units(ledger.rollout_id) if names_units else (FailedUnits(), 0)
            tally = Tally(ledger, units)
            for record in records:
                tally.add(record)
            yield tally, version

    def _watermarks(self, groups: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Read the watermarks of some groups consistently.

        https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
        """
        marks: dict[tuple[str, str], str] = {}
        # A write has GROUPS_PER_WRITE of them at most, and a read takes 100 keys.
        unread: Any = [_watermark_key(*group) for group in groups]

        def read() -> None:
            nonlocal unread
            answer = self._client.batch_get_item(RequestItems={self._table: {"Keys": unread, "ConsistentRead": True}})
            for item in map(from_item, answer["Responses"].get(self._table, [])):
                marks[keys.shard_in(item["pk"]), item["sk"]] = item["sequence"]
            if left := answer.get("UnprocessedKeys", {}):
                unread = left[self._table]["Keys"]
                # DynamoDB throttles: botocore does not retry unprocessed keys.
                raise Transient(
                    f"DynamoDB left out watermarks {_COUNT_ATTEMPTS} times in a row; the batch will be retried"
                )

        retry(read, attempts=_COUNT_ATTEMPTS, when=lambda error: isinstance(error, Transient), backs_off=True)
        return marks

    def _units(self, rollout_id: str) -> tuple[FailedUnits, int]:
        answer = self._client.get_item(TableName=self._table, Key=_units_key(rollout_id), ConsistentRead=True)
        item = answer.get("Item")
        if item is None:
            return FailedUnits(), 0
        version = int(item["version"]["N"])
        # Earlier versions of Headgate kept one filter for the whole rollout, without a minute: it is discarded.
        if "newestMinute" not in item:
            return FailedUnits(), version
        return FailedUnits(bytes(item["bits"]["B"]), int(item["newestMinute"]["N"])), version

    def _advance(self, new: list[TelemetryRecord], marks: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
        highest: dict[tuple[str, str], str] = {}
        for record in new:
            group = (record.shard, record.partition_key)
            highest[group] = max(record.sequence, highest.get(group, ""))
        return [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": _watermark_key(*group),
                    "UpdateExpression": "SET #sequence = :sequence, expiresAt = :expires",
                    "ConditionExpression": "#sequence = :read" if group in marks else "attribute_not_exists(pk)",
                    "ExpressionAttributeNames": {"#sequence": "sequence"},
                    "ExpressionAttributeValues": to_item(
                        {
                            ":sequence": sequence,
                            ":expires": int(time.time()) + WATERMARK_SECONDS,
                            **({":read": marks[group]} if group in marks else {}),
                        }
                    ),
                }
            }
            for group, sequence in highest.items()
        ]

    def _add(self, tally: Tally, units_version: int) -> list[dict[str, Any]]:
        """Return the writes that add a tally to its ledger, unless a newer step has begun."""
        columns = {name: count for name, count in tally.columns.items() if count}
        if not columns:
            return []
        if len(columns) > COLUMNS_PER_WRITE:
            raise _TooWide
        ledger = tally.ledger
        # Short names: an expression has at most 4 KB.
        values = to_item({f":c{n}": count for n, count in enumerate(columns.values())})
        adds = [f"#c{n} :c{n}" for n in range(len(columns))]
        if failing := sorted(tally.failing - set(ledger.failing))[: _INSTANCES_KEPT - len(ledger.failing)]:
            adds.append("failing :failing")
            values[":failing"] = {"SS": failing}
        writes = [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": ledger_key(ledger.rollout_id),
                    "UpdateExpression": "ADD " + ", ".join(adds),
                    # Steps are filed in order: while this one is in the item, the next one would be in it, too.
                    "ConditionExpression": "attribute_exists(#newest) AND attribute_not_exists(#next)",
                    "ExpressionAttributeNames": {
                        "#newest": f"since_{max(ledger.since)}",
                        "#next": f"since_{max(ledger.since) + 1}",
                        **{f"#c{n}": name for n, name in enumerate(columns)},
                    },
                    "ExpressionAttributeValues": values,
                }
            }
        ]
        if tally.units_grown:
            writes.append(self._keep_units(ledger.rollout_id, tally.units, units_version))
        return writes

    def _keep_units(self, rollout_id: str, units: FailedUnits, version: int) -> dict[str, Any]:
        item = {
            **_units_key(rollout_id),
            "bits": {"B": bytes(units)},
            **to_item({"newestMinute": units.newest, "version": version + 1, "expiresAt": expiry()}),
        }
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if version:
            condition = {
                "ConditionExpression": "#version = :read",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": to_item({":read": version}),
            }
        return {"Put": {"TableName": self._table, "Item": item, **condition}}


def _parts_of(records: list[TelemetryRecord]) -> list[list[TelemetryRecord]]:
    """Return the older and the newer half of some records, to be counted one after the other.

    Of a single record, whose outcomes can only be counted together, the newer half of the outcomes is left.
    """
    # In the order of their sequence numbers: what is below a watermark does not count again.
    ordered = sorted(
        {(each.shard, each.partition_key, each.sequence): each for each in records}.values(), key=_sequence
    )
    if len(ordered) > 1:
        return [ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]]
    (record,) = ordered
    newest = sorted(record.outcomes, key=lambda outcome: outcome.at)[len(record.outcomes) // 2 :]
    logger.warning(
        "a record is of more steps than can be counted at once; its oldest outcomes do not count",
        target=record.target,
        sequence_number=record.sequence.lstrip("0"),
        left_out=len(record.outcomes) - len(newest),
    )
    return [[record._replace(outcomes=tuple(newest))]]


def _sequence(record: TelemetryRecord) -> str:
    return record.sequence


def _earliest(records: list[TelemetryRecord]) -> dict[str, int]:
    """Return the time of the first request by target."""
    earliest: dict[str, int] = {}
    for record in records:
        began = min((outcome.at for outcome in record.outcomes), default=record.arrived)
        earliest[record.target] = min(began, record.arrived, earliest.get(record.target, began))
    return earliest


def _above_watermark(records: list[TelemetryRecord], marks: dict[tuple[str, str], str]) -> list[TelemetryRecord]:
    """Return the records above their watermark, each once: a batch may have a record twice.

    A sequence number is unique per partition key within its shard
    (https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html#sequence-number).
    """
    new = {
        (record.shard, record.partition_key, record.sequence): record
        for record in records
        if record.sequence > marks.get((record.shard, record.partition_key), "")
    }
    return list(new.values())


def _watermark_key(shard: str, partition_key: str) -> dict[str, Any]:
    return to_item({"pk": keys.shard_pk(shard), "sk": partition_key})


def _units_key(rollout_id: str) -> dict[str, Any]:
    return to_item({"pk": keys.rollout_pk(rollout_id), "sk": keys.UNITS_SK})
