"""The command's own dashboard in a browser, against the embedded AWS and a rollout that runs there."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from emulator import application
from emulator.application import deploy_headgate
from tests.browser.conftest import texts
from tests.local.commands import Command
from tests.local.deployed import PREFIX, Headgate, eventually, steps
from tests.local.servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.browser.conftest import Watch

PATIENCE_SECONDS = 90
"""For what takes two seconds on an idle machine."""

pytestmark = [pytest.mark.embedded, pytest.mark.xdist_group("embedded")]


@pytest.fixture
def headgate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Headgate]:
    """The application, built and deployed as a user would."""
    monkeypatch.setattr(application, "WORK", application.WORK / "tests-browser")
    with serving() as aws:
        deployed = Headgate(aws, deploy_headgate(aws, Prefix=PREFIX))
        yield deployed
        deployed.close()


def test_a_real_rollout_is_paused_promoted_and_undone_by_its_buttons(
    headgate: Headgate, page: Page, watch: Watch
) -> None:
    service = headgate.make_service()
    strategy = steps((10, 300), (50, 0))
    rollout_id = headgate.request(target=service.target, candidate={"version": "2"}, strategy=strategy, guards="none")
    headgate.baking(rollout_id, seconds=PATIENCE_SECONDS)
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    with Command(headgate.aws).start("dashboard", "--no-open") as process:
        try:
            assert process.stdout is not None
            url = next(line.strip() for line in process.stdout if "#token=" in line)
            watch.origins.add(f"http://{urlsplit(url).netloc}")
            page.goto(url)
            shown = page.locator(f'.rollout[data-key="{rollout_id}"]')
            shown.wait_for()
            assert shown.locator(".split").inner_text() == "10 % to 2, 90 % to 1"

            _press(page, f"Pause {rollout_id}", "Pause")
            assert headgate.record(rollout_id)["status"] == "paused"
            shown.locator(".status", has_text="paused").wait_for()

            page.get_by_role("button", name=f"Promote {rollout_id}").click()
            page.get_by_label("To 100 % at once, without further analysis").check()
            _confirm(page, "Promote")
            headgate.ended(rollout_id, seconds=PATIENCE_SECONDS)
            assert service.serving.version == "2"
            row = page.locator(f'#history tr[data-key="{rollout_id}"]')
            row.locator(".status", has_text="promoted").wait_for()

            row.get_by_role("link").click()
            page.wait_for_url("**/report?id=*")
            page.frame_locator("iframe").get_by_role("heading", name=rollout_id, level=1).wait_for()
            page.go_back()

            _press(page, f"Undo {rollout_id}", "Undo the rollout")
            eventually(
                lambda: service.serving.version == "1", PATIENCE_SECONDS, lambda: "version 1 does not serve again"
            )
            row.get_by_text("Undone by undo-").wait_for()
            assert texts(page, ".rollout") == []
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=15)
    assert (process.returncode, "Traceback" in err) == (0, False), err


def _press(page: Page, button: str, confirm: str) -> None:
    page.get_by_role("button", name=button).click()
    _confirm(page, confirm)


def _confirm(page: Page, button: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=button, exact=True).click()
    dialog.locator(".result.is-done, .result.is-accepted").wait_for()
    dialog.get_by_role("button", name="Close").click()
