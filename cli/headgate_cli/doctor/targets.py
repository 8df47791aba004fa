"""Checks of an alias, and of a consumer behind an event source mapping. Each judges what a reader has collected.

What a plan refuses is a fault here, and what it warns about is a warning. Hooks and alarms belong to a request, so
``headgate plan`` checks them.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from headgate.analysis.telemetry_notes import RECENT_SECONDS
from headgate.aws.lambda_functions import unsupported
from headgate.aws.patterns import wider
from headgate.errors import RequestRefused
from headgate.history.wording import listed
from headgate.targets.event_source.settings import (
    VISIBILITY_TIMES,
    mapping_faults,
    mode_of,
    reads_queue,
    source_of,
    visibility_faults,
)
from headgate_cli.doctor.findings import Found, fault, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_lambda.type_defs import FunctionConfigurationTypeDef

    from headgate.aws.own_resources import OwnResources
    from headgate.aws.owning_stack import StackOwner

MIN_RECEIVES = 5
"""Receives of a message before it becomes a dead letter that AWS recommends for Lambda, whose throttled batches count.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
"""

WATCHED_MINUTES = 15
"""Period of the counts from CloudWatch."""


# Permissions


def check_permission(parameter: str, pattern: str, name: str) -> list[Found]:
    """Check that a parameter of the stack covers a name."""
    if fnmatchcase(name, pattern):
        return [ok(f"{name} is covered by {parameter}, which is {pattern}")]
    known = f"which is {pattern}" if pattern else "which is empty"
    fix = f"deploy the stack with {widening(parameter, pattern, name)}, or choose another target"
    return [fault(f"{name} is not covered by {parameter}, {known}", fix)]


def widening(parameter: str, pattern: str, name: str) -> str:
    """Return a parameter's new value that covers a name as well, in words."""
    if not pattern:
        return f'"{parameter}={name}"'
    value = wider(pattern, name)
    every = ", as no narrower one does: name both alike for that" if value == "*" else ""
    return f'"{parameter}={value}", which covers {pattern} too{every}'


def check_own(function: str, own: OwnResources) -> list[Found]:
    """Refuse one of Headgate's own functions as a target."""
    try:
        own.refuse_target(function, "target.function")
    except RequestRefused:
        return [fault(f"{function} is one of Headgate's own functions", "name a function of yours")]
    return []


# The alias


class AliasFacts(NamedTuple):
    """An alias and what it points at."""

    function: str
    alias: str
    there: bool
    """Whether the function exists."""
    known: Sequence[str]
    """Aliases of the function."""
    version: str = ""
    """Empty if there is no such alias."""
    weights: Mapping[str, float] = {}
    rollout: str = ""
    """Id of the rollout that moves it; empty if none does."""


def check_alias(alias: AliasFacts) -> list[Found]:
    """Check that the alias can be rolled out."""
    named = f"{alias.function}:{alias.alias}"
    if not alias.there:
        return [fault(f"function {alias.function} does not exist", "check its name, --region and --profile")]
    if not alias.version:
        others = f"one of {', '.join(alias.known)}" if alias.known else "an alias that you create (create-alias)"
        return [fault(f"{alias.function} has no alias {alias.alias}", f"name {others}")]
    if not alias.version.isdigit():
        fix = "publish a version, and point the alias at its number (aws lambda update-alias --function-version)"
        return [fault(f"{named} points at {alias.version}, which can change at any time", fix)]
    if alias.rollout:
        return [ok(f"{named} points at version {alias.version}, and rollout {alias.rollout} moves it")]
    if alias.weights:
        shares = " and ".join(f"{weight:.4%} to version {version}" for version, weight in alias.weights.items())
        fix = "remove the weights (aws lambda update-alias --routing-config AdditionalVersionWeights={})"
        return [fault(f"{named} sends {shares}, but no rollout moves it", fix)]
    return [ok(f"{named} points at version {alias.version}")]


def _named(versions: Iterable[str]) -> str:
    """Return versions in words: ``version 4 and $LATEST``, ``versions 4 and 5 and $LATEST``."""
    numbers = [version for version in versions if version != "$LATEST"]
    published = [f"version{'' if len(numbers) == 1 else 's'} {listed(numbers)}"] if numbers else []
    return listed([*published, *(version for version in versions if version == "$LATEST")])


def check_code(function: str, configurations: Mapping[str, Mapping[str, Any]]) -> list[Found]:
    """Check that the versions, and $LATEST as the next candidate, can be rolled out and are ready.

    Parameters
    ----------
    configurations
        Configurations by version.
    """
    found = []
    for version, configuration in configurations.items():
        named = f"{function}, version {version}," if version != "$LATEST" else f"$LATEST of {function}"
        if why := unsupported(cast("FunctionConfigurationTypeDef", configuration)):
            reason, _, fix = why.partition("; ")
            found.append(fault(f"{named} {reason}", fix))
        state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
        if state == "Inactive":
            fix = "invoke it once, and wait until it is active"
            found.append(warning(f"{named} is inactive: its next requests fail at first", fix))
        elif state != "Active":
            found.append(fault(f"{named} is {state}: {configuration.get('StateReason') or 'no reason given'}",
                               "wait, or correct the reason"))  # fmt: skip
        if update == "Failed":
            why = configuration.get("LastUpdateStatusReason") or "no reason given"
            found.append(fault(f"the last update of {named} failed: {why}", "update the function again"))
    return found or [ok(f"{_named(configurations)} of {function} can be rolled out")]


def check_concurrency(function: str, reserved: int | None) -> list[Found]:
    """Check that the function runs at all. All its versions share its reserved concurrency."""
    if reserved == 0:
        fix = f"bring it back (headgate restore-traffic {function}), or set another reserved concurrency"
        return [fault(f"{function} has a reserved concurrency of 0, so every request is throttled", fix)]
    return [ok(f"{function} has {f'a reserved concurrency of {reserved}' if reserved else 'no reserved concurrency'}")]


def check_provisioned(function: str, alias: str, requested: Mapping[str, int]) -> list[Found]:
    """Judge provisioned concurrency, which an alias with weights must not have.

    Parameters
    ----------
    requested
        Provisioned concurrency by qualifier, of those that have some.
    """
    if alias in requested:
        fix = "configure it on the version instead (put-provisioned-concurrency-config --qualifier VERSION), then "
        fix += f"delete it from the alias (delete-provisioned-concurrency-config --qualifier {alias})"
        return [fault(f"{function}:{alias} has provisioned concurrency, so its weights cannot change", fix)]
    if not requested:
        return [ok(f"{function} has no provisioned concurrency that a rollout must give its candidate")]
    held = ", ".join(f"version {version} has {count}" for version, count in requested.items())
    return [ok(f"{held} provisioned; a rollout gives its candidate the same")]


def check_owner(alias: str, owner: StackOwner | None, *, leaves_alone: bool) -> list[Found]:
    """Warn about a stack whose deployment moves the alias."""
    if owner is None:
        return [ok(f"{alias} belongs to no stack")]
    if leaves_alone:
        return [ok(f"{alias} belongs to stack {owner.stack}, whose template leaves its version alone")]
    message, _, fix = owner.warning_about(alias).removeprefix("target.alias: ").partition("; ")
    return [warning(message, fix)]


class EvidenceFacts(NamedTuple):
    """What tells whether a rollout could be judged."""

    telemetry: bool
    """Whether the stack has a telemetry stream."""
    seen_at: datetime | None
    """When the target was last noted as sending telemetry; None if it was not."""
    invocations: Mapping[str, int]
    """Invocations of the last minutes by CloudWatch, by version. The alias's own are under ``all``."""


def check_evidence(alias: str, evidence: EvidenceFacts, now: datetime) -> list[Found]:
    """Judge where the counts of both versions come from."""
    found = []
    requests = evidence.invocations.get("all", 0)
    split = {version: count for version, count in evidence.invocations.items() if version != "all"}
    if requests or any(split.values()):
        each = "".join(f", version {version} {count:,}" for version, count in split.items())
        found.append(ok(f"CloudWatch counts {requests:,} requests by {alias} in {WATCHED_MINUTES} minutes{each}"))
        found += [
            warning(f"CloudWatch counts no request to version {version}", "wait a minute or two: metrics are late")
            for version, count in split.items()
            if not count
        ]
    else:
        fix = "send requests by the alias, not by the function's name or a version: only those are shifted and counted"
        found.append(warning(f"CloudWatch counts no request by {alias} in {WATCHED_MINUTES} minutes", fix))
    sends = evidence.seen_at is not None and (now - evidence.seen_at).total_seconds() < RECENT_SECONDS
    if sends:
        found.append(ok(f"{alias} sends telemetry"))
    elif not evidence.telemetry:
        found.append(ok("the stack has no telemetry stream (Telemetry=false): CloudWatch counts by the minute, so "
                        "each step must bake for at least 300 s"))  # fmt: skip
    else:
        fix = "add Headgate's telemetry to the function (docs/telemetry.md), or set guards.evidence to cloudwatch"
        found.append(warning(f"{alias} has sent no telemetry for a day", fix))
    return found


# A consumer


def check_mapping(mapping: Mapping[str, Any] | None, uuid: str) -> list[Found]:
    """Check that a consumer can be rolled out."""
    if mapping is None:
        fix = "list them (aws lambda list-event-source-mappings), and check --region and --profile"
        return [fault(f"event source mapping {uuid} does not exist", fix)]
    found = []
    state = mapping.get("State")
    if state in ("Disabled", "Disabling"):
        fix = f"enable it (aws lambda update-event-source-mapping --uuid {uuid} --enabled)"
        found.append(fault(f"mapping {uuid} is {state}, so nothing is processed", fix))
    elif state != "Enabled":
        found.append(warning(f"mapping {uuid} is {state}", "wait until it is Enabled"))
    if str(mapping.get("LastProcessingResult", "")).startswith("PROBLEM"):
        fix = "correct what it says; most often the function's role lacks a permission on the source"
        found.append(fault(f"mapping {uuid} fails: {mapping['LastProcessingResult']}", fix))
    try:
        _, kind = source_of(mapping)
    except RequestRefused as refused:
        why = str(refused).removeprefix("target.mapping: ")
        return [*found, fault(f"mapping {uuid} {why}", "choose another consumer")]
    try:
        mode = mode_of(None, mapping, kind)
    except RequestRefused as refused:
        return [*found, _as_fault(str(refused))]
    found += [_as_fault(each) for each in mapping_faults(mapping, kind)]
    qualifier = mapping["FunctionArn"].partition(":function:")[2].partition(":")[2]
    if not qualifier or qualifier.isdigit() or qualifier.startswith("$"):
        fix = f"point it at one (aws lambda update-event-source-mapping --uuid {uuid} --function-name FUNCTION:ALIAS)"
        found.append(fault(f"mapping {uuid} points at {qualifier or '$LATEST'}, not at an alias", fix))
    return found or [ok(f"mapping {uuid} is enabled and points at alias {qualifier}; its rollouts are of mode {mode}")]


def _as_fault(refusal: str) -> Found:
    """Return a refusal, ``field: what is wrong; how to correct it``, as a fault."""
    message, _, fix = refusal.removeprefix("target.mapping: ").partition("; ")
    return fault(message, fix or "choose another target")


class SourceQueueFacts(NamedTuple):
    """The queue that a consumer reads."""

    name: str
    attributes: Mapping[str, str]
    timeout: int
    """Timeout of the function in seconds."""
    batch_size: int
    reports_items: bool
    """Whether the mapping has ReportBatchItemFailures."""
    dead_letters_exist: bool = True
    holds: bool = False
    """True if its dead letters go to a rollout's own queue, although no rollout moves the consumer."""


def check_queue(queue: SourceQueueFacts) -> list[Found]:
    """Judge what becomes of messages that fail."""
    found = []
    visibility = int(queue.attributes.get("VisibilityTimeout", 30))
    found += [_as_fault(each) for each in visibility_faults(visibility, queue.timeout, "$LATEST or the alias")]
    if queue.timeout <= visibility < VISIBILITY_TIMES * queue.timeout:
        fix = f"raise it to {VISIBILITY_TIMES * queue.timeout} s, so that Lambda can retry throttled batches"
        found.append(
            warning(
                f"the visibility timeout of {queue.name}, {visibility} s, is less than {VISIBILITY_TIMES} times the "
                f"function's timeout of {queue.timeout} s",
                fix,
            )
        )
    policy = json.loads(queue.attributes.get("RedrivePolicy") or "{}")
    if not policy:
        fix = "give it a dead-letter queue (set-queue-attributes, RedrivePolicy), which TargetQueues covers too"
        found.append(
            warning(
                f"{queue.name} has no dead-letter queue: a message that fails is received again until it expires, and "
                "a rollout cannot hold it back",
                fix,
            )
        )
    else:
        dead_letters = policy["deadLetterTargetArn"].rpartition(":")[2]
        if queue.holds:
            fix = (
                "bring back what it holds, and set your own policy again (docs/operate.md, When a rollout was stopped)"
            )
            found.append(fault(f"dead letters of {queue.name} still go to {dead_letters}, a rollout's own queue", fix))
        if not queue.dead_letters_exist:
            fix = "create it, or set another redrive policy"
            found.append(fault(f"{dead_letters}, the dead-letter queue of {queue.name}, does not exist", fix))
        if (receives := int(policy["maxReceiveCount"])) < MIN_RECEIVES:
            fix = f"raise it to {MIN_RECEIVES} or more: receives of throttled batches count too"
            found.append(warning(f"maxReceiveCount of {queue.name} is {receives}", fix))
    if queue.batch_size > 1 and not queue.reports_items:
        fix = "set FunctionResponseTypes to ReportBatchItemFailures, and return the failed items"
        found.append(warning(f"one message that fails makes all {queue.batch_size} of its batch fail", fix))
    return found or [ok(f"{queue.name} has a dead-letter queue after {policy['maxReceiveCount']} receives, and a "
                        f"visibility timeout of {visibility} s")]  # fmt: skip


def check_stream(mapping: Mapping[str, Any]) -> list[Found]:
    """Judge what becomes of a stream's batches that fail."""
    found = []
    attempts, age = mapping.get("MaximumRetryAttempts", -1), mapping.get("MaximumRecordAgeInSeconds", -1)
    destination = ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
    if -1 in (attempts, age) and attempts == age:
        fix = "set MaximumRetryAttempts or MaximumRecordAgeInSeconds, and an on-failure destination"
        found.append(warning("a record that always fails blocks its shard until it expires", fix))
    elif not destination:
        fix = "set an on-failure destination (DestinationConfig), a queue that TargetQueues covers"
        found.append(warning("batches that the mapping gives up on are lost: it has no on-failure destination", fix))
    elif ":sqs:" not in destination:
        fix = "use a queue, so that a rollout can hold failed batches and deliver them again"
        found.append(warning(f"the on-failure destination is {destination}, which no redrive can read", fix))
    reports = "ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or ())
    if not mapping.get("BisectBatchOnFunctionError") and not reports and mapping.get("BatchSize", 100) > 1:
        fix = "set BisectBatchOnFunctionError, or ReportBatchItemFailures in FunctionResponseTypes"
        found.append(warning("one record that fails makes its whole batch fail again and again", fix))
    return found or [ok(f"batches that fail go to {destination}")]


def source_parameter(mapping: Mapping[str, Any]) -> tuple[str, str]:
    """Return the parameter that covers a mapping's source, and the name that it must cover.

    For a DynamoDB stream, that is the name of its table.
    """
    source, kind = source_of(mapping)
    if reads_queue(kind):
        return "TargetQueues", source.rpartition(":")[2]
    return "TargetStreams", source.split("/")[1]
