"""Guards of ECS services in a request: where they are allowed, and what they must say."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.errors import RequestRefused
from headgate.spec.request import read_request
from tests.builders import TARGET

SERVICE = {"kind": "ecs-service", "cluster": "prod", "service": "shop"}
MAPPING = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2"}
CANDIDATES = {"ecs-service": {"taskDefinition": "shop:7"}}


def asked(target: dict[str, str], **guards: Any) -> Any:
    candidate = CANDIDATES.get(target["kind"], {"version": "7"})
    return read_request({"target": target, "candidate": candidate, "guards": guards}, "r-1").asked_guards


def custom_on(**dimensions: str) -> list[Any]:
    metric = {"namespace": "Shop", "metricName": "Orders", "dimensions": dimensions}
    return [{"name": "orders", "requests": metric, "failures": metric}]


def test_a_service_may_have_limits() -> None:
    guards = asked(SERVICE, service={"unhealthyHosts": 0, "taskExits": 2})
    assert guards.service.limits == {"unhealthyHosts": 0, "taskExits": 2}
    assert guards.protect
    assert not guards.ask_cloudwatch


@pytest.mark.parametrize("target", [TARGET, MAPPING])
def test_the_limits_of_a_service_are_refused_for_other_kinds(target: Any) -> None:
    kind = target["kind"]
    with pytest.raises(
        RequestRefused, match=f"guards.service: is only for targets of kind ecs-service, not {kind}; remove it"
    ):
        asked(target, service={"taskExits": 0})


def test_the_limits_of_a_consumer_are_refused_for_a_service() -> None:
    with pytest.raises(RequestRefused, match=r"guards\.source: is only for targets of kind event-source, not ecs-serv"):
        asked(SERVICE, source={"deadLetters": 0})


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({}, "set a limit: unhealthyHosts or taskExits"),
        ({"taskExits": -1}, "guards.service.taskExits"),
        ({"unhealthyHosts": 0.5}, "guards.service.unhealthyHosts"),
        ({"unhealthyTasks": 1}, "guards.service.unhealthyTasks: is not a known field"),
    ],
)
def test_a_limit_that_says_nothing_is_refused(limits: Any, why: str) -> None:
    with pytest.raises(RequestRefused, match=why):
        asked(SERVICE, service=limits)


@pytest.mark.parametrize("dimensions", [{"G": "{targetGroup}", "L": "{loadBalancer}"}, {"R": "{revision}"}])
def test_a_custom_guard_of_a_service_is_of_its_revision_or_its_target_group(dimensions: dict[str, str]) -> None:
    assert asked(SERVICE, custom=custom_on(**dimensions)).ask_cloudwatch


def test_a_load_balancer_alone_does_not_tell_the_revisions_apart() -> None:
    with pytest.raises(RequestRefused, match=r"requests is the same for both revisions; put \{revision\} into"):
        asked(SERVICE, custom=custom_on(L="{loadBalancer}"))


@pytest.mark.parametrize("name", ["{targetGroup}", "{loadBalancer}"])
@pytest.mark.parametrize("target", [TARGET, MAPPING])
def test_other_kinds_have_no_target_groups(target: Any, name: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        asked(target, custom=custom_on(R="{revision}", G=name))
    assert str(refusal.value) == (
        f"guards.custom[0].requests: {name} is only for targets of kind ecs-service, not {target['kind']}; use "
        "{revision}"
    )
