"""The picture of a run shows what a demo printed."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tools.run_picture import PICTURE, draw, read

PRINTED = """\
Headgate demo. Strategy: 10 % for 10 s, then 100 %.

A good release  (demo/events/good_release.json)
    1.2 s  Rollout Started: lambda-alias/checkout/live, 1 steps
    1.5 s  Step Started: 10 % to the candidate
    2.0 s    10 % to version 2   version 1: 40 requests, 0 errors   version 2: 4 requests, 0 errors
   11.5 s  Rollout Succeeded: 0 of 22 candidate requests failed against 0 of 141; odds against chance 1 to 1

A bad release: 30% of its requests fail  (demo/events/bad_release.json)
    1.1 s  Step Started: 10 % to the candidate
    3.1 s    10 % to version 3   version 2: 58 requests, 0 errors   version 3: 4 requests, 2 errors
    5.1 s  Rollout Rolled Back: 4 of 9 candidate requests failed against 0 of 60; odds against chance 1,340 to 1
"""


def test_runs_are_read_from_what_a_demo_printed() -> None:
    good, bad = read(PRINTED)
    assert good.title == "A good release"
    assert good.weights == [(0.0, 0.0), (1.5, 10.0), (11.5, 100.0)]
    assert good.failures == [(2.0, 0)]
    assert bad.weights == [(0.0, 0.0), (1.1, 10.0), (5.1, 0.0)]
    assert bad.failures == [(3.1, 2)]
    assert bad.end == (5.1, "rolled back", "4 of 9 candidate requests failed against 0 of 60")


def test_a_run_of_a_service_is_read_too() -> None:
    printed = PRINTED.replace("version ", "revision catalog:")
    assert [run.failures for run in read(printed)] == [[(2.0, 0)], [(3.1, 2)]]


def test_the_picture_is_one_and_says_how_both_ended() -> None:
    text = " ".join(ET.fromstring(draw(read(PRINTED))).itertext())  # noqa: S314 - drawn by the line itself
    assert "succeeded after 11.5 s" in text
    assert "rolled back after 5.1 s" in text


def test_the_picture_in_the_docs_is_one_and_loads_nothing() -> None:
    picture = PICTURE.read_text("utf-8")
    assert ET.fromstring(picture).tag.endswith("svg")  # noqa: S314 - a file of this repository
    assert "href" not in picture
