"""Public list prices, US East (N. Virginia), beyond the free tier and below the first volume discount."""

from __future__ import annotations

from typing import NamedTuple


class Price(NamedTuple):
    """What one unit costs, and where that is said."""

    what: str
    dollars: float
    as_written: str
    as_of: str
    source: str


TRANSITION = Price(
    "Step Functions, Standard: a state transition",
    0.025 / 1_000,
    "$0.025 per 1,000",
    "March 2026",
    "https://aws.amazon.com/step-functions/pricing/",
)
INVOCATION = Price(
    "Lambda: a request", 0.20 / 1e6, "$0.20 per million", "May 2026", "https://aws.amazon.com/lambda/pricing/"
)
GB_SECOND = Price(
    "Lambda, arm64: a GB-second",
    0.0000133334,
    "$0.0000133334",
    "May 2026",
    "https://aws.amazon.com/lambda/pricing/",
)
WRITE = Price(
    "DynamoDB, on demand: a write request unit",
    0.625 / 1e6,
    "$0.625 per million",
    "July 2025",
    "https://aws.amazon.com/dynamodb/pricing/on-demand/",
)
READ = Price(
    "DynamoDB, on demand: a read request unit",
    0.125 / 1e6,
    "$0.125 per million",
    "July 2025",
    "https://aws.amazon.com/dynamodb/pricing/on-demand/",
)
EVENT = Price(
    "EventBridge: a custom event",
    1.00 / 1e6,
    "$1.00 per million",
    "June 2026",
    "https://aws.amazon.com/eventbridge/pricing/",
)
ALL = (TRANSITION, INVOCATION, GB_SECOND, WRITE, READ, EVENT)
