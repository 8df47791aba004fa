"""Signals: anything that ends a bake early. They are written to the record first, so that none is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from headgate.errors import RequestRefused
from headgate.request import RolloutId
from headgate.store import now
from headgate.verdict import Signal
from headgate.wire import Wire, explain

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.store import Store
    from headgate.verdict import Kind


class RolloutSignal(Wire):
    """The detail of a ``Rollout Signal`` event: what an operator wants."""

    rollout_id: RolloutId
    signal: Literal["promote", "promote-fully", "abort"]
    by: str = "an operator"
    reason: str = ""


def read_signal(detail: object) -> RolloutSignal:
    """Read an operator's signal.

    Raises
    ------
    RequestRefused
        If it is not one; the message names field, value and fix.
    """
    try:
        return RolloutSignal.model_validate(detail)
    except ValidationError as error:
        raise RequestRefused(explain(error, RolloutSignal)) from None


def read_alarm(event: dict[str, Any]) -> str:
    """The name of the alarm in a ``CloudWatch Alarm State Change`` event."""
    name: str = event["detail"]["alarmName"]
    return name


class Signaller:
    """Records signals and wakes bakes."""

    def __init__(self, store: Store, client: SFNClient) -> None:
        self._store = store
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
        token = self._store.record_signal(rollout_id, signal_id, signal)
        if token is None:
            return  # No bake is open; the next one, or the judge, reads the record.
        gone = self._client.exceptions
        try:
            self._client.send_task_success(taskToken=token, output=json.dumps({"signal": kind}))
        except (gone.TaskTimedOut, gone.TaskDoesNotExist, gone.InvalidToken):
            return  # The bake is over by itself, and the judge reads the record.
