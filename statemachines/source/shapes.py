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
    "Lambda.TooManyRequestsException",
)
"""Lambda could not run the function."""

OWN_TRANSIENT_ERRORS = ("Contended", "Transient")
"""Headgate's own, as ``headgate.errors`` has them."""

TRANSIENT_ERRORS = (
    *LAMBDA_ERRORS,
    # The function ended without a result.
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    # The function raised an error of an AWS service, by botocore's class name.
    "ClientError",
    "InternalServerError",
    "InternalFailure",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ResourceConflictException",
    "EC2ThrottledException",
    "ENILimitReachedException",
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
    "StepFunctions.ExecutionLimitExceededException",
    "StepFunctions.ServiceUnavailableException",
    "StepFunctions.ThrottlingException",
)

PUT_EVENTS_ERRORS = (
    "EventBridge.FailedEntry",
    "EventBridge.InternalException",
    "EventBridge.EventBridgeException",
    "EventBridge.SdkClientException",
)

# --- Expressions ------------------------------------------------------------------------------------------------------


def expression(text: str) -> str:
    """Frame a JSONata expression that may have several lines; line breaks become spaces."""
    return "{% " + " ".join(line.strip() for line in text.strip().splitlines()) + " %}"


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
    : $exists($states.errorOutput.Cause) ? $states.errorOutput.Cause : $states.errorOutput.Error
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


def never_retry(*errors: str) -> Body:
    """Keep these errors from a retrier further down."""
    return {"ErrorEquals": [*errors], "MaxAttempts": 0}


def catch(*errors: str, then: str, assign: Body | None = None, output: Any = None) -> Body:
    """Continue with another state after an error."""
    return _without_none({"ErrorEquals": [*errors], "Assign": assign, "Output": output, "Next": then})


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
    return _state(
        "Task",
        comment,
        Resource=f"arn:${{Partition}}:states:::{resource}",
        Arguments=arguments,
        TimeoutSeconds=seconds,
        Retry=[*retries],
        Catch=[*catches],
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
    retries: Iterable[Body] = (retry(*TRANSIENT_ERRORS),),
    for_token: bool = False,
    **rest: Any,
) -> Body:
    """A Task that invokes a function; with ``for_token`` it ends when its task token is returned."""
    resource = "lambda:invoke.waitForTaskToken" if for_token else "lambda:invoke"
    arguments = {"FunctionName": function, "Payload": payload}
    return task(comment, resource, arguments, seconds=seconds, retries=retries, **rest)


def run_machine(comment: str, arguments: Body, **rest: Any) -> Body:
    """A Task that runs another state machine to its end."""
    retries = [retry(*START_EXECUTION_ERRORS)]
    return task(comment, "states:startExecution.sync:2", arguments, retries=retries, **rest)


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


def choice(comment: str, *rules: Body, default: str) -> Body:
    """A Choice: the first matching rule applies."""
    return _state("Choice", comment, Choices=[*rules], Default=default)


def when(condition: str, *, then: str, assign: Body | None = None) -> Body:
    """A rule of a Choice; its condition needs no frame."""
    return _without_none({"Condition": expression(condition), "Assign": assign, "Next": then})


def assigning(comment: str, assign: Body, *, then: str) -> Body:
    """A Pass that sets variables."""
    return _state("Pass", comment, Assign=assign, Output={}, Next=then)


def wait(comment: str, seconds: str, *, then: str) -> Body:
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
        Catch=[*catches],
        Assign=assign,
        Output={},
        Next=then,
    )


def _state(kind: str, comment: str, **fields: Any) -> Body:
    return _without_none({"Type": kind, "Comment": comment, **fields})


def _without_none(body: Body) -> Body:
    return {name: value for name, value in body.items() if value is not None}
