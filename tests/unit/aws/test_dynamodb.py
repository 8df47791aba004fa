"""Numbers and text as the table keeps them, with their extremes."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer
from hypothesis import given
from hypothesis import strategies as st

from headgate.aws.dynamodb import SMALLEST_NUMBER, from_item, to_item

WITHIN = (
    st.floats(float(SMALLEST_NUMBER) * 2, 9.9e125) | st.floats(-9.9e125, -float(SMALLEST_NUMBER) * 2) | st.just(0.0)
)


def as_dynamodb_gives_back(item: dict[str, Any]) -> dict[str, Any]:
    """Numbers without an exponent, as DynamoDB writes them: with all their zeros."""
    return {name: {"N": format(Decimal(value["N"]), "f")} for name, value in item.items()}


@given(WITHIN)
def test_a_float_comes_back_as_the_same_number(value: float) -> None:
    read = from_item(as_dynamodb_gives_back(to_item({"value": value})))["value"]
    assert float(read) == value
    assert json.loads(json.dumps(read), parse_int=float) == value


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_an_integer_of_64_bits_comes_back_as_it_was(value: int) -> None:
    read = from_item(as_dynamodb_gives_back(to_item({"value": value})))["value"]
    assert read == value
    assert isinstance(read, int)


@given(WITHIN | st.integers(-(10**38) + 1, 10**38 - 1))
def test_no_number_is_read_as_an_integer_that_the_bus_does_not_take(value: float) -> None:
    # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
    read = from_item(as_dynamodb_gives_back(to_item({"value": value})))["value"]
    assert isinstance(read, float) or -(2**63) <= read < 2**63


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e126, -1.7e308, 10**38, -(10**40), 10**400, int("1" * 39)]
)
def test_a_number_that_the_table_cannot_hold_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="does not fit into the table"):
        to_item({"value": [{"inner": value}]})


@pytest.mark.parametrize("value", [1e-131, -1e-131, 5e-324, -0.0])
def test_what_is_too_small_for_the_table_is_nothing(value: float) -> None:
    assert from_item(to_item({"value": value})) == {"value": 0}


@pytest.mark.parametrize("value", [9.9999999e125, 1e125, 1e38, 1e-130, 10**38 - 1, 2**63])
def test_the_largest_and_the_smallest_are_taken(value: float) -> None:
    assert float(from_item(as_dynamodb_gives_back(to_item({"value": value})))["value"]) == float(value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\ud800x", "?x"),
        ("x\udc00", "x?"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\\ud800", "\\ud800"),
        ("\\\ud800", "\\?"),
        ("é\x00", "é\x00"),
    ],
)
def test_text_that_utf8_cannot_carry_is_kept_as_far_as_it_can_be(text: str, kept: str) -> None:
    item = to_item({"value": [text, {"inner": text}]})
    assert from_item(item) == {"value": [kept, {"inner": kept}]}
    json.dumps(item, ensure_ascii=False).encode()


def test_boto3_still_refuses_what_dynamodb_gives_back() -> None:
    """The reason for a deserializer of our own; where this fails, boto3's will do."""
    with pytest.raises(ArithmeticError):
        TypeDeserializer().deserialize({"N": "1" + 58 * "0"})
