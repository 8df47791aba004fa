"""Simulated rollouts on a target's own traffic: the traffic, the judge, the search, and what they rest on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from headgate.analysis.evidence import JudgeTerms, Ledger, Pair, reaches_limit, take_looks
from headgate.analysis.judge import Arm
from headgate.spec.guards import Guards
from headgate_cli.simulation.judging import Bench
from headgate_cli.simulation.own_rollouts import (
    Question,
    better_settings,
    false_rollbacks,
    least_error_fault,
    least_slowdown,
)
from headgate_cli.simulation.own_traffic import ErrorFault, OwnTraffic, Schedule, Wander, share_over, slowed
from headgate_cli.simulation.past import Minute, Past
from headgate_cli.simulation.setting import Phase
from headgate_cli.simulation.wandering import Both, own_noise, wandering_of
from tests.fakes.past_metrics import SLOWER

CLASSES = np.array([0.5, 0.25, 0.15, 0.05, 0.04, 0.009, 0.001])


def past_of(failures: Any, requests: Any) -> Past:
    rng = np.random.default_rng(5)
    minutes = []
    for failed, count in zip(failures, requests, strict=True):
        classes = rng.multinomial(count, CLASSES)
        slow = tuple(int(classes[place + 1 :].sum()) for place in range(len(SLOWER)))
        minutes.append(Minute(int(count), int(min(failed, count)), int(count), slow))
    return Past("checkout:live", tuple(minutes), tuple(ms for ms, _ in SLOWER), SLOWER)


def usual(minutes: int = 600, per_minute: float = 3000, rate: float = 0.002) -> Past:
    rng = np.random.default_rng(1)
    requests = rng.poisson(per_minute, minutes)
    return past_of(rng.binomial(requests, rate), requests)


CANARY = (Phase(10, 300),)


def question(past: Past | None = None, phases: tuple[Phase, ...] = CANARY, **guards: Any) -> Question:
    given = Guards.model_validate(guards or {"errors": {}})
    return Question(past or usual(), given, phases, runs=100, seed=1, caught=0.9)


def test_every_request_of_the_past_goes_to_one_revision_by_its_weight() -> None:
    past = past_of([7] * 5, [3000] * 5)
    traffic = OwnTraffic(past, Schedule(CANARY, 1, by_minutes=False), 1).run(0)

    assert int(traffic.requests[0].sum()) == pytest.approx(1500, abs=150)
    assert sum(int(arm.sum()) for arm in traffic.requests) == 15_000
    assert sum(int(arm.sum()) for arm in traffic.failures) == 35
    assert all((np.diff([each[0] for each in traffic.slow], axis=0) <= 0).ravel())


def test_consecutive_minutes_stay_together() -> None:
    past = past_of([0] * 200, range(1000, 1200))
    traffic = OwnTraffic(past, Schedule((Phase(50, 600),), 60, by_minutes=False), 1).run(3)
    by_minute = (traffic.requests[0] + traffic.requests[1]).tolist()

    assert np.diff(by_minute).tolist() == [1] * 9


def test_a_run_is_the_same_whatever_was_run_before_it() -> None:
    own = OwnTraffic(usual(), Schedule(CANARY, 1, by_minutes=False), 1)
    first = own.run(4)
    own.run(2)

    assert all((a == b).all() for a, b in zip(first.failures, own.run(4).failures, strict=True))


def test_a_larger_fault_has_all_failures_of_a_smaller_one() -> None:
    traffic = OwnTraffic(usual(), Schedule(CANARY, 1, by_minutes=False), 1).run(0)
    fault = ErrorFault(traffic, 0.1, 1, 0)
    rates = [fault.at(rate) for rate in (0.0, 0.01, 0.05, 0.1)]

    assert rates[0].sum() == 0
    assert all((smaller <= larger).all() for smaller, larger in pairwise(rates))
    assert rates[-1].sum() == pytest.approx(0.1 * traffic.requests[0].sum(), rel=0.2)
    assert (ErrorFault(traffic, 1.0, 1, 0).at(1.0) == traffic.requests[0] - traffic.failures[0]).all()


def test_slower_requests_pass_the_thresholds_that_their_durations_say() -> None:
    past = past_of([0] * 60, [60_000] * 60)
    traffic = OwnTraffic(past, Schedule((Phase(50, 3600),), 60, by_minutes=False), 1).run(0)
    before, after = ([each[0].sum() / traffic.timed[0].sum() for each in run.slow]
                     for run in (traffic, slowed(traffic, past, 1.5, 1, 0)))  # fmt: skip

    assert before == pytest.approx([share for _, share in SLOWER], rel=0.1)
    assert after == pytest.approx([share_over(SLOWER, ms / 1.5) for ms, _ in SLOWER], rel=0.1)


def test_the_curve_of_durations_falls_and_meets_its_percentiles() -> None:
    shares = [share_over(SLOWER, ms) for ms in range(1, 3000)]

    assert shares == sorted(shares, reverse=True)
    assert [share_over(SLOWER, ms) for ms, _ in SLOWER] == pytest.approx([share for _, share in SLOWER])


def test_by_cloudwatch_the_minutes_of_shifts_do_not_count() -> None:
    schedule = Schedule((Phase(10, 300), Phase(50, 120)), 60, by_minutes=True)

    assert schedule.tick == 30
    assert [(look.first, look.after, look.step) for look in schedule.looks] == [
        (1, 3, 0), (3, 5, 0), (5, 7, 0), (7, 9, 0), (11, 13, 1),
    ]  # fmt: skip


def test_a_step_at_100_percent_has_nothing_to_compare_with() -> None:
    assert Schedule((Phase(10, 60), Phase(100, 600)), 1, by_minutes=False).seconds == 60


@pytest.mark.parametrize("several", [False, True], ids=["errors", "errors and six thresholds"])
def test_every_look_is_judged_as_a_rollout_does_it(several: bool) -> None:
    # GIVEN guards, and a run with a fault
    wire: dict[str, Any] = {"errors": {}}
    if several:
        wire["latency"] = {"thresholdsMs": [float(ms) for ms, _ in SLOWER]}
    terms = JudgeTerms.of(Guards.model_validate(wire))
    schedule = Schedule((Phase(10, 120), Phase(50, 60)), 5, by_minutes=False)
    traffic = OwnTraffic(usual(rate=0.001), schedule, 1).run(1)
    traffic = traffic.failing(ErrorFault(traffic, 0.02, 1, 1).at(0.02))
    # WHEN it is judged here, and look by look as the counter does
    stop = Bench(terms, schedule).judge(traffic)
    ledger = Ledger("x", "8", "7", {}, {}, {}, {}, {})
    for look in schedule.looks:
        ledger = ledger._replace(since={**ledger.since, look.step: ledger.since.get(look.step, 5000 * look.first + 1)})
        for measure in terms.measures:
            number = int(measure.key.removeprefix("latency")) if measure.guard == "latency" else None
            requests = traffic.requests if number is None else traffic.timed
            failures = traffic.failures if number is None else traffic.slow[number]
            ticks = slice(look.first, look.after)
            arms = [Arm(int(requests[arm][ticks].sum()), int(failures[arm][ticks].sum())) for arm in (0, 1)]
            ledger = ledger.add(look.step, measure.key, Pair(*arms))
        ledger, _ = take_looks(ledger, terms, now=5000 * look.after)
        if reaches_limit(ledger, terms, "rollback"):
            break
    # THEN both end it at the same look
    assert stop is not None
    assert stop.seconds == 5 * look.after
    assert stop.failed_requests == int(traffic.failures[0][: look.after].sum())


def test_equally_good_revisions_are_rarely_rolled_back() -> None:
    found = false_rollbacks(question())

    assert found.share <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 100)
    assert 0 < found.margin < 0.06


def test_clusters_break_the_guarantee_and_a_setting_mends_it() -> None:
    rng = np.random.default_rng(2)
    past = past_of(6 * rng.poisson(3, 600), [3000] * 600)
    clumped = replace(question(past), runs=200)
    guarded = replace(clumped, guards=Guards.model_validate({"errors": {}, "failuresPerCause": 6}))

    assert false_rollbacks(clumped, Wander(clump=6)).share > 0.1
    assert false_rollbacks(guarded, Wander(clump=6)).share <= 0.03


def test_noise_of_one_revision_breaks_the_guarantee_and_a_setting_mends_it() -> None:
    past = usual(rate=0.03)
    noisy = replace(question(past, (Phase(50, 1800),)), runs=60, look_seconds=10)
    guarded = replace(noisy, guards=Guards.model_validate({"errors": {}, "noise": 0.6}))

    assert false_rollbacks(noisy, Wander(noise=0.6)).share > 0.1
    assert false_rollbacks(guarded, Wander(noise=0.6)).share <= 0.05


def test_the_least_fault_is_caught_and_a_clearly_smaller_one_is_not() -> None:
    asked = question()
    least = least_error_fault(asked)
    assert least is not None
    bench, own = asked.bench(), OwnTraffic(asked.past, asked.schedule, 99)

    def caught(rate: float) -> float:
        traffics = [own.run(run) for run in range(60)]
        ends = [bench.judge(each.failing(ErrorFault(each, 0.1, 99, run).at(rate))) for run, each in enumerate(traffics)]
        return sum(end is not None for end in ends) / 60

    assert least.caught >= 0.9
    assert caught(2 * least.fault) >= 0.9
    assert caught(0.5 * least.fault) < 0.9
    assert least.failed_requests.p90 is not None
    assert least.failed_requests.median is not None
    assert 1 <= least.failed_requests.median <= least.failed_requests.p90


def test_a_target_without_enough_requests_catches_nothing() -> None:
    quiet = past_of([0] * 600, [1] * 600)

    assert least_error_fault(question(quiet)) is None


def test_a_shift_of_all_durations_is_caught_by_several_thresholds() -> None:
    asked = replace(question(usual(), latency={"thresholdsMs": [float(ms) for ms, _ in SLOWER]}), runs=15)
    least = least_slowdown(asked)

    assert least is not None
    assert 1.02 < least.fault < 2


def test_other_settings_are_advised_with_what_they_catch() -> None:
    asked = replace(question(usual(per_minute=100)), runs=20)
    least = least_error_fault(asked)
    better = better_settings(asked, least)

    assert "bakes twice as long" in [each.what for each in better]
    assert any(each.what.startswith("leastRequests") for each in better)
    assert all(least is None or each.least.fault < 1.05 * least.fault for each in better)
    assert [each.least.fault for each in better] == sorted(each.least.fault for each in better)


def test_telemetry_is_advised_instead_of_cloudwatch_where_bakes_are_short() -> None:
    asked = replace(question(usual(), (Phase(10, 180),), errors={}, evidence="cloudwatch"), runs=20)

    assert "telemetry" in [each.what for each in better_settings(asked, least_error_fault(asked))]


class TestWandering:
    def test_independent_failures_show_nothing(self) -> None:
        assert not wandering_of(usual(3000).minutes).seen

    def test_a_rate_that_changes_by_the_hour_shows_nothing(self) -> None:
        rng = np.random.default_rng(1)
        rates = 0.002 * (1 + 0.8 * np.sin(np.arange(3000) / 100))
        past = past_of(rng.binomial(3000, rates), [3000] * 3000)
        assert not wandering_of(past.minutes).seen

    @pytest.mark.parametrize("size", [2, 3, 8])
    def test_clusters_show_by_their_size(self, size: int) -> None:
        rng = np.random.default_rng(1)
        past = past_of(size * rng.poisson(4, 3000), [3000] * 3000)
        found = wandering_of(past.minutes)
        assert found.dispersion == pytest.approx(size, rel=0.15)
        assert found.clump in (size, size + 1)

    @pytest.mark.parametrize("cv", [0.3, 0.6])
    def test_a_rate_that_jumps_each_minute_shows_its_variation(self, cv: float) -> None:
        rng = np.random.default_rng(1)
        rates = 0.01 * rng.gamma(1 / cv**2, cv**2, 3000)
        past = past_of(rng.binomial(3000, np.minimum(rates, 1)), [3000] * 3000)
        assert wandering_of(past.minutes).noise == pytest.approx(cv, rel=0.15)

    def test_single_bad_minutes_are_counted_apart(self) -> None:
        rng = np.random.default_rng(1)
        failures = rng.poisson(6, 3000)
        failures[[500, 1500, 2500]] = 900
        found = wandering_of(past_of(failures, [3000] * 3000).minutes)
        assert found.spikes >= 3
        assert not found.seen

    def test_noise_of_one_revision_is_measured_where_both_were_counted(self) -> None:
        rng = np.random.default_rng(1)

        def minutes(cv: float) -> list[Both]:
            own = rng.gamma(1 / cv**2, cv**2, (4000, 2)) if cv else np.ones((4000, 2))
            common = rng.gamma(4, 1 / 4, 4000)
            means = 40 * common[:, None] * own
            failed = rng.poisson(means)
            return [Both(3000, int(a), 3000, int(b)) for a, b in failed]

        assert own_noise(minutes(0.4)) == pytest.approx(0.4, rel=0.15)
        assert own_noise(minutes(0)) == pytest.approx(0, abs=0.06)
        assert own_noise([]) is None
