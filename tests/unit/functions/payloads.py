"""Payloads of the functions, and what they leave behind."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.aws.dynamodb import to_item
from headgate.rollouts.table import now_iso
from tests.builders import (
    TABLE,
    TARGET_KEY,
    event,
    stored_rollout,
)

if TYPE_CHECKING:
    from headgate.rollouts.table import Table


def sent_now(file: str, **detail: Any) -> Any:
    """An event of events/ as if it had come this moment: what is old counts for less."""
    payload = event(file) | {"time": now_iso()}
    payload["detail"] |= detail
    if "state" in payload["detail"]:
        payload["detail"]["state"]["timestamp"] = now_iso()
    return payload


def a_moment_later() -> str:
    """A time after everything that has happened so far."""
    time.sleep(0.002)
    return now_iso()


def an_hour_ago() -> str:
    return (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")


def change_record(dynamodb: Any, rollout_id: str = "checkout-42", **fields: str) -> None:
    """Set fields of a rollout's record behind everybody's back."""
    dynamodb.update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"ROLLOUT#{rollout_id}"}, "sk": {"S": "ROLLOUT"}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in fields),
        ExpressionAttributeNames={f"#{name}": name for name in fields},
        ExpressionAttributeValues={f":{name}": {"S": value} for name, value in fields.items()},
    )


def refuse_to_start(operation: str, _when: str) -> None:
    if operation == "StartExecution":
        raise RuntimeError("throttled")


def record_of(table: Table, rollout_id: str = "checkout-42") -> dict[str, Any]:
    record = stored_rollout(table, rollout_id)
    assert record is not None
    return record


def message(body: str) -> Any:
    """The queue's event with another body."""
    payload = event("intake")
    payload["Records"][0]["body"] = body
    return payload


def outbox(count: int) -> list[dict[str, Any]]:
    """So many records of the table's stream: each an entry whose detail and sequence number are its number."""
    (record,) = event("publisher")["Records"]
    image = record["dynamodb"]["NewImage"]
    return [
        record
        | {
            "dynamodb": record["dynamodb"]
            | {"NewImage": image | {"detail": {"N": str(number)}}, "SequenceNumber": str(number)}
        }
        for number in range(count)
    ]


def of_outbox(detail: Any, number: int) -> dict[str, Any]:
    """A record of the table's stream: an entry with this detail, and a sequence number."""
    (record,) = outbox(1)
    (image,) = to_item({"image": {"detailType": "Step Started", "detail": detail}}).values()
    return record | {"dynamodb": record["dynamodb"] | {"NewImage": image["M"], "SequenceNumber": str(number)}}


def telemetry(
    revision: str,
    *,
    ok: bool,
    requests: int,
    sequence: int,
    took: float = 12.0,
    unit: str | None = None,
    at: int = 1795251604000,
    observed: bool = False,
    target: str = TARGET_KEY,
) -> dict[str, Any]:
    """A record of the stream with so many outcomes during the first step.

    Parameters
    ----------
    observed
        Whether ``Telemetry.observe`` has sent it.
    """
    (record,) = event("counter")["Records"]
    outcome = [at, ok, took]
    outcomes = [outcome if unit is None else [*outcome, unit]] * requests
    mark = {"observed": True} if observed else {}
    data = json.dumps({"target": target, "revision": revision, **mark, "outcomes": outcomes})
    changes = {
        "data": base64.b64encode(data.encode()).decode(),
        "sequenceNumber": str(sequence),
        "approximateArrivalTimestamp": max(record["kinesis"]["approximateArrivalTimestamp"], at / 1000),
    }
    return {**record, "kinesis": record["kinesis"] | changes}


CUT_OFF = json.dumps(
    {"Cause": 'hook smoke failed: {"Cause":"no"}', "Error": "HookFailed", "Input": json.dumps({"Cause": "x" * 40_000})}
)[:32_768]
