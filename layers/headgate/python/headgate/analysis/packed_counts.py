"""Counts in few bytes, for items that a rollout has one of for each step.

A count is a varint: seven bits a byte, the least significant first, and the eighth bit says that more follow. Negative
numbers alternate with positive ones (0, -1, 1, -2, ...), as in Protocol Buffers:
https://protobuf.dev/programming-guides/encoding/#signed-ints
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.analysis.evidence import Pair, latency_keys
from headgate.analysis.judge import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NAMED = ("errors", "latency", *latency_keys(6))
"""Measures by their place, which is on record. The custom ones follow in the order of their numbers."""


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Return whole numbers as varints."""
    packed = bytearray()
    for number in numbers:
        left = number << 1 if number >= 0 else (-number << 1) - 1
        while left > 0x7F:
            packed.append(left & 0x7F | 0x80)
            left >>= 7
        packed.append(left)
    return bytes(packed)


def unpack_numbers(packed: bytes) -> Iterator[int]:
    """Yield the numbers that ``pack_numbers`` packed."""
    value = shift = 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte <= 0x7F:
            yield -(value + 1 >> 1) if value & 1 else value >> 1
            value = shift = 0


def pack_measures(measures: Iterable[str]) -> int:
    """Return the set of some measures as a number: a bit for the place of each."""
    return sum(1 << place_of(measure) for measure in measures)


def unpack_measures(packed: int) -> list[str]:
    """Return the measures of a set in the order of their places."""
    places = (place for place in range(packed.bit_length()) if packed >> place & 1)
    return [_NAMED[place] if place < len(_NAMED) else f"custom{place - len(_NAMED)}" for place in places]


def place_of(measure: str) -> int:
    """Return the place of a measure, by which packed ones are ordered."""
    return _NAMED.index(measure) if measure in _NAMED else len(_NAMED) + int(measure.removeprefix("custom"))


def pack_counts(counts: Mapping[str, Pair]) -> bytes:
    """Return the counts of a step by measure.

    The requests of most measures are those of the measure before, so only what they differ by is kept.
    """
    numbers, before = [pack_measures(counts)], Pair()
    for measure in sorted(counts, key=place_of):
        pair = counts[measure]
        numbers += differences(pair, before)
        before = pair
    return pack_numbers(numbers)


def unpack_counts(packed: bytes) -> dict[str, Pair]:
    """Return the counts that ``pack_counts`` packed."""
    numbers, before, counts = unpack_numbers(packed), Pair(), {}
    for measure in unpack_measures(next(numbers)):
        before = counts[measure] = pair_after(before, numbers)
    return counts


def differences(pair: Pair, before: Pair) -> list[int]:
    """Return counts as four numbers, requests by what they differ from those of the measure before."""
    (requests, failures), (stable_requests, stable_failures) = pair
    added, stable_added = requests - before.candidate.requests, stable_requests - before.stable.requests
    return [added, stable_added, failures, stable_failures]


def pair_after(before: Pair, numbers: Iterator[int]) -> Pair:
    """Return the counts whose ``differences`` come next."""
    added, stable_added, failures, stable_failures = (next(numbers) for _ in range(4))
    return Pair(
        Arm(before.candidate.requests + added, failures), Arm(before.stable.requests + stable_added, stable_failures)
    )
