"""Each function does its one job with the payload that events/<function>.json gives for ``sam local invoke``."""

# Many a test wants nothing of a fixture but that it is there.
# ruff: noqa: ARG002

from __future__ import annotations

import base64
import functools
import importlib.util
import json
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.errors import LockLost, RequestRefused
from headgate.judge import Arm
from headgate.plan import Plan
from headgate.request import RolloutRequest
from tests.unit.builders import (
    ACCOUNT,
    DRIVER,
    MACHINE,
    ROOT,
    TABLE,
    TARGET,
    TARGET_KEY,
    announced,
    event,
    execution_of,
    request_of,
)
from tests.unit.services import FakeBus, FakeLambda, FakeStepFunctions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.evidence import Ledgers
    from headgate.store import Store

SETTINGS = {
    "TABLE": TABLE,
    "RETENTION_DAYS": "90",
    "ROLLOUT_MACHINE": MACHINE,
    "DEAD_LETTERS": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters",
    "BUS": "headgate",
    "ACCOUNT": ACCOUNT,
    "TELEMETRY": "true",
    "DRIVERS": json.dumps({"lambda-alias": DRIVER}),
}
NAMES = sorted(path.parent.name for path in ROOT.glob("functions/*/app.py"))
CONTEXT = SimpleNamespace(
    function_name="headgate", memory_limit_in_mb=512, invoked_function_arn=DRIVER, aws_request_id="request-1"
)


class Functions:
    """The functions' modules and the clients that they made; a client of each service, shared to save time."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.module = functools.cache(self._load)
        self._make = boto3.client

    def call(self, name: str, payload: Any = None) -> Any:
        """Invoke a function, with the payload in events/ unless another is given."""
        return self.module(name).handler(event(name) if payload is None else payload, CONTEXT)

    def _load(self, name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"function_{name}", ROOT / "functions" / name / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            for setting, value in SETTINGS.items():
                patch.setenv(setting, value)
            patch.setattr(boto3, "client", self.client)
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
    detach = fake.attach(deployed.clients["stepfunctions"])
    yield fake
    detach()


@pytest.fixture
def bus(deployed: Functions) -> Iterator[FakeBus]:
    fake = FakeBus()
    detach = fake.attach(deployed.clients["events"])
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
    detach = function.attach(deployed.clients["lambda"])
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
def running(store: Store, deployed: Functions) -> Plan:
    """The rollout checkout-42, started, as the payloads in events/ know it."""
    deployed.call("acquirer")
    return Plan.model_validate(event("acquirer")["plan"])


@pytest.fixture
def baking(running: Plan, deployed: Functions, machines: FakeStepFunctions) -> str:
    """The token of its open bake."""
    token: str = event("baker")["token"]
    machines.open_tokens.add(token)
    deployed.call("baker")
    return token


def message(body: str) -> Any:
    """The queue's event with another body."""
    payload = event("intake")
    payload["Records"][0]["body"] = body
    return payload


def telemetry(revision: str, *, ok: bool, requests: int, sequence: int) -> dict[str, Any]:
    """A record of the stream with so many outcomes during the first step."""
    (record,) = event("counter")["Records"]
    outcomes = [[1795251604000, ok, 12.0]] * requests
    data = json.dumps({"target": TARGET_KEY, "revision": revision, "outcomes": outcomes})
    changes = {"data": base64.b64encode(data.encode()).decode(), "sequenceNumber": str(sequence)}
    return record | {"kinesis": record["kinesis"] | changes}


@pytest.mark.parametrize("name", NAMES)
def test_every_function_has_a_payload_to_be_tried_with(name: str) -> None:
    files = {"signaller": ["rollout_signal", "rollout_signal_abort", "cloudwatch_alarm_state_change"]}
    assert all(event(file) for file in files.get(name, [name]))


def test_the_payloads_are_one_story() -> None:
    plan = event("acquirer")["plan"]
    assert all(event(name)["plan"] == plan for name in ("lambda_alias_driver", "baker", "judge"))
    assert event("planner")["request"] == event("rollout_requested")["detail"]
    assert json.loads(event("intake")["Records"][0]["body"]) == event("rollout_requested")
    assert event("acquirer")["execution"] == event("settler")["execution"] == execution_of("checkout-42")
    image = event("publisher")["Records"][0]["dynamodb"]["NewImage"]
    assert image["detailType"] == {"S": "Rollout Started"}


class TestIntake:
    def test_a_request_for_a_free_target_is_stored_and_started(
        self, store: Store, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        assert deployed.call("intake") == {"batchItemFailures": []}
        request = RolloutRequest.model_validate(event("rollout_requested")["detail"])
        assert list(machines.executions.values()) == [request.to_wire()]
        assert store.lock(TARGET_KEY)["owner"] == "checkout-42"

    def test_a_request_that_comes_twice_runs_once(
        self, store: Store, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("intake")
        machines.ended.update(machines.executions)
        assert deployed.call("intake") == {"batchItemFailures": []}
        assert len(machines.executions) == 1
        assert store.lock(TARGET_KEY)["epoch"] == 1

    def test_a_request_for_a_busy_target_is_stored_in_line_and_not_started(
        self, store: Store, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        store.admit(request_of("before"), execution_of("before"))
        assert deployed.call("intake") == {"batchItemFailures": []}
        record = store.rollout("checkout-42")
        assert record is not None
        assert (record["status"], machines.executions) == ("waiting", {})

    def test_a_request_may_be_sent_to_the_queue_without_an_event_around_it(
        self, store: Store, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        payload = message(json.dumps({"target": TARGET}))
        deployed.call("intake", payload)
        assert store.lock(TARGET_KEY)["owner"] == payload["Records"][0]["messageId"]

    def test_an_events_own_id_serves_where_its_request_has_none(
        self, store: Store, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        envelope = event("rollout_requested")
        del envelope["detail"]["id"]
        deployed.call("intake", message(json.dumps(envelope)))
        assert store.lock(TARGET_KEY)["owner"] == envelope["id"]

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
        self, store: Store, deployed: Functions, dead_letters: Any, body: str, reason: str
    ) -> None:
        payload = message(body)
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        (kept,) = dead_letters()
        assert kept["Body"] == body
        assert kept["MessageAttributes"]["reason"]["StringValue"].startswith(reason)
        rollout_id = "mine" if '"mine"' in body else payload["Records"][0]["messageId"]
        ((kind, detail),) = announced(store, rollout_id)
        assert (kind, detail["reason"].startswith(reason)) == ("Rollout Refused", True)

    def test_one_bad_message_does_not_hold_up_the_others(
        self, store: Store, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any
    ) -> None:
        payload = event("intake")
        payload["Records"].insert(0, payload["Records"][0] | {"body": "7", "messageId": "bad"})
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        assert len(machines.executions) == len(dead_letters()) == 1


class TestPlanner:
    def test_it_works_the_request_out(self, deployed: Functions, alarm: Any) -> None:
        alarm("OK")
        expected = {name: event("acquirer")[name] for name in ("request", "plan")}
        assert deployed.call("planner") == expected

    def test_it_notes_the_alarms_that_fire_already(self, deployed: Functions, alarm: Any) -> None:
        alarm("ALARM")
        assert deployed.call("planner")["plan"]["firing"] == ["checkout-errors"]

    def test_it_refuses_a_firing_alarm_where_alarms_are_strict(self, deployed: Functions, alarm: Any) -> None:
        alarm("ALARM")
        payload = event("planner")
        payload["request"]["guards"]["strictAlarms"] = True
        with pytest.raises(RequestRefused, match=r"guards\.alarms: checkout-errors fires already"):
            deployed.call("planner", payload)

    def test_it_refuses_an_alarm_that_does_not_exist(self, aws: None, deployed: Functions) -> None:
        with pytest.raises(RequestRefused, match=r"guards\.alarms: no alarm is named checkout-errors"):
            deployed.call("planner")

    @pytest.mark.parametrize("where", ["eu-central-1:999999999999", "us-east-1:123456789012"])
    def test_it_refuses_a_target_elsewhere(self, deployed: Functions, where: str) -> None:
        target = TARGET | {"function": f"arn:aws:lambda:{where}:function:checkout"}
        with pytest.raises(RequestRefused, match="this Headgate serves 123456789012, eu-central-1"):
            deployed.call("planner", {"request": {"target": target}, "executionName": "e-1"})

    def test_it_refuses_to_compare_errors_without_telemetry(
        self, deployed: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployed.module("planner"), "telemetry", False)
        with pytest.raises(RequestRefused, match=r"guards\.errors: .* set the parameter Telemetry to true"):
            deployed.call("planner")

    def test_the_executions_name_serves_as_id_where_the_request_has_none(self, deployed: Functions) -> None:
        answer = deployed.call("planner", {"request": {"target": TARGET}, "executionName": "by-hand"})
        assert answer["plan"]["rolloutId"] == answer["request"]["id"] == "by-hand"


class TestAcquirer:
    def test_it_takes_the_lock_and_begins(self, store: Store, deployed: Functions) -> None:
        held = {"lock": "held", "epoch": 1, "reason": ""}
        assert [deployed.call("acquirer"), deployed.call("acquirer")] == [held, held]
        assert [kind for kind, _ in announced(store, "checkout-42")] == ["Rollout Started"]

    def test_it_waits_its_turn_and_begins_when_it_comes(self, store: Store, deployed: Functions) -> None:
        store.admit(request_of("before"), execution_of("before"))
        assert deployed.call("acquirer")["lock"] == "waits"
        store.settle("before", execution_of("before"), "succeeded", {"reason": ""})
        assert deployed.call("acquirer") == {"lock": "held", "epoch": 2, "reason": ""}


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

    def test_it_describes(self, deployed: Functions, checkout: FakeLambda) -> None:
        answer = deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "describe"})
        assert (answer["state"]["version"], answer["state"]["weights"]) == ("6", {})

    def test_it_has_nothing_to_roll_back_before_anything_was_prepared(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        payload = event("lambda_alias_driver") | {"action": "rollback", "state": {}}
        assert deployed.call("lambda_alias_driver", payload) == {"state": {}}
        assert checkout.updates == []

    def test_it_does_nothing_for_a_rollout_without_the_lock(
        self, store: Store, deployed: Functions, checkout: FakeLambda
    ) -> None:
        with pytest.raises(LockLost, match="no longer owns lambda-alias/checkout/live"):
            deployed.call("lambda_alias_driver")
        assert checkout.updates == []

    def test_it_refuses_an_action_that_it_does_not_know(self, deployed: Functions, checkout: FakeLambda) -> None:
        with pytest.raises(ValueError, match="action: 'dance' is none of prepare, shift, promote"):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "dance"})


class TestBaker:
    def test_it_leaves_the_token_and_opens_the_evidence(
        self, store: Store, baking: str, machines: FakeStepFunctions, ledgers: Ledgers
    ) -> None:
        record, ledger = store.rollout("checkout-42"), ledgers.read("checkout-42")
        assert record is not None
        assert ledger is not None
        assert (record["token"], record["step"], machines.woken) == (baking, 0, {})
        assert (ledger.candidate, ledger.stable, ledger.since) == ("7", "6", {0: event("baker")["state"]["shiftedAt"]})

    def test_a_signal_that_came_before_ends_the_bake_at_once(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", event("rollout_signal_abort"))
        machines.open_tokens.add(event("baker")["token"])
        deployed.call("baker")
        ((_, output),) = machines.woken.items()
        assert (output["signal"], output["by"]) == ("abort", "kim")

    def test_a_promote_for_an_earlier_step_does_not(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", event("rollout_signal"))
        payload = event("baker") | {"step": 1}
        payload["plan"]["steps"].append({"weight": 50.0, "bakeSeconds": 60})
        machines.open_tokens.add(payload["token"])
        deployed.call("baker", payload)
        assert machines.woken == {}


class TestJudge:
    def test_a_healthy_bake_goes_on(
        self, store: Store, baking: str, deployed: Functions, ledgers: Ledgers, alarm: Any
    ) -> None:
        deployed.call("counter", {"Records": [telemetry("7", ok=True, requests=50, sequence=1)]})
        deployed.call("counter", {"Records": [telemetry("6", ok=True, requests=450, sequence=2)]})
        verdict = deployed.call("judge")
        assert (verdict["outcome"], verdict["next"], verdict["step"]) == ("promote", "promote", 1)
        assert verdict["reason"] == "0 of 50 candidate requests failed against 0 of 450; evidence 1 < 100"
        assert [kind for kind, _ in announced(store, "checkout-42")][1:] == [
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
        self, baking: str, deployed: Functions, alarm: Any
    ) -> None:
        alarm("ALARM")
        payload = event("judge") | {"startedAt": "2100-01-01T00:00:00Z"}
        payload["plan"]["firing"] = ["checkout-errors"]
        assert deployed.call("judge", payload)["outcome"] == "inconclusive"
        recovered = payload | {"startedAt": "2000-01-01T00:00:00.000Z", "bake": 1}
        assert deployed.call("judge", recovered)["outcome"] == "roll-back"

    def test_it_looks_at_the_last_counts_before_it_judges(self, baking: str, deployed: Functions, alarm: Any) -> None:
        records = [
            telemetry("6", ok=True, requests=40, sequence=1),
            telemetry("7", ok=False, requests=4, sequence=2),
        ]
        deployed.call("counter", {"Records": records})
        verdict = deployed.call("judge")
        assert verdict["outcome"] == "roll-back"
        assert verdict["reason"].startswith("4 of 4 candidate requests failed against 0 of 40")


class TestSettler:
    def test_it_ends_the_rollout(self, store: Store, running: Plan, deployed: Functions) -> None:
        answer = deployed.call("settler")
        record = store.rollout("checkout-42")
        assert record is not None
        assert answer == {"outcome": "succeeded", "reason": record["reason"], "serving": "7"}
        assert (record["status"], record["serving"], record["stable"]) == ("succeeded", "7", "6")
        assert "owner" not in store.lock(TARGET_KEY)

    def test_it_starts_the_next_in_line_once(
        self, store: Store, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        store.admit(request_of("next"), execution_of("next"))
        assert deployed.call("settler") == deployed.call("settler")
        assert [request["id"] for request in machines.executions.values()] == ["next"]

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            ({"Error": "TargetChanged", "Cause": '{"errorMessage": "moved by somebody"}'}, "moved by somebody"),
            ({"Error": "States.TaskFailed", "Cause": '{"Error": "HookFailed", "Cause": "it said no"}'}, "it said no"),
            ({"Error": "States.Timeout"}, "States.Timeout"),
            ({"Error": "X", "Cause": "not json"}, "not json"),
            ({"Error": "X", "Cause": "[1]"}, "[1]"),
        ],
    )
    def test_it_says_what_went_wrong(
        self, running: Plan, deployed: Functions, failure: dict[str, str], reason: str
    ) -> None:
        answer = deployed.call("settler", event("settler") | {"failure": failure, "outcome": "stopped"})
        assert answer == {"outcome": "stopped", "reason": reason, "serving": None}

    def test_a_request_that_could_not_be_planned_ends_as_refused(self, store: Store, deployed: Functions) -> None:
        nothing = {"state": {}, "verdict": {}, "failure": {"Error": "RequestRefused", "Cause": "no target"}}
        deployed.call("settler", event("settler") | nothing | {"outcome": "refused"})
        ((kind, detail),) = announced(store, "checkout-42")
        assert (kind, detail["reason"]) == ("Rollout Refused", "no target")


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

    def test_it_keeps_the_order_over_more_entries_than_one_call_takes(self, deployed: Functions, bus: FakeBus) -> None:
        (record,) = event("publisher")["Records"]
        image = record["dynamodb"]["NewImage"]
        records = [
            record | {"dynamodb": record["dynamodb"] | {"NewImage": image | {"detail": {"N": str(number)}}}}
            for number in range(25)
        ]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == list(range(25))

    def test_what_the_store_wrote_is_what_the_bus_gets(
        self, store: Store, running: Plan, deployed: Functions, bus: FakeBus, dynamodb: Any
    ) -> None:
        (record,) = event("publisher")["Records"]
        items = dynamodb.scan(TableName=TABLE)["Items"]
        outbox = [item for item in items if item["sk"]["S"].startswith("EVENT#")]
        images = [record | {"dynamodb": record["dynamodb"] | {"NewImage": item}} for item in outbox]
        deployed.call("publisher", {"Records": images})
        assert [(entry["DetailType"], entry["Detail"]) for entry in bus.taken] == announced(store, "checkout-42")


class TestCounter:
    def test_it_counts_once(self, baking: str, deployed: Functions, ledgers: Ledgers) -> None:
        assert [deployed.call("counter"), deployed.call("counter")] == [{"batchItemFailures": []}] * 2
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.at_step(0).candidate == Arm(5, 1)

    def test_it_passes_over_targets_without_a_rollout(self, store: Store, deployed: Functions) -> None:
        assert deployed.call("counter") == {"batchItemFailures": []}

    def test_evidence_that_reaches_the_line_ends_the_bake_now(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        records = [
            telemetry("6", ok=True, requests=90, sequence=1),
            telemetry("7", ok=False, requests=10, sequence=2),
        ]
        deployed.call("counter", {"Records": records})
        assert machines.woken == {baking: {"signal": "evidence"}}
        (signal,) = store.close_bake("checkout-42")
        assert signal["reason"].startswith("10 of 10 candidate requests failed against 0 of 90; evidence ")

    def test_a_record_that_cannot_be_read_is_handed_back_after_those_before_it_were_counted(
        self, baking: str, deployed: Functions, ledgers: Ledgers
    ) -> None:
        good = telemetry("7", ok=True, requests=3, sequence=1)
        for data in ("bm90IGpzb24=", "%%%"):
            bad = good | {"kinesis": good["kinesis"] | {"data": data, "sequenceNumber": "2"}}
            answer = deployed.call("counter", {"Records": [good, bad, telemetry("7", ok=True, requests=3, sequence=3)]})
            assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.candidate_total == Arm(3, 0)


class TestSignaller:
    @pytest.mark.parametrize(("file", "kind"), [("rollout_signal", "promote"), ("rollout_signal_abort", "abort")])
    def test_an_operators_signal_is_recorded_and_ends_the_bake(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions, file: str, kind: str
    ) -> None:
        deployed.call("signaller", event(file))
        assert machines.woken == {baking: {"signal": kind}}
        (signal,) = store.close_bake("checkout-42")
        assert (signal["signal"], signal["by"]) == (kind, "kim")

    def test_an_alarm_reaches_every_rollout_that_it_guards(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", event("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}
        (signal,) = store.close_bake("checkout-42")
        assert (signal["by"], signal["reason"][:17]) == ("checkout-errors", "Threshold Crossed")

    def test_an_alarm_of_a_rollout_that_has_ended_does_not_keep_it_from_the_others(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN a guard that was left behind by a rollout of which nothing else is known
        left_behind = {"pk": {"S": "ALARM#checkout-errors"}, "sk": {"S": "ROLLOUT#a-gone-one"}}
        dynamodb.put_item(TableName=TABLE, Item=left_behind)
        deployed.call("signaller", event("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    @pytest.mark.parametrize("error", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
    def test_a_bake_that_is_over_by_itself_leaves_the_signal_to_the_judge(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions, error: str
    ) -> None:
        machines.open_tokens.clear()
        machines.token_error = error
        deployed.call("signaller", event("rollout_signal_abort"))
        assert [signal["signal"] for signal in store.close_bake("checkout-42")] == ["abort"]

    def test_a_signal_delivered_twice_is_one(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        for _ in range(2):
            deployed.call("signaller", event("rollout_signal_abort"))
        assert len(store.close_bake("checkout-42")) == 1

    @pytest.mark.parametrize("detail", [None, {}, {"rolloutId": "checkout-42", "signal": "hurry"}, {"rolloutId": "x"}])
    def test_what_is_no_signal_changes_nothing(
        self, store: Store, baking: str, deployed: Functions, machines: FakeStepFunctions, detail: Any
    ) -> None:
        deployed.call("signaller", event("rollout_signal") | {"detail": detail})
        assert (store.close_bake("checkout-42"), machines.woken) == ([], {})


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
        answer = deployed.call("version_checker")
        assert answer["hookDetails"] == {"reason": "alias live served version 6, not 7"}

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
