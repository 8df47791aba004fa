"""Alarms of all kinds as guards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.analysis.alarms import AlarmStates
from headgate.errors import RequestRefused
from tests.fakes.services import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


class Alarms(Service):
    """CloudWatch with an alarm of each kind in ALARM."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def DescribeAlarms(self, AlarmNames: list[str], AlarmTypes: list[str], MaxRecords: int) -> Any:  # noqa: N802, N803
        assert MaxRecords == 100
        self.asked = AlarmTypes
        found = {"MetricAlarm": "errors", "CompositeAlarm": "any", "LogAlarm": "log-errors"}
        return {
            f"{kind}s": [{"AlarmName": found[kind], "StateValue": "ALARM"}] if found[kind] in AlarmNames else []
            for kind in AlarmTypes
        }


@pytest.fixture
def client(_nobodys_account: None) -> Any:
    return boto3.client("cloudwatch")


@pytest.fixture
def cloudwatch(client: Any) -> Iterator[Alarms]:
    fake = Alarms()
    detach = fake.attach(client)
    yield fake
    detach()


@pytest.mark.parametrize("name", ["errors", "any", "log-errors"])
def test_alarms_of_every_kind_guard(cloudwatch: Alarms, client: Any, name: str) -> None:
    assert AlarmStates(client).firing([name]) == [name]
    assert AlarmStates(client).lost_since([name], already=[], since=None) == ([name], [])


def test_a_runtime_that_does_not_know_log_alarms_does_not_ask_for_them(
    cloudwatch: Alarms, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = client.meta.service_model.operation_model("DescribeAlarms").output_shape
    monkeypatch.delitem(response.members, "LogAlarms")
    assert AlarmStates(client).firing(["errors"]) == ["errors"]
    assert cloudwatch.asked == ["MetricAlarm", "CompositeAlarm"]


@pytest.mark.usefixtures("cloudwatch")
def test_an_alarm_that_does_not_exist_is_refused(client: Any) -> None:
    with pytest.raises(RequestRefused, match="no alarm is named error in this account"):
        AlarmStates(client).firing(["error", "errors"])
