"""``headgate simulate --replay``: a recorded rollout, judged again with other settings. Does not need numpy.

The record has every look with failures. Looks without failures change only the time, so the evidence is the same as it
would have been, up to the moment at which the rollout ended.
"""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.analysis.evidence import (
    JudgeTerms,
    Ledger,
    Standing,
    guard_value,
    reaches_limit,
    reported_value,
)
from headgate.analysis.judge import SHIFT_SECONDS, Arm, LookTerms, look
from headgate.history.lenient import read_leniently
from headgate.spec.guards import Guards
from headgate_cli.failures import Failure
from headgate_cli.simulation.asking import asked_guards
from headgate_cli.simulation.output import Replay, ReplayedGuard
from headgate_cli.simulation.report import time_text, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.analysis.evidence import Measure
    from headgate.history.model import Counts, RolloutView
    from headgate.spec.guards import GuardAction


class _End(NamedTuple):
    """Where the guards end a replay."""

    action: GuardAction
    seconds: float
    failed_requests: int


def replay(view: RolloutView, asked: Mapping[str, Any]) -> Replay:
    """Judge a recorded rollout with its own guards, changed by options.

    Parameters
    ----------
    asked
        As for ``asked_guards``.

    Raises
    ------
    Failure
        If nothing was compared, or nothing of it is on record.
    """
    before = read_leniently(Guards, view.plan.get("guards"))
    if before is None or not before.compare:
        raise Failure(f"rollout {view.id} compared nothing, so there is nothing to judge again")
    if not any(change.why == "step" for change in view.weights):
        raise Failure(f"rollout {view.id} has not shifted traffic, so there is nothing to judge again")
    guards, notes = _with_thresholds_of(before, asked_guards(view.plan["guards"], asked))
    run = _Rerun(view, before, JudgeTerms.of(guards))
    end = run.judge()
    leading = run.leading()
    return Replay(
        input={"replay": view.id, "guards": guards.to_wire()},
        rollout=view.id,
        recorded_status=view.status,
        recorded_seconds=run.rolled_back_after,
        recorded_failed_requests=run.failed_on_record,
        ended=end is not None,
        action=end.action if end and end.action != "report" else "",
        guard=leading.guard if leading else "",
        seconds=end.seconds if end else None,
        failed_requests=end.failed_requests if end else run.failed_on_record,
        guards=run.guards(),
        notes=notes + list(run.notes()),
    )


def _with_thresholds_of(before: Guards, guards: Guards) -> tuple[Guards, list[str]]:
    """Return the guards with the latency thresholds that were counted by, and notes."""
    if guards.latency is None or before.latency is None:
        return guards, []
    counted = {"threshold_ms": before.latency.threshold_ms, "thresholds_ms": before.latency.thresholds_ms}
    notes = []
    if guards.latency.thresholds not in ([], before.latency.thresholds):
        notes.append("latency thresholds were fixed when the plan was made: slow requests were counted by those")
    return guards.model_copy(update={"latency": guards.latency.model_copy(update=counted)}), notes


class _Look(NamedTuple):
    """A look at one measure, as it is on record."""

    at: str
    measure: str
    step: int
    candidate: Counts
    stable: Counts


def _looks_of(view: RolloutView) -> Iterator[_Look]:
    """Yield the looks on record, oldest first: those at several latency thresholds one by one."""
    for point in view.evidence:
        looks = [(each.measure, each.candidate, each.stable) for each in point.thresholds]
        for measure, candidate, stable in looks or [(point.measure, point.candidate, point.stable)]:
            yield _Look(point.at, measure, point.step, candidate, stable)


class _Rerun:
    """The looks of a rollout, judged again."""

    def __init__(self, view: RolloutView, before: Guards, terms: JudgeTerms) -> None:
        self._view, self._terms = view, terms
        self._began = next(_seconds(change.at) for change in view.weights if change.why == "step")
        self._looks = list(_looks_of(view))
        self._recorded = _recorded_as(before, terms)
        self._ledger = Ledger(view.id, view.candidate, view.stable, {}, {}, {}, {}, {})
        self._at = dict[str, float]()

    def judge(self) -> _End | None:
        """Return where the guards end the rollout; None if they do not, within what is on record."""
        failed = 0
        for at, looks in groupby(self._looks, key=lambda each: each.at):
            for each in looks:
                failed += each.candidate.failures if each.measure == self._told else 0
                for measure in self._terms.measures:
                    if self._recorded.get(measure.key) == each.measure:
                        self._look(measure, each)
            acting: tuple[GuardAction, ...] = ("rollback", "pause")
            for action in acting:
                if reaches_limit(self._ledger, self._terms, action):
                    return _End(action, _seconds(at) - self._began, failed)
        return None

    def _look(self, measure: Measure, recorded: _Look) -> None:
        before = self._ledger.standing(measure.key, measure.wagers)
        alpha, at = self._terms.alpha_of(measure), _seconds(recorded.at)
        if before.evidence.crosses(alpha):
            return
        evidence = before.evidence
        # Looks without failures at the steps between have invested, too.
        if (between := recorded.step - max(before.step, 0) - 1) > 0:
            evidence = evidence.invest(between * SHIFT_SECONDS, measure.wagers)
        evidence = look(
            evidence,
            Arm(recorded.candidate.requests, recorded.candidate.failures),
            Arm(recorded.stable.requests, recorded.stable.failures),
            LookTerms(alpha, measure.tolerate, self._terms.clumps, self._terms.noise, measure.wagers),
            seconds=max(0.0, at - self._at.get(measure.key, self._began)),
            shifted=recorded.step > max(before.step, 0),
        )
        self._at[measure.key] = at
        standing = Standing(evidence, before.reassurance, round(1000 * at), max(before.step, recorded.step))
        self._ledger = self._ledger._replace(standings={**self._ledger.standings, measure.key: standing})

    @property
    def _told(self) -> str:
        """The measure whose failed requests the result shows: errors, or else the first."""
        keys = list(self._recorded.values())
        return "errors" if "errors" in keys or not keys else keys[0]

    @property
    def failed_on_record(self) -> int:
        return sum(each.candidate.failures for each in self._looks if each.measure == self._told)

    @property
    def rolled_back_after(self) -> float | None:
        """Seconds from the first shift to the rollback; None without one."""
        back = [_seconds(change.at) for change in self._view.weights if change.why == "rollback"]
        return back[-1] - self._began if back else None

    def guards(self) -> list[ReplayedGuard]:
        return [
            ReplayedGuard(
                guard=guard.name,
                value=reported_value(guard_value(self._ledger, self._terms, guard)),
                limit=self._terms.limit_of(guard),
            )
            for guard in self._terms.guards
        ]

    def leading(self) -> ReplayedGuard | None:
        return max(self.guards(), key=lambda guard: guard.value / guard.limit, default=None)

    def notes(self) -> Iterator[str]:
        """Yield what was not judged again."""
        for guard in self._terms.guards:
            if not any(measure.key in self._recorded for measure in guard.measures):
                yield f"{guard.name} was not counted in this rollout, so it never speaks here"
        if self._view.pauses:
            yield "the rollout was paused: evidence that an operator discarded to resume it counts here"
        yield (
            "the record has the looks with failures, to the moment at which the rollout ended; alarms, limits and "
            "hooks are not judged again"
        )


def _recorded_as(before: Guards, terms: JudgeTerms) -> dict[str, str]:
    """Return the measures on record by those of the new terms. Custom guards are found by their names."""
    recorded = {(guard.key if guard.key in ("errors", "latency") else guard.name): guard
                for guard in JudgeTerms.of(before).guards}  # fmt: skip
    found: dict[str, str] = {}
    for guard in terms.guards:
        old = recorded.get(guard.key if guard.key in ("errors", "latency") else guard.name)
        if old:
            found |= {new.key: was.key for new, was in zip(guard.measures, old.measures, strict=True)}
    return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def replay_as_text(found: Replay) -> str:
    """Return what became of it, next to what happened."""
    lines = [
        f"{found.rollout}: {_happened(found)}",
        f"With these settings: {_would(found)}",
        "Evidence: "
        + "; ".join(f"{each.guard} {each.value:,.3g} of the {each.limit:,.6g} it needs alone" for each in found.guards)
        + ".",
        *(f"Note: {note}." for note in found.notes),
    ]
    return "\n".join(line for part in lines for line in wrapped(part, "  "))


def _happened(found: Replay) -> str:
    count = _failed(found.recorded_failed_requests)
    if found.recorded_seconds is None:
        return f"{found.recorded_status}, with {count} on record."
    return f"rolled back after {time_text(found.recorded_seconds)}, with {count} on record."


def _would(found: Replay) -> str:
    if not found.ended or found.seconds is None:
        return "the guards would not have ended it, within what is on record."
    done = "rolled back" if found.action == "rollback" else "paused"
    return f"{done} by {found.guard} after {time_text(found.seconds)}, with {_failed(found.failed_requests)}."


def _failed(count: int) -> str:
    return f"{count:,} failed candidate request{'' if count == 1 else 's'}"
