"""What a probe works with: it creates resources that are deleted after the probe, and waits for answers.

Every wait ends. Nothing here decides what an answer means.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.exceptions import ClientError

from tools.probes.account import new_client
from tools.probes.model import UnclearError
from tools.probes.resources import PREFIX, TAG, Resource, code_of, role_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.probes.account import Account, Clock

LONGEST_WAIT = 240.0
"""Longest wait for one thing, in seconds."""

PROBE_SECONDS = 300
"""After this time a probe waits for nothing more."""

PROPAGATION_SECONDS = 60
"""How long a new role, policy or queue may take until all of AWS knows it."""

RUNTIME = "python3.13"

_NOT_YET_KNOWN = (
    "cannot be assumed by Lambda",
    "cannot be assumed by principal",
    "provided execution role does not have permissions",
    "does not have permissions to call",
    "not authorized to perform: sts:AssumeRole",
    "not authorized to create managed-rule",
    "not authorized to access the Log Destination",
    "Neither the global service principal",
    "Access denied for operation 'AWSEvents'",
    "Invalid principal in policy",
    "Please ensure the role can perform",
    "is invalid or cannot be assumed",
)
"""Parts of the messages with which AWS answers while it does not know a new role or policy."""


class Queue(NamedTuple):
    """A queue of SQS."""

    url: str
    arn: str


class Lab:
    """The resources, and the patience, of one probe.

    Parameters
    ----------
    account
        Where the probe asks.
    probe
        Id of the probe; part of every name.
    longest_wait
        No wait is longer, in seconds.
    options
        What only the caller knows, such as a subnet.
    """

    def __init__(
        self, account: Account, probe: str, *, longest_wait: float = LONGEST_WAIT, options: dict[str, str] | None = None
    ) -> None:
        self.account = account
        self.options = options or {}
        self._probe = probe
        self._longest_wait = longest_wait
        self._ends_at = account.clock.monotonic() + PROBE_SECONDS
        self._created: list[Resource] = []

    @property
    def created(self) -> list[Resource]:
        """What exists because of this probe, the latest first: the order of deletion."""
        return list(reversed(self._created))

    @property
    def clock(self) -> Clock:
        """The clock of the account."""
        return self.account.clock

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        return self.account.client(service)

    def name(self, part: str) -> str:
        """Return a name of this run and probe."""
        return f"{PREFIX}{self.account.run}-{self._probe}-{part}"

    @property
    def tags(self) -> dict[str, str]:
        """The one tag, as a map."""
        return {TAG: self.account.run}

    def tag_list(self, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
        """Return the one tag, as a list."""
        return [{key: TAG, value: self.account.run}]

    def own(self, kind: str, identifier: str) -> None:
        """Note a resource, so that it is deleted after the probe."""
        resource = Resource(kind, identifier)
        self._created.append(resource)
        self.account.own(resource)

    # Waiting

    def until(self, look: Callable[[], Any], seconds: float, pause: float = 2) -> Any:
        """Return the first true answer of ``look``, or the last one when the time is up."""
        deadline = self._deadline(seconds)
        while not (seen := look()) and self.clock.monotonic() < deadline:
            self._pause(pause)
        return seen

    def _deadline(self, seconds: float) -> float:
        return min(self.clock.monotonic() + min(seconds, self._longest_wait), self._ends_at)

    def _pause(self, seconds: float) -> None:
        self.clock.sleep(min(seconds, self._longest_wait / 20))

    def must(self, look: Callable[[], Any], seconds: float, what: str, pause: float = 2) -> Any:
        """Return the first true answer of ``look``; without one, the probe is unclear."""
        if seen := self.until(look, seconds, pause):
            return seen
        raise UnclearError(f"{what} did not happen within {min(seconds, self._longest_wait):g} s")

    def settled(self, call: Callable[[], Any], *also: str, seconds: float = PROPAGATION_SECONDS) -> Any:
        """Return the answer of a call, which is repeated while AWS does not yet know a new role or policy.

        Parameters
        ----------
        also
            More parts of messages for which the call is repeated.
        """
        deadline = self._deadline(seconds)
        while True:
            try:
                return call()
            except ClientError as error:
                known = any(part in str(error) for part in (*_NOT_YET_KNOWN, *also))
                if not known or self.clock.monotonic() > deadline:
                    raise
                self._pause(3)

    # Identities

    def role(self, part: str, service: str, *statements: dict[str, Any], conditions: bool = True) -> str:
        """Create a role for a service, or for this account (``service`` is then empty); return its ARN.

        Parameters
        ----------
        conditions
            Whether a service must meet the conditions that the template's roles have for it. Only a control does
            without.
        """
        principal = {"Service": service} if service else {"AWS": self.account.arn("iam", "root", region=False)}
        trust: dict[str, Any] = {"Principal": principal, "Action": "sts:AssumeRole"}
        if conditions and (wanted := trust_conditions(self.account, service)):
            trust["Condition"] = wanted
        iam, name = self.client("iam"), self.name(part)
        self.own("role", name)
        created = iam.create_role(
            RoleName=name,
            Path=role_path(self.account.run),
            AssumeRolePolicyDocument=policy(trust),
            Description="A probe of Headgate. It may be deleted.",
            Tags=self.tag_list(),
        )
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="probe", PolicyDocument=policy(*statements))
        return str(created["Role"]["Arn"])

    def as_role(self, arn: str) -> Callable[[str], Any]:
        """Return a factory of clients that act as a role. The account's owner must be allowed to assume roles.

        Their endpoints are those of the owner's profile, which may name others than AWS's public ones.
        """
        given = self.settled(
            lambda: self.client("sts").assume_role(RoleArn=arn, RoleSessionName="probe", DurationSeconds=900)
        )["Credentials"]
        session = boto3.Session(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], self.account.region
        )
        return lambda service: new_client(session, service, self.client(service).meta.endpoint_url)

    def allowed(self, call: Callable[[], Any], control: Callable[[], Any]) -> tuple[bool, str]:
        """Return whether a call is allowed, and the message of the refusal.

        ``control`` is a call that the same policy allows for certain: once it succeeds, AWS knows the policy.
        """
        self.must(lambda: not refusal_of(control), PROPAGATION_SECONDS, "the control call of the new role")
        refusals: list[str] = []

        def passes() -> bool:
            refusals.append(refusal_of(call))
            return not refusals[-1]

        return bool(self.until(passes, 20)), refusals[-1]

    def key(self, *statements: dict[str, Any]) -> str:
        """Create a customer key that this account's IAM policies govern; return its ARN."""
        owner = {"Principal": {"AWS": self.account.arn("iam", "root", region=False)}, "Action": "kms:*"}
        wanted = ({**each, "Resource": "*"} for each in (owner, *statements))
        tags = self.tag_list("TagKey", "TagValue")
        key = self.client("kms").create_key(Policy=policy(*wanted), Tags=tags)["KeyMetadata"]
        self.own("key", key["KeyId"])
        return str(key["Arn"])

    # Lambda

    def function(self, part: str, role: str, code: str, **settings: Any) -> str:
        """Create a function from source and wait until it is active; return its name.

        Its role has no right to write logs. A log group that exists nevertheless is deleted with it.
        """
        name = self.name(part)
        self.own("log-group", f"/aws/lambda/{name}")
        self.own("function", name)
        request = {
            "FunctionName": name,
            "Role": role,
            "Runtime": RUNTIME,
            "Handler": "app.handler",
            "Timeout": 10,
            "Code": {"ZipFile": zipped(code)},
            "Tags": self.tags,
            **settings,
        }
        self.settled(lambda: self.client("lambda").create_function(**request))
        self.active(name)
        return name

    def active(self, name: str) -> dict[str, Any]:
        """Wait until $LATEST of a function can be invoked and changed; return its configuration."""

        def look() -> Any:
            found = self.client("lambda").get_function_configuration(FunctionName=name)
            ready = found.get("State") != "Pending" and found.get("LastUpdateStatus") != "InProgress"
            return found if ready else None

        found: dict[str, Any] = self.must(look, 120, f"function {name} ready")
        return found

    def publish(self, name: str) -> str:
        """Publish a version and return its number."""
        number = str(self.client("lambda").publish_version(FunctionName=name)["Version"])
        self.must(
            lambda: (
                self.client("lambda")
                .get_function_configuration(FunctionName=name, Qualifier=number)
                .get("State", "Active")
                != "Pending"
            ),
            120,
            f"version {number} active",
        )
        return number

    def two_versions(self, part: str, role: str, code: str) -> str:
        """Create a function with the versions 1 and 2; return its name."""
        name = self.function(part, role, code)
        self.publish(name)
        self.client("lambda").update_function_configuration(FunctionName=name, Description="The second version.")
        self.active(name)
        self.publish(name)
        return name

    def mapping(self, source: str, function: str, **settings: Any) -> str:
        """Create an event source mapping and wait until it is enabled; return its id."""
        client = self.client("lambda")
        created = self.settled(
            lambda: client.create_event_source_mapping(
                EventSourceArn=source, FunctionName=function, Tags=self.tags, **settings
            )
        )
        uuid = str(created["UUID"])
        self.own("mapping", uuid)
        if settings.get("Enabled", True):
            self.must(lambda: self.mapping_state(uuid) == "Enabled", 180, "the mapping enabled")
        return uuid

    def mapping_state(self, uuid: str) -> str:
        """Return the state of an event source mapping."""
        return str(self.client("lambda").get_event_source_mapping(UUID=uuid)["State"])

    # Queues, topics, tables

    def queue_arn(self, part: str) -> str:
        """Return the ARN that a queue of this probe has or will have."""
        return self.account.arn("sqs", self.name(part))

    def queue(self, part: str, *statements: dict[str, Any], **attributes: str) -> Queue:
        """Create a queue with these statements in its policy."""
        name, arn = self.name(part), self.queue_arn(part)
        if statements:
            attributes["Policy"] = policy(*({**each, "Resource": arn} for each in statements))
        self.own("queue", name)
        created = self.settled(
            lambda: self.client("sqs").create_queue(QueueName=name, Attributes=attributes, tags=self.tags),
            "Invalid value for the parameter Policy",
        )
        return Queue(str(created["QueueUrl"]), arn)

    def receive(self, queue: Queue) -> list[str]:
        """Receive and delete what the queue gives now; return the bodies."""
        sqs = self.client("sqs")
        messages = sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10, WaitTimeSeconds=2).get(
            "Messages", []
        )
        for message in messages:
            sqs.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
        return [str(message["Body"]) for message in messages]

    def topic(self, part: str, *statements: dict[str, Any], **attributes: str) -> str:
        """Create a topic with these statements in its policy; return its ARN."""
        name = self.name(part)
        arn = self.account.arn("sns", name)
        self.own("topic", arn)
        if statements:
            attributes["Policy"] = policy(*({**each, "Resource": arn} for each in statements))
        self.client("sns").create_topic(Name=name, Tags=self.tag_list(), Attributes=attributes)
        return arn

    def subscribed(self, part: str, topic: str) -> Queue:
        """Create a queue that gets what is published to a topic."""
        allow = {"Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        queue = self.queue(part, allow | {"Condition": {"ArnEquals": {"aws:SourceArn": topic}}})
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
        return queue

    def table(self, part: str, **settings: Any) -> dict[str, Any]:
        """Create a table with the keys pk and sk, and wait for it; return its description."""
        client, name = self.client("dynamodb"), self.name(part)
        self.own("table", name)
        client.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            BillingMode="PAY_PER_REQUEST",
            Tags=self.tag_list(),
            **settings,
        )

        def look() -> Any:
            table = client.describe_table(TableName=name)["Table"]
            return table if table["TableStatus"] == "ACTIVE" else None

        described: dict[str, Any] = self.must(look, 120, f"table {name} active")
        return described

    # EventBridge

    def bus(self, part: str = "bus", **settings: Any) -> str:
        """Create an event bus; return its name."""
        name = self.name(part)
        self.own("bus", name)
        self.settled(lambda: self.client("events").create_event_bus(Name=name, Tags=self.tag_list(), **settings))
        return name

    def rule(self, bus: str, pattern: dict[str, Any], *targets: str, role: str = "") -> str:
        """Create a rule with these targets, which it reaches by a role if there is one; return its name."""
        events, name = self.client("events"), self.name("rule")
        self.own("rule", f"{bus}/{name}")
        events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern), Tags=self.tag_list())
        if targets:
            by_role = {"RoleArn": role} if role else {}
            wanted = [{"Id": f"target-{number}", "Arn": arn, **by_role} for number, arn in enumerate(targets)]
            self.settled(lambda: events.put_targets(Rule=name, EventBusName=bus, Targets=wanted))
        return name

    # Step Functions

    def machine(self, part: str, role: str, states: dict[str, Any], **fields: Any) -> str:
        """Create a JSONata state machine that begins with the first state; return its ARN."""
        name = self.name(part)
        arn = self.account.arn("states", f"stateMachine:{name}")
        definition = {
            "Comment": "A probe of Headgate. It may be deleted.",
            "QueryLanguage": "JSONata",
            "StartAt": next(iter(states)),
            "States": states,
            # An execution ends by itself, also when the run is killed.
            "TimeoutSeconds": 2 * PROBE_SECONDS,
            **fields,
        }
        self.own("machine", arn)
        self.settled(
            lambda: self.client("stepfunctions").create_state_machine(
                name=name, definition=json.dumps(definition), roleArn=role, tags=self.tag_list("key", "value")
            )
        )
        return arn

    def start(self, machine: str, given: Any = None) -> str:
        """Start an execution; return its ARN."""
        started = self.client("stepfunctions").start_execution(stateMachineArn=machine, input=json.dumps(given or {}))
        return str(started["executionArn"])

    def status(self, execution: str) -> str:
        """Return the status of an execution."""
        return str(self.client("stepfunctions").describe_execution(executionArn=execution)["status"])

    def outcome(self, execution: str, seconds: float = 90) -> dict[str, Any]:
        """Wait for the end of an execution; return its description."""

        def look() -> Any:
            found = self.client("stepfunctions").describe_execution(executionArn=execution)
            return found if found["status"] != "RUNNING" else None

        found: dict[str, Any] = self.must(look, seconds, "the end of the execution")
        return {key: found[key] for key in ("status", "output", "error", "cause") if found.get(key) is not None}

    def run_machine(self, part: str, role: str, states: dict[str, Any], seconds: float = 90) -> dict[str, Any]:
        """Create a machine, run it once, and return the execution's outcome."""
        return self.outcome(self.start(self.machine(part, role, states)), seconds)

    def run_permitted(self, part: str, role: str, states: dict[str, Any], seconds: float = 90) -> dict[str, Any]:
        """Run a machine as ``run_machine`` does, but again while AWS does not yet know the rights of its role."""
        machine = self.machine(part, role, states)
        outcomes: list[dict[str, Any]] = []

        def permitted() -> bool:
            outcomes.append(self.outcome(self.start(machine), seconds))
            return "not authorized" not in json.dumps(outcomes[-1])

        self.until(permitted, PROPAGATION_SECONDS, pause=5)
        return outcomes[-1]


def trust_conditions(account: Account, service: str) -> dict[str, dict[str, str]]:
    """Return the conditions under which the template's roles trust a service; a test compares them."""
    own_account = {"StringEquals": {"aws:SourceAccount": account.id}}
    own_machines = {"ArnLike": {"aws:SourceArn": account.arn("states", "stateMachine:*")}}
    found: dict[str, dict[str, dict[str, str]]] = {
        "events.amazonaws.com": own_account,
        "states.amazonaws.com": own_account | own_machines,
    }
    return found.get(service, {})


def policy(*statements: dict[str, Any]) -> str:
    """Return a policy of statements that allow, unless they say otherwise."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]})


def zipped(code: str) -> bytes:
    """Return a package with the module ``app``."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        # A fixed time, so that the same code has the same hash. Lambda must be able to read the file.
        entry = zipfile.ZipInfo("app.py", (2026, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        package.writestr(entry, code)
    return archive.getvalue()


def refusal_of(call: Callable[[], Any]) -> str:
    """Return the message with which AWS denies a call; empty if it is allowed, whatever else is wrong with it."""
    try:
        call()
    except ClientError as error:
        denied = (
            "AccessDenied" in code_of(error) or "not authorized" in str(error) or "UnauthorizedOperation" in str(error)
        )
        return str(error) if denied else ""
    return ""
