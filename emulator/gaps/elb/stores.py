"""MiniStack's load balancers of all accounts and Regions, and a call after each change of them.

Seams: `alb.handle_request` for requests of the API, `alb.set_targets_for_group` for ECS, `alb.reset`, and the entries
of load balancers in `cloudformation.provisioners._RESOURCE_HANDLERS`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ministack.services import alb
from ministack.services.cloudformation import provisioners

from emulator.gaps import scope, seams

KINDS = ("LoadBalancer", "Listener", "ListenerRule", "TargetGroup")
_watchers: list[Callable[[], None]] = []
_lock = threading.RLock()
Record = dict[str, Any]


def watch(gap: str, watcher: Callable[[], None]) -> None:
    """Call `watcher` after each change, in the order in which they were added, one at a time."""
    if not _watchers:
        _install(gap)
    _watchers.append(watcher)


def changed() -> None:
    """Tell all watchers that something may have changed."""
    with _lock:
        for watcher in _watchers:
            watcher()


def load_balancers() -> dict[str, Record]:
    """Return all load balancers by ARN."""
    return _all(alb._lbs)


def listeners() -> dict[str, Record]:
    """Return all listeners by ARN."""
    return _all(alb._listeners)


def rules() -> dict[str, Record]:
    """Return all rules by ARN."""
    return _all(alb._rules)


def target_groups() -> dict[str, Record]:
    """Return all target groups by ARN."""
    return _all(alb._tgs)


def registered() -> dict[str, list[Record]]:
    """Return the targets that are registered, by the ARN of their target group."""
    return _all(alb._targets)


def attribute(store: Any, arn: str, key: str, default: str) -> str:
    """Return an attribute of a load balancer or a target group; `store` is MiniStack's for its kind."""
    return next((str(each["Value"]) for each in _all(store).get(arn) or [] if each.get("Key") == key), default)


@contextmanager
def scope_of(arn: str) -> Iterator[None]:
    """Context manager: MiniStack's stores are those of the account and Region of this ARN."""
    region, account = arn.split(":")[3:5]
    with scope.of(account, region):
        yield


def handle(gap: str, action: str, replacement: Callable[..., Any]) -> None:
    """Replace what answers an action of the API by `replacement`, which gets the original and the parameters."""
    original = alb._ACTION_MAP.get(action)
    if original is None:
        raise seams.SeamMissing(gap, f"alb._ACTION_MAP[{action}]", "has no function")
    alb._ACTION_MAP[action] = lambda parameters: replacement(original, parameters)


def provision(gap: str, kind: str, verb: str, replacement: Callable[..., Any]) -> None:
    """Replace what creates, updates or deletes a resource of CloudFormation."""
    handlers = getattr(provisioners, "_RESOURCE_HANDLERS", {}).get(f"AWS::ElasticLoadBalancingV2::{kind}", {})
    original = handlers.get(verb)
    if original is None:
        raise seams.SeamMissing(gap, "cloudformation.provisioners._RESOURCE_HANDLERS", f"has no {verb} of {kind}")
    handlers[verb] = lambda *arguments, **named: replacement(original, *arguments, **named)


def _all(store: Any) -> dict[str, Any]:
    # The last part of a key is the ARN; before it are the account and, for most stores, the Region.
    return {key[-1]: value for key, value in list(store._data.items())}


def _install(gap: str) -> None:
    for name in ("_lbs", "_listeners", "_rules", "_tgs", "_targets", "_lb_attrs", "_tg_attrs"):
        if not isinstance(getattr(getattr(alb, name, None), "_data", None), Mapping):
            raise seams.SeamMissing(gap, f"alb.{name}", "has no store")
    seams.wrap(gap, alb, "handle_request", "method, path, headers, body, query_params", _after_request)
    seams.wrap(gap, alb, "set_targets_for_group", "tg_arn, targets, previous_ids", _then_changed)
    seams.wrap(gap, alb, "reset", "", _then_changed)
    for kind in KINDS:
        for verb in ("create", "update", "delete"):
            provision(gap, kind, verb, _then_changed)


async def _after_request(original: Callable[..., Any], *request: Any) -> Any:
    try:
        return await original(*request)
    finally:
        changed()


def _then_changed(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return original(*arguments, **named)
    finally:
        changed()
