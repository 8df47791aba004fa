"""Opens the dashboard in the browser, and shows its token to no other user of the machine.

Every user can read the arguments of a process, such as the browser's. So the browser is given a file that only this
user can read, which leads it to the URL.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import webbrowser
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headgate_cli.dashboard.gate import ONCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate_cli.dashboard.gate import Gate

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>Headgate</title>
</head>
<body><p><a href="{url}">Go to the dashboard</a></p></body>
</html>
"""


@contextmanager
def browser_of(gate: Gate) -> Iterator[None]:
    """Open the page in the browser while the block runs, which serves it.

    The file is deleted as soon as it has been used, when its token is too old, or at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="headgate-"))  # Only this user can look into it.
    try:
        file = folder / "dashboard.html"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as page:
            page.write(PAGE.format(url=escape(gate.url_for_once())))
        # A browser that runs in the foreground returns when it is closed.
        threading.Thread(target=_open, args=(file.as_uri(),), daemon=True).start()
        threading.Thread(target=_clean, args=(gate, folder), daemon=True).start()
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open(url: str) -> None:
    if not webbrowser.open(url):
        click.echo("No browser could be started; open the URL yourself.", err=True)


def _clean(gate: Gate, folder: Path) -> None:
    gate.is_used.wait(ONCE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def has_display() -> bool:
    """Return whether a browser would get a window. Without one, Python may start a browser in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
