"""What an installation costs in a month in which nothing is rolled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate_cli.costs.model import Used

if TYPE_CHECKING:
    from headgate_cli.costs.model import Cost
    from headgate_cli.costs.prices import Prices

HOURS_A_MONTH = 730

MINUTES_A_MONTH = HOURS_A_MONTH * 60

LOOKS = 2
"""The warden and the observer run each minute."""

LOOK_SECONDS = 0.113
"""Both together, measured (docs/benchmarks.md)."""

MEMORY_GB = 0.5

LOOK_READ_UNITS = 0.5
"""Of each: a query of an empty index."""

POLLERS, POLL_SECONDS = 5, 20
"""Lambda reads an idle queue by five long polls at a time."""


BEYOND_FREE_TIER = (
    "Beyond the free tier, which covers much of it in an account that uses little else: each month 1 million requests "
    "to Lambda and to SQS, 400,000 GB-seconds, 100,000 traces, 10 alarms and 3 dashboards."
)


class Installation(NamedTuple):
    """What of an installation is billed by time."""

    alarms: int
    dashboards: int
    shards: int
    """Shards of the telemetry stream; 0 without one."""
    queues: int
    """Standard queues that invoke a function."""
    fifo_queues: int


def of_idle(installation: Installation, prices: Prices) -> Cost:
    """Return what an installation costs in a month without rollouts."""
    looks = LOOKS * MINUTES_A_MONTH
    polls = POLLERS * HOURS_A_MONTH * 3600 / POLL_SECONDS
    used = Used(prices)
    used.add("Warden and observer: requests", looks, "lambdaRequest", "request")
    used.add("Warden and observer: duration", MINUTES_A_MONTH * LOOK_SECONDS * MEMORY_GB, "gbSecondArm64", "GB-second")
    used.add("Warden and observer: reads", looks * LOOK_READ_UNITS, "tableRead", "read unit")
    used.add("Warden and observer: traces", looks, "trace", "trace")
    used.add("Alarms", installation.alarms, "alarmMonth", "alarm")
    used.add("Dashboards", installation.dashboards, "dashboardMonth", "dashboard")
    used.add("Telemetry stream: shards", installation.shards * HOURS_A_MONTH, "shardHour", "shard hour")
    used.add("Request queues: polls, about", installation.queues * polls, "queueRequest", "request")
    used.add("FIFO request queue: polls, about", installation.fifo_queues * polls, "fifoRequest", "request")
    notes = [
        BEYOND_FREE_TIER,
        "Polls are estimated: Lambda reads an idle queue by five long polls of 20 seconds.",
        "Left out: logs, the table's storage and backups, the daily calls that keep functions active, and a KMS key.",
    ]
    return used.cost("installation without rollouts", notes, period="month")
