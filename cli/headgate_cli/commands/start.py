"""``headgate start``: requests a rollout, and may wait for its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.failures import Failure
from headgate_cli.output import echo_json, format_option, printable
from headgate_cli.requesting import request_options
from headgate_cli.rollouts import EXIT, Duration, exit_code, history_of
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate.history.model import RolloutView
    from headgate.spec.request import RolloutRequest
    from headgate_cli.stack import Stack

BEGIN_SECONDS = 20.0
"""How long to wait until a rollout has begun or was refused."""


@click.command("start")
@request_options
@click.option("--wait", is_flag=True, help="Wait for the end of the rollout.")
@click.option("--timeout", type=Duration(), help="With --wait: how long, such as 30m.  [default: no limit]")
@click.option("--dry-run", is_flag=True, help="Change nothing: as headgate plan.")
@of_stack
@format_option()
def command(*, stack: Stack, wait: bool, timeout: float | None, dry_run: bool, form: str, **asked: Any) -> None:
    """Request a rollout.

    \b
    headgate start checkout:live --version 8 --strategy Canary10Percent5Minutes --errors --evidence cloudwatch
    headgate start checkout:live --publish --before-traffic smoke-test --wait --timeout 30m
    headgate start --service web/shop --task-definition shop:8 --errors --evidence cloudwatch --keep 30m
    headgate start web/shop --image app=123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:1.8 --alarm shop-errors
    headgate start --file request.yaml --version 8 --id checkout-42

    TARGET is an alias as FUNCTION:ALIAS, an ECS service as CLUSTER/SERVICE, or the UUID of a consumer's mapping. The
    candidate of a service is a --task-definition, or the running one with an --image for each container that changes.

    Options win over the file. The request is checked before it is sent. The same request with the same --id again
    starts nothing, and follows the rollout that is there.

    HOOK is the name of a function, codedeploy:NAME for a function written as a CodeDeploy hook, lifecycle:NAME for one
    written as a lifecycle hook of ECS, task:FAMILY for an ECS task, or machine:NAME for a state machine.

    The exit code is 0 once the rollout has begun or waits in line, 4 if it is refused, and 2 after another error.
    It waits up to 20 s to know that. With --wait: 0 if the candidate is promoted, 3 if the rollout is rolled back, 4 if
    it is refused, 5 if it is stopped, and 6 if the time is up: then the rollout goes on.
    """
    from headgate_cli.acting import Effect, action_view, end_code, follow_to_end
    from headgate_cli.naming_options import with_options
    from headgate_cli.requesting import detail_of, with_id
    from headgate_cli.standing import standing

    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    if dry_run:
        from headgate_cli.commands.plan import show_plan

        show_plan(stack, form, asked)
    view = _start(stack, with_id(detail_of(stack, asked)), asked)
    if not wait:
        view = _await_begin(stack, view)
    else:
        view = follow_to_end(history_of(stack), view.id, timeout, quit_hint=_hint(view.id))
    said = with_options(standing(view), asked) if view.status == "refused" else standing(view)
    if form == "json":
        effect = Effect("none" if view.status in ("refused", "rolled-back", "stopped") else "done", said)
        if wait and not view.has_ended:
            effect = Effect("pending", said)
        echo_json(action_view("start", effect, view))
    else:
        click.echo(f"{printable(view.id)} {said}")
        if not wait and not view.has_ended:
            click.echo(f"To follow it, run headgate watch {printable(view.id)}.", err=True)
    raise click.exceptions.Exit(end_code(view) if wait else exit_code(view) if view.has_ended else 0)


def _start(stack: Stack, detail: dict[str, Any], asked: dict[str, Any]) -> RolloutView:
    """Send a request, unless it is on record already, and return the rollout."""
    from headgate.errors import RequestRefused
    from headgate_cli.acting import Looks, await_record, interruptible, maybe_sent, nobody_took, send
    from headgate_cli.naming_options import with_options
    from headgate_cli.requesting import read

    try:
        request = read(detail)
    except RequestRefused as refusal:
        raise Failure(with_options(str(refusal), asked)) from None
    history = history_of(stack)
    known = history.rollout(request.id)
    if known is None:
        unsure = f"The request {request.id} may have been sent. If it was, the rollout goes on: {_look(request.id)}."
        sending = send(stack, "Rollout Requested", detail, unsure)
        with interruptible(unsure if sending.lost else _hint(request.id)):
            known = await_record(Looks(history, request.id), sending.seconds)
        if known is None and sending.lost:
            look = f"To see whether it was, {_look(request.id)}; to repeat it, add --id {request.id}, so that nothing"
            raise maybe_sent(sending, f"the request {request.id}", f"{look} is started twice")
        if known is None:
            raise nobody_took(stack, sending.event_id, "Rollout Requested")
        # A record without a request is that of this one, which Headgate could not read.
        if known.request:
            _refuse_another(known, request)
    else:
        _refuse_another(known, request)
        click.echo(f"{request.id} is on record already, with the same content; nothing is started again.", err=True)
    return known


def _await_begin(stack: Stack, view: RolloutView) -> RolloutView:
    """Wait until a rollout has begun or was refused. The plan, which is made first, mostly tells within seconds."""
    from headgate_cli.acting import Looks, interruptible

    if view.status != "accepted":
        return view
    with interruptible(_hint(view.id)):
        for seen in Looks(history_of(stack), view.id).each(BEGIN_SECONDS):
            view = seen or view
            if view.status != "accepted":
                return view
    click.echo(f"After {BEGIN_SECONDS:.0f} s it is not known whether it is refused.", err=True)
    return view


def _hint(rollout_id: str) -> str:
    """Return what Ctrl-C leaves, and how to end it."""
    return f"The rollout goes on. Run headgate abort {rollout_id} to end it, or headgate watch {rollout_id} to see it."


def _look(rollout_id: str) -> str:
    """Return how to see whether there is a rollout, and how to end it."""
    return f"run headgate status {rollout_id} to see it, or headgate abort {rollout_id} to end it"


def _refuse_another(known: RolloutView, request: RolloutRequest) -> None:
    """Refuse a request whose id another one has, as Headgate does."""
    if not known.request or not _is_same(known.request, request):
        raise Failure(
            f"id: {request.id} is the id of an earlier request with other content; send this one under a new id, or "
            "leave the id out",
            exit_code=EXIT["refused"],
        )


def _is_same(known: dict[str, Any], request: RolloutRequest) -> bool:
    try:
        return type(request).model_validate(known) == request
    except ValueError:  # Stored by a version that allowed more.
        return known == request.to_wire()
