"""ARNs and names that are derived from other names."""

from __future__ import annotations

import hashlib


def execution_arn(machine_arn: str, name: str) -> str:
    """The ARN that an execution of this name of a Standard state machine has."""
    return f"{machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def execution_name(rollout_id: str) -> str:
    """The name of a rollout's execution. A name is at most 80 characters and may not carry every character of an id."""
    return f"r-{hashlib.sha256(rollout_id.encode()).hexdigest()}"


def alias_arn(partition: str, region: str, account: str, function: str, alias: str) -> str:
    """The ARN that an alias of a Lambda function has."""
    return f"arn:{partition}:lambda:{region}:{account}:function:{function}:{alias}"
