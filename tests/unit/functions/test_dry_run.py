"""The function planner, asked for a dry run: what a rollout would do now, and nothing on record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.telemetry_notes import TelemetryNotes
from headgate.aws.observability import logger
from tests.builders import TABLE, TARGET, TARGET_KEY, admit, start, status_of
from tests.fakes.sqs import arn
from tests.fakes.stacks import FakeStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda

    Ask = Callable[..., dict[str, Any]]

ASKED = {"id": "checkout-42", "target": TARGET, "candidate": {"version": "7"}, "guards": {"errors": {}}}


@pytest.fixture(autouse=True)
def stacks(deployed: Functions) -> Iterator[FakeStacks]:
    """CloudFormation; no stack owns anything."""
    fake = FakeStacks()
    detach = fake.attach(deployed.client("cloudformation"))
    yield fake
    detach()


@pytest.fixture
def ask(deployed: Functions, checkout: FakeLambda, table: Table, dynamodb: Any) -> Ask:
    """Asks for a dry run, and holds that it wrote nothing."""
    TelemetryNotes(dynamodb, TABLE).note({TARGET_KEY})

    def call(**fields: Any) -> dict[str, Any]:
        before = dynamodb.scan(TableName=TABLE)["Items"]
        asked = {name: value for name, value in {**ASKED, **fields}.items() if value is not None}
        told: dict[str, Any] = deployed.call("planner", {"request": asked, "executionName": "plan-1", "dryRun": True})
        assert dynamodb.scan(TableName=TABLE)["Items"] == before
        assert not checkout.updates
        return told

    return call


def test_it_tells_the_plan_and_both_versions(ask: Ask) -> None:
    told = ask()
    assert (told["stable"], told["candidate"]) == ("6", "7")
    assert told["plan"]["steps"] == [{"weight": 10.0, "bakeSeconds": 300}]
    assert told["request"]["id"] == "checkout-42"
    assert told.keys() == {"request", "plan", "stable", "candidate"}


def test_a_candidate_that_is_still_to_be_published_has_no_number(ask: Ask) -> None:
    assert "candidate" not in ask(candidate=None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"strategy": "Canary10"}, "strategy: not a preset"),
        ({"candidate": {"version": "9"}}, "candidate.version: checkout has no version 9; name an existing one"),
        ({"candidate": {"version": "6"}}, "candidate: checkout:live already serves version 6; name another version"),
        ({"target": TARGET | {"alias": "blue"}}, "target: function checkout with alias blue does not exist"),
        ({"guards": {"alarms": ["nobody"]}}, "guards.alarms: "),
    ],
)
def test_it_is_refused_in_the_words_of_the_rollout(ask: Ask, fields: dict[str, Any], reason: str) -> None:
    assert ask(**fields)["refused"].startswith(reason)


def test_an_alias_that_is_already_shifted_is_refused(ask: Ask, checkout: FakeLambda) -> None:
    checkout.point("live", "6", {"5": 0.1})
    assert ask()["refused"].startswith("target.alias: checkout:live already sends 10 % to version 5")


def test_versions_that_cannot_share_traffic_are_refused(ask: Ask, checkout: FakeLambda) -> None:
    checkout.versions["7"]["Role"] = "arn:aws:iam::123456789012:role/other"
    assert "have different execution roles" in ask()["refused"]


def test_a_version_that_cannot_become_active_is_refused(ask: Ask, checkout: FakeLambda) -> None:
    checkout.versions["7"]["State"] = "Inactive"
    assert ask()["refused"].startswith("candidate: version 7 is inactive")


def test_of_a_busy_target_it_tells_whom_it_would_wait_for(ask: Ask, locks: Locks) -> None:
    start(locks, "first")
    admit(locks, "second")
    told = ask()
    assert (told["behind"], told["place"]) == ("first", 2)
    # What the first one does to the alias counts when the turn comes, and not now.
    assert "stable" not in told


def test_a_wait_warns_of_code_that_may_change_meanwhile(ask: Ask, locks: Locks) -> None:
    start(locks, "first")
    assert any("published when the turn comes" in warning for warning in ask(candidate=None)["plan"]["warnings"])
    assert ask()["plan"].get("warnings", []) == []


def test_a_request_that_does_not_wait_is_refused_on_a_busy_target(ask: Ask, locks: Locks) -> None:
    start(locks, "first")
    assert ask(onBusy="refuse")["refused"] == (f"target: {TARGET_KEY} is busy with rollout first, and onBusy is refuse")


def test_a_request_that_is_known_is_told_as_it_stands(ask: Ask, locks: Locks, table: Table) -> None:
    start(locks, "checkout-42", guards={"errors": {}})
    told = ask()
    assert told["known"] == status_of(table, "checkout-42") == "running"
    assert told["plan"]["rolloutId"] == "checkout-42"


def test_a_refused_id_cannot_be_used_again(ask: Ask, locks: Locks) -> None:
    admit(locks, "first")
    refused = admit(locks, "checkout-42", guards={"errors": {}}, onBusy="refuse")
    assert ask(onBusy="refuse")["refused"] == (
        f"id: checkout-42 was refused before, so send it under a new id; {refused.reason}"
    )


def test_an_id_of_another_request_is_refused(ask: Ask, locks: Locks) -> None:
    admit(locks, "checkout-42", strategy="AllAtOnce")
    assert ask()["refused"].startswith("id: checkout-42 is the id of an earlier request with other content")


def test_a_consumer_is_planned_through_its_alias(ask: Ask, checkout: FakeLambda) -> None:
    mapping = checkout.map(time.time, arn("orders"))
    told = ask(target={"kind": "event-source", "mapping": mapping.uuid}, guards="none")
    assert told["plan"]["through"]["alias"] == "live"
    assert told["stable"] == "6"


def test_a_consumer_of_an_alias_that_is_being_moved_is_refused(ask: Ask, checkout: FakeLambda, locks: Locks) -> None:
    mapping = checkout.map(time.time, arn("orders"))
    start(locks, "first")
    told = ask(target={"kind": "event-source", "mapping": mapping.uuid}, guards="none")
    assert told["refused"] == f"target: {TARGET_KEY} is in use by rollout first; wait until it ends"


def test_a_mapping_that_is_disabled_is_refused(ask: Ask, checkout: FakeLambda) -> None:
    mapping = checkout.map(time.time, arn("orders"))
    mapping.state = "Disabled"
    told = ask(target={"kind": "event-source", "mapping": mapping.uuid}, guards="none")
    assert told["refused"] == f"target.mapping: {mapping.uuid} is disabled; enable it first"


def test_a_refusal_is_no_warning_in_the_log(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[Any] = []
    monkeypatch.setattr(logger, "warning", lambda *told, **_: warned.append(told))
    assert "refused" in ask(candidate={"version": "9"}, guards="none")
    assert warned == []
