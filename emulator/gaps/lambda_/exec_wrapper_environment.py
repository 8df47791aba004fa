"""An execution environment with a runtime API, in the place of MiniStack's worker for Python: see `exec_wrappers.py`.

It is started with the key by which an error is marked, and speaks MiniStack's protocol of JSON lines on its standard
streams: first what the function is, then one line per invocation and one per answer. It runs by itself, with the
standard library alone. With `runtime` as its argument it is the runtime that the wrapper script starts.
"""

import ctypes
import http.client
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

API = "/2018-06-01/runtime/"


class Environment(ThreadingHTTPServer):
    """The runtime API of one environment."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.invocations: queue.Queue[dict[str, Any]] = queue.Queue()
        self.posted: queue.Queue[tuple[str, Any]] = queue.Queue()
        """What the runtime says, with its kind: ``ready``, ``init/error``, ``response``, ``error`` or ``ended``."""
        self.is_ready = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def start(self, function: dict[str, Any]) -> None:
        """Start the runtime by the wrapper script."""
        wrapper = _wrapper()
        if status := _refusal(wrapper):
            self.posted.put(("ended", status))
            return
        command = [str(wrapper), sys.executable, __file__, "runtime"]
        told = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server_address[1]}",
            "_HANDLER": f"{function['module']}.{function['handler']}",
            "LAMBDA_TASK_ROOT": function["code_dir"],
        }
        runtime = subprocess.Popen(command, env=os.environ | told, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        threading.Thread(target=lambda: self.posted.put(("ended", runtime.wait())), daemon=True).start()


class Requests(BaseHTTPRequestHandler):
    """Requests of the runtime."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Environment

    def do_GET(self) -> None:
        """Hand out the next invocation."""
        if not self.server.is_ready:
            self.server.is_ready = True
            self.server.posted.put(("ready", None))
        message = self.server.invocations.get()
        context = message["ctx"]
        self._answer(
            200,
            json.dumps(message["event"]).encode(),
            {
                "Lambda-Runtime-Aws-Request-Id": context["request_id"],
                "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + context["timeout_ms"]),
                "Lambda-Runtime-Invoked-Function-Arn": context["invoked_function_arn"],
            },
        )

    def do_POST(self) -> None:
        """Take a result or an error."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        kind = self.path.rsplit("/", 1)[-1]
        self.server.posted.put(("init/error" if self.path == f"{API}init/error" else kind, body))
        self._answer(202, b'{"status": "OK"}', {})

    def log_message(self, *_: Any) -> None:
        """Keep the function's log its own."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def serve(mark: str) -> None:
    """Run the function until MiniStack closes the standard input, or the runtime ends."""
    environment = Environment()
    environment.start(json.loads(sys.stdin.readline()))
    kind, said = environment.posted.get()
    if kind != "ready":
        error = said["errorMessage"] if kind == "init/error" else f"the runtime ended with status {said}"
        _say({"status": "error", "error": error})
        return
    _say({"status": "ready", "cold": True})
    while line := sys.stdin.readline():
        environment.invocations.put(json.loads(line))
        kind, said = environment.posted.get()
        if kind == "ended":
            return  # MiniStack sees that the worker died.
        _say({"status": "ok", "result": {mark: said} if kind == "error" else said})


def run() -> None:
    """Be the runtime: ask for invocations, call the handler, post what it returns."""
    folders = filter(None, os.environ.get("_LAMBDA_LAYERS_DIRS", "").split(os.pathsep))
    sys.path[:0] = [os.environ["LAMBDA_TASK_ROOT"], *(f"{folder}/python" for folder in folders)]
    os.chdir(os.environ["LAMBDA_TASK_ROOT"])
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def post(path: str, body: Any) -> None:
        api.request("POST", API + path, json.dumps(body), {"Content-Type": "application/json"})
        api.getresponse().read()

    module, _, name = os.environ["_HANDLER"].rpartition(".")
    try:
        handler = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - whatever the function raises
        post("init/error", _described(error))
        sys.exit(1)
    while True:
        api.request("GET", f"{API}invocation/next")
        response = api.getresponse()
        event, invocation = response.read(), f"invocation/{response.headers['Lambda-Runtime-Aws-Request-Id']}"
        try:
            post(f"{invocation}/response", handler(json.loads(event), None))
        except Exception as error:  # noqa: BLE001 - whatever the function raises
            traceback.print_exc()
            post(f"{invocation}/error", _described(error))


def _described(error: Exception) -> dict[str, Any]:
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__)[1:],
    }


def _wrapper() -> Path:
    """Return the script; layers are not in /opt here."""
    given = Path(os.environ["AWS_LAMBDA_EXEC_WRAPPER"])
    if not given.is_relative_to("/opt"):
        return given
    name = given.relative_to("/opt")
    for folder in filter(None, os.environ.get("_LAMBDA_LAYERS_DIRS", "").split(os.pathsep)):
        if (script := Path(folder, name)).is_file():
            # MiniStack unpacks layers without the modes of their files, and Lambda with them.
            with zipfile.ZipFile(f"{folder}.zip") as layer:
                script.chmod(layer.getinfo(str(name)).external_attr >> 16 & 0o777)
            return script
    return given


def _refusal(wrapper: Path) -> int:
    """Return the status with which Lambda's bootstrap ends instead of running the script; 0 if it runs it."""
    if not wrapper.is_file():
        print(f"{wrapper}: does not exist", file=sys.stderr)
        return 127
    # By its mode: to root, os.access says less.
    if not wrapper.stat().st_mode & 0o111:
        print(f"{wrapper}: is not an executable", file=sys.stderr)
        return 126
    return 0


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _end_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "runtime":
        _end_with_parent()
        run()
    else:
        serve(sys.argv[1])
