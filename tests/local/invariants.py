"""What must hold whichever way a rollout ended."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from headgate.rollouts.signal_inbox import SignalInbox
from tests.builders import stored_lock
from tests.local.catalogs import assert_service_is_as_recorded
from tests.local.deployed import ENDS, eventually

if TYPE_CHECKING:
    from tests.local.deployed import Headgate

ENDED_AS = {
    "succeeded": ("Rollout Succeeded", "SUCCEEDED"),
    "rolled-back": ("Rollout Rolled Back", "FAILED"),
    "refused": ("Rollout Refused", "FAILED"),
    "stopped": ("Rollout Stopped", "FAILED"),
}
HOOK_STATES = (
    "Before traffic",
    "Before step",
    "Bake at all?",
    "After step",
    "On failure?",
    "After traffic",
    "Release?",
    "On rollback?",
    "On rollback",
)
PAUSE_STATES = ("Shift to zero", "Pause", "Judge pause", "After pause?")
SERVES = {"succeeded": "candidate", "rolled-back": "stable"}
LAST_PHASES = {
    "succeeded": ("promoting",),
    "rolled-back": ("rolling-back",),
    "refused": (None, "preparing", "rolling-back"),
    "stopped": ("preparing", "shifting", "promoting", "rolling-back"),
}
PROMOTED = -1
"""The weight in the driver's state that stands for the candidate alone."""


def assert_invariants(
    headgate: Headgate, rollout_id: str, execution: str | None = None, *, seconds: float = 60
) -> dict[str, Any]:
    """Wait for the end of a rollout and check all invariants; answers its record.

    A test that is about the dead-letter queues takes out first what it expects there.

    Parameters
    ----------
    execution
        How the execution has ended, where it was not by itself.
    seconds
        How long the rollout may take.
    """
    record = headgate.ended(rollout_id, seconds)
    assert_one_end(headgate, rollout_id, record, execution)
    assert_within_budget(headgate, rollout_id, record)
    assert_every_event_reached_the_bus(headgate, rollout_id)
    assert_signals_are_kept(record)
    if "targetKey" in record:
        assert record.get("phase") in LAST_PHASES[record["status"]]
        assert_nothing_is_held(headgate, rollout_id, record)
    # A request that could not be read was never admitted, although its target may have been readable.
    if "request" in record:
        assert_target_is_as_recorded(headgate, rollout_id, record)
    assert_nothing_was_lost(headgate)
    return record


def assert_one_end(headgate: Headgate, rollout_id: str, record: dict[str, Any], ended_as: str | None) -> None:
    """There is one terminal record with one terminal event, and its execution has ended the same way."""
    announced_as, execution = ENDED_AS[record["status"]]
    undo_of = record.get("request", {}).get("undoOf")
    if undo_of and record["status"] == "succeeded":
        announced_as = "Rollout Undone"
    ends = [item for item in headgate.outbox(rollout_id) if item["detailType"] in ENDS]
    assert [(item["detailType"], item["detail"]["id"]) for item in ends] == [(announced_as, f"{rollout_id}/ended")]
    for field in ("reason", "serving", "stable", "candidate"):
        assert ends[0]["detail"].get(field) == record.get(field)
    assert ends[0]["detail"].get("undoOf") == undo_of
    assert record["reason"], f"{rollout_id} does not say why it ended"
    # A request that Intake refused never had an execution.
    never = ("",) if record["status"] == "refused" and ended_as is None else ()
    assert headgate.execution(record) in (ended_as or execution, *never)


def assert_within_budget(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """At most 4 transitions a bake and 12 around them; hooks, pauses and an end that was objected to not counted."""
    if headgate.execution(record):
        entered = headgate.entered(record)
        counted = [state for state in entered if state not in (*HOOK_STATES, *PAUSE_STATES)]
        # A resumed step is looked up again; an objection is Settle, Ended? and Roll back, and one that Release hears is
        # Release and Roll back.
        heard_late = 3 * max(0, entered.count("Settle") - 1)
        heard_in_release = 2 * list(pairwise(entered)).count(("Release", "Roll back"))
        # A request that has waited in line is planned again.
        in_line = 4 * entered.count("Wait for its turn")
        again = entered.count("After pause?") + heard_late + heard_in_release + in_line
        assert len(counted) <= 4 * len(headgate.events(rollout_id, "Step Started")) + 12 + again


def assert_signals_are_kept(record: dict[str, Any]) -> None:
    """What was heard is on record, and an abort is never done with."""
    signals = record.get("signals", {})
    assert set(record.get("heard", [])) <= signals.keys()
    assert "abort" not in [signals[signal_id]["signal"] for signal_id in record.get("heard", [])]
    assert all(signal["id"] == signal_id and signal["at"] for signal_id, signal in signals.items())


def assert_every_event_reached_the_bus(headgate: Headgate, rollout_id: str) -> None:
    """Each event of the outbox arrived at least once, under its own id, as it was written."""
    written = {item["detail"]["id"]: (item["detailType"], item["detail"]) for item in headgate.outbox(rollout_id)}
    eventually(
        lambda: {event["detail"]["id"] for event in headgate.announced(rollout_id)} >= written.keys(),
        10,
        lambda: f"the bus has heard {headgate.announced(rollout_id)} of {sorted(written)}",
    )
    for event in headgate.announced(rollout_id):
        assert (event["detail-type"], event["detail"]) == written[event["detail"]["id"]]


def assert_nothing_is_held(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """The lock is free or a successor's, no place in line is kept, no alarm is waited for, no bake is open."""
    assert stored_lock(headgate.table, record["targetKey"]).get("owner") != rollout_id
    assert rollout_id not in headgate.waiting(record["targetKey"])
    assert "token" not in record
    for alarm in record.get("plan", {}).get("guards", {}).get("alarms", []):
        assert rollout_id not in SignalInbox(headgate.table).rollouts_guarded_by(alarm)


def assert_target_is_as_recorded(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """The target is 100 % on one revision, the one on record; a successor of the rollout answers for itself."""
    lock = stored_lock(headgate.table, record["targetKey"])
    if lock["epoch"] != record.get("epoch"):
        return
    assert (lock.get("last") == rollout_id) == (record["status"] == "succeeded")
    if record["request"]["target"]["kind"] == "ecs-service":
        assert_service_is_as_recorded(headgate, rollout_id, record)
        return
    alias = headgate.alias(record["request"]["target"])
    if alias is None:
        assert record["status"] == "refused"
        return
    if record["status"] == "stopped":
        assert f"serves version {alias.version}" in record["reason"], "the record says what was found"
        return
    assert alias.weights == {}
    if "state" not in record:
        assert_nothing_was_moved(headgate, rollout_id, record)
        return
    state = record["state"]
    if revision := SERVES.get(record["status"]):
        assert (alias.version, record["serving"]) == (record[revision], record[revision])
        assert (state["stable"], state["candidate"]) == (record["stable"], record["candidate"])
        assert state["weight"] == {"succeeded": PROMOTED, "rolled-back": 0}[record["status"]]
        assert state["revisionId"] == alias.revision_id, "nobody has written the alias after the rollout"


def assert_nothing_was_moved(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """A rollout whose target was not even prepared has not touched it."""
    assert record["status"] in ("refused", "rolled-back")
    # What it found serving is what it says; a refused one may not have come to look.
    assert record.get("serving") == (record["stable"] if record["status"] == "rolled-back" else None)
    assert headgate.events(rollout_id, "Step Started") == []
    if headgate.execution(record):
        assert not {"Shift", "Shift in passing", "Promote", "Release"} & set(headgate.entered(record))


def assert_nothing_was_lost(headgate: Headgate) -> None:
    """Nothing lies in a dead-letter queue."""
    assert headgate.dead_letters.take() == []
    assert headgate.fifo_dead_letters.take() == []
    assert headgate.undelivered.take() == []
