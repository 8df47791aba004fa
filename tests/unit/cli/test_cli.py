"""The ``headgate`` command: its options, its errors, and what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headgate_cli.commands import simulate as command
from headgate_cli.main import main
from headgate_cli.simulation.progress import progress
from tests.builders import ROOT

RATES = ("--baseline-error-rate", "0.001", "--candidate-error-rate", "0.05")
ASKED = (*RATES, "--rps", "100", "--runs", "20")


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *options])


def found(*options: str) -> dict[str, Any]:
    result = run(*options, "--format", "json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_json_has_what_was_asked_and_what_was_found() -> None:
    answer = found(*ASKED, "--weight", "10", "--minutes", "5")

    assert list(answer) == [
        "input",
        "detected",
        "false_rollbacks",
        "seconds",
        "failed_requests",
        "requests",
        "floor",
    ]
    assert answer["input"] == {
        "baseline_error_rate": 0.001,
        "candidate_error_rate": 0.05,
        "rps": 100,
        "weight": 10,
        "strategy": None,
        "steps": [{"weight": 10, "bakeSeconds": 300}],
        "minutes": 5,
        "start_minute": 0,
        "look_seconds": 1,
        "alpha": 0.01,
        "tolerate": 0,
        "clumps": 1,
        "noise": 0,
        "runs": 20,
        "seed": 1,
    }
    assert answer["detected"] == 1
    for figure in ("seconds", "failed_requests", "requests"):
        assert set(answer[figure]) == {"mean", "median", "p90"}
        assert 0 < answer[figure]["median"] <= answer[figure]["p90"]


def test_table_is_the_format_for_people_and_text_its_other_name() -> None:
    question = (*ASKED, "--weight", "10", "--minutes", "5")
    table, text, default = (run(*question, *form) for form in (("--format", "table"), ("--format", "text"), ()))

    assert table.exit_code == 0, table.output
    assert table.stdout == text.stdout == default.stdout != ""


def test_figures_of_runs_that_were_never_stopped_are_null() -> None:
    rates = ("--baseline-error-rate", "0", "--candidate-error-rate", "0")
    answer = found(*rates, "--rps", "1", "--minutes", "0.5", "--weight", "10")

    assert answer["detected"] == 0
    assert answer["floor"] is None
    assert answer["seconds"] == {"mean": None, "median": None, "p90": None}


def test_the_order_of_options_changes_nothing() -> None:
    options = [RATES[:2], RATES[2:], ("--rps", "100"), ("--runs", "5"), ("--seed", "3"), ("--weight", "20")]
    forwards = [word for option in options for word in option]
    backwards = [word for option in reversed(options) for word in option]

    assert found(*forwards) == found(*backwards)


@pytest.mark.parametrize(
    "strategy",
    ["Canary10Percent5Minutes", '"Canary10Percent5Minutes"', '{"canary": {"percent": 10, "bakeSeconds": 300}}'],
)
def test_a_strategy_of_one_step_finds_what_its_weight_finds(strategy: str) -> None:
    by_weight = found(*ASKED, "--weight", "10", "--minutes", "5")
    by_strategy = found(*ASKED, "--strategy", strategy)

    assert by_strategy | {"input": None} == by_weight | {"input": None}
    assert by_strategy["input"]["steps"] == by_weight["input"]["steps"]


def test_without_strategy_and_weight_the_products_own_default_is_judged() -> None:
    assert found(*ASKED)["input"]["strategy"] == "Canary10Percent5Minutes"


def test_minutes_cut_a_strategy_short() -> None:
    answer = found(*ASKED, "--strategy", "Linear30PercentEvery1Minute", "--minutes", "1.5")

    assert answer["input"]["minutes"] == 1.5
    assert answer["input"]["steps"] == [{"weight": 30, "bakeSeconds": 60}, {"weight": 60, "bakeSeconds": 30}]


def test_a_conclusion_says_how_often_and_how_soon_and_names_the_floor() -> None:
    told = " ".join(run(*ASKED, "--weight", "10").stdout.split())

    assert "Stopped in 100 % of 20 runs, typically after 4 failed requests" in told
    assert "any judge that is robust to bursts needs at least 2.5 on average." in told


def test_of_a_fault_that_is_missed_it_says_so_and_what_would_help() -> None:
    slight = ("--baseline-error-rate", "0.001", "--candidate-error-rate", "0.002")
    told = " ".join(run(*slight, "--rps", "5", "--weight", "10", "--runs", "20").stdout.split())

    assert "Missed in " in told
    assert "This would help: a longer bake" in told
    assert "Any judge needs about 27.3 on average" in told


def test_rollbacks_of_a_candidate_no_worse_are_called_false() -> None:
    healthy = ("--baseline-error-rate", "0.001", "--candidate-error-rate", "0.001")
    told = run(*healthy, "--rps", "10", "--minutes", "5", "--weight", "10", "--runs", "10").stdout

    assert "FALSE rollbacks: 0 % of 10 runs." in told
    assert "alpha\nallows 1 %" in told


def test_a_late_fault_tells_of_false_rollbacks_before_it() -> None:
    told = run(*ASKED, "--weight", "10", "--minutes", "6", "--start-minute", "5").stdout

    assert "5 % of its requests after 5 min" in told
    assert "FALSE rollbacks before the fault begins: 0 % of 20 runs" in told


@pytest.mark.parametrize(
    ("option", "value", "bounds"),
    [
        ("--baseline-error-rate", "1.5", "a number at least 0 and at most 1"),
        ("--candidate-error-rate", "5%", "a number at least 0 and at most 1"),
        ("--candidate-error-rate", "nan", "a number at least 0 and at most 1"),
        ("--rps", "0", "a number above 0 and at most 1,000,000,000"),
        ("--rps", "inf", "a number above 0 and at most 1,000,000,000"),
        ("--weight", "0", "a number above 0 and below 100"),
        ("--weight", "100", "a number above 0 and below 100"),
        ("--minutes", "0", "a number above 0 and at most 525,600"),
        ("--minutes", "-1", "a number above 0 and at most 525,600"),
        ("--start-minute", "-1", "a number at least 0 and at most 525,600"),
        ("--look-seconds", "0", "a number above 0 and at most 31,536,000"),
        ("--alpha", "0", "a number above 0 and at most 0.5"),
        ("--alpha", "0.6", "a number above 0 and at most 0.5"),
        ("--tolerate", "-1", "a number at least 0 and at most 100"),
        ("--clumps", "0.5", "a number at least 1 and at most 1,000,000"),
        ("--noise", "-1", "a number at least 0 and at most 1,000"),
        ("--runs", "0", "a whole number at least 1 and at most 1,000,000"),
        ("--runs", "1.5", "a whole number at least 1 and at most 1,000,000"),
        ("--seed", "-1", "a whole number at least 0 and at most 1,000,000,000"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(option: str, value: str, bounds: str) -> None:
    result = run(*ASKED, option, value)

    assert result.exit_code == 2
    assert f"Invalid value for '{option}': must be {bounds} (given {value})" in result.output


NOTHING = (
    "never bakes with traffic on both versions, so there is nothing to judge; use another one, such as "
    "Canary10Percent5Minutes"
)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("AllAtOnce", f"{NOTHING} (given AllAtOnce)"),
        ('{"steps": [{"weight": 100, "bakeSeconds": 60}]}', NOTHING),
        ('{"steps": [{"weight": 10, "bakeSeconds": 0}]}', NOTHING),
        ("Canary", "strategy: not a preset; use a name like Canary10Percent5Minutes"),
        ('{"canary": ', "is not JSON: it ends too early, at line 1, column 12; put it in single quotes"),
        ('{"canary": {"bakeSecs": 5}}', "strategy.canary.bakeSecs: is not a known field; did you mean bakeSeconds?"),
        ('{"canary": {"percent": 0, "bakeSeconds": 5}}', "strategy.canary.percent: must be at least 0.0001"),
        ("[]", 'strategy: give the name of a preset, {"canary": ...}'),
        ("[" * 50_000, "is not JSON: it has too many levels of lists and objects"),
    ],
)
def test_a_strategy_is_refused_in_the_products_own_words(strategy: str, message: str) -> None:
    result = run(*ASKED, "--strategy", strategy)

    assert result.exit_code == 2
    assert "Invalid value for '--strategy': " in result.output
    assert message in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--start-minute", "30", "--weight", "10"),
            "before the last bake ends, after 30 minutes; begin it earlier, or set --minutes (given 30)",
        ),
        (
            ("--weight", "10", "--strategy", "Canary10Percent5Minutes"),
            "--weight 10 cannot be used with --strategy; remove one of them",
        ),
        (
            ("--weight", "1", "--minutes", "525600", "--runs", "1000"),
            "'--look-seconds': leads to 31,536,000 looks in each of 1,000 runs, which takes too long; use at least 159",
        ),
        (("--plot", "evidence.txt"), "'--plot': must end in .png, .svg or .pdf (given evidence.txt)"),
        (("--plot", "no/such/evidence.png"), "'--plot': its folder does not exist; create no/such first"),
        (("--format", "yaml"), "'--format': 'yaml' is not one of 'table', 'json', 'text'."),
        (("--wieght", "10"), "No such option: --wieght Did you mean --weight?"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_fix(options: tuple[str, ...], message: str) -> None:
    result = run(*ASKED, *options)

    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("missing", ["--baseline-error-rate", "--candidate-error-rate", "--rps"])
def test_what_is_missing_is_named(missing: str) -> None:
    at = ASKED.index(missing)
    result = run(*ASKED[:at], *ASKED[at + 2 :])

    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.output


@pytest.mark.parametrize("minutes", ["20", "20.6", "33.3", "1000"])
def test_a_look_length_that_an_error_advises_is_taken(minutes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_LOOKS_IN_RUN", 1000)
    asked = (*ASKED, "--weight", "1", "--minutes", minutes)
    advised = run(*asked).output.split("use at least ")[1].split(",")[0]

    assert run(*asked, "--look-seconds", advised).exit_code == 0


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_is_drawn(tmp_path: Path, suffix: str, begins: bytes) -> None:
    file = tmp_path / f"evidence.{suffix}"
    strategy = '{"steps": [{"weight": 5, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 60}]}'
    result = run(*ASKED, "--strategy", strategy, "--start-minute", "0.5", "--plot", str(file))

    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(begins)


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "evidence.png"
    file.mkdir()
    result = run(*ASKED, "--plot", str(file))

    assert result.exit_code == 2
    assert "'--plot': cannot be written" in result.output
    assert str(file) in result.output


def test_a_terminal_hears_how_far_it_is_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headgate_cli.simulation.progress.QUIET_SECONDS", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress() as show:
        show("3 of 7 runs")

    assert capsys.readouterr().err == "\r\033[K3 of 7 runs \r\033[K"


def test_the_installed_command_answers() -> None:
    installed = Path(sys.executable).parent / "headgate"
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(
        [installed, "simulate", *ASKED, "--format", "json"],
        capture_output=True, text=True, check=True, cwd="/", env=elsewhere, timeout=60,
    )  # fmt: skip

    assert json.loads(answer.stdout)["detected"] == 1
    assert not answer.stderr


WITHOUT = """
import sys
for package in sys.argv.pop(1).split(","):
    sys.modules[package] = None  # Python then says that there is no such module.
from headgate_cli.entry import main
main()
"""
ANY_STRATEGY = (*ASKED, "--weight", "10", "--minutes", "1")
IMPORTED_FROM = os.pathsep.join(str(ROOT / folder) for folder in ("cli", "layers/headgate/python"))


def run_without(packages: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own that cannot import some packages (separated by commas)."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, packages, *options],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"PYTHONPATH": IMPORTED_FROM},
    )  # fmt: skip


@pytest.mark.parametrize("options", [["--help"], ["--version"], ["simulate", "--help"]], ids=" ".join)
def test_help_needs_no_extra(options: list[str]) -> None:
    answer = run_without("numpy,matplotlib", *options)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout


def test_simulate_without_numpy_names_the_extra() -> None:
    answer = run_without("numpy,matplotlib", "simulate", *ANY_STRATEGY)

    assert answer.returncode == 2
    assert answer.stderr.startswith("Error: headgate simulate needs numpy, which is not installed.")
    assert "extra 'simulate'" in answer.stderr
    assert "pip install '.[simulate]'" in answer.stderr


def test_simulate_without_numpy_still_refuses_wrong_options_first() -> None:
    answer = run_without("numpy,matplotlib", "simulate", *ANY_STRATEGY, "--start-minute", "2")

    assert answer.returncode == 2
    assert "'--start-minute'" in answer.stderr


def test_simulate_without_matplotlib_needs_it_only_for_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "evidence.png"

    assert run_without("matplotlib", "simulate", *ANY_STRATEGY).returncode == 0
    answer = run_without("matplotlib", "simulate", *ANY_STRATEGY, "--plot", str(picture))
    assert answer.returncode == 2
    assert "--plot needs matplotlib, which is not installed." in answer.stderr
    assert "extra 'simulate'" in answer.stderr
    assert not picture.exists()


def test_numpy_and_matplotlib_are_in_the_extra_alone() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=]", requirement)[0] for requirement in requirements}

    assert names(project["optional-dependencies"]["simulate"]) == {"numpy", "matplotlib"}
    assert not names(project["dependencies"]) & {"numpy", "matplotlib"}
