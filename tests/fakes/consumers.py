"""A consumer for the driver's tests: a mapping with its function, queues or a stream, and what drives it."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N803, ARG002

from __future__ import annotations

import json
from itertools import combinations
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.sqs_queues import Queues
from headgate.aws.stream_replay import StreamReplay
from headgate.errors import Aborted, LockLost, TargetNotReady
from headgate.rollouts.record import RolloutRecord
from headgate.spec.plan import Plan, make_plan
from headgate.spec.request import read_request
from headgate.spec.targets import LambdaAliasTarget
from headgate.targets.driver import drive
from headgate.targets.event_source.driver import EventSourceDriver
from headgate.targets.event_source.rollout_dlq import RolloutQueues
from headgate.targets.event_source.state import SourceServices, SourceState
from headgate.targets.scaling_targets import ScalingTargets
from tests.fakes.scaling import FakeScaling
from tests.fakes.services import Refusal, Service, nothing_happens
from tests.fakes.sqs import Clock, FakeSqs, arn, refusal, url
from tests.fakes.streams import FakeFunctions, FakeStream, kinesis_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.record import Fence, Wait
    from headgate.spec.position import Position
    from tests.fakes.services import FakeLambda, FakeMapping

UUID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
STREAM = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"
TABLE_STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/2026-11-21T09:00:00.000"
PREFIX = "headgate-held-"
LONGEST_QUEUE_NAME = 80
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"""
DRIVER = "arn:aws:lambda:eu-central-1:123456789012:function:headgate-event-source-driver"
STEPS = {"steps": [{"weight": 10, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 60}]}
TIMEOUT = 3
"""Of the function, in seconds."""


class Crash(BaseException):
    """The driver's process dies, or its answer is lost: the machine calls again."""


class ConsumerSqs(FakeSqs):
    """SQS in memory, with what a rollout does to queues besides moving messages."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.allows: dict[str, dict[str, Any]] = {}
        """Which queues may name a dead-letter queue, where not all may: its RedriveAllowPolicy."""

    pointed_at = 0.0
    """When a redrive policy was last set: it takes up to a minute to hold everywhere."""

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        told = super().get_queue_attributes(QueueUrl=QueueUrl, AttributeNames=AttributeNames)["Attributes"]
        if "VisibilityTimeout" in AttributeNames:
            told["VisibilityTimeout"] = str(self._at(QueueUrl).visibility)
        if "RedriveAllowPolicy" in AttributeNames and (allowed := self.allows.get(self._at(QueueUrl).name)):
            told["RedriveAllowPolicy"] = json.dumps(allowed)
        return {"Attributes": told} if told else {}

    def set_queue_attributes(self, *, QueueUrl: str, Attributes: dict[str, str]) -> None:
        (policy,) = Attributes.values()
        self.point(self._at(QueueUrl).name, policy)

    def point(self, queue: str, policy: str) -> None:
        """Set a redrive policy; empty removes it."""
        wanted: dict[str, Any] = json.loads(policy) if policy else {"deadLetterTargetArn": "", "maxReceiveCount": 0}
        dead_letters = wanted["deadLetterTargetArn"].rpartition(":")[2]
        if dead_letters and dead_letters not in self.queues:
            raise refusal("InvalidParameterValue", "the dead letter target does not exist")
        self.pointed_at = self.clock.time()
        self.queues[queue].dead_letters, self.queues[queue].max_receives = dead_letters, int(wanted["maxReceiveCount"])

    def create_queue(self, *, QueueName: str, Attributes: dict[str, str], tags: dict[str, str]) -> dict[str, str]:
        assert set(tags) == {"headgate:rollout", "headgate:mapping"}
        if len(QueueName) > LONGEST_QUEUE_NAME:
            message = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            raise refusal("InvalidParameterValue", message)
        assert QueueName.endswith(".fifo") == (Attributes.get("FifoQueue") == "true")
        # A policy is kept in a spelling of SQS's own.
        if QueueName in self.queues and "Policy" in Attributes:
            raise refusal("QueueNameExists", "A queue already exists with the same name and a different value")
        if QueueName not in self.queues:
            self.queue(QueueName)
        return {"QueueUrl": url(QueueName)}

    def delete_queue(self, *, QueueUrl: str) -> None:
        del self.queues[self._at(QueueUrl).name]

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> dict[str, str]:
        return {"MessageId": self._enqueue(self._at(QueueUrl), MessageBody, {}, {}, "", "")}

    def list_message_move_tasks(self, *, SourceArn: str, MaxResults: int = 1) -> dict[str, Any]:
        self._named(SourceArn)
        return super().list_message_move_tasks(SourceArn=SourceArn, MaxResults=MaxResults)


class SqsService(Service):
    """Puts it behind a real client, which checks every parameter and raises its own exceptions."""

    def __init__(self, sqs: ConsumerSqs) -> None:
        self._sqs = sqs

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation).lstrip("_")

        def call(**given: Any) -> Any:
            try:
                return getattr(self._sqs, name)(**given)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                told = "QueueDoesNotExist" if code.endswith("NonExistentQueue") else code.rpartition(".")[2]
                raise Refusal(told, str(error)) from None

        return call


class Record:
    """A rollout's lock and record, in memory: what the frame of the drivers reads and writes."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.ours = True
        self.interrupt: Callable[[str, str], None] = nothing_happens
        self.objection = ""

    def require_lock(self, fence: Fence) -> None:
        assert fence == (f"event-source/{UUID}", "orders-42", 1)
        if not self.ours:
            raise LockLost("the lock is somebody else's")

    def enter(self, rollout_id: str, phase: str, aim: float | None = None) -> RolloutRecord:
        self.fields |= {"phase": phase} | ({} if aim is None else {"aim": aim})
        if self.objection and phase != "rolling-back":
            raise Aborted(self.objection)
        item = {"pk": "ROLLOUT#orders-42", "status": "running", "execution": "orders-42"}
        return RolloutRecord.of(item | self.fields)

    def is_rolling_back(self, rollout_id: str) -> bool:
        return self.fields.get("phase") == "rolling-back"

    def keep_state(
        self,
        rollout_id: str,
        state: dict[str, Any],
        *,
        phase: str,
        underway: bool = False,
        rolled_back: bool = False,
        pending: Wait | None = None,
    ) -> None:
        self.interrupt("KeepState", "before")
        assert self.fields["phase"] == phase
        self.fields |= {"state": json.loads(json.dumps(state)), "underway": underway}
        self.fields |= {"rolledBack": True} if rolled_back else {}
        self.fields["pending"] = pending
        self.interrupt("KeepState", "after")

    def keep_pending(self, rollout_id: str, pending: Wait, *, phase: str) -> None:
        assert self.fields["phase"] == phase
        self.fields["pending"] = pending


class Consumer:
    """Version 6 consumes a source through the alias live; a rollout is to bring version 7."""

    def __init__(self, function: FakeLambda, functions: Any, sqs_client: Any, source: str, **settings: Any) -> None:
        self.clock, self.record = Clock(), Record()
        self.function = function
        self.sqs = ConsumerSqs(self.clock)
        self.service = SqsService(self.sqs)
        self.source = source
        self.queue = source.rpartition(":")[2] if ":sqs:" in source else ""
        fifo = ".fifo" if self.queue.endswith(".fifo") else ""
        self.team = f"orders-dead{fifo}"
        self.sqs.queue(self.team)
        if self.queue:
            self.sqs.queue(self.queue, self.team, visibility=6 * TIMEOUT)
        self.mapping: FakeMapping = function.map(self.clock.time, source, **settings)
        self.before = dict(self.mapping.settings)
        self.stream = FakeStream([kinesis_record(str(number), b"order") for number in range(1, 10)])
        self.delivered: list[tuple[str, list[str]]] = []
        self.fails: Callable[[list[str]], bool] = lambda _: False
        queues = Queues(sqs_client, sleep=lambda _: None)
        streams = StreamReplay(self.stream, self.stream, FakeFunctions(lambda _: None), sleep=lambda _: None)
        self._invoked(streams)
        self._services = SourceServices(
            functions=functions,
            scaling=ScalingTargets(FakeScaling()),
            queues=queues,
            holdings=RolloutQueues(sqs_client, queues, streams),
            holding_prefix=PREFIX,
            settle_seconds=60,
            rejected=lambda _: None,
            now=self.clock.time,
        )

    def _invoked(self, streams: Any) -> None:
        def invoke(function: str, chunk: list[Any], deadline: float | None) -> tuple[int, str, bool]:
            assert deadline is not None, "a rollout does not wait for a sleeping function beyond its own time"
            sequences = [record["kinesis"]["sequenceNumber"] for record in chunk]
            self.delivered.append((function.rpartition(":")[2], sequences))
            return (0, "it failed", False) if self.fails(sequences) else (len(chunk), "", False)

        streams._invoke = invoke

    # What a machine does

    def plan(self, mode: str | None = None, **fields: Any) -> Plan:
        target = {"kind": "event-source", "mapping": UUID, "mode": mode or self.mode}
        asked = {
            "id": "orders-42",
            "target": target,
            "candidate": {"version": "7"},
            "strategy": STEPS,
            "guards": self.guards,
            **fields,
        }
        alias = LambdaAliasTarget(kind="lambda-alias", function="checkout", alias="live")
        return make_plan(read_request(asked, "unused"), driver=DRIVER, firing=[], alias=alias)

    mode = "ramp"
    stream_names = "*"
    guards: dict[str, Any] = {}

    def driver(
        self, plan: Plan | None = None, still_ours: Callable[[], None] = lambda: None, aim: Position | None = None
    ) -> EventSourceDriver:
        """The driver by itself, without a record of what it has done."""
        services = self._services._replace(stream_names=self.stream_names)
        return EventSourceDriver(services, plan or self.plan(), still_ours, aim)

    def call(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> dict[str, Any]:
        """One call of the driver, as the machine makes it."""
        plan = self.plan().to_wire()
        call = {"action": action, "plan": plan, "target": plan["target"], "epoch": 1, "state": state or {}, **event}
        record: Any = self.record

        def driver_of(plan: Plan, still_ours: Callable[[], None], aim: Position | None) -> EventSourceDriver:
            return self.driver(plan, still_ours, aim)

        answer = drive(json.loads(json.dumps(call)), record, record, driver_of, SourceState, self.clock.time)
        told: dict[str, Any] = json.loads(json.dumps(answer["state"]))
        return told

    def tries(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> Iterator[dict[str, Any] | None]:
        """Call until the driver is done, as the machine's retries do; None for each call that was not the last."""
        for _ in range(300):
            try:
                yield self.call(action, state, **event)
                return  # noqa: TRY300 - a crash is no end
            except (TargetNotReady, Crash):
                self.clock.sleep(2)
                yield None
        raise AssertionError(f"{action} is never done")

    def do(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> dict[str, Any]:
        """Call until the driver is done."""
        return [answer for answer in self.tries(action, state, **event) if answer is not None][-1]

    def end(self, state: dict[str, Any], *, promoted: bool) -> dict[str, Any]:
        """From any point on: promote or roll back, and give back what was held."""
        state = self.do("promote" if promoted else "rollback", state)
        return self.do("release" if promoted else "restore", state) if state.get("toRelease") else state

    # What a test looks at

    @property
    def own(self) -> list[str]:
        """The rollouts' own queues."""
        return [name for name in self.sqs.queues if name.startswith(PREFIX)]

    def bodies(self, queue: str) -> list[str]:
        return sorted(self.sqs.queues[queue].bodies)

    def fail(self, *bodies: str) -> None:
        """Messages that the version at work has failed on once too often."""
        self.sqs.bury(self.queue, *bodies, group="g" if self.queue.endswith(".fifo") else "")

    def give_up(self, start: int, end: int, size: int = 0, forged: dict[str, str] | None = None) -> None:
        """A batch that the mapping sends to its on-failure destination; fields that somebody else wrote."""
        destination = self.mapping.fields["DestinationConfig"]["OnFailure"]["Destination"]
        batch = {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": str(start),
            "endSequenceNumber": str(end),
            "batchSize": size or end - start + 1,
            "streamArn": self.source,
        }
        context = {"functionArn": self.mapping.fields["FunctionArn"], "condition": "RetryAttemptsExhausted"}
        for part in (batch, context):
            part.update({name: value for name, value in (forged or {}).items() if name in part})
        body = json.dumps({"requestContext": context, "KinesisBatchInfo": batch})
        self.sqs.send_message(QueueUrl=url(destination.rpartition(":")[2]), MessageBody=body)

    def versions_at_work(self) -> list[str]:
        """Which versions have worked on the source, in order; they must never have done so at a time."""
        spans = [*self.mapping.at_work, (self.mapping.version, self.mapping._running[1], 0.0)]  # type: ignore[index]
        for (one, _, ended), (other, began, _) in combinations(spans, 2):
            assert one == other or ended <= began, spans
        return [version for version, _, _ in spans]

    def assert_as_before(self, version: str) -> None:
        """The mapping as it was, the alias on one version alone, and nothing of the rollout's own left."""
        assert self.function.serves() == (version, {})
        self.assert_mapping_as_before()
        assert self.own == []
        if self.queue:
            assert (self.sqs.queues[self.queue].dead_letters, self.sqs.queues[self.queue].max_receives) == (
                self.team,
                3,
            )

    def assert_mapping_as_before(self) -> None:
        """Once what is underway is done."""
        self.clock.sleep(10)
        assert self.mapping.told()["State"] == "Enabled"
        assert _explicit(self.mapping.settings) == _explicit(self.before)


def _explicit(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with what AWS answers where an owner has set nothing."""
    nothing: dict[str, Any] = {"ScalingConfig": {}, "DestinationConfig": {"OnFailure": {}}}
    defaults = {"MaximumRetryAttempts": -1, "MaximumRecordAgeInSeconds": -1, "BisectBatchOnFunctionError": False}
    sizes = {"BatchSize": 100 if ":sqs:" not in settings["EventSourceArn"] else 10, "ParallelizationFactor": 1}
    return nothing | defaults | sizes | settings


QUEUE, FIFO = arn("orders"), arn("orders.fifo")
DESTINATION = {"OnFailure": {"Destination": arn("orders-dead")}}
GIVES_UP: dict[str, Any] = {
    "BatchSize": 100,
    "ParallelizationFactor": 4,
    "MaximumRetryAttempts": 2,
    "DestinationConfig": DESTINATION,
}
