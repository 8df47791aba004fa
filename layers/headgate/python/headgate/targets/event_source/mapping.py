"""The event source mapping of a consumer in a rollout.

A mapping has no revision. So before each write it is compared with the settings that this rollout may have made. It is
updated in place and never deleted, which keeps the position in a stream.
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
"""States of a mapping in which it can be updated. In other states an update is in progress."""


class ConsumerMapping:
    """The mapping of one consumer.

    Parameters
    ----------
    plan
        The rollout's plan. Its ``through`` is the alias that the mapping points at.
    alias
        The driver of that alias.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock. Called before each update.

    Attributes
    ----------
    uuid
        The mapping's id.
    mode
        The mode from the request or the planner.
    """

    def __init__(
        self, functions: LambdaClient, plan: Plan, alias: LambdaAliasDriver, still_ours: Callable[[], None]
    ) -> None:
        if not isinstance(plan.target, EventSourceTarget):
            raise TypeError(f"{plan.target.key} is not an event source")
        self.uuid = plan.target.mapping
        self.mode = plan.target.mode
        self._functions = functions
        self._plan = plan
        self._alias = alias
        self._still_ours = still_ours

    def find(self) -> MappingAnswer:
        """Return the mapping in any state, or raise RequestRefused if it does not exist."""
        return require_mapping(self._functions, self.uuid)

    def settled(self, state: SourceState) -> MappingAnswer | Pending[SourceState]:
        """Return the mapping, or Pending while an update is in progress."""
        mapping = self._existing()
        if mapping["State"] not in SETTLED_STATES:
            return Pending(state, f"target.mapping: {self.uuid} is {mapping['State']}")
        return mapping

    def _existing(self) -> MappingAnswer:
        mapping = find_mapping(self._functions, self.uuid)
        if mapping is None:
            raise self.changed("was deleted")
        return mapping

    def place(self, state: SourceState, mapping: MappingAnswer) -> MappingPosition:
        """Return the position of the mapping, if this rollout may have set it.

        Raises
        ------
        TargetChanged
            If somebody else has changed the mapping.
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
        """Return the version that the mapping's alias points at, and the shares of other versions."""
        try:
            alias = self._alias.describe()
        except RequestRefused:
            raise self.changed("points at an alias that does not exist") from None
        return str(alias["version"]), alias["weights"]

    def require_the_alias(self, state: SourceState, *, at_work: bool) -> None:
        """Check that the mapping still invokes the alias whose weights will change.

        Its settings are not checked, because this rollout does not change them.

        Parameters
        ----------
        at_work
            True if it must not be disabled either: a candidate without traffic must not be promoted.
        """
        mapping = self._existing()
        if mapping["FunctionArn"] != state.function:
            raise self.changed(f"points at {mapping['FunctionArn']}")
        if at_work and mapping["State"] in ("Disabling", "Disabled"):
            raise self.changed("was disabled")

    def update(self, **parameters: Any) -> Pending[SourceState] | None:
        """Update the mapping in place. Parameters that are left out stay unchanged.

        Returns
        -------
        Pending or None
            Pending if another update is in progress.

        Raises
        ------
        TargetChanged
            If the mapping or its alias was deleted.
        CandidateGone
            If the mapping cannot be pointed at the candidate, because that was deleted.
        """
        self._still_ours()
        functions = self._functions
        try:
            functions.update_event_source_mapping(UUID=self.uuid, **parameters)
        except (functions.exceptions.ResourceInUseException, functions.exceptions.ResourceConflictException) as error:
            return Pending(None, f"target.mapping: {self.uuid}: {error}")
        except functions.exceptions.InvalidParameterValueException:
            self._require_all(parameters.get("FunctionName"))
            raise
        except functions.exceptions.ResourceNotFoundException as error:
            self._require_all(parameters.get("FunctionName"))
            # Everything exists: Lambda had not seen some of it yet.
            return Pending(None, f"target.mapping: {self.uuid}: {error}")
        return None

    def _require_all(self, function: str | None) -> None:
        """Find out what is missing after an error of an update, which does not say it: the mapping, or its function."""
        self._existing()
        if function is None:
            return
        qualifier = function.rpartition(":")[2]
        # Only the candidate of a ramp is named by its version.
        if qualifier.isdigit():
            self._alias.require_candidate(qualifier)
        else:
            self.routing()

    def changed(self, how: str) -> TargetChanged:
        """Return the error for a change by somebody else."""
        return TargetChanged(
            f"{self._plan.target.key} was changed by somebody else: it {how}; Headgate leaves it unchanged"
        )


def modified_at(mapping: MappingAnswer) -> float:
    """Return the time of a mapping's last change, in seconds since 1970."""
    moment: datetime | float = mapping["LastModified"]
    return moment.astimezone(UTC).timestamp() if isinstance(moment, datetime) else float(moment)
