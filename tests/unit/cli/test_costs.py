"""What rollouts, requests and the installation cost: the arithmetic and the price tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.analysis.measures import measures_of
from headgate.spec.routing import ARMS
from headgate_cli.costs import Prices, load_prices, of_plan, of_rollout
from headgate_cli.costs.idle import Installation, of_idle
from headgate_cli.costs.requests import Served, compare, of_requests
from headgate_cli.costs.rollouts import metrics_each_minute
from headgate_cli.failures import Failure
from tests.unit.analysis.service_plans import routing_of, service_plan
from tests.views import BEGIN, view_of

PRICES_OF_THE_EXAMPLES = Path(__file__).with_name("prices_of_the_examples.json")


@pytest.fixture
def prices() -> Prices:
    return load_prices("us-east-1")


def steps(*bake_seconds: int) -> dict[str, Any]:
    return {"steps": [{"weight": 1 + number, "bakeSeconds": each} for number, each in enumerate(bake_seconds)]}


def amounts(cost: Any) -> dict[str, float]:
    return {line.what: line.quantity for line in cost.lines}


@pytest.mark.parametrize(
    ("requests", "memory", "milliseconds", "gb_seconds", "dollars"),
    [(3_000_000, 512, 1000, 1_100_000, 18.74), (30_000_000, 128, 200, 350_000, 11.63)],
)
def test_the_worked_examples_cost_what_their_author_says(
    requests: int, memory: int, milliseconds: int, gb_seconds: float, dollars: float
) -> None:
    served = Served(version="1", memory_mb=memory, architecture="x86_64", milliseconds=milliseconds)

    cost = of_requests(served, requests, load_prices("us-east-1", PRICES_OF_THE_EXAMPLES), free_tier=True)

    assert amounts(cost) == {"Lambda: requests": requests - 1_000_000, "Lambda: duration": gb_seconds}
    assert round(cost.total, 2) == dollars


@pytest.mark.parametrize(("count", "measured"), [(1, 0.000440), (2, 0.000568), (5, 0.000978), (9, 0.001509)])
def test_a_plan_costs_what_was_measured(prices: Prices, count: int, measured: float) -> None:
    cost = of_plan(steps(*[1] * count), prices)

    assert amounts(cost)["Step Functions: state transitions"] == 4 * count + 11
    assert cost.total == pytest.approx(measured, rel=0.01)
    assert cost.total == pytest.approx(sum(line.quantity * line.unit_price for line in cost.lines))


def test_a_step_without_a_bake_takes_a_transition_less(prices: Prices) -> None:
    baked, passed = (of_plan(steps(60, last), prices) for last in (60, 0))

    transitions = "Step Functions: state transitions"
    assert amounts(baked)[transitions] - amounts(passed)[transitions] == 1


def test_hooks_of_a_step_are_asked_in_each_step(prices: Prices) -> None:
    hook = {"lambda": "check"}
    plain, hooked = (
        of_plan({**steps(60, 60), **hooks}, prices)
        for hooks in ({}, {"hooks": {"beforeTraffic": [hook], "afterStep": [hook, hook], "onRollback": [hook]}})
    )

    transitions = "Step Functions: state transitions"
    # Stages: before traffic with one hook, and after each of two steps with two hooks.
    assert amounts(hooked)[transitions] - amounts(plain)[transitions] == 3 * 5 + (1 + 2 + 2) * 3
    assert any("Hooks" in note for note in hooked.notes)


METRIC = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"v": "{revision}"}}


@pytest.mark.parametrize(
    ("guards", "metrics"),
    [
        (None, 0),
        ("none", 0),
        ({"alarms": ["a"]}, 0),
        ({"errors": {}, "evidence": "cloudwatch"}, 4),
        ({"errors": {}, "latency": {"thresholdMs": 250}, "evidence": "cloudwatch"}, 8),
        ({"errors": {}, "latency": {"thresholdsMs": [1, 2, 3]}, "evidence": "cloudwatch"}, 12),
        ({"errors": {}, "latency": {}, "evidence": "cloudwatch"}, 18),
        ({"errors": {}, "latency": {}}, 3),
        (
            {
                "custom": [
                    {"requests": METRIC, "failures": {"expression": "a - b", "metrics": {"a": METRIC, "b": METRIC}}}
                ]
            },
            6,
        ),
        ({"custom": [{"counts": {"lambda": "shop-counts"}}]}, 0),
        ({"source": {"deadLetters": 0, "backlogGrowth": 5, "iteratorAgeSeconds": None}}, 2),
    ],
)
def test_guards_read_metrics_each_minute(guards: object, metrics: int) -> None:
    assert metrics_each_minute({"guards": guards}) == metrics


def test_evidence_costs_by_the_minutes_of_all_bakes(prices: Prices) -> None:
    cost = of_plan({**steps(300, 330), "guards": {"errors": {}, "evidence": "cloudwatch"}}, prices)

    assert amounts(cost)["CloudWatch: metrics read"] == (5 + 6) * 4
    assert not any("Telemetry" in line.what for line in cost.lines)


def test_functions_that_count_are_said_to_be_left_out(prices: Prices) -> None:
    guards = {"custom": [{"name": "orders", "counts": {"lambda": "shop-counts"}}]}
    cost = of_plan({**steps(300), "guards": guards}, prices)
    assert amounts(cost).get("CloudWatch: metrics read", 0) == 0
    assert "Functions that count are asked each minute of each bake; they are left out." in cost.notes


def test_telemetry_is_bounded_by_a_batch_a_second(prices: Prices) -> None:
    cost = of_plan({**steps(100, 20), "guards": {"errors": {}}}, prices)

    assert amounts(cost)["Telemetry: requests, at most"] == 120
    assert any("upper bound" in note for note in cost.notes)


BAKE = {"step": 0, "bake": 0, "weight": 10, "startedAt": BEGIN, "endedAt": "2026-11-30T14:05:00.000Z"}


def test_a_rollout_has_cost_what_its_bakes_took(prices: Prices) -> None:
    view = view_of(
        status="rolled-back",
        steps=[
            {"step": 0, "weight": 10, "bakeSeconds": 600, "status": "failed", "bakes": [BAKE, {**BAKE, "bake": 1}]},
            {"step": 1, "weight": 50, "bakeSeconds": 600, "status": "skipped"},
        ],
        pauses=[{"reason": "asked", "step": 0, "startedAt": BEGIN, "until": BEGIN, "then": "rollback"}],
        hooks=[{"stage": "beforeTraffic", "hooks": ["check"], "startedAt": BEGIN, "outcome": "succeeded"}],
        plan={"guards": {"errors": {}, "evidence": "cloudwatch"}},
    )

    cost = of_rollout(view, prices)

    assert amounts(cost)["Step Functions: state transitions"] == 11 + 2 * 4 + 3 + 5 + 3
    assert amounts(cost)["CloudWatch: metrics read"] == 2 * 5 * 4
    assert cost.subject == "rollout checkout-42"
    assert not any("so far" in note for note in cost.notes)


def test_a_running_rollout_says_that_it_goes_on(prices: Prices) -> None:
    step = {"step": 0, "weight": 10, "bakeSeconds": 600, "status": "now", "bakes": [{**BAKE, "endedAt": None}]}

    cost = of_rollout(view_of(steps=[step]), prices)

    assert "so far" in cost.notes[0]
    assert amounts(cost)["Step Functions: state transitions"] == 11 + 4


def test_a_bake_that_ended_at_once_is_still_a_bake(prices: Prices) -> None:
    step = {"step": 0, "weight": 10, "bakeSeconds": 600, "status": "failed", "bakes": [{**BAKE, "endedAt": BEGIN}]}

    assert amounts(of_rollout(view_of(steps=[step]), prices))["Step Functions: state transitions"] == 11 + 4


@pytest.mark.parametrize(("started_at", "transitions"), [(None, 4), (BEGIN, 10)])
def test_a_refused_request_takes_fewer_transitions_and_counts_no_telemetry(
    prices: Prices, started_at: str | None, transitions: int
) -> None:
    plan = {**steps(60), "guards": {"errors": {}}}
    cost = of_rollout(view_of(status="refused", started_at=started_at, execution="arn", plan=plan), prices)

    assert amounts(cost)["Step Functions: state transitions"] == transitions
    assert not any("elemetry" in note for note in cost.notes)


def test_telemetry_is_explained_only_where_it_costs(prices: Prices) -> None:
    cost = of_plan({"steps": [], "guards": {"errors": {}}}, prices)

    assert not any("elemetry" in note for note in cost.notes)
    assert cost.subject == "rollout that moves all traffic at once"


def test_a_refused_request_moved_no_traffic(prices: Prices) -> None:
    cost = of_rollout(view_of(status="refused", started_at=None, execution="arn"), prices)

    assert cost.total == pytest.approx(4 * 0.000025 + 2 * 0.000001)
    assert cost.notes[0] == "It has not moved traffic."


def test_an_idle_installation_costs_what_was_measured(prices: Prices) -> None:
    cost = of_idle(Installation(alarms=16, dashboards=1, shards=2, queues=2, fifo_queues=1), prices)
    dollars = {line.what: line.dollars for line in cost.lines}

    # docs/benchmarks.md: $0.056 a month.
    looks = sum(cents for what, cents in dollars.items() if what.startswith("Warden") and "traces" not in what)
    assert looks == pytest.approx(0.056, rel=0.01)
    assert dollars["Alarms"] == pytest.approx(1.6)
    assert dollars["Dashboards"] == 3
    assert dollars["Telemetry stream: shards"] == pytest.approx(2 * 730 * 0.015)
    assert cost.period == "month"
    assert cost.total == pytest.approx(sum(dollars.values()))


def test_an_installation_without_telemetry_has_no_line_for_it(prices: Prices) -> None:
    cost = of_idle(Installation(alarms=0, dashboards=0, shards=0, queues=0, fifo_queues=0), prices)

    assert all(line.what.startswith("Warden") for line in cost.lines)


def test_two_versions_are_compared(prices: Prices) -> None:
    stable = Served(version="7", memory_mb=1024, architecture="x86_64", milliseconds=100)
    candidate = stable.model_copy(update={"version": "8", "architecture": "arm64"})

    found = compare([stable, candidate], 1_000_000, prices)

    assert [cost.total for cost in found.costs] == [
        pytest.approx(0.2 + 100_000 * 0.0000166667),
        pytest.approx(0.2 + 100_000 * 0.0000133334),
    ]
    assert found.ratio == pytest.approx(found.costs[1].total / found.costs[0].total)
    assert compare([stable], 1, prices).ratio is None


def test_the_free_tier_never_makes_a_cost_negative(prices: Prices) -> None:
    served = Served(version="7", memory_mb=128, architecture="arm64", milliseconds=1)

    assert of_requests(served, 10, prices, free_tier=True).total == 0


def test_a_region_without_a_table_says_whose_prices_are_used() -> None:
    cost = of_plan(steps(60), load_prices("eu-west-1"))

    assert (cost.region, cost.price_table, cost.prices_as_of) == ("eu-west-1", "us-east-1", "2025-07")
    assert any("no price table for eu-west-1" in note for note in cost.notes)


def test_without_a_region_the_table_of_the_package_is_used() -> None:
    assert load_prices("") == load_prices("us-east-1")


def test_a_file_overrides_prices_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    dated = {"dollars": 0.00003, "asOf": "2020-01", "source": "a contract"}
    file.write_text(json.dumps({"regions": {"eu-west-1": {"transition": dated, "event": 0}}}))

    prices = load_prices("eu-west-1", file)
    cost = of_plan(steps(60), prices)

    assert cost.lines[0].unit_price == 0.00003
    assert cost.prices_as_of == "2020-01"
    (note,) = prices.notes
    assert "tableWrite" in note
    assert "transition" not in note


def test_a_file_for_other_regions_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"regions": {"eu-west-1": {"event": 0}}}))

    assert any("only for eu-west-1" in note for note in load_prices("us-east-1", file).notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ('{"regions": {"eu-west-1": {"event": -1}}}', "regions"),
        ('{"regions": {"eu-west-1": {"evnt": 1}}}', "evnt"),
        ('{"region": {}}', "region"),
        (b"\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_price_file_is_refused(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    file = tmp_path / "prices.json"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(Failure, match="--prices") as failure:
        load_prices("eu-west-1", file)
    assert said in str(failure.value)


def test_every_price_of_the_table_has_a_source() -> None:
    prices = load_prices("us-east-1")

    assert all(price.source.startswith("https://aws.amazon.com/") for price in prices.by_name.values())
    assert prices.notes == ()


# ECS services

SERVICE = {"kind": "ecs-service", "cluster": "web", "service": "shop"}


def routing(pairs: int) -> dict[str, Any]:
    return {"way": "green-service", "pairs": [{}] * pairs}


@pytest.mark.parametrize(
    ("guards", "pairs", "metrics"),
    [
        ({"errors": {}, "evidence": "cloudwatch"}, 1, 6),
        ({"errors": {}, "latency": {"thresholdMs": 250}, "evidence": "cloudwatch"}, 2, 20),
        ({"errors": {}}, 1, 4),
        ({"service": {"unhealthyHosts": 0, "taskExits": 0}}, 2, 2),
        ({"service": {"unhealthyHosts": None, "taskExits": 0}}, 1, 0),
    ],
)
def test_guards_of_a_service_read_metrics_of_its_target_groups(
    guards: dict[str, Any], pairs: int, metrics: int
) -> None:
    assert metrics_each_minute({"guards": guards, "target": SERVICE, "routing": routing(pairs)}) == metrics


def test_the_metrics_of_a_service_are_those_that_its_evidence_reads() -> None:
    plan = service_plan(routing_of("green-service", "web", "api"))
    measures, count = measures_of(plan), 0
    for arm in ARMS:
        requests, slow = measures.latency("l", arm, [250.0])
        count += sum(len(counts.queries) for counts in (*measures.errors("e", arm), requests, *slow))
    guards = {"errors": {}, "latency": {"thresholdMs": 250}, "evidence": "cloudwatch"}
    assert metrics_each_minute({**plan.to_wire(), "guards": guards}) == count


def test_the_second_revision_of_a_service_is_told_and_not_counted(prices: Prices) -> None:
    full = of_plan({**steps(300, 330), "target": SERVICE}, prices)
    follows = of_plan({**steps(60), "target": {**SERVICE, "scale": {"followWeight": {"minPercent": 10}}}}, prices)

    assert full.total == of_plan(steps(300, 330), prices).total
    assert any("as many tasks as the service has beside the stable ones, for 10 min 30 s" in n for n in full.notes)
    assert any("tasks by its weight" in note for note in follows.notes)
    assert not any("headgate cost requests" in note for note in full.notes)
