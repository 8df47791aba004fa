"""What a rollout does, in the lines that start, pause and the others print."""

from __future__ import annotations

from headgate_cli.standing import standing
from tests.views import OVER, pause_of, paused, rolled_back, view_of


def test_counts_are_told_as_shares_and_not_as_odds() -> None:
    for view in (rolled_back(), paused(pause=pause_of(reason=OVER))):
        told = standing(view)

        assert "odds against chance" not in told
        assert "3.2 % of 1,204 requests of version 8 failed" in told


def test_a_version_that_is_prepared_is_named() -> None:
    preparing = {"status": "running", "phase": "preparing"}

    assert standing(view_of(**preparing, candidate="8")) == "prepares version 8"
    assert standing(view_of(**preparing, candidate="")) == "prepares the candidate"
    # The candidate of an undo is the version that served before.
    assert standing(view_of(**preparing, candidate="7", undo_of="a-1")) == "makes version 7 ready to serve again"
