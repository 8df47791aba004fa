"""The report of a rollout of the demo."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from emulator.application import ROOT, WORK
from headgate.history.store import History
from headgate_cli.durations import read_durations
from headgate_cli.pictures.report import render_report

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

FILE = WORK / "demo" / "report.html"


def write_report(aws: EmbeddedAws, headgate: Outputs, summary: dict[str, Any]) -> Path | None:
    """Write the report of the last rollout of a summary: the one that was rolled back. None if it is not on record."""
    view = History(aws.client("dynamodb"), headgate["TableName"]).rollout(summary["rollouts"][-1]["rolloutId"])
    if view is None:
        return None
    now = time.time()
    page = render_report(view, latency=read_durations(aws.client("cloudwatch"), view, now), now=now)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(page, "utf-8")
    return FILE.relative_to(ROOT) if FILE.is_relative_to(ROOT) else FILE
