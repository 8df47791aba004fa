"""The function judge."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from headgate.analysis import ledger_store
from headgate.analysis.judge import Evidence
from headgate.analysis.ledger_store import now_ms
from tests.builders import (
    announced,
    event,
)
from tests.fakes.cloudwatch import FakeCloudWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda, FakeStepFunctions
from tests.unit.functions.payloads import a_moment_later, an_hour_ago, change_record, record_of, telemetry


class TestJudge:
    def test_a_healthy_bake_goes_on(
        self, table: Table, baking: str, deployed: Functions, ledgers: LedgerStore, alarm: Any
    ) -> None:
        deployed.call("counter", {"Records": [telemetry("7", ok=True, requests=50, sequence=1)]})
        deployed.call("counter", {"Records": [telemetry("6", ok=True, requests=450, sequence=2)]})
        verdict = deployed.call("judge")
        assert (verdict["outcome"], verdict["next"], verdict["step"]) == ("promote", "promote", 1)
        assert (
            verdict["reason"]
            == "0 of 50 candidate requests failed against 0 of 450; odds against chance 1 to 1, under the limit of "
            "100 to 1"
        )
        assert [kind for kind, _ in announced(table, "checkout-42")][1:] == [
            "Step Baked",
            "Step Started",
            "Verdict Reached",
        ]

    def test_its_verdict_stands_when_it_is_asked_again(self, baking: str, deployed: Functions, alarm: Any) -> None:
        first = deployed.call("judge")
        alarm("ALARM")
        assert deployed.call("judge") == first
        assert first["outcome"] == "inconclusive"

    def test_an_alarm_that_fires_rolls_back(self, baking: str, deployed: Functions, alarm: Any) -> None:
        alarm("ALARM")
        verdict = deployed.call("judge")
        assert (verdict["outcome"], verdict["reason"]) == ("roll-back", "alarm checkout-errors fired")

    def test_an_alarm_that_is_deleted_rolls_back_and_is_not_said_to_have_fired(
        self, baking: str, deployed: Functions, alarm: Any, clients: dict[str, Any]
    ) -> None:
        clients["cloudwatch"].delete_alarms(AlarmNames=["checkout-errors"])
        verdict = deployed.call("judge")
        reason = "alarm checkout-errors was deleted, so it no longer guards the rollout"
        assert (verdict["outcome"], verdict["reason"]) == ("roll-back", reason)

    def test_an_alarm_that_fired_before_counts_only_after_it_has_recovered(
        self, baking: str, deployed: Functions, alarm: Any, dynamodb: Any
    ) -> None:
        alarm("ALARM")
        payload = event("judge")
        payload["plan"]["firing"] = ["checkout-errors"]
        change_record(dynamodb, startedAt=a_moment_later())
        assert deployed.call("judge", payload)["outcome"] == "inconclusive"
        change_record(dynamodb, startedAt=an_hour_ago())
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "roll-back"

    def test_after_a_pause_what_fired_in_it_counts_only_after_it_has_recovered(
        self, paused: str, deployed: Functions, alarm: Any, dynamodb: Any
    ) -> None:
        # GIVEN a pause that is resumed while an alarm fires
        alarm("ALARM")
        deployed.call("signaller", event("rollout_signal_resume"))
        payload = event("judge")
        assert deployed.call("judge", payload | {"pause": 1, "failed": False, "bake": 1})["next"] == "shift"
        # WHEN the next bake is judged, THEN it counts once it has recovered in between
        change_record(dynamodb, watchedSince=a_moment_later())
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "inconclusive"
        change_record(dynamodb, watchedSince=an_hour_ago())
        assert deployed.call("judge", payload | {"bake": 2})["outcome"] == "roll-back"

    def test_resuming_starts_from_a_clean_slate(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions, ledgers: LedgerStore
    ) -> None:
        # GIVEN evidence that ended a bake, and a pause for it
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        deployed.call("counter", {"Records": records})
        payload = event("judge")
        payload["plan"] |= {"pausesOnFailure": True}
        verdict = deployed.call("judge", payload)
        assert (verdict["outcome"], verdict["next"], verdict["failed"]) == ("roll-back", "pause", True)
        deployed.call("pauser", event("pauser") | {"verdict": verdict})
        # WHEN an operator resumes it
        deployed.call("signaller", event("rollout_signal_resume"))
        ended = deployed.call("judge", payload | {"pause": 1, "failed": True, "bake": verdict["bake"]})
        assert (ended["next"], ended["step"], ended["bake"]) == ("shift", 0, 1)
        assert ended["reason"] == "resumed by kim: the logs are clean"
        # THEN nothing is held against the candidate any more, and the next time it is a signal of its own
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert (ledger.standing("errors").evidence, ledger.restarts) == (Evidence(), 1)
        late = [telemetry("6", ok=True, requests=90, sequence=3), telemetry("7", ok=False, requests=10, sequence=4)]
        deployed.call("counter", {"Records": late})
        assert list(record_of(table)["signals"]) == ["evidence-0", event("rollout_signal_resume")["id"]]
        at = now_ms() + 1000
        records = [
            telemetry("6", ok=True, requests=90, sequence=5, at=at),
            telemetry("7", ok=False, requests=10, sequence=6, at=at),
        ]
        deployed.call("counter", {"Records": records})
        assert "evidence-1" in record_of(table)["signals"]

    def test_a_guard_that_pauses_waits_for_an_operator_and_is_forgiven_when_one_goes_on(
        self,
        table: Table,
        baking: str,
        deployed: Functions,
        machines: FakeStepFunctions,
        ledgers: LedgerStore,
        dynamodb: Any,
    ) -> None:
        # GIVEN a guard that pauses, and evidence that ended a bake
        payload = event("judge")
        payload["plan"]["guards"] |= {"errors": {"tolerate": 0.0, "action": "pause"}}
        change_record(dynamodb, plan=json.dumps(payload["plan"]))
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        deployed.call("counter", {"Records": records})
        assert list(record_of(table)["signals"]) == ["doubt-0"]
        verdict = deployed.call("judge", payload)
        assert (verdict["outcome"], verdict["next"], verdict["failed"]) == ("inconclusive", "pause", False)
        assert "10 of 10 candidate requests failed against 0 of 90" in verdict["reason"]
        # WHEN an operator resumes it
        deployed.call("pauser", event("pauser") | {"verdict": verdict})
        deployed.call("signaller", event("rollout_signal_resume"))
        ended = deployed.call("judge", payload | {"pause": 1, "failed": False, "bake": verdict["bake"]})
        # THEN nothing is held against the candidate any more
        assert (ended["next"], ended["reason"]) == ("shift", "resumed by kim: the logs are clean")
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert (ledger.standing("errors").evidence, ledger.restarts) == (Evidence(), 1)

    def test_a_pauses_verdict_stands_when_it_is_asked_again(
        self, paused: str, deployed: Functions, alarm: Any, table: Table
    ) -> None:
        alarm("OK")
        payload = event("judge") | {"pause": 1, "failed": False, "bake": 1}
        first = deployed.call("judge", payload)
        assert (first["outcome"], first["reason"]) == ("roll-back", "no operator decided within 86400 s")
        deployed.call("signaller", event("rollout_signal_abort"))
        assert deployed.call("judge", payload) == first

    def test_a_step_that_does_not_bake_begins_to_count_when_it_is_judged(
        self, running: Plan, deployed: Functions, alarm: Any, ledgers: LedgerStore
    ) -> None:
        alarm("OK")
        payload = event("judge")
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 0}]
        assert deployed.call("judge", payload)["next"] == "promote"
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.since == {0: payload["state"]["shiftedAt"]}

    def test_it_looks_at_the_last_counts_before_it_judges(self, baking: str, deployed: Functions, alarm: Any) -> None:
        records = [
            telemetry("6", ok=True, requests=40, sequence=1),
            telemetry("7", ok=False, requests=4, sequence=2),
        ]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge")
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("4 of 4 candidate requests failed against 0 of 40")

    def test_it_looks_also_at_what_is_too_little_for_the_counter_to_look_at(
        self, baking: str, deployed: Functions, ledgers: LedgerStore
    ) -> None:
        records = [telemetry("6", ok=True, requests=40, sequence=1), telemetry("7", ok=False, requests=1, sequence=2)]
        deployed.call("counter", {"Records": records})
        before = ledgers.read("checkout-42")
        assert before is not None
        assert before.standings == {}
        deployed.call("judge")
        after = ledgers.read("checkout-42")
        assert after is not None
        assert after.standing("errors").evidence.value > 1

    def test_slow_requests_are_reason_enough(self, guarded: Any, table: Table, deployed: Functions) -> None:
        payload = guarded(errors={}, latency={"thresholdMs": 100})
        records = [
            telemetry("6", ok=True, requests=90, sequence=1),
            telemetry("7", ok=True, requests=20, sequence=2, took=250.0),
        ]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge", payload)
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("20 of 20 candidate requests took more than 100 ms against 0 of 90; ")
        baked = dict(announced(table, "checkout-42"))["Step Baked"]
        assert baked["endedBy"] == "evidence"
        failures = {told["measure"]: told["candidate"]["failures"] for told in baked["evidence"]["measures"]}
        assert failures == {"errors": 0, "latency": 20}

    def test_a_candidate_that_is_good_enough_is_promoted_early(
        self, guarded: Any, table: Table, deployed: Functions
    ) -> None:
        payload = guarded(errors={}, promoteEarly={"worse": 1.0, "beta": 0.05})
        payload["plan"]["steps"].append({"weight": 50.0, "bakeSeconds": 60})
        records = [telemetry("6", ok=False, requests=90, sequence=1), telemetry("7", ok=True, requests=90, sequence=2)]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge", payload)
        assert (verdict["outcome"], verdict["next"], verdict["step"]) == ("promote", "promote", 2)
        assert verdict["reason"] == (
            "0 of 90 candidate requests failed against 90 of 90; a candidate 2 times as bad is ruled out at 0.05"
        )
        assert dict(announced(table, "checkout-42"))["Step Baked"]["endedBy"] == "promote-early"

    def test_what_cloudwatch_has_by_now_is_looked_at_once(
        self, guarded: Any, deployed: Functions, ledgers: LedgerStore
    ) -> None:
        # GIVEN a bake of which CloudWatch has told nothing yet
        minute = (int(time.time()) // 60 - 5) * 60_000
        payload = guarded(shifted_at=minute - 60_000, errors={}, evidence="cloudwatch")
        points = {("Invocations", "7"): 50.0, ("Errors", "7"): 25.0, ("Invocations", "6"): 450.0}
        cloudwatch = FakeCloudWatch()
        cloudwatch.values |= {key: {minute: value} for key, value in points.items()}
        detach = cloudwatch.attach(deployed.client("cloudwatch"))
        # WHEN the bake is judged, THEN its counts decide
        try:
            verdict = deployed.call("judge", payload)
        finally:
            detach()
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("25 of 50 candidate requests failed against 0 of 450; odds against chance ")
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert list(ledger.minutes) == [f"{minute // 60_000}/errors"]


class TestTelemetryAgainstLambdasCounts:
    """One step of 10 %, of which ``observe`` reports 900 requests of the stable version."""

    @pytest.fixture
    def cloudwatch(self, deployed: Functions) -> Iterator[FakeCloudWatch]:
        fake = FakeCloudWatch()
        detach = fake.attach(deployed.client("cloudwatch"))
        yield fake
        detach()

    @pytest.fixture
    def judge(self, guarded: Any, deployed: Functions, cloudwatch: FakeCloudWatch) -> Callable[..., Any]:
        """Counts these requests of the candidate, and judges the last bake."""
        payload = guarded(errors={})
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 300}]
        sequences = itertools.count(1)

        def judge(requests: int, *, bake: int = 0, ok: bool = True, observed: bool = True) -> Any:
            records = [
                telemetry("6", ok=True, requests=0 if bake else 900, sequence=next(sequences), observed=observed),
                telemetry("7", ok=ok, requests=requests, sequence=next(sequences), observed=observed),
            ]
            deployed.call("counter", {"Records": records})
            return deployed.call("judge", payload | {"bake": bake})

        return judge

    def lambda_counts(self, cloudwatch: FakeCloudWatch, candidate: float, stable: float) -> None:
        minute = 1795251604000 // 60_000 * 60_000
        for version, count in (("7", candidate), ("6", stable), ("", candidate + stable)):
            cloudwatch.values["Invocations", version] = {minute: count}

    def test_a_promotion_waits_until_lambda_has_counted_what_was_observed(
        self, judge: Callable[..., Any], cloudwatch: FakeCloudWatch, table: Table
    ) -> None:
        # GIVEN a good candidate, of which CloudWatch knows nothing yet
        held = judge(100)
        assert (held["outcome"], held["next"], held["bake"], held["bakeSeconds"]) == ("inconclusive", "bake", 1, 60)
        assert held["reason"] == (
            "CloudWatch has not confirmed the telemetry yet: telemetry reported 100 requests of version 7, but Lambda "
            "counted 0 invocations and telemetry reported 900 requests of version 6, but Lambda counted 0 invocations; "
            "baking again"
        )
        told = [detail for name, detail in announced(table, "checkout-42") if name == "Verdict Reached"]
        assert told[-1]["reason"] == held["reason"]
        # WHEN it knows, while more requests come, THEN the rollout is promoted
        self.lambda_counts(cloudwatch, 100, 900)
        assert judge(50, bake=1)["outcome"] == "promote"

    def test_a_flood_of_successes_does_not_promote(self, judge: Callable[..., Any], cloudwatch: FakeCloudWatch) -> None:
        self.lambda_counts(cloudwatch, 100, 900)
        held = judge(1200)
        assert (held["outcome"], held["next"]) == ("inconclusive", "bake")
        assert "telemetry reported 1,200 requests of version 7, but Lambda counted 100 invocations" in held["reason"]
        assert judge(0, bake=24)["outcome"] == "roll-back"

    @pytest.mark.parametrize("minutes", [1, 0], ids=["the minute before the shift", "the minute of the shift"])
    def test_what_the_stable_version_served_before_the_shift_does_not_cover_forged_successes(
        self,
        guarded: Any,
        deployed: Functions,
        cloudwatch: FakeCloudWatch,
        minutes: int,
    ) -> None:
        # GIVEN a candidate that fails 4 of 100 requests against 0 of 900, and 1,000 requests before it had any
        payload = guarded(errors={})
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 300}]
        self.lambda_counts(cloudwatch, 100, 900)
        alias = cloudwatch.values["Invocations", ""]
        (shifted,) = alias
        before = shifted - minutes * 60_000
        alias[before] = alias.get(before, 0) + 1000
        # WHEN somebody else reports 900 successes of it
        reported = [("6", True, 900), ("7", True, 900), ("7", True, 96), ("7", False, 4)]
        records = [
            telemetry(version, ok=ok, requests=count, sequence=sequence, observed=True)
            for sequence, (version, ok, count) in enumerate(reported)
        ]
        deployed.call("counter", {"Records": records})
        # THEN the rollout is held, and in the end rolled back
        held = deployed.call("judge", payload)
        assert (held["outcome"], held["next"]) == ("inconclusive", "bake")
        assert "telemetry reported 1,000 requests of version 7, but Lambda counted 100 invocations" in held["reason"]
        assert deployed.call("judge", payload | {"bake": 24})["outcome"] == "roll-back"

    @pytest.mark.parametrize("by_version", [True, False])
    def test_a_good_candidate_with_all_traffic_is_confirmed_however_lambda_counts_it(
        self,
        guarded: Any,
        deployed: Functions,
        cloudwatch: FakeCloudWatch,
        by_version: bool,
    ) -> None:
        # GIVEN a step of 10 %, and one of 100 % that began within a minute
        payload = guarded(errors={})
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 1}, {"weight": 100.0, "bakeSeconds": 300}]
        began = payload["state"]["shiftedAt"]
        at_all = {**payload["state"], "shiftedAt": began + 20_000}
        deployed.call("baker", event("baker") | {"plan": payload["plan"], "step": 1, "state": at_all})
        records = [
            telemetry("6", ok=True, requests=900, sequence=1, observed=True),
            telemetry("7", ok=True, requests=100, sequence=2, observed=True),
            telemetry("7", ok=True, requests=500, sequence=3, at=began + 30_000, observed=True),
            telemetry("7", ok=True, requests=900, sequence=4, at=began + 80_000, observed=True),
        ]
        deployed.call("counter", {"Records": records})
        # WHEN Lambda counts what the candidate alone served by version, or for the alias alone
        shifted = began // 60_000 * 60_000
        cloudwatch.values |= {
            ("Invocations", "6"): {shifted: 900.0},
            ("Invocations", "7"): {shifted: 600.0, shifted + 60_000: 900.0} if by_version else {shifted: 100.0},
            ("Invocations", ""): {shifted: 1500.0, shifted + 60_000: 900.0},
        }
        # THEN it is promoted
        verdict = deployed.call("judge", payload | {"step": 1, "state": at_all})
        assert verdict["outcome"] == "promote", verdict["reason"]

    def test_an_hour_at_zero_does_not_cover_forged_successes(
        self,
        guarded: Any,
        deployed: Functions,
        ledgers: LedgerStore,
        cloudwatch: FakeCloudWatch,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # GIVEN a rollout that was resumed from a pause at zero, and whose hook before the step took an hour
        payload = guarded(errors={})
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 300}]
        resumed = payload["state"]["shiftedAt"] + 600_000
        monkeypatch.setattr(ledger_store, "now_ms", lambda: resumed)
        ledgers.restart("checkout-42")
        monkeypatch.undo()
        again = resumed + 3_600_000
        state = {**payload["state"], "shiftedAt": again}
        deployed.call("baker", event("baker") | {"plan": payload["plan"], "bake": 1, "state": state})
        cloudwatch.values |= {
            ("Invocations", "6"): {again // 60_000 * 60_000: 900.0},
            ("Invocations", "7"): {again // 60_000 * 60_000: 100.0},
            ("Invocations", ""): {minute * 60_000: 1000.0 for minute in range(resumed // 60_000, again // 60_000 + 1)},
        }
        # WHEN 900 successes of a candidate that fails 4 of 100 are forged
        reported = [("6", True, 900), ("7", True, 900), ("7", True, 96), ("7", False, 4)]
        records = [
            telemetry(version, ok=ok, requests=count, sequence=sequence, at=again + 1000, observed=True)
            for sequence, (version, ok, count) in enumerate(reported)
        ]
        deployed.call("counter", {"Records": records})
        # THEN they are told
        held = deployed.call("judge", payload | {"bake": 1, "state": state})
        assert (held["outcome"], held["next"]) == ("inconclusive", "bake")
        assert "telemetry reported 1,000 requests of version 7, but Lambda counted 100 invocations" in held["reason"]

    def test_failures_roll_back_at_once_and_nobody_asks_how_many_requests_there_were(
        self, judge: Callable[..., Any], cloudwatch: FakeCloudWatch
    ) -> None:
        verdict = judge(50, ok=False)
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("50 of 50 candidate requests failed against 0 of 900")
        assert cloudwatch.calls == []

    def test_failures_that_the_judge_is_the_first_to_look_at_roll_back_without_it_too(
        self,
        judge: Callable[..., Any],
        deployed: Functions,
        cloudwatch: FakeCloudWatch,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(deployed.module("counter").watch, "judge", lambda _: None)
        assert judge(50, ok=False)["outcome"] == "roll-back"
        assert [query["Id"] for query in cloudwatch.queries if query["Id"] == "alias"] == []

    def test_messages_of_batches_may_be_more_than_invocations(
        self, judge: Callable[..., Any], cloudwatch: FakeCloudWatch
    ) -> None:
        self.lambda_counts(cloudwatch, 10, 900)
        assert judge(1200, observed=False)["outcome"] == "promote"

    def test_a_request_may_limit_the_messages_of_an_invocation(
        self, guarded: Any, deployed: Functions, cloudwatch: FakeCloudWatch
    ) -> None:
        payload = guarded(errors={}, outcomesPerInvocation=10)
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 300}]
        records = [telemetry(v, ok=True, requests=900, sequence=n) for n, v in enumerate(("6", "7"), start=1)]
        deployed.call("counter", {"Records": records})
        self.lambda_counts(cloudwatch, 10, 90)
        assert "900 requests of version 7, but Lambda counted 10 inv" in deployed.call("judge", payload)["reason"]
        self.lambda_counts(cloudwatch, 90, 90)
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "promote"


class TestFunctionsThatCount:
    """A guard whose function is asked once more when the bake is over."""

    GUARDS: ClassVar[dict[str, Any]] = {"custom": [{"name": "lost orders", "counts": {"lambda": "shop-counts"}}]}

    @staticmethod
    def _minutes(candidate_failures: int) -> dict[str, Any]:
        minute = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(time.time() - 120))
        candidate, stable = {"requests": 50, "failures": candidate_failures}, {"requests": 450, "failures": 0}
        return {"minutes": [{"minute": minute, "candidate": candidate, "stable": stable}]}

    @pytest.mark.parametrize(("failures", "outcome"), [(0, "promote"), (30, "roll-back")])
    def test_what_it_counts_decides(
        self, guarded: Any, deployed: Functions, checkout: FakeLambda, failures: int, outcome: str
    ) -> None:
        checkout.others["shop-counts"] = lambda _: self._minutes(failures)
        verdict = deployed.call("judge", guarded(now_ms() - 3_600_000, **self.GUARDS))
        assert verdict["outcome"] == outcome
        assert verdict["reason"].startswith(
            f"{failures} of 50 candidate requests failed (lost orders) against 0 of 450"
        )

    def test_a_bake_without_its_counts_is_repeated_and_names_it(
        self, guarded: Any, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.others["shop-counts"] = lambda _: {"minutes": [{}]}
        verdict = deployed.call("judge", guarded(**self.GUARDS))
        assert (verdict["outcome"], verdict["next"]) == ("inconclusive", "bake")
        assert "guards.custom[0].counts: shop-counts answered what is no count: minutes[0].minute:" in verdict["reason"]

    def test_a_rollback_does_not_wait_for_it(
        self, guarded: Any, deployed: Functions, checkout: FakeLambda, alarm: Any
    ) -> None:
        checkout.others["shop-counts"] = lambda _: self._minutes(0)
        judged = guarded(alarms=["checkout-errors"], **self.GUARDS)
        alarm("ALARM")
        assert deployed.call("judge", judged)["reason"] == "alarm checkout-errors fired"
        assert checkout.asked == []
