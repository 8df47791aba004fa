"""What the unit tests build their cases of: requests, plans, signals, the files in events/."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from headgate.analysis import judge
from headgate.analysis.evidence import JudgeTerms, Ledger, Pair, take_looks
from headgate.analysis.verdict import Verdict
from headgate.aws.arns import execution_arn, execution_name
from headgate.aws.own_resources import OwnResources
from headgate.aws.patterns import Patterns
from headgate.keys import pause_key, step_key
from headgate.rollouts.settlement import Settler
from headgate.rollouts.signal_inbox import unheard_signals
from headgate.rollouts.step_items import unpack_step
from headgate.rollouts.table import now_iso
from headgate.spec.plan import Plan, make_plan
from headgate.spec.request import RolloutRequest, read_request
from headgate.spec.signal_models import Signal
from headgate.spec.targets import LambdaAliasTarget
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.analysis.judge import Arm, Evidence
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.target_state import TargetState
    from headgate.targets.progress import TargetProgress

    State = TypeVar("State", bound=TargetState)

ROOT = Path(__file__).resolve().parents[1]
REGION, ACCOUNT = "eu-central-1", "123456789012"
TABLE = "headgate"
EVERYTHING = Patterns(
    dict.fromkeys(
        (
            *("TargetFunctions", "HookFunctions", "HookMachines", "CountFunctions", "RedriveQueues", "RedriveStreams"),
            *("CodeObjects", "CodeRepositories", "TargetServices", "TargetClusters", "TargetRules"),
        ),
        "*",
    )
)
OWN = OwnResources("headgate", {"requests": "", "request-dead-letters": "requests", "undelivered": ""})
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:headgate-rollout"
DRIVER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:headgate-lambda-alias-driver"
PUBLISHING_ROLES = tuple(
    f"arn:aws:iam::{ACCOUNT}:role/headgate-{name}Role-0A1B" for name in ("LambdaAliasDriver", "EventSourceDriver")
)
TARGET = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
TARGET_KEY = "lambda-alias/checkout/live"
CONTEXT = SimpleNamespace(
    function_name="headgate",
    memory_limit_in_mb=512,
    invoked_function_arn=DRIVER,
    aws_request_id="request-1",
    get_remaining_time_in_millis=lambda: 30_000,
)
"""The context of an invocation with half a minute left."""
FIRST_TOKEN = "t-1"
UNUSABLE_IDS = ["x" * 3000, "", "a b", "\ud800x", {"a": 1}, 5.5, True, "é" * 100, "\x00", "x" * 129, "-x"]
"""What StartExecution takes for an id, and the table or an event does not."""
TWO_STEPS = {"steps": [{"weight": 10, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 60}]}


def event(name: str) -> Any:
    """The content of events/*/<name>.json; a name is in one folder only."""
    (path,) = (ROOT / "events").glob(f"*/{name}.json")
    return json.loads(path.read_text("utf-8"))


def done(progress: TargetProgress[State]) -> State:
    """The state after a call of a driver that has nothing left to do."""
    assert isinstance(progress, Done), progress
    state: State = progress.state
    return state


def pending(progress: TargetProgress[State]) -> Pending[State]:
    """What a call of a driver waits for."""
    assert isinstance(progress, Pending), progress
    return progress


def finished(action: Callable[[State | None], TargetProgress[State]], known: State | None = None) -> State:
    """The state after an action of a driver that is called again, with its state, for as long as it has a new one."""
    for _ in range(10):
        progress = action(known)
        if isinstance(progress, Done):
            state: State = progress.state
            return state
        known = progress.state or known
    raise AssertionError(progress)


def request_of(rollout_id: str = "checkout-42", **fields: Any) -> RolloutRequest:
    """A valid request; ``fields`` are spelled as on the wire."""
    return read_request({"id": rollout_id, "target": TARGET, "candidate": {"version": "7"}, **fields}, "unused")


def alias_of(request: RolloutRequest) -> LambdaAliasTarget:
    """The alias that a request rolls out."""
    assert isinstance(request.target, LambdaAliasTarget), request.target
    return request.target


def plan_of(rollout_id: str = "checkout-42", *, firing: list[str] | None = None, **fields: Any) -> Plan:
    """The plan of a request with two steps that compares errors, unless ``fields`` say otherwise."""
    fields = {"strategy": TWO_STEPS, "guards": {"errors": {}}} | fields
    return make_plan(request_of(rollout_id, **fields), driver=DRIVER, firing=firing or [])


def execution_of(rollout_id: str) -> str:
    """The ARN of the execution that carries a rollout out."""
    return execution_arn(MACHINE, execution_name(rollout_id))


def pause_verdict(*, failed: bool = False, reason: str = "paused by kim", step: int = 0) -> dict[str, Any]:
    """What the machine hands to a pause."""
    outcome: Any = "roll-back" if failed else "inconclusive"
    return Verdict(outcome=outcome, reason=reason, next="pause", step=step, bake=1, failed=failed).to_wire()


def signal_of(kind: Any, *, by: str = "kim", reason: str = "", step: int = 0) -> Signal:
    return Signal(signal=kind, by=by, reason=reason, step=step, at=now_iso())


def start(locks: Locks, rollout_id: str = "checkout-42", *, firing: list[str] | None = None, **fields: Any) -> Plan:
    """Admit a rollout on a free target and begin it."""
    plan = plan_of(rollout_id, firing=firing, **fields)
    admission = locks.admit(request_of(rollout_id, **fields), execution_of(rollout_id))
    assert admission.lock == "held"
    locks.begin(plan, execution_of(rollout_id), admission.epoch)
    return plan


def settle(locks: Locks, rollout_id: str = "checkout-42", outcome: Any = "succeeded", **fields: Any) -> Any:
    """End a rollout as its own execution would."""
    settler = Settler(locks._table)
    return settler.settle(rollout_id, execution_of(rollout_id), outcome, {"reason": "done", **fields})


def bake(steps: Steps, plan: Plan, step: int = 0, *, token: str = FIRST_TOKEN, attempt: str = "a") -> list[Any]:
    """Open a bake of a rollout that holds epoch 1; the signals that are there already."""
    return unheard_signals(steps.open_bake(plan, 1, step, 0, token=token, attempt=attempt))


def end_bake(steps: Steps, rollout_id: str = "checkout-42", step: int = 0) -> list[Any]:
    """Close a bake; the signals that have come."""
    record = steps.close_wait(rollout_id, step_key(step, 0))
    assert record is not None
    return unheard_signals(record)


def pause(steps: Steps, plan: Plan, number: int = 1, *, token: str = "p-1", **verdict: Any) -> list[Any]:  # noqa: S107
    """Open a pause of a rollout that holds epoch 1; the signals that are there already."""
    return unheard_signals(steps.open_pause(plan, 1, number, pause_verdict(**verdict), token, f"p{number}"))


def end_pause(steps: Steps, rollout_id: str = "checkout-42", number: int = 1) -> list[Any]:
    """Close the wait of a pause; the signals that have come."""
    record = steps.close_wait(rollout_id, pause_key(number))
    assert record is not None
    return unheard_signals(record)


def stored_rollout(table: Table, rollout_id: str) -> dict[str, Any] | None:
    """A rollout's record as the table keeps it, its request and plan as data."""
    item = table.get(f"ROLLOUT#{rollout_id}", "ROLLOUT")
    return item and item | {name: json.loads(item[name]) for name in ("request", "plan") if name in item}


def stored_lock(table: Table, target_key: str) -> dict[str, Any]:
    """A target's lock as the table keeps it; empty if it was never written."""
    return table.get(f"TARGET#{target_key}", "LOCK") or {}


def unheard(table: Table, rollout_id: str = "checkout-42") -> list[Any]:
    """The signals of a rollout that decide something yet."""
    record = table.rollout(rollout_id)
    assert record is not None
    return unheard_signals(record)


def look(
    evidence: Evidence, candidate: Arm, stable: Arm, *, seconds: float = 0.0, shifted: bool = False, **terms: Any
) -> Evidence:
    """The evidence after one more look, on these terms."""
    return judge.look(evidence, candidate, stable, judge.LookTerms(**terms), seconds=seconds, shifted=shifted)


def history(table: Table, rollout_id: str) -> list[dict[str, Any]]:
    """Everything recorded of a rollout, in key order: EVENT, EVIDENCE, LOOK, ROLLOUT, STEP items."""
    return [unpack_step(item) for item in items_at(table, f"ROLLOUT#{rollout_id}")]


def item_bytes(value: Any) -> int:
    """Return the size of an item, or of a value in it, as DynamoDB bills it.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html

    Parameters
    ----------
    value
        The item as a client reads it, with its types.
    """
    if not (isinstance(value, dict) and len(value) == 1 and (kind := next(iter(value))) in _SIZES):
        return sum(len(name.encode()) + item_bytes(inner) for name, inner in value.items())
    return _SIZES[kind](value[kind])


_SIZES: dict[str, Callable[[Any], int]] = {
    "S": lambda text: len(text.encode()),
    "B": len,
    "N": lambda number: (len(number.strip("-0.")) + 1) // 2 + 1 + number.startswith("-"),
    "BOOL": lambda _: 1,
    "NULL": lambda _: 1,
    "SS": lambda texts: sum(len(text.encode()) for text in texts),
    "L": lambda values: 3 + sum(1 + item_bytes(value) for value in values),
    "M": lambda values: 3 + sum(1 + len(name.encode()) + item_bytes(value) for name, value in values.items()),
}


def items_at(table: Table, pk: str) -> list[dict[str, Any]]:
    """Every item with a partition key."""
    return list(table.query("pk = :pk", {":pk": pk}, ConsistentRead=True))


def announced(table: Table, rollout_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The outbox of a rollout: detail-type and detail of each event, in key order."""
    items = history(table, rollout_id)
    return [(item["detailType"], item["detail"]) for item in items if item["sk"].startswith("EVENT#")]


def admit(locks: Locks, rollout_id: str, **fields: Any) -> Any:
    """Ask for a rollout, as intake would."""
    return locks.admit(request_of(rollout_id, **fields), execution_of(rollout_id))


def status_of(table: Table, rollout_id: str) -> str:
    record = table.rollout(rollout_id)
    assert record is not None
    return record.status


def endings(table: Table, rollout_id: str) -> list[str]:
    """The terminal events of a rollout."""
    return [detail["id"] for _, detail in announced(table, rollout_id) if detail["id"].endswith("/ended")]


def nothing_counted(rollout_id: str, since: dict[int, int], *, candidate: str = "7", stable: str = "6") -> Ledger:
    """A ledger whose steps began at these times (milliseconds since 1970), and have counted nothing."""
    return Ledger(rollout_id, candidate, stable, since, counts={}, looked={}, standings={}, minutes={})


def ledger_of(plan: Plan, *counts: dict[str, tuple[Arm, Arm]], **fields: Any) -> Ledger:
    """The ledger of a rollout after a look at all that was counted.

    Parameters
    ----------
    counts
        What each step has counted by measure: candidate, then stable revision.
    """
    by_step = {(step, name): Pair(*arms) for step, measures in enumerate(counts) for name, arms in measures.items()}
    since = dict.fromkeys(range(len(counts)), 1_795_251_603_000)
    nothing = nothing_counted(plan.rollout_id, since)._replace(counts=by_step)
    return take_looks(nothing, JudgeTerms.of(plan.guards), now=since[0], at_least=1)[0]._replace(**fields)


CONTINUE = Verdict(outcome="continue", reason="so far so good", next="shift", step=1)
