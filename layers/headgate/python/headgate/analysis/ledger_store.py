"""Ledgers of running rollouts in the table: an EVIDENCE item each, and a LOOK item per look with failures."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.analysis.evidence import REQUESTS_PER_LOOK, Ledger, Pair, Standing, reported_value, take_looks
from headgate.analysis.judge import Arm, Evidence, Reassurance
from headgate.aws.dynamodb import RETENTION_DAYS, WriteConflict, expiry, from_item, retry, retry_conflicts, to_item
from headgate.aws.errors import is_unmet
from headgate.errors import Contended

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.analysis.evidence import JudgeTerms, Look
    from headgate.spec.plan import Plan


_SAVE_ATTEMPTS = 8


class LedgerStore:
    """Reads and writes ledgers.

    Parameters
    ----------
    client
        A DynamoDB client.
    table
        Name of the table.
    retention_days
        Retention beyond the year that a rollout may take, as for its record.
    """

    def __init__(self, client: DynamoDBClient, table: str, retention_days: int = RETENTION_DAYS) -> None:
        self._client = client
        self._table = table
        self._retention_days = retention_days

    def open(self, plan: Plan, *, candidate: str, stable: str, step: int, since: int) -> Ledger:
        """Begin to count a step whose weight took effect at ``since``. A second call for the step keeps this time."""
        guards = plan.guards
        answer = retry_conflicts(
            self._client.update_item,
            TableName=self._table,
            Key=ledger_key(plan.rollout_id),
            UpdateExpression=(
                "SET candidate = :candidate, stable = :stable, #since = if_not_exists(#since, :since), "
                "shiftedAt = :since, slowMs = :slow, byTelemetry = :telemetry, expiresAt = :expires"
            ),
            ExpressionAttributeNames={"#since": f"since_{step}"},
            ExpressionAttributeValues=to_item(
                {
                    ":candidate": candidate,
                    ":stable": stable,
                    ":since": since,
                    ":slow": (guards.latency.threshold_ms if guards.latency else None) or 0,
                    ":telemetry": guards.evidence == "telemetry" and bool(guards.errors or guards.latency),
                    ":expires": expiry(self._retention_days),
                }
            ),
            ReturnValues="ALL_NEW",
        )
        return _ledger_in(plan.rollout_id, from_item(answer["Attributes"]))

    def read(self, rollout_id: str) -> Ledger | None:
        """Read a rollout's ledger consistently; None if no traffic was shifted yet."""
        answer = self._client.get_item(TableName=self._table, Key=ledger_key(rollout_id), ConsistentRead=True)
        return _ledger_in(rollout_id, from_item(answer["Item"])) if "Item" in answer else None

    def look(self, rollout_id: str, terms: JudgeTerms, *, at_least: int = REQUESTS_PER_LOOK) -> Ledger | None:
        """Take a look at the counts since the last one, and save the result."""
        return self.amend(rollout_id, lambda ledger: take_looks(ledger, terms, now=now_ms(), at_least=at_least))

    def restart(self, rollout_id: str) -> None:
        """Discard the evidence and counts so far, on an operator's decision."""
        self.amend(rollout_id, lambda ledger: (ledger.restarted(now_ms()), []))

    def amend(self, rollout_id: str, change: Callable[[Ledger], tuple[Ledger, list[Look]]]) -> Ledger | None:
        """Read, change and save a ledger. Start again if another writer was faster."""
        return retry(
            lambda: self._amend_once(rollout_id, change),
            attempts=_SAVE_ATTEMPTS,
            backs_off=True,
            failure=Contended(f"the evidence of {rollout_id} was changed by others {_SAVE_ATTEMPTS} times in a row"),
        )

    def _amend_once(self, rollout_id: str, change: Callable[[Ledger], tuple[Ledger, list[Look]]]) -> Ledger | None:
        before = self.read(rollout_id)
        if before is None:
            return None
        after, looks = change(before)
        if after == before:
            return after
        self._save(before, after)
        kept = after._replace(version=before.version + 1)
        self._record(kept, looks)
        return kept

    def _save(self, before: Ledger, after: Ledger) -> None:
        # Telemetry is added to the counts by transactions of its own; what CloudWatch said is counted here alone.
        counted = {} if after.minutes == before.minutes else _changed_columns(before, after)
        fields = {
            "looked": json.dumps([[*key, *pair.candidate, *pair.stable] for key, pair in after.looked.items()]),
            "standings": json.dumps({name: _numbers_of(standing) for name, standing in after.standings.items()}),
            "minutes": json.dumps({key: [*pair.candidate, *pair.stable] for key, pair in after.minutes.items()}),
            "restarts": after.restarts,
            "restartedAt": after.restarted_at,
            "version": before.version + 1,
            **counted,
        }
        try:
            retry_conflicts(
                self._client.update_item,
                TableName=self._table,
                Key=ledger_key(after.rollout_id),
                # Short names: an expression has at most 4 KB.
                UpdateExpression="SET " + ", ".join(f"#f{n} = :f{n}" for n in range(len(fields))),
                ConditionExpression="#version = :read" if before.version else "attribute_not_exists(#version)",
                ExpressionAttributeNames={f"#f{n}": name for n, name in enumerate(fields)} | {"#version": "version"},
                ExpressionAttributeValues=to_item(
                    {f":f{n}": value for n, value in enumerate(fields.values())}
                    | ({":read": before.version} if before.version else {})
                ),
            )
        except ClientError as error:
            if is_unmet(error):
                raise WriteConflict from None
            raise

    def _record(self, ledger: Ledger, looks: list[Look]) -> None:
        """Save the looks with failures, which explain the evidence."""
        telling = [
            {
                "measure": look.measure,
                "step": look.step,
                "candidate": look.counts.candidate._asdict(),
                "stable": look.counts.stable._asdict(),
                "value": reported_value(look.value),
            }
            for look in looks
            if look.counts.candidate.failures + look.counts.stable.failures
        ]
        if telling:
            key = {"pk": keys.rollout_pk(ledger.rollout_id), "sk": keys.look_sk(ledger.version)}
            item = to_item({**key, "at": now_ms(), "looks": telling, "expiresAt": expiry(self._retention_days)})
            retry_conflicts(self._client.put_item, TableName=self._table, Item=item)


def column(step: int, measure: str, arm: str, what: str) -> str:
    """Return the name of the attribute with a count: ``errors_0_candidate_failures``."""
    return f"{measure}_{step}_{arm}_{what}"


def ledger_key(rollout_id: str) -> dict[str, Any]:
    """Return the key of a rollout's EVIDENCE item."""
    return to_item({"pk": keys.rollout_pk(rollout_id), "sk": keys.EVIDENCE_SK})


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def _changed_columns(before: Ledger, after: Ledger) -> dict[str, int]:
    columns = {}
    for (step, measure), pair in after.counts.items():
        if pair != before.counts.get((step, measure)):
            for arm, counts in pair._asdict().items():
                for what, count in counts._asdict().items():
                    columns[column(step, measure, arm, what)] = count
    return columns


def _ledger_in(rollout_id: str, item: dict[str, Any]) -> Ledger:
    looked = json.loads(item.get("looked", "[]"))
    standings = json.loads(item.get("standings", "{}"))
    minutes = json.loads(item.get("minutes", "{}"))
    return Ledger(
        rollout_id,
        item["candidate"],
        item["stable"],
        since={int(name.removeprefix("since_")): at for name, at in item.items() if name.startswith("since_")},
        counts=_counts_in(item),
        looked={(step, measure): _pair_of(counts) for step, measure, *counts in looked},
        standings={measure: _read_standing(numbers) for measure, numbers in standings.items()},
        minutes={key: _pair_of(counts) for key, counts in minutes.items()},
        slow_ms=item["slowMs"] or None,
        by_telemetry=item["byTelemetry"],
        failing=tuple(item.get("failing", ())),
        version=item.get("version", 0),
        restarts=item.get("restarts", 0),
        restarted_at=item.get("restartedAt", 0),
        shifted_at=item.get("shiftedAt", 0),
    )


def _counts_in(item: dict[str, Any]) -> dict[tuple[int, str], Pair]:
    found: dict[tuple[int, str], dict[str, int]] = {}
    for name, count in item.items():
        measure, _, rest = name.partition("_")
        step, _, what = rest.partition("_")
        if what in _COLUMNS:
            found.setdefault((int(step), measure), {})[what] = count
    return {key: _pair_of([counts.get(what, 0) for what in _COLUMNS]) for key, counts in found.items()}


_COLUMNS = ("candidate_requests", "candidate_failures", "stable_requests", "stable_failures")


def _pair_of(counts: list[int]) -> Pair:
    candidate_requests, candidate_failures, stable_requests, stable_failures = counts
    return Pair(Arm(candidate_requests, candidate_failures), Arm(stable_requests, stable_failures))


def _numbers_of(standing: Standing) -> list[Any]:
    return [*standing.evidence, standing.reassurance.log_value, standing.at, standing.step]


def _read_standing(numbers: list[Any]) -> Standing:
    log_wealth, log_cash, pace, invested_seconds, log_reassurance, at, step = numbers
    evidence = Evidence(tuple(log_wealth), log_cash, pace, invested_seconds)
    return Standing(evidence, Reassurance(log_reassurance), at, step)
