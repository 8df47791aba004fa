"""Stacks that roll out with Headgate: as CloudFormation has them, without sam, which takes seconds."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Self

import botocore.exceptions
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emulator.application import ROOT, parameters
from tests.local.deployed import eventually, zipped
from tests.local.patience import patient

if TYPE_CHECKING:
    from types import TracebackType

    from tests.local.deployed import Headgate

BUCKET = "artifacts-of-stacks"
RESOURCE = "Rollout"
BASKET = {"items": [{"price": 3.5, "quantity": 2}, {"price": 12, "quantity": 1}]}


class Stack:
    """A stack, as long as it is entered."""

    def __init__(self, headgate: Headgate, name: str, resource: str = RESOURCE) -> None:
        self.headgate, self.name, self.resource = headgate, name, resource
        self.client = headgate.aws.client("cloudformation")
        self.id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the stack. After a failure it is cleaned away as far as it goes, so that the failure is seen."""
        with suppress(botocore.exceptions.ClientError):
            self.client.cancel_update_stack(StackName=self.name)
        if error is None:
            self.delete()
        else:
            with suppress(botocore.exceptions.ClientError):
                self.client.delete_stack(StackName=self.name)

    def start(self, template: str, **given: str) -> None:
        """Create or update the stack, without waiting for it."""
        wanted = {
            "StackName": self.name,
            "TemplateBody": template,
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        }
        if self.id:
            self.client.update_stack(**wanted)
        else:
            self.id = self.client.create_stack(**wanted)["StackId"]

    def deploy(self, template: str, **given: str) -> str:
        """Create or update the stack, and return its status at the end."""
        self.start(template, **given)
        return self.end()

    def delete(self) -> str:
        """Delete the stack, and return its status at the end."""
        if not self.id or self.status == "DELETE_COMPLETE":
            return "DELETE_COMPLETE"
        self.client.delete_stack(StackName=self.name)
        return self.end()

    @property
    def status(self) -> str:
        """The status of the stack."""
        return str(self.client.describe_stacks(StackName=self.id)["Stacks"][0]["StackStatus"])

    def end(self, seconds: float = 90) -> str:
        """Return the status of the stack once nothing happens to it."""
        eventually(lambda: not self.status.endswith("_IN_PROGRESS"), seconds, lambda: "\n".join(self.events()))
        return self.status

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        found = self.client.describe_stacks(StackName=self.id)["Stacks"][0].get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in found}

    def physical_id(self, logical_id: str = "") -> str:
        """Physical id of a resource, by default of the rollout."""
        wanted = {"StackName": self.id, "LogicalResourceId": logical_id or self.resource}
        return str(self.client.describe_stack_resource(**wanted)["StackResourceDetail"]["PhysicalResourceId"])

    def events(self) -> list[str]:
        """What has happened to each resource, oldest first, and why."""
        found = self.client.describe_stack_events(StackName=self.id)["StackEvents"]
        return [
            f"{event['LogicalResourceId']} {event['ResourceStatus']} {event.get('ResourceStatusReason', '')}"
            for event in reversed(found)
        ]

    def failures(self) -> list[str]:
        """Why the rollout's resource has failed, oldest first."""
        return [event for event in self.events() if re.match(rf"{self.resource} (CREATE|UPDATE|DELETE)_FAILED", event)]

    def rollouts(self) -> list[dict[str, Any]]:
        """The records of the rollouts that the stack has started, oldest first."""
        found = self.headgate.aws.client("dynamodb").scan(
            TableName=self.headgate.outputs["TableName"],
            FilterExpression="begins_with(pk, :pk) AND sk = :sk",
            ExpressionAttributeValues={":pk": {"S": f"ROLLOUT#{self.name}/"}, ":sk": {"S": "ROLLOUT"}},
            ConsistentRead=True,
        )["Items"]
        ids = [item["pk"]["S"].removeprefix("ROLLOUT#") for item in found]
        records = [{**self.headgate.record(rollout_id), "rolloutId": rollout_id} for rollout_id in ids]
        return sorted(records, key=lambda record: str(record.get("startedAt", "")))

    def baking(self, count: int = 1) -> dict[str, Any]:
        """Wait until the stack's rollout number ``count`` bakes, and return its record."""

        def bakes() -> dict[str, Any] | None:
            records = self.rollouts()
            return records[-1] if len(records) == count and "token" in records[-1] else None

        found: dict[str, Any] = eventually(bakes, 60, lambda: "\n".join([*self.events(), str(self.rollouts())]))
        return found


def one_rollout(more: dict[str, Any] | None = None, **properties: Any) -> str:
    """A template with nothing but a rollout, and the resources ``more``."""
    rollout = {
        "Type": "Custom::HeadgateRollout",
        "Properties": {"ServiceToken": {"Fn::ImportValue": "headgate-ServiceToken"}, **properties},
    }
    gives = {
        name: {"Value": {"Fn::GetAtt": [RESOURCE, name]}} for name in ("AliasArn", "Version", "RolloutId", "Warnings")
    }
    outcome = {"Outcome": {"Value": {"Fn::GetAtt": [RESOURCE, "Outcome"]}}}
    return json.dumps({"Resources": {RESOURCE: rollout, **(more or {})}, "Outputs": gives | outcome})


class Shop(Stack):
    """A stack of a template in ``examples``, whose code is new in each release."""

    def __init__(self, headgate: Headgate, name: str, template: str) -> None:
        super().__init__(headgate, name, "ShopRollout")
        self._text = (ROOT / "examples" / f"{template}.yaml").read_text("utf-8")
        self._objects = headgate.aws.client("s3")
        self._objects.create_bucket(Bucket=BUCKET)

    def release(self, release: str, **given: str) -> str:
        """Deploy a release, and return the stack's status at the end."""
        return self.deploy(self.template(release), **self.given(release, **given))

    def given(self, release: str, **given: str) -> dict[str, str]:
        """The parameters of a release."""
        wanted = {"Release": release, "Strategy": "Canary50Percent2Seconds", **parameters(), **self.headgate.outputs}
        return {
            name: value for name, value in (wanted | given).items() if f"\n  {name}:\n    Type: String" in self._text
        }

    def template(self, release: str) -> str:
        """The template with the code of a release."""

        def put(found: re.Match[str]) -> str:
            folder, key = found[1], f"{self.name}/{found[1]}-{release}.zip"
            code = (ROOT / "examples" / folder / "app.py").read_text("utf-8")
            self._objects.put_object(Bucket=BUCKET, Key=key, Body=zipped(f"{code}\n# release {release}\n"))
            return f"CodeUri: s3://{BUCKET}/{key}"

        return re.sub(r"CodeUri: (\w+)", put, self._text)

    @property
    def function(self) -> str:
        """Name of the function."""
        return self.outputs["Function"]

    def alias(self, name: str = "live") -> tuple[str, dict[str, float]]:
        """The alias's version, and the weights of others."""
        found = self.headgate.functions.get_alias(FunctionName=self.function, Name=name)
        return found["FunctionVersion"], found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})

    def by_api(self) -> str:
        """The version that answers a request by the API."""
        return self._version(f"/restapis/{self.outputs['Api']}/Prod/_user_request_/basket")

    def by_url(self) -> str:
        """The version that answers a request by the function's URL."""
        host = self.outputs["Url"].removeprefix("https://").rstrip("/")
        return self._version("/", Host=host)

    def _version(self, path: str, **headers: str) -> str:
        headers["Content-Type"] = "application/json"
        request = AWSRequest("POST", f"{self.headgate.aws.endpoint_url}{path}", headers, json.dumps(BASKET).encode())
        SigV4Auth(Credentials("000000000000", "embedded"), "lambda", "us-east-1").add_auth(request)
        connection = HTTPConnection("127.0.0.1", self.headgate.aws.port, timeout=patient(10))
        connection.request("POST", path, request.data, dict(request.headers))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200, body
        return str(json.loads(body)["version"])

    def by_queue(self) -> None:
        """Send a message, and wait until it has been processed."""
        queues, url = self.headgate.queues, self.outputs["Queue"]
        queues.send_message(QueueUrl=url, MessageBody=json.dumps(BASKET))
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def gone() -> bool:
            found = queues.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            return not any(int(found[name]) for name in names)

        eventually(gone, 10, lambda: "the message has not been processed")
