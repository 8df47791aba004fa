"""Sample before-traffic hook: invokes the candidate version with given payloads and checks the responses.

config: ``{"cases": [{"payload": {...}, "expect": {...}}]}``. The response must contain ``expect``, if given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.hook import ANSWER_SECONDS, failed, fault_in, invoke, mismatch, succeeded

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
functions = app.invoker(ANSWER_SECONDS)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    # For a consumer, ``through`` is the alias that its mapping points at.
    function, version = event.get("through", event["target"])["function"], event["candidate"]
    if fault := fault_in(event["config"], ("cases",), "config"):
        return failed(fault)
    cases = event["config"].get("cases") or [{"payload": {}}]
    if not isinstance(cases, list):
        return failed("config.cases is not a list")
    faults = (fault_in(case, ("payload", "expect"), f"config.cases[{place}]") for place, case in enumerate(cases))
    if fault := next(filter(None, faults), ""):
        return failed(fault)
    for number, case in enumerate(cases, start=1):
        answer = invoke(functions, function, version, case.get("payload", {}))
        if answer.error:
            return failed(f"case {number}: version {version} failed: {answer.error}")
        if wrong := mismatch(case.get("expect"), answer.payload):
            return failed(f"case {number}: version {version} returned an unexpected response: {wrong}")
    return succeeded({"cases": len(cases), "version": version})
