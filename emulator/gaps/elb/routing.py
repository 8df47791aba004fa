"""What a listener does with a request: its rules, their conditions and their actions, as plain values.

Pure: made of the records of the API, and compared with requests.
"""

import ipaddress
import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

GROUP_COOKIE = "AWSALBTG"
"""Cookie of a client that stays with a target group."""


class Target(NamedTuple):
    """Where requests go."""

    address: str
    port: int


class Group(NamedTuple):
    """A target group of a forward action."""

    arn: str
    weight: int

    @property
    def cookie(self) -> str:
        """What the cookie of a client says that stays with this group."""
        return self.arn.rpartition("/")[2]


class Forward(NamedTuple):
    """An action that sends a request to one of its target groups."""

    groups: tuple[Group, ...]
    sticky_seconds: int = 0
    """How long a client stays with its group; 0 if groups are not sticky."""


class FixedResponse(NamedTuple):
    """An action that answers itself."""

    status: int
    content_type: str = "text/plain"
    body: str = ""


class Redirect(NamedTuple):
    """An action that sends the client elsewhere. The texts may have placeholders like ``#{path}``."""

    status: int
    protocol: str
    host: str
    port: str
    path: str
    query: str


Action = Forward | FixedResponse | Redirect


class Asked(NamedTuple):
    """What conditions look at."""

    method: str
    path: str
    query: str
    host: str
    """Without its port."""
    headers: Mapping[str, str]
    """By name in lower case."""
    client: str


class Rule(NamedTuple):
    """A rule of a listener: its action is for requests that all conditions hold for."""

    conditions: tuple[Mapping[str, Any], ...]
    action: Action

    def matches(self, asked: Asked) -> bool:
        """Return whether all conditions hold."""
        return all(_holds(condition, asked) for condition in self.conditions)


class Listener(NamedTuple):
    """A listener as it is in force."""

    load_balancer: str
    """ARN."""
    address: str
    port: int
    rules: tuple[Rule, ...]
    """In the order in which they are tried. The last one is the default."""
    idle_seconds: float = 60.0
    preserves_host: bool = False

    def action_for(self, asked: Asked) -> Action | None:
        """Return the action of the first rule that matches."""
        return next((rule.action for rule in self.rules if rule.matches(asked)), None)


def asked_of(method: str, target: str, headers: Iterable[tuple[str, str]], client: str) -> Asked:
    """Return what conditions look at. `target` is the path and query of the request."""
    path, _, query = target.partition("?")
    by_name: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        by_name[key] = f"{by_name[key]}, {value}" if key in by_name else value
    return Asked(method, path, query, host_of(by_name.get("host", "")), by_name, client)


def host_of(host: str) -> str:
    """Return a Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def rule_of(record: Mapping[str, Any]) -> Rule | None:
    """Return a rule of the API as a value; None if it has no action that this load balancer can carry out."""
    actions = sorted(record.get("Actions") or [], key=lambda action: int(action.get("Order") or 1))
    action = action_of(actions[-1]) if actions else None
    conditions = () if record.get("IsDefault") else tuple(record.get("Conditions") or ())
    return None if action is None else Rule(conditions, action)


def action_of(record: Mapping[str, Any]) -> Action | None:
    """Return an action of the API as a value."""
    match str(record.get("Type", "")).lower():
        case "forward":
            return _forward(record)
        case "fixed-response":
            config = record.get("FixedResponseConfig") or {}
            return FixedResponse(
                int(config.get("StatusCode") or 200),
                str(config.get("ContentType") or "text/plain"),
                str(config.get("MessageBody") or ""),
            )
        case "redirect":
            config = record.get("RedirectConfig") or {}
            return Redirect(
                int(str(config.get("StatusCode") or "HTTP_301").removeprefix("HTTP_")),
                str(config.get("Protocol") or "#{protocol}"),
                str(config.get("Host") or "#{host}"),
                str(config.get("Port") or "#{port}"),
                str(config.get("Path") or "/#{path}"),
                str(config.get("Query", "#{query}")),
            )
    return None


def by_priority(record: Mapping[str, Any]) -> tuple[int, int]:
    """Return what rules are sorted by: their priority, the default rule last."""
    priority = str(record.get("Priority", "default"))
    return (0, int(priority)) if priority.isdigit() else (1, 0)


def choose(forward: Forward, cookies: Iterable[str], draw: Callable[[int], int] = random.randrange) -> Group | None:
    """Return the group that a request goes to; None if all weights are 0.

    Groups are drawn at random by their weights. A client with a cookie stays with its group while that is part of the
    action, even at weight 0, as on AWS.
    """
    if forward.sticky_seconds:
        known = {group.cookie: group for group in forward.groups}
        for cookie in cookies:
            if cookie in known:
                return known[cookie]
    total = sum(group.weight for group in forward.groups)
    if not total:
        return None
    left = draw(total)
    for group in forward.groups:
        left -= group.weight
        if left < 0:
            return group
    raise AssertionError(f"drew {left + total} of {total}")


def group_cookies(headers: Mapping[str, str]) -> list[str]:
    """Return the values of the cookies that name a target group."""
    pairs = (each.strip().partition("=") for each in headers.get("cookie", "").replace(",", ";").split(";"))
    return [value for name, _, value in pairs if name == GROUP_COOKIE]


def location(redirect: Redirect, asked: Asked, port: int) -> str:
    """Return where a redirect of a plain HTTP listener on `port` sends the client."""
    values = {"protocol": "http", "host": asked.host, "port": str(port), "path": asked.path.lstrip("/")}
    values["query"] = asked.query

    def filled(text: str) -> str:
        return re.sub(r"#\{(protocol|host|port|path|query)\}", lambda found: values[found[1]], text)

    query = filled(redirect.query)
    where = f"{filled(redirect.protocol).lower()}://{filled(redirect.host)}:{filled(redirect.port)}"
    return where + filled(redirect.path) + (f"?{query}" if query else "")


def _forward(record: Mapping[str, Any]) -> Forward:
    config = record.get("ForwardConfig") or {}
    groups = tuple(
        Group(str(each["TargetGroupArn"]), int(each.get("Weight", 1))) for each in config.get("TargetGroups") or []
    )
    if not groups and record.get("TargetGroupArn"):
        groups = (Group(str(record["TargetGroupArn"]), 1),)
    sticky = config.get("TargetGroupStickinessConfig") or {}
    return Forward(groups, int(sticky.get("DurationSeconds") or 0) if sticky.get("Enabled") else 0)


def _holds(condition: Mapping[str, Any], asked: Asked) -> bool:
    config = next((value for name, value in condition.items() if name.endswith("Config")), None) or {}
    values = config.get("Values") or condition.get("Values") or []
    match condition.get("Field"):
        case "path-pattern":
            return any(_like(asked.path, value) for value in values)
        case "host-header":
            return any(_like(asked.host.lower(), value.lower()) for value in values)
        case "http-header":
            found = asked.headers.get(str(config.get("HttpHeaderName", "")).lower())
            return found is not None and any(_like(found.lower(), value.lower()) for value in values)
        case "http-request-method":
            return asked.method in values
        case "query-string":
            given = [(key.lower(), value.lower()) for key, value in parse_qsl(asked.query, keep_blank_values=True)]
            return any(_in_query(value, given) for value in values)
        case "source-ip":
            client = ipaddress.ip_address(asked.client)
            return any(client in ipaddress.ip_network(value, strict=False) for value in values)
    return False


def _in_query(wanted: Any, given: list[tuple[str, str]]) -> bool:
    """Return whether a key and value, or a value alone, is in the query. As text: ``key=value`` or ``value``."""
    if isinstance(wanted, Mapping):
        key, value = wanted.get("Key"), str(wanted.get("Value", ""))
    else:
        before, equals, after = str(wanted).rpartition("=")
        key, value = (before if equals else None), after
    return any((not key or _like(name, key.lower())) and _like(text, value.lower()) for name, text in given)


def _like(text: str, pattern: str) -> bool:
    """Compare with a pattern in which * stands for any text and ? for one character."""
    regex = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(regex, text, re.DOTALL) is not None
