"""Limits that a deployment sets for ECS tasks."""

from __future__ import annotations

from typing import NamedTuple


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
