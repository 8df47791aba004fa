"""What somebody tries who may only put events on the bus, and send to and receive from a queue of his own.

His keys allow nothing else. So whatever he gets, he gets by Headgate's permissions.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from emulator.application import deploy_headgate
from emulator.server import EmbeddedAws
from tests.builders import event
from tests.local.callers import make_user
from tests.local.deployed import PREFIX, Headgate, Queue, Service, eventually
from tests.local.roles import make_sample_role

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.embedded

SECRET = "4711"
PAYROLL = f"def handler(event, context): return {{'salary': {SECRET}, 'given': event}}"
BROKEN = f"def handler(event, context): raise ValueError('salary {SECRET}')"


class Mallory:
    """The attacker: a user with two permissions."""

    def __init__(self, headgate: Headgate) -> None:
        self.headgate = headgate
        name = f"mallory-{uuid.uuid4().hex[:6]}"
        self.queue = Queue(headgate.queues, headgate.queues.create_queue(QueueName=name)["QueueUrl"])
        self.queue_name = name
        bus = headgate.bus.describe_event_bus(Name=headgate.outputs["BusName"])["Arn"]
        self.user = make_user(
            headgate.aws,
            name,
            {"Action": "events:PutEvents", "Resource": bus},
            {"Action": ["sqs:SendMessage", "sqs:ReceiveMessage"], "Resource": self.queue.arn},
        )
        self._bus = self.user.client("events")

    def put(self, detail_type: str, detail: dict[str, Any], source: str = "mallory") -> None:
        """Put an event on the bus with his own keys."""
        entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail)}
        answer = self._bus.put_events(Entries=[{**entry, "EventBusName": self.headgate.outputs["BusName"]}])
        assert answer["FailedEntryCount"] == 0

    def redrive(self, **detail: Any) -> dict[str, Any]:
        """Request a redrive; how it ended, as the bus heard it."""
        redrive_id = self.headgate.new_id()
        self.put("Redrive Requested", {"id": redrive_id, **detail})
        return self._end("redriveId", redrive_id)

    def roll_out(self, target: Any, **detail: Any) -> dict[str, Any]:
        """Request a rollout; how it ended, as the bus heard it."""
        rollout_id = self.headgate.new_id()
        wanted = {"candidate": {"version": "2"}, "strategy": "AllAtOnce", "guards": "none", **detail}
        self.put("Rollout Requested", {"id": rollout_id, "target": target, **wanted})
        return self._end("rolloutId", rollout_id)

    def _end(self, field: str, wanted: str) -> dict[str, Any]:
        ends = ("Redrive Ended", "Rollout Refused", "Rollout Rolled Back", "Rollout Succeeded")

        def heard() -> list[dict[str, Any]]:
            events = [json.loads(message["Body"]) for message in self.headgate._heard.heard()]
            return [each for each in events if each["detail"].get(field) == wanted and each["detail-type"] in ends]

        [told] = eventually(heard, 60, lambda: f"nothing is told of the end of {wanted}")
        return {"detail-type": told["detail-type"], **told["detail"]}

    def assert_learnt_nothing(self) -> None:
        """Neither the bus nor the topic, nor his queue, has had a secret."""
        for queue in (self.headgate._heard, self.headgate._notified, self.queue):
            assert not [message["Body"] for message in queue.heard() if SECRET in message["Body"]]


def fill(headgate: Headgate, *bodies: str) -> str:
    """A queue of somebody else with these messages; its name."""
    name = f"payroll-dead-{uuid.uuid4().hex[:6]}"
    queue = headgate.queues.create_queue(QueueName=name)["QueueUrl"]
    for body in bodies:
        headgate.queues.send_message(QueueUrl=queue, MessageBody=body)
    return name


def count(headgate: Headgate, name: str) -> int:
    """Messages in a queue."""
    url, attribute = headgate.queues.get_queue_url(QueueName=name)["QueueUrl"], "ApproximateNumberOfMessages"
    return int(headgate.queues.get_queue_attributes(QueueUrl=url, AttributeNames=[attribute])["Attributes"][attribute])


# --- Where every pattern is open, as far as the code goes ------------------------------------------------------------


@pytest.fixture(scope="module")
def mallory(headgate: Headgate) -> Mallory:
    return Mallory(headgate)


@pytest.fixture(scope="module")
def payroll(headgate: Headgate) -> Service:
    """A function that has nothing to do with the attacker; version 1 serves, version 2 is an older one."""
    function = headgate.make_hook(PAYROLL)
    for number in ("1", "2"):
        headgate.functions.update_function_configuration(FunctionName=function, Description=f"release {number}")
        headgate.wait_for_latest(function)
        headgate.functions.publish_version(FunctionName=function)
    headgate.functions.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    return Service(headgate, function)


@pytest.mark.parametrize("sample", [None, 10])
def test_a_dry_run_of_a_foreign_queue_tells_no_message(mallory: Mallory, sample: int | None) -> None:
    queue = fill(mallory.headgate, f"salary {SECRET}")
    told = mallory.redrive(**{"from": {"queue": queue}, "to": {"queue": mallory.queue_name}}, sample=sample or 0)
    assert (told["outcome"], told["remaining"]) == ("dry-run", 1)
    mallory.assert_learnt_nothing()


def test_the_smoke_tester_tells_no_answer(mallory: Mallory, payroll: Service) -> None:
    cases = [{"payload": {"pay": "mallory"}, "expect": "?"}, {"payload": {}, "expect": {"salary": 1}}]
    for case in cases:
        hook = {"lambda": f"{PREFIX}-smoke-tester", "config": {"cases": [case]}}
        told = mallory.roll_out(payroll.target, hooks={"beforeTraffic": [hook]})
        assert told["detail-type"] == "Rollout Rolled Back"
        assert "case 1: version 2 returned an unexpected response: $" in told["reason"]
    mallory.assert_learnt_nothing()


def test_a_function_that_is_no_hook_tells_neither_its_answer_nor_its_error(mallory: Mallory, payroll: Service) -> None:
    for code, said in ((PAYROLL, "hookStatus is missing in an answer of type object"), (BROKEN, "ValueError")):
        hook = {"lambda": mallory.headgate.make_hook(code)}
        told = mallory.roll_out(payroll.target, hooks={"beforeTraffic": [hook]})
        assert told["detail-type"] == "Rollout Rolled Back"
        assert said in told["reason"]
    mallory.assert_learnt_nothing()


@pytest.mark.parametrize("function", ["publisher", "counter", "lambda-alias-driver", "planner"])
def test_a_function_of_headgate_is_neither_a_hook_nor_a_target(
    mallory: Mallory, payroll: Service, function: str
) -> None:
    told = mallory.roll_out(payroll.target, hooks={"beforeTraffic": [{"lambda": f"{PREFIX}-{function}"}]})
    assert told["detail-type"] == "Rollout Refused"
    assert f"{PREFIX}-{function} is one of Headgate's own functions" in told["reason"]
    told = mallory.roll_out({"kind": "lambda-alias", "function": f"{PREFIX}-{function}", "alias": "live"})
    assert told["detail-type"] == "Rollout Refused"
    assert f"target.function: {PREFIX}-{function} is one of Headgate's own functions" in told["reason"]


def test_a_state_machine_of_headgate_is_no_hook(mallory: Mallory, payroll: Service) -> None:
    told = mallory.roll_out(payroll.target, hooks={"beforeTraffic": [{"stateMachine": f"{PREFIX}-redrive"}]})
    assert told["detail-type"] == "Rollout Refused"
    assert "is one of Headgate's own state machines" in told["reason"]


def test_telemetry_is_not_forged_with_the_records_of_another_stream(mallory: Mallory) -> None:
    # GIVEN a message of his own that names his stream and the function that counts telemetry
    functions = mallory.headgate.functions
    counter = functions.get_function_configuration(FunctionName=f"{PREFIX}-counter")["FunctionArn"]
    record = event("on_failure_kinesis")
    record["requestContext"]["functionArn"] = counter
    mallory.user.client("sqs").send_message(QueueUrl=mallory.queue.url, MessageBody=json.dumps(record))
    told = mallory.redrive(**{"from": {"queue": mallory.queue_name}}, dryRun=False)
    assert told["outcome"] == "refused"
    assert "the stream of the batches" in told["reason"]
    told = mallory.redrive(
        **{"from": {"queue": mallory.queue_name}}, to={"function": f"{PREFIX}-counter"}, dryRun=False
    )
    assert told["outcome"] == "refused"
    assert f"to.function: {PREFIX}-counter is one of Headgate's own functions" in told["reason"]


def test_the_queues_of_headgate_are_no_ends_of_a_redrive(mallory: Mallory) -> None:
    headgate, foreign = mallory.headgate, fill(mallory.headgate, "a request")
    to_him = {"to": {"queue": mallory.queue_name}, "dryRun": False}
    for queue in (headgate.undelivered, headgate.dead_letters, headgate.job_dead_letters):
        name = queue.url.rpartition("/")[2]
        told = mallory.redrive(**{"from": {"queue": name}}, **to_him)
        assert (told["outcome"], "one of Headgate's own queues" in told["reason"]) == ("refused", True)
    to_requests = {"to": {"queue": headgate.outputs["RequestQueueUrl"]}, "dryRun": False}
    told = mallory.redrive(**{"from": {"queue": foreign}}, **to_requests)
    assert told["outcome"] == "refused"
    assert count(headgate, foreign) == 1


def test_an_announcement_cannot_be_forged(mallory: Mallory) -> None:
    detail = {"rolloutId": f"forged-{SECRET}", "target": "lambda-alias/checkout/live"}
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDeniedException"):
        mallory.put("Rollout Succeeded", detail, source="headgate")
    mallory.assert_learnt_nothing()


# --- Where the patterns are those of a team --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_shop(own_builds: None) -> Iterator[Mallory]:
    """The attacker of a deployment that a team has for its functions alone."""
    # Not by `serving`: it is the point that this deployment's roles are denied what he wants.
    with EmbeddedAws() as embedded:
        make_sample_role(embedded)
        deployed = Headgate(embedded, deploy_headgate(embedded, opened=(), Prefix=PREFIX, TargetFunctions="shop-*"))
        try:
            yield Mallory(deployed)
        finally:
            deployed.close()


def test_a_foreign_queue_is_neither_looked_at_nor_moved(of_shop: Mallory) -> None:
    queue = fill(of_shop.headgate, f"salary {SECRET}")
    for dry_run in (True, False):
        told = of_shop.redrive(**{"from": {"queue": queue}, "to": {"queue": of_shop.queue_name}}, dryRun=dry_run)
        assert told["outcome"] == "refused"
    assert count(of_shop.headgate, queue) == 1
    of_shop.assert_learnt_nothing()


def test_a_foreign_function_is_neither_moved_nor_invoked(of_shop: Mallory) -> None:
    service = of_shop.headgate.make_service("payroll")
    told = of_shop.roll_out(service.target)
    assert told["detail-type"] == "Rollout Refused"
    assert "payroll is not covered by Headgate's parameter TargetFunctions" in told["reason"]
    assert service.serving.version == "1"
    hooks = {"beforeTraffic": [{"lambda": "payroll"}]}
    told = of_shop.roll_out(of_shop.headgate.next_service().target, hooks=hooks)
    assert told["detail-type"] == "Rollout Refused"
    assert "payroll is not covered by Headgate's parameter HookFunctions" in told["reason"]
