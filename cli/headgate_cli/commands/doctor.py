"""``headgate doctor``: checks an installation and a target, and says how to repair what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.doctor.findings import Checkup, Finding
    from headgate_cli.stack import Stack

COLORS = {"ok": "green", "warning": "yellow", "fault": "bold red", "not-checked": "cyan"}


@click.command("doctor")
@click.argument("target", required=False)
@click.option("--peek", is_flag=True, help="Also read the reason of dead letters. This raises their receive counts.")
@click.option("--problems", is_flag=True, help="Show only what is not ok.")
@format_option()
@of_stack
@click.pass_context
def command(context: click.Context, *, stack: Stack, target: str | None, peek: bool, problems: bool, form: str) -> None:
    """Check an installation and a target, and say what to repair.

    \b
    headgate doctor
    headgate doctor checkout:live
    headgate doctor web/shop
    headgate doctor 4a52bb2c-31c7-4b40-a4d5-0f6a3f2c1b1e --problems --format json

    TARGET is an alias as FUNCTION:ALIAS, an ECS service as CLUSTER/SERVICE, or a consumer by the UUID of its event
    source mapping. Without it, only the installation is checked. The command only reads. What you lack a permission for
    is reported as not checked.

    Exit code: 0 without a fault, 1 with one. A warning is no fault.
    """
    from headgate_cli.output import echo_json

    checkup = _checkup(stack, target, peek=peek)
    if problems:
        checkup = checkup.model_copy(update={"findings": [each for each in checkup.findings if each.severity != "ok"]})
    if form == "json":
        echo_json(checkup)
    else:
        _print(checkup)
    context.exit(0 if checkup.healthy else 1)


def _checkup(stack: Stack, target: str | None, *, peek: bool) -> Checkup:
    from headgate_cli.doctor.checkup import checks_of_installation, checks_of_target, run
    from headgate_cli.doctor.findings import checkup_of
    from headgate_cli.doctor.named_target import named_target
    from headgate_cli.output import console

    named = named_target(target) if target else None
    region = str(stack.session.region_name)
    if "TableName" not in stack.outputs:
        # A stack whose creation failed has no outputs. One that is in order and has none is not Headgate.
        findings = run(checks_of_installation(stack, peek=False)[:1])
        if all(each.severity == "ok" for each in findings):
            stack.output("TableName")
        return checkup_of(stack.name, region, "", findings)
    screen = console(stderr=True)
    with screen.status("Checking ...") as status:

        def show(name: str) -> None:
            status.update(f"Checking {name} ...")

        findings = run(checks_of_installation(stack, peek=peek), show)
        if named is not None:
            findings += run(checks_of_target(stack, named), show)
    return checkup_of(stack.name, region, named.key if named else "", findings)


def _print(checkup: Checkup) -> None:
    from headgate_cli.output import echo_table

    echo_table(("", "CHECK", "FINDING AND FIX"), (_row(finding) for finding in checkup.findings))
    counts = f"{_counted(checkup.faults, 'fault')}, {_counted(checkup.warnings, 'warning')}"
    unchecked = f", {_counted(checkup.not_checked, 'check')} not made" if checkup.not_checked else ""
    click.echo(f"\n{counts}{unchecked}.")


def _row(finding: Finding) -> tuple[Any, ...]:
    from rich.text import Text

    from headgate_cli.output import printable

    told = Text(printable(finding.message))
    if finding.fix:
        told.append(f"\nFix: {printable(finding.fix)}", style="dim" if finding.severity == "ok" else "")
    return Text(finding.severity, style=COLORS[finding.severity]), finding.check, told


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
