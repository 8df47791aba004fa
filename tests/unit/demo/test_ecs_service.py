"""What the demo of ECS services takes for the position of requests, and for the right end of a rollout."""

from __future__ import annotations

from typing import Any

import pytest

from demo.__main__ import announcement_of
from demo.ecs_service import Part, Released, part_of, service_event, shares_of, standing_of
from demo.rollout_watch import Rollout
from demo.traffic import Request, tally
from headgate.errors import RequestRefused
from headgate.spec.request import read_request

REVISIONS = {"blue": "catalog:1", "green": "catalog:2"}


@pytest.mark.parametrize(
    ("blue", "green", "shares"),
    [(100, 0, {"blue": 1.0}), (0, 1, {"green": 1.0}), (800, 200, {"blue": 0.8, "green": 0.2})],
)
def test_a_target_group_without_weight_gets_no_share(blue: int, green: int, shares: dict[str, float]) -> None:
    groups = [{"TargetGroupArn": "blue", "Weight": blue}, {"TargetGroupArn": "green", "Weight": green}]
    assert shares_of(groups) == shares


def test_the_revision_that_had_all_requests_is_the_stable_one_while_two_have_some() -> None:
    standing = standing_of({"blue": 0.8, "green": 0.2}, REVISIONS, "catalog:1")
    assert (standing.version, standing.weights) == ("catalog:1", {"catalog:2": 0.2})
    # After a task-set rollout the target groups have changed places.
    standing = standing_of({"blue": 0.2, "green": 0.8}, {"blue": "catalog:3", "green": "catalog:2"}, "catalog:2")
    assert (standing.version, standing.weights) == ("catalog:2", {"catalog:3": 0.2})


def test_a_revision_alone_has_no_weights_even_if_it_is_in_both_groups() -> None:
    assert standing_of({"green": 1.0}, REVISIONS, "catalog:1")[:2] == ("catalog:2", {})
    both = standing_of({"blue": 0.5, "green": 0.5}, {"blue": "catalog:2", "green": "catalog:2"}, "catalog:2")
    assert both == ("catalog:2", {}, "all requests go to revision catalog:2")


def test_services_and_task_sets_are_parts() -> None:
    balanced = {"taskDefinition": "arn:aws:ecs:eu-central-1:1:task-definition/catalog:7"}
    balanced |= {"loadBalancers": [{"targetGroupArn": "blue"}]}  # type: ignore[dict-item]
    assert part_of({"serviceName": "catalog", "desiredCount": 2, **balanced}) == Part("catalog", "catalog:7", "blue", 2)
    found = part_of({"id": "ecs-svc/1", "computedDesiredCount": 3, **balanced})
    assert found == Part("task set ecs-svc/1", "catalog:7", "blue", 3)


@pytest.mark.parametrize("way", ["green-service", "task-sets"])
def test_the_events_are_requests_that_differ_in_release_and_error_rate(way: Any) -> None:
    good, bad = service_event(None, way), service_event(None, way, "bad", 0.3)
    requests = [read_request(event["detail"], "unused").to_wire() for event in (good, bad)]
    assert [each["id"] for each in requests] == ["catalog-good-release", "catalog-bad-release"]
    assert [each["target"]["way"] for each in requests] == [way, way]
    environments = [each["candidate"]["revise"]["environment"]["app"] for each in requests]
    assert environments == [{"RELEASE": "2", "ERROR_RATE": "0"}, {"RELEASE": "3", "ERROR_RATE": "0.3"}]


def test_a_strategy_that_never_bakes_is_refused() -> None:
    with pytest.raises(RequestRefused, match="never bakes"):
        service_event("AllAtOnce", "green-service")


def ended(expected: str, *requests: Request, unanswered: int = 0, faults: tuple[str, ...] = ()) -> Released:
    serves = {"succeeded": "catalog:2", "rolled-back": "catalog:1"}[expected]
    rollout = Rollout("catalog-release", expected, "catalog:1", expected, candidate="catalog:2", alias_serves=serves)
    rollout.requests = list(requests)
    return Released(rollout, unanswered, [Part("catalog", serves, "blue", 2)], [], list(faults))


def test_a_promotion_with_a_failed_request_is_wrong_and_a_rollback_with_some_is_not() -> None:
    failed = Request(1.0, "catalog:2", ok=False)
    assert ended("succeeded", Request(1.0, "catalog:2", ok=True)).wrong == []
    assert ended("succeeded", failed).wrong == ["1 requests failed during the promotion, expected none"]
    assert ended("rolled-back", failed).wrong == []


def test_requests_that_the_load_balancer_answered_itself_are_always_wrong() -> None:
    rollout = ended("rolled-back", unanswered=2, faults=("the rule splits requests",))
    assert rollout.wrong == ["the rule splits requests", "2 requests were not answered by the service"]
    summary = rollout.to_summary()
    assert (summary["ok"], summary["unanswered"]) == (False, 2)
    assert (summary["kept"], summary["removed"]) == (["catalog with revision catalog:1"], [])


def test_requests_are_counted_by_revision_in_the_order_of_their_numbers() -> None:
    requests = [Request(0, f"catalog:{number}", ok=number != 9) for number in (10, 9, 10)]
    assert list(tally(requests).items()) == [("catalog:9", (1, 1)), ("catalog:10", (2, 0))]


def test_the_plan_of_the_demo_tells_of_the_step_that_keeps_the_stable_revision() -> None:
    request = read_request(service_event(None, "green-service")["detail"], "unused")
    assert announcement_of(request) == (
        "Strategy: 20 % for 8 s, 50 % for 6 s, then 100 % with the stable revision kept for 4 s. "
        "A rollout bakes for 18 s if nothing stops it."
    )
