"""Writes the JSON Schemas in docs/schemas: ``python -m tools.schemas [--check]``.

There is one for the detail of every event, and one for what each command prints with ``--format json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from headgate.cleanup.model import Cleanup
from headgate.events import EVENTS
from headgate.history.model import DeploymentFigures, Explanation, JobPage, JobView, RolloutPage, RolloutView
from headgate_cli.actions import ActionView
from headgate_cli.adopting.model import Adoption
from headgate_cli.costs.model import Cost
from headgate_cli.costs.requests import RequestCosts
from headgate_cli.doctor.findings import Checkup
from headgate_cli.kill_switch import TrafficSwitch
from headgate_cli.plans import PlanView
from headgate_cli.simulation.output import Replay, Simulation, TargetSimulation

if TYPE_CHECKING:
    from pydantic import BaseModel

INCOMING = ("Rollout Requested", "Rollout Signal", "Undo Requested", "Task Requested", "Redrive Requested")
"""Events that Headgate takes. Their id is optional."""

OUTPUTS: dict[str, type[BaseModel]] = {
    "start": ActionView,
    "plan": PlanView,
    "pause": ActionView,
    "resume": ActionView,
    "promote": ActionView,
    "abort": ActionView,
    "stop-watch": ActionView,
    "undo": ActionView,
    "status": RolloutView,
    "watch": RolloutView,
    "explain": Explanation,
    "list": RolloutPage,
    "list --stats": DeploymentFigures,
    "history": RolloutPage,
    "task list": JobPage,
    "task show": JobView,
    "redrive list": JobPage,
    "redrive show": JobView,
    "stop-traffic": TrafficSwitch,
    "restore-traffic": TrafficSwitch,
    "doctor": Checkup,
    "adopt": Adoption,
    "cost": Cost,
    "cost requests": RequestCosts,
    "versions clean": Cleanup,
    "simulate": Simulation,
    "simulate --like": TargetSimulation,
    "simulate --replay": Replay,
}
"""What commands print with ``--format json``."""

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas"


class _Plain(GenerateJsonSchema):
    """Leaves out titles of fields, which would only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def schema_of(detail_type: str) -> dict[str, Any]:
    """Return the JSON Schema of the detail of an event."""
    schema = _schema_of(EVENTS[detail_type], detail_type)
    if detail_type in INCOMING:
        # Optional: the default is the event's id or the execution's name.
        schema["required"] = [name for name in schema["required"] if name != "id"]
    return schema


def _schema_of(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_Plain)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def file_of(detail_type: str) -> Path:
    """Return the path of the schema of a detail-type."""
    return SCHEMAS / f"{detail_type.lower().replace(' ', '-')}.json"


def output_file(command: str) -> Path:
    """Return the path of the schema of what a command prints."""
    return SCHEMAS / f"headgate-{command.replace(' --', '-').replace(' ', '-')}.json"


def texts() -> dict[Path, str]:
    """Return the content of every schema's file."""
    schemas = {file_of(detail_type): schema_of(detail_type) for detail_type in EVENTS}
    schemas |= {output_file(name): _schema_of(model, f"headgate {name}") for name, model in OUTPUTS.items()}
    return {path: json.dumps(schema, indent=2) + "\n" for path, schema in schemas.items()}


def stale() -> list[Path]:
    """Return files that differ from the models or belong to no model."""
    written = texts()
    wrong = [path for path, text in written.items() if not path.is_file() or path.read_text("utf-8") != text]
    return sorted([*wrong, *(path for path in SCHEMAS.glob("*.json") if path not in written)])


def write() -> None:
    """Write every schema and remove files without a model."""
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for path in stale():
        path.unlink(missing_ok=True)
    for path, text in texts().items():
        path.write_text(text, "utf-8")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    for path in stale():
        print(f"{path} is stale; run python -m tools.schemas")
    return 1 if stale() else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
