"""Which revisions may go: by age, by number, and never what is used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.cleanup.policy import Policy, Revision, decide, in_words, newest

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86_400.0


def revisions(*days: float | None) -> list[Revision]:
    """Revisions of these ages, the first with the highest number."""
    return [
        Revision(str(len(days) - index), len(days) - index, None if age is None else NOW - timedelta(days=age))
        for index, age in enumerate(days)
    ]


def going(found: list[Revision], policy: Policy, **uses: list[str]) -> list[str]:
    named = {name.removeprefix("v"): reasons for name, reasons in uses.items()}
    return [each.revision.name for each in decide(found, policy, named, NOW) if each.goes]


def test_a_revision_goes_if_it_is_old_and_not_among_the_newest() -> None:
    found = revisions(1, 40, 50, 60)

    assert going(found, Policy(1, 30 * DAY)) == ["3", "2", "1"]
    assert going(found, Policy(2, 30 * DAY)) == ["2", "1"]
    assert going(found, Policy(1, 55 * DAY)) == ["1"]
    assert going(found, Policy(9, 30 * DAY)) == []


def test_a_used_revision_stays_whatever_its_age() -> None:
    decisions = decide(revisions(1, 40, 500), Policy(1, 0), {"1": ["alias live points at it"]}, NOW)

    assert [(each.revision.name, each.goes) for each in decisions] == [("3", False), ("2", True), ("1", False)]
    assert decisions[2].reasons == ("alias live points at it",)


def test_numbers_decide_what_is_newest_and_not_texts() -> None:
    found = [Revision(str(number), number, NOW) for number in (9, 10, 2)]

    assert newest(found, Policy(2, 0)) == {"10", "9"}


def test_a_revision_of_unknown_age_stays() -> None:
    (_, unknown) = decide(revisions(1, None), Policy(1, 0), {}, NOW)

    assert not unknown.goes
    assert unknown.reasons == ("its age is not known",)


def test_at_least_the_newest_stays() -> None:
    assert going(revisions(99, 100), Policy(0, 0)) == ["1"]


def test_a_decision_says_all_reasons() -> None:
    first, second, third = decide(revisions(1, 2, 90), Policy(1, 30 * DAY), {"3": ["a"], "2": ["b"]}, NOW)

    assert first.reasons == ("a", "it is the newest")
    assert second.reasons == ("b", "it is younger than 30 days")
    assert third.reasons == ("nothing uses it, and it is 90 days old",)


@given(
    ages=st.lists(st.floats(0, 1000), min_size=1, max_size=30),
    keep=st.integers(1, 40),
    days=st.floats(0, 1000),
    used=st.sets(st.integers(1, 30)),
)
def test_nothing_that_is_used_new_or_young_ever_goes(ages: list[float], keep: int, days: float, used: set[int]) -> None:
    found = revisions(*ages)
    uses = {str(number): ["used"] for number in used}

    decisions = decide(found, Policy(keep, days * DAY), uses, NOW)

    gone = {each.revision.number for each in decisions if each.goes}
    assert len(decisions) == len(found)
    assert not gone & used
    assert not gone & set(range(len(ages) - keep + 1, len(ages) + 1))
    assert all(
        each.created_at and each.created_at <= NOW - timedelta(days=days) for each in found if each.number in gone
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (86_400, "1 day"),
        (2_592_000, "30 days"),
        (3600, "1 hour"),
        (90, "1 minute"),
        (5, "less than a minute"),
        (0, "0 seconds"),
    ],
)
def test_a_duration_is_said_in_its_largest_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
