"""Whether a task that has ended runs again, and when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from headgate.ecs_tasks.outcome import TaskEnding, _decisive

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.ecs_tasks.request import ExitRule, RetryBackoff, RetryStrategy


class Decision(NamedTuple):
    """What comes after an attempt."""

    again: bool
    why: str
    wait_seconds: int = 0
    on_demand: bool = False


# --- The decision ----------------------------------------------------------------------------------------------------


def decide_retry(
    ending: TaskEnding,
    attempt: int,
    retry: RetryStrategy,
    backoff: RetryBackoff,
    *,
    can_fall_back: bool,
    chance: float,
    essential: Collection[str] = (),
) -> Decision:
    """Whether to run a task again, and after how long.

    Parameters
    ----------
    attempt
        The number of the attempt that has ended, from 1.
    can_fall_back
        Whether the request wants FARGATE after a Spot interruption, and this attempt was not on it already.
    chance
        A number at random from 0 to 1: the wait is that part of the longest one (full jitter).
    essential
        The names of the essential containers, whose exit codes the rules are asked about; all, where it is empty.
    """
    if ending.outcome == "succeeded":
        return Decision(False, "it succeeded")
    # As in AWS Batch, where a job that timed out or was terminated is not retried:
    # https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html
    if ending.outcome in ("timed-out", "stopped"):
        return Decision(
            False, f"a task that {'timed out' if ending.outcome == 'timed-out' else 'was stopped'} is not run again"
        )
    if attempt >= retry.attempts:
        return Decision(False, f"that was attempt {attempt} of {retry.attempts}")
    on_demand = can_fall_back and ending.outcome in ("interrupted", "no-capacity")
    why = "on demand" if on_demand else "there was no capacity" if ending.outcome == "no-capacity" else ""
    if not why:
        number, rule = next(
            ((n, rule) for n, rule in enumerate(retry.evaluate_on_exit) if rule_matches(rule, ending, essential)),
            (None, None),
        )
        if rule and rule.action == "EXIT":
            return Decision(False, f"retry.evaluateOnExit[{number}] says EXIT")
        why = f"retry.evaluateOnExit[{number}] says RETRY" if rule else "no rule says otherwise"
    return Decision(True, why, retry_wait_seconds(attempt, backoff, chance), on_demand)


def retry_wait_seconds(attempt: int, backoff: RetryBackoff, chance: float) -> int:
    """Whole seconds to wait after an attempt."""
    longest = min(backoff.max_seconds, backoff.initial_seconds * backoff.rate ** (attempt - 1))
    return math.ceil(chance * longest)


def rule_matches(rule: ExitRule, ending: TaskEnding, essential: Collection[str] = ()) -> bool:
    """Whether every pattern of a rule matches.

    A reason that is missing is an empty one, so that a last rule of ``"onReason": "*"`` is for every other failure, as
    https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html has it. An exit code that is missing is none.
    """
    known = [each.exit_code for each in _decisive(ending.containers, essential) if each.exit_code is not None]
    codes = [str(code) for code in known if code] or [str(code) for code in known]
    reasons = [each.reason for each in ending.containers if each.reason] or [""]
    told = [ending.status_reason or ending.reason]
    asked = ((rule.on_exit_code, codes), (rule.on_reason, reasons), (rule.on_status_reason, told))
    return all(any(_glob(pattern, each) for each in texts) for pattern, texts in asked if pattern is not None)


def _glob(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
