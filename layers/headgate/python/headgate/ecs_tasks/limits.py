"""What a deployment allows ECS tasks to be."""

from __future__ import annotations

import os
from typing import NamedTuple, Self

from headgate.aws.settings import setting


class TaskLimits(NamedTuple):
    """What a deployment lets ECS tasks be."""

    account: str
    roles: str
    """Pattern of the names, paths included, of the roles that a task may be given; empty allows none."""
    families: str
    """Pattern of the families that may be run, or registered."""
    may_register: bool
    clusters: str = "*"
    """Pattern of the names of the clusters that tasks may run on."""

    @classmethod
    def as_deployed(cls) -> Self:
        """The limits that the template sets on this function."""
        return cls(
            account=setting("ACCOUNT"),
            roles=os.environ.get("TASK_ROLES", ""),  # Empty allows none.
            families=setting("TASK_DEFINITIONS"),
            may_register=setting("REGISTER_TASK_DEFINITIONS") == "true",
            clusters=setting("TASK_CLUSTERS"),
        )
