"""Hooks written for CodeDeploy, with the layer that the stack deploys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.local.deployed import steps
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from tests.local.deployed import Headgate

TWO = {"version": "2"}
LONG = steps((10, 300))

HOOK = """
import boto3

codedeploy = boto3.client("codedeploy")

def handler(event, context):
    codedeploy.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status="{status}",
    )
    return "Validation test done"
"""


def test_a_hook_of_codedeploy_runs_unchanged_and_its_status_decides(headgate: Headgate) -> None:
    # GIVEN two hooks that report to CodeDeploy, with the layer and its variable, and one without
    settings = {
        "Layers": [headgate.outputs["CodeDeployHookLayerArn"]],
        "Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/headgate-codedeploy-hook"}},
    }
    good = headgate.make_hook(HOOK.replace("{status}", "Succeeded"), **settings)
    bad = headgate.make_hook(HOOK.replace("{status}", "Failed"), **settings)
    returning = headgate.make_hook("def handler(event, context): return {'hookStatus': 'SUCCEEDED'}")
    # WHEN rollouts ask them
    accepted = headgate.request(
        target=headgate.next_service().target,
        candidate=TWO,
        strategy="AllAtOnce",
        hooks={
            "beforeTraffic": [{"codeDeployHook": good, "timeoutSeconds": 60}],
            "afterTraffic": [{"codeDeployHook": returning}],
        },
    )
    rejected = headgate.request(
        target=headgate.next_service().target,
        candidate=TWO,
        strategy=LONG,
        hooks={"beforeTraffic": [{"codeDeployHook": good}, {"codeDeployHook": bad}]},
    )
    # THEN what they report decides
    record = assert_invariants(headgate, accepted)
    assert record["status"] == "succeeded"
    (warning,) = [each for each in record["plan"]["warnings"] if "codeDeployHook" in each]
    assert warning.startswith(f"hooks.afterTraffic[0].codeDeployHook: {returning} lacks the environment variable")
    record = assert_invariants(headgate, rejected)
    assert record["status"] == "rolled-back"
    assert record["reason"] == (
        f'hook {bad} of beforeTraffic failed: {{"reason":"the function reported Failed to CodeDeploy; see its logs"}}'
    )
    assert headgate.events(rejected, "Step Started") == []
