"""Counts that functions answer: what they are asked, what is believed of an answer, and what becomes of a bad one."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from headgate.analysis import count_functions
from headgate.analysis.cloudwatch_counts import MINUTE_MS, count_points
from headgate.analysis.count_functions import (
    ANSWER_SECONDS,
    AT_ONCE,
    MAX_ANSWER_BYTES,
    MAX_FAULT_CHARACTERS,
    CountFault,
    CountFunctions,
    counts_in,
)
from headgate.analysis.evidence import JudgeTerms, Pair
from headgate.analysis.judge import Arm
from headgate.aws.observability import logger
from tests.builders import REGION, TARGET, nothing_counted, plan_of
from tests.fakes.cloudwatch import BEGUN, FIVE_MINUTES
from tests.fakes.services import FakeLambda, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.spec.plan import Plan

NOW = BEGUN // MINUTE_MS * MINUTE_MS + 30 * MINUTE_MS + 12_000
UNTIL = NOW - 12_000
SINCE = UNTIL - 20 * MINUTE_MS
REVISIONS: Any = {"candidate": "7", "stable": "6"}


NAMES = st.sampled_from(["minutes", "minute", "candidate", "stable", "requests", "failures", "more"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
"""JSON of any shape, with the names that an answer has."""


def iso(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def entry(ago: int = 1, candidate: Any = (100, 3), stable: Any = (900, 4), **more: Any) -> dict[str, Any]:
    """The counts of a minute that began ``ago`` minutes before the end of the last one."""
    arms = {"candidate": candidate, "stable": stable}
    counts = {name: {"requests": arm[0], "failures": arm[1]} for name, arm in arms.items()}
    return {"minute": iso(UNTIL - ago * MINUTE_MS), **counts, **more}


def bytes_of(*minutes: Any) -> bytes:
    return json.dumps({"minutes": list(minutes)}).encode()


def guarded(*functions: str, rollout_id: str = "checkout-42", config: Any = None) -> Plan:
    """A plan with a guard for each function."""
    custom = [
        {"name": f"orders {number}", "counts": {"lambda": name, "config": config or {}}}
        for number, name in enumerate(functions)
    ]
    return plan_of(rollout_id, strategy=FIVE_MINUTES, guards={"custom": custom})


@pytest.fixture
def shop() -> FakeLambda:
    return FakeLambda()


@pytest.fixture
def functions(shop: FakeLambda) -> Iterator[CountFunctions]:
    client = boto3.client("lambda", region_name=REGION)
    detach = shop.attach(client)
    yield CountFunctions(client)
    detach()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """A function that takes ten seconds of the clock, and no other is asked meanwhile."""
    clock = {"now": 0.0}
    monkeypatch.setattr(count_functions, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(count_functions, "AT_ONCE", 1)

    def answer(_: Any) -> Any:
        clock["now"] += ANSWER_SECONDS
        return {"minutes": []}

    return answer


def read(functions: CountFunctions, *plans: Plan) -> Any:
    return functions.read([(plan, REVISIONS) for plan in plans], NOW)


class TestQuestion:
    def test_it_asks_for_the_minutes_that_are_complete(self, shop: FakeLambda, functions: CountFunctions) -> None:
        shop.others["counts"] = lambda _: {"minutes": []}
        read(functions, guarded("counts", config={"metric": "orders"}))
        assert shop.asked == [
            {
                "version": 1,
                "rolloutId": "checkout-42",
                "target": TARGET,
                "guard": "orders 0",
                "revisions": {"candidate": "7", "stable": "6"},
                "from": iso(SINCE),
                "to": iso(UNTIL),
                "minutes": 20,
                "config": {"metric": "orders"},
            }
        ]

    def test_functions_are_asked_side_by_side(self, shop: FakeLambda, functions: CountFunctions) -> None:
        # GIVEN ten functions that all wait for each other
        together = threading.Barrier(10, timeout=5)
        for number in range(10):
            shop.others[f"f{number}"] = lambda _: {"minutes": [entry()]} if together.wait() >= 0 else None
        # WHEN they are asked THEN each has answered
        found = read(functions, guarded(*(f"f{number}" for number in range(10))))["checkout-42"]
        assert (len(found.points), found.faults) == (10, {})

    def test_nobody_is_asked_where_no_guard_names_a_function(self, functions: CountFunctions) -> None:
        assert read(functions, plan_of()) == {"checkout-42": ({}, {})}

    def test_slow_functions_of_one_rollout_leave_time_for_the_others(
        self, shop: FakeLambda, functions: CountFunctions, slow: Callable[[Any], Any]
    ) -> None:
        # GIVEN more slow functions than are asked at once, and a clock on which each of them takes ten seconds
        shop.others = {"slow": slow, "quick": lambda _: {"minutes": [entry()]}}
        # WHEN a rollout with four of them is asked before one with a quick one
        found = read(functions, guarded(*["slow"] * 4, rollout_id="slow"), guarded("quick", rollout_id="quick"))
        # THEN the quick one has its turn, and who had none is told so
        assert found["quick"].faults == {}
        assert found["slow"].faults == {
            f"custom{number}": f"guards.custom[{number}].counts: slow was not asked, because other functions took 15 s"
            for number in (2, 3)
        }

    def test_slow_functions_of_many_rollouts_take_turns(
        self, shop: FakeLambda, functions: CountFunctions, slow: Callable[[Any], Any]
    ) -> None:
        # GIVEN five rollouts, and a clock on which there is time for the functions of two
        shop.others = {"slow": slow}
        plans = [guarded("slow", rollout_id=f"rollout-{number}") for number in range(5)]
        # WHEN they are asked in five minutes
        for minute in range(5):
            functions.read([(plan, REVISIONS) for plan in plans], NOW + minute * MINUTE_MS)
        # THEN each was asked twice
        assert Counter(event["rolloutId"] for event in shop.asked) == {plan.rollout_id: 2 for plan in plans}


class TestAnswer:
    def test_it_is_counted_by_minute(self, shop: FakeLambda, functions: CountFunctions) -> None:
        shop.others["counts"] = lambda _: {"minutes": [entry(1), entry(2, (5, 0), (0, 0)), entry(3, (0, 0), (0, 0))]}
        assert read(functions, guarded("other", "counts"))["checkout-42"].points == {
            (UNTIL - MINUTE_MS, "custom1"): Pair(Arm(100, 3), Arm(900, 4)),
            (UNTIL - 2 * MINUTE_MS, "custom1"): Pair(Arm(5, 0), Arm()),
        }

    def test_a_minute_that_grows_is_judged_by_what_it_grew(self, shop: FakeLambda, functions: CountFunctions) -> None:
        plan = guarded("counts")
        terms = JudgeTerms.of(plan.guards)
        ledger = nothing_counted("checkout-42", {0: SINCE})
        for candidate in ((10, 1), (10, 1), (30, 2), (20, 1)):
            answer = {"minutes": [entry(2, candidate, (90, 0))]}
            shop.others["counts"] = partial(lambda answer, _: answer, answer)
            points = read(functions, plan)["checkout-42"].points
            ledger, _ = count_points(ledger, terms, points, NOW)
        # An answer again adds nothing, and one that shrinks takes nothing away.
        assert ledger.total("custom0") == Pair(Arm(30, 2), Arm(90, 0))

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (b"", 'answered what is not JSON: ""'),
            (b"<html>", 'answered what is not JSON: "<html>"'),
            (b"[" * 50_000, "answered what is not JSON: "),
            (b'{"minutes": [{"minute": NaN}]}', "answered what is not JSON: "),
            (b"\xff\xfe", "answered what is not JSON: "),
            (b"null", "answered what is no object: null"),
            (b"[]", "answered what is no object: []"),
            (b"{}", "answered what is no count: minutes: is missing; add it"),
            (b'{"minutes": 3}', "answered what is no count: minutes: must be a list (given 3)"),
            (b'{"minutes": [], "more": 1}', "answered what is no count: more: is not a known field"),
            (bytes_of(7), "minutes[0]: must be an object (given 7)"),
            (bytes_of({}), "minutes[0].minute: is missing; add it; minutes[0].candidate: is missing; add it"),
            (bytes_of(entry(more=1)), "minutes[0].more: is not a known field; remove it (given 1)"),
            (
                bytes_of(entry(minute=5)),
                "minutes[0].minute: must be the start of a minute, such as 2026-12-01T08:15:00Z",
            ),
            (bytes_of(entry(minute="now")), "minutes[0].minute: must be the start of a minute"),
            (bytes_of(entry(minute=iso(UNTIL)[:-1])), "minutes[0].minute: must be the start of a minute"),
            (bytes_of(entry(minute=iso(UNTIL - 1000))), "minutes[0].minute: must be the start of a minute"),
            (bytes_of(entry(minute="0001-01-01T00:00:00+23:59")), "minutes[0].minute: must be the start of a minute"),
            (bytes_of(entry(minute="0001-01-01T00:00:00Z")), "minutes[0].minute: is outside the minutes"),
            (bytes_of(entry(0)), f"minutes[0].minute: is outside the minutes from {iso(SINCE)} to {iso(UNTIL)} ("),
            (bytes_of(entry(1), entry(21)), "minutes[1].minute: is outside the minutes"),
            (bytes_of(entry(1), entry(2), entry(1)), f"minutes[2].minute: is there twice ({iso(UNTIL - MINUTE_MS)})"),
            (bytes_of(entry(candidate=(3, 4))), "minutes[0].candidate: has more failures than requests (given {"),
            (bytes_of(entry(stable=(-1, -1))), "minutes[0].stable.requests: must be at least 0 (given -1)"),
            (bytes_of(entry(stable=(1.5, 0))), "minutes[0].stable.requests: must be a whole number (given 1.5)"),
            (bytes_of(entry(stable=(True, 0))), "minutes[0].stable.requests: must be a whole number (given true)"),
            (bytes_of(entry(stable=("9", 0))), "minutes[0].stable.requests: must be a whole number, without quotes"),
            (bytes_of(entry(stable=(None, 0))), "minutes[0].stable.requests: must be a whole number (given null)"),
            (bytes_of(entry(stable=(10**12 + 1, 0))), "minutes[0].stable.requests: must be at most 1000000000000"),
            (b'{"minutes": [' + b"9" * 5000 + b"]}", "answered what is not JSON: "),
            (b'"' + b"x" * MAX_ANSWER_BYTES + b'"', "answered more than 64 KB"),
        ],
    )
    def test_one_that_is_not_as_documented_is_no_data_and_says_what_is_wrong(
        self, shop: FakeLambda, functions: CountFunctions, answer: bytes, told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shop, "Invoke", lambda **_: {"StatusCode": 200, "Payload": io.BytesIO(answer)})
        points, faults = read(functions, guarded("counts"))["checkout-42"]
        assert points == {}
        assert faults["custom0"].startswith("guards.custom[0].counts: counts answered ")
        assert told in faults["custom0"]
        assert len(faults["custom0"]) <= MAX_FAULT_CHARACTERS

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
    def test_whatever_a_count_is_the_answer_is_counted_or_refused(self, value: Any) -> None:
        try:
            (pair,) = counts_in(bytes_of(entry(candidate=(value, 0))), SINCE, UNTIL).values()
        except CountFault:
            assert type(value) is not int or not 0 <= value <= 10**12
        else:
            assert pair.candidate == Arm(value, 0)

    @given(st.binary() | ANYTHING.map(lambda value: json.dumps(value).encode()))
    def test_no_answer_does_anything_but_count_or_be_refused(self, answer: bytes) -> None:
        try:
            counts = counts_in(answer, SINCE, UNTIL)
        except CountFault:
            return
        assert all(SINCE <= minute < UNTIL for minute in counts)

    def test_a_minute_may_be_in_another_time_zone(self) -> None:
        local = time.strftime("%Y-%m-%dT%H:%M:%S+02:00", time.gmtime(SINCE / 1000 + 7200))
        assert list(counts_in(bytes_of(entry(minute=local)), SINCE, UNTIL)) == [SINCE]


class TestFailure:
    """A function that fails costs its own guard the look, and nobody else."""

    @pytest.fixture
    def warned(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        monkeypatch.setattr(logger, "warning", lambda _, **fields: told.append(fields))
        return told

    @pytest.mark.parametrize(
        ("failure", "told"),
        [
            (ReadTimeoutError(endpoint_url="there"), "did not answer within 10 s"),
            (ConnectTimeoutError(endpoint_url="there"), "cannot be called: Connect timeout on endpoint"),
            (
                Refusal("TooManyRequestsException", "Rate Exceeded.", 429),
                "cannot be called: TooManyRequestsException: Rate Exceeded.",
            ),
            (Refusal("ResourceNotFoundException", "no such"), "cannot be called: ResourceNotFoundException: no such"),
        ],
    )
    def test_the_others_are_counted_and_the_log_names_it(
        self,
        shop: FakeLambda,
        functions: CountFunctions,
        warned: list[dict[str, Any]],
        monkeypatch: pytest.MonkeyPatch,
        failure: Exception,
        told: str,
    ) -> None:
        answer: Callable[..., Any] = shop.Invoke
        shop.others["sound"] = lambda _: {"minutes": [entry()]}

        def invoke(FunctionName: str, **given: Any) -> Any:  # noqa: N803
            if FunctionName == "broken":
                raise failure
            return answer(FunctionName, **given)

        monkeypatch.setattr(shop, "Invoke", invoke)
        found = read(functions, guarded("sound", "broken"), guarded("sound", rollout_id="other"))
        assert {rollout_id: len(counts.points) for rollout_id, counts in found.items()} == {
            "checkout-42": 1,
            "other": 1,
        }
        assert found["checkout-42"].faults["custom1"].startswith(f"guards.custom[1].counts: broken {told}")
        (warning,) = warned
        assert warning == {"rollout_id": "checkout-42", "reason": found["checkout-42"].faults["custom1"]}

    def test_the_error_of_a_function_is_told_by_its_type_alone(
        self, shop: FakeLambda, functions: CountFunctions
    ) -> None:
        shop.others["counts"] = ValueError("a secret")  # type: ignore[assignment]
        assert read(functions, guarded("counts"))["checkout-42"].faults == {
            "custom0": "guards.custom[0].counts: counts failed with ValueError; see the logs of counts"
        }

    def test_a_rollout_with_as_many_guards_as_it_may_have_is_asked_at_once(self) -> None:
        assert AT_ONCE >= 10
