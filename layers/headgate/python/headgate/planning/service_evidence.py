"""Evidence on ECS services: guards that a service cannot have, and what its guards do not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import RequestRefused
from headgate.spec.guards import OF_TARGET_GROUPS, MathQuery, placeholders_in
from headgate.spec.routing import groups_of

if TYPE_CHECKING:
    from headgate.spec.guards import Guards
    from headgate.spec.routing import Routing
    from headgate.spec.targets import EcsServiceTarget


def refuse_guards_that_do_not_fit(guards: Guards, routing: Routing) -> None:
    """Refuse metric math over the target groups of a service that has several for each revision.

    Counts of several groups add up, but the result of an expression need not.

    Raises
    ------
    RequestRefused
        If a custom guard has such an expression.
    """
    if len(routing.pairs) == 1:
        return
    for number, guard in enumerate(guards.custom):
        for field, query in guard.queries.items():
            if isinstance(query, MathQuery) and (names := placeholders_in(query) & set(OF_TARGET_GROUPS)):
                raise RequestRefused(
                    f"guards.custom[{number}].{field}: {' and '.join(sorted(names))} cannot be used in metric math, "
                    f"because the service has {len(routing.pairs)} target groups for each revision; use a metric "
                    "without an expression, whose counts are added up, or {revision}"
                )


def notes_on_evidence(guards: Guards, target: EcsServiceTarget, routing: Routing) -> list[str]:
    """Return what the guards of a service do not do."""
    notes = []
    if guards.compare and not guards.alarms:
        notes.append(_on_answers_of_the_load_balancer(routing))
    if guards.compare and target.sticky:
        notes.append(
            "guards: all requests of a sticky client go to one revision, so that one client with many failures can "
            "look like a bad revision; let telemetry name the client as the unit, or set guards.failuresPerCause"
        )
    return notes


def _on_answers_of_the_load_balancer(routing: Routing) -> str:
    balancers = dict.fromkeys(group.load_balancer for group in groups_of(routing, "candidate"))
    return (
        "guards: what the load balancer answers itself counts for neither revision, for example 502 if a task closes a "
        "connection, 503 without a healthy task, or 504 if a task is too slow; to guard against it too, name an alarm "
        f"on HTTPCode_ELB_5XX_Count of {' and '.join(balancers)} in guards.alarms"
    )
