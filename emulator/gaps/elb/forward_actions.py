"""Actions of listeners and rules are kept as they were given: weights of target groups, stickiness, log-ins.

On AWS, a forward action has a ForwardConfig: up to five target groups with weights from 0 to 999, and stickiness
between them. An answer has an action with one target group as TargetGroupArn and as ForwardConfig, one with several as
ForwardConfig alone (https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Action.html). A target
group that does not exist is refused, as are a second load balancer of a target group and a log-in on a plain HTTP
listener; a target group that a rule names is not deleted. A log-in of OIDC needs its client secret, or
UseExistingClientSecret in a change. MiniStack reads TargetGroupArn alone: what ForwardConfig says is lost, and such a
rule answers 502. It refuses none of these, and loses members of actions that it does not know.

Seams: `alb._parse_actions`, `alb._action_xml`, `provisioners._elbv2_listener_actions`, and the entries of
`alb._ACTION_MAP` and of CloudFormation's handlers that take actions or delete a target group.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import alb
from ministack.services.cloudformation import provisioners

from emulator.gaps import seams
from emulator.gaps.elb import actions, stores

GAP = "forward_actions"
_TAKES_ACTIONS = {
    "CreateListener": "DefaultActions",
    "ModifyListener": "DefaultActions",
    "CreateRule": "Actions",
    "ModifyRule": "Actions",
}


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, alb, "_parse_actions", "params, prefix", _parse)
    seams.wrap(GAP, alb, "_action_xml", "a", lambda _original, action: actions.tell(action))
    seams.expect(GAP, alb, "_p", "params, key, default")
    seams.expect(GAP, alb, "_error", "code, message, status")
    for name, prefix in _TAKES_ACTIONS.items():
        stores.handle(GAP, name, _taking_actions(prefix))
    stores.handle(GAP, "DeleteTargetGroup", _delete_group)
    seams.wrap(GAP, provisioners, "_elbv2_listener_actions", "props, lb_arn, prop", _of_template)
    stores.provision(GAP, "TargetGroup", "delete", _delete_group_of_stack)
    stores.watch(GAP, _associate)


def _parse(original: Callable[..., Any], params: Any, prefix: str = "DefaultActions") -> list[actions.Action]:
    given = actions.read(params, prefix)
    return [actions.complete(actions.merged(*each)) for each in zip(given, original(params, prefix), strict=True)]


def _taking_actions(prefix: str) -> Callable[..., Any]:
    def replacement(original: Callable[..., Any], params: Any) -> Any:
        rule = alb._rules.get(alb._p(params, "RuleArn"))
        changed = rule or alb._listeners.get(alb._p(params, "ListenerArn"), {})
        listener = alb._listeners.get(rule["ListenerArn"] if rule else alb._p(params, "ListenerArn"), {})
        given = actions.read(params, prefix)
        if not given or (rule and rule.get("IsDefault")):
            return original(params)  # Which refuses a change of a default rule.
        before = [] if prefix == "Actions" and not rule else changed.get(prefix) or []
        protocol = alb._p(params, "Protocol") or listener.get("Protocol", "HTTP")
        load_balancer = listener.get("LoadBalancerArn") or alb._p(params, "LoadBalancerArn")
        if refused := _refusal(given, before, protocol, load_balancer):
            return alb._error(*refused)
        answer = original(params)
        if before:
            kept = changed[prefix]
            kept[:] = actions.with_secrets(kept, before)
        return answer

    return replacement


def _refusal(
    given: list[actions.Action], before: list[actions.Action], protocol: str, load_balancer: str
) -> actions.Refusal | None:
    refused = actions.refusal(given, before, protocol, set(alb._tgs))
    if refused:
        return refused
    _associate()
    for arn in actions.groups_of(given):
        if others := [each for each in alb._tgs[arn]["LoadBalancerArns"] if each != load_balancer]:
            message = f"Target group '{arn}' is already associated with load balancer '{others[0]}'"
            return actions.Refusal("TargetGroupAssociationLimit", message)
    return None


def _of_template(
    original: Callable[..., Any], props: dict[str, Any], lb_arn: str | None, prop: str = "DefaultActions"
) -> list[actions.Action]:
    listener = alb._listeners.get(props.get("ListenerArn", ""), {})
    given = [actions.normal(each) for each in props.get(prop) or []]
    # A template does not say which rule it changes: any rule of the listener may have the secret.
    rules = [rule for rule in alb._rules.values() if rule["ListenerArn"] == listener.get("ListenerArn")]
    before = [action for rule in rules for action in rule["Actions"]]
    protocol = listener.get("Protocol") or props.get("Protocol", "HTTP")
    if refused := _refusal(given, before, protocol, lb_arn or listener.get("LoadBalancerArn", "")):
        raise ValueError(f"{refused.message} (Service: ElasticLoadBalancingV2, Error Code: {refused.code})")
    kept = [actions.complete(actions.merged(*each)) for each in zip(given, original(props, lb_arn, prop), strict=True)]
    return actions.with_secrets(kept, before)


def _associate() -> None:
    """Say of each target group which load balancers have a rule that names it."""
    listeners = stores.listeners()
    used: dict[str, set[str]] = {}
    for rule in stores.rules().values():
        listener = listeners.get(rule["ListenerArn"])
        for arn in actions.groups_of(rule.get("Actions") or []) if listener else []:
            used.setdefault(arn, set()).add(listener["LoadBalancerArn"])  # type: ignore[index]
    for arn, group in stores.target_groups().items():
        group["LoadBalancerArns"] = sorted(used.get(arn, ()))


def _in_use(arn: str) -> str | None:
    _associate()
    used = alb._tgs.get(arn, {}).get("LoadBalancerArns")
    return f"Target group '{arn}' is currently in use by a listener or a rule" if used else None


def _delete_group(original: Callable[..., Any], params: Any) -> Any:
    refused = _in_use(alb._p(params, "TargetGroupArn"))
    return alb._error("ResourceInUse", refused) if refused else original(params)


def _delete_group_of_stack(original: Callable[..., Any], physical_id: str, props: dict[str, Any]) -> Any:
    if refused := _in_use(physical_id):
        raise ValueError(f"{refused} (Service: ElasticLoadBalancingV2, Error Code: ResourceInUse)")
    return original(physical_id, props)
