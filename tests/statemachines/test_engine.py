"""The harness itself: what it fills in of AWS, shown on definitions of a few states."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField

from tests.statemachines.engine import Engine, LambdaServiceError, Result, ServiceError, evaluate_jsonata

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSIENT = ["Lambda.ServiceException", "Lambda.TooManyRequestsException"]
INVOKE = "arn:aws:states:::lambda:invoke"
CALLBACK = "arn:aws:states:::lambda:invoke.waitForTaskToken"
NESTED = "arn:aws:states:::states:startExecution.sync:2"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(time_scale=0.02) as engine:
        yield engine


def machine(states: dict[str, Any], **fields: Any) -> str:
    head = {"QueryLanguage": "JSONata", "StartAt": next(iter(states))}
    return json.dumps(head | fields | {"States": states})


def invoke(
    function: str, payload: Any = "{% $states.input %}", resource: str = INVOKE, **fields: Any
) -> dict[str, Any]:
    task = {"Type": "Task", "Resource": resource, "Arguments": {"FunctionName": function, "Payload": payload}}
    return task | ({} if "Next" in fields else {"End": True}) | fields


def bake(**fields: Any) -> dict[str, Any]:
    return invoke("Baker", {"token": "{% $states.context.Task.Token %}"}, CALLBACK, **fields)


def run(engine: Engine, definition: str, given: dict[str, Any] | None = None, **substitutions: str) -> Result:
    engine.add_machine("Machine", definition, substitutions)
    return engine.start("Machine", given or {}).wait()


def test_a_task_passes_its_payload_to_the_function_and_its_answer_on(engine: Engine) -> None:
    engine.function("Shifter", lambda event: {"weight": event["weight"] + 5})
    engine.add_machine("Machine", machine({"Shift": invoke("${ShifterArn}")}), {"ShifterArn": "Shifter"})
    execution = engine.start("Machine", {"weight": 10}, name="first")
    assert execution.wait() == Result(
        "SUCCEEDED", {"StatusCode": 200, "Payload": {"weight": 15}, "ExecutedVersion": "$LATEST"}
    )
    assert execution.arn.endswith(":execution:Machine:first")
    assert execution.states() == ["Shift"]


def test_a_function_is_found_by_its_arn_and_by_its_qualifier(engine: Engine) -> None:
    engine.function("Shifter", lambda _: "any")
    engine.function("Shifter:7", lambda _: "seven")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:Shifter"
    output = "{% [$states.input, {'by': $states.result.Payload, 'version': $states.result.ExecutedVersion}] %}"
    states = {
        "A": invoke(arn, Output=output, Next="B"),
        "B": invoke(f"{arn}:7", Output=output, Next="C"),
        "C": invoke("Shifter:7", Output=output),
    }
    answers = run(engine, machine(states)).output
    assert answers[1:] == [
        {"by": "any", "version": "$LATEST"},
        {"by": "seven", "version": "7"},
        {"by": "seven", "version": "7"},
    ]


def test_a_missing_substitution_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="no substitution for ShifterArn"):
        engine.add_machine("Machine", machine({"Shift": invoke("${ShifterArn}")}))


def test_an_unknown_function_fails_as_on_aws(engine: Engine) -> None:
    result = run(engine, machine({"Shift": invoke("Nobody")}))
    assert (result.status, result.error) == ("FAILED", "Lambda.ResourceNotFoundException")


def test_an_exception_in_a_function_names_its_class_and_has_a_json_cause(engine: Engine) -> None:
    def shift(event: Any) -> None:
        raise PermissionError("not yours")

    engine.function("Shifter", shift)
    result = run(engine, machine({"Shift": invoke("Shifter")}))
    assert result.error == "PermissionError"
    cause = json.loads(result.cause or "")
    assert (cause["errorType"], cause["errorMessage"]) == ("PermissionError", "not yours")


def test_an_answer_that_is_not_json_is_the_functions_failure(engine: Engine) -> None:
    engine.function("Shifter", lambda _: object())
    assert run(engine, machine({"Shift": invoke("Shifter")})).error == "Runtime.MarshalError"


def test_retry_runs_the_function_again_until_it_answers(engine: Engine) -> None:
    failures = [LambdaServiceError("Lambda.TooManyRequestsException", "slow down")] * 2

    def shift(event: Any) -> Any:
        if failures:
            raise failures.pop()
        return event

    retry = [
        {
            "ErrorEquals": TRANSIENT,
            "IntervalSeconds": 1,
            "MaxAttempts": 3,
            "BackoffRate": 2,
            "MaxDelaySeconds": 5,
            "JitterStrategy": "FULL",
        }
    ]
    count = {"retries": "{% $states.context.State.RetryCount %}"}
    engine.function("Shifter", shift)
    result = run(
        engine, machine({"Shift": invoke("Shifter", count, Retry=retry, Output="{% $states.result.Payload %}")})
    )
    assert result == Result("SUCCEEDED", {"retries": 2})


def test_retry_gives_up_after_its_attempts(engine: Engine) -> None:
    calls = []

    def shift(event: Any) -> None:
        calls.append(event)
        raise LambdaServiceError("Lambda.ServiceException")

    engine.function("Shifter", shift)
    retry = [{"ErrorEquals": TRANSIENT, "IntervalSeconds": 1, "MaxAttempts": 2}]
    assert run(engine, machine({"Shift": invoke("Shifter", Retry=retry)})).error == "Lambda.ServiceException"
    assert len(calls) == 3


def test_the_intervals_of_retry_are_scaled(engine: Engine) -> None:
    moments = []

    def shift(event: Any) -> None:
        moments.append(time.monotonic())
        if len(moments) < 3:
            raise LambdaServiceError("Lambda.ServiceException")

    engine.function("Shifter", shift)
    retry = [{"ErrorEquals": TRANSIENT, "IntervalSeconds": 5, "BackoffRate": 2}]
    assert run(engine, machine({"Shift": invoke("Shifter", Retry=retry)})).status == "SUCCEEDED"
    first, second = moments[1] - moments[0], moments[2] - moments[1]
    assert 0.1 <= first < 2
    assert 0.2 <= second < 4


def test_catch_assigns_and_outputs_from_the_error(engine: Engine) -> None:
    def shift(event: Any) -> None:
        raise RuntimeError('a "quoted"\nreason')

    catch = [
        {"ErrorEquals": ["PermissionError"], "Next": "Refused"},
        {
            "ErrorEquals": ["States.ALL"],
            "Next": "Rolled back",
            "Assign": {"reason": "{% $states.errorOutput.Error %}", "kept": "{% $states.input.kept %}"},
            "Output": {"cause": "{% $parse($states.errorOutput.Cause).errorMessage %}"},
        },
    ]
    states = {
        "Shift": invoke("Shifter", Catch=catch),
        "Refused": {"Type": "Fail", "Error": "Refused", "Cause": "no"},
        "Rolled back": {
            "Type": "Succeed",
            "Output": {"cause": "{% $states.input.cause %}", "reason": "{% $reason %}", "kept": "{% $kept %}"},
        },
    }
    engine.function("Shifter", shift)
    result = run(engine, machine(states), {"kept": 'say "it"'})
    assert result.output == {"cause": 'a "quoted"\nreason', "reason": "RuntimeError", "kept": 'say "it"'}


def test_catch_may_lead_back_to_its_own_state(engine: Engine) -> None:
    answers = iter([RuntimeError("once"), "done"])

    def shift(event: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    engine.function("Shifter", shift)
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Shift"}]
    engine.add_machine(
        "Machine", machine({"Shift": invoke("Shifter", Catch=catch, Next="Done"), "Done": {"Type": "Succeed"}})
    )
    execution = engine.start("Machine", {})
    assert execution.wait().status == "SUCCEEDED"
    assert execution.states() == ["Shift", "Shift", "Done"]


@pytest.mark.parametrize(
    ("error", "wildcard", "caught"),
    [
        ("Anything", "States.ALL", True),
        ("States.Timeout", "States.ALL", True),
        ("States.Runtime", "States.ALL", False),
        ("States.DataLimitExceeded", "States.ALL", False),
        ("Anything", "States.TaskFailed", True),
        ("States.QueryEvaluationError", "States.TaskFailed", True),
        ("States.Timeout", "States.TaskFailed", False),
    ],
)
def test_wildcards_match_as_on_aws(engine: Engine, error: str, wildcard: str, *, caught: bool) -> None:
    def shift(event: Any) -> None:
        raise LambdaServiceError(error)

    engine.function("Shifter", shift)
    states = {
        "Shift": invoke("Shifter", Catch=[{"ErrorEquals": [wildcard], "Next": "Caught"}]),
        "Caught": {"Type": "Succeed"},
    }
    assert run(engine, machine(states)).status == ("SUCCEEDED" if caught else "FAILED")


def test_a_callback_ends_when_its_token_is_answered(engine: Engine) -> None:
    tokens = []
    engine.function("Baker", lambda event: tokens.append(event["token"]))
    engine.add_machine("Machine", machine({"Bake": bake(TimeoutSeconds=3600)}))
    execution = engine.start("Machine", {})

    def signal() -> None:
        while not tokens:
            time.sleep(0.001)
        engine.client("stepfunctions").send_task_success(taskToken=tokens[0], output='{"signal": "abort"}')

    threading.Thread(target=signal).start()
    assert execution.wait() == Result("SUCCEEDED", {"signal": "abort"})


def test_a_callback_may_be_answered_from_within_its_own_function(engine: Engine) -> None:
    def answer(event: Any) -> None:
        engine.client("stepfunctions").send_task_success(taskToken=event["token"], output="null")
        raise RuntimeError("too late to matter")

    engine.function("Baker", answer)
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=3600)})) == Result("SUCCEEDED", None)


def test_an_answered_callback_does_not_wait_for_its_function(engine: Engine) -> None:
    release = threading.Event()

    def answer(event: Any) -> None:
        engine.client("stepfunctions").send_task_success(taskToken=event["token"], output='"first"')
        release.wait(10)

    engine.function("Baker", answer)
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=3600)})).output == "first"
    release.set()


def test_a_callback_fails_with_the_error_and_cause_it_is_sent(engine: Engine) -> None:
    def answer(event: Any) -> None:
        client = engine.client("stepfunctions")
        client.send_task_failure(taskToken=event["token"], error="States.Timeout", cause="as if")

    engine.function("Baker", answer)
    result = run(engine, machine({"Bake": bake(TimeoutSeconds=3600)}))
    assert (result.error, result.cause) == ("States.Timeout", "as if")


def test_a_failed_invocation_fails_the_callback(engine: Engine) -> None:
    def answer(event: Any) -> None:
        raise RuntimeError("no")

    engine.function("Baker", answer)
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=3600)})).error == "RuntimeError"


def test_silence_until_an_expressions_timeout_is_states_timeout(engine: Engine) -> None:
    engine.function("Baker", lambda _: None)
    states = {
        "Plan": {"Type": "Pass", "Assign": {"bakeSeconds": "{% $states.input.bakeSeconds %}"}, "Next": "Bake"},
        "Bake": bake(
            TimeoutSeconds="{% $max([1, $ceil($bakeSeconds * 1.5)]) %}",
            Catch=[{"ErrorEquals": ["States.Timeout"], "Next": "Judge"}],
        ),
        "Judge": {"Type": "Succeed", "Output": "{% $states.input %}"},
    }
    started = time.monotonic()
    result = run(engine, machine(states), {"bakeSeconds": 10})
    assert 0.3 <= time.monotonic() - started < 5
    assert result.output == {"Error": "States.Timeout", "Cause": ""}


@pytest.mark.parametrize("seconds", ["{% 0.5 %}", "{% 0 %}", "{% '5' %}", "{% true %}"])
def test_a_timeout_must_be_a_whole_number_of_seconds(engine: Engine, seconds: str) -> None:
    engine.function("Baker", lambda _: None)
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=seconds)})).error == "States.QueryEvaluationError"


def test_a_functions_timeout_is_scaled_and_does_not_wait_for_the_function(engine: Engine) -> None:
    release = threading.Event()
    engine.function("Shifter", lambda _: release.wait(10))
    started = time.monotonic()
    result = run(engine, machine({"Shift": invoke("Shifter", TimeoutSeconds=10)}))
    assert 0.2 <= time.monotonic() - started < 5
    assert result.error == "States.Timeout"
    release.set()


def test_wait_is_scaled(engine: Engine) -> None:
    started = time.monotonic()
    states = {"Wait": {"Type": "Wait", "Seconds": "{% $states.input.seconds %}", "End": True}}
    assert run(engine, machine(states), {"seconds": 10}).status == "SUCCEEDED"
    assert 0.2 <= time.monotonic() - started < 5


def test_the_machines_own_timeout_ends_the_execution(engine: Engine) -> None:
    engine.function("Baker", lambda _: None)
    result = run(engine, machine({"Bake": bake(TimeoutSeconds=3600)}, TimeoutSeconds=5))
    assert (result.status, result.error) == ("TIMED_OUT", "States.Timeout")


def test_each_attempt_of_a_callback_has_a_token_of_its_own(engine: Engine) -> None:
    tokens: list[str] = []

    def answer(event: Any) -> None:
        tokens.append(event["token"])
        if len(tokens) < 3:
            raise LambdaServiceError("Lambda.ServiceException")
        client = engine.client("stepfunctions")
        for token in tokens[:2]:
            with pytest.raises(client.exceptions.TaskTimedOut):
                client.send_task_success(taskToken=token, output='"stale"')
        client.send_task_success(taskToken=tokens[2], output='"fresh"')

    engine.function("Baker", answer)
    retry = [{"ErrorEquals": TRANSIENT, "IntervalSeconds": 1}]
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=3600, Retry=retry)})).output == "fresh"
    assert len(set(tokens)) == 3


def test_a_token_is_worth_nothing_once_its_task_is_over(engine: Engine) -> None:
    tokens = []
    engine.function("Baker", lambda event: tokens.append(event["token"]))
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=1)})).error == "States.Timeout"
    client = engine.client("stepfunctions")
    with pytest.raises(client.exceptions.TaskTimedOut):
        client.send_task_success(taskToken=tokens[0], output="{}")
    with pytest.raises(client.exceptions.InvalidToken):
        client.send_task_success(taskToken="made up", output="{}")


def test_a_token_takes_one_answer_and_only_json(engine: Engine) -> None:
    problems, tried = [], threading.Event()

    def answer(event: Any) -> None:
        client = engine.client("stepfunctions")
        for output in ("not json", '"first"', '"second"'):
            try:
                client.send_task_success(taskToken=event["token"], output=output)
            except ClientError as error:
                problems.append(error.response["Error"]["Code"])
        tried.set()

    engine.function("Baker", answer)
    assert run(engine, machine({"Bake": bake(TimeoutSeconds=3600)})).output == "first"
    assert tried.wait(10)
    assert problems == ["InvalidOutput", "TaskTimedOut"]


def test_heartbeats_keep_a_callback_alive_until_they_stop(engine: Engine) -> None:
    beats = []

    def answer(event: Any) -> None:
        for _ in range(4):
            time.sleep(0.1)
            beats.append(engine.client("stepfunctions").send_task_heartbeat(taskToken=event["token"]))

    engine.function("Baker", answer)
    result = run(engine, machine({"Bake": bake(TimeoutSeconds=3600, HeartbeatSeconds=10)}))
    assert (result.error, len(beats)) == ("States.Timeout", 4)


def test_a_nested_execution_gives_its_output_parsed(engine: Engine) -> None:
    engine.add_machine(
        "Child", machine({"Double": {"Type": "Pass", "Output": "{% $states.input.n * 2 %}", "End": True}})
    )
    task = {
        "Type": "Task",
        "Resource": NESTED,
        "Arguments": {"StateMachineArn": "${ChildArn}", "Input": {"n": "{% $states.input.n %}"}, "Name": "child"},
        "Output": {"double": "{% $states.result.Output %}", "input": "{% $states.result.Input %}"},
        "End": True,
    }
    child = "arn:aws:states:us-east-1:123456789012:stateMachine:Child"
    result = run(engine, machine({"Hook": task}), {"n": 21}, ChildArn=child)
    assert result == Result("SUCCEEDED", {"double": 42, "input": {"n": 21}})
    assert [each.name for each in engine.executions("Child")] == ["child"]


def test_a_nested_failure_is_states_task_failed_with_the_description_as_its_cause(engine: Engine) -> None:
    child = engine.add_machine("Child", machine({"No": {"Type": "Fail", "Error": "Refused", "Cause": "because"}}))
    task = {"Type": "Task", "Resource": NESTED, "Arguments": {"StateMachineArn": child, "Input": {}}, "End": True}
    result = run(engine, machine({"Hook": task}))
    assert result.error == "States.TaskFailed"
    cause = json.loads(result.cause or "")
    assert (cause["Status"], cause["Error"], cause["Cause"]) == ("FAILED", "Refused", "because")


def test_a_nested_execution_is_stopped_with_the_task_that_waits_for_it(engine: Engine) -> None:
    child = engine.add_machine("Child", machine({"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}))
    task = {
        "Type": "Task",
        "Resource": NESTED,
        "Arguments": {"StateMachineArn": child, "Input": {}},
        "TimeoutSeconds": 5,
        "End": True,
    }
    assert run(engine, machine({"Hook": task})).error == "States.Timeout"
    (nested,) = engine.executions("Child")
    assert nested.wait(2).status == "ABORTED"


def test_a_nested_machine_that_does_not_exist_is_an_error_of_the_service(engine: Engine) -> None:
    child = "arn:aws:states:us-east-1:123456789012:stateMachine:Nobody"
    task = {"Type": "Task", "Resource": NESTED, "Arguments": {"StateMachineArn": child, "Input": {}}, "End": True}
    assert run(engine, machine({"Hook": task})).error == "StepFunctions.StateMachineDoesNotExistException"


def test_choice_takes_the_first_condition_that_is_true(engine: Engine) -> None:
    states = {
        "Verdict": {
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $states.input.errors > 5 %}", "Next": "Roll back", "Assign": {"why": "errors"}},
                {"Condition": "{% $states.input.step = 'last' %}", "Next": "Promote", "Output": {"weight": 100}},
            ],
            "Default": "Promote",
            "Assign": {"why": "default"},
            "Output": {"weight": 50},
        },
        "Roll back": {"Type": "Succeed", "Output": "{% $why %}"},
        "Promote": {"Type": "Succeed"},
    }
    engine.add_machine("Machine", machine(states))
    assert engine.start("Machine", {"errors": 6}).wait().output == "errors"
    # The second rule leads where Default leads, and is not taken for it.
    assert engine.start("Machine", {"errors": 0, "step": "last"}).wait().output == {"weight": 100}
    assert engine.start("Machine", {"errors": 0, "step": "first"}).wait().output == {"weight": 50}


@pytest.mark.parametrize("condition", ["{% 'yes' %}", "{% $states.input.nothing %}"])
def test_a_condition_must_be_true_or_false(engine: Engine, condition: str) -> None:
    states = {
        "Verdict": {"Type": "Choice", "Choices": [{"Condition": condition, "Next": "Done"}], "Default": "Done"},
        "Done": {"Type": "Succeed"},
    }
    assert run(engine, machine(states)).error == "States.QueryEvaluationError"


def test_assigned_values_are_seen_from_the_next_state_on(engine: Engine) -> None:
    engine.function("Shifter", lambda _: {"weight": 10})
    states = {
        "Plan": {"Type": "Pass", "Assign": {"weight": 1}, "Next": "Shift"},
        "Shift": invoke(
            "Shifter",
            Assign={"weight": "{% $states.result.Payload.weight %}", "before": "{% $weight %}"},
            Output={"seen": "{% $weight %}"},
            Next="Settle",
        ),
        "Settle": {
            "Type": "Succeed",
            "Output": {"seen": "{% $states.input.seen %}", "now": "{% $weight %}", "before": "{% $before %}"},
        },
    }
    assert run(engine, machine(states)).output == {"seen": 1, "now": 10, "before": 1}


def test_nothing_is_assigned_by_an_attempt_that_fails(engine: Engine) -> None:
    engine.function("Shifter", lambda _: {})
    states = {
        "Plan": {"Type": "Pass", "Assign": {"weight": 1}, "Next": "Shift"},
        "Shift": invoke(
            "Shifter",
            Assign={"weight": 2},
            Output="{% $states.result.Payload.missing %}",
            Catch=[{"ErrorEquals": ["States.QueryEvaluationError"], "Next": "Settle"}],
        ),
        "Settle": {"Type": "Succeed", "Output": "{% $weight %}"},
    }
    assert run(engine, machine(states)) == Result("SUCCEEDED", 1)


def test_null_is_a_value_and_undefined_is_an_error(engine: Engine) -> None:
    states = {"Look": {"Type": "Pass", "Output": {"seen": "{% $states.input.alarm %}"}, "End": True}}
    engine.add_machine("Machine", machine(states))
    assert engine.start("Machine", {"alarm": None}).wait() == Result("SUCCEEDED", {"seen": None})
    result = engine.start("Machine", {}).wait()
    assert result.error == "States.QueryEvaluationError"
    assert "returned nothing (undefined)" in (result.cause or "")


def test_a_fail_states_error_and_cause_may_be_expressions(engine: Engine) -> None:
    fail = {"Type": "Fail", "Error": "{% $states.input.error %}", "Cause": "{% 'step ' & $states.input.step %}"}
    engine.add_machine("Machine", machine({"Stop": fail}))
    assert engine.start("Machine", {"error": "Stopped", "step": 3}).wait() == Result(
        "FAILED", None, "Stopped", "step 3"
    )
    assert engine.start("Machine", {"error": {"a": 1}, "step": 3}).wait().error == "States.QueryEvaluationError"


def test_the_context_describes_the_execution(engine: Engine) -> None:
    engine.add_machine("Machine", machine({"Look": {"Type": "Pass", "Output": "{% $states.context %}", "End": True}}))
    execution = engine.start("Machine", {"a": 1}, name="mine")
    context = execution.wait().output
    assert context["Execution"]["Id"] == execution.arn
    assert (context["Execution"]["Name"], context["Execution"]["Input"]) == ("mine", {"a": 1})
    started = evaluate_jsonata("$toMillis($t) / 1000", {"t": context["Execution"]["StartTime"]})
    assert abs(started - time.time()) < 60
    assert context["State"]["Name"] == "Look"


def test_an_execution_can_be_stopped_while_it_waits(engine: Engine) -> None:
    engine.function("Baker", lambda _: None)
    engine.add_machine("Machine", machine({"Bake": bake(TimeoutSeconds=3600)}))
    execution = engine.start("Machine", {})
    while execution.states() != ["Bake"]:
        time.sleep(0.001)
    execution.stop("Aborted", "by hand")
    assert execution.wait(2) == Result("ABORTED", None, "Aborted", "by hand")


def test_an_execution_that_does_not_end_shows_its_last_events(engine: Engine) -> None:
    engine.function("Baker", lambda _: None)
    engine.add_machine("Machine", machine({"Bake": bake(TimeoutSeconds=3600)}))
    with pytest.raises(TimeoutError, match=r"still RUNNING after 0.2 s(.|\n)*TaskStateEntered(.|\n)*TaskSubmitted"):
        engine.start("Machine", {}).wait(0.2)


def test_parallel_branches_and_maps_run(engine: Engine) -> None:
    engine.function("Task", lambda event: {"n": event["n"] * 2})
    double = invoke("Task", Output="{% $states.result.Payload %}")
    states = {
        "Both": {
            "Type": "Parallel",
            "Branches": [{"StartAt": name, "States": {name: double}} for name in ("Left", "Right")],
            "Next": "Each",
        },
        "Each": {
            "Type": "Map",
            "Items": "{% $states.input %}",
            "ItemSelector": {"n": "{% $states.context.Map.Item.Value.n %}"},
            "ItemProcessor": {"StartAt": "One", "States": {"One": double}},
            "End": True,
        },
    }
    assert run(engine, machine(states), {"n": 3}).output == [{"n": 12}, {"n": 12}]


def test_another_integration_can_be_served_by_a_handler(engine: Engine) -> None:
    resource = "arn:aws:states:::ecs:runTask.sync"

    def run_task(arguments: Any) -> Any:
        if arguments["TaskDefinition"] == "bad":
            raise ServiceError("States.TaskFailed", '{"StoppedReason": "exit 1"}')
        return {"LastStatus": "STOPPED", "Cluster": arguments["Cluster"]}

    engine.integration(resource, run_task)
    arguments = {"Cluster": "c", "TaskDefinition": "{% $states.input.task %}"}
    task = {"Type": "Task", "Resource": resource, "Arguments": arguments, "TimeoutSeconds": 60, "End": True}
    engine.add_machine("Machine", machine({"Hook": task}))
    assert engine.start("Machine", {"task": "good"}).wait().output == {"LastStatus": "STOPPED", "Cluster": "c"}
    assert engine.start("Machine", {"task": "bad"}).wait().error == "States.TaskFailed"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("$partition([1, 2, 3, 4, 5], 2)", [[1, 2], [3, 4], [5]]),
        ("$range(0, 10, 5)", [0, 5, 10]),
        ("$range(3, 1, -1)", [3, 2, 1]),
        ("$hash('a', 'SHA-256')", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("$hash('a', 'MD5')", "0cc175b9c0f1b6a831c399e269772661"),
        ("$random(7) = $random(7)", True),
        ("$random() < 1", True),
        ("$length($uuid())", 36),
        ("$parse('{\"a\": null}')", {"a": None}),
        ("$v.a[1].b", 2),
        ("$v.n = null", True),
        ("$exists($v.n) and $not($exists($v.m))", True),
        ("$string($v)", '{"a":[{"b":1},{"b":2}],"n":null}'),
    ],
)
def test_expressions_have_the_functions_that_step_functions_adds(expression: str, value: Any) -> None:
    assert evaluate_jsonata(expression, {"v": {"a": [{"b": 1}, {"b": 2}], "n": None}}) == value


@pytest.mark.parametrize(
    "expression", ["$v.missing", "$eval('1')", "$", "1 +", "1/0", "$error('boom')", "function($x) { $x }", "$unknown()"]
)
def test_an_expression_without_a_json_value_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"JSONata expression"):
        evaluate_jsonata(expression, {"v": {}})


def test_engines_follow_one_another_without_traces() -> None:
    before, threads = CommonStateField._set_next, set(threading.enumerate())
    for _ in range(3):
        with Engine() as engine:
            engine.function("Baker", lambda _: None)
            engine.add_machine("Machine", machine({"Bake": bake(TimeoutSeconds=3600)}))
            execution = engine.start("Machine", {})
            while execution.states() != ["Bake"]:
                time.sleep(0.001)
    assert CommonStateField._set_next is before
    assert set(threading.enumerate()) <= threads


def test_an_execution_takes_a_fraction_of_a_second(engine: Engine) -> None:
    engine.function("Shifter", lambda event: event)
    engine.add_machine("Machine", machine({"Shift": invoke("Shifter")}))
    started = time.monotonic()
    for weight in range(10):
        assert engine.start("Machine", {"weight": weight}).wait().status == "SUCCEEDED"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "text",
    ["x" * 262_000, "x" * 262_200, "é" * 131_000, "é" * 131_100],
    ids=["fits", "too large", "fits in UTF-8", "too large in UTF-8"],
)
def test_a_result_that_is_too_large_fails_its_state_under_a_name_that_no_wildcard_matches(
    engine: Engine, text: str
) -> None:
    engine.function("f", lambda _: text)
    caught = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
    engine.add_machine(
        "Machine", machine({"Large": invoke("f", Catch=caught, Output={}), "Caught": {"Type": "Succeed"}})
    )
    execution = engine.start("Machine", {})
    too_large = len(text.encode()) > 262_000
    assert execution.wait().error == ("States.DataLimitExceeded" if too_large else None)
    assert execution.states() == ["Large"]


def test_a_result_that_is_too_large_is_caught_by_its_name(engine: Engine) -> None:
    engine.function("f", lambda _: "x" * 262_200)
    caught = [{"ErrorEquals": ["States.DataLimitExceeded"], "Next": "Caught"}]
    engine.add_machine("Machine", machine({"Large": invoke("f", Catch=caught), "Caught": {"Type": "Succeed"}}))
    execution = engine.start("Machine", {})
    assert (execution.wait().status, execution.states()) == ("SUCCEEDED", ["Large", "Caught"])
