"""``headgate simulate --replay``: a recorded rollout, judged again with other settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headgate.analysis.evidence import JudgeTerms, Ledger, Look, Pair, reaches_limit, take_looks
from headgate.analysis.judge import Arm
from headgate.history.model import Counts, EvidencePoint, RolloutView, ThresholdLook, WeightChange
from headgate.spec.guards import Guards
from headgate_cli.failures import Failure
from headgate_cli.main import main
from headgate_cli.simulation.replay import replay, replay_as_text
from tests.unit.cli.played import PlayedHistory
from tests.views import at, promoted, rolled_back

GUARDS: dict[str, Any] = {"errors": {}, "alpha": 0.01}

LOOKS = [(0, (200, 1), (1800, 2)), (0, (200, 2), (1800, 1)), (0, (200, 2), (1800, 0)), (1, (500, 3), (1500, 1)),
         (1, (500, 4), (1500, 2)), (1, (500, 4), (1500, 0)), (1, (500, 5), (1500, 1))]  # fmt: skip
"""Step, candidate, stable of looks that come every ten seconds."""


def recorded(guards: dict[str, Any], looks: Any = LOOKS, **fields: Any) -> tuple[RolloutView, list[Look]]:
    """A rollout as the judge would leave it, with its looks."""
    terms = JudgeTerms.of(Guards.model_validate(guards))
    ledger = Ledger("checkout-42", "8", "7", {}, {}, {}, {}, {})
    points, taken = [], list[Look]()
    for number, (step, candidate, stable) in enumerate(looks, start=1):
        since = {**ledger.since, step: ledger.since.get(step, 10_000 * (number - 1) + 1)}
        ledger = ledger._replace(since=since)
        for measure in terms.measures:
            ledger = ledger.add(step, measure.key, Pair(Arm(*candidate), Arm(*stable)))
        ledger, new = take_looks(ledger, terms, now=10_000 * number + 1)
        taken += new
        for guard in terms.guards:
            keys = [measure.key for measure in guard.measures]
            looked = [
                ThresholdLook(
                    measure=look.measure,
                    candidate=Counts(**look.counts.candidate._asdict()),
                    stable=Counts(**look.counts.stable._asdict()),
                    value=look.value,
                )
                for look in new
                if look.measure in keys
            ]
            # As the history has it: one point for each guard.
            thresholds = looked if len(keys) > 1 else []
            points += [
                EvidencePoint(at=at(2 + 10 * number), measure=guard.key, step=step, candidate=each.candidate,
                              stable=each.stable, value=each.value, thresholds=thresholds)
                for each in looked[:1]
            ]  # fmt: skip
        if reaches_limit(ledger, terms, "rollback"):
            break
    weights = [
        WeightChange(at=at(0), weight=0, why="start"),
        WeightChange(at=at(2), weight=10, why="step", step=0),
        WeightChange(at=at(32), weight=25, why="step", step=1),
    ]
    back = WeightChange(at=at(3 + 10 * len(points)), weight=0, why="rollback")
    known = {"evidence": points, "weights": [*weights, back], "plan": {"guards": guards}}
    return rolled_back(**{**known, **fields}), taken


def test_with_its_own_settings_a_rollout_ends_where_it_ended_with_the_same_evidence() -> None:
    view, looks = recorded(GUARDS)
    found = replay(view, {})

    assert found.ended
    assert found.action == "rollback"
    assert found.seconds == 10 * len(looks)
    failed = sum(look.counts.candidate.failures for look in looks)
    assert found.failed_requests == found.recorded_failed_requests == failed
    assert found.recorded_seconds == pytest.approx(10 * len(looks) + 1)
    (errors,) = found.guards
    # What is beyond its limit is no evidence.
    assert looks[-1].value > 100
    assert errors.value == errors.limit == 100


def test_the_evidence_is_the_recorded_one_up_to_the_end() -> None:
    view, looks = recorded(GUARDS, LOOKS[:2])
    (errors,) = replay(view, {}).guards

    assert errors.value == pytest.approx(looks[-1].value, rel=1e-6)


def test_more_alpha_ends_it_sooner_and_less_or_noise_not_at_all() -> None:
    view, _ = recorded(GUARDS)
    usual, sooner = replay(view, {}), replay(view, {"alpha": 0.2})

    assert usual.seconds is not None
    assert sooner.seconds is not None
    assert sooner.seconds < usual.seconds
    assert sooner.failed_requests < usual.failed_requests
    for strict in ({"alpha": 1e-9}, {"noise": 2.0}, {"clumps": 10}, {"tolerate": 50}):
        never = replay(view, strict)
        assert (never.ended, never.action, never.seconds) == (False, "", None)
        assert never.failed_requests == never.recorded_failed_requests


def test_a_guard_may_get_another_action_or_be_left_out() -> None:
    both: dict[str, Any] = {"errors": {}, "latency": {"thresholdMs": 250.0}}
    view, _ = recorded(both)

    pauses = '{"errors": {"action": "pause"}, "latency": {"action": "report"}}'
    assert replay(view, {"guards": pauses}).action == "pause"
    assert not replay(view, {"guards": '{"errors": {"action": "report"}, "latency": {"action": "report"}}'}).ended
    # It keeps what it was counted by.
    other = replay(view, {"guards": '{"latency": {"thresholdMs": 100.0}}'})
    assert other.input["guards"]["latency"]["thresholdMs"] == 250
    assert any("thresholds were fixed when the plan was made" in note for note in other.notes)


def test_several_thresholds_are_averaged_as_they_were() -> None:
    view, looks = recorded({"errors": {}, "latency": {"thresholdsMs": [50.0, 100.0, 200.0]}})
    found = replay(view, {})

    assert found.ended
    assert found.seconds == 10 * len({look.at for look in view.evidence})
    assert len(looks) > 3


def test_a_guard_that_was_not_counted_never_speaks() -> None:
    view, _ = recorded(GUARDS)
    found = replay(view, {"guards": '{"latency": {"thresholdMs": 100.0}}'})

    assert any(note.startswith("latency was not counted in this rollout") for note in found.notes)


def test_what_was_never_compared_cannot_be_judged_again() -> None:
    with pytest.raises(Failure, match="compared nothing"):
        replay(promoted(plan={"guards": {"alarms": ["a"]}}), {})
    with pytest.raises(Failure, match="has not shifted traffic"):
        replay(promoted(plan={"guards": GUARDS}), {})


def test_the_text_has_both_ends_side_by_side() -> None:
    view, looks = recorded(GUARDS)
    told = replay_as_text(replay(view, {"alpha": 1e-9}))

    failed = sum(look.counts.candidate.failures for look in looks)
    assert told.startswith(f"checkout-42: rolled back after {10 * len(looks) + 1} s, with {failed} failed candidate")
    assert "With these settings: the guards would not have ended it, within what is on record." in told
    assert "alarms, limits and hooks are not judged again" in " ".join(told.split())


class TestCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, *options: str) -> Result:
        view, _ = recorded(GUARDS)
        monkeypatch.setattr("headgate_cli.rollouts.history_of", lambda _: PlayedHistory(view))
        return CliRunner().invoke(main, ["simulate", "--replay", "checkout-42", *options])

    def test_only_what_is_given_changes_the_guards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = json.loads(self.run(monkeypatch, "--format", "json").stdout)
        other = json.loads(self.run(monkeypatch, "--alpha", "0.2", "--format", "json").stdout)
        assert usual["input"]["guards"]["alpha"] == 0.01
        assert other["input"]["guards"]["alpha"] == 0.2
        assert other["seconds"] < usual["seconds"]

    def test_the_text_is_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        result = self.run(monkeypatch)
        assert result.exit_code == 0, result.output
        assert "With these settings: rolled back by errors after " in result.stdout
        assert len(result.stdout.splitlines()) <= 8
