"""The state machines' source: the committed definitions follow from it, and it retries what it should and no more."""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from headgate import errors
from headgate.aws import execution_history
from headgate.errors import HeadgateError, Transient
from statemachines.source import shapes
from statemachines.source.__main__ import FOLDER, MACHINES, main, stale, written
from tests.builders import ROOT
from tools.asl import house

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

OWN_ERRORS = {name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, HeadgateError)}
SOURCES = sorted((FOLDER / "source").glob("*.py"))
LONGEST_REPETITION = 5
"""In lines: a longer block that stands in the source twice has to become a shape of its own."""


def states_of(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All states, those of a Map included."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states_of(state["ItemProcessor"])


TASKS = [
    pytest.param(machine, name, state, id=f"{machine}: {name}")
    for machine, body in MACHINES.items()
    for name, state in states_of(body)
    if state["Type"] == "Task"
]
CATCHING = [
    pytest.param(machine, name, state, id=f"{machine}: {name}")
    for machine, body in MACHINES.items()
    for name, state in states_of(body)
    if "Catch" in state
]
PUT_THINGS_BACK = {("rollout", "Roll back"), ("rollout", "Settle")}


def retried(state: dict[str, Any]) -> set[str]:
    return {name for each in state["Retry"] if each["MaxAttempts"] for name in each["ErrorEquals"]}


def named(state: dict[str, Any]) -> set[str]:
    return {name for each in (*state["Retry"], *state["Catch"]) for name in each["ErrorEquals"]}


# --- The committed definitions ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the committed definitions."""
    for path in FOLDER.glob("*.asl.json"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_the_committed_definitions_are_what_their_source_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == "5 state machines are as statemachines/source has them\n"
    assert FOLDER == ROOT / "statemachines"


def test_one_byte_that_differs_is_found_and_the_message_says_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a definition that somebody has edited by hand
    path = folder / "hooks.asl.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"MaxAttempts": 6', '"MaxAttempts": 7', 1), "utf-8")
    # WHEN it is checked, THEN nothing is written, and the file, its source and the command are named
    edited = path.read_text("utf-8")
    assert main(["--check"], folder) == 1
    assert path.read_text("utf-8") == edited != text
    assert capsys.readouterr().out == (
        f"{path} differs from statemachines/source/hooks.py: edit the source, then run `make machines`\n"
    )
    # AND the command mends it
    assert main([], folder) == 0
    assert (stale(folder), path.read_text("utf-8")) == ([], text)


def test_a_definition_that_is_missing_or_has_no_source_is_found(folder: Path) -> None:
    (folder / "rollout.asl.json").rename(folder / "another.asl.json")
    assert [path.name for path in stale(folder)] == ["another.asl.json", "rollout.asl.json"]


def test_the_same_source_gives_the_same_bytes_in_every_process() -> None:
    code = "from statemachines.source.__main__ import *; print(*written(FOLDER).values())"
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        assert done.stdout.decode() == " ".join(written(FOLDER).values()) + "\n"


def test_no_block_of_the_source_stands_there_twice() -> None:
    texts = [path.read_text("utf-8") for path in SOURCES]
    assert repeated(texts) == []
    rule = 'A = when(\n"$x",\nassign={\n"y": 1,\n"z": 2,\n},\nthen="Wait",\n)\n'
    assert repeated([*texts, rule, rule.replace("A =", "B =")]) == ["when('$x', assign={'y': 1, 'z': 2}, then='Wait')"]


def repeated(texts: Iterable[str]) -> list[str]:
    """Calls, dictionaries, lists and tuples of more than ``LONGEST_REPETITION`` lines that are there twice."""
    blocks = Counter[str]()
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Call | ast.Dict | ast.List | ast.Tuple):
            blocks[ast.unparse(node)] += (node.end_lineno or 0) - node.lineno >= LONGEST_REPETITION
    return [block for block, times in blocks.items() if times > 1]


def test_a_definition_names_the_source_to_edit() -> None:
    for name in MACHINES:
        comment = json.loads((FOLDER / f"{name}.asl.json").read_text("utf-8"))["Comment"]
        assert comment.endswith(f" Generated from statemachines/source/{name}.py.")
        assert (FOLDER / "source" / f"{name}.py").is_file()


# --- What is retried -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_every_error_that_another_attempt_may_cure_is_retried(machine: str, name: str, state: dict[str, Any]) -> None:
    if "lambda:invoke" not in state["Resource"] or machine == "hooks":
        return  # A hook's own errors are its answer; the other services raise none of Headgate's.
    curable = {name for name in OWN_ERRORS if issubclass(getattr(errors, name), Transient)}
    assert curable == {"Contended", "Transient"} == set(shapes.OWN_TRANSIENT_ERRORS)
    assert curable <= retried(state)


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_every_state_that_calls_a_function_waits_for_one_that_sleeps(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    if "lambda:invoke" not in state["Resource"]:
        return
    # Hooks wait in a state of their own, because the time is not the hook's.
    handlers = state["Catch"] if machine == "hooks" else state["Retry"]
    [waking] = [each for each in handlers if {*each["ErrorEquals"]} & {*shapes.SLEEPING_FUNCTION_ERRORS}]
    assert waking["ErrorEquals"] == [*shapes.SLEEPING_FUNCTION_ERRORS] == [*house.SLEEPING_FUNCTION_ERRORS]
    if machine != "hooks":
        assert 180 <= seconds_of(waking) <= (900 if (machine, name) in PUT_THINGS_BACK else 200)
    # While the candidate may have traffic, little time is lost after the function is ready again.
    assert waking.get("MaxDelaySeconds", 0) <= 15


def seconds_of(retrier: dict[str, Any]) -> int:
    """How long a retrier waits in all; with full jitter, at most."""
    waits = (retrier["IntervalSeconds"] * retrier["BackoffRate"] ** n for n in range(retrier["MaxAttempts"]))
    return sum(int(min(each, retrier["MaxDelaySeconds"])) for each in waits)


WHILE_THE_CANDIDATE_MAY_HAVE_TRAFFIC = {
    *("Shift", "Shift in passing", "Bake", "Judge", "Shift to zero", "Pause", "Judge pause", "Promote")
}


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_a_throttled_account_is_waited_for_longer_where_nothing_is_at_risk(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    if "lambda:invoke" not in state["Resource"] or machine == "hooks":
        return  # The time of a hook is limited by its request.
    busy = next(each for each in state["Retry"] if "Lambda.TooManyRequestsException" in each["ErrorEquals"])
    if machine == "rollout" and name in WHILE_THE_CANDIDATE_MAY_HAVE_TRAFFIC:
        assert seconds_of(busy) <= 60
    else:
        assert seconds_of(busy) >= 400


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_names_without_a_prefix_are_not_those_that_only_an_invocation_has(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    lambda_model = botocore.session.get_session().get_service_model("lambda")
    errors_of = {
        operation: {error.name for error in lambda_model.operation_model(operation).error_shapes}
        for operation in lambda_model.operation_names
    }
    of_invoke = set().union(*(errors for operation, errors in errors_of.items() if "Invoke" in operation))
    of_others = set().union(*(errors for operation, errors in errors_of.items() if "Invoke" not in operation))
    assert named(state) & (of_invoke - of_others) == set()
    known = {f"Lambda.{error}" for error in of_invoke}
    assert {*shapes.SLEEPING_FUNCTION_ERRORS} <= known


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_a_start_of_a_child_is_repeated_under_every_name_that_a_throttle_has(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    if "startExecution" not in state["Resource"]:
        return
    assert {"StepFunctions.AWSStepFunctionsException", "StepFunctions.SdkClientException"} <= retried(state)
    # AND a start that succeeded although its response was lost is not taken for a failure.
    [ended] = [each for each in state["Catch"] if {*each["ErrorEquals"]} & {*shapes.ALREADY_STARTED_ERRORS}]
    assert dict(states_of(MACHINES[machine]))[ended["Next"]]["Resource"].endswith(":aws-sdk:sfn:describeExecution")


@pytest.mark.parametrize(("machine", "name"), [("ecs_task", "Plan"), ("redrive", "Plan"), ("redrive", "Move")])
def test_what_is_read_of_a_history_includes_every_retry_of_the_state(machine: str, name: str) -> None:
    state = dict(states_of(MACHINES[machine]))[name]
    events_of_a_retry, around = 3, 20
    longest = sum(each["MaxAttempts"] for each in state["Retry"]) * events_of_a_retry + around
    assert longest <= min(execution_history.FIRST_EVENTS, execution_history.LAST_EVENTS)


@pytest.mark.parametrize(("machine", "name", "state"), CATCHING)
def test_what_catches_every_error_catches_the_terminal_ones_in_the_same_way(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    *_, everything = state["Catch"]
    assert everything["ErrorEquals"] == ["States.ALL"]
    terminal = {**everything, "ErrorEquals": [*shapes.TERMINAL_ERRORS]}
    # An execution that dies in what must complete is told to the warden, which completes it.
    assert (terminal in state["Catch"]) == ((machine, name) not in PUT_THINGS_BACK)


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_a_programmers_error_is_not_retried_except_where_things_are_put_back(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    any_error = {"States.ALL", "States.TaskFailed"} & retried(state)
    assert any_error == ({"States.ALL"} if (machine, name) in PUT_THINGS_BACK else set())
    of_python = {each for each in retried(state) if issubclass(getattr(builtins, each, str), BaseException)}
    assert of_python <= {"ConnectionError"}  # botocore has one of this name, and Python's is no mistake in the code.


@pytest.mark.parametrize(("machine", "name", "state"), TASKS)
def test_every_own_error_that_a_state_names_is_a_class_of_headgate_errors(
    machine: str, name: str, state: dict[str, Any]
) -> None:
    # Names with a dot are those of Step Functions and its integrations.
    of_botocore = set(shapes.ECS_TRANSIENT_ERRORS) - set(shapes.OWN_TRANSIENT_ERRORS)
    own = {each for each in named(state) - of_botocore if "." not in each}
    assert own <= OWN_ERRORS


def test_a_hooks_own_errors_are_not_retried() -> None:
    ask = dict(states_of(MACHINES["hooks"]))["Ask"]
    assert all(each.startswith("Lambda.") for each in retried(ask))
