"""``python -m headgate_cli``: the command where it is not installed."""

from headgate_cli.main import main

main(prog_name="headgate")
