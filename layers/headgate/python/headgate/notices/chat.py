"""The forms of a notification for chat: Slack, Microsoft Teams, and Amazon Q Developer in chat applications.

Texts of requests and records are shown as they are: nobody can put a mention, a link or a format into a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.notices.texts import cut

if TYPE_CHECKING:
    from headgate.notices.notice import Notice

MAX_HEADER, MAX_ELEMENT = 150, 3000
"""Slack's limit of characters in a header, and what a text in a section may have.

https://docs.slack.dev/reference/block-kit/blocks/header-block/"""

MAX_CARD_TEXT = 4_000
"""Characters of one text in a card. A message to Teams may have 28 KB in all.

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
    sections = [[_text(notice.headline)], *([_text(reason)] for reason in notice.reasons)]
    sections += [[_text(f"{label}: ", bold=True), _text(value)] for label, value in notice.figures]
    sections += [[_text(command, code=True)] for command in notice.commands]
    if notice.link:
        sections.append([{"type": "link", "url": notice.link, "text": "Execution in the console"}])
    lines = [
        {"type": "rich_text_section", "elements": [*section, {"type": "text", "text": "\n"}]} for section in sections
    ]
    title = {"type": "plain_text", "text": cut(notice.title, MAX_HEADER), "emoji": False}
    return {
        "channel": channel,
        # What devices show and read out.
        "text": for_slack(notice.headline),
        "blocks": [{"type": "header", "text": title}, {"type": "rich_text", "elements": lines}],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _text(text: str, **style: bool) -> dict[str, Any]:
    element: dict[str, Any] = {"type": "text", "text": cut(text, MAX_ELEMENT)}
    return element | ({"style": style} if style else {})


def for_slack(text: str) -> str:
    """Escape a text, so that it holds no link and no mention.

    https://docs.slack.dev/messaging/formatting-message-text/
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams(notice: Notice) -> dict[str, Any]:
    """Return the body for a Teams workflow that posts what a webhook gets: a message with an Adaptive Card.

    Runs of text are not read as Markdown, unlike blocks of text:
    https://adaptivecards.io/explorer/TextRun.html
    """
    title = {"size": "large", "weight": "bolder", "color": COLORS.get(notice.outcome, "attention")}
    body = [_run(notice.title, **title), _run(notice.headline), *(_run(reason) for reason in notice.reasons)]
    body += [
        {"type": "RichTextBlock", "inlines": [_inline(f"{label}: ", weight="bolder"), _inline(value)]}
        for label, value in notice.figures
    ]
    body += [_run(command, fontType="monospace", isSubtle=True) for command in notice.commands]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": notice.title,
        "body": body,
    }
    if notice.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the execution", "url": notice.link}]
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


def _run(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [_inline(text, **style)]}


def _inline(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": cut(text, MAX_CARD_TEXT), **style}


def amazon_q(notice: Notice) -> dict[str, Any]:
    """Return a custom notification of Amazon Q Developer in chat applications.

    https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
    """
    numbers = (f"{label}: {value}" for label, value in notice.figures)
    said = "\n".join((notice.headline, *notice.reasons, *numbers))
    content: dict[str, Any] = {
        "textType": "client-markdown",
        "title": cut(_for_both(notice.title), MAX_TITLE),
        "description": cut(_for_both(said), MAX_DESCRIPTION),
    }
    steps = [f"`{command}`" for command in notice.commands] + [notice.link] * bool(notice.link)
    if steps:
        content["nextSteps"] = [cut(step, MAX_STEP) for step in steps]
    metadata: dict[str, Any] = {"summary": cut(notice.title, MAX_TITLE), "eventType": notice.detail_type}
    if notice.reference:
        # What is said of one rollout stands in one thread.
        metadata["threadId"] = notice.reference
    return {"version": "1.0", "source": "custom", "id": notice.id, "content": content, "metadata": metadata}


def _for_both(text: str) -> str:
    """Escape a text for Slack, and for Teams, whose links are ``[text](address)``."""
    return for_slack(text).replace("](", "] (")
