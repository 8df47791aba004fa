"""The function trigger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import Transient
from tests.builders import PUBLISHING_ROLES, TARGET_KEY, event, history, stored_rollout
from tests.fakes.services import FakeParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeBus

FOLDER = "/headgate/headgate/triggers"
LIVE = {"kind": "lambda-alias", "function": "<function>", "alias": "live"}
ONE_VERSION = {"target": LIVE, "candidate": {"version": "<version>"}}


pytestmark = pytest.mark.usefixtures("dynamodb")


@pytest.fixture
def parameters(deployed: Functions) -> Iterator[FakeParameters]:
    fake = FakeParameters()
    detach = fake.attach(deployed.client("ssm"))
    yield fake
    detach()


@pytest.fixture
def published(parameters: FakeParameters, bus: FakeBus) -> FakeParameters:
    """The trigger for published versions is on."""
    parameters.values[f"{FOLDER}/published-version"] = json.dumps(ONE_VERSION)
    return parameters


@pytest.mark.parametrize("file", ["trigger", "lambda_update_function_code"])
def test_a_published_version_is_requested_on_the_bus(
    deployed: Functions, published: FakeParameters, bus: FakeBus, file: str
) -> None:
    assert deployed.call("trigger", event(file)) is None
    [entry] = bus.taken
    assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == (
        "headgate",
        "headgate.trigger",
        "Rollout Requested",
    )
    assert entry["Detail"] == {
        "id": f"published-version/{event(file)['id']}",
        "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"},
        "candidate": {"version": "7"},
    }


@pytest.mark.parametrize(
    ("file", "name", "template", "value"),
    [
        ("ecr_image_action", "pushed-image", {"id": "<repository>:<tag>"}, "shop/checkout:release-42"),
        ("s3_object_created", "created-object", {"id": "<bucket>/<key>"}, "code/shop/check out+42.zip"),
        ("scheduled_event", "schedule", {"id": "at <time>"}, "at 2026-09-01T09:00:00Z"),
    ],
)
def test_each_trigger_reads_its_own_template(
    deployed: Functions,
    parameters: FakeParameters,
    bus: FakeBus,
    file: str,
    name: str,
    template: dict[str, Any],
    value: str,
) -> None:
    parameters.values[f"{FOLDER}/{name}"] = json.dumps(template)
    deployed.call("trigger", event(file))
    assert [entry["Detail"]["id"] for entry in bus.taken] == [value]


def test_a_version_that_a_rollout_publishes_is_not_requested(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    for role in PUBLISHING_ROLES:
        call = event("trigger")
        call["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = role
        deployed.call("trigger", call)
    assert bus.taken == []


def test_an_event_that_is_delivered_again_has_a_request_with_the_same_id(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    deployed.call("trigger")
    deployed.call("trigger")
    first, second = bus.taken
    assert first == second


def test_an_event_that_does_not_fit_is_not_requested_and_nobody_is_told(
    deployed: Functions, published: FakeParameters, bus: FakeBus, table: Table
) -> None:
    published.values[f"{FOLDER}/published-version"] = json.dumps(ONE_VERSION | {"when": {"function": "shop-*"}})
    deployed.call("trigger")
    assert bus.taken == []
    assert stored_rollout(table, f"published-version/{event('trigger')['id']}") is None


def test_a_trigger_that_was_turned_off_starts_nothing(
    deployed: Functions, parameters: FakeParameters, bus: FakeBus
) -> None:
    deployed.call("trigger")
    assert bus.taken == []


def test_a_template_that_cannot_be_filled_in_is_refused_on_the_record_and_announced_once(
    deployed: Functions, published: FakeParameters, bus: FakeBus, table: Table
) -> None:
    wrong = {"target": LIVE, "candidate": {"version": "<versoin>"}}
    published.values[f"{FOLDER}/published-version"] = json.dumps(wrong)
    for _ in range(2):
        deployed.call("trigger")
    assert bus.taken == []
    rollout_id = f"published-version/{event('trigger')['id']}"
    record = stored_rollout(table, rollout_id)
    assert record is not None
    assert (record["status"], record["targetKey"]) == ("refused", TARGET_KEY)
    assert record["reason"].startswith("PublishedVersionRequest.candidate.version: <versoin> is not a placeholder")
    [announced] = [item for item in history(table, rollout_id) if item["sk"].startswith("EVENT#")]
    assert announced["detailType"] == "Rollout Refused"
    assert announced["detail"]["reason"] == record["reason"]


def test_a_request_that_the_bus_does_not_take_is_tried_again_by_lambda(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    bus.full_after = 0
    with pytest.raises(Transient, match="ThrottlingException: slow down"):
        deployed.call("trigger")


class Killed(Exception):  # noqa: N818
    """The function dies here."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_trigger_that_dies_around_a_request_requests_the_same_again(
    deployed: Functions, published: FakeParameters, bus: FakeBus, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    published.values[f"{FOLDER}/published-version"] = json.dumps([ONE_VERSION, ONE_VERSION])

    def die(operation: str, moment: str) -> None:
        if moment == when and len(bus.taken) == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(bus, "interrupt", die)
        with pytest.raises(Killed):
            deployed.call("trigger")
    deployed.call("trigger")
    first = f"published-version/{event('trigger')['id']}"
    # Intake takes each of them once, by its id.
    assert [entry["Detail"]["id"] for entry in bus.taken] == [first, first, f"{first}/2"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_trigger_that_dies_around_a_refusal_records_it_once(
    deployed: Functions, published: FakeParameters, bus: FakeBus, table: Table, when: str
) -> None:
    published.values[f"{FOLDER}/published-version"] = "no"
    locks = deployed.module("trigger").app.locks
    refuse = locks.refuse

    def die(*given: Any, **named: Any) -> None:
        if when == "after":
            refuse(*given, **named)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "refuse", die)
        with pytest.raises(Killed):
            deployed.call("trigger")
    deployed.call("trigger")
    rollout_id = f"published-version/{event('trigger')['id']}"
    assert len([item for item in history(table, rollout_id) if item["sk"].startswith("EVENT#")]) == 1


def test_a_call_that_only_wakes_it_requests_nothing(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    assert deployed.call("trigger", {"wake": True}) is None
    assert bus.taken == []
