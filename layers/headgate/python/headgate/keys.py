"""The keys of the table's items. The table's design is in docs/how-it-works.md."""

from __future__ import annotations

ROLLOUT_SK = "ROLLOUT"
"""Sort key of a rollout's record."""

LOCK_SK = "LOCK"
"""Sort key of a target's lock."""

THROUGH_SK = "THROUGH"
"""Sort key of the mark on an alias or a listener rule that names the consumer's or service's rollout that moves it."""

RULE_MARK = "listener-rule/"
"""Prefix of the key of a listener rule, which is the ARN of the rule, or of a listener for its default actions."""

EVIDENCE_SK = "EVIDENCE"
"""Sort key of a rollout's ledger, with the counts of its newest steps."""

EVIDENCE_PREFIX = "EVIDENCE#"
"""Prefix of the sort keys of the steps whose counts left the ledger."""

UNITS_SK = "UNITS"
"""Sort key of the units that failed recently in a rollout."""

TELEMETRY_SK = "TELEMETRY"
"""Sort key of the note on a target that it sends telemetry."""

REJECTED_SK = "REJECTED"
"""Sort key of the note on a function that its $LATEST holds code that a rollout rejected."""

JOB_SK = "JOB"
"""Sort key of the request of an ECS task or a redrive."""

WAIT_PREFIX = "WAIT#"
"""Prefix of the sort keys of the places in a target's line."""

PAST_PREFIX = "PAST#"
"""Prefix of the sort keys of the requests that a target ever got."""

STEP_PREFIX = "STEP#"
"""Prefix of the sort keys of bakes."""

PAUSE_PREFIX = "PAUSE#"
"""Prefix of the sort keys of pauses."""

LOOK_PREFIX = "LOOK#"
"""Prefix of the sort keys of looks."""

EVENT_PREFIX = "EVENT#"
"""Prefix of the sort keys of the outbox. The stream filter in the template has it, too."""

SIGNAL_PREFIX = "SIGNAL#"
"""Prefix of the keys of what became of signals that no rollout's record holds."""

HOOK_PREFIX = "HOOK#"
"""Prefix of the sort keys of what hooks answered. The hooks machine writes them."""

STOPPED_PREFIX = "STOPPED#"
"""Prefix of the sort keys of the tasks of an ECS service's candidate that stopped by themselves during a rollout."""

TRIGGERED_PREFIX = "TRIGGERED#"
"""Prefix of the sort keys of the notes on a target about the latest event of a trigger."""

RESOURCE_SK = "RESOURCE"
"""Sort key of the state of a custom resource of a CloudFormation stack."""

REQUEST_PREFIX = "REQUEST#"
"""Prefix of the sort keys of CloudFormation's requests about a custom resource."""

STACK_SK = "STACK"
"""Sort key of the claim of a custom resource on a target."""

WATCHES_PK = "WATCHES"
"""Partition key of all watches of promoted rollouts, so that one query lists them, and of the undos they asked for.
The sort keys come from ``rollout_pk`` and ``event_sk``."""

_ROLLOUT, _TARGET, _ALARM, _SHARD, _FUNCTION = "ROLLOUT#", "TARGET#", "ALARM#", "SHARD#", "FUNCTION#"


def rollout_pk(rollout_id: str) -> str:
    """Partition key of all items of a rollout."""
    return f"{_ROLLOUT}{rollout_id}"


def rollout_id_in(key: str) -> str:
    """Return the rollout id in a key from ``rollout_pk``."""
    return key.removeprefix(_ROLLOUT)


def job_pk(kind: str, job_id: str) -> str:
    """Partition key of all items of a job: ``TASK#id`` or ``REDRIVE#id``."""
    return f"{kind.upper()}#{job_id}"


def target_pk(target_key: str) -> str:
    """Partition key of a target's lock, of the places in its line, of its past requests, and of the notes on it."""
    return f"{_TARGET}{target_key}"


def target_key_in(key: str) -> str:
    """Return the target's key in a key from ``target_pk``."""
    return key.removeprefix(_TARGET)


def function_pk(function: str) -> str:
    """Partition key of the note on a function, whose $LATEST all its aliases and consumers share."""
    return f"{_FUNCTION}{function}"


def alarm_pk(alarm: str) -> str:
    """Partition key of the rollouts that an alarm guards. Their sort keys come from ``rollout_pk``."""
    return f"{_ALARM}{alarm}"


def shard_pk(shard: str) -> str:
    """Partition key of a shard's watermarks. Their sort keys are the partition keys of the stream."""
    return f"{_SHARD}{shard}"


def shard_in(key: str) -> str:
    """Return the shard in a key from ``shard_pk``."""
    return key.removeprefix(_SHARD)


def wait_sk(arrival: int) -> str:
    """Sort key of a place in a target's line."""
    return f"{WAIT_PREFIX}{arrival:012d}"


def past_sk(created_at: str, rollout_id: str) -> str:
    """Sort key of a request that a target got. Later requests sort after earlier ones."""
    return f"{PAST_PREFIX}{created_at}#{rollout_id}"


def triggered_sk(trigger: str, series: str) -> str:
    """Sort key of the note on a target about the latest event of a trigger.

    Parameters
    ----------
    series
        What else the event's order is about, such as a function whose versions are counted.
    """
    return f"{TRIGGERED_PREFIX}{trigger}#{series}"


def event_sk(name: str) -> str:
    """Sort key of an entry of the outbox."""
    return f"{EVENT_PREFIX}{name}"


def signal_pk(signal_id: str) -> str:
    """Partition key of a signal that names no rollout."""
    return f"{SIGNAL_PREFIX}{signal_id}"


def signal_sk(signal_id: str) -> str:
    """Sort key of what became of a signal that its rollout's record does not hold."""
    return f"{SIGNAL_PREFIX}{signal_id}"


def stopped_task_sk(task_id: str) -> str:
    """Sort key of a task of the candidate that stopped by itself."""
    return f"{STOPPED_PREFIX}{task_id}"


def evidence_sk(step: int) -> str:
    """Sort key of the counts of a step that left the ledger."""
    return f"{EVIDENCE_PREFIX}{step:03d}"


def evidence_step_in(key: str) -> int:
    """Return the step in a key from ``evidence_sk``."""
    return int(key.removeprefix(EVIDENCE_PREFIX))


def look_sk(version: int) -> str:
    """Sort key of a look at a ledger."""
    return f"{LOOK_PREFIX}{version:08d}"


def step_key(step: int, bake: int) -> str:
    """Sort key of the record of one bake of one step."""
    return f"{STEP_PREFIX}{step:03d}#{bake:02d}"


def step_and_bake_in(key: str) -> tuple[int, int]:
    """Return the step and bake in the sort key of a bake's record."""
    step, _, bake = key.removeprefix(STEP_PREFIX).partition("#")
    return int(step), int(bake)


def pause_key(pause: int) -> str:
    """Sort key of the record of a rollout's n-th pause."""
    return f"{PAUSE_PREFIX}{pause:03d}"


def is_pause(key: str) -> bool:
    """Return whether a sort key belongs to a pause."""
    return key.startswith(PAUSE_PREFIX)


def stack_pk(stack_id: str, logical_id: str) -> str:
    """Partition key of all items of a custom resource of a stack."""
    return f"STACK#{stack_id}#{logical_id}"


def stack_request_sk(request_id: str) -> str:
    """Sort key of one of CloudFormation's requests about a custom resource."""
    return f"{REQUEST_PREFIX}{request_id}"
