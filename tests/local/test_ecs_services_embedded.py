"""ECS services of the embedded AWS behind its load balancers: deployments, task sets, their events, and their end.

What fills the gaps is in tests/local/test_ecs_service_gaps.py.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from emulator.server import EmbeddedAws
from tests.local.clients import Aws, eventually
from tests.local.ecs_services import Shop, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.embedded


class Client:
    """Asks a URL all the time, and counts which release has answered."""

    def __init__(self, url: str) -> None:
        self._url, self._done = url, threading.Event()
        self.answered: dict[str, int] = {}
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.01):
            try:
                release = ask(self._url)["release"]
                self.answered[release] = self.answered.get(release, 0) + 1
            except OSError as error:
                self.failed.append(str(error))


class Events:
    """What the bus has told of a service."""

    def __init__(self, aws: Aws) -> None:
        self._aws, self._queue = aws, aws.listen({"source": ["aws.ecs"]})
        self.all: list[dict[str, Any]] = []

    def named(self, kind: str, *names: str, about: str) -> dict[str, Any]:
        """The first event of this kind with one of these names, or of this state, of a resource."""

        def look() -> Any:
            if event := self._aws.receive(self._queue, 1):
                self.all.append(event)
            return [
                each
                for each in self.all
                if each["detail-type"] == kind
                and about in each["resources"][0]
                and (each["detail"].get("eventName") in names or each["detail"].get("lastStatus") in names)
            ]

        return dict(eventually(look)[0])


@pytest.fixture
def shop(aws: Aws) -> Shop:
    """A cluster of the test's own."""
    return Shop(aws)


def test_a_rolling_deployment_costs_no_request_and_is_told(shop: Shop) -> None:
    # GIVEN a service that serves
    url = shop.behind_load_balancer()
    events = Events(shop.aws)
    shop.create(shop.define("1"))
    assert eventually(shop.is_stable), shop.service()
    service, first = shop.service(), shop.tasks()
    assert {each["group"] for each in first} == {"service:shop"}
    assert {each["startedBy"] for each in first} == {service["deployments"][0]["id"]}
    with Client(url) as client:
        assert eventually(lambda: client.answered)
        # WHEN one of its tasks is stopped, and then another revision is deployed
        shop.ecs.stop_task(cluster=shop.name, task=first[0]["taskArn"], reason="by hand")
        assert eventually(lambda: shop.service()["runningCount"] == 2 and _is_new(shop, first[0]))
        shop.update(taskDefinition=shop.define("2"))
        assert eventually(shop.is_stable, 20), shop.service()
        assert ask(url)["release"] == "2"
    # THEN no request has failed
    assert not client.failed, client.answered
    assert client.answered.keys() == {"1", "2"}
    # AND the bus has heard of it
    deployment = shop.service()["deployments"][0]
    told = events.named("ECS Deployment State Change", "SERVICE_DEPLOYMENT_COMPLETED", about=f"/{shop.name}/shop")
    assert told["detail"]["eventType"] == "INFO"
    assert told["detail"]["reason"] == f"ECS deployment {told['detail']['deploymentId']} completed."
    assert deployment["id"].startswith("ecs-svc/")
    steady = events.named("ECS Service Action", "SERVICE_STEADY_STATE", about=f"/{shop.name}/shop")
    assert steady["detail"]["clusterArn"] == service["clusterArn"]
    stopped = events.named("ECS Task State Change", "STOPPED", about=first[0]["taskArn"])["detail"]
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "by hand")
    # AND nothing is left of it when it is deleted
    assert shop.delete() == "INACTIVE"
    assert shop.elb.describe_target_health(TargetGroupArn=shop.groups[0])["TargetHealthDescriptions"] == []


def _is_new(shop: Shop, task: dict[str, Any]) -> bool:
    states = {each["taskArn"]: each["lastStatus"] for each in shop.tasks("STOPPED")}
    return states.get(task["taskArn"]) == "STOPPED" and len(shop.tasks()) == 2


def test_a_deployment_whose_tasks_exit_is_rolled_back_by_the_circuit_breaker(shop: Shop) -> None:
    # GIVEN a service with a circuit breaker
    events = Events(shop.aws)
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    good = shop.define("1")
    shop.create(good, count=1, deploymentConfiguration=breaker)
    assert eventually(shop.is_stable), shop.service()
    [serving] = shop.tasks()
    # WHEN the tasks of a deployment exit
    bad = shop.define("2", "raise SystemExit('no database')")
    failing = shop.update(taskDefinition=bad)["deployments"][0]["id"]
    # THEN it fails after the third
    told = events.named("ECS Deployment State Change", "SERVICE_DEPLOYMENT_FAILED", about=f"/{shop.name}/shop")
    assert told["detail"]["deploymentId"] == failing
    assert told["detail"]["reason"] == "ECS deployment circuit breaker: tasks failed to start."
    assert (
        events.named("ECS Service Action", "SERVICE_TASK_START_IMPAIRED", about=shop.name)["detail"]["eventType"]
        == "WARN"
    )
    # AND the service is as it was, and has never stopped its task
    assert eventually(shop.is_stable), shop.service()
    assert shop.service()["taskDefinition"] == good
    assert [each["taskArn"] for each in shop.tasks()] == [serving["taskArn"]]
    exited = [each for each in shop.tasks("STOPPED") if each["taskDefinitionArn"] == bad]
    assert {(each["stopCode"], each["containers"][0]["exitCode"]) for each in exited} == {
        ("EssentialContainerExited", 1)
    }


def test_task_sets_are_scaled_and_become_primary_and_go(shop: Shop) -> None:
    # GIVEN a service of the EXTERNAL controller, whose first task set serves
    url = shop.behind_load_balancer()
    external = {"deploymentController": {"type": "EXTERNAL"}, "desiredCount": 2}
    shop.ecs.create_service(cluster=shop.name, serviceName="shop", **external)
    one, two = shop.define("1"), shop.define("2")
    blue = shop.create_task_set(one, 0)
    shop.ecs.update_service_primary_task_set(cluster=shop.name, service="shop", primaryTaskSet=blue["id"])
    # WHEN another one is made with a quarter of the tasks, twice by the same token
    half = {"scale": {"value": 25, "unit": "PERCENT"}, "clientToken": "once", "externalId": "rollout"}
    green = shop.create_task_set(two, 1, **half)
    assert shop.create_task_set(two, 1, **half)["id"] == green["id"]
    assert (green["computedDesiredCount"], green["stabilityStatus"]) == (1, "STABILIZING")
    assert eventually(lambda: {each["stabilityStatus"] for each in shop.task_sets()} == {"STEADY_STATE"}), (
        shop.task_sets()
    )
    # THEN its tasks get requests by the rule's weights
    assert ask(url)["release"] == "1"
    shop.shift(0, 100)
    assert ask(url)["release"] == "2"
    assert [each["startedBy"] for each in shop.tasks() if each["taskDefinitionArn"] == two] == [green["id"]]
    # AND it becomes the service's, and the other one goes
    shop.ecs.update_service_primary_task_set(cluster=shop.name, service="shop", primaryTaskSet=green["id"])
    scale = {"value": 100, "unit": "PERCENT"}
    shop.ecs.update_task_set(cluster=shop.name, service="shop", taskSet=green["id"], scale=scale)
    with pytest.raises(shop.ecs.exceptions.InvalidParameterException):
        shop.ecs.delete_task_set(cluster=shop.name, service="shop", taskSet=blue["id"])
    shop.ecs.delete_task_set(cluster=shop.name, service="shop", taskSet=blue["id"], force=True)
    assert eventually(lambda: len(shop.task_sets()) == 1 and shop.task_sets()[0]["runningCount"] == 2), shop.task_sets()
    service = shop.service()
    assert (service["taskDefinition"], service["runningCount"], service["deployments"]) == (two, 2, [])
    assert [(each["id"], each["status"]) for each in service["taskSets"]] == [(green["id"], "PRIMARY")]
    assert shop.delete() == "INACTIVE"


@pytest.fixture
def killed(request: pytest.FixtureRequest) -> Iterator[EmbeddedAws]:
    """An embedded AWS of the test's own, which it kills."""
    with EmbeddedAws() as server:
        yield server


def test_tasks_end_with_the_embedded_aws_that_is_killed(killed: EmbeddedAws) -> None:
    shop = Shop(Aws(killed, "killed"))
    shop.create(shop.define(MARK=f"killed-{killed.port}"), count=2)
    assert eventually(shop.is_stable)
    pids = _marked(f"killed-{killed.port}")
    assert len(pids) == 2
    assert killed._process is not None
    os.kill(killed._process.pid, signal.SIGKILL)
    assert eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _lives(pid) for pid in pids), 5)


def _marked(mark: str) -> list[int]:
    """Processes with this text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            time.sleep(0)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
