"""``headgate promote``: sends the signal, and says what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.signalling import act, report, signal_options

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("promote")
@click.option("--full", is_flag=True, help="Go to 100 % at once, without further analysis of the steps before.")
@signal_options
def command(*, stack: Stack, rollout: str, full: bool, by: str | None, reason: str, form: str) -> None:
    """Go on to the next step at once, or to 100 %.

    \b
    headgate promote checkout-42
    headgate promote checkout:live --full --reason "approved in the stand-up"

    The current bake or pause ends, and the next step begins. After --full only an abort reverses the promotion.

    An ECS service gets to 100 % in a step that keeps its stable revision, for --keep of headgate start: --full leads to
    that step, unless an alarm or evidence is against the candidate. To end it, and with it the way back in one call,
    run headgate promote again.

    ROLLOUT is an id, or the target that it has now, such as checkout:live or web/shop. The exit code is 0 if the signal
    has worked or is on record, 1 if it has no effect, and 2 after another error.
    """
    signal = "promote-fully" if full else "promote"
    report(act(stack, rollout, signal, by=by, reason=reason), signal, form)
