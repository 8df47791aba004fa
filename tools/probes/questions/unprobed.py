"""Questions that no cheap call settles. They stay in the list, so that nobody takes them for answered."""

from __future__ import annotations

from tools.probes.model import Unprobed

UNPROBED = (
    Unprobed(
        "Under which name does a throttled StartExecution arrive?",
        "A throttle needs more than a thousand starts a second, which would hold up the account's own machines. "
        "`error-of-start-execution` produces another error that the model does not list; its name follows the same "
        "rule.",
        "StepFunctions.AWSStepFunctionsException",
    ),
    Unprobed(
        "Under which name does Step Functions report a function that became inactive?",
        "Lambda makes a function inactive after weeks without an invocation. Nothing can hasten it.",
        "Lambda.CodeArtifactUserPendingException, or Lambda.ResourceNotReadyException in a VPC",
    ),
    Unprobed(
        "Are records of one partition key processed in order with a ParallelizationFactor above 1?",
        "An observation can refute it and never prove it, and it takes much traffic to be worth anything.",
        "Yes, as AWS announced it. Exact counts with a `TelemetryParallelism` above 1 rely on it.",
    ),
    Unprobed(
        "Does stopping an execution always stop its child execution or task?",
        "The documentation calls it best effort; a failure cannot be produced.",
        "No. After a timeout the machines stop the child or task themselves.",
    ),
)
