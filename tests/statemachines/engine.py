"""State machines run in the test's own process: moto's interpreter of the states language, closer to AWS.

moto executes a definition, keeps its history and offers the API to boto3. It differs from AWS in ways that matter to
a rollout (one token for all the attempts of a callback, Assign seen by Output, strings that break an expression, ...);
each replacement below says what AWS does. They are in place while an `Engine` is open, and only then.

    with Engine(time_scale=0.02) as engine:
        engine.function("Shifter", lambda event: {"state": {"weight": event["weight"]}})
        engine.add_machine("Rollout", definition, {"ShifterArn": "Shifter"})
        result = engine.start("Rollout", {"weight": 10}).wait()

Only JSONata machines. Intervals of Retry, Wait, TimeoutSeconds and HeartbeatSeconds are multiplied by `time_scale`;
the clock, and so $now() and $millis(), is not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import random
import re
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import boto3
from jsonata.jsonata import Jsonata
from jsonata.utils import Utils
from moto import mock_aws
from moto.core.exceptions import AWSError
from moto.stepfunctions import responses as http
from moto.stepfunctions.exceptions import InvalidToken
from moto.stepfunctions.parser import quotas
from moto.stepfunctions.parser.api import HistoryEventType
from moto.stepfunctions.parser.asl.component.common.assign.assign_decl import AssignDecl
from moto.stepfunctions.parser.asl.component.common.catch.catch_outcome import CatchOutcome
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.error_equals_decl import ErrorEqualsDecl
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.retry.max_attempts_decl import MaxAttemptsOutcome
from moto.stepfunctions.parser.asl.component.common.retry.retrier_decl import RetrierDecl
from moto.stepfunctions.parser.asl.component.common.retry.retrier_outcome import RetrierOutcome
from moto.stepfunctions.parser.asl.component.common.retry.retry_outcome import RetryOutcome
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringJSONata
from moto.stepfunctions.parser.asl.component.common.timeouts.heartbeat import HeartbeatSecondsJSONata
from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import EvalTimeoutError, TimeoutSecondsJSONata
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.component.state.choice.comparison.comparison import ConditionStringJSONata
from moto.stepfunctions.parser.asl.component.state.choice.state_choice import StateChoice
from moto.stepfunctions.parser.asl.component.state.exec.execute_state import ExecutionState
from moto.stepfunctions.parser.asl.component.state.exec.state_task.lambda_eval_utils import LambdaFunctionErrorException
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_callback
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_lambda import (
    StateTaskServiceLambda,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sfn import (
    StateTaskServiceSfn,
)
from moto.stepfunctions.parser.asl.component.state.fail.state_fail import StateFail
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.seconds import SecondsJSONata
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.eval.callback.callback import (
    CallbackEndpoint,
    CallbackOutcomeFailure,
    CallbackOutcomeSuccess,
    CallbackPoolManager,
    HeartbeatEndpoint,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped
from moto.stepfunctions.parser.asl.eval.states import States
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication
from moto.stepfunctions.parser.models import StepFunctionsParserBackend, stepfunctions_parser_backends
from moto.stepfunctions.parser.utils import TMP_THREADS

from tests.fakes import moto_direct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

# Before any session is made.
moto_direct.use()

ACCOUNT = "123456789012"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/state-machine"

LARGEST_BYTES = 262_144
"""Of a state's input or output: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

_TICK_SECONDS = 0.02
"""How long an abort, a timeout of the machine or of its parent may go unnoticed."""


class ServiceError(Exception):
    """Raised by a handler: the service itself refuses or fails, under exactly this error name."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class LambdaServiceError(ServiceError):
    """Raised by a function's handler: not the function but AWS Lambda fails, for example throttling."""


@dataclass(frozen=True)
class Result:
    """How an execution ended; output for SUCCEEDED, error and cause for the others."""

    status: str
    output: Any = None
    error: str | None = None
    cause: str | None = None


class Execution:
    """One execution, running or ended."""

    def __init__(self, engine: Engine, arn: str) -> None:
        self._engine = engine
        self.arn = arn

    def __repr__(self) -> str:
        return f"Execution({self.arn!r}, {self.status})"

    @property
    def _record(self) -> Any:
        return self._engine.backend.describe_execution(self.arn)

    @property
    def name(self) -> str:
        return str(self._record.name)

    @property
    def input(self) -> Any:
        return self._record.input_data

    @property
    def status(self) -> str:
        return str(self._record.exec_status.value)

    @property
    def output(self) -> Any:
        """The output, as JSON would carry it; None unless the execution succeeded."""
        return json.loads(json.dumps(self._record.output)) if self.status == "SUCCEEDED" else None

    @property
    def error(self) -> str | None:
        return None if self._record.error is None else str(self._record.error)

    @property
    def cause(self) -> str | None:
        return None if self._record.cause is None else str(self._record.cause)

    def history(self) -> list[dict[str, Any]]:
        """The events as GetExecutionHistory names them."""
        return list(self._record.to_history_output()["events"])

    def states(self) -> list[str]:
        """The names of the states entered, in order; those of nested executions are in their own history."""
        return [event["stateEnteredEventDetails"]["name"] for event in self.history() if _is_entry(event)]

    def stop(self, error: str | None = None, cause: str | None = None) -> None:
        """StopExecution, as an operator would."""
        given = {"error": error, "cause": cause}
        client = self._engine.client("stepfunctions")
        client.stop_execution(executionArn=self.arn, **{key: value for key, value in given.items() if value})

    def wait(self, timeout: float = 20) -> Result:
        """Wait until the execution has ended.

        Raises
        ------
        TimeoutError
            If it still runs after `timeout` seconds (not scaled); the message ends with the last events.
        """
        if not self._engine.ended(self.arn).wait(timeout):
            tail = "\n".join(_one_line(event) for event in self.history()[-15:])
            raise TimeoutError(f"{self.arn} is still {self.status} after {timeout} s. Its last events:\n{tail}")
        return Result(self.status, self.output, self.error, self.cause)


class Engine:
    """Runs state machines; one Engine at a time in a process, as moto's state is the process's own."""

    def __init__(self, *, time_scale: float = 1.0) -> None:
        self.time_scale = time_scale
        self.functions: dict[str, Callable[[Any], Any]] = {}
        self.integrations: dict[str, Callable[[Any], Any]] = {}
        self.callbacks: dict[str, _Callback] = {}
        self.threads: list[threading.Thread] = []
        self._ended: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        global _current  # noqa: PLW0603  moto calls the replacements from its own threads, without us
        if _current is not None:
            raise RuntimeError("an Engine is open already")
        self._open.enter_context(mock_aws(config={"stepfunctions": {"execute_state_machine": True}}))
        for owner, name, replacement in _REPLACEMENTS:
            self._open.enter_context(mock.patch.object(owner, name, replacement))
        # moto logs each failure with the text of half the machine; the history tells it.
        moto = logging.getLogger("moto")
        self._open.callback(moto.setLevel, moto.level)
        moto.setLevel("CRITICAL")
        _current = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current  # noqa: PLW0603
        for machine in self.backend.state_machines:
            for execution in machine.executions:
                execution.stop(stop_date=datetime.now(tz=UTC), error=None, cause=None)
        for callback in list(self.callbacks.values()):
            callback.close()
        deadline = time.monotonic() + 5
        threads = [*TMP_THREADS, *self.threads]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        TMP_THREADS.clear()
        _current = None
        self._open.close()
        left = [thread.name for thread in threads if thread.is_alive()]
        if left and kind is None:
            raise RuntimeError(f"handlers must end by themselves; still running: {left}")

    def wait_for_handlers(self, seconds: float) -> None:
        """Wait until no function runs any more, which an execution that is stopped does not do."""
        deadline = time.monotonic() + seconds
        for thread in [*TMP_THREADS, *self.threads]:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def backend(self) -> Any:
        return stepfunctions_parser_backends[ACCOUNT][REGION]

    def client(self, service: str) -> Any:
        """A boto3 client of moto's AWS, in the engine's Region and account; usable from any thread."""
        with self._lock:
            return _client(service)

    def add_machine(self, name: str, definition: str, substitutions: Mapping[str, str] = {}) -> str:
        """Create a state machine and return its ARN; `${Name}` in the definition becomes `substitutions["Name"]`."""
        names = set(re.findall(r"\$\{(\w+)\}", definition))
        if missing := names - set(substitutions):
            raise ValueError(f"{name}: no substitution for {', '.join(sorted(missing))}")
        text = re.sub(r"\$\{(\w+)\}", lambda match: substitutions[match[1]], definition)
        if _query_language(text) != "JSONata":
            raise ValueError(f"{name}: only JSONata machines run here")
        # By the API, moto reads the definition once for each parameter.
        return str(self.backend.create_state_machine(name=name, definition=text, roleArn=ROLE).arn)

    def function(self, arn_or_name: str, handler: Callable[[Any], Any]) -> None:
        """A Lambda function: the payload in, what the handler returns out; both pass through JSON.

        A handler that raises is a function that failed: the error is the exception's class, the cause AWS's JSON. It
        raises LambdaServiceError for a failure of AWS Lambda itself. A name serves all qualifiers and ARNs of the
        function; `name:qualifier` or a full ARN is looked up first.
        """
        self.functions[arn_or_name] = handler

    def integration(self, resource: str, handler: Callable[[Any], Any]) -> None:
        """Serve another service integration, such as "arn:aws:states:::ecs:runTask.sync", by a handler.

        It receives the evaluated Arguments and returns the task's result, or raises ServiceError.
        """
        self.integrations[resource] = handler

    def start(self, machine: str, input: dict[str, Any], name: str | None = None) -> Execution:  # noqa: A002
        """StartExecution; `machine` is a name or an ARN."""
        arn = machine if machine.startswith("arn:") else _machine_arn(machine)
        started = self.client("stepfunctions").start_execution(
            stateMachineArn=arn, name=name or str(uuid.uuid4()), input=json.dumps(input)
        )
        return Execution(self, started["executionArn"])

    def executions(self, machine: str) -> list[Execution]:
        """All executions of a machine, oldest first: how to reach the nested ones."""
        arn = machine if machine.startswith("arn:") else _machine_arn(machine)
        return [Execution(self, each.exec_arn) for each in self.backend.describe_state_machine(arn).executions]

    def ended(self, execution_arn: str) -> threading.Event:
        """Set as soon as the execution has ended."""
        with self._lock:
            return self._ended.setdefault(execution_arn, threading.Event())


_current: Engine | None = None


@functools.cache
def _query_language(definition: str) -> str | None:
    language: str | None = json.loads(definition).get("QueryLanguage")
    return language


def _engine() -> Engine:
    if _current is None:
        raise RuntimeError("no Engine is open")
    return _current


def _machine_arn(name: str) -> str:
    return f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"


@functools.cache
def _session() -> Any:
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


@functools.cache
def _client(service: str) -> Any:
    # Kept for the whole process: making one takes longer than an execution.
    return _session().client(service)


def _is_entry(event: dict[str, Any]) -> bool:
    return "stateEnteredEventDetails" in event


def _one_line(event: dict[str, Any]) -> str:
    details: dict[str, Any] = next((value for key, value in event.items() if key.endswith("Details")), {})
    shown = {key: details[key] for key in ("name", "error", "cause") if details.get(key)}
    return f"  {event['id']:>4} {event['type'].value} {json.dumps(shown) if shown else ''}"


def _failure(env: Any, error: str, cause: str) -> FailureEventException:
    """An error that Retry, Catch and the execution's end understand."""
    if error == "States.QueryEvaluationError":
        kind, key = HistoryEventType.EvaluationFailed, "evaluationFailedEventDetails"
    else:
        kind, key = HistoryEventType.TaskFailed, "taskFailedEventDetails"
    details = EventDetails(**{key: {"error": error, "cause": cause}})
    return FailureEventException(
        FailureEvent(env=env, error_name=CustomErrorName(error), event_type=kind, event_details=details)
    )


def _pause(env: Any, seconds: float) -> None:
    """Sleep, but wake when the execution is stopped."""
    deadline = time.monotonic() + seconds
    while env.is_running() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _TICK_SECONDS))


# --- JSONata ---------------------------------------------------------------------------------------------------------


def _bound(value: Any) -> Any:
    """A JSON value as jsonata-python wants it: None means undefined there, and null is a value of its own."""
    match value:
        case None:
            return Utils.NULL_VALUE
        case dict():
            return {key: _bound(each) for key, each in value.items()}
        case list() | tuple():
            return [_bound(each) for each in value]
        case datetime():
            return _timestamp(value)
        case _:
            return value


def _plain(value: Any) -> Any:
    """Back to JSON. Raises TypeError for what JSON cannot represent."""
    match value:
        case Utils.NULL_VALUE:
            return None
        case None | bool() | int() | str():
            return value
        case float() if value - value == 0:  # neither infinite nor NaN
            return value
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON value")


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _partition(array: Any, size: int) -> list[Any]:
    items = array if isinstance(array, list) else [array]
    return [items[start : start + size] for start in range(0, len(items), size)]


def _range(first: int, last: int, step: int) -> list[int]:
    return list(range(first, last + (1 if step > 0 else -1), step))


def _hash(data: Any, algorithm: str) -> str:
    text = data if isinstance(data, str) else json.dumps(_plain(data), separators=(",", ":"))
    return hashlib.new(algorithm.replace("-", "").lower(), text.encode()).hexdigest()


def _random(seed: Any = None) -> float:
    return random.Random(seed).random()


def _refused_eval(*_: Any) -> Any:
    raise ValueError("$eval is not available in Step Functions; $parse is")


# https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html: added by Step Functions, save $eval.
_FUNCTIONS = {
    "partition": _partition,
    "range": _range,
    "hash": _hash,
    "random": _random,
    "uuid": lambda: str(uuid.uuid4()),
    "parse": lambda text: _bound(json.loads(text)),
    "eval": _refused_eval,
}


def evaluate_jsonata(expression: str, variables: Mapping[str, Any]) -> Any:
    """Evaluate an expression with `$name` bound to `variables["name"]`.

    Raises
    ------
    ValueError
        If it cannot be parsed or evaluated, or has no JSON value; undefined is such a case, null is not.
    """
    try:
        program = Jsonata.jsonata(expression)
        program.set_output_convert_nulls(False)
        frame = program.create_frame()
        for name, function in _FUNCTIONS.items():
            frame.bind(name, Jsonata.JLambda(function))
        for name, value in variables.items():
            frame.bind(name, _bound(value))
        value = program.evaluate(None, frame)
    except Exception as error:
        raise ValueError(f"The JSONata expression '{expression}' could not be evaluated: {error}") from error
    if value is None:
        raise ValueError(f"The JSONata expression '{expression}' returned nothing (undefined).")
    try:
        return _plain(value)
    except TypeError as error:
        message = f"The JSONata expression '{expression}' returned an unsupported result type: {error}"
        raise ValueError(message) from error


def _context(env: Any) -> dict[str, Any]:
    context: dict[str, Any] = dict(env.states.context_object.context_object_data)
    # AWS: times are text ending in Z (moto: a datetime, and an offset), and RedriveCount is always there.
    context["Execution"] = {"RedriveCount": 0, **context["Execution"]}
    if context.get("State"):
        entered = _timestamp(datetime.fromisoformat(context["State"]["EnteredTime"]))
        context["State"] = {**context["State"], "EnteredTime": entered}
    return context


def _jsonata_eval_body(self: Any, env: Any) -> None:
    # AWS: whatever goes wrong in an expression is States.QueryEvaluationError, which Retry and Catch can name. (moto
    # pastes variables into the expression's text, so that a quote in a string breaks it, and raises States.Runtime.)
    store, data = env.variable_store, env.states._states_data
    states = {"input": data["input"], "context": _context(env)}
    states |= {key: data[key] for key in ("result", "errorOutput") if key in data}
    try:
        value = evaluate_jsonata(self.expression, {**store._outer_scope, **store._inner_scope, "states": states})
    except ValueError as error:
        raise _failure(env, "States.QueryEvaluationError", f"{error} (field '{env.next_field_name}')") from error
    env.stack.append(value)


def _states_reset(self: Any, input_value: Any) -> None:
    # AWS: $states.result is there in Assign and Output, $states.errorOutput in a Catch. (moto: null elsewhere.)
    self._states_data["input"] = json.loads(json.dumps(input_value))
    self._states_data.pop("result", None)
    self._states_data.pop("errorOutput", None)


def _expected(env: Any, what: str, value: Any) -> FailureEventException:
    cause = f"The JSONata expression of the field '{env.next_field_name}' must return {what}, not {json.dumps(value)}."
    return _failure(env, "States.QueryEvaluationError", cause)


def _whole_seconds(least: int) -> Callable[[Any, Any], int]:
    def seconds_of(self: Any, env: Any) -> int:
        # AWS: anything but a whole number in range fails the state. (moto: cuts 0.5 s to 0.)
        self.string_jsonata.eval(env=env)
        value = env.stack.pop()
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < least:
            raise _expected(env, f"a whole number of at least {least}", value)
        return int(value)

    return seconds_of


def _condition_eval_body(self: Any, env: Any) -> None:
    self.string_jsonata.eval(env=env)
    if not isinstance(env.stack[-1], bool):
        raise _expected(env, "true or false", env.stack[-1])


# --- States ----------------------------------------------------------------------------------------------------------


def _assign_eval_body(self: Any, env: Any) -> None:
    # AWS: Assign and Output are worked out side by side; new values are seen from the next state on. (moto: at once.)
    fresh: dict[str, Any] = {}
    for binding in self.declaration_bindings:
        binding.eval(env=env)
        fresh |= env.stack.pop()
    env.variable_store._fresh = fresh


def _commit_assigned(env: Any) -> None:
    fresh = env.variable_store.__dict__.pop("_fresh", {})
    for identifier, value in fresh.items():
        env.variable_store.set(variable_identifier=identifier, variable_value=value)


def _set_next(self: Any, env: Any) -> None:
    _commit_assigned(env)
    # A Catch may lead back to its own state. (moto: takes that for "no Catch" and follows Next.)
    if env.stack and env.stack[-1] is CatchOutcome.Caught:
        return
    _moto_set_next(self, env)


def _choice_set_next(self: Any, env: Any) -> None:
    _commit_assigned(env)


def _choice_eval_state(self: Any, env: Any) -> None:
    # AWS: the state's own Assign and Output belong to Default, a rule's to the rule. (moto: also runs the state's own
    # when a rule leads to the same state as Default.)
    default = self.default_state and (self.default_state.state_name, self.assign_decl, self.output)
    chosen = next(_matches(self.choices_decl.rules, env), default)
    if chosen is None:
        raise _failure(env, "States.NoChoiceMatched", f"No rule of '{self.name}' matched, and it has no Default.")
    next_state, assign, output = chosen
    if assign:
        assign.eval(env=env)
    if output:
        output.eval(env=env)
    env.next_state_name = next_state


def _matches(rules: list[Any], env: Any) -> Iterator[tuple[str, Any, Any]]:
    for rule in rules:
        rule.comparison.eval(env)
        if env.stack.pop():
            yield rule.next_stmt.name, rule.assign, rule.output


def _choice_eval_state_output(self: Any, env: Any) -> None:
    pass


def _fail_eval_state(self: Any, env: Any) -> None:
    # AWS: Error and Cause are strings. (moto: whatever the expression returns.)
    texts = {}
    for field, part in (("Error", self.error), ("Cause", self.cause)):
        if part:
            part.eval(env=env)
            texts[field.lower()] = value = env.stack.pop()
            if not isinstance(value, str):
                raise _expected(env, f"a string in {field}", value)
    details = EventDetails(taskFailedEventDetails=texts)
    name = CustomErrorName(texts.get("error"))
    raise FailureEventException(
        FailureEvent(env=env, error_name=name, event_type=HistoryEventType.TaskFailed, event_details=details)
    )


def _wait_interval(self: Any, env: Any, wait_seconds: float) -> None:
    _pause(env, wait_seconds * _engine().time_scale)


def _custom_error_name(self: Any, error_name: str | None) -> None:
    # AWS: a callback or a Fail may pass on a reserved name such as States.Timeout. (moto: States.Runtime.)
    ErrorName.__init__(self, error_name=error_name)


_NEVER_CAUGHT_BY_WILDCARD = {"States.DataLimitExceeded", "States.Runtime"}


def _error_equals_eval_body(self: Any, env: Any) -> None:
    # AWS: neither wildcard matches the terminal errors; States.TaskFailed is any error but States.Timeout, those of
    # the language included. (moto: States.ALL matches all, States.TaskFailed none of the language's.)
    error = env.stack.pop().error_name
    names = {name.error_name for name in self.error_names}
    wild = "States.ALL" in names or ("States.TaskFailed" in names and error != "States.Timeout")
    env.stack.append(error in names or (wild and error not in _NEVER_CAUGHT_BY_WILDCARD))


def _retrier_eval_body(self: Any, env: Any) -> None:
    self.error_equals.eval(env)
    if not env.stack.pop():
        env.stack.append(RetrierOutcome.Skipped)
        return
    self.max_attempts.eval(env=env)
    if env.stack.pop() == MaxAttemptsOutcome.EXHAUSTED:
        env.stack.append(RetrierOutcome.Failed)
        return
    for part in (self.interval_seconds, self.backoff_rate, self.max_delay_seconds, self.jitter_strategy):
        part.eval(env=env)
    # AWS: StopExecution does not wait for the next attempt. (moto: sleeps.)
    _pause(env, env.stack.pop() * _engine().time_scale)
    env.stack.append(RetrierOutcome.Executed)


def _execution_eval_state(self: Any, env: Any) -> None:
    context = env.states.context_object.context_object_data
    context["State"]["RetryCount"] = 0
    while env.is_running():
        try:
            self._evaluate_with_timeout(env)
        except Exception as error:  # noqa: BLE001  it becomes the state's error, whatever it is
            env.variable_store.__dict__.pop("_fresh", None)
            event = self._from_error(env=env, ex=error)
            env.event_manager.add_event(
                context=env.event_history_context, event_type=event.event_type, event_details=event.event_details
            )
            if not env.is_running():
                return
            if self.retry and self._handle_retry(env=env, failure_event=event) == RetryOutcome.CanRetry:
                continue
            env.states.set_error_output(self._construct_error_output_value(failure_event=event))
            if self.catch:
                self._handle_catch(env=env, failure_event=event)
                if env.stack[-1] == CatchOutcome.Caught:
                    return
            self._handle_uncaught(env=env, failure_event=event)
        else:
            return


def _execution_eval_state_output(self: Any, env: Any) -> None:
    # The attempt worked out Output already; a Catch sets the next input itself.
    if env.stack[-1] is not CatchOutcome.Caught:
        env.states.reset(input_value=env.stack.pop())


def _evaluate_with_timeout(self: Any, env: Any) -> None:
    """One attempt of a Task, Map or Parallel; leaves the state's output on the stack."""
    self.timeout.eval(env=env)
    limit = env.stack.pop() * _engine().time_scale
    # AWS: each attempt of a callback has a token of its own. (moto: one for all, already used up by the first.)
    callback = _new_token(self, env)
    frame = env.open_frame()
    frame.states.reset(input_value=env.states.get_input())
    frame.stack = list(env.stack)
    done = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            self._eval_execution(frame)
        except Exception as error:  # noqa: BLE001  handed over to the waiting thread
            failures.append(error)
        done.set()

    _start_thread(f"attempt of {self.name}", work)
    deadline = time.monotonic() + limit
    while env.is_running() and (left := deadline - time.monotonic()) > 0 and not done.wait(min(left, _TICK_SECONDS)):
        pass
    # AWS: a success accepted before the timeout counts, and none is accepted after it. (moto: accepted, and dropped.)
    if callback and callback.close():
        done.wait(5)
    finished = done.is_set()
    frame.set_ended()
    env.close_frame(frame)
    if not env.is_running():
        return
    if failures:
        raise failures[0]
    if not finished:
        raise EvalTimeoutError

    _refuse_large(env, self.name, frame.stack[-1])
    env.states.set_result(frame.stack[-1])
    # AWS: errors in Assign and Output are the attempt's errors, for Retry and Catch. (moto: Output ends the execution.)
    if self.assign_decl:
        self.assign_decl.eval(env=env)
    if self.output:
        self.output.jsonata_template_value.eval(env=env)
    else:
        env.stack.append(frame.stack[-1])


def _refuse_large(env: Any, name: str, result: Any) -> None:
    # AWS: a result of more than 256 KiB fails the state. (moto: takes any of a Map.)
    if len(_utf8_json(result).encode()) > LARGEST_BYTES:
        raise _failure(env, "States.DataLimitExceeded", f"The state '{name}' returned too large a result.")


def _utf8_json(value: Any) -> str:
    # AWS: counts bytes of UTF-8. (moto: counts what is not ASCII as escapes.)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _start_thread(name: str, work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, name=name, daemon=True)
    _engine().threads.append(thread)
    thread.start()


def _program_eval(self: Any, env: Any) -> None:
    # AWS: the machine's own timeout ends the execution at once. (moto: without the event.)
    env.next_state_name = self.start_at.start_at_name
    worker = threading.Thread(target=EvalComponent.eval, args=(self, env), name="program", daemon=True)
    _engine().threads.append(worker)
    worker.start()
    worker.join(self.timeout_seconds.timeout_seconds * _engine().time_scale if self.timeout_seconds else None)
    if worker.is_alive():
        env.set_timed_out()
        worker.join(5)


@functools.lru_cache(maxsize=64)
def _parse(definition: str) -> tuple[Any, Any]:
    # Parsing takes longer than running. What is parsed is only read: an execution keeps what it counts in its own heap,
    # where each component has the key below.
    program, tree = _moto_parse(definition)
    return program, tree


def _heap_key(self: Any) -> str:
    # moto makes one up at the first use, which is a race between the executions that share a component.
    return f"{id(self):x}"


# --- Task tokens -----------------------------------------------------------------------------------------------------


class _TaskTimedOutError(AWSError):  # type: ignore[misc]
    TYPE = "TaskTimedOut"


class _InvalidOutputError(AWSError):  # type: ignore[misc]
    TYPE = "InvalidOutput"


class _Callback(CallbackEndpoint):  # type: ignore[misc]
    """A task token. The first to settle or close it wins; nothing is accepted afterwards."""

    def __init__(self, callback_id: str) -> None:
        super().__init__(callback_id=callback_id)
        self._changed = threading.Condition()
        self._open = True

    def settle(self, outcome: Any) -> bool:
        """Whether the outcome was accepted."""
        with self._changed:
            if not self._open or self._outcome is not None:
                return False
            self.notify(outcome)
            self._changed.notify_all()
            return True

    def close(self) -> bool:
        """Whether an outcome had been accepted."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
            return self._outcome is not None

    def beat(self) -> bool:
        with self._changed:
            if self._open and self._outcome is None:
                self.notify_heartbeat()
                return True
            return False

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Return when `reached`, settled or closed."""
        with self._changed:
            self._changed.wait_for(lambda: reached() or self._outcome is not None or not self._open)

    def wait(self, timeout: float | None = None) -> Any:  # noqa: ARG002  moto's signature
        # The attempt keeps the (scaled) time and closes the token.
        self.wait_until(lambda: False)
        return self._outcome

    def interrupt_all(self) -> None:
        self.close()
        super().interrupt_all()

    def setup_heartbeat_endpoint(self, heartbeat_seconds: int) -> Any:
        self._heartbeat_endpoint = HeartbeatEndpoint(heartbeat_seconds * _engine().time_scale)
        return self._heartbeat_endpoint


def _new_token(state: Any, env: Any) -> _Callback | None:
    if not (isinstance(state, StateTaskServiceCallback) and state._is_integration_pattern()):
        return None
    state._assert_integration_pattern_is_supported()
    token = env.states.context_object.update_task_token()
    return env.callback_pool_manager.add(token)  # type: ignore[no-any-return]


def _pool_add(self: Any, callback_id: str) -> _Callback:
    callback = _Callback(callback_id)
    self._pool[callback_id] = callback
    _engine().callbacks[callback_id] = callback
    return callback


def _callback_eval_body(self: Any, env: Any) -> None:
    CommonStateField._eval_body(self, env)
    env.states.context_object.context_object_data.pop("Task", None)


def _settle(token: str, accept: Callable[[_Callback], bool]) -> None:
    # AWS: InvalidToken is for what never was a token, TaskTimedOut for one whose task is over, for whatever reason.
    # (moto: accepts a token until the execution ends, and forgets it then.)
    callback = _engine().callbacks.get(token)
    if callback is None:
        raise InvalidToken("'Invalid token'")
    if not accept(callback):
        raise _TaskTimedOutError("Task Timed Out: 'Provided task does not exist anymore'")


def _send_task_success(self: Any, task_token: str, outcome: str) -> None:
    try:
        json.loads(outcome)
    except ValueError as error:
        raise _InvalidOutputError(f"Invalid Output: '{error}'") from error
    success = CallbackOutcomeSuccess(callback_id=task_token, output=outcome)
    _settle(task_token, lambda callback: callback.settle(success))


def _send_task_failure(self: Any, task_token: str, error: str | None = None, cause: str | None = None) -> Any:
    failure = CallbackOutcomeFailure(callback_id=task_token, error=error, cause=cause)
    _settle(task_token, lambda callback: callback.settle(failure))


def _send_task_heartbeat(self: Any, task_token: str) -> None:
    _settle(task_token, lambda callback: callback.beat())


def _http_send_task_failure(self: Any) -> Any:
    # moto drops the cause.
    token, error, cause = (self._get_param(name) for name in ("taskToken", "error", "cause"))
    self.stepfunction_backend.send_task_failure(token, error=error, cause=cause)
    return http.EmptyResult()


# --- Lambda functions and other integrations -------------------------------------------------------------------------


def _keep_parameters(self: Any, parameters: Any, *_: Any, **__: Any) -> None:
    pass


def _lambda_eval_service_task(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: dict[str, Any], state_credentials: Any
) -> None:
    name = normalised_parameters["FunctionName"]
    event = normalised_parameters.get("Payload", {})
    if self.resource.condition != ResourceCondition.WaitForTaskToken:
        env.stack.append(_invoke(env, name, event))
        return

    # AWS: SendTaskSuccess ends the task, whatever the invocation is still doing or fails with later. (moto: a failed
    # invocation fails the task even when its token was answered.)
    callback = env.callback_pool_manager.get(env.states.context_object.context_object_data["Task"]["Token"])
    answers: list[Any] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(_invoke(env, name, event))
        except Exception as error:  # noqa: BLE001  handed over to the waiting thread
            failures.append(error)
        callback.wake()

    _start_thread(f"function {name}", work)
    callback.wait_until(lambda: bool(answers or failures))
    if failures and callback.get_outcome() is None:
        raise failures[0]
    env.stack.append(answers[0] if answers else None)


def _invoke(env: Any, name: str, event: Any) -> dict[str, Any]:
    """What the optimized integration returns for an invocation."""
    handler = _handler(name)
    if handler is None:
        details = "Service: AWSLambda; Status Code: 404; Error Code: ResourceNotFoundException"
        raise _failure(env, "Lambda.ResourceNotFoundException", f"Function not found: {name} ({details})")
    try:
        answer = handler(json.loads(json.dumps(event)))
    except ServiceError as error:
        raise _failure(env, error.error, error.cause) from error
    except Exception as error:
        raise _function_error(type(error).__name__, str(error)) from error
    try:
        payload = json.loads(json.dumps(answer))
    except (TypeError, ValueError) as error:
        raise _function_error("Runtime.MarshalError", f"Unable to marshal response: {error}") from error
    qualifier = name.rpartition(":")[2] if name.count(":") in {1, 7} else "$LATEST"
    return {"ExecutedVersion": qualifier, "Payload": payload, "StatusCode": 200}


def _handler(name: str) -> Callable[[Any], Any] | None:
    functions = _engine().functions
    # arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]
    short = ":".join(name.split(":")[6:]) if name.startswith("arn:") else name
    for candidate in (name, short, short.partition(":")[0]):
        if candidate in functions:
            return functions[candidate]
    return None


def _function_error(error_type: str, message: str) -> LambdaFunctionErrorException:
    cause = {"errorMessage": message, "errorType": error_type, "requestId": str(uuid.uuid4()), "stackTrace": []}
    return LambdaFunctionErrorException("Unhandled", json.dumps(cause))


def _service_eval_execution(self: Any, env: Any) -> None:
    handler = _engine().integrations.get(self.resource.resource_arn)
    if handler is None:
        _moto_eval_execution(self, env)
        return
    self.resource.eval(env=env)
    part = env.stack.pop()
    parameters = self._eval_parameters(env=env)
    credentials = self._eval_state_credentials(env=env)
    self._before_eval_execution(env, part, parameters, credentials)
    try:
        env.stack.append(json.loads(json.dumps(handler(json.loads(json.dumps(parameters))))))
    except ServiceError as error:
        raise _failure(env, error.error, error.cause) from error
    waits = self.resource.condition == ResourceCondition.WaitForTaskToken
    finish = type(self)._after_eval_execution if waits else StateTaskService._after_eval_execution
    finish(self, env, part, parameters, credentials)


# --- Nested and stopped executions -----------------------------------------------------------------------------------


def _sfn_eval_service_task(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: dict[str, Any], state_credentials: Any
) -> None:
    # moto hands on boto3's names, which begin in lower case, and then looks for AWS's.
    started = _engine().client("stepfunctions").start_execution(**_first_lower(normalised_parameters))
    env.stack.append({"ExecutionArn": started["executionArn"], "StartDate": _milliseconds(started["startDate"])})


def _first_lower(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key[0].lower() + key[1:]: value for key, value in parameters.items()}


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _sfn_eval_integration_pattern(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
) -> None:
    if self.resource.condition == ResourceCondition.WaitForTaskToken:
        _moto_sfn_integration_pattern(self, env, resource_runtime_part, normalised_parameters, state_credentials)
        return
    child = Execution(_engine(), env.stack.pop()["ExecutionArn"])
    while not _engine().ended(child.arn).wait(_TICK_SECONDS):
        if not env.is_running():
            # AWS: a nested execution is stopped with the task that waits for it. (moto: runs on.)
            child.stop()
            return
    described = _describe(child, parsed=self.resource.condition == ResourceCondition.Sync2)
    if child.status != "SUCCEEDED":
        raise _failure(env, "States.TaskFailed", json.dumps(described))
    env.stack.append(described)


def _describe(child: Execution, *, parsed: bool) -> dict[str, Any]:
    """DescribeExecution as the integration spells it; with .sync:2 the documents are parsed."""
    record = child._record
    documents = {"Input": record.input_data}
    if child.status == "SUCCEEDED":
        documents["Output"] = child.output
    fields = {
        "ExecutionArn": child.arn,
        "InputDetails": {"Included": True},
        "Name": child.name,
        "StartDate": _milliseconds(record.start_date),
        "StateMachineArn": record.state_machine_arn,
        "Status": child.status,
        "StopDate": _milliseconds(record.stop_date),
    }
    fields |= {key: value for key, value in (("Error", child.error), ("Cause", child.cause)) if value is not None}
    return fields | {key: value if parsed else json.dumps(value) for key, value in documents.items()}


def _start_execution(self: Any, state_machine_arn: str, name: str | None = None, *rest: Any, **named: Any) -> Any:
    # AWS: makes up a name. (moto: the name is "None".)
    execution = _moto_start_execution(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **named)
    _await_thread(execution)
    return execution


def _await_thread(execution: Any) -> None:
    # AWS: can be stopped as soon as it is started. (moto: only once its thread has got that far.)
    while execution.exec_worker is None or execution.exec_worker.env is None:
        time.sleep(0.001)


def _http_stop_execution(self: Any) -> Any:
    # moto drops error and cause, and knows no stop date until the interpreter has noticed.
    execution = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
    _await_thread(execution)
    moment = execution.stop_date or datetime.now(tz=UTC)
    execution.stop(stop_date=moment, error=self._get_param("error"), cause=self._get_param("cause"))
    return http.ActionResult({"stopDate": moment})


def _terminated(self: Any) -> None:
    _moto_terminated(self)
    execution, state = self.execution, self.execution.exec_worker.env.program_state()
    # AWS: DescribeExecution tells the error of an aborted execution. (moto: of a failed one alone.)
    if isinstance(state, ProgramStopped):
        execution.error, execution.cause = state.error, state.cause
    elif execution.status == "TIMED_OUT":
        execution.error = "States.Timeout"
    if _current is not None:
        _current.ended(execution.exec_arn).set()


_moto_eval_execution = StateTaskService._eval_execution
_moto_parse = AmazonStateLanguageParser.parse
_moto_set_next = CommonStateField._set_next
_moto_sfn_integration_pattern = StateTaskServiceSfn._eval_integration_pattern
_moto_start_execution = StepFunctionsParserBackend.start_execution
_moto_terminated = BaseExecutionWorkerCommunication.terminated

_REPLACEMENTS: list[tuple[Any, str, Any]] = [
    (AmazonStateLanguageParser, "parse", staticmethod(_parse)),
    (AssignDecl, "_eval_body", _assign_eval_body),
    (BaseExecutionWorkerCommunication, "terminated", _terminated),
    (CallbackPoolManager, "add", _pool_add),
    (CommonStateField, "_set_next", _set_next),
    (ConditionStringJSONata, "_eval_body", _condition_eval_body),
    (CustomErrorName, "__init__", _custom_error_name),
    (ErrorEqualsDecl, "_eval_body", _error_equals_eval_body),
    (EvalComponent, "heap_key", property(_heap_key)),
    (ExecutionState, "_eval_state", _execution_eval_state),
    (ExecutionState, "_eval_state_output", _execution_eval_state_output),
    (ExecutionState, "_evaluate_with_timeout", _evaluate_with_timeout),
    (HeartbeatSecondsJSONata, "_eval_seconds", _whole_seconds(1)),
    (Program, "eval", _program_eval),
    (RetrierDecl, "_eval_body", _retrier_eval_body),
    (SecondsJSONata, "_get_wait_seconds", _whole_seconds(0)),
    (StateChoice, "_eval_state", _choice_eval_state),
    (StateChoice, "_eval_state_output", _choice_eval_state_output),
    (StateChoice, "_set_next", _choice_set_next),
    (StateFail, "_eval_state", _fail_eval_state),
    (StateTaskService, "_eval_execution", _service_eval_execution),
    (StateTaskServiceCallback, "_eval_body", _callback_eval_body),
    (StateTaskServiceLambda, "_eval_service_task", _lambda_eval_service_task),
    (StateTaskServiceLambda, "_normalise_parameters", _keep_parameters),
    (StateTaskServiceSfn, "_eval_integration_pattern", _sfn_eval_integration_pattern),
    (StateTaskServiceSfn, "_eval_service_task", _sfn_eval_service_task),
    (States, "reset", _states_reset),
    (StepFunctionsParserBackend, "send_task_failure", _send_task_failure),
    (StepFunctionsParserBackend, "send_task_heartbeat", _send_task_heartbeat),
    (StepFunctionsParserBackend, "send_task_success", _send_task_success),
    (StepFunctionsParserBackend, "start_execution", _start_execution),
    (StringJSONata, "_eval_body", _jsonata_eval_body),
    (TimeoutSecondsJSONata, "_eval_seconds", _whole_seconds(1)),
    (WaitFunction, "_wait_interval", _wait_interval),
    (quotas, "to_json_str", _utf8_json),
    (http.StepFunctionResponse, "send_task_failure", _http_send_task_failure),
    (http.StepFunctionResponse, "stop_execution", _http_stop_execution),
    # moto looks every half second whether a task of another service is over.
    (state_task_service_callback, "_DELAY_SECONDS_SYNC_CONDITION_CHECK", 0.01),
]
