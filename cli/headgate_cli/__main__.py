"""Runs the command without installation: ``python -m headgate_cli``."""

from headgate_cli.entry import main

main()
