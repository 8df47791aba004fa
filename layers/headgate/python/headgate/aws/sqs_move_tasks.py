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


class MoveTasks:
    """Starts, watches and cancels the move tasks of dead-letter queues."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._sqs = queues.sqs

    def move_whole(
        self, source_arn: str, destination_arn: str | None, *, per_second: int, since: float | None = None
    ) -> MoveResult:
        """Take a dead-letter queue one step further towards empty; call it again until it is done.

        It keeps nothing in mind: a move task that runs is waited for, and one is started where messages are left and
        none runs. So it goes on after a task that has failed or was cancelled, and calling it twice does no harm.

        Parameters
        ----------
        source_arn
            A dead-letter queue that some SQS queue names in its redrive policy; SQS moves no other.
        destination_arn
            None: each message goes to the queue that it came from. That fails for messages which somebody sent to the
            dead-letter queue directly: SQS cannot tell where they belong.
        per_second
            At most so many messages a second; SQS takes 1 to 500.
        since
            Seconds since 1970. ``moved`` adds up the tasks that were started from then on (the last ten at most);
            by default only the latest.

        Returns
        -------
        MoveResult
            ``done`` once the queue is empty. Messages in flight are not done, and nothing but time brings them back.
            ``moved`` is SQS's approximation. ``reason`` is that of the last task, if it failed.

        Raises
        ------
        botocore.exceptions.ClientError
            UnsupportedOperation: not a dead-letter queue, or queues of two types. SQS runs one task per queue and 100
            per account, each for 36 hours at most:
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
        """Cancel the move task that runs on a queue, if it was started between these times; whether there was one.

        What has been moved stays moved: only what is still in the queue stays there.
        """
        for task in self._tasks(source_arn):
            if task["Status"] != "RUNNING" or not (since or 0.0) <= _task_start(task) <= until:
                continue
            try:
                self._sqs.cancel_message_move_task(TaskHandle=task["TaskHandle"])
            except ClientError:
                if _any_running(self._tasks(source_arn), "RUNNING"):
                    raise
            return True  # Or it has ended meanwhile.
        return False

    def moved(self, source_arn: str, since: float, until: float = math.inf) -> int:
        """How many messages the move tasks have moved that were started between these times, approximately."""
        return _moved_by([task for task in self._tasks(source_arn) if _task_start(task) <= until], since)

    def _tasks(self, source_arn: str) -> list[dict[str, Any]]:
        """The move tasks of a queue, the latest first."""
        told = self._sqs.list_message_move_tasks(SourceArn=source_arn, MaxResults=TASKS_LISTED).get("Results", [])
        return sorted(told, key=_task_start, reverse=True)

    def _start(self, source_arn: str, destination_arn: str | None, per_second: int) -> None:
        asked: dict[str, Any] = {
            "SourceArn": source_arn,
            "MaxNumberOfMessagesPerSecond": max(1, min(MAX_PER_SECOND, per_second)),
            **({"DestinationArn": destination_arn} if destination_arn else {}),
        }
        try:
            self._sqs.start_message_move_task(**asked)
        except ClientError:
            # Somebody was faster, or the answer to a first attempt was lost.
            if not _any_running(self._tasks(source_arn)):
                raise

    def _holds_something(self, queue_url: str) -> bool:
        """Whether a message is there that is not counted yet; it is seen and stays where it is."""
        return bool(self._queues.receive(queue_url, 1, visibility_seconds=0))


def _task_start(task: dict[str, Any]) -> float:
    """When a move task was started, in seconds since 1970; SQS tells milliseconds."""
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
