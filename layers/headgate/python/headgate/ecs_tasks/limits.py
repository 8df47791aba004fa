"""Limits that a deployment sets for ECS tasks."""

from __future__ import annotations

import os
from typing import NamedTuple, Self

from headgate.aws.settings import setting


class TaskLimits(NamedTuple):
    """Limits that a deployment sets for ECS tasks."""

    account: str
    roles: str
    """Pattern of the names, with paths, of the roles that a task may use; empty allows none."""
    families: str
    """Pattern of the families that may be run or registered."""
    may_register: bool
    clusters: str = "*"
    """Pattern of the names of the clusters that tasks may run on."""

    @classmethod
    def as_deployed(cls) -> Self:
        """Read the limits from the environment variables that the template sets."""
        return cls(
            account=setting("ACCOUNT"),
            roles=os.environ.get("TASK_ROLES", ""),  # Empty allows none.
            families=setting("TASK_DEFINITIONS"),
            may_register=setting("REGISTER_TASK_DEFINITIONS") == "true",
            clusters=setting("TASK_CLUSTERS"),
        )
