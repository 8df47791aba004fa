"""Starts, finds and stops the embedded AWS. Runs in the project's environment; MiniStack has its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import boto3

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-local" / "bin" / "python"
STATE_FILE = ROOT / ".local" / "embedded.json"
LOGS = ROOT / ".local"
START_SECONDS = 30.0
STOP_SECONDS = 3.0
KEEP_LOGS_SECONDS = 24 * 3600
REGION = "us-east-1"


class EmbeddedAwsError(RuntimeError):
    """The embedded AWS did not start. The message has the end of its log."""


class PermissionUse(NamedTuple):
    """An action that a role was allowed, or denied."""

    role: str
    action: str
    resource: str
    allowed: bool

    def __str__(self) -> str:
        return f"{self.role} {'was allowed' if self.allowed else 'was denied'} {self.action} on {self.resource}"


class EmbeddedAws:
    """One embedded AWS: a process on this machine, in memory, reachable on loopback only."""

    def __init__(self, *flags: str) -> None:
        """Prepare to start with `flags` of `python -m emulator`, like `--without GAP`."""
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.log: Path | None = None

    @classmethod
    def at(cls, port: int) -> "EmbeddedAws":
        """Use an embedded AWS of another process. `stop` then does nothing."""
        embedded = cls()
        embedded._port = port
        return embedded

    def start(self, port: int | None = None, *, outlives_us: bool = False) -> Self:
        """Start and wait until it answers; on a free port unless one is given. It ends with this process at the latest.

        Parameters
        ----------
        outlives_us
            Let it run on when this process ends.
        """
        if not PYTHON.exists():
            raise EmbeddedAwsError(f"{PYTHON} is missing: run `make setup`")
        LOGS.mkdir(exist_ok=True)
        _forget_old_logs()
        # Bound here and handed over: a port that is only known to be free may be somebody else's a moment later.
        listener = _bind(port or 0)
        self._port = int(listener.getsockname()[1])
        handle, name = tempfile.mkstemp(prefix=f"embedded-{self._port}-", suffix=".log", dir=LOGS)
        self.log = Path(name)
        binding = ["--port", str(self._port), "--socket", str(listener.fileno())]
        binding += ["--permissions", str(_permissions(self.log))]
        parent = [] if outlives_us else ["--parent", str(os.getpid())]
        with os.fdopen(handle, "wb") as log, listener:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "emulator", *binding, *parent, *self._flags],
                pass_fds=[listener.fileno()],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The code of every function is unpacked here and deleted with the server.
                env=os.environ | {"TMPDIR": str(_scratch(self._port, new=True))},
                # In a new group: Ctrl-C in a terminal reaches only this process, and `stop` the functions too.
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it and the processes of its functions, but keep the log. A second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _end_group(process.pid)
        _forget_scratch(self._port)

    def __enter__(self) -> Self:
        """Start unless it is running."""
        return self if self._port else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop in any case."""
        self.stop()

    @property
    def port(self) -> int:
        """Port of the endpoint."""
        return self._port

    @property
    def endpoint_url(self) -> str:
        """Value for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """Environment variables for AWS tools, so that they use it and not the real AWS."""
        return {
            "AWS_ACCESS_KEY_ID": "000000000000",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "SAM_CLI_TELEMETRY": "0",
        }

    def client(self, service: str, **options: Any) -> Any:
        """Create a boto3 client for it, independent of the environment; `options` as for `boto3.client`."""
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id="000000000000",
            aws_secret_access_key="embedded",  # noqa: S106 - any value works
            **options,
        )

    def answers(self) -> bool:
        """Return whether it answers now."""
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/_ministack/health", timeout=2) as response:  # noqa: S310
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        if self.log is None or not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def permission_uses(self) -> list[PermissionUse]:
        """Return each action that a role was allowed so far, and each denial, in order of their first time."""
        file = _permissions(self.log) if self.log else None
        if file is None or not file.exists():
            return []
        # The last line may still be being written.
        lines = file.read_text().rpartition("\n")[0].splitlines()
        return list(dict.fromkeys(PermissionUse(**json.loads(line)) for line in lines))

    def denials(self) -> list[PermissionUse]:
        """Return what roles were denied so far."""
        return [use for use in self.permission_uses() if not use.allowed]

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedAwsError(
                    f"the embedded AWS stopped with exit code {process.returncode}:\n{self.log_tail()}"
                )
            if self.answers():
                return
            time.sleep(0.05)
        raise EmbeddedAwsError(f"the embedded AWS did not answer within {START_SECONDS:g} s:\n{self.log_tail()}")

    @classmethod
    def serve_detached(cls, state_file: Path = STATE_FILE, port: int | None = None) -> "EmbeddedAws":
        """Start one that keeps running after this process ends, or find the one in `state_file`."""
        running = cls.find_detached(state_file)
        if running:
            return running
        embedded = cls().start(port, outlives_us=True)
        process = embedded._process
        if process is None:  # pragma: no cover - start has just set it
            raise EmbeddedAwsError("not started")
        state_file.parent.mkdir(parents=True, exist_ok=True)
        state_file.write_text(
            json.dumps(
                {
                    "pid": process.pid,
                    "port": embedded.port,
                    "endpointUrl": embedded.endpoint_url,
                    "log": str(embedded.log),
                    "started": _start_of(process.pid),
                }
            )
        )
        # No one waits for the process from here on. Without this, Popen warns when it is collected.
        process.returncode = 0
        embedded._process = None
        return embedded

    @classmethod
    def find_detached(cls, state_file: Path = STATE_FILE) -> "EmbeddedAws | None":
        """Return the embedded AWS that `serve_detached` started, or None (a stale file is removed)."""
        state = _read_state(state_file)
        if state is None:
            return None
        embedded = cls.at(state["port"])
        embedded.log = Path(state["log"])
        if _is_ours(state) and embedded.answers():
            return embedded
        cls.stop_detached(state_file)
        return None

    @classmethod
    def stop_detached(cls, state_file: Path = STATE_FILE) -> bool:
        """Stop the one that `serve_detached` started. Return False if there was none."""
        state = _read_state(state_file)
        state_file.unlink(missing_ok=True)
        if state is None or not _is_ours(state):
            return False
        pid = state["pid"]
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_ours(state) and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        _end_group(pid)
        _forget_scratch(state["port"])
        return True


def _permissions(log: Path) -> Path:
    return log.with_suffix(".permissions")


def _forget_old_logs() -> None:
    for log in (*LOGS.glob("embedded-*.log"), *LOGS.glob("embedded-*.permissions")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - log.stat().st_mtime > KEEP_LOGS_SECONDS:
                log.unlink()


def _scratch(port: int, *, new: bool = False) -> Path:
    folder = LOGS / f"scratch-{port}"
    if new:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return folder


def _forget_scratch(port: int) -> None:
    shutil.rmtree(_scratch(port), ignore_errors=True)


def is_free(port: int) -> bool:
    """Return whether this port is free on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _bind(port: int) -> socket.socket:
    """A socket that is bound to this port of loopback, or to a free one for 0."""
    listener = socket.socket()
    # As every server does: connections that have ended hold a port for a minute.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise EmbeddedAwsError(f"port {port} cannot be used: {error}") from error
    return listener


def _end_group(leader: int) -> None:
    # The group outlives its leader only while it has a function's process.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _read_state(state_file: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(state_file.read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and {"pid", "port", "log", "started"} <= state.keys() else None


def _is_ours(state: dict[str, Any]) -> bool:
    """Return whether the recorded process still runs. Its id alone may belong to another process by now."""
    return bool(state["started"]) and _start_of(state["pid"]) == state["started"]


def _start_of(pid: int) -> str:
    """Return a text that differs for two processes with the same id; empty for a dead one."""
    try:
        # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: the name, in parentheses, may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, start_time = fields[0], fields[19]
    return "" if state == "Z" else start_time
