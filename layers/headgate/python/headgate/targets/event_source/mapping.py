"""A consumer in a rollout: what its driver knows of it between its calls, and its event source mapping.

A mapping has no revision: before each write it is compared with what this rollout may have made of it. It is updated in
place and never deleted, so a stream's position stays.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused, TargetChanged
from headgate.spec.targets import EventSourceTarget
from headgate.targets.event_source.lookup import find_mapping, require_mapping
from headgate.targets.event_source.settings import mapping_settings_of
from headgate.targets.event_source.state import MappingPosition, SourceState
from headgate.targets.progress import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationResponseTypeDef as MappingAnswer

    from headgate.spec.plan import Plan
    from headgate.targets.lambda_alias import LambdaAliasDriver


SETTLED_STATES = ("Enabled", "Disabled")
"""States of a mapping in which it can be updated; in the others an update is on its way."""


class ConsumerMapping:
    """The mapping of one consumer.

    Parameters
    ----------
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

    def __init__(
        self, functions: LambdaClient, plan: Plan, alias: LambdaAliasDriver, still_ours: Callable[[], None]
    ) -> None:
        if not isinstance(plan.target, EventSourceTarget):
            raise TypeError(f"{plan.target.key} is no event source")
        self.uuid = plan.target.mapping
        self.mode = plan.target.mode
        self._functions = functions
        self._plan = plan
        self._alias = alias
        self._still_ours = still_ours

    def find(self) -> MappingAnswer:
        """The mapping, whatever is on its way; refused where there is none."""
        return require_mapping(self._functions, self.uuid)

    def settled(self, state: SourceState) -> MappingAnswer | Pending[SourceState]:
        """The mapping, when no update of it is on its way."""
        mapping = self._still_there()
        if mapping["State"] not in SETTLED_STATES:
            return Pending(state, f"target.mapping: {self.uuid} is {mapping['State']}")
        return mapping

    def _still_there(self) -> MappingAnswer:
        mapping = find_mapping(self._functions, self.uuid)
        if mapping is None:
            raise self.changed("is gone")
        return mapping

    def place(self, state: SourceState, mapping: MappingAnswer) -> MappingPosition:
        """Where the mapping stands, if that is where this rollout may have put it.

        Raises
        ------
        TargetChanged
            If it is not.
        """
        function, settings = mapping["FunctionArn"], mapping_settings_of(mapping, state.kind)
        candidate = state.candidate_place(100)
        if function not in (state.function, candidate.function):
            raise self.changed(f"points at {function}")
        ramps = [state.ramp(step.weight) for step in self._plan.steps]
        own = [state.original, state.held, state.at_rest, *ramps]
        if settings not in own:
            raise self.changed(f"has other settings: {settings.to_wire()}")
        version = candidate.version if function == candidate.function else self.routing()[0]
        return MappingPosition(function, version, settings)

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
        mapping = self._still_there()
        if mapping["FunctionArn"] != state.function:
            raise self.changed(f"points at {mapping['FunctionArn']}")
        if at_work and mapping["State"] in ("Disabling", "Disabled"):
            raise self.changed("was disabled by somebody else")

    def update(self, **parameters: Any) -> Pending[SourceState] | None:
        """Update the mapping in place; what is left out stays as it is.

        Returns
        -------
        Pending or None
            Pending if another update keeps this one from being made.
        """
        self._still_ours()
        functions = self._functions
        try:
            functions.update_event_source_mapping(UUID=self.uuid, **parameters)
        except (functions.exceptions.ResourceInUseException, functions.exceptions.ResourceConflictException) as error:
            return Pending(None, f"target.mapping: {self.uuid}: {error}")
        except functions.exceptions.ResourceNotFoundException:
            raise self.changed("is gone") from None
        return None

    def changed(self, how: str) -> TargetChanged:
        """The error that tells what somebody else has made of it."""
        return TargetChanged(f"{self._plan.target.key} was changed by somebody else: it {how}; it is left as found")


def modified_at(mapping: MappingAnswer) -> float:
    """When a mapping was changed last, in seconds since 1970."""
    moment: datetime | float = mapping["LastModified"]
    return moment.astimezone(UTC).timestamp() if isinstance(moment, datetime) else float(moment)
