"""The layer for CodeDeploy hooks under Lambda's own runtime client for Python, which speaks to a real runtime API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import ROOT
from tools.lambda_image.build import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tools.docker_engine import DockerEngine

HOOK = """
import boto3

codedeploy = boto3.client("codedeploy")


def handler(event, context):
    if event.get("raise"):
        raise ValueError("out of paper")
    if "status" in event:
        codedeploy.put_lifecycle_event_hook_execution_status(
            deploymentId=event["DeploymentId"],
            lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
            status=event["status"],
        )
    return "Validation test done"
"""
ASK = """
import sys, urllib.request

address = "http://127.0.0.1:8080/2015-03-31/functions/function/invocations"
print(urllib.request.urlopen(address, sys.argv[1].encode(), timeout=30).read().decode())
"""
BY_HEADGATE = {
    "DeploymentId": "d-0ABCDEFGH",
    "LifecycleEventHookExecutionId": "execution-1",
    "headgate": {"rolloutId": "checkout-42", "stage": "beforeTraffic", "candidate": "7"},
}


@pytest.fixture(scope="module")
def invoke(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Any], Any]]:
    """Invoke a hook in a container, with the layer in /opt; answers what Lambda answers."""
    code: Path = tmp_path_factory.mktemp("hook")
    (code / "app.py").write_text(HOOK)
    for path in (code, *code.parents[:2], code / "app.py"):
        path.chmod(0o755)
    variables = {
        "AWS_LAMBDA_EXEC_WRAPPER": "/opt/headgate-codedeploy-hook",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    mounted = {str(ROOT / "layers" / "codedeploy_hook"): "/opt", str(code): "/var/task"}
    volumes = {host: {"bind": inside, "mode": "ro"} for host, inside in mounted.items()}
    with engine.connected() as client:
        container = client.containers.run(
            ensure(engine), ["app.handler"], environment=variables, volumes=volumes, network_mode="none", detach=True
        )

        def ask(event: Any) -> Any:
            done = container.exec_run(["/var/lang/bin/python3", "-c", ASK, json.dumps(event)])
            assert done.exit_code == 0, done.output.decode() + container.logs().decode()
            return json.loads(done.output)

        try:
            yield ask
        finally:
            container.remove(force=True)


def test_a_hook_that_reports_by_boto3_answers_headgate(invoke: Callable[[Any], Any]) -> None:
    assert invoke(BY_HEADGATE | {"status": "Succeeded"}) == {"hookStatus": "SUCCEEDED"}
    assert invoke(BY_HEADGATE | {"status": "Failed"})["hookStatus"] == "FAILED"
    assert invoke(BY_HEADGATE)["hookDetails"] == {
        "reason": "the function returned and had not called PutLifecycleEventHookExecutionStatus"
    }


def test_an_error_and_another_invocation_pass_as_they_are(invoke: Callable[[Any], Any]) -> None:
    assert invoke(BY_HEADGATE | {"raise": True})["errorType"] == "ValueError"
    assert invoke({"any": "event"}) == "Validation test done"
