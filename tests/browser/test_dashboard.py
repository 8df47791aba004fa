"""The dashboard in a browser: what it shows, what it does, and what it must never do."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError

from headgate.history.model import BakeView, LineView, PauseView
from headgate_cli.dashboard.gate import SESSION_HEADER
from headgate_cli.dashboard.opening import browser_of
from headgate_cli.pictures.report import render_report
from tests.browser.conftest import NARROW, Dashboard, texts, trap, until
from tests.browser.scripts import ATTACK, CONTRAST, INJECT, SHOWN_AS
from tests.fakes.records import at, comparison, signal, view
from tests.unit.pictures import rollout_views

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from headgate.history.model import RolloutView
    from tests.browser.conftest import Watch

EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>\"'`&amp;${1+1}{{7*7}}\u202e"


ALL_AT = "want => [...document.querySelectorAll('.split')].every(each => each.textContent.startsWith(want))"


def card(page: Page, rollout_id: str) -> Any:
    """The card of a rollout."""
    return page.locator(f'.rollout[data-key="{rollout_id}"]')


def opened(page: Page, dashboard: Dashboard) -> Page:
    """The page, once it has shown a reading and the history."""
    page.goto(dashboard.url)
    until(page, "document.querySelector('#fresh').textContent && document.querySelector('#page-note').textContent")
    return page


def many(count: int) -> list[RolloutView]:
    return [view(f"r-{n:04d}", target=f"lambda-alias/shop-{n}/live", created_at=at(n)) for n in range(count)]


def press_until_focus(page: Page, selector: str, key: str = "Tab") -> None:
    """Press a key until an element has the focus."""
    for _ in range(80):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press(key)
    raise AssertionError(f"the keyboard does not reach {selector}")


# What is shown equals the record


def test_a_running_rollout_is_shown_as_its_record_tells_it(page: Page, dashboard: Dashboard) -> None:
    rollout = view(
        weight=12.5,
        step=1,
        bake=BakeView(step=1, bake=0, weight=12.5, started_at=at(0), until="2099-01-01T00:00:00.000Z"),
        comparisons=[
            comparison(3, value=10.0),
            comparison(0, measure="latency", label="requests over 250 ms", value=None),
        ],
        warnings=["the alias belongs to a stack; deploy it without AutoPublishAlias"],
        signals=[signal("pause", outcome="pending")],
    )
    dashboard.records.put(rollout)
    shown = card(opened(page, dashboard), "checkout-42")

    assert shown.get_by_role("heading").inner_text() == rollout.target
    assert shown.locator(".headline").text_content() == rollout.headline
    assert shown.locator(".status").inner_text() == "running"
    assert shown.locator(".weight").get_attribute("aria-label") == "12.5 % to 7, 87.5 % to 6"
    assert shown.locator(".weight span").evaluate("bar => bar.style.width") == "12.5%"
    assert shown.locator(".step").inner_text() == "step 2 of 2, baking"
    assert shown.locator(".left").inner_text().endswith("left in this bake")
    assert texts(page, ".rollout tbody tr") == [
        "errors 3 of 120 2 of 1,080 10 of 100",
        "requests over 250 ms 0 of 120 2 of 1,080 none yet",
    ]
    # Half of the way on a logarithmic axis.
    assert shown.locator(".meter span").first.evaluate("bar => bar.style.width") == "50%"
    assert texts(page, ".notes li") == [
        "Signal pause by kim is on record and has not acted yet.",
        "Warning: the alias belongs to a stack; deploy it without AutoPublishAlias",
    ]
    assert texts(page, ".rollout .buttons button") == ["Pause", "Promote", "Abort"]


def test_a_paused_rollout_says_until_when_and_then_what(page: Page, dashboard: Dashboard) -> None:
    pause = PauseView(
        reason="hook smoke failed", step=0, started_at=at(0), until="2099-01-01T00:00:00.000Z", then="promote"
    )
    dashboard.records.put(view(status="paused", pause=pause))
    shown = card(opened(page, dashboard), "checkout-42")
    assert texts(page, ".notes li") == [
        "Paused: hook smoke failed. Without a decision it is promoted at 2099-01-01 00:00:00."
    ]
    assert shown.locator(".left").inner_text().endswith("left to decide")
    assert texts(page, ".rollout .buttons button") == ["Resume", "Promote", "Abort"]


def test_lines_are_shown_in_their_order(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(
        view("second", "waiting", line=LineView(place=2, behind="checkout-42")),
        view("first", "waiting", line=LineView(place=1, behind="checkout-42")),
        view("elsewhere", "waiting", target="lambda-alias/shop/live"),
    )
    opened(page, dashboard)
    assert page.locator("#counts").inner_text() == "0 running, 0 paused, 3 waiting."
    assert texts(page, ".line h3") == ["lambda-alias/checkout/live", "lambda-alias/shop/live"]
    assert texts(page, ".line:first-child li a") == ["first", "second"]


def test_the_page_follows_the_record_by_itself(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    dashboard.records.put(view(weight=50, headline="At 50 % now."), view("new", created_at=at(9)))
    page.get_by_text("At 50 % now.").wait_for()
    card(page, "new").wait_for()
    dashboard.records.put(view(status="rolled-back"))
    card(page, "checkout-42").wait_for(state="detached")
    # What has ended is in the history at once.
    page.locator('#history tr[data-key="checkout-42"]').get_by_text("rolled back").wait_for()


def test_the_history_equals_the_record_and_is_searched_and_paged(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(*(view(f"r-{n:02d}", "succeeded", created_at=at(60 * n)) for n in range(30)))
    dashboard.records.put(
        view(
            "x", "refused", target="lambda-alias/shop/live", created_at=at(2000), started_at=at(2001), ended_at=at(2025)
        )
    )
    opened(page, dashboard)
    first = " ".join(page.locator("#history tr").first.inner_text().split())
    assert first == "lambda-alias/shop/live x refused 6 → 7 2026-11-30 12:33:20 24 s the reason of x"
    assert page.locator("#history tr").count() == 25

    page.get_by_role("button", name="Older").click()
    page.get_by_text("Page 2: 6 rollouts").wait_for()
    assert texts(page, "#history tr td:nth-child(2)") == [f"r-{n:02d}" for n in range(5, -1, -1)]
    page.get_by_role("button", name="Newest").click()
    page.get_by_text("Page 1: 25 rollouts").wait_for()

    page.get_by_label("State").select_option("refused")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("1 rollout", exact=True).wait_for()
    assert texts(page, "#history tr td:nth-child(2)") == ["x"]
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Page 1: 25 rollouts").wait_for()

    page.get_by_label("Target").fill("shop:live")
    page.keyboard.press("Enter")
    page.get_by_text("1 rollout", exact=True).wait_for()
    page.get_by_role("button", name="Clear").click()

    page.get_by_label("From").fill("2026-11-30T12:20")
    page.get_by_label("To", exact=True).fill("2026-11-30T12:22")
    page.keyboard.press("Enter")
    page.get_by_text("2 rollouts", exact=True).wait_for()
    assert texts(page, "#history tr td:nth-child(2)") == ["r-21", "r-20"]


def test_a_wrong_search_says_what_is_right(page: Page, dashboard: Dashboard, watch: Watch) -> None:
    watch.expected = ["status of 400"]
    opened(page, dashboard)
    page.get_by_label("Target").fill("a b")
    page.keyboard.press("Enter")
    page.get_by_text("target: must be a function and alias as checkout:live").wait_for()


def test_a_report_opens_as_a_page_of_its_own(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view("team/checkout:42", headline="It runs."))
    opened(page, dashboard)
    card(page, "team/checkout:42").get_by_role("link").click()
    page.frame_locator("iframe").get_by_role("heading", name="It runs.").wait_for()
    assert page.title() == "team/checkout:42"


# Buttons


@pytest.mark.parametrize(
    ("status", "button", "confirm", "sent", "result"),
    [
        ("running", "Pause", "Pause", "pause", "checkout-42 is paused at 10 %, and is rolled back at"),
        ("paused", "Resume", "Resume", "resume", "checkout-42 goes on: it bakes at 10 %, step 1 of 2."),
        ("paused", "Promote", "Promote", "promote", "checkout-42 goes on: it bakes at 10 %, step 2 of 2."),
        ("running", "Abort", "Abort the rollout", "abort", "checkout-42 is aborted: version 6 serves again."),
    ],
)
def test_a_button_asks_first_and_then_tells_what_became_of_it(
    page: Page, dashboard: Dashboard, status: Any, button: str, confirm: str, sent: str, result: str
) -> None:
    dashboard.records.put(view(status=status))
    opened(page, dashboard)
    card(page, "checkout-42").get_by_role("button", name=button).click()
    dialog = page.get_by_role("dialog")
    told = dialog.inner_text()
    assert "checkout-42" in told
    assert "lambda-alias/checkout/live" in told
    assert dashboard.bus.sent == []

    dialog.get_by_label("Reason").fill("the logs")
    dialog.get_by_role("button", name=confirm, exact=True).click()

    dialog.locator(".result.is-done").wait_for()
    assert dialog.locator(".result").inner_text().startswith(result)
    ((detail_type, detail),) = dashboard.bus.sent
    assert (detail_type, detail["signal"], detail["by"], detail["reason"]) == (
        "Rollout Signal",
        sent,
        "ada",
        "the logs",
    )
    dialog.get_by_role("button", name="Close").click()
    dialog.wait_for(state="hidden")


def test_a_promotion_can_go_to_the_end(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    page.get_by_role("button", name="Promote checkout-42").click()
    page.get_by_label("To 100 % at once, without further analysis").check()
    page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True).click()
    page.locator(".result.is-done").wait_for()
    assert [detail["signal"] for _, detail in dashboard.bus.sent] == ["promote-fully"]


def test_a_promotion_is_undone_from_the_history(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view(status="succeeded"))
    opened(page, dashboard)
    page.get_by_role("button", name="Undo checkout-42").click()
    assert "from revision 7 back to revision 6" in page.get_by_role("dialog").inner_text()
    page.get_by_role("button", name="Undo the rollout").click()
    page.get_by_text("is done: version 7 serves again").wait_for()
    page.get_by_role("button", name="Close").click()
    page.get_by_text("Undone by undo-").wait_for()
    assert page.get_by_role("button", name="Undo checkout-42").is_hidden()


def test_what_headgate_refuses_is_told_with_its_reason(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    dashboard.bus.refuses = "signal: pause is not possible while rollout checkout-42 is promoting"
    opened(page, dashboard)
    page.get_by_role("button", name="Pause checkout-42").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause", exact=True).click()
    page.locator(".result.is-refused").wait_for()
    assert dashboard.bus.refuses in page.locator(".result").inner_text()


@pytest.mark.parametrize("leave", ["Escape", "Cancel"])
def test_a_dialog_that_is_left_sends_nothing(page: Page, dashboard: Dashboard, leave: str) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    page.get_by_role("button", name="Abort checkout-42").click()
    if leave == "Escape":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name=leave).click()
    page.get_by_role("dialog").wait_for(state="hidden")
    assert dashboard.bus.sent == []


def test_the_keyboard_alone_pauses_a_rollout(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    press_until_focus(page, ".act-pause")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    # Enter, still held down, must not confirm.
    assert page.evaluate("document.activeElement.id") == "ask-no"
    press_until_focus(page, "#ask-yes", "Shift+Tab")
    page.keyboard.press("Space")
    page.locator(".result.is-done").wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert [detail["signal"] for _, detail in dashboard.bus.sent] == ["pause"]
    # The button that is now in its place has the focus.
    until(page, "document.activeElement.closest('.rollout') !== null")


def test_the_focus_stays_while_the_page_changes_around_it(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view("a", created_at=at(3)), view("b", created_at=at(2)), view("c", created_at=at(1)))
    opened(page, dashboard)
    page.get_by_role("button", name="Abort c").focus()
    dashboard.records.put(view("a", "succeeded"), view("new", created_at=at(9)), view("b", "paused", created_at=at(2)))
    card(page, "new").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Abort c"
    # The rollout under the focus ends: the keyboard goes on at the heading.
    dashboard.records.put(view("c", "succeeded"))
    card(page, "c").wait_for(state="detached")
    assert page.evaluate("document.activeElement.id") == "now"


# Looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(browser: Browser, dashboard: Dashboard, watch: Watch, scheme: Any) -> None:
    dashboard.records.put(
        view(),
        view("p", "paused", warnings=["w"]),
        view("w", "waiting"),
        view("r", "rolled-back"),
        view("s", "succeeded"),
    )
    context = browser.new_context(color_scheme=scheme)
    watch.attend(context)
    page = opened(context.new_page(), dashboard)
    faint = page.evaluate(CONTRAST)
    context.close()
    assert faint == []


@pytest.mark.parametrize("width", [NARROW["width"], 620, 1000])
def test_a_narrow_window_needs_no_sideways_scrolling(
    browser: Browser, dashboard: Dashboard, watch: Watch, width: int
) -> None:
    long = "x" * 120
    dashboard.records.put(
        view(
            long, target=f"lambda-alias/{'f' * 64}/{'a' * 128}", comparisons=[comparison(label="requests over 250 ms")]
        ),
        view("w", "waiting"),
        view("s", "succeeded", reason="no " + "space" * 40),
    )
    context = browser.new_context(viewport=NARROW | {"width": width})
    watch.attend(context)
    page = opened(context.new_page(), dashboard)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)")
    page.get_by_role("button", name="Abort " + long).click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_every_control_has_a_name_and_headings_are_in_order(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view(), view("w", "waiting"), view("s", "succeeded"))
    opened(page, dashboard)
    levels = page.evaluate("[...document.querySelectorAll('main h1, main h2, main h3')].map(each => +each.tagName[1])")
    assert levels == [2, 3, 2, 3, 2]
    assert page.get_by_role("button", name="", exact=True).count() == 0
    unnamed = (
        "[...document.querySelectorAll('input, select')].filter(each => !each.labels.length).map(each => each.name)"
    )
    assert page.evaluate(unnamed) == []


# Texts of others, other sites, other programs


def test_texts_of_events_are_shown_as_text_everywhere(page: Page, dashboard: Dashboard) -> None:
    texts_of: dict[str, Any] = {"target": EVIL, "stable": EVIL, "candidate": EVIL, "headline": EVIL, "reason": EVIL}
    dashboard.records.put(
        view(
            "running",
            **texts_of,
            comparisons=[comparison(label=EVIL)],
            warnings=[EVIL],
            signals=[signal("pause", outcome="pending", by=EVIL)],
            waits_for={"reason": EVIL, "since": at(0)},
        ),
        view(
            "paused",
            "paused",
            **texts_of,
            comparisons=[comparison(label=EVIL)],
            pause=PauseView(reason=EVIL, step=0, started_at=at(0), until=at(9), then="rollback"),
        ),
        view("waiting", "waiting", **(texts_of | {"stable": ""})),
        view("done", "succeeded", **texts_of, undone_by=""),
        view("undone", "succeeded", **texts_of, undone_by=EVIL),
    )
    opened(page, dashboard)
    page.wait_for_timeout(300)
    assert page.title() == "Headgate: headgate"
    assert page.locator("main img, main script").count() == 0
    for selector in (".rollout h3", ".rollout .headline", ".rollout tbody th", ".line h3", ".waiter .headline"):
        assert EVIL in page.locator(selector).first.text_content()
    assert page.locator(".notes li", has_text="<img").count() >= 3
    assert page.locator("#history tr", has_text="<img").count() == 5

    dashboard.bus.refuses = EVIL
    page.get_by_role("button", name="Abort running").click()
    page.get_by_role("button", name="Abort the rollout").click()
    page.locator(".result.is-refused").wait_for()
    assert EVIL in page.locator(".result").text_content()
    assert page.title() == "Headgate: headgate"


def test_the_policy_of_the_page_runs_no_script_that_is_put_into_it(
    page: Page, dashboard: Dashboard, watch: Watch
) -> None:
    watch.expected = ["Content Security Policy", "Trusted"]
    opened(page, dashboard)
    page.evaluate(INJECT)
    assert page.title() == "Headgate: headgate"
    assert watch.errors, "nothing was refused"


def test_the_token_leaves_the_address_bar_and_the_session_stays(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    assert page.url == f"{dashboard.origin}/"
    assert page.evaluate("document.cookie") == ""
    assert page.context.cookies() == []
    page.reload()
    card(page, "checkout-42").wait_for()
    assert page.title() == "Headgate: headgate"
    assert page.locator("#where").inner_text() == "stack headgate in eu-central-1"
    # Nothing leads back to it.
    page.go_back()
    assert page.url == "about:blank"


def test_no_request_has_the_token_but_the_one_that_takes_it(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    sent: list[tuple[str, bool]] = []

    def listen(request: Any) -> None:
        headers = request.all_headers()
        assert "referer" not in headers
        assert "cookie" not in headers
        sent.append((request.url, dashboard.gate.token in f"{request.url} {headers}".replace("x-headgate-token", "")))

    page.on("requestfinished", listen)
    opened(page, dashboard)
    urls = {url for url, has_token in sent if has_token and not url.endswith("#token=" + dashboard.gate.token)}
    assert urls == {f"{dashboard.origin}/api/session"}


def test_all_tabs_share_the_session(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    other = page.context.new_page()
    other.goto(f"{dashboard.origin}/")
    card(other, "checkout-42").wait_for()
    with page.context.expect_page() as opening:
        page.locator('.rollout a[href^="/report"]').click(modifiers=["Control"])
    opening.value.frame_locator("iframe").get_by_role("heading", level=1).wait_for()


def test_the_url_that_the_browser_is_started_with_works_once(
    page: Page, dashboard: Dashboard, browser: Browser, watch: Watch
) -> None:
    watch.expected = ["status of 403"]
    dashboard.records.put(view())
    url = dashboard.gate.url_for_once()
    page.goto(url)
    card(page, "checkout-42").wait_for()
    thief = browser.new_context()
    watch.attend(thief)
    late = thief.new_page()
    late.goto(url)
    late.locator("#trouble").get_by_text("has no session").wait_for()
    assert late.locator(".rollout").count() == 0
    # The printed URL helps, also in the tab that is open.
    late.goto(dashboard.url)
    card(late, "checkout-42").wait_for()
    assert late.url == f"{dashboard.origin}/"
    thief.close()


def test_the_file_leads_the_browser_to_the_page(
    page: Page, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard.records.put(view())
    given: list[str] = []

    def start(url: str) -> bool:
        given.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", start)
    with browser_of(dashboard.gate):
        while not given:
            page.wait_for_timeout(20)
        page.goto(given[0])
        card(page, "checkout-42").wait_for()
    assert page.url == f"{dashboard.origin}/"


def test_a_browser_without_the_token_sees_nothing(page: Page, dashboard: Dashboard, watch: Watch) -> None:
    watch.expected = ["status of 403"]
    dashboard.records.put(view())
    for path in ("/", "/report?id=checkout-42"):
        page.goto(f"{dashboard.origin}{path}")
        page.get_by_role("alert").get_by_text("open the URL that headgate dashboard printed").first.wait_for()
        assert page.locator(".rollout, iframe").count() == 0
    for path in ("/api/now", "/api/report?id=checkout-42"):
        answer = page.goto(f"{dashboard.origin}{path}")
        assert answer is not None
        assert answer.status == 403
        assert "running" not in page.content()
    assert dashboard.records.calls == []


def test_a_program_at_another_port_gets_nothing_that_lets_it_in(page: Page, dashboard: Dashboard, watch: Watch) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    with trap() as (origin, heard):
        watch.origins.add(origin)
        watch.expected = ["404"]
        page.evaluate("url => { location = url; }", f"{origin}/")
        page.wait_for_url(f"{origin}/")
        kept = page.evaluate(
            "[document.cookie, ...Object.values({...localStorage}), ...Object.values({...sessionStorage})]"
        )
    assert heard
    session = dashboard.session
    for text in (*heard, *kept):
        assert session not in text
        assert dashboard.gate.token not in text
        assert "Cookie" not in text
    page.goto(f"{dashboard.origin}/")
    card(page, "checkout-42").wait_for()  # The session itself is good.


# The report


def test_a_report_is_shown_in_the_dashboard_and_stays_after_a_reload(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    page.get_by_role("link", name="Report of checkout-42").click()
    shown = page.frame_locator("iframe").get_by_role("heading", level=1)
    shown.wait_for()
    assert page.url == f"{dashboard.origin}/report?id=checkout-42"
    assert page.title() == "checkout-42"
    # The keys that scroll act on it.
    until(page, "document.activeElement.matches('iframe')")
    page.reload()
    shown.wait_for()
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save this report").click()
    assert saving.value.suggested_filename == "checkout-42.html"
    page.get_by_role("link", name="All rollouts").click()
    card(page, "checkout-42").wait_for()


def test_a_report_of_nothing_says_so(page: Page, dashboard: Dashboard, watch: Watch) -> None:
    watch.expected = ["status of 404"]
    opened(page, dashboard)
    page.goto(f"{dashboard.origin}/report?id=nothing")
    page.get_by_role("alert").get_by_text("there is no rollout 'nothing' on record").wait_for()


def test_a_report_runs_no_script_and_reaches_nothing(page: Page, dashboard: Dashboard, watch: Watch) -> None:
    watch.expected = ["sandboxed", "Content Security Policy", "frame"]
    dashboard.records.put(view())
    dashboard.report = (
        "<!doctype html><title>x</title><style>h1 { color: rgb(1, 2, 3); }</style><h1>shown</h1>"
        "<script>top.document.title = 'owned'; document.querySelector('h1').textContent = 'owned'</script>"
        "<img src=x onerror=\"document.querySelector('h1').textContent = 'owned'\">"
        "<script src='/static/main.js'></script><img src='https://attacker.example/x'>"
    )
    opened(page, dashboard)
    page.goto(f"{dashboard.origin}/report?id=checkout-42")
    heading = page.frame_locator("iframe").get_by_role("heading", level=1)
    heading.wait_for()
    assert heading.inner_text() == "shown"
    assert heading.evaluate("each => getComputedStyle(each).color") == "rgb(1, 2, 3)"
    assert heading.evaluate("() => self.origin") == "null"
    assert page.title() == "checkout-42"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_real_report_is_readable_in_the_dashboard(
    browser: Browser, dashboard: Dashboard, watch: Watch, scheme: Any
) -> None:
    dashboard.records.put(view())
    rolled_back = rollout_views.rolled_back()
    dashboard.report = render_report(rolled_back, now=rollout_views.NOW)
    context = browser.new_context(color_scheme=scheme, viewport=NARROW)
    watch.attend(context)
    page = opened(context.new_page(), dashboard)
    page.goto(f"{dashboard.origin}/report?id=checkout-42")
    inside = page.frame_locator("iframe").locator("body")
    inside.get_by_role("heading", level=1).wait_for()
    red, green, blue = inside.evaluate(
        "body => getComputedStyle(body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue < 3 * 128) == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert page.evaluate("document.documentElement.scrollHeight") == NARROW["height"]
    assert page.evaluate(CONTRAST) == []
    context.close()


# Other sites


def test_another_site_in_the_same_browser_can_neither_read_nor_act(
    page: Page, dashboard: Dashboard, watch: Watch
) -> None:
    watch.expected = [".*"]
    dashboard.records.put(view())
    opened(page, dashboard)
    # Another dashboard stands for any other server of this machine: the same site to a browser, and another origin.
    with Dashboard().served() as other:
        watch.origins.add(other.origin)
        elsewhere = page.context.new_page()
        # Another page than the dashboard's own, whose policy would keep it from asking.
        elsewhere.route(
            f"{other.origin}/attack", lambda route: route.fulfill(body="<h1>attack</h1>", content_type="text/html")
        )
        elsewhere.goto(f"{other.origin}/attack")
        seen = elsewhere.evaluate(ATTACK, dashboard.origin)
    assert seen["read"] == "failed"
    assert seen["framed"] == "nothing"
    assert dashboard.bus.sent == []
    assert page.request.get(f"{dashboard.origin}/api/now", headers={SESSION_HEADER: dashboard.session}).ok


def test_the_right_session_alone_does_not_act(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(view())
    opened(page, dashboard)
    body = json.dumps({"id": "checkout-42", "signal": "abort"})
    json_type, own, session = (
        {"Content-Type": "application/json"},
        {"Origin": dashboard.origin},
        {SESSION_HEADER: dashboard.session},
    )
    for headers in (
        json_type,
        json_type | own,
        json_type | session,
        own | session,
        json_type | session | {"Origin": "http://attacker.example"},
    ):
        assert page.request.post(f"{dashboard.origin}/api/signal", data=body, headers=headers).status == 403
    rebound = page.request.post(
        f"{dashboard.origin}/api/signal", data=body, headers=json_type | own | session | {"Host": "attacker.example"}
    )
    assert rebound.status == 403
    for path in ("/api/signal?id=checkout-42&signal=abort", "/api/undo?id=checkout-42"):
        assert page.request.get(f"{dashboard.origin}{path}", headers=session).status == 405
    assert dashboard.bus.sent == []
    assert page.request.post(f"{dashboard.origin}/api/signal", data=body, headers=json_type | own | session).ok
    assert len(dashboard.bus.sent) == 1


# AWS fails, and many rollouts run


def test_the_page_says_what_fails_and_goes_on_by_itself(
    page: Page, dashboard: Dashboard, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.expected = ["status of 502"]
    monkeypatch.setattr("headgate_cli.dashboard.board.AFTER_FAILURE_SECONDS", 0.5)
    dashboard.records.put(view())
    opened(page, dashboard)
    dashboard.records.failure = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    page.get_by_role("alert").get_by_text("AWS cannot be reached").wait_for()
    assert "check the network, --region and AWS_ENDPOINT_URL" in page.locator("#trouble").inner_text()
    # What was known stays, with its time.
    assert "What it shows is from" in page.locator("#trouble").inner_text()
    assert card(page, "checkout-42").is_visible()
    page.get_by_role("button", name="Abort checkout-42").click()
    page.get_by_role("button", name="Abort the rollout").click()
    page.locator(".result.is-failed").wait_for()
    assert "AWS cannot be reached" in page.locator(".result").inner_text()
    page.keyboard.press("Escape")

    dashboard.records.failure = None
    dashboard.records.put(view(headline="It is back."))
    page.get_by_text("It is back.").wait_for()
    page.locator("#trouble").wait_for(state="hidden")


def test_the_page_says_that_aws_is_slow(page: Page, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE_SECONDS", "SLOW_SECONDS"):
        monkeypatch.setattr(f"headgate_cli.dashboard.board.{name}", 0.2)
    dashboard.records.put(view())
    opened(page, dashboard)
    dashboard.records.held.clear()
    page.get_by_role("alert").get_by_text("AWS is slow to answer").wait_for()
    assert card(page, "checkout-42").is_visible()
    dashboard.records.held.set()
    page.locator("#trouble").wait_for(state="hidden")


def test_the_page_says_that_the_dashboard_was_stopped(page: Page, watch: Watch) -> None:
    watch.expected = ["ERR_CONNECTION_REFUSED", "Failed to load resource"]
    with Dashboard(view()).served() as stopping:
        watch.origins.add(stopping.origin)
        opened(page, stopping)
    page.get_by_role("alert").get_by_text("run headgate dashboard again").wait_for()


def test_a_hidden_page_asks_nothing(page: Page, dashboard: Dashboard) -> None:
    opened(page, dashboard)
    page.evaluate(SHOWN_AS, "hidden")
    page.wait_for_timeout(300)
    dashboard.records.calls.clear()
    page.wait_for_timeout(2600)
    assert dashboard.records.calls == []
    page.evaluate(SHOWN_AS, "visible")
    page.wait_for_timeout(300)
    assert "live" in dashboard.records.calls


def test_a_thousand_running_rollouts_are_refreshed_within_a_second(page: Page, dashboard: Dashboard) -> None:
    dashboard.records.put(*many(1000))
    opened(page, dashboard)
    assert (
        page.locator("#counts").inner_text()
        == "1,000 running, 0 paused, 0 waiting. The newest 100 are shown, paused ones first."
    )
    assert page.locator(".rollout").count() == 100
    seconds = []
    for weight in (20, 30, 40):
        dashboard.records.put(*(each.model_copy(update={"weight": weight}) for each in many(1000)))
        dashboard.board.expire()
        # From the request of the page until its last card is drawn.
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        begun = time.monotonic()
        until(page, ALL_AT, f"{weight} %")
        seconds.append(time.monotonic() - begun)
    # Other processes of a busy machine can only add to it.
    assert min(seconds) < 1, seconds
