"""The rollout machine with the functions' real code: every state, rule, catcher, signal and fault on the way."""

from __future__ import annotations

import functools
import json
import math
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pytest
from botocore.exceptions import ClientError

from headgate.analysis import verdict
from headgate.aws.arns import execution_arn, execution_name
from headgate.rollouts import line
from headgate.spec.targets import MAX_READY_SECONDS
from statemachines.source.shapes import ALREADY_STARTED_ERRORS, SLEEPING_FUNCTION_ERRORS
from tests.builders import TARGET, UNUSABLE_IDS, stored_lock
from tests.fakes.consumers import UUID
from tests.fakes.ecs import cause, container, detail
from tests.fakes.services import sha256_of
from tests.statemachines.engine import ServiceError, evaluate_jsonata
from tests.statemachines.rollouts import (
    ALARM,
    CANDIDATE,
    ECS_TASK,
    HOOKS,
    LONG,
    LOOK_UP,
    OUTSIDE,
    ROLLOUT,
    SOME_TIME,
    STABLE,
    STATES_OF,
    TARGET_KEY,
    Rollouts,
    assert_invariants,
    error,
    machine_arn,
    parts,
    passed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.statemachines.engine import Execution

pytestmark = pytest.mark.slow

STATES = STATES_OF[ROLLOUT]
AROUND = ["Plan", "Acquire", "Acquired?", "Prepare", "Before traffic?", "Next step?"]
SETTLED = ["Settle", "Ended?"]
STEP = ["Shift", "Bake", "Judge", "Verdict?"]
PASSING = ["Shift in passing", "Judge", "Verdict?"]
PROMOTED = ["Promote", "After traffic?", *SETTLED, "Promoted"]
ROLLED_BACK = ["Roll back", "On rollback?", *SETTLED, "Rolled back"]
STAGES = {
    "beforeTraffic": "Before traffic",
    "beforeStep": "Before step",
    "afterStep": "After step",
    "afterTraffic": "After traffic",
    "onRollback": "On rollback",
}
FAILED = {"hookStatus": "FAILED", "hookDetails": {"reason": "not good"}}
CONSUMER = {"target": {"kind": "event-source", "mapping": UUID}}
HOOKED = set(STAGES.values())


# --- The table of walks: each part of the definition, and what makes an execution come by it -------------------------


class Walk(NamedTuple):
    """What makes an execution take a rule or catcher, and the state that it then ends in."""

    end: str
    arrange: Callable[[Rollouts], object] = lambda _: None
    steps: tuple[tuple[float, int], ...] = ((10, 1),)
    fields: dict[str, Any] = {}
    hooks: tuple[str, ...] = ()


class Journey(NamedTuple):
    states: list[str]
    passed: set[str]


def fails(state: str, name: str = "Broken") -> Callable[[Rollouts], object]:
    return lambda app: app.before(state, error(name))


def steals(state: str) -> Callable[[Rollouts], object]:
    return lambda app: app.before(state, app.steal_lock)


def moves(state: str, version: str = "5") -> Callable[[Rollouts], object]:
    return lambda app: app.before(state, lambda: app.functions.change_outside(version))


def sends(kind: str, call: int = 1) -> Callable[[Rollouts], object]:
    """A signal during the bake."""
    return lambda app: app.after("Bake", lambda: app.signal(kind), calls=range(call, call + 1))


def in_turn(*arrangements: Callable[[Rollouts], object]) -> Callable[[Rollouts], object]:
    return lambda app: [arrange(app) for arrange in arrangements]


def busy(app: Rollouts) -> None:
    """Another rollout holds the target, and ends at once when the test's own has asked for it."""
    app.start(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    app.after("Acquire", lambda: app.signal("abort", "first"), calls=range(2, 3))


def busy_for_long(app: Rollouts) -> None:
    """Another rollout holds the target until the test's own has ended."""
    app.start(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    app.after("Settle", lambda: app.signal("abort", "first"))


def taken_elsewhere(app: Rollouts) -> None:
    """Another execution has carried this rollout out already."""
    app.run(app.request(), name="another")


def runs_elsewhere(app: Rollouts) -> None:
    """Another execution carries this rollout out, and ends when the test's own has asked for it."""
    app.start(app.request(*BAKES), name="another")
    app.wait_for("Bake")
    app.after("Acquire", lambda: app.signal("abort"), calls=range(2, 3))


def admitted_then_lost(app: Rollouts) -> None:
    """Intake took the lock for this rollout, and it was lost before the execution began."""

    def admit() -> None:
        event = app.payloads["Acquire"][-1]
        app.admit(event["request"], event["execution"])
        app.steal_lock()

    app.before("Acquire", admit)


def nested_fails(app: Rollouts) -> None:
    app.nested_failure(ServiceError("StepFunctions.StateMachineDoesNotExistException", "gone"))


def loses_the_start(app: Rollouts) -> None:
    app.lost_start()


def refuses(stage: str) -> Callable[[Rollouts], object]:
    return lambda app: app.answers[stage].__setitem__(0, FAILED)


def cannot_look_up(app: Rollouts) -> None:
    def refuse(_: Any) -> Any:
        raise ServiceError("Sfn.ExecutionDoesNotExistException", "gone")

    app.engine.integration(LOOK_UP, refuse)


def counts_in_the_second_bake(app: Rollouts) -> None:
    for version in (STABLE, CANDIDATE):
        app.after("Bake", functools.partial(app.telemetry, version, ok=5), calls=range(2, 3))


def fires(app: Rollouts) -> None:
    """The alarm, in time for the judge."""
    app.before("Judge", functools.partial(app.alarm, "ALARM"))


def holds_concurrency(app: Rollouts) -> None:
    app.functions.provisioned[STABLE] = 5


def aborted_late(app: Rollouts) -> None:
    """An operator's abort, after the promotion."""
    app.before("Release", lambda: app.signal("abort"))


def consumer_fails(app: Rollouts) -> None:
    app.consume()
    app.after("Bake", lambda: app.signal("abort"))


def paused_and_fires(app: Rollouts) -> None:
    """An operator pauses, the alarm ends that, and the operator gives up in the pause for the alarm."""
    app.after("Bake", lambda: app.signal("pause"))
    app.after("Pause", functools.partial(app.alarm, "ALARM"))
    app.after("Pause", app.tell_alarm)
    app.after("Pause", lambda: app.signal("abort"), calls=range(2, 3))


def says(*kinds: str) -> Callable[[Rollouts], object]:
    """An operator pauses the bake, and ends the pause with these; what is baked again is promoted."""

    def arrange(app: Rollouts) -> None:
        app.after("Bake", lambda: app.signal("pause"))
        app.after("Bake", lambda: app.signal("promote"), calls=range(2, 3))
        for kind in kinds:
            app.after("Pause", functools.partial(app.signal, kind))

    return arrange


GUARDED = {"guards": {"alarms": [ALARM]}}


def pausing(at: str, seconds: int = LONG) -> dict[str, Any]:
    return {**GUARDED, "onFailure": {"pause": {"at": at, "limitSeconds": seconds}}}


ZERO = pausing("zero")
BAKES = ((10, LONG),)
bad_judge = fails("Judge")
SKIM = ((10, 0), (50, 0))
SHORT_WAIT = {"wait": {"limitSeconds": 1}}
WALKS: dict[str, Walk] = {
    # Choice -> where it leads
    "Acquired? -> Prepare": Walk("Promoted"),
    "Acquired? -> Wait for its turn": Walk("Promoted", busy),
    "Acquired? -> Refused": Walk("Refused", busy, fields={"onBusy": "refuse"}),
    "Acquired? -> Ended?": Walk("Promoted", taken_elsewhere),
    "Acquired? -> Duplicate": Walk("Duplicate", runs_elsewhere, BAKES),
    "Before traffic? -> Before traffic": Walk("Promoted", hooks=("beforeTraffic",)),
    "Before traffic? -> Next step?": Walk("Promoted"),
    "Next step? -> Promote": Walk("Promoted", fields={"strategy": "AllAtOnce"}),
    "Next step? -> Before step": Walk("Promoted", hooks=("beforeStep",)),
    "Next step? -> Shift in passing": Walk("Promoted", steps=SKIM),
    "Next step? -> Shift": Walk("Promoted"),
    "Bake at all? -> Shift in passing": Walk("Promoted", steps=SKIM, hooks=("beforeStep",)),
    "Bake at all? -> Shift": Walk("Promoted", hooks=("beforeStep",)),
    "Verdict? -> Roll back": Walk("Rolled back", sends("abort"), ((10, LONG),)),
    "Verdict? -> Bake": Walk("Promoted", counts_in_the_second_bake, fields={"guards": {"errors": {}}}),
    "Verdict? -> After step": Walk("Promoted", hooks=("afterStep",)),
    "Verdict? -> Promote": Walk("Promoted"),
    "Verdict? -> Before step": Walk("Promoted", steps=SKIM, hooks=("beforeStep",)),
    "Verdict? -> Shift in passing": Walk("Promoted", steps=SKIM),
    "Verdict? -> Shift": Walk("Promoted", steps=((10, 1), (50, 1))),
    "Verdict? -> Shift to zero": Walk("Rolled back", fires, fields=pausing("zero", 1)),
    "Verdict? -> Pause": Walk("Rolled back", fires, fields=pausing("current", 1)),
    "On failure? -> Shift to zero": Walk("Rolled back", nested_fails, fields=pausing("zero", 1), hooks=("beforeStep",)),
    "On failure? -> Pause": Walk("Rolled back", nested_fails, fields=pausing("current", 1), hooks=("afterStep",)),
    "On failure? -> Roll back": Walk("Rolled back", nested_fails, hooks=("beforeStep",)),
    "After pause? -> Roll back": Walk("Rolled back", says("abort"), BAKES),
    "After pause? -> Shift to zero": Walk("Rolled back", paused_and_fires, BAKES, pausing("zero")),
    "After pause? -> Pause": Walk("Rolled back", paused_and_fires, BAKES, pausing("current")),
    "After pause? -> Promote": Walk("Promoted", says("promote-fully"), BAKES),
    "After pause? -> Next step?": Walk("Promoted", says("resume"), BAKES),
    "After traffic? -> Release": Walk("Promoted", holds_concurrency),
    "Release? -> Release": Walk("Promoted", holds_concurrency, hooks=("afterTraffic",)),
    "Release? -> Settle": Walk("Promoted", hooks=("afterTraffic",)),
    "Ended? -> Roll back": Walk("Rolled back", lambda app: app.before("Settle", lambda: app.signal("abort"))),
    "After traffic? -> After traffic": Walk("Promoted", hooks=("afterTraffic",)),
    "After traffic? -> Settle": Walk("Promoted"),
    "On rollback? -> On rollback": Walk("Rolled back", bad_judge, hooks=("onRollback",)),
    "On rollback? -> Settle": Walk("Rolled back", bad_judge),
    "Ended? -> Promoted": Walk("Promoted"),
    "Ended? -> Rolled back": Walk("Rolled back", bad_judge),
    "Ended? -> Refused": Walk("Refused", fields={"candidate": {"version": "99"}}),
    "Ended? -> Stopped": Walk("Stopped", moves("Promote")),
    # State !error -> where its catcher leads
    "Plan !States.ALL -> Settle": Walk("Refused", fields={"strategy": "Never"}),
    "Acquire !LockLost -> Superseded": Walk("Superseded", admitted_then_lost),
    "Acquire !States.ALL -> Settle": Walk("Refused", fails("Acquire")),
    "Wait for its turn !States.Timeout -> Settle": Walk("Refused", busy_for_long, fields={"onBusy": SHORT_WAIT}),
    "Wait for its turn !States.ALL -> Settle": Walk(
        "Refused", in_turn(busy_for_long, lambda app: app.after("Wait for its turn", lambda: app.signal("abort")))
    ),
    "Prepare !LockLost -> Superseded": Walk("Superseded", steals("Prepare")),
    "Prepare !Aborted -> Roll back": Walk("Rolled back", lambda app: app.after("Acquire", lambda: app.signal("abort"))),
    "Prepare !States.ALL -> Roll back": Walk("Refused", fails("Prepare")),
    "Before traffic !States.ALL -> Roll back": Walk("Rolled back", nested_fails, hooks=("beforeTraffic",)),
    "Before step !States.ALL -> On failure?": Walk("Rolled back", nested_fails, hooks=("beforeStep",)),
    "Shift !TargetChanged -> Release?": Walk("Stopped", moves("Shift")),
    "Shift !LockLost -> Superseded": Walk("Superseded", steals("Shift")),
    "Shift !States.ALL -> Roll back": Walk("Rolled back", fails("Shift")),
    "Shift in passing !TargetChanged -> Release?": Walk("Stopped", moves("Shift in passing"), SKIM),
    "Shift in passing !LockLost -> Superseded": Walk("Superseded", steals("Shift in passing"), SKIM),
    "Shift in passing !States.ALL -> Roll back": Walk("Rolled back", fails("Shift in passing"), SKIM),
    "Bake !States.Timeout -> Judge": Walk("Promoted"),
    "Bake !LockLost -> Superseded": Walk("Superseded", steals("Bake"), ((10, LONG),)),
    "Bake !States.ALL -> Roll back": Walk("Rolled back", fails("Bake"), ((10, LONG),)),
    "Judge !LockLost -> Superseded": Walk("Superseded", steals("Judge")),
    "Judge !States.ALL -> Roll back": Walk("Rolled back", bad_judge),
    "After step !States.ALL -> On failure?": Walk("Rolled back", nested_fails, hooks=("afterStep",)),
    "Shift to zero !TargetChanged -> Release?": Walk("Stopped", in_turn(fires, moves("Shift to zero")), fields=ZERO),
    "Shift to zero !LockLost -> Superseded": Walk("Superseded", in_turn(fires, steals("Shift to zero")), fields=ZERO),
    "Shift to zero !States.ALL -> Roll back": Walk("Rolled back", in_turn(fires, fails("Shift to zero")), fields=ZERO),
    "Pause !States.Timeout -> Judge pause": Walk("Rolled back", fires, fields=pausing("zero", 1)),
    "Pause !LockLost -> Superseded": Walk("Superseded", in_turn(fires, steals("Pause")), fields=ZERO),
    "Pause !States.ALL -> Roll back": Walk("Rolled back", in_turn(fires, fails("Pause")), fields=ZERO),
    "Judge pause !LockLost -> Superseded": Walk("Superseded", in_turn(says("resume"), steals("Judge pause")), BAKES),
    "Judge pause !States.ALL -> Roll back": Walk("Rolled back", in_turn(says("resume"), fails("Judge pause")), BAKES),
    "Release !TargetChanged -> Settle": Walk("Stopped", in_turn(holds_concurrency, moves("Release"))),
    "Release !LockLost -> Superseded": Walk("Superseded", in_turn(holds_concurrency, steals("Release"))),
    "Release !Aborted -> Roll back": Walk("Rolled back", in_turn(holds_concurrency, aborted_late)),
    "On rollback? -> Release": Walk("Rolled back", consumer_fails, fields=CONSUMER),
    "Release !States.ALL -> Settle": Walk("Promoted", in_turn(holds_concurrency, fails("Release"))),
    "Promote !TargetChanged -> Release?": Walk("Stopped", moves("Promote")),
    "Promote !LockLost -> Superseded": Walk("Superseded", steals("Promote")),
    "Promote !States.ALL -> Roll back": Walk("Rolled back", fails("Promote")),
    "After traffic !States.ALL -> Roll back": Walk("Rolled back", nested_fails, hooks=("afterTraffic",)),
    "Roll back !TargetChanged -> Release?": Walk("Stopped", in_turn(fails("Judge"), moves("Roll back"))),
    "Roll back !LockLost -> Superseded": Walk("Superseded", in_turn(fails("Judge"), steals("Roll back"))),
    "Roll back !States.ALL -> Settle": Walk("Stopped", in_turn(fails("Judge"), fails("Roll back", "RequestRefused"))),
    "On rollback !States.ALL -> Release?": Walk(
        "Rolled back", in_turn(fails("Judge"), nested_fails), hooks=("onRollback",)
    ),
    "Did the hooks agree? -> Next step?": Walk("Promoted", loses_the_start, hooks=("beforeTraffic",)),
    "Did the hooks agree? -> Bake at all?": Walk("Promoted", loses_the_start, hooks=("beforeStep",)),
    "Did the hooks agree? -> Release?": Walk("Promoted", loses_the_start, hooks=("afterTraffic",)),
    "Did the hooks agree? -> On failure?": Walk(
        "Rolled back", in_turn(refuses("beforeStep"), loses_the_start), hooks=("beforeStep",)
    ),
    "Did the hooks agree? -> Roll back": Walk(
        "Rolled back", in_turn(refuses("afterTraffic"), loses_the_start), hooks=("afterTraffic",)
    ),
    **{
        f"{state} !{' '.join(ALREADY_STARTED_ERRORS)} -> Look up the hooks": Walk(
            "Rolled back" if stage == "onRollback" else "Promoted",
            in_turn(fails("Judge"), loses_the_start) if stage == "onRollback" else loses_the_start,
            hooks=(stage,),
        )
        for stage, state in STAGES.items()
    },
    "Look up the hooks !States.ALL -> Did the hooks agree?": Walk(
        "Rolled back", in_turn(loses_the_start, cannot_look_up), hooks=("beforeTraffic",)
    ),
    "Settle !LockLost -> Superseded": Walk("Superseded", fails("Settle", "LockLost")),
    "Settle !States.ALL -> Unsettled": Walk("Unsettled", fails("Settle", "RequestRefused")),
}


def walked(part: str) -> Journey:
    """One execution that comes by a part of the definition; the invariants hold at its end."""
    return _walk(next(name for name, walk in WALKS.items() if walk == WALKS[part]))


@functools.cache
def _walk(part: str) -> Journey:
    walk = WALKS[part]
    with Rollouts() as app:
        hooks = {"hooks": {stage: [app.hook(stage)] for stage in walk.hooks}} if walk.hooks else {}
        walk.arrange(app)
        execution = app.run(app.request(*walk.steps, **hooks, **walk.fields), name="by-hand")
        assert_invariants(app)
        return Journey(execution.states(), passed(ROLLOUT, execution))


@pytest.mark.parametrize("part", WALKS)
def test_each_rule_and_catcher_leads_where_it_says(part: str) -> None:
    # GIVEN what makes an execution come by it / WHEN it runs
    journey = walked(part)
    # THEN it came by it, and ended as an operator would expect
    assert part in journey.passed
    assert journey.states[-1] == WALKS[part].end


def test_every_state_rule_and_catcher_of_the_rollout_machine_is_taken() -> None:
    """Walks whatever this process has not walked yet, so that it holds alone, in a subset and on several workers."""
    taken = set().union(*(walked(part).passed for part in WALKS))
    assert sorted(parts(ROLLOUT) - taken) == []


def test_no_choice_has_two_rules_to_the_same_state() -> None:
    # A rule is known by where it leads, in WALKS and in histories.
    for name, state in STATES.items():
        following = [rule["Next"] for rule in state.get("Choices", [])]
        assert len(following) == len(set(following)), name


# --- Promoted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "weights", "steps"),
    [
        ("AllAtOnce", [], []),
        ("Canary10Percent1Second", [10], [STEP]),
        ({"canary": {"percent": 0.5, "bakeSeconds": 1}}, [0.5], [STEP]),
        ({"canary": {"percent": 10, "bakeSeconds": 0}}, [10], [PASSING]),
        ({"linear": {"percent": 30, "intervalSeconds": 1}}, [30, 60, 90], [STEP] * 3),
        ({"steps": [{"weight": 1, "bakeSeconds": 0}, {"weight": 50, "bakeSeconds": 1}]}, [1, 50], [PASSING, STEP]),
        ({"steps": [{"weight": 5, "bakeSeconds": 1}, {"weight": 100, "bakeSeconds": 0}]}, [5], [STEP]),
        ({"steps": [{"weight": 5, "bakeSeconds": 1}, {"weight": 100, "bakeSeconds": 1}]}, [5, 100], [STEP] * 2),
    ],
)
def test_a_good_candidate_is_promoted_by_way_of_the_strategys_steps(
    app: Rollouts, strategy: Any, weights: list[float], steps: list[list[str]]
) -> None:
    # GIVEN a strategy / WHEN nothing speaks against the candidate
    execution = app.run(app.request(strategy=strategy))
    # THEN each step's weight was set, every bake ran its course, and no state more was entered than the budget allows
    assert execution.states() == [*AROUND, *(state for step in steps for state in step), *PROMOTED]
    assert len(execution.states()) <= 4 * len(steps) + 12
    assert [write.weights.get(CANDIDATE) for write in app.functions.writes[:-1]] == [w / 100 for w in weights]
    assert app.functions.routing == (CANDIDATE, {})
    assert execution.output == {"outcome": "succeeded", "reason": app.record().get("reason", ""), "serving": CANDIDATE}


def test_a_rollout_announces_each_thing_once_and_in_order(app: Rollouts) -> None:
    app.run(app.request((10, 1), (50, 0)))
    step = ["Step Started", "Step Baked", "Verdict Reached"]
    assert app.announced() == ["Rollout Started", *step, *step, "Rollout Succeeded"]


def test_a_request_without_an_id_goes_by_its_executions_name(app: Rollouts) -> None:
    request = app.request()
    del request["id"]
    app.run(request, name="nightly")
    assert app.record("nightly")["status"] == "succeeded"


def test_a_candidate_that_is_still_pending_is_waited_for(app: Rollouts) -> None:
    app.functions.pending = 3
    assert app.run(app.request()).states()[-1] == "Promoted"
    assert app.calls["Prepare"] == 4


def test_a_function_that_headgate_may_not_touch_is_refused_without_another_try(app: Rollouts) -> None:
    def refuse(**_: str) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "GetAlias")

    app.functions.get_alias = refuse  # type: ignore[assignment]
    execution = app.run(app.request())
    assert (execution.states()[-1], app.record("checkout-42")["status"]) == ("Refused", "refused")
    assert (app.calls["Prepare"], app.calls["Roll back"]) == (1, 1)


@pytest.mark.parametrize("state", ["Prepare", "Shift", "Shift in passing", "Promote"])
def test_the_retries_of_a_candidate_that_is_not_ready_outlast_every_limit(state: str) -> None:
    # GIVEN the first retrier, which no other one precedes, with full jitter: any part of its interval
    not_ready = STATES[state]["Retry"][0]
    assert (not_ready["ErrorEquals"], not_ready["JitterStrategy"]) == (["TargetNotReady"], "FULL")
    intervals = [
        min(not_ready["IntervalSeconds"] * not_ready["BackoffRate"] ** attempt, not_ready["MaxDelaySeconds"])
        for attempt in range(not_ready["MaxAttempts"])
    ]
    # THEN even eight standard deviations below the mean they last longer than a request may ask for
    mean, deviation = sum(intervals) / 2, math.sqrt(sum(each**2 for each in intervals) / 12)
    assert mean - 8 * deviation > MAX_READY_SECONDS
    # AND all of them are a part of the 25,000 events of an execution, at up to five each
    assert 5 * len(intervals) <= 8000
    # AND a signal is heard within seconds, because each call of the driver hears it
    assert max(intervals) <= 15


def test_the_record_tells_what_is_waited_for_while_it_is(app: Rollouts) -> None:
    # GIVEN a version that is not active yet the first three times
    app.functions.pending = 3
    seen: list[Any] = []
    app.before("Prepare", lambda: seen.append(app.record()["pending"]), calls=range(2, 5))
    # WHEN it is rolled out
    execution = app.run(app.request())
    # THEN the record says so since the first look, and no longer once it is ready
    assert execution.states()[-1] == "Promoted"
    assert_invariants(app)
    assert seen == [seen[0]] * 3
    assert seen[0]["reason"] == "candidate: version 7 is still pending"
    assert (seen[0]["action"], seen[0]["limitSeconds"]) == ("prepare", 3600)
    assert "pending" not in app.record()


def test_a_candidate_that_is_not_ready_at_its_limit_is_refused_with_what_was_waited_for(app: Rollouts) -> None:
    # GIVEN a version that never becomes active
    app.functions.pending = 10_000
    # WHEN the request allows it a second
    execution = app.run(app.request(target=TARGET | {"readySeconds": 1}))
    # THEN nothing has moved, and the reason names limit and cause
    assert (execution.states()[-1], app.record()["status"]) == ("Refused", "refused")
    assert_invariants(app)
    reason = app.record()["reason"]
    assert reason.startswith("target.readySeconds: the candidate is not ready after 1 s")
    assert "candidate: version 7 is still pending" in reason


def test_an_alarm_ends_the_wait_for_a_candidate_and_no_traffic_moves(app: Rollouts) -> None:
    # GIVEN a version that never becomes active, and an alarm that fires while it is waited for
    app.functions.pending = 10_000
    app.before("Prepare", lambda: app.alarm("ALARM"), calls=range(3, 4))
    app.before("Prepare", app.tell_alarm, calls=range(3, 4))
    # WHEN it is rolled out
    execution = app.run(app.request(guards={"alarms": [ALARM]}))
    # THEN the next call of the driver hears it, and the rollout is rolled back with the alarm as its reason
    assert (execution.states()[-1], app.record()["status"]) == ("Rolled back", "rolled-back")
    assert_invariants(app)
    assert app.calls["Prepare"] in (3, 4)
    assert "threshold crossed" in app.record()["reason"]
    assert not any(write.weights for write in app.functions.writes), "no traffic moved"


# --- Hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_are_asked_in_order_and_told_what_they_test(app: Rollouts) -> None:
    # GIVEN two hooks before traffic and one at each other stage
    stages = ("beforeTraffic", "beforeStep", "afterStep", "afterTraffic")
    hooks = {stage: [app.hook(stage, only=stage)] for stage in stages}
    hooks["beforeTraffic"].append(app.hook("second"))
    # WHEN two steps are promoted
    request = app.request((10, 1), (50, 0), hooks=hooks)
    app.run(request)
    # THEN each was asked once a time, in order, with the documented event
    around_steps = ["beforeStep", "afterStep"] * 2
    assert [event["hook"] for event in app.asked] == ["beforeTraffic", "second", *around_steps, "afterTraffic"]
    told = {"rolloutId": "checkout-42", "target": request["target"], "stable": STABLE, "candidate": CANDIDATE}
    for event in app.asked:
        stage = "beforeTraffic" if event["hook"] == "second" else event["hook"]
        config = {} if event["hook"] == "second" else {"only": stage}
        expected = told | {"hook": event["hook"], "stage": stage, "config": config, "hookDetails": {}}
        assert {key: value for key, value in event.items() if key != "step"} == expected
    assert [event["step"] for event in app.asked if event["hook"] == "beforeStep"] == [0, 1]


def test_an_after_step_hook_is_told_the_step_that_was_baked(app: Rollouts) -> None:
    app.run(app.request((10, 1), (50, 0), hooks={"afterStep": [app.hook("check")]}))
    assert [event["step"] for event in app.asked] == [0, 1]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "onRollback"])
def test_a_hook_that_fails_rolls_back_and_its_reason_is_kept(app: Rollouts, stage: str) -> None:
    hooks = {stage: [app.hook("check", FAILED)], "onRollback": [app.hook("pager")]}
    execution = app.run(app.request(hooks=hooks))
    asked = ["On failure?"] if stage in {"beforeStep", "afterStep"} else []
    ending = [STAGES[stage], *asked, "Roll back", "On rollback?", "On rollback", "Release?", *ROLLED_BACK[2:]]
    assert execution.states()[-len(ending) :] == ending
    assert app.functions.routing == (STABLE, {})
    assert app.record()["reason"] == f'hook check of {stage} failed: {{"reason":"not good"}}'
    assert [event["stage"] for event in app.asked] == [stage, "onRollback"]


def test_a_task_that_fails_before_traffic_rolls_the_rollout_back_and_says_why(app: Rollouts) -> None:
    failed = ServiceError("States.TaskFailed", cause(detail(container(code=3), container("router"))))
    hooks = {"beforeTraffic": [app.task_hook(failed), app.hook("never asked")], "onRollback": [app.hook("pager")]}
    execution = app.run(app.request(hooks=hooks))
    ending = ["Before traffic", "Roll back", "On rollback?", "On rollback", "Release?", *ROLLED_BACK[2:]]
    assert execution.states()[-len(ending) :] == ending
    assert app.functions.routing == (STABLE, {})
    assert "Shift" not in execution.states()
    assert app.record()["reason"] == (
        "hook migrate:3 of beforeTraffic failed: exited (TaskExitedNonZero): container app exited with 3; "
        'exit codes {"app":3,"router":0}'
    )
    assert [event["hook"] for event in app.asked] == ["pager"]


def test_hooks_of_every_kind_agree_to_a_promotion(app: Rollouts) -> None:
    check, load = app.hook("check"), app.machine_hook("load-test", {"Type": "Succeed"}, users=40)
    # GIVEN a machine that is named without its ARN, and a task that every step asks for
    hooks = {
        "beforeTraffic": [check, load | {"stateMachine": "load-test"}],
        "beforeStep": [app.task_hook()],
        "afterTraffic": [load],
    }
    execution = app.run(app.request((10, 1), (50, 0), hooks=hooks))
    # THEN all were asked, and the tasks know what they test
    assert execution.states()[-1] == "Promoted"
    assert [child.input["stage"] for child in app.engine.executions("load-test")] == ["beforeTraffic", "afterTraffic"]
    told = [app.tasks.environment_of(run, "app") for run in (0, 1)]
    assert [each.pop("HEADGATE_STEP") for each in told] == ["0", "1"]
    assert (
        told
        == [
            {
                "HEADGATE_ROLLOUT_ID": "checkout-42",
                "HEADGATE_STAGE": "beforeStep",
                "HEADGATE_TARGET": "lambda-alias/checkout/live",
                "HEADGATE_STABLE": STABLE,
                "HEADGATE_CANDIDATE": CANDIDATE,
            }
        ]
        * 2
    )
    assert {child.output["id"] for child in app.engine.executions(ECS_TASK)} == {"checkout-42/beforeStep/0"}


def test_a_rollout_whose_task_could_never_run_is_refused_before_it_begins(app: Rollouts) -> None:
    hooks = {"afterTraffic": [app.hook("check"), app.task_hook(overrides={"containers": {"web": {"cpu": 64}}})]}
    app.run(app.request(hooks=hooks))
    assert app.record()["status"] == "refused"
    assert app.record()["reason"].startswith("hooks.afterTraffic[1].ecsTask: overrides.containers.web: ")
    assert app.tasks.runs == []


NEW_CODE = {"code": {"s3Bucket": "releases", "s3Key": "checkout.zip"}}


@pytest.mark.parametrize("stage", ["beforeTraffic", "beforeStep", "afterStep", "afterTraffic"])
def test_code_that_fails_its_hook_is_not_published_by_the_next_request(app: Rollouts, stage: str) -> None:
    # GIVEN a function as its deployment left it, and new code that fails a hook
    app.functions.code = f"code of {STABLE}"
    hooks = {stage: [app.hook("smoke-test", FAILED)]}
    assert app.run(app.request(candidate=NEW_CODE, hooks=hooks)).error == "RolledBack"
    assert app.functions.code == f"code of {STABLE}"
    assert "latest" not in app.record()["state"]
    # WHEN the next request publishes what $LATEST holds
    execution = app.run(app.request(id="next", candidate={"publish": {}}))
    # THEN that is the code of the stable version
    assert execution.states()[-1] == "Promoted"
    assert app.functions.codes[app.functions.version] == f"code of {STABLE}"
    assert_invariants(app)


def test_rejected_code_that_stays_in_latest_is_published_only_when_it_is_confirmed(app: Rollouts) -> None:
    # GIVEN new code that fails a hook, and replaced code that no version serves
    app.functions.code = "never published"
    hooks = {"beforeTraffic": [app.hook("smoke-test", FAILED)]}
    execution = app.run(app.request(candidate=NEW_CODE, hooks=hooks))
    # THEN it is rolled back all the same, and the record says what stays
    assert execution.error == "RolledBack"
    code = sha256_of("releases/checkout.zip")
    assert f"$LATEST of checkout still holds the rejected code with the CodeSha256 {code}" in app.record()["reason"]
    # AND a plain publish is refused before anything is touched, and again where the planner has not seen it yet
    default = {name: value for name, value in app.request(id="default").items() if name != "candidate"}
    for request in (default, app.request(id="plain", candidate={"publish": {}})):
        refused = app.run(request)
        assert refused.error == "RequestRefused"
        assert "rollout checkout-42 rejected" in (refused.cause or "")
        assert "Acquire" not in refused.states()
    with app.unchecked_code():
        refused = app.run(app.request(id="unseen", candidate={"publish": {}}))
    assert (refused.error, "Prepare" in refused.states()) == ("RequestRefused", True)
    assert "rollout checkout-42 rejected" in (refused.cause or "")
    # WHEN it is confirmed, THEN it is rolled out, and serves as any other code
    confirmed = app.run(app.request(id="confirmed", candidate={"publish": {"confirm": code}}))
    assert confirmed.states()[-1] == "Promoted"
    app.functions.published_code = "another configuration"
    assert app.run(app.request(id="plain-again", candidate={"publish": {}})).states()[-1] == "Promoted"


def test_code_of_a_candidate_that_lambda_refuses_is_given_back(app: Rollouts) -> None:
    app.functions.code = f"code of {STABLE}"
    app.functions.published_as["State"] = "Failed"
    execution = app.run(app.request(candidate=NEW_CODE))
    assert (execution.error, app.record()["status"]) == ("RequestRefused", "refused")
    assert app.functions.code == f"code of {STABLE}"
    assert_invariants(app)


def test_code_is_given_back_although_somebody_else_has_moved_the_alias(app: Rollouts) -> None:
    app.functions.code = f"code of {STABLE}"
    app.before("Shift", lambda: app.functions.change_outside("5"))
    app.run(app.request(candidate=NEW_CODE))
    assert app.record()["status"] == "stopped"
    assert app.functions.code == f"code of {STABLE}"
    assert_invariants(app)


@pytest.mark.parametrize("state", ["Prepare", "Bake"])
def test_the_warden_gives_the_code_back_when_an_execution_has_died(app: Rollouts, state: str) -> None:
    app.functions.code = f"code of {STABLE}"
    execution = app.start(app.request((10, LONG), candidate=NEW_CODE))
    app.wait_for(state)
    execution.stop()
    execution.wait()
    while app.record()["status"] == "running":
        app._deliver("warden", {"detail-type": "Scheduled Event"})
    assert app.record()["status"] == "rolled-back"
    assert app.functions.code == f"code of {STABLE}"
    assert_invariants(app)


def test_a_rollback_stays_one_when_the_code_cannot_be_given_back(app: Rollouts) -> None:
    app.functions.code = f"code of {STABLE}"
    hooks = {"beforeTraffic": [app.hook("smoke-test", FAILED)]}
    app.always("Release", error("Broken"))
    execution = app.run(app.request(candidate=NEW_CODE, hooks=hooks))
    assert execution.error == "RolledBack"
    assert "ended before the stable version's code was given back" in app.record()["reason"]
    assert_invariants(app)


def test_hooks_of_a_rollback_change_nothing_by_failing(app: Rollouts) -> None:
    app.before("Judge", error("Broken"))
    hooks = {"onRollback": [app.hook("pager", FAILED), app.hook("never asked")]}
    execution = app.run(app.request(hooks=hooks))
    assert execution.states()[-5:] == ["On rollback", "Release?", *ROLLED_BACK[2:]]
    # THEN the record says that they did, beside the reason of the rollback
    reason = app.record()["reason"]
    assert app.record()["status"] == "rolled-back"
    assert reason.startswith("made to fail; hook pager of onRollback failed")
    assert execution.cause == reason


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "name",
    ["StepFunctions.AWSStepFunctionsException", "StepFunctions.SdkClientException"],
)
def test_hooks_that_cannot_be_started_for_the_moment_are_started_again(app: Rollouts, stage: str, name: str) -> None:
    app.nested_failure(ServiceError(name, "Rate exceeded (Error Code: ThrottlingException)"))
    if stage == "onRollback":
        app.before("Judge", error("Broken"))
    execution = app.run(app.request(hooks={stage: [app.hook("check")]}))
    assert [event["stage"] for event in app.asked] == [stage]
    assert execution.states()[-1] == ("Rolled back" if stage == "onRollback" else "Promoted")


@pytest.mark.parametrize("stage", STAGES)
def test_hooks_whose_start_was_lost_are_not_asked_twice_and_their_answer_counts(app: Rollouts, stage: str) -> None:
    # GIVEN hooks that refuse, whose execution has ended before its start is repeated
    starts = app.lost_start()
    if stage == "onRollback":
        app.before("Judge", error("Broken"))
    execution = app.run(app.request(hooks={stage: [app.hook("check", FAILED)]}))
    # THEN the start was repeated under its name, and the answer is that of the first one
    assert len({start["Name"] for start in starts}) == 1
    assert [event["stage"] for event in app.asked] == [stage]
    assert execution.states()[-1] == "Rolled back"
    assert f"hook check of {stage} failed" in app.record()["reason"]


def test_every_stage_that_is_asked_has_a_name_of_its_own(app: Rollouts) -> None:
    # GIVEN hooks of every stage, and a step that an operator has baked again
    app.after("Bake", lambda: app.signal("pause"))
    app.after("Pause", lambda: app.signal("resume"))
    app.after("Bake", lambda: app.signal("promote"), calls=range(2, 3))
    hooks = {stage: [app.hook(stage)] for stage in STAGES}
    execution = app.run(app.request((10, LONG), (50, 1), hooks=hooks), name="x" * 80)
    # THEN each execution of the hooks has its own name, with room for the numbers of its children
    assert execution.states()[-1] == "Promoted"
    names = [child.name for child in app.engine.executions(HOOKS)]
    assert [name.rpartition("-")[0] for name in names] == [
        *("beforeTraffic-0", "beforeStep-0", "beforeStep-0", "afterStep-0", "beforeStep-1", "afterStep-1"),
        "afterTraffic-2",
    ]
    assert len({*names}) == len(names)
    assert all(len(name) <= 76 for name in names)


def test_a_stage_has_the_same_name_at_every_attempt_and_another_in_every_execution_and_redrive() -> None:
    name = STATES["Before step"]["Arguments"]["Name"][2:-2]

    def named(execution: str = "r-1", redrives: int = 0, step: int = 3, pause: int = 0) -> Any:
        context = {"Execution": {"Id": execution, "RedriveCount": redrives}}
        return evaluate_jsonata(name, {"states": {"context": context}, "step": step, "bake": 0, "pause": pause})

    assert named() == named()
    assert len({named(), named("r-2"), named(redrives=1), named(step=4), named(pause=1)}) == 5
    # AND it is looked up under that name.
    assert STATES["Before step"]["Catch"][0]["Assign"]["asked"]["name"][2:-2] == name


@pytest.mark.parametrize(
    ("stage", "after"),
    [
        ("beforeTraffic", "Prepare"),
        ("beforeStep", "Prepare"),
        ("afterStep", "Judge"),
        ("afterTraffic", "Promote"),
        ("onRollback", "Roll back"),
    ],
)
def test_hooks_that_use_up_their_time_fail(app: Rollouts, stage: str, after: str) -> None:
    app.nested_failure(None)
    app.hurry(after)
    if stage == "onRollback":
        app.before("Judge", error("Broken"))
    execution = app.run(app.request((10, 1), hooks={stage: [app.hook("check")]}))
    assert execution.states()[-1] == "Rolled back"
    assert STAGES[stage] in execution.states()


# --- Faults ----------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A state that calls a function: how to come by it, and what its failure leads to."""

    before: str | None
    """The state whose function is called before."""
    failed: str
    """Where an error leads that is not retried."""
    without: str = "Promoted"
    """Where the rollout ends without a fault."""
    steps: tuple[tuple[float, int], ...] = ((10, 1),)
    arrange: Callable[[Rollouts], object] = lambda _: None
    fields: dict[str, Any] = {}
    timed_out: str | None = None
    """Where a timeout leads; None where a timeout is an error like any other."""


def gives_up(app: Rollouts) -> None:
    app.after("Pause", lambda: app.signal("abort"), calls=range(3, 4))


def has_its_turn(app: Rollouts) -> None:
    """Another rollout holds the target until the test's own has waited three times."""
    app.start(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    app.after("Wait for its turn", lambda: app.signal("abort", "first"), calls=range(3, 4))
    # The first one to settle, if the test's own is refused.
    app.after("Settle", lambda: app.signal("abort", "first"))


TASKS = {
    "Plan": Task(None, "Refused"),
    "Acquire": Task("Plan", "Refused"),
    "Wait for its turn": Task("Acquire", "Refused", arrange=has_its_turn),
    "Prepare": Task("Acquire", "Refused"),
    "Shift": Task("Prepare", "Rolled back"),
    "Shift in passing": Task("Prepare", "Rolled back", steps=SKIM),
    "Bake": Task("Shift", "Rolled back", steps=((10, LONG),), arrange=sends("promote", call=3)),
    "Judge": Task("Bake", "Rolled back", steps=((10, LONG),), arrange=sends("promote")),
    "Shift to zero": Task("Judge", "Rolled back", "Rolled back", arrange=fires, fields=pausing("zero", 1)),
    "Pause": Task("Judge", "Rolled back", "Rolled back", BAKES, in_turn(sends("pause"), gives_up)),
    "Judge pause": Task("Pause", "Rolled back", "Rolled back", BAKES, says("abort")),
    "Promote": Task("Judge", "Rolled back"),
    "Release": Task("Promote", "Promoted", arrange=holds_concurrency),
    "Roll back": Task("Judge", "Stopped", "Rolled back", BAKES, sends("abort"), timed_out="Rolled back"),
    "Settle": Task("Promote", "Unsettled", timed_out="Promoted"),
}
WITHOUT_LOCK = {"Plan", "Acquire", "Wait for its turn", "Settle"}
WITH_TIMEOUT = [state for state in TASKS if state not in {"Bake", "Pause", "Wait for its turn"}]


def test_the_table_of_tasks_names_every_state_that_calls_a_function() -> None:
    assert set(TASKS) == {name for name, state in STATES.items() if "lambda:invoke" in state.get("Resource", "")}


def attempt(app: Rollouts, state: str) -> Execution:
    TASKS[state].arrange(app)
    return app.run(app.request(*TASKS[state].steps, **TASKS[state].fields))


@pytest.mark.parametrize("state", TASKS)
def test_a_transient_error_before_or_after_the_effect_is_retried(app: Rollouts, state: str) -> None:
    # GIVEN a call that never arrives, and a second one whose response is lost
    app.before(state, error("Lambda.TooManyRequestsException"))
    app.after(state, error("Lambda.ServiceException"), calls=range(2, 3))
    # WHEN the rollout runs
    execution = attempt(app, state)
    # THEN it ends as without them, and each effect is there once
    assert execution.states()[-1] == TASKS[state].without
    assert app.calls[state] >= 3
    versions = [(write.version, write.weights) for write in app.functions.writes]
    if state == "Shift to zero":
        versions.pop()  # The rollback from zero writes what is there already.
    assert all(one != other for one, other in pairwise(versions))


@pytest.mark.parametrize("state", TASKS)
def test_a_function_that_sleeps_is_waited_for(app: Rollouts, state: str) -> None:
    # GIVEN a function that was idle for weeks, and then takes its time
    app.before(state, error("Lambda.CodeArtifactUserPendingException"))
    app.before(state, error("Lambda.ClientExecutionTimeoutException"), calls=range(2, 3))
    # WHEN the rollout runs, THEN it ends as with one that is awake
    assert attempt(app, state).states()[-1] == TASKS[state].without


@pytest.mark.parametrize("state", ["Plan", "Judge", "Roll back"])
def test_a_function_that_sleeps_for_three_minutes_is_waited_for(app: Rollouts, state: str) -> None:
    app.before(state, lambda: None, calls=range(15, 16))
    app.before(state, error("Lambda.ResourceNotReadyException"), calls=range(1, 15))
    app.after(state, app.take_time, calls=range(15, 16))
    app.hurry(TASKS[state].before, SOME_TIME)
    assert attempt(app, state).states()[-1] == TASKS[state].without
    assert app.calls[state] == 15


@pytest.mark.parametrize("state", [state for state in TASKS if state not in {"Roll back", "Settle"}])
@pytest.mark.parametrize("name", ["States.DataLimitExceeded", "States.Runtime"])
def test_an_error_that_no_wildcard_matches_takes_the_way_of_every_other(app: Rollouts, state: str, name: str) -> None:
    app.before(state, error(name))
    execution = attempt(app, state)
    assert (execution.states()[-1], app.calls[state]) == (TASKS[state].failed, 1)


@pytest.mark.parametrize("state", TASKS)
def test_a_programmers_error_is_retried_only_where_things_are_put_back(app: Rollouts, state: str) -> None:
    # GIVEN a function that has a bug, and raises once
    app.before(state, RuntimeError("a bug"))
    # WHEN the rollout runs
    execution = attempt(app, state)
    # THEN it takes the way out of its state at once, or tries again what puts the target and the record in order
    if state in {"Roll back", "Settle"}:
        assert (execution.states()[-1], app.calls[state]) == (TASKS[state].without, 2)
    else:
        assert (execution.states()[-1], app.calls[state]) == (TASKS[state].failed, 1)


@pytest.mark.parametrize("state", TASKS)
def test_an_effect_whose_response_was_lost_for_good_is_undone_or_recorded(app: Rollouts, state: str) -> None:
    app.after(state, error("RequestRefused"))
    execution = attempt(app, state)
    assert (execution.states()[-1], app.calls[state]) == (TASKS[state].failed, 1)
    if TASKS[state].failed == "Rolled back":
        assert app.functions.routing == (STABLE, {})
        assert app.record()["reason"] == "made to fail"


@pytest.mark.parametrize("state", WITH_TIMEOUT)
def test_a_task_that_never_answers_times_out(app: Rollouts, state: str) -> None:
    app.time_out(state, after=TASKS[state].before)
    execution = attempt(app, state)
    assert execution.states()[-1] == (TASKS[state].timed_out or TASKS[state].failed)


@pytest.mark.parametrize("state", ["Acquire", "Shift", "Judge", "Promote", "Roll back", "Settle"])
def test_a_task_that_answers_too_late_times_out(app: Rollouts, state: str) -> None:
    app.time_out(state, after=TASKS[state].before, effect=True)
    execution = attempt(app, state)
    assert execution.states()[-1] == (TASKS[state].timed_out or TASKS[state].failed)
    assert app.functions.routing == (CANDIDATE if state == "Settle" else STABLE, {})


def test_a_shift_that_comes_to_life_after_the_end_moves_nothing(app: Rollouts) -> None:
    # GIVEN a shift that goes on only once the rollout has ended
    def oversleep() -> None:
        app.take_time()
        app.wait_for("Settle")

    app.before("Shift", oversleep)
    app.hurry("Prepare")
    # WHEN its state times out
    execution = app.run(app.request())
    # THEN the rollback stands
    assert execution.states()[-1] == "Rolled back"
    assert app.functions.routing == (STABLE, {})
    assert [write.weights for write in app.functions.writes] == [{}]


def test_a_shift_that_comes_to_life_after_the_rollback_moves_nothing() -> None:
    with Rollouts() as app:
        # GIVEN a shift whose call is given up, and that goes on once the alias has been rolled back
        app.run_aside("Shift", until="Roll back")
        # WHEN the rollout ends
        execution = app.run(app.request())
        # THEN the rollback stands
        assert execution.states()[-1] == "Rolled back"
        assert app.functions.routing == (STABLE, {})
        assert_invariants(app)


@pytest.mark.parametrize("state", sorted(HOOKED | set(TASKS)))
def test_every_task_retries_with_full_jitter_and_has_a_timeout(state: str) -> None:
    task = STATES[state]
    assert "TimeoutSeconds" in task
    retriers = [retry for retry in task["Retry"] if retry.get("MaxAttempts") != 0]
    # A function that sleeps is not ready sooner for those who call it at different times.
    sleeping = [retry for retry in retriers if retry["ErrorEquals"] == [*SLEEPING_FUNCTION_ERRORS]]
    assert all(retry["JitterStrategy"] == "FULL" for retry in retriers if retry not in sleeping)
    assert "States.ALL" in task["Catch"][-1]["ErrorEquals"]


def test_every_error_that_a_retry_names_is_retried(app: Rollouts) -> None:
    # GIVEN a step for each name, whose judge fails with it once
    names = [name for retry in STATES["Judge"]["Retry"] for name in retry["ErrorEquals"]]
    for number, name in enumerate(names):
        app.before("Judge", error(name), calls=range(2 * number + 1, 2 * number + 2))
    # WHEN the rollout runs
    execution = app.run(app.request(*((weight + 1, 0) for weight in range(len(names)))))
    # THEN each was judged again
    assert execution.states()[-1] == "Promoted"
    assert app.calls["Judge"] == 2 * len(names)


@pytest.mark.parametrize("earlier", ["2026-11-30T09:00:13Z", "2026-11-30T09:00:13.000Z"])
@pytest.mark.parametrize("state", ["Bake", "Pause", "Wait for its turn"])
def test_the_attempts_of_a_wait_are_in_the_order_of_their_time(state: str, earlier: str) -> None:
    def attempt_at(time: str, retries: int = 0) -> Any:
        context = {"State": {"EnteredTime": time, "RetryCount": retries}}
        expression = STATES[state]["Arguments"]["Payload"]["attempt"][2:-2]
        return evaluate_jsonata(expression, {"states": {"context": context}})

    later = "2026-11-30T09:00:13.500Z"
    attempts = [attempt_at(earlier), attempt_at(earlier, 1), attempt_at(earlier, 10), attempt_at(later)]
    assert sorted(attempts) == attempts
    assert len({len(each) for each in attempts}) == 1


@pytest.mark.parametrize("name", ["Lambda.ServiceException", "Broken"])
@pytest.mark.parametrize("state", ["Settle", "Roll back"])
def test_what_puts_things_back_is_tried_thirty_times_more(app: Rollouts, state: str, name: str) -> None:
    app.before(state, app.take_time, calls=range(31, 32))
    app.always(state, error(name))
    app.hurry(TASKS[state].before, 0.0005)
    execution = attempt(app, state)
    assert execution.states()[-1] == TASKS[state].failed
    # A try that took longer than the shortened time may not have come to its function, and counts for itself.
    assert tries(execution, state) >= 31


def tries(execution: Execution, state: str) -> int:
    """How often a state's task was scheduled."""
    entered, count = "", 0
    for event in execution.history():
        entered = event.get("stateEnteredEventDetails", {}).get("name", entered)
        count += entered == state and event["type"].value == "TaskScheduled"
    return count


def test_a_rollout_whose_end_cannot_be_recorded_keeps_its_lock(app: Rollouts) -> None:
    app.always("Settle", error("RequestRefused"))
    execution = app.run(app.request())
    assert (execution.states()[-1], execution.error) == ("Unsettled", "Unsettled")
    assert app.record()["status"] == "running"
    assert stored_lock(app.table, TARGET_KEY)["owner"] == "checkout-42"
    assert app.functions.routing == (CANDIDATE, {})


@pytest.mark.parametrize("state", [state for state in TASKS if state not in WITHOUT_LOCK])
def test_an_execution_that_lost_its_lock_has_no_further_effect(app: Rollouts, state: str) -> None:
    # GIVEN a rollout of a target that another one has taken over
    left: list[Any] = []
    app.before(state, app.steal_lock)
    app.before(state, lambda: left.append((app.functions.routing, app.record())))
    # WHEN it goes on
    execution = attempt(app, state)
    # THEN it ends at once, and leaves target, record and lock as they are
    assert (execution.states()[-2:], execution.error) == ([state, "Superseded"], "LockLost")
    routing, record = left[0]
    assert app.functions.routing == routing
    assert (app.record()["status"], stored_lock(app.table, TARGET_KEY)["owner"]) == (record["status"], "thief")


# --- Signals ---------------------------------------------------------------------------------------------------------

FIRST, REST = (10, LONG), (50, 1)
BEFORE_THE_TOKEN, DURING_THE_BAKE, AFTER_THE_TIMEOUT = "before the token", "during the bake", "after the timeout"
MOMENTS: dict[str, tuple[str, str, tuple[float, int]]] = {
    BEFORE_THE_TOKEN: ("after", "Shift", FIRST),
    DURING_THE_BAKE: ("after", "Bake", FIRST),
    AFTER_THE_TIMEOUT: ("before", "Judge", (10, 1)),
}
JUDGED = [*AROUND, *STEP]
SENT: dict[str, tuple[Callable[[Rollouts], object], list[str], str]] = {
    "abort": (lambda app: app.signal("abort", reason="a bug"), [*JUDGED, *ROLLED_BACK], "aborted by ann: a bug"),
    "promote": (lambda app: app.signal("promote"), [*JUDGED, *STEP, *PROMOTED], "the bake is over"),
    "promote-fully": (lambda app: app.signal("promote-fully"), [*JUDGED, *PROMOTED], "promoted fully by ann"),
    "alarm": (lambda app: app.tell_alarm(), [*JUDGED, *ROLLED_BACK], f"alarm {ALARM} fired"),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("sent", SENT)
def test_a_signal_ends_the_bake_whenever_it_comes(app: Rollouts, sent: str, moment: str) -> None:
    # GIVEN a signal before the bake's token is there, while it bakes, or between its timeout and the judge
    send, states, reason = SENT[sent]
    when, state, first = MOMENTS[moment]
    getattr(app, when)(state, lambda: send(app))
    # WHEN the rollout runs
    execution = app.run(app.request(first, REST, guards={"alarms": [ALARM]}))
    # THEN it is not lost, and the rollout goes where the signal says
    assert execution.states() == states
    assert app.record()["reason"] == reason


def test_a_promote_is_meant_for_one_step_alone(app: Rollouts) -> None:
    # GIVEN a promote during the first bake
    app.after("Bake", lambda: app.signal("promote"))
    execution = app.start(app.request((10, LONG), (50, LONG)))
    # WHEN the second one has begun
    app.wait_for("Bake", 2)
    # THEN it bakes on, until a signal of its own
    with pytest.raises(TimeoutError):
        execution.wait(0.2)
    app.signal("promote")
    assert (execution.wait().status, app.record()["reason"]) == ("SUCCEEDED", "this wait was skipped by ann")


def test_the_first_promote_and_abort_together_abort(app: Rollouts) -> None:
    app.after("Shift", lambda: app.signal("promote"))
    app.after("Shift", lambda: app.signal("abort"))
    assert app.run(app.request(FIRST)).states()[-1] == "Rolled back"


def test_evidence_ends_the_bake_at_once(app: Rollouts) -> None:
    # GIVEN a candidate that fails while the stable revision does not
    def count() -> None:
        app.telemetry(STABLE, ok=300)
        app.telemetry(CANDIDATE, failed=20, ok=10)

    app.after("Bake", count)
    # WHEN it bakes
    execution = app.run(app.request(FIRST, guards={"errors": {"tolerate": 0}}))
    # THEN it is rolled back for what was counted
    assert execution.states() == [*JUDGED, *ROLLED_BACK]
    assert app.record()["reason"].startswith("20 of 30 candidate requests failed against 0 of 300")


def test_a_request_that_names_no_guard_is_judged_by_the_telemetry_that_its_target_sends(app: Rollouts) -> None:
    # GIVEN a target that has sent telemetry, and a candidate that always fails
    def count() -> None:
        app.telemetry(STABLE, ok=300)
        app.telemetry(CANDIDATE, failed=30)

    app.telemetry(STABLE, ok=1)
    app.after("Bake", count)
    # WHEN a request says nothing of guards
    request = app.request(FIRST)
    del request["guards"]
    execution = app.run(request)
    # THEN the candidate is rolled back
    assert execution.states() == [*JUDGED, *ROLLED_BACK]
    assert app.record()["reason"].startswith("30 of 30 candidate requests failed")


def test_a_rollout_that_nothing_can_guard_says_so_when_it_starts(app: Rollouts) -> None:
    # GIVEN a target that sends no telemetry, and a bake that is too short for CloudWatch
    request = app.request((10, 1))
    del request["guards"]
    # WHEN it is rolled out
    execution = app.run(request)
    # THEN it runs, and its first event says that nothing guards it
    assert execution.states()[-1] == "Promoted"
    (started,) = (event for event in app.events() if event["detailType"] == "Rollout Started")
    (warning,) = started["detail"]["warnings"]
    assert "nothing guards this rollout" in warning


def test_evidence_that_is_good_enough_promotes_at_once(app: Rollouts) -> None:
    # GIVEN a candidate that mends what the stable revision breaks
    def count() -> None:
        app.telemetry(STABLE, failed=90)
        app.telemetry(CANDIDATE, ok=90)

    app.after("Bake", count)
    # WHEN the request lets good evidence promote it
    guards: dict[str, Any] = {"errors": {}, "promoteEarly": {}}
    execution = app.run(app.request(FIRST, (50, LONG), guards=guards))
    # THEN the steps that are left are skipped
    assert execution.states() == [*JUDGED, *PROMOTED]
    assert app.record()["reason"].endswith("; a candidate 2 times as bad is ruled out at 0.05")


ERRORS: dict[str, Any] = {"errors": {}}


def test_true_telemetry_is_promoted_once_lambda_has_counted_it(app: Rollouts) -> None:
    # GIVEN a good candidate, whose requests CloudWatch knows only after the bake
    def count() -> None:
        app.telemetry(STABLE, ok=90, observed=True)
        app.telemetry(CANDIDATE, ok=10, observed=True)

    app.after("Bake", count)
    app.after("Judge", lambda: app.lambda_counts(STABLE, 90))
    app.after("Judge", lambda: app.lambda_counts(CANDIDATE, 10))
    app.hurry("Judge")
    # WHEN it is rolled out
    execution = app.run(app.request(guards=ERRORS))
    # THEN the promotion waits for one short bake
    assert execution.states() == [*JUDGED, "Bake", "Judge", "Verdict?", *PROMOTED]
    held, promoted = (each["detail"] for each in app.events() if each["detailType"] == "Verdict Reached")
    assert held["reason"].startswith("CloudWatch has not confirmed the telemetry yet: telemetry reported 10 requests")
    assert (held["verdict"], promoted["verdict"]) == ("inconclusive", "promote")


def test_a_forged_flood_of_successes_hides_no_failure_and_does_not_promote(
    app: Rollouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a candidate that fails half of its requests, and somebody who reports thousands of successes before
    def count() -> None:
        app.telemetry(CANDIDATE, ok=5000, observed=True)
        app.telemetry(STABLE, ok=90, observed=True)
        app.telemetry(CANDIDATE, ok=5, failed=5, observed=True)
        app.lambda_counts(STABLE, 90)
        app.lambda_counts(CANDIDATE, 10)

    app.after("Bake", count)
    app.hurry("Judge")
    for limit in ("MAX_EXTRA_BAKES", "MAX_HOLDS"):
        monkeypatch.setattr(verdict, limit, 1)
    # WHEN it is rolled out, even without a need of data. The bake must outlast the count, on a busy machine too.
    execution = app.run(app.request((10, 40), guards={"errors": {}, "onNoData": "pass"}))
    # THEN it is rolled back, and the record says why
    assert execution.states()[-1] == "Rolled back"
    assert (app.record()["status"], execution.states().count("Bake")) == ("rolled-back", 3)
    assert "telemetry reported 5,010 requests of version 7, but Lambda counted 10 inv" in app.record()["reason"]


def test_forged_failures_of_the_stable_version_do_not_promote_early(app: Rollouts) -> None:
    def count() -> None:
        app.telemetry(STABLE, failed=90, observed=True)
        app.telemetry(CANDIDATE, ok=90, observed=True)
        app.lambda_counts(STABLE, 9)
        app.lambda_counts(CANDIDATE, 90)
        app.signal("abort")

    app.after("Bake", count)
    app.run(app.request(FIRST, (50, LONG), guards={"errors": {}, "promoteEarly": {}}))
    assert app.record()["reason"] == "aborted by ann"


def test_failures_roll_back_at_once_although_lambda_has_counted_no_request_yet(app: Rollouts) -> None:
    def count() -> None:
        app.telemetry(STABLE, ok=300, observed=True)
        app.telemetry(CANDIDATE, failed=20, ok=10, observed=True)

    app.after("Bake", count)
    assert app.run(app.request(FIRST, guards=ERRORS)).states() == [*JUDGED, *ROLLED_BACK]


def test_messages_of_batches_may_be_more_than_the_invocations(app: Rollouts) -> None:
    def count() -> None:
        app.telemetry(STABLE, ok=900)
        app.telemetry(CANDIDATE, ok=100)
        app.lambda_counts(STABLE, 9)
        app.lambda_counts(CANDIDATE, 1)

    app.after("Bake", count)
    assert app.run(app.request(guards=ERRORS)).states() == [*JUDGED, *PROMOTED]


def test_an_alarm_still_turns_an_early_promotion_round(app: Rollouts) -> None:
    def count() -> None:
        app.telemetry(STABLE, failed=90)
        app.telemetry(CANDIDATE, ok=90)

    app.after("Bake", count)
    app.before("Promote", lambda: app.alarm("ALARM"))
    app.before("Promote", app.tell_alarm)
    guards = {"errors": {}, "promoteEarly": {}, "alarms": [ALARM]}
    execution = app.run(app.request(FIRST, guards=guards))
    assert (execution.states()[-1], app.record()["status"]) == ("Rolled back", "rolled-back")


@pytest.mark.parametrize(
    ("on_no_data", "bakes", "end"), [("wait", 13, "Rolled back"), ("fail", 1, "Rolled back"), ("pass", 1, "Promoted")]
)
def test_a_bake_without_requests_is_inconclusive(app: Rollouts, on_no_data: str, bakes: int, end: str) -> None:
    execution = app.run(app.request(guards={"errors": {}, "onNoData": on_no_data}))
    assert (execution.states().count("Bake"), execution.states()[-1]) == (bakes, end)


def test_a_bake_is_held_until_the_candidate_has_had_enough_requests(app: Rollouts) -> None:
    # GIVEN ten requests of the candidate in each bake, and fifteen that are asked for
    def count() -> None:
        app.telemetry(STABLE, ok=90)
        app.telemetry(CANDIDATE, ok=10)

    app.after("Bake", count, calls=range(1, 3))
    execution = app.run(app.request((10, 1), guards={"errors": {}, "leastRequests": {"count": 15}}))
    # THEN it bakes again, and goes on
    assert (execution.states().count("Bake") > 1, execution.states()[-1]) == (True, "Promoted")
    held = next(event["detail"] for event in app.events() if event["detailType"] == "Verdict Reached")
    assert held["reason"].endswith(" of the 15 requests that guards.leastRequests asks for; baking again")


def test_an_alarm_that_nobody_told_of_is_seen_by_the_judge(app: Rollouts) -> None:
    app.before("Judge", lambda: app.alarm("ALARM"))
    app.run(app.request(guards={"alarms": [ALARM]}))
    assert app.record()["reason"] == f"alarm {ALARM} fired"


def test_an_alarm_that_fires_already_counts_once_it_has_recovered(app: Rollouts) -> None:
    app.alarm("ALARM")
    guarded = {"guards": {"alarms": [ALARM]}}
    assert app.run(app.request(**guarded, id="as-it-was")).states()[-1] == "Promoted"
    app.functions.versions["8"] = app.functions.versions[CANDIDATE] | {"Version": "8"}
    for alarm in ("OK", "ALARM"):
        app.before("Judge", functools.partial(app.alarm, alarm), calls=range(2, 3))
    again = app.run(app.request(**guarded, id="fired-again", candidate={"version": "8"}))
    assert again.states()[-1] == "Rolled back"


def test_an_alarm_that_fires_already_refuses_where_alarms_are_strict(app: Rollouts) -> None:
    app.alarm("ALARM")
    execution = app.run(app.request(guards={"alarms": [ALARM], "strictAlarms": True}))
    assert (execution.states(), execution.error) == (["Plan", *SETTLED, "Refused"], "RequestRefused")


@pytest.mark.parametrize("sent", SENT)
def test_a_signal_after_the_end_changes_nothing(app: Rollouts, sent: str) -> None:
    app.run(app.request(guards={"alarms": [ALARM]}))
    before = app.items()
    SENT[sent][0](app)
    # THEN an operator is told so, and nothing else is written
    new = [item for item in app.items() if item not in before]
    assert len(app.items()) == len(before) + len(new)
    told = [item["detail"]["reason"] for item in new if item["sk"].startswith("EVENT#")]
    assert sorted(item["sk"].split("#")[0] for item in new) == ([] if sent == "alarm" else ["EVENT", "SIGNAL"])
    assert all(reason.startswith("rolloutId: checkout-42 has ended: succeeded; ") for reason in told)


def test_a_signal_while_the_bake_is_tried_again_ends_the_next_attempt(app: Rollouts) -> None:
    # GIVEN a bake whose first attempt leaves a token and fails
    app.after("Bake", error("Lambda.ServiceException"))
    app.before("Bake", lambda: app.signal("abort"), calls=range(2, 3))
    # WHEN the signal finds that token
    execution = app.run(app.request(FIRST))
    # THEN the second attempt reads it
    assert (execution.states()[-1], app.calls["Bake"]) == ("Rolled back", 2)


@pytest.mark.parametrize(
    ("stage", "strategy"),
    [("afterStep", "Canary10Percent1Second"), ("beforeTraffic", "AllAtOnce"), ("afterTraffic", "AllAtOnce")],
)
def test_an_abort_while_the_last_hook_is_asked_rolls_back(app: Rollouts, stage: str, strategy: str) -> None:
    def answer() -> dict[str, str]:
        app.signal("abort")
        return {"hookStatus": "SUCCEEDED"}

    execution = app.run(app.request(strategy=strategy, hooks={stage: [app.hook("check", answer)]}))
    assert execution.states()[-1] == "Rolled back"


# --- Pauses ----------------------------------------------------------------------------------------------------------

PAUSED = [*JUDGED, "Pause", "Judge pause", "After pause?"]


@pytest.mark.parametrize("moment", ["Shift", "Bake"])
@pytest.mark.parametrize(
    ("word", "states"),
    [
        ("resume", [*PAUSED, "Next step?", *STEP, *STEP, *PROMOTED]),
        ("promote", [*PAUSED, "Next step?", *STEP, *PROMOTED]),
        ("promote-fully", [*PAUSED, *PROMOTED]),
        ("abort", [*PAUSED, *ROLLED_BACK]),
    ],
)
def test_an_operator_pauses_a_rollout_and_ends_the_pause(
    app: Rollouts, word: str, states: list[str], moment: str
) -> None:
    # GIVEN a pause that is asked for before the bake's token is there, or during the bake
    app.after(moment, lambda: app.signal("pause"))
    # WHEN the operator ends it; what is baked again is skipped
    app.after("Pause", lambda: app.signal(word))
    if word == "resume":
        app.after("Bake", lambda: app.signal("promote"), calls=range(2, 3))
    execution = app.run(app.request(FIRST, REST))
    # THEN the rollout goes where that word says
    assert execution.states() == states
    assert "Rollout Paused" in app.announced()


@pytest.mark.parametrize(("at", "weights"), [("current", [{"7": 0.1}]), ("zero", [{"7": 0.1}, {}])])
@pytest.mark.parametrize(("then", "end"), [("rollback", "Rolled back"), ("promote", "Promoted")])
def test_a_failure_pauses_where_the_request_says_so(
    app: Rollouts, at: str, weights: list[dict[str, float]], then: str, end: str
) -> None:
    # GIVEN an alarm in the first bake, and nobody who decides
    fires(app)
    pause = {"at": at, "limitSeconds": 1, "then": then}
    execution = app.run(app.request((10, 1), (50, 1), **GUARDED, onFailure={"pause": pause}))
    # THEN the rollout waits at the weight that was asked for, and ends as was asked for
    assert execution.states()[-1] == end
    assert [write.weights for write in app.functions.writes][:-1] == weights


def test_a_guard_that_pauses_waits_at_the_weight_and_is_forgiven_when_an_operator_goes_on(app: Rollouts) -> None:
    # GIVEN a candidate that fails in its first bake
    def count() -> None:
        app.telemetry(STABLE, ok=300)
        app.telemetry(CANDIDATE, failed=20, ok=10)

    app.after("Bake", count)
    app.after("Pause", lambda: app.signal("resume"))
    app.after("Bake", lambda: app.signal("promote"), calls=range(2, 3))
    pause = {"pause": {"at": "zero", "limitSeconds": 60}}
    # WHEN an operator resumes it, and ends the second bake
    execution = app.run(app.request(FIRST, guards={"errors": {"action": "pause"}}, onFailure=pause))
    # THEN it paused once, at its weight, and goes on
    assert execution.states()[-1] == "Promoted"
    assert (execution.states().count("Pause"), "Shift to zero" in execution.states()) == (1, False)


def test_evidence_for_a_rollback_ends_a_pause_for_a_guard_that_pauses(app: Rollouts) -> None:
    # GIVEN a rollout that is paused for such a guard
    def count() -> None:
        app.telemetry(STABLE, ok=300)
        app.telemetry(CANDIDATE, failed=20, ok=10)

    app.after("Bake", count)
    alarmed = {"guards": {"errors": {"action": "pause"}, "alarms": [ALARM]}}
    execution = app.start(app.request(FIRST, **alarmed))
    app.wait_for("Pause")
    # WHEN an alarm fires
    app.alarm("ALARM")
    app.tell_alarm()
    # THEN it is rolled back
    assert execution.wait().error == "RolledBack"
    assert app.record()["reason"] == f"alarm {ALARM} fired"


def test_a_pause_for_a_failure_is_not_ended_by_what_it_is_for(app: Rollouts) -> None:
    # GIVEN a rollout that is paused for an alarm
    fires(app)
    execution = app.start(app.request((10, 1), **ZERO))
    app.wait_for("Pause")
    # WHEN the same alarm is told of
    app.tell_alarm()
    # THEN it waits on, for an operator
    with pytest.raises(TimeoutError):
        execution.wait(0.2)
    app.signal("abort")
    assert execution.wait().error == "RolledBack"


def test_a_resumed_rollout_does_not_hear_the_same_alarm_again(app: Rollouts) -> None:
    fires(app)
    app.after("Pause", lambda: app.signal("resume"))
    execution = app.run(app.request((10, 1), (50, 1), **ZERO))
    assert execution.states()[-1] == "Promoted"
    assert execution.states().count("Pause") == 1


def test_a_signal_in_the_instant_after_a_pauses_limit_still_counts(app: Rollouts) -> None:
    fires(app)
    app.before("Judge pause", lambda: app.signal("promote-fully"))
    assert app.run(app.request((10, 1), **pausing("zero", 1))).states()[-1] == "Promoted"


def test_an_abort_before_anything_was_prepared_ends_the_rollout(app: Rollouts) -> None:
    app.after("Acquire", lambda: app.signal("abort"))
    execution = app.run(app.request())
    assert execution.states()[-5:] == ROLLED_BACK
    assert app.functions.writes == []


@pytest.mark.parametrize("send", [lambda app: app.signal("abort"), lambda app: app.tell_alarm()])
def test_an_objection_between_promotion_and_the_end_turns_it_round(app: Rollouts, send: Any) -> None:
    app.before("Settle", lambda: send(app))
    execution = app.run(app.request(**GUARDED))
    assert execution.states()[-8:] == ["Promote", "After traffic?", *SETTLED, *ROLLED_BACK][-8:]
    assert app.functions.routing == (STABLE, {})


def test_provisioned_concurrency_moves_with_the_traffic(app: Rollouts) -> None:
    holds_concurrency(app)
    execution = app.run(app.request())
    assert execution.states()[-6:] == ["Promote", "After traffic?", "Release", *SETTLED, "Promoted"]
    assert app.functions.provisioned == {CANDIDATE: 5}


@pytest.mark.parametrize(
    ("then", "status"), [("promote-fully", "succeeded"), ("resume", "succeeded"), ("abort", "rolled-back")]
)
def test_the_record_says_that_a_rollout_is_paused_while_it_is(app: Rollouts, then: str, status: str) -> None:
    seen: list[str] = []
    app.after("Bake", lambda: app.signal("pause"))
    app.after("Bake", lambda: seen.append(app.record()["status"]), calls=range(2, 3))
    app.after("Bake", lambda: app.signal("promote"), calls=range(2, 3))
    app.after("Pause", lambda: seen.append(app.record()["status"]))
    app.after("Pause", lambda: app.signal(then))
    app.run(app.request(*BAKES))
    assert_invariants(app)
    assert seen == ["paused", *["running"] * (then == "resume")]
    assert app.record()["status"] == status


# --- Several rollouts ------------------------------------------------------------------------------------------------


def test_a_second_execution_of_a_rollout_is_a_duplicate(app: Rollouts) -> None:
    # GIVEN a rollout that bakes
    first = app.start(app.request(FIRST))
    app.wait_for("Bake")
    before = app.items()
    # WHEN it is started by another name
    second = app.run(app.request(FIRST), name="again")
    # THEN that one does nothing, fails because the candidate is not live, and names the one to wait for
    assert second.states() == ["Plan", "Acquire", "Acquired?", "Duplicate"]
    assert (second.error, second.cause) == (
        "Duplicate",
        f"rollout checkout-42 belongs to the execution {first.arn}; wait for that one",
    )
    assert app.items() == before
    app.signal("promote")
    ended = first.wait()
    assert ended.status == "SUCCEEDED"
    # AND one after the end ends as the rollout did
    later = app.run(app.request(FIRST), name="later")
    assert later.states() == ["Plan", "Acquire", "Acquired?", "Ended?", "Promoted"]
    assert later.output == ended.output


@pytest.mark.parametrize("name", ["again", None])
def test_an_execution_of_a_rollout_that_was_rolled_back_fails_like_the_first_one(
    app: Rollouts, name: str | None
) -> None:
    # GIVEN a rollout that was rolled back
    app.after("Bake", lambda: app.signal("abort"))
    first = app.run(app.request(FIRST), name="first")
    # WHEN a pipeline that runs again starts it once more
    second = app.run(app.request(FIRST), name=name)
    # THEN it fails too, with the same reason, and nothing moves
    assert second.states() == ["Plan", "Acquire", "Acquired?", "Ended?", "Rolled back"]
    assert (second.error, second.cause) == (first.error, first.cause)


@pytest.mark.parametrize("moment", ["runs", "has ended"])
def test_an_execution_of_a_known_rollout_ends_by_it_although_it_could_not_be_planned_any_more(
    app: Rollouts, moment: str
) -> None:
    # GIVEN a rollout whose alarm is deleted after its plan
    request = app.request((10, LONG), guards={"alarms": [ALARM]})
    first = app.start(request, name="first")
    app.wait_for("Bake")
    app.engine.client("cloudwatch").delete_alarms(AlarmNames=[ALARM])
    if moment == "has ended":
        app.signal("abort")
        first.wait()
    # WHEN a pipeline starts it once more
    second = app.run(request, name="second")
    # THEN it learns how the rollout stands
    assert second.error == ("Duplicate" if moment == "runs" else "RolledBack")
    app.signal("abort")
    assert first.wait().error == "RolledBack"


def test_an_execution_with_the_id_of_another_request_is_refused_and_changes_nothing(app: Rollouts) -> None:
    app.run(app.request())
    before = app.items()
    second = app.run(app.request(candidate={"version": "8"}), name="again")
    assert second.states() == ["Plan", "Acquire", "Acquired?", "Refused"]
    assert second.error == "RequestRefused"
    assert second.cause is not None
    assert second.cause.startswith("id: checkout-42 is the id of an earlier request with other content")
    assert app.items() == before


@pytest.mark.parametrize("ending", ["abort", "promote"])
def test_requests_for_a_busy_target_run_after_it_in_the_order_of_their_arrival(app: Rollouts, ending: str) -> None:
    # GIVEN a rollout that bakes, and two that wait their turn
    for version in ("8", "9"):
        app.functions.versions[version] = app.functions.versions[CANDIDATE] | {"Version": version}
    app.start(app.request(FIRST))
    app.wait_for("Bake")
    for number, version in enumerate(("8", "9"), start=1):
        request = app.request(id=f"to-{version}", candidate={"version": version})
        app.start(request, name=f"asks-{version}")
        app.wait_for("Wait for its turn", number)
    # WHEN the first one ends
    app.signal(ending)
    # THEN the others run, one after the other, each in the execution that has waited
    assert [e.states()[-1] for e in app.settle_down()[1:]] == ["Promoted", "Promoted"]
    assert [write.version for write in app.functions.writes if not write.weights][-2:] == ["8", "9"]
    assert app.record("to-8")["endedAt"] <= app.record("to-9")["startedAt"]


@pytest.mark.parametrize("impossible", UNUSABLE_IDS)
def test_an_execution_with_an_id_that_no_record_can_have_is_refused_under_its_name(
    app: Rollouts, impossible: Any
) -> None:
    execution = app.run(app.request(id=impossible), name="by-hand")
    assert (execution.states(), execution.error) == (["Plan", "Settle", "Ended?", "Refused"], "RequestRefused")
    assert app.announced("by-hand") == ["Rollout Refused"]
    assert app.record("by-hand")["reason"].startswith("id: ")


def test_a_request_whose_id_is_a_number_has_one_id_however_it_ends(app: Rollouts) -> None:
    assert app.run(app.request(id=20261130, strategy="none"), name="by-hand").error == "RequestRefused"
    assert app.announced("20261130") == ["Rollout Refused"]
    assert app.run(app.request(id=20261131, strategy="AllAtOnce"), name="again").states()[-1] == "Promoted"
    assert app.record("20261131")["status"] == "succeeded"


def test_a_request_that_does_not_want_to_wait_is_refused_at_once(app: Rollouts) -> None:
    first = app.start(app.request(FIRST))
    app.wait_for("Bake")
    execution = app.run(app.request(id="hasty", onBusy="refuse"))
    assert execution.states() == ["Plan", "Acquire", "Acquired?", "Refused"]
    assert execution.cause == f"target: {TARGET_KEY} is busy with rollout checkout-42, and onBusy is refuse"
    assert app.announced("hasty") == ["Rollout Refused"]
    app.signal("abort")
    assert first.wait().error == "RolledBack"


@pytest.mark.parametrize("name", ["asks", None])
def test_the_next_in_line_goes_on_although_the_first_call_was_lost(app: Rollouts, name: str | None) -> None:
    app.start(app.request(FIRST))
    app.wait_for("Bake")
    app.start(app.request(id="next"), name=name)
    app.wait_for("Wait for its turn")
    app.before("Settle", error("Lambda.ServiceException"))
    app.after("Settle", error("Lambda.ServiceException"), calls=range(2, 3))
    app.signal("abort")
    assert [e.states()[-1] for e in app.settle_down()] == ["Rolled back", "Promoted"]


def test_a_request_that_waited_is_planned_with_what_holds_in_its_turn(app: Rollouts) -> None:
    # GIVEN a request in line whose candidate does not exist yet
    app.start(app.request(FIRST))
    app.wait_for("Bake")
    waits = app.start(app.request(id="next", guards={"alarms": [ALARM]}), name="asks")
    app.wait_for("Wait for its turn")
    assert app.announced("next") == ["Rollout Waiting"]
    # WHEN an alarm fires before its turn comes
    app.alarm("ALARM")
    app.signal("abort")
    # THEN its plan knows
    waits.wait()
    assert waits.states()[:7] == ["Plan", "Acquire", "Acquired?", "Wait for its turn", "Plan", "Acquire", "Acquired?"]
    started = next(event for event in app.events("next") if event["detailType"] == "Rollout Started")
    assert started["detail"]["firing"] == [ALARM]


def test_a_request_in_line_whose_acquire_failed_for_good_leaves_the_line(app: Rollouts) -> None:
    app.start(app.request(FIRST))
    app.wait_for("Bake")
    app.after("Acquire", error("Broken"), calls=range(2, 3))
    assert app.run(app.request(id="next"), name="asks").states()[-1] == "Refused"
    assert app.record("next")["status"] == "refused"
    app.signal("abort")
    assert [e.states()[-1] for e in app.settle_down()] == ["Rolled back", "Refused"]


def test_a_request_that_has_waited_for_its_limit_is_refused_by_name(app: Rollouts) -> None:
    app.start(app.request(FIRST))
    app.wait_for("Bake")
    execution = app.run(app.request(id="next", onBusy=SHORT_WAIT), name="asks")
    assert execution.states()[3:] == ["Wait for its turn", "Settle", "Ended?", "Refused"]
    reason = (
        f"target: {TARGET_KEY} was still busy after 1 s; send the request again under a new id, or give "
        "onBusy.wait.limitSeconds a higher limit"
    )
    assert (execution.error, execution.cause) == ("RequestRefused", reason)
    assert app.record("next")["reason"] == reason
    assert app.announced("next") == ["Rollout Waiting", "Rollout Refused"]
    app.signal("abort")


@pytest.mark.parametrize("attended", [True, False])
def test_an_abort_takes_a_request_out_of_the_line(app: Rollouts, attended: bool) -> None:
    # GIVEN a request in line, in an execution of its own or stored by intake
    first = app.start(app.request(FIRST))
    app.wait_for("Bake")
    request = app.request(id="next")
    if attended:
        app.start(request, name="asks")
        app.wait_for("Wait for its turn")
    else:
        app.admit(request, f"{first.arn.rpartition(':')[0]}:next")
    # WHEN an operator aborts it, twice
    app.signal("abort", "next", event_id="once", reason="not today")
    app.signal("abort", "next", event_id="once", reason="not today")
    # THEN it is refused at once, and what became of the signal is on record
    record = app.record("next")
    assert (record["status"], record["reason"]) == ("refused", "aborted by ann: not today")
    assert list(record["signals"]) == ["once"]
    # AND the first one goes on
    app.signal("promote")
    assert [e.states()[-1] for e in app.settle_down()] == ["Promoted", *["Refused"] * attended]
    assert "Signal Refused" not in app.announced("next")


def test_a_request_whose_execution_is_stopped_in_line_leaves_it(app: Rollouts) -> None:
    app.start(app.request(FIRST))
    app.wait_for("Bake")
    execution = app.start(app.request(id="next"), name="asks")
    app.wait_for("Wait for its turn")
    execution.stop("Cancelled", "by the pipeline")
    execution.wait()
    ended = {"executionArn": execution.arn, "name": execution.name, "status": "ABORTED"}
    kind = "Step Functions Execution Status Change"
    app._deliver("warden", {"detail-type": kind, "detail": ended | {"input": json.dumps(execution.input)}})
    assert app.record("next")["reason"] == "its execution ended as ABORTED while it waited for its turn"
    app.signal("abort")


def test_the_warden_refuses_a_request_of_a_queue_that_has_waited_for_its_limit(app: Rollouts) -> None:
    first = app.start(app.request(FIRST))
    app.wait_for("Bake")
    app.admit(app.request(id="next", onBusy=SHORT_WAIT), f"{first.arn.rpartition(':')[0]}:next")
    with mock.patch.object(line, "OVERDUE_SECONDS", -10):
        app._deliver("warden", {"detail-type": "Scheduled Event"})
    assert app.record("next")["status"] == "refused"
    assert app.record("next")["reason"].startswith(f"target: {TARGET_KEY} was still busy after 1 s")
    app.signal("abort")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"strategy": "Never"}, "strategy: not a preset"),
        ({"target": {"kind": "lambda-alias", "function": "checkout", "alias": "7"}}, "target.alias"),
        ({"nonsense": 1}, "nonsense: is not a known field"),
        ({"guards": {"alarms": ["nobody-knows"]}}, "no alarm is named nobody-knows"),
        ({"candidate": {"version": STABLE}}, "checkout:live already serves version"),
        ({"candidate": {"version": "99"}}, "checkout has no version 99"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused(app: Rollouts, fields: dict[str, Any], reason: str) -> None:
    execution = app.run(app.request() | fields)
    assert (execution.states()[-1], execution.error) == ("Refused", "RequestRefused")
    assert reason in (execution.cause or "")
    assert app.announced()[-1:] == ["Rollout Refused"]
    assert app.functions.writes == []


# --- Changed from outside --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "steps", "routing"),
    [
        ("Shift", [(10, 1)], ("5", {})),
        ("Shift", [(10, 1)], (STABLE, {"5": 0.5})),
        ("Shift", [(10, 1)], (CANDIDATE, {"5": 0.1})),
        ("Shift in passing", [(10, 0)], ("5", {})),
        ("Promote", [(10, 1)], (CANDIDATE, {"5": 0.1})),
        ("Roll back", [(10, LONG)], (STABLE, {"5": 0.5})),
    ],
)
def test_an_alias_that_somebody_else_moved_is_left_as_found(
    app: Rollouts, state: str, steps: list[tuple[float, int]], routing: tuple[str, dict[str, float]]
) -> None:
    # GIVEN somebody who moves the alias while the rollout runs
    TASKS[state].arrange(app)
    app.before(state, lambda: app.functions.change_outside(*routing))
    # WHEN the rollout wants to move it next
    execution = app.run(app.request(*steps))
    # THEN it stops, says what it found, and leaves it
    assert (execution.states()[-1], execution.error) == ("Stopped", "Stopped")
    assert app.functions.routing == routing
    assert app.functions.writes[-1].by == OUTSIDE
    assert f"was changed by somebody else: it serves version {routing[0]}" in app.record()["reason"]


@pytest.mark.parametrize(
    ("state", "steps"), [("Shift", [(10, 1)]), ("Shift in passing", [(10, 0)]), ("Promote", [(100, 0)])]
)
def test_a_candidate_that_was_deleted_is_rolled_back(app: Rollouts, state: str, steps: list[tuple[float, int]]) -> None:
    # GIVEN a clean-up that deletes the candidate, which no alias protects while it has no weight
    app.before(state, lambda: app.functions.versions.pop(CANDIDATE))
    # WHEN it is to get traffic
    execution = app.run(app.request(*steps))
    # THEN the rollout is rolled back at once, and says why
    assert (execution.states()[-1], execution.error) == ("Rolled back", "RolledBack")
    assert_invariants(app)
    assert app.functions.routing == (STABLE, {})
    assert app.record()["reason"].startswith("candidate version 7 is gone")
    assert (app.calls[state], app.calls["Roll back"]) == (1, 1)


def test_a_stable_version_that_was_deleted_after_the_promotion_stops_a_rollback(app: Rollouts) -> None:
    # GIVEN a stable version that goes after the promotion
    app.after("Promote", lambda: app.functions.versions.pop(STABLE))
    # WHEN a hook after traffic fails
    check = app.hook("check", {"hookStatus": "FAILED"})
    execution = app.run(app.request(hooks={"afterTraffic": [check]}))
    # THEN the alias stays at the only version that is left, and nothing is tried thirty times
    assert (execution.states()[-1], execution.error) == ("Stopped", "Stopped")
    assert_invariants(app)
    assert app.functions.routing == (CANDIDATE, {})
    assert "stable version 6 is gone, and it serves version 7" in app.record()["reason"]
    assert app.calls["Roll back"] == 1


@pytest.mark.parametrize("reversed_by", [None, "abort"])
def test_a_stable_version_that_is_scaled_meanwhile_is_promoted_and_reversed_with_what_it_has_then(
    app: Rollouts, reversed_by: str | None
) -> None:
    # GIVEN a stable version that holds 5 at first, and 50 when the candidate has its first traffic
    app.functions.provisioned[STABLE] = 5
    app.after("Bake", lambda: app.functions.provisioned.update({STABLE: 50}))
    # WHEN it is promoted, and in one case an abort comes when the replaced version has given its own back
    if reversed_by:
        app.after("Release", lambda: app.signal(reversed_by))
    execution = app.run(app.request((10, 1)))
    # THEN the version that serves has 50, and the other one nothing
    assert_invariants(app)
    assert execution.states()[-1] == ("Rolled back" if reversed_by else "Promoted")
    assert app.functions.provisioned == {STABLE if reversed_by else CANDIDATE: 50}


def test_an_alias_that_was_split_before_the_rollout_is_refused(app: Rollouts) -> None:
    app.functions.change_outside(STABLE, {"5": 0.5})
    execution = app.run(app.request())
    assert execution.states()[-1] == "Refused"
    assert "already sends 50 % to version 5" in app.record()["reason"]


def test_a_promotion_by_hand_is_not_undone(app: Rollouts) -> None:
    # GIVEN somebody who points the alias at the candidate while the first of two steps bakes
    app.after("Bake", lambda: app.functions.change_outside(CANDIDATE))
    app.after("Bake", lambda: app.signal("abort"))
    # WHEN the rollout is aborted
    execution = app.run(app.request((10, LONG), (50, LONG)))
    # THEN that position is not taken for its own
    assert execution.states()[-1] == "Stopped"
    assert app.functions.routing == (CANDIDATE, {})


def test_of_two_undos_the_one_that_waited_does_not_bring_the_candidate_back(app: Rollouts) -> None:
    # GIVEN a promotion that two people want undone at the same time
    app.run(app.request(strategy="AllAtOnce"))
    undo = app.request(strategy="AllAtOnce", candidate={"version": STABLE}, undoOf="checkout-42")
    second = execution_arn(machine_arn(ROLLOUT), execution_name("undo-2"))
    app.before("Promote", lambda: app.admit(undo | {"id": "undo-2"}, second), calls=range(2, 3))
    assert app.run(undo | {"id": "undo-1"}).states()[-1] == "Promoted"
    app.settle_down()
    # THEN the second finds that the first has done it
    assert app.record("undo-2")["status"] == "refused"
    assert app.record("undo-2")["reason"].startswith("rolloutId: checkout-42 is already undone by undo-1; ")
    assert app.record()["undoneBy"] == "undo-1"
    assert app.functions.routing == (STABLE, {})


# --- Several at once -------------------------------------------------------------------------------------------------


def test_a_judge_that_another_attempt_overtakes_gives_the_verdict_that_was_recorded(app: Rollouts) -> None:
    # GIVEN a judge that has read everything when another attempt, thought to be lost, records its verdict
    reached = threading.Event()

    def overtake() -> None:
        if not reached.is_set():
            reached.set()
            app.again("Judge")

    with app.on("judge", "findings_of.close_and_collect", then=overtake):
        assert app.run(app.request()).states()[-1] == "Promoted"
