"""The error codes of AWS services that decide what happens next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.exceptions import ClientError


_DENIED_CODES = ("AccessDenied", "AccessDeniedException")
"""Services differ in how they name it."""

_MISSING_QUEUE_CODES = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


def code_of(error: ClientError) -> str:
    """The code by which a service names its error."""
    return str(error.response["Error"]["Code"])


def message_of(error: ClientError) -> str:
    """What a service says of its error."""
    return str(error.response["Error"]["Message"])


def is_unmet(error: ClientError) -> bool:
    """Whether the condition of a write to DynamoDB does not hold."""
    return code_of(error) == "ConditionalCheckFailedException"


def is_conflict(error: ClientError) -> bool:
    """Whether a plain write to DynamoDB met a transaction at the same item."""
    return code_of(error) == "TransactionConflictException"


def cancellation_reasons(error: ClientError) -> list[str | None]:
    """The code of each write of a transaction that was canceled, None for a write that was in order.

    Empty for any other error.
    """
    if code_of(error) != "TransactionCanceledException":
        return []
    return [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]


def is_denied(error: ClientError) -> bool:
    """Whether the caller's policies do not allow the call."""
    return code_of(error) in _DENIED_CODES


def is_missing_queue(error: ClientError) -> bool:
    """Whether SQS has no such queue."""
    return code_of(error) in _MISSING_QUEUE_CODES
