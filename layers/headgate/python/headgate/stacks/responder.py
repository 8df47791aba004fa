"""Stack responder: delivers the answer to CloudFormation's request, and records it.

An answer may be delivered again: if the function fails between the two, the state machine calls it once more. Once it
is recorded, its URL is gone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.stacks.response import body_of, put_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.stacks.store import StackStore


class StackResponder:
    """Delivers answers.

    Parameters
    ----------
    put
        Delivers an answer: a URL and a body.
    """

    def __init__(self, store: StackStore, put: Callable[[str, bytes], int] = put_answer) -> None:
        self._store = store
        self._put = put

    def respond(self, pk: str, request_id: str, answer: dict[str, Any]) -> str:
        """Deliver the answer to a request, unless one was delivered before.

        Returns
        -------
        str
            ``sent``; ``rejected`` if the URL is not valid any more, so that nobody waits for the answer; ``expired`` if
            the request is not on record any more.

        Raises
        ------
        Transient
            If the answer was not accepted and another attempt may succeed.
        """
        pending = self._store.pending(pk, request_id)
        if pending is None:
            logger.warning("request is not on record any more", request_id=request_id)
            return "expired"
        event = pending.event
        if pending.answered:
            logger.info("request is answered already", request_id=request_id)
            return "sent"
        # The state machine answers a failure of its own without knowing the resource.
        told = {**answer, "PhysicalResourceId": answer.get("PhysicalResourceId") or event.kept_physical_id}
        told = self._store.keep_answer(event, told)
        body = body_of(told, stack_id=event.stack_id, logical_id=event.logical_id, request_id=event.request_id)
        status = self._put(pending.url, body)
        about: dict[str, Any] = {
            "stack": event.stack_name,
            "resource": event.logical_id,
            "request_id": request_id,
            "http": status,
        }
        if status >= 300:
            logger.warning("answer rejected; the URL is valid for a limited time", status=told["Status"], **about)
            return "rejected"
        self._store.mark_answered(event, told, status)
        logger.info("request answered", status=told["Status"], reason=told.get("Reason", ""), **about)
        return "sent"

    def respond_for(self, ended: Mapping[str, Any]) -> str:
        """Answer for an execution that failed, timed out or was stopped before it could. Return what ``respond`` does.

        Parameters
        ----------
        ended
            The detail of a status change of the execution.
        """
        given = json.loads(ended["input"])
        how = {"ABORTED": "was stopped", "TIMED_OUT": "timed out"}.get(ended["status"], "failed")
        error = f" with {ended['error']}" if ended.get("error") else ""
        reason = f"the execution of this request {how}{error}; see {ended['executionArn']}"
        logger.warning("execution ended without an answer", execution=ended["executionArn"], status=ended["status"])
        return self.respond(given["resource"], given["requestId"], {"Status": "FAILED", "Reason": reason})
