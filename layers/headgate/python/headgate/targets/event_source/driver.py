"""Driver for consumers: Lambda functions behind an event source mapping of a queue or stream.

split: the mapping points at an alias, whose weights select the version for each batch.
ramp: the mapping is stopped, drained, pointed at the candidate, and started with little concurrency, which grows step
by step. Stable and candidate never work side by side.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headgate.aws.errors import message_of
from headgate.aws.patterns import Patterns
from headgate.errors import RequestRefused, TargetChanged
from headgate.spec.position import PROMOTED, Weight
from headgate.targets.event_source.lookup import refuse_unfit
from headgate.targets.event_source.mapping import SETTLED_STATES, ConsumerMapping, modified_at
from headgate.targets.event_source.redelivery import Redelivery
from headgate.targets.event_source.rollout_dlq import PROPAGATION_SECONDS, RolloutQueue, rollout_queue_for
from headgate.targets.event_source.settings import (
    MappingSettings,
    mapping_settings_of,
    mode_of,
    source_of,
    visibility_faults,
)
from headgate.targets.event_source.state import MappingPosition, SourceServices, SourceState
from headgate.targets.lambda_alias import AliasState, LambdaAliasDriver
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationResponseTypeDef as MappingAnswer

    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.progress import TargetProgress

    MoveAlias = Callable[[AliasState], TargetProgress[AliasState]]


class EventSourceDriver:
    """Moves one consumer.

    Parameters
    ----------
    services
        AWS services and settings.
    plan
        The rollout's plan. Its ``through`` is the alias that the mapping points at.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock. Called before each change.
    aim
        The position that the last forward step requested, even if its response was lost.
    """

    def __init__(
        self, services: SourceServices, plan: Plan, still_ours: Callable[[], None], aim: Position | None = None
    ) -> None:
        self._services = services
        self._plan = plan
        self._still_ours = still_ours
        self._aim = aim
        self._alias = LambdaAliasDriver(
            services.functions, services.scaling, plan, still_ours, aim, rejected=services.rejected
        )
        self._mapping = ConsumerMapping(services.functions, plan, self._alias, still_ours)

    def describe(self) -> dict[str, Any]:
        """Return the version behind the mapping's alias, and the mapping's state and settings."""
        mapping = self._mapping.find()
        settings = mapping_settings_of(mapping, source_of(mapping)[1])
        return {
            "version": self._alias.describe()["version"],
            "function": mapping["FunctionArn"],
            "state": mapping["State"],
            "settings": settings.to_wire(),
        }

    def prepare(self, known: SourceState | None = None) -> TargetProgress[SourceState]:
        """Check mapping, source and versions, publish the candidate, and send failures to the rollout's own queue.

        Raises
        ------
        RequestRefused
            If the target or the candidate does not allow the rollout. Traffic did not change.
        """
        mapping = self._mapping.find()
        checked = Done(known) if known else self._check_mapping(mapping)
        if isinstance(checked, Pending):
            return checked
        replaces = self._to_replace(checked.state)
        self._refuse_useless_limit(checked.state, replaces)
        prepared = self._with_versions(checked.state)
        if isinstance(prepared, Pending):
            return prepared
        state = prepared.state
        if replaces is not None and (waits := self._hold(state, replaces, mapping)):
            return waits
        blocks = state.mode == "ramp" and not state.of_queue and state.original.gives_up and state.holding is None
        state = state.model_copy(update={"blocks": blocks})
        to_release = state.holds or state.latest is not None
        return Done(state.model_copy(update={"to_release": to_release, "must_release": state.holds}))

    def shift(self, state: SourceState, weight: float) -> TargetProgress[SourceState]:
        """Give the candidate ``weight`` percent of the batches (split) or of the throughput (ramp)."""
        if state.mode == "split":
            if waits := self._require_the_alias(state):
                return waits
            alias = self._alias.shift(state.known_alias, weight)
            if isinstance(alias, Pending):
                return _waits_for_alias(state, alias)
            changes = {"alias": alias.state, "position": Weight(weight), "shifted_at": self._milliseconds()}
            return Done(state.model_copy(update=changes))
        wanted = state.candidate_place(weight) if weight else state.stable_place
        return self._place(state, wanted, Weight(weight))

    def promote(self, state: SourceState) -> TargetProgress[SourceState]:
        """Point the alias at the candidate, and the mapping at the alias as before."""
        if state.mode == "split":
            if waits := self._require_the_alias(state):
                return waits
            return self._moved(state, self._alias.promote, PROMOTED)
        if not state.parked:
            # What may take minutes comes before the mapping is stopped.
            ready = self._alias.prepare_promotion(state.known_alias)
            if isinstance(ready, Pending):
                return _waits_for_alias(state, ready)
            state = state.with_alias(ready.state)
        wanted = MappingPosition(state.function, state.known_alias.known_candidate, state.at_rest)
        return self._place(state, wanted, PROMOTED, self._alias.promote)

    def rollback(self, state: SourceState) -> TargetProgress[SourceState]:
        """Let the stable version process everything, as before the rollout."""
        if state.alias is None or state.alias.candidate is None:
            return Done(state)  # Nothing was moved yet.
        if state.mode == "split":
            moved = self._moved(state, self._alias.rollback, Weight(0))
            if isinstance(moved, Pending):
                return moved
            self._mapping.require_the_alias(state, at_work=False)
            return moved
        return self._place(state, state.stable_place, Weight(0), self._alias.rollback)

    def release(self, state: SourceState) -> TargetProgress[SourceState]:
        """Send what failed during the rollout to its usual destination, after a promotion."""
        if state.alias is not None and state.alias.to_release:
            released = self._alias.release(state.alias)
            if isinstance(released, Pending):
                return _waits_for_alias(state, released)
        return self._redelivery(promoted=True).carry_out(state)

    def restore(self, state: SourceState) -> TargetProgress[SourceState]:
        """Deliver what failed during the rollout to the stable version after a rollback, then restore $LATEST."""
        try:
            delivered = self._redelivery(promoted=False).carry_out(state)
        except TargetChanged:
            if waits := self._restore_code(state):
                return waits
            raise
        if isinstance(delivered, Pending):
            return delivered
        return self._restore_code(delivered.state) or delivered

    def _restore_code(self, state: SourceState) -> Pending[SourceState] | None:
        """Give $LATEST the stable version's code back. Return None when that is over and recorded."""
        if state.latest is None or state.latest.kept:
            return None
        # A recovery reads from the state that something is left to do.
        state = state.model_copy(update={"to_release": True})
        restored = self._alias.restore(state.known_alias)
        if isinstance(restored, Pending):
            return _waits_for_alias(state, restored)
        return Pending(state.with_alias(restored.state), f"{state.function}: the code in $LATEST was checked")

    def _redelivery(self, *, promoted: bool) -> Redelivery:
        return Redelivery(self._services, self._mapping, self._still_ours, promoted=promoted)

    def _check_mapping(self, mapping: MappingAnswer) -> TargetProgress[SourceState]:
        """Return the state of the unchanged mapping. Refuse one that cannot be rolled out."""
        source, kind = source_of(mapping)
        refuse_unfit(mapping, kind)
        if mapping["State"] != "Enabled":
            return Pending(None, f"target.mapping: {self._mapping.uuid} is {mapping['State']}")
        state = SourceState(
            mode=mode_of(self._mapping.mode, mapping, kind),
            kind=kind,
            source=source,
            function=mapping["FunctionArn"],
            original=mapping_settings_of(mapping, kind),
        )
        return Done(state)

    def _with_versions(self, state: SourceState) -> TargetProgress[SourceState]:
        """Return the state with both versions, which the driver of the alias prepares."""
        prepared = self._alias.prepare(state.alias)
        if isinstance(prepared, Pending):
            return _waits_for_alias(state, prepared)
        alias = prepared.state
        state = state.with_alias(alias)
        timeouts = {
            alias.stable: int(self._alias.configuration(alias.stable, "target.mapping")["Timeout"]),
            alias.known_candidate: int(self._alias.configuration(alias.known_candidate, "candidate")["Timeout"]),
        }
        visibility = self._visibility(state)
        if state.of_queue and (
            faults := visibility_faults(visibility, timeouts[alias.known_candidate], alias.known_candidate)
        ):
            raise RequestRefused("; ".join(faults))
        longest = max(timeouts.values())
        count, url = self._services.queues.count, self._services.queues.url
        waiting = count(url(state.source)).visible if state.of_queue else None
        found = {"timeout_seconds": longest, "visibility_seconds": visibility, "backlog": waiting}
        return Done(state.model_copy(update=found))

    def _visibility(self, state: SourceState) -> int:
        if not state.of_queue:
            return 0
        return int(self._services.holdings.attributes(state.source, "VisibilityTimeout")["VisibilityTimeout"])

    def _hold(self, state: SourceState, replaces: str, mapping: MappingAnswer) -> Pending[SourceState] | None:
        """Send failures of the candidate to the rollout's own queue. Return None when that is in effect."""
        if state.holding is None:
            # Record the intent before the change, so that a recovery knows what to undo.
            fifo = state.kind == "sqs-fifo"
            holding = rollout_queue_for(
                self._plan.rollout_id, state.source, replaces, prefix=self._services.holding_prefix, fifo=fifo
            )
            if not state.of_queue:
                holding = holding.model_copy(update={"planned_at": int(self._services.now())})
            planned = {"holding": holding, "to_release": True, "must_release": True}
            return Pending(state.model_copy(update=planned), f"target: {holding.name} will receive failures")
        self._still_ours()
        if state.of_queue:
            return self._hold_messages(state, state.holding)
        self._services.holdings.make(
            state.holding, self._plan.rollout_id, self._mapping.uuid, sender_role=self._role(state)
        )
        if mapping["State"] not in SETTLED_STATES:
            return Pending(state, f"target.mapping: {self._mapping.uuid} is {mapping['State']}")
        found = self._mapping.place(state, mapping).settings
        if found == state.held:
            return None
        return self._send_failures_to_rollout_queue(state, state.holding, found) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is being changed to send failures to {state.holding.name}"
        )

    def _hold_messages(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState] | None:
        """Point the redrive policy at the rollout's own queue. Return None when that is in effect."""
        key = self._services.holdings.attributes(state.source, "KmsMasterKeyId").get("KmsMasterKeyId", "")
        self._services.holdings.make(holding, self._plan.rollout_id, self._mapping.uuid, key=key)
        self._services.holdings.stand_in(holding, state.source)
        now = int(self._services.now())
        if not holding.placed_at:
            state = state.model_copy(update={"holding": holding.model_copy(update={"placed_at": now})})
            return Pending(state, f"{holding.name}: is being set as the dead-letter queue")
        if left := max(0, holding.placed_at + self._services.settle_seconds - now):
            return Pending(state, f"{holding.name}: is the dead-letter queue everywhere in at most {left} s")
        return None

    def _refuse_useless_limit(self, state: SourceState, replaces: str | None) -> None:
        guard = self._plan.guards.source
        blocks = state.mode == "ramp" and state.kind != "sqs"
        if guard and guard.dead_letters is not None and (replaces is None or blocks):
            why = "a failure blocks later messages or records" if blocks else "it has no dead-letter queue for them"
            raise RequestRefused(
                f"guards.source.deadLetters: this rollout of {state.source} has no dead letters: {why}; use "
                "another limit"
            )

    def _send_failures_to_rollout_queue(
        self, state: SourceState, holding: RolloutQueue, found: MappingSettings
    ) -> Pending[SourceState] | None:
        """Set the rollout's own queue as the on-failure destination. Lambda checks whether the role may send to it."""
        refused = self._services.functions.exceptions.InvalidParameterValueException
        try:
            return self._mapping.update(**state.held.changes(found, state.kind))
        except refused as error:
            where = f"target.mapping: {self._mapping.uuid}"
            why = f"{where} does not accept the rollout's own queue as on-failure destination"
            if self._services.now() < holding.planned_at + PROPAGATION_SECONDS:
                # The new queue and its policy may not be known everywhere yet.
                return Pending(state, f"{why} yet: {message_of(error)}")
            raise RequestRefused(
                f"{why}: {message_of(error)}; allow the role of the function sqs:SendMessage on queues named "
                f"{self._services.holding_prefix}*"
            ) from None

    def _to_replace(self, state: SourceState) -> str | None:
        """Return what the rollout's own queue replaces; None if there are no dead letters and no queue is needed.

        A destination that is not a queue stays unchanged.

        Raises
        ------
        RequestRefused
            If the queue of another rollout is configured, or the current settings could not be restored.
        """
        if state.holding is not None:
            return state.holding.replaces
        if state.of_queue:
            self._services.holdings.require(state.source, "target.mapping")
            policy = self._services.holdings.redrive_policy(state.source)
            if policy:
                self._refuse_a_queue_that_was_left(state, json.loads(policy)["deadLetterTargetArn"])
                self._services.holdings.require_way_back(state.source, policy)
            return policy or None
        covered = Patterns({"TargetStreams": self._services.stream_names})
        covered.require("TargetStreams", state.source.split("/")[1], "target.mapping: its stream")
        destination = state.original.on_failure or ""
        self._refuse_a_queue_that_was_left(state, destination)
        if not state.original.gives_up or (destination and ":sqs:" not in destination):
            return None
        if destination:
            self._services.holdings.require(destination, "target.mapping: its on-failure destination")
        return destination

    def _refuse_a_queue_that_was_left(self, state: SourceState, found: str) -> None:
        if found.rpartition(":")[2].startswith(self._services.holding_prefix):
            where = "the redrive policy" if state.of_queue else "the mapping's on-failure destination"
            raise RequestRefused(
                f"target.mapping: failures of {state.source} go to {found}, the queue of another rollout. Its tag "
                "headgate:rollout names that rollout. If it is still running, wait. If it was stopped, redrive the "
                f"queue's messages with headgate-redrive, and point {where} at your own queue again, which the "
                "rollout's record has in state.holding.replaces (docs/operate.md, When a rollout was stopped)"
            )

    def _role(self, state: SourceState) -> str:
        return str(self._alias.configuration(state.known_alias.known_candidate, "candidate")["Role"])

    def _require_the_alias(self, state: SourceState) -> Pending[SourceState] | None:
        """Require that the mapping invokes the alias. If it does not, roll back the alias.

        Raises
        ------
        TargetChanged
            If it does not, after the alias is rolled back. Pending is returned if that has to wait.
        """
        try:
            self._mapping.require_the_alias(state, at_work=True)
        except TargetChanged:
            back = self._alias.rollback(state.known_alias)
            if isinstance(back, Pending):
                return _waits_for_alias(state, back)
            raise
        return None

    def _moved(self, state: SourceState, move: MoveAlias, position: Position) -> TargetProgress[SourceState]:
        moved = move(state.known_alias)
        if isinstance(moved, Pending):
            return _waits_for_alias(state, moved)
        changes = {
            "alias": moved.state,
            "position": position,
            "shifted_at": self._milliseconds(),
            "to_release": state.holds or moved.state.to_release,
            "parked": False,
        }
        return Done(state.model_copy(update=changes))

    def _place(
        self, state: SourceState, wanted: MappingPosition, position: Position, move: MoveAlias | None = None
    ) -> TargetProgress[SourceState]:
        """Bring mapping and alias one step closer to the requested position.

        Two versions never read from the source at the same time: the mapping is stopped and drained in between.

        Parameters
        ----------
        move
            Moves the alias. Called only while no other version can be working.
        """
        mapping = self._mapping.settled(state)
        if isinstance(mapping, Pending):
            return mapping
        runs = mapping["State"] == "Enabled"
        try:
            found = self._mapping.place(state, mapping)
        except TargetChanged:
            with suppress(TargetChanged):  # The error reports what was found first.
                if waits := self._start_again(state, mapping, runs=runs):
                    return waits
            raise
        if not runs and not state.parked:
            raise self._mapping.changed("was disabled")
        if fault := self._fault_of_alias(state):
            settings = state.at_rest.changes(found.settings, state.kind)
            if waits := self._start_again(state, mapping, runs=runs, FunctionName=state.function, **settings):
                return waits
            raise self._mapping.changed(fault)
        if found.version != wanted.version:
            if waits := self._stop(state) if runs else self._still_drains(state, mapping):
                return waits
        elif runs and (found == wanted or self._was_never_moved(state, found, wanted)):
            return self._arrived(state, position, move)
        return self._point(state, wanted, found.settings, move)

    def _point(
        self, state: SourceState, wanted: MappingPosition, found: MappingSettings, move: MoveAlias | None
    ) -> Pending[SourceState]:
        """Move the alias, then point the mapping at the requested function."""
        self._still_ours()
        if move:
            moved = move(state.known_alias)
            if isinstance(moved, Pending):
                return _waits_for_alias(state, moved)
            state = state.model_copy(update={"alias": moved.state})
        changes = wanted.settings.changes(found, state.kind)
        return self._mapping.update(FunctionName=wanted.function, Enabled=True, **changes) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is being pointed at {wanted.function}"
        )

    def _was_never_moved(self, state: SourceState, found: MappingPosition, wanted: MappingPosition) -> bool:
        """Return whether the mapping is as before the rollout, so that nothing was blocked."""
        unmoved = [wanted._replace(settings=settings) for settings in (state.original, state.held)]
        return wanted.function == state.function and found in unmoved

    def _arrived(self, state: SourceState, position: Position, move: MoveAlias | None) -> TargetProgress[SourceState]:
        if move:
            return self._moved(state, move, position)
        changes = {"parked": False, "position": position, "shifted_at": self._milliseconds()}
        return Done(state.model_copy(update=changes))

    def _stop(self, state: SourceState) -> Pending[SourceState]:
        """Stop a running mapping, after recording that this rollout does it."""
        if not state.parked:
            noted = state.model_copy(update={"parked": True})
            return Pending(noted, f"target.mapping: {self._mapping.uuid} will be stopped")
        return self._mapping.update(Enabled=False) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is being stopped"
        )

    def _start_again(
        self, state: SourceState, mapping: MappingAnswer, *, runs: bool, **parameters: Any
    ) -> Pending[SourceState] | None:
        """Start a mapping that somebody else changed while this rollout had stopped it.

        Their settings stay. If it still points at the candidate, it is pointed at its alias again.
        """
        if runs or not state.parked:
            return None
        if waits := self._still_drains(state, mapping):
            return waits
        if mapping["FunctionArn"] == state.candidate_place(100).function:
            parameters["FunctionName"] = state.function
        return self._mapping.update(Enabled=True, **parameters)

    def _still_drains(self, state: SourceState, mapping: MappingAnswer) -> Pending[SourceState] | None:
        """Return what a stopped mapping waits for; None when the previous version has finished its work.

        That is after the function's timeout, and when no messages are in flight. A message that is in flight after the
        visibility timeout belongs to another consumer.
        """
        stopped_for = self._services.now() - modified_at(mapping)
        if stopped_for < state.timeout_seconds + 1:
            left = state.timeout_seconds + 1 - stopped_for
            why = f"target.mapping: {self._mapping.uuid} is drained in at most {left:.0f} s"
            return Pending(state, why, limited=False)
        if state.of_queue and stopped_for < state.visibility_seconds + 1:
            in_flight = self._services.queues.count(self._services.queues.url(state.source)).in_flight
            if in_flight:
                why = f"target.mapping: {self._mapping.uuid} has {in_flight} messages in flight"
                return Pending(state, why, limited=False)
        return None

    def _fault_of_alias(self, state: SourceState) -> str:
        """Return how a mapping's alias differs from what a ramp may set; empty if it does not.

        In a ramp it points at one version only: the stable one until the promotion.
        """
        alias = state.known_alias
        own = {alias.stable} | ({alias.known_candidate} if PROMOTED in (alias.position, self._aim) else set())
        version, weights = self._mapping.routing()
        if weights:
            return f"points at an alias with version {version} and weights for version {', '.join(weights)}"
        return "" if version in own else f"points at an alias with version {version}"

    def _milliseconds(self) -> int:
        return int(self._services.now() * 1000)


def _waits_for_alias(state: SourceState, alias: Pending[AliasState]) -> Pending[SourceState]:
    """Return Pending for a consumer whose alias is pending, with the state of the alias."""
    return Pending(None if alias.state is None else state.with_alias(alias.state), alias.why, alias.limited)
