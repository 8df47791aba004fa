"""What comes next for a request about a custom resource. Pure: it neither reads nor changes anything.

A request goes through stages, of which ``state`` holds the current one. Each decision is either a deed, which the
planner does itself before it asks again, or a step, which the stack machine carries out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.arns import execution_name, job_execution_name, stack_execution_name
from headgate.aws.stepfunctions import failure_reason
from headgate.errors import RequestRefused
from headgate.stacks.deeds import SUPERSEDED, Deed
from headgate.stacks.event import stack_name
from headgate.stacks.limits import (
    ASKED,
    RESERVE_SECONDS,
    fault_of,
    last_seconds,
    limit_seconds,
    times_of,
)
from headgate.stacks.properties import (
    candidate_of,
    hook_stage_as_given,
    in_properties,
    removes_alias,
    revision_in,
    service_seconds,
    target_in,
)
from headgate.stacks.task import NO_TASK, attributes_of, fitted, reason_of, without_json
from headgate.stacks.warnings import warnings_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.stacks.event import StackEvent
    from headgate.stacks.facts import Facts

    State = dict[str, Any]
    Told = Mapping[str, Any]


POLL_SECONDS = 5

HELD_POLL_SECONDS = 15
"""Between two looks at a rollout of somebody else, which may take long."""

ABORT_AGAIN_SECONDS = 60
"""A signal may be refused at a moment when the rollout does not accept it yet."""

HOOK_WAKE_SECONDS = 200
"""What the hooks machine adds to the time of each hook for a function that sleeps."""

HOOKS_START_SECONDS = 60

TIMED_OUT = "CloudFormation does not wait any longer"


TAKEN_BACK = "the stack has gone back to the properties before it. Nothing was changed"


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
    if facts.contends and not facts.is_latest and "refused" not in told and _may_take_place(facts):
        # A new attempt after a rollback, and no late event of the update that was rolled back.
        return Decision(state, deed=Deed("take-place"))
    if fault := _fault_at_beginning(facts, told):
        return _fail(facts, state, fault)
    if facts.earlier or facts.earlier_starts:
        return _stop_earlier(facts, state)
    if event.request_type == "Delete":
        return _delete(facts, state, told)
    if event.is_task:
        return _run_task(facts, state)
    return _go_back(facts, state) if facts.is_rolling_back else _go_forward(facts, state, told)


def _go_forward(facts: Facts, state: State, told: Told) -> Decision:
    """Begin the note, get the target for this resource, and have the request planned."""
    if not state.get("noted"):
        # Before anything can fail: a rollback must not take it for what an earlier request has moved.
        return Decision({**state, "noted": True}, deed=Deed("note"))
    if fault := facts.fault or _foreign_claim(facts) or _foreign_owner(facts):
        return _fail(facts, state, fault)
    if not facts.owns_claim:
        return Decision(state, deed=Deed("claim"))
    if facts.claimant_is_busy and _is_replacement(facts):
        # A cancelled update to the same target is about to remove what it has brought.
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    if fault := _moved_already(facts):
        served = facts.resource.served if facts.resource else ""
        if served and "moved" not in told:
            # CloudFormation may take the alias further back than to what served.
            return Decision(state, deed=Deed("note-move", version=served))
        return _fail(facts, state, fault)
    return _before_the_plan(facts, state)


def _fault_at_beginning(facts: Facts, told: Told) -> str:
    if "refused" in told:
        return str(told["refused"])
    if not facts.is_latest:
        return f"the request came too late: {TAKEN_BACK}" if facts.contends else SUPERSEDED
    if not facts.stack_status.endswith("_IN_PROGRESS"):
        status = facts.stack_status or "gone"
        return f"the request came too late: stack {facts.event.stack_name} is {status}. Nothing was changed"
    if _is_last_moment(facts) and facts.holder and facts.event.request_type == "Delete":
        return (
            f"rollout {facts.holder} still moves the alias that is to be deleted, and {TIMED_OUT}. Wait for its end "
            f"(headgate status {facts.holder}) or abort it, and delete again"
        )
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
    if claim.stack_id == event.stack_id:
        return (
            f"{_named(facts)}: {claim.logical_id} of this stack has the target, and {event.logical_id} cannot have it "
            f"too; remove one of the two. To rename {claim.logical_id}, deploy twice: first without the resource (with "
            f"OnDelete: retain, deployed before, so that the alias stays), then with {event.logical_id}"
        )
    return (
        f"{_named(facts)}: the target belongs to the resource {claim.logical_id} of the stack "
        f"{stack_name(claim.stack_id)}, and {event.logical_id} of {event.stack_name} cannot have it too; remove "
        "one of the two, or give this one a target of its own (docs/operate.md, Release a target)"
    )


def _moved_already(facts: Facts) -> str:
    """Return why there is nothing to judge, if CloudFormation has moved the alias itself."""
    if not (facts.moved_by_stack and facts.through and facts.serving):
        return ""
    if facts.through.service:
        return (
            f"Service: CloudFormation has deployed {facts.through.cluster}/{facts.through.service} itself in this "
            f"deployment, with the task definition {facts.serving.version}, so that revision cannot be judged. "
            "Headgate restores what served before. Deploy other changes of the AWS::ECS::Service in a deployment of "
            "their own, with its TaskDefinition set to the revision that serves"
        )
    alias = f"{facts.through.function}:{facts.through.alias}"
    return (
        f"Alias: CloudFormation has moved {alias} itself in this deployment, to version {facts.serving.version}, so "
        "that version cannot be judged. The rollback of the stack moves the alias back. Give AutoPublishCodeSha256 a "
        f"constant (`headgate adopt {alias}` says which), without VersionDescription, AutoPublishAliasAllProperties or "
        "a change of the alias; without SAM, give the alias a FunctionVersion that stays"
    )


def _foreign_owner(facts: Facts) -> str:
    """Return why this resource cannot have its target, if the target itself is a resource of another stack."""
    event, owner = facts.event, facts.owner
    if owner is None or owner.stack == event.stack_name:
        return ""
    resource = f"the resource {owner.resource}" if owner.resource else "a resource"
    return (
        f"{_named(facts)}: the target is {resource} of the stack {owner.stack}, so only that stack can roll out on it; "
        f"put {event.logical_id} into the template of {owner.stack}"
    )


def _named(facts: Facts) -> str:
    """Return the property that names the target."""
    return facts.target.named if facts.target else "Alias"


def _before_the_plan(facts: Facts, state: State) -> Decision:
    wanted = facts.wanted
    if wanted and wanted.target.service and facts.serving and facts.serving.version == wanted.version:
        # A plan that changes nothing is refused for a service.
        return _succeed(facts, state, wanted.version, "unchanged")
    candidate = wanted.candidate if wanted and wanted.version else {"publish": {"confirm": facts.latest_sha256}}
    return _plan(facts, state, {**_asked(facts), "candidate": candidate})


def _plan(facts: Facts, state: State, request: dict[str, Any]) -> Decision:
    step = {"do": "plan", "request": {"id": facts.event.rollout_id, **request}}
    return Decision({**state, "stage": "plan"}, step)


def _go_back(facts: Facts, state: State) -> Decision:
    """Take the target back to what served before the update that is rolled back.

    Nothing happens if that update has not moved it, or if somebody else has moved it since.
    """
    moved, serving = facts.moved, facts.serving
    if moved is None or not moved.before:
        return _stay(facts, state, "unchanged")
    state = {**state, "back": moved.before}
    if fault := facts.fault or _foreign_claim(facts):
        return _fail(facts, state, fault)
    if facts.holder:
        return _wait_for_holder(facts, state)
    if serving is None and facts.event.request_type == "Update":
        entered = {**state, "stage": "create", "version": moved.before, "ask": [], "outcome": "created"}
        return decide(facts, entered, {})
    if serving is None or (serving.alone and serving.version == moved.before):
        return _stay(facts, state, "unchanged")
    if not moved.by_stack and moved.after not in (serving.version, serving.other):
        return _stay(facts, state, "left")
    return _plan_at_once(facts, state, moved.before)


def _stay(facts: Facts, state: State, outcome: str) -> Decision:
    return _succeed(facts, state, facts.serving.version if facts.serving else "", outcome)


def _wait_for_holder(facts: Facts, state: State) -> Decision:
    if facts.age < limit_seconds(service_seconds(facts.event.properties)):
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    return _fail(
        facts,
        state,
        f"the target is busy with rollout {facts.holder}, and must go back to version {state['back']} after it",
    )


def _plan_at_once(facts: Facts, state: State, version: str) -> Decision:
    target = _asked(facts)["target"]
    if facts.target and facts.target.service:
        # CloudFormation waits, and what is left is not wanted back.
        target = {**target, "keepSeconds": 0}
    candidate = candidate_of(facts.target, version) if facts.target else {"version": version}
    request = {"target": target, "candidate": candidate, "strategy": "AllAtOnce", "guards": "none"}
    return _plan(facts, state, {**request, "onBusy": "refuse"})


# With a plan


def _planned(facts: Facts, state: State, told: Told) -> Decision:
    """Keep what is needed of the plan, and choose how to carry it out."""
    if failure := told.get("failure"):
        return _fail(facts, state, in_properties(_reason_of(failure), facts.event.properties))
    plan, request = told["plan"], told["request"]
    kept = {
        **state,
        "stage": "choose",
        "request": request,
        "hooks": {stage: plan["hooks"].get(stage, []) for stage in ASKED},
        "warnings": warnings_in(plan, facts.event.properties),
        "tooLong": fault_of(times_of(plan), service_seconds(facts.event.properties)),
    }
    return _choose(facts, kept, {})


def _choose(facts: Facts, state: State, told: Told) -> Decision:
    if fault := told.get("refused") or facts.fault:
        return _fail(facts, state, fault)
    if not facts.is_latest:
        return _fail(facts, state, SUPERSEDED)
    if state["tooLong"] and not facts.is_rolling_back:
        # Also if there is nothing to roll out now: otherwise the first release would find it.
        return _fail(facts, state, state["tooLong"])
    serving = facts.serving
    if serving is None or _serves(facts, state):
        kind = facts.event.request_type
        first = kind == "Create" or (serving is None and kind == "Update")
        if not first:
            return _succeed(facts, state, serving.version if serving else "", "unchanged")
        version = serving.version if serving else revision_in(state["request"]["candidate"])
        stage = "ask" if serving else "create"
        # Hooks of a service reach a candidate that a rollout has made.
        asks = [] if facts.target and facts.target.service else _stages_to_ask(state)
        entered = {**state, "stage": stage, "version": version, "since": facts.age, "ask": asks}
        return decide(facts, {**entered, "outcome": "unchanged" if serving else "created"}, {})
    if not told.get("begun"):
        return Decision(state, deed=Deed("begin", version=serving.version))
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
    version = revision_in(state["request"]["candidate"])
    return serving.version == version if version else facts.latest_serves


def _stages_to_ask(state: State) -> list[str]:
    return [stage for stage in ASKED if state["hooks"][stage]]


# A new alias


def _create(facts: Facts, state: State, told: Told) -> Decision:
    """Publish the first version and create the alias. There is no traffic to shift."""
    if fault := told.get("refused") or facts.fault or ("" if facts.is_latest else SUPERSEDED):
        return _fail(facts, state, fault)
    if not facts.owns_claim:
        return _fail(facts, state, f"{_named(facts)}: another resource has got the target meanwhile; deploy again")
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
        given = facts.event.properties
        asked_stage = hook_stage_as_given(state["asked"], given)
        return _fail(facts, state, f"Hooks.{asked_stage}: {in_properties(_reason_of(failure), given)}")
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
        "name": f"{_short_name(facts.event)}-{stage}",
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
        reason = in_properties(record.reason, event.properties) or "no reason is on record"
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
    signal_id = f"{_short_name(facts.event)}-{int(facts.age)}"
    step = {"do": "abort", "rolloutId": rollout_id, "signalId": signal_id, "reason": reason}
    return Decision({**state, "abortedAt": facts.age}, step)


# The other requests


def _delete(facts: Facts, state: State, told: Told) -> Decision:
    """Give up the target, and delete the alias if this resource's stack created it and does not keep it."""
    if facts.target is None or facts.event.is_task:
        return _release(facts, state)
    if "busy" in told:
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    created = facts.claim is not None and facts.claim.created is not None and facts.owns_claim
    removes = created and removes_alias(facts.event.properties)
    if removes and not told.get("deleted"):
        if facts.holder:
            return Decision(state, {"do": "wait", "seconds": HELD_POLL_SECONDS})
        return Decision(state, deed=Deed("delete-alias"))
    if not removes and facts.owns_claim and facts.is_rolling_back:
        return _go_back(facts, state)
    return _release(facts, state)


def _release(facts: Facts, state: State) -> Decision:
    answer = _answer(facts, "SUCCESS")
    return Decision({**state, "stage": "answer", "answer": answer}, deed=Deed("release"))


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
    """Answer SUCCESS, and record first what has become of the resource."""
    if facts.event.request_type == "Delete":
        return _release(facts, state)
    # Those about the plan of a rollback are about what nobody has asked for.
    warnings = "" if facts.is_rolling_back else state.get("warnings", "")
    serves = (
        {"TaskDefinition": version}
        if facts.target and facts.target.service
        else {"AliasArn": _alias_arn(facts, state), "Version": version}
    )
    data = {
        **serves,
        "RolloutId": rollout_id,
        "Outcome": outcome,
        "Warnings": warnings,
    }
    state = {**state, "stage": "answer", "answer": _answer(facts, "SUCCESS", data=data)}
    if facts.target is None:
        # Going back to properties that never worked.
        return _respond(state, state["answer"])
    moved = outcome in ("succeeded", "created") and not facts.is_rolling_back
    return Decision(state, deed=Deed("settle", version=version if moved else "", serves=version))


def _alias_arn(facts: Facts, state: State) -> str:
    """Return the ARN of the alias that serves, as far as it is known: a mapping does not name it."""
    through = facts.through or (facts.target if facts.target and facts.target.alias else None)
    return state.get("aliasArn") or (through.physical_id(facts.place) if through else "")


def _fail(facts: Facts, state: State, reason: str) -> Decision:
    """Answer FAILED. What a replacement has brought is removed first: CloudFormation does not know of it.

    A creation that failed gets its deletion by CloudFormation.
    """
    if state.get("back") and reason != SUPERSEDED:
        reason = f"{reason}. {_way_out(facts, state['back'])}"
    answer = _answer(facts, "FAILED", reason)
    if _is_replacement(facts) and facts.made_claim:
        return _undo(facts, {**state, "stage": "undo", "answer": answer}, {})
    return _respond(state, answer)


def _way_out(facts: Facts, version: str) -> str:
    """Return what to do if a target could not be taken back."""
    again = (
        f"continue the rollback (aws cloudformation continue-update-rollback --stack-name {facts.event.stack_name})"
        if facts.stack_status.startswith("UPDATE_ROLLBACK_")
        else "delete the stack again"
    )
    return f"The update has moved the target, which must go back to version {version}: remove the cause, and {again}"


def _undo(facts: Facts, state: State, told: Told) -> Decision:
    """Delete the alias that this request has created, and give up the target, whatever else goes on in the stack."""
    created = facts.claim.created if facts.claim and facts.made_claim else None
    if created and "busy" in told and not _is_last_moment(facts):
        return Decision(state, {"do": "wait", "seconds": POLL_SECONDS})
    left = told.get("refused") or told.get("busy")
    if created and not left and not told.get("deleted"):
        return Decision(state, deed=Deed("delete-alias"))
    answer = state["answer"]
    if created and left:
        kept = f"The alias {created.function}:{created.alias} of this request could not be deleted ({left})"
        answer = {**answer, "Reason": f"{answer['Reason']}. {kept}; delete it by hand"}
    return Decision({**state, "stage": "answer", "answer": answer}, deed=Deed("release"))


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


def _may_take_place(facts: Facts) -> bool:
    """Return whether a request that the latest one takes back follows it all the same."""
    note = facts.resource.note if facts.resource else None
    forward = facts.stack_status.endswith("_IN_PROGRESS") and not facts.is_rolling_back
    # The latest one has a note if it went forward, so this one takes it back.
    return forward or (note is not None and note.request_id == facts.contends)


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
    return without_json(failure_reason(dict(failure))) or "the cause is in the execution's history"


def _short_name(event: StackEvent) -> str:
    """Return the beginning of the name of the request's execution, for names and ids with something after it."""
    return stack_execution_name(event.request_id)[:30]


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
