"""Per-request outcomes on the telemetry stream: the client for services, and the record both sides agree on.

The client needs nothing but boto3 and the standard library, and never breaks the handler it wraps::

    telemetry = Telemetry(stream="headgate-telemetry")

    @telemetry.observe
    def handler(event, context): ...

A record carries the outcomes of one execution environment since its last record. It goes out at the end of an
invocation: at once after a failure, otherwise when the last one is ``flush_seconds`` old. A frozen environment cannot
send, so the last second's successes of an environment that gets no further request arrive with its next one.
"""

from __future__ import annotations

import functools
import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

PARTITIONS = 8
"""Partition keys per target: few, because the consumer keeps a watermark for each."""

MAX_BUFFERED = 5_000
"""Outcomes kept while the stream cannot be reached; older ones are given up. A record stays far below 1 MiB."""


class Telemetry:
    """Reports the outcome of each request to the telemetry stream.

    Parameters
    ----------
    stream
        Name or ARN of the Kinesis stream; empty switches telemetry off.
    client
        A Kinesis client; made at the first record where none is given.
    flush_seconds
        How long successes may wait for company.
    """

    def __init__(self, stream: str, client: KinesisClient | None = None, *, flush_seconds: float = 1.0) -> None:
        self._stream = stream
        self._client = client
        self._flush_seconds = flush_seconds
        self._buffers: dict[str, list[list[Any]]] = {}
        """Outcomes not sent yet, by target."""
        # A new environment reports its first request at once, good or bad: were only failures to come at once, a
        # candidate, whose environments are all new, would look worse than it is.
        self._flushed = float("-inf")
        self._partition = uuid.uuid4().int % PARTITIONS

    def observe(self, handler: Callable[P, R]) -> Callable[P, R]:
        """Wrap a Lambda handler: what it returns or raises is unchanged, and its outcome is reported."""

        @functools.wraps(handler)
        def observed(*args: P.args, **kwargs: P.kwargs) -> R:
            context: Any = args[1] if len(args) > 1 else kwargs.get("context")
            begun, started, ok = time.time(), time.perf_counter(), False
            try:
                result = handler(*args, **kwargs)
                ok = True
                return result
            finally:
                self._report(context, begun, time.perf_counter() - started, ok=ok)

        return observed

    def _report(self, context: Any, begun: float, seconds: float, *, ok: bool) -> None:
        if not self._stream:
            return
        try:
            target = target_of(context)
            if target is None:
                return
            buffer = self._buffers.setdefault(target, [])
            buffer.append([int(begun * 1000), ok, round(seconds * 1000, 1)])
            del buffer[:-MAX_BUFFERED]
            if not ok or time.monotonic() - self._flushed >= self._flush_seconds:
                self._flush(context.function_version)
        except Exception:  # noqa: BLE001 - telemetry must never fail the request it reports on
            _log.warning("telemetry was not sent", exc_info=True)

    def _flush(self, revision: str) -> None:
        client = self._kinesis()
        self._flushed = time.monotonic()
        where = {"StreamARN": self._stream} if self._stream.startswith("arn:") else {"StreamName": self._stream}
        for target in list(self._buffers):
            record = {"target": target, "revision": revision, "outcomes": self._buffers[target]}
            data = json.dumps(record, separators=(",", ":")).encode()
            # Given up before it is sent: whether a request without an answer arrived cannot be known, and an outcome
            # that is counted twice misleads the judge, while one that is missing does not.
            outcomes = self._buffers.pop(target)
            try:
                client.put_record(**where, Data=data, PartitionKey=f"{target}#{self._partition}")
            except client.exceptions.ProvisionedThroughputExceededException:
                self._buffers[target] = outcomes  # It did not arrive: the next request tries again.
                raise

    def _kinesis(self) -> Any:
        if self._client is None:
            import boto3  # Only a service that reports pays for the import.
            from botocore.config import Config

            # A slow stream must not slow the service: one quick try.
            config = Config(connect_timeout=0.5, read_timeout=1, retries={"total_max_attempts": 1})
            self._client = boto3.client("kinesis", config=config)
        return self._client


def target_of(context: Any) -> str | None:
    """The key of the alias that an invocation came by; None where it came by no alias."""
    parts = context.invoked_function_arn.split(":")
    if len(parts) < 8 or parts[7].isdigit() or parts[7] == "$LATEST":
        return None
    return f"lambda-alias/{parts[6]}/{parts[7]}"
