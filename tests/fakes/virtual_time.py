"""Virtual time: threads that run one at a time, and whose sleeps take no time."""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class VirtualTime:
    """Runs tasks in the order of their virtual time. The same tasks always run in the same order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, threading.Event]] = []
        self._number = itertools.count()
        self._over = threading.Event()
        """Set when the running task sleeps or has ended."""
        self._failures: list[BaseException] = []

    def start(self, at: float, task: Callable[[], object]) -> None:
        """Start a task at a virtual time."""
        turn = threading.Event()

        def run() -> None:
            turn.wait()
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                self._failures.append(error)
            self._over.set()

        threading.Thread(target=run, daemon=True).start()
        heapq.heappush(self._waiting, (at, next(self._number), turn))

    def sleep(self, seconds: float) -> None:
        """Let the running task sleep."""
        turn = threading.Event()
        heapq.heappush(self._waiting, (self.now + seconds, next(self._number), turn))
        self._over.set()
        turn.wait()

    def run(self) -> None:
        """Run all tasks to their end, or raise the first error of one."""
        while self._waiting:
            self.now, _, turn = heapq.heappop(self._waiting)
            self._over.clear()
            turn.set()
            self._over.wait()
            if self._failures:
                raise self._failures[0]
