"""The frame of all drivers: what a call comes to, what goes on record of it, and what the machine is told."""

# The frame hands over more than these fakes look at.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.errors import Aborted, LockLost, RequestRefused, TargetNotReady
from headgate.rollouts.record import Fence, RolloutRecord
from headgate.targets.driver import TRANSIENT_CODES, drive
from headgate.targets.lambda_alias import AliasState
from headgate.targets.progress import Done, Pending
from tests.builders import TARGET, plan_of

if TYPE_CHECKING:
    from headgate.targets.progress import TargetProgress

BEFORE = AliasState(stable="6", candidate="7", revision_id="r-1")
AFTER = BEFORE.model_copy(update={"revision_id": "r-2"})


class Answers:
    """A driver that answers every call alike."""

    def __init__(self, answer: TargetProgress[AliasState] | Exception) -> None:
        self._answer = answer
        self.known: list[AliasState | None] = []

    def describe(self) -> dict[str, Any]:
        return {"version": "6"}

    def prepare(self, known: AliasState | None) -> TargetProgress[AliasState]:
        self.known.append(known)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def shift(self, state: AliasState, weight: float) -> TargetProgress[AliasState]:
        assert weight == 10
        return self.prepare(state)

    promote = release = rollback = restore = prepare


class Record:
    """What is on record of the rollout."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.kept: list[dict[str, Any]] = []
        self.waits: list[Any] = []

    def require_lock(self, fence: Fence) -> None:
        assert fence == Fence("lambda-alias/checkout/live", "checkout-42", 1)

    def is_rolling_back(self, rollout_id: str) -> bool:
        return False

    def enter(self, rollout_id: str, phase: str, aim: float | None = None) -> RolloutRecord:
        return RolloutRecord(rollout_id, "running", "arn", **self.fields)

    def keep_state(self, rollout_id: str, state: dict[str, Any], **more: Any) -> None:
        self.kept.append({"state": state, **more})
        self._keep(more.get("pending"))

    def keep_pending(self, rollout_id: str, pending: Any, *, phase: str) -> None:
        self._keep(pending)

    def _keep(self, pending: Any) -> None:
        self.waits.append(pending)
        self.fields["pending"] = pending


def call(
    driver: Answers, record: Any, action: str, *, target: Any = TARGET, now: float = 0, **event: Any
) -> dict[str, Any]:
    plan = plan_of(target=target)
    asked = {"action": action, "plan": plan.to_wire(), "target": plan.target.to_wire(), "epoch": 1, "weight": 10}
    return drive(
        {"state": BEFORE.to_wire()} | asked | event, record, record, lambda *_: driver, AliasState, lambda: now
    )


ACTIONS = ["prepare", "shift", "promote", "release", "rollback", "restore"]


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_done_goes_on_record_and_to_the_machine(action: str) -> None:
    record, driver = Record(), Answers(Done(AFTER))
    assert call(driver, record, action) == {"state": AFTER.to_wire()}
    assert driver.known == [BEFORE]
    (kept,) = record.kept
    assert kept["state"] == AFTER.to_wire()
    assert not kept.get("underway")


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_pending_goes_on_record_before_the_machine_is_told_to_call_again(action: str) -> None:
    record = Record()
    with pytest.raises(TargetNotReady, match=r"^version 7 is still pending$"):
        call(Answers(Pending(AFTER, "version 7 is still pending")), record, action)
    (kept,) = record.kept
    assert (kept["state"], kept["underway"], kept["rolled_back"]) == (AFTER.to_wire(), True, False)


def test_a_restore_that_is_pending_keeps_that_the_rollback_is_done() -> None:
    record = Record()
    with pytest.raises(TargetNotReady):
        call(Answers(Pending(AFTER, "messages are moved")), record, "restore", rolledBack=True)
    assert record.kept[0]["rolled_back"]


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_pending_without_a_state_leaves_the_record_as_it_is(action: str) -> None:
    record = Record()
    with pytest.raises(TargetNotReady, match="is being updated"):
        call(Answers(Pending(None, "$LATEST is being updated")), record, action)
    assert record.kept == []


# --- How long a candidate may take -----------------------------------------------------------------------------------

WAITS = Pending(AFTER, "candidate: version 7 is still pending")
HOUR = 3600


@pytest.mark.parametrize("action", ["prepare", "promote"])
@pytest.mark.parametrize("state", [AFTER, None], ids=["with a state", "without"])
@pytest.mark.parametrize(("target", "limit"), [(TARGET, HOUR), (TARGET | {"readySeconds": 900}, 900)], ids=str)
def test_a_candidate_is_waited_for_from_the_first_look_until_the_limit_and_then_refused(
    action: str, state: AliasState | None, target: Any, limit: int
) -> None:
    # GIVEN a candidate that is never ready
    record, driver = Record(), Answers(Pending(state, WAITS.why))
    # WHEN the driver is called until shortly before the limit, THEN the machine is to call again
    for now in (0, 1, limit - 1):
        with pytest.raises(TargetNotReady, match="still pending"):
            call(driver, record, action, target=target, now=now)
    # AND the record tells what is waited for, since when and for how long
    expected = {
        "action": action,
        "reason": WAITS.why,
        "since": "1970-01-01T00:00:00.000Z",
        "limitSeconds": limit,
    }
    assert record.fields["pending"] == expected
    # AND from the limit on it is refused with both
    with pytest.raises(
        RequestRefused,
        match=rf"^target\.readySeconds: the candidate is not ready after {limit} s, .*: candidate: version 7 is still",
    ):
        call(driver, record, action, target=target, now=limit)
    assert record.kept == ([] if state is None else record.kept[-1:] * 4)


@pytest.mark.parametrize("action", ["shift", "release", "rollback", "restore"])
def test_what_does_not_wait_for_the_candidate_has_no_such_limit(action: str) -> None:
    record = Record()
    for now in (0, 100 * HOUR):
        with pytest.raises(TargetNotReady):
            call(Answers(WAITS), record, action, now=now)
    assert "limitSeconds" not in record.fields["pending"]


def test_draining_does_not_count_as_waiting_for_the_candidate() -> None:
    record = Record()
    drains = Pending(AFTER, "3 messages in flight", limited=False)
    for now, driver in ((0, WAITS), (1, drains), (9 * HOUR, drains), (9 * HOUR + 1, WAITS), (10 * HOUR, WAITS)):
        with pytest.raises(TargetNotReady):
            call(Answers(driver), record, "promote", now=now)
    with pytest.raises(RequestRefused):
        call(Answers(WAITS), record, "promote", now=10 * HOUR + 1)


def test_every_action_waits_anew_and_what_is_done_waits_for_nothing() -> None:
    record = Record()
    with pytest.raises(TargetNotReady):
        call(Answers(WAITS), record, "prepare")
    call(Answers(Done(AFTER)), record, "prepare", now=HOUR - 1)
    assert record.fields["pending"] is None
    # A wait that is left from another action, because that failed, does not count.
    for left in (None, {"action": "prepare", "reason": "", "since": "1970-01-01T00:00:00.000Z", "limitSeconds": HOUR}):
        record = Record(pending=left)
        with pytest.raises(TargetNotReady):
            call(Answers(WAITS), record, "promote", now=2 * HOUR)


def test_a_wait_that_has_not_changed_is_written_once() -> None:
    record = Record()
    for now in range(3):
        with pytest.raises(TargetNotReady):
            call(Answers(Pending(None, "$LATEST is being updated")), record, "prepare", now=now)
    assert len(record.waits) == 1


def test_the_next_call_goes_on_from_what_was_pending_whatever_the_machine_knows() -> None:
    for record, known in (
        (Record(state=AFTER.to_wire(), underway=True), AFTER),
        (Record(state=AFTER.to_wire(), underway=False), BEFORE),
    ):
        driver = Answers(Done(AFTER))
        call(driver, record, "prepare")
        assert driver.known == [known]


@pytest.mark.parametrize("action", ["shift", "promote", "release", "rollback", "restore"])
def test_where_nothing_was_prepared_the_driver_only_looks(action: str) -> None:
    record, driver = Record(), Answers(Done(AFTER))
    assert call(driver, record, action, state={}) == {"state": {"stable": "6"}}
    assert (driver.known, record.kept) == ([], [])


def error_of(code: str) -> ClientError:
    """As boto3 raises it: a class of its own for what the service's model names."""
    error = type(code, (ClientError,), {})({"Error": {"Code": code, "Message": "slow down"}}, "ReceiveMessage")
    assert isinstance(error, ClientError)
    return error


@pytest.mark.parametrize("code", TRANSIENT_CODES)
def test_an_error_of_aws_that_passes_is_waited_for(code: str) -> None:
    record = Record()
    with pytest.raises(TargetNotReady, match=rf"^restore: .*{code}.*slow down"):
        call(Answers(error_of(code)), record, "restore")
    assert record.kept == []


def test_a_wait_for_lambdas_quota_does_not_count_against_the_candidate() -> None:
    record = Record()
    with pytest.raises(TargetNotReady, match="quota"):
        call(Answers(error_of("TooManyRequestsException")), record, "prepare")
    assert [sorted(wait) for wait in record.waits] == [["action", "reason", "since"]]


@pytest.mark.parametrize("error", [error_of("AccessDenied"), RequestRefused("no"), LockLost("gone")], ids=repr)
def test_every_other_error_is_an_error(error: Exception) -> None:
    record = Record()
    with pytest.raises(type(error)) as raised:
        call(Answers(error), record, "restore")
    assert raised.value is error
    assert record.kept == []


# --- Signals while the target is not ready ---------------------------------------------------------------------------


def objection(kind: str) -> dict[str, Any]:
    return {"signal": kind, "by": "shop-errors", "reason": "5 % of the requests fail", "at": "2026-11-30T12:00:00.000Z"}


@pytest.mark.parametrize("action", ["prepare", "shift"])
@pytest.mark.parametrize("kind", ["alarm", "evidence"])
def test_a_wait_hears_alarms_and_evidence_at_its_next_call(action: str, kind: str) -> None:
    # GIVEN an action that waits, and an objection meanwhile
    record, driver = Record(), Answers(WAITS)
    with pytest.raises(TargetNotReady):
        call(driver, record, action)
    record.fields["signals"] = {"s-1": objection(kind)}
    # WHEN it is called again THEN it does nothing more; a candidate that is not even prepared is refused
    error = RequestRefused if (action, kind) == ("prepare", "evidence") else Aborted
    with pytest.raises(error, match=r"5 % of the requests fail; the rollout was waiting: candidate: version 7 is"):
        call(driver, record, action)
    assert len(driver.known) == 1


@pytest.mark.parametrize("action", ["prepare", "shift"])
def test_without_a_wait_the_judge_decides(action: str) -> None:
    record = Record()
    record.fields["signals"] = {"s-1": objection("alarm")}
    assert call(Answers(Done(AFTER)), record, action)["state"] == AFTER.to_wire()


@pytest.mark.parametrize("fields", [{}, {"onFailure": {"pause": {}}}])
@pytest.mark.parametrize("action", ["prepare", "shift"])
def test_evidence_against_a_candidate_without_traffic_keeps_it_from_getting_any(
    action: str, fields: dict[str, Any]
) -> None:
    record, driver = Record(), Answers(Done(AFTER))
    record.fields["signals"] = {"s-1": objection("evidence")}
    with pytest.raises(RequestRefused if action == "prepare" else Aborted, match=r"^5 % of the requests fail$"):
        call(driver, record, action, plan=plan_of(**fields).to_wire())
    assert driver.known == []


class AnswersAtZero(Answers):
    def shift(self, state: AliasState, weight: float) -> TargetProgress[AliasState]:
        assert weight == 0
        return super().shift(state, 10)


def test_taking_traffic_off_a_candidate_goes_on_whatever_is_heard() -> None:
    record = Record()
    with pytest.raises(TargetNotReady):
        call(AnswersAtZero(WAITS), record, "shift", weight=0)
    record.fields["signals"] = {"s-1": objection("alarm")}
    assert call(AnswersAtZero(Done(AFTER)), record, "shift", weight=0)["state"] == AFTER.to_wire()


def test_a_rollout_that_is_to_pause_leaves_alarms_to_the_judge() -> None:
    record = Record()
    with pytest.raises(TargetNotReady):
        call(Answers(WAITS), record, "shift")
    record.fields["signals"] = {"s-1": objection("alarm")}
    plan = plan_of(onFailure={"pause": {}}).to_wire()
    assert call(Answers(Done(AFTER)), record, "shift", plan=plan)["state"] == AFTER.to_wire()


@pytest.mark.parametrize(("limited", "has_limit"), [(True, True), (False, False), (None, False)])
def test_a_driver_can_limit_a_wait_of_any_action(limited: bool | None, has_limit: bool) -> None:
    record = Record()
    with pytest.raises(TargetNotReady):
        call(Answers(WAITS._replace(limited=limited)), record, "shift")
    assert ("limitSeconds" in record.fields["pending"]) is has_limit


@pytest.mark.parametrize("action", ["release", "restore"])
@pytest.mark.parametrize(
    ("underway", "left", "done"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_what_was_given_back_is_not_given_back_again_when_the_response_was_lost(
    action: str, *, underway: bool, left: bool, done: bool
) -> None:
    # GIVEN the state before the action, as the machine knows it, and what is on record since
    recorded = AFTER.model_copy(update={"to_release": left}).to_wire()
    record, driver = Record(state=recorded, underway=underway), Answers(Done(AFTER))
    # WHEN the machine calls again
    state = BEFORE.model_copy(update={"to_release": True}).to_wire()
    answer = call(driver, record, action, state=state)
    # THEN only what is not done is carried out
    assert (driver.known == []) is done
    assert answer["state"]["revisionId"] == "r-2"
