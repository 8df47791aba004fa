"""Clients for one embedded AWS, and the few things which tests of it do all the time."""

import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

import botocore.config
import botocore.exceptions

from emulator.server import EmbeddedAws
from tests.local.patience import A_WHILE
from tests.local.roles import ROLE

LONGEST_POLL = 20
"""The most seconds that SQS lets a receive wait."""

ECHO = """
def handler(event, context):
    return {"event": event, "version": context.function_version, "arn": context.invoked_function_arn}
"""


class Aws:
    """One server's clients, and names that no other test uses."""

    def __init__(self, server: EmbeddedAws, prefix: str) -> None:
        """Clients are made at first use."""
        self.server, self.prefix = server, prefix
        self._clients: dict[str, Any] = {}

    def __getattr__(self, service: str) -> Any:
        """A client: `aws.sqs`, `aws.lambda_`, `aws.states`."""
        name = {"lambda_": "lambda", "states": "stepfunctions"}.get(service, service)
        if name not in self._clients:
            config = botocore.config.Config(retries={"total_max_attempts": 1})
            self._clients[name] = self.server.client(name, config=config)
        return self._clients[name]

    def function(self, code: str, name: str = "fn", **settings: Any) -> str:
        """Create a function from source; returns its name."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("app.py", code)
        self.lambda_.create_function(
            FunctionName=f"{self.prefix}-{name}",
            Runtime="python3.11",
            Handler="app.handler",
            Role=settings.pop("Role", ROLE),
            Timeout=settings.pop("Timeout", 10),
            Code={"ZipFile": archive.getvalue()},
            **settings,
        )
        return f"{self.prefix}-{name}"

    def two_versions(self, code: str = ECHO) -> str:
        """A function with versions 1 and 2; returns its name."""
        name = self.function(code)
        for number in ("1", "2"):
            self.lambda_.update_function_configuration(FunctionName=name, Description=f"version {number}")
            assert self.lambda_.publish_version(FunctionName=name)["Version"] == number
        return name

    def invoke(self, name: str, payload: Any = None, **options: Any) -> tuple[Any, Any]:
        """(answer, response) of a synchronous invocation."""
        response = self.lambda_.invoke(FunctionName=name, Payload=json.dumps(payload or {}), **options)
        return json.loads(response["Payload"].read() or "null"), response

    def queue(self, name: str = "queue", **attributes: str) -> tuple[str, str]:
        """(URL, ARN) of a new queue."""
        url = self.sqs.create_queue(QueueName=f"{self.prefix}-{name}", Attributes=attributes)["QueueUrl"]
        return url, f"arn:aws:sqs:us-east-1:000000000000:{self.prefix}-{name}"

    def receive(self, url: str, seconds: int = LONGEST_POLL) -> Any:
        """The next message's body from JSON, or None if there is none within the time."""
        messages = self.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=seconds).get("Messages", [])
        for message in messages:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return json.loads(messages[0]["Body"]) if messages else None

    def listen(self, pattern: dict[str, Any]) -> str:
        """The URL of a queue which gets the default bus's events of this pattern."""
        url, arn = self.queue("events")
        self.events.put_rule(Name=f"{self.prefix}-rule", EventPattern=json.dumps(pattern))
        self.events.put_targets(Rule=f"{self.prefix}-rule", Targets=[{"Id": "queue", "Arn": arn}])
        return url

    def machine(self, states: dict[str, Any], name: str = "machine", **fields: Any) -> str:
        """The ARN of a new JSONata state machine which starts at the first of the states."""
        definition = {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states, **fields}
        created = self.states.create_state_machine(
            name=f"{self.prefix}-{name}", definition=json.dumps(definition), roleArn=ROLE
        )
        return str(created["stateMachineArn"])

    def start(self, machine: str, given: Any = None) -> str:
        """Start an execution; returns its ARN."""
        return str(self.states.start_execution(stateMachineArn=machine, input=json.dumps(given or {}))["executionArn"])

    def outcome(self, execution: str, seconds: float = A_WHILE) -> dict[str, Any]:
        """The description of the execution once it has ended (or as it is when the time is up)."""

        def ended() -> Any:
            described = self.states.describe_execution(executionArn=execution)
            return described if described["status"] != "RUNNING" else None

        return eventually(ended, seconds) or dict(self.states.describe_execution(executionArn=execution))

    def run(self, states: dict[str, Any], given: Any = None, **fields: Any) -> dict[str, Any]:
        """Run a new state machine to its end."""
        return self.outcome(self.start(self.machine(states, **fields), given))

    def metric(self, metric: str, **dimensions: str) -> float | None:
        """The sum of an AWS/Lambda metric, None where there is no such metric."""
        now = time.time()
        found = self.cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - 600,
            EndTime=now + 60,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in found) if found else None


def eventually(look: Callable[[], Any], seconds: float = A_WHILE) -> Any:
    """The first truthy answer of `look`, or its last one when the time is up.

    Give another limit only where what is looked for need not come.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


def error_code(call: Callable[..., Any], **arguments: Any) -> str | None:
    """The error that AWS answers with, None for success."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return None
