"""Step Functions: what it makes of Headgate's definitions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.probes.model import Answer, UnclearError, answer, probe

if TYPE_CHECKING:
    from tools.probes.lab import Lab

MACHINES = Path(__file__).resolve().parents[3] / "statemachines"
STATES = "states.amazonaws.com"
REFUSED_DEFINITION = "CreateStateMachine:InvalidDefinition"
LONG_CAUSE = 40_000
TIMES_PER_RUN, RUNS = 500, 6


def definition(lab: Lab, name: str) -> str:
    """Return a definition of Headgate's with ARNs of this account in place of its substitutions."""

    def value(match: re.Match[str]) -> str:
        key = match[1]
        if key in ("Partition", "Bus"):
            return {"Partition": lab.account.partition, "Bus": "headgate"}[key]
        kind = "stateMachine" if key.endswith("Machine") else "function"
        return lab.account.arn("states" if kind == "stateMachine" else "lambda", f"{kind}:headgate-{key.lower()}")

    return re.sub(r"\$\{(\w+)\}", value, (MACHINES / f"{name}.asl.json").read_text("utf-8"))


@probe(
    "machines-are-valid",
    question="Does Step Functions find the definitions of all five state machines valid?",
    call="stepfunctions:ValidateStateMachineDefinition",
    matters="An error in a definition fails the deployment. The project's own check (`tools/asl`) reads the same rules "
    "from the documentation.",
    creates="nothing",
    assumed="yes",
    minutes=0.5,
)
def machines_are_valid(lab: Lab) -> Answer:
    """Validate each definition, with its warnings."""
    found = {}
    for path in sorted(MACHINES.glob("*.asl.json")):
        name = path.name.partition(".")[0]
        validated = lab.client("stepfunctions").validate_state_machine_definition(
            definition=definition(lab, name), type="STANDARD", severity="WARNING"
        )
        found[name] = {"result": validated["result"], "diagnostics": validated["diagnostics"]}
    return answer(yes=all(each["result"] == "OK" for each in found.values()), **found)


@probe(
    "states-can-be-tested",
    question="Does TestState run one state out of a whole definition of Headgate's, with variables?",
    call="stepfunctions:TestState",
    matters="The tests run the machines on an engine of the project's own (`tests/statemachines`). If yes, each state "
    "could be compared with AWS.",
    creates="nothing",
    assumed="yes",
    minutes=0.5,
    no_if_refused=("TestState:InvalidDefinition", "TestState:InvalidExecutionInput", "TestState:ValidationException"),
)
def states_can_be_tested(lab: Lab) -> Answer:
    """Run two Choice states: one that reads its input, and one that reads a variable."""
    whole = definition(lab, "rollout")
    plan: dict[str, Any] = {"hooks": {"beforeTraffic": [{}]}}
    found = {
        "Acquired?": _tested(lab, whole, "Acquired?", {"lock": "held"}, {}),
        "Before traffic?": _tested(lab, whole, "Before traffic?", {}, {"plan": plan}),
    }
    nexts = {name: each.get("nextState") for name, each in found.items()}
    return answer(yes=nexts == {"Acquired?": "Prepare", "Before traffic?": "Before traffic"}, **found)


def _tested(lab: Lab, whole: str, name: str, given: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    tested = lab.client("stepfunctions").test_state(
        definition=whole,
        stateName=name,
        input=json.dumps(given),
        variables=json.dumps(variables),
        inspectionLevel="INFO",
    )
    return {key: tested[key] for key in ("status", "nextState", "error", "cause") if key in tested}


@probe(
    "variable-named-as-function",
    question="May a JSONata variable be called $number, as the function is, and does it then have its own value?",
    call="stepfunctions:StartExecution",
    matters="The test engine lets the variable win. As AWS may not, `tools/asl` refuses such names; if it does, the "
    "rule can go.",
    creates="a role and a machine",
    assumed="yes",
    minutes=1,
    no_if_refused=(REFUSED_DEFINITION,),
)
def variable_named_as_function(lab: Lab) -> Answer:
    """Assign the variable, and write it as text in the next state."""
    states = {
        "Assign": {"Type": "Pass", "Assign": {"number": "{% 7 %}"}, "Next": "Read"},
        "Read": {"Type": "Succeed", "Output": {"text": "{% $string($number) %}"}},
    }
    ended = lab.run_machine("machine", lab.role("role", STATES), states)
    return answer(yes=json.loads(ended.get("output", "{}")).get("text") == "7", **ended)


@probe(
    "reserved-error-name",
    question="Does an execution end with the error States.Timeout when a Fail state's Error expression says so?",
    call="stepfunctions:StartExecution",
    matters="Names in the namespace States. are reserved, so the machines replace one that they hand on "
    "(`statemachines/source/shapes.py`). If it is accepted, they can keep it.",
    creates="a role and a machine",
    assumed="no",
    minutes=1,
    no_if_refused=(REFUSED_DEFINITION,),
)
def reserved_error_name(lab: Lab) -> Answer:
    """Fail with such a name from an expression."""
    states = {"End": {"Type": "Fail", "Error": "{% 'States.' & 'Timeout' %}", "Cause": "on purpose"}}
    ended = lab.run_machine("machine", lab.role("role", STATES), states)
    return answer(yes=ended.get("error") == "States.Timeout", **ended)


@probe(
    "long-cause",
    question="Does an execution keep its own error when the Cause of its Fail state is longer than 32,768 characters?",
    call="stepfunctions:StartExecution",
    matters="The machines hand on causes as they come, and expect AWS to cut them (`statemachines/source/shapes.py`). "
    "If a long one replaces the error, every Cause must be cut.",
    creates="a role and a machine",
    assumed="yes",
    minutes=1,
)
def long_cause(lab: Lab) -> Answer:
    """Fail with a cause of 40,000 characters."""
    cause = f"{{% $pad('', {LONG_CAUSE}, 'x') %}}"
    ended = lab.run_machine(
        "machine", lab.role("role", STATES), {"End": {"Type": "Fail", "Error": "OnPurpose", "Cause": cause}}
    )
    shown = ended.pop("cause", "")
    return answer(yes=ended.get("error") == "OnPurpose", characters=len(shown), begins=shown[:200], **ended)


@probe(
    "digits-of-entered-time",
    question="Has EnteredTime three digits of a second also where they are zeros?",
    call="stepfunctions:StartExecution",
    matters="The test engine writes three digits. The machines rely on none: they compare times as numbers. Times that "
    "somebody compares as text need the same number of digits.",
    creates="a role and a machine; up to 3,000 state transitions",
    assumed="yes",
    minutes=4,
    cents=8,
)
def digits_of_entered_time(lab: Lab) -> Answer:
    """Collect the times of many states until one ends in zeros, or has fewer digits."""
    inner = {"Time": {"Type": "Pass", "Output": "{% $states.context.State.EnteredTime %}", "End": True}}
    states = {
        "Times": {
            "Type": "Map",
            "Items": f"{{% [1..{TIMES_PER_RUN}] %}}",
            "ItemProcessor": {"StartAt": "Time", "States": inner},
            "End": True,
        }
    }
    machine = lab.machine("machine", lab.role("role", STATES), states)
    seen: set[str] = set()
    for _ in range(RUNS):
        ended = lab.outcome(lab.start(machine))
        if ended["status"] != "SUCCEEDED":
            raise UnclearError("the machine failed", **ended)
        seen |= set(json.loads(ended["output"]))
        odd = sorted(time for time in seen if not re.search(r"\.\d{3}Z$", time))
        zeros = sorted(time for time in seen if re.search(r"0Z$", time))
        if odd:
            return answer(yes=False, times=len(seen), otherForms=odd[:10])
        if any(time.endswith(".000Z") for time in zeros):
            return answer(yes=True, times=len(seen), zeros=zeros[:10])
    raise UnclearError("no state was entered on a whole second", times=len(seen), examples=sorted(seen)[:5])


@probe(
    "timeout-of-each-attempt",
    question="Is an expression in TimeoutSeconds evaluated again for each attempt of a state?",
    call="stepfunctions:StartExecution",
    matters="A bake that is retried computes the rest of its time anew. If it is evaluated once, such a bake is longer "
    "by what the earlier attempts took.",
    creates="a role, a queue and a machine",
    assumed="yes",
    minutes=2,
)
def timeout_of_each_attempt(lab: Lab) -> Answer:
    """Fail the first attempt, which has 60 seconds, and time the second one, which has 3."""
    queue = lab.queue("tokens")
    role = lab.role("role", STATES, {"Action": "sqs:SendMessage", "Resource": queue.arn})
    states = {
        "Wait": {
            "Type": "Task",
            "Resource": f"arn:{lab.account.partition}:states:::sqs:sendMessage.waitForTaskToken",
            "Arguments": {"QueueUrl": queue.url, "MessageBody": "{% $states.context.Task.Token %}"},
            "TimeoutSeconds": "{% $states.context.State.RetryCount > 0 ? 3 : 60 %}",
            "Retry": [{"ErrorEquals": ["Again"], "IntervalSeconds": 1, "MaxAttempts": 1}],
            "End": True,
        }
    }
    machine = lab.machine("machine", role, states)
    executions = [lab.start(machine)]

    def first_attempt() -> Any:
        # While AWS does not yet know the role's right to send, an execution fails at once.
        if lab.status(executions[-1]) != "RUNNING":
            executions.append(lab.start(machine))
        return lab.receive(queue)

    token = lab.must(first_attempt, 60, "the first attempt", pause=3)[0]
    lab.client("stepfunctions").send_task_failure(taskToken=token, error="Again", cause="on purpose")
    lab.must(lambda: lab.receive(queue), 60, "the second attempt")
    begun = lab.clock.monotonic()
    ended = lab.outcome(executions[-1], 90)
    lasted = lab.clock.monotonic() - begun
    if ended.get("error") != "States.Timeout":
        raise UnclearError("the second attempt did not time out", **ended)
    return answer(yes=lasted < 30, secondAttemptSeconds=round(lasted, 1), **ended)
