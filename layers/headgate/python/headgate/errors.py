"""The errors that the rollout machine tells apart; a class's name is the error name in its Catch blocks."""

from __future__ import annotations


class HeadgateError(Exception):
    """Base of every error that Headgate raises on purpose."""


class RequestRefused(HeadgateError):  # noqa: N818 - the name is part of the machine's contract
    """The request cannot be carried out as it stands; nothing was touched. The message names field, value and fix."""


class TargetNotReady(HeadgateError):  # noqa: N818
    """The candidate is not ready for traffic yet; the machine asks again."""


class TargetChanged(HeadgateError):  # noqa: N818
    """Somebody else moved the target. The rollout stops and leaves it as found."""


class LockLost(HeadgateError):  # noqa: N818
    """This execution no longer owns the target's lock, so it must not have any further effect."""
