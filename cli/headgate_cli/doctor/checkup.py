"""The checks in their order: each reads, then judges. What the caller may not read is not checked, and no failure."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.errors import message_of
from headgate.aws.own_resources import OwnResources
from headgate.history.items import BY_STATUS
from headgate.spec.targets import EcsServiceTarget, EventSourceTarget, LambdaAliasTarget
from headgate.targets.event_source.settings import kind_of, reads_queue
from headgate_cli.doctor import installation, services, targets, triggers
from headgate_cli.doctor.findings import Finding
from headgate_cli.doctor.reader import Reader
from headgate_cli.doctor.target_reader import AliasReader, read_mapping, read_queue
from headgate_cli.failures import Failure
from headgate_cli.records import HELD_LOCKS, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from headgate.spec.targets import Target
    from headgate.targets.ecs_service.lookup import ServiceFacts
    from headgate_cli.doctor.findings import Found
    from headgate_cli.stack import Stack

INDEXES = (HELD_LOCKS, BY_STATUS)
"""Indexes of the table that Headgate reads."""


class Check(NamedTuple):
    """A check: its name, and what reads and judges."""

    name: str
    make: Callable[[], list[Found]]


def run(checks: Iterable[Check], on_check: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Make checks, and return their findings in order.

    Parameters
    ----------
    on_check
        Called with the name of each check before it is made.
    """
    findings = []
    for check in checks:
        on_check(check.name)
        try:
            found = check.make()
        except (ClientError, Failure) as error:
            why = message_of(error) if isinstance(error, ClientError) else error.format_message()
            findings.append(Finding(check=check.name, severity="not-checked", message=f"not checked: {why}"))
            continue
        findings += [Finding(check=check.name, severity=each[0], message=each[1], fix=each[2]) for each in found]
    return findings


def checks_of_installation(stack: Stack, *, peek: bool) -> list[Check]:
    """Return the checks of an installation.

    Parameters
    ----------
    peek
        Also read the reason of the newest dead letters.
    """
    reader = Reader(stack, peek=peek)

    def subscribers() -> list[Found]:
        return installation.check_subscribers(reader.subscriptions(), stack.output("NotificationsTopicArn"))

    return [
        Check("stack", lambda: installation.check_stack(stack.description)),
        Check("version", lambda: installation.check_version(command_version(), stack.outputs.get("Version"))),
        Check("functions", lambda: installation.check_functions(reader.functions(), stack.output("HeadgateLayerArn"))),
        Check("roles", lambda: installation.check_roles(reader.roles())),
        Check("machines", lambda: installation.check_machines(reader.machines())),
        Check("rules", lambda: installation.check_rules(reader.rules())),
        Check("mappings", lambda: installation.check_mappings(reader.mappings())),
        Check("table", lambda: installation.check_table(reader.table_facts(), INDEXES)),
        Check("key", lambda: installation.check_key(stack.parameters.get("KmsKeyArn", ""), reader.key())),
        Check("patterns", lambda: installation.check_patterns(stack.parameters)),
        Check("triggers", lambda: triggers.check_triggers(stack.parameters, reader)),
        Check("quota", lambda: installation.check_quota(*reader.concurrency())),
        Check("subscribers", subscribers),
        Check("alarms", lambda: installation.check_alarms(reader.alarms())),
        Check("queues", lambda: installation.check_queues(reader.queues())),
        Check("dead-letters", lambda: installation.check_dead_letters(reader.dead_letters())),
        Check("locks", lambda: installation.check_locks(reader.locks(), datetime.now(UTC))),
        Check("held-queues", lambda: installation.check_held_queues(reader.held_queues())),
    ]


def checks_of_target(stack: Stack, target: Target) -> Iterator[Check]:
    """Yield the checks of a target. What a later one needs is read by an earlier one, and its lack is the finding."""
    match target:
        case EventSourceTarget():
            yield from _checks_of_consumer(stack, target)
        case EcsServiceTarget():
            yield from _checks_of_service(stack, target)
        case LambdaAliasTarget():
            yield from _checks_of_alias(stack, target, target.key)


def _checks_of_alias(stack: Stack, target: LambdaAliasTarget, key: str) -> Iterator[Check]:
    parameters, name = stack.parameters, f"{target.name}:{target.alias}"
    own = OwnResources(stack.prefix, {})
    alias = AliasReader(stack, Records(stack), target, key)

    def permission() -> list[Found]:
        pattern = parameters.get("TargetFunctions", "")
        return targets.check_own(target.name, own) or targets.check_permission("TargetFunctions", pattern, target.name)

    def owner() -> list[Found]:
        found, leaves_alone = alias.owner()
        return targets.check_owner(name, found, leaves_alone=leaves_alone)

    yield Check("target-permission", permission)
    yield Check("target-alias", lambda: targets.check_alias(alias.alias))
    if not _is_there(alias):
        return
    yield Check("target-versions", lambda: targets.check_code(target.name, alias.configurations))
    yield Check("target-concurrency", lambda: targets.check_concurrency(target.name, alias.reserved))
    yield Check("target-provisioned", lambda: targets.check_provisioned(target.name, target.alias, alias.provisioned()))
    yield Check("target-stack", owner)
    yield Check("target-evidence", lambda: targets.check_evidence(name, alias.evidence(), datetime.now(UTC)))


def _is_there(alias: AliasReader) -> bool:
    """Return whether there is an alias to look at. One that could not be read is reported by its own check."""
    try:
        return bool(alias.alias.version)
    except ClientError:
        return False


def _checks_of_consumer(stack: Stack, target: EventSourceTarget) -> Iterator[Check]:
    read: list[dict[str, object]] = []

    def the_mapping() -> list[Found]:
        found = read_mapping(stack, target.mapping)
        read.extend([found] if found else [])
        return targets.check_mapping(found, target.mapping)

    yield Check("target-mapping", the_mapping)
    if not read:  # It does not exist, or may not be read.
        return
    [mapping] = read

    def source() -> list[Found]:
        parameter, name = targets.source_parameter(mapping)
        return targets.check_permission(parameter, stack.parameters.get(parameter, ""), name)

    function, _, qualifier = str(mapping["FunctionArn"]).partition(":function:")[2].partition(":")
    if qualifier and not qualifier.isdigit() and not qualifier.startswith("$"):
        through = LambdaAliasTarget(kind="lambda-alias", function=function, alias=qualifier)
        reader = AliasReader(stack, Records(stack), through, target.key)
        yield from _checks_of_alias(stack, through, target.key)
        yield Check("target-source", source)
        yield Check("target-failures", lambda: _failures(stack, mapping, reader))


def _checks_of_service(stack: Stack, target: EcsServiceTarget) -> Iterator[Check]:
    from headgate_cli.doctor.service_reader import ServiceReader

    reader = ServiceReader(stack, Records(stack), target)
    read: list[ServiceFacts] = []

    def the_service() -> list[Found]:
        # What the rollout has moved would be found at fault.
        found = "" if reader.rollout else reader.found
        read.extend([] if isinstance(found, str) else [found])
        return services.check_service(found, reader.rollout)

    yield Check("target-permission", lambda: services.check_names(target, stack.parameters))
    yield Check("target-service", the_service)
    yield Check("target-left", lambda: services.check_left(target.name, reader.left()))
    if not (read or reader.is_there):
        return
    yield Check("target-scaling", lambda: services.check_scaling(target, reader.suspended(), reader.rollout))
    if not read:  # A rollout moves it, or it cannot be rolled out.
        return
    [facts] = read
    yield Check("target-balancers", lambda: services.check_balancers(facts, stack.parameters.get("TargetRules", "")))
    yield Check("target-stack", lambda: services.check_stacks(target.name, reader.stacks(facts)))
    yield Check(
        "target-evidence", lambda: services.check_evidence(target.name, reader.evidence(facts), datetime.now(UTC))
    )


def _failures(stack: Stack, mapping: dict[str, object], alias: AliasReader) -> list[Found]:
    if reads_queue(kind_of(str(mapping.get("EventSourceArn")))):
        return targets.check_queue(read_queue(stack, mapping, alias.timeout, alias.rollout))
    return targets.check_stream(mapping)


def command_version() -> str:
    """Return the version of this command."""
    try:
        return version("headgate")
    except PackageNotFoundError:
        raise Failure("the version of this command is not known; install it as docs/deploy.md says") from None
