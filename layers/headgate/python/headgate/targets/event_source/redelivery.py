"""What a consumer failed on during its rollout is delivered again, and what held it is taken away.

Dead letters go back to their queue, or after a promotion on to the team's own; batches of a stream are read again for
the version that serves. After that the redrive policy or the mapping's settings are as they were before the rollout.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.sqs_mover import move_some
from headgate.errors import TargetChanged, TargetNotReady
from headgate.targets.event_source.mapping import modified_at
from headgate.targets.event_source.rollout_dlq import REDELIVERED_PER_SECOND, RedeliveryResult, Redriven
from headgate.targets.event_source.settings import mapping_settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.targets.event_source.mapping import ConsumerMapping
    from headgate.targets.event_source.rollout_dlq import RolloutQueue
    from headgate.targets.event_source.settings import MappingSettings
    from headgate.targets.event_source.state import MappingPosition, SourceServices, SourceState


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

    def carry_out(self, state: SourceState) -> SourceState:
        """Empty the rollout's own queue, put back what it stood in for, and delete it; TargetNotReady until done."""
        if state.holding is None:
            return self._let_go_of_limits(state) if state.blocks else state.let_gone()
        # Deleted by a call whose answer was lost; or never made, as the rollout ended before.
        if self._services.holdings.is_gone(state.holding) and (
            state.holding.restored_at or self._nothing_was_held(state, state.holding)
        ):
            return self._let_gone(state, state.holding)
        self._still_ours()
        if state.of_queue:
            return self._let_go_of_messages(state, state.holding)
        return self._let_go_of_batches(state, state.holding)

    def _nothing_was_held(self, state: SourceState, holding: RolloutQueue) -> bool:
        """Whether a queue that is not there stands in for nothing, so that nothing can have come to it."""
        if state.of_queue:
            return not self._services.holdings.stands_in(holding, state.source)
        return self._mapping.place(state, self._mapping.settled(state)).settings.on_failure != holding.arn

    def _let_go_of_messages(self, state: SourceState, holding: RolloutQueue) -> SourceState:
        """Move dead letters back to the source, or after a promotion to the team's own dead-letter queue.

        First by SQS, as long as the source's redrive policy still names the rollout's own queue; then, when the old
        policy holds everywhere, what came late one by one. Where somebody else has set another policy, that is how all
        of it goes.

        Raises
        ------
        TargetChanged
            In that case, when nothing is held any more.
        """
        queues, told = self._services.queues, state.redriven or Redriven()
        destination = json.loads(holding.replaces)["deadLetterTargetArn"] if self._promoted else state.source
        counted_as = "forwarded" if self._promoted else "returned"
        if not holding.restored_at:
            try:
                stands_in = self._services.holdings.stands_in(holding, state.source)
            except TargetChanged as changed:
                if self._services.holdings.is_named(holding, state.source):
                    raise TargetChanged(f"{changed}; what failed during the rollout is in {holding.name}") from None
                holding = holding.model_copy(update={"changed": str(changed)})
                raise TargetNotReady(f"{holding.name}: {changed}", self._restored(state, holding)) from None
            # A policy that is the team's own again was given back by a call whose answer was lost, or never replaced.
            if stands_in:
                holding = holding.model_copy(
                    update={"held": holding.held or queues.count(queues.url(holding.arn)).total}
                )
                moved = MoveTasks(queues).move_whole(
                    holding.arn, destination, per_second=REDELIVERED_PER_SECOND, since=0
                )
                told = told.model_copy(update={counted_as: max(getattr(told, counted_as), moved.moved)})
                state = state.model_copy(update={"redriven": told, "holding": holding})
                # What comes straight back has had its chance: it goes where the team has it, once the policy is theirs.
                if not moved.done and moved.moved < max(1, holding.held):
                    so_far = f"{moved.moved} messages are moved so far; {moved.reason}"
                    raise TargetNotReady(f"{holding.name}: {so_far}", state)
                self._await_what_the_candidate_had(state)
                self._services.holdings.give_back_policy(holding, state.source)
            raise TargetNotReady(f"{holding.name}: what comes late is waited for", self._restored(state, holding))
        self._await_settled(state, holding)
        url = queues.url(holding.arn)
        deadline = time.monotonic() + REDELIVERY_SLICE_SECONDS
        late = move_some(queues, url, queues.url(destination), per_second=REDELIVERED_PER_SECOND, deadline=deadline)
        if late.moved:
            told = told.model_copy(update={counted_as: getattr(told, counted_as) + late.moved})
            state = state.model_copy(update={"redriven": told})
        if late.moved or not late.done or queues.count(url).total:
            raise TargetNotReady(f"{holding.name}: {late.moved} messages came late; {late.reason}", state)
        self._services.holdings.delete(holding)
        return self._let_gone(state, holding)

    def _let_gone(self, state: SourceState, holding: RolloutQueue) -> SourceState:
        """The state once nothing is held any more, unless there is something to tell of what it stood in for."""
        if holding.changed:
            where = "is with the team's dead letters" if self._promoted else f"is back in {state.source}"
            if not state.of_queue:
                kept = state.redriven and state.redriven.kept
                where = f"is in {holding.name}" if kept else "was delivered again"
            raise TargetChanged(f"{holding.changed}; what failed during the rollout {where}")
        return state.let_gone()

    def _let_go_of_batches(self, state: SourceState, holding: RolloutQueue) -> SourceState:
        """Point the mapping's failures at where they went before; give what was held to the version that serves now."""
        mapping = self._mapping.settled(state)
        if holding.changed:
            self._take_the_holding_away(state, holding, mapping_settings_of(mapping, state.kind))
        else:
            found = self._place_unless_changed(state, holding, mapping)
            if found.settings != state.original:
                self._give_settings_back(state, mapping, found.settings)
        if not holding.restored_at:
            raise TargetNotReady(f"{holding.name}: what comes late is waited for", self._restored(state, holding))
        self._await_settled(state, holding)
        alias = state.known_alias
        function = state.function_with(alias.candidate if self._promoted else alias.stable)
        consumer = RedeliveryResult(function, state.timeout_seconds, state.original.batch_size)
        done, told = self._services.holdings.redeliver(
            holding, consumer, time.monotonic() + REDELIVERY_SLICE_SECONDS, state.redriven or Redriven()
        )
        state = state.model_copy(update={"redriven": told})
        if not done:
            raise TargetNotReady(f"{holding.name}: {told.redelivered} records are delivered again so far", state)
        left = self._services.queues.count(self._services.queues.url(holding.arn)).total
        if left > told.kept:
            # In the hands of a call that has died: hidden for a while, and then visible again.
            raise TargetNotReady(f"{holding.name}: {left - told.kept} batches are in flight", state)
        if told.kept:
            # Nobody else was to have them, so the queue stays, and the report names it.
            told = told.model_copy(update={"queue": holding.name})
            return self._let_gone(state.model_copy(update={"redriven": told}), holding)
        self._services.holdings.delete(holding)
        return self._let_gone(state, holding)

    def _place_unless_changed(self, state: SourceState, holding: RolloutQueue, mapping: Any) -> MappingPosition:
        """Where the mapping stands; where somebody else has put it, that is noted, and the rollout's own is undone.

        Not in a ramp: it has given nothing up, and the settings with which it blocks are all over the mapping.
        """
        try:
            return self._mapping.place(state, mapping)
        except TargetChanged as changed:
            if state.mode == "ramp":
                raise
            holding = holding.model_copy(update={"changed": str(changed)})
            noted = state.model_copy(update={"holding": holding})
            raise TargetNotReady(f"{holding.name}: {changed}", noted) from None

    def _take_the_holding_away(self, state: SourceState, holding: RolloutQueue, found: MappingSettings) -> None:
        """Point the failures of a mapping that somebody else has changed at where they went, and leave all else."""
        if found.on_failure != holding.arn:
            return
        self._await_what_the_candidate_had(state)
        wanted = found.model_copy(update={"on_failure": state.original.on_failure})
        self._mapping.update(**wanted.changes(found, state.kind))
        raise TargetNotReady(f"target.mapping: {self._mapping.uuid} is getting its on-failure destination back", state)

    def _let_go_of_limits(self, state: SourceState) -> SourceState:
        """Give a mapping its limits back whose failures go to what is no queue."""
        mapping = self._mapping.settled(state)
        found = self._mapping.place(state, mapping)
        if found.settings != state.original:
            self._give_settings_back(state, mapping, found.settings)
        return state.let_gone()

    def _give_settings_back(self, state: SourceState, mapping: Any, found: MappingSettings) -> None:
        """Take a mapping's settings a step back to what they were; raises TargetNotReady.

        What a ramp has blocked is worked off first, in its order. What is too old by then for the limits that come back
        is given up to the rollout's own queue, if there is one, and delivered again.
        """
        self._await_what_the_candidate_had(state)
        if found != state.held:
            left = state.shifted_at / 1000 + self._services.settle_seconds - self._services.now()
            if left > 0:
                raise TargetNotReady(f"{state.source}: what was blocked is worked off first, {left:.0f} s", state)
            self._mapping.update(**state.held.changes(found, state.kind))
            raise TargetNotReady(f"target.mapping: {self._mapping.uuid} is getting its limits back", state)
        left = modified_at(mapping) + self._services.settle_seconds - self._services.now()
        if left > 0:
            raise TargetNotReady(f"{state.source}: what is too old is given up, {left:.0f} s", state)
        self._mapping.update(**state.original.changes(found, state.kind))
        raise TargetNotReady(f"target.mapping: {self._mapping.uuid} is getting its own settings back", state)

    def _await_what_the_candidate_had(self, state: SourceState) -> None:
        """Go on holding for as long as the candidate may still fail on what it had in hand when it was replaced.

        A message that has used its receives up with the candidate is given up when it would be received once more,
        after its visibility timeout. And one that has blocked its group was received more often than the team's own
        policy allows: the stable version must have had it before that is back.
        """
        if self._promoted:
            return
        replaced_for = self._services.now() - state.shifted_at / 1000
        if replaced_for < state.timeout_seconds + SLICE_MARGIN_SECONDS:
            raise TargetNotReady(f"{state.source}: the candidate may still be at work", state)
        if state.of_queue and replaced_for < state.timeout_seconds + state.visibility_seconds + SLICE_MARGIN_SECONDS:
            # Of an empty queue nothing is to come; of another one any message may be on its last receive.
            left = self._services.queues.count(self._services.queues.url(state.source)).total
            if left:
                raise TargetNotReady(f"{state.source}: {left} messages may be what the candidate failed on", state)

    def _restored(self, state: SourceState, holding: RolloutQueue) -> SourceState:
        """The state once what the rollout's own queue stood in for is back in its place."""
        restored = holding.model_copy(update={"restored_at": int(self._services.now())})
        return state.model_copy(update={"holding": restored})

    def _await_settled(self, state: SourceState, holding: RolloutQueue) -> None:
        left = holding.restored_at + self._services.settle_seconds - self._services.now()
        if left > 0:
            raise TargetNotReady(f"{holding.name}: what comes late is waited for, {left:.0f} s", state)
