"""What failed, in a sentence for the page."""

from __future__ import annotations

import logging

import click

from headgate.errors import RequestRefused
from headgate_cli.failures import explained

logger = logging.getLogger("headgate.dashboard")


def trouble(error: Exception) -> str:
    """Return what failed and what to do about it. A fault of Headgate's own also goes to the terminal."""
    if isinstance(error, RequestRefused):
        return str(error)
    if isinstance(error, click.ClickException):
        return error.format_message()
    if sentence := explained(error):
        return sentence
    logger.error("The dashboard failed", exc_info=error)
    return (
        f"the dashboard failed ({type(error).__name__}: {error}); the terminal has the details. Use headgate list "
        "meanwhile, and report it"
    )
