"""Check of the triggers: whether their templates can be read and filled in, and whether their events can come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headgate.errors import RequestRefused
from headgate.triggers.occurrences import PARAMETERS
from headgate.triggers.templates import read_templates
from headgate_cli.doctor.findings import Found, fault, ok

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.triggers.occurrences import TriggerName

TRAIL_FIX = "turn on a trail with write management events of this Region (docs/triggers.md, A published version)"


class Sources(Protocol):
    """Where events come from. Each question is asked only if its trigger is on."""

    def trail_is_logging(self) -> bool:
        """Return whether a trail that logs calls of this Region is on."""

    def sends_to_eventbridge(self, bucket: str) -> bool:
        """Return whether a bucket sends its events to EventBridge."""


def check_triggers(parameters: Mapping[str, str], sources: Sources) -> list[Found]:
    """Judge the triggers that are on. ECR publishes its events by itself."""
    on = {trigger: text for trigger, name in PARAMETERS.items() if (text := parameters.get(name, ""))}
    found = [each for trigger, text in on.items() for each in _check_template(trigger, text)]
    if "published-version" in on and not sources.trail_is_logging():
        found.append(fault("PublishedVersionRequest: no trail of CloudTrail logs, so no event comes", TRAIL_FIX))
    if "created-object" in on:
        found += _check_bucket(parameters.get("CodeObjects", ""), sources)
    names = ", ".join(PARAMETERS[trigger] for trigger in on)
    return found or [ok(f"{names} can be filled in" if on else "no trigger is on")]


def _check_template(trigger: TriggerName, text: str) -> list[Found]:
    try:
        for template in read_templates(text, trigger):
            template.check()
    except RequestRefused as refusal:
        return [fault(str(refusal), "deploy the stack with a corrected template (docs/triggers.md)")]
    return []


def _check_bucket(pattern: str, sources: Sources) -> list[Found]:
    """Judge the bucket that CodeObjects names. Which ones a pattern with wildcards means is not known."""
    bucket = pattern.partition("/")[0]
    if not bucket or set(bucket) & set("*?") or sources.sends_to_eventbridge(bucket):
        return []
    fix = "turn on its notifications to EventBridge (docs/triggers.md, A created object)"
    return [fault(f"CreatedObjectRequest: the bucket {bucket} does not send its events to EventBridge", fix)]
