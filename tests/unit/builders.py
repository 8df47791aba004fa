"""What the unit tests build their cases of: requests, plans, signals, the files in events/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headgate.aws import execution_arn, execution_name
from headgate.plan import Plan, make_plan
from headgate.request import RolloutRequest, read_request
from headgate.store import Store, now, pause_key, signals_of, step_key
from headgate.verdict import Signal, Verdict

ROOT = Path(__file__).resolve().parents[2]
REGION, ACCOUNT = "eu-central-1", "123456789012"
TABLE = "headgate"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:headgate-rollout"
DRIVER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:headgate-lambda-alias-driver"
TARGET = {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
TARGET_KEY = "lambda-alias/checkout/live"
FIRST_TOKEN = "t-1"
TWO_STEPS = {"steps": [{"weight": 10, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 60}]}


def event(name: str) -> Any:
    """The content of events/<name>.json."""
    return json.loads((ROOT / "events" / f"{name}.json").read_text("utf-8"))


def request_of(rollout_id: str = "checkout-42", **fields: Any) -> RolloutRequest:
    """A valid request; ``fields`` are spelled as on the wire."""
    return read_request({"id": rollout_id, "target": TARGET, "candidate": {"version": "7"}, **fields}, "unused")


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
    return Signal(signal=kind, by=by, reason=reason, step=step, at=now())


def start(store: Store, rollout_id: str = "checkout-42", *, firing: list[str] | None = None, **fields: Any) -> Plan:
    """Admit a rollout on a free target and begin it."""
    plan = plan_of(rollout_id, firing=firing, **fields)
    admission = store.admit(request_of(rollout_id, **fields), execution_of(rollout_id))
    assert admission.lock == "held"
    store.begin(plan, execution_of(rollout_id), admission.epoch)
    return plan


def settle(store: Store, rollout_id: str = "checkout-42", outcome: Any = "succeeded", **fields: Any) -> Any:
    """End a rollout as its own execution would."""
    return store.settle(rollout_id, execution_of(rollout_id), outcome, {"reason": "done", **fields})


def bake(store: Store, plan: Plan, step: int = 0, *, token: str = FIRST_TOKEN, attempt: str = "a") -> list[Any]:
    """Open a bake of a rollout that holds epoch 1; the signals that are there already."""
    return signals_of(store.open_bake(plan, 1, step, 0, token=token, attempt=attempt))


def end_bake(store: Store, rollout_id: str = "checkout-42", step: int = 0) -> list[Any]:
    """Close a bake; the signals that have come."""
    return signals_of(store.close_wait(rollout_id, step_key(step, 0)))


def pause(store: Store, plan: Plan, number: int = 1, *, token: str = "p-1", **verdict: Any) -> list[Any]:  # noqa: S107
    """Open a pause of a rollout that holds epoch 1; the signals that are there already."""
    return signals_of(store.open_pause(plan, 1, number, pause_verdict(**verdict), token, f"p{number}"))


def end_pause(store: Store, rollout_id: str = "checkout-42", number: int = 1) -> list[Any]:
    """Close the wait of a pause; the signals that have come."""
    return signals_of(store.close_wait(rollout_id, pause_key(number)))


def announced(store: Store, rollout_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The outbox of a rollout: detail-type and detail of each event, in key order."""
    items = store.history(rollout_id)
    return [(item["detailType"], item["detail"]) for item in items if item["sk"].startswith("EVENT#")]
