"""Stack intake: takes CloudFormation's requests about custom resources, and starts the execution that answers each.

CloudFormation invokes asynchronously, so a request may come twice: it is stored once, and its execution has a name that
comes from its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.arns import stack_execution_name
from headgate.aws.observability import logger
from headgate.aws.stepfunctions import start_once
from headgate.errors import RequestRefused
from headgate.stacks.event import read_event
from headgate.stacks.response import body_of, put_answer
from headgate.stacks.store import refuse_too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_stepfunctions import SFNClient

    from headgate.aws.settings import Environment
    from headgate.stacks.origin import Origins
    from headgate.stacks.store import StackStore


class StackIntake:
    """Stores requests and starts their executions.

    Parameters
    ----------
    put
        Delivers an answer: a URL and a body.
    """

    def __init__(
        self,
        store: StackStore,
        machines: SFNClient,
        origins: Origins,
        environment: Environment,
        put: Callable[[str, bytes], int] = put_answer,
    ) -> None:
        self._store = store
        self._machines = machines
        self._origins = origins
        self._environment = environment
        self._put = put

    def take(self, given: Mapping[str, Any]) -> None:
        """Store a request and start its execution, or answer what cannot be stored because it is wrong.

        Raises
        ------
        RequestRefused
            If it is wrong and has no URL for an answer, so it does not come from CloudFormation.
        """
        url = given.get("ResponseURL")
        if not isinstance(url, str) or not url:
            raise RequestRefused("ResponseURL: is missing; only CloudFormation invokes this function")
        try:
            event = read_event(given, self._environment.place)
            refuse_too_large(event)
        except RequestRefused as refusal:
            # The deletion of what was never accepted succeeds: it has left nothing behind.
            self._refuse(given, url, str(refusal), "SUCCESS" if given.get("RequestType") == "Delete" else "FAILED")
            return
        # A request on record was compared when it came first. Its resource may be done since.
        if self._store.request(event.pk, event.request_id) is None:
            origin = self._origins.of(event)
            if origin.fault:
                self._refuse(given, url, f"{origin.fault}. Nothing was changed", "FAILED")
                return
            event = event._replace(clean_up=origin.clean_up)
        new = self._store.accept(event, url)
        # Also for a request that is on record: the function may have failed before the start.
        start_once(
            self._machines,
            self._environment.stack_machine,
            stack_execution_name(event.request_id),
            {"resource": event.pk, "requestId": event.request_id},
        )
        logger.info(
            "request started" if new else "request is known",
            stack=event.stack_name,
            resource=event.logical_id,
            request_type=event.request_type,
            request_id=event.request_id,
        )

    def _refuse(self, given: Mapping[str, Any], url: str, reason: str, status: str) -> None:
        """Answer a request that is not taken in."""
        logger.warning("request refused", reason=reason)
        resource = str(given.get("LogicalResourceId") or "resource")
        answer = {
            "Status": status,
            "Reason": reason,
            "PhysicalResourceId": str(given.get("PhysicalResourceId") or f"refused-{resource}"),
        }
        names = {"stack_id": "StackId", "logical_id": "LogicalResourceId", "request_id": "RequestId"}
        body = body_of(answer, **{name: str(given.get(field) or "") for name, field in names.items()})
        http = self._put(url, body)
        logger.info("request answered", status=status, http=http)
