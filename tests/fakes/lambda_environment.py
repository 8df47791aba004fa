"""An execution environment of Lambda: the runtime API, CodeDeploy, and a runtime that a wrapper script starts.

The runtimes here are loops of a few lines around the calls that AWS's own make; tests/docker has AWS's for Python.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WRAPPER = ROOT / "layers" / "codedeploy_hook" / "headgate-codedeploy-hook"

PYTHON_RUNTIME = """
import http.client, importlib, os, sys, traceback
import json

sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body, {"Content-Type": "application/json"})
    response = api.getresponse()
    return response, response.read()


try:
    handler = importlib.import_module("app").handler
except Exception as error:
    call("POST", "init/error", json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}))
    sys.exit(1)
while True:
    response, event = call("GET", "invocation/next")
    request = "invocation/" + response.headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        call("POST", request + "/response", json.dumps(handler(json.loads(event), None)))
    except Exception as error:
        traceback.print_exc()
        call("POST", request + "/error", json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}))
"""

NODE_RUNTIME = """
'use strict'
const http = require('http')
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':')
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })

function call (method, path, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const options = { host, port, method, path: '/2018-06-01/runtime/' + path, agent, headers }
    const request = http.request(options, async response => {
      const blocks = []
      for await (const block of response) blocks.push(block)
      resolve([response, Buffer.concat(blocks).toString()])
    }).on('error', reject)
    if (body && body.stream) {
      for (const block of body.stream) request.write(block)
      if (body.trailers) request.addTrailers(body.trailers)
      request.end()
    } else request.end(body)
  })
}

function outcome (handler, event) {
  return new Promise((resolve, reject) => {
    const answered = handler(event, {}, (error, result) => error ? reject(error) : resolve(result))
    if (answered && answered.then) answered.then(resolve, reject)
  })
}

async function main () {
  let handler
  try {
    handler = require(process.env.LAMBDA_TASK_ROOT + '/app.js').handler
  } catch (error) {
    await call('POST', 'init/error', JSON.stringify({ errorType: error.name, errorMessage: error.message }))
    process.exit(1)
  }
  for (;;) {
    const [response, event] = await call('GET', 'invocation/next')
    const request = 'invocation/' + response.headers['lambda-runtime-aws-request-id']
    try {
      const result = await outcome(handler, JSON.parse(event))
      if (result && result.stream) {
        const headers = { 'Lambda-Runtime-Function-Response-Mode': 'streaming', 'Transfer-Encoding': 'chunked' }
        if (result.trailers) headers.Trailer = Object.keys(result.trailers).join(', ')
        await call('POST', request + '/response', result, headers)
      } else {
        await call('POST', request + '/response', JSON.stringify(result === undefined ? null : result))
      }
    } catch (error) {
      const told = { errorType: error.name || 'Error', errorMessage: error.message || String(error) }
      await call('POST', request + '/error', JSON.stringify(told))
    }
  }
}

main()
"""


class Posted(NamedTuple):
    """What the runtime posted."""

    kind: str
    """``response``, ``error`` or ``init/error``."""
    request_id: str
    body: bytes
    headers: dict[str, str]
    trailers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.environment = environment
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        number, event = self.server.environment.events.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": number,
            "Lambda-Runtime-Deadline-Ms": "1800000000000",
            "Content-Type": "application/json",
        }
        self._answer(200, event, headers)

    def do_POST(self) -> None:
        trailers: dict[str, str] = {}
        body = self._chunks(trailers) if self.headers.get("Transfer-Encoding") == "chunked" else self._whole()
        if not self.path.startswith("/2018-06-01/runtime/"):
            self.server.environment.codedeploy.append((dict(self.headers.items()), body))
            self._answer(*self.server.environment.codedeploy_answer)
            return
        *_, number, kind = self.path.split("/")
        kind = "init/error" if number == "init" else kind
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.environment.posted.put(Posted(kind, number, body, headers, trailers))
        self._answer(202, b'{"status": "OK"}')

    def log_message(self, *_: Any) -> None:
        pass

    def _whole(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self, trailers: dict[str, str]) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while line := self.rfile.readline().strip().decode():
            name, _, value = line.partition(": ")
            trailers[name.lower()] = value
        return body

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Environment:
    """One environment of a function.

    Parameters
    ----------
    folder
        Where the function's code is.
    code
        Source of the function: ``app.py`` or ``app.js``.
    interpreter
        Path of Python or Node.js.
    """

    def __init__(
        self,
        folder: Path,
        code: str,
        interpreter: str,
        variables: Mapping[str, str] | None = None,
        wrapper: str = str(WRAPPER),
    ) -> None:
        self.events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.posted: queue.Queue[Posted] = queue.Queue()
        self.codedeploy: list[tuple[dict[str, str], bytes]] = []
        """Calls that reached CodeDeploy: headers and body."""
        self.codedeploy_answer = (200, b'{"lifecycleEventHookExecutionId": "its-own"}')
        self._count = 0
        self._runtime_api, self._codedeploy = _Server(self), _Server(self)
        is_node = "node" in interpreter.rsplit("/", 1)[-1]
        (folder / ("app.js" if is_node else "app.py")).write_text(code)
        runtime = folder / ("runtime.js" if is_node else "runtime.py")
        runtime.write_text(NODE_RUNTIME if is_node else PYTHON_RUNTIME)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV_"))}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [wrapper, interpreter, str(runtime)],
                env=inherited
                | {
                    "AWS_LAMBDA_RUNTIME_API": self._runtime_api.address,
                    "AWS_ENDPOINT_URL_CODEDEPLOY": f"http://{self._codedeploy.address}",
                    "AWS_REGION": "eu-central-1",
                    "AWS_DEFAULT_REGION": "eu-central-1",
                    "AWS_ACCESS_KEY_ID": "AKIDOFTHEROLE",
                    "AWS_SECRET_ACCESS_KEY": "secret",
                    "AWS_SESSION_TOKEN": "token",
                    "LAMBDA_TASK_ROOT": str(folder),
                    **(variables or {}),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def invoke(self, event: Any) -> Posted:
        """Return what the runtime posts for an invocation with this event."""
        self._count += 1
        self.events.put((f"request-{self._count}", json.dumps(event).encode()))
        posted = self.next_posted()
        assert posted.request_id == f"request-{self._count}"
        return posted

    def next_posted(self) -> Posted:
        try:
            return self.posted.get(timeout=20)
        except queue.Empty:
            raise TimeoutError(self.log.read_text()) from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for server in (self._runtime_api, self._codedeploy):
            server.shutdown()
            server.server_close()
