"""Plans of requests that were sent again and cannot be planned any more."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from headgate.errors import RequestRefused
from headgate.planning.plans import Plans
from tests.builders import admit, execution_of, request_of, start

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table

NOW = "guards.alarms: no alarm is named errors"


@pytest.fixture
def plans(table: Table) -> Plans:
    def refuse(_: Any) -> None:
        raise RequestRefused(NOW)

    return Plans(cast("Any", SimpleNamespace(plan=refuse)), table)


def test_a_rollout_that_has_begun_lends_its_plan(plans: Plans, locks: Locks) -> None:
    plan = start(locks, "a")
    assert plans.plan_of(request_of("a"), "again") == plan.to_wire()


@pytest.mark.parametrize(
    ("request_id", "fields", "execution"),
    [
        ("a", {}, execution_of("a").rsplit(":", 1)[-1]),
        ("b", {}, "again"),
        ("a", {"candidate": {"version": "8"}}, "again"),
    ],
    ids=["its own execution", "an unknown request", "other content"],
)
def test_what_is_no_repetition_is_refused_for_what_is_wrong_now(
    plans: Plans, locks: Locks, request_id: str, fields: dict[str, Any], execution: str
) -> None:
    start(locks, "a")
    with pytest.raises(RequestRefused, match=NOW):
        plans.plan_of(request_of(request_id, **fields), execution)


def test_one_that_was_refused_has_its_reason(plans: Plans, locks: Locks) -> None:
    admit(locks, "holder")
    refused = admit(locks, "a", onBusy="refuse")
    with pytest.raises(RequestRefused, match=re.escape(refused.reason)):
        plans.plan_of(request_of("a", onBusy="refuse"), "again")


def test_one_that_waits_names_the_execution_to_wait_for(plans: Plans, locks: Locks) -> None:
    admit(locks, "holder")
    admit(locks, "a")
    with pytest.raises(RequestRefused, match=r"waits in line, in the execution .*; wait for that one"):
        plans.plan_of(request_of("a"), "again")
