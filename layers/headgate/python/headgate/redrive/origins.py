"""Where the batches of a queue come from, and whether they can be redriven.

A message names the function and the stream of its batch, and anybody who may send to the queue can write one. So both
are taken from the mappings that give up into the queue, and a message that names others is left in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, message_of
from headgate.aws.observability import logger
from headgate.aws.stream_mappings import MAPPING_TAG, mappings_to
from headgate.redrive.plan import StreamConsumer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from headgate.aws.failed_batches import FailedBatch
    from headgate.aws.stream_mappings import StreamMapping, StreamMappings
    from headgate.aws.stream_replay import ReadRecords
    from headgate.redrive.plan import Queue


UNREADABLE_TOPIC = frozenset({"NotFound", "AuthorizationError", "InvalidParameter"})
"""SNS's codes for a topic that was deleted, or that is another account's."""


class Origin(NamedTuple):
    """Where a batch came from, and whether it can be redriven."""

    mappings: list[StreamMapping]
    """The mappings that may have made the batch."""
    function: str
    """ARN or name of the function that gets the records."""
    fault: str = ""
    """Why the batch cannot be redriven, whatever its records are; empty if it can."""
    foreign: bool = False
    """Whether the message names a stream or function that none of the mappings has."""

    def range_fault(self, read: ReadRecords) -> str:
        """Return why a batch, of which these records were read, cannot be redriven; empty if it can."""
        fault = next(filter(None, (mapping.range_fault(read) for mapping in self.mappings)), "")
        return f"{fault}; process what is missing yourself, and delete the message" if fault else ""


class BatchOrigins:
    """The origins of batches. Each stream's mappings are listed once.

    Parameters
    ----------
    consumers
        The mappings that give up into the queue, from the plan.
    function
        The function in the request; None if each batch goes to the function of its mapping.
    """

    def __init__(self, mappings: StreamMappings, consumers: Sequence[StreamConsumer], function: str | None) -> None:
        self._mappings = mappings
        self._consumers = consumers
        self._function = function
        self._listed: dict[str, list[StreamMapping]] = {}

    def of(self, batch: FailedBatch) -> Origin:
        """Return the origin of a batch.

        Raises
        ------
        botocore.exceptions.ClientError
            If the mappings cannot be listed.
        """
        ours = [consumer for consumer in self._consumers if consumer.stream == batch.stream]
        if not ours:
            return _foreign(f"the message names {batch.stream}, and no mapping of it has this queue as its destination")
        listed = [mapping for source in dict.fromkeys(each.source for each in ours) for mapping in self._of(source)]
        pinned = {consumer.mapping: consumer.function for consumer in ours}
        made_it = mappings_to(batch.function, [mapping for mapping in listed if mapping.uuid in pinned])
        # The window is that of the function that will get the records.
        windows = (mapping.window_fault() for mapping in mappings_to(self._function or batch.function, listed))
        if self._function is None and not made_it:
            return _foreign(
                f"the message names {batch.function}, and no mapping of {batch.stream} that has this queue as its "
                "destination invokes it, so whether a tumbling window or a filter made the batch is unknown; set "
                "to.function to the function that is to get all records of the batch's range"
            )
        functions = [self._function] if self._function else sorted({pinned[mapping.uuid] for mapping in made_it})
        if fault := next(filter(None, windows), ""):
            fault = f"{fault}; set to.function to a function that processes the records without a window"
        elif len(functions) > 1:
            fault = f"{batch.function} may mean {' or '.join(functions)}; set to.function to one of them"
        return Origin(made_it, functions[0], fault)

    def _of(self, source: str) -> list[StreamMapping]:
        if source not in self._listed:
            self._listed[source] = self._mappings.of(source)
        return self._listed[source]


def _foreign(fault: str) -> Origin:
    return Origin([], "", f"{fault}; if you do not know who sent the message, delete it", foreign=True)


class ConsumerSearch:
    """Finds the mappings that give up into a queue.

    Parameters
    ----------
    sqs, sns
        boto3's clients.
    """

    def __init__(self, mappings: StreamMappings, sqs: Any, sns: Any) -> None:
        self._mappings = mappings
        self._sqs = sqs
        self._sns = sns

    def into(self, queue: Queue) -> list[StreamConsumer]:
        """Return the mappings with this queue, or with a topic that it is subscribed to, as their destination."""
        found = self._mappings.of_all_streams()
        topics = {mapping.on_failure for mapping in found if ":sns:" in mapping.on_failure}
        destinations = {queue.arn, *(topic for topic in topics if self._delivers_to(topic, queue.arn))}
        return [_consumer(mapping) for mapping in found if mapping.on_failure in destinations]

    def held_in(self, queue: Queue) -> list[StreamConsumer]:
        """Return the mapping whose failures a rollout's own queue holds, by the tag that the rollout set."""
        uuid = self._sqs.list_queue_tags(QueueUrl=queue.url).get("Tags", {}).get(MAPPING_TAG)
        return [_consumer(mapping) for mapping in self._mappings.of_all_streams() if mapping.uuid == uuid]

    def _delivers_to(self, topic: str, queue_arn: str) -> bool:
        try:
            pages = self._sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
            return any(each["Endpoint"] == queue_arn for page in pages for each in page["Subscriptions"])
        except ClientError as error:
            if code_of(error) not in UNREADABLE_TOPIC:
                raise
            # The topics of all mappings are looked at, and one of another team must not fail this redrive.
            logger.warning("a topic's subscriptions cannot be read", topic=topic, reason=message_of(error))
            return False


def _consumer(mapping: StreamMapping) -> StreamConsumer:
    return StreamConsumer(mapping=mapping.uuid, source=mapping.source, function=mapping.function)
