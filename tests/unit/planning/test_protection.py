"""What guards a rollout: by default, and when the telemetry that a guard needs never comes."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.analysis.measures import AliasMeasures, ServiceMeasures
from headgate.errors import RequestRefused
from headgate.planning.protection import Protected, Protection
from tests.builders import TARGET_KEY, alias_of, request_of
from tests.unit.analysis.service_plans import routing_of, service_request

LONG = {"steps": [{"weight": 10, "bakeSeconds": 300}]}
SHORT = {"steps": [{"weight": 10, "bakeSeconds": 3}]}
MIXED = {"steps": [{"weight": 10, "bakeSeconds": 3}, {"weight": 50, "bakeSeconds": 300}]}


class Notes:
    """Notes on one target, or on none."""

    def __init__(self, target: str | None) -> None:
        self._target = target

    def sends(self, target: str) -> bool:
        return target == self._target


class CloudWatch:
    """Counts so many requests to each alias, all of them settled."""

    def __init__(self, requests: float) -> None:
        self.requests = requests
        self.asked: list[dict[str, Any]] = []

    def get_metric_data(self, **asked: Any) -> Any:
        self.asked.append(asked)
        return {"MetricDataResults": [{"Id": "all", "Values": [self.requests] if self.requests else []}]}


def chosen(
    *, sends: bool = False, requests: float = 0, deployed: bool = True, is_ramp: bool = False, **fields: Any
) -> Protected:
    notes: Any = Notes(TARGET_KEY if sends else None)
    cloudwatch: Any = CloudWatch(requests)
    request = request_of(**fields)
    return Protection(notes, cloudwatch, telemetry=deployed).choose(
        request, AliasMeasures(alias_of(request)), is_ramp=is_ramp
    )


@pytest.mark.parametrize("fields", [{}, {"guards": {}}, {"guards": {"alpha": 0.05}}])
def test_without_a_guard_errors_are_compared_by_telemetry_where_the_target_sends_it(fields: dict[str, Any]) -> None:
    guards, warnings = chosen(sends=True, strategy=SHORT, **fields)
    assert guards.errors is not None
    assert (guards.evidence, guards.on_no_data) == ("telemetry", "wait")
    assert guards.alpha == fields.get("guards", {}).get("alpha", 0.01)
    assert warnings == []


@pytest.mark.parametrize("known", [{"sends": False}, {"sends": True, "deployed": False}])
def test_without_a_guard_and_telemetry_cloudwatch_is_compared_and_the_plan_warns(known: dict[str, Any]) -> None:
    guards, warnings = chosen(strategy=LONG, **known)
    assert guards.errors is not None
    assert (guards.evidence, guards.on_no_data) == ("cloudwatch", "pass")
    (warning,) = warnings
    assert "the request names no guard" in warning
    assert "a bake without requests passes" in warning
    assert '"guards": "none"' in warning


def test_what_the_request_says_of_the_evidence_is_kept() -> None:
    guards, (warning,) = chosen(sends=True, strategy=LONG, guards={"evidence": "cloudwatch", "onNoData": "fail"})
    assert (guards.errors is not None, guards.evidence, guards.on_no_data) == (True, "cloudwatch", "fail")
    assert "a bake without requests fails" in warning


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"strategy": SHORT}, "checkout:live sends no telemetry, and some bakes are shorter than the 300 s"),
        ({"strategy": MIXED}, "some bakes are shorter than the 300 s"),
        ({"strategy": "AllAtOnce"}, "no step below 100 % bakes"),
        ({"strategy": {"steps": [{"weight": 100, "bakeSeconds": 600}]}}, "no step below 100 % bakes"),
        ({"strategy": LONG, "is_ramp": True}, "in a ramp the versions never work side by side"),
    ],
)
def test_where_nothing_can_be_compared_it_runs_and_the_plan_warns(fields: dict[str, Any], why: str) -> None:
    guards, (warning,) = chosen(**fields)
    assert not guards.protect
    assert "nothing guards this rollout" in warning
    assert why in warning


@pytest.mark.parametrize(
    "guards", ["none", {"alarms": ["checkout-errors"]}, {"errors": {}}, {"latency": {"thresholdMs": 300}}]
)
@pytest.mark.parametrize("strategy", [LONG, SHORT])
def test_what_the_request_says_is_taken_as_it_is(guards: Any, strategy: Any) -> None:
    request = request_of(guards=guards, strategy=strategy)
    assert chosen(sends=True, guards=guards, strategy=strategy) == Protected(request.asked_guards, [])


STEP = "use a strategy with a step below 100 %, such as Canary10Percent5Minutes"
ALARM = ", or name an alarm in guards.alarms"


@pytest.mark.parametrize(
    ("guards", "told", "fix"),
    [
        ({"errors": {}}, "guards.errors compares nothing", STEP + ALARM),
        ({"latency": {"thresholdMs": 300}}, "guards.latency compares nothing", STEP + ALARM),
        ({"errors": {}, "alarms": ["a"]}, "guards.errors compares nothing", STEP),
        ({"errors": {}, "latency": {"thresholdMs": 300}}, "guards.errors and guards.latency compare nothing", STEP),
    ],
)
@pytest.mark.parametrize("strategy", ["AllAtOnce", {"steps": [{"weight": 100, "bakeSeconds": 60}]}])
# Whether the target sends telemetry makes no difference.
@pytest.mark.parametrize("requests", [0, 12])
def test_guards_that_compare_nothing_are_named_in_a_warning(
    guards: dict[str, Any], told: str, fix: str, strategy: Any, requests: float
) -> None:
    taken, (warning,) = chosen(requests=requests, guards=guards, strategy=strategy)
    assert taken == request_of(guards=guards, strategy=strategy).asked_guards
    assert warning.startswith(f"{told}: no step of the strategy bakes with traffic on both versions; {fix}")


@pytest.mark.parametrize(
    ("guards", "named"),
    [
        ({"errors": {"action": "report"}}, "guards.errors"),
        (
            {"errors": {"action": "report"}, "latency": {"thresholdMs": 250, "action": "report"}},
            "guards.errors and guards.latency",
        ),
    ],
)
def test_guards_that_only_report_are_named_in_a_warning(guards: dict[str, Any], named: str) -> None:
    (warning,) = chosen(sends=True, strategy=LONG, guards=guards).warnings
    assert warning.startswith(f"guards: nothing can stop this rollout: {named} only report; ")


@pytest.mark.parametrize(
    "guards",
    [
        {"errors": {"action": "report"}, "alarms": ["slow"]},
        {"errors": {"action": "report"}, "latency": {"thresholdMs": 250, "action": "pause"}},
    ],
)
def test_one_guard_that_acts_is_enough(guards: dict[str, Any]) -> None:
    assert chosen(sends=True, strategy=LONG, guards=guards).warnings == []


def test_of_services_the_warning_names_their_limits() -> None:
    def warnings_for(**guards: Any) -> list[str]:
        request = service_request(guards=guards, strategy="AllAtOnce")
        target: Any = request.target
        nobody: Any = Notes(None)
        nothing: Any = CloudWatch(0)
        protection = Protection(nobody, nothing, telemetry=True)
        return protection.choose(request, ServiceMeasures(target, routing_of("green-service")), is_ramp=False).warnings

    (warning,) = warnings_for(errors={})
    assert "bakes with traffic on both revisions; " in warning
    assert warning.endswith(f"{STEP}{ALARM}, or set limits in guards.service")
    (warning,) = warnings_for(errors={}, service={"taskExits": 0})
    assert warning.endswith(STEP + ALARM)


@pytest.mark.parametrize("guards", [{"errors": {}}, {"latency": {"thresholdMs": 300}, "onNoData": "fail"}])
def test_where_telemetry_is_missing_cloudwatch_is_compared_if_the_bakes_are_long(guards: dict[str, Any]) -> None:
    (name, *_) = guards
    taken, (warning,) = chosen(requests=12, strategy=LONG, guards=guards)
    assert (taken.evidence, taken.on_no_data) == ("cloudwatch", guards.get("onNoData", "wait"))
    assert warning.startswith(f"guards.{name}: checkout:live has sent no telemetry for a day, although CloudWatch")


def test_where_telemetry_is_missing_and_the_bakes_are_short_the_request_is_refused() -> None:
    with pytest.raises(
        RequestRefused,
        match=r"guards\.errors: checkout:live has sent no telemetry .*; add Headgate's telemetry .*at least 300 s",
    ):
        chosen(requests=12, strategy=MIXED, guards={"errors": {}})


@pytest.mark.parametrize(
    ("guards", "requests"),
    [({"errors": {}}, 0), ({"errors": {}, "evidence": "cloudwatch"}, 12), ({"alarms": ["a"]}, 12)],
)
def test_a_target_that_is_idle_or_whose_telemetry_is_not_needed_is_not_silent(guards: Any, requests: int) -> None:
    request = request_of(guards=guards, strategy=LONG)
    assert chosen(requests=requests, guards=guards, strategy=LONG) == Protected(request.asked_guards, [])


def test_requests_of_the_last_minutes_do_not_show_that_telemetry_is_missing() -> None:
    # GIVEN a target whose requests began just now: their telemetry may be on its way
    notes: Any = Notes(None)
    cloudwatch: Any = CloudWatch(0)
    request = request_of(guards={"errors": {}}, strategy=SHORT)
    # WHEN its rollout is planned
    Protection(notes, cloudwatch, telemetry=True).choose(request, AliasMeasures(alias_of(request)), is_ramp=False)
    # THEN CloudWatch was asked for a period that ends before them
    ((query,),) = (asked["MetricDataQueries"] for asked in cloudwatch.asked)
    (asked,) = cloudwatch.asked
    assert query["MetricStat"]["Metric"]["MetricName"] == "Invocations"
    assert (asked["EndTime"] - asked["StartTime"]).total_seconds() == 3600
    assert 300 <= (asked["EndTime"].now(asked["EndTime"].tzinfo) - asked["EndTime"]).total_seconds() < 400


def test_a_word_that_is_no_guard_is_refused_with_what_to_give() -> None:
    with pytest.raises(RequestRefused, match=r'guards: give an object such as \{"errors": \{\}\}, or "none"'):
        request_of(guards="nothing")
