"""The driver of consumers: a Lambda function behind an event source mapping of a queue or stream.

split: the mapping points at an alias, whose weights pick the version for each batch.
ramp: the mapping is stopped, drained, pointed at the candidate, and started again with little concurrency, which grows
step by step. Stable and candidate are never at work side by side.
"""

from __future__ import annotations

import json
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused, TargetChanged
from headgate.spec.position import PROMOTED, Weight
from headgate.targets.event_source.mapping import SETTLED_STATES, ConsumerMapping, modified_at
from headgate.targets.event_source.redelivery import Redelivery
from headgate.targets.event_source.rollout_dlq import RolloutQueue, rollout_queue_for
from headgate.targets.event_source.settings import (
    MappingSettings,
    mapping_faults,
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
        AWS.
    plan
        The rollout's plan; its ``through`` is the alias that the mapping points at.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock; called before each effect.
    aim
        The position that the last forward step aimed at, whether or not its answer came.
    """

    def __init__(
        self, services: SourceServices, plan: Plan, still_ours: Callable[[], None], aim: Position | None = None
    ) -> None:
        self._services = services
        self._plan = plan
        self._still_ours = still_ours
        self._aim = aim
        self._alias = LambdaAliasDriver(services.functions, plan, still_ours, aim)
        self._mapping = ConsumerMapping(services.functions, plan, self._alias, still_ours)

    # What a driver does

    def describe(self) -> dict[str, Any]:
        """The consumer as it is: the version behind the mapping's alias, and the mapping's state and settings."""
        mapping = self._mapping.find()
        settings = mapping_settings_of(mapping, source_of(mapping)[1])
        return {
            "version": self._alias.describe()["version"],
            "function": mapping["FunctionArn"],
            "state": mapping["State"],
            "settings": settings.to_wire(),
        }

    def prepare(self, known: SourceState | None = None) -> TargetProgress[SourceState]:
        """Check mapping, source and versions, publish the candidate, and let failures go to a queue of our own.

        Raises
        ------
        RequestRefused
            If the target or the candidate does not allow the rollout; traffic was not touched.
        """
        mapping = self._mapping.find()
        looked = Done(known) if known else self._first_look(mapping)
        if isinstance(looked, Pending):
            return looked
        replaces = self._to_replace(looked.state)
        self._refuse_a_limit_on_what_never_comes(looked.state, replaces)
        prepared = self._with_versions(looked.state)
        if isinstance(prepared, Pending):
            return prepared
        state = prepared.state
        if replaces is not None and (waits := self._hold(state, replaces, mapping)):
            return waits
        blocks = state.mode == "ramp" and not state.of_queue and state.original.gives_up and state.holding is None
        state = state.model_copy(update={"blocks": blocks})
        return Done(state.model_copy(update={"to_release": state.holds, "must_release": state.holds}))

    def shift(self, state: SourceState, weight: float) -> TargetProgress[SourceState]:
        """Give the candidate ``weight`` percent: of the batches, or of the throughput that the mapping had."""
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
        """Let the alias name the candidate, and the mapping point at the alias as it did before."""
        if state.mode == "split":
            if waits := self._require_the_alias(state):
                return waits
            return self._moved(state, self._alias.promote, PROMOTED)
        wanted = MappingPosition(state.function, state.known_alias.candidate, state.at_rest)
        return self._place(state, wanted, PROMOTED, self._alias.promote)

    def rollback(self, state: SourceState) -> TargetProgress[SourceState]:
        """Let the stable version process everything, as it did before."""
        if state.alias is None:
            return Done(state)  # Nothing was moved yet.
        if state.mode == "split":
            moved = self._moved(state, self._alias.rollback, Weight(0))
            if isinstance(moved, Pending):
                return moved
            self._mapping.require_the_alias(state, at_work=False)
            return moved
        return self._place(state, state.stable_place, Weight(0), self._alias.rollback)

    def release(self, state: SourceState) -> TargetProgress[SourceState]:
        """After a promotion: what failed meanwhile goes where it would have gone without a rollout."""
        if state.alias is not None and state.alias.to_release:
            released = self._alias.release(state.alias)
            if isinstance(released, Pending):
                return _waits_for_alias(state, released)
        return self._redelivery(promoted=True).carry_out(state)

    def restore(self, state: SourceState) -> TargetProgress[SourceState]:
        """After a rollback: what failed meanwhile gets another chance, under the stable version."""
        return self._redelivery(promoted=False).carry_out(state)

    def _redelivery(self, *, promoted: bool) -> Redelivery:
        return Redelivery(self._services, self._mapping, self._still_ours, promoted=promoted)

    # Preparing

    def _first_look(self, mapping: MappingAnswer) -> TargetProgress[SourceState]:
        """What the mapping is before anything is done to it; refused where that is not what can be rolled out."""
        source, kind = source_of(mapping)
        where = f"target.mapping: {self._mapping.uuid}"
        if faults := mapping_faults(mapping, kind):
            raise RequestRefused(f"{where}: {'; '.join(faults)}")
        if mapping["State"] == "Disabled":
            raise RequestRefused(f"{where} is disabled; enable it first")
        if mapping["State"] != "Enabled":
            return Pending(None, f"{where} is {mapping['State']}")
        state = SourceState(
            mode=mode_of(self._mapping.mode, mapping, kind),
            kind=kind,
            source=source,
            function=mapping["FunctionArn"],
            original=mapping_settings_of(mapping, kind),
        )
        return Done(state)

    def _with_versions(self, state: SourceState) -> TargetProgress[SourceState]:
        """The state with both versions, which the alias's own driver checks and makes ready."""
        prepared = self._alias.prepare(state.alias)
        if isinstance(prepared, Pending):
            return _waits_for_alias(state, prepared)
        alias = prepared.state
        state = state.with_alias(alias)
        timeouts = {version: self._timeout(version) for version in (alias.stable, alias.candidate)}
        visibility = self._visibility(state)
        if state.of_queue and (faults := visibility_faults(visibility, timeouts[alias.candidate], alias.candidate)):
            raise RequestRefused("; ".join(faults))
        longest = max(timeouts.values())
        count, url = self._services.queues.count, self._services.queues.url
        waiting = count(url(state.source)).visible if state.of_queue else None
        found = {"timeout_seconds": longest, "visibility_seconds": visibility, "backlog": waiting}
        return Done(state.model_copy(update=found))

    def _timeout(self, version: str) -> int:
        found = self._services.functions.get_function_configuration(
            FunctionName=self._plan.alias.function, Qualifier=version
        )
        return int(found["Timeout"])

    def _visibility(self, state: SourceState) -> int:
        if not state.of_queue:
            return 0
        return int(self._services.holdings.attributes(state.source, "VisibilityTimeout")["VisibilityTimeout"])

    def _hold(self, state: SourceState, replaces: str, mapping: MappingAnswer) -> Pending[SourceState] | None:
        """Let what the candidate fails on land in a queue of the rollout's own; None once it does."""
        if state.holding is None:
            # On record before it is done: what is ours to take back must be known whenever this process dies.
            fifo = state.kind == "sqs-fifo"
            holding = rollout_queue_for(
                self._plan.rollout_id, state.source, replaces, prefix=self._services.holding_prefix, fifo=fifo
            )
            planned = {"holding": holding, "to_release": True, "must_release": True}
            return Pending(state.model_copy(update=planned), f"target: {holding.name} is to hold what fails")
        self._still_ours()
        if state.of_queue:
            return self._hold_messages(state, state.holding)
        self._services.holdings.make(state.holding, self._plan.rollout_id, sender_role=self._role(state))
        if mapping["State"] not in SETTLED_STATES:
            return Pending(state, f"target.mapping: {self._mapping.uuid} is {mapping['State']}")
        found = self._mapping.place(state, mapping).settings
        if found == state.held:
            return None
        return self._send_failures_to_the_holding(state, found) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is to send what fails to {state.holding.name}"
        )

    def _hold_messages(self, state: SourceState, holding: RolloutQueue) -> Pending[SourceState] | None:
        """Point the redrive policy at the rollout's own queue; None once that holds everywhere."""
        key = self._services.holdings.attributes(state.source, "KmsMasterKeyId").get("KmsMasterKeyId", "")
        self._services.holdings.make(holding, self._plan.rollout_id, key=key)
        self._services.holdings.stand_in(holding, state.source)
        now = int(self._services.now())
        if not holding.placed_at:
            state = state.model_copy(update={"holding": holding.model_copy(update={"placed_at": now})})
            return Pending(state, f"{holding.name}: is to stand in for the dead-letter queue")
        if left := max(0, holding.placed_at + self._services.settle_seconds - now):
            return Pending(state, f"{holding.name}: stands in everywhere in {left} s at the latest")
        return None

    def _refuse_a_limit_on_what_never_comes(self, state: SourceState, replaces: str | None) -> None:
        guard = self._plan.guards.source
        blocks = state.mode == "ramp" and state.kind != "sqs"
        if guard and guard.dead_letters is not None and (replaces is None or blocks):
            why = "a failure blocks what comes after it" if blocks else "it has no dead-letter queue that gets any"
            raise RequestRefused(
                f"guards.source.deadLetters: nothing is given up during this rollout of {state.source}: {why}; take "
                "another limit"
            )

    def _send_failures_to_the_holding(self, state: SourceState, found: MappingSettings) -> Pending[SourceState] | None:
        refused = self._services.functions.exceptions.InvalidParameterValueException
        try:
            return self._mapping.update(**state.held.changes(found, state.kind))
        except refused as error:
            why = f"target.mapping: {self._mapping.uuid} takes no on-failure destination of the rollout's own: {error}"
            raise RequestRefused(why) from None

    def _to_replace(self, state: SourceState) -> str | None:
        """What the rollout's own queue is to stand in for; None where nothing is given up, so that nothing is to hold.

        A destination that is no queue is left as it is.

        Raises
        ------
        RequestRefused
            If another rollout's own queue is there, or what is there could not be put back.
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
        destination = state.original.on_failure or ""
        self._refuse_a_queue_that_was_left(state, destination)
        if not state.original.gives_up or (destination and ":sqs:" not in destination):
            return None
        if destination:
            self._services.holdings.require(destination, "target.mapping: its on-failure destination")
        if not fnmatchcase(name := state.source.split("/")[1], self._services.stream_names):
            raise RequestRefused(
                f"target.mapping: what fails of {name} could not be read again: the stack's parameter TargetStreams, "
                f"{self._services.stream_names}, does not cover it; change that"
            )
        return destination

    def _refuse_a_queue_that_was_left(self, state: SourceState, found: str) -> None:
        if found.rpartition(":")[2].startswith(self._services.holding_prefix):
            where = "the redrive policy" if state.of_queue else "the mapping's on-failure destination"
            raise RequestRefused(
                f"target.mapping: what fails of {state.source} goes to {found}, the queue of another rollout, which "
                "its tag headgate:rollout names; wait if that is still going on. If it was stopped, bring the queue's "
                f"messages back with headgate-redrive, and point {where} at your own queue again, which that rollout's "
                "record has under state.holding.replaces (docs/operate.md, When a rollout was stopped)"
            )

    def _role(self, state: SourceState) -> str:
        found = self._services.functions.get_function_configuration(
            FunctionName=self._plan.alias.function, Qualifier=state.known_alias.candidate
        )
        return str(found["Role"])

    # Moving

    def _require_the_alias(self, state: SourceState) -> Pending[SourceState] | None:
        """Require that the mapping gives the alias its batches; where it does not, take the rollout's weights away.

        Raises
        ------
        TargetChanged
            If it does not, after the alias is rolled back; Pending if that has to wait.
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
        """Take the mapping a step nearer to where it should be, and the alias too.

        Two versions never work on the source at a time: the mapping is stopped and drained before another one gets it.

        Parameters
        ----------
        move
            Moves the alias to where it should be; only while nothing of another version can be at work.
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
            raise self._mapping.changed("was disabled by somebody else")
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
        """Move the alias, and then point the mapping at what it should invoke."""
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
        """Whether the mapping is all that it was before the rollout, so that nothing has been blocked."""
        unmoved = [wanted._replace(settings=settings) for settings in (state.original, state.held)]
        return wanted.function == state.function and found in unmoved

    def _arrived(self, state: SourceState, position: Position, move: MoveAlias | None) -> TargetProgress[SourceState]:
        if move:
            return self._moved(state, move, position)
        changes = {"parked": False, "position": position, "shifted_at": self._milliseconds()}
        return Done(state.model_copy(update=changes))

    def _stop(self, state: SourceState) -> Pending[SourceState]:
        """Stop a mapping that runs, after it is on record that this rollout does."""
        if not state.parked:
            noted = state.model_copy(update={"parked": True})
            return Pending(noted, f"target.mapping: {self._mapping.uuid} is to be stopped")
        return self._mapping.update(Enabled=False) or Pending(
            state, f"target.mapping: {self._mapping.uuid} is being stopped"
        )

    def _start_again(
        self, state: SourceState, mapping: MappingAnswer, *, runs: bool, **parameters: Any
    ) -> Pending[SourceState] | None:
        """Let a mapping run again that somebody else has changed while this rollout had it stopped.

        What they have set stays. Where it still points at the candidate, it gets its alias back.
        """
        if runs or not state.parked:
            return None
        if waits := self._still_drains(state, mapping):
            return waits
        if mapping["FunctionArn"] == state.candidate_place(100).function:
            parameters["FunctionName"] = state.function
        return self._mapping.update(Enabled=True, **parameters)

    def _still_drains(self, state: SourceState, mapping: MappingAnswer) -> Pending[SourceState] | None:
        """What a stopped mapping waits for; None once nothing of the version before is at work any more.

        Stopped for as long as an invocation may take, and nothing in flight: a message that is neither processed nor
        visible again after the visibility timeout is somebody else's.
        """
        stopped_for = self._services.now() - modified_at(mapping)
        if stopped_for < state.timeout_seconds + 1:
            left = state.timeout_seconds + 1 - stopped_for
            return Pending(state, f"target.mapping: {self._mapping.uuid} is drained in {left:.0f} s at the latest")
        if state.of_queue and stopped_for < state.visibility_seconds + 1:
            in_flight = self._services.queues.count(self._services.queues.url(state.source)).in_flight
            if in_flight:
                return Pending(state, f"target.mapping: {self._mapping.uuid} has {in_flight} messages in flight")
        return None

    def _fault_of_alias(self, state: SourceState) -> str:
        """How a mapping's alias is other than a ramp may have left it; empty where it is not.

        In a ramp it names one version alone: the stable one until the promotion.
        """
        alias = state.known_alias
        own = {alias.stable} | ({alias.candidate} if PROMOTED in (alias.position, self._aim) else set())
        version, weights = self._mapping.routing()
        if weights:
            return f"points at an alias that names version {version} and sends some to version {', '.join(weights)}"
        return "" if version in own else f"points at an alias that names version {version}"

    def _milliseconds(self) -> int:
        return int(self._services.now() * 1000)


def _waits_for_alias(state: SourceState, alias: Pending[AliasState]) -> Pending[SourceState]:
    """A consumer that waits for its alias, with what is known of the alias by now."""
    return Pending(None if alias.state is None else state.with_alias(alias.state), alias.why)
