"""How Headgate's functions reach AWS: one way to make a client, one place that builds ARNs."""

from __future__ import annotations

import gc
import hashlib
import os
from typing import TYPE_CHECKING, Any

# A start makes objects and leaves hardly any garbage, yet Python looks for it over and over: a tenth of the time that
# boto3, Powertools and the models take to import. What may lie about between two looks is some megabytes of the 512.
gc.set_threshold(100_000)

import boto3  # noqa: E402 - after the line above, which is for its sake
from botocore.config import Config  # noqa: E402

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


def execution_arn(machine_arn: str, name: str) -> str:
    """The ARN that an execution of this name of a Standard state machine has."""
    return f"{machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def execution_name(rollout_id: str) -> str:
    """The name of a rollout's execution. A name is at most 80 characters and may not carry every character of an id."""
    return f"r-{hashlib.sha256(rollout_id.encode()).hexdigest()}"


def alias_arn(partition: str, region: str, account: str, function: str, alias: str) -> str:
    """The ARN that an alias of a Lambda function has."""
    return f"arn:{partition}:lambda:{region}:{account}:function:{function}:{alias}"


def setting(name: str) -> str:
    """An environment variable that the template sets; absence is a fault of the deployment, so it says which."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"environment variable {name} is not set; template.yaml sets it on this function")
    return value
