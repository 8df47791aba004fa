"""The function planner."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from headgate.analysis.telemetry_notes import TelemetryNotes
from headgate.aws.patterns import Patterns
from headgate.errors import RequestRefused
from headgate.rollouts.record import RejectedCode
from headgate.spec.plan import Plan
from tests.builders import (
    TABLE,
    TARGET,
    TARGET_KEY,
    event,
)
from tests.fakes.services import FakeLambda, Refusal, sha256_of
from tests.fakes.sqs import arn
from tests.fakes.stacks import FakeStacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions


@pytest.mark.usefixtures("dynamodb")
class TestPlanner:
    @pytest.fixture
    def asked(self, checkout: FakeLambda) -> FakeLambda:
        """The hooks that the request names can be asked."""
        checkout.others = dict.fromkeys(("headgate-smoke-tester", "headgate-version-checker"), dict)
        return checkout

    @pytest.fixture(autouse=True)
    def stacks(self, deployed: Functions) -> Iterator[FakeStacks]:
        """CloudFormation; no stack owns anything."""
        fake = FakeStacks()
        detach = fake.attach(deployed.client("cloudformation"))
        yield fake
        detach()

    def test_a_function_that_no_parameter_covers_is_refused_by_the_parameters_name(
        self, deployed: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployed.module("planner").planner, "patterns", Patterns({"TargetFunctions": "shop-*"}))
        payload = event("planner")
        payload["request"] = {"target": TARGET}
        with pytest.raises(RequestRefused) as refused:
            deployed.call("planner", payload)
        assert str(refused.value).startswith(
            'target.function: checkout is not covered by Headgate\'s parameter TargetFunctions, which is "shop-*"'
        )

    def test_it_warns_of_an_alias_that_a_stack_owns(
        self, deployed: Functions, alarm: Any, asked: FakeLambda, stacks: FakeStacks
    ) -> None:
        alarm("OK")
        stacks.owned["arn:aws:lambda:eu-central-1:123456789012:function:checkout:live"] = ("shop", "CheckoutAliaslive")
        plan = deployed.call("planner")["plan"]
        warning = (
            "target.alias: checkout:live is resource CheckoutAliaslive of the CloudFormation stack shop, and deploying "
            "that stack may move it; run headgate adopt checkout:live, which shows how to take it over from the stack "
            "step by step"
        )
        assert plan["warnings"] == [warning]
        assert plan | {"warnings": []} == event("acquirer")["plan"]

    @pytest.mark.parametrize(
        "failure",
        [Refusal("AccessDenied"), Refusal("Throttling", "Rate exceeded"), ConnectTimeoutError(endpoint_url="there")],
    )
    def test_a_look_that_fails_costs_a_warning_and_not_the_rollout(
        self, deployed: Functions, alarm: Any, asked: FakeLambda, stacks: FakeStacks, failure: Exception
    ) -> None:
        alarm("OK")
        stacks.failure = failure
        assert deployed.call("planner")["plan"] == event("acquirer")["plan"]
        assert stacks.asked == 1  # It is not tried again: nobody waits for it.

    def test_it_refuses_a_function_of_headgate_as_a_target(self, deployed: Functions, checkout: FakeLambda) -> None:
        target = TARGET | {"function": "headgate-publisher"}
        with pytest.raises(RequestRefused, match=r"^target\.function: headgate-publisher is one of Headgate's own"):
            deployed.call("planner", {"request": {"target": target}, "executionName": "e-1"})

    def test_it_refuses_a_hook_that_does_not_exist(self, deployed: Functions, alarm: Any, asked: FakeLambda) -> None:
        alarm("OK")
        del asked.others["headgate-version-checker"]
        with pytest.raises(RequestRefused, match=r"hooks\.\w+\[0\]\.lambda: headgate-version-checker cannot be called"):
            deployed.call("planner")

    @pytest.mark.parametrize("then", ["rollback", "promote"])
    def test_it_notes_what_becomes_of_a_failure(self, deployed: Functions, then: str) -> None:
        wish = {"pause": {"at": "zero", "limitSeconds": 60, "then": then}}
        payload = {"request": {"target": TARGET, "onFailure": wish}, "executionName": "by-hand"}
        plan = deployed.call("planner", payload)["plan"]
        assert (plan["pausesOnFailure"], plan["pause"]) == (True, wish["pause"])

    def test_it_works_the_request_out(self, deployed: Functions, alarm: Any, asked: FakeLambda) -> None:
        alarm("OK")
        expected = {name: event("acquirer")[name] for name in ("request", "plan")}
        assert deployed.call("planner") == expected

    def test_it_says_what_guards_a_request_that_names_nothing(self, deployed: Functions, dynamodb: Any) -> None:
        asked = {"target": TARGET, "strategy": {"steps": [{"weight": 10, "bakeSeconds": 3}]}}

        def planned(**more: Any) -> Plan:
            answer = deployed.call("planner", {"request": asked | more, "executionName": "e-1"})
            return Plan.model_validate(answer["plan"])

        # GIVEN a target that sends no telemetry, WHEN a short rollout of it is planned
        # THEN it runs, and says that nothing guards it
        assert not planned().guards.protect
        assert "nothing guards this rollout" in planned().warnings[0]
        assert planned(guards="none").warnings == []
        # GIVEN telemetry of it, THEN its errors are compared
        TelemetryNotes(dynamodb, TABLE).note({TARGET_KEY})
        assert planned().guards.errors is not None
        assert planned().warnings == []

    def test_it_refuses_to_publish_rejected_code_that_is_still_in_latest(
        self, deployed: Functions, table: Table, checkout: FakeLambda
    ) -> None:
        plain: list[dict[str, Any]] = [{}, {"publish": {}}]
        other: list[dict[str, Any]] = [{"version": "7"}, {"code": {"s3Bucket": "releases", "s3Key": "k"}}]

        def planned(**candidate: Any) -> Any:
            request = {"target": TARGET, "guards": "none"} | ({"candidate": candidate} if candidate else {})
            return deployed.call("planner", {"request": request, "executionName": "e-1"})["plan"]["warnings"]

        # GIVEN code that a rollout rejected and could not take out of $LATEST
        code = checkout.code = "bad"
        assert planned() == []
        table.transact(table.put_rejected_code("checkout", RejectedCode(sha256_of(code), "checkout-41")))
        # THEN neither a plain publish nor the default candidate is planned
        for candidate in plain:
            with pytest.raises(RequestRefused, match=r"candidate\.publish: .* rollout checkout-41 rejected"):
                planned(**candidate)
        # AND other candidates are, with a warning unless they confirm it
        assert planned(publish={"confirm": sha256_of(code)}) == []
        for candidate in other:
            (warning,) = planned(**candidate)
            assert "$LATEST of checkout holds the code that rollout checkout-41 rejected" in warning
            assert sha256_of(code) in warning
        # WHEN the code was changed, or serves meanwhile, THEN nothing is said
        checkout.code = "fixed"
        assert planned() == planned(version="7") == []
        checkout.code = "code-6"
        table.transact(table.put_rejected_code("checkout", RejectedCode(sha256_of("code-6"), "checkout-40")))
        assert planned() == planned(version="7") == []

    def test_it_refuses_other_code_than_the_request_confirms(self, deployed: Functions, checkout: FakeLambda) -> None:
        candidate = {"publish": {"confirm": sha256_of("new")}}
        payload = {"request": {"target": TARGET, "candidate": candidate}, "executionName": "e-1"}
        with pytest.raises(
            RequestRefused, match=r"candidate\.publish\.confirm: \$LATEST of checkout has the CodeSha256"
        ):
            deployed.call("planner", payload)

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
    def test_it_leaves_a_function_that_it_cannot_read_to_the_driver(
        self, deployed: Functions, checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal(code)

        monkeypatch.setattr(checkout, "GetFunction", refuse)
        candidate = {"publish": {"confirm": sha256_of("new")}}
        payload = {"request": {"target": TARGET, "candidate": candidate}, "executionName": "e-1"}
        assert deployed.call("planner", payload)["plan"]["candidate"] == candidate

    def test_it_refuses_a_function_that_headgate_does_not_support(
        self, deployed: Functions, checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        get_function = checkout.GetFunction

        def answer(**given: Any) -> Any:
            found = get_function(**given)
            return found | {"Configuration": found["Configuration"] | {"Timeout": 5400}}

        monkeypatch.setattr(checkout, "GetFunction", answer)
        candidate = {"publish": {"confirm": sha256_of(checkout.code)}}
        payload = {"request": {"target": TARGET, "candidate": candidate}, "executionName": "e-1"}
        with pytest.raises(RequestRefused, match=r"^candidate: version \$LATEST of checkout has a Timeout of 5400 s"):
            deployed.call("planner", payload)

    def test_it_fails_when_lambda_fails(
        self, deployed: Functions, checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**_: Any) -> Any:
            raise Refusal("ServiceException")

        monkeypatch.setattr(checkout, "GetFunction", fail)
        candidate = {"publish": {"confirm": sha256_of("new")}}
        with pytest.raises(ClientError):
            deployed.call("planner", {"request": {"target": TARGET, "candidate": candidate}, "executionName": "e-1"})

    def test_it_notes_the_alarms_that_fire_already(self, deployed: Functions, alarm: Any, asked: FakeLambda) -> None:
        alarm("ALARM")
        plan = deployed.call("planner")["plan"]
        assert plan["firing"] == ["checkout-errors"]
        (warning,) = plan["warnings"]
        assert warning.startswith("guards.alarms: checkout-errors fires already, and counts only once it has recovered")

    def test_it_refuses_a_firing_alarm_where_alarms_are_strict(
        self, deployed: Functions, alarm: Any, asked: FakeLambda
    ) -> None:
        alarm("ALARM")
        payload = event("planner")
        payload["request"]["guards"]["strictAlarms"] = True
        with pytest.raises(RequestRefused, match=r"guards\.alarms: checkout-errors already fires"):
            deployed.call("planner", payload)

    def test_it_refuses_an_alarm_that_does_not_exist(self, aws: None, deployed: Functions, asked: FakeLambda) -> None:
        with pytest.raises(RequestRefused, match=r"guards\.alarms: no alarm is named checkout-errors"):
            deployed.call("planner")

    @pytest.mark.parametrize("where", ["eu-central-1:999999999999", "us-east-1:123456789012"])
    def test_it_refuses_a_target_elsewhere(self, deployed: Functions, where: str) -> None:
        target = TARGET | {"function": f"arn:aws:lambda:{where}:function:checkout"}
        with pytest.raises(RequestRefused, match="this Headgate serves 123456789012, eu-central-1"):
            deployed.call("planner", {"request": {"target": target}, "executionName": "e-1"})

    def test_it_refuses_a_target_of_another_partition(self, deployed: Functions) -> None:
        target = TARGET | {"function": "arn:aws-cn:lambda:eu-central-1:123456789012:function:checkout"}
        with pytest.raises(RequestRefused, match=r"target\.function: is in partition aws-cn; this Headgate"):
            deployed.call("planner", {"request": {"target": target}, "executionName": "e-1"})

    def test_it_refuses_to_compare_errors_without_telemetry(
        self, deployed: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployed.module("planner").planner, "telemetry", False)
        with pytest.raises(RequestRefused, match=r"guards\.errors: .* set Headgate's parameter Telemetry to true"):
            deployed.call("planner")

    @pytest.mark.parametrize(("source", "mode"), [(arn("orders"), "split"), (arn("orders.fifo"), "ramp")])
    def test_it_finds_the_alias_and_the_mode_of_a_consumer(
        self, deployed: Functions, asked: FakeLambda, source: str, mode: str
    ) -> None:
        mapping = asked.map(time.time, source)
        target = {"kind": "event-source", "mapping": mapping.uuid}
        guards = {"source": {"deadLetters": 0}}
        answer = deployed.call("planner", {"request": {"target": target, "guards": guards}, "executionName": "e-1"})
        plan = Plan.model_validate(answer["plan"])
        assert (plan.target.to_wire(), plan.alias.key) == (target | {"mode": mode}, TARGET_KEY)
        assert plan.driver.endswith("event-source-driver")
        # What was asked for stays as it was: the same request again is a duplicate.
        assert answer["request"]["target"] == target

    def test_it_refuses_a_guard_that_a_consumer_gives_no_evidence_for(
        self, deployed: Functions, asked: FakeLambda
    ) -> None:
        target = {"kind": "event-source", "mapping": asked.map(time.time, arn("orders")).uuid, "mode": "ramp"}
        payload = {"request": {"target": target, "guards": {"errors": {}}}, "executionName": "e-1"}
        with pytest.raises(RequestRefused, match=r"guards\.errors: compares both versions, but in a ramp"):
            deployed.call("planner", payload)

    def test_it_refuses_limits_of_a_source_for_an_alias(self, deployed: Functions, asked: FakeLambda) -> None:
        payload = {"request": {"target": TARGET, "guards": {"source": {"deadLetters": 0}}}, "executionName": "e-1"}
        with pytest.raises(
            RequestRefused, match=r"guards\.source: is only for targets of kind event-source, not lambda-alias"
        ):
            deployed.call("planner", payload)

    def test_the_executions_name_serves_as_id_where_the_request_has_none(self, deployed: Functions) -> None:
        answer = deployed.call("planner", {"request": {"target": TARGET}, "executionName": "by-hand"})
        assert answer["plan"]["rolloutId"] == answer["request"]["id"] == "by-hand"
