"""Questions with choices, asked on stderr, so that a request on stdout stays clean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from headgate_cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Choice(NamedTuple):
    """An answer that is offered."""

    value: str
    meaning: str = ""


def ask(
    question: str,
    choices: Sequence[Choice],
    *,
    default: str | None = None,
    label: str = "",
    check: Callable[[str], object] | None = None,
) -> str:
    """Ask for one of several answers, by its number or its text.

    Parameters
    ----------
    default
        The answer to Enter alone. A single choice is the default if only the choices are answers.
    label
        What to type. By default a number or a name.
    check
        Raises ClickException for a text that is no answer. Without it, only the choices are answers.
    """
    _show(question, choices)
    if default is None and check is None and len(choices) == 1:
        default = choices[0].value
    wanted = label or ("Number or name" if _numbered(choices) else "Name")
    while True:
        # With None, Enter alone would be asked again without a word.
        given = str(click.prompt(wanted, default=default or "", show_default=bool(default), err=True)).strip()
        if not given:
            click.echo(f"Type one of the choices: its {wanted.lower()}. Ctrl-C ends without a file.", err=True)
            continue
        answer = _chosen(given, choices)
        if answer is None and check is not None:
            try:
                check(given)
            except click.ClickException as error:
                click.echo(error.format_message(), err=True)
                continue
            answer = given
        if answer is not None:
            return answer
        click.echo(f"{printable(given)} is none of the choices.", err=True)


def ask_some(question: str, choices: Sequence[Choice]) -> list[str]:
    """Ask for any number of several answers. An empty answer means none."""
    _show(question, choices)
    while True:
        given = str(click.prompt("Numbers or names with commas between them, or nothing", default="", err=True,
                                 show_default=False))  # fmt: skip
        parts = [part.strip() for part in given.split(",") if part.strip()]
        answers = [_chosen(part, choices) for part in parts]
        if None not in answers:
            return list(dict.fromkeys(answer for answer in answers if answer is not None))
        wrong = [part for part, answer in zip(parts, answers, strict=True) if answer is None]
        click.echo(f"{printable(', '.join(wrong))}: none of the choices.", err=True)


def _show(question: str, choices: Sequence[Choice]) -> None:
    click.echo(f"\n{question}", err=True)
    for number, choice in enumerate(choices, start=1):
        meaning = f"  {choice.meaning}" if choice.meaning else ""
        label = f"{number:>2}  " if _numbered(choices) else ""
        click.echo(printable(f"  {label}{choice.value}{meaning}"), err=True)


def _numbered(choices: Sequence[Choice]) -> bool:
    """Return whether choices have numbers. Versions have none: 2 would be a version and the second choice."""
    return not any(choice.value.isdecimal() for choice in choices)


def _chosen(given: str, choices: Sequence[Choice]) -> str | None:
    """Return the choice with a value or a number."""
    if given in (choice.value for choice in choices):
        return given
    if _numbered(choices) and given.isdecimal() and 1 <= int(given) <= len(choices):
        return choices[int(given) - 1].value
    return None
