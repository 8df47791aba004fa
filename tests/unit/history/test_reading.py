"""The view of one rollout: what a person asks, from the items as the functions write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.analysis.judge import Arm
from headgate.analysis.verdict import Findings, Verdict
from headgate.aws.dynamodb import to_item
from headgate.history.model import RolloutView
from headgate.history.reading import Place, RolloutItems, rollout_view, summary_of
from headgate.history.sentences import describe_summary, explanation, headline, next_steps
from headgate.history.store import History
from headgate.history.timeline import happenings
from headgate.rollouts.record import SCHEMA_VERSION
from headgate_cli.costs.prices import load_prices
from headgate_cli.costs.rollouts import of_rollout
from headgate_cli.pictures.markdown import render_markdown
from headgate_cli.pictures.report import render_report
from tests.builders import (
    CONTINUE,
    TABLE,
    admit,
    bake,
    execution_of,
    ledger_of,
    pause,
    plan_of,
    settle,
    signal_of,
    start,
)
from tools.schemas import output_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table

ERRORS = {"errors": (Arm(43, 3), Arm(400, 1))}


@pytest.fixture
def history(dynamodb: Any) -> History:
    return History(dynamodb, TABLE)


def shown(history: History, rollout_id: str = "checkout-42") -> RolloutView:
    view = history.rollout(rollout_id)
    assert view is not None
    return view


def put(dynamodb: Any, **item: Any) -> None:
    dynamodb.put_item(TableName=TABLE, Item=to_item(item))


class TestRunningRollout:
    def test_it_bakes_until_the_end_of_its_step(self, history: History, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        bake(steps, plan)
        view = shown(history)
        assert (view.status, view.phase, view.step) == ("running", "baking", 0)
        assert view.bake is not None
        assert (view.bake.step, view.bake.bake, view.bake.weight) == (0, 0, 10)
        assert view.bake.until is not None
        assert view.bake.until[:16] >= view.bake.started_at[:16]
        assert [step.status for step in view.steps] == ["now", "ahead"]
        assert [(change.weight, change.why) for change in view.weights] == [(0, "start"), (10, "step")]
        assert [(each.label, each.limit, each.value) for each in view.comparisons] == [("errors", 100, None)]

    def test_its_verdict_ends_the_bake_and_keeps_the_counts_of_the_judge(
        self, history: History, locks: Locks, steps: Steps
    ) -> None:
        plan = start(locks)
        bake(steps, plan)
        steps.close_step(plan, 1, 0, Findings(0, ledger_of(plan, ERRORS)), CONTINUE)
        view = shown(history)
        assert view.bake is None
        [first] = view.steps[0].bakes
        assert (first.verdict, first.reason) == ("continue", "so far so good")
        [errors] = first.comparisons
        assert errors.candidate.to_wire() == {"requests": 43, "failures": 3}
        assert (errors.value or 0) > 1
        assert [step.status for step in view.steps] == ["done", "now"]

    def test_an_extra_bake_lasts_as_its_verdict_says(self, history: History, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        bake(steps, plan)
        again = Verdict(outcome="inconclusive", reason="no data", next="bake", step=0, bake=1, bake_seconds=3600)
        steps.close_step(plan, 1, 0, Findings(0), again)
        steps.open_bake(plan, 1, 0, 1, token="t-2", attempt="b")
        view = shown(history)
        assert view.bake is not None
        assert (view.bake.bake, view.bake.until) == (1, _after(view.bake.started_at, 3600))
        assert [change.weight for change in view.weights] == [0, 10]

    def test_a_step_that_begins_again_after_a_pause_bakes_as_planned(
        self, history: History, locks: Locks, steps: Steps
    ) -> None:
        plan = start(locks)
        bake(steps, plan)
        paused = Verdict(outcome="inconclusive", reason="paused by kim", next="pause", step=0, bake=1)
        steps.close_step(plan, 1, 0, Findings(0), paused)
        pause(steps, plan)
        assert shown(history).pause is not None
        resumed = Verdict(outcome="continue", reason="resumed by kim", next="shift", step=0, bake=1)
        steps.close_pause(plan, 1, 1, Findings(0), resumed)
        steps.open_bake(plan, 1, 0, 1, token="t-2", attempt="q")
        view = shown(history)
        assert view.bake is not None
        assert view.bake.until == _after(view.bake.started_at, 60)
        assert (view.pause, view.pauses[0].verdict_reason) == (None, "resumed by kim")

    def test_one_that_has_just_begun_is_starting(self, history: History, locks: Locks) -> None:
        admit(locks, "checkout-42")
        assert (shown(history).status, shown(history).phase) == ("accepted", None)
        locks.begin(plan_of(), execution_of("checkout-42"), 1)
        view = shown(history)
        assert (view.status, view.phase, view.bake, view.weight) == ("running", "starting", None, 0)
        assert [step.status for step in view.steps] == ["now", "ahead"]

    def test_it_waits_for_what_its_driver_waits_for(self, history: History, locks: Locks, steps: Steps) -> None:
        start(locks)
        steps.enter("checkout-42", "preparing")
        since = "2026-11-30T10:00:00.000Z"
        waits: Any = {"action": "prepare", "reason": "version 7 is Pending", "since": since, "limitSeconds": 60}
        steps.keep_state("checkout-42", {"stable": "6"}, phase="preparing", underway=True, pending=waits)
        view = shown(history)
        assert view.waits_for is not None
        assert (view.waits_for.reason, view.waits_for.until) == ("version 7 is Pending", "2026-11-30T10:01:00.000Z")
        assert (view.phase, view.stable) == ("preparing", "6")
        # WHEN it is rolled back THEN it does not wait for that any more
        steps.enter("checkout-42", "rolling-back")
        assert shown(history).waits_for is None
        back: Any = {"action": "restore", "reason": "1 target drains", "since": since}
        steps.keep_pending("checkout-42", back, phase="rolling-back")
        view = shown(history)
        assert view.waits_for is not None
        assert view.waits_for.reason == "1 target drains"


def _after(moment: str, seconds: int) -> str:
    from datetime import datetime, timedelta

    from headgate.aws.dynamodb import iso_of

    return iso_of(datetime.fromisoformat(moment) + timedelta(seconds=seconds))


class TestPauses:
    @pytest.mark.parametrize(("failed", "weights"), [(True, [0, 10, 0]), (False, [0, 10])])
    def test_only_one_after_a_failure_takes_traffic_off_the_candidate(
        self, history: History, locks: Locks, steps: Steps, failed: bool, weights: list[float]
    ) -> None:
        plan = start(locks, onFailure={"pause": {"at": "zero"}})
        bake(steps, plan)
        verdict = Verdict(outcome="roll-back", reason="it fails", next="pause", step=0, bake=1, failed=failed)
        steps.close_step(plan, 1, 0, Findings(0), verdict)
        pause(steps, plan, failed=failed, reason="it fails")
        view = shown(history)
        assert [change.weight for change in view.weights] == weights
        assert view.pause is not None
        assert (view.status, view.pause.reason, view.pause.then) == ("paused", "it fails", plan.pause.then)
        assert view.pause.until == _after(view.pause.started_at, plan.pause.limit_seconds)


class TestEnd:
    def test_a_rolled_back_one_failed_at_its_step(self, history: History, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        steps.enter("checkout-42", "shifting", 10.0)
        bake(steps, plan)
        verdict = Verdict(outcome="roll-back", reason="too many errors", next="roll-back", step=0)
        steps.close_step(plan, 1, 0, Findings(0, ledger_of(plan, ERRORS)), verdict)
        steps.enter("checkout-42", "rolling-back")
        steps.keep_state("checkout-42", {"stable": "6", "candidate": "7", "weight": 0, "shiftedAt": 4_000_000_000_000})
        settle(locks, outcome="rolled-back", serving="6")
        view = shown(history)
        assert (view.status, view.weight, view.serving, view.phase) == ("rolled-back", 0, "6", None)
        assert [step.status for step in view.steps] == ["failed", "skipped"]
        assert [(c.weight, c.why) for c in view.weights] == [(0, "start"), (10, "step"), (0, "rollback")]
        assert view.weights[-1].at == "2096-10-02T07:06:40.000Z"
        assert view.events[-1].detail_type == "Rollout Rolled Back"
        assert view.headline
        assert view.has_ended
        schema = json.loads(output_file("status").read_text("utf-8"))
        jsonschema.Draft202012Validator(schema).validate(view.to_wire())

    def test_a_promoted_one_serves_the_candidate_alone(self, history: History, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        bake(steps, plan)
        steps.close_step(plan, 1, 0, Findings(0), Verdict(outcome="promote", reason="", next="promote", step=2))
        steps.keep_state("checkout-42", {"stable": "6", "candidate": "7", "weight": -1, "shiftedAt": 4_000_000_000_000})
        settle(locks, serving="7", candidate="7", stable="6")
        view = shown(history)
        assert (view.weight, view.stable, view.candidate) == (100, "6", "7")
        assert [step.status for step in view.steps] == ["done", "skipped"]
        assert [(c.weight, c.why) for c in view.weights][-1] == (100, "promotion")

    def test_a_promotion_that_was_taken_back_is_among_the_weights(
        self, history: History, locks: Locks, steps: Steps
    ) -> None:
        start(locks, strategy="AllAtOnce")
        steps.enter("checkout-42", "promoting", -1.0)
        at = 4_000_000_000_000
        steps.keep_state("checkout-42", {"stable": "6", "candidate": "7", "weight": -1, "shiftedAt": at})
        assert [(c.weight, c.why) for c in shown(history).weights] == [(0, "start"), (100, "promotion")]
        assert shown(history).weight == 100
        steps.enter("checkout-42", "rolling-back")
        steps.keep_state("checkout-42", {"stable": "6", "candidate": "7", "weight": 0, "shiftedAt": at + 1000})
        settle(locks, outcome="rolled-back")
        changes = shown(history).weights
        assert [(c.weight, c.why) for c in changes] == [(0, "start"), (100, "promotion"), (0, "rollback")]

    def test_a_refused_one_has_its_reason_and_no_weights(self, history: History, locks: Locks) -> None:
        locks.refuse("bad", "execution", "target: is missing; add it")
        view = shown(history, "bad")
        assert (view.status, view.reason, view.weights, view.target) == (
            "refused",
            "target: is missing; add it",
            [],
            "",
        )
        assert view.created_at is not None

    def test_an_undo_and_what_it_undid_name_each_other(self, history: History, locks: Locks) -> None:
        start(locks, "a")
        settle(locks, "a")
        start(locks, "undo", undoOf="a")
        settle(locks, "undo")
        assert (shown(history, "a").undone_by, shown(history, "undo").undo_of) == ("undo", "a")

    def test_a_consumers_has_what_was_redriven(self, history: History, locks: Locks, steps: Steps) -> None:
        start(locks)
        steps.keep_state("checkout-42", {"stable": "6", "holding": {"name": "headgate-dlq", "arn": "a"}})
        assert shown(history).holding_queue == "headgate-dlq"
        steps.keep_state("checkout-42", {"stable": "6"})
        settle(locks, outcome="rolled-back", redriven={"returned": 3, "kept": 1, "unknown": 4})
        view = shown(history)
        assert view.redriven is not None
        assert (view.redriven.returned, view.redriven.kept, view.holding_queue) == (3, 1, "")

    def test_a_services_has_what_it_made_and_changed_there(self, history: History, locks: Locks, steps: Steps) -> None:
        start(locks)
        assert shown(history).state is None
        state = {
            "stable": "shop:7",
            "candidate": "shop:8",
            "green": "shop-hg-1a2b3c4d",
            "scaleInHeld": True,
            "testRules": {"a-rule": [{"group": "blue", "weight": 1}, {"group": "green", "weight": 0}]},
            "way": "green-service",
        }
        steps.keep_state("checkout-42", state)
        settle(locks, outcome="stopped")
        view = shown(history)
        assert view.to_wire()["state"] == {
            "green": "shop-hg-1a2b3c4d",
            "stable": "shop:7",
            "candidate": "shop:8",
            "scaleInHeld": True,
            "testRules": {"a-rule": {"blue": 1, "green": 0}},
        }


class TestLine:
    def test_a_waiting_one_has_its_place(self, history: History, locks: Locks) -> None:
        start(locks, "first")
        for name in ("z", "m", "a"):
            admit(locks, name)
        places = [shown(history, name).line for name in ("z", "m", "a")]
        assert [(line.place, line.behind) for line in places if line] == [(1, "first"), (2, "first"), (3, "first")]
        assert all(line and line.until for line in places)
        settle(locks, "first")
        moved = shown(history, "m").line
        assert moved is not None
        assert (moved.place, moved.behind) == (1, "z")
        assert shown(history, "z").status == "accepted"


class TestSignals:
    def test_each_says_what_became_of_it(
        self, history: History, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan)
        inbox.record_signal("checkout-42", "s-1", signal_of("pause", reason="lunch"))
        inbox.record_signal("checkout-42", "s-2", signal_of("pause"))
        table.transact(
            table.put_signal("ROLLOUT#checkout-42", "s-3", {"signal": "STOP", "outcome": "refused", "why": "no signal"})
        )
        assert [(s.id, s.outcome) for s in shown(history).signals] == [
            ("s-1", "pending"),
            ("s-2", "repeated"),
            ("s-3", "refused"),
        ]
        verdict = Verdict(outcome="inconclusive", reason="paused by kim", next="pause", step=0, bake=1)
        record = table.rollout("checkout-42")
        assert record is not None
        steps.close_step(plan, 1, 0, Findings(0, held=record.signals, heard=["s-1"]), verdict)
        first, second, third = shown(history).signals
        assert (first.outcome, first.by, first.reason, first.why) == ("handled", "kim", "lunch", "")
        assert (second.why, third.signal) == ("signal s-1 has the same effect and was not handled yet", "STOP")

    def test_an_abort_is_handled_by_the_rollback(
        self, history: History, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        start(locks)
        inbox.record_signal("checkout-42", "s-1", signal_of("abort"))
        assert [signal.outcome for signal in shown(history).signals] == ["pending"]
        steps.enter("checkout-42", "rolling-back")
        assert [signal.outcome for signal in shown(history).signals] == ["handled"]

    def test_one_that_came_too_late_is_told(self, history: History, locks: Locks, inbox: SignalInbox) -> None:
        start(locks)
        inbox.record_signal("checkout-42", "s-1", signal_of("promote"))
        settle(locks)
        [signal] = shown(history).signals
        assert (signal.outcome, signal.why) == ("unused", "the rollout ended before a verdict used it")

    def test_the_abort_that_ended_a_waiting_request_was_handled(self) -> None:
        sent = {"signal": "abort", "by": "kim", "at": AT}
        record: dict[str, Any] = {"pk": "ROLLOUT#x", "sk": "ROLLOUT", "status": "refused"}
        record |= {"reason": "aborted by kim: wrong version"}
        record |= {"signals": {"s-1": sent, "s-2": sent | {"by": "lee"}, "s-3": sent | {"signal": "promote"}}}
        view = rollout_view(RolloutItems([record]))
        assert view is not None
        assert [signal.outcome for signal in view.signals] == ["handled", "unused", "unused"]


class TestEvidence:
    def test_counts_come_from_the_ledger_with_its_filed_steps(
        self, history: History, dynamodb: Any, locks: Locks, ledgers: LedgerStore
    ) -> None:
        plan = start(locks, guards={"errors": {}, "latency": {"thresholdMs": 250}})
        ledgers.open(plan, candidate="7", stable="6", step=1, since=1_795_251_603_000)
        counts = {"errors_1_candidate_requests": 5, "errors_1_candidate_failures": 1, "errors_1_stable_requests": 50}
        names = {f"#{number}": name for number, name in enumerate(counts)}
        dynamodb.update_item(
            TableName=TABLE,
            Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": "EVIDENCE"}),
            UpdateExpression="SET " + ", ".join(f"{name} = :{name[1:]}" for name in names) + ", earlier = :earlier",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=to_item(
                {
                    **{f":{number}": count for number, count in enumerate(counts.values())},
                    ":earlier": '{"errors": [10, 2, 90, 0]}',
                }
            ),
        )
        filed = {"errors_0_candidate_requests": 10, "errors_0_candidate_failures": 2, "errors_0_stable_requests": 90}
        put(dynamodb, pk="ROLLOUT#checkout-42", sk="EVIDENCE#000", since=1_795_251_602_000, **filed)
        look = {"measure": "errors", "step": 0, "candidate": {"requests": 10, "failures": 2}}
        look |= {"stable": {"requests": 90, "failures": 0}, "value": 7.5}
        put(dynamodb, pk="ROLLOUT#checkout-42", sk="LOOK#00000001", at=1_795_251_602_500, looks=[look, "?"])
        view = shown(history)
        errors, latency = view.comparisons
        assert errors.candidate.to_wire() == {"requests": 15, "failures": 3}
        assert (errors.stable.requests, errors.limit) == (140, 200)
        assert latency.label == "requests over 250 ms"
        assert [step.comparisons[0].candidate.requests for step in view.steps] == [10, 5]
        assert [(point.at, point.value) for point in view.evidence] == [("2026-11-21T09:00:02.500Z", 7.5)]
        assert [(c.weight, c.step) for c in view.weights][1:] == [(10, 0), (50, 1)]


class TestGuards:
    """One line for each guard, however many measures it has."""

    THRESHOLDS: ClassVar[dict[str, Any]] = {"errors": {}, "latency": {"thresholdsMs": [20, 50], "action": "pause"}}

    def test_a_verdict_names_action_leading_threshold_and_the_averages(
        self, history: History, locks: Locks, steps: Steps
    ) -> None:
        plan = start(locks, guards=self.THRESHOLDS)
        slow = {"latency0": (Arm(100, 50), Arm(900, 450)), "latency1": (Arm(100, 9), Arm(900, 9))}
        steps.close_step(plan, 1, 0, Findings(0, ledger_of(plan, ERRORS | slow)), CONTINUE)
        (bake_view,) = shown(history).steps[0].bakes
        errors, latency = bake_view.comparisons
        assert (errors.action, errors.limit) == ("rollback", 200)
        assert (latency.measure, latency.label, latency.action) == ("latency", "requests over 50 ms", "pause")
        assert latency.candidate.to_wire() == {"requests": 100, "failures": 9}
        assert [(group.action, group.limit) for group in bake_view.groups] == [("rollback", 200), ("pause", 200)]
        assert bake_view.share is None

    def test_looks_at_several_thresholds_are_one_look_at_their_guard(
        self, history: History, locks: Locks, dynamodb: Any
    ) -> None:
        start(locks, guards=self.THRESHOLDS)

        def look(measure: str, value: float, failures: int) -> dict[str, Any]:
            sides = {"candidate": {"requests": 10, "failures": failures}, "stable": {"requests": 90, "failures": 1}}
            return {"measure": measure, "step": 0, "value": value, **sides}

        key = {"pk": "ROLLOUT#checkout-42"}
        first = [look("errors", 2, 1), look("latency0", 3, 5)]
        put(dynamodb, **key, sk="LOOK#00000001", at=1_795_251_602_500, looks=first)
        second = [look("latency0", 4, 6), look("latency1", 9, 2)]
        put(dynamodb, **key, sk="LOOK#00000002", at=1_795_251_603_500, looks=second)
        shown_looks = [(each.measure, each.value, each.candidate.failures) for each in shown(history).evidence]
        # A threshold without a look so far is at 1.
        assert shown_looks == [("errors", 2, 1), ("latency", 2, 5), ("latency", 6.5, 2)]
        thresholds = [[(one.measure, one.value) for one in each.thresholds] for each in shown(history).evidence]
        assert thresholds == [[], [("latency0", 3)], [("latency0", 4), ("latency1", 9)]]

    def test_what_a_threshold_has_beyond_its_own_limit_is_no_evidence_after_a_look_either(
        self, history: History, locks: Locks, dynamodb: Any
    ) -> None:
        start(locks, guards=self.THRESHOLDS)
        arms = {"candidate": {"requests": 10, "failures": 9}, "stable": {"requests": 90, "failures": 1}}
        beyond = {"measure": "latency0", "step": 0, "value": 5000, **arms}
        put(dynamodb, pk="ROLLOUT#checkout-42", sk="LOOK#00000001", at=1_795_251_602_500, looks=[beyond])
        # Two guards, and two thresholds of this one: each has a limit of 400. The other threshold is at 1.
        assert [each.value for each in shown(history).evidence] == [pytest.approx(200.5)]

    def test_a_share_that_is_off_is_shown(self, history: History, locks: Locks, steps: Steps) -> None:
        guards = {"errors": {}, "evidence": "cloudwatch"}
        plan = start(locks, guards=guards, strategy={"canary": {"percent": 10, "bakeSeconds": 300}})
        ledger = ledger_of(plan, {"errors": (Arm(600, 0), Arm(400, 0))})
        steps.close_step(plan, 1, 0, Findings(0, ledger, baked_seconds=300), CONTINUE)
        view = shown(history)
        (bake_view,) = view.steps[0].bakes
        assert bake_view.share
        assert (bake_view.share.weight, bake_view.share.candidate, bake_view.share.stable) == (10, 600, 400)
        assert "In step 1, the candidate had 600 of 1,000 requests (60 %) at a weight of 10 %." in explanation(view)

    def test_a_record_of_an_earlier_version_names_neither(self, history: History, locks: Locks, dynamodb: Any) -> None:
        start(locks)
        measure = {"measure": "errors", "candidate": {"requests": 43, "failures": 3}, "value": 7.5}
        evidence = {"measures": [measure | {"stable": {"requests": 400, "failures": 1}}], "alarms": []}
        ended = {"startedAt": "2026-11-21T09:00:02.500Z", "endedAt": "2026-11-21T09:05:02.500Z"}
        put(
            dynamodb,
            pk="ROLLOUT#checkout-42",
            sk="STEP#000-0",
            step=0,
            bake=0,
            weight=10,
            evidence=evidence,
            verdict=CONTINUE.to_wire(),
            **ended,
        )
        (bake_view,) = shown(history).steps[0].bakes
        (errors,) = bake_view.comparisons
        assert (errors.value, errors.limit, errors.action) == (7.5, 100, "rollback")
        assert (bake_view.groups, bake_view.share) == ([], None)


class TestHooks:
    def test_they_are_shown_as_they_were_asked(self, history: History, dynamodb: Any, locks: Locks) -> None:
        start(locks)
        key = {"pk": "ROLLOUT#checkout-42", "execution": "arn", "hooks": ["check"], "step": 0}
        began, ended = "2026-11-30T10:00:00.000Z", "2026-11-30T10:00:09.000Z"
        put(dynamodb, **key, sk="HOOK#b", stage="beforeStep", startedAt=ended, outcome="running")
        failed = {"outcome": "failed", "endedAt": ended, "reason": "hook check of beforeTraffic failed"}
        put(dynamodb, **key, sk="HOOK#z", stage="beforeTraffic", startedAt=began, **failed)
        first, second = shown(history).hooks
        assert (first.stage, first.step, first.hooks, first.outcome) == ("beforeTraffic", None, ["check"], "failed")
        assert (first.ended_at, first.reason) == (ended, "hook check of beforeTraffic failed")
        assert (second.stage, second.step, second.outcome, second.ended_at) == ("beforeStep", 0, "running", None)
        # WHEN the rollout ends without an answer
        settle(locks, outcome="rolled-back")
        assert shown(history).hooks[1].outcome == "failed"
        assert "stopped" in shown(history).hooks[1].reason


AT = "2026-11-30T10:00:00.000Z"
VERDICT = {"outcome": "inconclusive", "reason": "r", "next": "bake", "step": 0, "bake": 1, "bakeSeconds": 5}
MEASURE = {"measure": "errors", "candidate": {"requests": 1, "failures": 0}, "stable": {}, "value": 1.5}
PLAN = {"steps": [{"weight": 10, "bakeSeconds": 60}], "guards": {"errors": {}}, "pause": {"at": "zero"}}
ITEMS: dict[str, dict[str, Any]] = {
    "ROLLOUT": {
        "status": "running",
        "phase": "baking",
        "step": 0,
        "state": {
            "weight": 10,
            "shiftedAt": 5,
            "holding": {"name": "q"},
            "green": "g",
            "scaleInHeld": True,
            "testRules": {"r": [{"group": "g", "weight": 1}]},
        },
        "plan": json.dumps(PLAN),
        "request": "{}",
        "startedAt": AT,
        "createdAt": AT,
        "endedAt": AT,
        "signals": {"a": {"signal": "abort", "by": "kim", "at": AT, "step": 0}},
        "heard": ["a"],
        "pending": {"reason": "r", "since": AT, "limitSeconds": 5},
        "redriven": {"returned": 1},
        "promotedAt": 7,
        "schemaVersion": 1,
    },
    "EVIDENCE": {"candidate": "7", "stable": "6", "slowMs": 0, "byTelemetry": True, "since_0": 5, "earlier": "{}"},
    "EVIDENCE#000": {"since": 5, "errors_0_candidate_requests": 4},
    "STEP#000#00": {
        "step": 0, "bake": 0, "weight": 10, "startedAt": AT, "endedAt": AT, "verdict": VERDICT,
        "evidence": {"measures": [MEASURE], "alarms": ["a"]},
    },
    "STEP#000#01": {"step": 0, "bake": 1, "weight": 10, "startedAt": AT},
    "PAUSE#001": {"reason": "r", "step": 0, "limitSeconds": 5, "then": "rollback", "startedAt": AT, "verdict": VERDICT},
    "LOOK#00000001": {"at": 5, "looks": [{**MEASURE, "step": 0}]},
    "EVENT#x": {"detailType": "Rollout Waiting", "detail": {"at": AT, "warnings": ["w"]}},
    "SIGNAL#s": {"signal": "abort", "by": "kim", "outcome": "refused", "why": "w", "at": AT},
    "HOOK#h": {"stage": "beforeStep", "step": 0, "hooks": ["h"], "startedAt": AT, "outcome": "running"},
}  # fmt: skip


def _items(items: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for sk, attributes in items.items():
        yield {"pk": "ROLLOUT#x", "sk": sk, **attributes}


VALUES = st.one_of(
    st.none(),
    st.just("left out"),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "x", "succeeded", "waiting", "paused", "rolled-back", "frozen", "{}", "[]", "[[1]]", '{"steps": 5}', AT]
    ),
    st.lists(
        st.one_of(st.none(), st.text(max_size=3), st.integers(), st.just({"measure": 5}), st.just(["x"])), max_size=2
    ),
    st.dictionaries(st.sampled_from(["outcome", "at", "next", "weight", "name", "a"]), st.integers(), max_size=3),
    st.sampled_from([json.dumps(PLAN | {"steps": [5, {}]}), json.dumps(PLAN | {"guards": [], "pause": 3})]),
    st.sampled_from(["2026-11-31T12:00:00.000Z", "2026-13-01T12:00:00.000Z", "0000-00-00T00:00:00.000Z", "custom²"]),
    st.sampled_from([MEASURE | {"measure": "custom²"}, {"measures": [MEASURE | {"measure": "custom²"}]}]),
    st.sampled_from(
        [
            '{"steps": [{"weight": 10, "bakeSeconds": Infinity}]}',
            '{"steps": [{"weight": 10, "bakeSeconds": NaN}], "guards": {"errors": {}, "custom": [{"name": "x"}]}}',
            '{"steps": [{"weight": 10, "bakeSeconds": 1e999}], "guards": {"errors": {}, "custom": {"name": 5}}}',
            f'{{"steps": [{{"weight": 10, "bakeSeconds": {10**400}}}], "guards": {{"custom": 5, "errors": [7]}}}}',
            f'{{"steps": {"[" * 50_000}{"]" * 50_000}}}',
            f'{{"errors": {"[" * 50_000}{"]" * 50_000}}}',
            "[" * 50_000,
        ]
    ),
)
COUNT = {"namespace": "n", "metricName": "m", "dimensions": {"version": "{revision}"}}
CUSTOM = {"requests": COUNT, "failures": COUNT}


class TestOtherVersions:
    def test_a_record_of_a_newer_headgate_is_shown_with_a_warning(self, history: History, dynamodb: Any) -> None:
        for name, version in (("old", {}), ("now", {"schemaVersion": SCHEMA_VERSION}), ("new", {"schemaVersion": 99})):
            put(dynamodb, pk=f"ROLLOUT#{name}", sk="ROLLOUT", status="running", **version)
        assert (shown(history, "old").warnings, shown(history, "now").warnings) == ([], [])
        [warning] = shown(history, "new").warnings
        assert "a newer version of Headgate wrote this record" in warning
        [live] = history.live(["new"])
        assert live.warnings == [warning]

    def test_a_record_with_nothing_but_its_status_is_shown(self, history: History, dynamodb: Any) -> None:
        put(dynamodb, pk="ROLLOUT#old", sk="ROLLOUT", status="running")
        view = shown(history, "old")
        assert (view.id, view.status, view.steps, view.weights, view.comparisons) == ("old", "running", [], [], [])

    def test_what_cannot_be_read_is_left_out(self, history: History, dynamodb: Any) -> None:
        key = {"pk": "ROLLOUT#new"}
        plan = (
            '{"steps": [{"weight": 10}, 5], "guards": {"errors": {"x": 1}, "newGuard": {}, "alpha": 0.02}, "firing": 3}'
        )
        record = {"plan": plan, "request": "no JSON", "createdAt": 5, "startedAt": "2026-11-30T10:00:00.000Z"}
        signals = {"a": {"signal": "abort", "at": "2026-11-30T10:00:01.000Z"}, "b": 5, "c": {}}
        record |= {"signals": signals, "phase": "dancing", "step": "two", "pending": [], "state": {"weight": "x"}}
        put(dynamodb, **key, sk="ROLLOUT", status="running", **record)
        put(dynamodb, **key, sk="STEP#000#00", step=0, bake=0, weight=10, startedAt="2026-11-30T10:00:02.000Z")
        put(dynamodb, **key, sk="STEP#001#00", verdict=5, weight="much")
        put(dynamodb, **key, sk="PAUSE#001", reason="why")
        put(dynamodb, **key, sk="EVENT#x", detail="nothing")
        put(dynamodb, **key, sk="LOOK#00000001", looks=[{}], at="yesterday")
        put(dynamodb, **key, sk="EVIDENCE", candidate="7")
        put(dynamodb, **key, sk="HOOK#x", stage=5)
        put(dynamodb, **key, sk="FUTURE#x", anything=5)
        view = shown(history, "new")
        assert (view.created_at, view.phase, view.step, view.request) == (None, None, 0, {})
        assert [comparison.limit for comparison in view.comparisons] == [50]
        assert [signal.id for signal in view.signals] == ["a"]
        assert [(step.step, len(step.bakes)) for step in view.steps] == [(0, 1)]
        assert [change.weight for change in view.weights] == [0, 10]
        assert (view.pauses, view.events, view.evidence, view.hooks) == ([], [], [], [])

    @given(st.data())
    @settings(max_examples=150)
    def test_no_item_makes_it_fail(self, data: st.DataObject) -> None:
        items = []
        for sk, attributes in ITEMS.items():
            changed = data.draw(st.dictionaries(st.sampled_from([*attributes, "unknown"]), VALUES, max_size=4))
            item = {"pk": "ROLLOUT#x", "sk": sk, **attributes, **changed}
            items.append({name: value for name, value in item.items() if value != "left out"})
        view = rollout_view(RolloutItems(items), Place(1, "other"))
        assert view is None or view.id == "x"
        assert view is None or RolloutView.model_validate(view.to_wire()) == view
        if view:
            now = datetime(2026, 11, 30, 12, tzinfo=UTC)
            assert headline(view, now)
            assert explanation(view, now)
            assert [*happenings(view), *next_steps(view)]
            assert of_rollout(view, load_prices("eu-central-1")).lines
            assert render_markdown(view)
            assert render_report(view, now=now.timestamp())

    @pytest.mark.parametrize("at", ["2026-11-31T12:00:00.000Z", "2026-02-29T12:00:00.000Z", "2026-01-01T24:61:00.000Z"])
    def test_a_time_that_is_no_date_is_left_out(self, at: str) -> None:
        summary = summary_of({"pk": "ROLLOUT#x", "status": "succeeded", "startedAt": AT, "endedAt": at})
        assert summary is not None
        assert (summary.started_at, summary.ended_at) == (AT, None)

    @pytest.mark.parametrize("seconds", ["Infinity", "NaN", "1e999", f"{10**400}", "9" * 5000])
    def test_numbers_that_json_does_not_keep_are_left_out(self, seconds: str) -> None:
        plan = f'{{"steps": [{{"weight": 10, "bakeSeconds": {seconds}}}]}}'
        view = rollout_view(RolloutItems([*_items(ITEMS | {"ROLLOUT": ITEMS["ROLLOUT"] | {"plan": plan}})]))
        assert view is not None
        assert [step.bake_seconds for step in view.steps] in ([], [0])
        assert view.bake is None or view.bake.until is None

    @pytest.mark.parametrize("levels", [200, 900, 50_000])
    def test_a_text_with_too_many_levels_is_left_out(self, levels: int) -> None:
        deep = f'{{"a": {"[" * levels}{"]" * levels}}}'
        damaged = {"ROLLOUT": ITEMS["ROLLOUT"] | {"plan": deep}, "EVIDENCE": ITEMS["EVIDENCE"] | {"earlier": deep}}
        view = rollout_view(RolloutItems([*_items(ITEMS | damaged)]))
        assert view is not None
        assert (view.plan, view.steps) == ({}, [])

    def test_only_digits_number_a_custom_guard(self) -> None:
        plan = json.dumps(PLAN | {"guards": {"custom": [CUSTOM | {"name": name} for name in ("a", "b", "c")]}})
        bake = ITEMS["STEP#000#00"] | {"evidence": {"measures": [MEASURE | {"measure": "custom²"}]}}
        view = rollout_view(
            RolloutItems([*_items(ITEMS | {"ROLLOUT": ITEMS["ROLLOUT"] | {"plan": plan}, "STEP#000#00": bake})])
        )
        assert view is not None
        assert [each.label for each in view.comparisons] == ["a", "b", "c"]
        assert [each.label for each in view.steps[0].bakes[0].comparisons] == ["custom²"]

    def test_a_status_of_another_version_is_told_as_it_is(self, history: History, dynamodb: Any) -> None:
        put(dynamodb, pk="ROLLOUT#x", sk="ROLLOUT", status="frozen", stable="7", candidate="8", startedAt=AT)
        view = shown(history, "x")
        assert (view.status, view.unknown_status, view.candidate, view.has_ended) == ("unknown", "frozen", "8", False)
        assert view.headline == "has the status frozen, which this version of Headgate does not know"
        assert explanation(view)[0] == "Has the status frozen, which this version of Headgate does not know."
        summary = summary_of({"pk": "ROLLOUT#x", "status": "frozen"})
        assert summary is not None
        assert (summary.status, summary.unknown_status) == ("unknown", "frozen")
        assert "frozen" in describe_summary(summary)
        assert history.live(["x"])[0].status == "unknown"

    def test_one_that_does_not_exist_has_no_view(self, history: History, dynamodb: Any) -> None:
        put(dynamodb, pk="ROLLOUT#gone", sk="SIGNAL#s-1", signal="abort", outcome="refused")
        assert history.rollout("gone") is None


class TestLive:
    def test_it_reads_many_rollouts_without_their_history(self, history: History, locks: Locks, steps: Steps) -> None:
        for name in ("a", "b"):
            target = {"kind": "lambda-alias", "function": name, "alias": "live"}
            bake(steps, start(locks, name, target=target))
        admit(locks, "c", target={"kind": "lambda-alias", "function": "a", "alias": "live"})
        views = history.live(["a", "gone", "b", "c", "a"])
        assert [view.id for view in views] == ["a", "b", "c"]
        assert all(view.bake and view.bake.until for view in views[:2])
        assert views[2].line is not None
        assert (views[2].line.place, views[2].line.behind) == (1, "a")
        assert (views[0].events, views[0].request, views[0].steps[0].status) == ([], {}, "now")
        whole = shown(history, "a").to_wire()
        same = ("status", "target", "startedAt", "phase", "step", "weight", "bake", "weights", "comparisons", "steps")
        live = views[0].to_wire()
        assert {name: live.get(name) for name in same} == {name: whole.get(name) for name in same}

    def test_a_thousand_take_few_calls(self, dynamodb: Any) -> None:
        for number in range(1000):
            put(dynamodb, pk=f"ROLLOUT#{number}", sk="ROLLOUT", status="running", waitsAt="STEP#000#00")
        calls: list[int] = []

        class Counted:
            def batch_get_item(self, **call: Any) -> Any:
                calls.append(len(call["RequestItems"][TABLE]["Keys"]))
                return dynamodb.batch_get_item(**call)

        counted: Any = Counted()
        views = History(counted, TABLE).live([str(number) for number in range(1000)])
        assert [view.id for view in views] == [str(number) for number in range(1000)]
        assert calls == [100] * 30
