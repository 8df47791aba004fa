"""The report shows what the view says, needs nothing else, and stays small."""

from __future__ import annotations

import inspect
import json
import re
from functools import cache
from typing import Any

import pytest

from headgate.analysis import verdict
from headgate.history.model import HookView, PauseView, RolloutView, SignalView, StepView
from headgate.history.sentences import explanation
from headgate.spec.target_state import Redriven
from headgate_cli.pictures import words
from headgate_cli.pictures.happenings import happenings
from headgate_cli.pictures.latency import Latency, Series
from headgate_cli.pictures.markdown import render_markdown
from headgate_cli.pictures.report import POLICY, TEMPLATES, render_report
from headgate_cli.pictures.words import lead
from tests.unit.pictures import rollout_views as views
from tests.unit.pictures.pages import Element, read, rows_of

LIMIT = 1_000_000
HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='x' &amp; {{ 7 * 7 }}"


@cache
def page(name: str) -> str:
    return render_report(views.ALL[name](), now=views.NOW)


@cache
def tree_of(name: str) -> Element:
    return read(page(name))


def page_of(view: RolloutView, **more: Any) -> Element:
    return read(render_report(view, now=views.NOW, **more))


def changed_texts(value: Any, text: str) -> Any:
    """Replace every free text of a view."""
    if isinstance(value, dict):
        fixed = ("status", "signal", "outcome", "verdict", "why", "then", "phase", "measure", "action")
        return {
            key: each if key in fixed and isinstance(each, str) and key != "why" else changed_texts(each, text)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [changed_texts(each, text) for each in value]
    is_time = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", value)
    return text if isinstance(value, str) and not is_time else value


def hostile(view: RolloutView, text: str) -> RolloutView:
    """A view whose every text is another."""
    wire = changed_texts(view.to_wire(), text)
    for change, was in zip(wire.get("weights", []), view.weights, strict=True):
        change["why"] = was.why
    return RolloutView.model_validate(wire)


@pytest.mark.parametrize("name", views.ALL)
def test_every_rollout_gives_a_whole_page_below_a_megabyte(name: str) -> None:
    view, tree = views.ALL[name](), tree_of(name)

    assert len(page(name).encode()) < LIMIT
    assert tree.one("h1").text == view.id
    assert tree.one("p", "headline").text == lead(view)
    assert len(ids := [each.attributes["id"] for each in tree.walk() if "id" in each.attributes]) == len(set(ids))


BARE: dict[str, Any] = {
    "target": "",
    "stable": "",
    "candidate": "",
    "created_at": None,
    "alarms": [],
    "request": {},
    "plan": {},
}


@pytest.mark.parametrize("status", words.STATUS)
@pytest.mark.parametrize("started", [None, views.at(0)], ids=["not started", "started"])
def test_a_record_that_lacks_nearly_everything_gives_a_page(status: Any, started: str | None) -> None:
    view = views.rollout(status=status, execution="", started_at=started, **BARE)

    assert words.STATUS[status][1] in page_of(view).one("p", "status").text


ODD: dict[str, dict[str, Any]] = {
    "no time at all": {"ended_at": views.at(0)},
    "an end before the beginning": {"started_at": views.at(9), "ended_at": views.at(0), "weights": []},
    "looks from before the beginning": {"evidence": [views.look(-50, 3.0)]},
    "evidence of zero": {"evidence": [views.look(5, 0.0)]},
    "evidence beyond numbers": {"evidence": [views.look(5, 1e308)]},
    "a measure of no step": {"comparisons": [views.compared((0, 0), (0, 0), None, "custom0", "orders")]},
    "a signal of no known kind": {"signals": [SignalView(id="s", signal="dance", at=views.at(3), outcome="refused")]},
    "a stage of no known name": {
        "hooks": [HookView(stage="later", hooks=[], started_at=views.at(3), outcome="running")]
    },
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_record_gives_a_page(name: str) -> None:
    tree = page_of(views.changed(views.running(), **ODD[name]))

    assert tree.one("h1").text == "checkout-42"
    numbers = [value for each in tree.all("path") + tree.all("rect") for value in each.attributes.values()]
    assert not [value for value in numbers if "nan" in value or "inf" in value]


@pytest.mark.parametrize(
    "text", ["<" * 5000, '"' * 2000, "\u4e2d" * 5000, "\x00\x1b" * 3000], ids=["<", '"', "Han", "control"]
)
def test_a_page_of_the_longest_texts_stays_below_a_megabyte(text: str) -> None:
    view = hostile(views.long(), text)

    assert len(render_report(view, now=views.NOW).encode()) < LIMIT


@pytest.mark.parametrize("name", views.ALL)
def test_a_page_may_load_and_run_nothing(name: str) -> None:
    tree = tree_of(name)

    policy, *_ = [each for each in tree.one("head").all("meta") if "http-equiv" in each.attributes]
    assert policy.attributes == {"http-equiv": "Content-Security-Policy", "content": POLICY}
    assert POLICY.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert not {each.name for each in tree.walk()} & {"script", "img", "link", "iframe", "object", "form", "a", "use"}
    used = {attribute for each in tree.walk() for attribute in each.attributes}
    assert not [each for each in used if each.startswith("on") or each in ("src", "href", "xlink:href", "style")]
    assert not re.search(r"url\(|@import|expression", tree.one("style").text)


@pytest.mark.parametrize("name", [name for name in views.ALL if name != "long"])
def test_texts_of_others_are_shown_and_never_read_as_html(name: str) -> None:
    view = views.ALL[name]()

    plain, tree = page_of(view), page_of(hostile(view, HOSTILE))

    # Some parts may be missing or more, because ids and names differ; new kinds of elements and attributes may not.
    assert {each.name for each in tree.walk()} <= {each.name for each in plain.walk()} | {"p", "section", "code"}
    assert tree.one("h1").text == HOSTILE
    assert tree.one("p", "headline").text == lead(hostile(view, HOSTILE))


def test_control_characters_and_letters_that_turn_the_text_around_are_not_shown() -> None:
    tree = page_of(hostile(views.rolled_back(), "a\x1b[31m\u202eb\ud800\x00"))

    assert tree.one("h1").text == "a?[31m?b??"


@pytest.mark.parametrize("name", views.ALL)
def test_each_chart_has_a_title_a_description_and_a_table(name: str) -> None:
    tree = tree_of(name)

    figures = tree.all("figure")
    assert len(figures) == len([each for each in tree.all("svg") if each.attributes.get("role") == "img"])
    for figure in figures:
        chart = figure.one("svg", "chart")
        named = {each.attributes["id"]: each.text for each in chart.walk() if "id" in each.attributes}
        assert named[chart.attributes["aria-labelledby"]] == figure.one("figcaption").text
        assert len(named[chart.attributes["aria-describedby"]]) > 20
        assert rows_of(figure.one("details").one("table"))
        for table in figure.all("table"):
            assert {each.attributes["scope"] for each in table.all("th")} == {"col", "row"}


@pytest.mark.parametrize("name", views.ALL)
def test_headings_are_in_order(name: str) -> None:
    headings = [each.name for each in tree_of(name).walk() if re.fullmatch(r"h[1-6]", each.name)]

    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}


def test_the_table_of_shares_has_the_counts_of_the_view() -> None:
    view = views.promoted()
    errors, slow = [
        each.one("table") for each in page_of(view).all("figure") if "per step" in each.one("figcaption").text
    ]

    assert rows_of(errors) == [
        ["1", "10 %", "3 of 10,820", "0.028 %", "0 of 1,204", "0 %"],
        ["2", "50 %", "6 of 6,026", "0.1 %", "1 of 6,000", "0.017 %"],
        ["all", "", "9 of 16,846", "0.053 %", "1 of 7,204", "0.014 %"],
    ]
    assert rows_of(slow)[2] == ["all", "", "181 of 16,846", "1.1 %", "78 of 7,204", "1.1 %"]


def test_the_table_of_evidence_has_every_look() -> None:
    view = views.rolled_back()
    (table,) = [each.one("table") for each in page_of(view).all("figure") if "Evidence" in each.one("figcaption").text]

    assert [(row[0], row[4]) for row in rows_of(table)] == [
        ("+6 s", "8.2"),
        ("+11 s", "0.9"),
        ("+17 s", "31.4"),
        ("+25 s", "290"),
    ]


def test_the_timeline_tells_everything_that_has_a_time() -> None:
    (table,) = [each.one("table") for each in page_of(views.rolled_back()).all("figure") if "Traffic" in each.text]

    assert [row[2] for row in rows_of(table)] == [
        "Weight 0 %",
        "Weight 10 %",
        "Signal evidence over the limit",
        "Verdict on step 1: roll back",
        "Alarm checkout-errors",
        "Signal promote",
        "Weight 0 %",
        "Hooks on the rollback: failed",
    ]
    assert rows_of(table)[5][3] == "by ada@example.com. looks fine to me; refused: the rollout is rolling back"
    assert rows_of(table)[6][3] == "rollback: all traffic is back on version 7 (stable)"


@pytest.mark.parametrize("name", [name for name in views.ALL if name != "long"])
def test_the_page_explains_the_rollout(name: str) -> None:
    view = views.ALL[name]()

    shown = [each.text for each in tree_of(name).one("ul", "told").all("li")]

    assert shown == [" ".join(each.split()) for each in explanation(view) if each != lead(view)]


def test_hooks_and_signals_say_what_became_of_them() -> None:
    hooks, signals = page_of(views.rolled_back()).all("ol", "log")

    assert "On the rollback: page-the-team failed in 0.2 s" in hooks.text
    assert "the hook said FAILED: nobody is on call" in hooks.text
    assert "Promote, by ada@example.com refused looks fine to me; the rollout is rolling back" in signals.text


def test_a_long_list_is_folded_and_its_middle_left_out() -> None:
    folded = [each.one("summary").text for each in tree_of("long").all("details") if each.all("ol")]

    assert folded == ["200 entries", "3,000 entries"]
    assert "in the middle are left out" in tree_of("long").text


def test_messages_that_were_held_are_told() -> None:
    tree = page_of(views.consumer())

    assert "Returned to the source queue 17" in tree.text
    assert "Sent to your own dead-letter queue or destination 2" in tree.text
    assert "Stream records" not in tree.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"redriven": Redriven()}, "No failed message had to be given back."),
        (
            {"redriven": Redriven(kept=3, queue="orders-9-dlq")},
            "Batches kept in the rollout's own queue 3 Kept queue: orders-9-dlq",
        ),
        ({"redriven": None, "holding_queue": "orders-9-dlq"}, "holds what fails until the end: orders-9-dlq"),
    ],
)
def test_what_becomes_of_failed_messages_is_told(fields: dict[str, Any], said: str) -> None:
    assert said in page_of(views.changed(views.consumer(), **fields)).text


@pytest.mark.parametrize(
    ("name", "said"), [("refused", "It ended before any traffic moved."), ("waiting", "No traffic has moved yet.")]
)
def test_without_traffic_the_page_says_so(name: str, said: str) -> None:
    tree = tree_of(name)

    assert said in tree.text
    assert not tree.all("figure")


def test_without_a_look_the_page_does_not_say_what_no_look_found() -> None:
    view = views.changed(views.refused(), comparisons=[views.compared((0, 0), (0, 0))])

    assert "No look found" not in page_of(view).text
    assert not page_of(view).all("figure")
    assert "No look found a failure: errors." in page_of(_quiet()).text


def _quiet() -> RolloutView:
    return views.changed(views.promoted(), evidence=[])


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("resumed by root", "resumed"),
        ("promoted to the next step by root: enough", "skipped"),
        ("this wait was skipped by root", "skipped"),
        ("promoted fully by root", "promoted fully"),
        ("no more failures", "passed"),
    ],
)
def test_what_an_operator_decided_has_not_passed(reason: str, word: str) -> None:
    bake = views.baked(0, 10, 0, 60, "continue", reason)
    view = views.changed(
        views.promoted(),
        steps=[StepView(step=0, weight=10, bake_seconds=60, status="done", bakes=[bake])],
        pauses=[
            PauseView(
                reason="paused by root",
                step=0,
                started_at=views.at(60),
                until=views.at(90),
                then="rollback",
                ended_at=views.at(80),
                verdict="continue",
                verdict_reason=reason,
            )
        ],
    )
    told = [each.what for each in happenings(view)]
    assert f"Verdict on step 1: {word}" in told
    assert f"Verdict on the pause: {word}" in told
    assert f"| {word} |" in render_markdown(view)


def test_operators_sentences_of_the_judge_are_known() -> None:
    source = inspect.getsource(verdict)
    for begin in words.DECIDED:
        assert f'"{begin.removesuffix(" by ")}"' in source


def test_signs_of_different_things_have_different_shapes() -> None:
    signals = [
        SignalView(id=kind, signal=kind, by="root", at=views.at(60 + place), outcome="handled")
        for place, kind in enumerate(
            ("promote", "promote-fully", "promote-early", "pause", "resume", "abort", "evidence")
        )
    ]
    baked = [views.baked(0, 10, 0, 60, kind, "why") for kind in ("continue", "roll-back", "inconclusive")]
    step = StepView(step=0, weight=10, bake_seconds=60, status="done", bakes=baked)
    found = happenings(views.changed(views.promoted(), signals=signals, steps=[step], pauses=[], hooks=[]))
    shapes = {each.sign: each.shape for each in found if each.lane}
    assert len(shapes) == len(signals) + len(baked)
    assert len(set(shapes.values())) == len(shapes)


def test_the_head_names_versions_and_what_served_at_the_end() -> None:
    facts = page_of(views.promoted()).one("dl", "facts").text
    assert "Stable version 7" in facts
    assert "Candidate version 8" in facts
    assert "Served at the end version 8" in facts
    assert "now" not in facts


def test_request_and_plan_are_folded_away_and_whole() -> None:
    view = views.promoted()
    folded = {each.one("summary").text: each for each in page_of(view).all("details") if each.all("pre")}

    assert {name: json.loads(each.one("pre").text) for name, each in folded.items()} == {
        "Request": view.request,
        "Plan": view.plan,
    }


def test_durations_are_shown_with_where_they_come_from() -> None:
    points = [(views.BEGIN, 12.0), (views.BEGIN + 60, 15.5)]
    latency = Latency([Series(role, "p50", points) for role in ("stable", "candidate")])
    tree = page_of(views.promoted(), latency=latency)

    (table,) = [
        each.one("table") for each in tree.all("figure") if each.one("figcaption").text == "p50 of the duration"
    ]
    assert rows_of(table) == [["+0 s", "12 ms", "12 ms"], ["+1 min", "15.5 ms", "15.5 ms"]]
    assert "metric Duration of AWS/Lambda per executed version, from CloudWatch" in tree.text


def test_missing_durations_are_explained() -> None:
    tree = page_of(views.rolled_back(), latency=Latency(missing="The profile may not call it."))

    assert "Latency The profile may not call it." in tree.text


class Line:
    what, quantity, unit, unit_price, dollars = "Step Functions", 52.0, "transition", 0.000025, 0.0013


class Cost:
    lines, total = [Line()], 0.0013


def test_the_cost_is_shown_if_it_was_worked_out() -> None:
    (table,) = [each for each in page_of(views.promoted(), cost=Cost()).all("table") if "dollars" in each.text]

    assert rows_of(table) == [["Step Functions", "52 transition", "2.5e-05", "0.001300"], ["All", "", "", "0.001300"]]


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_of_level_aa_in_light_dark_and_print() -> None:
    schemes = re.findall(r":root \{(.*?)\}", (TEMPLATES / "report.css").read_text(), re.DOTALL)

    assert len(schemes) == 3
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", scheme))
        for name in ("ink", "quiet", "good", "bad", "open", "candidate"):
            assert contrast(colours[name], colours["page"]) >= 4.5, (name, colours[name])
        assert contrast(colours["stable"], colours["page"]) >= 3
        # Text stands on these, too.
        for ground in ("area", "band"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5
            assert contrast(colours["quiet"], colours[ground]) >= 4.5
