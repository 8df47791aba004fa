"""CloudWatch as evidence: each minute counts for its step alone, and no point counts twice."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: ARG002

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from headgate.analysis.cloudwatch_counts import (
    MAX_PER_MINUTE,
    MINUTE_MS,
    READ_AGAIN_MS,
    REQUESTS_LATE_MS,
    CloudWatchCounts,
    WatchedRollout,
    count_points,
    fit_into_one_call,
)
from headgate.analysis.evidence import JudgeTerms, Ledger, Pair
from headgate.analysis.judge import Arm
from tests.builders import nothing_counted, plan_of
from tests.unit.analysis.service_plans import LOAD_BALANCER, group_of, routing_of, service_plan

if TYPE_CHECKING:
    from headgate.analysis.cloudwatch_counts import Points
    from headgate.spec.plan import Plan
from tests.fakes.cloudwatch import BEGUN, CLOUDWATCH, FIVE_MINUTES, FakeCloudWatch, shop

"""A whole minute."""


def by_cloudwatch(rollout_id: str = "checkout-42", **guards: Any) -> Plan:
    return plan_of(rollout_id, strategy=FIVE_MINUTES, guards=CLOUDWATCH | guards)


def ledger_of(*since: int, rollout_id: str = "checkout-42") -> Ledger:
    """A ledger in which a step began at each of these times."""
    return nothing_counted(rollout_id, dict(enumerate(since or (BEGUN,))))


def minute(number: float) -> int:
    """Milliseconds, so many minutes after the beginning."""
    return BEGUN + round(number * MINUTE_MS)


class TestReading:
    def test_errors_are_counted_per_version_and_what_was_throttled_is_a_failed_request(
        self, cloudwatch: FakeCloudWatch, client: Any
    ) -> None:
        # GIVEN two minutes of both versions
        cloudwatch.values = {
            ("Invocations", "7"): {minute(0): 90.0, minute(1): 80.0},
            ("Errors", "7"): {minute(0): 9.0},
            ("Throttles", "7"): {minute(0): 10.0},
            ("Invocations", "6"): {minute(0): 900.0},
        }
        # WHEN they are read THEN each minute has a pair of its own
        points = CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], minute(2.5))[
            "checkout-42"
        ]
        assert points == {
            (minute(0), "errors"): Pair(Arm(100, 19), Arm(900, 0)),
            (minute(1), "errors"): Pair(Arm(80, 0), Arm()),
        }

    def test_lambda_is_asked_by_function_alias_and_executed_version(
        self, cloudwatch: FakeCloudWatch, client: Any
    ) -> None:
        CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], minute(2.5))
        metric = cloudwatch.queries[0]["MetricStat"]["Metric"]
        assert metric["Namespace"] == "AWS/Lambda"
        assert {each["Name"]: each["Value"] for each in metric["Dimensions"]} == {
            "FunctionName": "checkout",
            "Resource": "checkout:live",
            "ExecutedVersion": "7",
        }

    @pytest.mark.parametrize(
        ("threshold", "statistic"),
        [(800, "TC(800:)"), (0.5, "TC(0.5:)"), (0.001, "TC(0.001:)"), (899_999.5, "TC(899999.5:)")],
    )
    def test_slow_requests_are_those_above_the_threshold(
        self, cloudwatch: FakeCloudWatch, client: Any, threshold: float, statistic: str
    ) -> None:
        plan = by_cloudwatch(errors=None, latency={"thresholdMs": threshold})
        CloudWatchCounts(client).read([WatchedRollout(plan, ledger_of())], minute(2.5))
        asked = [query["MetricStat"] for query in cloudwatch.queries]
        assert {stat["Metric"]["MetricName"] for stat in asked} == {"Duration"}
        assert {stat["Stat"] for stat in asked} == {"SampleCount", statistic}

    def test_a_threshold_that_is_not_known_is_no_threshold_of_zero(self, client: Any) -> None:
        with pytest.raises(ValueError, match="thresholdsMs is not known"):
            CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(latency={}), ledger_of())], minute(2.5))

    def test_whole_minutes_that_are_over_are_read_as_far_back_as_they_may_grow(
        self, cloudwatch: FakeCloudWatch, client: Any
    ) -> None:
        now = minute(30.7)
        CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], now)
        (call,) = cloudwatch.calls
        # The end is exclusive: what still runs is left out.
        assert call["EndTime"].timestamp() * 1000 == minute(30)
        assert call["StartTime"].timestamp() * 1000 == minute(30) - READ_AGAIN_MS

    def test_pages_are_read_to_the_end(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        cloudwatch.page_size = 3
        for metric, version in (("Invocations", "7"), ("Errors", "7"), ("Invocations", "6")):
            cloudwatch.values[metric, version] = {minute(number): 10.0 for number in range(7)}
        points = CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], minute(7))["checkout-42"]
        assert len(cloudwatch.calls) == 7
        assert set(points.values()) == {Pair(Arm(10, 10), Arm(10, 0))}
        assert len(points) == 7

    def test_many_rollouts_share_a_call_of_at_most_500_queries(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        # GIVEN more rollouts than fit into a call: each asks 8 queries
        cloudwatch.values["Invocations", "7"] = {minute(0): 5.0}
        ids = [f"rollout-{number}" for number in range(70)]
        watched = [WatchedRollout(by_cloudwatch(id_), ledger_of(rollout_id=id_)) for id_ in ids]
        # WHEN they are read THEN two calls do, none splits a rollout, and each rollout gets its own
        found = CloudWatchCounts(client).read(watched, minute(2))
        assert [len(call["MetricDataQueries"]) for call in cloudwatch.calls] == [62 * 8, 8 * 8]
        assert found == {id_: {(minute(0), "errors"): Pair(Arm(5, 0), Arm())} for id_ in ids}

    def test_the_largest_request_fits_into_a_call(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        metric = {"namespace": "Shop", "metricName": "n", "dimensions": {"ExecutedVersion": "{revision}"}}
        query = {"expression": "m0", "metrics": {f"m{number}": metric for number in range(10)}}
        custom = [{"name": f"guard {number}", "requests": query, "failures": query} for number in range(10)]
        plan = by_cloudwatch(latency={"thresholdsMs": [1, 2, 3, 4, 5, 6]}, custom=custom)
        assert fit_into_one_call(plan) == plan
        CloudWatchCounts(client).read([WatchedRollout(plan, ledger_of())], minute(2))
        assert [len(call["MetricDataQueries"]) for call in cloudwatch.calls] == [462]

    def test_each_threshold_has_its_own_slow_requests_of_the_same_requests(
        self, cloudwatch: FakeCloudWatch, client: Any
    ) -> None:
        plan = by_cloudwatch(errors=None, latency={"thresholdsMs": [100, 200]})
        cloudwatch.values["Duration", "7"] = {minute(0): 5.0}
        points = CloudWatchCounts(client).read([WatchedRollout(plan, ledger_of())], minute(2))["checkout-42"]
        assert len(cloudwatch.queries) == 2 * (1 + 2)
        assert points == dict.fromkeys([(minute(0), "latency0"), (minute(0), "latency1")], Pair(Arm(5, 5), Arm()))

    def test_nobody_to_watch_costs_no_call(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        assert CloudWatchCounts(client).read([], minute(2)) == {}
        assert cloudwatch.calls == []

    def test_what_is_no_count_is_none(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        counts = {minute(0): float("nan"), minute(1): -3.0, minute(2): float("inf"), minute(3): 4.6}
        cloudwatch.values["Invocations", "7"] = counts
        points = CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], minute(5))["checkout-42"]
        assert points == {(minute(3), "errors"): Pair(Arm(5, 0), Arm())}

    def test_what_no_count_can_be_is_a_number_that_table_and_bus_take_for_a_year(
        self, cloudwatch: FakeCloudWatch, client: Any
    ) -> None:
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
        cloudwatch.values["Invocations", "7"] = {minute(0): 2.0**360, minute(1): 1e300}
        points = CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], minute(5))["checkout-42"]
        assert [pair.candidate.requests for pair in points.values()] == [MAX_PER_MINUTE] * 2
        assert 2 * MAX_PER_MINUTE * 366 * 24 * 60 < 2**63

    def test_moto_takes_the_queries_too(self) -> None:
        # GIVEN a metric by version in another implementation of CloudWatch
        with mock_aws():
            client = boto3.client("cloudwatch")
            now = int(datetime.now(UTC).timestamp() * 1000)
            whole = now // MINUTE_MS * MINUTE_MS - 2 * MINUTE_MS
            dimensions = {"FunctionName": "checkout", "Resource": "checkout:live", "ExecutedVersion": "7"}
            datum = {
                "MetricName": "Invocations",
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "Timestamp": whole / 1000 + 20,
                "Value": 5,
            }
            client.put_metric_data(Namespace="AWS/Lambda", MetricData=[datum])  # type: ignore[list-item]
            # WHEN it is read THEN it is found in its minute
            found = CloudWatchCounts(client).read([WatchedRollout(by_cloudwatch(), ledger_of())], now)
        assert found["checkout-42"] == {(whole, "errors"): Pair(Arm(5, 0), Arm())}


class TestCustomGuards:
    def test_a_metric_of_ones_own_is_counted_per_revision(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        cloudwatch.values = {("Orders", "7"): {minute(0): 50.0}, ("Lost", "7"): {minute(0): 2.0}}
        guard = {"name": "lost orders", "requests": shop("Orders"), "failures": shop("Lost", stat="SampleCount")}
        plan = plan_of(strategy=FIVE_MINUTES, guards={"custom": [guard]})
        points = CloudWatchCounts(client).read([WatchedRollout(plan, ledger_of())], minute(2))["checkout-42"]
        assert points == {(minute(0), "custom0"): Pair(Arm(50, 2), Arm())}
        assert {query["MetricStat"]["Stat"] for query in cloudwatch.queries} == {"Sum", "SampleCount"}

    def test_metric_math_of_many_rollouts_keeps_its_names_apart(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        # GIVEN two rollouts whose expressions use the same names for different metrics
        cloudwatch.values = {("Orders", "7"): {minute(0): 50.0}, ("Good", "7"): {minute(0): 48.0}}

        def plan(rollout_id: str, all_: str, good: str) -> Plan:
            metrics = {"all": shop(all_), "all_good": shop(good)}
            failures = {"expression": "all - all_good", "metrics": metrics}
            guard = {"name": "orders", "requests": shop("Orders"), "failures": failures}
            return plan_of(rollout_id, strategy=FIVE_MINUTES, guards={"custom": [guard]})

        watched = [
            WatchedRollout(plan("one", "Orders", "Good"), ledger_of(rollout_id="one")),
            WatchedRollout(plan("two", "Good", "Orders"), ledger_of(rollout_id="two")),
        ]
        # WHEN they are read in one call THEN each gets its own result; a negative count is none
        found = CloudWatchCounts(client).read(watched, minute(2))
        assert len(cloudwatch.calls) == 1
        assert found == {
            "one": {(minute(0), "custom0"): Pair(Arm(50, 2), Arm())},
            "two": {(minute(0), "custom0"): Pair(Arm(50, 0), Arm())},
        }
        assert not any(query["ReturnData"] for query in cloudwatch.queries if query["Id"].endswith(("x0", "x1")))

    @pytest.mark.parametrize(
        ("expression", "sent"),
        [
            ("all - FILL(good, 0)", "X0 - FILL(X1, 0)"),
            ("all_good + all+good", "all_good + X0+X1"),
            ("SUM(METRICS()) - 2", "SUM([X0, X1]) - 2"),
            ("SUM(METRICS('goo')) * 1e3", "SUM([X1]) * 1e3"),
            ("SEARCH('{Shop} MetricName=\"good\"', 'Sum')", "SEARCH('{Shop} MetricName=\"good\"', 'Sum')"),
        ],
    )
    def test_an_expression_means_the_same_in_a_call_that_others_share(
        self, cloudwatch: FakeCloudWatch, client: Any, expression: str, sent: str
    ) -> None:
        metrics = {"all": shop("Orders"), "good": shop("Good")}
        guard = {"name": "g", "requests": shop("Orders"), "failures": {"expression": expression, "metrics": metrics}}
        plan = plan_of(strategy=FIVE_MINUTES, guards={"custom": [guard]})
        cloudwatch._calculated = lambda *_: {}  # type: ignore[method-assign]
        CloudWatchCounts(client).read([WatchedRollout(plan, ledger_of())], minute(2))
        found = next(query["Expression"] for query in cloudwatch.queries if "Expression" in query)
        assert re.sub(r"r0cm0fx(\d)", r"X\1", found) == sent

    def test_an_expression_that_cannot_be_read_is_refused(self, cloudwatch: FakeCloudWatch, client: Any) -> None:
        failures = {"expression": "SUM(all", "metrics": {"all": shop("Orders")}}
        guard = {"name": "orders", "requests": shop("Orders"), "failures": failures}
        plan = plan_of(strategy=FIVE_MINUTES, guards={"custom": [guard]})
        with pytest.raises(ClientError, match="Error in expression"):
            CloudWatchCounts(client).read([WatchedRollout(plan, ledger_of())], minute(2))


TERMS = JudgeTerms.of(by_cloudwatch().guards)


def errors(number: float, candidate: tuple[int, int], stable: tuple[int, int] = (0, 0)) -> Points:
    return {(minute(number), "errors"): Pair(Arm(*candidate), Arm(*stable))}


class TestBooking:
    def test_each_minute_is_a_look_of_its_own(self) -> None:
        points = errors(0, (10, 1), (90, 0)) | errors(1, (10, 0), (90, 2))
        ledger, looks = count_points(ledger_of(), TERMS, points, minute(2.2))
        assert [look.counts for look in looks] == [Pair(Arm(10, 1), Arm(90, 0)), Pair(Arm(10, 0), Arm(90, 2))]
        assert ledger.at_step(0, "errors") == Pair(Arm(20, 1), Arm(180, 2))

    def test_what_comes_late_is_a_look_of_its_own_and_the_rest_counts_once(self) -> None:
        ledger, _ = count_points(ledger_of(), TERMS, errors(0, (10, 1), (90, 0)), minute(1.2))
        ledger, looks = count_points(ledger, TERMS, errors(0, (14, 3), (95, 0)), minute(2.2))
        assert [look.counts for look in looks] == [Pair(Arm(4, 2), Arm(5, 0))]
        assert count_points(ledger, TERMS, errors(0, (14, 3), (95, 0)), minute(2.4)) == (ledger, [])
        assert ledger.at_step(0, "errors") == Pair(Arm(14, 3), Arm(95, 0))

    def test_an_answer_that_was_overtaken_takes_nothing_back(self) -> None:
        ledger, _ = count_points(ledger_of(), TERMS, errors(0, (14, 3), (95, 0)), minute(2.2))
        assert count_points(ledger, TERMS, errors(0, (10, 1), (90, 0)), minute(1.2)) == (ledger, [])

    @pytest.mark.parametrize("shifted", [1.5, 2 - 1 / MINUTE_MS])
    def test_a_minute_in_which_the_weight_changed_belongs_to_no_step(self, shifted: float) -> None:
        points = errors(0, (1, 0)) | errors(1, (10, 10), (10, 0)) | errors(2, (100, 0))
        ledger, _ = count_points(ledger_of(BEGUN, minute(shifted)), TERMS, points, minute(4))
        assert ledger.at_step(0, "errors") == Pair(Arm(1, 0))
        assert ledger.at_step(1, "errors") == Pair(Arm(100, 0))

    def test_a_minute_at_whose_first_moment_the_weight_changed_is_the_new_steps(self) -> None:
        ledger, _ = count_points(ledger_of(BEGUN, minute(1)), TERMS, errors(1, (10, 1)), minute(4))
        assert ledger.at_step(1, "errors") == Pair(Arm(10, 1))

    def test_what_was_before_the_rollout_is_not_its_evidence(self) -> None:
        points = errors(-1, (50, 50)) | errors(0, (50, 50))
        assert count_points(ledger_of(minute(0.01)), TERMS, points, minute(3)) == (ledger_of(minute(0.01)), [])

    def test_late_counts_go_to_the_step_they_are_of(self) -> None:
        ledger, _ = count_points(ledger_of(), TERMS, errors(0, (10, 0), (90, 0)), minute(1.2))
        ledger = ledger._replace(since={0: BEGUN, 1: minute(1)})
        ledger, looks = count_points(
            ledger, TERMS, errors(0, (10, 2), (92, 0)) | errors(1, (50, 0), (50, 0)), minute(2.2)
        )
        # The late failures have no requests to be weighed with yet, and may not be weighed with those of step 1.
        assert [(look.step, look.counts) for look in looks] == [(1, Pair(Arm(50, 0), Arm(50, 0)))]
        ledger, looks = count_points(ledger, TERMS, errors(0, (15, 2), (92, 0)), minute(2.6))
        assert [(look.step, look.counts) for look in looks] == [(0, Pair(Arm(5, 2), Arm(2, 0)))]

    def test_failures_that_come_before_their_requests_wait_for_them(self) -> None:
        # GIVEN that CloudWatch tells of failures first
        ledger, looks = count_points(ledger_of(), TERMS, errors(0, (0, 3), (90, 0)), minute(1.2))
        assert (ledger, looks) == (ledger_of(), [])
        # WHEN it tells of the requests THEN both are weighed together
        ledger, looks = count_points(ledger, TERMS, errors(0, (10, 3), (90, 0)), minute(2.2))
        assert [look.counts for look in looks] == [Pair(Arm(10, 3), Arm(90, 0))]
        assert looks[0].value > 1

    def test_failures_that_come_after_their_requests_are_weighed_with_the_next_minute(self) -> None:
        ledger, _ = count_points(ledger_of(), TERMS, errors(0, (10, 0), (90, 0)), minute(1.2))
        points = errors(0, (10, 3), (90, 0)) | errors(1, (20, 1), (90, 0))
        ledger, looks = count_points(ledger, TERMS, points, minute(2.2))
        assert [look.counts for look in looks] == [Pair(Arm(20, 4), Arm(90, 0))]
        assert ledger.at_step(0, "errors") == Pair(Arm(30, 4), Arm(180, 0))

    def test_failures_without_requests_are_requests_after_a_while(self) -> None:
        # GIVEN failures whose requests CloudWatch does not tell of
        points = errors(0, (0, 3), (90, 0))
        assert count_points(ledger_of(), TERMS, points, minute(0) + REQUESTS_LATE_MS - 1)[1] == []
        # WHEN they have waited long enough THEN they count as requests
        ledger, looks = count_points(ledger_of(), TERMS, points, minute(0) + REQUESTS_LATE_MS)
        assert [look.counts for look in looks] == [Pair(Arm(3, 3), Arm(90, 0))]
        # AND the requests count once when they come at last
        ledger, _ = count_points(ledger, TERMS, errors(0, (10, 3), (90, 0)), minute(6))
        assert ledger.at_step(0, "errors") == Pair(Arm(10, 3), Arm(90, 0))

    def test_failures_whose_requests_were_weighed_long_ago_are_counted_at_least(self) -> None:
        ledger, _ = count_points(ledger_of(), TERMS, errors(0, (10, 0), (90, 0)), minute(1.2))
        ledger, looks = count_points(ledger, TERMS, errors(0, (10, 2), (90, 0)), minute(9))
        assert looks == []
        assert ledger.at_step(0, "errors") == Pair(Arm(10, 2), Arm(90, 0))
        assert count_points(ledger, TERMS, errors(0, (10, 2), (90, 0)), minute(10)) == (ledger, [])

    def test_measures_are_looked_at_apart(self) -> None:
        terms = JudgeTerms.of(by_cloudwatch(latency={"thresholdMs": 800}).guards)
        points = errors(0, (0, 3), (9, 0)) | {(minute(0), "latency"): Pair(Arm(10, 1), Arm(9, 0))}
        ledger, looks = count_points(ledger_of(), terms, points, minute(1.2))
        assert [look.measure for look in looks] == ["latency"]
        assert ledger.at_step(0, "errors") == Pair()

    def test_what_telemetry_counts_is_left_to_its_own_looks(self) -> None:
        terms = JudgeTerms.of(plan_of(strategy=FIVE_MINUTES, guards={"errors": {}}).guards)
        ledger = ledger_of().add(0, "errors", Pair(Arm(1, 0), Arm(5, 0)))
        assert count_points(ledger, terms, {}, minute(1.2)) == (ledger, [])

    def test_a_failing_candidate_is_found_out_within_minutes(self) -> None:
        ledger, evidence = ledger_of(), []
        for number in range(3):
            ledger, looks = count_points(ledger, TERMS, errors(number, (20, 4), (180, 1)), minute(number + 1.1))
            evidence += [look.value for look in looks]
        assert evidence == sorted(evidence)
        assert ledger.standing("errors").evidence.crosses(TERMS.alpha)

    def test_minutes_are_forgotten_once_nothing_asks_for_them(self) -> None:
        ledger = ledger_of()
        for number in range(120):
            ledger, _ = count_points(ledger, TERMS, errors(number, (5, 0), (5, 0)), minute(number + 1))
        assert len(ledger.minutes) <= 2 * READ_AGAIN_MS // MINUTE_MS + 1
        # What may still be read is kept, and so counts once.
        recent = errors(119 - READ_AGAIN_MS // MINUTE_MS, (5, 0), (5, 0))
        assert count_points(ledger, TERMS, recent, minute(120)) == (ledger, [])
        assert ledger.at_step(0, "errors") == Pair(Arm(600, 0), Arm(600, 0))


TIMES = 6
"""After so many minutes the counts of a minute have come to their end."""

growths = st.lists(st.integers(0, 4), min_size=TIMES - 1, max_size=TIMES - 1)
"""How a count grows: what share of it (in quarters) is known after 1, 2, ... minutes."""


@st.composite
def arms(draw: st.DrawFn) -> list[Arm]:
    """What is known of one revision's minute as time goes by; requests and failures grow on their own."""
    requests = draw(st.integers(0, 20))
    failures = draw(st.integers(0, requests))
    shares = zip(sorted(draw(growths)), sorted(draw(growths)), strict=True)
    return [*(Arm(requests * r // 4, failures * f // 4) for r, f in shares), Arm(requests, failures)]


@given(
    minutes=st.lists(st.tuples(arms(), arms()), min_size=1, max_size=6),
    shifts=st.lists(st.integers(0, 12), max_size=2, unique=True),
    stale=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_every_count_of_a_whole_minute_is_booked_once_for_its_step(
    minutes: list[tuple[list[Arm], list[Arm]]], shifts: list[int], stale: list[bool]
) -> None:
    # GIVEN minutes whose counts grow in any order, and weights that change at half minutes
    ledger = ledger_of(BEGUN, *(minute(half / 2) for half in sorted(shifts) if half))

    def known(at: int) -> Points:
        return {
            (minute(number), "errors"): Pair(
                candidate[min(at - number, TIMES) - 1], stable[min(at - number, TIMES) - 1]
            )
            for number, (candidate, stable) in enumerate(minutes)
            if number < at
        }

    # WHEN they are read every minute, some answers twice or after a later one
    looked = Pair()
    for at in range(1, 13):
        for answer in [at, at - 1] if stale[at - 1] else [at, at]:
            ledger, looks = count_points(ledger, TERMS, known(answer), minute(at + 0.1))
            for look in looks:
                looked = looked.plus(look.counts)
    # THEN each step has what its whole minutes came to in the end
    for step in ledger.since:
        total = Pair()
        for number, (candidate, stable) in enumerate(minutes):
            if {ledger.step_at(minute(number)), ledger.step_at(minute(number + 1) - 1)} == {step}:
                total = total.plus(Pair(candidate[-1], stable[-1]))
        assert ledger.at_step(step, "errors") == total
    # AND nothing was looked at twice, and all requests once
    assert {key: pair for key, pair in ledger.looked.items() if pair != Pair()} == {
        key: pair for key, pair in ledger.counts.items() if pair != Pair()
    }
    counted = ledger.total("errors")
    assert [arm.requests for arm in looked] == [arm.requests for arm in counted]
    assert all(seen.failures <= all_.failures for seen, all_ in zip(looked, counted, strict=True))


class TestService:
    """An ECS service, whose revisions have target groups."""

    LEDGER = nothing_counted("shop-42", {0: BEGUN})._replace(candidate="shop:7", stable="shop:6")

    def read(self, client: Any, plan: Plan) -> Points:
        watched = [WatchedRollout(plan, self.LEDGER)]
        return CloudWatchCounts(client).read(watched, minute(5))["shop-42"]

    def test_errors_are_those_of_the_target_groups_of_each_revision(
        self, client: Any, cloudwatch: FakeCloudWatch
    ) -> None:
        cloudwatch.values = {
            ("RequestCount", group_of("shop-b")): {minute(1): 100.0},
            ("RequestCount", group_of("admin-b")): {minute(1): 20.0},
            ("HTTPCode_Target_5XX_Count", group_of("shop-b")): {minute(1): 3.0},
            ("TargetConnectionErrorCount", group_of("admin-b")): {minute(1): 4.0},
            ("RequestCount", group_of("shop-a")): {minute(1): 900.0},
            ("HTTPCode_Target_5XX_Count", group_of("admin-a")): {minute(1): 1.0},
        }
        plan = service_plan(routing_of("green-service", "shop", "admin"), guards=CLOUDWATCH)
        assert self.read(client, plan) == {(minute(1), "errors"): Pair(Arm(120, 7), Arm(900, 1))}

    def test_slow_requests_are_counted_in_seconds(self, client: Any, cloudwatch: FakeCloudWatch) -> None:
        plan = service_plan(guards={"latency": {"thresholdMs": 250}, "evidence": "cloudwatch"})
        cloudwatch.values = {("TargetResponseTime", group_of("shop-b")): {minute(1): 5.0}}
        assert self.read(client, plan) == {(minute(1), "latency"): Pair(Arm(5, 5), Arm())}
        statistics = {query["MetricStat"]["Stat"] for query in cloudwatch.queries}
        assert statistics == {"SampleCount", "TC(0.25:)"}

    def test_placeholders_of_custom_guards_stand_for_revision_group_and_load_balancer(
        self, client: Any, cloudwatch: FakeCloudWatch
    ) -> None:
        of_group = {"TargetGroup": "{targetGroup}", "LoadBalancer": "{loadBalancer}"}
        requests = {"namespace": "AWS/ApplicationELB", "metricName": "RequestCount", "dimensions": of_group}
        failures = {"namespace": "Shop", "metricName": "Lost", "dimensions": {"ExecutedVersion": "{revision}"}}
        custom = [{"name": "lost orders", "requests": requests, "failures": failures}]
        cloudwatch.values = {
            ("RequestCount", group_of("shop-b")): {minute(1): 100.0},
            ("RequestCount", group_of("admin-b")): {minute(1): 20.0},
            ("Lost", "shop:7"): {minute(1): 3.0},
        }
        plan = service_plan(routing_of("green-service", "shop", "admin"), guards={"custom": custom})
        # A metric of the whole revision counts once, however many target groups it has.
        assert self.read(client, plan) == {(minute(1), "custom0"): Pair(Arm(120, 3), Arm())}
        dimensions = {
            (each["Name"], each["Value"])
            for query in cloudwatch.queries
            for each in query["MetricStat"]["Metric"]["Dimensions"]
        }
        assert ("LoadBalancer", LOAD_BALANCER) in dimensions

    def test_the_largest_rollout_fits_into_one_call(self, client: Any, cloudwatch: FakeCloudWatch) -> None:
        of_group = {"TargetGroup": "{targetGroup}"}
        metric = {"namespace": "Shop", "metricName": "Lost", "dimensions": {"ExecutedVersion": "{revision}"}}
        math = {"expression": "a", "metrics": {"a": metric, **{f"m{number}": metric for number in range(9)}}}
        by_group = {"namespace": "Shop", "metricName": "Seen", "dimensions": of_group}
        for query in (math, by_group):
            cloudwatch.calls = []
            custom = [{"name": f"g{number}", "requests": query, "failures": query} for number in range(10)]
            guards = {"errors": {}, "latency": {"thresholdMs": 1}, "evidence": "cloudwatch", "custom": custom}
            plan = service_plan(routing_of("green-service", "a", "b", "c", "d", "e"), guards=guards)
            assert fit_into_one_call(plan) == plan
            self.read(client, plan)
            assert len(cloudwatch.calls) == 1

    def test_a_service_with_the_largest_guards_keeps_the_thresholds_that_fit(
        self, client: Any, cloudwatch: Any
    ) -> None:
        # GIVEN 10 custom guards of 11 queries each for requests and failures, and five target groups
        metric = {"namespace": "Shop", "metricName": "Lost", "dimensions": {"ExecutedVersion": "{revision}"}}
        math = {"expression": "a", "metrics": {"a": metric, **{f"m{number}": metric for number in range(9)}}}
        custom = [{"name": f"g{number}", "requests": math, "failures": math} for number in range(10)]
        latency = {"thresholdsMs": [10, 20, 30, 40, 50, 60]}
        guards = {"errors": {}, "latency": latency, "evidence": "cloudwatch", "custom": custom}
        plan = service_plan(routing_of("green-service", "a", "b", "c", "d", "e"), guards=guards)
        # WHEN they are made to fit THEN the lowest stays, and the last but one: 480 queries are for the rest
        fitting = fit_into_one_call(plan)
        assert fitting.guards.latency
        assert fitting.guards.latency.thresholds == [10, 50]
        self.read(client, fitting)
        assert [len(call["MetricDataQueries"]) for call in cloudwatch.calls] == [500]
        # AND by telemetry all of them stay
        by_telemetry = plan.model_copy(update={"guards": plan.guards.model_copy(update={"evidence": "telemetry"})})
        assert fit_into_one_call(by_telemetry) == by_telemetry
