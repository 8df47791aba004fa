"""An in-memory AWS service whose time passes each time that somebody looks, behind a real boto3 client."""

from __future__ import annotations

import copy
import functools
import threading
from typing import TYPE_CHECKING, Any

import boto3

from tests.builders import REGION
from tests.fakes.services import Service

if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def _client(service: str) -> Any:
    # Once: making a client takes as long as a test.
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    make: Any = boto3.client
    return make(service, region_name=REGION, **keys)


class TimedService(Service):
    """Answers the clients that it makes, one operation at a time.

    Parameters
    ----------
    tick
        Lets a moment pass. It is called before each operation in ``ticking``: who polls sees something happen, and who
        looks once finds what is there.
    calls
        Where each operation is noted when it is called.
    """

    ticking: frozenset[str] = frozenset()
    lock = threading.RLock()
    """One for all services: they are one AWS."""

    def __init__(self, tick: Callable[[], None], calls: list[str]) -> None:
        self._tick, self._calls = tick, calls

    def client(self, service: str) -> Any:
        """Return a client of its own, which checks every parameter and raises its own modelled exceptions."""
        shared = _client(service)
        # copy.copy would ask the client for attributes that it looks up in what it does not have yet.
        client = object.__new__(type(shared))
        client.__dict__.update(shared.__dict__)
        client.meta = copy.copy(client.meta)
        client.meta.events = copy.copy(client.meta.events)
        self.attach(client)
        return client

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name[0].isupper():
            return value

        def operation(**given: Any) -> Any:
            with self.lock:
                self._calls.append(name)
                if name in self.ticking:
                    self._tick()
                # Nobody outside holds a piece of what is inside.
                return copy.deepcopy(value(**copy.deepcopy(given)))

        return operation
