"""Requests rollouts for events of AWS, by the templates in the stack's parameters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import Transient
from headgate.spec.targets import target_key_of
from headgate.triggers.occurrences import Skipped, occurrence_of
from headgate.triggers.templates import requests_of

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

    from headgate.rollouts.executions import Executions
    from headgate.rollouts.locks import Locks
    from headgate.triggers.occurrences import Surroundings, TriggerName

SOURCE = "headgate.trigger"
"""Source of the requests. The source ``headgate`` is for what Headgate announces."""


class Trigger:
    """Puts a request on the bus for each template that an event fits.

    What a request says is checked by Intake and Plan, as for every request. Only what has no request is refused here:
    a template that cannot be read or filled in.

    Parameters
    ----------
    parameters
        boto3 client for Systems Manager, which keeps the templates: all environment variables of a function together
        have 4 KB, as much as one template may have.
    folder
        What the names of the templates begin with.
    bus
        Name of the bus.
    here
        What an event is compared with.
    """

    def __init__(
        self,
        events: EventBridgeClient,
        parameters: Any,
        locks: Locks,
        executions: Executions,
        *,
        folder: str,
        bus: str,
        here: Surroundings,
    ) -> None:
        self._events = events
        self._parameters = parameters
        self._locks = locks
        self._executions = executions
        self._folder = folder
        self._bus = bus
        self._here = here

    def take(self, event: dict[str, Any]) -> None:
        """Request what an event asks for. An event that is delivered again has requests with the same ids."""
        try:
            occurrence = occurrence_of(event, self._here)
            text = self._template_text(occurrence.trigger)
        except Skipped as reason:
            logger.info("event skipped", event_id=event.get("id"), reason=str(reason))
            return
        requests = requests_of(text, occurrence, self._refuse)
        for request in requests:
            self._request(request)
        ids = [request["id"] for request in requests]
        logger.info("event taken", event_id=event["id"], trigger=occurrence.trigger, requests=ids)

    def _template_text(self, trigger: TriggerName) -> str:
        missing = self._parameters.exceptions.ParameterNotFound
        try:
            return str(self._parameters.get_parameter(Name=f"{self._folder}/{trigger}")["Parameter"]["Value"])
        except missing:
            # Its rule is deleted after it.
            raise Skipped("the trigger was turned off") from None

    def _request(self, request: dict[str, Any]) -> None:
        """Put a request on the bus. One call each, because together they may be too long for a call."""
        [result] = self._events.put_events(
            Entries=[
                {
                    "EventBusName": self._bus,
                    "Source": SOURCE,
                    "DetailType": "Rollout Requested",
                    "Detail": json.dumps(request),
                }
            ]
        )["Entries"]
        if "ErrorCode" in result:
            raise Transient(
                f"the bus did not accept the request {request['id']}: {result['ErrorCode']}: "
                f"{result.get('ErrorMessage')}"
            )

    def _refuse(self, rollout_id: str, reason: str, target: object) -> None:
        """Announce a refusal, and keep a record of it."""
        logger.warning("request refused", reason=reason, rollout_id=rollout_id)
        arn = self._executions.arn_for(rollout_id)
        self._locks.refuse(rollout_id, arn, reason, target_key=target_key_of(target))
