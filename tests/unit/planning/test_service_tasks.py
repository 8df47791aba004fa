"""What a plan says of a service's tasks: how many run side by side, and how long the stable revision is kept."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.planning.service_tasks import note_on_keeping, notes_on_tasks
from headgate.spec.request import read_request
from headgate.spec.targets import EcsServiceTarget
from headgate.targets.ecs_service.lookup import ServiceLookup
from tests.fakes.services_and_balancers import Cloud

FARGATE = "; Fargate bills them, and its quota of vCPUs must allow them"
BESIDE = "beside the 4 of shop:6, so"
FOLLOWING = {"scale": {"followWeight": {"minPercent": 5}}}


@pytest.fixture
def cloud(_nobodys_account: None) -> Cloud:
    return Cloud()


def notes_of(cloud: Cloud, way: str, *, running: Any = None, **fields: Any) -> list[str]:
    target = cloud.shop(way).target | fields.pop("target", {})
    request = read_request({"target": target, "candidate": {"taskDefinition": "shop:7"}, **fields}, "e-1")
    assert isinstance(request.target, EcsServiceTarget)
    facts = ServiceLookup(cloud.ecs, cloud.elb).find(request.target)
    facts = facts._replace(running={**facts.running, **(running or {})})
    return [*notes_on_tasks(request, facts), note_on_keeping(request, facts.stable)]


def test_a_candidate_of_full_size_doubles_the_tasks_and_the_last_deployment_adds_more(cloud: Cloud) -> None:
    scale, way, keep = notes_of(cloud, "green-service")
    assert scale == f"target.scale: the candidate gets 4 tasks, {BESIDE} 8 run until the end of the rollout{FARGATE}"
    assert way.startswith("target.way: in the end shop itself is deployed with the candidate ")
    assert "so up to 12 tasks run during that deployment" in way
    assert keep == (
        "target.keepSeconds: the last step keeps shop:6 for 300 s while the candidate has all requests; until then an "
        "abort is one change of weights"
    )


@pytest.mark.parametrize(("percent", "most"), [(100, ""), (150, "up to 10 tasks run"), (200, "up to 12 tasks run")])
def test_the_services_own_limit_counts_in_its_last_deployment(cloud: Cloud, percent: int, most: str) -> None:
    notes = notes_of(cloud, "green-service", running={"deploymentConfiguration": {"maximumPercent": percent}})
    told = [note for note in notes if note.startswith("target.way: ")]
    assert len(told) == bool(most)
    assert most in "".join(told)


@pytest.mark.parametrize(
    ("strategy", "keeps", "first"),
    [
        ({"steps": [{"weight": 30, "bakeSeconds": 300}]}, 300, "2 tasks"),
        ({"steps": [{"weight": 10, "bakeSeconds": 300}]}, 0, "1 task"),
        ("AllAtOnce", 300, "4 tasks"),
        ("AllAtOnce", 0, "4 tasks"),
    ],
)
def test_a_candidate_that_follows_the_weight_begins_with_fewer_tasks(
    cloud: Cloud, strategy: Any, keeps: int, first: str
) -> None:
    scale, keep = notes_of(cloud, "task-sets", strategy=strategy, target={**FOLLOWING, "keepSeconds": keeps})
    assert scale == (
        f"target.scale: the candidate gets {first} at first and more with its weight, {BESIDE} up to 8 run until the "
        f"end of the rollout{FARGATE}"
    )
    kept = "the last step keeps shop:6 for 300 s while" if keeps else "shop:6 is not kept once"
    assert keep.startswith(f"target.keepSeconds: {kept} the candidate has all requests")


def test_a_strategy_of_its_own_may_say_how_long_the_stable_revision_is_kept(cloud: Cloud) -> None:
    steps = [{"weight": 10, "bakeSeconds": 300}, {"weight": 100, "bakeSeconds": 60}]
    assert notes_of(cloud, "task-sets", strategy={"steps": steps})[-1].startswith(
        "strategy: the last step keeps shop:6 for 60 s while"
    )


def test_on_instances_the_cluster_must_have_room(cloud: Cloud) -> None:
    scale, *_ = notes_of(cloud, "green-service", running={"launchType": "EC2"})
    assert scale.endswith(
        "; the cluster must have room for them, or the candidate waits for it until target.readySeconds are over"
    )
