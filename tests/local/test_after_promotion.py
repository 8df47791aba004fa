"""Faults that show after the promotion, on the deployed application: the watch, its undo, and what ends it before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import stored_lock
from tests.local.deployed import eventually, steps
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

TWO = {"version": "2"}
UNDO = {"hours": 1, "then": "undo"}


def promoted(headgate: Headgate, service: Service, alarm: str, **fields: Any) -> str:
    """A rollout of version 2 that was promoted, and is watched."""
    asked = {"candidate": TWO, "strategy": steps((50, 1)), "guards": {"alarms": [alarm]}, "afterPromotion": UNDO}
    rollout = headgate.request(target=service.target, **asked | fields)
    assert headgate.ended(rollout)["status"] == "succeeded"
    return rollout


def watch_ended(headgate: Headgate, rollout: str) -> dict[str, Any]:
    """What the record says of the watch once it has ended."""
    eventually(
        lambda: "outcome" in headgate.record(rollout)["watch"], 60, lambda: str(headgate.record(rollout)["watch"])
    )
    watch: dict[str, Any] = headgate.record(rollout)["watch"]
    return watch


def test_an_alarm_after_the_promotion_brings_the_earlier_version_back(headgate: Headgate, service: Service) -> None:
    # GIVEN a promoted rollout that is watched, whose target is free
    alarm = headgate.make_alarm()
    rollout = promoted(headgate, service, alarm)
    assert service.serving[:2] == ("2", {})
    assert "owner" not in stored_lock(headgate.table, headgate.record(rollout)["targetKey"])
    # WHEN the alarm fires, and the minute's look finds it as well
    headgate.set_alarm(alarm, "ALARM")
    headgate.observe()
    # THEN version 1 is back by one undo, which names the fault
    watch = watch_ended(headgate, rollout)
    assert watch["outcome"] == "undo-requested"
    assert watch["reason"].startswith(f"alarm {alarm} fired")
    undo = assert_invariants(headgate, watch["undo"])
    assert (undo["status"], service.serving[:2]) == ("succeeded", ("1", {}))
    assert headgate.record(rollout)["undoneBy"] == watch["undo"]
    assert [event["outcome"] for event in headgate.events(rollout, "Watch Ended")] == ["undo-requested"]


def test_the_minutes_look_finds_an_alarm_whose_event_is_lost(headgate: Headgate, service: Service) -> None:
    alarm = headgate.make_alarm()
    rollout = promoted(headgate, service, alarm, afterPromotion={"hours": 1, "then": "report"})
    # WHEN nobody is told of an alarm
    with headgate.deaf_to_alarms():
        headgate.set_alarm(alarm, "ALARM")
        headgate.observe()
    # THEN it is found, and only told
    assert watch_ended(headgate, rollout)["outcome"] == "fault"
    assert service.serving[:2] == ("2", {})
    eventually(
        lambda: "Watch Ended" in [told["detail-type"] for told in headgate.notified(rollout)],
        30,
        lambda: "nobody was told",
    )


def test_what_is_promoted_later_ends_the_watch(headgate: Headgate, service: Service) -> None:
    alarm = headgate.make_alarm()
    rollout = promoted(headgate, service, alarm)
    later = headgate.request(target=service.target, candidate={"version": "1"}, strategy="AllAtOnce", guards="none")
    assert headgate.ended(later)["status"] == "succeeded"
    headgate.set_alarm(alarm, "ALARM")
    watch = watch_ended(headgate, rollout)
    assert (watch["outcome"], watch["reason"]) == ("superseded", f"{later} was promoted")
    assert "undo" not in watch


def test_an_operator_ends_the_watch(headgate: Headgate, service: Service) -> None:
    alarm = headgate.make_alarm()
    rollout = promoted(headgate, service, alarm)
    headgate.signal(rollout, "stop-watch", reason="tuning the alarm")
    assert watch_ended(headgate, rollout)["reason"] == "stopped by ada: tuning the alarm"
    headgate.set_alarm(alarm, "ALARM")
    headgate.observe()
    assert service.serving[:2] == ("2", {})
