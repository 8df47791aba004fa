"""Checks of an installation. Each judges what a reader has collected, and asks nobody.

Severities: see ``findings``. Every message names the thing, and every fix is a sentence that a person can follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.history.wording import listed
from headgate_cli.doctor.findings import Found, fault, ok, warning
from headgate_cli.rollouts import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

REDEPLOY = "deploy the stack again from the same version (docs/operate.md, Upgrade)"

SETTLE_SECONDS = 300
"""How long the warden, which looks each minute, may take to settle a rollout before it is worth a person's time."""

MIN_UNRESERVED = 100
"""Concurrency that Lambda leaves to functions without reserved concurrency.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""


# The stack


def check_stack(description: Mapping[str, Any]) -> list[Found]:
    """Judge the status of the stack, and what its last drift detection found."""
    name, status = description["StackName"], str(description["StackStatus"])
    events = f"read its events (aws cloudformation describe-stack-events --stack-name {name})"
    found = [ok(f"{name} is {status}")]
    if status.endswith("_FAILED") or status == "ROLLBACK_COMPLETE":
        found = [fault(f"{name} is {status}", f"{events}, correct the cause, and deploy again")]
    elif status == "UPDATE_ROLLBACK_COMPLETE":
        found = [warning(f"the last update of {name} failed and was rolled back", f"{events}, and deploy again")]
    elif status.endswith("_IN_PROGRESS"):
        found = [warning(f"{name} is {status}", "wait until it has ended, and run headgate doctor again")]
    drift = description.get("DriftInformation", {})
    if drift.get("StackDriftStatus") == "DRIFTED":
        fix = (
            "compare (aws cloudformation describe-stack-resource-drifts --stack-name "
            f"{name}), and undo what was changed by hand, or change the template"
        )
        found.append(warning(f"the last drift detection found that {name} differs from its template", fix))
    return found


def check_version(command: str, stack: str | None) -> list[Found]:
    """Compare the version of the command with that of the stack, which older stacks do not tell."""
    if stack is None:
        return [
            warning(
                f"the stack does not tell its version, so it is older than this command ({command})",
                "upgrade the stack (docs/operate.md, Upgrade)",
            )
        ]
    if command == stack:
        return [ok(f"the command and the stack are version {stack}")]
    if _numbers(stack) < _numbers(command):
        fix = f"upgrade the stack to {command} (docs/operate.md, Upgrade), or install version {stack} of the command"
    else:
        fix = f"install version {stack} of the command (docs/deploy.md)"
    return [warning(f"the stack is version {stack}, and this command is version {command}", fix)]


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers. What is no number counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


# Functions, roles, machines


class FunctionFacts(NamedTuple):
    """One of Headgate's functions, as Lambda describes it."""

    name: str
    configuration: Mapping[str, Any] | None
    """None if it does not exist."""
    reserved: int | None
    """Its reserved concurrency; None if it has none."""
    role: str
    """Name of the role that the stack has made for it; empty if there is none."""


def check_functions(functions: Sequence[FunctionFacts], layer: str) -> list[Found]:
    """Check that each function is there and runs, as its own role and with the code of this deployment.

    Parameters
    ----------
    layer
        ARN of the version of Headgate's layer that the stack has deployed.
    """
    found = [each for function in functions for each in _faults_of(function, layer)]
    shared = _shared_roles(functions)
    found += [
        fault(f"{', '.join(names)} share the role {role}, so each may do what another one needs", REDEPLOY)
        for role, names in shared.items()
    ]
    return found or [ok(f"all {len(functions)} functions are active, each with its own role, and with the same code")]


def _faults_of(function: FunctionFacts, layer: str) -> Iterable[Found]:
    name, configuration = function.name, function.configuration
    if configuration is None:
        yield fault(f"function {name} does not exist", REDEPLOY)
        return
    state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
    if state == "Inactive":
        yield warning(f"{name} is inactive, so its next run is late", f"invoke {name} once, and look again in a minute")
    elif state != "Active":
        why = configuration.get("StateReason") or "without a reason"
        yield fault(f"{name} is {state}: {why}", f"correct that, and {REDEPLOY}")
    if update == "Failed":
        why = configuration.get("LastUpdateStatusReason") or "without a reason"
        yield fault(f"the last update of {name} failed: {why}", f"correct that, and {REDEPLOY}")
    if function.reserved == 0:
        yield fault(
            f"{name} has a reserved concurrency of 0, so it never runs",
            f"delete it (aws lambda delete-function-concurrency --function-name {name}), or set Headgate's parameter "
            "ReservedConcurrency",
        )
    role = str(configuration.get("Role", "")).rpartition("/")[2]
    if function.role and role != function.role:
        yield fault(f"{name} runs as the role {role}, not as its own, {function.role}", REDEPLOY)
    layers = [str(each.get("Arn")) for each in configuration.get("Layers", [])]
    if layer and layer not in layers:
        theirs = next((each for each in layers if each.rpartition(":")[0] == layer.rpartition(":")[0]), "none")
        yield fault(f"{name} runs other code than the stack: it has the layer {theirs}, not {layer}", REDEPLOY)


def _shared_roles(functions: Iterable[FunctionFacts]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for function in functions:
        if function.configuration is not None and (role := str(function.configuration.get("Role", ""))):
            users.setdefault(role.rpartition("/")[2], []).append(function.name)
    return {role: names for role, names in users.items() if len(names) > 1}


def check_roles(exists: Mapping[str, bool]) -> list[Found]:
    """Check that the roles of the stack exist."""
    fix = (
        "create it again under this name with the policies that template.yaml gives it: CloudFormation makes no role "
        "again whose resource has not changed"
    )
    missing = [fault(f"role {role} of the stack was deleted", fix) for role, there in exists.items() if not there]
    return missing or [ok(f"all {len(exists)} roles exist")]


def check_machines(statuses: Mapping[str, str | None]) -> list[Found]:
    """Check that the state machines exist."""
    wrong = {name: status for name, status in statuses.items() if status != "ACTIVE"}
    return [
        fault(f"state machine {name} {f'is {status}' if status else 'does not exist'}", REDEPLOY)
        for name, status in wrong.items()
    ] or [ok(f"all {len(statuses)} state machines are active")]


# What Headgate may reach


PATTERNS = (
    *("TargetFunctions", "TargetQueues", "TargetStreams", "TargetServices", "HookFunctions", "HookMachines"),
    "CountFunctions",
    *("TaskDefinitions", "TaskRoles", "CodeObjects", "CodeRepositories", "RedriveQueues", "RedriveStreams"),
)
"""Parameters whose patterns say what a request may reach."""

NARROWING = ("TargetClusters", "TargetRules")
"""Parameters that narrow TargetServices: by themselves they allow nothing."""


def check_patterns(parameters: Mapping[str, str]) -> list[Found]:
    """Judge the parameters that say what a request may reach."""
    opened = [name for name in PATTERNS if parameters.get(name) == "*"]
    closed = [name for name in PATTERNS if name in parameters and not parameters[name]]
    found = []
    if opened:
        fix = "narrow them to names of your own, such as TargetFunctions=shop-* (docs/security.md)"
        found.append(warning(f"{', '.join(opened)} allow every resource of their kind in the account", fix))
    told = (*PATTERNS, *(NARROWING if parameters.get("TargetServices") else ()))
    narrow = {name: parameters[name] for name in told if parameters.get(name) not in (None, "", "*")}
    if narrow:
        found.append(ok("; ".join(f"{name} is {pattern}" for name, pattern in narrow.items())))
    if closed:
        allow = "is empty and allows" if len(closed) == 1 else "are empty and allow"
        found.append(ok(f"{listed(closed)} {allow} nothing"))
    return found or [ok("the stack has no patterns")]


# Queues, alarms, and how people hear of them


class QueueFacts(NamedTuple):
    """A queue of the stack."""

    logical_id: str
    url: str
    messages: int
    """Visible ones, those in flight and delayed ones."""
    oldest_seconds: int | None = None
    """Age of the oldest message by CloudWatch; None without a value of the last minutes."""
    reason: str = ""
    """For dead letters: why the newest of those that were read came here. Empty if they were not read."""


OLD_SECONDS = 300


def check_queues(queues: Sequence[QueueFacts]) -> list[Found]:
    """Judge the queues of requests by the age of their oldest message. A depth alone says nothing."""
    late = [queue for queue in queues if queue.messages and (queue.oldest_seconds or 0) > OLD_SECONDS]
    fix = "read the log of the function that takes them in: intake, or starter for JobQueue"
    found = [
        fault(
            f"{each.logical_id} has {_counted(each.messages, 'message')}, the oldest {each.oldest_seconds} s old", fix
        )
        for each in late
    ]
    waiting = sum(queue.messages for queue in queues)
    said = f"{_counted(waiting, 'message')} wait, none for long" if waiting else "no request waits"
    return found or [ok(f"{said} in {_counted(len(queues), 'queue')}")]


def check_dead_letters(queues: Sequence[QueueFacts]) -> list[Found]:
    """Report messages that wait for a person."""
    found = []
    for queue in queues:
        if not queue.messages:
            continue
        said = f"; the newest of those read: {queue.reason}" if queue.reason else ""
        look = (
            f"read the attribute reason (aws sqs receive-message --queue-url {queue.url} --visibility-timeout 0 "
            "--message-attribute-names All)"
        )
        cure = DEAD_LETTER_CURES.get(queue.logical_id, "then move it back or delete it")
        found.append(fault(f"{queue.logical_id} has {_counted(queue.messages, 'message')}{said}", f"{look}; {cure}"))
    return found or [ok(f"no message in {len(queues)} queues of dead letters")]


DEAD_LETTER_CURES = {
    "RequestDeadLetters": "send the corrected request under a new id, and delete the message",
    "RequestFifoDeadLetters": "send the corrected request under a new id, and delete the message",
    "JobDeadLetters": "send the corrected task or redrive; move a message without a reason back to JobQueue",
    "SignalDeadLetters": "send the right signal, and delete the message",
    "Undelivered": "docs/how-it-works.md, Delivery, says what it may be",
}
"""What to do about a message, by the logical id of its queue. docs/operate.md has the same in its table of alarms."""


ALARM_CURES = {
    "DeadLettersAlarm": "read the reason of the newest message (see dead-letters), and send what was meant again",
    "UndeliveredAlarm": "read the messages of Undelivered; docs/how-it-works.md, Delivery, says what they may be",
    "UnsettledAlarm": "read the log of the warden, and docs/operate.md, When a rollout cannot be settled",
    "FailedExecutionsAlarm": "read the history of the execution, which the topic has announced",
    "OutboxAgeAlarm": "read the log of publisher: the bus, the key or the function's concurrency",
    "SignallerErrorsAlarm": "read the log of signaller; if an abort is urgent, send it again",
    "JudgeErrorsAlarm": "read the log of judge",
    "DriverErrorsAlarm": "read the log of the driver: most often a permission, or a throttled API",
    "ThrottlesAlarm": "find what uses up the account's concurrency, abort its rollout or limit it; then set "
    "ReservedConcurrency",
}
"""What to do about an alarm, by the end of its logical id."""


class AlarmFacts(NamedTuple):
    """An alarm of the stack."""

    logical_id: str
    state: str
    """Empty if it does not exist."""
    reason: str = ""
    acts: bool = True
    """False if its actions are disabled."""


def check_alarms(alarms: Sequence[AlarmFacts]) -> list[Found]:
    """Judge Headgate's own alarms."""
    found = []
    for alarm in alarms:
        name = alarm.logical_id
        if not alarm.state:
            found.append(fault(f"{name} does not exist", REDEPLOY))
        elif alarm.state == "ALARM":
            found.append(fault(f"{name} is in ALARM: {alarm.reason}", cure_of(name)))
        elif alarm.state == "INSUFFICIENT_DATA":
            fix = "wait for five minutes after a deployment; then check that the alarm's metric still exists"
            found.append(warning(f"{name} has no data yet", fix))
        if alarm.state and not alarm.acts:
            fix = f"enable them (aws cloudwatch enable-alarm-actions --alarm-names with the name of {name})"
            found.append(warning(f"the actions of {name} are disabled, so nobody hears of it", fix))
    return found or [ok(f"all {len(alarms)} alarms are OK")]


def cure_of(alarm: str) -> str:
    """Return what to do about an alarm of the stack that is in ALARM."""
    return next((cure for end, cure in ALARM_CURES.items() if alarm.endswith(end)), "read docs/operate.md, Alarms")


def check_subscribers(subscriptions: Sequence[Mapping[str, str]], topic: str) -> list[Found]:
    """Check that somebody hears what the topic announces."""
    pending = [each for each in subscriptions if each.get("SubscriptionArn") in ("PendingConfirmation", "")]
    confirmed = len(subscriptions) - len(pending)
    found = [
        warning(
            f"the subscription of {each.get('Endpoint', 'an endpoint')} is not confirmed",
            "open the link in the message that it got, or subscribe it again",
        )
        for each in pending
    ]
    if not confirmed:
        subscribe = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.com"
        found.append(warning("nobody hears of rollbacks and alarms: the topic has no subscriber", subscribe))
    return found or [ok(f"{_counted(confirmed, 'subscriber')} of the topic")]


# What starts the functions


def check_rules(states: Mapping[str, str | None]) -> list[Found]:
    """Check that the rules are there and enabled."""
    found = []
    for name, state in states.items():
        if state is None:
            found.append(fault(f"rule {name} does not exist", REDEPLOY))
        elif state == "DISABLED":
            fix = "enable it (aws events enable-rule); requests that came meanwhile are lost"
            found.append(fault(f"rule {name} is disabled, so what it carries is dropped", fix))
    return found or [ok(f"all {len(states)} rules are enabled")]


class MappingFacts(NamedTuple):
    """An event source mapping of the stack."""

    logical_id: str
    uuid: str
    state: str
    """Empty if it does not exist."""
    last_result: str = ""
    """``LastProcessingResult``: only streams have one."""


def check_mappings(mappings: Sequence[MappingFacts]) -> list[Found]:
    """Check that the mappings that feed Headgate's functions work."""
    found = []
    for mapping in mappings:
        named = f"event source mapping {mapping.logical_id}"
        if not mapping.state:
            found.append(fault(f"{named} does not exist", REDEPLOY))
        elif mapping.state in ("Disabled", "Disabling"):
            fix = f"enable it (aws lambda update-event-source-mapping --uuid {mapping.uuid} --enabled)"
            found.append(fault(f"{named} is {mapping.state}, so what it reads waits", fix))
        elif mapping.state != "Enabled":
            found.append(warning(f"{named} is {mapping.state}", "wait a minute, and run headgate doctor again"))
        if mapping.last_result.startswith("PROBLEM"):
            fix = "read the log of its function; if it is a permission, deploy the stack again"
            found.append(fault(f"{named} fails: {mapping.last_result}", fix))
    return found or [ok(f"all {len(mappings)} event source mappings are enabled")]


# Locks and queues of rollouts


class LockFacts(NamedTuple):
    """A target's lock, the rollout that holds it, and its execution."""

    target: str
    rollout: str
    status: str | None
    """Of the record; None without one."""
    since: datetime | None
    """When the rollout ended, or its execution did, or, without an execution, when it took the lock."""
    execution: str | None
    """Status of the execution; None if there is none."""
    has_ended: bool = False


def check_locks(locks: Sequence[LockFacts], now: datetime) -> list[Found]:
    """Report locks that nobody will release: the warden ends such a rollout within minutes."""
    found = [each for lock in locks if (each := _stale(lock, now))]
    running = len(locks) - len(found)
    held = (
        f"{running} locked target{'s have' if running != 1 else ' has'} a rollout" if running else "no target is locked"
    )
    return [*found, ok(held)] if running or not found else found


def _stale(lock: LockFacts, now: datetime) -> Found | None:
    if not lock.has_ended and lock.execution == "RUNNING":
        return None
    if lock.status is None:
        why = f"rollout {lock.rollout} has no record"
    elif lock.has_ended:
        why = f"rollout {lock.rollout} has ended ({in_words(lock.status)})"
    elif lock.execution is None:
        why = f"the execution of rollout {lock.rollout} does not exist"
    else:
        why = f"the execution of rollout {lock.rollout} has ended ({lock.execution})"
    message = f"{lock.target} is locked, but {why}"
    if lock.since is not None and (now - lock.since).total_seconds() < SETTLE_SECONDS:
        return warning(message, "wait five minutes: the warden brings it to an end")
    return fault(message, "read the log of the warden, and docs/operate.md, When a rollout cannot be settled")


class HeldQueueFacts(NamedTuple):
    """A rollout's own queue."""

    name: str
    rollout: str
    """By its tag; empty without one."""
    runs: bool
    """True if the rollout has not ended."""
    messages: int


def check_held_queues(queues: Sequence[HeldQueueFacts]) -> list[Found]:
    """Report rollouts' own queues that were left behind."""
    found = []
    for queue in queues:
        if queue.runs:
            continue
        whose = f"of rollout {queue.rollout}, which has ended" if queue.rollout else "whose rollout is not known"
        message = f"queue {queue.name}, {whose}, still holds {_counted(queue.messages, 'message')}"
        if queue.messages:
            found.append(fault(message, "bring them back (docs/operate.md, When a rollout was stopped)"))
        else:
            fix = "check that no redrive policy names it any more, and delete it (aws sqs delete-queue)"
            found.append(warning(f"queue {queue.name}, {whose}, is left and empty", fix))
    running = sum(queue.runs for queue in queues)
    said = (
        f"{_counted(running, 'queue')} of running rollouts, and none that was"
        if running
        else "no rollout's own queue is"
    )
    return found or [ok(f"{said} left behind")]


# Table, key, quota


class TableFacts(NamedTuple):
    """The table with the records."""

    description: Mapping[str, Any] | None
    """None if it does not exist."""
    recovers: bool | None
    """Whether point-in-time recovery is on; None if that could not be read."""
    expires: bool | None
    """Whether items expire; None if that could not be read."""


def check_table(table: TableFacts, indexes: Sequence[str]) -> list[Found]:
    """Judge the table.

    Parameters
    ----------
    indexes
        Names of the indexes that Headgate reads.
    """
    if table.description is None:
        return [fault("the table does not exist, and with it every record is gone", "docs/operate.md, Uninstall")]
    name, found = table.description["TableName"], []
    if table.description["TableStatus"] not in ("ACTIVE", "UPDATING"):
        status = table.description["TableStatus"]
        found.append(fault(f"table {name} is {status}", "wait; if it stays so, restore the table from a backup"))
    if not table.description.get("StreamSpecification", {}).get("StreamEnabled"):
        found.append(fault(f"the stream of table {name} is off, so no event is published", REDEPLOY))
    there = {each["IndexName"]: each["IndexStatus"] for each in table.description.get("GlobalSecondaryIndexes", [])}
    for index in indexes:
        if index not in there:
            found.append(fault(f"table {name} has no index {index}", "upgrade the stack, or deploy it again"))
        elif there[index] != "ACTIVE":
            fix = "wait: DynamoDB builds it, and lists of rollouts are incomplete until then"
            found.append(warning(f"index {index} is {there[index]}", fix))
    if table.recovers is False:
        fix = f"enable it (docs/operate.md), or deploy the stack again; the table is {name}"
        found.append(warning("point-in-time recovery of the table is off, so a lost record cannot be restored", fix))
    if table.expires is False:
        found.append(warning("items of the table never expire, so it grows", REDEPLOY))
    return found or [ok(f"table {name} is active, with its stream, its indexes and point-in-time recovery")]


def check_key(key: str, description: Mapping[str, Any] | None) -> list[Found]:
    """Judge the customer-managed key.

    Parameters
    ----------
    key
        The parameter KmsKeyArn; empty without a key.
    description
        KeyMetadata of DescribeKey; None if the key does not exist.
    """
    if not key:
        return [ok("no customer-managed key is used")]
    state = description.get("KeyState") if description else "not there"
    if state == "Enabled":
        return [ok(f"key {key} is enabled")]
    fix = "enable it, or cancel its deletion: without it nothing can be read or written"
    return [fault(f"key {key} is {state}", fix)]


def check_quota(concurrent: int, unreserved: int) -> list[Found]:
    """Judge the concurrency of the account, which Headgate shares with the functions that it rolls out."""
    message = f"{unreserved} of the account's {concurrent} concurrent executions are not reserved"
    if concurrent < MIN_UNRESERVED or unreserved <= MIN_UNRESERVED:
        fix = "ask for a higher quota (Service Quotas, Lambda, Concurrent executions), or reserve less"
        return [warning(f"{message}, so a busy function may starve Headgate's own", fix)]
    return [ok(message)]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
