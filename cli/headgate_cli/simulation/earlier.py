"""Minutes of both versions in earlier rollouts of an alias: how each version wandered on its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.analysis.metric_queries import metric_query
from headgate_cli.simulation.past import OLDEST_MINUTE
from headgate_cli.simulation.wandering import Both

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.history.model import RolloutSummary
    from headgate_cli.rollouts import History
    from headgate_cli.stack import Stack

MOST_ROLLOUTS = 10
"""Earlier rollouts that are read."""

_COUNTS = ("Invocations", "Errors")


def minutes_of_both(stack: Stack, history: History, key: str) -> list[Both]:
    """Return the minutes of promoted rollouts, whose versions are taken to be equally good.

    Parameters
    ----------
    key
        Of an alias.
    """
    _, function, alias = key.split("/")
    oldest = datetime.now(UTC) - OLDEST_MINUTE
    found = history.rollouts(target=key, states=("succeeded",), limit=MOST_ROLLOUTS).rollouts
    recent = [each for each in found if each.started_at and datetime.fromisoformat(each.started_at) > oldest]
    return [both for rollout in recent for both in _minutes(stack, rollout, function, alias)]


def _minutes(stack: Stack, rollout: RolloutSummary, function: str, alias: str) -> Iterator[Both]:
    if not (rollout.started_at and rollout.ended_at and rollout.stable and rollout.candidate):
        return
    dimensions = {"FunctionName": function, "Resource": f"{function}:{alias}"}
    queries = [
        metric_query(f"{arm}_{name.lower()}", "AWS/Lambda", name, "Sum", {**dimensions, "ExecutedVersion": version})
        for arm, version in (("candidate", rollout.candidate), ("stable", rollout.stable))
        for name in _COUNTS
    ]
    pages = stack.client("cloudwatch").get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries,
        StartTime=datetime.fromisoformat(rollout.started_at),
        EndTime=datetime.fromisoformat(rollout.ended_at),
    )  # fmt: skip
    counts: dict[datetime, dict[str, int]] = {}
    for page in pages:
        for result in page["MetricDataResults"]:
            for stamp, value in zip(result["Timestamps"], result["Values"], strict=True):
                counts.setdefault(stamp, {})[result["Id"]] = round(value)
    for of_minute in counts.values():
        yield Both(*(of_minute.get(f"{arm}_{name.lower()}", 0) for arm in ("candidate", "stable") for name in _COUNTS))
