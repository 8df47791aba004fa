"""The redrive machine: redrives dead letters, or the failed batches of a stream."""

from __future__ import annotations

from statemachines.source.shapes import (
    ALL,
    ECS_TRANSIENT_ERRORS,
    FAILURE_REASON,
    REQUEST_ID,
    RESULT,
    announce,
    assigning,
    catch,
    choice,
    expression,
    fail,
    invoke,
    machine,
    passing,
    succeed,
    variables,
    wait,
    when,
)

RETRIES = passing(*ECS_TRANSIENT_ERRORS, patient=True)
EXECUTION = "{% $states.context.Execution.Id %}"
COUNTS = ("moved", "skipped", "failed", "returned", "remaining", "records", "expired")
ELAPSED_SECONDS = "$round(($millis() - $toMillis($states.context.Execution.StartTime)) / 1000)"
MONTH_SECONDS = 30 * 24 * 3600

STATES = {
    "Plan": invoke(
        "Reads the request, looks at the queue and decides how its messages are moved. Nothing moves yet.",
        "${RedrivePlanner}",
        {"request": "{% $states.input %}", "executionName": "{% $states.context.Execution.Name %}"},
        retries=RETRIES,
        catches=[
            catch(
                ALL,
                assign={
                    "result": {
                        "id": REQUEST_ID,
                        "execution": EXECUTION,
                        "outcome": "{% $states.errorOutput.Error = 'RequestRefused' ? 'refused' : 'failed' %}",
                        **dict.fromkeys(COUNTS, 0),
                        "seconds": expression(ELAPSED_SECONDS),
                        "reason": FAILURE_REASON,
                    }
                },
                output={},
                then="Announce",
            )
        ],
        assign={
            "plan": expression(f"{RESULT}.plan"),
            "report": expression(f"{RESULT}.report"),
            "progress": {},
            "watching": False,
            "outcome": "succeeded",
            "reason": "",
        },
        then="Dry run?",
    ),
    "Dry run?": choice(
        "Moves nothing unless the request says so.",
        when(
            "$plan.dryRun = true",
            assign={
                "outcome": "dry-run",
                "reason": "{% 'nothing was moved: ' & $plan.way & ', because ' & $plan.why %}",
                "progress": {"remaining": "{% $plan.backlog %}"},
            },
            then="Conclude",
        ),
        default="Move",
    ),
    "Move": invoke(
        "Works for one slice of time: moves messages or batches, checks what SQS moves, or looks at what came back.",
        "${Redriver}",
        {**variables("plan", "progress", "watching"), "execution": EXECUTION},
        seconds=920,
        retries=RETRIES,
        catches=[catch(ALL, assign={"outcome": "failed", "reason": FAILURE_REASON}, output={}, then="Stop")],
        assign={
            "progress": expression(f"{RESULT}.progress"),
            "watching": expression(f"{RESULT}.next = 'watch'"),
            "outcome": expression(f"{RESULT}.outcome"),
            "reason": expression(f"{RESULT}.progress.reason"),
            "waitSeconds": expression(f"{RESULT}.waitSeconds"),
            "ended": expression(f"{RESULT}.next = 'end'"),
        },
        then="Again?",
    ),
    "Again?": choice(
        "Repeats until nothing is left to do, or continuing makes no sense.",
        when("$ended and $outcome = 'succeeded'", then="Conclude"),
        when("$ended", then="Stop"),
        default="Wait",
    ),
    "Wait": wait("Waits as long as the slice asked for.", "{% $waitSeconds %}", then="Move"),
    "Stop": invoke(
        "Cancels what SQS still moves.",
        "${RedriveStopper}",
        {
            "detail": {
                "executionArn": EXECUTION,
                "name": "{% $states.context.Execution.Name %}",
                "startDate": "{% $toMillis($states.context.Execution.StartTime) %}",
                "input": "{% $string($states.context.Execution.Input) %}",
            }
        },
        retries=RETRIES,
        catches=[
            catch(
                ALL,
                assign={
                    "reason": expression(
                        "$reason & '; what SQS still moves could not be cancelled: ' & $states.errorOutput.Error"
                    )
                },
                output={},
                then="Conclude",
            )
        ],
        assign={"progress": expression(f"$merge([$progress, {{'remaining': {RESULT}.remaining}}])")},
        then="Conclude",
    ),
    "Conclude": assigning(
        "Collects the result, and in a dry run the report of what was found. Sampled messages are not for the bus.",
        {
            "result": expression(
                f"""
                $merge([{{'id': $plan.id, 'execution': $states.context.Execution.Id, 'outcome': $outcome,
                'queue': $plan.source.arn, 'way': $plan.way, 'why': $plan.why,
                {", ".join(f"'{name}': 0" for name in COUNTS)}}},
                $sift($progress, function($v, $k) {{ $k in {[*COUNTS]} }}),
                {{'seconds': {ELAPSED_SECONDS}, 'reason': $reason}},
                $plan.dryRun ? {{'report': $sift($report, function($v, $k) {{ $k != 'sample' }})}} : {{}}])
                """
            )
        },
        then="Announce",
    ),
    "Announce": announce("Redrive Ended", "redriveId", "redrive-ended", then="How did it end?"),
    "How did it end?": choice(
        "An execution succeeds if it did what was asked, a dry run included.",
        when("$result.outcome in ['succeeded', 'dry-run']", then="Succeeded"),
        default="Failed",
    ),
    "Succeeded": succeed(
        "The redrive is complete. The output of a dry run has the sample, if the request asked for one.",
        expression("$plan.dryRun ? $merge([$result, {'report': $report}]) : $result"),
    ),
    "Failed": fail(
        "Fails with the outcome as the error and the result as the cause.",
        expression(
            """
            $result.outcome = 'refused' ? 'RequestRefused'
            : $result.outcome = 'returned' ? 'RedriveReturned' : 'RedriveFailed'
            """
        ),
        "{% $string($merge([$result, {'reason': $substring($result.reason, 0, 2000)}])) %}",
    ),
}

MACHINE = machine(
    "Brings back what has failed: the messages of a dead-letter queue, or the batches of a stream. A dry run by "
    "default.",
    STATES,
    seconds=MONTH_SECONDS,
)
