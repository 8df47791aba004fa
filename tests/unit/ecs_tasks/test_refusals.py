"""Every way in which ECS says throttled, over quota or no capacity is known, and nothing else is taken for it."""

from __future__ import annotations

import json

import pytest

from headgate.ecs_tasks.outcome import TASK_ERRORS, classify
from headgate.ecs_tasks.refusals import REFUSALS, refusal_in
from tests.fakes.ecs import CAPACITY, NOT_STARTED, PULL, cause, container, detail

ESSENTIAL = ["app"]
SUBNET = "Error retrieving subnet information for [subnet-0a1b2c3d]"
GROUP = "Error retrieving security group information for [sg-0a1b2c3d]"

EXAMPLES = {
    "Rate exceeded": (
        "ECS.InvalidParameterException",
        f"{SUBNET}: Rate exceeded (Service: AmazonECS; Status Code: 400; Error Code: InvalidParameterException)",
    ),
    "ThrottlingException": (
        "ECS.AmazonECSException",
        "Too many calls. (Service: AmazonECS; Status Code: 400; Error Code: ThrottlingException; Request ID: 1)",
    ),
    "ErrorCode: Throttling": (
        "ECS.InvalidParameterException",
        f"{SUBNET}: Too many calls (ErrorCode: Throttling)",
    ),
    "RequestLimitExceeded": (
        "ECS.InvalidParameterException",
        f"{GROUP}: Too many calls. (ErrorCode: RequestLimitExceeded)",
    ),
    "Request limit exceeded": (
        "ECS.InvalidParameterException",
        f"{GROUP}: Request limit exceeded. Account 123456789012 has been throttled",
    ),
    "Rate limit exceeded": (
        "ECS.AmazonECSException",
        "Rate limit exceeded while preparing network interface to be attached to instance",
    ),
    "Service Unavailable. Please try again later": (
        "ECS.ServerException",
        "Service Unavailable. Please try again later. (Service: AmazonECS; Status Code: 500; Request ID: 1)",
    ),
    "reached the limit on the number of": (
        "ECS.ClientException",
        # AWS's own documentation spells it with this apostrophe, and with the other.
        "You\N{RIGHT SINGLE QUOTATION MARK}ve reached the limit on the number of vCPUs you can run concurrently",
    ),
    "configuration is above your limit": (
        "ECS.ClientException",
        "The requested MEMORY configuration is above your limit",
    ),
    "Capacity is unavailable": ("ECS.AmazonECSException", CAPACITY),
    "provisioning capacity limit": (
        "ECS.ClientException",
        "Tasks provisioning capacity limit exceeded. (Service: AmazonECS; Status Code: 400; Request ID: 1)",
    ),
    "EMPTY CAPACITY PROVIDER": ("AmazonECS.Unknown", "EMPTY CAPACITY PROVIDER"),
    "NO ACTIVE INSTANCES": ("AmazonECS.Unknown", "NO ACTIVE INSTANCES"),
    "No Container Instances were found": (
        "ECS.InvalidParameterException",
        "No Container Instances were found in your cluster.",
    ),
    "unable to place a task": ("AmazonECS.Unknown", "ECS was unable to place a task because nothing fits"),
    "insufficient capacity": ("ECS.ServerException", "Insufficient capacity."),
    "RESOURCE:": ("AmazonECS.Unknown", "RESOURCE:ENI"),
    "AGENT": ("AmazonECS.Unknown", "AGENT"),
    "CAPACITY": ("AmazonECS.Unknown", "CAPACITY"),
}
"""For each row a text that no other row knows, with the error as which RunTask's answer arrives."""

rows = pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.text)


@rows
def test_a_row_knows_its_text_and_no_other_row_does(row: tuple[str, str, str, bool]) -> None:
    meaning, text, source, _ = row
    _, said = EXAMPLES[text]
    assert refusal_in(said) == meaning
    assert source.startswith("https://")
    others = [each for each in REFUSALS if each.text != text]
    reason = said.removeprefix("TaskFailedToStart: ")
    assert [
        each.text
        for each in others
        if (reason.startswith(each.text) if each.code else each.text.lower() in reason.lower())
    ] == []


def test_every_meaning_is_an_outcome_with_an_error() -> None:
    assert {each.meaning for each in REFUSALS} <= set(TASK_ERRORS)


@rows
def test_it_is_known_as_an_error_of_run_task(row: tuple[str, str, str, bool]) -> None:
    meaning, text, _, _ = row
    error, said = EXAMPLES[text]
    ending = classify(error, said, ESSENTIAL)
    assert (ending.outcome, ending.reason) == (meaning, said)


@rows
def test_it_is_known_as_a_failure_of_run_task(row: tuple[str, str, str, bool]) -> None:
    meaning, text, _, _ = row
    _, said = EXAMPLES[text]
    answer = json.dumps({"Failures": [{"Reason": said}], "Tasks": []})
    assert classify("AmazonECS.Unknown", answer, ESSENTIAL).outcome == meaning


@rows
@pytest.mark.parametrize("before", ["", "TaskFailedToStart: "])
@pytest.mark.parametrize("code", [NOT_STARTED, ""])
def test_it_is_known_as_the_reason_of_a_task_that_did_not_start(
    row: tuple[str, str, str, bool], before: str, code: str
) -> None:
    meaning, text, _, _ = row
    _, said = EXAMPLES[text]
    task = detail(container(code=None), code=code, reason=before + said)
    assert classify("States.TaskFailed", cause(task), ESSENTIAL).outcome == meaning


def test_throttling_is_known_by_the_errors_name_alone() -> None:
    assert classify("ECS.ThrottlingException", "", ESSENTIAL).outcome == "throttled"


def test_a_pull_or_a_secret_that_was_throttled_is_throttled_unless_a_container_ran() -> None:
    reason = "CannotPullContainerError: ThrottlingException: Rate exceeded"
    never = detail(container(code=None, reason=reason), code=NOT_STARTED, reason="Task failed to start")
    assert classify("States.TaskFailed", cause(never), ESSENTIAL).outcome == "throttled"
    # GIVEN an essential container that ran already, THEN this was an attempt
    partly = detail(container("init", 0), container(code=None, reason=reason), code=NOT_STARTED, reason=reason)
    assert classify("States.TaskFailed", cause(partly), ["init", "app"]).outcome == "could-not-start"


def test_a_throttled_start_is_never_read_out_of_half_a_cause() -> None:
    reason = "CannotPullContainerError: ThrottlingException: Rate exceeded"
    whole = cause(detail(container(code=None, reason=reason), container("router", 0), code=NOT_STARTED, reason=reason))
    told = {classify("States.TaskFailed", whole[:length], []).outcome for length in range(len(whole))}
    assert "throttled" not in told
    assert classify("States.TaskFailed", "Rate exceeded", []).outcome == "unknown"


@pytest.mark.parametrize(
    "said",
    [
        "ATTRIBUTE",
        "LOCATION",
        "MISSING",
        "INACTIVE",
        "MemberOf placement constraint unsatisfied.",
        f"{GROUP}: The security group does not exist (ErrorCode: InvalidGroup.NotFound)",
        "ECS was unable to assume the role 'jobs/migrate' that was provided for this task.",
        "TaskDefinition not found.",
        "CannotPullContainerError: toomanyrequests: You have reached your pull rate limit",
        "Container instance i-0a1b2c3d has no AGENT",
        PULL,
    ],
)
def test_what_a_wait_does_not_mend_is_none_of_them(said: str) -> None:
    assert refusal_in(said) is None
    assert classify("ECS.InvalidParameterException", said, ESSENTIAL).outcome == "could-not-start"
    answer = json.dumps({"Failures": [{"Reason": said}], "Tasks": []})
    assert classify("AmazonECS.Unknown", answer, ESSENTIAL).outcome == "could-not-start"


def test_of_several_instances_one_without_room_is_a_lack_of_capacity() -> None:
    answer = json.dumps({"Failures": [{"Reason": "ATTRIBUTE"}, {"Reason": "RESOURCE:CPU"}], "Tasks": []})
    ending = classify("AmazonECS.Unknown", answer, ESSENTIAL)
    assert (ending.outcome, ending.reason) == ("no-capacity", "ATTRIBUTE; RESOURCE:CPU")
