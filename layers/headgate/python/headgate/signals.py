"""Signals: anything that ends a bake early. They are written to the record first, so that none is lost."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, ValidationError

from headgate.errors import RequestRefused, SignalRefused
from headgate.evidence import against, reassures
from headgate.table import now
from headgate.verdict import Signal
from headgate.wire import RolloutId, Wire, explain

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.evidence import Ledger, Terms
    from headgate.inbox import Inbox
    from headgate.verdict import Kind


def _utf8(value: object) -> object:
    """Text as UTF-8 can carry it: JSON may hold half a surrogate pair."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_utf8)]
"""Of any length: a long reason must not keep an abort from being taken. The inbox keeps the beginning."""


class RolloutSignal(Wire):
    """A signal from an operator to a rollout that runs."""

    rollout_id: RolloutId
    """The rollout to steer."""
    signal: Literal["promote", "promote-fully", "pause", "resume", "abort"]
    """What to do."""
    by: Text = "an operator"
    """Who sends the signal. The first 256 bytes are kept."""
    reason: Text = ""
    """Why. The first 1,000 bytes are kept."""


def read_signal(detail: object) -> RolloutSignal:
    """Read an operator's signal.

    Raises
    ------
    RequestRefused
        If it is not one; the message names field, value and fix.
    """
    try:
        return RolloutSignal.model_validate(detail, by_alias=True, by_name=False)
    except ValidationError as error:
        raise RequestRefused(explain(error, RolloutSignal)) from None


class Alarm(NamedTuple):
    """An alarm's change of state."""

    name: str
    at: str
    """ISO 8601."""
    reason: str


def read_alarm(event: dict[str, Any]) -> Alarm:
    """The alarm in a ``CloudWatch Alarm State Change`` event."""
    state = event["detail"]["state"]
    return Alarm(event["detail"]["alarmName"], state.get("timestamp", event["time"]), state.get("reason", "")[:1000])


class Signaller:
    """Records signals and wakes bakes."""

    def __init__(self, inbox: Inbox, client: SFNClient) -> None:
        self._inbox = inbox
        self._client = client

    def send(
        self,
        rollout_id: str,
        signal_id: str,
        kind: Kind,
        *,
        by: str,
        reason: str,
    ) -> None:
        """Record a signal under an id that makes it idempotent, and end the open bake, if there is one."""
        signal = Signal(signal=kind, by=by, reason=reason, step=0, at=now())
        token = self._inbox.record_signal(rollout_id, signal_id, signal)
        if token is None:
            return  # No bake is open; the next one, or the judge, reads the record.
        gone = self._client.exceptions
        try:
            self._client.send_task_success(taskToken=token, output=json.dumps({"signal": kind}))
        except (gone.TaskTimedOut, gone.TaskDoesNotExist, gone.InvalidToken):
            return  # The bake is over by itself, and the judge reads the record.

    def report(self, ledger: Ledger, terms: Terms) -> str:
        """Signal what the evidence has come to, if it is enough for a verdict; answer the sentence that says so."""
        if reason := against(ledger, terms):
            kind: Kind = "evidence"
        elif reason := reassures(ledger, terms):
            kind = "promote-early"
        else:
            return ""
        self._tell(ledger.rollout_id, kind, ledger.restarts, by="judge", reason=reason)
        return reason

    def tell_evidence(self, rollout_id: str, restarts: int, *, by: str, reason: str) -> None:
        """Signal what speaks against the candidate, once per restart of the evidence."""
        self._tell(rollout_id, "evidence", restarts, by=by, reason=reason)

    def _tell(self, rollout_id: str, kind: Kind, restarts: int, *, by: str, reason: str) -> None:
        # A rollout that is on its way back, or has ended, has nothing to learn from it.
        with suppress(SignalRefused):
            self.send(rollout_id, f"{kind}-{restarts}", kind, by=by, reason=reason)
