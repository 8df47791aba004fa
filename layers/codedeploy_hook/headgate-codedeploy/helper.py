"""Hands what a hook reports to CodeDeploy on to Headgate, beside a Python runtime. helper.cjs does the same.

It stands between the runtime and Lambda's runtime API, and answers the function's calls of CodeDeploy. An invocation by
Headgate has the field ``headgate`` in its event. What it reports by PutLifecycleEventHookExecutionStatus becomes the
invocation's result. Every other invocation passes unchanged, and its calls go to CodeDeploy itself.

Standard library only, Python 3.9 or later: the function's own packages are of no concern here.

- https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
- https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_PutLifecycleEventHookExecutionStatus.html
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import http.server
import json
import os
import socketserver
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME = "/2018-06-01/runtime/"
NEXT = f"{RUNTIME}invocation/next"
REPORT = "PutLifecycleEventHookExecutionStatus"
HOOK_STATUS = {"Succeeded": "SUCCEEDED", "Failed": "FAILED"}
"""What CodeDeploy takes, and what it means to Headgate."""
BLOCK = 65536
OF_ONE_CONNECTION = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "host",
    "expect",
    "te",
    "trailer",
}


class CodeDeployError(Exception):
    """An error as CodeDeploy returns it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Invocation:
    """The current invocation, which began with this event. An environment has one at a time."""

    def __init__(self, event: Any = None) -> None:
        self.by_headgate = isinstance(event, dict) and isinstance(event.get("headgate"), dict)
        self.deployment_id = event.get("DeploymentId") if self.by_headgate else None
        self.execution_id = event.get("LifecycleEventHookExecutionId") if self.by_headgate else None
        self.status = ""
        self.refused = ""
        """Why the last report was not accepted."""
        self._lock = threading.Lock()

    def serve(self, operation: str, asked: Any) -> dict[str, Any]:
        """Answer a call of CodeDeploy: take the status that the function reports; only the first counts."""
        if operation != REPORT:
            raise CodeDeployError(
                "UnsupportedActionForDeploymentTypeException",
                f"{operation} is not available here: Headgate invoked this function, and CodeDeploy has no deployment "
                f"{self.deployment_id}; the event's field headgate describes the rollout",
            )
        asked = asked if isinstance(asked, dict) else {}
        with self._lock:
            try:
                self._check(asked)
            except CodeDeployError as error:
                self.refused = f"{error.code}: {error}"
                raise
            self.status = asked["status"]
        return {"lifecycleEventHookExecutionId": self.execution_id}

    def _check(self, asked: dict[str, Any]) -> None:
        if not asked.get("deploymentId"):
            raise CodeDeployError(
                "DeploymentIdRequiredException", "deploymentId is missing; give the event's DeploymentId"
            )
        if asked["deploymentId"] != self.deployment_id:
            raise CodeDeployError(
                "DeploymentDoesNotExistException",
                f"deploymentId is {asked['deploymentId']}, and this invocation's is {self.deployment_id}; give the "
                "event's DeploymentId",
            )
        if asked.get("lifecycleEventHookExecutionId") != self.execution_id:
            raise CodeDeployError(
                "InvalidLifecycleEventHookExecutionIdException",
                f"lifecycleEventHookExecutionId is {asked.get('lifecycleEventHookExecutionId')}, and this invocation's "
                f"is {self.execution_id}; give the event's LifecycleEventHookExecutionId",
            )
        if asked.get("status") not in HOOK_STATUS:
            raise CodeDeployError(
                "InvalidLifecycleEventHookExecutionStatusException",
                f"status is {asked.get('status')}; give Succeeded or Failed",
            )
        if self.status:
            raise CodeDeployError(
                "LifecycleEventAlreadyCompletedException", f"this invocation has already reported {self.status}"
            )

    def result(self, returned: bytes) -> bytes:
        """Return the result for Headgate; what the function returned counts only if it is a hook's answer itself."""
        if self.status:
            answer: dict[str, Any] = {"hookStatus": HOOK_STATUS[self.status]}
            if self.status == "Failed":
                answer["hookDetails"] = {"reason": "the function reported Failed to CodeDeploy; see its logs"}
            return json.dumps(answer).encode()
        if isinstance(given := _json(returned), dict) and "hookStatus" in given:
            return returned
        reason = f"the function returned and had not called {REPORT}"
        if self.refused:
            reason = f"the function's call of {REPORT} was refused: {self.refused}"
        return json.dumps({"hookStatus": "FAILED", "hookDetails": {"reason": reason}}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Requests of the runtime and of the function's SDK."""

    protocol_version = "HTTP/1.1"
    # Without it, each answer waits for an acknowledgement.
    disable_nagle_algorithm = True
    server: Helper

    def do_GET(self) -> None:
        """Pass on a request of the runtime; the next invocation is remembered."""
        if not self.path.startswith(RUNTIME):
            self._answer(404, b"{}")
        elif self.path == NEXT:
            self._pass_next()
        else:
            self._pass(self._blocks())

    def do_POST(self) -> None:
        """Pass on a request of the runtime, or answer a call of CodeDeploy."""
        if not self.path.startswith(RUNTIME):
            self._serve_codedeploy(b"".join(self._blocks()))
        elif self.path.endswith("/response") and self.server.invocation.by_headgate:
            returned = b"".join(self._blocks())
            self._pass([self.server.invocation.result(returned)], as_json=True)
        else:
            self._pass(self._blocks())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Keep the function's logs its own."""

    def _pass_next(self) -> None:
        # It waits for as long as there is no invocation.
        connection = http.client.HTTPConnection(self.server.runtime_api)
        try:
            connection.request("GET", self.path, headers=self._headers())
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == 200:
            self.server.invocation = Invocation(_json(body))
        self._answer(response.status, body, response.getheaders())

    def _pass(self, blocks: Any, *, as_json: bool = False) -> None:
        headers = self._headers()
        if as_json:
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("lambda-runtime-")}
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.server.runtime_api)
        try:
            # As it comes, so that a streamed response stays one.
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower() and not as_json:
                headers["Transfer-Encoding"] = "chunked"
                connection.request(self.command, self.path, iter(blocks), headers, encode_chunked=True)
            else:
                connection.request(self.command, self.path, b"".join(blocks), headers)
            response = connection.getresponse()
            self._answer(response.status, response.read(), response.getheaders())
        finally:
            connection.close()

    def _serve_codedeploy(self, body: bytes) -> None:
        operation = self.headers.get("X-Amz-Target", "").partition(".")[2] or self.path
        invocation = self.server.invocation
        try:
            if not invocation.by_headgate:
                self._answer(*self.server.codedeploy.call(self.headers, body))
                return
            answer, status = invocation.serve(operation, _json(body)), 200
        except CodeDeployError as error:
            answer, status = {"__type": error.code, "message": str(error)}, 400
        self._answer(status, json.dumps(answer).encode(), [("Content-Type", "application/x-amz-json-1.1")])

    def _headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower() not in OF_ONE_CONNECTION}

    def _blocks(self) -> Iterator[bytes]:
        """Yield the body of the request."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                block = self.rfile.read(min(left, BLOCK))
                if not block:
                    raise ConnectionError("the request ended too early")
                left -= len(block)
                yield block
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # Trailers, which no Python runtime sends.

    def _answer(self, status: int, body: bytes, headers: Any = ()) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def endpoint_of(region: str) -> str:
    """Return the address of CodeDeploy in a Region. The first partition whose Regions begin so counts."""
    partitions = json.loads(Path(__file__).with_name("partitions.json").read_text("utf-8"))
    suffix = next(each["suffix"] for each in partitions if region.startswith(each["regions"]))
    return f"https://codedeploy.{region}.{suffix}"


class CodeDeploy:
    """CodeDeploy itself, for invocations that are not Headgate's.

    The function has signed its call for the loopback address, so the call is signed again by the function's role.
    """

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._region = environment.get("AWS_REGION", "")
        self._endpoint = (
            environment.get("AWS_ENDPOINT_URL_CODEDEPLOY")
            or environment.get("AWS_ENDPOINT_URL")
            or endpoint_of(self._region)
        )

    def call(self, given: Any, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        """Return status, body and headers of CodeDeploy's answer."""
        key = self._environment.get("AWS_ACCESS_KEY_ID", "")
        if not key or f"Credential={key}/" not in given.get("Authorization", ""):
            raise CodeDeployError(
                "UnrecognizedClientException",
                "the layer for CodeDeploy hooks passes on calls that the function's role signs, and others sign this "
                "one; remove AWS_LAMBDA_EXEC_WRAPPER from this function",
            )
        url = urllib.parse.urlsplit(self._endpoint)
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {
            "content-type": given.get("Content-Type", "application/x-amz-json-1.1"),
            "host": url.netloc,
            "x-amz-date": at,
            "x-amz-target": given.get("X-Amz-Target", ""),
        }
        if token := self._environment.get("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = token
        path = url.path or "/"
        headers["authorization"] = self._authorization(key, at, path, headers, body)
        make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = make(url.netloc, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), response.getheaders()
        except OSError as error:
            raise CodeDeployError("ServiceUnavailable", f"{self._endpoint} cannot be reached: {error}") from None
        finally:
            connection.close()

    def _authorization(self, key: str, at: str, path: str, headers: dict[str, str], body: bytes) -> str:
        """Sign with Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html."""
        scope = f"{at[:8]}/{self._region}/codedeploy/aws4_request"
        names = sorted(headers)
        lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
        asked = f"POST\n{path}\n\n{lines}\n{';'.join(names)}\n{hashlib.sha256(body).hexdigest()}"
        text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        secret = f"AWS4{self._environment['AWS_SECRET_ACCESS_KEY']}".encode()
        for part in scope.split("/"):
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
        return f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"


class Helper(socketserver.ThreadingTCPServer):
    """The helper, on a free port of the loopback interface."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, environment: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runtime_api = environment["AWS_LAMBDA_RUNTIME_API"]
        self.codedeploy = CodeDeploy(environment)
        self.invocation = Invocation()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class has them
        """Say in one line why a request failed; its connection is closed, as the runtime's own would be."""
        print(f"headgate-codedeploy-hook: {sys.exc_info()[1]!r}", file=sys.stderr, flush=True)  # noqa: T201


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main(parent: int) -> None:
    """Serve until the runtime ends. The first line on standard output is the port."""
    helper = Helper(os.environ)
    print(helper.server_address[1], flush=True)  # noqa: T201 - the wrapper script reads it
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    helper.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
