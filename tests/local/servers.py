"""An embedded AWS for tests: with the role of sample functions, and a look at what roles were denied."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from emulator import application
from emulator.server import EmbeddedAws
from tests.local.roles import EXPECTS_DENIAL, make_sample_role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STACK = "headgate"
PROBE = "headgate-probe-"
USED = "used-permissions"
"""Folder with a file per embedded AWS: what Headgate's roles have used."""


@contextmanager
def serving(*flags: str) -> Iterator[EmbeddedAws]:
    """An embedded AWS as long as it is entered. Fails at the end if a role was denied anything."""
    with EmbeddedAws(*flags) as aws:
        make_sample_role(aws)
        yield aws
        _write_used(aws)
        # IAM users, whose ARN is in place of a role, are made by tests of what they may not do. Probes ask whether a
        # role is denied something.
        denials = [use for use in aws.denials() if not use.role.startswith(("arn:", EXPECTS_DENIAL, PROBE))]
        assert not denials, "a role needs what its policy does not allow:\n" + "\n".join(map(str, denials))


def used_files() -> list[Path]:
    """The files of all embedded AWS, of the processes that run tests. Call it where no process's own folder is set."""
    return sorted(application.WORK.glob(f"tests-*/{USED}/*.json"))


def merge_used(files: list[Path]) -> dict[str, list[str]]:
    """Actions that each of Headgate's roles has used, by logical id."""
    merged: dict[str, set[str]] = {}
    for file in files:
        for role, actions in json.loads(file.read_text()).items():
            merged.setdefault(role, set()).update(actions)
    return {role: sorted(merged[role]) for role in sorted(merged)}


def _write_used(aws: EmbeddedAws) -> None:
    stacks = aws.client("cloudformation")
    if STACK not in [stack["StackName"] for stack in stacks.describe_stacks()["Stacks"]]:
        return
    logical = {
        each["PhysicalResourceId"]: each["LogicalResourceId"]
        for each in stacks.describe_stack_resources(StackName=STACK)["StackResources"]
        if each["ResourceType"] == "AWS::IAM::Role"
    }
    used: dict[str, list[str]] = {}
    for use in aws.permission_uses():
        if use.allowed and use.role in logical:
            used.setdefault(logical[use.role], []).append(use.action)
    folder = application.WORK / USED
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{aws.port}.json").write_text(json.dumps(used))
