"""The layer for CodeDeploy hooks: public hooks run unchanged under the wrapper script, and Headgate gets their status.

The hooks have the shape of AWS's examples: SAM's ``safe_deployments`` in Node.js, and CodeDeploy's in Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.lambda_environment import WRAPPER, Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODE = shutil.which("node")

PYTHON_HOOK = """
import os

import boto3

codedeploy = boto3.client("codedeploy")


def handler(event, context):
    if event.get("raise"):
        raise ValueError("out of paper")
    for call in event.get("calls", [{"status": "Succeeded"}]):
        try:
            codedeploy.put_lifecycle_event_hook_execution_status(
                deploymentId=call.get("deploymentId", event.get("DeploymentId")),
                lifecycleEventHookExecutionId=call.get("executionId", event.get("LifecycleEventHookExecutionId")),
                status=call["status"],
            )
        except codedeploy.exceptions.ClientError as error:
            print("REFUSED", error, flush=True)
    if event.get("look"):
        try:
            codedeploy.get_deployment(deploymentId=event["DeploymentId"])
        except codedeploy.exceptions.ClientError as error:
            print("REFUSED", error, flush=True)
    return event.get("returns", "Validation test succeeded")
"""

NODE_HOOK = """
'use strict'
const aws = require('./sdk.js')
const codedeploy = new aws.CodeDeploy({ apiVersion: '2014-10-06' })

exports.handler = (event, context, callback) => {
  if (event.raise) throw new TypeError('out of paper')
  if (event.stream) return Promise.resolve(event)
  const calls = event.calls || [{ status: 'Succeeded' }]
  const next = () => {
    const call = calls.shift()
    if (!call) return callback(null, 'returns' in event ? event.returns : 'Validation test succeeded')
    codedeploy.putLifecycleEventHookExecutionStatus({
      deploymentId: call.deploymentId || event.DeploymentId,
      lifecycleEventHookExecutionId: call.executionId || event.LifecycleEventHookExecutionId,
      status: call.status
    }, error => {
      if (error) console.log('REFUSED', error.message)
      next()
    })
  }
  if (!event.look) return next()
  codedeploy.getDeployment({ deploymentId: event.DeploymentId }, error => {
    console.log('REFUSED', error.message)
    next()
  })
}
"""

NODE_SDK = """
'use strict'
// What version 2 of the SDK does with a call: it knows CodeDeploy's address alone, and sends it by https.request.
const https = require('https')
const agent = new https.Agent({ keepAlive: true })

exports.CodeDeploy = class {
  call (operation, parameters, callback) {
    const host = 'codedeploy.eu-central-1.amazonaws.com'
    const headers = {
      Host: host,
      'X-Amz-Target': 'CodeDeploy_20141006.' + operation,
      'Content-Type': 'application/x-amz-json-1.1',
      Authorization: `AWS4-HMAC-SHA256 Credential=${process.env.AWS_ACCESS_KEY_ID}/20261130/eu-central-1/codedeploy/...`
    }
    const options = { host, port: 443, method: 'POST', path: '/', headers, agent }
    const request = https.request(options, async response => {
      let body = ''
      for await (const block of response) body += block
      const { __type: code, message, ...data } = JSON.parse(body)
      callback(code ? new Error(`${code}: ${message}`) : null, data)
    })
    request.on('error', callback)
    request.end(JSON.stringify(parameters))
  }

  putLifecycleEventHookExecutionStatus (parameters, callback) {
    this.call('PutLifecycleEventHookExecutionStatus', parameters, callback)
  }

  getDeployment (parameters, callback) {
    this.call('GetDeployment', parameters, callback)
  }
}
"""

IDS = {"DeploymentId": "d-0ABCDEFGH", "LifecycleEventHookExecutionId": "execution-1"}
BY_HEADGATE = {**IDS, "headgate": {"rolloutId": "checkout-42", "stage": "beforeTraffic", "candidate": "7"}}


class Runtimes:
    """Starts environments, and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, list[Environment]()

    def start(self, kind: str, code: str = "", *, wrapper: str = str(WRAPPER), **variables: str) -> Environment:
        if kind == "node":
            if NODE is None:
                pytest.skip("Node.js is not installed: apt-get install nodejs")
            (self._folder / "sdk.js").write_text(NODE_SDK)
        interpreter = NODE if kind == "node" else sys.executable
        code = code or (NODE_HOOK if kind == "node" else PYTHON_HOOK)
        self._started.append(Environment(self._folder, code, str(interpreter), variables, wrapper))
        return self._started[-1]

    def close(self) -> None:
        for each in self._started:
            each.close()


@pytest.fixture
def runtimes(tmp_path: Path) -> Iterator[Runtimes]:
    started = Runtimes(tmp_path)
    yield started
    started.close()


@pytest.fixture(scope="module", params=["python", "node"])
def hook(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """One environment of each public hook, which many tests invoke."""
    started = Runtimes(tmp_path_factory.mktemp(request.param))
    yield started.start(request.param)
    started.close()


@pytest.fixture(autouse=True)
def anew(request: pytest.FixtureRequest) -> None:
    """No test sees what another one called."""
    if "hook" in request.fixturenames:
        environment = request.getfixturevalue("hook")
        environment.codedeploy.clear()


# Invocations by Headgate


def test_a_status_that_a_hook_reports_becomes_the_invocations_result(hook: Environment) -> None:
    posted = hook.invoke(BY_HEADGATE)
    assert (posted.kind, posted.json) == ("response", {"hookStatus": "SUCCEEDED"})
    assert posted.headers["content-type"] == "application/json"
    failed = hook.invoke(BY_HEADGATE | {"calls": [{"status": "Failed"}]})
    reason = "the function reported Failed to CodeDeploy; see its logs"
    assert failed.json == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}
    # AND nothing of it reached CodeDeploy.
    assert hook.codedeploy == []


def test_a_hook_that_reports_nothing_fails_and_says_so(hook: Environment) -> None:
    assert hook.invoke(BY_HEADGATE | {"calls": []}).json == {
        "hookStatus": "FAILED",
        "hookDetails": {"reason": "the function returned and had not called PutLifecycleEventHookExecutionStatus"},
    }


def test_a_hook_that_reports_nothing_may_return_an_answer_itself(hook: Environment) -> None:
    answer = {"hookStatus": "IN_PROGRESS", "callBackDelay": 5}
    assert hook.invoke(BY_HEADGATE | {"calls": [], "returns": answer}).json == answer
    # A report counts more.
    assert hook.invoke(BY_HEADGATE | {"returns": {"hookStatus": "FAILED"}}).json == {"hookStatus": "SUCCEEDED"}


REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "another deployment": (
        {"status": "Succeeded", "deploymentId": "d-ZZZZZZZZZ"},
        "DeploymentDoesNotExistException: deploymentId is d-ZZZZZZZZZ, and this invocation's is d-0ABCDEFGH",
    ),
    "another execution": (
        {"status": "Succeeded", "executionId": "execution-0"},
        "InvalidLifecycleEventHookExecutionIdException: lifecycleEventHookExecutionId is execution-0",
    ),
    "a status that CodeDeploy does not take": (
        {"status": "InProgress"},
        "InvalidLifecycleEventHookExecutionStatusException: status is InProgress; give Succeeded or Failed",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_report_that_codedeploy_would_refuse_is_refused_and_the_reason_says_why(hook: Environment, name: str) -> None:
    call, reason = REFUSALS[name]
    answer = hook.invoke(BY_HEADGATE | {"calls": [call]}).json
    assert answer["hookStatus"] == "FAILED"
    told = f"the function's call of PutLifecycleEventHookExecutionStatus was refused: {reason}"
    assert answer["hookDetails"]["reason"].startswith(told)
    # AND the function sees an error of CodeDeploy, after which it may report again.
    assert hook.invoke(BY_HEADGATE | {"calls": [call, {"status": "Succeeded"}]}).json == {"hookStatus": "SUCCEEDED"}


def test_the_first_report_counts(hook: Environment) -> None:
    calls = [{"status": "Failed"}, {"status": "Succeeded"}]
    assert hook.invoke(BY_HEADGATE | {"calls": calls}).json["hookStatus"] == "FAILED"
    assert "LifecycleEventAlreadyCompletedException" in hook.log.read_text()


def test_other_calls_of_codedeploy_get_an_error_that_names_the_rollouts_field(hook: Environment) -> None:
    assert hook.invoke(BY_HEADGATE | {"look": True}).json == {"hookStatus": "SUCCEEDED"}
    assert "GetDeployment is not available here: Headgate invoked this function" in hook.log.read_text()
    assert hook.codedeploy == []


def test_an_error_that_a_hook_raises_is_passed_on(hook: Environment) -> None:
    posted = hook.invoke(BY_HEADGATE | {"raise": True})
    assert (posted.kind, posted.json["errorMessage"]) == ("error", "out of paper")
    # AND the environment goes on.
    assert hook.invoke(BY_HEADGATE).json == {"hookStatus": "SUCCEEDED"}


def test_an_invocation_does_not_inherit_the_status_of_the_one_before(hook: Environment) -> None:
    assert hook.invoke(BY_HEADGATE).json == {"hookStatus": "SUCCEEDED"}
    assert hook.invoke(BY_HEADGATE | {"calls": []}).json["hookStatus"] == "FAILED"


def test_a_large_event_and_a_large_result_pass(hook: Environment) -> None:
    event = {"calls": [], "returns": "x" * 5_500_000}
    assert hook.invoke(event).json == event["returns"]
    assert hook.invoke(BY_HEADGATE | {"returns": event["returns"]}).json == {"hookStatus": "SUCCEEDED"}


# Other invocations


def test_an_invocation_by_codedeploy_passes_unchanged_and_its_report_reaches_codedeploy(hook: Environment) -> None:
    posted = hook.invoke(IDS)
    assert (posted.kind, posted.json) == ("response", "Validation test succeeded")
    ((headers, body),) = hook.codedeploy
    assert json.loads(body) == {
        "deploymentId": "d-0ABCDEFGH",
        "lifecycleEventHookExecutionId": "execution-1",
        "status": "Succeeded",
    }
    # AND it is signed for CodeDeploy's address, as botocore would.
    assert headers["x-amz-target"] == "CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus"
    assert headers["authorization"] == signature_of_botocore(headers, body)


def signature_of_botocore(headers: dict[str, str], body: bytes) -> str:
    """The authorization that botocore gives a call with these headers."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signed = {name: headers[name] for name in ("content-type", "x-amz-target", "x-amz-security-token")}
    request = AWSRequest("POST", f"http://{headers['host']}/", headers=signed, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    request.headers["X-Amz-Date"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDOFTHEROLE", "secret", "token"), "codedeploy", "eu-central-1")
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={_signed(signer, request)}, Signature="
        + (signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))
    )


def _signed(signer: Any, request: Any) -> str:
    return str(signer.signed_headers(signer.headers_to_sign(request)))


def test_an_error_of_codedeploy_reaches_the_function(hook: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"__type": "DeploymentDoesNotExistException", "message": "no such deployment"}
    monkeypatch.setattr(hook, "codedeploy_answer", (400, json.dumps(error).encode()))
    hook.invoke(IDS)
    assert "no such deployment" in hook.log.read_text()


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_call_that_others_than_the_role_sign_is_refused(runtimes: Runtimes, kind: str) -> None:
    code = (NODE_HOOK if kind == "node" else PYTHON_HOOK).replace(
        *("'use strict'\n", "'use strict'\nprocess.env.AWS_ACCESS_KEY_ID = 'AKIDOFANOTHER'\n")
        if kind == "node"
        else ("import os\n", "import os\nos.environ['AWS_ACCESS_KEY_ID'] = 'AKIDOFANOTHER'\n")
    )
    environment = runtimes.start(kind, code)
    environment.invoke(IDS)
    assert "passes on calls that the function's role signs" in environment.log.read_text()
    assert environment.codedeploy == []
    # In an invocation by Headgate it does not matter who signs.
    assert environment.invoke(BY_HEADGATE).json == {"hookStatus": "SUCCEEDED"}


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_codedeploy_that_cannot_be_reached_is_an_error_of_the_call(runtimes: Runtimes, kind: str) -> None:
    environment = runtimes.start(kind, AWS_ENDPOINT_URL_CODEDEPLOY="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")
    environment.invoke(IDS)
    assert "http://127.0.0.1:9" in environment.log.read_text()


# The runtime API


@pytest.mark.parametrize(
    ("kind", "code"), [("python", "raise ValueError('no such table')"), ("node", "throw new Error('no such table')")]
)
def test_an_error_of_the_initialization_is_passed_on(runtimes: Runtimes, kind: str, code: str) -> None:
    environment = runtimes.start(kind, code)
    posted = environment.next_posted()
    assert (posted.kind, posted.json["errorMessage"]) == ("init/error", "no such table")
    assert environment.process.wait(10) == 1


def test_a_streamed_response_passes_with_its_trailers(runtimes: Runtimes) -> None:
    environment = runtimes.start("node")
    trailers = {"Lambda-Runtime-Function-Error-Type": "Midstream"}
    posted = environment.invoke({"stream": ["one ", "two"], "trailers": trailers})
    assert posted.body == b"one two"
    assert posted.headers["transfer-encoding"] == "chunked"
    assert posted.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert posted.trailers == {"lambda-runtime-function-error-type": "Midstream"}
    # In an invocation by Headgate the result takes its place, and is no stream.
    by_headgate = environment.invoke(BY_HEADGATE | {"stream": ["one"]})
    assert by_headgate.json["hookStatus"] == "FAILED"
    assert "lambda-runtime-function-response-mode" not in by_headgate.headers


STREAMING_RUNTIME = """
import http.client, json, os

def handler(event, context):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    path = "/2018-06-01/runtime/invocation/" + event["request"] + "/response"
    api.request("POST", path, iter([b"one ", b"two"]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    return api.getresponse().status
"""


def test_a_python_runtime_may_stream_too(runtimes: Runtimes) -> None:
    environment = runtimes.start("python", STREAMING_RUNTIME)
    streamed = environment.invoke({"request": "request-1"})
    assert (streamed.body, streamed.headers["transfer-encoding"]) == (b"one two", "chunked")
    assert environment.next_posted().json == 202


# The wrapper script


def test_a_runtime_that_it_does_not_serve_is_told_the_line_to_change() -> None:
    done = subprocess.run([WRAPPER, "/var/lang/bin/java", "-jar", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "serves Python and Node.js runtimes, not /var/lang/bin/java" in done.stderr
    assert 'return {"hookStatus": "SUCCEEDED"}' in done.stderr


def test_a_helper_that_does_not_start_ends_the_runtime() -> None:
    bare = {"PATH": os.environ["PATH"]}
    done = subprocess.run([WRAPPER, sys.executable, "-c", ""], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "headgate-codedeploy-hook: the helper did not start" in done.stderr


@pytest.mark.parametrize("kind", ["python", "node"])
def test_the_helper_ends_with_the_runtime(runtimes: Runtimes, kind: str) -> None:
    environment = runtimes.start(kind)
    environment.invoke(BY_HEADGATE)
    children = subprocess.run(["pgrep", "-P", str(environment.process.pid)], capture_output=True, text=True, check=True)
    (helper,) = children.stdout.split()
    environment.process.kill()
    environment.process.wait()
    eventually(lambda: not is_running(int(helper)))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_functions_variables_reach_the_runtime_and_its_own_addresses_are_not_proxied(runtimes: Runtimes) -> None:
    code = "import os\n\ndef handler(event, context):\n    return {name: os.environ[name] for name in event['names']}\n"
    variables = {"NO_PROXY": "169.254.169.254", "HTTP_PROXY": "http://proxy:3128", "TABLE": "orders"}
    environment = runtimes.start("python", code, **variables)
    assert environment.invoke({"names": ["TABLE", "NO_PROXY", "no_proxy"]}).json == {
        "TABLE": "orders",
        "NO_PROXY": "127.0.0.1,169.254.169.254",
        "no_proxy": "127.0.0.1,169.254.169.254",
    }


def test_a_python_hook_behind_a_proxy_still_reaches_headgate(runtimes: Runtimes) -> None:
    environment = runtimes.start("python", HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    assert environment.invoke(BY_HEADGATE).json == {"hookStatus": "SUCCEEDED"}


def test_node_options_of_the_function_stay(runtimes: Runtimes) -> None:
    code = "exports.handler = async () => [process.env.NODE_OPTIONS, process.execArgv.length]"
    options, _ = runtimes.start("node", code, NODE_OPTIONS="--max-old-space-size=99").invoke({}).json
    assert options.startswith("--require ")
    assert options.endswith("/headgate-codedeploy/sdk.cjs --max-old-space-size=99")


NODE_MODULE = """
exports.handler = async event => {
  // As in a bundle of ES modules, which has the SDK inside.
  const { request } = await import('node:https')
  return new Promise((resolve, reject) => {
    const hostname = 'codedeploy-fips.eu-central-1.amazonaws.com'
    const headers = { 'X-Amz-Target': 'CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus' }
    const call = request({ hostname, method: 'POST', path: '/', headers }, response => resolve(response.statusCode))
    const { DeploymentId: deploymentId, LifecycleEventHookExecutionId: lifecycleEventHookExecutionId } = event
    call.on('error', reject).end(JSON.stringify({ deploymentId, lifecycleEventHookExecutionId, status: 'Succeeded' }))
  })
}
"""


@pytest.mark.parametrize("suffix", ["amazonaws.com", "api.aws", "amazonaws.eu", "api.aws.ic.gov"])
def test_a_call_from_an_es_module_reaches_headgate(runtimes: Runtimes, suffix: str) -> None:
    code = NODE_MODULE.replace("amazonaws.com", suffix)
    assert runtimes.start("node", code).invoke(BY_HEADGATE).json == {"hookStatus": "SUCCEEDED"}


def test_another_wrapper_script_may_end_with_this_one(runtimes: Runtimes, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(f'#!/bin/sh\nTRACED=yes exec {WRAPPER} "$@"\n')
    other.chmod(0o755)
    code = "import os\n" + PYTHON_HOOK.replace('event.get("returns"', 'os.environ["TRACED"] and event.get("returns"')
    assert runtimes.start("python", code, wrapper=str(other)).invoke(BY_HEADGATE).json == {"hookStatus": "SUCCEEDED"}


NODE_OTHER = """
const https = require('https')
exports.handler = async ({ url, options }) => new Promise(resolve => {
  const request = url ? https.request(url) : https.request(options)
  request.on('error', error => resolve(error.code)).end()
})
"""


def test_other_calls_of_a_node_function_go_where_they_went(runtimes: Runtimes) -> None:
    environment = runtimes.start("node", NODE_OTHER)
    assert environment.invoke({"url": "https://127.0.0.1:9/"}).json == "ECONNREFUSED"
    assert environment.invoke({"options": {"host": "127.0.0.1", "port": 9}}).json == "ECONNREFUSED"
    assert environment.codedeploy == []
