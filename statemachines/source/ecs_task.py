"""The ECS task machine: runs a task, or several of the same, to the end and says how each one ended."""

from __future__ import annotations

from statemachines.source.shapes import (
    ALL,
    ECS_TRANSIENT_ERRORS,
    FAILURE,
    FAILURE_REASON,
    REQUEST_ID,
    RESULT,
    announce,
    assigning,
    catch,
    choice,
    expression,
    fail,
    for_each,
    invoke,
    machine,
    not_reserved,
    passing,
    succeed,
    task,
    variables,
    wait,
    when,
)

RETRIES = passing(*ECS_TRANSIENT_ERRORS, patient=True)
EXECUTION = "{% $states.context.Execution.Id %}"
NOT_CLASSIFIED = "'its end could not be classified: ' & $states.errorOutput.Error"
NEW_ATTEMPT = {"failure": {}, "task": {}, "stopped": True, "left": [], "looks": 0}
TOLD = """
    ($length($string($result)) <= 32000 ? $result
    : $merge([$result, {'reason': $substring($result.reason, 0, 500),
    'tasks': [$result.tasks.{'number': number, 'outcome': outcome, 'reason': reason, 'exitCodes': exitCodes}]}]))
    """.strip()
"""The result, without attempts and logs if it would be too long."""
NO_TASKS = {"succeeded": 0, "tasks": []}

ONE_TASK = {
    "Begin": assigning(
        "The first attempt of one task.",
        {
            "taskNumber": "{% $states.input %}",
            "attempt": 1,
            "throttles": 0,
            "onDemand": False,
            "attempts": [],
            "verdict": {},
            **NEW_ATTEMPT,
        },
        then="Run",
    ),
    "Run": task(
        "Runs the task and waits until it has stopped. Its tags name this execution and its number.",
        "ecs:runTask.sync",
        expression(
            """
            $merge([$onDemand ? $plan.fallback : $plan.parameters,
            $onDemand or $not($exists($plan.providers)) ? {} :
            {'CapacityProviderStrategy': [{'CapacityProvider': $plan.providers[$taskNumber - 1], 'Weight': 1}]},
            {'Tags': $append($plan.parameters.Tags, [{'Key': 'headgate:number', 'Value': $string($taskNumber)}])}])
            """
        ),
        seconds="{% $plan.timeoutSeconds %}",
        # ECS reports throttling as text alone, so that no retrier can name it: the classifier does.
        retries=[],
        catches=[catch(ALL, assign={"failure": FAILURE}, output={}, then="Stop what runs")],
        assign={"task": "{% $states.result %}"},
        then="Classify",
    ),
    "Stop what runs": invoke(
        "After a timeout or an error the task may still run: finds it by its tags and stops it.",
        "${TaskStopper}",
        {
            "cluster": "{% $plan.cluster %}",
            "execution": EXECUTION,
            "number": "{% $taskNumber %}",
            "reason": expression(
                "'Headgate: attempt ' & $attempt & ' of task ' & $taskNumber & ' ended with ' & $failure.Error"
            ),
        },
        retries=RETRIES,
        catches=[catch(ALL, assign={"stopped": False}, output={}, then="Classify")],
        assign={"stopped": True, "left": expression(f"[{RESULT}.stopped]")},
        then="Classify",
    ),
    "Classify": invoke(
        "Decides how the attempt ended, and whether the task runs again.",
        "${TaskClassifier}",
        {
            **variables("plan", "attempt", "onDemand", "stopped", "failure", "task"),
            "number": "{% $taskNumber %}",
            **variables("left", "looks", "throttles"),
            "execution": EXECUTION,
            "known": "{% [$attempts.taskArn] %}",
        },
        retries=RETRIES,
        catches=[
            catch(
                ALL,
                assign={
                    "verdict": {
                        "again": False,
                        "error": "TaskEndUnknown",
                        "logs": [],
                        "ending": {"outcome": "unknown", "exitCodes": {}, "reason": expression(NOT_CLASSIFIED)},
                    },
                    "attempts": expression(
                        f"""
                        $append($attempts, [{{'number': $taskNumber, 'attempt': $attempt, 'onDemand': $onDemand,
                        'outcome': 'unknown', 'reason': {NOT_CLASSIFIED},
                        'taskArn': $count($left) > 0 ? $left[0] : '',
                        'containers': [], 'exitCodes': {{}}, 'next': 'nothing is known of it'}}])
                        """
                    ),
                },
                output={},
                then="Again?",
            )
        ],
        assign={
            "verdict": expression(RESULT),
            "attempts": expression(f"{RESULT}.counts = false ? $attempts : $append($attempts, [{RESULT}.ending])"),
        },
        then="Again?",
    ),
    "Again?": choice(
        "Follows the request's rules and the number of attempts. A start that ECS throttled is no attempt.",
        when("$verdict.stopping = true", assign={"looks": "{% $looks + 1 %}"}, then="Let it stop"),
        when(
            "$verdict.again = true and $verdict.counts = false",
            assign={"throttles": "{% $throttles + 1 %}", "onDemand": "{% $verdict.onDemand %}", **NEW_ATTEMPT},
            then="Wait",
        ),
        when(
            "$verdict.again = true",
            assign={"attempt": "{% $attempt + 1 %}", "onDemand": "{% $verdict.onDemand %}", **NEW_ATTEMPT},
            then="Wait",
        ),
        default="Ended",
    ),
    "Let it stop": wait(
        "Its containers are still shutting down: only then are their exit codes and last log lines known.",
        "{% $verdict.waitSeconds %}",
        then="Classify",
    ),
    "Wait": wait("Waits longer after each attempt, by a random part.", "{% $verdict.waitSeconds %}", then="Run"),
    "Ended": succeed(
        "The result of this task.",
        {
            "number": "{% $taskNumber %}",
            "outcome": "{% $verdict.ending.outcome %}",
            "error": "{% $verdict.error %}",
            "reason": "{% $verdict.ending.reason %}",
            "exitCodes": "{% $verdict.ending.exitCodes %}",
            "attempts": "{% [$attempts] %}",
            "throttled": "{% $throttles %}",
            "logs": "{% [$verdict.logs] %}",
        },
    ),
}

STATES = {
    "Plan": invoke(
        "Reads the request, checks it against the task definition and makes the parameters of RunTask. Nothing runs "
        "yet.",
        "${TaskPlanner}",
        {
            "request": "{% $states.input %}",
            "executionName": "{% $states.context.Execution.Name %}",
            "execution": EXECUTION,
        },
        retries=RETRIES,
        catches=[
            catch(
                ALL,
                assign={
                    "result": {
                        "id": REQUEST_ID,
                        "execution": EXECUTION,
                        "outcome": "refused",
                        "error": not_reserved("$states.errorOutput.Error", "TaskPlanFailed"),
                        "reason": FAILURE_REASON,
                        "count": 0,
                        **NO_TASKS,
                    }
                },
                output={},
                then="Announce",
            )
        ],
        assign={"plan": expression(f"{RESULT}.plan")},
        then="Tasks",
    ),
    "Tasks": for_each(
        "Runs each task separately, because .sync reports on one task only.",
        "{% [$plan.numbers] %}",
        ONE_TASK,
        catches=[
            catch(
                ALL,
                assign={
                    "result": {
                        "id": "{% $plan.id %}",
                        "execution": EXECUTION,
                        "outcome": "unknown",
                        "error": "TaskEndUnknown",
                        "reason": expression(
                            """
                            'the tasks could not be followed: ' & $states.errorOutput.Error
                            & ($exists($states.errorOutput.Cause) ? ' ' & $states.errorOutput.Cause : '')
                            """
                        ),
                        "taskDefinition": "{% $plan.taskDefinition %}",
                        "count": "{% $plan.count %}",
                        **NO_TASKS,
                    }
                },
                output={},
                then="Stop all",
            )
        ],
        assign={"tasks": "{% [$states.result] %}"},
        then="Conclude",
    ),
    "Stop all": invoke(
        "Stops the tasks, because this execution cannot follow them any more.",
        "${TaskStopper}",
        {
            "cluster": "{% $plan.cluster %}",
            "execution": EXECUTION,
            "reason": "Headgate: the execution that ran it has failed",
        },
        retries=RETRIES,
        catches=[catch(ALL, output={}, then="Announce")],
        then="Announce",
    ),
    "Conclude": assigning(
        "Succeeded if every task did; otherwise reports the first task that did not.",
        {
            "result": expression(
                """
                ($bad := $tasks[outcome != 'succeeded']; $first := $bad[0]; {'id': $plan.id,
                'execution': $states.context.Execution.Id,
                'outcome': $count($bad) = 0 ? 'succeeded' : $first.outcome,
                'error': $count($bad) = 0 ? '' : $first.error,
                'reason': ($count($bad) = 0 ? 'every essential container exited with 0'
                : ($plan.count > 1 ? 'task ' & $first.number & ' of ' & $plan.count & ': ' : '') & $first.reason),
                'taskDefinition': $plan.taskDefinition,
                'count': $plan.count,
                'succeeded': $plan.count - $count($bad),
                'tasks': [$tasks]})
                """
            )
        },
        then="Announce",
    ),
    "Announce": announce("Task Ended", "taskId", "task-ended", then="How did it end?"),
    "How did it end?": choice(
        "Ends the execution as the tasks ended.",
        when("$result.outcome = 'succeeded'", then="Succeeded"),
        default="Failed",
    ),
    "Succeeded": succeed(
        "Every task succeeded. Whoever waits for this execution gets its input and output together, within 256 KiB.",
        expression(TOLD),
    ),
    "Failed": fail(
        "Fails with the outcome as the error and the result as the cause, without attempts and logs if it would be too "
        "long.",
        not_reserved("$result.error", "TaskEndUnknown"),
        expression(f"$string({TOLD})"),
    ),
}

MACHINE = machine(
    "Runs an ECS task, or up to ten of the same, to the end and reports exactly how each one ended.", STATES
)
