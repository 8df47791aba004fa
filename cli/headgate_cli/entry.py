"""The entry point of `headgate`. If the extra `simulate` is missing, the error has the command to install it."""

from __future__ import annotations

import sys

EXTRA = ("numpy", "matplotlib")


def main() -> None:
    """Run the command."""
    try:
        from headgate_cli.main import main as command

        command()
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRA:
            raise
        sys.exit(f"headgate simulate needs {missing.name}. Install it with: pip install '.[simulate]'")
