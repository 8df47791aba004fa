"""How a task ended is told from what AWS says of it, however little that is, and whether it is run again by rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.ecs_tasks.outcome import (
    TASK_ERRORS,
    ContainerEnd,
    TaskEnding,
    classify,
    has_ended,
    may_have_run,
    of_lost,
    of_task,
)
from headgate.ecs_tasks.request import ExitRule, RetryBackoff, RetryStrategy
from headgate.ecs_tasks.retry import THROTTLES, Decision, decide_retry, retry_wait_seconds
from tests.fakes.ecs import (
    BAD,
    CAPACITY,
    EXITED,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    OUT_OF_MEMORY,
    PULL,
    SECRETS,
    SPOT,
    TASK_ARN,
    cause,
    container,
    detail,
)

FAILED = "States.TaskFailed"
ESSENTIAL = ["app"]


NO_INTERFACE = "Timeout waiting for network interface provisioning to complete."


def failures(reason: str, more: str = "") -> str:
    listed = {"Arn": "arn:aws:ecs:eu-central-1:123456789012:container-instance/jobs/1", "Reason": reason}
    return json.dumps({"Failures": [listed | ({"Detail": more} if more else {})], "Tasks": []})


SAMPLES: dict[str, tuple[str, str, str, str]] = {
    "all is well": ("", cause(GOOD), "succeeded", "every essential container exited with 0"),
    "a sidecar that was killed": (FAILED, cause(detail(container(), container("router", 137))), "succeeded", "every"),
    "a sidecar without memory": (
        FAILED,
        cause(detail(container(), container("router", 137, OUT_OF_MEMORY))),
        "succeeded",
        "every essential container exited with 0",
    ),
    "a sidecar without memory, and a non-zero exit": (
        FAILED,
        cause(detail(container(code=3), container("router", 137, OUT_OF_MEMORY))),
        "exited",
        "container app exited with 3",
    ),
    "a sidecar without an image": (
        FAILED,
        cause(detail(container(), container("router", None, PULL))),
        "succeeded",
        "every essential container exited with 0",
    ),
    "a sidecar without an image, and a non-zero exit": (
        FAILED,
        cause(detail(container(code=3), container("router", None, PULL))),
        "exited",
        "container app exited with 3",
    ),
    "a sidecar without an image, that the task waits for": (
        FAILED,
        cause(detail(container(code=None), container("router", None, PULL))),
        "could-not-start",
        PULL,
    ),
    "a container of AWS's that did not end": (
        FAILED,
        cause(detail(container(), container("aws-guardduty-agent-tq7Xr0k", None))),
        "succeeded",
        "every essential container exited with 0",
    ),
    "a non-zero exit": (FAILED, cause(BAD), "exited", "container app exited with 3"),
    "a killed container": (FAILED, cause(detail(container(code=137))), "exited", "container app exited with 137"),
    "an exit with a reason": (
        FAILED,
        cause(detail(container(code=1, reason="it said so"))),
        "exited",
        "container app exited with 1: it said so",
    ),
    "out of memory": (
        FAILED,
        cause(detail(container(code=137, reason=OUT_OF_MEMORY))),
        "out-of-memory",
        f"container app: {OUT_OF_MEMORY}",
    ),
    "out of memory on Fargate": (
        FAILED,
        cause(detail(container(code=137), reason="OutOfMemoryError: container killed due to memory usage")),
        "out-of-memory",
        "OutOfMemoryError: container killed due to memory usage",
    ),
    "no image": (
        FAILED,
        cause(detail(container(code=None, reason=PULL), code=NOT_STARTED, reason=PULL)),
        "could-not-start",
        PULL,
    ),
    "no image, told by the container alone": (
        FAILED,
        cause(detail(container(code=None, reason=PULL), code=NOT_STARTED, reason="Task failed to start")),
        "could-not-start",
        PULL,
    ),
    "no secret": (
        FAILED,
        cause(detail(container(code=None), code=NOT_STARTED, reason=SECRETS)),
        "could-not-start",
        SECRETS,
    ),
    "no command": (
        FAILED,
        cause(
            detail(
                container(
                    code=None,
                    reason='CannotStartContainerError: exec: "x": executable file not found in $PATH',
                ),
                code=NOT_STARTED,
                reason="Task failed to start",
            )
        ),
        "could-not-start",
        "CannotStartContainerError: ",
    ),
    "no command, and Docker's exit code for that": (
        FAILED,
        cause(detail(container(code=127, reason="CannotStartContainerError: Error response from daemon: "))),
        "could-not-start",
        "CannotStartContainerError: ",
    ),
    "no capacity after it was accepted": (
        FAILED,
        cause(detail(container(code=None), code=NOT_STARTED, reason=CAPACITY)),
        "no-capacity",
        CAPACITY,
    ),
    "an empty capacity provider": (
        FAILED,
        cause(detail(container(code=None), code=NOT_STARTED, reason="EMPTY CAPACITY PROVIDER")),
        "no-capacity",
        "EMPTY CAPACITY PROVIDER",
    ),
    "no instance for a capacity provider": (
        FAILED,
        cause(detail(container(code=None), code=NOT_STARTED, reason="TaskFailedToStart: RESOURCE:MEMORY")),
        "no-capacity",
        "TaskFailedToStart: RESOURCE:MEMORY",
    ),
    "no agent for a capacity provider": (
        FAILED,
        cause(detail(container(code=None), code=NOT_STARTED, reason="TaskFailedToStart: AGENT")),
        "no-capacity",
        "TaskFailedToStart: AGENT",
    ),
    "no network interface": (
        FAILED,
        cause(detail(container(code=None), code="", reason=NO_INTERFACE)),
        "could-not-start",
        NO_INTERFACE,
    ),
    "no health under it": (
        FAILED,
        cause(detail(container(code=143), code="InfrastructureHealth", reason="Task stopped for a fault of its host")),
        "interrupted",
        "Task stopped for a fault of its host",
    ),
    "Spot": (FAILED, cause(INTERRUPTED), "interrupted", SPOT),
    "Spot's notice": (
        FAILED,
        cause(detail(container(code=0), code="TerminationNotice", reason=SPOT)),
        "interrupted",
        SPOT,
    ),
    "Spot, though memory was short too": (
        FAILED,
        cause(detail(container(code=137, reason=OUT_OF_MEMORY), code="SpotInterruption", reason=SPOT)),
        "interrupted",
        SPOT,
    ),
    "a host that went": (
        FAILED,
        cause(detail(container(code=None), code="", reason="Host EC2 (instance i-0a1b2c3d) terminated.")),
        "interrupted",
        "Host EC2 (instance i-0a1b2c3d) terminated.",
    ),
    "an operator": (
        FAILED,
        cause(detail(container(code=143), code="UserInitiated", reason="Task stopped by user")),
        "stopped",
        "Task stopped by user",
    ),
    "time": ("States.Timeout", "", "timed-out", "the task exceeded its time limit"),
    "no memory left": ("AmazonECS.Unknown", failures("RESOURCE:MEMORY"), "no-capacity", "RESOURCE:MEMORY"),
    "an agent that is away": ("AmazonECS.Unknown", failures("AGENT"), "no-capacity", "AGENT"),
    "no place, for reasons unknown": ("AmazonECS.Unknown", "", "no-capacity", "RunTask returned failures"),
    "no such attribute": (
        "AmazonECS.Unknown",
        failures("ATTRIBUTE", "no instance has it"),
        "could-not-start",
        "ATTRIBUTE no instance has it",
    ),
    "a cluster that is gone": ("AmazonECS.Unknown", failures("INACTIVE"), "could-not-start", "INACTIVE"),
    "no capacity at all": (
        "ECS.AmazonECSException",
        f"{CAPACITY} (Service: AmazonECS; Status Code: 400; Error Code: ClientException; Request ID: 1)",
        "no-capacity",
        CAPACITY,
    ),
    "too many requests": (
        "ECS.AmazonECSException",
        "Rate exceeded (Service: AmazonECS; Status Code: 400; Error Code: ThrottlingException; Request ID: 1)",
        "throttled",
        "Rate exceeded",
    ),
    "too many tasks": (
        "ECS.ClientException",
        "You've reached the limit on the number of tasks you can run concurrently",
        "over-quota",
        "You've reached the limit",
    ),
    "no permission": (
        "ECS.AccessDeniedException",
        "not authorized to perform: ecs:RunTask",
        "could-not-start",
        "ECS.AccessDeniedException: not authorized",
    ),
    "no exit code": (FAILED, cause(detail(container(code=None))), "unknown", "container app has no exit code"),
    "no stop code, and no failure": (
        FAILED,
        cause(detail(container(), code="")),
        "unknown",
        "States.TaskFailed, although",
    ),
    "not JSON": (FAILED, "An error occurred", "unknown", "States.TaskFailed: An error occurred"),
    "a number": (FAILED, "7", "unknown", "States.TaskFailed: 7"),
    "nothing": ("States.Runtime", "", "unknown", "States.Runtime"),
}


@pytest.mark.parametrize("what", SAMPLES)
def test_each_way_to_end_is_told_apart(what: str) -> None:
    error, given_cause, outcome, reason = SAMPLES[what]
    ending = classify(error, given_cause, ESSENTIAL)
    assert (ending.outcome, ending.reason[: len(reason)]) == (outcome, reason)


def test_every_outcome_but_success_has_an_error_and_a_sample() -> None:
    assert {outcome for _, _, outcome, _ in SAMPLES.values()} == {*TASK_ERRORS, "succeeded"}
    assert len(set(TASK_ERRORS.values())) == len(TASK_ERRORS)


def test_exit_codes_reasons_and_durations_are_those_of_the_task() -> None:
    ending = classify(FAILED, cause(detail(container(code=3, reason="bad"), container("router"))), ESSENTIAL)
    assert ending.exit_codes == {"app": 3, "router": 0}
    assert ending.containers[0] == ContainerEnd(name="app", exit_code=3, reason="bad")
    assert (ending.start_seconds, ending.run_seconds) == (24.5, 60.25)
    assert (ending.stop_code, ending.task_arn) == (EXITED, TASK_ARN)


def test_what_describe_tasks_says_is_read_as_well() -> None:
    moments = {"createdAt": datetime(2026, 11, 21, 9, 0, tzinfo=UTC), "startedAt": "2026-11-21T09:00:20Z"}
    told = {"stopCode": EXITED, "containers": [{"name": "app", "exitCode": 5}], **moments, "stoppedAt": 1795251620}
    ending = of_task(told, ESSENTIAL)
    assert (ending.outcome, ending.exit_codes, ending.start_seconds) == ("exited", {"app": 5}, 20.0)
    assert ending.run_seconds == 1795251620 - datetime(2026, 11, 21, 9, 0, 20, tzinfo=UTC).timestamp()


def test_where_no_container_is_known_to_be_essential_all_are() -> None:
    assert of_task(detail(container(), container("router", 1)), []).outcome == "exited"
    assert of_task(detail(container(), container("router", 1)), ESSENTIAL).outcome == "succeeded"


def test_of_several_essential_containers_the_one_that_was_not_killed_is_the_cause() -> None:
    """The others are stopped once it has ended."""
    for killed in (137, 143):
        told = of_task(detail(container("router", killed), container(code=3)), ["app", "router"])
        assert (told.outcome, told.reason) == ("exited", "container app exited with 3")
    told = of_task(detail(container("router", 143), container()), ["app", "router"])
    assert (told.outcome, told.reason) == ("exited", "container router exited with 143")


def test_every_stop_code_of_ecs_is_told_apart() -> None:
    shape: Any = botocore.session.get_session().get_service_model("ecs").shape_for("TaskStopCode")
    told = {
        code: of_task(detail(container(code=143), code=code, reason="why"), ESSENTIAL).outcome for code in shape.enum
    }
    assert told == {
        "TaskFailedToStart": "could-not-start",
        "EssentialContainerExited": "exited",
        "UserInitiated": "stopped",
        "ServiceSchedulerInitiated": "stopped",
        "SpotInterruption": "interrupted",
        "TerminationNotice": "interrupted",
        "InfrastructureHealth": "interrupted",
    }


def test_an_exit_code_that_is_null_is_missing() -> None:
    told = of_task(detail(container() | {"ExitCode": None}), ESSENTIAL)
    assert (told.outcome, told.exit_codes) == ("unknown", {})


def test_the_whole_answer_of_run_task_is_read_for_its_task() -> None:
    ending = classify(FAILED, json.dumps({"Failures": [], "Tasks": [BAD]}), ESSENTIAL)
    assert (ending.outcome, ending.exit_codes["app"]) == ("exited", 3)


def test_reasons_are_cut_off_so_that_all_attempts_fit_into_a_states_data() -> None:
    ending = classify(FAILED, cause(detail(container(code=1, reason="x" * 5000), reason="y" * 5000)), ESSENTIAL)
    assert max(len(ending.reason), len(ending.status_reason), len(ending.containers[0].reason)) <= 300


# --- A task that Step Functions lost sight of ------------------------------------------------------------------------

LOST = classify("ECS.ServerException", "no answer", ESSENTIAL)
TIME = classify("States.Timeout", "", ESSENTIAL)
OURS = {"code": "UserInitiated", "reason": "Headgate: attempt 1 of task 1 ended with States.Timeout"}


def test_a_task_that_timed_out_has_all_that_ecs_tells_of_it() -> None:
    ending = of_lost(TIME, detail(container(code=143), container("router"), **OURS), ESSENTIAL)
    assert (ending.outcome, ending.reason) == ("timed-out", "the task exceeded its time limit")
    assert (ending.task_arn, ending.exit_codes) == (TASK_ARN, {"app": 143, "router": 0})
    assert (ending.stop_code, ending.run_seconds) == ("UserInitiated", 60.25)


def test_a_lost_task_that_ended_of_itself_says_how_and_one_that_was_stopped_for_it_does_not() -> None:
    assert of_lost(LOST, BAD, ESSENTIAL).outcome == "exited"
    assert of_lost(LOST, GOOD, ESSENTIAL).outcome == "succeeded"
    assert (
        of_lost(LOST, detail(container(code=143), code="UserInitiated", reason="kim"), ESSENTIAL).outcome == "stopped"
    )
    ours = of_lost(LOST, detail(container(code=143), **OURS), ESSENTIAL)
    assert (ours.outcome, ours.reason, ours.task_arn) == ("unknown", "ECS.ServerException: no answer", TASK_ARN)
    running = of_lost(LOST, detail(container(code=None), code="", LastStatus="RUNNING"), ESSENTIAL)
    assert (running.outcome, running.task_arn) == ("unknown", TASK_ARN)


@pytest.mark.parametrize(
    ("status", "containers", "ended"),
    [
        ("RUNNING", ["RUNNING", "STOPPED"], False),
        ("STOPPING", ["STOPPED", "STOPPED"], True),
        ("PENDING", [], False),
        ("DEPROVISIONING", ["STOPPED"], True),
        ("STOPPED", [], True),
    ],
)
def test_a_task_has_ended_with_its_containers(status: str, containers: list[str], *, ended: bool) -> None:
    told = {"lastStatus": status, "containers": [{"lastStatus": each} for each in containers]}
    assert has_ended(told) is ended


@pytest.mark.parametrize(
    ("error", "said", "may"),
    [
        ("States.Timeout", "", True),
        ("States.TaskFailed", "?", True),
        ("ECS.ServerException", "no answer", True),
        ("ECS.SdkClientException", "Read timed out", True),
        ("ECS.AmazonECSException", "(Service: AmazonECS; Status Code: 503; Error Code: 503)", True),
        ("ECS.AmazonECSException", "Rate exceeded (Service: AmazonECS; Status Code: 400)", False),
        ("ECS.ClientException", "no", False),
        ("AmazonECS.Unknown", "RESOURCE:CPU", False),
    ],
)
def test_a_task_may_have_run_unless_ecs_refused_it(error: str, said: str, *, may: bool) -> None:
    assert may_have_run(error, said) is may


# --- What is cut off, or is no JSON ----------------------------------------------------------------------------------


def test_a_cause_that_is_cut_off_still_tells_a_failed_container_and_the_task() -> None:
    whole = cause(BAD)
    ending = classify(FAILED, whole[: whole.index('"Cpu":"256"')], ESSENTIAL)
    assert (ending.outcome, ending.reason) == ("exited", "container app exited with 3")


def test_a_cause_of_the_longest_length_is_read() -> None:
    text = cause(detail(container(code=9), Overrides={"Environment": "x" * 40_000}))[:32_768]
    assert classify(FAILED, text, ESSENTIAL).outcome == "exited"


def test_half_a_cause_without_the_containers_that_decide_is_asked_about_again() -> None:
    whole = cause(detail(container("router", 137), container()))
    ending = classify(FAILED, whole[: whole.index('"Name":"app"')], ESSENTIAL)
    assert (ending.outcome, classify(FAILED, whole, ESSENTIAL).outcome) == ("unknown", "succeeded")
    assert ending.task_arn == TASK_ARN, "without it, ECS could not be asked"


def test_a_success_is_never_read_out_of_half_a_cause() -> None:
    whole = cause(GOOD)
    told = {classify(FAILED, whole[:length], ESSENTIAL).outcome for length in range(len(whole))}
    assert told == {"unknown"}


@given(sample=st.sampled_from([BAD, INTERRUPTED, detail(container(code=137, reason=OUT_OF_MEMORY))]), data=st.data())
def test_a_cause_cut_off_anywhere_tells_the_truth_or_less(sample: dict[str, Any], data: st.DataObject) -> None:
    whole = cause(sample)
    ending = classify(FAILED, whole[: data.draw(st.integers(0, len(whole)))], ESSENTIAL)
    known = classify(FAILED, whole, ESSENTIAL)
    # A task that Spot took exits with a code: where the stop code is cut off, the exit is what is left of it.
    assert ending.outcome in ("unknown", "exited", known.outcome)
    # A container whose name is cut off has its code all the same.
    assert set(ending.exit_codes.values()) <= set(known.exit_codes.values())


@given(st.text(), st.text())
def test_no_error_and_no_cause_is_too_odd(error: str, given_cause: str) -> None:
    assert classify(error, given_cause, ESSENTIAL).outcome in (*TASK_ERRORS, "succeeded")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["StopCode", "Containers", "Name", "ExitCode", "Reason", "Failures", "Tasks", "StartedAt"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(json_values)
def test_no_shape_of_a_cause_is_too_odd(value: Any) -> None:
    assert classify(FAILED, json.dumps(value), ESSENTIAL).outcome in (*TASK_ERRORS, "succeeded")
    assert classify(FAILED, json.dumps(value)[:-1], ESSENTIAL).outcome in TASK_ERRORS


# --- Again? ----------------------------------------------------------------------------------------------------------


def ending_of(outcome: Any = "exited", code: int | None = 3, reason: str = "", status: str = "") -> TaskEnding:
    containers = [ContainerEnd(name="app", exit_code=code, reason=reason)]
    return TaskEnding(outcome=outcome, reason="because", status_reason=status, containers=containers)


def decide(
    ending: TaskEnding, attempt: int = 1, attempts: int = 3, rules: Any = (), *, throttles: int = 0, chance: float = 0.5
) -> Decision:
    retry = RetryStrategy(attempts=attempts, evaluate_on_exit=[ExitRule.model_validate(rule) for rule in rules])
    return decide_retry(ending, attempt, retry, RetryBackoff(), can_fall_back=False, chance=chance, throttles=throttles)


def again(
    ending: TaskEnding, attempt: int = 1, attempts: int = 3, rules: Any = (), *, can_fall_back: bool = False
) -> bool:
    retry = RetryStrategy(attempts=attempts, evaluate_on_exit=[ExitRule.model_validate(rule) for rule in rules])
    return decide_retry(ending, attempt, retry, RetryBackoff(), can_fall_back=can_fall_back, chance=0.5).again


BATCHS_RULES = [
    {"action": "RETRY", "onReason": "AGENT"},
    {"action": "RETRY", "onStatusReason": "Task failed to start"},
    {"action": "EXIT", "onReason": "*"},
]
SPOT_ALONE = [{"onStatusReason": "Host EC2*", "action": "retry"}, {"onReason": "*", "action": "exit"}]
RETRY_ANY, EXIT_ANY = {"onExitCode": "*", "action": "RETRY"}, {"onExitCode": "*", "action": "EXIT"}


@pytest.mark.parametrize(
    ("rules", "ending", "expected"),
    [
        ([], ending_of(), True),
        ([{"onExitCode": "3", "action": "EXIT"}], ending_of(), False),
        ([{"onExitCode": "1*", "action": "EXIT"}], ending_of(code=137), False),
        ([{"onExitCode": "1", "action": "EXIT"}], ending_of(code=137), True),
        ([{"onReason": "OutOfMemory*", "action": "EXIT"}], ending_of("out-of-memory", 137, OUT_OF_MEMORY), False),
        ([{"onReason": "Memory*", "action": "EXIT"}], ending_of("out-of-memory", 137, OUT_OF_MEMORY), True),
        ([{"onStatusReason": SPOT, "action": "RETRY"}, EXIT_ANY], ending_of("interrupted", 143, status=SPOT), True),
        ([{"onStatusReason": SPOT, "action": "RETRY"}, EXIT_ANY], ending_of(status="Essential container"), False),
        # All that a rule asks must match, and the first rule that matches counts.
        ([{"onExitCode": "3", "onReason": "x*", "action": "EXIT"}], ending_of(), True),
        ([{"onExitCode": "3", "onReason": "x*", "action": "EXIT"}], ending_of(reason="xy"), False),
        ([RETRY_ANY, EXIT_ANY], ending_of(), True),
        ([EXIT_ANY, RETRY_ANY], ending_of(), False),
        # Without an exit code there is none to match; without a reason there is still "any reason".
        ([EXIT_ANY], ending_of(code=None), True),
        ([{"onReason": "x*", "action": "EXIT"}], ending_of(), True),
        ([{"onReason": "*", "action": "EXIT"}], ending_of(), False),
        # The examples of Batch's own guide and of its announcement.
        (BATCHS_RULES, ending_of("could-not-start", None, status="Task failed to start"), True),
        (BATCHS_RULES, ending_of(status="Essential container in task exited"), False),
        (SPOT_ALONE, ending_of("interrupted", None, status="Host EC2 (instance i-0a1b2c3d) terminated."), True),
        (SPOT_ALONE, ending_of("could-not-start", None, status=SECRETS), False),
    ],
)
def test_the_first_rule_that_matches_decides_and_without_one_it_is_run_again(
    rules: list[dict[str, str]], ending: TaskEnding, *, expected: bool
) -> None:
    assert again(ending, rules=rules) is expected


def test_a_non_zero_code_is_asked_for_before_those_of_the_containers_that_ended_well() -> None:
    containers = [ContainerEnd(name="router", exit_code=0), ContainerEnd(name="app", exit_code=3)]
    ending = TaskEnding(outcome="exited", reason="", containers=containers)
    assert again(ending, rules=[{"onExitCode": "0", "action": "EXIT"}])
    assert not again(ending, rules=[{"onExitCode": "3", "action": "EXIT"}])


def test_rules_ask_about_the_exit_codes_of_the_essential_containers() -> None:
    containers = [ContainerEnd(name="app", exit_code=3), ContainerEnd(name="router", exit_code=143)]
    ending = TaskEnding(outcome="exited", reason="", containers=containers)
    retry = RetryStrategy(attempts=2, evaluate_on_exit=[ExitRule.model_validate({"onExitCode": 143, "action": "EXIT"})])
    told = [
        decide_retry(ending, 1, retry, RetryBackoff(), can_fall_back=False, chance=0.5, essential=essential).again
        for essential in (ESSENTIAL, ["app", "router"], [])
    ]
    assert told == [True, False, False]


@pytest.mark.parametrize("outcome", ["succeeded", "timed-out", "stopped"])
def test_some_ends_are_final(outcome: str) -> None:
    assert not again(ending_of(outcome), rules=[RETRY_ANY])


outcomes = st.sampled_from([*TASK_ERRORS, "succeeded"])
anything = st.builds(
    ending_of,
    outcomes,
    st.none() | st.integers(0, 255),
    st.sampled_from(["", OUT_OF_MEMORY]),
    st.sampled_from(["", SPOT]),
)
rule_lists = st.lists(st.sampled_from([RETRY_ANY, EXIT_ANY, {"onStatusReason": "*", "action": "EXIT"}]), max_size=5)


@given(anything, st.integers(1, 12), st.integers(1, 10), rule_lists, st.booleans())
def test_no_task_has_more_attempts_than_it_was_given(
    ending: TaskEnding,
    attempt: int,
    attempts: int,
    rules: Any,
    can_fall_back: bool,
) -> None:
    if attempt >= attempts and ending.outcome != "throttled":
        assert not again(ending, attempt, attempts, rules, can_fall_back=can_fall_back)


@given(st.integers(1, 10), rule_lists, st.integers(0, THROTTLES - 1))
def test_a_throttled_start_is_tried_again_whatever_the_attempts_and_the_rules_and_does_not_count(
    attempt: int, rules: Any, throttles: int
) -> None:
    decision = decide(ending_of("throttled", None), attempt, 1, rules, throttles=throttles)
    assert (decision.again, decision.counts, decision.on_demand) == (True, False, False)


def test_the_patience_with_throttling_grows_to_half_an_hour_and_ends() -> None:
    waits = [decide(ending_of("throttled", None), throttles=n, chance=1).wait_seconds for n in range(THROTTLES)]
    assert waits[:6] == [5, 10, 20, 40, 80, 120]
    assert 1800 <= sum(waits) < 2400
    last = decide(ending_of("throttled", None), throttles=THROTTLES)
    assert (last.again, last.why) == (False, "ECS throttled its start 20 times before")


@given(st.integers(1, 9), rule_lists)
def test_missing_capacity_is_waited_for_within_the_attempts_whatever_the_rules_say(attempt: int, rules: Any) -> None:
    assert again(ending_of("no-capacity", None), attempt, 10, rules)


@given(anything, rule_lists)
def test_only_lost_or_missing_capacity_or_quota_falls_back_and_always(ending: TaskEnding, rules: Any) -> None:
    retry = RetryStrategy(attempts=2, evaluate_on_exit=[ExitRule.model_validate(rule) for rule in rules])
    decision = decide_retry(ending, 1, retry, RetryBackoff(), can_fall_back=True, chance=0)
    assert decision.on_demand is (ending.outcome in ("interrupted", "no-capacity", "over-quota"))
    assert decision.again or not decision.on_demand


@given(
    st.integers(1, 10),
    st.integers(1, 3600),
    st.floats(1, 10),
    st.integers(1, 86_400),
    st.floats(0, 1),
)
def test_the_wait_is_at_random_up_to_a_bound_that_grows_and_is_limited(
    attempt: int, initial: int, rate: float, most: int, chance: float
) -> None:
    backoff = RetryBackoff(initial_seconds=initial, rate=rate, max_seconds=most)
    wait = retry_wait_seconds(attempt, backoff, chance)
    assert 0 <= wait <= most
    assert wait <= retry_wait_seconds(attempt + 1, backoff, chance)
    assert retry_wait_seconds(attempt, backoff, 0) == 0
    assert retry_wait_seconds(1, backoff, 1) == min(initial, most)
