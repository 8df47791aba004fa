"""What comes next for a request about a custom resource. Pure: it neither reads nor changes anything.

A request goes through stages, of which ``state`` holds the current one. Each decision is either a deed, which the
planner does itself before it asks again, or a step, which the stack machine carries out.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.arns import execution_name, job_execution_name
from headgate.aws.stepfunctions import failure_reason
from headgate.errors import RequestRefused
from headgate.stacks.deeds import SUPERSEDED, Deed
from headgate.stacks.limits import (
    ASKED,
    RESERVE_SECONDS,
    fault_of,
    last_seconds,
    limit_seconds,
    times_of,
    times_of_first,
)
from headgate.stacks.properties import (
    fingerprint_of,
    in_properties,
    removes_alias,
    service_seconds,
    target_in,
)
from headgate.stacks.task import NO_TASK, attributes_of, fitted, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.stacks.event import StackEvent
    from headgate.stacks.facts import Facts

    State = dict[str, Any]
    Told = Mapping[str, Any]


POLL_SECONDS = 5

ABORT_AGAIN_SECONDS = 60
"""A signal may be refused at a moment when the rollout does not accept it yet."""

HOOK_WAKE_SECONDS = 200
"""What the hooks machine adds to the time of each hook for a function that sleeps."""

HOOKS_START_SECONDS = 60

TIMED_OUT = "CloudFormation does not wait any longer"


class Decision(NamedTuple):
    """What comes next."""

    state: dict[str, Any]
    """What the next decision needs to know."""
    step: dict[str, Any] = {}
    """What the state machine does."""
    deed: Deed | None = None
    """What the planner does, instead of a step."""


def decide(facts: Facts, state: State, told: Told) -> Decision:
    """Return what comes next.

    Parameters
    ----------
    facts
        What holds now.
    state
        The state of the last decision; empty at first.
    told
        What came of the last deed or step.
    """
    return _STAGES[state.get("stage", "begin")](facts, state, told)


# The beginning


def _begin(facts: Facts, state: State, told: Told) -> Decision:
    event = facts.event
    if fault := _fault_at_beginning(facts, told):
        return _fail(facts, state, fault)
    if facts.earlier or facts.earlier_starts:
        return _stop_earlier(facts, state)
    if event.request_type == "Delete":
        return _delete(facts, state, told)
    if event.is_task:
        return _run_task(facts, state)
    if facts.fault:
        # Going back to properties that never worked has nothing to undo.
        return _succeed_unchanged(facts, state) if facts.is_rolling_back else _fail(facts, state, facts.fault)
    if fault := _foreign_claim(facts):
        return _fail(facts, state, fault)
    if not facts.owns_claim:
        return Decision(state, deed=Deed("claim"))
    if facts.is_rolling_back:
        return _go_back(facts, state)
    return _before_the_plan(facts, state)


def _fault_at_beginning(facts: Facts, told: Told) -> str:
    if "refused" in told:
        return str(told["refused"])
    if not facts.is_latest:
        return SUPERSEDED
    if not facts.stack_status.endswith("_IN_PROGRESS"):
        status = facts.stack_status or "gone"
        return f"the request came too late: stack {facts.event.stack_name} is {status}. Nothing was changed"
    if _is_last_moment(facts):
        return f"{TIMED_OUT}. Nothing has moved; deploy again"
    if facts.fault and facts.event.is_task and not facts.is_rolling_back:
        return facts.fault
    return ""


def _foreign_claim(facts: Facts) -> str:
    """Return why this resource cannot have its target, if another one has it."""
    event, claim = facts.event, facts.claim
    if claim is None or facts.owns_claim or facts.claimant_is_gone:
        return ""
    if claim.stack_id != event.stack_id:
        theirs = claim.stack_id.partition(":stack/")[2].split("/")[0]
        return (
            f"Alias: the target belongs to the resource {claim.logical_id} of the stack {theirs}, and "
            f"{event.logical_id} of {event.stack_name} cannot have it too; remove one of the two, "
            "or give this one a target of its own"
        )
    if facts.stack_status == "CREATE_IN_PROGRESS":
        return (
            f"Alias: {claim.logical_id} and {event.logical_id} have the same target in one template; remove one of the "
            "two"
        )
    return ""


def _before_the_plan(facts: Facts, state: State) -> Decision:
    serving = facts.serving
    if serving and serving.alone and not state.get("remembered"):
        # A rollback of the stack goes back to what serves now, whoever put it there.
        deed = Deed("remember", version=serving.version, fingerprint=_name_of_now(facts))
        return Decision({**state, "remembered": True}, deed=deed)
    version = facts.wanted.version if facts.wanted else ""
    candidate = {"version": version} if version else {"publish": {"confirm": facts.latest_sha256}}
    return _plan(facts, state, {**_asked(facts), "candidate": candidate})


def _name_of_now(facts: Facts) -> str:
    """Return the name under which the version that serves now is remembered.

    It belongs to the old properties of an update. A target that the resource did not have has no properties.
    """
    event = facts.event
    if event.request_type == "Update" and not _is_replacement(facts):
        return fingerprint_of(event.old_properties)
    return _name_of_before(facts)


def _name_of_before(facts: Facts) -> str:
    return f"before/{facts.target.key}" if facts.target else ""


def _plan(facts: Facts, state: State, request: dict[str, Any]) -> Decision:
    step = {"do": "plan", "request": {"id": facts.event.rollout_id, **request}}
    return Decision({**state, "stage": "plan"}, step)


def _go_back(facts: Facts, state: State) -> Decision:
    """Take the target back to what served with these properties, without hooks and guards."""
    known = facts.resource.version_of(fingerprint_of(facts.event.properties)) if facts.resource else ""
    version = known or (facts.wanted.version if facts.wanted else "")
    serving = facts.serving
    if serving is None and version:
        entered = {**state, "stage": "create", "version": version, "ask": [], "outcome": "created"}
        return decide(facts, entered, {})
    if serving is None or (serving.alone and version in ("", serving.version)):
        return _succeed(facts, state, serving.version if serving else "", "unchanged")
    if not version:
        return _fail(
            facts,
            state,
            "the alias splits its invocations between two versions, and it is not known which of them served with "
            "these properties; end the rollout that moves it, and continue the rollback of the stack",
        )
    return _plan_at_once(facts, state, version)


def _plan_at_once(facts: Facts, state: State, version: str) -> Decision:
    target = _asked(facts)["target"]
    request = {"target": target, "candidate": {"version": version}, "strategy": "AllAtOnce", "guards": "none"}
    return _plan(facts, state, {**request, "onBusy": "refuse"})


# With a plan


def _planned(facts: Facts, state: State, told: Told) -> Decision:
    """Keep what is needed of the plan, and choose how to carry it out."""
    if failure := told.get("failure"):
        return _fail(facts, state, in_properties(_reason_of(failure)))
    plan, request = told["plan"], told["request"]
    service = service_seconds(facts.event.properties)
    kept = {
        **state,
        "stage": "choose",
        "request": request,
        "hooks": {stage: plan["hooks"].get(stage, []) for stage in ASKED},
        "tooLong": fault_of(times_of(plan), service),
        "firstTooLong": fault_of(times_of_first(plan), service),
    }
    return _choose(facts, kept, {})


def _choose(facts: Facts, state: State, told: Told) -> Decision:
    if fault := told.get("refused") or facts.fault:
        return _fail(facts, state, fault)
    if not facts.is_latest:
        return _fail(facts, state, SUPERSEDED)
    serving = facts.serving
    if serving is None or _serves(facts, state):
        kind = facts.event.request_type
        first = kind == "Create" or (serving is None and kind == "Update")
        if not first:
            return _succeed(facts, state, serving.version if serving else "", "unchanged")
        if state["firstTooLong"]:
            return _fail(facts, state, state["firstTooLong"])
        version = serving.version if serving else state["request"]["candidate"].get("version", "")
        stage = "ask" if serving else "create"
        entered = {**state, "stage": stage, "version": version, "since": facts.age, "ask": _stages_to_ask(state)}
        return decide(facts, {**entered, "outcome": "unchanged" if serving else "created"}, {})
    if state["tooLong"] and not facts.is_rolling_back:
        return _fail(facts, state, state["tooLong"])
    if not told.get("begun"):
        return Decision(state, deed=Deed("begin"))
    through = facts.through or facts.target
    arn = through.physical_id(facts.place) if through else ""
    return Decision({**state, "stage": "rolling", "aliasArn": arn}, _roll_out(facts, state))


def _roll_out(facts: Facts, state: State) -> dict[str, Any]:
    seconds = limit_seconds(service_seconds(facts.event.properties)) - facts.age
    return {
        "do": "roll-out",
        "name": execution_name(facts.event.rollout_id),
        "request": state["request"],
        "seconds": max(1, int(seconds)),
    }


def _serves(facts: Facts, state: State) -> bool:
    """Return whether the target serves what would be rolled out, and nothing else."""
    serving = facts.serving
    if serving is None or not serving.alone:
        return False
    version = state["request"]["candidate"].get("version")
    return serving.version == version if version else facts.latest_serves


def _stages_to_ask(state: State) -> list[str]:
    return [stage for stage in ASKED if state["hooks"][stage]]


# A new alias


def _create(facts: Facts, state: State, told: Told) -> Decision:
    """Publish the first version and create the alias. There is no traffic to shift."""
    if fault := told.get("refused") or facts.fault or ("" if facts.is_latest else SUPERSEDED):
        return _fail(facts, state, fault)
    version = told.get("version") or state["version"]
    state = {**state, "version": version}
    if facts.serving:
        if facts.serving.version == version:
            return decide(facts, {**state, "stage": "ask"}, {})
        return _fail(facts, state, "Alias: it was created by somebody else meanwhile; deploy again")
    if "busy" in told or facts.version_state == "Pending":
        return _wait_until_ready(facts, state, str(told.get("busy") or f"version {version} is not active yet"))
    if not version:
        return Decision(state, deed=Deed("publish"))
    if facts.version_state == "Failed":
        return _fail(facts, state, f"version {version} of the function could not be made active; see its StateReason")
    return Decision(state, deed=Deed("create-alias", version=version))


def _wait_until_ready(facts: Facts, state: State, why: str) -> Decision:
    ready = _asked(facts)["target"]["readySeconds"]
    if facts.age - state.get("since", 0) > ready or _is_last_moment(facts):
        return _fail(facts, state, f"ReadySeconds: after {ready} s, {why}; give it more time, or make it start sooner")
    return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})


def _ask(facts: Facts, state: State, told: Told) -> Decision:
    """Ask the hooks of a stage after the other, of the version that serves already."""
    if failure := told.get("failure"):
        return _fail(facts, state, f"Hooks.{state['asked']}: {_reason_of(failure)}")
    if not facts.is_latest:
        return _fail(facts, state, SUPERSEDED)
    if not state["ask"]:
        return _succeed(facts, state, state["version"], state.get("outcome", "unchanged"))
    stage, *others = state["ask"]
    hooks, request = state["hooks"][stage], state["request"]
    asked: dict[str, Any] = {
        "rolloutId": facts.event.rollout_id,
        "stage": stage,
        "target": request["target"],
        "stable": state["version"],
        "candidate": state["version"],
        "step": 0,
        "hooks": hooks,
    }
    if facts.through and facts.target and facts.target.mapping:
        through = {"kind": "lambda-alias", "function": facts.through.function, "alias": facts.through.alias}
        asked["through"] = through
    seconds = sum(hook["timeoutSeconds"] + HOOK_WAKE_SECONDS for hook in hooks) + HOOKS_START_SECONDS
    left = last_seconds(service_seconds(facts.event.properties)) - facts.age
    step = {
        "do": "ask",
        "name": f"stack-{_digest(facts.event)[:24]}-{stage}",
        "input": asked,
        "seconds": max(1, int(min(seconds, left))),
    }
    return Decision({**state, "ask": others, "asked": stage}, step)


# A rollout


def _rolling(facts: Facts, state: State, told: Told) -> Decision:
    """Follow the rollout of this request to its end, which its record tells."""
    event, record = facts.event, facts.rollout
    if record is None:
        why = _reason_of(told["failure"]) if "failure" in told else "its execution has no record"
        return _fail(facts, state, f"rollout {event.rollout_id} did not start: {why}")
    if record.status == "succeeded" and not facts.is_latest:
        return _fail(facts, state, SUPERSEDED)
    if record.status == "succeeded":
        return _succeed(facts, state, record.serving or record.candidate, "succeeded", rollout_id=record.id)
    if record.has_ended:
        ended = {"refused": "was refused", "stopped": "was stopped", "rolled-back": "was rolled back"}[record.status]
        reason = in_properties(record.reason) or "no reason is on record"
        return _fail(facts, state, f"rollout {record.id} {ended}: {reason} (headgate explain {record.id})")
    service = service_seconds(event.properties)
    if _is_last_moment(facts):
        return _fail(
            facts, state, f"rollout {record.id} did not end in {service} s, and is being rolled back; {TIMED_OUT}"
        )
    if facts.age >= limit_seconds(service):
        return _abort(facts, state, record.id, f"CloudFormation waits {service} s, and the rest is for the rollback")
    return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})


def _stop_earlier(facts: Facts, state: State) -> Decision:
    """Abort the rollout of an earlier request of this resource, and wait for its end."""
    if facts.earlier is None:
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    what = {"Create": "created", "Update": "updated", "Delete": "deleted"}[facts.event.request_type]
    going = "goes back" if facts.is_rolling_back else f"is to be {what}"
    reason = f"the resource {facts.event.logical_id} of the stack {facts.event.stack_name} {going} meanwhile"
    return _abort(facts, state, facts.earlier.id, reason)


def _abort(facts: Facts, state: State, rollout_id: str, reason: str) -> Decision:
    since = state.get("abortedAt")
    if since is not None and facts.age - since < ABORT_AGAIN_SECONDS:
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    signal_id = f"stack-{_digest(facts.event)[:24]}-{int(facts.age)}"
    step = {"do": "abort", "rolloutId": rollout_id, "signalId": signal_id, "reason": reason}
    return Decision({**state, "abortedAt": facts.age}, step)


# The other requests


def _delete(facts: Facts, state: State, told: Told) -> Decision:
    """Give up the target, and delete the alias if this resource's stack created it and does not keep it."""
    if facts.target is None or facts.event.is_task:
        return _release(facts, state)
    if "busy" in told:
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    claim = facts.claim if facts.owns_claim else None
    hands_back = bool(claim and claim.previous and facts.is_rolling_back)
    removes = claim is not None and claim.created and not hands_back and removes_alias(facts.event.properties)
    if removes and not told.get("deleted"):
        return Decision(state, deed=Deed("delete-alias"))
    if not removes and (version := _to_restore(facts)):
        return _plan_at_once(facts, state, version)
    return _release(facts, state, hands_back=hands_back)


def _to_restore(facts: Facts) -> str:
    """Return the version that the target goes back to when its resource leaves a stack that rolls back.

    The resource came with the update that is rolled back. It is empty if the target serves that version.
    """
    if not facts.is_rolling_back or facts.resource is None or facts.serving is None or facts.wanted is None:
        return ""
    before = facts.resource.version_of(_name_of_before(facts))
    return "" if facts.serving == (before, True) else before


def _release(facts: Facts, state: State, *, hands_back: bool = False) -> Decision:
    answer = _answer(facts, "SUCCESS")
    return Decision({**state, "stage": "answer", "answer": answer}, deed=Deed("release", hands_back=hands_back))


def _run_task(facts: Facts, state: State) -> Decision:
    if facts.is_rolling_back:
        # A task is not undone by running the older one.
        return _respond(state, _answer(facts, "SUCCESS", data=NO_TASK))
    limit = limit_seconds(service_seconds(facts.event.properties))
    try:
        request = fitted(facts.event, facts.task or {}, limit)
    except RequestRefused as refusal:
        return _fail(facts, state, str(refusal))
    step = {
        "do": "run-task",
        "name": job_execution_name("task", facts.event.rollout_id),
        "request": request,
        # Its attempts have their own limits. The rest is for the starts of the machine and of the task.
        "seconds": max(1, int(limit + RESERVE_SECONDS // 2 - facts.age)),
    }
    return Decision({**state, "stage": "task"}, step)


def _task_ended(facts: Facts, state: State, told: Told) -> Decision:
    if failure := told.get("failure"):
        reason = f"{reason_of(failure)} (headgate task show {facts.event.rollout_id})"
        return _respond(state, _answer(facts, "FAILED", reason))
    return _respond(state, _answer(facts, "SUCCESS", data=attributes_of(told["task"])))


# The answer


def _succeed(facts: Facts, state: State, version: str, outcome: str, *, rollout_id: str = "") -> Decision:
    """Answer SUCCESS, and remember the version for these properties first."""
    if facts.event.request_type == "Delete":
        hands_back = bool(facts.owns_claim and facts.claim and facts.claim.previous)
        return _release(facts, state, hands_back=hands_back)
    through = facts.through or facts.target
    arn = state.get("aliasArn") or (through.physical_id(facts.place) if through else "")
    data = {"AliasArn": arn, "Version": version, "RolloutId": rollout_id, "Outcome": outcome}
    answer = _answer(facts, "SUCCESS", data=data)
    deed = Deed("settle", version=version, fingerprint=fingerprint_of(facts.event.properties))
    return Decision({**state, "stage": "answer", "answer": answer}, deed=deed)


def _succeed_unchanged(facts: Facts, state: State) -> Decision:
    data = {"AliasArn": "", "Version": "", "RolloutId": "", "Outcome": "unchanged"}
    return _respond(state, _answer(facts, "SUCCESS", data=data))


def _fail(facts: Facts, state: State, reason: str) -> Decision:
    """Answer FAILED. What a replacement has created is removed first: CloudFormation does not know of it."""
    answer = _answer(facts, "FAILED", reason)
    if _is_replacement(facts) and facts.owns_claim and not facts.is_rolling_back:
        state = {**state, "answer": answer}
        if facts.claim and facts.claim.created:
            return Decision({**state, "stage": "undo"}, deed=Deed("delete-alias"))
        return Decision({**state, "stage": "answer"}, deed=Deed("release"))
    return _respond(state, answer)


def _undo(facts: Facts, state: State, told: Told) -> Decision:
    return Decision({**state, "stage": "answer"}, deed=Deed("release"))


def _answered(facts: Facts, state: State, told: Told) -> Decision:
    return _respond(state, state["answer"])


def _respond(state: State, answer: dict[str, Any]) -> Decision:
    return Decision({**state, "stage": "answer", "answer": answer}, {"do": "respond", "answer": answer})


def _answer(facts: Facts, status: str, reason: str = "", *, data: dict[str, str] | None = None) -> dict[str, Any]:
    """Return an answer. Only a success names another physical id: CloudFormation then deletes what had the old one."""
    event = facts.event
    physical_id = event.kept_physical_id
    created = event.request_type == "Create" and facts.target is not None and facts.owns_claim
    if not event.is_task and facts.target and (created or (status == "SUCCESS" and event.request_type == "Update")):
        physical_id = facts.target.physical_id(facts.place)
    return {"Status": status, "Reason": reason, "PhysicalResourceId": physical_id, "Data": data or {}}


# Facts in short


def _asked(facts: Facts) -> dict[str, Any]:
    if facts.wanted is None:
        raise ValueError("a request without valid properties has no plan")
    return facts.wanted.request


def _is_replacement(facts: Facts) -> bool:
    """Return whether an update gives the resource another target."""
    event = facts.event
    if event.request_type != "Update" or facts.target is None:
        return False
    return facts.target != target_in(event.physical_id, facts.place)


def _is_last_moment(facts: Facts) -> bool:
    return facts.age >= last_seconds(service_seconds(facts.event.properties))


def _reason_of(failure: Mapping[str, Any]) -> str:
    return failure_reason(dict(failure)) or "the cause is in the execution's history"


def _digest(event: StackEvent) -> str:
    return hashlib.sha256(event.request_id.encode()).hexdigest()


_STAGES: dict[str, Callable[[Facts, dict[str, Any], Mapping[str, Any]], Decision]] = {
    "begin": _begin,
    "plan": _planned,
    "choose": _choose,
    "create": _create,
    "ask": _ask,
    "rolling": _rolling,
    "task": _task_ended,
    "undo": _undo,
    "answer": _answered,
}
