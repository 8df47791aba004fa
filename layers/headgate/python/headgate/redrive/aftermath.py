"""The result of a redrive whose execution was stopped, timed out or failed before it could announce one.

The execution's history has the progress after each slice:
https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetExecutionHistory.html
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from headgate.aws.execution_history import EndedHistory, iso_time
from headgate.aws.observability import logger
from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.sqs_queues import Queues
from headgate.errors import RequestRefused, Transient
from headgate.ids import text_of_number
from headgate.redrive.lookup import QueueLookup
from headgate.redrive.plan import RedrivePlan
from headgate.redrive.progress import SLICE_SECONDS, Progress
from headgate.redrive.request import read_redrive
from headgate.redrive.runner import CLOCK_SECONDS

if TYPE_CHECKING:
    from headgate.redrive.plan import RedriveOutcome


ENDING_REASON_CHARACTERS = 2000
_COUNTS = ("moved", "skipped", "failed", "returned", "records", "expired")


class Aftermath:
    """Stops and announces redrives that have ended badly, by the detail of their execution's status change.

    Parameters
    ----------
    sqs, machines, events
        boto3 clients for SQS, Step Functions and EventBridge.
    account
        The account of this deployment.
    bus
        Name of the event bus.
    """

    def __init__(self, sqs: Any, machines: Any, events: Any, *, account: str, bus: str) -> None:
        self._sqs = sqs
        self._queues = Queues(sqs)
        self._machines = machines
        self._events = events
        self._account = account
        self._bus = bus

    def stop(self, detail: dict[str, Any]) -> dict[str, Any]:
        """Cancel the message move task of the execution. Return whether there was one, and the remaining messages."""
        try:
            request = read_redrive(json.loads(detail["input"] or "null"), default_id=detail["name"])
            source, _ = QueueLookup(self._sqs, self._account).find(request.source.queue, "from.queue")
        except RequestRefused as refusal:
            # The execution of a refused request starts nothing.
            logger.info("nothing to stop", execution=detail["executionArn"], reason=str(refusal))
            return {"cancelled": False, "remaining": 0}
        cancelled = not request.dry_run and MoveTasks(self._queues).cancel(source.arn, *_lifetime(detail))
        logger.info("stopped", redrive_id=request.id, queue=source.name, cancelled=cancelled)
        return {"cancelled": cancelled, "remaining": self._queues.count(source.url).total}

    def announce(self, detail: dict[str, Any], remaining: int) -> None:
        """Announce the end on the bus, unless the machine did. A repeated call sends the same event."""
        ending = RedriveEnding(self._machines, detail)
        if ending.is_announced:
            return
        moved = 0
        if ending.plan and ending.moves_whole:
            moved = MoveTasks(self._queues).moved(ending.plan.source.arn, *_lifetime(detail))
        event_detail = json.dumps(ending.detail(moved=moved, remaining=remaining))
        entry = {"EventBusName": self._bus, "Source": "headgate", "DetailType": "Redrive Ended", "Detail": event_detail}
        response = self._events.put_events(Entries=[entry])
        if response["FailedEntryCount"]:
            raise Transient(f"the bus did not accept the event: {response['Entries']}")


def _lifetime(detail: dict[str, Any]) -> tuple[float, float]:
    """Return the time range, in seconds since 1970, in which the execution may have started a move task.

    A task that was started well after its end belongs to another redrive, which may begin before the announcement.
    """
    # A slice that was running when the execution ended may have started a task afterwards.
    until = detail["stopDate"] / 1000 + SLICE_SECONDS if detail.get("stopDate") else math.inf
    return detail["startDate"] / 1000 - CLOCK_SECONDS, until


class RedriveEnding:
    """An execution that ended, according to its history.

    Parameters
    ----------
    machines
        boto3 client for Step Functions.
    ended
        The detail of a Step Functions Execution Status Change event.
    """

    def __init__(self, machines: Any, ended: dict[str, Any]) -> None:
        self._ended = ended
        self._history = EndedHistory.read(machines, ended["executionArn"])
        plan = self._history.result("plan", first=True)
        self.plan = RedrivePlan.model_validate(plan) if plan else None
        """None if there was no plan yet: nothing was moved."""
        self.progress = Progress.model_validate(self._history.result("progress") or {})

    @property
    def is_announced(self) -> bool:
        """True if the machine announced its end, or the execution does not exist."""
        return self._history.is_announced

    @property
    def moves_whole(self) -> bool:
        """True if SQS moved the whole queue and reports how many messages it moved."""
        return self.plan is not None and self.plan.way == "move-task" and not self.plan.dry_run

    def detail(self, *, moved: int, remaining: int) -> dict[str, Any]:
        """Return the detail of the Redrive Ended event. The same history always yields the same detail.

        Parameters
        ----------
        moved
            Messages that SQS itself moved. For the other ways, the slices report them.
        """
        ended, plan = self._ended, self.plan
        counts = {name: getattr(self.progress, name) for name in _COUNTS}
        outcome: RedriveOutcome = "aborted" if ended["status"] == "ABORTED" else "failed"
        return {
            "id": f"{ended['name']}/redrive-ended",
            "redriveId": plan.id if plan else _given_id(ended["input"]) or ended["name"],
            "at": iso_time(ended["stopDate"]),
            "execution": ended["executionArn"],
            "outcome": outcome,
            **({"queue": plan.source.arn, "way": plan.way, "why": plan.why} if plan else {}),
            **counts,
            "moved": max(moved, self.progress.moved),
            "remaining": remaining,
            "seconds": round((ended["stopDate"] - ended["startDate"]) / 1000),
            "reason": self._reason(),
        }

    def _reason(self) -> str:
        reason = self._history.reason(self._ended["status"])
        # A stopped execution does not stop its functions.
        more = "; a slice was running, and the messages that it moved are not counted" if self._is_cut_short() else ""
        return reason[: ENDING_REASON_CHARACTERS - len(more)] + more

    def _is_cut_short(self) -> bool:
        """Return whether a slice was moving messages when the execution ended."""
        if self.moves_whole:
            return False
        for event in self._history.last:
            if event["type"] in ("TaskSucceeded", "TaskStateExited"):
                return False
            if event["type"] == "TaskStateEntered":
                return bool(event["stateEnteredEventDetails"]["name"] == "Move")
        return False


def _given_id(text: str | None) -> str | None:
    """Return the id in a request, which may be invalid, as the machine reports it."""
    try:
        given = text_of_number(json.loads(text or "")["id"])
    except (ValueError, KeyError, TypeError):
        return None
    return given if isinstance(given, str) and len(given) <= 128 else None
