"""What holds when the stack planner decides: the stack, the request, the target, and the rollouts of the resource.

This is the only module of the decisions that reads AWS and the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.dynamodb import seconds_since
from headgate.aws.errors import code_of, is_denied, is_missing_stack, message_of
from headgate.aws.lambda_functions import configuration_of, differing
from headgate.aws.owning_stack import ALIAS, MAPPING, SERVICE, owner_of
from headgate.errors import RequestRefused
from headgate.rollouts.locks import Locks
from headgate.spec.targets import EventSourceTarget
from headgate.stacks.moves import has_updated
from headgate.stacks.origin import resource_of
from headgate.stacks.properties import (
    Target,
    Wanted,
    fingerprint_of,
    in_properties,
    read_rollout,
    read_task_detail,
    target_detail,
    target_in,
    target_of,
)
from headgate.stacks.store import reversed_pair_of
from headgate.targets.ecs_service.ways import running_part
from headgate.targets.event_source.lookup import ConsumerLookup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient

    from headgate.aws.owning_stack import StackOwner
    from headgate.aws.place import Place
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table
    from headgate.stacks.event import StackEvent
    from headgate.stacks.store import Claim, Note, ResourceState, StackStore, StoredRequest


GONE_STATUSES = ("", "DELETE_COMPLETE")

LEFT_STATUSES = ("DELETE_COMPLETE", "DELETE_SKIPPED")
"""Statuses of a resource that is not in its stack any more. One that was to be retained is skipped."""

STARTING_SECONDS = 60
"""How long an execution may take from its start until the record of its rollout is there."""


class Serving(NamedTuple):
    """What an alias or a service serves."""

    version: str
    """Of a service, family and revision of its task definition."""
    alone: bool
    """False while it splits its invocations between two versions."""
    other: str = ""
    """The version that gets a part of the invocations, while it splits them."""


class Moved(NamedTuple):
    """What the update that is rolled back has moved."""

    before: str
    """The version that served before; empty if there was no alias."""
    after: str
    by_stack: bool = False
    """True if CloudFormation itself has moved the alias, and moves it back to whatever its template has."""


class Facts(NamedTuple):
    """Everything that a decision depends on."""

    event: StackEvent
    place: Place
    age: float = 0
    """Seconds since the request was received."""
    is_latest: bool = True
    """False if CloudFormation has sent a later request about the resource."""
    contends: str = ""
    """The latest request when this one came, if that one takes this one back."""
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
    """True if the resource that has the target is not in its stack any more, or has another target there."""
    claimant_is_busy: bool = False
    """True if another request of this resource has made the claim, and is not answered yet."""
    holder: str = ""
    """The rollout that moves the alias that is to be deleted, or the target that is to go back; empty if none does."""
    owner: StackOwner | None = None
    """The stack that has the alias or the mapping as its resource; read only before the target is claimed."""
    through: Target | None = None
    """What serves: the target, or the alias behind a mapping."""
    serving: Serving | None = None
    """None if the alias does not exist."""
    moved_by_stack: bool = False
    """True if CloudFormation itself has moved the alias, or deployed the service, in the update of the request."""
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
    moved: Moved | None = None
    """What the update that is rolled back has moved on this target; None if nothing, or in no rollback."""

    @property
    def is_rolling_back(self) -> bool:
        """True if CloudFormation takes the stack back to what it was."""
        return "ROLLBACK" in self.stack_status

    @property
    def owns_claim(self) -> bool:
        """True if the target is claimed by this resource."""
        return self.claim is not None and self.claim.is_of(self.event) and not self.claimant_is_gone

    @property
    def made_claim(self) -> bool:
        """True if this request has claimed the target for its resource."""
        return self.claim is not None and self.owns_claim and self.claim.request_id == self.event.request_id

    @property
    def gives_claim_up(self) -> bool:
        """True if the claim is released at the end: by a deletion, or by the request that made it in vain."""
        return self.owns_claim if self.event.request_type == "Delete" else self.made_claim


class FactReader:
    """Reads facts.

    Parameters
    ----------
    ecs
        Makes the client of ECS, which only a service needs.
    """

    def __init__(
        self,
        store: StackStore,
        table: Table,
        functions: LambdaClient,
        formation: CloudFormationClient,
        place: Place,
        ecs: Callable[[], Any],
    ) -> None:
        self._ecs = ecs
        self._store = store
        self._table = table
        self._locks = Locks(table)
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
            contends=stored.contends,
            stack_status=self._status_of(event.stack_id),
            resource=resource,
            rollout=self._table.rollout(event.rollout_id),
            **self._earlier(event, resource),
        )
        if event.is_task:
            return facts if event.request_type == "Delete" else self._with_task(facts)
        if event.request_type == "Delete":
            named = target_in(event.physical_id, self._place)
            if named is None and not event.clean_up:
                # CloudFormation makes up the physical id of a creation that it does not wait for any more.
                named = target_of(event.properties, self._place)
            facts = self._with_holder(self._with_claim(facts._replace(target=named)))
            return self._back(facts, stage, version) if facts.is_rolling_back and facts.owns_claim else facts
        if facts.is_rolling_back:
            facts = self._with_claim(facts._replace(target=target_of(event.properties, self._place)))
            return self._back(facts, stage, version)
        try:
            wanted = read_rollout(event, self._place)
        except RequestRefused as refusal:
            return facts._replace(fault=str(refusal))
        facts = self._with_claim(facts._replace(target=wanted.target, wanted=wanted))
        # A rollout that was started needs no look at the target: its record says what becomes of it.
        if stage == "rolling":
            return facts
        facts = self._with_target(facts, wanted, version)
        # Later, the version that serves is on record as that of the old properties.
        return facts if stage else facts._replace(moved_by_stack=self._has_moved(facts))

    def _back(self, facts: Facts, stage: str, version: str) -> Facts:
        """Read what a rollback of the stack goes back to. It needs the target only, and no valid properties."""
        target = facts.target
        if target is None:
            return facts
        wanted = _wanted_back(facts.event, target, self._place)
        moved = self._moved(facts.event, facts.resource, target)
        facts = facts._replace(wanted=wanted, moved=moved)
        if stage == "rolling":
            return facts
        # What serves is for the answer only if nothing has to go back, so nothing depends on it then.
        read = self._with_target(facts, wanted, version)
        if moved is None:
            return read._replace(fault="")
        return read._replace(holder=self._mover_of(target, read.through, facts.event.rollout_id))

    def _mover_of(self, target: Target, through: Target | None, own: str) -> str:
        """Return the rollout of somebody else that moves a target, or the alias behind it; empty if none does."""
        owners = [self._table.lock(target.key).owner]
        if through:
            owners += [self._table.lock(through.key).owner, self._locks.owner_of_alias(through.key)]
        return next((owner for owner in owners if owner and owner != own), "")

    def _moved(self, event: StackEvent, resource: ResourceState | None, target: Target) -> Moved | None:
        note = resource.note if resource else None
        if note is None or note.target_key != target.key or not is_taken_back(note, event):
            return None
        record = self._table.rollout(note.rollout_id) if note.rollout_id else None
        promoted = record if record and record.status == "succeeded" else None
        # The request may have ended before it could complete its note.
        after = (promoted.serving or promoted.candidate) if promoted else note.after
        return Moved((promoted.stable if promoted else "") or note.before, after, note.by_stack) if after else None

    def _status_of(self, stack_id: str) -> str:
        try:
            [stack] = self._formation.describe_stacks(StackName=stack_id)["Stacks"]
        except ClientError as error:
            if is_missing_stack(error):
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
        event, target = facts.event, facts.target
        if target is None or (claim := self._store.claim(target.key)) is None:
            return facts
        facts = facts._replace(claim=claim)
        if not claim.is_of(event):
            return facts._replace(claimant_is_gone=self._has_left(claim, target))
        if claim.request_id == event.request_id:
            return facts
        maker = self._store.outcome(event.pk, claim.request_id)
        if event.request_type == "Update":
            return facts._replace(claimant_is_busy=maker == "PENDING")
        # A resource of this name that was retained may have left the claim. Its alias is not this one's to delete.
        begins = event.request_type == "Create" or event.physical_id == event.refused_id
        return facts._replace(claimant_is_gone=begins and maker not in ("PENDING", "FAILED"))

    def _has_left(self, claim: Claim, target: Target) -> bool:
        """Return whether the resource that has claimed a target is not in its stack any more, or has another target."""
        stack = self._status_of(claim.stack_id)
        if stack in GONE_STATUSES:
            return True
        found = resource_of(self._formation, claim.stack_id, claim.logical_id)
        if found is None or found["ResourceStatus"] in LEFT_STATUSES:
            return True
        # While a stack is updated, the resource has its old physical id, and the target may be its new one.
        named = target_in(found.get("PhysicalResourceId", ""), self._place)
        return stack.endswith("_COMPLETE") and named not in (None, target)

    def _with_holder(self, facts: Facts) -> Facts:
        """Add the rollout that moves an alias that this resource has created."""
        if facts.claim is None or facts.claim.created is None or facts.target is None or not facts.owns_claim:
            return facts
        owner = self._locks.owner_of_alias(facts.claim.created.key) or self._table.lock(facts.target.key).owner
        record = self._table.rollout(owner) if owner else None
        return facts if record is None or record.has_ended else facts._replace(holder=record.id)

    def _with_target(self, facts: Facts, wanted: Wanted, version: str) -> Facts:
        try:
            through = self._through(wanted)
            serving = self._serving(through)
            facts = facts._replace(through=through, serving=serving, owner=self._owner(facts, wanted, serving))
            # A service's revisions are not published here.
            if version and through.function:
                published = configuration_of(self._functions, through.function, version)
                facts = facts._replace(version_state=published.get("State", "Active"))
            needs_latest = not wanted.version and not facts.is_rolling_back
            return self._with_latest(facts, through, serving) if needs_latest else facts
        except RequestRefused as refusal:
            return facts._replace(fault=in_properties(str(refusal), facts.event.properties))
        except ClientError as error:
            return facts._replace(fault=_fault_of(error, wanted))

    def _owner(self, facts: Facts, wanted: Wanted, serving: Serving | None) -> StackOwner | None:
        """Return whose resource an existing target is that this resource has not claimed yet."""
        if facts.owns_claim or serving is None or facts.is_rolling_back:
            return None
        kind = {"Alias": ALIAS, "Mapping": MAPPING, "Service": SERVICE}[wanted.target.named]
        return owner_of(self._formation, wanted.target.physical_id(self._place), kind)

    def _has_moved(self, facts: Facts) -> bool:
        """Return whether an update forward has moved the alias before it came to the rollout.

        The stack is asked only if the alias serves another version than after the last deployment: a rollout by hand
        may have moved it since, too.
        """
        event, through = facts.event, facts.through
        if event.request_type != "Update" or through is None or facts.serving is None:
            return False
        if facts.stack_status != "UPDATE_IN_PROGRESS":
            # It rolls back, or nobody waits for the answer: its stack may even be gone.
            return False
        if facts.target != target_in(event.physical_id, facts.place):
            # Another target has its first deployment.
            return False
        if facts.resource and facts.serving.version == facts.resource.served_with(event.old_properties):
            return False
        kind = SERVICE if through.service else ALIAS
        return has_updated(self._formation, event.stack_id, kind, through.physical_id(facts.place))

    def _through(self, wanted: Wanted) -> Target:
        if not wanted.target.mapping:
            return wanted.target
        given = wanted.request["target"]
        found = ConsumerLookup(self._functions).find(EventSourceTarget.model_validate(given)).through
        return Target(found.name, found.alias)

    def _serving(self, through: Target) -> Serving | None:
        return self._serving_of_service(through) if through.service else self._serving_of_alias(through)

    def _serving_of_service(self, target: Target) -> Serving:
        """Return what a service serves. A stack creates the service itself, so one that is missing is a fault."""
        found = self._ecs().describe_services(cluster=target.cluster, services=[target.service])["services"]
        running = running_part(found[0]) if found and found[0]["status"] == "ACTIVE" else {}
        if not running.get("taskDefinition"):
            raise RequestRefused(
                f"target.service: there is no service {target.service} in the cluster {target.cluster} with a task "
                "definition; name an existing one, and let this resource depend on it"
            )
        return Serving(running["taskDefinition"].rpartition("/")[2], alone=True)

    def _serving_of_alias(self, alias: Target) -> Serving | None:
        try:
            found = self._functions.get_alias(FunctionName=alias.function, Name=alias.alias)
        except self._functions.exceptions.ResourceNotFoundException:
            return None
        weights = found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        other = next((version for version, weight in weights.items() if weight), "")
        return Serving(found["FunctionVersion"], alone=not other, other=other)

    def _with_latest(self, facts: Facts, through: Target, serving: Serving | None) -> Facts:
        latest = configuration_of(self._functions, through.function)
        serves = False
        if serving:
            version = configuration_of(self._functions, through.function, serving.version)
            serves = not differing(latest, version)
        return facts._replace(latest_sha256=latest["CodeSha256"], latest_serves=serves)


def is_taken_back(note: Note, event: StackEvent) -> bool:
    """Return whether a request in a rollback takes back what the request of a note has moved.

    An update goes back to the old properties of the one before. The deletion of a resource that came with an update has
    its new ones.
    """
    if event.request_type == "Delete":
        return note.pair.partition("/")[2] == fingerprint_of(event.properties)
    return note.pair == reversed_pair_of(event)


def _wanted_back(event: StackEvent, target: Target, place: Place) -> Wanted:
    """Return what a way back asks for: the properties count as far as they are valid."""
    try:
        wanted = read_rollout(event, place)
    except RequestRefused:
        return Wanted(target, {"target": target_detail({}, target)})
    # The physical id of a deletion says which target it is about.
    return wanted if wanted.target == target else Wanted(target, {"target": target_detail({}, target)})


def _fault_of(error: ClientError, wanted: Wanted) -> str:
    """Return what an error of Lambda means for the properties. Raise what may be temporary."""
    target, named = wanted.target, wanted.target.named
    function = target.function or target.mapping or f"{target.cluster}/{target.service}"
    if target.service and is_denied(error):
        return (
            f"Service: access to {function} is denied: the parameters TargetServices and TargetClusters of Headgate's "
            "stack do not cover it; deploy that stack with patterns that do, or name another service"
        )
    if code_of(error) == "ClusterNotFoundException":
        return f"Service: there is no cluster {target.cluster}; name an existing one"
    if is_denied(error):
        return (
            f"{named}: access to {function} is denied: the parameter TargetFunctions of Headgate's stack does not "
            "cover it; deploy that stack with a pattern that does, or name another function"
        )
    if code_of(error) == "ResourceNotFoundException":
        return f"{named}: {message_of(error)}; name a function and a version that exist"
    raise error
