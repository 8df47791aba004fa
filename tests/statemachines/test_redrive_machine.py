"""The redrive machine: every way, every end, and that nothing is lost whatever happens on it."""

from __future__ import annotations

import importlib.util
import json
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from headgate.aws.sqs_queues import Queues
from headgate.aws.stream_mappings import StreamMappings
from headgate.aws.stream_replay import StreamReplay
from headgate.errors import Transient
from headgate.redrive.aftermath import Aftermath
from headgate.redrive.planner import RedrivePlanner
from headgate.redrive.runner import MAX_UNMOVED, Redrive
from tests.builders import ACCOUNT, EVERYTHING, OWN, ROOT
from tests.fakes.sqs import Clock, FakeSqs, arn, refusal
from tests.fakes.streams import FakeFunctions, FakeStream, FakeTopics, kinesis_record, mapping_of
from tests.statemachines.engine import Engine, LambdaServiceError, ServiceError
from tools import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from tests.statemachines.engine import Execution

MACHINE = "redrive"
DEFINITION_TEXT = (ROOT / "statemachines" / "redrive.asl.json").read_text("utf-8")
STATES = json.loads(DEFINITION_TEXT)["States"]
FUNCTIONS = {"RedrivePlanner": "redrive_planner", "Redriver": "redriver", "RedriveStopper": "redrive_stopper"}
LIVE: dict[str, Any] = {"dryRun": False, "stopIfReturned": {"percent": 25, "afterSeconds": 1}}


class _Context:
    function_name, memory_limit_in_mb, aws_request_id = "headgate", 512, "request-1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:headgate"


_CONTEXT: Any = _Context()


class App:
    """The machine with its functions on queues, a stream and a function in memory. Its Waits move the queues' clock."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, self.clock = engine, Clock()
        self.sqs = FakeSqs(self.clock)
        self.dead = self.sqs.queue("orders-dead")
        self.orders = self.sqs.queue("orders", dead_letters="orders-dead")
        self.gave_up = self.sqs.queue("orders-gave-up")
        self.stream = FakeStream()
        self.handler: Callable[[Any], Any] = lambda _: None
        self.functions = FakeFunctions(self._function)
        self.announced: list[dict[str, Any]] = []
        self.slices: list[dict[str, Any]] = []
        self.before_slice: Callable[[int], None] = lambda _: None
        self.cut_short = True
        monkeypatch.setenv("ACCOUNT", ACCOUNT)
        monkeypatch.setenv("BUS", "headgate")
        monkeypatch.setenv("PREFIX", OWN.prefix)
        monkeypatch.setenv("OWN_QUEUES", json.dumps(OWN.queues))
        monkeypatch.setenv("PATTERNS", json.dumps(EVERYTHING.by_parameter))
        queues = Queues(self.sqs, self.clock, self.clock.sleep)
        streams = StreamReplay(self.stream, self.stream, self.functions, self.clock, self.clock.sleep)
        modules = {name: _load(name) for name in FUNCTIONS.values()}
        mappings = StreamMappings(self.functions)
        planner = RedrivePlanner(self.sqs, FakeTopics(), mappings, ACCOUNT, OWN, EVERYTHING, self.clock.time)
        modules["redrive_planner"].__dict__["planner"] = planner
        modules["redriver"].__dict__["redrive"] = Redrive(
            queues, streams, mappings, self.clock, self.clock.sleep, self.clock.time
        )
        modules["redriver"].__dict__["machines"] = engine.client("stepfunctions")
        self.stopper = modules["redrive_stopper"]
        self.stopper.__dict__["aftermath"] = Aftermath(self.sqs, self, self, account=ACCOUNT, bus="headgate")
        engine.function("redrive_planner", lambda event: modules["redrive_planner"].handler(event, _CONTEXT))
        engine.function("redriver", lambda event: self._slice(modules["redriver"], event))
        engine.function("redrive_stopper", lambda event: self._stop(modules["redrive_stopper"], event))
        engine.integration("arn:aws:states:::events:putEvents", self._put_events)
        engine.add_machine(MACHINE, DEFINITION_TEXT, {"Partition": "aws", "Bus": "headgate", **FUNCTIONS})

    def start(self, **fields: Any) -> Execution:
        """Run a request to its end, ten seconds after whatever was sent."""
        self.clock.sleep(10)
        execution = self.engine.start(MACHINE, {"from": {"queue": "orders-dead"}, **fields}, name="redrive-42")
        execution.wait()
        return execution

    def tell_the_stopper(self, execution: Execution) -> None:
        """What Step Functions puts on the default bus once an execution has ended badly; twice, as it may."""
        asked = self.engine.client("stepfunctions").describe_execution(executionArn=execution.arn)
        deadline = time.monotonic() + 20
        while asked["status"] == "RUNNING":  # moto stops an execution a moment after it was told to.
            assert time.monotonic() < deadline, f"{execution.arn} still runs"
            time.sleep(0.001)
            asked = self.engine.client("stepfunctions").describe_execution(executionArn=execution.arn)
        detail = {
            **{name: asked[name] for name in ("executionArn", "stateMachineArn", "name", "status", "input")},
            "startDate": 1000 * (self.clock.time() - self.clock()),
            "stopDate": 1000 * self.clock.time(),
        }
        told_before = len(self.announced)
        for _ in range(2):
            self.stopper.handler({"source": "aws.states", "detail": detail}, _CONTEXT)
        again = self.announced[told_before + 1 :]
        assert again == self.announced[told_before:][:1] * len(again)
        del self.announced[told_before + 1 :]

    def get_execution_history(
        self,
        *,
        executionArn: str,  # noqa: N803 - as AWS names it
        maxResults: int,  # noqa: N803
        reverseOrder: bool = False,  # noqa: N803
    ) -> dict[str, Any]:
        """Step Functions', for the stopper; moto gives every history whole and from its beginning."""
        whole = self.engine.client("stepfunctions").get_execution_history(executionArn=executionArn)["events"]
        aborted = [event for event in whole if event["type"] == "ExecutionAborted"]
        if aborted:
            # On AWS nothing of an execution comes after its end; moto may have what the function answered then.
            [*_, begun] = (number for number, event in enumerate(whole) if event["type"] == "TaskStarted")
            output = json.dumps({"Payload": self.slices[-1]}) if self.slices else ""
            answered = {"type": "TaskSucceeded", "taskSucceededEventDetails": {"resource": "invoke", "output": output}}
            whole = [*whole[: begun + 1], *([] if self.cut_short else [answered]), *aborted]
        return {"events": (whole[::-1] if reverseOrder else whole)[:maxResults]}

    def last_events(self) -> list[str]:
        """The kinds of the last events of the latest execution."""
        return [event["type"] for event in self.engine.executions(MACHINE)[-1].history()[-3:]]

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - as AWS names it
        """EventBridge's, for the stopper."""
        self.announced.extend(entry | {"Detail": json.loads(entry["Detail"])} for entry in Entries)
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}

    def _slice(self, module: ModuleType, event: Any) -> Any:
        self.before_slice(len(self.slices))
        answer = module.handler(event, _CONTEXT)
        self.slices.append(answer)
        self.clock.sleep(answer["waitSeconds"])
        return answer

    def _function(self, event: Any) -> Any:
        return self.handler(event)

    def _stop(self, module: ModuleType, event: Any) -> Any:
        # The queues' clock is not the engine's.
        event["detail"]["startDate"] = 1000 * (self.clock.time() - self.clock())
        return module.handler(event, _CONTEXT)

    def _put_events(self, arguments: dict[str, Any]) -> Any:
        self.announced.extend(arguments["Entries"])
        return {"FailedEntryCount": 0}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"machine_{name}", ROOT / "functions" / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    # A minute, which the functions' states may take, is 0.24 s: a machine that is busy elsewhere must not be too slow.
    with Engine(time_scale=0.004) as engine:
        app = App(engine, monkeypatch)
        yield app
    # THEN whatever happened, it was announced once, as the model has it, and SQS moves nothing any more.
    [entry] = app.announced
    assert (entry["DetailType"], entry["Source"], entry["EventBusName"]) == ("Redrive Ended", "headgate", "headgate")
    assert entry["Detail"]["id"] == "redrive-42/redrive-ended"
    jsonschema.Draft202012Validator(schemas.schema_of("Redrive Ended")).validate(entry["Detail"])
    assert [task for queue in app.sqs.queues.values() for task in queue.tasks if task["Status"] == "RUNNING"] == []


def told(execution: Execution) -> dict[str, Any]:
    """What an execution says of the redrive, however it ended."""
    result: dict[str, Any] = execution.output or json.loads(execution.cause or "null")
    return result


def counts(execution: Execution) -> dict[str, int]:
    """Its counts that are not 0."""
    names = ("moved", "skipped", "failed", "returned", "remaining", "records", "expired")
    return {name: told(execution)[name] for name in names if told(execution)[name]}


def give_up_on(app: App, first: int, last: int, size: int = 0) -> None:
    """An on-failure record, as a mapping would leave it."""
    body = json.loads((ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8"))
    info = body["KinesisBatchInfo"]
    info |= {"startSequenceNumber": str(first), "endSequenceNumber": str(last), "batchSize": size or last - first + 1}
    app.sqs.put("orders-gave-up", json.dumps(body))
    app.clock.sleep(1)


# --- Dry runs and refusals -------------------------------------------------------------------------------------------


def test_unless_told_otherwise_it_only_says_what_it_would_do(app: App) -> None:
    app.sqs.bury("orders", *(f"order {number}" for number in range(30)))
    app.sqs.put("orders-dead", "by hand", reason="no such table")
    app.clock.sleep(90)
    execution = app.start(sample=3)
    assert execution.status == "SUCCEEDED"
    assert (told(execution)["outcome"], told(execution)["way"]) == ("dry-run", "move-task")
    assert counts(execution) == {"remaining": 31}
    report = told(execution)["report"]
    assert (report["visible"], report["inFlight"], report["oldestSeconds"]) == (31, 0, 100)
    assert [each["body"] for each in execution.output["report"]["sample"]] == ["order 0", "order 1", "order 2"]
    assert app.sqs.get_queue_attributes(
        QueueUrl="/orders-dead", AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
    ) == {"Attributes": {"ApproximateNumberOfMessagesNotVisible": "0"}}
    assert execution.states() == ["Plan", "Dry run?", "Conclude", "Announce", "How did it end?", "Succeeded"]


def test_a_dry_run_counts_why_messages_failed_and_says_which_ones_match(app: App) -> None:
    app.sqs.put("orders-dead", "a", reason="no such table")
    app.sqs.put("orders-dead", "b", reason="timeout")
    execution = app.start(filter={"reason": "table"}, sample=10)
    report = told(execution)["report"]
    assert report["reasons"] == {"no such table": 1, "timeout": 1}
    assert [each["matches"] for each in execution.output["report"]["sample"]] == [True, False]


@pytest.mark.parametrize("sample", [0, 10])
def test_message_bodies_are_never_announced(app: App, sample: int) -> None:
    app.sqs.put("orders-dead", "salary 4711")
    execution = app.start(sample=sample)
    assert "4711" not in json.dumps(app.announced)
    assert "report" in app.announced[0]["Detail"]
    assert ("4711" in json.dumps(execution.output)) is (sample > 0)


def test_a_request_that_cannot_be_carried_out_is_refused_with_the_reason(app: App) -> None:
    execution = app.start(to={"queue": "nowhere"})
    assert (execution.status, execution.error) == ("FAILED", "RequestRefused")
    assert told(execution)["reason"] == "to.queue: nowhere: The specified queue does not exist."
    assert told(execution)["outcome"] == "refused"


def test_another_execution_may_have_it_done(app: App) -> None:
    # GIVEN the input by which Step Functions links a child to its parent
    execution = app.start(
        AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID="arn:aws:states:eu-central-1:123456789012:execution:a:b"
    )
    assert execution.status == "SUCCEEDED"


def test_a_misspelled_field_is_refused_with_the_one_that_was_meant(app: App) -> None:
    execution = app.start(dryrun=False)
    assert "dryrun: is not a known field; did you mean dryRun?" in told(execution)["reason"]


# --- By SQS's own move -----------------------------------------------------------------------------------------------


def test_a_whole_dead_letter_queue_is_moved_by_sqs(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(500)))
    execution = app.start(**LIVE, perSecond=100)
    assert (told(execution)["outcome"], told(execution)["way"]) == ("succeeded", "move-task")
    assert counts(execution) == {"moved": 500}
    assert len(app.orders.messages) == 500
    assert "Stop" not in execution.states()


def test_what_comes_straight_back_stops_it_and_what_sqs_still_moves_is_cancelled(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(3000)))

    def fail_them(_: int) -> None:
        for stored in list(app.orders.messages):
            app.sqs._dead_letter(app.orders, stored)

    app.before_slice = fail_them
    execution = app.start(**LIVE, perSecond=50)
    assert (execution.error, told(execution)["outcome"]) == ("RedriveReturned", "returned")
    assert told(execution)["returned"] * 4 >= told(execution)["moved"] > 0
    assert "the limit is 25 %" in told(execution)["reason"]
    # THEN nothing is lost, and most was never touched
    assert len(app.dead.messages) + len(app.orders.messages) == 3000
    assert told(execution)["moved"] < 1000


def test_what_comes_back_after_the_last_message_is_seen_too(app: App) -> None:
    app.sqs.bury("orders", "a", "b", "c")

    def fail_one(number: int) -> None:
        if app.slices and app.slices[-1]["next"] == "watch":
            app.sqs._dead_letter(app.orders, app.orders.messages[0])

    app.before_slice = fail_one
    execution = app.start(**LIVE)
    assert (execution.error, counts(execution)) == ("RedriveReturned", {"moved": 3, "returned": 1, "remaining": 1})


def test_what_comes_back_is_only_counted_where_that_is_wanted(app: App) -> None:
    app.sqs.bury("orders", "a", "b")
    execution = app.start(dryRun=False, stopIfReturned=False)
    assert (execution.status, counts(execution)) == ("SUCCEEDED", {"moved": 2})


def test_a_move_that_keeps_failing_ends_it_with_sqss_reason(app: App) -> None:
    app.sqs.bury("orders", "a")
    app.sqs.move_fails = "AccessDenied"
    execution = app.start(**LIVE)
    assert (execution.error, told(execution)["reason"]) == ("RedriveFailed", "the move task failed: AccessDenied")
    assert app.dead.bodies == ["a"]


def test_messages_that_somebody_holds_are_waited_for(app: App) -> None:
    app.sqs.bury("orders", "a", "b")
    app.sqs.receive_message(QueueUrl="/orders-dead", VisibilityTimeout=60)
    execution = app.start(**LIVE)
    assert counts(execution) == {"moved": 2}


def test_messages_that_somebody_holds_for_long_are_not_waited_for_for_ever(app: App) -> None:
    app.sqs.bury("orders", "a")
    app.sqs.receive_message(QueueUrl="/orders-dead", VisibilityTimeout=36_000)
    execution = app.start(**LIVE)
    assert (execution.error, counts(execution)) == ("RedriveFailed", {"remaining": 1})
    assert "request the redrive again later" in told(execution)["reason"]


def test_asked_for_again_it_goes_on_with_what_is_left(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(100)))
    # GIVEN a redrive that died while SQS moved
    app.sqs.start_message_move_task(
        SourceArn="arn:aws:sqs:eu-central-1:123456789012:orders-dead", MaxNumberOfMessagesPerSecond=10
    )
    app.clock.sleep(6)
    app.sqs.cancel_message_move_task(TaskHandle=app.dead.tasks[0]["TaskHandle"])
    execution = app.start(**LIVE)
    assert counts(execution) == {"moved": 40}
    assert len(app.orders.messages) == 100


# --- One by one ------------------------------------------------------------------------------------------------------


def test_a_filter_moves_what_matches_and_leaves_the_rest_visible(app: App) -> None:
    app.sqs.put("orders-dead", *(f"{'good' if number % 4 == 0 else 'bad'} {number}" for number in range(40)))
    execution = app.start(**LIVE, filter={"bodyContains": "good"})
    assert told(execution)["way"] == "receive-and-send"
    assert counts(execution) == {"moved": 10, "skipped": 30, "remaining": 30}
    assert {body.split()[0] for body in app.orders.bodies} == {"good"}
    assert all(message.visible_at <= app.clock() for message in app.dead.messages)


def test_it_takes_as_many_slices_as_it_needs(app: App) -> None:
    app.sqs.put("orders-dead", *map(str, range(200)))
    execution = app.start(**LIVE, atMost=150, perSecond=2)
    assert counts(execution) == {"moved": 150, "remaining": 50}
    assert execution.states().count("Move") >= 3


def test_what_comes_back_is_not_moved_round_and_round(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(60)))

    def fail_them(_: int) -> None:
        for stored in list(app.orders.messages):
            app.sqs._dead_letter(app.orders, stored)

    app.before_slice = fail_them
    execution = app.start(**LIVE, atMost=1000, perSecond=1)
    assert execution.error == "RedriveReturned"
    assert told(execution)["moved"] <= 60
    assert len(app.dead.messages) + len(app.orders.messages) == 60


def test_what_the_destination_refuses_again_and_again_ends_it_and_stays(app: App) -> None:
    app.sqs.put("orders-dead", "a", "b")
    app.sqs.faults = lambda operation, number: operation == "send_message_batch" and number == 0
    execution = app.start(**LIVE, atMost=5)
    assert execution.error == "RedriveFailed"
    assert told(execution)["reason"] == "InternalError: try again"
    assert sorted([*app.dead.bodies, *app.orders.bodies]) == ["a", "b"]


def test_a_fifo_queue_is_moved_one_by_one_in_the_order_of_its_groups(app: App) -> None:
    app.sqs.queue("pay-dead.fifo")
    pay = app.sqs.queue("pay.fifo", dead_letters="pay-dead.fifo")
    for group in ("a", "b"):
        app.sqs.bury("pay.fifo", *(f"{group}{number}" for number in range(12)), group=group)
    execution = app.start(**LIVE, **{"from": {"queue": "pay-dead.fifo"}}, atMost=24)
    assert counts(execution) == {"moved": 24}
    assert [body for body in pay.bodies if body[0] == "a"] == [f"a{number}" for number in range(12)]


def test_what_a_filter_cannot_see_of_a_group_remains_and_is_told(app: App) -> None:
    app.sqs.queue("pay-dead.fifo")
    app.sqs.queue("pay.fifo", dead_letters="pay-dead.fifo")
    app.sqs.bury("pay.fifo", *(f"bad {number}" for number in range(12)), "good", group="a")
    app.sqs.bury("pay.fifo", "good b", group="b")
    execution = app.start(**LIVE, **{"from": {"queue": "pay-dead.fifo"}}, filter={"bodyContains": "good"})
    assert (execution.status, counts(execution)) == ("SUCCEEDED", {"moved": 1, "skipped": 10, "remaining": 13})


def test_a_slice_that_dies_is_done_again_and_nothing_is_lost(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(30)))
    died: list[int] = []

    def die(operation: str, number: int) -> Any:
        if operation == "send_message_batch" and number == -1 and not died:
            died.append(1)
            raise LambdaServiceError("Lambda.Unknown", "Task timed out after 900.00 seconds")
        return None

    app.sqs.faults = die
    execution = app.start(**LIVE, atMost=100)
    assert counts(execution) == {"moved": 30}
    assert sorted(app.orders.bodies, key=int) == list(map(str, range(30)))


@pytest.mark.parametrize("fields", [{"atMost": 50}, {}], ids=["receive-and-send", "move-task"])
def test_a_redrive_policy_that_appears_while_it_runs_ends_it_before_another_message_is_received(
    app: App, fields: dict[str, Any]
) -> None:
    # GIVEN a dead-letter queue with a message that the destination does not take
    last = app.sqs.queue("last-resort")
    app.sqs.put("orders-dead", "large", *map(str, range(300)))
    app.sqs.faults = lambda operation, number: operation == "send_message_batch" and number == 0

    def set_policy(number: int) -> None:
        if number == 1:
            app.dead.dead_letters, app.dead.max_receives = "last-resort", 1

    app.before_slice = set_policy
    execution = app.start(**LIVE, **fields, to={"queue": "orders"}, perSecond=2)
    assert (execution.error, told(execution)["outcome"]) == ("RedriveFailed", "failed")
    assert "SQS moves a message to last-resort after 1 receives" in told(execution)["reason"]
    assert last.bodies == []
    assert len(app.dead.messages) + len(app.orders.messages) == 301


def test_a_message_that_was_not_moved_and_is_gone_is_no_success(app: App) -> None:
    # GIVEN a message that the destination refuses, and that somebody else takes before the next slice
    app.sqs.put("orders-dead", "large", "a", "b")
    app.sqs.faults = lambda operation, number: operation == "send_message_batch" and number == 0 and not app.slices

    def take(number: int) -> None:
        if number == 1:
            app.dead.messages.clear()

    app.before_slice = take
    execution = app.start(**LIVE, atMost=50)
    assert (execution.error, counts(execution)) == ("RedriveFailed", {"moved": 2})
    assert "1 messages could not be moved and were not found in orders-dead again" in told(execution)["reason"]


def test_a_message_that_was_refused_once_and_is_moved_later_is_accounted_for(app: App) -> None:
    app.sqs.put("orders-dead", "a", "b", "c")
    app.sqs.faults = lambda operation, number: operation == "send_message_batch" and number == 0 and not app.slices
    execution = app.start(**LIVE, atMost=50)
    assert (execution.status, counts(execution)) == ("SUCCEEDED", {"moved": 3})
    assert app.slices[-1]["progress"].get("unmoved", []) == []


def test_a_destination_that_refuses_message_after_message_ends_it_early(app: App) -> None:
    app.sqs.put("orders-dead", *map(str, range(MAX_UNMOVED + 200)))
    app.sqs.faults = lambda operation, number: operation == "send_message_batch" and number >= 1
    execution = app.start(**LIVE, atMost=5000, perSecond=500)
    assert (execution.error, execution.states().count("Move")) == ("RedriveFailed", 1)
    assert told(execution)["reason"] == "InternalError: try again"
    assert len(app.dead.messages) + len(app.orders.messages) == MAX_UNMOVED + 200


# --- Batches of streams ----------------------------------------------------------------------------------------------


def test_batches_of_a_stream_are_read_again_and_given_to_their_function_in_order(app: App) -> None:
    app.stream.records = [kinesis_record(str(number), b"x") for number in range(1, 21)]
    for first, last in ((8, 10), (1, 5), (11, 12)):
        give_up_on(app, first, last)
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert told(execution)["way"] == "re-read"
    assert counts(execution) == {"moved": 3, "records": 10}
    given = [int(each["kinesis"]["sequenceNumber"]) for event in app.functions.events for each in event["Records"]]
    assert given == [1, 2, 3, 4, 5, 8, 9, 10, 11, 12]
    assert set(app.functions.invoked) == {"arn:aws:lambda:eu-central-1:123456789012:function:orders:live"}
    assert app.gave_up.messages == []


def test_the_request_may_name_another_version_of_the_function(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}}, to={"function": "orders:6"})
    assert app.functions.invoked == ["orders:6"]


def test_a_batch_that_the_function_does_not_take_stays_and_holds_back_its_shard(app: App) -> None:
    app.stream.records = [kinesis_record(str(number), b"x") for number in range(1, 21)]
    for first, last in ((1, 3), (4, 6), (7, 9)):
        give_up_on(app, first, last)

    def handler(event: Any) -> Any:
        bad = [{"itemIdentifier": "5"} for each in event["Records"] if each["kinesis"]["sequenceNumber"] == "5"]
        return {"batchItemFailures": bad}

    app.handler = handler
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert execution.error == "RedriveFailed"
    assert counts(execution) == {"moved": 1, "failed": 1, "remaining": 2, "records": 4}
    assert "the function reported 5 as failed" in told(execution)["reason"]
    given = {each["kinesis"]["sequenceNumber"] for event in app.functions.events for each in event["Records"]}
    assert given.isdisjoint({"7", "8", "9"})
    assert all(message.visible_at <= app.clock() for message in app.gave_up.messages)


@pytest.mark.parametrize(("timeout", "attempts"), [(60, 3), (300, 2), (600, 1), (900, 1)])
def test_no_invocation_outlives_the_slice_that_waits_for_it(app: App, timeout: int, attempts: int) -> None:
    # GIVEN a function that fails, at first perhaps before its time is over
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.functions.timeout = timeout

    def handler(_: Any) -> Any:
        app.clock.sleep(timeout if len(app.functions.invoked) > 1 else min(timeout, 350))
        return "fails"

    app.handler = handler
    began: list[float] = []
    app.before_slice = lambda _: began.append(app.clock())
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert counts(execution) == {"failed": 1, "remaining": 1}
    assert len(app.functions.invoked) == attempts
    assert app.clock() - began[0] <= 910


def test_a_function_that_a_slice_cannot_wait_for_gets_nothing(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.functions.timeout = 5400
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert counts(execution) == {"failed": 1, "remaining": 1}
    assert app.functions.invoked == []
    assert "has a Timeout of 5400 s, and a redrive waits at most 900 s for an invocation" in told(execution)["reason"]


def counts_in_windows(totals: list[int]) -> Callable[[Any], Any]:
    """A function that counts in the state that Lambda passes on, and writes the count when the window ends."""

    def handler(event: Any) -> Any:
        state = event.get("state") or {}
        state["count"] = state.get("count", 0) + len(event["Records"])
        if event.get("isFinalInvokeForWindow"):
            totals.append(state["count"])
        return {"state": state}

    return handler


def test_a_batch_of_a_tumbling_window_is_refused_with_the_reason_and_nothing_is_invoked(app: App) -> None:
    app.stream.records = [kinesis_record(str(number), b"x") for number in range(1, 5)]
    give_up_on(app, 1, 3)
    app.handler = counts_in_windows([])
    app.functions.mappings = [mapping_of(TumblingWindowInSeconds=60)]
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert (execution.error, told(execution)["outcome"]) == ("RequestRefused", "refused")
    assert "has a tumbling window (TumblingWindowInSeconds 60)" in told(execution)["reason"]
    assert "set to.function to a function that processes the records without a window" in told(execution)["reason"]
    assert (app.functions.invoked, len(app.gave_up.messages)) == ([], 1)


def test_a_batch_of_a_window_may_go_to_a_function_without_one(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.functions.mappings = [mapping_of(TumblingWindowInSeconds=60)]
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}}, to={"function": "recount"})
    assert (counts(execution), app.functions.invoked) == ({"moved": 1, "records": 1}, ["recount"])


def test_a_window_that_is_set_after_the_plan_was_made_ends_the_redrive_before_the_next_batch(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)

    def set_window(_: int) -> None:
        app.functions.mappings = [mapping_of(TumblingWindowInSeconds=60)]

    app.before_slice = set_window
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert (execution.error, counts(execution)) == ("RedriveFailed", {"failed": 1, "remaining": 1})
    assert "has a tumbling window" in told(execution)["reason"]
    assert app.functions.invoked == []


def test_a_filter_lets_a_batch_through_only_if_its_range_has_no_other_records(app: App) -> None:
    app.functions.mappings = [mapping_of(FilterCriteria={"Filters": [{"Pattern": '{"data": {"kind": ["order"]}}'}]})]
    app.stream.records = [kinesis_record(str(number), b"x") for number in range(1, 10)]
    give_up_on(app, 1, 3)
    give_up_on(app, 5, 8, size=2)
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert (execution.error, counts(execution)) == (
        "RedriveFailed",
        {"moved": 1, "failed": 1, "records": 3, "remaining": 1},
    )
    assert "nothing says which of the 4 records in the range it had left out" in told(execution)["reason"]
    assert [len(each["Records"]) for each in app.functions.events] == [3]


def test_a_dry_run_warns_of_a_filter(app: App) -> None:
    app.functions.mappings = [mapping_of(KMSKeyArn="arn:aws:kms:eu-central-1:123456789012:key/1", FilterCriteria=None)]
    give_up_on(app, 1, 3)
    give_up_on(app, 4, 6)
    [warning] = told(app.start(**{"from": {"queue": "orders-gave-up"}}))["report"]["warnings"]
    uuid = app.functions.mappings[0]["UUID"]
    assert warning == f"mapping {uuid} has a filter, and a batch of a range with other records fails"


OTHERS = "arn:aws:lambda:eu-central-1:123456789012:function:others:live"
STREAM = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"


def test_a_batch_of_a_function_that_the_mapping_does_not_invoke_any_more_needs_one_in_the_request(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.functions.mappings = [mapping_of(OTHERS)]
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert execution.error == "RequestRefused"
    assert f"no mapping of {STREAM} that has this queue as its destination invokes" in told(execution)["reason"]
    assert app.functions.invoked == []


def test_such_a_batch_may_go_to_the_function_in_the_request(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.functions.mappings = [mapping_of(OTHERS)]
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}}, to={"function": "recount"})
    assert (counts(execution), app.functions.invoked) == ({"moved": 1, "records": 1}, ["recount"])


def test_a_dry_run_shows_the_stream_and_the_function(app: App) -> None:
    give_up_on(app, 1, 1)
    uuid = app.functions.mappings[0]["UUID"]
    function = "arn:aws:lambda:eu-central-1:123456789012:function:orders:live"
    app.start(**{"from": {"queue": "orders-gave-up"}})
    report = app.announced[0]["Detail"]["report"]
    assert report["consumers"] == [{"mapping": uuid, "source": STREAM, "function": function}]


@pytest.mark.parametrize(
    "forged", [{"functionArn": OTHERS}, {"streamArn": f"{STREAM}-of-salaries"}], ids=["function", "stream"]
)
def test_a_message_that_names_another_stream_or_function_stays_in_the_queue(app: App, forged: dict[str, str]) -> None:
    app.stream.records = [kinesis_record(str(number), b"x") for number in range(1, 5)]
    # GIVEN a message that somebody wrote who may only send to the queue, before those of the mapping
    body = json.loads((ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8"))
    for part in ("requestContext", "KinesisBatchInfo"):
        body[part] |= {name: value for name, value in forged.items() if name in body[part]}
    app.sqs.put("orders-gave-up", json.dumps(body))
    give_up_on(app, 1, 2)
    give_up_on(app, 3, 4)
    # THEN only the mapping's function gets records, only of its stream, and the message is told
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert counts(execution) == {"moved": 2, "failed": 1, "records": 4, "remaining": 1}
    assert set(app.functions.invoked) == {"arn:aws:lambda:eu-central-1:123456789012:function:orders:live"}
    assert {asked["StreamARN"] for asked in app.stream.asked} == {STREAM}
    assert "stays in the queue: the message names arn:aws:" in told(execution)["reason"]


def test_without_a_mapping_that_gives_up_into_the_queue_nothing_is_read(app: App) -> None:
    give_up_on(app, 1, 1)
    app.functions.mappings = [mapping_of(DestinationConfig={"OnFailure": {"Destination": arn("orders")}})]
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}}, to={"function": "recount"})
    assert execution.error == "RequestRefused"
    assert "the stream of the batches in orders-gave-up is unknown: no mapping" in told(execution)["reason"]
    assert app.stream.asked == []


def test_what_has_expired_is_told_as_lost_and_never_as_delivered(app: App) -> None:
    app.stream.records = [kinesis_record(str(number), b"x") for number in range(1, 21)]
    app.stream.trimmed = 7
    for first, last in ((1, 4), (6, 9)):
        give_up_on(app, first, last)
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert (execution.status, counts(execution)) == (
        "SUCCEEDED",
        {"moved": 1, "remaining": 1, "records": 2, "expired": 6},
    )


def test_a_batch_whose_message_could_not_be_deleted_comes_again(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.sqs.faults = lambda operation, _: refusal("InternalError") if operation == "delete_message" else None
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert (execution.error, counts(execution)) == ("RedriveFailed", {"failed": 1, "remaining": 1, "records": 1})
    assert "the batch was delivered, but its message could not be deleted" in told(execution)["reason"]


def test_a_queue_of_batches_that_cannot_be_read_ends_it_after_a_few_slices(app: App) -> None:
    give_up_on(app, 1, 1)
    looked: list[str] = []

    def fault(operation: str, _: int) -> Any:
        looked.append(operation)
        return refusal("InternalError") if operation == "receive_message" and len(looked) > 3 else None

    app.sqs.faults = fault
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert (execution.error, counts(execution)) == ("RedriveFailed", {"remaining": 1})
    assert execution.states().count("Move") == 3


def test_messages_that_name_no_batch_are_left_where_they_are(app: App) -> None:
    app.stream.records = [kinesis_record("1", b"x")]
    give_up_on(app, 1, 1)
    app.sqs.put("orders-gave-up", "something else")
    execution = app.start(**LIVE, **{"from": {"queue": "orders-gave-up"}})
    assert counts(execution) == {"moved": 1, "skipped": 1, "records": 1, "remaining": 1}


# --- When the machine itself fails -----------------------------------------------------------------------------------


def test_a_slice_that_fails_for_good_ends_it_and_cancels_what_sqs_moves(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(1000)))

    def fail(number: int) -> None:
        if number == 2:
            raise ValueError("a bug")

    app.before_slice = fail
    execution = app.start(**LIVE, perSecond=10)
    assert (execution.error, told(execution)["reason"]) == ("RedriveFailed", "a bug")
    assert execution.states()[-6:] == ["Move", "Stop", "Conclude", "Announce", "How did it end?", "Failed"]
    assert app.dead.tasks[-1]["Status"] == "CANCELLED"


def test_that_the_stopper_fails_is_said_too(app: App) -> None:
    app.sqs.bury("orders", "a")
    app.before_slice = _raise
    app.engine.function("redrive_stopper", lambda _: _raise(0))
    execution = app.start(**LIVE)
    assert told(execution)["reason"] == "a bug; what SQS still moves could not be cancelled: ValueError"


def _raise(_: int) -> None:
    raise ValueError("a bug")


@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_a_programmers_error_is_caught_and_not_retried(app: App, function: str) -> None:
    # GIVEN a redrive whose slices fail so that it has to be stopped, and a function that has a bug
    app.sqs.bury("orders", "a")
    app.before_slice = _raise
    calls: list[Any] = []

    def fail(event: Any) -> Any:
        calls.append(event)
        raise RuntimeError("a bug")

    app.engine.function(function, fail)
    # WHEN it runs, THEN the function is called once, and the execution ends and says so
    execution = app.start(**LIVE)
    assert (execution.error, len(calls)) == ("RedriveFailed", 1)
    assert execution.states()[-3:] == ["Announce", "How did it end?", "Failed"]
    assert told(execution)["reason"].startswith("a bug")


@pytest.mark.parametrize("function", ["redrive_planner", "redriver"])
def test_a_cause_that_was_cut_off_is_told_as_it_came(app: App, function: str) -> None:
    # GIVEN what Step Functions tells of a function's error, without the end
    cause = '{"errorMessage":"a bug","errorType":"ValueError","stackTrace":["line 1'
    app.sqs.bury("orders", "a")

    def fail(_: Any) -> Any:
        raise LambdaServiceError("ValueError", cause)

    app.engine.function(function, fail)
    # WHEN it ends the redrive, THEN that is announced like any end
    execution = app.start(**LIVE)
    assert (execution.error, told(execution)["reason"]) == ("RedriveFailed", cause)
    assert execution.states()[-3:] == ["Announce", "How did it end?", "Failed"]


def test_a_planner_that_cannot_ask_sqs_fails_and_does_not_refuse(app: App) -> None:
    def fail(**_: Any) -> Any:
        raise refusal("KmsAccessDenied", "no")

    app.sqs.get_queue_attributes = fail  # type: ignore[method-assign]
    execution = app.start()
    assert (execution.error, told(execution)["outcome"]) == ("RedriveFailed", "failed")


def test_a_bus_that_takes_nothing_changes_nothing_of_how_it_ended(app: App) -> None:
    def refuse(arguments: Any) -> Any:
        app.announced.extend(arguments["Entries"][: not app.announced])
        raise ServiceError("EventBridge.FailedEntry", "no")

    app.engine.integration("arn:aws:states:::events:putEvents", refuse)
    assert app.start().status == "SUCCEEDED"


# --- Ends that the machine cannot tell of ----------------------------------------------------------------------------


def stop_before_slice(app: App, number: int) -> None:
    """Have somebody stop the execution when its n-th slice begins; that slice goes on, as nothing stops a function."""

    def stop(slices: int) -> None:
        if slices == number:
            app.engine.executions(MACHINE)[-1].stop("Mistaken", "it was the wrong queue")

    app.before_slice = stop


def until_its_last_slice_is_done(app: App, slices: int) -> None:
    """An execution that is stopped has ended, while the function that works for it has not."""
    deadline = time.monotonic() + 20
    while len(app.slices) < slices or "ExecutionAborted" not in app.last_events():
        assert time.monotonic() < deadline, f"{len(app.slices)} slices were done: {app.last_events()}"
        time.sleep(0.01)


def test_a_redrive_that_is_stopped_is_told_of_with_what_it_had_moved(app: App) -> None:
    app.sqs.put("orders-dead", *map(str, range(200)))
    stop_before_slice(app, 2)
    execution = app.start(**LIVE, atMost=150, perSecond=1)
    until_its_last_slice_is_done(app, 3)
    assert execution.status == "ABORTED"
    assert app.announced == []
    app.tell_the_stopper(execution)
    [entry] = app.announced
    detail = entry["Detail"]
    before = app.slices[1]["progress"]["moved"]
    assert (detail["outcome"], detail["way"], detail["moved"]) == ("aborted", "receive-and-send", before)
    assert 0 < detail["remaining"] < 200
    assert detail["reason"] == (
        "the execution was stopped: Mistaken: it was the wrong queue; "
        "a slice was running, and the messages that it moved are not counted"
    )


def test_a_slice_that_ended_before_the_execution_is_counted(app: App) -> None:
    app.cut_short = False
    app.sqs.put("orders-dead", *map(str, range(200)))
    stop_before_slice(app, 2)
    execution = app.start(**LIVE, atMost=150, perSecond=1)
    until_its_last_slice_is_done(app, 3)
    app.tell_the_stopper(execution)
    detail = app.announced[0]["Detail"]
    assert detail["moved"] == len(app.orders.messages) == 200 - detail["remaining"]
    assert detail["reason"] == "the execution was stopped: Mistaken: it was the wrong queue"


def test_of_what_sqs_moved_for_a_redrive_that_is_stopped_sqs_tells(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(100)))
    stop_before_slice(app, 2)
    execution = app.start(**LIVE, perSecond=1)
    until_its_last_slice_is_done(app, 3)
    app.tell_the_stopper(execution)
    detail = app.announced[0]["Detail"]
    assert (detail["outcome"], detail["way"]) == ("aborted", "move-task")
    assert detail["moved"] == len(app.orders.messages) > app.slices[1]["progress"]["moved"]
    assert detail["moved"] + detail["remaining"] == 100
    assert detail["reason"] == "the execution was stopped: Mistaken: it was the wrong queue"


def test_what_a_slice_starts_after_the_stopper_has_looked_is_cancelled_by_the_slice(app: App) -> None:
    app.sqs.bury("orders", *map(str, range(100)))

    def stop_and_look(_: int) -> None:
        execution = app.engine.executions(MACHINE)[-1]
        execution.stop()
        app.tell_the_stopper(execution)

    app.before_slice = stop_and_look
    execution = app.start(**LIVE, perSecond=1)
    until_its_last_slice_is_done(app, 1)
    assert execution.status == "ABORTED"
    assert [task["Status"] for task in app.dead.tasks] == ["CANCELLED"]
    assert len(app.dead.messages) > 90


def test_a_redrive_that_is_stopped_before_it_had_a_plan_has_moved_nothing(app: App) -> None:
    app.sqs.put("orders-dead", "a")

    def stop(**_: Any) -> Any:
        app.engine.executions(MACHINE)[-1].stop()
        raise refusal("ServiceUnavailable")

    look, app.sqs.get_queue_attributes = app.sqs.get_queue_attributes, stop  # type: ignore[method-assign]
    execution = app.start(**LIVE, id="orders-dead-7")
    app.sqs.get_queue_attributes = look  # type: ignore[method-assign]
    app.tell_the_stopper(execution)
    detail = app.announced[0]["Detail"]
    assert (detail["redriveId"], detail["moved"], detail["remaining"]) == ("orders-dead-7", 0, 1)
    assert (detail["reason"], "way" in detail) == ("the execution was stopped", False)


def test_of_an_end_that_the_machine_has_told_nothing_more_is_told(app: App) -> None:
    app.sqs.move_fails = "no such queue"
    app.sqs.bury("orders", "a")
    execution = app.start(**LIVE)
    assert execution.error == "RedriveFailed"
    app.tell_the_stopper(execution)
    assert app.announced[0]["Detail"]["reason"].startswith("the move task failed")


def test_of_an_end_that_the_bus_did_not_take_it_is_told_later(app: App) -> None:
    def refuse(_: Any) -> Any:
        raise ServiceError("EventBridge.FailedEntry", "no")

    app.engine.integration("arn:aws:states:::events:putEvents", refuse)
    app.sqs.put("orders-dead", "a")
    app.sqs.move_fails = "no such queue"
    execution = app.start(**LIVE)
    assert execution.error == "RedriveFailed"
    app.tell_the_stopper(execution)
    detail = app.announced[0]["Detail"]
    assert (detail["outcome"], detail["moved"], detail["remaining"]) == ("failed", 0, 1)
    assert detail["reason"].startswith('the machine failed: RedriveFailed: {"')


def test_an_execution_that_nobody_knows_is_not_told_of(app: App) -> None:
    execution = app.start()
    gone = {"executionArn": f"{execution.arn}-gone", "name": "gone", "status": "ABORTED", "input": "{}"}
    now = 1000 * app.clock.time()
    app.stopper.handler({"source": "aws.states", "detail": gone | {"startDate": now, "stopDate": now}}, _CONTEXT)
    assert len(app.announced) == 1


def test_an_event_that_the_bus_does_not_take_is_an_error_and_lambda_tries_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_before_slice(app, 0)
    app.sqs.put("orders-dead", "a")
    execution = app.start(**LIVE, atMost=1)
    until_its_last_slice_is_done(app, 1)
    full = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    with monkeypatch.context() as patch:
        patch.setattr(app, "put_events", lambda **_: full)
        with pytest.raises(Transient, match="the bus did not accept the event"):
            app.tell_the_stopper(execution)
    app.tell_the_stopper(execution)
