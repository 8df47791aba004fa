"""The stack machine: carries out one request of a custom resource, and answers CloudFormation.

What comes next is decided by a function that reads the records, so the machine only does what it is told, one thing
at a time: it waits for executions, which a function cannot do for an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from statemachines.source.shapes import (
    ALL,
    ALREADY_STARTED_ERRORS,
    BUSY,
    FAILURE,
    PUT_EVENTS_ERRORS,
    READ_EXECUTION_ERRORS,
    RESULT,
    TRANSIENT_ERRORS,
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
    retry,
    run_machine,
    succeed,
    task,
    variables,
    wait,
    waking,
    when,
)

if TYPE_CHECKING:
    from statemachines.source.shapes import Body

TWO_HOURS = 2 * 3600
"""CloudFormation waits for an hour at most. An earlier request follows its rollout for as long again."""
CHILD_MACHINE = """
    ($next.do = 'roll-out' ? '${RolloutMachine}' : $next.do = 'ask' ? '${HooksMachine}' : '${EcsTaskMachine}')
    """.strip()
SECONDS_BETWEEN_LOOKS = 5
"""Between a signal and the next look at the record."""
FOR_MINUTES = (waking(), BUSY, retry(*TRANSIENT_ERRORS, longest=60, times=20))
"""Retriers of Respond: ten minutes on average. CloudFormation would wait for an hour if it got no answer."""
LINK = "{'AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID': $states.context.Execution.Id}"
"""Links an execution to this one in the console."""


def told(value: Body | str) -> Body:
    """Keep what the planner must know of what was done."""
    return {"told": value}


def fails_with(reason: str) -> Body:
    """Give up: the answer to CloudFormation is a failure. The responder adds the physical id of the request."""
    where = "'. See the execution ' & $states.context.Execution.Id"
    return {"answer": {"Status": "FAILED", "Reason": expression(f"{reason} & {where}")}}


def run_child(comment: str, arn: str, child_input: str, *, assign: Body) -> Body:
    """Run another machine to its end, under the name that the planner gives."""
    return run_machine(
        comment,
        arn,
        "$next.name",
        f"$merge([{child_input}, {LINK}])",
        seconds="{% $next.seconds %}",
        known=catch(*ALREADY_STARTED_ERRORS, output={}, then="Look it up"),
        catches=[catch(ALL, assign={"failure": FAILURE}, output={}, then="How did it fail?")],
        assign=assign,
        then="What next?",
    )


STATES = {
    "Begin": assigning(
        "Keeps which request this is.",
        {
            "resource": "{% $states.input.resource %}",
            "requestId": "{% $states.input.requestId %}",
            "state": {},
            "told": {},
            "next": {},
            "failure": {},
            "ended": {},
            "answer": {},
            "sent": "",
        },
        then="What next?",
    ),
    "What next?": invoke(
        "Reads the stack, the target and the records, and decides what to do next. It may publish a version and change "
        "an alias that serves no traffic yet.",
        "${StackPlanner}",
        variables("resource", "requestId", "state", "told"),
        seconds=70,
        patient=True,
        catches=[
            catch(
                ALL,
                assign=fails_with("'Headgate could not decide what to do: ' & $states.errorOutput.Error"),
                output={},
                then="Respond",
            )
        ],
        assign={
            "state": expression(f"{RESULT}.state"),
            "next": expression(f"{RESULT}.next"),
            "told": {},
        },
        then="Do it",
    ),
    "Do it": choice(
        "Follows the decision.",
        when("$next.do = 'plan'", then="Plan"),
        when("$next.do = 'roll-out'", then="Roll out"),
        when("$next.do = 'ask'", then="Ask hooks"),
        when("$next.do = 'run-task'", then="Run task"),
        when("$next.do = 'abort'", then="Abort"),
        when("$next.do = 'wait'", then="Wait"),
        when("$next.do = 'respond'", assign={"answer": "{% $next.answer %}"}, then="Respond"),
        default="Unknown step",
    ),
    "Unknown step": assigning(
        "An upgrade replaced the function that decides, and this execution has the earlier definition.",
        fails_with("'Headgate was upgraded in the meantime: there is no step ' & $string($next.do)"),
        then="Respond",
    ),
    "Plan": invoke(
        "Makes the plan of the rollout, as the rollout machine will. Nothing is changed.",
        "${Planner}",
        {"request": "{% $next.request %}", "executionName": "{% $requestId %}"},
        patient=True,
        catches=[catch(ALL, assign=told({"failure": FAILURE}), output={}, then="What next?")],
        assign=told({"plan": expression(f"{RESULT}.plan"), "request": expression(f"{RESULT}.request")}),
        then="What next?",
    ),
    "Roll out": run_child(
        "Runs the rollout to its end. How it ended is in its record.",
        "${RolloutMachine}",
        "$next.request",
        assign=told({"ended": True}),
    ),
    "Ask hooks": run_child(
        "Runs the hooks of one stage: there is no rollout, because there is nothing to shift.",
        "${HooksMachine}",
        "$next.input",
        assign=told({"answered": True}),
    ),
    "Run task": run_child(
        "Runs an ECS task to its end.",
        "${EcsTaskMachine}",
        "$next.request",
        assign=told({"task": "{% $states.result.Output %}"}),
    ),
    "How did it fail?": choice(
        "Either the execution has ended, and the cause reports how, or it never started or still runs. A cause of "
        "nearly 32,768 characters may be cut off, and is not JSON then: the execution is read instead. How a rollout "
        "ended is in its record; if it still runs, the planner aborts it, which rolls back sooner than the warden "
        "would after a stop.",
        when(
            f"$next.do = 'roll-out' or $failure.Error = 'States.TaskFailed' and {is_whole_object('$failure.Cause')}",
            assign=told(
                expression(
                    """
                    $next.do = 'roll-out' ? {'ended': true, 'failure': $failure} : ($end := $parse($failure.Cause);
                    {'failure': {'Error': $exists($end.Error) ? $end.Error : $failure.Error,
                    'Cause': $exists($end.Cause) ? $end.Cause : 'its execution is ' & $end.Status}})
                    """
                )
            ),
            then="What next?",
        ),
        when("$failure.Error = 'States.TaskFailed'", then="Look it up"),
        assign=told({"failure": "{% $failure %}"}),
        default="Stop it",
    ),
    "Stop it": task(
        "Stops the execution: Step Functions documents that it tries to when the parent is stopped, but not after a "
        "timeout.",
        "aws-sdk:sfn:stopExecution",
        {
            "ExecutionArn": execution_arn(CHILD_MACHINE, "$next.name"),
            "Error": "StackTimedOut",
            "Cause": "The custom resource does not wait for it any more",
        },
        seconds=10,
        retries=[retry(*READ_EXECUTION_ERRORS, longest=5, times=3)],
        catches=[catch(ALL, output={}, then="What next?")],
        then="What next?",
    ),
    "Look it up": look_up(
        "The execution has ended: reads how. Either the response of its start was lost, or the cause was cut off.",
        CHILD_MACHINE,
        "$next.name",
        into="ended",
        then="How did it end?",
    ),
    "How did it end?": assigning(
        "Continues as if the execution had been followed.",
        told(
            expression(
                """
                $next.do = 'roll-out' ? {'ended': true}
                : $ended.Status != 'SUCCEEDED' ? {'failure': {
                'Error': $exists($ended.Error) ? $ended.Error : 'States.TaskFailed',
                'Cause': $exists($ended.Cause) ? $ended.Cause : 'its execution is ' & $ended.Status}}
                : $next.do = 'ask' ? {'answered': true} : {'task': $parse($ended.Output)}
                """
            )
        ),
        then="What next?",
    ),
    "Abort": task(
        "Signals an abort of a rollout. The planner looks whether it has ended, and signals again if it must.",
        "events:putEvents",
        {
            "Entries": [
                {
                    "EventBusName": "${Bus}",
                    # Announcements of Headgate alone may have the source headgate.
                    "Source": "headgate.cloudformation",
                    "DetailType": "Rollout Signal",
                    "Detail": expression(
                        """
                        {'rolloutId': $next.rolloutId, 'id': $next.signalId, 'signal': 'abort', 'by': 'cloudformation',
                        'reason': $next.reason}
                        """
                    ),
                }
            ]
        },
        seconds=60,
        retries=[retry(*PUT_EVENTS_ERRORS)],
        catches=[catch(ALL, output={}, then="Let it roll back")],
        then="Let it roll back",
    ),
    "Let it roll back": wait("Gives the rollout time to roll back.", SECONDS_BETWEEN_LOOKS, then="What next?"),
    "Wait": wait("Waits as long as the planner asked for.", "{% $next.seconds %}", then="What next?"),
    "Respond": invoke(
        "Sends the answer to CloudFormation.",
        "${StackResponder}",
        variables("resource", "requestId", "answer"),
        seconds=70,
        retries=FOR_MINUTES,
        catches=[catch(ALL, assign={"failure": FAILURE}, output={}, then="Unanswered")],
        assign={"sent": expression(f"{RESULT}.answer")},
        then="Was it taken?",
    ),
    "Was it taken?": choice(
        "S3 takes an answer for longer than this execution runs, also one that nobody waits for. Where it does not, "
        "somebody keeps the functions from it, such as the policy of a VPC endpoint.",
        when(
            "$sent = 'rejected'",
            assign={"failure": {"Error": "S3 refused it, see the log of stack_responder"}},
            then="Unanswered",
        ),
        default="Answered",
    ),
    "Answered": succeed("CloudFormation has the answer.", {"status": "{% $answer.Status %}"}),
    "Unanswered": fail(
        "CloudFormation did not get the answer, and waits until its own timeout. An operator is told.",
        "Unanswered",
        "{% $failure.Error & ': the answer ' & $answer.Status & ' could not be sent to CloudFormation' %}",
    ),
}

MACHINE = machine(
    "Carries out one request of a custom resource of CloudFormation: rolls out, runs a task or cleans up, and answers.",
    STATES,
    seconds=TWO_HOURS,
)
