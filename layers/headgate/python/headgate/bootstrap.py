"""The composition root: it builds what more than one function works with, from the environment and AWS's clients.

A handler asks an ``Application`` for its parts and hands them to the one object that does its work. Parts are imported
and made when they are asked for, so that the start of a function pays for none but its own. Import this module first.
"""

from __future__ import annotations

import gc
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headgate.aws.settings import Environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.analysis.alarms import AlarmStates
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.aws.stream_replay import StreamReplay
    from headgate.aws.undelivered import UndeliveredRecords
    from headgate.ecs_tasks.limits import TaskLimits
    from headgate.rollouts.evidence_watch import EvidenceWatch
    from headgate.rollouts.executions import Executions
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.settlement import Settler
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table

# A start makes objects and leaves hardly any garbage, yet Python looks for it over and over: a tenth of the time that
# boto3, Powertools and the models take to import. What may lie about between two looks is some megabytes of the 512.
gc.set_threshold(100_000)


class Application:
    """The parts of Headgate in one function.

    Parameters
    ----------
    attempts
        Requests that a call may make, by service; as ``aws.clients.client`` has it for any other.

    Attributes
    ----------
    environment
        What the template tells the function.
    """

    def __init__(self, attempts: Mapping[str, int] | None = None) -> None:
        self.environment = Environment()
        self._attempts = attempts or {}
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The function's boto3 client of a service."""
        from headgate.aws import clients

        if service not in self._clients:
            attempts = {"attempts": self._attempts[service]} if service in self._attempts else {}
            self._clients[service] = clients.client(service, **attempts)
        return self._clients[service]

    def invoker(self, answer_seconds: int) -> Any:
        """A Lambda client that invokes once and waits for so long."""
        from headgate.aws import clients

        return clients.invoker(answer_seconds)

    def hurried_queues(self) -> Any:
        """A client of SQS for a call that is worth two seconds and no second try."""
        from headgate.aws import clients

        return clients.client("sqs", attempts=1, connect_seconds=1, read_seconds=1)

    # --- The record of rollouts --------------------------------------------------------------------------------------

    @cached_property
    def table(self) -> Table:
        from headgate.rollouts.table import Table

        return Table(self.client("dynamodb"), self.environment.table, self.environment.retention_days)

    @cached_property
    def locks(self) -> Locks:
        from headgate.rollouts.locks import Locks

        return Locks(self.table)

    @cached_property
    def settler(self) -> Settler:
        from headgate.rollouts.settlement import Settler

        return Settler(self.table)

    @cached_property
    def steps(self) -> Steps:
        from headgate.rollouts.steps import Steps

        return Steps(self.table)

    @cached_property
    def inbox(self) -> SignalInbox:
        from headgate.rollouts.signal_inbox import SignalInbox

        return SignalInbox(self.table)

    @cached_property
    def signaller(self) -> Signaller:
        from headgate.rollouts.signaller import Signaller

        return Signaller(self.inbox, self.client("stepfunctions"))

    @cached_property
    def executions(self) -> Executions:
        from headgate.rollouts.executions import Executions

        return Executions(self.client("stepfunctions"), self.environment.rollout_machine)

    # --- Evidence ----------------------------------------------------------------------------------------------------

    @cached_property
    def ledgers(self) -> LedgerStore:
        from headgate.analysis.ledger_store import LedgerStore

        return LedgerStore(self.client("dynamodb"), self.environment.table, self.environment.retention_days)

    @cached_property
    def alarms(self) -> AlarmStates:
        from headgate.analysis.alarms import AlarmStates

        return AlarmStates(self.client("cloudwatch"))

    @cached_property
    def watch(self) -> EvidenceWatch:
        from headgate.rollouts.evidence_watch import EvidenceWatch

        return EvidenceWatch(self.table, self.locks, self.ledgers, self.signaller)

    # --- ECS tasks ---------------------------------------------------------------------------------------------------

    @cached_property
    def task_limits(self) -> TaskLimits:
        from headgate.ecs_tasks.limits import TaskLimits

        told = self.environment
        return TaskLimits(
            account=told.account,
            roles=told.task_roles,
            families=told.task_definitions,
            may_register=told.may_register_task_definitions,
            clusters=told.task_clusters,
        )

    # --- Queues and streams ------------------------------------------------------------------------------------------

    @cached_property
    def undelivered(self) -> UndeliveredRecords:
        from headgate.aws.undelivered import UndeliveredRecords

        return UndeliveredRecords(self.client("sqs"), self.environment)

    @cached_property
    def streams(self) -> StreamReplay:
        from headgate.aws.stream_replay import INVOCATION_SECONDS, StreamReplay

        return StreamReplay(self.client("kinesis"), self.client("dynamodbstreams"), self.invoker(INVOCATION_SECONDS))
