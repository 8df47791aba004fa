"""The ways out that no verdict takes: operators, pauses, undo, the warden, and what is refused on the way."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from headgate.rollouts.locks import Locks
from headgate.spec.request import read_request
from tests.local.deployed import GATED_HOOK, PREFIX, SERVICE, eventually, steps, zipped
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

TWO = {"version": "2"}
LONG = steps((10, 300))
SHORT = steps((10, 1))
AT_ONCE = 15
"""Seconds that "at once" may take on a busy machine where several things happen; what is cut short would take 300."""

NOTICE_HOOK = """
import boto3
def handler(event, context):
    where = {"FunctionName": event["target"]["function"], "Qualifier": event["candidate"]}
    held = boto3.client("lambda").get_provisioned_concurrency_config(**where)
    enough = held["RequestedProvisionedConcurrentExecutions"] == event["config"]["expect"]
    return {"hookStatus": "SUCCEEDED" if enough else "FAILED"}
"""
"""Agrees if the candidate holds as much provisioned concurrency as its config says."""


class Gate:
    """A hook that goes on asking for time until it is opened."""

    def __init__(self, headgate: Headgate, path: Path) -> None:
        self._path = path
        self._hook = {"lambda": headgate.make_hook(GATED_HOOK), "config": {"gate": str(path)}}

    def at(self, stage: str) -> dict[str, Any]:
        """The hooks of a request."""
        return {stage: [self._hook]}

    def open(self) -> None:
        self._path.touch()


@pytest.fixture
def gate(headgate: Headgate, tmp_path: Path) -> Gate:
    return Gate(headgate, tmp_path / "open")


def serves(service: Service, version: str, share: float = 0) -> None:
    """Wait until the alias names a version, and sends that share to version 2."""
    weights = {"2": share} if share else {}
    eventually(
        lambda: service.serving[:2] == (version, weights), 30, lambda: f"{service.serving} is not {version}, {weights}"
    )


# The warden


@contextmanager
def never_ready(service: Service) -> Iterator[None]:
    """Take the provisioned concurrency away from the candidate again and again, so that it is never ready."""
    done = threading.Event()

    def take_away() -> None:
        while not done.wait(0.02):
            service.unprovision("2")

    thread = threading.Thread(target=take_away)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_stopped_execution_is_rolled_back_at_once_wherever_it_was(headgate: Headgate, gate: Gate) -> None:
    # GIVEN rollouts that each have come to another state, and a request in line behind each
    passing = steps(*((weight, 0) for weight in range(1, 90)))
    asked: dict[str, dict[str, Any]] = {
        "Before traffic": {"strategy": LONG, "hooks": gate.at("beforeTraffic")},
        "Shift in passing": {"strategy": passing},
        "Bake": {"strategy": LONG},
        "Pause": {"strategy": LONG},
        "After traffic": {"strategy": "AllAtOnce", "hooks": gate.at("afterTraffic")},
        "On rollback": {"strategy": LONG, "hooks": gate.at("onRollback")},
    }
    signals = {"Pause": "pause", "On rollback": "abort"}
    rollouts = {}
    for state, detail in asked.items():
        service = headgate.next_service()
        rollout = headgate.request(target=service.target, candidate=TWO, **detail)
        if state in signals:
            headgate.baking(rollout)
            headgate.signal(rollout, signals[state])
        headgate.until_entered(rollout, state)
        heir = headgate.request(target=service.target, candidate=TWO, strategy=SHORT)
        in_line_for(headgate, service, [heir])
        # WHEN the execution is stopped
        headgate.stop(rollout)
        # THEN the alias is back, the record is closed and the next one starts within seconds
        headgate.until(heir, "Rollout Started")
        assert seconds_between(headgate, rollout, heir) < AT_ONCE
        assert headgate.record(rollout)["status"] == "rolled-back"
        rollouts[rollout] = heir
    for rollout, heir in rollouts.items():
        record = assert_invariants(headgate, rollout, execution="ABORTED")
        assert record["reason"] == "its execution ended as ABORTED before the rollout was finished"
        assert (record["serving"], record["state"]["weight"]) == ("1", 0)
        # AND nothing of it goes on: the next one finds the stable version where it was
        record = assert_invariants(headgate, heir)
        assert (record["status"], record["stable"], record["serving"]) == ("succeeded", "1", "2")


def in_line_for(headgate: Headgate, service: Service, rollouts: list[str]) -> None:
    """Wait until these wait for their turn, and no others."""
    key = f"lambda-alias/{service.function}/live"
    eventually(lambda: headgate.waiting(key) == rollouts, 10, lambda: f"in line are {headgate.waiting(key)}")


def seconds_between(headgate: Headgate, before: str, after: str) -> float:
    """How long after the end of one rollout's execution that of another one was started."""
    ended, started = (
        headgate.states.describe_execution(executionArn=headgate.record(rollout)["execution"])
        for rollout in (before, after)
    )
    return float((started["startDate"] - ended["stopDate"]).total_seconds())


def test_an_execution_stopped_while_its_candidate_warms_up_gives_back_what_it_took(
    headgate: Headgate, service: Service
) -> None:
    # GIVEN a rollout whose candidate never gets the provisioned concurrency that it needs
    service.provision("1", 3)
    with never_ready(service):
        rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
        eventually(
            lambda: headgate.record(rollout).get("state", {}).get("provisioned"), 20, lambda: "nothing was asked for"
        )
        # WHEN its execution is stopped
        headgate.stop(rollout)
    record = assert_invariants(headgate, rollout, execution="ABORTED")
    # THEN the candidate holds nothing, and the stable version what it held
    assert "Shift" not in headgate.entered(record)
    assert record["status"] == "rolled-back"
    assert (service.provisioned("1"), service.provisioned("2")) == (3, 0)


def test_a_stopped_execution_whose_alias_was_moved_by_hand_leaves_it_as_found(
    headgate: Headgate, service: Service
) -> None:
    three = service.publish()
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(rollout)
    service.move_by_hand(three)
    found = service.serving
    headgate.stop(rollout)
    record = assert_invariants(headgate, rollout, execution="ABORTED")
    assert record["status"] == "stopped"
    assert record["reason"].startswith("its execution ended as ABORTED before the rollout was finished; ")
    assert service.serving == found


def test_a_stop_that_nobody_was_told_of_is_found_by_the_sweep(headgate: Headgate, service: Service) -> None:
    # GIVEN that the event of an execution's end is lost
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(rollout)
    with headgate.deaf_to_ended_executions():
        headgate.stop(rollout)
        assert headgate.record(rollout)["status"] == "running"
    # WHEN the warden looks at all locks
    headgate.sweep()
    # THEN it is rolled back
    record = assert_invariants(headgate, rollout, execution="ABORTED")
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    # AND to look again changes nothing
    headgate.sweep()
    assert headgate.record(rollout) == record


def test_wardens_at_the_same_time_close_a_rollout_once(headgate: Headgate, service: Service) -> None:
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(rollout)
    heir = headgate.request(target=service.target, candidate=TWO, strategy=SHORT)
    in_line_for(headgate, service, [heir])
    # WHEN the event of its end and several sweeps come together, of which the slower ones may fail
    headgate.stop(rollout)
    with ThreadPoolExecutor(3) as pool:
        sweeps = [pool.submit(headgate.sweep) for _ in range(3)]
    for sweep in sweeps:
        with suppress(AssertionError):
            sweep.result()
    # THEN it was rolled back once, and the next one started once
    record = assert_invariants(headgate, rollout, execution="ABORTED")
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    record = assert_invariants(headgate, heir)
    assert (record["status"], record["stable"], record["serving"]) == ("succeeded", "1", "2")


def accepted(headgate: Headgate, service: Service, strategy: Any) -> str:
    """A request that holds its target's lock and whose execution was never started."""
    rollout = headgate.new_id()
    request = read_request({"target": service.target, "candidate": TWO, "strategy": strategy}, rollout)
    assert Locks(headgate.table).admit(request, headgate.arn_for(rollout)).lock == "held"
    return rollout


def test_a_rollout_that_was_accepted_and_never_began_is_started_by_the_sweep(
    headgate: Headgate, service: Service
) -> None:
    rollout = accepted(headgate, service, SHORT)
    headgate.sweep()
    assert assert_invariants(headgate, rollout)["status"] == "succeeded"


def test_a_person_is_told_of_a_lock_that_nobody_has_carried_on_for_long(headgate: Headgate, service: Service) -> None:
    # GIVEN a rollout that was accepted an hour ago and never began
    rollout = accepted(headgate, service, SHORT)
    headgate.turn_back(rollout, "createdAt", hours=1)
    # WHEN the warden comes upon it
    headgate.sweep()
    # THEN the topic hears of it, and of how old it was
    told = eventually(lambda: headgate.alarmed("UnsettledSeconds"), 30, lambda: "nobody was told")
    assert told[0]["NewStateValue"] == "ALARM"
    assert "(1800" in told[0]["NewStateReason"]
    assert assert_invariants(headgate, rollout)["status"] == "succeeded"


# Abort


def test_an_abort_of_what_has_not_begun_is_honoured(headgate: Headgate, service: Service) -> None:
    # GIVEN a rollout that was accepted and has not begun, and one in line behind another
    first = accepted(headgate, headgate.next_service(), LONG)
    running = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(running)
    waiting = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    in_line_for(headgate, service, [waiting])
    # WHEN both are aborted, and then their turn comes
    for rollout in (first, waiting):
        headgate.signal_now(rollout, "abort", reason="never mind")
    headgate.sweep()
    headgate.signal(running, "abort")
    # THEN neither moves anything
    for rollout, status in ((first, "rolled-back"), (waiting, "refused")):
        record = assert_invariants(headgate, rollout)
        assert (record["status"], record["reason"]) == (status, "aborted by ada: never mind")
        assert headgate.events(rollout, "Step Started") == []
    assert_invariants(headgate, running)
    assert service.serving[:2] == ("1", {})


def test_an_abort_or_an_alarm_while_a_hook_looks_at_the_promotion_takes_it_back(headgate: Headgate, gate: Gate) -> None:
    # GIVEN rollouts that have moved everything and ask a hook whether that is right
    alarm = headgate.make_alarm()
    asked = {"candidate": TWO, "strategy": "AllAtOnce", "guards": {"alarms": [alarm]}, "hooks": gate.at("afterTraffic")}
    services = [headgate.next_service() for _ in range(2)]
    alarmed, aborted = (headgate.request(target=service.target, **asked) for service in services)
    for service, rollout in zip(services, (alarmed, aborted), strict=True):
        headgate.until_entered(rollout, "After traffic")
        serves(service, "2")
    # WHEN one is aborted, and the alarm fires for the other
    headgate.signal_now(aborted, "abort", reason="complaints")
    headgate.set_alarm(alarm, "ALARM")
    eventually(lambda: "alarm" in kinds(headgate, alarmed), 10, lambda: "the alarm is not on record")
    gate.open()
    # THEN both come back from 100 %
    for rollout, reason in ((aborted, "aborted by ada: complaints"), (alarmed, f"alarm {alarm} fired")):
        record = assert_invariants(headgate, rollout)
        assert (record["status"], record["serving"]) == ("rolled-back", "1")
        assert record["reason"].startswith(reason)


def kinds(headgate: Headgate, rollout: str) -> list[str]:
    """The signals on a rollout's record."""
    return [signal["signal"] for signal in headgate.record(rollout)["signals"].values()]


# Pauses


@pytest.mark.parametrize("at", ["current", "zero"])
def test_a_failure_pauses_where_the_request_says_so_and_an_operator_decides(headgate: Headgate, at: str) -> None:
    # GIVEN rollouts that are to pause on a failure, all guarded by one alarm
    alarm = headgate.make_alarm()
    decisions = ("resume", "promote", "promote-fully", "abort", "rollback", "promote-by-default")
    limits = {"rollback": (2, "rollback"), "promote-by-default": (2, "promote")}
    services = {decision: headgate.next_service() for decision in decisions}
    rollouts = {}
    for decision in decisions:
        seconds, then = limits.get(decision, (300, "rollback"))
        rollouts[decision] = headgate.request(
            target=services[decision].target,
            candidate=TWO,
            strategy=steps((10, 300), (50, 1)),
            guards={"alarms": [alarm]},
            onFailure={"pause": {"at": at, "limitSeconds": seconds, "then": then}},
        )
    for rollout in rollouts.values():
        headgate.baking(rollout)
    # WHEN the alarm fires
    headgate.set_alarm(alarm, "ALARM")
    # THEN each is paused at the weight that the request names, and says why
    for decision, rollout in rollouts.items():
        headgate.until(rollout, "Rollout Paused")
        if decision not in limits:
            serves(services[decision], "1", 0.1 if at == "current" else 0)
            headgate.in_phase(rollout, "paused")
        (paused,) = headgate.events(rollout, "Rollout Paused")
        assert (paused["reason"], paused["step"]) == (f"alarm {alarm} fired", 0)
    # WHEN an operator decides, or nobody does
    for decision in ("resume", "promote", "promote-fully", "abort"):
        headgate.signal(rollouts[decision], decision, by="bob", reason="I looked")
    # THEN to resume is to bake that step again, which the same alarm does not end
    headgate.until(rollouts["resume"], "Step Started", 2)
    serves(services["resume"], "1", 0.1)
    headgate.baking(rollouts["resume"])
    headgate.signal(rollouts["resume"], "promote")
    weights = {"resume": [10, 10, 50], "promote": [10, 50]}
    reasons = {
        "promote-fully": "promoted fully by bob: I looked",
        "abort": "aborted by bob: I looked",
        "rollback": "no operator decided within 2 s",
        "promote-by-default": "no operator decided within 2 s",
    }
    for decision, rollout in rollouts.items():
        record = assert_invariants(headgate, rollout)
        assert record["status"] == ("rolled-back" if decision in ("abort", "rollback") else "succeeded"), decision
        assert [event["weight"] for event in headgate.events(rollout, "Step Started")] == weights.get(decision, [10])
        assert record["reason"] == reasons.get(decision, "the bake is over")


def test_an_operator_pauses_at_the_weight_and_resumes(headgate: Headgate, service: Service) -> None:
    alarm, other = headgate.make_alarm(), headgate.next_service()
    resumed, alarmed = (
        headgate.request(target=each.target, candidate=TWO, strategy=LONG, guards={"alarms": [alarm]})
        for each in (service, other)
    )
    # GIVEN that an operator has paused two rollouts
    for rollout in (resumed, alarmed):
        headgate.baking(rollout)
        headgate.signal(rollout, "pause", by="bob", reason="lunch")
        headgate.until(rollout, "Rollout Paused")
        assert headgate.events(rollout, "Rollout Paused")[0]["reason"] == "paused by bob: lunch"
        headgate.in_phase(rollout, "paused")
    serves(service, "1", 0.1)
    # WHEN one is resumed, and ends before the alarm fires that guards both
    headgate.signal(resumed, "resume", by="bob")
    headgate.until(resumed, "Step Started", 2)
    headgate.baking(resumed)
    serves(service, "1", 0.1)
    headgate.signal(resumed, "promote")
    assert assert_invariants(headgate, resumed)["status"] == "succeeded"
    headgate.set_alarm(alarm, "ALARM")
    # THEN a pause that somebody asked for is no shelter from an alarm
    record = assert_invariants(headgate, alarmed)
    assert (record["status"], record["reason"]) == ("rolled-back", f"alarm {alarm} fired")


def test_who_resumes_in_spite_of_the_evidence_starts_from_a_clean_slate(headgate: Headgate, service: Service) -> None:
    # GIVEN a broken candidate under traffic, and an operator who is to be asked
    broken = service.publish(BROKEN="yes")
    pause = {"pause": {"at": "zero", "limitSeconds": 300}}
    with service.traffic():
        rollout = headgate.request(
            target=service.target,
            candidate={"version": broken},
            strategy=steps((50, 300)),
            guards={"errors": {"tolerate": 0}},
            onFailure=pause,
        )
        # WHEN the evidence is in, and the operator resumes
        headgate.until(rollout, "Rollout Paused")
        headgate.in_phase(rollout, "paused")
        serves(service, "1")
        headgate.signal(rollout, "resume")
        # THEN it is gathered anew, and pauses again
        headgate.until(rollout, "Rollout Paused", 2)
        headgate.in_phase(rollout, "paused")
        serves(service, "1")
        headgate.signal(rollout, "abort")
        record = assert_invariants(headgate, rollout)
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    reasons = [event["reason"] for event in headgate.events(rollout, "Rollout Paused")]
    assert len(reasons) == 2
    assert all(" candidate requests failed against 0 of " in reason for reason in reasons)


def test_a_guard_may_pause_or_only_report_and_a_bake_waits_for_its_requests(headgate: Headgate) -> None:
    # GIVEN two broken candidates under traffic: one is guarded by a pause, the other's failures are only reported
    pausing, reporting = headgate.next_service(), headgate.next_service()
    candidates = {each: {"version": each.publish(BROKEN="yes")} for each in (pausing, reporting)}
    with pausing.traffic(), reporting.traffic():
        paused = headgate.request(
            target=pausing.target,
            candidate=candidates[pausing],
            strategy=steps((50, 300)),
            guards={"errors": {"action": "pause"}},
        )
        reported = headgate.request(
            target=reporting.target,
            candidate=candidates[reporting],
            strategy=steps((50, 2)),
            guards={"errors": {"action": "report"}, "leastRequests": {"count": 80, "limitSeconds": 120}},
        )
        # THEN the first waits for an operator at its weight, and the evidence is the reason
        headgate.until(paused, "Rollout Paused")
        headgate.in_phase(paused, "paused")
        assert pausing.serving[:2] == ("1", {candidates[pausing]["version"]: 0.5})
        headgate.signal(paused, "abort")
        assert assert_invariants(headgate, paused)["status"] == "rolled-back"
        # AND the second bakes until its requests came, and is promoted
        record = assert_invariants(headgate, reported)
    (event,) = headgate.events(paused, "Rollout Paused")
    assert " candidate requests failed against 0 of " in event["reason"]
    (verdict, *_) = headgate.events(paused, "Verdict Reached")
    assert (verdict["verdict"], verdict["evidence"]["measures"][0]["action"]) == ("inconclusive", "pause")
    assert record["status"] == "succeeded"
    assert record["reason"].endswith(" to 1 (only reported)")
    held, *_, last = headgate.events(reported, "Verdict Reached")
    assert held["reason"].endswith("of the 80 requests that guards.leastRequests asks for; baking again")
    assert last["evidence"]["measures"][0]["candidate"]["requests"] >= 80


# Signals that mean nothing


def test_a_signal_is_refused_in_a_phase_where_it_means_nothing(headgate: Headgate, gate: Gate) -> None:
    # GIVEN rollouts in each phase that lasts, and one that has ended
    everything = ("promote", "promote-fully", "pause", "resume", "abort")
    services = [headgate.next_service() for _ in range(5)]
    asked: list[dict[str, Any]] = [
        {"strategy": LONG, "hooks": gate.at("beforeTraffic")},
        {"strategy": LONG},
        {"strategy": LONG},
        {"strategy": "AllAtOnce", "hooks": gate.at("afterTraffic")},
        {"strategy": LONG, "hooks": gate.at("onRollback")},
    ]
    preparing, baking, paused, promoting, rolling_back = rollouts = [
        headgate.request(target=service.target, candidate=TWO, **detail)
        for service, detail in zip(services, asked, strict=True)
    ]
    for rollout, signal in ((paused, "pause"), (rolling_back, "abort")):
        headgate.baking(rollout)
        headgate.signal(rollout, signal)
    refused = {
        preparing: ("preparing", "Before traffic", ("resume",)),
        baking: ("baking", "Bake", ("resume",)),
        paused: ("paused", "Pause", ("pause",)),
        promoting: ("promoting", "After traffic", ("promote", "promote-fully", "pause", "resume")),
        rolling_back: ("rolling-back", "On rollback", everything),
    }
    # WHEN a signal comes that means nothing then
    for rollout, (phase, state, signals) in refused.items():
        headgate.in_phase(rollout, phase)
        headgate.until_entered(rollout, state)
        if state in ("Bake", "Pause"):
            headgate.baking(rollout)
        before = headgate.record(rollout)
        for signal in signals:
            headgate.signal_now(rollout, signal)
            # THEN it changes nothing
            assert headgate.record(rollout) == before, f"{signal} while {phase}"
    gate.open()
    for rollout in (preparing, baking, paused):
        headgate.signal(rollout, "promote-fully")
    for rollout in rollouts:
        record = assert_invariants(headgate, rollout)
        assert record["status"] == ("rolled-back" if rollout == rolling_back else "succeeded")
        # AND after the end nothing does
        for signal in everything:
            headgate.signal_now(rollout, signal)
        assert headgate.record(rollout) == record


# Undo


def refused(headgate: Headgate, rollout: str, said: str) -> dict[str, Any]:
    """See that a request was refused with a reason, and is kept where its sender finds it; answers the letter."""
    record = headgate.ended(rollout)
    assert record["status"] == "refused"
    assert record["reason"].startswith(said)
    (letter,) = eventually(headgate.dead_letters.take, 5, lambda: "nothing is in the dead-letter queue")
    assert letter["MessageAttributes"]["reason"]["StringValue"] == record["reason"]
    assert_invariants(headgate, rollout)
    return dict(letter)


def test_undo_long_after_a_promotion_puts_back_what_served_before(headgate: Headgate, service: Service) -> None:
    # GIVEN two promotions, the last of them after a rollback and a publication that was never rolled out
    three = service.publish()
    first = headgate.request(target=service.target, candidate=TWO, strategy="AllAtOnce")
    assert_invariants(headgate, first)
    last = headgate.request(target=service.target, candidate={"version": three}, strategy="AllAtOnce")
    assert_invariants(headgate, last)
    four = service.publish()
    failed = headgate.request(target=service.target, candidate={"version": four}, strategy=LONG)
    headgate.baking(failed)
    headgate.signal(failed, "abort")
    assert_invariants(headgate, failed)
    # WHEN the first is to be undone THEN that is refused: something was promoted since
    undo = headgate.undo(service.target, rolloutId=first)
    refused(headgate, undo, f"rolloutId: {first} was not promoted last; {last} was")
    assert service.serving[:2] == (three, {})
    # WHEN the last one is undone
    undo = headgate.undo(service.target, rolloutId=last)
    record = assert_invariants(headgate, undo)
    # THEN what served before it serves, at once
    assert (record["status"], record["stable"], record["serving"]) == ("succeeded", three, "2")
    assert record["request"]["undoOf"] == last
    assert "Shift" not in headgate.entered(record)
    assert service.serving[:2] == ("2", {})
    assert headgate.record(last)["undoneBy"] == undo
    # AND asked for once more, it does not bring that version back
    key = f"lambda-alias/{service.function}/live"
    again = headgate.undo(service.target)
    refused(headgate, again, f"rolloutId: is missing, and the last promotion on {key} is already an undo: {undo} took")
    assert service.serving[:2] == ("2", {})
    # AND by its name an undo can be undone
    record = assert_invariants(headgate, headgate.undo(service.target, rolloutId=undo))
    assert (record["request"]["undoOf"], record["serving"]) == (undo, three)


def test_undo_where_nothing_was_promoted_is_refused(headgate: Headgate, service: Service) -> None:
    before = service.serving
    undo = headgate.undo(service.target)
    key = f"lambda-alias/{service.function}/live"
    refused(headgate, undo, f"target: nothing was promoted on {key}, so there is nothing to undo")
    assert service.serving == before


# Provisioned concurrency


def test_provisioned_concurrency_is_matched_before_traffic_and_given_back_by_the_loser(
    headgate: Headgate, gate: Gate
) -> None:
    # GIVEN services whose stable version holds provisioned concurrency, and a hook that looks before any traffic
    services = [headgate.next_service() for _ in range(3)]
    for service in services:
        service.provision("1", 3)
    notice = {"beforeTraffic": [{"lambda": headgate.make_hook(NOTICE_HOOK), "config": {"expect": 3}}]}
    promoted, aborted, objected = (
        headgate.request(target=service.target, candidate=TWO, strategy=strategy, hooks=notice | more)
        for service, strategy, more in zip(
            services, (LONG, LONG, "AllAtOnce"), ({}, {}, gate.at("afterTraffic")), strict=True
        )
    )
    # WHEN one is promoted, one is aborted in its bake, and one when it has all traffic
    for rollout in (promoted, aborted):
        headgate.baking(rollout)
    headgate.until_entered(objected, "After traffic")
    assert [service.provisioned(version) for service in services for version in "12"] == [3] * 6
    for rollout, signal in ((promoted, "promote"), (aborted, "abort"), (objected, "abort")):
        headgate.signal_now(rollout, signal)
    gate.open()
    # THEN the version that serves holds it, and the other one nothing
    for service, rollout, winner in zip(services, (promoted, aborted, objected), "211", strict=True):
        assert assert_invariants(headgate, rollout)["serving"] == winner
        assert service.provisioned(winner) == 3
        assert service.provisioned("12".replace(winner, "")) == 0


def test_an_alias_that_holds_provisioned_concurrency_is_refused_with_the_way_out(
    headgate: Headgate, service: Service
) -> None:
    service.provision("live", 2)
    before = service.serving
    record = assert_invariants(headgate, headgate.request(target=service.target, candidate=TWO))
    assert record["status"] == "refused"
    assert record["reason"] == (
        f"target.alias: {service.function}:live has provisioned concurrency, which Lambda does not support with "
        "weights; configure it on version 1 instead: delete-provisioned-concurrency-config --qualifier live, then "
        "put-provisioned-concurrency-config --qualifier 1"
    )
    assert service.serving == before
    # WHEN that is done THEN it can be rolled out
    service.unprovision("live")
    service.provision("1", 2)
    record = assert_invariants(headgate, headgate.request(target=service.target, candidate=TWO, strategy="AllAtOnce"))
    assert record["status"] == "succeeded"
    assert (service.provisioned("1"), service.provisioned("2")) == (0, 2)


# The outside world


def test_a_change_that_moves_no_traffic_does_not_stop_the_rollout(headgate: Headgate) -> None:
    for signal, status in (("promote", "succeeded"), ("abort", "rolled-back")):
        # GIVEN an alias whose description somebody changes in the middle of a bake
        service = headgate.next_service()
        rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
        headgate.baking(rollout)
        service.describe("the live one")
        # WHEN the rollout moves it on, or back THEN it does
        headgate.signal(rollout, signal)
        assert assert_invariants(headgate, rollout)["status"] == status


def test_new_code_from_s3_is_published_and_rolled_out(headgate: Headgate, service: Service) -> None:
    # GIVEN a package in a bucket
    s3 = headgate.aws.client("s3")
    s3.create_bucket(Bucket=service.function)
    s3.put_object(Bucket=service.function, Key="app.zip", Body=zipped(SERVICE.replace('"version"', '"served by"')))
    # WHEN it is to be rolled out
    candidate = {"code": {"s3Bucket": service.function, "s3Key": "app.zip"}}
    record = assert_invariants(headgate, headgate.request(target=service.target, candidate=candidate, strategy=SHORT))
    # THEN it serves, as a version of its own
    assert record["status"] == "succeeded"
    assert service.invoke() == {"served by": record["serving"]}


def test_new_code_that_fails_its_hook_is_taken_out_of_latest_again(headgate: Headgate, service: Service) -> None:
    # GIVEN $LATEST with the code of the stable version, and a package that does not pass its smoke test
    latest = headgate.functions.get_function_configuration(FunctionName=service.function)["CodeSha256"]
    s3 = headgate.aws.client("s3")
    s3.create_bucket(Bucket=service.function)
    s3.put_object(Bucket=service.function, Key="app.zip", Body=zipped("def handler(event, context): raise OSError"))
    candidate = {"code": {"s3Bucket": service.function, "s3Key": "app.zip"}}
    hooks = {"beforeTraffic": [{"lambda": f"{PREFIX}-smoke-tester", "config": {}}]}
    # WHEN it is to be rolled out
    record = assert_invariants(
        headgate, headgate.request(target=service.target, candidate=candidate, hooks=hooks, strategy=SHORT)
    )
    # THEN it is rolled back, and $LATEST has its code back
    assert record["status"] == "rolled-back"
    assert "latest" not in record["state"]
    found = headgate.functions.get_function_configuration(FunctionName=service.function)
    assert (found["CodeSha256"], found["LastUpdateStatus"]) == (latest, "Successful")
    # AND the next plain request publishes that
    service.configure(RELEASE="next")
    following = headgate.request(target=service.target, candidate={"publish": {}}, hooks=hooks, strategy=SHORT)
    assert assert_invariants(headgate, following)["status"] == "succeeded"


# Messages that are no requests


def test_a_message_that_is_no_json_is_kept_with_its_reason_at_once(headgate: Headgate) -> None:
    sent = time.monotonic()
    message = headgate.queues.send_message(QueueUrl=headgate.outputs["RequestQueueUrl"], MessageBody="{not json")
    letter = refused(headgate, message["MessageId"], "the message: is not JSON: ")
    assert letter["Body"] == "{not json"
    assert time.monotonic() - sent < AT_ONCE


def test_a_request_that_is_too_long_is_refused(headgate: Headgate, service: Service) -> None:
    before, long = service.serving, "x" * 48 * 1024
    hooks = {"beforeTraffic": [{"lambda": "any", "config": {"long": long}}]}
    rollout = headgate.request(target=service.target, candidate=TWO, hooks=hooks)
    letter = refused(headgate, rollout, "the request: is ")
    assert " characters long; the limit is 49152; shorten hooks, which has " in headgate.record(rollout)["reason"]
    assert json.loads(letter["Body"])["detail"]["hooks"] == hooks
    # AND a direct execution is no way round that
    name = headgate.start({"target": service.target, "candidate": TWO, "hooks": hooks})
    assert assert_invariants(headgate, name)["status"] == "refused"
    assert service.serving == before


# Many


def test_twenty_rollouts_at_once_all_end_right(headgate: Headgate, service: Service) -> None:
    services = [service.with_alias(f"region-{number}") for number in range(20)]
    strategy = steps((10, 2), (50, 2))
    rollouts = [headgate.request(target=service.target, candidate=TWO, strategy=strategy) for service in services]
    records = [headgate.ended(rollout) for rollout in rollouts]
    # THEN they ran side by side
    begun, ended = ([datetime.fromisoformat(record[at]) for record in records] for at in ("startedAt", "endedAt"))
    one_by_one = sum(((end - begin).total_seconds() for begin, end in zip(begun, ended, strict=True)), 0.0)
    assert (max(ended) - min(begun)).total_seconds() < one_by_one / 2
    # AND each ended right
    for service, rollout in zip(services, rollouts, strict=True):
        record = assert_invariants(headgate, rollout)
        assert (record["status"], record["serving"]) == ("succeeded", "2")
        assert len(headgate.events(rollout, "Verdict Reached")) == 2
        assert service.serving[:2] == ("2", {})


# After the promotion


def owned_by_a_stack(headgate: Headgate, service: Service) -> Any:
    """Let a stack own the service's alias; answers how to deploy it with another version."""
    headgate.functions.delete_alias(FunctionName=service.function, Name=service.alias)
    stacks, stack = headgate.aws.client("cloudformation"), {"StackName": f"stack-of-{service.function}"}

    def deployment(version: str) -> dict[str, Any]:
        alias = {"FunctionName": service.function, "Name": service.alias, "FunctionVersion": {"Ref": "Version"}}
        resources = {"Alias": {"Type": "AWS::Lambda::Alias", "Properties": alias}}
        template = {"Parameters": {"Version": {"Type": "String"}}, "Resources": resources}
        given = {"ParameterKey": "Version", "ParameterValue": version}
        return {**stack, "TemplateBody": json.dumps(template), "Parameters": [given]}

    stacks.create_stack(**deployment("1"))
    stacks.get_waiter("stack_create_complete").wait(**stack, WaiterConfig={"Delay": 1})
    return lambda version: stacks.update_stack(**deployment(version))


def test_what_comes_between_the_promotion_and_the_end_is_not_missed(headgate: Headgate, gate: Gate) -> None:
    # GIVEN rollouts that match provisioned concurrency, one of an alias that a stack owns
    services = [headgate.next_service() for _ in range(2)]
    three = services[0].publish()
    deploy = owned_by_a_stack(headgate, services[0])
    for service in services:
        service.provision("1", 3)
    changed, aborted = (
        headgate.request(
            target=service.target,
            candidate=TWO,
            strategy="AllAtOnce",
            guards="none",
            hooks=gate.at("afterTraffic"),
        )
        for service in services
    )
    for rollout in (changed, aborted):
        headgate.until_entered(rollout, "After traffic")
    # WHEN that stack is deployed, as its rollout has warned
    (warning,) = headgate.record(changed)["plan"]["warnings"]
    assert f"is resource Alias of the CloudFormation stack stack-of-{services[0].function}" in warning
    assert headgate.record(aborted)["plan"]["warnings"] == []
    deploy(three)
    serves(services[0], three)
    # AND the other rollout is aborted just before its end, when the stable version holds nothing any more
    headgate.functions.put_function_concurrency(FunctionName=f"{PREFIX}-settler", ReservedConcurrentExecutions=0)
    try:
        gate.open()
        eventually(lambda: not services[1].provisioned("1"), 20, lambda: "nothing was released")
        headgate.signal_now(aborted, "abort", reason="complaints")
    finally:
        headgate.functions.delete_function_concurrency(FunctionName=f"{PREFIX}-settler")
    # THEN the first is stopped, and left with everything
    record = assert_invariants(headgate, changed)
    assert (record["status"], record["reason"].endswith("Headgate leaves it unchanged")) == ("stopped", True)
    assert [services[0].provisioned(version) for version in "12"] == [3, 3]
    # AND the second is back, with what its stable version held
    record = assert_invariants(headgate, aborted)
    assert (record["status"], record["reason"]) == ("rolled-back", "aborted by ada: complaints")
    assert [services[1].provisioned(version) for version in "12"] == [3, 0]
