"""ARNs and names derived from other names."""

from __future__ import annotations

import hashlib


def execution_arn(machine_arn: str, name: str) -> str:
    """Return the ARN of an execution of a Standard state machine."""
    return f"{machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def execution_name(rollout_id: str) -> str:
    """Return the name of a rollout's execution: a hash, because names allow fewer characters than ids, at most 80."""
    return f"r-{hashlib.sha256(rollout_id.encode()).hexdigest()}"


def job_execution_name(kind: str, job_id: str) -> str:
    """Return the name of the execution of an ECS task or a redrive that was requested by an event."""
    return f"{kind}-{hashlib.sha256(job_id.encode()).hexdigest()}"


def stack_execution_name(request_id: str) -> str:
    """Return the name of the execution that carries out CloudFormation's request about a custom resource."""
    return f"stack-{hashlib.sha256(request_id.encode()).hexdigest()}"


def alias_arn(partition: str, region: str, account: str, function: str, alias: str) -> str:
    """Return the ARN of an alias of a Lambda function."""
    return f"arn:{partition}:lambda:{region}:{account}:function:{function}:{alias}"


def service_arn(partition: str, region: str, account: str, cluster: str, service: str) -> str:
    """Return the ARN of an ECS service, in the format that has its cluster."""
    return f"arn:{partition}:ecs:{region}:{account}:service/{cluster}/{service}"
