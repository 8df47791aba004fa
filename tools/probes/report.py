"""The report of a run: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tools.probes.account import Account
    from tools.probes.run import Outcome

LONGEST_TEXT = 2_000


def as_json(account: Account, outcome: Outcome) -> dict[str, Any]:
    """Return the report as JSON."""
    return {
        "run": account.run,
        "account": account.id,
        "region": account.region,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "interrupted": outcome.interrupted,
        "answers": [
            {
                "id": result.probe.id,
                "question": result.probe.question,
                "call": result.probe.call,
                "assumed": result.probe.assumed,
                "answer": result.answer.verdict,
                "seconds": round(result.seconds, 1),
                "raw": _shortened(result.answer.raw),
            }
            for result in outcome.results
        ],
        "left": [{"kind": each.kind, "id": each.id, "why": why} for each, why in outcome.left.items()],
        "searchByTagFailed": outcome.unchecked or None,
    }


def _shortened(raw: Any) -> Any:
    """Return the raw answer with its longest texts cut."""
    match raw:
        case dict():
            return {key: _shortened(value) for key, value in raw.items()}
        case list():
            return [_shortened(value) for value in raw]
        case str() if len(raw) > LONGEST_TEXT:
            return f"{raw[:LONGEST_TEXT]}... ({len(raw):,} characters)"
        case _:
            return raw


def as_markdown(report: dict[str, Any]) -> str:
    """Return the report as a page, the answers that differ first."""
    order = sorted(report["answers"], key=lambda each: (each["answer"] in (each["assumed"], "unclear"), each["id"]))
    lines = [f"# Probes of AWS in {report['region']}, run {report['run']}", "", f"Ended {report['ended']}.", ""]
    for each in order:
        lines += [
            f"## {each['id']}: {each['answer']}",
            "",
            f"{each['question']} Headgate assumes: {each['assumed']}.",
            "",
            "```json",
            json.dumps(each["raw"], indent=2, default=str, ensure_ascii=False),
            "```",
            "",
        ]
    if report["left"]:
        lines += ["## Left in the account", ""]
        lines += [f"- {each['kind']} `{each['id']}`: {each['why']}" for each in report["left"]] + [""]
    return "\n".join(lines)


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write both forms."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, default=str, ensure_ascii=False)
    (folder / "report.json").write_text(f"{text}\n", "utf-8")
    (folder / "report.md").write_text(as_markdown(report), "utf-8")
