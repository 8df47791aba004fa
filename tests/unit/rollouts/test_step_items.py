"""Bakes are stored in a short form, and read as if they were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis import ledger_store
from headgate.analysis.cloudwatch_counts import MINUTE_MS, count_points
from headgate.analysis.evidence import LATE_MS, JudgeTerms, Pair, take_looks
from headgate.analysis.judge import Arm
from headgate.analysis.ledger_store import LedgerStore
from headgate.analysis.telemetry_counter import RequestOutcome, TelemetryCounter, TelemetryRecord
from headgate.analysis.verdict import Findings, Verdict, judge_bake
from headgate.rollouts.step_items import pack_step, unpack_step
from tests.builders import TABLE, TARGET_KEY, item_bytes, start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.analysis.cloudwatch_counts import Points
    from headgate.analysis.evidence import Ledger, Look
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.spec.plan import Plan

KEY = {"pk": "ROLLOUT#checkout-42", "sk": "STEP#012#03"}
AT = "2026-11-30T10:00:02.007Z"


def measure(name: str, **fields: Any) -> dict[str, Any]:
    arms = {"candidate": {"requests": 50, "failures": 1}, "stable": {"requests": 450, "failures": 0}}
    return {"measure": name, **arms, "value": 0.368, "limit": 300.0, **fields}


EVIDENCE = {
    "measures": [
        measure("errors"),
        measure("latency", value=300.0, thresholdMs=12.5, action="pause"),
        measure("custom1", value=1e-15, limit=100.0, action="report"),
    ],
    "groups": [{"action": "rollback", "value": 0.368, "limit": 150.0}],
    "alarms": ["slow"],
    "share": {"weight": 10, "value": 2e4, "mismatch": True},
}


def kept(**fields: Any) -> dict[str, Any]:
    return unpack_step(KEY | pack_step(fields))


def test_what_is_packed_is_read_again() -> None:
    verdict = Verdict(outcome="continue", reason="so far so good", next="shift", step=13).to_wire()
    fields = {"weight": 0.5, "startedAt": AT, "endedAt": AT, "verdict": verdict, "evidence": EVIDENCE}
    assert kept(**fields) == {**KEY, "step": 12, "bake": 3, **fields}


def test_evidence_comes_in_the_order_of_the_guards() -> None:
    evidence = {"measures": [measure("custom0"), measure("errors")], "alarms": []}
    assert [each["measure"] for each in kept(evidence=evidence)["evidence"]["measures"]] == ["errors", "custom0"]


def test_the_totals_are_left_out_because_the_steps_add_up_to_them() -> None:
    whole = measure(
        "errors", candidateTotal={"requests": 90, "failures": 1}, stableTotal={"requests": 9, "failures": 1}
    )
    assert kept(evidence={"measures": [whole], "alarms": []})["evidence"]["measures"] == [measure("errors")]


@pytest.mark.parametrize("fields", [{"failed": True}, {"forced": True, "bake": 2}, {"bake_seconds": 60}, {}])
def test_every_verdict_is_read_as_it_was(fields: dict[str, Any]) -> None:
    verdict = Verdict(outcome="roll-back", reason="alarm slow fired", next="pause", step=0, **fields).to_wire()
    assert kept(verdict=verdict)["verdict"] == verdict


def test_items_of_other_kinds_and_of_earlier_versions_stay_as_they_are() -> None:
    others: list[dict[str, Any]] = [
        {"pk": "ROLLOUT#a", "sk": "PAUSE#001", "verdict": {"outcome": "continue"}},
        {**KEY, "step": 12, "bake": 3, "startedAt": AT, "verdict": {"outcome": "continue"}, "evidence": EVIDENCE},
    ]
    assert [unpack_step(item) for item in others] == others


# 200 steps and 10 guards

BEGIN = 1_795_251_600_000
STEPS, EVERY = 200, 5
"""Every fifth step is baked, and weighs as much as the four after it, which the rollout leaves out."""

METRIC = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "{revision}"}}
GUARDS = {
    "errors": {},
    "latency": {"thresholdsMs": [12.5, 20, 48, 80, 160.25, 900]},
    "custom": [
        {"name": f"lost orders {number}", "requests": METRIC, "failures": METRIC | {"metricName": "Lost"}}
        for number in range(8)
    ],
}


class LongRollout:
    """A rollout whose every step counts about a thousand requests of the candidate, and ten thousand of the stable."""

    def __init__(self, client: Any, locks: Locks, steps: Steps) -> None:
        strategy = {"steps": [{"weight": 10 + number / 10, "bakeSeconds": 300} for number in range(STEPS)]}
        self.plan: Plan = start(locks, guards=GUARDS, strategy=strategy)
        self.terms = JudgeTerms.of(self.plan.guards)
        self.ledgers, self.counter, self.steps = LedgerStore(client, TABLE), TelemetryCounter(client, TABLE), steps
        self.client, self.now = client, BEGIN

    def running_on(self, earliest: Mapping[str, int]) -> dict[str, Ledger]:  # noqa: ARG002
        ledger = self.ledgers.read(self.plan.rollout_id)
        return {TARGET_KEY: ledger} if ledger else {}

    def bake(self, step: int) -> None:
        self.ledgers.open(self.plan, candidate="7", stable="6", step=step, since=self.now)
        self.counter.count([self.record(step, "7", 1_000 + 7 * step), self.record(step, "6", 10_000 - 31 * step)], self)
        minute = self.now + MINUTE_MS
        points: Points = {
            (minute, f"custom{n}"): Pair(Arm(900 + step + n, 2), Arm(9_000 + 5 * n - step, 20 + n)) for n in range(8)
        }
        self.now += LATE_MS + 4 * MINUTE_MS
        findings = Findings(step=step, ledger=self.ledgers.amend(self.plan.rollout_id, self.counted(points)))
        verdict = judge_bake(self.plan, findings)
        assert verdict.outcome in ("continue", "promote")
        self.steps.close_step(self.plan, 1, 0, findings, verdict)

    def weigh(self) -> dict[str, int]:
        """Return the size of each item by its sort key, and take out what is not read again: a large table is slow."""
        key = {":pk": {"S": f"ROLLOUT#{self.plan.rollout_id}"}}
        answer = self.client.query(TableName=TABLE, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=key)
        for item in answer["Items"]:
            if "#" in item["sk"]["S"]:
                self.client.delete_item(TableName=TABLE, Key={name: item[name] for name in ("pk", "sk")})
        return {item["sk"]["S"]: item_bytes(item) for item in answer["Items"]}

    def counted(self, points: Points) -> Callable[[Ledger], tuple[Ledger, list[Look]]]:
        def count(ledger: Ledger) -> tuple[Ledger, list[Look]]:
            ledger, looks = count_points(ledger, self.terms, points, self.now)
            ledger, more = take_looks(ledger, self.terms, now=self.now)
            return ledger, [*looks, *more]

        return count

    def record(self, step: int, revision: str, requests: int) -> TelemetryRecord:
        durations = (8.0, 15.0, 30.0, 60.0, 100.0, 200.0, 1_000.0)
        alike = [RequestOutcome(self.now + 1, ok=True, milliseconds=duration) for duration in durations]
        failed = [alike[0]._replace(ok=False)] * (1 if revision == "7" else 12)
        outcomes = (*failed, *(alike * (requests // len(alike))))
        return TelemetryRecord("s-0", revision, f"{step:064d}", TARGET_KEY, revision, outcomes)


def test_the_record_of_200_steps_with_10_guards_stays_small(
    dynamodb: Any, locks: Locks, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a rollout by errors, six thresholds of latency and eight custom guards
    rollout = LongRollout(dynamodb, locks, steps)
    monkeypatch.setattr(ledger_store, "now_ms", lambda: rollout.now)
    sizes: dict[str, int] = {}
    for step in range(0, STEPS, EVERY):
        rollout.bake(step)
        sizes |= rollout.weigh()
    # WHEN all that it keeps of them is added up
    by_kind = {kind: [size for sk, size in sizes.items() if sk.startswith(kind)] for kind in ("EVIDENCE", "STEP#")}
    # THEN it is less than 100 KB, of which the ledger of the judge is a small part
    assert [len(found) for found in by_kind.values()] == [STEPS // EVERY, STEPS // EVERY]
    of_steps = EVERY * (sum(map(sum, by_kind.values())) - sizes["EVIDENCE"])
    assert of_steps + sizes["EVIDENCE"] < 100 * 1024, {kind: sum(found) for kind, found in by_kind.items()}
    assert sizes["EVIDENCE"] < 10_000
    # AND it has lost no count: every request was timed
    ledger = rollout.running_on({})[TARGET_KEY]
    timed = [ledger.total(key).candidate.requests for key in ("errors", "latency0", "latency5")]
    assert timed == [sum(1 + (1_000 + 7 * step) // 7 * 7 for step in range(0, STEPS, EVERY))] * 3
