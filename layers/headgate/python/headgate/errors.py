"""Errors that the state machines distinguish. A class's name is the error name in their Retry and Catch blocks."""

from __future__ import annotations


class HeadgateError(Exception):
    """Base of every error that Headgate raises on purpose."""


class Transient(HeadgateError):  # noqa: N818 - the name is part of the machines' contract
    """A temporary failure outside Headgate.

    The machines retry this error and its subclasses. ``statemachines/source/shapes.py`` lists each by name.
    """


class Contended(Transient):
    """An optimistic write used up its attempts because other writers changed the item each time."""


class RequestRefused(HeadgateError):  # noqa: N818 - the name is part of the machine's contract
    """The request cannot be carried out. Nothing was changed. The message names field, value and fix."""


class TargetNotReady(HeadgateError):  # noqa: N818
    """The target is not ready yet. The machine tries again."""


class TargetChanged(HeadgateError):  # noqa: N818
    """Someone else changed the target. The rollout stops and leaves it as it is."""


class CandidateGone(HeadgateError):  # noqa: N818
    """The candidate was deleted during the rollout, so it cannot get traffic. The rollout is rolled back."""


class SignalRefused(HeadgateError):  # noqa: N818
    """The signal does not apply: its rollout is unknown, has ended, or is in another phase."""


class Aborted(HeadgateError):  # noqa: N818
    """An operator requested a rollback."""


class LockLost(HeadgateError):  # noqa: N818
    """This execution no longer owns the target's lock and must not change anything."""
