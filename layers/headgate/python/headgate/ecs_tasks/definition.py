"""Task definitions in requests: validation, and a digest that recognizes equal ones.

The fields are those of RegisterTaskDefinition, in its spelling, and are checked against botocore's model:
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html.
"""

from __future__ import annotations

import hashlib
import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from headgate.ecs_tasks.request import AT_FIELD, MAX_STORAGE, MIN_STORAGE, ROLE_ARN, size_units
from headgate.ecs_tasks.tags import OWN_TAGS
from headgate.errors import RequestRefused
from headgate.wire import MAX_FAULTS, did_you_mean, shown_value

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_DEFINITION_TAGS = 49
"""ECS accepts 50, and Headgate adds one."""

MAX_CONTAINERS = 10
"""https://docs.aws.amazon.com/general/latest/gr/ecs-service.html"""

ANSWERED = frozenset(
    {
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
        "deregisteredAt",
        "deleteRequestedAt",
    }
)
"""Fields of a task definition that ECS answers and RegisterTaskDefinition does not take.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html
"""

_FAMILY_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}")
"""Names of families and containers."""

_CPU = re.compile(r"([0-9]+)|([0-9]*\.?[0-9]+)\s*vcpu", re.IGNORECASE)
_MEMORY = re.compile(r"([0-9]+)|([0-9]*\.?[0-9]+)\s*gb", re.IGNORECASE)


def refuse_faulty_definition(definition: dict[str, Any], shape: Any, families: str) -> None:
    """Refuse a definition that ECS would refuse, or that this deployment may not register.

    Parameters
    ----------
    shape
        botocore's input shape of RegisterTaskDefinition.
    families
        Pattern of the families that may be registered.

    Raises
    ------
    RequestRefused
        The message names every faulty field, its value and the fix.
    """
    if isinstance(definition.get("taskDefinition"), dict):
        raise RequestRefused(
            f"{AT_FIELD}: is a whole answer of DescribeTaskDefinition; give the content of its taskDefinition alone, "
            f"without {', '.join(sorted(ANSWERED))}, and put its tags in it"
        )
    # The other checks need correct types.
    faults = [*_answer_faults(definition), *_definition_faults(_without_answer(definition), shape, AT_FIELD)] or [
        fault
        for check in (_family_faults, _container_faults, _role_faults, _size_faults, _storage_faults, _tag_faults)
        for fault in check(definition)
    ]
    if not faults and not fnmatchcase(family := definition["family"], families):
        faults = [
            f"{AT_FIELD}.family: {family} may not be registered; Headgate's parameter TaskDefinitions must cover it"
        ]
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise RequestRefused("; ".join(faults[:MAX_FAULTS] + more))


def _answer_faults(definition: dict[str, Any]) -> Iterator[str]:
    if found := [name for name in definition if name in ANSWERED]:
        yield f"{AT_FIELD}: has {', '.join(found)}, which ECS answers and does not take; remove {_them(found)}"


def _them(found: list[str]) -> str:
    return "them" if len(found) > 1 else "it"


def _without_answer(definition: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if name not in ANSWERED}


def _definition_faults(value: object, shape: Any, path: str) -> Iterator[str]:
    match shape.type_name, value:
        case "structure", dict():
            yield from _structure_faults(value, shape, path)
        case "list", list():
            for index, each in enumerate(value):
                yield from _definition_faults(each, shape.member, f"{path}[{index}]")
        case "map", dict():
            for name, each in value.items():
                yield from _definition_faults(each, shape.value, f"{path}.{name}")
        case "structure" | "map" | "list" as wanted, _:
            yield f"{path}: must be {'a list' if wanted == 'list' else 'an object'} (given {shown_value(value)})"
        case _:
            yield from _scalar_faults(value, shape, path)


def _structure_faults(value: dict[str, Any], shape: Any, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name}: is missing; add it"
    for name, each in value.items():
        if name in shape.members:
            yield from _definition_faults(each, shape.members[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}: is not a known field{did_you_mean(name, shape.members)} (given {shown_value(each)})"


_SCALARS: dict[str, tuple[type, str]] = {
    "string": (str, "text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "long": (int, "a whole number"),
    "double": (float, "a number"),
    "float": (float, "a number"),
}


def _scalar_faults(value: object, shape: Any, path: str) -> Iterator[str]:
    kind, what = _SCALARS[shape.type_name]
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (kind, int) if kind is float else kind):
        fix = f'; write "{value}"' if kind is str and type(value) in (int, float) else ""
        yield f"{path}: must be {what}{fix} (given {shown_value(value)})"
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: must be one of {', '.join(shape.enum)} (given {shown_value(value)})"


def _family_faults(definition: dict[str, Any]) -> Iterator[str]:
    yield from _name_faults(definition["family"], "family")


def _name_faults(name: str | None, field: str) -> Iterator[str]:
    if name is not None and not _FAMILY_NAME.fullmatch(name):
        given = shown_value(name)
        yield f"{AT_FIELD}.{field}: must be 1 to 255 letters, digits, hyphens or underscores (given {given})"


def _container_faults(definition: dict[str, Any]) -> Iterator[str]:
    containers = definition["containerDefinitions"]
    if not containers:
        yield f"{AT_FIELD}.containerDefinitions: is empty; add a container"
    if len(containers) > MAX_CONTAINERS:
        yield f"{AT_FIELD}.containerDefinitions: has {len(containers)}, and ECS accepts {MAX_CONTAINERS}; remove some"
    for index, each in enumerate(containers):
        for field in ("name", "image"):
            if not each.get(field):
                yield f"{AT_FIELD}.containerDefinitions[{index}].{field}: is missing; add it"
        yield from _name_faults(each.get("name") or None, f"containerDefinitions[{index}].name")
    names = [each.get("name") for each in containers]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            yield f"{AT_FIELD}.containerDefinitions[{index}].name: {name} is used twice; rename one container"
    if containers and not any(each.get("essential", True) for each in containers):
        yield f"{AT_FIELD}.containerDefinitions: none is essential; at least one must be"


def _role_faults(definition: dict[str, Any]) -> Iterator[str]:
    for field in ("executionRoleArn", "taskRoleArn"):
        role = definition.get(field)
        # ECS accepts a name too, but the roles that may be passed are known by path and name.
        if role and not ROLE_ARN.fullmatch(role):
            yield f"{AT_FIELD}.{field}: must be the ARN of a role (given {shown_value(role)})"


def _size_faults(definition: dict[str, Any]) -> Iterator[str]:
    for field, pattern, example in (
        ("cpu", _CPU, '"256" (CPU units) or "0.25 vCPU"'),
        ("memory", _MEMORY, '"512" (MiB) or "0.5 GB"'),
    ):
        given = definition.get(field)
        if given is not None and not pattern.fullmatch(given):
            yield f"{AT_FIELD}.{field}: must be like {example} (given {shown_value(given)})"


def _storage_faults(definition: dict[str, Any]) -> Iterator[str]:
    size = definition.get("ephemeralStorage", {}).get("sizeInGiB", MIN_STORAGE)
    if not MIN_STORAGE <= size <= MAX_STORAGE:
        yield f"{AT_FIELD}.ephemeralStorage.sizeInGiB: must be {MIN_STORAGE} to {MAX_STORAGE} (given {size})"


def _tag_faults(definition: dict[str, Any]) -> Iterator[str]:
    tags = definition.get("tags", [])
    if len(tags) > MAX_DEFINITION_TAGS:
        yield f"{AT_FIELD}.tags: has {len(tags)}; ECS accepts 50, and Headgate adds one"
    for index, tag in enumerate(tags):
        name = tag.get("key", "")
        if not name:
            yield f"{AT_FIELD}.tags[{index}].key: is missing; add it"
        elif name.lower().startswith(("aws:", OWN_TAGS)):
            yield f"{AT_FIELD}.tags[{index}].key: {name} begins with a reserved prefix (aws: or {OWN_TAGS}); rename it"


_UNORDERED = {"environment": "name", "secrets": "name", "secretOptions": "name", "tags": "key"}
"""Lists without a significant order, and the field that identifies an item."""


def as_described(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition as DescribeTaskDefinition would, as far as ECS's defaults and units are documented.

    Definitions with the same result are equal to ECS. If two that are equal to ECS have different results, one more
    revision is registered, which is harmless.
    """
    described: dict[str, Any] = _plain_definition(definition)
    for field in ("cpu", "memory"):
        if field in described:
            described[field] = str(size_units(described[field]))
    if "requiresCompatibilities" in described:
        described["requiresCompatibilities"] = sorted(described["requiresCompatibilities"])
    # True is the default.
    described["containerDefinitions"] = [{"essential": True, **each} for each in described["containerDefinitions"]]
    return described


def _plain_definition(value: Any, name: str = "") -> Any:
    """Return a value without empty parts, which ECS treats as missing, and with unordered lists sorted."""
    if isinstance(value, dict):
        plain = {key: _plain_definition(each, key) for key, each in value.items()}
        return {key: each for key, each in plain.items() if each not in ({}, [])}
    if not isinstance(value, list):
        return value
    items = [_plain_definition(each) for each in value]
    if name in _UNORDERED and all(isinstance(each, dict) for each in items):
        items.sort(key=lambda each: str(each.get(_UNORDERED[name], "")))
    return items


def digest_of(definition: dict[str, Any]) -> str:
    """Return the SHA-256 digest, in hexadecimal, that equal definitions share."""
    canonical = json.dumps(as_described(definition), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
