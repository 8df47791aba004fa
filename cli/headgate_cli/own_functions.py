"""Functions that a person names, and those of Headgate, which commands leave alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from headgate.aws.own_resources import OwnResources
from headgate.errors import RequestRefused
from headgate_cli.failures import Failure
from headgate_cli.rollouts import target_key

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

_FUNCTION = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):\d{12}:function:)?(?P<name>[a-zA-Z0-9-_]{1,64})"
)


def users_function(stack: Stack, given: str, *, restored: bool = False) -> str:
    """Return the name of a function from its name or ARN.

    Parameters
    ----------
    restored
        Whether its traffic is to be restored, rather than stopped.

    Raises
    ------
    Failure
        If it has a version or alias, is in another Region, or is one of Headgate's own.
    """
    match = _FUNCTION.fullmatch(given)
    if match is None and (key := target_key(given)) and key.startswith("ecs-service/"):
        _, cluster, service = key.split("/")
        count = f"aws ecs update-service --cluster {cluster} --service {service} --desired-count"
        what = (
            f"to let it run again, give it tasks ({count} NUMBER)"
            if restored
            else f"end its rollout (headgate abort {cluster}/{service}), or stop all its tasks ({count} 0)"
        )
        raise Failure(f"{cluster}/{service} is an ECS service, which has no reserved concurrency: {what}")
    if match is None:
        raise Failure(
            f"{given[:200]} is not a function: give its name, or its ARN without a version or alias, because reserved "
            "concurrency is one setting for all of them"
        )
    if match["region"] and match["region"] != stack.session.region_name:
        raise Failure(f"{given} is in {match['region']}, not in {stack.session.region_name}; give --region")
    try:
        OwnResources(_prefix_of(stack), {}).refuse_target(match["name"], "FUNCTION")
    except RequestRefused:
        raise Failure(
            f"{match['name']} is one of Headgate's own functions, which move traffic back; name a function of yours"
        ) from None
    return match["name"]


def _prefix_of(stack: Stack) -> str:
    """Return the prefix of Headgate's functions. A switch must work also where the stack cannot be read."""
    try:
        return stack.prefix
    except (ClientError, Failure):
        return stack.name
