"""Undo requests: restore what a target served before its last promotion."""

from __future__ import annotations

from typing import NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.candidate import PublishedVersion
from headgate.spec.request import RolloutRequest
from headgate.spec.targets import Target
from headgate.wire import RolloutId, Wire, read


class Promotion(NamedTuple):
    """What an undo takes back."""

    rollout_id: str
    stable: str
    """The version that the target served before."""
    undo_of: str | None = None
    """The rollout that it took back, if it was itself an undo."""


class UndoRequest(Wire):
    """A request to restore what the target served before its last promotion."""

    id: RolloutId
    """As for a rollout request."""
    target: Target
    """The target to restore."""
    rollout_id: RolloutId | None = None
    """The rollout to undo. Refused if another rollout was promoted on the target later. Default: the last one that was
    promoted; required if that is itself an undo."""


def read_undo(detail: object, default_id: str) -> UndoRequest:
    """Read an undo request. Errors as for ``wire.read``."""
    return read(UndoRequest, detail, default_id, needs="target")


def undo_rollout(request: UndoRequest, last: Promotion | None) -> RolloutRequest:
    """Return the request for a rollout that undoes the last one: all at once, to the version that was stable before.

    Parameters
    ----------
    last
        The last promotion on the target; None if there is none.

    Raises
    ------
    RequestRefused
        If there is nothing to undo, another rollout was promoted later, or the last one is an undo that the request
        does not name. Two requests for the same undo would otherwise bring the bad version back.
    """
    if last is None:
        raise RequestRefused(f"target: nothing was promoted on {request.target.key}, so there is nothing to undo")
    if request.rollout_id is None and last.undo_of:
        raise RequestRefused(
            f"rolloutId: is missing, and the last promotion on {request.target.key} is already an undo: "
            f"{last.rollout_id} took back {last.undo_of}; to undo that undo, so that version {last.stable} serves "
            f"again, give {last.rollout_id}"
        )
    if request.rollout_id not in (None, last.rollout_id):
        raise RequestRefused(not_last(request.rollout_id, last))
    return RolloutRequest(
        id=request.id,
        target=request.target,
        candidate=PublishedVersion(version=last.stable),
        strategy="AllAtOnce",
        # The version served before: nothing is to keep it from coming back.
        guards="none",
        undo_of=last.rollout_id,
    )


def not_last(rollout_id: str, last: Promotion) -> str:
    """Return why a rollout cannot be undone although it was promoted: another one was promoted later.

    Parameters
    ----------
    last
        The last promotion on the target.
    """
    if last.undo_of == rollout_id:
        return (
            f"rolloutId: {rollout_id} is already undone by {last.rollout_id}; to undo that undo, so that version "
            f"{last.stable} serves again, give {last.rollout_id}"
        )
    other = last.rollout_id
    if last.undo_of:
        # To give its id brings back what it took away.
        return (
            f"rolloutId: {rollout_id} was not promoted last; {other} was, which took back {last.undo_of}; only to undo "
            f"that undo, so that version {last.stable} serves again, give {other}"
        )
    return f"rolloutId: {rollout_id} was not promoted last; {other} was; to undo that one, give {other}"
