"""Runs a task many times, on all processors."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def on_all(answer: Callable[[Task], Answer], tasks: Sequence[Task], *, at_once: int = 1) -> Iterator[Answer]:
    """The answers to tasks, in order, as they are ready.

    Parameters
    ----------
    answer
        A function of a module, so that other processes find it.
    at_once
        Tasks that a process takes at a time; more for short ones.
    """
    # numpy's threads and a fork do not go together.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(answer, tasks, chunksize=at_once)
