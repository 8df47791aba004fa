"""Requests rollouts for events of AWS, by the templates in the stack's parameters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import Transient
from headgate.rollouts.rejections import rejecting_rollout
from headgate.spec.targets import target_key_of
from headgate.triggers.occurrences import Skipped, occurrence_of
from headgate.triggers.templates import requests_of

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

    from headgate.rollouts.executions import Executions
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from headgate.triggers.latest_events import LatestEvents
    from headgate.triggers.occurrences import Occurrence, Surroundings, TriggerName

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
        table: Table,
        latest: LatestEvents,
        locks: Locks,
        executions: Executions,
        *,
        folder: str,
        bus: str,
        here: Surroundings,
    ) -> None:
        self._events = events
        self._parameters = parameters
        self._table = table
        self._latest = latest
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
        requests = [
            each
            for each in requests_of(text, occurrence, self._refuse)
            if not self._is_rejected(each) and not self._is_overtaken(each, occurrence)
        ]
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

    def _is_rejected(self, request: dict[str, Any]) -> bool:
        """Return whether a rollout rejected the version that a request names.

        PublishVersion answers with the newest version if nothing has changed since. After a rollback, that is the one
        that was rolled back.
        """
        candidate, target_key = request.get("candidate"), target_key_of(request.get("target"))
        version = candidate.get("version") if isinstance(candidate, dict) else None
        # What else is wrong with the request is said by Intake.
        if version is None or target_key is None:
            return False
        by = rejecting_rollout(self._table, target_key, str(version))
        if by:
            reason = f"rollout {by} rejected version {version} of {target_key}"
            logger.warning("request skipped", rollout_id=request["id"], reason=reason)
        return by is not None

    def _is_overtaken(self, request: dict[str, Any], occurrence: Occurrence) -> bool:
        """Return whether a later event has requested a rollout of the same target."""
        target_key = target_key_of(request.get("target"))
        # What else is wrong with the request is said by Intake.
        if target_key is None or self._latest.advance(target_key, occurrence):
            return False
        reason = f"a later event of {occurrence.trigger} has requested a rollout of {target_key}"
        logger.warning("request skipped", rollout_id=request["id"], reason=reason)
        return True

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
