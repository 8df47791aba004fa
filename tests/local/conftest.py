"""The embedded AWS, one per test session: as the application gets it, and bare."""

from collections.abc import Iterator

import pytest

from local.embedded.server import EmbeddedAws


@pytest.fixture(scope="session")
def embedded_aws() -> Iterator[EmbeddedAws]:
    """AWS on this machine, with the gaps filled."""
    with EmbeddedAws() as embedded:
        yield embedded


@pytest.fixture(scope="session")
def bare_aws() -> Iterator[EmbeddedAws]:
    """MiniStack as it is: to see that a gap is still there."""
    with EmbeddedAws("--bare") as bare:
        yield bare
