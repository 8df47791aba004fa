"""StackPlanner: decides what comes next for CloudFormation's request about a custom resource.

The stack machine carries it out, tells how it went, and asks again until the request is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.stacks.deeds import Deeds
from headgate.stacks.facts import FactReader
from headgate.stacks.planner import StackPlanner

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
functions = app.client("lambda")
formation, place = app.client("cloudformation"), app.environment.place
facts = FactReader(app.stacks, app.table, functions, formation, place, ecs=lambda: app.client("ecs"))
planner = StackPlanner(app.stacks, facts, Deeds(app.stacks, functions))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return planner.next(event["resource"], event["requestId"], event["state"], event["told"])
