"""Templates of CloudFormation: read them, change one of their resources, and show the change.

A template is shown as its owner has written it: a change is made in its text, line by line, and only where that does
not give the wanted resource is the resource written anew.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 110


class Edit(NamedTuple):
    """Changes of one resource. The value None removes what is there."""

    resource: str
    """Its logical id."""
    attributes: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    removes: bool = False
    """Whether the resource goes."""

    def of(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        """Return the changed resource; empty if it goes."""
        if self.removes:
            return {}
        changed = _merged({**resource, "Properties": None}, self.attributes)
        properties = _merged(resource.get("Properties") or {}, self.properties)
        return changed | ({"Properties": properties} if properties or "Properties" in resource else {})


def _merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**before, **changes}.items() if value is not None}


def parsed(template: Any) -> dict[str, Any]:
    """Return a template as an object, with functions in their long form: ``!Ref X`` is ``{"Ref": "X"}``.

    Raises
    ------
    Failure
        If it is no template.
    """
    import yaml

    if not isinstance(template, str):
        return dict(template or {})
    try:
        found = yaml.load(template, Loader=_loader())  # noqa: S506 - made of the safe one
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Failure(f"the template of the stack cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise Failure("the template of the stack cannot be read: it is no object")
    return found


def resources_of(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources of a template that are objects. A loop of Fn::ForEach is a list."""
    return {name: each for name, each in (template.get("Resources") or {}).items() if isinstance(each, dict)}


def global_function(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Globals says about every function."""
    found = (template.get("Globals") or {}).get("Function")
    return found if isinstance(found, dict) else {}


def diff_of(original: Any, edits: Sequence[Edit]) -> str:
    """Return what edits change in a template, as a unified diff of their resources."""
    resources = resources_of(parsed(original))
    lines: list[str] = []
    for edit in edits:
        before = resources[edit.resource]
        after = edit.of(before)
        if after != before:
            texts = _texts(original, edit, before, after)
            names = ("the template as deployed", "the template to deploy") if not lines else ("", "")
            old, new = (text.splitlines() for text in texts)
            shown = difflib.unified_diff(old, new, *names, lineterm="", n=3)
            lines += [line for line in shown if names[0] or not line.startswith(("--- ", "+++ "))]
    return "\n".join(lines)


def as_yaml(value: Any) -> str:
    """Return a part of a template as YAML, with functions in their short form."""
    import yaml

    return _plain(str(yaml.dump(value, Dumper=_dumper(), sort_keys=False, width=WIDTH, allow_unicode=True)))


def _plain(text: str) -> str:
    """Return YAML without the quotes that values of functions need not have: ``!Ref X``."""
    return re.sub(r"(![A-Za-z0-9]+) '([A-Za-z0-9_.-]+)'", r"\1 \2", text)


def _texts(original: Any, edit: Edit, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, str]:
    """Return a resource before and after, in the words of the template where they can be changed line by line."""
    if isinstance(original, str) and (block := _block(original, edit.resource)):
        if edit.removes:
            return block, ""
        changed = _changed(block, edit)
        if _reads_as(block, {edit.resource: before}) and _reads_as(changed, {edit.resource: after}):
            return block, changed
    return as_yaml({edit.resource: dict(before)}), as_yaml({edit.resource: dict(after)}) if after else ""


def _reads_as(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return parsed(text) == wanted
    except Failure:
        return False


# Lines of text


def _block(template: str, resource: str) -> str:
    """Return the lines of a resource in a YAML template of block style; empty if they are not found."""
    section = re.search(
        r"^Resources:[ \t]*(?:#[^\n]*)?\n(?P<lines>(?:[ \t#][^\n]*\n|[ \t]*\n)*)", f"{template}\n", re.MULTILINE
    )
    if section is None:
        return ""
    block = re.search(
        rf"^(?P<indent> +)(?P<quote>['\"]?){re.escape(resource)}(?P=quote):[ \t]*(?:#[^\n]*)?\n"
        r"(?P<lines>(?:(?P=indent) +[^\n]*\n|[ \t]*\n)*)",
        section["lines"],
        re.MULTILINE,
    )
    return block[0].rstrip() + "\n" if block else ""


def _changed(block: str, edit: Edit) -> str:
    lines = block.splitlines()
    depth = _indent(lines[1]) if len(lines) > 1 else 0
    # Each new one comes right after the type, so the last one first.
    for name, value in reversed(edit.attributes.items()):
        lines = _set(lines, 1, len(lines), depth, name, value, after="Type")
    start = next((at for at, line in enumerate(lines) if re.match(rf" {{{depth}}}Properties:\s*(#.*)?$", line)), None)
    if start is not None and edit.properties:
        end = _end(lines, start, depth)
        inner = next((_indent(line) for line in lines[start + 1 : end] if _is_content(line)), depth + 2)
        for name, value in edit.properties.items():
            lines = _set(lines, start + 1, _end(lines, start, depth), inner, name, value, after="AutoPublishAlias")
    return "\n".join(lines) + "\n"


def _set(lines: list[str], start: int, end: int, depth: int, name: str, value: Any, *, after: str) -> list[str]:
    """Return lines with the value of a key at a depth, which stands where it stood, or after another key."""
    places = {
        found[1]: at
        for at in range(start, end)
        if (found := re.match(rf" {{{depth}}}['\"]?([A-Za-z0-9]+)['\"]?:", lines[at]))
    }
    written = [] if value is None else [f"{' ' * depth}{name}: {_flow(value)}"]
    if name in places:
        at, rest = places[name], _end(lines, places[name], depth)
    else:
        at = rest = _end(lines, places[after], depth) if after in places else start
    return lines[:at] + written + lines[rest:]


def _end(lines: Sequence[str], at: int, depth: int) -> int:
    """Return where the value of the key at a line ends. Items of a list may be as deep as their key."""
    end = at + 1
    for index in range(at + 1, len(lines)):
        line = lines[index]
        if _is_content(line):
            if _indent(line) < depth or (_indent(line) == depth and not line.lstrip().startswith("- ")):
                break
            end = index + 1
    return end


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _flow(value: Any) -> str:
    """Return a value on one line. A text of digits is in quotes, which YAML would take for a number."""
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Z][A-Za-z]+", value) else f'"{value}"'
    import yaml

    return _plain(
        str(yaml.dump(value, Dumper=_dumper(), default_flow_style=True, width=10_000, sort_keys=False))
    ).strip()


# YAML with functions of CloudFormation


def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows the short forms of functions, and reads dates as text: the version of a policy is one."""

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
            for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    def function(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
        value: Any
        if node.id == "scalar":
            value = loader.construct_scalar(node)
        elif node.id == "sequence":
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", function)
    return Loader


def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes the short forms of functions, and repeats what is there twice."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    def mapping(dumper: Any, value: dict[str, Any]) -> Any:
        [(name, inner)] = value.items() if len(value) == 1 else [("", None)]
        tag = f"!{name.removeprefix('Fn::')}"
        if name == "Fn::GetAtt" and isinstance(inner, list) and all(isinstance(each, str) for each in inner):
            inner = ".".join(inner)
        if isinstance(name, str) and (name == "Ref" or name.startswith("Fn::")):
            if isinstance(inner, str):
                return dumper.represent_scalar(tag, inner)
            if isinstance(inner, list):
                return dumper.represent_sequence(tag, inner)
        return dumper.represent_dict(value)

    def text(dumper: Any, value: str) -> Any:
        # Other readers of YAML than this one take more texts of digits for numbers.
        style = '"' if re.fullmatch(r"[0-9][0-9a-fA-FeE.+_:-]*", value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(dict, mapping)
    # boto3 returns a JSON template as OrderedDict.
    Dumper.add_multi_representer(dict, mapping)
    Dumper.add_representer(str, text)
    return Dumper
