"""Roles for functions, state machines and ECS tasks that are not of Headgate's stack."""

import json
from typing import Any

from emulator.server import EmbeddedAws

TRUSTED = ("lambda.amazonaws.com", "states.amazonaws.com", "ecs-tasks.amazonaws.com")


def make_role(aws: EmbeddedAws, name: str, *statements: dict[str, Any]) -> str:
    """Make a role with these policy statements, for functions, state machines and tasks. Return its ARN."""
    iam = aws.client("iam")
    trust = [{"Effect": "Allow", "Principal": {"Service": list(TRUSTED)}, "Action": "sts:AssumeRole"}]
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_document(trust))["Role"]
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=_document(statements))
    return str(made["Arn"])


def _document(statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
