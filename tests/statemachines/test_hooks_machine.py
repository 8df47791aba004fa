"""The hooks machine: hooks asked in order, and again while they say so; anything but SUCCEEDED fails."""

from __future__ import annotations

import functools
import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from statemachines.source.shapes import ALREADY_STARTED_ERRORS, SLEEPING_FUNCTION_ERRORS
from tests.builders import ACCOUNT
from tests.fakes.ecs import GOOD, NOT_STARTED, PULL, cause, container, detail
from tests.statemachines.ecs import HANGS
from tests.statemachines.engine import ServiceError, evaluate_jsonata
from tests.statemachines.rollouts import (
    ECS_TASK,
    HOOKS,
    LOOK_UP,
    NESTED,
    PUT_ITEM,
    ROLLOUT,
    STATES_OF,
    STOP,
    Rollouts,
    error,
    machine_arn,
    parts,
    passed,
)

if TYPE_CHECKING:
    from tests.statemachines.engine import Execution

STATES = STATES_OF[HOOKS]
TOLD = {
    "rolloutId": "checkout-42",
    "stage": "beforeTraffic",
    "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"},
    "stable": "6",
    "candidate": "7",
    "step": 0,
}
SUCCEEDED = {"hookStatus": "SUCCEEDED"}
IN_PROGRESS = {"hookStatus": "IN_PROGRESS", "callBackDelay": 1}
HOUR = 3600
SUCCEED = {"Type": "Succeed"}
BREAK = {"Type": "Fail", "Error": "TooSlow", "Cause": "p95 is 900 ms"}


def exited(code: int) -> ServiceError:
    """A task whose container ended with this exit code, as Step Functions tells it."""
    return ServiceError("States.TaskFailed", cause(detail(container(code=code), container("router"))))


def says(output: Any) -> dict[str, Any]:
    """A state machine's end with this output."""
    return {"Type": "Succeed", "Output": output}


def ask(app: Rollouts, *hooks: dict[str, Any]) -> Execution:
    execution = app.engine.start(HOOKS, {**TOLD, "hooks": list(hooks)})
    execution.wait()
    return execution


def end_of(states: list[str]) -> str:
    """The state that decided what the hooks answer; what follows a failure puts it on record."""
    return states[-3] if states[-2:] == ["Record the failure", "Disagreed"] else states[-1]


def no_task_runs_on(app: Rollouts) -> None:
    """Whoever has ended without stopping its tasks is told of by an event, and then nothing runs on."""
    for execution in app.engine.executions(ECS_TASK):
        execution.wait()
        if execution.status != "SUCCEEDED":
            app.tell_stopper(execution)
    assert app.tasks.living() == []


# --- The table of walks ----------------------------------------------------------------------------------------------


class Walk(NamedTuple):
    """Answers of a hook with so many seconds, and the state that the execution ends in."""

    answers: tuple[Any, ...]
    end: str
    seconds: int = HOUR
    kind: str = "lambda"
    fault: Exception | None = None
    """What the child's start fails with."""
    lost: bool = False
    """Whether the response of the child's start is lost."""
    unrecorded: bool = False
    """Whether the table takes no item."""

    def hook(self, app: Rollouts) -> dict[str, Any]:
        match self.kind:
            case "ecsTask":
                return app.task_hook(*self.answers, seconds=self.seconds)
            case "unreadable":
                app.engine.integration(LOOK_UP, _refuse)
                return app.machine_hook("load-test", SUCCEED, seconds=self.seconds)
            case "nobody":
                return {"stateMachine": machine_arn("nobody"), "timeoutSeconds": self.seconds, "config": {}}
            case "stateMachine":
                return app.machine_hook("load-test", *self.answers, seconds=self.seconds)
        return app.hook("check", *self.answers, seconds=self.seconds)


ENDED = f"!{' '.join(ALREADY_STARTED_ERRORS)} -> Look it up"
SLEEPS = error("Lambda.CodeArtifactUserPendingException", "Lambda is initializing your function.")
TOO_MUCH = ServiceError("States.DataLimitExceeded", "too much")
WALKS = {
    "Next hook? -> Ask": Walk((SUCCEEDED,), "All agreed"),
    "Next hook? -> Record the success": Walk((SUCCEEDED,), "All agreed"),
    "Begin !States.ALL -> Next hook?": Walk((SUCCEEDED,), "All agreed", unrecorded=True),
    "Record the success !States.ALL -> All agreed": Walk((SUCCEEDED,), "All agreed", unrecorded=True),
    "Record the failure !States.ALL -> Disagreed": Walk((error("Broken"),), "Could not be asked", unrecorded=True),
    "Ask !States.Timeout -> Took too long": Walk((lambda: time.sleep(0.5),), "Took too long", 1),
    "Ask !States.ALL -> Could not be asked": Walk((error("Broken"),), "Could not be asked"),
    f"Ask !{' '.join(SLEEPING_FUNCTION_ERRORS)} -> Still asleep?": Walk((SLEEPS, SUCCEEDED), "All agreed"),
    "Still asleep? -> Let it wake": Walk((SLEEPS, SUCCEEDED), "All agreed"),
    "Still asleep? -> Could not be asked": Walk((SLEEPS,), "Could not be asked"),
    "Answer? -> Next hook?": Walk((SUCCEEDED,), "All agreed"),
    "Answer? -> Wait": Walk((IN_PROGRESS, SUCCEEDED), "All agreed"),
    "Answer? -> Took too long": Walk((IN_PROGRESS | {"callBackDelay": HOUR},), "Took too long", 60),
    "Answer? -> Refused": Walk(({"hookStatus": "FAILED"},), "Refused"),
    "Next hook? -> Run task": Walk((GOOD,), "All agreed", kind="ecsTask"),
    "Run task !States.ALL -> How did it fail?": Walk((exited(3),), "Failed", kind="ecsTask"),
    "How did it fail? -> Failed": Walk((exited(3),), "Failed", kind="ecsTask"),
    "How did it fail? -> Stop it": Walk((HANGS,), "Took too long", 20, "ecsTask"),
    "Out of time? -> Took too long": Walk((HANGS,), "Took too long", 20, "ecsTask"),
    "Next hook? -> Run machine": Walk((SUCCEED,), "All agreed", kind="stateMachine"),
    "What did it say? -> Next hook?": Walk((SUCCEED,), "All agreed", kind="stateMachine"),
    "What did it say? -> Refused": Walk((says({"hookStatus": "FAILED"}),), "Refused", kind="stateMachine"),
    "Run machine !States.ALL -> How did it fail?": Walk((BREAK,), "Failed", kind="stateMachine"),
    "Ask !States.DataLimitExceeded -> Answered too much": Walk((TOO_MUCH,), "Answered too much"),
    "Run task !States.DataLimitExceeded -> Answered too much": Walk(
        (GOOD,), "Answered too much", kind="ecsTask", fault=TOO_MUCH
    ),
    "Run machine !States.DataLimitExceeded -> Answered too much": Walk(
        (SUCCEED,), "Answered too much", kind="stateMachine", fault=TOO_MUCH
    ),
    f"Run task {ENDED}": Walk((GOOD,), "All agreed", kind="ecsTask", lost=True),
    f"Run machine {ENDED}": Walk((SUCCEED,), "All agreed", kind="stateMachine", lost=True),
    "How did it end? -> Next hook?": Walk((GOOD,), "All agreed", kind="ecsTask", lost=True),
    "How did it end? -> What did it say?": Walk((SUCCEED,), "All agreed", kind="stateMachine", lost=True),
    "How did it end? -> Failed": Walk((BREAK,), "Failed", kind="stateMachine", lost=True),
    "Look it up !States.ALL -> How did it end?": Walk((), "Failed", kind="unreadable", lost=True),
    "Stop it !States.ALL -> Out of time?": Walk((), "Could not be asked", kind="nobody"),
    "Out of time? -> Could not be asked": Walk((), "Could not be asked", kind="nobody"),
}


def _refuse(_: Any) -> Any:
    raise ServiceError("Sfn.AccessDeniedException", "not authorized to perform: states:DescribeExecution")


def _refuse_item(_: Any) -> Any:
    raise ServiceError("DynamoDB.AccessDeniedException", "not authorized to perform: dynamodb:PutItem")


@functools.cache
def walked(part: str) -> tuple[list[str], set[str]]:
    with Rollouts() as app:
        hook = WALKS[part].hook(app)
        if fault := WALKS[part].fault:
            app.nested_failure(fault)
        if WALKS[part].unrecorded:
            app.engine.integration(PUT_ITEM, _refuse_item)
        if WALKS[part].lost:
            app.lost_start()
        execution = ask(app, hook)
        no_task_runs_on(app)
        return execution.states(), passed(HOOKS, execution)


@pytest.mark.parametrize("part", WALKS)
def test_each_rule_and_catcher_leads_where_it_says(part: str) -> None:
    states, taken = walked(part)
    assert part in taken
    assert end_of(states) == WALKS[part].end


def test_every_state_rule_and_catcher_of_the_hooks_machine_is_taken() -> None:
    """Walks whatever this process has not walked yet, so that it holds alone, in a subset and on several workers."""
    taken = set().union(*(walked(part)[1] for part in WALKS))
    assert sorted(parts(HOOKS) - taken) == []


# --- Answers ---------------------------------------------------------------------------------------------------------


def test_hooks_are_asked_in_order_until_all_have_agreed(app: Rollouts) -> None:
    hooks = [app.hook(name, number=number) for number, name in enumerate(("first", "second", "third"))]
    execution = ask(app, *hooks)
    assert execution.output == {"hookStatus": "SUCCEEDED", "asked": 3}
    assert app.asked == [
        {"hook": name, **TOLD, "config": {"number": number}, "hookDetails": {}}
        for number, name in enumerate(("first", "second", "third"))
    ]


def test_functions_and_machines_are_told_the_alias_behind_a_consumer(app: Rollouts) -> None:
    consumer = {"target": {"kind": "event-source", "mapping": "m-1", "mode": "ramp"}, "through": TOLD["target"]}
    load = app.machine_hook("load-test", SUCCEED, users=40)
    execution = app.engine.start(HOOKS, {**TOLD, **consumer, "hooks": [app.hook("check"), load]})
    execution.wait()
    assert app.asked == [{"hook": "check", **TOLD, **consumer, "config": {}, "hookDetails": {}}]
    assert app.engine.executions("load-test")[0].input == {**TOLD, **consumer, "config": {"users": 40}}


def test_no_hook_after_one_that_failed_is_asked(app: Rollouts) -> None:
    failed = {"hookStatus": "FAILED", "hookDetails": {"reason": "two of three cases"}}
    execution = ask(app, app.hook("first"), app.hook("second", failed), app.hook("third"))
    assert [event["hook"] for event in app.asked] == ["first", "second"]
    assert execution.error == "HookFailed"
    assert execution.cause == 'hook second of beforeTraffic failed: {"reason":"two of three cases"}'


def test_a_stage_without_hooks_agrees(app: Rollouts) -> None:
    app.hook("never asked")
    assert ask(app).output == {"hookStatus": "SUCCEEDED", "asked": 0}


@pytest.mark.parametrize("details", [{"tested": 3}, "half way", [1], [], 0, False, None])
def test_a_hook_in_progress_is_asked_again_with_the_details_it_gave(app: Rollouts, details: Any) -> None:
    execution = ask(app, app.hook("check", IN_PROGRESS | {"hookDetails": details}, IN_PROGRESS, SUCCEEDED))
    assert execution.states().count("Wait") == 2
    # Details that an answer leaves out are not remembered.
    assert [event["hookDetails"] for event in app.asked] == [{}, details, {}]


def test_the_details_of_one_hook_are_not_told_to_the_next(app: Rollouts) -> None:
    ask(app, app.hook("first", IN_PROGRESS | {"hookDetails": {"tested": 3}}, SUCCEEDED), app.hook("second"))
    assert app.asked[-1] == {"hook": "second", **TOLD, "config": {}, "hookDetails": {}}


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ({}, 30),
        ({"callBackDelay": 7}, 7),
        ({"callBackDelay": 2.4}, 3),
        ({"callBackDelay": "soon"}, 30),
        ({"callBackDelay": None}, 30),
        ({"callBackDelay": [5]}, 30),
        ({"callBackDelay": 0.2}, 1),
        ({"callBackDelay": 0}, 1),
        ({"callBackDelay": -5}, 1),
    ],
)
def test_a_hook_is_asked_again_after_the_delay_it_asked_for(app: Rollouts, delay: Any, seconds: int) -> None:
    app.engine.time_scale = 0.01
    execution = ask(app, app.hook("check", {"hookStatus": "IN_PROGRESS"} | delay, SUCCEEDED, seconds=HOUR))
    assert end_of(execution.states()) == "All agreed"
    answer = {"hookStatus": "IN_PROGRESS"} | delay
    assert evaluate_jsonata(STATES["Wait"]["Seconds"][2:-2], {"answer": answer}) == seconds


@pytest.mark.parametrize(
    "answer",
    [
        *(None, "SUCCEEDED", ["SUCCEEDED"], [], {}, 7, True, {"status": "SUCCEEDED"}),
        *({"hookStatus": status} for status in (None, True, "succeeded", "", ["SUCCEEDED"], {"SUCCEEDED": 1})),
    ],
)
def test_an_invalid_answer_fails(app: Rollouts, answer: Any) -> None:
    execution = ask(app, app.hook("check", answer))
    assert (end_of(execution.states()), execution.error) == ("Refused", "HookFailed")
    assert (execution.cause or "").startswith("hook check of beforeTraffic gave no valid answer: hookStatus is ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"salary": 4711}, "missing in an answer of type object"),
        (["4711"], "missing in an answer of type array"),
        ("4711", "missing in an answer of type string"),
        (None, "missing in an answer of type null"),
        ({"hookStatus": "MAYBE", "salary": 4711}, '"MAYBE"'),
        ({"hookStatus": "x" * 4711}, f'"{"x" * 64}"'),
        ({"hookStatus": {"salary": 4711}}, "of type object"),
    ],
)
def test_an_invalid_answer_is_told_by_its_type(app: Rollouts, answer: Any, told: str) -> None:
    execution = ask(app, app.hook("check", answer))
    assert execution.cause == (
        f"hook check of beforeTraffic gave no valid answer: hookStatus is {told}; give SUCCEEDED or FAILED, or from a "
        "function IN_PROGRESS"
    )


@pytest.mark.parametrize("answer", [[SUCCEEDED], [SUCCEEDED, {}]])
def test_a_list_with_an_answer_in_it_is_no_answer(app: Rollouts, answer: Any) -> None:
    assert end_of(ask(app, app.hook("check", answer)).states()) == "Refused"


# --- Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (error("AssertionError", "no basket"), "AssertionError; see its logs"),
        (RuntimeError("no basket"), "RuntimeError; see its logs"),
        (error("Contended", "no basket"), "Contended; see its logs"),
        (error("Lambda.AccessDeniedException", "not authorized"), "Lambda.AccessDeniedException not authorized"),
        (error("Lambda.Unknown", 'Returned payload: {"salary": 4711}'), "Lambda.Unknown; see its logs"),
        (error("Sandbox.Timedout"), "Sandbox.Timedout; see its logs"),
        (error("Runtime.ExitError"), "Runtime.ExitError; see its logs"),
    ],
)
def test_a_hook_that_throws_or_may_not_be_invoked_fails_at_once(app: Rollouts, failure: Any, cause: str) -> None:
    execution = ask(app, app.hook("check", failure, seconds=HOUR))
    assert (end_of(execution.states()), execution.error, len(app.asked)) == ("Could not be asked", "HookFailed", 1)
    assert execution.cause == f"hook check of beforeTraffic could not be asked: {cause}"


def test_a_hook_that_does_not_exist_fails_at_once(app: Rollouts) -> None:
    execution = ask(app, app.hook("check") | {"lambda": "nobody"})
    assert end_of(execution.states()) == "Could not be asked"
    assert "Lambda.ResourceNotFoundException" in (execution.cause or "")


@pytest.mark.parametrize("name", STATES["Ask"]["Retry"][0]["ErrorEquals"] + [*SLEEPING_FUNCTION_ERRORS])
def test_an_error_of_the_service_is_retried(app: Rollouts, name: str) -> None:
    assert end_of(ask(app, app.hook("check", error(name), SUCCEEDED, seconds=HOUR)).states()) == "All agreed"
    assert len(app.asked) == 2


def test_a_service_that_never_recovers_fails_the_hook(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    execution = ask(app, app.hook("check", error("Lambda.TooManyRequestsException", "busy"), seconds=HOUR))
    assert (end_of(execution.states()), len(app.asked)) == ("Could not be asked", 7)


def test_the_time_for_which_a_function_sleeps_is_not_the_hooks(app: Rollouts) -> None:
    # GIVEN a hook with less time than its function needs to wake up
    app.engine.time_scale = 0.005
    execution = ask(app, app.hook("check", *[SLEEPS] * 18, SUCCEEDED, seconds=20))
    # THEN it is asked when it is awake
    assert (end_of(execution.states()), execution.states().count("Let it wake")) == ("All agreed", 18)
    # AND has its whole time from then on
    until = STATES["Still asleep?"]["Choices"][0]["Assign"]["until"][2:-2]
    wait, now = STATES["Let it wake"]["Seconds"], time.time() * 1000
    deadline = evaluate_jsonata(until, {"hooks": [{"timeoutSeconds": 20}], "index": 0})
    assert deadline == pytest.approx(now + (wait + 20) * 1000, abs=1000)


def test_each_hooks_function_may_sleep(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    execution = ask(app, *(app.hook(name, *[SLEEPS] * 10, SUCCEEDED) for name in ("first", "second")))
    assert end_of(execution.states()) == "All agreed"


def test_a_function_that_never_wakes_fails_the_hook_and_says_why(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    execution = ask(app, app.hook("check", SLEEPS))
    assert len(app.asked) == 19
    assert execution.cause == (
        "hook check of beforeTraffic could not be asked: Lambda.CodeArtifactUserPendingException Lambda is "
        "initializing your function."
    )


def test_the_rollout_waits_for_the_hooks_longer_than_their_functions_can_sleep() -> None:
    wakes = int(STATES["Still asleep?"]["Choices"][0]["Condition"].removesuffix(" %}").rpartition(" ")[2])
    sleeps = wakes * STATES["Let it wake"]["Seconds"]
    for name, stage in (("Before step", "beforeStep"), ("After traffic", "afterTraffic")):
        limit = STATES_OF[ROLLOUT][name]["TimeoutSeconds"][2:-2]
        plan = {"hooks": {stage: [{"timeoutSeconds": 60}, {"timeoutSeconds": 90}]}}
        assert evaluate_jsonata(limit, {"plan": plan}) >= 60 + 90 + 2 * sleeps + 60


@pytest.mark.parametrize("name", ["States.DataLimitExceeded", "States.Runtime"])
@pytest.mark.parametrize("kind", ["lambda", "stateMachine", "ecsTask"])
def test_an_error_that_no_wildcard_matches_fails_the_hook_with_its_name(app: Rollouts, name: str, kind: str) -> None:
    failure = ServiceError(name, "too much")
    if kind == "lambda":
        execution = ask(app, app.hook("check", failure))
    else:
        hook = app.task_hook(GOOD, seconds=HOUR) if kind == "ecsTask" else app.machine_hook("check", SUCCEED)
        app.nested_failure(failure)
        execution = ask(app, hook)
    end = "Answered too much" if name == "States.DataLimitExceeded" else "Could not be asked"
    assert (end_of(execution.states()), execution.error) == (end, "HookFailed")
    assert f"{name} too much" in (execution.cause or "")


def test_an_answer_that_step_functions_cannot_hold_fails_the_hook_and_says_so(app: Rollouts) -> None:
    execution = ask(app, app.hook("check", SUCCEEDED | {"hookDetails": "x" * 300_000}))
    assert execution.error == "HookFailed"
    told = "hook check of beforeTraffic answered too much: an answer may have 256 KiB; States.DataLimitExceeded "
    assert (execution.cause or "").startswith(told)


def test_a_state_machine_with_an_output_that_does_not_fit_beside_its_input_fails_the_hook_and_says_so(
    app: Rollouts,
) -> None:
    hook = app.machine_hook("load-test", says("x" * 250_000), seconds=HOUR, users="y" * 20_000)
    execution = ask(app, hook)
    assert (end_of(execution.states()), execution.error) == ("Answered too much", "HookFailed")
    told = (
        "hook load-test of beforeTraffic answered too much: input and output of an execution together may have 256 KiB"
    )
    assert (execution.cause or "").startswith(told)


def test_a_hook_that_does_not_answer_took_too_long(app: Rollouts) -> None:
    execution = ask(app, app.hook("check", lambda: time.sleep(0.5), seconds=5))
    assert (end_of(execution.states()), execution.error) == ("Took too long", "HookTimedOut")
    assert execution.cause == "hook check of beforeTraffic did not finish within 5 s"


@pytest.mark.parametrize(("delay", "asked_again"), [({"callBackDelay": 50}, True), ({"callBackDelay": 60}, False)])
def test_a_delay_that_ends_after_the_hooks_time_is_not_waited_for(
    app: Rollouts, delay: dict[str, int], *, asked_again: bool
) -> None:
    app.engine.time_scale = 0.005
    execution = ask(app, app.hook("check", {"hookStatus": "IN_PROGRESS"} | delay, SUCCEEDED, seconds=60))
    assert end_of(execution.states()) == ("All agreed" if asked_again else "Took too long")


@pytest.mark.parametrize("delay", [-3600, -0.5, 0, 0.2, 1])
def test_no_delay_is_so_short_that_it_adds_to_the_hooks_time(delay: float) -> None:
    rule, now = STATES["Answer?"]["Choices"][1]["Condition"][2:-2], int(time.time() * 1000)
    known = {"answer": IN_PROGRESS | {"callBackDelay": delay}, "polls": 1}
    assert evaluate_jsonata(rule, known | {"until": now + 900}) is False
    assert evaluate_jsonata(rule, known | {"until": now + HOUR * 1000}) is True


def test_of_long_details_the_beginning_is_told(app: Rollouts) -> None:
    execution = ask(app, app.hook("check", {"hookStatus": "FAILED", "hookDetails": {"log": "x" * 50_000}}))
    assert end_of(execution.states()) == "Refused"
    assert 2000 <= len(execution.cause or "") < 2100


def test_of_a_long_error_the_beginning_is_told(app: Rollouts) -> None:
    cause = ask(app, app.hook("check", error("Lambda.AccessDeniedException", "x" * 50_000))).cause or ""
    assert cause.startswith("hook check of beforeTraffic could not be asked: Lambda.AccessDeniedException ")
    assert 2000 <= len(cause) < 2100


def test_the_time_is_each_hooks_own(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    polls = [IN_PROGRESS | {"callBackDelay": 50}, SUCCEEDED]
    execution = ask(app, *(app.hook(name, *polls, seconds=60) for name in ("first", "second")))
    assert end_of(execution.states()) == "All agreed"


def test_a_hook_is_polled_a_thousand_times_at_most(app: Rollouts) -> None:
    rule = STATES["Answer?"]["Choices"][1]
    now = int(time.time() * 1000)
    known = {"answer": IN_PROGRESS, "until": now + HOUR * 1000}
    assert evaluate_jsonata(rule["Condition"][2:-2], known | {"polls": 999}) is True
    assert evaluate_jsonata(rule["Condition"][2:-2], known | {"polls": 1000}) is False
    assert STATES["Answer?"]["Choices"][2]["Next"] == "Took too long"
    told = STATES["Took too long"]["Assign"]["reason"][2:-2]
    known = {"name": "check", "told": TOLD, "hooks": [{"timeoutSeconds": HOUR}], "index": 0}
    assert evaluate_jsonata(told, known | {"polls": 1000}) == (
        "hook check of beforeTraffic was still in progress when the stage had been polled 1000 times; let it answer "
        "with a longer callBackDelay"
    )
    assert evaluate_jsonata(told, known | {"polls": 999}).endswith(" did not finish within 3600 s")
    # AND polls are counted, those of all hooks of the stage together.
    polled = ask(app, *(app.hook(name, *[IN_PROGRESS] * 3, SUCCEEDED) for name in ("first", "second")))
    counts = [
        event["stateExitedEventDetails"]["assignedVariables"]["polls"]
        for event in polled.history()
        if event.get("stateExitedEventDetails", {}).get("name") == "Ask"
    ]
    assert counts == [str(number) for number in range(1, 9)]


# --- On record -------------------------------------------------------------------------------------------------------


def on_record(app: Rollouts) -> list[dict[str, Any]]:
    return [item for item in app.items() if item["sk"].startswith("HOOK#")]


def test_what_hooks_answered_is_among_the_items_of_their_rollout(app: Rollouts) -> None:
    load = app.machine_hook("load-test", SUCCEED)
    execution = ask(app, app.hook("check"), load, app.task_hook(GOOD))
    [item] = on_record(app)
    assert (item["sk"], item["execution"]) == (f"HOOK#{execution.name}", execution.arn)
    assert (item["stage"], item["step"], item["outcome"]) == ("beforeTraffic", 0, "succeeded")
    assert item["hooks"] == ["check", "load-test", "migrate:3"]
    assert item["startedAt"] <= item["endedAt"]
    assert len(item["startedAt"]) == len(item["endedAt"]) == len("2026-11-30T10:00:00.000Z")
    assert item["expiresAt"] == pytest.approx(time.time() + (366 + 90) * 24 * 3600, abs=60)
    assert "reason" not in item


def test_why_hooks_failed_is_on_record(app: Rollouts) -> None:
    execution = ask(app, app.hook("check", {"hookStatus": "FAILED", "hookDetails": {"log": "x" * 50_000}}))
    [item] = on_record(app)
    assert (item["outcome"], item["reason"]) == ("failed", execution.cause)


def test_hooks_are_on_record_while_they_are_asked(app: Rollouts) -> None:
    seen: list[dict[str, Any]] = []
    ask(app, app.hook("check", lambda: seen.extend(on_record(app)), SUCCEEDED))
    assert [(item["outcome"], "endedAt" in item) for item in seen] == [("running", False)]


def test_a_table_that_takes_no_item_changes_no_answer(app: Rollouts) -> None:
    app.engine.integration(PUT_ITEM, _refuse_item)
    assert ask(app, app.hook("check")).output == {"hookStatus": "SUCCEEDED", "asked": 1}
    told = 'hook late of beforeTraffic failed: {"reason":"no"}'
    late = app.hook("late", {"hookStatus": "FAILED", "hookDetails": {"reason": "no"}})
    execution = ask(app, late)
    assert (execution.error, execution.cause) == ("HookFailed", told)


def test_a_write_that_fails_at_first_is_repeated(app: Rollouts) -> None:
    failures = [ServiceError("DynamoDB.ThrottlingException"), ServiceError("DynamoDB.SdkClientException")]
    put = app.engine.integrations[PUT_ITEM]

    def serve(arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return put(arguments)

    app.engine.integration(PUT_ITEM, serve)
    ask(app, app.hook("check"))
    assert [item["outcome"] for item in on_record(app)] == ["succeeded"]


# --- ECS tasks -------------------------------------------------------------------------------------------------------


def ending(execution: Execution) -> tuple[str, str | None, str | None]:
    return end_of(execution.states()), execution.error, execution.cause


def test_a_task_that_succeeds_agrees_and_the_next_hook_is_asked(app: Rollouts) -> None:
    execution = ask(app, app.hook("first"), app.task_hook(GOOD), app.hook("third"))
    assert execution.output == {"hookStatus": "SUCCEEDED", "asked": 3}
    assert [event["hook"] for event in app.asked] == ["first", "third"]
    assert len(app.tasks.runs) == 1


def test_every_container_of_a_task_is_told_what_it_tests(app: Rollouts) -> None:
    mine = {"containers": {"app": {"environment": {"HEADGATE_STEP": "mine", "PATHS": "/"}}}}
    ask(app, app.task_hook(GOOD, environment={"HEADGATE_TARGET": "the target", "USERS": "40"}, overrides=mine))
    told = {
        "HEADGATE_ROLLOUT_ID": "checkout-42",
        "HEADGATE_STAGE": "beforeTraffic",
        "HEADGATE_TARGET": "the target",
        "HEADGATE_STABLE": "6",
        "HEADGATE_CANDIDATE": "7",
        "HEADGATE_STEP": "0",
        "USERS": "40",
    }
    assert app.tasks.environment_of(0, "router") == told
    # AND what is said of one container counts more.
    assert app.tasks.environment_of(0, "app") == told | {"HEADGATE_STEP": "mine", "PATHS": "/"}


def test_a_tasks_execution_is_linked_to_the_hooks_and_named_after_it(app: Rollouts) -> None:
    execution = ask(app, app.task_hook(GOOD), app.task_hook(GOOD, id="smoke-1"))
    first, second = app.engine.executions(ECS_TASK)
    assert [first.name, second.name] == [f"{execution.name}-0", f"{execution.name}-1"]
    assert first.input["AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"] == execution.arn
    assert second.output["id"] == "smoke-1"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (
            exited(3),
            (
                "hook migrate:3 of beforeTraffic failed: exited (TaskExitedNonZero): container app exited with 3; "
                'exit codes {"app":3,"router":0}'
            ),
        ),
        (
            ServiceError(
                "States.TaskFailed",
                cause(detail(container(code=None, reason=PULL), code=NOT_STARTED, reason=PULL)),
            ),
            f"hook migrate:3 of beforeTraffic failed: could-not-start (TaskCouldNotStart): {PULL}",
        ),
        (
            ServiceError("ECS.AccessDeniedException", "not authorized to perform: ecs:RunTask"),
            (
                "hook migrate:3 of beforeTraffic failed: could-not-start (TaskCouldNotStart): "
                "ECS.AccessDeniedException: not authorized to perform: ecs:RunTask"
            ),
        ),
    ],
)
def test_a_task_that_does_not_succeed_fails_the_hook_and_tells_how_it_ended(
    app: Rollouts, answer: Exception, cause: str
) -> None:
    execution = ask(app, app.task_hook(answer, seconds=HOUR), app.hook("second"))
    assert ending(execution) == ("Failed", "HookFailed", cause)
    assert app.asked == []


def test_of_several_tasks_the_exit_codes_of_those_that_failed_are_told(app: Rollouts) -> None:
    execution = ask(app, app.task_hook(GOOD, exited(1), exited(2), count=3, seconds=HOUR))
    assert end_of(execution.states()) == "Failed"
    told = (execution.cause or "").partition("exit codes ")[2]
    assert sorted(codes["app"] for codes in json.loads(told)) == [1, 2]


def test_a_task_that_its_planner_refuses_fails_the_hook_with_the_reason(app: Rollouts) -> None:
    execution = ask(app, app.task_hook(taskDefinition="nothing:1"))
    reason = "taskDefinition: nothing:1: Unable to describe task definition."
    told = f"hook nothing:1 of beforeTraffic failed: refused (RequestRefused): {reason}"
    assert ending(execution) == ("Failed", "HookFailed", told)


def test_a_task_that_ran_out_of_its_own_time_is_not_the_hooks_timeout(app: Rollouts) -> None:
    execution = ask(app, app.task_hook(HANGS, seconds=HOUR, timeoutSeconds=10))
    assert execution.error == "HookFailed"
    assert (execution.cause or "").startswith("hook migrate:3 of beforeTraffic failed: timed-out (TaskTimedOut): ")
    # AND its own machine has stopped it, with nobody's help.
    assert app.tasks.living() == []


def test_a_task_that_outlives_the_hook_is_stopped_with_its_execution(app: Rollouts) -> None:
    execution = ask(app, app.task_hook(HANGS, seconds=30))
    assert ending(execution) == (
        "Took too long",
        "HookTimedOut",
        "hook migrate:3 of beforeTraffic did not finish within 30 s",
    )
    [child] = app.engine.executions(ECS_TASK)
    child.wait()
    # THEN the child is stopped with the reason. (moto stops it as it times out; AWS is asked to.)
    assert child.status == "ABORTED"
    assert "Stop it" in execution.states()
    # AND whatever Step Functions has not stopped of the task, the event does.
    no_task_runs_on(app)
    [(_, reason)] = app.tasks.ecs.stopped
    assert reason == "Headgate: the execution of this task is ABORTED"


def test_a_stop_of_the_hooks_stops_the_task(app: Rollouts) -> None:
    execution = app.engine.start(HOOKS, {**TOLD, "hooks": [app.task_hook(HANGS, seconds=HOUR)]})
    deadline = time.monotonic() + 5
    while not app.tasks.living() and time.monotonic() < deadline:
        time.sleep(0.01)
    execution.stop()
    no_task_runs_on(app)
    assert [child.status for child in app.engine.executions(ECS_TASK)] == ["ABORTED"]


def test_an_end_that_is_told_at_too_great_a_length_is_told_in_part(app: Rollouts) -> None:
    # Step Functions cuts a cause off at 32,768 characters, wherever that is.
    described = json.dumps({"Input": "x" * 40_000, "Status": "FAILED", "Error": "TaskExitedNonZero"})[:32_768]

    def fail(_: Any) -> Any:
        raise ServiceError("States.TaskFailed", described)

    app.engine.integration("arn:aws:states:::states:startExecution.sync:2", fail)
    execution = ask(app, app.task_hook(GOOD))
    assert (end_of(execution.states()), execution.error) == ("Failed", "HookFailed")
    assert (execution.cause or "").startswith("hook migrate:3 of beforeTraffic failed: States.TaskFailed {")


@pytest.mark.parametrize(
    ("described", "told"),
    [
        # An execution that timed out, or that somebody stopped, has no error unless somebody gave one.
        ({"Status": "TIMED_OUT"}, "its execution is TIMED_OUT"),
        ({"Status": "ABORTED"}, "its execution is ABORTED"),
        ({"Status": "ABORTED", "Error": "NotNow", "Cause": "kim"}, "NotNow kim"),
        ({"Status": "FAILED", "Error": "States.Runtime", "Cause": "{no JSON}"[:-1]}, "States.Runtime {no JSON"),
    ],
)
def test_an_execution_that_ended_without_a_result_is_told_by_what_there_is(
    app: Rollouts, described: dict[str, str], told: str
) -> None:
    def fail(_: Any) -> Any:
        raise ServiceError("States.TaskFailed", json.dumps({"Input": "{}", **described}))

    app.engine.integration("arn:aws:states:::states:startExecution.sync:2", fail)
    execution = ask(app, app.task_hook(GOOD))
    assert ending(execution) == ("Failed", "HookFailed", f"hook migrate:3 of beforeTraffic failed: {told}")


# --- State machines --------------------------------------------------------------------------------------------------


def test_a_state_machine_gets_what_a_function_gets(app: Rollouts) -> None:
    execution = ask(app, app.machine_hook("load-test", SUCCEED, users=40))
    assert execution.output == {"hookStatus": "SUCCEEDED", "asked": 1}
    [child] = app.engine.executions("load-test")
    assert child.input == {**TOLD, "config": {"users": 40}}


@pytest.mark.parametrize(
    "output",
    [{}, {"status": "fine"}, "FAILED", ["FAILED"], [{"hookStatus": "FAILED"}], 0, False, {"hookStatus": "SUCCEEDED"}],
)
def test_a_state_machine_that_succeeds_agrees_whatever_it_says_that_is_no_answer(app: Rollouts, output: Any) -> None:
    assert end_of(ask(app, app.machine_hook("load-test", says(output))).states()) == "All agreed"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"hookStatus": "FAILED", "hookDetails": {"p95": 900}}, 'failed: {"p95":900}'),
        ({"hookStatus": "FAILED"}, "failed, and gave no hookDetails"),
        ({"hookStatus": "FAILED", "hookDetails": {}}, "failed, and gave no hookDetails"),
        ({"hookStatus": "FAILED", "hookDetails": "p95 is 900 ms"}, "failed: p95 is 900 ms"),
        (
            {"hookStatus": "IN_PROGRESS"},
            (
                'gave no valid answer: hookStatus is "IN_PROGRESS"; '
                "give SUCCEEDED or FAILED, or from a function IN_PROGRESS"
            ),
        ),
        (
            {"hookStatus": None},
            (
                "gave no valid answer: hookStatus is of type null; "
                "give SUCCEEDED or FAILED, or from a function IN_PROGRESS"
            ),
        ),
    ],
)
def test_a_state_machine_may_answer_otherwise_than_it_ends(app: Rollouts, output: Any, told: str) -> None:
    execution = ask(app, app.machine_hook("load-test", says(output)))
    assert ending(execution) == ("Refused", "HookFailed", f"hook load-test of beforeTraffic {told}")
    assert len(app.engine.executions("load-test")) == 1


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (BREAK, "TooSlow p95 is 900 ms"),
        ({"Type": "Fail", "Error": "TooSlow"}, "TooSlow"),
        (
            {"Type": "Fail", "Error": "KeyError", "Cause": '{"errorMessage": "salary 4711", "errorType": "KeyError"}'},
            "KeyError; see its execution",
        ),
        (
            {"Type": "Fail", "Error": "Lambda.Unknown", "Cause": "Returned payload: 4711"},
            "Lambda.Unknown; see its execution",
        ),
    ],
)
def test_a_state_machine_that_fails_fails_the_hook_with_its_own_words(app: Rollouts, state: Any, told: str) -> None:
    execution = ask(app, app.machine_hook("load-test", state))
    assert ending(execution) == ("Failed", "HookFailed", f"hook load-test of beforeTraffic failed: {told}")


def test_a_state_machine_that_takes_too_long_is_stopped(app: Rollouts) -> None:
    wait = {"Type": "Wait", "Seconds": HOUR}
    execution = ask(app, app.machine_hook("load-test", wait, SUCCEED, seconds=30))
    told = "hook load-test of beforeTraffic did not finish within 30 s"
    assert ending(execution) == ("Took too long", "HookTimedOut", told)
    [child] = app.engine.executions("load-test")
    child.wait()
    assert child.status == "ABORTED"


def test_out_of_time_an_execution_is_stopped_by_its_name(app: Rollouts) -> None:
    # GIVEN a service that does not stop what it no longer waits for: of a timeout, AWS promises nothing
    stopped: list[dict[str, Any]] = []

    def stop(arguments: dict[str, Any]) -> dict[str, Any]:
        stopped.append(arguments)
        return {}

    app.engine.integration(STOP, stop)
    wait = {"Type": "Wait", "Seconds": HOUR}
    hooks = [app.hook("first"), app.machine_hook("load-test", wait, SUCCEED, seconds=30)]
    execution = ask(app, *hooks)
    [child] = app.engine.executions("load-test")
    assert [each["ExecutionArn"] for each in stopped] == [child.arn]
    assert child.name == f"{execution.name}-1"
    assert stopped[0]["Error"] == "HookTimedOut"


def test_a_state_machine_that_may_not_be_started_fails_at_once_with_the_reason(app: Rollouts) -> None:
    def refuse(_: Any) -> Any:
        raise ServiceError("StepFunctions.AccessDeniedException", "not authorized to perform: states:StartExecution")

    hook = app.machine_hook("load-test", SUCCEED, seconds=HOUR)
    app.engine.integration("arn:aws:states:::states:startExecution.sync:2", refuse)
    told = "StepFunctions.AccessDeniedException not authorized to perform: states:StartExecution"
    execution = ask(app, hook)
    assert ending(execution) == (
        "Could not be asked",
        "HookFailed",
        f"hook load-test of beforeTraffic could not be started: {told}",
    )


def test_a_permission_that_is_missing_fails_the_hook_with_the_reason_under_the_general_name_too(app: Rollouts) -> None:
    def refuse(_: Any) -> Any:
        raise ServiceError(
            "StepFunctions.AWSStepFunctionsException", "not authorized to perform: states:StartExecution"
        )

    hook = app.machine_hook("load-test", SUCCEED, seconds=HOUR)
    app.engine.time_scale = 0.005
    app.engine.integration(NESTED, refuse)
    execution = ask(app, hook)
    assert end_of(execution.states()) == "Could not be asked"
    assert "not authorized to perform: states:StartExecution" in (execution.cause or "")


@pytest.mark.parametrize(
    ("output", "end"),
    [
        ({"hookStatus": "FAILED"}, "Refused"),
        ({"hookStatus": "SUCCEEDED"}, "All agreed"),
        ("fine", "All agreed"),
        ([], "All agreed"),
        (None, "All agreed"),
    ],
)
def test_the_answer_of_a_state_machine_counts_although_the_response_of_its_start_was_lost(
    app: Rollouts, output: Any, end: str
) -> None:
    hook = app.machine_hook("load-test", says(output), seconds=HOUR)
    starts = app.lost_start()
    assert end_of(ask(app, hook).states()) == end
    assert len({start["Name"] for start in starts}) == 1
    assert len(app.engine.executions("load-test")) == 1


def test_a_task_whose_start_was_lost_is_not_run_twice_and_fails_the_hook_as_it_ended(app: Rollouts) -> None:
    hook = app.task_hook(exited(3), seconds=HOUR)
    app.lost_start()
    told = 'exited (TaskExitedNonZero): container app exited with 3; exit codes {"app":3,"router":0}'
    assert ending(ask(app, hook)) == ("Failed", "HookFailed", f"hook migrate:3 of beforeTraffic failed: {told}")
    assert len(app.tasks.runs) == 1


def test_the_children_of_executions_with_long_names_have_names_of_their_own(app: Rollouts) -> None:
    # GIVEN two executions whose names, of the greatest length, differ at their end alone
    hooks = [app.machine_hook("load-test", SUCCEED, seconds=HOUR)]
    names = ["x" * 79 + end for end in "ab"]
    for name in names:
        execution = app.engine.start(HOOKS, {**TOLD, "hooks": hooks}, name=name)
        execution.wait()
        assert end_of(execution.states()) == "All agreed"
    # THEN each has run a hook of its own
    children = [child.name for child in app.engine.executions("load-test")]
    assert len({*children}) == 2
    assert all(len(name) <= 80 for name in children)


@pytest.mark.parametrize(
    "name",
    [
        "StepFunctions.AWSStepFunctionsException",
        "StepFunctions.SdkClientException",
        "StepFunctions.ServiceUnavailableException",
    ],
)
def test_a_start_that_is_throttled_or_uncertain_is_tried_again(app: Rollouts, name: str) -> None:
    hook = app.machine_hook("load-test", SUCCEED, seconds=HOUR)
    calls: list[Any] = []

    def throttle(arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) < 3:
            raise ServiceError(name, "Rate exceeded")
        return {"Output": {"hookStatus": "SUCCEEDED"}}

    app.engine.integration(NESTED, throttle)
    assert end_of(ask(app, hook).states()) == "All agreed"
    # THEN under the same name, so that one start is all there can be
    assert len({call["Name"] for call in calls}) == 1


# --- Hooks of CodeDeploy ---------------------------------------------------------------------------------------------


def code_deploy(app: Rollouts, *answers: Any, seconds: int = 60) -> dict[str, Any]:
    """The entry in a request of a hook of CodeDeploy whose invocation has these results."""
    return {"codeDeployHook": app.hook("CodeDeployHook_check", *answers)["lambda"], "timeoutSeconds": seconds}


def test_a_hook_of_codedeploy_receives_codedeploys_event_and_beside_it_what_others_get(app: Rollouts) -> None:
    execution = ask(app, code_deploy(app, SUCCEEDED), app.hook("check"), code_deploy(app, SUCCEEDED))
    assert end_of(execution.states()) == "All agreed"
    first, other, second = app.asked
    assert first.keys() == {"hook", "DeploymentId", "LifecycleEventHookExecutionId", "headgate"}
    assert first["headgate"] == TOLD | {"hookDetails": {}}
    # AND its ids look like CodeDeploy's; one deployment is one rollout, and each hook is an execution of its own.
    assert re.fullmatch(r"d-[A-Z0-9]{9}", first["DeploymentId"])
    assert first["DeploymentId"] == second["DeploymentId"]
    assert first["LifecycleEventHookExecutionId"] != second["LifecycleEventHookExecutionId"]
    assert other == TOLD | {"hook": "check", "config": {}, "hookDetails": {}}


def test_a_hook_of_codedeploy_that_is_asked_again_is_the_same_execution_to_codedeploy(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    ask(app, code_deploy(app, IN_PROGRESS | {"hookDetails": {"run": "17"}}, SUCCEEDED))
    first, again = app.asked
    assert again == first | {"headgate": TOLD | {"hookDetails": {"run": "17"}}}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (
            {"hookStatus": "FAILED", "hookDetails": {"status": "Failed"}},
            'failed: {"status":"Failed"}',
        ),
        (None, "gave no valid answer: hookStatus is missing in an answer of type null; give SUCCEEDED or FAILED, "),
        ("Validation test succeeded", "gave no valid answer: hookStatus is missing in an answer of type string; "),
        (error("Error", "secret of the function"), "could not be asked: Error; see its logs"),
    ],
)
def test_a_hook_of_codedeploy_that_does_not_succeed_fails_by_its_name(app: Rollouts, result: Any, reason: str) -> None:
    execution = ask(app, code_deploy(app, result))
    assert execution.error == "HookFailed"
    assert (execution.cause or "").startswith(f"hook CodeDeployHook_check of beforeTraffic {reason}")


def test_a_hook_of_codedeploy_is_on_record_by_its_functions_name(app: Rollouts) -> None:
    ask(app, code_deploy(app, SUCCEEDED), app.machine_hook("load-test", SUCCEED))
    assert [item["hooks"] for item in on_record(app)] == [["CodeDeployHook_check", "load-test"]]


# --- Hooks of services -----------------------------------------------------------------------------------------------

REGION_OF_MACHINE = machine_arn(HOOKS).split(":")[3]
LB = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:"
GROUPS = [f"{LB}targetgroup/{name}/0123456789abcdef" for name in ("blue", "green", "blue-admin", "green-admin")]
RULES = [f"{LB}listener-rule/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2/{number}" for number in range(3)]
ROUTING = {
    "way": "green-service",
    "pairs": [
        {"stable": GROUPS[0], "candidate": GROUPS[1], "rules": RULES[:2], "testRules": RULES[2:]},
        {"stable": GROUPS[2], "candidate": GROUPS[3], "rules": [], "testRules": []},
    ],
}
SERVICE_TOLD = TOLD | {
    "target": {"kind": "ecs-service", "cluster": "prod", "service": "shop"},
    "stable": "shop:7",
    "candidate": "shop:8",
}
SERVICE = {
    "way": "green-service",
    "stableGroups": [GROUPS[0], GROUPS[2]],
    "candidateGroups": [GROUPS[1], GROUPS[3]],
    "rules": RULES[:2],
    "testRules": RULES[2:],
}


def ask_of_service(app: Rollouts, *hooks: dict[str, Any], **told: Any) -> Execution:
    """Ask hooks as the rollout machine does for a service."""
    execution = app.engine.start(HOOKS, {**SERVICE_TOLD, "service": ROUTING, "weight": 0, **told, "hooks": list(hooks)})
    execution.wait()
    return execution


def lifecycle(app: Rollouts, *answers: Any, **given: Any) -> dict[str, Any]:
    """The entry in a request of a lifecycle hook of ECS whose invocation has these results."""
    return {"ecsLifecycleHook": app.hook("gate", *answers)["lambda"], "timeoutSeconds": 60, "hookDetails": {}, **given}


def test_a_hook_of_a_service_is_told_how_requests_reach_its_revisions(app: Rollouts) -> None:
    execution = ask_of_service(app, app.hook("check"))
    assert end_of(execution.states()) == "All agreed"
    assert app.asked == [SERVICE_TOLD | {"service": SERVICE, "hook": "check", "config": {}, "hookDetails": {}}]


def test_a_service_without_test_rules_has_an_empty_list_of_them(app: Rollouts) -> None:
    pair = ROUTING["pairs"][1]
    ask_of_service(app, app.hook("check"), service={"way": "task-sets", "pairs": [pair]})
    ((told),) = app.asked
    assert told["service"] == {
        "way": "task-sets",
        "stableGroups": [GROUPS[2]],
        "candidateGroups": [GROUPS[3]],
        "rules": [],
        "testRules": [],
    }


def test_a_lifecycle_hook_receives_ecs_event_and_beside_it_what_others_get(app: Rollouts) -> None:
    target = {"kind": "ecs-service", "cluster": "arn:aws:ecs:us-east-1:123456789012:cluster/prod", "service": "shop"}
    execution = ask_of_service(app, lifecycle(app, SUCCEEDED, hookDetails={"suite": "a"}), target=target)
    assert end_of(execution.states()) == "All agreed"
    (told,) = app.asked
    arn = f"arn:aws:ecs:{REGION_OF_MACHINE}:{ACCOUNT}:"
    assert re.fullmatch(r"[0-9a-f]{64}", told.pop("executionId"))
    assert re.fullmatch(f"{arn}service-deployment/prod/shop/[0-9a-f]{{20}}", told.pop("resourceArn"))
    assert told == {
        "hook": "gate",
        "lifecycleStage": "POST_TEST_TRAFFIC_SHIFT",
        "executionDetails": {
            "serviceArn": f"{arn}service/prod/shop",
            "targetServiceRevisionArn": f"{arn}service-revision/prod/shop/shop-8",
            "testTrafficWeights": {},
            "productionTrafficWeights": {},
        },
        "hookDetails": {"suite": "a"},
        "headgate": SERVICE_TOLD | {"target": target, "service": SERVICE},
    }


@pytest.mark.parametrize(
    ("stage", "weight", "lifecycle_stage", "weights"),
    [
        ("beforeTraffic", 0, "POST_TEST_TRAFFIC_SHIFT", None),
        ("beforeStep", 12.5, "PRE_PRODUCTION_TRAFFIC_SHIFT", (12.5, 87.5)),
        ("afterStep", 50, "PRODUCTION_TRAFFIC_SHIFT", (50, 50)),
        ("afterTraffic", 100, "POST_PRODUCTION_TRAFFIC_SHIFT", None),
        # As on ECS: a gate that waits for weights must let a rollback pass.
        ("onRollback", 0, "PRODUCTION_TRAFFIC_SHIFT", (0, 100)),
    ],
)
def test_a_lifecycle_hook_hears_the_stage_and_the_weights_that_ecs_would_tell(
    app: Rollouts, stage: str, weight: float, lifecycle_stage: str, weights: tuple[float, float] | None
) -> None:
    ask_of_service(app, lifecycle(app, SUCCEEDED), stage=stage, weight=weight)
    (told,) = app.asked
    revisions = [
        f"arn:aws:ecs:{REGION_OF_MACHINE}:{ACCOUNT}:service-revision/prod/shop/{one}" for one in ("shop-8", "shop-7")
    ]
    assert told["lifecycleStage"] == lifecycle_stage
    expected = dict(zip(revisions, weights, strict=True)) if weights else {}
    assert told["executionDetails"]["productionTrafficWeights"] == expected


def test_without_test_rules_a_lifecycle_hook_is_asked_as_after_the_scale_up(app: Rollouts) -> None:
    ask_of_service(app, lifecycle(app, SUCCEEDED), service={"way": "task-sets", "pairs": [ROUTING["pairs"][1]]})
    assert [told["lifecycleStage"] for told in app.asked] == ["POST_SCALE_UP"]


def test_what_a_lifecycle_hook_returns_is_merged_and_comes_back(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    hook = lifecycle(
        app,
        IN_PROGRESS | {"hookDetails": {"run": "17", "suite": "b"}},
        IN_PROGRESS | {"hookDetails": {"round": 2}},
        IN_PROGRESS | {"hookDetails": "nonsense"},
        SUCCEEDED,
        hookDetails={"suite": "a"},
    )
    execution = ask_of_service(app, hook)
    assert end_of(execution.states()) == "All agreed"
    merged = {"run": "17", "suite": "b"}
    assert [told["hookDetails"] for told in app.asked] == [
        {"suite": "a"},
        merged,
        merged | {"round": 2},
        merged | {"round": 2},
    ]
    assert len({told["executionId"] for told in app.asked}) == 1


def test_a_lifecycle_hook_that_fails_ends_the_stage_by_its_name(app: Rollouts) -> None:
    execution = ask_of_service(app, lifecycle(app, {"hookStatus": "FAILED", "hookDetails": {"why": "slow"}}))
    assert execution.error == "HookFailed"
    assert execution.cause == 'hook gate of beforeTraffic failed: {"why":"slow"}'
    assert [item["hooks"] for item in on_record(app)] == [["gate"]]
