"""ECS tasks and redrives: requested by an event or started directly, each listed once with its state."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest

from headgate.aws.arns import execution_arn, job_execution_name
from headgate.aws.dynamodb import iso_of, to_item
from headgate.history.store import History
from headgate.jobs.kinds import KINDS
from headgate.jobs.requests import JobRequest
from headgate.jobs.store import JobStore
from tests.builders import ACCOUNT, REGION, TABLE, event
from tests.fakes.services import Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.history.jobs import Kind

ARNS: dict[str, str] = {
    "task": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:headgate-ecs-task",
    "redrive": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:headgate-redrive",
}


class Ended(NamedTuple):
    """How an execution ended, or that it runs."""

    status: str = "RUNNING"
    output: Any = None
    error: str | None = None
    cause: str | None = None


RUNNING = Ended()


class Machines(Service):
    """Step Functions: executions by ARN, with their start, input and end."""

    def __init__(self) -> None:
        self.executions: dict[str, tuple[datetime, Any, Ended]] = {}
        self.listed = 0

    def start(self, kind: Kind, name: str, given: Any, end: Ended = RUNNING, *, seconds: float = 0) -> str:
        arn = execution_arn(ARNS[kind], name)
        self.executions[arn] = (datetime.now(UTC) + timedelta(seconds=seconds), given, end)
        return arn

    def DescribeExecution(self, executionArn: str) -> dict[str, Any]:  # noqa: N802, N803
        if executionArn not in self.executions:
            raise Refusal("ExecutionDoesNotExist")
        began, given, end = self.executions[executionArn]
        told = {"output": json.dumps(end.output) if end.output else None, "error": end.error, "cause": end.cause}
        stopped = {} if end.status == "RUNNING" else {"stopDate": began + timedelta(seconds=60)}
        return {
            "executionArn": executionArn,
            "stateMachineArn": ARNS["task"],
            "status": end.status,
            "startDate": began,
            "input": json.dumps(given),
            **stopped,
            **{name: value for name, value in told.items() if value},
        }

    def ListExecutions(self, stateMachineArn: str, maxResults: int, nextToken: str = "0") -> dict[str, Any]:  # noqa: N802, N803
        self.listed += 1
        own = [
            arn for arn in self.executions if arn.startswith(stateMachineArn.replace(":stateMachine:", ":execution:"))
        ]
        newest = sorted(own, key=lambda arn: self.executions[arn][0], reverse=True)
        begin = int(nextToken)
        page = newest[begin : begin + maxResults]
        more = {"nextToken": str(begin + maxResults)} if begin + maxResults < len(newest) else {}
        return {
            "executions": [
                {
                    "executionArn": arn,
                    "stateMachineArn": stateMachineArn,
                    "name": arn.rsplit(":", 1)[-1],
                    "status": self.executions[arn][2].status,
                    "startDate": self.executions[arn][0],
                }
                for arn in page
            ],
            **more,
        }


@pytest.fixture
def machines() -> Iterator[Machines]:
    fake = Machines()
    fake.client = boto3.client("stepfunctions")  # type: ignore[attr-defined]
    detach = fake.attach(fake.client)  # type: ignore[attr-defined]
    yield fake
    detach()


@pytest.fixture
def history(dynamodb: Any, machines: Any) -> History:
    return History(dynamodb, TABLE, machines.client, job_machines=ARNS)


def request_of(kind: Kind, job_id: str) -> JobRequest:
    detail = event(f"{kind}_requested")["detail"] | {"id": job_id}
    return JobRequest(KINDS[f"{kind.title()} Requested"], detail, f"event-of-{job_id}")


def request(
    dynamodb: Any,
    machines: Machines,
    job_id: str,
    end: Ended = RUNNING,
    kind: Kind = "task",
) -> None:
    """Request a job by an event, and start it."""
    asked, store = request_of(kind, job_id), JobStore(dynamodb, TABLE)
    name = job_execution_name(kind, job_id)
    store.add(asked, execution_arn(ARNS[kind], name))
    machines.start(kind, name, asked.execution_input, end)
    store.mark_started(asked)


RESULT = {"id": "a", "outcome": "exited", "reason": "container app exited with 3"}


@pytest.mark.parametrize("kind", ["task", "redrive"])
def test_a_job_is_listed_once_with_its_state(history: History, dynamodb: Any, machines: Machines, kind: Kind) -> None:
    request(dynamodb, machines, "a", Ended("SUCCEEDED", {"outcome": "succeeded"}), kind)
    machines.start(kind, "by-hand", event(f"{kind}_requested")["detail"], seconds=1)
    page = history.jobs(kind)
    assert [(job.id, job.status) for job in page.jobs] == [("by-hand", "running"), ("a", "succeeded")]
    assert len({job.subject for job in page.jobs}) == 1
    assert page.jobs[0].subject
    assert page.next is None
    other: Kind = "redrive" if kind == "task" else "task"
    assert history.jobs(other).jobs == []


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (Ended(), "running", ""),
        (Ended("SUCCEEDED", RESULT), "succeeded", ""),
        (Ended("FAILED", error="TaskExitedNonZero", cause=json.dumps(RESULT)), "failed", RESULT["reason"]),
        (Ended("FAILED", error="States.Runtime", cause="no path"), "failed", "States.Runtime: no path"),
        (Ended("FAILED", error="RequestRefused", cause='{"reason": "id: no"}'), "refused", "id: no"),
        (Ended("TIMED_OUT"), "failed", "its execution timed out"),
        (Ended("ABORTED", error="NotNow", cause="kim"), "stopped", "NotNow: kim"),
        (Ended("ABORTED"), "stopped", ""),
    ],
)
def test_a_job_is_shown_as_its_execution_ended(
    history: History, dynamodb: Any, machines: Machines, end: Ended, status: str, reason: str
) -> None:
    request(dynamodb, machines, "a", end)
    view = history.job("task", "a")
    assert view is not None
    assert (view.status, view.reason, view.request["id"]) == (status, reason, "a")
    assert (view.ended_at is None) == (status == "running")
    if end.output or (end.cause or "").startswith("{"):
        assert view.result == (end.output or json.loads(end.cause or ""))
    assert history.jobs("task").jobs[0].status == status


def test_a_refused_request_is_listed_and_shown(history: History, dynamodb: Any) -> None:
    store, asked = JobStore(dynamodb, TABLE), request_of("task", "bad")
    store.announce_refusal(asked, "count: must be at most 10")
    store.announce_refusal(asked, "count: must be at most 10")
    [job] = history.jobs("task").jobs
    assert (job.id, job.status, job.reason) == ("bad", "refused", "count: must be at most 10")
    view = history.job("task", "bad")
    assert view is not None
    assert (view.status, view.subject) == ("refused", asked.subject)


def test_a_refusal_under_the_id_of_a_job_does_not_hide_the_job(
    history: History, dynamodb: Any, machines: Machines
) -> None:
    request(dynamodb, machines, "a")
    JobStore(dynamodb, TABLE).announce_refusal(request_of("task", "a"), "id: a is already in use")
    view = history.job("task", "a")
    assert view is not None
    assert view.status == "running"
    assert [job.status for job in history.jobs("task").jobs] == ["refused", "running"]


@pytest.mark.parametrize(("started", "status"), [(False, "requested"), (True, "unknown")])
def test_one_that_step_functions_does_not_know_has_not_begun_or_is_forgotten(
    history: History, dynamodb: Any, started: bool, status: str
) -> None:
    store, asked = JobStore(dynamodb, TABLE), request_of("task", "a")
    store.add(asked, execution_arn(ARNS["task"], "gone"))
    if started:
        store.mark_started(asked)
    assert [job.status for job in history.jobs("task").jobs] == [status]


def test_one_that_was_started_directly_is_found_by_its_name(history: History, machines: Machines) -> None:
    machines.start("task", "by-hand", {"id": "mine", "taskDefinition": "migrate:3"}, Ended("SUCCEEDED", RESULT))
    view = history.job("task", "by-hand")
    assert view is not None
    assert (view.id, view.subject, view.request["id"], view.result) == ("by-hand", "migrate:3", "mine", RESULT)
    assert history.job("task", execution_arn(ARNS["task"], "by-hand")) == view
    assert history.job("redrive", execution_arn(ARNS["task"], "by-hand")) is None
    assert history.job("task", "no one") is None
    assert history.job("task", "nobody") is None


def test_one_by_event_is_found_by_its_execution_too(history: History, dynamodb: Any, machines: Machines) -> None:
    request(dynamodb, machines, "a")
    name = job_execution_name("task", "a")
    view = history.job("task", "a")
    assert view is not None
    assert view.id == "a"
    assert history.job("task", name) == history.job("task", execution_arn(ARNS["task"], name)) == view


@pytest.mark.parametrize("limit", [1, 3, 4, 50])
def test_pages_name_every_job_once_newest_first(
    history: History, dynamodb: Any, machines: Machines, limit: int
) -> None:
    base = datetime.now(UTC)
    names = []
    for number in range(10):
        if number % 3:
            request(dynamodb, machines, f"j-{number}")
            at = iso_of(base + timedelta(seconds=number))
            key = to_item({"pk": f"TASK#j-{number}", "sk": "JOB"})
            dynamodb.update_item(
                TableName=TABLE,
                Key=key,
                UpdateExpression="SET createdAt = :at",
                ExpressionAttributeValues=to_item({":at": at}),
            )
        else:
            arn = machines.start("task", f"j-{number}", {})
            machines.executions[arn] = (base + timedelta(seconds=number), {}, Ended())
        names.append(f"j-{number}")
    found, after = [], None
    while True:
        page = history.jobs("task", limit=limit, after=after)
        found += [job.id for job in page.jobs]
        if not (after := page.next):
            break
    assert found == names[::-1]


def test_executions_older_than_the_page_are_not_read(history: History, dynamodb: Any, machines: Machines) -> None:
    for number in range(1000):
        machines.start("task", f"old-{number}", {}, seconds=-3600 - number)
    for number in range(6):
        request(dynamodb, machines, f"j-{number}")
    assert len(history.jobs("task", limit=5).jobs) == 5
    assert machines.listed == 1


def test_without_step_functions_the_requests_are_known(dynamodb: Any, machines: Machines) -> None:
    request(dynamodb, machines, "a")
    page = History(dynamodb, TABLE).jobs("task")
    assert [(job.id, job.status) for job in page.jobs] == [("a", "unknown")]
