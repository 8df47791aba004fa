"""What an account offers as answers to ``headgate init``: functions, aliases, versions, services, alarms and hooks."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.analysis.telemetry_notes import RECENT_SECONDS
from headgate.aws.lambda_functions import unsupported
from headgate.aws.own_resources import OwnResources
from headgate.errors import RequestRefused
from headgate.targets.event_source.settings import mode_of, source_of
from headgate_cli.drafting.services import AccountService, services_of
from headgate_cli.failures import Failure
from headgate_cli.records import Records

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

NEWEST_VERSIONS = 10


class Alias(NamedTuple):
    """An alias."""

    name: str
    version: str


class Account:
    """Reads an account."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._own = OwnResources(stack.prefix, {})

    @property
    def _functions(self) -> Any:
        return self._stack.client("lambda")

    @cached_property
    def _names(self) -> list[str]:
        """Names of all functions that can be rolled out or asked, in order."""
        pages = self._functions.get_paginator("list_functions").paginate()
        return sorted(
            each["FunctionName"] for page in pages for each in page["Functions"] if not unsupported(each)
        )  # fmt: skip

    def targets(self) -> list[str]:
        """Return the functions that TargetFunctions covers."""
        pattern = self._stack.parameters.get("TargetFunctions", "")
        return [name for name in self._names if fnmatchcase(name, pattern) and not self._is_own(name)]

    def require_target(self, function: str) -> None:
        """Refuse a function that this installation does not roll out."""
        pattern = self._stack.parameters.get("TargetFunctions", "")
        if self._is_own(function):
            raise Failure(f"--function: {function} is one of Headgate's own functions; name a function of yours")
        if not fnmatchcase(function, pattern):
            raise Failure(
                f"--function: {function} is not covered by Headgate's parameter TargetFunctions, which is {pattern}; "
                "name another one, or deploy Headgate with a pattern that covers it"
            )

    def _is_own(self, function: str) -> bool:
        try:
            self._own.refuse_target(function, "")
        except RequestRefused:
            return True
        return False

    def aliases(self, function: str) -> list[Alias]:
        """Return the aliases of a function."""
        try:
            pages = list(self._functions.get_paginator("list_aliases").paginate(FunctionName=function))
        except self._functions.exceptions.ResourceNotFoundException:
            raise Failure(f"--function: {function} does not exist; check its name, --region and --profile") from None
        return [Alias(each["Name"], each["FunctionVersion"]) for page in pages for each in page["Aliases"]]

    def versions(self, function: str) -> list[str]:
        """Return the newest published versions of a function, newest first."""
        pages = self._functions.get_paginator("list_versions_by_function").paginate(FunctionName=function)
        numbers = [int(each["Version"]) for page in pages for each in page["Versions"] if each["Version"].isdigit()]
        return [str(number) for number in sorted(numbers, reverse=True)[:NEWEST_VERSIONS]]

    def consumers(self, function: str, alias: str) -> dict[str, str]:
        """Return the sources of the mappings that point at an alias, by UUID."""
        pages = self._functions.get_paginator("list_event_source_mappings").paginate(FunctionName=f"{function}:{alias}")
        return {
            each["UUID"]: str(each.get("EventSourceArn", "")).rpartition(":")[2] or "a self-managed source"
            for page in pages
            for each in page["EventSourceMappings"]
            if each["FunctionArn"].endswith(f":{function}:{alias}")
        }

    def behind(self, uuid: str) -> tuple[str, str]:
        """Return the function and the alias behind a mapping."""
        try:
            arn = str(self._functions.get_event_source_mapping(UUID=uuid)["FunctionArn"])
        except self._functions.exceptions.ResourceNotFoundException:
            raise Failure(f"--mapping: {uuid} does not exist; check --region and --profile") from None
        function, _, alias = arn.partition(":function:")[2].partition(":")
        if not alias or alias.isdigit() or alias.startswith("$"):
            raise Failure(
                f"--mapping: {uuid} does not point at an alias of {function}; headgate doctor {uuid} says more"
            )
        return function, alias

    def is_ramp(self, uuid: str) -> bool:
        """Return whether a rollout of a consumer is a ramp, in which only one version works at a time."""
        mapping = self._functions.get_event_source_mapping(UUID=uuid)
        try:
            return mode_of(None, mapping, source_of(mapping)[1]) == "ramp"
        except RequestRefused as refused:
            raise Failure(f"--mapping: {str(refused).removeprefix('target.mapping: ')}") from None

    def alarms(self, function: str) -> list[str]:
        """Return the alarms on metrics of a function."""
        pages = self._stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"])
        return sorted(
            alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"] if function in _functions_in(alarm)
        )

    def services(self) -> list[str]:
        """Return the services that TargetServices and TargetClusters cover, as cluster/service."""
        return services_of(self._stack)

    def service(self, given: str) -> AccountService:
        """Return the service that a person names as cluster/service, or by its ARN."""
        return AccountService.find(self._stack, given)

    def hooks(self, *, of_service: bool = False) -> list[str]:
        """Return the functions that may be hooks: the samples for the target, and those that HookFunctions covers."""
        pattern = self._stack.parameters.get("HookFunctions", "")
        samples = self.samples(of_service=of_service)
        return [*samples, *(n for n in self._names if fnmatchcase(n, pattern) and not self._is_own(n))]

    def samples(self, *, of_service: bool = False) -> list[str]:
        """Return the sample hooks: of a function one before and one after traffic, of a service one before it."""
        outputs = self._stack.outputs
        names = ("HttpSmokeTesterName",) if of_service else ("SmokeTesterName", "VersionCheckerName")
        return [outputs[name] for name in names if name in outputs]

    def sends_telemetry(self, function: str, alias: str) -> bool:
        """Return whether telemetry came from an alias within the past day."""
        return self.sent_telemetry(f"lambda-alias/{function}/{alias}")

    def sent_telemetry(self, key: str) -> bool:
        """Return whether telemetry came from a target within the past day."""
        if self._stack.parameters.get("Telemetry") != "true":
            return False
        note = Records(self._stack).get(keys.target_pk(key), keys.TELEMETRY_SK)
        return note is not None and time.time() - note["seenAt"] < RECENT_SECONDS


def _functions_in(alarm: dict[str, Any]) -> set[str]:
    """Return the functions in the dimensions of an alarm, also in those of its metric math."""
    stats = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    metrics = [alarm, *stats]
    return {
        each["Value"] for metric in metrics for each in metric.get("Dimensions", []) if each["Name"] == "FunctionName"
    }
