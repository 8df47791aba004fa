"""The outbox: publishes its records from the table's stream on the bus, at least once, each event with the same id.

A record that cannot be read, or that the bus rejects permanently, is set aside so that it does not block others.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.dynamodb import from_item, now_iso
from headgate.aws.observability import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.aws.undelivered import UndeliveredRecords


ENTRIES_PER_CALL, BYTES_PER_CALL = 10, 240_000
"""PutEvents accepts 10 entries and 256 KB per call.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

REFUSED_CODES = (
    "MalformedDetail",
    "InvalidArgument",
    "RedactionFailure",
    "ValidationException",
    "RequestEntityTooLarge",
)
"""Error codes of an entry or a call that are permanent. Other errors are retried.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
"""


def entry_fields(detail_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an item of the outbox. Its sort key comes from ``keys.event_sk``; the detail has an id."""
    return {"detailType": detail_type, "detail": {**detail, "at": now_iso()}}


class Announcement(NamedTuple):
    """A record of the stream with its PutEvents entry, or the reason why it has none."""

    record: dict[str, Any]
    entry: dict[str, Any] | None = None
    fault: str = ""

    @property
    def size(self) -> int:
        """Size as PutEvents counts it. The detail is ASCII, and the other fields are short."""
        return sum(len(value) for value in (self.entry or {}).values())


class NotTaken(Exception):  # noqa: N818
    """A record can be neither published nor set aside now."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        self.sequence_number = record["dynamodb"]["SequenceNumber"]


class Outbox:
    """Publishes the records of the table's stream.

    Parameters
    ----------
    events
        boto3 client for EventBridge.
    bus
        Name of the event bus.
    """

    def __init__(self, events: Any, bus: str, undelivered: UndeliveredRecords) -> None:
        self.events = events
        self._bus = bus
        self._undelivered = undelivered

    def publish(self, records: Iterable[dict[str, Any]]) -> list[str]:
        """Publish records in stream order, until the bus does not accept one.

        Returns
        -------
        list
            The sequence number of the first record that was neither published nor set aside. The stream delivers again
            from there. Empty if all records are done.
        """
        try:
            for chunk in _in_chunks(map(self._read, records)):
                self._publish(chunk)
        except NotTaken as failure:
            return [failure.sequence_number]
        return []

    def _read(self, record: dict[str, Any]) -> Announcement:
        """Read a record of the stream."""
        try:
            return Announcement(record, self._entry_of(record))
        except Exception as error:  # noqa: BLE001 - a failure concerns only this record
            return Announcement(record, fault=f"the record cannot be read: {error!r}")

    def _entry_of(self, record: dict[str, Any]) -> dict[str, Any]:
        """Convert an outbox item to a PutEvents entry."""
        item = from_item(record["dynamodb"]["NewImage"])
        return {
            "EventBusName": self._bus,
            "Source": "headgate",
            "DetailType": str(item["detailType"]),
            "Detail": json.dumps(item["detail"]),
        }

    def _publish(self, chunk: list[Announcement]) -> None:
        """Send entries to the bus. If it rejects a whole call permanently, send each entry separately.

        Raises
        ------
        NotTaken
            If the bus does not accept an entry now, or a permanently rejected one cannot be set aside.
        ClientError
            If the call fails and can be retried.
        """
        try:
            results = iter(self._put([each.entry for each in chunk if each.entry]))
        except ClientError as error:
            if error.response["Error"]["Code"] not in REFUSED_CODES:
                raise
            if len(chunk) == 1:
                self._keep(chunk[0].record, f"the bus rejected it: {error}")
                return
            for each in chunk:
                self._publish([each])
            return
        for each in chunk:
            if fault := each.fault or _refusal_in(next(results), each.record):
                self._keep(each.record, fault)

    def _put(self, entries: list[dict[str, Any]]) -> list[Any]:
        """Return the result for each entry."""
        return list(self.events.put_events(Entries=entries)["Entries"]) if entries else []

    def _keep(self, record: dict[str, Any], reason: str) -> None:
        """Set a record aside for an operator. Raise NotTaken if that fails."""
        logger.error("an event is set aside", reason=reason, keys=record.get("dynamodb", {}).get("Keys"))
        if not self._undelivered.put_aside(record, reason):
            raise NotTaken(record)


def _in_chunks(announced: Iterable[Announcement]) -> Iterator[list[Announcement]]:
    """Yield as many records as one call accepts."""
    chunk: list[Announcement] = []
    for each in announced:
        if len(chunk) == ENTRIES_PER_CALL or (chunk and sum(a.size for a in chunk) + each.size > BYTES_PER_CALL):
            yield chunk
            chunk = []
        chunk.append(each)
    if chunk:
        yield chunk


def _refusal_in(result: dict[str, Any], record: dict[str, Any]) -> str:
    """Return why the bus permanently rejected a record; empty if it accepted it."""
    if "ErrorCode" not in result:
        return ""
    reason = f"{result['ErrorCode']}: {result.get('ErrorMessage')}"
    if result["ErrorCode"] not in REFUSED_CODES:
        logger.warning("the bus did not accept an event", reason=reason)
        raise NotTaken(record)
    return f"the bus rejected it: {reason}"
