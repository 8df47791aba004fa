"""make_venv.sh on small packages from an index on loopback: what it shows, and what it leaves behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tools" / "make_venv.sh"
SLOW_SECONDS = 5
"""How long the index takes over a package named slow."""


class Index(SimpleHTTPRequestHandler):
    """Serves a folder; slow over one package."""

    def do_GET(self) -> None:
        if self.path.endswith(".whl") and "slow" in self.path:
            time.sleep(SLOW_SECONDS)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def put_package(folder: Path, name: str, *requires: str) -> None:
    """Put a wheel of an empty module into an index."""
    project = folder / name
    project.mkdir(parents=True)
    info = f"{name}-1.0.dist-info"
    metadata = "".join(f"Requires-Dist: {other}\n" for other in requires)
    with zipfile.ZipFile(project / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "index"
    put_package(folder, "quick")
    put_package(folder, "slow")
    put_package(folder, "needy", "quick")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to work in, with a space in its name."""
    place = tmp_path / "some place"
    place.mkdir()
    return place


def write_lock(place: Path, *lines: str) -> str:
    (place / "lock.txt").write_text("\n".join(lines) + "\n")
    return "lock.txt"


def start(place: Path, index: str, *arguments: str) -> subprocess.Popen[str]:
    """The script on an index of the test's own, whatever this machine's settings of pip are."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PIP_NO_CACHE_DIR": "1"}
    return subprocess.Popen(
        ["bash", str(SCRIPT), *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def make(place: Path, index: str, *arguments: str) -> tuple[int, str]:
    process = start(place, index, *arguments)
    output, _ = process.communicate(timeout=180)
    return process.returncode, output


def installed(place: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in place.glob("env/lib/python*/site-packages/*-1.0.dist-info")}


def test_that_it_says_how_far_it_is_while_the_index_is_slow(place: Path, index: str) -> None:
    lock = write_lock(place, "quick==1.0", "    # via needy", "slow==1.0", "other==1.0 ; sys_platform == 'win32'")
    status, output = make(place, index, sys.executable, "env", lock)
    assert status == 0, output
    assert installed(place) == {"quick", "slow"}
    lines = output.splitlines()
    assert "installing lock.txt with pip" in lines[0]
    assert any(re.search(r"[12] of 2 packages fetched", line) for line in lines), output
    assert re.fullmatch(r"env +ready \(\d+ s\)", lines[-1])


def test_that_a_failure_shows_all_that_pip_said_and_what_to_try(place: Path, index: str) -> None:
    status, output = make(place, index, sys.executable, "env", write_lock(place, "quick==2.0"))
    assert status == 1
    assert "No matching distribution found for quick==2.0" in output
    assert "env is not ready" in output
    assert "pip.conf" in output


def test_that_a_lock_that_lacks_a_dependency_is_refused(place: Path, index: str) -> None:
    status, output = make(place, index, sys.executable, "env", write_lock(place, "needy==1.0"))
    assert status == 1
    assert "needy 1.0 requires quick, which is not installed" in output


def test_that_adding_keeps_what_is_there_and_takes_its_readiness_away_until_it_has_ended(
    place: Path, index: str
) -> None:
    assert make(place, index, "--part", sys.executable, "env", write_lock(place, "quick==1.0"))[0] == 0
    (place / "env" / ".ready-demo").touch()
    lock = write_lock(place, "quick==1.0", "missing==1.0")
    assert make(place, index, "--add", sys.executable, "env", lock)[0] == 1
    assert not (place / "env" / ".ready-demo").exists()
    assert make(place, index, "--add", sys.executable, "env", write_lock(place, "quick==1.0", "needy==1.0"))[0] == 0
    assert installed(place) == {"quick", "needy"}


def test_that_an_interrupted_set_up_ends_pip_and_is_not_ready(place: Path, index: str) -> None:
    process = start(place, index, sys.executable, "env", write_lock(place, "slow==1.0"))
    log = place / "env" / "setup.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and "Collecting slow" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ready" not in output
    time.sleep(SLOW_SECONDS)
    assert installed(place) == set()


def test_that_a_python_without_pip_gives_the_environment_a_pip_of_its_own(place: Path, index: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "bare")], check=True)
    status, output = make(place, index, str(place / "bare" / "bin" / "python"), "env", write_lock(place, "quick==1.0"))
    assert status == 0, output
    assert "putting pip into it first" in output
    assert installed(place) == {"quick"}
    assert (place / "env" / "bin" / "pip").exists()


def test_that_too_old_a_python_is_named(place: Path) -> None:
    old = place / "python"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.1'\nexit 1\n")
    old.chmod(0o755)
    status, output = make(place, "http://127.0.0.1:1", str(old), "env", write_lock(place, "quick==1.0"))
    assert status == 1
    assert "Headgate needs Python 3.11 or later" in output
    assert "Python 3.9.1" in output
    assert not (place / "env").exists()


def pins(name: str) -> set[str]:
    return set(re.findall(r"(?m)^[a-z0-9].*", (ROOT / "requirements" / name).read_text()))


def test_that_what_is_added_holds_what_was_there() -> None:
    assert pins("demo.txt") < pins("dev.txt")


@pytest.mark.parametrize("name", ["demo.txt", "dev.txt", "docs.txt", "local.txt"])
def test_that_a_lock_pins_each_package(name: str) -> None:
    assert all(re.match(r"[a-z0-9.-]+==[^ ]+( ; .+)?$", pin) for pin in pins(name))
