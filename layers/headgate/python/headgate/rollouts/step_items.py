"""The short form in which bakes are stored, of which a rollout may have hundreds.

``pack_step`` shortens the fields of a STEP item, and ``unpack_step`` expands an item to the fields that the code speaks
of: ``startedAt``, ``verdict``, ``evidence``, ``endedAt``. Items of earlier versions of Headgate, which are not short,
stay as they are. The totals in the evidence are left out: the counts of the steps add up to them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import exp, log
from typing import TYPE_CHECKING, Any

from headgate import keys
from headgate.analysis.evidence import MAX_REPORTED_EVIDENCE, Pair
from headgate.analysis.judge import Arm
from headgate.analysis.packed_counts import (
    differences,
    pack_measures,
    pack_numbers,
    pair_after,
    place_of,
    unpack_measures,
    unpack_numbers,
)
from headgate.aws.dynamodb import iso_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMES = {"startedAt": "b", "endedAt": "e"}

_VERDICT = {
    "outcome": "",
    "reason": "",
    "next": "",
    "step": 0,
    "bake": 0,
    "bakeSeconds": 0,
    "forced": False,
    "failed": False,
}
"""Fields of a verdict in their order on record, with what is left out at the end."""

_ACTIONS = ("rollback", "pause", "report")

_FINE = 1_000
"""Steps in which the logarithm of a value is kept."""

_THOUSANDTHS = 1_000
"""Steps in which limits and thresholds are kept."""


def pack_step(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the short form of some fields of a STEP item. Its key has the numbers of step and bake."""
    packed = {}
    for name, value in fields.items():
        if name in _TIMES:
            packed[_TIMES[name]] = _milliseconds_of(value)
        elif name == "verdict":
            packed |= _packed_verdict(value)
        elif name == "evidence":
            packed |= _packed_evidence(value)
        elif name not in ("step", "bake"):
            packed[name] = value
    return packed


def unpack_step(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item with what its short form stands for. Items of another kind stay as they are."""
    if not item["sk"].startswith(keys.STEP_PREFIX):
        return item
    step, bake = keys.step_and_bake_in(item["sk"])
    unpacked = {"step": step, "bake": bake, **item}
    for name, short in _TIMES.items():
        if short in item:
            unpacked[name] = iso_of(datetime.fromtimestamp(unpacked.pop(short) / 1000, UTC))
    if "v" in item:
        verdict = dict(zip(_VERDICT, unpacked.pop("v"), strict=False))
        unpacked["verdict"] = {**_VERDICT, **verdict, **unpacked.pop("w", {})}
    if "m" in item:
        measures = _unpacked_measures(unpack_numbers(unpacked.pop("m")))
        unpacked["evidence"] = {**measures, "alarms": unpacked.pop("a", []), **unpacked.pop("x", {})}
    return unpacked


def _milliseconds_of(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _packed_verdict(verdict: dict[str, Any]) -> dict[str, Any]:
    values = [verdict.get(name, default) for name, default in _VERDICT.items()]
    while values and values[-1] == list(_VERDICT.values())[len(values) - 1]:
        values.pop()
    others = {name: value for name, value in verdict.items() if name not in _VERDICT}
    return {"v": values, **({"w": others} if others else {})}


def _packed_evidence(evidence: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in evidence.items() if name not in ("measures", "groups", "alarms")}
    packed: dict[str, Any] = {"m": _packed_measures(evidence["measures"], evidence.get("groups", []))}
    if alarms := evidence.get("alarms"):
        packed["a"] = alarms
    return packed | ({"x": others} if others else {})


def _packed_measures(measures: list[dict[str, Any]], groups: list[dict[str, Any]]) -> bytes:
    by_place = sorted(measures, key=lambda measure: place_of(measure["measure"]))
    numbers = [pack_measures(measure["measure"] for measure in by_place)]
    numbers += (
        pack_measures(each["measure"] for each in by_place if each.get("action") == action) for action in _ACTIONS[1:]
    )
    numbers.append(next((_thousandths(each["thresholdMs"]) for each in measures if "thresholdMs" in each), 0))
    before, limit = Pair(), 0
    for each in by_place:
        pair = Pair(*(Arm(**each[arm]) for arm in ("candidate", "stable")))
        own_limit = _thousandths(each.get("limit", 0))
        numbers += [*differences(pair, before), _fine_log(each["value"]), own_limit - limit]
        before, limit = pair, own_limit
    for group in groups:
        numbers += [_ACTIONS.index(group["action"]), _fine_log(group["value"]), _thousandths(group["limit"])]
    return pack_numbers(numbers)


def _unpacked_measures(numbers: Iterator[int]) -> dict[str, Any]:
    names = unpack_measures(next(numbers))
    acting = {name: action for action in _ACTIONS[1:] for name in unpack_measures(next(numbers))}
    threshold = next(numbers)
    before, limit, measures = Pair(), 0, []
    for name in names:
        before = pair_after(before, numbers)
        arms = {arm: counts._asdict() for arm, counts in before._asdict().items()}
        measure = {"measure": name, **arms, "value": _value_of(next(numbers))}
        limit += next(numbers)
        measure |= {"limit": limit / _THOUSANDTHS} if limit else {}
        measure |= {"action": acting[name]} if name in acting else {}
        measure |= {"thresholdMs": threshold / _THOUSANDTHS} if threshold and name == "latency" else {}
        measures.append(measure)
    groups = [
        {"action": _ACTIONS[number], "value": _value_of(next(numbers)), "limit": next(numbers) / _THOUSANDTHS}
        for number in numbers
    ]
    return {"measures": measures, **({"groups": groups} if groups else {})}


def _thousandths(number: float) -> int:
    return round(number * _THOUSANDTHS)


def _fine_log(value: float) -> int:
    return round(log(max(value, 1 / MAX_REPORTED_EVIDENCE)) * _FINE)


def _value_of(fine_log: int) -> float:
    """Return a value with the three digits that are certain, which is what sentences show."""
    return float(f"{exp(fine_log / _FINE):.3g}")
