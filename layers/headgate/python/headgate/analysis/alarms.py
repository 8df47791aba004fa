"""CloudWatch alarms as guards."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_cloudwatch import CloudWatchClient


class AlarmChange(NamedTuple):
    """An alarm that has fired or was deleted."""

    name: str
    at: str
    """ISO 8601."""
    reason: str


class LostGuards(NamedTuple):
    """Alarms that speak against a rollout, by name."""

    firing: list[str]
    """They are in ALARM."""
    deleted: list[str]
    """They were deleted, and no longer guard anything."""

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.firing, *self.deleted]


ALARM_DELETED = "the alarm was deleted"
"""Reason of the signal about a deleted alarm."""

KINDS_OF_ALARMS = {"MetricAlarms": "MetricAlarm", "CompositeAlarms": "CompositeAlarm", "LogAlarms": "LogAlarm"}
"""Kinds of alarms that DescribeAlarms returns: the field of its response, and the value of AlarmTypes."""


NAMES_PER_CALL = 100
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html"""


class AlarmStates:
    """Reads the state of alarms of all kinds."""

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def firing(self, names: list[str]) -> list[str]:
        """Return the alarms that are in ALARM.

        Raises
        ------
        RequestRefused
            If one of them does not exist.
        """
        found = self._describe(names)
        if missing := [name for name in names if name not in found]:
            raise RequestRefused(
                f"guards.alarms: no alarm is named {', '.join(missing)} in this account and Region; correct the name, "
                "whose capital letters count, or create the alarm first"
            )
        return [name for name in names if found[name]["StateValue"] == "ALARM"]

    def in_alarm(self, names: list[str]) -> list[str]:
        """Return the alarms that are in ALARM. Deleted alarms are left out."""
        found = self._describe(names)
        return [name for name in names if name in found and found[name]["StateValue"] == "ALARM"]

    def lost_since(self, names: list[str], *, already: list[str], since: str | None) -> LostGuards:
        """Return the alarms that are in ALARM, and those that are gone.

        Alarms that were ``already`` in ALARM count once they have recovered.

        Parameters
        ----------
        since
            ISO 8601: an alarm whose state changed after this time has recovered in between. None leaves out all alarms
            that were ``already`` in ALARM.
        """
        return lost_in(self._describe(names), names, already=already, since=since)

    def read(self, names: list[str]) -> dict[str, Any]:
        """Return any number of alarms as CloudWatch describes them, by name. Deleted alarms are left out."""
        parts = (names[start : start + NAMES_PER_CALL] for start in range(0, len(names), NAMES_PER_CALL))
        return {name: alarm for part in parts for name, alarm in self._describe(part).items()}

    def _describe(self, names: list[str]) -> dict[str, Any]:
        if not names:
            return {}
        # boto3 comes with Lambda's runtime, and drops the fields of a response that its model does not have.
        response: Any = self._client.meta.service_model.operation_model("DescribeAlarms").output_shape
        kinds: Any = {field: kind for field, kind in KINDS_OF_ALARMS.items() if field in response.members}
        answer: Any = self._client.describe_alarms(
            AlarmNames=names, AlarmTypes=[*kinds.values()], MaxRecords=NAMES_PER_CALL
        )
        return {alarm["AlarmName"]: alarm for field in kinds for alarm in answer.get(field, [])}


def lost_in(found: Mapping[str, Any], names: list[str], *, already: list[str], since: str | None) -> LostGuards:
    """Return which alarms speak against a rollout, as ``AlarmStates.lost_since`` does.

    Parameters
    ----------
    found
        The alarms as CloudWatch describes them, by name.
    """
    in_alarm = [name for name in names if name in found and found[name]["StateValue"] == "ALARM"]
    return LostGuards(
        firing=[name for name in in_alarm if name not in already or _recovered(found[name], since)],
        deleted=[name for name in names if name not in found],
    )


def changed_at(alarm: Any) -> datetime | None:
    """Return when an alarm got its state, as far as CloudWatch says so."""
    changed: datetime | None = alarm.get("StateTransitionedTimestamp") or alarm.get("StateUpdatedTimestamp")
    return changed


def _recovered(alarm: Any, since: str | None) -> bool:
    changed = changed_at(alarm)
    return bool(since and changed and changed > datetime.fromisoformat(since))
