"""The functions of the ECS task machine do their one job with the payloads of events/."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import RequestRefused
from headgate.task_runs import TaskRuns
from tests.unit.builders import event
from tests.unit.ecs_tasks import (
    BAD,
    DEFINITION_ARN,
    EXECUTION,
    GOOD,
    TASK_ARN,
    FakeEcs,
    FakeLogs,
    cause,
    container,
    detail,
)
from tests.unit.test_functions import Functions

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def ecs() -> FakeEcs:
    return FakeEcs()


@pytest.fixture
def logs() -> FakeLogs:
    return FakeLogs("starting", "no such table")


@pytest.fixture
def call(ecs: FakeEcs, logs: FakeLogs, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Invokes a function with its sample; fields of the payload may be replaced."""
    functions = Functions()
    monkeypatch.setenv("TASK_ROLES", "jobs/*")

    def invoke(name: str, **fields: Any) -> Any:
        module = functions.module(name)
        module.__dict__["runs"] = TaskRuns(ecs, logs)
        if name == "task_planner":
            module.__dict__["roles"] = "jobs/*"
        return functions.call(name, event(name) | fields)

    return invoke


def failure(task: dict[str, Any]) -> dict[str, str]:
    return {"Error": "States.TaskFailed", "Cause": cause(task)}


class TestTaskPlanner:
    def test_it_works_the_parameters_out(self, call: Callable[..., Any]) -> None:
        plan = call("task_planner")["plan"]
        assert plan == event("task_classifier")["plan"]
        assert (plan["taskDefinition"], plan["numbers"]) == (DEFINITION_ARN, [1])

    def test_it_refuses_what_is_not_there_or_somebody_elses(self, call: Callable[..., Any]) -> None:
        request = event("task_planner")["request"]
        with pytest.raises(RequestRefused, match="taskDefinition: nothing:9: Unable to describe"):
            call("task_planner", request=request | {"taskDefinition": "nothing:9"})
        other = DEFINITION_ARN.replace("123456789012", "210987654321")
        with pytest.raises(RequestRefused, match="is in 210987654321; this Headgate serves 123456789012"):
            call("task_planner", request=request | {"taskDefinition": other})


class TestTaskClassifier:
    def test_it_says_how_the_attempt_ended_and_that_another_follows(
        self, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(random, "random", lambda: 0.5)
        told = call("task_classifier")
        assert (told["again"], told["waitSeconds"], told["onDemand"]) == (True, 5, False)
        assert (told["error"], told["ending"]["outcome"]) == ("TaskExitedNonZero", "exited")
        assert told["ending"]["exitCodes"] == {"app": 3, "router": 0}
        assert told["logs"] == []

    def test_of_the_last_attempt_it_reads_the_log(self, call: Callable[..., Any], logs: FakeLogs) -> None:
        told = call("task_classifier", attempt=3)
        assert not told["again"]
        assert told["logs"][0]["lines"] == ["starting", "no such table"]
        assert len(logs.asked) == 1

    def test_a_log_that_cannot_be_read_is_told_by_its_link_alone(
        self, call: Callable[..., Any], logs: FakeLogs
    ) -> None:
        logs.lines = ()
        [log] = call("task_classifier", attempt=3)["logs"]
        assert log["lines"] == []
        assert "does not exist" in log["unreadable"]

    def test_a_success_needs_no_log_and_no_error(self, call: Callable[..., Any], logs: FakeLogs) -> None:
        told = call("task_classifier", failure={}, task=GOOD)
        assert (told["again"], told["error"], told["ending"]["outcome"], told["logs"]) == (False, "", "succeeded", [])
        assert logs.asked == []

    def test_where_the_cause_says_too_little_ecs_is_asked(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        # GIVEN a cause that lost its containers and its stop code, but not the task's ARN
        little = {"Error": "States.TaskFailed", "Cause": f'{{"TaskArn":"{TASK_ARN}","Version":'}
        assert call("task_classifier", failure=little)["ending"]["outcome"] == "unknown"
        ecs.described = {"lastStatus": "STOPPED", **detail(container(code=4))}
        assert call("task_classifier", failure=little)["ending"]["exitCodes"] == {"app": 4}
        # AND what ECS does not say, or says of a task that still runs, is not made up
        ecs.described = {"lastStatus": "RUNNING", "containers": []}
        assert call("task_classifier", failure=little)["ending"]["outcome"] == "unknown"
        ecs.broken = {"DescribeTasks"}
        assert call("task_classifier", failure=little)["ending"]["outcome"] == "unknown"

    def test_nothing_follows_while_the_attempt_may_still_be_running(self, call: Callable[..., Any]) -> None:
        assert call("task_classifier")["again"]
        assert not call("task_classifier", stopped=False)["again"]

    def test_an_attempt_on_demand_does_not_fall_back_again(self, call: Callable[..., Any]) -> None:
        plan = event("task_classifier")["plan"]
        plan = plan | {"fallback": plan["parameters"], "retry": {"attempts": 3, "evaluateOnExit": []}}
        lost = failure(detail(container(code=143), code="SpotInterruption", reason="Your Spot Task was interrupted."))
        first = call("task_classifier", plan=plan, failure=lost)
        assert (first["onDemand"], first["ending"]["next"]) == (True, "on demand")
        second = call("task_classifier", plan=plan, failure=lost, onDemand=True, attempt=2)
        assert (second["onDemand"], second["ending"]["next"]) == (True, "no rule says otherwise")


class TestTaskStopper:
    @pytest.mark.parametrize(("number", "stopped"), [(1, 1), (2, 1), (3, 0), (None, 2)])
    def test_it_stops_what_runs_of_this_execution_and_number_alone(
        self, call: Callable[..., Any], ecs: FakeEcs, number: int | None, stopped: int
    ) -> None:
        for execution, its in ((EXECUTION, "1"), (EXECUTION, "2"), ("another", "1")):
            tags = {"headgate:execution": execution, "headgate:number": its}
            ecs.leave_running({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]})
        told = call("task_stopper", number=number)["stopped"]
        assert told == [arn for arn, _ in ecs.stopped]
        assert len(told) == stopped

    def test_it_stops_nothing_twice(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        tags = {"headgate:execution": EXECUTION, "headgate:number": "1"}
        ecs.leave_running({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]})
        assert len(call("task_stopper")["stopped"]) == 1
        assert call("task_stopper")["stopped"] == []

    def test_a_reason_is_as_long_as_ecs_takes_it(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        ecs.leave_running(
            {"Tags": [{"Key": "headgate:execution", "Value": EXECUTION}, {"Key": "headgate:number", "Value": "1"}]}
        )
        call("task_stopper", reason="x" * 1000)
        assert len(ecs.stopped[0][1]) == 255


def test_the_samples_are_about_one_task() -> None:
    assert event("task_classifier")["failure"]["Cause"] == cause(BAD)
    assert event("task_stopper")["execution"] == event("task_planner")["execution"] == EXECUTION
