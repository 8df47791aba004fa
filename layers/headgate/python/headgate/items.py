"""Plain JSON data to DynamoDB attribute values and back: DynamoDB has decimals where JSON has floats."""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
R = TypeVar("R")

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize

CONFLICTS = 12
"""How often a write that meets a transaction is made again."""


def to_item(data: Mapping[str, Any]) -> dict[str, Any]:
    """An item, or a set of expression values, from JSON-able data; None fields are left out."""
    exact = json.loads(json.dumps(data), parse_float=Decimal)
    return {name: _serialize(value) for name, value in exact.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able data from an item."""
    return {name: _plain(_deserialize(value)) for name, value in item.items()}


def patiently(write: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Make a plain write, again while a transaction is at the same item: botocore does not retry that by itself.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling
    """
    for attempt in range(CONFLICTS):
        try:
            return write(*args, **kwargs)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionConflictException":
                raise
            back_off(attempt)
    return write(*args, **kwargs)


def back_off(attempt: int) -> None:
    """Wait a little, at random and longer each time, so that two writers do not meet again."""
    time.sleep(random.uniform(0, 0.05 * (attempt + 1)))  # noqa: S311 - jitter is no secret


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
