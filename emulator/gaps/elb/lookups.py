"""A load balancer, a listener, a rule or a target group that does not exist is an error.

On AWS, a Describe action answers with LoadBalancerNotFound, ListenerNotFound, RuleNotFound or TargetGroupNotFound if
one of those that it asks for does not exist, DescribeRules needs a listener or rules, DeleteRule needs a rule that
exists, and a second rule of a priority is refused
(https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeRules.html). MiniStack leaves out what
it does not find, and takes the second rule.

Seam: the entries of `alb._ACTION_MAP`.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import alb

from emulator.gaps import seams
from emulator.gaps.elb import stores

GAP = "lookups"
_LONGEST_NAME = 32


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, alb, "_parse_member_list", "params, prefix")
    for action, refusal in (
        ("DescribeLoadBalancers", _no_load_balancer),
        ("DescribeListeners", _no_listener),
        ("DescribeRules", _no_rule),
        ("DescribeTargetGroups", _no_target_group),
        ("DeleteRule", _no_rule_to_delete),
        ("CreateRule", _second_rule),
    ):
        stores.handle(GAP, action, _unless(refusal))


def _unless(refusal: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda original, params: refusal(params) or original(params)


def _missing(params: Any, prefix: str, known: Any, code: str, kind: str) -> Any:
    """Return the error for the first of the named ones that is not known, or None."""
    missing = [each for each in alb._parse_member_list(params, prefix) if each not in known]
    return alb._error(code, f"{kind} '{missing[0]}' not found") if missing else None


def _no_load_balancer(params: Any) -> Any:
    names = {each["LoadBalancerName"] for each in alb._lbs.values()}
    if any(len(name) > _LONGEST_NAME for name in alb._parse_member_list(params, "Names")):
        return None  # MiniStack refuses it for that.
    code, kind = "LoadBalancerNotFound", "Load balancer"
    return _missing(params, "LoadBalancerArns", alb._lbs, code, kind) or _missing(params, "Names", names, code, kind)


def _no_listener(params: Any) -> Any:
    load_balancer = alb._p(params, "LoadBalancerArn")
    if load_balancer and load_balancer not in alb._lbs:
        return alb._error("LoadBalancerNotFound", f"Load balancer '{load_balancer}' not found")
    return _missing(params, "ListenerArns", alb._listeners, "ListenerNotFound", "Listener")


def _no_rule(params: Any) -> Any:
    listener, rules = alb._p(params, "ListenerArn"), alb._parse_member_list(params, "RuleArns")
    if not listener and not rules:
        return alb._error("ValidationError", "You must specify either listener rule ARNs or a listener ARN")
    if listener and listener not in alb._listeners:
        return alb._error("ListenerNotFound", f"Listener '{listener}' not found")
    return _missing(params, "RuleArns", alb._rules, "RuleNotFound", "Rule")


def _no_target_group(params: Any) -> Any:
    names = {each["TargetGroupName"] for each in alb._tgs.values()}
    load_balancer = alb._p(params, "LoadBalancerArn")
    if load_balancer and load_balancer not in alb._lbs:
        return alb._error("LoadBalancerNotFound", f"Load balancer '{load_balancer}' not found")
    code, kind = "TargetGroupNotFound", "Target group"
    return _missing(params, "TargetGroupArns", alb._tgs, code, kind) or _missing(params, "Names", names, code, kind)


def _no_rule_to_delete(params: Any) -> Any:
    rule = alb._p(params, "RuleArn")
    return None if rule in alb._rules else alb._error("RuleNotFound", f"Rule '{rule}' not found")


def _second_rule(params: Any) -> Any:
    listener, priority = alb._p(params, "ListenerArn"), alb._p(params, "Priority")
    others = [each for each in alb._rules.values() if each["ListenerArn"] == listener]
    if any(str(each["Priority"]) == priority for each in others):
        return alb._error("PriorityInUse", f"Priority '{priority}' is currently in use")
    return None
