"""Rules of a redrive: which way messages go, and when too many have come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from headgate.redrive.plan import Queue, RedrivePlan, Way
    from headgate.redrive.progress import Progress
    from headgate.redrive.request import RedriveRequest

ENOUGH_MOVED = 20
"""Messages that must have been moved before those that came back say something, while the redrive still runs."""


def choose_way(
    request: RedriveRequest, source: Queue, to: Queue | None, serves: list[Queue], *, batches: bool, empty: bool | None
) -> tuple[Way, str, Queue | None]:
    """How messages travel, why so, and to which queue; None where that is not one queue.

    Parameters
    ----------
    to
        The queue that the request names.
    serves
        The queues that name the source as their dead-letter queue.
    batches
        Whether what was seen of the source names batches of streams.
    empty
        Whether there was nothing to be seen; None where nobody looked.

    Raises
    ------
    RequestRefused
        If there is no way.
    """
    if (request.to and request.to.function) or (to is None and batches) or (to is None and empty and not serves):
        if not batches and empty is False:
            raise RequestRefused(
                f"to.function: takes the batches of streams that a mapping gave up on, and {source.name} holds none; "
                "name a queue"
            )
        why = "the messages name" if batches else "there is nothing to see; what comes is taken for"
        return "re-read", f"{why} batches of a stream, whose records are read again", None
    destination = to or _the_only_destination(source, serves, request)
    if destination and destination.arn == source.arn:
        raise RequestRefused(f"to.queue: is {source.name} itself; name another queue")
    if destination and destination.fifo != source.fifo:
        raise RequestRefused(f"to.queue: {destination.name} and {source.name} must both be FIFO, or both not")
    if not serves:
        return "receive-and-send", "no queue names the source as its dead-letter queue, so SQS does not move it", to
    if request.filter or request.at_most:
        return "receive-and-send", "SQS's own move takes neither a filter nor a limit", destination
    return "move-task", "a whole dead-letter queue is moved by SQS itself", destination


def _the_only_destination(source: Queue, serves: list[Queue], request: RedriveRequest) -> Queue | None:
    """The queue that a dead-letter queue serves; None where it serves several, and SQS knows what belongs where."""
    if len(serves) == 1:
        return serves[0]
    if not serves:
        raise RequestRefused(f"to: no queue names {source.name} as its dead-letter queue; say where the messages go")
    if request.filter or request.at_most:
        names = ", ".join(queue.name for queue in serves)
        raise RequestRefused(f"to: {source.name} serves {names}; with a filter or atMost, name one of them")
    return None


def arrivals(plan: RedrivePlan, progress: Progress, in_queue: int) -> int:
    """How many messages have come to the queue since the redrive began, as far as the counts tell."""
    return max(progress.returned, in_queue - max(0, plan.backlog - progress.moved))


def has_returned(plan: RedrivePlan, progress: Progress, *, at_least: int = 1) -> bool:
    """Whether so much has come back that moving on makes no sense."""
    rule = plan.stop_if_returned
    return (
        rule is not None
        and progress.moved >= at_least
        and progress.returned > 0
        and progress.returned * 100 >= rule.percent * progress.moved
    )
