"""Rules of a redrive: how messages are moved, and when too many have returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from headgate.redrive.plan import Queue, RedrivePlan, Way
    from headgate.redrive.progress import Progress
    from headgate.redrive.request import RedriveRequest

ENOUGH_MOVED = 20
"""Messages that must have been moved before the share of returned ones can stop a running redrive."""


def choose_way(
    request: RedriveRequest, source: Queue, to: Queue | None, serves: list[Queue], *, batches: bool, empty: bool
) -> tuple[Way, str, Queue | None]:
    """Choose how messages are moved. Return the way, the reason and the queue, which is None if it is not one queue.

    Parameters
    ----------
    to
        The queue in the request.
    serves
        The queues that have the source as their dead-letter queue.
    batches
        Whether the sampled messages are batches of streams.
    empty
        Whether no message was found.

    Raises
    ------
    RequestRefused
        If the messages cannot be moved.
    """
    if (request.to and request.to.function) or (to is None and batches) or (to is None and empty and not serves):
        if not batches and not empty:
            raise RequestRefused(
                f"to.function: is for batches of streams that a mapping gave up on, and {source.name} has none; "
                "set to.queue"
            )
        why = "the messages are" if batches else "no message is visible; new ones are treated as"
        return "re-read", f"{why} batches of a stream, whose records are read again", None
    destination = to or _the_only_destination(source, serves, request)
    if destination and destination.arn == source.arn:
        raise RequestRefused(f"to.queue: is {source.name} itself; name another queue")
    if destination and destination.fifo != source.fifo:
        raise RequestRefused(f"to.queue: {destination.name} and {source.name} must both be FIFO, or both not")
    if not serves:
        return "receive-and-send", "the source is not a dead-letter queue, so SQS cannot move its messages", to
    if request.filter or request.at_most:
        return "receive-and-send", "a message move task of SQS has no filter and no limit", destination
    if source.fifo:
        # SQS's own task sends each with its MessageId as the deduplication id. A queue drops an id that it has seen
        # within five minutes, and the task counts that as moved.
        return "receive-and-send", "a message move task of SQS may lose messages of a FIFO queue", destination
    return "move-task", "SQS itself moves a whole dead-letter queue", destination


def _the_only_destination(source: Queue, serves: list[Queue], request: RedriveRequest) -> Queue | None:
    """Return the queue that a dead-letter queue serves; None if it serves several, which SQS distinguishes."""
    if len(serves) == 1:
        return serves[0]
    if not serves:
        raise RequestRefused(f"to: {source.name} is not the dead-letter queue of any queue; set to.queue")
    if request.filter or request.at_most or source.fifo:
        names = ", ".join(queue.name for queue in serves)
        why = "of FIFO queues" if source.fifo else "with a filter or atMost"
        raise RequestRefused(f"to: {source.name} serves {names}; {why}, set to.queue to one of them")
    return None


def own_policy_fault(queue: str, policy: dict[str, Any]) -> str:
    """Return why messages cannot be redriven from a queue with this redrive policy; empty if it is empty.

    Each way receives messages that it does not move: those that the filter leaves, that the destination refuses, that
    arrived since, or only to see whether one is left. At the next receive SQS may move them to the dead-letter queue,
    where they look like all others. So a redrive could neither leave them in the queue nor account for them.
    """
    if not policy:
        return ""
    elsewhere = str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]
    return (
        f"{queue} has a redrive policy of its own: SQS moves a message to {elsewhere} after "
        f"{policy.get('maxReceiveCount')} receives, and a redrive receives messages that it may have to leave; remove "
        "the policy (attribute RedrivePolicy) during the redrive, and set it again afterwards"
    )


def unaccounted_fault(queue: str, progress: Progress) -> str:
    """Return the fault if messages that could not be moved were neither moved since nor found again; else empty."""
    if not progress.unmoved:
        return ""
    return (
        f"{len(progress.unmoved)} messages could not be moved and were not found in {queue} again (such as "
        f"{progress.unmoved[0]}): another consumer or redrive took them, they expired, or an interrupted slice moved "
        "them; compare the queues"
    )


def arrivals(plan: RedrivePlan, progress: Progress, in_queue: int) -> int:
    """Estimate how many messages arrived in the queue since the redrive began."""
    return max(progress.returned, in_queue - max(0, plan.backlog - progress.moved))


def has_returned(plan: RedrivePlan, progress: Progress, *, at_least: int = 1) -> bool:
    """Return whether so many messages returned that the redrive stops."""
    rule = plan.stop_if_returned
    return (
        rule is not None
        and progress.moved >= at_least
        and progress.returned > 0
        and progress.returned * 100 >= rule.percent * progress.moved
    )
