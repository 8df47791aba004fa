"""The messages for Slack, Teams and Amazon Q: nobody can put a mention, a link or a format into them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.notices.chat import MAX_DESCRIPTION, MAX_HEADER, MAX_TITLE, amazon_q, for_slack, slack, teams
from tests.unit.notices.cases import LINK, NASTY, SENT, notice, rolled_back, signal

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNEL = "C0123456789"


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a message."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from parts(child)


def test_a_message_to_slack_has_title_reason_numbers_and_link() -> None:
    message = slack(notice("rollout_rolled_back", rolled_back(signals=[signal()])), CHANNEL)
    assert message["channel"] == CHANNEL
    assert message["text"].startswith("checkout:live, rollout checkout-42: rolled back at")
    header, words = message["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "Rolled back: checkout:live", "emoji": False}
    lines = ["".join(each["text"] for each in section["elements"]) for section in words["elements"]]
    assert lines[1].startswith("4 of 118 requests of version 7 failed")
    assert "Candidate (version 7): 118 requests, 4 failed (3.4 %)\n" in lines
    assert "headgate explain checkout-42\n" in lines
    assert [each["url"] for each in parts(words) if each.get("type") == "link"] == [LINK]


@pytest.mark.parametrize("name", SENT)
def test_slack_reads_nothing_that_somebody_wrote_as_a_mention_or_a_link(name: str) -> None:
    message = slack(notice(name, reason=NASTY, by=NASTY, target=NASTY, cause=NASTY), CHANNEL)
    # Only this text is read for them.
    assert "<" not in message["text"]
    assert {each["type"] for each in parts(message["blocks"]) if "type" in each} <= {
        *("header", "plain_text", "rich_text", "rich_text_section", "text", "link")
    }
    links = [each["url"] for each in parts(message["blocks"]) if each.get("type") == "link"]
    assert all(link.startswith("https://eu-central-1.console.aws.amazon.com/") for link in links)


def test_slacks_three_characters_are_escaped_once() -> None:
    assert for_slack("a & b <c> &amp;") == "a &amp; b &lt;c&gt; &amp;amp;"


def test_a_card_for_teams_has_title_reason_numbers_and_a_button() -> None:
    message = teams(notice("rollout_rolled_back", rolled_back()))
    [attachment] = message["attachments"]
    card = attachment["content"]
    assert (message["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    texts = ["".join(run["text"] for run in block["inlines"]) for block in card["body"]]
    assert texts[0] == "Rolled back: checkout:live"
    assert "Stable (version 6): 1,046 requests, 1 failed (0.096 %)" in texts
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open the execution", "url": LINK}]
    assert card["body"][0]["inlines"][0]["color"] == "attention"
    assert teams(notice("rollout_succeeded"))["attachments"][0]["content"]["body"][0]["inlines"][0]["color"] == "good"


@pytest.mark.parametrize("name", SENT)
def test_teams_reads_nothing_that_somebody_wrote_as_markdown(name: str) -> None:
    message = teams(notice(name, reason=NASTY, by=NASTY, target=NASTY, cause=NASTY))
    # Runs of text are not read as Markdown, unlike blocks of text and facts.
    kinds = {each["type"] for each in parts(message) if "type" in each}
    assert kinds <= {"message", "AdaptiveCard", "RichTextBlock", "TextRun", "Action.OpenUrl"}


def test_a_message_for_amazon_q_has_its_fields() -> None:
    message = amazon_q(notice("rollout_rolled_back", rolled_back()))
    assert (message["version"], message["source"], message["id"]) == ("1.0", "custom", "checkout-42/ended")
    content = message["content"]
    assert (content["textType"], content["title"]) == ("client-markdown", "Rolled back: checkout:live")
    assert "Candidate (version 7): 118 requests, 4 failed (3.4 %)" in content["description"].splitlines()
    assert content["nextSteps"] == ["`headgate explain checkout-42`", "`headgate report checkout-42`", LINK]
    # A rollout's messages stand in one thread.
    assert message["metadata"]["threadId"] == "checkout-42"
    assert message["metadata"]["eventType"] == "Rollout Rolled Back"


@pytest.mark.parametrize("name", SENT)
def test_amazon_q_reads_nothing_that_somebody_wrote_as_a_mention_or_a_link(name: str) -> None:
    content = amazon_q(notice(name, reason=NASTY, by=NASTY, target=NASTY, cause=NASTY))["content"]
    for text in (content["title"], content["description"]):
        assert "<" not in text
        assert "](" not in text


@pytest.mark.parametrize("name", SENT)
def test_long_texts_keep_the_limits_of_each_chat(name: str) -> None:
    long = "<&> word " * 20_000
    view = rolled_back(target=long, signals=[signal(by=long, reason=long)] * 9) if name.startswith("rollout") else None
    sent = notice(name, view, reason=long, target=long, by=long, cause=long, queue=long, taskDefinition=long)
    for_slack_message, for_teams, for_q = slack(sent, CHANNEL), teams(sent), amazon_q(sent)
    assert len(for_slack_message["blocks"][0]["text"]["text"]) <= MAX_HEADER
    assert len(for_slack_message["text"]) < 4_000
    # Microsoft's limit for a message is 28 KB.
    assert len(json.dumps(for_teams).encode()) < 28_000
    assert len(for_q["content"]["title"]) <= MAX_TITLE
    assert len(for_q["content"]["description"]) <= MAX_DESCRIPTION
    assert sum(len(json.dumps(each)) for each in (for_slack_message, for_teams, for_q)) < 64_000
