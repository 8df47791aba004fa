"""The functions of the ECS task machine do their one job with the payloads of events/."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.ecs_tasks.aftermath import Aftermath
from headgate.ecs_tasks.attempt import LOOKS
from headgate.ecs_tasks.definition import digest_of
from headgate.ecs_tasks.limits import TaskLimits
from headgate.ecs_tasks.preflight import Preflight
from headgate.ecs_tasks.registry import TaskRegistry
from headgate.ecs_tasks.runs import TaskRuns
from headgate.errors import RequestRefused, Transient
from tests.builders import ACCOUNT, event
from tests.fakes.ecs import (
    BAD,
    DEFINITION,
    DEFINITION_ARN,
    EXECUTION,
    GOOD,
    NEW_DEFINITION,
    TASK_ARN,
    FakeEcs,
    FakeLogs,
    cause,
    container,
    detail,
)
from tests.fakes.functions import Functions

if TYPE_CHECKING:
    from collections.abc import Callable

OLD_FIELDS = {"plan", "number", "attempt", "onDemand", "stopped", "failure", "task"}
"""Fields that the classifier got in 0.1.0."""


class FakeHistory:
    """Step Functions with the history of one execution, and the bus."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        """In their order; none if there is no such execution."""
        self.announced: list[dict[str, Any]] = []
        self.failed = 0

    def answer(self, **payload: Any) -> None:
        """A function answered."""
        output = json.dumps({"Payload": payload})
        self.events.append({"type": "TaskSucceeded", "taskSucceededEventDetails": {"output": output}})

    def abort(self) -> None:
        self.events.append({"type": "ExecutionAborted", "executionAbortedEventDetails": {"cause": "kim"}})

    def get_execution_history(self, *, reverseOrder: bool = False, **_: Any) -> dict[str, Any]:  # noqa: N803
        if not self.events:
            raise ClientError({"Error": {"Code": "ExecutionDoesNotExist", "Message": "no"}}, "GetExecutionHistory")
        return {"events": self.events[::-1] if reverseOrder else self.events}

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.announced += [json.loads(entry["Detail"]) for entry in Entries]
        return {"FailedEntryCount": self.failed, "Entries": [{"ErrorCode": "ThrottlingException"}]}


@pytest.fixture
def ecs() -> FakeEcs:
    return FakeEcs()


@pytest.fixture
def logs() -> FakeLogs:
    return FakeLogs("starting", "no such table")


@pytest.fixture
def history() -> FakeHistory:
    return FakeHistory()


@pytest.fixture
def call(ecs: FakeEcs, logs: FakeLogs, history: FakeHistory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Invokes a function with its sample; fields of the payload may be replaced."""
    functions = Functions()
    monkeypatch.setenv("TASK_ROLES", "jobs/*")

    def invoke(name: str, *, may_register: bool = False, payload: dict[str, Any] | None = None, **fields: Any) -> Any:
        module = functions.module(name)
        if name == "task_planner":
            limits = TaskLimits("123456789012", "jobs/*", "migr*", may_register, clusters="jobs*")
            module.__dict__["preflight"] = Preflight(TaskRegistry(ecs), limits)
        else:
            module.__dict__["runs"] = TaskRuns(ecs, logs)
        if name == "task_stopper":
            aftermath = Aftermath(TaskRuns(ecs, logs), history, history, bus="headgate")
            module.__dict__["aftermath"] = lambda: aftermath
        return functions.call(name, event(name) | fields if payload is None else payload)

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
        with pytest.raises(RequestRefused, match="taskDefinition: migrated:9: Unable to describe"):
            call("task_planner", request=request | {"taskDefinition": "migrated:9"})
        other = DEFINITION_ARN.replace("123456789012", "210987654321")
        with pytest.raises(RequestRefused, match="is in 210987654321; this Headgate serves 123456789012"):
            call("task_planner", request=request | {"taskDefinition": other})

    def test_it_refuses_what_the_stacks_parameters_do_not_cover(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        """The machine's role would, after the fact, and as a task that could not start."""
        request = event("task_planner")["request"]
        with pytest.raises(RequestRefused) as refused:
            call("task_planner", request=request | {"cluster": "production"})
        assert str(refused.value).startswith("cluster: production may not be used; Headgate's parameter TaskCl")
        ecs.definition = DEFINITION | {
            "family": "billing",
            "taskDefinitionArn": DEFINITION_ARN.replace("migrate", "billing"),
        }
        with pytest.raises(RequestRefused) as refused:
            call("task_planner", request=request | {"taskDefinition": "billing"})
        assert str(refused.value) == (
            "taskDefinition: billing may not be run; Headgate's parameter TaskDefinitions must cover it"
        )

    @pytest.mark.parametrize(
        ("account", "region", "fits"),
        [
            ("123456789012", "eu-central-1", True),
            ("210987654321", "eu-central-1", False),
            (ACCOUNT, "us-east-1", False),
        ],
    )
    def test_a_clusters_arn_is_one_of_here(
        self, call: Callable[..., Any], account: str, region: str, *, fits: bool
    ) -> None:
        arn = f"arn:aws:ecs:{region}:{account}:cluster/jobs"
        request = event("task_planner")["request"] | {"cluster": arn}
        if fits:
            assert call("task_planner", request=request)["plan"]["cluster"] == arn
            return
        with pytest.raises(RequestRefused, match=f"cluster: {arn} is not in eu-central-1 of 123456789012; name one"):
            call("task_planner", request=request)


class TestTaskPlannerRegisters:
    @staticmethod
    def plan(call: Callable[..., Any], *, may_register: bool = True, **fields: Any) -> Any:
        request = event("task_planner")["request"] | {"taskDefinition": {"register": NEW_DEFINITION | fields}}
        return call("task_planner", may_register=may_register, request=request)["plan"]

    def test_it_registers_what_it_was_given_and_plans_with_the_revision(
        self, call: Callable[..., Any], ecs: FakeEcs
    ) -> None:
        plan = self.plan(call)
        [arn] = ecs.registered
        assert plan["taskDefinition"] == plan["parameters"]["TaskDefinition"] == arn
        assert plan["essential"] == ["app"]
        told = ecs.registered[arn]
        tags = {tag["key"]: tag["value"] for tag in told["tags"]}
        assert tags == {"team": "checkout", "headgate:definition": digest_of(NEW_DEFINITION)}
        given = {name: value for name, value in NEW_DEFINITION.items() if name != "tags"}
        assert given.items() <= told["taskDefinition"].items()

    def test_a_size_in_larger_units_is_planned_with(self, call: Callable[..., Any]) -> None:
        """ECS answers CPU units and MiB; not every emulator does."""
        assert self.plan(call, cpu=".25 vCPU", memory="0.5GB")["essential"] == ["app"]

    def test_the_same_definition_is_registered_once(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        plans = [self.plan(call) for _ in range(3)]
        assert plans[0] == plans[1] == plans[2]
        assert self.plan(call, cpu="512", memory="1024")["taskDefinition"] != plans[0]["taskDefinition"]
        assert self.plan(call) == plans[0]
        assert len(ecs.registered) == 2

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"cpu": 256}, 'taskDefinition.register.cpu: must be text; write "256" (given 256)'),
            ({"memory": "8 GB"}, "taskDefinition.register.memory: 8192 MiB is not valid with 256 CPU units"),
            (
                {"networkMode": "bridge"},
                "taskDefinition.register.networkMode: must be awsvpc for a task on Fargate;",
            ),
            (
                {"containerDefinitions": [{"name": "app", "image": "app", "memory": 1024}]},
                "taskDefinition.register.memory: 512 MiB is less than container app's 1024; raise it to at least that",
            ),
            (
                {"containerDefinitions": [{"name": "app", "image": "app", "cpu": 300}]},
                "taskDefinition.register.cpu: the task has 256 CPU units, but its containers reserve 300;",
            ),
            ({"family": "billing"}, "taskDefinition.register.family: billing may not be registered; Headgate's"),
            (
                {"taskRoleArn": "arn:aws:iam::123456789012:role/admin"},
                "taskDefinition: its taskRoleArn arn:aws:iam::123456789012:role/admin may not be passed",
            ),
            (
                {"executionRoleArn": "arn:aws:iam::210987654321:role/jobs/other"},
                "arn:aws:iam::210987654321:role/jobs/other is in another account; use a role of 123456789012",
            ),
            (
                {"containerDefinitions": [{"name": "web", "image": "web"}]},
                "overrides.containers.app: taskDefinition.register has no such container; it has web",
            ),
            (
                {"requiresCompatibilities": ["EC2"]},
                "taskDefinition.register.requiresCompatibilities: lacks FARGATE, on which the task runs; ",
            ),
        ],
    )
    def test_nothing_is_registered_for_a_request_that_could_not_run(
        self, call: Callable[..., Any], ecs: FakeEcs, fields: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(RequestRefused) as refused:
            self.plan(call, **fields)
        assert told in str(refused.value)
        assert ecs.registered == {}

    def test_it_registers_nothing_where_the_stack_does_not_say_so(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        with pytest.raises(RequestRefused, match="set Headgate's parameter RegisterTaskDefinitions to true"):
            self.plan(call, may_register=False)
        assert ecs.registered == {}


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

    def test_a_success_has_its_log_too_and_no_error(self, call: Callable[..., Any]) -> None:
        told = call("task_classifier", failure={}, task=GOOD)
        assert (told["again"], told["error"], told["ending"]["outcome"]) == (False, "", "succeeded")
        assert [log["lines"] for log in told["logs"]] == [["starting", "no such table"]]

    def test_where_the_cause_says_too_little_ecs_is_asked(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        # GIVEN a cause that lost its containers and its stop code, but not the task's ARN
        little = {"Error": "States.TaskFailed", "Cause": f'{{"TaskArn":"{TASK_ARN}","Version":'}
        assert call("task_classifier", failure=little)["ending"]["outcome"] == "unknown"
        ecs.described = {"lastStatus": "STOPPED", **detail(container(code=4))}
        assert call("task_classifier", failure=little)["ending"]["exitCodes"] == {"app": 4}
        # AND what ECS does not say, or says of a task that still runs after all patience, is not made up
        ecs.described = {"lastStatus": "RUNNING", "containers": []}
        assert call("task_classifier", failure=little)["stopping"]
        assert call("task_classifier", failure=little, looks=LOOKS)["ending"]["outcome"] == "unknown"
        ecs.broken = {"DescribeTasks"}
        assert call("task_classifier", failure=little)["ending"]["outcome"] == "unknown"

    def test_a_task_that_still_shuts_down_is_looked_at_again_after_longer_and_longer_waits(
        self, call: Callable[..., Any], ecs: FakeEcs
    ) -> None:
        arn = ecs.leave_running({})
        ecs.stop_task("jobs", arn, "Headgate: time")
        ecs.shutdown = 7
        late = {"failure": {"Error": "States.Timeout"}, "left": [arn]}
        told = [call("task_classifier", **late, looks=look) for look in range(8)]
        assert [each.get("waitSeconds") for each in told[:7]] == [5, 10, 20, 30, 30, 30, 30]
        assert {(each["stopping"], each["counts"]) for each in told[:7]} == {(True, False)}
        assert told[7]["ending"]["exitCodes"] == {"app": 143, "router": 143}

    def test_of_the_stopped_tasks_with_its_tags_the_latest_is_that_of_the_attempt(
        self, call: Callable[..., Any], ecs: FakeEcs
    ) -> None:
        owners = (EXECUTION, EXECUTION, EXECUTION, "another")
        arns = []
        for second, owner in enumerate(owners):
            tags = {"headgate:execution": owner, "headgate:number": "1"}
            arns.append(ecs.leave_running({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}))
            ecs.stop_task("jobs", arns[-1], "time")
            ecs.tasks[arns[-1]]["createdAt"] = datetime(2026, 11, 21, 9, 0, second, tzinfo=UTC)
        late = {"failure": {"Error": "States.Timeout"}}
        assert call("task_classifier", **late)["ending"]["taskArn"] == arns[2]
        assert call("task_classifier", **late, known=[arns[2]])["ending"]["taskArn"] == arns[1]
        assert call("task_classifier", **late, known=arns)["ending"]["taskArn"] == ""

    def test_tasks_that_may_not_be_listed_leave_what_is_known(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        ecs.broken = {"ListTasks"}
        told = call("task_classifier", failure={"Error": "States.Timeout"})
        assert (told["ending"]["outcome"], told["ending"]["taskArn"]) == ("timed-out", "")

    def test_an_execution_of_an_older_definition_neither_waits_nor_tries_for_ever(
        self, call: Callable[..., Any], ecs: FakeEcs
    ) -> None:
        # GIVEN the payload of 0.1.0, whose machine counts every start and knows nothing of tasks that stop
        payload = {name: value for name, value in event("task_classifier").items() if name in OLD_FIELDS}
        throttled = {"Error": "ECS.AmazonECSException", "Cause": "Rate exceeded"}
        assert not call("task_classifier", payload=payload | {"failure": throttled})["again"]
        arn = ecs.leave_running({})
        late = {"Error": "States.TaskFailed", "Cause": f'{{"TaskArn":"{arn}","Version":'}
        assert call("task_classifier", payload=payload | {"failure": late})["ending"]["outcome"] == "unknown"

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
        assert (second["onDemand"], second["ending"]["next"]) == (True, "no rule matches")


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


class TestTaskStopperAfterAnEnd:
    """Of an execution that was stopped, or failed of itself, Step Functions only tries to stop the task."""

    @pytest.fixture
    def running(self, ecs: FakeEcs) -> list[str]:
        """Two tasks of the execution in the sample, and one of another."""
        owners = (EXECUTION, EXECUTION, "another")
        return [ecs.leave_running({"Tags": [{"Key": "headgate:execution", "Value": owner}]}) for owner in owners]

    @pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT", "FAILED"])
    def test_it_stops_all_that_the_execution_has_left(
        self, call: Callable[..., Any], ecs: FakeEcs, running: list[str], status: str
    ) -> None:
        ended = event("task_execution_aborted")
        ended["detail"]["status"] = status
        assert call("task_stopper", payload=ended) == {"stopped": running[:2]}
        assert {reason for _, reason in ecs.stopped} == {f"Headgate: the execution of this task is {status}"}
        assert call("task_stopper", payload=ended) == {"stopped": []}

    def test_it_reads_what_a_rollouts_hook_gives_the_machine(
        self, call: Callable[..., Any], running: list[str]
    ) -> None:
        ended = event("task_execution_aborted")
        given = json.loads(ended["detail"]["input"]) | {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "hooks"}
        ended["detail"]["input"] = json.dumps(given)
        assert call("task_stopper", payload=ended) == {"stopped": running[:2]}

    @pytest.mark.usefixtures("running")
    @pytest.mark.parametrize("given", [None, "", "[]", "{}", '{"taskDefinition": "a", "cluster": "a b"}', '"migrate"'])
    def test_of_a_request_that_could_not_be_read_nothing_runs(
        self, call: Callable[..., Any], given: str | None
    ) -> None:
        ended = event("task_execution_aborted")
        ended["detail"]["input"] = given
        assert call("task_stopper", payload=ended) == {"stopped": []}

    @pytest.mark.usefixtures("running")
    @pytest.mark.parametrize("code", ["ClusterNotFoundException", "AccessDeniedException"])
    def test_where_the_machine_could_not_run_anything_there_is_nothing_to_stop(
        self, call: Callable[..., Any], ecs: FakeEcs, code: str
    ) -> None:
        ecs.broken, ecs.code = {"ListTasks"}, code
        assert call("task_stopper", payload=event("task_execution_aborted")) == {"stopped": []}

    @pytest.fixture
    def planned(self, history: FakeHistory) -> FakeHistory:
        history.answer(plan=event("task_classifier")["plan"])
        history.abort()
        return history

    def test_its_end_is_announced_with_what_is_known_of_each_attempt(
        self, call: Callable[..., Any], ecs: FakeEcs, planned: FakeHistory
    ) -> None:
        # GIVEN an attempt that failed, and one that ran when the execution was stopped
        tags = [{"Key": "headgate:execution", "Value": EXECUTION}, {"Key": "headgate:number", "Value": "1"}]
        first, second = (ecs.leave_running({"Tags": tags}) for _ in range(2))
        ecs.tasks[first] |= {"desiredStatus": "STOPPED", "stopCode": "EssentialContainerExited", "createdAt": "1"}
        ecs.tasks[first]["containers"][0]["exitCode"] = 3
        ecs.tasks[second]["createdAt"] = "2"
        call("task_stopper", payload=event("task_execution_aborted"))
        [told] = planned.announced
        [task] = told["tasks"]
        assert (told["outcome"], told["reason"]) == ("stopped", "the execution was stopped: kim")
        assert [(each["attempt"], each["outcome"], each["taskArn"]) for each in task["attempts"]] == [
            (1, "exited", first),
            (2, "stopped", second),
        ]
        assert (task["outcome"], task["exitCodes"]) == ("stopped", {"app": 143, "router": 143})
        assert task["logs"][0]["lines"] == ["starting", "no such table"]

    def test_containers_that_do_not_end_are_waited_for_only_so_long(
        self, ecs: FakeEcs, logs: FakeLogs, planned: FakeHistory
    ) -> None:
        tags = [{"Key": "headgate:execution", "Value": EXECUTION}, {"Key": "headgate:number", "Value": "1"}]
        arn = ecs.leave_running({"Tags": tags})
        ecs.stop_task("jobs", arn, "Headgate: aborted")
        ecs.shutdown = 1000
        clock = [60.0]
        aftermath = Aftermath(TaskRuns(ecs, logs), planned, planned, bus="headgate")
        aftermath.announce(
            event("task_execution_aborted")["detail"],
            lambda: clock[0],
            lambda seconds: clock.append(clock.pop() - seconds),
        )
        assert clock == [12.0]
        [task] = planned.announced[0]["tasks"]
        assert (task["exitCodes"], task["attempts"][0]["taskArn"]) == ({}, arn)

    @pytest.mark.usefixtures("running")
    def test_an_execution_that_was_stopped_while_it_was_planned_has_no_tasks(
        self, call: Callable[..., Any], history: FakeHistory
    ) -> None:
        history.abort()
        call("task_stopper", payload=event("task_execution_aborted"))
        [told] = history.announced
        assert (told["taskId"], told["count"], told["tasks"]) == ("migrate-42", 1, [])
        assert "taskDefinition" not in told

    def test_what_cannot_be_read_or_reached_is_announced_with_what_is_known_or_not_at_all(
        self, call: Callable[..., Any], ecs: FakeEcs, planned: FakeHistory
    ) -> None:
        ended = event("task_execution_aborted")
        ecs.broken, ecs.code = {"ListTasks"}, "ClusterNotFoundException"
        call("task_stopper", payload=ended)
        assert [told["tasks"] for told in planned.announced] == [[]]
        ended["detail"]["input"] = "{}"
        call("task_stopper", payload=ended)
        assert len(planned.announced) == 1

    def test_an_end_that_the_bus_does_not_accept_is_tried_again(
        self, call: Callable[..., Any], planned: FakeHistory
    ) -> None:
        planned.failed = 1
        with pytest.raises(Transient, match="the bus did not accept the event"):
            call("task_stopper", payload=event("task_execution_aborted"))

    def test_where_ecs_does_not_say_what_runs_it_is_asked_again(self, call: Callable[..., Any], ecs: FakeEcs) -> None:
        ecs.broken, ecs.code = {"ListTasks"}, "ServerException"
        with pytest.raises(ClientError):
            call("task_stopper", payload=event("task_execution_aborted"))


def test_the_samples_are_about_one_task() -> None:
    assert event("task_classifier")["failure"]["Cause"] == cause(BAD)
    assert event("task_stopper")["execution"] == event("task_planner")["execution"] == EXECUTION
