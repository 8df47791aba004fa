"""The sample hooks."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import (
    event,
)

if TYPE_CHECKING:
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda


class TestSampleHooks:
    def test_the_smoke_test_passes_where_the_candidate_answers_as_expected(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.answers["7"] = lambda payload: {"total": payload["items"][0]["price"] * 2, "release": "2"}
        assert deployed.call("smoke_tester") == {
            "hookStatus": "SUCCEEDED",
            "hookDetails": {"cases": 1, "version": "7"},
        }

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (
                {"total": 8},
                "case 1: version 7 returned an unexpected response: $.total is another number than expected",
            ),
            (ValueError("boom"), "case 1: version 7 failed: ValueError; see the logs of checkout"),
        ],
    )
    def test_the_smoke_test_fails_where_it_does_not(
        self, deployed: Functions, checkout: FakeLambda, answer: Any, reason: str
    ) -> None:
        checkout.answers["7"] = answer
        assert deployed.call("smoke_tester") == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}

    def test_without_cases_the_smoke_test_sees_whether_the_candidate_answers_at_all(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        payload = event("smoke_tester") | {"config": {}}
        assert deployed.call("smoke_tester", payload)["hookStatus"] == "SUCCEEDED"
        assert deployed.call("smoke_tester", payload | {"candidate": "99"})["hookStatus"] == "FAILED"

    @pytest.mark.parametrize(
        ("hook", "config", "reason"),
        [
            (
                "smoke_tester",
                {"payload": {}, "expect": {"total": 7}},
                "config.payload is not a known field; give cases",
            ),
            (
                "smoke_tester",
                {"cases": [{}, {"expected": {"total": 7}}]},
                "config.cases[1].expected is not a known field; give payload or expect",
            ),
            ("smoke_tester", {"cases": ["ping"]}, 'config.cases[0] is "ping"; give an object with payload or expect'),
            ("smoke_tester", {"cases": {"payload": {}}}, "config.cases is not a list"),
            ("smoke_tester", {"cases": 3}, "config.cases is not a list"),
            (
                "version_checker",
                {"cases": []},
                "config.cases is not a known field; give payload or expect or invocations",
            ),
            *(
                (
                    "version_checker",
                    {"invocations": number},
                    f"config.invocations is {told}; must be a whole number of 1 or more",
                )
                for number, told in ((0, "0"), (-1, "-1"), ("3", '"3"'), (True, "true"), (1.5, "1.5"), (None, "null"))
            ),
        ],
    )
    def test_what_they_cannot_read_of_their_config_fails_them(
        self, deployed: Functions, checkout: FakeLambda, hook: str, config: Any, reason: str
    ) -> None:
        checkout.point("live", "7")
        told = deployed.call(hook, event(hook) | {"config": config})
        assert told == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}

    def test_the_version_check_passes_where_the_alias_serves_the_candidate(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.point("live", "7")
        assert deployed.call("version_checker") == {
            "hookStatus": "SUCCEEDED",
            "hookDetails": {"invocations": 3, "version": "7"},
        }

    def test_the_version_check_fails_where_another_version_answers(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # An alias may take a moment to be the same everywhere: it asks again twice.
        payload, reason = event("version_checker"), "alias live served version 6, not 7"
        for tries in (1, 2):
            answer = deployed.call("version_checker", payload)
            details = {"tries": tries, "reason": reason}
            assert answer == {"hookStatus": "IN_PROGRESS", "callBackDelay": 2, "hookDetails": details}
            payload |= {"hookDetails": details}
        answer = deployed.call("version_checker", payload)
        assert answer == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}

    def test_the_version_check_passes_where_the_alias_has_come_round_in_the_meantime(
        self, deployed: Functions, checkout: FakeLambda
    ) -> None:
        waited = {"tries": 1, "reason": "alias live served version 6, not 7"}
        checkout.point("live", "7")
        answer = deployed.call("version_checker", event("version_checker") | {"hookDetails": waited})
        assert answer["hookStatus"] == "SUCCEEDED"

    @pytest.mark.parametrize("hook", ["smoke_tester", "version_checker"])
    def test_of_a_consumer_they_test_the_function_that_its_mapping_points_at(
        self, deployed: Functions, checkout: FakeLambda, hook: str
    ) -> None:
        # GIVEN a consumer's event: its target is a mapping, and the alias behind it comes beside it
        checkout.point("live", "7")
        checkout.answers["7"] = {"total": 7}
        payload = event(hook)
        payload["through"] = payload["target"]
        payload["target"] = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "mode": "ramp"}
        # THEN they answer as they do for the alias itself
        assert deployed.call(hook, payload)["hookStatus"] == "SUCCEEDED"
        checkout.answers["7"] = ValueError("boom")
        assert deployed.call(hook, payload)["hookStatus"] == "FAILED"

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"total": 8}, "version 7 returned an unexpected response: $.total is another number than expected"),
            (ValueError("boom"), "version 7 failed: ValueError; see the logs of checkout"),
        ],
    )
    def test_the_version_check_fails_where_the_answer_is_bad(
        self, deployed: Functions, checkout: FakeLambda, answer: Any, reason: str
    ) -> None:
        checkout.point("live", "7")
        checkout.answers["7"] = answer
        told = deployed.call("version_checker", event("version_checker") | {"config": {"expect": {"total": 7}}})
        assert told == {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}
