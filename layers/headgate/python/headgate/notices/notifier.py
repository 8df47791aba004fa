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
"""Events that a function remembers, so that one that is delivered twice in short time is sent once."""


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
            If a part could not be sent. Lambda invokes the function again, which sends what is left, if it is the same
            process; else what was sent is sent again.
        """
        event_id = str(event["detail"].get("id") or event["id"])
        notice, figures = self._said_of(event, self._view_of(event))
        if self._is_new(event_id, "topic"):
            self._topics.publish(TopicArn=self._place.topic, **publication(event, notice))
            self._remember(event_id, "topic")
        if (forms := self._place.chat_forms(notice)) and self._is_new(event_id, "chat"):
            self._announce(notice, forms)
            self._remember(event_id, "chat")
        if figures and self._is_new(event_id, "metrics"):
            record_metrics(dimensions_of(notice), figures)
            self._remember(event_id, "metrics")

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

    def _is_new(self, event_id: str, part: str) -> bool:
        return (event_id, part) not in self._done

    def _remember(self, event_id: str, part: str) -> None:
        self._done[event_id, part] = None
        while len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)
