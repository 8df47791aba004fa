"""A small installation of Headgate, and an account with functions, behind real clients of boto3."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import functools
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from click.testing import CliRunner

from headgate.aws.dynamodb import from_item, to_item
from headgate.aws.own_resources import FUNCTIONS
from headgate_cli.main import main
from headgate_cli.stack import Stack
from tests.builders import ACCOUNT, REGION
from tests.fakes.services import Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
LAYER = f"{LAMBDA}:layer:headgate:7"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:headgate-rollout"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:headgate-topic"
MAPPING = "4a52bb2c-31c7-4b40-a4d5-0f6a3f2c1b1e"
QUEUES = (
    *("RequestQueue", "RequestFifoQueue", "JobQueue"),
    *("RequestDeadLetters", "RequestFifoDeadLetters", "JobDeadLetters", "SignalDeadLetters", "Undelivered"),
)
OWN = [f"headgate-{name}" for name in sorted(FUNCTIONS)]

Item = dict[str, Any]


def gone(what: str) -> Refusal:
    return Refusal("ResourceNotFoundException", f"{what} does not exist")


def url_of(queue: str) -> str:
    return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{queue}"


class Installation(Service):
    """Answers what commands that look after an installation ask of AWS. Tests change its fields."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        """Operations that the caller may not use."""
        self.called: list[str] = []
        self.status = "CREATE_COMPLETE"
        self.parameters = {"Prefix": "headgate", "TargetFunctions": "shop-*", "HookFunctions": "shop-check*"}
        self.outputs = {
            "BusName": "headgate",
            "TableName": "records",
            "RolloutMachineArn": MACHINE,
            "NotificationsTopicArn": TOPIC,
            "HeadgateLayerArn": LAYER,
            "SmokeTesterName": "headgate-smoke-tester",
            "VersionCheckerName": "headgate-version-checker",
            **{f"{name}Url": url_of(name) for name in QUEUES},
        }
        self.functions: dict[str, dict[str, Any]] = {name: {"Layers": [{"Arn": LAYER}]} for name in OWN}
        """Fields of the configurations, by name."""
        self.aliases: dict[str, dict[str, str]] = {}
        """The version that each alias points at, by function."""
        self.versions: dict[str, list[str]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.reserved: dict[str, int] = {}
        self.unreserved, self.concurrent = 900, 1000
        self.refuses_concurrency = ""
        self.answers_after: dict[str, Refusal] = {}
        """How operations are answered after they had their effect."""
        self.meanwhile: dict[str, Callable[[], object]] = {}
        """What somebody else does right before the first call of an operation."""
        self.mappings: dict[str, dict[str, Any]] = {}
        self.depths: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self.queue_attributes: dict[str, dict[str, str]] = {}
        self.held: dict[str, str] = {}
        """Rollouts' own queues, and the rollout that the tag names."""
        self.alarms: list[dict[str, Any]] = []
        self.executions: dict[str, str] = {}
        self.items: list[Item] = []
        self.counts: dict[str, list[float]] = {}

    def interrupt(self, operation: str, when: str) -> None:
        if when == "after" and operation in self.answers_after:
            raise self.answers_after[operation]
        if when == "before":
            self.called.append(operation)
            self.meanwhile.pop(operation, lambda: None)()
            if operation in self.denied:
                raise Refusal("AccessDeniedException", f"you are not authorized to perform {operation}")

    # CloudFormation

    def DescribeStacks(self, StackName: str) -> Any:
        if StackName != "headgate":
            raise Refusal("ValidationError", f"Stack with id {StackName} does not exist")
        outputs = [{"OutputKey": name, "OutputValue": value} for name, value in self.outputs.items()]
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        known = {"StackName": StackName, "StackStatus": self.status, "CreationTime": datetime.now(UTC)}
        return {"Stacks": [known | {"Outputs": outputs, "Parameters": given}]}

    def ListStackResources(self, StackName: str) -> Any:
        resources = {
            ("Judge", "AWS::Lambda::Function"): "headgate-judge",
            ("JudgeRole", "AWS::IAM::Role"): "judge-role",
        }
        resources |= {("Outbox", "AWS::Lambda::EventSourceMapping"): MAPPING}
        resources |= {("RequestRule", "AWS::Events::Rule"): "headgate|request-rule"}
        resources |= {("JudgeErrorsAlarm", "AWS::CloudWatch::Alarm"): "judge-errors"}
        resources |= {("RolloutMachine", "AWS::StepFunctions::StateMachine"): MACHINE}
        about = {"ResourceStatus": "CREATE_COMPLETE", "LastUpdatedTimestamp": datetime.now(UTC)}
        return {
            "StackResourceSummaries": [
                {"LogicalResourceId": name, "ResourceType": kind, "PhysicalResourceId": physical, **about}
                for (name, kind), physical in resources.items()
            ]
        }

    def DescribeStackResources(self, PhysicalResourceId: str) -> Any:
        raise Refusal("ValidationError", f"Stack for {PhysicalResourceId} does not exist")

    # Lambda

    def _configuration(self, name: str) -> dict[str, Any]:
        if name not in self.functions:
            raise gone(name)
        role = "judge-role" if name == "headgate-judge" else f"{name}-role"
        known = {"State": "Active", "LastUpdateStatus": "Successful", "Timeout": 3, "FunctionName": name}
        arns = {"FunctionArn": f"{LAMBDA}:function:{name}", "Role": f"arn:aws:iam::{ACCOUNT}:role/{role}"}
        return known | arns | self.functions[name]

    def GetFunction(self, FunctionName: str, Qualifier: str = "") -> Any:
        answer: dict[str, Any] = {"Configuration": self._configuration(FunctionName)}
        if FunctionName in self.reserved and not Qualifier:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": self.reserved[FunctionName]}
        return answer

    def ListFunctions(self, **_: Any) -> Any:
        return {"Functions": [self._configuration(name) for name in self.functions]}

    def ListVersionsByFunction(self, FunctionName: str, **_: Any) -> Any:
        versions = ["$LATEST", *self.versions.get(FunctionName, [])]
        return {"Versions": [{"FunctionName": FunctionName, "Version": version} for version in versions]}

    def GetAlias(self, FunctionName: str, Name: str) -> Any:
        if Name not in self.aliases.get(FunctionName, {}):
            raise gone(Name)
        return {"Name": Name, "FunctionVersion": self.aliases[FunctionName][Name]}

    def ListAliases(self, FunctionName: str, **_: Any) -> Any:
        self._configuration(FunctionName)
        aliases = self.aliases.get(FunctionName, {})
        return {"Aliases": [{"Name": name, "FunctionVersion": version} for name, version in aliases.items()]}

    def GetProvisionedConcurrencyConfig(self, FunctionName: str, Qualifier: str) -> Any:
        raise Refusal("ProvisionedConcurrencyConfigNotFoundException")

    def GetEventSourceMapping(self, UUID: str) -> Any:
        if UUID == MAPPING and UUID not in self.mappings:
            return {"UUID": UUID, "State": "Enabled"}
        if UUID not in self.mappings:
            raise gone(UUID)
        return {"UUID": UUID, "State": "Enabled", **self.mappings[UUID]}

    def ListEventSourceMappings(self, FunctionName: str, **_: Any) -> Any:
        found = [
            {"UUID": uuid, "State": "Enabled", **mapping}
            for uuid, mapping in self.mappings.items()
            if mapping["FunctionArn"].endswith(f":function:{FunctionName}")
        ]
        return {"EventSourceMappings": found}

    def ListFunctionUrlConfigs(self, FunctionName: str, **_: Any) -> Any:
        return {"FunctionUrlConfigs": []}

    def GetAccountSettings(self) -> Any:
        limit = {"ConcurrentExecutions": self.concurrent, "UnreservedConcurrentExecutions": self.unreserved}
        return {"AccountLimit": limit}

    def GetFunctionConcurrency(self, FunctionName: str) -> Any:
        reserved = self.reserved.get(FunctionName)
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    def PutFunctionConcurrency(self, FunctionName: str, ReservedConcurrentExecutions: int) -> Any:
        if self.refuses_concurrency:
            raise Refusal("InvalidParameterValueException", self.refuses_concurrency)
        self.reserved[FunctionName] = ReservedConcurrentExecutions
        return {"ReservedConcurrentExecutions": ReservedConcurrentExecutions}

    def DeleteFunctionConcurrency(self, FunctionName: str) -> Any:
        self.reserved.pop(FunctionName, None)

    def ListTags(self, Resource: str) -> Any:
        return {"Tags": self.tags.get(Resource.rpartition(":")[2], {})}

    def TagResource(self, Resource: str, Tags: dict[str, str]) -> Any:
        self.tags.setdefault(Resource.rpartition(":")[2], {}).update(Tags)

    def UntagResource(self, Resource: str, TagKeys: list[str]) -> Any:
        for key in TagKeys:
            self.tags.get(Resource.rpartition(":")[2], {}).pop(key, None)

    # Other services

    def GetRole(self, RoleName: str) -> Any:
        known = {"Path": "/", "RoleName": RoleName, "RoleId": "A" * 16, "CreateDate": datetime.now(UTC)}
        return {"Role": known | {"Arn": f"arn:aws:iam::{ACCOUNT}:role/{RoleName}"}}

    def DescribeStateMachine(self, stateMachineArn: str) -> Any:
        return {"stateMachineArn": stateMachineArn, "status": "ACTIVE"}

    def DescribeExecution(self, executionArn: str) -> Any:
        if executionArn not in self.executions:
            raise Refusal("ExecutionDoesNotExist")
        return {"executionArn": executionArn, "status": self.executions[executionArn]}

    def ListRules(self, EventBusName: str) -> Any:
        return {"Rules": [{"Name": "request-rule", "State": "ENABLED"}]}

    def ListSubscriptionsByTopic(self, TopicArn: str) -> Any:
        return {"Subscriptions": [{"SubscriptionArn": f"{TopicArn}:1", "Endpoint": "ops@example.com"}]}

    def DescribeAlarms(self, AlarmNames: list[str] | None = None, **_: Any) -> Any:
        known = [{"AlarmName": "judge-errors", "StateValue": "OK", "ActionsEnabled": True}, *self.alarms]
        return {"MetricAlarms": [each for each in known if not AlarmNames or each["AlarmName"] in AlarmNames]}

    def GetMetricStatistics(self, **_: Any) -> Any:
        return {"Datapoints": [{"Timestamp": datetime.now(UTC), "Maximum": 900.0}]}

    def GetMetricData(self, MetricDataQueries: list[dict[str, Any]], **_: Any) -> Any:
        results = [{"Id": each["Id"], "Values": self.counts.get(each["Id"], [])} for each in MetricDataQueries]
        return {"MetricDataResults": results}

    def GetQueueAttributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:
        name = QueueUrl.rpartition("/")[2]
        counts = {"ApproximateNumberOfMessages": str(self.depths.get(name, 0))}
        return {"Attributes": counts | self.queue_attributes.get(name, {})}

    def GetQueueUrl(self, QueueName: str, QueueOwnerAWSAccountId: str) -> Any:
        if QueueName not in self.queue_attributes:
            raise Refusal("QueueDoesNotExist")
        return {"QueueUrl": url_of(QueueName)}

    def ListQueues(self, QueueNamePrefix: str) -> Any:
        assert QueueNamePrefix == "headgate-held-"
        return {"QueueUrls": [url_of(name) for name in self.held]}

    def ListQueueTags(self, QueueUrl: str) -> Any:
        return {"Tags": {"headgate:rollout": self.held[QueueUrl.rpartition("/")[2]]}}

    def ReceiveMessage(self, QueueUrl: str, VisibilityTimeout: int, **_: Any) -> Any:
        assert VisibilityTimeout == 0
        reason = {"reason": {"DataType": "String", "StringValue": self.reasons[QueueUrl.rpartition("/")[2]]}}
        return {"Messages": [{"MessageId": "1", "Attributes": {"SentTimestamp": "1"}, "MessageAttributes": reason}]}

    def DescribeTable(self, TableName: str) -> Any:
        indexes = [{"IndexName": name, "IndexStatus": "ACTIVE"} for name in ("held-locks", "by-status")]
        known = {"TableName": TableName, "TableStatus": "ACTIVE", "GlobalSecondaryIndexes": indexes}
        return {"Table": known | {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}}}

    def DescribeContinuousBackups(self, TableName: str) -> Any:
        status = {"PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"}}
        return {"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "ENABLED", **status}}

    def DescribeTimeToLive(self, TableName: str) -> Any:
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "expiresAt"}}

    def GetItem(self, TableName: str, Key: Item, ConsistentRead: bool) -> Any:
        wanted = from_item(Key)
        found = [item for item in self.items if (item["pk"], item["sk"]) == (wanted["pk"], wanted["sk"])]
        return {"Item": to_item(found[0])} if found else {}

    def Query(self, IndexName: str, **_: Any) -> Any:
        assert IndexName == "held-locks"
        return {"Items": [to_item(item) for item in self.items if "held" in item]}

    # What tests set up

    def function(self, name: str, *versions: str, **aliases: str) -> None:
        """Add a function with its versions and aliases."""
        self.functions[name], self.versions[name], self.aliases[name] = {}, list(versions), aliases

    def lock(self, target: str, rollout: str, *, execution: str = "RUNNING", **record: Any) -> None:
        """Let a rollout hold the lock of a target, with its record and its execution."""
        arn = f"{MACHINE.replace(':stateMachine:', ':execution:')}:{rollout}"
        self.executions[arn] = execution
        self.items.append({"pk": f"TARGET#{target}", "sk": "LOCK", "owner": rollout, "held": "yes"})
        known = {"status": "running", "execution": arn, "targetKey": target}
        self.items.append({"pk": f"ROLLOUT#{rollout}", "sk": "ROLLOUT", **known, **record})


@functools.cache
def _client(service: str) -> Any:
    """A client, which takes a while to make."""
    return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


class PlayedStack(Stack):
    """A stack whose clients are answered by an installation."""

    def __init__(self, installation: Installation, name: str = "headgate") -> None:
        super().__init__(name, None, None)
        self._installation = installation
        self._detach: list[Callable[[], None]] = []
        self.__dict__["session"] = SimpleNamespace(region_name=REGION)

    def client(self, service: str, *, region: str | None = None) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = _client(service)
            self._detach.append(self._installation.attach(_client(service)))
        return self._clients[service, region]

    def close(self) -> None:
        """Let go of the clients."""
        for detach in self._detach:
            detach()


def played(installation: Installation) -> Iterator[PlayedStack]:
    """Yield a stack of an installation, for a fixture."""
    stack = PlayedStack(installation)
    yield stack
    stack.close()


class Ran(NamedTuple):
    """How a command ended."""

    exit_code: int
    stdout: str
    output: str
    """What it wrote to both streams."""


def run_command(*words: str, typed: str = "") -> Ran:
    """Run the command with what is typed. Its standard input is no terminal."""
    done = CliRunner(mix_stderr=False).invoke(main, list(words), input=typed)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stdout + done.stderr)
