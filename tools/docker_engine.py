"""A Docker engine: the one that runs, or one of the project's own for as long as somebody here needs it.

Our own keeps what it stores under .local/docker. It sets no firewall rules and no routes: containers reach this
machine and nothing else, and nothing of it is left when the last user is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import socketserver
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
  As root the project then starts an engine of its own, under .local/docker, and stops it again."""


class DockerEngineError(RuntimeError):
    """There is no engine, and none could be started; the message says what is missing."""


class DockerEngine:
    """An engine for the length of a ``with`` block.

    Several processes may use our own at a time: the first starts it and the last stops it. An engine that ran before
    is used as it is and stays up.
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
        """Stop our own, unless somebody else still uses it."""
        if self._use:
            with _only_one_at_a_time():
                self._leave()

    @property
    def is_our_own(self) -> bool:
        """Whether it ends with its last user."""
        return self._use is not None

    @contextlib.contextmanager
    def connected(self) -> Iterator[docker.DockerClient]:
        """Docker's own client for it; a build may take minutes."""
        client = docker.DockerClient(base_url=self.host, timeout=600) if self.host else docker.from_env(timeout=600)
        with contextlib.closing(client):
            yield client

    @property
    def address(self) -> str:
        """Where it listens: what DOCKER_HOST says, or would say."""
        return self.host or USUAL_HOST

    def environment(self) -> dict[str, str]:
        """What points any Docker tool at it."""
        return {"DOCKER_HOST": self.host} if self.host else {}

    @contextlib.contextmanager
    def passage(self, port: int) -> Iterator[str]:
        """Let containers reach a port of this machine's loopback; yields the URL that does it."""
        try:
            passage = _Passage((self._gateway(), 0), port)
        except OSError:
            # The engine is in a machine of its own (Docker Desktop), and hands this name on to our loopback.
            yield f"http://host.docker.internal:{port}"
            return
        with passage:
            threading.Thread(target=passage.serve_forever, args=(0.1,), daemon=True).start()
            try:
                yield "http://{}:{}".format(*passage.server_address)
            finally:
                passage.shutdown()

    def _gateway(self) -> str:
        """The address of this machine on the network that containers are in."""
        with self.connected() as client:
            pool = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
        # A bridge that is new has not told its own address yet; it is the first one.
        return str(pool.get("Gateway") or ip_network(pool["Subnet"])[1])

    def _leave(self) -> None:
        if self._use is None:  # pragma: no cover - asked for once
            return
        try:
            # An exclusive lock is to be had only where nobody else holds a shared one.
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            _stop()
        self._use.close()
        self._use = None


class _Passage(socketserver.ThreadingTCPServer):
    """Takes connections at an address that containers reach, and hands them on to a port of loopback."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], port: int) -> None:
        self.inner_port = port
        super().__init__(address, _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Passage

    def handle(self) -> None:
        """Pour both ways until both ends are done."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.inner_port)) as inner:
            back = threading.Thread(target=_pour, args=(inner, self.request), daemon=True)
            back.start()
            _pour(self.request, inner)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Hand on what comes, until it ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _answers(host: str | None) -> bool:
    """Whether an engine answers there; without an address, where Docker's own tools would look."""
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
    """Start dockerd in the background; answers its address."""
    # A socket's path is at most 108 characters long: a checkout's own folder may be too deep.
    scratch = Path(tempfile.mkdtemp(prefix="headgate-docker-"))
    host = f"unix://{scratch / 'docker.sock'}"
    command = ["dockerd", "--host", host, "--data-root", str(HOME / "data"), "--exec-root", str(scratch / "exec")]
    command += ["--pidfile", str(scratch / "pid"), "--config-file", str(scratch / "no-configuration")]
    # Containers need this machine alone, so no packet filter (which may be missing) and no forwarding.
    command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    (scratch / "no-configuration").write_text("{}")
    log, bridge = HOME / "dockerd.log", "was there" if _has_bridge() else "is ours"
    with log.open("w") as output:
        # A session of its own: Ctrl-C in a terminal reaches us alone, and we take it down in order.
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
            raise DockerEngineError(f"dockerd does not come up here; the end of its log, {log}:\n{tail}")
        time.sleep(0.1)
    process.returncode = 0  # Nobody waits for it from here on; say so, or Popen warns when it is collected.
    return host


def _running() -> str | None:
    """The address of the engine of our own that runs, if one does; what is left of a dead one is cleared away."""
    state = _state()
    if state and _lives(state) and _answers(state["host"]):
        return state["host"]
    _stop()
    return None


def _stop() -> None:
    """End our own engine with every container in it, and clear away what it made outside its folder."""
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
        # It is ending; whoever started it and leaves it unreaped leaves a zombie where the machine's init reaps none.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    if state["bridge"] == "is ours" and _has_bridge():
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    shutil.rmtree(state["scratch"], ignore_errors=True)
    _state_file().unlink(missing_ok=True)


def _tidy(host: str) -> None:
    """Remove every container, and the images that a newer one has taken the name of."""
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
    """Whether that process still runs: its number alone may by now belong to another."""
    try:
        return state["scratch"] in Path("/proc", state["pid"], "cmdline").read_text()
    except OSError:
        return False
