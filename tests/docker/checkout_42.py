"""The rollout that the sample events tell of: ``checkout-42``, of ``checkout:live`` from version 6 to 7."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from emulator.application import ROOT
from headgate.analysis.ledger_store import LedgerStore
from headgate.rollouts.locks import Locks
from headgate.rollouts.step_items import unpack_step
from headgate.rollouts.steps import Steps
from headgate.rollouts.table import Table
from headgate.spec.plan import Plan
from headgate.spec.request import RolloutRequest
from tests.builders import stored_lock, stored_rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

ID, FUNCTION, ALIAS, TARGET = "checkout-42", "checkout", "live", "lambda-alias/checkout/live"
STABLE, CANDIDATE = "6", "7"


def sample(name: str) -> Any:
    """A function's sample event."""
    return json.loads((ROOT / "events" / "functions" / f"{name}.json").read_text())


class Checkout42:
    """Brings the embedded AWS to where a sample event finds it, and looks at what became of it."""

    def __init__(self, aws: EmbeddedAws, outputs: Outputs) -> None:
        self.outputs = outputs
        self.functions, self.machines = aws.client("lambda"), aws.client("stepfunctions")
        self.queues, self.bus, self.dynamodb = aws.client("sqs"), aws.client("events"), aws.client("dynamodb")
        self.table = Table(self.dynamodb, outputs["TableName"])
        self.locks, self.steps = Locks(self.table), Steps(self.table)
        self.ledgers = LedgerStore(self.dynamodb, outputs["TableName"])
        self._publish_versions()
        self._keep_time_still()
        self.heard = self._listen()
        self.mail = self._subscribe(aws.client("sns"))

    def _publish_versions(self) -> None:
        for release in range(2, int(CANDIDATE) + 1):
            known = self.functions.get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]
            self.functions.update_function_configuration(
                FunctionName=FUNCTION, Environment={"Variables": known | {"RELEASE": str(release)}}
            )
            self.functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
            published = self.functions.publish_version(FunctionName=FUNCTION)["Version"]
        assert published == CANDIDATE

    def _keep_time_still(self) -> None:
        """No sweep of the warden's while a test looks at a rollout that has no execution."""
        for rule in self.bus.list_rules()["Rules"]:
            if "ScheduleExpression" in rule:
                self.bus.disable_rule(Name=rule["Name"])

    def _listen(self) -> str:
        url = self.queues.create_queue(QueueName="heard")["QueueUrl"]
        found = self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        bus, target = self.outputs["BusName"], {"Id": "heard", "Arn": found["Attributes"]["QueueArn"]}
        self.bus.put_rule(Name="heard", EventBusName=bus, EventPattern=json.dumps({"source": ["headgate"]}))
        self.bus.put_targets(Rule="heard", EventBusName=bus, Targets=[target])
        return str(url)

    # What happens before

    def _subscribe(self, topics: Any) -> str:
        """Return the URL of a queue that gets what the topic does."""
        url = str(self.queues.create_queue(QueueName="mail")["QueueUrl"])
        arn = self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        allowed = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{**allowed, "Resource": arn}]})
        self.queues.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        topics.subscribe(
            TopicArn=self.outputs["NotificationsTopicArn"],
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"RawMessageDelivery": "true"},
        )
        return url

    def begin_anew(self) -> None:
        """Nothing has been requested; the alias serves the stable version."""
        keys = ("pk", "sk")
        for page in self.dynamodb.get_paginator("scan").paginate(TableName=self.outputs["TableName"]):
            for item in page["Items"]:
                self.dynamodb.delete_item(TableName=self.outputs["TableName"], Key={key: item[key] for key in keys})
        self.serve(STABLE)

    def start(self, execution: str) -> Plan:
        """It holds the lock and runs, carried out by this execution; answers its plan."""
        request = RolloutRequest.model_validate(sample("acquirer")["request"])
        driver = self.functions.get_function_configuration(FunctionName="headgate-lambda-alias-driver")["FunctionArn"]
        plan = Plan.model_validate(sample("acquirer")["plan"] | {"driver": driver})
        admission = self.locks.admit(request, execution)
        assert (admission.lock, admission.epoch) == ("held", 1)
        self.locks.begin(plan, execution, admission.epoch)
        return plan

    def shift(self) -> Plan:
        """It runs, and the candidate has its first share of the traffic."""
        event = sample("baker")
        plan = self.start(sample("acquirer")["execution"])
        self.serve(STABLE, {CANDIDATE: event["state"]["weight"] / 100})
        self.steps.enter(ID, "shifting", event["state"]["weight"])
        self.steps.keep_state(ID, event["state"])
        self.ledgers.open(
            plan, candidate=CANDIDATE, stable=STABLE, step=event["step"], since=event["state"]["shiftedAt"]
        )
        return plan

    def serve(self, version: str, weights: dict[str, float] | None = None) -> None:
        """Point the alias somewhere."""
        self.functions.update_alias(
            FunctionName=FUNCTION,
            Name=ALIAS,
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": weights or {}},
        )

    # What is there afterwards

    @property
    def record(self) -> dict[str, Any]:
        """The rollout's record."""
        return stored_rollout(self.table, ID) or {}

    @property
    def owner(self) -> str | None:
        """Who holds the target's lock."""
        owner: str | None = stored_lock(self.table, TARGET).get("owner")
        return owner

    @property
    def serving(self) -> tuple[str, dict[str, float]]:
        """The version that the alias serves, and the weights of others."""
        alias = self.functions.get_alias(FunctionName=FUNCTION, Name=ALIAS)
        return alias["FunctionVersion"], alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})

    def item(self, sort_key: str) -> dict[str, Any]:
        """Another item of the rollout's."""
        item = self.table.get(f"ROLLOUT#{ID}", sort_key)
        return unpack_step(item) if item else {}

    def messages(self, url: str) -> list[dict[str, Any]]:
        """What is in a queue, taken out."""
        taken: list[dict[str, Any]] = []
        while found := self.queues.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in found:
                self.queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            taken += found
        return taken

    def eventually(self, look: Callable[[], Any], seconds: float = 30) -> Any:
        """The first truthy answer."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            assert time.monotonic() < deadline, f"not within {seconds} s; the record: {self.record}"
            time.sleep(0.1)
        return seen
