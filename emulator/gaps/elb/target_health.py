"""Targets are checked, take requests while they are healthy, and drain when they are deregistered.

On AWS, a target that is registered is `initial` until its first good health check; it becomes `unhealthy` and `healthy`
again by the thresholds of its target group; one that is deregistered is `draining` until the deregistration delay has
passed, finishes its requests in flight and gets no new ones; targets of a target group that no rule names are `unused`.
If no target is healthy, all registered ones take requests
(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html). A target is an
address with a port. MiniStack tells every target healthy and checks none, forgets a deregistered one at once, and knows
an address only once, whatever its ports.

So that tests are quick, a target in state `initial` is checked each second instead of each interval; it becomes
unhealthy no sooner for that. Functions as targets are as MiniStack has them.

Seams: the entries of `RegisterTargets`, `DeregisterTargets` and `DescribeTargetHealth` in `alb._ACTION_MAP`,
`alb.set_targets_for_group`, and those of `stores`.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import alb

from emulator.gaps import seams
from emulator.gaps.elb import data_plane, health, stores
from emulator.gaps.elb.health import Check, Health
from emulator.gaps.elb.routing import Target

GAP = "target_health"
_TICK_SECONDS = 0.1
_log = logging.getLogger(__name__)
_lock = threading.RLock()
_health: dict[str, dict[Target, Health]] = {}
"""By ARN of the target group: the targets of those that a rule names."""
_taking: dict[str, tuple[Target, ...]] = {}
"""By ARN of the target group: the targets that take requests."""


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, alb, "_parse_targets_param", "params, prefix")
    seams.expect(GAP, alb, "_xml", "status, action, inner")
    stores.handle(GAP, "RegisterTargets", _register)
    stores.handle(GAP, "DeregisterTargets", _deregister)
    stores.handle(GAP, "DescribeTargetHealth", _describe)
    seams.wrap(GAP, alb, "set_targets_for_group", "tg_arn, targets, previous_ids", _set_targets)
    stores.watch(GAP, _follow)
    data_plane.proxy.targets = lambda group: _taking.get(group, ())
    data_plane.start()
    data_plane.begin(_check_forever())


def state_of(target_group_arn: str, address: str, port: int) -> str:
    """Return the state of a target: initial, healthy, unhealthy or draining; unused also if it is not registered."""
    return targets_of(target_group_arn).get(Target(address, port), "unused")


def targets_of(target_group_arn: str) -> dict[Target, str]:
    """Return the state of each target of a target group, of those that drain too."""
    return {target: each.state for target, each in _states(target_group_arn).items()}


def is_taking_requests(target_group_arn: str, address: str, port: int) -> bool:
    """Return whether the load balancer sends requests to a target now."""
    return Target(address, port) in _taking.get(target_group_arn, ())


def _states(arn: str) -> dict[Target, Health]:
    with _lock:
        if arn in _health:
            return dict(_health[arn])
    reason = "Target.NotInUse"
    unused = Health(0.0, state="unused", reason=reason, description=health.DESCRIPTIONS[reason])
    return dict.fromkeys(_registered(arn), unused)


def _registered(arn: str) -> list[Target]:
    group = stores.target_groups().get(arn, {})
    return [_target(each, group) for each in stores.registered().get(arn, [])]


def _target(record: dict[str, Any], group: dict[str, Any]) -> Target:
    return Target(str(record["Id"]), int(record.get("Port") or group.get("Port") or 80))


def _is_checked(group: dict[str, Any]) -> bool:
    return group.get("TargetType") != "lambda"


def _follow() -> None:
    """Take up targets that are new, and let those drain that are registered no longer."""
    now = time.monotonic()
    with _lock:
        groups = stores.target_groups()
        used = {arn for arn, group in groups.items() if group.get("LoadBalancerArns") and _is_checked(group)}
        for arn in _health.keys() - used:
            for target in _health.pop(arn):
                _on_loop(data_plane.proxy.forget, (arn, target))
            _taking.pop(arn, None)
        for arn in used:
            known, registered = _health.setdefault(arn, {}), _registered(arn)
            for target in registered:
                if target not in known or known[target].gone is not None:
                    known[target] = Health(now)
            for target in known.keys() - set(registered):
                if known[target].gone is None:
                    delay = stores.attribute(alb._tg_attrs, arn, "deregistration_delay.timeout_seconds", "300")
                    known[target].drain(now + float(delay))
                    _on_loop(data_plane.proxy.forget, (arn, target))
            _choose_taking(arn)


def _choose_taking(arn: str) -> None:
    _taking[arn] = tuple(health.taking({target: each.state for target, each in _health[arn].items()}))


def _on_loop(work: Callable[[Any], None], place: tuple[str, Target]) -> None:
    async def done() -> None:
        work(place)

    data_plane.begin(done())


async def _check_forever() -> None:
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        try:
            _end_draining()
            _begin_checks()
        except Exception:  # noqa: BLE001 - the other targets must be checked on
            _log.exception("checking targets")


def _end_draining() -> None:
    now = time.monotonic()
    with _lock:
        for arn, known in _health.items():
            for target in [target for target, each in known.items() if each.gone is not None and each.gone <= now]:
                del known[target]
                data_plane.proxy.cut((arn, target))


def _begin_checks() -> None:
    now = time.monotonic()
    groups = stores.target_groups()
    with _lock:
        for arn, known in _health.items():
            check = Check.of(groups.get(arn, {}))
            for target, each in known.items():
                if each.gone is None and not each.checking and each.due <= now:
                    each.begin_check(check, now)
                    data_plane.keep(asyncio.get_running_loop().create_task(_check(arn, target, each, check)))


async def _check(arn: str, target: Target, state: Health, check: Check) -> None:
    finding = await health.find(check, *target)
    with _lock:
        state.take(finding, check, time.monotonic())
        # It may have been deregistered, or registered anew, meanwhile.
        if _health.get(arn, {}).get(target) is state:
            _choose_taking(arn)


def _register(original: Callable[..., Any], params: Any) -> Any:
    arn = alb._p(params, "TargetGroupArn")
    group = alb._tgs.get(arn)
    if group is None or not _is_checked(group):
        return original(params)
    _set(arn, group, add=alb._parse_targets_param(params), remove=[])
    return alb._empty("RegisterTargets")


def _deregister(original: Callable[..., Any], params: Any) -> Any:
    arn = alb._p(params, "TargetGroupArn")
    group = alb._tgs.get(arn)
    if group is None or not _is_checked(group):
        return original(params)
    _set(arn, group, add=[], remove=alb._parse_targets_param(params))
    return alb._empty("DeregisterTargets")


def _set(arn: str, group: dict[str, Any], add: list[dict[str, Any]], remove: list[dict[str, Any]]) -> None:
    with _lock:
        gone = {_target(each, group) for each in remove}
        kept = {_target(each, group): None for each in [*alb._targets.get(arn, []), *add]}
        alb._targets[arn] = [{"Id": target.address, "Port": target.port} for target in kept if target not in gone]


def _set_targets(
    original: Callable[..., Any], tg_arn: str, targets: list[tuple[str, int]], previous_ids: tuple[str, ...] = ()
) -> Any:
    group = alb._tgs.get(tg_arn)
    if group is None or not _is_checked(group):
        return original(tg_arn, targets, previous_ids)
    with _lock:
        # The caller names its earlier targets by their addresses alone. An address that stays may have another port,
        # which is another target of the same task.
        wanted = [{"Id": each, "Port": port} for each, port in targets]
        gone = set(previous_ids) - {each for each, _port in targets}
        _set(tg_arn, group, add=wanted, remove=[each for each in alb._targets.get(tg_arn, []) if each["Id"] in gone])
    stores.changed()
    return True


def _describe(original: Callable[..., Any], params: Any) -> Any:
    arn = alb._p(params, "TargetGroupArn")
    group = alb._tgs.get(arn)
    if group is None or not _is_checked(group):
        return original(params)
    states = _states(arn)
    if asked := [_target(each, group) for each in alb._parse_targets_param(params)]:
        reason = "Target.NotRegistered"
        unknown = Health(0.0, state="unused", reason=reason, description=health.DESCRIPTIONS[reason])
        states = {target: states.get(target, unknown) for target in asked}
    told = "".join(_xml(target, state, Check.of(group)) for target, state in states.items())
    return alb._xml(200, "DescribeTargetHealth", f"<TargetHealthDescriptions>{told}</TargetHealthDescriptions>")


def _xml(target: Target, state: Health, check: Check) -> str:
    port = target.port if check.port == "traffic-port" else check.port
    why = f"<Reason>{state.reason}</Reason><Description>{state.description}</Description>" if state.reason else ""
    return (
        f"<member><Target><Id>{escape(target.address)}</Id><Port>{target.port}</Port></Target>"
        f"<HealthCheckPort>{port}</HealthCheckPort>"
        f"<TargetHealth><State>{state.state}</State>{why}</TargetHealth></member>"
    )
