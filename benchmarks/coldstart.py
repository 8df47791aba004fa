"""Cold starts in containers: every function and a baseline under Lambda's emulator, as `sam local` starts them."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.init import BASELINE
from benchmarks.report import Section, say, table
from tools.docker_engine import DockerEngine, DockerEngineError
from tools.invoke import Containers, Served, function_names, init_milliseconds
from tools.lambda_image.build import LambdaImageError, default_version

if TYPE_CHECKING:
    from benchmarks.world import World

NAME = "Baseline"
WAIT_SECONDS = 10.0


def measure(world: World, quick: bool) -> Section | None:
    """Start everything in turn; nothing where there is no Docker engine and none can be started."""
    rounds = 2 if quick else 7
    names = [NAME, *(function_names()[:2] if quick else function_names())]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(BASELINE)
        Path(folder).chmod(0o755)  # The function runs as nobody in particular.
        try:
            with DockerEngine() as engine, Containers(engine, world.aws, {NAME: Path(folder)}) as containers:
                measured = _rounds(containers, names, rounds)
        except (DockerEngineError, LambdaImageError) as error:
            say(f"  not measured: {error}")
            return None
    return Section(_text(measured, rounds))


def _rounds(containers: Containers, names: list[str], rounds: int) -> dict[str, list[float]]:
    measured: dict[str, list[float]] = {name: [] for name in names}
    with containers.serving(warm=False) as served:
        functions = served.client()
        _start(served, functions, NAME)  # The image is made by now, and in memory.
        for number in range(rounds):
            for name in names:
                measured[name].append(_start(served, functions, name))
            say(f"  {number + 1} of {rounds}")
    return measured


def _start(served: Served, functions: Any, name: str) -> float:
    """Milliseconds of one cold start. What becomes of the call after it does not matter: no function likes {}."""
    before = len(init_milliseconds(served.log.read_text()))
    functions.invoke(FunctionName=name, Payload=b"{}")
    deadline = time.monotonic() + WAIT_SECONDS
    while len(told := init_milliseconds(served.log.read_text())) == before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} has not started:\n{served.log.read_text()[-2000:]}")
        time.sleep(0.05)
    return told[-1]


def _text(measured: dict[str, list[float]], rounds: int) -> str:
    baseline = statistics.median(measured[NAME])
    rows = []
    for name, found in measured.items():
        low, _, high = statistics.quantiles(found, n=4)
        median = statistics.median(found)
        rows.append([name, f"{median:.0f}", f"{low:.0f} to {high:.0f}", f"{median / baseline:.2f}"])
    told = (
        f"Init in a container of its own, by `sam local start-lambda` without warm containers: the emulator's `INIT "
        "REPORT`, from the start of the runtime process until it asks for its first event (the `Init Duration` in the "
        f"emulator's REPORT line is not measured). {rounds} starts each, medians, one of everything in turn. The "
        f"baseline is that of Init, with both layers too. The image is `make lambda-image`'s (Debian's Python "
        f"{default_version()}, the same runtime client and boto3), on all of this machine's processor: Lambda gives a "
        "function of 512 MB about 0.3 of one while it handles events, and adds the download of the code, so these "
        "compare with each other and not with Lambda's figures."
    )
    return f"## Cold starts in containers\n\n{told}\n\n" + table(["function", "ms", "middle half", "ratio"], rows)
