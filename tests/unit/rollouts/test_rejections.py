"""Which versions a rollout has rejected on a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.rollouts.rejections import rejecting_rollout
from tests.builders import TARGET_KEY, settle, start

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table


def ended(locks: Locks, rollout_id: str, outcome: str, candidate: str = "7") -> None:
    start(locks, rollout_id)
    settle(locks, rollout_id, outcome, candidate=candidate)


@pytest.mark.parametrize("outcome", ["rolled-back", "stopped"])
def test_a_version_is_rejected_by_the_rollout_that_did_not_promote_it(table: Table, locks: Locks, outcome: str) -> None:
    ended(locks, "first", outcome)
    assert rejecting_rollout(table, TARGET_KEY, "7") == "first"
    assert rejecting_rollout(table, TARGET_KEY, "8") is None
    assert rejecting_rollout(table, "lambda-alias/checkout/other", "7") is None


def test_a_version_that_was_promoted_is_not_rejected(table: Table, locks: Locks) -> None:
    assert rejecting_rollout(table, TARGET_KEY, "7") is None
    ended(locks, "first", "succeeded")
    assert rejecting_rollout(table, TARGET_KEY, "7") is None


def test_an_undo_rejects_what_was_promoted(table: Table, locks: Locks) -> None:
    ended(locks, "first", "succeeded")
    table.amend("first", {"undoneBy": "undo"})
    assert rejecting_rollout(table, TARGET_KEY, "7") == "first"


def test_the_last_rollout_of_a_version_decides(table: Table, locks: Locks) -> None:
    ended(locks, "first", "rolled-back")
    ended(locks, "second", "succeeded")
    assert rejecting_rollout(table, TARGET_KEY, "7") is None
    ended(locks, "third", "rolled-back")
    assert rejecting_rollout(table, TARGET_KEY, "7") == "third"
