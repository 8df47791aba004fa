"""Absolute limits on what a rollout moves: the source of a consumer, and the candidate's tasks of an ECS service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from headgate.analysis.service_limits import ServiceLimits
from headgate.analysis.source_limits import SourceLimits
from headgate.rollouts.after_promotion import limits_in
from headgate.rollouts.stopped_tasks import StoppedTasks
from headgate.spec.routing import ARMS
from headgate.spec.source import source_health
from headgate.spec.targets import EcsServiceTarget

if TYPE_CHECKING:
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from headgate.spec.target_state import StateOnRecord


class TargetLimits:
    """Checks the limits of each kind of target.

    Parameters
    ----------
    cloudwatch, sqs
        boto3's clients.
    """

    def __init__(self, table: Table, cloudwatch: Any, sqs: Any) -> None:
        self._sources = SourceLimits(cloudwatch, sqs)
        self._services = ServiceLimits(cloudwatch, StoppedTasks(table))

    def beyond(self, plan: Plan, record: RolloutRecord, state: StateOnRecord | None = None) -> str:
        """Return a sentence about an exceeded limit; empty if none is exceeded.

        Parameters
        ----------
        state
            State of the target from its driver. Default: the one on record.
        """
        known: Any = record.state or {} if state is None else state
        if isinstance(plan.target, EcsServiceTarget):
            # Not what an operator has forgiven.
            since = record.watched_since or record.started_at
            return self._services.beyond_limits(plan, cast("StateOnRecord", known), since)
        return self._sources.beyond_limits(plan, source_health(known), record.started_at)

    def after_promotion(self, plan: Plan, record: RolloutRecord, since: str) -> str:
        """Return a sentence about a limit that is exceeded after the promotion; empty if none is exceeded.

        Parameters
        ----------
        since
            Time of the promotion, in ISO 8601.
        """
        counted = list(limits_in(plan.guards.to_wire(), plan.after_promotion.then if plan.after_promotion else ""))
        state: Any = record.state or {}
        if "service" in counted:
            return self._services.beyond_limits(plan, state, since, arms=ARMS)
        if "source" not in counted or (health := source_health(state)) is None:
            return ""
        # The rollout's own queue is gone, and the mapping invokes the alias.
        return self._sources.beyond_limits(plan, health._replace(dead_letters=None, qualifier=None), since)
