"""How large the results of tasks are: ten tasks of ten attempts fit into one state of Step Functions and one event.

Both are limited to 256 KiB of UTF-8. An execution whose state is larger fails although its tasks have ended well:
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ecs_tasks.run_task import TaskPlan

    Report = dict[str, Any]

REASON_BYTES = 300
"""Size of a reason."""

LONG_REASON_BYTES = 2_000
"""Size of the reason of a whole execution."""

SHORT_REASON_BYTES = 120
"""Size of a reason that does not fit otherwise."""

EARLIER_ATTEMPTS_BYTES = 144_000
"""Size of all attempts that another one followed, of all tasks."""

LAST_ATTEMPTS_BYTES = LOGS_BYTES = 35_000
"""Size of the last attempts of all tasks, and of their logs. What remains repeats the outcome of each task."""

ROOMIEST_ATTEMPT_BYTES = 4_000
"""Size of an earlier attempt, however few there are."""


class Room(NamedTuple):
    """Sizes in bytes that the parts of one task's result may have."""

    earlier_attempt: int
    last_attempt: int
    logs: int

    @classmethod
    def of(cls, plan: TaskPlan) -> Room:
        """Divide the whole by the number of tasks and attempts."""
        earlier = EARLIER_ATTEMPTS_BYTES // (plan.count * max(1, plan.retry.attempts - 1))
        return cls(min(ROOMIEST_ATTEMPT_BYTES, earlier), LAST_ATTEMPTS_BYTES // plan.count, LOGS_BYTES // plan.count)


def json_bytes(value: object) -> int:
    """Return the size of a value as JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))


def shortened(text: str, limit: int) -> str:
    """Return the beginning of a text that has at most ``limit`` bytes within JSON, without the quotation marks."""
    if json_bytes(text) - 2 <= limit:
        return text
    used = 0
    for place, character in enumerate(text):
        used += json_bytes(character) - 2
        if used > limit:
            return text[:place]
    return text


def fitted(attempt: Report, limit: int) -> Report:
    """Return the report of an attempt, without what is least telling if it is larger than ``limit`` bytes."""
    for shorten in _SHORTENINGS:
        if json_bytes(attempt) <= limit:
            break
        attempt = shorten(attempt)
    return attempt


def fitted_logs(logs: list[Report], limit: int) -> list[Report]:
    """Return the logs of a task, without their first lines if they are larger than ``limit`` bytes."""
    logs = [{**log, "lines": [*log["lines"]]} for log in logs]
    while json_bytes(logs) > limit and any(log["lines"] for log in logs):
        max(logs, key=lambda log: json_bytes(log["lines"]))["lines"].pop(0)
    if json_bytes(logs) > limit:
        # Half a link leads nowhere.
        logs = [{**log, "link": ""} for log in logs]
    return logs


def _without_good_containers(attempt: Report) -> Report:
    return _with_containers(attempt, [each for each in attempt.get("containers", []) if each.get("exitCode") != 0])


def _with_short_reasons(attempt: Report) -> Report:
    return _with_containers(
        attempt,
        [
            {**each, "reason": shortened(each.get("reason", ""), SHORT_REASON_BYTES)}
            for each in attempt.get("containers", [])
        ],
    )


def _with_containers(attempt: Report, containers: list[Report]) -> Report:
    return {**attempt, "containers": containers} if "containers" in attempt else attempt


def _without(*names: str) -> Callable[[Report], Report]:
    return lambda attempt: {name: value for name, value in attempt.items() if name not in names}


def _with_failed_codes(attempt: Report) -> Report:
    return {**attempt, "exitCodes": {name: code for name, code in attempt["exitCodes"].items() if code}}


def _with_short_reason(attempt: Report) -> Report:
    return {**attempt, "reason": shortened(attempt["reason"], SHORT_REASON_BYTES)}


def _with_one_code(attempt: Report) -> Report:
    return {**attempt, "exitCodes": dict([*attempt["exitCodes"].items()][:1])}


_SHORTENINGS = (
    _without_good_containers,
    _with_short_reasons,
    _without("containers"),
    _with_failed_codes,
    _without("statusReason"),
    _with_short_reason,
    _with_one_code,
)
"""What is left out in turn. The rules of a retry have read all of it before."""
