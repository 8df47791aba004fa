"""Many rollouts in one invocation: what fails, what goes on, and what the log says of it."""

from __future__ import annotations

import json

import pytest

from headgate.aws.observability import logger
from headgate.rollouts.isolation import isolated


def go_through(rollouts: dict[str, Exception | None]) -> None:
    """Fail for those rollouts that have a failure."""
    with isolated() as trying:
        for rollout_id, failure in rollouts.items():
            with trying(rollout_id, "a rollout went wrong"):
                if failure:
                    raise failure
                logger.warning("done")
            logger.warning("between")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the log."""
    lines: list[str] = []
    handler = logger.registered_handler
    monkeypatch.setattr(handler, "emit", lambda entry: lines.append(handler.format(entry)))
    return lines


def test_one_that_fails_keeps_no_other_from_its_turn_and_all_failures_are_told_at_the_end(written: list[str]) -> None:
    failures = (ValueError("out of luck"), KeyError("lost"))
    with pytest.raises(ExceptionGroup, match=r"^a: out of luck; c: 'lost'$") as raised:
        go_through({"a": failures[0], "b": None, "c": failures[1]})
    assert raised.value.exceptions == failures
    done = [entry for entry in map(json.loads, written) if entry["message"] == "done"]
    assert [entry["rollout_id"] for entry in done] == ["b"]


def test_where_nothing_fails_nothing_is_raised(written: list[str]) -> None:
    go_through({"a": None})
    assert len(written) == 2


def test_what_fails_between_two_rollouts_is_raised_as_it_is() -> None:
    with pytest.raises(LookupError, match="the next page"), isolated():
        raise LookupError("the next page")


def test_the_log_says_which_rollout_failed_and_forgets_it_after(written: list[str]) -> None:
    with pytest.raises(ExceptionGroup):
        go_through({"a": ValueError("out of luck")})
    failed, between = map(json.loads, written)
    assert (failed["level"], failed["message"], failed["rollout_id"]) == ("ERROR", "a rollout went wrong", "a")
    assert "ValueError: out of luck" in failed["exception"]
    assert "rollout_id" not in between
