"""Telemetry against Lambda's own counts: what is more is told, and what is only late blocks nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.analysis.measures import AliasMeasures, ServiceMeasures
from headgate.analysis.reports import (
    KEPT_MS,
    SETTLED_MS,
    Invocations,
    ReportCheck,
    Reported,
    Reports,
    Snapshot,
    check_reports,
)

MINUTE = 60_000
BEGUN = 1_795_251_600_000
NOW = BEGUN + 10 * MINUTE


def invoked(candidate: int = 0, stable: int = 0, alias: int | None = None, at: int = BEGUN) -> Invocations:
    """What Lambda counted in one minute; by default, all of it by version."""
    return Invocations({at: candidate}, {at: stable}, {at: candidate + stable if alias is None else alias}, MINUTE)


def observed(count: int) -> Reported:
    return Reported(observed=count)


def told(count: int) -> Reported:
    return Reported(told=count)


def checked(
    candidate: Reported,
    stable: Reported,
    invocations: Invocations,
    *,
    per_invocation: float | None = None,
    **snapshot: Any,
) -> ReportCheck:
    """The check of one snapshot, by default of five minutes ago."""
    taken = Snapshot(**{"at": NOW - 5 * MINUTE, "candidate": candidate, "stable": stable, **snapshot})
    return check_reports(
        Reports(BEGUN, snapshots=(taken,)), invocations, ("7", "6"), per_invocation, NOW, AliasMeasures.words
    )


def test_a_flood_of_successes_is_told_with_both_counts_and_the_fix() -> None:
    assert checked(observed(1200), observed(900), invoked(300, 900)).excess == (
        "telemetry reported 1,200 requests of version 7, but Lambda counted 300 invocations; check which roles have "
        "kinesis:PutRecord on the telemetry stream, or set guards.outcomesPerInvocation if an invocation reports "
        "several outcomes"
    )


def test_forged_failures_of_the_stable_version_are_told_too() -> None:
    assert checked(observed(100), observed(1000), invoked(100, 900)).excess.startswith(
        "telemetry reported 1,000 requests of version 6, but Lambda counted 900 invocations"
    )


def test_both_versions_stand_in_one_sentence() -> None:
    excess = checked(observed(200), observed(1000), invoked(100, 900)).excess
    assert "version 7, but Lambda counted 100 invocations and telemetry reported 1,000 requests of version 6" in excess


@pytest.mark.parametrize(
    ("candidate", "stable", "invocations"),
    [
        (observed(100), observed(900), invoked(100, 900)),
        (observed(80), observed(700), invoked(100, 900)),  # some telemetry was lost
        (observed(102), observed(900), invoked(100, 900)),  # a few were reported twice
        (observed(1), observed(0), invoked()),
        (told(50_000), told(900), invoked(100, 900)),  # messages of batches
        (told(5), told(9), invoked()),
        (observed(0), observed(0), invoked()),
        (observed(100), observed(1900), invoked(100, 900, alias=2000)),  # an alias that does not split its traffic
    ],
)
def test_what_lambda_confirms_or_a_batch_may_report_is_not_told(
    candidate: Reported, stable: Reported, invocations: Invocations
) -> None:
    assert checked(candidate, stable, invocations, due=True, early=True) == ReportCheck()


@pytest.mark.parametrize(
    ("candidate", "stable"),
    [
        (Reported(observed=100, told=50), observed(900)),
        (told(5000), observed(900)),  # a candidate that cannot even report
        (observed(100), told(5000)),
    ],
)
def test_if_anything_was_observed_leaving_out_the_mark_is_no_way_around_the_limit(
    candidate: Reported, stable: Reported
) -> None:
    assert checked(candidate, stable, invoked(100, 900)).excess


@pytest.mark.parametrize(
    ("reported", "per_invocation", "exceeds"),
    [
        (told(1000), 10.0, False),
        (told(1012), 10.0, True),
        (observed(1000), 10.0, False),
        (Reported(observed=100, told=900), 10.0, False),
        (told(103), 1.0, True),
        (told(1), None, False),
    ],
)
def test_a_request_may_limit_the_outcomes_of_an_invocation(
    reported: Reported, per_invocation: float | None, exceeds: bool
) -> None:
    check = checked(reported, Reported(), invoked(100), per_invocation=per_invocation)
    assert bool(check.excess) == exceeds


def test_only_what_is_settled_is_held_against_the_telemetry() -> None:
    settled, fresh = (
        checked(observed(1200), observed(900), invoked(300, 900), at=NOW - SETTLED_MS + late) for late in (0, 1)
    )
    assert (bool(settled.excess), fresh.excess) == (True, "")


def test_invocations_after_a_snapshot_do_not_excuse_it() -> None:
    later = invoked(300, 900)
    later.candidate[NOW - 4 * MINUTE] = 5000
    later.alias[NOW - 4 * MINUTE] = 5000
    assert checked(observed(1200), observed(900), later).excess


@pytest.mark.parametrize("period", [MINUTE, 5 * MINUTE, 60 * MINUTE])
def test_what_the_alias_served_alone_before_the_first_shift_does_not_confirm_the_candidate(period: int) -> None:
    # GIVEN a candidate at 1 % of 100 requests a second, and the period that ends with its first minutes
    before = BEGUN - period // 2
    invocations = Invocations({before: 150}, {before: 14_850}, {before: 24_000}, period)
    # WHEN more successes are reported than it had requests, THEN they confirm nothing
    check = checked(observed(9000), observed(14_850), invocations, due=True, early=True)
    told = "telemetry reported 9,000 requests of version 7, but Lambda counted 150 invocations"
    assert told in check.excess
    assert told in check.unconfirmed
    assert not check.early
    # AND the stable version may have served them
    assert checked(observed(150), observed(23_850), invocations, due=True, early=True) == ReportCheck()


ALL_TRAFFIC_FROM = BEGUN + 10 * MINUTE + 20_000


@pytest.mark.parametrize(
    ("period", "begun", "after", "of_candidate"),
    [
        (MINUTE, BEGUN + 9 * MINUTE, 5 * MINUTE, 0),
        (MINUTE, BEGUN + 10 * MINUTE, 5 * MINUTE, 70),
        (MINUTE, BEGUN + 11 * MINUTE, 5 * MINUTE, 70),
        (MINUTE, BEGUN + 11 * MINUTE, 0, 0),  # It began later.
        (5 * MINUTE, BEGUN + 5 * MINUTE, 5 * MINUTE, 0),
        (5 * MINUTE, BEGUN + 10 * MINUTE, 5 * MINUTE, 70),
        (60 * MINUTE, BEGUN - 50 * MINUTE, 5 * MINUTE, 0),
        (60 * MINUTE, BEGUN - 49 * MINUTE, 0, 70),
        (60 * MINUTE, BEGUN - 49 * MINUTE, -1, 0),  # When the snapshot was taken, the candidate had a share.
    ],
)
def test_what_the_alias_served_alone_can_be_of_the_candidate_once_that_has_all_traffic(
    period: int, begun: int, after: int, of_candidate: int
) -> None:
    invocations = Invocations({}, {begun: 30}, {begun: 100}, period, ALL_TRAFFIC_FROM)
    of_stable = 0 if begun > ALL_TRAFFIC_FROM + after else 100
    assert invocations.until(ALL_TRAFFIC_FROM + after) == (of_candidate, of_stable)


def test_a_count_by_version_that_is_ahead_of_the_aliass_takes_nothing_from_other_minutes() -> None:
    early, late = BEGUN, BEGUN + MINUTE
    counts = Invocations({late: 20}, {late: 80}, {early: 50, late: 90}, MINUTE)
    assert counts.until(late) == (20, 130)


def test_the_end_of_the_last_bake_is_confirmed_by_any_snapshot_since() -> None:
    def check(*due: int) -> str:
        taken = [Snapshot(NOW - n, observed(count), observed(900), due=True) for n, count in enumerate(due)]
        return check_reports(
            Reports(BEGUN, snapshots=(*taken,)), invoked(100, 900), ("7", "6"), None, NOW, AliasMeasures.words
        ).unconfirmed

    assert check() == check(100) == check(100, 130) == ""
    assert check(120, 130) == (
        "CloudWatch has not confirmed the telemetry yet: telemetry reported 130 requests of version 7, but Lambda "
        "counted 100 invocations"
    )


def test_evidence_for_an_early_promotion_is_confirmed_by_a_snapshot_that_had_it() -> None:
    def early(*taken: tuple[int, bool]) -> bool:
        snapshots = tuple(Snapshot(NOW, observed(count), observed(900), early=had) for count, had in taken)
        return check_reports(
            Reports(BEGUN, snapshots=snapshots), invoked(100, 900), ("7", "6"), None, NOW, AliasMeasures.words
        ).early

    assert early((90, False), (100, True), (5000, True))
    assert not early((100, False), (103, False), (200, True))


class TestReports:
    def test_they_are_limited_once_there_is_something_to_limit(self) -> None:
        assert not Reports(0, observed(5)).bounded(None)
        assert not Reports(BEGUN).bounded(1.0)
        assert not Reports(BEGUN, told(5), told(9)).bounded(None)
        assert Reports(BEGUN, told(5)).bounded(3.0)
        assert Reports(BEGUN, stable=observed(1)).bounded(None)

    def test_a_snapshot_has_what_came_since_the_restart(self) -> None:
        reports = Reports(BEGUN, observed(5), Reported(1, 2)).with_snapshot(NOW).restarted(NOW)
        assert (reports.since, reports.snapshots) == (NOW, ())
        more = reports._replace(candidate=observed(8)).with_snapshot(NOW + 1, early=True)
        assert more.snapshots == (Snapshot(NOW + 1, observed(3), Reported(), early=True),)

    def test_reports_that_do_not_count_do_not_restart(self) -> None:
        assert Reports().restarted(NOW) == Reports()

    def test_old_snapshots_are_dropped(self) -> None:
        reports = Reports(BEGUN, observed(5)).with_snapshot(NOW).with_snapshot(NOW + 1).with_snapshot(NOW + KEPT_MS)
        assert [snapshot.at for snapshot in reports.snapshots] == [NOW + 1, NOW + KEPT_MS]


class Served:
    """A rollout's requests with their ends, and when telemetry and CloudWatch have them."""

    def __init__(self, requests: list[tuple[int, int, int, int, bool]], alone_from: int | None = None) -> None:
        self.requests = [(*each[:4], each[4] or self._alone(each[0], alone_from)) for each in requests]
        """Start, duration, delay of telemetry and of CloudWatch in milliseconds, and whether the candidate served."""
        self.alone_from = alone_from
        """When the candidate gets all traffic, which Lambda then counts for the alias alone; None if it does not."""

    @staticmethod
    def _alone(start: int, alone_from: int | None) -> bool:
        return alone_from is not None and BEGUN + start >= alone_from

    def reported(self, now: int, *, candidate: bool) -> Reported:
        by_now = (each for each in self.requests if BEGUN + sum(each[:3]) <= now)
        return observed(sum(each[4] == candidate for each in by_now))

    def invocations(self, now: int) -> Invocations:
        series: list[Counter[int]] = [Counter(), Counter(), Counter()]
        for start, duration, _, delay, candidate in self.requests:
            if BEGUN + start + duration + delay <= now:
                minute = (BEGUN + start) // MINUTE * MINUTE
                if not self._alone(start, self.alone_from):
                    series[0 if candidate else 1][minute] += 1
                series[2][minute] += 1
        candidate_series, stable_series, alias_series = map(dict, series)
        # As for the ledger, the candidate has all traffic once that step has begun.
        alone_from = self.alone_from if self.alone_from is not None and self.alone_from <= now else None
        return Invocations(candidate_series, stable_series, alias_series, MINUTE, alone_from)

    def look(self, reports: Reports, now: int, *, due: bool = False) -> tuple[Reports, ReportCheck]:
        counted = reports._replace(
            candidate=self.reported(now, candidate=True), stable=self.reported(now, candidate=False)
        ).with_snapshot(now, due=due)
        return counted, check_reports(counted, self.invocations(now), ("7", "6"), None, now, AliasMeasures.words)


def requests(longest_delay: int) -> st.SearchStrategy[list[tuple[int, int, int, int, bool]]]:
    """Requests of half an hour: each takes up to 15 minutes, and telemetry may wait for the next request."""
    start, duration, delay = (st.integers(0, minutes * MINUTE) for minutes in (30, 15, 20))
    request = st.tuples(start, duration, delay, st.integers(0, longest_delay), st.booleans())
    return st.lists(request, max_size=30)


ALONE_FROM = st.none() | st.integers(BEGUN, BEGUN + 30 * MINUTE)
"""When the candidate gets all traffic, if it does."""


@settings(max_examples=150, deadline=None)
@given(requests(SETTLED_MS), ALONE_FROM)
def test_true_reports_never_block_while_cloudwatch_is_as_late_as_usual(
    served: list[tuple[int, int, int, int, bool]], alone_from: int | None
) -> None:
    # GIVEN looks each minute, WHEN no request was forged, THEN none finds an excess
    reports = Reports(BEGUN)
    for number in range(75):
        reports, check = Served(served, alone_from).look(reports, BEGUN + number * MINUTE)
        assert check.excess == ""


@settings(max_examples=150, deadline=None)
@given(requests(10 * MINUTE), st.integers(0, 40), ALONE_FROM)
def test_true_reports_are_confirmed_once_cloudwatch_has_caught_up(
    served: list[tuple[int, int, int, int, bool]], ended: int, alone_from: int | None
) -> None:
    # GIVEN a bake that ends while CloudWatch is ten minutes late
    reports = Reports(BEGUN)
    for number in range(11):
        reports, check = Served(served, alone_from).look(reports, BEGUN + (ended + number) * MINUTE, due=True)
    # THEN ten minutes later its telemetry is confirmed
    assert check.unconfirmed == ""


def test_the_counts_of_a_service_are_those_of_its_load_balancer() -> None:
    reports = Reports(BEGUN, snapshots=(Snapshot(NOW - SETTLED_MS, Reported(told=300)),))
    check = check_reports(reports, invoked(100), ("shop:7", "shop:6"), 1, NOW, ServiceMeasures.words)
    assert check.excess == (
        "telemetry reported 300 requests of shop:7, but the load balancer counted 100; check which roles have "
        "kinesis:PutRecord on the telemetry stream, or set guards.outcomesPerInvocation if a request reports several "
        "outcomes"
    )
    unlimited = check_reports(reports, invoked(100), ("shop:7", "shop:6"), None, NOW, ServiceMeasures.words)
    assert unlimited == ReportCheck(early=False)
