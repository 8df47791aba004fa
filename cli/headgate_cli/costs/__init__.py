"""What rollouts, requests and the installation cost: quantities times list prices. Calls no AWS.

``of_plan`` and ``of_rollout`` take prices from ``load_prices``, and return a ``Cost``.
"""

from headgate_cli.costs.model import Cost, CostLine
from headgate_cli.costs.prices import Prices, load_prices
from headgate_cli.costs.rollouts import of_plan, of_rollout

__all__ = ["Cost", "CostLine", "Prices", "load_prices", "of_plan", "of_rollout"]
