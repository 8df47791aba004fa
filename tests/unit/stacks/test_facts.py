"""What the decisions rest on: requests without a target."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.stacks.deeds import Deed, Deeds
from headgate.stacks.event import ROLLOUT_TYPE, StackEvent
from headgate.stacks.facts import Facts
from tests.fakes.deployments import PLACE


def test_a_deed_without_a_target_is_a_fault_of_the_decision() -> None:
    event = StackEvent("Create", "request-1", "arn:stack", "CheckoutRollout", ROLLOUT_TYPE)
    nothing: Any = None
    with pytest.raises(ValueError, match="does not have the target"):
        Deeds(nothing, nothing).do(Deed("delete-alias"), Facts(event, PLACE))
