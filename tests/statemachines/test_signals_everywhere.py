"""Every signal before and after every task of the rollout machine: it ends as that signal may end it, and whole.

The invariants are asserted by the fixture after each test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.statemachines.rollouts import ALARM, Rollouts

if TYPE_CHECKING:
    from collections.abc import Callable

# It plays again what other tests cover, very often: measured, it would take twice as long.
pytestmark = pytest.mark.no_cover

TASKS = ("Plan", "Acquire", "Prepare", "Shift", "Bake", "Judge", "Promote", "Settle")
STEPS = ((10, 1), (50, 1))

SENT: dict[str, tuple[Callable[[Rollouts], object], set[str]]] = {
    "promote": (lambda app: app.signal("promote"), {"Promoted"}),
    "promote-fully": (lambda app: app.signal("promote-fully"), {"Promoted"}),
    # A pause that nobody ends is rolled back at its limit; one that comes too late for a bake changes nothing.
    "pause": (lambda app: app.signal("pause"), {"Promoted", "Rolled back"}),
    "resume": (lambda app: app.signal("resume"), {"Promoted"}),
    "abort": (lambda app: app.signal("abort"), {"Promoted", "Rolled back"}),
    "alarm": (lambda app: app.tell_alarm(), {"Promoted", "Rolled back"}),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", TASKS)
@pytest.mark.parametrize("sent", SENT)
def test_a_signal_at_any_moment_leaves_the_rollout_whole(app: Rollouts, sent: str, state: str, when: str) -> None:
    # GIVEN a signal that comes just before a task's effect, or just after it
    send, ends = SENT[sent]
    getattr(app, when)(state, lambda: send(app))
    # WHEN the rollout runs
    execution = app.run(
        app.request(*STEPS, guards={"alarms": [ALARM]}, onFailure={"pause": {"at": "zero", "limitSeconds": 1}})
    )
    # THEN it ends in a way that this signal may end it
    assert execution.states()[-1] in ends
    if sent == "abort" and TASKS.index(state) >= TASKS.index("Prepare") and (state, when) != ("Settle", "after"):
        # From the time that it is on record an abort is honoured until the end is.
        assert execution.states()[-1] == "Rolled back"
