"""Driver for Lambda aliases: an alias splits invocations between two published versions of its function.

https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied, message_of
from headgate.aws.lambda_functions import configuration_of, unsupported
from headgate.aws.observability import logger
from headgate.errors import CandidateGone, RequestRefused, TargetChanged
from headgate.spec.candidate import ImageCode, NewCode, PublishedVersion, PublishLatest
from headgate.spec.position import PROMOTED, Promoted, Weight
from headgate.spec.target_state import CodeInLatest, TargetState
from headgate.targets.latest_code import GIVE_BACK_SECONDS, Impossible, LatestCode, NotYet, refuse_rejected_code
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import (
        AliasConfigurationResponseTypeDef,
        GetProvisionedConcurrencyConfigResponseTypeDef,
    )

    from headgate.aws.lambda_functions import FunctionConfiguration
    from headgate.rollouts.record import RejectedCode
    from headgate.spec.candidate import Publish, ZipCode
    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.progress import TargetProgress
    from headgate.targets.scaling_targets import ScalingTargets


class AliasState(TargetState):
    """State of the alias between calls of the driver."""

    stable: str
    revision_id: str
    """The alias's RevisionId after the last write of this rollout, or at the first read."""
    provisioned: int = 0
    """Provisioned concurrency that the rollout gave the candidate; 0 if it gave none."""
    candidate_provisioned: int | None = None
    """Provisioned concurrency that the candidate had before that. A rollback restores it. None if it had none."""
    stable_provisioned: int | None = None
    """Provisioned concurrency of the stable version at the last look. A rollback restores it after a release."""
    warnings: list[str] | None = None
    """What may change the provisioned concurrency of a version after the rollout, each with the fix. None if no version
    was seen to have any."""

    @property
    def known_candidate(self) -> str:
        """The candidate's version, which must be published."""
        if self.candidate is None:
            raise RequestRefused("candidate: it was not published yet")
        return self.candidate

    @property
    def to_restore(self) -> int:
        """Provisioned concurrency that the stable version gets back after a release."""
        # An earlier version of Headgate recorded one number for both versions.
        return self.stable_provisioned or self.provisioned


class Routing(NamedTuple):
    """Routing of an alias: the version that it points at, and the shares (0 to 1) of other versions."""

    version: str
    weights: dict[str, float]

    def alike(self, other: Routing) -> bool:
        return self.version == other.version and _rounded(self.weights) == _rounded(other.weights)


class LambdaAliasDriver:
    """Moves one alias.

    Parameters
    ----------
    client
        A Lambda client.
    scaling
        Finds the versions that Application Auto Scaling scales; None for a driver that only looks.
    plan
        The rollout's plan.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock. Called before each change.
    aim
        The position that the last forward step requested, even if its response was lost.
    rejected
        Returns the code that an earlier rollout left in $LATEST of the function with this name, if one did.
    """

    def __init__(
        self,
        client: LambdaClient,
        scaling: ScalingTargets | None,
        plan: Plan,
        still_ours: Callable[[], None],
        aim: Position | None = None,
        *,
        rejected: Callable[[str], RejectedCode | None],
    ) -> None:
        self._client = client
        self._scaling = scaling
        self._plan = plan
        self._still_ours = still_ours
        self._aim = aim
        self._target = plan.alias
        self._latest = LatestCode(client, self._target.function)
        self._rejected = rejected
        self._alias = {"FunctionName": self._target.function, "Name": self._target.alias}

    def describe(self) -> dict[str, Any]:
        """Return version, weights and RevisionId of the alias."""
        alias = self._get_alias()
        routing = _routing_of(alias)
        return {"version": routing.version, "weights": routing.weights, "revisionId": alias["RevisionId"]}

    def look_ahead(self) -> AliasState:
        """Check what ``prepare`` checks, as far as that changes nothing, and return the versions that it would find.

        The candidate is missing if it is still to be published.

        Raises
        ------
        RequestRefused
            If ``prepare`` would refuse the rollout now.
        """
        alias = self._checked_alias()
        found = AliasState(stable=alias["FunctionVersion"], revision_id=alias["RevisionId"])
        serving = self._checked_serving(found.stable)
        if not isinstance(self._plan.candidate, PublishedVersion):
            return found
        candidate = self.configuration(self._plan.candidate.version, "candidate.version")
        self._check_candidate(serving, candidate)
        _not_active(candidate, found)
        return found.model_copy(update={"candidate": candidate["Version"]})

    def prepare(self, known: AliasState | None = None) -> TargetProgress[AliasState]:
        """Check that the alias can be rolled out, publish the candidate if requested, and wait until it is active.

        Parameters
        ----------
        known
            The state of an earlier pending call. Its candidate is not published again.

        Raises
        ------
        RequestRefused
            If the target or the candidate does not allow the rollout. Traffic did not change.
        """
        alias = self._checked_alias()
        stable = alias["FunctionVersion"]
        self._still_ours()
        state = AliasState(stable=stable, revision_id=alias["RevisionId"])
        if known:
            state = known.model_copy(update={"stable": state.stable, "revision_id": state.revision_id})
        serving = self._checked_serving(stable)
        candidate = self._candidate(state)
        if isinstance(candidate, Pending):
            return candidate
        self._check_candidate(serving, candidate)
        state = state.model_copy(update={"candidate": candidate["Version"]})
        if waits := _not_active(candidate, state):
            return waits
        try:
            return self._match_provisioned_concurrency(state)
        except RequestRefused:
            if state.provisioned:
                self._take_back(state)
            raise

    def shift(self, state: AliasState, weight: float) -> TargetProgress[AliasState]:
        """Send ``weight`` percent to the candidate."""
        return self._move(state, Weight(weight))

    def promote(self, state: AliasState) -> TargetProgress[AliasState]:
        """Point the alias at the candidate only."""
        ready = self.prepare_promotion(state)
        if isinstance(ready, Pending):
            return ready
        return self._move(ready.state, PROMOTED, to_release=bool(ready.state.provisioned))

    def prepare_promotion(self, state: AliasState) -> TargetProgress[AliasState]:
        """Give the candidate the stable version's provisioned concurrency, which may have been scaled since Prepare.

        Raises
        ------
        RequestRefused
            If there is not that much. The candidate must not serve all traffic with less.
        """
        return self._match_provisioned_concurrency(state)

    def rollback(self, state: AliasState) -> TargetProgress[AliasState]:
        """Point the alias at the stable version only."""
        to_release = state.latest is not None
        if state.candidate is None:  # Nothing was moved yet.
            return Done(state.model_copy(update={"to_release": to_release}))
        moved = self._move(state, Weight(0), to_release=to_release)
        if isinstance(moved, Pending):
            return moved
        if state.provisioned:
            restored = self._restore_provisioned_concurrency(state)
            self._take_back(state)
            # The concurrency may be available now that the candidate does not have it.
            if not restored and not self._restore_provisioned_concurrency(state):
                logger.warning("the provisioned concurrency could not be restored", version=state.stable)
        return Done(moved.state.model_copy(update={"provisioned": 0, "candidate_provisioned": None}))

    def release(self, state: AliasState) -> TargetProgress[AliasState]:
        """Remove the provisioned concurrency of the replaced version.

        Raises
        ------
        TargetChanged
            If the alias does not point only at the candidate: its versions may need that concurrency.
        """
        found = self._find()
        # Check the lock after reading the alias: a new lock owner may have moved it.
        self._still_ours()
        if not found.alike(_routing_at(PROMOTED, state)):
            raise self._changed(found)
        if state.provisioned:
            held = _requested(self._provisioned_concurrency(state.stable))
            if held not in (0, state.to_restore):
                # It was scaled since the promotion. Record what is removed, so that a rollback can restore it.
                noted = state.model_copy(update={"stable_provisioned": held})
                where = f"provisioned concurrency of version {state.stable}"
                return Pending(noted, f"target: {where}, {held}, will be removed")
            self._release(state.stable)
        return Done(state)

    def restore(self, state: AliasState) -> TargetProgress[AliasState]:
        """Give $LATEST the stable version's code back, if the rollout has put other code there.

        The rest was restored by the rollback. Nothing here changes how the rollout ends: if the code cannot be given
        back, the state says why, and the end of the rollout records it.
        """
        put = state.latest
        if put is None or put.kept:
            return Done(state.model_copy(update={"to_release": False}))
        self._still_ours()
        since = put.since or int(time.time() * 1000)
        try:
            self._latest.give_back(put, state.stable)
        except Impossible as error:
            return Done(
                _left(state, put.model_copy(update={"code_sha256": put.code_sha256 or error.code_sha256}), str(error))
            )
        except NotYet as waits:
            if time.time() < since / 1000 + GIVE_BACK_SECONDS:
                begun = put.model_copy(update={"since": since})
                return Pending(state.model_copy(update={"latest": begun}), f"{self._target.function}: {waits}")
            if waits.rejected:
                return Done(_left(state, put, f"this could not be done in {GIVE_BACK_SECONDS} s: {waits}"))
        return Done(state.model_copy(update={"latest": None, "to_release": False}))

    def require_candidate(self, version: str) -> None:
        """Raise CandidateGone if the candidate, which was prepared, no longer exists."""
        if self._configuration_of(version) is None:
            raise CandidateGone(
                f"candidate version {version} is gone: it was deleted from {self._target.function} during the rollout; "
                "publish it again, and exclude the versions of running rollouts from clean-up jobs"
            )

    def _restore_provisioned_concurrency(self, state: AliasState) -> bool:
        """Restore the provisioned concurrency that ``release`` may have removed. Return False if Lambda refuses.

        ``release`` follows only a promotion. Before one, a stable version without it has lost it to somebody else.
        """
        if PROMOTED not in (state.position, self._aim) or self._provisioned_concurrency(state.stable):
            return True
        return self._provision(state.stable, state.to_restore) is None

    def _take_back(self, state: AliasState) -> None:
        """Let the candidate have what it had before the rollout, unless somebody else has removed it."""
        if not state.candidate_provisioned:
            self._release(state.known_candidate)
            return
        held = _requested(self._provisioned_concurrency(state.known_candidate))
        if held in (0, state.candidate_provisioned):
            return
        if error := self._provision(state.known_candidate, state.candidate_provisioned):
            logger.warning(
                "the provisioned concurrency could not be restored", version=state.known_candidate, reason=str(error)
            )

    def _provision(self, version: str, executions: int) -> ClientError | None:
        """Request provisioned concurrency for a version. Return the error if Lambda refuses it.

        There may not be that much, or an alias with provisioned concurrency points at the version.
        """
        refused = self._client.exceptions
        try:
            self._client.put_provisioned_concurrency_config(
                FunctionName=self._target.function,
                Qualifier=version,
                ProvisionedConcurrentExecutions=executions,
            )
        except (refused.InvalidParameterValueException, refused.ResourceConflictException) as error:
            return error
        return None

    def _release(self, version: str) -> None:
        """Remove a version's provisioned concurrency, if the version and its concurrency exist."""
        gone = self._client.exceptions
        with suppress(gone.ProvisionedConcurrencyConfigNotFoundException, gone.ResourceNotFoundException):
            self._client.delete_provisioned_concurrency_config(FunctionName=self._target.function, Qualifier=version)

    def _provisioned_concurrency(self, qualifier: str) -> GetProvisionedConcurrencyConfigResponseTypeDef | None:
        """Return the configuration of a version or alias; None if it has none, or does not exist."""
        none = self._client.exceptions
        try:
            return self._client.get_provisioned_concurrency_config(
                FunctionName=self._target.function, Qualifier=qualifier
            )
        except (none.ProvisionedConcurrencyConfigNotFoundException, none.ResourceNotFoundException):
            return None

    def _match_provisioned_concurrency(self, state: AliasState) -> TargetProgress[AliasState]:
        """Give the candidate as much as the stable version has, and wait until it is allocated.

        What the candidate has is never lowered: it may already serve more traffic than the stable version.
        """
        wanted = _requested(self._provisioned_concurrency(state.stable))
        if not wanted:
            return Done(state)
        state = state.model_copy(update={"stable_provisioned": wanted})
        given = self._provisioned_concurrency(state.known_candidate)
        where = f"candidate: provisioned concurrency of version {state.known_candidate}"
        if _requested(given) < wanted:
            return self._raise_provisioned_concurrency(state, _requested(given), wanted, where)
        if given and given["Status"] == "IN_PROGRESS":
            return Pending(state, f"{where} is being allocated")
        if given and given["Status"] == "FAILED":
            raise RequestRefused(f"{where} could not be allocated: {given.get('StatusReason')}")
        # A rollback removes only what this rollout added, not what the candidate had before.
        if state.warnings is not None or self._scaling is None:
            return Done(state)
        warnings = self._scaling.warnings_about(self._target, state.stable, state.known_candidate)
        return Done(state.model_copy(update={"warnings": warnings}))

    def _raise_provisioned_concurrency(
        self, state: AliasState, held: int, wanted: int, where: str
    ) -> Pending[AliasState]:
        if state.provisioned != wanted:
            # Record the intent before the change, so that a recovery knows what to undo.
            before = state.candidate_provisioned if state.provisioned else held or None
            intent = {"provisioned": wanted, "candidate_provisioned": before}
            return Pending(state.model_copy(update=intent), f"{where} will be set to {wanted}")
        self._require_own_position(state)
        self.require_candidate(state.known_candidate)
        if error := self._provision(state.known_candidate, wanted):
            raise RequestRefused(f"{where} cannot be {wanted} like that of version {state.stable}: {error}")
        return Pending(state, f"{where} was requested: {wanted}")

    def _require_own_position(self, state: AliasState) -> None:
        """Raise TargetChanged if somebody else has moved the alias."""
        found = self._find()
        if not any(found.alike(own) for own in self._own_positions(state)):
            raise self._changed(found)
        # Check the lock after reading the alias: a new lock owner may have moved it.
        self._still_ours()

    def _own_positions(self, state: AliasState) -> list[Routing]:
        """Return the routings that this rollout may have set: the last confirmed one and the one requested since."""
        return [_routing_at(position, state) for position in {state.position, self._aim} if position is not None]

    def _move(self, state: AliasState, position: Position, **changes: Any) -> TargetProgress[AliasState]:
        """Write the alias, unless somebody else has moved it.

        An outdated RevisionId may come from this rollout (a response was lost) or from a change that does not move
        traffic (a description). So the routing is compared instead.

        Parameters
        ----------
        changes
            Other changes of the state after the write.
        """
        intended = _routing_at(position, state)
        self._still_ours()
        try:
            alias = self._write_over(intended, state)
        except self._client.exceptions.PreconditionFailedException:
            # Changed since it was read: the next call checks it.
            return Pending(None, f"{self._target.key} was changed during this call")
        except self._client.exceptions.ResourceNotFoundException as error:
            self._require_alias_and_versions(state, intended)
            # Both exist: Lambda had not seen one of them yet.
            return Pending(None, f"{self._target.key}: {message_of(error)}")
        moved = {"revision_id": alias["RevisionId"], "shifted_at": int(time.time() * 1000), "position": position}
        return Done(state.model_copy(update=moved | changes))

    def _write_over(self, intended: Routing, state: AliasState) -> AliasConfigurationResponseTypeDef:
        """Write the alias if it is at a position of this rollout, or return it if it has that routing already."""
        try:
            return self._write(intended, state.revision_id)
        except self._client.exceptions.PreconditionFailedException:
            alias = self._existing_alias()
        found = _routing_of(alias)
        if found.alike(intended):
            return alias
        if not any(found.alike(own) for own in self._own_positions(state)):
            raise self._changed(found)
        # Check the lock again: a later lock owner changes the RevisionId with its first write.
        self._still_ours()
        return self._write(intended, alias["RevisionId"])

    def _require_alias_and_versions(self, state: AliasState, intended: Routing) -> None:
        """Find out what is missing after a ResourceNotFoundException of UpdateAlias, which does not say it.

        An alias protects the versions that it routes to. So the candidate can be deleted before its first traffic, and
        the stable version after the promotion.

        Raises
        ------
        TargetChanged
            If the alias is gone, or the stable version.
        CandidateGone
            If only the candidate is gone.
        """
        found = self._find()
        needed = {intended.version, *intended.weights}
        if state.stable in needed and self._configuration_of(state.stable) is None:
            raise self._changed(found, lost=state.stable)
        if state.known_candidate in needed:
            self.require_candidate(state.known_candidate)

    def _find(self) -> Routing:
        """Return the current routing of the alias."""
        return _routing_of(self._existing_alias())

    def _existing_alias(self) -> AliasConfigurationResponseTypeDef:
        """Return the alias, which this rollout has already found once."""
        try:
            return self._client.get_alias(**self._alias)
        except self._client.exceptions.ResourceNotFoundException:
            raise self._changed() from None

    def _changed(self, found: Routing | None = None, *, lost: str | None = None) -> TargetChanged:
        """Return the error for a change by somebody else; without a routing, the alias was deleted.

        Parameters
        ----------
        lost
            The stable version, if it was deleted.
        """
        changed = f"{self._target.key} was changed by somebody else:"
        if found is None:
            return TargetChanged(f"{changed} it was deleted")
        shares = f" and sends {_shares(found.weights)}" if found.weights else ""
        it = f"stable version {lost} is gone, and it" if lost else "it"
        return TargetChanged(f"{changed} {it} serves version {found.version}{shares}; Headgate leaves it unchanged")

    def _write(self, routing: Routing, revision_id: str) -> AliasConfigurationResponseTypeDef:
        return self._client.update_alias(
            **self._alias,
            FunctionVersion=routing.version,
            RoutingConfig={"AdditionalVersionWeights": routing.weights},
            RevisionId=revision_id,
        )

    def _checked_alias(self) -> AliasConfigurationResponseTypeDef:
        """Return the alias, or refuse one that cannot be rolled out."""
        alias = self._get_alias()
        stable = _routing_of(alias)
        where = self._where
        if stable.version.startswith("$LATEST"):
            # $LATEST.PUBLISHED of a managed instance is replaced by each publication, and cannot be rolled back to.
            raise RequestRefused(
                f"target.alias: {where} points at {stable.version}; point it at a published version first, by number"
            )
        if stable.weights:
            raise RequestRefused(
                f"target.alias: {where} already sends {_shares(stable.weights)}; remove these weights first "
                "(update-alias --routing-config AdditionalVersionWeights={})"
            )
        if self._provisioned_concurrency(self._target.alias):
            raise RequestRefused(
                f"target.alias: {where} has provisioned concurrency, which Lambda does not support with weights; "
                f"configure it on version {stable.version} instead: delete-provisioned-concurrency-config --qualifier "
                f"{self._target.alias}, then put-provisioned-concurrency-config --qualifier {stable.version}"
            )
        return alias

    def _checked_serving(self, version: str) -> FunctionConfiguration:
        """Return the configuration of the stable version, or refuse one that Headgate does not support."""
        serving = self.configuration(version, "target.alias")
        _refuse_unsupported(serving, "target.alias")
        return serving

    def _check_candidate(self, serving: FunctionConfiguration, candidate: FunctionConfiguration) -> None:
        """Refuse a candidate that already serves, or beside which the stable version cannot serve."""
        if candidate["Version"] == serving["Version"]:
            raise RequestRefused(
                f"candidate: {self._where} already serves version {serving['Version']}"
                + (
                    "; name another version, or use candidate.publish or candidate.code"
                    if isinstance(self._plan.candidate, PublishedVersion)
                    else "; code and configuration have not changed since it was published: update the function first"
                )
            )
        _refuse_unsupported(candidate, "candidate")
        self._check_compatible(serving, candidate)

    @property
    def _where(self) -> str:
        return f"{self._target.function}:{self._target.alias}"

    def _get_alias(self) -> AliasConfigurationResponseTypeDef:
        try:
            return self._client.get_alias(**self._alias)
        except self._client.exceptions.ResourceNotFoundException:
            raise RequestRefused(
                f"target: function {self._target.function} with alias {self._target.alias} does not exist; "
                f"check both names and the Region, or create the alias with aws lambda create-alias"
            ) from None
        except ClientError as error:
            if not is_denied(error):
                raise
            raise RequestRefused(
                f"target.function: {self._target.function} is not covered by Headgate's parameter "
                f"TargetFunctions: {message_of(error)}"
            ) from None

    def _candidate(self, state: AliasState) -> FunctionConfiguration | Pending[AliasState]:
        """Return the configuration of the candidate version. Publish it first if the plan requires it.

        Lambda returns the last version if neither code nor configuration has changed, so a lost response is harmless.
        """
        if state.candidate is not None:
            return self.configuration(state.candidate, "candidate")
        match self._plan.candidate:
            case PublishedVersion(version=version):
                return self.configuration(version, "candidate.version")
            case NewCode(code=code):
                return self._publish_code(code, state)
            case PublishLatest(publish=publish):
                return self._publish_latest(publish, state)
            case _:
                raise RequestRefused("candidate: must be a version or code of the function, and not a task definition")

    def _publish_code(self, code: ZipCode | ImageCode, state: AliasState) -> Pending[AliasState]:
        """Put new code into $LATEST and publish it, after recording which code $LATEST had before."""
        latest = self._latest_configuration()
        found = latest["CodeSha256"]
        if state.latest is None:
            # Record the intent before the change, so that the end of the rollout knows what to undo.
            put = CodeInLatest(function=self._target.name, before=found)
            intent = state.model_copy(update={"latest": put, "to_release": True})
            return Pending(intent, "candidate: its code will be put into $LATEST")
        source = {"RevisionId": latest["RevisionId"], **_source_of(code)}
        published = self._publishing(
            lambda: self._client.update_function_code(FunctionName=self._target.function, Publish=True, **source)  # type: ignore[arg-type]
        )
        if isinstance(published, Pending):
            return published
        put = state.latest.model_copy(update={"code_sha256": published["CodeSha256"]})
        if found not in (put.before, put.code_sha256):
            # Somebody else has changed it since the intent was recorded.
            put = put.model_copy(update={"before": found})
        # Recorded before any check of the version: if one refuses it, its code is still in $LATEST.
        changes = {"candidate": published["Version"], "latest": put}
        return Pending(state.model_copy(update=changes), f"candidate: version {published['Version']} was published")

    def _publish_latest(self, publish: Publish, state: AliasState) -> FunctionConfiguration | Pending[AliasState]:
        """Publish what $LATEST holds, unless an earlier rollout rejected it or the request confirms other code."""
        function, rejected = self._target.function, self._rejected(self._target.name)
        if publish.confirm is None and rejected is None:
            return self._publishing(lambda: self._client.publish_version(FunctionName=function))
        code = self._latest_configuration()["CodeSha256"]
        stable = self.configuration(state.stable, "target.alias").get("CodeSha256")
        refuse_rejected_code(publish, self._target.name, code, stable, rejected)
        try:
            return self._publishing(lambda: self._client.publish_version(FunctionName=function, CodeSha256=code))
        except RequestRefused:
            # Lambda refuses it too if the code has changed since it was checked: the next call checks it again.
            if self._latest_configuration()["CodeSha256"] == code:
                raise
            return Pending(None, "candidate: the code in $LATEST was changed during this call")

    def _latest_configuration(self) -> FunctionConfiguration:
        try:
            return self._latest.configuration()
        except self._client.exceptions.ResourceNotFoundException:
            raise RequestRefused(f"target.function: {self._target.function} does not exist any more") from None

    def _publishing(self, publish: Callable[[], FunctionConfiguration]) -> FunctionConfiguration | Pending[AliasState]:
        try:
            return publish()
        except self._client.exceptions.ResourceConflictException as error:
            return Pending(None, f"candidate: $LATEST is being updated: {error}")
        except self._client.exceptions.PreconditionFailedException:
            return Pending(None, "candidate: $LATEST was changed during this call")
        except self._client.exceptions.InvalidParameterValueException as error:
            raise RequestRefused(f"candidate: {error}") from None
        except ClientError as error:
            if not is_denied(error):
                raise
            code = isinstance(self._plan.candidate, NewCode)
            fix = (
                "; Headgate's parameters CodeObjects and CodeRepositories define which code may be used" if code else ""
            )
            raise RequestRefused(f"candidate: {error}{fix}") from None

    def configuration(self, version: str, field: str) -> FunctionConfiguration:
        """Return the configuration of a version, or refuse the request whose field names it."""
        found = self._configuration_of(version)
        if found is None:
            fix = (
                "name an existing one (aws lambda list-versions-by-function), or use candidate.publish"
                if field.startswith("candidate")
                else "point the alias at an existing one"
            )
            raise RequestRefused(f"{field}: {self._target.function} has no version {version}; {fix}")
        return found

    def _configuration_of(self, version: str) -> FunctionConfiguration | None:
        try:
            return configuration_of(self._client, self._target.function, version)
        except self._client.exceptions.ResourceNotFoundException:
            return None

    def _check_compatible(self, stable: FunctionConfiguration, candidate: FunctionConfiguration) -> None:
        """Check execution role and dead-letter queue, which must be equal for Lambda to split traffic."""
        for field, ours, theirs in (
            ("execution roles", candidate.get("Role"), stable.get("Role")),
            (
                "dead-letter queues",
                candidate.get("DeadLetterConfig", {}).get("TargetArn"),
                stable.get("DeadLetterConfig", {}).get("TargetArn"),
            ),
        ):
            if ours != theirs:
                raise RequestRefused(
                    f"candidate: versions {candidate['Version']} and {stable['Version']} have different {field} "
                    f"({ours or 'none'} and {theirs or 'none'}); Lambda cannot split traffic between them"
                )


def _refuse_unsupported(version: FunctionConfiguration, field: str) -> None:
    if fault := unsupported(version):
        raise RequestRefused(f"{field}: version {version['Version']} {fault}")


def _left(state: AliasState, put: CodeInLatest, why: str) -> AliasState:
    """Return the state when $LATEST keeps the rejected code."""
    logger.warning("the rejected code stays in $LATEST", code_sha256=put.code_sha256, reason=why)
    return state.model_copy(update={"latest": put.model_copy(update={"kept": why}), "to_release": False})


def _source_of(code: ZipCode | ImageCode) -> dict[str, str]:
    """Return the parameters of UpdateFunctionCode for new code."""
    if isinstance(code, ImageCode):
        return {"ImageUri": code.image_uri}
    version = {"S3ObjectVersion": code.s3_object_version} if code.s3_object_version else {}
    return {"S3Bucket": code.s3_bucket, "S3Key": code.s3_key, **version}


def _not_active(candidate: FunctionConfiguration, known: AliasState) -> Pending[AliasState] | None:
    """Return what a version waits for, or None if it is active. Refuse one that will not become active."""
    state, version = candidate.get("State", "Active"), candidate["Version"]
    # UpdateFunctionCode returns before the update is complete, with a separate status.
    update = candidate.get("LastUpdateStatus")
    if state == "Failed" and update != "InProgress":
        why = _with_code(candidate.get("StateReason"), candidate.get("StateReasonCode"))
        raise RequestRefused(f"candidate: version {version} failed to become active: {why}")
    if update == "Failed":
        why = _with_code(candidate.get("LastUpdateStatusReason"), candidate.get("LastUpdateStatusReasonCode"))
        raise RequestRefused(
            f"candidate: the last update of version {version} failed (LastUpdateStatus Failed): {why}; update the "
            "function again, and publish a new version"
        )
    if state == "Pending" or update == "InProgress":
        return Pending(known, f"candidate: version {version} is still pending")
    if state == "Inactive":
        # An invocation activates it but fails: https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
        raise RequestRefused(
            f"candidate: version {version} is inactive, because it was not invoked for a long time, and its first "
            f"requests would fail; invoke it once (invoke --qualifier {version}), wait until it is active, and retry"
        )
    if state != "Active":
        raise RequestRefused(f"candidate: version {version} is {state} and does not accept requests")
    return None


def _with_code(reason: str | None, code: str | None) -> str:
    """Return the reason and its code that Lambda gives for a failure. Each may be missing."""
    if reason and code:
        return f"{reason} ({code})"
    return reason or code or "Lambda gives no reason"


def _requested(held: GetProvisionedConcurrencyConfigResponseTypeDef | None) -> int:
    return held["RequestedProvisionedConcurrentExecutions"] if held else 0


def _routing_of(alias: AliasConfigurationResponseTypeDef) -> Routing:
    weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    # Ignore zero weights.
    return Routing(alias["FunctionVersion"], {version: weight for version, weight in weights.items() if weight})


def _routing_at(position: Position, state: AliasState) -> Routing:
    """Return the routing of an alias at a position."""
    match position:
        case Weight(percent):
            return Routing(state.stable, {state.known_candidate: round(percent / 100, 9)} if percent else {})
        case Promoted():
            return Routing(state.known_candidate, {})


def _rounded(weights: dict[str, float]) -> dict[str, float]:
    return {version: round(weight, 6) for version, weight in weights.items()}


def _shares(weights: dict[str, float]) -> str:
    return ", ".join(f"{weight * 100:g} % to version {version}" for version, weight in weights.items())
