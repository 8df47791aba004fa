"""A real Prometheus server from Debian, with a past that a test has made up."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

START_SECONDS = 30


class RealPrometheus:
    """The server, on a port of this machine's own, with samples that are read before it starts.

    Parameters
    ----------
    folder
        Where it keeps its data.
    samples
        Name with labels, value and time of each, in seconds since 1970; all samples of a series one after another.
    """

    def __init__(self, folder: Path, samples: Iterable[tuple[str, float, float]]) -> None:
        if not (shutil.which("prometheus") and shutil.which("promtool")):
            pytest.skip("Prometheus is not installed: apt-get install prometheus")
        self._folder = folder
        (folder / "prometheus.yml").write_text("global: {}\n", "utf-8")
        lines = [f"{name} {value} {at}" for name, value, at in samples]
        past = folder / "past.txt"
        past.write_text("\n".join(["# TYPE payments counter", *lines, "# EOF", ""]), "utf-8")
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", past, folder / "data"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.port = _free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < until, f"not ready in {START_SECONDS} s: {(self._folder / 'log').read_text()}"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
