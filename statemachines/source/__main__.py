"""Write the state machines from their source: `python -m statemachines.source [--check]`, or `make machines`.

`statemachines/NAME.asl.json` is what `statemachines/source/NAME.py` says; edit the source, never the JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from statemachines.source import ecs_task, hooks, redrive, rollout, stack

MACHINES = {
    "rollout": rollout.MACHINE,
    "hooks": hooks.MACHINE,
    "ecs_task": ecs_task.MACHINE,
    "redrive": redrive.MACHINE,
    "stack": stack.MACHINE,
}
FOLDER = Path(__file__).parents[1]


def text_of(machine: dict[str, Any]) -> str:
    """Return a definition as its file holds it."""
    return json.dumps(machine, indent=2, ensure_ascii=False) + "\n"


def written(folder: Path) -> dict[Path, str]:
    """Return the definitions' files in a folder and what they should hold."""
    return {folder / f"{name}.asl.json": text_of(_signed(name, machine)) for name, machine in MACHINES.items()}


def _signed(name: str, machine: dict[str, Any]) -> dict[str, Any]:
    # JSON has no comments of its own, and the console shows this one.
    return {**machine, "Comment": f"{machine['Comment']} Generated from statemachines/source/{name}.py."}


def stale(folder: Path) -> list[Path]:
    """Return the files that differ from their source, and those that have none."""
    wanted = written(folder)
    found = {path: path.read_text("utf-8") for path in folder.glob("*.asl.json")}
    return sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Write every definition, or with ``--check`` name each that is stale."""
    parser = argparse.ArgumentParser(prog="python -m statemachines.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    if not parser.parse_args(arguments).check:
        for path, text in written(folder).items():
            path.write_text(text, "utf-8")
        return 0
    wrong = stale(folder)
    for path in wrong:
        source = path.name.replace(".asl.json", ".py")
        print(f"{path} differs from statemachines/source/{source}: edit the source, then run `make machines`")
    if not wrong:
        print(f"{len(MACHINES)} state machines are as statemachines/source has them")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
