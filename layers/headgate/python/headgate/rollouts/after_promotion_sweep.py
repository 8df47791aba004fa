"""The look of each minute at promoted rollouts that are watched: their alarms, their limits, and their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.analysis.alarms import ALARM_DELETED, changed_at, lost_in
from headgate.aws.dynamodb import iso_of
from headgate.rollouts.after_promotion import alarm_reason
from headgate.rollouts.isolation import isolated
from headgate.spec.plan import Plan

if TYPE_CHECKING:
    from headgate.analysis.alarms import AlarmStates
    from headgate.rollouts.after_promotion import Watch, Watches
    from headgate.rollouts.isolation import IsolatedBlock
    from headgate.rollouts.table import Table
    from headgate.rollouts.target_limits import TargetLimits

LAST_LOOK = timedelta(minutes=2)
"""How long after its time a watch still looks once. What is found later came too late to be held against it."""


class AfterPromotionSweep:
    """Looks at all watches. An alarm's event that is lost, and every limit, is found here."""

    def __init__(self, table: Table, watches: Watches, alarms: AlarmStates, limits: TargetLimits) -> None:
        self._table, self._watches = table, watches
        self._alarms, self._limits = alarms, limits

    def look_at_all(self) -> None:
        """End the watches whose rollout has a fault or was superseded, and those whose time is up."""
        with isolated() as trying:
            watches = self._watches.all()
            found = self._states(watches, trying)
            for watch in watches:
                with trying(watch.rollout_id, "a promoted rollout could not be watched"):
                    self._look(watch, found)

    def _states(self, watches: list[Watch], trying: IsolatedBlock) -> dict[str, Any] | None:
        """Return all alarms of the watches as CloudWatch describes them; None if they cannot be read now."""
        names = list(dict.fromkeys(alarm for watch in watches for alarm in watch.alarms))
        with trying("all watches", "the alarms of promoted rollouts could not be read"):
            return self._alarms.read(names)
        return None

    def _look(self, watch: Watch, found: dict[str, Any] | None) -> None:
        if self._watches.end_if_superseded(watch, self._table.lock(watch.target_key)):
            return
        now = datetime.now(UTC)
        until = datetime.fromisoformat(watch.until)
        if now < until + LAST_LOOK and (self._finds_alarm(watch, found) or self._finds_limit(watch, now)):
            return
        if now >= until:
            self._watches.end(watch, "quiet", "nothing spoke against it")

    def _finds_alarm(self, watch: Watch, found: dict[str, Any] | None) -> bool:
        """Return whether an alarm has ended the watch."""
        if found is None:
            return False
        lost = lost_in(found, watch.alarms, already=watch.already, since=watch.since)
        for name in lost.firing:
            at = changed_at(found[name])
            if at and iso_of(at.astimezone(UTC)) > watch.until:
                continue
            reason = alarm_reason(name, found[name].get("StateReason", ""))
            if self._watches.take_fault(watch, reason, alarm=name, at=at):
                return True
        return any(
            self._watches.take_fault(watch, alarm_reason(name, ALARM_DELETED), alarm=name, at=None)
            for name in lost.deleted
        )

    def _finds_limit(self, watch: Watch, now: datetime) -> bool:
        """Return whether a limit has ended the watch."""
        record = self._table.rollout(watch.rollout_id) if watch.limits else None
        if record is None:
            return False
        plan = Plan.model_validate(record.plan)
        reason = self._limits.after_promotion(plan, record, watch.began)
        return bool(reason) and self._watches.take_fault(watch, reason, at=now)
