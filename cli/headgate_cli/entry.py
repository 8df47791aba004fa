"""The entry point of `headgate`: runs the command and turns what AWS answers into one line with what to do."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

CLOSED_PIPE = 141
"""Exit code if the reader of the output has gone, as of a program that SIGPIPE ends."""

DEBUG = "HEADGATE_DEBUG"
"""Environment variable that shows the traceback of an unexpected error."""


def main() -> None:
    """Run the command. Whatever fails, the exit code is not 0, and there is one line and no traceback."""
    try:
        _open_closed_streams()
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say("Interrupted.")
        code = INTERRUPTED
    except BrokenPipeError:
        code = CLOSED_PIPE
    except OSError as error:
        # What fails in a command's own work is explained there: this is the output.
        _say(f"Error: the output cannot be written: {error.strerror or error}; check where it goes")
        code = 2
    if code != 0:
        _drop_unwritten()
    sys.exit(code)


def _run() -> int:
    """Run the command and return its exit code."""
    import click

    from headgate_cli.failures import one_line
    from headgate_cli.main import main as command

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal of another encoding shows ? for a letter that it does not have.
            stream.reconfigure(errors="replace")
    try:
        code = command.main(prog_name="headgate", standalone_mode=False)
    except click.exceptions.Abort:
        _say("Interrupted.")
        return INTERRUPTED
    except click.ClickException as error:
        if type(error).show in (click.ClickException.show, click.UsageError.show):
            _say(one_line(error))
        else:
            error.show()
        return error.exit_code
    except SystemExit:
        # click ends so when the reader of the output has gone.
        if isinstance(sys.stdout, click.utils.PacifyFlushWrapper):
            raise BrokenPipeError from None
        raise
    except Exception as error:  # noqa: BLE001 - whatever fails becomes one line
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: Exception) -> int:
    """Say what an unexpected error means, and return the exit code."""
    from headgate_cli.failures import explained

    if isinstance(error, OSError) and _is_of_output(error):
        raise error
    if (sentence := explained(error)) is None:
        if os.environ.get(DEBUG):
            raise error
        if isinstance(error, MemoryError):
            sentence = "there is not enough memory; ask for less at once, such as with --limit"
        else:
            what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            sentence = f"this is a fault of headgate: {what}; please report it, with the traceback that {DEBUG}=1 shows"
    _say(f"Error: {sentence}")
    return 2


def _is_of_output(error: OSError) -> bool:
    """Return whether writing the output has failed: the disk is full, or the reader has gone."""
    import errno

    return error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF)


def _say(line: str) -> None:
    """Print a line on stderr, whose reader may have gone."""
    from contextlib import suppress

    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _open_closed_streams() -> None:
    """Open streams that were closed by the caller: else a connection would get the number of one, and its output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end


def _drop_unwritten() -> None:
    """Drop what could not be written: Python would try again at its end, and fail with a traceback."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
