"""Follows a rollout to its end: with few requests, and on through a lost connection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate_cli.failures import Failure, explained
from headgate_cli.rollouts import find_rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.history.model import RolloutView
    from headgate_cli.rollouts import History

EVERY_SECONDS = 1.0
"""Time between two looks at a rollout that moves."""

EVERY_SECONDS_AT_REST = 3.0
"""Time between two looks at one that waits in line, or for an operator."""

WHOLE_SECONDS = 15.0
"""How long a whole view is used while nothing but its counts changes. It reads every item of the rollout."""

LONGEST_SECONDS = 30.0
"""Longest time between two tries while AWS cannot be reached."""

GONE_AFTER = 5
"""Looks in a row that do not find the record before a watch ends: it has expired or was deleted."""


class Sight(NamedTuple):
    """What is known of a rollout after a look."""

    view: RolloutView
    """The rollout. The last one known if the look failed."""
    lost: str = ""
    """Why the look failed; empty if it did not."""
    again_seconds: float = 0.0
    """When the next look follows."""


def follow(
    history: History,
    rollout_id: str,
    *,
    timeout: float | None = None,
    wait: Callable[[float], Any] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sight]:
    """Look at a rollout about every second, until it has ended or the time is up.

    The last view tells which of the two: ``rollouts.exit_code`` gives the exit code for both. What may pass (no
    network, a throttled call) does not end it: it tries again, more slowly each time.

    Parameters
    ----------
    timeout
        Seconds after which it ends. None for no limit.

    Raises
    ------
    Failure
        If the rollout is not on record, or no longer.
    """
    begun = clock()
    looks = _Looks(history, rollout_id, clock)
    failures, lost = 0, ""
    while True:
        pace = _pace_of(looks.view, failures)
        yield Sight(looks.view, lost, pace)
        left = None if timeout is None else begun + timeout - clock()
        if looks.view.has_ended or (left is not None and left <= 0):
            return
        wait(pace if left is None else min(pace, left))
        try:
            looks.look()
            failures, lost = 0, ""
        except Exception as error:
            if not may_pass(error):
                if not (said := explained(error)):
                    raise
                raise Failure(f"{said}. The rollout goes on; headgate watch {rollout_id} follows it again") from error
            failures, lost = failures + 1, explained(error) or str(error)


def _pace_of(view: RolloutView, failures: int) -> float:
    """Return the seconds until the next look."""
    if failures:
        return min(LONGEST_SECONDS, EVERY_SECONDS * 2.0**failures)
    return EVERY_SECONDS_AT_REST if view.status in ("waiting", "paused") else EVERY_SECONDS


class _Looks:
    """Looks at one rollout. Most looks read only what changes all the time."""

    def __init__(self, history: History, rollout_id: str, clock: Callable[[], float]) -> None:
        self._history, self._clock = history, clock
        self.view = self._whole = find_rollout(history, rollout_id)
        self._whole_at = clock()
        self._standing: tuple[Any, ...] | None = None
        self._misses = 0

    def look(self) -> None:
        """Bring the view up to date."""
        live = next(iter(self._history.live([self._whole.id])), None)
        if live is None:
            self._miss()
            return
        self._misses = 0
        standing = _standing_of(live)
        moved = self._standing != standing if self._standing else _place_of(self._whole) != _place_of(live)
        if moved or self._clock() - self._whole_at >= WHOLE_SECONDS:
            self._whole = self._history.rollout(self._whole.id) or self._whole
            self._whole_at = self._clock()
            self.view = self._whole
        else:
            self.view = _counted(self._whole, live)
        self._standing = standing

    def _miss(self) -> None:
        self._misses += 1
        if self._misses >= GONE_AFTER:
            raise Failure(f"rollout {self._whole.id} is no longer on record")


def _place_of(view: RolloutView) -> tuple[Any, ...]:
    return view.status, view.phase, view.step


def _standing_of(view: RolloutView) -> tuple[Any, ...]:
    """Return what changes only together with items that a live view does not read."""
    signals = sorted((each.id, each.outcome) for each in view.signals)
    bake = (view.bake.step, view.bake.bake) if view.bake else None
    return *_place_of(view), view.weight, bake, view.undone_by, signals


def _counted(whole: RolloutView, live: RolloutView) -> RolloutView:
    """Return a whole view with the counts, and the wait of its driver, of one that has little else."""
    fresh: dict[str, Any] = {"waits_for": live.waits_for, "line": live.line or whole.line}
    if live.comparisons:
        fresh["comparisons"] = live.comparisons
    return whole.model_copy(update=fresh)


def may_pass(error: Exception) -> bool:
    """Return whether a failure of a call to AWS may pass by itself: no connection, throttling, a fault of AWS."""
    from botocore import exceptions

    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return True
    if not isinstance(error, exceptions.ClientError):
        return False
    answer: dict[str, Any] = dict(error.response)
    code = str(answer.get("Error", {}).get("Code", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    throttled = code in ("ProvisionedThroughputExceededException", "RequestLimitExceeded", "TooManyRequestsException")
    return throttled or code.startswith("Throttl") or status >= 500
