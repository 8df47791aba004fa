"""Publisher: carries the outbox from the table's stream to the bus, at least once, with the id that each event has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.items import from_item
from headgate.observability import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

bus = setting("BUS")
events = client("events")

ENTRIES_PER_CALL = 10
"""https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html"""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Publish in order; from the first entry that the bus did not take, the stream delivers again."""
    for chunk in in_chunks(event["Records"]):
        answer = events.put_events(Entries=[entry_of(record) for record in chunk])
        for record, result in zip(chunk, answer["Entries"], strict=True):
            if "ErrorCode" in result:
                logger.warning("event was not taken", code=result["ErrorCode"], reason=result.get("ErrorMessage"))
                return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
    return {"batchItemFailures": []}


def entry_of(record: dict[str, Any]) -> dict[str, Any]:
    """An outbox item as an entry of PutEvents."""
    item = from_item(record["dynamodb"]["NewImage"])
    return {
        "EventBusName": bus,
        "Source": "headgate",
        "DetailType": item["detailType"],
        "Detail": json.dumps(item["detail"]),
    }


def in_chunks(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    return (records[i : i + ENTRIES_PER_CALL] for i in range(0, len(records), ENTRIES_PER_CALL))
