"""``headgate adopt``: takes an alias over from the stack that moves it, and gives it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.failures import Failure
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate.spec.targets import LambdaAliasTarget
    from headgate_cli.adopting.model import Adoption, Check, Step
    from headgate_cli.stack import Stack

COLORS = {"done": "green", "next": "bold blue", "blocked": "bold red", "later": "bright_black"}

INDENT = "   "


@click.command("adopt")
@click.argument("function")
@click.argument("alias", required=False)
@click.option(
    "--change-set", metavar="NAME", help="Check this change set for the next step: nothing in it may move the alias."
)
@click.option("--undo", is_flag=True, help="Show the way back instead: the stack moves the alias again.")
@format_option()
@of_stack
@click.pass_context
def command(
    context: click.Context,
    *,
    stack: Stack,
    function: str,
    alias: str | None,
    change_set: str | None,
    undo: bool,
    form: str,
) -> None:
    """Take an alias over from the stack that moves it.

    \b
    headgate adopt checkout live
    headgate adopt checkout:live --change-set samcli-deploy1764504000
    headgate adopt checkout:live --undo

    SAM's AutoPublishAlias and DeploymentPreference move an alias when their stack is deployed, and so does an
    AWS::Lambda::Alias whose FunctionVersion changes. Two deployments hand it over to Headgate, and none of them moves
    it. The command reads the deployed template, prints what to change in it, and checks each step before the next: give
    it again after each deployment. It only reads; you deploy.

    Exit codes: 0 the next step may be taken or nothing is left to do, 1 a check failed, 2 wrong usage or another error.
    """
    from headgate_cli.output import echo_json

    target = _target(function, alias)
    adoption = _adoption(stack, target, change_set, "undo" if undo else "adopt")
    if form == "json":
        echo_json(adoption)
    else:
        _print(adoption)
    context.exit(0 if _may_go_on(adoption) else 1)


def _target(function: str, alias: str | None) -> LambdaAliasTarget:
    from headgate.spec.targets import LambdaAliasTarget as Alias
    from headgate_cli.doctor.named_target import named_target

    named = named_target(f"{function}:{alias}" if alias else function)
    if not isinstance(named, Alias):
        if named.kind == "ecs-service":
            raise Failure(
                f"{function} is an ECS service, of which nothing is adopted: a rollout leaves it in its stack. To see "
                f"whether it can be rolled out, run headgate doctor {function}"
            )
        raise Failure(f"{function} is a consumer; name the alias that its mapping points at as FUNCTION:ALIAS")
    return named


def _adoption(stack: Stack, target: LambdaAliasTarget, change_set: str | None, way: str) -> Adoption:
    from headgate_cli.adopting.change_sets import checked, read_change_set
    from headgate_cli.adopting.facts import read_alias, read_facts
    from headgate_cli.adopting.model import Adoption
    from headgate_cli.adopting.needs import Installation
    from headgate_cli.adopting.steps import adoption_of
    from headgate_cli.output import console

    with console(stderr=True).status("Reading the alias and its stack ..."):
        alias = read_alias(stack, target)
        facts = read_facts(stack, alias, compares=way == "undo")
        if facts is None:
            if change_set:
                raise Failure(f"{alias.target} belongs to no stack, so no change set moves it; leave --change-set out")
            return Adoption(
                target=alias.target, way="undo" if way == "undo" else "adopt", served=alias.version, standing="done"
            )
        headgate = Installation(stack.name, stack.prefix, stack.parameters, stack.outputs)
        adoption = adoption_of(facts, way, headgate=headgate)
        if change_set is None or adoption.standing == "blocked":
            return adoption
        step = next((each for each in adoption.steps if each.status == "next"), None)
        if step is None:
            raise Failure("--change-set checks the next step, and none is left to take; give the command without it")
        found = checked(facts, read_change_set(stack, facts, change_set), step.name, headgate)
        return adoption.model_copy(update={"change_set": found})


def _may_go_on(adoption: Adoption) -> bool:
    checks = adoption.change_set.checks if adoption.change_set else []
    return adoption.standing != "blocked" and all(check.passed for check in checks)


def _print(adoption: Adoption) -> None:
    _say(_headline(adoption))
    for number, step in enumerate(adoption.steps):
        # Who names a change set has the change already.
        _print_step(number, step, in_full=adoption.change_set is None)
    if found := adoption.change_set:
        _say(f"\nChange set {found.name}, for the step {found.step}:")
        for check in found.checks:
            _print_check(check)
        _print_notes(found.notes)
        if _may_go_on(adoption):
            _say(f"{INDENT}It may be executed.")
    if adoption.steps:
        _say(f"\n{_ending(adoption)}")


def _headline(adoption: Adoption) -> str:
    if not adoption.stack:
        return (
            f"{adoption.target} belongs to no stack that moves it. Nothing is to be done: Headgate can roll it out "
            "(headgate start)."
        )
    named = f" (version {adoption.stack_version})" if adoption.stack_version else ""
    version = f"; its template points it at {adoption.version_resource}{named}" if adoption.version_resource else ""
    return (
        f"{adoption.target} is resource {adoption.resource} of stack {adoption.stack}{version}. It serves version "
        f"{adoption.served}."
    )


def _print_step(number: int, step: Step, *, in_full: bool) -> None:
    click.echo(f"\n{number}. {step.title}  ", nl=False)
    click.secho(step.status, fg=_color(step), bold="bold" in COLORS[step.status])
    for check in step.checks:
        _print_check(check)
    if step.status == "done" and step.happens:
        _say(step.happens, INDENT)
    if not in_full or step.status not in ("next", "later"):
        return
    _say(step.happens, INDENT)
    if step.status == "later":
        return
    for text in (step.diff, step.added):
        if text:
            click.echo()
            # A template is text of others, and a tab or a colour in it is none of ours.
            _say("\n".join(f"{INDENT}{INDENT}{line}".rstrip() for line in text.splitlines()))
    _print_notes(step.notes)
    if step.commands:
        click.echo()
        for line in step.commands:
            _say(line, f"{INDENT}$ ", wraps=False)


def _print_notes(notes: list[str]) -> None:
    if not notes:
        return
    click.echo()
    _say("Change this too:", INDENT)
    for note in notes:
        _say(f"- {note}", INDENT, wraps=False)


def _print_check(check: Check) -> None:
    click.echo(INDENT, nl=False)
    click.secho("ok    " if check.passed else "failed", fg="green" if check.passed else "red", nl=False)
    _say(f"  {check.message}", wraps=False)
    if check.fix:
        _say(f"Fix: {check.fix}", f"{INDENT}        ", wraps=False)


def _ending(adoption: Adoption) -> str:
    again = f"headgate adopt {adoption.target}{' --undo' if adoption.way == 'undo' else ''}"
    if not _may_go_on(adoption):
        return f"A check failed. Nothing was changed; correct it, and give {again} again."
    if adoption.standing == "ready":
        step = next(each for each in adoption.steps if each.status == "next")
        return f"Next is the step {step.name}. Make the same change in the template that you deploy."
    if adoption.way == "undo":
        return "The stack moves the alias. What is left is optional."
    return "The alias is Headgate's: deploying the stack moves it by rollouts only."


def _color(step: Step) -> str:
    return COLORS[step.status].removeprefix("bold ")


def _say(text: str, indent: str = "", *, wraps: bool = True) -> None:
    """Print a text that may hold what others have written. Prose is wrapped."""
    from textwrap import fill

    from headgate_cli.output import printable

    shown = printable(text)
    click.echo(
        fill(shown, 100, initial_indent=indent, subsequent_indent=indent) if indent and wraps else indent + shown
    )
