"""Charts stand on scales with round ticks, and keep peaks when they leave out looks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from headgate_cli.pictures import svg
from headgate_cli.pictures.evidence import evidence, thinned
from headgate_cli.pictures.report import render_report
from headgate_cli.pictures.scales import LogAxis, MillisecondAxis, ShareAxis, TimeAxis
from headgate_cli.pictures.shares import shares
from headgate_cli.pictures.tables import cut, fitting, size_of
from headgate_cli.pictures.timeline import timeline
from headgate_cli.pictures.words import capital, evidence_text, seconds_of, share_text
from tests.unit.pictures import rollout_views as views

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.history.model import RolloutView


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (12.5, ["0 s", "5 s", "10 s"]),
        (250, ["0 min", "1 min", "2 min", "3 min", "4 min"]),
        (60300, ["0 h", "3 h", "6 h", "9 h", "12 h", "15 h"]),
        (40 * 86400, ["0 d", "10 d", "20 d", "30 d", "40 d"]),
        (0.5, ["0 s"]),
    ],
)
def test_time_has_few_round_ticks(seconds: float, labels: list[str]) -> None:
    assert [tick.label for tick in TimeAxis(1000, 1000 + seconds).ticks()] == labels


def test_a_time_axis_of_years_has_few_ticks() -> None:
    assert len(TimeAxis(0, 86400 * 365 * 40).ticks()) <= 7


@pytest.mark.parametrize(
    ("most", "top"),
    [
        (0, 1),
        (0.1, 0.1),
        (0.11, 0.2),
        (3.39, 4),
        (37.5, 40),
        (99, 100),
        (100, 100),
    ],
)
def test_shares_end_at_a_round_number_above_the_largest(most: float, top: float) -> None:
    assert ShareAxis.up_to(most).top == pytest.approx(top)


def test_long_durations_are_told_in_full() -> None:
    assert [tick.label for tick in MillisecondAxis.up_to(17_300).ticks()] == ["0 ms", "10,000 ms", "20,000 ms"]


def test_an_amount_of_zero_has_an_axis() -> None:
    assert [tick.label for tick in MillisecondAxis.up_to(0).ticks()] == ["0 ms", "0.5 ms", "1 ms"]


@pytest.mark.parametrize(
    ("least", "most", "ends"), [(1, 1, (-1, 3)), (1e-9, 250, (-4, 3)), (0, 0, (-4, 3)), (0.5, 1e12, (-1, 6))]
)
def test_evidence_shows_one_and_its_limit_whatever_its_values(least: float, most: float, ends: tuple[int, int]) -> None:
    axis = LogAxis.around(least, most, 200)

    assert (axis.low, axis.high) == ends
    assert 0 < axis.at(1) < axis.at(200) < 1
    assert axis.at(0) == 0
    assert axis.at(1e300) == 1


def test_thinned_looks_keep_peaks_and_ends() -> None:
    looks = [look for look in views.long().evidence if look.measure == "errors"]

    kept = thinned(looks, 60, 200)

    assert len(kept) <= 60
    assert list(kept) == sorted(kept, key=lambda look: look.at)
    assert (kept[0], kept[-1]) == (looks[0], looks[-1])
    assert max(look.value for look in kept) == max(look.value for look in looks) == 190
    assert min(look.value for look in kept) == min(look.value for look in looks)


def test_thinned_looks_keep_the_first_that_reached_the_limit() -> None:
    looks = [views.look(second, 300.0 + second if second > 500 else 1.0) for second in range(999)]

    kept = thinned(looks, 60, 200)

    assert len(kept) <= 60
    assert next(look for look in kept if look.value >= 200) == looks[501]


def test_few_looks_are_all_kept() -> None:
    looks = views.rolled_back().evidence

    assert thinned(looks, 60, 200) == looks


def path_of(picture: str, kind: str) -> str:
    (found,) = re.findall(rf'<path d="([^"]*)" class="{kind}"', picture)
    return str(found)


def test_the_line_of_weights_has_each_weight_at_its_time() -> None:
    chart = timeline(views.promoted(), views.NOW)

    # The axis is 4 % longer than the rollout: 246 s are 961.5 of 1000.
    assert chart
    assert path_of(chart.picture, "weight") == "M0 150H7.8V135H480.8V75H953.7V0H1000V0"


def test_the_line_of_a_running_rollout_ends_now_and_its_plan_goes_on() -> None:
    chart = timeline(views.running(), views.NOW)

    # Its four steps of 600 s begin at 3 s; now is at 400 s.
    assert chart
    end = 1.04 * 2403
    assert path_of(chart.picture, "weight").endswith(f"H{round(1000 * 400 / end, 1):g}V142.5")
    assert path_of(chart.picture, "ahead").endswith("V0H1000V0")


def test_a_rollout_that_runs_in_no_step_has_no_plan_ahead() -> None:
    chart = timeline(views.paused(), views.NOW)

    assert chart
    assert path_of(chart.picture, "ahead") == ""


@pytest.mark.parametrize("behind", [-1, 1, 30, 400, 90_000])
@pytest.mark.parametrize("kind", [views.paused, views.running, views.promoted, views.rolled_back, views.long])
def test_a_clock_that_is_behind_draws_nothing_backwards(behind: float, kind: Callable[[], RolloutView]) -> None:
    view = kind()
    report = render_report(view, now=max(seconds_of(change.at) for change in view.weights) - behind)

    sizes = [float(size) for size in re.findall(r'<rect[^>]* (?:width|height)="([^"%]*)%?"', report)]
    assert [size for size in sizes if size < 0] == []
    for line in re.findall(r'<path d="([^"]*)" class="(?:weight|evidence)"', report):
        places = [float(x) for x in re.findall(r"[MH]([-\d.]+)", line)]
        assert places == sorted(places)


def test_a_pause_whose_times_are_the_wrong_way_round_has_no_width() -> None:
    view = views.paused()
    pauses = [pause.model_copy(update={"ended_at": views.at(100)}) for pause in view.pauses]
    chart = timeline(views.changed(view, pauses=pauses), views.NOW)

    assert chart
    assert re.findall(r'<rect[^>]* width="([^"]*)"', chart.picture) == ["0%"]


@pytest.mark.parametrize(
    ("begin", "end", "height", "drawn"), [(0.2, 0.6, 8, ("40%", "8")), (0.6, 0.2, -8, ("0%", "0"))]
)
def test_an_area_has_no_negative_size(begin: float, end: float, height: float, drawn: tuple[str, str]) -> None:
    area = svg.rect(begin, end, 0, height, "band")

    assert f'width="{drawn[0]}" height="{drawn[1]}"' in area


def test_evidence_that_reaches_the_limit_is_marked_with_its_value() -> None:
    view = views.rolled_back()
    chart = evidence(view, view.comparisons[0], views.NOW)

    assert chart
    assert re.findall(r'class="sign bad"', chart.picture)
    assert ">290</text>" in chart.picture
    assert chart.description == (
        "Evidence against the candidate from 4 looks with failures, between 0.9 and 290; the last is 290. At 200, the "
        "rollout is rolled back."
    )


@pytest.mark.parametrize(("seconds", "side"), [(24.7, 'x="0" dx="6"'), (2.5, 'x="100%" text-anchor="end"')])
def test_the_limit_is_named_where_the_evidence_is_not(seconds: float, side: str) -> None:
    view = views.changed(views.rolled_back(), evidence=[views.look(seconds, 290.4)])
    chart = evidence(view, view.comparisons[0], views.NOW)

    assert chart
    assert re.search(rf'class="value limit-label" {side}>limit 200</text>', chart.picture)


def test_bars_are_as_long_as_their_shares() -> None:
    view = views.promoted()
    chart = shares(view, view.comparisons[0])

    # The axis ends at 0.1 %, for which a bar has 66 % of the width.
    assert chart
    assert re.findall(r'width="([\d.]+)%" height="13" class="(\w+)"', chart.picture) == [
        ("18.3", "stable"),
        ("65.72", "stable"),
        ("11", "candidate"),
    ]


def test_a_step_without_requests_says_so() -> None:
    view = views.running()
    found = views.compared((0, 0), (1, 20))
    steps = [view.steps[0].model_copy(update={"comparisons": [found]})]
    chart = shares(view.model_copy(update={"steps": steps}), found)

    assert chart
    assert "no requests" in chart.picture
    assert chart.table.rows[0] == ("1", "5 %", "1 of 20", "5 %", "0 of 0", "-")


def test_without_requests_or_evidence_there_is_a_dash() -> None:
    assert share_text(views.compared((0, 0), (1, 3)).candidate) == "-"
    assert share_text(views.compared((0, 0), (1, 3)).stable) == "33.3 %"
    assert evidence_text(None) == "-"


def test_what_does_not_fit_is_left_out_in_the_middle() -> None:
    assert fitting([1, 2, 3, 4, 5, 6], lambda _: 10, 45) == ([1, 2, 5, 6], 2)
    assert fitting([1, 2, 3], lambda _: 10, 30) == ([1, 2, 3], 0)
    assert fitting([1], lambda _: 10, 5) == ([], 1)


@pytest.mark.parametrize("letter", ["x", "<", "中"])
def test_a_text_is_cut_to_the_bytes_that_it_takes(letter: str) -> None:
    text = cut(letter * 9000, 6000)

    assert size_of(text) < 6100
    assert re.fullmatch(rf"{letter}+ \.\.\. \([\d,]+ characters more\)", text)
    assert cut(letter, 6000) == letter


def test_a_capital_changes_nothing_else() -> None:
    assert capital("orders of EU") == "Orders of EU"
    assert capital("") == ""


def test_texts_and_attributes_of_a_drawing_are_escaped() -> None:
    drawn = svg.element("text", '<b> & "x"\x1b', svg.element("tspan", "y"), class_='a" onload="b', x=1.0, dx=None)

    assert drawn == ('<text class="a&#34; onload=&#34;b" x="1">&lt;b&gt; &amp; &#34;x&#34;?<tspan>y</tspan></text>')
