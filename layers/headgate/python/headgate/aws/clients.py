"""How Headgate's functions reach AWS: one way to make a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable


def client(service: str, attempts: int = 8, *, connect_seconds: int = 3, read_seconds: int = 20) -> Any:
    """A boto3 client with Headgate's retries and timeouts, made when it is first used.

    Adaptive retries, because many rollouts at once share Lambda's control plane: 15 requests a second per account and
    Region (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).

    Parameters
    ----------
    attempts
        Requests that a call may make. Between them pass up to 1, 2, 4, 8, 16 and then 20 seconds, half of that on
        average (https://docs.aws.amazon.com/boto3/latest/guide/retries.html): eight are for functions that have
        a minute, or are called again by the state machine.
    connect_seconds, read_seconds
        How long each of them may take to connect, and then to answer.
    """
    return Lazy(
        lambda: boto3.client(
            service,  # type: ignore[call-overload]
            config=Config(
                retries={"mode": "adaptive", "total_max_attempts": attempts},
                connect_timeout=connect_seconds,
                read_timeout=read_seconds,
            ),
        )
    )


def invoker(answer_seconds: int) -> Any:
    """A Lambda client that invokes once, made when it is first used: a payload may do something, so none is sent again.

    Parameters
    ----------
    answer_seconds
        How long an invocation is waited for.
    """
    config = Config(
        connect_timeout=3, read_timeout=answer_seconds, retries={"total_max_attempts": 1}, tcp_keepalive=True
    )
    return Lazy(lambda: boto3.client("lambda", config=config))


class Lazy:
    """Something that is made at the first use of it: a function's start pays only for what this invocation needs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what is not an attribute yet, so each name is looked up once.
        if "_made" not in self.__dict__:
            self._made = self._make()
        value = getattr(self._made, name)
        self.__dict__[name] = value
        return value
