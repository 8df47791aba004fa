"""The results of ten tasks of ten attempts fit into one state and one event, whatever ECS says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from headgate.ecs_tasks.aftermath import Aftermath
from headgate.ecs_tasks.attempt import EndedAttempt
from headgate.ecs_tasks.report_size import fitted, fitted_logs, json_bytes, shortened
from headgate.ecs_tasks.run_task import TaskPlan
from headgate.ecs_tasks.runs import TaskRuns
from tests.builders import ACCOUNT
from tests.fakes.ecs import DEFINITION_ARN, LONGEST_NAMES, LONGEST_TASK_ARN, FakeEcs, FakeLogs, longest
from tools import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 256 * 1024
TEXTS = {"plain": "x", "quoted": '"', "accented": "é", "Chinese": "漢", "emoji": "🚦", "control": "\x01"}
REGION = "us-gov-west-1"


def plan(count: int, attempts: int) -> TaskPlan:
    """A plan whose names are as long as AWS allows."""
    return TaskPlan.model_validate(
        {
            "id": "i" * 128,
            "cluster": "k" * 255,
            "taskDefinition": f"arn:aws-us-gov:ecs:{REGION}:{ACCOUNT}:task-definition/{'f' * 255}:99999",
            "count": count,
            "numbers": list(range(1, count + 1)),
            "timeoutSeconds": 60,
            "retry": {"attempts": attempts},
            "backoff": {},
            "parameters": {},
            "essential": LONGEST_NAMES,
            "logs": [
                {"container": name, "group": "/" * 512, "region": REGION, "prefix": "p" * 128}
                for name in LONGEST_NAMES[:3]
            ],
        }
    )


def results(count: int, attempts: int, text: str) -> Iterator[dict[str, Any]]:
    """What the machine knows of each task in the end."""
    runs = TaskRuns(FakeEcs(), FakeLogs(*[text * 1000] * 10))
    for number in range(1, count + 1):
        ended = [
            EndedAttempt(plan(count, attempts), number, attempt, True, True, longest(text), {}).classify(runs)
            for attempt in range(1, attempts + 1)
        ]
        last = ended[-1]["ending"]
        assert [each["again"] for each in ended] == [True] * (attempts - 1) + [False]
        yield {
            "number": number,
            "outcome": last["outcome"],
            "error": ended[-1]["error"],
            "reason": last["reason"],
            "exitCodes": last["exitCodes"],
            "attempts": [each["ending"] for each in ended],
            "throttled": 20,
            "logs": ended[-1]["logs"],
        }


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("count", "attempts"), [(10, 10), (10, 1), (1, 10), (3, 4)])
def test_the_largest_results_fit_into_a_state(count: int, attempts: int, text: str) -> None:
    told = [*results(count, attempts, text)]
    assert json_bytes(told) < 0.95 * LIMIT
    # AND still say how each attempt ended.
    for task in told:
        for attempt in task["attempts"]:
            assert attempt["outcome"] == "exited"
            assert attempt["reason"].startswith(f"container {LONGEST_NAMES[0][:100]}")
            assert attempt["taskArn"] == LONGEST_TASK_ARN
            assert attempt["exitCodes"].items() <= dict.fromkeys(LONGEST_NAMES, 255).items()
            assert attempt["exitCodes"]
    event = {
        "id": "e",
        "taskId": "i",
        "at": "2026-11-30T09:00:00.000Z",
        "execution": "x",
        "outcome": "exited",
        "error": "TaskExitedNonZero",
        "reason": "",
        "count": count,
        "succeeded": 0,
        "tasks": told,
    }
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(event)


def test_of_one_task_nothing_is_left_out() -> None:
    [told] = results(1, 2, "é")
    for attempt in told["attempts"]:
        assert attempt["exitCodes"] == dict.fromkeys(LONGEST_NAMES, 255)
    [*_, last] = told["attempts"]
    assert [each["name"] for each in last["containers"]] == LONGEST_NAMES
    assert [len(log["lines"]) for log in told["logs"]] == [10, 10, 10]


def test_the_largest_results_of_an_execution_that_was_stopped_fit_into_an_event() -> None:
    given = plan(10, 10)
    tasks = [
        {**task, "tags": [{"key": "headgate:number", "value": str(number)}]}
        for number in range(1, 11)
        for task in [longest("é")] * 10
    ]
    announced: list[Any] = []

    class Services:
        """Step Functions, ECS and EventBridge."""

        last_logs = TaskRuns(FakeEcs(), FakeLogs(*["é" * 1000] * 10)).last_logs

        def get_execution_history(self, **_: Any) -> dict[str, Any]:
            planned = {"output": json.dumps({"Payload": {"plan": given.to_wire()}})}
            aborted = {"error": "Wrong", "cause": "é" * 32_000}
            return {"events": [{"taskSucceededEventDetails": planned}, {"executionAbortedEventDetails": aborted}]}

        def of_execution(self, *_: Any) -> list[dict[str, Any]]:
            return [{**task, "lastStatus": "STOPPED", "capacityProviderName": "p" * 255} for task in tasks]

        def put_events(self, **given: Any) -> dict[str, Any]:
            announced.extend(given["Entries"])
            return {"FailedEntryCount": 0}

    services: Any = Services()
    ended = {
        "executionArn": "arn:aws:states:us-east-1:123456789012:execution:m:n",
        "name": "n",
        "status": "ABORTED",
        "input": json.dumps({"taskDefinition": DEFINITION_ARN, "count": 10}),
        "stopDate": 1795251900000,
    }
    Aftermath(services, services, services, bus="headgate").announce(ended, lambda: 60, lambda _: None)
    [entry] = announced
    assert len(json.loads(entry["Detail"])["tasks"]) == 10
    assert len(entry["Detail"].encode()) < 0.95 * LIMIT


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("limit", [0, 1, 5, 100])
def test_a_text_is_cut_to_its_size_in_json(text: str, limit: int) -> None:
    cut = shortened(text * 200, limit)
    assert json_bytes(cut) - 2 <= limit < json_bytes(cut + text) - 2
    assert (text * 200).startswith(cut)


def test_a_text_that_fits_and_one_that_is_no_valid_unicode_are_kept() -> None:
    assert shortened("é" * 50, 100) == "é" * 50
    assert shortened("\ud800", 6) == "\ud800"


def test_what_is_least_telling_is_left_out_first() -> None:
    codes = {"app": 3, "router": 0, "sidecar": 0}
    containers = [{"name": name, "exitCode": code, "reason": "r" * 200} for name, code in codes.items()]
    attempt = {"reason": "x" * 300, "statusReason": "s" * 300, "exitCodes": codes, "containers": containers}
    bare = {name: value for name, value in attempt.items() if name != "containers"}
    assert fitted(attempt, 5000) is attempt
    assert [each["name"] for each in fitted(attempt, 1200)["containers"]] == ["app"]
    assert "containers" not in fitted(attempt, 800)
    assert fitted(attempt, 670) == {**bare, "exitCodes": {"app": 3}}
    least = fitted(attempt, 1)
    assert least == {"reason": "x" * 120, "exitCodes": {"app": 3}}


def test_the_last_lines_of_logs_are_kept_before_the_first() -> None:
    logs = [{"container": name, "link": "l", "lines": [f"{number}" * 50 for number in range(10)]} for name in "ab"]
    told = fitted_logs(logs, 700)
    assert json_bytes(told) <= 700
    assert [log["lines"] for log in told] == [logs[0]["lines"][-len(log["lines"]) :] for log in told]
    assert all(log["lines"] for log in told)
    assert [log["link"] for log in told] == ["l", "l"]
    assert len(logs[0]["lines"]) == 10
