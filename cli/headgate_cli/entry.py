"""The entry point of `headgate`: runs the command and turns what AWS answers into one line with what to do."""

from __future__ import annotations

import sys
from io import TextIOWrapper

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command. Whatever fails, the exit code is not 0 and there is no traceback for what a user can mend."""
    import click

    from headgate_cli.main import main as command

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal of another encoding shows ? for a letter that it does not have.
            stream.reconfigure(errors="replace")
    try:
        code = command.main(prog_name="headgate", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        from headgate_cli.failures import explained

        if (sentence := explained(error)) is None:
            raise
        click.echo(f"Error: {sentence}", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)
