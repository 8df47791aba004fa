"""An invocation that runs while its function is updated ends in the environment in which it began.

On AWS, an update of the code or the configuration is for new environments; an invocation that runs goes on in the old
one (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html). MiniStack kills the environments of
the function at once, and the invocation fails: messages of a queue then stay hidden for their visibility timeout. Here,
an environment that is at work is killed when it is done. Not filled: an environment that starts at the time of the
update may have the new layers with the old code.

Seams: `lambda_runtime.kill_workers`, which all of MiniStack's updates call, and `lambda_runtime.reset`, by which the
embedded AWS ends: that kills all at once.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ministack.core import lambda_runtime

from emulator.gaps import seams

GAP = "running_invocations"
_ends = threading.Event()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_runtime, "kill_workers", "workers", _kill)
    seams.wrap(GAP, lambda_runtime, "reset", "", _reset)


def _kill(original: Callable[[list[Any]], None], workers: Iterable[Any]) -> None:
    idle: list[Any] = []
    for worker in filter(None, workers):
        # An invocation holds its environment's lock from its beginning to its end.
        if worker._lock.locked() and not _ends.is_set():
            threading.Thread(target=_kill_when_done, args=(original, worker), daemon=True).start()
        else:
            idle.append(worker)
    original(idle)


def _kill_when_done(original: Callable[[list[Any]], None], worker: Any) -> None:
    with worker._lock:
        original([worker])


def _reset(original: Callable[[], None]) -> None:
    _ends.set()
    try:
        original()
    finally:
        _ends.clear()
