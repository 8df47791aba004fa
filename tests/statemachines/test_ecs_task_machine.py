"""The machine that runs ECS tasks: every way a task can end, what is run again, and that nothing runs on."""

from __future__ import annotations

import importlib.util
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_ecs

from headgate.ecs_tasks.aftermath import Aftermath
from headgate.ecs_tasks.attempt import LOOKS
from headgate.ecs_tasks.limits import TaskLimits
from headgate.ecs_tasks.preflight import Preflight
from headgate.ecs_tasks.registry import TaskRegistry
from headgate.ecs_tasks.retry import THROTTLES
from headgate.ecs_tasks.runs import TaskRuns
from tests.builders import ACCOUNT, ROOT
from tests.fakes.ecs import (
    BAD,
    CAPACITY,
    DEFINITION_ARN,
    EXITED,
    GOOD,
    INTERRUPTED,
    NEW_DEFINITION,
    NOT_STARTED,
    OUT_OF_MEMORY,
    PULL,
    SUBNETS,
    FakeEcs,
    FakeLogs,
    cause,
    container,
    detail,
    longest,
)
from tests.statemachines.ecs import Ended
from tests.statemachines.engine import LARGEST_BYTES, Engine, LambdaServiceError, ServiceError
from tools import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from tests.statemachines.engine import Execution

MACHINE = "ecs_task"
DEFINITION_TEXT = (ROOT / "statemachines" / "ecs_task.asl.json").read_text("utf-8")
STATES = json.loads(DEFINITION_TEXT)["States"]
INNER = STATES["Tasks"]["ItemProcessor"]["States"]
FUNCTIONS = {"TaskPlanner": "task_planner", "TaskClassifier": "task_classifier", "TaskStopper": "task_stopper"}
REQUEST = {"taskDefinition": "migrate", "cluster": "jobs", "networkConfiguration": SUBNETS, "timeoutSeconds": 600}
ON_SPOT: dict[str, Any] = {"capacityProviderStrategy": [{"provider": "FARGATE_SPOT", "weight": 1}]}
TWICE = {"retry": {"attempts": 2}, "backoff": {"initialSeconds": 2}}

Answer = dict[str, Any] | Exception


def failed(task: dict[str, Any]) -> ServiceError:
    return ServiceError("States.TaskFailed", cause(task))


NO_PLACE = ServiceError(
    "AmazonECS.Unknown",
    json.dumps({"Failures": [{"Arn": "arn:container-instance", "Reason": "RESOURCE:MEMORY"}], "Tasks": []}),
)
HANGS: dict[str, Any] = {"hangs": True}
"""A task that runs on until it is stopped."""


class App:
    """The machine with its functions on an ECS in memory."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, self.ecs, self.logs = engine, FakeEcs(), FakeLogs("Traceback ...", "no such table")
        self.answers: list[Answer] = []
        self.runs: list[dict[str, Any]] = []
        self.announced: list[dict[str, Any]] = []
        self.ended = Ended(engine)
        self.bus: Callable[[Any], Any] = lambda _: {"FailedEntryCount": 0}
        monkeypatch.setenv("ACCOUNT", ACCOUNT)
        monkeypatch.setenv("TASK_ROLES", "jobs/*")
        monkeypatch.setenv("TASK_DEFINITIONS", "migrat*")
        monkeypatch.setenv("REGISTER_TASK_DEFINITIONS", "true")
        monkeypatch.setenv("TASK_CLUSTERS", "*")
        monkeypatch.setattr(random, "random", lambda: 1.0)
        for name in FUNCTIONS.values():
            module = _load(name)
            if name == "task_planner":
                limits = TaskLimits(ACCOUNT, "jobs/*", "migrat*", may_register=True)
                module.__dict__["preflight"] = Preflight(TaskRegistry(self.ecs), limits)
            else:
                module.__dict__["runs"] = TaskRuns(self.ecs, self.logs)
            if name == "task_stopper":
                aftermath = Aftermath(module.__dict__["runs"], self.ended, self.ended, bus="headgate")
                module.__dict__["aftermath"] = lambda aftermath=aftermath: aftermath
                self.stopper = module
            engine.function(name, _served(module))
        # AWS takes these too, though its guide does not list them: https://github.com/aws/aws-cdk/pull/35465 and
        # https://github.com/CloudSnorkel/cdk-github-runners/pull/999. (moto: drops what the guide does not list.)
        known = state_task_service_ecs._SUPPORTED_API_PARAM_BINDINGS["runtask"]
        taken = {"runtask": known | {"Tags", "CapacityProviderStrategy"}}
        monkeypatch.setattr(state_task_service_ecs, "_SUPPORTED_API_PARAM_BINDINGS", taken)
        engine.integration("arn:aws:states:::ecs:runTask.sync", self._run)
        engine.integration("arn:aws:states:::events:putEvents", self._put_events)
        engine.add_machine(MACHINE, DEFINITION_TEXT, {"Partition": "aws", "Bus": "headgate", **FUNCTIONS})

    def start(self, *answers: Answer, **fields: Any) -> Execution:
        """Run a request to its end; each attempt gets the next answer, the last one for ever."""
        self.answers = list(answers)
        execution = self.engine.start(MACHINE, REQUEST | fields, name="migrate-42")
        execution.wait()
        return execution

    def abort(self, **fields: Any) -> Execution:
        """Stop the execution of a request while its tasks run, and tell the stopper."""
        self.answers = [HANGS]
        execution = self.engine.start(MACHINE, REQUEST | fields, name="migrate-42")
        deadline = time.monotonic() + 5
        while len(self.ecs.tasks) < fields.get("count", 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        execution.stop("Wrong", "the wrong release")
        execution.wait()
        self.tell_stopper(execution)
        return execution

    def tell_stopper(self, execution: Execution) -> None:
        """What Step Functions' event about an ended execution does."""
        self.stopper.handler({"source": "aws.states", "detail": self.ended.detail(execution)}, _CONTEXT)

    def _run(self, parameters: dict[str, Any]) -> Any:
        self.runs.append(parameters)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == HANGS:
            arn, deadline = self.ecs.leave_running(parameters), time.monotonic() + 3
            while self.ecs.tasks[arn]["desiredStatus"] != "STOPPED" and time.monotonic() < deadline:
                time.sleep(0.01)
            return GOOD
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _put_events(self, arguments: dict[str, Any]) -> Any:
        [entry] = arguments["Entries"]
        answer = self.bus(entry)
        self.announced.append(entry)
        return answer


class _Context:
    function_name, memory_limit_in_mb, aws_request_id = "headgate", 512, "request-1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:headgate"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


_CONTEXT: Any = _Context()


def _served(module: ModuleType) -> Callable[[Any], Any]:
    return lambda event: module.handler(event, _CONTEXT)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"machine_{name}", ROOT / "functions" / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    with Engine(time_scale=0.01) as engine:
        app = App(engine, monkeypatch)
        yield app
    # THEN whatever happened, nothing runs on.
    assert [arn for arn, task in app.ecs.tasks.items() if task["desiredStatus"] != "STOPPED"] == []


def result_of(execution: Execution) -> dict[str, Any]:
    """What an execution says of its tasks, however it ended."""
    told: dict[str, Any] = execution.output or json.loads(execution.cause or "null")
    return told


def outcomes(execution: Execution) -> list[list[str]]:
    return [[attempt["outcome"] for attempt in task["attempts"]] for task in result_of(execution)["tasks"]]


# --- The good way ----------------------------------------------------------------------------------------------------


def test_a_task_that_exits_with_0_succeeds_with_its_exit_codes_and_durations(app: App) -> None:
    execution = app.start(GOOD)
    assert execution.status == "SUCCEEDED"
    result = execution.output
    assert (result["outcome"], result["id"], result["count"], result["succeeded"]) == ("succeeded", "migrate-42", 1, 1)
    [task] = result["tasks"]
    assert task["exitCodes"] == {"app": 0, "router": 0}
    [attempt] = task["attempts"]
    assert (attempt["startSeconds"], attempt["runSeconds"]) == (24.5, 60.25)
    assert [log["container"] for log in task["logs"]] == ["app"]
    assert execution.states() == [
        *("Plan", "Tasks", "Begin", "Run", "Classify", "Again?", "Ended"),
        *("Conclude", "Announce", "How did it end?", "Succeeded"),
    ]


def test_every_task_of_a_count_carries_its_number_and_the_execution_in_its_tags(app: App) -> None:
    execution = app.start(GOOD, count=3, tags={"team": "shop"})
    assert execution.output["succeeded"] == 3
    assert [task["number"] for task in execution.output["tasks"]] == [1, 2, 3]
    tags = [{tag["Key"]: tag["Value"] for tag in run["Tags"]} for run in app.runs]
    assert sorted(each["headgate:number"] for each in tags) == ["1", "2", "3"]
    assert {each["headgate:execution"] for each in tags} == {execution.arn}
    assert {each["team"] for each in tags} == {"shop"}
    assert "Count" not in app.runs[0]


def test_what_it_tells_the_bus_is_what_the_model_says(app: App) -> None:
    app.start(failed(INTERRUPTED), failed(BAD), GOOD, GOOD, count=2, **ON_SPOT, **TWICE, fallback="onDemand")
    [entry] = app.announced
    assert (entry["DetailType"], entry["EventBusName"], entry["Source"]) == ("Task Ended", "headgate", "headgate")
    assert entry["Detail"]["id"] == "migrate-42/task-ended"
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(entry["Detail"])


def test_a_definition_that_comes_with_the_request_is_registered_once_run_and_told(app: App) -> None:
    # GIVEN a family in which somebody else is making a revision just now
    app.ecs.busy = 1
    execution = app.start(failed(BAD), GOOD, taskDefinition={"register": NEW_DEFINITION}, count=2, **TWICE)
    assert execution.status == "SUCCEEDED"
    # THEN the planner was asked again, and one revision serves every task and attempt
    [arn] = app.ecs.registered
    assert arn.endswith(":task-definition/migrate:1")
    assert [run["TaskDefinition"] for run in app.runs] == [arn] * 3
    assert execution.output["taskDefinition"] == app.announced[0]["Detail"]["taskDefinition"] == arn


def test_nothing_is_registered_or_run_for_a_definition_that_ecs_would_refuse(app: App) -> None:
    execution = app.start(GOOD, taskDefinition={"register": NEW_DEFINITION | {"family": "billing"}})
    assert execution.error == "RequestRefused"
    assert result_of(execution)["reason"].startswith("taskDefinition.register.family: billing may not be registered")
    assert "taskDefinition" not in result_of(execution)
    assert (app.ecs.registered, app.runs) == ({}, [])


def test_a_bus_that_takes_nothing_changes_nothing_of_how_the_task_ended(app: App) -> None:
    def refuse(_: Any) -> Any:
        raise ServiceError("EventBridge.FailedEntry", "no")

    app.bus = refuse
    assert app.start(GOOD).status == "SUCCEEDED"
    assert app.announced == []


# --- Every bad way ---------------------------------------------------------------------------------------------------

ENDINGS: dict[str, tuple[Answer, str, str]] = {
    "a non-zero exit": (failed(BAD), "TaskExitedNonZero", "container app exited with 3"),
    "a failed pull": (
        failed(detail(container(code=None, reason=PULL), code=NOT_STARTED, reason=PULL)),
        "TaskCouldNotStart",
        PULL[:60],
    ),
    "a Spot interruption": (failed(INTERRUPTED), "TaskInterrupted", "Your Spot Task was interrupted."),
    "no place": (NO_PLACE, "TaskHadNoCapacity", "RESOURCE:MEMORY"),
    "no capacity": (ServiceError("ECS.AmazonECSException", CAPACITY), "TaskHadNoCapacity", CAPACITY),
    "no quota": (
        ServiceError("ECS.ClientException", "The requested CPU configuration is above your limit"),
        "TaskOverQuota",
        "The requested CPU configuration is above your limit",
    ),
    "memory": (
        failed(detail(container(code=137, reason=OUT_OF_MEMORY))),
        "TaskOutOfMemory",
        f"container app: {OUT_OF_MEMORY}",
    ),
    "an operator": (failed(detail(container(code=143), code="UserInitiated", reason="kim")), "TaskStopped", "kim"),
    "a refusal": (ServiceError("ECS.InvalidParameterException", "no"), "TaskCouldNotStart", "ECS.InvalidParameterEx"),
    "nothing to go by": (ServiceError("States.TaskFailed", "?"), "TaskEndUnknown", "States.TaskFailed: ?"),
}


@pytest.mark.parametrize("what", ENDINGS)
def test_the_execution_fails_with_a_name_that_says_how_the_task_ended(app: App, what: str) -> None:
    answer, error, reason = ENDINGS[what]
    execution = app.start(answer)
    assert (execution.status, execution.error) == ("FAILED", error)
    told = json.loads(execution.cause or "")
    assert told["reason"].startswith(reason)
    assert told["error"] == error
    assert app.announced[0]["Detail"]["outcome"] == told["outcome"]


def test_a_task_that_times_out_is_stopped_and_not_run_again(app: App) -> None:
    execution = app.start(HANGS, timeoutSeconds=5, retry={"attempts": 3})
    assert (execution.error, len(app.runs)) == ("TaskTimedOut", 1)
    [(arn, reason)] = app.ecs.stopped
    assert app.ecs.tasks[arn]["desiredStatus"] == "STOPPED"
    assert reason == "Headgate: attempt 1 of task 1 ended with States.Timeout"


def test_of_a_task_that_timed_out_its_exit_codes_and_last_lines_are_told_once_it_has_stopped(app: App) -> None:
    # GIVEN containers that take their time to shut down
    app.ecs.shutdown = 2
    execution = app.start(HANGS, timeoutSeconds=5)
    # THEN the machine waits for them
    assert execution.states().count("Let it stop") == 2
    [task] = result_of(execution)["tasks"]
    [attempt] = task["attempts"]
    [(arn, reason)] = app.ecs.stopped
    assert (task["outcome"], task["exitCodes"]) == ("timed-out", {"app": 143, "router": 143})
    assert (attempt["taskArn"], attempt["stopCode"], attempt["statusReason"]) == (arn, "UserInitiated", reason)
    [log] = task["logs"]
    assert log["lines"] == ["Traceback ...", "no such table"]
    assert arn.rsplit("/", 1)[-1] in log["link"]
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(app.announced[0]["Detail"])


def test_a_task_that_does_not_stop_is_waited_for_only_so_long_and_told_without_exit_codes(app: App) -> None:
    app.ecs.shutdown = 1000
    execution = app.start(HANGS, timeoutSeconds=5)
    assert execution.states().count("Let it stop") == LOOKS
    [task] = result_of(execution)["tasks"]
    assert (execution.error, task["exitCodes"]) == ("TaskTimedOut", {})
    assert task["attempts"][0]["taskArn"] == app.ecs.stopped[0][0]
    assert task["logs"][0]["lines"] == ["Traceback ...", "no such table"]


def test_a_timed_out_task_that_cannot_be_described_has_its_arn_and_its_log(app: App) -> None:
    def stop_and_break(_: Any) -> Any:
        [arn] = app.ecs.tasks
        app.ecs.stop_task("jobs", arn, "Headgate: time")
        app.ecs.broken = {"DescribeTasks"}
        return {"stopped": [arn]}

    app.engine.function("task_stopper", stop_and_break)
    [task] = result_of(app.start(HANGS, timeoutSeconds=5))["tasks"]
    assert (task["outcome"], task["attempts"][0]["taskArn"]) == ("timed-out", app.ecs.stopped[0][0])
    assert task["logs"][0]["lines"] == ["Traceback ...", "no such table"]


def test_the_last_lines_of_the_container_that_failed_are_told_with_a_link(app: App) -> None:
    [task] = result_of(app.start(failed(BAD)))["tasks"]
    [log] = task["logs"]
    assert (log["container"], log["lines"]) == ("app", ["Traceback ...", "no such table"])
    assert app.logs.asked == ["/ecs/migrate ecs/app/0b7c1a9e4f5d4a2f8c6e3d2b1a0f9e8d"]
    assert "logsV2:log-groups/log-group/$252Fecs$252Fmigrate/log-events/ecs$252Fapp$252F0b7c" in log["link"]


def test_of_several_tasks_the_first_that_did_not_succeed_says_how_it_ended(app: App) -> None:
    execution = app.start(GOOD, failed(BAD), count=3)
    told = result_of(execution)
    assert (execution.error, told["succeeded"]) == ("TaskExitedNonZero", 1)
    assert told["reason"].startswith(f"task {[task['outcome'] for task in told['tasks']].index('exited') + 1} of 3: ")


def test_a_request_that_cannot_be_carried_out_runs_nothing_and_says_why(app: App) -> None:
    execution = app.start(GOOD, launchType="FARGATE", placementStrategy=[{"type": "random"}])
    assert execution.error == "RequestRefused"
    told = json.loads(execution.cause or "")
    assert told["reason"].startswith("placementStrategy: random is not for Fargate")
    assert app.runs == []
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(app.announced[0]["Detail"])


def test_a_task_definition_that_is_not_there_is_refused(app: App) -> None:
    execution = app.start(GOOD, taskDefinition="migration")
    assert execution.error == "RequestRefused"
    assert result_of(execution)["reason"] == "taskDefinition: migration: Unable to describe task definition."


def test_a_planners_cause_that_was_cut_off_is_told_as_it_came(app: App) -> None:
    cause = '{"errorMessage":"a bug","errorType":"ValueError","stackTrace":["line 1'

    def fail(_: Any) -> Any:
        raise LambdaServiceError("ValueError", cause)

    app.engine.function("task_planner", fail)
    execution = app.start(GOOD)
    assert result_of(execution)["reason"] == cause
    assert [entry["DetailType"] for entry in app.announced] == ["Task Ended"]


def test_a_cause_that_would_be_too_long_keeps_how_each_task_ended(app: App) -> None:
    reasons = [container(f"c{n}", 1, "x" * 300) for n in range(10)]
    answer = failed(detail(*reasons, code="Whatever", reason="y" * 300))
    execution = app.start(answer, count=10, retry={"attempts": 4})
    told = json.loads(execution.cause or "")
    assert len(execution.cause or "") <= 32_768
    assert {tuple(task) for task in told["tasks"]} == {("number", "outcome", "reason", "exitCodes")}
    assert len(app.announced[0]["Detail"]["tasks"][0]["attempts"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("ends_well", [True, False])
def test_ten_tasks_of_ten_attempts_fit_however_much_ecs_says_of_them(app: App, *, ends_well: bool) -> None:
    tries = Counter[str]()

    def run(parameters: dict[str, Any]) -> Any:
        [number] = [tag["Value"] for tag in parameters["Tags"] if tag["Key"] == "headgate:number"]
        tries[number] += 1
        if ends_well and tries[number] == 10:
            return longest("漢") | {"Containers": [container(), container("router")]}
        raise failed(longest("漢"))

    app.engine.integration("arn:aws:states:::ecs:runTask.sync", run)
    app.engine.time_scale = 0.1  # Ten tasks at a time are slow, and must not time out.
    execution = app.start(count=10, retry={"attempts": 10}, backoff={"initialSeconds": 1, "rate": 1})
    # THEN the execution ends as its tasks did
    assert (execution.status, execution.error) == (
        ("SUCCEEDED", None) if ends_well else ("FAILED", "TaskExitedNonZero")
    )
    # AND the event has every attempt
    [entry] = app.announced
    assert [len(task["attempts"]) for task in entry["Detail"]["tasks"]] == [10] * 10
    assert len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()) < LARGEST_BYTES
    # AND a hook that waits for the execution gets its output beside its input.
    assert len(json.dumps(execution.output, ensure_ascii=False).encode()) < LARGEST_BYTES / 2


def test_a_plan_that_failed_under_a_reserved_name_fails_under_one_of_headgates(app: App) -> None:
    def time_out(_: Any) -> Any:
        raise LambdaServiceError("States.Timeout", "")

    app.engine.function("task_planner", time_out)
    execution = app.start(GOOD)
    assert (execution.status, execution.error) == ("FAILED", "TaskPlanFailed")
    [entry] = app.announced
    assert (entry["Detail"]["error"], entry["Detail"]["outcome"]) == ("TaskPlanFailed", "refused")
    assert "States.Timeout" in json.dumps(result_of(execution))


def test_results_that_are_too_large_are_announced_as_unknown_instead_of_nothing(app: App) -> None:
    ending = {"outcome": "succeeded", "exitCodes": {}, "reason": "x" * 100_000}
    verdict = {"again": False, "error": "", "ending": ending, "logs": []}
    app.engine.function("task_classifier", lambda _: verdict)
    execution = app.start(GOOD, count=2)
    assert (execution.status, execution.error) == ("FAILED", "TaskEndUnknown")
    [entry] = app.announced
    assert "States.DataLimitExceeded" in entry["Detail"]["reason"]


@pytest.mark.parametrize(
    "name", ["Lambda.CodeArtifactUserPendingException", "Lambda.ClientExecutionTimeoutException", "ServerException"]
)
@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_a_function_that_cannot_run_for_the_moment_is_called_again(app: App, function: str, name: str) -> None:
    calls, serve = Counter[str](), app.engine.functions[function]

    def fail_once(event: Any) -> Any:
        calls[function] += 1
        if calls[function] == 1:
            raise LambdaServiceError(name) if "." in name else type(name, (Exception,), {})()
        return serve(event)

    app.engine.function(function, fail_once)
    execution = app.start(NO_PLACE, GOOD, **TWICE)
    assert execution.status == "SUCCEEDED"
    assert calls[function] >= 2


# --- Again -----------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_run_again_after_a_wait_and_its_reason_is_kept(app: App) -> None:
    execution = app.start(failed(BAD), GOOD, **TWICE)
    assert execution.status == "SUCCEEDED"
    assert outcomes(execution) == [["exited", "succeeded"]]
    [task] = execution.output["tasks"]
    assert [attempt["attempt"] for attempt in task["attempts"]] == [1, 2]
    assert task["attempts"][0]["exitCodes"] == {"app": 3, "router": 0}
    assert execution.states().count("Wait") == 1


def test_the_attempts_are_limited(app: App) -> None:
    execution = app.start(failed(BAD), retry={"attempts": 3}, backoff={"initialSeconds": 1})
    assert outcomes(execution) == [["exited"] * 3]
    assert result_of(execution)["tasks"][0]["attempts"][-1]["next"] == "this was attempt 3 of 3"


def test_a_rule_ends_it_early(app: App) -> None:
    rules = [{"onExitCode": "3", "action": "EXIT"}]
    execution = app.start(failed(BAD), retry={"attempts": 5, "evaluateOnExit": rules})
    assert outcomes(execution) == [["exited"]]


def test_missing_capacity_is_waited_for_whatever_the_rules_say(app: App) -> None:
    rules = [{"onStatusReason": "*", "action": "EXIT"}]
    execution = app.start(NO_PLACE, GOOD, retry={"attempts": 2, "evaluateOnExit": rules})
    assert outcomes(execution) == [["no-capacity", "succeeded"]]


def test_after_a_spot_interruption_the_task_runs_on_demand_if_the_request_wants_it(app: App) -> None:
    execution = app.start(failed(INTERRUPTED), GOOD, **ON_SPOT, **TWICE, fallback="onDemand")
    assert outcomes(execution) == [["interrupted", "succeeded"]]
    first, second = app.runs
    assert first["CapacityProviderStrategy"] == [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}]
    assert "LaunchType" not in first
    assert second["LaunchType"] == "FARGATE"
    assert "CapacityProviderStrategy" not in second
    assert first["Tags"] == second["Tags"]
    assert [each["onDemand"] for each in execution.output["tasks"][0]["attempts"]] == [False, True]


BASE_AND_SPOT = ON_SPOT | {
    "capacityProviderStrategy": [{"provider": "FARGATE", "base": 1}, {"provider": "FARGATE_SPOT", "weight": 1}]
}


def test_a_count_is_dealt_out_over_the_providers(app: App) -> None:
    """Each task is a RunTask of its own, to which every base would be new."""
    assert app.start(GOOD, count=3, **BASE_AND_SPOT).status == "SUCCEEDED"
    ran_on = sorted(run["CapacityProviderStrategy"][0]["CapacityProvider"] for run in app.runs)
    assert ran_on == ["FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"]
    assert {len(run["CapacityProviderStrategy"]) for run in app.runs} == {1}


def test_a_task_of_a_count_falls_back_like_a_single_one(app: App) -> None:
    answers: list[Answer] = [failed(INTERRUPTED), failed(INTERRUPTED), GOOD]
    assert app.start(*answers, count=2, fallback="onDemand", **BASE_AND_SPOT, **TWICE).status == "SUCCEEDED"
    again = [run for run in app.runs if "CapacityProviderStrategy" not in run]
    assert [run["LaunchType"] for run in again] == ["FARGATE", "FARGATE"]


def test_each_task_of_a_count_is_run_again_on_its_own(app: App) -> None:
    execution = app.start(failed(BAD), GOOD, count=2, **TWICE)
    assert sorted(map(len, outcomes(execution))) == [1, 2]
    assert execution.output["succeeded"] == 2


def test_before_a_retry_what_the_attempt_left_running_is_stopped_and_nobody_elses(app: App) -> None:
    # GIVEN a task of somebody else's, and an attempt that Step Functions lost sight of
    other = app.ecs.leave_running({"Tags": [{"Key": "headgate:execution", "Value": "another"}]})

    def lose(parameters: dict[str, Any]) -> Any:
        app.runs.append(parameters)
        if len(app.runs) == 1:
            app.ecs.leave_running(parameters)
            raise ServiceError("ECS.ServerException", "lost sight of it")
        # THEN it is stopped before the next one starts
        assert len(app.ecs.stopped) == 1
        return GOOD

    app.engine.integration("arn:aws:states:::ecs:runTask.sync", lose)
    execution = app.start(GOOD, **TWICE)
    assert outcomes(execution) == [["unknown", "succeeded"]]
    # AND what is known of it is told
    [lost, _] = execution.output["tasks"][0]["attempts"]
    assert (lost["taskArn"], lost["exitCodes"]) == (app.ecs.stopped[0][0], {"app": 143, "router": 143})
    assert lost["reason"] == "ECS.ServerException: lost sight of it"
    assert app.ecs.tasks[other]["desiredStatus"] == "RUNNING"
    app.ecs.tasks[other]["desiredStatus"] = "STOPPED"


def test_nothing_is_run_again_while_it_may_still_be_running(app: App) -> None:
    app.ecs.broken = {"ListTasks"}
    execution = app.start(failed(BAD), **TWICE)
    assert outcomes(execution) == [["exited"]]
    assert (
        result_of(execution)["tasks"][0]["attempts"][0]["next"]
        == "the attempt may still be running and could not be stopped"
    )


def test_a_task_that_ended_after_its_answer_was_lost_is_found_among_the_stopped_ones(app: App) -> None:
    def lose(parameters: dict[str, Any]) -> Any:
        app.runs.append(parameters)
        arn = app.ecs.leave_running(parameters)
        for each in app.ecs.tasks[arn]["containers"]:
            each["exitCode"] = 0 if len(app.runs) == 2 else 3
        app.ecs.tasks[arn] |= {"desiredStatus": "STOPPED", "stopCode": EXITED}
        raise ServiceError("ECS.ServerException", "no answer")

    app.engine.integration("arn:aws:states:::ecs:runTask.sync", lose)
    # THEN each attempt is told by its own task, and the second, which did its work, is not run again
    execution = app.start(GOOD, retry={"attempts": 3}, backoff={"initialSeconds": 1})
    assert outcomes(execution) == [["exited", "succeeded"]]
    assert [each["taskArn"] for each in execution.output["tasks"][0]["attempts"]] == list(app.ecs.tasks)
    assert app.ecs.stopped == []


def test_a_refused_task_is_not_searched_among_the_stopped_ones(app: App) -> None:
    app.start(ServiceError("ECS.ClientException", "TaskDefinition not found."))
    assert app.ecs.listed == [{"startedBy": "AWS Step Functions"}]


THROTTLED = ServiceError(
    "ECS.InvalidParameterException",
    "Error retrieving subnet information for [subnet-0a1b2c3d]: Rate exceeded (ErrorCode: Throttling)",
)


def test_a_throttled_start_is_tried_again_and_does_not_count_as_an_attempt(app: App) -> None:
    rules = [{"onReason": "*", "action": "EXIT"}]
    execution = app.start(THROTTLED, THROTTLED, GOOD, retry={"attempts": 1, "evaluateOnExit": rules})
    assert (execution.status, len(app.runs)) == ("SUCCEEDED", 3)
    [task] = execution.output["tasks"]
    assert [(each["attempt"], each["outcome"]) for each in task["attempts"]] == [(1, "succeeded")]
    assert task["throttled"] == app.announced[0]["Detail"]["tasks"][0]["throttled"] == 2
    assert execution.states().count("Wait") == 2


def test_the_attempts_are_counted_on_after_a_throttled_start_and_on_the_same_capacity(app: App) -> None:
    answers: list[Answer] = [failed(INTERRUPTED), THROTTLED, failed(BAD), GOOD]
    execution = app.start(
        *answers, **ON_SPOT, retry={"attempts": 3}, backoff={"initialSeconds": 1}, fallback="onDemand"
    )
    assert outcomes(execution) == [["interrupted", "exited", "succeeded"]]
    assert [run.get("LaunchType") for run in app.runs] == [None, "FARGATE", "FARGATE", "FARGATE"]


def test_a_start_that_stays_throttled_fails_under_its_own_name_after_much_patience(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    execution = app.start(THROTTLED)
    assert (execution.error, len(app.runs)) == ("TaskThrottled", THROTTLES + 1)
    [task] = result_of(execution)["tasks"]
    [attempt] = task["attempts"]
    assert (task["throttled"], attempt["next"]) == (20, "ECS throttled its start 20 times before")
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(app.announced[0]["Detail"])


def test_a_throttled_start_that_left_a_task_behind_is_an_attempt(app: App) -> None:
    def lose(parameters: dict[str, Any]) -> Any:
        app.runs.append(parameters)
        app.ecs.leave_running(parameters)
        raise ServiceError("ECS.ServerException", "Service Unavailable. Please try again later.")

    app.engine.integration("arn:aws:states:::ecs:runTask.sync", lose)
    execution = app.start(GOOD)
    assert (execution.error, len(app.runs)) == ("TaskEndUnknown", 1)
    assert result_of(execution)["tasks"][0]["attempts"][0]["taskArn"] == app.ecs.stopped[0][0]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("Tasks provisioning capacity limit exceeded.", "no-capacity"),
        ("You've reached the limit on the number of vCPUs you can run concurrently", "over-quota"),
    ],
)
def test_over_quota_or_without_capacity_on_spot_the_task_runs_on_demand(app: App, said: str, outcome: str) -> None:
    refused = ServiceError("ECS.ClientException", said)
    execution = app.start(refused, GOOD, **ON_SPOT, **TWICE, fallback="onDemand")
    assert outcomes(execution) == [[outcome, "succeeded"]]
    assert [run.get("LaunchType") for run in app.runs] == [None, "FARGATE"]


def test_a_classifier_that_fails_leaves_the_end_unknown(app: App) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("broken")

    app.engine.function("task_classifier", fail)
    execution = app.start(GOOD, **TWICE)
    assert (execution.error, len(app.runs)) == ("TaskEndUnknown", 1)
    told = result_of(execution)
    assert told["reason"] == "its end could not be classified: ValueError"
    assert told["tasks"][0]["attempts"][0]["taskArn"] == ""
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(app.announced[0]["Detail"])


def test_a_classifier_that_fails_after_a_timeout_leaves_the_tasks_arn(app: App) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("broken")

    app.engine.function("task_classifier", fail)
    told = result_of(app.start(HANGS, timeoutSeconds=5))
    assert told["tasks"][0]["attempts"][0]["taskArn"] == app.ecs.stopped[0][0]
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(app.announced[0]["Detail"])


@pytest.mark.parametrize("stopper_works", [True, False])
def test_tasks_that_cannot_be_followed_any_more_are_all_stopped(app: App, *, stopper_works: bool) -> None:
    # GIVEN a task that runs on, and an answer of the classifier's that is none
    def leave(parameters: dict[str, Any]) -> Any:
        app.ecs.leave_running(parameters)
        return GOOD

    app.engine.integration("arn:aws:states:::ecs:runTask.sync", leave)
    nonsense = {"again": True, "onDemand": False, "waitSeconds": "soon", "ending": {}}
    app.engine.function("task_classifier", lambda _: nonsense)
    app.ecs.broken = set() if stopper_works else {"ListTasks"}
    execution = app.start(GOOD)
    assert execution.error == "TaskEndUnknown"
    assert execution.states()[-4:] == ["Stop all", "Announce", "How did it end?", "Failed"]
    assert len(app.ecs.stopped) == (1 if stopper_works else 0)
    for task in app.ecs.tasks.values():
        task["desiredStatus"] = "STOPPED"


@pytest.mark.parametrize(
    ("function", "way_out"),
    [("task_planner", "Announce"), ("task_classifier", "Ended"), ("task_stopper", "Classify")],
)
def test_a_programmers_error_is_caught_and_not_retried(app: App, function: str, way_out: str) -> None:
    # GIVEN a function that has a bug
    calls: list[Any] = []

    def fail(event: Any) -> Any:
        calls.append(event)
        raise RuntimeError("a bug")

    app.engine.function(function, fail)
    # WHEN a task runs, whose attempt fails so that it has to be stopped
    execution = app.start(NO_PLACE)
    # THEN the function is called once, and the execution ends and says so
    assert (execution.status, len(calls)) == ("FAILED", 1)
    assert way_out in execution.states()
    assert execution.states()[-3:] == ["Announce", "How did it end?", "Failed"]


def test_a_stopper_with_a_bug_is_called_once_for_tasks_that_cannot_be_followed(app: App) -> None:
    # GIVEN an answer of the classifier's that is none, and a stopper that has a bug
    calls: list[Any] = []

    def fail(event: Any) -> Any:
        calls.append(event)
        raise TypeError("a bug")

    nonsense = {"again": True, "onDemand": False, "waitSeconds": "soon", "ending": {}}
    app.engine.function("task_classifier", lambda _: nonsense)
    app.engine.function("task_stopper", fail)
    # WHEN the tasks cannot be followed any more, THEN Stop all is tried once
    execution = app.start(GOOD)
    assert (execution.error, len(calls)) == ("TaskEndUnknown", 1)
    assert execution.states()[-4:] == ["Stop all", "Announce", "How did it end?", "Failed"]


# --- An execution that was stopped ---------------------------------------------------------------------------------


def test_of_an_execution_that_was_stopped_the_end_of_its_tasks_is_announced(app: App) -> None:
    execution = app.abort(count=2)
    [entry] = app.ended.announced
    told = entry["Detail"]
    jsonschema.Draft202012Validator(schemas.schema_of("Task Ended")).validate(told)
    assert (entry["DetailType"], entry["EventBusName"], entry["Source"]) == ("Task Ended", "headgate", "headgate")
    assert (told["id"], told["taskId"], told["execution"]) == ("migrate-42/task-ended", "migrate-42", execution.arn)
    assert (told["outcome"], told["error"], told["at"]) == ("stopped", "TaskStopped", "2026-11-21T09:05:00.000Z")
    assert told["reason"] == "the execution was stopped: Wrong: the wrong release"
    assert (told["taskDefinition"], told["count"], told["succeeded"]) == (DEFINITION_ARN, 2, 0)
    assert [task["number"] for task in told["tasks"]] == [1, 2]
    assert {task["attempts"][0]["taskArn"] for task in told["tasks"]} == set(app.ecs.tasks)
    for task in told["tasks"]:
        assert (task["outcome"], task["exitCodes"]) == ("stopped", {"app": 143, "router": 143})
        assert task["logs"][0]["lines"] == ["Traceback ...", "no such table"]
    # AND told again, it is the same
    app.tell_stopper(execution)
    assert app.ended.announced == [entry, entry]


def test_what_the_machine_announced_is_not_announced_again(app: App) -> None:
    app.tell_stopper(app.start(failed(BAD)))
    assert (len(app.announced), app.ended.announced) == (1, [])


def test_every_lambda_task_retries_what_is_transient() -> None:
    for states in (STATES, INNER):
        for name, state in states.items():
            if state["Type"] == "Task" and "lambda" in state["Resource"]:
                assert state["Retry"][-1]["JitterStrategy"] == "FULL", name
