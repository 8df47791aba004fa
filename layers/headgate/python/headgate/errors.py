"""The errors that the rollout machine tells apart; a class's name is the error name in its Catch blocks."""

from __future__ import annotations


class HeadgateError(Exception):
    """Base of every error that Headgate raises on purpose."""


class RequestRefused(HeadgateError):  # noqa: N818 - the name is part of the machine's contract
    """The request cannot be carried out as it stands; nothing was touched. The message names field, value and fix."""


class TargetNotReady(HeadgateError):  # noqa: N818
    """The target is not where it should be yet; the machine calls again."""


class TargetChanged(HeadgateError):  # noqa: N818
    """Somebody else moved the target. The rollout stops and leaves it as found."""


class SignalRefused(HeadgateError):  # noqa: N818
    """A signal that means nothing now: its rollout is not known, has ended, or is in another phase."""


class Aborted(HeadgateError):  # noqa: N818
    """An operator has asked for the rollout to be rolled back."""


class LockLost(HeadgateError):  # noqa: N818
    """This execution no longer owns the target's lock, so it must not have any further effect."""
