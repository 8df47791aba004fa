"""``headgate simulate --like``: the command on the past of a target, as CloudWatch has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import pytest
from click.testing import CliRunner, Result

from headgate.analysis.measures import dimensions_of
from headgate.spec.routing import groups_of
from headgate.targets.ecs_service.lookup import ServiceLookup
from headgate_cli.main import main
from headgate_cli.simulation.earlier import minutes_of_both
from headgate_cli.simulation.like_report import _caution
from headgate_cli.simulation.output import Caution
from headgate_cli.simulation.past import PastReader, metrics_of
from headgate_cli.simulation.wandering import own_noise
from headgate_cli.stack import Stack
from tests.fakes.past_metrics import SLOWER, PastMetrics
from tests.unit.analysis.service_plans import routing_of
from tests.unit.cli.fake_stack import FakeClient, FakeStack, refusal
from tests.unit.cli.played import PlayedHistory
from tests.views import promoted

if TYPE_CHECKING:
    from pathlib import Path

RUNS = ("--runs", "20", "--look-seconds", "10")


def minutes(rate: float = 0.002, per_minute: int = 1200, count: int = 400) -> PastMetrics:
    rng = np.random.default_rng(3)
    requests = rng.poisson(per_minute, count)
    return PastMetrics(requests.tolist(), rng.binomial(requests, rate).tolist())


@pytest.fixture
def client() -> Any:
    return boto3.client("cloudwatch", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")


class Target:
    """Runs the command against the metrics of a test."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._client, self._patch = client, monkeypatch

    def __call__(self, metrics: PastMetrics, *options: str) -> Result:
        metrics.attach(self._client)

        def client(_: Stack, service: str, **__: Any) -> Any:
            if service == "cloudwatch":
                return self._client
            raise refusal("AccessDenied", service)

        self._patch.setattr(Stack, "client", client)
        return CliRunner().invoke(main, ["simulate", "--like", "checkout:live", *RUNS, *options])

    def found(self, metrics: PastMetrics, *options: str) -> dict[str, Any]:
        result = self(metrics, *options, "--format", "json")
        assert result.exit_code == 0, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


@pytest.fixture
def target(client: Any, monkeypatch: pytest.MonkeyPatch) -> Target:
    return Target(client, monkeypatch)


def test_the_answer_has_the_targets_own_figures(target: Target) -> None:
    metrics = minutes()
    answer = target.found(metrics)

    assert answer["target"] == "checkout:live"
    assert answer["minutes"] == 400
    assert answer["requests_per_second"] == pytest.approx(20, rel=0.02)
    assert answer["error_rate"] == pytest.approx(0.002, rel=0.1)
    assert answer["candidate_requests"] == pytest.approx(0.1 * 300 * 20, rel=0.02)
    assert answer["false_rollbacks"]["share"] <= 0.1
    least = answer["least_errors"]
    assert 0.002 < least["rate"] < 0.05
    assert least["ratio"] == pytest.approx(least["rate"] / answer["error_rate"])
    assert least["failed_requests"]["median"] <= least["failed_requests"]["p90"]
    assert answer["least_slowdown"] is None
    assert answer["cautions"] == []
    assert "bakes twice as long" in [each["what"] for each in answer["helpful"]]
    assert answer["input"]["steps"] == [{"weight": 10, "bakeSeconds": 300}]


def test_all_days_that_cloudwatch_keeps_minutes_for_can_be_asked_for(client: Any) -> None:
    metrics = PastMetrics([600] * 100, [1] * 100)
    metrics.attach(client)
    stack: Any = SimpleNamespace(client=lambda _: client)

    assert PastReader(client, metrics_of(stack, "lambda-alias/checkout/live")).read(15).requests == 60_000


def test_what_is_asked_of_cloudwatch_is_each_minute_of_the_alias(target: Target) -> None:
    metrics = minutes()
    target(metrics, "--days", "2")
    (call,) = metrics.calls

    assert (call["EndTime"] - call["StartTime"]).total_seconds() == 2 * 86400
    asked = {
        (each["MetricStat"]["Metric"]["MetricName"], each["MetricStat"]["Stat"], each["MetricStat"]["Period"])
        for each in call["MetricDataQueries"]
    }
    assert asked == {(name, "Sum", 60) for name in ("Invocations", "Errors", "Throttles")}
    dimensions = call["MetricDataQueries"][0]["MetricStat"]["Metric"]["Dimensions"]
    assert dimensions == [{"Name": "FunctionName", "Value": "checkout"}, {"Name": "Resource", "Value": "checkout:live"}]


def test_pages_of_cloudwatch_change_nothing(client: Any) -> None:
    metrics = minutes()
    metrics.attach(client)
    reader = PastReader(client, metrics_of(Stack("headgate", None, None), "lambda-alias/checkout/live"))
    whole = reader.read(1, thresholds=())
    metrics.page_size = 333

    assert reader.read(1, thresholds=()) == whole
    assert len(metrics.calls) > 10


def test_without_a_threshold_the_percentiles_of_the_past_day_are_the_thresholds(target: Target) -> None:
    answer = target.found(minutes(), "--guards", '{"latency": {}}')

    assert answer["input"]["guards"]["latency"]["thresholdsMs"] == [ms for ms, _ in SLOWER]
    assert answer["least_errors"] is None
    assert 1 < answer["least_slowdown"]["factor"] < 2


def test_the_text_answers_in_a_few_lines(target: Target) -> None:
    told = target(minutes(), "--guards", '{"errors": {}, "latency": {"thresholdMs": 120.0}}').stdout
    words = " ".join(told.split())

    assert words.startswith("checkout:live, 400 minutes by the minute: ")
    assert "FALSE rollbacks: " in words
    assert "of 20 rollouts of a candidate that is no worse; alpha allows 1 %." in words
    assert "ERRORS: a candidate that fails " in words
    assert "LATENCY: a candidate whose requests take " in words
    assert len(told.splitlines()) < 25


def test_clusters_are_warned_of_with_what_to_set(target: Target) -> None:
    rng = np.random.default_rng(2)
    metrics = PastMetrics([600] * 900, (6 * rng.poisson(3, 900)).tolist())
    result = target(metrics, "--runs", "40", "--format", "json")
    answer = json.loads(result.stdout)
    (clusters,) = (each for each in answer["cautions"] if each["kind"] == "clusters")

    assert clusters["setting"] == "failuresPerCause"
    assert clusters["value"] in (6, 7)
    assert clusters["false_rollbacks"]["share"] > 0.1
    assert clusters["false_rollbacks_when_set"]["share"] <= 0.1
    # AND what cannot be read is a note
    assert any(note.startswith("earlier rollouts could not be read") for note in answer["notes"])
    told = _caution(Caution(**clusters))
    assert "If they hit both versions alike, that is harmless." in told
    assert f"With guards.failuresPerCause {clusters['value']:g}, " in told


def test_what_is_set_already_is_not_warned_of(target: Target) -> None:
    rng = np.random.default_rng(2)
    metrics = PastMetrics([600] * 900, (3 * rng.poisson(3, 900)).tolist())

    assert target.found(metrics, "--clumps", "4", "--noise", "2")["cautions"] == []


def test_strategy_and_guards_come_from_a_request_and_options_win(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(
        "target: {kind: lambda-alias, function: checkout, alias: live}\n"
        "strategy: {steps: [{weight: 5, bakeSeconds: 300}, {weight: 50, bakeSeconds: 300}]}\n"
        "guards: {errors: {tolerate: 0.2}, evidence: cloudwatch}\n"
    )
    answer = target.found(minutes(), "--file", str(file), "--alpha", "0.05", "--tolerate", "0.5")

    assert [step["weight"] for step in answer["input"]["steps"]] == [5, 50]
    guards = answer["input"]["guards"]
    assert (guards["errors"]["tolerate"], guards["alpha"], guards["evidence"]) == (0.5, 0.05, "cloudwatch")
    assert answer["input"]["look_seconds"] == 60
    assert any("one to three minutes late" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--minutes", "0.005"), "nothing to judge; give more --minutes"),
        (("--look-seconds", "7"), "must be a whole part of a minute with --like, such as 1, 5, 10 or 60 (given 7)"),
        (("--weight", "1", "--minutes", "500000"), "give --minutes, or fewer --runs"),
    ],
)
def test_a_time_that_cannot_be_simulated_is_refused(target: Target, options: tuple[str, ...], message: str) -> None:
    result = target(minutes(), "--look-seconds", "1", *options)

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_target_without_requests_is_an_error_with_the_way_out(target: Target) -> None:
    result = target(PastMetrics([0] * 5, [0] * 5))

    assert result.exit_code == 2
    assert "CloudWatch has no request to checkout:live in the past 7 days" in result.output
    assert "--rps and --baseline-error-rate" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--like", "checkout:live", "--rps", "5"), "--rps cannot be used with --like; remove one of them"),
        (("--like", "checkout:live", "--replay", "x"), "--like and --replay are two questions; ask one of them"),
        (("--like", "checkout:live", "--plot", "a.png"), "--plot cannot be used with --like"),
        (("--replay", "checkout-42", "--strategy", "AllAtOnce"), "never bakes with traffic on both versions"),
        (("--replay", "checkout-42", "--runs", "5"), "--runs cannot be used with --replay"),
        (("--days", "3"), "Missing option '--baseline-error-rate'"),
        (("--baseline-error-rate", "0", "--candidate-error-rate", "0", "--rps", "1", "--days", "3"),
         "--days needs --like; add it, or remove --days"),
        (("--baseline-error-rate", "0", "--candidate-error-rate", "0", "--rps", "1", "--guards", "{}"),
         "--guards needs --like or --replay; add it, or remove --guards"),
        (("--like", "checkout"), "--like must be a function and its alias"),
        (("--like", "checkout:live", "--days", "16"), "a number above 0 and at most 15"),
        (("--like", "checkout:live", "--guards", "errors"), "--guards is not JSON"),
        (("--like", "checkout:live", "--guards", "[]"), "--guards must be an object"),
        (("--like", "checkout:live", "--guards", '{"alarms": ["a"]}'), "these guards compare nothing"),
        (("--like", "checkout:live", "--guards", '{"erors": {}}'), "guards.erors"),
        (("--like", "0a9a5d5c-1d8f-4c0e-9a51-3b6d1f2e7c11"), "a consumer has no metrics of its own"),
    ],
)  # fmt: skip
def test_options_that_do_not_belong_together_are_refused(options: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["simulate", *options, "--region", "eu-central-1"])

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


class TestEarlierRollouts:
    """What both versions did in promoted rollouts tells how each wanders on its own."""

    def history(self, minutes: int) -> PlayedHistory:
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        began, ended = (f"{now - timedelta(minutes=ago):%Y-%m-%dT%H:%M:%S}.000Z" for ago in (minutes, 0))
        return PlayedHistory(promoted(started_at=began, ended_at=ended))

    def wandering(self, cv: float) -> PastMetrics:
        rng = np.random.default_rng(4)
        common = rng.gamma(4, 1 / 4, 900)
        own = rng.gamma(1 / cv**2, cv**2, (900, 2)) if cv else np.ones((900, 2))
        failures = rng.poisson(40 * common[:, None] * own)
        metrics = PastMetrics([6000] * 900, failures.sum(axis=1).tolist())
        for arm, version in enumerate(("8", "7")):
            metrics.of_versions["Invocations", version] = [3000] * 900
            metrics.of_versions["Errors", version] = failures[:, arm].tolist()
        return metrics

    def test_common_bursts_are_no_noise_where_both_versions_were_counted(
        self, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headgate_cli.rollouts.history_of", lambda _: self.history(900))
        answer = target.found(self.wandering(0))

        assert [each for each in answer["cautions"] if each["kind"] == "noise" and each["value"] > 0.1] == []

    def test_a_version_that_wanders_is_measured(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wandering(0.4).attach(client)
        monkeypatch.setattr(Stack, "client", lambda *_, **__: client)
        both = minutes_of_both(Stack("headgate", None, None), self.history(900), "lambda-alias/checkout/live")

        assert len(both) == 900
        assert own_noise(both) == pytest.approx(0.4, rel=0.15)

    def test_rollouts_before_what_cloudwatch_keeps_are_left_out(
        self, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.wandering(0.4).attach(client)
        monkeypatch.setattr(Stack, "client", lambda *_, **__: client)
        long_ago = self.history(16 * 1440)
        assert minutes_of_both(Stack("headgate", None, None), long_ago, "lambda-alias/checkout/live") == []


def test_a_service_is_read_by_its_target_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    routing = routing_of()
    monkeypatch.setattr(ServiceLookup, "find", lambda *_: SimpleNamespace(routing=routing))
    metrics = metrics_of(FakeStack(ecs=FakeClient(), elbv2=FakeClient()), "ecs-service/web/shop")

    assert metrics.namespace == "AWS/ApplicationELB"
    assert metrics.failures == ("HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount")
    assert metrics.dimensions == [dimensions_of(group) for arm in ("stable", "candidate")
                                  for group in groups_of(routing, arm)]  # fmt: skip
    assert metrics.unit_ms == 1000
    assert len({query["Id"] for query in metrics.queries("f", metrics.failures, "Sum", 60)}) == 4
