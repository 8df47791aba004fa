"""What a redrive would do, and the functions of its machine with the payloads of events/."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.aws.patterns import Patterns
from headgate.aws.sqs_mover import DELETE_ATTEMPTS
from headgate.aws.sqs_queues import Queues
from headgate.aws.stream_mappings import StreamMappings
from headgate.aws.stream_replay import StreamReplay
from headgate.errors import RequestRefused
from headgate.redrive.aftermath import Aftermath
from headgate.redrive.planner import RedrivePlanner
from headgate.redrive.progress import Progress
from headgate.redrive.request import Filter, read_redrive
from headgate.redrive.runner import Redrive
from headgate.redrive.sampling import passes_filter, published_reason, reason_in_message
from tests.builders import ACCOUNT, EVERYTHING, OWN, event
from tests.fakes.functions import Functions
from tests.fakes.sqs import Clock, FakeSqs, arn, refusal, url
from tests.fakes.streams import FakeFunctions, FakeStream, FakeTopics, mapping_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.redrive.plan import RedrivePlan


class World:
    """Queues in memory, and a planner that looks at them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sqs = FakeSqs(self.clock)
        self.sqs.queue("orders-dead")
        self.sqs.queue("orders", dead_letters="orders-dead")
        self.functions = functions = FakeFunctions(lambda _: None)
        self.topics = FakeTopics()
        mappings = StreamMappings(functions)
        self.patterns = dict(EVERYTHING.by_parameter)
        self.planner = RedrivePlanner(
            self.sqs, self.topics, mappings, ACCOUNT, OWN, Patterns(self.patterns), self.clock.time
        )
        streams = StreamReplay(FakeStream(), FakeStream(), functions, self.clock, self.clock.sleep)
        queues = Queues(self.sqs, self.clock, self.clock.sleep)
        self.redrive = Redrive(queues, streams, mappings, self.clock, self.clock.sleep, self.clock.time)

    def plan(self, queue: str = "orders-dead", **fields: Any) -> RedrivePlan:
        return self.planner.plan(read_redrive({"from": {"queue": queue}, **fields}, "redrive-42"))[0]

    def report(self, **fields: Any) -> dict[str, Any]:
        return self.planner.plan(read_redrive({"from": {"queue": "orders-dead"}, **fields}, "redrive-42"))[1]

    def refusal(self, queue: str = "orders-dead", **fields: Any) -> str:
        with pytest.raises(RequestRefused) as refused:
            self.plan(queue, **fields)
        return str(refused.value)


@pytest.fixture
def world() -> World:
    return World()


# --- Requests --------------------------------------------------------------------------------------------------------

MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no queue": ({"from": {}}, "from.queue: is missing; add it"),
    "a rate above SQS's": ({"perSecond": 501}, "perSecond: must be at most 500"),
    "a string for a truth": ({"dryRun": "no"}, "dryRun: must be true or false"),
    "two destinations": ({"to": {"queue": "a", "function": "b"}}, "to: give either queue or function"),
    "an empty filter": ({"filter": {}}, "filter: needs bodyContains, attributes or reason"),
    "too large a sample": ({"sample": 11}, "sample: must be at most 10"),
    "no percentage": (
        {"stopIfReturned": {"percent": 0}},
        "stopIfReturned.percent: must be above 0 (given 0)",
    ),
    "a rule that is none": (
        {"stopIfReturned": True},
        'stopIfReturned: give {"percent": 25, "afterSeconds": 60}, or false',
    ),
    "a strange queue": ({"from": {"queue": "a b"}}, "from.queue: must be a queue's name, URL or ARN"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused_with_field_and_fix(what: str) -> None:
    fields, message = MALFORMED[what]
    with pytest.raises(RequestRefused) as refused:
        read_redrive({"from": {"queue": "orders-dead"}} | fields, "redrive-42")
    assert message in str(refused.value)


@pytest.mark.parametrize("detail", [None, [], "orders-dead", {"from": {"queue": "q"}, "x": "y" * 20_000}])
def test_what_is_no_request_at_all_is_refused(detail: Any) -> None:
    with pytest.raises(RequestRefused, match="the request: "):
        read_redrive(detail, "redrive-42")


def test_by_default_nothing_is_moved() -> None:
    request = read_redrive({"from": {"queue": "orders-dead"}}, "redrive-42")
    assert (request.id, request.dry_run, request.per_second, request.sample) == ("redrive-42", True, 50, 0)
    assert request.to_wire()["stopIfReturned"] == {"percent": 25.0, "afterSeconds": 60}


@pytest.mark.parametrize("name", ["orders-dead", url("orders-dead"), arn("orders-dead")])
def test_a_queue_goes_by_name_url_or_arn(world: World, name: str) -> None:
    plan = world.plan(name)
    assert (plan.source.url, plan.source.arn) == (url("orders-dead"), arn("orders-dead"))


# --- The way ---------------------------------------------------------------------------------------------------------


def test_a_whole_dead_letter_queue_goes_by_sqss_own_move_to_the_queue_that_it_serves(world: World) -> None:
    world.sqs.bury("orders", "a")
    plan = world.plan()
    assert plan.destination is not None
    assert (plan.way, plan.destination.arn, plan.backlog) == ("move-task", arn("orders"), 1)


@pytest.mark.parametrize("limit", [{"atMost": 5}, {"filter": {"bodyContains": "a"}}])
def test_with_a_filter_or_a_limit_it_goes_one_by_one(world: World, limit: dict[str, Any]) -> None:
    world.sqs.bury("orders", "a")
    assert world.plan(**limit).way == "receive-and-send"


def test_a_queue_that_is_nobodys_dead_letter_queue_goes_one_by_one_where_the_request_says(world: World) -> None:
    world.sqs.queue("aside")
    world.sqs.put("aside", "a")
    assert world.refusal("aside").startswith("to: aside is not the dead-letter queue of any queue")
    plan = world.plan("aside", to={"queue": "orders"})
    assert plan.way == "receive-and-send"
    assert "the source is not a dead-letter queue" in plan.why


def test_of_several_queues_sqs_knows_what_belongs_where_and_a_filter_does_not(world: World) -> None:
    world.sqs.queue("returns", dead_letters="orders-dead")
    world.sqs.bury("orders", "a")
    plan = world.plan()
    assert (plan.way, plan.destination) == ("move-task", None)
    assert world.refusal(atMost=1).startswith("to: orders-dead serves orders, returns; with a filter")


def test_a_fifo_queue_goes_one_by_one_because_sqs_may_lose_messages(world: World) -> None:
    world.sqs.queue("pay-dead.fifo")
    world.sqs.queue("pay.fifo", dead_letters="pay-dead.fifo")
    world.sqs.bury("pay.fifo", "a", group="g")
    # GIVEN a destination that has seen the message's id within five minutes
    (buried,) = world.sqs.queues["pay-dead.fifo"].messages
    world.sqs.queues["pay.fifo"].taken[buried.message_id] = world.clock(), buried.message_id
    # WHEN the queue is redriven, THEN the message arrives
    world.clock.sleep(1)
    plan = world.plan("pay-dead.fifo", dryRun=False)
    assert (plan.way, plan.why) == ("receive-and-send", "a message move task of SQS may lose messages of a FIFO queue")
    assert world.redrive.go_on(plan, Progress()).progress.moved == 1
    assert world.sqs.queues["pay.fifo"].bodies == ["a"]


def test_a_fifo_queue_that_serves_several_needs_a_destination(world: World) -> None:
    world.sqs.queue("pay-dead.fifo")
    for name in ("pay.fifo", "refund.fifo"):
        world.sqs.queue(name, dead_letters="pay-dead.fifo")
    world.sqs.bury("pay.fifo", "a", group="g")
    why = "to: pay-dead.fifo serves pay.fifo, refund.fifo; of FIFO queues, set to.queue to one of them"
    assert world.refusal("pay-dead.fifo") == why
    assert world.plan("pay-dead.fifo", to={"queue": "pay.fifo"}).way == "receive-and-send"


def test_what_a_canceled_task_moved_until_its_end_is_counted(world: World) -> None:
    # GIVEN a task that ends six seconds after it was canceled
    world.sqs.cancels_in = 6
    world.sqs.bury("orders", *"abcdefghij")
    plan = world.plan(dryRun=False, perSecond=1)
    before = world.redrive.go_on(plan, Progress()).progress
    world.clock.sleep(2)
    # WHEN the redrive is stopped, because somebody gave the queue a redrive policy
    world.sqs.queue("other")
    world.sqs.queues["orders-dead"].dead_letters = "other"
    ended = world.redrive.go_on(plan, before).progress
    # THEN it counts what arrived
    assert (ended.moved, ended.remaining) == (8, 2)
    assert len(world.sqs.queues["orders"].messages) == 8


def test_fifo_and_standard_do_not_mix(world: World) -> None:
    world.sqs.queue("pay.fifo")
    world.sqs.bury("orders", "a")
    assert "must both be FIFO" in world.refusal(to={"queue": "pay.fifo"})
    assert "is orders-dead itself" in world.refusal(to={"queue": "orders-dead"})


def test_another_accounts_or_regions_queue_is_refused(world: World) -> None:
    other = arn("orders-dead").replace(ACCOUNT, "999999999999")
    assert world.refusal(other) == f"from.queue: is in account 999999999999; this Headgate serves {ACCOUNT}"
    assert "check its Region" in world.refusal(arn("orders-dead").replace("eu-central-1", "us-east-1"))


@pytest.mark.parametrize(
    "host",
    [
        "sqs.us-east-1.amazonaws.com",
        "us-west-2.queue.amazonaws.com",
        "sqs-fips.us-gov-west-1.amazonaws.com",
        "sqs.us-east-1.api.aws",
        "vpce-0a1b-2c3d.sqs.us-east-1.vpce.amazonaws.com",
        "sqs.cn-north-1.amazonaws.com.cn",
    ],
)
def test_a_url_of_another_region_is_not_taken_for_the_queue_of_that_name_here(world: World, host: str) -> None:
    named = f"https://{host}/{ACCOUNT}/orders-dead"
    assert world.refusal(named) == f"from.queue: {named} is not {arn('orders-dead')}; check its Region"
    assert world.refusal(to={"queue": named.replace("-dead", "")}).startswith("to.queue: ")


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:4566", "http://localhost:4566/queue", "https://sqs.eu-central-1.api.aws"]
)
def test_a_url_that_names_no_region_or_this_one_will_do(world: World, host: str) -> None:
    assert world.plan(f"{host}/{ACCOUNT}/orders-dead").source.arn == arn("orders-dead")


def test_a_queue_of_work_that_is_named_by_mistake_is_refused_and_its_messages_are_left_to_its_consumer(
    world: World,
) -> None:
    # GIVEN the queue itself, and not its dead letters
    world.sqs.put("orders", "a")
    assert world.refusal("orders", dryRun=False).endswith("name its dead-letter queue instead")
    assert world.sqs.queues["orders"].messages[0].receives == 0
    # GIVEN a queue without a redrive policy: where the request says that it holds batches, it is believed.
    world.sqs.queue("gave-up")
    assert world.plan("gave-up", to={"function": "orders:6"}).way == "re-read"


def test_a_queue_of_batches_that_is_empty_says_so(world: World) -> None:
    world.sqs.queue("gave-up")
    plan = world.plan("gave-up")
    assert (plan.way, plan.why.startswith("no message is visible")) == ("re-read", True)


@pytest.mark.parametrize("body", ["[" * 100_000, '{"batchSize": Infinity}', '{"Type": "Notification"}'])
def test_a_message_that_nobody_can_read_keeps_no_other_from_being_redriven(world: World, body: str) -> None:
    world.sqs.bury("orders", body, "a")
    assert world.report()["reasons"] == {"": 2}
    assert world.plan(filter={"bodyContains": "a"}).way == "receive-and-send"


def test_batches_of_streams_are_read_again_unless_they_are_to_go_to_a_queue(world: World) -> None:
    world.sqs.queue("orders-gave-up")
    world.sqs.put("orders-gave-up", json.dumps(event("on_failure_kinesis")))
    assert world.plan("orders-gave-up").way == "re-read"
    assert world.plan("orders-gave-up", to={"queue": "orders"}).way == "receive-and-send"
    plan = world.plan("orders-gave-up", to={"function": "orders:6"})
    assert (plan.way, plan.function) == ("re-read", "orders:6")


def test_a_function_does_not_take_a_queues_messages(world: World) -> None:
    world.sqs.bury("orders", "a")
    assert world.refusal(to={"function": "orders:6"}).startswith("to.function: is for batches of streams")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dryRun": False},
        {"atMost": 5},
        {"filter": {"reason": "x"}},
        {"to": {"queue": "last-resort"}},
        {"to": {"function": "orders:6"}},
    ],
    ids=str,
)
def test_a_queue_with_a_redrive_policy_of_its_own_is_refused_before_a_message_is_received(
    world: World, fields: dict[str, Any]
) -> None:
    world.sqs.queue("last-resort")
    world.sqs.queues["orders-dead"].dead_letters = "last-resort"
    world.sqs.queues["orders-dead"].max_receives = 1
    world.sqs.bury("orders", "a")
    told = world.refusal(**fields)
    assert told.startswith(
        "from.queue: orders-dead has a redrive policy of its own: SQS moves a message to last-resort"
    )
    assert "remove the policy (attribute RedrivePolicy)" in told
    assert [stored.receives for stored in world.sqs.queues["orders-dead"].messages] == [0]


def test_own_queues_and_functions_are_no_ends_of_a_redrive(world: World) -> None:
    # GIVEN dead letters of requests, and a message in them that looks like a batch of a stream
    world.sqs.queue("request-dead-letters")
    world.sqs.queue("requests", dead_letters="request-dead-letters")
    world.sqs.put("request-dead-letters", json.dumps(event("on_failure_kinesis")))
    world.sqs.put("orders-dead", "order 7")
    # THEN they only go back to where they came from, and nothing else goes there
    assert "may only go back to requests" in world.refusal("request-dead-letters")
    assert "may only go back to requests" in world.refusal("request-dead-letters", to={"queue": "orders"})
    assert "may only go back to requests" in world.refusal("request-dead-letters", to={"function": "orders"})
    assert world.refusal(to={"queue": "requests"}).startswith("to.queue: requests is one of Headgate's own queues")
    assert world.plan("request-dead-letters", to={"queue": "requests"}).way == "move-task"
    # AND a queue of somebody else that has given it its dead letters is not believed
    world.sqs.queue("mallorys", dead_letters="request-dead-letters")
    told = world.refusal("request-dead-letters", to={"queue": "requests"})
    assert "is also the dead-letter queue of mallorys, whose messages are no requests" in told
    # AND a function of Headgate gets no records
    world.sqs.queue("orders-gave-up")
    world.sqs.put("orders-gave-up", json.dumps(event("on_failure_kinesis")))
    told = world.refusal("orders-gave-up", to={"function": "headgate-counter:live"})
    assert told.startswith("to.function: headgate-counter:live is one of Headgate's own functions")


def test_a_queue_or_stream_that_no_parameter_covers_is_refused_by_its_name_in_a_dry_run_too(world: World) -> None:
    world.sqs.put("orders-dead", "order 7")
    world.patterns["RedriveQueues"] = ""
    assert world.refusal() == (
        "from.queue: orders-dead is not covered by Headgate's parameter RedriveQueues, which is empty; name another "
        "one, or deploy Headgate with a pattern that covers it"
    )
    # The destination too, also if the request does not name it.
    world.patterns["RedriveQueues"] = "*-dead"
    assert world.refusal().startswith("to.queue: orders is not covered by Headgate's parameter RedriveQueues, which is")
    assert world.refusal(to={"queue": "orders"}).startswith("to.queue: orders is not covered")
    # And each of them, if the messages go back to several.
    world.sqs.queue("shop-dead")
    world.sqs.queue("shop-a", dead_letters="shop-dead")
    world.sqs.queue("orders-b", dead_letters="shop-dead")
    world.sqs.put("shop-dead", "order 8")
    world.patterns["RedriveQueues"] = "shop-*"
    assert world.refusal("shop-dead").startswith("to.queue: orders-b is not covered")
    # Headgate's own queues are not subject to it.
    world.sqs.queue("request-dead-letters")
    world.sqs.queue("requests", dead_letters="request-dead-letters")
    world.sqs.put("request-dead-letters", "a request")
    assert world.plan("request-dead-letters", to={"queue": "requests"}).way == "move-task"
    # AND streams, and functions that get their records
    world.patterns |= {"RedriveQueues": "*", "RedriveStreams": "shop-*"}
    world.sqs.queue("orders-gave-up")
    world.sqs.put("orders-gave-up", json.dumps(event("on_failure_kinesis")))
    told = world.refusal("orders-gave-up")
    assert told.startswith(
        "from.queue: the stream of its mapping: orders is not covered by Headgate's parameter RedriveS"
    )
    world.patterns |= {"RedriveStreams": "*", "TargetFunctions": "shop-*"}
    told = world.refusal("orders-gave-up", to={"function": "orders:live"})
    assert told.startswith("to.function: orders is not covered by Headgate's parameter TargetFunctions")


TOPIC = "arn:aws:sns:eu-central-1:123456789012:gave-up"
FAN_OUT = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders/consumer/fast:1795000000"


def test_a_queue_behind_a_topic_holds_the_batches_of_its_mappings(world: World) -> None:
    world.sqs.queue("orders-gave-up")
    world.sqs.put("orders-gave-up", json.dumps(event("on_failure_kinesis")))
    destination: dict[str, Any] = {"DestinationConfig": {"OnFailure": {"Destination": TOPIC}}}
    world.functions.mappings = [mapping_of(**destination), mapping_of(**destination, EventSourceArn=FAN_OUT)]
    # GIVEN a topic with another subscriber, THEN the mappings are none of the queue's
    world.topics.endpoints = {"gave-up": arn("elsewhere")}
    assert "the stream of the batches in orders-gave-up is unknown" in world.refusal("orders-gave-up")
    # GIVEN the queue as its subscriber, THEN they are
    world.topics.endpoints = {"gave-up": arn("orders-gave-up")}
    plan = world.plan("orders-gave-up")
    assert [consumer.source for consumer in plan.consumers] == [FAN_OUT.partition("/consumer/")[0], FAN_OUT]
    assert {consumer.stream for consumer in plan.consumers} == {plan.consumers[0].source}


@pytest.mark.parametrize("code", ["NotFound", "AuthorizationError"])
def test_a_topic_of_another_mapping_that_cannot_be_read_fails_no_redrive(world: World, code: str) -> None:
    gone: dict[str, Any] = {"DestinationConfig": {"OnFailure": {"Destination": f"{TOPIC}-of-another-team"}}}
    world.functions.mappings.append(mapping_of(**gone))
    world.sqs.queue("orders-gave-up")
    world.sqs.put("orders-gave-up", json.dumps(event("on_failure_kinesis")))
    world.topics.refuses["gave-up-of-another-team"] = code
    assert [consumer.mapping for consumer in world.plan("orders-gave-up").consumers] == [
        world.functions.mappings[0]["UUID"]
    ]
    world.topics.refuses["gave-up-of-another-team"] = "Throttled"
    with pytest.raises(ClientError, match="Throttled"):
        world.plan("orders-gave-up")


def test_a_rollouts_own_queue_holds_the_batches_of_the_mapping_in_its_tag(world: World) -> None:
    held = world.sqs.queue("headgate-held-0a1b")
    world.sqs.put("headgate-held-0a1b", json.dumps(event("on_failure_kinesis")))
    told = world.refusal("headgate-held-0a1b")
    assert told.endswith("names no mapping that exists; set the tag to the UUID of the mapping")
    held.tags = {"headgate:mapping": world.functions.mappings[0]["UUID"]}
    [consumer] = world.plan("headgate-held-0a1b").consumers
    assert consumer.mapping == world.functions.mappings[0]["UUID"]


def test_a_queue_of_forged_messages_alone_is_refused(world: World) -> None:
    world.sqs.queue("orders-gave-up")
    forged = event("on_failure_kinesis")
    forged["KinesisBatchInfo"]["streamArn"] += "-of-salaries"
    world.sqs.put("orders-gave-up", json.dumps(forged))
    assert "names arn:aws:kinesis:eu-central-1:123456789012:stream/orders-of-salaries" in world.refusal(
        "orders-gave-up"
    )
    # Beside a message of the mapping, it is a warning.
    world.sqs.put("orders-gave-up", json.dumps(event("on_failure_kinesis")))
    [warning] = world.planner.plan(read_redrive({"from": {"queue": "orders-gave-up"}}, "r-1"))[1]["warnings"]
    assert "stays in the queue: the message names" in warning


def test_a_function_behind_two_aliases_needs_the_request_to_say_which(world: World) -> None:
    world.sqs.queue("orders-gave-up")
    body = event("on_failure_kinesis")
    function = body["requestContext"]["functionArn"].removesuffix(":live")
    body["requestContext"]["functionArn"] = f"{function}:7"
    world.sqs.put("orders-gave-up", json.dumps(body))
    world.functions.mappings = [mapping_of(f"{function}:live"), mapping_of(f"{function}:beta")]
    told = world.refusal("orders-gave-up")
    assert told.endswith(f"{function}:7 may mean {function}:beta or {function}:live; set to.function to one of them")


GIVEN_UP = {
    "version": "1.0",
    "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
    "requestPayload": {"order": 7},
    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    "responsePayload": {"errorType": "KeyError", "errorMessage": "no such table"},
}
"""What Lambda leaves of an asynchronous invocation: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""


# --- What is told ----------------------------------------------------------------------------------------------------


def test_a_sample_shows_the_beginning_of_a_body(world: World) -> None:
    world.sqs.put("orders-dead", "x" * 2000)
    [shown] = world.report(sample=5)["sample"]
    assert (len(shown["body"]), shown["receives"]) == (500, 1)


def test_a_report_has_no_body_unless_the_request_asks_for_a_sample(world: World) -> None:
    world.sqs.put("orders-dead", "salary 4711")
    world.sqs.put("orders-dead", json.dumps(GIVEN_UP))
    report = world.report()
    assert report["reasons"] == {"": 1, "RetriesExhausted: Unhandled: KeyError": 1}
    assert report["visible"] == 2
    told = json.dumps(report)
    assert "4711" not in told
    assert "no such table" not in told


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"Body": "a", "MessageAttributes": {"reason": {"StringValue": "bad id"}}}, "bad id"),
        ({"Body": "a", "MessageAttributes": {"ERROR_MESSAGE": {"StringValue": "no rule"}}}, "no rule"),
        (
            {
                "Body": "a",
                "MessageAttributes": {
                    "ErrorMessage": {"StringValue": "salary 4711"},
                    "ErrorCode": {"StringValue": "200"},
                },
            },
            "ErrorCode 200",
        ),
        ({"Body": "a", "MessageAttributes": {"ErrorMessage": {"StringValue": "salary 4711"}}}, ""),
        ({"Body": json.dumps(event("on_failure_dynamodb"))}, "RetryAttemptsExhausted: Unhandled"),
        ({"Body": '{"requestContext": {"condition": "salary 4711"}}'}, ""),
        ({"Body": '{"responsePayload": {"errorType": "salary4711"}}'}, ""),
        ({"Body": "salary 4711"}, ""),
    ],
)
def test_a_published_reason_has_no_text_of_a_body_or_a_function(message: dict[str, Any], reason: str) -> None:
    assert published_reason(message) == reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"Body": "a", "MessageAttributes": {"reason": {"StringValue": "bad id"}}}, "bad id"),
        ({"Body": "a", "MessageAttributes": {"ERROR_MESSAGE": {"StringValue": "no rule"}}}, "no rule"),
        ({"Body": json.dumps(event("on_failure_dynamodb"))}, "RetryAttemptsExhausted: Unhandled"),
        ({"Body": '{"requestContext": {"condition": "EventAgeExceeded"}}'}, "EventAgeExceeded"),
        ({"Body": '{"requestContext": "x", "responseContext": []}'}, ""),
        ({"Body": json.dumps(GIVEN_UP)}, "RetriesExhausted: Unhandled: no such table"),
        ({"Body": json.dumps(GIVEN_UP | {"responsePayload": None})}, "RetriesExhausted: Unhandled"),
        ({"Body": "[1]"}, ""),
        ({"Body": "order"}, ""),
    ],
)
def test_why_a_message_failed_is_read_off_it(message: dict[str, Any], reason: str) -> None:
    assert reason_in_message(message) == reason


def test_a_filter_wants_all_that_it_names() -> None:
    message = {
        "Body": "order 7",
        "MessageAttributes": {"team": {"StringValue": "shop"}, "reason": {"StringValue": "no x"}},
    }
    assert passes_filter(None, message)
    assert passes_filter(Filter(body_contains="order", attributes={"team": "shop"}, reason="no"), message)
    for wanted in (Filter(body_contains="refund"), Filter(attributes={"team": "pay"}), Filter(reason="yes")):
        assert not passes_filter(wanted, message)


# --- Over many slices ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    bodies=st.lists(st.sampled_from(["good", "bad"]), max_size=60),
    ways=st.sampled_from([{}, {"atMost": 1000}, {"atMost": 7}, {"filter": {"bodyContains": "good"}}]),
    per_second=st.integers(1, 60),
    comes_back=st.lists(st.booleans(), max_size=30),
    faults=st.lists(st.sampled_from([None, None, "lost", "entry"]), max_size=20),
)
def test_every_redrive_ends_and_every_message_is_in_one_of_the_queues(
    bodies: list[str], ways: dict[str, Any], per_second: int, comes_back: list[bool], faults: list[Any]
) -> None:
    world = World()
    sent = [f"{body} {number}" for number, body in enumerate(bodies)]
    world.sqs.bury("orders", *sent)
    world.clock.sleep(10)
    plan = world.plan(dryRun=False, perSecond=per_second, **ways)
    pending, entry = list(faults), [False]
    back = iter(comes_back)

    def fault(_: str, number: int) -> Any:
        if number >= 0:
            return entry[0] and number == 0
        told = pending.pop() if pending else None
        entry[0] = told == "entry"
        return "lost" if told == "lost" else None

    world.sqs.faults = fault
    orders, dead, progress, watching = world.sqs.queues["orders"], world.sqs.queues["orders-dead"], Progress(), False
    for _ in range(400):
        try:
            done = world.redrive.watch(plan, progress) if watching else world.redrive.go_on(plan, progress)
        except ReadTimeoutError:
            continue  # The machine makes the slice again.
        progress, watching = done.progress, done.next == "watch"
        assert set(orders.bodies) | set(dead.bodies) == set(sent)
        if done.next == "end":
            break
        world.clock.sleep(done.wait_seconds)
        if len(orders.messages) > 0 and next(back, False):
            world.sqs._dead_letter(orders, orders.messages[0])
    assert done.next == "end"
    if done.outcome == "succeeded" and not any(comes_back) and "lost" not in faults:
        wanted = [body for body in sent if "good" in body] if "filter" in ways else sent
        if ways.get("atMost", 1000) >= len(wanted):
            # A message that could not be deleted in any attempt comes again: it is there twice, and never lost.
            refused = any(
                faults[start:][:DELETE_ATTEMPTS] == ["entry"] * DELETE_ATTEMPTS for start in range(len(faults))
            )
            arrived = set(orders.bodies) if refused else orders.bodies
            assert sorted(arrived) == sorted(wanted)
        assert progress.moved == len(orders.bodies)


# --- The functions ---------------------------------------------------------------------------------------------------


def no_execution(**_: Any) -> Any:
    raise refusal("ExecutionDoesNotExist")


@pytest.fixture
def call(world: World) -> Callable[..., Any]:
    """Invokes a function with its sample; fields of the payload may be replaced."""
    functions = Functions()

    def invoke(name: str, **fields: Any) -> Any:
        module = functions.module(name)
        # What is told of an execution is for the machine's own tests: here is none.
        machines = SimpleNamespace(get_execution_history=no_execution)
        aftermath = Aftermath(world.sqs, machines, None, account=ACCOUNT, bus="headgate")
        module.__dict__.update({"planner": world.planner, "redrive": world.redrive, "aftermath": aftermath})
        return functions.call(name, event(name) | fields)

    return invoke


def test_the_planner_says_what_it_would_do(world: World, call: Callable[..., Any]) -> None:
    world.sqs.bury("orders", "a")
    told = call("redrive_planner")
    assert (told["plan"]["way"], told["plan"]["dryRun"], told["report"]["visible"]) == ("move-task", True, 1)


def test_the_redriver_does_a_slice(world: World, call: Callable[..., Any]) -> None:
    plan = event("redriver")["plan"] | {"began": world.clock.time() + 10}
    world.sqs.put("orders-dead", "a", reason="no such table: x")
    world.sqs.put("orders-dead", "b", reason="timeout")
    told = call("redriver", plan=plan)
    assert (told["next"], told["waitSeconds"], told["outcome"]) == ("watch", 60, "succeeded")
    assert (told["progress"]["moved"], told["progress"]["skipped"]) == (1, 1)


def test_the_stopper_cancels_what_the_execution_has_started_and_nothing_else(
    world: World, call: Callable[..., Any]
) -> None:
    world.sqs.bury("orders", "a", "b", "c")
    world.sqs.start_message_move_task(SourceArn=arn("orders-dead"), MaxNumberOfMessagesPerSecond=1)
    detail = event("redrive_stopper")["detail"]
    now = world.clock.time() * 1000
    later = detail | {"startDate": now + 60_000, "stopDate": now + 90_000}
    assert call("redrive_stopper", detail=later) == {"cancelled": False, "remaining": 3}
    # A redrive that had failed before may be told of late.
    earlier = detail | {"startDate": now - 90_000, "stopDate": now - 60_000}
    assert call("redrive_stopper", detail=earlier) == {"cancelled": False, "remaining": 3}
    ours = detail | {"startDate": now - 10_000, "stopDate": now + 10_000}
    dry = ours | {"input": json.dumps({"from": {"queue": "orders-dead"}})}
    assert not call("redrive_stopper", detail=dry)["cancelled"]
    assert call("redrive_stopper", detail=ours) == {"cancelled": True, "remaining": 3}


def test_a_redrive_that_failed_and_has_cancelled_already_is_told_of_without_harm(
    world: World, call: Callable[..., Any]
) -> None:
    world.sqs.bury("orders", *map(str, range(10)))
    world.sqs.start_message_move_task(SourceArn=arn("orders-dead"), MaxNumberOfMessagesPerSecond=1)
    now = world.clock.time() * 1000
    failed = event("redrive_stopper")["detail"] | {"status": "FAILED", "startDate": now, "stopDate": now + 5_000}
    # GIVEN the machine's own state Stop, which cancels as the execution ends
    by_machine = {name: failed[name] for name in ("executionArn", "name", "startDate", "input")}
    world.clock.sleep(3)
    assert call("redrive_stopper", detail=by_machine) == {"cancelled": True, "remaining": 7}
    # WHEN Step Functions announces that end, more than once, THEN nothing changes
    for _ in range(2):
        assert call("redrive_stopper", detail=failed) == {"cancelled": False, "remaining": 7}
    assert [task["Status"] for task in world.sqs.queues["orders-dead"].tasks] == ["CANCELLED"]


@pytest.mark.parametrize("text", [None, "null", "{}", '{"from": {"queue": "nowhere"}}'])
def test_the_stopper_has_nothing_to_do_for_a_request_that_was_refused(call: Callable[..., Any], text: Any) -> None:
    detail = event("redrive_stopper")["detail"] | {"input": text}
    assert call("redrive_stopper", detail=detail) == {"cancelled": False, "remaining": 0}
