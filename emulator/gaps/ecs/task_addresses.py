"""The loopback addresses of tasks: each has one of its own while it lives."""

import itertools
import threading
from collections.abc import Iterable

from emulator.gaps import addresses


class NoAddressLeft(RuntimeError):  # noqa: N818 - describes the state
    """As many tasks run as there are addresses."""


class AddressBook:
    """Who has which number. A number that is given back is used again as late as possible, because requests to the task
    that had it may still be under way."""

    def __init__(self, numbers: Iterable[int] = addresses.TASKS) -> None:
        """Begin with all numbers free."""
        self._free = dict.fromkeys(numbers)
        self._of_task: dict[str, int] = {}
        self._lock = threading.Lock()

    def of(self, task: str) -> str:
        """Return the address of this task. It takes the first free one if it has none."""
        with self._lock:
            if task not in self._of_task:
                number = next(iter(self._free), None)
                if number is None:
                    raise NoAddressLeft(f"all {len(self._of_task)} addresses for tasks are in use: stop tasks first")
                del self._free[number]
                self._of_task[task] = number
            return addresses.address(self._of_task[task])

    def known(self, task: str) -> str | None:
        """Return the address of this task, None if it has none."""
        with self._lock:
            number = self._of_task.get(task)
        return None if number is None else addresses.address(number)

    def release(self, task: str) -> None:
        """Give the address of this task back. Does nothing if it has none."""
        with self._lock:
            number = self._of_task.pop(task, None)
            if number is not None:
                self._free[number] = None

    def left(self, wanted: int) -> int:
        """Return how many of the wanted addresses are free."""
        with self._lock:
            return sum(1 for _ in itertools.islice(self._free, wanted))


book = AddressBook()
