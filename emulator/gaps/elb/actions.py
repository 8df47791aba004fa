"""Actions of listeners and rules: read from requests of the query protocol, checked, and told in XML.

Pure. Members are read and told by their names, whatever they are, so that an action comes back as it was given.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

MOST_GROUPS = 5
HEAVIEST = 999
LONGEST_SECONDS = 604_800
_NUMBERS = {"Order", "Weight", "DurationSeconds", "SessionTimeout"}
_FLAGS = {"Enabled", "UseExistingClientSecret"}
_SECRET = {"ClientSecret", "UseExistingClientSecret"}
_TERMINAL = {"forward", "fixed-response", "redirect"}
_AUTHENTICATION = {"authenticate-oidc", "authenticate-cognito"}
_MAPS = {"AuthenticationRequestExtraParams"}

Action = dict[str, Any]


class Refusal(NamedTuple):
    """Why AWS refuses a request."""

    code: str
    message: str


def read(parameters: Mapping[str, Any], prefix: str) -> list[Action]:
    """Read the list of actions under `prefix` of a request, like ``Actions.member.1.Type``."""
    tree: dict[str, Any] = {}
    for name, value in parameters.items():
        if name.startswith(f"{prefix}.member."):
            *path, last = name.removeprefix(f"{prefix}.").split(".")
            branch = tree
            for each in path:
                branch = branch.setdefault(each, {})
            branch[last] = value[0] if isinstance(value, list) else value
    return list(normal(tree)) if tree else []


def normal(value: Any, name: str = "") -> Any:
    """Return a part of a request or a template, of this name, as AWS keeps it: lists, maps, numbers and flags.

    The query protocol tells a list as ``{"member": {"1": ...}}`` and a map as ``{"entry": {"1": {"key", "value"}}}``.
    """
    if isinstance(value, list):
        return [normal(each) for each in value]
    if not isinstance(value, dict):
        return int(value) if name in _NUMBERS else str(value).lower() == "true" if name in _FLAGS else value
    if value.keys() == {"member"}:
        return [normal(value["member"][number]) for number in sorted(value["member"], key=int)]
    if value.keys() == {"entry"}:
        return {each["key"]: each["value"] for each in value["entry"].values()}
    return {each: normal(part, each) for each, part in value.items()}


def merged(given: Action, defaults: Action) -> Action:
    """Return an action with the defaults of what it does not say, part by part."""
    result = dict(defaults)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(value, result[name]) if both else value
    return result


def complete(action: Action) -> Action:
    """Return an action as it is kept: a forward action always has a ForwardConfig, with weights and stickiness.

    TargetGroupArn is there only if there is one group. The parts of the action itself are not changed.
    """
    if action.get("Type") != "forward":
        return action
    config = action.get("ForwardConfig") or {}
    groups = config.get("TargetGroups") or []
    if not groups and action.get("TargetGroupArn"):
        groups = [{"TargetGroupArn": action["TargetGroupArn"]}]
    sticky = {"Enabled": False} | (config.get("TargetGroupStickinessConfig") or {})
    kept = {name: value for name, value in action.items() if name not in ("TargetGroupArn", "ForwardConfig")}
    if len(groups) == 1:
        kept["TargetGroupArn"] = groups[0]["TargetGroupArn"]
    kept["ForwardConfig"] = {
        "TargetGroups": [
            {"TargetGroupArn": each["TargetGroupArn"], "Weight": each.get("Weight", 1)} for each in groups
        ],
        "TargetGroupStickinessConfig": sticky,
    }
    return kept


def groups_of(actions: list[Action]) -> list[str]:
    """Return the ARNs of all target groups that the actions name, each once."""
    found: list[str] = []
    for action in actions:
        found += [each["TargetGroupArn"] for each in (action.get("ForwardConfig") or {}).get("TargetGroups") or []]
        found += [action["TargetGroupArn"]] if action.get("TargetGroupArn") else []
    return list(dict.fromkeys(found))


def with_secrets(actions: list[Action], before: list[Action]) -> list[Action]:
    """Return the actions with the client secrets that UseExistingClientSecret keeps, and without that member."""
    known = [action.get("AuthenticateOidcConfig") or {} for action in before]
    secrets = {config.get("Issuer"): config["ClientSecret"] for config in known if config.get("ClientSecret")}

    def with_secret(action: Action) -> Action:
        config = action.get("AuthenticateOidcConfig") or {}
        if "UseExistingClientSecret" not in config:
            return action
        plain = {name: value for name, value in config.items() if name != "UseExistingClientSecret"}
        if config["UseExistingClientSecret"] and config.get("Issuer") in secrets:
            plain["ClientSecret"] = secrets[config["Issuer"]]
        return {**action, "AuthenticateOidcConfig": plain}

    return [with_secret(action) for action in actions]


def refusal(given: list[Action], before: list[Action], protocol: str, groups: Collection[str]) -> Refusal | None:
    """Return why AWS refuses these actions, or None.

    Parameters
    ----------
    given
        The actions of the request.
    before
        The actions that they replace; none for a new listener or rule.
    protocol
        Of the listener: ``HTTP`` or ``HTTPS``.
    groups
        ARNs of the target groups that exist.
    """
    kinds = [str(action.get("Type")) for action in sorted(given, key=lambda action: action.get("Order") or 50_000)]
    if [kind for kind in kinds if kind in _TERMINAL] != kinds[-1:]:
        return Refusal(
            "InvalidLoadBalancerAction",
            "Actions must end with one forward, fixed-response or redirect action, and have no other one of them",
        )
    if protocol != "HTTPS" and (found := _AUTHENTICATION.intersection(kinds)):
        return Refusal(
            "InvalidLoadBalancerAction", f"Actions of type '{min(found)}' are supported only on HTTPS listeners"
        )
    for action in given:
        refused = _forward_refusal(action, groups) or _status_refusal(action) or _secret_refusal(action, before)
        if refused:
            return refused
    return None


def tell(action: Action) -> str:
    """Return an action in XML. A client secret is never told."""
    return f"<member>{_xml(action)}</member>"


def _forward_refusal(action: Action, known: Collection[str]) -> Refusal | None:
    if action.get("Type") != "forward":
        return None
    config = action.get("ForwardConfig") or {}
    groups = config.get("TargetGroups") or []
    named, alone = groups_of([action]), action.get("TargetGroupArn")
    if not named:
        return Refusal("ValidationError", "A target group must be specified for an action of type 'forward'")
    if alone and groups and [each["TargetGroupArn"] for each in groups] != [alone]:
        return Refusal(
            "InvalidLoadBalancerAction",
            "TargetGroupArn and ForwardConfig of a forward action must name the same single target group",
        )
    if len(groups) > MOST_GROUPS:
        return Refusal("TooManyTargetGroups", f"A forward action can have at most {MOST_GROUPS} target groups")
    for each in groups:
        if not 0 <= each.get("Weight", 1) <= HEAVIEST:
            message = f"Weight '{each['Weight']}' of a target group must be between 0 and {HEAVIEST}"
            return Refusal("ValidationError", message)
    if missing := [arn for arn in named if arn not in known]:
        return Refusal("TargetGroupNotFound", f"Target groups '{', '.join(missing)}' not found")
    sticky = config.get("TargetGroupStickinessConfig") or {}
    seconds = sticky.get("DurationSeconds")
    if sticky.get("Enabled") and seconds is None:
        return Refusal("ValidationError", "DurationSeconds must be specified if target group stickiness is enabled")
    if seconds is not None and not 1 <= seconds <= LONGEST_SECONDS:
        message = f"Target group stickiness duration '{seconds}' must be between 1 and {LONGEST_SECONDS} seconds"
        return Refusal("ValidationError", message)
    return None


def _status_refusal(action: Action) -> Refusal | None:
    for kind, config, pattern in (
        ("fixed-response", "FixedResponseConfig", r"[245]\d\d"),
        ("redirect", "RedirectConfig", "HTTP_30[12]"),
    ):
        status = str((action.get(config) or {}).get("StatusCode", ""))
        if action.get("Type") == kind and not re.fullmatch(pattern, status):
            return Refusal("ValidationError", f"Status code '{status}' of an action of type '{kind}' is not valid")
    return None


def _secret_refusal(action: Action, before: list[Action]) -> Refusal | None:
    config = action.get("AuthenticateOidcConfig")
    if not config or config.get("ClientSecret"):
        return None
    if not config.get("UseExistingClientSecret"):
        return Refusal("InvalidLoadBalancerAction", "A client secret must be specified, or UseExistingClientSecret")
    known = [each.get("AuthenticateOidcConfig") or {} for each in before]
    if not any(each.get("ClientSecret") and each.get("Issuer") == config.get("Issuer") for each in known):
        return Refusal("InvalidLoadBalancerAction", "There is no existing client secret to use: specify ClientSecret")
    return None


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(
            f"<{name}>{_entries(each) if name in _MAPS else _xml(each)}</{name}>"
            for name, each in value.items()
            if name not in _SECRET
        )
    if isinstance(value, list):
        return "".join(f"<member>{_xml(each)}</member>" for each in value)
    return escape(str(value).lower() if isinstance(value, bool) else str(value))


def _entries(value: Mapping[str, str]) -> str:
    return "".join(
        f"<entry><key>{escape(key)}</key><value>{escape(each)}</value></entry>" for key, each in value.items()
    )
