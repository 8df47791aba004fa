"""``headgate task`` and ``headgate redrive`` as a user runs them. There is no engine here: no task ends by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.local.ecs_jobs import CLUSTER, NETWORK, Jobs

if TYPE_CHECKING:
    from tests.local.commands import Command
    from tests.local.deployed import Headgate


@pytest.fixture(scope="module")
def migrate(headgate: Headgate) -> str:
    """A task definition of one container."""
    jobs = Jobs(headgate)
    return jobs.define(jobs.container("true"))


@pytest.fixture
def dead_letters(headgate: Headgate) -> tuple[str, str]:
    """The names of a dead-letter queue that holds three messages, and of the queue that they came from."""
    sqs, name = headgate.aws.client("sqs"), headgate.new_id()
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})
    for number in range(3):
        sqs.send_message(QueueUrl=dead, MessageBody=f"order {number}")
    return f"{name}-dead", name


def depth(headgate: Headgate, queue: str) -> int:
    sqs = headgate.aws.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    return int(found["ApproximateNumberOfMessages"])


def test_a_redrive_looks_first_and_then_moves(
    command: Command, headgate: Headgate, dead_letters: tuple[str, str]
) -> None:
    dead, queue = dead_letters
    # WHEN it only looks
    looked = command("redrive", "run", "--from", dead, "--dry-run")
    # THEN nothing was moved
    assert (looked.code, f"{dead}: about 3 messages" in looked.out) == (0, True), looked
    assert depth(headgate, queue) == 0
    # AND without somebody to ask, it does not begin
    alone = command("redrive", "run", "--from", dead)
    assert (alone.code, "give --yes, or --dry-run" in alone.err) == (2, True), alone

    # WHEN it need not ask
    redrive_id = headgate.new_id()
    moved = command("redrive", "run", "--from", dead, "--yes", "--id", redrive_id, "--never-stop")
    # THEN everything was moved
    assert moved.code == 0, moved
    assert "moved 3" in moved.out
    assert depth(headgate, queue) == 3

    assert f"{dead}: about 3 messages" in moved.out

    # AND it is on record, with its own dry run and the one before it
    shown = command("redrive", "show", redrive_id, "--format", "json").json
    assert (shown["status"], shown["result"]["moved"], shown["request"]["from"]) == ("succeeded", 3, {"queue": dead})
    listed = [job for job in command("redrive", "list", "--format", "json").json["jobs"] if job["subject"] == dead]
    assert [job["id"] for job in listed][:1] == [redrive_id]
    assert len(listed) == 3


def test_a_redrive_that_headgate_refuses_has_an_exit_code_of_its_own(command: Command) -> None:
    done = command("redrive", "run", "--from", "there-is-no-such-queue", "--dry-run")
    assert (done.code, "there-is-no-such-queue" in done.out) == (4, True), done


def test_a_task_is_run_shown_and_stopped(command: Command, headgate: Headgate, migrate: str) -> None:
    task_id = headgate.new_id()
    [subnet] = NETWORK["subnets"]
    where = ("--cluster", CLUSTER, "--launch-type", "FARGATE", "--subnet", subnet)
    begun = command("task", "run", migrate, "--id", task_id, *where, "--no-wait", "--", "migrate", "--to", "42")
    assert begun.code == 0, begun
    assert f"Task {task_id} runs." in begun.out

    waited = command("task", "run", migrate, "--id", task_id, *where, "--timeout", "1s", "--", "migrate", "--to", "42")
    assert (waited.code, "It still runs after 1 s" in waited.err) == (6, True), waited

    shown = command("task", "show", task_id, "--format", "json").json
    assert shown["status"] == "running"
    [override] = shown["request"]["overrides"]["containers"].values()
    assert override == {"command": ["migrate", "--to", "42"]}

    stopped = command("task", "stop", task_id, "--yes", "--reason", "wrong database")
    assert (stopped.code, f"Task {task_id} is stopped." in stopped.out) == (0, True), stopped
    again = command("task", "stop", task_id, "--yes")
    assert (again.code, "wrong database" in again.err) == (1, True), again
    listed = command("task", "list", "--format", "json").json["jobs"]
    assert {job["id"]: job["status"] for job in listed}[task_id] == "stopped"


def test_a_task_that_headgate_refuses_has_an_exit_code_of_its_own(command: Command, migrate: str) -> None:
    done = command("task", "run", migrate, "--cluster", CLUSTER, "--container", "web", "--", "true")
    assert (done.code, "overrides.containers.web" in done.out) == (4, True), done
