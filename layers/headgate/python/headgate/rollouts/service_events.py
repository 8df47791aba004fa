"""Signals from events of Amazon ECS about the services that rollouts move.

An event names a service, or a task with its service. The service is the key of the lock, and the lock names the
rollout. A candidate whose tasks do not stay up ends its rollout. Tasks that lost their capacity are put on record only.
A deployment that somebody else began wakes the bake, and the driver looks at the target at once.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.dynamodb import iso_of
from headgate.aws.observability import logger
from headgate.ecs_tasks.logs import log_streams_of
from headgate.ecs_tasks.outcome import of_task
from headgate.ecs_tasks.overrides import containers_of
from headgate.errors import SignalRefused
from headgate.rollouts.signal_events import TASK_EVENT, latest
from headgate.rollouts.stopped_tasks import StoppedTask
from headgate.spec.routing import green_name, service_of_green

if TYPE_CHECKING:
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.ecs_tasks.outcome import TaskEnding
    from headgate.ecs_tasks.runs import TaskRuns
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.stopped_tasks import StoppedTasks
    from headgate.rollouts.table import Table
    from headgate.spec.guards import GuardAction


ENOUGH_FAULTY_TASKS = 3
"""Tasks that stop by the candidate's fault within ``WINDOW`` and end the rollout. ECS's circuit breaker waits for as
many: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
"""

WINDOW = timedelta(minutes=15)
"""ECS starts tasks that fail again and again at growing intervals; the first few follow within minutes."""

NOT_ITS_FAULT = ("interrupted", "no-capacity", "over-quota", "throttled")
"""Outcomes of a task that do not speak against what it runs."""

UNHEALTHY = "Task failed "
"""Beginning of ECS's reason for a task that it replaces after a health check of a container or the load balancer."""

LOG_LINES = 3
"""Lines of the log of a failed task that a reason has."""


class _Owner(NamedTuple):
    """The rollout that owns a service, and whether the service is its green service."""

    record: RolloutRecord
    is_green: bool


class ServiceEvents:
    """Handles events of ECS. A repeated or late event changes nothing.

    Parameters
    ----------
    runs
        Reads the logs of tasks.
    ecs
        boto3's client of ECS.
    """

    def __init__(
        self, table: Table, stopped: StoppedTasks, ledgers: LedgerStore, signaller: Signaller, runs: TaskRuns, ecs: Any
    ) -> None:
        self._table, self._stopped, self._ledgers, self._signaller = table, stopped, ledgers, signaller
        self._runs, self._ecs = runs, ecs

    def take(self, event: dict[str, Any]) -> None:
        """Handle one of ``SERVICE_EVENTS``."""
        if event["detail-type"] == TASK_EVENT:
            self._take_task(event)
        else:
            self._take_deployment(event)

    def _take_deployment(self, event: dict[str, Any]) -> None:
        """Handle the beginning or the failure of a deployment."""
        detail = event["detail"]
        cluster, _, service = event["resources"][0].partition(":service/")[2].partition("/")
        owner = self._owner_of(cluster, service)
        if owner is None or _time_of(event) < owner.record.started_at:
            return
        name, deployment = detail["eventName"], detail.get("deploymentId", "")
        if not owner.is_green:
            began = "failed" if name == "SERVICE_DEPLOYMENT_FAILED" else "began"
            self._tell_of_change(owner.record, deployment, f"deployment {deployment} of service {service} {began}")
        elif name == "SERVICE_DEPLOYMENT_FAILED":
            why = f"the deployment of the candidate failed: {detail.get('reason') or 'ECS tells no reason'}"
            last = [task for task in self._stopped.of(owner.record.id) if task.faulty][-1:]
            self._report(owner.record, "rollback", "; ".join([why, *map(_in_words, last)]))

    def _tell_of_change(self, record: RolloutRecord, deployment: str, reason: str) -> None:
        """Wake the bake, so that the driver finds at once what somebody else does to the service.

        While it prepares, promotes or gives back, the driver deploys itself, and looks at the service with each call.
        """
        try:
            signal_id = f"changed-{deployment.rpartition('/')[2]}"
            self._signaller.send(record.id, signal_id, "changed", by="ecs", reason=reason)
        except SignalRefused as refusal:
            logger.info("a deployment is left to the driver", rollout_id=record.id, reason=str(refusal))
        else:
            logger.info("signal recorded", rollout_id=record.id, signal="changed", reason=reason)

    def _take_task(self, event: dict[str, Any]) -> None:
        """Handle a task that stopped."""
        task = event["detail"]
        service = task.get("group", "").removeprefix("service:")
        cluster = task["clusterArn"].partition(":cluster/")[2]
        owner = self._owner_of(cluster, service)
        if owner is None:
            self._keep_for_watch(cluster, service, event)
            return
        if not _runs_candidate(task, owner) or _created(task, event) < owner.record.started_at:
            return
        logger.append_keys(rollout_id=owner.record.id)
        stopped = self._read(task, event)
        if stopped is None:
            return
        if self._stopped.add(owner.record.id, stopped):
            logger.info("a task of the candidate stopped", **stopped._asdict())
        # Also if the event was delivered again: the first time, the function may not have come this far.
        if stopped.faulty:
            self._judge(owner.record)

    def _keep_for_watch(self, cluster: str, service: str, event: dict[str, Any]) -> None:
        """Put a task of a promoted candidate on record that stopped while its rollout is watched.

        The look of each minute compares them with ``guards.service.taskExits``.
        """
        task = event["detail"]
        last = self._table.lock(f"ecs-service/{cluster}/{service}").last
        record = self._table.rollout(last) if last else None
        if record is None or not record.is_watched:
            return
        is_promoted = task["taskDefinitionArn"].rpartition("/")[2] == record.candidate
        if is_promoted and (stopped := self._read(task, event)) and self._stopped.add(record.id, stopped):
            logger.info("a task of the promoted revision stopped", rollout_id=record.id, **stopped._asdict())

    def _read(self, task: dict[str, Any], event: dict[str, Any]) -> StoppedTask | None:
        """Classify a stopped task. None if ECS or somebody stopped it on purpose."""
        definition = self._definition_of(task)
        ending = of_task(task, [each["name"] for each in containers_of(definition) if each.get("essential", True)])
        outcome: str = ending.outcome
        reason = ending.reason
        if outcome == "stopped":
            if not ending.status_reason.startswith(UNHEALTHY):
                return None
            outcome, reason = "unhealthy", ending.status_reason
        faulty = outcome not in NOT_ITS_FAULT
        return StoppedTask(
            task_id=task["taskArn"].rpartition("/")[2],
            at=_iso(task.get("stoppedAt")) or _time_of(event),
            outcome=outcome,
            reason=reason,
            faulty=faulty,
            logs=self._last_lines(definition, ending) if faulty else [],
        )

    def _definition_of(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the task definition; empty if it cannot be read. It only makes the reason better."""
        try:
            response = self._ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
        except (ClientError, BotoCoreError):
            logger.warning("a task definition cannot be read", definition=task["taskDefinitionArn"], exc_info=True)
            return {}
        return dict(response["taskDefinition"])

    def _last_lines(self, definition: dict[str, Any], ending: TaskEnding) -> list[str]:
        logs = self._runs.last_logs(log_streams_of(definition), ending)
        return [line for log in logs for line in log["lines"][-LOG_LINES:]][-LOG_LINES:]

    def _judge(self, record: RolloutRecord) -> None:
        """End the rollout if enough tasks have failed. What an operator has forgiven does not count again.

        With traffic, ``guards.service.taskExits`` is the limit, if the request has it. Before any traffic, nothing but
        these tasks shows that a candidate does not start, and the rollout need not wait for it.
        """
        since = record.watched_since or record.started_at
        faulty = [task for task in self._stopped.of(record.id, since) if task.faulty]
        guard = (record.plan.get("guards") or {}).get("service") or {}
        limit, action = guard.get("taskExits"), guard.get("action", "rollback")
        exceeded = limit is not None and len(faulty) > limit
        recent = [task for task in faulty if task.at >= iso_of(datetime.now(UTC) - WINDOW)]
        starts_not = (limit is None or record.aim is None) and len(recent) >= ENOUGH_FAULTY_TASKS
        # A candidate that does not start has nothing to wait for, whatever its guard does at a limit.
        if starts_not and not (exceeded and action == "rollback"):
            minutes = WINDOW.total_seconds() / 60
            why = f"{len(recent)} tasks of the candidate stopped by themselves within {minutes:.0f} minutes"
            self._report(record, "rollback", f"{why}; {_in_words(recent[-1])}")
        elif exceeded:
            why = f"{len(faulty)} tasks of the candidate stopped by themselves; guards.service.taskExits is {limit}"
            self._report(record, action, f"{why}; {_in_words(faulty[-1])}")

    def _report(self, record: RolloutRecord, action: GuardAction, reason: str) -> None:
        ledger = self._ledgers.read(record.id)
        self._signaller.report_excess(record.id, ledger.restarts if ledger else 0, action, by="ecs", reason=reason)
        logger.info("the candidate does not stay up", rollout_id=record.id, reason=reason)

    def _owner_of(self, cluster: str, service: str) -> _Owner | None:
        """Return the rollout that moves a service, or to which a green service belongs."""
        if not cluster or not service:
            return None
        if record := self._owner_of_lock(cluster, service):
            return _Owner(record, is_green=False)
        original = service_of_green(service)
        record = self._owner_of_lock(cluster, original) if original else None
        if original is None or record is None or green_name(original, record.id) != service:
            return None  # No green service, or one of an earlier rollout.
        return _Owner(record, is_green=True)

    def _owner_of_lock(self, cluster: str, service: str) -> RolloutRecord | None:
        owner = self._table.lock(f"ecs-service/{cluster}/{service}").owner
        record = self._table.running(owner) if owner else None
        return None if record is None or record.phase == "rolling-back" else record


def _runs_candidate(task: dict[str, Any], owner: _Owner) -> bool:
    """Return whether a task runs the candidate: in its green service, or in its task set of the service itself.

    Beside a green service, tasks of the service itself are the stable revision's until the release, which the driver
    watches.
    """
    if owner.is_green:
        return True
    routing = owner.record.plan.get("routing") or {}
    revision = task["taskDefinitionArn"].rpartition("/")[2]
    candidate, stable = owner.record.candidate, owner.record.stable
    return routing.get("way") == "task-sets" and bool(candidate) and candidate != stable and revision == candidate


def _created(task: dict[str, Any], event: dict[str, Any]) -> str:
    """Return when a task was created, in ISO 8601: one that is older than the rollout belongs to an earlier one."""
    return _iso(task.get("createdAt")) or _time_of(event)


def _time_of(event: dict[str, Any]) -> str:
    """Return when something happened, in ISO 8601. EventBridge tells whole seconds: the latest instant it may mean."""
    told: str = event["detail"].get("updatedAt") or event["time"]
    return _iso(latest(told))


def _iso(time: Any) -> str:
    """Return a time of an event as the records have it; empty if it is missing."""
    return iso_of(datetime.fromisoformat(time).astimezone(UTC)) if isinstance(time, str) and time else ""


def _in_words(task: StoppedTask) -> str:
    lines = f"; last lines of its log: {' | '.join(task.logs)}" if task.logs else ""
    return f"task {task.task_id} {_ENDED.get(task.outcome, 'ended')}: {task.reason}{lines}"


_ENDED = {
    "could-not-start": "could not start",
    "out-of-memory": "ran out of memory",
    "unhealthy": "was unhealthy",
    "succeeded": "stopped by itself",
    "exited": "stopped by itself",
}
"""What a reason says of a task, by its outcome."""
