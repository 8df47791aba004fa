"""Headgate's own functions, state machines and queues. A request must not use them as a target, a hook or a queue.

A hook or a target is invoked by Headgate's roles. If its own functions could be one, whoever may put a request on the
bus could move any target or announce any event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


FUNCTIONS = frozenset(
    {
        "acquirer",
        "baker",
        "cleaner",
        "counter",
        "ecs-service-driver",
        "event-source-driver",
        "http-smoke-tester",
        "intake",
        "judge",
        "lambda-alias-driver",
        "notifier",
        "observer",
        "pauser",
        "planner",
        "prometheus-counter",
        "publisher",
        "redrive-planner",
        "redrive-stopper",
        "redriver",
        "settler",
        "signaller",
        "smoke-tester",
        "stack-intake",
        "stack-planner",
        "stack-responder",
        "starter",
        "task-classifier",
        "task-planner",
        "task-stopper",
        "trigger",
        "version-checker",
        "warden",
    }
)
"""Names of the functions after the prefix. A team's function may have the same prefix, so the prefix alone decides
nothing."""

SAMPLES_OF_FUNCTIONS = frozenset({"smoke-tester", "version-checker"})

SAMPLES_OF_SERVICES = frozenset({"http-smoke-tester"})

SAMPLE_HOOKS = SAMPLES_OF_FUNCTIONS | SAMPLES_OF_SERVICES

COUNTERS = frozenset({"prometheus-counter"})
"""Functions that count for guards."""

MACHINES = frozenset({"rollout", "hooks", "ecs-task", "redrive", "stack"})


class OwnResources(NamedTuple):
    """The names of a deployment's own resources.

    Parameters
    ----------
    prefix
        What the names of the functions and state machines begin with.
    queues
        Name of each queue, and of the queue to which its messages may be redriven; empty if they may not.
    """

    prefix: str
    queues: Mapping[str, str]

    def refuse_target(self, function: str, field: str) -> None:
        """Refuse one of Headgate's functions, by name or ARN, that is to be rolled out or to get a stream's records."""
        if self._names(function, FUNCTIONS):
            raise RequestRefused(f"{field}: {function} is one of Headgate's own functions; name a function of yours")

    def refuse_hook(self, function: str, field: str) -> None:
        """Refuse one of Headgate's functions, by name or ARN, as a hook, unless it is a sample hook."""
        if self._names(function, FUNCTIONS - SAMPLE_HOOKS):
            hooks = " or ".join(f"{self.prefix}-{name}" for name in sorted(SAMPLE_HOOKS))
            raise RequestRefused(
                f"{field}: {function} is one of Headgate's own functions; name a function of yours, or {hooks}"
            )

    def refuse_counter(self, function: str, field: str) -> None:
        """Refuse one of Headgate's functions, by name or ARN, as a function that counts, unless it is made for that."""
        if self._names(function, FUNCTIONS - COUNTERS):
            counters = " or ".join(f"{self.prefix}-{name}" for name in sorted(COUNTERS))
            raise RequestRefused(
                f"{field}: {function} is one of Headgate's own functions; name a function of yours, or {counters}"
            )

    def is_counter(self, function: str) -> bool:
        """Return whether a function, by name or ARN, is one of Headgate's that count for guards."""
        return self._names(function, COUNTERS)

    def is_function(self, function: str) -> bool:
        """Return whether a function, by name or ARN, is one of Headgate's own."""
        return self._names(function, FUNCTIONS)

    def is_sample_hook(self, function: str) -> bool:
        """Return whether a function, by name or ARN, is one of the sample hooks."""
        return self._names(function, SAMPLE_HOOKS)

    def is_sample_of_functions(self, function: str) -> bool:
        """Return whether a function, by name or ARN, is a sample hook for versions of functions."""
        return self._names(function, SAMPLES_OF_FUNCTIONS)

    def is_sample_of_services(self, function: str) -> bool:
        """Return whether a function, by name or ARN, is a sample hook for ECS services."""
        return self._names(function, SAMPLES_OF_SERVICES)

    def refuse_machine(self, machine: str, field: str) -> None:
        """Refuse one of Headgate's state machines, by name or ARN, as a hook."""
        if self._names(machine, MACHINES):
            raise RequestRefused(
                f"{field}: {machine} is one of Headgate's own state machines; name a state machine of yours"
            )

    def refuse_source(self, queue_arn: str, field: str) -> None:
        """Refuse a consumer of one of Headgate's queues."""
        name = queue_arn.rsplit(":", 1)[-1]
        if name in self.queues or self.holds(name):
            raise RequestRefused(f"{field}: {name} is one of Headgate's own queues; name a consumer of another queue")

    def refuse_redrive(self, source: str, destination: str | None, serves: Iterable[str] = ()) -> None:
        """Refuse a redrive from or to one of Headgate's queues, all but two kinds, by their names.

        Dead letters of requests may go back to the queue that they came from. What failed during a rollout may leave
        the rollout's own queue.

        Parameters
        ----------
        destination
            None if messages go to several queues, or a stream's records to a function.
        serves
            The queues whose dead-letter queue the source is. Anybody may name it, and a dead letter of theirs would
            become a request.
        """
        if source in self.queues:
            back_to = self.queues[source]
            if not back_to:
                raise RequestRefused(f"from.queue: {source} is one of Headgate's own queues, which cannot be redriven")
            if destination != back_to:
                raise RequestRefused(
                    f"to: messages of {source}, one of Headgate's own queues, may only go back to {back_to}; set "
                    "to.queue to it"
                )
            if others := sorted(set(serves) - {back_to}):
                raise RequestRefused(
                    f"from.queue: {source}, one of Headgate's own queues, is also the dead-letter queue of "
                    f"{', '.join(others)}, whose messages are no requests; give them a dead-letter queue of their own, "
                    "and delete their messages"
                )
        elif destination is not None and (destination in self.queues or self.holds(destination)):
            raise RequestRefused(f"to.queue: {destination} is one of Headgate's own queues; name another queue")

    def holds(self, queue: str) -> bool:
        """Return whether a queue is a rollout's own, by its name."""
        return queue.startswith(f"{self.prefix}-held-")

    def _names(self, given: str, own: frozenset[str]) -> bool:
        """Return whether a name, or a whole or partial ARN with or without a qualifier, names one of these.

        Lambda accepts many forms of a partial ARN, so each part is compared:
        https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
        """
        return any(f"{self.prefix}-{name}" in given.split(":") for name in own)
