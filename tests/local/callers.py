"""IAM users and sessions of roles, who call the embedded AWS with keys of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3

from emulator.server import REGION

if TYPE_CHECKING:
    from emulator.server import EmbeddedAws

ANYBODY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
)
"""A trust policy that lets anybody assume a role."""


class Caller:
    """Somebody with an access key, an ARN and clients."""

    def __init__(self, aws: EmbeddedAws, arn: str, keys: dict[str, str]) -> None:
        self._aws, self.arn, self.keys = aws, arn, keys

    def client(self, service: str) -> Any:
        """A client that signs with the caller's key."""
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload]
            endpoint_url=self._aws.endpoint_url,
            region_name=REGION,
            **self.keys,
        )


def make_user(aws: EmbeddedAws, name: str, *statements: dict[str, Any]) -> Caller:
    """A user who may do what these statements allow."""
    iam = aws.client("iam")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]}
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    return Caller(aws, arn, keys)


def make_role_session(aws: EmbeddedAws, name: str, *statements: dict[str, Any]) -> Caller:
    """A session of a new role that may do what these statements allow; the ARN is the role's."""
    iam = aws.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=ANYBODY)["Role"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]}
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
    given = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="tests")["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    return Caller(aws, arn, keys)
