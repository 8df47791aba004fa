"""Old revisions of a task definition family: what keeps one, and how the others go."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.cleanup.cleaner import apply, survey
from headgate.cleanup.policy import Policy
from headgate.cleanup.records import RolloutUses
from headgate.cleanup.task_definitions import FamilyRevisions
from tests.builders import ACCOUNT, REGION, TABLE, admit, settle
from tests.fakes.services import Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.cleanup.model import Cleanup
    from headgate.rollouts.locks import Locks

    StockOf = Callable[..., FamilyRevisions]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALL_OLD = Policy(1, 0)


def arn(name: str) -> str:
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{name}"


class Ecs(Service):
    """Two families in two clusters. Pages have two entries."""

    def __init__(self) -> None:
        self.active = {f"report:{number}": datetime(2026, 1, number, tzinfo=UTC) for number in range(3, 13)}
        self.active["report-daily:1"] = NOW
        self.inactive = {"report:1": datetime(2025, 1, 1, tzinfo=UTC), "report:2": datetime(2025, 1, 2, tzinfo=UTC)}
        self.services: dict[str, list[dict[str, Any]]] = {"web": [], "jobs": []}
        self.tasks: dict[str, list[str]] = {"web": [], "jobs": []}
        self.described: list[str] = []
        self.deregistered: list[str] = []
        self.deleted: list[str] = []
        self.failures: dict[str, str] = {}

    def ListTaskDefinitions(self, familyPrefix: str, status: str, nextToken: str = "0") -> dict[str, Any]:
        named = self.active if status == "ACTIVE" else self.inactive
        return _page("taskDefinitionArns", [arn(name) for name in named if name.startswith(familyPrefix)], nextToken)

    def DescribeTaskDefinition(self, taskDefinition: str) -> dict[str, Any]:
        self.described.append(taskDefinition)
        return {"taskDefinition": {"registeredAt": (self.active | self.inactive)[taskDefinition]}}

    def ListClusters(self, nextToken: str = "0") -> dict[str, Any]:
        return _page("clusterArns", list(self.services), nextToken)

    def ListServices(self, cluster: str, nextToken: str = "0") -> dict[str, Any]:
        return _page("serviceArns", [each["serviceName"] for each in self.services[cluster]], nextToken)

    def DescribeServices(self, cluster: str, services: list[str]) -> dict[str, Any]:
        assert len(services) <= 10
        return {"services": [each for each in self.services[cluster] if each["serviceName"] in services]}

    def ListTasks(self, cluster: str, family: str, nextToken: str = "0") -> dict[str, Any]:
        return _page("taskArns", [name for name in self.tasks[cluster] if name.startswith(f"{family}:")], nextToken)

    def DescribeTasks(self, cluster: str, tasks: list[str]) -> dict[str, Any]:
        return {"tasks": [{"taskDefinitionArn": arn(name)} for name in tasks]}

    def DeregisterTaskDefinition(self, taskDefinition: str) -> dict[str, Any]:
        if taskDefinition in self.failures:
            raise Refusal("ClientException", self.failures[taskDefinition])
        self.deregistered.append(taskDefinition)
        self.inactive[taskDefinition] = self.active.pop(taskDefinition)
        return {}

    def DeleteTaskDefinitions(self, taskDefinitions: list[str]) -> dict[str, Any]:
        (name,) = taskDefinitions
        if name in self.failures:
            return {"failures": [{"arn": arn(name), "reason": self.failures[name]}]}
        self.deleted.append(name)
        return {"failures": []}


def _page(name: str, entries: list[Any], token: str) -> dict[str, Any]:
    begin = int(token)
    more = {"nextToken": str(begin + 2)} if begin + 2 < len(entries) else {}
    return {name: entries[begin : begin + 2], **more}


@pytest.fixture(scope="session")
def ecs_client(_nobodys_account: None) -> Any:
    return boto3.client("ecs")


@pytest.fixture
def ecs(ecs_client: Any) -> Iterator[Ecs]:
    fake = Ecs()
    detach = fake.attach(ecs_client)
    yield fake
    detach()


@pytest.fixture
def stock_of(ecs: Ecs, ecs_client: Any, dynamodb: Any) -> StockOf:
    def make(**options: Any) -> FamilyRevisions:
        return FamilyRevisions(ecs_client, RolloutUses(dynamodb, TABLE), "report", **options)

    return make


def outcomes(found: Cleanup, *wanted: Any) -> list[str]:
    return [each.revision for each in found.with_outcome(*wanted)]


def kept(found: Cleanup) -> dict[str, list[str]]:
    return {each.revision: each.reasons for each in found.with_outcome("stays")}


def test_old_revisions_of_the_family_go_and_those_of_others_are_not_seen(ecs: Ecs, stock_of: StockOf) -> None:
    found = survey(stock_of(), Policy(3, 50 * 86_400), NOW)

    assert outcomes(found, "goes") == [f"report:{number}" for number in range(9, 2, -1)]
    assert list(kept(found)) == ["report:12", "report:11", "report:10"]
    assert ecs.deregistered == []


def test_dates_are_asked_for_only_where_they_decide(ecs: Ecs, stock_of: StockOf) -> None:
    ecs.tasks["jobs"] = ["report:4"]

    survey(stock_of(), Policy(7, 0), NOW)

    assert sorted(ecs.described) == ["report:3", "report:5"]


def test_services_and_tasks_of_all_clusters_keep_what_they_use(ecs: Ecs, stock_of: StockOf) -> None:
    ecs.services["web"] = [{"serviceName": f"other-{number}", "taskDefinition": arn("other:1")} for number in range(11)]
    ecs.services["jobs"] = [
        {
            "serviceName": "reports",
            "taskDefinition": arn("report:5"),
            "deployments": [{"taskDefinition": arn("report:5")}, {"taskDefinition": arn("report:4")}],
            "taskSets": [{"taskDefinition": arn("report:6")}],
        }
    ]
    ecs.tasks["web"] = ["report:7", "report:7", "report:8"]

    stays = kept(survey(stock_of(), ALL_OLD, NOW))

    assert [stays[f"report:{number}"] for number in (4, 5, 6)] == [["service reports uses it"]] * 3
    assert stays["report:7"] == stays["report:8"] == ["a running task uses it"]
    assert len(stays) == 6


def test_hooks_of_rollouts_and_requested_tasks_keep_what_they_name(ecs: Ecs, stock_of: StockOf, locks: Locks) -> None:
    task = {"taskDefinition": "report:5", "cluster": "jobs", "launchType": "EC2"}
    admit(locks, "checkout-42", hooks={"beforeTraffic": [{"ecsTask": task}]})
    inputs = [f'{{"taskDefinition": "{arn("report:6")}"}}', '{"taskDefinition": "daily-report:7"}', "report:80"]

    stays = kept(survey(stock_of(executions=lambda: inputs), ALL_OLD, NOW))

    assert stays["report:5"] == ["the request of rollout checkout-42 names it"]
    assert stays["report:6"] == ["a running request of an ECS task names it"]
    assert list(stays) == ["report:12", "report:6", "report:5"]


def test_rollouts_of_services_keep_what_they_use_and_what_an_undo_would_restore(
    ecs: Ecs, stock_of: StockOf, locks: Locks
) -> None:
    # GIVEN a service with a promotion, and one with a rollout that waits for another
    services = [{"serviceName": name, "taskDefinition": arn("report:9")} for name in ("daily", "weekly")]
    ecs.services["jobs"] = services

    def of(service: str, revision: str) -> dict[str, Any]:
        target = {"kind": "ecs-service", "cluster": "jobs", "service": service}
        return {"target": target, "candidate": {"taskDefinition": revision}}

    admit(locks, "daily-1", **of("daily", "report:9"))
    settle(locks, "daily-1", stable="report:4", candidate="report:9")
    admit(locks, "weekly-1", **of("weekly", "report:5"))
    admit(locks, "weekly-2", **of("weekly", arn("report:6")))

    stays = kept(survey(stock_of(), ALL_OLD, NOW))

    assert stays["report:4"] == ["an undo of rollout daily-1 would restore it on jobs/daily"]
    assert "rollout weekly-1 is accepted and uses it" in stays["report:5"]
    assert "rollout weekly-2 is waiting and uses it" in stays["report:6"]


def test_revisions_are_deregistered_and_not_deleted(ecs: Ecs, stock_of: StockOf) -> None:
    stock = stock_of()

    done = apply(stock, survey(stock, Policy(8, 0), NOW), wait=lambda _: None)

    assert ecs.deregistered == ["report:3", "report:4"]
    assert ecs.deleted == []
    assert outcomes(done, "deregistered") == ["report:4", "report:3"]


def test_deletion_takes_those_that_were_deregistered_before_too(ecs: Ecs, stock_of: StockOf) -> None:
    stock = stock_of(deletes=True)

    done = apply(stock, survey(stock, Policy(9, 0), NOW), wait=lambda _: None)

    assert ecs.deregistered == ["report:3"]
    assert ecs.deleted == ["report:1", "report:2", "report:3"]
    assert outcomes(done, "deleted") == ["report:3", "report:2", "report:1"]


def test_the_newest_are_counted_among_those_that_are_registered(ecs: Ecs, stock_of: StockOf) -> None:
    ecs.active = {"report:1": NOW, "report:2": NOW}
    ecs.inactive = {"report:3": NOW, "report:4": NOW}
    stock = stock_of(deletes=True)

    found = survey(stock, ALL_OLD, NOW)

    assert list(kept(found)) == ["report:2"]
    assert outcomes(found, "goes") == ["report:4", "report:3", "report:1"]


def test_what_ecs_refuses_is_said(ecs: Ecs, stock_of: StockOf) -> None:
    ecs.failures = {"report:1": "still referenced", "report:3": "no such revision"}
    stock = stock_of(deletes=True)

    done = apply(stock, survey(stock, Policy(9, 0), NOW), wait=lambda _: None)

    assert {each.revision: each.reasons for each in done.with_outcome("failed")} == {
        "report:1": ["ECS refused to delete it: still referenced"],
        "report:3": ["ECS refused: ClientException: no such revision"],
    }


def test_a_revision_that_is_used_meanwhile_stays(ecs: Ecs, stock_of: StockOf) -> None:
    times = iter([0.0, 40.0, 40.0, 80.0, 80.0])
    stock = stock_of(clock=lambda: next(times))
    found = survey(stock, Policy(8, 0), NOW)
    ecs.tasks["jobs"] = ["report:3"]

    done = apply(stock, found, wait=lambda _: None)

    assert ecs.deregistered == ["report:4"]
    assert kept(done)["report:3"] == ["a running task uses it"]


def test_uses_are_not_read_again_within_half_a_minute(ecs: Ecs, stock_of: StockOf) -> None:
    stock = stock_of(clock=lambda: 0.0)
    found = survey(stock, Policy(8, 0), NOW)
    asked: list[str] = []
    ecs.interrupt = lambda name, _: asked.append(name)

    apply(stock, found, wait=lambda _: None)

    assert "ListClusters" not in asked
    assert stock.uses_now("report:3") == []


def test_hooks_and_requests_that_came_meanwhile_keep_what_they_name(ecs: Ecs, stock_of: StockOf, locks: Locks) -> None:
    inputs: list[str] = []
    stock = stock_of(executions=lambda: inputs, clock=lambda: 0.0)
    found = survey(stock, Policy(8, 0), NOW)
    admit(locks, "checkout-42", hooks={"beforeTraffic": [{"ecsTask": {"taskDefinition": "report:3"}}]})
    inputs.append(f'{{"taskDefinition": "{arn("report:4")}"}}')

    done = apply(stock, found, wait=lambda _: None)

    assert ecs.deregistered == []
    assert kept(done)["report:3"] == ["the request of rollout checkout-42 names it"]
    assert kept(done)["report:4"] == ["a running request of an ECS task names it"]
