"""Numbers and times for people."""

from __future__ import annotations

from datetime import timedelta

import pytest

from headgate.history.wording import (
    clock,
    counted,
    duration,
    evidence,
    listed,
    person,
    revision,
    revision_noun,
    sentence,
    share,
    target,
    weight,
)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (0.04, "0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (130, "2 min 10 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3900, "1 h 5 min"),
        (86399, "1 d"),
        (90000, "1 d 1 h"),
        (400 * 86400, "400 d"),
        (timedelta(minutes=2), "2 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "0 %"),
        (0, 10, "0 %"),
        (1, 100_000, "under 0.01 %"),
        (2, 3610, "0.055 %"),
        (38, 1204, "3.2 %"),
        (4, 24, "16.7 %"),
        (99_999, 100_000, "over 99.9 %"),
        (10, 10, "100 %"),
    ],
)
def test_a_share_is_short_and_never_looks_like_none_or_all(part: int, whole: int, shown: str) -> None:
    assert share(part, whole) == shown


@pytest.mark.parametrize(
    ("percent", "shown"), [(0, "0 %"), (25, "25 %"), (0.5, "0.5 %"), (33.33, "33.33 %"), (0.00005, "0.00005 %")]
)
def test_a_weight_is_shown_as_it_was_set(percent: float, shown: str) -> None:
    assert weight(percent) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1e-9, "less than 0.01"),
        (0.123, "0.123"),
        (1, "1"),
        (896.4, "896"),
        (6349, "6,350"),
        (1e15, f"more than {10**15:,}"),
    ],
)
def test_evidence_has_three_digits_and_no_exponent(value: float, shown: str) -> None:
    assert evidence(value) == shown


def test_a_time_has_its_date_unless_the_reader_knows_it() -> None:
    at = "2026-12-01T00:05:10.123Z"

    assert clock(at) == "2026-12-01 00:05:10 UTC"
    assert clock(at, beside="2026-12-01T10:00:00.000Z") == "00:05:10 UTC"
    assert clock(at, beside="2026-11-30T10:00:00.000Z", seconds=False) == "2026-12-01 00:05 UTC"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("paused by kim", "Paused by kim."),
        ("accepted, and about to begin", "Accepted, and about to begin."),
        ("target: checkout is busy", "target: checkout is busy."),
        ("guards.alarms: no alarm", "guards.alarms: no alarm."),
        ("Done!", "Done!"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_unless_a_field_begins_it(text: str, shown: str) -> None:
    assert sentence(text) == shown


def test_names_are_short() -> None:
    assert target("lambda-alias/checkout/live") == "checkout:live"
    assert target("event-source/0f1e2d3c") == "0f1e2d3c"
    assert target("ecs-service/web/shop") == "web/shop"
    assert target("custom/thing") == "custom/thing"


def test_functions_have_versions_and_services_revisions() -> None:
    assert revision_noun("lambda-alias/checkout/live") == revision_noun("event-source/0f1e2d3c") == "version"
    assert revision_noun("ecs-service/web/shop") == "revision"
    assert (revision("8", "it"), revision("web:12", "it"), revision("", "it")) == ("version 8", "web:12", "it")
    assert person("arn:aws:sts::123456789012:assumed-role/Deploy/kim") == "Deploy/kim"
    assert person("kim (on call)") == "kim (on call)"
    assert (listed(["a"]), listed(["a", "b", "c"]), listed([])) == ("a", "a, b and c", "")
    assert (counted(1, "batch", "batches"), counted(1204, "batch", "batches")) == ("1 batch", "1,204 batches")
