"""Conversion between JSON data and DynamoDB attribute values, and retries of writes.

DynamoDB has decimals of 38 digits with magnitudes from 1e-130 to 1e126 where JSON has floats, and text is UTF-8:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
"""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime
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
"""Default retention of records, beyond the year that a rollout may take."""


def expiry(retention_days: int = 0) -> int:
    """Return when an item written now may expire, in seconds since 1970: never while its rollout can still run."""
    return int(time.time()) + MAX_ROLLOUT_SECONDS + retention_days * 24 * 3600


def now_iso() -> str:
    """Return the current time in the format of records and events: UTC, ISO 8601, milliseconds."""
    return iso_of(datetime.now(UTC))


def iso_of(moment: datetime) -> str:
    """Return a time in the format of records and events."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_since(moment: str) -> float:
    """Return the seconds since a time in the format of records and events."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


Params = ParamSpec("Params")
Result = TypeVar("Result")

MAX_DIGITS = 38
"""Maximum significant digits of a number in the table."""

SMALLEST_NUMBER, LARGEST_NUMBER = Decimal("1e-130"), Decimal("9.9999999999999999999999999999999999999e125")
"""Limits of the magnitude of a number in the table, apart from 0."""

MAX_CONFLICTS = 12
"""How often a write that conflicts with a transaction is retried."""


class WriteConflict(Exception):  # noqa: N818
    """An optimistic write found that what it rests on has changed: read again."""


class _Deserializer(TypeDeserializer):
    """boto3's deserializer refuses numbers from 1e38 on, which DynamoDB returns with all their zeros.

    It also wraps bytes.
    """

    def _deserialize_n(self, value: str) -> Decimal:
        return Decimal(value)

    def _deserialize_b(self, value: bytes) -> bytes:
        return value


_serialize = TypeSerializer().serialize
_deserialize = _Deserializer().deserialize


def to_item(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert JSON-able data to an item or a set of expression values; None fields are left out.

    A field may also be bytes. A number too small for the table becomes 0. A lone surrogate, which is not valid UTF-8,
    becomes a question mark.

    Raises
    ------
    ValueError
        If the table cannot hold a number: NaN, infinite, too large, or an integer with too many digits.
    """
    binary = {name: value for name, value in data.items() if isinstance(value, bytes)}
    text = json.dumps({name: value for name, value in data.items() if name not in binary} if binary else data)
    if "\\ud" in text:
        text = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace").decode()
    exact = json.loads(text, parse_float=_decimal, parse_int=_decimal, parse_constant=_decimal)
    return {name: _serialize(value) for name, value in (exact | binary).items() if value is not None}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an item to JSON-able data, and its binary fields to bytes.

    A whole number of up to 64 bits becomes an int. A larger one was a float and becomes one.
    """
    return {name: _plain_value(_deserialize(value)) for name, value in item.items()}


def _decimal(text: str) -> Decimal:
    """Convert the text of a JSON number to a decimal that the table can hold."""
    number = Decimal(text)
    if not number.is_finite() or number.copy_abs() > LARGEST_NUMBER or len(number.as_tuple().digits) > MAX_DIGITS:
        raise ValueError(
            f"{text[:50]} does not fit into the table: numbers have at most {MAX_DIGITS} digits and are below 1e126"
        )
    return number if number.copy_abs() >= SMALLEST_NUMBER else Decimal(0)


def retry_conflicts(write: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
    """Write, and retry while a transaction holds the same item, which botocore does not.

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
    """Wait for a random time that grows with each attempt, from 0 on, so that two writers do not collide again."""
    time.sleep(random.uniform(0, 0.05 * (attempt + 1)))  # noqa: S311 - jitter is not a secret


def _plain_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.copy_abs() < 2**63 else float(value)
    if isinstance(value, dict):
        return {name: _plain_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return value
