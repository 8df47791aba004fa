"""The dry run of a request: everything that a rollout checks before its first change, and nothing on record.

The command ``headgate plan`` asks for it. It is refused for the same reasons and in the same words as the rollout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.rollouts.line import PUBLISHES_LATEST
from headgate.rollouts.locks import IdTaken, busy_reason, is_same_request
from headgate.spec.request import read_request
from headgate.spec.targets import EventSourceTarget
from headgate.targets.event_source.lookup import refuse_unfit, require_mapping
from headgate.targets.event_source.settings import source_of
from headgate.targets.lambda_alias import LambdaAliasDriver

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

    from headgate.planning.planner import Found, RolloutPlanner
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest


class DryRun:
    """Says what would become of a request now."""

    def __init__(self, planner: RolloutPlanner, table: Table, locks: Locks, functions: LambdaClient) -> None:
        self._planner = planner
        self._table = table
        self._locks = locks
        self._functions = functions

    def of(self, detail: object, default_id: str) -> dict[str, Any]:
        """Return what a rollout would do.

        Parameters
        ----------
        detail
            The detail of a Rollout Requested event.
        default_id
            The id of a request without one.

        Returns
        -------
        dict
            ``{"refused": reason}``, or ``request``, ``plan``, ``stable``, ``candidate`` if it exists already,
            ``behind`` and ``place`` if it would wait in line, and ``known``, the status of the rollout, if the same
            request was sent before.
        """
        try:
            told = self._try(read_request(detail, default_id))
        except RequestRefused as refusal:
            told = {"refused": str(refusal)}
        # Not as a warning, and not as an error of the function: nothing has happened.
        logger.info("dry run", refused=told.get("refused", ""))
        return told

    def _try(self, request: RolloutRequest) -> dict[str, Any]:
        known = self._table.rollout(request.id)
        if known and not is_same_request(known, request):
            raise IdTaken(request.id)
        if known and known.status == "refused":
            raise RequestRefused(f"id: {request.id} was refused before, so send it under a new id; {known.reason}")
        if known:
            # It would be acknowledged and start nothing; what it has changed itself must not count against it.
            return {
                "request": request.to_wire(),
                "plan": known.plan,
                "known": known.status,
                **{name: value for name in ("stable", "candidate") if (value := getattr(known, name))},
            }
        plan, planned = self._planner.plan_found(request)
        waits = self._wait_of(request, plan)
        if "behind" in waits and request.publishes_latest:
            plan = plan.model_copy(update={"warnings": [*plan.warnings, PUBLISHES_LATEST]})
        found = {} if "behind" in waits else self._look_ahead(plan, planned)
        return {"request": request.to_wire(), "plan": plan.to_wire(), **found, **waits}

    def _wait_of(self, request: RolloutRequest, plan: Plan) -> dict[str, Any]:
        """Return the place in line that the request would get, or refuse it if it does not wait."""
        lock = self._table.lock(request.target.key)
        if not lock.owner:
            self._locks.refuse_taken(plan)
            return {}
        if request.on_busy == "refuse":
            raise RequestRefused(busy_reason(request, lock.owner))
        return {"behind": lock.owner, "place": lock.waiting + 1}

    def _look_ahead(self, plan: Plan, planned: Found) -> dict[str, str]:
        """Check the target and the candidate, which the driver checks again when it prepares them."""
        if planned.service:
            known = {"stable": planned.service.stable, "candidate": planned.service.candidate}
            return {name: revision for name, revision in known.items() if revision}
        if isinstance(plan.target, EventSourceTarget):
            mapping = require_mapping(self._functions, plan.target.mapping)
            refuse_unfit(mapping, source_of(mapping)[1])
        driver = LambdaAliasDriver(
            self._functions, None, plan, still_ours=lambda: None, rejected=self._table.rejected_code
        )
        found = driver.look_ahead()
        return {"stable": found.stable, **({"candidate": found.candidate} if found.candidate else {})}
