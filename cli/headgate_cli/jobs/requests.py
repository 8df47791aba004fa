"""Requests of jobs: checked here, sent by the bus, and found again as executions."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate_cli.acting import interruptible, maybe_sent, send
from headgate_cli.failures import Failure
from headgate_cli.jobs.endings import REFUSED
from headgate_cli.watching import may_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate_cli.acting import Sending
    from headgate_cli.stack import Stack

TAKEN_WITHIN_SECONDS = 30
"""How long a request may be on its way before the command says that nobody has taken it."""


class Kind(NamedTuple):
    """A kind of job, as commands see it."""

    name: Literal["task", "redrive"]
    """Which machine runs it, and the prefix of its executions' names."""
    detail_type: str
    """Detail-type of the event that requests it."""
    title: str
    """What sentences call it."""


TASK = Kind("task", "Task Requested", "task")
REDRIVE = Kind("redrive", "Redrive Requested", "redrive")


def checked(kind: Kind, detail: dict[str, Any]) -> dict[str, Any]:
    """Return a request with an id, after checking it as Headgate does.

    Raises
    ------
    Failure
        If it is not valid. The message names each faulty field, its value and the fix.
    """
    from headgate.ecs_tasks.request import read_task
    from headgate.errors import RequestRefused
    from headgate.redrive.request import read_redrive

    made = f"{kind.name}-{secrets.token_hex(4)}"
    try:
        request = read_task(detail, made) if kind is TASK else read_redrive(detail, made)
    except RequestRefused as refusal:
        raise Failure(str(refusal)) from None
    return {**detail, "id": request.id}


def submit(stack: Stack, kind: Kind, detail: dict[str, Any], *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Request a job, and return the ARN of its execution. A request with the id of a known one follows that one.

    Raises
    ------
    Failure
        If Headgate refuses the request, or nobody takes it.
    """
    from headgate.aws.arns import execution_arn, job_execution_name

    execution = execution_arn(stack.machine(kind.name), job_execution_name(kind.name, detail["id"]))
    if known := describe(stack, execution):
        if json.loads(known["input"]) != detail:
            raise Failure(
                f"id: {detail['id']} is the id of an earlier request with other content; give this one another id, or "
                "none",
                exit_code=REFUSED,
            )
        return execution
    show = (
        f"run headgate {kind.name} show {detail['id']} to see it, or headgate {kind.name} stop {detail['id']} to end it"
    )
    unsure = f"The {kind.title} {detail['id']} may have been sent. If it was, it goes on: {show}."
    sending = send(stack, kind.detail_type, detail, unsure)
    with interruptible(unsure if sending.lost else f"The {kind.title} goes on: {show}."):
        found = _taken(stack, kind, detail["id"], execution, sending, sleep)
    if found:
        return execution
    if sending.lost:
        again = f"to repeat it, add --id {detail['id']}, so that nothing runs twice"
        raise maybe_sent(sending, f"the {kind.title} {detail['id']}", f"To see whether it was, {show}; {again}")
    raise Failure(
        f"nobody has taken the request within {TAKEN_WITHIN_SECONDS} s: headgate doctor checks the rules of bus "
        f"{stack.bus} and the queue of requests; it may still start as {detail['id']}"
    )


def _taken(
    stack: Stack, kind: Kind, job_id: str, execution: str, sending: Sending, sleep: Callable[[float], None]
) -> bool:
    """Wait until a request was taken, and return whether it was. Raises Failure if it was refused."""
    until = time.monotonic() + (sending.seconds if sending.lost else TAKEN_WITHIN_SECONDS)
    while time.monotonic() < until:
        try:
            if describe(stack, execution):
                return True
            reason = _refusal(stack, kind, job_id, sending.event_id) if sending.event_id else None
        except Exception as error:
            if not may_pass(error):
                raise
            reason = None
        if reason:
            raise Failure(reason, exit_code=REFUSED)
        sleep(0.5)
    return False


def _refusal(stack: Stack, kind: Kind, job_id: str, event_id: str) -> str | None:
    """Return why Headgate refused the request of an event; None if it did not."""
    from headgate import keys
    from headgate.aws.dynamodb import from_item, to_item

    key = to_item({"pk": keys.job_pk(kind.name, job_id), "sk": keys.event_sk(f"refused-{event_id}")})
    item = stack.client("dynamodb").get_item(TableName=stack.table, Key=key).get("Item")
    return str(from_item(item)["detail"]["reason"]) if item else None


def describe(stack: Stack, execution: str) -> dict[str, Any] | None:
    """Return what Step Functions says about an execution; None if it does not know it."""
    from botocore.exceptions import ClientError

    try:
        return dict(stack.client("stepfunctions").describe_execution(executionArn=execution))
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ExecutionDoesNotExist", "InvalidArn"):
            raise
        return None


def execution_of(stack: Stack, kind: Kind, job_id: str) -> dict[str, Any]:
    """Return the execution of a job, by the id of its request, or by the name or ARN of its execution.

    Raises
    ------
    Failure
        If there is none.
    """
    from headgate.aws.arns import execution_arn, job_execution_name

    machine = stack.machine(kind.name)
    names = [job_execution_name(kind.name, job_id)]
    # A name has at most 80 characters, and none of these.
    if len(job_id) <= 80 and not set(job_id) & set(":/@+="):
        names.append(job_id)
    arns = [execution_arn(machine, name) for name in names]
    if job_id.startswith(f"{machine.replace(':stateMachine:', ':execution:')}:"):
        arns = [job_id]
    for arn in arns:
        if found := describe(stack, arn):
            return found
    raise Failure(
        f"there is no {kind.title} {job_id} in stack {stack.name}; headgate {kind.name} list shows the latest ones"
    )
