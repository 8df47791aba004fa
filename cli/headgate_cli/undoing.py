"""Whether an undo is worth sending: what the target's lock and the records say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from headgate.errors import RequestRefused
from headgate.spec.undo import Promotion, undo_rollout

if TYPE_CHECKING:
    from headgate.history.model import RolloutView
    from headgate.spec.undo import UndoRequest
    from headgate_cli.rollouts import History


class Records(Protocol):
    """Where the records are: a stack."""

    @property
    def table(self) -> str:
        """Name of the table."""

    def client(self, service: str) -> Any:
        """Return the client for a service."""


def last_promotion(stack: Records, history: History, target_key: str) -> Promotion | None:
    """Return what an undo takes back on a target; None if there is nothing, or its record has expired.

    That is the last promotion, or the rollout that has sent all traffic to its candidate and keeps the stable revision.
    It reads the target's lock, since the list of rollouts may lag behind.
    """
    from headgate import keys
    from headgate.aws.dynamodb import from_item, to_item
    from headgate.rollouts.record import RolloutRecord

    def read(pk: str, sk: str) -> dict[str, Any]:
        key = to_item({"pk": pk, "sk": sk})
        item = stack.client("dynamodb").get_item(TableName=stack.table, Key=key, ConsistentRead=True).get("Item")
        return from_item(item) if item else {}

    lock = read(keys.target_pk(target_key), keys.LOCK_SK)
    owner = read(keys.rollout_pk(str(lock["owner"])), keys.ROLLOUT_SK) if lock.get("owner") else {}
    if owner and (record := RolloutRecord.of(owner)).keeps_stable:
        return Promotion(record.id, record.stable, record.undo_of)
    last = lock.get("last")
    view = history.rollout(str(last)) if last else None
    return Promotion(view.id, view.stable, view.undo_of or None) if view else None


def why_refused(request: UndoRequest, last: Promotion | None) -> str:
    """Return why Headgate would refuse an undo now, in its own words; empty if it would not.

    A refused request becomes a dead letter, which raises an alarm. So one that is sure to be refused is not sent.
    """
    if last is not None and not last.stable:
        return ""  # The record is too old to tell.
    try:
        undo_rollout(request, last)
    except RequestRefused as refusal:
        return str(refusal)
    return ""


def is_this_undo(known: RolloutView, request: UndoRequest) -> bool:
    """Return whether a rollout on record is the one of an undo request, as Headgate decides it."""
    same_target = known.target == request.target.key
    return same_target and bool(known.undo_of) and request.rollout_id in (None, known.undo_of)
