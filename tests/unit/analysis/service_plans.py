"""Plans of an ECS service for the tests of its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from headgate.spec.routing import GroupPair, Routing

if TYPE_CHECKING:
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest
    from headgate.spec.routing import Way

_ELB = "arn:aws:elasticloadbalancing:eu-central-1:123456789012"
_LB_ID = "50dc6c495c0c9188"
LOAD_BALANCER = f"app/front/{_LB_ID}"
REVISIONS: dict[Any, str] = {"stable": "shop:6", "candidate": "shop:7"}


def group_of(name: str) -> str:
    """Return a target group as CloudWatch names it."""
    return f"targetgroup/{name}/73e2d6bc24d8a067"


def routing_of(way: Way = "green-service", *names: str) -> Routing:
    """Return a routing with a pair of target groups for each name."""
    return Routing(
        way=way,
        pairs=[
            GroupPair(
                load_balancer=f"{_ELB}:loadbalancer/{LOAD_BALANCER}",
                stable=f"{_ELB}:{group_of(f'{name}-a')}",
                candidate=f"{_ELB}:{group_of(f'{name}-b')}",
                container="app",
                port=8080,
                rules=[f"{_ELB}:listener-rule/{LOAD_BALANCER}/f2f7dc8efc522ab2/{number:016x}"],
            )
            for number, name in enumerate(names or ("shop",))
        ],
    )


def service_request(**fields: Any) -> RolloutRequest:
    detail = {
        "target": {"kind": "ecs-service", "cluster": "prod", "service": "shop"},
        "candidate": {"taskDefinition": "shop:7"},
        "strategy": {"steps": [{"weight": 10, "bakeSeconds": 300}]},
        **fields,
    }
    return read_request(detail, "shop-42")


def service_plan(routing: Routing | None = None, **fields: Any) -> Plan:
    request = service_request(**fields)
    return make_plan(request, driver="arn:aws:lambda:::driver", firing=[], routing=routing or routing_of())
