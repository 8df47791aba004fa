"""What every model on the wire shares: suggestions for misspelled words, and where a text is not JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.json_faults import json_fault
from headgate.wire import did_you_mean

WORDS = st.text("abcdeABCDE_-", min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("coutn", "count"),
        ("imge", "image"),
        ("alais", "alias"),
        ("startegy", "strategy"),
        ("bakeSecs", "bakeSeconds"),
        ("bakeseconds", "bakeSeconds"),
        ("bake_seconds", "bakeSeconds"),
        ("BakeSeconds", "bakeSeconds"),
        ("lamda-alias", "lambda-alias"),
        ("tolerance", "tolerate"),
        ("threshold", "thresholdMs"),
        ("timeout", "timeoutSeconds"),
        ("capacityProvider", "provider"),
        ("containerOverrides", "containers"),
    ],
)
def test_a_misspelling_or_a_part_of_a_word_is_suggested(written: str, known: str) -> None:
    assert did_you_mean(written, ["family", known, "tags", "x"]) == f"; did you mean {known}?"


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("status", "tags"),
        ("taskDefinitionArn", "containerDefinitions"),
        ("taskDefinitionArn", "taskRoleArn"),
        ("revision", "version"),
        ("stop", "promote"),
        ("rollback", "abort"),
        ("name", "note"),
        ("by", "id"),
        ("", "id"),
        ("__", "id"),
    ],
)
def test_an_unrelated_word_is_not_suggested(written: str, known: str) -> None:
    assert did_you_mean(written, [known]) == "; remove it"


def test_the_closest_word_is_suggested_whatever_the_order() -> None:
    for known in (["alarm", "alarms", "errors"], ["errors", "alarms", "alarm"]):
        assert did_you_mean("alrams", known) == "; did you mean alarms?"


def test_a_word_that_is_spelled_right_but_stands_in_the_wrong_place_is_to_be_removed() -> None:
    assert did_you_mean("alias", ["alias"]) == "; remove it"


@given(WORDS, st.lists(WORDS, max_size=5))
def test_a_suggestion_is_one_of_the_known_words(written: str, known: list[str]) -> None:
    fix = did_you_mean(written, known)
    assert fix == "; remove it" or fix.removeprefix("; did you mean ").removesuffix("?") in known


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "unexpected text at line 1, column 1: not json"),
        ('{"a": 1,\n "b": nope}', "unexpected text at line 2, column 7: nope}"),
        ("{'a': 1}", "unexpected text at line 1, column 2: 'a': 1}"),
        ('{"a": ', "it ends too early, at line 1, column 7"),
        ("", "it ends too early, at line 1, column 1"),
        ("[" * 100_000, "it has too many levels of lists and objects, or a number with too many digits"),
        ("1" * 5000, "it has too many levels of lists and objects, or a number with too many digits"),
    ],
)
def test_a_text_that_is_not_json_is_told_where_without_words_of_python(text: str, told: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as raised:
        json.loads(text)
    assert json_fault(raised.value) == told
