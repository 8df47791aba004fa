"""Twenty rollouts at once against a control plane that takes 15 requests a second, as Lambda's does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config

from emulator.application import deploy_headgate
from tests.local.deployed import PREFIX, Headgate
from tests.local.invariants import assert_invariants
from tests.local.servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLLOUTS = 20

# One process runs both, so that this AWS is started and deployed to once.
pytestmark = [pytest.mark.embedded, pytest.mark.xdist_group("throttled")]


@pytest.fixture(scope="module")
def throttled() -> Iterator[Headgate]:
    """The application on an AWS whose Lambda control plane has its real limit."""
    with serving("--control-plane-rate", "15") as aws:
        deployed = Headgate(aws, deploy_headgate(aws, Prefix=PREFIX))
        yield deployed
        deployed.close()


def test_a_control_plane_that_is_asked_too_much_says_so(throttled: Headgate) -> None:
    # GIVEN a service
    service = throttled.next_service()
    # WHEN its alias is read as fast as one can, by a client that does not try again
    impatient = throttled.aws.client("lambda", config=Config(retries={"total_max_attempts": 1}))

    def hammer() -> None:
        for _ in range(200):
            impatient.get_alias(FunctionName=service.function, Name=service.alias)

    # THEN it is told that this is too much
    with pytest.raises(impatient.exceptions.TooManyRequestsException):
        hammer()


def test_twenty_rollouts_at_once_all_end_right(throttled: Headgate) -> None:
    # GIVEN one function with twenty aliases
    service = throttled.next_service()
    aliases = [f"shard-{number}" for number in range(ROLLOUTS)]
    for alias in aliases:
        throttled.functions.create_alias(FunctionName=service.function, Name=alias, FunctionVersion="1")
        time.sleep(0.1)
    # WHEN a rollout is asked for on each of them, all at once
    ids = [
        throttled.request(
            target={**service.target, "alias": alias},
            candidate={"version": "2"},
            strategy={"steps": [{"weight": 10, "bakeSeconds": 2}, {"weight": 50, "bakeSeconds": 2}]},
        )
        for alias in aliases
    ]
    # THEN each is promoted, however often it was told to wait
    for rollout_id in ids:
        throttled.ended(rollout_id, 120)
    for rollout_id in ids:
        assert assert_invariants(throttled, rollout_id)["status"] == "succeeded"
