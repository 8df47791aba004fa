"""What the functions meet: machines, a bus, an alias, queues, and rollouts that are under way."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from headgate.spec.plan import Plan
from tests.builders import (
    event,
    request_of,
)
from tests.fakes.services import FakeBus, FakeLambda, FakeStepFunctions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.table import Table
from tests.fakes.functions import SETTINGS, Functions


@pytest.fixture
def machines(deployed: Functions) -> Iterator[FakeStepFunctions]:
    fake = FakeStepFunctions()
    detach = fake.attach(deployed.client("stepfunctions"))
    yield fake
    detach()


@pytest.fixture
def bus(deployed: Functions) -> Iterator[FakeBus]:
    fake = FakeBus()
    detach = fake.attach(deployed.client("events"))
    yield fake
    detach()


@pytest.fixture
def checkout(deployed: Functions) -> Iterator[FakeLambda]:
    """The function checkout as the payloads in events/ know it: live serves version 6 of 7."""
    function = FakeLambda()
    for _ in range(7):
        function.publish()
    function.point("live", "6")
    function.aliases["live"]["RevisionId"] = event("lambda_alias_driver")["state"]["revisionId"]
    detach = function.attach(deployed.client("lambda"))
    yield function
    detach()


@pytest.fixture
def alarm(aws: None, clients: dict[str, Any]) -> Callable[[str], None]:
    """Sets the state of the alarm checkout-errors."""
    cloudwatch = clients["cloudwatch"]
    cloudwatch.put_metric_alarm(
        AlarmName="checkout-errors",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="Errors",
        Namespace="AWS/Lambda",
        Period=60,
        Statistic="Sum",
        Threshold=20,
    )
    return lambda state: cloudwatch.set_alarm_state(AlarmName="checkout-errors", StateValue=state, StateReason="test")


@pytest.fixture
def dead_letters(aws: None, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Reads the request queue's dead letters."""
    sqs = clients["sqs"]
    url = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
    for name in ("ROLLOUT_MACHINE", "DEAD_LETTERS"):
        monkeypatch.setenv(name, {"DEAD_LETTERS": url}.get(name, SETTINGS[name]))
    answer = functools.partial(
        sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["reason"]
    )
    return lambda: answer().get("Messages", [])


@pytest.fixture
def refused_signals(aws: None, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Reads the dead letters of signals."""
    sqs = clients["sqs"]
    url = sqs.create_queue(QueueName="signal-dead-letters")["QueueUrl"]
    monkeypatch.setenv("SIGNAL_DEAD_LETTERS", url)
    answer = functools.partial(
        sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["reason"]
    )
    return lambda: answer().get("Messages", [])


@pytest.fixture
def running(table: Table, deployed: Functions) -> Plan:
    """The rollout checkout-42, started, as the payloads in events/ know it."""
    deployed.call("acquirer")
    return Plan.model_validate(event("acquirer")["plan"])


@pytest.fixture
def baking(running: Plan, deployed: Functions, machines: FakeStepFunctions, alarm: Callable[[str], None]) -> str:
    """The token of its open bake; its alarm is quiet."""
    alarm("OK")
    token: str = event("baker")["token"]
    machines.open_tokens.add(token)
    deployed.call("baker")
    return token


@pytest.fixture
def guarded(
    table: Table, deployed: Functions, machines: FakeStepFunctions, alarm: Callable[[str], None]
) -> Callable[..., dict[str, Any]]:
    """Begins the rollout checkout-42 with other guards, and its bake; what the judge is then asked."""

    def begin(shifted_at: int | None = None, **guards: Any) -> dict[str, Any]:
        alarm("OK")
        state = event("baker")["state"] | ({"shiftedAt": shifted_at} if shifted_at else {})
        request = event("acquirer")["request"] | {"guards": guards}
        plan = event("acquirer")["plan"] | {"guards": request_of(guards=guards).asked_guards.to_wire()}
        deployed.call("acquirer", event("acquirer") | {"request": request, "plan": plan})
        machines.open_tokens.add(event("baker")["token"])
        deployed.call("baker", event("baker") | {"plan": plan, "state": state})
        return {**event("judge"), "plan": plan, "state": state}

    return begin


@pytest.fixture
def paused(running: Plan, deployed: Functions, machines: FakeStepFunctions) -> str:
    """The token of its open pause, which an operator has asked for."""
    token: str = event("pauser")["token"]
    machines.open_tokens.add(token)
    deployed.call("pauser")
    return token


@pytest.fixture
def undelivered(aws: None, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Reads what was put aside."""
    sqs = clients["sqs"]
    url = sqs.create_queue(QueueName="undelivered")["QueueUrl"]
    monkeypatch.setenv("UNDELIVERED", url)
    return lambda: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
