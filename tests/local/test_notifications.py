"""Notifications of the deployed application: e-mails, and chat on a receiver of this machine."""

from __future__ import annotations

import json
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.local.clients import eventually as soon
from tests.local.deployed import Queue, eventually, steps
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.server import EmbeddedAws
    from tests.local.clients import Aws
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

ADDRESS = "team@example.com"
TWO = {"version": "2"}
WORKFLOW = "/workflows/0a1b/triggers/manual/paths/invoke"


class Call(NamedTuple):
    """A request that the receiver got."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


class Receiver:
    """An HTTP server on loopback that keeps what it gets, and answers with a status."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Call("POST", parts.path, parse_qs(parts.query), headers, body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def at(self, path: str) -> list[Call]:
        """What came to a path."""
        return [call for call in self.calls if call.path == path]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.server.shutdown()
    started.server.server_close()


def mailbox(server: EmbeddedAws) -> list[dict[str, Any]]:
    """Every e-mail that was sent."""
    with urllib.request.urlopen(f"{server.endpoint_url}/_ministack/ses/messages") as answer:  # noqa: S310 - loopback
        return [each for sent in json.load(answer)["messages"].values() for each in sent]


def emails(headgate: Headgate, reference: str) -> list[dict[str, Any]]:
    """The e-mails about a rollout."""
    sent = mailbox(headgate.aws)
    return [each for each in sent if reference in each["Subject"] and each["To"] == [ADDRESS]]


@contextmanager
def parameters(headgate: Headgate, **changed: str) -> Iterator[dict[str, str]]:
    """The stack's outputs with other parameters, as long as it is entered."""
    stacks = headgate.aws.client("cloudformation")

    def update(**values: str) -> dict[str, str]:
        [stack] = stacks.describe_stacks(StackName="headgate")["Stacks"]
        keys = [each["ParameterKey"] for each in stack["Parameters"]]
        kept = [{"ParameterKey": key, "UsePreviousValue": True} for key in keys if key not in values]
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
        stacks.update_stack(
            StackName="headgate",
            UsePreviousTemplate=True,
            Parameters=[*kept, *given],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        stacks.get_waiter("stack_update_complete").wait(StackName="headgate", WaiterConfig={"Delay": 1})
        [stack] = stacks.describe_stacks(StackName="headgate")["Stacks"]
        assert "xoxb-" not in json.dumps([stack, stacks.describe_stack_events(StackName="headgate")], default=str)
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    [before] = stacks.describe_stacks(StackName="headgate")["Stacks"]
    was = {each["ParameterKey"]: each["ParameterValue"] for each in before["Parameters"]}
    yield update(**changed)
    update(**{name: was[name] for name in changed})


def test_people_get_prose_and_programs_the_event_and_cloudwatch_the_metrics(
    headgate: Headgate, service: Service
) -> None:
    # GIVEN somebody who has subscribed by e-mail, beside a queue
    topic = headgate.outputs["NotificationsTopicArn"]
    arn = headgate.topics.subscribe(TopicArn=topic, Protocol="email", Endpoint=ADDRESS, ReturnSubscriptionArn=True)[
        "SubscriptionArn"
    ]
    # WHEN a rollout is aborted
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=steps((10, 300)))
    headgate.baking(rollout)
    headgate.signal_now(rollout, "abort", by="kim", reason="<!channel> wrong version")
    assert_invariants(headgate, rollout)
    # THEN the e-mail says what has happened and why, with the numbers of the record
    [email] = eventually(lambda: emails(headgate, rollout), 10, lambda: "there is no e-mail")
    headgate.topics.unsubscribe(SubscriptionArn=arn)
    name = f"{service.target['function']}:{service.target['alias']}"
    assert email["Subject"] == f"Rolled back: {name} ({rollout})"
    said = " ".join(email["BodyText"].split())
    assert said.startswith(f"{name}, rollout {rollout}: rolled back at ")
    assert "kim aborted it at " in said
    assert "Weight reached: 10 %" in said
    assert f"headgate explain {rollout}" in said
    assert "/states/home?region=us-east-1#/v2/executions/details/arn:aws:states:" in said
    # AND the queue has the event as the bus delivers it
    eventually(lambda: headgate.notified(rollout), 5, lambda: "the queue got nothing")
    assert headgate.notified(rollout) == headgate.announced(rollout)[-1:]
    # AND the metrics of the rollback are there
    metrics = headgate.alarms.list_metrics(Namespace="Headgate", MetricName="SecondsToRollback")["Metrics"]
    recorded = [{each["Name"]: each["Value"] for each in metric["Dimensions"]} for metric in metrics]
    assert all(dimensions["FunctionName"].endswith("-notifier") for dimensions in recorded)
    # The consumers of other tests are rolled back too.
    assert ("rolled-back", "lambda-alias") in [(each["Outcome"], each["TargetKind"]) for each in recorded]


def test_each_chat_that_is_set_up_gets_its_message_of_the_outcomes_and_targets_that_are_wanted(
    headgate: Headgate, receiver: Receiver
) -> None:
    secret = json.dumps({"slackToken": "xoxb-of-the-test", "teamsSignature": "s1g-of-the-test"})
    headgate.aws.client("secretsmanager").create_secret(Name="chat", SecretString=secret)
    chat = {
        "SlackChannel": "C0123456789",
        "TeamsUrl": f"https://prod-1.westeurope.logic.azure.com{WORKFLOW}?api-version=1&sv=1.0",
        "ChatSecret": "chat",
        "AmazonQTopic": "true",
        "ChatOutcomes": "refused",
        "ChatTargets": "lambda-alias/wanted*",
    }
    with parameters(headgate, **chat) as outputs:
        # GIVEN both API destinations lead to this machine, and a queue has subscribed in Amazon Q's place
        assert point_at(headgate, "SlackDestination", receiver) == "https://slack.com/api/chat.postMessage"
        assert point_at(headgate, "TeamsDestination", receiver) == chat["TeamsUrl"]
        queue = Queue(headgate.queues, headgate.queues.create_queue(QueueName="amazon-q")["QueueUrl"])
        queue.allow("sns.amazonaws.com", outputs["AmazonQTopicArn"])
        headgate.topics.subscribe(TopicArn=outputs["AmazonQTopicArn"], Protocol="sqs", Endpoint=queue.arn)
        # WHEN requests of two targets are refused
        for function in ("unwanted", "wanted"):
            headgate.request(
                id=f"{function}-1",
                target={"kind": "lambda-alias", "function": function, "alias": "live"},
                candidate={"version": "7"},
            )
        # THEN the wanted one is posted to each chat, and with its secret
        eventually(lambda: len(receiver.calls) == 2, 60, lambda: f"{receiver.calls}")
        [slack], [teams] = receiver.at("/api/chat.postMessage"), receiver.at(WORKFLOW)
        assert slack.headers["authorization"] == "Bearer xoxb-of-the-test"
        assert slack.headers["content-type"] == "application/json; charset=utf-8"
        assert (slack.body["channel"], slack.query) == ("C0123456789", {})
        assert slack.body["blocks"][0]["text"]["text"] == "Refused: wanted:live"
        assert teams.query == {"api-version": ["1"], "sv": ["1.0"], "sig": ["s1g-of-the-test"]}
        assert teams.body["attachments"][0]["content"]["type"] == "AdaptiveCard"
        [message] = eventually(queue.heard, 10, lambda: "Amazon Q was told nothing")
        for_q = json.loads(json.loads(message["Body"])["Message"])
        assert (for_q["version"], for_q["source"]) == ("1.0", "custom")
        assert for_q["content"]["title"] == "Refused: wanted:live"
        # AND what a chat refuses for good is set aside
        receiver.status = 400
        headgate.request(
            id="wanted-2",
            target={"kind": "lambda-alias", "function": "wanted", "alias": "live"},
            candidate={"version": "7"},
        )
        letters = eventually(lambda: (found := headgate.undelivered.heard()) and len(found) == 2 and found, 60, str)
        assert {each["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"] for each in letters} == {"HTTP status 400"}
        assert len(receiver.calls) == 4
        headgate.undelivered.forget()
    # AND with the parameters the resources go
    assert headgate.bus.list_api_destinations()["ApiDestinations"] == []


def point_at(headgate: Headgate, name: str, receiver: Receiver) -> str:
    """Let an API destination of the stack lead to the receiver, with its own path and query; answers where it led."""
    stacks = headgate.aws.client("cloudformation")
    found = stacks.describe_stack_resource(StackName="headgate", LogicalResourceId=name)["StackResourceDetail"]
    url = str(headgate.bus.describe_api_destination(Name=found["PhysicalResourceId"])["InvocationEndpoint"])
    here = receiver.url + url.removeprefix(f"https://{urlsplit(url).netloc}")
    headgate.bus.update_api_destination(Name=found["PhysicalResourceId"], InvocationEndpoint=here)
    return url


# The gaps


def test_a_connection_tells_no_secret_and_a_busy_receiver_is_called_again(aws: Aws, receiver: Receiver) -> None:
    receiver.status = 503
    url, arn = aws.queue("letters")
    send_to(aws, receiver, {"DeadLetterConfig": {"Arn": arn}, "RetryPolicy": {"MaximumRetryAttempts": 2}})
    assert soon(lambda: len(receiver.calls) == 3)
    assert aws.receive(url) == {"a": 1}
    [call] = {(each.path, each.query["sig"][0], each.headers["x-key"]) for each in receiver.calls}
    assert call == ("/hook", "secret", "key")
    told = aws.events.describe_connection(Name=f"{aws.prefix}-connection")["AuthParameters"]
    assert told["ApiKeyAuthParameters"] == {"ApiKeyName": "X-Key"}
    assert told["InvocationHttpParameters"]["QueryStringParameters"] == [{"Key": "sig", "IsValueSecret": True}]


def test_ministack_tells_secrets_and_gives_up_at_once(bare: Aws, receiver: Receiver) -> None:
    receiver.status = 503
    url, arn = bare.queue("letters")
    send_to(bare, receiver, {"DeadLetterConfig": {"Arn": arn}, "RetryPolicy": {"MaximumRetryAttempts": 2}})
    assert soon(lambda: receiver.calls)
    assert bare.receive(url, seconds=1) is None
    assert len(receiver.calls) == 1
    told = bare.events.describe_connection(Name=f"{bare.prefix}-connection")["AuthParameters"]
    assert told["InvocationHttpParameters"]["QueryStringParameters"][0]["Value"] == "secret"


def send_to(aws: Aws, receiver: Receiver, target: dict[str, Any]) -> None:
    """Put an event on the default bus that goes to the receiver."""
    parameters = {
        "ApiKeyAuthParameters": {"ApiKeyName": "X-Key", "ApiKeyValue": "key"},
        "InvocationHttpParameters": {
            "QueryStringParameters": [{"Key": "sig", "Value": "secret", "IsValueSecret": True}]
        },
    }
    connection = aws.events.create_connection(
        Name=f"{aws.prefix}-connection", AuthorizationType="API_KEY", AuthParameters=parameters
    )["ConnectionArn"]
    destination = aws.events.create_api_destination(
        Name=f"{aws.prefix}-destination",
        ConnectionArn=connection,
        InvocationEndpoint=f"{receiver.url}/hook",
        HttpMethod="POST",
    )["ApiDestinationArn"]
    aws.events.put_rule(Name=aws.prefix, EventPattern=json.dumps({"source": [aws.prefix]}))
    role = "arn:aws:iam::000000000000:role/chat"
    whole = {"Id": "hook", "Arn": destination, "RoleArn": role, "InputPath": "$.detail", **target}
    aws.events.put_targets(Rule=aws.prefix, Targets=[whole])
    aws.events.put_events(Entries=[{"Source": aws.prefix, "DetailType": "Told", "Detail": '{"a": 1}'}])


def test_an_email_has_the_text_of_its_own_and_a_long_subject_is_refused(aws: Aws) -> None:
    topic = aws.sns.create_topic(Name=aws.prefix)["TopicArn"]
    aws.sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=ADDRESS)
    forms = json.dumps({"default": "{}", "email": "Hello"})
    aws.sns.publish(TopicArn=topic, Message=forms, MessageStructure="json", Subject=aws.prefix)
    [email] = [each for each in mailbox(aws.server) if each["Subject"] == aws.prefix]
    assert (email["To"], email["BodyText"]) == ([ADDRESS], "Hello")
    for subject in ("x" * 100, "two\nlines"):
        with pytest.raises(aws.sns.exceptions.InvalidParameterException, match="Invalid parameter: Subject"):
            aws.sns.publish(TopicArn=topic, Message="a", Subject=subject)


def test_ministack_sends_no_email_and_takes_a_long_subject(bare: Aws) -> None:
    topic = bare.sns.create_topic(Name=bare.prefix)["TopicArn"]
    bare.sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=ADDRESS)
    bare.sns.publish(TopicArn=topic, Message="a", Subject="x" * 100)
    assert mailbox(bare.server) == []


QUERY = {"Type": "AWS::Logs::QueryDefinition", "Properties": {"Name": "one", "QueryString": "fields @message"}}


def test_a_stack_has_saved_queries(aws: Aws) -> None:
    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=json.dumps({"Resources": {"Query": QUERY}}))
    aws.cloudformation.get_waiter("stack_create_complete").wait(StackName=aws.prefix, WaiterConfig={"Delay": 1})
    [found] = aws.logs.describe_query_definitions(queryDefinitionNamePrefix="one")["queryDefinitions"]
    assert (found["name"], found["queryString"]) == ("one", "fields @message")
    aws.cloudformation.delete_stack(StackName=aws.prefix)
    aws.cloudformation.get_waiter("stack_delete_complete").wait(StackName=aws.prefix, WaiterConfig={"Delay": 1})
    assert aws.logs.describe_query_definitions(queryDefinitionNamePrefix="one")["queryDefinitions"] == []


@pytest.mark.parametrize(
    "kind", ["AWS::Logs::QueryDefinition", "AWS::Events::Connection", "AWS::Events::ApiDestination"]
)
def test_ministack_does_not_know_the_types_of_resources(bare: Aws, kind: str) -> None:
    body = json.dumps({"Resources": {"One": {"Type": kind, "Properties": {}}}})
    with pytest.raises(bare.cloudformation.exceptions.ClientError, match=rf"Unrecognized resource types: \[{kind}\]"):
        bare.cloudformation.create_stack(StackName=bare.prefix, TemplateBody=body)
