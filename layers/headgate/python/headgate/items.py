"""Plain JSON data to DynamoDB attribute values and back: DynamoDB has decimals where JSON has floats."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

if TYPE_CHECKING:
    from collections.abc import Mapping

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def to_item(data: Mapping[str, Any]) -> dict[str, Any]:
    """An item, or a set of expression values, from JSON-able data; None fields are left out."""
    exact = json.loads(json.dumps(data), parse_float=Decimal)
    return {name: _serialize(value) for name, value in exact.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able data from an item."""
    return {name: _plain(_deserialize(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
