"""The function trigger."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import Transient
from headgate.rollouts.locks import Locks
from tests.builders import PUBLISHING_ROLES, TARGET_KEY, event, history, settle, start, stored_rollout
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
        "id": f"published-version/{event(file)['detail']['eventID']}",
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


@pytest.mark.parametrize("outcome", ["rolled-back", "stopped"])
def test_a_version_that_a_rollout_rejected_is_not_requested_again(
    deployed: Functions,
    published: FakeParameters,
    bus: FakeBus,
    table: Table,
    caplog: pytest.LogCaptureFixture,
    outcome: str,
) -> None:
    # PublishVersion without a change answers with the newest version, which is the bad one after a rollback.
    start(Locks(table))
    settle(Locks(table), outcome=outcome, candidate="7")
    deployed.call("trigger")
    assert bus.taken == []
    [said] = [vars(each)["reason"] for each in caplog.records if each.message == "request skipped"]
    assert said == f"rollout checkout-42 rejected version 7 of {TARGET_KEY}"


def test_a_version_is_requested_on_the_targets_that_have_not_rejected_it(
    deployed: Functions, published: FakeParameters, bus: FakeBus, table: Table
) -> None:
    start(Locks(table))
    settle(Locks(table), outcome="rolled-back", candidate="7")
    other = ONE_VERSION | {"target": LIVE | {"alias": "other"}}
    published.values[f"{FOLDER}/published-version"] = json.dumps([ONE_VERSION, other])
    deployed.call("trigger")
    assert [entry["Detail"]["target"]["alias"] for entry in bus.taken] == ["other"]


def test_an_event_that_is_delivered_again_has_a_request_with_the_same_id(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    deployed.call("trigger")
    deployed.call("trigger")
    first, second = bus.taken
    assert first == second


def publishing(version: int, function: str = "checkout") -> dict[str, Any]:
    """The event of a published version."""
    found: dict[str, Any] = event("trigger")
    found["detail"]["eventID"] = f"{function}-{version}"
    answer = found["detail"]["responseElements"]
    answer |= {
        "version": str(version),
        "functionArn": answer["functionArn"].replace("checkout:7", f"{function}:{version}"),
    }
    return found


def versions(bus: FakeBus) -> list[str]:
    return [entry["Detail"]["candidate"]["version"] for entry in bus.taken]


def test_a_version_whose_event_comes_after_the_one_of_a_later_version_is_skipped(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    for version in (9, 10, 9, 8, 10, 11):
        deployed.call("trigger", publishing(version))
    assert versions(bus) == ["9", "10", "10", "11"]
    # AND each function has its own order
    deployed.call("trigger", publishing(3, "cart"))
    assert versions(bus)[-1] == "3"


def test_versions_of_two_functions_for_one_target_are_not_compared(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    one = {"target": {**LIVE, "function": "checkout"}, "candidate": {"version": "<version>"}}
    published.values[f"{FOLDER}/published-version"] = json.dumps(one)
    for call in (publishing(9), publishing(3, "cart")):
        deployed.call("trigger", call)
    assert versions(bus) == ["9", "3"]


def test_a_later_event_counts_for_a_week(
    deployed: Functions, published: FakeParameters, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.call("trigger", publishing(6))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    # Its item is deleted some time after it has expired.
    deployed.call("trigger", publishing(5))
    assert versions(bus) == ["6", "5"]


def test_an_event_of_the_trigger_that_fails_is_tried_again_after_an_earlier_one(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    bus.full_after = 0
    with pytest.raises(Transient):
        deployed.call("trigger", publishing(6))
    bus.full_after = None
    for version in (5, 6):
        deployed.call("trigger", publishing(version))
    assert versions(bus) == ["6"]


@pytest.mark.parametrize(
    ("file", "name"), [("ecr_image_action", "pushed-image"), ("s3_object_created", "created-object")]
)
def test_an_image_or_object_that_is_older_than_the_last_one_is_skipped(
    deployed: Functions, parameters: FakeParameters, bus: FakeBus, file: str, name: str
) -> None:
    template = {"id": "<time>", "target": {**LIVE, "function": "checkout"}, "candidate": {"publish": {}}}
    parameters.values[f"{FOLDER}/{name}"] = json.dumps(template)
    for second in (20, 10, 20, 30):
        deployed.call("trigger", event(file) | {"time": f"2026-09-01T08:59:{second}Z"})
    assert [entry["Detail"]["id"][-3:-1] for entry in bus.taken] == ["20", "20", "30"]


def test_every_time_of_a_schedule_counts(deployed: Functions, parameters: FakeParameters, bus: FakeBus) -> None:
    template = {"target": {**LIVE, "function": "checkout"}, "candidate": {"publish": {}}}
    parameters.values[f"{FOLDER}/schedule"] = json.dumps(template)
    for hour in (10, 9):
        deployed.call("trigger", event("scheduled_event") | {"time": f"2026-09-01T{hour:02}:00:00Z"})
    assert len(bus.taken) == 2


def test_an_event_that_does_not_fit_is_not_requested_and_nobody_is_told(
    deployed: Functions, published: FakeParameters, bus: FakeBus, table: Table
) -> None:
    published.values[f"{FOLDER}/published-version"] = json.dumps(ONE_VERSION | {"when": {"function": "shop-*"}})
    deployed.call("trigger")
    assert bus.taken == []
    assert stored_rollout(table, f"published-version/{event('trigger')['detail']['eventID']}") is None


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
    rollout_id = f"published-version/{event('trigger')['detail']['eventID']}"
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
    first = f"published-version/{event('trigger')['detail']['eventID']}"
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
    rollout_id = f"published-version/{event('trigger')['detail']['eventID']}"
    assert len([item for item in history(table, rollout_id) if item["sk"].startswith("EVENT#")]) == 1


def test_a_call_that_only_wakes_it_requests_nothing(
    deployed: Functions, published: FakeParameters, bus: FakeBus
) -> None:
    assert deployed.call("trigger", {"wake": True}) is None
    assert bus.taken == []
