"""Clients of AWS services, with Headgate's retries and timeouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.pace import Pace


def client(
    service: str, attempts: int = 8, *, adaptive: bool = True, connect_seconds: int = 3, read_seconds: int = 20
) -> Any:
    """Create a boto3 client with Headgate's retries and timeouts at first use.

    Parameters
    ----------
    adaptive
        Whether a client whose calls are throttled slows down by itself, to a call every two seconds if need be. It
        stays slow when the function is invoked again, so what rolls back must not be.
    attempts
        Maximum requests per call. The waits between them are up to 1, 2, 4, 8, 16 and then 20 seconds, on average half
        of that (https://docs.aws.amazon.com/boto3/latest/guide/retries.html). Eight suit functions that have a minute,
        or that the state machine calls again.
    connect_seconds, read_seconds
        Timeouts of each request.
    """
    return Lazy(
        lambda: boto3.client(
            service,  # type: ignore[call-overload]
            config=Config(
                retries={"mode": "adaptive" if adaptive else "standard", "total_max_attempts": attempts},
                connect_timeout=connect_seconds,
                read_timeout=read_seconds,
            ),
        )
    )


def mover(pace: Pace) -> Any:
    """Create a client of Lambda's control plane at first use, whose throttled calls are repeated at a pace.

    Its retries of other errors are not adaptive: an adaptive client that was throttled would hold up the next rollback.
    """

    def make() -> Any:
        config = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=3, read_timeout=20)
        made = boto3.client("lambda", config=config)
        pace.rule(made)
        return made

    return Lazy(make)


def invoker(answer_seconds: int, at_once: int = 10) -> Any:
    """Create a Lambda client at first use that never retries an invocation, because invocations have effects.

    Parameters
    ----------
    answer_seconds
        How long to wait for an answer.
    at_once
        How many threads use the client at the same time.
    """
    config = Config(
        connect_timeout=3,
        read_timeout=answer_seconds,
        retries={"total_max_attempts": 1},
        tcp_keepalive=True,
        max_pool_connections=at_once,
    )
    return Lazy(lambda: boto3.client("lambda", config=config))


def impatient_client(service: str) -> Any:
    """Create a client with short timeouts and no retries at first use, for lookups that a rollout can do without.

    The service may throttle, or be out of reach for a function in a VPC.
    """
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=2)
    return Lazy(lambda: boto3.client(service, config=config))  # type: ignore[call-overload]


class Lazy:
    """Proxy for an object that is created at first use, so that an invocation pays only for what it needs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for missing attributes, so each name is looked up once.
        if "_made" not in self.__dict__:
            self._made = self._make()
        value = getattr(self._made, name)
        self.__dict__[name] = value
        return value
