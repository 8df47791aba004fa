"""The forms of a notification for chat: Slack, Microsoft Teams, and Amazon Q Developer in chat applications.

Nobody can put a mention, a link or a format into a message by a text of a request or a record. Slack and Teams have
elements that they show as they are. Everywhere else, marks are replaced by similar characters: `inert`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from headgate.notices.texts import cut

if TYPE_CHECKING:
    from headgate.notices.notice import Notice

MAX_HEADER, MAX_ELEMENT = 150, 3000
"""Slack's limit of characters in a header, and what a text in a section may have.

https://docs.slack.dev/reference/block-kit/blocks/header-block/"""

CARD_TEXTS = (4_000, 2_000, 1_000, 500, 250, 100)
"""Characters of one text in a card: the most with which the message keeps its limit."""

MAX_CARD_BYTES = 27_000
"""A message to Teams may have 28 KB in all, with its escape sequences: EventBridge passes JSON on as it is.

https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using"""

MAX_TITLE, MAX_DESCRIPTION, MAX_STEP = 250, 4_000, 500
"""Characters in a message of Amazon Q Developer, which the chat application shows whole."""

COLORS = {"succeeded": "good", "undone": "warning", "paused": "warning", "refused": "warning"}
"""Colors of a card's title by outcome; others are shown as attention."""


def slack(notice: Notice, channel: str) -> dict[str, Any]:
    """Return the body of Slack's chat.postMessage (https://docs.slack.dev/reference/methods/chat.postMessage/).

    Slack does not look for links, mentions and formats in the elements of rich text:
    https://docs.slack.dev/reference/block-kit/blocks/rich-text-block/
    """
    sections = [_texts(said) for said in (notice.headline, *notice.reasons)]
    sections += [[*_texts(f"{label}: ", bold=True), *_texts(value)] for label, value in notice.figures]
    sections += [_texts(command, code=True) for command in notice.commands]
    if notice.link:
        sections.append([{"type": "link", "url": notice.link, "text": "Execution in the console"}])
    lines = [
        {"type": "rich_text_section", "elements": [*section, {"type": "text", "text": "\n"}]}
        for section in sections
        if section
    ]
    title = {"type": "plain_text", "text": cut(notice.title, MAX_HEADER), "emoji": False}
    return {
        "channel": channel,
        # What devices show and read out. It is read as mrkdwn unless told otherwise.
        "text": for_slack(notice.headline),
        "mrkdwn": False,
        "blocks": [{"type": "header", "text": title}, {"type": "rich_text", "elements": lines}],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _texts(text: str, **style: bool) -> list[dict[str, Any]]:
    """Return the element of a text; none for an empty one, with which Slack refuses the whole message."""
    element: dict[str, Any] = {"type": "text", "text": cut(text, MAX_ELEMENT)}
    return [element | ({"style": style} if style else {})] if text else []


def for_slack(text: str) -> str:
    """Escape a text, so that it holds no link and no mention.

    https://docs.slack.dev/messaging/formatting-message-text/
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams(notice: Notice) -> dict[str, Any]:
    """Return the body for a Teams workflow that posts what a webhook gets: a message with an Adaptive Card.

    Runs of text are not read as Markdown, unlike blocks of text and a card's `fallbackText`:
    https://adaptivecards.io/explorer/TextRun.html
    """
    for at_most in CARD_TEXTS:
        message = _card(notice, at_most)
        if _bytes(message) <= MAX_CARD_BYTES:
            return message
    # There are so many texts that not even their beginnings fit.
    body = message["attachments"][0]["content"]["body"]
    while _bytes(message) > MAX_CARD_BYTES:
        body.pop()
    return message


def _bytes(message: dict[str, Any]) -> int:
    """Return the size of a message as it is sent: ASCII, with escape sequences."""
    return len(json.dumps(message))


def _card(notice: Notice, at_most: int) -> dict[str, Any]:
    def block(*inlines: dict[str, Any]) -> dict[str, Any]:
        return {"type": "RichTextBlock", "inlines": list(inlines)}

    def run(text: str, **style: Any) -> dict[str, Any]:
        return {"type": "TextRun", "text": cut(text, at_most), **style}

    body = [block(run(notice.title, size="large", weight="bolder", color=COLORS.get(notice.outcome, "attention")))]
    body += [block(run(said)) for said in (notice.headline, *notice.reasons) if said]
    body += [block(run(f"{label}: ", weight="bolder"), run(value)) for label, value in notice.figures if value]
    body += [block(run(command, fontType="monospace", isSubtle=True)) for command in notice.commands]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": cut(inert(notice.title), at_most),
        "body": body,
    }
    if notice.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the execution", "url": notice.link}]
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


def amazon_q(notice: Notice) -> dict[str, Any]:
    """Return a custom notification of Amazon Q Developer in chat applications.

    Its only type of text is the Markdown of the chat application, which may be Slack or Teams:
    https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
    """
    numbers = (f"{label}: {value}" for label, value in notice.figures)
    said = "\n".join(inert(each) for each in (notice.headline, *notice.reasons, *numbers) if each)
    title = cut(inert(notice.title), MAX_TITLE)
    content: dict[str, Any] = {
        "textType": "client-markdown",
        "title": title,
        "description": cut(said, MAX_DESCRIPTION),
    }
    # They are code, but for a backtick. Ids have none, unless an event is not of Headgate.
    steps = [f"`{cut(_NO_PART_OF_A_COMMAND.sub('?', command), MAX_STEP)}`" for command in notice.commands]
    if notice.link:
        steps.append(notice.link)
    if steps:
        content["nextSteps"] = steps
    metadata: dict[str, Any] = {"summary": title, "eventType": notice.detail_type}
    if notice.reference:
        # What is said of one rollout stands in one thread.
        metadata["threadId"] = notice.reference
    return {"version": "1.0", "source": "custom", "id": notice.id, "content": content, "metadata": metadata}


_NO_PART_OF_A_COMMAND = re.compile(r"[^\w .:/-]")

_COLON = "\N{RATIO}"
_MARKS = str.maketrans(
    {
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
        "*": "\N{ASTERISK OPERATOR}",
        "`": "'",
        "~": "\N{TILDE OPERATOR}",
        "[": "(",
        "]": ")",
        "@": "\N{FULLWIDTH COMMERCIAL AT}",
    }
)
"""Marks of Slack and Teams wherever they are, and characters that look similar and mean nothing to them."""

_BEGINNINGS = {
    "#": "\N{FULLWIDTH NUMBER SIGN}",
    "=": "\N{FULLWIDTH EQUALS SIGN}",
    "+": "\N{FULLWIDTH PLUS SIGN}",
    "-": "\N{EN DASH}",
}
"""Marks of headings, lists and rules, at the beginning of a line."""


def inert(text: str) -> str:
    """Return a line in which neither Slack nor Teams finds a mention, a link or a format.

    Each has marks of its own, and what escapes them in one is shown by the other. So marks are replaced by similar
    characters, in both.
    """
    text = text.translate(_MARKS)
    # Escaped characters.
    text = re.sub(r"&(?=#?\w+;)", "\N{FULLWIDTH AMPERSAND}", text)
    # Italics, but not what is within a name.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "\N{MODIFIER LETTER LOW MACRON}", text)
    # Emojis.
    text = re.sub(r"(?<![^\W_]):(?=[\w+'-]+:)", _COLON, text)
    # Addresses, with a scheme or without.
    text = re.sub(r":(?=//)|(?<=mailto):", _COLON, text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\w)\.(?=[^\W\d_]{2})", "\N{ONE DOT LEADER}", text)
    text = re.sub(r"^[#=+-]", lambda found: _BEGINNINGS[found[0]], text)
    return re.sub(r"^(\d+)[.)](?=\s|$)", r"\1:", text)
