"""Observer: each minute one look at CloudWatch, for all rollouts at once, and a signal when the evidence is in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis import report_checks
from headgate.analysis.cloudwatch_counts import MINUTE_MS
from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm
from headgate.analysis.reports import SETTLED_MS
from headgate.aws.dynamodb import to_item
from headgate.aws.observability import logger
from tests.builders import TABLE, TARGET, bake, settle, start, unheard
from tests.fakes.cloudwatch import FIVE_MINUTES, FakeCloudWatch, shop
from tests.fakes.functions import Functions
from tests.fakes.services import FakeLambda, FakeStepFunctions
from tests.unit.functions.payloads import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan


@pytest.fixture(scope="module")
def deployed(_nobodys_account: None) -> Functions:
    return Functions()


@pytest.fixture(autouse=True)
def machines(deployed: Functions) -> Iterator[FakeStepFunctions]:
    fake = FakeStepFunctions()
    detach = fake.attach(deployed.client("stepfunctions"))
    yield fake
    detach()


@pytest.fixture(autouse=True)
def cloudwatch(deployed: Functions) -> Iterator[FakeCloudWatch]:
    fake = FakeCloudWatch()
    detach = fake.attach(deployed.client("cloudwatch"))
    yield fake
    detach()


def ago(minutes: float) -> int:
    """The beginning of a minute, in milliseconds since 1970."""
    return (int(time.time() * 1000) // MINUTE_MS - round(minutes)) * MINUTE_MS


class Rollouts:
    """Rollouts whose first step began ten minutes ago and still bakes."""

    def __init__(self, locks: Locks, steps: Steps, ledgers: LedgerStore, machines: FakeStepFunctions) -> None:
        self._locks, self._steps, self._ledgers, self._machines = locks, steps, ledgers, machines

    def begin(self, rollout_id: str = "checkout-42", **guards: Any) -> Plan:
        guards = guards or {"errors": {}, "evidence": "cloudwatch"}
        target = TARGET | {"function": rollout_id}
        plan = start(self._locks, rollout_id, target=target, strategy=FIVE_MINUTES, guards=guards)
        self._ledgers.open(plan, candidate="7", stable="6", step=0, since=ago(10))
        bake(self._steps, plan, token=rollout_id)
        self._machines.open_tokens.add(rollout_id)
        return plan

    def errors(self, rollout_id: str = "checkout-42") -> Pair:
        ledger = self._ledgers.read(rollout_id)
        assert ledger is not None
        return ledger.total("errors")


@pytest.fixture
def rollouts(locks: Locks, steps: Steps, ledgers: LedgerStore, machines: FakeStepFunctions) -> Rollouts:
    return Rollouts(locks, steps, ledgers, machines)


def failing(cloudwatch: FakeCloudWatch) -> None:
    """The candidate fails a fifth of its requests, the stable version none."""
    for number in (2, 3, 4):
        for key, value in ((("Invocations", "7"), 50.0), (("Errors", "7"), 10.0), (("Invocations", "6"), 450.0)):
            cloudwatch.values.setdefault(key, {})[ago(number)] = value


def test_a_failing_candidate_ends_its_bake_and_the_record_says_why(
    table: Table, rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, machines: FakeStepFunctions
) -> None:
    # GIVEN a candidate that fails in the middle of its bake
    rollouts.begin()
    failing(cloudwatch)
    # WHEN the minute is over
    (looked,) = deployed.call("observer")["looked"]
    # THEN the bake is woken, and the signal has the sentence
    assert machines.woken == {"checkout-42": {"signal": "evidence"}}
    (signal,) = unheard(table)
    assert (signal["signal"], signal["by"]) == ("evidence", "judge")
    assert signal["reason"] == looked["reason"]
    assert signal["reason"].startswith("30 of 150 candidate requests failed against 0 of 1,350; odds against chance")


def test_a_good_candidate_bakes_on(
    table: Table, rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, machines: FakeStepFunctions
) -> None:
    rollouts.begin()
    failing(cloudwatch)
    del cloudwatch.values["Errors", "7"]
    assert deployed.call("observer")["looked"] == [{"rolloutId": "checkout-42", "points": 3, "reason": ""}]
    assert (machines.woken, unheard(table)) == ({}, [])


def test_looking_again_counts_nothing_twice(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, ledgers: LedgerStore
) -> None:
    rollouts.begin()
    failing(cloudwatch)
    deployed.call("observer")
    seen = ledgers.read("checkout-42")
    deployed.call("observer")
    assert ledgers.read("checkout-42") == seen
    assert rollouts.errors() == Pair(Arm(150, 30), Arm(1350, 0))


def test_all_rollouts_share_one_call(rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions) -> None:
    failing(cloudwatch)
    for number in range(3):
        rollouts.begin(f"shop-{number}")
    assert len(deployed.call("observer")["looked"]) == 3
    assert len(cloudwatch.calls) == 1


def test_only_rollouts_that_are_judged_by_cloudwatch_are_looked_at(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, locks: Locks
) -> None:
    # GIVEN one by telemetry, one by alarms, one that has not shifted yet and one that has ended
    rollouts.begin("by-telemetry", errors={})
    rollouts.begin("by-alarms", alarms=["checkout-errors"])
    start(locks, "not-shifted", target=TARGET, strategy=FIVE_MINUTES, guards={"errors": {}, "evidence": "cloudwatch"})
    rollouts.begin("ended")
    settle(locks, "ended")
    # THEN nobody asks CloudWatch, which costs money
    assert deployed.call("observer") == {"looked": []}
    assert cloudwatch.calls == []


def test_a_custom_guard_is_looked_at_where_telemetry_counts_the_errors(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions
) -> None:
    custom = [{"name": "lost orders", "requests": shop("Orders"), "failures": shop("Lost")}]
    rollouts.begin(errors={}, custom=custom)
    cloudwatch.values = {
        ("Orders", "7"): {ago(2): 50.0},
        ("Lost", "7"): {ago(2): 30.0},
        ("Orders", "6"): {ago(2): 450.0},
        ("Invocations", "7"): {ago(2): 999.0},
    }
    (looked,) = deployed.call("observer")["looked"]
    assert looked["reason"].startswith(
        "30 of 50 candidate requests failed (lost orders) against 0 of 450; odds against chance"
    )
    assert rollouts.errors() == Pair()


def counted(*, failures: int = 0) -> dict[str, Any]:
    """What a function answers: the minute before last."""
    minute = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(ago(2) / 1000))
    candidate, stable = {"requests": 50, "failures": failures}, {"requests": 450, "failures": 0}
    return {"minutes": [{"minute": minute, "candidate": candidate, "stable": stable}]}


BY_FUNCTION = [{"name": "lost orders", "counts": {"lambda": "shop-counts"}}]


def test_a_guard_whose_function_counts_is_judged_and_asks_cloudwatch_nothing(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, checkout: FakeLambda
) -> None:
    checkout.others["shop-counts"] = lambda _: counted(failures=30)
    rollouts.begin(custom=BY_FUNCTION)
    (looked,) = deployed.call("observer")["looked"]
    assert looked["points"] == 1
    assert looked["reason"].startswith("30 of 50 candidate requests failed (lost orders) against 0 of 450; odds")
    assert [event["revisions"] for event in checkout.asked] == [{"candidate": "7", "stable": "6"}]
    assert cloudwatch.calls == []


def test_a_function_that_fails_keeps_nobody_waiting_and_fails_no_look(
    rollouts: Rollouts,
    cloudwatch: FakeCloudWatch,
    deployed: Functions,
    checkout: FakeLambda,
    machines: FakeStepFunctions,
) -> None:
    # GIVEN a rollout whose function is broken, and two that fail: by CloudWatch, and by another function
    checkout.others = {"broken": lambda _: {"minutes": "many"}, "shop-counts": lambda _: counted(failures=30)}
    rollouts.begin("by-broken", custom=[BY_FUNCTION[0] | {"counts": {"lambda": "broken"}}])
    rollouts.begin("by-function", custom=BY_FUNCTION)
    rollouts.begin("by-cloudwatch")
    failing(cloudwatch)
    # WHEN they are looked at THEN both others are judged, CloudWatch's first, and nothing is raised
    looked = deployed.call("observer")["looked"]
    assert [each["rolloutId"] for each in looked] == ["by-cloudwatch", "by-broken", "by-function"]
    assert machines.woken == {name: {"signal": "evidence"} for name in ("by-cloudwatch", "by-function")}


def test_a_rollout_may_be_judged_by_cloudwatch_and_a_function(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, checkout: FakeLambda, ledgers: LedgerStore
) -> None:
    checkout.others["shop-counts"] = lambda _: counted()
    rollouts.begin(errors={}, evidence="cloudwatch", custom=BY_FUNCTION)
    cloudwatch.values = {("Invocations", "7"): {ago(2): 40.0}, ("Invocations", "6"): {ago(2): 400.0}}
    deployed.call("observer")
    ledger = ledgers.read("checkout-42")
    assert ledger is not None
    assert {name: ledger.total(name) for name in ("errors", "custom0")} == {
        "errors": Pair(Arm(40, 0), Arm(400, 0)),
        "custom0": Pair(Arm(50, 0), Arm(450, 0)),
    }
    assert len(cloudwatch.calls) == 1


def test_a_query_that_cloudwatch_refuses_keeps_nobody_else_waiting(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, machines: FakeStepFunctions
) -> None:
    # GIVEN a rollout with an expression that nobody can read, which fails a call for all
    failures = {"expression": "SUM(all", "metrics": {"all": shop("Orders")}}
    rollouts.begin("unreadable", custom=[{"name": "g", "requests": shop("Orders"), "failures": failures}])
    rollouts.begin("readable")
    failing(cloudwatch)
    # WHEN it is looked at THEN the other is judged, and the failure is told
    with pytest.raises(ExceptionGroup, match=r"unreadable: .*Error in expression"):
        deployed.call("observer")
    assert machines.woken == {"readable": {"signal": "evidence"}}


def test_a_rollout_that_cannot_be_looked_at_keeps_nobody_else_waiting(
    rollouts: Rollouts,
    cloudwatch: FakeCloudWatch,
    deployed: Functions,
    machines: FakeStepFunctions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for rollout_id in ("broken", "sound"):
        rollouts.begin(rollout_id)
    failing(cloudwatch)
    signaller = deployed.module("observer").app.signaller
    report = signaller.report

    def break_down(ledger: Any, terms: Any) -> str:
        if ledger.rollout_id == "broken":
            raise RuntimeError("out of luck")
        return str(report(ledger, terms))

    monkeypatch.setattr(signaller, "report", break_down)
    with pytest.raises(ExceptionGroup, match=r"^broken: out of luck$"):
        deployed.call("observer")
    assert machines.woken == {"sound": {"signal": "evidence"}}
    # AND the next minute tells what this one could not
    monkeypatch.setattr(signaller, "report", report)
    deployed.call("observer")
    assert "broken" in machines.woken


def test_a_record_that_cannot_be_read_keeps_nobody_else_waiting(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
) -> None:
    for rollout_id in ("broken", "sound"):
        rollouts.begin(rollout_id)
    failing(cloudwatch)
    dynamodb.update_item(
        TableName=TABLE,
        Key=to_item({"pk": "ROLLOUT#broken", "sk": "ROLLOUT"}),
        UpdateExpression="SET #plan = :damaged",
        ExpressionAttributeNames={"#plan": "plan"},
        ExpressionAttributeValues={":damaged": {"S": "{"}},
    )
    with pytest.raises(ExceptionGroup, match=r"^broken: "):
        deployed.call("observer")
    assert machines.woken == {"sound": {"signal": "evidence"}}


def test_what_the_observer_counted_the_judge_counts_no_more(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions
) -> None:
    plan = rollouts.begin()
    failing(cloudwatch)
    deployed.call("observer")
    look = deployed.module("judge").findings_of.last_look  # It looks at CloudWatch once more when the bake is over.
    cloudwatch.values["Invocations", "7"][ago(1)] = 8.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boto3.client", deployed.client)
        seen = look(plan, 0, {})
    assert seen.total("errors") == Pair(Arm(158, 30), Arm(1350, 0))


def test_minutes_of_a_step_that_the_judge_is_the_first_to_see_are_not_taken_for_the_step_before(
    rollouts: Rollouts, cloudwatch: FakeCloudWatch, deployed: Functions
) -> None:
    # GIVEN a second step that began five minutes ago, and that nobody has begun to count
    plan = rollouts.begin()
    cloudwatch.values = {("Invocations", "7"): {ago(7): 10.0, ago(2): 20.0}}
    state = {"candidate": "7", "stable": "6", "shiftedAt": ago(5)}
    # WHEN the judge looks
    look = deployed.module("judge").findings_of.last_look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boto3.client", deployed.client)
        seen = look(plan, 1, state)
    # THEN each minute counts for its step, of one question to CloudWatch
    assert [seen.counts[step, "errors"].candidate for step in (0, 1)] == [Arm(10, 0), Arm(20, 0)]
    assert len(cloudwatch.calls) == 1


class TestTelemetry:
    """A candidate that mends what the stable version breaks, reported by ``observe``."""

    KEY = "lambda-alias/checkout-42/live"

    @pytest.fixture(autouse=True)
    def _reported(self, rollouts: Rollouts, deployed: Functions) -> None:
        rollouts.begin(errors={}, promoteEarly={})
        records = [
            telemetry("6", ok=False, requests=90, sequence=1, at=ago(5), observed=True, target=self.KEY),
            telemetry("7", ok=True, requests=90, sequence=2, at=ago(5), observed=True, target=self.KEY),
        ]
        deployed.call("counter", {"Records": records})

    @staticmethod
    def _lambda_counts(cloudwatch: FakeCloudWatch, candidate: float) -> None:
        for version, count in (("7", candidate), ("6", 90.0), ("", candidate + 90)):
            cloudwatch.values["Invocations", version] = {ago(5): count}

    def test_an_early_promotion_waits_until_lambda_has_counted_what_was_observed(
        self, cloudwatch: FakeCloudWatch, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # GIVEN enough evidence, of which CloudWatch knows nothing yet
        assert machines.woken == {}
        deployed.call("observer")
        assert machines.woken == {}
        # WHEN it knows, THEN the bake ends
        self._lambda_counts(cloudwatch, 90)
        deployed.call("observer")
        assert machines.woken == {"checkout-42": {"signal": "promote-early"}}
        assert [len(call["MetricDataQueries"]) for call in cloudwatch.calls] == [3, 3]

    def test_a_forged_flood_does_not_promote_early_and_the_log_tells_it(
        self,
        cloudwatch: FakeCloudWatch,
        deployed: Functions,
        machines: FakeStepFunctions,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        told: list[dict[str, Any]] = []
        monkeypatch.setattr(logger, "warning", lambda _, **fields: told.append(fields))
        self._lambda_counts(cloudwatch, 9)
        deployed.call("observer")
        assert machines.woken == {}
        # WHEN CloudWatch has had its time
        monkeypatch.setattr(report_checks, "now_ms", lambda: int(time.time() * 1000) + SETTLED_MS)
        deployed.call("observer")
        assert machines.woken == {}
        (excess,) = told
        assert excess["reason"].startswith(
            "telemetry reported 90 requests of version 7, but Lambda counted 9 invocations; check which roles"
        )

    def test_failures_of_the_candidate_wake_the_bake_at_once(
        self, deployed: Functions, cloudwatch: FakeCloudWatch, machines: FakeStepFunctions
    ) -> None:
        failures = [
            telemetry("6", ok=True, requests=900, sequence=3, at=ago(4), observed=True, target=self.KEY),
            telemetry("7", ok=False, requests=900, sequence=4, at=ago(4), observed=True, target=self.KEY),
        ]
        deployed.call("counter", {"Records": failures})
        assert machines.woken == {"checkout-42": {"signal": "evidence"}}
        assert cloudwatch.calls == []


def test_a_promoted_rollout_is_watched_although_another_one_cannot_be_judged(
    table: Table,
    locks: Locks,
    rollouts: Rollouts,
    cloudwatch: FakeCloudWatch,
    deployed: Functions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # GIVEN a promoted rollout whose alarm is deleted, and a rollout whose counts cannot be read
    start(locks, "promoted", guards={"alarms": ["errors"]}, afterPromotion={"hours": 1, "then": "report"})
    settle(locks, "promoted")
    rollouts.begin("broken")
    described: dict[str, list[Any]] = {"MetricAlarms": [], "CompositeAlarms": []}
    monkeypatch.setattr(cloudwatch, "DescribeAlarms", lambda **_: described, raising=False)
    monkeypatch.setattr(cloudwatch, "GetMetricData", lambda **_: {}, raising=False)
    # WHEN the minute is over, THEN the look fails and the fault is on record
    with pytest.raises(KeyError, match="MetricDataResults"):
        deployed.call("observer")
    record = table.rollout("promoted")
    assert record is not None
    assert record.watch["reason"] == "alarm errors was deleted, so it no longer guards the rollout"
