"""The stack machine: it does what its planner decides, tells how that went, and always answers CloudFormation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.stacks.task import attributes_of, reason_of
from tests.builders import ROOT
from tests.fakes.ecs import GOOD, cause, container, detail
from tests.statemachines.engine import Engine, ServiceError
from tests.statemachines.rollouts import (
    ALREADY_STARTED,
    LOOK_UP,
    NESTED,
    STACK,
    STATES_OF,
    STOP,
    Rollouts,
    error,
    machine_arn,
    parts,
    passed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.statemachines.engine import Execution

DEFINITION_TEXT = (ROOT / "statemachines" / "stack.asl.json").read_text("utf-8")
PUT_EVENTS = "arn:aws:states:::events:putEvents"
MACHINES = {
    "RolloutMachine": "headgate-rollout",
    "HooksMachine": "headgate-hooks",
    "EcsTaskMachine": "headgate-ecs-task",
}
FUNCTIONS = {name: name for name in ("StackPlanner", "StackResponder", "Planner")}
GIVEN = {"resource": "STACK#arn#CheckoutRollout", "requestId": "0a1b"}
SUCCESS = {"Status": "SUCCESS", "Reason": "promoted", "PhysicalResourceId": "alias", "Data": {"Version": "7"}}
RESPOND = {"do": "respond", "answer": SUCCESS}
REQUEST = {"id": "shop/CheckoutRollout/0a1b", "target": {"kind": "lambda-alias"}}
ROLL_OUT = {"do": "roll-out", "name": "rollout-1", "request": REQUEST, "seconds": 3300}
ASK = {"do": "ask", "name": "hooks-1", "input": {"stage": "beforeTraffic", "hooks": []}, "seconds": 600}
RUN_TASK = {"do": "run-task", "name": "task-1", "request": {"taskDefinition": "migrate"}, "seconds": 600}
CHILDREN: dict[str, dict[str, Any]] = {"roll-out": ROLL_OUT, "ask": ASK, "run-task": RUN_TASK}
MACHINE_OF = {"roll-out": "headgate-rollout", "ask": "headgate-hooks", "run-task": "headgate-ecs-task"}
SUCCEED = {"Type": "Succeed", "Output": {"outcome": "succeeded"}}
FAIL = {"Type": "Fail", "Error": "HookFailed", "Cause": "hook smoke failed"}
HANG = {"Type": "Wait", "Seconds": 36000, "End": True}
AFTER_SUCCESS: dict[str, Any] = {
    "roll-out": {"ended": True},
    "ask": {"answered": True},
    "run-task": {"task": {"outcome": "succeeded"}},
}


class App:
    """The machine, with a planner that decides what the test says, and machines that end as it says."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.decisions: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.planned: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.signals: list[dict[str, Any]] = []
        self.plan: Any = {"plan": {"rolloutId": REQUEST["id"]}, "request": REQUEST}
        self.answering: list[Exception] = []
        self.taken = "sent"
        engine.function("StackPlanner", self._decide)
        engine.function("Planner", self._plan)
        engine.function("StackResponder", self._answer)
        engine.integration(PUT_EVENTS, self._put_events)
        engine.integration(STOP, self._stop)
        engine.integration(LOOK_UP, self._look_up)
        machines = {name: machine_arn(machine) for name, machine in MACHINES.items()}
        engine.add_machine(STACK, DEFINITION_TEXT, {"Partition": "aws", "Bus": "headgate", **FUNCTIONS, **machines})
        for machine in MACHINES.values():
            self.child(machine, SUCCEED)

    def child(self, machine: str, state: dict[str, Any]) -> None:
        """Let a machine that this one runs consist of one state."""
        known = {each.name: each.arn for each in self.engine.backend.state_machines}
        if machine in known:
            self.engine.backend.delete_state_machine(known[machine])
        body = {"QueryLanguage": "JSONata", "StartAt": "End", "States": {"End": state}}
        self.engine.add_machine(machine, json.dumps(body))

    def run(self, *decisions: Any) -> Execution:
        """One request, whose planner decides this in turn, and then answers."""
        self.decisions = [*decisions, RESPOND]
        execution = self.engine.start(STACK, GIVEN, name=GIVEN["requestId"])
        execution.wait()
        return execution

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the planner was told at each call."""
        return [each["told"] for each in self.asked]

    @property
    def answer(self) -> dict[str, Any]:
        """The only answer that was sent."""
        [sent] = self.answers
        assert {name: sent[name] for name in GIVEN} == GIVEN
        given: dict[str, Any] = sent["answer"]
        return given

    def _decide(self, event: dict[str, Any]) -> Any:
        self.asked.append(event)
        decision = self.decisions[0] if isinstance(self.decisions[0], Exception) else self.decisions.pop(0)
        if isinstance(decision, Exception):
            raise decision
        return {"state": {"calls": len(self.asked)}, "next": decision}

    def _plan(self, event: dict[str, Any]) -> Any:
        self.planned.append(event)
        if isinstance(self.plan, Exception):
            raise self.plan
        return self.plan

    def _answer(self, event: dict[str, Any]) -> Any:
        if self.answering:
            raise self.answering.pop(0)
        self.answers.append(event)
        return {"answer": self.taken}

    def _put_events(self, arguments: dict[str, Any]) -> Any:
        self.signals.extend(arguments["Entries"])
        return {"FailedEntryCount": 0}

    def _stop(self, arguments: dict[str, Any]) -> Any:
        self.engine.client("stepfunctions").stop_execution(
            executionArn=arguments["ExecutionArn"], error=arguments["Error"], cause=arguments["Cause"]
        )
        return {}

    def _look_up(self, arguments: dict[str, Any]) -> Any:
        described = self.engine.client("stepfunctions").describe_execution(executionArn=arguments["ExecutionArn"])
        fields = ("status", "error", "cause", "output")
        return {name.capitalize(): described[name] for name in fields if described.get(name) is not None}


@pytest.fixture
def app() -> Iterator[App]:
    with Engine(time_scale=0.002) as engine:
        yield App(engine)


def refuse(_: Any) -> Any:
    raise ServiceError("StepFunctions.AccessDeniedException", "not authorized to perform: states:StartExecution")


def lose_the_start(app: App) -> None:
    """Let a child run to its end although the response of its start is lost."""
    starts: list[dict[str, Any]] = []

    def serve(arguments: dict[str, Any]) -> Any:
        starts.append(arguments)
        if len(starts) == 1:
            app.engine.start(arguments["StateMachineArn"], arguments["Input"], arguments["Name"]).wait()
            raise ServiceError("StepFunctions.SdkClientException", "the connection was reset")
        raise ServiceError(ALREADY_STARTED, f"Execution Already Exists: '{arguments['Name']}'")

    app.engine.integration(NESTED, serve)


def cut_off(app: App) -> None:
    """Let a child run to its end, and have the cause of its failure cut off because of its long input."""

    def serve(arguments: dict[str, Any]) -> Any:
        app.engine.start(arguments["StateMachineArn"], arguments["Input"], arguments["Name"]).wait()
        raise ServiceError("States.TaskFailed", json.dumps({"Input": "s3cr3t " * 10_000, "Status": "FAILED"})[:32_768])

    app.engine.integration(NESTED, serve)


# --- The loop --------------------------------------------------------------------------------------------------------


def test_an_answer_is_sent_and_the_execution_succeeds(app: App) -> None:
    execution = app.run()
    assert app.answer == SUCCESS
    assert (execution.status, execution.output) == ("SUCCEEDED", {"status": "SUCCESS"})
    assert execution.states() == ["Begin", "What next?", "Do it", "Respond", "Was it taken?", "Answered"]
    assert app.asked == [{**GIVEN, "state": {}, "told": {}}]


def test_a_failed_update_succeeds_as_an_execution_because_cloudformation_was_told(app: App) -> None:
    failed = {**SUCCESS, "Status": "FAILED", "Reason": "rolled back"}
    execution = app.run({"do": "respond", "answer": failed})
    assert (execution.status, execution.output, app.answer) == ("SUCCEEDED", {"status": "FAILED"}, failed)


def test_the_planner_gets_back_its_state_and_is_told_once_how_a_step_went(app: App) -> None:
    app.run({"do": "plan", "request": REQUEST}, {"do": "wait", "seconds": 1})
    assert [each["state"] for each in app.asked] == [{}, {"calls": 1}, {"calls": 2}]
    assert app.told == [{}, app.plan, {}]


def test_a_plan_is_made_as_the_rollout_machine_has_it_made(app: App) -> None:
    app.run({"do": "plan", "request": REQUEST})
    assert app.planned == [{"request": REQUEST, "executionName": GIVEN["requestId"]}]


def test_the_planner_is_told_why_a_request_is_refused(app: App) -> None:
    app.plan = error("RequestRefused", "target.alias: there is no alias live")
    app.run({"do": "plan", "request": REQUEST})
    failure = app.told[1]["failure"]
    assert failure["Error"] == "RequestRefused"
    assert json.loads(failure["Cause"])["errorMessage"] == "target.alias: there is no alias live"


def test_an_abort_signals_as_cloudformation_and_looks_again(app: App) -> None:
    abort = {"do": "abort", "rolloutId": REQUEST["id"], "signalId": "abort-0a1b", "reason": "the stack is deleted"}
    execution = app.run(abort)
    [entry] = app.signals
    assert entry == {
        "EventBusName": "headgate",
        "Source": "headgate.cloudformation",
        "DetailType": "Rollout Signal",
        "Detail": {
            "rolloutId": REQUEST["id"],
            "id": "abort-0a1b",
            "signal": "abort",
            "by": "cloudformation",
            "reason": "the stack is deleted",
        },
    }
    assert execution.states()[3:6] == ["Abort", "Let it roll back", "What next?"]
    assert app.told == [{}, {}]


def test_a_signal_that_the_bus_does_not_take_is_decided_anew(app: App) -> None:
    def full(_: Any) -> Any:
        raise ServiceError("EventBridge.FailedEntry", "InternalFailure")

    app.engine.integration(PUT_EVENTS, full)
    app.run({"do": "abort", "rolloutId": REQUEST["id"], "signalId": "abort-0a1b", "reason": "the stack is deleted"})
    assert (len(app.asked), app.answer) == (2, SUCCESS)


# --- Other machines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", CHILDREN)
def test_a_machine_runs_under_the_name_and_with_the_input_that_the_planner_gives(app: App, do: str) -> None:
    execution = app.run(CHILDREN[do])
    [child] = app.engine.executions(MACHINE_OF[do])
    given = CHILDREN[do].get("input") or CHILDREN[do]["request"]
    assert child.name == CHILDREN[do]["name"]
    assert child.input == {**given, "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": execution.arn}
    assert app.told == [{}, AFTER_SUCCESS[do]]


def test_how_a_rollout_ended_is_read_from_its_record(app: App) -> None:
    app.child("headgate-rollout", {"Type": "Fail", "Error": "RolledBack", "Cause": "errors"})
    app.run(ROLL_OUT)
    assert app.told[1]["ended"] is True
    assert app.told[1]["failure"]["Error"] == "States.TaskFailed"


@pytest.mark.parametrize("do", ["ask", "run-task"])
def test_a_failure_is_told_in_the_machines_own_words(app: App, do: str) -> None:
    app.child(MACHINE_OF[do], FAIL)
    app.run(CHILDREN[do])
    assert app.told[1] == {"failure": {"Error": "HookFailed", "Cause": "hook smoke failed"}}


@pytest.mark.parametrize("do", ["ask", "run-task"])
def test_a_failure_without_words_is_told_by_its_status(app: App, do: str) -> None:
    app.child(MACHINE_OF[do], {"Type": "Fail"})
    app.run(CHILDREN[do])
    assert app.told[1]["failure"] == {"Error": "States.TaskFailed", "Cause": "its execution is FAILED"}


@pytest.mark.parametrize("do", ["ask", "run-task"])
def test_hooks_and_tasks_that_take_too_long_are_stopped(app: App, do: str) -> None:
    app.child(MACHINE_OF[do], HANG)
    execution = app.run({**CHILDREN[do], "seconds": 30})
    [child] = app.engine.executions(MACHINE_OF[do])
    assert child.wait().status == "ABORTED"
    assert app.told[1]["failure"]["Error"] == "States.Timeout"
    assert "Stop it" in execution.states()


@pytest.mark.parametrize("do", ["ask", "run-task"])
def test_a_cause_that_is_cut_off_is_read_from_the_execution_and_nothing_is_stopped(app: App, do: str) -> None:
    app.child(MACHINE_OF[do], FAIL)
    cut_off(app)
    execution = app.run(CHILDREN[do])
    assert app.told[1] == {"failure": {"Error": "HookFailed", "Cause": "hook smoke failed"}}
    assert "Stop it" not in execution.states()


def test_what_cannot_be_stopped_is_told_all_the_same(app: App) -> None:
    def refuse_to_stop(_: Any) -> Any:
        raise ServiceError("Sfn.AccessDeniedException", "not authorized to perform: states:StopExecution")

    app.child("headgate-hooks", HANG)
    app.engine.integration(STOP, refuse_to_stop)
    app.run({**ASK, "seconds": 30})
    assert app.told[1]["failure"]["Error"] == "States.Timeout"


def test_a_rollout_that_takes_too_long_is_not_stopped_because_it_must_roll_back(app: App) -> None:
    app.child("headgate-rollout", HANG)
    stopped: list[Any] = []
    app.engine.integration(STOP, stopped.append)
    app.run({**ROLL_OUT, "seconds": 30})
    assert (stopped, app.told[1]["ended"], app.told[1]["failure"]["Error"]) == ([], True, "States.Timeout")


@pytest.mark.parametrize("do", CHILDREN)
def test_a_machine_that_may_not_be_started_is_told_with_the_reason(app: App, do: str) -> None:
    app.engine.integration(NESTED, refuse)
    app.run(CHILDREN[do])
    assert app.told[1]["failure"] == {
        "Error": "StepFunctions.AccessDeniedException",
        "Cause": "not authorized to perform: states:StartExecution",
    }
    assert app.answer == SUCCESS


@pytest.mark.parametrize("do", CHILDREN)
def test_a_start_whose_response_is_lost_has_the_same_effect(app: App, do: str) -> None:
    lose_the_start(app)
    app.run(CHILDREN[do])
    assert len(app.engine.executions(MACHINE_OF[do])) == 1
    assert app.told[1] == AFTER_SUCCESS[do]


@pytest.mark.parametrize("do", ["ask", "run-task"])
def test_a_failure_whose_start_was_lost_is_told_in_the_machines_own_words(app: App, do: str) -> None:
    app.child(MACHINE_OF[do], FAIL)
    lose_the_start(app)
    app.run(CHILDREN[do])
    assert app.told[1] == {"failure": {"Error": "HookFailed", "Cause": "hook smoke failed"}}


def test_an_end_that_cannot_be_read_is_a_failure(app: App) -> None:
    def refuse_to_describe(_: Any) -> Any:
        raise ServiceError("Sfn.AccessDeniedException", "not authorized to perform: states:DescribeExecution")

    lose_the_start(app)
    app.engine.integration(LOOK_UP, refuse_to_describe)
    app.run(ASK)
    assert app.told[1]["failure"]["Error"] == "Sfn.AccessDeniedException"


# --- Tasks, by the real machine of ECS tasks ---


def told_of_a_task(*ends: Any, **fields: Any) -> dict[str, Any]:
    """What the planner is told of a task whose containers end like this."""
    with Rollouts() as world:
        request = {**world.task_hook(*ends)["ecsTask"], "id": "shop/Migration/0a1b", **fields}
        known = {name: machine_arn(machine) for name, machine in MACHINES.items()}
        world.engine.add_machine(STACK, DEFINITION_TEXT, {"Partition": "aws", "Bus": "headgate", **FUNCTIONS, **known})
        decisions = [{**RUN_TASK, "request": request}, RESPOND]
        told: list[dict[str, Any]] = []

        def decide(event: dict[str, Any]) -> Any:
            told.append(event["told"])
            return {"state": {}, "next": decisions.pop(0)}

        world.engine.function("StackPlanner", decide)
        world.engine.function("StackResponder", lambda _: {"answer": "sent"})
        world.engine.start(STACK, GIVEN).wait()
        return told[1]


def test_a_task_that_succeeds_is_told_with_its_arn_and_its_definition() -> None:
    attributes = attributes_of(told_of_a_task(GOOD)["task"])
    assert (attributes["Outcome"], attributes["TaskDefinition"].endswith(":task-definition/migrate:3")) == (
        "succeeded",
        True,
    )
    assert ":task/jobs/" in attributes["TaskArn"]
    assert attributes["TaskArns"] == attributes["TaskArn"]


def test_a_task_that_fails_is_told_with_its_exit_codes() -> None:
    failed = ServiceError("States.TaskFailed", cause(detail(container(code=3), container("router"))))
    failure = told_of_a_task(failed)["failure"]
    assert failure["Error"] == "TaskExitedNonZero"
    reason = reason_of(failure)
    assert reason == "the task did not succeed (exited): container app exited with 3; exit codes: app 3, router 0"


def test_a_task_that_is_refused_is_told_with_the_field() -> None:
    reason = reason_of(told_of_a_task(GOOD, overrides={"containers": {"web": {"cpu": 64}}})["failure"])
    assert reason.startswith("the task did not succeed (refused): overrides.containers.web: ")


# --- The answer is sent whatever happens -----------------------------------------------------------------------------


def test_a_planner_that_fails_for_a_while_is_asked_again(app: App) -> None:
    failures = [error("Contended"), error("Lambda.TooManyRequestsException"), error("Runtime.ExitError")]

    def decide(event: dict[str, Any]) -> Any:
        if failures:
            raise failures.pop(0)
        return {"state": {}, "next": RESPOND}

    app.engine.function("StackPlanner", decide)
    app.run()
    assert app.answer == SUCCESS


@pytest.mark.parametrize(
    "name", ["KeyError", "Lambda.AccessDeniedException", "ClientError", "States.DataLimitExceeded"]
)
def test_a_planner_that_fails_for_good_fails_the_update_and_not_the_answer(app: App, name: str) -> None:
    execution = app.run(error(name, "secret"))
    assert app.answer == {
        "Status": "FAILED",
        "Reason": f"Headgate could not decide what to do: {name}. See the execution {execution.arn}",
    }
    assert execution.status == "SUCCEEDED"


def test_a_step_of_a_later_version_fails_the_update_and_not_the_answer(app: App) -> None:
    execution = app.run({"do": "dance"})
    assert app.answer == {
        "Status": "FAILED",
        "Reason": "Headgate was upgraded in the meantime: there is no step dance. See the execution " + execution.arn,
    }


def test_an_answer_that_cannot_be_sent_for_a_while_is_sent_again(app: App) -> None:
    app.answering = [error("Transient"), error("Sandbox.Timedout"), *([error("ConnectionError")] * 12)]
    assert app.run().status == "SUCCEEDED"
    assert app.answer == SUCCESS


def test_an_answer_that_cannot_be_sent_at_all_fails_the_execution_by_the_name_that_raises_the_alarm(app: App) -> None:
    app.answering = [error("AttributeError", "https://bucket.example/?X-Amz-Signature=secret")]
    execution = app.run()
    assert (execution.status, execution.error) == ("FAILED", "Unanswered")
    assert execution.cause == "AttributeError: the answer SUCCESS could not be sent to CloudFormation"


def test_an_answer_that_s3_refuses_is_one_that_could_not_be_sent(app: App) -> None:
    app.taken = "rejected"
    execution = app.run()
    assert (execution.status, execution.error) == ("FAILED", "Unanswered")
    assert execution.cause == (
        "S3 refused it, see the log of stack_responder: the answer SUCCESS could not be sent to CloudFormation"
    )


# --- Everything is taken ---------------------------------------------------------------------------------------------


def nothing(_: App) -> None:
    """Everything works."""


def no_bus(app: App) -> None:
    app.engine.integration(PUT_EVENTS, denied("EventBridge.AccessDeniedException"))


def hanging(app: App) -> None:
    app.child("headgate-hooks", HANG)
    app.engine.integration(STOP, denied("Sfn.AccessDeniedException"))


def failing(app: App) -> None:
    for machine in MACHINES.values():
        app.child(machine, FAIL)
    app.plan = error("RequestRefused")


def lost(app: App) -> None:
    lose_the_start(app)
    app.engine.integration(LOOK_UP, denied("Sfn.AccessDeniedException"))


def unanswered(app: App) -> None:
    app.answering = [error("AttributeError")]


def refused(app: App) -> None:
    app.taken = "rejected"


def denied(name: str) -> Any:
    """A service that refuses under this name."""

    def deny(_: Any) -> Any:
        raise ServiceError(name, "not authorized")

    return deny


PLAN = {"do": "plan", "request": REQUEST}
ABORT = {"do": "abort", "rolloutId": "a", "signalId": "b", "reason": "c"}
WALKS: list[tuple[Callable[[App], None], list[Any]]] = [
    (nothing, [PLAN, ROLL_OUT, ASK, RUN_TASK, ABORT, {"do": "wait", "seconds": 1}]),
    (failing, [PLAN, ROLL_OUT, ASK, RUN_TASK, {"do": "dance"}]),
    (hanging, [{**ASK, "seconds": 30}]),
    *((lost, [child]) for child in CHILDREN.values()),
    (cut_off, [ASK]),
    (no_bus, [ABORT]),
    (unanswered, []),
    (refused, []),
    (nothing, [error("KeyError")]),
]


def test_every_state_rule_and_catcher_of_the_stack_machine_is_taken() -> None:
    taken: set[str] = set()
    for prepare, decisions in WALKS:
        with Engine(time_scale=0.002) as engine:
            app = App(engine)
            prepare(app)
            taken |= passed(STACK, app.run(*decisions))
    assert sorted(parts(STACK, {STACK: DEFINITION_TEXT}) - taken) == []
    assert set(STATES_OF[STACK]) <= taken
