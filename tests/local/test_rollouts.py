"""Rollouts from the event to the end, on the deployed application: every way there is, and what holds after each."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import history
from tests.local.deployed import BAD_HOOK, GATED_HOOK, GOOD_HOOK, PREFIX, eventually, steps
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

EVENTS = Path(__file__).resolve().parents[2] / "demo" / "events"
TWO = {"version": "2"}
LONG = steps((10, 300))
SHORT = steps((10, 1))
AT_ONCE = 10
"""Seconds that "at once" may take on a busy machine; the bakes that are cut short last 300."""


def payload(name: str, **changes: Any) -> dict[str, Any]:
    """The detail of an example event, with this deployment's sample hooks, changed."""
    text = (EVENTS / f"{name}.json").read_text().replace('"headgate-', f'"{PREFIX}-')
    detail: dict[str, Any] = json.loads(text)["detail"]
    return detail | changes


def back_on(service: Service, version: str) -> float:
    """Wait until the alias serves one version alone; answers when."""
    eventually(lambda: service.serving[:2] == (version, {}), 30, lambda: f"{service.serving} is not {version} alone")
    return time.monotonic()


# Promoted


def test_a_good_candidate_is_promoted_when_hooks_and_evidence_agree(headgate: Headgate, checkout: Service) -> None:
    # GIVEN the sample service under traffic, and a new release of it
    stable = checkout.serving.version
    checkout.configure(RELEASE="good")
    with checkout.traffic():
        # WHEN it is rolled out with the sample hooks before and after
        rollout = headgate.request(**payload("good_release", id=headgate.new_id(), strategy=steps((30, 2), (60, 1))))
        record = assert_invariants(headgate, rollout)
    # THEN all requests go to it, and the record says on what evidence
    assert record["status"] == "succeeded"
    assert (record["stable"], record["candidate"]) == (stable, str(int(stable) + 1))
    assert checkout.invoke()["release"] == "good"
    assert {"Before traffic", "After traffic"} <= set(headgate.entered(record))
    assert record["reason"].startswith("0 of ")


def test_the_events_of_a_rollout_are_announced_in_order_and_its_end_reaches_the_topic(
    headgate: Headgate, service: Service
) -> None:
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=steps((10, 0), (50, 1)))
    assert_invariants(headgate, rollout)
    told = [event["detail-type"] for event in headgate.announced(rollout)]
    step = ["Step Started", "Step Baked", "Verdict Reached"]
    assert told == ["Rollout Started", *step, *step, "Rollout Succeeded"]
    eventually(lambda: headgate.notified(rollout), 5, lambda: "the topic was told nothing")
    assert [event["detail-type"] for event in headgate.notified(rollout)] == ["Rollout Succeeded"]


def test_all_at_once_moves_everything_without_a_step(headgate: Headgate, service: Service) -> None:
    record = assert_invariants(
        headgate, headgate.request(target=service.target, candidate=TWO, strategy="CodeDeployDefault.LambdaAllAtOnce")
    )
    assert record["status"] == "succeeded"
    assert "Shift" not in headgate.entered(record)


def test_a_step_with_bake_0_is_passed_without_waiting(headgate: Headgate, service: Service) -> None:
    # GIVEN a step that does not bake before one that does
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=steps((5, 0), (50, 1)))
    record = assert_invariants(headgate, rollout)
    # THEN both weights were set, and there was one bake
    assert record["status"] == "succeeded"
    assert [event["weight"] for event in headgate.events(rollout, "Step Started")] == [5, 50]
    states = headgate.entered(record)
    assert (states.count("Shift in passing"), states.count("Shift"), states.count("Bake")) == (1, 1, 1)


def test_a_step_of_all_traffic_may_bake_and_is_judged_without_a_stable_arm(
    headgate: Headgate, service: Service
) -> None:
    # GIVEN a guard that compares errors, traffic, and a last step of 100 % with a bake
    guards = {"errors": {"tolerate": 0}}
    with service.traffic():
        rollout = headgate.request(
            target=service.target, candidate=TWO, strategy=steps((50, 2), (100, 1)), guards=guards
        )
        record = assert_invariants(headgate, rollout)
    # THEN that no stable request came at 100 % is not missing evidence
    assert record["status"] == "succeeded"
    assert headgate.events(rollout, "Step Started")[-1]["weight"] == 100
    verdicts = [event["verdict"] for event in headgate.events(rollout, "Verdict Reached")]
    # A cold start may use up a bake, and then that bakes on.
    assert [verdict for verdict in verdicts if verdict != "inconclusive"] == ["continue", "promote"]


def test_a_rollout_of_k_steps_takes_at_most_4_k_and_12_transitions(headgate: Headgate, service: Service) -> None:
    strategy = {"linear": {"percent": 40, "intervalSeconds": 1}}
    record = assert_invariants(headgate, headgate.request(target=service.target, candidate=TWO, strategy=strategy))
    assert record["status"] == "succeeded"
    assert [step["weight"] for step in record["plan"]["steps"]] == [40, 80]
    assert len(headgate.entered(record)) <= 4 * 2 + 12


# What the candidate may be


def test_publish_rolls_a_change_of_the_configuration_out(headgate: Headgate, service: Service) -> None:
    # GIVEN that only $LATEST's environment has changed since version 2
    service.configure(RELEASE="configured")
    record = assert_invariants(
        headgate, headgate.request(target=service.target, candidate={"publish": {}}, strategy=SHORT)
    )
    # THEN that is a version of its own, and the alias serves it
    assert (record["status"], record["serving"]) == ("succeeded", "3")
    assert service.invoke() == {"version": "3"}


# Rolled back


def test_a_failing_candidate_is_gone_seconds_after_its_first_failure(headgate: Headgate, checkout: Service) -> None:
    # GIVEN the sample service under traffic, and a release that fails half of its requests
    stable = checkout.serving.version
    checkout.configure(RELEASE="bad", ERROR_RATE="0.5")
    guards = {"errors": {"tolerate": 0}}
    detail = payload("bad_release", id=headgate.new_id(), guards=guards, strategy=steps((30, 300)))
    with checkout.traffic(rps=24) as traffic:
        # WHEN it gets a part of the traffic, for five minutes
        rollout = headgate.request(**detail)
        headgate.baking(rollout)
        gone = back_on(checkout, stable)
        record = assert_invariants(headgate, rollout)
        first_failure = min(request.at for request in traffic.requests[:] if not request.ok)
    # THEN it is back after a few seconds, and the record has the numbers
    assert gone - first_failure < AT_ONCE
    assert record["status"] == "rolled-back"
    verdict = headgate.events(rollout, "Verdict Reached")[-1]
    assert verdict["verdict"] == "roll-back"
    (errors,) = verdict["evidence"]["measures"]
    assert errors["candidate"]["failures"] > 0
    assert errors["stable"]["failures"] == 0
    assert errors["value"] >= 100


def test_an_alarm_on_the_errors_of_the_alias_rolls_back(headgate: Headgate, service: Service) -> None:
    # GIVEN a broken version, and a CloudWatch alarm on the alias's errors as the only guard
    broken = service.publish(BROKEN="yes")
    alarm = headgate.make_alarm_on_errors(service, more_than=5)
    # WHEN the version gets half of the traffic, for five minutes
    with service.traffic():
        candidate, guards = {"version": broken}, {"alarms": [alarm]}
        rollout = headgate.request(target=service.target, candidate=candidate, strategy=steps((50, 300)), guards=guards)
        record = assert_invariants(headgate, rollout)
    # THEN the alarm ends the bake
    assert (record["status"], record["serving"], record["reason"]) == ("rolled-back", "1", f"alarm {alarm} fired")


def test_the_deletion_of_a_guard_alarm_rolls_back_at_once(headgate: Headgate, service: Service) -> None:
    alarm = headgate.make_alarm()
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG, guards={"alarms": [alarm]})
    headgate.baking(rollout)
    headgate.alarms.delete_alarms(AlarmNames=[alarm])
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    assert record["reason"] == f"alarm {alarm} was deleted, so it no longer guards the rollout"


def test_one_alarm_ends_the_bakes_of_all_rollouts_it_guards_at_once(headgate: Headgate, service: Service) -> None:
    # GIVEN two rollouts in bakes of five minutes, guarded by the same alarm
    alarm, other = headgate.make_alarm(), headgate.next_service()
    rollouts = [
        headgate.request(target=each.target, candidate=TWO, strategy=LONG, guards={"alarms": [alarm]})
        for each in (service, other)
    ]
    for rollout in rollouts:
        headgate.baking(rollout)
    # WHEN it fires
    fired = time.monotonic()
    headgate.set_alarm(alarm, "ALARM")
    back_on(service, "1")
    # THEN both are rolled back at once, and say why
    assert back_on(other, "1") - fired < AT_ONCE
    for rollout in rollouts:
        record = assert_invariants(headgate, rollout)
        assert (record["status"], record["reason"]) == ("rolled-back", f"alarm {alarm} fired")


def test_an_alarm_that_fires_already_counts_once_it_has_recovered(headgate: Headgate, service: Service) -> None:
    # GIVEN an alarm that fires when the rollout begins, which does not hold it up
    alarm = headgate.make_alarm("ALARM")
    strategy = steps((10, 1), (50, 300))
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=strategy, guards={"alarms": [alarm]})
    headgate.until(rollout, "Step Started", 2)
    assert headgate.events(rollout, "Rollout Started")[0]["firing"] == [alarm]
    # WHEN it recovers and fires again
    headgate.set_alarm(alarm, "OK")
    headgate.set_alarm(alarm, "ALARM")
    # THEN it counts
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["reason"]) == ("rolled-back", f"alarm {alarm} fired")


def test_an_alarm_that_fires_already_and_goes_on_firing_does_not_block(headgate: Headgate, service: Service) -> None:
    guards = {"alarms": [headgate.make_alarm("ALARM")]}
    record = assert_invariants(
        headgate, headgate.request(target=service.target, candidate=TWO, strategy=SHORT, guards=guards)
    )
    assert record["status"] == "succeeded"


def test_a_bake_without_traffic_ends_as_the_request_says(headgate: Headgate) -> None:
    # GIVEN a guard that needs counts, and no traffic
    rollouts = {
        outcome: headgate.request(
            target=headgate.next_service().target,
            candidate=TWO,
            strategy=SHORT,
            guards={"errors": {"tolerate": 0}, "onNoData": on_no_data},
        )
        for on_no_data, outcome in (("fail", "rolled-back"), ("pass", "succeeded"))
    }
    # THEN onNoData decides
    for outcome, rollout in rollouts.items():
        record = assert_invariants(headgate, rollout)
        assert record["status"] == outcome
        assert "no request of the candidate was seen during the bake at 10 %" in record["reason"]


# Hooks


def test_a_failing_hook_before_traffic_rolls_back_before_any_traffic_moved(
    headgate: Headgate, service: Service
) -> None:
    # GIVEN a hook that does not agree
    hook, before = headgate.make_hook(BAD_HOOK), service.serving
    hooks = {"beforeTraffic": [{"lambda": hook}]}
    # WHEN a rollout asks it
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG, hooks=hooks)
    record = assert_invariants(headgate, rollout)
    # THEN no step was begun, and the record has the hook's own words
    assert record["status"] == "rolled-back"
    assert record["reason"] == f'hook {hook} of beforeTraffic failed: {{"reason":"does not add up"}}'
    assert headgate.events(rollout, "Step Started") == []
    assert service.serving[:2] == before[:2]


NO_ANSWERS = {
    "could not be asked: ValueError; see its logs": "def handler(event, context): raise ValueError('out of paper')",
    "gave no valid answer: hookStatus is missing": "def handler(event, context): return None",
    'gave no valid answer: hookStatus is "MAYBE"': "def handler(event, context): return {'hookStatus': 'MAYBE'}",
    "did not finish within 1 s": "import time\ndef handler(event, context): time.sleep(5)",
}


def test_a_hook_that_gives_no_answer_fails_at_once(headgate: Headgate) -> None:
    # GIVEN hooks that throw, say nothing, say something else, and take too long
    hooks = {said: headgate.make_hook(code) for said, code in NO_ANSWERS.items()}
    rollouts = {}
    for said, hook in hooks.items():
        before = [{"lambda": hook, "timeoutSeconds": 1 if "finish" in said else 300}]
        rollouts[said] = headgate.request(
            target=headgate.next_service().target, candidate=TWO, strategy=LONG, hooks={"beforeTraffic": before}
        )
    # THEN each rollout is rolled back, and says which hook failed it and how
    for said, rollout in rollouts.items():
        record = assert_invariants(headgate, rollout)
        assert record["status"] == "rolled-back"
        assert record["reason"].startswith(f"hook {hooks[said]} of beforeTraffic {said}")


def test_a_state_machine_says_by_its_end_or_its_output_whether_it_agrees(headgate: Headgate) -> None:
    # GIVEN machines that agree, that fail, that say otherwise, and that take too long
    machines = {
        "": headgate.make_machine({"Type": "Succeed", "Output": {"p95": 200}}),
        "failed: TooSlow p95 is 900 ms": headgate.make_machine(
            {"Type": "Fail", "Error": "TooSlow", "Cause": "p95 is 900 ms"}
        ),
        'failed: {"p95":900}': headgate.make_machine(
            {"Type": "Succeed", "Output": {"hookStatus": "FAILED", "hookDetails": {"p95": 900}}}
        ),
        "did not finish within 2 s": headgate.make_machine({"Type": "Wait", "Seconds": 300}, {"Type": "Succeed"}),
    }
    names = {said: machine.rsplit(":", 1)[-1] for said, machine in machines.items()}
    # WHEN rollouts ask them by their names
    rollouts = {
        said: headgate.request(
            target=headgate.next_service().target,
            candidate=TWO,
            strategy="AllAtOnce",
            hooks={"beforeTraffic": [{"stateMachine": machine, "timeoutSeconds": 2, "config": {"users": 40}}]},
        )
        for said, machine in names.items()
    }
    # THEN each ends as its machine does, and says what that said
    for said, rollout in rollouts.items():
        record = assert_invariants(headgate, rollout)
        assert record["status"] == ("rolled-back" if said else "succeeded")
        assert record["reason"] == (
            f"hook {names[said]} of beforeTraffic {said}" if said else "no step baked, so nothing was judged"
        )
    # AND nothing runs on that is not waited for
    late = headgate.states.list_executions(stateMachineArn=machines["did not finish within 2 s"])
    assert [each["status"] for each in late["executions"]] == ["ABORTED"]


def test_a_failing_hook_after_traffic_takes_everything_back(headgate: Headgate, service: Service) -> None:
    # GIVEN a hook that does not agree once all traffic has moved, and one that is told of rollbacks
    hooks = {
        "afterTraffic": [{"lambda": headgate.make_hook(BAD_HOOK)}],
        "onRollback": [{"lambda": headgate.make_hook(GOOD_HOOK)}],
    }
    rollout = headgate.request(target=service.target, candidate=TWO, strategy="AllAtOnce", hooks=hooks)
    record = assert_invariants(headgate, rollout)
    # THEN the alias came back from 100 %
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    states = headgate.entered(record)
    assert states[states.index("Promote") :][:6] == [
        "Promote", "After traffic?", "After traffic", "Roll back", "On rollback?", "On rollback",
    ]  # fmt: skip


def test_a_hook_in_progress_is_asked_again_with_its_own_details(headgate: Headgate, service: Service) -> None:
    # GIVEN a hook that agrees only when it is shown what it said the first time, a second later
    code = """
def handler(event, context):
    if not event["hookDetails"]:
        return {"hookStatus": "IN_PROGRESS", "callBackDelay": 1, "hookDetails": {"case": 42}}
    return {"hookStatus": "SUCCEEDED" if event["hookDetails"] == {"case": 42} else "FAILED"}
"""
    hooks = {"beforeTraffic": [{"lambda": headgate.make_hook(code)}]}
    # WHEN a rollout asks it THEN it goes on
    rollout = headgate.request(target=service.target, candidate=TWO, strategy="AllAtOnce", hooks=hooks)
    assert assert_invariants(headgate, rollout)["status"] == "succeeded"


def test_a_hook_is_told_what_it_tests(headgate: Headgate, service: Service) -> None:
    # GIVEN hooks at two stages: the first agrees, the second says what it was told
    teller = headgate.make_hook("def handler(event, context): return {'hookStatus': 'FAILED', 'hookDetails': event}")
    hooks = {
        "beforeStep": [{"lambda": headgate.make_hook(GOOD_HOOK)}],
        "afterStep": [{"lambda": teller, "config": {"colour": "red"}}],
    }
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=steps((5, 0), (50, 300)), hooks=hooks)
    record = assert_invariants(headgate, rollout)
    # THEN it knows the rollout, the stage and both versions
    assert record["status"] == "rolled-back"
    told = json.loads(record["reason"].split("failed: ", 1)[1])
    assert told.pop("step") in (0, 1)
    assert told == {
        "rolloutId": rollout, "stage": "afterStep", "target": service.target, "stable": "1", "candidate": "2",
        "config": {"colour": "red"}, "hookDetails": {},
    }  # fmt: skip


# Signals


def test_abort_ends_a_long_bake_with_who_sent_it_and_why_on_record(headgate: Headgate, service: Service) -> None:
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(rollout)
    # WHEN somebody aborts
    sent = time.monotonic()
    headgate.signal(rollout, "abort", by="ada", reason="wrong basket")
    # THEN the alias is back at once
    assert back_on(service, "1") - sent < AT_ONCE
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["reason"]) == ("rolled-back", "aborted by ada: wrong basket")
    (signal,) = record["signals"].values()
    assert (signal["signal"], signal["by"], signal["reason"], signal["step"]) == ("abort", "ada", "wrong basket", 0)


def test_promote_skips_the_wait_of_one_step_only(headgate: Headgate, service: Service) -> None:
    # GIVEN a long bake and a short one
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=steps((10, 300), (50, 2)))
    headgate.baking(rollout)
    # WHEN the first is skipped
    headgate.signal(rollout, "promote", by="bob")
    record = assert_invariants(headgate, rollout)
    # THEN the second ran its course
    assert record["status"] == "succeeded"
    reasons = [event["reason"] for event in headgate.events(rollout, "Verdict Reached")]
    assert reasons == ["this wait was skipped by bob", "the bake is over"]
    assert seconds_of_step(headgate, rollout, 1) > 1


def test_promote_fully_goes_to_everything_at_once(headgate: Headgate, service: Service) -> None:
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=steps((10, 300), (50, 300)))
    headgate.baking(rollout)
    headgate.signal(rollout, "promote-fully", by="bob", reason="a hotfix")
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["reason"]) == ("succeeded", "promoted fully by bob: a hotfix")
    assert len(headgate.events(rollout, "Step Started")) == 1


def test_a_signal_that_comes_before_the_bake_is_open_is_not_lost(headgate: Headgate, tmp_path: Path) -> None:
    # GIVEN rollouts that are busy with a hook before any traffic
    gate = tmp_path / "open"
    hooks = {"beforeTraffic": [{"lambda": headgate.make_hook(GATED_HOOK), "config": {"gate": str(gate)}}]}
    services = {signal: headgate.next_service() for signal in ("abort", "promote")}
    rollouts = {
        signal: headgate.request(target=service.target, candidate=TWO, strategy=LONG, hooks=hooks)
        for signal, service in services.items()
    }
    # WHEN a signal comes to each, and then the hook agrees
    for signal, rollout in rollouts.items():
        headgate.until_entered(rollout, "Before traffic")
        headgate.signal(rollout, signal, reason="I know")
        headgate.until_signalled(rollout)
        assert headgate.events(rollout, "Step Started") == []
    gate.touch()
    # THEN the abort lets no traffic move
    aborted = assert_invariants(headgate, rollouts["abort"])
    assert (aborted["status"], aborted["reason"]) == ("rolled-back", "aborted by ada: I know")
    assert headgate.events(rollouts["abort"], "Step Started") == []
    assert "Bake" not in headgate.entered(aborted)
    # AND the promote ends the bake as soon as that opens
    assert assert_invariants(headgate, rollouts["promote"])["status"] == "succeeded"
    assert seconds_of_step(headgate, rollouts["promote"], 0) < AT_ONCE


def seconds_of_step(headgate: Headgate, rollout: str, step: int) -> float:
    """How long a step's first bake was on record."""
    (found,) = (item for item in history(headgate.table, rollout) if item["sk"] == f"STEP#{step:03d}#00")
    return (datetime.fromisoformat(found["endedAt"]) - datetime.fromisoformat(found["startedAt"])).total_seconds()


# Ways in, duplicates and lines


def test_a_direct_execution_takes_its_name_as_the_id(headgate: Headgate, service: Service) -> None:
    name = headgate.start({"target": service.target, "candidate": TWO, "strategy": SHORT})
    record = assert_invariants(headgate, name)
    assert record["status"] == "succeeded"
    assert record["execution"].endswith(f":{name}")


def test_an_event_without_an_id_lends_its_own(headgate: Headgate, service: Service) -> None:
    detail = {"target": service.target, "candidate": TWO, "strategy": "AllAtOnce"}
    rollout = headgate.send("Rollout Requested", detail)
    assert assert_invariants(headgate, rollout)["status"] == "succeeded"


def test_a_duplicate_starts_nothing_new_by_whichever_way_it_comes(headgate: Headgate, service: Service) -> None:
    # GIVEN a rollout under way
    detail = {"target": service.target, "candidate": TWO, "strategy": SHORT}
    rollout = headgate.request(**detail)
    headgate.baking(rollout)
    # WHEN the same is asked for again while it runs and after it has ended, directly and by event
    during = headgate.end_of(headgate.start({**detail, "id": rollout}))
    headgate.request(**detail, id=rollout)
    record = assert_invariants(headgate, rollout)
    service.move_by_hand("1")
    headgate.request(**detail, id=rollout)
    after = headgate.end_of(headgate.start({**detail, "id": rollout}))
    headgate.until_all_requests_are_taken_in()
    # THEN there was one rollout, and whoever waits for another execution is told how it stands with it
    assert during[0] == "Duplicate"
    assert record["execution"] in during[1]
    assert after == ("SUCCEEDED", {"outcome": "succeeded", "reason": record["reason"], "serving": "2"})
    assert len(headgate.events(rollout, "Rollout Started")) == 1
    assert headgate.record(rollout) == record
    assert service.serving.version == "1"


def test_requests_for_a_busy_target_wait_and_run_in_order(headgate: Headgate, service: Service) -> None:
    # GIVEN a rollout under way
    three, four = service.publish(), service.publish()
    first = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(first)
    # WHEN two more come, one by event and one directly
    second = headgate.request(target=service.target, candidate={"version": three}, strategy=SHORT)
    key = f"lambda-alias/{service.function}/live"
    eventually(lambda: headgate.waiting(key) == [second], 5, lambda: "the second is not in line")
    third = headgate.start({"target": service.target, "candidate": {"version": four}, "strategy": SHORT})
    eventually(lambda: headgate.waiting(key) == [second, third], 5, lambda: "the third is not in line")
    headgate.signal(first, "abort")
    # THEN each starts when the one before has ended, and takes what that left as its stable version; the direct one in
    # the execution that has waited
    ends = [assert_invariants(headgate, rollout) for rollout in (first, second, third)]
    assert [(end["stable"], end["serving"]) for end in ends] == [("1", "1"), ("1", three), (three, four)]
    for before, after in ((ends[0], ends[1]), (ends[1], ends[2])):
        assert before["endedAt"] <= after["startedAt"]
        assert before["epoch"] + 1 == after["epoch"]
    assert ends[2]["execution"].endswith(f":{third}")
    assert headgate.end_of(third)[1]["outcome"] == "succeeded"


def test_a_request_that_does_not_want_to_wait_is_refused_while_its_target_is_busy(
    headgate: Headgate, service: Service
) -> None:
    first = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
    headgate.baking(first)
    # WHEN requests come that say so, by event and directly
    asked = {"target": service.target, "candidate": TWO, "strategy": SHORT, "onBusy": "refuse"}
    for second in (headgate.request(**asked), headgate.start(asked)):
        record = assert_invariants(headgate, second)
        # THEN they are refused, and nothing else happens
        assert record["status"] == "refused"
        assert record["reason"] == f"target: {record['targetKey']} is busy with rollout {first}, and onBusy is refuse"
    headgate.signal(first, "promote")
    assert assert_invariants(headgate, first)["status"] == "succeeded"


# Refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"strategy": steps((110, 1))},
            "strategy.steps[0].weight: must be at most 100 (given 110)",
        ),
        ({"guards": {"alrams": []}}, "guards.alrams: is not a known field; did you mean alarms? (given [])"),
        ({"strategy": "Canary10"}, "strategy: not a preset; use a name like Canary10Percent5Minutes"),
    ],
    ids=["a-value-out-of-range", "a-misspelled-field", "an-unknown-preset"],
)
def test_an_invalid_request_is_refused_by_field_value_and_fix_and_kept(
    headgate: Headgate, service: Service, changes: dict[str, Any], said: str
) -> None:
    before = service.serving
    rollout = headgate.request(**{"target": service.target, "candidate": TWO, "strategy": SHORT} | changes)
    record = headgate.ended(rollout)
    # THEN it is kept with the reason, where its sender can find it
    (letter,) = eventually(headgate.dead_letters.take, 5, lambda: "nothing is in the dead-letter queue")
    assert json.loads(letter["Body"])["detail"]["id"] == rollout
    assert letter["MessageAttributes"]["reason"]["StringValue"] == record["reason"]
    assert record["reason"].startswith(said)
    # AND nothing was touched
    assert_invariants(headgate, rollout)
    assert headgate.execution(record) == ""
    assert service.serving == before


def test_an_invalid_direct_execution_is_refused_too(headgate: Headgate, service: Service) -> None:
    before = service.serving
    name = headgate.start({"target": service.target, "candidate": {"version": "seven"}})
    record = assert_invariants(headgate, name)
    assert record["status"] == "refused"
    assert record["reason"].startswith("candidate.version: must be a version number")
    assert service.serving == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guards": {"alarms": ["nobody"]}}, "guards.alarms: no alarm is named nobody"),
        ({"hooks": {"beforeTraffic": [{"lambda": "nobody"}]}}, "hooks.beforeTraffic[0].lambda: nobody cannot be "),
        (
            {"hooks": {"afterStep": [{"stateMachine": "nobody"}]}},
            "hooks.afterStep[0].stateMachine: nobody cannot be called: ",
        ),
        (
            {"hooks": {"afterStep": [{"ecsTask": {"taskDefinition": "nobody:1"}}]}},
            "hooks.afterStep[0].ecsTask: taskDefinition: nobody:1: ",
        ),
        ({"target": {"function": "nobody"}}, "target: function nobody with alias live does not exist"),
        ({"target": {"alias": "nobody"}}, "target: function {function} with alias nobody does not exist"),
        ({"candidate": {"version": "99"}}, "candidate.version: {function} has no version 99"),
        ({"candidate": {"version": "1"}}, "candidate: {function}:live already serves version 1"),
    ],
    ids=["alarm", "hook", "machine", "task", "function", "alias", "version", "candidate-is-stable"],
)
def test_a_request_that_cannot_be_carried_out_is_refused_before_anything_is_touched(
    headgate: Headgate, service: Service, changes: dict[str, Any], said: str
) -> None:
    before, versions = service.serving, service.versions
    detail = {"candidate": TWO, "strategy": SHORT} | changes | {"target": service.target | changes.get("target", {})}
    record = assert_invariants(headgate, headgate.request(**detail))
    assert record["status"] == "refused"
    assert record["reason"].startswith(said.format(function=service.function))
    assert (service.serving, service.versions) == (before, versions)


def test_publish_with_nothing_new_is_refused(headgate: Headgate, service: Service) -> None:
    service.move_by_hand("2")
    before, versions = service.serving, service.versions
    record = assert_invariants(headgate, headgate.request(target=service.target, candidate={"publish": {}}))
    assert record["status"] == "refused"
    assert (
        record["reason"]
        == f"candidate: {service.function}:live already serves version 2; code and configuration have not changed "
        "since it was published: update the function first"
    )
    assert (service.serving, service.versions) == (before, versions)


def test_strict_alarms_refuse_while_one_fires(headgate: Headgate, service: Service) -> None:
    alarm, before = headgate.make_alarm("ALARM"), service.serving
    guards = {"alarms": [alarm], "strictAlarms": True}
    record = assert_invariants(headgate, headgate.request(target=service.target, candidate=TWO, guards=guards))
    assert record["status"] == "refused"
    assert record["reason"].startswith(f"guards.alarms: {alarm} already fires, and strictAlarms is true; ")
    assert service.serving == before


# Stopped


def test_an_alias_that_somebody_else_moves_stops_the_rollout_and_stays_as_found(headgate: Headgate) -> None:
    for ending in ("promote", "abort"):
        # GIVEN an alias that was moved by hand in the middle of a bake
        service = headgate.next_service()
        three = service.publish()
        rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG)
        headgate.baking(rollout)
        service.move_by_hand(three)
        found = service.serving
        # WHEN the rollout wants to move it on, or back
        headgate.signal(rollout, ending)
        record = assert_invariants(headgate, rollout)
        # THEN it says what it found and leaves it there
        assert record["status"] == "stopped"
        assert "was changed by somebody else: it serves version 3; Headgate leaves it unchanged" in record["reason"]
        assert service.serving == found
