"""The report as Markdown shows what the view says, and texts of others as they are."""

from __future__ import annotations

import re

import pytest

from headgate.history.sentences import explanation
from headgate_cli.pictures.markdown import code, escaped, render_markdown
from headgate_cli.pictures.words import lead
from tests.unit.pictures import rollout_views as views

ROLLED_BACK = """\
## ↩ checkout-42: rolled back

Rolled back: 3.4 % of 118 requests of version 8 failed, 0.096 % of version 7's.

- Target: lambda-alias/checkout/live
- From: version 7 (stable) to version 8 (candidate)
- Served at the end: version 7
- Ran: 2026-11-30 14:05:12 UTC to 14:05:37 UTC

### Why

{why}

| Step | Weight | Bake | Result | errors, version 7 (stable) | errors, version 8 (candidate) |
| --- | --- | --- | --- | --- | --- |
| 1 | 10 % | 2 min | roll back | 1 of 1,046 (0.096 %) | 4 of 118 (3.4 %) |
| 2 | 50 % | 2 min | skipped |  |  |

| Evidence against the candidate | Last | Highest | Limit | At its limit |
| --- | --- | --- | --- | --- |
| errors | 290 | 290 | 200 | roll back |

### Hooks

- 14:05:37 on the rollback, page-the-team: **failed**: the hook said FAILED: nobody is on call

### Signals and evidence

- 14:05:36 evidence over the limit by headgate.judge, handled: 4 of 118 candidate requests failed against 1 of 1,046; \
odds against chance 290 to 1, over the limit of 200 to 1
- 14:05:37 alarm by checkout-errors, handled
- 14:05:37 promote by ada@example.com, refused: looks fine to me; the rollout is rolling back

Times are UTC. More: `headgate explain checkout-42` and `headgate report checkout-42`.
"""


def test_a_rollback_is_told_in_sections() -> None:
    text = render_markdown(views.rolled_back())

    assert text == ROLLED_BACK.format(why="\n".join(f"- {escaped(each)}" for each in explanation(views.rolled_back())))
    assert "- 4 of 118 requests of version 8 failed (3.4 %), against 1 of 1,046 of version 7" in text


@pytest.mark.parametrize("name", views.ALL)
def test_every_rollout_fits_into_a_comment(name: str) -> None:
    text = render_markdown(views.ALL[name]())

    assert escaped(lead(views.ALL[name]())) in text
    assert len(text) < 65_536


def test_messages_that_were_held_are_told() -> None:
    text = render_markdown(views.consumer())

    assert "### Failed messages\n\n- Returned to the source queue: 17\n- Sent to your own dead-letter" in text
    assert "Stream records" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("*bold* _it_ ~no~ `code`", r"\*bold\* \_it\_ \~no\~ \`code\`"),
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)\>"),
        ("![x](https://example.com/x.png)", r"!\[x\](https://example.com/x.png)"),
        ("&lt; $x$ \\", r"\&lt; \$x\$ " + "\\\\"),
        ("# heading", r"\# heading"),
        ("1. first", r"1\. first"),
        ("- item\n\n## more", r"\- item ## more"),
        ("thanks @ada, see #12 and org/repo#7", "thanks @<!-- -->ada, see #<!-- -->12 and org/repo#<!-- -->7"),
        ("ada@example.com", "ada@example.com"),
        ("a\x1b[31mb\u202e", r"a?\[31mb?"),
    ],
)
def test_markdown_in_texts_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_long_texts_are_cut() -> None:
    assert escaped("x" * 600) == "x" * 500 + " ..."


def test_code_may_hold_backticks() -> None:
    assert code("headgate explain a") == "`headgate explain a`"
    assert code("a `b` ``c") == "``` a `b` ``c ```"


def test_what_a_comment_has_no_room_for_is_left_out_in_the_middle() -> None:
    text = render_markdown(views.long())

    assert re.search(r"### Signals and evidence\n\n(- .*\n)+\n2,9\d\d in the middle are left out\.", text)


def test_no_text_makes_it_longer_than_a_comment() -> None:
    view = views.long()
    long = "<" * 5000
    comparisons = [each.model_copy(update={"label": long}) for each in view.comparisons]

    text = render_markdown(
        view.model_copy(update={"comparisons": comparisons, "stable": long, "warnings": [long] * 99})
    )

    assert len(text) < 65_536
