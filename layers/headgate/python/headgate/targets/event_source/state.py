"""What the event source driver knows of a consumer between its calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from headgate.errors import RequestRefused
from headgate.spec.target_state import TargetState
from headgate.targets.event_source.rollout_dlq import RolloutQueue
from headgate.targets.event_source.settings import MappingSettings, SourceKind, reads_queue
from headgate.targets.lambda_alias import AliasState

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda import LambdaClient

    from headgate.aws.sqs_queues import Queues
    from headgate.targets.event_source.rollout_dlq import RolloutQueues


class MappingPosition(NamedTuple):
    """Where a mapping stands: what it invokes, the version behind that, and how."""

    function: str
    version: str
    settings: MappingSettings


class SourceState(TargetState):
    """What the driver knows of the consumer between its calls."""

    alias: AliasState | None = None
    """Of the alias that the mapping points at; None until it has been looked at, as both revisions are."""
    mode: Literal["split", "ramp"]
    kind: SourceKind
    source: str
    """ARN of the queue or stream."""
    function: str
    """What the mapping points at when no rollout is on: the ARN of the function with its alias."""
    original: MappingSettings
    timeout_seconds: int = 0
    """The longer of both versions' timeouts: so long an invocation may go on after the mapping has been stopped."""
    visibility_seconds: int = 0
    """For so long a message that was received stays hidden from others; 0 for streams."""
    backlog: int | None = None
    """How many messages of a queue were visible before the candidate's first."""
    holding: RolloutQueue | None = None
    blocks: bool = False
    """Whether a ramp lifts the limits of a stream's mapping whose failures go to what is no queue, so that none holds
    them: the limits come back at the end all the same."""
    parked: bool = False
    """Whether this rollout may have stopped the mapping."""
    must_release: bool = False

    @property
    def of_queue(self) -> bool:
        """Whether the source is a queue."""
        return reads_queue(self.kind)

    @property
    def known_alias(self) -> AliasState:
        """The alias, which must have been prepared."""
        if self.alias is None:
            raise RequestRefused("target: nothing was prepared")
        return self.alias

    @property
    def stable_place(self) -> MappingPosition:
        """Where the mapping stands while the stable version has the source to itself."""
        return MappingPosition(self.function, self.known_alias.stable, self.at_rest)

    def candidate_place(self, weight: float) -> MappingPosition:
        """Where the mapping stands while the candidate has the source to itself, at ``weight`` percent of the pace."""
        version = self.known_alias.candidate
        return MappingPosition(self.function_with(version), version, self.ramp(weight))

    def function_with(self, version: str) -> str:
        """The ARN of a version of the consumer's function."""
        return f"{self.function.rpartition(':')[0]}:{version}"

    def ramp(self, weight: float) -> MappingSettings:
        """The settings at a step of a ramp."""
        settings = self.held.share(weight, self.kind)
        return settings if self.of_queue else settings.blocking()

    @property
    def at_rest(self) -> MappingSettings:
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
    def held(self) -> MappingSettings:
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


class SourceServices(NamedTuple):
    """What the driver works with."""

    functions: LambdaClient
    queues: Queues
    holdings: RolloutQueues
    holding_prefix: str
    """What the names of the rollouts' own queues begin with."""
    settle_seconds: int
    """How long a queue's new attributes may take to hold everywhere: 60 by AWS's account,
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html."""
    stream_names: str = "*"
    """Pattern of the names of the streams, and tables with streams, that may be read again."""
    now: Callable[[], float] = time.time
