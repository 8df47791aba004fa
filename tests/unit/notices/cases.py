"""Events with what the record of their rollout says."""

from __future__ import annotations

from typing import Any

from headgate.history.model import RolloutView
from headgate.notices.notice import Notice, notice_of
from tests.builders import TARGET_KEY, event
from tests.fakes.functions import SETTINGS

EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:headgate-rollout:r-1"
LINK = f"https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/{EXECUTION}"
SENT = (
    *("rollout_succeeded", "rollout_rolled_back", "rollout_undone", "rollout_stopped", "rollout_paused"),
    *("rollout_refused", "signal_refused", "task_refused", "redrive_refused", "task_ended", "redrive_ended"),
    *("watch_ended", "warden"),
)
"""The files in events/ of everything that is sent; ``warden`` is an execution that has ended."""
NASTY = "a\x1b[31m\u202eb\r\nc\ud800 <!channel> <https://evil.example|here> [x](https://evil.example) *b* `c` &amp;"
"""What somebody may write into a request or a signal."""
TOPIC = SETTINGS["TOPIC"]


def rolled_back(**fields: Any) -> RolloutView:
    """The rollout of events/published/rollout_rolled_back.json as its record tells it."""
    known: dict[str, Any] = {
        "id": "checkout-42",
        "status": "rolled-back",
        "headline": "It was rolled back.",
        "target": TARGET_KEY,
        "stable": "6",
        "candidate": "7",
        "serving": "6",
        "reason": event("rollout_rolled_back")["detail"]["reason"],
        "execution": EXECUTION,
        "created_at": "2026-11-21T09:00:00.100Z",
        "started_at": "2026-11-21T09:00:01.204Z",
        "ended_at": "2026-11-21T09:00:25.640Z",
        "weights": [
            {"at": "2026-11-21T09:00:01.204Z", "weight": 0, "why": "start"},
            {"at": "2026-11-21T09:00:03.871Z", "weight": 10, "why": "step", "step": 0},
            {"at": "2026-11-21T09:00:24.871Z", "weight": 0, "why": "rollback"},
        ],
        "comparisons": [
            {
                "measure": "errors",
                "label": "errors",
                "candidate": {"requests": 118, "failures": 4},
                "stable": {"requests": 1046, "failures": 1},
                "value": 290,
                "limit": 100,
            }
        ],
        "evidence": [
            {
                "at": "2026-11-21T09:00:16.871Z",
                "measure": "errors",
                "step": 0,
                "candidate": {"requests": 20, "failures": 1},
                "stable": {"requests": 300, "failures": 0},
                "value": 8.5,
            }
        ],
    }
    return RolloutView.model_validate(known | fields)


def signal(**fields: Any) -> dict[str, Any]:
    """A signal in a view."""
    known = {"id": "s-1", "signal": "abort", "by": "kim", "at": "2026-11-21T09:00:20.000Z", "outcome": "handled"}
    return known | fields


def notice(name: str, view: RolloutView | None = None, stack: str = "headgate", **detail: Any) -> Notice:
    """What is said of a file in events/, with other fields in its detail."""
    return notice_of(told(name, **detail), view, stack)


def told(name: str, **detail: Any) -> dict[str, Any]:
    """A file in events/, with other fields in its detail."""
    given: dict[str, Any] = event(name)
    if name == "warden":
        given["detail"] |= {"status": "FAILED", "error": "States.Runtime", "cause": "An expression failed"}
    given["detail"] |= detail
    return given
