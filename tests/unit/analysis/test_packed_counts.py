"""Counts of filed steps take few bytes, and come out as they went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm
from headgate.analysis.packed_counts import (
    pack_counts,
    pack_measures,
    pack_numbers,
    place_of,
    unpack_counts,
    unpack_measures,
    unpack_numbers,
)

MEASURES = ["errors", "latency", *(f"latency{n}" for n in range(6)), *(f"custom{n}" for n in range(10))]

arms = st.integers(0, 10**12).flatmap(lambda n: st.builds(Arm, st.just(n), st.integers(0, n)))
counts = st.dictionaries(st.sampled_from(MEASURES), st.builds(Pair, arms, arms))


@given(st.lists(st.integers(-(1 << 80), 1 << 80)))
def test_numbers_come_out_as_they_went_in(numbers: list[int]) -> None:
    assert list(unpack_numbers(pack_numbers(numbers))) == numbers


@given(counts)
def test_counts_come_out_as_they_went_in(given_counts: dict[str, Pair]) -> None:
    assert unpack_counts(pack_counts(given_counts)) == given_counts


@given(st.sets(st.sampled_from(MEASURES)))
def test_measures_come_out_in_the_order_of_their_places(measures: set[str]) -> None:
    assert unpack_measures(pack_measures(measures)) == sorted(measures, key=place_of)


def test_the_places_on_record_never_change() -> None:
    assert [place_of(measure) for measure in MEASURES] == list(range(18))
    one = {"errors": Pair(Arm(1, 0), Arm(64, 2)), "custom0": Pair(Arm(3, 3), Arm(64, 0))}
    assert pack_counts(one).hex() == "8204" + "02" + "8001" + "00" + "04" + "04" + "00" + "06" + "00"


@pytest.mark.parametrize(("number", "size"), [(0, 1), (63, 1), (64, 2), (8_191, 2), (8_192, 3), (-64, 1)])
def test_small_numbers_take_few_bytes(number: int, size: int) -> None:
    assert len(pack_numbers([number])) == size
