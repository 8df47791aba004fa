"""Plans of executions: a new one, or the earlier one of a request that was sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.rollouts.locks import is_same_request

if TYPE_CHECKING:
    from headgate.planning.planner import RolloutPlanner
    from headgate.rollouts.table import Table
    from headgate.spec.request import RolloutRequest


class Plans:
    """Plans requests, also those that cannot be planned any more because of what has changed since the first time."""

    def __init__(self, planner: RolloutPlanner, table: Table) -> None:
        self._planner = planner
        self._table = table

    def plan_of(self, request: RolloutRequest, execution_name: str) -> dict[str, Any]:
        """Return the plan of a request in its JSON form.

        Raises
        ------
        RequestRefused
            If it cannot be carried out here or now, with the recorded reason if it was refused before.
        """
        try:
            plan = self._planner.plan(request)
        except RequestRefused:
            if earlier := self._earlier(request, execution_name):
                # Acquire finds how that rollout stands.
                return earlier
            raise
        for warning in plan.warnings:
            logger.warning(warning)
        logger.info("planned", steps=len(plan.steps), bake_seconds=plan.bake_seconds, firing=plan.firing)
        return plan.to_wire()

    def _earlier(self, request: RolloutRequest, execution_name: str) -> dict[str, Any] | None:
        """Return the plan of another execution's rollout of the same request, if there is one."""
        known = self._table.rollout(request.id)
        if known is None or known.execution.endswith(f":{execution_name}") or not is_same_request(known, request):
            return None
        if known.plan:
            return known.plan
        waits = f"id: rollout {request.id} waits in line, in the execution {known.execution}; wait for that one"
        raise RequestRefused(known.reason or waits)
