"""``headgate pause``: sends the signal, and says what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.signalling import act, report, signal_options

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("pause")
@signal_options
def command(*, stack: Stack, rollout: str, by: str | None, reason: str, form: str) -> None:
    """Hold a rollout at its weight until somebody decides.

    \b
    headgate pause checkout-42 --reason "checking the logs"
    headgate pause checkout:live

    The bake ends, and traffic stays as it is. Then headgate resume, promote or abort says how to go on. Without a
    decision, the rollout is rolled back after a day, or as its request says.

    ROLLOUT is an id, or the target that it has now, such as checkout:live or web/shop. The exit code is 0 if the signal
    has worked or is on record, 1 if it has no effect, and 2 after another error.
    """
    report(act(stack, rollout, "pause", by=by, reason=reason), "pause", form)
