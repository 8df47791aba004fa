"""Sample before-traffic hook of ECS services: sends HTTP requests to the candidate before it has users.

config: ``{"path": "/health", "expectStatus": 200, "attempts": 3, "timeoutSeconds": 5, "headers": {}, "url": "..."}``.
A round of requests that fails is repeated, until no attempt is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.hook import failed, succeeded
from headgate.targets.ecs_service.smoke_test import CandidateRoutes, SmokeTest, fault_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
routes = CandidateRoutes(app.client("elbv2"))

RETRY_SECONDS = 2


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    try:
        test = SmokeTest.of(event["config"])
        wanted = test.route_given() or routes.of(event.get("service"), test)
    except RequestRefused as refusal:
        return failed(str(refusal))
    attempt = event["hookDetails"].get("attempts", 0) + 1
    for route in wanted:
        if fault := fault_of(route, test):
            logger.warning("the candidate did not answer as expected", attempt=attempt, reason=fault)
            if attempt >= test.attempts:
                return failed(f"attempt {attempt} of {test.attempts}: {fault}")
            details = {"attempts": attempt}
            return {"hookStatus": "IN_PROGRESS", "callBackDelay": RETRY_SECONDS, "hookDetails": details}
    return succeeded({"requests": len(wanted), "attempts": attempt})
