"""A Docker engine: one that is already running, or the project's own while it is in use.

The project's own engine stores its data under .local/docker. It sets no firewall rules and no routes: containers reach
only this machine, and nothing is left after the last user has stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from ipaddress import ip_network
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]

from emulator.application import ROOT
from emulator.passage import Passage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

HOME = ROOT / ".local" / "docker"
BRIDGE = "docker0"
USUAL_HOST = "unix:///var/run/docker.sock"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

MISSING = """no Docker engine answers, and {why}.
  Install one:  apt-get install docker.io     (Debian and Ubuntu)
  As root, the project then starts and stops its own engine, under .local/docker."""


class DockerEngineError(RuntimeError):
    """No engine is running, and none could be started. The message says what is missing."""


class DockerEngine:
    """Context manager for an engine.

    Several processes may share the project's own engine: the first starts it and the last stops it. An engine that was
    already running is used as it is and keeps running.
    """

    def __init__(self) -> None:
        self.host = ""
        self._use: IO[str] | None = None

    def __enter__(self) -> Self:
        """Find an engine, or start one."""
        if _answers(None):
            self.host = os.environ.get("DOCKER_HOST", "")
            return self
        _check_that_one_can_be_started()
        HOME.mkdir(parents=True, exist_ok=True)
        with _only_one_at_a_time():
            self._use = (HOME / "users.lock").open("w")
            fcntl.flock(self._use, fcntl.LOCK_SH)
            try:
                self.host = _running() or _start()
            except BaseException:
                self._leave()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the project's own engine, unless another process uses it."""
        if self._use:
            with _only_one_at_a_time():
                self._leave()

    @property
    def is_our_own(self) -> bool:
        """Whether this is the project's own engine."""
        return self._use is not None

    @contextlib.contextmanager
    def connected(self) -> Iterator[docker.DockerClient]:
        """Create a Docker client. Its timeout allows for builds of several minutes."""
        client = docker.DockerClient(base_url=self.host, timeout=600) if self.host else docker.from_env(timeout=600)
        with contextlib.closing(client):
            yield client

    @property
    def address(self) -> str:
        """Address of the engine, as in DOCKER_HOST."""
        return self.host or USUAL_HOST

    def environment(self) -> dict[str, str]:
        """Environment variables for Docker tools."""
        return {"DOCKER_HOST": self.host} if self.host else {}

    @contextlib.contextmanager
    def passage(self, port: int) -> Iterator[str]:
        """Let containers reach a port on this machine's loopback. Yields the URL for it."""
        try:
            passage = Passage(self._gateway(), port)
        except OSError:
            # The engine runs in a virtual machine (Docker Desktop), where this name leads to our loopback.
            yield f"http://host.docker.internal:{port}"
            return
        with passage:
            threading.Thread(target=passage.serve_forever, args=(0.1,), daemon=True).start()
            try:
                yield passage.url
            finally:
                passage.shutdown()

    def _gateway(self) -> str:
        """Return the address of this machine on the containers' network."""
        with self.connected() as client:
            pool = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
        # A new bridge does not report its address yet, which is the first one.
        return str(pool.get("Gateway") or ip_network(pool["Subnet"])[1])

    def _leave(self) -> None:
        if self._use is None:  # pragma: no cover - called once
            return
        try:
            # An exclusive lock is available only if no other process holds a shared one.
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            _stop()
        self._use.close()
        self._use = None


def _answers(host: str | None) -> bool:
    """Return whether an engine answers at an address. Default: where Docker's tools look."""
    try:
        client = docker.DockerClient(base_url=host, timeout=5) if host else docker.from_env(timeout=5)
    except DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (DockerException, OSError):
            return False


def _check_that_one_can_be_started() -> None:
    if asked := os.environ.get("DOCKER_HOST"):
        raise DockerEngineError(f"no Docker engine answers on DOCKER_HOST={asked}; start it, or unset DOCKER_HOST")
    if not shutil.which("dockerd"):
        raise DockerEngineError(MISSING.format(why="dockerd is not installed"))
    if os.geteuid() != 0:
        raise DockerEngineError(MISSING.format(why="only root can start dockerd"))


@contextlib.contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    with (HOME / "engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start() -> str:
    """Start dockerd in the background and return its address."""
    # The path of a socket has at most 108 characters, and a checkout may be too deep.
    scratch = Path(tempfile.mkdtemp(prefix="headgate-docker-"))
    host = f"unix://{scratch / 'docker.sock'}"
    command = ["dockerd", "--host", host, "--data-root", str(HOME / "data"), "--exec-root", str(scratch / "exec")]
    command += ["--pidfile", str(scratch / "pid"), "--config-file", str(scratch / "no-configuration")]
    # Containers need only this machine, so no packet filter (which may be missing) and no forwarding.
    command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    (scratch / "no-configuration").write_text("{}")
    log, bridge = HOME / "dockerd.log", "was there" if _has_bridge() else "is ours"
    with log.open("w") as output:
        # In a new session, so that Ctrl-C in a terminal reaches only this process, which then stops dockerd.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    state = {"pid": str(process.pid), "host": host, "scratch": str(scratch), "bridge": bridge}
    _state_file().write_text(json.dumps(state))
    deadline = time.monotonic() + START_SECONDS
    while not _answers(host):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            _stop()
            raise DockerEngineError(f"dockerd did not start; the end of its log, {log}:\n{tail}")
        time.sleep(0.1)
    process.returncode = 0  # No one waits for it from here on. Without this, Popen warns when it is collected.
    return host


def _running() -> str | None:
    """Return the address of the project's own engine, if it runs, and remove the remains of a dead one."""
    state = _state()
    if state and _lives(state) and _answers(state["host"]):
        return state["host"]
    _stop()
    return None


def _stop() -> None:
    """Stop the project's own engine with all containers, and remove what it created outside its folder."""
    state = _state()
    if state is None:
        return
    if _lives(state):
        _tidy(state["host"])
        pid = int(state["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _lives(state):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(0.05)
        # A zombie, if its parent does not reap it and the machine's init does not either.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    if state["bridge"] == "is ours" and _has_bridge():
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    shutil.rmtree(state["scratch"], ignore_errors=True)
    _state_file().unlink(missing_ok=True)


def _tidy(host: str) -> None:
    """Remove every container, and images whose name a newer one has taken."""
    with contextlib.suppress(DockerException, OSError), contextlib.closing(docker.DockerClient(host)) as client:
        for container in client.containers.list(all=True):
            with contextlib.suppress(DockerException):
                container.remove(force=True)
        client.images.prune()


def _has_bridge() -> bool:
    return Path("/sys/class/net", BRIDGE).exists()


def _state_file() -> Path:
    return HOME / "engine.json"


def _state() -> dict[str, str] | None:
    try:
        state: dict[str, str] = json.loads(_state_file().read_text())
    except (OSError, ValueError):
        return None
    return state


def _lives(state: dict[str, str]) -> bool:
    """Return whether that process still runs. Its id alone may belong to another process by now."""
    try:
        return state["scratch"] in Path("/proc", state["pid"], "cmdline").read_text()
    except OSError:
        return False
