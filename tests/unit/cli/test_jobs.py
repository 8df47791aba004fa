"""ECS tasks and redrives by the command: requests, starts, progress, logs and ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner

from headgate.aws.arns import execution_arn, job_execution_name
from headgate.aws.dynamodb import to_item
from headgate_cli.failures import Failure
from headgate_cli.jobs import redrive_commands, task_commands
from headgate_cli.jobs.endings import ending_of
from headgate_cli.jobs.following import StillRunning, follow
from headgate_cli.jobs.redrive_progress import progress_of
from headgate_cli.jobs.requests import REDRIVE, TASK, checked, execution_of, submit
from headgate_cli.jobs.task_logs import TaskLogs
from headgate_cli.main import main
from tests.unit.cli.fake_stack import MACHINES, FakeClient, FakeStack, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

TASK_RUN = execution_arn(MACHINES["EcsTaskMachineArn"], job_execution_name("task", "nightly"))
DETAIL = {"taskDefinition": "migrate:42", "id": "nightly"}


def asked(**options: Any) -> dict[str, Any]:
    """The options of ``task run`` as click gives them, those that matter changed."""
    none = dict.fromkeys(
        (
            "file",
            "request_id",
            "cluster",
            "count",
            "launch_type",
            "container",
            "cpu",
            "memory",
            "attempts",
            "time_limit",
        )
    )
    return {**none, "spot": False, "subnets": (), "groups": (), "public_ip": False, "env": {}, **options}


def redrive_asked(**options: Any) -> dict[str, Any]:
    none = dict.fromkeys(
        ("file", "request_id", "source", "to_queue", "to_function", "body_contains", "reason_contains", "per_second",
         "at_most", "sample", "stop_if_returned")
    )  # fmt: skip
    return {**none, "attribute": {}, "never_stop": False, **options}


def containers(*names: str) -> FakeClient:
    definition = {"containerDefinitions": [{"name": name} for name in names]}
    return FakeClient(describe_task_definition=lambda **_: {"taskDefinition": definition})


def machines(*descriptions: dict[str, Any] | Exception | None, histories: Any = ()) -> FakeClient:
    """Step Functions that says one of these at each look; None where it does not know the execution."""
    left = list(descriptions)

    def describe(**asked: str) -> dict[str, Any]:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise refusal("ExecutionDoesNotExist")
        return {**asked, "input": "{}", **found}

    return FakeClient(describe_execution=describe, get_execution_history=lambda **_: {"events": list(histories)})


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


# Requests


def test_options_make_a_request_of_a_task() -> None:
    options = asked(
        request_id="nightly", cluster="jobs", launch_type="FARGATE", subnets=("subnet-1",), groups=("sg-1",),
        public_ip=True, env={"A": "1"}, cpu=256, memory=512, attempts=3, time_limit=1200.0, count=2,
    )  # fmt: skip
    detail = task_commands.request_of(
        FakeStack(ecs=containers("app")), "migrate:42", ("migrate", "--to", "42"), options
    )

    assert detail == {
        "id": "nightly",
        "taskDefinition": "migrate:42",
        "cluster": "jobs",
        "count": 2,
        "launchType": "FARGATE",
        "timeoutSeconds": 1200,
        "environment": {"A": "1"},
        "retry": {"attempts": 3},
        "networkConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": True},
        "overrides": {"cpu": 256, "memory": 512, "containers": {"app": {"command": ["migrate", "--to", "42"]}}},
    }
    assert checked(TASK, detail) == detail


def test_spot_means_two_attempts_and_then_on_demand() -> None:
    detail = task_commands.request_of(FakeStack(), "migrate", (), asked(spot=True))

    assert detail["capacityProviderStrategy"] == [{"provider": "FARGATE_SPOT", "weight": 1}]
    assert (detail["fallback"], detail["retry"]) == ("onDemand", {"attempts": 2})
    assert checked(TASK, detail)["id"].startswith("task-")


def test_a_command_needs_to_know_its_container() -> None:
    with pytest.raises(Exception, match=r"2 containers \(app, sidecar\); give --container"):
        task_commands.request_of(FakeStack(ecs=containers("app", "sidecar")), "migrate", ("x",), asked())
    detail = task_commands.request_of(FakeStack(), "migrate", ("x",), asked(container="app"))
    assert detail["overrides"] == {"containers": {"app": {"command": ["x"]}}}


@pytest.mark.parametrize(
    "written", ["taskDefinition: migrate\ncount: 2\n", '{"taskDefinition": "migrate", "count": 2}']
)
def test_options_win_over_the_file(written: str, tmp_path: Path) -> None:
    file = tmp_path / "request"
    file.write_text(written)
    detail = task_commands.request_of(FakeStack(), None, (), asked(file=str(file), count=5))

    assert detail == {"taskDefinition": "migrate", "count": 5}


def test_a_file_may_hold_the_whole_event(tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"detail-type": "Task Requested", "detail": DETAIL}))
    assert task_commands.request_of(FakeStack(), None, (), asked(file=str(file))) == DETAIL

    file.write_text(json.dumps({"detail-type": "Redrive Requested", "detail": {}}))
    with pytest.raises(Failure, match="is a Redrive Requested event; give a Task Requested event, or its detail"):
        task_commands.request_of(FakeStack(), None, (), asked(file=str(file)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("a: [", "is neither JSON nor YAML"),
        ("- a", "must be an object"),
        (None, "cannot be read"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_request_is_refused_in_one_line(text: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "request"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = run("task", "run", "--file", str(file))

    assert result.exit_code == 2
    [line] = result.output.strip().splitlines()
    assert said in line
    assert line.startswith("Error: --file: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task", "run"], "give a task definition, or --file"),
        (["task", "run", "migrate", "--env", "A"], "must be NAME=VALUE (given A)"),
        (["task", "run", "migrate", "--timeout", "soon"], "must be a duration with its unit"),
        (["task", "run", "migrate", "--spot", "--launch-type", "FARGATE"], "--spot cannot be used with --launch-type"),
        (["task", "run", "migrate", "--container", "app"], "give the command after --"),
        (["task", "run", "not a definition"], "taskDefinition: must be a family"),
        (["task", "walk"], "there is no command headgate task walk; headgate task --help lists all commands"),
        (["redrive", "run"], "give --from with the queue"),
        (["redrive", "run", "--from", "a b"], "from.queue: must be a queue's name, URL or ARN"),
        (["redrive", "run", "--from", "q", "--to-queue", "a", "--to-function", "f"], "--to-queue cannot be used with"),
        (["redrive", "run", "--from", "q", "--never-stop", "--stop-if-returned", "5"], "--never-stop cannot be used"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_asked_of_aws(arguments: list[str], said: str) -> None:
    result = run(*arguments, "--profile", "there-is-no-such-profile")

    assert result.exit_code == 2
    assert said in result.output


def test_options_make_a_request_of_a_redrive() -> None:
    detail = redrive_commands.request_of(
        redrive_asked(source="orders-dead", reason_contains="timed out", attribute={"shop": "7"}, per_second=20,
                      at_most=5, stop_if_returned=10.0)
    )  # fmt: skip
    assert detail == {
        "from": {"queue": "orders-dead"},
        "filter": {"attributes": {"shop": "7"}, "reason": "timed out"},
        "perSecond": 20,
        "atMost": 5,
        "stopIfReturned": {"percent": 10.0},
    }
    assert checked(REDRIVE, detail)["id"].startswith("redrive-")
    assert redrive_commands.request_of(redrive_asked(source="q", never_stop=True))["stopIfReturned"] is False


# Starts


def bus() -> FakeClient:
    return FakeClient(put_events=lambda **_: {"Entries": [{"EventId": "event-1"}]})


def records(*items: dict[str, Any] | None) -> FakeClient:
    left = list(items)

    def get_item(**_: Any) -> dict[str, Any]:
        item = left.pop(0) if len(left) > 1 else left[0]
        return {"Item": to_item(item)} if item else {}

    return FakeClient(get_item=get_item)


def test_a_request_is_sent_and_found_as_an_execution() -> None:
    stack = FakeStack(stepfunctions=machines(None, None, {"status": "RUNNING"}), events=bus(), dynamodb=records(None))

    assert submit(stack, TASK, DETAIL, sleep=lambda _: None) == TASK_RUN
    [(_, sent)] = stack.fakes["events"].calls
    [entry] = sent["Entries"]
    assert (entry["EventBusName"], entry["DetailType"]) == ("headgate", "Task Requested")
    assert json.loads(entry["Detail"]) == DETAIL


def test_a_refused_request_says_headgates_reason_and_has_its_own_exit_code() -> None:
    refused = {"detail": {"reason": "id: nightly is already in use"}}
    stack = FakeStack(stepfunctions=machines(None), events=bus(), dynamodb=records(None, refused))

    with pytest.raises(Failure, match="id: nightly is already in use") as error:
        submit(stack, TASK, DETAIL, sleep=lambda _: None)
    assert error.value.exit_code == 4
    assert stack.fakes["dynamodb"].calls[0][1]["Key"] == to_item({"pk": "TASK#nightly", "sk": "EVENT#refused-event-1"})


def test_a_request_that_nobody_takes_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate_cli.jobs.requests.TAKEN_WITHIN_SECONDS", 0.01)
    stack = FakeStack(stepfunctions=machines(None), events=bus(), dynamodb=records(None))

    with pytest.raises(Failure, match=r"nobody has taken the request .* headgate doctor") as error:
        submit(stack, TASK, DETAIL)
    assert error.value.exit_code == 2


def test_a_known_request_is_followed_and_not_sent_again() -> None:
    stack = FakeStack(stepfunctions=machines({"status": "RUNNING", "input": json.dumps(DETAIL)}), events=bus())
    assert submit(stack, TASK, DETAIL) == TASK_RUN
    assert not stack.fakes["events"].calls

    with pytest.raises(Failure, match="nightly is the id of an earlier request with other content"):
        submit(stack, TASK, {**DETAIL, "count": 2})


def test_an_id_in_use_has_the_exit_code_of_a_refusal() -> None:
    stack = FakeStack(stepfunctions=machines({"status": "RUNNING", "input": json.dumps(DETAIL)}), events=bus())
    with pytest.raises(Failure) as error:
        submit(stack, TASK, {**DETAIL, "count": 2})
    assert error.value.exit_code == 4


@pytest.mark.parametrize(("lost", "code"), [(True, 2), (False, 130)])
def test_a_job_that_may_have_been_sent_is_named(
    lost: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def put_events(**_: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://events") if lost else KeyboardInterrupt

    monkeypatch.setattr("headgate_cli.acting.LOST_SECONDS", 0.01)
    stack = FakeStack(stepfunctions=machines(None), events=FakeClient(put_events=put_events))
    with pytest.raises(Failure if lost else click.exceptions.Exit) as error:
        submit(stack, TASK, DETAIL)
    raised: Any = error.value
    assert raised.exit_code == code
    said = str(error.value) if lost else capsys.readouterr().err
    assert "may have been sent" in said
    assert "headgate task show nightly" in said


def test_after_a_lost_answer_a_job_is_found() -> None:
    def put_events(**_: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://events")

    stack = FakeStack(
        stepfunctions=machines(None, None, {"status": "RUNNING"}), events=FakeClient(put_events=put_events)
    )
    assert submit(stack, TASK, DETAIL, sleep=lambda _: None) == TASK_RUN


def test_an_event_that_the_bus_does_not_take_is_told() -> None:
    full = FakeClient(put_events=lambda **_: {"Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "busy"}]})
    with pytest.raises(Failure, match="the bus headgate did not accept the event: InternalFailure: busy"):
        submit(FakeStack(stepfunctions=machines(None), events=full), TASK, DETAIL)


@pytest.mark.parametrize("name", ["nightly", TASK_RUN])
def test_a_job_is_found_by_its_id_and_by_its_execution(name: str) -> None:
    found = execution_of(FakeStack(stepfunctions=machines({"status": "RUNNING"})), TASK, name)
    assert found["executionArn"] == TASK_RUN


def test_a_job_is_found_by_the_name_of_its_execution() -> None:
    found = execution_of(FakeStack(stepfunctions=machines(None, {"status": "RUNNING"})), TASK, "by-hand")
    assert found["executionArn"].endswith(":execution:headgate-ecs-task:by-hand")


def test_a_job_that_does_not_exist_says_how_to_find_one() -> None:
    with pytest.raises(Failure, match="there is no redrive lost in stack headgate; headgate redrive list shows"):
        execution_of(FakeStack(stepfunctions=machines(None)), REDRIVE, "lost")


# Ends


@pytest.mark.parametrize(
    ("execution", "status", "outcome", "code"),
    [
        (
            {"status": "SUCCEEDED", "output": '{"outcome": "succeeded", "reason": "all well"}'},
            "succeeded",
            "succeeded",
            0,
        ),
        ({"status": "SUCCEEDED", "output": '{"outcome": "dry-run"}'}, "succeeded", "dry-run", 0),
        ({"status": "FAILED", "error": "TaskExitedNonZero", "cause": '{"outcome": "exited"}'}, "failed", "exited", 3),
        ({"status": "FAILED", "error": "TaskStopped", "cause": '{"outcome": "stopped"}'}, "stopped", "stopped", 5),
        ({"status": "FAILED", "error": "RequestRefused", "cause": '{"outcome": "refused"}'}, "refused", "refused", 4),
        ({"status": "FAILED", "error": "RedriveReturned", "cause": '{"outcome": "returned"}'}, "failed", "returned", 3),
        ({"status": "FAILED", "error": "States.Runtime", "cause": "cut off {"}, "failed", "failed", 3),
        ({"status": "ABORTED", "error": "Stopped", "cause": "stopped by me"}, "stopped", "stopped", 5),
        ({"status": "TIMED_OUT"}, "failed", "timed-out", 3),
    ],
)
def test_an_end_has_an_exit_code(execution: dict[str, Any], status: str, outcome: str, code: int) -> None:
    ending = ending_of(execution)
    assert ending is not None
    assert (ending.status, ending.outcome, ending.exit_code) == (status, outcome, code)


def test_a_running_execution_has_no_end() -> None:
    assert ending_of({"status": "RUNNING"}) is None
    assert ending_of({"status": "PENDING_REDRIVE"}) is None


def test_following_goes_on_through_a_lost_connection(capsys: pytest.CaptureFixture[str]) -> None:
    lost = EndpointConnectionError(endpoint_url="https://states")
    stack = FakeStack(
        stepfunctions=machines({"status": "RUNNING"}, lost, refusal("ThrottlingException"), {"status": "SUCCEEDED"})
    )
    looks = []
    ending, _ = follow(
        stack, TASK_RUN, timeout_seconds=None, on_look=lambda: looks.append(1), told="", sleep=lambda _: None
    )

    assert (ending.status, len(looks)) == ("succeeded", 2)
    assert capsys.readouterr().err.splitlines() == [
        "AWS cannot be reached or throttles; trying again ...",
        "AWS answers again.",
    ]


def test_following_ends_with_an_answer_that_does_not_pass() -> None:
    stack = FakeStack(stepfunctions=machines(refusal("AccessDeniedException")))
    with pytest.raises(Exception, match="AccessDenied"):
        follow(stack, TASK_RUN, timeout_seconds=None, told="", sleep=lambda _: None)


def test_the_time_to_follow_may_be_over() -> None:
    with pytest.raises(StillRunning, match=r"It still runs after 0 s, and goes on\. Look later\.") as error:
        follow(
            FakeStack(stepfunctions=machines({"status": "RUNNING"})), TASK_RUN, timeout_seconds=0, told="Look later."
        )
    assert error.value.exit_code == 6


def test_an_interruption_says_that_the_job_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(
            FakeStack(stepfunctions=machines({"status": "RUNNING"})), TASK_RUN, timeout_seconds=None,
            told="Stop it so.", sleep=interrupt,
        )  # fmt: skip
    assert "It goes on. Stop it so." in capsys.readouterr().err


# Logs and progress


def result_of(payload: dict[str, Any]) -> dict[str, Any]:
    return {"taskSucceededEventDetails": {"output": json.dumps({"Payload": payload})}}


TASKS = [f"arn:aws:ecs:eu-central-1:123456789012:task/jobs/{n:032x}" for n in (1, 2)]


class Pages:
    def __init__(self, arns: list[str]) -> None:
        self._arns = arns

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return [{"taskArns": self._arns}]


def ecs(arns: list[str], options: dict[str, str] | None = None) -> FakeClient:
    log = {"awslogs-group": "/ecs/jobs", "awslogs-stream-prefix": "ecs", "awslogs-region": "eu-central-1"}
    container = {"name": "app", "logConfiguration": {"logDriver": "awslogs", "options": options or log}}
    tags = [{"key": "headgate:execution", "value": TASK_RUN}]
    return FakeClient(
        describe_task_definition=lambda **_: {"taskDefinition": {"containerDefinitions": [container]}},
        describe_tasks=lambda **_: {"tasks": [{"taskArn": arn, "tags": tags, "createdAt": arn} for arn in arns]},
    )


class Ecs:
    """ECS whose paginator takes its operation by position, as boto3's does."""

    def __init__(self, client: FakeClient, arns: list[str]) -> None:
        self._client, self._arns = client, arns

    def get_paginator(self, operation: str) -> Pages:
        assert operation == "list_tasks"
        return Pages(self._arns)

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._client, operation)


def logs_of(pages: dict[str | None, tuple[list[str], str]]) -> FakeClient:
    def get_log_events(**asked: Any) -> dict[str, Any]:
        lines, token = pages[asked.get("nextToken")]
        return {"events": [{"message": line} for line in lines], "nextForwardToken": token}

    return FakeClient(get_log_events=get_log_events)


def task_logs(arns: list[str], logs: FakeClient, options: dict[str, str] | None = None) -> TaskLogs:
    history = [
        result_of({"plan": {"taskDefinition": "arn:aws:ecs:eu-central-1:123456789012:task-definition/migrate:42"}})
    ]
    clients: dict[str, Any] = {"ecs": Ecs(ecs(arns, options), arns), "logs": logs}
    return TaskLogs(FakeStack(stepfunctions=machines(None, histories=history), **clients), TASK_RUN, "jobs")


def test_each_look_yields_the_new_lines_of_a_log_and_no_control_character() -> None:
    pages: dict[str | None, tuple[list[str], str]] = {None: (["one\n", "\x1b[31mtwo"], "f/1"), "f/1": ([], "f/1")}
    logs = task_logs(TASKS[:1], logs_of(pages))

    assert [(line.source, line.text) for line in logs.new_lines()] == [("app", "one"), ("app", "?[31mtwo")]
    pages["f/1"] = (["three"], "f/2")
    pages["f/2"] = ([], "f/2")
    assert [line.text for line in logs.new_lines()] == ["three"]
    assert list(logs.new_lines()) == []


def test_lines_of_several_tasks_name_their_task() -> None:
    logs = task_logs(TASKS, logs_of({None: (["one"], "f/1"), "f/1": ([], "f/1")}))
    assert [line.source for line in logs.new_lines()] == ["app 000001", "app 000002"]


def test_a_log_that_is_not_written_yet_has_no_lines() -> None:
    def missing(**_: Any) -> Any:
        raise refusal("ResourceNotFoundException")

    assert list(task_logs(TASKS[:1], FakeClient(get_log_events=missing)).new_lines()) == []


def test_a_log_that_may_not_be_read_is_told_once() -> None:
    def denied(**_: Any) -> Any:
        raise refusal("AccessDeniedException")

    logs = task_logs(TASKS[:1], FakeClient(get_log_events=denied))
    [line] = logs.new_lines()
    assert "the log group /ecs/jobs cannot be read" in line.text
    assert list(logs.new_lines()) == []


def test_a_container_without_a_known_stream_has_no_lines() -> None:
    assert list(task_logs(TASKS[:1], FakeClient(), {"awslogs-group": "/ecs/jobs"}).new_lines()) == []


def test_the_progress_of_a_redrive_is_that_of_its_last_slice() -> None:
    history = [
        result_of({"progress": {"moved": 40, "returned": 2, "reason": "busy"}}),
        result_of({"plan": {"backlog": 100, "atMost": 60}}),
    ]
    progress = progress_of(FakeStack(stepfunctions=machines(None, histories=history)), TASK_RUN)
    assert (progress.total, progress.moved, progress.returned, progress.reason) == (60, 40, 2, "busy")

    before = progress_of(FakeStack(stepfunctions=machines(None)), TASK_RUN)
    assert (before.total, before.moved) == (0, 0)


def test_a_dry_run_says_what_it_has_found() -> None:
    result = {
        "queue": "arn:aws:sqs:eu-central-1:123456789012:orders-dead", "way": "move-task", "why": "SQS itself moves it",
        "report": {
            "visible": 1200, "inFlight": 3, "delayed": 0, "oldestSeconds": 7200, "reasons": {"timed out": 9, "": 1},
            "warnings": ["it has a policy"], "consumers": [{"function": "arn:f", "source": "arn:s"}],
            "sample": [{"messageId": "m-1", "body": "{}", "reason": ""}],
        },
    }  # fmt: skip
    assert redrive_commands.report_lines(result) == [
        "orders-dead: about 1,200 messages, 3 in flight",
        "  oldest of those looked at: 2 h",
        "  9 of 10 looked at: timed out",
        "  1 of 10 looked at: no reason given",
        "  way: move-task, because SQS itself moves it",
        "  to arn:f, from arn:s",
        "  warning: it has a policy",
        "  message m-1: no reason given",
        "    {}",
    ]


def test_exit_codes_name_their_task_where_there_are_several() -> None:
    two = {"tasks": [{"number": 1, "exitCodes": {"app": 0}}, {"number": 2, "exitCodes": {"app": 1}}]}
    assert task_commands.exit_codes(two) == [("task 1, app", 0), ("task 2, app", 1)]
    assert task_commands.exit_codes({"tasks": two["tasks"][:1]}) == [("app", 0)]


def test_a_redrive_asks_after_its_dry_run_and_moves_nothing_without_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {
        "outcome": "dry-run",
        "queue": "arn:aws:sqs:eu-central-1:123456789012:orders-dead",
        "report": {"visible": 3},
    }
    states = machines(None, {"status": "SUCCEEDED", "output": json.dumps(report)})
    stack = FakeStack(stepfunctions=states, events=bus(), dynamodb=records(None))
    monkeypatch.setattr("headgate_cli.stack.Stack", lambda *_: stack)
    monkeypatch.setattr("headgate_cli.confirmation.can_ask", lambda: True)
    monkeypatch.setattr("headgate_cli.jobs.redrive_commands.can_ask", lambda: True)
    result = CliRunner().invoke(main, ["redrive", "run", "--from", "orders-dead"], input="n\n")

    assert result.exit_code == 0, result.output
    assert "orders-dead: about 3 messages" in result.output
    assert "Nothing was changed." in result.output
    [(_, sent)] = stack.fakes["events"].calls
    assert json.loads(sent["Entries"][0]["Detail"])["dryRun"] is True


def redriven(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any], *words: str) -> tuple[Result, list[Any]]:
    """Run a redrive whose executions end with a result. Return also the requests that were sent."""
    ended = {"status": "SUCCEEDED", "output": json.dumps(result)}
    described: list[str] = []

    def describe_execution(executionArn: str) -> dict[str, Any]:  # noqa: N803
        described.append(executionArn)
        if described.count(executionArn) == 1:
            raise refusal("ExecutionDoesNotExist")
        return ended

    states = FakeClient(describe_execution=describe_execution, get_execution_history=lambda **_: {"events": []})
    stack = FakeStack(stepfunctions=states, events=bus(), dynamodb=records(None))
    monkeypatch.setattr("headgate_cli.stack.Stack", lambda *_: stack)
    done = CliRunner(mix_stderr=False).invoke(main, ["redrive", "run", "--from", "orders-dead", *words])
    sent = [json.loads(call["Entries"][0]["Detail"]) for _, call in stack.fakes["events"].calls]
    return done, sent


DRY: dict[str, Any] = {
    "outcome": "dry-run",
    "queue": "arn:aws:sqs:eu-central-1:1:orders-dead",
    "report": {"visible": 3},
}


def test_a_redrive_makes_a_dry_run_even_if_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    done, sent = redriven(monkeypatch, DRY, "--yes", "--no-wait", "--id", "r-1")
    assert done.exit_code == 0, done.output
    assert "orders-dead: about 3 messages" in done.stdout
    assert [each["dryRun"] for each in sent] == [True, False]
    assert sent[1]["id"] == "r-1"
    assert sent[0]["id"].startswith("r-1-dry-run-")


def test_a_dry_run_alone_has_the_id_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    done, sent = redriven(monkeypatch, DRY, "--dry-run", "--id", "dry-1")
    assert done.exit_code == 0, done.output
    assert [(each["id"], each["dryRun"]) for each in sent] == [("dry-1", True)]
    assert "Dry run dry-1" in done.stderr


@pytest.mark.parametrize(
    ("remaining", "said"), [(0, "nothing is left to do"), (10, "all that was chosen is done; the others stay")]
)
def test_a_redrive_of_chosen_messages_says_that_others_stay(
    remaining: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {**DRY, "outcome": "succeeded", "moved": 3, "remaining": remaining}
    done, _ = redriven(monkeypatch, result, "--yes", "--reason-contains", "x")
    assert f"succeeded: {said}" in done.stdout


def test_an_end_without_a_reason_has_no_dangling_colon() -> None:
    ended = ending_of({"status": "SUCCEEDED", "output": "{}"})
    assert ended
    assert ended.said == "succeeded"


@pytest.mark.parametrize("kind", ["task", "redrive"])
def test_a_job_that_has_ended_is_not_stopped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = FakeStack(stepfunctions=machines({"status": "ABORTED", "cause": "stopped by me"}))
    monkeypatch.setattr("headgate_cli.stack.Stack", lambda *_: stack)
    result = CliRunner().invoke(main, [kind, "stop", "nightly", "--yes"], standalone_mode=False)

    assert (result.return_value, "has ended already: stopped: stopped by me" in result.output) == (1, True)


@pytest.mark.parametrize("kind", ["task", "redrive"])
def test_a_job_is_not_stopped_without_a_yes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = FakeStack(stepfunctions=machines({"status": "RUNNING"}))
    monkeypatch.setattr("headgate_cli.stack.Stack", lambda *_: stack)
    result = CliRunner().invoke(main, [kind, "stop", "nightly"])

    assert (result.exit_code, "give --yes" in result.output) == (2, True)
    assert [operation for operation, _ in stack.fakes["stepfunctions"].calls] == ["describe_execution"]


@pytest.mark.parametrize("kind", ["task", "redrive"])
@pytest.mark.parametrize("looks", [1, 2])
def test_a_job_that_ends_while_it_is_to_be_stopped_is_not_called_stopped(
    kind: str, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After one look the question is open; after two, the job ends right before it is stopped.
    running, ended = {"status": "RUNNING"}, {"status": "SUCCEEDED", "output": '{"reason": "all is done"}'}
    step_functions = machines(*[running] * looks, ended)
    step_functions._answers["stop_execution"] = lambda **_: {}
    caller = FakeClient(get_caller_identity=lambda: {"Arn": "arn:aws:iam::123456789012:user/kim"})
    stack = FakeStack(stepfunctions=step_functions, sts=caller)
    monkeypatch.setattr("headgate_cli.stack.Stack", lambda *_: stack)
    result = CliRunner().invoke(main, [kind, "stop", "nightly", "--yes"], standalone_mode=False)

    said = f"{kind.capitalize()} nightly has ended already: succeeded: all is done"
    assert (result.return_value, said in result.output) == (1, True)
    assert "is stopped" not in result.output
    stops = [operation for operation, _ in step_functions.calls if operation == "stop_execution"]
    assert len(stops) == looks - 1


@pytest.mark.parametrize("command", [["task", "list"], ["redrive", "list"], ["list"]])
@pytest.mark.parametrize("token", ["20#x", "garbage", "2026-11-30T12:00:00.000Z"])
def test_a_token_of_no_page_is_refused(command: list[str], token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate_cli.stack.Stack", lambda *_: FakeStack(dynamodb=FakeClient()))
    done = CliRunner(mix_stderr=False).invoke(main, [*command, "--after", token])
    assert (done.exit_code, "--after: must be the token that an earlier page ended with" in done.stderr) == (2, True)
