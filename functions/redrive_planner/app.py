"""Plan of a redrive: reads the request, checks the queue and selects how to move its messages. It moves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.aws.stream_mappings import StreamMappings
from headgate.redrive.planner import RedrivePlanner
from headgate.redrive.request import read_redrive

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
mappings = StreamMappings(app.client("lambda"))
planner = RedrivePlanner(app.client("sqs"), app.client("sns"), mappings, app.environment.account, app.own, app.patterns)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_redrive(event["request"], default_id=event["executionName"])
    logger.append_keys(redrive_id=request.id)
    plan, report = planner.plan(request)
    logger.info(
        "planned", queue=plan.source.name, way=plan.way, why=plan.why, backlog=plan.backlog, dry_run=plan.dry_run
    )
    return {"plan": plan.to_wire(), "report": report}
