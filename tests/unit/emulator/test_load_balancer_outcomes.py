"""What requests add to the metrics of load balancers on the embedded AWS."""

from __future__ import annotations

from emulator.gaps.elb import outcomes
from emulator.gaps.elb.proxy import Outcome

BALANCER = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/front/50dc6c495c0c9188"
GROUP = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/blue/73e2d6bc24d8a067"
BY_GROUP = "targetgroup/blue/73e2d6bc24d8a067 app/front/50dc6c495c0c9188"
BY_BALANCER = "app/front/50dc6c495c0c9188"


def added(outcome: Outcome) -> dict[str, dict[str, float]]:
    """The values by dimensions, and by metric."""
    found: dict[str, dict[str, float]] = {}
    for measure in outcomes.measures_of(outcome):
        names = [measure.dimensions[name] for name in ("TargetGroup", "LoadBalancer") if name in measure.dimensions]
        found.setdefault(" ".join(names), {})[measure.metric] = measure.value
    return found


def test_an_answer_of_a_target_counts_for_its_group_and_its_load_balancer() -> None:
    counts = {"RequestCount": 1, "HTTPCode_Target_5XX_Count": 1, "TargetResponseTime": 0.0123}
    assert added(Outcome(BALANCER, 503, GROUP, seconds=0.01234)) == {BY_GROUP: counts, BY_BALANCER: counts}


def test_response_times_are_in_seconds() -> None:
    (unit,) = {
        each.unit
        for each in outcomes.measures_of(Outcome(BALANCER, 200, GROUP, seconds=1.0))
        if each.metric == "TargetResponseTime"
    }
    assert unit == "Seconds"


def test_an_error_of_the_load_balancer_itself_counts_for_no_group() -> None:
    by_group = {"RequestCount": 1, "TargetConnectionErrorCount": 1}
    own = {"HTTPCode_ELB_5XX_Count": 1, "HTTPCode_ELB_502_Count": 1}
    assert added(Outcome(BALANCER, 502, GROUP, not_connected=1)) == {BY_GROUP: by_group, BY_BALANCER: by_group | own}


def test_a_request_for_which_there_was_no_target_is_no_request() -> None:
    counts = {"HTTPCode_ELB_5XX_Count": 1, "HTTPCode_ELB_503_Count": 1}
    assert added(Outcome(BALANCER, 503)) == {BY_BALANCER: counts}
    assert added(Outcome(BALANCER, 400, action="")) == {BY_BALANCER: {"HTTPCode_ELB_4XX_Count": 1}}


def test_answers_of_actions_are_no_errors() -> None:
    assert added(Outcome(BALANCER, 503, action="fixed-response")) == {BY_BALANCER: {"HTTP_Fixed_Response_Count": 1}}
    assert added(Outcome(BALANCER, 301, action="redirect")) == {BY_BALANCER: {"HTTP_Redirect_Count": 1}}


def test_hosts_are_counted_while_they_are_registered() -> None:
    assert outcomes.host_counts(["healthy", "healthy", "unhealthy", "initial", "draining"]) == (2, 1)
    assert outcomes.host_counts(["initial"]) == (0, 0)
    assert outcomes.host_counts(["draining", "unused"]) is None
