"""Shapes that the state machines share: the errors that are retried, states, retriers and catchers.

States have an empty output by default, because variables have what later states need. Expressions are
JSONata in `{% ... %}`. Conditions and `expression` add this frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Body = dict[str, Any]

ALL = "States.ALL"
YEAR_SECONDS = 365 * 24 * 3600
RESULT = "$states.result.Payload"
"""Result of a function."""
FAILURE = "{% $states.errorOutput %}"
"""Error and Cause, within a catcher."""

# --- Errors that are retried. Only states that must complete retry other errors. ---

LAMBDA_ERRORS = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
)
"""Lambda could not run the function:
https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception"""

SLEEPING_FUNCTION_ERRORS = (
    "Lambda.CodeArtifactUserPendingException",
    "Lambda.CodeArtifactUserDeletedException",
    "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.SnapStartNotReadyException",
    "Lambda.SnapStartTimeoutException",
    "Lambda.ENINotReadyException",
    "Lambda.ENILimitReachedException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
)
"""Lambda makes the function ready: it was idle for weeks and became Inactive, or has just been deployed.

The first invocation fails and starts the work. It took 40 to 106 seconds in an account
(https://github.com/aws-solutions-library-samples/accelerated-intelligent-document-processing-on-aws/pull/802):
https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
"""

OWN_TRANSIENT_ERRORS = ("Contended", "Transient")
"""Headgate's own, as ``headgate.errors`` has them."""

TRANSIENT_ERRORS = (
    *LAMBDA_ERRORS,
    # The function ended without a result.
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    # An upgrade changes code and layers of a function by two calls. In between, one may lack what the other needs.
    "Runtime.ImportModuleError",
    # The function raised an error of an AWS service, by botocore's class name. An error that botocore's model of the
    # service lacks is a ClientError: most throttles are, so this one is retried although others never succeed.
    "ClientError",
    "InternalServerError",
    "InternalFailure",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ResourceConflictException",
    "ConnectionClosedError",
    "ConnectionError",
    "HTTPClientError",
    "TooManyRequestsException",
    "ThrottlingException",
    "ServiceException",
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    *OWN_TRANSIENT_ERRORS,
)

ECS_TRANSIENT_ERRORS = (*TRANSIENT_ERRORS, "ServerException")
"""Transient errors including those of Amazon ECS."""

START_EXECUTION_ERRORS = (
    # Errors without a class of their own, throttling among them. A missing permission has this name too, and the text
    # alone tells them apart, so such a start fails after half a minute. Step Functions' own name of a throttled start
    # is not documented.
    "StepFunctions.AWSStepFunctionsException",
    "StepFunctions.ThrottlingException",
    "StepFunctions.ExecutionLimitExceededException",
    "StepFunctions.ServiceUnavailableException",
    # The execution may have started. Its name makes that harmless: see ``run_machine``.
    "StepFunctions.SdkClientException",
)

ALREADY_STARTED_ERRORS = ("StepFunctions.ExecutionAlreadyExistsException", "StepFunctions.ExecutionAlreadyExists")
"""The execution of this name has ended, so a start whose response was lost had succeeded."""

READ_EXECUTION_ERRORS = ("Sfn.SfnException", "Sfn.SdkClientException")
"""Step Functions could not be asked about an execution, or told to stop it."""

PUT_EVENTS_ERRORS = (
    "EventBridge.FailedEntry",
    "EventBridge.InternalException",
    "EventBridge.AmazonEventBridgeException",
    "EventBridge.EventBridgeException",
    "EventBridge.SdkClientException",
)

DYNAMODB_ERRORS = (
    # Errors without a class of their own, throttling among them.
    "DynamoDB.AmazonDynamoDBException",
    "DynamoDB.DynamoDbException",
    "DynamoDB.InternalServerErrorException",
    "DynamoDB.ProvisionedThroughputExceededException",
    "DynamoDB.RequestLimitExceededException",
    "DynamoDB.ThrottlingException",
    "DynamoDB.TransactionConflictException",
    "DynamoDB.SdkClientException",
)

TERMINAL_ERRORS = ("States.DataLimitExceeded", "States.Runtime")
"""Errors that ``States.ALL`` matches in no retrier and in no catcher:
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"""

# --- Expressions ------------------------------------------------------------------------------------------------------


def expression(text: str) -> str:
    """Frame a JSONata expression that may have several lines; line breaks become spaces."""
    return "{% " + " ".join(line.strip() for line in text.strip().splitlines()) + " %}"


def not_reserved(error: str, otherwise: str) -> str:
    """Return the expression of an error's name for a Fail state, which may not begin with ``States.``.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
    """
    return expression(f"$substring({error}, 0, 7) = 'States.' ? '{otherwise}' : {error}")


def variables(*names: str) -> Body:
    """Return variables under their own names."""
    return {name: f"{{% ${name} %}}" for name in names}


def is_whole_object(text: str) -> str:
    """Return the condition that a cause is complete JSON. It is cut off near 32,768 characters."""
    return (
        f"$exists({text}) and $length({text}) < 32700"
        f" and $substring({text}, 0, 1) = '{{' and $substring({text}, -1) = '}}'"
    )


REQUEST_ID = expression(
    """
    $type($states.input.id) = 'string' and $length($states.input.id) <= 128
    ? $states.input.id
    : $type($states.input.id) = 'number' and $states.input.id >= 0 and $floor($states.input.id) = $states.input.id
    ? $formatNumber($states.input.id, '0') : $states.context.Execution.Name
    """
)
"""The request's id, if it is valid for a record. A whole number is an id too, as ``headgate.ids.given_id`` reads it."""

FAILURE_REASON = expression(
    f"""
    {is_whole_object("$states.errorOutput.Cause")} and $contains($states.errorOutput.Cause, '"errorMessage"')
    ? $parse($states.errorOutput.Cause).errorMessage
    : $exists($states.errorOutput.Cause) and $states.errorOutput.Cause != '' ? $states.errorOutput.Cause
    : $states.errorOutput.Error
    """
)
"""Message of a function's error, within a catcher."""

# --- Machines, retriers and catchers ----------------------------------------------------------------------------------


def machine(comment: str, states: Body, *, seconds: int = YEAR_SECONDS) -> Body:
    """A machine that starts at the first of its states."""
    return {
        "Comment": comment,
        "QueryLanguage": "JSONata",
        "StartAt": next(iter(states)),
        "TimeoutSeconds": seconds,
        "States": states,
    }


def retry(*errors: str, first: int = 1, rate: float = 2, longest: int = 20, times: int = 6) -> Body:
    """Try again after a random part of ``first`` seconds, then ``rate`` times as long, ``longest`` at most."""
    return {
        "ErrorEquals": [*errors],
        "IntervalSeconds": first,
        "BackoffRate": rate,
        "MaxDelaySeconds": longest,
        "MaxAttempts": times,
        "JitterStrategy": "FULL",
    }


def waking(*, longest: int = 15, times: int = 15) -> Body:
    """Wait for a sleeping function, for about three minutes: its state does not change sooner with a random part."""
    return {
        "ErrorEquals": [*SLEEPING_FUNCTION_ERRORS],
        "IntervalSeconds": 2,
        "BackoffRate": 2,
        "MaxDelaySeconds": longest,
        "MaxAttempts": times,
        "JitterStrategy": "NONE",
    }


BUSY = retry("Lambda.TooManyRequestsException", longest=60, times=12)
"""Wait for a throttled account, for three to four minutes on average. For states whose wait puts nothing at risk."""


def passing(*errors: str, patient: bool = False) -> list[Body]:
    """Retry a function while it sleeps, and after errors that pass.

    Parameters
    ----------
    patient
        Whether to wait longer for a throttled account. Not while the candidate has traffic: a candidate that uses up
        the account's concurrency is a reason to roll back, and half a minute is enough for another cause to pass.
    """
    return [waking(), *([BUSY] if patient else []), retry(*(errors or TRANSIENT_ERRORS))]


def never_retry(*errors: str) -> Body:
    """Keep these errors from a retrier further down."""
    return {"ErrorEquals": [*errors], "MaxAttempts": 0}


def catch(*errors: str, then: str, assign: Body | None = None, output: Any = None) -> Body:
    """Continue with another state after an error."""
    return _without_none({"ErrorEquals": [*errors], "Assign": assign, "Output": output, "Next": then})


def with_terminal(catches: Iterable[Body], retries: Iterable[Body] = ()) -> list[Body]:
    """Let what catches every error also catch the terminal ones, which must be named.

    A state that retries every error must complete: it is better that its execution fails, because what watches
    executions then puts things in order.
    """
    catches = [*catches]
    if any(ALL in each["ErrorEquals"] for each in retries):
        return catches
    return [
        body
        for each in catches
        for body in ([{**each, "ErrorEquals": [*TERMINAL_ERRORS]}, each] if each["ErrorEquals"] == [ALL] else [each])
    ]


# --- States -----------------------------------------------------------------------------------------------------------


def task(
    comment: str,
    resource: str,
    arguments: Any,
    *,
    seconds: int | str,
    retries: Iterable[Body],
    catches: Iterable[Body],
    then: str,
    assign: Body | None = None,
    output: Any = None,
) -> Body:
    """A Task of any service integration, named as after ``arn:aws:states:::``."""
    retries = [*retries]
    return _state(
        "Task",
        comment,
        Resource=f"arn:${{Partition}}:states:::{resource}",
        Arguments=arguments,
        TimeoutSeconds=seconds,
        Retry=retries,
        Catch=with_terminal(catches, retries),
        Assign=assign,
        Output={} if output is None else output,
        Next=then,
    )


def invoke(
    comment: str,
    function: str,
    payload: Any,
    *,
    seconds: int | str = 60,
    patient: bool = False,
    retries: Iterable[Body] | None = None,
    for_token: bool = False,
    **rest: Any,
) -> Body:
    """A Task that invokes a function; with ``for_token`` it ends when its task token is returned.

    Unless ``retries`` are given, they are those of ``passing``.
    """
    resource = "lambda:invoke.waitForTaskToken" if for_token else "lambda:invoke"
    arguments = {"FunctionName": function, "Payload": payload}
    retries = passing(patient=patient) if retries is None else retries
    return task(comment, resource, arguments, seconds=seconds, retries=retries, **rest)


def run_machine(
    comment: str, machine_arn: str, name: str, child_input: str, *, catches: Iterable[Body], known: Body, **rest: Any
) -> Body:
    """A Task that runs another state machine to its end, once.

    Parameters
    ----------
    name
        Expression of the execution's name, the same at every attempt. A start whose response was lost is repeated:
        while the execution runs, Step Functions takes it for the same start and waits for it. Once it has ended, the
        start fails, and its end must be looked up:
        https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
    known
        Catcher for an execution that has already ended.
    """
    arguments = {"StateMachineArn": machine_arn, "Name": expression(name), "Input": expression(child_input)}
    retries = [retry(*START_EXECUTION_ERRORS)]
    return task(comment, "states:startExecution.sync:2", arguments, retries=retries, catches=[known, *catches], **rest)


def look_up(comment: str, machine_arn: str, name: str, *, into: str, then: str) -> Body:
    """A Task that reads how the execution of this name ended.

    ``into`` becomes its Status, and what it has of Error, Cause and Output. The Status is UNKNOWN if it cannot be read.
    """
    fields = ("Status", "Error", "Cause", "Output")
    unread = "$merge([{'Status': 'UNKNOWN'}, $states.errorOutput])"
    return task(
        comment,
        "aws-sdk:sfn:describeExecution",
        {"ExecutionArn": execution_arn(machine_arn, name)},
        seconds=10,
        retries=[retry(*READ_EXECUTION_ERRORS)],
        catches=[catch(ALL, assign={into: expression(unread)}, output={}, then=then)],
        assign={into: expression(f"$sift($states.result, function($v, $k) {{ $k in {[*fields]} }})")},
        then=then,
    )


def execution_arn(machine_arn: str, name: str) -> str:
    """Return the expression of the ARN of an execution, from the ARN of its machine."""
    return expression(f"$replace({machine_arn}, ':stateMachine:', ':execution:') & ':' & {name}")


def announce(detail_type: str, id_name: str, event: str, *, then: str) -> Body:
    """A Task that puts ``$result`` on the bus; its ``id`` becomes ``id_name``, beside the event's own."""
    detail = expression(
        f"""
        $merge([$sift($result, function($v, $k) {{ $k != 'id' }}),
        {{'id': $states.context.Execution.Name & '/{event}', '{id_name}': $result.id, 'at': $now()}}])
        """
    )
    entry = {"EventBusName": "${Bus}", "Source": "headgate", "DetailType": detail_type, "Detail": detail}
    return task(
        "Announces the end on the bus. If that fails, the outcome is still the same.",
        "events:putEvents",
        {"Entries": [entry]},
        seconds=60,
        retries=[retry(*PUT_EVENTS_ERRORS)],
        catches=[catch(ALL, output={}, then=then)],
        then=then,
    )


def put_item(comment: str, item: str, *, then: str, assign: Body | None = None) -> Body:
    """A Task that writes an item to the table, for the record alone: whatever fails, the machine goes on.

    Parameters
    ----------
    item
        Expression of the item, with DynamoDB's types. Numbers are text.
    """
    return task(
        comment,
        "dynamodb:putItem",
        {"TableName": "${Table}", "Item": expression(item)},
        seconds=5,
        retries=[retry(*DYNAMODB_ERRORS, longest=3, times=2)],
        catches=[catch(ALL, assign=assign, output={}, then=then)],
        assign=assign,
        then=then,
    )


def choice(comment: str, *rules: Body, default: str, assign: Body | None = None) -> Body:
    """A Choice: the first matching rule applies. ``assign`` belongs to the default."""
    return _state("Choice", comment, Choices=[*rules], Default=default, Assign=assign)


def when(condition: str, *, then: str, assign: Body | None = None) -> Body:
    """A rule of a Choice; its condition needs no frame."""
    return _without_none({"Condition": expression(condition), "Assign": assign, "Next": then})


def assigning(comment: str, assign: Body, *, then: str) -> Body:
    """A Pass that sets variables."""
    return _state("Pass", comment, Assign=assign, Output={}, Next=then)


def wait(comment: str, seconds: int | str, *, then: str) -> Body:
    """A Wait."""
    return _state("Wait", comment, Seconds=seconds, Next=then)


def succeed(comment: str, output: Any = None) -> Body:
    """A Succeed state."""
    return _state("Succeed", comment, Output=output)


def fail(comment: str, error: str, cause: str) -> Body:
    """A Fail state."""
    return _state("Fail", comment, Error=error, Cause=cause)


def for_each(
    comment: str, items: str, states: Body, *, catches: Iterable[Body], assign: Body | None = None, then: str
) -> Body:
    """A Map that carries its states out for each item, within the same execution."""
    processor = {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": next(iter(states)), "States": states}
    return _state(
        "Map",
        comment,
        Items=items,
        ItemProcessor=processor,
        Catch=with_terminal(catches),
        Assign=assign,
        Output={},
        Next=then,
    )


def _state(kind: str, comment: str, **fields: Any) -> Body:
    return _without_none({"Type": kind, "Comment": comment, **fields})


def _without_none(body: Body) -> Body:
    return {name: value for name, value in body.items() if value is not None}
