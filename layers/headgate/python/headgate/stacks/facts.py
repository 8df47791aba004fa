"""What holds when the stack planner decides: the stack, the request, the target, and the rollouts of the resource.

This is the only module of the decisions that reads AWS and the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.dynamodb import seconds_since
from headgate.aws.errors import code_of, is_denied, message_of
from headgate.aws.lambda_functions import configuration_of
from headgate.errors import RequestRefused
from headgate.spec.targets import EventSourceTarget
from headgate.stacks.properties import (
    Target,
    in_properties,
    read_rollout,
    read_task_detail,
    target_in,
    target_of,
)
from headgate.targets.event_source.lookup import ConsumerLookup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient

    from headgate.aws.lambda_functions import FunctionConfiguration
    from headgate.aws.place import Place
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table
    from headgate.stacks.event import StackEvent
    from headgate.stacks.properties import Wanted
    from headgate.stacks.store import Claim, ResourceState, StackStore, StoredRequest


_VOLATILE = (
    "FunctionArn",
    "Version",
    "LastModified",
    "RevisionId",
    "MasterArn",
    "Description",
    "CodeSize",
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
    # AWS updates the runtime of $LATEST and of versions at different times.
    "RuntimeVersionConfig",
    # Of each upload of a package, also of the same one.
    "SigningJobArn",
    # A digest of the configuration, volatile fields and all.
    "ConfigSha256",
)
"""Fields of a configuration in which $LATEST differs from a version that was published from it."""

GONE_STATUSES = ("", "DELETE_COMPLETE")

STARTING_SECONDS = 60
"""How long an execution may take from its start until the record of its rollout is there."""


class Serving(NamedTuple):
    """What an alias serves."""

    version: str
    alone: bool
    """False while it splits its invocations between two versions."""


class Facts(NamedTuple):
    """Everything that a decision depends on."""

    event: StackEvent
    place: Place
    age: float = 0
    """Seconds since the request was received."""
    is_latest: bool = True
    """False if CloudFormation has sent a later request about the resource."""
    stack_status: str = "UPDATE_IN_PROGRESS"
    """Empty if there is no such stack any more."""
    resource: ResourceState | None = None
    fault: str = ""
    """Why the properties cannot be carried out, if they cannot."""
    target: Target | None = None
    """The target in the properties, or in the physical id of what is to be deleted; None if that is not valid."""
    wanted: Wanted | None = None
    """None for a deletion, and with a fault."""
    task: Mapping[str, Any] | None = None
    """The request of a Custom::HeadgateTask."""
    claim: Claim | None = None
    claimant_is_gone: bool = False
    """True if the stack that has the target does not exist any more."""
    through: Target | None = None
    """The alias whose version serves: the target, or the alias behind a mapping."""
    serving: Serving | None = None
    """None if the alias does not exist."""
    latest_sha256: str = ""
    """CodeSha256 of $LATEST; empty if it was not needed."""
    latest_serves: bool = False
    """True if $LATEST has the code and the configuration of the version that the alias points at."""
    version_state: str = ""
    """State of the version that was published for a new alias."""
    earlier: RolloutRecord | None = None
    """The rollout that an earlier request of this resource has started, if it has not ended."""
    earlier_starts: bool = False
    """True if such a rollout was about to start a moment ago, and has no record yet."""
    rollout: RolloutRecord | None = None
    """The rollout of this request."""

    @property
    def is_rolling_back(self) -> bool:
        """True if CloudFormation takes the stack back to what it was."""
        return "ROLLBACK" in self.stack_status

    @property
    def owns_claim(self) -> bool:
        """True if the target is claimed by this resource."""
        return self.claim is not None and self.claim.is_of(self.event)


class FactReader:
    """Reads facts."""

    def __init__(
        self,
        store: StackStore,
        table: Table,
        functions: LambdaClient,
        formation: CloudFormationClient,
        place: Place,
    ) -> None:
        self._store = store
        self._table = table
        self._functions = functions
        self._formation = formation
        self._place = place

    def read(self, stored: StoredRequest, *, stage: str = "", version: str = "") -> Facts:
        """Read what a decision depends on.

        Parameters
        ----------
        stage
            The stage of the request.
        version
            The version that was published for a new alias; empty if none was.
        """
        event = stored.event
        resource = self._store.resource(event.pk)
        facts = Facts(
            event=event,
            place=self._place,
            age=max(0.0, seconds_since(stored.received_at)),
            is_latest=resource.latest == event.request_id,
            stack_status=self._status_of(event.stack_id),
            resource=resource,
            rollout=self._table.rollout(event.rollout_id),
            **self._earlier(event, resource),
        )
        if event.is_task:
            return facts if event.request_type == "Delete" else self._with_task(facts)
        if event.request_type == "Delete":
            # CloudFormation makes up the physical id of a creation that it does not wait for any more.
            named = target_in(event.physical_id, self._place) or target_of(event.properties, self._place)
            facts = self._with_claim(facts._replace(target=named))
            # A deletion looks at the target only if the target may have to go back with the stack.
            if not (facts.is_rolling_back and facts.owns_claim):
                return facts
        try:
            wanted = read_rollout(event, self._place)
        except RequestRefused as refusal:
            return facts._replace(fault=str(refusal))
        if facts.target is None:
            facts = self._with_claim(facts._replace(target=wanted.target))
        facts = facts._replace(wanted=wanted)
        # A rollout that was started needs no look at the target: its record says what becomes of it.
        return facts if stage == "rolling" else self._with_target(facts, wanted, version)

    def _status_of(self, stack_id: str) -> str:
        try:
            [stack] = self._formation.describe_stacks(StackName=stack_id)["Stacks"]
        except ClientError as error:
            if code_of(error) == "ValidationError" and "does not exist" in message_of(error):
                return ""
            raise
        return stack["StackStatus"]

    def _earlier(self, event: StackEvent, resource: ResourceState) -> dict[str, Any]:
        if resource.rollout_id in ("", event.rollout_id):
            return {}
        record = self._table.rollout(resource.rollout_id)
        if record is None:
            return {"earlier_starts": seconds_since(resource.rollout_at) < STARTING_SECONDS}
        return {} if record.has_ended else {"earlier": record}

    def _with_task(self, facts: Facts) -> Facts:
        try:
            return facts._replace(task=read_task_detail(facts.event))
        except RequestRefused as refusal:
            return facts._replace(fault=str(refusal))

    def _with_claim(self, facts: Facts) -> Facts:
        claim = self._store.claim(facts.target.key) if facts.target else None
        if claim is None or claim.stack_id == facts.event.stack_id:
            return facts._replace(claim=claim)
        gone = self._status_of(claim.stack_id) in GONE_STATUSES
        return facts._replace(claim=claim, claimant_is_gone=gone)

    def _with_target(self, facts: Facts, wanted: Wanted, version: str) -> Facts:
        try:
            through = self._through(wanted)
            serving = self._serving(through)
            facts = facts._replace(through=through, serving=serving)
            if version:
                published = configuration_of(self._functions, through.function, version)
                facts = facts._replace(version_state=published.get("State", "Active"))
            return facts if wanted.version else self._with_latest(facts, through, serving)
        except RequestRefused as refusal:
            return facts._replace(fault=in_properties(str(refusal)))
        except ClientError as error:
            return facts._replace(fault=_fault_of(error, wanted))

    def _through(self, wanted: Wanted) -> Target:
        if not wanted.target.mapping:
            return wanted.target
        given = wanted.request["target"]
        found = ConsumerLookup(self._functions).find(EventSourceTarget.model_validate(given)).through
        return Target(found.name, found.alias)

    def _serving(self, alias: Target) -> Serving | None:
        try:
            found = self._functions.get_alias(FunctionName=alias.function, Name=alias.alias)
        except self._functions.exceptions.ResourceNotFoundException:
            return None
        weights = found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        return Serving(found["FunctionVersion"], alone=not any(weights.values()))

    def _with_latest(self, facts: Facts, through: Target, serving: Serving | None) -> Facts:
        latest = configuration_of(self._functions, through.function)
        serves = False
        if serving:
            version = configuration_of(self._functions, through.function, serving.version)
            serves = are_equal(latest, version)
        return facts._replace(latest_sha256=latest["CodeSha256"], latest_serves=serves)


def are_equal(latest: FunctionConfiguration, version: FunctionConfiguration) -> bool:
    """Return whether $LATEST and a version have the same code and the same configuration."""
    return _lasting(latest) == _lasting(version)


def _lasting(configuration: FunctionConfiguration) -> dict[str, Any]:
    """Return the fields of a configuration that do not change when it is published."""
    left_out = (*_VOLATILE, "ResponseMetadata")
    lasting = {name: value for name, value in configuration.items() if name not in left_out and value}
    if snap_start := configuration.get("SnapStart"):
        # Only a version is ever optimized.
        lasting["SnapStart"] = snap_start.get("ApplyOn")
    return lasting


def _fault_of(error: ClientError, wanted: Wanted) -> str:
    """Return what an error of Lambda means for the properties. Raise what may be temporary."""
    named = "Mapping" if wanted.target.mapping else "Alias"
    function = wanted.target.function or wanted.target.mapping
    if is_denied(error):
        return (
            f"{named}: access to {function} is denied: the parameter TargetFunctions of Headgate's stack does not "
            "cover it; deploy that stack with a pattern that does, or name another function"
        )
    if code_of(error) == "ResourceNotFoundException":
        return f"{named}: {message_of(error)}; name a function and a version that exist"
    raise error
