"""Publisher: carries the outbox from the table's stream to the bus, at least once, with the id that each event has.

A record that cannot be read, or that the bus refuses for good, is put aside: it holds up no other.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws import client, setting
from headgate.items import from_item
from headgate.observability import logger
from headgate.undelivered import put_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

bus = setting("BUS")
events = client("events")
queues = client("sqs")

ENTRIES_PER_CALL, BYTES_PER_CALL = 10, 240_000
"""PutEvents takes 10 entries, which it says are 256 KB at most together.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

REFUSED = ("MalformedDetail", "InvalidArgument", "RedactionFailure", "ValidationException", "RequestEntityTooLarge")
"""What says that the bus will never take an entry, or a call; anything else is worth another try.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
"""


class Announcement(NamedTuple):
    """A record of the stream, and the entry of PutEvents that it comes to."""

    record: dict[str, Any]
    entry: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes as PutEvents counts them: the detail is ASCII, and the names beside it are short."""
        return sum(len(value) for value in self.entry.values())


class NotTaken(Exception):  # noqa: N818
    """The bus does not take a record now; the stream delivers it, and what comes after it, again."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        self.record = record


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Publish in order; from the first record that is neither published nor put aside, the stream delivers again."""
    readable, stuck = read(event["Records"])
    try:
        for chunk in in_chunks(readable):
            publish(chunk)
    except NotTaken as failure:
        stuck = failure.record
    return {"batchItemFailures": [{"itemIdentifier": stuck["dynamodb"]["SequenceNumber"]}] if stuck else []}


def read(records: list[dict[str, Any]]) -> tuple[list[Announcement], dict[str, Any] | None]:
    """The records that can be read, and the first that can be neither read nor put aside: from it on all come again."""
    readable = []
    for record in records:
        try:
            readable.append(Announcement(record, entry_of(record)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's alone
            if not keep(record, f"the record cannot be read: {error!r}"):
                return readable, record
    return readable, None


def entry_of(record: dict[str, Any]) -> dict[str, Any]:
    """An outbox item as an entry of PutEvents."""
    item = from_item(record["dynamodb"]["NewImage"])
    return {
        "EventBusName": bus,
        "Source": "headgate",
        "DetailType": item["detailType"],
        "Detail": json.dumps(item["detail"]),
    }


def in_chunks(announced: list[Announcement]) -> Iterator[list[Announcement]]:
    """As many together as one call takes."""
    chunk: list[Announcement] = []
    for each in announced:
        if len(chunk) == ENTRIES_PER_CALL or (chunk and sum(a.size for a in chunk) + each.size > BYTES_PER_CALL):
            yield chunk
            chunk = []
        chunk.append(each)
    if chunk:
        yield chunk


def publish(chunk: list[Announcement]) -> None:
    """Put entries on the bus; where it refuses a whole call for good, each by itself.

    Raises
    ------
    NotTaken
        If the bus does not take one of them now.
    ClientError
        If it does not take the call now.
    """
    try:
        answer = events.put_events(Entries=[each.entry for each in chunk])
    except ClientError as error:
        if error.response["Error"]["Code"] not in REFUSED:
            raise
        if len(chunk) > 1:
            for each in chunk:
                publish([each])
        elif not keep(chunk[0].record, f"the bus refuses it: {error}"):
            raise NotTaken(chunk[0].record) from None
        return
    for each, result in zip(chunk, answer["Entries"], strict=True):
        if "ErrorCode" in result:
            reason = f"{result['ErrorCode']}: {result.get('ErrorMessage')}"
            logger.warning("event was not taken", reason=reason)
            if result["ErrorCode"] not in REFUSED or not keep(each.record, f"the bus refuses it: {reason}"):
                raise NotTaken(each.record)


def keep(record: dict[str, Any], reason: str) -> bool:
    """Put a record aside for a person to look at; False where that fails."""
    logger.error("an event is put aside", reason=reason, keys=record.get("dynamodb", {}).get("Keys"))
    return put_aside(queues, setting("UNDELIVERED"), record, reason)
