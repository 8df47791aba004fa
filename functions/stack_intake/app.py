"""StackIntake: the service token of the custom resources. Stores CloudFormation's request and starts its execution.

It never waits: the execution answers, however long the rollout takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.stacks.intake import StackIntake
from headgate.stacks.origin import Origins

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
origins = Origins(app.client("cloudformation"), app.environment.place)
intake = StackIntake(app.stacks, app.client("stepfunctions"), origins, app.environment)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    # The event is never logged: it has the URL by which anybody can answer for the resource.
    intake.take(event)
