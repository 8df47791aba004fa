"""A load balancer has an address, and its listeners take requests there.

On AWS, a load balancer has addresses of its own behind its DNS name, and each listener a port. The first rule whose
conditions hold carries out its action; a forward action draws a target group by the weights. MiniStack takes requests
of load balancers only at its own port, knows no weights, and leaves the listeners of a deleted load balancer. Here a
load balancer has a loopback address of its own, which is its DNS name, and each HTTP listener listens there
(`proxy` says how). What a request of the API has changed is in force when it is answered. Conditions of query strings
are kept with their keys, which MiniStack loses.

Not filled: a listener of HTTPS, or of a port that this user may not open, does not listen; the log says so for the
latter. Functions as targets, and transforms, work only at MiniStack's own port.

Seams: `alb._parse_conditions`, `alb._condition_xml`, the entries of load balancers and listeners in `alb._ACTION_MAP`
and of `AWS::ElasticLoadBalancingV2::LoadBalancer` in CloudFormation's handlers, and those of `stores`.
"""

import asyncio
import functools
import itertools
import logging
import socket
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import alb
from ministack.services.cloudformation import provisioners

from emulator.gaps import addresses, seams
from emulator.gaps.elb import data_plane, http1, routing, stores

GAP = "listeners"
_log = logging.getLogger(__name__)
_numbers = itertools.cycle(addresses.LOAD_BALANCERS)
_open: dict[str, tuple[tuple[str, int], asyncio.AbstractServer]] = {}
"""By ARN of the listener: where it listens, and its server."""


class _NoAddressError(Exception):
    """All addresses of load balancers are in use."""


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, alb, "_parse_conditions", "params, prefix", _parse_conditions)
    seams.wrap(GAP, alb, "_condition_xml", "c", _condition_xml)
    stores.handle(GAP, "CreateLoadBalancer", _create_load_balancer)
    stores.handle(GAP, "DeleteLoadBalancer", _delete_load_balancer)
    stores.handle(GAP, "CreateListener", _create_listener)
    # By the table, and by name when an update replaces it.
    stores.provision(GAP, "LoadBalancer", "create", _provision_load_balancer)
    parameters = "logical_id, props, stack_name"
    seams.wrap(GAP, provisioners, "_elbv2_load_balancer_create", parameters, _provision_load_balancer)
    data_plane.proxy.targets = _registered
    data_plane.start()
    stores.watch(GAP, _put_into_force)


def _create_load_balancer(original: Callable[..., Any], params: Any) -> Any:
    before = set(alb._lbs)
    status, headers, body = original(params)
    for arn in set(alb._lbs) - before:
        name = alb._lbs[arn]["DNSName"]
        try:
            body = body.replace(name.encode(), _give_address(arn).encode())
        except _NoAddressError as error:
            alb._delete_lb({"LoadBalancerArn": [arn]})
            return alb._error("TooManyLoadBalancers", str(error))
    return status, headers, body


def _provision_load_balancer(
    original: Callable[..., Any], logical_id: str, props: dict[str, Any], stack_name: str
) -> Any:
    arn, attributes = original(logical_id, props, stack_name)
    return arn, {**attributes, "DNSName": _give_address(arn)}


def _give_address(arn: str) -> str:
    """Give a load balancer an address that no other one has; returns its DNS name."""
    balancer = alb._lbs[arn]
    if balancer.get("Type", "application") != "application":
        return str(balancer["DNSName"])
    taken = {each["DNSName"] for each in stores.load_balancers().values()}
    for number in itertools.islice(_numbers, len(addresses.LOAD_BALANCERS)):
        if (found := addresses.address(number)) not in taken:
            balancer["DNSName"] = found
            return found
    raise _NoAddressError(f"There are {len(addresses.LOAD_BALANCERS)} load balancers: delete one first")


def _delete_load_balancer(original: Callable[..., Any], params: Any) -> Any:
    arn = alb._p(params, "LoadBalancerArn")
    for listener in [each["ListenerArn"] for each in alb._listeners.values() if each["LoadBalancerArn"] == arn]:
        alb._delete_listener({"ListenerArn": [listener]})
    return original(params)


def _create_listener(original: Callable[..., Any], params: Any) -> Any:
    arn, port = alb._p(params, "LoadBalancerArn"), int(alb._p(params, "Port") or 80)
    if any(each["LoadBalancerArn"] == arn and each["Port"] == port for each in alb._listeners.values()):
        return alb._error("DuplicateListener", f"A listener already exists on port {port} of load balancer '{arn}'")
    return original(params)


def _parse_conditions(original: Callable[..., Any], params: Any, prefix: str = "Conditions") -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = original(params, prefix)
    for number, condition in enumerate(conditions, start=1):
        base = f"{prefix}.member.{number}.QueryStringConfig.Values.member"
        pairs: list[dict[str, str]] = []
        while value := alb._p(params, f"{base}.{len(pairs) + 1}.Value"):
            key = alb._p(params, f"{base}.{len(pairs) + 1}.Key")
            pairs.append({"Key": key, "Value": value} if key else {"Value": value})
        if pairs:
            condition["QueryStringConfig"] = {"Values": pairs}
    return conditions


def _condition_xml(original: Callable[..., Any], condition: dict[str, Any]) -> str:
    told: str = original(condition)
    pairs = (condition.get("QueryStringConfig") or {}).get("Values") or []
    members = "".join(
        "<member>" + "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in pair.items()) + "</member>"
        for pair in pairs
    )
    if not members:
        return told
    config = f"<QueryStringConfig><Values>{members}</Values></QueryStringConfig>"
    return told.removesuffix("</member>") + config + "</member>"


def _registered(group: str) -> list[routing.Target]:
    """Return all targets of a target group: those that take requests where health is not known."""
    port = stores.target_groups().get(group, {}).get("Port", 80)
    found = stores.registered().get(group, [])
    return [routing.Target(each["Id"], int(each.get("Port") or port)) for each in found]


def _put_into_force() -> None:
    balancers, rules = stores.load_balancers(), list(stores.rules().values())
    fresh: dict[str, routing.Listener] = {}
    for arn, record in stores.listeners().items():
        balancer = balancers.get(record["LoadBalancerArn"])
        if balancer and record.get("Protocol") == "HTTP" and balancer["DNSName"].startswith("127."):
            own = sorted((rule for rule in rules if rule["ListenerArn"] == arn), key=routing.by_priority)
            fresh[arn] = _listener(balancer, record, own)
    data_plane.proxy.listeners = fresh
    places = {arn: (listener.address, listener.port) for arn, listener in fresh.items()}
    for arn in [arn for arn, (place, _) in _open.items() if places.get(arn) != place]:
        _place, server = _open.pop(arn)
        data_plane.run(_close(server))
    for arn in places.keys() - _open.keys():
        try:
            _open[arn] = places[arn], data_plane.run(_listen(arn, places[arn]))
        except OSError as error:
            address, port = places[arn]
            _log.error("%s does not listen on %s, port %d: %s. Use a free port from 1024", arn, address, port, error)


def _listener(balancer: dict[str, Any], record: dict[str, Any], rules: list[dict[str, Any]]) -> routing.Listener:
    arn = balancer["LoadBalancerArn"]
    return routing.Listener(
        load_balancer=arn,
        address=balancer["DNSName"],
        port=int(record["Port"]),
        rules=tuple(rule for each in rules if (rule := routing.rule_of(each))),
        idle_seconds=float(stores.attribute(alb._lb_attrs, arn, "idle_timeout.timeout_seconds", "60")),
        preserves_host=stores.attribute(alb._lb_attrs, arn, "routing.http.preserve_host_header.enabled", "") == "true",
    )


async def _listen(arn: str, place: tuple[str, int]) -> asyncio.AbstractServer:
    serve = functools.partial(data_plane.proxy.serve, arn)
    return await asyncio.start_server(
        serve, *place, family=socket.AF_INET, limit=http1.HEAD_BYTES, backlog=512, reuse_address=True
    )


async def _close(server: asyncio.AbstractServer) -> None:
    server.close()
