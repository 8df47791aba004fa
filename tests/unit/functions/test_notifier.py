"""The function notifier."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import event, start
from tests.fakes.services import FakeTopic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.locks import Locks
    from tests.fakes.functions import Functions


@pytest.fixture
def topic(deployed: Functions) -> Iterator[FakeTopic]:
    fake = FakeTopic()
    detach = fake.attach(deployed.client("sns"))
    yield fake
    detach()


def test_it_publishes_and_records_metrics_in_one_entry_of_its_log(
    deployed: Functions, topic: FakeTopic, dynamodb: Any, locks: Locks, capsys: pytest.CaptureFixture[str]
) -> None:
    start(locks)
    deployed.call("notifier", event("rollout_rolled_back") | {"id": "one"})
    [message] = topic.taken
    assert message["Subject"] == "Rolled back: checkout:live (checkout-42)"
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    [entry] = entries
    [metrics] = entry["_aws"]["CloudWatchMetrics"]
    assert metrics["Namespace"] == "Headgate"
    assert [sorted(names) for names in metrics["Dimensions"]] == [["FunctionName", "Outcome", "TargetKind", "service"]]
    assert {"Name": "Rollouts", "Unit": "Count"} in metrics["Metrics"]
    assert (entry["FunctionName"], entry["service"], entry["Rollouts"]) == ("headgate", "headgate", [1.0])


def test_a_call_that_only_wakes_it_sends_nothing(deployed: Functions, topic: FakeTopic) -> None:
    assert deployed.call("notifier", {"wake": True}) is None
    assert topic.taken == []
