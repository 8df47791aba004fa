"""Write the reference tables of the documentation: ``python -m tools.reference [--check]``.

The tables come from the models of requests and events, from template.yaml, from the error classes and from the probes,
so that they cannot differ from them. A table stands in its page between two markers::

    <!-- fields: Guards -->
    <!-- /fields -->

``fields`` and ``event-fields`` take the names of one or more models; ``events`` takes ``in`` or ``out``;
``parameters``, ``outputs``, ``command-outputs``, ``errors``, ``probes`` and ``unprobed`` take nothing.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel

from headgate import errors
from headgate.counting.prometheus_config import PrometheusConfig
from headgate.events import EVENTS
from headgate.redrive.sampling import Sampled
from headgate.targets.ecs_service.smoke_test import SmokeTest
from tools.probes import questions
from tools.schemas import INCOMING, OUTPUTS, output_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TEMPLATE = ROOT / "template.yaml"

_BLOCK = re.compile(r"<!-- (?P<kind>[a-z-]+)(: (?P<names>[^\n]*?))? -->\n(?P<table>.*?)<!-- /(?P=kind) -->", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)


class MarkerError(Exception):
    """A marker without a valid table."""


def models() -> dict[str, type[BaseModel]]:
    """Return every model of an event, of a redrive's output and of the config of a function that ships, by name."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = [*EVENTS.values(), Sampled, SmokeTest, PrometheusConfig]
    while waiting:
        model = waiting.pop()
        if found.setdefault(model.__name__, model) is not model:
            raise MarkerError(f"two models are called {model.__name__}")
        inner = {each for field in model.model_fields.values() for each in _models_in(field.annotation)}
        waiting += [each for each in inner if each.__name__ not in found]
    return found


def _models_in(annotation: object) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models_in(part)}


@cache
def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Read the docstring of each attribute, including inherited ones, from the source."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found


class Links:
    """Page and heading of each model's table."""

    def __init__(self, pages: dict[str, str]) -> None:
        self._places: dict[str, tuple[str, str]] = {}
        for page, text in pages.items():
            for block in _BLOCK.finditer(text):
                if block["kind"] in ("fields", "event-fields"):
                    heading = _heading_above(text, block.start())
                    self._places |= dict.fromkeys(_names(block["names"]), (page, heading))

    def to(self, model: str, page: str) -> str:
        """Return a link from a page to a model's table; the word object if there is none."""
        if model not in self._places:
            return "object"
        there, heading = self._places[model]
        text = heading.replace("`", "")
        return f"[{text}]({'' if there == page else there}#{slug(heading)})"


def _heading_above(text: str, position: int) -> str:
    headings = list(_HEADING.finditer(text, 0, position))
    if not headings:
        raise MarkerError("a table of fields needs a heading above it")
    return headings[-1]["text"]


def slug(heading: str) -> str:
    """Return the anchor of a heading on the site and on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def fields_table(names: list[str], page: str, links: Links, *, published: bool) -> str:
    """Return a table of models' fields: with defaults for a request, with presence for a published event."""
    known = models()
    rows = []
    for name in names:
        if name not in known:
            raise MarkerError(f"no event holds a model called {name}")
        model = known[name]
        schema = model.model_json_schema(by_alias=True)
        for field_name, field in model.model_fields.items():
            wire = field.alias or field_name
            described = descriptions(model).get(field_name)
            if not described:
                raise MarkerError(f"{name}.{field_name} has no docstring")
            kind = type_of(schema["properties"][wire], schema, page, links)
            how = ("always" if field.is_required() else "optional") if published else default_of(field, model, wire)
            rows.append([f"`{wire}`", kind, how, prose(described)])
    return table(["field", "type", "present" if published else "default", "description"], rows)


def default_of(field: FieldInfo, model: type[BaseModel], wire: str) -> str:
    """Return the default of a field."""
    if wire == "id" and model in EVENTS.values():
        return "see description"
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, float) and value == int(value):
        value = int(value)
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text[1:-1] if isinstance(value, str) and value else text}`"


def type_of(schema: dict[str, Any], whole: dict[str, Any], page: str, links: Links) -> str:
    """Describe the type of a field with its limits."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if "properties" in whole["$defs"].get(name, {}) or name in models():
            return links.to(name, page)
        return type_of(whole["$defs"][name], whole, page, links)
    if "enum" in schema or "const" in schema:
        return " or ".join(
            f"`{json.dumps(value).strip(chr(34))}`" for value in schema.get("enum", [schema.get("const")])
        )
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            kinds = [type_of(each, whole, page, links) for each in schema[several] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    return ", ".join(part for part in (_kind(schema, whole, page, links), limits(schema)) if part)


def _kind(schema: dict[str, Any], whole: dict[str, Any], page: str, links: Links) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {type_of(schema['items'], whole, page, links)}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {type_of(schema['additionalProperties'], whole, page, links)}"
        case "string":
            return "text"
        case kind:
            return str(kind or "any")


def limits(schema: dict[str, Any]) -> str:
    """Describe the limits of a schema."""
    unit = {"string": " characters", "array": " items", "object": " entries"}.get(schema.get("type", ""), "")
    least = next(
        (schema[name] for name in ("minimum", "minLength", "minItems", "minProperties") if name in schema), None
    )
    most = next(
        (schema[name] for name in ("maximum", "maxLength", "maxItems", "maxProperties") if name in schema), None
    )
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least == 1 and unit == " characters" and most is None:
        return ""  # "Not empty" is left out.
    if least is not None and most is not None:
        return f"{_number(least)} to {_number(most)}{unit}"
    parts = [
        f"at least {_number(least)}{unit}" if least is not None else "",
        f"above {_number(above)}" if above is not None else "",
        f"at most {_number(most)}{unit}" if most is not None else "",
        f"below {_number(below)}" if below is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def prose(text: str) -> str:
    """Convert a docstring to Markdown."""
    text = text.replace("``", "`")
    return re.sub(r"(?<![(`<])(https://[^\s)]+?)(?=[.,;]?(\s|\)|$))", r"<\1>", text)


def events_table(way: str, page: str, links: Links) -> str:
    """Return a table of incoming or outgoing events, with their meaning and links to their fields."""
    wanted = [name for name in EVENTS if (name in INCOMING) == (way == "in")]
    rows = []
    for name in wanted:
        schema = f"[schema](schemas/{name.lower().replace(' ', '-')}.json)"
        fields = links.to(EVENTS[name].__name__, page).replace("object", "")
        rows.append([f"`{name}`", prose(" ".join((EVENTS[name].__doc__ or "").split())), fields, schema])
    return table(["event", "when" if way == "out" else "what it is", "fields", "schema"], rows)


class _Template(yaml.SafeLoader):
    """Reads a template without resolving its functions."""


def _function(_loader: _Template, name: str, _node: yaml.Node) -> str:
    return f"!{name}"


_Template.add_multi_constructor("!", _function)


@cache
def template() -> dict[str, Any]:
    """Load the template without resolving functions of CloudFormation."""
    return dict(yaml.load(TEMPLATE.read_text("utf-8"), _Template))  # noqa: S506 - a SafeLoader


def parameters_table() -> str:
    """Return a table of the template's parameters."""
    rows = []
    for name, parameter in template()["Parameters"].items():
        if "AllowedValues" in parameter:
            allowed = ", ".join(f"`{value}`" for value in parameter["AllowedValues"])
        elif "MinValue" in parameter:
            least, most = parameter["MinValue"], parameter.get("MaxValue")
            allowed = f"at least {least}" if most is None else f"{least} to {most}"
        else:
            allowed = f"`{pattern}`" if (pattern := parameter.get("AllowedPattern")) else "any"
            if "MaxLength" in parameter:
                allowed += f", at most {parameter['MaxLength']} characters"
        default = f"`{parameter['Default']}`" if parameter.get("Default", "") != "" else "none"
        rows.append(
            [
                f"`{name}`",
                default if "Default" in parameter else "required",
                allowed,
                " ".join(parameter["Description"].split()),
            ]
        )
    return table(["parameter", "default", "allowed", "description"], rows)


def outputs_table() -> str:
    """Return a table of the template's outputs."""
    conditions = {
        "WithTelemetry": " Only with `Telemetry`.",
        "WithOpenPatterns": " Only if there are any.",
    }
    rows = [
        [f"`{name}`", output["Description"] + conditions.get(output.get("Condition", ""), "")]
        for name, output in template()["Outputs"].items()
    ]
    return table(["output", "description"], rows)


def errors_table() -> str:
    """Return a table of the errors that the state machines distinguish."""
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.HeadgateError)
    ]
    named = [each for each in classes if each is not errors.HeadgateError]
    return table(["error", "meaning"], [[f"`{each.__name__}`", _first_paragraph(each)] for each in named])


def probes_table() -> str:
    """Return a table of the questions that ``make probe-aws`` asks."""
    rows = [
        [f"`{each.id}`", each.question, f"`{each.call}`", each.assumed, each.matters + _NEEDS[each.needs]]
        for each in questions.PROBES.values()
    ]
    return table(["probe", "question", "call that settles it", "assumed", "why it matters"], rows)


_NEEDS = {"": "", "subnet": " Only with `SUBNET`.", "keys": " Only with `KEYS=1`."}


def unprobed_table() -> str:
    """Return a table of the questions that no probe asks."""
    rows = [[each.question, each.assumed, each.why_not] for each in questions.UNPROBED]
    return table(["question", "assumed", "why there is no probe"], rows)


def command_outputs_table() -> str:
    """Return the table of what commands print as JSON."""
    rows = [
        [f"`{name}`", _first_paragraph(model), f"[schema](schemas/{output_file(name).name})"]
        for name, model in OUTPUTS.items()
    ]
    return table(["command", "what it prints", "schema"], rows)


def _first_paragraph(described: type) -> str:
    return prose(" ".join(inspect.cleandoc(described.__doc__ or "").split("\n\n")[0].split()))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table. A bar would end its cell, also within code."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def rendered(page: str, text: str, links: Links) -> str:
    """Return a page with current tables."""

    def block(match: re.Match[str]) -> str:
        kind, names = match["kind"], match["names"]
        match kind:
            case "fields" | "event-fields":
                made = fields_table(_names(names), page, links, published=kind == "event-fields")
            case "events":
                made = events_table(names, page, links)
            case "parameters":
                made = parameters_table()
            case "outputs":
                made = outputs_table()
            case "errors":
                made = errors_table()
            case "probes":
                made = probes_table()
            case "command-outputs":
                made = command_outputs_table()
            case "unprobed":
                made = unprobed_table()
            case _:
                return match[0]
        return f"<!-- {kind}{f': {names}' if names else ''} -->\n{made}<!-- /{kind} -->"

    return _BLOCK.sub(block, text)


def pages(folder: Path) -> dict[str, str]:
    """Return the text of every page by name."""
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}


def stale(folder: Path) -> Iterator[tuple[Path, str]]:
    """Return every page with stale tables, and its current text."""
    texts = pages(folder)
    links = Links(texts)
    for name, text in texts.items():
        if (made := rendered(name, text, links)) != text:
            yield folder / name, made


def main(arguments: list[str], folder: Path = DOCS) -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description="Write the tables of the docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is stale")
    check = parser.parse_args(arguments).check
    found = list(stale(folder))
    for path, text in found:
        if check:
            sys.stdout.write(f"{path} has a stale table; run python -m tools.reference\n")
        else:
            path.write_text(text, "utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
