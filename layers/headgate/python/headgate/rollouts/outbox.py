"""The outbox: what the table's stream delivers of it goes to the bus, at least once, with the id that each event has.

A record that cannot be read, or that the bus refuses for good, is put aside: it holds up no other.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.dynamodb import from_item
from headgate.aws.observability import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.aws.undelivered import UndeliveredRecords


ENTRIES_PER_CALL, BYTES_PER_CALL = 10, 240_000
"""PutEvents takes 10 entries, which it says are 256 KB at most together.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

REFUSED_CODES = (
    "MalformedDetail",
    "InvalidArgument",
    "RedactionFailure",
    "ValidationException",
    "RequestEntityTooLarge",
)
"""Error codes of an entry, or of a call, that the bus will never take; any other error is worth another try.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
"""


class Announcement(NamedTuple):
    """A record of the stream, and the entry of PutEvents that it comes to, or why it comes to none."""

    record: dict[str, Any]
    entry: dict[str, Any] | None = None
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes as PutEvents counts them: the detail is ASCII, and the names beside it are short."""
        return sum(len(value) for value in (self.entry or {}).values())


class NotTaken(Exception):  # noqa: N818
    """A record can be neither published nor put aside now."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        self.sequence_number = record["dynamodb"]["SequenceNumber"]


class Outbox:
    """Publishes the records of the table's stream.

    Parameters
    ----------
    events
        boto3's client of EventBridge.
    bus
        Name of the event bus.
    """

    def __init__(self, events: Any, bus: str, undelivered: UndeliveredRecords) -> None:
        self.events = events
        self._bus = bus
        self._undelivered = undelivered

    def publish(self, records: Iterable[dict[str, Any]]) -> list[str]:
        """Publish in the order of the stream, as far as the bus takes it.

        Returns
        -------
        list
            The sequence number of the first record that is neither published nor put aside, from which the stream is
            to deliver again; empty if there is none.
        """
        try:
            for chunk in _in_chunks(map(self._read, records)):
                self._publish(chunk)
        except NotTaken as failure:
            return [failure.sequence_number]
        return []

    def _read(self, record: dict[str, Any]) -> Announcement:
        """What a record of the stream comes to."""
        try:
            return Announcement(record, self._entry_of(record))
        except Exception as error:  # noqa: BLE001 - any failure concerns this record alone
            return Announcement(record, fault=f"the record cannot be read: {error!r}")

    def _entry_of(self, record: dict[str, Any]) -> dict[str, Any]:
        """An outbox item as an entry of PutEvents."""
        item = from_item(record["dynamodb"]["NewImage"])
        return {
            "EventBusName": self._bus,
            "Source": "headgate",
            "DetailType": str(item["detailType"]),
            "Detail": json.dumps(item["detail"]),
        }

    def _publish(self, chunk: list[Announcement]) -> None:
        """Put entries on the bus; where it refuses a whole call for good, each by itself.

        Raises
        ------
        NotTaken
            If the bus does not take one of them now, or one that it will never take cannot be put aside.
        ClientError
            If it does not take the call now.
        """
        try:
            results = iter(self._put([each.entry for each in chunk if each.entry]))
        except ClientError as error:
            if error.response["Error"]["Code"] not in REFUSED_CODES:
                raise
            if len(chunk) == 1:
                self._keep(chunk[0].record, f"the bus refuses it: {error}")
                return
            for each in chunk:
                self._publish([each])
            return
        for each in chunk:
            if fault := each.fault or _refusal_in(next(results), each.record):
                self._keep(each.record, fault)

    def _put(self, entries: list[dict[str, Any]]) -> list[Any]:
        """What the bus says of each entry."""
        return list(self.events.put_events(Entries=entries)["Entries"]) if entries else []

    def _keep(self, record: dict[str, Any], reason: str) -> None:
        """Put a record aside for a person to look at; NotTaken where that fails."""
        logger.error("an event is put aside", reason=reason, keys=record.get("dynamodb", {}).get("Keys"))
        if not self._undelivered.put_aside(record, reason):
            raise NotTaken(record)


def _in_chunks(announced: Iterable[Announcement]) -> Iterator[list[Announcement]]:
    """As many together as one call takes."""
    chunk: list[Announcement] = []
    for each in announced:
        if len(chunk) == ENTRIES_PER_CALL or (chunk and sum(a.size for a in chunk) + each.size > BYTES_PER_CALL):
            yield chunk
            chunk = []
        chunk.append(each)
    if chunk:
        yield chunk


def _refusal_in(result: dict[str, Any], record: dict[str, Any]) -> str:
    """Why the bus will never take a record; empty if it has taken it."""
    if "ErrorCode" not in result:
        return ""
    told = f"{result['ErrorCode']}: {result.get('ErrorMessage')}"
    if result["ErrorCode"] not in REFUSED_CODES:
        logger.warning("event was not taken", reason=told)
        raise NotTaken(record)
    return f"the bus refuses it: {told}"
