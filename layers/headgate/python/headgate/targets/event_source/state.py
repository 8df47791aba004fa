"""State of a consumer between calls of the event source driver."""

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
    from headgate.rollouts.record import RejectedCode
    from headgate.targets.event_source.rollout_dlq import RolloutQueues
    from headgate.targets.scaling_targets import ScalingTargets


class MappingPosition(NamedTuple):
    """Position of a mapping: the function that it invokes, its version, and the settings."""

    function: str
    version: str
    settings: MappingSettings


class SourceState(TargetState):
    """State of the consumer between calls of the driver."""

    alias: AliasState | None = None
    """State of the alias that the mapping points at; None until it is prepared."""
    mode: Literal["split", "ramp"]
    kind: SourceKind
    source: str
    """ARN of the queue or stream."""
    function: str
    """What the mapping points at outside of a rollout: the ARN of the function with its alias."""
    original: MappingSettings
    timeout_seconds: int = 0
    """Longer timeout of both versions: an invocation may take that long after the mapping was stopped."""
    visibility_seconds: int = 0
    """Visibility timeout of the queue; 0 for streams."""
    backlog: int | None = None
    """Messages that were visible in the queue before the candidate received one."""
    holding: RolloutQueue | None = None
    blocks: bool = False
    """True if a ramp removes the limits of a stream's mapping without the rollout's own queue, because its on-failure
    destination is not a queue. The limits are restored at the end."""
    parked: bool = False
    """True if this rollout may have stopped the mapping."""
    must_release: bool = False

    @property
    def of_queue(self) -> bool:
        """True if the source is a queue."""
        return reads_queue(self.kind)

    @property
    def known_alias(self) -> AliasState:
        """The state of the alias, which must be prepared."""
        if self.alias is None:
            raise RequestRefused("target: nothing was prepared")
        return self.alias

    @property
    def stable_place(self) -> MappingPosition:
        """Position of the mapping while only the stable version reads from the source."""
        return MappingPosition(self.function, self.known_alias.stable, self.at_rest)

    def candidate_place(self, weight: float) -> MappingPosition:
        """Return the position while only the candidate reads, with ``weight`` percent of the throughput."""
        version = self.known_alias.known_candidate
        return MappingPosition(self.function_with(version), version, self.ramp(weight))

    def function_with(self, version: str) -> str:
        """Return the ARN of a version of the consumer's function."""
        return f"{self.function.rpartition(':')[0]}:{version}"

    def ramp(self, weight: float) -> MappingSettings:
        """Return the settings at a step of a ramp."""
        settings = self.held.share(weight, self.kind)
        return settings if self.of_queue else settings.blocking()

    @property
    def at_rest(self) -> MappingSettings:
        """Settings outside of a ramp, until the original ones are restored.

        Records that a stream's ramp has blocked must not be discarded for their age at the end of the ramp.
        """
        blocks = self.mode == "ramp" and self.holds and not self.of_queue
        return self.held.blocking() if blocks else self.original

    @property
    def holds(self) -> bool:
        """True if something must be restored after the promotion or rollback."""
        return self.holding is not None or self.blocks

    @property
    def held(self) -> MappingSettings:
        """Settings that send a stream's failed batches to the rollout's own queue."""
        if self.of_queue or self.holding is None:
            return self.original
        return self.original.model_copy(update={"on_failure": self.holding.arn})

    def with_alias(self, alias: AliasState) -> SourceState:
        """Return the state with an alias, both versions, and the code that was put into $LATEST."""
        of_alias = {"stable": alias.stable, "candidate": alias.candidate, "latest": alias.latest}
        to_release = self.to_release or alias.latest is not None
        return self.model_copy(update={"alias": alias, **of_alias, "to_release": to_release})

    def let_gone(self) -> SourceState:
        """Return the state after everything is restored."""
        return self.model_copy(update={"holding": None, "blocks": False, "to_release": False, "must_release": False})


class SourceServices(NamedTuple):
    """AWS services and settings of the driver."""

    functions: LambdaClient
    scaling: ScalingTargets
    queues: Queues
    holdings: RolloutQueues
    holding_prefix: str
    """Prefix of the names of the rollouts' own queues."""
    settle_seconds: int
    """Seconds until new attributes of a queue apply everywhere, 60 according to AWS:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html."""
    rejected: Callable[[str], RejectedCode | None]
    """Returns the code that an earlier rollout left in $LATEST of the function with this name, if one did."""
    stream_names: str = "*"
    """Pattern for the names of the streams, and of the tables with streams, that may be replayed."""
    now: Callable[[], float] = time.time
