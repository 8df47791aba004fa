"""What a deployment allows ECS tasks to be."""

from __future__ import annotations

from typing import NamedTuple


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
