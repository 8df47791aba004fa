"""Elastic Load Balancing in memory: rules that split requests by weights, and target groups with healthy targets.

What is here is as the API reference has it: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fakes.services import Refusal
from tests.fakes.timed_service import TimedService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_GROUPS, MOST_WEIGHT = 5, 999
"""Of a forward action: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-rules.html"""

MOST_BALANCERS = 20
"""Of one DescribeLoadBalancers."""

ON_ONE_PAGE = 2
"""Of a list. AWS has up to 400; so few show who reads only the first page."""

DRAINING_TICKS = 3
"""How long a deregistered target drains; AWS's default is 300 seconds."""

_ROUTING = ("forward", "redirect", "fixed-response")
_SECRET_OF = {"authenticate-oidc": "AuthenticateOidcConfig"}


@dataclass
class Target:
    """A registered task: ``serves`` says which revision answers, and whether its process is up."""

    ip: str
    port: int
    serves: Callable[[], str | None]
    state: str = "initial"
    reason: str = "Elb.RegistrationInProgress"
    ticks: int = 0


@dataclass
class Group:
    """A target group."""

    arn: str
    name: str
    port: int
    fields: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    targets: dict[tuple[str, int], Target] = field(default_factory=dict)

    def in_state(self, *states: str) -> list[Target]:
        return [target for target in self.targets.values() if target.state in states]


@dataclass
class Rule:
    """A listener's rule; ``default`` marks the one that holds the listener's default actions."""

    arn: str
    listener: str
    priority: str
    conditions: list[dict[str, Any]]
    actions: list[dict[str, Any]]
    transforms: list[dict[str, Any]] = field(default_factory=list)

    @property
    def default(self) -> bool:
        return self.priority == "default"


class Write(NamedTuple):
    """One change of a rule: by whom, which one (a listener's ARN for its default actions), and its shares since."""

    by: str
    rule: str
    shares: dict[str, float]


@dataclass
class Served:
    """What became of requests: how many each revision answered, and how many nobody did."""

    answered: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0


class FakeBalancers(TimedService):
    """Load balancers, listeners, rules and target groups."""

    ticking = frozenset({"DescribeTargetHealth"})

    def __init__(self, prefix: str, tick: Callable[[], None], calls: list[str], by: Callable[[], str]) -> None:
        super().__init__(tick, calls)
        self._prefix = prefix
        """``arn:aws:elasticloadbalancing:REGION:ACCOUNT``"""
        self._by = by
        self.balancers: dict[str, dict[str, Any]] = {}
        self.listeners: dict[str, dict[str, Any]] = {}
        self.rules: dict[str, Rule] = {}
        self.groups: dict[str, Group] = {}
        self.writes: list[Write] = []
        self.secrets: dict[str, str] = {}
        """Client secrets by rule; no operation tells them."""
        self._turn: defaultdict[tuple[str, str], float] = defaultdict(float)

    # What a test makes

    def balancer(self, name: str, kind: str = "application") -> str:
        short = {"application": "app", "network": "net"}[kind]
        arn = f"{self._prefix}:loadbalancer/{short}/{name}/{len(self.balancers):016x}"
        host = f"{name}-1234567890.eu-central-1.elb.amazonaws.com"
        self.balancers[arn] = {
            "LoadBalancerArn": arn,
            "DNSName": host,
            "LoadBalancerName": name,
            "Scheme": "internet-facing",
            "VpcId": "vpc-0a1b2c3d",
            "State": {"Code": "active"},
            "Type": kind,
            "IpAddressType": "ipv4",
        }
        return arn

    def listener(self, balancer: str, port: int, *actions: dict[str, Any]) -> str:
        arn = f"{balancer.replace(':loadbalancer/', ':listener/')}/{len(self.listeners):016x}"
        protocol = "HTTPS" if port == 443 else "HTTP"
        self.listeners[arn] = {"ListenerArn": arn, "LoadBalancerArn": balancer, "Port": port, "Protocol": protocol}
        not_found = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
        self._add_rule(arn, "default", [], list(actions) or [not_found])
        return arn

    def rule(self, listener: str, *actions: dict[str, Any], path: str = "/*") -> str:
        condition = {"Field": "path-pattern", "PathPatternConfig": {"Values": [path]}, "Values": [path]}
        return self._add_rule(listener, str(10 * len(self.rules)), [condition], list(actions))

    def group(self, name: str, port: int = 8080, **fields: Any) -> str:
        arn = f"{self._prefix}:targetgroup/{name}/{len(self.groups):016x}"
        attributes = {
            "deregistration_delay.timeout_seconds": "300",
            "stickiness.enabled": "false",
            "load_balancing.algorithm.type": "round_robin",
            "slow_start.duration_seconds": "0",
        }
        self.groups[arn] = Group(arn, name, port, {"TargetType": "ip", **fields}, attributes)
        return arn

    def change_outside(self, rule: str, weights: dict[str, int], by: str = "somebody else") -> None:
        """Somebody else gives a rule, or a listener's default actions, other weights."""
        with self.lock:
            changed = self._of(rule)
            for action in changed.actions:
                if action["Type"] == "forward":
                    config = action["ForwardConfig"]
                    config["TargetGroups"] = [{"TargetGroupArn": arn, "Weight": n} for arn, n in weights.items()]
            self.writes.append(Write(by, rule, self.shares(rule)))

    # What a test looks at

    def shares(self, rule: str) -> dict[str, float]:
        """Share of each target group of a rule, or of a listener's default actions; 0 to 1."""
        weights = self._weights(self._of(rule))
        total = sum(weights.values())
        return {arn: weight / total if total else 0.0 for arn, weight in weights.items()}

    def actions(self, rule: str) -> list[dict[str, Any]]:
        """All actions of a rule but what a rollout may change: the target groups of the forward action."""
        told = [{**action, "ForwardConfig": {**action.get("ForwardConfig", {})}} for action in self._of(rule).actions]
        for action in told:
            action["ForwardConfig"].pop("TargetGroups", None)
            action.pop("TargetGroupArn", None)
        return told

    def serve(self, rule: str, requests: int) -> Served:
        """Send requests through a rule. The split is exact, and so are turns: chance is another test's."""
        with self.lock:
            served = Served()
            for _ in range(requests):
                group = self._next_group(rule)
                answered = self._reached(self.groups[group]).serves() if group else None
                if answered is None:
                    served.unanswered += 1
                else:
                    served.answered[answered] += 1
            return served

    def answering(self, rule: str) -> set[str]:
        """Which revisions answer requests of a rule."""
        groups = [self.groups[arn] for arn, share in self.shares(rule).items() if share]
        answers = {target.serves() for group in groups for target in group.in_state("healthy")}
        return {answer for answer in answers if answer}

    def _reached(self, group: Group) -> Target:
        """The target that gets the next request: of the healthy ones; where there are only unhealthy, of those.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
        """
        nobody = Target("", 0, lambda: None)
        reached = group.in_state("healthy") or group.in_state("unhealthy")
        if not reached:
            return nobody
        turn = self._turn[group.arn, ""]
        self._turn[group.arn, ""] = turn + 1
        target = reached[int(turn) % len(reached)]
        return target if target.state == "healthy" else nobody

    def _next_group(self, rule: str) -> str | None:
        shares = self.shares(rule)
        if not any(shares.values()):
            return None
        for arn, share in shares.items():
            self._turn[rule, arn] += share
        chosen = max(shares, key=lambda arn: (self._turn[rule, arn], -list(shares).index(arn)))
        self._turn[rule, chosen] -= 1
        return chosen

    # What happens by itself, or at ECS's hand

    def register(self, group: str, target: Target) -> None:
        self.groups[group].targets[target.ip, target.port] = target

    def deregister(self, group: str, ip: str, port: int) -> None:
        """A target that got requests drains, any other is gone at once."""
        targets = self.groups[group].targets
        if (target := targets.get((ip, port))) is None:
            return
        if target.state == "initial" or target.serves() is None:
            del targets[ip, port]
        elif target.state != "draining":
            target.state, target.reason, target.ticks = "draining", "Target.DeregistrationInProgress", 0

    def target(self, group: str, ip: str, port: int) -> Target | None:
        return self.groups[group].targets.get((ip, port))

    def pass_time(self) -> None:
        for group in self.groups.values():
            for key, target in list(group.targets.items()):
                target.ticks += 1
                if target.state == "draining" and target.ticks >= DRAINING_TICKS:
                    del group.targets[key]

    def balancers_of(self, group: str) -> list[str]:
        """The load balancers that forward to a target group."""
        using = [rule for rule in self.rules.values() if group in self._weights(rule)]
        return sorted({self.listeners[rule.listener]["LoadBalancerArn"] for rule in using})

    # The operations, named as Elastic Load Balancing names them

    def DescribeLoadBalancers(self, LoadBalancerArns: Any = (), Names: Any = (), **_: Any) -> dict[str, Any]:
        if len(LoadBalancerArns) > MOST_BALANCERS:
            raise Refusal("ValidationError", f"You can specify up to {MOST_BALANCERS} load balancers")
        if unknown := [arn for arn in LoadBalancerArns if arn not in self.balancers]:
            raise Refusal("LoadBalancerNotFound", f"Load balancers '[{', '.join(unknown)}]' not found")
        found = [self.balancers[arn] for arn in LoadBalancerArns] if LoadBalancerArns else self.balancers.values()
        return {"LoadBalancers": [told for told in found if not Names or told["LoadBalancerName"] in Names]}

    def DescribeListeners(
        self, LoadBalancerArn: str = "", ListenerArns: Any = (), Marker: str = "", **_: Any
    ) -> dict[str, Any]:
        if bool(LoadBalancerArn) == bool(ListenerArns):
            raise Refusal("ValidationError", "You must specify either listener ARNs or a load balancer ARN")
        if LoadBalancerArn and LoadBalancerArn not in self.balancers:
            raise Refusal("LoadBalancerNotFound", f"Load balancer '{LoadBalancerArn}' not found")
        if any(arn not in self.listeners for arn in ListenerArns):
            raise Refusal("ListenerNotFound", "One or more listeners not found")
        found = [
            told
            for arn, told in self.listeners.items()
            if arn in ListenerArns or told["LoadBalancerArn"] == LoadBalancerArn
        ]
        return _page("Listeners", list(map(self._listener, found)), Marker, named=bool(ListenerArns))

    def DescribeRules(self, ListenerArn: str = "", RuleArns: Any = (), Marker: str = "", **_: Any) -> dict[str, Any]:
        if bool(ListenerArn) == bool(RuleArns):
            raise Refusal("ValidationError", "You must specify either listener rule ARNs or a listener ARN")
        if ListenerArn and ListenerArn not in self.listeners:
            raise Refusal("ListenerNotFound", f"Listener '{ListenerArn}' not found")
        if any(arn not in self.rules for arn in RuleArns):
            raise Refusal("RuleNotFound", "One or more rules not found")
        found = [rule for rule in self.rules.values() if rule.arn in RuleArns or rule.listener == ListenerArn]
        return _page("Rules", list(map(self._rule, found)), Marker, named=bool(RuleArns))

    def ModifyRule(
        self, RuleArn: str, Actions: Any = None, Conditions: Any = None, Transforms: Any = None, **_: Any
    ) -> dict[str, Any]:
        if (rule := self.rules.get(RuleArn)) is None:
            raise Refusal("RuleNotFound", "One or more rules not found")
        if rule.default:
            raise Refusal("OperationNotPermitted", f"Default rule '{RuleArn}' cannot be modified")
        if Actions is not None:
            self._write(rule, RuleArn, Actions)
        rule.conditions = Conditions if Conditions is not None else rule.conditions
        rule.transforms = Transforms if Transforms is not None else rule.transforms
        return {"Rules": [self._rule(rule)]}

    def ModifyListener(self, ListenerArn: str, DefaultActions: Any = None, **given: Any) -> dict[str, Any]:
        if ListenerArn not in self.listeners:
            raise Refusal("ListenerNotFound", "One or more listeners not found")
        if DefaultActions is not None:
            self._write(self._of(ListenerArn), ListenerArn, DefaultActions)
        self.listeners[ListenerArn] |= given
        return {"Listeners": [self._listener(self.listeners[ListenerArn])]}

    def DescribeTargetGroups(
        self, TargetGroupArns: Any = (), LoadBalancerArn: str = "", Names: Any = (), Marker: str = "", **_: Any
    ) -> dict[str, Any]:
        if sum(map(bool, (TargetGroupArns, LoadBalancerArn, Names))) > 1:
            raise Refusal("ValidationError", "Target group ARNs, names and a load balancer ARN exclude each other")
        if unknown := [arn for arn in TargetGroupArns if arn not in self.groups]:
            raise Refusal("TargetGroupNotFound", f"Target groups '{', '.join(unknown)}' not found")
        if LoadBalancerArn and LoadBalancerArn not in self.balancers:
            raise Refusal("LoadBalancerNotFound", f"Load balancer '{LoadBalancerArn}' not found")
        wanted = [
            group
            for group in self.groups.values()
            if (not TargetGroupArns or group.arn in TargetGroupArns)
            and (not Names or group.name in Names)
            and (not LoadBalancerArn or LoadBalancerArn in self.balancers_of(group.arn))
        ]
        return _page("TargetGroups", list(map(self._group, wanted)), Marker, named=bool(TargetGroupArns))

    def DescribeTargetGroupAttributes(self, TargetGroupArn: str) -> dict[str, Any]:
        attributes = self._known(TargetGroupArn).attributes
        return {"Attributes": [{"Key": key, "Value": value} for key, value in attributes.items()]}

    def DescribeTargetHealth(self, TargetGroupArn: str, Targets: Any = (), **_: Any) -> dict[str, Any]:
        group = self._known(TargetGroupArn)
        used = bool(self.balancers_of(TargetGroupArn))
        wanted = {(each["Id"], each.get("Port", group.port)) for each in Targets}
        return {
            "TargetHealthDescriptions": [
                {
                    "Target": {"Id": ip, "Port": port, "AvailabilityZone": "eu-central-1a"},
                    "HealthCheckPort": str(port),
                    "TargetHealth": _health(target, used=used),
                }
                for (ip, port), target in group.targets.items()
                if not wanted or (ip, port) in wanted
            ]
        }

    # Inside

    def _add_rule(
        self, listener: str, priority: str, conditions: list[dict[str, Any]], actions: list[dict[str, Any]]
    ) -> str:
        arn = f"{listener.replace(':listener/', ':listener-rule/')}/{len(self.rules):016x}"
        for action in actions:
            if secret := action.get("AuthenticateOidcConfig", {}).pop("ClientSecret", None):
                self.secrets[arn] = secret
        self.rules[arn] = Rule(arn, listener, priority, conditions, _numbered(actions))
        return arn

    def _of(self, rule: str) -> Rule:
        """A rule by its own ARN, or by the ARN of the listener whose default actions it holds."""
        if rule in self.rules:
            return self.rules[rule]
        return next(each for each in self.rules.values() if each.listener == rule and each.default)

    @staticmethod
    def _weights(rule: Rule) -> dict[str, int]:
        forwards = [action["ForwardConfig"] for action in rule.actions if action["Type"] == "forward"]
        return {group["TargetGroupArn"]: group["Weight"] for config in forwards for group in config["TargetGroups"]}

    def _write(self, rule: Rule, name: str, actions: list[dict[str, Any]]) -> None:
        actions = _numbered(actions)
        if actions[-1]["Type"] not in _ROUTING or any(action["Type"] in _ROUTING for action in actions[:-1]):
            message = "A rule must have exactly one forward, redirect or fixed-response action, and it must be the last"
            raise Refusal("InvalidLoadBalancerAction", message)
        for action in actions:
            self._check_groups(rule, action)
            self._check_secret(rule, action)
        rule.actions = actions
        self.writes.append(Write(self._by(), name, self.shares(name)))

    def _check_groups(self, rule: Rule, action: dict[str, Any]) -> None:
        groups = action.get("ForwardConfig", {}).get("TargetGroups", [])
        if len(groups) > MOST_GROUPS:
            raise Refusal("TooManyTargetGroups", f"You can have up to {MOST_GROUPS} target groups per action")
        for group in groups:
            arn, weight = group["TargetGroupArn"], group["Weight"]
            if not 0 <= weight <= MOST_WEIGHT:
                raise Refusal("ValidationError", f"Target group weight '{weight}' must be between 0 and {MOST_WEIGHT}")
            if arn not in self.groups:
                raise Refusal("TargetGroupNotFound", f"Target groups '{arn}' not found")
            if {*self.balancers_of(arn)} - {self.listeners[rule.listener]["LoadBalancerArn"]}:
                message = f"The following target groups cannot be associated with more than one load balancer: {arn}"
                raise Refusal("TargetGroupAssociationLimit", message)

    def _check_secret(self, rule: Rule, action: dict[str, Any]) -> None:
        config = action.get(_SECRET_OF.get(action["Type"], ""))
        if config is None:
            return
        keeps, secret = config.pop("UseExistingClientSecret", False), config.pop("ClientSecret", None)
        if secret is None and not (keeps and rule.arn in self.secrets):
            raise Refusal("InvalidLoadBalancerAction", "A client secret is required for an authenticate-oidc action")
        if secret is not None:
            self.secrets[rule.arn] = secret

    def _told(self, rule: Rule) -> list[dict[str, Any]]:
        told = []
        for action in rule.actions:
            groups = action.get("ForwardConfig", {}).get("TargetGroups", [])
            alone = {"TargetGroupArn": groups[0]["TargetGroupArn"]} if len(groups) == 1 else {}
            told.append({**action, **alone})
        return told

    def _rule(self, rule: Rule) -> dict[str, Any]:
        return {
            "RuleArn": rule.arn,
            "Priority": rule.priority,
            "Conditions": rule.conditions,
            "Actions": self._told(rule),
            "IsDefault": rule.default,
            "Transforms": rule.transforms,
        }

    def _listener(self, listener: dict[str, Any]) -> dict[str, Any]:
        return {**listener, "DefaultActions": self._told(self._of(listener["ListenerArn"]))}

    def _group(self, group: Group) -> dict[str, Any]:
        return {
            "TargetGroupArn": group.arn,
            "TargetGroupName": group.name,
            "Protocol": "HTTP",
            "ProtocolVersion": "HTTP1",
            "Port": group.port,
            "VpcId": "vpc-0a1b2c3d",
            "HealthCheckProtocol": "HTTP",
            "HealthCheckPort": "traffic-port",
            "HealthCheckEnabled": True,
            "HealthCheckPath": "/healthy",
            "LoadBalancerArns": self.balancers_of(group.arn),
            **group.fields,
        }

    def _known(self, arn: str) -> Group:
        if arn not in self.groups:
            raise Refusal("TargetGroupNotFound", f"Target groups '{arn}' not found")
        return self.groups[arn]


def _page(field: str, found: list[dict[str, Any]], marker: str, *, named: bool) -> dict[str, Any]:
    """One page of a list, with the marker of the next one if there is more. What was asked for by name is on one."""
    begin = int(marker or 0)
    end = len(found) if named else begin + ON_ONE_PAGE
    return {field: found[begin:end], **({"NextMarker": str(end)} if end < len(found) else {})}


def forward(weights: dict[str, int], *, sticky_seconds: int = 0) -> dict[str, Any]:
    """A forward action."""
    sticky = {"Enabled": bool(sticky_seconds)} | ({"DurationSeconds": sticky_seconds} if sticky_seconds else {})
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups, "TargetGroupStickinessConfig": sticky}}


def oidc() -> dict[str, Any]:
    """An action that asks users to sign in, as it is given: its secret is never told."""
    config = {
        "Issuer": "https://idp.example.com",
        "AuthorizationEndpoint": "https://idp.example.com/authorize",
        "TokenEndpoint": "https://idp.example.com/token",
        "UserInfoEndpoint": "https://idp.example.com/user",
        "ClientId": "shop",
        "ClientSecret": "hush",
        "SessionTimeout": 604800,
        "OnUnauthenticatedRequest": "authenticate",
    }
    return {"Type": "authenticate-oidc", "AuthenticateOidcConfig": config}


def _numbered(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Actions in their order, each with a forward configuration if it forwards."""
    ordered = sorted(enumerate(actions, 1), key=lambda each: each[1].get("Order", each[0]))
    return [{**_whole(action), "Order": number} for number, (_, action) in enumerate(ordered, 1)]


def _whole(action: dict[str, Any]) -> dict[str, Any]:
    if action["Type"] != "forward":
        return {key: dict(value) if isinstance(value, dict) else value for key, value in action.items()}
    alone, config = action.get("TargetGroupArn"), action.get("ForwardConfig")
    if config is None and alone is None:
        raise Refusal("ValidationError", "A forward action needs a target group")
    groups = config["TargetGroups"] if config else [{"TargetGroupArn": alone}]
    if alone and [group["TargetGroupArn"] for group in groups] != [alone]:
        raise Refusal("ValidationError", "TargetGroupArn and ForwardConfig name different target groups")
    sticky = (config or {}).get("TargetGroupStickinessConfig", {"Enabled": False})
    weighted = [{"TargetGroupArn": group["TargetGroupArn"], "Weight": group.get("Weight", 1)} for group in groups]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": weighted, "TargetGroupStickinessConfig": {**sticky}}}


def _health(target: Target, *, used: bool) -> dict[str, str]:
    if not used:
        told = "Target group is not configured to receive traffic from the load balancer"
        return {"State": "unused", "Reason": "Target.NotInUse", "Description": told}
    if target.state == "healthy":
        return {"State": "healthy"}
    return {"State": target.state, "Reason": target.reason, "Description": target.reason}


def groups_without_answer(balancers: FakeBalancers, rules: Iterable[str]) -> Iterator[str]:
    """What gets requests at this moment and has nobody to answer them: the rule, and its target group."""
    for rule in rules:
        shares = balancers.shares(rule)
        if not any(shares.values()):
            yield f"{rule}: no target group has weight"
        for arn, share in shares.items():
            group = balancers.groups[arn]
            if share and not any(target.serves() for target in group.in_state("healthy")):
                yield f"{rule}: {group.name} has {share:.1%} of the requests and no healthy target"
