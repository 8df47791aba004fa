"""The commands that show rollouts, as processes against the deployed application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.deployed import steps
from tests.local.invariants import assert_invariants
from tests.local.patience import patient

if TYPE_CHECKING:
    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded


def test_a_rollout_is_shown_while_it_goes_on_and_explained_after_its_end(
    headgate: Headgate, service: Service, command: Command
) -> None:
    # GIVEN a rollout that bakes, and one that was refused
    missing = headgate.request(target=service.target, candidate={"version": "77"})
    headgate.ended(missing)
    rollout = headgate.request(target=service.target, candidate={"version": "2"}, strategy=steps((10, 300), (50, 300)))
    headgate.baking(rollout)
    target = f"{service.function}:live"

    # WHEN it is shown and watched, and then aborted
    status = command("status", rollout)
    watching = command.start("watch", rollout)
    headgate.signal(rollout, "abort", by="kim", reason="a look at the logs")
    watched, errors = watching.communicate(timeout=patient(60))
    assert_invariants(headgate, rollout)

    # THEN each command tells the same, and the watch has ended with the exit code of its outcome
    assert (status.code, status.err) == (0, "")
    assert "baking step 1 of 2 at 10 % for" in status.out
    assert (watching.returncode, errors) == (3, "")
    assert "rolled back: aborted by kim: a look at the logs" in watched
    explained = command("explain", rollout).out
    assert "from 10 % of the traffic (step 1 of 2)" in explained
    assert "kim aborted it at " in explained
    listed = command("list", "--target", target, "--state", "rolled-back", "--since", "1h", "--format", "json").json
    assert [each["id"] for each in listed["rollouts"]] == [rollout]
    history = command("history", rollout)
    begins = (f"{rollout} rolled back ", f"{missing} refused ")
    shown = [" ".join(line.split()) for line in history.out.splitlines()[1:]]
    assert [line.startswith(start) for line, start in zip(shown, begins, strict=True)] == [True, True], shown
    figures = command("list", "--stats", "--format", "json").json
    assert figures["outcomes"]["rolled-back"] >= 1
    nothing = command("status", f"{rollout}x")
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.startswith(f"Error: there is no rollout {rollout}x; did you mean {rollout}")
    assert nothing.err.count("\n") == 1
