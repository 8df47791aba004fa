"""Error codes of AWS services that Headgate handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.exceptions import ClientError


_DENIED_CODES = ("AccessDenied", "AccessDeniedException")
"""Services have different names for this error."""

_MISSING_QUEUE_CODES = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


def code_of(error: ClientError) -> str:
    """Return the error code of a service."""
    return str(error.response["Error"]["Code"])


def message_of(error: ClientError) -> str:
    """Return the error message of a service."""
    return str(error.response["Error"]["Message"])


def is_unmet(error: ClientError) -> bool:
    """Return whether the condition of a DynamoDB write, or of one in a transaction, does not hold."""
    return code_of(error) == "ConditionalCheckFailedException" or "ConditionalCheckFailed" in cancellation_reasons(
        error
    )


def is_conflict(error: ClientError) -> bool:
    """Return whether a DynamoDB write conflicts with a transaction on the same item. Its condition may still hold."""
    if code_of(error) == "TransactionConflictException":
        return True
    return "TransactionConflict" in cancellation_reasons(error) and not is_unmet(error)


def cancellation_reasons(error: ClientError) -> list[str | None]:
    """Return the code for each write of a canceled transaction; None for a write without an error.

    The list is empty for other errors.
    """
    if code_of(error) != "TransactionCanceledException":
        return []
    return [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]


def is_denied(error: ClientError) -> bool:
    """Return whether the caller's policies do not allow the call."""
    return code_of(error) in _DENIED_CODES


def is_missing_stack(error: ClientError) -> bool:
    """Return whether CloudFormation knows no such stack, or no such resource of it: it has one code for both."""
    return code_of(error) == "ValidationError" and "does not exist" in message_of(error)


def is_missing_queue(error: ClientError) -> bool:
    """Return whether the queue does not exist."""
    return code_of(error) in _MISSING_QUEUE_CODES
