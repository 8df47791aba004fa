"""Groups of commands: a wrong name gets the nearest one, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click import Command, Context


class Group(click.Group):
    """A group that suggests a command for one that does not exist."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], names, n=1)
            path = "" if ctx.parent is None else f"{ctx.command_path} "
            meant = f"did you mean {near[0]}?" if near else f"{ctx.command_path} --help lists all commands"
            raise click.UsageError(f"there is no command {path}{args[0]}; {meant}", ctx)
        return super().resolve_command(ctx, args)
