"""The comparison of the revisions by each guard, as records, events and views show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.evidence import (
    Pair,
    group_limit,
    group_value,
    guard_value,
    leading_measure,
    reported_value,
)

if TYPE_CHECKING:
    from headgate.analysis.evidence import GuardTerms, JudgeTerms, Ledger
    from headgate.spec.guards import GuardAction, Guards

ACTIONS: tuple[GuardAction, ...] = ("rollback", "pause")
"""Actions of the guards that act. Those with the same one are averaged."""


def comparison_of(ledger: Ledger, terms: JudgeTerms, guards: Guards, guard: GuardTerms, step: int) -> dict[str, Any]:
    """Return counts and evidence of a guard in a step and so far. Of several thresholds, it shows the leading one."""
    leading = leading_measure(ledger, guard)
    here, total = ledger.at_step(step, leading.key), ledger.total(leading.key)
    return {
        "measure": guard.key,
        **_arms(here),
        **{f"{arm}Total": counts for arm, counts in _arms(total).items()},
        "value": reported_value(guard_value(ledger, terms, guard)),
        "limit": reported_value(terms.limit_of(guard)),
        **what_it_does(guards, guard, leading.key),
    }


def what_it_does(guards: Guards, guard: GuardTerms, leading: str) -> dict[str, Any]:
    """Return the action of a guard if it is not a rollback, and the leading threshold if it has several."""
    action = {} if guard.action == "rollback" else {"action": guard.action}
    if len(guard.measures) == 1 or guards.latency is None:
        return action
    return action | {"thresholdMs": guards.latency.thresholds[int(leading.removeprefix(guard.key))]}


def groups_of(ledger: Ledger, terms: JudgeTerms) -> list[dict[str, Any]]:
    """Return the evidence and limit of the guards with each action; none if a single guard acts."""
    if len(terms.acting) < 2:
        return []
    return [
        {
            "action": action,
            "value": reported_value(group_value(ledger, terms, action)),
            "limit": reported_value(group_limit(terms, action)),
        }
        for action in ACTIONS
        if terms.acting_with(action)
    ]


def _arms(pair: Pair) -> dict[str, Any]:
    return {"candidate": pair.candidate._asdict(), "stable": pair.stable._asdict()}
