"""Views of rollouts, and a history that plays them, for tests of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.history.model import DeploymentFigures, RolloutPage, RolloutSummary, RolloutView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class PlayedHistory:
    """A history whose one rollout goes on by one view, or fails with one error, at each look."""

    def __init__(self, *plays: RolloutView | Exception, others: Sequence[RolloutSummary] = ()) -> None:
        self._plays, self._at = list(plays), 0
        self.others = list(others)
        self.whole = self.lives = 0
        self.asked: list[dict[str, Any]] = []

    def _now(self) -> RolloutView:
        play = self._plays[min(self._at, len(self._plays) - 1)]
        if isinstance(play, Exception):
            raise play
        return play

    def rollout(self, rollout_id: str) -> RolloutView | None:
        self.whole += 1
        if not self._plays or self._now().id != rollout_id:
            return next((each for each in self.others if isinstance(each, RolloutView) and each.id == rollout_id), None)
        return self._now()

    def live(self, rollout_ids: Sequence[str]) -> list[RolloutView]:
        self.lives += 1
        self._at += 1
        view = self._now()
        little: dict[str, Any] = {"events": [], "hooks": [], "evidence": [], "steps": [], "weights": []}
        return [view.model_copy(update=little)] if view.id in rollout_ids else []

    def rollouts(self, **asked: Any) -> RolloutPage:
        self.asked.append(asked)
        target, states = asked.get("target"), asked.get("states")
        found = [
            RolloutSummary.model_validate({name: getattr(each, name) for name in RolloutSummary.model_fields})
            for each in [*(each for each in self._plays if isinstance(each, RolloutView)), *self.others]
            if (not target or each.target == target) and (not states or each.status in states)
        ]
        return RolloutPage(rollouts=found[: asked.get("limit", 20)])

    def figures(self, since: str, until: str) -> DeploymentFigures:
        self.asked.append({"since": since, "until": until})
        return DeploymentFigures(
            since=since,
            until=until,
            rollouts=8,
            outcomes={"succeeded": 6, "rolled-back": 2, "refused": 1},
            promoted=6,
            failed=2,
            promotions_per_day=0.857,
            change_failure_rate=0.25,
            seconds_to_restore=42.5,
            lead_seconds=930,
        )


class Clock:
    """A clock that goes on when something waits."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


def times(count: int, make: Callable[[int], RolloutView]) -> list[RolloutView]:
    """Several views, made by number."""
    return [make(number) for number in range(count)]
