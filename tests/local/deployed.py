"""Headgate as a user has it: deployed, with services to roll out, and an ear on its bus and its topic."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
import uuid
import zipfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from demo.traffic import Traffic
from emulator.application import parameters
from headgate.aws.arns import execution_arn, execution_name
from headgate.aws.dynamodb import from_item, to_item
from headgate.rollouts.table import Table, now_iso
from tests.builders import event, history, stored_rollout
from tests.local.patience import patient
from tests.local.roles import ROLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

PREFIX = "headgate-of-a-team-whose-name-is-very-long".ljust(44, "-")[:43] + "x"
"""The longest that the template allows, so that every name that is made of it is as long as it can be."""
SERVICES_IN_STOCK = 5
ENDS = ("Rollout Succeeded", "Rollout Undone", "Rollout Rolled Back", "Rollout Refused", "Rollout Stopped")

SERVICE = """
import os
from headgate.telemetry import Telemetry
telemetry = Telemetry(os.environ["TELEMETRY_STREAM"])
@telemetry.observe
def handler(event, context):
    if os.environ["BROKEN"] == "yes":
        raise RuntimeError(f"version {context.function_version} is broken")
    return {"version": context.function_version}
"""

GOOD_HOOK = "def handler(event, context): return {'hookStatus': 'SUCCEEDED'}"
BAD_HOOK = "def handler(event, context): return {'hookStatus': 'FAILED', 'hookDetails': {'reason': 'does not add up'}}"

GATED_HOOK = """
import os
def handler(event, context):
    if os.path.exists(event["config"]["gate"]):
        return {"hookStatus": "SUCCEEDED"}
    return {"hookStatus": "IN_PROGRESS", "callBackDelay": 1}
"""
"""Agrees as soon as the file exists that its config names: functions run on this machine."""


class Serving(NamedTuple):
    """What an alias does with its requests."""

    version: str
    weights: dict[str, float]
    revision_id: str


class Service:
    """A function with an alias ``live``: version 1 serves, version 2 is there to be rolled out."""

    def __init__(self, headgate: Headgate, function: str, alias: str = "live") -> None:
        self._headgate, self._functions = headgate, headgate.functions
        self.function, self.alias = function, alias
        self.target = {"kind": "lambda-alias", "function": function, "alias": self.alias}

    @property
    def serving(self) -> Serving:
        """The alias as it is now."""
        serving = self._headgate.alias(self.target)
        assert serving is not None, f"{self.function} has no alias {self.alias}"
        return serving

    @property
    def versions(self) -> list[str]:
        """The published versions."""
        found = self._functions.list_versions_by_function(FunctionName=self.function)["Versions"]
        return [version["Version"] for version in found if version["Version"] != "$LATEST"]

    def configure(self, **variables: str) -> None:
        """Change $LATEST's environment, so that there is something new to publish."""
        known = self._functions.get_function_configuration(FunctionName=self.function)["Environment"]["Variables"]
        self._functions.update_function_configuration(
            FunctionName=self.function, Environment={"Variables": known | variables}
        )
        self._headgate.wait_for_latest(self.function)

    def publish(self, **variables: str) -> str:
        """A new version with this environment; answers its number."""
        self.configure(**{"RELEASE": uuid.uuid4().hex, **variables})
        return str(self._functions.publish_version(FunctionName=self.function)["Version"])

    def move_by_hand(self, version: str) -> None:
        """What somebody who does not know of Headgate might do."""
        self._functions.update_alias(
            FunctionName=self.function,
            Name=self.alias,
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": {}},
        )

    def with_alias(self, alias: str) -> Service:
        """The same function by one more alias, which serves version 1."""
        self._functions.create_alias(FunctionName=self.function, Name=alias, FunctionVersion="1")
        return Service(self._headgate, self.function, alias)

    def describe(self, description: str) -> None:
        """Change of the alias what moves no traffic."""
        self._functions.update_alias(FunctionName=self.function, Name=self.alias, Description=description)

    def provision(self, qualifier: str, executions: int) -> None:
        """Hold provisioned concurrency on a version, or on the alias."""
        self._functions.put_provisioned_concurrency_config(
            FunctionName=self.function, Qualifier=qualifier, ProvisionedConcurrentExecutions=executions
        )

    def unprovision(self, qualifier: str) -> None:
        """Hold none any more."""
        self._functions.delete_provisioned_concurrency_config(FunctionName=self.function, Qualifier=qualifier)

    def provisioned(self, qualifier: str) -> int:
        """Provisioned concurrency that a version or the alias holds."""
        try:
            found = self._functions.get_provisioned_concurrency_config(FunctionName=self.function, Qualifier=qualifier)
        except self._functions.exceptions.ProvisionedConcurrencyConfigNotFoundException:
            return 0
        return int(found["RequestedProvisionedConcurrentExecutions"])

    def invoke(self) -> Any:
        """One request by the alias; its answer."""
        answer = self._functions.invoke(FunctionName=self.function, Qualifier=self.alias, Payload=b"{}")
        return json.loads(answer["Payload"].read())

    def traffic(self, rps: float = 12) -> Traffic:
        """Requests by the alias, as long as it is entered; many at a time would mean as many cold starts."""
        return Traffic(self._headgate.aws, self.function, self.alias, rps)


class Queue:
    """A queue that remembers what it was sent."""

    def __init__(self, client: Any, url: str) -> None:
        self._client, self.url = client, url
        self._lock = threading.Lock()
        self._heard: list[dict[str, Any]] = []

    @property
    def arn(self) -> str:
        return str(
            self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        )

    def allow(self, service: str, source: str) -> None:
        """Let an AWS service send what comes from a resource."""
        condition = {"ArnEquals": {"aws:SourceArn": source}}
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sqs:SendMessage"}
        policy = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": self.arn, "Condition": condition}]}
        self._client.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": json.dumps(policy)})

    def take(self) -> list[dict[str, Any]]:
        """What is in it now, taken out."""
        taken: list[dict[str, Any]] = []
        while found := self._receive():
            for message in found:
                self._client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            taken += found
        return taken

    def heard(self) -> list[dict[str, Any]]:
        """Everything that it was ever sent."""
        with self._lock:
            self._heard += self.take()
            return self._heard[:]

    def forget(self) -> None:
        """Take out what is in it, and forget what it was ever sent."""
        with self._lock:
            self.take()
            self._heard.clear()

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found


class Headgate:
    """The deployed application.

    Parameters
    ----------
    outputs
        The stack's outputs.
    """

    def __init__(self, aws: EmbeddedAws, outputs: Outputs) -> None:
        self.aws, self.outputs = aws, outputs
        self.functions, self.states, self.queues = aws.client("lambda"), aws.client("stepfunctions"), aws.client("sqs")
        self.alarms, self.bus, self.topics = aws.client("cloudwatch"), aws.client("events"), aws.client("sns")
        self.dynamodb = aws.client("dynamodb")
        self.table = Table(self.dynamodb, outputs["TableName"])
        self.dead_letters = Queue(self.queues, outputs["RequestDeadLettersUrl"])
        self.fifo_dead_letters = Queue(self.queues, outputs["RequestFifoDeadLettersUrl"])
        self.job_dead_letters = Queue(self.queues, outputs["JobDeadLettersUrl"])
        self.undelivered = Queue(self.queues, outputs["UndeliveredUrl"])
        self._numbers, self._prefix = itertools.count(1), uuid.uuid4().hex[:4]
        self._makers = ThreadPoolExecutor(3)
        self._hooks: dict[str, str] = {}
        self._stock: deque[Future[Service]] = deque()
        self._heard, self._notified = self._new_queue("announcements"), self._new_queue("notifications")
        self._listen()

    # What users do

    def send(self, detail_type: str, detail: Any) -> str:
        """Put an event on the bus; answers the event's id."""
        entry = {"Source": "tests", "DetailType": detail_type, "Detail": json.dumps(detail)}
        answer = self.bus.put_events(Entries=[{**entry, "EventBusName": self.outputs["BusName"]}])
        return str(answer["Entries"][0]["EventId"])

    def request(self, **detail: Any) -> str:
        """Ask for a rollout by an event; answers its id."""
        detail = {"id": self.new_id(), **detail}
        self.send("Rollout Requested", detail)
        return str(detail["id"])

    def request_in_order(self, group: str, **detail: Any) -> str:
        """Ask for a rollout by the FIFO queue; answers its id."""
        detail = {"id": self.new_id(), **detail}
        self.send_in_order(group, json.dumps(detail), str(detail["id"]))
        return str(detail["id"])

    def send_in_order(self, group: str, body: str, deduplication_id: str) -> None:
        """Put a message into the FIFO queue."""
        self.queues.send_message(
            QueueUrl=self.outputs["RequestFifoQueueUrl"],
            MessageBody=body,
            MessageGroupId=group,
            MessageDeduplicationId=deduplication_id,
        )

    def start(self, detail: Any, name: str | None = None) -> str:
        """Start the rollout machine directly; answers the execution's name."""
        name = name or self.new_id()
        self.states.start_execution(
            stateMachineArn=self.outputs["RolloutMachineArn"], name=name, input=json.dumps(detail)
        )
        return name

    def signal(self, rollout_id: str, signal: str, by: str = "ada", reason: str = "") -> None:
        """Send an operator's signal."""
        self.send("Rollout Signal", {"rolloutId": rollout_id, "signal": signal, "by": by, "reason": reason})

    def signal_now(self, rollout_id: str, signal: str, by: str = "ada", reason: str = "") -> None:
        """Hand an operator's signal to its function, and wait until that is done with it."""
        detail = {"rolloutId": rollout_id, "signal": signal, "by": by, "reason": reason}
        event = {"id": str(uuid.uuid4()), "time": now_iso(), "detail-type": "Rollout Signal", "detail": detail}
        self._run("signaller", event)

    def undo(self, target: dict[str, Any], **detail: Any) -> str:
        """Ask for the last promotion to be taken back; answers the id of the rollout that does it."""
        detail = {"id": self.new_id(), "target": target, **detail}
        self.send("Undo Requested", detail)
        return str(detail["id"])

    def stop(self, rollout_id: str) -> None:
        """Stop a rollout's execution."""
        self.states.stop_execution(executionArn=self.record(rollout_id)["execution"], cause="by the test")

    # What time does

    def sweep(self) -> None:
        """Let the warden look at every held lock, as it does each minute."""
        self._run("warden", {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}})

    def turn_back(self, rollout_id: str, field: str, *, hours: float) -> None:
        """Let a time on a rollout's record be so long ago."""
        then = datetime.now(UTC) - timedelta(hours=hours)
        self.table.amend(rollout_id, {field: then.isoformat(timespec="milliseconds")})

    def observe(self) -> None:
        """Let the observer look at CloudWatch, as it does each minute."""
        self._run("observer", {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}})

    def deaf_to_ended_executions(self) -> AbstractContextManager[None]:
        """As long as it is entered, the events of executions that have ended are lost."""
        return self._deaf_to("Step Functions Execution Status Change")

    def deaf_to_alarms(self) -> AbstractContextManager[None]:
        """As long as it is entered, the events of alarms are lost."""
        return self._deaf_to("CloudWatch Alarm State Change")

    @contextmanager
    def _deaf_to(self, detail_type: str) -> Iterator[None]:
        rules = [rule["Name"] for rule in self.bus.list_rules()["Rules"] if detail_type in rule.get("EventPattern", "")]
        assert rules, f"nobody listens for {detail_type}"
        for rule in rules:
            self.bus.disable_rule(Name=rule)
        try:
            yield
        finally:
            for rule in rules:
                self.bus.enable_rule(Name=rule)

    def _run(self, function: str, event: dict[str, Any]) -> None:
        answer = self.functions.invoke(FunctionName=f"{PREFIX}-{function}", Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()

    # What users see

    def record(self, rollout_id: str) -> dict[str, Any]:
        """The record of a rollout as it is now; empty where there is none."""
        return stored_rollout(self.table, rollout_id) or {}

    def ended(self, rollout_id: str, seconds: float = 60) -> dict[str, Any]:
        """The record of a rollout once it has ended, and its execution too."""
        record = eventually(
            lambda: "endedAt" in (found := self.record(rollout_id)) and found,
            seconds,
            lambda: f"{rollout_id} has not ended; its record: {self.record(rollout_id)}",
        )
        eventually(lambda: self.execution(record) != "RUNNING", 5, lambda: f"the execution of {rollout_id} still runs")
        return dict(record)

    def end_of(self, name: str) -> tuple[str, Any]:
        """How a direct execution has ended that does not carry a rollout out itself: its error, or its output."""
        arn = execution_arn(self.outputs["RolloutMachineArn"], name)
        ended = eventually(
            lambda: (found := self.states.describe_execution(executionArn=arn))["status"] != "RUNNING" and found,
            10,
            lambda: f"the execution {name} still runs",
        )
        if ended["status"] == "SUCCEEDED":
            return "SUCCEEDED", json.loads(ended["output"])
        return ended["error"], ended["cause"]

    def execution(self, record: dict[str, Any]) -> str:
        """The status of a rollout's execution; empty where none was ever started."""
        try:
            return str(self.states.describe_execution(executionArn=record["execution"])["status"])
        except self.states.exceptions.ExecutionDoesNotExist:
            return ""

    def entered(self, record: dict[str, Any]) -> list[str]:
        """Names of the states that a rollout's execution has entered, in order."""
        pages = self.states.get_paginator("get_execution_history").paginate(executionArn=record["execution"])
        return [
            event["stateEnteredEventDetails"]["name"]
            for page in pages
            for event in page["events"]
            if event["type"].endswith("StateEntered")
        ]

    def outbox(self, rollout_id: str) -> list[dict[str, Any]]:
        """The events that the record holds, oldest first."""
        events = [item for item in history(self.table, rollout_id) if item["sk"].startswith("EVENT#")]
        return sorted(events, key=lambda item: str(item["detail"]["at"]))

    def events(self, rollout_id: str, detail_type: str) -> list[dict[str, Any]]:
        """The details of what the record says has happened so far, of one kind."""
        return [item["detail"] for item in self.outbox(rollout_id) if item["detailType"] == detail_type]

    def until(self, rollout_id: str, detail_type: str, count: int = 1, seconds: float = 30) -> None:
        """Wait until something has happened ``count`` times."""
        eventually(
            lambda: len(self.events(rollout_id, detail_type)) >= count,
            seconds,
            lambda: f"{rollout_id}: no {detail_type}; there are {[e['detailType'] for e in self.outbox(rollout_id)]}",
        )

    def baking(self, rollout_id: str, seconds: float = 30) -> None:
        """Wait until a bake is open."""
        eventually(
            lambda: "token" in self.record(rollout_id),
            seconds,
            lambda: f"{rollout_id} is not baking: {self.record(rollout_id)}",
        )

    def announced(self, rollout_id: str) -> list[dict[str, Any]]:
        """What the bus has said of a rollout so far, in the order in which it came."""
        heard = [json.loads(message["Body"]) for message in self._heard.heard()]
        return [event for event in heard if event["detail"].get("rolloutId") == rollout_id]

    def notified(self, rollout_id: str) -> list[dict[str, Any]]:
        """What the topic has said of a rollout so far."""
        told = [json.loads(json.loads(message["Body"])["Message"]) for message in self._notified.heard()]
        return [event for event in told if event.get("detail", {}).get("rolloutId") == rollout_id]

    def alarmed(self, metric: str) -> list[dict[str, Any]]:
        """What alarms on a metric have told the topic so far."""
        told = [json.loads(json.loads(message["Body"])["Message"]) for message in self._notified.heard()]
        return [alarm for alarm in told if alarm.get("Trigger", {}).get("MetricName") == metric]

    def in_phase(self, rollout_id: str, phase: str, seconds: float = 30) -> None:
        """Wait until a rollout is in a phase."""
        eventually(
            lambda: self.record(rollout_id).get("phase") == phase,
            seconds,
            lambda: f"{rollout_id} is not {phase}: {self.record(rollout_id)}",
        )

    def until_entered(self, rollout_id: str, state: str, seconds: float = 30) -> None:
        """Wait until a rollout's execution has entered a state."""
        eventually(
            lambda: (record := self.record(rollout_id)) and self.execution(record) and state in self.entered(record),
            seconds,
            lambda: f"{rollout_id} has not entered {state}: {self.entered(self.record(rollout_id))}",
        )

    def until_signalled(self, rollout_id: str, seconds: float = 10) -> None:
        """Wait until a signal is on record."""
        eventually(lambda: self.record(rollout_id).get("signals"), seconds, lambda: f"no signal reached {rollout_id}")

    def alias(self, target: dict[str, Any]) -> Serving | None:
        """A target as it is now; None where there is no such alias."""
        try:
            alias = self.functions.get_alias(FunctionName=target["function"], Name=target["alias"])
        except self.functions.exceptions.ResourceNotFoundException:
            return None
        weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        return Serving(alias["FunctionVersion"], weights, alias["RevisionId"])

    def waiting(self, target_key: str) -> list[str]:
        """Ids of the rollouts in line for a target, first come first."""
        found = self.dynamodb.query(
            TableName=self.outputs["TableName"],
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :wait)",
            ExpressionAttributeValues=to_item({":pk": f"TARGET#{target_key}", ":wait": "WAIT#"}),
        )["Items"]
        return [str(from_item(item)["rolloutId"]) for item in found]

    # What the tests need

    def new_id(self) -> str:
        """An id that no other rollout has."""
        return self._name("rollout")

    def arn_for(self, rollout_id: str) -> str:
        """The execution that carries a rollout out which was requested by an event."""
        return execution_arn(self.outputs["RolloutMachineArn"], execution_name(rollout_id))

    def make_service(self, name: str | None = None) -> Service:
        """A new service with its telemetry on."""
        function = name or self._name("shop")
        variables = {"TELEMETRY_STREAM": self.outputs["TelemetryStreamName"], "RELEASE": "1", "BROKEN": "no"}
        layers = [self.outputs["HeadgateLayerArn"]]
        self._make_function(function, SERVICE, Layers=layers, Environment={"Variables": variables})
        self.functions.publish_version(FunctionName=function)
        service = Service(self, function)
        service.publish()
        self.functions.create_alias(FunctionName=function, Name=service.alias, FunctionVersion="1")
        return service

    def make_hook(self, code: str, **settings: Any) -> str:
        """A function to be asked as a hook, the same one for the same code; answers its name."""
        if code not in self._hooks:
            self._hooks[code] = self._name("hook")
            self._make_function(self._hooks[code], code, **settings)
        return self._hooks[code]

    def make_machine(self, *states: dict[str, Any]) -> str:
        """A state machine of these states, one after the other, to be run as a hook; answers its ARN."""
        name = self._name("machine")
        named = {str(number): {**state, "Next": str(number + 1)} for number, state in enumerate(states[:-1])}
        named[str(len(states) - 1)] = states[-1]
        definition = {"QueryLanguage": "JSONata", "StartAt": "0", "States": named}
        made = self.states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        return str(made["stateMachineArn"])

    def make_alarm(self, state: str = "OK") -> str:
        """An alarm that changes by ``set_alarm`` only; answers its name."""
        name = self._name("alarm")
        self._put_alarm(name, Namespace="tests", MetricName=name, Threshold=0, TreatMissingData="ignore")
        self.set_alarm(name, state)
        return name

    def make_alarm_on_errors(self, service: Service, more_than: int) -> str:
        """An alarm on the failed requests by a service's alias in a minute; answers its name."""
        name, resource = self._name("errors"), f"{service.function}:{service.alias}"
        dimensions = [{"Name": "FunctionName", "Value": service.function}, {"Name": "Resource", "Value": resource}]
        about = {"Namespace": "AWS/Lambda", "MetricName": "Errors", "Dimensions": dimensions}
        self._put_alarm(name, **about, Threshold=more_than, TreatMissingData="notBreaching")
        return name

    def _put_alarm(self, name: str, **settings: Any) -> None:
        common = {"Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
        self.alarms.put_metric_alarm(AlarmName=name, ComparisonOperator="GreaterThanThreshold", **common, **settings)

    def set_alarm(self, name: str, state: str) -> None:
        """Change the state of an alarm."""
        self.alarms.set_alarm_state(AlarmName=name, StateValue=state, StateReason=f"the test set {state}")

    def until_all_requests_are_taken_in(self, seconds: float = 10) -> None:
        """Wait until no request is on its way."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def empty(url: str) -> bool:
            found = self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            return not any(int(found[name]) for name in names)

        urls = (self.outputs["RequestQueueUrl"], self.outputs["RequestFifoQueueUrl"])
        eventually(lambda: all(empty(url) for url in urls), seconds, lambda: "requests are still on their way")

    def forget_letters(self) -> None:
        """Empty the dead-letter queues, also of what is still on its way to them."""
        with suppress(AssertionError):
            self.until_all_requests_are_taken_in()
        for queue in (self.dead_letters, self.fifo_dead_letters, self.job_dead_letters, self.undelivered):
            queue.forget()

    def wait_for_latest(self, function: str) -> None:
        """Wait until $LATEST can be published."""

        def ready() -> bool:
            found = self.functions.get_function_configuration(FunctionName=function)
            return bool(found["State"] == "Active" and found["LastUpdateStatus"] == "Successful")

        eventually(ready, 10, lambda: f"{function} has not become active")

    def next_service(self) -> Service:
        """A service that nobody has used; the next ones are made meanwhile, as each takes a second."""
        while len(self._stock) < SERVICES_IN_STOCK:
            self._stock.append(self._makers.submit(self.make_service))
        return self._stock.popleft().result()

    def close(self) -> None:
        """End what runs in the background."""
        self._makers.shutdown(cancel_futures=True)

    def _name(self, what: str) -> str:
        return f"{what}-{self._prefix}-{next(self._numbers)}"

    def _make_function(self, function: str, code: str, **settings: Any) -> None:
        self.functions.create_function(
            FunctionName=function,
            Runtime=parameters()["Runtime"],
            Handler="app.handler",
            Role=ROLE,
            Timeout=10,
            Code={"ZipFile": zipped(code)},
            **settings,
        )
        self.wait_for_latest(function)

    def _new_queue(self, name: str) -> Queue:
        return Queue(self.queues, self.queues.create_queue(QueueName=f"{name}-{uuid.uuid4().hex[:8]}")["QueueUrl"])

    def _listen(self) -> None:
        bus = self.outputs["BusName"]
        self.bus.put_rule(Name="tests", EventBusName=bus, EventPattern=json.dumps({"source": ["headgate"]}))
        self.bus.put_targets(Rule="tests", EventBusName=bus, Targets=[{"Id": "queue", "Arn": self._heard.arn}])
        topic = self.outputs["NotificationsTopicArn"]
        self._notified.allow("sns.amazonaws.com", topic)
        self.topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self._notified.arn)


def sample(name: str) -> Any:
    """A sample event, about the account and Region of the embedded AWS."""
    there, here = "eu-central-1:123456789012", "us-east-1:000000000000"
    text = json.dumps(event(name)).replace(there, here)
    return json.loads(text.replace("123456789012", "000000000000").replace(":headgate-", f":{PREFIX}-"))


def zipped(code: str) -> bytes:
    """A deployment package with one module, ``app``."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", code)
    return archive.getvalue()


def eventually(look: Callable[[], Any], seconds: float, otherwise: Callable[[], str]) -> Any:
    """The first truthy answer of ``look``; fails with what ``otherwise`` says when the time is up.

    Parameters
    ----------
    seconds
        How long it takes at most on a quiet machine.
    """
    deadline = time.monotonic() + patient(seconds)
    while not (seen := look()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)
    return seen


def steps(*weights_and_bakes: tuple[float, int]) -> dict[str, Any]:
    """A strategy of steps, each a weight and its bake in seconds."""
    return {"steps": [{"weight": weight, "bakeSeconds": bake} for weight, bake in weights_and_bakes]}
