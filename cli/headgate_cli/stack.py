"""The installation that a command works with: a stack, its outputs, and clients of AWS."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_STACK = "headgate"

MACHINES = {"rollout": "RolloutMachineArn", "task": "EcsTaskMachineArn", "redrive": "RedriveMachineArn"}
"""Outputs with the ARNs of the machines, by what they run."""


class Stack:
    """A deployed Headgate, found by the name of its stack.

    Clients follow the rules of the AWS CLI: profiles, Regions, and AWS_ENDPOINT_URL.
    """

    def __init__(self, name: str, profile: str | None, region: str | None) -> None:
        self.name = name
        self._profile = profile
        self._region = region
        self._clients: dict[tuple[str, str | None], Any] = {}

    @cached_property
    def session(self) -> boto3.Session:
        """The boto3 session of the profile and Region."""
        import boto3

        return boto3.Session(profile_name=self._profile, region_name=self._region)

    def client(self, service: str, *, region: str | None = None) -> Any:
        """Return the client for a service, in the stack's Region by default. It retries for about ten seconds."""
        if (service, region) not in self._clients:
            from botocore.config import Config

            config = Config(
                retries={"mode": "standard", "total_max_attempts": 5},
                connect_timeout=5,
                read_timeout=20,
                user_agent_extra="headgate-cli",
            )
            if not (region or self.session.region_name):
                raise Failure("there is no Region; give --region, or set AWS_REGION or the profile's region")
            try:
                made = self.session.client(service, region_name=region, config=config)  # type: ignore[call-overload]
            except ValueError as error:
                raise Failure(
                    f"the settings of AWS cannot be used: {error}; check AWS_ENDPOINT_URL, which must be like "
                    "https://host:port, and --region"
                ) from None
            self._clients[service, region] = made
        return self._clients[service, region]

    @cached_property
    def description(self) -> dict[str, Any]:
        """The stack, as CloudFormation describes it."""
        from botocore.exceptions import ClientError

        formation = self.client("cloudformation")
        try:
            return dict(formation.describe_stacks(StackName=self.name)["Stacks"][0])
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            raise Failure(
                f"there is no stack {self.name} in {self.session.region_name}; give --stack (or HEADGATE_STACK) the "
                "name under which Headgate is deployed, and check --region and --profile"
            ) from None

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs by key."""
        return {each["OutputKey"]: each["OutputValue"] for each in self.description.get("Outputs", [])}

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Headgate's parameters by name."""
        return {each["ParameterKey"]: each.get("ParameterValue", "") for each in self.description.get("Parameters", [])}

    def output(self, key: str) -> str:
        """Return one output."""
        try:
            return self.outputs[key]
        except KeyError:
            raise Failure(
                f"stack {self.name} has no output {key}: it is not Headgate, or an older version of it; check --stack, "
                "or upgrade the stack"
            ) from None

    @property
    def prefix(self) -> str:
        """What the names of its resources begin with."""
        return self.output("BusName")

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.output("TableName")

    @property
    def bus(self) -> str:
        """Name of the event bus."""
        return self.output("BusName")

    def machine(self, kind: str) -> str:
        """Return the ARN of the machine of a ``rollout``, ``task`` or ``redrive``."""
        return self.output(
            {"rollout": "RolloutMachineArn", "task": "EcsTaskMachineArn", "redrive": "RedriveMachineArn"}[kind]
        )

    def send(self, detail_type: str, detail: dict[str, Any], *, source: str = "headgate.cli") -> str:
        """Put an event on the bus, and return its id."""
        import json

        entry = {"EventBusName": self.bus, "Source": source, "DetailType": detail_type, "Detail": json.dumps(detail)}
        result = self.client("events").put_events(Entries=[entry])["Entries"][0]
        if "ErrorCode" in result:
            raise Failure(
                f"the bus {self.bus} did not accept the event: {result['ErrorCode']}: {result.get('ErrorMessage')}"
            )
        return str(result["EventId"])


def of_stack(command: Command) -> Command:
    """Give a command the options of the AWS CLI that choose the stack. It gets the parameter ``stack``."""

    @click.option(
        "--stack",
        "stack_name",
        metavar="NAME",
        default=None,
        help=f"Name of Headgate's stack; else HEADGATE_STACK.  [default: {DEFAULT_STACK}]",
    )
    @click.option("--profile", metavar="NAME", default=None, help="Profile of the AWS configuration; else AWS_PROFILE.")
    @click.option(
        "--region", metavar="REGION", default=None, help="Region of the stack; else AWS_REGION or the profile's."
    )
    def with_stack(*args: Any, stack_name: str | None, profile: str | None, region: str | None, **options: Any) -> Any:
        name = stack_name or os.environ.get("HEADGATE_STACK") or DEFAULT_STACK
        # The AWS CLI reads AWS_REGION before AWS_DEFAULT_REGION and the profile; boto3 does not read it.
        chosen = region or os.environ.get("AWS_REGION") or None
        return command(*args, stack=Stack(name, profile, chosen), **options)

    with_stack.__doc__ = command.__doc__
    with_stack.__name__ = getattr(command, "__name__", "command")
    params = [*getattr(command, "__click_params__", []), *getattr(with_stack, "__click_params__", [])]
    with_stack.__click_params__ = params  # type: ignore[attr-defined]
    return with_stack  # type: ignore[return-value]
