"""Many rollouts in one invocation: one that fails must not keep a function from the others."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from headgate.aws.observability import logger

if TYPE_CHECKING:
    from collections.abc import Iterator


class IsolatedBlock(Protocol):
    """Around what is done for one rollout, whose id its log entries carry."""

    def __call__(self, rollout_id: str, told: str) -> AbstractContextManager[None]:
        """``told`` is what the log says of a failure."""


@contextmanager
def isolated() -> Iterator[IsolatedBlock]:
    """Try each rollout by itself: a failure is logged and kept, and the next one has its turn.

    Raises
    ------
    ExceptionGroup
        At the end, with all failures, so that the caller tries again.
    """
    failures: list[tuple[str, Exception]] = []

    @contextmanager
    def trying(rollout_id: str, told: str) -> Iterator[None]:
        with logger.append_context_keys(rollout_id=rollout_id):
            try:
                yield
            except Exception as failure:  # noqa: BLE001 - raised below, all together
                logger.exception(told)
                failures.append((rollout_id, failure))

    yield trying
    if failures:
        told = "; ".join(f"{rollout_id}: {failure}" for rollout_id, failure in failures)
        raise ExceptionGroup(told, [failure for _, failure in failures])
