"""The report of a rollout as Markdown, for a pull request or an incident."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headgate.history import wording
from headgate.history.sentences import stage_of, watched
from headgate_cli.output import printable
from headgate_cli.pictures import words
from headgate_cli.pictures.tables import fitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headgate.history.model import Comparison, HookView, RolloutView, StepView

MAX_LETTERS = 500
"""Characters of one text."""

LIST_LETTERS = 8_000
"""Characters of each list. GitHub takes 65,536 in a comment."""

TABLE_LETTERS = 12_000
"""Characters of each table."""

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$])")
_AT_START = re.compile(r"^(\d+)([.)])|^([-+#=])")
_MENTION = re.compile(r"((?<![\w.])@(?=\w)|#(?=\d))")


def render_markdown(view: RolloutView) -> str:
    """Return the report of a rollout as Markdown, as GitHub and GitLab read it."""
    sign, word = words.STATUS[view.status]
    blocks = [
        f"## {sign} {escaped(view.id)}: {word}",
        escaped(words.lead(view)),
        "\n".join(f"- {name}: {escaped(value)}" for name, value in _facts(view)),
        _list("Why" if view.has_ended else "Where it stands", map(escaped, words.told(view))),
        _steps(view),
        _evidence(view),
        _list("Hooks", (_hook_line(hook) for hook in view.hooks)),
        _list("Signals and evidence", _signal_lines(view)),
        _list("Failed messages", _redriven_lines(view)),
        f"Times are UTC. More: {code(f'headgate explain {view.id}')} and {code(f'headgate report {view.id}')}.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line. Nobody is notified by a name in it."""
    line = " ".join(printable(text).split())
    line = line if len(line) <= MAX_LETTERS else f"{line[:MAX_LETTERS]} ..."
    line = _SPECIAL.sub(r"\\\1", line)
    line = _AT_START.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", line)
    # A backslash does not keep GitHub from mentioning a person or an issue; a comment in between does.
    return _MENTION.sub(r"\1<!-- -->", line)


def code(text: str) -> str:
    """Return a text as code in one line."""
    line = " ".join(printable(text).split())[:MAX_LETTERS]
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _facts(view: RolloutView) -> Iterator[tuple[str, str]]:
    if view.target:
        yield "Target", view.target
    if view.stable and view.candidate:
        yield "From", f"{words.revision(view, 'stable')} to {words.revision(view, 'candidate')}"
    if view.has_ended and view.serving:
        yield "Served at the end", wording.revision(view.serving, "")
    if view.undone_by:
        yield "Undone by", view.undone_by
    if said := watched(view):
        yield "After the promotion", said
    if view.started_at and view.ended_at:
        yield "Ran", f"{wording.clock(view.started_at)} to {wording.clock(view.ended_at, beside=view.started_at)}"
    elif view.started_at:
        yield "Since", wording.clock(view.started_at)
    if view.line:
        yield "Place in line", f"{view.line.place}, behind {view.line.behind}"


def _steps(view: RolloutView) -> str:
    if not view.steps:
        return ""
    rows = [_step_row(view, step) for step in view.steps]
    revisions = [escaped(words.revision(view, role)) for role in ("stable", "candidate")]
    failed = [f"{escaped(words.short(each.label))}, {name}" for each in view.comparisons for name in revisions]
    return _table(["Step", "Weight", "Bake", "Result", *failed], rows)


def _step_row(view: RolloutView, step: StepView) -> list[str]:
    result: str = step.status
    if step.bakes and (verdict := step.bakes[-1].verdict):
        result = words.verdict_word(verdict, step.bakes[-1].reason)
    found = {each.measure: each for each in step.comparisons}
    return [
        f"{step.step + 1}",
        wording.weight(step.weight),
        wording.duration(step.bake_seconds),
        result,
        *(cell for each in view.comparisons for cell in _failed(found.get(each.measure))),
    ]


def _failed(found: Comparison | None) -> list[str]:
    if found is None:
        return ["", ""]
    return [
        f"{words.counts_text(counts)} ({words.share_text(counts)})" if counts.requests else "-"
        for counts in (found.stable, found.candidate)
    ]


def _evidence(view: RolloutView) -> str:
    if not view.comparisons:
        return ""
    rows = []
    for each in view.comparisons:
        peak = max((look.value for look in view.evidence if look.measure == each.measure), default=None)
        rows.append(
            [
                escaped(words.short(each.label)),
                *(words.evidence_text(value) for value in (each.value, peak, each.limit)),
                words.ACTIONS[each.action],
            ]
        )
    for group in view.groups:
        values = (words.evidence_text(group.value), "", words.evidence_text(group.limit))
        rows.append([f"all that {words.ACTIONS[group.action]}, averaged", *values, words.ACTIONS[group.action]])
    return _table(["Evidence against the candidate", "Last", "Highest", "Limit", "At its limit"], rows)


def _hook_line(hook: HookView) -> str:
    why = f": {escaped(hook.reason)}" if hook.reason else ""
    asked = escaped(", ".join(hook.hooks))
    return f"{words.time_of(hook.started_at)} {stage_of(hook)}, {asked}: **{hook.outcome}**{why}"


def _signal_lines(view: RolloutView) -> Iterator[str]:
    for signal in view.signals:
        why = "; ".join(escaped(text) for text in (signal.reason, signal.why) if text)
        name = words.SIGNALS.get(signal.signal, signal.signal)
        told = f": {why}" if why else ""
        by = f" by {escaped(wording.person(signal.by))}" if signal.by else ""
        yield f"{words.time_of(signal.at)} {escaped(name)}{by}, {signal.outcome}{told}"


def _redriven_lines(view: RolloutView) -> Iterator[str]:
    if view.redriven:
        for name, count in words.redriven_counts(view.redriven):
            yield f"{name}: {count:,}"


def _list(title: str, lines: Iterable[str]) -> str:
    shown, left_out = fitting([f"- {line}" for line in lines], len, LIST_LETTERS)
    if not shown:
        return ""
    return "\n".join([f"### {title}", "", *shown, *_left_out(left_out)])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, rule, *lines = (f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))
    shown, left_out = fitting(lines, len, TABLE_LETTERS)
    return "\n".join([head, rule, *shown, *_left_out(left_out)])


def _left_out(count: int) -> list[str]:
    return ["", f"{count:,} in the middle are left out."] if count else []
