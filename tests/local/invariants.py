"""What must hold whichever way a rollout ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    "After traffic",
    "On rollback?",
    "On rollback",
)
SERVES = {"succeeded": "candidate", "rolled-back": "stable"}


def assert_invariants(headgate: Headgate, rollout_id: str) -> dict[str, Any]:
    """Wait for the end of a rollout and check all invariants; answers its record.

    A test that is about the dead-letter queues takes out first what it expects there.
    """
    record = headgate.ended(rollout_id)
    assert_one_end(headgate, rollout_id, record)
    assert_within_budget(headgate, rollout_id, record)
    assert_every_event_reached_the_bus(headgate, rollout_id)
    if "targetKey" in record:
        assert_nothing_is_held(headgate, rollout_id, record)
        assert_alias_is_as_recorded(headgate, rollout_id, record)
    assert_nothing_was_lost(headgate)
    return record


def assert_one_end(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """There is one terminal record with one terminal event, and its execution has ended the same way."""
    announced_as, execution = ENDED_AS[record["status"]]
    ends = [item for item in headgate.outbox(rollout_id) if item["detailType"] in ENDS]
    assert [(item["detailType"], item["detail"]["id"]) for item in ends] == [(announced_as, f"{rollout_id}/ended")]
    assert ends[0]["detail"].get("reason") == record.get("reason")
    assert record["reason"] or record["status"] == "succeeded", f"{rollout_id} does not say why it ended"
    # A request that Intake refused never had an execution.
    assert headgate.execution(record) in ((execution, "") if record["status"] == "refused" else (execution,))


def assert_within_budget(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """At most 4 transitions a bake and 12 around them, hooks not counted."""
    if headgate.execution(record):
        counted = [state for state in headgate.entered(record) if state not in HOOK_STATES]
        assert len(counted) <= 4 * len(headgate.events(rollout_id, "Step Started")) + 12


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
    assert headgate.store.lock(record["targetKey"]).get("owner") != rollout_id
    assert rollout_id not in headgate.waiting(record["targetKey"])
    assert "token" not in record
    for alarm in record.get("plan", {}).get("guards", {}).get("alarms", []):
        assert rollout_id not in headgate.store.rollouts_guarded_by(alarm)


def assert_alias_is_as_recorded(headgate: Headgate, rollout_id: str, record: dict[str, Any]) -> None:
    """The alias is 100 % on one revision, the one on record; a successor of the rollout answers for itself."""
    if headgate.store.lock(record["targetKey"])["epoch"] != record.get("epoch"):
        return
    alias = headgate.alias(record["request"]["target"])
    if alias is None:
        assert record["status"] == "refused"
        return
    if record["status"] == "stopped":
        assert f"serves version {alias.version}" in record["reason"], "the record says what was found"
        return
    assert alias.weights == {}
    if revision := SERVES.get(record["status"]):
        assert (alias.version, record["serving"]) == (record[revision], record[revision])


def assert_nothing_was_lost(headgate: Headgate) -> None:
    """Nothing lies in a dead-letter queue."""
    assert headgate.dead_letters.take() == []
    assert headgate.undelivered.take() == []
