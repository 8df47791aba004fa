"""What ECS tells of a service, and undos of what is kept, while the rollout machine stands in each of its states.

The invariants are asserted by the fixture after each test.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from headgate.rollouts.table import now_iso
from headgate.spec.routing import green_name
from tests.builders import ACCOUNT, REGION, event
from tests.statemachines.rollouts import CANDIDATE, LONG, STABLE, Rollouts

if TYPE_CHECKING:
    from tests.fakes.services_and_balancers import Shop

pytestmark = pytest.mark.slow

GREEN = green_name("shop", "checkout-42")
FAILED = "the deployment of the candidate failed: tasks failed to start"


def tell(app: Rollouts, name: str, service: str, reason: str = "tasks failed to start") -> None:
    """A deployment's event, as ECS publishes it."""
    told = event("ecs_deployment_state_change") | {"time": now_iso()}
    told["resources"] = [f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/prod/{service}"]
    told["detail"] |= {"eventName": name, "updatedAt": now_iso(), "reason": reason}
    app._deliver("signaller", told)


def undo(app: Rollouts, **fields: Any) -> None:
    """A request for an undo, as the queue delivers it."""
    detail = {"id": "undo-1", "target": app.request()["target"], **fields}
    body = json.dumps({"id": str(uuid.uuid4()), "detail-type": "Undo Requested", "detail": detail})
    message = {
        "messageId": str(uuid.uuid4()),
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:requests",
    }
    assert app._deliver("intake", {"Records": [message]}) == {"batchItemFailures": []}


def reason_of(app: Rollouts) -> str:
    return str(app.record()["reason"])


def shop_of(app: Rollouts) -> Shop:
    return app.shop("green-service")


@pytest.mark.parametrize(
    ("state", "moved"), [("Prepare", False), ("Shift", True), ("Bake", True), ("Judge", True), ("Promote", True)]
)
def test_a_candidate_that_does_not_stay_up_is_rolled_back_in_every_state(
    app: Rollouts, state: str, moved: bool
) -> None:
    # GIVEN a green service whose deployment fails once a state has had its effect
    shop = shop_of(app)
    # A call that has to wait has no effect yet; told again, it is the same evidence.
    app.after(state, lambda: tell(app, "SERVICE_DEPLOYMENT_FAILED", GREEN), calls=range(1, 9))
    # WHEN the rollout runs
    app.run(app.request_for(shop, (10, 1), (50, 1)))
    # THEN it goes back, says why, and before any traffic nobody has met the candidate
    assert (app.record()["status"], reason_of(app).partition(";")[0]) == ("rolled-back", FAILED)
    assert bool([write for write in app.cloud.writes if write.shares.get(shop.candidate[0])]) is moved


def test_a_candidate_that_fails_during_a_hook_before_traffic_gets_none(app: Rollouts) -> None:
    # GIVEN a hook that finds nothing, during which the candidate fails
    shop = shop_of(app)

    def check() -> dict[str, str]:
        tell(app, "SERVICE_DEPLOYMENT_FAILED", GREEN)
        return {"hookStatus": "SUCCEEDED"}

    hook = app.hook("check", check)
    app.run(app.request_for(shop, (10, 1), hooks={"beforeTraffic": [hook]}))
    assert (app.record()["status"], reason_of(app).partition(";")[0]) == ("rolled-back", FAILED)
    assert not [write for write in app.cloud.writes if write.shares.get(shop.candidate[0])]
    # AND the hook was told how to reach it.
    (asked,) = app.asked
    assert asked["service"]["candidateGroups"] == [shop.candidate[0]]


def test_a_deployment_that_changed_nothing_costs_one_more_bake(app: Rollouts) -> None:
    shop = shop_of(app)
    app.after("Bake", lambda: tell(app, "SERVICE_DEPLOYMENT_IN_PROGRESS", "shop"))
    execution = app.run(app.request_for(shop, (10, 2)))
    assert app.record()["status"] == "succeeded"
    assert execution.states().count("Bake") == 2


def test_a_deployment_of_the_owner_ends_a_long_bake_and_stops_the_rollout(app: Rollouts) -> None:
    # GIVEN an owner who deploys in the middle of a long bake
    shop = shop_of(app)

    def deploy() -> None:
        app.cloud.services.define("shop", 9)
        app.cloud.ecs.update_service(cluster="prod", service="shop", taskDefinition="shop:9")
        tell(app, "SERVICE_DEPLOYMENT_IN_PROGRESS", "shop")

    app.after("Bake", deploy)
    # WHEN ECS tells of it, THEN the driver finds it at once
    execution = app.run(app.request_for(shop, (10, LONG)))
    assert execution.states()[-1] == "Stopped"
    assert "it runs shop:9 now" in reason_of(app)
    # AND what the owner has deployed gets all requests
    assert app.cloud.serving(shop) == {"shop:9"}
    assert app.cloud.unanswered == []


def test_an_undo_of_what_is_kept_is_an_abort(app: Rollouts) -> None:
    # GIVEN a rollout that has sent all traffic to its candidate, and keeps the version before for long
    app.after("Bake", lambda: undo(app), calls=range(2, 3))
    # WHEN an undo is requested
    execution = app.run(app.request((10, 1), (100, LONG)))
    # THEN the rollout ends at once, and the undo with it
    assert execution.states()[-1] == "Rolled back"
    assert reason_of(app) == "aborted by undo undo-1"
    assert app.functions.routing == (STABLE, {})
    record = app.record("undo-1")
    found = {name: record[name] for name in ("status", "serving", "stable", "candidate")}
    assert found == {"status": "succeeded", "serving": STABLE, "stable": CANDIDATE, "candidate": STABLE}


@pytest.mark.parametrize("state", ["Judge", "Promote", "Settle"])
def test_an_undo_in_the_last_moment_is_one_or_waits_for_its_turn(app: Rollouts, state: str) -> None:
    # GIVEN an undo that comes as the rollout ends
    app.before(state, lambda: undo(app, rolloutId="checkout-42"), calls=range(2 if state == "Judge" else 1, 3))
    app.run(app.request((10, 1), (100, 1)))
    app.settle_down()
    # THEN the version before serves again
    assert app.functions.routing == (STABLE, {})
    assert app.record("undo-1")["status"] == "succeeded"
