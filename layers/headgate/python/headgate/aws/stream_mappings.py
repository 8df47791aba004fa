"""What an event source mapping of a stream does that a replay of its batches cannot do, or cannot do exactly.

A mapping with a tumbling window adds ``window``, ``state`` and ``isFinalInvokeForWindow`` to its events, and passes the
state that the function returns on to its next invocation. A filter leaves records out of a batch:
https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.aws.failed_batches import FailedBatch
    from headgate.aws.stream_replay import ReadRecords


MAPPING_TAG = "headgate:mapping"
"""Tag of a rollout's own queue: the UUID of the mapping whose failures it holds."""

_STREAM = re.compile(r"arn:[^:]+:(kinesis|dynamodb):")


class StreamMapping(NamedTuple):
    """The settings of a mapping that decide whether its batches can be replayed."""

    uuid: str
    source: str
    """ARN of the stream, or of its consumer with enhanced fan-out."""
    function: str
    """ARN of the function, with its alias or version."""
    window_seconds: int
    """Length of its tumbling window; 0 if it has none."""
    filters: bool
    """Whether it has a filter."""
    on_failure: str = ""
    """ARN of its on-failure destination; empty if it has none."""

    @property
    def stream(self) -> str:
        """ARN of the stream."""
        return self.source.partition("/consumer/")[0]

    def made(self, batch: FailedBatch) -> bool:
        """Return whether the mapping can have given up on a batch, by the stream and the function that it names."""
        return batch.stream == self.stream and _unqualified(batch.function) == _unqualified(self.function)

    def window_fault(self) -> str:
        """Return why none of the mapping's batches can be replayed; empty if they can."""
        if not self.window_seconds:
            return ""
        return (
            f"mapping {self.uuid} of {self.function} has a tumbling window (TumblingWindowInSeconds "
            f"{self.window_seconds}), whose state and end cannot be repeated for one batch"
        )

    def range_fault(self, read: ReadRecords) -> str:
        """Return why a batch, of which these records were read, cannot be replayed; empty if it can."""
        if not self.filters or not (read.others or read.lost):
            return ""
        return (
            f"mapping {self.uuid} of {self.function} has a filter (FilterCriteria), and nothing says which of the "
            f"{len(read.records)} records in the range it had left out of the batch"
        )


def stream_mapping(answer: Mapping[str, Any]) -> StreamMapping:
    """Return the settings in an answer of GetEventSourceMapping or ListEventSourceMappings."""
    return StreamMapping(
        uuid=answer["UUID"],
        source=answer.get("EventSourceArn", ""),
        function=answer["FunctionArn"],
        window_seconds=answer.get("TumblingWindowInSeconds") or 0,
        # A list does not have a filter that is encrypted with a key of its own, only the key.
        filters=bool((answer.get("FilterCriteria") or {}).get("Filters") or answer.get("KMSKeyArn")),
        on_failure=((answer.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination") or "",
    )


class StreamMappings:
    """Finds the mappings that batches came from.

    Parameters
    ----------
    functions
        boto3's client for Lambda.
    """

    def __init__(self, functions: Any) -> None:
        self._functions = functions

    def of(self, source: str) -> list[StreamMapping]:
        """Return the mappings of a stream, or of its consumer with enhanced fan-out, to any function."""
        return self._list(EventSourceArn=source)

    def of_all_streams(self) -> list[StreamMapping]:
        """Return the mappings of all streams of the account and Region."""
        return [mapping for mapping in self._list() if _STREAM.match(mapping.source)]

    def _list(self, **wanted: str) -> list[StreamMapping]:
        found: list[StreamMapping] = []
        marker: dict[str, str] = {}
        while True:
            response = self._functions.list_event_source_mappings(**wanted, **marker)
            found += [stream_mapping(answer) for answer in response["EventSourceMappings"]]
            if not response.get("NextMarker"):
                return found
            marker = {"Marker": response["NextMarker"]}


def mappings_to(function: str, mappings: list[StreamMapping]) -> list[StreamMapping]:
    """Return those of the mappings that invoke a function, through the same alias or version if one does."""
    same = [mapping for mapping in mappings if _unqualified(mapping.function) == _unqualified(function)]
    return [mapping for mapping in same if _qualifier(mapping.function) == _qualifier(function)] or same


def _unqualified(function: str) -> str:
    """Return a function's name from its name or ARN, with or without an alias or version."""
    return function.rpartition(":function:")[2].partition(":")[0]


def _qualifier(function: str) -> str:
    return function.rpartition(":function:")[2].partition(":")[2]
