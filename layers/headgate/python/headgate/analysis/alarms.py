"""CloudWatch alarms as guards."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient


class AlarmStates:
    """Reads the state of metric and composite alarms."""

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
            raise RequestRefused(f"guards.alarms: no alarm is named {', '.join(missing)} in this account and Region")
        return [name for name in names if found[name]["StateValue"] == "ALARM"]

    def in_alarm(self, names: list[str]) -> list[str]:
        """Return the alarms that are in ALARM. Deleted alarms are left out."""
        found = self._describe(names)
        return [name for name in names if name in found and found[name]["StateValue"] == "ALARM"]

    def firing_since(self, names: list[str], *, already: list[str], since: str | None) -> list[str]:
        """Return the alarms that are in ALARM. Those that were ``already`` count once they have recovered.

        A deleted alarm no longer guards anything and counts as firing.

        Parameters
        ----------
        since
            ISO 8601: an alarm whose state changed after this time has recovered in between. None leaves out all alarms
            that were ``already`` in ALARM.
        """
        found = self._describe(names)
        return [
            name
            for name in names
            if name not in found
            or (found[name]["StateValue"] == "ALARM" and (name not in already or _recovered(found[name], since)))
        ]

    def _describe(self, names: list[str]) -> dict[str, Any]:
        if not names:
            return {}
        answer = self._client.describe_alarms(
            AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=100
        )
        return {alarm["AlarmName"]: alarm for alarm in (*answer["MetricAlarms"], *answer["CompositeAlarms"])}


def _recovered(alarm: Any, since: str | None) -> bool:
    changed: datetime | None = alarm.get("StateTransitionedTimestamp") or alarm.get("StateUpdatedTimestamp")
    return bool(since and changed and changed > datetime.fromisoformat(since))
