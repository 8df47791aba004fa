"""Guards that do not fit an ECS service, and failures that no target group counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headgate.analysis.latency_baseline import LatencyBaseline
from headgate.analysis.measures import ServiceMeasures
from headgate.aws.place import Place
from headgate.errors import RequestRefused
from headgate.planning.planner import RolloutPlanner
from headgate.planning.protection import Protection
from headgate.planning.service_evidence import notes_on_evidence, refuse_guards_that_do_not_fit
from headgate.planning.service_planning import PlannedService, ServicePlanning
from headgate.spec.targets import EcsServiceTarget
from tests.unit.analysis.service_plans import routing_of, service_request

OF_GROUP = {"namespace": "AWS/ApplicationELB", "metricName": "RequestCount", "dimensions": {"TG": "{targetGroup}"}}
OF_REVISION = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Revision": "{revision}"}}
TWO_PORTS = routing_of("green-service", "shop", "admin")
TARGET = EcsServiceTarget(kind="ecs-service", cluster="prod", service="shop")


def guards_of(**guards: Any) -> Any:
    return service_request(guards=guards).asked_guards


def custom(requests: Any, failures: Any) -> Any:
    return guards_of(custom=[{"name": "orders", "requests": requests, "failures": failures}])


def math_over(metric: Any) -> dict[str, Any]:
    return {"expression": "a", "metrics": {"a": metric}}


def test_metric_math_over_several_target_groups_is_refused_with_the_fix() -> None:
    with pytest.raises(
        RequestRefused,
        match=r"guards\.custom\[0\]\.failures: \{targetGroup\} cannot be used in metric math, .* has 2 target",
    ):
        refuse_guards_that_do_not_fit(custom(OF_GROUP, math_over(OF_GROUP)), TWO_PORTS)


@pytest.mark.parametrize("query", [OF_GROUP, OF_REVISION, math_over(OF_REVISION)])
def test_metrics_whose_counts_add_up_are_accepted(query: Any) -> None:
    refuse_guards_that_do_not_fit(custom(query, query), TWO_PORTS)


def test_one_target_group_of_each_revision_can_be_in_metric_math() -> None:
    refuse_guards_that_do_not_fit(custom(math_over(OF_GROUP), math_over(OF_GROUP)), routing_of())


def test_a_comparison_without_an_alarm_is_told_what_the_load_balancer_hides() -> None:
    (note,) = notes_on_evidence(guards_of(errors={}), TARGET, TWO_PORTS)
    assert note.endswith("name an alarm on HTTPCode_ELB_5XX_Count of app/front/50dc6c495c0c9188 in guards.alarms")


@pytest.mark.parametrize("guards", [{"errors": {}, "alarms": ["front-5xx"]}, {"service": {"taskExits": 0}}])
def test_where_an_alarm_watches_or_nothing_is_compared_there_is_no_note(guards: Any) -> None:
    assert notes_on_evidence(guards_of(**guards), TARGET, TWO_PORTS) == []


def test_sticky_clients_are_told_to_be_units() -> None:
    sticky = TARGET.model_copy(update={"sticky": True})
    (note,) = notes_on_evidence(guards_of(errors={}, alarms=["front-5xx"]), sticky, TWO_PORTS)
    assert "let telemetry name the client as the unit, or set guards.failuresPerCause" in note
    assert notes_on_evidence(guards_of(service={"taskExits": 0}), sticky, TWO_PORTS) == []


class Silent:
    """A target that has requests but sends no telemetry."""

    def sends(self, target: str) -> bool:
        assert target == "ecs-service/prod/shop"
        return False

    def get_metric_data(self, MetricDataQueries: list[Any], **_: Any) -> Any:  # noqa: N803
        assert {query["MetricStat"]["Metric"]["MetricName"] for query in MetricDataQueries} == {"RequestCount"}
        return {"MetricDataResults": [{"Id": query["Id"], "Values": [3.0]} for query in MetricDataQueries]}


def chosen(**fields: Any) -> Any:
    request = service_request(**fields)
    silent: Any = Silent()
    protection = Protection(silent, silent, telemetry=True)
    return protection.choose(request, ServiceMeasures(request.target, routing_of()), is_ramp=False)  # type: ignore[arg-type]


def test_without_a_guard_a_services_errors_are_compared_by_its_target_groups() -> None:
    guards, (warning,) = chosen()
    assert (guards.errors is not None, guards.evidence, guards.on_no_data) == (True, "cloudwatch", "pass")
    assert "by CloudWatch's counts of both revisions" in warning


def test_a_service_without_telemetry_is_told_to_send_it() -> None:
    guards, (warning,) = chosen(guards={"errors": {}})
    assert guards.evidence == "cloudwatch"
    assert warning == (
        "guards.errors: service shop has sent no telemetry for a day, although CloudWatch counts requests to it. "
        "CloudWatch's counts are compared instead; add Headgate's telemetry to the service, or set guards.evidence to "
        "cloudwatch"
    )
    with pytest.raises(RequestRefused, match="add Headgate's telemetry to the service, or bake for at least 300 s"):
        chosen(guards={"errors": {}}, strategy={"steps": [{"weight": 10, "bakeSeconds": 5}]})


def test_limits_on_the_tasks_are_a_guard() -> None:
    guards, warnings = chosen(guards={"service": {"unhealthyHosts": 0}})
    assert (guards.errors, warnings) == (None, [])


def planner_of(planned: Any) -> RolloutPlanner:
    """A planner that finds a service, and nothing else of interest."""
    silent: Any = Silent()
    nothing: Any = SimpleNamespace(
        settle=lambda request, *_: request.hooks,
        warnings=[],
        firing=lambda _: [],
        find=lambda *_: planned,
        warnings_about_service=lambda *_: [],
        refuse_what_cannot_be_read=lambda *_: None,
    )
    return RolloutPlanner(
        drivers={"ecs-service": "arn:aws:lambda:::driver"},
        place=Place("aws", "123456789012", "eu-central-1"),
        own=nothing,
        patterns=nothing,
        telemetry=True,
        hook_checks=nothing,
        consumers=nothing,
        services=lambda: nothing,
        stacks=nothing,
        code=nothing,
        protection=Protection(silent, silent, telemetry=True),
        alarms=nothing,
        latency=LatencyBaseline(silent),
        counts=nothing,
        count_checks=lambda: nothing,
    )


def test_the_plan_has_the_notes_on_the_guards_that_it_chose() -> None:
    planned = PlannedService(routing_of(), "", "shop:6", "shop:7", ["target.way: green-service"], [])
    plan = planner_of(planned).plan(service_request())
    assert plan.guards.errors is not None
    assert plan.notes[0] == "target.way: green-service"
    assert "HTTPCode_ELB_5XX_Count" in plan.notes[1]


def test_the_plan_warns_of_thresholds_that_cloudwatch_cannot_count_beside_the_other_guards() -> None:
    metric = {"namespace": "Shop", "metricName": "Lost", "dimensions": {"ExecutedVersion": "{revision}"}}
    math = {"expression": "a", "metrics": {"a": metric, **{f"m{number}": metric for number in range(9)}}}
    custom = [{"name": f"g{number}", "requests": math, "failures": math} for number in range(10)]
    latency = {"thresholdsMs": [10, 20, 30, 40, 50, 60]}
    guards = {"errors": {}, "latency": latency, "evidence": "cloudwatch", "custom": custom}
    routing = routing_of("green-service", "a", "b", "c", "d", "e")
    plan = planner_of(PlannedService(routing, "", "shop:6", "shop:7", [], [])).plan(service_request(guards=guards))
    assert plan.guards.latency is not None
    assert plan.guards.latency.thresholds == [10, 50]
    warning = "guards.latency: CloudWatch can count only the requests over 10, 50 ms beside the other guards"
    assert warning in plan.warnings


def test_the_planning_of_a_service_refuses_guards_that_do_not_fit() -> None:
    anything: Any = SimpleNamespace(
        require=lambda *_: None,
        lock=lambda _: SimpleNamespace(owner=None),
        find=lambda _: SimpleNamespace(
            routing=TWO_PORTS, arn="", stable="shop:6", desired=4, running={}, notes=[], warnings=[], target=TARGET
        ),
        revision_of=lambda *_: "shop:7",
        describe_scalable_targets=lambda **_: {"ScalableTargets": []},
    )
    planning = ServicePlanning(anything, anything, anything, anything, anything)
    query = math_over(OF_GROUP)
    request = service_request(guards={"custom": [{"name": "orders", "requests": query, "failures": query}]})
    with pytest.raises(
        RequestRefused, match=r"guards\.custom\[0\]\.requests: \{targetGroup\} cannot be used in metric"
    ):
        planning.find(request, TARGET)
