"""The rollout's own queue, which holds what failed during the rollout until it is redelivered.

It replaces the dead-letter queue of a source queue, or the on-failure destination of a stream mapping. So the earlier
messages in your own queue are never touched, and failures during the rollout can be identified.
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
from headgate.aws.stream_mappings import MAPPING_TAG
from headgate.aws.stream_replay import NotReadableYet
from headgate.errors import RequestRefused, TargetChanged
from headgate.wire import Wire

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType, QueueAttributeNameType

    from headgate.aws.failed_batches import FailedBatch
    from headgate.aws.sqs_messages import Message
    from headgate.aws.sqs_queues import Queues
    from headgate.aws.stream_mappings import StreamMapping
    from headgate.aws.stream_replay import StreamReplay
    from headgate.spec.target_state import Redriven


RETENTION_SECONDS = 14 * 24 * 3600
"""Maximum message retention of SQS."""

MAX_RECEIVES = 1000
"""Maximum of maxReceiveCount.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
"""

MAX_AT_ONCE = 100
"""Maximum batches per call."""

HIDDEN_SECONDS = 3600
"""Visibility timeout of received batches. Kept batches become visible again after it."""

CALL_SECONDS = 840
"""Maximum time for one batch. The timeout of the driver's function is 900 s."""

REDELIVERED_PER_SECOND = 50
"""Rate limit for moving messages, because the consumer also has its regular work."""

PROPAGATION_SECONDS = 60
"""How long SQS may take until a new queue and its policy are known everywhere.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
"""

ROLLOUT_TAG = "headgate:rollout"

NAME_DIGEST_CHARACTERS = 24
"""Characters of a rollout's hash in the name of its queue: 96 bits.

SQS allows 80 characters. A prefix of 44, the longest with which Lambda accepts the functions' names, ``-held-`` and
``.fifo`` take 55.
"""


QueuePhase = Literal["in-place", "overtaken", "restored"]
"""in-place: the queue replaces the original destination, or is about to. overtaken: somebody else has changed the
source's settings, which may still name the queue. restored: the settings no longer name it, and only late failures
arrive."""


class RolloutQueue(Wire):
    """The queue in the state of the driver."""

    name: str
    arn: str
    replaces: str
    """What it replaces: a redrive policy as JSON, or a destination's ARN; empty if there was none."""
    receives: int = 0
    """Receives of a message before it comes here; 0 for the original maxReceiveCount."""
    held: int = 0
    """Approximate number of messages when the redelivery began."""
    planned_at: int = 0
    """Time just before it was created for a stream, in seconds since 1970."""
    placed_at: int = 0
    """Time when it replaced the original destination, in seconds since 1970."""
    restored_at: int = 0
    """Time of the restore, or when a change by somebody else was found, in seconds since 1970."""
    changed: str = ""
    """The change by somebody else of the policy or the mapping. It stays, and failures are redelivered all the same."""

    @property
    def phase(self) -> QueuePhase:
        """Progress of the restore."""
        if self.restored_at:
            return "restored"
        return "overtaken" if self.changed else "in-place"

    @property
    def redrive_policy(self) -> str:
        """Redrive policy that sends dead letters to this queue."""
        replaced = json.loads(self.replaces)
        receives = self.receives or int(replaced["maxReceiveCount"])
        return json.dumps(replaced | {"deadLetterTargetArn": self.arn, "maxReceiveCount": receives})


class RedeliveryResult(NamedTuple):
    """Parameters for giving batches of a stream to a function."""

    function: str
    """ARN of the function with its version."""
    timeout_seconds: int
    """Timeout of the function. An invocation must end before the caller's own timeout."""
    batch_size: int
    """Batch size of the mapping. A batch's range may have more records: the mapping's filter or its parallelization
    factor had left some of them out of the batch."""
    mapping: StreamMapping
    """The mapping, which may do what a replay cannot do."""

    def gave_up_on(self, batch: FailedBatch) -> bool:
        """Return whether a batch is of the mapping's stream and of the function. Another message is not the mapping's.

        The mapping itself may invoke another function by now.
        """
        return self.mapping._replace(function=self.function).made(batch)


def rollout_queue_for(rollout_id: str, source_arn: str, replaces: str, *, prefix: str, fifo: bool) -> RolloutQueue:
    """Return the queue of a rollout, in the source's account and Region, without creating it.

    A failing message of a FIFO queue must block its group until the stable version has processed it. So it has the
    largest maximum receive count that SQS allows.
    """
    _, partition, _, region, account, *_ = source_arn.split(":")
    digest = hashlib.sha256(rollout_id.encode()).hexdigest()[:NAME_DIGEST_CHARACTERS]
    name = f"{prefix}{digest}{'.fifo' if fifo else ''}"
    arn = f"arn:{partition}:sqs:{region}:{account}:{name}"
    return RolloutQueue(name=name, arn=arn, replaces=replaces, receives=MAX_RECEIVES if fifo else 0)


class RolloutQueues:
    """Creates the rollout's own queue, puts it in place, and removes it again.

    Parameters
    ----------
    queues
        Moves messages between queues.
    streams
        Replays records of streams.
    """

    def __init__(self, sqs: SQSClient, queues: Queues, streams: StreamReplay) -> None:
        self._sqs = sqs
        self._queues = queues
        self._streams = streams

    def make(
        self, holding: RolloutQueue, rollout_id: str, mapping: str, *, key: str = "", sender_role: str = ""
    ) -> None:
        """Create the queue, unless it exists.

        Parameters
        ----------
        mapping
            UUID of the mapping whose failures it will hold. A redrive of the queue reads the tag.
        key
            KMS key of the source queue.
        sender_role
            ARN of the role that may send to it. A mapping uses the role of its function.
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
        # SQS returns this error for an existing queue if any attribute differs from its stored form. The name belongs
        # only to this rollout.
        with suppress(self._sqs.exceptions.QueueNameExists):
            tags = {ROLLOUT_TAG: rollout_id[:256], MAPPING_TAG: mapping}
            self._sqs.create_queue(QueueName=holding.name, Attributes=attributes, tags=tags)

    def redrive_policy(self, source_arn: str) -> str:
        """Return a queue's redrive policy as JSON; empty if it has none."""
        return self.attributes(source_arn, "RedrivePolicy").get("RedrivePolicy", "")

    def require(self, queue_arn: str, field: str) -> None:
        """Check that a queue exists and may be used, before a change that could not be restored without it.

        Raises
        ------
        RequestRefused
            If it does not exist, or may not be used.
        """
        try:
            self._queues.url(queue_arn)
        except ClientError as error:
            if not is_missing_queue(error) and not is_denied(error):
                raise
            raise RequestRefused(
                f"{field}: {queue_arn} does not exist, or Headgate's parameter TargetQueues does not cover it; use "
                "another queue, or change the parameter"
            ) from None

    def require_way_back(self, source_arn: str, policy: str) -> None:
        """Check that SQS would accept this redrive policy when it is restored.

        Raises
        ------
        RequestRefused
            If its dead-letter queue does not exist, may not be used, or does not allow the source queue:
            https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
        """
        dead_letters = json.loads(policy)["deadLetterTargetArn"]
        field = f"target.mapping: the redrive policy of {source_arn}"
        self.require(dead_letters, field)
        allow_policy = self.attributes(dead_letters, "RedriveAllowPolicy").get("RedriveAllowPolicy")
        allowed = json.loads(allow_policy) if allow_policy else {"redrivePermission": "allowAll"}
        permission = allowed["redrivePermission"]
        if permission == "denyAll" or (permission == "byQueue" and source_arn not in allowed["sourceQueueArns"]):
            raise RequestRefused(
                f"{field}: {dead_letters} does not allow this source queue (RedriveAllowPolicy {permission}), so the "
                "policy could not be restored; allow it, or use another dead-letter queue"
            )

    def attributes(self, queue_arn: str, *names: QueueAttributeFilterType) -> dict[QueueAttributeNameType, str]:
        """Return attributes of a queue. Unset ones are left out."""
        url = self._queues.url(queue_arn)
        response = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        return dict(response.get("Attributes", {}))

    def stand_in(self, holding: RolloutQueue, source_arn: str) -> None:
        """Send the source's dead letters to the rollout's own queue."""
        self._set_redrive_policy(holding, source_arn, holding.redrive_policy)

    def give_back_policy(self, holding: RolloutQueue, source_arn: str) -> None:
        """Restore the source's redrive policy."""
        self._set_redrive_policy(holding, source_arn, holding.replaces)

    def stands_in(self, holding: RolloutQueue, source_arn: str) -> bool:
        """Return whether the source's dead letters go to the rollout's own queue; False for the original one.

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
        """Return whether the source's redrive policy names the rollout's own queue, with any maxReceiveCount."""
        policy = self.redrive_policy(source_arn)
        return bool(policy) and json.loads(policy)["deadLetterTargetArn"] == holding.arn

    def _set_redrive_policy(self, holding: RolloutQueue, source_arn: str, wanted: str) -> None:
        """Write a redrive policy, unless somebody else has changed it. SQS has no revisions, so compare first."""
        found = holding.redrive_policy if self.stands_in(holding, source_arn) else holding.replaces
        if not _same_policy(found, wanted):
            url = self._queues.url(source_arn)
            self._sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": wanted})

    def redeliver(
        self, holding: RolloutQueue, consumer: RedeliveryResult, deadline: float, so_far: Redriven
    ) -> tuple[bool, Redriven]:
        """Give the failed batches to a function, those of a shard in order.

        What fails again goes to its original destination, as does a batch that cannot be replayed exactly. A batch is
        deleted only after that.

        Parameters
        ----------
        consumer
            The function that gets the batches.
        deadline
            Time after which no other batch begins, on ``time.monotonic``.

        Returns
        -------
        bool, Redriven
            Whether all is done, and the result including ``so_far``.
        """
        url, redriven = self._queues.url(holding.arn), so_far
        held = self._receive_all(url)
        left = sorted(held, key=_place_in_its_shard)
        try:
            while left and time.monotonic() < deadline:
                redriven = self._redeliver_one(holding, url, left[0], consumer, deadline, redriven)
                del left[0]
        finally:
            # So that the next call gets them at once instead of after an hour.
            self._queues.release(url, left)
        return not held, redriven

    def _redeliver_one(
        self,
        holding: RolloutQueue,
        url: str,
        message: Message,
        consumer: RedeliveryResult,
        deadline: float,
        redriven: Redriven,
    ) -> Redriven:
        batch = batch_of(message["Body"])
        if batch is not None and consumer.gave_up_on(batch) and not consumer.mapping.window_fault():
            try:
                read = self._streams.reread(batch, deadline=deadline)
            except NotReadableYet:
                self._queues.release(url, [message])
                return redriven
            if consumer.mapping.range_fault(read):
                return self._pass_on(holding, url, message, redriven)
            until = time.monotonic() + max(1, CALL_SECONDS - consumer.timeout_seconds)
            delivered = self._streams.deliver(
                consumer.function, read.records, batch_size=consumer.batch_size, deadline=until
            )
            redriven = redriven.model_copy(
                update={
                    "redelivered": redriven.redelivered + delivered.ok,
                    "expired": redriven.expired + read.lost,
                }
            )
            if delivered.failures and time.monotonic() >= until:
                # Out of time, not failed: the whole batch is redelivered.
                self._queues.release(url, [message])
                return redriven
            # If the stream no longer has the records, keep the message as the only trace of the batch.
            if read.records and not delivered.failures:
                self._queues.delete(url, message)
                return redriven
        return self._pass_on(holding, url, message, redriven)

    def _pass_on(self, holding: RolloutQueue, url: str, message: Message, redriven: Redriven) -> Redriven:
        """Give a batch to its original destination, or keep it if there is none."""
        if not holding.replaces:
            return redriven.model_copy(update={"kept": redriven.kept + 1})
        # Forward it unchanged: it names the whole batch, of which some records may be processed now.
        self._sqs.send_message(QueueUrl=self._queues.url(holding.replaces), MessageBody=message["Body"])
        self._queues.delete(url, message)
        return redriven.model_copy(update={"forwarded": redriven.forwarded + 1})

    def _receive_all(self, url: str) -> list[Message]:
        """Receive visible messages, with a visibility timeout that is long enough for all of them."""
        held: list[Message] = []
        while len(held) < MAX_AT_ONCE and (received := self._queues.receive(url, PER_CALL, HIDDEN_SECONDS)):
            held += received
        return held

    def is_gone(self, holding: RolloutQueue) -> bool:
        """Return whether the queue does not exist."""
        try:
            self._queues.url(holding.arn)
        except self._sqs.exceptions.QueueDoesNotExist:
            return True
        return False

    def delete(self, holding: RolloutQueue) -> None:
        """Delete the empty queue."""
        self._sqs.delete_queue(QueueUrl=self._queues.url(holding.arn))


def _place_in_its_shard(message: Message) -> tuple[str, str, int]:
    batch = batch_of(message["Body"])
    return batch.key if batch else ("", "", 0)


def _policy_changed(source_arn: str, found: str) -> TargetChanged:
    return TargetChanged(
        f"the redrive policy of {source_arn} was changed by somebody else: it is {found or 'deleted'}; Headgate leaves "
        "it unchanged"
    )


def _same_policy(one: str, other: str) -> bool:
    """Return whether two redrive policies are equal. SQS may change the order of keys, or return a number as text."""
    if not one or not other:
        return one == other
    first, second = json.loads(one), json.loads(other)
    return first["deadLetterTargetArn"] == second["deadLetterTargetArn"] and int(first["maxReceiveCount"]) == int(
        second["maxReceiveCount"]
    )
