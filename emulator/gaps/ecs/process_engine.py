"""Processes of this machine in place of containers, behind the part of a Docker client that MiniStack uses.

A container is one process: its entry point and command, run with the programs of this machine, in a folder and a
session of its own. The image is not used. HOST is the loopback address of its task: the process must listen there.

A process ends with the embedded AWS in every case: the kernel kills it when its parent dies, also by SIGKILL. What it
has started itself ends with it when the embedded AWS stops as it should.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ministack.services import ecs

from emulator.gaps.ecs import task_addresses

TASK_LABEL = "com.amazonaws.ecs.task-arn"
LOG_POLL_SECONDS = 0.1
PYTHONS = ("python", "python3")

# PR_SET_PDEATHSIG is 1. The parent may have died before it was set: then the process has another parent by now.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""

# The signal comes when the thread that forked has ended, not the process. So one thread, which never ends, forks all.
_forks = ThreadPoolExecutor(1, thread_name_prefix="embedded-task-forks")


class Container:
    """One process, as docker-py shows a container."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], labels: dict[str, str]) -> None:
        """Start it."""
        self.id = secrets.token_hex(32)
        self.name, self.labels = name, labels
        self.address = task_addresses.book.of(labels[TASK_LABEL])
        self._folder = Path(tempfile.mkdtemp(prefix="ecs-task-"))
        self._log = self._folder.with_name(f"{self._folder.name}.log")
        program = sys.executable if arguments[0] in PYTHONS else arguments[0]
        # HOST comes last: what the container listens on is not for the task definition to say here.
        known = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder)}
        environment = {**known, **environment, "HOST": self.address}
        if shutil.which(program, path=environment["PATH"]) is None:
            self._forget_files()
            raise RuntimeError(f'exec: "{program}": executable file not found in $PATH')
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), program, *arguments[1:]]
        self._process = _forks.submit(self._start, launch, environment).result()

    def _start(self, launch: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                launch,
                env=environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def status(self) -> str:
        """Whether it runs, in Docker's words."""
        return "running" if self._process.poll() is None else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        """What Docker's inspection says of it, as far as it is asked for."""
        code = self._process.poll() or 0
        return {
            "State": {"ExitCode": 128 - code if code < 0 else code, "OOMKilled": False},
            "NetworkSettings": {"Networks": {"loopback": {"IPAddress": self.address}}},
        }

    def reload(self) -> None:
        """Do nothing: nothing of it is remembered."""

    def stop(self, timeout: float = 10) -> None:
        """Send SIGTERM, and SIGKILL after `timeout` seconds."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it and what it has started."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def remove(self, **_: Any) -> None:
        """End it if it still runs, and delete its files."""
        self.kill()
        engine.forget(self)
        self._forget_files()

    def logs(self, *, stream: bool = False, **_: Any) -> Any:
        """Return what it has written: all of it so far, or line by line until it ends."""
        return self._lines() if stream else self._log.read_bytes()

    def _lines(self) -> Iterator[bytes]:
        with self._log.open("rb") as log:
            while True:
                exited = self.status == "exited"
                if line := log.readline():
                    yield line
                elif exited:
                    return
                else:
                    time.sleep(LOG_POLL_SECONDS)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _forget_files(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._log.unlink(missing_ok=True)


class Containers:
    """All processes, as docker-py lists containers."""

    def __init__(self) -> None:
        """Begin without any."""
        self.all: dict[str, Container] = {}

    def run(self, image: str, **how: Any) -> Container:
        """Start one."""
        arguments = [str(each) for given in ("entrypoint", "command") for each in how.get(given) or []]
        if not arguments:
            # It would run what its image says.
            raise ecs._ImagePullError(
                f"{image}: the embedded AWS has no Docker engine, so nothing is pulled: "
                "give the container an entryPoint or a command, or start it with --docker"
            )
        container = Container(how["name"], arguments, how.get("environment") or {}, how["labels"])
        self.all[container.id] = container
        return container

    def get(self, key: str) -> Container:
        """Return the one with this ID or name."""
        from docker.errors import NotFound  # type: ignore[import-untyped]

        for container in list(self.all.values()):
            if key and key in (container.id, container.name):
                return container
        raise NotFound(f"No such container: {key}")

    def list(self, **_: Any) -> list[Container]:
        """Return all of them."""
        return list(self.all.values())


class Images:
    """Images, of which none is needed."""

    def get(self, _image: str) -> "Images":
        """Return something: each image counts as there."""
        return self

    def pull(self, _image: str, **_: Any) -> "Images":
        """Return something: nothing is pulled."""
        return self

    def tag(self, *_: Any, **__: Any) -> bool:
        """Return True: there is nothing to tag."""
        return True

    def get_registry_data(self, image: str, **_: Any) -> Any:
        """Find nothing: there is no registry, so a tag is not resolved to a digest."""
        from docker.errors import NotFound

        raise NotFound(image)


class ProcessEngine:
    """What docker-py's client is to MiniStack."""

    def __init__(self) -> None:
        """Begin without containers."""
        self.containers, self.images = Containers(), Images()

    def forget(self, container: Container) -> None:
        """Remove it from the list."""
        self.containers.all.pop(container.id, None)

    def end(self) -> None:
        """Kill all."""
        for container in self.containers.list():
            with contextlib.suppress(OSError):
                container.remove()


engine = ProcessEngine()


def end_all() -> None:
    """Kill all processes of tasks."""
    engine.end()
