"""Signals: anything that ends a bake early. They are written to the record first, so that none is lost."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from headgate.analysis.evidence import evidence_against, evidence_for
from headgate.errors import SignalRefused
from headgate.rollouts.table import now_iso
from headgate.spec.signal_models import Signal

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.analysis.evidence import JudgeTerms, Ledger
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.spec.signals import SignalKind


class Signaller:
    """Records signals and wakes bakes."""

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
        """Record a signal under an id that makes it idempotent, and end the open bake, if there is one."""
        signal = Signal(signal=kind, by=by, reason=reason, step=0, at=now_iso())
        token = self._inbox.record_signal(rollout_id, signal_id, signal)
        if token is None:
            return  # No bake is open; the next one, or the judge, reads the record.
        gone = self._client.exceptions
        try:
            self._client.send_task_success(taskToken=token, output=json.dumps({"signal": kind}))
        except (gone.TaskTimedOut, gone.TaskDoesNotExist, gone.InvalidToken):
            return  # The bake is over by itself, and the judge reads the record.

    def report(self, ledger: Ledger, terms: JudgeTerms) -> str:
        """Signal what the evidence has come to, if it is enough for a verdict; answer the sentence that says so."""
        if reason := evidence_against(ledger, terms):
            kind: SignalKind = "evidence"
        elif reason := evidence_for(ledger, terms):
            kind = "promote-early"
        else:
            return ""
        self._tell(ledger.rollout_id, kind, ledger.restarts, by="judge", reason=reason)
        return reason

    def tell_evidence(self, rollout_id: str, restarts: int, *, by: str, reason: str) -> None:
        """Signal what speaks against the candidate, once per restart of the evidence."""
        self._tell(rollout_id, "evidence", restarts, by=by, reason=reason)

    def _tell(self, rollout_id: str, kind: SignalKind, restarts: int, *, by: str, reason: str) -> None:
        # A rollout that is on its way back, or has ended, has nothing to learn from it.
        with suppress(SignalRefused):
            self.send(rollout_id, f"{kind}-{restarts}", kind, by=by, reason=reason)
