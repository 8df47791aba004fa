"""Pace of repeated calls to Lambda's control plane: rollbacks repeat a throttled call often, other moves rarely.

All rollouts of an account and Region share 15 calls a second, and nothing there knows which call is urgent:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html. So each call gets a share of them that
corresponds to how often it is tried. A move that can wait gives up soon, and its state machine tries again later, while
a rollback tries several times a second.
"""

from __future__ import annotations

import random
from typing import Any

THROTTLED = "TooManyRequestsException"

PATIENT_WAITS = (5.0, 10.0)
"""Maximum waits, in seconds, between the attempts of a call that can wait, within one invocation.

A Prepare has three or four such calls, and the function's timeout is 60 s.
"""

URGENT_WAITS = (0.3,) * 60
"""The same for an urgent call: 9 s on average, and at most 18 s."""


class Pace:
    """Decides when a throttled call of one client is repeated. Other errors are left to botocore's own retries.

    Attributes
    ----------
    urgent
        Whether the calls of this invocation are urgent.
    """

    def __init__(self) -> None:
        self.urgent = False

    def rule(self, client: Any) -> None:
        """Let this pace rule a client, before botocore's own retries, which wait longer with each attempt."""
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register_first(f"needs-retry.{service}", self.wait_before_next)

    def wait_before_next(self, response: Any, attempts: int, **_: Any) -> float | bool | None:
        """Return the seconds until the next attempt, False if there is none, and None for other errors.

        botocore calls this after each attempt. ``response`` is None if there was no response.
        """
        if response is None or response[1].get("Error", {}).get("Code") != THROTTLED:
            return None
        waits = URGENT_WAITS if self.urgent else PATIENT_WAITS
        if attempts > len(waits):
            return False
        # A random part of it, so that those who were throttled together do not return together.
        return random.random() * waits[attempts - 1]  # noqa: S311 - no secret
