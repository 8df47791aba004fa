"""Client that reports the outcome of each request to the telemetry stream.

It needs only boto3 and the standard library, and never breaks the handler that it wraps::

    telemetry = Telemetry(stream="headgate-telemetry")

    @telemetry.observe
    def handler(event, context): ...

If some requests fail together (a client that retries, a poisoned message), name what they share::

    @telemetry.observe(unit=lambda event, context: event["clientId"])
    def handler(event, context): ...

A batch handler records each outcome itself::

    telemetry = Telemetry(stream="headgate-telemetry", target="lambda-alias/orders/live", revision="7")
    telemetry.record(ok=False, milliseconds=12.5, unit=message_id)

So does a service in an ECS task, which knows its target and revision from the metadata of its task::

    telemetry = Telemetry(stream="headgate-telemetry")
    telemetry.record(ok=response.status < 500, milliseconds=12.5)

``observe`` reports one outcome for each invocation, and says so in its records: Headgate does not promote on more of
them than Lambda counted invocations. So wrap a handler once, and use ``record`` for what is not an invocation.

A stream record holds the outcomes of one execution environment since its last record. It is sent at the end of an
invocation: at once after a failure, otherwise when the last one is ``flush_seconds`` old. A frozen environment cannot
send, so its last successes arrive with its next request. In an ECS task, which nobody freezes, a thread sends instead:
``record`` never waits for the network, so that async servers can call it, and no success waits for a next request.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import math
import os
import re
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient


P = ParamSpec("P")
R = TypeVar("R")
Whose = tuple[str, str, bool]
"""Target and revision of outcomes, and whether ``observe`` reports them."""

_log = logging.getLogger(__name__)

PARTITIONS = 8
"""Partition keys per target. Few, because the consumer keeps a watermark for each."""

MAX_BUFFERED = 2_500
"""Outcomes kept while the stream cannot be reached. Older ones are dropped. A record stays far below 1 MiB."""

MAX_UNIT = 64
"""Characters of a unit's name that are sent."""

HOLD_OFF_SECONDS = 2.0
"""Pause after the stream did not answer. Doubles each time, up to a minute."""

THROTTLED_SECONDS = 1.0
"""Pause after the stream throttled a record: each retry sends more and costs more."""


METADATA_URI = "ECS_CONTAINER_METADATA_URI_V4"
"""Environment variable of the containers of ECS tasks.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html
"""

METADATA_SECONDS = 1.0
"""Timeout of a request for metadata, which no request of the service waits for."""

MAX_PARTITION_KEY = 256
"""Characters (https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html)."""

_GREEN = re.compile(r"-hg-[0-9a-f]{8}$")
"""End of the name of a service that Headgate creates beside another one during a rollout."""


class Telemetry:
    """Reports the outcome of each request to the telemetry stream.

    Parameters
    ----------
    stream
        Name or ARN of the Kinesis stream. Empty switches telemetry off.
    client
        A Kinesis client. Default: created at the first record.
    flush_seconds
        How long successes are buffered at most.
    target, revision
        Key of the target (``lambda-alias/<function>/<alias>`` or ``ecs-service/<cluster>/<service>``) and revision
        that ``record`` reports on. A wrapped handler gets both from its context, an ECS task from its metadata.
    background
        Whether a thread sends the records. Default: in an ECS task. In a Lambda function it would be frozen.
    """

    def __init__(
        self,
        stream: str,
        client: KinesisClient | None = None,
        *,
        flush_seconds: float = 1.0,
        target: str = "",
        revision: str = "",
        background: bool | None = None,
    ) -> None:
        self._stream = stream
        self._given = client
        self._flush_seconds = flush_seconds
        self._target = target
        self._revision = revision
        self._metadata = os.environ.get(METADATA_URI, "")
        self._in_background = bool(self._metadata) if background is None else background
        self._warm = False
        self._begin()

    def _begin(self) -> None:
        """Begin without outcomes: in a new instance, or in a new process, whose parent sends its own."""
        self._client: Any = self._given
        self._buffers: dict[Whose, list[list[Any]]] = {}
        """Outcomes not sent yet."""
        self._lock = threading.Lock()
        """Guards the buffers, but never a request to the stream: a service may have many threads."""
        self._sending = threading.Lock()
        """Held by the thread that sends, if it sends in the background."""
        self._recorded, self._urgent = threading.Event(), threading.Event()
        self._sender: threading.Thread | None = None
        # A new environment reports its first request at once, good or bad. If only failures came at once, a candidate,
        # whose environments are all new, would look worse than it is.
        self._flushed = float("-inf")
        self._held_off_until = float("-inf")
        self._hold_off = HOLD_OFF_SECONDS
        # Set at the first report: environments that start from the same snapshot are different instances.
        self._instance: uuid.UUID | None = None
        # Set at the first request: an environment that starts from a snapshot begins when it is restored.
        self._born: float | None = None

    @overload
    def observe(self, handler: Callable[P, R]) -> Callable[P, R]: ...

    @overload
    def observe(self, *, unit: Callable[[Any, Any], str | None]) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def observe(
        self, handler: Callable[P, R] | None = None, *, unit: Callable[[Any, Any], str | None] | None = None
    ) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
        """Wrap a Lambda handler and report the outcome of each invocation. What it returns or raises stays unchanged.

        Parameters
        ----------
        unit
            Returns the name of what fails together, from event and context: a client, a session, a trace, a message.
            Failures of one unit within three to four minutes count once. For an asynchronous function,
            ``context.aws_request_id`` stays the same when Lambda retries.
        """
        if handler is None:
            return functools.partial(self._observed, unit=unit)
        return self._observed(handler, unit)

    def record(
        self, *, ok: bool, milliseconds: float | None = None, unit: str | None = None, began: float | None = None
    ) -> None:
        """Report one request of the target and revision that the client was made for. Never raises.

        Parameters
        ----------
        milliseconds
            Duration of the request; None if it was not measured.
        unit
            Name of what failed, as for ``observe``.
        began
            Start of the request, in seconds since 1970. Default: now minus its duration.
        """
        if not self._stream:
            return
        try:
            if not (self._metadata or (self._target and self._revision)):
                raise ValueError("telemetry.record needs a target and a revision: Telemetry(..., target=, revision=)")  # noqa: TRY301
            at = time.time() - (milliseconds or 0.0) / 1000 if began is None else began
            self._keep((self._target, self._revision, False), at, milliseconds, ok=ok, unit=unit)
        except Exception:  # noqa: BLE001 - telemetry must never fail the request it reports on
            _log.warning("telemetry was not sent", exc_info=True)

    tell = record
    """Earlier name of ``record``."""

    def flush(self) -> None:
        """Send all outcomes that wait. Never raises.

        A process that sends in the background does it at its end by itself, unless a signal kills it.
        """
        if not self._stream:
            return
        try:
            with self._sending:
                with self._lock:
                    self._recorded.clear()
                    self._urgent.clear()
                    self._flushed = time.monotonic()
                    waiting, self._buffers = self._buffers, {}
                self._flush(waiting)
        except Exception:  # noqa: BLE001 - telemetry must never fail the service
            _log.warning("telemetry was not sent", exc_info=True)

    def _observed(self, handler: Callable[P, R], unit: Callable[[Any, Any], str | None] | None) -> Callable[P, R]:
        @functools.wraps(handler)
        def observed(*args: P.args, **kwargs: P.kwargs) -> R:
            begun, started, ok = time.time(), time.perf_counter(), False
            try:
                result = handler(*args, **kwargs)
                ok = True
                return result
            finally:
                seconds = time.perf_counter() - started
                if self._stream:
                    event = args[0] if args else kwargs.get("event")
                    context = args[1] if len(args) > 1 else kwargs.get("context")
                    self._report(event, context, begun, seconds, ok=ok, unit=unit)

        return observed

    def _report(
        self,
        event: Any,
        context: Any,
        begun: float,
        seconds: float,
        *,
        ok: bool,
        unit: Callable[[Any, Any], str | None] | None,
    ) -> None:
        try:
            # The first request of an environment includes its cold start, which does not describe the revision.
            milliseconds = seconds * 1000 if self._warm else None
            self._warm = True
            self._born = self._born or begun  # Here too: a request by a version is not reported.
            target = target_of(context)
            if target is not None:
                named = _named(unit, event, context) if unit and not ok else None
                self._keep((target, context.function_version, True), begun, milliseconds, ok=ok, unit=named)
        except Exception:  # noqa: BLE001 - telemetry must never fail the request it reports on
            _log.warning("telemetry was not sent", exc_info=True)

    def _keep(self, whose: Whose, begun: float, milliseconds: float | None, *, ok: bool, unit: str | None) -> None:
        outcome: list[Any] = [int(begun * 1000), bool(ok), _valid_milliseconds(milliseconds)]
        # An empty name is not a unit: otherwise all failures without a name would count as one.
        if not ok and unit is not None and (name := str(unit)[:MAX_UNIT]):
            outcome.append(name)
        with self._lock:
            self._born = self._born or begun
            self._buffer(whose, [outcome])
            if self._in_background:
                # Before outcomes are dropped: those would be successes alone, as a failure is sent at once.
                crowded = len(self._buffers[whose]) >= MAX_BUFFERED // 2
                self._wake_sender(at_once=not ok or crowded)
                return
            now = time.monotonic()
            if now < self._held_off_until or (ok and now - self._flushed < self._flush_seconds):
                return
            self._flushed = now
            waiting, self._buffers = self._buffers, {}
        self._flush(waiting)

    def _wake_sender(self, *, at_once: bool) -> None:
        """Let the thread send soon, or at once. Like a failure, the first outcome does not wait."""
        self._recorded.set()
        if self._sender is None:
            # Started here and not at first: a server may fork its workers after it has made its clients.
            sender = threading.Thread(target=self._send_in_background, name="headgate-telemetry", daemon=True)
            sender.start()
            self._sender = sender
            _in_background.add(self)
            at_once = True
        if at_once:
            self._urgent.set()

    def _send_in_background(self) -> None:
        while True:
            self._recorded.wait()
            self._urgent.wait(self._flush_seconds)
            while (pause := self._held_off_until - time.monotonic()) > 0:
                threading.Event().wait(pause)
            self.flush()

    def _buffer(self, whose: Whose, outcomes: list[list[Any]]) -> None:
        buffer = self._buffers.setdefault(whose, [])
        buffer += outcomes
        del buffer[:-MAX_BUFFERED]

    def _flush(self, waiting: dict[Whose, list[list[Any]]]) -> None:
        try:
            client = self._kinesis()
            for whose in list(waiting):
                known = self._identified(whose)
                # Removed before it is sent: a request without an answer may have arrived. An outcome that counts twice
                # misleads the judge; a missing one does not.
                outcomes = waiting.pop(whose)
                try:
                    self._send(client, known, outcomes)
                except client.exceptions.ProvisionedThroughputExceededException:
                    waiting[whose] = outcomes  # Not accepted: a later request tries again.
                    self._held_off_until = time.monotonic() + THROTTLED_SECONDS
                    _log.warning("the telemetry stream throttled a record; a later request sends it")
                    return
            self._hold_off = HOLD_OFF_SECONDS
        except Exception:
            # Each attempt may take its whole timeout, which delays the service's callers.
            self._held_off_until = time.monotonic() + self._hold_off
            self._hold_off = min(60.0, 2 * self._hold_off)
            raise
        finally:
            self._take_back(waiting)

    def _take_back(self, waiting: dict[Whose, list[list[Any]]]) -> None:
        """Put back what was not sent, in front of newer outcomes."""
        if not waiting:
            return
        with self._lock:
            since, self._buffers = self._buffers, waiting
            for whose, outcomes in since.items():
                self._buffer(whose, outcomes)
            self._recorded.set()

    def _identified(self, whose: Whose) -> Whose:
        """Return target and revision of outcomes. What the client was not given is read from the task's metadata."""
        target, revision, observed = whose
        if not (target and revision):
            task = read_task(self._metadata)
            target = self._target = target or target_of_task(task)
            revision = self._revision = revision or f"{task['Family']}:{task['Revision']}"
        return target, revision, observed

    def _send(self, client: Any, whose: Whose, outcomes: list[list[Any]]) -> None:
        self._instance = self._instance or uuid.uuid4()
        target, revision, observed = whose
        record: dict[str, Any] = {
            "target": target,
            "revision": revision,
            "instance": self._instance.hex,
            "born": int((self._born or 0.0) * 1000),
            "outcomes": outcomes,
        }
        if observed:
            record["observed"] = True
        where = {"StreamARN": self._stream} if self._stream.startswith("arn:") else {"StreamName": self._stream}
        client.put_record(
            **where,
            Data=json.dumps(record, separators=(",", ":")).encode(),
            PartitionKey=f"{target[2 - MAX_PARTITION_KEY :]}#{self._instance.int % PARTITIONS}",
        )

    def _kinesis(self) -> Any:
        if self._client is None:
            import boto3  # Imported at first use, to keep the start fast.
            from botocore.config import Config

            # A slow stream must not slow down the service: one short attempt.
            config = Config(connect_timeout=0.3, read_timeout=0.7, retries={"total_max_attempts": 1})
            self._client = boto3.client("kinesis", config=config)
        return self._client


def _valid_milliseconds(milliseconds: float | None) -> float | None:
    """Return a duration that the counter accepts, or None: one invalid value would invalidate the whole record."""
    if milliseconds is None or not 0 <= milliseconds < math.inf:
        return None
    return round(float(milliseconds), 1)


def _named(unit: Callable[[Any, Any], str | None], event: Any, context: Any) -> str | None:
    """Return the unit that failed; None if its name cannot be determined."""
    try:
        name = unit(event, context)
        return None if name is None else str(name)
    except Exception:  # noqa: BLE001 - the failed event may lack the name
        _log.warning("the name of the failed unit could not be determined", exc_info=True)
        return None


def target_of(context: Any) -> str | None:
    """Return the target key of the alias that was invoked; None if no alias was."""
    parts = context.invoked_function_arn.split(":")
    if len(parts) < 8 or parts[7].isdigit() or parts[7] == "$LATEST":
        return None
    return f"lambda-alias/{parts[6]}/{parts[7]}"


def read_task(uri: str) -> dict[str, Any]:
    """Return the metadata of an ECS task.

    Parameters
    ----------
    uri
        Value of the environment variable ``ECS_CONTAINER_METADATA_URI_V4``.
    """
    # Imported at first use. A plain connection: a proxy in the environment does not know the endpoint.
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    connection = HTTPConnection(parts.netloc, timeout=METADATA_SECONDS)
    try:
        connection.request("GET", f"{parts.path}/task")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise ConnectionError(f"the metadata of the ECS task cannot be read: {response.status} {response.reason}")
    task: dict[str, Any] = json.loads(body)
    return task


def target_of_task(task: dict[str, Any]) -> str:
    """Return the key of the service that an ECS task belongs to.

    Raises
    ------
    ValueError
        If its metadata do not name the service.
    """
    service = task.get("ServiceName")
    if not service:
        raise ValueError(
            "the metadata of the ECS task name no service, as with a container agent older than 1.63.1; name it: "
            "Telemetry(..., target='ecs-service/<cluster>/<service>')"
        )
    return f"ecs-service/{task['Cluster'].rpartition('/')[2]}/{_GREEN.sub('', service)}"


_in_background: weakref.WeakSet[Telemetry] = weakref.WeakSet()
"""Clients with a thread."""


def _begin_in_child() -> None:
    """Let a forked process begin anew: it has no thread, and its copy of the outcomes is its parent's to send."""
    for telemetry in list(_in_background):
        telemetry._begin()
    _in_background.clear()


def _flush_all() -> None:
    for telemetry in list(_in_background):
        telemetry.flush()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
atexit.register(_flush_all)
