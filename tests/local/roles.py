"""The execution role of the functions and state machines that tests make."""

from emulator.roles import make_role
from emulator.server import EmbeddedAws

ROLE_NAME = "samples"
EXPECTS_DENIAL = "denied-"
"""Prefix of roles that a test makes in order to see a denial."""
ROLE = f"arn:aws:iam::000000000000:role/{ROLE_NAME}"


def make_sample_role(aws: EmbeddedAws) -> None:
    """Make the role, once per embedded AWS: what sample services, consumers and hooks do."""

    def allow(sid: str, actions: list[str], resource: str) -> dict[str, object]:
        return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}

    make_role(
        aws,
        ROLE_NAME,
        allow(
            "WriteLogs",
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            "arn:aws:logs:*:000000000000:log-group:/aws/lambda/*",
        ),
        allow("SendTelemetry", ["kinesis:PutRecord"], "arn:aws:kinesis:*:000000000000:stream/headgate-*"),
        allow("WriteLedger", ["dynamodb:PutItem"], "arn:aws:dynamodb:*:000000000000:table/orders-*"),
        allow(
            "SeeProvisionedConcurrency",
            ["lambda:GetProvisionedConcurrencyConfig"],
            "arn:aws:lambda:*:000000000000:function:shop-*",
        ),
        # What event source mappings read as the function's role.
        allow(
            "PollQueues",
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
            "arn:aws:sqs:*:000000000000:*",
        ),
        allow(
            "PollStreams",
            ["kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"],
            "arn:aws:kinesis:*:000000000000:stream/*",
        ),
        allow(
            "PollTables",
            ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
            "arn:aws:dynamodb:*:000000000000:table/*/stream/*",
        ),
        allow("KeepGivenUp", ["sqs:SendMessage"], "arn:aws:sqs:*:000000000000:*"),
    )
