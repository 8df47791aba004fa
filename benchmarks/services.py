"""Calls of a rollout of an ECS service, how they grow, and how many rollouts at once the published rates carry."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report import Section, say, table
from headgate.aws.observability import logger
from tests.fakes.service_rollouts import ServiceRollout
from tests.fakes.services_and_balancers import Cloud

if TYPE_CHECKING:
    from headgate.spec.routing import Way

ACTIONS = ("prepare", "shift", "promote", "release", "rollback", "restore")
WAYS: tuple[Way, ...] = ("task-sets", "green-service")
RULES = (1, 2, 4, 8)
TARGET_GROUPS = (1, 2, 4)
AT_ONCE = (1, 5, 20)
STEP_SECONDS = (60, 300, 600)
SLOW_TICKS = (1, 9)

ELB_MODIFY = ("ModifyRule", "ModifyListener")
ELB_READ = (
    "DescribeRules",
    "DescribeListeners",
    "DescribeLoadBalancers",
    "DescribeTargetGroups",
    "DescribeTargetGroupAttributes",
    "DescribeTargetHealth",
)
ECS_MODIFY = ("CreateService", "UpdateService", "DeleteService")
DEFINITIONS = ("RegisterTaskDefinition",)


class Rate(NamedTuple):
    """A published rate of an account in a Region, in calls a second."""

    what: str
    operations: tuple[str, ...]
    sustained: float


ELB_RATES = (
    Rate("ELB, changes", ELB_MODIFY, 3),
    Rate("ELB, Describe", ELB_READ, 10),
    Rate("ELB, all", (*ELB_MODIFY, *ELB_READ), 10),
)
RATES = (
    *ELB_RATES,
    Rate("ECS, changes of services", ECS_MODIFY, 5),
    Rate("ECS, DescribeServices", ("DescribeServices",), 20),
    Rate("ECS, changes of definitions", DEFINITIONS, 1),
    Rate("ECS, DescribeTaskDefinition", ("DescribeTaskDefinition", "ListTaskDefinitions"), 20),
)
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/throttling.html and
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html, as read in November 2026. Task sets
are in neither list."""


class Rollout(NamedTuple):
    """The calls of one rollout by the driver's action; of a shift, those of each step alike."""

    calls: dict[str, Counter[str]]

    def of(self, action: str, operations: tuple[str, ...] = ()) -> int:
        """Number of calls of an action; with operations, of these alone."""
        counted = self.calls.get(action, Counter())
        return sum(count for name, count in counted.items() if not operations or name in operations)

    def whole(self, steps: int, operations: tuple[str, ...] = ()) -> int:
        """Number of calls of a promoted rollout of so many steps."""
        forward = ("prepare", "promote", "release")
        return sum(self.of(each, operations) for each in forward) + steps * self.of("shift", operations)


def measure(quick: bool) -> Section:
    """Every action of the real driver, against services and load balancers in memory that count what is asked."""
    logger.setLevel("ERROR")  # The driver writes a line for each of its calls.
    by_rules = {(way, rules): promoted(way, rules=rules) for way in WAYS for rules in RULES}
    say("  rules: done")
    groups = {pairs: promoted("green-service", pairs=pairs) for pairs in TARGET_GROUPS}
    back = {way: rolled_back(way) for way in WAYS}
    say("  target groups and rollbacks: done")
    at_once = {number: together(number) for number in AT_ONCE[: 2 if quick else None]}
    polls = {way: each_poll(way) for way in WAYS}
    faults = [
        f"{number} rollouts at once take {calls} calls, and one takes {at_once[1]}"
        for number, calls in at_once.items()
        if calls != number * at_once[1]
    ]
    return Section("\n\n".join(_paragraphs(by_rules, groups, back, at_once, polls)), faults)


def promoted(way: Way, *, rules: int = 1, pairs: int = 1) -> Rollout:
    """A rollout of two steps that is promoted."""
    cloud = Cloud()
    shop = cloud.shop(way, rules=rules, pairs=pairs)
    return Rollout(_promote(cloud, ServiceRollout(cloud, shop)))


def rolled_back(way: Way) -> Rollout:
    """A rollout that is rolled back after its first step."""
    cloud = Cloud()
    rollout = ServiceRollout(cloud, cloud.shop(way))
    counted = {"prepare": _count(cloud, rollout, "prepare", None)}
    counted["shift"] = _count(cloud, rollout, "shift", counted["prepare"][1], weight=10)
    counted["rollback"] = _count(cloud, rollout, "rollback", counted["shift"][1])
    counted["restore"] = _count(cloud, rollout, "restore", counted["rollback"][1])
    return Rollout({action: calls for action, (calls, _) in counted.items()})


def together(number: int) -> int:
    """Calls of so many rollouts of one account, whose actions take turns."""
    cloud = Cloud()
    rollouts = [ServiceRollout(cloud, cloud.shop("green-service", name=f"shop{each}")) for each in range(number)]
    cloud.calls.clear()
    states: list[Any] = [None] * number
    for action, event in (("prepare", {}), ("shift", {"weight": 10}), ("promote", {}), ("release", {})):
        for place, rollout in enumerate(rollouts):
            cloud.still = False
            states[place] = rollout.do(action, states[place], **event)
    return len(cloud.calls)


def each_poll(way: Way) -> float:
    """Calls each time that is asked whether the candidate is healthy."""
    asked, calls = [], []
    for ticks in SLOW_TICKS:
        cloud = Cloud()
        shop = cloud.shop(way)
        cloud.behave(f"{shop.service}:7", ticks=ticks)
        rollout = ServiceRollout(cloud, shop)
        cloud.calls.clear()
        asked.append(sum(1 for _ in rollout.tries("prepare")))
        calls.append(len(cloud.calls))
    return (calls[1] - calls[0]) / (asked[1] - asked[0])


def _promote(cloud: Cloud, rollout: ServiceRollout) -> dict[str, Counter[str]]:
    counted, state = dict[str, Counter[str]](), None
    for action, event in (("prepare", {}), ("shift", {"weight": 10}), ("promote", {}), ("release", {})):
        counted[action], state = _count(cloud, rollout, action, state, **event)
    return counted


def _count(cloud: Cloud, rollout: ServiceRollout, action: str, state: Any, **event: Any) -> tuple[Counter[str], Any]:
    cloud.calls.clear()
    after = rollout.do(action, state, **event)
    return Counter(cloud.calls), after


def at_once_by(rollout: Rollout, seconds: int, rates: tuple[Rate, ...] = ELB_RATES) -> tuple[int, str]:
    """How many rollouts with a step each so many seconds the rates carry, and which rate is the narrow one."""
    carried = [
        (int(rate.sustained * seconds / calls), rate.what)
        for rate in rates
        if (calls := rollout.of("shift", rate.operations))
    ]
    return min(carried)


def _paragraphs(
    by_rules: dict[tuple[Way, int], Rollout],
    groups: dict[int, Rollout],
    back: dict[Way, Rollout],
    at_once: dict[int, int],
    polls: dict[Way, float],
) -> list[str]:
    how = (
        "Calls of the driver to ECS, Elastic Load Balancing and Application Auto Scaling, counted while the real "
        "driver rolls out services that are held in memory, with four tasks, which are healthy at the second look. A "
        "candidate that takes longer is asked about again: "
        + " and ".join(f"{polls[way]:.1f} calls each time with {way}" for way in WAYS)
        + ". The planner's own calls, once for each rollout, are not in it, nor is anybody else's."
    )
    grow = (
        "A change of weights reads all rules in one call, writes each rule whole, and reads them again, so a rule more "
        "costs one call more in each step, promotion and return. A target group more costs two: a change of its rule, "
        "and a question for the health of its targets."
    )
    one, most = at_once[1], max(at_once)
    concurrent = (
        f"Rollouts do not share calls: {most} at once made {at_once[most]:,}, {most} times the {one} of one. "
        "So the published rates, which hold for an account in a Region and for everybody in it, say how many rollouts "
        "may have a step in the same time. Between steps a rollout calls none of these services. With a step each so "
        "many seconds, spread evenly:"
    )
    whole = (
        "Calls of a whole rollout of three steps with one rule, next to the rates (a second, sustained). The driver "
        "waits and tries again when it is throttled, and takes traffic off a candidate before other calls:"
    )
    return [
        "## Calls of a rollout of an ECS service",
        how,
        table(
            ["way, rules", *ACTIONS[:4], "promoted, 3 steps", "promoted, 10 steps"],
            [
                [
                    f"{way}, {rules}",
                    *(str(rollout.of(action)) for action in ACTIONS[:4]),
                    str(rollout.whole(3)),
                    str(rollout.whole(10)),
                ]
                for (way, rules), rollout in by_rules.items()
            ],
        ),
        grow,
        table(
            ["target groups of each revision (green-service, a rule for each)", *ACTIONS[:4]],
            [[str(pairs), *(str(each.of(action)) for action in ACTIONS[:4])] for pairs, each in groups.items()],
        ),
        "A rollout that is rolled back after its first step, with one rule:",
        table(
            ["way", "prepare", "shift", "rollback", "restore"],
            [[way, *(str(back[way].of(each)) for each in ("prepare", "shift", "rollback", "restore"))] for way in WAYS],
        ),
        concurrent,
        table(
            ["way, rules", *(f"each {seconds} s" for seconds in STEP_SECONDS), "the narrow rate"],
            [
                [
                    f"{way}, {rules}",
                    *(f"{at_once_by(rollout, seconds)[0]:,}" for seconds in STEP_SECONDS),
                    at_once_by(rollout, STEP_SECONDS[0])[1],
                ]
                for (way, rules), rollout in by_rules.items()
            ],
        ),
        whole,
        table(
            ["rate", "published", *WAYS, *(f"rollouts begun an hour, {way}" for way in WAYS)],
            [_rate_row(rate, [by_rules[way, 1].whole(3, rate.operations) for way in WAYS]) for rate in RATES],
        ),
    ]


def _rate_row(rate: Rate, calls: list[int]) -> list[str]:
    begun = [f"{rate.sustained * 3600 / each:,.0f}" if each else "any" for each in calls]
    return [rate.what, f"{rate.sustained:g}", *map(str, calls), *begun]
