"""``headgate resume``: sends the signal, and says what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.signalling import act, report, signal_options

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("resume")
@signal_options
def command(*, stack: Stack, rollout: str, by: str | None, reason: str, form: str) -> None:
    """Let a paused rollout go on with its step.

    \b
    headgate resume checkout-42 --reason "the errors were ours"

    The step bakes again from its beginning. After a failure it starts without the evidence so far.

    ROLLOUT is an id, or the target that it has now, such as checkout:live or web/shop. The exit code is 0 if the signal
    has worked or is on record, 1 if it has no effect, and 2 after another error.
    """
    report(act(stack, rollout, "resume", by=by, reason=reason), "resume", form)
