"""What an operator can do instead of a signal that does not apply."""

from __future__ import annotations

from typing import cast, get_args

import pytest

from headgate.spec.signal_models import OperatorSignal
from headgate.spec.signals import HEARD_IN, Phase, SignalKind, instead_of

HEARD = cast("dict[str, tuple[Phase, ...]]", HEARD_IN)
REFUSED = [(kind, phase) for kind in get_args(OperatorSignal) for phase in get_args(Phase) if phase not in HEARD[kind]]


@pytest.mark.parametrize(("kind", "phase"), REFUSED)
def test_what_is_suggested_instead_of_a_signal_is_possible(kind: SignalKind, phase: Phase) -> None:
    suggested = [word.strip(",;") for word in instead_of(kind, phase).split()]
    signals = set(suggested) & set(get_args(OperatorSignal))
    assert signals or "wait" in suggested
    assert all(phase in HEARD[signal] for signal in signals), signals


def test_a_resume_of_a_rollout_that_is_not_paused_is_told_that_it_goes_on() -> None:
    assert instead_of("resume", "baking").startswith("it is not paused, and goes on by itself")
