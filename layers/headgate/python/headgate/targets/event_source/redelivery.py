"""Redelivers what a consumer failed on during its rollout, and removes the rollout's own queue.

Dead letters return to their source queue, or after a promotion go to your own dead-letter queue. Batches of a stream
are replayed for the version that serves. Then the redrive policy or the mapping's settings are as before the rollout.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.stream_mappings import stream_mapping
from headgate.errors import TargetChanged
from headgate.spec.target_state import Redriven
from headgate.targets.event_source.mapping import modified_at
from headgate.targets.event_source.rollout_dlq import REDELIVERED_PER_SECOND, RedeliveryResult
from headgate.targets.event_source.settings import mapping_settings_of
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationResponseTypeDef as MappingAnswer

    from headgate.aws.sqs_queues import MoveResult
    from headgate.aws.stream_mappings import StreamMapping
    from headgate.targets.event_source.mapping import ConsumerMapping
    from headgate.targets.event_source.rollout_dlq import RolloutQueue
    from headgate.targets.event_source.settings import MappingSettings
    from headgate.targets.event_source.state import SourceServices, SourceState
    from headgate.targets.progress import TargetProgress


SLICE_MARGIN_SECONDS = 2
"""Extra time in which a batch that an alias sent to the candidate may still be in progress."""

REDELIVERY_SLICE_SECONDS = 10
"""How long one call moves messages or records before the machine must call again. The warden waits 20 seconds for a
response."""


class Redelivery:
    """Empties a rollout's own queue and restores what it replaced.

    Parameters
    ----------
    services
        AWS services and settings.
    mapping
        The consumer's mapping.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock.
    promoted
        True if the candidate serves now instead of the stable version.
    """

    def __init__(
        self, services: SourceServices, mapping: ConsumerMapping, still_ours: Callable[[], None], *, promoted: bool
    ) -> None:
        self._services = services
        self._mapping = mapping
        self._still_ours = still_ours
        self._promoted = promoted

    def carry_out(self, state: SourceState) -> TargetProgress[SourceState]:
        """Empty the rollout's own queue, restore what it replaced, and delete it."""
        if state.holding is None:
            return self._let_go_of_limits(state) if state.blocks else Done(state.let_gone())
        if self._services.holdings.is_gone(state.holding):
            # Deleted by a call whose response was lost, or never created because the rollout ended before.
            over = state.holding.phase == "restored" or self._nothing_was_held(state, state.holding)
            if isinstance(over, Pending):
                return over
            if over:
                return self._let_gone(state, state.holding)
        self._still_ours()
        if state.of_queue:
            return self._let_go_of_messages(state, state.holding)
        return self._let_go_of_batches(state, state.holding)

    def _nothing_was_held(self, state: SourceState, holding: RolloutQueue) -> bool | Pending[SourceState]:
        """Return whether a missing queue is not configured anywhere, so that it cannot have received anything."""
        if state.of_queue:
            return not self._services.holdings.stands_in(holding, state.source)
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        return self._mapping.place(state, mapping).settings.on_failure != holding.arn

    def _let_go_of_messages(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Move dead letters back to the source, or after a promotion to your own dead-letter queue.

        A message move task of SQS moves most of them while the source's redrive policy still names the rollout's own
        queue; those of a FIFO queue are moved one by one. Late ones follow one by one, when the old policy is in effect
        everywhere. If somebody else has set another policy, all are moved one by one.

        Raises
        ------
        TargetChanged
            In that last case, when the rollout's own queue is empty.
        """
        if holding.phase != "restored":
            return self._give_policy_back(state, holding)
        return self._settles(state, holding) or self._move_late_messages(state, holding)

    def _give_policy_back(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState]:
        """Let SQS move the messages, then restore the source's redrive policy."""
        queues, redriven = self._services.queues, state.redriven or Redriven()
        try:
            stands_in = self._services.holdings.stands_in(holding, state.source)
        except TargetChanged as changed:
            if self._services.holdings.is_named(holding, state.source):
                raise TargetChanged(f"{changed}; what failed during the rollout is in {holding.name}") from None
            holding = holding.model_copy(update={"changed": str(changed)})
            return Pending(self._restored(state, holding), f"{holding.name}: {changed}")
        # Otherwise the policy was restored by a call whose response was lost, or never replaced.
        if stands_in:
            holding = holding.model_copy(update={"held": holding.held or queues.count(queues.url(holding.arn)).total})
            count_before = getattr(redriven, self._counted_as)
            if state.kind == "sqs-fifo":
                # A move task of SQS may lose messages of a FIFO queue.
                moved = self._move_one_by_one(state, holding)
                count = count_before + moved.moved
            else:
                destination = self._destination(state, holding)
                moved = MoveTasks(queues).move_whole(
                    holding.arn, destination, per_second=REDELIVERED_PER_SECOND, since=0
                )
                count = max(count_before, moved.moved)
            redriven = redriven.model_copy(update={self._counted_as: count})
            state = state.model_copy(update={"redriven": redriven, "holding": holding})
            # Do not wait for messages that fail again: with the restored policy they go to your own dead-letter queue.
            if not moved.done and count < max(1, holding.held):
                return Pending(state, f"{holding.name}: {count} messages moved so far; {moved.reason}")
            if waits := self._candidate_may_still_fail(state):
                return waits
            self._services.holdings.give_back_policy(holding, state.source)
        return Pending(self._restored(state, holding), f"{holding.name}: waiting for late failures")

    def _move_late_messages(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Move messages that arrived late, and delete the queue when it is empty."""
        queues, redriven = self._services.queues, state.redriven or Redriven()
        late = self._move_one_by_one(state, holding)
        if late.moved:
            count = getattr(redriven, self._counted_as) + late.moved
            state = state.model_copy(update={"redriven": redriven.model_copy(update={self._counted_as: count})})
        if late.moved or not late.done or queues.count(queues.url(holding.arn)).total:
            return Pending(state, f"{holding.name}: {late.moved} late messages moved; {late.reason}")
        self._services.holdings.delete(holding)
        return self._let_gone(state, holding)

    def _move_one_by_one(self, state: SourceState, holding: RolloutQueue) -> MoveResult:
        """Move what a slice has time for by receive, send and delete."""
        queues = self._services.queues
        url, destination = queues.url(holding.arn), queues.url(self._destination(state, holding))
        deadline = time.monotonic() + REDELIVERY_SLICE_SECONDS
        # Imported when it is needed: most calls of the driver redeliver nothing, and start sooner without it.
        from headgate.aws.sqs_mover import move_some

        return move_some(queues, url, destination, per_second=REDELIVERED_PER_SECOND, deadline=deadline)

    def _destination(self, state: SourceState, holding: RolloutQueue) -> str:
        """Return the ARN of the queue that dead letters go to."""
        return str(json.loads(holding.replaces)["deadLetterTargetArn"]) if self._promoted else state.source

    @property
    def _counted_as(self) -> str:
        """Name of the field of ``Redriven`` that counts these messages."""
        return "forwarded" if self._promoted else "returned"

    def _let_go_of_batches(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Restore the mapping's settings, then give the failed batches to the version that serves now."""
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        if waits := self._give_mapping_back(state, holding, mapping):
            return waits
        if holding.phase != "restored":
            return Pending(self._restored(state, holding), f"{holding.name}: waiting for late failures")
        return self._settles(state, holding) or self._redeliver_batches(state, holding, stream_mapping(mapping))

    def _give_mapping_back(
        self, state: SourceState, holding: RolloutQueue, mapping: MappingAnswer
    ) -> Pending[SourceState] | None:
        """Restore the mapping's settings. Return None when it has them, or the settings of somebody else.

        If somebody else has changed the mapping, that is recorded, and only the rollout's own queue is removed. In a
        ramp an error is raised instead, because most settings of the mapping are those of the ramp.
        """
        if holding.changed:
            return self._remove_rollout_queue(state, holding, mapping_settings_of(mapping, state.kind))
        try:
            found = self._mapping.place(state, mapping).settings
        except TargetChanged as changed:
            if state.mode == "ramp":
                raise
            holding = holding.model_copy(update={"changed": str(changed)})
            return Pending(state.model_copy(update={"holding": holding}), f"{holding.name}: {changed}")
        return None if found == state.original else self._give_settings_back(state, mapping, found)

    def _redeliver_batches(
        self, state: SourceState, holding: RolloutQueue, mapping: StreamMapping
    ) -> TargetProgress[SourceState]:
        """Give the failed batches to the version that serves now, and delete the queue when it is empty."""
        alias = state.known_alias
        function = state.function_with(alias.known_candidate if self._promoted else alias.stable)
        consumer = RedeliveryResult(function, state.timeout_seconds, state.original.batch_size, mapping)
        done, redriven = self._services.holdings.redeliver(
            holding, consumer, time.monotonic() + REDELIVERY_SLICE_SECONDS, state.redriven or Redriven()
        )
        state = state.model_copy(update={"redriven": redriven})
        if not done:
            return Pending(state, f"{holding.name}: {redriven.redelivered} records redelivered so far")
        left = self._services.queues.count(self._services.queues.url(holding.arn)).total
        if left > redriven.kept:
            # A call died while it had them. They become visible again after a while.
            return Pending(state, f"{holding.name}: {left - redriven.kept} batches are in flight")
        if redriven.kept:
            # There is no destination for them, so the queue stays, and the report names it.
            redriven = redriven.model_copy(update={"queue": holding.name})
            return self._let_gone(state.model_copy(update={"redriven": redriven}), holding)
        self._services.holdings.delete(holding)
        return self._let_gone(state, holding)

    def _remove_rollout_queue(
        self, state: SourceState, holding: RolloutQueue, found: MappingSettings
    ) -> Pending[SourceState] | None:
        """Restore only the on-failure destination of a mapping that somebody else has changed."""
        if found.on_failure != holding.arn:
            return None
        if waits := self._candidate_may_still_fail(state):
            return waits
        wanted = found.model_copy(update={"on_failure": state.original.on_failure})
        return self._mapping.update(**wanted.changes(found, state.kind)) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is being updated with its original on-failure destination"
        )

    def _let_go_of_limits(self, state: SourceState) -> TargetProgress[SourceState]:
        """Restore the limits of a mapping whose on-failure destination is not a queue."""
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        found = self._mapping.place(state, mapping).settings
        return Done(state.let_gone()) if found == state.original else self._give_settings_back(state, mapping, found)

    def _give_settings_back(
        self, state: SourceState, mapping: MappingAnswer, found: MappingSettings
    ) -> Pending[SourceState]:
        """Bring a mapping's settings one step closer to the original ones.

        Records that a ramp has blocked are processed first, in order. Records that are too old for the restored limits
        go to the rollout's own queue, if there is one, and are redelivered.
        """
        if waits := self._candidate_may_still_fail(state):
            return waits
        if found != state.held:
            left = state.shifted_at / 1000 + self._services.settle_seconds - self._services.now()
            if left > 0:
                return Pending(state, f"{state.source}: processing blocked records first, {left:.0f} s")
            return self._mapping.update(**state.held.changes(found, state.kind)) or Pending(
                state, f"target.mapping: {self._mapping.uuid} is being updated with its original limits"
            )
        left = modified_at(mapping) + self._services.settle_seconds - self._services.now()
        if left > 0:
            return Pending(state, f"{state.source}: discarding records that are too old, {left:.0f} s")
        return self._mapping.update(**state.original.changes(found, state.kind)) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is being updated with its original settings"
        )

    def _let_gone(self, state: SourceState, holding: RolloutQueue) -> Done[SourceState]:
        """Return the state after the restore. Raise TargetChanged if somebody else had changed the settings."""
        if holding.changed:
            where = "is in your own dead-letter queue" if self._promoted else f"is back in {state.source}"
            if not state.of_queue:
                kept = state.redriven and state.redriven.kept
                where = f"is in {holding.name}" if kept else "was redelivered"
            raise TargetChanged(f"{holding.changed}; what failed during the rollout {where}")
        return Done(state.let_gone())

    def _candidate_may_still_fail(self, state: SourceState) -> Pending[SourceState] | None:
        """Return Pending while the candidate may still fail on messages that it received before its replacement.

        A message that has reached its maximum receive count with the candidate becomes a dead letter at the next
        receive, after its visibility timeout. And a message that has blocked its group was received more often than
        your own policy allows: the stable version must process it before that policy is restored.
        """
        if self._promoted:
            return None
        replaced_for = self._services.now() - state.shifted_at / 1000
        if replaced_for < state.timeout_seconds + SLICE_MARGIN_SECONDS:
            return Pending(state, f"{state.source}: the candidate may still be running")
        if state.of_queue and replaced_for < state.timeout_seconds + state.visibility_seconds + SLICE_MARGIN_SECONDS:
            # An empty queue cannot fail. In another one any message may be at its last receive.
            left = self._services.queues.count(self._services.queues.url(state.source)).total
            if left:
                return Pending(state, f"{state.source}: {left} messages may have failed with the candidate")
        return None

    def _restored(self, state: SourceState, holding: RolloutQueue) -> SourceState:
        """Return the state after the original settings are restored."""
        restored = holding.model_copy(update={"restored_at": int(self._services.now())})
        return state.model_copy(update={"holding": restored})

    def _settles(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState] | None:
        """Return Pending until the restored settings are in effect everywhere."""
        left = holding.restored_at + self._services.settle_seconds - self._services.now()
        return Pending(state, f"{holding.name}: waiting for late failures, {left:.0f} s") if left > 0 else None
