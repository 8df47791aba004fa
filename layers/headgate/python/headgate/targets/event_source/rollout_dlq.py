"""A queue of the rollout's own that holds what failed while the candidate was at work, until that has another chance.

It stands in for the dead-letter queue of a source queue, or for a stream mapping's on-failure destination. So what the
team's own queue held before the rollout is never touched, and what came during it can be told apart.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied, is_missing_queue
from headgate.aws.failed_batches import batch_of
from headgate.aws.sqs_messages import PER_CALL
from headgate.aws.stream_replay import NotReadableYet
from headgate.errors import RequestRefused, TargetChanged
from headgate.wire import Wire

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType, QueueAttributeNameType

    from headgate.aws.sqs_messages import Message
    from headgate.aws.sqs_queues import Queues
    from headgate.aws.stream_replay import StreamReplay
    from headgate.spec.target_state import Redriven


RETENTION_SECONDS = 14 * 24 * 3600
"""As long as SQS keeps a message at most."""

MAX_RECEIVES = 1000
"""What maxReceiveCount may be at most.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
"""

MAX_AT_ONCE = 100
"""Batches that are dealt with in one go."""

HIDDEN_SECONDS = 3600
"""For so long a batch in hand is nobody else's; what is kept becomes visible again after that."""

CALL_SECONDS = 840
"""How long a call may be busy with one batch: the driver's function has 900 s."""

REDELIVERED_PER_SECOND = 50
"""How fast messages go back: the consumer has its own work besides."""

ROLLOUT_TAG = "headgate:rollout"


QueuePhase = Literal["in-place", "overtaken", "restored"]
"""in-place: the queue stands in for what was there before, or is about to. overtaken: somebody else has changed the
source's settings, which still may name the queue. restored: the settings do not name it any more, and only what was on
its way to it still comes."""


class RolloutQueue(Wire):
    """The queue as the driver's state has it."""

    name: str
    arn: str
    replaces: str
    """What it stands in for: a redrive policy as JSON, or a destination's ARN; empty where there was none."""
    receives: int = 0
    """How often a message is received before it lands here; 0 for as often as it was."""
    held: int = 0
    """How many messages it held, approximately, when they began to go back."""
    placed_at: int = 0
    """When it was put in that place, in seconds since 1970."""
    restored_at: int = 0
    """When that was put back, in seconds since 1970; or when it was found that somebody else has changed it."""
    changed: str = ""
    """What they have made of it, or of its mapping. It is left as found, and what is held goes back all the same."""

    @property
    def phase(self) -> QueuePhase:
        """How far the way back is."""
        if self.restored_at:
            return "restored"
        return "overtaken" if self.changed else "in-place"

    @property
    def redrive_policy(self) -> str:
        """The redrive policy that sends dead letters here."""
        replaced = json.loads(self.replaces)
        receives = self.receives or int(replaced["maxReceiveCount"])
        return json.dumps(replaced | {"deadLetterTargetArn": self.arn, "maxReceiveCount": receives})


class RedeliveryResult(NamedTuple):
    """How batches of a stream are given to a function."""

    function: str
    """Its ARN, with the version."""
    timeout_seconds: int
    """The function's: an invocation that begins must end while the process that waits for it still lives."""
    batch_size: int
    """As many records as the mapping gives it at most. A batch's range may hold more: the mapping's filter or its
    parallelization factor had left some of them out of the batch."""


def rollout_queue_for(rollout_id: str, source_arn: str, replaces: str, *, prefix: str, fifo: bool) -> RolloutQueue:
    """The queue of one rollout, in the source's account and Region; nothing is made yet.

    A message of a FIFO queue is to block its group until the stable version has processed it, so it is received as
    often as SQS allows before it is given up.
    """
    _, partition, _, region, account, *_ = source_arn.split(":")
    digest = hashlib.sha256(rollout_id.encode()).hexdigest()[:32]
    name = f"{prefix}{digest}{'.fifo' if fifo else ''}"
    arn = f"arn:{partition}:sqs:{region}:{account}:{name}"
    return RolloutQueue(name=name, arn=arn, replaces=replaces, receives=MAX_RECEIVES if fifo else 0)


class RolloutQueues:
    """Makes the queue, puts it in place, and takes it away again.

    Parameters
    ----------
    queues
        Moves messages between queues.
    streams
        Reads records again, and delivers them.
    """

    def __init__(self, sqs: SQSClient, queues: Queues, streams: StreamReplay) -> None:
        self._sqs = sqs
        self._queues = queues
        self._streams = streams

    def make(self, holding: RolloutQueue, rollout_id: str, *, key: str = "", sender_role: str = "") -> None:
        """Create the queue; where it is there already nothing changes.

        Parameters
        ----------
        key
            The KMS key of the queue that it stands in for.
        sender_role
            ARN of the role that may send to it, which a mapping does under the role of its function.
        """
        attributes: dict[QueueAttributeNameType, str] = {"MessageRetentionPeriod": str(RETENTION_SECONDS)}
        if holding.name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        if key:
            attributes["KmsMasterKeyId"] = key
        if sender_role:
            allow = {"Effect": "Allow", "Principal": {"AWS": sender_role}, "Action": "sqs:SendMessage"}
            policy = {"Version": "2012-10-17", "Statement": [allow | {"Resource": holding.arn}]}
            attributes["Policy"] = json.dumps(policy)
        # SQS answers for a queue that is there only if it is told exactly what it has made of the attributes. The name
        # is this rollout's alone.
        with suppress(self._sqs.exceptions.QueueNameExists):
            self._sqs.create_queue(QueueName=holding.name, Attributes=attributes, tags={ROLLOUT_TAG: rollout_id[:256]})

    def redrive_policy(self, source_arn: str) -> str:
        """A queue's redrive policy, as JSON; empty where it has none."""
        return self.attributes(source_arn, "RedrivePolicy").get("RedrivePolicy", "")

    def require(self, queue_arn: str, field: str) -> None:
        """See that a queue can be had, before anything is changed that could not be put back without it.

        Raises
        ------
        RequestRefused
            If it is not there, or may not be used.
        """
        try:
            self._queues.url(queue_arn)
        except ClientError as error:
            if not is_missing_queue(error) and not is_denied(error):
                raise
            raise RequestRefused(
                f"{field}: {queue_arn} does not exist, or the stack's parameter TargetQueues does not cover it; name a "
                "queue that does, or change the parameter"
            ) from None

    def require_way_back(self, source_arn: str, policy: str) -> None:
        """See that a queue could be given this redrive policy again, as SQS would take it now.

        Raises
        ------
        RequestRefused
            If its dead-letter queue is gone, may not be used, or lets itself be named by others only:
            https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
        """
        dead_letters = json.loads(policy)["deadLetterTargetArn"]
        field = f"target.mapping: the redrive policy of {source_arn}"
        self.require(dead_letters, field)
        told = self.attributes(dead_letters, "RedriveAllowPolicy").get("RedriveAllowPolicy")
        allowed = json.loads(told) if told else {"redrivePermission": "allowAll"}
        permission = allowed["redrivePermission"]
        if permission == "denyAll" or (permission == "byQueue" and source_arn not in allowed["sourceQueueArns"]):
            raise RequestRefused(
                f"{field}: {dead_letters} does not let this queue name it (RedriveAllowPolicy {permission}), so that "
                "the policy could not be put back; allow it, or name another dead-letter queue"
            )

    def attributes(self, queue_arn: str, *names: QueueAttributeFilterType) -> dict[QueueAttributeNameType, str]:
        """Attributes of a queue, those that are not set left out."""
        url = self._queues.url(queue_arn)
        answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        return dict(answer.get("Attributes", {}))

    def stand_in(self, holding: RolloutQueue, source_arn: str) -> None:
        """Let the source's dead letters go to the rollout's own queue."""
        self._set_redrive_policy(holding, source_arn, holding.redrive_policy)

    def give_back_policy(self, holding: RolloutQueue, source_arn: str) -> None:
        """Let the source's dead letters go where they went before."""
        self._set_redrive_policy(holding, source_arn, holding.replaces)

    def stands_in(self, holding: RolloutQueue, source_arn: str) -> bool:
        """Whether the source's dead letters go to the rollout's own queue now, and not where they went before.

        Raises
        ------
        TargetChanged
            If they go elsewhere.
        """
        found = self.redrive_policy(source_arn)
        if _same_policy(found, holding.redrive_policy):
            return True
        if _same_policy(found, holding.replaces):
            return False
        raise _policy_changed(source_arn, found)

    def is_named(self, holding: RolloutQueue, source_arn: str) -> bool:
        """Whether the source's dead letters go to the rollout's own queue, under whatever terms."""
        policy = self.redrive_policy(source_arn)
        return bool(policy) and json.loads(policy)["deadLetterTargetArn"] == holding.arn

    def _set_redrive_policy(self, holding: RolloutQueue, source_arn: str, wanted: str) -> None:
        """Write a redrive policy, unless somebody else has; SQS has no revision, so it is compared before."""
        found = holding.redrive_policy if self.stands_in(holding, source_arn) else holding.replaces
        if not _same_policy(found, wanted):
            url = self._queues.url(source_arn)
            self._sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": wanted})

    def redeliver(
        self, holding: RolloutQueue, consumer: RedeliveryResult, deadline: float, so_far: Redriven
    ) -> tuple[bool, Redriven]:
        """Give the batches that are held to a function, those of a shard in its order.

        What the function fails on again goes on to where it would have gone without a rollout. A batch is deleted only
        after that.

        Parameters
        ----------
        consumer
            What the batches are given to.
        deadline
            When to begin no other batch, on ``time.monotonic``.

        Returns
        -------
        bool, Redriven
            Whether nothing is left to do, and what has become of what was held, ``so_far`` included.
        """
        url, told = self._queues.url(holding.arn), so_far
        held = self._receive_all(url)
        left = sorted(held, key=_place_in_its_shard)
        try:
            while left and time.monotonic() < deadline:
                told = self._redeliver_one(holding, url, left[0], consumer, deadline, told)
                del left[0]
        finally:
            # The next call goes on with them, and not only after an hour.
            self._queues.release(url, left)
        return not held, told

    def _redeliver_one(
        self,
        holding: RolloutQueue,
        url: str,
        message: Message,
        consumer: RedeliveryResult,
        deadline: float,
        told: Redriven,
    ) -> Redriven:
        batch = batch_of(message["Body"])
        if batch is not None:
            try:
                read = self._streams.reread(batch, deadline=deadline)
            except NotReadableYet:
                self._queues.release(url, [message])
                return told
            until = time.monotonic() + max(1, CALL_SECONDS - consumer.timeout_seconds)
            delivered = self._streams.deliver(
                consumer.function, read.records, batch_size=consumer.batch_size, deadline=until
            )
            told = told.model_copy(
                update={"redelivered": told.redelivered + delivered.ok, "expired": told.expired + read.lost}
            )
            if delivered.failures and time.monotonic() >= until:
                # Not refused, but not come to: all of it is delivered again.
                self._queues.release(url, [message])
                return told
            # Of a batch that the stream has nothing left of, this message is all that tells.
            if read.records and not delivered.failures:
                self._queues.delete(url, message)
                return told
        if not holding.replaces:
            return told.model_copy(update={"kept": told.kept + 1})
        # As it was: it names the whole batch, some of which has been processed by now.
        self._sqs.send_message(QueueUrl=self._queues.url(holding.replaces), MessageBody=message["Body"])
        self._queues.delete(url, message)
        return told.model_copy(update={"forwarded": told.forwarded + 1})

    def _receive_all(self, url: str) -> list[Message]:
        """What is visible, each message hidden for as long as it may take to deal with all of them."""
        held: list[Message] = []
        while len(held) < MAX_AT_ONCE and (received := self._queues.receive(url, PER_CALL, HIDDEN_SECONDS)):
            held += received
        return held

    def is_gone(self, holding: RolloutQueue) -> bool:
        """Whether the queue is not there (any more)."""
        try:
            self._queues.url(holding.arn)
        except self._sqs.exceptions.QueueDoesNotExist:
            return True
        return False

    def delete(self, holding: RolloutQueue) -> None:
        """Delete the queue, which is empty."""
        self._sqs.delete_queue(QueueUrl=self._queues.url(holding.arn))


def _place_in_its_shard(message: Message) -> tuple[str, str, int]:
    batch = batch_of(message["Body"])
    return batch.key if batch else ("", "", 0)


def _policy_changed(source_arn: str, found: str) -> TargetChanged:
    return TargetChanged(
        f"the redrive policy of {source_arn} was changed by somebody else: it is {found or 'gone'}, and left as found"
    )


def _same_policy(one: str, other: str) -> bool:
    """Whether two redrive policies say the same; SQS may spell one in another order, or a number as text."""
    if not one or not other:
        return one == other
    first, second = json.loads(one), json.loads(other)
    return first["deadLetterTargetArn"] == second["deadLetterTargetArn"] and int(first["maxReceiveCount"]) == int(
        second["maxReceiveCount"]
    )
