"""Checks of the functions that guards name, so that a rollout does not start without its counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.analysis.count_functions import CountFault, questions_of
from headgate.aws.patterns import function_name
from headgate.errors import RequestRefused, Transient
from headgate.spec.guards import CountGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.analysis.count_functions import CountFunctions
    from headgate.aws.own_resources import OwnResources
    from headgate.aws.patterns import Patterns
    from headgate.spec.guards import Guards
    from headgate.spec.plan import Plan
    from headgate.spec.routing import RevisionArm


PARAMETER = "CountFunctions"
"""Headgate's parameter with the pattern of these functions."""


class CountChecks:
    """Refuses functions that do not count.

    Parameters
    ----------
    own
        Headgate's own resources, of which only those that count may be named.
    patterns
        What Headgate's parameters allow.
    """

    def __init__(self, functions: CountFunctions, own: OwnResources, patterns: Patterns) -> None:
        self._functions, self._own, self._patterns = functions, own, patterns

    def refuse_forbidden(self, guards: Guards) -> None:
        """Refuse functions that Headgate may not ask.

        Raises
        ------
        RequestRefused
            The message names the guard and the parameter.
        """
        for number, guard in enumerate(guards.custom):
            if isinstance(guard, CountGuard):
                field, name = f"guards.custom[{number}].counts", guard.counts.lambda_
                self._own.refuse_counter(name, field)
                if not self._own.is_counter(name):
                    self._patterns.require(PARAMETER, function_name(name), field)

    def refuse_what_does_not_count(self, plan: Plan, revisions: Mapping[RevisionArm, str], now: int) -> None:
        """Ask every function once for the past minutes, and refuse one that does not answer as documented.

        Parameters
        ----------
        revisions
            What to ask about. Before the rollout, not all revisions are known.
        now
            In milliseconds since 1970.

        Raises
        ------
        RequestRefused
            The message names the guard, and what its function answered.
        Transient
            If Lambda could not say so now.
        """
        for question, answer in self._functions.ask(list(questions_of(plan, revisions, now))):
            if isinstance(answer, CountFault):
                fault = question.fault(answer)
                raise Transient(fault) if answer.temporary else RequestRefused(fault)
