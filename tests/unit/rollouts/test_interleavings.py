"""Whoever works at one target at the same time: every order of their calls, and each of them dying between any two.

The functions are the real ones, down to the single call of DynamoDB, Step Functions or Lambda. ``interleaving.py`` says
how all orders are covered, and ``memory_table.py`` is the table, which is held against moto here.
"""

# Parameters are named as AWS names them, and not every one matters here.
# ruff: noqa: ARG002, N803

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import random
from collections import Counter
from datetime import UTC, datetime, tzinfo
from io import BytesIO
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from headgate.aws import clients, dynamodb
from headgate.aws.dynamodb import from_item, to_item
from headgate.aws.observability import logger
from headgate.errors import Aborted, HeadgateError, LockLost, RequestRefused, SignalRefused, Transient
from headgate.keys import step_key
from headgate.rollouts import line, locks, recovery, supervision, table
from headgate.rollouts.line import Line
from headgate.rollouts.locks import Locks
from headgate.rollouts.record import ANNOUNCED_AS
from headgate.rollouts.settlement import Settlement, Settler
from headgate.rollouts.signal_inbox import SignalInbox
from headgate.rollouts.steps import Steps
from headgate.rollouts.table import Table
from headgate.spec.plan import make_plan
from headgate.spec.position import PROMOTED, Weight, number_of
from headgate.targets import lambda_alias
from headgate.targets.lambda_alias import AliasState
from tests.builders import (
    ACCOUNT,
    CONTEXT,
    DRIVER,
    MACHINE,
    REGION,
    ROOT,
    TABLE,
    TARGET,
    TARGET_KEY,
    admit,
    execution_of,
    pause_verdict,
    plan_of,
    request_of,
    settle,
    signal_of,
    start,
    stored_lock,
    stored_rollout,
)
from tests.fakes.memory_table import MemoryClient, MemoryTable, ModelledTable, NotUnderstood, apply, text_of
from tests.unit.rollouts.interleaving import Actor, Broken, Call, Rules, Step, World, ask, explore, on_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.record import RolloutRecord, TerminalStatus
    from tests.fakes.memory_table import Items

# It plays again what other tests cover, very often: measured, it would take twice as long.
pytestmark = pytest.mark.no_cover

FIRST, SECOND, EAGER, WAITING = "first", "second", "eager", "waiting"
"""The rollout that holds the lock at the beginning, two that come, and one that is in line at the beginning."""

BEGINNING = datetime(2026, 11, 21, 9, tzinfo=UTC)
SETTINGS = {
    "TABLE": TABLE,
    "RETENTION_DAYS": "90",
    "ROLLOUT_MACHINE": MACHINE,
    "DEAD_LETTERS": "dead-letters",
    "FIFO_DEAD_LETTERS": "dead-letters.fifo",
}
SWEEPS = 8
"""After as many minutes nothing is left for the warden to do."""


# --- What stands for AWS ---------------------------------------------------------------------------------------------


def call(service: str, operation: str, **parameters: Any) -> Any:
    """One call of whoever is on stage."""
    return json.loads(ask(service, operation, lambda: text_of(parameters)))


class Refusal(Exception):  # noqa: N818
    """An error of a service that has a class of its own in its client."""


class MachinesClient:
    """A client of Step Functions."""

    class exceptions:  # noqa: N801
        class ExecutionDoesNotExist(Refusal): ...

        class ExecutionAlreadyExists(Refusal): ...

        class TaskTimedOut(Refusal): ...

        class TaskDoesNotExist(Refusal): ...

        class InvalidToken(Refusal): ...

    def describe_execution(self, executionArn: str) -> dict[str, Any]:
        status = call("states", "describe_execution", arn=executionArn)
        if status is None:
            raise self.exceptions.ExecutionDoesNotExist
        return {"status": status} | ({} if status == "RUNNING" else {"stopDate": BEGINNING})

    def start_execution(self, stateMachineArn: str, name: str, input: str) -> None:  # noqa: A002
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        if call("states", "start_execution", arn=arn) not in (None, "RUNNING"):
            raise self.exceptions.ExecutionAlreadyExists

    def send_task_success(self, taskToken: str, output: str) -> None:
        call("states", "end_task", token=taskToken, how="success")

    def send_task_failure(self, taskToken: str, error: str, cause: str) -> None:
        call("states", "end_task", token=taskToken, how="failure")


class FunctionsClient:
    """A client of Lambda: the alias, and the driver, which whoever invokes it waits for."""

    class exceptions:  # noqa: N801
        class PreconditionFailedException(Refusal): ...

        class ProvisionedConcurrencyConfigNotFoundException(Refusal): ...

        class ResourceNotFoundException(Refusal): ...

    def get_function(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        return {"Configuration": {"Version": Qualifier, "State": "Active"}}

    def get_provisioned_concurrency_config(self, **_: str) -> Any:
        raise self.exceptions.ProvisionedConcurrencyConfigNotFoundException

    def get_alias(self, **_: str) -> Any:
        return call("lambda", "get_alias")

    def update_alias(self, **changes: Any) -> Any:
        answer = call("lambda", "update_alias", **changes)
        if answer is None:
            raise self.exceptions.PreconditionFailedException
        return answer

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        try:
            told = function("lambda_alias_driver").handler(json.loads(Payload), CONTEXT)
        except Transient:
            raise  # Nothing here is so contended.
        except (HeadgateError, Refusal) as error:
            told = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"FunctionError": "Unhandled", "Payload": BytesIO(json.dumps(told).encode())}
        return {"Payload": BytesIO(json.dumps(told).encode())}


CLIENTS: dict[str, Any] = {
    "dynamodb": MemoryClient(lambda operation, parameters: call("dynamodb", operation, **parameters)),
    "stepfunctions": MachinesClient(),
    "lambda": FunctionsClient(),
}


@functools.cache
def function(name: str) -> ModuleType:
    """The module of a function, with the clients from above."""
    spec = importlib.util.spec_from_file_location(f"interleaved_{name}", ROOT / "functions" / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "client", lambda service, *_, **__: CLIENTS.get(service))
        patch.setattr(clients, "mover", lambda _: CLIENTS["lambda"])
        for setting, value in SETTINGS.items():
            patch.setenv(setting, value)
        spec.loader.exec_module(module)
    return module


class Clock(datetime):
    """Time stands still for each actor, at a second of its own: so nothing depends on who came when."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        who = on_stage()
        second = 1 + sum(who.name.encode()) % 50 if who else 0
        return cls.fromtimestamp(BEGINNING.timestamp() + second, tz)


@pytest.fixture(scope="module", autouse=True)
def _stillness() -> Iterator[None]:
    """No clock but that one, nobody sleeps, and no log: an actor is played more than once."""
    resting = SimpleNamespace(time=BEGINNING.timestamp, monotonic=lambda: 0.0, sleep=lambda _: None)
    level = logger.log_level
    logger.setLevel("CRITICAL")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervision, "record_seconds", lambda *_, **__: None)
        for module in (dynamodb, line, recovery, lambda_alias):
            patch.setattr(module, "time", resting)
        for module in (dynamodb, recovery):
            patch.setattr(module, "datetime", Clock)
        patch.setattr(random, "sample", lambda population, k: population[:k])
        yield
    logger.setLevel(level)


# --- The actors ------------------------------------------------------------------------------------------------------


class Stopped(Exception):  # noqa: N818
    """An execution that has been stopped goes on with no further state."""


class Execution:
    """An execution of the rollout machine, as far as it asks functions to write to the table."""

    def __init__(self, arn: str) -> None:
        self.arn = arn

    def task(self, name: str, payload: dict[str, Any]) -> Any:
        """A state that a function is invoked in."""
        if call("states", "describe_execution", arn=self.arn) != "RUNNING":
            raise Stopped
        return function(name).handler(payload, CONTEXT)

    def end(self, status: str) -> None:
        call("states", "end_execution", arn=self.arn, status=status)


def settler_event(rollout_id: str, arn: str, epoch: int, outcome: str) -> dict[str, Any]:
    reason = {"reason": "the machine has come to its end"}
    state = {"stable": "6", "candidate": "7"}
    return {"rolloutId": rollout_id, "execution": arn, "epoch": epoch, "outcome": outcome, "state": state,
            "verdict": reason, "failure": {}}  # fmt: skip


def driver_event(action: str, epoch: int, **more: Any) -> dict[str, Any]:
    plan = plan_of(FIRST).to_wire()
    return {"action": action, "target": plan["target"], "plan": plan, "epoch": epoch, "state": {}, **more}


def settles(outcome: TerminalStatus, epoch: int = 1) -> str:
    """The machine's Settle, whose function is at work already; and a rollback and once more, if somebody objects."""
    execution = Execution(execution_of(FIRST))
    try:
        told = function("settler").handler(settler_event(FIRST, execution.arn, epoch, outcome), CONTEXT)
        if told["outcome"] == "objected":
            execution.task("lambda_alias_driver", driver_event("rollback", epoch))
            told = execution.task("settler", settler_event(FIRST, execution.arn, epoch, "rolled-back"))
    except Stopped:
        return "stopped"
    except LockLost:
        execution.end("FAILED")
        return "superseded"
    execution.end("SUCCEEDED")
    return str(told["outcome"])


def turns_back(epoch: int = 1) -> str:
    """The machine's rollback, whose driver is at work already, and its Settle."""
    execution = Execution(execution_of(FIRST))
    try:
        function("lambda_alias_driver").handler(driver_event("rollback", epoch), CONTEXT)
    except LockLost:
        execution.end("FAILED")
        return "superseded"
    if call("states", "describe_execution", arn=execution.arn) != "RUNNING":
        return "stopped"
    return settles("rolled-back", epoch)


def carries_out(rollout_id: str, **fields: Any) -> str:
    """The machine of a rollout, in each of its executions, until it has begun: then it lives on.

    An execution that was started for the request itself waits in line.
    """
    payload = {"request": request_of(rollout_id, **fields).to_wire(), "plan": plan_of(rollout_id, **fields).to_wire()}
    while True:
        execution = Execution(call("states", "await_execution", rollout=execution_of(rollout_id)))
        try:
            told = execution.task("acquirer", payload | {"execution": execution.arn, "waits": True})
            if told["lock"] == "waits" and waits_its_turn(execution, rollout_id) == "success":
                continue
        except RequestRefused:
            told = {"lock": "refused"}
        except Stopped:
            continue
        except LockLost:
            execution.end("FAILED")
            return "superseded"
        if told["lock"] == "held":
            return "begun"
        execution.end("FAILED")
        return str(told["lock"])


def waits_its_turn(execution: Execution, rollout_id: str) -> str:
    """The machine's wait in line; how it is ended."""
    token = f"turn of {rollout_id}"
    payload = {"rolloutId": rollout_id, "execution": execution.arn, "token": token, "attempt": "a"}
    execution.task("acquirer", payload)
    ended = call("states", "await_token", token=token, arn=execution.arn)
    if ended is None:
        raise Stopped
    return str(ended)


def by_hand(rollout_id: str, **fields: Any) -> str:
    """StartExecution for a request, and what its machine does."""
    call("states", "start_execution", arn=execution_of(rollout_id))
    return carries_out(rollout_id, **fields)


def gives_up() -> str:
    """The second rollout's machine, which waits in line until its limit is over and settles as refused."""
    call("states", "start_execution", arn=execution_of(SECOND))
    execution = Execution(execution_of(SECOND))
    payload = {"request": request_of(SECOND).to_wire(), "plan": plan_of(SECOND).to_wire()}
    try:
        told = execution.task("acquirer", payload | {"execution": execution.arn, "waits": True})
        if told["lock"] == "held":
            return "begun"
        execution.task("settler", settler_event(SECOND, execution.arn, 0, "refused"))
    except Stopped:
        return "stopped"
    execution.end("FAILED")
    return "gave up"


def taken_in(rollout_id: str, **fields: Any) -> str:
    """A request as the queue delivers it."""
    message = {
        "messageId": "message-1",
        "body": json.dumps(request_of(rollout_id, **fields).to_wire()),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:requests",
    }
    assert function("intake").handler({"Records": [message]}, CONTEXT) == {"batchItemFailures": []}
    return "taken in"


def is_told() -> str:
    """The warden, when it is told that the first rollout's execution has ended."""
    detail = {"name": execution_of(FIRST).rsplit(":", 1)[-1], "status": "ABORTED", "input": json.dumps({"id": FIRST})}
    return warden({"detail-type": "Step Functions Execution Status Change", "detail": detail})


def sweeps() -> str:
    """The warden's look at every held lock."""
    return warden({"detail-type": "Scheduled Event"})


def warden(event: dict[str, Any]) -> str:
    try:
        function("warden").handler(event, CONTEXT)
    except ExceptionGroup as failures:
        # A driver that another one has got ahead of, in both of its attempts to move the alias.
        left = "the driver's rollback failed; the next sweep retries it"
        if not all(isinstance(each, Transient) and str(each).startswith(left) for each in failures.exceptions):
            raise
        return "left to the next sweep"
    return "done"


def aborts() -> str:
    """An operator's abort of the first rollout."""
    try:
        SignalInbox(TABLE_ON_STAGE).record_signal(FIRST, "s-1", signal_of("abort"))
    except SignalRefused:
        return "refused"
    return "recorded"


def drops() -> str:
    """An operator's abort of the second rollout, which may wait in line."""
    try:
        SignalInbox(TABLE_ON_STAGE).record_signal(SECOND, "s-2", signal_of("abort"))
    except SignalRefused:
        return "refused"
    record = TABLE_ON_STAGE.rollout(SECOND)
    if record and Line(TABLE_ON_STAGE).leave(record, "aborted by someone"):
        line.dismiss(CLIENTS["stepfunctions"], record, "aborted by someone")
        return "dropped"
    return "recorded"


def second_is_stopped() -> str:
    """Somebody stops the second rollout's execution, which may wait in line, and the warden is told."""
    Execution(execution_of(SECOND)).end("ABORTED")
    arn = execution_of(SECOND)
    detail = {"name": arn.rsplit(":", 1)[-1], "executionArn": arn, "status": "ABORTED"}
    detail |= {"input": json.dumps({"id": SECOND})}
    return warden({"detail-type": "Step Functions Execution Status Change", "detail": detail})


def bakes() -> str:
    """The first rollout's baker, which leaves a token; an execution that was stopped may have one at work."""
    try:
        Steps(TABLE_ON_STAGE).open_bake(plan_of(FIRST), 1, 1, 0, token="t-2", attempt="b")
    except LockLost:
        return "superseded"
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "bakes"


def acquires() -> str:
    """The first rollout's acquirer, which is at work already; its execution may have been stopped since."""
    asked = {"request": request_of(FIRST).to_wire(), "plan": plan_of(FIRST).to_wire()}
    try:
        told = function("acquirer").handler(asked | {"execution": execution_of(FIRST)}, CONTEXT)
    except LockLost:
        return "superseded"
    return "begun" if told["lock"] == "held" else str(told["lock"])


def moves() -> str:
    """The first rollout's machine, from Prepare to its first step, or back if somebody objects."""
    execution = Execution(execution_of(FIRST))
    try:
        told = execution.task("lambda_alias_driver", driver_event("prepare", 1))
        execution.task("lambda_alias_driver", driver_event("shift", 1, weight=10, state=told["state"]))
    except Stopped:
        return "stopped"
    except LockLost:
        execution.end("FAILED")
        return "superseded"
    except Aborted:
        return turns_back()
    return "shifted"


def pauses() -> str:
    """The first rollout's pauser, which leaves a token as well."""
    try:
        Steps(TABLE_ON_STAGE).open_pause(plan_of(FIRST), 1, 1, pause_verdict(failed=True), "p-1", "p1")
    except LockLost:
        return "superseded"
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "pauses"


def shifts() -> str:
    """The first rollout's driver, which gives the candidate more; it may outlive its execution as well."""
    record = stored_rollout(TABLE_ON_STAGE, FIRST)
    assert record is not None
    try:
        function("lambda_alias_driver").handler(driver_event("shift", 1, weight=50, state=record["state"]), CONTEXT)
    except Transient:
        raise
    except HeadgateError as error:
        return type(error).__name__
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "shifted"


def is_stopped() -> str:
    """Somebody stops the first rollout's execution."""
    Execution(execution_of(FIRST)).end("ABORTED")
    return "done"


TABLE_ON_STAGE = Table(CLIENTS["dynamodb"], TABLE)
LOCKS_ON_STAGE = Locks(TABLE_ON_STAGE)

PLAYS: dict[str, Callable[[], str]] = {
    "succeeds": lambda: settles("succeeded"),
    "rolls back": lambda: settles("rolled-back"),
    "turns back": turns_back,
    "is refused": lambda: settles("refused", epoch=0),
    "warden": is_told,
    "sweep": sweeps,
    "second": lambda: by_hand(SECOND),
    "intake": lambda: taken_in(SECOND),
    "eager": lambda: by_hand(EAGER, onBusy="refuse"),
    "heir": lambda: carries_out(WAITING),
    "begins": lambda: carries_out(FIRST),
    "acquirer": acquires,
    "moves": moves,
    "abort": aborts,
    "baker": bakes,
    "pauser": pauses,
    "driver": shifts,
    "stop": is_stopped,
    "drop": drops,
    "gives up": gives_up,
    "second's stop": second_is_stopped,
}
CARRIED_OUT_BY = {"succeeds": FIRST, "rolls back": FIRST, "turns back": FIRST, "is refused": FIRST, "begins": FIRST,
                  "acquirer": FIRST, "moves": FIRST, "second": SECOND, "gives up": SECOND,
                  "eager": EAGER, "heir": WAITING}  # fmt: skip
"""The machines: while one of these has not finished, its rollout's execution runs; when it dies, that does."""


@functools.cache
def actor(kind: str, number: int = 1, tries: int = 1) -> Actor:
    name = f"{kind} {number}" if number > 1 else kind
    return Actor(name, PLAYS[kind], CARRIED_OUT_BY.get(kind, ""), tries)


def cast(*kinds: str) -> list[Actor]:
    """An actor for each of these, and one more for each time that one is named again."""
    return [actor(kind, 1 + kinds[:place].count(kind)) for place, kind in enumerate(kinds)]


# --- The world -------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """How far the first rollout has got, what its execution does, and whether somebody is in line behind it."""

    phase: str
    execution: str = "ABORTED"
    """Empty if there is none."""
    line: bool = False

    def __str__(self) -> str:
        return "-".join(part for part in (self.phase, self.execution.lower(), "line" * self.line) if part)


@functools.cache
def world(begun: Start) -> World:
    """The world to begin with."""
    client = MemoryTable()
    storage = Table(client, TABLE)  # type: ignore[arg-type]
    alias = set_up(begun.phase, storage)
    if begun.line:
        admit(Locks(storage), WAITING)
    if begun.phase in ("left", "gone"):
        client.items = with_an_end(client.items, gone=begun.phase == "gone")
    outside = {"alias": text_of({"RevisionId": "r-1"} | alias)}
    if begun.execution:
        outside[execution_of(FIRST)] = begun.execution
    return World(frozenset(client.items.items()), frozenset(outside.items()))


def set_up(phase: str, storage: Table) -> dict[str, Any]:
    """Let the first rollout get as far as this; how the alias stands then."""
    begun, steps = Locks(storage), Steps(storage)
    stable: dict[str, Any] = {"FunctionVersion": "6", "RoutingConfig": {}}
    state = AliasState(stable="6", candidate="7", revision_id="r-1", position=Weight(10))
    if phase == "free":
        return stable
    if phase in ("accepted", "left", "gone"):
        admit(begun, FIRST)
        return stable
    plan = start(begun, FIRST)
    if phase == "begun":
        return stable
    steps.enter(FIRST, "preparing")
    steps.keep_state(FIRST, state.to_wire())
    steps.open_bake(plan, 1, 0, 0, token="t-1", attempt="a")
    if phase == "baking":
        return stable | {"RoutingConfig": {"AdditionalVersionWeights": {"7": 0.1}}}
    steps.close_wait(FIRST, step_key(0, 0))
    if phase == "promoting":
        steps.enter(FIRST, "promoting", number_of(PROMOTED))
        steps.keep_state(FIRST, state.model_copy(update={"position": PROMOTED}).to_wire())
        return {"FunctionVersion": "7", "RoutingConfig": {}}
    assert phase == "rolling-back"
    steps.enter(FIRST, "rolling-back")
    return stable


def with_an_end(before: Items, *, gone: bool) -> Items:
    """The items when the first rollout has ended and has kept its lock; its record may have expired since."""
    alone = MemoryTable({key: text for key, text in before.items() if not key[1].startswith("WAIT#")})
    (record,) = ((key, read(text)) for key, text in before.items() if key == (f"ROLLOUT#{FIRST}", "ROLLOUT"))
    settle(Locks(Table(alone, TABLE)), FIRST, "refused")  # type: ignore[arg-type]
    ended = {key: text for key, text in alone.items.items() if key[0] == record[0][0]}
    kept = {key: text for key, text in before.items() if key[0] != record[0][0]}
    return kept if gone else kept | ended


@functools.lru_cache(maxsize=100_000)
def read(text: str) -> dict[str, Any]:
    return from_item(json.loads(text))


class View:
    """A world as it is looked at by those who know what must hold."""

    def __init__(self, seen: World) -> None:
        found = {key: read(text) for key, text in seen.table}
        self.lock = found.get((f"TARGET#{TARGET_KEY}", "LOCK"), {})
        self.line = [item["rolloutId"] for (_, sk), item in found.items() if sk.startswith("WAIT#")]
        self.records = {pk.removeprefix("ROLLOUT#"): item for (pk, sk), item in found.items() if sk == "ROLLOUT"}
        self.endings = {pk.removeprefix("ROLLOUT#"): item for (pk, sk), item in found.items() if sk == "EVENT#ended"}
        self.events = {key: item for key, item in found.items() if key[1].startswith("EVENT#")}
        outside = {name: text for name, text in seen.outside if not name.startswith(TOKENS)}
        self.ended_tasks = {name.removeprefix(TOKENS) for name, _ in seen.outside if name.startswith(TOKENS)}
        self.alias = json.loads(outside.pop("alias"))
        self.executions = outside
        self.owner: str | None = self.lock.get("owner")
        self.going_on = self.those("accepted", "running", "paused")
        self.ended = self.those(*ANNOUNCED_AS)

    def those(self, *statuses: str) -> list[str]:
        return sorted(i for i, record in self.records.items() if record["status"] in statuses)


@functools.lru_cache(maxsize=100_000)
def view(seen: World) -> View:
    return View(seen)


def wrong_at_any_time(then: View, now: View) -> Iterator[str]:
    """What must hold after each write."""
    yield from wrong_with_the_lock(then, now)
    yield from wrong_with_the_ends(then, now)
    if sorted(now.line) != now.those("waiting") or len(now.line) != now.lock.get("waiting", 0):
        yield f"in line are {now.line}, {now.those('waiting')} wait, and the lock counts {now.lock.get('waiting', 0)}"


def wrong_with_the_lock(then: View, now: View) -> Iterator[str]:
    """It belongs to the one rollout that goes on, and its epoch rises."""
    # Some begin with a lock that an ended rollout has kept.
    if now.owner in now.ended and not (now.owner == then.owner and now.owner in then.ended):
        yield f"the lock belongs to {now.owner}, which has ended"
    if len(now.going_on) > 1:
        yield f"{' and '.join(now.going_on)} go on at the same time"
    for rollout_id in now.going_on:
        if (now.owner, now.lock.get("epoch")) != (rollout_id, now.records[rollout_id]["epoch"]):
            yield f"{rollout_id} goes on, and the lock is {now.owner}'s"
    if now.lock.get("epoch", 0) < then.lock.get("epoch", 0):
        yield "the epoch falls"
    if now.owner not in (None, then.owner) and now.lock["epoch"] == then.lock.get("epoch", 0):
        yield "the lock changes hands without a new epoch"


def wrong_with_the_ends(then: View, now: View) -> Iterator[str]:
    """Each rollout ends once, says so once, and leaves no token."""
    if sorted(now.endings) != now.ended:
        yield f"{now.ended} have ended, and {sorted(now.endings)} say so"
    for key, event in then.events.items():
        if now.events.get(key) != event:
            yield f"{key} was changed"
    for rollout_id in then.ended:
        if now.records.get(rollout_id, {}).get("status") != then.records[rollout_id]["status"]:
            yield f"{rollout_id} ends again"
    for rollout_id in now.ended:
        if "token" in now.records[rollout_id]:
            yield f"{rollout_id} has ended and has a token"
    for rollout_id in now.those("running", "paused"):
        if "turnToken" in now.records[rollout_id]:
            yield f"{rollout_id} runs and has the token of its turn"


def wrong_in_the_end(now: View) -> Iterator[str]:
    """What must hold when the warden has nothing to do any more."""
    running = {arn for arn, status in now.executions.items() if status == "RUNNING"}
    for rollout_id in now.going_on:
        if now.records[rollout_id]["execution"] not in running:
            yield f"nobody carries {rollout_id} out"
    for rollout_id in now.those("accepted"):
        if now.records[rollout_id].get("turnToken", "none") not in {"none", *now.ended_tasks}:
            yield f"{rollout_id} does not know that its turn has come"
    if now.owner is None and now.line:
        yield f"{now.line} wait, and the lock is free"
    if now.owner is not None and now.owner not in now.going_on:
        yield f"the lock belongs to {now.owner}, which does not go on"
    first = now.records.get(FIRST, {}).get("status")
    if first in ANNOUNCED_AS:
        routing = (now.alias["FunctionVersion"], now.alias["RoutingConfig"].get("AdditionalVersionWeights") or {})
        if routing != ("7" if first == "succeeded" else "6", {}):
            yield f"{FIRST} is {first}, and the alias serves {routing}"


class Headgate(Rules):
    """Headgate's invariants, in AWS's world."""

    def __init__(self, sweeper: Actor | None = None) -> None:
        self._sweeper = sweeper or actor("sweep")
        self._ends: dict[tuple[World, frozenset[str]], tuple[str, list[Step]]] = {}

    def carry_out(self, world: World, call: Call) -> tuple[World, str] | None:
        parameters = json.loads(call.parameters)
        if call.service == "dynamodb":
            before = dict(world.table)
            after, answer = apply(before, call.operation, parameters)
            return world if after is before else world._replace(table=frozenset(after.items())), text_of(answer)
        outside = dict(world.outside)
        told = OUTSIDE[call.operation](outside, **parameters)
        return None if told is WAITS else (world._replace(outside=frozenset(outside.items())), text_of(told))

    def check(self, before: World, after: World) -> str:
        return "" if before.table == after.table else "; ".join(wrong_at_any_time(view(before), view(after)))

    def at_the_end(self, world: World, dead: frozenset[str]) -> tuple[str, list[Step]]:
        """The executions of these rollouts have died with who was carrying them out; the warden sweeps, alone."""
        if (world, dead) not in self._ends:
            names = tuple(execution_of(rollout_id) for rollout_id in dead)
            outside = {
                name: "ABORTED" if status == "RUNNING" and name.startswith(names) else status
                for name, status in world.outside
            }
            left = world._replace(outside=frozenset(outside.items()))
            if (left, NOBODY) not in self._ends:
                self._ends[left, NOBODY] = self._sweep(left)
            self._ends[world, dead] = self._ends[left, NOBODY]
        return self._ends[world, dead]

    def _sweep(self, left: World) -> tuple[str, list[Step]]:
        steps: list[Step] = []
        for _ in range(SWEEPS):
            before, position = left, self._sweeper.beginning
            while position.ended is None:
                result = self.carry_out(left, position.call)
                assert result is not None
                steps.append(Step("the warden alone", position.call, result[1]))
                if wrong := self.check(left, result[0]):
                    return wrong, steps
                left, position = result[0], position.after(result[1])
            if left == before:
                return "; ".join(wrong_in_the_end(view(left))), steps
        return f"the warden has not done after {SWEEPS} sweeps", steps

    def told(self, step: Step) -> str:
        return told(step)


WAITS = object()
TOKENS = "token "
NOBODY: frozenset[str] = frozenset()


def describe_execution(outside: dict[str, str], arn: str) -> str | None:
    return outside.get(arn)


def start_execution(outside: dict[str, str], arn: str) -> str | None:
    """Starts it, unless there is one of that name; the status of that."""
    known = outside.get(arn)
    outside.setdefault(arn, "RUNNING")
    return known


def end_execution(outside: dict[str, str], arn: str, status: str) -> None:
    if outside.get(arn) == "RUNNING":
        outside[arn] = status


def await_execution(outside: dict[str, str], rollout: str) -> Any:
    """The execution of a rollout that runs, under whatever name."""
    return next((arn for arn in sorted(outside) if arn.startswith(rollout) and outside[arn] == "RUNNING"), WAITS)


def await_token(outside: dict[str, str], token: str, arn: str) -> Any:
    """How a task has been ended; None if its execution has been stopped."""
    if outside.get(arn) != "RUNNING":
        return None
    return outside.get(TOKENS + token, WAITS)


def end_task(outside: dict[str, str], token: str, how: str) -> None:
    outside.setdefault(TOKENS + token, how)


def get_alias(outside: dict[str, str]) -> Any:
    return json.loads(outside["alias"])


def update_alias(outside: dict[str, str], RevisionId: str, **changes: Any) -> Any:
    alias = json.loads(outside["alias"])
    if alias["RevisionId"] != RevisionId:
        return None
    kept = {name: changes[name] for name in ("FunctionVersion", "RoutingConfig")}
    alias = kept | {"RevisionId": f"r-{1 + int(RevisionId.removeprefix('r-'))}"}
    outside["alias"] = text_of(alias)
    return alias


OUTSIDE: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        describe_execution,
        start_execution,
        end_execution,
        await_execution,
        await_token,
        end_task,
        get_alias,
        update_alias,
    )
}


# --- How a schedule is told ------------------------------------------------------------------------------------------


def told(step: Step) -> str:
    """One step as a line: who asks for what of which items, and what the answer was."""
    parameters = json.loads(step.call.parameters)
    of = ", ".join(subjects(step.call.operation, parameters)) or text_of(parameters)
    answer = "dies, and is tried again" if step.died else gist(json.loads(step.answer))
    return f"{step.actor}: {step.call.operation} {of} -> {answer}"


def subjects(operation: str, parameters: dict[str, Any]) -> Iterator[str]:
    """The items that a call is about."""
    if operation == "query":
        yield parameters.get("IndexName", parameters["ExpressionAttributeValues"].get(":pk", {}).get("S"))
    writes = [(kind, write) for each in parameters.get("TransactItems", []) for kind, write in each.items()]
    for kind, write in writes or ([("", parameters)] if "Key" in parameters else []):
        key = from_item(write["Key"] if "Key" in write else write["Item"])
        yield f"{kind} {key['pk']}/{key['sk']}".strip()
    if "arn" in parameters:
        yield parameters["arn"].rsplit(":", 1)[-1][:10]


def gist(answer: Any) -> str:
    """What matters of an answer."""
    if not isinstance(answer, dict):
        return str(answer)
    if "Error" in answer:
        return str(answer["Error"]["Code"])
    item = answer.get("Item") or answer.get("Attributes")
    if item is not None:
        kept = ("status", "phase", "owner", "epoch", "waiting", "version")
        return ", ".join(f"{name} {value}" for name, value in from_item(item).items() if name in kept) or "there"
    if "Items" in answer:
        return f"{len(answer['Items'])} items"
    return "done" if not answer else text_of(answer)


# --- What is explored ------------------------------------------------------------------------------------------------

WARDENS = ("warden", "sweep")
COMERS = ("second", "intake", "eager", "abort", "stop")
MEETINGS: dict[str, tuple[str, ...]] = {
    "promoting": ("succeeds", *WARDENS),
    "rolling-back": ("rolls back",),
    "baking": ("turns back", "baker", "pauser", "driver", *WARDENS),
    "begun": ("moves", *WARDENS),
    "accepted": ("begins", "acquirer", "is refused", *WARDENS),
    "left": ("is refused", *WARDENS),
    "gone": WARDENS,
    "free": ("sweep",),
}
"""Whose work depends on how far the first rollout has got."""


def starts(phase: str) -> list[Start]:
    executions = {"accepted": ("RUNNING", "ABORTED", ""), "free": ("",), "left": ("ABORTED",), "gone": ("",)}
    lines = (False,) if phase == "free" else (False, True)
    return [Start(phase, *each) for each in itertools.product(executions.get(phase, ("RUNNING", "ABORTED")), lines)]


def pairs() -> Iterator[tuple[Start, tuple[str, ...]]]:
    """Everybody with everybody else, and with another one of his kind."""
    for phase, kinds in MEETINGS.items():
        for begun in starts(phase):
            comers = (*COMERS, *WARDENS) if phase == "rolling-back" else (*COMERS, "heir") if begun.line else COMERS
            among = [pair for pair in itertools.combinations_with_replacement(kinds, 2) if pair not in NO_TWINS]
            if phase in ("promoting", "baking"):
                among = [pair for pair in among if pair not in SAME_AS_BOTH]
            if phase in ("promoting", "free"):
                among += itertools.combinations_with_replacement(comers, 2)
            yield from ((begun, pair) for pair in [*itertools.product(kinds, comers), *among])


NO_TWINS = [("moves", "moves")]
"""No machine prepares twice at the same time."""
SAME_AS_BOTH = [("warden", "warden"), ("sweep", "sweep")]
"""Both do the same once they have found the rollout: where a rescue is long, one of each will do."""
DYING = "ABORTED"
"""Executions that have been stopped, while functions that they had invoked are still at work."""

GATHERINGS: list[tuple[Start, tuple[str, ...]]] = [
    # Two wardens and the machine's Settle.
    (Start("promoting", DYING), ("warden", "sweep", "succeeds")),
    (Start("promoting", DYING, line=True), ("warden", "sweep", "succeeds")),
    (Start("rolling-back", DYING), ("warden", "warden", "rolls back")),
    (Start("accepted", DYING), ("warden", "sweep", "is refused")),
    # Two wardens and a request.
    (Start("accepted", DYING), ("warden", "sweep", "intake")),
    (Start("accepted", DYING, line=True), ("warden", "sweep", "intake")),
    (Start("accepted", DYING, line=True), ("warden", "sweep", "heir")),
    (Start("accepted", DYING), ("warden", "sweep", "eager")),
    # Settle, a request and a warden.
    (Start("promoting", DYING), ("succeeds", "warden", "second")),
    (Start("promoting", DYING, line=True), ("succeeds", "warden", "second")),
    (Start("promoting", DYING, line=True), ("succeeds", "warden", "heir")),
    (Start("promoting", DYING), ("succeeds", "warden", "eager")),
    (Start("promoting", "RUNNING", line=True), ("succeeds", "stop", "sweep", "heir")),
    # Settle, a warden and a beginning.
    (Start("accepted", DYING), ("is refused", "warden", "acquirer")),
    (Start("accepted", DYING, line=True), ("is refused", "warden", "acquirer")),
    (Start("accepted", "RUNNING"), ("is refused", "stop", "sweep", "acquirer")),
    (Start("accepted", DYING), ("warden", "sweep", "acquirer")),
    (Start("accepted", DYING), ("warden", "acquirer", "second")),
    (Start("accepted", "", line=True), ("sweep", "begins", "intake")),
    # An execution that is stopped while it is looked at, or objected to.
    (Start("begun", "RUNNING"), ("moves", "stop", "sweep")),
    (Start("begun", "RUNNING", line=True), ("moves", "stop", "warden")),
    (Start("begun", "RUNNING"), ("moves", "abort", "stop")),
    (Start("baking", "RUNNING"), ("turns back", "stop", "sweep")),
    (Start("baking", "RUNNING"), ("turns back", "driver", "stop")),
    (Start("baking", "RUNNING"), ("turns back", "driver", "abort")),
    (Start("baking", "RUNNING"), ("turns back", "driver", "pauser")),
    (Start("promoting", "RUNNING"), ("succeeds", "abort", "stop", "sweep")),
    (Start("promoting", DYING, line=True), ("succeeds", "abort", "warden")),
    # What comes late, of an execution that is dead.
    (Start("baking", DYING), ("warden", "driver", "baker")),
    (Start("baking", DYING), ("warden", "sweep", "baker")),
    (Start("baking", DYING), ("warden", "sweep", "abort")),
    # A lock that an ended rollout has kept.
    (Start("left", DYING), ("sweep", "sweep", "second")),
    (Start("left", DYING, line=True), ("sweep", "sweep", "heir")),
    (Start("gone", ""), ("sweep", "sweep", "second")),
    (Start("gone", "", line=True), ("sweep", "sweep", "heir")),
    (Start("free", ""), ("second", "eager", "intake")),
    # A request that waits in line in its own execution, and leaves the line while its turn comes.
    (Start("promoting", "RUNNING"), ("succeeds", "second", "drop")),
    (Start("promoting", "RUNNING"), ("succeeds", "second", "second's stop")),
    (Start("promoting", "RUNNING", line=True), ("succeeds", "second", "drop")),
    (Start("promoting", "RUNNING"), ("succeeds", "gives up", "drop")),
    (Start("promoting", "RUNNING", line=True), ("succeeds", "gives up", "warden")),
    (Start("promoting", DYING), ("sweep", "gives up", "drop")),
    (Start("promoting", DYING), ("warden", "second", "drop")),
    (Start("promoting", DYING), ("sweep", "second", "second's stop")),
    (Start("rolling-back", "RUNNING"), ("rolls back", "second", "sweep", "drop")),
]  # fmt: skip


def named(case: Any) -> str:
    return "+".join(case) if isinstance(case, tuple) and not isinstance(case, Start) else str(case)


@pytest.mark.slow
@pytest.mark.parametrize(("begun", "kinds"), [*pairs(), *GATHERINGS], ids=named)
def test_in_whatever_order_they_work_and_die_the_invariants_hold(begun: Start, kinds: tuple[str, ...]) -> None:
    explore(world(begun), cast(*kinds), Headgate())


@pytest.mark.slow
@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize(
    ("phase", "execution", "kind", "other"),
    [
        ("promoting", "RUNNING", "succeeds", "second"),
        ("promoting", "RUNNING", "succeeds", "abort"),
        ("promoting", "RUNNING", "succeeds", "stop"),
        ("promoting", DYING, "succeeds", "warden"),
        ("baking", "RUNNING", "turns back", "second"),
        ("accepted", "RUNNING", "begins", "stop"),
        ("accepted", DYING, "warden", "sweep"),
        ("accepted", DYING, "warden", "second"),
        ("promoting", "RUNNING", "intake", "succeeds"),
        ("left", DYING, "sweep", "second"),
    ],
)  # fmt: skip
def test_nor_does_it_matter_if_one_that_dies_is_tried_again(
    phase: str, execution: str, kind: str, other: str, line: bool
) -> None:
    explore(world(Start(phase, execution, line)), [actor(kind, tries=2), actor(other)], Headgate())


# --- An alias that a consumer is behind ------------------------------------------------------------------------------


def begins_by_itself(target: dict[str, str], rollout_id: str) -> str:
    """A rollout of the alias, or of a consumer that is behind it: its acquirer."""
    alias = plan_of(rollout_id).alias
    request = request_of(rollout_id, target=target)
    plan = make_plan(request, driver=DRIVER, firing=[], alias=alias)
    execution = execution_of(rollout_id)
    try:
        asked = {"request": request.to_wire(), "plan": plan.to_wire(), "execution": execution}
        return str(function("acquirer").handler(asked, CONTEXT)["lock"])
    except RequestRefused:
        return "refused"


class OneAlias(Headgate):
    """Nobody dies here: what is at stake is who begins."""

    def check(self, before: World, after: World) -> str:
        running = view(after).those("running")
        return f"{' and '.join(running)} move one alias" if len(running) > 1 else ""

    def at_the_end(self, world: World, dead: frozenset[str]) -> tuple[str, list[Step]]:
        return "", []


def test_an_alias_and_a_consumer_behind_it_are_not_rolled_out_at_the_same_time() -> None:
    consumer = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "mode": "split"}
    actors = [
        Actor("consumer", lambda: begins_by_itself(consumer, "consumer")),
        Actor("alias", lambda: begins_by_itself(TARGET, "alias")),
    ]
    ends = explore(world(Start("free", "")), actors, OneAlias()).ends
    assert ends >= {("held", "refused"), ("refused", "held")}


# --- The exploration itself ------------------------------------------------------------------------------------------


class Counting(Rules):
    """A world of one number, which is read and written."""

    def carry_out(self, world: World, call: Call) -> tuple[World, str] | None:
        if call.operation == "read":
            return world, next(text for _, text in world.outside)
        return world._replace(outside=frozenset({("number", call.parameters)})), ""

    def check(self, before: World, after: World) -> str:
        return ""

    def at_the_end(self, world: World, dead: frozenset[str]) -> tuple[str, list[Step]]:
        self.seen.add((next(text for _, text in world.outside), dead))
        return "", []

    def __init__(self) -> None:
        self.seen: set[tuple[str, frozenset[str]]] = set()


def counts() -> str:
    more = str(int(ask("counter", "read", str)) + 1)
    ask("counter", "write", lambda: more)
    return more


def test_an_exploration_meets_every_order_and_every_death() -> None:
    # GIVEN two who add one each, in two calls
    rules = Counting()
    actors = [Actor(name, counts, carries=name) for name in ("a", "b")]
    # WHEN they are explored, THEN each came first once, and once they were at it together
    explored = explore(World(frozenset(), frozenset({("number", "0")})), actors, rules)
    assert explored.ends == {("1", "2"), ("2", "1"), ("1", "1")}
    # AND each died once, before the other went on and after, and both did
    a, b, both, none = (frozenset(dead) for dead in ("a", "b", "ab", ""))
    assert rules.seen == {("0", both), ("1", a), ("1", b), ("1", none), ("2", none)}


def test_one_that_dies_and_is_tried_again_may_have_had_its_effect() -> None:
    actors = [Actor("a", counts, tries=2)]
    explored = explore(World(frozenset(), frozenset({("number", "0")})), actors, Counting())
    assert explored.ends == {("1",), ("2",)}


class TornSettler(Settler):
    """A settler as it once was: the end is written whatever has happened between the reads of record and lock."""

    def _write_end(self, record: RolloutRecord, outcome: TerminalStatus, fields: dict[str, Any]) -> Settlement:
        lock = self._table.lock(record.target_key)
        ours = (lock.owner, lock.epoch) == (record.id, record.epoch)
        self._table.transact(
            self._table.update_rollout(
                record.id,
                {"status": outcome, "endedAt": table.now_iso(), **fields},
                condition="#status IN (:accepted, :running)",
                values={":accepted": "accepted", ":running": "running"},
                remove=["token"],
            ),
            self._table.put_event(record.id, ANNOUNCED_AS[outcome], "ended", fields),
            *([self._table.put_lock(lock.freed(promoted=False))] if ours else []),
        )
        return Settlement()


def test_a_torn_read_would_be_found_and_its_schedule_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN wardens that end a rollout without asking whether what they have read still holds
    torn = TornSettler(TABLE_ON_STAGE)
    warden = function("warden").supervision
    monkeypatch.setattr(warden, "settler", torn)
    monkeypatch.setattr(warden, "recovery", recovery.Recovery(TABLE_ON_STAGE, torn, CLIENTS["lambda"]))
    wardens = [Actor(name, is_told) for name in ("one", "other")]
    # WHEN two of them are explored
    with pytest.raises(Broken, match="the lock belongs to first, which has ended") as broken:
        explore(world(Start("accepted")), wardens, Headgate(Actor("sweep", sweeps)))
    # THEN the schedule says that one took the lock over between the other's reads of the record and of the lock
    lock, record, event = f"TARGET#{TARGET_KEY}/LOCK", f"ROLLOUT#{FIRST}/ROLLOUT", f"ROLLOUT#{FIRST}/EVENT#ended"
    steps = [told(step).partition(" -> ")[0] for step in broken.value.schedule]
    assert [step for step in steps if step.startswith("one: ")][-3] == f"one: get_item {record}"
    assert steps[-3:] == [
        f"other: transact_write_items Put {lock}, Update {record}",
        f"one: get_item {lock}",
        f"one: transact_write_items Update {record}, Put {event}",
    ]


# --- A lock that an ended rollout has kept ---------------------------------------------------------------------------


def mended(begun: Start) -> View:
    """The world after one sweep."""
    position, seen, rules = actor("sweep").beginning, world(begun), Headgate()
    while position.ended is None:
        result = rules.carry_out(seen, position.call)
        assert result is not None
        seen, position = result[0], position.after(result[1])
    return View(seen)


@pytest.mark.parametrize("phase", ["left", "gone"])
class TestALockThatAnEndedRolloutHasKept:
    def test_one_sweep_frees_it_if_nobody_waits(self, phase: str) -> None:
        before, after = View(world(Start(phase))), mended(Start(phase))
        assert (before.owner, after.owner) == (FIRST, None)
        assert "held" not in after.lock
        assert after.lock["epoch"] >= before.lock["epoch"]
        assert after.records == before.records

    def test_one_sweep_hands_it_to_whoever_is_first_in_line_and_starts_that(self, phase: str) -> None:
        before, after = View(world(Start(phase, line=True))), mended(Start(phase, line=True))
        heir = after.records[WAITING]
        assert (before.owner, after.owner, after.line, after.lock["waiting"]) == (FIRST, WAITING, [], 0)
        assert (heir["status"], heir["epoch"]) == ("accepted", after.lock["epoch"])
        assert after.lock["epoch"] > before.lock["epoch"]
        assert after.executions[heir["execution"]] == "RUNNING"

    def test_releasing_it_answers_the_record_of_its_heir(self, phase: str) -> None:
        storage = table_of(Start(phase, line=True))
        assert held(storage) == [(FIRST, TARGET_KEY)]
        heir = Settler(storage).release(FIRST, TARGET_KEY)
        assert heir == storage.rollout(WAITING)
        assert held(storage) == [(WAITING, TARGET_KEY)]

    def test_releasing_it_for_another_rollout_changes_nothing(self, phase: str) -> None:
        storage = table_of(Start(phase, line=True))
        before = stored_lock(storage, TARGET_KEY)
        assert Settler(storage).release(SECOND, TARGET_KEY) is None
        assert stored_lock(storage, TARGET_KEY) == before

    def test_releasing_it_again_leaves_its_heir_alone(self, phase: str) -> None:
        storage = table_of(Start(phase, line=True))
        Settler(storage).release(FIRST, TARGET_KEY)
        before = stored_lock(storage, TARGET_KEY)
        assert Settler(storage).release(FIRST, TARGET_KEY) is None
        assert stored_lock(storage, TARGET_KEY) == before


@pytest.mark.parametrize("phase", ["accepted", "begun", "baking"])
def test_the_lock_of_a_rollout_that_goes_on_is_not_released(phase: str) -> None:
    storage = table_of(Start(phase, line=True))
    before = stored_lock(storage, TARGET_KEY)
    assert Settler(storage).release(FIRST, TARGET_KEY) is None
    assert stored_lock(storage, TARGET_KEY) == before


def table_of(begun: Start) -> Table:
    """A table of its own, as a world begins with."""
    return Table(MemoryTable(dict(world(begun).table)), TABLE)  # type: ignore[arg-type]


def held(storage: Table) -> list[tuple[str, str]]:
    """Owner and target of each lock that is held."""
    return [(owner, target) for target, owner in Locks(storage).held().items()]


# --- The table, held against moto ------------------------------------------------------------------------------------

KEYS = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "LOCK")]
# Without 1: moto says that it is in a list with true.
VALUES: list[Any] = ["x", "y", "", 0, 3, 2.5, True, {"x": "y"}, {"n": {"m": 1}}, [], ["x", 1]]
BITS: dict[str, Any] = {"bits": {"B": b"\x00\xff"}, "some": {"L": [{"M": {"bits": {"B": b"{"}}}]}}
CONDITIONS = [
    "attribute_exists(pk)",
    "attribute_not_exists(pk)",
    "#one = :one",
    "#one <> :one",
    "#one IN (:one, :two)",
    "two = :two AND #one = :one",
    "#one = :one OR two = :two AND attribute_exists(two)",
    "(#one = :one OR two = :two) AND attribute_exists(two)",
    "attribute_not_exists(#one) OR #one = :one",
    "n <= :n",
    "n < :n OR attribute_not_exists(n)",
    "attribute_exists(l) AND size(l) > :n",
    "m.#one = :one",
    "attribute_exists(m.#one)",
]
UPDATES = [
    "SET #one = :one",
    "SET #one = :one, two = :two REMOVE n",
    "SET m = :map",
    "SET two = if_not_exists(#one, :one), #one = if_not_exists(two, :two)",
    "REMOVE #one, two",
    "ADD n :n",
    "ADD n :n SET #one = :one",
]
THROUGH = [
    "SET m.#one = if_not_exists(m.#one, :one)",
    "SET m.#one = :two, n = :n",
    "SET #one = two, two = if_not_exists(#one, :one)",
    "REMOVE m.#one",
]
"""Updates that are refused where what they go through is missing; only single ones, as moto says so for those alone."""


def expressions(chance: random.Random, *used: str) -> dict[str, Any]:
    """The names and values that these expressions use."""
    values = {":one": chance.choice(VALUES), ":two": chance.choice(VALUES), ":map": {}, ":n": chance.choice([0, 1, 5])}
    said = " ".join(used)
    given = {name: value for name, value in values.items() if name in said}
    return {
        **({"ExpressionAttributeNames": {"#one": "one"}} if "#one" in said else {}),
        **({"ExpressionAttributeValues": to_item(given)} if given else {}),
    }


def key_of(pk: str, sk: str) -> dict[str, Any]:
    return to_item({"pk": pk, "sk": sk})


def random_write(chance: random.Random, key: tuple[str, str], kind: str, updates: list[str]) -> dict[str, Any]:
    """One write, on a condition or not."""
    condition = chance.choice(CONDITIONS) if kind == "ConditionCheck" or chance.random() < 0.6 else ""
    update = chance.choice(updates) if kind == "Update" else ""
    fields = {name: chance.choice(VALUES) for name in ("one", "two") if chance.random() < 0.7}
    fields |= {"l": [1] * chance.randint(0, 3)} if chance.random() < 0.5 else {}
    fields |= {"m": {"one": chance.choice(VALUES)}} if chance.random() < 0.3 else {}
    fields |= {"held": "yes", "owner": "x"} if key[1] == "LOCK" and chance.random() < 0.5 else {}
    return {
        "TableName": TABLE,
        **(
            {"Item": key_of(*key) | to_item(fields) | chance.choice([{}, BITS])}
            if kind == "Put"
            else {"Key": key_of(*key)}
        ),
        **({"UpdateExpression": update} if update else {}),
        **({"ConditionExpression": condition} if condition else {}),
        **expressions(chance, condition, update),
    }


def random_call(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """One call, as the modules make them."""
    keys = chance.sample(KEYS, k=chance.randint(1, 3))
    kinds_of_call = ["get", "batch", "line", "all", "held", "put", "put", "update", "update"]
    match chance.choice([*kinds_of_call, "transaction", "transaction", "transaction"]):
        case "batch":
            asked = {"Keys": [key_of(*key) for key in keys], "ConsistentRead": True}
            return "batch_get_item", {"RequestItems": {TABLE: asked}}
        case "put":
            return "put_item", random_write(chance, keys[0], "Put", [])
        case "get":
            return "get_item", {"TableName": TABLE, "Key": key_of(*keys[0]), "ConsistentRead": True}
        case "line":
            values, some = {":pk": "a", ":sk": chance.choice(["1", "2", "3"])}, chance.choice([{}, {"Limit": 1}])
            return query_of("pk = :pk AND begins_with(sk, :sk)", values, ConsistentRead=True, **some)
        case "all":
            backwards: dict[str, Any] = chance.choice(
                [{}, {"ScanIndexForward": False}, {"ScanIndexForward": False, "Limit": 1}]
            )
            return query_of("pk = :pk", {":pk": "a"}, ConsistentRead=True, **backwards)
        case "held":
            return query_of("held = :yes", {":yes": "yes"}, IndexName=locks.HELD_LOCKS)
        case "update":
            update = random_write(chance, keys[0], "Update", UPDATES + THROUGH)
            return "update_item", update | chance.choice([{}, {"ReturnValues": "ALL_NEW"}, {"ReturnValues": "NONE"}])
    kinds = [chance.choice(["Put", "Put", "Update", "Update", "Update", "Delete", "ConditionCheck"]) for _ in keys]
    writes = [{kind: random_write(chance, key, kind, UPDATES)} for key, kind in zip(keys, kinds, strict=True)]
    return "transact_write_items", {"TransactItems": writes}


def query_of(condition: str, values: dict[str, Any], **options: Any) -> tuple[str, dict[str, Any]]:
    given = {"KeyConditionExpression": condition, "ExpressionAttributeValues": to_item(values)}
    return "query", {"TableName": TABLE, **given, **options}


def answer_of(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
    """What matters of an answer."""
    try:
        told = getattr(client, operation)(**parameters)
    except ClientError as error:
        reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", [])]
        return error.response["Error"]["Code"], reasons
    told["Responses"] = {table: sorted(found, key=text_of) for table, found in told.get("Responses", {}).items()}
    return {name: told[name] for name in ("Item", "Items", "Attributes", "Responses") if name in told}


def items_of(client: Any) -> list[Any]:
    return sorted(client.scan(TableName=TABLE, ConsistentRead=True)["Items"], key=text_of)


@pytest.mark.parametrize("seed", range(3))
def test_the_table_in_memory_answers_as_moto_does(dynamodb: Any, seed: int) -> None:
    chance, memory, met = random.Random(seed), ModelledTable(), Counter[str]()
    for _ in range(200):
        operation, parameters = random_call(chance)
        answers = [answer_of(client, operation, parameters) for client in (dynamodb, memory)]
        assert answers[0] == answers[1], (operation, parameters)
        assert items_of(dynamodb) == sorted(memory.all(), key=text_of), parameters
        met[f"{operation} {'refused' if isinstance(answers[0], tuple) else 'done'}"] += 1
    assert min(met.values()) >= 3, met


@pytest.mark.parametrize(
    "given",
    [
        {"ConditionExpression": "contains(one, :one)", "ExpressionAttributeValues": to_item({":one": 1})},
        {"ConditionExpression": "NOT attribute_exists(pk)"},
        {"ConditionExpression": "attribute_exists(pk) attribute_exists(sk)"},
        {"ConditionExpression": "attribute_exists(pk)", "ExpressionAttributeValues": to_item({":unused": 1})},
        {"UpdateExpression": "SET one = one + :one", "ExpressionAttributeValues": to_item({":one": 1})},
        {"UpdateExpression": "SET one = :one REMOVE one", "ExpressionAttributeValues": to_item({":one": 1})},
        {"UpdateExpression": "DELETE one :one", "ExpressionAttributeValues": to_item({":one": 1})},
        {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"},
    ],
)
def test_the_table_in_memory_takes_nothing_that_it_does_not_understand(given: dict[str, Any]) -> None:
    call = {"TableName": TABLE, "Key": key_of("a", "1"), "UpdateExpression": "REMOVE one", "ReturnValues": "ALL_NEW"}
    with pytest.raises(NotUnderstood):
        MemoryTable().update_item(**(call | given))


def test_the_table_in_memory_takes_no_two_writes_of_one_item_in_one_transaction() -> None:
    delete = {"Delete": {"TableName": TABLE, "Key": key_of("a", "1")}}
    with pytest.raises(NotUnderstood, match="two writes of one item"):
        MemoryTable().transact_write_items(TransactItems=[delete, delete])


def test_the_table_in_memory_takes_what_boto3_would_send_and_nothing_else() -> None:
    with pytest.raises(ParamValidationError, match=r"Invalid type for parameter Key\.pk\.S"):
        ModelledTable().get_item(TableName=TABLE, Key={"pk": {"S": 1}, "sk": {"S": "1"}}, ConsistentRead=True)


@pytest.mark.parametrize(
    "keys", [{"Keys": [key_of("a", "1")]}, {"Keys": [key_of("a", "1"), key_of("a", "1")], "ConsistentRead": True}]
)
def test_the_table_in_memory_reads_no_batch_late_or_twice(keys: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        MemoryTable().batch_get_item(RequestItems={TABLE: keys})
