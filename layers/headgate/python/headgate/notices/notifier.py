"""Sends notifications: to the topic, to the bus for chat, and a rollout's metrics to CloudWatch."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from headgate.aws.dynamodb import now_iso
from headgate.aws.observability import logger
from headgate.errors import Transient
from headgate.notices import chat
from headgate.notices.mail import publication
from headgate.notices.metrics import dimensions_of, metrics_of
from headgate.notices.notice import notice_of, reference_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headgate.history.model import RolloutView
    from headgate.notices.metrics import Figure
    from headgate.notices.notice import Notice

MAX_REMEMBERED = 500
"""Parts of events that a function remembers, so that what is delivered twice in short time is sent once."""


class Records(Protocol):
    """The read model."""

    def rollout(self, rollout_id: str, *, place: bool) -> RolloutView | None:
        """Return a rollout; None if there is no record of it."""


class Place(NamedTuple):
    """Where notifications go."""

    topic: str
    """ARN of the topic."""
    bus: str
    """Name of the bus."""
    stack: str
    """Name of Headgate's stack, for the commands in a notification."""
    slack_channel: str = ""
    """Channel in Slack; empty without Slack."""
    teams: bool = False
    """True if a Teams workflow gets notifications."""
    amazon_q: bool = False
    """True if a topic for Amazon Q Developer gets notifications."""

    def chat_forms(self, notice: Notice) -> dict[str, Any]:
        """Return the ready-made message for each chat that is set up, by its field in the event's detail."""
        forms: dict[str, Any] = {}
        if self.slack_channel:
            forms["slack"] = chat.slack(notice, self.slack_channel)
        if self.teams:
            forms["teams"] = chat.teams(notice)
        if self.amazon_q:
            forms["amazonQ"] = chat.amazon_q(notice)
        return forms


class Notifier:
    """Sends what is to be said of an event.

    Parameters
    ----------
    topics, events
        boto3 clients for SNS and EventBridge.
    records
        The read model of rollouts.
    place
        Where notifications go.
    """

    def __init__(self, topics: Any, events: Any, records: Records, place: Place) -> None:
        self._topics = topics
        self._events = events
        self._records = records
        self._place = place
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()

    def notify(
        self, event: dict[str, Any], record_metrics: Callable[[Mapping[str, str], Iterable[Figure]], None]
    ) -> None:
        """Send the notifications of an event, and record the metrics of a rollout that has ended.

        Parameters
        ----------
        event
            The event as EventBridge delivers it.
        record_metrics
            Records metrics with these dimensions.

        Raises
        ------
        Exception
            If parts could not be sent, the first failure, after all others were tried. Lambda invokes the function
            again, which sends what is left, if it is the same process; else what was sent is sent again.
        """
        event_id = str(event["detail"].get("id") or event["id"])
        notice, figures = self._said_of(event, self._view_of(event))
        parts: dict[str, Callable[[], object]] = {"topic": lambda: self._publish(event, notice)}
        if forms := self._place.chat_forms(notice):
            parts["chat"] = lambda: self._announce(notice, forms)
        if figures:
            parts["metrics"] = lambda: record_metrics(dimensions_of(notice), figures)
        failures = [failure for part, send in parts.items() if (failure := self._failure_of(event_id, part, send))]
        if failures:
            raise failures[0]

    def _failure_of(self, event_id: str, part: str, send: Callable[[], object]) -> Exception | None:
        """Send a part of what is said of an event, if it was not sent; return why it could not be sent."""
        if (event_id, part) in self._done:
            return None
        try:
            send()
        except Exception as error:  # noqa: BLE001 - one part that fails must not keep the others back
            logger.exception("a part of a notification could not be sent", part=part)
            return error
        self._done[event_id, part] = None
        while len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)
        return None

    def _view_of(self, event: dict[str, Any]) -> RolloutView | None:
        """Return the rollout that an event is about. The event says enough if its record cannot be read."""
        rollout_id = reference_in(event)
        if rollout_id is None:
            return None
        logger.append_keys(rollout_id=rollout_id)
        try:
            # Its place in line is among its target's items, which this function may not read.
            return self._records.rollout(rollout_id, place=False)
        except Exception:  # noqa: BLE001 - nothing that is wrong with a record may keep a notification back
            logger.exception("the record cannot be read; the notification has only what the event says")
            return None

    def _said_of(self, event: dict[str, Any], view: RolloutView | None) -> tuple[Notice, list[Figure]]:
        """Return what to say and to record. The event says enough if nothing can be made of its record."""
        try:
            notice = notice_of(event, view, self._place.stack)
            return notice, metrics_of(notice, view)
        except Exception:
            if view is None:
                raise
            logger.exception("nothing can be made of the record; the notification has only what the event says")
            return self._said_of(event, None)

    def _publish(self, event: dict[str, Any], notice: Notice) -> None:
        self._topics.publish(TopicArn=self._place.topic, **publication(event, notice))

    def _announce(self, notice: Notice, forms: dict[str, Any]) -> None:
        detail = {
            "id": f"{notice.id}/notification",
            "at": now_iso(),
            "about": notice.detail_type,
            "kind": notice.kind,
            "outcome": notice.outcome,
            "target": notice.target,
            "reference": notice.reference,
            "title": notice.title,
            **forms,
        }
        entry = {
            "EventBusName": self._place.bus,
            "Source": "headgate",
            "DetailType": "Notification",
            "Detail": json.dumps(detail),
        }
        [result] = self._events.put_events(Entries=[entry])["Entries"]
        if "ErrorCode" in result:
            raise Transient(
                f"the bus did not accept the notification: {result['ErrorCode']}: {result.get('ErrorMessage')}"
            )
