"""Redriver: runs one slice of a redrive, or checks how many messages came back. The machine calls it repeatedly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.aws.sqs_queues import Queues
from headgate.aws.stream_mappings import StreamMappings
from headgate.redrive.plan import RedrivePlan
from headgate.redrive.progress import Progress
from headgate.redrive.runner import Redrive

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
mappings = StreamMappings(app.client("lambda"))
redrive, machines = Redrive(Queues(app.client("sqs")), app.streams, mappings), app.client("stepfunctions")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, before = RedrivePlan.model_validate(event["plan"]), Progress.model_validate(event["progress"])
    logger.append_keys(redrive_id=plan.id, queue=plan.source.name, way=plan.way)
    if event["watching"]:
        done = redrive.watch(plan, before)
    else:
        done = redrive.go_on(plan, before, lambda: has_ended(event["execution"]))
    response = done.to_wire()
    progress = done.progress.model_copy(update={"unmoved": ()})  # Up to 500 ids.
    logger.info("slice done", next=done.next, outcome=done.outcome, **progress.to_wire())
    return response


def has_ended(execution: str) -> bool:
    """Return whether an execution has ended, in any status. Step Functions does not stop a running slice."""
    return bool(machines.describe_execution(executionArn=execution)["status"] != "RUNNING")
