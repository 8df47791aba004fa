"""Old versions of a function: what keeps one, and how the others are deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.cleanup.cleaner import PACE_SECONDS, apply, survey
from headgate.cleanup.policy import Policy
from tests.builders import admit, settle, start
from tests.fakes.old_versions import ARN, OldVersions
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.cleanup.model import Cleanup
    from headgate.cleanup.versions import FunctionVersions
    from headgate.rollouts.locks import Locks

    StockOf = Callable[..., FunctionVersions]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALL_OLD = Policy(1, 0)
SHOP = {"kind": "lambda-alias", "function": "shop", "alias": "live"}
UUID = "0b1fbb5f-1d3b-4f2b-9d4a-6f7f5b1f0c11"


def hooks_of(*functions: str) -> dict[str, Any]:
    return {"beforeTraffic": [{"lambda": function} for function in functions]}


HOOKS = hooks_of("checkout:3")


def surveyed(stock: FunctionVersions, policy: Policy = ALL_OLD) -> Cleanup:
    return survey(stock, policy, NOW)


def reasons(found: Cleanup) -> dict[str, list[str]]:
    return {each.revision: each.reasons for each in found.revisions if each.outcome == "stays"}


def names(found: Cleanup, *outcomes: Any) -> list[str]:
    return [each.revision for each in found.with_outcome(*outcomes)]


def applied(stock: FunctionVersions, found: Cleanup, **options: Any) -> Cleanup:
    return apply(stock, found, **{"wait": lambda _seconds: None, **options})


def test_old_versions_go_and_the_newest_and_the_served_stay(fake: OldVersions, stock_of: StockOf) -> None:
    fake.point("checkout:live", "9", v8=0.1)

    found = surveyed(stock_of(), Policy(2, 0))

    assert names(found, "goes") == ["10", "7", "6", "5", "4", "3", "2", "1"]
    assert reasons(found) == {
        "12": ["it is among the newest 2"],
        "11": ["it is among the newest 2"],
        "9": ["alias live points at it"],
        "8": ["alias live sends 10% of the requests to it"],
    }
    assert not found.applied
    assert fake.deleted == []
    assert found.revisions[0].created_at == "2026-01-12T00:00:00+00:00"


def test_latest_is_no_version_that_could_go(fake: OldVersions, stock_of: StockOf) -> None:
    assert all(each.revision.isdigit() for each in surveyed(stock_of()).revisions)


def test_young_versions_stay(fake: OldVersions, stock_of: StockOf) -> None:
    found = surveyed(stock_of(), Policy(1, 55 * 86_400))

    assert names(found, "goes") == ["5", "4", "3", "2", "1"]


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda fake: fake.provisioned.update({"checkout:3": 5}), "it has provisioned concurrency (5)"),
        (
            lambda fake: fake.scaled.extend(["table/orders", "function:checkout:3", "function:other:4"]),
            "Application Auto Scaling scales its provisioned concurrency",
        ),
        (
            lambda fake: fake.mappings.update({UUID: f"{ARN}:checkout:3", "other": f"{ARN}:other:4"}),
            f"the event source mapping {UUID} invokes it",
        ),
        (
            lambda fake: fake.policies.add("checkout:3"),
            "a policy of its own lets somebody invoke it (aws lambda get-policy)",
        ),
        (
            lambda fake: fake.invoked.update({"checkout:3": [0, 2], "checkout:live": [9], "other:4": [9]}),
            "it was invoked by its number in the last 30 days (invocations: 2)",
        ),
        (lambda fake: fake.unknown.add("checkout:3"), "CloudWatch did not say whether it was invoked by its number"),
        (
            lambda fake: (
                fake.functions["checkout"]["3"].update(DurableConfig={"ExecutionTimeout": 60}),
                fake.executions.extend(["checkout:3", "other:4"]),
            ),
            "a durable execution runs on it",
        ),
    ],
)
def test_what_uses_a_version_keeps_it(fake: OldVersions, stock_of: StockOf, use: Any, reason: str) -> None:
    use(fake)

    found = surveyed(stock_of())

    assert reasons(found) == {"12": ["alias live points at it", "it is the newest"], "3": [reason]}


def test_provisioned_concurrency_of_an_alias_is_no_use_of_its_own(fake: OldVersions, stock_of: StockOf) -> None:
    fake.provisioned["checkout:live"] = 5

    assert list(reasons(surveyed(stock_of()))) == ["12"]


def test_durable_executions_are_asked_for_only_where_there_can_be_some(fake: OldVersions, stock_of: StockOf) -> None:
    surveyed(stock_of())

    assert "ListDurableExecutionsByFunction" not in fake.calls


def test_policies_are_asked_for_only_where_they_decide(fake: OldVersions, stock_of: StockOf) -> None:
    surveyed(stock_of(), Policy(10, 0))

    assert fake.calls.count("GetPolicy") == 2


def test_a_running_rollout_keeps_both_versions(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    start(locks, candidate={"version": "7"})
    locks._table.amend("checkout-42", {"state": {"stable": "6", "candidate": "7"}})

    kept = reasons(surveyed(stock_of()))

    assert kept["7"] == kept["6"] == ["rollout checkout-42 is running and uses it"]


def test_a_waiting_rollout_keeps_its_candidate(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    start(locks, candidate={"version": "7"})
    admit(locks, "checkout-43", candidate={"version": "5"})

    assert reasons(surveyed(stock_of()))["5"] == ["rollout checkout-43 is waiting and uses it"]


def test_a_rollout_of_a_consumer_keeps_its_candidate(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    fake.mappings[UUID] = f"{ARN}:checkout:live"
    admit(locks, "orders-1", target={"kind": "event-source", "mapping": UUID}, candidate={"version": "4"})

    assert reasons(surveyed(stock_of()))["4"] == ["rollout orders-1 is accepted and uses it"]


def test_a_rollout_that_moves_the_alias_for_a_mapping_elsewhere_keeps_its_candidate(
    fake: OldVersions, stock_of: StockOf, locks: Locks
) -> None:
    admit(locks, "orders-1", target={"kind": "event-source", "mapping": UUID}, candidate={"version": "4"})
    table = locks._table
    table.transact(table.put("TARGET#lambda-alias/checkout/live", "THROUGH", {"owner": "orders-1"}))

    assert reasons(surveyed(stock_of()))["4"] == ["rollout orders-1 is accepted and uses it"]


def test_the_last_promotion_can_be_undone(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    for rollout_id, stable, candidate in (("checkout-41", "3", "5"), ("checkout-42", "5", "7")):
        start(locks, rollout_id, candidate={"version": candidate})
        settle(locks, rollout_id, stable=stable, candidate=candidate)

    kept = reasons(surveyed(stock_of()))

    assert kept["5"] == ["an undo of rollout checkout-42 would restore it on checkout:live"]
    assert kept["7"] == ["rollout checkout-42, the last one on checkout:live, promoted it"]
    # An undo takes back the last promotion only.
    assert "3" not in kept


def test_a_rollout_that_was_rolled_back_keeps_nothing(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    start(locks, candidate={"version": "7"})
    settle(locks, outcome="rolled-back", stable="6", candidate="7")

    assert list(reasons(surveyed(stock_of()))) == ["12"]


def test_a_promotion_whose_record_has_expired_cannot_be_undone(
    fake: OldVersions, stock_of: StockOf, locks: Locks
) -> None:
    start(locks, candidate={"version": "7"})
    settle(locks, stable="6", candidate="7")
    locks._table.transact(locks._table.drop("ROLLOUT#checkout-42", "ROLLOUT"))

    assert list(reasons(surveyed(stock_of()))) == ["12"]


def test_a_hook_of_any_rollout_keeps_the_version_that_it_names(
    fake: OldVersions, stock_of: StockOf, locks: Locks
) -> None:
    admit(locks, "shop-1", target=SHOP)
    admit(locks, "shop-2", target=SHOP, hooks=hooks_of("checkout:2", f"{ARN}:checkout:3", "other-checkout:4"))

    kept = reasons(surveyed(stock_of()))

    assert kept["2"] == kept["3"] == ["a hook of rollout shop-2 names it"]
    assert "4" not in kept


def test_versions_are_deleted_one_by_one_the_oldest_first(fake: OldVersions, stock_of: StockOf) -> None:
    stock, waits, progress = stock_of(), list[float](), list[tuple[int, int]]()
    found = surveyed(stock, Policy(9, 0))

    done = apply(stock, found, wait=waits.append, on_progress=lambda *counts: progress.append(counts))

    assert fake.deleted == ["checkout:1", "checkout:2", "checkout:3"]
    assert names(done, "deleted") == ["3", "2", "1"]
    assert done.applied
    assert done.stopped == ""
    assert waits == [PACE_SECONDS] * 3
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda fake, _: fake.point("checkout:beta", "3"), "alias beta points at it"),
        (lambda fake, _: fake.provisioned.update({"checkout:3": 1}), "it has provisioned concurrency (1)"),
        (
            lambda fake, _: fake.mappings.update({UUID: f"{ARN}:checkout:3"}),
            f"the event source mapping {UUID} invokes it",
        ),
        (
            lambda fake, _: fake.policies.add("checkout:3"),
            "a policy of its own lets somebody invoke it (aws lambda get-policy)",
        ),
        (lambda fake, _: fake.executions.append("checkout:3"), "a durable execution runs on it"),
        (
            lambda fake, _: fake.scaled.append("function:checkout:3"),
            "Application Auto Scaling scales its provisioned concurrency",
        ),
        (
            lambda fake, _: fake.invoked.update({"checkout:3": [1]}),
            "it was invoked by its number in the last 30 days (invocations: 1)",
        ),
        (
            lambda _, locks: admit(locks, "shop-1", target=SHOP, hooks=hooks_of("checkout:3")),
            "a hook of rollout shop-1 names it",
        ),
        (
            lambda _, locks: (admit(locks, "shop-1", target=SHOP), admit(locks, "shop-2", target=SHOP, hooks=HOOKS)),
            "a hook of rollout shop-2 names it",
        ),
        (
            lambda _, locks: admit(locks, "checkout-42", candidate={"version": "3"}),
            "rollout checkout-42 is accepted and uses it",
        ),
    ],
)
def test_a_version_that_is_used_meanwhile_stays(
    fake: OldVersions, stock_of: StockOf, locks: Locks, use: Any, reason: str
) -> None:
    fake.functions["checkout"]["3"]["DurableConfig"] = {"ExecutionTimeout": 60}
    stock = stock_of()
    found = surveyed(stock, Policy(8, 0))
    assert names(found, "goes") == ["4", "3", "2", "1"]
    fake.before_deletion = lambda: use(fake, locks) if fake.deleted == ["checkout:1", "checkout:2"] else None

    done = applied(stock, found)

    assert fake.deleted == ["checkout:1", "checkout:2", "checkout:4"]
    assert reasons(done)["3"] == [reason]


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (Refusal("ResourceConflictException", "Cannot delete version 2"), "Lambda refused: ResourceConflictException"),
        (
            Refusal(
                "InvalidParameterValueException",
                "Lambda was unable to delete arn because it is a replicated function. Please see our documentation",
            ),
            "Lambda@Edge has replicas of it; remove it from all distributions of CloudFront",
        ),
    ],
)
def test_a_version_that_lambda_keeps_is_said_and_the_others_go(
    fake: OldVersions, stock_of: StockOf, refusal: Refusal, said: str
) -> None:
    stock = stock_of()
    fake.refusals["checkout:2"] = refusal

    done = applied(stock, surveyed(stock, Policy(9, 0)))

    assert names(done, "deleted") == ["3", "1"]
    (failed,) = done.with_outcome("failed")
    assert failed.revision == "2"
    assert failed.reasons[0].startswith(said)


def test_a_version_that_is_gone_already_counts_as_deleted(fake: OldVersions, stock_of: StockOf) -> None:
    stock = stock_of()
    found = surveyed(stock, Policy(10, 0))
    del fake.functions["checkout"]["1"]

    assert names(applied(stock, found), "deleted") == ["2", "1"]


def test_it_stops_where_lambda_throttles(fake: OldVersions, stock_of: StockOf, monkeypatch: Any) -> None:
    stock = stock_of()
    found = surveyed(stock, Policy(9, 0))
    throttled = ClientError(
        {"Error": {"Code": "TooManyRequestsException", "Message": "Rate Exceeded"}}, "DeleteFunction"
    )

    def remove(version: str) -> Any:
        if version == "2":
            raise throttled
        return type(stock).remove(stock, version)

    monkeypatch.setattr(stock, "remove", remove)
    done = applied(stock, found)

    assert names(done, "deleted") == ["1"]
    assert names(done, "goes") == ["3", "2"]
    assert done.stopped == "AWS throttles calls (Rate Exceeded); run it again later"


def test_it_stops_where_a_use_cannot_be_read_and_tells_what_was_deleted(fake: OldVersions, stock_of: StockOf) -> None:
    stock = stock_of()
    found = surveyed(stock, Policy(9, 0))

    def interrupt(name: str, when: str) -> None:
        if name == "ListAliases" and fake.deleted:
            raise Refusal("AccessDeniedException", "not allowed")

    fake.interrupt = interrupt
    done = applied(stock, found)

    assert names(done, "deleted") == ["1"]
    assert done.stopped.startswith("what uses it could not be read")
    assert "not allowed" in done.stopped


def test_it_stops_when_the_time_is_up(fake: OldVersions, stock_of: StockOf) -> None:
    stock = stock_of()

    done = applied(stock, surveyed(stock, Policy(9, 0)), may_go_on=lambda: not fake.deleted)

    assert names(done, "deleted") == ["1"]
    assert done.stopped == "there was no time for more; the next run goes on"


@pytest.mark.parametrize("version", ["", "$LATEST", "live"])
def test_nothing_but_a_version_is_ever_deleted(fake: OldVersions, stock_of: StockOf, version: str) -> None:
    with pytest.raises(ValueError, match="is no version of checkout"):
        stock_of().remove(version)
    assert fake.deleted == []


@pytest.mark.parametrize(
    "operation",
    ["ListAliases", "ListEventSourceMappings", "DescribeScalableTargets", "GetPolicy", "GetMetricData"],
)
def test_nothing_goes_while_a_use_cannot_be_read(fake: OldVersions, stock_of: StockOf, operation: str) -> None:
    def interrupt(name: str, when: str) -> None:
        if name == operation:
            raise Refusal("AccessDeniedException")

    fake.interrupt = interrupt

    with pytest.raises(ClientError, match="AccessDenied"):
        surveyed(stock_of())


def test_a_version_with_an_unreadable_date_stays(fake: OldVersions, stock_of: StockOf) -> None:
    fake.functions["checkout"]["1"]["LastModified"] = "yesterday"
    fake.functions["checkout"]["2"]["LastModified"] = "2026-01-01T00:00:00"

    kept = reasons(surveyed(stock_of()))

    assert kept["1"] == kept["2"] == ["its age is not known"]


def test_the_mappings_of_the_account_are_read_once_for_all_functions(fake: OldVersions, stock_of: StockOf) -> None:
    stock = stock_of()
    asked: list[str] = []
    fake.interrupt = lambda name, when: asked.append(name) if when == "before" else None

    surveyed(stock)
    surveyed(type(stock)(stock._account, "checkout"))

    assert asked.count("ListEventSourceMappings") == 1
    assert asked.count("DescribeScalableTargets") == 1


def test_the_metrics_of_all_that_would_go_are_read_in_one_call(fake: OldVersions, stock_of: StockOf) -> None:
    surveyed(stock_of(), Policy(9, 0))

    assert fake.metrics_read == [["3", "2", "1"]]


def test_more_metrics_than_a_call_takes_are_read_in_several(fake: OldVersions, stock_of: StockOf) -> None:
    stock_of().own_uses([str(number) for number in range(1, 502)])

    assert [len(each) for each in fake.metrics_read] == [500, 1]


def test_the_requests_of_rollouts_are_read_once(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    uses = stock_of()._account.rollouts
    admit(locks, "shop-1", target=SHOP, hooks=HOOKS)
    admit(locks, "shop-2", target=SHOP, hooks=HOOKS)
    asked: list[str] = []
    uses._client.meta.events.register("before-call", lambda model, **_: asked.append(model.name))
    assert len(uses.of_hooks("checkout")["3"]) == 2
    del asked[:]

    assert len(uses.of_hooks("checkout")["3"]) == 2
    assert asked == ["Query", "Query"]


def test_a_rollout_that_has_ended_keeps_no_hook(fake: OldVersions, stock_of: StockOf, locks: Locks) -> None:
    uses = stock_of()._account.rollouts
    start(locks, hooks=HOOKS)
    assert uses.of_hooks("checkout")["3"] == ["a hook of rollout checkout-42 names it"]
    settle(locks, outcome="rolled-back", stable="6", candidate="7")

    assert uses.of_hooks("checkout")["3"] == []


def test_a_mapping_that_came_meanwhile_is_seen_within_half_a_minute(
    fake: OldVersions, stock_of: StockOf, locks: Locks
) -> None:
    now = 0.0
    stock = stock_of(clock=lambda: now)
    surveyed(stock)
    fake.mappings[UUID] = f"{ARN}:checkout:live"
    admit(locks, "orders-1", target={"kind": "event-source", "mapping": UUID}, candidate={"version": "4"})
    now = 31.0

    assert stock.uses_now("4") == ["rollout orders-1 is accepted and uses it"]


def test_a_check_takes_few_calls_of_the_control_plane(fake: OldVersions, stock_of: StockOf) -> None:
    stock = stock_of()
    surveyed(stock)
    asked: list[str] = []
    fake.interrupt = lambda name, when: asked.append(name) if when == "before" else None

    assert stock.uses_now("3") == []
    assert sorted(asked) == [
        "DescribeScalableTargets",
        *("GetMetricData", "GetMetricData", "GetPolicy", "GetProvisionedConcurrencyConfig"),
        *("ListAliases", "ListEventSourceMappings"),
    ]
