"""Reads what the checks of an installation judge. It calls AWS, changes nothing, and judges nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from headgate.aws.errors import is_missing_queue
from headgate_cli.doctor.installation import (
    AlarmFacts,
    FunctionFacts,
    HeldQueueFacts,
    LockFacts,
    MappingFacts,
    QueueFacts,
    TableFacts,
)
from headgate_cli.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headgate.rollouts.record import RolloutRecord
    from headgate_cli.stack import Stack

    Item = TypeVar("Item")
    Answer = TypeVar("Answer")

AT_ONCE = 8
"""Calls at a time. Lambda allows GetFunction 100 times a second, and IAM has a small quota."""

REQUEST_QUEUES = ("RequestQueue", "RequestFifoQueue", "JobQueue")
DEAD_LETTER_QUEUES = (
    "RequestDeadLetters",
    "RequestFifoDeadLetters",
    "JobDeadLetters",
    "SignalDeadLetters",
    "Undelivered",
)
"""Queues by their logical ids. Each URL is the output of this name and ``Url``."""

ROLLOUT_TAG = "headgate:rollout"

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)

PEEKED = 10
"""Messages that one look reads."""


class Reader:
    """Reads an installation.

    Parameters
    ----------
    peek
        Also read dead letters, which raises their receive counts.
    """

    def __init__(self, stack: Stack, *, peek: bool = False) -> None:
        self._stack = stack
        self._peek = peek

    def client(self, service: str) -> Any:
        """Return the client for a service."""
        return self._stack.client(service)

    @cached_property
    def resources(self) -> dict[str, dict[str, str]]:
        """Physical ids of the stack's resources, by type and logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self._stack.name)
        found: dict[str, dict[str, str]] = {}
        for page in pages:
            for each in page["StackResourceSummaries"]:
                if each["ResourceStatus"] != "DELETE_COMPLETE":
                    of_type = found.setdefault(each["ResourceType"], {})
                    of_type[each["LogicalResourceId"]] = each.get("PhysicalResourceId", "")
        return found

    def named(self, kind: str) -> dict[str, str]:
        """Return the physical ids of the resources of a type, by logical id and in its order."""
        return dict(sorted(self.resources.get(kind, {}).items()))

    @cached_property
    def records(self) -> Records:
        """Locks and records of rollouts."""
        return Records(self._stack)

    def functions(self) -> list[FunctionFacts]:
        """Return the functions of the stack, as it was deployed: some depend on its parameters."""
        logical = {name: each for each, name in self.named("AWS::Lambda::Function").items()}
        roles = self.named("AWS::IAM::Role")
        functions = self.client("lambda")

        def read(name: str) -> FunctionFacts:
            role = roles.get(f"{logical.get(name, '')}Role", "")
            try:
                answer = functions.get_function(FunctionName=name)
            except functions.exceptions.ResourceNotFoundException:
                return FunctionFacts(name, None, None, role)
            reserved = answer.get("Concurrency", {}).get("ReservedConcurrentExecutions")
            return FunctionFacts(name, answer["Configuration"], reserved, role)

        return _each(read, sorted(logical))

    def roles(self) -> dict[str, bool]:
        """Return whether each role of the stack exists."""
        iam = self.client("iam")

        def exists(role: str) -> bool:
            try:
                iam.get_role(RoleName=role)
            except iam.exceptions.NoSuchEntityException:
                return False
            return True

        names = sorted(self.named("AWS::IAM::Role").values())
        return dict(zip(names, _each(exists, names), strict=True))

    def machines(self) -> dict[str, str | None]:
        """Return the status of each state machine by its name; None if it does not exist."""
        states = self.client("stepfunctions")

        def status(arn: str) -> str | None:
            try:
                return str(states.describe_state_machine(stateMachineArn=arn)["status"])
            except states.exceptions.StateMachineDoesNotExist:
                return None

        arns = list(self.named("AWS::StepFunctions::StateMachine").values())
        return {arn.rpartition(":")[2]: status(arn) for arn in arns}

    def queues(self) -> list[QueueFacts]:
        """Return the queues of requests."""
        return [self._queue(name, with_age=True) for name in REQUEST_QUEUES]

    def dead_letters(self) -> list[QueueFacts]:
        """Return the queues of dead letters. A message is read only if that was asked for."""
        found = [self._queue(name, with_age=False) for name in DEAD_LETTER_QUEUES]
        return [
            each._replace(reason=self._newest_reason(each.url)) if self._peek and each.messages else each
            for each in found
        ]

    def _queue(self, logical_id: str, *, with_age: bool) -> QueueFacts:
        url = self._stack.output(f"{logical_id}Url")
        answer = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
        messages = sum(int(answer["Attributes"].get(name, 0)) for name in _COUNTS)
        age = self._age(url.rpartition("/")[2]) if with_age and messages else None
        return QueueFacts(logical_id, url, messages, age)

    def _age(self, queue: str) -> int | None:
        """Return the age of the oldest message by CloudWatch: SQS has no attribute for it."""
        now = datetime.now(UTC)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": queue}],
            StartTime=now - timedelta(minutes=5),
            EndTime=now,
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        newest = max(points, key=lambda point: point["Timestamp"], default=None)
        return int(newest["Maximum"]) if newest else None

    def _newest_reason(self, url: str) -> str:
        """Return the reason of the newest of a few dead letters. They stay visible to others."""
        messages = self.client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=PEEKED,
            VisibilityTimeout=0,
            MessageAttributeNames=["reason"],
            MessageSystemAttributeNames=["SentTimestamp"],
        ).get("Messages", [])  # fmt: skip
        newest = max(messages, key=lambda message: int(message["Attributes"]["SentTimestamp"]), default=None)
        if newest is None:
            return ""
        return str(newest.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "it has no reason"))

    def alarms(self) -> list[AlarmFacts]:
        """Return the stack's alarms."""
        names = self.named("AWS::CloudWatch::Alarm")
        pages = self.client("cloudwatch").get_paginator("describe_alarms")
        states = {
            each["AlarmName"]: each
            for some in _batches(list(names.values()), 100)
            for page in pages.paginate(AlarmNames=some, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
            for each in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]
        }
        return [_alarm(logical_id, states.get(name)) for logical_id, name in names.items()]

    def subscriptions(self) -> list[Mapping[str, str]]:
        """Return the subscriptions of the topic."""
        topic = self._stack.output("NotificationsTopicArn")
        pages = self.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        return [each for page in pages for each in page["Subscriptions"]]

    def rules(self) -> dict[str, str | None]:
        """Return the state of each rule by its logical id; None if it does not exist.

        CloudFormation's id of a rule on a bus of its own is ``bus|rule``.
        """
        bus, events = self._stack.bus, self.client("events")
        on_own_bus = {
            rule["Name"]: rule["State"]
            for page in events.get_paginator("list_rules").paginate(EventBusName=bus)
            for rule in page["Rules"]
        }

        def state(physical_id: str) -> str | None:
            name = physical_id.rpartition("|")[2]
            if name in on_own_bus:
                return str(on_own_bus[name])
            try:
                return str(events.describe_rule(Name=name)["State"])
            except events.exceptions.ResourceNotFoundException:
                return None

        return {logical_id: state(name) for logical_id, name in self.named("AWS::Events::Rule").items()}

    def mappings(self) -> list[MappingFacts]:
        """Return the stack's event source mappings."""
        functions = self.client("lambda")

        def read(logical_id: str, uuid: str) -> MappingFacts:
            try:
                answer = functions.get_event_source_mapping(UUID=uuid)
            except functions.exceptions.ResourceNotFoundException:
                return MappingFacts(logical_id, uuid, "")
            return MappingFacts(logical_id, uuid, answer["State"], answer.get("LastProcessingResult") or "")

        return [read(*each) for each in self.named("AWS::Lambda::EventSourceMapping").items()]

    def locks(self) -> list[LockFacts]:
        """Return the held locks, with what their rollouts do."""
        return [self._lock(target, owner) for target, owner in self.records.held_locks().items()]

    def _lock(self, target: str, owner: str) -> LockFacts:
        record = self.records.rollout(owner)
        if record is None:
            return LockFacts(target, owner, None, None, None)
        if record.has_ended:
            return LockFacts(target, owner, record.status, _time_of(record.ended_at), None, has_ended=True)
        states = self.client("stepfunctions")
        try:
            execution = states.describe_execution(executionArn=record.execution)
        except states.exceptions.ExecutionDoesNotExist:
            since = record.started_at or record.accepted_at or record.created_at
            return LockFacts(target, owner, record.status, _time_of(since), None)
        return LockFacts(target, owner, record.status, execution.get("stopDate"), execution["status"])

    def held_queues(self) -> list[HeldQueueFacts]:
        """Return the rollouts' own queues."""
        pages = self.client("sqs").get_paginator("list_queues")
        urls = [
            url
            for page in pages.paginate(QueueNamePrefix=f"{self._stack.prefix}-held-")
            for url in page.get("QueueUrls", [])
        ]
        return [found for url in urls if (found := self._held_queue(url))]

    def _held_queue(self, url: str) -> HeldQueueFacts | None:
        sqs = self.client("sqs")
        try:
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
            rollout = str(sqs.list_queue_tags(QueueUrl=url).get("Tags", {}).get(ROLLOUT_TAG, ""))
        except ClientError as error:
            if is_missing_queue(error):  # Deleted meanwhile, as its rollout ended.
                return None
            raise
        record: RolloutRecord | None = self.records.rollout(rollout) if rollout else None
        runs = record is not None and not record.has_ended
        messages = sum(int(answer["Attributes"].get(name, 0)) for name in _COUNTS)
        return HeldQueueFacts(url.rpartition("/")[2], rollout, runs, messages)

    def table_facts(self) -> TableFacts:
        """Return the table's state, and whether it recovers and forgets."""
        dynamodb, name = self.client("dynamodb"), self._stack.table
        try:
            description = dynamodb.describe_table(TableName=name)["Table"]
        except dynamodb.exceptions.ResourceNotFoundException:
            return TableFacts(None, None, None)
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        recovers = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED"
        expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["TimeToLiveStatus"]
        return TableFacts(description, recovers, expiry in ("ENABLED", "ENABLING"))

    def key(self) -> Mapping[str, Any] | None:
        """Return the metadata of the customer-managed key; None if it does not exist, or none is used."""
        if not (key := self._stack.parameters.get("KmsKeyArn", "")):
            return None
        kms = self.client("kms")
        try:
            metadata: Mapping[str, Any] = kms.describe_key(KeyId=key)["KeyMetadata"]
        except kms.exceptions.NotFoundException:
            return None
        return metadata

    def trail_is_logging(self) -> bool:
        """Return whether a trail that logs calls of this Region is on."""
        cloudtrail = self.client("cloudtrail")
        trails = cloudtrail.describe_trails()["trailList"]
        return any(cloudtrail.get_trail_status(Name=trail["TrailARN"])["IsLogging"] for trail in trails)

    def sends_to_eventbridge(self, bucket: str) -> bool:
        """Return whether a bucket sends its events to EventBridge."""
        found = self.client("s3").get_bucket_notification_configuration(Bucket=bucket)
        return "EventBridgeConfiguration" in found

    def concurrency(self) -> tuple[int, int]:
        """Return the account's concurrency, and what of it is not reserved."""
        limit = self.client("lambda").get_account_settings()["AccountLimit"]
        return limit["ConcurrentExecutions"], limit.get("UnreservedConcurrentExecutions", 0)


def _alarm(logical_id: str, alarm: Mapping[str, Any] | None) -> AlarmFacts:
    if alarm is None:
        return AlarmFacts(logical_id, "")
    reason = alarm.get("AlarmDescription") or alarm.get("StateReason") or ""
    return AlarmFacts(logical_id, alarm["StateValue"], reason.rstrip("."), alarm.get("ActionsEnabled", True))


def _each(read: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """Read several things at a time, in order. A failure is raised."""
    with ThreadPoolExecutor(AT_ONCE) as readers:
        return list(readers.map(read, items))


def _batches(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _time_of(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
