"""Each function does its one job with the payload that events/functions gives for ``sam local invoke``."""

# Many a test wants nothing of a fixture but that it is there.
# ruff: noqa: ARG002

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError

from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm, Evidence
from headgate.analysis.ledger_store import ledger_key, now_ms
from headgate.aws.arns import execution_name
from headgate.aws.dynamodb import to_item
from headgate.errors import Aborted, LockLost, RequestRefused, TargetChanged, TargetNotReady
from headgate.rollouts import recovery
from headgate.rollouts.settlement import Settler
from headgate.rollouts.table import now_iso
from headgate.spec.plan import Plan
from headgate.spec.request import RolloutRequest
from tests.unit.builders import (
    ACCOUNT,
    CONTEXT,
    DRIVER,
    MACHINE,
    ROOT,
    TABLE,
    TARGET,
    TARGET_KEY,
    UNUSABLE_IDS,
    announced,
    end_bake,
    event,
    execution_of,
    history,
    request_of,
    settle,
    start,
    stored_lock,
    stored_rollout,
    unheard,
)
from tests.unit.consuming import ConsumerSqs, SqsService
from tests.unit.queues import Clock, arn
from tests.unit.services import FakeBus, FakeLambda, FakeStepFunctions, Refusal
from tests.unit.test_minutes import FakeCloudWatch
from tests.unit.test_stacks import FakeStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table

SETTINGS = {
    "TABLE": TABLE,
    "RETENTION_DAYS": "90",
    "ROLLOUT_MACHINE": MACHINE,
    "DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters",
    "FIFO_DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters.fifo",
    "UNDELIVERED": "https://sqs.eu-central-1.amazonaws.com/123456789012/undelivered",
    "BUS": "headgate",
    "ACCOUNT": ACCOUNT,
    "TASK_DEFINITIONS": "*",
    "REGISTER_TASK_DEFINITIONS": "false",
    "TASK_CLUSTERS": "*",
    "PARTITION": "aws",
    "TELEMETRY": "true",
    "DRIVERS": json.dumps({"lambda-alias": DRIVER, "event-source": DRIVER.replace("lambda-alias", "event-source")}),
    "HOLDING_PREFIX": "headgate-held-",
    "TARGET_STREAMS": "*",
    "SETTLE_SECONDS": "60",
}
NAMES = sorted(path.parent.name for path in ROOT.glob("functions/*/app.py"))


class Functions:
    """The functions' modules and the clients that they made; a client of each service, shared to save time."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.module = functools.cache(self._load)
        self._make = boto3.client

    def call(self, name: str, payload: Any = None, context: Any = CONTEXT) -> Any:
        """Invoke a function, with the payload in events/ unless another is given."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boto3, "client", self.client)  # A function makes its clients when it first needs them.
            return self.module(name).handler(event(name) if payload is None else payload, context)

    def _load(self, name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"function_{name}", ROOT / "functions" / name / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            for setting, value in SETTINGS.items():
                patch.setenv(setting, value)
            spec.loader.exec_module(module)
        return module

    def client(self, service: str, **settings: Any) -> Any:
        if service not in self.clients:
            self.clients[service] = self._make(service, **settings)
        return self.clients[service]


@pytest.fixture(scope="session")
def deployed(_nobodys_account: None) -> Functions:
    functions = Functions()
    for name in NAMES:
        functions.module(name)
    return functions


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
        plan = event("acquirer")["plan"] | {"guards": request_of(guards=guards).guards.to_wire()}
        deployed.call("acquirer", event("acquirer") | {"request": request, "plan": plan})
        machines.open_tokens.add(event("baker")["token"])
        deployed.call("baker", event("baker") | {"plan": plan, "state": state})
        return event("judge") | {"plan": plan, "state": state}

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


def sent_now(file: str, **detail: Any) -> Any:
    """An event of events/ as if it had come this moment: what is old counts for less."""
    payload = event(file) | {"time": now_iso()}
    payload["detail"] |= detail
    if "state" in payload["detail"]:
        payload["detail"]["state"]["timestamp"] = now_iso()
    return payload


def a_moment_later() -> str:
    """A time after everything that has happened so far."""
    time.sleep(0.002)
    return now_iso()


def an_hour_ago() -> str:
    return (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")


def change_record(dynamodb: Any, rollout_id: str = "checkout-42", **fields: str) -> None:
    """Set fields of a rollout's record behind everybody's back."""
    dynamodb.update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"ROLLOUT#{rollout_id}"}, "sk": {"S": "ROLLOUT"}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in fields),
        ExpressionAttributeNames={f"#{name}": name for name in fields},
        ExpressionAttributeValues={f":{name}": {"S": value} for name, value in fields.items()},
    )


def refuse_to_start(operation: str, _when: str) -> None:
    if operation == "StartExecution":
        raise RuntimeError("throttled")


def record_of(table: Table, rollout_id: str = "checkout-42") -> dict[str, Any]:
    record = stored_rollout(table, rollout_id)
    assert record is not None
    return record


def message(body: str) -> Any:
    """The queue's event with another body."""
    payload = event("intake")
    payload["Records"][0]["body"] = body
    return payload


def outbox(count: int) -> list[dict[str, Any]]:
    """So many records of the table's stream: each an entry whose detail and sequence number are its number."""
    (record,) = event("publisher")["Records"]
    image = record["dynamodb"]["NewImage"]
    return [
        record
        | {
            "dynamodb": record["dynamodb"]
            | {"NewImage": image | {"detail": {"N": str(number)}}, "SequenceNumber": str(number)}
        }
        for number in range(count)
    ]


def of_outbox(detail: Any, number: int) -> dict[str, Any]:
    """A record of the table's stream: an entry with this detail, and a sequence number."""
    (record,) = outbox(1)
    (image,) = to_item({"image": {"detailType": "Step Started", "detail": detail}}).values()
    return record | {"dynamodb": record["dynamodb"] | {"NewImage": image["M"], "SequenceNumber": str(number)}}


def telemetry(
    revision: str,
    *,
    ok: bool,
    requests: int,
    sequence: int,
    took: float = 12.0,
    unit: str | None = None,
    at: int = 1795251604000,
) -> dict[str, Any]:
    """A record of the stream with so many outcomes during the first step."""
    (record,) = event("counter")["Records"]
    outcome = [at, ok, took]
    outcomes = [outcome if unit is None else [*outcome, unit]] * requests
    data = json.dumps({"target": TARGET_KEY, "revision": revision, "outcomes": outcomes})
    changes = {
        "data": base64.b64encode(data.encode()).decode(),
        "sequenceNumber": str(sequence),
        "approximateArrivalTimestamp": max(record["kinesis"]["approximateArrivalTimestamp"], at / 1000),
    }
    return record | {"kinesis": record["kinesis"] | changes}


def test_every_payload_of_a_function_is_of_one_that_is_there() -> None:
    assert sorted(path.stem for path in ROOT.glob("events/functions/*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_function_has_a_payload_to_be_tried_with(name: str) -> None:
    signals = ["rollout_signal", "rollout_signal_abort", "rollout_signal_pause", "rollout_signal_resume"]
    files = {"signaller": [*signals, "cloudwatch_alarm_state_change"]}
    assert all(event(file) for file in files.get(name, [name]))


def test_the_payloads_are_one_story() -> None:
    plan = event("acquirer")["plan"]
    assert all(event(name)["plan"] == plan for name in ("lambda_alias_driver", "baker", "judge", "pauser"))
    assert event("planner")["request"] == event("rollout_requested")["detail"]
    for file in ("intake", "intake_fifo", "sqs_batch"):
        assert json.loads(event(file)["Records"][0]["body"]) == event("rollout_requested")
    assert event("acquirer")["execution"] == event("settler")["execution"] == execution_of("checkout-42")
    assert event("judge")["state"] == event("baker")["state"]
    assert event("warden")["detail"]["executionArn"] == execution_of("checkout-42")
    assert json.loads(event("warden")["detail"]["input"]) == event("acquirer")["request"]
    assert event("rollout_paused")["detail"]["reason"] == event("pauser")["verdict"]["reason"]
    assert event("undo_requested")["detail"]["rolloutId"] == event("rollout_undone")["detail"]["undoOf"]
    image = event("publisher")["Records"][0]["dynamodb"]["NewImage"]
    assert image["detailType"] == {"S": "Rollout Started"}


class TestIntake:
    def test_a_request_for_a_free_target_is_stored_and_started(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        assert deployed.call("intake") == {"batchItemFailures": []}
        request = RolloutRequest.model_validate(event("rollout_requested")["detail"])
        assert list(machines.executions.values()) == [request.to_wire()]
        assert stored_lock(table, TARGET_KEY)["owner"] == "checkout-42"

    def test_a_request_that_comes_twice_runs_once(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("intake")
        machines.ended |= dict.fromkeys(machines.executions, "SUCCEEDED")
        assert deployed.call("intake") == {"batchItemFailures": []}
        assert len(machines.executions) == 1
        assert stored_lock(table, TARGET_KEY)["epoch"] == 1

    def test_a_request_for_a_busy_target_is_stored_in_line_and_not_started(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        assert deployed.call("intake") == {"batchItemFailures": []}
        record = stored_rollout(table, "checkout-42")
        assert record is not None
        assert (record["status"], machines.executions) == ("waiting", {})

    def test_a_request_may_be_sent_to_the_queue_without_an_event_around_it(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        payload = message(json.dumps({"target": TARGET}))
        deployed.call("intake", payload)
        assert stored_lock(table, TARGET_KEY)["owner"] == payload["Records"][0]["messageId"]

    def test_an_events_own_id_serves_where_its_request_has_none(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        envelope = event("rollout_requested")
        del envelope["detail"]["id"]
        deployed.call("intake", message(json.dumps(envelope)))
        assert stored_lock(table, TARGET_KEY)["owner"] == envelope["id"]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("not json", "the message: is not JSON"),
            ("[]", "the request: must be a JSON object with at least a target"),
            ('{"detail-type": "Rollout Requested", "detail": null}', "the request: must be a JSON object"),
            ('{"detail-type": "Rollout Requested", "detail": {"id": 7}}', "id: input should be a valid string"),
            ('{"id": "mine", "target": {}}', "target.kind: is missing; add it"),
        ],
    )
    def test_what_cannot_be_read_is_refused_and_kept_with_the_reason(
        self, table: Table, deployed: Functions, dead_letters: Any, body: str, reason: str
    ) -> None:
        payload = message(body)
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        (kept,) = dead_letters()
        assert kept["Body"] == body
        assert kept["MessageAttributes"]["reason"]["StringValue"].startswith(reason)
        rollout_id = "mine" if '"mine"' in body else payload["Records"][0]["messageId"]
        ((kind, detail),) = announced(table, rollout_id)
        assert (kind, detail["reason"].startswith(reason)) == ("Rollout Refused", True)

    def test_one_bad_message_does_not_hold_up_the_others(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any
    ) -> None:
        payload = event("intake")
        payload["Records"].insert(0, payload["Records"][0] | {"body": "7", "messageId": "bad"})
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        assert len(machines.executions) == len(dead_letters()) == 1

    @pytest.mark.parametrize("body", ['{"target": ', "{'target': 1}", "\ufeff{}", "nul", '{"a": 1} {"b": 2}'])
    def test_malformed_json_is_refused_and_not_tried_again(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any, body: str
    ) -> None:
        payload = message(body)
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        (kept,) = dead_letters()
        assert kept["Body"] == body
        assert kept["MessageAttributes"]["reason"]["StringValue"].startswith("the message: is not JSON: ")
        assert record_of(table, payload["Records"][0]["messageId"])["status"] == "refused"
        assert machines.executions == {}


class TestUndo:
    @pytest.fixture
    def promoted(self, table: Table, running: Plan, deployed: Functions) -> None:
        """The rollout checkout-42 has replaced version 6 by 7."""
        deployed.call("settler")

    def test_it_is_a_rollout_to_what_was_stable_before(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        assert deployed.call("intake", message(json.dumps(event("undo_requested")))) == {"batchItemFailures": []}
        (request,) = machines.executions.values()
        assert (request["id"], request["undoOf"]) == ("undo-checkout-42", "checkout-42")
        assert (request["candidate"], request["strategy"]) == ({"version": "6"}, "AllAtOnce")
        assert stored_lock(table, TARGET_KEY)["owner"] == "undo-checkout-42"

    def test_it_takes_back_the_last_promotion_where_it_names_none(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        wish = event("undo_requested")
        del wish["detail"]["rolloutId"], wish["detail"]["id"]
        deployed.call("intake", message(json.dumps(wish)))
        (request,) = machines.executions.values()
        assert (request["id"], request["undoOf"]) == (wish["id"], "checkout-42")

    def test_what_was_promoted_over_is_not_taken_back(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any
    ) -> None:
        wish = event("undo_requested")
        wish["detail"]["rolloutId"] = "checkout-41"
        deployed.call("intake", message(json.dumps(wish)))
        ((kind, detail),) = announced(table, "undo-checkout-42")
        assert kind == "Rollout Refused"
        assert detail["reason"] == "rolloutId: checkout-41 was not promoted last; checkout-42 was"
        assert (len(dead_letters()), machines.executions) == (1, {})

    @pytest.mark.parametrize(
        ("detail", "reason"),
        [
            ({"target": TARGET}, f"target: nothing was promoted on {TARGET_KEY}, so there is nothing to undo"),
            ({"target": TARGET, "rollout_id": "x"}, "rollout_id: is not a known field; did you mean rolloutId?"),
            ({}, "target: is missing; add it"),
            (None, "the request: must be a JSON object with at least a target"),
        ],
    )
    def test_an_undo_that_cannot_be_is_refused_with_the_reason(
        self, table: Table, deployed: Functions, dead_letters: Any, detail: Any, reason: str
    ) -> None:
        wish = event("undo_requested") | {"detail": detail}
        deployed.call("intake", message(json.dumps(wish)))
        ((_, told),) = announced(table, wish["id"])
        assert told["reason"].startswith(reason)

    def test_its_end_says_what_it_has_taken_back_and_can_itself_be_taken_back(
        self, table: Table, locks: Locks, promoted: None, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("intake", message(json.dumps(event("undo_requested"))))
        state = event("settler")["state"] | {"stable": "7", "candidate": "6"}
        ending = {"rolloutId": "undo-checkout-42", "execution": execution_of("undo-checkout-42"), "verdict": {}}
        deployed.call("settler", event("settler") | ending | {"state": state, "epoch": 2})
        told = dict(announced(table, "undo-checkout-42"))["Rollout Undone"]
        assert told | {"at": ""} == event("rollout_undone")["detail"] | {"at": ""}
        last = locks.last_promoted(TARGET_KEY)
        assert last is not None
        assert (last.id, last.stable) == ("undo-checkout-42", "7")


class TestPlanner:
    @pytest.fixture
    def asked(self, checkout: FakeLambda) -> FakeLambda:
        """The hooks that the request names can be asked."""
        checkout.others = dict.fromkeys(("headgate-smoke-tester", "headgate-version-checker"), dict)
        return checkout

    @pytest.fixture(autouse=True)
    def stacks(self, deployed: Functions) -> Iterator[FakeStacks]:
        """CloudFormation; no stack owns anything."""
        fake = FakeStacks()
        detach = fake.attach(deployed.client("cloudformation"))
        yield fake
        detach()

    def test_it_warns_of_an_alias_that_a_stack_owns(
        self, deployed: Functions, alarm: Any, asked: FakeLambda, stacks: FakeStacks
    ) -> None:
        alarm("OK")
        stacks.owned["arn:aws:lambda:eu-central-1:123456789012:function:checkout:live"] = ("shop", "CheckoutAliaslive")
        plan = deployed.call("planner")["plan"]
        warning = (
            "target.alias: checkout:live is resource CheckoutAliaslive of the CloudFormation stack shop, and deploying "
            "that stack may move it; create the alias outside the stack, or as AWS::Lambda::Alias with a literal "
            "FunctionVersion, and use neither AutoPublishAlias nor DeploymentPreference for it"
        )
        assert plan["warnings"] == [warning]
        assert plan | {"warnings": []} == event("acquirer")["plan"]

    @pytest.mark.parametrize(
        "failure",
        [Refusal("AccessDenied"), Refusal("Throttling", "Rate exceeded"), ConnectTimeoutError(endpoint_url="there")],
    )
    def test_a_look_that_fails_costs_a_warning_and_not_the_rollout(
        self, deployed: Functions, alarm: Any, asked: FakeLambda, stacks: FakeStacks, failure: Exception
    ) -> None:
        alarm("OK")
        stacks.failure = failure
        assert deployed.call("planner")["plan"] == event("acquirer")["plan"]
        assert stacks.asked == 1  # It is not tried again: nobody waits for it.

    def test_it_refuses_a_hook_that_does_not_exist(self, deployed: Functions, alarm: Any, asked: FakeLambda) -> None:
        alarm("OK")
        del asked.others["headgate-version-checker"]
        with pytest.raises(RequestRefused, match=r"hooks\.\w+\[0\]\.lambda: headgate-version-checker cannot be called"):
            deployed.call("planner")

    @pytest.mark.parametrize("then", ["rollback", "promote"])
    def test_it_notes_what_becomes_of_a_failure(self, deployed: Functions, then: str) -> None:
        wish = {"pause": {"at": "zero", "limitSeconds": 60, "then": then}}
        payload = {"request": {"target": TARGET, "onFailure": wish}, "executionName": "by-hand"}
        plan = deployed.call("planner", payload)["plan"]
        assert (plan["pausesOnFailure"], plan["pause"]) == (True, wish["pause"])

    def test_it_works_the_request_out(self, deployed: Functions, alarm: Any, asked: FakeLambda) -> None:
        alarm("OK")
        expected = {name: event("acquirer")[name] for name in ("request", "plan")}
        assert deployed.call("planner") == expected

    def test_it_notes_the_alarms_that_fire_already(self, deployed: Functions, alarm: Any, asked: FakeLambda) -> None:
        alarm("ALARM")
        assert deployed.call("planner")["plan"]["firing"] == ["checkout-errors"]

    def test_it_refuses_a_firing_alarm_where_alarms_are_strict(
        self, deployed: Functions, alarm: Any, asked: FakeLambda
    ) -> None:
        alarm("ALARM")
        payload = event("planner")
        payload["request"]["guards"]["strictAlarms"] = True
        with pytest.raises(RequestRefused, match=r"guards\.alarms: checkout-errors fires already"):
            deployed.call("planner", payload)

    def test_it_refuses_an_alarm_that_does_not_exist(self, aws: None, deployed: Functions, asked: FakeLambda) -> None:
        with pytest.raises(RequestRefused, match=r"guards\.alarms: no alarm is named checkout-errors"):
            deployed.call("planner")

    @pytest.mark.parametrize("where", ["eu-central-1:999999999999", "us-east-1:123456789012"])
    def test_it_refuses_a_target_elsewhere(self, deployed: Functions, where: str) -> None:
        target = TARGET | {"function": f"arn:aws:lambda:{where}:function:checkout"}
        with pytest.raises(RequestRefused, match="this Headgate serves 123456789012, eu-central-1"):
            deployed.call("planner", {"request": {"target": target}, "executionName": "e-1"})

    def test_it_refuses_a_target_of_another_partition(self, deployed: Functions) -> None:
        target = TARGET | {"function": "arn:aws-cn:lambda:eu-central-1:123456789012:function:checkout"}
        with pytest.raises(RequestRefused, match=r"target\.function: is in partition aws-cn; this Headgate"):
            deployed.call("planner", {"request": {"target": target}, "executionName": "e-1"})

    def test_it_refuses_to_compare_errors_without_telemetry(
        self, deployed: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployed.module("planner").planner, "telemetry", False)
        with pytest.raises(RequestRefused, match=r"guards\.errors: .* set the stack's parameter Telemetry to true"):
            deployed.call("planner")

    @pytest.mark.parametrize(("source", "mode"), [(arn("orders"), "split"), (arn("orders.fifo"), "ramp")])
    def test_it_finds_the_alias_and_the_mode_of_a_consumer(
        self, deployed: Functions, asked: FakeLambda, source: str, mode: str
    ) -> None:
        mapping = asked.map(time.time, source)
        target = {"kind": "event-source", "mapping": mapping.uuid}
        guards = {"source": {"deadLetters": 0}}
        answer = deployed.call("planner", {"request": {"target": target, "guards": guards}, "executionName": "e-1"})
        plan = Plan.model_validate(answer["plan"])
        assert (plan.target.to_wire(), plan.alias.key) == (target | {"mode": mode}, TARGET_KEY)
        assert plan.driver.endswith("event-source-driver")
        # What was asked for stays as it was: the same request again is a duplicate.
        assert answer["request"]["target"] == target

    def test_it_refuses_a_guard_that_a_consumer_gives_no_evidence_for(
        self, deployed: Functions, asked: FakeLambda
    ) -> None:
        target = {"kind": "event-source", "mapping": asked.map(time.time, arn("orders")).uuid, "mode": "ramp"}
        payload = {"request": {"target": target, "guards": {"errors": {}}}, "executionName": "e-1"}
        with pytest.raises(RequestRefused, match=r"guards\.errors: compares both versions, and in a ramp"):
            deployed.call("planner", payload)

    def test_it_refuses_limits_of_a_source_for_an_alias(self, deployed: Functions, asked: FakeLambda) -> None:
        payload = {"request": {"target": TARGET, "guards": {"source": {"deadLetters": 0}}}, "executionName": "e-1"}
        with pytest.raises(
            RequestRefused, match=r"guards\.source: is only for targets of kind event-source, not lambda-alias"
        ):
            deployed.call("planner", payload)

    def test_the_executions_name_serves_as_id_where_the_request_has_none(self, deployed: Functions) -> None:
        answer = deployed.call("planner", {"request": {"target": TARGET}, "executionName": "by-hand"})
        assert answer["plan"]["rolloutId"] == answer["request"]["id"] == "by-hand"


class TestAcquirer:
    def test_it_takes_the_lock_and_begins(self, table: Table, deployed: Functions) -> None:
        held = {"lock": "held", "epoch": 1, "reason": ""}
        assert [deployed.call("acquirer"), deployed.call("acquirer")] == [held, held]
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]

    def test_it_waits_its_turn_and_begins_when_it_comes(self, table: Table, locks: Locks, deployed: Functions) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        assert deployed.call("acquirer")["lock"] == "waits"
        Settler(table).settle("before", execution_of("before"), "succeeded", {"reason": ""})
        # Its first execution has ended in line; it runs in one of its own.
        payload = event("acquirer") | {"execution": f"{execution_of('checkout-42')}-2"}
        assert deployed.call("acquirer", payload) == {"lock": "held", "epoch": 2, "reason": ""}
        assert deployed.call("acquirer")["lock"] == "duplicate"


class TestEventSourceDriver:
    def test_it_holds_what_fails_shifts_and_goes_back(
        self,
        table: Table,
        locks: Locks,
        steps: Steps,
        deployed: Functions,
        checkout: FakeLambda,
        request: pytest.FixtureRequest,
    ) -> None:
        # GIVEN the rollout of a consumer that has begun
        payload = event("event_source_driver")
        plan = Plan.model_validate(payload["plan"])
        locks.admit(request_of(target=payload["target"]), execution_of("checkout-42"))
        locks.begin(plan, execution_of("checkout-42"), 1)
        sqs = ConsumerSqs(Clock())
        sqs.queue("orders-dead")
        sqs.queue("orders", "orders-dead")
        checkout.map(time.time, arn("orders"), BatchSize=10)
        request.addfinalizer(SqsService(sqs).attach(deployed.client("sqs")))
        # WHEN its driver prepares it, which takes some calls, shifts, and rolls it back
        for why in ("is to hold what fails", "is to stand in", "stands in everywhere in "):
            with pytest.raises(TargetNotReady, match=why):
                deployed.call("event_source_driver", payload)
            assert record_of(table)["underway"]
        held = record_of(table)["state"]
        held["holding"]["placedAt"] -= 60
        steps.keep_state("checkout-42", held, underway=True)
        payload |= deployed.call("event_source_driver", payload)
        assert sqs.queues["orders"].dead_letters == payload["state"]["holding"]["name"]
        payload |= deployed.call("event_source_driver", payload | {"action": "shift", "weight": 10})
        payload |= deployed.call("event_source_driver", payload | {"action": "rollback"})
        # THEN the alias has moved and is back, and the queue is still to be let go of
        assert checkout.updates == [{"7": 0.1}, {}]
        assert payload["state"]["toRelease"]
        assert record_of(table)["state"] == payload["state"]


class TestLambdaAliasDriver:
    def test_it_shifts(self, running: Plan, deployed: Functions, checkout: FakeLambda) -> None:
        state = deployed.call("lambda_alias_driver")["state"]
        assert checkout.serves() == ("6", {"7": 0.1})
        assert (state["weight"], state["revisionId"]) == (10.0, checkout.aliases["live"]["RevisionId"])

    def test_it_carries_a_rollout_through(self, running: Plan, deployed: Functions, checkout: FakeLambda) -> None:
        payload = event("lambda_alias_driver") | {"state": {}}
        for action in ("prepare", "shift", "promote", "rollback"):
            payload |= deployed.call("lambda_alias_driver", payload | {"action": action})
        assert checkout.serves() == ("6", {})
        assert checkout.updates == [{"7": 0.1}, {}, {}]

    def test_it_releases_what_the_replaced_version_holds(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.provision("6", 5)
        checkout.point("live", "7")
        payload = event("lambda_alias_driver")
        payload["state"]["provisioned"] = 5
        assert deployed.call("lambda_alias_driver", payload | {"action": "release"})["state"] == payload["state"]
        assert checkout.provisioned == {}

    def test_it_notes_what_it_is_about_to_do_and_what_it_has_done(
        self, table: Table, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        phases = []
        payload = event("lambda_alias_driver") | {"state": {}}
        for action in ("prepare", "shift", "promote", "rollback"):
            payload |= deployed.call("lambda_alias_driver", payload | {"action": action})
            record = record_of(table)
            assert record["state"] == payload["state"]
            phases.append((record["phase"], record.get("aim")))
        assert phases == [("preparing", None), ("shifting", 10), ("promoting", -1), ("rolling-back", -1)]

    def test_what_it_published_is_not_published_again_when_it_was_not_ready(
        self, table: Table, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN a version that Lambda has published and not made active yet
        payload = event("lambda_alias_driver") | {"action": "prepare", "state": {}}
        payload["plan"]["candidate"] = {"publish": {}}
        checkout.publish(State="Pending")
        with pytest.raises(TargetNotReady):
            deployed.call("lambda_alias_driver", payload)
        assert record_of(table)["state"]["candidate"] == "8"
        # WHEN the machine asks again and $LATEST has moved on, THEN it is the same version
        checkout.versions["8"]["State"] = "Active"
        checkout.code = "newer"
        assert deployed.call("lambda_alias_driver", payload)["state"]["candidate"] == "8"
        assert "9" not in checkout.versions

    def test_a_rollback_without_a_state_finds_it_on_record(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        deployed.call("lambda_alias_driver")
        payload = event("lambda_alias_driver") | {"action": "rollback", "state": {}}
        assert deployed.call("lambda_alias_driver", payload)["state"]["weight"] == 0
        assert checkout.serves() == ("6", {})

    @pytest.mark.parametrize("action", ["prepare", "shift", "promote", "release"])
    def test_it_goes_no_further_once_somebody_said_abort(
        self, running: Plan, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions, action: str
    ) -> None:
        deployed.call("signaller", event("rollout_signal_abort"))
        with pytest.raises(Aborted, match="aborted by kim: wrong release"):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": action})
        assert checkout.updates == []
        deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "rollback"})

    def test_it_does_not_promote_what_an_alarm_has_just_spoken_against(
        self, running: Plan, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        with pytest.raises(Aborted, match="alarm checkout-errors fired: Threshold Crossed"):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "promote"})
        assert checkout.updates == []

    def test_it_describes(self, deployed: Functions, checkout: FakeLambda) -> None:
        answer = deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "describe"})
        assert (answer["state"]["version"], answer["state"]["weights"]) == ("6", {})

    def test_it_has_nothing_to_roll_back_before_anything_was_prepared(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        payload = event("lambda_alias_driver") | {"action": "rollback", "state": {}}
        assert deployed.call("lambda_alias_driver", payload) == {"state": {"stable": "6"}}
        assert checkout.updates == []

    def test_it_does_nothing_for_a_rollout_without_the_lock(
        self, table: Table, deployed: Functions, checkout: FakeLambda
    ) -> None:
        with pytest.raises(LockLost, match="no longer owns lambda-alias/checkout/live"):
            deployed.call("lambda_alias_driver")
        assert checkout.updates == []

    def test_it_refuses_an_action_that_it_does_not_know(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        with pytest.raises(ValueError, match="action: 'dance' is none of describe, prepare, shift, promote"):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "dance"})


class TestBaker:
    def test_it_leaves_the_token_and_opens_the_evidence(
        self, table: Table, baking: str, machines: FakeStepFunctions, ledgers: LedgerStore
    ) -> None:
        record, ledger = record_of(table), ledgers.read("checkout-42")
        assert ledger is not None
        assert (record["token"], record["step"], machines.woken) == (baking, 0, {})
        assert (ledger.candidate, ledger.stable, ledger.since) == ("7", "6", {0: event("baker")["state"]["shiftedAt"]})

    @pytest.mark.parametrize(
        ("guards", "slow_ms", "by_telemetry"),
        [
            ({"errors": {}}, None, True),
            ({"latency": {"thresholdMs": 250.5}}, 250.5, True),
            ({"errors": {}, "evidence": "cloudwatch"}, None, False),
        ],
    )
    def test_the_evidence_knows_what_the_counter_has_to_count(
        self, guarded: Any, ledgers: LedgerStore, guards: dict[str, Any], slow_ms: float | None, by_telemetry: bool
    ) -> None:
        guarded(**guards)
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert (ledger.slow_ms, ledger.by_telemetry) == (slow_ms, by_telemetry)

    def test_a_signal_that_came_before_ends_the_bake_at_once(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", event("rollout_signal_abort"))
        machines.open_tokens.add(event("baker")["token"])
        deployed.call("baker")
        ((_, output),) = machines.woken.items()
        assert (output["signal"], output["by"]) == ("abort", "kim")

    def test_a_promote_for_an_earlier_step_does_not(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions, alarm: Any
    ) -> None:
        alarm("OK")
        deployed.call("signaller", sent_now("rollout_signal"))
        payload = event("baker") | {"step": 1}
        payload["plan"]["steps"].append({"weight": 50.0, "bakeSeconds": 60})
        machines.open_tokens.add(payload["token"])
        deployed.call("baker", payload)
        assert machines.woken == {}

    @pytest.mark.parametrize(
        ("state", "fired_before", "woken"),
        [("OK", [], False), ("ALARM", [], True), ("ALARM", ["checkout-errors"], False)],
    )
    def test_an_alarm_that_fired_before_its_name_was_on_record_ends_the_bake_at_once(
        self,
        running: Plan,
        deployed: Functions,
        machines: FakeStepFunctions,
        alarm: Any,
        state: str,
        fired_before: list[str],
        woken: bool,
    ) -> None:
        alarm(state)
        payload = event("baker")
        payload["plan"]["firing"] = fired_before
        machines.open_tokens.add(payload["token"])
        deployed.call("baker", payload)
        assert list(machines.woken.values()) == [{"signal": "alarm", "by": "checkout-errors"}] * woken


class TestPauser:
    def test_it_leaves_the_token_and_says_that_the_rollout_waits(
        self, table: Table, paused: str, machines: FakeStepFunctions
    ) -> None:
        record = record_of(table)
        assert (record["token"], record["phase"], machines.woken) == (paused, "paused", {})
        told = dict(announced(table, "checkout-42"))["Rollout Paused"]
        example = event("rollout_paused")["detail"]
        assert told | {"at": ""} == example | {"at": ""}

    @pytest.mark.parametrize(
        ("signal", "ends_it"),
        [("abort", True), ("promote-fully", True), ("promote", False), ("pause", False)],
    )
    def test_what_was_said_before_ends_it_only_if_it_leaves_no_doubt(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions, signal: str, ends_it: bool
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal", signal=signal))
        machines.open_tokens.add(event("pauser")["token"])
        deployed.call("pauser")
        assert [output["signal"] for output in machines.woken.values()] == [signal] * ends_it

    def test_a_rollout_without_the_lock_does_not_wait(self, locks: Locks, deployed: Functions) -> None:
        request = RolloutRequest.model_validate(event("acquirer")["request"])
        locks.admit(request, execution_of("checkout-42"))
        with pytest.raises(LockLost):
            deployed.call("pauser", event("pauser") | {"epoch": 2})


class TestJudge:
    def test_a_healthy_bake_goes_on(
        self, table: Table, baking: str, deployed: Functions, ledgers: LedgerStore, alarm: Any
    ) -> None:
        deployed.call("counter", {"Records": [telemetry("7", ok=True, requests=50, sequence=1)]})
        deployed.call("counter", {"Records": [telemetry("6", ok=True, requests=450, sequence=2)]})
        verdict = deployed.call("judge")
        assert (verdict["outcome"], verdict["next"], verdict["step"]) == ("promote", "promote", 1)
        assert verdict["reason"] == "0 of 50 candidate requests failed against 0 of 450; evidence 1 < 100"
        assert [kind for kind, _ in announced(table, "checkout-42")][1:] == [
            "Step Baked",
            "Step Started",
            "Verdict Reached",
        ]

    def test_its_verdict_stands_when_it_is_asked_again(self, baking: str, deployed: Functions, alarm: Any) -> None:
        first = deployed.call("judge")
        alarm("ALARM")
        assert deployed.call("judge") == first
        assert first["outcome"] == "inconclusive"

    def test_an_alarm_that_fires_rolls_back(self, baking: str, deployed: Functions, alarm: Any) -> None:
        alarm("ALARM")
        verdict = deployed.call("judge")
        assert (verdict["outcome"], verdict["reason"]) == ("roll-back", "alarm checkout-errors fired")

    def test_an_alarm_that_fired_before_counts_only_after_it_has_recovered(
        self, baking: str, deployed: Functions, alarm: Any, dynamodb: Any
    ) -> None:
        alarm("ALARM")
        payload = event("judge")
        payload["plan"]["firing"] = ["checkout-errors"]
        change_record(dynamodb, startedAt=a_moment_later())
        assert deployed.call("judge", payload)["outcome"] == "inconclusive"
        change_record(dynamodb, startedAt=an_hour_ago())
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "roll-back"

    def test_after_a_pause_what_fired_in_it_counts_only_after_it_has_recovered(
        self, paused: str, deployed: Functions, alarm: Any, dynamodb: Any
    ) -> None:
        # GIVEN a pause that is resumed while an alarm fires
        alarm("ALARM")
        deployed.call("signaller", event("rollout_signal_resume"))
        payload = event("judge")
        assert deployed.call("judge", payload | {"pause": 1, "failed": False, "bake": 1})["next"] == "shift"
        # WHEN the next bake is judged, THEN it counts once it has recovered in between
        change_record(dynamodb, watchedSince=a_moment_later())
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "inconclusive"
        change_record(dynamodb, watchedSince=an_hour_ago())
        assert deployed.call("judge", payload | {"bake": 2})["outcome"] == "roll-back"

    def test_resuming_starts_from_a_clean_slate(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions, ledgers: LedgerStore
    ) -> None:
        # GIVEN evidence that ended a bake, and a pause for it
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        deployed.call("counter", {"Records": records})
        payload = event("judge")
        payload["plan"] |= {"pausesOnFailure": True}
        verdict = deployed.call("judge", payload)
        assert (verdict["outcome"], verdict["next"], verdict["failed"]) == ("roll-back", "pause", True)
        deployed.call("pauser", event("pauser") | {"verdict": verdict})
        # WHEN an operator resumes it
        deployed.call("signaller", event("rollout_signal_resume"))
        ended = deployed.call("judge", payload | {"pause": 1, "failed": True, "bake": verdict["bake"]})
        assert (ended["next"], ended["step"], ended["bake"]) == ("shift", 0, 1)
        assert ended["reason"] == "resumed by kim: the logs are clean"
        # THEN nothing is held against the candidate any more, and the next time it is a signal of its own
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert (ledger.standing("errors").evidence, ledger.restarts) == (Evidence(), 1)
        late = [telemetry("6", ok=True, requests=90, sequence=3), telemetry("7", ok=False, requests=10, sequence=4)]
        deployed.call("counter", {"Records": late})
        assert list(record_of(table)["signals"]) == ["evidence-0", event("rollout_signal_resume")["id"]]
        at = now_ms() + 1000
        records = [
            telemetry("6", ok=True, requests=90, sequence=5, at=at),
            telemetry("7", ok=False, requests=10, sequence=6, at=at),
        ]
        deployed.call("counter", {"Records": records})
        assert "evidence-1" in record_of(table)["signals"]

    def test_a_pauses_verdict_stands_when_it_is_asked_again(
        self, paused: str, deployed: Functions, alarm: Any, table: Table
    ) -> None:
        alarm("OK")
        payload = event("judge") | {"pause": 1, "failed": False, "bake": 1}
        first = deployed.call("judge", payload)
        assert (first["outcome"], first["reason"]) == ("roll-back", "no operator decided within 86400 s")
        deployed.call("signaller", event("rollout_signal_abort"))
        assert deployed.call("judge", payload) == first

    def test_a_step_that_does_not_bake_begins_to_count_when_it_is_judged(
        self, running: Plan, deployed: Functions, alarm: Any, ledgers: LedgerStore
    ) -> None:
        alarm("OK")
        payload = event("judge")
        payload["plan"]["steps"] = [{"weight": 10.0, "bakeSeconds": 0}]
        assert deployed.call("judge", payload)["next"] == "promote"
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.since == {0: payload["state"]["shiftedAt"]}

    def test_it_looks_at_the_last_counts_before_it_judges(self, baking: str, deployed: Functions, alarm: Any) -> None:
        records = [
            telemetry("6", ok=True, requests=40, sequence=1),
            telemetry("7", ok=False, requests=4, sequence=2),
        ]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge")
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("4 of 4 candidate requests failed against 0 of 40")

    def test_it_looks_also_at_what_is_too_little_for_the_counter_to_look_at(
        self, baking: str, deployed: Functions, ledgers: LedgerStore
    ) -> None:
        records = [telemetry("6", ok=True, requests=40, sequence=1), telemetry("7", ok=False, requests=1, sequence=2)]
        deployed.call("counter", {"Records": records})
        before = ledgers.read("checkout-42")
        assert before is not None
        assert before.standings == {}
        deployed.call("judge")
        after = ledgers.read("checkout-42")
        assert after is not None
        assert after.standing("errors").evidence.value > 1

    def test_slow_requests_are_reason_enough(self, guarded: Any, table: Table, deployed: Functions) -> None:
        payload = guarded(errors={}, latency={"thresholdMs": 100})
        records = [
            telemetry("6", ok=True, requests=90, sequence=1),
            telemetry("7", ok=True, requests=20, sequence=2, took=250.0),
        ]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge", payload)
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("20 of 20 candidate requests took more than 100 ms against 0 of 90; ")
        baked = dict(announced(table, "checkout-42"))["Step Baked"]
        assert baked["endedBy"] == "evidence"
        failures = {told["measure"]: told["candidate"]["failures"] for told in baked["evidence"]["measures"]}
        assert failures == {"errors": 0, "latency": 20}

    def test_a_candidate_that_is_good_enough_is_promoted_early(
        self, guarded: Any, table: Table, deployed: Functions
    ) -> None:
        payload = guarded(errors={}, promoteEarly={"worse": 1.0, "beta": 0.05})
        payload["plan"]["steps"].append({"weight": 50.0, "bakeSeconds": 60})
        records = [telemetry("6", ok=False, requests=90, sequence=1), telemetry("7", ok=True, requests=90, sequence=2)]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge", payload)
        assert (verdict["outcome"], verdict["next"], verdict["step"]) == ("promote", "promote", 2)
        assert verdict["reason"] == (
            "0 of 90 candidate requests failed against 90 of 90; a candidate 2 times as bad is ruled out at 0.05"
        )
        assert dict(announced(table, "checkout-42"))["Step Baked"]["endedBy"] == "promote-early"

    def test_what_cloudwatch_has_by_now_is_looked_at_once(
        self, guarded: Any, deployed: Functions, ledgers: LedgerStore
    ) -> None:
        # GIVEN a bake of which CloudWatch has told nothing yet
        minute = (int(time.time()) // 60 - 5) * 60_000
        payload = guarded(shifted_at=minute - 60_000, errors={}, evidence="cloudwatch")
        points = {("Invocations", "7"): 50.0, ("Errors", "7"): 25.0, ("Invocations", "6"): 450.0}
        cloudwatch = FakeCloudWatch()
        cloudwatch.values |= {key: {minute: value} for key, value in points.items()}
        detach = cloudwatch.attach(deployed.client("cloudwatch"))
        # WHEN the bake is judged, THEN its counts decide
        try:
            verdict = deployed.call("judge", payload)
        finally:
            detach()
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("25 of 50 candidate requests failed against 0 of 450; evidence ")
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert list(ledger.minutes) == [f"{minute // 60_000}/errors"]


CUT_OFF = json.dumps(
    {"Cause": 'hook smoke failed: {"Cause":"no"}', "Error": "HookFailed", "Input": json.dumps({"Cause": "x" * 40_000})}
)[:32_768]


class TestSettler:
    def test_it_ends_the_rollout(self, table: Table, running: Plan, deployed: Functions) -> None:
        answer = deployed.call("settler")
        record = stored_rollout(table, "checkout-42")
        assert record is not None
        assert answer == {"outcome": "succeeded", "reason": record["reason"], "serving": "7"}
        assert (record["status"], record["serving"], record["stable"]) == ("succeeded", "7", "6")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_it_starts_the_next_in_line_once(
        self, locks: Locks, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("next"), execution_of("next"))
        assert deployed.call("settler") == deployed.call("settler")
        assert [request["id"] for request in machines.executions.values()] == ["next"]
        # Under a name of its own: the plain one may be that of an execution which went into line, and has ended.
        assert list(machines.executions) == [f"{execution_name('next')}-2"]

    def test_it_does_not_count_as_succeeded_what_somebody_has_objected_to(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # GIVEN an abort after the last verdict, when nobody looks any more
        deployed.call("signaller", event("rollout_signal_abort"))
        # WHEN the rollout settles, THEN it is told, and has not ended
        assert deployed.call("settler") == {"outcome": "objected", "reason": "aborted by kim: wrong release"}
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]
        # AND settles as rolled back once it is
        assert deployed.call("settler", event("settler") | {"outcome": "rolled-back"})["outcome"] == "rolled-back"

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            ({"Error": "TargetChanged", "Cause": '{"errorMessage": "moved by somebody"}'}, "moved by somebody"),
            ({"Error": "States.TaskFailed", "Cause": '{"Error": "HookFailed", "Cause": "it said no"}'}, "it said no"),
            ({"Error": "States.Timeout"}, "States.Timeout"),
            ({"Error": "X", "Cause": "not json"}, "not json"),
            ({"Error": "X", "Cause": "[1]"}, "[1]"),
            # A child's cause ends with its input, and is cut off when that is long.
            ({"Error": "States.TaskFailed", "Cause": CUT_OFF}, 'hook smoke failed: {"Cause":"no"}'),
            ({"Error": "X", "Cause": "x" * 30_000}, "x" * 4000),
        ],
    )
    def test_it_says_what_went_wrong(
        self, running: Plan, deployed: Functions, failure: dict[str, str], reason: str
    ) -> None:
        answer = deployed.call("settler", event("settler") | {"failure": failure, "outcome": "stopped"})
        assert answer == {"outcome": "stopped", "reason": reason, "serving": None}

    @pytest.mark.parametrize("impossible", UNUSABLE_IDS)
    def test_a_request_with_an_id_that_no_record_can_have_is_refused_under_its_executions_name(
        self, table: Table, deployed: Functions, impossible: Any
    ) -> None:
        execution = f"{MACHINE.replace(':stateMachine:', ':execution:')}:by-hand"
        refused = {"state": {}, "verdict": {}, "failure": {"Error": "RequestRefused", "Cause": "id: is no id"}}
        call = event("settler") | refused | {"rolloutId": impossible, "execution": execution, "outcome": "refused"}
        for _ in range(2):
            assert deployed.call("settler", call | {"epoch": 0})["outcome"] == "refused"
        ((kind, detail),) = announced(table, "by-hand")
        assert (kind, detail["rolloutId"], detail["reason"]) == ("Rollout Refused", "by-hand", "id: is no id")

    def test_a_reason_that_is_no_text_for_the_table_does_not_keep_a_rollout_from_its_end(
        self, table: Table, running: Plan, deployed: Functions
    ) -> None:
        failure = {"Error": "X", "Cause": '{"errorMessage": "\\ud800 and \\ud83d\\ude00"}'}
        deployed.call("settler", event("settler") | {"failure": failure, "outcome": "stopped"})
        assert record_of(table)["reason"] == "? and \U0001f600"

    def test_an_execution_whose_lock_was_taken_over_ends_nothing(
        self, table: Table, locks: Locks, running: Plan, deployed: Functions
    ) -> None:
        # GIVEN a warden at work on a rollout whose execution somebody has redriven
        record = table.rollout("checkout-42")
        assert record is not None
        Settler(table).take_over(record)
        with pytest.raises(LockLost, match="taken over"):
            deployed.call("settler")
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")

    def test_an_execution_of_a_definition_that_tells_no_epoch_ends_as_before(
        self, table: Table, running: Plan, deployed: Functions
    ) -> None:
        payload = event("settler")
        del payload["epoch"]
        deployed.call("settler", payload)
        assert record_of(table)["status"] == "succeeded"

    def test_a_request_that_could_not_be_planned_ends_as_refused(self, table: Table, deployed: Functions) -> None:
        nothing = {"state": {}, "verdict": {}, "failure": {"Error": "RequestRefused", "Cause": "no target"}}
        deployed.call("settler", event("settler") | nothing | {"outcome": "refused"})
        ((kind, detail),) = announced(table, "checkout-42")
        assert (kind, detail["reason"]) == ("Rollout Refused", "no target")


class TestWarden:
    @pytest.fixture(autouse=True)
    def _one_call_a_sweep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recovery, "RECOVERY_SECONDS", 0)

    @pytest.fixture
    def told(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[float]]:
        """Reads the metric of UnsettledAlarm as CloudWatch does, from the log."""
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "headgate")

        def values() -> list[float]:
            lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
            for line in lines:
                (directive,) = line["_aws"]["CloudWatchMetrics"]
                assert directive["Namespace"] == "Headgate"
                assert directive["Dimensions"] == [["FunctionName", "service"]]
                assert directive["Metrics"] == [{"Name": "UnsettledSeconds", "Unit": "Seconds"}]
                assert (line["FunctionName"], line["service"]) == (CONTEXT.function_name, "headgate")
            return [value for line in lines for value in line["UnsettledSeconds"]]

        return values

    @pytest.fixture
    def dead(
        self, table: Table, running: Plan, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions
    ) -> str:
        """The name of the execution of checkout-42, which was aborted at 10 %; its driver can be invoked."""
        checkout.others[DRIVER] = lambda payload: deployed.call("lambda_alias_driver", payload)
        deployed.call("lambda_alias_driver")
        name = execution_of("checkout-42").rsplit(":", 1)[-1]
        machines.ended[name] = "ABORTED"
        return name

    @pytest.mark.parametrize("payload", [None, {"detail-type": "Scheduled Event", "source": "aws.events"}])
    def test_a_dead_executions_target_is_put_back_and_its_record_closed(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda, payload: Any
    ) -> None:
        assert checkout.serves() == ("6", {"7": 0.1})
        deployed.call("warden", payload)
        record = record_of(table)
        assert checkout.serves() == ("6", {})
        assert (record["status"], record["serving"], record["candidate"]) == ("rolled-back", "6", "7")
        assert record["reason"] == "its execution ended as ABORTED and left it unfinished"
        assert "owner" not in stored_lock(table, TARGET_KEY)
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Rolled Back", "Rollout Started"]

    def test_what_was_released_after_the_promotion_comes_back(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN a rollout that has promoted its candidate, released what the stable version held, and died
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        payload = event("lambda_alias_driver") | {"state": record_of(table)["state"] | {"provisioned": 5}}
        for action in ("promote", "release"):
            payload |= deployed.call("lambda_alias_driver", payload | {"action": action})
        assert (checkout.serves(), list(checkout.provisioned)) == (("7", {}), ["7"])
        # WHEN the warden rolls it back
        deployed.call("warden")
        # THEN the stable version serves, with what it held
        assert (checkout.serves(), list(checkout.provisioned)) == (("6", {}), ["6"])
        assert record_of(table)["status"] == "rolled-back"

    def test_looking_again_changes_nothing(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        deployed.call("warden")
        before, updates = history(table, "checkout-42"), list(checkout.updates)
        deployed.call("warden")
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (history(table, "checkout-42"), checkout.updates) == (before, updates)

    def test_the_dead_execution_can_do_no_more_harm(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        deployed.call("warden")
        for action in ("shift", "promote", "rollback"):
            with pytest.raises(LockLost):
                deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": action})
        assert checkout.serves() == ("6", {})

    @pytest.mark.parametrize("payload", [None, {"detail-type": "Scheduled Event"}])
    def test_what_runs_is_left_alone(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, payload: Any
    ) -> None:
        machines.executions[execution_of("checkout-42").rsplit(":", 1)[-1]] = {}
        before = history(table, "checkout-42"), stored_lock(table, TARGET_KEY)
        deployed.call("warden", payload)
        assert (history(table, "checkout-42"), stored_lock(table, TARGET_KEY)) == before

    def test_what_was_accepted_and_never_began_is_started(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # GIVEN an intake that died between its two writes
        request = RolloutRequest.model_validate(event("acquirer")["request"])
        locks.admit(request, execution_of("checkout-42"))
        for _ in range(2):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert machines.executions == {execution_of("checkout-42").rsplit(":", 1)[-1]: request.to_wire()}
        assert record_of(table)["status"] == "accepted"

    def test_what_died_before_it_touched_anything_is_refused(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, checkout: FakeLambda
    ) -> None:
        machines.ended[execution_of("checkout-42").rsplit(":", 1)[-1]] = "FAILED"
        deployed.call("warden")
        record = record_of(table)
        assert (record["status"], checkout.updates) == ("refused", [])
        assert record["reason"].endswith("ended as FAILED and left it unfinished; nothing was moved")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_a_target_that_somebody_else_has_moved_is_left_as_found(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.point("live", "3")
        deployed.call("warden")
        record = record_of(table)
        assert checkout.serves() == ("3", {})
        assert (record["status"], "serving" in record) == ("stopped", False)
        assert record["reason"].endswith("it serves version 3; it is left as found")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_what_waits_in_line_is_started(
        self, table: Table, locks: Locks, dead: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("next"), execution_of("next"))
        deployed.call("warden")
        assert [request["id"] for request in machines.executions.values()] == ["next"]
        assert stored_lock(table, TARGET_KEY)["owner"] == "next"

    def test_a_driver_that_cannot_roll_back_leaves_the_lock_to_the_next_sweep(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        honest, checkout.others[DRIVER] = checkout.others[DRIVER], lambda _: RuntimeError("throttled")
        with pytest.raises(ExceptionGroup, match="the next sweep tries again: throttled"):
            deployed.call("warden")
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")
        checkout.others[DRIVER] = honest
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (record_of(table)["status"], checkout.serves()) == ("rolled-back", ("6", {}))

    @pytest.mark.parametrize("payload", [None, {"detail-type": "Scheduled Event"}])
    def test_a_target_that_is_not_back_yet_is_no_failure_and_the_next_sweep_goes_on(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda, payload: Any
    ) -> None:
        # GIVEN a driver that has begun to roll back, and needs longer than a call
        honest = checkout.others[DRIVER]
        checkout.others[DRIVER] = lambda _: TargetNotReady("headgate-held-1: 300 messages have been returned so far")
        # WHEN the warden comes, THEN nothing fails that Lambda would try again, and nothing is closed
        deployed.call("warden", payload)
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]
        # AND the next sweep does the rest
        checkout.others[DRIVER] = honest
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (record_of(table)["status"], checkout.serves()) == ("rolled-back", ("6", {}))

    @pytest.mark.parametrize("failure", [TargetNotReady("3 messages in flight"), RuntimeError("throttled")])
    def test_a_rollout_that_it_cannot_settle_is_told_by_how_long_nobody_has_carried_it_out(
        self, dead: str, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions, told: Any, failure: Any
    ) -> None:
        # GIVEN an execution that has been dead for 31 minutes, and a target that does not come back
        machines.ended_at -= timedelta(minutes=31)
        checkout.others[DRIVER] = lambda _: failure
        # WHEN the warden sweeps
        with contextlib.suppress(ExceptionGroup):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the age is more than the alarm's threshold, under the name that the alarm has
        (seconds,) = told()
        assert seconds == pytest.approx(31 * 60, abs=60)

    def test_what_its_first_sweep_settles_is_told_by_no_metric(
        self, table: Table, dead: str, deployed: Functions, told: Any
    ) -> None:
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (record_of(table)["status"], told()) == ("rolled-back", [])

    def test_what_cannot_be_started_is_told_by_how_long_it_has_held_the_lock(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any, told: Any
    ) -> None:
        # GIVEN a request that took its target's lock an hour ago, and another that has waited as long for its own
        other = TARGET | {"alias": "beta"}
        start(locks, "before", target=other)
        for rollout_id, fields in (("first", {}), ("next", {"target": other})):
            locks.admit(request_of(rollout_id, **fields), execution_of(rollout_id))
            change_record(dynamodb, rollout_id, createdAt=an_hour_ago())
        settle(locks, "before")
        # WHEN neither can be started
        machines.interrupt = refuse_to_start
        with pytest.raises(ExceptionGroup, match=r"throttled; .*throttled"):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the age of the first is told, while the other has held its lock for no time yet
        (seconds,) = told()
        assert seconds == pytest.approx(3600, abs=60)

    def test_a_target_that_was_moved_from_outside_is_still_found_so_while_what_was_held_is_given_back(
        self, table: Table, steps: Steps, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN a rollout that holds something, and an alias that somebody else has moved
        steps.keep_state("checkout-42", record_of(table)["state"] | {"toRelease": True})
        restored, calls = dict[str, Any](), list[dict[str, Any]]()

        def drive(call: dict[str, Any]) -> Any:
            calls.append(call)
            return TargetChanged("it serves version 3") if call["action"] == "rollback" else restored["answer"]

        checkout.others[DRIVER] = drive
        # WHEN giving back takes two sweeps
        for restored["answer"] in (TargetNotReady("300 so far"), {"state": record_of(table)["state"]}):
            assert record_of(table)["status"] == "running"
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the second has looked at the target again, and the rollout ends as stopped
        assert [call["action"] for call in calls] == ["rollback", "restore"] * 2
        assert not any(call.get("rolledBack") for call in calls)
        assert (record_of(table)["status"], "serving" in record_of(table)) == ("stopped", False)

    def test_a_warden_that_comes_second_leaves_it_to_the_first(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late(*_: Any) -> int:
            raise LockLost("rollout checkout-42 does not own it any more")

        monkeypatch.setattr(deployed.module("warden").supervision.settler, "take_over", late)
        deployed.call("warden")
        assert checkout.serves() == ("6", {"7": 0.1})

    def test_an_execution_whose_input_the_event_does_not_hold_is_found_by_the_sweep(
        self, table: Table, dead: str, deployed: Functions
    ) -> None:
        large = event("warden")
        large["detail"] |= {"input": None, "inputDetails": {"included": False}}
        deployed.call("warden", large)
        assert record_of(table)["status"] == "running"
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert record_of(table)["status"] == "rolled-back"

    def test_an_execution_that_was_started_by_hand_without_an_id_goes_by_its_name(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        execution = MACHINE.replace(":stateMachine:", ":execution:") + ":by-hand"
        locks.admit(request_of("by-hand"), execution)
        machines.ended["by-hand"] = "TIMED_OUT"
        told = event("warden")
        told["detail"] |= {"name": "by-hand", "executionArn": execution, "input": json.dumps({"target": TARGET})}
        deployed.call("warden", told)
        assert record_of(table, "by-hand")["status"] == "refused"

    @pytest.mark.parametrize("impossible", UNUSABLE_IDS)
    def test_an_execution_whose_id_no_record_can_have_is_nothing_to_look_after(
        self, deployed: Functions, machines: FakeStepFunctions, aws: None, dynamodb: Any, impossible: Any
    ) -> None:
        told = event("warden")
        told["detail"]["input"] = json.dumps({"id": impossible, "target": TARGET})
        deployed.call("warden", told)
        assert machines.executions == {}

    @pytest.fixture
    def left_held(self, table: Table, locks: Locks, dynamodb: Any) -> str:
        """A rollout that ended while its lock stayed held, as a race left it before; another one waits in line."""
        start(locks)
        locks.admit(request_of("next"), execution_of("next"))
        change_record(dynamodb, "checkout-42", status="succeeded", endedAt=an_hour_ago())
        return "checkout-42"

    def test_a_lock_that_an_ended_rollout_holds_is_handed_on_by_the_sweep_and_told_by_its_age(
        self, table: Table, left_held: str, deployed: Functions, machines: FakeStepFunctions, told: Any
    ) -> None:
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert [request["id"] for request in machines.executions.values()] == ["next"]
        lock = stored_lock(table, TARGET_KEY)
        assert (lock["owner"], lock["last"], lock["waiting"]) == ("next", left_held, 0)
        (seconds,) = told()
        assert seconds == pytest.approx(3600, abs=60)

    def test_a_lock_whose_owners_record_is_gone_is_freed_and_told(
        self, table: Table, locks: Locks, deployed: Functions, dynamodb: Any, told: Any
    ) -> None:
        start(locks)
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT"}))
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert "owner" not in stored_lock(table, TARGET_KEY)
        assert len(told()) == 1
        assert locks.admit(request_of("next"), execution_of("next")).lock == "held"

    def test_a_request_that_is_in_line_behind_itself_gets_its_lock(
        self, table: Table, locks: Locks, deployed: Functions, dynamodb: Any, machines: FakeStepFunctions, told: Any
    ) -> None:
        # GIVEN that the record of a lock's owner was deleted, and the same request made once more
        start(locks)
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT"}))
        assert locks.admit(request_of(), execution_of("checkout-42")).lock == "waits"
        # WHEN the warden sweeps, THEN it is started
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert [request["id"] for request in machines.executions.values()] == ["checkout-42"]
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["waiting"]) == ("accepted", 0)

    def test_an_execution_whose_input_cannot_be_read_is_found_by_the_sweep(
        self, table: Table, dead: str, deployed: Functions
    ) -> None:
        told = event("warden")
        told["detail"]["input"] = "[" * 100_000
        deployed.call("warden", told)
        assert record_of(table)["status"] == "running"

    def test_a_lock_that_was_passed_on_since_the_index_was_read_is_left_alone(
        self, table: Table, locks: Locks, running: Plan, deployed: Functions, monkeypatch: pytest.MonkeyPatch, told: Any
    ) -> None:
        settle(locks)
        monkeypatch.setattr(deployed.module("warden").supervision.locks, "held", lambda: {TARGET_KEY: "checkout-42"})
        before = stored_lock(table, TARGET_KEY)
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (stored_lock(table, TARGET_KEY), told()) == (before, [])

    def test_a_sweep_sees_to_every_lock(
        self,
        table: Table,
        locks: Locks,
        dead: str,
        deployed: Functions,
        checkout: FakeLambda,
        machines: FakeStepFunctions,
    ) -> None:
        locks.admit(request_of("other", target=TARGET | {"alias": "beta"}), execution_of("other"))
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert record_of(table)["status"] == "rolled-back"
        assert [request["id"] for request in machines.executions.values()] == ["other"]


class TestPublisher:
    def test_it_carries_the_outbox_to_the_bus(self, deployed: Functions, bus: FakeBus) -> None:
        assert deployed.call("publisher") == {"batchItemFailures": []}
        (entry,) = bus.taken
        assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == (
            "headgate",
            "headgate",
            "Rollout Started",
        )
        assert entry["Detail"] == event("rollout_started")["detail"]

    def test_a_batch_as_the_stream_delivers_it_is_published_in_order(self, deployed: Functions, bus: FakeBus) -> None:
        assert deployed.call("publisher", event("dynamodb_stream_batch")) == {"batchItemFailures": []}
        files = ("rollout_started", "step_started", "step_baked", "rollout_succeeded")
        told = [(entry["DetailType"], entry["Detail"]) for entry in bus.taken]
        assert told == [(event(file)["detail-type"], event(file)["detail"]) for file in files]

    def test_it_keeps_the_order_over_more_entries_than_one_call_takes(self, deployed: Functions, bus: FakeBus) -> None:
        assert deployed.call("publisher", {"Records": outbox(25)}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == list(range(25))

    @pytest.mark.parametrize(("full_after", "failed"), [(0, "0"), (3, "3"), (10, "10"), (24, "24")])
    def test_from_the_first_entry_that_the_bus_refuses_the_stream_delivers_again(
        self, deployed: Functions, bus: FakeBus, full_after: int, failed: str
    ) -> None:
        bus.full_after = full_after
        answer = deployed.call("publisher", {"Records": outbox(25)})
        assert answer == {"batchItemFailures": [{"itemIdentifier": failed}]}
        assert [entry["Detail"] for entry in bus.taken] == list(range(full_after))

    def test_what_a_batch_could_not_deliver_arrives_with_the_next_try(self, deployed: Functions, bus: FakeBus) -> None:
        bus.full_after = 13
        records = outbox(25)
        (failure,) = deployed.call("publisher", {"Records": records})["batchItemFailures"]
        bus.full_after = None
        rest = records[int(failure["itemIdentifier"]) :]
        assert deployed.call("publisher", {"Records": rest}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == list(range(25))

    @pytest.mark.parametrize("number", ["3.2472500080593194E+58", "1" + 100 * "0", "9" * 38, "1E-130", "-0", "1E+125"])
    def test_a_number_as_dynamodb_gives_it_back_is_published(
        self, deployed: Functions, bus: FakeBus, number: str
    ) -> None:
        records = outbox(3)
        records[1]["dynamodb"]["NewImage"]["detail"] = {"M": {"value": {"N": format(Decimal(number), "f")}}}
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == [0, {"value": float(number)}, 2]

    @pytest.mark.parametrize("image", [{}, {"detailType": {"S": "x"}}, {"detail": {"N": "one"}}, {"detail": {"X": 1}}])
    @pytest.mark.parametrize("where", [0, 3, 24])
    def test_a_record_that_cannot_be_read_is_put_aside_with_the_reason_and_the_others_are_published(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]], image: Any, where: int
    ) -> None:
        records = outbox(25)
        records[where]["dynamodb"]["NewImage"] = image
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == [n for n in range(25) if n != where]
        (kept,) = undelivered()
        told = json.loads(kept["Body"])
        assert told["record"] == records[where]
        assert told["reason"].startswith("the record cannot be read: ")

    def test_a_record_that_can_be_neither_read_nor_put_aside_comes_again_with_what_follows_and_no_other_is_lost(
        self, deployed: Functions, bus: FakeBus, aws: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a queue that is not there
        monkeypatch.setenv("UNDELIVERED", SETTINGS["UNDELIVERED"])
        records = outbox(25)
        records[13]["dynamodb"]["NewImage"] = {}
        answer = deployed.call("publisher", {"Records": records})
        assert answer == {"batchItemFailures": [{"itemIdentifier": "13"}]}
        assert [entry["Detail"] for entry in bus.taken][:13] == list(range(13))

    def test_what_comes_again_before_a_record_that_cannot_be_read_has_not_put_that_aside_yet(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]]
    ) -> None:
        bus.full_after = 13
        records = outbox(25)
        records[20]["dynamodb"]["NewImage"] = {}
        for _ in range(3):
            (failure,) = deployed.call("publisher", {"Records": records})["batchItemFailures"]
            records = records[13 - 25 :]
            assert failure == {"itemIdentifier": "13"}
        assert undelivered() == []
        bus.full_after = None
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == [n for n in range(25) if n != 20]
        assert len(undelivered()) == 1

    def test_an_event_that_the_bus_refuses_for_good_is_put_aside_and_the_others_are_published(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]]
    ) -> None:
        bus.refuses = {"bad": "MalformedDetail"}
        records = [of_outbox({"id": id_}, n) for n, id_ in enumerate(("a", "bad", "b"))]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"]["id"] for entry in bus.taken] == ["a", "b"]
        (kept,) = undelivered()
        assert json.loads(kept["Body"]) == {"reason": "the bus refuses it: MalformedDetail: no", "record": records[1]}

    @pytest.mark.parametrize("code", ["InternalFailure", "ThrottlingException", "AccessDeniedException", "Unheard"])
    def test_what_the_bus_may_take_later_is_delivered_again(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]], code: str
    ) -> None:
        bus.refuses = {"b": code}
        records = [of_outbox({"id": id_}, n) for n, id_ in enumerate("abc")]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
        assert undelivered() == []

    def test_an_event_too_large_for_the_bus_is_put_aside_and_large_ones_go_in_calls_of_their_own(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]]
    ) -> None:
        sizes = [100_000, 100_000, 100_000, 300_000, 10, 239_000, 10]
        records = [of_outbox({"id": n, "text": "x" * size}, n) for n, size in enumerate(sizes)]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"]["id"] for entry in bus.taken] == [0, 1, 2, 4, 5, 6]
        (kept,) = undelivered()
        assert kept["Body"].startswith('{"reason": "the bus refuses it: An error occurred (ValidationException)')

    def test_what_the_store_wrote_is_what_the_bus_gets(
        self, table: Table, running: Plan, deployed: Functions, bus: FakeBus, dynamodb: Any
    ) -> None:
        (record,) = event("publisher")["Records"]
        items = dynamodb.scan(TableName=TABLE)["Items"]
        written = [item for item in items if item["sk"]["S"].startswith("EVENT#")]
        images = [record | {"dynamodb": record["dynamodb"] | {"NewImage": item}} for item in written]
        deployed.call("publisher", {"Records": images})
        assert [(entry["DetailType"], entry["Detail"]) for entry in bus.taken] == announced(table, "checkout-42")


class TestCounter:
    def test_it_counts_once(self, baking: str, deployed: Functions, ledgers: LedgerStore) -> None:
        deployed.call("counter")
        deployed.call("counter")
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.at_step(0, "errors").candidate == Arm(5, 1)

    def test_a_batch_as_the_stream_delivers_it_counts_for_both_versions_but_for_what_cannot_be_read(
        self, baking: str, deployed: Functions, ledgers: LedgerStore, undelivered: Callable[[], list[Any]]
    ) -> None:
        batch = event("kinesis_batch")
        assert deployed.call("counter", batch) == {"batchItemFailures": []}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.at_step(0, "errors") == Pair(candidate=Arm(5, 1), stable=Arm(7, 1))
        (kept,) = undelivered()
        assert json.loads(kept["Body"])["record"] == batch["Records"][2]

    def test_it_passes_over_targets_without_a_rollout(self, table: Table, deployed: Functions, dynamodb: Any) -> None:
        deployed.call("counter")
        assert dynamodb.scan(TableName=TABLE)["Items"] == []

    def test_a_ledger_that_cannot_be_read_keeps_no_other_rollout_from_being_counted(
        self, locks: Locks, baking: str, deployed: Functions, ledgers: LedgerStore, dynamodb: Any
    ) -> None:
        # GIVEN another rollout, whose evidence is damaged
        plan = start(locks, "broken", target=TARGET | {"alias": "beta"})
        ledgers.open(plan, candidate="7", stable="6", step=0, since=1)
        damage = {":text": {"S": "{"}}
        key = ledger_key("broken")
        dynamodb.update_item(
            TableName=TABLE, Key=key, UpdateExpression="SET looked = :text", ExpressionAttributeValues=damage
        )
        # WHEN telemetry of both comes, THEN that of the sound one counts, and the batch is done
        good = telemetry("7", ok=True, requests=3, sequence=1)
        other = json.loads(base64.b64decode(good["kinesis"]["data"])) | {"target": plan.target.key}
        data = base64.b64encode(json.dumps(other).encode()).decode()
        records = [good | {"kinesis": good["kinesis"] | {"data": data, "sequenceNumber": "2"}}, good]
        assert deployed.call("counter", {"Records": records}) == {"batchItemFailures": []}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(3, 0)

    def test_evidence_that_reaches_the_line_ends_the_bake_now(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        records = [
            telemetry("6", ok=True, requests=90, sequence=1),
            telemetry("7", ok=False, requests=10, sequence=2),
        ]
        deployed.call("counter", {"Records": records})
        assert machines.woken == {baking: {"signal": "evidence"}}
        (signal,) = end_bake(steps)
        assert signal["reason"].startswith("10 of 10 candidate requests failed against 0 of 90; evidence ")

    def test_what_an_earlier_try_counted_and_did_not_look_at_is_looked_at(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a try that counted, and died before it came to look
        batch = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        with monkeypatch.context() as patch:
            patch.setattr(deployed.module("counter").watch, "judge", lambda _: 1 / 0)
            with pytest.raises(ExceptionGroup, match="checkout-42: division by zero"):
                deployed.call("counter", {"Records": batch})
        # WHEN the batch comes again, THEN nothing counts twice and the bake ends
        deployed.call("counter", {"Records": batch})
        assert machines.woken == {baking: {"signal": "evidence"}}

    def test_each_look_with_failures_is_on_record(self, table: Table, baking: str, deployed: Functions) -> None:
        for sequence, ok in ((1, True), (3, False)):
            records = [telemetry(v, ok=ok, requests=20, sequence=sequence + n) for n, v in enumerate(("6", "7"))]
            deployed.call("counter", {"Records": records})
        looks = [item["looks"] for item in history(table, "checkout-42") if item["sk"].startswith("LOOK#")]
        assert [look["candidate"] for (look,) in looks] == [{"requests": 20, "failures": 20}]

    def test_failures_of_one_unit_are_one(self, baking: str, deployed: Functions, ledgers: LedgerStore) -> None:
        for sequence, unit in ((1, "kim"), (2, "kim"), (3, "lee")):
            records = [telemetry("7", ok=False, requests=10, sequence=sequence, unit=unit)]
            deployed.call("counter", {"Records": records})
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(2, 2)

    def test_evidence_that_is_good_enough_ends_the_bake_now(
        self, guarded: Any, steps: Steps, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        guarded(errors={}, promoteEarly={})
        records = [telemetry("6", ok=False, requests=90, sequence=1), telemetry("7", ok=True, requests=90, sequence=2)]
        deployed.call("counter", {"Records": records})
        assert list(machines.woken.values()) == [{"signal": "promote-early"}]
        (signal,) = end_bake(steps)
        assert (signal["id"], signal["by"]) == ("promote-early-0", "judge")
        assert signal["reason"].endswith("; a candidate 2 times as bad is ruled out at 0.05")

    def test_evidence_against_the_candidate_comes_before_evidence_for_it(
        self, guarded: Any, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        guarded(errors={}, latency={"thresholdMs": 100}, promoteEarly={})
        records = [
            telemetry("6", ok=False, requests=90, sequence=1),
            telemetry("7", ok=True, requests=90, sequence=2, took=500.0),
        ]
        deployed.call("counter", {"Records": records})
        assert list(machines.woken.values()) == [{"signal": "evidence"}]

    def test_a_rollout_that_cloudwatch_judges_does_not_listen_to_telemetry(
        self, guarded: Any, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        guarded(errors={}, evidence="cloudwatch")
        before = dynamodb.scan(TableName=TABLE)["Items"]
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        assert deployed.call("counter", {"Records": records}) == {"batchItemFailures": []}
        assert (dynamodb.scan(TableName=TABLE)["Items"], machines.woken) == (before, {})

    def test_a_rollout_that_has_ended_meanwhile_is_not_judged(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        change_record(dynamodb, status="rolled-back")
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        assert deployed.call("counter", {"Records": records}) == {"batchItemFailures": []}
        assert machines.woken == {}

    def test_a_record_that_cannot_even_be_put_aside_is_delivered_again_and_the_others_count(
        self, baking: str, deployed: Functions, ledgers: LedgerStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a queue that is not there
        monkeypatch.setenv("UNDELIVERED", SETTINGS["UNDELIVERED"])
        good = telemetry("7", ok=True, requests=3, sequence=1)
        bad = good | {"kinesis": good["kinesis"] | {"data": "bm90IGpzb24=", "sequenceNumber": "2"}}
        answer = deployed.call("counter", {"Records": [good, bad, telemetry("7", ok=True, requests=3, sequence=3)]})
        assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(6, 0)

    def test_a_record_that_cannot_be_read_is_put_aside_and_holds_nobody_up(
        self, baking: str, deployed: Functions, ledgers: LedgerStore, undelivered: Callable[[], list[Any]]
    ) -> None:
        good = telemetry("7", ok=True, requests=3, sequence=1)
        for data in ("bm90IGpzb24=", "%%%"):
            bad = good | {"kinesis": good["kinesis"] | {"data": data, "sequenceNumber": "2"}}
            deployed.call("counter", {"Records": [good, bad, telemetry("7", ok=True, requests=3, sequence=3)]})
            (kept,) = undelivered()
            told = json.loads(kept["Body"])
            assert told["record"] == bad
            assert told["reason"]
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(6, 0)

    def test_a_record_larger_than_a_message_is_put_aside_in_part(
        self, table: Table, deployed: Functions, undelivered: Callable[[], list[Any]]
    ) -> None:
        record = telemetry("7", ok=True, requests=1, sequence=1)
        record["kinesis"]["data"] = base64.b64encode(b"x" * 700_000).decode()
        deployed.call("counter", {"Records": [record]})
        (kept,) = undelivered()
        assert len(kept["Body"]) == 250_000


class TestSignaller:
    @pytest.mark.parametrize(("file", "kind"), [("rollout_signal", "promote"), ("rollout_signal_abort", "abort")])
    def test_an_operators_signal_is_recorded_and_ends_the_bake(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, file: str, kind: str
    ) -> None:
        deployed.call("signaller", sent_now(file))
        assert machines.woken == {baking: {"signal": kind}}
        (signal,) = end_bake(steps)
        assert (signal["signal"], signal["by"]) == (kind, "kim")

    def test_an_alarm_reaches_every_rollout_that_it_guards(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}
        (signal,) = end_bake(steps)
        assert (signal["by"], signal["reason"][:17]) == ("checkout-errors", "Threshold Crossed")

    def test_an_alarm_of_a_rollout_that_has_ended_does_not_keep_it_from_the_others(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN a guard that was left behind by a rollout of which nothing else is known
        left_behind = {"pk": {"S": "ALARM#checkout-errors"}, "sk": {"S": "ROLLOUT#a-gone-one"}}
        dynamodb.put_item(TableName=TABLE, Item=left_behind)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    def test_a_rollout_that_cannot_be_told_of_its_alarm_does_not_keep_it_from_the_others(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN an alarm that guards another rollout first, whose record is damaged
        for sk, pk in (("ROLLOUT#a-broken-one", "ALARM#checkout-errors"), ("ROLLOUT", "ROLLOUT#a-broken-one")):
            dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": pk}, "sk": {"S": sk}, "plan": {"S": "{"}})
        # WHEN it fires, THEN its failure is told, and the bake of the other ends
        with pytest.raises(ExceptionGroup, match="a-broken-one"):
            deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    @pytest.mark.parametrize("error", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
    def test_a_bake_that_is_over_by_itself_leaves_the_signal_to_the_judge(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, error: str
    ) -> None:
        machines.open_tokens.clear()
        machines.token_error = error
        deployed.call("signaller", event("rollout_signal_abort"))
        assert [signal["signal"] for signal in end_bake(steps)] == ["abort"]

    def test_a_signal_delivered_twice_is_one(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        for _ in range(2):
            deployed.call("signaller", event("rollout_signal_abort"))
        assert len(end_bake(steps)) == 1

    @pytest.mark.parametrize(("signal", "counts"), [("promote", False), ("abort", True), ("promote-fully", True)])
    def test_a_promote_that_was_held_up_was_meant_for_another_step(
        self, steps: Steps, baking: str, deployed: Functions, signal: str, counts: bool
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal", signal=signal) | {"time": "2020-01-01T00:00:00Z"})
        assert [found["signal"] for found in end_bake(steps)] == [signal] * counts

    def test_an_alarm_that_fired_before_the_rollout_was_asked_for_does_not_count(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        late = sent_now("cloudwatch_alarm_state_change")
        late["detail"]["state"]["timestamp"] = "2020-01-01T00:00:00.000+0000"
        deployed.call("signaller", late)
        assert (end_bake(steps), machines.woken) == ([], {})

    @pytest.mark.parametrize(
        ("file", "answer"),
        [
            ("rollout_signal_resume", {"signal": "resume"}),
            ("rollout_signal_abort", {"signal": "abort"}),
            ("rollout_signal", {"signal": "promote"}),
            ("rollout_signal_pause", None),
        ],
    )
    def test_an_operator_ends_a_pause(
        self, paused: str, deployed: Functions, machines: FakeStepFunctions, file: str, answer: Any
    ) -> None:
        deployed.call("signaller", sent_now(file))
        assert machines.woken == ({paused: answer} if answer else {})

    def test_an_operator_pauses_a_bake(self, baking: str, deployed: Functions, machines: FakeStepFunctions) -> None:
        deployed.call("signaller", event("rollout_signal_pause"))
        assert machines.woken == {baking: {"signal": "pause"}}

    @pytest.mark.parametrize("failed", [True, False])
    def test_an_alarm_ends_a_pause_only_where_the_pause_was_not_for_a_failure(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, failed: bool
    ) -> None:
        payload = event("pauser")
        payload["verdict"]["failed"] = failed
        machines.open_tokens.add(payload["token"])
        deployed.call("pauser", payload)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == ({} if failed else {payload["token"]: {"signal": "alarm"}})
        assert len(record_of(table)["signals"]) == 1

    def test_an_abort_is_taken_however_long_and_odd_its_reason_is(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_abort", by="k" * 5000, reason="\ud800" + "x" * 5000))
        assert machines.woken == {baking: {"signal": "abort"}}
        (signal,) = end_bake(steps)
        assert (signal["by"], signal["reason"]) == ("k" * 256, "?" + "x" * 999)

    @pytest.mark.parametrize("detail", [None, {}, {"rolloutId": "checkout-42", "signal": "hurry"}, {"rolloutId": "x"}])
    def test_what_is_no_signal_changes_nothing(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, detail: Any
    ) -> None:
        deployed.call("signaller", event("rollout_signal") | {"detail": detail})
        assert (end_bake(steps), machines.woken) == ([], {})


class TestSampleHooks:
    def test_the_smoke_test_passes_where_the_candidate_answers_as_expected(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.answers["7"] = lambda payload: {"total": payload["items"][0]["price"] * 2, "release": "2"}
        assert deployed.call("smoke_tester") == {
            "hookStatus": "SUCCEEDED",
            "hookDetails": {"cases": 1, "version": "7"},
        }

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"total": 8}, "case 1: version 7 answered otherwise: answer.total is 8, expected 7.0"),
            (ValueError("boom"), 'case 1: version 7 failed: {"errorType": "ValueError", "errorMessage": "boom"}'),
        ],
    )
    def test_the_smoke_test_fails_where_it_does_not(
        self, deployed: Functions, checkout: FakeLambda, answer: Any, reason: str
    ) -> None:
        checkout.answers["7"] = answer
        assert deployed.call("smoke_tester") == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}

    def test_without_cases_the_smoke_test_sees_whether_the_candidate_answers_at_all(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        payload = event("smoke_tester") | {"config": {}}
        assert deployed.call("smoke_tester", payload)["hookStatus"] == "SUCCEEDED"
        assert deployed.call("smoke_tester", payload | {"candidate": "99"})["hookStatus"] == "FAILED"

    @pytest.mark.parametrize(
        ("hook", "config", "reason"),
        [
            (
                "smoke_tester",
                {"payload": {}, "expect": {"total": 7}},
                "config.payload is not a known field; give cases",
            ),
            (
                "smoke_tester",
                {"cases": [{}, {"expected": {"total": 7}}]},
                "config.cases[1].expected is not a known field; give payload or expect",
            ),
            ("smoke_tester", {"cases": ["ping"]}, 'config.cases[0] is "ping"; give an object with payload or expect'),
            ("smoke_tester", {"cases": {"payload": {}}}, "config.cases is no list of cases"),
            ("smoke_tester", {"cases": 3}, "config.cases is no list of cases"),
            (
                "version_checker",
                {"cases": []},
                "config.cases is not a known field; give payload or expect or invocations",
            ),
            *(
                (
                    "version_checker",
                    {"invocations": number},
                    f"config.invocations is {told}; give a whole number from 1 on",
                )
                for number, told in ((0, "0"), (-1, "-1"), ("3", '"3"'), (True, "true"), (1.5, "1.5"), (None, "null"))
            ),
        ],
    )
    def test_what_they_cannot_read_of_their_config_fails_them(
        self, deployed: Functions, checkout: FakeLambda, hook: str, config: Any, reason: str
    ) -> None:
        checkout.point("live", "7")
        told = deployed.call(hook, event(hook) | {"config": config})
        assert told == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}

    def test_the_version_check_passes_where_the_alias_serves_the_candidate(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.point("live", "7")
        assert deployed.call("version_checker") == {
            "hookStatus": "SUCCEEDED",
            "hookDetails": {"invocations": 3, "version": "7"},
        }

    def test_the_version_check_fails_where_another_version_answers(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # An alias may take a moment to be the same everywhere: it asks again twice.
        payload, reason = event("version_checker"), "alias live served version 6, not 7"
        for tries in (1, 2):
            answer = deployed.call("version_checker", payload)
            details = {"tries": tries, "reason": reason}
            assert answer == {"hookStatus": "IN_PROGRESS", "callBackDelay": 2, "hookDetails": details}
            payload |= {"hookDetails": details}
        answer = deployed.call("version_checker", payload)
        assert answer == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}

    def test_the_version_check_passes_where_the_alias_has_come_round_in_the_meantime(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        waited = {"tries": 1, "reason": "alias live served version 6, not 7"}
        checkout.point("live", "7")
        answer = deployed.call("version_checker", event("version_checker") | {"hookDetails": waited})
        assert answer["hookStatus"] == "SUCCEEDED"

    @pytest.mark.parametrize("hook", ["smoke_tester", "version_checker"])
    def test_of_a_consumer_they_test_the_function_that_its_mapping_points_at(
        self, deployed: Functions, checkout: FakeLambda, hook: str
    ) -> None:
        # GIVEN a consumer's event: its target is a mapping, and the alias behind it comes beside it
        checkout.point("live", "7")
        checkout.answers["7"] = {"total": 7}
        payload = event(hook)
        payload["through"] = payload["target"]
        payload["target"] = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "mode": "ramp"}
        # THEN they answer as they do for the alias itself
        assert deployed.call(hook, payload)["hookStatus"] == "SUCCEEDED"
        checkout.answers["7"] = ValueError("boom")
        assert deployed.call(hook, payload)["hookStatus"] == "FAILED"

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"total": 8}, "version 7 answered otherwise: answer.total is 8, expected 7"),
            (ValueError("boom"), 'version 7 failed: {"errorType": "ValueError", "errorMessage": "boom"}'),
        ],
    )
    def test_the_version_check_fails_where_the_answer_is_bad(
        self, deployed: Functions, checkout: FakeLambda, answer: Any, reason: str
    ) -> None:
        checkout.point("live", "7")
        checkout.answers["7"] = answer
        told = deployed.call("version_checker", event("version_checker") | {"config": {"expect": {"total": 7}}})
        assert told == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}


def test_a_function_that_lacks_a_setting_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "TABLE", "")
    with pytest.raises(RuntimeError, match=r"environment variable TABLE is not set; template\.yaml sets it"):
        Functions().module("baker")


class TestWhatHasBittenUs:
    """Interleavings that once went wrong, through the functions that they went through."""

    def test_an_alarm_that_fired_all_along_does_not_count_after_a_pause(
        self, table: Table, paused: Any, deployed: Functions, alarm: Any, dynamodb: Any
    ) -> None:
        # GIVEN a paused rollout whose alarm had been firing since before it began
        alarm("ALARM")
        payload = event("judge")
        payload["plan"]["firing"] = ["checkout-errors"]
        change_record(dynamodb, startedAt=a_moment_later())
        # WHEN an operator resumes it
        deployed.call("signaller", event("rollout_signal_resume"))
        assert deployed.call("judge", payload | {"pause": 1, "failed": False, "bake": 1})["next"] == "shift"
        a_moment_later()
        # THEN the alarm still does not count in the next bake
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "inconclusive"

    def test_telemetry_of_a_rollout_on_its_way_back_holds_nobody_up(
        self, table: Table, baking: Any, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN evidence against the candidate, and a rollback under way
        bad = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        deployed.call("counter", {"Records": bad})
        deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "rollback"})
        # WHEN more telemetry comes
        deployed.call("counter", {"Records": [telemetry("6", ok=True, requests=1, sequence=3)]})
        # THEN it is counted without a failure, and the one signal stands
        assert [signal["signal"] for signal in unheard(table)] == ["evidence"]

    def test_the_sweep_goes_on_after_a_target_that_cannot_be_put_back(
        self, locks: Locks, running: Plan, deployed: Functions, checkout: FakeLambda, machines: Any
    ) -> None:
        # GIVEN a dead rollout whose driver fails, and another that never began
        checkout.others[DRIVER] = lambda _: RuntimeError("throttled")
        deployed.call("lambda_alias_driver")
        machines.ended[execution_of("checkout-42").rsplit(":", 1)[-1]] = "ABORTED"
        locks.admit(request_of("other", target=TARGET | {"alias": "zeta"}), execution_of("other"))
        # WHEN the warden sweeps
        with pytest.raises(ExceptionGroup, match="checkout-42"):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the other was looked after all the same
        assert [request["id"] for request in machines.executions.values()] == ["other"]

    def test_a_resume_between_two_attempts_of_a_pause_is_heard(
        self, paused: Any, deployed: Functions, machines: Any
    ) -> None:
        # GIVEN a resume that found only the token of an attempt that had died
        machines.open_tokens.clear()
        deployed.call("signaller", event("rollout_signal_resume"))
        # WHEN the next attempt leaves its token
        machines.open_tokens.add("t-2")
        deployed.call("pauser", event("pauser") | {"token": "t-2", "attempt": "2026-11-21T09:02:00.931Z#001"})
        # THEN it is woken at once
        assert machines.woken
