"""Weights of listener rules: how an Application Load Balancer splits requests between two target groups.

A rule has no revision with which a write could be made conditional. So each rule is compared before it is written,
written whole, and read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import RequestRefused, TargetChanged
from headgate.targets.ecs_service.ways import name_of, rule_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headgate.spec.routing import GroupPair

Groups = dict[str, int]
"""Weight of each target group, by its ARN."""

_OF_A_RULE = ":listener-rule/"


class Forwarding(NamedTuple):
    """What a rule does with a request, as Elastic Load Balancing describes it."""

    actions: list[dict[str, Any]]
    groups: Groups
    """Target groups of the last action; empty if it does not forward."""


def weights_at(percent: float) -> tuple[int, int]:
    """Return the weights of the stable and the candidate's group. Load balancers take whole numbers up to 999."""
    if percent in (0, 100):
        return (100, 0) if percent == 0 else (0, 100)
    candidate = round(10 * percent)
    return 1000 - candidate, candidate


def alike(one: Groups, other: Groups) -> bool:
    """Return whether two sets of weights split requests alike: 1:0, 100:0 and 999:0 are one split."""
    total, others = sum(one.values()), sum(other.values())
    return total > 0 < others and all(
        one.get(group, 0) * others == other.get(group, 0) * total for group in one.keys() | other.keys()
    )


def shares_of(groups: Groups) -> dict[str, float]:
    """Return the percentage of the requests that each target group gets."""
    total = sum(groups.values())
    return {group: 100 * weight / total if total else 0.0 for group, weight in groups.items()}


class RuleWeights:
    """Reads and writes the weights of listener rules. The ARN of a listener stands for its default actions.

    Parameters
    ----------
    elb
        A client of Elastic Load Balancing (version 2).
    still_ours
        Raises LockLost unless the rollout still owns the target's lock. Called before each write.
    """

    def __init__(self, elb: Any, still_ours: Callable[[], None]) -> None:
        self._elb = elb
        self._still_ours = still_ours

    def find(self, rules: Iterable[str], *, without_deleted: bool = False) -> dict[str, Forwarding]:
        """Return what each rule does.

        Parameters
        ----------
        without_deleted
            Whether rules that were deleted are left out. A rule that is gone sends requests to nobody.

        Raises
        ------
        TargetChanged
            If a rule was deleted.
        """
        rules = list(dict.fromkeys(rules))
        of_rules = [rule for rule in rules if _OF_A_RULE in rule]
        of_listeners = [rule for rule in rules if _OF_A_RULE not in rule]
        found = self._existing(of_rules, self._described_rules) | self._existing(
            of_listeners, self._described_listeners
        )
        missing = [rule for rule in rules if rule not in found]
        if missing and not without_deleted:
            raise TargetChanged(
                f"{', '.join(map(rule_named, missing))}: was deleted by somebody else during the rollout"
            )
        return found

    def _existing(
        self, arns: list[str], describe: Callable[[list[str]], dict[str, Forwarding]]
    ) -> dict[str, Forwarding]:
        """Describe those that exist. One that is gone fails the call for all of them, so each is then asked for."""
        if not arns:
            return {}
        try:
            return describe(arns)
        except (self._elb.exceptions.RuleNotFoundException, self._elb.exceptions.ListenerNotFoundException):
            halves = (arns[: len(arns) // 2], arns[len(arns) // 2 :]) if len(arns) > 1 else ()
            return {arn: each for half in halves for arn, each in self._existing(half, describe).items()}

    def _described_rules(self, arns: list[str]) -> dict[str, Forwarding]:
        told = self._elb.describe_rules(RuleArns=arns)["Rules"]
        return {each["RuleArn"]: _forwarding_of(each["Actions"]) for each in told}

    def _described_listeners(self, arns: list[str]) -> dict[str, Forwarding]:
        told = self._elb.describe_listeners(ListenerArns=arns)["Listeners"]
        return {each["ListenerArn"]: _forwarding_of(each["DefaultActions"]) for each in told}

    def shares(self, rules: Iterable[str], *, without_deleted: bool = False) -> dict[str, dict[str, float]]:
        """Return the percentage of the requests that each target group gets, by rule."""
        found = self.find(rules, without_deleted=without_deleted)
        return {rule: shares_of(each.groups) for rule, each in found.items()}

    def require(self, pairs: Iterable[GroupPair], *percents: float, without_deleted: bool = False) -> None:
        """Raise TargetChanged unless each rule has one of these splits."""
        pairs = list(pairs)
        found = self.find(_wanted(pairs, 0), without_deleted=without_deleted)
        if strange := _strange(found, [_wanted(pairs, each) for each in percents]):
            raise _changed(found, strange)

    def move(
        self,
        pairs: Iterable[GroupPair],
        percent: float,
        expected: Iterable[float],
        *,
        despite_others: bool = False,
        without_deleted: bool = False,
    ) -> bool:
        """Send ``percent`` of the requests to the candidate, by all rules. Return whether that is in force.

        Parameters
        ----------
        expected
            Percentages that this rollout may have set.
        despite_others
            Whether to write the rules that are as expected although others are not. A rollback does: each rule that it
            moves takes requests off the candidate.
        without_deleted
            Whether to move the other rules although some were deleted.

        Raises
        ------
        TargetChanged
            If a rule has other weights, which nothing overwrites, or was deleted.
        """
        pairs = list(pairs)
        own = [_wanted(pairs, each) for each in {percent, *expected}]
        wanted = _wanted(pairs, percent)
        return self.write(wanted, own, despite_others=despite_others, without_deleted=without_deleted)

    def write(
        self,
        wanted: Mapping[str, Groups],
        own: list[dict[str, Groups]],
        *,
        despite_others: bool = False,
        without_deleted: bool = False,
    ) -> bool:
        """Let each rule forward to exactly these groups, if it has one of ``own``. Return whether that is in force."""
        found = self.find(wanted, without_deleted=without_deleted)
        strange = _strange(found, own)
        if strange and not despite_others:
            raise _changed(found, strange)
        to_write = [rule for rule in found if rule not in strange and not alike(found[rule].groups, wanted[rule])]
        for rule in to_write:
            # Check the lock after reading the rule: a new lock owner may have moved it.
            self._still_ours()
            self._write(rule, found[rule].actions, wanted[rule])
        if to_write:
            found = self.find(wanted, without_deleted=without_deleted)
            strange = _strange(found, own)
        if strange:
            raise _changed(found, strange)
        return all(alike(each.groups, wanted[rule]) for rule, each in found.items())

    def _write(self, rule: str, actions: list[dict[str, Any]], groups: Groups) -> None:
        sent = [*map(_sent, actions[:-1]), _with_groups(actions[-1], groups)]
        if _OF_A_RULE in rule:
            self._elb.modify_rule(RuleArn=rule, Actions=sent)
        else:
            self._elb.modify_listener(ListenerArn=rule, DefaultActions=sent)


def _wanted(pairs: Iterable[GroupPair], percent: float) -> dict[str, Groups]:
    stable, candidate = weights_at(percent)
    return {rule: {pair.stable: stable, pair.candidate: candidate} for pair in pairs for rule in pair.rules}


def _strange(found: Mapping[str, Forwarding], own: list[dict[str, Groups]]) -> list[str]:
    """Return the rules that have none of the rollout's own splits."""
    return [rule for rule, each in found.items() if not any(alike(each.groups, split[rule]) for split in own)]


def _changed(found: Mapping[str, Forwarding], strange: list[str]) -> TargetChanged:
    told = "; ".join(f"{rule_named(rule)} forwards {_told(found[rule].groups)}" for rule in strange)
    return TargetChanged(f"the weights were changed from outside: {told}; Headgate leaves them unchanged")


def _told(groups: Groups) -> str:
    if not groups:
        return "to no target group"
    return " and ".join(f"{share:g} % to {name_of(group)}" for group, share in shares_of(groups).items())


def _forwarding_of(actions: list[dict[str, Any]]) -> Forwarding:
    # The order of an answer is not documented. The action that ends the request is the last one.
    ordered = sorted(actions, key=lambda action: action.get("Order") or 0)
    last = ordered[-1]
    if last["Type"] != "forward":
        return Forwarding(ordered, {})
    groups = last.get("ForwardConfig", {}).get("TargetGroups") or [{"TargetGroupArn": last["TargetGroupArn"]}]
    return Forwarding(ordered, {each["TargetGroupArn"]: each.get("Weight", 1) for each in groups})


def _sent(action: dict[str, Any]) -> dict[str, Any]:
    """Return an action as it must be sent back, so that it stays as it is.

    The secret of an OpenID Connect client is never described, and must be sent unless the existing one is kept:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_AuthenticateOidcActionConfig.html
    """
    if action["Type"] != "authenticate-oidc":
        return action
    config = {name: value for name, value in action["AuthenticateOidcConfig"].items() if name != "ClientSecret"}
    return {**action, "AuthenticateOidcConfig": {**config, "UseExistingClientSecret": True}}


def _with_groups(action: dict[str, Any], groups: Groups) -> dict[str, Any]:
    if action["Type"] != "forward":
        raise RequestRefused(f"target.rules: a rule ends with the action {action['Type']}; name rules that forward")
    config = {
        **action.get("ForwardConfig", {}),
        "TargetGroups": [{"TargetGroupArn": group, "Weight": weight} for group, weight in groups.items()],
    }
    # TargetGroupArn is the short form for a single group, and excludes several.
    kept = {name: value for name, value in action.items() if name != "TargetGroupArn"}
    return {**kept, "ForwardConfig": config}
