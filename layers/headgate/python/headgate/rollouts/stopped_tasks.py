"""Tasks of a service's candidate that stopped by themselves during a rollout, each in an item of its own.

An item per task, and not a counter: ECS delivers an event at least once, and the same task must count once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.dynamodb import WriteConflict

if TYPE_CHECKING:
    from headgate.rollouts.table import Table


class StoppedTask(NamedTuple):
    """A task that stopped although nobody scaled it in or replaced it."""

    task_id: str
    at: str
    """Time when it stopped, in ISO 8601."""
    outcome: str
    """How it ended: a ``TaskOutcome``, or ``unhealthy`` if ECS replaced it because a health check failed."""
    reason: str
    faulty: bool
    """Whether the candidate is to blame. Lost capacity, such as a Spot interruption, is not its fault."""
    logs: list[str] = []
    """Last lines of its log, if they were read."""

    @classmethod
    def of(cls, item: dict[str, Any]) -> StoppedTask:
        """Read an item. Unknown attributes are ignored."""
        known = {name: item[name] for name in ("at", "outcome", "reason", "faulty", "logs") if name in item}
        return cls(task_id=item["sk"].removeprefix(keys.STOPPED_PREFIX), **known)

    def to_fields(self) -> dict[str, Any]:
        """Return the attributes of the item without its key."""
        fields = self._asdict()
        del fields["task_id"]
        return fields


class StoppedTasks:
    """Stores and reads the stopped tasks of rollouts."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, rollout_id: str, stopped: StoppedTask) -> bool:
        """Record a task. Return False if it is on record already, which then stays as it is."""
        pk, sk = keys.rollout_pk(rollout_id), keys.stopped_task_sk(stopped.task_id)
        try:
            self._table.transact(self._table.put(pk, sk, stopped.to_fields()))
        except WriteConflict:
            return False
        return True

    def of(self, rollout_id: str, since: str = "") -> list[StoppedTask]:
        """Return the tasks of a rollout that stopped at or after a time, the earliest first."""
        values = {":pk": keys.rollout_pk(rollout_id), ":prefix": keys.STOPPED_PREFIX}
        items = self._table.query("pk = :pk AND begins_with(sk, :prefix)", values, ConsistentRead=True)
        found = (StoppedTask.of(item) for item in items)
        return sorted((task for task in found if task.at >= since), key=lambda task: task.at)

    def exits(self, rollout_id: str, since: str = "") -> int:
        """Return how many tasks the candidate itself made stop. It is what ``guards.service.taskExits`` limits."""
        return sum(task.faulty for task in self.of(rollout_id, since))
