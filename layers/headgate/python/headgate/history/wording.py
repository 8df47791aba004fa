"""How numbers, times and names are written for people: everywhere the same."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

MINUTE, HOUR, DAY = 60, 3600, 86400

MAX_SHOWN_VALUE = 1e15
"""Larger evidence is not told apart in records."""


def number(value: float) -> str:
    """Return a count with its thousands separated: ``1,204``."""
    return f"{value:,.0f}"


def weight(percent: float) -> str:
    """Return a weight in percent as it was set: ``25 %``, ``0.5 %``."""
    return f"{percent:.10g} %" if percent >= 0.0001 or not percent else f"{percent:.10f}".rstrip("0") + " %"


def share(part: float, whole: float) -> str:
    """Return a share in percent: ``3.2 %``, ``16.7 %``. Neither few nor nearly all look like none or all."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.01:
        return "under 0.01 %"
    if 99.9 < percent < 100:
        return "over 99.9 %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.3g} %"


def evidence(value: float) -> str:
    """Return evidence, or a limit of it, with three digits and without an exponent: ``0.12``, ``6,350``."""
    if value < 0.01:
        return "less than 0.01"
    if value >= MAX_SHOWN_VALUE:
        return f"more than {MAX_SHOWN_VALUE:,.0f}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded.is_integer() else f"{rounded:g}"


def duration(seconds: float | timedelta) -> str:
    """Return a duration in its two largest units: ``0.4 s``, ``8.2 s``, ``2 min 10 s``, ``1 h 5 min``, ``3 d 4 h``."""
    exact = float(seconds) if isinstance(seconds, int | float) else seconds.total_seconds()
    exact = max(0.0, exact)
    if round(exact, 1) < 10:
        return f"{round(exact, 1):g} s"
    if (whole := round(exact)) < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _pair(whole, MINUTE, "min", 1, "s")
    if (minutes := round(exact / MINUTE)) * MINUTE < DAY:
        return _pair(minutes * MINUTE, HOUR, "h", MINUTE, "min")
    return _pair(round(exact / HOUR) * HOUR, DAY, "d", HOUR, "h")


def _pair(whole: int, large: int, name: str, small: int, other: str) -> str:
    rest = whole % large // small
    return f"{whole // large:,} {name} {rest} {other}" if rest else f"{whole // large:,} {name}"


def between(earlier: str, later: str) -> float:
    """Return the seconds between two times in the format of records; 0 if the later one comes first."""
    return max(0.0, (moment(later) - moment(earlier)).total_seconds())


def moment(text: str) -> datetime:
    """Return a time in the format of records."""
    return datetime.fromisoformat(text)


def clock(at: str, *, beside: str | None = None, seconds: bool = True) -> str:
    """Return a time in the format of records, for people: ``14:05:10 UTC``, with its date if that differs.

    Parameters
    ----------
    beside
        A time whose date is known to the reader. None always writes the date.
    seconds
        False leaves out the seconds, for limits that are far away.
    """
    time = at[11:19] if seconds else at[11:16]
    date = "" if beside and beside[:10] == at[:10] else f"{at[:10]} "
    return f"{date}{time} UTC"


def target(key: str) -> str:
    """Return a target in the short form that commands take.

    ``checkout:live`` for an alias, the mapping's UUID for a consumer, ``web/shop`` for an ECS service.
    """
    kind, _, rest = key.partition("/")
    if kind == "lambda-alias":
        return rest.replace("/", ":", 1)
    return rest if kind in ("event-source", "ecs-service") else key


def revision_noun(target_key: str) -> str:
    """Return what the revisions of a target are: ``version`` of a function, ``revision`` of a task definition."""
    return "revision" if target_key.startswith("ecs-service/") else "version"


_NUMBER = re.compile(r"\d+")


def revision(name: str, otherwise: str) -> str:
    """Return a revision in a sentence: ``version 8``, ``shop:8``; ``otherwise`` if it is not known."""
    if not name:
        return otherwise
    return f"version {name}" if _NUMBER.fullmatch(name) else name


_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:(?:sts|iam)::\d{12}:(?:assumed-role/|user/|role/)?(?P<name>.+)")


def person(by: str) -> str:
    """Return who sent a signal; of the ARN of a role's session or a user, its names: ``Deploy/kim``."""
    match = _PRINCIPAL.fullmatch(by)
    return match["name"] if match else by


def sentence(text: str) -> str:
    """Return a text as a sentence: with a capital at its beginning and a full stop at its end."""
    text = closed(text.strip())
    # A field, id or code at the beginning keeps its spelling.
    first = text.split(maxsplit=1)[0].rstrip(",;.") if text else ""
    return text[0].upper() + text[1:] if first.isalpha() and first.islower() else text


def closed(text: str) -> str:
    """Return a text with a full stop at its end. A name at its beginning keeps its spelling."""
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def listed(texts: list[str], word: str = "and") -> str:
    """Return texts as a list in a sentence: ``a, b and c``."""
    *others, last = texts or [""]
    return f"{', '.join(others)} {word} {last}" if others else last


def counted(count: float, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 message``, ``1,204 messages``."""
    return f"{number(count)} {one if count == 1 else many or f'{one}s'}"
