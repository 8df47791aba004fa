"""Counts per revision while a rollout runs, and the looks of the judge at them.

One EVIDENCE item per rollout holds cumulative counts per step, which steps began when, and the judge's state. Counting
is exactly-once although the stream delivers at least once: a watermark per (shard, partition key) is written in the
same transaction as the counts, on condition that it is still the one that was read.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.items import back_off, from_item, patiently, to_item
from headgate.judge import Arm, Evidence, look

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_dynamodb import DynamoDBClient

LOOK_AT = 5
"""Candidate requests that a look waits for: fewer make looks too short to learn from."""

WATERMARK_SECONDS = 9 * 24 * 3600
"""A watermark must outlive the stream's records; Headgate's stream keeps them for a day, any stream for a year."""

MAX_NAME = 512
"""Characters of a target's key or a revision; names of functions and aliases have 64 and 128 at most."""

GROUPS_PER_WRITE = 45
"""Watermarks per transaction, with as many evidence items at most: a transaction takes 100 items
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html)."""

_ATTEMPTS = 8


class Outcome(NamedTuple):
    """One request as telemetry tells it."""

    at: int
    """When it began, in milliseconds since 1970."""
    ok: bool
    milliseconds: float


class Record(NamedTuple):
    """One record of the telemetry stream, parsed."""

    shard: str
    partition_key: str
    sequence: str
    """Sequence number, zero-padded so that text sorts as the number does (56 digits do not fit a DynamoDB number)."""
    target: str
    revision: str
    outcomes: tuple[Outcome, ...]


class Step(NamedTuple):
    """Counts of one step so far."""

    candidate: Arm
    stable: Arm


class Ledger(NamedTuple):
    """An EVIDENCE item: who is compared, what was counted, what the judge has seen of it."""

    rollout_id: str
    candidate: str
    stable: str
    since: dict[int, int]
    """When each step's weight took effect, in milliseconds since 1970."""
    counts: dict[int, Step]
    looked: dict[int, Step]
    evidence: Evidence
    version: int
    restarts: int = 0
    """How often an operator has resumed the rollout in spite of what was held against it."""

    @property
    def candidate_total(self) -> Arm:
        return _sum(step.candidate for step in self.counts.values())

    @property
    def stable_total(self) -> Arm:
        return _sum(step.stable for step in self.counts.values())

    def at_step(self, step: int) -> Step:
        return self.counts.get(step, Step(Arm(), Arm()))

    def step_at(self, milliseconds: int) -> int | None:
        """The step whose weight was in force at a time; None before the first."""
        begun = [step for step, since in self.since.items() if since <= milliseconds]
        return max(begun, default=None)


def parse(shard: str, partition_key: str, sequence: str, data: bytes) -> Record:
    """Read one record of the stream.

    Raises
    ------
    ValueError
        If it is not what Telemetry writes.
    """
    try:
        body = json.loads(data)
        outcomes = tuple(Outcome(int(at), bool(ok), float(ms)) for at, ok, ms in body["outcomes"])
        target, revision = str(body["target"]), str(body["revision"])
    except (TypeError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a telemetry record: {error!r}") from None
    if len(target) > MAX_NAME or len(revision) > MAX_NAME:
        raise ValueError("not a telemetry record: target or revision is too long")
    return Record(shard, partition_key, sequence.zfill(64), target, revision, outcomes)


def take_look(ledger: Ledger, *, tolerate: float, at_least: int = LOOK_AT) -> Ledger:
    """What the judge makes of the counts it has not seen yet; a look never straddles a change of weight.

    A step's remainder is looked at when it holds ``at_least`` candidate requests, or when a later step has begun.
    """
    evidence, looked = ledger.evidence, dict(ledger.looked)
    newest = max(ledger.counts, default=0)
    for step, counts in sorted(ledger.counts.items()):
        seen = looked.get(step, Step(Arm(), Arm()))
        candidate, stable = counts.candidate.minus(seen.candidate), counts.stable.minus(seen.stable)
        if candidate.requests >= at_least or (step < newest and candidate.requests + stable.requests > 0):
            evidence = look(evidence, candidate, stable, tolerate=tolerate)
            looked[step] = counts
    return ledger._replace(evidence=evidence, looked=looked)


class Ledgers:
    """The evidence of the rollouts that run, in the table."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def open(self, rollout_id: str, *, candidate: str, stable: str, step: int, since: int) -> None:
        """Begin to count a step, whose weight took effect at ``since``; again for the same step changes nothing."""
        patiently(
            self._client.update_item,
            TableName=self._table,
            Key=_key(rollout_id),
            UpdateExpression=(
                "SET candidate = :candidate, stable = :stable, #since = if_not_exists(#since, :since), "
                "expiresAt = :expires"
            ),
            ExpressionAttributeNames={"#since": f"since_{step}"},
            ExpressionAttributeValues=to_item(
                {
                    ":candidate": candidate,
                    ":stable": stable,
                    ":since": since,
                    ":expires": int(time.time()) + 456 * 24 * 3600,
                }
            ),
        )

    def read(self, rollout_id: str) -> Ledger | None:
        """A rollout's evidence, read consistently; None where it has not shifted any traffic yet."""
        answer = self._client.get_item(TableName=self._table, Key=_key(rollout_id), ConsistentRead=True)
        return _ledger(rollout_id, from_item(answer["Item"])) if "Item" in answer else None

    def count(self, records: Iterable[Record], running: dict[str, Ledger]) -> set[str]:
        """Add records to the evidence of the rollouts that run on their targets, each record once.

        Parameters
        ----------
        records
            Records as they came, duplicates included.
        running
            The evidence of the rollout that runs on each target, by the target's key.

        Returns
        -------
        set of str
            Keys of the targets whose evidence grew.
        """
        grown: set[str] = set()
        groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            if record.target in running:
                groups[record.shard, record.partition_key].append(record)
        for chunk in _chunks(list(groups.values()), GROUPS_PER_WRITE):
            grown |= self._count_once([record for group in chunk for record in group], running)
        return grown

    def _count_once(self, relevant: list[Record], running: dict[str, Ledger]) -> set[str]:
        for attempt in range(_ATTEMPTS):
            marks = self._watermarks({(record.shard, record.partition_key) for record in relevant})
            new = [r for r in relevant if r.sequence > marks.get((r.shard, r.partition_key), "")]
            if not new:
                return set()
            try:
                self._client.transact_write_items(
                    TransactItems=[*self._advance(new, marks), *self._add(new, running)]  # type: ignore[list-item]
                )
            except ClientError as error:
                if error.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                back_off(attempt)  # Another batch of the shard was counted in between.
                continue
            return {record.target for record in new}
        raise RuntimeError(f"watermarks were moved by others {_ATTEMPTS} times in a row; the batch will be retried")

    def save_look(self, before: Ledger, after: Ledger) -> bool:
        """Keep the judge's state; False if another look was faster, whose state stands."""
        looked = {str(step): [*counts.candidate, *counts.stable] for step, counts in after.looked.items()}
        try:
            patiently(
                self._client.update_item,
                TableName=self._table,
                Key=_key(after.rollout_id),
                UpdateExpression="SET looked = :looked, logWealth = :wealth, restarts = :restarts, version = :next",
                ConditionExpression="version = :version" if before.version else "attribute_not_exists(version)",
                ExpressionAttributeValues=to_item(
                    {
                        ":looked": looked,
                        ":wealth": list(after.evidence.log_wealth),
                        ":restarts": after.restarts,
                        ":next": before.version + 1,
                        **({":version": before.version} if before.version else {}),
                    }
                ),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def look(self, rollout_id: str, *, tolerate: float, at_least: int = LOOK_AT) -> Ledger | None:
        """Look at what has been counted since the last look, and keep what came of it."""
        for _ in range(_ATTEMPTS):
            before = self.read(rollout_id)
            if before is None:
                return None
            after = take_look(before, tolerate=tolerate, at_least=at_least)
            if after.looked == before.looked or self.save_look(before, after):
                return after
        raise RuntimeError(f"the evidence of {rollout_id} was looked at by others {_ATTEMPTS} times in a row")

    def restart(self, rollout_id: str) -> None:
        """Forget the evidence and what was counted so far. It costs another alpha: the operator's to spend."""
        for _ in range(_ATTEMPTS):
            before = self.read(rollout_id)
            if before is None or self.save_look(
                before, before._replace(evidence=Evidence(), looked=before.counts, restarts=before.restarts + 1)
            ):
                return
        raise RuntimeError(f"the evidence of {rollout_id} was looked at by others {_ATTEMPTS} times in a row")

    def _watermarks(self, groups: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        marks = {}
        for shard, partition_key in groups:
            answer = self._client.get_item(
                TableName=self._table, Key=_watermark_key(shard, partition_key), ConsistentRead=True
            )
            if "Item" in answer:
                marks[shard, partition_key] = from_item(answer["Item"])["sequence"]
        return marks

    def _advance(self, new: list[Record], marks: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
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

    def _add(self, new: list[Record], running: dict[str, Ledger]) -> list[dict[str, Any]]:
        sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for record in new:
            ledger = running[record.target]
            arm = {ledger.candidate: "candidate", ledger.stable: "stable"}.get(record.revision)
            if arm is None:
                continue
            for outcome in record.outcomes:
                step = ledger.step_at(outcome.at)
                if step is not None:
                    sums[ledger.rollout_id][f"{arm}_{step}"] += 1
                    sums[ledger.rollout_id][f"{arm}Failed_{step}"] += not outcome.ok
        return [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": _key(rollout_id),
                    "UpdateExpression": "ADD " + ", ".join(f"#{name} :{name}" for name in counts),
                    "ExpressionAttributeNames": {f"#{name}": name for name in counts},
                    "ExpressionAttributeValues": to_item({f":{name}": count for name, count in counts.items()}),
                }
            }
            for rollout_id, counts in sums.items()
        ]


def _ledger(rollout_id: str, item: dict[str, Any]) -> Ledger:
    since = {int(name.removeprefix("since_")): at for name, at in item.items() if name.startswith("since_")}
    counts = {
        step: Step(
            Arm(item.get(f"candidate_{step}", 0), item.get(f"candidateFailed_{step}", 0)),
            Arm(item.get(f"stable_{step}", 0), item.get(f"stableFailed_{step}", 0)),
        )
        for step in since
    }
    looked = {int(step): Step(Arm(n1, s1), Arm(n0, s0)) for step, (n1, s1, n0, s0) in item.get("looked", {}).items()}
    evidence = Evidence(tuple(map(float, item["logWealth"]))) if "logWealth" in item else Evidence()
    return Ledger(
        rollout_id,
        item["candidate"],
        item["stable"],
        since,
        counts,
        looked,
        evidence,
        item.get("version", 0),
        item.get("restarts", 0),
    )


def _key(rollout_id: str) -> dict[str, Any]:
    return to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": "EVIDENCE"})


def _watermark_key(shard: str, partition_key: str) -> dict[str, Any]:
    return to_item({"pk": f"SHARD#{shard}", "sk": partition_key})


def _chunks(items: list[list[Record]], size: int) -> Iterable[list[list[Record]]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _sum(arms: Iterable[Arm]) -> Arm:
    total = Arm()
    for arm in arms:
        total = total.plus(arm)
    return total
