"""StackResponder: delivers the answer to CloudFormation's request about a custom resource.

The stack machine invokes it, and EventBridge for an execution that ended before it could.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.stacks.responder import StackResponder

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
responder = StackResponder(app.stacks)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    if event.get("source") == "aws.states":
        return {"answer": responder.respond_for(event["detail"])}
    return {"answer": responder.respond(event["resource"], event["requestId"], event["answer"])}
