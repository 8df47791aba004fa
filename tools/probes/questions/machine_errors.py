"""Step Functions: under which name an error of a task arrives, and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tools.probes.model import Answer, UnclearError, answer, probe
from tools.probes.questions.machines import REFUSED_DEFINITION, STATES

if TYPE_CHECKING:
    from tools.probes.lab import Lab

RAISING = "def handler(event, context):\n    raise ValueError('on purpose')\n"
SLEEPING = "import time\n\ndef handler(event, context):\n    time.sleep(8)\n"
LARGE = "def handler(event, context):\n    return 'x' * 300_000\n"

PUT_EVENTS_ERRORS = ("EventBridge.AmazonEventBridgeException", "EventBridge.EventBridgeException")
FUNCTION_TIMEOUTS = ("Sandbox.Timedout", "Lambda.Unknown")

_DENIED = (
    "Step Functions derives the name from the service where an error is not in the API's model, as a refusal and a "
    "throttle are not. A refusal can be produced, a throttle cannot."
)


@probe(
    "error-of-start-execution",
    question="Does an error of StartExecution that its model does not list arrive as "
    "StepFunctions.AWSStepFunctionsException?",
    call="stepfunctions:StartExecution",
    matters=f"{_DENIED} A throttled start of a hook is retried by this name (`statemachines/source/shapes.py`).",
    creates="two roles and two machines",
    assumed="yes",
    minutes=2,
)
def error_of_start_execution(lab: Lab) -> Answer:
    """Start a child without the right to."""
    child = lab.machine("child", lab.role("child-role", STATES), {"End": {"Type": "Succeed"}})
    task = {
        "Resource": "states:::states:startExecution",
        "Arguments": {"StateMachineArn": child, "Input": {}},
    }
    found = _refusal_of(lab, task)
    return answer(yes=found["error"] == "StepFunctions.AWSStepFunctionsException", **found)


@probe(
    "error-of-put-events",
    question="Does an error of PutEvents that its model does not list arrive as EventBridge.AmazonEventBridgeException "
    "or EventBridge.EventBridgeException?",
    call="stepfunctions:StartExecution",
    matters=f"{_DENIED} Announcing the end of a task or redrive is retried by these names.",
    creates="a role, a bus and a machine",
    assumed="yes",
    minutes=2,
)
def error_of_put_events(lab: Lab) -> Answer:
    """Put an event without the right to."""
    entry = {"EventBusName": lab.bus(), "Source": "probe.headgate", "DetailType": "Probe", "Detail": {}}
    task = {"Resource": "states:::events:putEvents", "Arguments": {"Entries": [entry]}}
    found = _refusal_of(lab, task)
    return answer(yes=found["error"] in PUT_EVENTS_ERRORS, **found)


@probe(
    "error-of-stop-execution",
    question="Does an error of an SDK integration that its model does not list arrive as Sfn.SfnException?",
    call="stepfunctions:StartExecution",
    matters=f"{_DENIED} Stopping a hook's child is retried by this name (`statemachines/source/shapes.py`).",
    creates="a role and a machine",
    assumed="yes",
    minutes=2,
)
def error_of_stop_execution(lab: Lab) -> Answer:
    """Stop an execution without the right to."""
    execution = lab.account.arn("states", f"execution:{lab.name('machine')}:none")
    task = {"Resource": "states:::aws-sdk:sfn:stopExecution", "Arguments": {"ExecutionArn": execution}}
    found = _refusal_of(lab, task)
    return answer(yes=found["error"] == "Sfn.SfnException", **found)


@probe(
    "timeout-of-function",
    question="Does a function that runs into its own timeout fail its state with Sandbox.Timedout or Lambda.Unknown?",
    call="stepfunctions:StartExecution",
    matters="These two names are retried (`statemachines/source/shapes.py`). Under another one, a slow function rolls "
    "back a rollout.",
    creates="two roles, a function and a machine",
    assumed="yes",
    minutes=2,
)
def timeout_of_function(lab: Lab) -> Answer:
    """Invoke a function that sleeps longer than its timeout."""
    found = _function_error(lab, SLEEPING, Timeout=2)
    return answer(yes=found["error"] in FUNCTION_TIMEOUTS, **found)


@probe(
    "large-result-is-caught",
    question="Does a Catch that names States.DataLimitExceeded catch a result of more than 256 KiB?",
    call="stepfunctions:StartExecution",
    matters="States.ALL does not catch it, so the machines name it beside States.ALL. If a Catch never gets it, an "
    "execution that met it ends at once, and only the warden rolls back.",
    creates="two roles, a function and a machine",
    assumed="yes",
    minutes=2,
    no_if_refused=(REFUSED_DEFINITION,),
)
def large_result_is_caught(lab: Lab) -> Answer:
    """Invoke a function that answers 300,000 characters."""
    found = _function_error(lab, LARGE, catch="States.DataLimitExceeded")
    return answer(yes=found["error"] == "States.DataLimitExceeded" and found["caught"], **found)


@probe(
    "callback-of-failing-function",
    question="Does a state lambda:invoke.waitForTaskToken fail at once when its function raises an error?",
    call="stepfunctions:StartExecution",
    matters="A bake whose function fails is retried at once. If the state waited for its timeout instead, the bake "
    "would run its course unwatched and be judged at its end.",
    creates="two roles, a function and a machine",
    assumed="yes",
    minutes=2,
)
def callback_of_failing_function(lab: Lab) -> Answer:
    """Invoke a raising function with a timeout of a minute."""
    begun = lab.clock.monotonic()
    found = _function_error(lab, RAISING, integration="lambda:invoke.waitForTaskToken")
    return answer(yes=found["error"] == "ValueError", seconds=round(lab.clock.monotonic() - begun), **found)


@probe(
    "child-that-timed-out",
    question="Does a child execution that timed out fail its state with States.TaskFailed rather than States.Timeout?",
    call="stepfunctions:StartExecution",
    matters="The hooks machine says of States.Timeout that a hook did not end within its own time, and reads the "
    "child's end from the cause of States.TaskFailed.",
    creates="two roles and two machines; Step Functions keeps one managed rule per Region for all machines",
    assumed="yes",
    minutes=2,
)
def child_that_timed_out(lab: Lab) -> Answer:
    """Run a child that times out after a second."""
    child_states = {"Wait": {"Type": "Wait", "Seconds": 30, "End": True}}
    child = lab.machine("child", lab.role("child-role", STATES), child_states, TimeoutSeconds=1)
    rule = lab.account.arn("events", "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule")
    role = lab.role(
        "role",
        STATES,
        {"Action": "states:StartExecution", "Resource": child},
        {
            "Action": ["states:DescribeExecution", "states:StopExecution"],
            "Resource": lab.account.arn("states", f"execution:{lab.name('child')}:*"),
        },
        {"Action": ["events:PutTargets", "events:PutRule", "events:DescribeRule"], "Resource": rule},
    )
    task = {
        "Resource": "states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": child, "Input": {}},
    }
    found = _error_of(lab, role, task)
    return answer(yes=found["error"] == "States.TaskFailed", **found)


def _refusal_of(lab: Lab, task: dict[str, Any]) -> dict[str, Any]:
    """Run a task with a role that has no right at all."""
    found = _error_of(lab, lab.role("role", STATES), task, permitted=False)
    if "not authorized" not in found["cause"] and "AccessDenied" not in found["cause"]:
        raise UnclearError("the task failed for another reason than a missing right", **found)
    return found


def _function_error(
    lab: Lab, code: str, *, integration: str = "lambda:invoke", catch: str = "States.ALL", **settings: Any
) -> dict[str, Any]:
    function = lab.function("fn", lab.role("fn-role", "lambda.amazonaws.com"), code, **settings)
    arn = lab.account.arn("lambda", f"function:{function}")
    role = lab.role("role", STATES, {"Action": "lambda:InvokeFunction", "Resource": [arn, f"{arn}:*"]})
    payload = {"token": "{% $states.context.Task.Token %}"} if "waitForTaskToken" in integration else {}
    task = {"Resource": f"states:::{integration}", "Arguments": {"FunctionName": arn, "Payload": payload}}
    return _error_of(lab, role, task, catch)


def _error_of(
    lab: Lab, role: str, task: dict[str, Any], catch: str = "States.ALL", *, permitted: bool = True
) -> dict[str, Any]:
    """Run one task that fails; return its error, the beginning of its cause, and whether it was caught."""
    states = {
        "Ask": {
            "Type": "Task",
            **task,
            "Resource": f"arn:{lab.account.partition}:{task['Resource']}",
            "TimeoutSeconds": 60,
            "Catch": [{"ErrorEquals": [catch], "Output": "{% $states.errorOutput %}", "Next": "Caught"}],
            "End": True,
        },
        "Caught": {"Type": "Succeed"},
    }
    run = lab.run_permitted if permitted else lab.run_machine
    ended = run("machine", role, states)
    caught = ended["status"] == "SUCCEEDED"
    said = json.loads(ended.get("output") or "{}") if caught else {"Error": ended["error"], "Cause": ended.get("cause")}
    if not isinstance(said, dict) or "Error" not in said:
        raise UnclearError("the task succeeded", **ended)
    return {"error": said["Error"], "cause": str(said.get("Cause") or "")[:500], "caught": caught}
