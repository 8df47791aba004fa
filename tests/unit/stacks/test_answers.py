"""The answer to CloudFormation: its body, its delivery, and what is recorded of it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import RequestRefused, Transient
from headgate.stacks.response import MAX_BYTES, body_of, put_answer
from tests.builders import items_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.deployments import Deployments, Stack

NAMES = {"stack_id": "arn:stack", "logical_id": "CheckoutRollout", "request_id": "request-1"}
LIVE = {"Alias": "checkout:live"}


def answer_of(reason: str = "", **fields: Any) -> dict[str, Any]:
    return {"Status": "FAILED", "Reason": reason, "PhysicalResourceId": "p-1", **fields}


class Bucket:
    """A server that takes answers as S3 does."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                length = int(self.headers["Content-Length"])
                bucket.got.append((self.path, dict(self.headers), self.rfile.read(length)))
                self.send_response(bucket.status)
                for name, value in bucket.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    bucket = Bucket()
    yield bucket
    bucket.server.shutdown()
    bucket.server.server_close()


# The body


def test_an_answer_has_every_field_that_cloudformation_needs() -> None:
    body = json.loads(body_of(answer_of("no", Data={"Version": "7"}), **NAMES))
    assert body == {
        "Status": "FAILED",
        "Reason": "no",
        "PhysicalResourceId": "p-1",
        "StackId": "arn:stack",
        "RequestId": "request-1",
        "LogicalResourceId": "CheckoutRollout",
        "NoEcho": False,
        "Data": {"Version": "7"},
    }


@pytest.mark.parametrize("letter", ["x", "é", "🚦", '"', "\n"])
def test_a_long_reason_is_cut_to_what_cloudformation_takes(letter: str) -> None:
    body = body_of(answer_of(letter * 9000), **NAMES)
    assert MAX_BYTES - 100 < len(body) <= MAX_BYTES
    reason = json.loads(body)["Reason"]
    assert reason.endswith("...")
    assert set(reason.removesuffix("...")) == {letter}


LONG_TASK = f"arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/{'c' * 255}/{'0' * 32}"
LONG_NAMES = {
    "stack_id": f"arn:aws-us-gov:cloudformation:us-gov-west-1:123456789012:stack/{'s' * 128}/{'0' * 36}",
    "logical_id": "L" * 255,
    "request_id": "0" * 36,
}


def test_attributes_that_are_too_long_together_are_shortened_and_all_are_there() -> None:
    # GIVEN ten tasks, and the longest names
    data = {
        "TaskArn": LONG_TASK,
        "TaskArns": ",".join([LONG_TASK] * 10),
        "TaskDefinition": f"arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task-definition/{'d' * 255}:99999",
        "Outcome": "succeeded",
    }
    answer = {"Status": "SUCCESS", "Reason": "", "PhysicalResourceId": f"task-{'L' * 255}-01234567", "Data": data}
    body = body_of(answer, **LONG_NAMES)
    assert MAX_BYTES - 500 < len(body) <= MAX_BYTES
    # THEN the list has fewer whole ARNs, and the others are as they were
    told = json.loads(body)["Data"]
    assert set(told.pop("TaskArns").split(",")) == {LONG_TASK}
    assert told == {name: value for name, value in data.items() if name != "TaskArns"}


def test_one_attribute_that_is_too_long_is_empty() -> None:
    told = json.loads(body_of(answer_of(Data={"TaskArn": "x" * 5000, "Outcome": "succeeded"}), **NAMES))["Data"]
    assert told == {"TaskArn": "", "Outcome": "succeeded"}


# The delivery


def test_an_answer_is_put_with_an_empty_content_type_because_the_signature_covers_that(bucket: Bucket) -> None:
    assert put_answer(f"{bucket.url}/arn%3Aaws%7Cx?X-Amz-Signature=a%2Fb&Expires=1", b'{"a": 1}') == 200
    [(path, headers, body)] = bucket.got
    assert path == "/arn%3Aaws%7Cx?X-Amz-Signature=a%2Fb&Expires=1"
    assert (headers["Content-Type"], headers["Content-Length"], body) == ("", "8", b'{"a": 1}')


def test_a_redirect_is_not_followed(bucket: Bucket) -> None:
    bucket.status, bucket.headers = 307, {"Location": f"{bucket.url}/elsewhere"}
    assert put_answer(f"{bucket.url}/here", b"{}") == 307
    assert [path for path, _, _ in bucket.got] == ["/here"]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_fault_that_may_pass_is_tried_again(bucket: Bucket, status: int) -> None:
    bucket.status = status
    with pytest.raises(Transient, match=f"HTTP {status}") as error:
        put_answer(f"{bucket.url}/here?X-Amz-Signature=s3cr3t", b"{}")
    assert "s3cr3t" not in str(error.value)


def test_a_connection_that_breaks_is_tried_again_and_the_error_does_not_tell_the_url() -> None:
    with pytest.raises(Transient) as error:
        put_answer("http://127.0.0.1:1/here?X-Amz-Signature=s3cr3t", b"{}")
    assert str(error.value) == "the answer could not be delivered: ConnectionRefusedError"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "https:///x", "x", "data:,x", "https://host/é"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL of http or https"):
        put_answer(url, b"{}")


# The record


def test_an_answer_that_was_lost_is_sent_again_by_the_retry(world: Deployments, stack: Stack) -> None:
    request = stack.begin_update(**LIVE, Release="2")
    world.put_fails = [Transient("HTTP 503")]
    with pytest.raises(Transient):
        request.answer()
    assert request.answer()["Status"] == "SUCCESS"


def test_an_answer_that_was_delivered_is_not_sent_again_and_its_url_is_gone(world: Deployments, stack: Stack) -> None:
    request = stack.begin_update(**LIVE, Release="2")
    [item] = [item for item in items_at(world.table, request.pk) if item["sk"] == f"REQUEST#{request.id}"]
    assert item["responseUrl"] == request.event["ResponseURL"]
    request.answer()
    puts = len(world.puts)
    other = {"Status": "FAILED", "Reason": "the planner failed", "PhysicalResourceId": "", "Data": {}}
    assert world.responder.respond(request.pk, request.id, other) == "sent"
    assert len(world.puts) == puts
    [item] = [item for item in items_at(world.table, request.pk) if item["sk"] == f"REQUEST#{request.id}"]
    assert (item["answered"]["status"], item["answered"]["http"]) == ("SUCCESS", 200)
    assert "s3cr3t" not in str(items_at(world.table, request.pk))


def test_a_failure_of_the_machine_is_answered_under_the_id_that_the_resource_has(
    world: Deployments, stack: Stack
) -> None:
    failed = {"Status": "FAILED", "Reason": "States.Timeout; see the execution", "PhysicalResourceId": ""}
    update = stack.begin_update(**LIVE, Release="2")
    world.responder.respond(update.pk, update.id, failed)
    assert world.puts[-1][1]["PhysicalResourceId"] == stack.physical_id
    create = world.stack("other").begin_create(**LIVE)
    world.responder.respond(create.pk, create.id, failed)
    assert world.puts[-1][1]["PhysicalResourceId"] == "refused-CheckoutRollout"


def test_a_url_that_has_expired_ends_well_and_is_not_taken_for_an_answer(world: Deployments, stack: Stack) -> None:
    request = stack.begin_update(**LIVE, Release="2")
    step = request.until()
    world.put_fails = [403]
    assert world.responder.respond(request.pk, request.id, step["answer"]) == "rejected"
    assert world.responder.respond(request.pk, request.id, step["answer"]) == "sent"


def test_a_request_that_a_later_version_has_stored_is_read(world: Deployments, stack: Stack) -> None:
    request = stack.begin_update(**LIVE, Release="2")
    [item] = [item for item in items_at(world.table, request.pk) if item["sk"] == f"REQUEST#{request.id}"]
    stored = {**json.loads(item["event"]), "newer": True}
    world.table.transact(world.table.update(item["pk"], item["sk"], {"event": json.dumps(stored)}))
    assert request.answer()["Status"] == "SUCCESS"


def test_a_request_that_has_expired_is_not_answered(world: Deployments, stack: Stack) -> None:
    assert world.responder.respond(f"STACK#{stack.id}#CheckoutRollout", "unknown", answer_of()) == "expired"
    with pytest.raises(RequestRefused, match="unknown is not on record"):
        world.planner.next(f"STACK#{stack.id}#CheckoutRollout", "unknown", {}, {})


# Requests that are wrong as a whole


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ResourceType": "Custom::HeadgateRolout"}, "ResourceType: must be Custom::HeadgateRollout or Custom::Head"),
        ({"RequestType": "Patch"}, "RequestType: must be Create, Update or Delete (given Patch)"),
        ({"StackId": "arn:aws:cloudformation:eu-central-1:210987654321:stack/shop/1"}, "in 210987654321, eu-central-1"),
        (
            {"StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/shop/1"},
            "serves 123456789012, eu-central-1",
        ),
        ({"StackId": "shop"}, "StackId: must be the ARN of a stack"),
        ({"RequestId": None}, "RequestId: is missing"),
        ({"ResourceProperties": "x"}, "ResourceProperties: must be an object"),
        ({"RequestType": "Update", "PhysicalResourceId": ""}, "PhysicalResourceId: is missing"),
    ],
)
def test_a_request_that_cannot_be_stored_is_answered_at_once(
    world: Deployments, fields: dict[str, Any], reason: str
) -> None:
    stack = world.stack()
    request = stack.request("Create", LIVE)
    request.event |= fields
    request.send()
    [(url, body)] = world.puts
    assert url == request.event["ResponseURL"]
    assert (body["Status"], body["PhysicalResourceId"]) == ("FAILED", "refused-CheckoutRollout")
    assert reason in body["Reason"]
    assert world.machines.executions == {}


def test_the_deletion_of_what_was_refused_so_succeeds(world: Deployments) -> None:
    stack = world.stack(kind="Custom::HeadgateRolout")
    stack.physical_id = "refused-CheckoutRollout"
    stack.begin_delete("ROLLBACK_IN_PROGRESS")
    assert world.puts[-1][1]["Status"] == "SUCCESS"


def test_what_does_not_come_from_cloudformation_is_refused(world: Deployments) -> None:
    with pytest.raises(RequestRefused, match="ResponseURL: is missing"):
        world.intake.take({"RequestType": "Create"})


# The secret


def test_the_url_of_the_answer_is_in_no_log_no_execution_and_no_decision(
    world: Deployments, stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    world.function.deploy("two")
    request = stack.begin_update(**LIVE, Release="2")
    step = request.until()
    world.put_fails = [Transient("HTTP 503")]
    with pytest.raises(Transient):
        request.answer()
    request.answer()
    bad = stack.request("Patch", LIVE)
    bad.send()
    told = json.dumps([request.state, step, world.steps, world.machines.executions])
    logged = str([vars(record) for record in caplog.records])
    assert "s3cr3t" not in told + logged
    assert "request answered" in logged
