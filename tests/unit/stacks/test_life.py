"""Every turn of a stack's life, with the custom resource of a rollout in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headgate.ids import is_rollout_id
from tests.builders import TARGET_KEY, admit, items_at, status_of
from tests.fakes.deployments import ARN, Deployments
from tests.fakes.services import Refusal, sha256_of

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from tests.fakes.deployments import Stack

ROOT = Path(__file__).parents[3]
LIVE = {"Alias": "checkout:live"}
HOOKS = {"Hooks": {"beforeTraffic": [{"lambda": "smoke"}], "afterTraffic": [{"lambda": "verify"}]}}
BAD = ("rolled-back", "candidate 5 of 100 failed, stable 0 of 900")


def outcome_of(answer: dict[str, Any]) -> tuple[str, str, str]:
    return answer["Status"], answer["Data"].get("Outcome", ""), answer["Data"].get("Version", "")


# Create


def test_the_first_deployment_publishes_and_creates_the_alias(world: Deployments) -> None:
    world.function.deploy("one")
    answer = world.stack().create(**LIVE, Release="1")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", f"{ARN}:live")
    assert answer["Data"] == {
        "AliasArn": f"{ARN}:live",
        "Version": "1",
        "RolloutId": "",
        "Outcome": "created",
        "Warnings": "",
    }
    assert world.function.serves() == ("1", {})
    assert not world.did("roll-out")


def test_the_first_deployment_asks_the_hooks_before_and_after_in_turn(world: Deployments) -> None:
    answer = world.stack().create(**LIVE, **HOOKS)
    assert outcome_of(answer) == ("SUCCESS", "created", "1")
    before, after = world.did("ask")
    assert (before["input"]["stage"], after["input"]["stage"]) == ("beforeTraffic", "afterTraffic")
    assert before["input"]["hooks"] == [{"lambda": "smoke", "timeoutSeconds": 300, "config": {}}]
    assert (before["input"]["stable"], before["input"]["candidate"]) == ("1", "1")
    assert before["name"] != after["name"]
    assert before["seconds"] >= 300


def test_a_hook_that_fails_at_the_first_deployment_fails_it_and_its_deletion_removes_the_alias(
    world: Deployments,
) -> None:
    stack = world.stack()
    world.hook_failure = {"Error": "HookFailed", "Cause": json.dumps({"errorMessage": "smoke answered FAILED"})}
    answer = stack.create(**LIVE, **HOOKS)
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "Hooks.beforeTraffic: smoke answered FAILED")
    assert answer["PhysicalResourceId"] == f"{ARN}:live"
    assert stack.delete("ROLLBACK_IN_PROGRESS")["Status"] == "SUCCESS"
    assert world.function.aliases == {}


def test_an_alias_that_serves_latest_already_is_kept_and_the_hooks_are_asked(world: Deployments) -> None:
    # GIVEN an alias of AutoPublishAlias
    world.function.PublishVersion("checkout")
    world.function.point("live", "1")
    stack = world.stack()
    assert outcome_of(stack.create(**LIVE, **HOOKS)) == ("SUCCESS", "unchanged", "1")
    assert (len(world.did("ask")), world.did("roll-out")) == (2, [])
    # AND it stays when the resource is deleted, because the resource did not create it
    assert stack.delete()["Status"] == "SUCCESS"
    assert world.function.serves() == ("1", {})


def test_a_resource_that_is_added_to_a_stack_rolls_out_what_the_same_deployment_brings(world: Deployments) -> None:
    world.function.PublishVersion("checkout")
    world.function.point("live", "1")
    world.function.deploy("two")
    assert outcome_of(world.stack().create(**LIVE)) == ("SUCCESS", "succeeded", "2")
    assert len(world.did("roll-out")) == 1


def test_a_given_version_is_rolled_out_and_nothing_is_published(world: Deployments) -> None:
    for code in ("one", "two"):
        world.function.deploy(code)
        world.function.PublishVersion("checkout")
    world.function.deploy("three")
    stack = world.stack()
    assert outcome_of(stack.create(**LIVE, Version=f"{ARN}:1")) == ("SUCCESS", "created", "1")
    assert outcome_of(stack.update(**LIVE, Version=f"{ARN}:2")) == ("SUCCESS", "succeeded", "2")
    assert world.did("roll-out")[0]["request"]["candidate"] == {"version": "2"}
    assert len(world.function.versions) == 2


def test_a_function_that_is_being_updated_and_a_version_that_starts_are_waited_for(world: Deployments) -> None:
    world.function.busy, world.function.state = 2, "Pending"
    request = world.stack().begin_create(**LIVE)
    for _ in range(4):
        assert request.until("wait")["do"] == "wait"
        request.go_on()
    assert world.function.aliases == {}
    world.function.versions["1"]["State"] = "Active"
    assert request.answer()["Status"] == "SUCCESS"


def test_a_version_that_does_not_start_fails_the_deployment(world: Deployments) -> None:
    world.function.state = "Pending"
    answer = world.stack().create(**LIVE, ReadySeconds="20")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("ReadySeconds: after 20 s, version 1 is not active yet")
    world.function.versions["1"]["State"] = "Failed"
    world.function.state = "Active"
    answer = world.stack(logical_id="Other", name="other").create(Alias="checkout:next")
    assert (answer["Status"], "could not be made active" in answer["Reason"]) == ("FAILED", True)


def test_an_alias_that_somebody_else_creates_meanwhile_is_not_taken_for_ours(world: Deployments) -> None:
    stack = world.stack()

    def first(operation: str, when: str) -> None:
        if (operation, when) == ("CreateAlias", "before"):
            world.function.point("live", "1")

    world.function.interrupt = first
    answer = stack.create(**LIVE)
    assert (answer["Status"], "created by somebody else" in answer["Reason"]) == ("FAILED", True)
    stack.delete("ROLLBACK_IN_PROGRESS")
    assert world.function.serves() == ("1", {})


def test_a_function_that_dies_around_the_creation_of_the_alias_goes_on_where_it_was(world: Deployments) -> None:
    stack = world.stack()
    request = stack.begin_create(**LIVE)

    def die(operation: str, when: str) -> None:
        if (operation, when) == ("CreateAlias", "after"):
            raise RuntimeError("gone")

    world.function.interrupt = die
    with pytest.raises(RuntimeError):
        request.answer()
    del world.function.interrupt
    assert outcome_of(stack.settle(request)) == ("SUCCESS", "unchanged", "1")
    stack.delete()
    assert world.function.aliases == {}


def test_a_plan_that_is_refused_fails_the_deployment_with_the_planners_words(world: Deployments) -> None:
    world.plan_refusal = "guards.alarms: checkout-errors does not exist"
    answer = world.stack().create(**LIVE)
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "Guards.alarms: checkout-errors does not exist")
    assert world.function.aliases == {}


# Update


def test_an_update_rolls_out_latest_under_an_id_that_names_the_resource(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2", Strategy="Canary10Percent5Minutes")
    answer = stack.settle(request)
    assert outcome_of(answer) == ("SUCCESS", "succeeded", "2")
    assert answer["Data"]["RolloutId"] == request.rollout_id
    assert answer["PhysicalResourceId"] == f"{ARN}:live"
    [step] = world.did("roll-out")
    assert is_rollout_id(step["request"]["id"])
    assert step["request"]["candidate"] == {"publish": {"confirm": sha256_of("two")}}
    assert (step["request"]["onBusy"], step["request"]["target"]["readySeconds"]) == ("refuse", 600)
    assert 3200 < step["seconds"] <= 3300
    assert world.function.serves() == ("2", {})


def test_a_bad_update_fails_with_the_reason_and_the_stack_goes_back_without_a_rollout(
    world: Deployments, stack: Stack
) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: BAD
    request = stack.begin_update(**LIVE, Release="2")
    answer = stack.settle(request)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        f"rollout {request.rollout_id} was rolled back: {BAD[1]} (headgate explain {request.rollout_id})"
    )
    world.steps.clear()
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "1")
    assert [step["do"] for step in world.steps] == []
    assert world.function.serves() == ("1", {})


def test_when_another_resource_fails_after_the_promotion_the_version_goes_back_at_once(
    world: Deployments, stack: Stack
) -> None:
    world.function.deploy("two")
    assert stack.update(**LIVE, Release="2", **HOOKS)["Status"] == "SUCCESS"
    world.steps.clear()
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "succeeded", "1")
    [step] = world.did("roll-out")
    asked = {name: step["request"][name] for name in ("candidate", "strategy", "guards")}
    assert asked == {"candidate": {"version": "1"}, "strategy": "AllAtOnce", "guards": "none"}
    assert not any(step["request"]["hooks"].values())
    assert world.function.serves() == ("1", {})


def test_a_rollback_goes_back_to_what_served_before_the_update_also_if_somebody_rolled_it_out_by_hand(
    world: Deployments, stack: Stack
) -> None:
    # GIVEN a hotfix by hand
    world.function.deploy("hotfix")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    world.function.deploy("three")
    world.outcome = lambda _: BAD
    assert stack.update(**LIVE, Release="3")["Status"] == "FAILED"
    world.steps.clear()
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "2")
    assert world.steps == []


def test_an_alias_that_is_gone_is_created_again_by_a_rollback(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    del world.function.aliases["live"]
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "created", "1")
    assert world.function.serves() == ("1", {})


@pytest.mark.parametrize(
    ("change", "rolls_out"),
    [
        ({}, 0),
        ({"Description": "the shop's checkout"}, 0),
        ({"Timeout": 5}, 1),
        ({"Environment": {"Variables": {}}}, 1),
    ],
    ids=["nothing", "description", "timeout", "environment"],
)
def test_an_update_rolls_out_if_code_or_configuration_differs(
    world: Deployments, stack: Stack, change: dict[str, Any], rolls_out: int
) -> None:
    world.function.latest |= change
    answer = stack.update(**LIVE, **HOOKS, Release="2")
    assert (answer["Status"], len(world.did("roll-out")), len(world.did("ask"))) == ("SUCCESS", rolls_out, 0)


def test_an_update_of_an_alias_that_splits_is_no_no_op(world: Deployments, stack: Stack, locks: Locks) -> None:
    # GIVEN a rollout by hand that is under way
    admit(locks, "by-hand")
    world.function.versions["2"] = dict(world.function.versions["1"])
    world.function.point("live", "1", {"2": 0.1})
    answer = stack.update(**LIVE, Release="2")
    assert answer["Status"] == "FAILED"
    assert "is busy with rollout by-hand" in answer["Reason"]


def test_a_target_that_is_busy_fails_the_update_and_the_other_rollout_goes_on(
    world: Deployments, stack: Stack, locks: Locks
) -> None:
    admit(locks, "by-hand")
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2")
    answer = stack.settle(request)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith(
        f"rollout {request.rollout_id} was refused: Alias: lambda-alias/checkout/live is busy"
    )
    assert status_of(world.table, "by-hand") == "accepted"
    assert stack.roll_back()["Status"] == "SUCCESS"


def test_a_hook_of_a_deployment_preference_is_named_as_it_was_given(world: Deployments, stack: Stack) -> None:
    hooks = {"Hooks": {"PreTraffic": "smoke"}}
    world.hook_failure = {"Error": "HookFailed", "Cause": json.dumps({"errorMessage": "smoke answered Failed"})}
    world.function.point("next", "1")
    answer = world.stack(logical_id="Next", of=stack).create(Alias="checkout:next", **hooks)
    assert answer["Reason"] == "Hooks.PreTraffic: smoke answered Failed"
    world.plan_refusal = "hooks.beforeTraffic[0].codeDeployHook: smoke does not exist"
    assert stack.update(**LIVE, **hooks)["Reason"] == "Hooks.PreTraffic: smoke does not exist"
    world.plan_refusal = ""
    world.function.deploy("two")
    world.outcome = lambda _: ("rolled-back", "hooks.beforeTraffic[0].codeDeployHook: smoke answered Failed")
    assert "was rolled back: Hooks.PreTraffic: smoke answered" in stack.update(**LIVE, **hooks, Release="2")["Reason"]


# Warnings


def test_warnings_of_the_plan_are_an_attribute(world: Deployments, stack: Stack) -> None:
    world.plan_warnings = ["guards: nothing guards this rollout", "hooks.beforeTraffic[0].codeDeployHook: no layer"]
    hooks = {"Hooks": {"PreTraffic": "smoke"}}
    told = "Guards: nothing guards this rollout; Hooks.PreTraffic: no layer"
    # Also if there is nothing to roll out.
    assert stack.update(**LIVE, **hooks)["Data"]["Warnings"] == told
    world.function.deploy("two")
    assert stack.update(**LIVE, **hooks, Release="2")["Data"]["Warnings"] == told
    # A rollback has no guards by intention.
    back = stack.roll_back()
    assert (back["Data"]["Outcome"], back["Data"]["Warnings"]) == ("succeeded", "")
    world.plan_warnings = []
    assert stack.update(**LIVE, Release="3")["Data"]["Warnings"] == ""


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600"])
def test_many_warnings_leave_room_for_the_rest_of_the_answer(world: Deployments, stack: Stack, letter: str) -> None:
    world.plan_warnings = [letter * 900] * 20
    told = stack.update(**LIVE)["Data"]["Warnings"]
    assert told.endswith("...")
    assert 1400 < len(json.dumps(told)) <= 1500


# Too long


def test_a_rollout_that_cannot_end_in_time_is_refused_with_the_sum_before_anything_moves(
    world: Deployments, stack: Stack
) -> None:
    world.function.deploy("two")
    strategy = {"steps": [{"weight": "10", "bakeSeconds": "1800"}, {"weight": "50", "bakeSeconds": "900"}]}
    pause = {"pause": {"limitSeconds": "60"}}
    answer = stack.update(**LIVE, **HOOKS, Release="2", Strategy=strategy, OnFailure=pause)
    assert answer["Status"] == "FAILED"
    for part in (
        "Strategy: the rollout may take 3,960 s = 600 s until the candidate is ready (ReadySeconds)",
        " + 2,700 s of bakes (Strategy) + 600 s of hooks (timeoutSeconds of each in Hooks)",
        " + 60 s of a pause (OnFailure.pause.limitSeconds)",
        "the limit is 3,300 s",
        "headgate start",
    ):
        assert part in answer["Reason"]
    assert not world.did("roll-out")
    assert len(world.function.versions) == 1


def test_a_shorter_service_timeout_makes_the_limit_shorter(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    fields = {**LIVE, "Release": "2", "Strategy": "Canary10Percent5Minutes", "ServiceTimeout": "1200"}
    answer = stack.update(**fields)
    assert (answer["Status"], "the limit is 900 s" in answer["Reason"]) == ("SUCCESS", False)
    world.function.deploy("three")
    answer = stack.update(**fields | {"ServiceTimeout": "1199", "Release": "3"})
    assert (answer["Status"], "the limit is 899 s" in answer["Reason"]) == ("FAILED", True)


def test_hooks_of_each_step_count_for_each_step(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    hooks = {"beforeStep": [{"lambda": "check", "timeoutSeconds": "400"}]}
    strategy = {"steps": [{"weight": str(weight), "bakeSeconds": "10"} for weight in range(1, 9)]}
    answer = stack.update(**LIVE, Hooks=hooks, Release="2", Strategy=strategy, Guards="none")
    assert "3,200 s of hooks" in answer["Reason"]


def test_a_strategy_that_never_fits_is_refused_by_the_first_deployment(world: Deployments) -> None:
    answer = world.stack().create(**LIVE, Strategy="Canary10Percent2Hours")
    assert (answer["Status"], "7,200 s of bakes" in answer["Reason"]) == ("FAILED", True)
    assert (world.function.aliases, world.function.versions) == ({}, {})


def test_a_strategy_that_never_fits_is_refused_if_there_is_nothing_to_roll_out(
    world: Deployments, stack: Stack
) -> None:
    # GIVEN a stack that is adopted: its alias serves $LATEST
    assert stack.delete()["Status"] == "SUCCESS"
    world.function.point("live", "1")
    adopted = world.stack(logical_id="Adopted", of=stack)
    fields = {**LIVE, "Strategy": "Linear10PercentEvery10Minutes"}
    assert "5,400 s of bakes" in adopted.create(**fields)["Reason"]
    # AND an update that changes the strategy alone
    assert adopted.create(**LIVE)["Status"] == "SUCCESS"
    answer = adopted.update(**fields)
    assert (answer["Status"], "5,400 s of bakes" in answer["Reason"]) == ("FAILED", True)
    assert adopted.roll_back()["Status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("preset", "seconds"),
    [
        ("AllAtOnce", 0),
        ("Canary10Percent5Minutes", 300),
        ("Canary10Percent10Minutes", 600),
        ("Canary10Percent15Minutes", 900),
        ("Canary10Percent30Minutes", 1800),
        ("Linear10PercentEvery1Minute", 540),
        ("Linear10PercentEvery2Minutes", 1080),
        ("Linear10PercentEvery3Minutes", 1620),
        ("Linear10PercentEvery10Minutes", 5400),
    ],
)
def test_of_the_presets_of_sam_one_never_fits(world: Deployments, preset: str, seconds: int) -> None:
    answer = world.stack().create(**LIVE, Strategy=preset)
    fits = seconds <= 3300
    assert (answer["Status"] == "SUCCESS") is fits
    # Documented in custom-resources.md.
    told = f"| `{preset}` | {seconds:,} s | {'yes' if fits else 'never'} |"
    assert told in (ROOT / "docs" / "custom-resources.md").read_text("utf-8")


def test_the_first_deployment_with_hooks_that_are_too_slow_is_refused(world: Deployments) -> None:
    hooks = {"beforeTraffic": [{"lambda": "smoke", "timeoutSeconds": "3000"}]}
    answer = world.stack().create(**LIVE, Hooks=hooks)
    assert (answer["Status"], "3,000 s of hooks" in answer["Reason"]) == ("FAILED", True)
    assert world.function.aliases == {}


def test_a_rollout_that_does_not_end_in_time_is_aborted_and_fails_the_update(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: None
    request = stack.begin_update(**LIVE, Release="2")
    request.until("roll-out")
    request.go_on()
    assert request.until("wait", "abort")["do"] == "wait"
    world.later += 3300
    request.go_on()
    step = request.until("abort")
    assert (step["do"], step["rolloutId"]) == ("abort", request.rollout_id)
    assert is_rollout_id(step["signalId"])
    answer = stack.settle(request)
    assert (answer["Status"], "was rolled back" in answer["Reason"]) == ("FAILED", True)


def test_an_abort_that_has_no_effect_is_repeated_and_the_answer_comes_before_cloudformation_gives_up(
    world: Deployments, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: None
    carry_out = world.carry_out
    monkeypatch.setattr(world, "carry_out", lambda step: {} if step["do"] == "abort" else carry_out(step))
    request = stack.begin_update(**LIVE, Release="2")
    request.until("roll-out")
    request.go_on()
    world.later = 3300
    aborts = []
    while (step := request.until("abort"))["do"] == "abort":
        aborts.append(step["signalId"])
        request.go_on()
    assert len(aborts) == len(set(aborts)) == 4
    assert 3500 <= world.later <= 3510
    assert "did not end in 3600 s" in step["answer"]["Reason"]


# A resource that leaves with the update that brought it


def test_a_rollout_of_a_new_resource_is_taken_back_when_another_resource_fails(world: Deployments) -> None:
    # GIVEN a stack with an alias, to which the resource and new code are added in one deployment
    world.function.deploy("one")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    world.function.deploy("two")
    stack = world.stack()
    stack.status("UPDATE_IN_PROGRESS")
    stack.properties = LIVE
    assert stack.settle(stack.request("Create", LIVE).send())["Data"]["Version"] == "2"
    answer = stack.delete("UPDATE_ROLLBACK_IN_PROGRESS")
    assert answer["Status"] == "SUCCESS"
    assert world.function.serves() == ("1", {})
    assert world.did("roll-out")[-1]["request"]["strategy"] == "AllAtOnce"
    assert world.store.claim(TARGET_KEY) is None


def test_a_replacement_of_an_alias_that_was_there_is_taken_back_when_another_resource_fails(
    world: Deployments, stack: Stack
) -> None:
    world.function.point("next", "1")
    world.function.deploy("two")
    assert stack.update(Alias="checkout:next", Release="2")["Data"]["Version"] == "2"
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "1")
    assert stack.clean_up("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")["Status"] == "SUCCESS"
    assert world.function.serves("next") == ("1", {})
    assert world.store.claim("lambda-alias/checkout/next") is None


def test_a_deletion_that_cannot_take_the_version_back_fails(world: Deployments, locks: Locks) -> None:
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    world.function.deploy("two")
    stack = world.stack()
    stack.create(**LIVE)
    admit(locks, "by-hand")
    answer = stack.delete("ROLLBACK_IN_PROGRESS")
    assert (answer["Status"], "is busy with rollout by-hand" in answer["Reason"]) == ("FAILED", True)


def test_a_deletion_in_a_rollback_whose_function_is_gone_succeeds(world: Deployments) -> None:
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    stack = world.stack()
    stack.create(**LIVE)
    world.function.name = "gone"
    assert stack.delete("ROLLBACK_IN_PROGRESS")["Status"] == "SUCCESS"


# Replacement


def test_another_target_replaces_the_resource_and_the_old_alias_goes(world: Deployments, stack: Stack) -> None:
    answer = stack.update(Alias="checkout:next", Release="1")
    assert (answer["PhysicalResourceId"], outcome_of(answer)) == (f"{ARN}:next", ("SUCCESS", "created", "1"))
    assert set(world.function.aliases) == {"live", "next"}
    assert stack.clean_up()["Status"] == "SUCCESS"
    assert set(world.function.aliases) == {"next"}
    assert stack.delete()["Status"] == "SUCCESS"
    assert world.function.aliases == {}


def test_a_replacement_that_fails_leaves_nothing_behind(world: Deployments, stack: Stack) -> None:
    world.hook_failure = {"Error": "HookFailed", "Cause": "no"}
    answer = stack.update(Alias="checkout:next", Release="1", **HOOKS)
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", f"{ARN}:live")
    assert set(world.function.aliases) == {"live"}
    assert world.store.claim("lambda-alias/checkout/next") is None
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "1")
    stack.delete()
    assert world.function.aliases == {}


def test_a_replacement_goes_back_when_another_resource_fails(world: Deployments, stack: Stack) -> None:
    stack.update(Alias="checkout:next", Release="1")
    answer = stack.roll_back()
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", f"{ARN}:live")
    assert stack.clean_up("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")["Status"] == "SUCCESS"
    assert set(world.function.aliases) == {"live"}
    stack.delete()
    assert world.function.aliases == {}


def test_a_replacement_that_fails_gives_up_an_alias_that_was_there_before(world: Deployments, stack: Stack) -> None:
    world.function.point("next", "1")
    world.function.deploy("two")
    world.outcome = lambda _: BAD
    assert stack.update(Alias="checkout:next", Release="2")["Status"] == "FAILED"
    assert world.store.claim("lambda-alias/checkout/next") is None
    assert world.function.serves("next") == ("1", {})


def test_a_rollback_to_properties_that_never_worked_has_nothing_to_do(world: Deployments, stack: Stack) -> None:
    assert stack.update(Alias="checkout", Release="2")["Status"] == "FAILED"
    assert stack.update(**LIVE, Release="3")["Status"] == "SUCCESS"
    world.steps.clear()
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "")
    assert world.steps == []


def test_properties_that_are_wrong_fail_an_update_under_the_old_id(world: Deployments, stack: Stack) -> None:
    answer = stack.update(Alias="checkout", Release="2")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", f"{ARN}:live")
    assert stack.roll_back()["Status"] == "SUCCESS"


# Delete


def test_a_deletion_removes_the_alias_that_the_resource_created(world: Deployments, stack: Stack) -> None:
    assert stack.delete()["Status"] == "SUCCESS"
    assert world.function.aliases == {}
    assert world.store.claim(TARGET_KEY) is None


def test_a_deletion_retains_the_alias_if_it_is_told_so(world: Deployments, stack: Stack) -> None:
    stack.update(**LIVE, Release="1", OnDelete="retain")
    assert stack.delete()["Status"] == "SUCCESS"
    assert world.function.serves() == ("1", {})
    # AND another stack may have it now, and does not remove it
    other = world.stack("other")
    assert other.create(**LIVE)["Status"] == "SUCCESS"
    other.delete()
    assert world.function.serves() == ("1", {})


def test_a_deletion_succeeds_if_the_alias_is_gone(world: Deployments, stack: Stack) -> None:
    world.function.aliases.clear()
    assert stack.delete()["Status"] == "SUCCESS"


def test_a_deletion_fails_if_the_alias_cannot_be_deleted(world: Deployments, stack: Stack) -> None:
    world.function.refuse_next = Refusal(
        "AccessDeniedException", "is not authorized to perform: lambda:DeleteAlias", 403
    )
    answer = stack.delete()
    assert (answer["Status"], "lambda:DeleteAlias" in answer["Reason"]) == ("FAILED", True)
    assert world.store.claim(TARGET_KEY) is not None
    assert stack.delete()["Status"] == "SUCCESS"


def test_a_deletion_waits_while_lambda_is_busy_with_the_function(world: Deployments, stack: Stack) -> None:
    world.function.refuse_next = Refusal("ResourceConflictException", "busy", 409)
    assert stack.delete()["Status"] == "SUCCESS"
    assert len(world.did("wait")) == 1
    assert world.function.aliases == {}


def test_a_resource_that_never_had_a_target_is_deleted_without_a_trace(world: Deployments) -> None:
    stack = world.stack()
    assert stack.create(Alias="checkout")["PhysicalResourceId"] == "refused-CheckoutRollout"
    assert stack.delete("ROLLBACK_IN_PROGRESS")["Status"] == "SUCCESS"


def test_a_creation_that_cloudformation_does_not_wait_for_is_deleted_under_an_id_of_its_own(world: Deployments) -> None:
    # GIVEN a stack whose other resource fails while the hooks are asked
    stack = world.stack()
    request = stack.begin_create(**LIVE, **HOOKS)
    request.until("ask")
    assert world.function.serves() == ("1", {})
    stack.physical_id = "shop-CheckoutRollout-1ABCDEFGHIJKL"
    assert stack.delete("ROLLBACK_IN_PROGRESS")["Status"] == "SUCCESS"
    assert world.function.aliases == {}
    assert world.store.claim(TARGET_KEY) is None
    assert request.answer()["Status"] == "FAILED"


def test_a_deletion_in_mid_rollout_aborts_it_first(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: None
    update = stack.begin_update(**LIVE, Release="2")
    update.until("roll-out")
    update.go_on()
    delete = stack.begin_delete()
    assert delete.until("abort")["rolloutId"] == update.rollout_id
    assert world.function.serves() == ("1", {})
    assert stack.settle(delete)["Status"] == "SUCCESS"
    assert status_of(world.table, update.rollout_id) == "rolled-back"
    assert world.function.aliases == {}
    assert update.answer()["Status"] == "FAILED"


def test_the_record_of_a_deleted_resource_expires_and_a_new_request_keeps_it(world: Deployments, stack: Stack) -> None:
    def record() -> dict[str, Any]:
        return next(item for item in items_at(world.table, stack_pk) if item["sk"] == "RESOURCE")

    stack_pk = f"STACK#{stack.id}#CheckoutRollout"
    assert "expiresAt" not in record()
    stack.delete()
    assert "expiresAt" in record()
    stack.physical_id = ""
    stack.create(**LIVE)
    assert "expiresAt" not in record()


# Cancelled updates and other requests that meet


def test_a_cancelled_update_is_aborted_and_the_stack_goes_back(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: None
    update = stack.begin_update(**LIVE, Release="2")
    update.until("roll-out")
    update.go_on()
    # WHEN CloudFormation cancels the update
    back = stack.begin_roll_back()
    assert outcome_of(stack.settle(back)) == ("SUCCESS", "unchanged", "1")
    assert [step["rolloutId"] for step in world.did("abort")] == [update.rollout_id]
    assert len(world.did("roll-out")) == 1
    # AND the first execution follows its rollout to its end, and ends
    assert update.answer()["Status"] == "FAILED"


def test_a_cancelled_update_that_has_not_begun_starts_nothing(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    update = stack.begin_update(**LIVE, Release="2")
    update.until("plan")
    back = stack.begin_roll_back()
    answer = update.answer()
    assert (answer["Status"], "superseded" in answer["Reason"]) == ("FAILED", True)
    assert outcome_of(stack.settle(back)) == ("SUCCESS", "unchanged", "1")
    assert not world.did("roll-out")


def test_a_cancelled_update_whose_rollout_is_about_to_start_is_waited_for(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: None
    update = stack.begin_update(**LIVE, Release="2")
    update.until("roll-out")
    back = stack.begin_roll_back()
    assert back.until("wait")["do"] == "wait"
    update.go_on()
    assert outcome_of(stack.settle(back)) == ("SUCCESS", "unchanged", "1")
    assert len(world.did("abort")) == 1


def test_a_rollout_that_never_starts_is_not_waited_for_without_end(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    stack.begin_update(**LIVE, Release="2").until("roll-out")
    assert stack.roll_back()["Status"] == "SUCCESS"
    assert 60 <= world.later <= 70


def test_a_promotion_that_an_abort_did_not_stop_is_taken_back(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: None
    update = stack.begin_update(**LIVE, Release="2")
    update.until("roll-out")
    update.go_on()
    back = stack.begin_roll_back()
    world.end(update.rollout_id, "succeeded", "")
    world.outcome = lambda _: ("succeeded", "")
    assert outcome_of(stack.settle(back)) == ("SUCCESS", "succeeded", "1")
    answer = update.answer()
    assert (answer["Status"], "superseded" in answer["Reason"]) == ("FAILED", True)


def test_an_event_that_comes_twice_is_carried_out_once(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2")
    executions = dict(world.machines.executions)
    request.send()
    assert world.machines.executions == executions
    assert stack.settle(request)["Status"] == "SUCCESS"
    world.machines.ended |= dict.fromkeys(world.machines.executions, "SUCCEEDED")
    later = stack.begin_update(**LIVE, Release="3")
    request.send()
    # THEN a late duplicate does not replace the later request
    assert stack.settle(later)["Status"] == "SUCCESS"


def test_an_event_whose_execution_was_not_started_is_started_by_its_second_delivery(
    world: Deployments, stack: Stack
) -> None:
    def die(operation: str, when: str) -> None:
        if (operation, when) == ("StartExecution", "before"):
            raise RuntimeError("gone")

    world.machines.interrupt = die
    started = len(world.machines.executions)
    stack.status("UPDATE_IN_PROGRESS")
    request = stack.request("Update", LIVE, PhysicalResourceId=stack.physical_id, OldResourceProperties=LIVE)
    with pytest.raises(RuntimeError):
        request.send()
    del world.machines.interrupt
    request.send()
    assert len(world.machines.executions) == started + 1


@pytest.mark.parametrize(
    "status", ["UPDATE_COMPLETE", "ROLLBACK_COMPLETE", "DELETE_COMPLETE", "UPDATE_ROLLBACK_FAILED"]
)
def test_an_event_that_comes_too_late_touches_nothing(world: Deployments, stack: Stack, status: str) -> None:
    world.function.deploy("two")
    for deletes in (False, True):
        request = stack.begin_delete() if deletes else stack.begin_update(**LIVE, Release="2")
        stack.status(status)
        answer = request.answer()
        assert (answer["Status"], f"stack shop is {status}" in answer["Reason"]) == ("FAILED", True)
    assert (world.steps, world.function.serves()) == ([], ("1", {}))


def test_an_event_of_a_stack_that_is_gone_touches_nothing(world: Deployments, stack: Stack) -> None:
    # Also if the alias serves another version than after the last deployment.
    world.function.deploy("two")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    for deletes in (False, True):
        request = stack.begin_delete() if deletes else stack.begin_update(**LIVE, Release="2")
        status = world.formation.statuses.pop(stack.id)
        assert "stack shop is gone" in request.answer()["Reason"]
        stack.status(status)
    assert world.function.serves() == ("2", {})


def test_a_request_that_is_as_old_as_the_timeout_begins_nothing(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2")
    world.later = 3500
    assert "does not wait any longer" in request.answer()["Reason"]
    assert world.steps == []


def test_a_rollout_whose_execution_could_not_start_fails_the_update_with_the_cause(
    world: Deployments, stack: Stack
) -> None:
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2")
    request.until("roll-out")
    request.step, request.told = {}, {"ended": True, "failure": {"Error": "StateMachineDeleting", "Cause": "no"}}
    assert request.answer()["Reason"] == f"rollout {request.rollout_id} did not start: no"


def test_a_request_that_begins_while_a_later_one_comes_starts_no_rollout(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2")
    request.until("plan")
    request.go_on()

    def meanwhile(operation: str, when: str) -> None:
        if (operation, when) == ("GetAlias", "after"):
            del world.function.interrupt
            stack.begin_roll_back()

    world.function.interrupt = meanwhile
    assert "superseded" in request.answer()["Reason"]
    assert not world.did("roll-out")


@pytest.mark.parametrize(
    ("operation", "at", "published"),
    [("GetAlias", "before", False), ("PublishVersion", "after", True), ("GetFunction", "after", True)],
)
def test_a_creation_during_which_a_deletion_comes_leaves_no_alias(
    world: Deployments, operation: str, at: str, published: bool
) -> None:
    stack = world.stack()
    request = stack.begin_create(**LIVE)
    request.until("plan")
    request.go_on()

    def meanwhile(called: str, when: str) -> None:
        if (called, when, bool(world.function.versions)) == (operation, at, published):
            del world.function.interrupt
            stack.physical_id = "shop-CheckoutRollout-1ABCDEFGHIJKL"
            stack.delete("ROLLBACK_IN_PROGRESS")

    world.function.interrupt = meanwhile
    answer = request.answer()
    assert (answer["Status"], "superseded" in answer["Reason"]) == ("FAILED", True)
    assert world.function.aliases == {}
    assert world.store.claim(TARGET_KEY) is None


def test_an_alias_whose_creation_lambda_refuses_fails_the_deployment(world: Deployments) -> None:
    def refuse(operation: str, when: str) -> None:
        if operation == "CreateAlias":
            raise Refusal("InvalidParameterValueException", "the quota of aliases is used up")

    world.function.interrupt = refuse
    answer = world.stack().create(**LIVE)
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "the quota of aliases is used up")


def test_a_function_that_is_busy_when_the_alias_is_created_is_waited_for(world: Deployments) -> None:
    def refuse(operation: str, when: str) -> None:
        if operation == "CreateAlias":
            del world.function.interrupt
            raise Refusal("ResourceConflictException", "An update is in progress", 409)

    world.function.interrupt = refuse
    assert outcome_of(world.stack().create(**LIVE)) == ("SUCCESS", "created", "1")
    assert len(world.did("wait")) == 1


def test_a_deed_that_lambda_may_do_at_another_attempt_is_tried_again(world: Deployments) -> None:
    def fail(operation: str, when: str) -> None:
        if operation == "PublishVersion":
            raise Refusal("ServiceException", "try again", 500)

    world.function.interrupt = fail
    request = world.stack().begin_create(**LIVE)
    with pytest.raises(Exception, match="try again"):
        request.answer()
    del world.function.interrupt
    assert outcome_of(request.answer()) == ("SUCCESS", "created", "1")


def test_an_alias_that_is_moved_while_it_is_created_is_left_alone(world: Deployments) -> None:
    request = world.stack().begin_create(**LIVE)
    request.until("plan")
    request.go_on()

    def meanwhile(operation: str, when: str) -> None:
        if (operation, when) == ("CreateAlias", "after"):
            world.function.PublishVersion("checkout")
            world.function.deploy("two")
            world.function.PublishVersion("checkout")
            world.function.point("live", "2")

    world.function.interrupt = meanwhile
    assert "created by somebody else" in request.answer()["Reason"]
    assert world.function.serves() == ("2", {})


# One target, several resources


def test_a_claim_that_can_never_be_written_is_no_endless_loop(
    world: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.store, "put_claim", lambda *_: False)
    with pytest.raises(RuntimeError, match="no decision after 12 deeds"):
        world.stack().begin_create(**LIVE).answer()


# Faults of the target


def test_a_function_that_does_not_exist_is_named(world: Deployments) -> None:
    answer = world.stack().create(Alias="basket:live")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Alias: Function not found: basket")
    assert answer["PhysicalResourceId"] == "refused-CheckoutRollout"


def test_a_function_that_headgate_may_not_touch_is_refused_by_the_parameters_name(world: Deployments) -> None:
    def deny(operation: str, when: str) -> None:
        if operation == "GetAlias":
            raise Refusal("AccessDeniedException", "no", 403)

    world.function.interrupt = deny
    answer = world.stack().create(**LIVE)
    assert (answer["Status"], "TargetFunctions" in answer["Reason"]) == ("FAILED", True)


def test_a_fault_of_lambda_that_may_pass_is_no_answer(world: Deployments) -> None:
    def fail(operation: str, when: str) -> None:
        if operation == "GetAlias":
            raise Refusal("ServiceException", "try again", 500)

    world.function.interrupt = fail
    request = world.stack().begin_create(**LIVE)
    with pytest.raises(Exception, match="try again"):
        request.answer()
    del world.function.interrupt
    assert request.answer()["Status"] == "SUCCESS"


def test_a_fault_of_cloudformation_that_may_pass_is_no_answer(world: Deployments, stack: Stack) -> None:
    def fail(operation: str, when: str) -> None:
        raise Refusal("Throttling", "Rate exceeded")

    request = stack.begin_update(**LIVE, Release="2")
    world.formation.interrupt = fail
    with pytest.raises(Exception, match="Rate exceeded"):
        request.answer()
    del world.formation.interrupt
    assert request.answer()["Status"] == "SUCCESS"
