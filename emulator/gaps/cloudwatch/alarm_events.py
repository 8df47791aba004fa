"""Every change of an alarm's state, and its deletion, is an event on the default bus.

AWS publishes "CloudWatch Alarm State Change" (source aws.cloudwatch) for each change, by evaluation or SetAlarmState,
and "CloudWatch Alarm Configuration Change" with the operation "delete" for an alarm that is deleted. DescribeAlarms
returns when the state last changed (StateTransitionedTimestamp) and when it was last set
(StateUpdatedTimestamp), in milliseconds. MiniStack notifies only SNS topics, keeps whole seconds, and has
StateTransitionedTimestamp only for composite alarms.

Seams: `cloudwatch._dispatch_alarm_actions`, which MiniStack calls at each change; `cloudwatch._delete_alarms`;
`cloudwatch._set_alarm_state` and `cloudwatch._describe_alarms` for the timestamps.
"""

import datetime as dt
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from ministack.services import cloudwatch, eventbridge

from emulator.gaps import seams

GAP = "alarm_events"
Alarm = dict[str, Any]
_log = logging.getLogger("embedded.alarm_events")
# Alarm ARN -> the state in the last event.
_announced: dict[str, dict[str, Any]] = {}
# Alarm ARN -> when its state last changed, in seconds. PutMetricAlarm makes a new alarm without it.
_transitioned: dict[str, float] = {}
# Alarm ARN -> when SetAlarmState last set it. Evaluation keeps this state for a while.
set_by_hand: dict[str, float] = {}


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, cloudwatch, "_dispatch_alarm_actions", "alarm, old_state, new_state, reason", _announce)
    seams.wrap(GAP, cloudwatch, "_delete_alarms", "params, cbor_data, is_cbor, is_json", _delete)
    seams.wrap(GAP, cloudwatch, "_set_alarm_state", "params, cbor_data, is_cbor, is_json", _set_state)
    seams.wrap(GAP, cloudwatch, "_describe_alarms", "params, cbor_data, is_cbor, is_json", _describe)
    seams.expect(GAP, eventbridge, "_put_events", "data, allow_aws_source")


def _announce(original: Callable[..., Any], alarm: Alarm, old_state: str, new_state: str, reason: str) -> None:
    now = time.time()
    arn = alarm["AlarmArn"]
    alarm["StateUpdatedTimestamp"] = alarm["StateTransitionedTimestamp"] = _transitioned[arn] = now
    state = {"value": new_state, "reason": reason, "timestamp": _stamp(now)}
    if alarm.get("StateReasonData"):
        state["reasonData"] = alarm["StateReasonData"]
    previous = _announced.get(arn)
    if previous is None or previous["value"] != old_state:
        created = alarm.get("AlarmConfigurationUpdatedTimestamp", now)
        previous = {"value": old_state, "reason": "Unchecked: Initial alarm creation", "timestamp": _stamp(created)}
    _announced[arn] = state
    detail = {
        "alarmName": alarm["AlarmName"],
        "configuration": _configuration(alarm),
        "previousState": previous,
        "state": state,
    }
    _publish(arn, "State Change", detail)
    original(alarm, old_state, new_state, reason)


def _delete(
    original: Callable[..., Any], params: Any, cbor_data: dict[str, Any], is_cbor: bool, is_json: bool = False
) -> Any:
    before = [*cloudwatch._alarms.items(), *cloudwatch._composite_alarms.items()]
    response = original(params, cbor_data, is_cbor, is_json)
    for name, alarm in before:
        if name not in cloudwatch._alarms and name not in cloudwatch._composite_alarms:
            state = {"value": alarm.get("StateValue"), "timestamp": _stamp(time.time())}
            detail = {"alarmName": name, "operation": "delete", "state": state}
            _publish(alarm["AlarmArn"], "Configuration Change", {**detail, "configuration": _configuration(alarm)})
    return response


def _configuration(alarm: Alarm) -> dict[str, Any]:
    if "AlarmRule" in alarm:
        return {"alarmRule": alarm["AlarmRule"]}
    metric = {
        "dimensions": {each["Name"]: each["Value"] for each in alarm.get("Dimensions") or []},
        "name": alarm.get("MetricName", ""),
        "namespace": alarm.get("Namespace", ""),
    }
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic", "Average")
    configuration: dict[str, Any] = {
        "metrics": [
            {
                "id": "m1",
                "metricStat": {"metric": metric, "period": alarm.get("Period", 60), "stat": statistic},
                "returnData": True,
            }
        ]
    }
    if alarm.get("AlarmDescription"):
        configuration["description"] = alarm["AlarmDescription"]
    return configuration


def _publish(arn: str, what: str, detail: dict[str, Any]) -> None:
    entry = {
        "Source": "aws.cloudwatch",
        "DetailType": f"CloudWatch Alarm {what}",
        "Detail": json.dumps(detail),
        "Resources": [arn],
    }
    try:
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    except Exception:  # noqa: BLE001 - the alarm has changed even without an event
        _log.exception("announcing %s", arn)


def _set_state(
    original: Callable[..., Any], params: Any, cbor_data: dict[str, Any], is_cbor: bool, is_json: bool = False
) -> Any:
    name = cbor_data.get("AlarmName") if is_cbor or is_json else cloudwatch._p(params, "AlarmName")
    alarm = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms.get(name)
    if alarm:
        set_by_hand[alarm["AlarmArn"]] = time.time()
        # MiniStack keeps the old data if none is given, but the data belongs to the state.
        alarm.pop("StateReasonData", None)
    response = original(params, cbor_data, is_cbor, is_json)
    if alarm:
        alarm["StateUpdatedTimestamp"] = max(time.time(), _transitioned.get(alarm["AlarmArn"], 0.0))
    return response


def _describe(
    original: Callable[..., Any], params: Any, cbor_data: dict[str, Any], is_cbor: bool, is_json: bool = False
) -> Any:
    for alarm in [*cloudwatch._alarms.values(), *cloudwatch._composite_alarms.values()]:
        updated = alarm.get("StateUpdatedTimestamp", time.time())
        alarm.setdefault("StateTransitionedTimestamp", _transitioned.get(alarm["AlarmArn"], updated))
    return original(params, cbor_data, is_cbor, is_json)


def _stamp(seconds: float) -> str:
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"
