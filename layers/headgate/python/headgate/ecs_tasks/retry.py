"""Decides whether a task runs again, and when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from headgate.ecs_tasks.outcome import TaskEnding, _decisive

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.ecs_tasks.request import ExitRule, RetryBackoff, RetryStrategy


class Decision(NamedTuple):
    """Decision after an attempt."""

    again: bool
    why: str
    wait_seconds: int = 0
    on_demand: bool = False


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
    """Decide whether to run a task again, and after how long.

    Parameters
    ----------
    attempt
        Number of the attempt that ended, from 1.
    can_fall_back
        Whether the request has the fallback to FARGATE, and this attempt did not use it already.
    chance
        A number at random from 0 to 1: the wait is that part of the longest one (full jitter).
    essential
        Names of the essential containers, whose exit codes the rules check. If empty, all containers are essential.
    """
    if ending.outcome == "succeeded":
        return Decision(False, "the task succeeded")
    # As in AWS Batch, where a job that timed out or was terminated is not retried:
    # https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html
    if ending.outcome in ("timed-out", "stopped"):
        return Decision(
            False, f"a task that {'timed out' if ending.outcome == 'timed-out' else 'was stopped'} does not run again"
        )
    if attempt >= retry.attempts:
        return Decision(False, f"this was attempt {attempt} of {retry.attempts}")
    on_demand = can_fall_back and ending.outcome in ("interrupted", "no-capacity")
    why = "on demand" if on_demand else "there was no capacity" if ending.outcome == "no-capacity" else ""
    if not why:
        number, rule = next(
            ((n, rule) for n, rule in enumerate(retry.evaluate_on_exit) if rule_matches(rule, ending, essential)),
            (None, None),
        )
        if rule and rule.action == "EXIT":
            return Decision(False, f"retry.evaluateOnExit[{number}] has the action EXIT")
        why = f"retry.evaluateOnExit[{number}] has the action RETRY" if rule else "no rule matches"
    return Decision(True, why, retry_wait_seconds(attempt, backoff, chance), on_demand)


def retry_wait_seconds(attempt: int, backoff: RetryBackoff, chance: float) -> int:
    """Return the whole seconds to wait after an attempt."""
    longest = min(backoff.max_seconds, backoff.initial_seconds * backoff.rate ** (attempt - 1))
    return math.ceil(chance * longest)


def rule_matches(rule: ExitRule, ending: TaskEnding, essential: Collection[str] = ()) -> bool:
    """Return whether every pattern of a rule matches.

    A missing reason counts as empty, so that a last rule ``"onReason": "*"`` matches every other failure, as in
    https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html. A missing exit code matches no pattern.
    """
    known = [each.exit_code for each in _decisive(ending.containers, essential) if each.exit_code is not None]
    codes = [str(code) for code in known if code] or [str(code) for code in known]
    reasons = [each.reason for each in ending.containers if each.reason] or [""]
    statuses = [ending.status_reason or ending.reason]
    checks = ((rule.on_exit_code, codes), (rule.on_reason, reasons), (rule.on_status_reason, statuses))
    return all(any(_glob(pattern, each) for each in texts) for pattern, texts in checks if pattern is not None)


def _glob(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
