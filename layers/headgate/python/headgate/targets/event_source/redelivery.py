"""What a consumer failed on during its rollout is delivered again, and what held it is taken away.

Dead letters go back to their queue, or after a promotion on to the team's own; batches of a stream are read again for
the version that serves. After that the redrive policy or the mapping's settings are as they were before the rollout.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.sqs_mover import move_some
from headgate.errors import TargetChanged
from headgate.spec.target_state import Redriven
from headgate.targets.event_source.mapping import modified_at
from headgate.targets.event_source.rollout_dlq import REDELIVERED_PER_SECOND, RedeliveryResult
from headgate.targets.event_source.settings import mapping_settings_of
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationResponseTypeDef as MappingAnswer

    from headgate.targets.event_source.mapping import ConsumerMapping
    from headgate.targets.event_source.rollout_dlq import RolloutQueue
    from headgate.targets.event_source.settings import MappingSettings
    from headgate.targets.event_source.state import SourceServices, SourceState
    from headgate.targets.progress import TargetProgress


SLICE_MARGIN_SECONDS = 2
"""How much longer than it should take a batch that an alias has picked the candidate for may be on its way."""

REDELIVERY_SLICE_SECONDS = 10
"""How long one call moves messages or records before the machine is told to call again. The warden waits 20 seconds for
an answer."""


class Redelivery:
    """Empties a rollout's own queue, and puts back what it stood in for.

    Parameters
    ----------
    services
        AWS.
    mapping
        The consumer's.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock.
    promoted
        Whether the candidate serves now, and not the stable version.
    """

    def __init__(
        self, services: SourceServices, mapping: ConsumerMapping, still_ours: Callable[[], None], *, promoted: bool
    ) -> None:
        self._services = services
        self._mapping = mapping
        self._still_ours = still_ours
        self._promoted = promoted

    def carry_out(self, state: SourceState) -> TargetProgress[SourceState]:
        """Empty the rollout's own queue, put back what it stood in for, and delete it."""
        if state.holding is None:
            return self._let_go_of_limits(state) if state.blocks else Done(state.let_gone())
        if self._services.holdings.is_gone(state.holding):
            # Deleted by a call whose answer was lost; or never made, as the rollout ended before.
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
        """Whether a queue that is not there stands in for nothing, so that nothing can have come to it."""
        if state.of_queue:
            return not self._services.holdings.stands_in(holding, state.source)
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        return self._mapping.place(state, mapping).settings.on_failure != holding.arn

    # Messages of a queue

    def _let_go_of_messages(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Move dead letters back to the source, or after a promotion to the team's own dead-letter queue.

        First by SQS, as long as the source's redrive policy still names the rollout's own queue; then, when the old
        policy holds everywhere, what came late one by one. Where somebody else has set another policy, that is how all
        of it goes.

        Raises
        ------
        TargetChanged
            In that case, when nothing is held any more.
        """
        if holding.phase != "restored":
            return self._give_policy_back(state, holding)
        return self._settles(state, holding) or self._move_late_messages(state, holding)

    def _give_policy_back(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState]:
        """Let SQS move what is held, and then give the source its own redrive policy back."""
        queues, told = self._services.queues, state.redriven or Redriven()
        try:
            stands_in = self._services.holdings.stands_in(holding, state.source)
        except TargetChanged as changed:
            if self._services.holdings.is_named(holding, state.source):
                raise TargetChanged(f"{changed}; what failed during the rollout is in {holding.name}") from None
            holding = holding.model_copy(update={"changed": str(changed)})
            return Pending(self._restored(state, holding), f"{holding.name}: {changed}")
        # A policy that is the team's own again was given back by a call whose answer was lost, or never replaced.
        if stands_in:
            holding = holding.model_copy(update={"held": holding.held or queues.count(queues.url(holding.arn)).total})
            moved = MoveTasks(queues).move_whole(
                holding.arn, self._destination(state, holding), per_second=REDELIVERED_PER_SECOND, since=0
            )
            told = told.model_copy(update={self._counted_as: max(getattr(told, self._counted_as), moved.moved)})
            state = state.model_copy(update={"redriven": told, "holding": holding})
            # What comes straight back has had its chance: it goes where the team has it, once the policy is theirs.
            if not moved.done and moved.moved < max(1, holding.held):
                return Pending(state, f"{holding.name}: {moved.moved} messages are moved so far; {moved.reason}")
            if waits := self._candidate_may_still_fail(state):
                return waits
            self._services.holdings.give_back_policy(holding, state.source)
        return Pending(self._restored(state, holding), f"{holding.name}: what comes late is waited for")

    def _move_late_messages(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Move what came after SQS had moved the rest, and delete the queue once nothing is left."""
        queues, told = self._services.queues, state.redriven or Redriven()
        url, destination = queues.url(holding.arn), queues.url(self._destination(state, holding))
        deadline = time.monotonic() + REDELIVERY_SLICE_SECONDS
        late = move_some(queues, url, destination, per_second=REDELIVERED_PER_SECOND, deadline=deadline)
        if late.moved:
            told = told.model_copy(update={self._counted_as: getattr(told, self._counted_as) + late.moved})
            state = state.model_copy(update={"redriven": told})
        if late.moved or not late.done or queues.count(url).total:
            return Pending(state, f"{holding.name}: {late.moved} messages came late; {late.reason}")
        self._services.holdings.delete(holding)
        return self._let_gone(state, holding)

    def _destination(self, state: SourceState, holding: RolloutQueue) -> str:
        """ARN of the queue that dead letters go to."""
        return str(json.loads(holding.replaces)["deadLetterTargetArn"]) if self._promoted else state.source

    @property
    def _counted_as(self) -> str:
        """The field of ``Redriven`` that counts messages which went there."""
        return "forwarded" if self._promoted else "returned"

    # Batches of a stream

    def _let_go_of_batches(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Point the mapping's failures at where they went before; give what was held to the version that serves now."""
        if waits := self._give_mapping_back(state, holding):
            return waits
        if holding.phase != "restored":
            return Pending(self._restored(state, holding), f"{holding.name}: what comes late is waited for")
        return self._settles(state, holding) or self._redeliver_batches(state, holding)

    def _give_mapping_back(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState] | None:
        """Give the mapping its own settings back; None once it has them, or what somebody else has made of them.

        A mapping that somebody else has changed is noted, and only the rollout's own queue is taken out of it. Not in
        a ramp: it has given nothing up, and the settings with which it blocks are all over the mapping.
        """
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        if holding.changed:
            return self._take_the_holding_away(state, holding, mapping_settings_of(mapping, state.kind))
        try:
            found = self._mapping.place(state, mapping).settings
        except TargetChanged as changed:
            if state.mode == "ramp":
                raise
            holding = holding.model_copy(update={"changed": str(changed)})
            return Pending(state.model_copy(update={"holding": holding}), f"{holding.name}: {changed}")
        return None if found == state.original else self._give_settings_back(state, mapping, found)

    def _redeliver_batches(self, state: SourceState, holding: RolloutQueue) -> TargetProgress[SourceState]:
        """Give what is held to the version that serves now, and delete the queue once nothing is left."""
        alias = state.known_alias
        function = state.function_with(alias.candidate if self._promoted else alias.stable)
        consumer = RedeliveryResult(function, state.timeout_seconds, state.original.batch_size)
        done, told = self._services.holdings.redeliver(
            holding, consumer, time.monotonic() + REDELIVERY_SLICE_SECONDS, state.redriven or Redriven()
        )
        state = state.model_copy(update={"redriven": told})
        if not done:
            return Pending(state, f"{holding.name}: {told.redelivered} records are delivered again so far")
        left = self._services.queues.count(self._services.queues.url(holding.arn)).total
        if left > told.kept:
            # In the hands of a call that has died: hidden for a while, and then visible again.
            return Pending(state, f"{holding.name}: {left - told.kept} batches are in flight")
        if told.kept:
            # Nobody else was to have them, so the queue stays, and the report names it.
            told = told.model_copy(update={"queue": holding.name})
            return self._let_gone(state.model_copy(update={"redriven": told}), holding)
        self._services.holdings.delete(holding)
        return self._let_gone(state, holding)

    def _take_the_holding_away(
        self, state: SourceState, holding: RolloutQueue, found: MappingSettings
    ) -> Pending[SourceState] | None:
        """Point the failures of a mapping that somebody else has changed at where they went, and leave all else."""
        if found.on_failure != holding.arn:
            return None
        if waits := self._candidate_may_still_fail(state):
            return waits
        wanted = found.model_copy(update={"on_failure": state.original.on_failure})
        return self._mapping.update(**wanted.changes(found, state.kind)) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is getting its on-failure destination back"
        )

    def _let_go_of_limits(self, state: SourceState) -> TargetProgress[SourceState]:
        """Give a mapping its limits back whose failures go to what is no queue."""
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        found = self._mapping.place(state, mapping).settings
        return Done(state.let_gone()) if found == state.original else self._give_settings_back(state, mapping, found)

    def _give_settings_back(
        self, state: SourceState, mapping: MappingAnswer, found: MappingSettings
    ) -> Pending[SourceState]:
        """Take a mapping's settings a step back to what they were.

        What a ramp has blocked is worked off first, in its order. What is too old by then for the limits that come back
        is given up to the rollout's own queue, if there is one, and delivered again.
        """
        if waits := self._candidate_may_still_fail(state):
            return waits
        if found != state.held:
            left = state.shifted_at / 1000 + self._services.settle_seconds - self._services.now()
            if left > 0:
                return Pending(state, f"{state.source}: what was blocked is worked off first, {left:.0f} s")
            return self._mapping.update(**state.held.changes(found, state.kind)) or Pending(
                state, f"target.mapping: {self._mapping.uuid} is getting its limits back"
            )
        left = modified_at(mapping) + self._services.settle_seconds - self._services.now()
        if left > 0:
            return Pending(state, f"{state.source}: what is too old is given up, {left:.0f} s")
        return self._mapping.update(**state.original.changes(found, state.kind)) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is getting its own settings back"
        )

    # Both

    def _let_gone(self, state: SourceState, holding: RolloutQueue) -> Done[SourceState]:
        """The state once nothing is held any more, unless there is something to tell of what it stood in for."""
        if holding.changed:
            where = "is with the team's dead letters" if self._promoted else f"is back in {state.source}"
            if not state.of_queue:
                kept = state.redriven and state.redriven.kept
                where = f"is in {holding.name}" if kept else "was delivered again"
            raise TargetChanged(f"{holding.changed}; what failed during the rollout {where}")
        return Done(state.let_gone())

    def _candidate_may_still_fail(self, state: SourceState) -> Pending[SourceState] | None:
        """Hold for as long as the candidate may still fail on what it had in hand when it was replaced; then None.

        A message that has used its receives up with the candidate is given up when it would be received once more,
        after its visibility timeout. And one that has blocked its group was received more often than the team's own
        policy allows: the stable version must have had it before that is back.
        """
        if self._promoted:
            return None
        replaced_for = self._services.now() - state.shifted_at / 1000
        if replaced_for < state.timeout_seconds + SLICE_MARGIN_SECONDS:
            return Pending(state, f"{state.source}: the candidate may still be at work")
        if state.of_queue and replaced_for < state.timeout_seconds + state.visibility_seconds + SLICE_MARGIN_SECONDS:
            # Of an empty queue nothing is to come; of another one any message may be on its last receive.
            left = self._services.queues.count(self._services.queues.url(state.source)).total
            if left:
                return Pending(state, f"{state.source}: {left} messages may be what the candidate failed on")
        return None

    def _restored(self, state: SourceState, holding: RolloutQueue) -> SourceState:
        """The state once what the rollout's own queue stood in for is back in its place."""
        restored = holding.model_copy(update={"restored_at": int(self._services.now())})
        return state.model_copy(update={"holding": restored})

    def _settles(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState] | None:
        """Wait until the restored settings hold everywhere; then None."""
        left = holding.restored_at + self._services.settle_seconds - self._services.now()
        return Pending(state, f"{holding.name}: what comes late is waited for, {left:.0f} s") if left > 0 else None
