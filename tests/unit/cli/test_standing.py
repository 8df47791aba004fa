"""What a rollout does, in the lines that start, pause and the others print."""

from __future__ import annotations

from typing import Any

from headgate.history.sentences import headline, next_steps
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


SERVICE: dict[str, Any] = {"target": "ecs-service/web/shop", "stable": "shop:7", "candidate": "shop:8"}


def test_a_service_serves_a_revision_of_its_task_definition() -> None:
    ended = {**SERVICE, "phase": None, "ended_at": "2026-11-30T14:09:00.000Z"}

    assert standing(view_of(**SERVICE, status="running", phase="preparing")) == "prepares shop:8"
    assert standing(view_of(**ended, status="succeeded", serving="shop:8")) == "was promoted; shop:8 serves"
    assert (
        standing(view_of(**ended, status="rolled-back", serving="shop:7", reason="a hook failed"))
        == "was rolled back; shop:7 serves again: a hook failed"
    )
    # Of an old record, whose revision is not known.
    unknown = {**SERVICE, "candidate": "", "undo_of": "a-1"}
    assert standing(view_of(**unknown, status="running", phase="preparing")) == (
        "makes the earlier revision ready to serve again"
    )


def test_a_service_that_keeps_its_stable_revision_says_so() -> None:
    steps = [{"step": n, "weight": w, "bakeSeconds": 300, "status": "now"} for n, w in enumerate((10.0, 100.0))]
    kept = view_of(**SERVICE, status="running", phase="baking", step=1, weight=100, steps=steps)

    assert standing(kept) == "has sent all traffic to shop:8, and keeps shop:7"
    assert headline(kept) == "shop:8 has all traffic; shop:7 is kept, and an abort or undo gives it back at once"
    assert next_steps(kept) == [
        (
            "To go back to shop:7 at once, run headgate abort checkout-42; to keep it no longer, headgate promote "
            "checkout-42."
        )
    ]
    # Before its last step, and for a function, it bakes.
    assert standing(kept.model_copy(update={"step": 0, "weight": 10.0})) == "bakes at 10 %, step 1 of 2"
    assert standing(kept.model_copy(update={"target": "lambda-alias/checkout/live"})) == "bakes at 100 %, step 2 of 2"


def test_there_is_no_step_beyond_the_last_one() -> None:
    """As between the verdict on the last bake and the promotion."""
    steps = [{"step": 0, "weight": 50.0, "bakeSeconds": 5, "status": "done"}]
    done = view_of(status="running", phase="baking", step=1, weight=50, steps=steps)
    assert standing(done) == "is being promoted"
