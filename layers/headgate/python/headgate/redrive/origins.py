"""Whether the batches of a stream can be redriven, by the mappings that they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.aws.stream_mappings import mappings_to

if TYPE_CHECKING:
    from headgate.aws.failed_batches import FailedBatch
    from headgate.aws.stream_mappings import StreamMapping, StreamMappings
    from headgate.aws.stream_replay import ReadRecords


class Origin(NamedTuple):
    """Where a batch came from, and whether it can be redriven."""

    mappings: list[StreamMapping]
    """The mappings that may have made the batch."""
    fault: str
    """Why the batch cannot be redriven, whatever its records are; empty if it can."""

    def range_fault(self, read: ReadRecords) -> str:
        """Return why a batch, of which these records were read, cannot be redriven; empty if it can."""
        fault = next(filter(None, (mapping.range_fault(read) for mapping in self.mappings)), "")
        return f"{fault}; process what is missing yourself, and delete the message" if fault else ""


class BatchOrigins:
    """The origins of batches. Each stream's mappings are listed once.

    Parameters
    ----------
    function
        The function in the request; None if each batch goes to the function that gave up on it.
    """

    def __init__(self, mappings: StreamMappings, function: str | None) -> None:
        self._mappings = mappings
        self._function = function
        self._listed: dict[tuple[str, str], list[StreamMapping]] = {}

    def of(self, batch: FailedBatch) -> Origin:
        """Return the origin of a batch.

        Raises
        ------
        botocore.exceptions.ClientError
            If the mappings cannot be listed.
        """
        source = (batch.stream, batch.consumer)
        if source not in self._listed:
            self._listed[source] = self._mappings.of(batch)
        listed = self._listed[source]
        made_it = mappings_to(batch.function, listed)
        # The window is that of the function that will get the records.
        windows = (mapping.window_fault() for mapping in mappings_to(self._function or batch.function, listed))
        if fault := next(filter(None, windows), ""):
            return Origin(
                made_it, f"{fault}; set to.function to a function that processes the records without a window"
            )
        if not made_it and self._function is None:
            return Origin(
                [],
                f"no mapping of {batch.consumer or batch.stream} invokes {batch.function} any more, so whether it had "
                "a tumbling window or a filter is unknown; set to.function to the function that is to get all records "
                "of the batch's range",
            )
        return Origin(made_it, "")
