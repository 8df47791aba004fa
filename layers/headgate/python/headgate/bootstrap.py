"""The composition root: builds the shared parts of the functions from the environment and boto3 clients.

A handler gets parts from an ``Application`` and passes them to the object that does its work. Each part is imported and
created on first use, so that a cold start includes only what the function needs. Import this module first.
"""

from __future__ import annotations

import gc
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headgate.aws.settings import Environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.analysis.alarms import AlarmStates
    from headgate.analysis.count_functions import CountFunctions
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.aws.own_resources import OwnResources
    from headgate.aws.pace import Pace
    from headgate.aws.patterns import Patterns
    from headgate.aws.stream_replay import StreamReplay
    from headgate.aws.undelivered import UndeliveredRecords
    from headgate.counting.prometheus_access import PrometheusAccess
    from headgate.ecs_tasks.limits import TaskLimits
    from headgate.history.store import History
    from headgate.jobs.store import JobStore
    from headgate.planning.count_checks import CountChecks
    from headgate.planning.service_planning import ServicePlanning
    from headgate.rollouts.after_promotion import Watches
    from headgate.rollouts.evidence_watch import EvidenceWatch
    from headgate.rollouts.executions import Executions
    from headgate.rollouts.kept_undo import KeptUndo
    from headgate.rollouts.line import Line
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.service_events import ServiceEvents
    from headgate.rollouts.settlement import Settler
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.signal_refusals import SignalLetters, SignalRefusals
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.stacks.store import StackStore

# A cold start creates many objects and little garbage, but at the default threshold Python collects often: a tenth of
# the import time of boto3, Powertools and the models. Between two collections, a few of the 512 MB may be garbage.
gc.set_threshold(100_000)


class Application:
    """The parts of Headgate in one function.

    Parameters
    ----------
    attempts
        Attempts per call, by service, for a function that is called again: its clients do not slow down by themselves.
        Other services have the defaults of ``aws.clients.client``.

    Attributes
    ----------
    environment
        The environment variables from the template.
    """

    def __init__(self, attempts: Mapping[str, int] | None = None) -> None:
        self.environment = Environment()
        self._attempts = attempts or {}
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the function's boto3 client for a service."""
        from headgate.aws import clients

        if service not in self._clients:
            own = self._attempts.get(service)
            self._clients[service] = (
                clients.client(service) if own is None else clients.client(service, own, adaptive=False)
            )
        return self._clients[service]

    def impatient_client(self, service: str) -> Any:
        """Return a client with short timeouts and no retries, for lookups that a rollout can do without."""
        from headgate.aws import clients

        return clients.impatient_client(service)

    def mover(self, pace: Pace) -> Any:
        """Return a client of Lambda's control plane that repeats throttled calls at this pace."""
        from headgate.aws import clients

        return clients.mover(pace)

    def invoker(self, answer_seconds: int) -> Any:
        """Return a Lambda client that invokes once and waits ``answer_seconds`` for the response."""
        from headgate.aws import clients

        return clients.invoker(answer_seconds)

    def hurried_queues(self) -> Any:
        """Return an SQS client for a call that takes at most two seconds and is not retried."""
        from headgate.aws import clients

        return clients.client("sqs", attempts=1, connect_seconds=1, read_seconds=1)

    @cached_property
    def table(self) -> Table:
        from headgate.rollouts.table import Table

        return Table(self.client("dynamodb"), self.environment.table, self.environment.retention_days)

    @cached_property
    def locks(self) -> Locks:
        from headgate.rollouts.locks import Locks

        return Locks(self.table)

    @cached_property
    def line(self) -> Line:
        from headgate.rollouts.line import Line

        return Line(self.table)

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
    def watches(self) -> Watches:
        from headgate.rollouts.after_promotion import Watches

        return Watches(self.table)

    @cached_property
    def kept_undo(self) -> KeptUndo:
        from headgate.rollouts.kept_undo import KeptUndo

        return KeptUndo(self.table, self.signaller)

    @cached_property
    def service_events(self) -> ServiceEvents:
        from headgate.ecs_tasks.runs import TaskRuns
        from headgate.rollouts.service_events import ServiceEvents
        from headgate.rollouts.stopped_tasks import StoppedTasks

        # A signal does not wait for a log: its lines only make a reason better.
        ecs, logs = self.impatient_client("ecs"), self.impatient_client("logs")
        return ServiceEvents(
            self.table, StoppedTasks(self.table), self.ledgers, self.signaller, TaskRuns(ecs, logs), ecs
        )

    @cached_property
    def signal_refusals(self) -> SignalRefusals:
        from headgate.rollouts.signal_refusals import SignalRefusals

        return SignalRefusals(self.table)

    @cached_property
    def signal_letters(self) -> SignalLetters:
        from headgate.rollouts.signal_refusals import SignalLetters

        # Most signals are accepted, and an abort must not wait for a client of SQS.
        return SignalLetters(lambda: self.client("sqs"), self.environment)

    @cached_property
    def executions(self) -> Executions:
        from headgate.rollouts.executions import Executions

        return Executions(self.client("stepfunctions"), self.environment.rollout_machine)

    @cached_property
    def ledgers(self) -> LedgerStore:
        from headgate.analysis.ledger_store import LedgerStore

        return LedgerStore(self.client("dynamodb"), self.environment.table, self.environment.retention_days)

    @cached_property
    def alarms(self) -> AlarmStates:
        from headgate.analysis.alarms import AlarmStates

        return AlarmStates(self.client("cloudwatch"))

    @cached_property
    def count_functions(self) -> CountFunctions:
        from headgate.analysis.count_functions import ANSWER_SECONDS, AT_ONCE, CountFunctions
        from headgate.aws import clients

        return CountFunctions(clients.invoker(ANSWER_SECONDS, AT_ONCE))

    @cached_property
    def count_checks(self) -> CountChecks:
        from headgate.planning.count_checks import CountChecks

        return CountChecks(self.count_functions, self.own, self.patterns)

    @cached_property
    def watch(self) -> EvidenceWatch:
        from headgate.rollouts.evidence_watch import EvidenceWatch

        return EvidenceWatch(self.table, self.locks, self.ledgers, self.signaller)

    @cached_property
    def task_limits(self) -> TaskLimits:
        from headgate.ecs_tasks.limits import TaskLimits

        environment = self.environment
        return TaskLimits(
            account=environment.account,
            roles=environment.task_roles,
            families=environment.task_definitions,
            may_register=environment.may_register_task_definitions,
            clusters=environment.task_clusters,
        )

    @cached_property
    def service_planning(self) -> ServicePlanning:
        from headgate.ecs_tasks.registry import TaskRegistry
        from headgate.planning.service_planning import ServicePlanning
        from headgate.targets.ecs_service.candidates import CandidateCheck
        from headgate.targets.ecs_service.lookup import ServiceLookup

        ecs = self.client("ecs")
        return ServicePlanning(
            ServiceLookup(ecs, self.client("elbv2")),
            CandidateCheck(TaskRegistry(ecs), self.task_limits),
            self.impatient_client("application-autoscaling"),
            self.table,
            self.patterns,
        )

    @cached_property
    def history(self) -> History:
        from headgate.history.store import History

        return History(self.client("dynamodb"), self.environment.table)

    @cached_property
    def jobs(self) -> JobStore:
        from headgate.jobs.store import JobStore

        return JobStore(self.client("dynamodb"), self.environment.table, self.environment.retention_days)

    @cached_property
    def stacks(self) -> StackStore:
        from headgate.stacks.store import StackStore

        return StackStore(self.client("dynamodb"), self.environment.table)

    @cached_property
    def undelivered(self) -> UndeliveredRecords:
        from headgate.aws.undelivered import UndeliveredRecords

        return UndeliveredRecords(self.client("sqs"), self.environment)

    @cached_property
    def prometheus_access(self) -> PrometheusAccess:
        import boto3

        from headgate.aws.clients import Lazy
        from headgate.counting.prometheus_access import PrometheusAccess

        def secrets() -> Any:
            from aws_lambda_powertools.utilities.parameters import SecretsProvider

            return SecretsProvider(boto3_client=self.impatient_client("secretsmanager"))

        return PrometheusAccess(Lazy(secrets), lambda: boto3.Session().get_credentials())

    @cached_property
    def patterns(self) -> Patterns:
        from headgate.aws.patterns import Patterns

        return Patterns(self.environment.patterns)

    @cached_property
    def own(self) -> OwnResources:
        from headgate.aws.own_resources import OwnResources

        return OwnResources(self.environment.prefix, self.environment.own_queues)

    @cached_property
    def streams(self) -> StreamReplay:
        from headgate.aws.stream_replay import INVOCATION_SECONDS, StreamReplay

        return StreamReplay(self.client("kinesis"), self.client("dynamodbstreams"), self.invoker(INVOCATION_SECONDS))
