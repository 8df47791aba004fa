"""Runs the dashboard until Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import click

from headgate_cli.dashboard.app import About, Parts, create_app
from headgate_cli.dashboard.board import Board
from headgate_cli.dashboard.gate import Gate, is_loopback
from headgate_cli.dashboard.listening import Server, listener
from headgate_cli.dashboard.opening import browser_of, has_display
from headgate_cli.dashboard.steering import Steering
from headgate_cli.durations import read_durations
from headgate_cli.pictures.report import render_report
from headgate_cli.rollouts import history_of, target_key
from headgate_cli.signalling import caller
from headgate_cli.undoing import last_promotion

if TYPE_CHECKING:
    from headgate.history.model import RolloutView
    from headgate_cli.stack import Stack


def serve(stack: Stack, host: str, port: int, *, opens: bool) -> None:
    """Serve the dashboard of a stack until Ctrl-C."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    # What is wrong with the stack or the profile is said here, and not on the page. Clients are made before there are
    # threads: boto3 cannot make them side by side.
    bus, table, region = stack.bus, stack.table, stack.session.region_name or ""
    stack.client("events"), stack.client("cloudwatch")
    by = caller(stack)
    records = history_of(stack)
    with listener(host, port) as bound:
        port = int(bound.getsockname()[1])
        gate = Gate(host, port)
        steering = Steering(stack, records, by, last_promotion=lambda target: last_promotion(stack, records, target))
        about = About(stack.name, region)
        report = partial(_report, stack=stack)
        app = create_app(Parts(records, Board(records), steering, gate, about, report, target_key))
        server = Server(app, bound)
        _announce(gate, host, f"bus {bus}, table {table}")
        with browser_of(gate) if opens and has_display() else nullcontext():
            server.serve_forever()  # It returns on Ctrl-C.
    click.echo("The dashboard has stopped.", err=True)
    _end()


def _end() -> None:
    """End without waiting for calls to AWS that still last, which Python would do. They only read."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _report(view: RolloutView, stack: Stack) -> str:
    now = time.time()
    return render_report(view, latency=read_durations(stack.client("cloudwatch"), view, now), now=now)


def _announce(gate: Gate, host: str, where: str) -> None:
    if not is_loopback(host):
        click.echo(
            f"Warning: {host} can be reached from other machines, and the page is not encrypted. Anyone who reads its "
            "traffic can steer rollouts; use 127.0.0.1 and ssh -L instead.",
            err=True,
        )
    click.echo(f"The dashboard ({where}) is at:\n\n  {gate.url}\n", err=False)
    click.echo("Its token lets a browser in: give the URL to nobody. Press Ctrl-C to stop.", err=True)
