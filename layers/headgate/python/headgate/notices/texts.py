"""Texts of notifications: what comes from a request, a signal or a record is not trusted, and is cut."""

from __future__ import annotations

import unicodedata

from headgate.history.wording import between

MAX_TEXT = 1500
"""Characters of one text in a notification. Reasons of Headgate are shorter; causes of executions are not."""

_MARKS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that change how a text is shown: control, format (directions), surrogates, separators."""


def plain(text: object, at_most: int = MAX_TEXT) -> str:
    """Return a text in one line without control characters, cut at its end."""
    kept = "".join(" " if unicodedata.category(each) in _MARKS else each for each in str(text))
    return cut(" ".join(kept.split()), at_most)


def cut(text: str, at_most: int) -> str:
    """Return a text with at most this many characters, whose end is replaced where it is longer."""
    return text if len(text) <= at_most else f"{text[: at_most - 3].rstrip()}..."


def cut_within(text: str, at_most: int) -> str:
    """Return a text with at most this many characters. Its middle is left out: names differ at both ends."""
    if len(text) <= at_most:
        return text
    left = (at_most - 3 + 1) // 2
    return f"{text[:left]}...{text[len(text) - (at_most - 3 - left) :]}"


def seconds_between(earlier: str | None, later: str | None) -> float | None:
    """Return the seconds between two times of a record; None if one is missing."""
    if not earlier or not later:
        return None
    return between(earlier, later)
