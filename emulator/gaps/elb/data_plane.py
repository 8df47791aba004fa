"""The one thread in which all load balancers of the embedded AWS work, with an event loop of its own.

A busy control plane does not delay requests, and the other way around. The thread ends with the process.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from emulator.gaps.elb.proxy import Proxy

proxy = Proxy()
_loop = asyncio.new_event_loop()
_started = threading.Event()
_tasks: set[asyncio.Task[Any]] = set()


def start() -> None:
    """Start the thread, unless it runs."""
    if not _started.is_set():
        _started.set()
        threading.Thread(target=_loop.run_forever, daemon=True, name="load-balancers").start()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Carry out `work` in the event loop and return its result. It must be short: the caller waits."""
    return asyncio.run_coroutine_threadsafe(work, _loop).result(10)


def begin(work: Coroutine[Any, Any, None]) -> None:
    """Begin `work` in the event loop, from any thread."""
    _loop.call_soon_threadsafe(lambda: keep(_loop.create_task(work)))


def keep(task: asyncio.Task[Any]) -> None:
    """Hold a task until it is done: an event loop alone does not."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
