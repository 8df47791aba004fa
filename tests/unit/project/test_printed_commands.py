"""Commands of the AWS CLI for services that Headgate prints as a fix: whether they can be given as they are printed."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore import session, xform_name

from tests.docs.commands import check
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = re.compile(r"aws (?P<service>ecs|elbv2|application-autoscaling) (?P<operation>\S+)[^();\n]*")
SOURCES = [path for folder in ("layers", "cli", "functions") for path in sorted((ROOT / folder).rglob("*.py"))]


def texts_of(source: str) -> Iterator[str]:
    """The texts in a module, with X for what is known only when it runs."""
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def printed() -> list[str]:
    found = {
        match[0].strip()
        for path in SOURCES
        for text in texts_of(path.read_text("utf-8"))
        for match in COMMAND.finditer(text)
    }
    return sorted(found)


# What _named(service) stands for in the source.
NAMED = "--cluster X --service X"


@pytest.mark.parametrize("command", printed())
def test_each_command_is_complete_and_names_the_cluster(command: str) -> None:
    words = re.sub(r"(aws ecs [a-z-]+) X(?= )", rf"\1 {NAMED}", command)
    check(words.split())
    _, service, name, *options = words.split()
    model: Any = session.get_session().get_service_model(service)
    operation = next(each for each in model.operation_names if xform_name(each, "-") == name)
    # Without it the command addresses the cluster "default".
    if "cluster" in model.operation_model(operation).input_shape.members:
        assert "--cluster" in options


def test_there_are_commands_to_check() -> None:
    assert len(printed()) >= 5
