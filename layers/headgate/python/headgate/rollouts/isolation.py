"""Isolation of rollouts in one invocation: a failure of one does not affect the others."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from headgate.aws.observability import logger

if TYPE_CHECKING:
    from collections.abc import Iterator


class IsolatedBlock(Protocol):
    """Context manager for the work on one rollout. Log entries have the rollout's id."""

    def __call__(self, rollout_id: str, message: str) -> AbstractContextManager[None]:
        """Return the context manager; ``message`` is logged on failure."""


@contextmanager
def isolated() -> Iterator[IsolatedBlock]:
    """Handle each rollout separately: a failure is logged and kept, and the next rollout follows.

    Raises
    ------
    ExceptionGroup
        At the end, with all failures, so that the caller retries.
    """
    failures: list[tuple[str, Exception]] = []

    @contextmanager
    def trying(rollout_id: str, message: str) -> Iterator[None]:
        with logger.append_context_keys(rollout_id=rollout_id):
            try:
                yield
            except Exception as failure:  # noqa: BLE001 - raised below in a group
                logger.exception(message)
                failures.append((rollout_id, failure))

    yield trying
    if failures:
        message = "; ".join(f"{rollout_id}: {failure}" for rollout_id, failure in failures)
        raise ExceptionGroup(message, [failure for _, failure in failures])
