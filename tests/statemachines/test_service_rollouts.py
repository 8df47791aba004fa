"""Rollouts of ECS services on the whole machine: both ways, every strategy, signal and failure, and a dead execution.

The invariants are asserted by the fixture after each test: requests reach one revision, the one on record; nothing of
the rollout is left; scaling, test rules and all other actions are as they were; nobody else's change is overwritten.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.services import Refusal
from tests.fakes.services_and_balancers import DIMENSION, NETWORK
from tests.statemachines.engine import ACCOUNT, REGION
from tests.statemachines.rollouts import ALARM, LONG, Rollouts, error

if TYPE_CHECKING:
    from collections.abc import Callable


# The unit tests of the driver cover what these play again; coverage would double their time.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

TASK_SETS, GREEN = "task-sets", "green-service"
WAYS = (TASK_SETS, GREEN)
STABLE, CANDIDATE = "shop:6", "shop:7"
EVERYTHING: dict[str, Any] = {"rules": 2, "default": True, "signed_in": True, "test_rule": True}
"""A service with all that a rollout has to leave alone."""

both_ways = pytest.mark.parametrize("way", WAYS)


def ended(app: Rollouts) -> tuple[str, str]:
    """How the rollout ended, and the revision that serves by its record."""
    record = app.record()
    return record["status"], record.get("serving", "")


def sends(app: Rollouts, kind: str, call: int = 1, state: str = "Bake") -> None:
    """An operator's signal when a state's function has had its effect."""
    app.after(state, lambda: app.signal(kind), calls=range(call, call + 1))


def owner(app: Rollouts, operation: str, **fields: Any) -> None:
    """The service's owner calls ECS."""
    getattr(app.cloud.ecs, operation)(cluster="prod", service="shop", **fields)


# --- Strategies


STRATEGIES: dict[str, Any] = {
    "all at once": "AllAtOnce",
    "canary": {"canary": {"percent": 0.1, "bakeSeconds": 1}},
    "linear": {"linear": {"percent": 40, "intervalSeconds": 1}},
    "steps": {"steps": [{"weight": 2.5, "bakeSeconds": 0}, {"weight": 50, "bakeSeconds": 1}]},
}
SHARES: dict[str, list[float]] = {
    "all at once": [100],
    "canary": [0.1, 100],
    "linear": [40, 80, 100],
    "steps": [2.5, 50, 100],
}


@both_ways
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_service_is_promoted_by_every_strategy_and_no_request_fails(app: Rollouts, way: str, strategy: str) -> None:
    # GIVEN rules that do more than forward, and a strategy
    shop = app.shop(way, **EVERYTHING)
    # WHEN the next revision is rolled out
    app.run(app.request_for(shop, strategy=STRATEGIES[strategy]))
    # THEN it serves, every rule went the same steps, and at no moment was anybody without an answer
    assert ended(app) == ("succeeded", CANDIDATE)
    for rule in shop.rules:
        written = [write.shares for write in app.cloud.writes if write.rule == rule]
        steps = [round(100 * shares[shop.candidate[0]], 6) for shares in written]
        assert steps == SHARES[strategy] + ([0] if way == GREEN else [])
    assert app.cloud.unanswered == app.cloud.overloaded == []


def test_a_green_service_moves_several_target_groups_together(app: Rollouts) -> None:
    shop = app.shop(GREEN, pairs=2)
    seen: list[list[float]] = []
    app.after("Bake", lambda: seen.append(app.cloud.shares(shop)))
    app.run(app.request_for(shop, (10, 1)))
    assert seen == [[10.0, 10.0]]
    assert ended(app) == ("succeeded", CANDIDATE)
    assert app.cloud.unanswered == []


@both_ways
def test_a_candidate_that_follows_the_weight_has_enough_tasks_before_it_gets_more_requests(
    app: Rollouts, way: str
) -> None:
    # GIVEN a service with ten tasks
    shop = app.shop(way, desired=10)
    healthy: list[tuple[float, int]] = []

    def look() -> None:
        targets = app.cloud.balancers.groups[shop.candidate[0]].in_state("healthy")
        healthy.append((app.cloud.shares(shop)[0], len(targets)))

    app.after("Bake", look, calls=range(1, 9))
    # WHEN the candidate's tasks follow its weight, but are never fewer than 20 %
    scale = {"scale": {"followWeight": {"minPercent": 20}}}
    app.run(app.request_for(shop, (10, 1), (50, 1), target=scale))
    # THEN it has had its share of the tasks at each step
    assert healthy == [(10.0, 2), (50.0, 5)]
    assert ended(app) == ("succeeded", CANDIDATE)
    assert app.cloud.unanswered == app.cloud.overloaded == []


# --- Rollbacks


@both_ways
@pytest.mark.parametrize("step", [1, 2])
def test_an_abort_gives_all_requests_back_and_removes_the_candidate(app: Rollouts, way: str, step: int) -> None:
    shop = app.shop(way, **EVERYTHING)
    sends(app, "promote", 1) if step == 2 else None
    sends(app, "abort", step)
    app.run(app.request_for(shop, (10, LONG), (50, LONG)))
    assert ended(app) == ("rolled-back", STABLE)
    assert app.cloud.unanswered == app.cloud.overloaded == []


@both_ways
def test_the_old_revision_is_kept_for_a_while_and_an_abort_within_it_is_a_way_back_at_once(
    app: Rollouts, way: str
) -> None:
    # GIVEN a candidate that has all requests, while the old revision is kept for an hour
    shop = app.shop(way, **EVERYTHING)
    seen: list[Any] = []

    def look() -> None:
        seen.append((set(app.cloud.shares(shop)), len(app.cloud.balancers.groups[shop.stable[0]].in_state("healthy"))))
        app.signal("abort")

    app.after("Bake", look, calls=range(2, 3))
    # WHEN it is aborted then
    app.run(app.request_for(shop, (10, 0), (20, 1), target={"keepSeconds": LONG}))
    # THEN the old revision, which had all its tasks, has all requests again, by one change of each rule
    assert seen == [({100.0}, 4)]
    assert ended(app) == ("rolled-back", STABLE)
    written = [write.rule for write in app.cloud.writes if write.rule in shop.rules]
    assert sorted(written[-len(shop.rules) :]) == sorted(shop.rules)
    assert app.cloud.unanswered == app.cloud.overloaded == []


@both_ways
def test_a_full_promotion_keeps_the_old_revision_too(app: Rollouts, way: str) -> None:
    # GIVEN an operator who promotes fully at the first of three steps, and whom an alarm tells better afterwards
    shop = app.shop(way, **EVERYTHING)
    sends(app, "promote-fully", 1)
    app.after("Bake", app.tell_alarm, calls=range(2, 3))
    app.run(app.request_for(shop, (10, LONG), (50, LONG), target={"keepSeconds": LONG}, guards={"alarms": [ALARM]}))
    # THEN the candidate had all requests at once, and the way back was one change of each rule
    steps = [round(100 * write.shares[shop.candidate[0]]) for write in app.cloud.writes if write.rule == shop.rules[0]]
    assert steps == [10, 100, 0]
    assert ended(app) == ("rolled-back", STABLE)
    assert app.cloud.unanswered == app.cloud.overloaded == []


@both_ways
@pytest.mark.parametrize("stage", ["beforeTraffic", "beforeStep", "afterStep", "afterTraffic"])
def test_a_hook_that_fails_rolls_back_before_and_after_the_promotion(app: Rollouts, way: str, stage: str) -> None:
    shop = app.shop(way, **EVERYTHING)
    hooks = {stage: [app.hook("check", {"hookStatus": "FAILED", "message": "no"})]}
    app.run(app.request_for(shop, (10, 1), hooks=hooks))
    assert ended(app) == ("rolled-back", STABLE)
    (asked,) = app.asked
    assert asked["target"]["service"] == "shop"
    assert app.cloud.unanswered == app.cloud.overloaded == []


@both_ways
def test_a_hook_before_traffic_reaches_the_candidate_through_the_test_rule(app: Rollouts, way: str) -> None:
    shop = app.shop(way, **EVERYTHING)
    seen: list[Any] = []

    def test_requests() -> dict[str, str]:
        seen.append((app.cloud.balancers.serve(shop.test_rules[0], 10).answered, set(app.cloud.shares(shop))))
        return {"hookStatus": "SUCCEEDED"}

    hooks = {"beforeTraffic": [app.hook("smoke", test_requests)]}
    app.run(app.request_for(shop, (10, 1), hooks=hooks))
    assert seen == [({CANDIDATE: 10}, {0.0})]
    assert ended(app) == ("succeeded", CANDIDATE)


WRONG = {
    "cannot-start": "CannotPullContainerError",
    "exits": "container app exited with 1",
    "never-healthy": "health checks",
    "no-capacity": "unable to place a task",
}


@both_ways
@pytest.mark.parametrize("fate", WRONG)
def test_a_candidate_that_is_never_ready_is_refused_with_what_is_wrong(app: Rollouts, way: str, fate: Any) -> None:
    # GIVEN tasks that never become healthy
    shop = app.shop(way, **EVERYTHING)
    app.cloud.behave(CANDIDATE, fate)
    # WHEN the candidate is to be ready within a second
    app.run(app.request_for(shop, target={"readySeconds": 1}))
    # THEN it has got no request, and the end says what is wrong
    assert ended(app)[0] == "refused"
    assert WRONG[fate] in app.record()["reason"]
    assert all(not write.shares[shop.candidate[0]] for write in app.cloud.writes if write.rule in shop.rules)
    assert app.cloud.unanswered == []


@both_ways
def test_an_alarm_while_the_candidate_gets_its_tasks_for_more_requests_rolls_back(app: Rollouts, way: str) -> None:
    # GIVEN a candidate with a tenth of the requests, whose further tasks find no capacity
    shop = app.shop(way, desired=10)
    app.after("Bake", lambda: app.cloud.behave(CANDIDATE, "no-capacity"))
    calls: list[str] = []

    def alarm() -> None:
        calls.append("Shift")
        if len(calls) == 2:
            app.tell_alarm()

    app.before("Shift", alarm, calls=range(2, 99))
    # WHEN an alarm comes while the machine waits for them
    scale = {"scale": {"followWeight": {"minPercent": 10}}}
    request = app.request_for(shop, (10, 1), (50, 1), target=scale, guards={"alarms": [ALARM]})
    app.run(request)
    # THEN it does not wait any longer
    assert len(calls) == 2
    assert ended(app) == ("rolled-back", STABLE)
    assert app.cloud.unanswered == []


@both_ways
def test_rollouts_in_a_row_wait_for_what_the_one_before_has_left(app: Rollouts, way: str) -> None:
    # GIVEN a rollout whose tasks drain when the next one begins
    shop = app.shop(way, **EVERYTHING)
    app.cloud.services.define("shop", 8)
    app.run(app.request_for(shop, (10, 1), id="first"))
    # WHEN the next revision is rolled out at once
    app.run(app.request_for(shop, (10, 1), id="second", candidate={"taskDefinition": "shop:8"}))
    # THEN it serves, and task sets are in their first target group again
    assert [app.record(i)["serving"] for i in ("first", "second")] == [CANDIDATE, "shop:8"]
    assert set(app.cloud.shares(shop)) == {0.0}
    assert app.cloud.unanswered == app.cloud.overloaded == []


@both_ways
def test_an_undo_after_the_end_is_a_rollout_of_the_old_revision(app: Rollouts, way: str) -> None:
    # GIVEN a rollout that has ended
    shop = app.shop(way)
    app.run(app.request_for(shop, (10, 1)))
    assert ended(app) == ("succeeded", CANDIDATE)
    # WHEN it is undone
    app._deliver("intake", asked_for("Undo Requested", {"id": "undo", "target": shop.target}))
    app.settle_down()
    # THEN another one has brought the old revision back
    assert (app.record("undo")["status"], app.record("undo")["serving"]) == ("succeeded", STABLE)
    assert app.cloud.unanswered == []


def asked_for(kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    """What comes on the bus, as the queue delivers it."""
    body = json.dumps({"id": "event", "detail-type": kind, "detail": detail})
    message = {"messageId": "message", "body": body, "attributes": {"ApproximateReceiveCount": "1"}}
    return {"Records": [{**message, "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:requests"}]}


# --- What others do meanwhile


@both_ways
@pytest.mark.parametrize("moment", ["Prepare", "Shift", "Bake"])
def test_weights_that_somebody_else_sets_stop_the_rollout_and_are_left(app: Rollouts, way: str, moment: str) -> None:
    shop = app.shop(way)
    app.after(moment, lambda: app.cloud.change_outside(shop, 70, 30), calls=range(1, 99))
    execution = app.run(app.request_for(shop, (10, 1), (50, 1)))
    assert execution.error == "Stopped"
    assert app.record()["status"] == "stopped"
    assert "changed from outside" in app.record()["reason"]
    assert app.cloud.shares(shop) == [30.0]


@both_ways
@pytest.mark.parametrize("moment", ["Prepare", "Shift", "Bake", "Promote"])
def test_a_rule_that_somebody_deletes_leaves_nothing_in_between(app: Rollouts, way: str, moment: str) -> None:
    # GIVEN three rules, one of which is deleted during the rollout
    shop = app.shop(way, rules=2, default=True, test_rule=True)
    first = shop.rules[0]
    app.after(moment, lambda: app.delete_rule(shop, first), calls=range(1, 99))
    app.run(app.request_for(shop, (10, 1), (50, 1)))
    # THEN the others send all requests to one revision, and everything is given back
    status = app.record()["status"]
    assert status == ("succeeded" if moment == "Promote" else "stopped")
    if status == "stopped":
        assert "was deleted by somebody else during the rollout" in app.record()["reason"]
    assert app.cloud.serving(shop) == {CANDIDATE if status == "succeeded" else STABLE}
    assert app.cloud.unanswered == app.cloud.overloaded == []


LOST: dict[str, Callable[[Rollouts, str], object]] = {
    "cluster": lambda app, _: app.cloud.services.clusters.clear(),
    "rule": lambda app, rule: app.delete_rule(app.shops["ecs-service/prod/shop"].shop, rule),
    "access": lambda app, _: setattr(app.cloud, "interrupt", denied),
}
"""What is gone between the plan and the first call of the driver."""


def denied(operation: str, when: str) -> None:
    if operation == "DescribeServices" and when == "before":
        raise Refusal("AccessDeniedException", "not authorized to perform: ecs:DescribeServices")


@both_ways
@pytest.mark.parametrize("lost", LOST)
def test_a_rollout_that_cannot_look_at_its_service_is_refused_at_once(app: Rollouts, way: str, lost: str) -> None:
    shop = app.shop(way, rules=2)
    rule = shop.rules[0]
    app.after("Acquire", lambda: LOST[lost](app, rule))
    execution = app.run(app.request_for(shop, (10, 1)))
    assert (execution.error, app.record()["status"]) == ("RequestRefused", "refused")
    # AND a rollback of what was never touched is not repeated
    assert app.calls["Roll back"] == 1


def test_a_definition_that_the_owner_deploys_meanwhile_is_not_replaced(app: Rollouts) -> None:
    # GIVEN an owner who deploys another definition during the bake
    shop = app.shop(GREEN)
    app.cloud.services.define("shop", 8)
    app.after("Bake", lambda: owner(app, "update_service", taskDefinition="shop:8"))
    # WHEN the rollout would be promoted
    app.run(app.request_for(shop, (10, 1)))
    # THEN it ends otherwise, and what the owner has deployed has all requests
    assert app.record()["status"] in {"stopped", "rolled-back"}
    assert app.cloud.serving(shop) == {"shop:8"}
    assert app.cloud.unanswered == []


@both_ways
def test_a_service_that_is_scaled_out_during_a_rollout_stays_so(app: Rollouts, way: str) -> None:
    shop = app.shop(way)
    app.after("Bake", lambda: owner(app, "update_service", desiredCount=6))
    counts: list[int] = []
    group = app.cloud.balancers.groups[shop.candidate[0]]
    app.after("Shift", lambda: counts.append(len(group.in_state("healthy"))), calls=range(1, 99))
    app.run(app.request_for(shop, (10, 1), (50, 1)))
    assert ended(app) == ("succeeded", CANDIDATE)
    assert counts[-1] == 6
    app.shops["ecs-service/prod/shop"] = app.shops["ecs-service/prod/shop"]._replace(desired=6)


@both_ways
@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize("suspended", [None, "DynamicScalingInSuspended", "ScheduledScalingSuspended"])
def test_scaling_is_held_during_a_rollout_and_then_as_it_was(
    app: Rollouts, way: str, suspended: str | None, *, promoted: bool
) -> None:
    shop = app.shop(way)
    if suspended:
        name = {"ServiceNamespace": "ecs", "ResourceId": "service/prod/shop", "ScalableDimension": DIMENSION}
        app.cloud.scaling.register_scalable_target(**name, SuspendedState={suspended: True})
    before = app.cloud.suspended(shop)
    app.shops["ecs-service/prod/shop"] = app.shops["ecs-service/prod/shop"]._replace(suspended=before)
    seen: list[dict[str, bool]] = []
    app.after("Bake", lambda: seen.append(app.cloud.suspended(shop)))
    sends(app, "promote" if promoted else "abort")
    app.run(app.request_for(shop, (10, LONG)))
    assert seen == [before | {"DynamicScalingInSuspended": True}]
    assert ended(app)[0] == ("succeeded" if promoted else "rolled-back")


def test_two_services_never_move_one_rule(app: Rollouts) -> None:
    # GIVEN two services in one target group, which are both planned while nothing moves yet
    shop = app.shop(GREEN)
    app.cloud.ecs.create_service(
        cluster="prod",
        serviceName="twin",
        taskDefinition=STABLE,
        desiredCount=1,
        networkConfiguration=NETWORK,
        loadBalancers=[{"targetGroupArn": shop.stable[0], "containerName": "app", "containerPort": 8080}],
    )
    app.cloud.settle()
    twin = {**shop.target, "service": "twin"}
    second = app.request((10, LONG), id="second", target=twin, candidate={"taskDefinition": CANDIDATE})

    def overtake() -> None:
        app.start(second)
        app.wait_for("Acquire")

    app.after("Plan", overtake)
    # WHEN one overtakes the other, which comes to its turn then
    app.run(app.request_for(shop))
    # THEN that is refused, and the other is not disturbed
    app.wait_for("Bake")
    app.signal("abort", "second")
    app.settle_down()
    assert ended(app)[0] == "refused"
    assert "is in use by rollout second" in app.record()["reason"]
    assert app.record("second")["status"] == "rolled-back"


# --- Duplicates, late calls, and executions that die


@both_ways
@pytest.mark.parametrize("state", ["Prepare", "Shift", "Promote"])
def test_a_call_that_is_lost_and_comes_late_changes_nothing(app: Rollouts, way: str, state: str) -> None:
    # GIVEN a call that was given up for lost, and has its effect after the rollback
    shop = app.shop(way)
    app.run_aside(state, "Settle")
    app.run(app.request_for(shop, (10, 1)))
    # THEN the end is as if it had not come
    assert ended(app)[0] == ("refused" if state == "Prepare" else "rolled-back")


@both_ways
@pytest.mark.parametrize("state", ["Prepare", "Shift", "Promote", "Release"])
def test_a_call_whose_answer_is_lost_is_made_again_without_harm(app: Rollouts, way: str, state: str) -> None:
    shop = app.shop(way, **EVERYTHING)
    app.after(state, error("Lambda.SdkClientException"), calls=range(1, 3))
    app.run(app.request_for(shop, (10, 1)))
    assert ended(app) == ("succeeded", CANDIDATE)
    assert app.cloud.unanswered == []


LAST_CALLS = [(way, state, 1) for way in WAYS for state in ("Prepare", "Shift", "Promote", "Release")]
"""A call that asks for another one has no end to step in after, so that these end the state."""

DIES_AT = [
    *[(moment, *call) for moment in ("before", "after", "late") for call in LAST_CALLS],
    *[
        (moment, way, state, call)
        for moment in ("before", "late")
        for way, state, call in (
            *[(way, "Prepare", call) for way in WAYS for call in (2, 3)],
            (TASK_SETS, "Release", 2),
            (GREEN, "Release", 3),
            (GREEN, "Release", 6),
        )
    ],
]


@pytest.mark.parametrize(("moment", "way", "state", "call"), DIES_AT)
def test_the_warden_ends_what_an_execution_leaves_that_is_stopped_at_any_call(
    app: Rollouts, way: str, state: str, call: int, moment: str
) -> None:
    # GIVEN an execution that is stopped just before or after a call has its effect, or long before it
    shop = app.shop(way, desired=2, test_rule=True)
    stopped: list[bool] = []
    swept = threading.Event()

    def stop() -> None:
        if stopped:
            return
        app.executions()[0].stop()
        stopped.append(True)
        if moment == "late":
            sweep(app)
        swept.set()

    (app.after if moment == "after" else app.before)(state, stop, calls=range(call, 99))
    app.start(app.request_for(shop, (10, 1), (50, 1))).wait()
    # The execution ends before the call that stops it, which has its effect yet, and there is one warden at a time.
    assert swept.wait(60)
    if moment != "late":
        app.engine.wait_for_handlers(2)
    # WHEN the warden sweeps each minute
    sweep(app)
    # THEN the rollout has one end, and one revision serves
    assert ended(app) in {("rolled-back", STABLE), ("succeeded", CANDIDATE), ("refused", "")}
    assert stopped
    assert app.cloud.unanswered == app.cloud.overloaded == []


def sweep(app: Rollouts) -> None:
    for _ in range(40):
        if app.record().get("status") in {"succeeded", "rolled-back", "stopped", "refused", "failed"}:
            return
        app._deliver("warden", {"detail-type": "Scheduled Event"})
        app.clock.sleep(60)
    raise AssertionError(f"the warden does not end it: {app.record()}")


@both_ways
def test_calls_that_are_throttled_are_made_again(app: Rollouts, way: str) -> None:
    # GIVEN services that refuse the first call of each kind
    shop = app.shop(way, **EVERYTHING)
    throttled: set[str] = set()

    def throttle(operation: str, when: str) -> None:
        if when == "before" and operation not in throttled:
            throttled.add(operation)
            code = "Throttling" if operation.startswith(("ModifyR", "ModifyL", "DescribeR")) else "ThrottlingException"
            raise Refusal(code, "Rate exceeded")

    app.after("Acquire", lambda: setattr(app.cloud, "interrupt", throttle))
    # WHEN the service is rolled out
    app.run(app.request_for(shop, (10, 1)))
    # THEN that has only cost time
    assert len(throttled) > 5
    assert ended(app) == ("succeeded", CANDIDATE)
    assert app.cloud.unanswered == []


SENT: dict[str, Callable[[Rollouts], object]] = {
    "promote": lambda app: app.signal("promote"),
    "pause": lambda app: app.signal("pause"),
    "abort": lambda app: app.signal("abort"),
    "alarm": lambda app: app.tell_alarm(),
}
TASKS = ("Prepare", "Shift", "Bake", "Judge", "Promote", "Release", "Settle")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", TASKS)
@pytest.mark.parametrize("sent", SENT)
def test_a_signal_at_any_moment_leaves_the_service_whole(app: Rollouts, sent: str, state: str, when: str) -> None:
    # GIVEN a signal just before a task's effect, or just after it; each way gets every other case
    way = WAYS[(TASKS.index(state) + list(SENT).index(sent) + (when == "after")) % 2]
    shop = app.shop(way, desired=2)
    getattr(app, when)(state, lambda: SENT[sent](app))
    # WHEN the rollout runs
    pause = {"pause": {"at": "zero", "limitSeconds": 1}}
    app.run(app.request_for(shop, (10, 1), guards={"alarms": [ALARM]}, onFailure=pause))
    # THEN it ends, and nobody was without an answer
    assert ended(app) in {("succeeded", CANDIDATE), ("rolled-back", STABLE)}
    assert app.cloud.unanswered == app.cloud.overloaded == []
