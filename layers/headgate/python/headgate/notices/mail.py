"""The form of a notification for a topic: a subject, prose for e-mails, and the event as it is for programs."""

from __future__ import annotations

import json
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

from headgate.notices.notice import LABELS
from headgate.notices.texts import cut, cut_within, plain

if TYPE_CHECKING:
    from headgate.notices.notice import Notice

MAX_SUBJECT = 99
"""SNS takes subjects of fewer than 100 characters, without line breaks and control characters. ASCII is safe
everywhere: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""

MAX_MESSAGE_BYTES = 256 * 1024
"""SNS counts the texts of all protocols together: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""

MAX_MAIL = 8_000
"""Characters of the prose. What is longer than a screen or two is not read in an e-mail."""

WIDTH = 76
"""Characters of a line. SNS sends e-mails as plain text."""


def subject(notice: Notice) -> str:
    """Return the subject: outcome and target first, in ASCII, with the middle of a long target left out."""
    label = LABELS[notice.outcome]
    target = _ascii(notice.name)
    # Two rollouts of one target should not look like one e-mail that came twice.
    reference = _ascii(notice.reference) if notice.reference != notice.target else ""
    if not target:
        return cut(f"{label}: {notice.kind} {reference or 'without an id'}", MAX_SUBJECT)
    about = f" ({cut_within(reference, 34)})" if reference else ""
    return f"{label}: {cut_within(target, MAX_SUBJECT - len(label) - 2 - len(about))}{about}"


def _ascii(text: str) -> str:
    """Return a text in ASCII: letters without accents, and a question mark for what has no such form."""
    bare = unicodedata.normalize("NFKD", plain(text))
    return "".join(each for each in bare if not unicodedata.combining(each)).encode("ascii", "replace").decode()


def prose(notice: Notice) -> str:
    """Return the text of an e-mail: what happened, why, the numbers, and how to see more."""
    parts = [_wrapped(notice.headline), *(_wrapped(reason) for reason in notice.reasons)]
    if notice.figures:
        widest = max(len(figure.label) for figure in notice.figures)
        parts.append("\n".join(f"{f'{figure.label}:':<{widest + 1}}  {figure.value}" for figure in notice.figures))
    if notice.commands or notice.link:
        # Long links and commands are not wrapped, so that they can be copied.
        more = [f"  {line}" for line in (*notice.commands, notice.link) if line]
        parts.append("\n".join(["To see more or to step in:" if _steps_in(notice) else "To see more:", *more]))
    return cut("\n\n".join(parts), MAX_MAIL) + "\n"


def _steps_in(notice: Notice) -> bool:
    return notice.outcome == "paused"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def publication(event: dict[str, Any], notice: Notice) -> dict[str, str]:
    """Return the parameters of Publish, without the topic.

    Subscribers by e-mail get the prose, and all others the event as EventBridge delivers it. An event that is so large
    that both do not fit is published alone, as it is.
    """
    whole = _json(event)
    both = _json({"default": whole, "email": prose(notice)})
    if len(both.encode()) <= MAX_MESSAGE_BYTES:
        return {"Subject": subject(notice), "Message": both, "MessageStructure": "json"}
    return {"Subject": subject(notice), "Message": whole}


def _json(value: Any) -> str:
    """Return JSON as EventBridge writes it: without spaces, letters of every language as they are."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # A lone surrogate, which only an escape sequence can hold.
        return json.dumps(value, separators=(",", ":"))
    return text
