"""``headgate cost``: its options, its errors, and what it prints."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from headgate_cli.costs.requests import called
from headgate_cli.main import main
from headgate_cli.stack import Stack
from tests.builders import ROOT
from tests.unit.cli.played import PlayedHistory
from tests.views import view_of

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["cost", *arguments, "--region", "us-east-1"], input=typed)


def found(*arguments: str, typed: str | None = None) -> Any:
    result = run(*arguments, "--format", "json", typed=typed)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_strategy_costs_by_its_steps() -> None:
    cost = found("plan", "--strategy", "Linear10PercentEvery1Minute")

    assert cost["subject"] == "rollout of 9 steps"
    assert cost["total"] == pytest.approx(0.001509, rel=0.01)


def test_evidence_is_added_to_a_strategy() -> None:
    plain, judged = (
        found("plan", "--strategy", '{"canary": {"percent": 10, "bakeSeconds": 600}}', "--evidence", evidence)["total"]
        for evidence in ("none", "cloudwatch")
    )

    assert judged - plain == pytest.approx(10 * 4 * 0.00001)


@pytest.mark.parametrize("name", ["rollout_requested", "rollout_requested_hooks"])
def test_a_request_is_read_from_a_file(name: str) -> None:
    assert found("plan", "--file", str(ROOT / "events" / "requests" / f"{name}.json"))["total"] > 0


def test_a_request_may_be_yaml_or_a_whole_event() -> None:
    detail = {"target": {"kind": "lambda-alias", "function": "f", "alias": "a"}, "candidate": {"version": "1"}}
    event = {"source": "team", "detail-type": "Rollout Requested", "detail": detail}
    as_yaml = "target: {kind: lambda-alias, function: f, alias: a}\ncandidate: {version: 1}\n"

    assert found("plan", "--file", "-", typed=as_yaml) == found("plan", "--file", "-", typed=json.dumps(event))


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (("plan",), None, "give either --file or --strategy"),
        (("plan", "--file", "-", "--strategy", "AllAtOnce"), "", "give either --file or --strategy"),
        (("plan", "--strategy", "Fast"), None, "--strategy: strategy: not a preset"),
        (("plan", "--strategy", "{"), None, "--strategy: is not JSON"),
        (("plan", "--file", "no/such/file"), None, "cannot be read"),
        (("plan", "--file", "-"), "a: [", "is neither JSON nor YAML"),
        (("plan", "--file", "-"), "target: {}", "--file: -: target.kind: is missing"),
        (("requests",), None, "give FUNCTION:ALIAS, or --memory and --duration"),
        (("requests", "--memory", "128"), None, "give FUNCTION:ALIAS, or --memory and --duration"),
        (("requests", "checkout"), None, "give the alias as FUNCTION:ALIAS"),
        (("requests", "checkout:7"), None, "give the alias as FUNCTION:ALIAS"),
        (("requests", "checkout:live", "--memory", "128"), None, "--memory cannot be used with FUNCTION:ALIAS"),
        (("requests", "checkout:live", "--versions", "7,live"), None, "--versions: must be version numbers"),
        (("requests", "--memory", "128", "--duration", "1", "--prices", "none"), None, "--prices: none cannot be read"),
    ],
)
def test_what_cannot_be_priced_is_refused_in_one_sentence(
    arguments: tuple[str, ...], typed: str | None, said: str
) -> None:
    result = run(*arguments, typed=typed)

    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_two_versions_are_compared_by_their_options() -> None:
    given = ("requests", "--memory", "512", "--duration", "120", "--candidate-memory", "1024")
    asked = (*given, "--candidate-duration", "70", "--candidate-architecture", "x86_64")

    costs = found(*asked)
    assert [each["memoryMb"] for each in costs["versions"]] == [512, 1024]
    assert [each["architecture"] for each in costs["versions"]] == ["arm64", "x86_64"]

    said = run(*asked).output
    assert "1,000,000 requests" in said
    assert "The candidate costs 36.7 % more than the stable version." in said


def test_prices_and_quantities_have_no_exponents() -> None:
    for asked in (
        ("plan", "--strategy", "Linear10PercentEvery1Minute"),
        ("requests", "--memory", "128", "--duration", "0.00001"),
    ):
        said = run(*asked).output

        assert not re.search(r"\de[-+]?\d", said), said
    assert "$0.000025" in run("plan", "--strategy", "AllAtOnce").output


def test_versions_are_called_versions() -> None:
    assert [called(each) for each in ("7", "candidate")] == ["version 7", "the candidate"]


def test_a_price_file_is_used(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"regions": {"us-east-1": {"lambdaRequest": 1, "gbSecondArm64": 0}}}))

    asked = ("requests", "--memory", "128", "--duration", "1", "--requests", "3", "--prices", str(file))

    assert found(*asked)["costs"][0]["total"] == 3


def test_a_table_ends_with_the_total_and_says_whose_prices_these_are() -> None:
    lines = run("plan", "--strategy", "AllAtOnce").output.splitlines()

    total = f"${found('plan', '--strategy', 'AllAtOnce')['total']:.6f}"
    assert [line.split() for line in lines if line.startswith("Total")] == [["Total", total]]
    assert "List prices of us-east-1, the oldest of 2025-07." in lines


def test_a_rollout_is_found_and_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    history = PlayedHistory(view_of())
    monkeypatch.setattr("headgate_cli.rollouts.history_of", lambda _: history)

    assert found("rollout", "checkout-42")["subject"] == "rollout checkout-42"
    missing = run("rollout", "checkout-4")
    assert missing.exit_code == 2
    assert "did you mean checkout-42?" in missing.output


class Services:
    """Lambda and CloudWatch as far as the durations of versions need them."""

    def __init__(self, weights: dict[str, float], sums: dict[str, tuple[float, float]]) -> None:
        self.weights, self.sums = weights, sums

    def get_alias(self, **_: Any) -> dict[str, Any]:
        routing = {"RoutingConfig": {"AdditionalVersionWeights": self.weights}} if self.weights else {}
        return {"FunctionVersion": "7", **routing}

    def get_function(self, *, Qualifier: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        arm = {"MemorySize": 1024, "Architectures": ["arm64"]}
        return {"Configuration": arm if Qualifier == "8" else {"MemorySize": 512}}

    def get_paginator(self, _: str) -> Services:
        return self

    def paginate(self, *, MetricDataQueries: list[Any], **_: Any) -> list[Any]:  # noqa: N803
        results = []
        for query in MetricDataQueries:
            metric = query["MetricStat"]["Metric"]
            version = next((each["Value"] for each in metric["Dimensions"] if each["Name"] == "ExecutedVersion"), "all")
            total, count = self.sums.get(version, (0, 0))
            value = {"Sum": total, "SampleCount": count}[query["MetricStat"]["Stat"]]
            results.append(
                {"Id": query["Id"], "Values": [value] if count else [], "Timestamps": [datetime.now(UTC)] * bool(count)}
            )
        return [{"MetricDataResults": results}]


def measured(monkeypatch: pytest.MonkeyPatch, services: Services, *arguments: str) -> Result:
    monkeypatch.setattr(Stack, "client", lambda _stack, _service: services)
    return run("requests", "checkout:live", *arguments)


def test_durations_of_both_versions_come_from_cloudwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services({"8": 0.1}, {"7": (90_000, 900), "8": (7_000, 100)})

    costs = json.loads(measured(monkeypatch, services, "--format", "json").stdout)

    assert [(each["version"], each["milliseconds"], each["requestsSeen"]) for each in costs["versions"]] == [
        ("7", 100, 900),
        ("8", 70, 100),
    ]
    assert [each["architecture"] for each in costs["versions"]] == ["x86_64", "arm64"]


def test_an_alias_with_one_version_has_all_requests_of_the_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = json.loads(measured(monkeypatch, Services({}, {"all": (500, 10)}), "--format", "json").stdout)

    assert [(each["version"], each["milliseconds"]) for each in costs["versions"]] == [("7", 50)]


def test_a_version_without_requests_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = measured(monkeypatch, Services({}, {"7": (500, 10), "all": (900, 20)}), "--versions", "7,8")

    assert result.exit_code == 2
    assert "CloudWatch has no Duration of version 8 through checkout:live in the last 24 hours" in result.output
