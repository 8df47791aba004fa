"""The account under test: clients, names, and what the run has created in it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tools.probes.resources import Resource, delete

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import boto3

DELETION_SECONDS = 180
"""How long a deletion is tried again. A table or a mapping cannot be deleted while it is being created."""


class Clock(Protocol):
    """Time, as tests replace it."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""


class SystemClock:
    """The clock of this machine."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()


class Journal:
    """What exists, line by line on disk, so that a killed run can be cleaned up.

    A line is written before its resource is created, and another one after its deletion.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def created(self, resource: Resource) -> None:
        """Note a resource that is about to be created."""
        self._write("created", resource)

    def deleted(self, resource: Resource) -> None:
        """Note a resource that is deleted."""
        self._write("deleted", resource)

    def left(self) -> list[Resource]:
        """Return what was created and not deleted, the latest first."""
        found: dict[Resource, None] = {}
        lines = self._file.read_text("utf-8").splitlines() if self._file.exists() else []
        for line in lines:
            entry = json.loads(line)
            resource = Resource(entry["kind"], entry["id"])
            if entry["what"] == "created":
                found[resource] = None
            else:
                found.pop(resource, None)
        return list(reversed(found))

    def _write(self, what: str, resource: Resource) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **asdict(resource)}) + "\n")


class Account:
    """An AWS account and Region, seen with one identity.

    Parameters
    ----------
    session
        A boto3 session of the identity that asks.
    run
        Id of the run; part of every name and value of the tag.
    journal
        Where created resources are noted.
    """

    def __init__(self, session: boto3.Session, run: str, journal: Journal, clock: Clock | None = None) -> None:
        self._session = session
        self._clients: dict[str, Any] = {}
        self.run = run
        self.journal = journal
        self.clock: Clock = clock or SystemClock()
        identity = self.client("sts").get_caller_identity()
        self.id: str = identity["Account"]
        self.caller: str = identity["Arn"]
        self.partition: str = identity["Arn"].split(":")[1]
        self.region: str = session.region_name

    def client(self, service: str) -> Any:
        """Return the client of a service; the same one each time."""
        if service not in self._clients:
            self._clients[service] = new_client(self._session, service)
        return self._clients[service]

    def arn(self, service: str, resource: str, *, region: bool = True) -> str:
        """Return an ARN in this account."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.id}:{resource}"

    def own(self, resource: Resource) -> None:
        """Note a resource, so that it is deleted. Call it before the resource is created, where its id is known."""
        self.journal.created(resource)

    def delete_all(self, resources: list[Resource]) -> dict[Resource, str]:
        """Delete resources in this order; return those that stay, with the reason."""
        stay = {}
        for resource in resources:
            if why := self._delete(resource):
                stay[resource] = why
            else:
                self.journal.deleted(resource)
        return stay

    def _delete(self, resource: Resource) -> str:
        deadline = self.clock.monotonic() + DELETION_SECONDS
        while True:
            try:
                delete(resource, self.client)
            except (ClientError, BotoCoreError) as error:
                if not _may_pass(error) or self.clock.monotonic() > deadline:
                    return str(error)
                self.clock.sleep(5)
            else:
                return ""


def _may_pass(error: Exception) -> bool:
    """Return whether a deletion may succeed later: the resource is changing, or AWS is throttling."""
    if not isinstance(error, ClientError):
        return False
    code = error.response.get("Error", {}).get("Code", "")
    parts = ("InUse", "Conflict", "Throttl", "TooMany", "Limit", "Concurrent", "ContainsTasks", "ServiceUnavailable")
    return any(part in code for part in parts)


def new_client(session: boto3.Session, service: str, endpoint: str | None = None) -> Any:
    """Create a client that repeats throttled calls; without an endpoint, the session's configuration names it."""
    config = Config(retries={"mode": "standard", "total_max_attempts": 6}, connect_timeout=10, read_timeout=70)
    create: Callable[..., Any] = session.client
    return create(service, config=config, endpoint_url=endpoint)
