"""The command `headgate`: finds its commands, and imports only the one that is run, so that each starts soon."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import click

from headgate_cli.groups import Group

if TYPE_CHECKING:
    from click import Command, Context, HelpFormatter


class Entry(NamedTuple):
    """A command: the attribute ``command`` of a module in ``headgate_cli.commands``."""

    module: str
    section: str
    summary: str
    """Its line in ``headgate --help``, which imports no command. A test compares it with the command's own help."""


COMMANDS = {
    "start": Entry("start", "Roll out", "Request a rollout."),
    "plan": Entry("plan", "Roll out", "Show what a rollout would do, without doing it."),
    "list": Entry("list", "Roll out", "List rollouts, newest first."),
    "status": Entry("status", "Roll out", "Show the state of a rollout."),
    "watch": Entry("watch", "Roll out", "Watch a rollout until it ends."),
    "explain": Entry("explain", "Roll out", "Explain why a rollout ended, or what it waits for."),
    "history": Entry("history", "Roll out", "Show the rollouts on a target, newest first."),
    "report": Entry("report", "Roll out", "Write the report of a rollout, as a page or as Markdown."),
    "dashboard": Entry("dashboard", "Roll out", "Show the rollouts on a live page, with buttons."),
    "pause": Entry("pause", "Step in", "Hold a rollout at its weight until somebody decides."),
    "resume": Entry("resume", "Step in", "Let a paused rollout go on with its step."),
    "promote": Entry("promote", "Step in", "Go on to the next step at once, or to 100 %."),
    "abort": Entry("abort", "Step in", "Roll a rollout back, or take a request out of the line."),
    "undo": Entry("undo", "Step in", "Restore what a target served before its last promotion."),
    "stop-watch": Entry("stop_watch", "Step in", "End the watch of a promoted rollout."),
    "stop-traffic": Entry("stop_traffic", "Step in", "Stop all traffic of a function: the kill switch."),
    "restore-traffic": Entry("restore_traffic", "Step in", "Put back what a function had before stop-traffic."),
    "task": Entry("task", "Jobs", "Run ECS tasks, list and show them, and stop them."),
    "redrive": Entry("redrive", "Jobs", "Bring back failed messages of queues and batches of streams."),
    "init": Entry("init", "Prepare", "Write a request by asking, with choices from the account."),
    "adopt": Entry("adopt", "Prepare", "Take an alias over from the stack that moves it."),
    "simulate": Entry("simulate", "Prepare", "Simulate what a strategy detects."),
    "cost": Entry("cost", "Prepare", "Show what a rollout, requests or the installation cost."),
    "doctor": Entry("doctor", "Look after", "Check an installation and a target, and say what to repair."),
    "versions": Entry("versions", "Look after", "Clean old versions of functions and task definitions."),
}
"""The commands in the order of ``headgate --help``."""


class Commands(Group):
    """Imports a command when it is run."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"headgate_cli.commands.{COMMANDS[cmd_name].module}")
        command: Command = module.command
        return command

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                rows = [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section]
                formatter.write_dl(rows)


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("headgate", cls=Commands, context_settings=SETTINGS)
@click.version_option(package_name="headgate")
def main() -> None:
    """Headgate: progressive delivery for AWS."""
