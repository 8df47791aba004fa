"""Rollouts of consumers on the whole machine: both modes, both ends, an abort while it drains, and a dead execution."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.consumers import PREFIX, UUID
from tests.fakes.sqs import arn
from tests.statemachines.rollouts import CANDIDATE, LONG, STABLE, Rollouts, assert_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

KEY = f"event-source/{UUID}"
WAYS = [("orders", "split"), ("orders", "ramp"), ("orders.fifo", "ramp")]


@pytest.fixture
def app() -> Iterator[Rollouts]:
    with Rollouts() as app:
        yield app


def request_for(app: Rollouts, mode: str, *steps: tuple[float, int], **fields: Any) -> dict[str, Any]:
    return app.request(*steps, target={"kind": "event-source", "mapping": UUID, "mode": mode}, **fields)


def fail(app: Rollouts, queue: str, *bodies: str) -> None:
    app.sqs.bury(queue, *bodies, group="g" if queue.endswith(".fifo") else "")


def bodies(app: Rollouts, queue: str) -> list[str]:
    return sorted(app.sqs.queues[queue].bodies)


def assert_as_before(app: Rollouts, settings: dict[str, Any], queue: str, version: str) -> None:
    mapping = app.functions.mapping
    assert mapping is not None
    assert (mapping.told()["State"], mapping.settings, mapping.version) == ("Enabled", settings, version)
    assert [name for name in app.sqs.queues if name.startswith(PREFIX)] == []
    assert app.sqs.queues[queue].dead_letters.startswith("orders-dead")
    for index, (one, _, ended) in enumerate(mapping.at_work):
        assert all(one == other or ended <= began for other, began, _ in mapping.at_work[index + 1 :])


@pytest.mark.parametrize(("queue", "mode"), WAYS)
@pytest.mark.parametrize("promoted", [True, False])
def test_a_consumer_is_rolled_out_or_back_and_what_failed_is_told(
    app: Rollouts, queue: str, mode: str, *, promoted: bool
) -> None:
    # GIVEN a candidate that fails two messages in its first bake
    settings = dict(app.consume(queue).settings)
    app.after("Bake", lambda: fail(app, queue, "m-1", "m-2"))
    app.after("Bake", lambda: app.signal("promote" if promoted else "abort"))
    # WHEN an operator goes on all the same, or has it rolled back
    execution = app.run(request_for(app, mode, (10, LONG), (50, 1)))
    # THEN one version serves as before, and the messages are with the team, or back in the source
    assert_invariants(app)
    assert_as_before(app, settings, queue, CANDIDATE if promoted else STABLE)
    assert execution.states()[-4:] == ["Release", "Settle", "Ended?", "Promoted" if promoted else "Rolled back"]
    where = "orders-dead" + (".fifo" if queue.endswith(".fifo") else "") if promoted else queue
    assert bodies(app, where) == ["m-1", "m-2"]
    told = {name: count for name, count in app.record()["redriven"].items() if count}
    assert told == {"forwarded" if promoted else "returned": 2}
    assert app.events()[-1]["detail"]["redriven"] == app.record()["redriven"]


@pytest.mark.parametrize("mode", ["split", "ramp"])
def test_a_redrive_policy_that_somebody_else_sets_stops_the_rollout_and_what_failed_goes_back(
    app: Rollouts, mode: str
) -> None:
    # GIVEN a message that has failed when somebody else sets another redrive policy
    settings = dict(app.consume("orders").settings)
    app.sqs.queue("other")
    policy = json.dumps({"deadLetterTargetArn": arn("other"), "maxReceiveCount": 9})
    app.after("Bake", lambda: fail(app, "orders", "m-1"))
    app.after("Bake", lambda: app.sqs.point("orders", policy))
    app.after("Bake", lambda: app.signal("abort"))
    # WHEN the rollout is rolled back
    execution = app.run(request_for(app, mode, (10, LONG)))
    # THEN it ends as stopped, the policy stays, and the stable version gets what the candidate failed on
    assert execution.error == "Stopped"
    assert_invariants(app)
    assert "other" in app.record()["reason"]
    assert "what failed during the rollout is back in" in app.record()["reason"]
    mapping = app.functions.mapping
    assert mapping is not None
    assert (mapping.told()["State"], mapping.settings, mapping.version) == ("Enabled", settings, STABLE)
    assert (app.sqs.queues["orders"].dead_letters, bodies(app, "orders")) == ("other", ["m-1"])
    assert [name for name in app.sqs.queues if name.startswith(PREFIX)] == []


def test_an_abort_while_the_consumer_is_drained_lets_the_stable_version_go_on(app: Rollouts) -> None:
    # GIVEN a ramp that has stopped the mapping, of which the machine has not been told
    mapping = app.consume("orders.fifo")
    settings = dict(mapping.settings)
    seen: list[tuple[Any, Any]] = []

    def abort() -> None:
        if mapping.told()["State"] == "Disabled" and not seen:
            seen.append((app.record()["underway"], app.record()["state"]["parked"]))
            app.signal("abort")

    app.before("Shift", abort, calls=range(1, 1000))
    # WHEN an abort comes
    execution = app.run(request_for(app, "ramp"))
    # THEN the rollback goes on from what is on record, and the candidate has never been at work
    assert seen == [(True, True)]
    assert execution.error == "RolledBack"
    assert_invariants(app)
    assert_as_before(app, settings, "orders.fifo", STABLE)
    assert {version for version, _, _ in mapping.at_work} == {STABLE}


@pytest.mark.parametrize(("queue", "mode"), WAYS)
def test_the_warden_rolls_a_dead_rollout_back_and_restores_over_several_sweeps(
    app: Rollouts, queue: str, mode: str
) -> None:
    # GIVEN a rollout whose execution is stopped while the candidate is at work, and has failed on a message
    settings = dict(app.consume(queue).settings)
    execution = app.start(request_for(app, mode, (10, LONG)))
    app.wait_for("Bake")
    fail(app, queue, "m-1")
    execution.stop()
    execution.wait()
    asked: list[str] = []
    app.before("Roll back", lambda: asked.append("rollback"), calls=range(1, 1000))
    app.before("Release", lambda: asked.append("restore"), calls=range(1, 1000))
    # WHEN the warden sweeps each minute
    sweeps = 0
    while app.record()["status"] == "running":
        sweeps += 1
        assert sweeps < 20
        app._deliver("warden", {"detail-type": "Scheduled Event"})
        app.clock.sleep(60)
    # THEN it takes more than one, of which none fails or begins anew, and all is as before
    assert sweeps > 2
    assert "rollback" not in asked[asked.index("restore") :]
    assert (app.record()["status"], app.record()["serving"]) == ("rolled-back", STABLE)
    assert app.record()["redriven"]["returned"] == 1
    assert_invariants(app)
    assert_as_before(app, settings, queue, STABLE)
    assert bodies(app, queue) == ["m-1"]


@pytest.mark.parametrize(("queue", "mode"), WAYS)
def test_the_sample_hooks_test_the_function_behind_a_consumer(app: Rollouts, queue: str, mode: str) -> None:
    # GIVEN both sample hooks and one of each other kind, none of which is told more than the mapping by the request
    app.consume(queue)
    hooks = {
        "beforeTraffic": [
            app.sample_hook("smoke_tester", cases=[{"payload": {"id": 1}, "expect": {"version": CANDIDATE}}]),
            app.task_hook(),
        ],
        "beforeStep": [app.hook("before")],
        "afterStep": [app.machine_hook("load-test", {"Type": "Succeed"})],
        "afterTraffic": [app.sample_hook("version_checker", invocations=2)],
    }
    # WHEN the consumer is rolled out
    request = request_for(app, mode, (10, 1), hooks=hooks)
    execution = app.run(request)
    # THEN they have invoked the candidate itself before it had traffic, and afterwards what the alias serves
    assert execution.states()[-1] == "Promoted"
    assert app.functions.invoked == [(CANDIDATE, CANDIDATE, {"id": 1}), *[("live", CANDIDATE, {})] * 2]
    # AND everybody is told the mapping and the alias that it points at, a task its target's name as ever
    told = [*app.asked, app.engine.executions("load-test")[0].input]
    assert [event["stage"] for event in told] == ["beforeTraffic", "beforeStep", "afterTraffic", "afterStep"]
    for event in told:
        assert event["target"] == request["target"]
        assert event["through"] == {"kind": "lambda-alias", "function": "checkout", "alias": "live"}
    assert app.tasks.environment_of(0, "app")["HEADGATE_TARGET"] == KEY
    assert_invariants(app)


def test_hooks_of_a_consumers_rollback_are_told_the_alias_behind_it(app: Rollouts) -> None:
    app.consume()
    app.after("Bake", lambda: app.signal("abort"))
    app.run(request_for(app, "split", (10, LONG), hooks={"onRollback": [app.hook("pager")]}))
    (asked,) = app.asked
    assert (asked["stage"], asked["through"]["function"], asked["through"]["alias"]) == (
        "onRollback",
        "checkout",
        "live",
    )
    assert_invariants(app)


def test_a_consumer_whose_alias_is_rolled_out_already_is_refused_and_the_other_way_round(app: Rollouts) -> None:
    # GIVEN a rollout of the alias itself
    app.consume()
    first = app.start(app.request((10, LONG), id="first"))
    app.wait_for("Bake")
    # WHEN its consumer is to be rolled out
    app.run(request_for(app, "split", id="second"))
    # THEN that is refused
    assert (
        app.record("second")["reason"]
        == "target: lambda-alias/checkout/live is in use by rollout first; wait until it ends"
    )
    app.signal("abort", "first")
    first.wait()
    # AND the alias, while its consumer is rolled out
    third = app.start(request_for(app, "split", (10, LONG), id="third"))
    app.wait_for("Bake", 2)
    app.run(app.request(id="fourth"))
    assert app.record("fourth")["status"] == "refused"
    assert "is in use by rollout third" in app.record("fourth")["reason"]
    app.signal("abort", "third")
    third.wait()
    assert_invariants(app)
