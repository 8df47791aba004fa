"""The starter: requests of ECS tasks and redrives from their queue, each started once, and refusals that are heard."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from cfnlint.decode import cfn_yaml

from headgate.events import EVENTS
from tests.builders import CONTEXT, ROOT, event, items_at
from tests.fakes.functions import SETTINGS
from tests.fakes.services import FakeStepFunctions, Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions

DONE: dict[str, Any] = {"batchItemFailures": []}
KINDS = ("task", "redrive")
TIME = SimpleNamespace(**vars(CONTEXT) | {"get_remaining_time_in_millis": lambda: 60_000})
QUEUE = "https://sqs.test/jobs"


class FakeQueue(Service):
    """SQS as far as it is told when messages are visible again."""

    def __init__(self) -> None:
        self.delays: dict[str, int] = {}

    def ChangeMessageVisibilityBatch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N802, N803
        assert QueueUrl == QUEUE
        self.delays |= {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}
        return {"Successful": [], "Failed": []}


@pytest.fixture
def queue(deployed: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQueue]:
    fake, client = FakeQueue(), boto3.client("sqs")
    monkeypatch.setenv("JOBS", QUEUE)
    monkeypatch.setattr(deployed.module("starter").starter, "hurried", client)
    detach = fake.attach(client)
    yield fake
    detach()


@pytest.fixture(autouse=True)
def machine_arns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TASK_MACHINE", "REDRIVE_MACHINE"):
        monkeypatch.setenv(name, SETTINGS[name])


@pytest.fixture
def letters(aws: None, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Reads the dead letters: the reason and the body of each."""
    sqs = clients["sqs"]
    url = sqs.create_queue(QueueName="job-letters")["QueueUrl"]
    monkeypatch.setenv("JOB_DEAD_LETTERS", url)
    receive = functools.partial(
        sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
    )
    return lambda: [
        (letter["MessageAttributes"]["reason"]["StringValue"], letter["Body"])
        for letter in receive().get("Messages", [])
    ]


@pytest.fixture
def give(deployed: Functions, table: Table) -> Callable[..., list[str]]:
    """Delivers messages to the starter; answers the ids of those that come again."""

    def give(*messages: dict[str, Any], context: Any = TIME) -> list[str]:
        answer = deployed.call("starter", {"Records": list(messages)}, context)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return give


def requested(kind: str, **detail: Any) -> dict[str, Any]:
    """The event in events/ that requests a job; a field that is None is left out."""
    asked: dict[str, Any] = event(f"{kind}_requested")
    merged = asked["detail"] | detail
    return asked | {"detail": {name: value for name, value in merged.items() if value is not None}}


def message(body: Any, message_id: str = "m-1", times: int = 1) -> dict[str, Any]:
    """A message of the queue, delivered for the n-th time."""
    (record,) = event("starter")["Records"]
    return dict(record) | {
        "messageId": message_id,
        "receiptHandle": f"handle-of-{message_id}",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": record["attributes"] | {"ApproximateReceiveCount": str(times)},
    }


def pk_of(kind: str, job_id: str) -> str:
    return f"{kind.upper()}#{job_id}"


def id_of(kind: str) -> str:
    return str(event(f"{kind}_requested")["detail"]["id"])


def refusals(table: Table, kind: str, job_id: str) -> list[dict[str, Any]]:
    """The announced refusals of a job's requests, each as its model has it."""
    outbox = [item for item in items_at(table, pk_of(kind, job_id)) if item["sk"].startswith("EVENT#")]
    for item in outbox:
        assert item["detailType"] == f"{kind.title()} Refused"
        assert EVENTS[item["detailType"]].model_validate(item["detail"]).to_wire() == item["detail"]
    return [item["detail"] for item in outbox]


# Started once


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_starts_the_machine_of_its_kind_with_the_detail_and_is_on_record(
    table: Table, machines: FakeStepFunctions, give: Callable[..., list[str]], kind: str
) -> None:
    assert give(message(requested(kind))) == []
    [(name, given)] = machines.executions.items()
    assert given == event(f"{kind}_requested")["detail"]
    [item] = items_at(table, pk_of(kind, id_of(kind)))
    machine = SETTINGS[f"{kind.upper()}_MACHINE"]
    assert item["execution"] == f"{machine.replace('stateMachine', 'execution')}:{name}"
    assert (item["kind"], item["createdAt"] <= item["startedAt"]) == (kind, True)


def test_an_item_is_kept_as_long_as_the_record_of_a_rollout(
    table: Table, machines: FakeStepFunctions, give: Callable[..., list[str]]
) -> None:
    give(message(requested("task")))
    table.transact(*table.put_rollout("checkout-42", {}))
    [job], [rollout] = items_at(table, "TASK#migrate-42"), items_at(table, "ROLLOUT#checkout-42")
    assert 0 <= rollout["expiresAt"] - job["expiresAt"] <= 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own_id", [True, False], ids=["own id", "id of the event"])
def test_an_event_that_is_delivered_twice_starts_once(
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    letters: Callable[[], list[Any]],
    kind: str,
    own_id: bool,
) -> None:
    # GIVEN that EventBridge puts an event into the queue twice
    body = requested(kind, **({} if own_id else {"id": None}))
    assert give(message(body, "m-1"), message(body, "m-2")) == []
    assert len(machines.executions) == 1
    # AND once more after its execution has ended and Step Functions has forgotten the name
    machines.executions.clear()
    assert give(message(body, "m-3")) == []
    assert (machines.executions, letters()) == ({}, [])


def test_without_an_id_each_event_is_a_request_of_its_own(
    machines: FakeStepFunctions, give: Callable[..., list[str]]
) -> None:
    # GIVEN a schedule that sends the same detail each time
    first, second = requested("task", id=None) | {"id": "event-1"}, requested("task", id=None) | {"id": "event-2"}
    give(message(first), message(second))
    assert sorted(given["id"] for given in machines.executions.values()) == ["event-1", "event-2"]


@pytest.mark.parametrize("event_id", [None, "", "no good id", 7])
def test_an_event_that_was_sent_by_hand_takes_the_id_of_its_message(
    machines: FakeStepFunctions, give: Callable[..., list[str]], event_id: Any
) -> None:
    body = requested("task", id=None) | {"id": event_id}
    if event_id is None:
        del body["id"]
    give(message(body, "m-9"), message(body, "m-9", 2))
    assert [given["id"] for given in machines.executions.values()] == ["m-9"]


def test_the_order_of_fields_does_not_make_other_content(
    machines: FakeStepFunctions, give: Callable[..., list[str]], letters: Callable[[], list[Any]]
) -> None:
    body = requested("task")
    give(message(body), message(body | {"detail": dict(reversed(body["detail"].items()))}, "m-2"))
    assert (len(machines.executions), letters()) == (1, [])


def test_a_task_and_a_redrive_may_have_the_same_id(
    machines: FakeStepFunctions, give: Callable[..., list[str]], letters: Callable[[], list[Any]]
) -> None:
    give(message(requested("task", id="fix-7")), message(requested("redrive", id="fix-7"), "m-2"))
    assert (len(machines.executions), letters()) == (2, [])


# Crashes and throttles


@pytest.mark.parametrize(("operation", "when"), [("StartExecution", "before"), ("StartExecution", "after")])
@pytest.mark.parametrize("ended", [False, True], ids=["runs", "has ended"])
def test_what_fails_between_the_item_and_its_mark_is_made_good_by_the_next_delivery(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    queue: FakeQueue,
    letters: Callable[[], list[Any]],
    operation: str,
    when: str,
    ended: bool,
) -> None:
    # GIVEN a function that dies around the start
    def die(called: str, at: str) -> None:
        if (called, at) == (operation, when):
            raise RuntimeError("gone")

    machines.interrupt = die
    assert give(message(requested("task"))) == ["m-1"]
    [item] = items_at(table, "TASK#migrate-42")
    assert "startedAt" not in item
    # WHEN the message comes again
    del machines.interrupt
    if ended:
        machines.ended |= dict.fromkeys(machines.executions, "SUCCEEDED")
    assert give(message(requested("task"), times=2)) == []
    # THEN the same execution was started, once
    [(name, given)] = machines.executions.items()
    assert (item["execution"].endswith(f":{name}"), given["id"]) == (True, "migrate-42")
    assert "startedAt" in items_at(table, "TASK#migrate-42")[0]
    assert letters() == []


def test_a_mark_that_could_not_be_written_is_written_at_the_next_delivery(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    queue: FakeQueue,
    deployed: Functions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_request: Any) -> None:
        raise RuntimeError("throttled")

    with monkeypatch.context() as patch:
        patch.setattr(deployed.module("starter").starter.jobs, "mark_started", fail)
        assert give(message(requested("task"))) == ["m-1"]
    assert give(message(requested("task"), times=2)) == []
    assert len(machines.executions) == 1
    assert "startedAt" in items_at(table, "TASK#migrate-42")[0]


def test_two_deliveries_at_the_same_time_store_one_item(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    deployed: Functions,
    letters: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # GIVEN that between the look and the write, another delivery stores the job and starts it
    jobs = deployed.module("starter").starter.jobs
    put = jobs._put

    def put_late(*given: Any) -> Any:
        monkeypatch.setattr(jobs, "_put", put)
        assert give(message(requested("task"), "m-2")) == []
        return put(*given)

    monkeypatch.setattr(jobs, "_put", put_late)
    assert give(message(requested("task"), "m-1")) == []
    assert (len(machines.executions), len(items_at(table, "TASK#migrate-42")), letters()) == (1, 1, [])


def test_a_throttled_start_delays_its_message_longer_each_time_and_never_refuses_it(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    queue: FakeQueue,
    letters: Callable[[], list[Any]],
) -> None:
    def throttle(operation: str, _when: str) -> None:
        if operation == "StartExecution":
            raise Refusal("ThrottlingException", "Rate exceeded")

    machines.interrupt = throttle
    delays = []
    for times in (1, 2, 3, 50):
        assert give(message(requested("task"), times=times)) == ["m-1"]
        delays.append(queue.delays["handle-of-m-1"])
    assert delays == [5, 10, 20, 180]
    del machines.interrupt
    assert give(message(requested("task"), times=51)) == []
    assert (len(machines.executions), letters(), refusals(table, "task", "migrate-42")) == (1, [], [])


def test_a_message_that_fails_holds_up_no_other(
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    queue: FakeQueue,
    deployed: Functions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = deployed.module("starter").starter.jobs
    add = jobs.add

    def add_or_fail(request: Any, execution: str) -> Any:
        if request.id == "a":
            raise RuntimeError("the table is out of reach")
        return add(request, execution)

    monkeypatch.setattr(jobs, "add", add_or_fail)
    assert give(message(requested("task", id="a"), "m-a"), message(requested("task", id="b"), "m-b")) == ["m-a"]
    assert [given["id"] for given in machines.executions.values()] == ["b"]


def test_messages_without_time_are_handed_back_and_the_most_delivered_is_begun_first(
    machines: FakeStepFunctions, give: Callable[..., list[str]], queue: FakeQueue
) -> None:
    left = iter([60_000])
    hurry = SimpleNamespace(**vars(CONTEXT) | {"get_remaining_time_in_millis": lambda: next(left, 30_000)})
    batch = [message(requested("task", id=name), name, times) for name, times in (("a", 1), ("b", 3), ("c", 2))]
    assert sorted(give(*batch, context=hurry)) == ["a", "c"]
    assert [given["id"] for given in machines.executions.values()] == ["b"]
    assert queue.delays == {"handle-of-a": 0, "handle-of-c": 0}


# Refused aloud


@pytest.mark.parametrize(
    ("kind", "other", "subject"),
    [
        ("task", {"taskDefinition": "migrate:4"}, ("taskDefinition", "migrate:4")),
        ("redrive", {"dryRun": None}, ("queue", "orders-dead")),
    ],
)
def test_an_id_that_is_used_again_with_other_content_is_refused_aloud(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    letters: Callable[[], list[Any]],
    kind: str,
    other: dict[str, Any],
    subject: tuple[str, str],
) -> None:
    give(message(requested(kind)))
    # WHEN another event has the same id, and is delivered twice
    body = requested(kind, **other) | {"id": "event-2"}
    assert give(message(body, "m-2"), message(body, "m-3")) == []
    # THEN the first one alone was started
    assert list(machines.executions.values()) == [event(f"{kind}_requested")["detail"]]
    # AND the second one is announced once, with what it was, and kept with the reason
    [told] = refusals(table, kind, id_of(kind))
    [name] = machines.executions
    assert (told["eventId"], told[f"{kind}Id"], told[subject[0]]) == ("event-2", id_of(kind), subject[1])
    assert told["reason"].startswith(f"id: {id_of(kind)} is already in use for other content, by arn:aws:states:")
    assert name in told["reason"]
    assert letters() == [(told["reason"], json.dumps(body))] * 2


@pytest.mark.parametrize(
    ("kind", "detail", "reason"),
    [
        ("task", {"taskDefinitoin": "x"}, "taskDefinitoin: is not a known field; did you mean taskDefinition?"),
        ("task", {"taskDefinition": None}, "taskDefinition: is missing; add it"),
        ("redrive", {"perSecond": 0}, "perSecond: must be at least 1 (given 0)"),
    ],
)
def test_a_request_that_is_not_valid_is_refused_aloud_and_its_id_stays_free(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    letters: Callable[[], list[Any]],
    kind: str,
    detail: dict[str, Any],
    reason: str,
) -> None:
    assert give(message(requested(kind, **detail))) == []
    [told] = refusals(table, kind, id_of(kind))
    assert told["reason"].startswith(reason)
    assert told["eventId"] == event(f"{kind}_requested")["id"]
    assert [given for given, _ in letters()] == [told["reason"]]
    assert machines.executions == {}
    # AND the same id, corrected, is accepted
    give(message(requested(kind) | {"id": "event-2"}, "m-2"))
    assert len(machines.executions) == 1


@pytest.mark.parametrize("detail", [None, "migrate", [], {"id": "no good id", "taskDefinition": 7}])
def test_a_refused_request_without_a_valid_id_has_that_of_its_event(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    letters: Callable[[], list[Any]],
    detail: Any,
) -> None:
    give(message(event("task_requested") | {"detail": detail}))
    [told] = refusals(table, "task", event("task_requested")["id"])
    assert "taskDefinition" not in told
    assert len(letters()) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"detail":', "the message: is not JSON"),
        (json.dumps(event("task_requested")["detail"]), "detail-type: must be Task Requested or Redrive Requested"),
        (json.dumps(event("rollout_requested")), 'the bus (given "Rollout Requested")'),
        (json.dumps({"detail-type": ["Task Requested"]}), "detail-type: must be Task Requested or Redrive Requested"),
        ("[]", "(given null)"),
    ],
)
def test_a_message_that_is_no_request_of_a_job_is_kept_with_the_reason(
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    letters: Callable[[], list[Any]],
    body: str,
    reason: str,
) -> None:
    assert give(message(body), message(requested("task"), "m-2")) == []
    [(told, kept)] = letters()
    assert (reason in told, kept) == (True, body)
    assert len(machines.executions) == 1


def test_a_refusal_that_cannot_be_kept_now_is_kept_and_announced_once_when_it_comes_again(
    table: Table,
    machines: FakeStepFunctions,
    give: Callable[..., list[str]],
    queue: FakeQueue,
    letters: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = requested("task", cpu=1)
    # GIVEN a dead-letter queue that is not there
    with monkeypatch.context() as patch:
        patch.setenv("JOB_DEAD_LETTERS", SETTINGS["JOB_DEAD_LETTERS"])
        assert give(message(bad)) == ["m-1"]
    assert give(message(bad, times=2)) == []
    assert (len(letters()), len(refusals(table, "task", "migrate-42"))) == (1, 1)


# The template


RESOURCES = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]


@pytest.mark.parametrize("rule", ["TaskRule", "RedriveRule"])
def test_a_rule_sends_whole_events_to_the_queue_in_place_of_the_machine(rule: str) -> None:
    # An upgrade replaces the target with the same id; with another id, for a moment an event would go to both.
    [target] = RESOURCES[rule]["Properties"]["Targets"]
    assert (target["Id"], target["Arn"]) == ("machine", {"Fn::GetAtt": ["JobQueue", "Arn"]})
    assert not target.keys() & {"InputPath", "Input", "InputTransformer", "RoleArn"}


def test_the_topic_gets_requests_that_the_starter_or_their_own_machine_refuses() -> None:
    patterns = [RESOURCES[rule]["Properties"]["EventPattern"] for rule in ("EndRule", "RefusedJobRule")]
    assert {"Task Refused", "Redrive Refused"} < set(patterns[0]["detail-type"])
    assert set(patterns[1]["detail-type"]) == {"Task Ended", "Redrive Ended", "Watch Ended"}
    assert patterns[1]["detail"] == {"outcome": ["refused", "fault", "undo-requested"]}


def test_the_starter_may_start_the_two_machines_and_write_to_its_own_dead_letters_alone() -> None:
    statements = RESOURCES["StarterRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    allowed = {each["Sid"]: each["Resource"] for each in statements}
    del allowed["Records"], allowed["Logs"]
    assert allowed == {
        "StartJobs": [{"Ref": "EcsTaskMachine"}, {"Ref": "RedriveMachine"}],
        "KeepRefused": {"Fn::GetAtt": ["JobDeadLetters", "Arn"]},
        "ReadQueue": {"Fn::GetAtt": ["JobQueue", "Arn"]},
    }
