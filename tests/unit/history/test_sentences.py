"""Headlines and explanations of every kind of rollout."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headgate.analysis.evidence import JudgeTerms, describe_comparisons, evidence_against
from headgate.analysis.judge import Arm
from headgate.history.causes import COMPARED, OVER_LIMIT, cause_of, compared, counts_in, in_full
from headgate.history.model import Comparison, Counts, RolloutSummary, RolloutView, StepView
from headgate.history.sentences import describe_summary, explanation, headline, next_steps
from headgate.history.timeline import happenings
from headgate.rollouts.settlement import CodeLeft
from tests.builders import ledger_of, plan_of
from tests.views import (
    OVER,
    PASSED,
    at,
    bake_of,
    baking,
    hook_of,
    pause_of,
    paused,
    promoted,
    refused,
    rolled_back,
    signal,
    steps_of,
    stopped,
    view_of,
    wait_of,
    waiting,
)
from tests.views import compared as comparison_of

NOW = datetime(2026, 11, 30, 14, 7, 50, tzinfo=UTC)
WATCH: Any = {"until": "2026-12-01T14:00:00.000Z", "then": "undo"}
NO_DECISION = "no operator decided within 3600 s"
UNDO = promoted(
    "no step baked, so nothing was judged", undo_of="checkout-41", candidate="7", stable="8", serving="7",
    steps=[], comparisons=[],
)  # fmt: skip


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (waiting(), "waiting in line, place 2, behind orders-7; refused at 14:05 UTC if its turn has not come"),
        (waiting(line=None), "waiting in line"),
        (waiting(status="accepted"), "accepted, and about to begin"),
        (view_of(phase=None), "starting"),
        (view_of(phase="starting"), "starting"),
        (
            view_of(phase="starting", hooks=[hook_of(outcome="running", ended_at=None, reason="")]),
            "asking checkout-smoke before traffic",
        ),
        (
            view_of(hooks=[hook_of(stage="afterStep", step=1, outcome="running", ended_at=None, reason="")]),
            "asking checkout-smoke after step 2",
        ),
        (view_of(phase="preparing"), "preparing version 8"),
        (
            view_of(phase="preparing", waits_for=wait_of()),
            "preparing version 8; waiting until 15:00 UTC at most: checkout:8: 2 of 5 are allocated",
        ),
        (
            view_of(phase="rolling-back", waits_for=wait_of(until=None)),
            "rolling back to version 7; waiting: checkout:8: 2 of 5 are allocated",
        ),
        (baking(phase="shifting", bake=None), "moving to step 2 of 5 at 25 %"),
        (baking(), "baking step 2 of 5 at 25 % for 7 min 10 s more"),
        (baking(bake=bake_of(until=at(470.2))), "baking step 2 of 5 at 25 %, whose time is up"),
        (baking(bake=bake_of(until=None)), "baking step 2 of 5 at 25 %"),
        (baking(bake=bake_of(bake=2)), "baking step 2 of 5 at 25 %, extra bake 2 for 7 min 10 s more"),
        (baking(steps=[]), "baking step 2 for 7 min 10 s more"),
        (paused(), "paused by kim at 25 %; rolls back at 15:05 UTC"),
        (
            paused(pause=pause_of(reason=OVER, then="promote")),
            (
                "paused at 25 %: 3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's; promotes "
                "at 15:05 UTC"
            ),
        ),
        (paused(pause=None), "paused at 25 %"),
        (baking(phase="promoting", bake=None, step=5), "promoting version 8"),
        (
            baking(phase="rolling-back", signals=[signal("abort", reason="too slow")]),
            "rolling back to version 7: aborted by kim: too slow",
        ),
        (
            rolled_back(status="running", reason=""),
            "rolling back to version 7",
        ),
        (
            rolled_back(status="running"),
            "rolling back to version 7: 3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's",
        ),
        (
            promoted(),
            "promoted: version 8 got all traffic; none of 96 requests of version 8 failed, none of 265 of version 7",
        ),
        (
            promoted("promoted fully by kim: hotfix", signals=[signal("promote-fully", reason="hotfix")]),
            "promoted: version 8 got all traffic; promoted fully by kim: hotfix",
        ),
        (promoted(undone_by="undo-1"), "promoted, and undone later by undo-1"),
        (
            promoted("alarm-free", watch=WATCH),
            "promoted: version 8 got all traffic; watched until 2026-12-01 14:00:00 UTC",
        ),
        (
            promoted("done", watch=WATCH | {"outcome": "fault", "reason": "alarm a fired"}),
            "promoted: version 8 got all traffic; a fault was found after the promotion: alarm a fired",
        ),
        (promoted("done", watch=WATCH | {"outcome": "quiet"}), "promoted: version 8 got all traffic"),
        (UNDO, "undid checkout-41: version 7 serves again"),
        (rolled_back(), "rolled back: 3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's"),
        (
            rolled_back(OVER.replace("1,204", "24").replace("38", "4").replace("3,610", "108").replace("2 of", "0 of")),
            "rolled back: 4 of 24 requests of version 8 failed, none of 108 of version 7",
        ),
        (
            rolled_back(OVER.replace("failed", "took more than 250 ms")),
            "rolled back: 3.2 % of 1,204 requests of version 8 took more than 250 ms, 0.055 % of version 7's",
        ),
        (rolled_back("alarm checkout-errors fired"), "rolled back: alarm checkout-errors fired"),
        (rolled_back(""), "rolled back"),
        (refused("id: is taken"), "refused: id: is taken"),
        (refused(""), "refused"),
    ],
)
def test_a_headline_says_what_it_does_now_or_how_it_ended(view: RolloutView, expected: str) -> None:
    assert headline(view, NOW) == expected


def test_a_headline_without_the_time_of_its_reader_says_when_a_bake_ends() -> None:
    assert headline(baking()) == "baking step 2 of 5 at 25 % until 14:15:00 UTC"
    assert headline(baking(started_at="2026-11-29T23:00:00.000Z")).endswith("until 2026-11-30 14:15:00 UTC")


def test_a_stopped_rollout_is_said_to_be_left_as_it_is() -> None:
    assert headline(stopped()).startswith("stopped, and left as it is: lambda-alias/checkout/live was changed by")


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (
            rolled_back(),
            [
                (
                    "Rolled back at 2026-11-30 14:07:12 UTC, 7 min 12 s after it began, from 25 % of the traffic (step "
                    "2 of "
                    "5), 2 min 12 s into a bake of 10 min: version 7 serves alone again."
                ),
                "38 of 1,204 requests of version 8 failed (3.2 %), against 2 of 3,610 of version 7 (0.055 %).",
                (
                    "The evidence against version 8 reached 896, over its limit of 100: at most one of 100 rollouts of "
                    "versions that are no worse reaches it."
                ),
                (
                    "In the whole rollout, 41 of 1,230 requests of version 8 failed (3.3 %), against 2 of 3,700 of "
                    "version 7 "
                    "(0.054 %)."
                ),
                (
                    "7.2 s passed from the first look that counted a failure of version 8, at 14:07:05 UTC, until "
                    "version 7 "
                    "served alone again."
                ),
                (
                    "Look at the logs of version 8 from 14:00:02 UTC to 14:07:12 UTC. Then start a rollout of the "
                    "corrected "
                    "version under a new id."
                ),
            ],
        ),
        (
            promoted(warnings=["target: a stack owns the alias"], notes=["target.way: task-sets"]),
            [
                "Promoted at 2026-11-30 14:50:10 UTC, 50 min 10 s after it began: version 8 got all traffic.",
                "None of 96 requests of version 8 failed, against none of 265 of version 7.",
                "The evidence against version 8 ended at 1, under its limit of 100.",
                "To take it back while nothing newer is promoted, run headgate undo checkout-42.",
                "Warning: target: a stack owns the alias",
            ],
        ),
        (
            promoted(
                "promoted fully by kim: hotfix", signals=[signal("promote-fully", reason="hotfix")], comparisons=[]
            ),
            [
                "Promoted at 2026-11-30 14:50:10 UTC, 50 min 10 s after it began: version 8 got all traffic.",
                "kim promoted it fully, without further analysis, at 14:06:40 UTC: hotfix.",
                "To take it back while nothing newer is promoted, run headgate undo checkout-42.",
            ],
        ),
        (
            UNDO,
            [
                "Undid checkout-41 at 2026-11-30 14:50:10 UTC, 50 min 10 s after it began: version 7 serves again.",
                "No step baked, so nothing was judged.",
                "To take it back while nothing newer is promoted, run headgate undo checkout-42.",
            ],
        ),
        (
            refused(),
            [
                "Refused at 2026-11-30 14:00:00 UTC: no traffic moved.",
                "candidate.version: version 9 of checkout does not exist; publish it first.",
                "Correct the request and send it under a new id: the id of a refused one cannot be used again.",
            ],
        ),
        (
            waiting(warnings=["candidate: $LATEST is published when the turn comes"]),
            [
                "Waiting in line, place 2, behind orders-7; refused at 14:05 UTC if its turn has not come.",
                "It is for checkout:live, and was requested at 2026-11-30 14:00:00 UTC.",
                "Warning: candidate: $LATEST is published when the turn comes",
                (
                    "To end the one before it, run headgate abort orders-7. To give up its place, run headgate abort "
                    "checkout-42."
                ),
            ],
        ),
        (
            baking(firing_at_start=["checkout-latency"], signals=[signal("promote", outcome="pending")]),
            [
                "Baking step 2 of 5 at 25 % for 7 min 10 s more.",
                "It rolls out version 8 on checkout:live instead of version 7, since 2026-11-30 14:00:00 UTC.",
                "Ahead: 50 % for 10 min, 75 % for 10 min, 90 % for 10 min, then all traffic.",
                "The bakes take 40 min from the beginning of the current one.",
                (
                    "So far, 2 of 804 requests of version 8 failed (0.25 %), against 1 of 2,410 of version 7 (0.041 "
                    "%); "
                    "evidence 1.84, under its limit of 100."
                ),
                "Alarm checkout-errors guards it.",
                "Alarm checkout-latency was in ALARM when it was planned, and counts only after it has recovered.",
                "kim sent promote at 14:06:40 UTC, which has not been used yet.",
                "To step in, run headgate pause, promote or abort checkout-42.",
            ],
        ),
    ],
)
def test_an_explanation_says_the_most_important_first(view: RolloutView, expected: list[str]) -> None:
    assert explanation(view, NOW) == expected


CODE_LEFT = CodeLeft("checkout", "abc=", "somebody changed it").sentence
REDRIVEN = {"returned": 12, "forwarded": 1, "kept": 1, "redelivered": 3, "expired": 2, "queue": "q"}
NOTHING_MOVED: dict[str, Any] = {"weights": rolled_back().weights[:1], "evidence": [], "comparisons": [], "steps": []}


@pytest.mark.parametrize(
    ("view", "sentences"),
    [
        (
            rolled_back(f"{OVER}; all failures of the candidate came from one instance"),
            ["All failures of version 8 came from one instance."],
        ),
        (
            rolled_back(
                pauses=[
                    pause_of(reason=OVER, ended_at=at(400), verdict="continue", verdict_reason="resumed by kim"),
                    pause_of(ended_at=at(420), verdict="continue", verdict_reason="resumed by kim"),
                ]
            ),
            [
                (
                    "The evidence against version 8 reached 896, over its limit of 100: at most one of 100 rollouts of "
                    "versions that are no worse reaches it, and one more for each resume after a failure, of which it "
                    "had 1."
                ),
            ],
        ),
        (
            rolled_back(f"{OVER}; hook tell of onRollback failed: no answer"),
            ["Hook tell of onRollback failed: no answer."],
        ),
        (
            rolled_back("aborted by kim: no; hook tell of onRollback failed", signals=[signal("abort", reason="no")]),
            ["kim aborted it at 14:06:40 UTC: no.", "Hook tell of onRollback failed."],
        ),
        (
            stopped(reason=f"{OVER}; lambda-alias/checkout/live was changed by somebody else"),
            [
                "38 of 1,204 requests of version 8 failed (3.2 %), against 2 of 3,610 of version 7 (0.055 %).",
                "lambda-alias/checkout/live was changed by somebody else.",
            ],
        ),
        (
            refused("target: lambda-alias/checkout/live was still busy after 3,600 s; send the request again ..."),
            ["Refused at 2026-11-30 15:00:00 UTC, after it had waited in line for 1 h: no traffic moved."],
        ),
        (refused("aborted by kim"), ["To try again, send the request under a new id."]),
        *(
            (
                refused(reason).model_copy(update={"target": "ecs-service/prod/shop", "candidate": "shop:6"}),
                [
                    (
                        "Look at the logs of shop:6, whose tasks failed. Then start a rollout of the corrected "
                        "revision under a new id."
                    )
                ],
            )
            for reason in (
                "candidate: 4 tasks of shop:6 have failed before it had any request; the last stopped task: exit 1",
                "candidate: the deployment of shop:6 failed: tasks failed to start; 1 of 4 tasks run",
            )
        ),
        (
            rolled_back(plan={"guards": {"errors": {"tolerate": 0.5}}}),
            [
                (
                    "The evidence against version 8 reached 896, over its limit of 100: at most one of 100 rollouts of "
                    "versions that are not worse than tolerated reaches it."
                ),
            ],
        ),
        (
            rolled_back(comparisons=[]),
            ["The evidence against version 8 reached 896, over its limit of 100."],
        ),
        (
            rolled_back("alarm checkout-errors fired", signals=[signal("alarm", by="checkout-errors", reason="5 > 1")]),
            [
                "Alarm checkout-errors fired.",
                "The signal of alarm checkout-errors came at 14:06:40 UTC: 5 > 1.",
            ],
        ),
        (
            rolled_back("aborted by kim: too slow", signals=[signal("abort", reason="too slow")]),
            ["kim aborted it at 14:06:40 UTC: too slow.", "To try again, start a rollout under a new id."],
        ),
        (
            rolled_back("hook checkout-smoke of beforeTraffic failed: status 500", hooks=[hook_of()], **NOTHING_MOVED),
            [
                (
                    "Rolled back at 2026-11-30 14:07:12 UTC, 7 min 12 s after it began, before version 8 had any "
                    "traffic: "
                    "version 7 serves alone again."
                ),
                "Hook checkout-smoke of beforeTraffic failed: status 500.",
                (
                    "The execution that asked the hooks is "
                    "arn:aws:states:eu-central-1:123456789012:execution:headgate-hooks:"
                    "h-1."
                ),
                "Look at what the hook found. Then start a rollout of the corrected version under a new id.",
            ],
        ),
        (
            rolled_back(hooks=[hook_of(stage="onRollback", reason="hook tell of onRollback failed: no answer")]),
            ["Hooks on the rollback failed: hook tell of onRollback failed: no answer."],
        ),
        (
            rolled_back(
                NO_DECISION,
                pauses=[
                    pause_of(reason=OVER, ended_at=at(3900), verdict="roll-back", verdict_reason=NO_DECISION),
                ],
            ),
            [
                (
                    "Rolled back at 2026-11-30 14:07:12 UTC, 7 min 12 s after it began, from 25 % of the traffic (step "
                    "2 of "
                    "5): version 7 serves alone again."
                ),
                "No operator decided within 3600 s.",
                "To try again, start a rollout under a new id.",
                "It had been paused for 1 h: 3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's.",
            ],
        ),
        (
            promoted(pauses=[pause_of(ended_at=at(360), verdict="continue", verdict_reason="resumed by kim")]),
            ["It was paused by kim at 14:05:00 UTC for 1 min; then resumed by kim."],
        ),
        (
            promoted(f"{PASSED}; 3 of 96 candidate requests took more than 9 ms against 5 of 265; odds ..."),
            ["3 of 96 requests of version 8 took more than 9 ms (3.1 %), against 5 of 265 of version 7 (1.9 %)."],
        ),
        (
            rolled_back("no request of the candidate was seen during the bake at 25 %, including 12 extra bakes"),
            [
                "No request of the candidate was seen during the bake at 25 %, including 12 extra bakes.",
                "Fix what the reason names, then start a rollout under a new id.",
            ],
        ),
        (
            rolled_back(f"aborted by kim; {CODE_LEFT}", signals=[signal("abort")]),
            [
                "kim aborted it at 14:06:40 UTC.",
                f"{CODE_LEFT}.",
            ],
        ),
        (
            rolled_back(redriven=REDRIVEN),
            [
                (
                    "Of what failed during the rollout, 12 messages returned to the source queue, 3 stream records "
                    "were "
                    "processed again, 1 went to your own dead-letter queue or destination, 1 batch stayed in the "
                    "rollout's own "
                    "queue and 2 were lost, because the stream no longer had them."
                ),
                "The rollout's own queue q was kept.",
            ],
        ),
        (rolled_back(redriven={}), ["No failed message had to be given back."]),
        (
            stopped(),
            [
                (
                    "Stopped at 2026-11-30 14:07:12 UTC, 7 min 12 s after it began, from 25 % of the traffic (step 2 "
                    "of 5), "
                    "2 min 12 s into a bake of 10 min. Headgate neither promoted nor rolled back, and overwrote "
                    "nothing that others set."
                ),
                (
                    "Check what checkout:live serves, and correct it: Headgate does nothing more there. Then start a "
                    "rollout "
                    "under a new id."
                ),
            ],
        ),
        (
            baking(
                signals=[
                    signal("resume", outcome="refused", why="it is not paused"),
                    signal("abort", id="abort-2", outcome="repeated", why="signal abort-1 has the same effect"),
                ]
            ),
            [
                "kim sent resume at 14:06:40 UTC, which was refused: it is not paused.",
                "kim sent abort at 14:06:40 UTC, which changed nothing: signal abort-1 has the same effect.",
            ],
        ),
        (baking(comparisons=[comparison_of(0, 0, 0, 0)]), ["No requests are counted yet (errors)."]),
        (
            promoted(undone_by="undo-1"),
            [
                (
                    "Promoted at 2026-11-30 14:50:10 UTC, 50 min 10 s after it began: version 8 got all traffic, until "
                    "rollout undo-1 undid that."
                ),
            ],
        ),
        (stopped(holding_queue="own-q"), ["What failed may still be in the rollout's own queue own-q."]),
        (
            baking(holding_queue="own-q"),
            ["What fails goes into the rollout's own queue own-q, and is given back at the end."],
        ),
    ],
)
def test_an_explanation_tells_what_is_on_record(view: RolloutView, sentences: list[str]) -> None:
    told = explanation(view, NOW)

    assert [each for each in sentences if each not in told] == []


def test_a_record_with_little_in_it_is_explained_with_little() -> None:
    for status in ("waiting", "accepted", "running", "paused", "succeeded", "rolled-back", "refused", "stopped"):
        bare = view_of(status=status, phase=None, target="", stable="", candidate="", created_at=None, started_at=None)
        told = " ".join([headline(bare), *explanation(bare), describe_summary(bare)])
        assert "None" not in told
        assert "version" not in told.replace("the stable version", "").replace("the corrected version", "")


@pytest.mark.parametrize(
    "view",
    [
        waiting(),
        view_of(phase="preparing", waits_for=wait_of(), hooks=[hook_of(outcome="running", ended_at=None)]),
        baking(signals=[signal("promote", outcome="pending")]),
        paused(),
        promoted(pauses=[pause_of(ended_at=at(360), verdict="continue", verdict_reason="resumed by kim")]),
        rolled_back(redriven=REDRIVEN, hooks=[hook_of()], holding_queue="own-q"),
        refused(),
        stopped(),
    ],
    ids=lambda view: view.status,
)
def test_a_record_that_lacks_anything_is_still_told(view: RolloutView) -> None:
    lackable = [name for name, field in RolloutView.model_fields.items() if not field.is_required()]

    for name in lackable:
        lacking = view.model_copy(update={name: RolloutView.model_fields[name].get_default(call_default_factory=True)})
        assert headline(lacking, NOW)
        assert headline(lacking)
        told = [*explanation(lacking, NOW), *(each.text for each in happenings(lacking))]
        assert all(told)
        assert not any("None" in each.replace("None of ", "") or "  " in each for each in told)


def test_a_rollback_is_never_said_to_have_had_traffic_that_is_not_on_record() -> None:
    view = rolled_back(weights=[], steps=[], evidence=[], serving="")

    assert explanation(view)[0] == "Rolled back at 2026-11-30 14:07:12 UTC, 7 min 12 s after it began."
    assert not any("passed from" in each for each in explanation(view))


def test_the_abort_of_one_operator_is_not_told_of_another() -> None:
    kim, kimberly = signal("abort", by="kim"), signal("abort", by="kimberly", id="abort-2")

    for signals in ([kim, kimberly], [kimberly, kim]):
        assert cause_of(rolled_back("aborted by kimberly", signals=signals)).signal == kimberly


def test_a_finished_rollout_that_was_undone_has_nothing_left_to_do() -> None:
    assert next_steps(promoted(undone_by="undo-1")) == []


def test_the_sentences_of_the_judge_are_understood() -> None:
    plan = plan_of(guards={"errors": {}, "latency": {"thresholdMs": 250}, "custom": []})
    counts = {"errors": (Arm(1204, 38), Arm(3610, 2)), "latency": (Arm(1204, 5), Arm(3610, 12))}
    ledger = ledger_of(plan, counts)
    reason = describe_comparisons(ledger, JudgeTerms.of(plan.guards))
    found = [counts_in(match) for match in COMPARED.finditer(reason)]

    assert [each.failed for each in found] == ["failed", "took more than 250 ms"]
    assert found[0][:4] == (38, 1204, 2, 3610)
    match = OVER_LIMIT.match(reason)
    assert match
    assert (match["value"], match["limit"]) == ("200", "200")


def test_what_each_guard_contributed_is_understood() -> None:
    plan = plan_of(guards={"errors": {}, "latency": {"thresholdMs": 250}})
    counts = {"errors": (Arm(1204, 38), Arm(3610, 2)), "latency": (Arm(1204, 5), Arm(3610, 12))}
    reason = evidence_against(ledger_of(plan, counts), JudgeTerms.of(plan.guards))
    match = OVER_LIMIT.match(f"{reason}; all failures of the candidate came from one instance")
    assert match
    assert match["limit"] == "100"
    assert match["average"].startswith("errors 200, latency ")


def test_a_rollback_by_several_guards_says_what_each_contributed() -> None:
    average = "; odds against chance 120 to 1, over the limit of 100 to 1 (the average of errors 200, latency 40)"
    reason = f"38 of 1,204 candidate requests failed against 2 of 3,610{average}"
    view = rolled_back(f"{reason}; all failures of the candidate came from one instance")
    told = explanation(view)
    assert (
        "The evidence against version 8 reached 120, the average of errors 200, latency 40, over its limit of 100: at "
        "most one of 100 rollouts of versions that are no worse reaches it."
    ) in told
    assert "All failures of version 8 came from one instance." in told
    assert headline(view) == "rolled back: 3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's"


def test_a_rollback_by_slow_requests_among_several_guards_names_the_limit() -> None:
    slow = Comparison(
        measure="latency", label="requests over 42.59 ms", candidate=Counts(requests=57, failures=35),
        stable=Counts(requests=61, failures=11), value=230, limit=200,
    )  # fmt: skip
    average = "; odds against chance 116 to 1, over the limit of 100 to 1 (the average of errors 1, latency 230)"
    reason = f"35 of 57 candidate requests took more than 42.59 ms against 11 of 61{average}"
    view = rolled_back(reason)
    told = explanation(view.model_copy(update={"comparisons": [*view.comparisons, slow]}))
    assert (
        "The evidence against version 8 reached 116, the average of errors 1, latency 230, over its limit of 100: at "
        "most one of 100 rollouts of versions that are no worse reaches it."
    ) in told


def test_a_guard_that_only_reports_says_so_beside_its_limit() -> None:
    view = promoted()
    reporting = [each.model_copy(update={"action": "report"}) for each in view.comparisons]
    told = explanation(view.model_copy(update={"comparisons": reporting}))
    assert any(each.endswith("its limit of 100 (only reported).") for each in told)


def test_what_a_promotion_only_reports_is_told() -> None:
    routed = (
        "the candidate had 600 of 1,000 requests (60 %) at 10 %, which is not chance: check how requests are routed"
    )
    told = explanation(promoted(f"{PASSED}; 3 dead letters (only reported); {routed}"))
    assert "3 dead letters (only reported)." in told
    assert f"T{routed[1:]}." in told


def test_counts_of_every_guard_have_words() -> None:
    custom = Comparison(
        measure="custom0", label="orders", candidate=Counts(requests=10, failures=1), stable=Counts(), limit=100
    )
    latency = custom.model_copy(update={"measure": "latency", "label": "requests over 250 ms"})

    assert in_full(view_of(), compared(custom)) == (
        "1 of 10 requests of version 8 failed (orders) (10 %), against no of version 7"
    )
    assert compared(latency).failed == "took over 250 ms"


def test_a_line_of_a_list_is_short() -> None:
    def line(view: RolloutView) -> str:
        names = RolloutSummary.model_fields
        return describe_summary(RolloutSummary(**{name: getattr(view, name) for name in names}))

    assert line(rolled_back()) == "3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's"
    assert line(promoted()) == "none of 96 requests of version 8 failed, none of 265 of version 7"
    assert line(promoted(undone_by="undo-1")) == "undone by undo-1"
    assert line(refused("id: is taken")) == "id: is taken"
    assert line(baking()) == ""


def test_an_undone_promotion_does_not_say_that_its_version_serves() -> None:
    told = explanation(promoted(undone_by="undo-1"))
    assert told[0].endswith(": version 8 got all traffic, until rollout undo-1 undid that.")
    assert not [each for each in told if "serves" in each]
    undo = promoted(undo_of="a", undone_by="again", candidate="7", serving="7")
    assert headline(undo) == "undid a, and undone later by again"
    assert ": version 7 got all traffic again, until rollout again undid that." in explanation(undo)[0]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({}, "It is watched until 2026-12-01 14:00:00 UTC: a fault by then asks for its undo."),
        ({"then": "report"}, "It is watched until 2026-12-01 14:00:00 UTC: a fault by then is announced."),
        (
            {"outcome": "undo-requested", "undo": "by-watch-a", "reason": "alarm a fired"},
            "A fault was found after the promotion, and undo by-watch-a requested: alarm a fired.",
        ),
        (
            {"outcome": "superseded", "reason": "b was promoted", "ended_at": "2026-11-30T15:00:00.000Z"},
            "The watch after the promotion ended at 15:00:00 UTC: b was promoted.",
        ),
    ],
)
def test_an_explanation_tells_of_the_watch(ended: dict[str, str], said: str) -> None:
    view = promoted("done", watch=WATCH | ended)
    assert said in explanation(view)
    stop = f"To end the watch before its time, run headgate stop-watch {view.id}."
    assert (stop in next_steps(view)) == ("outcome" not in ended)


def test_a_list_says_what_an_undo_did() -> None:
    assert describe_summary(UNDO) == headline(UNDO) == "undid checkout-41: version 7 serves again"
    running = RolloutSummary(id="u", status="running", target="", undo_of="a", reason="")
    assert describe_summary(running) == ""


def test_counts_beside_the_evidence_of_a_pause_are_those_of_the_evidence() -> None:
    ended = bake_of(ended_at=at(310), verdict="inconclusive", comparisons=[comparison_of(4, 5, 0, 40, 282)])
    told = explanation(
        paused(
            pause=pause_of(started_at=at(310)), steps=steps_of(1, ended), comparisons=[comparison_of(8, 10, 0, 90, 282)]
        )
    )
    assert (
        "At the verdict at 14:05:10 UTC, 4 of 5 requests of version 8 failed (80 %), against none of 40 of version 7; "
        "evidence 282, over its limit of 100. With all other requests that are counted so far, 8 of 10 requests of "
        "version 8 failed (80 %), against none of 90 of version 7."
    ) in told
    same = comparison_of(4, 5, 0, 40, 282)
    assert any(
        each.startswith("So far, 4 of 5") for each in explanation(paused(steps=steps_of(1, ended), comparisons=[same]))
    )


def test_a_resume_bakes_the_step_of_the_pause_again() -> None:
    ended = bake_of(ended_at=at(310), verdict="inconclusive")
    told = explanation(paused(pause=pause_of(step=1), steps=steps_of(1, ended)))
    expected = (
        "Ahead after a resume: 25 % for 10 min again, 50 % for 10 min, 75 % for 10 min, 90 % for 10 min, then all "
        "traffic."
    )
    assert expected in told
    after = explanation(paused(pause=pause_of(step=5), steps=steps_of(1, ended)))
    assert "Ahead after a resume: then all traffic." not in after
    assert "Ahead after a resume: all traffic." in after


def test_a_bake_that_begins_again_after_a_pause_has_not_been_judged_again() -> None:
    first = bake_of(ended_at=at(400), verdict="inconclusive", reason="paused by kim: lunch")
    second = bake_of(bake=1, started_at=at(500), ended_at=at(900), verdict="inconclusive", reason="no requests")
    third = bake_of(bake=2, started_at=at(900))
    steps = steps_of(1)
    steps[1] = steps[1].model_copy(update={"bakes": [first, second, third]})
    told = explanation(promoted(steps=steps))
    assert "Step 2 baked 1 more time: no requests." in told
    assert "The bake of step 2 began again after the pause." in told
    assert not [each for each in told if "lunch" in each]


def test_counts_at_the_verdict_are_not_said_to_be_those_of_the_last_step() -> None:
    told = explanation(promoted(comparisons=[comparison_of(0, 100, 0, 300, 1)]))
    assert "Until the verdict, none of 96 requests of version 8 failed, against none of 265 of version 7." in told
    assert "In the whole rollout, none of 100 requests of version 8 failed, against none of 300 of version 7." in told


def test_what_a_plan_noted_is_not_repeated_after_a_rollout_that_did_not_promote() -> None:
    told: dict[str, Any] = {
        "warnings": ["target.rules: a stack has them; do not deploy it"],
        "notes": ["target.way: task-sets"],
    }

    for ended in (rolled_back(**told), stopped(**told), refused().model_copy(update=told)):
        assert [each for each in explanation(ended) if "target." in each] == []
    assert len([each for each in explanation(baking(**told)) if "target." in each]) == 2


def test_a_service_whose_stable_revision_is_kept_is_told_until_when_and_what_comes_then() -> None:
    service = {"target": "ecs-service/web/shop", "stable": "shop:7", "candidate": "shop:8"}
    weights = [
        StepView(step=n, weight=w, bake_seconds=300, status="now" if n else "done") for n, w in enumerate((10, 100))
    ]
    kept = baking(**service, weight=100, steps=weights)
    told = explanation(kept, NOW)

    assert told[0] == (
        "shop:8 has all traffic; shop:7 is kept until 14:15:00 UTC, and an abort or undo gives it back at once."
    )
    assert "Ahead: the release of shop:7." in told
    before = baking(
        **service, step=0, weight=10, steps=[each.model_copy(update={"status": "ahead"}) for each in weights]
    )
    assert "Ahead: 10 % for 5 min, all traffic with shop:7 kept for 5 min, then the release of shop:7." in explanation(
        before, NOW
    )


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("paused by kim: checking the logs", "paused by kim at 25 %: checking the logs; rolls back at 15:05 UTC"),
        ("paused by kim", "paused by kim at 25 %; rolls back at 15:05 UTC"),
        (
            "paused by arn:aws:sts::123456789012:assumed-role/Deploy/kim: why: so",
            "paused by Deploy/kim at 25 %: why: so; rolls back at 15:05 UTC",
        ),
        ("alarm a fired", "paused at 25 %: alarm a fired; rolls back at 15:05 UTC"),
    ],
)
def test_the_reason_of_a_pause_is_told_once_and_not_as_that_of_a_rollback(reason: str, shown: str) -> None:
    view = paused(pause=pause_of(reason=reason), pauses=[pause_of(reason=reason, ended_at=at(600))])
    assert headline(view) == shown
    told = [*explanation(view), *(each.text for each in happenings(view))]
    assert not [each for each in told if "paused: paused" in each or each.count("paused") > 1]


def test_a_rollout_of_a_stack_is_tried_again_by_deploying_the_stack() -> None:
    hook = hook_of(stage="beforeTraffic", reason="hook checkout-smoke of beforeTraffic failed: status 500")
    reason = "hook checkout-smoke of beforeTraffic failed: status 500"
    view = rolled_back(reason, hooks=[hook])

    assert "under a new id" in explanation(view)[-1]
    of_stack = view.model_copy(update={"id": "shop/ShopRollout/9667a3af"})
    assert explanation(of_stack)[-1].endswith("Then deploy the stack with the corrected version, as another Release.")
