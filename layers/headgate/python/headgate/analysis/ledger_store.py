"""Ledgers of running rollouts in the table.

The EVIDENCE item has the state of the judge, the counts of the newest steps, and the sum of the earlier ones. It is all
that counting, looking and a verdict read and write, so that a write costs as much in the last step as in the first. The
counts of an earlier step are in an item of its own, EVIDENCE#step. Late counts of such a step are first added to the
EVIDENCE item too, where the next look finds them. Each look with failures has a LOOK item.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from itertools import product
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.analysis.evidence import (
    REQUESTS_PER_LOOK,
    JudgeTerms,
    Ledger,
    Pair,
    Standing,
    latency_keys,
    reported_value,
    take_looks,
)
from headgate.analysis.judge import Arm, Evidence, Reassurance
from headgate.analysis.packed_counts import pack_counts, unpack_counts
from headgate.analysis.reports import Reported, Reports, Snapshot
from headgate.aws.dynamodb import RETENTION_DAYS, WriteConflict, expiry, from_item, retry, retry_conflicts, to_item
from headgate.aws.errors import is_unmet
from headgate.errors import Contended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.analysis.evidence import Look
    from headgate.spec.plan import Plan


_SAVE_ATTEMPTS = 8

_FILED_PER_WRITE = 2
"""Steps that one write files. A condition has at most 4 KB and 300 operators
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)."""

_STEPS_PER_PAGE = 10

_BY_TELEMETRY = ("errors", "latency")
"""Beginnings of the columns to which telemetry adds while a ledger is saved."""

_PACKED = "c"
"""Attribute with the counts of a filed step."""


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
        """Begin to count a step whose weight took effect at ``since``. A second call for the step keeps this time.

        The ledger that it returns has the newest steps.
        """
        guards = plan.guards
        thresholds = guards.latency.thresholds if guards.latency else []
        answer = retry_conflicts(
            self._client.update_item,
            TableName=self._table,
            Key=ledger_key(plan.rollout_id),
            UpdateExpression=(
                "SET candidate = :candidate, stable = :stable, #since = if_not_exists(#since, :since), "
                "shiftedAt = :since, reportsSince = if_not_exists(reportsSince, :since), slowMs = :slow, "
                "thresholdsMs = :thresholds, warmUp = :warm, byTelemetry = :telemetry, judged = :judged, "
                "expiresAt = :expires"
            ),
            ExpressionAttributeNames={"#since": f"since_{step}"},
            ExpressionAttributeValues=to_item(
                {
                    ":candidate": candidate,
                    ":stable": stable,
                    ":since": since,
                    ":slow": thresholds[0] if len(thresholds) == 1 else 0,
                    ":thresholds": thresholds if len(thresholds) > 1 else [],
                    ":warm": guards.latency.warm_up if guards.latency else 0,
                    ":telemetry": guards.evidence == "telemetry" and bool(guards.errors or guards.latency),
                    ":judged": [measure.key for measure in JudgeTerms.of(guards).measures],
                    ":expires": expiry(self._retention_days),
                }
            ),
            ReturnValues="ALL_NEW",
        )
        ledger = _ledger_in(plan.rollout_id, from_item(answer["Attributes"]))
        # Looks file steps too, but a rollout without traffic has none.
        if over := ledger.over(since)[:_FILED_PER_WRITE]:
            with suppress(WriteConflict):  # The next look files them.
                return self._save(ledger, ledger, over)
        return ledger

    def read(self, rollout_id: str, *, since: int | None = None) -> Ledger | None:
        """Read a rollout's ledger consistently; None if no traffic was shifted yet.

        Parameters
        ----------
        since
            Also read the filed steps that were in effect since this time, in milliseconds since 1970. Those with late
            counts are always read.
        """
        answer = self._client.get_item(TableName=self._table, Key=ledger_key(rollout_id), ConsistentRead=True)
        if "Item" not in answer:
            return None
        return self._with_filed(_ledger_in(rollout_id, from_item(answer["Item"])), since)

    def _with_filed(self, ledger: Ledger, since: int | None) -> Ledger:
        oldest = min(ledger.since, default=0)
        late = {step for step, _ in ledger.counts if step < oldest}
        if since is not None and oldest and ledger.since[oldest] > since:
            wanted = range(oldest)
        elif late:
            since, wanted = None, range(min(late), max(late) + 1)
        else:
            return ledger
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues=to_item(
                {
                    ":pk": keys.rollout_pk(ledger.rollout_id),
                    ":first": keys.evidence_sk(wanted[0]),
                    ":last": keys.evidence_sk(wanted[-1]),
                }
            ),
            ScanIndexForward=False,
            PaginationConfig={"PageSize": _STEPS_PER_PAGE},
        )
        for item in (from_item(item) for page in pages for item in page["Items"]):
            step = keys.evidence_step_in(item["sk"])
            counts = _filed_in(item)
            if since is not None or step in late:
                ledger = ledger.with_filed(step, item["since"], counts)
            late.discard(step)
            if since is not None and item["since"] <= since:
                since = None
            if since is None and not late:
                break
        return ledger

    def look(self, rollout_id: str, terms: JudgeTerms, *, at_least: int = REQUESTS_PER_LOOK) -> Ledger | None:
        """Take a look at the counts since the last one, and save the result."""
        return self.amend(rollout_id, lambda ledger: take_looks(ledger, terms, now=now_ms(), at_least=at_least))

    def restart(self, rollout_id: str) -> None:
        """Discard the evidence and counts so far, on an operator's decision."""
        self.amend(rollout_id, lambda ledger: (ledger.restarted(now_ms()), []))

    def amend(
        self, rollout_id: str, change: Callable[[Ledger], tuple[Ledger, list[Look]]], *, since: int | None = None
    ) -> Ledger | None:
        """Read, change and save a ledger. Start again if another writer was faster.

        Parameters
        ----------
        since
            As for ``read``.
        """
        # Only the first attempt files steps: a late count of one of them must not hold up the change.
        filed_per_write = iter([_FILED_PER_WRITE])
        return retry(
            lambda: self._amend_once(rollout_id, change, since, next(filed_per_write, 0)),
            attempts=_SAVE_ATTEMPTS,
            backs_off=True,
            failure=Contended(f"the evidence of {rollout_id} was changed by others {_SAVE_ATTEMPTS} times in a row"),
        )

    def _amend_once(
        self,
        rollout_id: str,
        change: Callable[[Ledger], tuple[Ledger, list[Look]]],
        since: int | None,
        filed_at_most: int,
    ) -> Ledger | None:
        before = self.read(rollout_id, since=since)
        if before is None:
            return None
        after, looks = change(before)
        if after == before:
            return after
        saved = self._save(before, after, after.over(now_ms())[:filed_at_most])
        self._record(saved, looks)
        return saved

    def _save(self, before: Ledger, changed: Ledger, over: list[int]) -> Ledger:
        """Save a changed ledger, and file the steps that are over."""
        after = changed.having_filed(over)._replace(version=before.version + 1)
        # Telemetry is added to the counts by transactions of its own; what CloudWatch said is counted here alone.
        counted = {} if after.minutes == before.minutes else _changed_columns(before, changed, leaving=over)
        fields = {
            "looked": json.dumps([[*key, *pair.candidate, *pair.stable] for key, pair in _looked_in(after)]),
            "standings": json.dumps({name: _numbers_of(standing) for name, standing in after.standings.items()}),
            **({} if after.minutes == before.minutes else {"minutes": json.dumps(_compact_minutes(after.minutes))}),
            "restarts": after.restarts,
            "restartedAt": after.restarted_at,
            **_fields_of(after.reports),
            "version": after.version,
            **counted,
        }
        if over:
            fields["earlier"] = json.dumps(
                {measure: [*pair.candidate, *pair.stable] for measure, pair in after.all_filed().items()}
            )
        # As short as can be, because an expression has at most 4 KB: twenty minutes of 17 measures in five steps, read
        # at once after an outage, are 340 columns.
        short = dict(zip(fields, _short_names(), strict=False))
        names = {f"#{short[name]}": name for name in fields} | {"#version": "version"}
        values = {f":{short[name]}": value for name, value in fields.items()}
        expression = "SET " + ",".join(f"#{each}=:{each}" for each in short.values())
        conditions = ["attribute_not_exists(#version)"]
        if before.version:
            conditions, values[":read"] = ["#version = :read"], before.version
        if over:
            leaving = _columns_of(changed, over)
            names |= {f"#s{n}": f"since_{step}" for n, step in enumerate(over)}
            names |= {f"#c{n}": name for n, name in enumerate(leaving)}
            removed = [name for name in names if name.startswith(("#s", "#c"))]
            expression += " REMOVE " + ", ".join(removed)
            for n, (name, count) in enumerate(leaving.items()):
                if not (changed.by_telemetry and name.startswith(_BY_TELEMETRY)):
                    continue  # Only who changes the version changes it.
                conditions.append(f"#c{n} = :c{n}" if count else f"attribute_not_exists(#c{n})")
                values |= {f":c{n}": count} if count else {}
        update = {
            "TableName": self._table,
            "Key": ledger_key(after.rollout_id),
            "UpdateExpression": expression,
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": to_item(values),
        }
        self._write([update, *(self._filing(after, step) for step in over)])
        return after

    def _filing(self, ledger: Ledger, step: int) -> dict[str, Any]:
        """Return the update that keeps all counts of a step in the step's own item.

        It may replace what is there: the condition on the version of the ledger holds off every other writer.
        """
        return {
            "TableName": self._table,
            "Key": to_item({"pk": keys.rollout_pk(ledger.rollout_id), "sk": keys.evidence_sk(step)}),
            "UpdateExpression": "SET #since = :since, expiresAt = :expires, #counts = :counts",
            "ExpressionAttributeNames": {"#since": "since", "#counts": _PACKED},
            "ExpressionAttributeValues": to_item(
                {
                    ":since": ledger.since[step],
                    ":counts": pack_counts(ledger.filed[step]),
                    ":expires": expiry(self._retention_days),
                }
            ),
        }

    def _write(self, updates: list[dict[str, Any]]) -> None:
        """Make updates, of which the first has a condition. Several are one transaction."""
        try:
            if len(updates) == 1:
                retry_conflicts(self._client.update_item, **updates[0])
            else:
                transaction: Any = [{"Update": update} for update in updates]
                retry_conflicts(self._client.transact_write_items, TransactItems=transaction)
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


def ledger_in(rollout_id: str, item: dict[str, Any], filed: Iterable[dict[str, Any]]) -> Ledger:
    """Return a ledger with the counts of all steps, from its EVIDENCE item and those of the filed steps."""
    ledger = _ledger_in(rollout_id, item)
    for step_item in filed:
        ledger = ledger.with_filed(keys.evidence_step_in(step_item["sk"]), step_item["since"], _filed_in(step_item))
    return ledger


def column(step: int, measure: str, arm: str, what: str) -> str:
    """Return the name of the attribute with a count: ``errors_0_candidate_failures``."""
    return f"{measure}_{step}_{arm}_{what}"


def reports_column(arm: str, how: str) -> str:
    """Return the name of the attribute with a count of reports: ``observedCandidate``."""
    return f"{how}{arm.capitalize()}"


def ledger_key(rollout_id: str) -> dict[str, Any]:
    """Return the key of a rollout's EVIDENCE item."""
    return to_item({"pk": keys.rollout_pk(rollout_id), "sk": keys.EVIDENCE_SK})


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def _short_names() -> Iterator[str]:
    """Yield names of three letters and digits, all of which begin with an f."""
    return (f"f{first}{second}" for first, second in product(ascii_letters + digits, repeat=2))


def _changed_columns(before: Ledger, after: Ledger, leaving: list[int]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for (step, measure), pair in after.counts.items():
        if step in leaving:
            continue
        filed = after.filed_at(step, measure)
        now = _columns(after, step, measure, pair.minus(filed))
        known = before.counts.get((step, measure))
        columns |= dict(now.items() - _columns(after, step, measure, known.minus(filed)).items()) if known else now
    return columns


def _columns_of(ledger: Ledger, steps: list[int]) -> dict[str, int]:
    """Return what is not filed of some steps by column, including columns that telemetry has not added yet."""
    columns: dict[str, int] = {}
    for step in steps:
        by_telemetry = dict.fromkeys(("errors", *latency_keys(len(ledger.thresholds))), Pair())
        for measure, pair in {**by_telemetry, **ledger.not_filed(step)}.items():
            columns |= _columns(ledger, step, measure, pair)
    return columns


def _columns(ledger: Ledger, step: int, measure: str, pair: Pair) -> dict[str, int]:
    """Return counts by column. All thresholds of a telemetry guard share the column with the requests."""
    shared = ledger.by_telemetry and len(ledger.thresholds) > 1 and measure.startswith("latency")
    named = {"requests": "latency" if shared else measure, "failures": measure}
    return {
        column(step, named[what], arm, what): count
        for arm, counts in pair._asdict().items()
        for what, count in counts._asdict().items()
    }


def _looked_in(ledger: Ledger) -> Iterator[tuple[tuple[int, str], Pair]]:
    """Yield what was looked at of the counts in the EVIDENCE item."""
    for (step, measure), pair in ledger.looked.items():
        looked = pair.minus(ledger.filed_at(step, measure))
        if step not in ledger.filed or looked != Pair():
            yield (step, measure), looked


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
        minutes=_minutes_in(minutes),
        thresholds=tuple(item.get("thresholdsMs") or ([item["slowMs"]] if item["slowMs"] else [])),
        warm_up=item.get("warmUp", 0),
        by_telemetry=item["byTelemetry"],
        failing=tuple(item.get("failing", ())),
        version=item.get("version", 0),
        restarts=item.get("restarts", 0),
        restarted_at=item.get("restartedAt", 0),
        shifted_at=item.get("shiftedAt", 0),
        judged=tuple(item["judged"]) if "judged" in item else None,
        earlier={measure: _pair_of(counts) for measure, counts in json.loads(item.get("earlier", "{}")).items()},
        reports=_reports_in(item),
    )


def _fields_of(reports: Reports) -> dict[str, Any]:
    """Return the fields of reports but for the counts, which only the counter changes."""
    if not reports.since:
        return {}
    return {
        "reportsSince": reports.since,
        "reportsBefore": json.dumps(reports.before),
        "snapshots": json.dumps(reports.snapshots),
    }


def _reports_in(item: dict[str, Any]) -> Reports:
    candidate, stable = (
        Reported(*(item.get(reports_column(arm, how), 0) for how in Reported._fields))
        for arm in ("candidate", "stable")
    )
    candidate_before, stable_before = json.loads(item.get("reportsBefore", "[[], []]"))
    return Reports(
        item.get("reportsSince", 0),
        candidate,
        stable,
        (Reported(*candidate_before), Reported(*stable_before)),
        tuple(
            Snapshot(at, Reported(*of_candidate), Reported(*of_stable), *flags)
            for at, of_candidate, of_stable, *flags in json.loads(item.get("snapshots", "[]"))
        ),
    )


def _counts_in(item: dict[str, Any]) -> dict[tuple[int, str], Pair]:
    found: dict[tuple[int, str], dict[str, int]] = {}
    for name, count in item.items():
        measure, _, rest = name.partition("_")
        step, _, what = rest.partition("_")
        if what in _COLUMNS:
            found.setdefault((int(step), measure), {})[what] = count
    if thresholds := item.get("thresholdsMs"):
        _share_requests(found, latency_keys(len(thresholds)))
    return {key: _pair_of([counts.get(what, 0) for what in _COLUMNS]) for key, counts in found.items()}


def _share_requests(found: dict[tuple[int, str], dict[str, int]], measures: list[str]) -> None:
    """Give each threshold the requests that telemetry counted for all of them."""
    for step, shared in [(step, counts) for (step, measure), counts in found.items() if measure == "latency"]:
        del found[step, "latency"]
        for measure in measures:
            found[step, measure] = {**shared, **found.get((step, measure), {})}


def _filed_in(item: dict[str, Any]) -> dict[str, Pair]:
    """Return the counts of a filed step by measure. Earlier versions of Headgate filed them in columns."""
    if _PACKED in item:
        return unpack_counts(item[_PACKED])
    return {measure: pair for (_, measure), pair in _counts_in(item).items()}


_COLUMNS = ("candidate_requests", "candidate_failures", "stable_requests", "stable_failures")


def _pair_of(counts: list[int]) -> Pair:
    candidate_requests, candidate_failures, stable_requests, stable_failures = counts
    return Pair(Arm(candidate_requests, candidate_failures), Arm(stable_requests, stable_failures))


def _compact_minutes(minutes: dict[str, Pair]) -> dict[str, list[int]]:
    """Return the counts of minutes by measure: the minute and its four counts one after the other."""
    compact: dict[str, list[int]] = {}
    for key, pair in minutes.items():
        minute, _, measure = key.partition("/")
        compact.setdefault(measure, []).extend((int(minute), *pair.candidate, *pair.stable))
    return compact


def _minutes_in(minutes: dict[str, list[int]]) -> dict[str, Pair]:
    """Return the counts of minutes. Earlier versions of Headgate had a key for each minute and measure."""
    found = {}
    for name, numbers in minutes.items():
        if "/" in name:
            found[name] = _pair_of(numbers)
            continue
        for start in range(0, len(numbers), 5):
            found[f"{numbers[start]}/{name}"] = _pair_of(numbers[start + 1 : start + 5])
    return found


def _numbers_of(standing: Standing) -> list[Any]:
    return [*standing.evidence, standing.reassurance.log_value, standing.at, standing.step]


def _read_standing(numbers: list[Any]) -> Standing:
    log_wealth, log_cash, pace, invested_seconds, log_reassurance, at, step = numbers
    evidence = Evidence(tuple(log_wealth), log_cash, pace, invested_seconds)
    return Standing(evidence, Reassurance(log_reassurance), at, step)
