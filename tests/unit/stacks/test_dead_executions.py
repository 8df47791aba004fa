"""An execution that ends without an answer: somebody answers for it, so that a stack does not wait for an hour."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import Transient

if TYPE_CHECKING:
    from tests.fakes.deployments import Deployments, Request

EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:headgate-stack:stack-1"


def ended(request: Request, status: str = "ABORTED", error: str | None = None) -> dict[str, Any]:
    """The detail of the event of Step Functions."""
    given = json.dumps({"resource": request.pk, "requestId": request.id})
    return {"executionArn": EXECUTION, "status": status, "input": given, "error": error, "cause": None}


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        ("ABORTED", None, "was stopped"),
        ("TIMED_OUT", None, "timed out"),
        ("FAILED", "States.Runtime", "failed with States.Runtime"),
        ("FAILED", "Unanswered", "failed with Unanswered"),
    ],
)
def test_the_update_fails_with_how_the_execution_ended(
    world: Deployments, status: str, error: str | None, reason: str
) -> None:
    request = world.stack().begin_create(Alias="checkout:live")
    assert world.responder.respond_for(ended(request, status, error)) == "sent"
    [(_, body)] = world.puts
    assert (body["Status"], body["RequestId"]) == ("FAILED", request.id)
    assert body["Reason"] == f"the execution of this request {reason}; see {EXECUTION}"
    assert body["PhysicalResourceId"]


def test_what_was_answered_before_is_not_taken_back(world: Deployments) -> None:
    stack = world.stack()
    request = stack.begin_create(Alias="checkout:live")
    assert request.answer()["Status"] == "SUCCESS"
    world.responder.respond_for(ended(request, "FAILED", "Unanswered"))
    assert [body["Status"] for _, body in world.puts] == ["SUCCESS"]


def test_an_answer_that_cannot_be_sent_now_is_tried_again_by_lambda(world: Deployments) -> None:
    request = world.stack().begin_create(Alias="checkout:live")
    world.put_fails = [Transient("the answer could not be delivered: TimeoutError")]
    with pytest.raises(Transient):
        world.responder.respond_for(ended(request))
    assert world.responder.respond_for(ended(request)) == "sent"
