"""The decisions of ECS's service scheduler, as functions of numbers.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-throttle-logic.html.
"""

import math
from typing import NamedTuple

IMPAIRED_AFTER = 3
"""Failures in a row after which the service counts as unable to start its tasks. AWS does not document its number."""

LONGEST_PAUSE_SECONDS = 15.0
"""AWS waits up to 27 minutes between attempts to start a task that fails. Here, minutes would only be waited for."""


class Moves(NamedTuple):
    """Tasks to start, of the new deployment, and to stop, of the old ones."""

    start: int
    stop: int


class Side(NamedTuple):
    """Tasks of one side of a deployment that are not being stopped."""

    tasks: int
    healthy: int


def rolling_moves(desired: int, minimum_percent: int, maximum_percent: int, new: Side, old: Side) -> Moves:
    """Return the next moves of a rolling deployment, within minimumHealthyPercent and maximumPercent.

    Each new task that is healthy replaces an old one. If maximumPercent leaves no room for new tasks, old ones make
    room as far as minimumHealthyPercent lets them.
    """
    lower = math.ceil(desired * minimum_percent / 100)
    upper = max(1, desired * maximum_percent // 100) if desired else 0
    missing = max(0, desired - new.tasks)
    room = max(0, upper - new.tasks - old.tasks)
    start = min(missing, room)
    surplus = max(0, new.healthy + old.tasks - desired, missing - start)
    # An old task that is not healthy serves nobody: it may go at once.
    spare = max(0, new.healthy + old.healthy - lower) + (old.tasks - old.healthy)
    return Moves(start, min(old.tasks, surplus, spare))


def share_of(desired: int, percent: float) -> int:
    """Return a task set's computedDesiredCount: its share of the desired count, rounded up."""
    # Rounded before, because 29 % of 100 is a little more than 29 in binary.
    return math.ceil(round(desired * percent / 100, 6))


def pause_seconds(failures: int) -> float:
    """Return how long to wait with the next attempt after so many failures in a row."""
    return min(LONGEST_PAUSE_SECONDS, 0.25 * 2.0**failures) if failures > 1 else 0.0
