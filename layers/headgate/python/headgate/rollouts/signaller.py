"""Signals, which end a bake or pause early. They are written to the record first, so that none is lost."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from headgate.analysis.evidence import evidence_against, evidence_for
from headgate.errors import SignalRefused
from headgate.rollouts.signal_inbox import token_to_wake
from headgate.rollouts.table import now_iso
from headgate.spec.signal_models import Signal

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.analysis.evidence import JudgeTerms, Ledger
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.spec.guards import GuardAction
    from headgate.spec.signals import SignalKind


class Signaller:
    """Records signals and ends bakes and pauses."""

    def __init__(self, inbox: SignalInbox, client: SFNClient) -> None:
        self._inbox = inbox
        self._client = client

    def send(
        self,
        rollout_id: str,
        signal_id: str,
        kind: SignalKind,
        *,
        by: str,
        reason: str,
    ) -> None:
        """Record a signal with an id that makes it idempotent, and end the open bake or pause, if any."""
        signal = Signal(signal=kind, by=by, reason=reason, step=0, at=now_iso())
        self._wake(self._inbox.record_signal(rollout_id, signal_id, signal), kind)

    def wake(self, record: RolloutRecord, signal_id: str) -> None:
        """End the open bake or pause, if any, because of a signal that is on record."""
        self._wake(token_to_wake(record, signal_id), record.signals[signal_id]["signal"])

    def _wake(self, token: str | None, kind: SignalKind) -> None:
        if token is None:
            return  # No bake or pause is open. The next one, or the judge, reads the record.
        gone = self._client.exceptions
        try:
            self._client.send_task_success(taskToken=token, output=json.dumps({"signal": kind}))
        except (gone.TaskTimedOut, gone.TaskDoesNotExist, gone.InvalidToken):
            return  # The bake or pause has ended, and the judge reads the record.

    def report(self, ledger: Ledger, terms: JudgeTerms, *, confirmed: bool = False) -> str:
        """Send a signal if the evidence is enough for a verdict. Return its reason, or an empty text.

        Parameters
        ----------
        confirmed
            Whether Lambda's counts confirm the telemetry, where they limit it. Only an early promotion needs that.
        """
        promotes = confirmed or not ledger.reports.bounded(terms.per_invocation)
        if reason := evidence_against(ledger, terms):
            kind: SignalKind = "evidence"
        elif reason := evidence_against(ledger, terms, "pause"):
            kind = "doubt"
        elif promotes and (reason := evidence_for(ledger, terms)):
            kind = "promote-early"
        else:
            return ""
        self._send_once(ledger.rollout_id, kind, ledger.restarts, by="judge", reason=reason)
        return reason

    def report_excess(self, rollout_id: str, restarts: int, action: GuardAction, *, by: str, reason: str) -> None:
        """Send a signal about an exceeded limit, once per restart of the evidence; none if it is only reported."""
        if action != "report":
            self._send_once(rollout_id, "doubt" if action == "pause" else "evidence", restarts, by=by, reason=reason)

    def _send_once(self, rollout_id: str, kind: SignalKind, restarts: int, *, by: str, reason: str) -> None:
        # A rollout that is rolled back, or has ended, does not need the signal.
        with suppress(SignalRefused):
            self.send(rollout_id, f"{kind}-{restarts}", kind, by=by, reason=reason)
