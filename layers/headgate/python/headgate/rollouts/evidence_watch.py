"""Judges the evidence of running rollouts, and sends a signal when there is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.analysis.evidence import JudgeTerms
from headgate.aws.observability import logger
from headgate.rollouts.isolation import isolated
from headgate.spec.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.analysis.evidence import Ledger
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.isolation import IsolatedBlock
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.table import Table


class EvidenceWatch:
    """Finds running rollouts and judges their ledgers."""

    def __init__(self, table: Table, locks: Locks, ledgers: LedgerStore, signaller: Signaller) -> None:
        self.table = table
        self.locks = locks
        self.ledgers = ledgers
        self.signaller = signaller

    def running(self, trying: IsolatedBlock) -> list[tuple[Plan, RolloutRecord]]:
        """Return the running rollouts with their records. Unreadable ones are left out."""
        running = []
        for rollout_id in self.locks.owners():
            with trying(rollout_id, "a rollout cannot be read"):
                if record := self.table.running(rollout_id):
                    running.append((Plan.model_validate(record.plan), record))
        return running

    def running_on(self, earliest: Mapping[str, int]) -> dict[str, Ledger]:
        """Return the ledgers in which telemetry of some targets is counted, by target key.

        A target is left out if it has no rollout, its rollout does not use telemetry, or its items are not readable.
        In the last case, the rollout continues without evidence and does not block others.

        Parameters
        ----------
        earliest
            Time of the first request to count, in milliseconds since 1970, by target key.
        """
        running = {}
        for target, since in earliest.items():
            try:
                owner = self.locks.owner_of_alias(target)
                ledger = self.ledgers.read(owner, since=since) if owner else None
            except (ArithmeticError, LookupError, TypeError, ValueError):
                logger.exception("a ledger cannot be read", target=target)
                continue
            if ledger is not None and ledger.by_telemetry:
                running[target] = ledger
        return running

    def judge_all(self, ledgers: list[Ledger]) -> None:
        """Judge every rollout, even without new counts: an earlier attempt may have counted without judging."""
        with isolated() as trying:
            for ledger in ledgers:
                with trying(ledger.rollout_id, "a rollout could not be judged"):
                    self.judge(ledger)

    def judge(self, ledger: Ledger) -> None:
        """Judge the new counts. Enough evidence ends the bake at once."""
        record = self.table.running(ledger.rollout_id)
        if record is None:
            return
        terms = JudgeTerms.of(Plan.model_validate(record.plan).guards)
        seen = self.ledgers.look(ledger.rollout_id, terms)
        if seen and (reason := self.signaller.report(seen, terms)):
            logger.info("enough evidence", reason=reason)
