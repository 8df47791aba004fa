"""Prices: the table of this package, with its date and sources, and a file of the user's that overrides it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError

from headgate.json_faults import json_fault
from headgate.wire import explain
from headgate_cli.costs.model import CostModel
from headgate_cli.failures import Failure

TABLE = Path(__file__).with_name("prices.json")

FALLBACK = "us-east-1"
"""The Region whose prices stand for those of a Region without a table."""

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(CostModel):
    """The price of one unit."""

    dollars: Dollars
    """US dollars for one unit."""
    as_of: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}(-\d{2})?)?$")] = ""
    """Month or day on which it was read, such as ``2026-05``."""
    source: str = ""
    """Where it was read."""


class FreeTier(CostModel):
    """What is free each month."""

    lambda_requests: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Requests to Lambda."""
    gb_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """GB-seconds of Lambda."""


PriceName = Literal[
    "transition",
    "lambdaRequest",
    "gbSecondArm64",
    "gbSecondX86",
    "tableWrite",
    "tableRead",
    "event",
    "metricRead",
    "alarmMonth",
    "dashboardMonth",
    "shardHour",
    "queueRequest",
    "fifoRequest",
    "trace",
]
"""All prices are those of one unit: one request, one transition, one GB-second. ``tableWrite`` and ``tableRead`` are
request units of DynamoDB on demand; ``metricRead`` is one metric in GetMetricData."""


class PriceFile(CostModel):
    """A file of prices."""

    regions: dict[str, dict[PriceName, Price | Dollars]] = {}
    """Prices by Region and name. A price is a number, or an object with ``dollars``, ``asOf`` and ``source``."""
    free_tier: FreeTier | None = None
    """What is free each month."""


class Prices(NamedTuple):
    """The prices of one Region."""

    region: str
    """The Region that was asked for."""
    table: str
    """The Region whose table is used where no file says otherwise."""
    by_name: dict[PriceName, Price]
    free_tier: FreeTier
    notes: tuple[str, ...] = ()
    """Which prices these are."""

    def price(self, name: PriceName) -> Price:
        """Return the price of one unit."""
        return self.by_name[name]


def load_prices(region: str, file: Path | None = None) -> Prices:
    """Return the prices of a Region: those of the package, and over them those of a file. Empty means ``FALLBACK``.

    Raises
    ------
    Failure
        If the file cannot be read.
    """
    region = region or FALLBACK
    own = _own()
    over = PriceFile() if file is None else read_file(file)
    table = region if region in own.regions else FALLBACK
    asked = over.regions.get(region, {})
    by_name = {name: _price(price) for name, price in (own.regions[table] | asked).items()}
    missing = [name for name in by_name if name not in asked]
    notes = []
    if missing and table != region:
        some = "" if not asked else f" for {', '.join(missing)}"
        notes.append(
            f"There is no price table for {region}: the prices of {table} are used{some}. Prices differ by Region; "
            "give those of yours in a file by --prices."
        )
    if over.regions and not asked:
        notes.append(f"{file} has no prices for {region}, only for {', '.join(sorted(over.regions))}.")
    return Prices(region, table, by_name, over.free_tier or own.free_tier or FreeTier(), tuple(notes))


def read_file(file: Path) -> PriceFile:
    """Read a file of prices."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--prices: {file} cannot be read: {error}; give a JSON file of prices") from None
    try:
        return PriceFile.model_validate(json.loads(text), by_alias=True, by_name=False)
    except ValidationError as error:
        raise Failure(f"--prices: {file}: {explain(error, PriceFile)}") from None
    except (ValueError, RecursionError) as error:
        raise Failure(f"--prices: {file} is not JSON: {json_fault(error)}") from None


def _price(given: Price | float) -> Price:
    return given if isinstance(given, Price) else Price(dollars=given)


@cache
def _own() -> PriceFile:
    return PriceFile.model_validate(json.loads(TABLE.read_text("utf-8")), by_alias=True, by_name=False)
