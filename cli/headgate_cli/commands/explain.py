"""``headgate explain``: why a rollout ended, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.output import echo_json, format_option
from headgate_cli.rollouts import history_of, named_for_reading
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("explain")
@click.argument("rollout")
@format_option()
@of_stack
def command(*, stack: Stack, rollout: str, form: str) -> None:
    """Explain why a rollout ended, or what it waits for.

    ROLLOUT is an id, or a target such as checkout:live or web/shop: then it is the rollout underway there, else the
    latest.

    \b
    headgate explain checkout-42
    headgate explain checkout-42 --format json

    It says what the record says, in sentences with the numbers: the outcome, its cause, what the traffic did, what was
    given back, warnings, and what to do next.
    """
    from headgate.history.sentences import explanation

    view = named_for_reading(history_of(stack), rollout)
    if form == "json":
        from headgate.history.model import Explanation

        shown = Explanation(id=view.id, status=view.status, headline=view.headline, sentences=explanation(view))
        echo_json(shown)
        return
    from datetime import UTC, datetime

    from headgate_cli.lists import echo_sentences

    echo_sentences(explanation(view, datetime.now(UTC)))
