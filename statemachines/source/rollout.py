"""The rollout machine: moves a target to the candidate step by step, and rolls back if the candidate is bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statemachines.source.shapes import (
    ALL,
    ALREADY_STARTED_ERRORS,
    FAILURE,
    REQUEST_ID,
    RESULT,
    TRANSIENT_ERRORS,
    Body,
    catch,
    choice,
    expression,
    fail,
    invoke,
    look_up,
    machine,
    never_retry,
    passing,
    retry,
    run_machine,
    succeed,
    variables,
    waking,
    when,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# --- Shared parts of states -------------------------------------------------------------------------------------------


def failed(*errors: str, then: str, outcome: str | None = None, **assign: Any) -> Body:
    """Assign the error to ``$failure``, and the resulting outcome of the rollout."""
    known = {} if outcome is None else {"outcome": outcome}
    return catch(*errors, assign={"failure": FAILURE, **known, **assign}, then=then)


SUPERSEDED = failed("LockLost", then="Superseded")
MOVED_BY_OTHERS = failed("TargetChanged", outcome="stopped", then="Release?")
ABORTED = failed("Aborted", outcome="rolled-back", then="Roll back")
ROLLED_BACK = failed(ALL, outcome="rolled-back", then="Roll back")

FINAL_ERRORS = ("RequestRefused", "TargetChanged", "LockLost", "Aborted")
UNTIL_IT_WORKS = (
    never_retry(*FINAL_ERRORS),
    # At most ten seconds after the function is ready again, for a quarter of an hour.
    waking(longest=10, times=90),
    retry(*TRANSIENT_ERRORS, longest=60, times=30),
    retry(ALL, first=2, longest=60, times=30),
)
"""Retriers of Roll back and Settle, which retry every error because they must complete."""


def not_ready(*, longest: int = 60, times: int = 400) -> Body:
    """Call the driver again while the target is not ready.

    With full jitter a retry comes after 30 s on average, so 400 of them take about 200 minutes.
    """
    return retry("TargetNotReady", first=2, rate=1.2, longest=longest, times=times)


LISTENING = not_ready(longest=15, times=1600)
"""Calls the driver again while the candidate is not ready. Each call hears signals, so that one rolls back in seconds.

The driver ends a wait for the candidate after ``target.readySeconds``. The retries take about 200 minutes, and less
than the 120 that a request may allow practically never. Such a wait is about 3,000 of an execution's 25,000 events.
"""


def beginning(**known: Any) -> Body:
    """Assign every variable of the machine."""
    return {
        "epoch": 0,
        "state": {},
        "step": 0,
        "bake": 0,
        "bakeUntil": 0,
        "verdict": {},
        "pause": 0,
        "pauseUntil": 0,
        "judged": 0,
        "judgedBake": 0,
        "hookFailure": {},
        "asked": {},
        "ended": {},
        **known,
    }


def ask_driver(
    comment: str,
    action: str,
    *,
    then: str,
    seconds: int = 90,
    waits: Body | None = None,
    patient: bool = False,
    retries: Iterable[Body] | None = None,
    catches: Iterable[Body] = (MOVED_BY_OTHERS, SUPERSEDED, ROLLED_BACK),
    assign: Body | None = None,
    **more: Any,
) -> Body:
    """Call the driver of the target's kind and keep its state."""
    return invoke(
        comment,
        "{% $plan.driver %}",
        {"action": action, "target": "{% $plan.target %}", **variables("plan", "epoch", "state"), **more},
        seconds=seconds,
        retries=[waits or not_ready(), *(passing(patient=patient) if retries is None else retries)],
        catches=catches,
        assign={"state": expression(f"{RESULT}.state"), **(assign or {})},
        then=then,
    )


WAKE_SECONDS = 200
"""How long the hooks machine waits at most for a function that sleeps."""
BAKING = {"bakeUntil": "{% $millis() + $plan.steps[$step].bakeSeconds * 1000 %}"}
BAKING_AGAIN = {
    "bakeUntil": expression(
        "$millis() + ($verdict.bakeSeconds > 0 ? $verdict.bakeSeconds : $plan.steps[$step].bakeSeconds) * 1000"
    )
}
"""The verdict of an earlier version of the judge has no duration."""
PAUSING = {"pause": "{% $pause + 1 %}", "pauseUntil": "{% $millis() + $plan.pause.limitSeconds * 1000 %}"}
REASON = "{% $states.input.reason %}"
GIVEN_TARGET = "$states.context.Execution.Input.target"
TARGET_WITHOUT_PLAN = expression(
    f"""
    $not($exists($plan.rolloutId)) and $exists({GIVEN_TARGET}) and $length($string({GIVEN_TARGET})) <= 2000
    ? {GIVEN_TARGET} : {{}}
    """
)
"""The target of a request that has no plan, as it was given; without one that is too long to be valid."""
FAILURE_TEXT = "{% $string($failure) %}"
HOOKS_FAILURE = """
    $merge([{'Error': 'States.TaskFailed', 'Cause': 'the hooks are ' & $ended.Status},
    $sift($ended, function($v, $k) { $k in ['Error', 'Cause'] })])
    """.strip()
"""The failure of hooks that were looked up."""


def shift(comment: str, *, then: str) -> Body:
    """Set the weight of the current step."""
    weight = "{% $plan.steps[$step].weight %}"
    return ask_driver(comment, "shift", weight=weight, waits=LISTENING, assign=BAKING, then=then)


def wait_for_token(
    comment: str,
    function: str,
    until: str,
    *,
    catches: Iterable[Body],
    then: str,
    output: str | None = None,
    patient: bool = False,
    **payload: str,
) -> Body:
    """Give a function the task token, and wait until somebody returns it or the time is over.

    The attempt is compared as text, so its numbers have a fixed length. EnteredTime itself is ISO 8601, with or without
    a fraction of a second.
    """
    attempt = """
        $formatNumber($toMillis($states.context.State.EnteredTime), '0000000000000') & '#'
        & $formatNumber($states.context.State.RetryCount, '000')
        """
    return invoke(
        comment,
        function,
        {**payload, "token": "{% $states.context.Task.Token %}", "attempt": expression(attempt)},
        for_token=True,
        patient=patient,
        seconds=expression(f"$max([1, $ceil(({until} - $millis()) / 1000)])"),
        catches=catches,
        output=output,
        then=then,
    )


def wait_for_signal(comment: str, function: str, until: str, *, then: str, **payload: str) -> Body:
    """Wait until a signal comes or the time is over."""
    catches = [catch("States.Timeout", then=then), SUPERSEDED, ROLLED_BACK]
    return wait_for_token(comment, function, until, catches=catches, patient=False, then=then, **payload)


def judge(comment: str, *, then: str, **payload: Any) -> Body:
    """Call the judge. The judged step is kept, because the verdict may name the next one."""
    return invoke(
        comment,
        "${Judge}",
        {**variables("plan", "epoch", "step", "bake", "state"), **payload},
        catches=[SUPERSEDED, ROLLED_BACK],
        assign={
            "judged": "{% $step %}",
            "judgedBake": "{% $bake %}",
            "verdict": expression(RESULT),
            "step": expression(f"{RESULT}.step"),
            "bake": expression(f"{RESULT}.bake"),
        },
        then=then,
    )


def stage_name(stage: str, step: str) -> str:
    """Return the expression of the name of the execution that asks the hooks of a stage.

    It is unique for as long as Step Functions knows a name, and the same at every attempt of its state. A resume after
    a pause asks the hooks of a step again, and so does a redrive of the execution. The hooks machine adds a number to
    it for its own children, within 80 characters.
    """
    about = f"""
        [$states.context.Execution.Id, {stage}, {step}, $bake, $pause, $states.context.Execution.RedriveCount]
        """
    return f"{stage} & '-' & {step} & '-' & $substring($hash($string({about.strip()}), 'SHA-256'), 0, 40)"


def ask_hooks(
    stage: str,
    *,
    then: str,
    catches: Iterable[Body] = (ROLLED_BACK,),
    step: str = "$step",
    comment: str = "Runs the hooks of stage {stage}.",
) -> Body:
    """Run the hooks of a stage in a separate execution. Hooks of a service also get its routing, and the weight."""
    weight = {"beforeTraffic": "0", "afterTraffic": "100", "onRollback": "0"}.get(stage, f"$plan.steps[{step}].weight")
    hook_input = f"""
        $merge([{{'AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID': $states.context.Execution.Id, 'rolloutId': $rolloutId,
        'stage': '{stage}', 'target': $plan.target, 'stable': $state.stable, 'candidate': $state.candidate,
        'step': {step}, 'hooks': [$plan.hooks.{stage}]}}, $exists($plan.through) ? {{'through': $plan.through}} : {{}},
        $exists($plan.routing) ? {{'service': $plan.routing, 'weight': {weight}}} : {{}}])
        """
    asked = {"stage": stage, "name": expression(stage_name(f"'{stage}'", step))}
    return run_machine(
        comment.format(stage=stage),
        "${HooksMachine}",
        stage_name(f"'{stage}'", step),
        hook_input,
        # The hooks machine limits each hook's time itself. A function that sleeps does not use up its time.
        seconds=expression(f"$sum($plan.hooks.{stage}.(timeoutSeconds + {WAKE_SECONDS})) + 60"),
        known=catch(*ALREADY_STARTED_ERRORS, assign={"asked": asked}, then="Look up the hooks"),
        catches=catches,
        then=then,
    )


def pause(wanted: str, at_zero: str, **assign: Any) -> tuple[Body, Body]:
    """Pause at a weight of zero if the plan requires it and ``at_zero`` holds, otherwise at the current weight."""
    return (
        when(f"{at_zero} and $plan.pause.at = 'zero'", assign=PAUSING | assign, then="Shift to zero"),
        when(wanted, assign=PAUSING | assign, then="Pause"),
    )


def if_hooks(stage: str, *, then: str) -> Body:
    """Continue with the hooks of a stage, if it has any."""
    return when(f"$count($plan.hooks.{stage}) > 0", then=then)


IF_NO_BAKE = when("$plan.steps[$step].bakeSeconds = 0", then="Shift in passing")
IF_BEFORE_STEP = if_hooks("beforeStep", then="Before step")
IF_ROLL_BACK = when("$verdict.next = 'roll-back'", assign={"outcome": "rolled-back"}, then="Roll back")
IF_PAUSE = pause("$verdict.next = 'pause'", "$verdict.next = 'pause' and $verdict.failed")
IF_RELEASE = when("$state.toRelease = true", then="Release")
ALL_WELL = {"failure": {}, "outcome": "succeeded"}
HOOK_FAILED = {
    "outcome": "roll-back",
    "next": "pause",
    "failed": True,
    **variables("step", "bake"),
    "reason": "a hook failed",
}

# --- The machine ------------------------------------------------------------------------------------------------------

STATES = {
    "Plan": invoke(
        "Reads the request and makes the plan. Nothing is changed yet.",
        "${Planner}",
        {"request": "{% $states.input %}", "executionName": "{% $states.context.Execution.Name %}"},
        patient=True,
        catches=[
            catch(
                ALL,
                assign=beginning(rolloutId=REQUEST_ID, plan={}, failure=FAILURE, outcome="refused"),
                then="Settle",
            )
        ],
        assign=beginning(
            rolloutId=expression(f"{RESULT}.plan.rolloutId"),
            plan=expression(f"{RESULT}.plan"),
            failure={},
            outcome="succeeded",
        ),
        output={"request": expression(f"{RESULT}.request")},
        then="Acquire",
    ),
    "Acquire": invoke(
        "Takes the target's lock, or a place in its line.",
        "${Acquirer}",
        {
            "request": "{% $states.input.request %}",
            "plan": "{% $plan %}",
            "execution": "{% $states.context.Execution.Id %}",
            "waits": True,
        },
        patient=True,
        catches=[SUPERSEDED, failed(ALL, outcome="refused", then="Settle")],
        assign={"epoch": expression(f"{RESULT}.epoch")},
        output=expression(RESULT),
        then="Acquired?",
    ),
    "Acquired?": choice(
        "Only the owner of the lock continues.",
        when("$states.input.lock = 'held'", then="Prepare"),
        when(
            "$states.input.lock = 'waits'",
            assign={"turnUntil": "{% $millis() + $states.input.seconds * 1000 %}", "overdue": REASON},
            then="Wait for its turn",
        ),
        when("$states.input.lock = 'refused'", then="Refused"),
        when("$states.input.lock = 'ended'", assign={"outcome": "{% $states.input.outcome %}"}, then="Ended?"),
        default="Duplicate",
    ),
    "Wait for its turn": wait_for_token(
        "Waits in line until the target is free, for as long as the request allows. Then plans again, because much can "
        "change until its turn.",
        "${Acquirer}",
        "$turnUntil",
        catches=[
            catch(
                "States.Timeout",
                assign={"failure": {"Error": "RequestRefused", "Cause": "{% $overdue %}"}, "outcome": "refused"},
                then="Settle",
            ),
            failed(ALL, outcome="refused", then="Settle"),
        ],
        output="{% $states.context.Execution.Input %}",
        patient=True,
        rolloutId="{% $rolloutId %}",
        execution="{% $states.context.Execution.Id %}",
        then="Plan",
    ),
    "Prepare": ask_driver(
        "Checks the target and makes the candidate ready. No traffic moves.",
        "prepare",
        seconds=120,
        waits=LISTENING,
        patient=True,
        catches=[SUPERSEDED, ABORTED, failed(ALL, outcome="refused", then="Roll back")],
        then="Before traffic?",
    ),
    "Before traffic?": choice(
        "Hooks that must succeed before any traffic moves.",
        if_hooks("beforeTraffic", then="Before traffic"),
        default="Next step?",
    ),
    "Before traffic": ask_hooks("beforeTraffic", then="Next step?"),
    "Next step?": choice(
        "Chooses what comes next in the plan.",
        when("$step >= $count($plan.steps)", then="Promote"),
        IF_BEFORE_STEP,
        IF_NO_BAKE,
        default="Shift",
    ),
    "Before step": ask_hooks(
        "beforeStep", catches=[failed(ALL, outcome="rolled-back", then="On failure?")], then="Bake at all?"
    ),
    "Bake at all?": choice("Skips a bake of 0 seconds.", IF_NO_BAKE, default="Shift"),
    "Shift": shift("Sets the weight of the step.", then="Bake"),
    "Shift in passing": shift("Sets the weight of a step that does not bake.", then="Judge"),
    "Bake": wait_for_signal(
        "Waits for a signal. Normally none comes, and the bake ends at its deadline.",
        "${Baker}",
        "$bakeUntil",
        **variables("plan", "epoch", "state", "step", "bake"),
        then="Judge",
    ),
    "Judge": judge("Looks at evidence, alarms and signals, and decides what comes next.", pause=0, then="Verdict?"),
    "Verdict?": choice(
        "Follows the verdict.",
        IF_ROLL_BACK,
        when("$verdict.next = 'bake'", assign=BAKING_AGAIN, then="Bake"),
        *IF_PAUSE,
        if_hooks("afterStep", then="After step"),
        when("$verdict.next = 'promote'", then="Promote"),
        IF_BEFORE_STEP,
        IF_NO_BAKE,
        default="Shift",
    ),
    "After step": ask_hooks(
        "afterStep",
        step="$judged",
        catches=[
            failed(ALL, outcome="rolled-back", step="{% $judged %}", bake="{% $judgedBake + 1 %}", then="On failure?")
        ],
        then="Next step?",
    ),
    "On failure?": choice(
        "A hook of a step has failed: waits for an operator if the request says so, or rolls back.",
        *pause("$plan.pausesOnFailure", "$plan.pausesOnFailure", verdict=HOOK_FAILED),
        default="Roll back",
    ),
    "Shift to zero": ask_driver(
        "Takes all traffic off the candidate during the pause.", "shift", weight=0, then="Pause"
    ),
    "Pause": wait_for_signal(
        "Waits for an operator. At the limit, the outcome that the request names applies.",
        "${Pauser}",
        "$pauseUntil",
        **variables("plan", "epoch", "verdict", "failure", "pause"),
        then="Judge pause",
    ),
    "Judge pause": judge(
        "Reads what the operator decided, and decides what comes next.",
        pause="{% $pause %}",
        failed="{% $verdict.failed %}",
        then="After pause?",
    ),
    "After pause?": choice(
        "Follows the verdict.",
        IF_ROLL_BACK,
        *IF_PAUSE,
        when("$verdict.next = 'promote'", assign=ALL_WELL, then="Promote"),
        when("$verdict.next = 'shift'", assign=ALL_WELL, then="Next step?"),
        default="Roll back",
    ),
    "Promote": ask_driver("Sends all traffic to the candidate.", "promote", waits=LISTENING, then="After traffic?"),
    "After traffic?": choice(
        "Hooks that must succeed after all traffic has moved.",
        if_hooks("afterTraffic", then="After traffic"),
        IF_RELEASE,
        default="Settle",
    ),
    "After traffic": ask_hooks("afterTraffic", then="Release?"),
    "Release?": choice(
        "Checks if the rollout holds something that costs money or must not stay.", IF_RELEASE, default="Settle"
    ),
    "Release": ask_driver(
        "Gives back what the rollout holds. Its outcome stays, unless somebody else has moved the target, or what it "
        "holds must not stay and cannot be given back.",
        "{% $outcome = 'succeeded' ? 'release' : 'restore' %}",
        seconds=930,
        waits=not_ready(times=1000),
        patient=True,
        catches=[
            failed("TargetChanged", outcome="stopped", then="Settle"),
            SUPERSEDED,
            ABORTED,
            catch(
                ALL,
                assign={
                    "failure": "{% $state.mustRelease = true ? $states.errorOutput : $failure %}",
                    "outcome": "{% $state.mustRelease = true ? 'stopped' : $outcome %}",
                },
                then="Settle",
            ),
        ],
        then="Settle",
    ),
    "Roll back": ask_driver(
        "Sends all traffic to the stable revision.",
        "rollback",
        retries=UNTIL_IT_WORKS,
        catches=[MOVED_BY_OTHERS, SUPERSEDED, failed(ALL, outcome="stopped", then="Settle")],
        then="On rollback?",
    ),
    "On rollback?": choice(
        "Hooks that are notified of the rollback.",
        when(
            "$outcome = 'rolled-back' and $exists($state.candidate) and $count($plan.hooks.onRollback) > 0",
            then="On rollback",
        ),
        IF_RELEASE,
        default="Settle",
    ),
    "On rollback": ask_hooks(
        "onRollback",
        comment="Notifies the hooks of stage {stage}. Their answers do not change the rollback.",
        catches=[catch(ALL, assign={"hookFailure": "{% $states.errorOutput %}"}, then="Release?")],
        then="Release?",
    ),
    "Look up the hooks": look_up(
        "The start of the hooks succeeded, but its response was lost, and they have ended since: reads their answer.",
        "'${HooksMachine}'",
        "$asked.name",
        into="ended",
        then="Did the hooks agree?",
    ),
    "Did the hooks agree?": choice(
        "Continues as if the hooks had answered in time.",
        when("$ended.Status = 'SUCCEEDED' and $asked.stage in ['beforeTraffic', 'afterStep']", then="Next step?"),
        when("$ended.Status = 'SUCCEEDED' and $asked.stage = 'beforeStep'", then="Bake at all?"),
        when(
            "$ended.Status = 'SUCCEEDED' and $asked.stage = 'afterTraffic' or $asked.stage = 'onRollback'",
            assign={"hookFailure": expression(f"$ended.Status = 'SUCCEEDED' ? {{}} : {HOOKS_FAILURE}")},
            then="Release?",
        ),
        when(
            "$asked.stage in ['beforeStep', 'afterStep']",
            assign={
                "failure": expression(HOOKS_FAILURE),
                "outcome": "rolled-back",
                "step": "{% $asked.stage = 'afterStep' ? $judged : $step %}",
                "bake": "{% $asked.stage = 'afterStep' ? $judgedBake + 1 : $bake %}",
            },
            then="On failure?",
        ),
        assign={"failure": expression(HOOKS_FAILURE), "outcome": "rolled-back"},
        default="Roll back",
    ),
    "Settle": invoke(
        "Closes the record, releases the lock or passes it on, and starts the next request in line.",
        "${Settler}",
        {
            "execution": "{% $states.context.Execution.Id %}",
            **variables("rolloutId", "epoch", "outcome", "state", "verdict", "failure", "hookFailure"),
            "target": TARGET_WITHOUT_PLAN,
        },
        retries=UNTIL_IT_WORKS,
        catches=[SUPERSEDED, failed(ALL, then="Unsettled")],
        output=expression(RESULT),
        then="Ended?",
    ),
    "Ended?": choice(
        "Ends the execution as the rollout ended.",
        when(
            "$states.input.outcome = 'objected'",
            assign={"outcome": "rolled-back", "failure": {"Error": "Aborted", "Cause": REASON}},
            then="Roll back",
        ),
        when("$outcome = 'succeeded'", then="Promoted"),
        when("$outcome = 'rolled-back'", then="Rolled back"),
        when("$outcome = 'refused'", then="Refused"),
        default="Stopped",
    ),
    "Promoted": succeed(
        "The candidate gets all traffic.",
        "{% $sift($states.input, function($v, $k) { $k in ['outcome', 'reason', 'serving'] }) %}",
    ),
    "Duplicate": fail("Another execution carries out this rollout, and tells how it ends.", "Duplicate", REASON),
    "Rolled back": fail("The stable revision gets all traffic.", "RolledBack", REASON),
    "Refused": fail("The request cannot be carried out. No traffic moved.", "RequestRefused", REASON),
    "Stopped": fail("Headgate left the target unchanged. An operator must check it.", "Stopped", REASON),
    "Superseded": fail(
        "This execution no longer owns the target, and has no further effect.", "LockLost", FAILURE_TEXT
    ),
    "Unsettled": fail(
        "The end of the rollout could not be recorded. Its lock is still held.", "Unsettled", FAILURE_TEXT
    ),
}

MACHINE = machine(
    "Moves a target from its stable revision to a candidate step by step, and back when the candidate is bad.", STATES
)
