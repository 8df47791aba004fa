"""What all tests share: a run that leaves tests out says how many at its end, and garbage is looked for less often.

`-m "not slow"` must not look like all of them.
"""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

_collected = pytest.StashKey[int]()
_left_out = pytest.StashKey[int]()


# A shell lets what it starts in the background ignore Ctrl-C, and processes pass that on to those that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what the command line leaves out."""
    if items:
        stash = items[0].config.stash
        stash[_left_out] = stash.get(_left_out, 0) + len(items)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name the group of each test in its id, for `--dist loadgroup`.

    pytest-xdist 3.8.0 writes the name into an attribute that pytest 9.2.0 no longer reads, and then ignores all groups.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group and not item.nodeid.endswith(suffix := f"@{group.args[0]}"):
            item._id = type(item._id).parse(item.nodeid + suffix)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the rest. A worker of xdist passes both numbers on: the process that reports has collected nothing."""
    stash = session.config.stash
    stash[_collected] = len(session.items)
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["selection"] = (stash[_collected], stash.get(_left_out, 0))
    # Modules, tests and service models stay until the end: Python looked through them for a tenth of all the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Leave all that is left to the operating system: to free it one by one took a process of xdist eight seconds."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the numbers of a worker; all have collected the same."""
    if selection := getattr(node, "workeroutput", {}).get("selection"):
        node.config.stash[_collected], node.config.stash[_left_out] = selection


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say it, if anything was left out."""
    chosen, left_out = config.stash.get(_collected, 0), config.stash.get(_left_out, 0)
    if left_out:
        terminalreporter.write_line(f"{chosen} of {chosen + left_out} tests; {left_out} were left out.")
