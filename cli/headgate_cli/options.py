"""Types of options. Their errors name the option, the value and the fix."""

from __future__ import annotations

import json
from math import inf, isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from pydantic import ValidationError

from headgate.json_faults import json_fault
from headgate.spec.strategy import Step, Strategy, steps_of
from headgate.wire import Wire, explain

if TYPE_CHECKING:
    from click import Context, Parameter

PICTURES = (".png", ".svg", ".pdf")


class Number(click.ParamType):
    """A finite number within bounds; with ``whole``, an integer."""

    def __init__(
        self,
        *,
        above: float = -inf,
        at_least: float = -inf,
        below: float = inf,
        at_most: float = inf,
        whole: bool = False,
    ) -> None:
        self.name = "integer" if whole else "number"
        self._above, self._at_least, self._below, self._at_most = above, at_least, below, at_most

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        try:
            number = int(value) if self.name == "integer" else float(value)
        except ValueError:
            number = nan
        # NaN is not within any bounds.
        if not (self._above < number < self._below and self._at_least <= number <= self._at_most):
            self.fail(f"must be {self._bounds} (given {value})", param, ctx)
        return number

    @property
    def _bounds(self) -> str:
        bounds = {
            "above": self._above,
            "at least": self._at_least,
            "below": self._below,
            "at most": self._at_most,
        }
        named = [f"{name} {bound:,.12g}" for name, bound in bounds.items() if isfinite(bound)]
        return f"{'a whole' if self.name == 'integer' else 'a'} number {' and '.join(named)}"


class _Asked(Wire):
    """The strategy of a request."""

    strategy: Strategy


class Chosen(NamedTuple):
    """A strategy as given, and its steps."""

    given: Any
    steps: tuple[Step, ...]


class StrategyToJudge(click.ParamType):
    """A strategy as in a request, the name of a preset or JSON, with at least one bake beside stable traffic."""

    name = "strategy"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Chosen:
        given = self._read(value, param, ctx)
        try:
            steps = steps_of(_Asked.model_validate({"strategy": given}, by_alias=True, by_name=False).strategy)
        except ValidationError as error:
            self.fail(explain(error, _Asked), param, ctx)
        if not any(step.bake_seconds and step.weight < 100 for step in steps):
            self.fail(
                "never bakes with traffic on both versions, so there is nothing to judge; use another one, such as "
                f"Canary10Percent5Minutes (given {value})",
                param,
                ctx,
            )
        return Chosen(given, steps)

    def _read(self, value: str, param: Parameter | None, ctx: Context | None) -> Any:
        if not value.lstrip().startswith(("{", "[", '"')):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"is not JSON: {json_fault(error)}; put it in single quotes (given {value})", param, ctx)


class Picture(click.ParamType):
    """A file for the picture. Its folder must exist."""

    name = "file"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Path:
        file = Path(value)
        if file.suffix.lower() not in PICTURES:
            self.fail(f"must end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]} (given {value})", param, ctx)
        if not file.parent.is_dir():
            self.fail(f"its folder does not exist; create {file.parent} first (given {value})", param, ctx)
        return file
