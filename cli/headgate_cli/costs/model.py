"""A cost: its lines and their sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field

from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate_cli.costs.prices import PriceName, Prices

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CostModel(Wire):
    """Base of the models of costs."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class CostLine(CostModel):
    """One thing that AWS bills."""

    what: str
    """What is billed."""
    quantity: Amount
    """How much of it. Less than was used if a part of it is free."""
    unit: str
    """Its unit, such as ``transition`` or ``GB-second``."""
    unit_price: Amount
    """Price of one unit in US dollars."""
    dollars: Amount
    """Quantity times unit price."""


class Cost(CostModel):
    """What something costs, by list prices and without taxes."""

    subject: str
    """What the cost is of."""
    period: str = ""
    """``month`` of 730 hours, if it is by time; empty if it arises once."""
    region: str
    """The Region that was asked for."""
    price_table: str
    """The Region whose price table was used."""
    prices_as_of: str
    """Month of the oldest price that was used; empty if no price has one."""
    lines: list[CostLine]
    """What is billed."""
    total: Amount
    """Sum of the lines in US dollars."""
    notes: list[str] = []
    """What was estimated, and what is left out."""


class Used:
    """Collects what was used, at the prices of one table."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._lines: list[CostLine] = []
        self._dates: list[str] = []

    def add(self, what: str, quantity: float, price: PriceName, unit: str) -> None:
        """Add a quantity at the price of this name. None of it adds no line."""
        if quantity <= 0:
            return
        each = self._prices.price(price)
        self._lines.append(
            CostLine(what=what, quantity=quantity, unit=unit, unit_price=each.dollars, dollars=quantity * each.dollars)
        )
        if each.as_of:
            self._dates.append(each.as_of)

    def cost(self, subject: str, notes: Iterable[str], *, period: str = "") -> Cost:
        """Return the cost of all that was added."""
        return Cost(
            subject=subject,
            period=period,
            region=self._prices.region,
            price_table=self._prices.table,
            prices_as_of=min(self._dates, default=""),
            lines=self._lines,
            total=sum(line.dollars for line in self._lines),
            notes=[*notes, *self._prices.notes],
        )
