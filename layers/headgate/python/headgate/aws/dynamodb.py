"""Plain JSON data to DynamoDB attribute values and back: DynamoDB has decimals where JSON has floats.

A number has 38 significant digits and a magnitude between 1e-130 and 1e126, and text is UTF-8:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
"""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from headgate.aws.errors import is_conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


MAX_ROLLOUT_SECONDS = 366 * 24 * 3600
"""An execution runs for a year at most: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

RETENTION_DAYS = 90
"""How long records are kept, unless the deployment says otherwise, beyond the year that a rollout may take."""


def expiry(retention_days: int = 0) -> int:
    """When DynamoDB may drop what is written now of a rollout, in seconds since 1970: not while it can still run."""
    return int(time.time()) + MAX_ROLLOUT_SECONDS + retention_days * 24 * 3600


Params = ParamSpec("Params")
Result = TypeVar("Result")

MAX_DIGITS = 38
"""Significant digits that a number in the table has at most."""

SMALLEST_NUMBER, LARGEST_NUMBER = Decimal("1e-130"), Decimal("9.9999999999999999999999999999999999999e125")
"""Magnitudes that a number in the table may have, apart from 0."""

MAX_CONFLICTS = 12
"""How often a write that meets a transaction is made again."""


class WriteConflict(Exception):  # noqa: N818
    """An optimistic write found that what it rests on has changed: read again."""


class _Deserializer(TypeDeserializer):
    """boto3's, which refuses what DynamoDB itself gives back: 1e38 and above come with all their zeros."""

    def _deserialize_n(self, value: str) -> Decimal:
        return Decimal(value)


_serialize = TypeSerializer().serialize
_deserialize = _Deserializer().deserialize


def to_item(data: Mapping[str, Any]) -> dict[str, Any]:
    """An item, or a set of expression values, from JSON-able data; None fields are left out.

    A number too small for the table becomes 0; half a surrogate pair, which UTF-8 cannot carry, a question mark.

    Raises
    ------
    ValueError
        If a number is one that the table cannot hold: NaN, infinite, too large, or an integer with too many digits.
    """
    text = json.dumps(data)
    if "\\ud" in text:
        text = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace").decode()
    exact = json.loads(text, parse_float=_decimal, parse_int=_decimal, parse_constant=_decimal)
    return {name: _serialize(value) for name, value in exact.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able data from an item.

    A whole number is an int up to 64 bits; a larger one was a float, and is one, which JSON writes with an exponent.
    """
    return {name: _plain_value(_deserialize(value)) for name, value in item.items()}


def _decimal(text: str) -> Decimal:
    """A number of JSON as the table keeps it."""
    number = Decimal(text)
    if not number.is_finite() or number.copy_abs() > LARGEST_NUMBER or len(number.as_tuple().digits) > MAX_DIGITS:
        raise ValueError(
            f"{text[:50]} is no number for the table: it takes {MAX_DIGITS} digits, and magnitudes below 1e126"
        )
    return number if number.copy_abs() >= SMALLEST_NUMBER else Decimal(0)


def retry_conflicts(write: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
    """Make a plain write, again while a transaction is at the same item: botocore does not retry that by itself.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling
    """
    return retry(
        lambda: write(*args, **kwargs),
        when=lambda error: isinstance(error, ClientError) and is_conflict(error),
        attempts=MAX_CONFLICTS + 1,
        backs_off=True,
    )


def retry(
    call: Callable[[], Result],
    *,
    attempts: int,
    when: Callable[[Exception], bool] = lambda error: isinstance(error, WriteConflict),
    backs_off: bool = False,
    failure: Exception | None = None,
) -> Result:
    """Make a call again while it fails in a way that another attempt may cure, and answer its result.

    Parameters
    ----------
    when
        Which failures those are: by default, that another writer was faster. Any other failure is raised at once.
    backs_off
        Whether to wait between the attempts, longer each time.
    failure
        What is raised when all attempts have failed; by default, the failure of the last one.
    """
    failed = 0
    while True:
        try:
            return call()
        except Exception as error:
            failed += 1
            if not when(error):
                raise
            if failed == attempts:
                raise failure or error from None
        if backs_off:
            back_off(failed - 1)


def back_off(attempt: int) -> None:
    """Wait a little, at random and longer each time, so that two writers do not meet again; ``attempt`` begins at 0."""
    time.sleep(random.uniform(0, 0.05 * (attempt + 1)))  # noqa: S311 - jitter is no secret


def _plain_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.copy_abs() < 2**63 else float(value)
    if isinstance(value, dict):
        return {name: _plain_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return value
