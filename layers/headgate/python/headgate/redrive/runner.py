"""Runs a redrive slice by slice.

A slice that dies runs again with the progress from before it. The messages that it moved are not moved a second time
but are not counted: each slice that dies may exceed ``atMost`` by the messages that it moved.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.sqs_mover import move_some
from headgate.errors import RequestRefused
from headgate.redrive.policy import ENOUGH_MOVED, arrivals, has_returned, own_policy_fault, unaccounted_fault
from headgate.redrive.progress import SLICE_SECONDS, Progress, SliceResult, because, with_troubles
from headgate.redrive.sampling import passes_filter
from headgate.redrive.stream_slice import StreamSlice

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.sqs_queues import Backlog, Queues
    from headgate.aws.stream_mappings import StreamMappings
    from headgate.aws.stream_replay import StreamReplay
    from headgate.redrive.plan import RedrivePlan
    from headgate.redrive.request import StopIfReturned


CLOCK_SECONDS = 5
"""Maximum difference between the clocks of SQS and of a function."""

MAX_POLL_SECONDS = 60
MAX_TROUBLES = 3

MAX_UNMOVED = 500
"""Messages that could not be moved before the redrive ends. Their ids go from slice to slice, and a state's input is
limited to 256 KiB: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

MAX_SLICES = 1_800
"""An execution has at most 25,000 events, and a slice takes about 12:
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

IDLE_WAITS = (5, 10, 20, 40, 60, 60)
"""Seconds to wait for messages that are in flight or that SQS has not counted yet."""


class Redrive:
    """Carries out plans, one slice per call. The caller passes the progress of the earlier slices."""

    def __init__(
        self,
        queues: Queues,
        streams: StreamReplay,
        mappings: StreamMappings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._queues = queues
        self._streams = streams
        self._mappings = mappings
        self._clock = clock
        self._sleep = sleep
        self._now = now

    def go_on(self, plan: RedrivePlan, before: Progress, has_ended: Callable[[], bool] = lambda: False) -> SliceResult:
        """Run the next slice.

        Parameters
        ----------
        has_ended
            Returns whether the execution of the redrive has been stopped.
        """
        if fault := own_policy_fault(plan.source.name, self._queues.redrive_policy(plan.source.url)):
            # Somebody has set it since the plan was made, or the earlier slice.
            return SliceResult(because(self._stopped(plan, before), fault), "end", outcome="failed")
        move = {"move-task": self._by_task, "receive-and-send": self._one_by_one, "re-read": self._reread}[plan.way]
        done, now = move(plan, before.model_copy(update={"slices": before.slices + 1}))
        if plan.way == "move-task" and not done and has_ended():
            # The cleanup of the stopped execution may have run before this slice started a move task.
            now = self._stopped(plan, now)
        left = self._queues.count(plan.source.url)
        now = now.model_copy(update={"remaining": left.total})
        if verdict := self._ended_badly(plan, now):
            return verdict
        if self._waits_for_others(plan, before, now, left, done=done):
            return self._idle(now)
        now = now.model_copy(update={"idle": 0})
        if not done:
            return SliceResult(now, "again", self._pause(plan, now, left))
        if not _has_moved_enough(plan, now) and (fault := unaccounted_fault(plan.source.name, now)):
            return SliceResult(because(now, fault), "end", outcome="failed")
        if plan.stop_if_returned and now.moved and plan.way != "re-read":
            return SliceResult(now, "watch", plan.stop_if_returned.after_seconds)
        return SliceResult(now, "end")

    def watch(self, plan: RedrivePlan, before: Progress) -> SliceResult:
        """Count the messages that returned since the last one was moved."""
        left = self._queues.count(plan.source.url).total
        now = before.model_copy(update={"remaining": left, "returned": arrivals(plan, before, left)})
        if has_returned(plan, now):
            return SliceResult(because(now, _came_back(now, plan.stop_if_returned)), "end", outcome="returned")
        return SliceResult(now, "end")

    def stop(self, plan: RedrivePlan) -> bool:
        """Cancel the move task of this redrive. Return whether one was running."""
        if plan.way != "move-task" or plan.dry_run:
            return False
        return MoveTasks(self._queues).cancel(plan.source.arn, since=plan.began - CLOCK_SECONDS)

    def _stopped(self, plan: RedrivePlan, now: Progress) -> Progress:
        """Cancel the move task of this redrive, and count what it moved until its end."""
        if not self.stop(plan):
            return now
        moved = MoveTasks(self._queues).moved(plan.source.arn, plan.began - CLOCK_SECONDS)
        left = self._queues.count(plan.source.url).total
        return now.model_copy(update={"moved": max(now.moved, moved), "remaining": left})

    def _by_task(self, plan: RedrivePlan, now: Progress) -> tuple[bool, Progress]:
        step = MoveTasks(self._queues).move_whole(
            plan.source.arn,
            plan.destination.arn if plan.destination else None,
            per_second=plan.per_second,
            since=plan.began - CLOCK_SECONDS,
        )
        failed_only = bool(step.reason) and step.moved <= now.moved
        counted = now.model_copy(update={"moved": max(now.moved, step.moved)})
        if not step.done:
            counted = self._suspecting(plan, counted)
        return step.done, with_troubles(counted, step.reason, failed_only=failed_only)

    def _suspecting(self, plan: RedrivePlan, now: Progress) -> Progress:
        """Check, with SQS's counts, whether too many messages return while a move task runs.

        The counts lag behind, so the result must hold for as long as the rule waits:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        estimate = arrivals(plan, now, self._queues.count(plan.source.url).total)
        suspected = now.model_copy(update={"returned": estimate, "suspected": now.suspected or self._now()})
        if not has_returned(plan, suspected, at_least=ENOUGH_MOVED):
            return now.model_copy(update={"suspected": 0.0})
        rule = plan.stop_if_returned
        if rule and self._now() - suspected.suspected >= rule.after_seconds:
            return suspected
        return suspected.model_copy(update={"returned": now.returned})

    def _one_by_one(self, plan: RedrivePlan, now: Progress) -> tuple[bool, Progress]:
        if plan.destination is None:
            raise RequestRefused("to: is missing; set to.queue")
        step = move_some(
            self._queues,
            plan.source.url,
            plan.destination.url,
            matching=lambda message: passes_filter(plan.filter, message),
            at_most=None if plan.at_most is None else plan.at_most - now.moved,
            per_second=plan.per_second,
            deadline=self._clock() + SLICE_SECONDS,
            arrived_before=plan.began,
            hold_seconds=plan.hold_seconds,
        )
        unmoved = (set(now.unmoved) - step.gone) | step.unmoved
        # Held messages are received once; released ones are received again in the next slice.
        met_once = plan.hold_seconds > 0
        counted = now.model_copy(
            update={
                "moved": now.moved + step.moved,
                "skipped": now.skipped + step.skipped if met_once else max(now.skipped, step.skipped),
                "returned": now.returned + step.returned if met_once else max(now.returned, step.returned),
                "failed": step.failed,
                "unmoved": tuple(sorted(unmoved)[: MAX_UNMOVED + 1]),
            }
        )
        counted = with_troubles(counted, step.reason, failed_only=bool(step.reason) and not step.moved)
        return step.done and not step.failed, counted

    def _reread(self, plan: RedrivePlan, now: Progress) -> tuple[bool, Progress]:
        slice_ = StreamSlice(self._queues, self._streams, self._mappings, plan, now, self._clock, self._sleep)
        try:
            slice_.run(self._clock() + SLICE_SECONDS)
        finally:
            slice_.put_back()
        return slice_.done, slice_.progress

    def _ended_badly(self, plan: RedrivePlan, now: Progress) -> SliceResult | None:
        if has_returned(plan, now, at_least=ENOUGH_MOVED):
            now = self._stopped(plan, now)
            return SliceResult(because(now, _came_back(now, plan.stop_if_returned)), "end", outcome="returned")
        if plan.way == "re-read" and now.failed:
            return SliceResult(now, "end", outcome="failed")
        if now.troubles >= MAX_TROUBLES or len(now.unmoved) > MAX_UNMOVED:
            return SliceResult(now, "end", outcome="failed")
        if now.slices >= MAX_SLICES:
            now = self._stopped(plan, now)
            reason = f"the redrive is not done after {now.slices} slices; request it again to move the rest"
            return SliceResult(because(now, reason), "end", outcome="failed")
        return None

    def _waits_for_others(
        self, plan: RedrivePlan, before: Progress, now: Progress, left: Backlog, *, done: bool
    ) -> bool:
        """Return whether the queue has messages that cannot be moved now, such as those of a slice that died."""
        if _has_moved_enough(plan, now):
            return False
        if not done:
            return plan.way == "move-task" and not left.visible and now.moved == before.moved and not now.troubles
        if plan.source.fifo and plan.filter:
            # Messages behind those that do not match stay hidden, even after a wait.
            return left.in_flight > 0
        return left.total > now.skipped + now.returned + now.failed + now.untouchable

    def _idle(self, now: Progress) -> SliceResult:
        if now.idle < len(IDLE_WAITS):
            return SliceResult(now.model_copy(update={"idle": now.idle + 1}), "again", IDLE_WAITS[now.idle])
        reason = f"of the {now.remaining} messages left, some are in flight or hidden; request the redrive again later"
        return SliceResult(because(now, reason), "end", outcome="failed")

    def _pause(self, plan: RedrivePlan, now: Progress, left: Backlog) -> int:
        """Return the seconds until the next slice."""
        if now.troubles:
            return 5 * int(2**now.troubles)
        if plan.way == "move-task":
            return max(2, min(MAX_POLL_SECONDS, 2 * now.slices, left.total // plan.per_second))
        return 1


def _has_moved_enough(plan: RedrivePlan, now: Progress) -> bool:
    return plan.at_most is not None and now.moved >= plan.at_most


def _came_back(now: Progress, rule: StopIfReturned | None) -> str:
    percent = f"; the limit is {rule.percent:g} %" if rule else ""
    return f"{now.returned} messages arrived in the queue since the redrive began, and {now.moved} were moved{percent}"
