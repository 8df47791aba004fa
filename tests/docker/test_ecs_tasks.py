"""ECS tasks that Headgate runs to their end, as containers: what ran, how it ended, and that nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.local.deployed import eventually
from tests.local.ecs_jobs import REGISTRY_OF_NOBODY

if TYPE_CHECKING:
    from emulator.server import EmbeddedAws
    from tests.local.deployed import Headgate, Service
    from tests.local.ecs_jobs import Jobs
    from tools.docker_engine import DockerEngine

AT_ONCE = {"initialSeconds": 1, "rate": 1}
DEAF = "sleep 600"
"""Process 1 of a container gets no signal that it does not handle: only SIGKILL ends this one, after stopTimeout."""

TAKE_ONE_MESSAGE = """
import os, sys
sys.path.insert(0, "/var/runtime")
import boto3
queue = os.environ["QUEUE"]
sqs = boto3.client("sqs", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
messages = sqs.receive_message(QueueUrl=queue).get("Messages", [])
for message in messages:
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    print("took", message["Body"], flush=True)
sys.exit(3 if messages else 0)
"""
"""Fails as long as there is something to do: what it does outside survives the container."""


@pytest.fixture
def left(engine: DockerEngine) -> Any:
    """The containers that Docker still has of a task, in whatever state."""

    def of(task_arn: str) -> list[str]:
        with engine.connected() as client:
            labels = {"label": f"com.amazonaws.ecs.task-arn={task_arn}"}
            return [each.name for each in client.containers.list(all=True, filters=labels, ignore_removed=True)]

    return of


def test_a_task_that_succeeds_is_told_with_its_exit_code_and_durations(jobs: Jobs, left: Any) -> None:
    told, attempt = jobs.ended_alone(jobs.run("echo migrated; sleep 1"))

    assert (told["outcome"], told["error"], told["succeeded"]) == ("succeeded", "", 1)
    assert attempt["exitCodes"] == {"app": 0}
    assert 1 <= attempt["runSeconds"] < 20
    assert 0 < attempt["startSeconds"] < 20
    assert (attempt["stopCode"], attempt["statusReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert jobs.written(attempt["taskArn"]) == ["migrated"]
    assert jobs.execution(told)["status"] == "SUCCEEDED"
    eventually(lambda: not left(attempt["taskArn"]), 10, lambda: "its container is still there")


def test_a_task_that_fails_is_told_with_its_last_words(jobs: Jobs) -> None:
    told, attempt = jobs.ended_alone(jobs.run("echo connecting; echo no such database >&2; exit 4"))

    assert (told["outcome"], told["error"]) == ("exited", "TaskExitedNonZero")
    assert told["reason"] == attempt["reason"] == "container app exited with 4"
    [log] = told["tasks"][0]["logs"]
    assert sorted(log["lines"]) == ["connecting", "no such database"]
    execution = jobs.execution(told)
    assert (execution["status"], execution["error"]) == ("FAILED", "TaskExitedNonZero")


def test_a_request_overrides_what_a_container_runs(jobs: Jobs) -> None:
    definition = jobs.define(jobs.container("exit 4"))
    override = {"app": {"command": ['exit "$CODE"'], "environment": {"CODE": "5"}}}

    told = jobs.ended(jobs.request(definition, overrides={"containers": override}))

    assert told["reason"] == "container app exited with 5"


def test_a_task_is_run_again_by_rule_until_it_succeeds(
    jobs: Jobs, headgate: Headgate, engine: DockerEngine, aws: EmbeddedAws
) -> None:
    queue = headgate.queues.create_queue(QueueName=headgate.new_id())["QueueUrl"]
    headgate.queues.send_message(QueueUrl=queue, MessageBody="parcel")
    python = {"entryPoint": ["/usr/bin/python3", "-c"]}
    retry = {
        "attempts": 3,
        "evaluateOnExit": [{"onExitCode": "3", "action": "RETRY"}, {"onExitCode": "*", "action": "EXIT"}],
    }
    with engine.passage(aws.port) as endpoint:
        environment = {
            "ENDPOINT": endpoint,
            "QUEUE": queue,
            "AWS_ACCESS_KEY_ID": "000000000000",
            "AWS_SECRET_ACCESS_KEY": "embedded",
        }
        overrides = {"containers": {"app": {"environment": environment}}}
        task_id = jobs.run(TAKE_ONE_MESSAGE, container=python, retry=retry, backoff=AT_ONCE, overrides=overrides)
        told = jobs.ended(task_id)

    first, second = told["tasks"][0]["attempts"]
    assert (first["outcome"], first["exitCodes"]) == ("exited", {"app": 3}), jobs.written(first["taskArn"])
    assert first["next"] == "retry.evaluateOnExit[0] has the action RETRY"
    assert (second["outcome"], second["exitCodes"], second["attempt"]) == ("succeeded", {"app": 0}, 2)
    assert first["taskArn"] != second["taskArn"]
    assert jobs.written(first["taskArn"]) == ["took parcel"]
    assert told["outcome"] == "succeeded"


def test_a_task_that_goes_on_failing_is_run_no_more_often_than_asked_for(jobs: Jobs) -> None:
    retry = {"attempts": 2, "evaluateOnExit": [{"onExitCode": "3", "action": "RETRY"}]}

    told, last = jobs.ended_alone(jobs.run("exit 3", retry=retry, backoff=AT_ONCE))

    assert (told["outcome"], len(told["tasks"][0]["attempts"])) == ("exited", 2)
    assert (last["exitCodes"], last["next"]) == ({"app": 3}, "this was attempt 2 of 2")


def test_an_exit_code_that_a_rule_ends_at_is_not_tried_again(jobs: Jobs) -> None:
    retry = {"attempts": 3, "evaluateOnExit": [{"onExitCode": "2", "action": "EXIT"}]}

    told, only = jobs.ended_alone(jobs.run("exit 2", retry=retry, backoff=AT_ONCE))

    assert (len(told["tasks"][0]["attempts"]), only["next"]) == (1, "retry.evaluateOnExit[0] has the action EXIT")


def test_a_task_that_takes_too_long_is_stopped_and_its_container_is_gone(jobs: Jobs, left: Any) -> None:
    task_id = jobs.run(DEAF, container={"stopTimeout": 2}, timeoutSeconds=5, retry={"attempts": 3})
    arn = jobs.running(task_id)["taskArn"]
    assert len(left(arn)) == 1

    told, attempt = jobs.ended_alone(task_id)

    assert (told["outcome"], told["error"]) == ("timed-out", "TaskTimedOut")
    assert (attempt["attempt"], attempt["next"]) == (1, "a task that timed out does not run again")
    task = jobs.stopped(arn)
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("UserInitiated", 137)
    assert task["stoppedReason"] == "Headgate: attempt 1 of task 1 ended with States.Timeout"
    eventually(lambda: not left(arn), 10, lambda: "its container is still there")


def test_a_task_whose_image_cannot_be_pulled_could_not_start(jobs: Jobs, left: Any) -> None:
    rules = [
        {"onExitCode": "*", "action": "RETRY"},
        {"onStatusReason": "CannotPullContainerError*", "action": "EXIT"},
    ]
    image = {"image": f"{REGISTRY_OF_NOBODY}/jobs:1"}

    told, attempt = jobs.ended_alone(
        jobs.run("exit 0", container=image, retry={"attempts": 3, "evaluateOnExit": rules}, backoff=AT_ONCE)
    )

    assert (told["outcome"], told["error"]) == ("could-not-start", "TaskCouldNotStart")
    assert told["reason"].startswith("CannotPullContainerError: ")
    assert (attempt["stopCode"], attempt["exitCodes"]) == ("TaskFailedToStart", {})
    # It has no exit code, so the first rule says nothing of it.
    assert (attempt["attempt"], attempt["next"]) == (1, "retry.evaluateOnExit[1] has the action EXIT")
    assert "runSeconds" not in attempt
    assert left(attempt["taskArn"]) == []


def test_a_task_whose_program_is_missing_could_not_start(jobs: Jobs, left: Any) -> None:
    told, attempt = jobs.ended_alone(jobs.run("", container={"entryPoint": ["/no/such/program"]}))

    assert told["outcome"] == "could-not-start"
    assert told["reason"].startswith("CannotStartContainerError: ")
    assert left(attempt["taskArn"]) == []


def test_a_task_that_needs_too_much_memory_is_told_apart(jobs: Jobs) -> None:
    greedy = {"entryPoint": ["/usr/bin/python3", "-c"], "memory": 32}

    told, attempt = jobs.ended_alone(jobs.run("bytearray(256 << 20)", container=greedy))

    assert (told["outcome"], told["error"]) == ("out-of-memory", "TaskOutOfMemory")
    assert (attempt["exitCodes"], attempt["containers"][0]["reason"]) == (
        {"app": 137},
        "OutOfMemoryError: Container killed due to memory usage",
    )


def test_a_task_ends_with_the_execution_that_is_stopped(jobs: Jobs, headgate: Headgate, left: Any) -> None:
    task = jobs.running(jobs.run(DEAF, container={"stopTimeout": 1}))
    assert len(left(task["taskArn"])) == 1

    execution = task["tags"]["headgate:execution"]
    headgate.states.stop_execution(executionArn=execution, cause="the test has seen enough")

    stopped = jobs.stopped(task["taskArn"])
    assert (stopped["stopCode"], stopped["containers"][0]["exitCode"]) == ("UserInitiated", 137)
    eventually(lambda: not left(task["taskArn"]), 10, lambda: "its container is still there")
    assert headgate.states.describe_execution(executionArn=execution)["status"] == "ABORTED"


def test_a_task_that_somebody_stops_was_stopped_and_not_run_again(jobs: Jobs) -> None:
    task_id = jobs.run("trap 'exit 143' TERM; sleep 600 & wait", retry={"attempts": 3})
    task = jobs.running(task_id)

    jobs.ecs.stop_task(cluster=task["clusterArn"], task=task["taskArn"], reason="by hand")

    told, attempt = jobs.ended_alone(task_id)
    assert (told["outcome"], told["reason"]) == ("stopped", "by hand")
    assert (attempt["attempt"], attempt["exitCodes"]) == (1, {"app": 143})


def test_a_sidecar_goes_with_its_task_and_does_not_decide(jobs: Jobs, left: Any) -> None:
    sidecar = jobs.container(DEAF, "router", essential=False, stopTimeout=1)

    told, attempt = jobs.ended_alone(jobs.request(jobs.define(jobs.container("sleep 1"), sidecar)))

    assert told["outcome"] == "succeeded"
    assert attempt["exitCodes"] == {"app": 0, "router": 137}
    eventually(lambda: not left(attempt["taskArn"]), 10, lambda: "a container is still there")


def test_of_a_count_each_task_is_followed_on_its_own(jobs: Jobs) -> None:
    told = jobs.ended(jobs.run("sleep 1", count=2))

    assert (told["outcome"], told["succeeded"]) == ("succeeded", 2)
    arns = {task["attempts"][0]["taskArn"] for task in told["tasks"]}
    numbers = [{tag["key"]: tag["value"] for tag in jobs.describe(arn)["tags"]}["headgate:number"] for arn in arns]
    assert sorted(numbers) == ["1", "2"]


# --- As a rollout's hook ---------------------------------------------------------------------------------------------

CANARY = {"canary": {"percent": 10, "bakeSeconds": 1}}


def hook_of(jobs: Jobs, script: str, **fields: Any) -> dict[str, Any]:
    return {"ecsTask": jobs.detail(jobs.define(jobs.container(script))), "timeoutSeconds": 60, **fields}


def test_a_container_that_fails_as_a_hook_rolls_the_rollout_back(
    headgate: Headgate, service: Service, jobs: Jobs
) -> None:
    # GIVEN a smoke test in a container, which is told what it tests
    script = 'test "$HEADGATE_CANDIDATE $HEADGATE_STABLE $HEADGATE_STAGE" = "2 1 beforeTraffic" && exit 3'
    # WHEN it fails before any traffic
    rollout = headgate.request(
        target=service.target,
        candidate={"version": "2"},
        strategy=CANARY,
        hooks={"beforeTraffic": [hook_of(jobs, script)]},
    )
    # THEN nothing was shifted, and the reason says how it ended
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back"
    assert "container app exited with 3" in record["reason"]
    assert service.serving[:2] == ("1", {})
    assert "Shift" not in headgate.entered(record)


def test_containers_that_succeed_as_hooks_let_the_rollout_pass(
    headgate: Headgate, service: Service, jobs: Jobs
) -> None:
    hooks = {stage: [hook_of(jobs, "exit 0")] for stage in ("beforeTraffic", "afterStep", "afterTraffic")}
    rollout = headgate.request(target=service.target, candidate={"version": "2"}, strategy=CANARY, hooks=hooks)
    assert headgate.ended(rollout, 90)["status"] == "succeeded"
    assert service.serving[:2] == ("2", {})


def test_a_hook_whose_time_is_over_leaves_no_container(
    headgate: Headgate, service: Service, jobs: Jobs, engine: DockerEngine
) -> None:
    rollout = headgate.request(
        target=service.target,
        candidate={"version": "2"},
        strategy=CANARY,
        hooks={"beforeTraffic": [hook_of(jobs, DEAF, timeoutSeconds=8)]},
    )
    record = headgate.ended(rollout, 90)
    assert (record["status"], service.serving[:2]) == ("rolled-back", ("1", {}))
    label = {"label": "com.amazonaws.ecs.task-arn"}

    def running() -> list[Any]:
        with engine.connected() as client:
            return list(client.containers.list(filters=label, ignore_removed=True))

    eventually(lambda: not running(), 60, lambda: f"{running()} still run")
