"""Rollouts of ECS services on the deployed application, under requests through the load balancer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.catalogs import BROKEN, CANNOT_START, PATIENCE_SECONDS, Catalog, until_weight
from tests.local.deployed import eventually, steps
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.application import Way
    from tests.local.deployed import Headgate

    MakeCatalog = Callable[[Way], Catalog]

pytestmark = pytest.mark.embedded

UNGUARDED: dict[str, Any] = {"guards": "none"}
BY_TELEMETRY: dict[str, Any] = {"guards": {"errors": {"tolerate": 0}}}
_numbers = itertools.count(1)


@pytest.fixture
def catalog_of(headgate: Headgate) -> Iterator[MakeCatalog]:
    """Makes the sample service for a way."""
    made: list[Catalog] = []

    def make(way: Way) -> Catalog:
        made.append(Catalog(headgate, way, f"catalog{next(_numbers)}"))
        return made[-1]

    yield make
    for catalog in made:
        catalog.delete()


@pytest.mark.parametrize(
    ("way", "scale"), [("green-service", "full"), ("task-sets", {"followWeight": {"minPercent": 10}})]
)
def test_a_promotion_costs_no_request_and_leaves_one_revision(
    headgate: Headgate, catalog_of: MakeCatalog, way: Way, scale: Any
) -> None:
    # GIVEN a service under traffic, whose autoscaling may scale in
    catalog = catalog_of(way)
    catalog.target["scale"] = scale
    with catalog.traffic() as traffic:
        watched = catalog.watched(traffic)
        # WHEN a good release is rolled out
        rollout_id = catalog.request({}, keep=1, strategy=steps((30, 2)), **BY_TELEMETRY)
        until_weight(headgate, rollout_id, 30)
        # THEN both revisions serve, and the number of tasks cannot become smaller meanwhile
        assert catalog.scale_in_is_suspended()
        record = assert_invariants(headgate, rollout_id, seconds=PATIENCE_SECONDS)
        assert record["status"] == "succeeded", record["reason"]
        assert record["plan"]["routing"]["way"] == way
    # AND no client has noticed
    assert traffic.unanswered == 0
    assert [request for request in traffic.requests if not request.ok] == []
    assert {request.version for request in traffic.requests} == {catalog.first, record["candidate"]}
    # AND everything but the revision is as before
    assert watched.wrong() == []
    assert not catalog.scale_in_is_suspended()


def test_telemetry_rolls_a_bad_release_back_within_seconds(headgate: Headgate, catalog_of: MakeCatalog) -> None:
    # GIVEN a service under traffic
    catalog = catalog_of("task-sets")
    with catalog.traffic() as traffic:
        # WHEN a release fails on all of its requests, in a step of half an hour
        rollout_id = catalog.request(BROKEN, strategy=steps((20, 1800)), **BY_TELEMETRY)
        record = assert_invariants(headgate, rollout_id, seconds=PATIENCE_SECONDS)
    # THEN it is rolled back, for what its tasks have reported
    assert (record["status"], record["serving"]) == ("rolled-back", catalog.first)
    assert "candidate requests failed against 0 of" in record["reason"]
    failed = [request for request in traffic.requests if not request.ok]
    assert failed
    assert {request.version for request in failed} == {record["candidate"]}
    assert traffic.unanswered == 0


def test_an_abort_while_the_stable_revision_is_kept_brings_it_back_at_once(
    headgate: Headgate, catalog_of: MakeCatalog
) -> None:
    # GIVEN a release that has all requests, while the stable revision is kept
    catalog = catalog_of("green-service")
    with catalog.traffic() as traffic:
        rollout_id = catalog.request({}, keep=600, strategy=steps((50, 0)), **UNGUARDED)
        until_weight(headgate, rollout_id, 100)
        headgate.baking(rollout_id)
        assert catalog.weights() == [0, 100]
        # WHEN it is aborted
        headgate.signal(rollout_id, "abort", reason="the prices are wrong")
        # THEN the stable revision has all requests again, and no request was lost
        eventually(lambda: catalog.weights()[1] == 0, 30, lambda: f"the weights are {catalog.weights()}")
        record = assert_invariants(headgate, rollout_id, seconds=PATIENCE_SECONDS)
    assert (record["status"], record["serving"]) == ("rolled-back", catalog.first)
    assert "the prices are wrong" in record["reason"]
    assert (traffic.unanswered, [request for request in traffic.requests if not request.ok]) == (0, [])


def test_a_release_that_cannot_start_is_refused_with_its_last_words(
    headgate: Headgate, catalog_of: MakeCatalog
) -> None:
    # GIVEN a release whose tasks end at their start
    catalog = catalog_of("green-service")
    # WHEN it is rolled out
    rollout_id = catalog.request(CANNOT_START, strategy=steps((10, 60)), **UNGUARDED)
    # THEN it is refused before it has any request, and the reason has the line of its log that says why
    record = assert_invariants(headgate, rollout_id, seconds=PATIENCE_SECONDS)
    assert record["status"] == "refused"
    assert "ValueError: could not convert string to float: 'none'" in record["reason"]
    assert headgate.events(rollout_id, "Step Started") == []
    assert catalog.weights() == [100, 0]


def test_weights_that_somebody_else_has_set_stop_the_rollout_and_stay(
    headgate: Headgate, catalog_of: MakeCatalog
) -> None:
    # GIVEN a rollout in its first step
    catalog = catalog_of("task-sets")
    rollout_id = catalog.request({}, strategy=steps((10, 3), (50, 60)), **UNGUARDED)
    until_weight(headgate, rollout_id, 10)
    # WHEN somebody else changes the weights
    catalog.set_weights(70, 30)
    # THEN the rollout stops, says what it has found, and leaves it
    record = assert_invariants(headgate, rollout_id, seconds=PATIENCE_SECONDS)
    assert record["status"] == "stopped"
    assert f"30 % to {catalog.name}-green" in record["reason"]
    assert catalog.weights() == [70, 30]


def test_an_undo_brings_the_earlier_revision_back_by_a_rollout(headgate: Headgate, catalog_of: MakeCatalog) -> None:
    # GIVEN a release that was promoted
    catalog = catalog_of("task-sets")
    promoted = catalog.request({}, strategy="AllAtOnce", **UNGUARDED)
    record = assert_invariants(headgate, promoted, seconds=PATIENCE_SECONDS)
    assert record["status"] == "succeeded", record["reason"]
    with catalog.traffic() as traffic:
        # WHEN it is undone
        undo = headgate.undo(catalog.target)
        record = assert_invariants(headgate, undo, seconds=PATIENCE_SECONDS)
    # THEN the earlier revision serves
    assert (record["status"], record["serving"]) == ("succeeded", catalog.first)
    assert record["request"]["undoOf"] == promoted
    assert (traffic.unanswered, [request for request in traffic.requests if not request.ok]) == (0, [])
