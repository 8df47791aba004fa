"""Runs the command without installation: ``python -m headgate_cli``."""

from headgate_cli.main import main

main(prog_name="headgate")
