"""The hooks machine: hooks asked in order, and again while they say so; anything but SUCCEEDED fails."""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.statemachines.engine import evaluate_jsonata
from tests.statemachines.rollouts import DEFINITIONS, HOOKS, Rollouts, error, parts, passed

if TYPE_CHECKING:
    from tests.statemachines.engine import Execution

STATES = json.loads(DEFINITIONS[HOOKS])["States"]
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


def ask(app: Rollouts, *hooks: dict[str, Any]) -> Execution:
    execution = app.engine.start(HOOKS, {**TOLD, "hooks": list(hooks)})
    execution.wait()
    return execution


# --- The table of walks ----------------------------------------------------------------------------------------------


class Walk(NamedTuple):
    """Answers of a hook with so many seconds, and the state that the execution ends in."""

    answers: tuple[Any, ...]
    end: str
    seconds: int = HOUR


WALKS = {
    "Next hook? -> Ask": Walk((SUCCEEDED,), "All agreed"),
    "Next hook? -> All agreed": Walk((SUCCEEDED,), "All agreed"),
    "Ask !States.Timeout -> Took too long": Walk((lambda: time.sleep(0.5),), "Took too long", 1),
    "Ask !States.ALL -> Could not be asked": Walk((error("Broken"),), "Could not be asked"),
    "Answer? -> Next hook?": Walk((SUCCEEDED,), "All agreed"),
    "Answer? -> Wait": Walk((IN_PROGRESS, SUCCEEDED), "All agreed"),
    "Answer? -> Took too long": Walk((IN_PROGRESS | {"callBackDelay": HOUR},), "Took too long", 60),
    "Answer? -> Refused": Walk(({"hookStatus": "FAILED"},), "Refused"),
}


@functools.cache
def walked(part: str) -> tuple[list[str], set[str]]:
    with Rollouts() as app:
        execution = ask(app, app.hook("check", *WALKS[part].answers, seconds=WALKS[part].seconds))
        return execution.states(), passed(HOOKS, execution)


@pytest.mark.parametrize("part", WALKS)
def test_each_rule_and_catcher_leads_where_it_says(part: str) -> None:
    states, taken = walked(part)
    assert part in taken
    assert states[-1] == WALKS[part].end


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
    assert execution.states()[-1] == "All agreed"
    answer = {"hookStatus": "IN_PROGRESS"} | delay
    assert evaluate_jsonata(STATES["Wait"]["Seconds"][2:-2], {"answer": answer}) == seconds


@pytest.mark.parametrize(
    "answer",
    [
        *(None, "SUCCEEDED", ["SUCCEEDED"], [], {}, 7, True, {"status": "SUCCEEDED"}),
        *({"hookStatus": status} for status in (None, True, "succeeded", "", ["SUCCEEDED"], {"SUCCEEDED": 1})),
    ],
)
def test_what_is_no_answer_fails(app: Rollouts, answer: Any) -> None:
    execution = ask(app, app.hook("check", answer))
    assert (execution.states()[-1], execution.error) == ("Refused", "HookFailed")
    assert (execution.cause or "").startswith("hook check of beforeTraffic gave no valid answer: ")


@pytest.mark.parametrize("answer", [[SUCCEEDED], [SUCCEEDED, {}]])
def test_a_list_with_an_answer_in_it_is_no_answer(app: Rollouts, answer: Any) -> None:
    assert ask(app, app.hook("check", answer)).states()[-1] == "Refused"


# --- Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (error("AssertionError", "no basket"), "AssertionError"),
        (error("Lambda.AccessDeniedException", "not authorized"), "Lambda.AccessDeniedException not authorized"),
        (error("Lambda.Unknown", "gone"), "Lambda.Unknown gone"),
        (error("Sandbox.Timedout"), "Sandbox.Timedout"),
        (error("Runtime.ExitError"), "Runtime.ExitError"),
    ],
)
def test_a_hook_that_throws_or_may_not_be_invoked_fails_at_once(app: Rollouts, failure: Any, cause: str) -> None:
    execution = ask(app, app.hook("check", failure, seconds=HOUR))
    assert (execution.states()[-1], execution.error, len(app.asked)) == ("Could not be asked", "HookFailed", 1)
    assert (execution.cause or "").startswith(f"hook check of beforeTraffic could not be asked: {cause}")


def test_a_hook_that_does_not_exist_fails_at_once(app: Rollouts) -> None:
    execution = ask(app, app.hook("check") | {"lambda": "nobody"})
    assert execution.states()[-1] == "Could not be asked"
    assert "Lambda.ResourceNotFoundException" in (execution.cause or "")


@pytest.mark.parametrize("name", STATES["Ask"]["Retry"][0]["ErrorEquals"])
def test_an_error_of_the_service_is_retried(app: Rollouts, name: str) -> None:
    assert ask(app, app.hook("check", error(name), SUCCEEDED, seconds=HOUR)).states()[-1] == "All agreed"
    assert len(app.asked) == 2


def test_a_service_that_never_recovers_fails_the_hook(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    execution = ask(app, app.hook("check", error("Lambda.TooManyRequestsException", "busy"), seconds=HOUR))
    assert (execution.states()[-1], len(app.asked)) == ("Could not be asked", 7)


def test_a_hook_that_does_not_answer_took_too_long(app: Rollouts) -> None:
    execution = ask(app, app.hook("check", lambda: time.sleep(0.5), seconds=5))
    assert (execution.states()[-1], execution.error) == ("Took too long", "HookTimedOut")
    assert execution.cause == "hook check of beforeTraffic did not finish within 5 s"


@pytest.mark.parametrize(("delay", "asked_again"), [({"callBackDelay": 50}, True), ({"callBackDelay": 60}, False)])
def test_a_delay_that_ends_after_the_hooks_time_is_not_waited_for(
    app: Rollouts, delay: dict[str, int], *, asked_again: bool
) -> None:
    app.engine.time_scale = 0.005
    execution = ask(app, app.hook("check", {"hookStatus": "IN_PROGRESS"} | delay, SUCCEEDED, seconds=60))
    assert execution.states()[-1] == ("All agreed" if asked_again else "Took too long")


def test_the_time_is_each_hooks_own(app: Rollouts) -> None:
    app.engine.time_scale = 0.005
    polls = [IN_PROGRESS | {"callBackDelay": 50}, SUCCEEDED]
    execution = ask(app, *(app.hook(name, *polls, seconds=60) for name in ("first", "second")))
    assert execution.states()[-1] == "All agreed"


def test_a_hook_is_polled_a_thousand_times_at_most(app: Rollouts) -> None:
    rule = STATES["Answer?"]["Choices"][1]
    now = int(time.time() * 1000)
    known = {"answer": IN_PROGRESS, "until": now + HOUR * 1000}
    assert evaluate_jsonata(rule["Condition"][2:-2], known | {"polls": 999}) is True
    assert evaluate_jsonata(rule["Condition"][2:-2], known | {"polls": 1000}) is False
    assert STATES["Answer?"]["Choices"][2]["Next"] == "Took too long"
    # AND polls are counted, those of all hooks of the stage together.
    polled = ask(app, *(app.hook(name, *[IN_PROGRESS] * 3, SUCCEEDED) for name in ("first", "second")))
    counts = [
        event["stateExitedEventDetails"]["assignedVariables"]["polls"]
        for event in polled.history()
        if event.get("stateExitedEventDetails", {}).get("name") == "Ask"
    ]
    assert counts == [str(number) for number in range(1, 9)]
