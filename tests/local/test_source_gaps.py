"""Event sources: every gap between MiniStack and AWS is filled in the embedded AWS, and still there in MiniStack.

When a test of the second kind fails, MiniStack has closed the gap: remove the module which fills it.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from emulator.server import PYTHON, ROOT
from tests.local.clients import ECHO, Aws, error_code, eventually
from tests.local.patience import A_WHILE

pytestmark = pytest.mark.embedded


class Mapping:
    """An event source mapping."""

    def __init__(self, aws: Aws, function: str, source: str, **settings: Any) -> None:
        """Create it and wait until it is there."""
        self._aws = aws
        created = aws.lambda_.create_event_source_mapping(FunctionName=function, EventSourceArn=source, **settings)
        self.uuid = created["UUID"]
        self.settled()

    def get(self) -> dict[str, Any]:
        """What GetEventSourceMapping answers."""
        return dict(self._aws.lambda_.get_event_source_mapping(UUID=self.uuid))

    def settled(self) -> dict[str, Any]:
        """What it answers once it is Enabled or Disabled."""
        eventually(lambda: self.get()["State"] in ("Enabled", "Disabled"))
        return self.get()

    def start_update(self, **settings: Any) -> dict[str, Any]:
        """What UpdateEventSourceMapping answers."""
        return dict(self._aws.lambda_.update_event_source_mapping(UUID=self.uuid, **settings))

    def update(self, **settings: Any) -> dict[str, Any]:
        """Update and wait until it is done."""
        self.start_update(**settings)
        return self.settled()


def stream(aws: Aws, name: str = "stream", shards: int = 1) -> str:
    """The ARN of a new Kinesis stream."""
    aws.kinesis.create_stream(StreamName=f"{aws.prefix}-{name}", ShardCount=shards)
    described = aws.kinesis.describe_stream
    eventually(
        lambda: described(StreamName=f"{aws.prefix}-{name}")["StreamDescription"]["StreamStatus"] == "ACTIVE",
    )
    return f"arn:aws:kinesis:us-east-1:000000000000:stream/{aws.prefix}-{name}"


# --- mapping_settings --------------------------------------------------------------------------------------------


def _refused(aws: Aws, source: str, **settings: Any) -> str | None:
    start = {"StartingPosition": "LATEST"} if ":kinesis:" in source else {}
    name = aws.function(ECHO, f"fn{time.monotonic_ns()}")
    create = aws.lambda_.create_event_source_mapping
    return error_code(create, FunctionName=name, EventSourceArn=source, **{**start, **settings})


def _refusals(aws: Aws) -> set[str | None]:
    queue, fifo, kinesis = aws.queue()[1], aws.queue("q.fifo", FifoQueue="true")[1], stream(aws)
    short = aws.queue("short", VisibilityTimeout="5")[1]
    return {
        _refused(aws, queue, ParallelizationFactor=2),
        _refused(aws, queue, MaximumRetryAttempts=3),
        _refused(aws, queue, BisectBatchOnFunctionError=True),
        _refused(aws, queue, BatchSize=11),
        _refused(aws, fifo, BatchSize=11),
        _refused(aws, fifo, MaximumBatchingWindowInSeconds=1),
        _refused(aws, short),
        _refused(aws, queue.replace("queue", "nowhere")),
        error_code(aws.lambda_.create_event_source_mapping, FunctionName="no-such-function", EventSourceArn=queue),
        _refused(aws, kinesis, MaximumRecordAgeInSeconds=59),
    }


def test_a_mapping_takes_only_what_its_kind_of_source_has(aws: Aws) -> None:
    assert _refusals(aws) == {"InvalidParameterValueException"}
    assert _refused(aws, aws.queue("other")[1], BatchSize=10_001, MaximumBatchingWindowInSeconds=1) == (
        "ValidationException"
    )


def test_bare_a_mapping_takes_anything(bare: Aws) -> None:
    assert _refusals(bare) == {None, "ResourceNotFoundException"}


QUEUE_FIELDS = {
    "UUID", "EventSourceMappingArn", "EventSourceArn", "FunctionArn", "State", "StateTransitionReason", "LastModified",
    "BatchSize", "MaximumBatchingWindowInSeconds", "FunctionResponseTypes",
}  # fmt: skip
STREAM_FIELDS = QUEUE_FIELDS | {
    "StartingPosition", "LastProcessingResult", "ParallelizationFactor", "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts", "BisectBatchOnFunctionError", "TumblingWindowInSeconds", "DestinationConfig",
}  # fmt: skip


def _fields(aws: Aws) -> tuple[dict[str, Any], dict[str, Any]]:
    of_queue = Mapping(aws, aws.function(ECHO), aws.queue()[1]).get()
    of_stream = Mapping(aws, aws.function(ECHO, "other"), stream(aws), StartingPosition="LATEST").get()
    return of_queue, of_stream


def test_a_mapping_answers_with_the_fields_of_its_kind_and_their_defaults(aws: Aws) -> None:
    of_queue, of_stream = _fields(aws)
    assert of_queue.keys() - {"ResponseMetadata"} == QUEUE_FIELDS
    assert of_stream.keys() - {"ResponseMetadata"} == STREAM_FIELDS
    assert (of_queue["BatchSize"], of_stream["BatchSize"]) == (10, 100)
    assert (of_stream["MaximumRetryAttempts"], of_stream["MaximumRecordAgeInSeconds"]) == (-1, -1)
    assert of_stream["DestinationConfig"] == {"OnFailure": {}}


def test_bare_a_mapping_answers_with_what_it_was_told(bare: Aws) -> None:
    of_queue, of_stream = _fields(bare)
    assert "LastProcessingResult" in of_queue
    assert "MaximumRetryAttempts" not in of_stream
    assert of_stream["BatchSize"] == 10


def test_an_update_keeps_what_it_leaves_out_and_takes_away_what_is_empty(aws: Aws) -> None:
    # GIVEN a mapping with everything
    pattern = {"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]}
    given: dict[str, Any] = {
        "BatchSize": 5,
        "ScalingConfig": {"MaximumConcurrency": 7},
        "FilterCriteria": pattern,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }
    mapping = Mapping(aws, aws.function(ECHO), aws.queue()[1], **given)
    assert {name: mapping.get()[name] for name in given} == given
    # WHEN one field changes THEN the others stay
    assert {name: mapping.update(BatchSize=6)[name] for name in given} == given | {"BatchSize": 6}
    # WHEN settings are emptied THEN they are gone
    emptied = mapping.update(ScalingConfig={}, FilterCriteria={}, FunctionResponseTypes=[], MetricsConfig={})
    assert emptied.keys().isdisjoint({"ScalingConfig", "FilterCriteria", "MetricsConfig"})
    assert emptied["FunctionResponseTypes"] == []


def test_a_source_and_a_function_are_mapped_once(aws: Aws) -> None:
    function, source = aws.two_versions(), aws.queue()[1]
    Mapping(aws, function, source)
    other = Mapping(aws, f"{function}:1", source)
    create = aws.lambda_.create_event_source_mapping
    assert error_code(create, FunctionName=function, EventSourceArn=source) == "ResourceConflictException"
    assert error_code(other.start_update, FunctionName=function) == "ResourceConflictException"


def _mapping_of_a_stack(aws: Aws, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """A stack's mapping without a batch size, and the versions that ran before and after an update of the stack."""
    consumer, arn = Consumer(aws, folder), stream(aws)

    def deploy(call: str, wanted: str, version: str) -> str:
        function, metrics = f"{consumer.name}:{version}", {"Metrics": ["EventCount"]}
        properties = {"FunctionName": function, "EventSourceArn": arn, "MetricsConfig": metrics, **START}
        resource = {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}
        template = json.dumps({"Resources": {"Mapping": resource}})
        getattr(aws.cloudformation, call)(StackName=aws.prefix, TemplateBody=template)
        described = aws.cloudformation.describe_stacks
        assert eventually(lambda: described(StackName=aws.prefix)["Stacks"][0]["StackStatus"] == wanted)
        resources = aws.cloudformation.describe_stack_resources(StackName=aws.prefix)["StackResources"]
        return str(resources[0]["PhysicalResourceId"])

    uuid = deploy("create_stack", "CREATE_COMPLETE", "1")
    put(aws, arn, "a")
    consumer.saw("a")
    assert deploy("update_stack", "UPDATE_COMPLETE", "2") == uuid
    put(aws, arn, "b")
    consumer.saw("a", "b")
    return aws.lambda_.get_event_source_mapping(UUID=uuid), [batch["version"] for batch in consumer.batches()]


def test_a_stacks_mapping_is_as_any_other(aws: Aws, tmp_path: Path) -> None:
    mapping, versions = _mapping_of_a_stack(aws, tmp_path)
    assert (mapping["BatchSize"], mapping["MetricsConfig"]) == (100, {"Metrics": ["EventCount"]})
    assert versions == ["1", "2"]


def test_bare_a_stacks_mapping_lacks_settings_and_keeps_its_qualifier(bare: Aws, tmp_path: Path) -> None:
    mapping, versions = _mapping_of_a_stack(bare, tmp_path)
    assert (mapping["BatchSize"], "MetricsConfig" in mapping) == (10, False)
    assert versions == ["1", "1"]


# --- mapping_states ----------------------------------------------------------------------------------------------


def _states(aws: Aws) -> list[str]:
    """The states of a mapping's life, each as answered and as it settles."""
    name = aws.two_versions()
    mapping = Mapping(aws, name, aws.queue()[1])
    seen = [mapping.settled()["State"]]
    for change in ({"FunctionName": f"{name}:2"}, {"Enabled": False}, {"BatchSize": 3}, {"Enabled": True}):
        seen += [mapping.start_update(**change)["State"], mapping.settled()["State"]]
    return seen


def test_a_mapping_goes_through_its_states(aws: Aws) -> None:
    assert _states(aws) == [
        "Enabled", "Updating", "Enabled", "Disabling", "Disabled", "Updating", "Disabled", "Enabling", "Enabled",
    ]  # fmt: skip


def test_bare_a_mapping_is_at_once_what_it_was_told_to_be(bare: Aws) -> None:
    assert not {"Updating", "Disabling", "Enabling"} & set(_states(bare))


def test_a_mapping_in_transition_refuses_another_change_and_notes_when_it_settled(aws: Aws) -> None:
    name = aws.two_versions()
    mapping = Mapping(aws, name, aws.queue()[1])
    # WHEN it is told to change THEN it refuses to change again
    updating = mapping.start_update(FunctionName=f"{name}:1")
    assert error_code(mapping.start_update, BatchSize=1) == "ResourceInUseException"
    assert error_code(aws.lambda_.delete_event_source_mapping, UUID=mapping.uuid) == "ResourceInUseException"
    # AND once it has settled, it says when, and keeps the qualifier
    settled = mapping.settled()
    assert settled["LastModified"] > updating["LastModified"]
    assert settled["FunctionArn"].endswith(f":function:{name}:1")
    # WHEN it is deleted THEN it says so, and then it is gone
    assert aws.lambda_.delete_event_source_mapping(UUID=mapping.uuid)["State"] == "Deleting"
    get = aws.lambda_.get_event_source_mapping
    assert eventually(lambda: error_code(get, UUID=mapping.uuid) == "ResourceNotFoundException")


# --- queue_consumers ---------------------------------------------------------------------------------------------

# A consumer notes what it was given in a file, a line per batch: its memory is no witness, as there are many processes.
CONSUMER = """
import base64, json, os, pathlib, time
def handler(event, context):
    records = event["Records"]
    def text(record):
        if "kinesis" in record:
            return base64.b64decode(record["kinesis"]["data"]).decode()
        return record["body"] if "body" in record else record["dynamodb"]["Keys"]["id"]["S"]
    def name(record):
        if "messageId" in record:
            return record["messageId"]
        return record.get("kinesis", {}).get("sequenceNumber") or record["dynamodb"]["SequenceNumber"]
    what = json.loads(pathlib.Path(os.environ["NOTES"] + ".what").read_text())
    note = {"bodies": [text(r) for r in records], "version": context.function_version, "at": time.time(),
            "environment": os.environ["AWS_LAMBDA_FUNCTION_VERSION"], "arn": context.invoked_function_arn,
            "first": records[0]}
    time.sleep(what.get("seconds", 0))
    note["end"] = time.time()
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(note) + "\\n")
    if context.function_version in what.get("raising", []) or set(note["bodies"]) & set(what.get("poison", [])):
        raise ValueError("told to")
    if "answer" in what:
        return what["answer"]
    return {"batchItemFailures": [{"itemIdentifier": name(r)} for r in records if text(r) in what.get("fail", [])]}
"""
REPORTING = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}


class Consumer:
    """A function behind a mapping, and what it has noted."""

    def __init__(self, aws: Aws, folder: Path, name: str = "consumer", **what: Any) -> None:
        """Create it with versions 1 and 2; `what` it does: see the code."""
        self.notes = folder / name
        self.notes.touch()
        self.does(**what)
        self.name = aws.function(CONSUMER, name, Environment={"Variables": {"NOTES": str(self.notes)}}, Timeout=5)
        for number in ("1", "2"):
            aws.lambda_.update_function_configuration(FunctionName=self.name, Description=f"version {number}")
            aws.lambda_.publish_version(FunctionName=self.name)

    def does(self, **what: Any) -> None:
        """Change what it does from the next batch on."""
        self.notes.with_name(f"{self.notes.name}.new").write_text(json.dumps(what))
        self.notes.with_name(f"{self.notes.name}.new").rename(f"{self.notes}.what")

    def batches(self) -> list[dict[str, Any]]:
        """Every batch so far."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    def bodies(self) -> list[str]:
        """Every record so far, in order."""
        return [body for batch in self.batches() for body in batch["bodies"]]

    def saw(self, *bodies: str, seconds: float = A_WHILE) -> bool:
        """Whether it has seen these, in this order and no others, within the time."""
        return bool(eventually(lambda: self.bodies() == list(bodies), seconds))


def send(aws: Aws, url: str, *bodies: str, group: str | None = None) -> None:
    """Send each body as a message."""
    for body in bodies:
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": f"{group}{body}"} if group else {}
        aws.sqs.send_message(QueueUrl=url, MessageBody=body, **fifo)


def counts(aws: Aws, url: str) -> tuple[int, int, int]:
    """(visible, in flight, delayed) messages."""
    found = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    visible, in_flight, delayed = (
        int(found[f"ApproximateNumberOfMessages{name}"]) for name in ("", "NotVisible", "Delayed")
    )
    return visible, in_flight, delayed


def _versions_of_twenty_batches(aws: Aws, folder: Path) -> list[dict[str, Any]]:
    consumer, (url, source) = Consumer(aws, folder), aws.queue()
    aws.lambda_.create_alias(
        FunctionName=consumer.name,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    Mapping(aws, f"{consumer.name}:live", source, BatchSize=1)
    send(aws, url, *(str(number) for number in range(20)))
    eventually(lambda: len(consumer.batches()) == 20)
    return consumer.batches()


def test_a_mapping_on_a_weighted_alias_picks_a_version_for_each_batch(aws: Aws, tmp_path: Path) -> None:
    batches = _versions_of_twenty_batches(aws, tmp_path)
    assert {batch["version"] for batch in batches} == {"1", "2"}
    assert all(batch["version"] == batch["environment"] for batch in batches)
    assert {batch["arn"].rpartition(":")[2] for batch in batches} == {"live"}


def test_bare_a_mapping_on_a_weighted_alias_runs_one_version(bare: Aws, tmp_path: Path) -> None:
    assert {batch["version"] for batch in _versions_of_twenty_batches(bare, tmp_path)} == {"1"}


def test_a_mapping_on_a_version_runs_that_version_and_moves_in_place(aws: Aws, tmp_path: Path) -> None:
    consumer, (url, source) = Consumer(aws, tmp_path), aws.queue()
    mapping = Mapping(aws, f"{consumer.name}:1", source)
    send(aws, url, "a")
    assert consumer.saw("a")
    mapping.update(FunctionName=f"{consumer.name}:2")
    send(aws, url, "b")
    assert consumer.saw("a", "b")
    assert [(batch["version"], batch["arn"][-2:]) for batch in consumer.batches()] == [("1", ":1"), ("2", ":2")]


def test_a_disabled_mapping_ends_what_it_began_and_begins_nothing(aws: Aws, tmp_path: Path) -> None:
    # GIVEN a batch in flight
    consumer, (url, source) = Consumer(aws, tmp_path, seconds=1), aws.queue()
    mapping = Mapping(aws, consumer.name, source, BatchSize=1)
    send(aws, url, "a")
    assert eventually(lambda: counts(aws, url) == (0, 1, 0))
    # WHEN the mapping is disabled THEN the batch ends, and nothing new begins
    mapping.update(Enabled=False)
    send(aws, url, "b")
    assert consumer.saw("a")
    assert eventually(lambda: counts(aws, url) == (1, 0, 0))
    time.sleep(1)
    assert counts(aws, url) == (1, 0, 0)
    # AND enabling goes on
    mapping.update(Enabled=True)
    assert consumer.saw("a", "b")


def _left_after(aws: Aws, folder: Path, answer: Any, seconds: float = A_WHILE) -> int:
    consumer, (url, source) = Consumer(aws, folder, answer=answer), aws.queue()
    Mapping(aws, consumer.name, source, **REPORTING)
    send(aws, url, "a")
    assert consumer.saw("a")
    eventually(lambda: sum(counts(aws, url)) == 0, seconds)
    return sum(counts(aws, url))


NOT_UNDERSTOOD = [
    "no JSON",
    {"batchItemFailures": [{"itemIdentifier": ""}]},
    {"batchItemFailures": [{"itemIdentifier": None}]},
    {"batchItemFailures": [{"wrongKey": "a"}]},
    {"batchItemFailures": [{"itemIdentifier": "of no message"}]},
]


@pytest.mark.parametrize("answer", NOT_UNDERSTOOD)
def test_an_answer_that_cannot_be_understood_deletes_nothing(aws: Aws, tmp_path: Path, answer: Any) -> None:
    assert _left_after(aws, tmp_path, answer, seconds=0.5) == 1


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}])
def test_an_empty_answer_deletes_the_batch(aws: Aws, tmp_path: Path, answer: Any) -> None:
    assert _left_after(aws, tmp_path, answer) == 0


def test_bare_an_answer_that_cannot_be_understood_loses_messages(bare: Aws, tmp_path: Path) -> None:
    assert _left_after(bare, tmp_path, {"batchItemFailures": [{"itemIdentifier": ""}]}) == 0


def test_only_what_failed_comes_again_and_at_last_becomes_a_dead_letter(aws: Aws, tmp_path: Path) -> None:
    # GIVEN a queue whose policy allows three receives
    consumer = Consumer(aws, tmp_path, fail=["b"])
    dead, other = aws.queue("dead"), aws.queue("other")
    policy = json.dumps({"deadLetterTargetArn": dead[1], "maxReceiveCount": 3})
    url, source = aws.queue("orders", VisibilityTimeout="5", RedrivePolicy=policy)
    Mapping(aws, consumer.name, source, **REPORTING)
    # Shorter than the function's timeout, which the mapping allows only later; longer than a cold start.
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "3"})
    # WHEN one message of a batch fails THEN it alone comes again
    send(aws, url, "a", "b")
    assert eventually(lambda: consumer.bodies()[-2:] == ["b", "b"])
    # WHEN the policy changes in between THEN the message goes to the new dead-letter queue
    policy = json.dumps({"deadLetterTargetArn": other[1], "maxReceiveCount": 2})
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
    assert eventually(lambda: counts(aws, other[0])[0] == 1)
    assert (counts(aws, url), counts(aws, dead[0])) == ((0, 0, 0), (0, 0, 0))
    receives = [batch["first"]["attributes"]["ApproximateReceiveCount"] for batch in consumer.batches()]
    assert receives[-2:] == ["1", "2"] or receives[-3:] == ["1", "2", "3"]
    assert consumer.bodies().count("a") == 1


def _batches_at_once(aws: Aws, folder: Path, queue: tuple[str, str], group: str | None, **settings: Any) -> int:
    """The most batches of one message each that ran at the same time."""
    consumer, (url, source) = Consumer(aws, folder, seconds=0.5), queue
    Mapping(aws, consumer.name, source, BatchSize=1, **settings)
    for number in range(6):
        send(aws, url, str(number), group=group and group.format(number))
    eventually(lambda: len(consumer.batches()) == 6)
    batches = consumer.batches()
    at_once: list[int] = [sum(one["at"] <= other["at"] < one["end"] for one in batches) for other in batches]
    return max(at_once)


def test_no_more_batches_run_at_once_than_the_maximum_concurrency(aws: Aws, tmp_path: Path) -> None:
    assert _batches_at_once(aws, tmp_path, aws.queue(), None, ScalingConfig={"MaximumConcurrency": 2}) == 2


def test_groups_of_a_fifo_queue_are_consumed_side_by_side(aws: Aws, tmp_path: Path) -> None:
    assert _batches_at_once(aws, tmp_path, aws.queue("q.fifo", FifoQueue="true"), "group{}") > 1


def test_bare_groups_of_a_fifo_queue_wait_for_each_other(bare: Aws, tmp_path: Path) -> None:
    assert _batches_at_once(bare, tmp_path, bare.queue("q.fifo", FifoQueue="true"), "group{}") == 1


def test_a_group_of_a_fifo_queue_waits_for_its_message_in_flight(aws: Aws, tmp_path: Path) -> None:
    queue = aws.queue("q.fifo", FifoQueue="true")
    assert _batches_at_once(aws, tmp_path, queue, "group") == 1
    first = Consumer.__new__(Consumer)
    first.notes = tmp_path / "consumer"
    assert first.bodies() == ["0", "1", "2", "3", "4", "5"]
    assert first.batches()[0]["first"]["attributes"]["MessageGroupId"] == "group"


def test_a_failure_keeps_the_order_of_its_group_and_no_other_group_waits(aws: Aws, tmp_path: Path) -> None:
    # GIVEN a consumer that stops at its first failure and reports what is left
    consumer, (url, source) = Consumer(aws, tmp_path, fail=["b", "c"]), aws.queue("q.fifo", FifoQueue="true")
    mapping = Mapping(aws, consumer.name, source, Enabled=False, **REPORTING)
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "2"})
    send(aws, url, "a", "b", "c", group="one")
    mapping.update(Enabled=True)
    assert consumer.saw("a", "b", "c")
    # WHEN more is sent while b and c are in flight THEN another group is served, and this one waits for them
    consumer.does()
    send(aws, url, "d", group="one")
    send(aws, url, "x", group="other")
    assert consumer.saw("a", "b", "c", "x", "b", "c", "d")
    assert eventually(lambda: counts(aws, url) == (0, 0, 0))


def test_a_batching_window_gathers_more_than_ten_messages(aws: Aws, tmp_path: Path) -> None:
    consumer, (url, source) = Consumer(aws, tmp_path), aws.queue()
    settings = {"BatchSize": 20, "MaximumBatchingWindowInSeconds": 1, "ScalingConfig": {"MaximumConcurrency": 2}}
    mapping = Mapping(aws, consumer.name, source, Enabled=False, **settings)
    send(aws, url, *(str(number) for number in range(30)))
    mapping.update(Enabled=True)
    # Two pollers share them; whichever comes first takes no more than a batch.
    assert eventually(lambda: len(consumer.bodies()) == 30)
    assert 10 < max(len(batch["bodies"]) for batch in consumer.batches()) <= 20


# --- queue_locks -------------------------------------------------------------------------------------------------


def test_messages_that_are_sent_while_others_are_consumed_all_arrive_once(aws: Aws, tmp_path: Path) -> None:
    consumer, (url, source) = Consumer(aws, tmp_path), aws.queue()
    Mapping(aws, consumer.name, source, **REPORTING)
    numbers = [str(number) for number in range(600)]
    for start in range(0, 600, 10):
        entries = [{"Id": number, "MessageBody": number} for number in numbers[start : start + 10]]
        aws.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert eventually(lambda: len(consumer.bodies()) == 600)
    assert eventually(lambda: counts(aws, url) == (0, 0, 0))
    assert sorted(consumer.bodies(), key=int) == numbers


def _left_of_two(install: str) -> list[str]:
    """The messages left when one is deleted and another is sent at that very moment."""
    source = f"""
import json, os
os.environ["MINISTACK_HOST"] = "localhost"
from ministack.services import sqs
{install}
url = sqs._act_create_queue({{"QueueName": "q"}}, "")["QueueUrl"]
class Meeting(list):
    def __iter__(self):
        yield from super().__iter__()
        if len(self) == 1:
            self.append(dict(self[0], body="late", receipt_handle=None))
    def __getitem__(self, index):
        if len(self) == 1:
            self.append(dict(super().__getitem__(0), body="late", receipt_handle=None))
        return super().__getitem__(index)
sqs._act_send_message({{"QueueUrl": url, "MessageBody": "early"}}, url)
handle = sqs._receive_messages_for_esm(url, 1)[0]["receipt_handle"]
sqs._queues[url]["messages"] = Meeting(sqs._queues[url]["messages"])
sqs._delete_messages_for_esm(url, {{handle}})
print(json.dumps([message["body"] for message in sqs._queues[url]["messages"]]))
"""
    done = subprocess.run([PYTHON, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_message_that_is_sent_while_another_is_deleted_stays() -> None:
    install = "from emulator.gaps.sqs import queue_locks; queue_locks.install()"
    assert _left_of_two(install) == ["late"]


def test_bare_a_message_that_is_sent_while_another_is_deleted_is_lost() -> None:
    assert _left_of_two("") == []


# --- message_moves -----------------------------------------------------------------------------------------------


class Redrive:
    """A queue whose messages become dead letters after one receive, and its dead-letter queue."""

    def __init__(self, aws: Aws, suffix: str = "", **attributes: str) -> None:
        """Create both."""
        self._aws = aws
        self.dead = aws.queue(f"dead{suffix}", **attributes)
        policy = json.dumps({"deadLetterTargetArn": self.dead[1], "maxReceiveCount": 1})
        self.url, self.arn = aws.queue(f"orders{suffix}", VisibilityTimeout="0", RedrivePolicy=policy, **attributes)

    def bury(self, *bodies: str, group: str | None = None) -> list[str]:
        """Turn new messages into dead letters; returns their ids."""
        ids = []
        for body in bodies:
            send(self._aws, self.url, body, group=group)
            receive = self._aws.sqs.receive_message
            ids += [message["MessageId"] for message in receive(QueueUrl=self.url).get("Messages", [])]
            receive(QueueUrl=self.url)
        assert counts(self._aws, self.dead[0])[0] == len(bodies)
        return ids

    def start(self, **options: Any) -> str:
        """Start to move the dead letters; returns the handle."""
        return str(self._aws.sqs.start_message_move_task(SourceArn=self.dead[1], **options)["TaskHandle"])

    def tasks(self) -> list[dict[str, Any]]:
        """The latest tasks."""
        return list(self._aws.sqs.list_message_move_tasks(SourceArn=self.dead[1], MaxResults=10)["Results"])

    def moved(self) -> dict[str, Any]:
        """The latest task once it has ended."""
        eventually(lambda: self.tasks()[0]["Status"] not in ("RUNNING", "CANCELLING"))
        return self.tasks()[0]


def test_dead_letters_go_back_to_their_source_as_new_messages(aws: Aws) -> None:
    # GIVEN three dead letters
    redrive = Redrive(aws)
    ids = redrive.bury("a", "b", "c")
    listed = aws.sqs.list_dead_letter_source_queues(QueueUrl=redrive.dead[0])["queueUrls"]
    assert listed == [redrive.url]
    # WHEN they are moved THEN the task tells what it did
    redrive.start()
    task = redrive.moved()
    assert task["Status"] == "COMPLETED"
    assert (task["ApproximateNumberOfMessagesMoved"], task["ApproximateNumberOfMessagesToMove"]) == (3, 3)
    assert task.keys().isdisjoint({"TaskHandle", "DestinationArn", "MaxNumberOfMessagesPerSecond", "FailureReason"})
    assert (counts(aws, redrive.url)[0], counts(aws, redrive.dead[0])[0]) == (3, 0)
    # AND the messages are new
    got = aws.sqs.receive_message(QueueUrl=redrive.url, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    assert [message["Body"] for message in got] == ["a", "b", "c"]
    assert {message["MessageId"] for message in got}.isdisjoint(ids)
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in got} == {"1"}


def test_a_move_keeps_to_its_rate_is_alone_and_can_be_cancelled(aws: Aws) -> None:
    redrive = Redrive(aws)
    redrive.bury(*"abcdefghijklmnopqrst")
    other = aws.queue("elsewhere")
    begun = time.monotonic()
    handle = redrive.start(DestinationArn=other[1], MaxNumberOfMessagesPerSecond=2)
    # WHILE it runs, another one is refused
    assert error_code(redrive.start) == "InvalidParameterValue"
    running = redrive.tasks()[0]
    assert (running["Status"], running["TaskHandle"], running["DestinationArn"]) == ("RUNNING", handle, other[1])
    assert eventually(lambda: counts(aws, other[0])[0] >= 2)
    # WHEN it is cancelled THEN what is moved stays moved, and the rest stays
    told = aws.sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    task, seconds = redrive.moved(), time.monotonic() - begun
    moved = task["ApproximateNumberOfMessagesMoved"]
    assert (task["Status"], moved - told) in [("CANCELLED", 0), ("CANCELLED", 1)]
    assert 2 <= moved <= 2 * (seconds + 1)
    assert (counts(aws, other[0])[0], counts(aws, redrive.dead[0])[0]) == (moved, 20 - moved)
    assert error_code(aws.sqs.cancel_message_move_task, TaskHandle="bm8=") == "ResourceNotFoundException"


def test_a_move_keeps_the_groups_of_a_fifo_queue_in_order(aws: Aws) -> None:
    redrive = Redrive(aws, ".fifo", FifoQueue="true")
    redrive.bury("a", "b", group="one")
    redrive.start()
    assert redrive.moved()["Status"] == "COMPLETED"
    got = aws.sqs.receive_message(QueueUrl=redrive.url, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    assert [(message["Body"], message["Attributes"]["MessageGroupId"]) for message in got] == [
        ("a", "one"),
        ("b", "one"),
    ]


def test_only_dead_letters_of_a_queue_can_be_moved(aws: Aws) -> None:
    redrive, other = Redrive(aws), aws.queue("other")
    start = aws.sqs.start_message_move_task
    assert error_code(start, SourceArn=other[1]) == "InvalidParameterValue"
    assert error_code(start, SourceArn=f"{other[1]}x") == "ResourceNotFoundException"
    assert error_code(redrive.start, DestinationArn=f"{other[1]}x") == "ResourceNotFoundException"
    assert error_code(redrive.start, MaxNumberOfMessagesPerSecond=501) == "InvalidParameterValue"
    # A message that somebody sent there directly has no way back.
    send(aws, redrive.dead[0], "direct")
    redrive.start()
    task = redrive.moved()
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")


def test_bare_no_message_moves(bare: Aws) -> None:
    redrive = Redrive(bare)
    assert error_code(redrive.start) == "InvalidAction"
    assert error_code(bare.sqs.list_dead_letter_source_queues, QueueUrl=redrive.url) == "InvalidAction"


# --- batch_traces ----------------------------------------------------------------------------------------------


def _traces(aws: Aws) -> list[str | None]:
    """The trace headers of three messages of one batch, of which the second has none."""
    url, _arn = aws.queue()
    headers = [
        {"MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": f"Root={n}"}}}
        for n in (1, 3)
    ]
    entries = [{"Id": str(n), "MessageBody": str(n), **more} for n, more in ((1, headers[0]), (2, {}), (3, headers[1]))]
    assert len(aws.sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 3
    got = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    return [message["Attributes"].get("AWSTraceHeader") for message in got]


def test_a_message_of_a_batch_keeps_its_trace_header(aws: Aws) -> None:
    assert _traces(aws) == ["Root=1", None, "Root=3"]


def test_bare_a_message_of_a_batch_loses_its_trace_header(bare: Aws) -> None:
    assert _traces(bare) == [None, None, None]


# --- deleted_queues ----------------------------------------------------------------------------------------------


def _created_again(aws: Aws) -> str | None:
    url, _arn = aws.queue()
    aws.sqs.delete_queue(QueueUrl=url)
    return error_code(aws.sqs.create_queue, QueueName=f"{aws.prefix}-queue")


def test_a_queue_cannot_be_created_again_at_once(aws: Aws) -> None:
    assert _created_again(aws) == "AWS.SimpleQueueService.QueueDeletedRecently"


def test_bare_a_queue_can_be_created_again_at_once(bare: Aws) -> None:
    assert _created_again(bare) is None


# --- stream_consumers --------------------------------------------------------------------------------------------


def put(aws: Aws, stream_arn: str, *numbers: str, key: str = "one") -> list[str]:
    """Put each number as a record; returns the sequence numbers."""
    records = [{"Data": number.encode(), "PartitionKey": key} for number in numbers]
    answer = aws.kinesis.put_records(StreamName=stream_arn.rpartition("/")[2], Records=records)
    return [record["SequenceNumber"] for record in answer["Records"]]


def table(aws: Aws) -> str:
    """The ARN of a new table's stream."""
    name = f"{aws.prefix}-table"
    created = aws.dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    return str(created["TableDescription"]["LatestStreamArn"])


def put_items(aws: Aws, *ids: str) -> None:
    """Put an item for each id."""
    for each in ids:
        aws.dynamodb.put_item(TableName=f"{aws.prefix}-table", Item={"id": {"S": each}})


START = {"StartingPosition": "TRIM_HORIZON"}


def _attempts_with_one_retry(aws: Aws, folder: Path, source: str, seconds: float = A_WHILE) -> Consumer:
    consumer = Consumer(aws, folder, poison=["2"])
    if source == "table":
        Mapping(aws, consumer.name, table(aws), BatchSize=1, MaximumRetryAttempts=1, **START)
        put_items(aws, "1", "2", "3")
    else:
        arn = stream(aws)
        Mapping(aws, consumer.name, arn, BatchSize=1, MaximumRetryAttempts=1, **START)
        put(aws, arn, "1", "2", "3")
    consumer.saw("1", "2", "2", "3", seconds=seconds)
    return consumer


@pytest.mark.parametrize("source", ["stream", "table"])
def test_a_shard_moves_on_past_a_batch_whose_retries_are_used_up(aws: Aws, tmp_path: Path, source: str) -> None:
    assert _attempts_with_one_retry(aws, tmp_path, source).bodies() == ["1", "2", "2", "3"]


def test_bare_a_shard_never_moves_on(bare: Aws, tmp_path: Path) -> None:
    assert "3" not in _attempts_with_one_retry(bare, tmp_path, "stream", seconds=4).bodies()


def test_a_batch_without_a_retry_limit_blocks_until_another_version_takes_it(aws: Aws, tmp_path: Path) -> None:
    # GIVEN a candidate (version 2) that fails
    consumer, arn = Consumer(aws, tmp_path, raising=["2"]), stream(aws)
    mapping = Mapping(aws, f"{consumer.name}:2", arn, BatchSize=2, **START)
    put(aws, arn, "1", "2", "3")
    assert eventually(lambda: len(consumer.batches()) >= 3)
    # WHEN the mapping is disabled THEN nothing is invoked any more
    mapping.update(Enabled=False)
    time.sleep(1)  # An attempt that was under way is over.
    before = len(consumer.batches())
    time.sleep(1.2)
    assert len(consumer.batches()) == before
    # WHEN it points at the stable version THEN that goes on at the failed batch, and nothing is lost
    mapping.update(FunctionName=f"{consumer.name}:1", Enabled=True)
    assert eventually(lambda: consumer.bodies()[-1] == "3")
    stable = [batch for batch in consumer.batches() if batch["version"] == "1"]
    assert [batch["bodies"] for batch in stable] == [["1", "2"], ["3"]]
    assert all(batch["bodies"] == ["1", "2"] for batch in consumer.batches() if batch["version"] == "2")


def test_every_attempt_of_a_stream_batch_picks_a_version_of_the_alias(aws: Aws, tmp_path: Path) -> None:
    consumer, arn = Consumer(aws, tmp_path, raising=["2"]), stream(aws)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    alias = {"FunctionName": consumer.name, "Name": "live", "FunctionVersion": "1"}
    aws.lambda_.create_alias(**alias, RoutingConfig=weights)
    Mapping(aws, f"{consumer.name}:live", arn, BatchSize=1, **START)
    put(aws, arn, *(str(number) for number in range(12)))
    numbers = [str(number) for number in range(12)]

    def done() -> list[str]:
        return [body for batch in consumer.batches() if batch["version"] == "1" for body in batch["bodies"]]

    assert eventually(lambda: done() == numbers), done()
    assert {batch["version"] for batch in consumer.batches()} == {"1", "2"}


def _with_bisecting(aws: Aws, folder: Path, seconds: float = A_WHILE) -> list[list[str]]:
    consumer, arn = Consumer(aws, folder, poison=["3"]), stream(aws)
    settings = {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 0, **START}
    mapping = Mapping(aws, consumer.name, arn, Enabled=False, **settings)
    put(aws, arn, "1", "2", "3", "4")
    mapping.update(Enabled=True)
    eventually(lambda: consumer.bodies()[-1:] == ["4"] and len(consumer.batches()) >= 5, seconds)
    return [batch["bodies"] for batch in consumer.batches()]


def test_a_failing_batch_is_halved_until_the_culprit_is_alone(aws: Aws, tmp_path: Path) -> None:
    assert _with_bisecting(aws, tmp_path) == [["1", "2", "3", "4"], ["1", "2"], ["3", "4"], ["3"], ["4"]]


def test_bisecting_leaves_only_the_reported_record_to_give_up(aws: Aws, tmp_path: Path) -> None:
    consumer, arn, (url, dead) = Consumer(aws, tmp_path, fail=["2"]), stream(aws), aws.queue("dead")
    settings = {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 0, **START, **REPORTING}
    destination = {"OnFailure": {"Destination": dead}}
    mapping = Mapping(aws, consumer.name, arn, Enabled=False, DestinationConfig=destination, **settings)
    numbers = put(aws, arn, "1", "2", "3", "4")
    mapping.update(Enabled=True)
    info = aws.receive(url)["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"]) == (numbers[1], numbers[1])
    assert eventually(lambda: consumer.bodies()[-1] == "4")
    assert aws.receive(url, 0) is None


def test_bare_a_failing_batch_is_never_halved(bare: Aws, tmp_path: Path) -> None:
    assert ["1", "2"] not in _with_bisecting(bare, tmp_path, seconds=4)


def test_what_is_given_up_is_described_to_the_failure_destination_and_can_be_read_again(
    aws: Aws, tmp_path: Path
) -> None:
    # GIVEN a version that reports the second of three records, and one retry
    consumer, arn, (url, dead) = Consumer(aws, tmp_path, fail=["2"]), stream(aws), aws.queue("dead")
    mapping = Mapping(
        aws,
        f"{consumer.name}:1",
        arn,
        Enabled=False,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": dead}},
        **REPORTING,
        **START,
    )
    assert mapping.get()["DestinationConfig"] == {"OnFailure": {"Destination": dead}}
    numbers = put(aws, arn, "1", "2", "3")
    # WHEN it consumes THEN the rest comes again from the reported record, and is given up with it
    mapping.update(Enabled=True)
    assert consumer.saw("1", "2", "3", "2", "3")
    record = aws.receive(url)
    assert record["requestContext"]["functionArn"].endswith(f":{consumer.name}:1")
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "1"}
    info = record["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == (numbers[1], numbers[2], 2)
    # AND what it names can be read again
    iterator = aws.kinesis.get_shard_iterator(
        StreamName=arn.rpartition("/")[2],
        ShardId=info["shardId"],
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=info["startSequenceNumber"],
    )["ShardIterator"]
    again = aws.kinesis.get_records(ShardIterator=iterator, Limit=info["batchSize"])["Records"]
    assert [each["Data"] for each in again] == [b"2", b"3"]


def test_a_parallelization_factor_runs_keys_side_by_side_and_each_in_order(aws: Aws, tmp_path: Path) -> None:
    consumer, arn = Consumer(aws, tmp_path, seconds=0.3), stream(aws)
    mapping = Mapping(aws, consumer.name, arn, BatchSize=2, ParallelizationFactor=4, Enabled=False, **START)
    for number in range(4):
        for key in "abcd":
            put(aws, arn, f"{key}{number}", key=key)
    mapping.update(Enabled=True)
    assert eventually(lambda: len(consumer.bodies()) == 16)
    batches = consumer.batches()
    assert max(sum(one["at"] <= other["at"] < one["end"] for one in batches) for other in batches) > 1
    for key in "abcd":
        mine = [body for batch in sorted(batches, key=lambda batch: batch["at"]) for body in batch["bodies"]]
        assert [body for body in mine if body[0] == key] == [f"{key}{number}" for number in range(4)]


def test_latest_begins_at_the_mappings_creation(aws: Aws, tmp_path: Path) -> None:
    consumer, arn = Consumer(aws, tmp_path), stream(aws)
    put(aws, arn, "before")
    mapping = Mapping(aws, consumer.name, arn, StartingPosition="LATEST", Enabled=False)
    put(aws, arn, "after")
    mapping.update(Enabled=True)
    assert consumer.saw("after")


def test_a_deleted_mapping_loses_its_position(aws: Aws, tmp_path: Path) -> None:
    consumer, arn = Consumer(aws, tmp_path), stream(aws)
    mapping = Mapping(aws, consumer.name, arn, **START)
    put(aws, arn, "a")
    assert consumer.saw("a")
    aws.lambda_.delete_event_source_mapping(UUID=mapping.uuid)
    get = aws.lambda_.get_event_source_mapping
    eventually(lambda: error_code(get, UUID=mapping.uuid) == "ResourceNotFoundException")
    Mapping(aws, consumer.name, arn, **START)
    assert consumer.saw("a", "a")


def test_records_that_are_too_old_go_to_the_failure_destination_without_an_invocation() -> None:
    # There is no way to put a record of yesterday: MiniStack's own store has to say so.
    source = """
import json, os, time
os.environ["MINISTACK_HOST"] = "localhost"
from ministack.services import kinesis, lambda_svc, sqs
from emulator.gaps.event_source_mappings import stream_consumers
url = sqs._act_create_queue({"QueueName": "dead"}, "")["QueueUrl"]
kinesis._create_stream({"StreamName": "s", "ShardCount": 1})
now = time.time()
shard = next(iter(kinesis._streams["s"]["shards"].values()))
for age in (90, 80, 0):
    shard["records"].append({"SequenceNumber": str(1000 - age), "ApproximateArrivalTimestamp": now - age,
                             "Data": "", "PartitionKey": "p"})
mapping = {"UUID": "u", "EventSourceArn": kinesis._streams["s"]["StreamARN"], "FunctionName": "f", "Enabled": True,
           "FunctionArn": "f", "MaximumRecordAgeInSeconds": 60,
           "DestinationConfig": {"OnFailure": {"Destination": sqs._queues[url]["attributes"]["QueueArn"]}}}
lambda_svc._esms["u"] = mapping
records = stream_consumers._read(mapping, "shardId-000000000000", -1, None)
left = stream_consumers._Round(mapping, "shardId-000000000000", records)._without_expired(
    mapping, stream_consumers.Batch(records, 0))
print(json.dumps([len(left.records), json.loads(sqs._queues[url]["messages"][0]["body"])]))
"""
    done = subprocess.run([PYTHON, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    left, record = json.loads(done.stdout.splitlines()[-1])
    assert left == 1
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert record["KinesisBatchInfo"]["batchSize"] == 2
    assert "responseContext" not in record


# --- queue_metrics, mapping_metrics ------------------------------------------------------------------------------


def metric(aws: Aws, namespace: str, name: str, statistic: str, **dimensions: str) -> float | None:
    """A metric's statistic over the last minutes, None where there is no such metric."""
    now = time.time()
    points = aws.cloudwatch.get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": each, "Value": value} for each, value in dimensions.items()],
        StartTime=now - 600,
        EndTime=now + 60,
        Period=3600,
        Statistics=[statistic],
    )["Datapoints"]
    return float(points[-1][statistic]) if points else None


def _queue_metric(aws: Aws, name: str) -> float | None:
    return metric(aws, "AWS/SQS", name, "Maximum", QueueName=f"{aws.prefix}-queue")


def test_a_queue_has_metrics_of_its_depth_and_age(aws: Aws) -> None:
    url, _arn = aws.queue()
    send(aws, url, "a", "b", "c")
    aws.sqs.receive_message(QueueUrl=url)
    assert eventually(lambda: _queue_metric(aws, "ApproximateNumberOfMessagesVisible") == 2)
    assert eventually(lambda: _queue_metric(aws, "ApproximateNumberOfMessagesNotVisible") == 1)
    assert eventually(lambda: (_queue_metric(aws, "ApproximateAgeOfOldestMessage") or 0) >= 2)


def test_a_message_that_came_too_often_makes_no_queue_old(aws: Aws) -> None:
    url, _arn = aws.queue(VisibilityTimeout="0")
    send(aws, url, "poison")
    for _ in range(4):
        aws.sqs.receive_message(QueueUrl=url)
    time.sleep(4)
    assert eventually(lambda: _queue_metric(aws, "ApproximateNumberOfMessagesVisible") == 1)
    assert (_queue_metric(aws, "ApproximateAgeOfOldestMessage") or 0) <= 1


def test_bare_a_queue_has_no_metrics(bare: Aws) -> None:
    send(bare, bare.queue()[0], "a")
    assert eventually(lambda: _queue_metric(bare, "ApproximateNumberOfMessagesVisible"), 3) is None


def _event_counts(aws: Aws, mapping: Mapping) -> dict[str, float]:
    names = ("Polled", "Invoked", "FailedInvoke", "FilteredOut", "Deleted", "Dropped", "OnFailureDestinationDelivered")
    dimension = {"EventSourceMappingUUID": mapping.uuid}
    found = {name: metric(aws, "AWS/Lambda", f"{name}EventCount", "Sum", **dimension) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _queue_mapping_counts(aws: Aws, folder: Path, seconds: float = A_WHILE, **settings: Any) -> dict[str, float]:
    consumer, (url, source) = Consumer(aws, folder, fail=["2"]), aws.queue()
    pattern = {"Filters": [{"Pattern": '{"body": [{"anything-but": ["3"]}]}'}]}
    mapping = Mapping(aws, consumer.name, source, Enabled=False, FilterCriteria=pattern, **settings, **REPORTING)
    send(aws, url, '"1"', "2", '"3"')
    mapping.update(Enabled=True)
    eventually(lambda: counts(aws, url) == (0, 1, 0))
    eventually(lambda: _event_counts(aws, mapping).get("Deleted"), seconds)
    return _event_counts(aws, mapping)


def test_a_queues_mapping_counts_its_events_where_it_is_asked_to(aws: Aws, tmp_path: Path) -> None:
    counted = _queue_mapping_counts(aws, tmp_path, MetricsConfig={"Metrics": ["EventCount"]})
    assert counted == {"Polled": 3, "FilteredOut": 1, "Invoked": 2, "FailedInvoke": 1, "Deleted": 2}


def test_a_mapping_that_is_not_asked_counts_nothing(aws: Aws, tmp_path: Path) -> None:
    assert _queue_mapping_counts(aws, tmp_path, seconds=1) == {}


def _stream_metrics(aws: Aws, folder: Path, seconds: float = A_WHILE) -> tuple[dict[str, float], float | None]:
    consumer, arn, (_url, dead) = Consumer(aws, folder, poison=["1"]), stream(aws), aws.queue("dead")
    destination = {"OnFailure": {"Destination": dead}}
    settings = {"MetricsConfig": {"Metrics": ["EventCount"]}, "DestinationConfig": destination, **START}
    mapping = Mapping(aws, f"{consumer.name}:1", arn, MaximumRetryAttempts=1, BatchSize=1, **settings)
    put(aws, arn, "1", "2")
    consumer.saw("1", "1", "2", seconds=seconds)
    eventually(lambda: _event_counts(aws, mapping).get("Invoked") == 3, seconds)
    resource = {"FunctionName": consumer.name, "Resource": f"{consumer.name}:1"}
    return _event_counts(aws, mapping), metric(aws, "AWS/Lambda", "IteratorAge", "Maximum", **resource)


def test_a_streams_mapping_counts_its_events_and_the_age_of_its_records(aws: Aws, tmp_path: Path) -> None:
    counted, age = _stream_metrics(aws, tmp_path)
    assert {name: counted[name] for name in ("Invoked", "FailedInvoke", "OnFailureDestinationDelivered")} == {
        "Invoked": 3,
        "FailedInvoke": 2,
        "OnFailureDestinationDelivered": 1,
    }
    assert age is not None
    assert 0 <= age < 10_000


def test_bare_a_streams_mapping_has_no_metrics(bare: Aws, tmp_path: Path) -> None:
    assert _stream_metrics(bare, tmp_path, seconds=4) == ({}, None)
