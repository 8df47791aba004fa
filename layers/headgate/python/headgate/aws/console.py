"""Links to the console of AWS."""

from __future__ import annotations

CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-eusc": "console.amazonaws-eusc.eu",
}
"""Domain of a partition's console, after the Region."""


def console_of(partition: str, region: str) -> str:
    """Return the address of the console in a Region."""
    return f"https://{region}.{CONSOLES.get(partition, CONSOLES['aws'])}"


def execution_link(arn: str) -> str:
    """Return the link to an execution of a state machine; empty if the text is not the ARN of one."""
    parts = arn.split(":")
    if len(parts) != 8 or parts[2] != "states" or parts[5] != "execution":
        return ""
    _, partition, _, region, *_ = parts
    return f"{console_of(partition, region)}/states/home?region={region}#/v2/executions/details/{arn}"
