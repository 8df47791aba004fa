"""Runs the dashboard until Ctrl-C."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import webbrowser
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from werkzeug.serving import WSGIRequestHandler, make_server

from headgate_cli.dashboard.app import About, Parts, create_app
from headgate_cli.dashboard.board import Board
from headgate_cli.dashboard.gate import Gate, is_loopback
from headgate_cli.dashboard.steering import Steering
from headgate_cli.durations import read_durations
from headgate_cli.failures import Failure
from headgate_cli.pictures.report import render_report
from headgate_cli.rollouts import history_of, target_key
from headgate_cli.signalling import caller

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.serving import BaseWSGIServer

    from headgate.history.model import RolloutView
    from headgate_cli.stack import Stack


class QuietHandler(WSGIRequestHandler):
    """Writes no line for each request: a page asks every two seconds, and a URL may have the token."""

    def log_request(self, *_: Any) -> None:
        """Write nothing."""


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
        steering = Steering(stack, records, by)
        about = About(stack.name, region)
        report = partial(_report, stack=stack)
        app = create_app(Parts(records, Board(records), steering, gate, about, report, target_key))
        server = server_of(app, bound)
        _announce(gate, host, f"bus {bus}, table {table}")
        if opens and _has_display():
            webbrowser.open(gate.url_for_once())
        server.serve_forever()  # It returns on Ctrl-C.
    click.echo("The dashboard has stopped.", err=True)
    _end()


def _end() -> None:
    """End without waiting for calls to AWS that still last, which Python would do. They only read."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def server_of(app: Flask, bound: socket.socket) -> BaseWSGIServer:
    """Return a server of the application on a socket, which it duplicates."""
    host, port = bound.getsockname()[:2]
    return make_server(host, port, app, threaded=True, request_handler=QuietHandler, fd=bound.fileno())


def _report(view: RolloutView, stack: Stack) -> str:
    now = time.time()
    return render_report(view, latency=read_durations(stack.client("cloudwatch"), view, now), now=now)


def _announce(gate: Gate, host: str, where: str) -> None:
    if not is_loopback(host):
        click.echo(
            f"Warning: {host} can be reached from other machines, and the page is not encrypted. Whoever reads its "
            "traffic can steer rollouts; use 127.0.0.1 and ssh -L instead.",
            err=True,
        )
    click.echo(f"The dashboard ({where}) is at:\n\n  {gate.url}\n", err=False)
    click.echo("Its token lets a browser in: give the URL to nobody. Press Ctrl-C to stop.", err=True)


def listener(host: str, port: int) -> socket.socket:
    """Bind the address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # localhost may be both; browsers try 127.0.0.1 in any case.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Failure(f"--host: {host} is no address of this machine ({error.strerror}); use 127.0.0.1") from None
    try:
        if os.name == "posix":
            # As every server does: connections that have ended hold a port for a minute.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise Failure(
            f"--port, --host: {host}:{port} cannot be used ({error.strerror}); use another --port, or 0 for a free one"
        ) from None
    return bound


def _has_display() -> bool:
    """Return whether a browser would get a window. Without one, Python may start a browser in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
