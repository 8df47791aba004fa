"""Decides whether a task runs again, and when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from headgate.ecs_tasks.outcome import TaskEnding, _decisive
from headgate.ecs_tasks.request import RetryBackoff

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.ecs_tasks.request import ExitRule, RetryStrategy

THROTTLES = 20
"""How often ECS may throttle a task before its execution gives up: half an hour at most. It bounds the history too."""

THROTTLE_BACKOFF = RetryBackoff(initial_seconds=5, rate=2, max_seconds=120)
"""Waits after a throttled start. ECS refills its buckets within seconds, but others take from them as well."""

FALLS_BACK = ("interrupted", "no-capacity", "over-quota")
"""Outcomes after which the fallback runs. Fargate and Fargate Spot have a quota each:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html"""


class Decision(NamedTuple):
    """Decision after an attempt."""

    again: bool
    why: str
    wait_seconds: int = 0
    on_demand: bool = False
    counts: bool = True
    """Whether this was an attempt. A start that ECS throttled was none."""


def decide_retry(
    ending: TaskEnding,
    attempt: int,
    retry: RetryStrategy,
    backoff: RetryBackoff,
    *,
    can_fall_back: bool,
    chance: float,
    essential: Collection[str] = (),
    throttles: int = 0,
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
    throttles
        How often ECS throttled the start of this task before.
    """
    if ending.outcome == "succeeded":
        return Decision(False, "the task succeeded")
    # As in AWS Batch, where a job that timed out or was terminated is not retried:
    # https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html
    if ending.outcome in ("timed-out", "stopped"):
        return Decision(
            False, f"a task that {'timed out' if ending.outcome == 'timed-out' else 'was stopped'} does not run again"
        )
    if ending.outcome == "throttled":
        if throttles >= THROTTLES:
            return Decision(False, f"ECS throttled its start {throttles} times before")
        wait = retry_wait_seconds(throttles + 1, THROTTLE_BACKOFF, chance)
        return Decision(True, "ECS throttled its start, which does not count as an attempt", wait, counts=False)
    if attempt >= retry.attempts:
        return Decision(False, f"this was attempt {attempt} of {retry.attempts}")
    on_demand = can_fall_back and ending.outcome in FALLS_BACK
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
