"""The hooks machine: asks the hooks of one stage in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from statemachines.source.shapes import (
    ALL,
    ALREADY_STARTED_ERRORS,
    FAILURE,
    LAMBDA_ERRORS,
    READ_EXECUTION_ERRORS,
    RESULT,
    SLEEPING_FUNCTION_ERRORS,
    assigning,
    catch,
    choice,
    execution_arn,
    expression,
    fail,
    invoke,
    is_whole_object,
    look_up,
    machine,
    not_reserved,
    put_item,
    retry,
    run_machine,
    succeed,
    task,
    wait,
    when,
)

if TYPE_CHECKING:
    from statemachines.source.shapes import Body

MORE = "$index < $count($hooks)"
DEADLINE = "{% $millis() + $hooks[$index].timeoutSeconds * 1000 %}"
TIME_LEFT = "{% $max([1, $ceil(($until - $millis()) / 1000)]) %}"
DELAY = "$max([1, $type($answer.callBackDelay) = 'number' ? $ceil($answer.callBackDelay) : 30])"
CHILD_NAME = """
    $length($states.context.Execution.Name) <= 76
    ? $states.context.Execution.Name & '-' & $index
    : $substring($hash($states.context.Execution.Name, 'SHA-256'), 0, 60) & '-' & $index
    """.strip()
"""Name of a hook's execution, of at most 80 characters. A name that was cut off would not be the hook's own."""
MACHINE_OF_HOOK = "($exists($hooks[$index].ecsTask) ? '${EcsTaskMachine}' : $hooks[$index].stateMachine)"
FUNCTION_OF_HOOK = expression(
    """
    $exists($hooks[$index].codeDeployHook) ? $hooks[$index].codeDeployHook
    : $exists($hooks[$index].ecsLifecycleHook) ? $hooks[$index].ecsLifecycleHook : $hooks[$index].lambda
    """
)
ECS_EVENT = """
    ($part := $split($states.context.Execution.Id, ':');
    $arn := function($kind, $id) {
    $part[0] & ':' & $part[1] & ':ecs:' & $part[3] & ':' & $part[4] & ':' & $kind & '/'
    & $split($told.target.cluster, '/')[-1] & '/' & $split($told.target.service, '/')[-1] & '/'
    & $replace($id, ':', '-') };
    $candidate := $arn('service-revision', $told.candidate);
    {'executionId': $hash($states.context.Execution.Id & '/' & $index, 'SHA-256'),
    'lifecycleStage': $lookup({
    'beforeTraffic': $count($told.service.testRules) > 0 ? 'POST_TEST_TRAFFIC_SHIFT' : 'POST_SCALE_UP',
    'beforeStep': 'PRE_PRODUCTION_TRAFFIC_SHIFT', 'afterStep': 'PRODUCTION_TRAFFIC_SHIFT',
    'afterTraffic': 'POST_PRODUCTION_TRAFFIC_SHIFT', 'onRollback': 'PRODUCTION_TRAFFIC_SHIFT'}, $told.stage),
    'resourceArn': $arn('service-deployment', $substring($hash($told.rolloutId, 'SHA-256'), 0, 20)),
    'executionDetails': {
    'serviceArn': $substringBefore($arn('service', '?'), '/?'),
    'targetServiceRevisionArn': $candidate,
    'testTrafficWeights': {},
    'productionTrafficWeights': $told.stage in ['beforeStep', 'afterStep', 'onRollback'] ? {
    $candidate: $weight, $arn('service-revision', $told.stable): 100 - $weight} : {}},
    'hookDetails': $merge([$hooks[$index].hookDetails, $details]),
    'headgate': $told})
    """.strip()
"""The event of ECS's lifecycle hooks, with weights at the stages at which ECS has them.

The ARNs have ECS's form, but the deployment and the revisions are Headgate's own, and ECS does not know them. What a
function may need is in ``headgate``:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-lifecycle-hooks.html
"""
EVENT_OF_HOOK = expression(
    f"""
    $exists($hooks[$index].ecsLifecycleHook) ? {ECS_EVENT}
    : $exists($hooks[$index].codeDeployHook)
    ? {{'DeploymentId': 'd-' & $uppercase($substring($hash($told.rolloutId, 'SHA-256'), 0, 9)),
    'LifecycleEventHookExecutionId': $hash($states.context.Execution.Id & '/' & $index, 'SHA-256'),
    'headgate': $merge([$told, {{'hookDetails': $details}}])}}
    : $merge([$told, {{'config': $hooks[$index].config, 'hookDetails': $details}}])
    """
)
"""What a function receives. A hook of CodeDeploy or ECS gets that service's event, and what others get under
``headgate``.

A deployment's id is ``d-`` and nine letters and digits. The id of the hook's execution has no documented form:
https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_PutLifecycleEventHookExecutionStatus.html
"""
WAKE_WAIT, WAKES = 10, 18
"""Seconds between two calls of a function that sleeps, and how often: three minutes."""
HOOK = "'hook ' & $name & ' of ' & $told.stage"
NEXT_HOOK = {"index": "{% $index + 1 %}"}
IS_FUNCTION = "$not($exists($hooks[$index].ecsTask) or $exists($hooks[$index].stateMachine))"
# What a function raised may hold what nobody else may read: its message, or after Lambda.Unknown its whole answer.
# What Lambda and Step Functions say about a call holds nothing of it.
RAISED = f"""
({IS_FUNCTION}
and ($failure.Error = 'Lambda.Unknown' or $not($substring($failure.Error, 0, 7) in ['Lambda.', 'States.'])))
"""
INVALID_ANSWER = """
($answer.hookStatus = 'none' and $exists($answer.given)
? 'hookStatus is missing in an answer of type ' & $type($answer.given)
: 'hookStatus is ' & ($type($answer.hookStatus) = 'string'
? '"' & $substring($answer.hookStatus, 0, 64) & '"' : 'of type ' & $type($answer.hookStatus)))
& '; give SUCCEEDED or FAILED, or from a function IN_PROGRESS'
"""
TOO_MUCH = catch("States.DataLimitExceeded", assign={"failure": FAILURE}, then="Answered too much")
IF_AGREED = when("$answer.hookStatus = 'SUCCEEDED'", assign=NEXT_HOOK, then="Next hook?")


def answer(given: str, otherwise: str) -> str:
    """Return an answer with a hookStatus, or a replacement for one without."""
    return expression(f"$type({given}) = 'object' and $exists({given}.hookStatus) ? {given} : {otherwise}")


def run_hook(comment: str, arn: str, hook_input: str, *, assign: Body, then: str) -> Body:
    """Run a hook that is a state machine, under a name by which it can be stopped and looked up."""
    return run_machine(
        comment,
        arn,
        CHILD_NAME,
        hook_input,
        seconds=TIME_LEFT,
        known=catch(*ALREADY_STARTED_ERRORS, then="Look it up"),
        # The execution has ended, and its input and output together are too large.
        catches=[TOO_MUCH, catch(ALL, assign={"failure": FAILURE}, then="How did it fail?")],
        assign=assign,
        then=then,
    )


NAME_OF_HOOK = """
    $exists($hook.ecsTask)
    ? ($type($hook.ecsTask.taskDefinition) = 'string' ? $hook.ecsTask.taskDefinition : 'ecsTask')
    : $exists($hook.stateMachine) ? $split($hook.stateMachine, ':')[-1]
    : $exists($hook.codeDeployHook) ? $hook.codeDeployHook
    : $exists($hook.ecsLifecycleHook) ? $hook.ecsLifecycleHook : $hook.lambda
    """.strip()
BEGINNING = {
    "hooks": "{% [$states.input.hooks] %}",
    "index": 0,
    "name": "",
    "details": {},
    "polls": 0,
    "wakes": 0,
    "until": 0,
    "failure": {},
    "refusal": "",
    "reason": "",
    "ended": {},
    "answer": {},
    "weight": "{% $exists($states.input.weight) ? $states.input.weight : 0 %}",
    "told": expression(
        """
        $merge([$sift($states.input, function($v, $k) { $k in
        ['rolloutId', 'stage', 'target', 'through', 'stable', 'candidate', 'step'] }),
        $exists($states.input.service) ? {'service': {
        'way': $states.input.service.way,
        'stableGroups': [$states.input.service.pairs.stable],
        'candidateGroups': [$states.input.service.pairs.candidate],
        'rules': [$states.input.service.pairs.rules],
        'testRules': [$states.input.service.pairs.testRules]}} : {}])
        """
    ),
}
REASON_CHARACTERS = 4000
"""Maximum length of a reason on record."""
KEPT_SECONDS = 366 * 24 * 3600
"""How long an item is kept beyond the retention of the records: its rollout may take a year."""


def record(comment: str, outcome: str, *, told: str, hooks: str, then: str, assign: Body | None = None) -> Body:
    """Put on record what the hooks answered, for the history of their rollout.

    Parameters
    ----------
    told, hooks
        Expressions of what the hooks are told, and of the hooks.
    """
    more = {
        "running": "",
        "succeeded": "'endedAt': {'S': $now()},",
        "failed": f"'endedAt': {{'S': $now()}}, 'reason': {{'S': $substring($reason, 0, {REASON_CHARACTERS})}},",
    }[outcome]
    return put_item(
        comment,
        f"""
        $merge([{{
        'pk': {{'S': 'ROLLOUT#' & {told}.rolloutId}},
        'sk': {{'S': 'HOOK#' & $states.context.Execution.Name}},
        'stage': {{'S': {told}.stage}},
        'hooks': {{'L': [$map({hooks}, function($hook) {{ {{'S': {NAME_OF_HOOK}}} }})]}},
        'startedAt': {{'S': $fromMillis($toMillis($states.context.Execution.StartTime))}},
        {more}
        'outcome': {{'S': '{outcome}'}},
        'execution': {{'S': $states.context.Execution.Id}},
        'expiresAt': {{'N': $formatNumber($floor($millis() / 1000) + {KEPT_SECONDS}
        + $number('${{RetentionDays}}') * 86400, '0')}}
        }}, $type({told}.step) = 'number' ? {{'step': {{'N': $string({told}.step)}}}} : {{}}])
        """,
        assign=assign,
        then=then,
    )


def refuse(comment: str, error: str, reason: str) -> Body:
    """Keep why the hooks do not agree."""
    return assigning(comment, {"refusal": error, "reason": reason}, then="Record the failure")


STATES = {
    "Begin": record(
        "Keeps what every hook receives, and puts on record that they are asked.",
        "running",
        told="$states.input",
        hooks="[$states.input.hooks]",
        assign=BEGINNING,
        then="Next hook?",
    ),
    "Next hook?": choice(
        "Takes the hooks in order.",
        when(
            f"{MORE} and $exists($hooks[$index].ecsTask)",
            assign={
                "name": expression(
                    """
                    $type($hooks[$index].ecsTask.taskDefinition) = 'string'
                    ? $hooks[$index].ecsTask.taskDefinition : 'ecsTask'
                    """
                ),
                "until": DEADLINE,
            },
            then="Run task",
        ),
        when(
            f"{MORE} and $exists($hooks[$index].stateMachine)",
            assign={"name": "{% $split($hooks[$index].stateMachine, ':')[-1] %}", "until": DEADLINE},
            then="Run machine",
        ),
        when(
            MORE,
            assign={"name": FUNCTION_OF_HOOK, "details": {}, "wakes": 0, "until": DEADLINE},
            then="Ask",
        ),
        default="Record the success",
    ),
    "Ask": invoke(
        "Invokes the hook. An error that it raises is its answer: it is not invoked again.",
        FUNCTION_OF_HOOK,
        EVENT_OF_HOOK,
        seconds=TIME_LEFT,
        retries=[retry(*LAMBDA_ERRORS)],
        catches=[
            catch("States.Timeout", then="Took too long"),
            # Not a retrier: the time for which it sleeps is not the hook's.
            catch(
                *SLEEPING_FUNCTION_ERRORS,
                assign={"failure": FAILURE, "wakes": "{% $wakes + 1 %}"},
                then="Still asleep?",
            ),
            TOO_MUCH,
            catch(ALL, assign={"failure": FAILURE}, then="Could not be asked"),
        ],
        assign={
            "answer": answer(RESULT, f"{{'hookStatus': 'none', 'given': {RESULT}}}"),
            "polls": "{% $polls + 1 %}",
        },
        then="Answer?",
    ),
    "Still asleep?": choice(
        "Lambda makes a function ready that was idle for weeks. The hook's time begins again with each call.",
        when(
            f"$wakes <= {WAKES}",
            assign={"until": f"{{% $millis() + ({WAKE_WAIT} + $hooks[$index].timeoutSeconds) * 1000 %}}"},
            then="Let it wake",
        ),
        default="Could not be asked",
    ),
    "Let it wake": wait("Waits for Lambda.", WAKE_WAIT, then="Ask"),
    "Answer?": choice(
        "Continues after SUCCEEDED, asks again after IN_PROGRESS. Everything else fails.",
        IF_AGREED,
        when(
            f"$answer.hookStatus = 'IN_PROGRESS' and $polls < 1000 and $millis() + {DELAY} * 1000 < $until",
            assign={
                # ECS merges what its hooks return, and others get back what they returned last.
                "details": expression(
                    """
                    $exists($hooks[$index].ecsLifecycleHook)
                    ? $merge([$details, $type($answer.hookDetails) = 'object' ? $answer.hookDetails : {}])
                    : $exists($answer.hookDetails) ? $answer.hookDetails : {}
                    """
                )
            },
            then="Wait",
        ),
        when("$answer.hookStatus = 'IN_PROGRESS'", then="Took too long"),
        default="Refused",
    ),
    "Wait": wait("Waits as long as the hook asked for.", expression(DELAY), then="Ask"),
    "Run task": run_hook(
        "Runs an ECS task to its end in another execution, which succeeds if the task does.",
        "${EcsTaskMachine}",
        """
        $merge([$hooks[$index].ecsTask, {'AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID': $states.context.Execution.Id,
        'environment': $merge([$hooks[$index].ecsTask.environment,
        {'HEADGATE_ROLLOUT_ID': $told.rolloutId, 'HEADGATE_STAGE': $told.stage,
        'HEADGATE_STABLE': $string($told.stable), 'HEADGATE_CANDIDATE': $string($told.candidate),
        'HEADGATE_STEP': $string($told.step)}])}])
        """,
        assign=NEXT_HOOK,
        then="Next hook?",
    ),
    "Run machine": run_hook(
        "Runs a state machine to its end. Its output can be an answer like that of a function.",
        "{% $hooks[$index].stateMachine %}",
        "$merge([$told, {'config': $hooks[$index].config}])",
        assign={"answer": answer("$states.result.Output", "{'hookStatus': 'SUCCEEDED'}")},
        then="What did it say?",
    ),
    "Look it up": look_up(
        "The start succeeded, but its response was lost, and the execution has ended since: reads how.",
        MACHINE_OF_HOOK,
        f"({CHILD_NAME})",
        into="ended",
        then="How did it end?",
    ),
    "How did it end?": choice(
        "Continues as if the execution had been followed.",
        when(
            "$ended.Status = 'SUCCEEDED' and $exists($hooks[$index].ecsTask)",
            assign=NEXT_HOOK,
            then="Next hook?",
        ),
        when(
            "$ended.Status = 'SUCCEEDED'",
            assign={
                "answer": expression(
                    """
                    ($output := $parse($ended.Output); $type($output) = 'object' and $exists($output.hookStatus)
                    ? $output : {'hookStatus': 'SUCCEEDED'})
                    """
                )
            },
            then="What did it say?",
        ),
        default="Failed",
    ),
    "What did it say?": choice(
        "The state machine has ended, so it is not asked again.",
        IF_AGREED,
        default="Refused",
    ),
    "How did it fail?": choice(
        "Either the cause reports how the execution ended, or it never started or still runs. A cause of nearly "
        "32,768 characters may be cut off, and is not JSON then.",
        when(
            "$failure.Error = 'States.TaskFailed'",
            assign={
                "ended": expression(
                    f"""
                    {is_whole_object("$failure.Cause")} ? $parse($failure.Cause)
                    : {{'Error': $failure.Error, 'Cause': $exists($failure.Cause) ? $failure.Cause : ''}}
                    """
                )
            },
            then="Failed",
        ),
        default="Stop it",
    ),
    "Stop it": task(
        "Stops the child execution: Step Functions documents that it tries to when the parent is stopped, but not "
        "after a timeout.",
        "aws-sdk:sfn:stopExecution",
        {
            "ExecutionArn": execution_arn(MACHINE_OF_HOOK, f"({CHILD_NAME})"),
            "Error": "HookTimedOut",
            "Cause": expression(f"{HOOK} & ' is not waited for any more'"),
        },
        seconds=10,
        retries=[retry(*READ_EXECUTION_ERRORS, longest=5, times=3)],
        catches=[catch(ALL, output={}, then="Out of time?")],
        then="Out of time?",
    ),
    "Out of time?": choice(
        "Checks if the hook timed out or could not be started.",
        when("$failure.Error = 'States.Timeout'", then="Took too long"),
        default="Could not be asked",
    ),
    "Record the success": record(
        "Puts on record that every hook succeeded.", "succeeded", told="$told", hooks="$hooks", then="All agreed"
    ),
    "All agreed": succeed("Every hook of the stage succeeded.", {"hookStatus": "SUCCEEDED", "asked": "{% $index %}"}),
    "Refused": refuse(
        "A hook failed, or gave no valid answer.",
        "HookFailed",
        expression(
            f"""
            {HOOK} & ($answer.hookStatus = 'FAILED'
            ? ' failed' & ($exists($answer.hookDetails) and $answer.hookDetails != {{}}
            ? ': ' & $substring($string($answer.hookDetails), 0, 2000) : ', and gave no hookDetails')
            : ' gave no valid answer: ' & {INVALID_ANSWER})
            """
        ),
    ),
    "Failed": refuse(
        "A task or a state machine failed. The result of a task reports how. A state machine's text is told, but no "
        "JSON: Step Functions passes on what a task raised, or the input of a child execution, as JSON.",
        "HookFailed",
        expression(
            f"""
            ($result := $exists($hooks[$index].ecsTask) and $exists($ended.Cause)
            and $substring($ended.Cause, 0, 1) = '{{' and $substring($ended.Cause, -1) = '}}'
            ? $parse($ended.Cause) : {{}};
            $raised := $exists($hooks[$index].stateMachine) and $exists($ended.Cause)
            and ($ended.Error = 'Lambda.Unknown' or $substring($trim($ended.Cause), 0, 1) = '{{');
            $codes := $result.tasks[outcome != 'succeeded'].exitCodes;
            {HOOK} & ' failed: ' & ($exists($result.outcome)
            ? $result.outcome & ' (' & $ended.Error & '): ' & $substring($result.reason, 0, 2000)
            & ($exists($codes) and $codes != {{}} ? '; exit codes ' & $string($codes) : '')
            : $exists($ended.Error)
            ? $ended.Error & ($raised ? '; see its execution'
            : $exists($ended.Cause) ? ' ' & $substring($ended.Cause, 0, 2000) : '')
            : 'its execution is ' & $ended.Status))
            """
        ),
    ),
    "Took too long": refuse(
        "A hook used up its time, or the polls of the stage.",
        "HookTimedOut",
        expression(
            f"""
            {HOOK} & ($polls >= 1000 ? ' was still in progress when the stage had been polled 1000 times;
            let it answer with a longer callBackDelay'
            : ' did not finish within ' & $hooks[$index].timeoutSeconds & ' s')
            """
        ),
    ),
    "Answered too much": refuse(
        "A hook succeeded, but Step Functions cannot hold its answer.",
        "HookFailed",
        expression(
            f"""
            {HOOK} & ' answered too much: ' & ({IS_FUNCTION} ? 'an answer may have'
            : 'input and output of an execution together may have') & ' 256 KiB; ' & $failure.Error
            & ($exists($failure.Cause) ? ' ' & $substring($failure.Cause, 0, 2000) : '')
            """
        ),
    ),
    "Could not be asked": refuse(
        "A hook raised an error, could not be invoked or started, or does not exist.",
        "HookFailed",
        expression(
            f"""
            {HOOK} & ({IS_FUNCTION} ? ' could not be asked: ' : ' could not be started: ')
            & $failure.Error & ({RAISED} ? '; see its logs'
            : $exists($failure.Cause) ? ' ' & $substring($failure.Cause, 0, 2000) : '')
            """
        ),
    ),
    "Record the failure": record(
        "Puts on record why the hooks do not agree.", "failed", told="$told", hooks="$hooks", then="Disagreed"
    ),
    "Disagreed": fail(
        "Some hook of the stage did not succeed.", not_reserved("$refusal", "HookFailed"), "{% $reason %}"
    ),
}

MACHINE = machine(
    "Runs the hooks of one stage in order: invokes functions again while they answer IN_PROGRESS, and runs tasks and "
    "state machines to their end.",
    STATES,
)
