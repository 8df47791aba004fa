"""What this deployment of Headgate is: where it serves, and what its stack's parameters let it do."""

from __future__ import annotations

import os
from typing import NamedTuple, Self

from headgate.aws import setting


class Place(NamedTuple):
    """Where this Headgate serves."""

    partition: str
    account: str
    region: str


class TaskLimits(NamedTuple):
    """What a deployment lets ECS tasks be."""

    account: str
    roles: str
    """Pattern of the names, paths included, of the roles that a task may be given; empty allows none."""
    families: str
    """Pattern of the families that may be registered."""
    may_register: bool

    @classmethod
    def as_deployed(cls) -> Self:
        """The limits that the template sets on this function."""
        return cls(
            account=setting("ACCOUNT"),
            roles=os.environ.get("TASK_ROLES", ""),  # Empty allows none.
            families=setting("TASK_DEFINITIONS"),
            may_register=setting("REGISTER_TASK_DEFINITIONS") == "true",
        )
