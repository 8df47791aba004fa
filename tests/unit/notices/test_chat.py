"""The messages for Slack, Teams and Amazon Q: nobody can put a mention, a link or a format into them."""

# ruff: noqa: RUF001 - characters that look like marks

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from headgate.notices.chat import MAX_DESCRIPTION, MAX_HEADER, MAX_TITLE, amazon_q, for_slack, inert, slack, teams
from headgate.notices.notice import Figure
from tests.unit.notices.cases import LINK, NASTY, SENT, notice, rolled_back, signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.notices.notice import Notice

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
    assert message["mrkdwn"] is False
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
    # It may have Markdown.
    fallback = message["attachments"][0]["content"]["fallbackText"]
    assert inert(fallback) == fallback


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
def test_amazon_q_reads_nothing_that_somebody_wrote_as_a_mention_a_link_or_a_format(name: str) -> None:
    message = amazon_q(notice(name, reason=NASTY, by=NASTY, target=NASTY, cause=NASTY, taskId=NASTY, redriveId=NASTY))
    content = message["content"]
    for text in (content["title"], content["description"], message["metadata"]["summary"]):
        assert not re.search(r"[<>*`~@]|\]\(|://|&\w+;", text)
    for step in content["nextSteps"]:
        assert re.fullmatch(r"`[^`<>]+`", step) or step.startswith("https://eu-central-1.console.aws.amazon.com/")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<!channel> <@U1> @here", "‹!channel› ‹＠U1› ＠here"),
        ("&lt;!here&gt; a & b", "＆lt;!here＆gt; a & b"),
        ("[x](https://evil.example)", "(x)(https∶//evil․example)"),
        ("www.evil.example mailto:a@b.example", "www․evil․example mailto∶a＠b․example"),
        ("*b* _i_ __i__ ~s~ `c`", "∗b∗ ˍiˍ ˍˍiˍˍ ∼s∼ 'c'"),
        (":tada: # 1", "∶tada: # 1"),
        ("# heading", "＃ heading"),
        ("- one", "– one"),
        ("1. one", "1: one"),
        # What is no mark stays.
        ("checkout:live, order_line-2: 3.4 % of 1,046.", "checkout:live, order_line-2: 3.4 % of 1,046."),
        ("arn:aws:sns:eu-west-1:1:a", "arn:aws:sns:eu-west-1:1:a"),
    ],
)
def test_marks_of_slack_and_teams_become_characters_that_mean_nothing(text: str, shown: str) -> None:
    assert inert(text) == shown
    assert inert(shown) == shown


def empty(name: str) -> Notice:
    """What is said of an event whose texts are empty."""
    return notice(name, reason="", by="", cause="")._replace(figures=(Figure("Candidate", ""),))


@pytest.mark.parametrize("name", SENT)
def test_no_message_to_slack_has_an_empty_text_which_slack_refuses(name: str) -> None:
    sections = [each for each in parts(slack(empty(name), CHANNEL)) if "elements" in each or "text" in each]
    assert all(each.get("text", "some") and each.get("elements", "some") for each in sections)


@pytest.mark.parametrize("name", SENT)
def test_no_card_for_teams_has_an_empty_text(name: str) -> None:
    assert all(each.get("text", "some") and each.get("inlines", "some") for each in parts(teams(empty(name))))


@pytest.mark.parametrize("letter", ["架", "\N{SLIGHTLY SMILING FACE}", '"'])
@pytest.mark.parametrize("name", SENT)
def test_a_card_keeps_its_limit_in_every_language(name: str, letter: str) -> None:
    long = letter * 5_000
    signals = [signal(by=long, reason=long)] * 9
    view = rolled_back(target=long, signals=signals) if name.startswith("rollout") else None
    card = teams(notice(name, view, reason=long, target=long, by=long, cause=long))
    # Microsoft's limit for a message is 28 KB, and JSON has six bytes for a letter beyond ASCII.
    assert len(json.dumps(card).encode()) < 28_000
    assert len(card["attachments"][0]["content"]["body"]) >= 2


def test_a_card_with_very_many_texts_keeps_its_limit() -> None:
    many = notice("rollout_rolled_back")._replace(figures=(Figure("架" * 100, "架" * 100),) * 99)
    card = teams(many)
    assert len(json.dumps(card).encode()) < 28_000
    assert card["attachments"][0]["content"]["body"][0]["inlines"][0]["text"] == many.title


def test_a_long_reason_is_cut_no_more_than_it_must() -> None:
    [run] = [
        run
        for run in parts(teams(notice("rollout_refused", reason="架" * 1_400)))
        if run.get("text", "").startswith("架")
    ]
    assert len(run["text"]) == 1_401, "with its full stop"


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
