"""When the candidate of a rollout got all traffic, of which Lambda may not count by version."""

from __future__ import annotations

import pytest

from headgate.analysis.evidence import Ledger
from headgate.analysis.report_checks import alone_from
from headgate.analysis.reports import Reports
from tests.builders import plan_of

FIRST, SECOND, RESUMED = 1_000, 2_000, 3_000


def ledger(since: dict[int, int], *, reports_since: int = FIRST) -> Ledger:
    return Ledger("checkout-42", "7", "6", since, {}, {}, {}, {}, reports=Reports(reports_since))


@pytest.mark.parametrize(
    ("weights", "counted", "expected"),
    [
        ([10, 50], ledger({0: FIRST, 1: SECOND}), None),
        ([10, 100], ledger({0: FIRST}), None),
        ([10, 100], ledger({0: FIRST, 1: SECOND}), SECOND),
        ([10, 100], ledger({1: SECOND}), SECOND),  # The first step is filed.
        ([100], ledger({0: FIRST}), FIRST),
        # A pause at zero may have come before the restart.
        ([10, 100], ledger({0: FIRST, 1: SECOND}, reports_since=RESUMED), RESUMED),
        ([], ledger({}), None),
    ],
)
def test_the_candidate_is_alone_from_the_step_of_100_percent_or_a_later_restart(
    weights: list[float], counted: Ledger, expected: int | None
) -> None:
    steps = [{"weight": weight, "bakeSeconds": 300} for weight in weights]
    plan = plan_of(strategy={"steps": steps} if steps else "AllAtOnce")
    assert alone_from(plan, counted) == expected
