"""What the doctor finds: findings with their fix, and the checkup that holds them all."""

from __future__ import annotations

from typing import Literal, NamedTuple

from headgate.history.model import View

Severity = Literal["ok", "warning", "fault", "not-checked"]


class Found(NamedTuple):
    """What a check says of what was read. The checkup adds the check's name."""

    severity: Severity
    message: str
    fix: str = ""


def ok(message: str) -> Found:
    """Return what is as it should be."""
    return Found("ok", message)


def warning(message: str, fix: str) -> Found:
    """Return what works, but is a risk."""
    return Found("warning", message, fix)


def fault(message: str, fix: str) -> Found:
    """Return what does not work, or waits for a person."""
    return Found("fault", message, fix)


class Finding(View):
    """A finding of one check."""

    check: str
    """Name of the check, such as ``functions``."""
    severity: Severity
    """``fault``: does not work, or waits for a person. ``warning``: works, but is a risk. ``not-checked``: AWS did not
    answer, for example because a permission is missing."""
    message: str
    """What was found, or why it was not checked."""
    fix: str = ""
    """What to do about it. Empty if there is nothing to do."""


class Checkup(View):
    """The result of ``headgate doctor``."""

    stack: str
    """Name of the stack."""
    region: str
    """Its Region."""
    target: str = ""
    """Key of the target that was checked, such as ``lambda-alias/checkout/live``. Empty if none was named."""
    healthy: bool
    """True without a fault."""
    faults: int
    """Number of faults."""
    warnings: int
    """Number of warnings."""
    not_checked: int
    """Number of checks that were not made."""
    findings: list[Finding]
    """All findings, in the order of the checks."""


def checkup_of(stack: str, region: str, target: str, findings: list[Finding]) -> Checkup:
    """Return the checkup with its counts."""
    severities = [finding.severity for finding in findings]
    return Checkup(
        stack=stack,
        region=region,
        target=target,
        healthy="fault" not in severities,
        faults=severities.count("fault"),
        warnings=severities.count("warning"),
        not_checked=severities.count("not-checked"),
        findings=findings,
    )
