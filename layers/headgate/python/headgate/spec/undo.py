"""Undo requests: restore what a target served before its last promotion."""

from __future__ import annotations

from typing import Any, NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.candidate import PublishedVersion, TaskDefinitionRevision
from headgate.spec.request import RolloutRequest
from headgate.spec.signal_models import SignalText
from headgate.spec.targets import EcsServiceTarget, Target
from headgate.wire import RolloutId, Wire, read


class Promotion(NamedTuple):
    """What an undo takes back."""

    rollout_id: str
    stable: str
    """The revision that the target served before: a version, or the family and revision of a task definition."""
    undo_of: str | None = None
    """The rollout that it took back, if it was itself an undo."""
    target: dict[str, Any] | None = None
    """The target as its request named it."""


class UndoRequest(Wire):
    """A request to restore what the target served before its last promotion."""

    id: RolloutId
    """As for a rollout request."""
    target: Target
    """The target to restore."""
    rollout_id: RolloutId | None = None
    """The rollout to undo. Refused if another rollout was promoted on the target later. Default: the last one that was
    promoted; required if that is itself an undo."""
    reason: SignalText = ""
    """Why. It is on record if the undo acts as an abort, of a rollout that keeps its stable revision; of it the first
    1,000 bytes are kept. Otherwise it is ignored."""


def read_undo(detail: object, default_id: str) -> UndoRequest:
    """Read an undo request. Errors as for ``wire.read``."""
    return read(UndoRequest, detail, default_id, needs="target")


def undo_rollout(request: UndoRequest, last: Promotion | None) -> RolloutRequest:
    """Return the request for a rollout that undoes the last one: all at once, to the revision that was stable before.

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
            f"{last.rollout_id} took back {last.undo_of}; to undo that undo, so that {_named(last.stable)} serves "
            f"again, give {last.rollout_id}"
        )
    if request.rollout_id not in (None, last.rollout_id):
        raise RequestRefused(not_last(request.rollout_id, last))
    return RolloutRequest(
        id=request.id,
        target=_target(request.target, last),
        candidate=_candidate(request.target, last.stable),
        strategy="AllAtOnce",
        # It served before: nothing is to keep it from coming back.
        guards="none",
        undo_of=last.rollout_id,
    )


def _target(asked: Target, last: Promotion) -> Target:
    """Return the target of an undo: how a service is moved is as it was for the promotion, unless the undo says it.

    Nothing is kept, unless the undo says so: what it takes away is not to run on.
    """
    if not isinstance(asked, EcsServiceTarget):
        return asked
    given = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return EcsServiceTarget.model_validate({**(last.target or {}), "keepSeconds": 0, **given})


def _candidate(target: Target, stable: str) -> PublishedVersion | TaskDefinitionRevision:
    if isinstance(target, EcsServiceTarget):
        return TaskDefinitionRevision(task_definition=stable)
    return PublishedVersion(version=stable)


def _named(revision: str) -> str:
    """Return a revision as a sentence names it: a version by its word, a task definition by its family."""
    return f"version {revision}" if revision.isdigit() else revision


def not_last(rollout_id: str, last: Promotion) -> str:
    """Return why a rollout cannot be undone although it was promoted: another one was promoted later.

    Parameters
    ----------
    last
        The last promotion on the target.
    """
    if last.undo_of == rollout_id:
        return (
            f"rolloutId: {rollout_id} is already undone by {last.rollout_id}; to undo that undo, so that "
            f"{_named(last.stable)} serves again, give {last.rollout_id}"
        )
    other = last.rollout_id
    if last.undo_of:
        # To give its id brings back what it took away.
        return (
            f"rolloutId: {rollout_id} was not promoted last; {other} was, which took back {last.undo_of}; only to undo "
            f"that undo, so that {_named(last.stable)} serves again, give {other}"
        )
    return f"rolloutId: {rollout_id} was not promoted last; {other} was; to undo that one, give {other}"
