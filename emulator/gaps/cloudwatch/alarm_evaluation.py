"""Alarms evaluate their own metric, period by period, in the background.

On AWS, an alarm reads the metric with exactly its dimensions, in EvaluationPeriods periods, of which DatapointsToAlarm
must breach; missing periods count by TreatMissingData; it is evaluated in the background. MiniStack adds up every
dimension set of the metric over the whole window, ignores DatapointsToAlarm and TreatMissingData, and evaluates only
when PutMetricData is called.

Seams: `cloudwatch._evaluate_alarm` is replaced, `eventbridge.start_scheduler` (called once the server is up) also
starts the evaluation. Simpler than AWS in two ways: the periods end now instead of at a full minute, so that an
alarm fires as soon as its threshold is crossed; and no older data is fetched for missing periods. A state set by
SetAlarmState stays for up to a minute (10 s below a one-minute period), as on AWS. Not filled: metric math.
"""

import datetime as dt
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import _request_account_id, _request_region
from ministack.services import cloudwatch, eventbridge

from emulator.gaps import seams
from emulator.gaps.cloudwatch import alarm_events

GAP = "alarm_evaluation"
EVERY_SECONDS = 1.0
Alarm = dict[str, Any]
_log = logging.getLogger("embedded.alarm_evaluation")
# Evaluation runs in its own thread and in PutMetricData's: one change must be announced once.
_lock = threading.RLock()
_WORDS = {
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "GreaterThanThreshold": "greater than",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, cloudwatch, "_evaluate_alarm", "alarm", _evaluate)
    seams.wrap(GAP, eventbridge, "start_scheduler", "", _start)
    seams.expect(
        GAP, cloudwatch, "_record_history", "alarm_name, old_state, new_state, reason, alarm_type, reason_data"
    )
    seams.expect(GAP, cloudwatch, "_evaluate_parent_alarms", "child, seen")


def _start(original: Callable[..., Any]) -> None:
    original()
    threading.Thread(target=_evaluate_for_ever, daemon=True, name="embedded-alarms").start()


def _evaluate_for_ever() -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        for (account, region, _name), alarm in list(cloudwatch._alarms._data.items()):
            _request_account_id.set(account)
            _request_region.set(region)
            try:
                cloudwatch._evaluate_alarm(alarm)
            except Exception:  # noqa: BLE001 - the other alarms must continue
                _log.exception("evaluating %s", alarm.get("AlarmName"))


def _evaluate(original: Callable[..., Any], alarm: Alarm) -> None:
    if not alarm.get("Namespace") or not alarm.get("MetricName"):
        return
    period = int(alarm.get("Period") or 60)
    hold = 60 if period >= 60 else 10
    now = time.time()
    if now - alarm_events.set_by_hand.get(alarm["AlarmArn"], 0.0) < hold:
        return
    datapoints = _datapoints(alarm, period, now)
    state = _judge(alarm, [value for _start, _count, value in datapoints])
    with _lock:
        # Deleted or replaced in the meantime?
        if state and state != alarm["StateValue"] and cloudwatch._alarms.get(alarm["AlarmName"]) is alarm:
            _change(alarm, state, datapoints, now)


def _datapoints(alarm: Alarm, period: int, now: float) -> list[tuple[float, float, float | None]]:
    """Return (start, sample count, value) of each period, newest first; the value is None without data."""
    dimensions = {each["Name"]: each["Value"] for each in alarm.get("Dimensions") or []}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    periods = int(alarm.get("EvaluationPeriods") or 1)
    buckets: list[list[dict[str, Any]]] = [[] for _ in range(periods)]
    for point in list(cloudwatch._metrics.get(key) or []):
        index = int((now - point["Timestamp"]) // period)
        if 0 <= index < periods:
            buckets[index].append(point)
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
    found: list[tuple[float, float, float | None]] = []
    for index, points in enumerate(buckets):
        stats = cloudwatch._calc_stats(points)
        value = cloudwatch._stat_value(stats, statistic, points) if stats else None
        found.append((now - (index + 1) * period, stats.get("SampleCount", 0.0), value))
    return found


def _judge(alarm: Alarm, values: list[float | None]) -> str | None:
    """Return the state for these datapoints, or None if the alarm keeps its state."""
    missing = alarm.get("TreatMissingData") or "missing"
    needed = int(alarm.get("DatapointsToAlarm") or len(values))
    present = [_breaches(alarm, value) for value in values if value is not None]
    absent = len(values) - len(present)
    breaching = sum(present) + (absent if missing == "breaching" else 0)
    if breaching >= needed:
        return "ALARM"
    if not present and missing in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if missing == "missing" else None
    if missing in ("missing", "ignore") and breaching + absent >= needed:
        # The missing datapoints would decide.
        return "OK" if missing == "missing" and not breaching else None
    return "OK"


def _breaches(alarm: Alarm, value: float) -> bool:
    threshold = float(alarm.get("Threshold") or 0)
    return {
        "GreaterThanOrEqualToThreshold": value >= threshold,
        "GreaterThanThreshold": value > threshold,
        "LessThanThreshold": value < threshold,
        "LessThanOrEqualToThreshold": value <= threshold,
    }.get(str(alarm.get("ComparisonOperator")), False)


def _change(alarm: Alarm, state: str, datapoints: list[tuple[float, float, float | None]], now: float) -> None:
    old, period = alarm["StateValue"], int(alarm.get("Period") or 60)
    seen = [(start, count, value) for start, count, value in datapoints if value is not None]
    reason = _reason(alarm, state, seen, len(datapoints))
    data = {
        "version": "1.0",
        "queryDate": alarm_events._stamp(now),
        "startDate": alarm_events._stamp(datapoints[-1][0]),
        "statistic": alarm.get("ExtendedStatistic") or alarm.get("Statistic"),
        "period": period,
        "recentDatapoints": [value for _start, _count, value in seen],
        "threshold": alarm.get("Threshold"),
        "evaluatedDatapoints": [
            {"timestamp": alarm_events._stamp(start), "sampleCount": count, "value": value}
            for start, count, value in seen
        ],
    }
    alarm["StateValue"], alarm["StateReason"] = state, reason
    alarm["StateReasonData"] = json.dumps(data, separators=(",", ":"))
    alarm["StateUpdatedTimestamp"] = now
    cloudwatch._record_history(alarm["AlarmName"], old, state, reason, reason_data=data)
    cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _reason(alarm: Alarm, state: str, seen: list[tuple[float, float, float]], periods: int) -> str:
    if not seen:
        treated = alarm.get("TreatMissingData") or "missing"
        if state == "INSUFFICIENT_DATA":
            return f"Insufficient Data: {periods} datapoint{'s were' if periods > 1 else ' was'} unknown."
        told = {"breaching": "Breaching", "notBreaching": "NonBreaching"}.get(treated, "Missing")
        return (
            f"Threshold Crossed: no datapoints were received for {periods} periods and they were treated as [{told}]."
        )
    words = _WORDS.get(str(alarm.get("ComparisonOperator")), "past")
    values = ", ".join(f"{value} ({_minute(start)})" for start, _count, value in seen)
    verb = "was" if state == "ALARM" else "was not"
    needed = int(alarm.get("DatapointsToAlarm") or periods) if state == "ALARM" else 1
    old = "OK -> ALARM" if state == "ALARM" else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(seen)} out of the last {periods} datapoints [{values}] {verb} {words} the threshold "
        f"({alarm.get('Threshold')}) (minimum {needed} datapoint{'s' if needed > 1 else ''} for {old} transition)."
    )


def _minute(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).strftime("%d/%m/%y %H:%M:%S")
