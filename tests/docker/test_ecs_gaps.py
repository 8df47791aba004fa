"""What differs between MiniStack's ECS and AWS's where there is an engine: filled in the embedded AWS, and still there.

The gaps without an engine, and what they are all about, are in tests/local/test_embedded_gaps.py.
"""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.deployed import eventually
from tests.local.ecs_jobs import CLUSTER, REGISTRY_OF_NOBODY, define
from tests.local.roles import ROLE
from tests.local.servers import serving
from tools.lambda_image.build import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.server import EmbeddedAws
    from tools.docker_engine import DockerEngine

DEAF = ("/bin/sleep", "600")
"""As process 1 it does not hear SIGTERM."""


class Ecs:
    """One server's ECS, and what its engine has of it."""

    def __init__(self, server: EmbeddedAws, engine: DockerEngine) -> None:
        self.server, self.engine = server, engine
        self.client, self.states = server.client("ecs"), server.client("stepfunctions")
        self.client.create_cluster(clusterName=CLUSTER)

    def container(self, *program: str, **settings: Any) -> dict[str, Any]:
        """A container with its program as entry point and command."""
        own = {"name": "app", "image": ensure(self.engine), "essential": True}
        return {**own, "entryPoint": list(program[:1]), "command": list(program[1:]), **settings}

    def run(self, *containers: dict[str, Any]) -> str:
        """Run a task; answers its ARN."""
        definition = define(self.server, *containers, family=f"gap-{uuid.uuid4().hex[:8]}")
        answer = self.client.run_task(cluster=CLUSTER, taskDefinition=definition, launchType="FARGATE")
        return str(answer["tasks"][0]["taskArn"])

    def is_now(self, arn: str, status: str) -> dict[str, Any]:
        """The task, once ECS says that it is PENDING, RUNNING or STOPPED."""

        def look() -> Any:
            task = self.client.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]
            return task if task["lastStatus"] == status else None

        return dict(eventually(look, 30, lambda: f"{arn} is not {status}"))

    def exit_codes(self, arn: str) -> list[int | None]:
        """Those of a task's containers, once it has stopped."""
        return [each.get("exitCode") for each in self.is_now(arn, "STOPPED")["containers"]]

    def left(self, arn: str) -> list[Any]:
        """What Docker has of a task, in whatever state."""
        labels = {"label": f"com.amazonaws.ecs.task-arn={arn}"}
        with self.engine.connected() as docker:
            return [each.attrs for each in docker.containers.list(all=True, filters=labels, ignore_removed=True)]

    def run_in_a_state(self, *containers: dict[str, Any]) -> dict[str, Any]:
        """Run a task by a state machine's one state; answers the execution once it has ended."""
        definition = define(self.server, *containers, family=f"gap-{uuid.uuid4().hex[:8]}")
        state = {
            "Type": "Task",
            "Resource": "arn:aws:states:::ecs:runTask.sync",
            "Arguments": {"Cluster": CLUSTER, "TaskDefinition": definition, "LaunchType": "FARGATE"},
            "End": True,
        }
        machine = self.states.create_state_machine(
            name=definition.replace(":", "-"),
            definition=json.dumps({"QueryLanguage": "JSONata", "StartAt": "Run", "States": {"Run": state}}),
            roleArn=ROLE,
        )["stateMachineArn"]
        execution = self.states.start_execution(stateMachineArn=machine)["executionArn"]

        def look() -> Any:
            described = self.states.describe_execution(executionArn=execution)
            return described if described["status"] != "RUNNING" else None

        return dict(eventually(look, 30, lambda: "the execution still runs"))


@pytest.fixture(scope="module")
def ecs(aws: EmbeddedAws, engine: DockerEngine) -> Ecs:
    """ECS as the application gets it."""
    return Ecs(aws, engine)


@pytest.fixture(scope="module")
def bare(engine: DockerEngine) -> Iterator[Ecs]:
    """MiniStack's ECS, but that containers are started as defined: else none of these programs would run."""
    gaps = ("ecs_task_starts", "ecs_task_ends", "ecs_task_addresses", "ecs_task_surroundings", "run_task_sync")
    open_ = [word for gap in gaps for word in ("--without", gap)]
    with serving("--docker", engine.address, *open_) as server:
        yield Ecs(server, engine)


# --- ecs_containers --------------------------------------------------------------------------------------------------


def _entry_point_and_memory(ecs: Ecs) -> tuple[Any, int]:
    arn = ecs.run(ecs.container(*DEAF, stopTimeout=1, memory=64))
    ecs.is_now(arn, "RUNNING")
    [container] = ecs.left(arn)
    ecs.client.stop_task(cluster=CLUSTER, task=arn)
    return container["Config"]["Entrypoint"], container["HostConfig"]["Memory"]


def test_a_container_has_its_own_entry_point_and_limit_of_memory(ecs: Ecs) -> None:
    assert _entry_point_and_memory(ecs) == (["/bin/sleep"], 64 << 20)


def test_bare_a_container_has_its_images_entry_point_and_no_limit(engine: DockerEngine) -> None:
    with serving("--docker", engine.address, "--bare") as server:
        assert _entry_point_and_memory(Ecs(server, engine)) == (["/lambda-entrypoint.sh"], 0)


# --- ecs_task_starts -------------------------------------------------------------------------------------------------


def _stopped_without_image(ecs: Ecs) -> dict[str, Any]:
    return ecs.is_now(ecs.run(ecs.container("/bin/true", image=f"{REGISTRY_OF_NOBODY}/gap:1")), "STOPPED")


def test_a_task_without_its_image_says_so(ecs: Ecs) -> None:
    task = _stopped_without_image(ecs)
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError: ")
    assert "exitCode" not in task["containers"][0]


def test_bare_a_task_without_its_image_says_something_else(bare: Ecs) -> None:
    assert _stopped_without_image(bare)["stoppedReason"].startswith("ResourceInitializationError: ")


def test_a_container_that_cannot_be_started_is_not_left_behind(ecs: Ecs) -> None:
    arn = ecs.run(ecs.container("/no/such/program"))
    assert ecs.is_now(arn, "STOPPED")["stoppedReason"].startswith("CannotStartContainerError: ")
    assert ecs.left(arn) == []


def test_bare_a_container_that_cannot_be_started_is_left_behind(bare: Ecs) -> None:
    arn = bare.run(bare.container("/no/such/program"))
    assert bare.is_now(arn, "STOPPED")["stoppedReason"].startswith("ResourceInitializationError: ")
    [container] = bare.left(arn)
    assert container["State"]["Status"] == "created"


# --- ecs_task_ends ---------------------------------------------------------------------------------------------------


def _stop(ecs: Ecs) -> tuple[float, str, list[int | None]]:
    """How many seconds StopTask takes, what it says of the task, and the exit codes in the end."""
    arn = ecs.run(ecs.container(*DEAF, stopTimeout=2))
    ecs.is_now(arn, "RUNNING")
    begun = time.monotonic()
    task = ecs.client.stop_task(cluster=CLUSTER, task=arn)["task"]
    return time.monotonic() - begun, task["lastStatus"], ecs.exit_codes(arn)


def test_a_task_that_is_stopped_stops_when_its_containers_have(ecs: Ecs) -> None:
    seconds, status, codes = _stop(ecs)
    assert (status, codes) == ("RUNNING", [137])
    assert seconds < 2


def test_bare_a_task_that_is_stopped_has_ended_well_at_once(bare: Ecs) -> None:
    seconds, status, codes = _stop(bare)
    assert (status, codes) == ("STOPPED", [0])
    assert seconds > 4


def _killed_for_its_memory(ecs: Ecs) -> dict[str, Any]:
    program = ("/usr/bin/python3", "-c", "bytearray(256 << 20)")
    [container] = ecs.is_now(ecs.run(ecs.container(*program, memory=32)), "STOPPED")["containers"]
    return dict(container)


def test_a_container_that_was_killed_for_its_memory_says_so(ecs: Ecs) -> None:
    container = _killed_for_its_memory(ecs)
    assert (container["exitCode"], container["reason"].split(":")[0]) == (137, "OutOfMemoryError")


def test_bare_a_container_that_was_killed_for_its_memory_says_no_more_than_137(bare: Ecs) -> None:
    container = _killed_for_its_memory(bare)
    assert container["exitCode"] == 137
    assert "reason" not in container


def _with_sidecar(ecs: Ecs) -> str:
    sidecar = ecs.container(*DEAF, name="router", essential=False, stopTimeout=1)
    return ecs.run(ecs.container("/bin/sh", "-c", "exit 3"), sidecar)


def test_a_tasks_other_containers_end_with_an_essential_one(ecs: Ecs) -> None:
    arn = _with_sidecar(ecs)
    assert ecs.exit_codes(arn) == [3, 137]
    eventually(lambda: not ecs.left(arn), 10, lambda: "a container is still there")


def test_bare_a_tasks_other_containers_run_on(bare: Ecs) -> None:
    arn = _with_sidecar(bare)
    assert bare.exit_codes(arn) == [3, 3]
    assert [each["State"]["Status"] for each in bare.left(arn)].count("running") == 1


# --- ecs_task_addresses ----------------------------------------------------------------------------------------------

SERVER = ("/usr/bin/python3", "-m", "http.server", "8080")


def _address(task: dict[str, Any]) -> str:
    [attachment] = task["attachments"]
    return str(next(each["value"] for each in attachment["details"] if each["name"] == "privateIPv4Address"))


def test_a_tasks_ports_are_open_on_its_own_address(ecs: Ecs) -> None:
    arn = ecs.run(ecs.container(*SERVER, portMappings=[{"containerPort": 8080}], stopTimeout=1))
    address = _address(ecs.is_now(arn, "RUNNING"))
    assert eventually(lambda: _answers(f"http://{address}:8080"), 20, lambda: f"{address} does not answer") == 200
    ecs.client.stop_task(cluster=CLUSTER, task=arn)
    ecs.is_now(arn, "STOPPED")


def test_bare_a_task_has_the_address_of_its_container(bare: Ecs) -> None:
    arn = bare.run(bare.container(*SERVER, portMappings=[{"containerPort": 8080}]))
    address = _address(bare.is_now(arn, "RUNNING"))
    assert not address.startswith("127.")
    bare.client.stop_task(cluster=CLUSTER, task=arn)


def _answers(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - a server of the test
            return int(response.status)
    except OSError:
        return 0


def test_a_services_containers_are_replaced_and_go_with_it(ecs: Ecs) -> None:
    # GIVEN a service of one container
    server = ecs.container(*SERVER, portMappings=[{"containerPort": 8080}], stopTimeout=1)
    definition = define(ecs.server, server, family="gap-service")
    ecs.client.create_service(
        cluster=CLUSTER, serviceName="gap", taskDefinition=definition, launchType="FARGATE", desiredCount=1,
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    )  # fmt: skip

    def service() -> Any:
        return ecs.client.describe_services(cluster=CLUSTER, services=["gap"])["services"][0]

    def serving() -> Any:
        arns = ecs.client.list_tasks(cluster=CLUSTER, serviceName="gap")["taskArns"]
        return arns if service()["deployments"][0]["rolloutState"] == "COMPLETED" and len(arns) == 1 else None

    [first] = eventually(serving, 60, lambda: str(service()))
    # WHEN it is stopped
    ecs.client.stop_task(cluster=CLUSTER, task=first)
    # THEN another one takes its place
    ecs.is_now(first, "STOPPED")
    [second] = eventually(serving, 60, lambda: str(service()))
    assert ecs.is_now(second, "RUNNING")["startedBy"] == service()["deployments"][0]["id"]
    # AND goes with the service
    ecs.client.delete_service(cluster=CLUSTER, service="gap", force=True)
    eventually(lambda: service()["status"] == "INACTIVE", 30, lambda: str(service()))
    eventually(lambda: not ecs.left(second), 10, lambda: "a container is still there")


# --- ecs_task_surroundings -------------------------------------------------------------------------------------------

ASKING = """
import json, os, urllib.request
try:
    with urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + "/task", timeout=5) as answer:
        family = json.load(answer)["Family"]
except OSError:
    raise SystemExit(3)
raise SystemExit(family != os.environ["FAMILY"] or not os.environ["AWS_ACCESS_KEY_ID"].startswith("ASIA"))
"""


def _asks_for_its_metadata(ecs: Ecs) -> list[int | None]:
    """The exit code of a container that does: 3 if it cannot reach it."""
    family = f"gap-{uuid.uuid4().hex[:8]}"
    own = ecs.container("/usr/bin/python3", "-c", ASKING, environment=[{"name": "FAMILY", "value": family}])
    ecs.client.register_task_definition(
        family=family, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
        taskRoleArn=ROLE, containerDefinitions=[own],
    )  # fmt: skip
    started = ecs.client.run_task(cluster=CLUSTER, taskDefinition=family, launchType="FARGATE")
    return ecs.exit_codes(started["tasks"][0]["taskArn"])


def test_a_container_finds_its_task_and_its_role(ecs: Ecs) -> None:
    assert _asks_for_its_metadata(ecs) == [0]


def test_bare_a_container_cannot_reach_its_metadata(bare: Ecs) -> None:
    assert _asks_for_its_metadata(bare) == [3]


# --- run_task_sync ---------------------------------------------------------------------------------------------------


def test_a_task_that_is_waited_for_is_the_result(ecs: Ecs) -> None:
    ended = ecs.run_in_a_state(ecs.container("/bin/sh", "-c", "sleep 0.2"))
    task = json.loads(ended["output"])
    assert (task["StopCode"], task["StartedBy"]) == ("EssentialContainerExited", "AWS Step Functions")
    assert [(each["Name"], each["ExitCode"]) for each in task["Containers"]] == [("app", 0)]
    assert task["StoppedAt"] - task["StartedAt"] >= 200


def test_a_task_that_fails_fails_its_state(ecs: Ecs) -> None:
    ended = ecs.run_in_a_state(ecs.container("/bin/sh", "-c", "exit 3"))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.TaskFailed")
    assert json.loads(ended["cause"])["Containers"][0]["ExitCode"] == 3


def test_a_task_that_cannot_start_fails_its_state(ecs: Ecs) -> None:
    ended = ecs.run_in_a_state(ecs.container("/bin/true", image=f"{REGISTRY_OF_NOBODY}/gap:1"))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(ended["cause"])
    assert cause["StopCode"] == "TaskFailedToStart"
    assert "ExitCode" not in cause["Containers"][0]


def test_bare_a_task_that_fails_is_a_success(bare: Ecs) -> None:
    ended = bare.run_in_a_state(bare.container("/bin/sh", "-c", "exit 3"))
    assert ended["status"] == "SUCCEEDED"
    assert json.loads(ended["output"])["tasks"][0]["containers"][0]["exitCode"] == 3


# --- The server's end ------------------------------------------------------------------------------------------------


def test_the_containers_of_tasks_end_with_the_embedded_aws(engine: DockerEngine) -> None:
    with serving("--docker", engine.address) as server:
        ecs = Ecs(server, engine)
        arn = ecs.run(ecs.container(*DEAF))
        ecs.is_now(arn, "RUNNING")
        assert len(ecs.left(arn)) == 1
    assert ecs.left(arn) == []
