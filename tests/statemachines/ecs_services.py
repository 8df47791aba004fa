"""What rollouts of ECS services must leave behind: the design's invariants, and everything that they only borrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fakes.services_and_balancers import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fakes.balancers import Write
    from tests.fakes.services_and_balancers import Cloud, Shop


class Before(NamedTuple):
    """A service as its owner has made it."""

    shop: Shop
    way: str
    desired: int
    suspended: dict[str, bool] | None
    actions: dict[str, Any]
    """By rule: all that a rollout must never change."""
    shares: dict[str, dict[str, float]]
    """By rule, that of each target group."""

    @classmethod
    def of(cls, cloud: Cloud, shop: Shop, way: str) -> Before:
        service = cloud.services.service(shop.service)
        rules = [*shop.rules, *shop.test_rules]
        return cls(
            shop,
            way,
            service.desired,
            cloud.suspended(shop) if cloud.scalable.targets else None,
            {rule: cloud.balancers.actions(rule) for rule in rules},
            {rule: cloud.balancers.shares(rule) for rule in rules},
        )


def assert_services(cloud: Cloud, shops: Mapping[str, Before], records: Mapping[str, dict[str, Any]]) -> None:
    """Hold every service against invariant 1, and what its rollouts have borrowed against what it was."""
    for key, before in shops.items():
        own = {i: record for i, record in records.items() if record["targetKey"] == key}
        known = [record for record in own.values() if record["status"] != "refused"]
        for rollout_id, record in own.items():
            if record["status"] == "refused":
                assert not _moves(cloud, before, rollout_id), "a refused rollout moved requests"
        ended = sorted(known, key=lambda record: record["endedAt"])
        last = ended[-1] if ended else {"status": "refused"}
        # What somebody else sends requests to is not taken from them.
        in_use = last["status"] == "stopped" and any(cloud.shares(before.shop))
        assert not in_use or "was not deleted" in last["reason"], last["reason"]
        assert_given_back(cloud, before, in_use=in_use)
        if last["status"] in ("succeeded", "rolled-back"):
            _assert_one_revision(cloud, before, last)


def _assert_one_revision(cloud: Cloud, before: Before, record: dict[str, Any]) -> None:
    """Invariant 1: all requests reach the revision that the record says, and ECS agrees."""
    shop, promoted = before.shop, record["status"] == "succeeded"
    serving = record["candidate" if promoted else "stable"]
    assert record["serving"] == serving, record
    shares = set(cloud.shares(shop))
    assert shares <= {0.0, 100.0}, shares
    assert len(shares) == 1, "rules differ"
    assert cloud.serving(shop) == {serving}
    service = cloud.services.service(shop.service)
    assert service.primary is not None
    assert service.primary.definition == serving
    if before.way == "green-service":
        assert shares == {0.0}, "requests have not come home to the service's own target group"
        assert service.primary.rollout == "COMPLETED"
    else:
        (group,) = [place["targetGroupArn"] for place in service.primary.fields["loadBalancers"]]
        assert all(cloud.balancers.shares(rule)[group] == 1.0 for rule in shop.rules)


def assert_given_back(cloud: Cloud, before: Before, *, in_use: bool = False) -> None:
    """Nothing of a rollout is left, unless it is in use, and all that is not its own is as it was."""
    shop = before.shop
    cloud.settle()
    left = {name for name in cloud.names() if name.startswith(f"{shop.service}-hg-")}
    assert not left or in_use, left
    service = cloud.services.service(shop.service)
    units = [(unit.id, unit.status, unit.definition) for unit in service.units]
    assert len(units) == 1 or in_use, units
    assert service.desired == before.desired
    assert len(cloud.services.living(shop.service)) == before.desired * len(units)
    if before.suspended is not None:
        assert cloud.suspended(shop) == before.suspended
    assert {rule: cloud.balancers.actions(rule) for rule in before.actions} == before.actions
    for rule in shop.test_rules:
        assert cloud.balancers.shares(rule) == before.shares[rule], rule


def _moves(cloud: Cloud, before: Before, rollout_id: str) -> list[Write]:
    """Changes of a rule's shares by a rollout; one that writes what is there already moves nothing."""
    shares = dict(before.shares)
    moves = []
    for write in cloud.writes:
        if write.by == rollout_id and _parts(shares[write.rule]) != _parts(write.shares):
            moves.append(write)
        shares[write.rule] = write.shares
    return moves


def _parts(shares: dict[str, float]) -> dict[str, float]:
    return {arn: share for arn, share in shares.items() if share}


def assert_no_rule_overwritten(cloud: Cloud, routed: Mapping[str, int]) -> None:
    """Invariant 5: from its first look at a service on, a rollout overwrites nobody else's weights."""
    for number, write in enumerate(cloud.writes):
        if write.by in routed:
            between = {other.by for other in cloud.writes[routed[write.by] : number] if other.rule == write.rule}
            assert OUTSIDE not in between, f"{write} overwrote what was changed from outside"
