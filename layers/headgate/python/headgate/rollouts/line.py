"""The line of a target: requests that wait until it is free.

A request that a person or a pipeline starts as an execution waits in that execution, which tells its caller how the
rollout ended. A request from a queue has no execution until its turn comes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.errors import is_unmet
from headgate.errors import RequestRefused
from headgate.rollouts.record import ANNOUNCED_AS
from headgate.rollouts.table import now_iso, retry_lost_writes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mypy_boto3_stepfunctions import SFNClient

    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table
    from headgate.spec.request import RolloutRequest


OVERDUE_SECONDS = 60
"""How long after its limit a request is refused by the warden. An execution that waits notices the limit itself."""

PUBLISHES_LATEST = (
    "candidate: $LATEST is published when the turn comes, with the code and configuration that it has then; "
    "to roll out what it has now, publish a version and give its number, or give its CodeSha256 as publish.confirm"
)


class Line:
    """Lets requests wait for their turn, and leave the line before it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def await_turn(self, rollout_id: str, execution: str, token: str, attempt: str) -> bool:
        """Store the token of an execution that waits. Return True if the wait is over already.

        One UpdateItem checks and stores. If the lock was passed on before it, this returns True. If it is passed on
        later, the token is found.

        Parameters
        ----------
        attempt
            Sort value of the attempt. A late earlier attempt must not overwrite a later one's token.

        Raises
        ------
        RequestRefused
            If the request has left the line.
        """
        try:
            self._table.amend(
                rollout_id,
                {"turnToken": token, "turnAttempt": attempt, "attended": True},
                condition=(
                    "execution = :execution AND #status = :waiting "
                    "AND (attribute_not_exists(#turnAttempt) OR #turnAttempt <= :set_turnAttempt)"
                ),
                values={":execution": execution, ":waiting": "waiting"},
            )
        except ClientError as error:
            if not is_unmet(error):
                raise
            record = self._table.rollout(rollout_id)
            if record and record.execution == execution and record.status == "refused":
                raise RequestRefused(record.reason) from None
            return record is None or record.status != "waiting"
        return False

    def overdue(self, target_key: str) -> Iterator[tuple[RolloutRecord, int]]:
        """Yield the requests in a target's line that have waited for longer than their limit, with it, in seconds."""
        values = {":pk": keys.target_pk(target_key), ":wait": keys.WAIT_PREFIX}
        places = self._table.query("pk = :pk AND begins_with(sk, :wait)", values, ConsistentRead=True)
        latest = time.time() - OVERDUE_SECONDS
        # Earlier versions stored no limit.
        for place in places:
            if place.get("until", latest) < latest and (record := self._table.rollout(place["rolloutId"])):
                yield record, place["limitSeconds"]

    def leave(self, record: RolloutRecord, reason: str) -> bool:
        """Refuse a request that waits, and give up its place. Return False if it no longer waits."""
        return retry_lost_writes(record.id, lambda: self._leave_once(record.id, reason))

    def _leave_once(self, rollout_id: str, reason: str) -> bool:
        record = self._table.rollout(rollout_id)
        # An undo that acts as an abort waits for the rollout that it aborts, and has no place in line.
        if record is None or record.status != "waiting" or not record.arrival:
            return False
        lock = self._table.lock(record.target_key)
        undo_of = {"undoOf": record.undo_of} if record.undo_of else {}
        self._table.transact(
            self._table.put_lock(lock.with_departure()),
            self._table.drop(keys.target_pk(record.target_key), keys.wait_sk(record.arrival)),
            self._table.update_rollout(
                record.id,
                {"status": "refused", "reason": reason, "endedAt": now_iso()},
                condition="#status = :waiting",
                values={":waiting": "waiting"},
            ),
            self._table.put_event(
                record.id,
                ANNOUNCED_AS["refused"],
                "ended",
                {"target": record.target_key, **undo_of, "reason": reason},
            ),
        )
        return True


def line_up(
    table: Table, request: RolloutRequest, record: dict[str, Any], *, arrival: int, place: int, owner: str
) -> Iterator[dict[str, Any]]:
    """Yield the writes that store a request in its target's line and announce that it waits.

    Parameters
    ----------
    record
        The fields of its record.
    arrival
        Its number among all requests that ever waited for the target.
    place
        Its place in line, from 1.
    owner
        Id of the rollout that holds the lock.
    """
    limit = request.turn_limit_seconds
    waiting: dict[str, Any] = {"target": request.target.key, "behind": owner, "place": place, "limitSeconds": limit}
    if warnings := list(_warnings_about(request, owner)):
        waiting |= {"warnings": warnings}
    yield from table.put_rollout(request.id, {**record, "status": "waiting", "arrival": arrival})
    yield table.put(
        keys.target_pk(request.target.key),
        keys.wait_sk(arrival),
        {"rolloutId": request.id, "until": int(time.time()) + limit, "limitSeconds": limit},
    )
    yield table.put_event(
        request.id, "Rollout Waiting", "waiting", {**waiting, **({"warnings": warnings} if warnings else {})}
    )


def _warnings_about(request: RolloutRequest, owner: str) -> Iterator[str]:
    """Yield warnings about what the sender may not expect of the wait."""
    if request.publishes_latest:
        yield PUBLISHES_LATEST
    if request.undo_of:
        yield f"target: the undo runs after rollout {owner}; to end that one now, send it the signal abort"


def wake(client: SFNClient, record: RolloutRecord) -> None:
    """Tell a request's execution, if it waits in line, that its turn has come."""
    if record.turn_token:
        with _unless_gone(client):
            client.send_task_success(taskToken=record.turn_token, output="{}")


def dismiss(client: SFNClient, record: RolloutRecord, reason: str) -> None:
    """Tell a request's execution, if it waits in line, that the request has left the line."""
    if record.turn_token:
        with _unless_gone(client):
            client.send_task_failure(taskToken=record.turn_token, error="RequestRefused", cause=reason)


def _unless_gone(client: SFNClient) -> AbstractContextManager[None]:
    """Return a context that ignores that an execution no longer waits. The warden finds one that has died."""
    gone = client.exceptions
    return suppress(gone.TaskTimedOut, gone.TaskDoesNotExist, gone.InvalidToken)


def overdue_reason(target_key: str, limit_seconds: int) -> str:
    """Return why a request that has waited for its limit is refused."""
    return (
        f"target: {target_key} was still busy after {limit_seconds:,} s; send the request again under a new id, or give"
        " onBusy.wait.limitSeconds a higher limit"
    )
