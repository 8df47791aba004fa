"""Each rule of the linter finds its mistake in a machine that is otherwise good."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from tools.asl.check import check, main

if TYPE_CHECKING:
    from pathlib import Path

TRANSIENT = [
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
]
SLEEPING = [
    "Lambda.CodeArtifactUserPendingException",
    "Lambda.CodeArtifactUserDeletedException",
    "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.SnapStartNotReadyException",
    "Lambda.SnapStartTimeoutException",
    "Lambda.ENINotReadyException",
    "Lambda.ENILimitReachedException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
]
TERMINAL = ["States.DataLimitExceeded", "States.Runtime"]
RETRY = {
    "ErrorEquals": TRANSIENT,
    "IntervalSeconds": 1,
    "MaxAttempts": 4,
    "BackoffRate": 2,
    "MaxDelaySeconds": 20,
    "JitterStrategy": "FULL",
}
WAKING = {"ErrorEquals": SLEEPING, "IntervalSeconds": 10, "MaxAttempts": 18, "BackoffRate": 1}
GOOD: dict[str, Any] = {
    "Comment": "Moves traffic once.",
    "QueryLanguage": "JSONata",
    "StartAt": "Shift",
    "TimeoutSeconds": 86400,
    "States": {
        "Shift": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Arguments": {"FunctionName": "${ShifterArn}", "Payload": {"weight": "{% $states.input.weight %}"}},
            "TimeoutSeconds": 60,
            "Retry": [copy.deepcopy(RETRY), copy.deepcopy(WAKING)],
            "Catch": [
                {"ErrorEquals": TERMINAL, "Next": "Roll back"},
                {
                    "ErrorEquals": ["States.ALL"],
                    "Assign": {"failure": "{% $states.errorOutput %}"},
                    "Next": "Roll back",
                },
            ],
            "Assign": {"state": "{% $states.result.Payload.state %}", "failure": {}},
            "Next": "Bake",
        },
        "Bake": {
            "Type": "Task",
            "Resource": "arn:${Partition}:states:::lambda:invoke.waitForTaskToken",
            "Arguments": {"FunctionName": "${BakerArn}", "Payload": {"token": "{% $states.context.Task.Token %}"}},
            "TimeoutSeconds": "{% $max([1, $state.bakeSeconds]) %}",
            "Retry": [copy.deepcopy(RETRY), copy.deepcopy(WAKING)],
            "Catch": [
                {"ErrorEquals": ["States.Timeout"], "Next": "Verdict"},
                {"ErrorEquals": TERMINAL, "Next": "Roll back"},
                {"ErrorEquals": ["States.ALL"], "Next": "Roll back"},
            ],
            "Next": "Verdict",
        },
        "Verdict": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": "{% $exists($state.verdict) and $state.verdict = 'continue' %}",
                    "Assign": {"steps": "{% ($next := $state.step + 1; $map([1..$next], function($i) { $i })) %}"},
                    "Next": "Pause",
                }
            ],
            "Default": "Settle",
        },
        "Pause": {"Type": "Wait", "Seconds": 0, "Next": "Look"},
        "Look": {"Type": "Pass", "Output": "{% $state.alarms[name = 'errors'].state %}", "Next": "Hooks"},
        "Hooks": {
            "Type": "Map",
            "Items": "{% $state.hooks %}",
            "MaxConcurrency": 1,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "Hook",
                "States": {"Hook": {"Type": "Pass", "Output": "{% $states.context.Map.Item.Value %}", "End": True}},
            },
            "Next": "Both",
        },
        "Both": {
            "Type": "Parallel",
            "Branches": [{"StartAt": "Left", "States": {"Left": {"Type": "Succeed"}}}],
            "Next": "Ask",
        },
        "Ask": {
            "Type": "Task",
            "Resource": "arn:${Partition}:states:::states:startExecution.sync:2",
            "Arguments": {"StateMachineArn": "${Asker}", "Name": "{% $states.context.Execution.Name %}"},
            "TimeoutSeconds": 60,
            "Catch": [{"ErrorEquals": [*TERMINAL, "HookFailed"], "Next": "Roll back"}],
            "Next": "Settle",
        },
        "Settle": {"Type": "Succeed", "Output": "{% $steps %}"},
        "Roll back": {"Type": "Fail", "Error": "RolledBack", "Cause": "{% $string($failure) %}"},
    },
}


def problems_after(path: str, value: Any) -> list[str]:
    """The findings after one field, named like "Shift.Retry.0.MaxAttempts", got a value; None removes it."""
    machine = copy.deepcopy(GOOD)
    *where, field = path.split(".")
    part: Any = machine["States"] if where else machine
    for step in where:
        part = part[int(step) if step.isdigit() else step]
    if value is None:
        del part[field]
    else:
        part[int(field) if field.isdigit() else field] = value
    return [f"{name}: {problem}" for name, problem in check(json.dumps(machine))]


def test_the_good_machine_passes() -> None:
    assert check(json.dumps(GOOD)) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        # the machine
        ("Comment", None, "machine: needs Comment"),
        ("QueryLanguage", None, "machine: needs QueryLanguage"),
        ("QueryLanguage", "JSONPath", "machine: QueryLanguage must be JSONata"),
        ("StartAt", None, "machine: needs StartAt"),
        ("StartAt", "Nowhere", "machine: StartAt names 'Nowhere', which is not a state"),
        ("TimeoutSeconds", None, "machine: needs TimeoutSeconds"),
        ("TimeoutSeconds", "{% 1 %}", "machine: TimeoutSeconds must be a whole number of at least 1"),
        ("Parameters", {}, "machine: Parameters is not a field of a machine in JSONata"),
        # ways between states
        ("Pause.Next", "Nowhere", "Pause: points to 'Nowhere', which is not a state"),
        ("Verdict.Default", "Nowhere", "Verdict: points to 'Nowhere', which is not a state"),
        ("Shift.Catch.0.Next", "Nowhere", "Shift: points to 'Nowhere', which is not a state"),
        ("Verdict.Choices.0.Next", "Settle", "Pause: cannot be reached"),
        ("Hooks.ItemProcessor.StartAt", "Nowhere", "Hook: cannot be reached"),
        ("Both.Branches.0.StartAt", "Nowhere", "Both: StartAt names 'Nowhere', which is not a state"),
        ("Pause.Next", None, "Pause: needs either Next or End: true"),
        ("Pause.End", True, "Pause: needs either Next or End: true"),
        # fields
        ("Shift.Type", "Job", "Shift: has no known Type, but 'Job'"),
        ("Shift.Parameters", {}, "Shift: Parameters is not a field of a Task in JSONata"),
        ("Shift.ResultPath", "$.x", "Shift: ResultPath is not a field of a Task in JSONata"),
        ("Shift.TimeoutSecondsPath", "$.x", "Shift: TimeoutSecondsPath is not a field of a Task in JSONata"),
        ("Settle.Next", "Shift", "Settle: Next is not a field of a Succeed in JSONata"),
        ("Pause.TimeoutSeconds", 5, "Pause: TimeoutSeconds is not a field of a Wait in JSONata"),
        ("Verdict.Choices.0.Variable", "$.x", "Verdict: Variable is not a field of a rule of Choices in JSONata"),
        ("Shift.Retry.0.Next", "Bake", "Shift: Next is not a field of a retrier in JSONata"),
        ("Shift.Catch.0.ResultPath", "$", "Shift: ResultPath is not a field of a catcher in JSONata"),
        ("Shift.QueryLanguage", "JSONPath", "Shift: QueryLanguage must be JSONata"),
        # what each type needs
        ("Verdict.Default", None, "Verdict: a Choice needs a Default"),
        ("Verdict.Choices", [], "Verdict: a Choice needs Choices"),
        ("Verdict.Choices.0.Condition", None, "Verdict: each of its Choices needs Condition and Next"),
        ("Roll back.Error", None, "Roll back: a Fail needs Error"),
        ("Roll back.Cause", None, "Roll back: a Fail needs Cause"),
        ("Pause.Seconds", None, "Pause: a Wait needs either Seconds or Timestamp"),
        ("Shift.TimeoutSeconds", None, "Shift: a Task needs TimeoutSeconds"),
        ("Shift.Catch", None, "Shift: a Task needs Catch"),
        ("Shift.Resource", None, "Shift: a Task needs Resource"),
        ("Shift.TimeoutSeconds", 0, "Shift: TimeoutSeconds must be an expression or a whole number of at least 1"),
        ("Pause.Seconds", 0.5, "Pause: Seconds must be an expression or a whole number of at least 0"),
        # errors
        ("Shift.Retry", None, "Shift: must retry Lambda.SdkClientException by name"),
        ("Shift.Retry.0.ErrorEquals", TRANSIENT[:3], "Shift: must retry Lambda.TooManyRequestsException by name"),
        ("Shift.Retry.0.JitterStrategy", "NONE", "Shift: its retry of transient errors needs JitterStrategy FULL"),
        ("Shift.Retry.0.BackoffRate", None, "Shift: its retry of transient errors needs BackoffRate"),
        ("Shift.Retry.0.MaxDelaySeconds", None, "Shift: its retry of transient errors needs MaxDelaySeconds"),
        (
            "Bake.Retry.0.ErrorEquals",
            [*TRANSIENT, "States.TaskFailed"],
            "Bake: a callback must not retry States.TaskFailed, which would wait again",
        ),
        (
            "Bake.Retry.0.ErrorEquals",
            [*TRANSIENT, "States.Timeout"],
            "Bake: a callback must not retry States.Timeout, which would wait again",
        ),
        (
            "Bake.Retry",
            [RETRY, {"ErrorEquals": ["States.ALL"]}],
            "Bake: a callback must not retry States.ALL, which would wait again",
        ),
        ("Shift.Retry", [{"ErrorEquals": ["States.ALL"]}, RETRY], "Shift: States.ALL must be alone in the last Retry"),
        ("Bake.Catch.2.ErrorEquals", ["States.ALL", "Other"], "Bake: States.ALL must be alone in the last Catch"),
        ("Bake.Catch.0.ErrorEquals", ["States.ALL"], "Bake: States.ALL must be alone in the last Catch"),
        ("Bake.Catch.0.ErrorEquals", [], "Bake: each Catch needs ErrorEquals"),
        (
            "Shift.Retry.0.ErrorEquals",
            [each for each in TRANSIENT if "Timeout" not in each],
            "Shift: must retry Lambda.ClientExecutionTimeoutException by name",
        ),
        *(
            (
                "Shift.Retry.1.ErrorEquals",
                [each for each in SLEEPING if each != error],
                f"Shift: must retry {error} by name, or catch it",
            )
            for error in SLEEPING
        ),
        (
            "Shift.Retry.1.JitterStrategy",
            "FULL",
            f"Shift: must retry {SLEEPING[0]} for at least 150 s without jitter",
        ),
        ("Shift.Retry.1.MaxAttempts", 14, f"Shift: must retry {SLEEPING[0]} for at least 150 s without jitter"),
        ("Shift.Retry.1.MaxDelaySeconds", 8, f"Shift: must retry {SLEEPING[0]} for at least 150 s without jitter"),
        (
            "Shift.Retry.0.ErrorEquals",
            [*TRANSIENT, "EC2ThrottledException"],
            "Shift: EC2ThrottledException is an error of Lambda's Invoke, which Step Functions calls Lambda.EC2",
        ),
        (
            "Shift.Catch.0.ErrorEquals",
            TERMINAL[1:],
            "Shift: States.ALL does not match States.DataLimitExceeded; catch it by name, too",
        ),
        (
            "Bake.Catch.1.ErrorEquals",
            TERMINAL[:1],
            "Bake: States.ALL does not match States.Runtime; catch it by name, too",
        ),
        ("Ask.Arguments.Name", None, "Ask: a child execution needs a Name, so that a start whose response was lost"),
        ("Bake.Catch.0.Next", None, "Bake: each Catch needs Next"),
        ("Shift.Retry.0.MaxAttempts", 100_000_000, "Shift: MaxAttempts must be 0 to 99999999"),
        ("Shift.Retry.0.MaxAttempts", -1, "Shift: MaxAttempts must be 0 to 99999999"),
        ("Shift.Retry.0.IntervalSeconds", 0, "Shift: IntervalSeconds must be 1 to 99999999"),
        ("Shift.Retry.0.BackoffRate", 0.9, "Shift: BackoffRate must be at least 1"),
        ("Shift.Retry.0.MaxDelaySeconds", 0, "Shift: MaxDelaySeconds must be 1 to 31622399"),
        ("Shift.Retry.0.MaxDelaySeconds", 31_622_400, "Shift: MaxDelaySeconds must be 1 to 31622399"),
        ("Shift.Retry.0.JitterStrategy", "SOME", "Shift: JitterStrategy must be FULL or NONE"),
        # names
        ("Roll back.Error", "States.Timeout", "Roll back: Error cannot be 'States.Timeout': names that begin with"),
        (
            "Roll back.Error",
            "{% $failure = 1 ? 'RolledBack' : ($steps ? 'States.Runtime' : 'Stopped') %}",
            "Roll back: Error cannot be 'States.Runtime': names that begin with States. are reserved",
        ),
        (
            "Roll back.Error",
            "{% $failure.Error %}",
            "Roll back: '{% $failure.Error %}' may be a name that begins with States.; compare it",
        ),
        (
            "Shift.Assign.number",
            "{% $states.result.Payload.number %}",
            "Shift: the variable $number has the name of a function; rename it",
        ),
        ("Shift.Catch.1.Assign.hash", 1, "Shift: the variable $hash has the name of a function; rename it"),
        (
            "Verdict.Choices.0.Assign",
            {"steps": 1, "sum": 2},
            "Verdict: the variable $sum has the name of a function; rename it",
        ),
        ("Settle.Output", "{% ($max := 3; $max) %}", "Settle: the variable $max has the name of a function; rename it"),
        # texts
        (
            "Shift.Arguments.FunctionName",
            "arn:aws:lambda:eu-west-1:123456789012:function:shifter",
            "Shift: 'arn:aws:lambda:eu-west-1:123456789012:function:shifter' holds a literal ARN; use a substitution",
        ),
        (
            "Shift.Arguments.FunctionName",
            "arn:${Partition}:lambda:::x",
            "Shift: 'arn:${Partition}:lambda:::x' holds a literal ARN; use a substitution",
        ),
        (
            "Shift.Arguments.FunctionName",
            "${shifter_arn}",
            "Shift: the substitution 'shifter_arn' is not in PascalCase",
        ),
        ("Shift.Arguments.Payload", {"weight.$": "$.w"}, "Shift: 'weight.$' is JSONPath"),
        # expressions
        ("Settle.Output", " {% 1 %}", "Settle: ' {% 1 %}' must begin with '{% ' and end with ' %}'"),
        ("Settle.Output", "a {% 1 %}", "Settle: 'a {% 1 %}' must begin with '{% ' and end with ' %}'"),
        ("Settle.Output", "{%1%}", "Settle: '{%1%}' must begin with '{% ' and end with ' %}'"),
        ("Shift.Resource", "{% 'x' %}", "Shift: Resource cannot be an expression"),
        ("Settle.Output", "{% 1 + %}", "Settle: '{% 1 + %}' cannot be parsed: "),
        (
            "Settle.Output",
            "{% $eval('1') %}",
            "Settle: \"{% $eval('1') %}\" uses $eval, which Step Functions lacks; use $parse",
        ),
        (
            "Settle.Output",
            "{% $steps ?? 1 %}",
            "Settle: '{% $steps ?? 1 %}' uses ??, newer than JSONata 2.0.6",
        ),
        ("Settle.Output", "{% $stepz %}", "Settle: '{% $stepz %}' reads $stepz, which nothing assigns"),
        ("Settle.Output", "{% $uppercas('a') %}", "Settle: \"{% $uppercas('a') %}\" reads $uppercas, which nothing"),
        ("Settle.Output", "{% weight > 5 %}", "Settle: '{% weight > 5 %}' reads 'weight' of nothing"),
        ("Settle.Output", "{% $.weight %}", "Settle: '{% $.weight %}' uses $ outside of a path"),
        (
            "Settle.Output",
            "{% $states.result %}",
            "Settle: '{% $states.result %}' reads $states.result, which exists only in Assign and Output of a Task",
        ),
        (
            "Shift.Arguments.Payload",
            "{% $states.result %}",
            "Shift: '{% $states.result %}' reads $states.result, which exists only in Assign and Output of a Task",
        ),
        (
            "Shift.Output",
            "{% $states.errorOutput %}",
            "Shift: '{% $states.errorOutput %}' reads $states.errorOutput, which exists only in Assign and Output of a",
        ),
    ],
)
def test_a_mistake_is_found(path: str, value: Any, problem: str) -> None:
    found = problems_after(path, value)
    assert any(each.startswith(problem) for each in found), found


@pytest.mark.parametrize(
    "expression",
    [
        "{% $states.input.steps[weight > 5 and $.bake = 0].weight %}",
        "{% $steps ~> $map(function($step, $place) { $step.weight + $place }) %}",
        "{% $contains($failure.Cause, /(?:x|y)/) ? '?? $eval ?:' : 'no' %}",
        "{% $merge([$state, {'id': $uuid(), 'hash': $hash('a', 'SHA-256'), 'all': $range(0, 5, 1)}]) %}",
        "{% $states.input.target.`function`.name %}",
        "{% $sort($steps, function($a, $b) { $a.weight > $b.weight })[0] %}",
        "{% $states.input.a.b.%.c %}",
        "{% $states.input.steps^(>weight).weight %}",
        "{% $number('${Limit}') %}",
    ],
)
def test_good_expressions_are_left_alone(expression: str) -> None:
    assert problems_after("Settle.Output", expression) == []


@pytest.mark.parametrize(
    "error",
    [
        "RolledBack",
        "{% $failure ? 'RolledBack' : 'Stopped' %}",
        "{% $substring($failure.Error, 0, 7) = 'States.' ? 'Stopped' : $failure.Error %}",
    ],
)
def test_a_fail_whose_error_is_never_a_reserved_name_is_left_alone(error: str) -> None:
    assert problems_after("Roll back.Error", error) == []


def test_a_sleeping_function_may_be_waited_for_by_a_state_of_its_own() -> None:
    machine = copy.deepcopy(GOOD)
    shift = machine["States"]["Shift"]
    shift["Retry"] = [RETRY]
    shift["Catch"].insert(0, {"ErrorEquals": SLEEPING, "Next": "Pause"})
    assert check(json.dumps(machine)) == []


def test_a_state_that_tries_everything_again_need_not_catch_the_terminal_errors() -> None:
    machine = copy.deepcopy(GOOD)
    shift = machine["States"]["Shift"]
    shift["Retry"].append({"ErrorEquals": ["States.ALL"]})
    del shift["Catch"][0]
    assert check(json.dumps(machine)) == []


def test_a_long_name_is_found() -> None:
    machine = copy.deepcopy(GOOD)
    machine["States"]["Pause"]["Next"] = name = "x" * 81
    machine["States"][name] = {"Type": "Pass", "Next": "Look"}
    assert check(json.dumps(machine)) == [(name, "its name has 81 characters; 80 are allowed")]


def test_what_is_not_json_is_found() -> None:
    assert check('{"Comment": ${Comment}}')[0][1].startswith("is not valid JSON")


def test_a_name_given_twice_is_found() -> None:
    assert check('{"Comment": "a", "Comment": "b"}') == [
        ("machine", "is not valid JSON: Comment occurs more than once")
    ]


def test_the_command_prints_a_line_for_each_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.asl.json", tmp_path / "bad.asl.json"
    good.write_text(json.dumps(GOOD), "utf-8")
    bad.write_text(json.dumps(GOOD | {"StartAt": "Nowhere"}), "utf-8")
    assert main([str(good)]) == 0
    assert capsys.readouterr().out == "Checked 1 state machines with 12 states: no problems found.\n"
    assert main([str(good), str(bad)]) == 1
    printed = capsys.readouterr().out
    assert f"{bad}: machine: StartAt names 'Nowhere', which is not a state\n" in printed
    assert "Checked" not in printed
