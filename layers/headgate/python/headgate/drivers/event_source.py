"""The driver of consumers: a Lambda function behind an event source mapping of a queue or stream.

split: the mapping points at an alias, whose weights pick the version for each batch.
ramp: the mapping is stopped, drained, pointed at the candidate, and started again with little concurrency, which grows
step by step. Stable and candidate are never at work side by side.

A mapping has no revision: before each write it is compared with what this rollout may have made of it. It is updated in
place and never deleted, so a stream's position stays.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.drivers.driving import PROMOTED
from headgate.drivers.lambda_alias import AliasState, LambdaAliasDriver
from headgate.errors import RequestRefused, TargetChanged, TargetNotReady
from headgate.holding import PER_SECOND, Holding, HoldingQueues, Redriven, holding_for
from headgate.mappings import Kind, Settings, faults_of, kind_of, settings_of, visibility_faults
from headgate.request import EventSourceTarget
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.plan import Plan
    from headgate.redrive import Queues

SETTLED = ("Enabled", "Disabled")
"""States of a mapping in which it can be updated; in the others an update is on its way."""


MARGIN_SECONDS = 2
"""How much longer than it should take a batch that an alias has picked the candidate for may be on its way."""

SLICE_SECONDS = 10
"""How long one call moves messages or records before the machine is told to call again. The warden waits 20 seconds for
an answer."""


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
    parked: bool = False
    """Whether this rollout may have stopped the mapping."""
    weight: float = 0
    shifted_at: int = 0
    """When that weight took effect, in milliseconds since 1970."""
    redriven: Redriven | None = None
    to_release: bool = False
    must_release: bool = False
    """Whether a rollout that could not give back what it holds has to be looked at by a person."""


class Place(NamedTuple):
    """Where a mapping stands: what it invokes, the version behind that, and how."""

    function: str
    version: str
    settings: Settings


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
    now: Callable[[], float] = time.time


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
        The weight that the last forward step was after, whether or not its answer came.
    """

    def __init__(
        self, services: Services, plan: Plan, still_ours: Callable[[], None], aim: float | None = None
    ) -> None:
        self._services = services
        self._plan = plan
        self._still_ours = still_ours
        self._aim = aim
        self._alias = LambdaAliasDriver(services.functions, plan, still_ours, aim)
        if not isinstance(plan.target, EventSourceTarget):
            raise TypeError(f"{plan.target.key} is no event source")
        self._uuid = plan.target.mapping
        self._mode = plan.target.mode

    # What a driver does

    def describe(self) -> dict[str, Any]:
        """The consumer as it is: the version behind the mapping's alias, and the mapping's state and settings."""
        mapping = self._find()
        settings = settings_of(mapping, kind_of(mapping["EventSourceArn"]))
        return {
            "version": self._alias.describe()["version"],
            "function": mapping["FunctionArn"],
            "state": mapping["State"],
            "settings": settings.to_wire(),
        }

    def prepare(self, known: SourceState | None = None) -> SourceState:
        """Check mapping, source and versions, publish the candidate, and let failures go to a queue of our own.

        Raises
        ------
        RequestRefused
            If the target or the candidate does not allow the rollout; traffic was not touched.
        TargetNotReady
            If something is on its way: call again.
        """
        mapping = self._find()
        state = self._with_versions(known or self._first_look(mapping))
        self._hold(state, mapping)
        return state.model_copy(
            update={"to_release": state.holding is not None, "must_release": state.holding is not None}
        )

    def shift(self, state: SourceState, weight: float) -> SourceState:
        """Give the candidate ``weight`` percent: of the batches, or of the throughput that the mapping had."""
        if state.mode == "split":
            self._require_the_alias(state)
            alias = self._alias.shift(_alias_of(state), weight)
            return state.model_copy(update={"alias": alias, "weight": weight, "shifted_at": self._milliseconds()})
        if weight == 0:
            return self._place(state, self._stable_place(state), weight)
        return self._place(state, self._candidate_place(state, weight), weight)

    def promote(self, state: SourceState) -> SourceState:
        """Let the alias name the candidate, and the mapping point at the alias as it did before."""
        if state.mode == "split":
            self._require_the_alias(state)
            return self._moved(state, self._alias.promote, PROMOTED)
        wanted = Place(state.function, _alias_of(state).candidate, self._at_rest(state))
        return self._place(state, wanted, PROMOTED, self._alias.promote)

    def rollback(self, state: SourceState) -> SourceState:
        """Let the stable version process everything, as it did before."""
        if state.alias is None:
            return state  # Nothing was moved yet.
        if state.mode == "split":
            moved = self._moved(state, self._alias.rollback, 0)
            self._require_the_alias(state)
            return moved
        return self._place(state, self._stable_place(state), 0, self._alias.rollback)

    def release(self, state: SourceState) -> SourceState:
        """After a promotion: what failed meanwhile goes where it would have gone without a rollout."""
        if state.alias is not None and state.alias.to_release:
            self._alias.release(state.alias)
        return self._let_go(state, promoted=True)

    def restore(self, state: SourceState) -> SourceState:
        """After a rollback: what failed meanwhile gets another chance, under the stable version."""
        return self._let_go(state, promoted=False)

    # Preparing

    def _first_look(self, mapping: Any) -> SourceState:
        """What the mapping is before anything is done to it; refused where that is not what can be rolled out."""
        source = mapping["EventSourceArn"]
        kind = kind_of(source)
        where = f"target.mapping: {self._uuid}"
        if faults := faults_of(mapping, kind):
            raise RequestRefused(f"{where}: {'; '.join(faults)}")
        if mapping["State"] == "Disabled":
            raise RequestRefused(f"{where} is disabled; enable it first")
        if mapping["State"] != "Enabled":
            raise TargetNotReady(f"{where} is {mapping['State']}")
        if self._mode == "ramp" and mapping.get("ProvisionedPollerConfig"):
            raise RequestRefused(
                f"{where} has provisioned pollers, which exclude the MaximumConcurrency that a ramp is made of; "
                "take mode split, or remove ProvisionedPollerConfig"
            )
        return SourceState(
            mode=self._mode or "split",
            kind=kind,
            source=source,
            function=mapping["FunctionArn"],
            original=settings_of(mapping, kind),
        )

    def _with_versions(self, state: SourceState) -> SourceState:
        """The state with both versions, which the alias's own driver checks and makes ready."""
        try:
            alias = self._alias.prepare(state.alias)
        except TargetNotReady as not_ready:
            if isinstance(not_ready.state, AliasState):
                raise TargetNotReady(str(not_ready), _with_alias(state, not_ready.state)) from None
            raise
        state = _with_alias(state, alias)
        timeouts = {version: self._timeout(version) for version in (alias.stable, alias.candidate)}
        visibility = self._visibility(state)
        if visibility and (faults := visibility_faults(visibility, timeouts[alias.candidate], alias.candidate)):
            raise RequestRefused("; ".join(faults))
        longest = max(timeouts.values())
        waiting = self._services.queues.count(self._services.queues.url(state.source)).visible if visibility else None
        return state.model_copy(
            update={"timeout_seconds": longest, "visibility_seconds": visibility, "backlog": waiting}
        )

    def _timeout(self, version: str) -> int:
        found = self._services.functions.get_function_configuration(
            FunctionName=self._plan.alias.function, Qualifier=version
        )
        return int(found["Timeout"])

    def _visibility(self, state: SourceState) -> int:
        if not _is_queue(state):
            return 0
        return int(self._services.holdings.attributes(state.source, "VisibilityTimeout")["VisibilityTimeout"])

    def _hold(self, state: SourceState, mapping: Any) -> None:
        """See that what the candidate fails on lands in a queue of the rollout's own, if it would land anywhere."""
        replaces = self._to_replace(state)
        self._refuse_a_limit_on_what_never_comes(state, replaces)
        if replaces is None:
            return
        if state.holding is None:
            # On record before it is done: what is ours to take back must be known whenever this process dies.
            fifo = state.kind == "sqs-fifo"
            holding = holding_for(
                self._plan.rollout_id, state.source, replaces, prefix=self._services.holding_prefix, fifo=fifo
            )
            planned = {"holding": holding, "to_release": True, "must_release": True}
            raise TargetNotReady(f"target: {holding.name} is to hold what fails", state.model_copy(update=planned))
        self._still_ours()
        if _is_queue(state):
            self._hold_messages(state, state.holding)
            return
        self._services.holdings.make(state.holding, self._plan.rollout_id, sender_role=self._role(state))
        if state.mode == "ramp":
            return  # It gives nothing up before its end.
        if mapping["State"] not in SETTLED:
            raise TargetNotReady(f"target.mapping: {self._uuid} is {mapping['State']}", state)
        found = self._found(state, mapping).settings
        if found != self._held(state):
            self._send_failures_to_the_holding(state, found)
            raise TargetNotReady(f"target.mapping: {self._uuid} is to send what fails to {state.holding.name}", state)

    def _hold_messages(self, state: SourceState, holding: Holding) -> None:
        """Point the redrive policy at the rollout's own queue, and wait until that holds everywhere."""
        key = self._services.holdings.attributes(state.source, "KmsMasterKeyId").get("KmsMasterKeyId", "")
        self._services.holdings.make(holding, self._plan.rollout_id, key=key)
        self._services.holdings.stand_in(holding, state.source)
        now = int(self._services.now())
        if not holding.placed_at:
            state = state.model_copy(update={"holding": holding.model_copy(update={"placed_at": now})})
            raise TargetNotReady(f"{holding.name}: is to stand in for the dead-letter queue", state)
        if left := max(0, holding.placed_at + self._services.settle_seconds - now):
            raise TargetNotReady(f"{holding.name}: stands in everywhere in {left} s at the latest", state)

    def _refuse_a_limit_on_what_never_comes(self, state: SourceState, replaces: str | None) -> None:
        guard = self._plan.guards.source
        blocks = state.mode == "ramp" and state.kind != "sqs"
        if guard and guard.dead_letters is not None and (replaces is None or blocks):
            why = "a failure blocks what comes after it" if blocks else "it has no dead-letter queue that gets any"
            raise RequestRefused(
                f"guards.source.deadLetters: nothing is given up during this rollout of {state.source}: {why}; take "
                "another limit"
            )

    def _send_failures_to_the_holding(self, state: SourceState, found: Settings) -> None:
        refused = self._services.functions.exceptions.InvalidParameterValueException
        try:
            self._update(**self._held(state).changes(found, state.kind))
        except refused as error:
            why = f"target.mapping: {self._uuid} takes no on-failure destination of the rollout's own: {error}"
            raise RequestRefused(why) from None

    def _to_replace(self, state: SourceState) -> str | None:
        """What the rollout's own queue is to stand in for; None where nothing is given up, so that nothing is to hold.

        A destination that is no queue is left as it is.

        Raises
        ------
        RequestRefused
            If an earlier rollout's own queue is there, which could not be taken away.
        """
        if state.holding is not None:
            return state.holding.replaces
        if _is_queue(state):
            policy = self._services.holdings.redrive_policy(state.source)
            self._refuse_a_queue_that_was_left(state, policy and json.loads(policy)["deadLetterTargetArn"])
            return policy or None
        destination = state.original.on_failure or ""
        self._refuse_a_queue_that_was_left(state, destination)
        return destination if state.original.gives_up and (not destination or ":sqs:" in destination) else None

    def _refuse_a_queue_that_was_left(self, state: SourceState, found: str) -> None:
        if found.rpartition(":")[2].startswith(self._services.holding_prefix):
            raise RequestRefused(
                f"target.mapping: what fails of {state.source} still goes to {found}, the queue of an earlier rollout "
                "that was stopped (its tag headgate:rollout says which); bring its messages back by a redrive, and "
                "point the redrive policy or the on-failure destination at your own queue again"
            )

    def _role(self, state: SourceState) -> str:
        found = self._services.functions.get_function_configuration(
            FunctionName=self._plan.alias.function, Qualifier=_alias_of(state).candidate
        )
        return str(found["Role"])

    # Moving

    def _moved(self, state: SourceState, move: Callable[[AliasState], AliasState], weight: float) -> SourceState:
        alias = move(_alias_of(state))
        return state.model_copy(
            update={
                "alias": alias,
                "weight": weight,
                "shifted_at": self._milliseconds(),
                "to_release": state.holding is not None or alias.to_release,
                "parked": False,
            }
        )

    def _stable_place(self, state: SourceState) -> Place:
        return Place(state.function, _alias_of(state).stable, self._at_rest(state))

    def _candidate_place(self, state: SourceState, weight: float) -> Place:
        version = _alias_of(state).candidate
        return Place(f"{state.function.rpartition(':')[0]}:{version}", version, self._ramp(state, weight))

    def _ramp(self, state: SourceState, weight: float) -> Settings:
        settings = state.original.share(weight, state.kind)
        return settings if _is_queue(state) else settings.blocking()

    def _at_rest(self, state: SourceState) -> Settings:
        """The settings outside of a ramp, until the rollout gives back what it holds.

        What a stream's ramp has blocked must not be given up for its age as soon as the ramp is over.
        """
        blocks = state.mode == "ramp" and state.holding is not None and not _is_queue(state)
        return state.original.blocking() if blocks else state.original

    def _held(self, state: SourceState) -> Settings:
        """The settings with which a stream's failed batches go to the rollout's own queue."""
        if _is_queue(state) or state.holding is None:
            return state.original
        return state.original.model_copy(update={"on_failure": state.holding.arn})

    def _place(
        self,
        state: SourceState,
        wanted: Place,
        weight: float,
        move: Callable[[AliasState], AliasState] | None = None,
    ) -> SourceState:
        """Take the mapping a step nearer to where it should be, and the alias too; TargetNotReady until it is there.

        Two versions never work on the source at a time: the mapping is stopped and drained before another one gets it.

        Parameters
        ----------
        move
            Moves the alias to where it should be; only while nothing of another version can be at work.
        """
        mapping = self._settled(state)
        runs = mapping["State"] == "Enabled"
        found = self._found(state, mapping)
        if not runs and not state.parked:
            raise self._changed("was disabled by somebody else")
        if fault := self._fault_of_alias(state):
            self._start_again(state, mapping, runs=runs)
            raise self._changed(fault)
        if found.version != wanted.version:
            self._stop(state, runs=runs)
            self._await_drained(state, mapping)
        elif runs and (found == wanted or self._was_never_moved(state, found, wanted)):
            return self._arrived(state, weight, move)
        self._still_ours()
        if move:
            state = state.model_copy(update={"alias": move(_alias_of(state))})
        changes = wanted.settings.changes(found.settings, state.kind)
        self._update(FunctionName=wanted.function, Enabled=True, **changes)
        raise TargetNotReady(f"target.mapping: {self._uuid} is being pointed at {wanted.function}", state)

    def _was_never_moved(self, state: SourceState, found: Place, wanted: Place) -> bool:
        """Whether the mapping is all that it was before the rollout, so that nothing has been blocked."""
        return wanted.function == state.function and found == wanted._replace(settings=state.original)

    def _arrived(
        self, state: SourceState, weight: float, move: Callable[[AliasState], AliasState] | None
    ) -> SourceState:
        if move:
            return self._moved(state, move, weight)
        return state.model_copy(update={"parked": False, "weight": weight, "shifted_at": self._milliseconds()})

    def _stop(self, state: SourceState, *, runs: bool) -> None:
        """Stop the mapping, having noted that it was us."""
        if not runs:
            return
        if not state.parked:
            raise TargetNotReady(
                f"target.mapping: {self._uuid} is to be stopped", state.model_copy(update={"parked": True})
            )
        self._update(Enabled=False)
        raise TargetNotReady(f"target.mapping: {self._uuid} is being stopped", state)

    def _start_again(self, state: SourceState, mapping: Any, *, runs: bool) -> None:
        """Let a mapping that this rollout has stopped invoke its alias again, wherever somebody else has moved that."""
        if not runs:
            self._await_drained(state, mapping)
            changes = self._at_rest(state).changes(settings_of(mapping, state.kind), state.kind)
            self._update(FunctionName=state.function, Enabled=True, **changes)

    def _await_drained(self, state: SourceState, mapping: Any) -> None:
        """See that nothing of the version before is at work any more.

        Stopped for as long as an invocation may take, and nothing in flight: a message that is neither processed nor
        visible again after the visibility timeout is somebody else's.
        """
        stopped_for = self._services.now() - _seconds(mapping["LastModified"])
        if stopped_for < state.timeout_seconds + 1:
            left = state.timeout_seconds + 1 - stopped_for
            raise TargetNotReady(f"target.mapping: {self._uuid} is drained in {left:.0f} s at the latest", state)
        if _is_queue(state) and stopped_for < state.visibility_seconds + 1:
            in_flight = self._services.queues.count(self._services.queues.url(state.source)).in_flight
            if in_flight:
                raise TargetNotReady(f"target.mapping: {self._uuid} has {in_flight} messages in flight", state)

    # The mapping

    def _find(self) -> Any:
        try:
            mapping = self._services.functions.get_event_source_mapping(UUID=self._uuid)
        except self._services.functions.exceptions.ResourceNotFoundException:
            raise RequestRefused(f"target.mapping: there is no mapping {self._uuid}") from None
        return mapping

    def _settled(self, state: SourceState) -> Any:
        """The mapping, when no update of it is on its way."""
        try:
            mapping = self._services.functions.get_event_source_mapping(UUID=self._uuid)
        except self._services.functions.exceptions.ResourceNotFoundException:
            raise self._changed("is gone") from None
        if mapping["State"] not in SETTLED:
            raise TargetNotReady(f"target.mapping: {self._uuid} is {mapping['State']}", state)
        return mapping

    def _found(self, state: SourceState, mapping: Any) -> Place:
        """Where the mapping stands, if that is where this rollout may have put it.

        Raises
        ------
        TargetChanged
            If it is not.
        """
        alias = _alias_of(state)
        function, settings = mapping["FunctionArn"], settings_of(mapping, state.kind)
        candidate = self._candidate_place(state, 100).function
        if function not in (state.function, candidate):
            raise self._changed(f"points at {function}")
        ramps = [self._ramp(state, step.weight) for step in self._plan.steps]
        own = [state.original, self._held(state), self._at_rest(state), *ramps]
        if settings not in own:
            raise self._changed(f"has other settings: {settings.to_wire()}")
        version = alias.candidate if function == candidate else self._routing()[0]
        return Place(function, version, settings)

    def _fault_of_alias(self, state: SourceState) -> str:
        """How a mapping's alias is other than a ramp may have left it; empty where it is not.

        In a ramp it names one version alone: the stable one until the promotion.
        """
        alias = _alias_of(state)
        own = {alias.stable} | ({alias.candidate} if PROMOTED in (alias.weight, self._aim) else set())
        version, weights = self._routing()
        if weights:
            return f"points at an alias that names version {version} and sends some to version {', '.join(weights)}"
        return "" if version in own else f"points at an alias that names version {version}"

    def _routing(self) -> tuple[str, dict[str, float]]:
        """Which version the mapping's alias names, and the shares of others."""
        try:
            told = self._alias.describe()
        except RequestRefused:
            raise self._changed("points at an alias that is gone") from None
        return str(told["version"]), told["weights"]

    def _require_the_alias(self, state: SourceState) -> None:
        """See that the mapping still invokes the alias whose weights are about to move.

        Its settings are its owner's while a rollout does not change them.
        """
        try:
            mapping = self._find()
        except RequestRefused:
            raise self._changed("is gone") from None
        if mapping["FunctionArn"] != state.function:
            raise self._changed(f"points at {mapping['FunctionArn']}")

    def _update(self, **parameters: Any) -> None:
        self._still_ours()
        functions = self._services.functions
        try:
            functions.update_event_source_mapping(UUID=self._uuid, **parameters)
        except functions.exceptions.ResourceInUseException as error:
            raise TargetNotReady(f"target.mapping: {self._uuid}: {error}") from None
        except functions.exceptions.ResourceNotFoundException:
            raise self._changed("is gone") from None

    def _changed(self, how: str) -> TargetChanged:
        return TargetChanged(f"{self._plan.target.key} was changed by somebody else: it {how}; it is left as found")

    def _milliseconds(self) -> int:
        return int(self._services.now() * 1000)

    # Afterwards

    def _let_go(self, state: SourceState, *, promoted: bool) -> SourceState:
        """Empty the rollout's own queue, put back what it stood in for, and delete it; TargetNotReady until done."""
        if state.holding is None:
            return _let_gone(state)
        # Deleted by a call whose answer was lost; or never made, as the rollout ended before.
        if self._services.holdings.is_gone(state.holding) and (
            state.holding.restored_at or self._nothing_was_held(state, state.holding)
        ):
            return _let_gone(state)
        self._still_ours()
        if _is_queue(state):
            return self._let_go_of_messages(state, state.holding, promoted=promoted)
        return self._let_go_of_batches(state, state.holding, promoted=promoted)

    def _nothing_was_held(self, state: SourceState, holding: Holding) -> bool:
        """Whether a queue that is not there stands in for nothing, so that nothing can have come to it."""
        if _is_queue(state):
            return not self._services.holdings.stands_in(holding, state.source)
        return self._found(state, self._settled(state)).settings.on_failure != holding.arn

    def _let_go_of_messages(self, state: SourceState, holding: Holding, *, promoted: bool) -> SourceState:
        """Move dead letters back to the source, or after a promotion to the team's own dead-letter queue.

        First by SQS, as long as the source's redrive policy still names the rollout's own queue; then, when the old
        policy holds everywhere, what came late one by one.
        """
        queues, told = self._services.queues, state.redriven or Redriven()
        destination = json.loads(holding.replaces)["deadLetterTargetArn"] if promoted else state.source
        counted_as = "forwarded" if promoted else "returned"
        if not holding.restored_at:
            # A policy that is the team's own again was given back by a call whose answer was lost, or never replaced.
            if self._services.holdings.stands_in(holding, state.source):
                holding = holding.model_copy(
                    update={"held": holding.held or queues.count(queues.url(holding.arn)).total}
                )
                moved = queues.move_whole(holding.arn, destination, per_second=PER_SECOND, since=0)
                told = told.model_copy(update={counted_as: max(getattr(told, counted_as), moved.moved)})
                state = state.model_copy(update={"redriven": told, "holding": holding})
                # What comes straight back has had its chance: it goes where the team has it, once the policy is theirs.
                if not moved.done and moved.moved < max(1, holding.held):
                    so_far = f"{moved.moved} messages are moved so far; {moved.reason}"
                    raise TargetNotReady(f"{holding.name}: {so_far}", state)
                self._await_what_the_candidate_had(state, promoted=promoted)
                self._services.holdings.give_back_policy(holding, state.source)
            raise TargetNotReady(f"{holding.name}: what comes late is waited for", self._restored(state, holding))
        self._await_settled(state, holding)
        url = queues.url(holding.arn)
        deadline = time.monotonic() + SLICE_SECONDS
        late = queues.move_some(url, queues.url(destination), per_second=PER_SECOND, deadline=deadline)
        if late.moved:
            told = told.model_copy(update={counted_as: getattr(told, counted_as) + late.moved})
            state = state.model_copy(update={"redriven": told})
        if late.moved or not late.done or queues.count(url).total:
            raise TargetNotReady(f"{holding.name}: {late.moved} messages came late; {late.reason}", state)
        self._services.holdings.delete(holding)
        return _let_gone(state)

    def _let_go_of_batches(self, state: SourceState, holding: Holding, *, promoted: bool) -> SourceState:
        """Point the mapping's failures at where they went before; give what was held to the version that serves now."""
        mapping = self._settled(state)
        found = self._found(state, mapping)
        if found.settings != state.original:
            self._give_settings_back(state, holding, mapping, found.settings, promoted=promoted)
        if not holding.restored_at:
            raise TargetNotReady(f"{holding.name}: what comes late is waited for", self._restored(state, holding))
        self._await_settled(state, holding)
        alias = _alias_of(state)
        version = alias.candidate if promoted else alias.stable
        function = f"{state.function.rpartition(':')[0]}:{version}"
        done, told = self._services.holdings.redeliver(
            holding, function, state.timeout_seconds, time.monotonic() + SLICE_SECONDS, state.redriven or Redriven()
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
            return _let_gone(state.model_copy(update={"redriven": told}))
        self._services.holdings.delete(holding)
        return _let_gone(state)

    def _give_settings_back(
        self, state: SourceState, holding: Holding, mapping: Any, found: Settings, *, promoted: bool
    ) -> None:
        """Take a mapping's settings a step back to what they were; raises TargetNotReady.

        What a ramp has blocked is worked off first, in its order. What is too old by then for the limits that come back
        is given up to the rollout's own queue, and delivered again.
        """
        self._await_what_the_candidate_had(state, promoted=promoted)
        if found != self._held(state):
            left = state.shifted_at / 1000 + self._services.settle_seconds - self._services.now()
            if left > 0:
                raise TargetNotReady(f"{state.source}: what was blocked is worked off first, {left:.0f} s", state)
            self._update(**self._held(state).changes(found, state.kind))
            raise TargetNotReady(f"target.mapping: {self._uuid} is getting its limits back", state)
        left = _seconds(mapping["LastModified"]) + self._services.settle_seconds - self._services.now()
        if left > 0:
            raise TargetNotReady(f"{holding.name}: what is too old comes there, {left:.0f} s", state)
        self._update(**state.original.changes(found, state.kind))
        raise TargetNotReady(f"target.mapping: {self._uuid} is getting its own settings back", state)

    def _await_what_the_candidate_had(self, state: SourceState, *, promoted: bool) -> None:
        """Go on holding for as long as the candidate may still fail on what it had in hand when it was replaced.

        A message that has used its receives up with the candidate is given up when it would be received once more,
        after its visibility timeout. And one that has blocked its group was received more often than the team's own
        policy allows: the stable version must have had it before that is back.
        """
        if promoted:
            return
        replaced_for = self._services.now() - state.shifted_at / 1000
        if replaced_for < state.timeout_seconds + MARGIN_SECONDS:
            raise TargetNotReady(f"{state.source}: the candidate may still be at work", state)
        if _is_queue(state) and replaced_for < state.timeout_seconds + state.visibility_seconds + MARGIN_SECONDS:
            # Of an empty queue nothing is to come; of another one any message may be on its last receive.
            left = self._services.queues.count(self._services.queues.url(state.source)).total
            if left:
                raise TargetNotReady(f"{state.source}: {left} messages may be what the candidate failed on", state)

    def _restored(self, state: SourceState, holding: Holding) -> SourceState:
        """The state once what the rollout's own queue stood in for is back in its place."""
        restored = holding.model_copy(update={"restored_at": int(self._services.now())})
        return state.model_copy(update={"holding": restored})

    def _await_settled(self, state: SourceState, holding: Holding) -> None:
        left = holding.restored_at + self._services.settle_seconds - self._services.now()
        if left > 0:
            raise TargetNotReady(f"{holding.name}: what comes late is waited for, {left:.0f} s", state)


def _is_queue(state: SourceState) -> bool:
    return state.kind in ("sqs", "sqs-fifo")


def _alias_of(state: SourceState) -> AliasState:
    if state.alias is None:
        raise RequestRefused("target: nothing was prepared")
    return state.alias


def _with_alias(state: SourceState, alias: AliasState) -> SourceState:
    return state.model_copy(update={"alias": alias, "stable": alias.stable, "candidate": alias.candidate})


def _let_gone(state: SourceState) -> SourceState:
    return state.model_copy(update={"holding": None, "to_release": False, "must_release": False})


def _seconds(moment: datetime | float) -> float:
    """Seconds since 1970 of what boto3 makes of a timestamp."""
    return moment.astimezone(UTC).timestamp() if isinstance(moment, datetime) else float(moment)
