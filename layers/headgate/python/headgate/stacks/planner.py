"""Stack planner: reads what holds, decides, does what it can do itself, and returns what the machine does next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.stacks.decisions import decide

if TYPE_CHECKING:
    from headgate.stacks.deeds import Deeds
    from headgate.stacks.facts import FactReader
    from headgate.stacks.store import StackStore

MAX_DEEDS = 12
"""Deeds in one invocation: there are at most six in a row, and more mean that two writers are after one claim."""


class StackPlanner:
    """Decides what the stack machine does next."""

    def __init__(self, store: StackStore, facts: FactReader, deeds: Deeds) -> None:
        self._store = store
        self._facts = facts
        self._deeds = deeds

    def next(self, pk: str, request_id: str, state: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        """Return the next step, and the state to give back with what came of it.

        Raises
        ------
        RequestRefused
            If the request is not on record any more: nobody waits for its answer.
        """
        stored = self._store.request(pk, request_id)
        if stored is None:
            raise RequestRefused(f"requestId: {request_id} is not on record; requests are kept for a day")
        logger.append_keys(stack=stored.event.stack_name, resource=stored.event.logical_id, request_id=request_id)
        for _ in range(MAX_DEEDS):
            version = told.get("version") or state.get("version", "")
            facts = self._facts.read(stored, stage=state.get("stage", ""), version=version)
            decision = decide(facts, state, told)
            state = decision.state
            if decision.deed is None:
                logger.info("decided", stage=state.get("stage"), do=decision.step["do"])
                return {"state": state, "next": decision.step}
            told = self._deeds.do(decision.deed, facts)
        raise RuntimeError(f"no decision after {MAX_DEEDS} deeds; the last one was told {told}")
