"""Makes the pictures in docs/screenshots: the dashboard, and reports of real rollouts on the embedded AWS.

``make screenshots`` runs it. It takes about four minutes, most of which the rollouts take.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import sync_playwright

from demo.consumer import FUNCTION as CONSUMER
from demo.consumer import OrdersConsumer, consumer_event
from demo.order_stream import OrderStream
from demo.rollout_watch import Rollout, WatchedAlias, follow, release
from demo.traffic import Traffic
from emulator.application import ROOT, deploy_consumer, deploy_headgate, deploy_sample, timed
from emulator.server import EmbeddedAws
from headgate.history.store import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from emulator.application import Outputs

PICTURES = ROOT / "docs" / "screenshots"

EVENTS = ROOT / "demo" / "events"

SERVICE, ALIAS, RPS = "checkout", "live", 20.0

SOURCE = "sqs"

WIDTH, HEIGHT, TALLEST = 1000, 720, 1500
"""In pixels. What is below the tallest is cut off."""

COLOURS = 256
"""Pages have few colours, and with a palette a picture is half as large."""

PATIENCE_SECONDS = 120

REPORT = """
async (id) => {
  const { get } = await import("/static/requests.js");
  return (await get(`/api/report?id=${id}`)).html;
}
"""
"""Asks the dashboard for a report, from its page."""


def main() -> int:
    """Make every picture."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with EmbeddedAws() as aws:
        with timed("sam build and sam deploy: headgate"):
            headgate = deploy_headgate(aws)
        with timed("sam build and sam deploy: checkout"):
            deploy_sample(aws, headgate)
        history = History(aws.client("dynamodb"), headgate["TableName"])
        with Traffic(aws, SERVICE, ALIAS, RPS) as traffic:
            watched = WatchedAlias(aws, SERVICE, ALIAS, traffic)
            for kind, error_rate, outcome in (("good", 0.0, "succeeded"), ("bad", 0.3, "rolled-back")):
                release(aws, SERVICE, error_rate)
                _check(follow(aws, headgate, _event(kind), watched, outcome))
        mapping = _roll_a_consumer_back(aws, headgate)
        with Traffic(aws, SERVICE, ALIAS, RPS):
            _start_what_the_dashboard_shows(aws, headgate, history, mapping)
            with _dashboard(aws) as url:
                _take_all(url)
    return 0


def _roll_a_consumer_back(aws: EmbeddedAws, headgate: Outputs) -> str:
    """Deploy the consumer of a queue, let a bad release of it be rolled back, and return the id of its mapping."""
    with timed("sam build and sam deploy: orders"):
        outputs = deploy_consumer(aws, headgate, SOURCE)
    consumer = OrdersConsumer(aws, SOURCE, outputs)
    with OrderStream(aws, SOURCE, consumer.into, RPS):
        release(aws, CONSUMER, 0.3)
        event = consumer_event(SOURCE, None, consumer.mapping_id, "bad")
        _check(follow(aws, headgate, event, consumer, "rolled-back"))
    return consumer.mapping_id


def _check(rollout: Rollout) -> None:
    """Fail if a rollout is not what its picture is to show, as on a machine that is too busy for its traffic."""
    if not rollout.ended_right:
        raise RuntimeError(f"{rollout.rollout_id} did not end as expected: {'; '.join(rollout.wrong)}; try again")


def _start_what_the_dashboard_shows(aws: EmbeddedAws, headgate: Outputs, history: History, mapping: str) -> None:
    """Leave one rollout baking, one paused and one in line."""
    # So few failures that it is not rolled back.
    release(aws, SERVICE, 0.002)
    long = {"steps": [{"weight": 25, "bakeSeconds": 900}, {"weight": 50, "bakeSeconds": 900}]}
    for rollout_id in ("checkout-43", "checkout-44"):
        detail = _event("good")["detail"] | {"id": rollout_id, "strategy": long}
        del detail["hooks"]
        _send(aws, headgate, "Rollout Requested", detail)
        _wait(lambda rollout_id=rollout_id: _status(history, rollout_id) in ("running", "waiting"))  # type: ignore[misc]
    release(aws, CONSUMER, 0.0)
    orders = consumer_event(SOURCE, None, mapping)["detail"] | {"id": "orders-7", "strategy": long}
    _send(aws, headgate, "Rollout Requested", orders)
    _wait(lambda: _phase(history, "orders-7") == "baking")
    pause = {"rolloutId": "orders-7", "signal": "pause", "by": "alice", "reason": "checking the ledger"}
    _send(aws, headgate, "Rollout Signal", pause)
    _wait(lambda: _status(history, "orders-7") == "paused")
    _wait(lambda: _candidate_requests(history, "checkout-43") >= 50)


def _candidate_requests(history: History, rollout_id: str) -> int:
    view = history.rollout(rollout_id)
    return max((each.candidate.requests for each in view.comparisons), default=0) if view else 0


def _status(history: History, rollout_id: str) -> str:
    view = history.rollout(rollout_id)
    return view.status if view else ""


def _phase(history: History, rollout_id: str) -> str:
    view = history.rollout(rollout_id)
    return (view.phase if view else None) or ""


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("a rollout is not where its picture needs it")
        time.sleep(0.3)


def _event(kind: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{kind}_release.json").read_text())
    return event


def _send(aws: EmbeddedAws, headgate: Outputs, detail_type: str, detail: dict[str, Any]) -> None:
    entry = {"Source": "demo", "DetailType": detail_type, "Detail": json.dumps(detail)}
    aws.client("events").put_events(Entries=[{**entry, "EventBusName": headgate["BusName"]}])


@contextmanager
def _dashboard(aws: EmbeddedAws) -> Iterator[str]:
    """The URL of a dashboard, as a user starts it."""
    environment = os.environ | aws.environment()
    environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / folder) for folder in ("cli", "layers/headgate/python"))
    command = [sys.executable, "-m", "headgate_cli", "dashboard", "--no-open"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield next(line.strip() for line in process.stdout or () if "#token=" in line)
        finally:
            process.send_signal(signal.SIGINT)


def _take_all(url: str) -> None:
    reports = {
        "report-promoted": "checkout-good-release",
        "report-rolled-back": "checkout-bad-release",
        "report-consumer": "orders-sqs-bad-release",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US", timezone_id="UTC")
        page.goto(url)
        page.locator(".rollout").nth(1).wait_for()
        page.locator("#history tr").first.wait_for()
        _take(page, "dashboard")
        page.get_by_role("button", name="Abort checkout-43").click()
        _take(page, "dashboard-abort", whole=False)
        page.get_by_role("button", name="Cancel").click()
        paper = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US", timezone_id="UTC")
        for name, rollout_id in reports.items():
            # The dashboard shows a report in a frame, of which a picture has no more than fits into the window.
            paper.set_content(page.evaluate(REPORT, rollout_id))
            _take(paper, name)
        browser.close()
    print(f"The pictures are in {PICTURES.relative_to(ROOT)}.")


def _take(page: Page, name: str, *, whole: bool = True) -> None:
    page.wait_for_timeout(1000)  # Bars move to their place.
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    kept = shot.crop((0, 0, shot.width, min(shot.height, TALLEST)))
    kept.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    raise SystemExit(main())
