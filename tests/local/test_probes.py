"""Every probe of ``make probe-aws`` ends on the embedded AWS and leaves nothing. Its answers are not AWS's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from emulator.server import ROOT
from tests.local.clients import eventually
from tests.local.patience import patient
from tools.probes.account import Account, Journal
from tools.probes.questions import PROBES
from tools.probes.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.server import EmbeddedAws
    from tools.probes.run import Outcome, Result

pytestmark = pytest.mark.embedded

SIDE_BY_SIDE = 6
LONGEST_WAIT = 15
"""In seconds; nothing here takes minutes."""

MAY_BE_UNCLEAR = {
    "states-can-be-tested": "TestState has a host name of its own, which an endpoint on loopback cannot have",
    "digits-of-entered-time": "no state may have been entered on a whole second",
    "error-of-start-execution": "Step Functions' own calls need no right",
    "error-of-put-events": "Step Functions' own calls need no right",
    "error-of-stop-execution": "Step Functions' own calls need no right",
    "large-result-is-caught": "a result may be of any size",
    "bus-queue-for-own-account": "a bus does not use its key, so nothing falls into its queue",
    "bus-queue-for-own-bus": "a bus does not use its key, so nothing falls into its queue",
    "image-digest": "a function from an image has no CodeSha256",
    "role-of-run-task": "a task needs Docker",
}
"""Probes without an answer here, with the reason. Every other one says yes or no."""


@pytest.fixture(scope="module")
def outcomes(embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """All probes, in a few runs side by side."""
    folder, probes = tmp_path_factory.mktemp("probes"), list(PROBES.values())

    def ask(number: int) -> Outcome:
        run = f"{number:06x}"
        account = Account(session_of(embedded_aws), run, Journal(folder / run / "journal.jsonl"))
        run_of = Run(account, say=lambda _: None, longest_wait=LONGEST_WAIT, options={"subnet": "subnet-1"})
        return run_of.ask(probes[number::SIDE_BY_SIDE])

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        # Roles are assumed by sessions that the probes make themselves.
        patch.setenv("AWS_ENDPOINT_URL", embedded_aws.endpoint_url)
        return list(threads.map(ask, range(SIDE_BY_SIDE)))


def session_of(aws: EmbeddedAws) -> boto3.Session:
    environment = aws.environment()
    return boto3.Session(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=environment["AWS_REGION"]
    )


@pytest.fixture(scope="module")
def results(outcomes: list[Outcome]) -> dict[str, Result]:
    return {result.probe.id: result for outcome in outcomes for result in outcome.results}


@pytest.mark.parametrize("probe", PROBES)
def test_probe_ends_with_an_answer(probe: str, results: dict[str, Result]) -> None:
    answer = results[probe].answer

    assert answer.verdict != "unclear" or probe in MAY_BE_UNCLEAR, answer.raw


def test_probes_leave_nothing(outcomes: list[Outcome], embedded_aws: EmbeddedAws) -> None:
    for outcome in outcomes:
        assert (outcome.left, outcome.unchecked, outcome.interrupted) == ({}, "", False)
    assert leftovers(embedded_aws) == []


def leftovers(aws: EmbeddedAws) -> list[str]:
    """What exists with a probe's name, whatever its tags."""
    listed = [
        aws.client("lambda").list_functions()["Functions"],
        aws.client("sqs").list_queues(),
        aws.client("sns").list_topics()["Topics"],
        aws.client("dynamodb").list_tables()["TableNames"],
        aws.client("iam").list_roles(PathPrefix="/headgate-probe/")["Roles"],
        aws.client("stepfunctions").list_state_machines()["stateMachines"],
        aws.client("events").list_event_buses()["EventBuses"],
        aws.client("ecr").describe_repositories()["repositories"],
        aws.client("ecs").list_clusters()["clusterArns"],
        aws.client("logs").describe_log_groups()["logGroups"],
        aws.client("lambda").list_event_source_mappings()["EventSourceMappings"],
    ]
    return sorted(set(re.findall(r"headgate-probe-[\w-]+", json.dumps(listed, default=str))))


def until_it_creates(aws: EmbeddedAws) -> None:
    """Wait until a probe has created a role and a function: its own wait, which the test interrupts, has begun."""
    functions = aws.client("lambda")
    # With one client and one request, unlike ``leftovers``: on a busy machine, the probe would end in between.
    assert eventually(lambda: "headgate-probe-" in str(functions.list_functions()["Functions"]))


# The command, as `make probe-aws` runs it


@pytest.fixture
def started(embedded_aws: EmbeddedAws, tmp_path: Path) -> Iterator[Any]:
    """Starts the command with a profile of the embedded AWS; ends what still runs."""
    config, given = tmp_path / "config", embedded_aws.environment()
    config.write_text(
        f"[profile embedded]\nregion = {given['AWS_REGION']}\nendpoint_url = {embedded_aws.endpoint_url}\n"
        f"aws_access_key_id = {given['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {given['AWS_SECRET_ACCESS_KEY']}\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.probes", "--profile", "embedded", *arguments],
            cwd=ROOT,
            env=inherited | {"AWS_CONFIG_FILE": str(config), "PYTHONPATH": "layers/headgate/python:cli:."},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in (each for each in processes if each.poll() is None):
        process.kill()
        process.communicate()


def test_command_answers_and_leaves_nothing(started: Any, embedded_aws: EmbeddedAws) -> None:
    process = started("--only", "weight-decimals,or-with-prefixes,requester-by-all-values", "--yes")
    told, _ = process.communicate(timeout=patient(60))

    assert process.returncode == 0, told
    assert told.count("yes (as assumed)") == 3
    assert "Nothing is left in the account." in told
    assert leftovers(embedded_aws) == []


def test_command_creates_nothing_without_a_yes(started: Any, embedded_aws: EmbeddedAws) -> None:
    process = started("--only", "weight-decimals")
    told, _ = process.communicate(timeout=patient(60))

    assert process.returncode == 2
    assert "YES=1 (--yes) is missing" in told
    assert leftovers(embedded_aws) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_command_deletes_what_it_created_when_it_is_interrupted(
    started: Any, embedded_aws: EmbeddedAws, how: signal.Signals
) -> None:
    process = started("--only", "metrics-of-one-version", "--yes")
    until_it_creates(embedded_aws)

    process.send_signal(how)
    told, _ = process.communicate(timeout=patient(60))

    assert process.returncode == 2
    assert "Interrupted" in told
    assert leftovers(embedded_aws) == []


def test_clean_deletes_what_a_killed_command_left(started: Any, embedded_aws: EmbeddedAws) -> None:
    killed = started("--only", "metrics-of-one-version", "--yes")
    until_it_creates(embedded_aws)
    killed.kill()
    told, _ = killed.communicate()
    time.sleep(0.5)  # A call that was on its way is over.
    (run,) = re.findall(r"^Run ([0-9a-f]{6}):", told, re.MULTILINE)

    cleaning = started("--clean", run)
    told, _ = cleaning.communicate(timeout=patient(60))

    assert cleaning.returncode == 0, told
    assert leftovers(embedded_aws) == []
