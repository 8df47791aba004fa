"""The dry run of a request: asks the deployed planner, which changes nothing."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused
from headgate_cli.catching import catch_of
from headgate_cli.failures import Failure
from headgate_cli.naming_options import with_options
from headgate_cli.plans import PlanView, view_of
from headgate_cli.requesting import read, with_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_cli.stack import Stack


def dry_run(stack: Stack, detail: dict[str, Any], asked: Mapping[str, Any] = MappingProxyType({})) -> PlanView:
    """Return what would become of a request.

    Parameters
    ----------
    asked
        The options that it was made of, which refusals name.

    Raises
    ------
    Failure
        If the request is not valid, or the planner does not answer.
    """
    sent = with_id(detail)
    try:
        read(sent)
    except RequestRefused as refusal:
        # As headgate start has it. A request that cannot be sent as JSON does not reach the planner.
        raise Failure(with_options(str(refusal), asked)) from None
    name = stack.output("PlannerName")
    payload = {"request": sent, "executionName": sent["id"], "dryRun": True}
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(payload).encode())
    told = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        what = f"{told.get('errorType', 'error')}: {told.get('errorMessage', '')}"
        raise Failure(f"the function {name} failed: {what}; see its log group /aws/lambda/{stack.prefix}/planner")
    view = view_of(told, stack.session.region_name)
    view = view.model_copy(update={"catches": catch_of(stack, view, told)})
    view = view.model_copy(update={"refused": with_options(view.refused, asked)})
    # A rollout would get another id.
    return view if "id" in detail else view.model_copy(update={"id": ""})
