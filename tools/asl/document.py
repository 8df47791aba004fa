"""Input of the rules: a state, a scope of states, and the texts and keys of a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class State:
    """A state, and the variables that states of its machine assign."""

    name: str
    body: dict[str, Any]
    variables: frozenset[str] = frozenset()

    @property
    def type(self) -> str:
        return str(self.body.get("Type"))

    @property
    def resource(self) -> str:
        return str(self.body.get("Resource", ""))

    @property
    def retriers(self) -> list[dict[str, Any]]:
        return list(self.body.get("Retry", []))

    @property
    def catchers(self) -> list[dict[str, Any]]:
        return list(self.body.get("Catch", []))

    @property
    def rules(self) -> list[dict[str, Any]]:
        return list(self.body.get("Choices", []))


@dataclass(frozen=True)
class Scope:
    """A machine, a branch of a Parallel or the processor of a Map: names are looked up within it."""

    name: str
    body: dict[str, Any]

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        return dict(self.body.get("States", {}))


# Comments are not checked; nested states have their own scope.
NOT_WALKED = {"Branches", "Comment", "ItemProcessor"}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for _, each in _items(value):
        yield from texts(each)


def keys(value: Any) -> Iterator[str]:
    for key, each in _items(value):
        yield key
        yield from keys(each)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((key, each) for key, each in value.items() if key not in NOT_WALKED)
    elif isinstance(value, list):
        yield from (("", each) for each in value)


def is_expression(text: Any) -> bool:
    return isinstance(text, str) and text.startswith("{% ") and text.endswith(" %}")


def expressions(value: Any) -> Iterator[str]:
    return (text for text in texts(value) if is_expression(text))
