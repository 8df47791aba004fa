"""A consumer in a rollout: what its driver knows of it between its calls, and its event source mapping.

A mapping has no revision: before each write it is compared with what this rollout may have made of it. It is updated in
place and never deleted, so a stream's position stays.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.drivers.lambda_alias import AliasState
from headgate.errors import RequestRefused, TargetChanged, TargetNotReady
from headgate.holding import Holding, Redriven
from headgate.mappings import Kind, Settings, settings_of
from headgate.request import EventSourceTarget
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.drivers.lambda_alias import LambdaAliasDriver
    from headgate.holding import HoldingQueues
    from headgate.plan import Plan
    from headgate.queues import Queues

SETTLED = ("Enabled", "Disabled")
"""States of a mapping in which it can be updated; in the others an update is on its way."""


class Place(NamedTuple):
    """Where a mapping stands: what it invokes, the version behind that, and how."""

    function: str
    version: str
    settings: Settings


class SourceState(Wire):
    """What the driver knows of the consumer between its calls."""

    stable: str | None = None
    candidate: str | None = None
    alias: AliasState | None = None
    """Of the alias that the mapping points at; None until it has been looked at."""
    mode: Literal["split", "ramp"]
    kind: Kind
    source: str
    """ARN of the queue or stream."""
    function: str
    """What the mapping points at when no rollout is on: the ARN of the function with its alias."""
    original: Settings
    timeout_seconds: int = 0
    """The longer of both versions' timeouts: so long an invocation may go on after the mapping has been stopped."""
    visibility_seconds: int = 0
    """For so long a message that was received stays hidden from others; 0 for streams."""
    backlog: int | None = None
    """How many messages of a queue were visible before the candidate's first."""
    holding: Holding | None = None
    blocks: bool = False
    """Whether a ramp lifts the limits of a stream's mapping whose failures go to what is no queue, so that none holds
    them: the limits come back at the end all the same."""
    parked: bool = False
    """Whether this rollout may have stopped the mapping."""
    weight: float = 0
    shifted_at: int = 0
    """When that weight took effect, in milliseconds since 1970."""
    redriven: Redriven | None = None
    to_release: bool = False
    must_release: bool = False
    """Whether a rollout that could not give back what it holds has to be looked at by a person."""

    @property
    def of_queue(self) -> bool:
        """Whether the source is a queue."""
        return self.kind in ("sqs", "sqs-fifo")

    @property
    def known_alias(self) -> AliasState:
        """The alias, which must have been prepared."""
        if self.alias is None:
            raise RequestRefused("target: nothing was prepared")
        return self.alias

    @property
    def stable_place(self) -> Place:
        """Where the mapping stands while the stable version has the source to itself."""
        return Place(self.function, self.known_alias.stable, self.at_rest)

    def candidate_place(self, weight: float) -> Place:
        """Where the mapping stands while the candidate has the source to itself, at ``weight`` percent of the pace."""
        version = self.known_alias.candidate
        return Place(self.function_with(version), version, self.ramp(weight))

    def function_with(self, version: str) -> str:
        """The ARN of a version of the consumer's function."""
        return f"{self.function.rpartition(':')[0]}:{version}"

    def ramp(self, weight: float) -> Settings:
        """The settings at a step of a ramp."""
        settings = self.held.share(weight, self.kind)
        return settings if self.of_queue else settings.blocking()

    @property
    def at_rest(self) -> Settings:
        """The settings outside of a ramp, until the rollout gives back what it holds.

        What a stream's ramp has blocked must not be given up for its age as soon as the ramp is over.
        """
        blocks = self.mode == "ramp" and self.holds and not self.of_queue
        return self.held.blocking() if blocks else self.original

    @property
    def holds(self) -> bool:
        """Whether something is to be given back once the rollout has gone one way or the other."""
        return self.holding is not None or self.blocks

    @property
    def held(self) -> Settings:
        """The settings with which a stream's failed batches go to the rollout's own queue."""
        if self.of_queue or self.holding is None:
            return self.original
        return self.original.model_copy(update={"on_failure": self.holding.arn})

    def with_alias(self, alias: AliasState) -> SourceState:
        """The state once both versions are known."""
        return self.model_copy(update={"alias": alias, "stable": alias.stable, "candidate": alias.candidate})

    def let_gone(self) -> SourceState:
        """The state once nothing is held any more."""
        return self.model_copy(update={"holding": None, "blocks": False, "to_release": False, "must_release": False})


class Services(NamedTuple):
    """What the driver works with."""

    functions: Any
    """boto3's Lambda client."""
    queues: Queues
    holdings: HoldingQueues
    holding_prefix: str
    """What the names of the rollouts' own queues begin with."""
    settle_seconds: int
    """How long a queue's new attributes may take to hold everywhere: 60 by AWS's account,
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html."""
    stream_names: str = "*"
    """Pattern of the names of the streams, and tables with streams, that may be read again."""
    now: Callable[[], float] = time.time


class ConsumerMapping:
    """The mapping of one consumer.

    Parameters
    ----------
    functions
        boto3's Lambda client.
    plan
        The rollout's plan; its ``through`` is the alias that the mapping points at.
    alias
        The driver of that alias.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock; called before each update.

    Attributes
    ----------
    uuid
        The mapping's id.
    mode
        The way that the request asks for, or the planner has chosen.
    """

    def __init__(self, functions: Any, plan: Plan, alias: LambdaAliasDriver, still_ours: Callable[[], None]) -> None:
        if not isinstance(plan.target, EventSourceTarget):
            raise TypeError(f"{plan.target.key} is no event source")
        self.uuid = plan.target.mapping
        self.mode = plan.target.mode
        self._functions = functions
        self._plan = plan
        self._alias = alias
        self._still_ours = still_ours

    def find(self) -> Any:
        """The mapping, whatever is on its way; refused where there is none."""
        try:
            mapping = self._functions.get_event_source_mapping(UUID=self.uuid)
        except self._functions.exceptions.ResourceNotFoundException:
            raise RequestRefused(f"target.mapping: there is no mapping {self.uuid}") from None
        return mapping

    def settled(self, state: SourceState) -> Any:
        """The mapping, when no update of it is on its way."""
        try:
            mapping = self._functions.get_event_source_mapping(UUID=self.uuid)
        except self._functions.exceptions.ResourceNotFoundException:
            raise self.changed("is gone") from None
        if mapping["State"] not in SETTLED:
            raise TargetNotReady(f"target.mapping: {self.uuid} is {mapping['State']}", state)
        return mapping

    def place(self, state: SourceState, mapping: Any) -> Place:
        """Where the mapping stands, if that is where this rollout may have put it.

        Raises
        ------
        TargetChanged
            If it is not.
        """
        function, settings = mapping["FunctionArn"], settings_of(mapping, state.kind)
        candidate = state.candidate_place(100)
        if function not in (state.function, candidate.function):
            raise self.changed(f"points at {function}")
        ramps = [state.ramp(step.weight) for step in self._plan.steps]
        own = [state.original, state.held, state.at_rest, *ramps]
        if settings not in own:
            raise self.changed(f"has other settings: {settings.to_wire()}")
        version = candidate.version if function == candidate.function else self.routing()[0]
        return Place(function, version, settings)

    def routing(self) -> tuple[str, dict[str, float]]:
        """Which version the mapping's alias names, and the shares of others."""
        try:
            told = self._alias.describe()
        except RequestRefused:
            raise self.changed("points at an alias that is gone") from None
        return str(told["version"]), told["weights"]

    def require_the_alias(self, state: SourceState, *, at_work: bool) -> None:
        """See that the mapping still invokes the alias whose weights are about to move.

        Its settings are its owner's while a rollout does not change them.

        Parameters
        ----------
        at_work
            Whether it must not have been disabled either: a candidate that gets nothing is not to be promoted.
        """
        try:
            mapping = self.find()
        except RequestRefused:
            raise self.changed("is gone") from None
        if mapping["FunctionArn"] != state.function:
            raise self.changed(f"points at {mapping['FunctionArn']}")
        if at_work and mapping["State"] in ("Disabling", "Disabled"):
            raise self.changed("was disabled by somebody else")

    def update(self, **parameters: Any) -> None:
        """Update the mapping in place; what is left out stays as it is."""
        self._still_ours()
        functions = self._functions
        try:
            functions.update_event_source_mapping(UUID=self.uuid, **parameters)
        except (functions.exceptions.ResourceInUseException, functions.exceptions.ResourceConflictException) as error:
            raise TargetNotReady(f"target.mapping: {self.uuid}: {error}") from None
        except functions.exceptions.ResourceNotFoundException:
            raise self.changed("is gone") from None

    def changed(self, how: str) -> TargetChanged:
        """The error that tells what somebody else has made of it."""
        return TargetChanged(f"{self._plan.target.key} was changed by somebody else: it {how}; it is left as found")


def modified_at(mapping: Any) -> float:
    """When a mapping was changed last, in seconds since 1970."""
    moment: datetime | float = mapping["LastModified"]
    return moment.astimezone(UTC).timestamp() if isinstance(moment, datetime) else float(moment)
