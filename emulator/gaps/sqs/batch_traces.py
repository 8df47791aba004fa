"""A message that is sent in a batch keeps its trace header.

On AWS, an entry of SendMessageBatch accepts the system attribute AWSTraceHeader as SendMessage does
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatchRequestEntry.html). MiniStack
drops it.

Seams: `sqs._act_send_message_batch`, which passes its entries in order, one by one, to `sqs._act_send_message`;
`sqs._HANDLERS`.
"""

import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import sqs

from emulator.gaps import seams

GAP = "batch_traces"
FIELD = "MessageSystemAttributes"

_entries: contextvars.ContextVar[Iterator[dict[str, Any]] | None] = contextvars.ContextVar("batch", default=None)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, sqs, "_act_send_message", "data, qurl", _send)
    seams.wrap(GAP, sqs, "_act_send_message_batch", "data, qurl", _send_batch)
    sqs._HANDLERS["SendMessageBatch"] = sqs._act_send_message_batch


def _send_batch(original: Callable[..., Any], data: dict[str, Any], qurl: str) -> Any:
    token = _entries.set(iter(data.get("Entries", [])))
    try:
        return original(data, qurl)
    finally:
        _entries.reset(token)


def _send(original: Callable[..., Any], data: dict[str, Any], qurl: str) -> Any:
    entries = _entries.get()
    if entries is not None and FIELD in (entry := next(entries)):
        data = data | {FIELD: entry[FIELD]}
    return original(data, qurl)
