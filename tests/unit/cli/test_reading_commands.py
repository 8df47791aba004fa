"""The commands that show rollouts: list, status, watch, explain and history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner

from headgate.errors import RequestRefused
from headgate.history.model import RolloutPage
from headgate_cli import live
from headgate_cli.main import COMMANDS, main
from headgate_cli.watching import Sight, follow
from tests.unit.cli.played import Clock, PlayedHistory
from tests.views import (
    at,
    baking,
    compared,
    paused,
    promoted,
    refused,
    rolled_back,
    signal,
    stopped,
    view_of,
    wait_of,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from headgate.history.model import RolloutView

    Run = Callable[..., Result]

SHORT = "3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a history."""

    def run(history: PlayedHistory, *arguments: str) -> Result:
        for name in ("list", "status", "watch", "explain", "history"):
            monkeypatch.setattr(f"headgate_cli.commands.{name}.history_of", lambda _: history)
        return CliRunner(mix_stderr=False).invoke(main, list(arguments))

    return run


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that goes on by itself."""
    clock = Clock()

    def follow_at_once(history: PlayedHistory, rollout_id: str, **options: Any) -> Iterator[Sight]:
        return follow(history, rollout_id, **{**options, "wait": clock.wait, "clock": clock})

    monkeypatch.setattr("headgate_cli.live.follow", follow_at_once)
    return clock


# --- list and history -------------------------------------------------------------------------------------------------


def test_list_shows_a_line_for_each_rollout(run: Run) -> None:
    undone = promoted(rollout_id="checkout-40", undone_by="undo-1")
    others = [rolled_back(rollout_id="checkout-41"), undone, waiting()]
    history = PlayedHistory(baking(), others=others)
    result = run(history, "list")

    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["ROLLOUT", "STATE", "TARGET", "VERSION", "REQUESTED", "(UTC)", "TOOK", "WHY"]
    assert lines[1] == ["checkout-42", "running", "checkout:live", "7", ">", "8", "2026-11-30", "14:00"]
    assert lines[2][:4] == ["checkout-41", "rolled", "back", "checkout:live"]
    assert " ".join(lines[2]).endswith(f"7 min 12 s {SHORT}")
    assert " ".join(lines[3]).endswith("50 min 10 s undone by undo-1")


def test_list_asks_for_what_is_given_and_no_more(run: Run) -> None:
    history = PlayedHistory(baking())
    run(history, "list")
    states = ("--state", "running", "--state", "paused")
    times = ("--since", "2026-11-30", "--until", "2026-12-01T10:00:00+01:00")
    run(history, "list", "--target", "checkout:live", *states, *times, "--limit", "5", "--after", "2026-11-30#x")

    assert history.asked == [
        {"limit": 20},
        {
            "target": "lambda-alias/checkout/live",
            "states": ("running", "paused"),
            "since": "2026-11-30T00:00:00.000Z",
            "until": "2026-12-01T09:00:00.000Z",
            "limit": 5,
            "after": "2026-11-30#x",
        },
    ]


def test_a_state_may_be_given_as_people_say_it(run: Run) -> None:
    history = PlayedHistory(baking())
    for command in (["list"], ["history", "checkout:live"]):
        result = run(history, *command, "--state", "promoted", "--state", "rolled back", "--state", "rolled-back")

        assert result.exit_code == 0, result.output
        assert history.asked[-1]["states"] == ("succeeded", "rolled-back", "rolled-back")


def test_list_tells_how_to_get_the_next_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    history = PlayedHistory(baking())
    page = RolloutPage(rollouts=history.rollouts().rollouts, next="2026-11-30#x")
    monkeypatch.setattr(history, "rollouts", lambda **_: page)
    result = run(history, "list")

    assert result.stderr == "There are more: add --after 2026-11-30#x\n"
    assert run(history, "list", "--format", "json").stdout == json.dumps(page.to_wire(), indent=2) + "\n"


def test_an_empty_list_says_so(run: Run) -> None:
    result = run(PlayedHistory(), "list")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No rollouts.\n")


def test_list_shows_deployment_figures(run: Run) -> None:
    history = PlayedHistory()
    result = run(history, "list", "--stats", "--since", "2026-11-01", "--until", "2026-12-01")
    told = [" ".join(line.split()) for line in result.stdout.splitlines()]

    assert history.asked == [{"since": "2026-11-01T00:00:00.000Z", "until": "2026-12-01T00:00:00.000Z"}]
    assert told == [
        "FIGURE VALUE",
        "period 2026-11-01 00:00 UTC to 2026-12-01 00:00 UTC",
        "rollouts 8",
        "ended 6 promoted, 2 rolled back, 1 refused",
        "deployment frequency 0.86 promotions a day (6 in all)",
        "change failure rate 25 % (2 rolled back, stopped or undone)",
        "time to restore 42 s (median)",
        "lead time 15 min 30 s from request to promotion (median)",
    ]
    assert json.loads(run(history, "list", "--stats", "--format", "json").stdout)["changeFailureRate"] == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "checkout"], "'--target': must be a target such as checkout:live"),
        (["--since", "soon"], "'--since': must be a date such as 2026-11-30"),
        (["--limit", "0"], "'--limit': 0 is not in the range 1<=x<=1000."),
        (["--state", "done"], "'--state': 'done' is not one of 'waiting', 'accepted'"),
        (["--stats", "--target", "checkout:live"], "--target cannot be used with --stats"),
        (["--stats", "--state", "running"], "--state cannot be used with --stats"),
        (["--stats", "--since", "2026-12-02", "--until", "2026-12-01"], "'--since': must be before --until"),
    ],
)
def test_list_refuses_options_that_do_not_fit(run: Run, options: list[str], message: str) -> None:
    history = PlayedHistory(baking())
    result = run(history, "list", *options)

    assert result.exit_code == 2
    assert message in result.stderr
    assert history.asked == []


def test_a_page_that_does_not_exist_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise RequestRefused("after: must be the value of next of an earlier page (given 'x')")

    history = PlayedHistory(baking())
    monkeypatch.setattr(history, "rollouts", refuse)
    result = run(history, "list", "--after", "2026-11-30T12:00:00Z#x")

    assert (result.exit_code, result.stderr) == (
        2,
        "Error: --after: must be the value of next of an earlier page (given 'x')\n",
    )


@pytest.mark.parametrize("target", ["checkout:live", "lambda-alias/checkout/live", "checkout-42"])
def test_history_shows_one_target_by_any_of_its_names(run: Run, target: str) -> None:
    history = PlayedHistory(baking(), others=[view_of("other", target="lambda-alias/orders/live")])
    result = run(history, "history", target)

    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ROLLOUT", "checkout-42"]
    assert "TARGET" not in result.stdout
    assert history.asked[-1] == {"target": "lambda-alias/checkout/live", "limit": 20}
    assert len(json.loads(run(history, "history", target, "--format", "json").stdout)["rollouts"]) == 1


# --- status and explain -----------------------------------------------------------------------------------------------


def test_status_shows_weight_evidence_and_counts(run: Run) -> None:
    result = run(PlayedHistory(baking(warnings=["target: a stack owns it"])), "status", "checkout-42")
    told = [" ".join(line.split()) for line in result.stdout.splitlines()]

    assert told[0] == "checkout-42 checkout:live version 7 > 8"
    assert told[1].startswith("baking step 2 of 5 at 25 %")
    weights = next(line for line in told if line.startswith("weight"))
    assert weights.endswith(" 25 %")
    assert weights.count("┼") == 5
    assert "5 25 50 75 90" in told
    assert next(line for line in told if line.startswith("evidence")).endswith("1.84 of 100")
    assert "version 8 804 2 0.25 %" in told
    assert "version 7 2,410 1 0.041 %" in told
    assert "14:04:59 UTC 25 % of the traffic to version 8 (step 2 of 5)" in told
    assert "Warning: target: a stack owns it" in told


@pytest.mark.parametrize(
    "view",
    [
        waiting(),
        paused(),
        promoted(),
        rolled_back(),
        refused(),
        stopped(),
        view_of(phase="preparing", waits_for=wait_of()),
    ],
    ids=lambda view: view.status,
)
def test_status_shows_every_state(run: Run, view: RolloutView) -> None:
    result = run(PlayedHistory(view), "status", "checkout-42")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1]


def test_the_point_of_evidence_passes_the_line_of_its_limit(run: Run) -> None:
    def bar(value: float) -> str:
        view = baking(comparisons=[compared(2, 804, 1, 2410, value)])
        out = run(PlayedHistory(view), "status", "checkout-42").stdout
        return next(line for line in out.splitlines() if line.startswith("evidence"))

    places = [bar(value).index("●") for value in (0.0, 0.01, 1, 10, 99, 1000, 1e15)]
    assert places == sorted(places)
    assert bar(10).index("●") < bar(10).index("|")
    assert bar(1000).index("●") > bar(1000).index("|")


@pytest.mark.parametrize("command", ["status", "explain", "watch"])
def test_a_rollout_that_does_not_exist_is_an_error_in_one_line(run: Run, command: str) -> None:
    result = run(PlayedHistory(promoted()), command, "checkout-43")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: there is no rollout checkout-43; did you mean checkout-42? headgate list shows all, and headgate "
        "history TARGET those on a target\n"
    )


@pytest.mark.parametrize("command", ["status", "explain", "watch"])
def test_a_target_names_the_rollout_underway_or_else_the_latest(run: Run, command: str) -> None:
    history = PlayedHistory(promoted(), others=[waiting()])
    result = run(history, command, "checkout:live")
    assert (result.exit_code, result.stderr.splitlines()[0].startswith("Underway on checkout:live: ")) == (0, True)

    result = run(PlayedHistory(promoted()), command, "checkout:live")
    assert (result.exit_code, result.stderr.startswith("The latest on checkout:live: checkout-4")) == (0, True)

    result = run(PlayedHistory(promoted()), command, "other:live")
    assert (result.exit_code, "no rollout on other:live is on record; headgate list" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["status", "explain", "watch", "list"])
def test_texts_of_records_are_no_control_characters_and_no_markup(run: Run, no_waiting: Clock, command: str) -> None:
    nasty = "\x1b[31m[bold]red[/bold]\r\n\u202eevil"
    view = rolled_back(f"aborted by kim: {nasty}", signals=[signal("abort", reason=nasty)], warnings=[nasty])
    result = run(PlayedHistory(view), command, *(["checkout-42"] if command != "list" else []))

    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "?[31m[bold]red[/bold] ?evil" in result.stdout


def test_status_as_json_is_the_view(run: Run) -> None:
    view = rolled_back()

    assert json.loads(run(PlayedHistory(view), "status", "checkout-42", "--format", "json").stdout) == view.to_wire()


def test_explain_says_why(run: Run) -> None:
    result = run(PlayedHistory(rolled_back()), "explain", "checkout-42")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == (
        "38 of 1,204 requests of version 8 failed (3.2 %), against 2 of 3,610 of version 7 (0.055 %)."
    )


def test_explain_in_a_terminal_is_a_list_and_keeps_numbers_and_units_together(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    for width in range(40, 100):
        terminal = Console(force_terminal=True, width=width)
        monkeypatch.setattr("headgate_cli.lists.console", lambda terminal=terminal: terminal)
        lines = run(PlayedHistory(rolled_back()), "explain", "checkout-42").stdout.splitlines()
        assert max(map(len, lines)) <= width
        assert not any(line.strip().startswith(("%", "s ", "min ")) for line in lines)
        assert " ".join(lines[0].split()).startswith("Rolled back at")
        assert "- 38 of 1,204" in "\n".join(lines)


def test_explain_as_json_has_the_sentences(run: Run) -> None:
    answer = json.loads(run(PlayedHistory(refused()), "explain", "checkout-42", "--format", "json").stdout)

    assert answer["id"] == "checkout-42"
    assert answer["status"] == "refused"
    assert answer["sentences"][0] == "Refused at 2026-11-30 14:00:00 UTC: no traffic moved."


# --- watch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "code"),
    [(promoted(), 0), (rolled_back(), 3), (refused(), 4), (stopped(), 5)],
    ids=lambda value: str(value)[:9],
)
def test_watch_ends_with_the_exit_code_of_the_outcome(
    run: Run, no_waiting: Clock, view: RolloutView, code: int
) -> None:
    assert run(PlayedHistory(baking(), view), "watch", "checkout-42").exit_code == code


def test_watch_prints_a_line_for_each_change(run: Run, no_waiting: Clock) -> None:
    more = baking(comparisons=[compared(3, 900, 1, 2700, 2)])
    result = run(PlayedHistory(baking(), more, more, rolled_back()), "watch", "checkout-42")
    lines = result.stdout.splitlines()
    said = [line.split("UTC  ")[1] for line in lines if "UTC  " in line]

    assert said == [
        "requested",
        "began",
        "5 % of the traffic to version 8 (step 1 of 5)",
        "25 % of the traffic to version 8 (step 2 of 5)",
        "baking step 2 of 5 at 25 % until 14:15:00 UTC",
        f"step 2: roll back: {SHORT}",
        "all traffic back to version 7",
        f"rolled back: {SHORT}",
    ]
    assert "38 of 1,204 requests of version 8 failed (3.2 %), against 2 of 3,610 of version 7 (0.055 %)." in lines


def test_watch_tells_of_a_lost_connection_once(run: Run, no_waiting: Clock) -> None:
    lost = EndpointConnectionError(endpoint_url="https://dynamodb")
    result = run(PlayedHistory(baking(), lost, lost, baking(), promoted()), "watch", "checkout-42")

    assert result.exit_code == 0
    assert result.stdout.count("the connection is lost, and tried again: AWS cannot be reached") == 1
    assert result.stdout.count("the connection is back") == 1


def test_watch_ends_when_its_time_is_up(run: Run, no_waiting: Clock) -> None:
    result = run(PlayedHistory(baking()), "watch", "checkout-42", "--timeout", "1m30s")

    assert result.exit_code == 6
    assert result.stderr == "Not ended within 1 min 30 s: the rollout goes on.\n"
    assert no_waiting.now == 90


def test_watch_refuses_a_time_without_unit(run: Run) -> None:
    result = run(PlayedHistory(baking()), "watch", "checkout-42", "--timeout", "90")

    assert result.exit_code == 2
    assert "'--timeout': must be a duration with its unit, such as 90s, 30m or 2h (given 90)" in result.stderr


def test_watch_as_json_prints_a_line_for_each_change(run: Run, no_waiting: Clock) -> None:
    views = [baking(), baking(), rolled_back()]
    result = run(PlayedHistory(*views), "watch", "checkout-42", "--format", "json")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [views[0].to_wire(), views[2].to_wire()]
    assert result.exit_code == 3


def test_an_interrupted_watch_says_that_the_rollout_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        yield Sight(baking())
        raise KeyboardInterrupt

    monkeypatch.setattr("headgate_cli.live.follow", interrupted)
    result = run(PlayedHistory(baking()), "watch", "checkout-42")

    assert result.exit_code == 130
    assert result.stderr == "The rollout goes on. Follow it again with headgate watch checkout-42\n"


def test_a_picture_says_when_aws_is_silent() -> None:
    from rich.console import Console

    clock = Clock()
    picture = live.Picture(clock)

    def below() -> str:
        console = Console(width=200, force_terminal=False)
        with console.capture() as capture:
            console.print(picture.render())
        return capture.get().splitlines()[-1].rstrip()

    assert below() == "Reading the record ..."
    picture.show(Sight(baking(), again_seconds=1))
    assert below() == "Ctrl-C ends the watch, not the rollout."
    clock.now = 8
    assert below() == "Nothing new for 8 s: AWS has not answered yet"
    picture.show(Sight(baking(), "AWS cannot be reached", 4))
    clock.now = 9
    assert below() == "Nothing new for 9 s, trying again in 3 s: AWS cannot be reached"
    picture.show(Sight(promoted(created_at=at(0))))
    assert below().endswith(
        "promoted: version 8 got all traffic; none of 96 requests of version 8 failed, none of 265 of version 7"
    )


# --- All --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["list", "status", "watch", "explain", "history"])
def test_help_shows_examples_and_the_summary_of_the_overview(run: Run, name: str) -> None:
    told = run(PlayedHistory(), name, "--help").stdout

    assert COMMANDS[name].summary in told
    assert f"  headgate {name}" in told
