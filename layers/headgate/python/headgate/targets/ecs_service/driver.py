"""Driver for ECS services: the candidate runs beside the stable revision, and listener rules split the requests.

task-sets: the candidate is a second task set of the service, which has the deployment controller EXTERNAL.
green-service: the candidate is a second service. After the promotion the original service gets the candidate's
revision while the green one has all requests, takes them over, and the green one is deleted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.observability import logger
from headgate.errors import Aborted, RequestRefused, TargetChanged
from headgate.spec.position import PROMOTED, Weight
from headgate.spec.targets import EcsServiceTarget
from headgate.targets.ecs_service.failures import TaskFailures
from headgate.targets.ecs_service.green_service import GreenService
from headgate.targets.ecs_service.lookup import ServiceLookup
from headgate.targets.ecs_service.refusals import lasting, pending_after
from headgate.targets.ecs_service.rules import RuleWeights
from headgate.targets.ecs_service.scaling import ScaleIn
from headgate.targets.ecs_service.second_revision import serves
from headgate.targets.ecs_service.state import GroupWeight
from headgate.targets.ecs_service.task_definitions import TaskDefinitions
from headgate.targets.ecs_service.task_sets import TaskSets
from headgate.targets.ecs_service.ways import rule_named
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.ecs_service.rules import Groups
    from headgate.targets.ecs_service.second_revision import SecondRevision
    from headgate.targets.ecs_service.state import ServiceServices, ServiceState
    from headgate.targets.progress import TargetProgress

    Progress = TargetProgress[ServiceState]

_WAYS: dict[str, type[SecondRevision]] = {"task-sets": TaskSets, "green-service": GreenService}

_NOT_IN_FORCE = "the weights are not in force yet"


class EcsServiceDriver:
    """Moves one ECS service.

    Parameters
    ----------
    services
        AWS services and settings.
    plan
        The rollout's plan, with the routing of the service.
    still_ours
        Raises LockLost unless the rollout still owns the target's lock. Called before each change.
    aim
        The position that the last forward step requested, even if its response was lost.
    """

    def __init__(
        self, services: ServiceServices, plan: Plan, still_ours: Callable[[], None], aim: Position | None = None
    ) -> None:
        target, routing = plan.target, plan.known_routing
        if not isinstance(target, EcsServiceTarget):
            raise TypeError(f"plan.target: must be an ECS service (given {target.key})")
        self._services = services
        self._target = target
        self._asked = plan.candidate
        self._routing, self._pairs = routing, routing.pairs
        self._still_ours = still_ours
        self._aim = aim
        self._lookup = ServiceLookup(services.ecs, services.elb)
        self._rules = RuleWeights(services.elb, still_ours)
        self._scale_in = ScaleIn(services.scaling, target, still_ours)
        self._definitions = TaskDefinitions(services.ecs, services.limits, still_ours)
        self._not_given_back: list[str] = []
        failures = TaskFailures(services.ecs, services.logs, self._definitions, target.cluster)
        self._second = _WAYS[routing.way](services, plan, target, still_ours, self._rules, failures)

    def describe(self) -> dict[str, Any]:
        """Return the revision of the service, its numbers of tasks, and the shares of its target groups by rule.

        Raises
        ------
        RequestRefused
            If there is no such service, or Headgate may not look at it.
        """
        try:
            service = self._service()
            shares = self._rules.shares(self._routing.rules, without_deleted=True)
        except ClientError as error:
            # A refused rollout that has changed nothing ends with this look, which the machine repeats after any other
            # error.
            raise lasting(error, "prepare") from None
        serving = next((each for each in service.get("taskSets", []) if each["status"] == "PRIMARY"), service)
        return {
            "version": serves(serving),
            "status": service["status"],
            "desiredCount": service["desiredCount"],
            "runningCount": service["runningCount"],
            "weights": shares,
        }

    def prepare(self, known: ServiceState | None = None) -> Progress:
        """Check service, rules and target groups, register the candidate, and start it until it is healthy.

        Raises
        ------
        RequestRefused
            If the target or the candidate does not allow the rollout. Traffic did not change.
        """
        return self._careful("prepare", lambda: self._prepare(known))

    def shift(self, state: ServiceState, weight: float) -> Progress:
        """Send ``weight`` percent of the requests to the candidate, once it has the tasks for it."""
        return self._careful("shift", lambda: self._shift(state, weight))

    def promote(self, state: ServiceState) -> Progress:
        """Send all requests to the candidate, and make its task set the primary one."""
        return self._careful("promote", lambda: self._promote(state))

    def rollback(self, state: ServiceState) -> Progress:
        """Send all requests to the stable revision."""
        return self._careful("rollback", lambda: self._rollback(state))

    def release(self, state: ServiceState) -> Progress:
        """Replace the stable revision after a promotion, and delete what is left.

        Raises
        ------
        TargetChanged
            If somebody else has moved the requests or deployed to the service, or the deployment failed.
        Aborted
            If nothing answers the requests any more, for example because the candidate was deleted.
        """
        return self._careful("release", lambda: self._release(state))

    def restore(self, state: ServiceState) -> Progress:
        """Delete the candidate's tasks after a rollback, and restore test rules and scale-in."""
        return self._careful("restore", lambda: self._restore(state))

    # The actions

    def _prepare(self, state: ServiceState | None) -> Progress:
        if state is None:
            return self._begin()
        if state.scale_in_held:
            self._scale_in.suspend()
        if waits := self._second.create(state) or self._second.ready(state, 0, preparing=True):
            return Pending(None, waits)
        self._rules.require(self._pairs, 0)
        if not self._move_test_rules(state):
            return Pending(None, "the test rules are not in force yet")
        return Done(state)

    def _begin(self) -> Progress:
        """Look at what the rollout finds, and put on record what it is going to change."""
        facts = self._lookup.find(self._target)
        if facts.routing != self._routing:
            raise RequestRefused(
                "target.rules: the target groups or rules of the service are no longer those of the plan; request the "
                "rollout again"
            )
        state = self._second.begin(self._service())
        if isinstance(state, str):
            return Pending(None, state)
        if waits := self._second.draining():
            return Pending(None, waits, limited=False)
        found = {
            "candidate": self._definitions.candidate(self._asked, facts),
            "scale_in_held": self._scale_in.is_on(),
            "test_rules": self._test_rules(),
            "to_release": True,
            "must_release": True,
        }
        return Pending(state.model_copy(update=found), f"{state.green} will be created")

    def _shift(self, state: ServiceState, weight: float) -> Progress:
        # Also at the same weight: the judge asks for it when somebody else may have changed the service.
        if weight and weight >= _percent(state.position) and (waits := self._second.ready(state, weight)):
            return Pending(None, waits, limited=True)
        return self._moved(state, Weight(weight))

    def _promote(self, state: ServiceState) -> Progress:
        if waits := self._second.ready(state, 100):
            return Pending(None, waits)
        moved = self._moved(state, PROMOTED)
        if isinstance(moved, Done):
            self._second.promote(state)
        return moved

    def _rollback(self, state: ServiceState) -> Progress:
        # The response of a release may have been lost, and its state with it.
        if PROMOTED in (state.position, self._aim):
            waits = self._second.recover_stable(state)
            if waits and not self._nobody_answers():
                return Pending(None, waits)
        moved = self._moved_back(state, despite_others=True)
        if isinstance(moved, Done):
            self._second.take_back(state)
        return moved

    def _release(self, state: ServiceState) -> Progress:
        try:
            progress = self._careful("release", lambda: self._replace_stable(state))
        except (TargetChanged, RequestRefused) as error:
            return self._leave(state, error)
        return self._complete(progress)

    def _leave(self, state: ServiceState, error: TargetChanged | RequestRefused) -> Progress:
        """End a release that cannot be completed: give back what can be, and say what is left.

        Raises
        ------
        TargetChanged, RequestRefused
            When that is done.
        """
        self._give_back(state)
        if isinstance(error, TargetChanged) and self._second.returns_home and not self._rules_to_candidate():
            if waits := self._second.remove(state):
                return Pending(None, waits)
            raise type(error)("; ".join([str(error), *self._not_given_back]))
        raise type(error)("; ".join([str(error), self._second.left(state), *self._not_given_back])) from None

    def _replace_stable(self, state: ServiceState) -> Progress:
        self._rules.require(self._pairs, 100, *([0] if state.taken_home else []), without_deleted=True)
        if not state.taken_home and (why := self._nobody_answers()):
            raise Aborted(f"the candidate has all requests, and no target that answers them: {why}")
        if not state.replaced:
            # On record before anything is changed that a rollback would need.
            return Pending(state.model_copy(update={"replaced": True}), f"{state.stable} will be replaced")
        if waits := self._second.replace(state):
            seen = state.model_copy(update={"replaced_at": int(self._services.now())})
            return Pending(None if state.replaced_at else seen, waits, limited=False)
        if self._second.returns_home:
            if not state.taken_home:
                taken = state.model_copy(update={"taken_home": True})
                return Pending(taken, f"the requests will return to {self._target.name}")
            if not self._rules.move(self._pairs, 0, [100], without_deleted=True):
                return Pending(None, _NOT_IN_FORCE)
            if not state.home_at:
                returned = state.model_copy(update={"home_at": int(self._services.now())})
                return Pending(returned, f"the requests have returned to {self._target.name}")
        self._give_back(state)
        waits = self._unsettled(state.home_at or state.shifted_at / 1000) or self._second.delete_left(state)
        return Pending(None, waits, limited=False) if waits else _over(state)

    def _restore(self, state: ServiceState) -> Progress:
        self._give_back(state)
        try:
            if not_yet := self._take_requests_home(state):
                return not_yet
            waits = self._unsettled(state.shifted_at / 1000) or self._second.remove(state)
        except ClientError as error:
            if not isinstance(meaning := lasting(error, "restore"), RequestRefused):
                raise meaning from None
            left = f"{state.green}, which runs {state.candidate}, was not deleted"
            raise RequestRefused("; ".join([str(meaning), left, *self._not_given_back])) from None
        return self._complete(Pending(None, waits) if waits else _over(state))

    # Parts of them

    def _careful(self, action: str, act: Callable[[], Progress]) -> Progress:
        """Carry out an action, and wait after errors of AWS that pass."""
        try:
            return act()
        except ClientError as error:
            return pending_after(error, action)

    def _service(self) -> dict[str, Any]:
        """Return the service, or refuse the rollout of one that does not exist."""
        found = self._second.find(self._target.service)
        if not found:
            where = f"{self._target.name} in cluster {self._target.cluster_name}"
            raise RequestRefused(f"target.service: there is no service {where}; give the name of an existing one")
        return found[0]

    def _moved_back(self, state: ServiceState, *, despite_others: bool = False) -> Progress:
        """Send the requests to the stable groups. Rules that were deleted send none, and need not be moved."""
        return self._moved(state, Weight(0), despite_others=despite_others, without_deleted=True)

    def _moved(self, state: ServiceState, position: Position, **despite: bool) -> Progress:
        """Write the rules, unless somebody else has changed them."""
        expected = [_percent(each) for each in (state.position, self._aim) if each is not None]
        # After a promotion the requests may have returned.
        expected += [0] if state.taken_home else []
        if not self._rules.move(self._pairs, _percent(position), expected, **despite):
            return Pending(None, _NOT_IN_FORCE)
        moved = {"position": position, "shifted_at": int(self._services.now() * 1000), "to_release": True}
        return Done(state.model_copy(update=moved))

    def _rules_to_candidate(self) -> list[str]:
        """Return the rules that send requests to the candidate's groups."""
        candidates = {pair.candidate for pair in self._pairs}
        shares = self._rules.shares(self._routing.rules, without_deleted=True)
        return [rule for rule, groups in shares.items() if any(groups.get(group) for group in candidates)]

    def _nobody_answers(self) -> str:
        """Return in which of the candidate's groups no target is healthy."""
        return self._second.unhealthy([pair.candidate for pair in self._pairs], 1)

    def _take_requests_home(self, state: ServiceState) -> Pending[ServiceState] | None:
        """Take requests off the candidate before it is deleted. Return None when it has none.

        After a rollback it has none. It has some if somebody else has deployed to the service: that ends a rollout
        without a rollback, but the weights are still the rollout's.

        Raises
        ------
        TargetChanged
            If somebody else has set the weights, or the stable group cannot serve.
        """
        served = self._rules_to_candidate()
        if not served:
            return None
        if waits := self._second.unhealthy([pair.stable for pair in self._pairs], 1):
            raise TargetChanged(f"{waits}; {self._still_served(state, served)}")
        try:
            moved = self._moved_back(state, despite_others=True)
        except TargetChanged as error:
            if served := self._rules_to_candidate():
                raise TargetChanged(f"{error}; {self._still_served(state, served)}") from None
            return None
        return moved if isinstance(moved, Pending) else Pending(moved.state, f"{state.stable} has all requests again")

    def _unsettled(self, moved_at: float) -> str:
        """Return how long some requests may still be sent by the weights before, which were changed at a time."""
        left = math.ceil(moved_at + self._services.weight_settle_seconds - self._services.now())
        return f"the last weights are in force everywhere in at most {left} s" if left > 0 else ""

    def _still_served(self, state: ServiceState, rules: list[str]) -> str:
        send = "sends" if len(rules) == 1 else "send"
        return (
            f"{', '.join(map(rule_named, rules))} still {send} requests to the candidate, so {state.green} was not "
            f"deleted; delete it when it has none (headgate doctor {self._target.cluster_name}/{self._target.name})"
        )

    def _complete(self, progress: Progress) -> Progress:
        """Return the end of a release or restore. Raise RequestRefused if something could not be given back."""
        if isinstance(progress, Done) and self._not_given_back:
            raise RequestRefused("; ".join(self._not_given_back))
        return progress

    def _give_back(self, state: ServiceState) -> None:
        """Restore the test rules and scale-in. What cannot be restored is noted, and keeps nothing else back."""
        faults = self._not_given_back = list[str]()
        for rule, before in (state.test_rules or {}).items():
            groups = {each.group: each.weight for each in before}
            try:
                self._restore_test_rule(rule, groups)
            except ClientError as error:
                faults.append(
                    f"{lasting(error, 'restore')}; the test {rule_named(rule)} still sends its requests to the "
                    "candidate's target group"
                )
        if state.scale_in_held:
            try:
                self._scale_in.resume()
            except ClientError as error:
                faults.append(f"{lasting(error, 'restore')}; scale-in of {self._target.name} is still suspended")

    def _test_rules(self) -> dict[str, list[GroupWeight]]:
        """Return what the test rules forward to before the rollout."""
        rules = [rule for pair in self._pairs for rule in pair.test_rules]
        return {
            rule: [GroupWeight(group=group, weight=weight) for group, weight in found.groups.items()]
            for rule, found in self._rules.find(rules).items()
        }

    def _tested(self) -> dict[str, Groups]:
        """Return what the test rules forward to during the rollout."""
        return {rule: {pair.candidate: 1} for pair in self._pairs for rule in pair.test_rules}

    def _move_test_rules(self, state: ServiceState) -> bool:
        wanted = self._tested()
        before = {
            rule: {each.group: each.weight for each in groups} for rule, groups in (state.test_rules or {}).items()
        }
        return not wanted or self._rules.write(wanted, [wanted, before])

    def _restore_test_rule(self, rule: str, before: Groups) -> None:
        """Let a test rule forward as before. What somebody else has changed, or deleted, is left."""
        try:
            self._rules.write({rule: before}, [{rule: before}, {rule: self._tested()[rule]}])
        except TargetChanged as error:
            logger.warning("the test rule was left", rule=rule, reason=str(error))


def _percent(position: Position) -> float:
    return position.percent if isinstance(position, Weight) else 100.0


def _over(state: ServiceState) -> Done[ServiceState]:
    """Return the state when nothing is left to release or restore."""
    return Done(state.model_copy(update={"to_release": False, "must_release": False}))
