"""What the tests of the state machines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.statemachines.rollouts import Rollouts, assert_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app() -> Iterator[Rollouts]:
    """Headgate in one process; however the test's rollouts end, the invariants hold."""
    with Rollouts() as app:
        yield app
        assert_invariants(app)
