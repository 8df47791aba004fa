"""The GitHub Action and the pipeline of CodePipeline, against the deployed application."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from cfnlint.decode import cfn_yaml

from emulator.server import REGION
from tests.builders import ROOT
from tests.composite import Action
from tests.docs.pages import blocks
from tests.local.callers import Caller, make_role_session
from tests.local.deployed import BAD_HOOK, steps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

SHORT = json.dumps(steps((25, 1)))


@pytest.fixture(scope="module")
def pipeline(headgate: Headgate) -> Caller:
    """A session of the role that the page describes: it may do what its policy says, and no more."""
    page = (ROOT / "docs" / "pipelines.md").read_text("utf-8")
    (policy,) = [block.body for block in blocks("pipelines.md", page) if block.title == "IAM policy"]
    ours = {
        "eu-central-1": REGION,
        "123456789012": "000000000000",
        "event-bus/headgate": f"event-bus/{headgate.outputs['BusName']}",
    }
    for theirs, name in ours.items():
        policy = policy.replace(theirs, name)
    return make_role_session(headgate.aws, "pipeline", *json.loads(policy)["Statement"])


@pytest.fixture
def action(command: Command, pipeline: Caller, tmp_path: Path) -> Action:
    """The action in a job that has credentials of the role."""
    keys = {name.upper(): key for name, key in pipeline.keys.items()}
    return Action(tmp_path, {**command.environment, **keys})


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """The command of this checkout, as a program."""
    program = tmp_path / "headgate"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m headgate_cli "$@"\n', "utf-8")
    program.chmod(0o755)
    return str(program)


def test_the_action_ends_as_the_rollout_does(
    action: Action, installed: str, headgate: Headgate, service: Service
) -> None:
    target = f"{service.function}:{service.alias}"
    # WHEN a good version is rolled out, THEN the step passes, and says what serves
    good = action(command=installed, target=target, version="2", strategy=SHORT, arguments="--no-guards")
    assert good.code == 0, good.log
    rollout_id = good.outputs["rollout-id"]
    assert good.outputs == {"rollout-id": rollout_id, "outcome": "promoted", "version": "2"}
    assert headgate.record(rollout_id)["status"] == "succeeded"
    # AND the summary is the report
    assert good.summary.startswith(f"## ✓ {rollout_id}: promoted\n"), good.summary

    # WHEN a hook is against the next one, THEN the step fails, and the earlier version serves
    hook = headgate.make_hook(BAD_HOOK)
    version = service.publish()
    bad = action(command=installed, target=target, version=version, arguments=f"--no-guards\n--before-traffic\n{hook}")
    assert bad.code == 3, bad.log
    assert (bad.outputs["outcome"], bad.outputs["version"]) == ("rolled-back", "2")
    assert "::error title=Headgate::" in bad.log
    assert "does not add up" in bad.summary
    assert service.serving.version == "2"


def test_a_cancelled_run_takes_the_traffic_back(
    action: Action, installed: str, headgate: Headgate, service: Service
) -> None:
    rollout_id = headgate.new_id()
    process = action.begin(
        command=installed, target=f"{service.function}:{service.alias}", version="2", rollout_id=rollout_id,
        strategy=json.dumps(steps((25, 600))), arguments="--no-guards", abort_on_cancel="true",
    )  # fmt: skip
    headgate.baking(rollout_id)
    process.send_signal(signal.SIGINT)
    ended = action.end(process)
    assert (ended.code, ended.outputs["outcome"]) == (130, "cancelled"), ended.log
    record = headgate.ended(rollout_id)
    assert (record["status"], service.serving.weights) == ("rolled-back", {})


def test_codepipeline_starts_the_rollout_machine(headgate: Headgate, service: Service) -> None:
    # GIVEN the input of the action in the example, with what CodePipeline and CloudFormation put into it
    pipeline = cfn_yaml.load(str(ROOT / "examples" / "pipelines" / "codepipeline.yaml"))["Resources"]["Pipeline"]
    action = pipeline["Properties"]["Stages"][-1]["Actions"][0]["Fn::If"][2]
    sent = action["Configuration"]["Input"]["Fn::Sub"].replace("#{Publish.VERSION}", "2")
    sent = sent.replace("${FunctionName}", service.function).replace("${Alias}", service.alias)
    # Minutes of bakes, and an alarm that there is not.
    request = json.loads(sent) | {"strategy": steps((25, 1)), "guards": "none"}
    name = headgate.start(request, name=f"{service.function}-{headgate.new_id()}")
    record = headgate.ended(name)
    assert (record["status"], headgate.execution(record)) == ("succeeded", "SUCCEEDED")
    assert service.serving.version == "2"
