"""Moves a whole dead-letter queue with SQS's own message move tasks (StartMessageMoveTask)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.sqs_queues import MoveResult

if TYPE_CHECKING:
    from headgate.aws.sqs_queues import Queues

MAX_PER_SECOND = 500
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html"""

TASKS_LISTED = 10

CANCEL_SECONDS = 15
"""How long to wait for the end of a canceled task. The function that stops redrives has 30 s."""

CANCEL_POLL_SECONDS = 1


class MoveTasks:
    """Starts, watches and cancels the move tasks of dead-letter queues."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._sqs = queues.sqs

    def move_whole(
        self, source_arn: str, destination_arn: str | None, *, per_second: int, since: float | None = None
    ) -> MoveResult:
        """Continue to move a whole dead-letter queue. Call again until it is done.

        The call has no state: it waits for a running move task, and starts one if messages are left and none runs. So
        it continues after a failed or cancelled task, and a second call is harmless.

        Parameters
        ----------
        source_arn
            A dead-letter queue in the redrive policy of an SQS queue. SQS moves no others.
        destination_arn
            None: each message returns to the queue that it came from. This fails for messages that were sent directly
            to the dead-letter queue.
        per_second
            Maximum messages per second; SQS accepts 1 to 500.
        since
            Seconds since 1970. ``moved`` is the sum of the tasks started since then (the last ten at most). Default:
            the latest task only.

        Returns
        -------
        MoveResult
            ``done`` once the queue is empty, messages in flight included. ``moved`` is SQS's approximation. ``reason``
            is that of the last task, if it failed.

        Raises
        ------
        botocore.exceptions.ClientError
            InvalidParameterValue: not a dead-letter queue, or another task is running. ResourceNotFoundException: a
            queue does not exist. SQS runs one task per queue and
            100 per account, each for at most 36 hours:
            https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        tasks = self._tasks(source_arn)
        moved, reason = _moved_by(tasks, since), _task_failure(tasks)
        if _any_running(tasks):
            return MoveResult(done=False, moved=moved, reason=reason)
        url = self._queues.url(source_arn)
        backlog = self._queues.count(url)
        if backlog.visible or self._holds_something(url):
            self._start(source_arn, destination_arn, per_second)
            return MoveResult(done=False, moved=moved, reason=reason)
        return MoveResult(done=backlog.total == 0, moved=moved, reason=reason)

    def cancel(self, source_arn: str, since: float | None = None, until: float = math.inf) -> bool:
        """Cancel the running move task of a queue if it was started between these times. Return whether there was one.

        Messages that were moved stay moved. SQS cancels late: the task is CANCELLING for a while and moves more. This
        waits for its end, because counts before it are wrong.
        """
        for task in self._tasks(source_arn):
            if task["Status"] != "RUNNING" or not (since or 0.0) <= _task_start(task) <= until:
                continue
            try:
                self._sqs.cancel_message_move_task(TaskHandle=task["TaskHandle"])
            except ClientError:
                if _any_running(self._tasks(source_arn), "RUNNING"):
                    raise
            self._await_end(source_arn)
            return True  # Or it ended in the meantime.
        return False

    def _await_end(self, source_arn: str) -> None:
        """Wait until no task runs. A task that takes longer than the limit makes the counts too low, and no more."""
        until = self._queues.clock() + CANCEL_SECONDS
        while _any_running(self._tasks(source_arn)) and self._queues.clock() < until:
            self._queues.sleep(CANCEL_POLL_SECONDS)

    def moved(self, source_arn: str, since: float, until: float = math.inf) -> int:
        """Return the approximate number of messages moved by the tasks started between these times."""
        return _moved_by([task for task in self._tasks(source_arn) if _task_start(task) <= until], since)

    def _tasks(self, source_arn: str) -> list[dict[str, Any]]:
        """Return the move tasks of a queue, latest first."""
        tasks = self._sqs.list_message_move_tasks(SourceArn=source_arn, MaxResults=TASKS_LISTED).get("Results", [])
        return sorted(tasks, key=_task_start, reverse=True)

    def _start(self, source_arn: str, destination_arn: str | None, per_second: int) -> None:
        parameters: dict[str, Any] = {
            "SourceArn": source_arn,
            "MaxNumberOfMessagesPerSecond": max(1, min(MAX_PER_SECOND, per_second)),
            **({"DestinationArn": destination_arn} if destination_arn else {}),
        }
        try:
            self._sqs.start_message_move_task(**parameters)
        except ClientError:
            # Another caller was faster, or the answer to the first attempt was lost.
            if not _any_running(self._tasks(source_arn)):
                raise

    def _holds_something(self, queue_url: str) -> bool:
        """Return whether the queue has a message that is not counted yet. The message stays in the queue."""
        return bool(self._queues.receive(queue_url, 1, visibility_seconds=0))


def _task_start(task: dict[str, Any]) -> float:
    """Return the start of a move task in seconds since 1970; SQS returns milliseconds."""
    return float(task.get("StartedTimestamp", 0)) / 1000


def _any_running(tasks: list[dict[str, Any]], *statuses: str) -> bool:
    return any(task["Status"] in (statuses or ("RUNNING", "CANCELLING")) for task in tasks)


def _moved_by(tasks: list[dict[str, Any]], since: float | None) -> int:
    counted = tasks[:1] if since is None else [task for task in tasks if _task_start(task) >= since]
    return sum(int(task.get("ApproximateNumberOfMessagesMoved") or 0) for task in counted)


def _task_failure(tasks: list[dict[str, Any]]) -> str:
    if tasks and tasks[0]["Status"] == "FAILED":
        return f"the move task failed: {tasks[0].get('FailureReason', 'no reason is known')}"
    return ""
